//! P1 to P3: the hub's scheduler over a fleet of 100,000 devices, in this process, on one core; and its decisions made durable by
//! the hub's store, which signs each device's set.

use crate::table::{Row, quantile};
use hub::commit::{AuditEntry, Batch, DeviceKeysRow, Write};
use hub::geo::{Distance, Point};
use hub::keys::Keys;
use hub::scheduler::{
    Admittance, AntiAffinity, Apartness, Decision, DeviceFacts, DeviceIndex, Fleet, Losses, Near, Needs, OtherWorkload,
    Position, PositionSource, Regions, Resources, Runtime, Runtimes, Snapshot, Standing, Terms, Wanted, WireRange,
    WorkloadNumber, WorkloadSpecView, place,
};
use hub::store::{DataDirectory, Outcome, Store, StoreSettings, SubmitError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tests::store_load::Random;
use wire::desired::ClassLimits;
use wire::id::{Order, Revision};
use wire::record::CapabilitySet;
use wire::{DeviceId, Digest};

const DEVICES: u32 = 100_000;
/// Per workload.
const REPLICAS: u32 = 100;
const WORKLOADS: usize = 200;
const RUNS: usize = 5;
/// Single decisions.
const DECISIONS: usize = 5_000;
/// Of a desired set with one small function.
const BODY_BYTES: u64 = 150;
const MEBIBYTE: u64 = 1024 * 1024;
const KUBERNETES: &str = "EKS 500/s at 100 k nodes, kube-scheduler 810/s at 5 k, Nomad 3,750/s on 5 servers";

/// Around forty places that people live in, as fleets are: dense here, empty there.
fn point(random: &mut Random) -> Point {
    let share = |random: &mut Random| random.below(1_000_000) as f64 / 1e6;
    let centre = random.below(40);
    let (longitude, latitude) = (centre as f64 * 9.0 - 175.0, (centre * 37 % 120) as f64 - 55.0);
    Point::from_degrees(longitude + share(random) * 8.0 - 4.0, latitude + share(random) * 6.0 - 3.0).unwrap()
}

fn device(number: u32, random: &mut Random) -> DeviceFacts {
    DeviceFacts {
        id: format!("{number:032x}").into(),
        name: format!("bench-{number:06}").into(),
        class: if number.is_multiple_of(4) { "gateway" } else { "mcu" }.into(),
        labels: BTreeMap::from([("sensor".to_owned(), format!("s{}", number % 16))]),
        position: Some(Position {
            point: point(random),
            uncertainty: Distance::from_metres(25),
            source: PositionSource::Static,
            known_at: Duration::ZERO,
        }),
        admittance: Admittance::Open,
        wire: WireRange { min: 1, max: 1 },
        runtimes: Runtimes { function: true, container: false },
        total: Resources { ram_bytes: 64 * MEBIBYTE, slots: 256, body_bytes: 128 * 1024 },
        ..DeviceFacts::default()
    }
}

fn workload(number: usize, replicas: u32, terms: Terms) -> WorkloadSpecView {
    let resources = Resources { ram_bytes: MEBIBYTE, slots: 1, body_bytes: BODY_BYTES as u32 };
    WorkloadSpecView {
        uid: format!("uid-{number}"),
        name: format!("w{number}"),
        terms,
        wanted: Wanted::Replicas(replicas),
        needs: Needs {
            runtime: Runtime::Function,
            interfaces: CapabilitySet::default(),
            boot_clock: false,
            wire_min: 1,
            resources,
        },
        losses: Losses::default(),
    }
}

fn decide(fleet: &Fleet, regions: &Regions, spec: &WorkloadSpecView) -> Decision {
    place(&Snapshot { revision: 1, taken_at: Duration::ZERO, fleet, regions }, spec, &[])
}

/// As the engine does when it commits.
fn hold(fleet: &mut Fleet, number: usize, spec: &WorkloadSpecView, decision: &Decision) -> Vec<DeviceIndex> {
    let new = decision.chosen.iter().filter(|chosen| chosen.standing == Standing::New);
    let devices: Vec<DeviceIndex> = new.map(|chosen| chosen.device).collect();
    for device in &devices {
        fleet.hold_for(*device, WorkloadNumber(number as u32), spec.needs.resources);
    }
    devices
}

/// Placements per second over the workloads, and where they went.
fn rate(fleet: &Fleet, terms: impl Fn(usize, &mut Random) -> Terms) -> (f64, Vec<Vec<DeviceIndex>>) {
    let regions = Regions::new();
    let mut rates = Vec::new();
    let mut placed = Vec::new();
    for run in 0..RUNS {
        let mut fleet = fleet.clone();
        let mut random = Random(run as u64);
        let specs: Vec<WorkloadSpecView> =
            (0..WORKLOADS).map(|number| workload(number, REPLICAS, terms(number, &mut random))).collect();
        let begin = Instant::now();
        placed = (0..)
            .zip(&specs)
            .map(|(number, spec)| {
                let decision = decide(&fleet, &regions, spec);
                hold(&mut fleet, number, spec, &decision)
            })
            .collect();
        let count: usize = placed.iter().map(Vec::len).sum();
        rates.push(count as f64 / begin.elapsed().as_secs_f64());
    }
    (quantile(&rates, 0.5), placed)
}

/// Placements per second until all are durable, each with its device's signed set.
fn durable(directory: &Path, placed: &[Vec<DeviceIndex>]) -> f64 {
    let directory = DataDirectory::take(directory).unwrap();
    let keys = Keys::open(directory.path(), &directory.database()).unwrap();
    let (store, loaded) = Store::open(&directory, &keys, &StoreSettings::default()).unwrap();
    let (sender, outcomes) = mpsc::channel();
    let writer = store.start(Box::new(move |outcome| drop(sender.send(outcome)))).unwrap();
    let id = |device: DeviceIndex| DeviceId(u128::from(device.0).to_be_bytes());
    let mut random = Random(1);
    let mut sequence = loaded.sequence;
    let mut submit = |writes: Vec<Write>| {
        sequence += 1;
        let audit = AuditEntry {
            time_ms: sequence,
            actor: "bench".to_owned(),
            action: "put",
            object: format!("workload/default/w{sequence}"),
            before: None,
            after: Some(Digest::of(&sequence.to_le_bytes())),
        };
        let mut batch = Batch { sequence, era: 0, writes, audit: vec![audit] };
        while let Err(error) = writer.submit(batch) {
            let SubmitError::Full(back) = error else { panic!("the writer ended") };
            batch = *back;
            std::thread::yield_now();
        }
        sequence
    };
    let wait = |last: u64| loop {
        match outcomes.recv().unwrap() {
            Outcome::Committed { sequence, .. } if sequence == last => break,
            Outcome::Committed { .. } => {}
            Outcome::Failed { reason, .. } => panic!("not stored: {reason:?}"),
        }
    };
    // A set belongs to a device that joined.
    let mut all: Vec<DeviceIndex> = placed.iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut last = 0;
    for devices in all.chunks(500) {
        let rows = devices.iter().map(|device| {
            Write::DeviceKeysPut(DeviceKeysRow {
                device: id(*device),
                name: format!("bench-{:06}", device.0),
                identity: [1; 32],
                exchange: [7; 32],
                credential_sha256: [0; 32],
                join_nonce: Some([8; 16]),
                joined_ms: 0,
            })
        });
        last = submit(rows.collect());
    }
    wait(last);
    let limits = ClassLimits { records: 8, memory_bytes: 65_536 };
    let begin = Instant::now();
    for (number, devices) in (1..).zip(placed) {
        let revision = Revision(Order::new(1, number).unwrap());
        let rows = devices.iter().map(|device| Write::DesiredPut {
            device: id(*device),
            revision,
            limits,
            body: random.bytes(BODY_BYTES),
        });
        last = submit(rows.collect());
    }
    wait(last);
    let count: usize = placed.iter().map(Vec::len).sum();
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    assert!(writer.stop(), "the writer ends");
    rate
}

fn near(random: &mut Random, km: f64) -> Near {
    Near { point: point(random), distance_max: Distance::from_km(km) }
}

pub fn measure(directory: &Path) -> Vec<Row> {
    let mut random = Random(7);
    let begin = Instant::now();
    let devices = (0..DEVICES).map(|number| (DeviceIndex(number), device(number, &mut random)));
    let fleet = Fleet::load(devices).unwrap();
    let load = begin.elapsed().as_secs_f64() * 1000.0;
    let (by_resources, placed) = rate(&fleet, |_, _| Terms::default());
    let stored = durable(&directory.join("store"), &placed);
    let (apart, _) = rate(&fleet, |number, random| Terms {
        near: Some(near(random, 2_000.0)),
        distance_min: Distance::from_km(2.0),
        anti_affinity: vec![AntiAffinity {
            workloads: vec![OtherWorkload {
                name: format!("w{}", number.saturating_sub(1)),
                number: Some(WorkloadNumber(number.saturating_sub(1) as u32)).filter(|_| number > 0),
            }],
            domain: Apartness::Device,
        }],
        ..Terms::default()
    });
    let regions = Regions::new();
    let times: Vec<f64> = (0..DECISIONS)
        .map(|number| {
            let spec = workload(number, 1, Terms { near: Some(near(&mut random, 500.0)), ..Terms::default() });
            let begin = Instant::now();
            std::hint::black_box(decide(&fleet, &regions, &spec));
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    vec![
        Row::new("P1", "placements decided by resource fit, 100 k devices, one core", by_resources, "/s")
            .target(100_000.0)
            .anchor(KUBERNETES),
        Row::new("P1", "the same made durable in SQLite, every set signed", stored, "/s")
            .target(28_000.0)
            .anchor("signing alone: 28,000/s per core"),
        Row::new("P2", "the same with near, minimum distance, anti-affinity", apart, "/s")
            .target(30_000.0)
            .anchor("kube topology spread 460/s, anti-affinity 24-60/s at 5 k"),
        Row::new("P3", "one geo decision (near, 500 km), p50", quantile(&times, 0.5), "us"),
        Row::new("P3", "one geo decision (near, 500 km), p95", quantile(&times, 0.95), "us")
            .target(50.0)
            .anchor("Oakestra LDP 140 ms at 500; Redis GEOSEARCH p95 11.6 ms at 1 M"),
        Row::new("-", "index of 100 k devices, built at start", load, "ms"),
    ]
}
