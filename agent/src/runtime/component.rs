//! One run of one component: its phase, its instances, and what happens in one turn of an instance.
//!
//! `Progress` says where the run is, under a lock that is held for moments; `Cell` holds one instance: its inbox for the loop,
//! its body for the one thread whose turn it is. Must never report more than one end.
use super::host::{FunctionHost, are_over};
use super::pool::{Entrance, Pool};
use super::state::State;
use super::{Report, Surroundings};
use crate::clock;
use agent_nostd::function::{Activation, Configuration, Instance, LoadError, Module, Outcome, Refusal, Spec};
use agent_nostd::machine::port::{Exit, Failure, LaunchId, Terms, Trigger};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use wire::record::Role;

/// Messages that wait for one instance. Above this a new one is dropped and counted.
pub const INBOX_MAX: usize = 32;

/// A message, shared by all instances that get it.
#[derive(Debug)]
pub struct Event {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// What a thread does with an instance after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Again,
    Rest,
}

/// Where the run is.
#[derive(Debug)]
enum Phase {
    Loading,
    /// So many instances have not returned from their start.
    Starting {
        left: u16,
    },
    Running,
    /// Each instance is asked to stop; so many are still there.
    Stopping {
        left: u16,
    },
    /// Instances are dropped as they are; the last one says why.
    Ending {
        left: u16,
        report: Report,
    },
    Over,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    /// Instances that have not returned from the timer; zero: none is running.
    timer_left: u16,
    /// Stop was asked for, and when it is cut.
    cut_at: Option<Duration>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Start,
    Timer,
    Event,
    Stop,
}

#[derive(Debug, Default)]
struct Inbox {
    events: VecDeque<Arc<Event>>,
    timer: bool,
    /// In the queue, or on a thread.
    scheduled: bool,
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
    inbox: Mutex<Inbox>,
    body: Mutex<Body>,
}

/// The code and configuration that all instances share.
#[derive(Debug)]
struct Loaded {
    module: Module,
    configuration: Vec<u8>,
}

#[derive(Debug)]
pub struct Component {
    launch: LaunchId,
    spec: Spec,
    surroundings: Arc<Surroundings>,
    /// The latest ones.
    terms: Mutex<Terms>,
    loaded: OnceLock<Loaded>,
    progress: Mutex<Progress>,
    cells: Box<[Cell]>,
}

/// A reason that a run ends, with words for people.
type Blow = (Failure, String);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Everything under these locks is valid at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load_blow(error: &LoadError) -> Blow {
    (error.failure(), format!("{}: {error}", error.code()))
}

impl Component {
    pub fn new(launch: LaunchId, spec: Spec, terms: Terms, surroundings: Arc<Surroundings>) -> Self {
        let cell = |_| Cell { inbox: Mutex::default(), body: Mutex::new(Body::New) };
        let cells = (0..spec.instances).map(cell).collect();
        let progress = Progress { phase: Phase::Loading, timer_left: 0, cut_at: None };
        let terms = Mutex::new(terms);
        Self { launch, spec, surroundings, terms, loaded: OnceLock::new(), progress: Mutex::new(progress), cells }
    }

    pub fn key(&self) -> (u32, u8) {
        (self.spec.workload, self.spec.component)
    }

    // ---- orders of the loop

    pub fn extend(&self, terms: Terms) {
        *lock(&self.terms) = terms;
    }

    pub fn stop(self: &Arc<Self>, cut_at: Duration, pool: &Pool) {
        let mut progress = lock(&self.progress);
        progress.cut_at = Some(cut_at);
        match &mut progress.phase {
            // The load sees it and ends there.
            Phase::Loading => {}
            Phase::Starting { .. } | Phase::Running => {
                progress.phase = Phase::Stopping { left: self.spec.instances };
                drop(progress);
                self.wake_all(pool.entrance());
            }
            Phase::Stopping { .. } => {}
            Phase::Ending { report, .. } => *report = Report::Stopped { launch: self.launch },
            // Its end was reported and is on its way.
            Phase::Over => {}
        }
    }

    pub fn timer(self: &Arc<Self>, pool: &Pool) {
        let mut progress = lock(&self.progress);
        // One at a time; the machine skips periods, not we.
        if !matches!(progress.phase, Phase::Running) || progress.timer_left > 0 {
            return;
        }
        progress.timer_left = self.spec.instances;
        drop(progress);
        for instance in 0..self.spec.instances {
            self.give(instance, pool.entrance(), |inbox| inbox.timer = true);
        }
    }

