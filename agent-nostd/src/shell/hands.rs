//! What the machine says is done here. Flash answers at once; what the link and functions have to say comes with their turns.
//!
//! Must never wait, and never interpret what it carries.
use super::fetch::{Fetched, Fetches};
use super::firmware::{Act, Firmware};
use super::functions::Functions;
use super::limits::{FIRMWARE_REPORT_BYTES, LOSSES_EVERY, NEED_BYTES, WILL_BYTES};
use super::mqtt::Client;
use super::port::{Board, Key, Platform, Store, Updates};
use super::random::Random;
use super::world::World;
use crate::machine::Agent as Machine;
use crate::machine::port::{
    Content, Effect, Failure, FetchFailure, Input, LaunchId, PersistFailure, Quality, RetainHandling, Source,
    Subscription, Ticket, Trigger,
};
use crate::machine::time::Instant;
use core::fmt::Write as _;
use wire::event::Level;
use wire::firmware::Statement;
use wire::hello::{Erases, Wear};
use wire::topic::{Down, Topic, TopicText, Up};
use wire::{DeviceId, Digest};

/// How much of it must have changed before the machine hears of it.
const RESOURCE_CHANGE_PERCENT: u64 = 5;
/// Topics of the group that is subscribed first: all of `down/` but the set, and the hub's state.
const LIVE_TOPICS: usize = Down::ALL.len();

/// What the machine wants of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Connect,
    Disconnect,
}

/// What is known at once.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Persisted(Ticket),
    PersistFailed(Ticket, PersistFailure),
    Fetched(Digest),
    FetchFailed(Content, Digest, FetchFailure),
    StartFailed(LaunchId, Failure, &'static str),
    Stopped(LaunchId),
}

impl Answer {
    pub fn input(&self) -> Input<'_> {
        match *self {
            Self::Persisted(ticket) => Input::Persisted { ticket },
            Self::PersistFailed(ticket, failure) => Input::PersistFailed { ticket, failure },
            Self::Fetched(digest) => Input::Fetched { digest },
            Self::FetchFailed(content, digest, failure) => Input::FetchFailed { content, digest, failure },
            Self::StartFailed(launch, failure, detail) => Input::StartFailed { launch, failure, detail },
            Self::Stopped(launch) => Input::Stopped { launch },
        }
    }
}

/// Everything that acts.
pub struct Hands<'a, P: Platform> {
    pub clock: &'a P::Clock,
    pub board: &'a P::Board,
    pub store: &'a mut P::Store,
    pub peripherals: &'a mut P::Peripherals,
    pub updates: &'a mut P::Updates,
    pub firmware: Firmware,
    pub fleet: &'a str,
    pub device: DeviceId,
    pub random: Random,
    pub functions: Functions,
    pub will: heapless::Vec<u8, WILL_BYTES>,
    pub wish: Option<Wish>,
    collect_due: bool,
    resources_due: bool,
    resources: Option<(u32, u64)>,
    /// At the start of this boot, and as the machine heard it last.
    erases: ((u32, u32), Option<(u32, u32)>),
    /// Messages to functions that found no room, as far as it was said, and when that was.
    losses_told: (u32, Instant),
    pub fetches: Fetches,
}

fn changed(old: u64, new: u64) -> bool {
    old.abs_diff(new).saturating_mul(100) > old.max(1).saturating_mul(RESOURCE_CHANGE_PERCENT)
}

