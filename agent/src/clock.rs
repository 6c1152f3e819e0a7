//! The agent's clock: monotonic, counting suspend (CLOCK_BOOTTIME), and a timer on the same clock.
//!
//! A timer of the executor would stand still while the machine sleeps. Must never be used to tell the time of day.
use rustix::fd::OwnedFd;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use smol::Async;
use std::io;
use std::time::Duration;

/// Time since the machine started, suspend included.
pub fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A timer that is due at a moment of `boot_time`, even when the machine slept over it.
#[derive(Debug)]
pub struct BootTimer {
    timer: Async<OwnedFd>,
    armed: Option<Duration>,
}

impl BootTimer {
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { timer: Async::new_nonblocking(timer)?, armed: None })
    }

    /// Waits until `moment`; `None`: for ever. Dropping the wait is harmless.
    pub async fn until(&mut self, moment: Option<Duration>) -> io::Result<()> {
        if self.armed != moment {
            self.arm(moment)?;
        }
        self.timer.readable().await?;
        // Disarming also makes it unreadable; the count of expirations is of no use.
        self.arm(None)
    }

    fn arm(&mut self, moment: Option<Duration>) -> io::Result<()> {
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A zero time would disarm: at least one nanosecond.
        let due = moment.map_or(nothing, |moment| {
            let moment = moment.max(Duration::from_nanos(1));
            let tv_sec = i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
            Timespec { tv_sec, tv_nsec: i64::from(moment.subsec_nanos()) }
        });
        let spec = Itimerspec { it_interval: nothing, it_value: due };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        self.armed = moment;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_timer_is_due_at_its_moment_and_again() {
        smol::block_on(async {
            let mut timer = BootTimer::new().unwrap();
            for _ in 0..3 {
                let moment = boot_time() + Duration::from_millis(5);
                timer.until(Some(moment)).await.unwrap();
                assert!(boot_time() >= moment);
            }
            // A moment in the past is due at once.
            timer.until(Some(Duration::ZERO)).await.unwrap();
        });
    }
}
