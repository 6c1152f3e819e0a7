//! What a workload does on a device that is not heard of, in words: it goes on, or it stops by a time that the hub can tell.
//!
//! Bounds only: the device counts from when it asked, which was before the hub answered.

use super::device::Device;
use super::port::Now;
use crate::model::{OnExpire, PartitionMode, PartitionSpec, Span};
use std::time::Duration;

/// In the largest unit that leaves at least 1.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

pub(super) fn alone(now: Now, device: &Device, partition: &PartitionSpec) -> String {
    let observed = &device.observed;
    let left = |from: Option<super::port::Instant>, after: Span| {
        let end = from.unwrap_or(now.monotonic).after(after.duration());
        end.since(now.monotonic)
    };
    match (partition.mode(), partition.on_expire()) {
        (PartitionMode::Autonomous, _) => "autonomous: it goes on running".to_owned(),
        (PartitionMode::StopAfter(after), OnExpire::Degrade) => match left(observed.fresh_at, after) {
            Duration::ZERO => "degraded: it goes on running, and knows".to_owned(),
            rest => format!("it goes on running, degraded in {} at most", span(rest)),
        },
        (PartitionMode::StopAfter(after), OnExpire::Stop) => match left(observed.fresh_at, after) {
            Duration::ZERO => "it has stopped itself (stopAfter)".to_owned(),
            rest => format!("it stops itself in {} at most (stopAfter)", span(rest)),
        },
        // A lease was asked for before the device was last heard of.
        (PartitionMode::Exclusive { lease }, _) => match left(observed.last_seen, lease) {
            Duration::ZERO => "its lease is over: it has stopped".to_owned(),
            rest => format!("lease {} left at most", span(rest)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_down_to_their_largest_unit() {
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 86_400].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "23h", "1d"]);
    }
}
