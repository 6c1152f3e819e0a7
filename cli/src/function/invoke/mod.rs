//! `fn invoke`: one module in the engine of the devices, on this machine, without a hub and without waiting.
//!
//! Limits, triggers, configuration and permissions are those of the project's manifest. It must never touch the network, nor
//! this machine's clock.

mod player;
mod script;
mod setup;
mod show;
mod stack;
mod world;

#[cfg(test)]
mod tests;

pub use setup::{MANIFEST, Setup};

use super::args::{Inputs, Invoke};
use super::{check, dev};
use crate::args::{Global, Output};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{no_geojson, print, say};
use agent_nostd::machine::port::Failure as Reason;
use hub::model::Role;
use player::{End, Player, Step, Sum};
use script::{Input, Line};
use show::Screen;
use std::path::Path;

/// Refuses forms of output that a play does not have.
pub fn judge(output: Output) -> Result<(), Failure> {
    match output {
        Output::GeoJson => Err(no_geojson()),
        Output::Name => Err(Failure::usage("what a function does has no name").next("-o json has one line per step")),
        Output::Table | Output::Wide | Output::Json | Output::Yaml | Output::JsonPath(_) => Ok(()),
    }
}

/// What is played when nothing is said: one run, as its trigger says.
fn once(setup: &Setup, bytes: &[u8]) -> Vec<Line> {
    let facts = check::facts(bytes);
    let [_, event, timer, _] = facts.info().map(|info| info.entries).unwrap_or_default();
    let at = |input| vec![Line { number: 0, input }];
    let topic = match &setup.triggers {
        setup::Triggers::Any => Some("test".to_owned()),
        // The shortest topic that the filter lets through.
        setup::Triggers::Stated { topics, .. } => {
            topics.first().map(|filter| filter.strip_suffix("/#").unwrap_or(filter).to_owned())
        }
    };
    match topic {
        // Its start is all that there is.
        _ if setup.role != Role::Service => Vec::new(),
        _ if timer && setup.every().is_some() => at(Input::Tick),
        Some(topic) if event => {
            say("it waits for events and got an empty one; say more with: --event TOPIC=PAYLOAD");
            at(Input::Event { topic, payload: Vec::new() })
        }
        Some(_) | None => Vec::new(),
    }
}

fn lines(inputs: &Inputs, setup: &Setup, bytes: &[u8]) -> Result<Vec<Line>, Failure> {
    if let Some(path) = &inputs.script {
        return from_file(path, setup);
    }
    let mut lines = Vec::new();
    for text in &inputs.events {
        lines.push(Line { number: 0, input: script::event(text)? });
    }
    if inputs.tick {
        lines.push(Line { number: 0, input: Input::Tick });
        if setup.every().is_none() {
            return Err(Failure::usage("it never ticks")
                .why(format!("{MANIFEST} has no function.triggers.every"))
                .next("give it an event instead: --event TOPIC=PAYLOAD"));
        }
    }
    if lines.is_empty() { Ok(once(setup, bytes)) } else { Ok(lines) }
}

/// A script, judged for this function.
fn from_file(path: &Path, setup: &Setup) -> Result<Vec<Line>, Failure> {
    let lines = script::read(path)?;
    setup.judge(&path.display().to_string(), &lines)?;
    Ok(lines)
}

/// Plays and prints. A failure of the function is a failure of the play, after its end.
fn play(
    setup: &Setup,
    bytes: &[u8],
    lines: &[Line],
    output: Output,
    has_left: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let mut screen = Screen { setup, output, failed: None, has_left };
    let sum = Player::new(setup, bytes, &mut screen).play(lines)?;
    if matches!(output, Output::Table | Output::Wide) {
        print(&show::sum(&sum, setup))?;
    }
    match screen.failed {
        Some(step) => Err(verdict(setup, &step, &sum)),
        None => Ok(()),
    }
}

fn verdict(setup: &Setup, step: &Step, sum: &Sum) -> Failure {
    let (code, detail) = match &step.end {
        End::Failed { reason, detail } => (reason.reason().code(), detail.as_str()),
        End::Done | End::NoEntry | End::NotDelivered | End::TooLong | End::Over => ("FAILED", ""),
    };
    let place = if step.line == 0 { String::new() } else { format!(" at line {} of the script", step.line) };
    let failure = Failure::named(Exit::Failure, code, format!("{} failed{place}", setup.name)).why(detail);
    let failure = match sum.failures {
        0 | 1 => failure,
        more => failure.why(format!("this was the first of {more} failures")),
    };
    failure.next(next(&step.end))
}

/// What to do about a failure.
const fn next(end: &End) -> &'static str {
    match end {
        End::Failed { reason: Reason::OutOfFuel, .. } => {
            "do less in one run, or raise function.limits.fuel in workload.yaml"
        }
        End::Failed { reason: Reason::OutOfMemory, .. } => "try again with more memory free on this machine",
        End::Failed { reason: Reason::LoadRefused, .. } => {
            "grant in workload.yaml what it needs, which fulmar fn check tells"
        }
        End::Failed { reason: Reason::Trapped | Reason::Exited | Reason::RuntimeMissing, .. }
        | End::Done
        | End::NoEntry
        | End::NotDelivered
        | End::TooLong
        | End::Over => "correct the source, then: fulmar fn dev",
    }
}

/// Plays a script, or one run, for a function that was just built.
pub fn rehearse(
    setup: &Setup,
    script: Option<&Path>,
    output: Output,
    has_left: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let bytes = check::read(&setup.module)?;
    let lines = match script {
        Some(path) => from_file(path, setup)?,
        None => once(setup, &bytes),
    };
    play(setup, &bytes, &lines, output, has_left)
}

/// What a play took, and the first failure in it: its reason and its words.
#[derive(Clone, Debug)]
pub struct Measured {
    pub sum: Sum,
    pub failure: Option<(String, String)>,
}

/// Hears what fails, and says nothing.
#[derive(Default)]
struct Silent(Option<(String, String)>);

impl player::Audience for Silent {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        if let End::Failed { reason, detail } = &step.end {
            self.0.get_or_insert_with(|| (reason.reason().code().to_owned(), detail.clone()));
        }
        Ok(())
    }
}

/// Plays a script, or one run, for what that takes.
pub fn measure(setup: &Setup, bytes: &[u8], script: Option<&Path>) -> Result<Measured, Failure> {
    let lines = match script {
        Some(path) => from_file(path, setup)?,
        None => once(setup, bytes),
    };
    let mut silent = Silent::default();
    let sum = Player::new(setup, bytes, &mut silent).play(&lines)?;
    Ok(Measured { sum, failure: silent.0 })
}

pub fn run(global: &Global, args: &Invoke) -> Result<(), Failure> {
    judge(global.output)?;
    let setup = Setup::of(&args.subject, &args.place, &global.namespace)?;
    let bytes = check::read(&setup.module)?;
    if let Some(newer) = dev::newer_source(&args.subject, &setup.module) {
        say(&format!("{} is newer than {}: fulmar fn dev builds it first", newer.display(), setup.module.display()));
    }
    let lines = lines(&args.inputs, &setup, &bytes)?;
    play(&setup, &bytes, &lines, global.output, &|| false)
}
