//! The guard against calling a large part of the fleet lost when it is more likely that the hub cannot hear it.
//!
//! It looks at the whole fleet when verdicts are due. The loss of one named site is no mass loss while others are heard: that
//! is what `replace` and `grace` of each workload are for. A listener that takes no connection is one of any size: who lost it
//! cannot come back. It goes when enough are back, or when an operator says that they
//! are lost. It delays verdicts and never makes one.

use super::Engine;
use super::device::Presence;
use super::event::Draft;
use super::pending::Release;
use super::port::{Answer, Instant, Now, Ticket};
use crate::commit::AuditEntry;
use crate::model::{Condition, ConditionStatus, ObjectKey};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// More than this share of the fleet gone at once is a mass loss.
pub const MASS_LOSS_PERCENT: u64 = 30;
/// And at least so many devices: in a small fleet a few are a large share.
pub const MASS_LOSS_DEVICES_MIN: u64 = 8;
/// The guard goes when no more than this share is missing still.
pub const MASS_LOSS_OVER_PERCENT: u64 = 15;
/// While the guard holds, the fleet is looked at so often.
const GUARD_PERIOD: Duration = Duration::from_secs(1);

/// Verdicts are held back.
#[derive(Debug)]
pub(super) struct Guard {
    /// Losses from then on belong to it, also those that were called before it tripped.
    from: Instant,
    missing: u64,
    known: u64,
    why: Why,
    pub look_at: Instant,
}

/// Why verdicts are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Share,
    /// No device can come through the broker's listener.
    Listener,
}

impl Why {
    const fn event(self) -> &'static str {
        match self {
            Self::Share => "MassLoss",
            Self::Listener => "ListenerLost",
        }
    }

    const fn condition(self) -> &'static str {
        match self {
            Self::Share => "ManyDevicesVanished",
            Self::Listener => "ListenerLost",
        }
    }

    fn text(self, missing: u64, known: u64, broker: &str) -> String {
        match self {
            Self::Share => format!("{missing} of {known} devices vanished at once: {}", what_now()),
            Self::Listener => format!(
                "the broker's listener for devices ({broker}) takes no connection, and {missing} of {known} devices are missing: {}",
                what_now()
            ),
        }
    }
}

impl Guard {
    pub fn missing(&self) -> u64 {
        self.missing
    }

    pub fn holds(&self, lost_since: Instant) -> bool {
        lost_since >= self.from
    }
}

/// The fleet at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Census {
    present: u64,
    missing: u64,
    /// All that are missing stand in one named site.
    is_one_site: bool,
}

impl Census {
    fn exceeds(&self, percent: u64) -> bool {
        self.missing * 100 > (self.present + self.missing) * percent
    }

    fn is_mass_loss(&self) -> bool {
        let is_site_loss = self.is_one_site && self.present > 0;
        self.missing >= MASS_LOSS_DEVICES_MIN && self.exceeds(MASS_LOSS_PERCENT) && !is_site_loss
    }

    fn is_over(&self) -> bool {
        self.missing < MASS_LOSS_DEVICES_MIN.div_ceil(2) || !self.exceeds(MASS_LOSS_OVER_PERCENT)
    }
}

impl Engine {
    /// Losses of this time belong together.
    fn loss_window(&self) -> Duration {
        self.patience().saturating_mul(2)
    }

    /// Counts who is heard of and who went away lately: suspects, the newly lost, and those whose heartbeat is late, because
    /// a fleet that falls silent does so over the length of a heartbeat. Who was lost long ago is neither.
    fn census(&self, now: Now) -> Census {
        let late = self.patience().saturating_mul(3) / 4;
        let mut census = Census::default();
        let mut sites: BTreeSet<Option<&str>> = BTreeSet::new();
        for (_, device) in self.state.devices.iter() {
            let observed = &device.observed;
            let is_missing = match observed.presence {
                Presence::Online if observed.current.is_none() => continue,
                Presence::Online => observed.last_seen.is_some_and(|at| now.monotonic.since(at) > late),
                Presence::Suspect => true,
                Presence::Lost => {
                    let since = observed.lost_since.unwrap_or_default();
                    let is_new = now.monotonic.since(since) < self.loss_window();
                    if !is_new || self.watch.confirmed_at.is_some_and(|at| since <= at) {
                        continue;
                    }
                    true
                }
                Presence::Never => continue,
            };
            if !is_missing {
                census.present += 1;
                continue;
            }
            census.missing += 1;
            if sites.len() < 2 {
                let stored = self.state.objects.get(&ObjectKey::device(&device.keys.name));
                sites.insert(stored.and_then(|stored| stored.device()).and_then(|body| body.spec.site.as_deref()));
            }
        }
        census.is_one_site = sites.len() == 1 && !sites.contains(&None);
        census
    }

