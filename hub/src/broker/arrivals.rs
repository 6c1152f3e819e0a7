//! How often one client may connect. Two machines with one identity throw each other out (MQTT 5, 3.1.4-3) for as long as they are
//! let in; after some rounds they have to wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::HUB_USER;

/// Connections of one client that are let in without a pause.
pub const ARRIVALS_AT_ONCE_MAX: u32 = 30;
/// Another one is let in each time this has passed.
pub const ARRIVAL_PERIOD: Duration = Duration::from_secs(5);
/// Clients that are counted; those that have not come for long are forgotten first.
const CLIENTS_MAX: usize = 50_000;

/// Only for names that were let in: nobody else can fill it.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<HashMap<String, Spent>>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    count: u32,
    since: Instant,
}

impl Spent {
    /// Without what time has given back.
    fn at(self, now: Instant) -> Self {
        let periods = now.saturating_duration_since(self.since).as_millis() / ARRIVAL_PERIOD.as_millis();
        let back = u32::try_from(periods).unwrap_or(u32::MAX);
        match back {
            0 => self,
            back => Self { count: self.count.saturating_sub(back), since: now },
        }
    }
}

impl Arrivals {
    /// May this client come now? Counts it if so.
    pub(super) fn take(&self, user: &str, now: Instant) -> bool {
        if user == HUB_USER {
            return true;
        }
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, spent| spent.at(now).count > 0);
        }
        let spent = clients.entry(user.to_owned()).or_insert(Spent { count: 0, since: now });
        *spent = spent.at(now);
        let has_room = spent.count < ARRIVALS_AT_ONCE_MAX;
        spent.count += u32::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_comes_too_often_waits_and_others_do_not() {
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        assert!((0..ARRIVALS_AT_ONCE_MAX).all(|_| arrivals.take("a", now)));
        assert!(!arrivals.take("a", now) && arrivals.take("b", now));
        assert!((0..1_000).all(|_| arrivals.take(HUB_USER, now)));
        let later = now + ARRIVAL_PERIOD;
        assert!(arrivals.take("a", later) && !arrivals.take("a", later));
        assert!(arrivals.take("a", now + ARRIVAL_PERIOD * 100));
    }
}
