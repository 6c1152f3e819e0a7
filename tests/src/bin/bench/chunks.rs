//! An artifact over MQTT: from a device's first question to its last check, with the store and transfer of a microcontroller.

use crate::table::{Row, quantile};
use agent_nostd::store::Artifacts;
use std::path::Path;
use std::time::Instant;
use tests::harness::narrow::{Flash, Narrow, module};
use tests::harness::{Hub, Workload};
use wire::Digest;

const RUNS: u64 = 9;
const BYTES: usize = 20 * 1024;

pub fn measure(directory: &Path) -> Vec<Row> {
    let hub = Hub::start(directory);
    let mut device = Narrow::join(directory, &hub, "narrow", 2048);
    let mut artifacts = Artifacts::open(Flash::default());
    let times: Vec<f64> = (1..=RUNS)
        .map(|seed| {
            let module = module(seed, BYTES);
            hub.deploy(&Workload::new("code").on_every_device(), &module);
            let (_, digest, bytes) = device.wait_artifact(&module);
            let begin = Instant::now();
            device.fetch(digest, bytes, &mut artifacts).unwrap();
            let time = begin.elapsed().as_secs_f64() * 1000.0;
            assert!(artifacts.holds(&digest, bytes));
            artifacts.collect(&mut |held: &Digest| *held == digest);
            time
        })
        .collect();
    let row = Row::new("-", "artifact of 20 KiB over MQTT, in chunks, loopback", quantile(&times, 0.5), "ms");
    vec![row.target(2000.0).anchor("with its check on a flash in memory")]
}
