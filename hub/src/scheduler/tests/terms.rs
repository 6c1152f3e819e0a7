//! Single facts about the terms: what a taint does, what counts as a domain, whom a newcomer does not push away.

use super::*;
use std::num::NonZeroU32;

fn names(decision: &Decision) -> Vec<&str> {
    decision.chosen.iter().map(|c| c.name.as_str()).collect()
}

fn placed(device: u32) -> CurrentPlacement {
    CurrentPlacement { device: DeviceIndex(device), holds: resources(24, 1, 120) }
}

fn decide(fleet: &Fleet, spec: &WorkloadSpecView, current: &[CurrentPlacement]) -> Decision {
    let regions = Regions::new();
    let view = snapshot(fleet, &regions);
    let decision = plan(&view, spec, current).decision;
    assert_eq!(place(&view, spec, current), decision);
    decision
}

/// On the equator, at so many hundredths of a degree (1.11 km each).
fn at_hundredths(name: &str, hundredths: i32) -> DeviceFacts {
    DeviceFacts { position: exactly(f64::from(hundredths) / 100.0, 0.0), ..gateway(name) }
}

fn in_site(name: &str, site: &str) -> DeviceFacts {
    DeviceFacts { site: Some(site.into()), ..gateway(name) }
}

fn k(k: u32) -> NonZeroU32 {
    NonZeroU32::new(k).unwrap()
}

fn spread_by_site(skew_max: u32) -> Terms {
    Terms { spread: Some(Spread { by: SpreadBy::Site, skew_max: k(skew_max) }), ..Terms::default() }
}

fn near_zero() -> Option<Near> {
    Some(Near { point: at(0.0, 0.0), distance_max: None })
}

fn nearest_of_sensors(count: u32) -> Terms {
    let devices = Selector { labels: vec![("sensor".into(), "pm25".into())], requirements: Vec::new() };
    Terms { class: vec!["gateway".into()], nearest_per: Some(NearestPer { devices, k: k(count) }), ..Terms::default() }
}

fn sensor(name: &str, hundredths: i32) -> DeviceFacts {
    DeviceFacts {
        labels: BTreeMap::from([("sensor".into(), "pm25".into())]),
        class: "mcu".into(),
        ..at_hundredths(name, hundredths)
    }
}

#[test]
fn a_taint_keeps_new_work_off_and_the_stronger_one_evicts() {
    let taint = |effect| Taint { key: "use".into(), value: "camera".into(), effect };
    let tainted = |effect| fleet([DeviceFacts { taints: vec![taint(effect)], ..gateway("a") }]);
    let mut spec = workload("w", Wanted::Replicas(1), Terms::default());
    assert!(decide(&tainted(Effect::NoSchedule), &spec, &[]).chosen.is_empty());
    assert_eq!(names(&decide(&tainted(Effect::NoSchedule), &spec, &[placed(0)])), ["a"]);
    let evicted = decide(&tainted(Effect::NoExecute), &spec, &[placed(0)]);
    assert_eq!(evicted.removed[0].code, Code::Taint);
    assert_eq!(evicted.removed[0].subject.as_deref(), Some("use=camera:NoExecute"));
    spec.terms.tolerations = vec![Toleration { key: Some("use".into()), ..Toleration::default() }];
    assert_eq!(names(&decide(&tainted(Effect::NoExecute), &spec, &[])), ["a"]);
    spec.terms.tolerations[0].value = Some("lidar".into());
    assert!(decide(&tainted(Effect::NoExecute), &spec, &[]).chosen.is_empty());
}

#[test]
fn a_reported_position_grows_stale_and_a_set_one_does_not() {
    let fleet = fleet([
        DeviceFacts { position: reported(1.0, 0.0, 0, 8_000), ..gateway("old") },
        DeviceFacts { position: reported(1.0, 0.0, 0, 9_990), ..gateway("fresh") },
        DeviceFacts { position: exactly(1.0, 0.0), ..gateway("set") },
    ]);
    let terms = Terms { near: near_zero(), position_age_max: Some(Duration::from_secs(60)), ..Terms::default() };
    assert_eq!(names(&decide(&fleet, &workload("w", Wanted::Every, terms), &[])), ["fresh", "set"]);
}

