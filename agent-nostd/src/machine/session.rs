//! The connection and the conversation that makes it mean something: Connect, subscriptions, Hello, Fresh, and when to let go.
//!
//! The machine owns every deadline of the link; a client library's own time-outs are never relied upon. What runs on the device
//! never depends on anything here.
use super::port::{LinkState, Quality, RetainHandling, Subscription, Ticket};
use super::random::doubled;
use super::time::{Duration, Instant, earliest};
use super::{Agent, Todo};
use wire::desired::{Header, SignedHeader};
use wire::event::Level;
use wire::hello::{
    Asks, DeviceClass, Fresh, Health, HelloFixed, HubState, LossCounters, Refusal, RefusalReason, Wear, Will,
};
use wire::topic::Up;
use wire::version::VersionRange;
use wire::{CommandId, DeviceId, Digest, DigestPrefix, Kind, LiveContext, Nonce, Revision, Session as SessionId};

/// `Connect` must be answered within this.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// SUBACK must come within this.
pub const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(20);
/// Full jitter: a random time between zero and `base * 2^tries`, at most the cap.
pub const CONNECT_BACK_OFF_BASE: Duration = Duration::from_secs(1);
pub const CONNECT_BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// A link that was good for so long was a good one: after it the first time counts again. One that is cut sooner is not, however
/// well it began, or whatever cuts it would be met again at once, for ever.
pub const STEADY_AFTER: Duration = Duration::from_secs(3);
/// A Hello is given at least this long for its answer, then the jitter.
pub const HELLO_PAUSE: Duration = Duration::from_secs(5);
/// A Fresh counts only within this of its Hello.
pub const FRESH_WITHIN: Duration = Duration::from_secs(30);
/// Fresh is asked for again within this; sooner for work that may run for a limited time without the hub.
pub const FRESH_EVERY_MAX: Duration = Duration::from_secs(900);
/// And never more often than this.
pub const FRESH_EVERY_MIN: Duration = Duration::from_secs(1);
/// Without Fresh for so long, the broker's retained copy is asked for.
pub const RETAINED_AFTER: Duration = Duration::from_secs(10);
/// What Fresh announced must have come within this, else the retained copy is asked for.
pub const DESIRED_WITHIN: Duration = Duration::from_secs(5);
const DESIRED_AGAIN_MAX: Duration = Duration::from_secs(300);
/// A hint of the hub to come later is followed up to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// A hub that is busy says when to come again, in whole seconds; so much is added at random.
pub const BUSY_JITTER: Duration = Duration::from_millis(1000);
/// So many refusals in the window lead to a pause.
pub const REFUSALS_MAX: u32 = 5;
pub const REFUSALS_WINDOW: Duration = Duration::from_secs(600);
pub const REFUSED_PAUSE: Duration = Duration::from_secs(3600);
/// A link that is cut so soon after the desired set was subscribed, so often in a row, is cut by what the broker holds there.
pub const CUT_WITHIN: Duration = Duration::from_secs(5);
pub const CUTS_MAX: u32 = 3;
/// The first time that another connection takes the name is forgiven, as it may be a ghost of our own; another time within
/// this means a second device with the same keys, and both have to keep the peace.
pub const TAKEN_WINDOW: Duration = Duration::from_secs(600);
/// The shortest pause then, and at most so much longer.
pub const TAKEN_PAUSE: Duration = Duration::from_secs(60);
/// After Fresh and this, the subscription is tried again: the hub knows the packet limit by then.
pub const SUPPRESSED_FOR: Duration = Duration::from_secs(60);
/// The longest spread of a new hub incarnation that is followed, and how often at most.
pub const SPREAD_MAX: Duration = Duration::from_secs(3600);
pub const REANNOUNCE_EVERY: Duration = Duration::from_secs(300);
/// PUBACK within this, or half the keep-alive: else the link is dead.
pub const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Link {
    #[default]
    Finished,
    Offline {
        retry_at: Instant,
    },
    Connecting {
        deadline: Instant,
    },
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Subscribed {
    #[default]
    No,
    Wanted,
    Asked {
        deadline: Instant,
    },
    Yes,
}

/// What belongs to one connection and is forgotten with it.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    live: Subscribed,
    desired: Subscribed,
    handling: Option<RetainHandling>,
    desired_at: Option<Instant>,
    first_hello_at: Option<Instant>,
    has_asked_retained: bool,
    nonce: Option<(Nonce, Instant)>,
    hello_at: Instant,
    hello_tries: u32,
    hello_acknowledgement: Option<(Ticket, Instant)>,
    fresh_at: Option<Instant>,
    /// Of the first Fresh; later ones may come more often than anything waits for.
    first_fresh_at: Option<Instant>,
    /// When to look whether what Fresh announced has come.
    recheck_at: Option<Instant>,
    rechecks: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub link: Link,
    connection: Connection,
    connect_tries: u32,
    pub id: Option<SessionId>,
    /// The latest Fresh of this boot, and when the Hello that it answers was sent.
    fresh: Option<(Fresh, Instant)>,
    asks: Asks,
    refusals: u32,
    refused_since: Instant,
    cuts: u32,
    taken_at: Option<Instant>,
    is_desired_suppressed: bool,
    /// As the shell told it last.
    pub wear: Option<Wear>,
    /// The gateway that relays, and whether the hub has not been told of a change.
    behind: Option<DeviceId>,
    is_behind_news: bool,
    incarnation: Option<u32>,
    reannounce_at: Option<Instant>,
    /// What is planned is an answer to a change of incarnation, of which there are few.
    reannounce_counts: bool,
    reannounced_at: Option<Instant>,
}

