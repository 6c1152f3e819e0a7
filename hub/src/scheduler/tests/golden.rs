//! Texts and JSON of plans as reviewed files. A difference fails; `UPDATE_GOLDEN=1` rewrites the files instead.

use super::*;
use std::path::PathBuf;

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/scheduler/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; UPDATE_GOLDEN=1 rewrites it");
}

fn europe() -> Regions {
    Regions::from([
        ("eu".to_owned(), region(r#"{"type":"Polygon","coordinates":[[[-10,36],[30,36],[30,70],[-10,70],[-10,36]]]}"#)),
        (
            "munich".to_owned(),
            region(
                r#"{"type":"Polygon","coordinates":[[[11.36,48.06],[11.72,48.06],[11.72,48.25],[11.36,48.25],[11.36,48.06]]]}"#,
            ),
        ),
        ("harbour".to_owned(), region(r#"{"circle":{"center":[9.95,53.54],"radiusKm":5}}"#)),
    ])
}

/// A fleet with one of everything that can go wrong.
fn mixed_fleet() -> Fleet {
    let zone = |zone: &str| BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    let busy = |ram_kib| DeviceFacts { used: resources(ram_kib, 2, 300), placements: 2, ..gateway("") };
    let mcu_at = |name: &str, position| DeviceFacts { position, labels: zone("air"), ..mcu(name) };
    let gateway_at = |name: &str, longitude, latitude| DeviceFacts {
        position: exactly(longitude, latitude),
        labels: zone("edge"),
        ..gateway(name)
    };
    fleet([
        gateway_at("gw-fra-01", 8.70, 50.12),
        gateway_at("gw-fra-07", 8.62, 50.12),
        gateway_at("gw-mnz-02", 8.25, 50.00),
        DeviceFacts { used: busy(1024 * 1024 - 181).used, placements: 2, ..gateway_at("gw-dar-04", 8.65, 49.87) },
        gateway_at("gw-muc-01", 11.57, 48.14),
        gateway_at("gw-nyc-01", -74.0, 40.71),
        DeviceFacts { admittance: Admittance::Cordoned, ..gateway_at("gw-fra-09", 8.68, 50.11) },
        DeviceFacts { admittance: Admittance::Pending, ..gateway_at("gw-new-01", 8.68, 50.11) },
        DeviceFacts {
            runtimes: Runtimes { function: false, container: true },
            wire: WireRange { min: 0, max: 0 },
            ..gateway_at("gw-old-01", 8.70, 50.00)
        },
        gateway("gw-lost-01"),
        mcu_at("aq-0001", exactly(11.55, 48.13)),
        mcu_at("aq-0002", reported(11.60, 48.15, 12, 9_940)),
        mcu_at("aq-0003", reported(11.361, 48.15, 500, 2_000)),
        mcu_at("aq-0004", exactly(11.90, 48.15)),
        mcu_at("aq-0005", None),
        DeviceFacts { used: resources(90, 4, 2000), placements: 4, ..mcu_at("aq-0006", exactly(11.50, 48.10)) },
    ])
}

fn near_frankfurt(replicas: u32) -> WorkloadSpecView {
    let terms = Terms {
        within: vec!["eu".into()],
        near: Some(Near { point: at(8.6821, 50.1109), distance_max: Distance::from_km(100.0) }),
        class: vec!["gateway".into()],
        ..Terms::default()
    };
    let mut spec = workload("vision-cache", Wanted::Replicas(replicas), terms);
    spec.needs.resources = resources(256, 1, 200);
    spec
}

fn air_quality() -> WorkloadSpecView {
    let terms = Terms { within: vec!["munich".into()], class: vec!["mcu".into()], ..Terms::default() };
    workload("air-quality", Wanted::Every, terms)
}

fn text_of(spec: &WorkloadSpecView, current: &[CurrentPlacement]) -> String {
    let (fleet, regions) = (mixed_fleet(), europe());
    let found = plan(&snapshot(&fleet, &regions), spec, current);
    text::plan_text(spec, &found)
}

fn device_text_of(spec: &WorkloadSpecView, current: &[CurrentPlacement], names: &[&str]) -> String {
    let (fleet, regions) = (mixed_fleet(), europe());
    let view = snapshot(&fleet, &regions);
    let one = |name: &&str| {
        let device = fleet.by_name(name).unwrap().index;
        text::device_text(spec, &explain_device(&view, spec, current, device).unwrap())
    };
    names.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn placed(device: u32, spec: &WorkloadSpecView) -> CurrentPlacement {
    CurrentPlacement { device: DeviceIndex(device), holds: spec.needs.resources }
}

#[test]
fn nearest_gateways() {
    golden("nearest_gateways.txt", &text_of(&near_frankfurt(2), &[]));
}

#[test]
fn every_device_in_a_polygon() {
    golden("every_in_polygon.txt", &text_of(&air_quality(), &[]));
}

#[test]
fn more_replicas_than_devices() {
    golden("shortfall.txt", &text_of(&near_frankfurt(5), &[]));
}

#[test]
fn kept_lost_and_surplus_placements() {
    let spec = near_frankfurt(1);
    let current = [placed(1, &spec), placed(2, &spec), placed(5, &spec), placed(99, &spec)];
    golden("kept_and_removed.txt", &text_of(&spec, &current));
}

#[test]
fn names_that_match_nothing() {
    let terms = Terms {
        within: vec!["atlantis".into(), "harbour".into()],
        labels: vec![("zone".into(), "moon".into()), ("zone".into(), "air".into())],
        on: vec!["aq-0001".into(), "ghost".into()],
        ..Terms::default()
    };
    golden("unresolved.txt", &text_of(&workload("w", Wanted::Replicas(1), terms), &[]));
}

#[test]
fn an_empty_fleet() {
    let regions = Regions::new();
    let fleet = Fleet::new();
    let spec = near_frankfurt(3);
    let found = plan(&snapshot(&fleet, &regions), &spec, &[]);
    golden("empty_fleet.txt", &text::plan_text(&spec, &found));
}

#[test]
fn one_device_at_a_time() {
    let names = ["gw-fra-01", "gw-mnz-02", "gw-dar-04", "gw-nyc-01", "gw-old-01", "gw-lost-01", "aq-0001"];
    golden("devices_nearest.txt", &device_text_of(&near_frankfurt(2), &[], &names));
    let spec = near_frankfurt(1);
    let current = [placed(2, &spec)];
    golden("devices_kept.txt", &device_text_of(&spec, &current, &["gw-fra-01", "gw-mnz-02"]));
    let names = ["aq-0001", "aq-0003", "aq-0004", "aq-0005", "aq-0006", "gw-muc-01"];
    golden("devices_in_polygon.txt", &device_text_of(&air_quality(), &[], &names));
}

/// Gateways in three sites along a road, sensors beside it, and a device for every reason of the comparing terms.
fn road() -> Fleet {
    let gateway_at = |name: &str, site: &str, km: f64| DeviceFacts {
        position: exactly(8.0 + km / 71.5, 50.0),
        site: (!site.is_empty()).then(|| site.into()),
        labels: BTreeMap::from([("tier".to_owned(), "edge".to_owned())]),
        ..gateway(name)
    };
    let sensor_at = |name: &str, km: f64| DeviceFacts {
        position: exactly(8.0 + km / 71.5, 50.01),
        labels: BTreeMap::from([("sensor".to_owned(), "pm25".to_owned())]),
        ..mcu(name)
    };
    let camera = Taint { key: "use".into(), value: "camera".into(), effect: Effect::NoExecute };
    fleet([
        gateway_at("gw-a1", "alpha", 0.0),
        gateway_at("gw-a2", "alpha", 0.8),
        gateway_at("gw-a3", "alpha", 7.0),
        gateway_at("gw-b1", "beta", 12.0),
        gateway_at("gw-b2", "beta", 20.0),
        DeviceFacts { taints: vec![camera], ..gateway_at("gw-b3", "beta", 26.0) },
        DeviceFacts { runs: vec![WorkloadNumber(7)], ..gateway_at("gw-c1", "gamma", 32.0) },
        gateway_at("gw-c2", "gamma", 40.0),
        gateway_at("gw-wild", "", 48.0),
        DeviceFacts { labels: BTreeMap::new(), ..gateway_at("gw-plain", "alpha", 50.0) },
        DeviceFacts { position: reported(8.9, 50.0, 20, 3_000), ..gateway_at("gw-van", "delta", 0.0) },
        sensor_at("aq-01", 0.3),
        sensor_at("aq-02", 19.0),
        sensor_at("aq-03", 45.0),
    ])
}

fn along_the_road(replicas: u32) -> WorkloadSpecView {
    let one = std::num::NonZeroU32::MIN;
    let db = OtherWorkload { name: "db".into(), number: Some(WorkloadNumber(7)) };
    let terms = Terms {
        near: Some(Near { point: at(8.0, 50.0), distance_max: None }),
        class: vec!["gateway".into()],
        requirements: vec![Requirement::In { key: "tier".into(), values: vec!["edge".into(), "core".into()] }],
        distance_min: Distance::from_km(5.0),
        spread: Some(Spread { by: SpreadBy::Site, skew_max: one }),
        anti_affinity: vec![AntiAffinity { workloads: vec![db], domain: Apartness::Site }],
        position_age_max: Some(Duration::from_secs(3_600)),
        ..Terms::default()
    };
    workload("relay", Wanted::Replicas(replicas), terms)
}

fn nearest_to_sensors() -> WorkloadSpecView {
    let devices = Selector { labels: vec![("sensor".into(), "pm25".into())], requirements: Vec::new() };
    let nearest_per = Some(NearestPer { devices, k: std::num::NonZeroU32::new(2).unwrap() });
    let terms = Terms { class: vec!["gateway".into()], nearest_per, ..Terms::default() };
    workload("collect", Wanted::Every, terms)
}

fn road_text(spec: &WorkloadSpecView, current: &[CurrentPlacement], names: &[&str]) -> String {
    let (fleet, regions) = (road(), Regions::new());
    let view = snapshot(&fleet, &regions);
    let mut out = text::plan_text(spec, &plan(&view, spec, current));
    for name in names {
        let device = fleet.by_name(name).unwrap().index;
        out.push('\n');
        out.push_str(&text::device_text(spec, &explain_device(&view, spec, current, device).unwrap()));
    }
    out
}

#[test]
fn apart_spread_and_away_from_another() {
    let names = ["gw-a1", "gw-a2", "gw-b2", "gw-b3", "gw-c2", "gw-wild", "gw-plain", "gw-van"];
    golden("related.txt", &road_text(&along_the_road(5), &[], &names));
    let spec = along_the_road(3);
    let current = [placed(0, &spec), placed(1, &spec), placed(5, &spec), placed(7, &spec)];
    golden("related_moved.txt", &road_text(&spec, &current, &[]));
}

#[test]
fn waiting_and_failing() {
    let mut spec = along_the_road(5);
    spec.terms.on_shortfall = OnShortfall::Wait;
    let waiting = road_text(&spec, &[placed(1, &spec)], &["gw-a1", "gw-a3", "gw-b1"]);
    spec.terms.on_shortfall = OnShortfall::Fail;
    golden("held_back.txt", &(waiting + "\n" + &road_text(&spec, &[], &[])));
}

#[test]
fn nearest_of_every_sensor() {
    let mut spec = nearest_to_sensors();
    let text = road_text(&spec, &[placed(8, &spec), placed(10, &spec)], &["gw-a1", "gw-a3", "gw-b3", "aq-01"]);
    spec.terms.distance_min = Distance::from_km(1.0);
    golden("nearest_per.txt", &(text + "\n" + &road_text(&spec, &[], &["gw-a2"])));
}

#[test]
fn comparing_terms_as_json() {
    let (fleet, regions) = (road(), Regions::new());
    let view = snapshot(&fleet, &regions);
    let spec = along_the_road(5);
    let current = [placed(5, &spec)];
    let device = |name: &str| explain_device(&view, &spec, &current, fleet.by_name(name).unwrap().index).unwrap();
    let sensors = plan(&view, &nearest_to_sensors(), &[]);
    let json = serde_json::json!({
        "plan": plan(&view, &spec, &current),
        "devices": [device("gw-a2"), device("gw-b3"), device("gw-c2")],
        "nearestPer": sensors,
    });
    golden("related.json", &(serde_json::to_string_pretty(&json).unwrap() + "\n"));
}

#[test]
fn the_same_as_json() {
    let (fleet, regions) = (mixed_fleet(), europe());
    let view = snapshot(&fleet, &regions);
    let spec = near_frankfurt(3);
    let current = [placed(1, &spec), placed(5, &spec)];
    let found = plan(&view, &spec, &current);
    let device = explain_device(&view, &spec, &current, DeviceIndex(3)).unwrap();
    let json = serde_json::json!({"plan": found, "device": device});
    golden("plan.json", &(serde_json::to_string_pretty(&json).unwrap() + "\n"));
}