#[test]
fn anti_affinity_sees_what_was_placed_and_what_was_taken_off() {
    let mut fleet = fleet([in_site("a1", "a"), in_site("a2", "a"), in_site("b1", "b"), gateway("alone")]);
    let apart = |domain| Terms {
        anti_affinity: vec![AntiAffinity {
            workloads: vec![OtherWorkload { name: "b".into(), number: Some(WorkloadNumber(7)) }],
            domain,
        }],
        ..Terms::default()
    };
    let names = |fleet: &Fleet, domain| {
        let decision = decide(fleet, &workload("w", Wanted::Every, apart(domain)), &[]);
        let mut names: Vec<String> = decision.chosen.into_iter().map(|c| c.name).collect();
        names.sort_unstable();
        names
    };
    let holds = resources(24, 1, 120);
    fleet.hold_for(DeviceIndex(0), WorkloadNumber(7), holds);
    fleet.hold_for(DeviceIndex(3), WorkloadNumber(7), holds);
    assert_eq!(names(&fleet, Apartness::Device), ["a2", "b1"]);
    assert_eq!(names(&fleet, Apartness::Site), ["b1"]);
    fleet.release_for(DeviceIndex(0), WorkloadNumber(7), holds);
    assert_eq!(names(&fleet, Apartness::Site), ["a1", "a2", "b1"]);
    // A device that is put anew brings its list and its site along; one that leaves takes them away.
    fleet.put(DeviceIndex(1), DeviceFacts { runs: vec![WorkloadNumber(7)], ..in_site("a2", "b") }).unwrap();
    assert_eq!(names(&fleet, Apartness::Site), ["a1"]);
    fleet.remove(DeviceIndex(1));
    assert_eq!(names(&fleet, Apartness::Site), ["a1", "b1"]);
}

#[test]
fn what_if_is_asked_of_a_clone() {
    let full = DeviceFacts { used: resources(1024 * 1024, 0, 0), ..gateway("full") };
    let fleet = fleet([full]);
    let mut tried = fleet.clone();
    let facts = DeviceFacts { used: Resources::default(), ..tried.facts(DeviceIndex(0)).unwrap() };
    tried.put(DeviceIndex(0), facts).unwrap();
    let spec = workload("w", Wanted::Replicas(1), Terms::default());
    assert_eq!(names(&decide(&tried, &spec, &[])), ["full"]);
    assert_eq!(decide(&fleet, &spec, &[]).shortfall, 1);
}

#[test]
fn a_workload_that_arrives_beside_it_sends_a_placement_away_with_its_name() {
    let fleet = fleet([DeviceFacts { runs: vec![WorkloadNumber(7)], ..in_site("a", "x") }, in_site("b", "y")]);
    let b = OtherWorkload { name: "b".into(), number: Some(WorkloadNumber(7)) };
    let anti_affinity = vec![AntiAffinity { workloads: vec![b], domain: Apartness::Site }];
    let spec = workload("w", Wanted::Replicas(1), Terms { anti_affinity, ..Terms::default() });
    let decision = decide(&fleet, &spec, &[placed(0)]);
    assert_eq!(names(&decision), ["b"]);
    assert_eq!(decision.removed[0].subject.as_deref(), Some("wl/b in site/x"));
}

#[test]
fn a_new_site_takes_one_placement_and_no_more() {
    let mut fleet = fleet([in_site("a1", "a"), in_site("a2", "a"), in_site("b1", "b"), in_site("b2", "b")]);
    let spec = workload("w", Wanted::Replicas(4), spread_by_site(1));
    let current = [placed(0), placed(1), placed(2), placed(3)];
    assert!(decide(&fleet, &spec, &current).removed.is_empty());
    fleet.put(DeviceIndex(4), in_site("c1", "c")).unwrap();
    let decision = decide(&fleet, &spec, &current);
    assert_eq!(decision.removed.len(), 1);
    assert_eq!(decision.chosen.iter().filter(|c| c.standing == Standing::New).count(), 1);
    assert_eq!(decision.shortfall, 0);
}