impl Session {
    pub fn new(first_connect_at: Instant) -> Self {
        Self { link: Link::Offline { retry_at: first_connect_at }, ..Self::default() }
    }

    /// Cables are plugged elsewhere without a reset.
    pub fn set_behind(&mut self, gateway: Option<DeviceId>) {
        self.is_behind_news |= self.behind != gateway;
        self.behind = gateway;
    }

    /// When the question was sent that was answered last in this boot.
    pub fn fresh_at(&self) -> Option<Instant> {
        self.fresh.map(|(_, at)| at)
    }

    pub fn is_fresh_this_boot(&self) -> bool {
        self.fresh.is_some()
    }

    /// Whether a set is what this boot's Fresh spoke of, or newer: a signed set above that cannot be an old one.
    pub fn confirms(&self, header: &Header) -> bool {
        self.fresh.is_some_and(|(fresh, _)| {
            let is_same = fresh.revision == header.revision && fresh.digest == header.body.prefix();
            is_same || header.revision > fresh.revision
        })
    }

    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// Fresh came on this connection: what is sent now has a session to belong to.
    pub fn is_established(&self) -> bool {
        self.is_up() && self.connection.fresh_at.is_some() && self.id.is_some()
    }

    pub fn state(&self) -> LinkState {
        match self.link {
            Link::Finished => LinkState::Offline { retry_at: Instant::from_ms(u64::MAX) },
            Link::Offline { retry_at } => LinkState::Offline { retry_at },
            Link::Connecting { .. } => LinkState::Connecting,
            Link::Up if self.connection.fresh_at.is_some() => LinkState::Fresh,
            Link::Up => LinkState::Linked,
        }
    }

    pub fn unix_ms(&self, now: Instant) -> Option<u64> {
        let (fresh, at) = self.fresh.as_ref()?;
        Some(fresh.time_ms.saturating_add(super::time::millis(now.since(*at))))
    }

