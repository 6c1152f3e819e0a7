//! The right to run exclusive work: asked for, counted from when the question was sent, renewed, and given back.
//!
//! Nothing of it survives a reset, and no message but the answer to a question of this boot can make or lengthen one. It must
//! never outlast `wire::lease::hold_ms`, whatever the link, the hub or the wall clock do.
use super::port::{Quality, Right, Ticket};
use super::random::doubled;
use super::slot::{Fetch, Rest, Slot};
use super::time::{Duration, Instant, earliest, millis};
use super::{Agent, Todo};
use wire::event::{Fenced, Level};
use wire::frame::{decode_live, encode_live};
use wire::grant::{Grant, Released};
use wire::lease::{LEASE_MS_MAX, RENEWALS_PER_LEASE, hold_ms};
use wire::topic::Up;
use wire::transfer::{Need, Want};
use wire::{Fence, Nonce, WorkloadId};

/// Work is asked to stop this long before it is cut.
pub const STOP_BEFORE: Duration = Duration::from_secs(1);
/// The first repetition of a question; doubled up to `ASK_PAUSE_MAX`, or half of what is left between two renewals.
pub const ASK_PAUSE: Duration = Duration::from_secs(2);
pub const ASK_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Questions of one workload that may still be answered: on a slow link the answer to the last but one comes first.
pub const ASKED_MAX: usize = 2;
/// An agent that is told to end waits this long until the broker has what it gives back.
pub const RELEASE_WITHIN: Duration = Duration::from_secs(3);
/// Workloads elsewhere whose fences are remembered; then the one that was heard from longest ago is forgotten.
pub const FENCES_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Asked {
    nonce: Nonce,
    at: Instant,
}

/// What is being given back.
#[derive(Clone, Copy, Debug)]
struct Release {
    since: Instant,
    /// Of the message that is on its way, and when it must have been acknowledged.
    flight: Option<Ticket>,
    deadline: Instant,
}

impl Release {
    const fn new(since: Instant) -> Self {
        Self { since, flight: None, deadline: since }
    }
}

/// What is known about the right to one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    workload: WorkloadId,
    duration: Duration,
    /// Newest first.
    asked: [Option<Asked>; ASKED_MAX],
    ask_at: Instant,
    tries: u32,
    right: Option<Right>,
    /// It came to its end here and was not given back.
    has_expired: bool,
    /// Given back: whoever answers with this fence, or a lower one, has not heard of that yet.
    given_back: Option<Fence>,
    release: Option<Release>,
}

impl Lease {
    fn new(workload: WorkloadId, duration: Duration, now: Instant) -> Self {
        Self {
            workload,
            duration,
            asked: [None; ASKED_MAX],
            ask_at: now,
            tries: 0,
            right: None,
            has_expired: false,
            given_back: None,
            release: None,
        }
    }

    fn ask(&mut self, nonce: Nonce, now: Instant) {
        self.asked.rotate_right(1);
        self.asked[0] = Some(Asked { nonce, at: now });
    }

    /// When the question with this nonce was sent; it and older ones are answered now.
    fn take(&mut self, nonce: Nonce) -> Option<Instant> {
        let at = self.asked.iter().position(|asked| asked.is_some_and(|asked| asked.nonce == nonce))?;
        let sent = self.asked[at]?.at;
        self.asked[at..].fill(None);
        Some(sent)
    }

    fn pause(&self) -> Duration {
        let most = (self.duration / RENEWALS_PER_LEASE / 2).clamp(ASK_PAUSE, ASK_PAUSE_MAX);
        doubled(ASK_PAUSE, self.tries, most)
    }
}

/// The highest fence that was seen of each emitting workload, the latest first.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    seen: heapless::Vec<Fenced, FENCES_MAX>,
    refused: u32,
}

impl Fences {
    /// False for what somebody sent who has lost the right to it since.
    fn admit(&mut self, fenced: Fenced) -> bool {
        let known = self.seen.iter().position(|seen| seen.workload == fenced.workload);
        match known {
            Some(at) if self.seen[at].fence > fenced.fence => return false,
            Some(at) => {
                self.seen.remove(at);
            }
            None if self.seen.is_full() => {
                self.seen.pop();
            }
            None => {}
        }
        // There is room: one was taken out if it was full.
        let _ = self.seen.insert(0, fenced);
        true
    }
}

