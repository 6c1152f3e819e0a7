//! What counts, and what changes nothing but a counter.
use super::device::Double;
use super::world::World;
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::hello::{Asks, DeviceClass, Erases, Health, LastEnd, ResetCause, Wear};
use wire::status::{Reason, State};
use wire::topic::{Down, Topic, Up};
use wire::{BootId, DeviceId, Session};

fn state(world: &mut World) -> String {
    world.get(&ObjectKey::device("gw-1"))["status"]["online"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn capabilities_are_asked_for_once() {
    let mut world = World::new();
    let token = world.token(true);
    let mut device = Double::new(1);
    device.join(&mut world, &token, "gw-1");
    assert!(device.hello(&mut world, false).unwrap().asks.contains(Asks::CAPABILITIES));
    assert!(!device.hello(&mut world, true).unwrap().asks.contains(Asks::CAPABILITIES));
    assert!(!device.hello(&mut world, false).unwrap().asks.contains(Asks::CAPABILITIES));
    world.restart();
    assert!(!device.hello(&mut world, false).unwrap().asks.contains(Asks::CAPABILITIES), "kept over a restart");
}

#[test]
fn a_session_never_comes_back_in_another_boot_or_incarnation() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let mut seen = vec![device.session];
    device.boot = BootId([42; 8]);
    device.hello(&mut world, false).unwrap();
    assert!(!seen.contains(&device.session));
    seen.push(device.session);
    device.hello(&mut world, false).unwrap();
    assert!(seen.contains(&device.session), "the same boot keeps its session");
    world.restart();
    device.hello(&mut world, false).unwrap();
    assert!(!seen.contains(&device.session));
}

#[test]
fn a_message_of_an_unknown_session_changes_nothing() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let entry = Double::entry(1, 1, State::Failed, Reason::TRAPPED, "x");
    let session = device.session;
    device.session = Session(77);
    device.status(&mut world, &[entry]);
    assert_eq!(world.events("BadTag").len(), 1);
    assert!(world.events("Failed").is_empty());
    device.session = session;
    device.heartbeat(&mut world, false);
    device.pair.0[0] ^= 1;
    device.heartbeat(&mut world, true);
    assert_eq!(world.events("BadTag").len(), 1, "said once a minute, counted always");
    let conditions = world.get(&ObjectKey::device("gw-1"))["status"]["conditions"].to_string();
    assert!(conditions.contains("2 messages were not authentic"), "{conditions}");
}

#[test]
fn both_sessions_count_until_the_new_one_is_used() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let (old_boot, old_session) = (device.boot, device.session);
    let new_boot = BootId([42; 8]);
    device.boot = new_boot;
    device.hello(&mut world, false).unwrap();
    let new_session = device.session;
    (device.boot, device.session) = (old_boot, old_session);
    device.heartbeat(&mut world, true);
    assert!(world.events("BadTag").is_empty(), "not used yet: the old one counts");
    (device.boot, device.session) = (new_boot, new_session);
    device.sequence = 0;
    device.status(&mut world, &[]);
    (device.boot, device.session) = (old_boot, old_session);
    device.heartbeat(&mut world, true);
    assert_eq!(world.events("BadTag").len(), 1, "used: the old one is over");
}

#[test]
fn an_older_sequence_is_dropped() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    device.sequence -= 2;
    device.status(&mut world, &[Double::entry(1, 1, State::Failed, Reason::TRAPPED, "old news")]);
    assert!(world.events("Failed").is_empty());
}

#[test]
fn a_will_of_another_boot_is_ignored() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    device.will(&mut world, BootId([99; 8]));
    assert_eq!(state(&mut world), "Online");
    device.will(&mut world, device.boot);
    assert_eq!(state(&mut world), "Unknown");
    assert_eq!(world.events("Suspect").len(), 1);
}

