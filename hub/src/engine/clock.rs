//! Whether the time of day may be signed: the wall clock is compared with the clock that only ever runs.
//!
//! A wall clock that jumps is either wrong now or was wrong before, and devices must not learn which by following it.
//! While that is open no Fresh is signed: what runs goes on, new code waits. It ends when the clock is back, when the
//! hub is started again, or when the new time has been steady for so long that everybody could look; a hub without a
//! battery for its clock must come up without anybody's help.

use super::Engine;
use super::event::Draft;
use super::port::{Instant, Now};
use crate::model::{Condition, ConditionStatus};
use std::time::Duration;

/// More than this between two turns of the engine is a jump, in both directions.
pub const JUMP_MAX: Duration = Duration::from_secs(5 * 60);
/// A new time that was steady for so long is believed.
pub const STEADY_AFTER: Duration = Duration::from_secs(15 * 60);

/// Wall time minus running time, in milliseconds.
type Offset = i64;

#[derive(Debug, Default)]
pub(super) struct WallClock {
    trusted: Option<Offset>,
    jump: Option<Jump>,
}

#[derive(Clone, Copy, Debug)]
struct Jump {
    offset: Offset,
    since: Instant,
}

/// What a look found that the one before did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Jumped { by_ms: i64 },
    Back,
    Believed,
}

fn offset(now: Now) -> Offset {
    let narrow = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    narrow(now.wall_ms).saturating_sub(narrow(now.monotonic.0))
}

fn is_jump(from: Offset, to: Offset) -> bool {
    Duration::from_millis(from.abs_diff(to)) > JUMP_MAX
}

impl WallClock {
    /// Steps up to the limit are followed: that is how clocks are set right.
    fn look(&mut self, now: Now) -> Option<News> {
        let offset = offset(now);
        let trusted = *self.trusted.get_or_insert(offset);
        if !is_jump(trusted, offset) {
            self.trusted = Some(offset);
            return self.jump.take().map(|_| News::Back);
        }
        match self.jump {
            Some(jump) if is_jump(jump.offset, offset) => {}
            Some(jump) if now.monotonic.since(jump.since) >= STEADY_AFTER => {
                *self = Self { trusted: Some(offset), jump: None };
                return Some(News::Believed);
            }
            Some(jump) => {
                self.jump = Some(Jump { offset, ..jump });
                return None;
            }
            None => {}
        }
        self.jump = Some(Jump { offset, since: now.monotonic });
        Some(News::Jumped { by_ms: offset.saturating_sub(trusted) })
    }

    /// No time may be signed now.
    pub fn is_in_doubt(&self) -> bool {
        self.jump.is_some()
    }
}

impl Engine {
    /// Once per input, before it is looked at.
    pub(super) fn clock_look(&mut self, now: Now) {
        let Some(news) = self.clock.look(now) else { return };
        let (minutes, steady) = (|ms: i64| ms.unsigned_abs() / 60_000, STEADY_AFTER.as_secs() / 60);
        let (reason, text) = match news {
            News::Jumped { by_ms } => {
                let direction = if by_ms < 0 { "back" } else { "ahead" };
                let by = minutes(by_ms);
                tracing::warn!(by_ms, "the hub's clock jumped: no Fresh is signed");
                let text = format!(
                    "the hub's clock jumped {by} minutes {direction}: devices get no new time, and new code waits. \
                     Check the clock; if it is right, restart the hub, or it is believed after {steady} steady minutes"
                );
                ("ClockJumped", text)
            }
            News::Back => ("ClockBack", "the hub's clock is back where it was: devices are answered again".to_owned()),
            News::Believed => {
                ("ClockBelieved", format!("the hub's new time was steady for {steady} minutes: devices get it now"))
            }
        };
        self.tell(now, Draft::hub(reason, text));
    }

    /// For the hub's status; nothing while all is well.
    pub(super) fn clock_condition(&self) -> Option<Condition> {
        self.clock.is_in_doubt().then(|| Condition {
            name: "ClockInDoubt".to_owned(),
            status: ConditionStatus::True,
            reason: "ClockJumped".to_owned(),
            message: format!(
                "the hub's clock jumped by more than {} minutes: no Fresh is signed until it is back, steady for {} \
                 minutes, or the hub is restarted",
                JUMP_MAX.as_secs() / 60,
                STEADY_AFTER.as_secs() / 60
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const START_MS: u64 = 1_700_000_000_000;

    fn at(monotonic_minutes: u64, wall_ms: u64) -> Now {
        Now { monotonic: Instant(monotonic_minutes * MINUTE), wall_ms }
    }

    #[test]
    fn small_steps_and_a_long_sleep_are_no_jump() {
        let mut clock = WallClock::default();
        assert_eq!(clock.look(at(0, START_MS)), None);
        assert_eq!(clock.look(at(1, START_MS + 5 * MINUTE)), None);
        assert_eq!(clock.look(at(2, START_MS + 10 * MINUTE)), None, "followed in small steps");
        // Both clocks count suspend.
        assert_eq!(clock.look(at(10_002, START_MS + 10_010 * MINUTE)), None);
        assert!(!clock.is_in_doubt());
    }

    #[test]
    fn a_clock_that_comes_back_is_trusted_at_once() {
        let mut clock = WallClock::default();
        clock.look(at(0, START_MS));
        assert_eq!(clock.look(at(0, START_MS - 6 * MINUTE)), Some(News::Jumped { by_ms: -360_000 }));
        assert!(clock.is_in_doubt());
        assert_eq!(clock.look(at(1, START_MS + MINUTE)), Some(News::Back));
        assert!(!clock.is_in_doubt());
    }

    #[test]
    fn a_new_time_is_believed_only_after_it_was_steady() {
        let mut clock = WallClock::default();
        clock.look(at(0, 0));
        assert!(matches!(clock.look(at(1, START_MS)), Some(News::Jumped { .. })));
        assert_eq!(clock.look(at(15, START_MS + 14 * MINUTE)), None);
        assert!(matches!(clock.look(at(15, 2 * START_MS)), Some(News::Jumped { .. })), "it begins anew");
        assert_eq!(clock.look(at(16, 2 * START_MS + MINUTE)), None);
        assert_eq!(clock.look(at(30, 2 * START_MS + 15 * MINUTE)), Some(News::Believed));
        assert!(!clock.is_in_doubt());
    }
}