/// Whether this component is to run under a right, as far as it can tell by itself.
fn wants_right(slot: &Slot) -> bool {
    if slot.live.is_some_and(|live| live.limits.lease().is_some()) {
        return true;
    }
    let is_here = slot.fetch == Fetch::Present || slot.stand_in.is_some_and(|other| other.fetch == Fetch::Present);
    slot.goal.is_some_and(|goal| goal.limits.lease().is_some())
        && is_here
        && !matches!(slot.rest, Rest::Completed { .. })
}

/// Which lease a component is to hold.
fn lease_of(slot: &Slot) -> Option<Duration> {
    slot.goal.and_then(|goal| goal.limits.lease()).or(slot.live.and_then(|live| live.limits.lease()))
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    fn lease(&self, workload: WorkloadId) -> Option<&Lease> {
        let at = self.leases.binary_search_by_key(&workload, |lease| lease.workload).ok()?;
        self.leases.get(at)
    }

    /// The latest right to a workload, also one that has come to its end.
    pub(crate) fn right_of(&self, workload: WorkloadId) -> Option<Right> {
        self.lease(workload)?.right
    }

    /// Why exclusive work must not run now.
    pub(crate) fn without_right(&self, workload: WorkloadId, now: Instant) -> Option<wire::status::Reason> {
        use wire::status::Reason;
        let lease = self.lease(workload);
        let is_valid = |right: Right| right.until > now.after(STOP_BEFORE);
        match lease.and_then(|lease| lease.right) {
            Some(right) if is_valid(right) => None,
            Some(_) => Some(Reason::LEASE_EXPIRED),
            None if lease.is_some_and(|lease| lease.has_expired) => Some(Reason::LEASE_EXPIRED),
            None => Some(Reason::WAITS_FOR_GRANT),
        }
    }

    pub(crate) fn on_grant(&mut self, now: Instant, payload: &[u8]) {
        let Some(context) = self.session_context() else { return };
        let Ok(grant) = decode_live::<Grant>(payload, self.config.pair_key, &context) else { return };
        let Ok(at) = self.leases.binary_search_by_key(&grant.workload, |lease| lease.workload) else { return };
        let Some(lease) = self.leases.get_mut(at) else { return };
        let Some(sent_at) = lease.take(grant.nonce) else { return };
        if lease.given_back.is_some_and(|given_back| grant.fence <= given_back) {
            // The hub has not heard that it was given back, or has forgotten it.
            lease.release.get_or_insert(Release::new(now));
            return;
        }
        if lease.right.is_some_and(|right| right.fence > grant.fence) {
            return;
        }
        let ms = u64::from(grant.ms).min(LEASE_MS_MAX);
        let held = hold_ms(ms, self.config.drift_ppm, millis(self.config.stop_latency));
        let until = sent_at.after(Duration::from_millis(held));
        if until <= now.after(STOP_BEFORE) {
            // Too late to be of use; the next question is on its way.
            return;
        }
        let until =
            lease.right.filter(|right| right.fence == grant.fence).map_or(until, |right| right.until.max(until));
        lease.right = Some(Right { fence: grant.fence, until });
        lease.has_expired = false;
        lease.tries = 0;
        let third = Duration::from_millis(ms) / RENEWALS_PER_LEASE;
        // Never later than a third, so that two of them may get lost.
        lease.ask_at = sent_at.after(third - self.config.random.up_to(third / 8));
        self.report.changed();
    }

    /// Whoever needs a right is listed, asked for, and struck off.
    pub(crate) fn poll_leases(&mut self, now: Instant) -> Option<Todo> {
        if !self.has_terms && self.leases.is_empty() {
            return None;
        }
        self.list_leases(now);
        (0..self.leases.len()).find_map(|at| self.poll_lease(at, now))
    }

    fn list_leases(&mut self, now: Instant) {
        for slot in &self.slots {
            let Some(duration) = lease_of(slot).filter(|_| wants_right(slot)) else { continue };
            match self.leases.binary_search_by_key(&slot.workload, |lease| lease.workload) {
                Ok(at) => {
                    if let Some(lease) = self.leases.get_mut(at) {
                        lease.duration = duration;
                    }
                }
                Err(_) => {
                    if self.leases.is_full() {
                        // There is one for each component at most, unless some are only remembered.
                        self.leases.retain(|lease| lease.right.is_some() || lease.release.is_some());
                    }
                    let at = self.leases.partition_point(|lease| lease.workload < slot.workload);
                    let _ = self.leases.insert(at, Lease::new(slot.workload, duration, now));
                }
            }
        }
    }

    fn slots_of(&self, workload: WorkloadId) -> impl Iterator<Item = &Slot> {
        let first = self.slots.partition_point(|slot| slot.workload < workload);
        self.slots.iter().skip(first).take_while(move |slot| slot.workload == workload)
    }

    fn poll_lease(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let lease = *self.leases.get(at)?;
        let is_wanted = !self.is_shutting_down && self.slots_of(lease.workload).any(wants_right);
        let is_held =
            self.slots_of(lease.workload).any(|slot| slot.live.is_some_and(|live| live.limits.lease().is_some()));
        let is_giving_up = self.is_shutting_down;
        let lease = self.leases.get_mut(at)?;
        if is_giving_up && lease.release.is_some_and(|release| release.since.after(RELEASE_WITHIN) <= now) {
            // It ends by itself.
            (lease.release, lease.right) = (None, None);
        }
        if lease.right.is_some_and(|right| right.until <= now) && !is_held {
            lease.right = None;
            lease.has_expired = is_wanted;
            self.report.changed();
        }
        if !is_wanted && !is_held && lease.right.is_some() && lease.release.is_none() {
            lease.release = Some(Release::new(now));
        }
        if lease.release.is_some() {
            return self.poll_release(at, now);
        }
        if is_wanted { self.ask(at, now) } else { None }
    }

    fn ask(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let context = self.session_context()?;
        self.leases.get(at).filter(|lease| lease.ask_at <= now)?;
        let nonce = Nonce(self.config.random.bytes());
        let lease = self.leases.get_mut(at)?;
        // Counted from here: what the client does with it later only shortens the right.
        lease.ask(nonce, now);
        lease.ask_at = now.after(self.config.random.about(lease.pause()));
        lease.tries = lease.tries.saturating_add(1);
        let want = Want::Lease { workload: lease.workload, nonce };
        let need = Need { session: context.session, want };
        let length = encode_live(self.outgoing, self.config.pair_key, &context, &need).ok()?.len();
        Some(Todo::Publish { topic: Up::Need, length, quality: Quality::AtMostOnce, ticket: self.ticket() })
    }

    /// The work has stopped here for good: the hub hears it, and may grant it elsewhere at once.
    fn poll_release(&mut self, at: usize, now: Instant) -> Option<Todo> {
        let context = self.session_context();
        let lease = self.leases.get_mut(at)?;
        let release = lease.release.filter(|release| release.flight.is_none())?;
        let Some(fence) = lease.right.map(|right| right.fence).or(lease.given_back) else {
            // It came to its end while nobody could be told.
            lease.release = None;
            return None;
        };
        let context = context?;
        // From here on the right is nobody's, whether or not the message arrives.
        lease.right = None;
        lease.asked = [None; ASKED_MAX];
        lease.given_back = Some(fence);
        let released = Released { session: context.session, workload: lease.workload, fence };
        let length = encode_live(self.outgoing, self.config.pair_key, &context, &released).ok()?.len();
        let (ticket, deadline) = (self.ticket(), now.after(self.acknowledge_within()));
        self.leases.get_mut(at)?.release = Some(Release { flight: Some(ticket), deadline, ..release });
        Some(Todo::Publish { topic: Up::Released, length, quality: Quality::AtLeastOnce, ticket })
    }

    pub(crate) fn release_acknowledged(&mut self, ticket: Ticket) {
        for lease in &mut self.leases {
            let is_it = |release: &mut Release| release.flight == Some(ticket);
            if lease.release.take_if(is_it).is_some() {
                lease.tries = 0;
            }
        }
    }

    /// What was given back is said again on the next connection; questions are asked again at once.
    pub(crate) fn leases_link_lost(&mut self, now: Instant) {
        for lease in &mut self.leases {
            if let Some(release) = &mut lease.release {
                release.flight = None;
            }
            // One that is not due for renewal keeps its time.
            if lease.tries > 0 {
                lease.tries = 0;
                lease.ask_at = now;
            }
        }
    }

    pub(crate) fn release_deadline(&self) -> Option<Instant> {
        let releases = self.leases.iter().filter_map(|lease| lease.release);
        releases.filter(|release| release.flight.is_some()).map(|release| release.deadline).min()
    }

    /// Something still has to be given back, and may be.
    pub(crate) fn is_releasing(&self, now: Instant) -> bool {
        let mut releases = self.leases.iter().filter_map(|lease| lease.release);
        self.session.is_established() && releases.any(|release| release.since.after(RELEASE_WITHIN) > now)
    }

    pub(crate) fn leases_deadline(&self) -> Option<Instant> {
        let is_established = self.session.is_established();
        self.leases.iter().fold(None, |first, lease| {
            let is_wanted = !self.is_shutting_down && self.slots_of(lease.workload).any(wants_right);
            let ask = (is_established && is_wanted && lease.release.is_none()).then_some(lease.ask_at);
            let is_held =
                self.slots_of(lease.workload).any(|slot| slot.live.is_some_and(|live| live.limits.lease().is_some()));
            let end = lease.right.filter(|_| !is_held).map(|right| right.until);
            let in_flight = lease.release.filter(|release| release.flight.is_some());
            let released = in_flight.map(|release| release.deadline);
            let given_up = lease.release.filter(|_| self.is_shutting_down).map(|at| at.since.after(RELEASE_WITHIN));
            [ask, end, released, given_up].into_iter().fold(first, earliest)
        })
    }

    /// Whether a message may reach a function: not if its sender has lost its right to somebody who was heard already.
    pub(crate) fn admits(&mut self, now: Instant, fenced: Option<Fenced>) -> bool {
        let Some(fenced) = fenced else { return true };
        if self.fences.admit(fenced) {
            return true;
        }
        self.fences.refused = self.fences.refused.saturating_add(1);
        let refused = self.fences.refused;
        if refused.is_power_of_two() {
            let workload = fenced.workload.0;
            self.note(
                now,
                Level::Warn,
                format_args!(
                    "refused a message of workload {workload}: its sender has lost its right; {refused} so far"
                ),
            );
        }
        false
    }

    /// Messages that were refused because their sender had lost its right.
    pub fn inputs_fenced(&self) -> u32 {
        self.fences.refused
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wire::id::Order;

    fn fenced(workload: u32, counter: u64) -> Fenced {
        Fenced { workload: WorkloadId(workload), fence: Fence(Order::new(1, counter).unwrap()) }
    }

    #[test]
    fn a_lower_fence_is_refused_and_an_equal_or_higher_one_is_not() {
        let mut fences = Fences::default();
        assert!(fences.admit(fenced(1, 5)) && fences.admit(fenced(1, 5)));
        assert!(!fences.admit(fenced(1, 4)));
        assert!(fences.admit(fenced(2, 1)));
        assert!(fences.admit(fenced(1, 6)) && !fences.admit(fenced(1, 5)));
    }

    #[test]
    fn the_table_of_fences_forgets_who_was_silent_longest() {
        let mut fences = Fences::default();
        for workload in 0..FENCES_MAX as u32 {
            assert!(fences.admit(fenced(workload, 9)));
        }
        assert!(fences.admit(fenced(0, 9)));
        assert!(fences.admit(fenced(99, 9)));
        assert_eq!(fences.seen.len(), FENCES_MAX);
        // One is forgotten, the others are not.
        assert!(!fences.admit(fenced(0, 8)));
        assert!(fences.admit(fenced(1, 8)));
    }

    #[test]
    fn an_answer_to_an_older_question_leaves_the_newer_ones_open() {
        let mut lease = Lease::new(WorkloadId(1), Duration::from_secs(60), Instant::ZERO);
        for at in 1..=3u8 {
            lease.ask(Nonce([at; 8]), Instant::from_ms(u64::from(at)));
        }
        assert_eq!(lease.take(Nonce([1; 8])), None);
        assert_eq!(lease.take(Nonce([2; 8])), Some(Instant::from_ms(2)));
        assert_eq!(lease.take(Nonce([2; 8])), None);
        assert_eq!(lease.take(Nonce([3; 8])), Some(Instant::from_ms(3)));
    }
}
