//! Which faults there are, on which devices, and until when. A value without clock and I/O: the crew tells it the time and
//! makes what it says come true.
//!
//! Every fault ends by itself; all of them end with the process, because they are nowhere else.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Faults at the same time.
pub const FAULTS_MAX: usize = 64;
/// The longest fault.
pub const FAULT_TIME_MAX: Duration = Duration::from_secs(3600);
/// The longest delay of a link, each way.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// The shortest time between two resets of one fault.
pub const RESET_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The most by which a clock is set wrong, forwards or backwards: ten years.
pub const SKEW_MAX_MS: i64 = 10 * 366 * 24 * 3_600_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The link is cut and refused.
    Partition,
    /// Everything on the link takes longer, each way.
    Latency { delay: Duration },
    /// Without power; or reset again and again.
    Kill { every: Option<Duration> },
    /// The wall clock of the device is wrong.
    ClockSkew { skew_ms: i64 },
    /// The disk takes nothing more.
    DiskFull,
}

impl Fault {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Latency { .. } => "latency",
            Self::Kill { .. } => "kill",
            Self::ClockSkew { .. } => "clock-skew",
            Self::DiskFull => "disk-full",
        }
    }

    /// Whether it is played on the way to the broker.
    pub const fn needs_road(self) -> bool {
        match self {
            Self::Partition | Self::Latency { .. } => true,
            Self::Kill { .. } | Self::ClockSkew { .. } | Self::DiskFull => false,
        }
    }

    /// What is out of range, in words.
    pub fn check(self) -> Result<(), &'static str> {
        match self {
            Self::Latency { delay } if delay.is_zero() || delay > DELAY_MAX => {
                Err("a delay is between a millisecond and 60 s")
            }
            Self::Kill { every: Some(every) } if every < RESET_PAUSE_MIN => Err("resets are at least a second apart"),
            Self::ClockSkew { skew_ms } if skew_ms == 0 || skew_ms.abs() > SKEW_MAX_MS => {
                Err("a clock is wrong by at least a millisecond and at most ten years")
            }
            Self::Partition | Self::Latency { .. } | Self::Kill { .. } | Self::ClockSkew { .. } | Self::DiskFull => {
                Ok(())
            }
        }
    }
}

/// A fault that is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    pub id: u32,
    pub fault: Fault,
    pub devices: BTreeSet<String>,
    pub until: Instant,
    reset_at: Option<Instant>,
}

/// What one device meets, all faults together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub is_cut: bool,
    pub delay: Duration,
    pub is_off: bool,
    pub skew_ms: i64,
    pub is_disk_full: bool,
}

/// All faults.
#[derive(Debug, Default)]
pub struct Chaos {
    active: Vec<Active>,
    last: u32,
}

