//! Plays inputs to a function as a device would: loads it, runs one activation after the other, loads it afresh after a fault.
//!
//! Time is a number that the inputs move; an activation takes none. Two plays of the same inputs are the same in every byte.

use super::script::{Input, Line};
use super::setup::Setup;
use super::stack::Stack;
use super::world::{Deeds, World};
use crate::code::Code;
use crate::failure::Failure;
use agent_nostd::function::{Activation, Instance, LoadError, Module, Outcome, Refusal};
use agent_nostd::machine::port::Failure as Reason;
use hub::model::Role;
use std::fmt::Display;
use std::time::Duration;
use wire::limits::EVENT_BYTES_MAX;

/// Times that a function runs in one play: a long wait has many ticks.
pub const RUNS_MAX: u64 = 100_000;

/// Why it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Start,
    /// The device started again.
    Restart,
    /// It had failed, and was loaded afresh.
    Reload,
    Tick,
    Event {
        topic: String,
        payload: Vec<u8>,
    },
    Stop,
}

/// How that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// It has no entry point for this.
    NoEntry,
    /// No trigger asks for this topic.
    NotDelivered,
    /// More than a device delivers.
    TooLong,
    /// It is an init or a job, and was over when it had started.
    Over,
    /// As a device reports it.
    Failed {
        reason: Reason,
        detail: String,
    },
}

/// One run, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub number: u64,
    /// Of the script; 0: there is none.
    pub line: u64,
    pub at: Duration,
    pub cause: Cause,
    pub end: End,
    pub fuel: u64,
    pub slices: u32,
    /// Of linear memory, which never shrinks: the most so far.
    pub memory_bytes: u32,
    pub stack_bytes: Option<u32>,
    pub deeds: Deeds,
}

/// All runs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub runs: u64,
    pub failures: u64,
    pub fuel_max: u64,
    pub memory_bytes_max: u32,
    pub stack_bytes_max: Option<u32>,
}

/// What is told of a play while it goes on.
pub trait Audience {
    fn step(&mut self, step: &Step) -> Result<(), Failure>;

    /// Asked between two slices; true: nobody wants to see the rest.
    fn has_left(&self) -> bool {
        false
    }
}

/// A run that cannot go on.
enum Halt {
    /// The failure of this step was the last: what does not start does not run.
    Dead,
    Failure(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

struct Alive {
    instance: Instance,
    stack: Option<Stack>,
}

pub struct Player<'a> {
    setup: &'a Setup,
    bytes: &'a [u8],
    audience: &'a mut dyn Audience,
    module: Option<Module>,
    alive: Option<Alive>,
    world: World,
    due: Option<Duration>,
    /// Nothing runs until the device starts again.
    is_stopped: bool,
    line: u64,
    number: u64,
    sum: Sum,
}

/// An activation that ended.
struct Ended {
    end: End,
    fuel: u64,
    slices: u32,
}

/// As a hub shows it: the code of the engine is said where it tells more than the reason.
fn failed(reason: Reason, code: &str, why: &dyn Display) -> End {
    let detail = if reason.reason().code() == code { why.to_string() } else { format!("{code}: {why}") };
    End::Failed { reason, detail }
}

impl Ended {
    const fn at_once(end: End) -> Self {
        Self { end, fuel: 0, slices: 0 }
    }

    fn refused(error: &LoadError) -> Self {
        Self::at_once(failed(error.failure(), error.code(), error))
    }
}

impl<'a> Player<'a> {
    pub fn new(setup: &'a Setup, bytes: &'a [u8], audience: &'a mut dyn Audience) -> Self {
        Self {
            setup,
            bytes,
            audience,
            module: None,
            alive: None,
            world: World::new(setup.config.clone(), setup.terms),
            due: None,
            is_stopped: false,
            line: 0,
            number: 0,
            sum: Sum::default(),
        }
    }

    /// Starts the function and gives it these inputs. A failure of the function is in the sum and in its step.
    pub fn play(mut self, lines: &[Line]) -> Result<Sum, Failure> {
        let result = self.start(Cause::Start).and_then(|()| lines.iter().try_for_each(|line| self.input(line)));
        match result {
            Ok(()) | Err(Halt::Dead) => Ok(self.sum),
            Err(Halt::Failure(failure)) => Err(failure),
        }
    }

    fn input(&mut self, line: &Line) -> Result<(), Halt> {
        self.line = line.number;
        match &line.input {
            Input::Restart => {
                self.alive = None;
                self.is_stopped = false;
                self.world.boot();
                self.start(Cause::Restart)
            }
            Input::Wait(time) => self.wait(*time),
            Input::Tick => {
                self.reload()?;
                match self.due {
                    Some(due) => self.tick(due),
                    None => self.tell(Cause::Tick, Ended::at_once(End::Over)),
                }
            }
            Input::Event { topic, payload } => {
                self.reload()?;
                self.event(topic, payload)
            }
            Input::Stop => {
                self.reload()?;
                let ended = self.activate(Activation::Stop)?;
                self.tell(Cause::Stop, ended)?;
                (self.alive, self.due, self.is_stopped) = (None, None, true);
                Ok(())
            }
        }
    }

