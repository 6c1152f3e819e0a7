//! The command line of `fulmar fn` as types.

use super::destination::Destination;
use crate::complete;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;
use std::time::Duration;
use wire::id::Order;

#[derive(Debug, Subcommand)]
pub enum Function {
    /// Begin a function: a complete project in a new directory
    New(New),
    /// Build the function of a directory, the same bytes everywhere with the same compiler
    Build(Build),
    /// Ask the engine of the devices whether they would take a module
    Check(Check),
    /// Run a module here, in the engine of the devices, and show what it does
    Invoke(Invoke),
    /// Build, check and run a function here, again and again with --watch
    Dev(Dev),
    /// Upload a module, and print what a manifest can refer to
    Push(Push),
}

#[derive(Clone, Debug, Args)]
pub struct New {
    /// Name of the function and of its directory
    pub name: String,
    /// Language of the source
    #[arg(long, value_enum, default_value = "rust")]
    pub lang: Language,
    /// Where it is to run: linux, mcu, or mcu- and the name of a board. Builds of it then say what it takes there
    #[arg(long, value_name = "TARGET", value_parser = Destination::parse, add = ArgValueCompleter::new(complete::destinations))]
    pub target: Option<Destination>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Rust,
    C,
}

impl Language {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct Build {
    /// Directory of the function
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Say what it takes there, and fail if it does not fit: linux, mcu, or mcu- and the name of a board; otherwise that of function.toml
    #[arg(long, value_name = "TARGET", value_parser = Destination::parse, add = ArgValueCompleter::new(complete::destinations))]
    pub target: Option<Destination>,
}

#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Module; otherwise the one that `fulmar fn build` has built here
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// It must run on this class; otherwise any class will do. May be repeated
    #[arg(long = "class", value_enum, value_name = "CLASS")]
    pub classes: Vec<Class>,
    /// Say what it takes there, measured, and fail if it does not fit: linux, mcu, or mcu- and the name of a board
    #[arg(long, value_name = "TARGET", conflicts_with = "classes", value_parser = Destination::parse, add = ArgValueCompleter::new(complete::destinations))]
    pub target: Option<Destination>,
}

/// A class of devices, which have the same limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Class {
    /// Linux boards and gateways
    Linux,
    /// Microcontrollers
    Mcu,
}

#[derive(Clone, Debug, Args)]
pub struct Invoke {
    /// Directory of a function, whose workload.yaml says what it may do, or a module alone
    #[arg(value_name = "DIR|MODULE", default_value = ".")]
    pub subject: PathBuf,
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub place: Place,
}

/// What a function is given. Without any it runs once, as its trigger says.
#[derive(Clone, Debug, Default, Args)]
pub struct Inputs {
    /// Deliver an event. May be repeated
    #[arg(long = "event", value_name = "TOPIC=PAYLOAD")]
    pub events: Vec<String>,
    /// Let the timer tick once, after the events
    #[arg(long)]
    pub tick: bool,
    /// Play a file, or standard input with -: lines of tick, event TOPIC PAYLOAD, wait TIME, restart, stop
    #[arg(long, value_name = "FILE", conflicts_with_all = ["events", "tick"])]
    pub script: Option<PathBuf>,
}

/// Where a function is made to believe that it runs.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Class of the device whose limits count
    #[arg(long, value_enum, value_name = "CLASS", default_value = "linux")]
    pub class: Class,
    /// Configuration instead of that of workload.yaml
    #[arg(long, value_name = "TEXT")]
    pub config: Option<String>,
    /// Fence of its right, as if it were exclusive
    #[arg(long, value_name = "N.N", value_parser = fence)]
    pub fence: Option<Order>,
    /// The hub was last heard so long before, and is not heard again
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub unheard: Option<Duration>,
    /// It is told to do less, as after onStale
    #[arg(long)]
    pub degraded: bool,
}

/// As the hub shows it: the incarnation and the number within it.
fn fence(text: &str) -> Result<Order, String> {
    let parts = text.split_once('.').and_then(|(high, low)| Some((high.parse().ok()?, low.parse().ok()?)));
    let order = parts.and_then(|(incarnation, counter)| Order::new(incarnation, counter));
    order.filter(|order| order.packed() > 0).ok_or_else(|| "a fence is two numbers, as in 1.7".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    hub::model::Span::parse(text).map(hub::model::Span::duration).map_err(|error| error.to_string())
}

#[derive(Clone, Debug, Args)]
pub struct Dev {
    /// Directory of the function; its inputs.txt is played
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Do so again whenever a source, workload.yaml or inputs.txt changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Clone, Debug, Args)]
pub struct Push {
    /// Module; otherwise the one that `fulmar fn build` has built here
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the artifact; otherwise that of the file
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}
