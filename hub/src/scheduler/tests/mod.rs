//! Plans against a brute-force oracle, their texts against golden files, and the facts about stability by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod golden;
mod oracle;
mod relations;
mod stability;
mod terms;

use super::*;
use crate::geo::{Distance, GeometryText, Point, Region};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::record::CapabilitySet;

fn at(longitude: f64, latitude: f64) -> Point {
    Point::from_degrees(longitude, latitude).unwrap()
}

fn region(json: &str) -> Region {
    let text: GeometryText = serde_json::from_str(json).unwrap();
    text.check().unwrap().region
}

fn resources(ram_kib: u64, slots: u32, body_bytes: u32) -> Resources {
    Resources { ram_bytes: ram_kib * 1024, slots, body_bytes }
}

/// An open gateway with room for everything, without a position.
fn gateway(name: &str) -> DeviceFacts {
    DeviceFacts {
        id: format!("id-{name}").into(),
        name: name.into(),
        class: "gateway".into(),
        labels: BTreeMap::new(),
        position: None,
        admittance: Admittance::Open,
        wire: WireRange { min: 1, max: 1 },
        runtimes: Runtimes { function: true, container: true },
        total: resources(1024 * 1024, 16, 128 * 1024),
        used: Resources::default(),
        placements: 0,
        ..DeviceFacts::default()
    }
}

fn mcu(name: &str) -> DeviceFacts {
    DeviceFacts {
        class: "mcu".into(),
        runtimes: Runtimes { function: true, container: false },
        total: resources(96, 4, 2048),
        ..gateway(name)
    }
}

/// A position that an operator set, exactly.
fn exactly(longitude: f64, latitude: f64) -> Option<Position> {
    Some(Position {
        point: at(longitude, latitude),
        uncertainty: Distance::ZERO,
        source: PositionSource::Operator,
        known_at: Duration::ZERO,
    })
}

fn reported(longitude: f64, latitude: f64, metres: u32, known_at: u64) -> Option<Position> {
    Some(Position {
        point: at(longitude, latitude),
        uncertainty: Distance::from_metres(metres),
        source: PositionSource::Reported,
        known_at: Duration::from_secs(known_at),
    })
}

fn workload(name: &str, wanted: Wanted, terms: Terms) -> WorkloadSpecView {
    WorkloadSpecView {
        uid: format!("uid-{name}"),
        name: name.into(),
        terms,
        wanted,
        needs: Needs {
            runtime: Runtime::Function,
            interfaces: CapabilitySet::default(),
            boot_clock: false,
            wire_min: 1,
            resources: resources(24, 1, 120),
        },
        losses: Losses::default(),
    }
}

fn fleet(devices: impl IntoIterator<Item = DeviceFacts>) -> Fleet {
    let mut fleet = Fleet::new();
    for (index, device) in (0..).zip(devices) {
        fleet.put(DeviceIndex(index), device).unwrap();
    }
    fleet
}

fn snapshot<'a>(fleet: &'a Fleet, regions: &'a Regions) -> Snapshot<'a> {
    Snapshot { revision: 88_213, taken_at: Duration::from_secs(10_000), fleet, regions }
}

/// Makes a decision true, as the engine does when it commits.
fn commit(
    fleet: &mut Fleet,
    spec: &WorkloadSpecView,
    current: &[CurrentPlacement],
    decision: &Decision,
) -> Vec<CurrentPlacement> {
    let mut placements: Vec<CurrentPlacement> = current.to_vec();
    for removed in &decision.removed {
        for gone in placements.iter().filter(|p| p.device == removed.device) {
            fleet.release(removed.device, gone.holds);
        }
        placements.retain(|placement| placement.device != removed.device);
    }
    for chosen in &decision.chosen {
        if chosen.standing == Standing::New {
            fleet.hold(chosen.device, spec.needs.resources);
            placements.push(CurrentPlacement { device: chosen.device, holds: spec.needs.resources });
        }
    }
    placements
}
