//! Rollouts of firmware: who is offered an image when, what counts as a failure, and that a restart goes on.
use super::device::Double;
use super::world::World;
use super::writer::{FLEET, hub_key};
use crate::engine::firmware::{OFFER_PAUSE, OFFER_SILENCE, OFFERS_MAX};
use crate::engine::port::*;
use crate::model::{Rollout, RolloutRequest, TargetState};
use crate::problem_code::ProblemCode;
use crate::wave::Phase;
use serde_json::json;
use std::time::Duration;
use wire::Digest;
use wire::dalek::Ed25519;
use wire::firmware::{Firmware, Obstacle, Offer, Phase as DevicePhase, Statement};
use wire::frame::{decode_live, encode_live};
use wire::sign::Sign;
use wire::topic::{Down, Up};
use wire::transfer::{Need, Want};

const BOARD: &str = "qemu-mps2-an386";
const DIGEST: Digest = Digest([0x77; 32]);
const BYTES: u32 = 800_000;

fn image(version: u32) -> FirmwareImage {
    FirmwareImage { board: BOARD.to_owned(), version, bytes: BYTES, digest: DIGEST }
}

fn wanted(fields: serde_json::Value) -> Box<RolloutRequest> {
    let mut wanted = json!({"artifact": format!("firmware@sha256:{DIGEST}"), "soak": "10s", "confirmWithin": "1m"});
    wanted.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Box::new(serde_json::from_value(wanted).unwrap())
}

