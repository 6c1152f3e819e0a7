//! I7 with real parts: what functions raise and measure while their device cannot reach anybody arrives once, or is counted as lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use serde_json::json;
use std::collections::BTreeSet;
use tests::harness::proxy::{Cut, Proxy};
use tests::harness::{Agent, Hub, Workload, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
/// Turns of the function, and what it measures in each: more than the device has room for.
const TURNS: usize = 100;
const MEASURED: usize = 40 * TURNS;
const ALARMS: usize = TURNS / 10;
/// Of a metric, but for its last letter: 62 bytes.
const KEY: &str = "metric/of-a-long-name-so-that-few-records-fill-what-a-device-/";

/// Measures 0, 1, 2, ... under 26 long keys, raises an alarm with a number of its own in each tenth turn, and remembers when it
/// has done all of it.
fn meter() -> Vec<u8> {
    let text = format!(
        r#"(module
        (@custom "fulmar.abi" "\01")
        (import "fulmar" "alarm" (func $alarm (param i32 i32 i32 i32) (result i32)))
        (import "fulmar" "measure" (func $measure (param i32 i32 i64 i32) (result i32)))
        (import "fulmar" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{KEY}A")
        (data (i32.const 64) "alarm")
        (data (i32.const 80) "00")
        (data (i32.const 96) "done")
        (global $turn (mut i32) (i32.const 0))
        (global $made (mut i64) (i64.const 0))
        (func $raise (param $number i32)
            (i32.store8 (i32.const 80) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 10))))
            (i32.store8 (i32.const 81) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
            (drop (call $alarm (i32.const 64) (i32.const 5) (i32.const 80) (i32.const 2))))
        (func (export "fulmar_timer") (local $left i32)
            (if (i32.ge_u (global.get $turn) (i32.const {TURNS})) (then (return)))
            (local.set $left (i32.const 40))
            (loop $again
                (i32.store8 (i32.const 62)
                    (i32.add (i32.const 65) (i32.wrap_i64 (i64.rem_u (global.get $made) (i64.const 26)))))
                (drop (call $measure (i32.const 0) (i32.const 63) (global.get $made) (i32.const 0)))
                (global.set $made (i64.add (global.get $made) (i64.const 1)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $again (local.get $left)))
            (if (i32.eqz (i32.rem_u (global.get $turn) (i32.const 10)))
                (then (call $raise (i32.div_u (global.get $turn) (i32.const 10)))))
            (global.set $turn (i32.add (global.get $turn) (i32.const 1)))
            (if (i32.eq (global.get $turn) (i32.const {TURNS}))
                (then (drop (call $set (i32.const 96) (i32.const 4) (i32.const 96) (i32.const 4)))))))"#,
    );
    wat::parse_str(text).unwrap()
}

/// Received, lost on the device and missing on the way, of one class.
fn account(hub: &Hub, class: &str) -> (usize, usize, usize) {
    let told = hub.get("/v1/devices/gw-1/samples?tail=1");
    let account = told["classes"].as_array().unwrap().iter().find(|account| account["class"] == class);
    let of = |name: &str| account.map_or(0, |account| usize::try_from(account[name].as_u64().unwrap()).unwrap());
    (of("received"), of("lost"), of("missing"))
}

/// The values under these keys that the hub has, each as often as it has it.
fn values(hub: &Hub, keys: &[String]) -> Vec<String> {
    let of_key = |key: &String| {
        let told = hub.get(&format!("/v1/devices/gw-1/samples?tail=1000&key={key}"));
        told["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["value"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    keys.iter().flat_map(of_key).collect()
}

#[test]
fn i7_what_a_device_that_is_cut_off_raises_arrives_once_and_what_it_measures_arrives_or_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let road = Proxy::to_port(hub.broker_port());
    let mut agent = Agent::enrol(directory.path(), &hub.join_token(true), "gw-1", FRANKFURT);
    agent.run_with(&["--broker", &road.url()]);
    hub.wait_online("gw-1");
    let workload =
        Workload::new("meter").every("100ms").may(&["telemetry", "state"]).limits(json!({"sampleBytes": "4KiB"}));
    hub.deploy(&workload, &meter());
    let told = |class: &str, least: usize| {
        wait_until(&format!("{least} {class}s came"), || {
            let account = account(&hub, class);
            if account.0 >= least { Ok(()) } else { Err(account) }
        });
    };
    told("metric", 1);
    road.partition(Cut::Reset);
    let before = account(&hub, "metric");
    wait_until("the function has done all of it", || if agent.state().is_empty() { Err("not yet") } else { Ok(()) });
    assert_eq!(account(&hub, "metric"), before, "nothing came while the device was away");
    road.heal();
    // What is on its way when the link breaks again is told again, and counted once.
    told("alarm", ALARMS.min(account(&hub, "alarm").0 + 1));
    told("metric", before.0 + 1);
    road.cut(Cut::Reset);
    wait_until("everything is accounted for", || {
        let (alarms, metrics) = (account(&hub, "alarm"), account(&hub, "metric"));
        let is_whole = alarms.0 >= ALARMS && metrics.0 + metrics.1 >= MEASURED;
        if is_whole { Ok(()) } else { Err((alarms, metrics)) }
    });
    let mut alarms = values(&hub, &["alarm".to_owned()]);
    alarms.sort();
    assert_eq!(alarms, (0..ALARMS).map(|number| format!("{number:02}")).collect::<Vec<_>>(), "each alarm once");
    assert_eq!(account(&hub, "alarm"), (ALARMS, 0, 0));
    let events = hub.get("/v1/events?tail=1000");
    let told = events["items"].as_array().unwrap().iter().filter(|event| event["reason"] == "Alarm").count();
    assert_eq!(told, ALARMS, "and an event each");
    let keys: Vec<String> = ('A'..='Z').map(|last| format!("{KEY}{last}")).collect();
    let metrics = values(&hub, &keys);
    let distinct: BTreeSet<&String> = metrics.iter().collect();
    assert_eq!(distinct.len(), metrics.len(), "no value twice");
    let known_lost = MEASURED - distinct.len();
    println!("{MEASURED} measured, {} came, {known_lost} lost", metrics.len());
    assert!(known_lost > 0, "there was more than the device has room for");
    assert_eq!(
        account(&hub, "metric"),
        (metrics.len(), known_lost, 0),
        "the hub's count of losses is what did not come"
    );
}
