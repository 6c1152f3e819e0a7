//! A second hub: one that runs on a copy of this database, with the same keys, at the same broker.
//!
//! Its words on `hub/state` carry another instance; a device that was given two sets with one revision is the other witness.
//! From then on this hub says nothing to devices and believes nothing of them, so that whichever of the two an operator ends,
//! nothing was decided twice. It goes on when the other one was silent for long enough, or when an operator says so, and then
//! above everything that the other one can have said. Nothing here may ever prefer this hub because of what it holds.

use super::Engine;
use super::event::Draft;
use super::object::Done;
use super::pending::Release;
use super::port::{Answer, Instant, Now, Ticket};
use super::problem;
use crate::commit::{AuditEntry, RecoveryCause, Write};
use crate::model::{Condition, ConditionStatus};
use std::collections::VecDeque;
use std::time::Duration;
use wire::Instance;
use wire::frame::encode_plain;
use wire::hello::HubState;
use wire::id::{Fence, Order};
use wire::topic::Topic;

/// A second hub that was silent for so long is gone. Each of two that know of one another says so much more often.
pub const RIVAL_SILENCE: Duration = Duration::from_secs(120);
/// Pause between two announcements while another hub is heard.
pub const ANNOUNCE_PAUSE: Duration = Duration::from_secs(10);
/// Other hubs that are remembered; the one that was silent longest is forgotten.
pub const RIVALS_MAX: usize = 8;
/// How far a hub goes ahead of what another one says, without an operator's word: `hub/state` is not signed, and incarnations
/// are finite.
pub const RIVAL_JUMP_MAX: u32 = 4_096;
/// The last words of this hub's own former process may come late, all at once; who speaks again after this time is alive.
const LAST_WORDS: Duration = Duration::from_secs(2);
const FRAME_BYTES_MAX: usize = 64;
const ACTOR: &str = "system:rival";

#[derive(Clone, Copy, Debug)]
struct Rival {
    instance: Instance,
    incarnation: u32,
    since: Instant,
    heard: Instant,
    /// An operator took over from it while it was there.
    is_dismissed: bool,
}

/// Why nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Another hub spoke.
    Heard,
    /// A device holds, or was given, another set with a revision of this hub's.
    Equivocation,
    /// The broker's account was given to another hub: only an operator can know that it is gone.
    Account,
}

#[derive(Debug, Default)]
pub(super) struct Rivals {
    known: VecDeque<Rival>,
    stop: Option<(Stop, Instant)>,
    announced_at: Option<Instant>,
    /// An operator took over: what the broker holds of the other one is history, however high it is.
    dismisses_retained: bool,
    /// Silence counts only since then: who is cut off hears nobody.
    listening_since: Option<Instant>,
}

impl Rivals {
    /// Nothing may be said to devices, nor believed of them.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Whoever is known by now is history.
    fn dismiss(&mut self) {
        for rival in &mut self.known {
            rival.is_dismissed = true;
        }
    }

