//! P23: the same seed and log give the same placements; and how fast the simulator is that everything else rests upon.

use crate::table::{Row, quantile};
use std::time::Instant;
use tests::sim::{Options, run};

const REPLAYS: usize = 1_000;
/// Of the replayed run: every message of hub and devices is in its trace, and with them every placement.
const REPLAYED_SEED: u64 = 23;
const REPLAYED_DEVICES: usize = 4;
const REPLAYED_MINUTES: u64 = 10;
/// Weeks of a fleet, for the speed of one core.
const WEEKS: u64 = 5;

pub fn measure() -> Vec<Row> {
    let replayed = Options { devices: REPLAYED_DEVICES, minutes: REPLAYED_MINUTES, ..Options::of_seed(REPLAYED_SEED) };
    let first = run(replayed);
    assert_eq!(first.violation, None);
    let same = (0..REPLAYS).filter(|_| run(replayed).hash == first.hash).count();
    let speeds: Vec<f64> = (1..=WEEKS)
        .map(|seed| {
            let begin = Instant::now();
            let outcome = run(Options::week(seed));
            assert_eq!(outcome.violation, None, "seed {seed}");
            outcome.virtual_ms as f64 * outcome.options.devices as f64 / 86_400_000.0 / begin.elapsed().as_secs_f64()
        })
        .collect();
    vec![
        Row::new("P23", format!("replays of {REPLAYS} with the same placements and messages"), same as f64, "")
            .target(REPLAYS as f64)
            .anchor("nobody publishes one"),
        Row::new("-", "simulator: real engine and machines, on one core", quantile(&speeds, 0.5), "days/s")
            .anchor("device-days of twenty devices over a week, with faults"),
    ]
}
