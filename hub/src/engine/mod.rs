//! The hub's engine: all decisions, on one thread, without I/O, clock or randomness of its own.
//!
//! `handle(now, input)`, then `poll(now)` until `None`, then `poll_timeout()`. Answers and publications that a change
//! causes leave only when the change is durable.

mod admission;
mod alone;
mod apply;
mod changes;
mod clock;
mod desired;
mod device;
mod device_change;
mod dispatch;
mod door;
mod event;
mod explain;
mod fare;
mod fence;
mod firmware;
mod join;
mod lease;
mod liveness;
mod log;
mod mass_loss;
mod measure;
mod namespace;
mod object;
mod observe;
mod pending;
mod placed;
mod placement;
mod plan;
pub mod port;
mod problem;
mod quarantine;
mod queue;
mod recognise;
mod recovery;
mod rejection;
mod replacement;
mod request;
mod retained;
mod rival;
mod route;
mod sample;
mod selection;
mod session;
mod snapshot;
mod state;
mod status;
mod stored;
mod supply;
mod tally;
mod terms;
#[cfg(test)]
mod tests;
mod token;
mod watcher;
mod what_if;

pub use admission::HELLOS_PER_SECOND;
pub use apply::Applier;
pub use changes::CHANGES_MAX;
pub use device_change::REJECTIONS_MAX;
pub use event::{EVENTS_MAX, FOLLOWERS_MAX};
pub use firmware::{CONFIRM_WITHIN, OFFER_PAUSE, OFFER_SILENCE, OFFERS_MAX, ROLLOUT_TARGETS_MAX, ROLLOUTS_MAX};
pub use join::{TOKENS_MAX as JOIN_TOKENS_MAX, credential, device_password, join_password};
pub use lease::{LEASES_MAX, NEEDS_BURST, NEEDS_PER_SECOND, WITNESS_PAUSE};
pub use liveness::WILL_DELAY;
pub use log::{LINES_MAX as LOG_LINES_MAX, LOG_BYTES_MAX};
pub use pending::{ANSWERS_PARKED_MAX, BATCHES_PENDING_MAX};
pub use plan::PLAN_DOCUMENTS_MAX;
pub(crate) use problem::refused;
pub use recognise::WHOLE_AFTER;
pub use recovery::{AHEAD_SHOWN_MAX, GRANTS_PAUSE, PROOF_ASKED_MAX};
pub use retained::retained;
pub use rival::{ANNOUNCE_PAUSE, RIVAL_JUMP_MAX, RIVAL_SILENCE, RIVALS_MAX};
pub use stored::timestamp;
pub use supply::{
    CHUNKS_BURST, CHUNKS_PER_SECOND, CONTENT_ANSWERS_MAX, CONTENT_NEEDS_BURST, CONTENT_NEEDS_PER_SECOND,
    CONTENT_WAITING_MAX,
};
pub use token::{API_TOKENS_MAX, loaded_grants};
pub use watcher::{WATCHER_CREDIT_MAX, WATCHER_LAG_MAX, WATCHERS_MAX};
pub use what_if::OVERRIDES_MAX;

pub use port::{
    AccessChange, AheadDevice, Answer, ChangeKind, ClassAccount, ContentRead, DeviceChange, Effect, EngineConfig,
    EventLine, Exchange, FirmwareImage, Follow, HubStatus, Input, Instant, LogLine, Measures, Mode, Now, Outcome,
    Place, Position, Problem, Publication, RecoveryStatus, Request, RolloutVerb, SampleLine, Selection, Severity,
    StreamItem, Ticket, WhatIf,
};

use crate::commit::{Loaded, Write};
use admission::Admission;
use changes::Changes;
use clock::WallClock;
use device::Bucket;
use dispatch::Link;
use event::{Events, Follower};
use firmware::Rollouts;
use lease::Leases;
use liveness::Watch;
use log::Logs;
use namespace::Namespaces;
use pending::Pipeline;
use placement::Placement;
pub use port::Signer;
use quarantine::Quarantine;
use recovery::Recovery;
use rival::Rivals;
use sample::SampleTotals;
use session::Waiting;
use state::State;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use supply::Supply;
use watcher::Watcher;
use wire::Instance;
use wire::sign::PublicKey;