#[test]
fn the_emptiest_site_is_filled_before_a_nearer_device_elsewhere() {
    let at =
        |name: &str, site: &str, hundredths| DeviceFacts { site: Some(site.into()), ..at_hundredths(name, hundredths) };
    let sites = [("a1", "a", 1), ("a2", "a", 2), ("a3", "a", 3), ("c1", "c", 4), ("c2", "c", 5), ("b1", "b", 90)];
    let fleet = fleet(sites.map(|(name, site, hundredths)| at(name, site, hundredths)));
    let terms = Terms { near: near_zero(), ..spread_by_site(2) };
    // Taking c2 for the last replica would leave b too empty for the three in a.
    let current = [placed(0), placed(1), placed(2), placed(3)];
    let decision = decide(&fleet, &workload("w", Wanted::Replicas(5), terms), &current);
    assert_eq!(names(&decision), ["a1", "a2", "a3", "c1", "b1"]);
}

#[test]
fn a_device_without_a_site_is_in_no_domain() {
    let fleet = fleet([in_site("a", "a"), gateway("nowhere")]);
    let spec = workload("w", Wanted::Replicas(2), spread_by_site(1));
    let regions = Regions::new();
    let found = plan(&snapshot(&fleet, &regions), &spec, &[]);
    assert_eq!(names(&found.decision), ["a"]);
    assert_eq!(found.tally.failed, [TallyLine { code: Code::NoDomain, count: 1 }]);
}

#[test]
fn placements_that_came_too_close_lose_the_fewest() {
    // The middle one is too close to both of its neighbours: it goes, they stay.
    let fleet = fleet([at_hundredths("west", 0), at_hundredths("middle", 4), at_hundredths("east", 8)]);
    let terms = Terms { distance_min: Distance::from_km(5.0), ..Terms::default() };
    let decision = decide(&fleet, &workload("w", Wanted::Replicas(3), terms), &[placed(0), placed(1), placed(2)]);
    assert_eq!(decision.removed.iter().map(|r| (r.device.0, r.code)).collect::<Vec<_>>(), [(1, Code::MinDistance)]);
    assert_eq!(decision.shortfall, 1);
}

#[test]
fn first_fit_can_place_fewer_than_hindsight_and_tells_why() {
    // Nearest first takes the middle, which rules out the four around it.
    let around = [("e", 3.0, 0.0), ("n", 0.0, 3.0), ("w", -3.0, 0.0), ("s", 0.0, -3.0)];
    let around = around.map(|(name, x, y)| DeviceFacts { position: exactly(x / 100.0, y / 100.0), ..gateway(name) });
    let fleet = fleet([at_hundredths("middle", 0)].into_iter().chain(around));
    let terms = Terms { near: near_zero(), distance_min: Distance::from_km(4.0), ..Terms::default() };
    let regions = Regions::new();
    let found = plan(&snapshot(&fleet, &regions), &workload("w", Wanted::Replicas(4), terms), &[]);
    assert_eq!(names(&found.decision), ["middle"]);
    assert_eq!(found.decision.shortfall, 3);
    assert_eq!(found.tally.failed, [TallyLine { code: Code::MinDistance, count: 4 }]);
}

#[test]
fn five_thousand_placements_on_one_point_are_thinned_to_one() {
    let fleet = fleet((0..5_000).map(|i| at_hundredths(&format!("d{i}"), 7)));
    let terms = Terms { distance_min: Distance::from_km(1.0), ..Terms::default() };
    let current: Vec<CurrentPlacement> = (0..5_000).map(placed).collect();
    let regions = Regions::new();
    let decision = place(&snapshot(&fleet, &regions), &workload("w", Wanted::Every, terms), &current);
    assert_eq!((decision.chosen.len(), decision.removed.len()), (1, 4_999));
}

#[test]
fn a_nearer_gateway_takes_no_sensor_over_until_the_old_one_leaves() {
    let mut fleet = fleet([sensor("s1", 0), sensor("s2", 10), at_hundredths("far", 200)]);
    let spec = workload("w", Wanted::Every, nearest_of_sensors(1));
    let first = decide(&fleet, &spec, &[]);
    assert_eq!(names(&first), ["far"]);
    assert_eq!((first.chosen[0].serves, first.chosen[0].anchor.as_deref()), (2, Some("s2")));
    fleet.put(DeviceIndex(3), at_hundredths("near", 5)).unwrap();
    assert_eq!(names(&decide(&fleet, &spec, &[placed(2)])), ["far"]);
    fleet.admit(DeviceIndex(2), Admittance::Draining);
    assert_eq!(names(&decide(&fleet, &spec, &[placed(2)])), ["near"]);
    fleet.admit(DeviceIndex(2), Admittance::Open);
    // A new sensor elsewhere gets its own nearest, not the one that runs already far away.
    fleet.put(DeviceIndex(4), sensor("s3", 9_000)).unwrap();
    for (index, hundredths) in [(5, 9_001), (6, 9_002)] {
        fleet.put(DeviceIndex(index), at_hundredths(&format!("g{index}"), hundredths)).unwrap();
    }
    let decision = decide(&fleet, &spec, &[placed(2)]);
    assert!(decision.removed.is_empty());
    assert!(names(&decision).contains(&"g5"));
}

