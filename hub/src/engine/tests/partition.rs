//! `partition` from the manifest to the device's set, and where such work may go.
use super::device::Double;
use super::world::{World, workload};
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::{Value, json};
use wire::clause::{Clause, OnStale, StaleAction};
use wire::desired::Desired;
use wire::hello::Features;
use wire::record::CapabilitySet;

fn key() -> ObjectKey {
    ObjectKey::workload("default", "pump")
}

fn document(world: &mut World, partition: Value) -> Value {
    let artifact = world.upload("app", 0x11);
    let mut document = workload("pump", &artifact, json!({"labels": {"zone": "a"}}));
    document["spec"]["partition"] = partition;
    document
}

/// The clauses about partitions in what a device is sent: stopAfter, lease, onStale.
fn clauses(world: &World, device: &Double) -> (Option<u64>, Option<u64>, Option<OnStale>) {
    let desired = Desired::decode(world.retained_desired(device.id).unwrap()).unwrap();
    let body = wire::record::Body::decode(desired.body.unwrap()).unwrap();
    let record = body.iter().next().unwrap();
    let mut found = (None, None, None);
    for stated in record.clauses.iter() {
        match stated.clause {
            Clause::StopAfter(ms) => found.0 = Some(ms),
            Clause::Lease(ms) => found.1 = Some(ms),
            Clause::OnStale(on_stale) => found.2 = Some(on_stale),
            _ => continue,
        }
        assert!(stated.critical, "an agent that does not know it must not run the work: {stated:?}");
    }
    found
}

#[test]
fn a_device_is_told_when_to_stop_and_when_it_degrades() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    let minute = 60_000;
    let stop = |after_ms| Some(OnStale { after_ms, action: StaleAction::Stop });
    let degrade = |after_ms| Some(OnStale { after_ms, action: StaleAction::Degrade });
    let stale = |after: &str, action: &str| json!({"after": after, "action": action});
    for (partition, expected) in [
        (json!("autonomous"), (None, None, None)),
        (json!({"stopAfter": "2m"}), (Some(2 * minute), None, None)),
        (json!({"stopAfter": "2m", "onExpire": "degrade"}), (None, None, degrade(2 * minute))),
        (json!({"exclusive": {"lease": "60s"}}), (None, Some(minute), None)),
        (json!({"onStale": stale("1h", "continue")}), (None, None, None)),
        (json!({"onStale": stale("1h", "stop")}), (None, None, stop(60 * minute))),
        (
            json!({"exclusive": {"lease": "60s"}, "onStale": stale("1m", "degrade")}),
            (None, Some(minute), degrade(minute)),
        ),
        (json!({"stopAfter": "2m", "onStale": stale("1m", "degrade")}), (Some(2 * minute), None, degrade(minute))),
        (
            json!({"stopAfter": "2m", "onExpire": "degrade", "onStale": stale("1h", "stop")}),
            (Some(60 * minute), None, degrade(2 * minute)),
        ),
        (
            json!({"stopAfter": "2m", "onExpire": "degrade", "onStale": stale("1m", "degrade")}),
            (None, None, degrade(minute)),
        ),
    ] {
        let document = document(&mut world, partition.clone());
        world.put(&key(), document).unwrap();
        assert_eq!(clauses(&world, &device), expected, "{partition}");
    }
}