    pub fn deliver(self: &Arc<Self>, event: &Arc<Event>, pool: &Pool) {
        if !matches!(lock(&self.progress).phase, Phase::Starting { .. } | Phase::Running) {
            return;
        }
        for instance in 0..self.spec.instances {
            self.give(instance, pool.entrance(), |inbox| {
                if inbox.events.len() < INBOX_MAX {
                    inbox.events.push_back(Arc::clone(event));
                } else {
                    self.surroundings.losses.inputs.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }

    /// Puts something into the inbox of an instance and makes sure that it gets a turn.
    fn give(self: &Arc<Self>, instance: u16, entrance: &Entrance, put: impl FnOnce(&mut Inbox)) {
        let Some(cell) = self.cells.get(usize::from(instance)) else { return };
        let mut inbox = lock(&cell.inbox);
        put(&mut inbox);
        if !inbox.scheduled {
            inbox.scheduled = true;
            drop(inbox);
            entrance.step(Arc::clone(self), instance);
        }
    }

    fn wake_all(self: &Arc<Self>, entrance: &Entrance) {
        for instance in 0..self.spec.instances {
            self.give(instance, entrance, |_| {});
        }
    }

    // ---- on a thread of the pool

    /// Reads, checks and compiles; then every instance gets its first turn.
    pub fn load(self: &Arc<Self>, entrance: &Entrance) {
        if lock(&self.progress).cut_at.is_some() {
            return self.over(Report::Stopped { launch: self.launch });
        }
        if !self.surroundings.memory.take(self.spec.memory_bytes()) {
            let (needed, free) = (self.spec.memory_bytes(), self.surroundings.memory.free());
            let detail = format!("needs {needed} bytes of memory, {free} are left for functions");
            return self.over(Report::StartFailed { launch: self.launch, failure: Failure::OutOfMemory, detail });
        }
        let loaded = self.prepare();
        let mut progress = lock(&self.progress);
        let report = match loaded {
            Err((failure, detail)) => Report::StartFailed { launch: self.launch, failure, detail },
            Ok(_) if progress.cut_at.is_some() => Report::Stopped { launch: self.launch },
            Ok(loaded) => {
                // The only place that sets it, once per run.
                let _ = self.loaded.set(loaded);
                progress.phase = Phase::Starting { left: self.spec.instances };
                drop(progress);
                return self.wake_all(entrance);
            }
        };
        drop(progress);
        self.surroundings.memory.give_back(self.spec.memory_bytes());
        self.over(report);
    }

    fn prepare(&self) -> Result<Loaded, Blow> {
        let store = &self.surroundings.store;
        let refuse = |error: std::io::Error| (Failure::LoadRefused, error.to_string());
        let bytes = store.read(&self.spec.artifact, self.spec.artifact_bytes).map_err(refuse)?;
        let module = Module::load(&bytes, &self.spec.limits, self.spec.granted).map_err(|error| load_blow(&error))?;
        let configuration = match &self.spec.configuration {
            Configuration::Inline(bytes) => bytes.clone(),
            Configuration::Stored(reference) => store.read(&reference.digest, reference.bytes).map_err(refuse)?,
        };
        Ok(Loaded { module, configuration })
    }

    /// One slice of one instance.
    pub fn step(self: &Arc<Self>, number: u16) -> Turn {
        let Some(cell) = self.cells.get(usize::from(number)) else { return Turn::Rest };
        let mut body = lock(&cell.body);
        let again = self.step_body(number, cell, &mut body);
        let alive = !matches!(*body, Body::Gone);
        drop(body);
        let mut inbox = lock(&cell.inbox);
        // What came while the instance was on this thread is not forgotten; what has gone has no more turns.
        if alive && (again == Turn::Again || inbox.timer || !inbox.events.is_empty() || self.wants_out()) {
            return Turn::Again;
        }
        inbox.scheduled = !alive;
        Turn::Rest
    }

    /// Whether instances are to go, by themselves or not.
    fn wants_out(&self) -> bool {
        matches!(lock(&self.progress).phase, Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Over)
    }

    fn step_body(&self, number: u16, cell: &Cell, body: &mut Body) -> Turn {
        let (asked_to_stop, cut) = {
            let progress = lock(&self.progress);
            let cut = match progress.phase {
                Phase::Stopping { .. } => progress.cut_at.is_some_and(|at| clock::boot_time() >= at),
                Phase::Ending { .. } | Phase::Over => true,
                Phase::Loading | Phase::Starting { .. } | Phase::Running => false,
            };
            (matches!(progress.phase, Phase::Stopping { .. }), cut)
        };
        let Some(loaded) = self.loaded.get() else { return Turn::Rest };
        let never_ran = matches!(body, Body::New) && asked_to_stop;
        if matches!(body, Body::Gone) {
            return Turn::Rest;
        }
        if !cut && are_over(&lock(&self.terms)) {
            return self.end_of_terms(body);
        }
        if cut || never_ran {
            *body = Body::Gone;
            self.gone();
            return Turn::Rest;
        }
        if matches!(body, Body::New) {
            match self.instantiate(loaded, number) {
                Ok((instance, state)) => *body = Body::Alive { instance, state, doing: None },
                Err(blow) => return self.fall(body, blow),
            }
            return self.run(loaded, body, Doing::Start, None);
        }
        let Body::Alive { doing, .. } = &*body else { return Turn::Rest };
        if let Some(doing) = *doing {
            return self.run(loaded, body, doing, None);
        }
        if asked_to_stop {
            return self.run(loaded, body, Doing::Stop, None);
        }
        let mut inbox = lock(&cell.inbox);
        if std::mem::take(&mut inbox.timer) {
            drop(inbox);
            return self.run(loaded, body, Doing::Timer, None);
        }
        let event = inbox.events.pop_front();
        drop(inbox);
        match event {
            Some(event) => self.run(loaded, body, Doing::Event, Some(&event)),
            None => Turn::Rest,
        }
    }

    fn instantiate(&self, loaded: &Loaded, number: u16) -> Result<(Box<Instance>, State), Blow> {
        let state = State::open(&self.surroundings.state, self.spec.workload, self.spec.component, number)
            .map_err(|error| (Failure::LoadRefused, format!("its state cannot be read: {error}")))?;
        let instance = Instance::load(&loaded.module).map_err(|error| load_blow(&error))?;
        Ok((Box::new(instance), state))
    }

    /// Begins an activation, or goes on with the one that is not finished.
    fn run(&self, loaded: &Loaded, body: &mut Body, next: Doing, event: Option<&Event>) -> Turn {
        let Body::Alive { instance, state, doing } = body else { return Turn::Rest };
        let mut host = FunctionHost {
            launch: self.launch,
            configuration: &loaded.configuration,
            state,
            surroundings: &self.surroundings,
            terms: &self.terms,
        };
        let outcome = match (*doing, next, event) {
            (Some(_), ..) => instance.resume(&mut host),
            (None, Doing::Start, _) => instance.activate(Activation::Start, &mut host),
            (None, Doing::Timer, _) => instance.activate(Activation::Timer, &mut host),
            (None, Doing::Stop, _) => instance.activate(Activation::Stop, &mut host),
            (None, Doing::Event, Some(Event { topic, payload })) => {
                instance.activate(Activation::Event { topic, payload }, &mut host)
            }
            (None, Doing::Event, None) => Outcome::Ignored,
        };
        match outcome {
            Outcome::Yielded { .. } => {
                *doing = Some(next);
                Turn::Again
            }
            Outcome::Done { .. } | Outcome::Ignored => {
                *doing = None;
                self.returned(body, next)
            }
            Outcome::Ended { .. } => self.end_of_terms(body),
            Outcome::Refused(Refusal::InputTooLong) => {
                self.surroundings.losses.inputs.fetch_add(1, Ordering::Relaxed);
                *doing = None;
                self.returned(body, next)
            }
            Outcome::Refused(Refusal::Busy | Refusal::Dead | Refusal::NotRunning) => {
                self.fall(body, (Failure::Trapped, "the engine and the runtime disagree".to_owned()))
            }
            Outcome::Trapped { cause, .. } => self.fall(body, (cause.failure(), format!("{}: {cause}", cause.code()))),
        }
    }

    /// An activation ended well.
    fn returned(&self, body: &mut Body, doing: Doing) -> Turn {
        match doing {
            Doing::Event => {}
            Doing::Stop => {
                *body = Body::Gone;
                self.gone();
            }
            Doing::Start => self.started(),
            Doing::Timer => {
                let mut progress = lock(&self.progress);
                progress.timer_left = progress.timer_left.saturating_sub(1);
                let all = progress.timer_left == 0 && matches!(progress.phase, Phase::Running);
                drop(progress);
                if all {
                    self.surroundings.report(Report::Activated { launch: self.launch, trigger: Trigger::Timer });
                }
            }
        }
        // The next turn looks for more to do; others come first.
        Turn::Rest
    }

    /// One more instance returned from its start.
    fn started(&self) {
        let mut progress = lock(&self.progress);
        let Phase::Starting { left } = &mut progress.phase else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        match self.spec.role {
            Role::Service => progress.phase = Phase::Running,
            Role::Init | Role::Job => {
                let report = Report::Exited { launch: self.launch, exit: Exit::Completed, detail: String::new() };
                progress.phase = Phase::Ending { left: self.spec.instances, report };
            }
        }
        let ends = matches!(progress.phase, Phase::Ending { .. });
        drop(progress);
        self.surroundings.report(Report::Started { launch: self.launch });
        if ends {
            self.drop_idle();
        }
    }

    /// It may not go on, which is nobody's fault: all instances are dropped where they are.
    fn end_of_terms(&self, body: &mut Body) -> Turn {
        *body = Body::Gone;
        let mut progress = lock(&self.progress);
        let first = match progress.phase {
            Phase::Starting { .. } | Phase::Running => {
                tracing::warn!(launch = self.launch.0, "a component is cut: what it was granted has come to its end");
                progress.phase =
                    Phase::Ending { left: self.spec.instances, report: Report::Stopped { launch: self.launch } };
                true
            }
            Phase::Stopping { .. } | Phase::Loading | Phase::Ending { .. } | Phase::Over => false,
        };
        drop(progress);
        self.gone();
        if first {
            self.drop_idle();
        }
        Turn::Rest
    }

    /// An instance failed: it is dropped, and the others with it.
    fn fall(&self, body: &mut Body, (failure, detail): Blow) -> Turn {
        *body = Body::Gone;
        let mut progress = lock(&self.progress);
        let launch = self.launch;
        let report = match &progress.phase {
            Phase::Starting { .. } => Some(Report::StartFailed { launch, failure, detail }),
            Phase::Running => Some(Report::Exited { launch, exit: Exit::Failed(failure), detail }),
            Phase::Stopping { .. } => {
                tracing::warn!(launch = launch.0, detail, "a function failed while it was stopped");
                None
            }
            Phase::Loading | Phase::Ending { .. } | Phase::Over => None,
        };
        let first = report.is_some();
        if let Some(report) = report {
            progress.phase = Phase::Ending { left: self.spec.instances, report };
        }
        drop(progress);
        self.gone();
        if first {
            self.drop_idle();
        }
        Turn::Rest
    }

    /// Drops the instances that no thread has and that are not in the queue; the others notice at their next turn.
    fn drop_idle(&self) {
        for cell in &self.cells {
            {
                let mut inbox = lock(&cell.inbox);
                if inbox.scheduled {
                    continue;
                }
                inbox.scheduled = true;
            }
            *lock(&cell.body) = Body::Gone;
            self.gone();
        }
    }

    /// One instance less; the last one reports the end.
    fn gone(&self) {
        let mut progress = lock(&self.progress);
        let left = match &mut progress.phase {
            Phase::Stopping { left } | Phase::Ending { left, .. } => left,
            Phase::Loading | Phase::Starting { .. } | Phase::Running | Phase::Over => return,
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        let report = match std::mem::replace(&mut progress.phase, Phase::Over) {
            Phase::Ending { report, .. } => report,
            Phase::Stopping { .. } | Phase::Loading | Phase::Starting { .. } | Phase::Running | Phase::Over => {
                Report::Stopped { launch: self.launch }
            }
        };
        drop(progress);
        self.surroundings.memory.give_back(self.spec.memory_bytes());
        self.surroundings.report(report);
    }

    /// The end of a run that never had an instance.
    fn over(&self, report: Report) {
        lock(&self.progress).phase = Phase::Over;
        self.surroundings.report(report);
    }
}