impl<'a, P: Platform> Hands<'a, P> {
    pub fn new(
        clock: &'a P::Clock,
        board: &'a P::Board,
        store: &'a mut P::Store,
        (peripherals, updates, firmware): (&'a mut P::Peripherals, &'a mut P::Updates, Firmware),
        (fleet, device): (&'a str, DeviceId),
        random: Random,
        functions: Functions,
    ) -> Self {
        let erases = (store.erases(), None);
        Self {
            clock,
            board,
            store,
            peripherals,
            updates,
            firmware,
            fleet,
            device,
            random,
            functions,
            will: heapless::Vec::new(),
            wish: None,
            collect_due: false,
            resources_due: true,
            resources: None,
            erases,
            losses_told: (0, Instant::ZERO),
            fetches: Fetches::default(),
        }
    }

    pub fn perform(&mut self, now: Instant, effect: Effect<'_>, link: Option<&mut Client<'_>>) -> Option<Answer> {
        match effect {
            Effect::Connect { will } => {
                self.wish = Some(Wish::Connect);
                self.will = heapless::Vec::from_slice(will).unwrap_or_default();
                None
            }
            Effect::Disconnect => {
                self.wish = Some(Wish::Disconnect);
                None
            }
            Effect::Subscribe(group) => {
                self.subscribe(now, group, link);
                None
            }
            Effect::Publish { topic, payload, quality, ticket } => {
                self.publish(now, (topic, payload), (quality, ticket), link);
                None
            }
            Effect::Persist { ticket, key, value } => Some(match self.store.save(Key::Journal(key), value) {
                Ok(()) => Answer::Persisted(ticket),
                Err(error) => {
                    self.board.log(Level::Error, format_args!("flash takes no {key:?}: {error:?}"));
                    Answer::PersistFailed(ticket, error.into())
                }
            }),
            Effect::Fetch { content, digest, bytes, source } => self.fetch(content, digest, bytes, source),
            Effect::Start { launch, record, terms } => {
                let (workload, component) = (record.core.workload.0, record.core.component);
                self.board.log(Level::Info, format_args!("{workload}/{component} starts as {}", launch.0));
                self.resources_due = true;
                let refused = self.functions.start(launch, &record, terms).err();
                refused.map(|(failure, detail)| Answer::StartFailed(launch, failure, detail))
            }
            Effect::Extend { launch, terms } => {
                self.functions.extend(launch, terms);
                None
            }
            Effect::Stop { launch, grace } => {
                self.board.log(Level::Info, format_args!("{} is stopped", launch.0));
                let is_known = self.functions.stop(launch, now.after(grace));
                (!is_known).then_some(Answer::Stopped(launch))
            }
            Effect::Activate { launch, trigger: Trigger::Timer } => {
                self.functions.timer(launch);
                None
            }
            Effect::Deliver { launch, topic, payload } => {
                self.functions.deliver(launch, topic, payload);
                None
            }
            Effect::Collect => {
                self.collect_due = true;
                None
            }
        }
    }

    /// A topic of this fleet. The fleet's name was checked with the token.
    pub fn topic(&self, topic: Topic) -> Option<TopicText> {
        topic.print(self.fleet).ok()
    }

    fn subscribe(&self, now: Instant, group: Subscription, link: Option<&mut Client<'_>>) {
        let live = Down::ALL.into_iter().filter(|down| !matches!(down, Down::Desired));
        let live = live.map(|down| {
            // What is published there may be larger than this device receives, and nothing uses it yet: the broker must not begin with it.
            let handling = if matches!(down, Down::Trust) { RetainHandling::Skip } else { RetainHandling::Send };
            (Topic::Down(self.device, down), handling)
        });
        let live = live.chain([(Topic::HubState, RetainHandling::Send)]);
        let text = |(topic, handling)| Some((self.topic(topic)?, handling));
        let texts: heapless::Vec<(TopicText, RetainHandling), LIVE_TOPICS> = match group {
            Subscription::Live => live.filter_map(text).collect(),
            Subscription::Desired(handling) => {
                [(Topic::Down(self.device, Down::Desired), handling)].into_iter().filter_map(text).collect()
            }
        };
        let filters: heapless::Vec<(&str, RetainHandling), LIVE_TOPICS> =
            texts.iter().map(|(text, handling)| (text.as_str(), *handling)).collect();
        if link.is_none_or(|link| link.subscribe(now, group, &filters).is_err()) {
            // The machine's deadline for the answer deals with it.
            self.board.log(Level::Debug, format_args!("the link took no subscription"));
        }
    }

    fn publish(
        &self,
        now: Instant,
        (topic, payload): (Up, &[u8]),
        (quality, ticket): (Quality, Ticket),
        link: Option<&mut Client<'_>>,
    ) {
        let Some(text) = self.topic(Topic::Up(self.device, topic)) else { return };
        if link.is_none_or(|link| link.publish(now, &text, payload, quality, ticket).is_err()) {
            // The machine's deadline for the answer deals with it.
            self.board.log(Level::Debug, format_args!("the link took no {}", topic.name()));
        }
    }

    fn fetch(&mut self, content: Content, digest: Digest, bytes: u32, source: Source) -> Option<Answer> {
        self.resources_due = true;
        match (content, source) {
            (Content::Artifact, _) if self.store.holds(&digest, bytes) => Some(Answer::Fetched(digest)),
            (_, Source::Store) => Some(Answer::FetchFailed(content, digest, FetchFailure::Absent)),
            (Content::Artifact, Source::Anywhere) => {
                let is_taken = self.fetches.want(digest, bytes);
                (!is_taken).then_some(Answer::FetchFailed(content, digest, FetchFailure::Unreachable))
            }
            // The body of a set that fits this device is as short as a message.
            (Content::Body, Source::Anywhere) => Some(Answer::FetchFailed(content, digest, FetchFailure::NoSpace)),
        }
    }

    /// Goes on with what is being fetched. True if the machine was told something.
    pub fn step_fetches<const SLOTS: usize>(
        &mut self,
        now: Instant,
        machine: &mut Machine<'_, SLOTS>,
        link: Option<&mut Client<'_>>,
    ) -> bool {
        let (Some(link), Some(topic)) = (link, self.topic(Topic::Up(self.device, Up::Need))) else { return false };
        let random = u32::from_le_bytes(self.random.array());
        let news = match self.fetches.step(now, random, machine, self.store.sink()) {
            Some(Fetched::Ask(frame)) => {
                // Lost in the queue is lost on the way: it is asked for again.
                let _ = link.publish(now, &topic, &frame, Quality::AtMostOnce, Ticket(0));
                return false;
            }
            Some(Fetched::Done(digest)) => Input::Fetched { digest },
            Some(Fetched::Failed(digest, failure)) => {
                self.board.log(Level::Warn, format_args!("{digest} was not fetched: {failure:?}"));
                Input::FetchFailed { content: Content::Artifact, digest, failure }
            }
            None => return false,
        };
        self.resources_due = true;
        machine.handle(now, news);
        true
    }

    /// A part of what is being fetched came.
    pub fn chunk<const SLOTS: usize>(&mut self, now: Instant, machine: &Machine<'_, SLOTS>, payload: &[u8]) {
        if let Some(chunk) = machine.chunk(payload) {
            self.fetches.chunk(now, &chunk, self.store.sink());
            self.firmware.chunk(now, &chunk, self.updates);
        }
    }

    /// An offer of firmware, if it is one; false: it is something for the machine.
    pub fn offer<const SLOTS: usize>(&mut self, machine: &Machine<'_, SLOTS>, payload: &[u8]) -> bool {
        let Some(offer) = machine.offer(payload) else { return false };
        let signature = offer.signature();
        let is_signed = |statement: &Statement<'_>| signature.is_some_and(|by| machine.is_signed(statement, &by));
        self.firmware.offered(&offer, self.updates.board(), is_signed);
        true
    }

    /// Goes on with this board's own firmware, as long as there is something to do.
    pub fn step_firmware<const SLOTS: usize>(
        &mut self,
        now: Instant,
        machine: &Machine<'_, SLOTS>,
        mut link: Option<&mut Client<'_>>,
    ) {
        loop {
            let random = u32::from_le_bytes(self.random.array());
            let may_fetch = link.is_some() && self.fetches.is_idle();
            let act = self.firmware.step(now, random, may_fetch, machine, self.updates, self.store);
            match act {
                Some(Act::Ask(want)) => {
                    let mut buffer = [0; NEED_BYTES];
                    self.tell(now, Up::Need, machine.need(want, &mut buffer), link.as_deref_mut());
                    // The answer comes later.
                    return;
                }
                Some(Act::Tell) => {
                    let mut buffer = [0; FIRMWARE_REPORT_BYTES];
                    let report = machine.session().and_then(|of| self.firmware.report(of, self.updates.board()));
                    let frame = report.and_then(|report| machine.firmware(&report, &mut buffer));
                    self.tell(now, Up::Status, frame, link.as_deref_mut());
                }
                Some(Act::Confirmed) => {
                    self.board.alive_until(None);
                    self.board.log(Level::Info, format_args!("this firmware is confirmed, and stays"));
                }
                Some(Act::Reset) => {
                    self.board.log(Level::Info, format_args!("another firmware is in its slot: resetting into it"));
                    self.updates.reset();
                }
                None => return,
            }
        }
    }

    /// Lost in the queue is lost on the way: it is told again.
    fn tell(&self, now: Instant, up: Up, frame: Option<&[u8]>, link: Option<&mut Client<'_>>) {
        if let (Some(frame), Some(link), Some(topic)) = (frame, link, self.topic(Topic::Up(self.device, up))) {
            let _ = link.publish(now, &topic, frame, Quality::AtMostOnce, Ticket(0));
        }
    }

    /// One slice of a function, if one is due.
    pub fn step<const SLOTS: usize>(&mut self, machine: &mut Machine<'_, SLOTS>) {
        let mut world = World {
            machine,
            clock: self.clock,
            board: self.board,
            store: &mut *self.store,
            peripherals: &mut *self.peripherals,
            random: &mut self.random,
        };
        self.resources_due |= self.functions.step::<P, SLOTS>(&mut world);
    }

    /// What follows from effects, once the machine wants nothing more. True if the machine was told something.
    pub fn tidy<const SLOTS: usize>(&mut self, now: Instant, machine: &mut Machine<'_, SLOTS>) -> bool {
        if core::mem::take(&mut self.collect_due) {
            self.collect(machine);
        }
        self.tell_wear(now, machine);
        let has_lost = self.tell_losses(now, machine);
        core::mem::take(&mut self.resources_due) && self.tell_resources(now, machine) || has_lost
    }

    /// Says to people and to the hub that functions are told more than they take; not more often than they can read it.
    fn tell_losses<const SLOTS: usize>(&mut self, now: Instant, machine: &mut Machine<'_, SLOTS>) -> bool {
        let (lost, (told, at)) = (self.functions.inputs_lost(), self.losses_told);
        if lost == told || (told > 0 && now < at.after(LOSSES_EVERY)) {
            return false;
        }
        self.losses_told = (lost, now);
        let mut text = heapless::String::<{ wire::limits::LOG_TEXT_BYTES_MAX }>::new();
        // A number and a few words always fit.
        let _ = write!(text, "dropped so far: {lost} messages to functions");
        self.board.log(Level::Warn, format_args!("{text}"));
        machine.handle(now, Input::AgentLog { level: Level::Warn, text: &text });
        true
    }

    /// The hub hears of it with the next Hello that says how this device fares: nothing has to be done at once.
    fn tell_wear<const SLOTS: usize>(&mut self, now: Instant, machine: &mut Machine<'_, SLOTS>) {
        let (begin, told) = self.erases;
        let erases = self.store.erases();
        if told == Some(erases) {
            return;
        }
        self.erases.1 = Some(erases);
        let count = |all: u32, begin: u32| Erases { all, boot: all.saturating_sub(begin) };
        let (journal, artifacts) = (count(erases.0, begin.0), count(erases.1, begin.1));
        machine.handle(now, Input::Wear(Wear { journal, artifacts }));
    }

    fn tell_resources<const SLOTS: usize>(&mut self, now: Instant, machine: &mut Machine<'_, SLOTS>) -> bool {
        let memory_free_bytes = self.functions.memory_free_bytes();
        let (_, storage_free_bytes) = self.store.artifact_bytes();
        let news = self.resources.is_none_or(|(memory, storage)| {
            changed(u64::from(memory), u64::from(memory_free_bytes)) || changed(storage, storage_free_bytes)
        });
        if news {
            self.resources = Some((memory_free_bytes, storage_free_bytes));
            machine.handle(now, Input::Resources { memory_free_bytes, storage_free_bytes });
        }
        news
    }

    /// Deletes what nothing refers to.
    fn collect<const SLOTS: usize>(&mut self, machine: &Machine<'_, SLOTS>) {
        let functions = &self.functions;
        let artifacts = self.store.collect(&mut |digest| machine.references(digest));
        let states = self.store.retain_states(&mut |workload, component| {
            let is_listed = machine.entries().any(|entry| entry.key() == (wire::WorkloadId(workload), component));
            is_listed || functions.is_running(workload, component)
        });
        match artifacts {
            Ok(0) => {}
            Ok(removed) => {
                self.board.log(Level::Info, format_args!("{removed} artifacts that nothing needs were deleted"))
            }
            Err(error) => self.board.log(Level::Warn, format_args!("artifacts cannot be deleted: {error:?}")),
        }
        if let Err(error) = states {
            self.board.log(Level::Warn, format_args!("what removed functions remembered cannot be deleted: {error:?}"));
        }
        self.resources_due = true;
    }
}