    /// Before verdicts: true if they are held back from now on.
    pub(super) fn guard_trips(&mut self, now: Now) -> bool {
        let census = self.census(now);
        let why = match (self.door.is_lost(now.monotonic), census.is_mass_loss()) {
            // The cause that can be named comes first.
            (true, _) => Why::Listener,
            (false, true) => Why::Share,
            (false, false) => return false,
        };
        let (missing, known) = (census.missing, census.missing + census.present);
        let from = Instant(now.monotonic.0.saturating_sub(u64::try_from(self.loss_window().as_millis()).unwrap_or(0)));
        let from = self.watch.confirmed_at.map_or(from, |at| from.max(Instant(at.0 + 1)));
        self.watch.guard = Some(Guard { from, missing, known, why, look_at: now.monotonic.after(GUARD_PERIOD) });
        tracing::warn!(missing, known, ?why, "devices vanished together: nobody is called lost");
        let text = why.text(missing, known, &self.config.broker);
        self.tell(now, Draft::hub(why.event(), text));
        true
    }

    /// Looks whether enough are back.
    pub(super) fn guard_run(&mut self, now: Now) {
        if self.watch.guard.as_ref().is_none_or(|guard| guard.look_at > now.monotonic) {
            return;
        }
        let census = self.census(now);
        let why = self.watch.guard.as_ref().map(|guard| guard.why);
        if why == Some(Why::Listener) {
            self.door_look(now);
        }
        // Through a door that was shut nobody could come back sooner.
        let is_settled = why != Some(Why::Listener) || self.door.has_settled(now.monotonic);
        if is_settled && census.is_over() || census.missing == 0 {
            let text = format!("enough devices are back: {} are missing still, and may be called lost", census.missing);
            self.tell(now, Draft::about("MassLossOver", "hub".to_owned(), text));
            self.guard_lift(now);
        } else if let Some(guard) = &mut self.watch.guard {
            guard.missing = census.missing;
            guard.known = census.missing + census.present;
            guard.look_at = now.monotonic.after(GUARD_PERIOD);
        }
    }

    /// What was held back of devices that count as lost already is looked at again.
    fn guard_lift(&mut self, now: Now) {
        self.watch.guard = None;
        self.watch.round_at = now.monotonic;
        let lost = self.state.devices.iter().filter(|(_, device)| device.observed.lost_since.is_some());
        let lost: Vec<u32> = lost.map(|(index, _)| index).collect();
        for index in lost {
            self.replacement_mark(now, index);
        }
    }

    /// For the hub's status; nothing while all is well.
    pub(super) fn guard_condition(&self) -> Option<Condition> {
        let guard = self.watch.guard.as_ref()?;
        let Guard { missing, known, why, .. } = guard;
        Some(Condition {
            name: "MassLoss".to_owned(),
            status: ConditionStatus::True,
            reason: why.condition().to_owned(),
            message: why.text(*missing, *known, &self.config.broker),
        })
    }

    /// An operator says that who is missing is lost. Done when that is in the audit.
    pub(super) fn loss_confirm(&mut self, now: Now, ticket: Ticket, actor: &str) -> super::object::Done {
        let Some(guard) = &self.watch.guard else {
            let (missing, is_held) = (self.watch.suspects.len(), false);
            return Some(Ok(Answer::Report(json!({"confirmed": is_held, "devices": missing}))));
        };
        let missing = guard.missing;
        let entry = AuditEntry {
            time_ms: now.wall_ms,
            actor: actor.to_owned(),
            action: "confirm-loss",
            object: "hub".to_owned(),
            before: None,
            after: None,
        };
        let answer = Answer::Report(json!({"confirmed": true, "devices": missing}));
        let text = format!("{actor} said that {missing} devices are lost: their work is moved as each workload says");
        let told = Draft::about("LossConfirmed", "hub".to_owned(), text);
        let releases = vec![Release::LossConfirmed, Release::Event(told), Release::Answer(ticket, Ok(answer))];
        self.commit(Vec::new(), vec![entry], releases);
        None
    }

    pub(super) fn loss_confirmed(&mut self, now: Now) {
        self.watch.confirmed_at = Some(now.monotonic);
        for (since, index) in std::mem::take(&mut self.watch.suspects) {
            if self.is_suspect_since(since, index) {
                self.verdict(now, index);
            }
        }
        self.guard_lift(now);
    }
}

fn what_now() -> &'static str {
    "nobody is called lost and nothing is moved, because it may be the way to the hub that is broken. Look at the broker's listener \
     and the network; if they are really gone: fulmar hub confirm-loss"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(present: u64, missing: u64) -> Census {
        Census { present, missing, is_one_site: false }
    }

    #[test]
    fn a_mass_loss_is_a_large_share_and_not_a_few() {
        assert!(census(0, MASS_LOSS_DEVICES_MIN).is_mass_loss());
        assert!(!census(0, MASS_LOSS_DEVICES_MIN - 1).is_mass_loss(), "a small fleet");
        assert!(!census(70, 30).is_mass_loss(), "exactly at the limit");
        assert!(census(69, 31).is_mass_loss());
        assert!(census(85, 15).is_over() && !census(84, 16).is_over());
        assert!(census(1, 3).is_over(), "a few that stay away hold nobody up");
    }

    #[test]
    fn one_site_is_no_mass_loss_while_others_are_heard() {
        let site = |present| Census { present, missing: 50, is_one_site: true };
        assert!(!site(1).is_mass_loss());
        assert!(site(0).is_mass_loss(), "nobody is heard: it may be the hub");
    }
}
