//! What moves, what stays, and how equals are told apart.

use super::*;

fn names(decision: &Decision) -> Vec<&str> {
    decision.chosen.iter().map(|c| c.name.as_str()).collect()
}

fn near(longitude: f64, latitude: f64) -> Terms {
    Terms { near: Some(Near { point: at(longitude, latitude), distance_max: None }), ..Terms::default() }
}

fn placed(device: u32) -> CurrentPlacement {
    CurrentPlacement { device: DeviceIndex(device), holds: resources(24, 1, 120) }
}

fn gateway_at(name: &str, longitude: f64) -> DeviceFacts {
    DeviceFacts { position: exactly(longitude, 0.0), ..gateway(name) }
}

#[test]
fn a_nearer_newcomer_moves_nothing() {
    let regions = Regions::new();
    let fleet = fleet([gateway_at("far", 3.0), gateway_at("near", 1.0), gateway_at("at", 0.0)]);
    let spec = workload("w", Wanted::Replicas(1), near(0.0, 0.0));
    let decision = plan(&snapshot(&fleet, &regions), &spec, &[placed(0)]).decision;
    assert_eq!(names(&decision), ["far"]);
    assert!(decision.removed.is_empty());
}

#[test]
fn a_cordon_keeps_what_is_there_and_a_drain_moves_it() {
    let regions = Regions::new();
    let mut fleet = fleet([gateway_at("a", 1.0), gateway_at("b", 2.0)]);
    let spec = workload("w", Wanted::Replicas(1), near(0.0, 0.0));
    fleet.admit(DeviceIndex(0), Admittance::Cordoned);
    let decision = plan(&snapshot(&fleet, &regions), &spec, &[placed(0)]).decision;
    assert_eq!(names(&decision), ["a"]);
    let decision = plan(&snapshot(&fleet, &regions), &spec, &[]).decision;
    assert_eq!(names(&decision), ["b"]);
    fleet.admit(DeviceIndex(0), Admittance::Draining);
    let decision = plan(&snapshot(&fleet, &regions), &spec, &[placed(0)]).decision;
    assert_eq!(names(&decision), ["b"]);
    assert_eq!(decision.removed[0].code, Code::Draining);
}

#[test]
fn its_own_weight_does_not_evict_a_placement() {
    let regions = Regions::new();
    let full =
        DeviceFacts { total: resources(30, 1, 130), used: resources(24, 1, 120), placements: 1, ..gateway("full") };
    let fleet = fleet([full]);
    let spec = workload("w", Wanted::Every, Terms::default());
    let view = snapshot(&fleet, &regions);
    assert!(plan(&view, &spec, &[placed(0)]).decision.removed.is_empty());
    assert!(plan(&view, &spec, &[]).decision.chosen.is_empty());
}

#[test]
fn scaling_down_removes_the_farthest() {
    let regions = Regions::new();
    let fleet = fleet([gateway_at("c", 3.0), gateway_at("a", 1.0), gateway_at("b", 2.0)]);
    let spec = workload("w", Wanted::Replicas(2), near(0.0, 0.0));
    let current = [placed(0), placed(1), placed(2)];
    let decision = plan(&snapshot(&fleet, &regions), &spec, &current).decision;
    assert_eq!(names(&decision), ["a", "b"]);
    assert_eq!((decision.removed[0].device, decision.removed[0].code), (DeviceIndex(0), Code::Surplus));
}

#[test]
fn equal_distances_are_ordered_by_device_index() {
    let regions = Regions::new();
    let east_and_west = [1.0, -1.0, 1.0, -1.0].map(|longitude| gateway_at(&format!("g{longitude}"), longitude));
    let fleet = fleet(east_and_west);
    let spec = workload("w", Wanted::Replicas(3), near(0.0, 0.0));
    let decision = place(&snapshot(&fleet, &regions), &spec, &[]);
    let devices: Vec<u32> = decision.chosen.iter().map(|c| c.device.0).collect();
    assert_eq!(devices, [0, 1, 2]);
}

#[test]
fn workloads_without_a_place_spread_over_the_fleet() {
    let regions = Regions::new();
    let mut fleet = fleet((0..20).map(|i| gateway(&format!("g{i}"))));
    for i in 0..40 {
        let spec = workload(&format!("w{i}"), Wanted::Replicas(1), Terms::default());
        let decision = place(&snapshot(&fleet, &regions), &spec, &[]);
        commit(&mut fleet, &spec, &[], &decision);
    }
    assert!(fleet.iter().all(|device| device.placements == 2));
}

#[test]
fn a_device_that_left_is_named_as_gone() {
    let regions = Regions::new();
    let mut fleet = fleet([gateway("a"), gateway("b")]);
    fleet.remove(DeviceIndex(0));
    let spec = workload("w", Wanted::Replicas(1), Terms::default());
    let decision = plan(&snapshot(&fleet, &regions), &spec, &[placed(0)]).decision;
    assert_eq!(names(&decision), ["b"]);
    assert_eq!(decision.removed[0].code, Code::DeviceGone);
}

#[test]
fn replacing_a_device_replaces_it_in_every_index() {
    let regions = Regions::new();
    let labelled = DeviceFacts {
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        position: exactly(1.0, 1.0),
        ..gateway("old")
    };
    let mut fleet = fleet([labelled]);
    fleet.put(DeviceIndex(0), gateway("new")).unwrap();
    assert_eq!(fleet.len(), 1);
    assert!(fleet.by_name("old").is_none());
    let spec = workload("w", Wanted::Every, Terms { labels: vec![("zone".into(), "a".into())], ..Terms::default() });
    let found = plan(&snapshot(&fleet, &regions), &spec, &[]);
    assert!(found.decision.chosen.is_empty());
    assert_eq!(found.decision.unresolved, ["label/zone=a"]);
    assert!(fleet.put(DeviceIndex(u32::MAX), gateway("x")).is_err());
    // The number of the forgotten label is used again.
    let other = DeviceFacts { labels: BTreeMap::from([("zone".into(), "b".into())]), ..gateway("other") };
    fleet.put(DeviceIndex(1), other).unwrap();
    let device = fleet.by_name("other").unwrap();
    assert_eq!(fleet.labels_of(device), BTreeMap::from([("zone", "b")]));
}