/// The engine. Its parts are in the files of this folder, one concern each.
pub struct Engine {
    config: Settings,
    hub_signing: PublicKey,
    incarnation: u32,
    state: State,
    pipeline: Pipeline,
    effects: VecDeque<Effect>,
    followers: BTreeMap<Ticket, Follower>,
    changes: Changes,
    watchers: BTreeMap<Ticket, Watcher>,
    events: Events,
    logs: Logs,
    link: Link,
    watch: Watch,
    placement: Placement,
    /// Unapproved devices that said Hello, by index.
    waiting: HashMap<u32, Waiting>,
    joins: Bucket,
    joins_told: Bucket,
    sweep_at: Option<Instant>,
    clock: WallClock,
    quarantine: Quarantine,
    leases: Leases,
    /// Devices to look at, because they may be ready to be deleted.
    leaving: BTreeSet<u32>,
    namespaces: Namespaces,
    rivals: Rivals,
    door: door::Door,
    recovery: Recovery,
    samples: SampleTotals,
    admission: Admission,
    supply: Supply,
    rollouts: Rollouts,
    hellos_sent_away: u64,
    messages_refused: u64,
}

/// The configuration without the key, which the state keeps.
struct Settings {
    broker: String,
    artifacts: String,
    certificate: Option<wire::Digest>,
    trust: Vec<u8>,
    heartbeat: Duration,
    spread: Duration,
    sweep: Duration,
    republish_per_second: u32,
    lost_after: Duration,
    instance: Instance,
    hellos_per_second: u32,
    signer: Option<Signer>,
}

impl Engine {
    /// From what is durable; nothing is sent before `LinkUp`.
    pub fn new(config: EngineConfig, loaded: Loaded) -> Self {
        let EngineConfig {
            broker,
            artifacts,
            certificate,
            exchange,
            trust,
            heartbeat,
            spread,
            sweep,
            republish_per_second,
            lost_after,
            instance,
            hellos_per_second,
            signer,
        } = config;
        let mut state = State::new(loaded.fleet, exchange);
        state.workload_id_next = loaded.workload_id_next.max(1);
        state.incarnation = loaded.incarnation;
        // Before the devices: whether one is held follows from it.
        state.recovery = loaded.recovery;
        state.holds = loaded.holds.into_iter().collect();
        for (keys, pair) in loaded.devices {
            state.device_put(keys, pair);
        }
        let mut objects = loaded.objects;
        // Artifacts before the workloads that refer to them.
        objects.sort_by_key(|row| crate::model::Kind::parse(&row.kind));
        for row in objects {
            state.apply(&Write::ObjectPut(row));
        }
        for row in loaded.rejections {
            state.apply(&Write::RejectionPut(row));
        }
        for row in loaded.tokens {
            state.apply(&Write::TokenPut(row));
        }
        for (device, bytes) in loaded.capabilities {
            state.apply(&Write::CapabilitiesPut { device, bytes });
        }
        for row in loaded.desired {
            state.desired_load(row);
        }
        for row in loaded.leases {
            state.apply(&Write::LeasePut(row));
        }
        let namespaces = Namespaces::of(&state);
        let leases = Leases::new(&state.leases, loaded.sequence);
        let mut engine = Self {
            config: Settings {
                broker,
                artifacts,
                certificate,
                trust,
                heartbeat,
                spread,
                sweep,
                republish_per_second,
                lost_after,
                instance,
                hellos_per_second,
                signer,
            },
            hub_signing: loaded.hub_signing,
            incarnation: loaded.incarnation,
            state,
            pipeline: Pipeline::new(loaded.sequence),
            effects: VecDeque::new(),
            followers: BTreeMap::new(),
            changes: Changes::default(),
            watchers: BTreeMap::new(),
            events: Events::default(),
            logs: Logs::default(),
            link: Link::default(),
            watch: Watch::default(),
            placement: Placement::default(),
            waiting: HashMap::new(),
            joins: Bucket::default(),
            joins_told: Bucket::default(),
            sweep_at: None,
            clock: WallClock::default(),
            quarantine: Quarantine::default(),
            leases,
            leaving: BTreeSet::new(),
            namespaces,
            rivals: Rivals::default(),
            door: door::Door::default(),
            recovery: Recovery::default(),
            samples: SampleTotals::default(),
            admission: Admission::default(),
            supply: Supply::default(),
            rollouts: Rollouts::default(),
            hellos_sent_away: 0,
            messages_refused: 0,
        };
        engine.leaving_mark_all();
        engine.rollouts.resume();
        engine
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.clock_look(now);
        self.leases_start(now);
        // Before anything that is to be in them.
        self.namespaces_run(now);
        match input {
            Input::Request { ticket, actor, request } => self.request(now, ticket, &actor, request),
            Input::Cancel { ticket } => self.cancel(ticket),
            Input::Took { ticket, items } => self.watcher_took(ticket, items),
            Input::Up { device, topic, payload, retained } => self.up(now, device, topic, &payload, retained),
            Input::Join { token, payload, retained } => self.join(now, token, &payload, retained),
            Input::LinkUp => self.link_up(now),
            Input::LinkDown => self.link_down(),
            Input::Acknowledged { publication } => self.acknowledged(now, publication),
            Input::PublishRefused { publication } => self.publish_refused(now, publication),
            Input::Committed { sequence, signed } => self.committed(now, sequence, signed),
            Input::Failed { sequence, reason } => self.failed(now, sequence, reason),
            Input::HubStateSeen { payload, retained } => self.hub_state_seen(now, &payload, retained),
            Input::AccountTaken => self.account_taken(now),
            Input::Door { is_open } => self.door_seen(now, is_open),
            Input::ContentRead { read, content } => self.content_read(now, read, content),
        }
    }

