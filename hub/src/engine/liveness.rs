//! Who has not been heard of in time. A verdict changes what is shown and nothing else: no work moves.
//!
//! While the hub's own link is down, and shortly after, nobody is called lost: the silence may be the hub's.

use super::Engine;
use super::device::Presence;
use super::port::{Instant, Now};
use super::session::NOT_APPROVED_RETRY_S;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A device that never spoke in a session waits for its approval and sends no heartbeats: it asks again after the time it
/// was told, and at most a minute of jitter.
const WAITING_PATIENCE: Duration = Duration::from_secs(NOT_APPROVED_RETRY_S as u64 * 3 / 2 + 60);

/// When to look at whom; each online device has one entry.
#[derive(Debug, Default)]
pub(super) struct Watch {
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// No verdicts before.
    grace_until: Instant,
}

#[cfg(test)]
impl Watch {
    pub fn len(&self) -> usize {
        self.due.len()
    }
}

impl Engine {
    fn patience(&self) -> Duration {
        // One and a half heartbeats.
        Duration::from_millis(u64::from(self.heartbeat_s()) * 1_500)
    }

    pub(super) fn watch_presence(&mut self, now: Now, index: u32) {
        let due = now.monotonic.after(self.patience());
        if let Some(device) = self.state.devices.get_mut(index)
            && device.observed.watched_at.is_none()
        {
            device.observed.watched_at = Some(due);
            self.watch.due.push(Reverse((due, index)));
        }
    }

    pub(super) fn presence_grace(&mut self, now: Now) {
        self.watch.grace_until = now.monotonic.after(self.config.spread).after(self.patience());
    }

    pub(super) fn presence_run(&mut self, now: Now) {
        if !self.link.is_up {
            return;
        }
        let patience = self.patience();
        while let Some(Reverse((due, index))) = self.watch.due.peek().copied()
            && due <= now.monotonic
        {
            self.watch.due.pop();
            let Some(device) = self.state.devices.get_mut(index) else { continue };
            // Of a device that had this index before.
            if device.observed.watched_at.take_if(|at| *at == due).is_none() {
                continue;
            }
            if device.observed.presence != Presence::Online {
                continue;
            }
            let patience = if device.observed.current.is_some() { patience } else { WAITING_PATIENCE };
            let quiet_until = device.observed.last_seen.unwrap_or_default().after(patience).max(self.watch.grace_until);
            if quiet_until > now.monotonic {
                device.observed.watched_at = Some(quiet_until);
                self.watch.due.push(Reverse((quiet_until, index)));
            } else {
                self.lost(now, index, "no heartbeat in time");
            }
        }
    }

    pub(super) fn presence_timeout(&self) -> Option<Instant> {
        self.watch.due.peek().map(|Reverse((due, _))| *due).filter(|_| self.link.is_up)
    }
}
