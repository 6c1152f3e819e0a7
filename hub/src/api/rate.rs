//! How often one caller may ask: a token bucket for each token, and for each address that shows none.
//!
//! A caller over its rate is told when to come back; the others do not notice. The table is bounded: whoever has not asked
//! for a while is forgotten, which only gives its full burst back.

use super::problem::{Refused, problem};
use crate::problem_code::ProblemCode;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Callers that are remembered.
pub const RATE_CALLERS_MAX: usize = 16_384;

/// Requests per second in the long run, and at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// What callers may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// GET by one token or device.
    pub reads: Rate,
    /// Everything else by one token.
    pub writes: Rate,
    /// Everything by the administrator's token of the data directory: its holder owns the hub, and sets fleets up.
    pub admin: Rate,
    /// Requests of one address that show no valid credentials.
    pub strangers: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            reads: Rate { per_second: 200, burst: 2_000 },
            writes: Rate { per_second: 50, burst: 1_000 },
            admin: Rate { per_second: 1_000, burst: 20_000 },
            strangers: Rate { per_second: 20, burst: 400 },
        }
    }
}

/// Whose bucket, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bucket {
    Reads(String),
    Writes(String),
    Admin,
    Stranger(std::net::IpAddr),
}

struct Level {
    /// Requests left, as of `at`.
    left: f64,
    at: Instant,
}

/// The buckets of all callers.
#[derive(Default)]
pub struct Limiter {
    levels: Mutex<HashMap<Bucket, Level>>,
}

impl Limiter {
    /// Takes one request; or says how long to wait.
    pub(super) fn take(&self, now: Instant, bucket: Bucket, rates: &Rates) -> Result<(), Duration> {
        let rate = match bucket {
            Bucket::Reads(_) => rates.reads,
            Bucket::Writes(_) => rates.writes,
            Bucket::Admin => rates.admin,
            Bucket::Stranger(_) => rates.strangers,
        };
        let (per_second, burst) = (f64::from(rate.per_second.max(1)), f64::from(rate.burst.max(1)));
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.len() >= RATE_CALLERS_MAX && !levels.contains_key(&bucket) {
            forget(&mut levels, now);
        }
        let level = levels.entry(bucket).or_insert(Level { left: burst, at: now });
        level.left = (level.left + now.saturating_duration_since(level.at).as_secs_f64() * per_second).min(burst);
        level.at = now;
        if level.left >= 1.0 {
            level.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - level.left) / per_second))
    }
}

/// Makes room: the half that asked longest ago goes.
fn forget(levels: &mut HashMap<Bucket, Level>, now: Instant) {
    let mut ages: Vec<Duration> = levels.values().map(|level| now.saturating_duration_since(level.at)).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    let mut room = RATE_CALLERS_MAX / 2;
    levels.retain(|_, level| {
        let is_old = now.saturating_duration_since(level.at) >= median && room > 0;
        room -= usize::from(is_old);
        !is_old
    });
}

/// The answer to a caller that asks too often.
pub(super) fn too_often(wait: Duration) -> Refused {
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    Refused(problem(
        ProblemCode::RateLimited,
        format!("this caller asks more often than it may; the next request is taken in {seconds} s"),
        &["wait as long as Retry-After says", "ask for larger pages, or watch instead of listing again"],
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate_and_no_other_notices() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let rates = Rates { reads: Rate { per_second: 2, burst: 3 }, ..Rates::default() };
        let take = |name: &str, ms| limiter.take(start + Duration::from_millis(ms), Bucket::Reads(name.into()), &rates);
        assert_eq!([0, 0, 0].map(|at| take("a", at)), [Ok(()); 3]);
        assert_eq!(take("a", 0), Err(Duration::from_millis(500)));
        assert_eq!(take("b", 0), Ok(()));
        assert_eq!(take("a", 500), Ok(()));
        assert!(take("a", 500).is_err());
        assert_eq!([10_000; 3].map(|at| take("a", at)), [Ok(()); 3], "never more than the burst");
        assert!(take("a", 10_000).is_err());
    }

    #[test]
    fn each_kind_of_caller_has_exactly_its_burst_and_then_its_rate() {
        let (limiter, start, rates) = (Limiter::default(), Instant::now(), Rates::default());
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        for (bucket, rate) in [
            (Bucket::Reads("a".into()), rates.reads),
            (Bucket::Writes("a".into()), rates.writes),
            (Bucket::Admin, rates.admin),
            (Bucket::Stranger(address), rates.strangers),
        ] {
            let take = |now| limiter.take(now, bucket.clone(), &rates);
            assert!((0..rate.burst).all(|_| take(start).is_ok()), "{bucket:?}");
            let wait = take(start).unwrap_err();
            let one = Duration::from_secs(1) / rate.per_second;
            assert!(wait <= one && wait + Duration::from_micros(1) >= one, "{bucket:?}: {wait:?}");
            assert!(take(start + one / 2).is_err(), "{bucket:?}");
            let second = start + Duration::from_secs(1) + one / 2;
            assert!((0..rate.per_second).all(|_| take(second).is_ok()), "{bucket:?}");
            assert!(take(second).is_err(), "{bucket:?}");
        }
    }

    #[test]
    fn callers_are_bounded_and_the_latest_are_remembered() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let rates = Rates { reads: Rate { per_second: 1, burst: 1 }, ..Rates::default() };
        for n in 0..=RATE_CALLERS_MAX as u64 {
            limiter.take(start + Duration::from_micros(n), Bucket::Reads(n.to_string()), &rates).unwrap();
        }
        assert!(limiter.levels.lock().unwrap().len() <= RATE_CALLERS_MAX);
        let last = Bucket::Reads((RATE_CALLERS_MAX - 1).to_string());
        assert!(limiter.take(start + Duration::from_millis(20), last, &rates).is_err());
    }
}