impl Chaos {
    /// Its number; nothing if there are too many.
    pub fn start(&mut self, now: Instant, fault: Fault, devices: BTreeSet<String>, lasts: Duration) -> Option<&Active> {
        if self.active.len() >= FAULTS_MAX {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        let reset_at = match fault {
            Fault::Kill { every: Some(_) } => Some(now),
            Fault::Kill { every: None }
            | Fault::Partition
            | Fault::Latency { .. }
            | Fault::ClockSkew { .. }
            | Fault::DiskFull => None,
        };
        let until = now + lasts.min(FAULT_TIME_MAX);
        self.active.push(Active { id: self.last, fault, devices, until, reset_at });
        self.active.last()
    }

    /// Ends one, or all. The numbers of those that were ended.
    pub fn stop(&mut self, id: Option<u32>) -> Vec<u32> {
        self.remove(|active| id.is_none_or(|id| active.id == id))
    }

    /// Ends what is over.
    pub fn expire(&mut self, now: Instant) -> Vec<u32> {
        self.remove(|active| active.until <= now)
    }

    fn remove(&mut self, is_over: impl Fn(&Active) -> bool) -> Vec<u32> {
        let (over, rest) = std::mem::take(&mut self.active).into_iter().partition::<Vec<_>, _>(is_over);
        self.active = rest;
        over.into_iter().map(|active| active.id).collect()
    }

    /// Devices that are reset now.
    pub fn resets(&mut self, now: Instant) -> BTreeSet<String> {
        let mut devices = BTreeSet::new();
        for active in &mut self.active {
            if let (Fault::Kill { every: Some(every) }, Some(at)) = (active.fault, active.reset_at)
                && at <= now
            {
                active.reset_at = Some(now + every);
                devices.extend(active.devices.iter().cloned());
            }
        }
        devices
    }

    pub fn weather(&self, device: &str) -> Weather {
        let mut weather = Weather::default();
        for active in self.active.iter().filter(|active| active.devices.contains(device)) {
            match active.fault {
                Fault::Partition => weather.is_cut = true,
                Fault::Latency { delay } => weather.delay = weather.delay.max(delay),
                Fault::Kill { every: None } => weather.is_off = true,
                Fault::Kill { every: Some(_) } => {}
                Fault::ClockSkew { skew_ms } => weather.skew_ms = weather.skew_ms.saturating_add(skew_ms),
                Fault::DiskFull => weather.is_disk_full = true,
            }
        }
        weather
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        self.active.iter().flat_map(|active| [Some(active.until), active.reset_at]).flatten().min()
    }

    pub fn active(&self) -> &[Active] {
        &self.active
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn on(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn faults_add_up_on_a_device_and_each_ends_at_its_own_time() {
        let (mut chaos, now) = (Chaos::default(), Instant::now());
        let delay = Duration::from_millis(300);
        chaos.start(now, Fault::Latency { delay }, on(&["a", "b"]), MINUTE).unwrap();
        chaos.start(now, Fault::Latency { delay: delay / 2 }, on(&["a"]), MINUTE * 2).unwrap();
        chaos.start(now, Fault::Partition, on(&["b"]), MINUTE * 3).unwrap();
        chaos.start(now, Fault::DiskFull, on(&["b"]), MINUTE * 4).unwrap();
        assert_eq!(chaos.weather("a"), Weather { delay, ..Weather::default() });
        assert_eq!(chaos.weather("b"), Weather { delay, is_cut: true, is_disk_full: true, ..Weather::default() });
        assert_eq!(chaos.weather("c"), Weather::default());
        assert_eq!(chaos.due(), Some(now + MINUTE));
        assert_eq!(chaos.expire(now + MINUTE), [1]);
        assert_eq!(chaos.weather("a").delay, delay / 2);
        assert_eq!(chaos.stop(Some(3)), [3]);
        assert!(!chaos.weather("b").is_cut);
        assert_eq!(chaos.stop(Some(3)), [0u32; 0]);
        assert_eq!(chaos.stop(None), [2, 4]);
        assert_eq!((chaos.due(), chaos.active().len()), (None, 0));
    }

    #[test]
    fn resets_come_at_once_and_then_in_their_rhythm() {
        let (mut chaos, now) = (Chaos::default(), Instant::now());
        let every = Duration::from_secs(20);
        chaos.start(now, Fault::Kill { every: Some(every) }, on(&["a"]), MINUTE).unwrap();
        assert_eq!(chaos.resets(now), on(&["a"]));
        assert_eq!(chaos.resets(now), on(&[]));
        assert!(!chaos.weather("a").is_off, "it starts again by itself");
        assert_eq!(chaos.due(), Some(now + every));
        assert_eq!(chaos.resets(now + every), on(&["a"]));
    }

    #[test]
    fn there_are_at_most_so_many_faults_and_none_lasts_for_ever() {
        let (mut chaos, now) = (Chaos::default(), Instant::now());
        for _ in 0..FAULTS_MAX {
            chaos.start(now, Fault::Partition, on(&["a"]), MINUTE * 600).unwrap();
        }
        assert!(chaos.start(now, Fault::Partition, on(&["a"]), MINUTE).is_none());
        assert_eq!(chaos.expire(now + FAULT_TIME_MAX).len(), FAULTS_MAX);
    }

    #[test]
    fn what_is_out_of_range_is_said() {
        let latency = |delay| Fault::Latency { delay }.check();
        assert!(latency(Duration::ZERO).is_err() && latency(DELAY_MAX).is_ok());
        assert!(latency(DELAY_MAX + Duration::from_millis(1)).is_err());
        let skew = |skew_ms| Fault::ClockSkew { skew_ms }.check();
        assert!(skew(0).is_err() && skew(SKEW_MAX_MS).is_ok() && skew(-SKEW_MAX_MS).is_ok());
        assert!(skew(SKEW_MAX_MS + 1).is_err());
        let kill = |every| Fault::Kill { every }.check();
        assert!(kill(None).is_ok() && kill(Some(RESET_PAUSE_MIN)).is_ok());
        assert!(kill(Some(RESET_PAUSE_MIN - Duration::from_millis(1))).is_err());
    }
}