#[test]
fn silence_is_unknown_and_moves_nothing() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    world.pass(Duration::from_secs(30));
    device.heartbeat(&mut world, true);
    world.pass(Duration::from_secs(30));
    assert_eq!(state(&mut world), "Online");
    world.pass(Duration::from_secs(20));
    assert_eq!(state(&mut world), "Unknown");
    let status = &world.get(&ObjectKey::workload("default", "hello"))["status"];
    assert_eq!((&status["placed"], &status["running"]), (&json!(1), &json!(0)));
    assert_eq!(status["conditions"][1]["status"], "Unknown");
    assert!(status["devices"][0]["detail"].as_str().unwrap().contains("goes on running"), "{status}");
    device.heartbeat(&mut world, true);
    assert_eq!(state(&mut world), "Online");
}

#[test]
fn nobody_is_lost_while_the_hub_itself_is_cut_off() {
    let mut world = World::new();
    Double::online(&mut world, 1, "gw-1");
    world.input(Input::LinkDown);
    world.pass(Duration::from_secs(600));
    assert_eq!(state(&mut world), "Online");
    world.connect();
    world.pass(Duration::from_secs(20));
    assert_eq!(state(&mut world), "Online", "grace after a reconnect");
    world.pass(Duration::from_secs(60));
    assert_eq!(state(&mut world), "Unknown");
}

#[test]
fn an_unknown_digest_is_asked_about_at_a_limited_rate() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.sent.clear();
    device.heartbeat(&mut world, true);
    assert_eq!(world.sent_to(device.id, Down::Command).len(), 0);
    device.heartbeat(&mut world, false);
    device.heartbeat(&mut world, false);
    assert_eq!(world.sent_to(device.id, Down::Command).len(), 1);
    world.pass(Duration::from_secs(31));
    device.heartbeat(&mut world, false);
    assert_eq!(world.sent_to(device.id, Down::Command).len(), 2);
}

#[test]
fn what_is_retained_under_up_is_ignored_and_cleared() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.sent.clear();
    let mut up = |payload: &[u8]| {
        world.input(Input::Up { device: device.id, topic: Up::Will, payload: payload.to_vec(), retained: true });
        world.sent.len()
    };
    assert_eq!(up(b"anything"), 1);
    assert_eq!(up(b""), 1, "a cleared one is not cleared again");
    let cleared = &world.sent[0];
    assert!(cleared.retain && cleared.payload.is_empty());
    assert_eq!(cleared.topic, Topic::Up(device.id, Up::Will).print("test").unwrap().as_str());
    assert_eq!(state(&mut world), "Online");
}

#[test]
fn foreign_bytes_on_every_topic_change_nothing() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    let before = world.get(&ObjectKey::device("gw-1"))["status"]["workloads"].clone();
    for topic in Up::ALL {
        for payload in [&b""[..], b"x", &[1, 32], &[1, 34, 0, 0], &[255; 600]] {
            device.up(&mut world, topic, payload.to_vec());
        }
    }
    world.input(Input::HubStateSeen { payload: vec![1, 2, 3], retained: true });
    assert_eq!(world.get(&ObjectKey::device("gw-1"))["status"]["workloads"], before);
    assert_eq!(state(&mut world), "Online");
}

#[test]
fn what_happens_to_components_is_told() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    device.status(&mut world, &[Double::entry(1, 1, State::BackOff, Reason::TRAPPED, "unreachable executed")]);
    let event = world.events("BackOff").pop().unwrap();
    assert!(event.message.contains("TRAPPED: unreachable executed"), "{}", event.message);
    assert_eq!((event.object.as_str(), event.device.as_deref()), ("workload/default/hello", Some("gw-1")));
    let status = &world.get(&ObjectKey::workload("default", "hello"))["status"];
    assert_eq!(status["conditions"][1]["reason"], "Failing");
    assert_eq!(status["devices"][0]["reason"], "TRAPPED");
    assert_eq!(status["devices"][0]["detail"], "unreachable executed");
    device.status(&mut world, &[Double::entry(1, 1, State::BackOff, Reason::TRAPPED, "unreachable executed")]);
    assert_eq!(world.events("BackOff").len(), 1, "no change, no event");
}

