//! Waves: a change reaches its targets in growing groups, and stops when too many of them are worse for it.
//!
//! A value and a function, for whatever is rolled out: firmware today. Who the targets are, what is done to them and whether one is
//! right afterwards is the caller's to say; here is only how many of them, in their order, it may reach. Must never reach fewer than
//! it did, know what a target is, or read a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Waves of one plan.
pub const WAVES_MAX: usize = 16;

/// How many of the targets, counted from the first: `5`, `10%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Count(u32),
    /// From 1 to 100, rounded up.
    Percent(u8),
}

impl Size {
    pub fn parse(text: &str) -> Option<Self> {
        // Digits alone: a sign or a blank is a slip.
        let number = |text: &str| -> Option<u32> {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| is_number && *number > 0)
        };
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = number(percent).and_then(|percent| u8::try_from(percent).ok());
                percent.filter(|percent| *percent <= 100).map(Self::Percent)
            }
            None => number(text).map(Self::Count),
        }
    }

    fn of(self, targets: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).min(targets),
            Self::Percent(percent) => targets.saturating_mul(percent.into()).div_ceil(100).min(targets),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How a change is to spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Each counts from the first target: a wave that is smaller than one before it reaches nobody new.
    pub waves: Vec<Size>,
    /// With more targets that are worse for it, nobody else is reached.
    pub failures_max: u32,
    /// A wave is right for so long before the next one begins.
    pub soak_ms: u64,
}

/// How one target does with the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not reached yet, or on its way.
    Pending,
    /// Nothing is heard of it: it will be changed when it is back, and holds nobody up.
    Away,
    Right,
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Phase {
    Running,
    /// An operator wants nobody else to be reached for now.
    Paused,
    /// Too many are worse for it.
    Halted,
    /// Everybody was reached, and all that are to be right are.
    Done,
    /// An operator ended it.
    Aborted,
}

impl Phase {
    /// It goes on, or may.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// How far it is: what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub phase: Phase,
    /// Counts from zero.
    pub wave: usize,
    /// Since when this wave is right, in milliseconds since 1970.
    pub settled_ms: Option<u64>,
}

impl Progress {
    pub const BEGIN: Self = Self { phase: Phase::Running, wave: 0, settled_ms: None };
}

impl Plan {
    /// How many of the targets may be changed in a wave.
    pub fn reach(&self, wave: usize, targets: usize) -> usize {
        self.waves.iter().take(wave.saturating_add(1)).map(|size| size.of(targets)).max().unwrap_or(0)
    }