    /// The next effect; `None` when there is nothing to do before the next input or the time of `poll_timeout`.
    pub fn poll(&mut self, now: Now) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        self.namespaces_run(now);
        // Before placement, which moves what the lost had.
        self.presence_run(now);
        self.rivals_run(now);
        self.recovery_run(now);
        self.rollouts_run(now);
        self.placement_run(now);
        self.tell_too_large(now);
        self.dispatch_run(now);
        self.leases_run(now);
        self.quarantine_run(now);
        self.leaving_run(now);
        self.changes_run(now);
        match self.sweep_at {
            Some(at) if at <= now.monotonic => {
                self.sweep();
                self.samples_sweep();
                self.tokens_sweep(now);
                self.sweep_at = Some(now.monotonic.after(self.config.sweep));
            }
            Some(_) => {}
            None => self.sweep_at = Some(now.monotonic.after(self.config.sweep)),
        }
        let effect = self.effects.pop_front().or_else(|| self.next_item()).or_else(|| self.watchers_run(now));
        // Last, so that nothing waits for it.
        effect.or_else(|| self.supply_next(now))
    }

    fn next_item(&mut self) -> Option<Effect> {
        let (ticket, item) =
            self.followers.iter_mut().find_map(|(ticket, follower)| Some((*ticket, follower.next()?)))?;
        if item == StreamItem::End {
            self.followers.remove(&ticket);
        }
        Some(Effect::Stream { ticket, item })
    }

    /// How many workloads the scheduler has looked at; the shell takes the time.
    pub fn scheduler_runs(&self) -> u64 {
        self.placement.runs
    }

    /// When `poll` must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let times = [
            self.placement.timeout(),
            self.dispatch_timeout(),
            self.leases.timeout(),
            self.presence_timeout(),
            self.quarantine_timeout(),
            self.sweep_at,
            self.changes.timeout(),
            self.rivals_timeout(),
            self.recovery_timeout(),
            self.namespaces.timeout(),
            self.supply.timeout().filter(|_| !self.rivals.is_stopped()),
            self.rollouts.timeout(),
        ];
        times.into_iter().flatten().min()
    }
}