#[test]
fn a_clock_in_doubt_signs_no_fresh() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let before = world.now.wall_ms;
    world.now.wall_ms += 6 * 60_000;
    assert!(device.try_hello(&mut world, false).is_none());
    assert_eq!(world.events("ClockJumped").len(), 1);
    assert_eq!(state(&mut world), "Online", "what is not signed anew goes on");
    let status = match world.answer(Request::Status) {
        Ok(Answer::Status(status)) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status.conditions.first().map(|condition| condition.name.as_str()), Some("ClockInDoubt"));
    world.now.wall_ms = before;
    assert!(device.try_hello(&mut world, false).is_some(), "back where it was");
    world.now.wall_ms += 3_600_000;
    assert!(device.try_hello(&mut world, false).is_none());
    world.pass(Duration::from_secs(15 * 60));
    assert!(device.hello(&mut world, false).is_ok(), "steady for long enough");
    world.now.wall_ms += 3_600_000;
    world.restart();
    assert!(device.hello(&mut world, false).is_ok(), "somebody started it again");
}

#[test]
fn the_code_of_a_failure_is_said_once() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    device.status(&mut world, &[Double::entry(1, 1, State::BackOff, Reason::TRAPPED, "TRAPPED: unreachable executed")]);
    assert_eq!(world.events("BackOff")[0].message, "restarted 0 times: TRAPPED: unreachable executed");
    let status = &world.get(&ObjectKey::workload("default", "hello"))["status"];
    assert_eq!(status["conditions"][1]["message"], "0 of 1 run; gw-1: BackOff TRAPPED: unreachable executed");
}

#[test]
fn what_failed_is_healthy_again_only_after_it_ran_on() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    let healthy = |world: &mut World| {
        let status = &world.get(&ObjectKey::workload("default", "hello"))["status"];
        (status["running"].as_u64().unwrap(), status["conditions"][1]["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(healthy(&mut world), (1, "Running".to_owned()));
    let running = Double::entry(1, 1, State::Running, Reason::NONE, "");
    device.status(&mut world, &[wire::status::Entry { attempts: 1, restarts: 1, ..running }]);
    assert_eq!(healthy(&mut world), (1, "Recovering".to_owned()));
    world.pass(Duration::from_secs(6));
    device.status(&mut world, &[wire::status::Entry { attempts: 2, restarts: 2, ..running }]);
    world.pass(Duration::from_secs(6));
    device.status(&mut world, &[wire::status::Entry { attempts: 2, restarts: 2, ..running }]);
    assert_eq!(healthy(&mut world), (1, "Recovering".to_owned()), "it began anew with the restart");
    world.pass(Duration::from_secs(5));
    assert_eq!(healthy(&mut world), (1, "Running".to_owned()));
}

#[test]
fn a_device_that_comes_and_goes_is_watched_once() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    for _ in 0..50 {
        device.will(&mut world, device.boot);
        device.heartbeat(&mut world, true);
        world.pass(Duration::from_secs(20));
    }
    assert_eq!(state(&mut world), "Online");
    assert_eq!(world.engine.watch.len(), 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(state(&mut world), "Unknown");
    assert_eq!(world.engine.watch.len(), 0);
}

#[test]
fn c5_a_link_that_flaps_for_an_hour_moves_nothing_and_makes_no_storm() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"labels": {"zone": "a"}})).unwrap();
    let mut spare = Double::online(&mut world, 2, "gw-2");
    device.run_all(&mut world);
    world.sent.clear();
    let batches = world.batches.len();
    for _ in 0..360 {
        device.will(&mut world, device.boot);
        assert_eq!(state(&mut world), "Unknown");
        world.pass(Duration::from_secs(5));
        device.hello(&mut world, false).unwrap();
        device.run_all(&mut world);
        assert_eq!(state(&mut world), "Online");
        spare.heartbeat(&mut world, true);
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(world.sent_to(device.id, Down::Desired).len(), 0, "the digest stays");
    assert_eq!(spare.accept(&world).len(), 0, "nothing is placed anew");
    let status = &world.get(&ObjectKey::workload("default", "hello"))["status"];
    assert_eq!((&status["placed"], &status["running"]), (&json!(1), &json!(1)));
    assert!(world.batches.len() - batches < 40, "{} batches", world.batches.len() - batches);
    let told = ["Suspect", "Flapping", "Online"].map(|reason| world.events(reason).len());
    assert_eq!(told, [3, 1, 5], "two devices came online, one of them again and again");
    // It stays for a while: the next time counts again.
    for _ in 0..24 {
        device.heartbeat(&mut world, true);
        spare.heartbeat(&mut world, true);
        world.pass(Duration::from_secs(30));
    }
    device.will(&mut world, device.boot);
    assert_eq!(world.events("Suspect").len(), 4);
}

