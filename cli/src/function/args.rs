//! The command line of `fulmar fn` as types.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Function {
    /// Begin a function: a complete project in a new directory
    New(New),
    /// Build the function of a directory, the same bytes everywhere with the same compiler
    Build(Project),
    /// Ask the engine of the devices whether they would take a module
    Check(Check),
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
pub struct Project {
    /// Directory of the function
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Module; otherwise the one that `fulmar fn build` has built here
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// It must run on this class; otherwise any class will do. May be repeated
    #[arg(long = "class", value_enum, value_name = "CLASS")]
    pub classes: Vec<Class>,
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
pub struct Push {
    /// Module; otherwise the one that `fulmar fn build` has built here
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the artifact; otherwise that of the file
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}
