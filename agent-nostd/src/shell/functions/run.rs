//! One run of one component: its phase, its instances, and what happens in one turn of an instance.
//!
//! Must never report more than one end, and after it never anything else.
use super::World;
use super::host::{Driven, FunctionHost, are_over};
use super::pace::{Pace, timed};
use super::state::State;
use crate::function::{Activation, Configuration, Instance, LoadError, Module, Outcome, Refusal, Spec};
use crate::machine::port::{Exit, Failure, Input, LaunchId, Terms, Trigger};
use crate::machine::time::Instant;
use crate::shell::limits::CONFIGURATION_BYTES;
use crate::shell::port::{Board, Clock, Platform, Store};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use wire::Digest;
use wire::event::Level;
use wire::record::Role;

/// A message, shared by all instances that get it.
#[derive(Debug)]
pub struct Event {
    pub topic: Box<str>,
    pub payload: Box<[u8]>,
}

/// How a run ends.
#[derive(Clone, Debug)]
enum Verdict {
    Stopped,
    StartFailed(Failure, String),
    Exited(Exit, String),
}

/// Where the run is.
#[derive(Clone, Debug)]
enum Phase {
    Loading,
    /// So many instances have not returned from their start.
    Starting {
        left: u16,
    },
    Running,
    /// Each instance is asked to stop.
    Stopping,
    /// Instances are dropped as they are.
    Ending(Verdict),
    Over,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Start,
    Timer,
    Event,
    Stop,
}

#[derive(Debug)]
enum Body {
    New,
    /// With the activation that is not finished.
    Alive {
        instance: Box<Instance>,
        state: State,
        doing: Option<Doing>,
    },
    Gone,
}

#[derive(Debug)]
struct Cell {
    events: VecDeque<Rc<Event>>,
    timer: bool,
    /// Of the activation that is not finished.
    spent_us: u64,
    body: Body,
}

impl Cell {
    fn is_gone(&self) -> bool {
        matches!(self.body, Body::Gone)
    }

    fn is_busy(&self) -> bool {
        match &self.body {
            Body::New => true,
            Body::Alive { doing, .. } => doing.is_some() || self.timer || !self.events.is_empty(),
            Body::Gone => false,
        }
    }
}

/// The code and configuration that all instances share.
#[derive(Debug)]
struct Loaded {
    module: Module,
    configuration: Vec<u8>,
}

/// A reason that a run ends, with words for people.
type Blow = (Failure, String);

#[derive(Debug)]
pub struct Run {
    launch: LaunchId,
    spec: Spec,
    terms: Terms,
    phase: Phase,
    /// Instances that have not returned from the timer; zero: none is running.
    timer_left: u16,
    /// Stop was asked for, and when it is cut.
    cut_at: Option<Instant>,
    loaded: Option<Loaded>,
    cells: Vec<Cell>,
    driven: Driven,
    pace: Pace,
}

fn load_blow(error: &LoadError) -> Blow {
    (error.failure(), format!("{}: {error}", error.code()))
}

/// An artifact whose hash was checked when it was fetched, and now again.
fn read<S: Store>(store: &mut S, digest: &Digest, bytes: u32, limit: u32) -> Result<Vec<u8>, Blow> {
    let refuse = |text: &str| (Failure::LoadRefused, String::from(text));
    let count =
        usize::try_from(bytes).ok().filter(|_| bytes <= limit).ok_or(refuse("it is larger than this device loads"))?;
    let mut content = Vec::new();
    content.try_reserve_exact(count).map_err(|_| (Failure::OutOfMemory, String::from("no room to load it")))?;
    content.resize(count, 0);
    store.read(digest, 0, &mut content).map_err(|_| refuse("it cannot be read from flash"))?;
    if Digest::of(&content) != *digest {
        return Err(refuse("the flash has other bytes than were written"));
    }
    Ok(content)
}

impl Run {
    pub fn new(launch: LaunchId, spec: Spec, terms: Terms) -> Self {
        Self {
            launch,
            spec,
            terms,
            phase: Phase::Loading,
            timer_left: 0,
            cut_at: None,
            loaded: None,
            cells: Vec::new(),
            driven: Driven::new(),
            pace: Pace::default(),
        }
    }

