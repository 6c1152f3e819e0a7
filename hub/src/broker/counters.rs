//! What the embedded broker counted since it started: every limit that was reached is visible here.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connects_refused: AtomicU64,
    pub(super) connects_damped: AtomicU64,
    pub(super) publishes_refused: AtomicU64,
    pub(super) subscribes_refused: AtomicU64,
    pub(super) retained_refused: AtomicU64,
    pub(super) queue_dropped: AtomicU64,
    pub(super) oversize_dropped: AtomicU64,
    pub(super) kicked: AtomicU64,
}

pub(super) fn raise(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A reading of the broker's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerCounters {
    /// Sessions now, connected or kept for a client that is away.
    pub sessions: u64,
    /// Retained messages now.
    pub retained: u64,
    /// Bytes of topics and payloads of the retained messages now.
    pub retained_bytes: u64,
    /// Connection attempts that were not authorized.
    pub connects_refused: u64,
    /// Connections of known clients that came too often.
    pub connects_damped: u64,
    /// Publishes that were not authorized.
    pub publishes_refused: u64,
    /// Subscriptions that were not authorized.
    pub subscribes_refused: u64,
    /// Retained publishes refused because the store was full.
    pub retained_refused: u64,
    /// Messages dropped because a client's queue was full.
    pub queue_dropped: u64,
    /// Messages dropped because they exceed what the receiving client accepts.
    pub oversize_dropped: u64,
    /// Sessions ended by the hub.
    pub kicked: u64,
}

impl Counters {
    pub(super) fn read(&self) -> BrokerCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerCounters {
            connects_refused: get(&self.connects_refused),
            connects_damped: get(&self.connects_damped),
            publishes_refused: get(&self.publishes_refused),
            subscribes_refused: get(&self.subscribes_refused),
            retained_refused: get(&self.retained_refused),
            queue_dropped: get(&self.queue_dropped),
            oversize_dropped: get(&self.oversize_dropped),
            kicked: get(&self.kicked),
            ..BrokerCounters::default()
        }
    }
}