    fn deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Finished => None,
            Link::Offline { retry_at } => Some(retry_at),
            Link::Connecting { deadline } => Some(deadline),
            Link::Up => {
                let connection = &self.connection;
                let suback = |subscribed: Subscribed| match subscribed {
                    Subscribed::Asked { deadline } => Some(deadline),
                    Subscribed::No | Subscribed::Wanted | Subscribed::Yes => None,
                };
                let hello = (connection.live == Subscribed::Yes).then_some(connection.hello_at);
                let retained = match (connection.first_hello_at, connection.fresh_at) {
                    (Some(at), None) if !connection.has_asked_retained => Some(at.after(RETAINED_AFTER)),
                    _ => None,
                };
                let recheck =
                    earliest(retained, connection.recheck_at).filter(|_| connection.desired == Subscribed::Yes);
                let suppressed =
                    connection.first_fresh_at.filter(|_| self.is_desired_suppressed).map(|at| at.after(SUPPRESSED_FOR));
                let acknowledgement = connection.hello_acknowledgement.map(|(_, deadline)| deadline);
                [suback(connection.live), suback(connection.desired), hello, recheck, suppressed, acknowledgement]
                    .into_iter()
                    .chain([self.reannounce_at])
                    .fold(None, earliest)
            }
        }
    }
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// How long a PUBACK may take.
    pub(crate) fn acknowledge_within(&self) -> Duration {
        (self.config.keep_alive / 2).min(ACKNOWLEDGE_MAX)
    }

    pub(crate) fn session_deadline(&self) -> Option<Instant> {
        match self.session.link {
            Link::Offline { .. } if self.is_shutting_down => None,
            Link::Finished | Link::Offline { .. } | Link::Connecting { .. } | Link::Up => self.session.deadline(),
        }
    }

    pub(crate) fn poll_session(&mut self, now: Instant) -> Option<Todo> {
        match self.session.link {
            Link::Finished => None,
            Link::Offline { retry_at } if retry_at > now => None,
            Link::Offline { .. } if self.is_shutting_down => None,
            Link::Offline { .. } => self.connect(now),
            Link::Connecting { deadline } if deadline > now => None,
            Link::Connecting { .. } => Some(self.drop_link(now)),
            Link::Up => self.poll_connection(now),
        }
    }

    fn connect(&mut self, now: Instant) -> Option<Todo> {
        self.session.link = Link::Connecting { deadline: now.after(CONNECT_DEADLINE) };
        let context = LiveContext::outside(self.config.fleet, self.config.device, self.boot);
        let will = Will { boot: self.boot };
        let frame = wire::frame::encode_live(self.outgoing, self.config.pair_key, &context, &will);
        Some(Todo::Connect { length: frame.map_or(0, |frame| frame.len()) })
    }

    /// Forgets the connection; what was in flight is sent again on the next one.
    fn disconnected(&mut self, now: Instant, pause: Option<Duration>) {
        if self.session.connection.first_fresh_at.is_some_and(|at| now.since(at) >= STEADY_AFTER) {
            self.session.connect_tries = 0;
        }
        let jitter = doubled(CONNECT_BACK_OFF_BASE, self.session.connect_tries, CONNECT_BACK_OFF_MAX);
        let pause = pause.unwrap_or_else(|| self.config.random.up_to(jitter));
        self.session.connect_tries = self.session.connect_tries.saturating_add(1);
        self.session.link = Link::Offline { retry_at: now.after(pause) };
        self.session.connection = Connection::default();
        // The next connection begins with a Hello anyway.
        self.session.reannounce_at = None;
        self.report.link_lost();
        self.logs.link_lost();
        self.events.link_lost();
        self.leases_link_lost(now);
        self.telemetry.link_lost();
    }

    pub(crate) fn drop_link(&mut self, now: Instant) -> Todo {
        self.disconnected(now, None);
        Todo::Disconnect
    }

    pub(crate) fn link_up(&mut self, now: Instant) {
        match self.session.link {
            Link::Connecting { .. } => {}
            // Late: the attempt was given up.
            Link::Finished | Link::Offline { .. } | Link::Up => return,
        }
        self.session.link = Link::Up;
        self.session.connection = Connection { live: Subscribed::Wanted, hello_at: now, ..Connection::default() };
    }

    pub(crate) fn link_down(&mut self, now: Instant) {
        match self.session.link {
            Link::Connecting { .. } => {}
            Link::Up => self.count_cut(now),
            Link::Finished | Link::Offline { .. } => return,
        }
        self.disconnected(now, None);
    }

    /// Two machines with one identity would throw each other out for ever.
    pub(crate) fn link_taken(&mut self, now: Instant) {
        if !self.session.is_up() {
            return self.link_down(now);
        }
        let last = self.session.taken_at.replace(now);
        let is_again = last.is_some_and(|last| now.since(last) <= TAKEN_WINDOW);
        if !is_again {
            return self.disconnected(now, None);
        }
        let pause = TAKEN_PAUSE.saturating_add(self.config.random.up_to(TAKEN_PAUSE));
        self.note(
            now,
            Level::Error,
            format_args!(
                "another machine connects with the keys of this one: end one of them; trying again in {} s",
                pause.as_secs()
            ),
        );
        self.disconnected(now, Some(pause));
    }

    fn count_cut(&mut self, now: Instant) {
        let Some(at) = self.session.connection.desired_at else { return };
        if now.since(at) > CUT_WITHIN {
            self.session.cuts = 0;
            return;
        }
        self.session.cuts = self.session.cuts.saturating_add(1);
        if self.session.cuts >= CUTS_MAX && !self.session.is_desired_suppressed {
            self.session.is_desired_suppressed = true;
            self.note(
                now,
                Level::Warn,
                format_args!("cut {CUTS_MAX} times just after subscribing to the desired set: connecting without it"),
            );
        }
    }

    pub(crate) fn subscribed(&mut self, subscription: Subscription) {
        let connection = &mut self.session.connection;
        let subscribed = match subscription {
            Subscription::Live => &mut connection.live,
            Subscription::Desired(_) => &mut connection.desired,
        };
        if matches!(subscribed, Subscribed::Asked { .. }) {
            *subscribed = Subscribed::Yes;
        }
    }

    /// A broker that refuses is asked again on the next connection; its answer may depend on state that is still loading.
    pub(crate) fn subscribe_refused(&mut self, now: Instant, subscription: Subscription) {
        if self.session.is_up() {
            self.note(
                now,
                Level::Error,
                format_args!("the broker refused the subscription {subscription:?}; reconnecting"),
            );
            self.wants_disconnect = true;
        }
    }

    fn poll_connection(&mut self, now: Instant) -> Option<Todo> {
        if self.wants_disconnect || self.is_link_dead(now) {
            self.wants_disconnect = false;
            return Some(self.drop_link(now));
        }
        let deadline = now.after(SUBSCRIBE_DEADLINE);
        let connection = &mut self.session.connection;
        if connection.live == Subscribed::Wanted {
            connection.live = Subscribed::Asked { deadline };
            return Some(Todo::Subscribe(Subscription::Live));
        }
        if connection.live != Subscribed::Yes {
            return None;
        }
        if self.session.reannounce_at.is_some_and(|at| at <= now) {
            self.session.reannounce_at = None;
            if self.session.reannounce_counts {
                self.session.reannounced_at = Some(now);
            }
            self.session.connection.hello_at = now;
            self.report.ask();
        }
        if let (Some(at), 0) = (self.session.connection.fresh_at, self.session.connection.hello_tries) {
            // A set that came since may ask for more.
            let connection = &mut self.session.connection;
            connection.hello_at = connection.hello_at.min(at.after(self.fresh_every));
        }
        if self.session.connection.hello_at <= now {
            return self.hello(now);
        }
        self.want_desired(now);
        let connection = &mut self.session.connection;
        match (connection.desired, connection.handling) {
            (Subscribed::Wanted, Some(handling)) => {
                connection.desired = Subscribed::Asked { deadline };
                connection.desired_at.get_or_insert(now);
                Some(Todo::Subscribe(Subscription::Desired(handling)))
            }
            (Subscribed::No | Subscribed::Wanted | Subscribed::Asked { .. } | Subscribed::Yes, _) => None,
        }
    }

    fn is_link_dead(&self, now: Instant) -> bool {
        let connection = &self.session.connection;
        let overdue = |subscribed: Subscribed| matches!(subscribed, Subscribed::Asked { deadline } if deadline <= now);
        let acknowledgements = [
            connection.hello_acknowledgement.map(|(_, deadline)| deadline),
            self.report.acknowledge_deadline(),
            self.logs.deadline(),
            self.events.deadline(),
            self.release_deadline(),
            self.telemetry.acknowledge_deadline(),
        ];
        overdue(connection.live)
            || overdue(connection.desired)
            || acknowledgements.into_iter().flatten().any(|deadline| deadline <= now)
    }

    /// Decides whether, and how, the desired set has to be subscribed (again).
    fn want_desired(&mut self, now: Instant) {
        let revision = self.session.fresh.map(|(fresh, _)| fresh.revision);
        let has_all = revision.is_none_or(|revision| self.has_revision(revision));
        let session = &mut self.session;
        let connection = &mut session.connection;
        if session.is_desired_suppressed {
            if connection.first_fresh_at.is_none_or(|at| at.after(SUPPRESSED_FOR) > now) {
                return;
            }
            session.is_desired_suppressed = false;
            // One more cut is enough to be convinced again.
            session.cuts = CUTS_MAX - 1;
        }
        let want = |connection: &mut Connection, handling| {
            connection.desired = Subscribed::Wanted;
            connection.handling = Some(handling);
        };
        match connection.desired {
            Subscribed::No => want(connection, RetainHandling::Skip),
            Subscribed::Wanted | Subscribed::Asked { .. } => {}
            Subscribed::Yes => {
                let is_silent = connection.fresh_at.is_none()
                    && connection.first_hello_at.is_some_and(|at| at.after(RETAINED_AFTER) <= now);
                if is_silent && !connection.has_asked_retained {
                    want(connection, RetainHandling::Send);
                    connection.has_asked_retained = true;
                } else if connection.recheck_at.is_some_and(|at| at <= now) {
                    connection.recheck_at = None;
                    if !has_all {
                        want(connection, RetainHandling::Send);
                        connection.rechecks = connection.rechecks.saturating_add(1);
                        let pause = doubled(DESIRED_WITHIN, connection.rechecks, DESIRED_AGAIN_MAX);
                        connection.recheck_at = Some(now.after(pause));
                    }
                }
            }
        }
    }

    fn hello(&mut self, now: Instant) -> Option<Todo> {
        let nonce = Nonce(self.config.random.bytes());
        let connection = &mut self.session.connection;
        let pause = doubled(HELLO_PAUSE, connection.hello_tries, CONNECT_BACK_OFF_MAX);
        connection.hello_tries = connection.hello_tries.saturating_add(1);
        connection.hello_at = now.after(HELLO_PAUSE).after(self.config.random.up_to(pause));
        connection.nonce = Some((nonce, now));
        connection.first_hello_at.get_or_insert(now);
        let asks = self.session.asks;
        let signed = self.current.signed();
        let fixed = HelloFixed {
            boot: self.boot,
            nonce,
            versions: VersionRange::SPOKEN,
            revision: signed.map_or(Revision::default(), |signed| signed.header.revision),
            digest: signed.map_or(DigestPrefix::default(), |signed| signed.header.body.prefix()),
            status: self.report.sent(),
            capabilities: self.config.capabilities.digest().prefix(),
            packet_bytes_max: self.config.packet_bytes_max,
            command: CommandId::default(),
            trust: 0,
            lost: self.lost(),
            reset: self.config.reset,
        };
        let hello = wire::hello::Hello {
            fixed,
            capabilities: asks.contains(Asks::CAPABILITIES).then_some(self.config.capabilities),
            proof: asks.contains(Asks::PROOF).then(|| signed.copied()).flatten(),
            health: self.health(now, asks),
        };
        let context = LiveContext::outside(self.config.fleet, self.config.device, self.boot);
        let write = |writer: &mut wire::codec::Writer<'_>| hello.write(writer);
        let frame = wire::frame::encode_live_with(self.outgoing, Kind::Hello, self.config.pair_key, &context, write);
        let length = frame.ok()?.len();
        let ticket = self.ticket();
        let deadline = now.after(self.acknowledge_within());
        self.session.connection.hello_acknowledgement.get_or_insert((ticket, deadline));
        Some(Todo::Publish { topic: Up::Hello, length, quality: Quality::AtLeastOnce, ticket })
    }

    /// What found no room: since boot, but alarms since their ring was made.
    pub fn lost(&self) -> LossCounters {
        LossCounters { events: self.events.lost(), logs: self.logs.lost(), ..self.telemetry.lost() }
    }

    pub(crate) fn hello_acknowledged(&mut self, ticket: Ticket) {
        self.session.connection.hello_acknowledgement.take_if(|(of, _)| *of == ticket);
    }

    /// The answer to the latest nonce, in time; anything else is as if it had not come.
    fn take_nonce(&mut self, now: Instant, nonce: Nonce) -> Option<Instant> {
        let (asked, at) = self.session.connection.nonce?;
        if asked != nonce || now.since(at) > FRESH_WITHIN || !self.session.is_up() {
            return None;
        }
        self.session.connection.nonce = None;
        Some(at)
    }

    pub(crate) fn on_fresh(&mut self, now: Instant, payload: &[u8]) {
        let context = LiveContext::outside(self.config.fleet, self.config.device, self.boot);
        let Ok(fresh) = wire::frame::decode_live::<Fresh>(payload, self.config.pair_key, &context) else { return };
        let Some(sent_at) = self.take_nonce(now, fresh.nonce) else { return };
        self.hear_time(now, &fresh);
        let is_new_session = self.session.id != Some(fresh.session);
        let is_first_here = self.session.connection.fresh_at.is_none();
        self.session.id = Some(fresh.session);
        self.session.fresh = Some((fresh, sent_at));
        self.session.refusals = 0;
        self.session.is_behind_news = false;
        self.session.asks = Asks::default();
        // A fifth more is possible, and still within the time.
        let again = self.config.random.about(self.fresh_every * 5 / 6);
        let connection = &mut self.session.connection;
        connection.fresh_at = Some(now);
        connection.first_fresh_at.get_or_insert(now);
        connection.hello_tries = 0;
        connection.hello_at = now.after(again);
        connection.rechecks = 0;
        connection.recheck_at = Some(if self.intake.has_seen_unconfirmed { now } else { now.after(DESIRED_WITHIN) });
        self.intake.has_seen_unconfirmed = false;
        self.report.fresh(now, &fresh, is_first_here, is_new_session, &mut self.config.random);
        if is_first_here || is_new_session {
            let within = self.config.random.up_to(super::telemetry::SAMPLES_SPREAD);
            self.telemetry.link_found(now, is_new_session, within);
        }
        if is_new_session {
            self.inputs_seen = 0;
        }
        self.on_asks(now, fresh.asks);
    }

    /// Capabilities and proof go with another Hello, a status by itself.
    pub(crate) fn on_asks(&mut self, now: Instant, asks: Asks) {
        if asks.contains(Asks::STATUS) {
            self.report.ask();
        }
        let for_hello = Asks(asks.0 & Asks::CAPABILITIES.union(Asks::PROOF).union(Asks::HEALTH).0);
        if for_hello != Asks::default() {
            self.session.asks = self.session.asks.union(for_hello);
            self.session.connection.hello_at = now;
        }
    }

    pub(crate) fn on_refusal(&mut self, now: Instant, payload: &[u8]) {
        let context = LiveContext::outside(self.config.fleet, self.config.device, self.boot);
        let Ok(refusal) = wire::frame::decode_live::<Refusal>(payload, self.config.pair_key, &context) else { return };
        let Some(sent_at) = self.take_nonce(now, refusal.nonce) else { return };
        if refusal.reason == RefusalReason::Busy {
            // The hub's own doing: it never leads to the long pause, and the hint spreads the fleet already.
            let hint = Duration::from_secs(u64::from(refusal.retry_after_s)).min(RETRY_AFTER_MAX);
            self.session.connection.hello_at = now.after(hint).after(self.config.random.up_to(BUSY_JITTER));
            return;
        }
        if refusal.reason == RefusalReason::Quarantined {
            // Whoever is taken for one that proves nothing may never have heard that it was asked.
            self.session.asks = self.session.asks.union(Asks::PROOF);
        }
        let is_waiting = refusal.reason == RefusalReason::NotApproved;
        if is_waiting {
            // A person decides, which is no fault of ours: it never leads to the long pause, and an approval that comes soon
            // may still answer this Hello.
            self.session.connection.nonce = Some((refusal.nonce, sent_at));
            self.session.refusals = 0;
        } else if self.session.refusals == 0 || now.since(self.session.refused_since) > REFUSALS_WINDOW {
            self.session.refusals = 0;
            self.session.refused_since = now;
        }
        self.session.refusals += u32::from(!is_waiting);
        let hint = Duration::from_secs(u64::from(refusal.retry_after_s)).min(RETRY_AFTER_MAX);
        let connection = &mut self.session.connection;
        let jitter = doubled(HELLO_PAUSE, connection.hello_tries, CONNECT_BACK_OFF_MAX);
        connection.hello_at = now.after(hint).after(self.config.random.up_to(jitter));
        if self.session.refusals >= REFUSALS_MAX {
            self.session.refusals = 0;
            self.note(
                now,
                Level::Error,
                format_args!("refused by the hub {REFUSALS_MAX} times: {:?}; pausing for an hour", refusal.reason),
            );
            self.disconnected(now, Some(REFUSED_PAUSE));
            self.owes_disconnect = true;
        }
    }

    pub(crate) fn on_hub_state(&mut self, now: Instant, payload: &[u8]) {
        let Ok(state) = wire::frame::decode_plain::<HubState>(payload) else { return };
        let known = self.session.incarnation.replace(state.incarnation);
        // Before the first Fresh of a connection a Hello is on its way anyway. Whoever was greeted before it heard of any
        // incarnation, from a broker that had lost it, cannot know whether it was this one.
        if known == Some(state.incarnation) || !self.session.is_established() {
            return;
        }
        // Its session says who greeted it: a hub that started again with its broker has the whole fleet back before it says so.
        if self.session.id.is_some_and(|session| session.is_of(state.incarnation)) {
            return;
        }
        // The first one is heard once in a boot: it must not delay the answer to a hub that starts again soon after.
        self.session.reannounce_counts = known.is_some();
        let spread = Duration::from_millis(u64::from(state.spread_ms)).min(SPREAD_MAX);
        let at = now.after(self.config.random.up_to(spread));
        let earliest_at = self.session.reannounced_at.map(|last| last.after(REANNOUNCE_EVERY));
        self.session.reannounce_at = Some(earliest_at.map_or(at, |earliest_at| at.max(earliest_at)));
    }

    /// For local tools: the accepted set.
    pub fn accepted(&self) -> Option<(Revision, Digest)> {
        self.current.signed().map(|SignedHeader { header, .. }| (header.revision, header.body))
    }
}

impl<'b, const SLOTS: usize> Agent<'b, SLOTS> {
    /// How a microcontroller fares, while that is news or when it is asked for.
    fn health(&self, now: Instant, asks: Asks) -> Option<Health<'b>> {
        let is_new = !self.session.is_fresh_this_boot();
        let is_due = is_new || self.session.is_behind_news || asks.contains(Asks::HEALTH);
        let uptime_s = u32::try_from(now.since(self.started_at).as_secs()).unwrap_or(u32::MAX);
        (is_due && self.config.capabilities.class == DeviceClass::Mcu).then_some(Health {
            is_new,
            uptime_s,
            end: self.config.last_end,
            wear: self.session.wear,
            behind: self.session.behind,
        })
    }
}