#[test]
fn how_a_microcontrollers_firmware_ended_is_told_once_and_asked_for_after_a_restart_of_the_hub() {
    let mut world = World::new();
    let mut device = Double::new(1);
    device.class = DeviceClass::Mcu;
    device.reset = ResetCause::Panic;
    let erases = |all, boot| Erases { all, boot };
    let fares = Health {
        is_new: true,
        uptime_s: 1,
        end: Some(LastEnd { address: 0x2000_1234, text: "src/main.rs:17: out of range" }),
        wear: Some(Wear { journal: erases(300, 1), artifacts: erases(12, 0) }),
        behind: None,
    };
    device.health = Some(fares);
    let token = world.token(true);
    device.join(&mut world, &token, "mcu-1").unwrap().unwrap();
    device.hello(&mut world, true).unwrap();
    let told = world.events("FirmwareFailed");
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("panic at 0x20001234: src/main.rs:17: out of range"), "{:?}", told[0]);
    // The same Hello again, and the same boot at a hub that knows it: no news, and nothing to ask.
    device.health = Some(Health {
        is_new: false,
        uptime_s: 7200,
        wear: Some(Wear { journal: erases(302, 3), ..fares.wear.unwrap() }),
        ..fares
    });
    assert!(!device.hello(&mut world, false).unwrap().asks.contains(Asks::HEALTH));
    assert_eq!(world.events("FirmwareFailed").len(), 1);
    let status = world.get(&ObjectKey::device("mcu-1"))["status"].clone();
    let last = json!({"cause": "panic", "address": "0x20001234", "text": "src/main.rs:17: out of range"});
    assert_eq!(status["lastReset"], last, "{status}");
    assert_eq!(status["wear"][0], json!({"partition": "journal", "erases": 302, "erasesPerDay": 36}), "{status}");
    // Hours later it is asked anew.
    device.health = None;
    world.pass(Duration::from_secs(7 * 3600));
    assert!(device.hello(&mut world, false).unwrap().asks.contains(Asks::HEALTH));
}

#[test]
fn a_leaf_is_shown_behind_its_gateway_and_a_lost_line_is_told_from_a_lost_gateway() {
    let mut world = World::new();
    let gateway = Double::online(&mut world, 1, "gw-1");
    let mut leaf = Double::new(2);
    leaf.class = DeviceClass::Mcu;
    let behind = |id| Some(Health { is_new: true, uptime_s: 1, end: None, wear: None, behind: Some(id) });
    leaf.health = behind(gateway.id);
    let token = world.token(true);
    leaf.join(&mut world, &token, "leaf-1").unwrap().unwrap();
    leaf.hello(&mut world, true).unwrap();
    let status = |world: &mut World| world.get(&ObjectKey::device("leaf-1"))["status"].clone();
    let reason = |status: &serde_json::Value| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == "Relayed").map(|one| one["reason"].clone())
    };
    let shown = status(&mut world);
    assert_eq!((&shown["behind"], reason(&shown)), (&json!("gw-1"), None), "{shown}");
    // The leaf alone: its line.
    leaf.will(&mut world, leaf.boot);
    let shown = status(&mut world);
    assert_eq!(reason(&shown), Some(json!("LineLost")), "{shown}");
    gateway.will(&mut world, gateway.boot);
    let shown = status(&mut world);
    assert_eq!(reason(&shown), Some(json!("GatewayLost")), "{shown}");
    // A gateway that this fleet has not is shown by its id, and believed in nothing.
    let stranger = DeviceId([9; 16]);
    leaf.health = behind(stranger);
    leaf.hello(&mut world, true).unwrap();
    let shown = status(&mut world);
    assert_eq!((&shown["behind"], reason(&shown)), (&json!(stranger.to_string()), None), "{shown}");
}
