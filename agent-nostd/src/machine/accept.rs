//! Which desired sets become the device's own: signature, order, limits; then durable, then applied, never the other way round.
//!
//! The accepted revision never goes back. What cannot be proven is counted by kind and changes nothing.
use super::port::{Content, FetchFailure, JournalKey, PersistFailure, Source, Ticket};
use super::random::doubled;
use super::time::{Duration, Instant, earliest};
use super::{Agent, Todo};
use wire::codec::WireError;
use wire::desired::{Desired, Header, SignedHeader};
use wire::event::Level;
use wire::{Digest, Revision};

/// A body is asked for again after this.
pub const BODY_DEADLINE: Duration = Duration::from_secs(120);
const BODY_RETRY_BASE: Duration = Duration::from_secs(2);
const BODY_RETRY_MAX: Duration = Duration::from_secs(300);

/// A set whose header is good and whose body is still to come.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    signed: SignedHeader,
    is_asked: bool,
    /// Of the fetch in flight, or the next one.
    at: Instant,
    tries: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Intake {
    awaited: Option<Awaited>,
    /// The journal's epoch at which the incoming set is durable.
    pending: Option<u32>,
    /// A set came that only a Fresh of this boot can confirm.
    pub has_seen_unconfirmed: bool,
}

impl Intake {
    pub fn deadline(&self) -> Option<Instant> {
        self.awaited.map(|awaited| awaited.at)
    }
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// The header that a newer set must be above: of what is accepted, being stored, or being fetched.
    fn newest(&self) -> Option<&Header> {
        let pending = self.intake.pending.and_then(|_| self.incoming.header());
        let awaited = self.intake.awaited.as_ref().map(|awaited| &awaited.signed.header);
        [self.current.header(), pending, awaited].into_iter().flatten().max_by_key(|header| header.revision)
    }

    /// Whether what the hub holds is here or on its way.
    pub(crate) fn has_revision(&self, revision: Revision) -> bool {
        self.newest().map_or(Revision::default(), |header| header.revision) >= revision
    }

    pub(crate) fn on_desired(&mut self, now: Instant, payload: &[u8]) {
        // The hub clears a retained message with an empty one.
        if payload.is_empty() {
            return;
        }
        let desired = match Desired::decode(payload) {
            Ok(desired) => desired,
            Err(error) => return self.count_undecodable(error),
        };
        let header = &desired.signed.header;
        let is_known = |known: Option<&Header>| known == Some(header);
        if is_known(self.current.header()) || is_known(self.newest()) {
            return;
        }
        if !desired.signed.verify(self.config.verifier, &self.config.hub_key, self.config.fleet, self.config.device) {
            self.refused.not_authentic = self.refused.not_authentic.saturating_add(1);
            return;
        }
        if !self.is_above(now, header) || !self.is_within_limits(now, header) || !self.is_confirmed(header) {
            return;
        }
        match desired.body {
            Some(body) => self.take_body(now, &desired.signed, body),
            None => {
                self.intake.awaited = Some(Awaited { signed: desired.signed, is_asked: false, at: now, tries: 0 });
            }
        }
    }

    fn count_undecodable(&mut self, error: WireError) {
        let counter = match error {
            WireError::UnsupportedVersion { .. } => &mut self.refused.unsupported_version,
            WireError::TooLarge { .. } => &mut self.refused.too_large,
            WireError::NotAuthentic => &mut self.refused.not_authentic,
            WireError::Truncated
            | WireError::Trailing
            | WireError::NotCanonical
            | WireError::Malformed
            | WireError::UnknownKind { .. }
            | WireError::WrongKind { .. }
            | WireError::NoRoom => &mut self.refused.malformed,
        };
        *counter = counter.saturating_add(1);
    }

    fn is_above(&mut self, now: Instant, header: &Header) -> bool {
        let Some(newest) = self.newest() else { return true };
        if header.revision > newest.revision {
            return true;
        }
        if header.revision == newest.revision {
            self.refused.equivocation = self.refused.equivocation.saturating_add(1);
            // The hub stops when it hears of it, so it is to hear at once.
            self.report.changed();
            let revision = header.revision;
            self.note(
                now,
                Level::Error,
                format_args!("equivocation: two different sets with revision {revision}; the first stays"),
            );
        } else {
            // Brokers serve old retained messages after a crash: nothing to alarm anyone about.
            self.refused.lower_revision = self.refused.lower_revision.saturating_add(1);
        }
        false
    }