fn begin(world: &mut World, version: u32, fields: serde_json::Value) -> Result<Rollout, Problem> {
    match world.answer(Request::RolloutCreate { wanted: wanted(fields), image: image(version) })? {
        Answer::Report(report) => Ok(serde_json::from_value(report).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn rollout(world: &mut World, version: u32) -> Rollout {
    match world.answer(Request::Rollout { name: format!("{BOARD}-v{version}") }) {
        Ok(Answer::Report(report)) => serde_json::from_value(report).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn change(world: &mut World, version: u32, verb: RolloutVerb) -> Result<Answer, Problem> {
    world.answer(Request::RolloutChange { name: format!("{BOARD}-v{version}"), verb })
}

fn says(device: &Double, world: &mut World, running: u32, target: u32, phase: DevicePhase, obstacle: Obstacle) {
    let said = Firmware { session: device.session, board: BOARD, running, target, phase, obstacle, done: 0 };
    let mut buffer = [0; 256];
    let frame = encode_live(&mut buffer, &device.pair, &device.context(device.session), &said).unwrap().to_vec();
    device.up(world, Up::Status, frame);
}

fn idle(device: &Double, world: &mut World, running: u32) {
    says(device, world, running, 0, DevicePhase::Idle, Obstacle::None);
}

fn moving(device: &Double, world: &mut World, target: u32) {
    says(device, world, 1, target, DevicePhase::Fetching, Obstacle::None);
}

fn fails(device: &Double, world: &mut World, target: u32, obstacle: Obstacle) {
    moving(device, world, target);
    says(device, world, 1, target, DevicePhase::Failed, obstacle);
}

fn updates(device: &Double, world: &mut World, target: u32) {
    moving(device, world, target);
    says(device, world, target, target, DevicePhase::Done, Obstacle::None);
}

/// Versions that were offered to a device since the last look, each with a right signature.
fn offers(device: &Double, world: &World) -> Vec<u32> {
    let context = device.context(device.session);
    let sent = world.sent_to(device.id, Down::Command).into_iter();
    let offers = sent.filter_map(|sent| decode_live::<Offer<'_>>(&sent.payload, &device.pair, &context).ok());
    offers
        .map(|offer| {
            let Offer { version, bytes, digest, .. } = offer;
            let statement = Statement { board: BOARD, version, bytes, digest };
            let signature = offer.signature().unwrap();
            assert!(statement.is_signed(&Ed25519, &hub_key().public_key(), FLEET, &signature));
            version
        })
        .collect()
}

/// Boards that run version 1, in the order of their names.
fn fleet(count: u16) -> (World, Vec<Double>) {
    let mut world = World::new();
    let devices: Vec<Double> =
        (1..=count).map(|number| Double::online(&mut world, number, &format!("mcu-{number:02}"))).collect();
    for device in &devices {
        idle(device, &mut world, 1);
    }
    world.sent.clear();
    (world, devices)
}

/// Time passes while these devices are heard.
fn pass(world: &mut World, devices: &mut [Double], time: Duration) {
    let end = world.now.monotonic.after(time);
    while world.now.monotonic < end {
        world.pass(end.since(world.now.monotonic).min(Duration::from_secs(10)));
        for device in &mut *devices {
            device.status(world, &[]);
        }
    }
}

/// Devices to which the image was offered, by their place; forgets it.
fn offered(world: &mut World, devices: &[Double]) -> Vec<usize> {
    let offered = (0..devices.len()).filter(|at| !offers(&devices[*at], world).is_empty()).collect();
    world.sent.clear();
    offered
}

#[test]
fn an_image_reaches_devices_in_waves_that_soak() {
    let (mut world, devices) = fleet(12);
    let begun = begin(&mut world, 2, json!({"waves": ["1", "25%", "100%"]})).unwrap();
    assert_eq!((begun.targets.len(), begun.phase()), (12, Phase::Running));
    assert_eq!(offered(&mut world, &devices), [0]);
    updates(&devices[0], &mut world, 2);
    world.pass(Duration::from_secs(9));
    assert!(offered(&mut world, &devices).is_empty(), "it soaks");
    world.pass(Duration::from_secs(2));
    assert_eq!(offered(&mut world, &devices), [1, 2]);
    for device in &devices[1..3] {
        updates(device, &mut world, 2);
    }
    world.pass(Duration::from_secs(11));
    assert_eq!(offered(&mut world, &devices), [3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for device in &devices[3..] {
        updates(device, &mut world, 2);
    }
    world.pass(Duration::from_secs(11));
    let done = rollout(&mut world, 2);
    assert_eq!(done.phase(), Phase::Done);
    assert!(done.targets.iter().all(|target| target.state == TargetState::Updated));
    assert_eq!((world.events("RolloutWave").len(), world.events("RolloutDone").len()), (2, 1));
    let status = world.get(&crate::model::ObjectKey::device("mcu-01"))["status"]["firmware"].clone();
    assert_eq!((&status["version"], &status["phase"]), (&json!(2), &json!("Done")));
}

#[test]
fn too_many_failures_halt_it_and_nobody_else_is_offered_anything() {
    let (mut world, mut devices) = fleet(5);
    begin(&mut world, 2, json!({"waves": ["2", "100%"], "maxFailures": 1})).unwrap();
    fails(&devices[0], &mut world, 2, Obstacle::Watchdog);
    assert_eq!(rollout(&mut world, 2).phase(), Phase::Running);
    fails(&devices[1], &mut world, 2, Obstacle::Panic);
    world.sent.clear();
    pass(&mut world, &mut devices, Duration::from_secs(120));
    let halted = rollout(&mut world, 2);
    assert_eq!(halted.phase(), Phase::Halted);
    let reasons: Vec<&str> = halted.targets.iter().map(|target| target.reason.as_str()).collect();
    assert_eq!(reasons, ["WATCHDOG", "PANIC", "", "", ""]);
    assert!(offered(&mut world, &devices).is_empty());
    assert_eq!(world.events("RolloutHalted").len(), 1);
    // Another image may be tried, also by those.
    begin(&mut world, 3, json!({"waves": ["100%"]})).unwrap();
    assert_eq!(offered(&mut world, &devices), [0, 1, 2, 3, 4]);
}

#[test]
fn a_device_that_was_interrupted_gets_its_offer_again_a_few_times() {
    let (mut world, mut devices) = fleet(1);
    begin(&mut world, 2, json!({})).unwrap();
    for _ in 0..OFFERS_MAX {
        assert_eq!(offered(&mut world, &devices), [0]);
        fails(&devices[0], &mut world, 2, Obstacle::Interrupted);
        pass(&mut world, &mut devices, OFFER_PAUSE + Duration::from_secs(1));
    }
    let halted = rollout(&mut world, 2);
    assert_eq!((halted.phase(), halted.targets[0].reason.as_str()), (Phase::Halted, "INTERRUPTED"));
}

#[test]
fn an_offer_that_is_not_answered_is_repeated_and_counts_for_nothing() {
    let (mut world, mut devices) = fleet(1);
    // What it says of an earlier try is not this one's.
    says(&devices[0], &mut world, 1, 2, DevicePhase::Failed, Obstacle::Watchdog);
    begin(&mut world, 2, json!({})).unwrap();
    for _ in 0..10 {
        assert_eq!(offers(&devices[0], &world), [2]);
        world.sent.clear();
        pass(&mut world, &mut devices, OFFER_PAUSE + Duration::from_secs(1));
    }
    moving(&devices[0], &mut world, 2);
    world.sent.clear();
    pass(&mut world, &mut devices, OFFER_PAUSE * 3);
    assert!(offered(&mut world, &devices).is_empty(), "it is on its way");
    updates(&devices[0], &mut world, 2);
    pass(&mut world, &mut devices, Duration::from_secs(60));
    assert_eq!(rollout(&mut world, 2).phase(), Phase::Done);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let (mut world, mut devices) = fleet(3);
    begin(&mut world, 2, json!({"waves": ["1", "100%"]})).unwrap();
    updates(&devices[0], &mut world, 2);
    world.pass(Duration::from_secs(11));
    assert_eq!(offered(&mut world, &devices), [0, 1, 2]);
    fails(&devices[1], &mut world, 2, Obstacle::NoSpace);
    world.restart();
    let kept = rollout(&mut world, 2);
    assert_eq!((kept.phase(), kept.progress.wave), (Phase::Halted, 1));
    begin(&mut world, 3, json!({})).unwrap_err();
    for device in &mut devices {
        device.hello(&mut world, false).unwrap();
        device.status(&mut world, &[]);
        idle(device, &mut world, 1);
    }
    begin(&mut world, 3, json!({"waves": ["2", "100%"]})).unwrap();
    world.restart();
    for device in &mut devices {
        device.hello(&mut world, false).unwrap();
        device.status(&mut world, &[]);
        idle(device, &mut world, 1);
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(offered(&mut world, &devices), [0, 1], "the offers are made again");
}

#[test]
fn paused_it_offers_nothing_and_aborted_it_is_over() {
    let (mut world, mut devices) = fleet(2);
    begin(&mut world, 2, json!({"waves": ["1", "100%"]})).unwrap();
    change(&mut world, 2, RolloutVerb::Pause).unwrap();
    updates(&devices[0], &mut world, 2);
    world.sent.clear();
    pass(&mut world, &mut devices, Duration::from_secs(60));
    assert!(offered(&mut world, &devices).is_empty());
    change(&mut world, 2, RolloutVerb::Resume).unwrap();
    pass(&mut world, &mut devices, Duration::from_secs(11));
    assert_eq!(offered(&mut world, &devices), [1]);
    change(&mut world, 2, RolloutVerb::Abort).unwrap();
    pass(&mut world, &mut devices, Duration::from_secs(60));
    assert!(offered(&mut world, &devices).is_empty());
    for verb in [RolloutVerb::Pause, RolloutVerb::Resume, RolloutVerb::Abort] {
        assert_eq!(change(&mut world, 2, verb).unwrap_err().code, ProblemCode::NotNeeded);
    }
    assert_eq!(change(&mut world, 9, RolloutVerb::Abort).unwrap_err().code, ProblemCode::NotFound);
}

#[test]
fn who_is_away_is_waited_for_and_who_vanished_in_the_middle_failed() {
    let (mut world, mut devices) = fleet(3);
    devices[1].will(&mut world, devices[1].boot);
    world.pass(Duration::from_secs(3));
    begin(&mut world, 2, json!({"waves": ["100%"]})).unwrap();
    assert_eq!(offered(&mut world, &devices), [0, 2]);
    updates(&devices[0], &mut world, 2);
    moving(&devices[2], &mut world, 2);
    devices[2].will(&mut world, devices[2].boot);
    world.pass(Duration::from_secs(60));
    let open = rollout(&mut world, 2);
    assert_eq!((open.phase(), open.targets[1].state), (Phase::Running, TargetState::Updating));
    world.pass(OFFER_SILENCE + Duration::from_secs(5));
    let halted = rollout(&mut world, 2);
    assert_eq!((halted.phase(), halted.targets[2].reason.as_str()), (Phase::Halted, "NOT_HEARD"));
    devices[1].hello(&mut world, false).unwrap();
    assert!(offered(&mut world, &devices).is_empty());
}

#[test]
fn only_devices_that_are_reached_get_the_image() {
    let (mut world, devices) = fleet(2);
    begin(&mut world, 2, json!({"waves": ["1", "100%"]})).unwrap();
    for (device, is_given) in [(&devices[0], true), (&devices[1], false)] {
        let need = Need { session: device.session, want: Want::Artifact { digest: DIGEST, offset: 4096, count: 4 } };
        let mut buffer = [0; 256];
        let frame = encode_live(&mut buffer, &device.pair, &device.context(device.session), &need).unwrap().to_vec();
        device.up(&mut world, Up::Need, frame);
        let reads = std::mem::take(&mut world.reads);
        assert_eq!(reads.iter().any(|read| read.digest == DIGEST && read.offset == 4096), is_given);
    }
}

#[test]
fn what_cannot_be_rolled_out_is_refused_in_words() {
    let (mut world, _devices) = fleet(1);
    for (fields, pointer) in [
        (json!({"waves": ["0"]}), "/waves"),
        (json!({"waves": vec!["1"; 17]}), "/waves"),
        (json!({"soak": "soon"}), "/soak"),
        (json!({"confirmWithin": "1s"}), "/confirmWithin"),
        (json!({"confirmWithin": "2h"}), "/confirmWithin"),
        (json!({"selector": "=="}), "/selector"),
        (json!({"board": "toaster"}), "/board"),
    ] {
        let problem = begin(&mut world, 2, fields.clone()).unwrap_err();
        assert_eq!(problem.errors[0].pointer, pointer, "{fields}");
    }
    let problem = begin(&mut world, 2, json!({"selector": "zone=b"})).unwrap_err();
    assert!(problem.detail.contains("zone=b"), "{problem:?}");
    begin(&mut world, 2, json!({"selector": "zone=a"})).unwrap();
    let problem = begin(&mut world, 3, json!({})).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Exists);
    assert!(problem.detail.contains("v2"), "{problem:?}");
}

#[test]
fn rollouts_that_are_over_make_room_for_others() {
    let (mut world, _devices) = fleet(1);
    for version in 2..2 + crate::engine::firmware::ROLLOUTS_MAX as u32 + 3 {
        world.pass(Duration::from_secs(1));
        begin(&mut world, version, json!({})).unwrap();
        change(&mut world, version, RolloutVerb::Abort).unwrap();
    }
    match world.answer(Request::Rollouts) {
        Ok(Answer::Report(report)) => {
            let names: Vec<&str> =
                report["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
            assert_eq!(names.len(), crate::engine::firmware::ROLLOUTS_MAX);
            assert!(!names.contains(&"qemu-mps2-an386-v2"));
        }
        other => panic!("{other:?}"),
    }
}