    fn wait(&mut self, time: Duration) -> Result<(), Halt> {
        let until = self.world.now.saturating_add(time);
        while !self.is_stopped {
            self.reload()?;
            match self.due {
                Some(due) if due <= until => self.tick(due)?,
                Some(_) | None => break,
            }
        }
        self.world.now = until;
        Ok(())
    }

    fn tick(&mut self, due: Duration) -> Result<(), Halt> {
        self.world.now = due;
        self.due = self.setup.every().map(|every| due.saturating_add(every));
        let ended = self.activate(Activation::Timer)?;
        self.tell(Cause::Tick, ended)
    }

    fn event(&mut self, topic: &str, payload: &[u8]) -> Result<(), Halt> {
        let ended = if self.is_stopped {
            Ended::at_once(End::Over)
        } else if !self.setup.hears(topic) {
            Ended::at_once(End::NotDelivered)
        } else if payload.len() > EVENT_BYTES_MAX {
            Ended::at_once(End::TooLong)
        } else {
            self.activate(Activation::Event { topic, payload })?
        };
        self.tell(Cause::Event { topic: topic.to_owned(), payload: payload.to_vec() }, ended)
    }

    /// After a fault the next input finds a new instance.
    fn reload(&mut self) -> Result<(), Halt> {
        if self.alive.is_some() || self.is_stopped { Ok(()) } else { self.start(Cause::Reload) }
    }

    fn start(&mut self, cause: Cause) -> Result<(), Halt> {
        let ended = match self.load() {
            Ok(alive) => {
                self.alive = Some(alive);
                self.activate(Activation::Start)?
            }
            Err(error) => Ended::refused(&error),
        };
        self.due = self.setup.every().map(|every| self.world.now.saturating_add(every));
        let runs = !matches!(ended.end, End::Failed { .. });
        self.tell(cause, ended)?;
        if self.setup.role != Role::Service {
            // Its purpose is its start.
            (self.alive, self.due, self.is_stopped) = (None, None, true);
        }
        if runs { Ok(()) } else { Err(Halt::Dead) }
    }

    fn load(&mut self) -> Result<Alive, LoadError> {
        let module = match self.module.take() {
            Some(module) => module,
            None => Module::load(self.bytes, &self.setup.limits, self.setup.granted)?,
        };
        let mut instance = Instance::load(&module)?;
        self.module = Some(module);
        let stack = self.setup.stack_bytes.and_then(|bytes| Stack::of(self.bytes, bytes));
        let stack = stack.filter(|stack| stack.mark(&mut instance));
        Ok(Alive { instance, stack })
    }

    /// One activation with all its slices.
    fn activate(&mut self, activation: Activation<'_>) -> Result<Ended, Halt> {
        if self.number >= RUNS_MAX {
            let what = format!("the function ran {RUNS_MAX} times, and no play has more");
            let failure = Failure::new(Code::Script, what);
            return Err(failure.why("each tick in a wait is a run").next("wait for a shorter time").into());
        }
        let Some(alive) = &mut self.alive else { return Ok(Ended::at_once(End::Over)) };
        let mut slices = 1;
        let mut outcome = alive.instance.activate(activation, &mut self.world);
        while let Outcome::Yielded { .. } = outcome {
            if self.audience.has_left() {
                return Err(Failure::new(Code::Stopped, "nobody looks any more").into());
            }
            slices += 1;
            outcome = alive.instance.resume(&mut self.world);
        }
        Ok(match outcome {
            Outcome::Done { fuel_used } => Ended { end: End::Done, fuel: fuel_used, slices },
            Outcome::Ignored => Ended::at_once(End::NoEntry),
            Outcome::Refused(Refusal::InputTooLong) => Ended::at_once(End::TooLong),
            Outcome::Trapped { cause, fuel_used } => {
                Ended { end: failed(cause.failure(), cause.code(), &cause), fuel: fuel_used, slices }
            }
            // Impossible while one activation is driven to its end before the next.
            Outcome::Refused(Refusal::Busy | Refusal::Dead | Refusal::NotRunning)
            | Outcome::Yielded { .. }
            | Outcome::Ended { .. } => {
                let detail = "the engine and its player disagree".to_owned();
                Ended::at_once(End::Failed { reason: Reason::Trapped, detail })
            }
        })
    }

    fn tell(&mut self, cause: Cause, ended: Ended) -> Result<(), Halt> {
        self.number += 1;
        let (memory_bytes, stack_bytes) = match &self.alive {
            Some(alive) => (alive.instance.memory_bytes(), alive.stack.map(|stack| stack.deepest(&alive.instance))),
            None => (0, None),
        };
        let Ended { end, fuel, slices } = ended;
        let deeds = self.world.take_deeds();
        if matches!(end, End::Failed { .. }) {
            self.alive = None;
            self.sum.failures += 1;
        }
        self.sum.runs += u64::from(slices > 0);
        self.sum.fuel_max = self.sum.fuel_max.max(fuel);
        self.sum.memory_bytes_max = self.sum.memory_bytes_max.max(memory_bytes);
        self.sum.stack_bytes_max = self.sum.stack_bytes_max.max(stack_bytes);
        let (number, line, at) = (self.number, self.line, self.world.now);
        let step = Step { number, line, at, cause, end, fuel, slices, memory_bytes, stack_bytes, deeds };
        Ok(self.audience.step(&step)?)
    }
}