    /// What the broker holds is this hub's own word from now on.
    pub fn has_said(&mut self) {
        self.dismisses_retained = false;
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    /// When silence will have lasted; `None` while nothing could be heard.
    fn silent_at(&self) -> Option<Instant> {
        let since = self.listening_since?;
        let stopped = self.stop.map_or(since, |(_, at)| at);
        let heard = self.known.iter().filter(|rival| !rival.is_dismissed).map(|rival| rival.heard).max();
        Some(since.max(stopped).max(heard.unwrap_or_default()).after(RIVAL_SILENCE))
    }

    /// Somebody was heard not long ago, or this hub is stopped: then it says that it is there.
    fn is_contested(&self, now: Instant) -> bool {
        self.is_stopped() || self.known.iter().any(|rival| now.since(rival.heard) < RIVAL_SILENCE)
    }

    /// Keeps what was heard; gives how long this one has been known, or nothing when it is new.
    fn note(&mut self, now: Instant, instance: Instance, incarnation: u32) -> Option<Duration> {
        if let Some(rival) = self.known.iter_mut().find(|rival| rival.instance == instance) {
            rival.incarnation = rival.incarnation.max(incarnation);
            rival.heard = now;
            return Some(now.since(rival.since));
        }
        if self.known.len() == RIVALS_MAX {
            let longest = (0..self.known.len()).min_by_key(|at| self.known.get(*at).map(|rival| rival.heard));
            longest.and_then(|at| self.known.remove(at));
        }
        self.known.push_back(Rival { instance, incarnation, since: now, heard: now, is_dismissed: false });
        None
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    fn highest(&self) -> u32 {
        self.known.iter().map(|rival| rival.incarnation).max().unwrap_or_default()
    }
}

impl Engine {
    /// Words of `hub/state` that are not this hub's own. `retained`: said some time ago, perhaps by this hub's former self.
    pub(super) fn rival_heard(&mut self, now: Now, state: &HubState, retained: bool) {
        // A former self of this database is below: each start raises the incarnation before anything is said.
        let is_above = state.incarnation >= self.incarnation;
        if retained && !is_above {
            return;
        }
        if retained && std::mem::take(&mut self.rivals.dismisses_retained) && !self.pipeline.is_full() {
            self.rivals.note(now.monotonic, state.instance, state.incarnation);
            self.rivals.dismiss();
            return self.take_over(now, ACTOR, "an operator took over, and the other one was ahead");
        }
        let is_dismissed = self.rivals.known.iter().any(|rival| rival.instance == state.instance && rival.is_dismissed);
        let known_for = self.rivals.note(now.monotonic, state.instance, state.incarnation);
        if known_for.is_none() {
            // It is to hear at once that it is not alone.
            self.rivals.announced_at = None;
        }
        if is_above || !is_dismissed && known_for.is_some_and(|time| time >= LAST_WORDS) {
            self.rival_stop(now, Stop::Heard);
        }
    }

    /// Says nothing more.
    pub(super) fn rival_stop(&mut self, now: Now, why: Stop) {
        if self.rivals.is_stopped() {
            return;
        }
        self.rivals.stop = Some((why, now.monotonic));
        self.rivals.announced_at = None;
        tracing::error!(?why, "a second hub: nothing is published and nothing is granted");
        let text = self.rival_text(why);
        self.tell(now, Draft::hub("SecondHub", text));
    }

    /// The broker's account is another hub's now.
    pub(super) fn account_taken(&mut self, now: Now) {
        self.rival_stop(now, Stop::Account);
    }

    fn rival_text(&self, why: Stop) -> String {
        let highest = self.rivals.highest();
        let what = match why {
            Stop::Heard => {
                let minutes = RIVAL_SILENCE.as_secs() / 60;
                let alone = if highest > self.incarnation.saturating_add(RIVAL_JUMP_MAX) {
                    "its incarnation is so far ahead that this hub does not follow by itself: once it is ended"
                        .to_owned()
                } else {
                    format!(
                        "end the one that is not meant to be there; the other goes on {minutes} minutes later, or at once with"
                    )
                };
                return format!(
                    "a second hub with this hub's keys speaks at the broker (incarnation {highest}, this one has {}): nothing is \
                     published and nothing is granted; {alone}: fulmar hub takeover --confirm",
                    self.incarnation
                );
            }
            Stop::Equivocation => {
                "a device was given two sets with one revision: a second hub runs on a copy of this database"
            }
            Stop::Account => {
                "another hub has taken this hub's account at the broker: a second hub runs on a copy of this database"
            }
        };
        format!(
            "{what}; nothing is published and nothing is granted. End the one that is not meant to be there, then on the other: \
             fulmar hub takeover --confirm"
        )
    }

    pub(super) fn rival_condition(&self) -> Option<Condition> {
        let (why, _) = self.rivals.stop?;
        let reason = match why {
            Stop::Heard => "Heard",
            Stop::Equivocation => "Equivocation",
            Stop::Account => "AccountTaken",
        };
        Some(Condition {
            name: "SecondHub".to_owned(),
            status: ConditionStatus::True,
            reason: reason.to_owned(),
            message: self.rival_text(why),
        })
    }

    pub(super) fn rivals_link(&mut self, now: Option<Now>) {
        self.rivals.listening_since = now.map(|now| now.monotonic);
        self.rivals.announced_at = None;
    }

    /// Says that it is there while it matters, and goes on when it is alone.
    pub(super) fn rivals_run(&mut self, now: Now) {
        if !self.link.is_up {
            return;
        }
        if self.rivals.announced_at.is_none_or(|at| at.after(ANNOUNCE_PAUSE) <= now.monotonic) {
            self.rivals.announced_at = Some(now.monotonic);
            if self.rivals.is_contested(now.monotonic) {
                self.announce();
            }
        }
        let Some((why, _)) = self.rivals.stop else { return };
        let is_near = self.rivals.highest() <= self.incarnation.saturating_add(RIVAL_JUMP_MAX);
        if why != Stop::Account && is_near && self.rivals.is_silent(now.monotonic) && !self.pipeline.is_full() {
            self.take_over(now, ACTOR, "the other hub is silent");
            self.rivals.known.clear();
        }
    }

    pub(super) fn rivals_timeout(&self) -> Option<Instant> {
        if !self.link.is_up || !self.rivals.is_stopped() && self.rivals.known.is_empty() {
            return None;
        }
        // Once in a pause as long as any is remembered; silence ends between two of them.
        self.rivals.announced_at.map(|at| at.after(ANNOUNCE_PAUSE))
    }

    /// For other hubs, and not retained: what devices find at the broker is of whoever is in charge.
    fn announce(&mut self) {
        let state = HubState {
            incarnation: self.incarnation,
            spread_ms: u32::try_from(self.config.spread.as_millis()).unwrap_or(u32::MAX),
            watermark: 0,
            fence: Fence(Order::ZERO),
            instance: self.config.instance,
        };
        let mut buffer = [0; FRAME_BYTES_MAX];
        let topic = Topic::HubState.print(&self.state.fleet_name);
        if let (Ok(frame), Ok(topic)) = (encode_plain(&mut buffer, &state), topic) {
            let payload = frame.to_vec();
            self.publish(topic.as_str().to_owned(), payload, false);
        }
    }

    /// An operator says that this hub is the one.
    pub(super) fn takeover(&mut self, now: Now, ticket: Ticket, actor: &str) -> Done {
        if !self.rivals.is_stopped() {
            return Some(Err(problem::not_needed("no second hub is known: this one works")));
        }
        self.rivals.dismiss();
        self.rivals.dismisses_retained = true;
        self.take_over(now, actor, "an operator said so");
        let status = self.hub_status(now);
        self.pipeline.release_last(Release::Answer(ticket, Ok(Answer::Status(status))));
        None
    }

    /// Goes on above everything that another hub can have said; what it gave to devices is not known here.
    fn take_over(&mut self, now: Now, actor: &str, why: &str) {
        // Of an incarnation that leaves no room above it, no set can be proven: it was made up.
        let highest = self.rivals.highest().max(self.incarnation);
        let highest = if highest >= Order::INCARNATION_MAX { self.incarnation } else { highest };
        let remembered = Order::new(self.incarnation, self.pipeline.next() - 1).unwrap_or(Order::ZERO);
        let above = highest.saturating_add(1);
        let mut writes = Vec::new();
        if above <= Order::INCARNATION_MAX {
            writes.push(Write::IncarnationRaise { incarnation: above });
        }
        writes.extend(self.recovery_writes(now, RecoveryCause::SecondHub, remembered, above));
        let entry = AuditEntry {
            time_ms: now.wall_ms,
            actor: actor.to_owned(),
            action: "takeover",
            object: "hub".to_owned(),
            before: None,
            after: None,
        };
        self.commit(writes, vec![entry], Vec::new());
        self.pipeline.release_last(Release::Event(Draft::hub(
            "TookOver",
            format!("this hub goes on alone, with incarnation {above}: {why}"),
        )));
        self.rivals.stop = None;
        self.effects.push_back(super::port::Effect::Access(super::port::AccessChange::HubPut));
        self.recovery_began(now);
        self.presence_grace(now);
        self.dispatch_all_again();
    }
}