    fn is_within_limits(&mut self, now: Instant, header: &Header) -> bool {
        let body_bytes = header.body_bytes;
        let is_class = header.limits.records <= self.config.capabilities.records
            && header.limits.memory_bytes <= self.config.capabilities.memory_bytes;
        if is_class && body_bytes <= self.config.capabilities.body_bytes {
            return true;
        }
        self.refused.too_large = self.refused.too_large.saturating_add(1);
        let revision = header.revision;
        self.note(
            now,
            Level::Error,
            format_args!("set {revision} of {body_bytes} bytes is over this device's limits; the old one stays"),
        );
        false
    }

    /// A device that holds nothing cannot know what is old: only this boot's Fresh can say.
    fn is_confirmed(&mut self, header: &Header) -> bool {
        if self.current.header().is_some() || self.session.confirms(header) {
            return true;
        }
        self.refused.unconfirmed = self.refused.unconfirmed.saturating_add(1);
        self.intake.has_seen_unconfirmed = true;
        false
    }

    fn take_body(&mut self, now: Instant, signed: &SignedHeader, body: &[u8]) {
        // An older set that is still being stored gives way; the journal may end up holding it, which is not going back.
        self.intake.pending = None;
        self.intake.awaited = None;
        match self.incoming.store(signed, body) {
            Ok(records) if records <= usize::from(self.config.capabilities.records) => {
                self.intake.pending = Some(self.keep.change(JournalKey::Accepted));
            }
            Ok(_) => self.refuse_body(
                now,
                signed,
                WireError::TooLarge { limit: u32::from(self.config.capabilities.records) },
            ),
            Err(error) => self.refuse_body(now, signed, error),
        }
    }

    fn refuse_body(&mut self, now: Instant, signed: &SignedHeader, error: WireError) {
        self.incoming.clear();
        self.keep.withdraw(JournalKey::Accepted);
        self.count_undecodable(error);
        let revision = signed.header.revision;
        self.note(now, Level::Error, format_args!("set {revision} refused: {error}"));
    }

    pub(crate) fn poll_body(&mut self, now: Instant) -> Option<Todo> {
        let awaited = self.intake.awaited.as_mut().filter(|awaited| awaited.at <= now)?;
        awaited.is_asked = true;
        awaited.at = now.after(BODY_DEADLINE);
        let Header { body, body_bytes, .. } = awaited.signed.header;
        Some(Todo::Fetch { content: Content::Body, digest: body, bytes: body_bytes, source: Source::Anywhere })
    }

    pub(crate) fn on_body(&mut self, now: Instant, digest: &Digest, bytes: &[u8]) {
        let Some(awaited) = self.intake.awaited.filter(|awaited| awaited.signed.header.body == *digest) else { return };
        if wire::desired::body_matches(&awaited.signed.header, bytes) {
            self.take_body(now, &awaited.signed, bytes);
        } else {
            self.body_failed(now, digest, FetchFailure::HashMismatch);
        }
    }

    pub(crate) fn body_failed(&mut self, now: Instant, digest: &Digest, failure: FetchFailure) {
        let Some(awaited) = self.intake.awaited.as_mut() else { return };
        if awaited.signed.header.body != *digest || !awaited.is_asked {
            return;
        }
        awaited.is_asked = false;
        awaited.at = now.after(self.config.random.about(doubled(BODY_RETRY_BASE, awaited.tries, BODY_RETRY_MAX)));
        awaited.tries = awaited.tries.saturating_add(1);
        let revision = awaited.signed.header.revision;
        self.note(
            now,
            Level::Warn,
            format_args!("the body of set {revision} could not be fetched: {failure:?}; will try again"),
        );
    }