    /// What follows from how the targets do, in their order.
    pub fn step(&self, progress: Progress, verdicts: &[Verdict], now_ms: u64) -> Progress {
        if progress.phase != Phase::Running {
            return progress;
        }
        let reached = verdicts.get(..self.reach(progress.wave, verdicts.len())).unwrap_or(verdicts);
        let count = |wanted: Verdict| reached.iter().filter(|verdict| **verdict == wanted).count();
        let wrong = verdicts.iter().filter(|verdict| **verdict == Verdict::Wrong).count();
        if wrong > usize::try_from(self.failures_max).unwrap_or(usize::MAX) {
            return Progress { phase: Phase::Halted, settled_ms: None, ..progress };
        }
        let away = count(Verdict::Away);
        // Somebody has to show that it works before others follow.
        if count(Verdict::Pending) > 0 || (away > 0 && count(Verdict::Right) == 0) {
            return Progress { settled_ms: None, ..progress };
        }
        let since = progress.settled_ms.unwrap_or(now_ms);
        if now_ms.saturating_sub(since) < self.soak_ms {
            return Progress { settled_ms: Some(since), ..progress };
        }
        if progress.wave + 1 < self.waves.len() {
            return Progress { wave: progress.wave + 1, settled_ms: None, ..progress };
        }
        let phase = if away == 0 { Phase::Done } else { Phase::Running };
        Progress { phase, settled_ms: Some(since), ..progress }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn plan(waves: &[&str], failures_max: u32, soak_ms: u64) -> Plan {
        Plan { waves: waves.iter().map(|text| Size::parse(text).unwrap()).collect(), failures_max, soak_ms }
    }

    #[test]
    fn sizes_are_counts_or_percents_and_nothing_else() {
        assert_eq!(Size::parse("1"), Some(Size::Count(1)));
        assert_eq!(Size::parse("100%"), Some(Size::Percent(100)));
        for text in ["", "0", "0%", "101%", "-1", "+1", "1.5", "%", "1 %", "ten", "99999999999"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
        assert_eq!((Size::Count(5).to_string(), Size::Percent(10).to_string()), ("5".to_owned(), "10%".to_owned()));
    }

    #[test]
    fn each_wave_reaches_more_and_a_percent_is_rounded_up() {
        let plan = plan(&["1", "10%", "100%"], 0, 0);
        assert_eq!([0, 1, 2].map(|wave| plan.reach(wave, 31)), [1, 4, 31]);
        assert_eq!([0, 1, 2, 9].map(|wave| plan.reach(wave, 3)), [1, 1, 3, 3]);
        assert_eq!(plan.reach(0, 0), 0);
    }

    #[test]
    fn a_wave_that_is_right_soaks_and_the_next_one_begins() {
        let plan = plan(&["1", "100%"], 0, 1000);
        let mut progress = Progress::BEGIN;
        progress = plan.step(progress, &[Verdict::Pending; 3], 5000);
        assert_eq!(progress, Progress::BEGIN);
        let one = [Verdict::Right, Verdict::Pending, Verdict::Pending];
        progress = plan.step(progress, &one, 6000);
        assert_eq!(progress.settled_ms, Some(6000));
        // It begins to soak anew when it was not right in between.
        progress = plan.step(progress, &[Verdict::Pending; 3], 6500);
        progress = plan.step(progress, &one, 6600);
        assert_eq!(plan.step(progress, &one, 7500).wave, 0);
        progress = plan.step(progress, &one, 7600);
        assert_eq!((progress.wave, progress.settled_ms), (1, None));
        progress = plan.step(progress, &[Verdict::Right; 3], 8000);
        progress = plan.step(progress, &[Verdict::Right; 3], 9000);
        assert_eq!(progress.phase, Phase::Done);
    }

    #[test]
    fn too_many_that_are_worse_halt_it_for_good() {
        let plan = plan(&["2", "100%"], 1, 0);
        let verdicts = [Verdict::Wrong, Verdict::Right, Verdict::Pending];
        let progress = plan.step(Progress::BEGIN, &verdicts, 0);
        assert_eq!((progress.phase, progress.wave), (Phase::Running, 1));
        let halted = plan.step(progress, &[Verdict::Wrong, Verdict::Right, Verdict::Wrong], 0);
        assert_eq!(halted.phase, Phase::Halted);
        assert_eq!(plan.step(halted, &[Verdict::Right; 3], u64::MAX), halted);
    }

    #[test]
    fn who_is_away_holds_nobody_up_unless_nobody_has_shown_that_it_works() {
        let plan = plan(&["2", "100%"], 0, 0);
        let away = [Verdict::Away, Verdict::Away, Verdict::Pending];
        assert_eq!(plan.step(Progress::BEGIN, &away, 0), Progress::BEGIN);
        let some = [Verdict::Away, Verdict::Right, Verdict::Pending];
        assert_eq!(plan.step(Progress::BEGIN, &some, 0).wave, 1);
        // In the end it waits for them.
        let last = Progress { wave: 1, ..Progress::BEGIN };
        let most = [Verdict::Away, Verdict::Right, Verdict::Right];
        assert_eq!(plan.step(last, &most, 0).phase, Phase::Running);
        assert_eq!(plan.step(last, &[Verdict::Right; 3], 0).phase, Phase::Done);
    }

    fn sizes() -> impl Strategy<Value = Vec<Size>> {
        vec(prop_oneof![(1..50u32).prop_map(Size::Count), (1..=100u8).prop_map(Size::Percent)], 1..6)
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![Just(Verdict::Pending), Just(Verdict::Away), Just(Verdict::Right), Just(Verdict::Wrong)]
    }

    proptest! {
        #[test]
        fn it_never_reaches_fewer_or_more_than_there_are(waves in sizes(), targets in 0..200usize) {
            let plan = Plan { waves, failures_max: 0, soak_ms: 0 };
            let reached: Vec<usize> = (0..8).map(|wave| plan.reach(wave, targets)).collect();
            prop_assert!(reached.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(reached.iter().all(|reach| *reach <= targets && (*reach > 0) == (targets > 0)));
        }

        /// A fleet in which some targets are worse for the change, each judged some steps after it was reached.
        #[test]
        fn no_more_are_worse_than_one_wave_and_the_limit_explain(
            waves in sizes(), failures_max in 0..5u32, soak_ms in 0..3000u64, fate in vec(any::<bool>(), 1..120), delay in 0..4u64,
        ) {
            let plan = Plan { waves, failures_max, soak_ms };
            let targets = fate.len();
            let mut reached_at = vec![None; targets];
            let mut progress = Progress::BEGIN;
            let mut widest = 0;
            for step in 0..500u64 {
                let reach = plan.reach(progress.wave, targets);
                prop_assert!(reach >= widest);
                widest = reach;
                if progress.phase == Phase::Running {
                    for at in &mut reached_at[..reach] {
                        at.get_or_insert(step);
                    }
                }
                let verdicts: Vec<Verdict> = reached_at
                    .iter()
                    .zip(&fate)
                    .map(|(at, is_right)| match at {
                        Some(at) if step - at >= delay && *is_right => Verdict::Right,
                        Some(at) if step - at >= delay => Verdict::Wrong,
                        Some(_) | None => Verdict::Pending,
                    })
                    .collect();
                let next = plan.step(progress, &verdicts, step * 500);
                prop_assert!(next.wave == progress.wave || next.wave == progress.wave + 1);
                progress = next;
            }
            let wrong = reached_at.iter().zip(&fate).filter(|(at, is_right)| at.is_some() && !**is_right).count();
            let limit = failures_max as usize;
            match progress.phase {
                // Everybody that it was for was reached, and few enough are worse.
                Phase::Done => prop_assert!(wrong <= limit && reached_at[..plan.reach(usize::MAX - 1, targets)].iter().all(Option::is_some)),
                Phase::Halted => prop_assert!(wrong > limit),
                Phase::Running | Phase::Paused | Phase::Aborted => prop_assert!(false, "it ends: {progress:?}"),
            }
            // What was right before the last wave was reached stays the only harm beyond the limit.
            let before = if progress.wave == 0 { 0 } else { plan.reach(progress.wave - 1, targets) };
            let earlier = fate[..before].iter().filter(|is_right| !**is_right).count();
            prop_assert!(progress.phase == Phase::Done || earlier <= limit);
        }

        #[test]
        fn nothing_moves_what_is_not_running(waves in sizes(), verdicts in vec(verdict(), 0..20), now in any::<u64>()) {
            let plan = Plan { waves, failures_max: 0, soak_ms: 0 };
            for phase in [Phase::Paused, Phase::Halted, Phase::Done, Phase::Aborted] {
                let progress = Progress { phase, ..Progress::BEGIN };
                prop_assert_eq!(plan.step(progress, &verdicts, now), progress);
            }
        }
    }
}