#[test]
fn two_nearer_gateways_at_once_take_nothing_over_from_two_that_run() {
    let gateways = [("y1", 10), ("y2", 11), ("n1", 1), ("n2", 2)];
    let gateways = gateways.map(|(name, hundredths)| at_hundredths(name, hundredths));
    let fleet = fleet([sensor("s", 0)].into_iter().chain(gateways));
    let spec = workload("w", Wanted::Every, nearest_of_sensors(2));
    assert_eq!(names(&decide(&fleet, &spec, &[placed(1), placed(2)])), ["y1", "y2"]);
    assert_eq!(names(&decide(&fleet, &spec, &[])), ["n1", "n2"]);
    // With y1 idle between them and y2, falling back would not reach what runs, so the nearest take over.
    assert_eq!(names(&decide(&fleet, &spec, &[placed(2)])), ["n1", "n2"]);
}

#[test]
fn an_anchor_without_enough_devices_is_a_shortfall() {
    let fleet = fleet([sensor("s1", 0), sensor("s2", 500), at_hundredths("only", 10)]);
    let mut spec = workload("w", Wanted::Every, nearest_of_sensors(2));
    let decision = decide(&fleet, &spec, &[]);
    assert_eq!((decision.shortfall, decision.fulfilment), (2, Fulfilment::Partial));
    assert_eq!(decision.anchors.iter().map(|a| a.missing).collect::<Vec<_>>(), [1, 1]);
    spec.terms.on_shortfall = OnShortfall::Wait;
    let waiting = decide(&fleet, &spec, &[]);
    assert_eq!((waiting.chosen.len(), waiting.held_back, waiting.fulfilment), (0, 1, Fulfilment::Waiting));
}

#[test]
fn selectors_are_written_as_on_a_command_line() {
    let selector = Selector {
        labels: vec![("zone".into(), "a".into())],
        requirements: vec![
            Requirement::In { key: "tier".into(), values: vec!["edge".into(), "core".into()] },
            Requirement::NotIn { key: "rack".into(), values: vec!["7".into()] },
            Requirement::Exists { key: "gpu".into() },
            Requirement::NotExists { key: "old".into() },
        ],
    };
    assert_eq!(selector.to_string(), "zone=a,tier in (edge,core),rack notin (7),gpu,!old");
}

#[test]
fn terms_without_sense_are_named() {
    let terms = Terms {
        requirements: vec![Requirement::In { key: "zone".into(), values: Vec::new() }],
        near: near_zero(),
        nearest_per: nearest_of_sensors(1).nearest_per,
        spread: Some(Spread { by: SpreadBy::Cell(21), skew_max: k(1) }),
        anti_affinity: vec![
            AntiAffinity { workloads: Vec::new(), domain: Apartness::Site },
            AntiAffinity {
                workloads: vec![OtherWorkload { name: "w".into(), number: None }],
                domain: Apartness::Device,
            },
        ],
        ..Terms::default()
    };
    let expected = [
        TermsProblem::NoValues { requirement: "zone in ()".into() },
        TermsProblem::CellLevel { level: 21 },
        TermsProblem::NoWorkloads,
        TermsProblem::ApartFromItself { name: "w".into() },
        TermsProblem::NearTwice,
    ];
    assert_eq!(terms.problems("w"), expected);
    let by_no_region = Spread { by: SpreadBy::Regions(Vec::new()), skew_max: k(1) };
    assert_eq!(Terms { spread: Some(by_no_region), ..Terms::default() }.problems("w"), [TermsProblem::NoRegions]);
    assert!(spread_by_site(1).problems("w").is_empty());
}

#[test]
fn every_code_is_written_as_it_is_serialized() {
    let relations = [Code::NotNearest, Code::MinDistance, Code::Spread, Code::DeviceGone, Code::Surplus];
    for code in filters::FILTERS.iter().map(|filter| filter.code).chain(relations) {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}