    pub(crate) fn persisted(&mut self, now: Instant, ticket: Ticket) {
        let Some(write) = self.keep.finish(ticket) else { return };
        self.keep.succeeded(&write);
        match write.key {
            JournalKey::Accepted if self.intake.pending == Some(write.epoch) => {
                self.intake.pending = None;
                core::mem::swap(&mut self.current, &mut self.incoming);
                self.incoming.clear();
                self.applied_at = now;
                self.is_promoted = false;
                self.collect_at = Some(now);
                self.assign();
            }
            JournalKey::LastGood => self.collect_at = Some(now),
            JournalKey::Alarms => self.telemetry.saved(now),
            JournalKey::Accepted | JournalKey::Boot | JournalKey::Attempts | JournalKey::Clock => {}
        }
    }

    pub(crate) fn persist_failed(&mut self, now: Instant, ticket: Ticket, failure: PersistFailure) {
        let Some(write) = self.keep.finish(ticket) else { return };
        let is_first = !self.keep.is_failing(write.key);
        self.keep.failed(&write, now, &mut self.config.random);
        if !is_first {
            return;
        }
        let why = match failure {
            PersistFailure::NoSpace => "no_space",
            PersistFailure::Storage => "storage error",
        };
        let key = write.key;
        self.note(
            now,
            Level::Error,
            format_args!("{key:?} could not be stored: {why}; what runs stays, will try again"),
        );
    }

    pub(crate) fn poll_keep(&mut self, now: Instant) -> Option<Todo> {
        if let Some(write) = self.keep.overdue(now) {
            self.keep.failed(&write, now, &mut self.config.random);
        }
        let key = self.keep.next(now)?;
        let set_length = |value: &[u8]| if value.is_empty() { Err(WireError::Truncated) } else { Ok(value.len()) };
        let length = match key {
            // An empty value would destroy what the journal holds.
            JournalKey::Accepted => set_length(self.incoming.value()),
            JournalKey::LastGood => set_length(self.last_good.value()),
            JournalKey::Boot => self.write_boot(),
            JournalKey::Attempts => self.write_attempts(),
            JournalKey::Clock => self.write_clock(),
            JournalKey::Alarms => self.write_alarms(now),
        };
        let ticket = self.ticket();
        self.keep.begin(now, key, ticket);
        match length {
            Ok(length) => Some(Todo::Persist { ticket, key, length }),
            Err(_) => {
                // `Agent::new` lowers the number of records to what the buffer can tell about.
                self.persist_failed(now, ticket, PersistFailure::NoSpace);
                None
            }
        }
    }

    /// The accepted set becomes the last good one when every component that can be well has been for a while.
    pub(crate) fn poll_promotion(&mut self, now: Instant) {
        if self.is_promoted || self.promotion_at().is_none_or(|at| at > now) {
            return;
        }
        self.is_promoted = true;
        if self.last_good.header() == self.current.header() {
            return;
        }
        self.last_good.copy_from(&self.current);
        self.keep.change(JournalKey::LastGood);
        self.assign();
    }

    /// When that will be, if nothing changes.
    pub(crate) fn promotion_at(&self) -> Option<Instant> {
        use super::slot::SETTLED_AFTER;
        use wire::status::Reason;
        self.current.header()?;
        if self.is_promoted || self.has_unassigned {
            return None;
        }
        let listed = self.slots.iter().filter(|slot| slot.is_listed);
        let mut well_since = listed.filter_map(|slot| match slot.held {
            Some(Reason::ROLLED_BACK | Reason::SAFE_MODE) => Some(None),
            Some(_) => None,
            None if slot.is_rolled_back => Some(None),
            None => Some(slot.well_since()),
        });
        let since = well_since.try_fold(self.applied_at, |latest, since| Some(latest.max(since?)))?;
        Some(since.after(SETTLED_AFTER))
    }

    pub(crate) fn intake_deadline(&self) -> Option<Instant> {
        earliest(self.intake.deadline(), earliest(self.keep.deadline(), self.promotion_at()))
    }

    /// Whether an artifact must stay: something runs on it, or may have to.
    pub fn references(&self, digest: &Digest) -> bool {
        self.current.references(digest)
            || self.last_good.references(digest)
            || (self.intake.pending.is_some() && self.incoming.references(digest))
            || self.slots.iter().any(|slot| slot.live.is_some_and(|live| live.artifact == *digest))
    }
}