    pub fn launch(&self) -> LaunchId {
        self.launch
    }

    pub fn key(&self) -> (u32, u8) {
        (self.spec.workload, self.spec.component)
    }

    /// The outputs that are its own until it is over.
    pub fn driven(&self) -> &Driven {
        &self.driven
    }

    pub fn heap_bytes(&self) -> u64 {
        self.spec.heap_bytes()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    // ---- orders

    pub fn extend(&mut self, terms: Terms) {
        self.terms = terms;
    }

    pub fn stop(&mut self, cut_at: Instant) {
        self.cut_at = Some(cut_at);
        match &mut self.phase {
            // Its next turn sees it.
            Phase::Loading | Phase::Stopping | Phase::Over => {}
            Phase::Starting { .. } | Phase::Running => self.phase = Phase::Stopping,
            Phase::Ending(verdict) => *verdict = Verdict::Stopped,
        }
    }

    pub fn timer(&mut self) {
        // One at a time; the machine skips periods, not we.
        if !matches!(self.phase, Phase::Running) || self.timer_left > 0 {
            return;
        }
        self.timer_left = self.spec.instances;
        self.cells.iter_mut().for_each(|cell| cell.timer = true);
    }

    /// How many instances did not get it.
    pub fn deliver(&mut self, event: &Rc<Event>, inbox_max: usize) -> u32 {
        if !matches!(self.phase, Phase::Starting { .. } | Phase::Running) {
            return 0;
        }
        let mut lost = 0;
        for cell in &mut self.cells {
            if cell.events.len() < inbox_max {
                cell.events.push_back(Rc::clone(event));
            } else {
                lost += 1;
            }
        }
        lost
    }

    // ---- turns

    /// Which instance can have a turn now; while the run is loading, any number stands for the load.
    pub fn ready(&self, now: Instant) -> Option<usize> {
        match self.phase {
            Phase::Loading => Some(0),
            Phase::Starting { .. } | Phase::Running if are_over(&self.terms, now) => {
                self.cells.iter().position(|cell| !cell.is_gone())
            }
            Phase::Starting { .. } | Phase::Running => self.cells.iter().position(Cell::is_busy),
            Phase::Stopping | Phase::Ending(_) => self.cells.iter().position(|cell| !cell.is_gone()),
            Phase::Over => None,
        }
    }

    /// One slice of one instance.
    pub fn step<P: Platform, const SLOTS: usize>(&mut self, number: usize, world: &mut World<'_, '_, P, SLOTS>) {
        let now = world.now();
        let is_cut = match self.phase {
            Phase::Loading => return self.load(world),
            Phase::Starting { .. } | Phase::Running => {
                if are_over(&self.terms, now) {
                    return self.end_of_terms(world);
                }
                false
            }
            Phase::Stopping => self.cut_at.is_some_and(|at| now >= at) || are_over(&self.terms, now),
            Phase::Ending(_) => true,
            Phase::Over => return,
        };
        let is_stopping = matches!(self.phase, Phase::Stopping);
        let Some(cell) = self.cells.get_mut(number) else { return };
        let next = match &cell.body {
            Body::Gone => return,
            // What never ran has nothing to say at its end.
            Body::New if is_cut || is_stopping => None,
            Body::New => Some(Doing::Start),
            Body::Alive { .. } if is_cut => None,
            Body::Alive { doing: Some(doing), .. } => Some(*doing),
            Body::Alive { .. } if is_stopping => Some(Doing::Stop),
            Body::Alive { .. } if cell.timer => Some(Doing::Timer),
            Body::Alive { .. } => Some(Doing::Event),
        };
        match next {
            None => self.drop_cell(number, world),
            Some(next) => self.run(number, next, world),
        }
    }

    /// Reads, checks and compiles; then every instance gets its first turn.
    fn load<P: Platform, const SLOTS: usize>(&mut self, world: &mut World<'_, '_, P, SLOTS>) {
        if self.cut_at.is_some() {
            return self.end(Verdict::Stopped, world);
        }
        match self.prepare(world.store, world.clock) {
            Ok(loaded) => {
                self.loaded = Some(loaded);
                let cell = || Cell { events: VecDeque::new(), timer: false, spent_us: 0, body: Body::New };
                self.cells = core::iter::repeat_with(cell).take(usize::from(self.spec.instances)).collect();
                self.phase = Phase::Starting { left: self.spec.instances };
            }
            Err((failure, detail)) => self.end(Verdict::StartFailed(failure, detail), world),
        }
    }

    fn prepare<S: Store, C: Clock>(&mut self, store: &mut S, clock: &C) -> Result<Loaded, Blow> {
        let Spec { artifact, artifact_bytes, limits, granted, .. } = &self.spec;
        let (bytes, read_us) = timed(clock, || read(store, artifact, *artifact_bytes, limits.module_bytes));
        let bytes = bytes?;
        let (module, load_us) = timed(clock, || Module::load(&bytes, limits, *granted));
        (self.pace.read_us, self.pace.load_us) = (read_us, load_us);
        let module = module.map_err(|error| load_blow(&error))?;
        let configuration = match &self.spec.configuration {
            Configuration::Inline(bytes) => bytes.clone(),
            Configuration::Stored(reference) => read(store, &reference.digest, reference.bytes, CONFIGURATION_BYTES)?,
        };
        Ok(Loaded { module, configuration })
    }

    /// Begins an activation, or goes on with the one that is not finished.
    fn run<P: Platform, const SLOTS: usize>(
        &mut self,
        number: usize,
        next: Doing,
        world: &mut World<'_, '_, P, SLOTS>,
    ) {
        let (Some(loaded), Some(cell)) = (&self.loaded, self.cells.get_mut(number)) else { return };
        let (clock, begin) = (world.clock, world.clock.now_us());
        if matches!(cell.body, Body::New) {
            match instantiate(loaded, &self.spec, number, world.store) {
                Ok((instance, state)) => cell.body = Body::Alive { instance, state, doing: None },
                Err(blow) => return self.fall(number, blow, world),
            }
        }
        let Body::Alive { instance, state, doing } = &mut cell.body else { return };
        let configuration = &loaded.configuration;
        let mut host = FunctionHost {
            launch: self.launch,
            configuration,
            state,
            terms: &self.terms,
            driven: &mut self.driven,
            world,
        };
        let outcome = match (*doing, next) {
            (Some(_), _) => instance.resume(&mut host),
            (None, Doing::Start) => instance.activate(Activation::Start, &mut host),
            (None, Doing::Timer) => {
                cell.timer = false;
                instance.activate(Activation::Timer, &mut host)
            }
            (None, Doing::Stop) => instance.activate(Activation::Stop, &mut host),
            (None, Doing::Event) => match cell.events.pop_front() {
                Some(event) => {
                    let activation = Activation::Event { topic: &event.topic, payload: &event.payload };
                    instance.activate(activation, &mut host)
                }
                None => Outcome::Ignored,
            },
        };
        cell.spent_us = cell.spent_us.saturating_add(clock.now_us().saturating_sub(begin));
        match outcome {
            Outcome::Yielded { .. } => *doing = Some(next),
            Outcome::Done { .. } | Outcome::Ignored | Outcome::Refused(Refusal::InputTooLong) => {
                *doing = None;
                let spent_us = core::mem::take(&mut cell.spent_us);
                match next {
                    Doing::Start => self.pace.started(spent_us),
                    Doing::Timer | Doing::Event => self.pace.called(spent_us),
                    Doing::Stop => {}
                }
                self.returned(number, next, world);
            }
            Outcome::Ended { .. } => self.end_of_terms(world),
            Outcome::Refused(Refusal::Busy | Refusal::Dead | Refusal::NotRunning) => {
                self.fall(number, (Failure::Trapped, String::from("the engine and the shell disagree")), world);
            }
            Outcome::Trapped { cause, .. } => {
                self.fall(number, (cause.failure(), format!("{}: {cause}", cause.code())), world);
            }
        }
    }

    /// An activation ended well.
    fn returned<P: Platform, const SLOTS: usize>(
        &mut self,
        number: usize,
        doing: Doing,
        world: &mut World<'_, '_, P, SLOTS>,
    ) {
        match doing {
            Doing::Event => {}
            Doing::Stop => self.drop_cell(number, world),
            Doing::Start => self.started(world),
            Doing::Timer => {
                self.timer_left = self.timer_left.saturating_sub(1);
                if self.timer_left == 0 && matches!(self.phase, Phase::Running) {
                    world.tell(Input::Activated { launch: self.launch, trigger: Trigger::Timer });
                }
            }
        }
    }

    /// One more instance returned from its start.
    fn started<P: Platform, const SLOTS: usize>(&mut self, world: &mut World<'_, '_, P, SLOTS>) {
        let Phase::Starting { left } = &mut self.phase else { return };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        world.board.log(Level::Info, format_args!("{} runs: {}", self.launch.0, self.pace.beginning()));
        world.tell(Input::Started { launch: self.launch });
        self.phase = match self.spec.role {
            Role::Service => Phase::Running,
            Role::Init | Role::Job => Phase::Ending(Verdict::Exited(Exit::Completed, String::new())),
        };
    }

    /// It may not go on, which is nobody's fault: all instances are dropped where they are.
    fn end_of_terms<P: Platform, const SLOTS: usize>(&mut self, world: &mut World<'_, '_, P, SLOTS>) {
        self.end(Verdict::Stopped, world);
    }

    /// An instance failed: it is dropped, and the others with it.
    fn fall<P: Platform, const SLOTS: usize>(
        &mut self,
        number: usize,
        (failure, detail): Blow,
        world: &mut World<'_, '_, P, SLOTS>,
    ) {
        match self.phase {
            Phase::Starting { .. } => self.end(Verdict::StartFailed(failure, detail), world),
            Phase::Running => self.end(Verdict::Exited(Exit::Failed(failure), detail), world),
            Phase::Loading | Phase::Stopping | Phase::Ending(_) | Phase::Over => self.drop_cell(number, world),
        }
    }

    /// One instance less; the last one is the end.
    fn drop_cell<P: Platform, const SLOTS: usize>(&mut self, number: usize, world: &mut World<'_, '_, P, SLOTS>) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.body = Body::Gone;
        }
        if self.cells.iter().all(Cell::is_gone) {
            let verdict = match &self.phase {
                Phase::Ending(verdict) => verdict.clone(),
                Phase::Loading | Phase::Starting { .. } | Phase::Running | Phase::Stopping | Phase::Over => {
                    Verdict::Stopped
                }
            };
            self.end(verdict, world);
        }
    }

    /// Everything is dropped before the machine hears of it.
    fn end<P: Platform, const SLOTS: usize>(&mut self, verdict: Verdict, world: &mut World<'_, '_, P, SLOTS>) {
        if self.is_over() {
            return;
        }
        self.cells = Vec::new();
        self.loaded = None;
        self.phase = Phase::Over;
        let launch = self.launch;
        if let Some(calls) = self.pace.calls() {
            world.board.log(Level::Info, format_args!("{} ended after {calls}", launch.0));
        }
        match verdict {
            Verdict::Stopped => world.tell(Input::Stopped { launch }),
            Verdict::StartFailed(failure, detail) => {
                world.tell(Input::StartFailed { launch, failure, detail: &detail });
            }
            Verdict::Exited(exit, detail) => world.tell(Input::Exited { launch, exit, detail: &detail }),
        }
    }
}

fn instantiate<S: Store>(
    loaded: &Loaded,
    spec: &Spec,
    number: usize,
    store: &mut S,
) -> Result<(Box<Instance>, State), Blow> {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let state = State::open(store, spec.workload, spec.component, number)
        .map_err(|error| (Failure::LoadRefused, format!("its state cannot be read: {error:?}")))?;
    let instance = Instance::load(&loaded.module).map_err(|error| load_blow(&error))?;
    Ok((Box::new(instance), state))
}
