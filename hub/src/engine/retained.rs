//! What an embedded broker holds before anybody can connect to it: what the database would have it hold, so that a device
//! which comes back together with its hub is told nothing that it knows.
//!
//! Every set with the chain before it, and `hub/state` last: a hub reads there that nothing has to be published again. A
//! broker that holds less has no `hub/state` and is filled by the engine, as any broker that has lost something.

use super::admission::{HELLOS_PER_SECOND, SPREAD, spread};
use crate::commit::{DesiredRow, Loaded};
use std::collections::BTreeSet;
use wire::DeviceId;
use wire::frame::encode_plain;
use wire::hello::HubState;
use wire::topic::{Down, Topic};

/// Bytes around a set's body.
pub(super) const SET_OVERHEAD_BYTES: usize = 256;
pub(super) const HUB_STATE_BYTES_MAX: usize = 64;

/// Topics and payloads in the order in which they are to be stored. Empty while something was forgotten: what a device holds
/// then has to be heard before anything is said to it.
pub fn retained(loaded: &Loaded, trust: &[u8], instance: wire::Instance) -> Vec<(String, Vec<u8>)> {
    if loaded.recovery.is_some() {
        return Vec::new();
    }
    let fleet = &loaded.fleet;
    let known: BTreeSet<DeviceId> = loaded.devices.iter().map(|(keys, _)| keys.device).collect();
    let mut out = Vec::with_capacity(2 * loaded.desired.len() + 1);
    for row in loaded.desired.iter().filter(|row| known.contains(&row.device)) {
        let topic = |down| Topic::Down(row.device, down).print(fleet).map(|topic| topic.as_str().to_owned());
        let (Ok(chain), Ok(desired), Some(payload)) = (topic(Down::Trust), topic(Down::Desired), encoded(row)) else {
            // The engine says why when it comes to this set.
            return Vec::new();
        };
        if !trust.is_empty() {
            out.push((chain, trust.to_vec()));
        }
        out.push((desired, payload));
    }
    let fence = loaded.leases.iter().map(|row| row.fence).max().unwrap_or_default();
    let spread = spread(loaded.devices.len(), SPREAD, HELLOS_PER_SECOND);
    let spread_ms = u32::try_from(spread.as_millis()).unwrap_or(u32::MAX);
    let state = HubState { incarnation: loaded.incarnation, spread_ms, watermark: loaded.sequence, fence, instance };
    let mut buffer = [0; HUB_STATE_BYTES_MAX];
    match (Topic::HubState.print(fleet), encode_plain(&mut buffer, &state)) {
        (Ok(topic), Ok(frame)) => out.push((topic.as_str().to_owned(), frame.to_vec())),
        _ => return Vec::new(),
    }
    out
}

fn encoded(row: &DesiredRow) -> Option<Vec<u8>> {
    let mut buffer = vec![0; row.body.len() + SET_OVERHEAD_BYTES];
    let length = row.signed.encode(&mut buffer, &row.body).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}
