//! `fulmar`: the one binary operators use. Reads the command line, runs a verb, turns its end into an exit code.
//!
//! Everything but `up` and `hub` speaks HTTP only. Data goes to standard output, everything else to standard error.

mod apply;
mod args;
mod artifact;
mod client;
mod columns;
mod companion;
mod describe;
mod detach;
mod device;
mod endpoint;
mod exit;
mod explain;
mod failure;
mod get;
mod local_agent;
mod local_fleet;
mod logs;
mod manifest;
mod output;
mod progress;
#[cfg(test)]
mod reference;
mod registry;
mod running;
mod show;
mod sse;
mod status;
mod stop;
mod table;
mod target;
mod up;
mod wait;
mod yaml;

use args::{Cli, Output, Verb};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use exit::Exit;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = command_line();
    match run(&cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            report(&failure, cli.global.output);
            failure.exit.into()
        }
    }
}

fn command_line() -> Cli {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // Global options are known to the verb too, wherever they stand.
    let at = matches.subcommand().map_or(&matches, |(_, verb)| verb);
    cli.global.is_data_given = !matches!(at.value_source("data"), None | Some(ValueSource::DefaultValue));
    let starts_one = matches!(cli.verb, Verb::Up(_) | Verb::Hub(_));
    if !starts_one && !cli.global.is_data_given && cli.global.server.is_none() && !is_hub_here(&cli.global) {
        cli.global.data = registry::newest().unwrap_or(cli.global.data);
    }
    cli
}

/// A file that cannot be read is one: the verb says what is wrong with it.
fn is_hub_here(global: &args::Global) -> bool {
    !matches!(endpoint::read_file(&global.data), Ok(None))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Up(args) => up::up(global, args),
        Verb::Down => detach::down(global),
        Verb::Hub(args) => up::hub(global, args),
        Verb::Apply(args) => apply::run(global, args),
        Verb::Get(args) => get::get(global, args),
        Verb::Describe(args) => get::describe(global, args),
        Verb::Delete(args) => get::delete(global, args),
        Verb::Logs(args) => logs::logs(global, args),
        Verb::Events(args) => logs::events(global, args),
        Verb::Explain(verb) => explain::run(global, verb),
        Verb::Device(verb) => device::run(global, verb),
        Verb::Wait(args) => wait::run(global, args),
        Verb::Status => status::status(global),
        Verb::Version => status::version(global),
        Verb::Completion { shell } => completion(*shell),
    }
}

fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fulmar", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

fn report(failure: &Failure, output: Output) {
    if failure.is_silent() {
        return;
    }
    match output {
        Output::Json => output::say(&failure.json().to_string()),
        Output::Table | Output::Wide | Output::Yaml | Output::Name => {
            let text = failure.text();
            let coloured = text.trim_end().split('\n').map(|line| match line.strip_prefix("error[") {
                // The stream takes the colour away where nobody sees it.
                Some(rest) => format!("\u{1b}[1;31merror\u{1b}[0m[{rest}"),
                None => line.to_owned(),
            });
            output::say(&coloured.collect::<Vec<String>>().join("\n"));
        }
    }
}