#[test]
fn exclusive_work_goes_only_where_a_lease_can_be_measured() {
    let mut world = World::new();
    let mut asleep = Double::new(1);
    asleep.features = Features::FUNCTION;
    let token = world.token(true);
    asleep.join(&mut world, &token, "mcu-1").unwrap().unwrap();
    asleep.hello(&mut world, true).unwrap();
    asleep.status(&mut world, &[]);
    let exclusive = document(&mut world, json!({"exclusive": {"lease": "60s"}}));
    world.put(&key(), exclusive.clone()).unwrap();
    let status = world.get(&key())["status"].clone();
    assert_eq!(status["placed"], 0);
    assert!(status["shortfall"]["reason"].as_str().unwrap().contains("no clock that goes on"), "{status}");
    let request = |device: Option<&str>| Request::Explain {
        namespace: "default".to_owned(),
        name: "pump".to_owned(),
        device: device.map(str::to_owned),
    };
    let Ok(Answer::Explanation(why)) = world.answer(request(Some("mcu-1"))) else { panic!() };
    assert!(why.to_string().contains("NO_BOOT_CLOCK"), "{why}");
    // The same device runs it when nothing depends on the lease.
    let plain = document(&mut world, json!({"stopAfter": "60s"}));
    world.put(&key(), plain).unwrap();
    assert_eq!(world.get(&key())["status"]["placed"], 1);
    // And gives it to one that can, when it becomes exclusive again.
    let other = Double::online(&mut world, 2, "gw-2");
    world.put(&key(), exclusive).unwrap();
    let status = world.get(&key())["status"].clone();
    assert_eq!(status["devices"][0]["device"], "gw-2", "{status}");
    assert_eq!(clauses(&world, &other).1, Some(60_000));
}

#[test]
fn one_mode_follows_another_with_server_side_apply() {
    let mut world = World::new();
    for (partition, stored) in [
        (
            json!({"exclusive": {"lease": "60s"}, "onReturn": "best"}),
            json!({"exclusive": {"lease": "1m"}, "onReturn": "best"}),
        ),
        (json!({"stopAfter": "2m"}), json!({"stopAfter": "2m"})),
        (json!("autonomous"), json!("autonomous")),
        (json!({"replace": "afterGrace", "grace": "1m"}), json!({"replace": "afterGrace", "grace": "1m"})),
        (json!({}), json!("autonomous")),
        (json!({"exclusive": {"lease": "15s"}}), json!({"exclusive": {"lease": "15s"}})),
    ] {
        let document = document(&mut world, partition.clone());
        let applier = crate::engine::Applier { manager: "ops".to_owned(), force: false };
        let request = Request::Apply { key: key(), document, applier, mode: Mode::Commit, if_match: None };
        world.answer(request).unwrap();
        assert_eq!(world.get(&key())["spec"]["partition"], stored, "{partition}");
    }
}

#[test]
fn a_function_that_may_use_pins_goes_only_where_there_are_some() {
    let mut world = World::new();
    Double::online(&mut world, 1, "gw-1");
    let mut wanted = document(&mut world, json!({"autonomous": true}));
    wanted["spec"]["function"]["capabilities"] = json!(["log", "gpio", "i2c"]);
    wanted["spec"].as_object_mut().unwrap().remove("partition");
    world.put(&key(), wanted).unwrap();
    let status = world.get(&key())["status"].clone();
    assert_eq!(status["placed"], 0);
    let reason = status["shortfall"]["reason"].as_str().unwrap();
    assert!(reason.contains("does not give functions log, gpio, i2c"), "{reason}");
    let request =
        Request::Explain { namespace: "default".to_owned(), name: "pump".to_owned(), device: Some("gw-1".to_owned()) };
    let Ok(Answer::Explanation(why)) = world.answer(request) else { panic!() };
    assert!(why.to_string().contains("NO_INTERFACE"), "{why}");
    assert!(why.to_string().contains("does not give functions gpio, i2c"), "{why}");
    // A board with such pins comes.
    let mut board = Double::new(2);
    board.interfaces = CapabilitySet(CapabilitySet::LOG.0 | CapabilitySet::GPIO.0 | CapabilitySet::I2C.0);
    let token = world.token(true);
    board.join(&mut world, &token, "mcu-2").unwrap().unwrap();
    board.hello(&mut world, true).unwrap();
    board.status(&mut world, &[]);
    let status = world.get(&key())["status"].clone();
    assert_eq!(status["devices"][0]["device"], "mcu-2", "{status}");
    let device = world.get(&ObjectKey::device("mcu-2"))["status"].clone();
    assert_eq!(device["interfaces"], json!(["log", "gpio", "i2c"]), "{device}");
}
