//! P9 with Mosquitto beside the hub: what a connected device costs on each side, and what its account costs while it joins.
//!
//! Fewer devices than in `fleet`: the plugin writes all accounts at each change, so that a join is dearer with each device.

use crate::crowd::Crowds;
use crate::fleet::{COUNTED, FIRST_SHARE, wait_online};
use crate::process::rss_kib;
use crate::table::Row;
use std::path::Path;
use std::time::Instant;
use tests::harness::{Broker, Hub};

const AGENTS: usize = 1_000;

pub fn measure(directory: &Path) -> Vec<Row> {
    let mut hub = Hub::start_on(directory, Broker::Mosquitto);
    let broker = hub.mosquitto().pid();
    let mut crowds = Crowds::default();
    let mut joined = 0;
    let mut memory = Vec::new();
    for count in [AGENTS / FIRST_SHARE, AGENTS] {
        let begin = Instant::now();
        let members: Vec<(String, String)> =
            (joined..count).map(|number| (format!("load-{number:05}"), hub.join_token(true))).collect();
        crowds.add(directory, &members);
        joined = count;
        wait_online(&hub, count);
        let took = begin.elapsed();
        std::thread::sleep(COUNTED / 2);
        memory.push((count, rss_kib(hub.pid()), rss_kib(broker), took));
    }
    let [(few, hub_low, broker_low, _), (many, hub_high, broker_high, took)] = memory[..] else {
        unreachable!("two shares")
    };
    let devices = (many - few) as f64;
    // A token's account, and a device's: for each a role and a client.
    let change = took.as_secs_f64() * 1000.0 / devices / 4.0;
    vec![
        Row::new(
            "P9",
            format!("hub beside Mosquitto, RSS per device, {few} to {many}"),
            (hub_high - hub_low) / devices,
            "KiB",
        )
        .target(21.0),
        Row::new(
            "P9",
            format!("Mosquitto, RSS per device, {few} to {many}"),
            (broker_high - broker_low) / devices,
            "KiB",
        )
        .anchor("1.8 KB for a bare connection; here with two accounts, their roles and retained messages"),
        Row::new("-", format!("Mosquitto: joining, {few} to {many} devices, per change of accounts"), change, "ms"),
    ]
}
