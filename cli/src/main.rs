//! `fulmar`: the one binary operators use. Reads the command line, runs a verb, turns its end into an exit code.
//!
//! Everything but `up` and `hub` speaks HTTP only. Data goes to standard output, everything else to standard error.

mod apply;
mod args;
mod artifact;
mod away;
mod backup;
mod capacity;
mod changes;
mod chaos;
mod client;
mod code;
mod columns;
mod companion;
mod complete;
mod config;
mod ctx;
mod delete;
mod describe;
mod detach;
mod device;
mod diff;
mod doctor;
mod edit;
mod endpoint;
mod exit;
mod explain;
mod failure;
mod firmware;
mod flash;
mod follow;
mod function;
mod get;
mod jsonpath;
mod judge;
mod list;
mod local_agent;
mod local_fleet;
mod logs;
mod manifest;
mod map;
mod meaning;
mod output;
mod plan;
mod progress;
mod recovery;
#[cfg(test)]
mod reference;
mod registry;
mod running;
mod schema;
mod secret;
mod show;
mod sse;
mod status;
mod stop;
mod suppose;
mod swapped;
mod table;
mod target;
mod tls;
mod token;
mod up;
mod usage;
mod wait;
mod watch;
mod yaml;

use args::{Cli, HubCommand, HubVerb, Output, Verb};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use endpoint::Said;
use exit::Exit;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    complete::answer();
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage::refuse(&error),
    };
    let (mut cli, said) = match read(&matches) {
        Ok(read) => read,
        Err(error) => return usage::refuse(&error),
    };
    output::configure(&cli.global);
    match settle(&mut cli, said).and_then(|()| run(&cli)) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            report(&failure, cli.global.output);
            failure.exit.into()
        }
    }
}

/// The command line, and what of it was said where.
fn read(matches: &ArgMatches) -> Result<(Cli, [Said; 3]), clap::Error> {
    let mut cli = Cli::from_arg_matches(matches)?;
    // Global options are known to the verb too, wherever they stand.
    let mut at = matches;
    while let Some((_, verb)) = at.subcommand() {
        at = verb;
    }
    let said = |name: &str| match at.value_source(name) {
        Some(ValueSource::CommandLine) => Said::CommandLine,
        Some(ValueSource::EnvVariable) => Said::Environment,
        Some(_) | None => Said::Nowhere,
    };
    cli.global.is_data_given = said("data") > Said::Nowhere;
    cli.global.is_namespace_given = said("namespace") > Said::Nowhere;
    Ok((cli, ["server", "data", "context"].map(said)))
}

/// Which hub is meant.
fn settle(cli: &mut Cli, [server, data, context]: [Said; 3]) -> Result<(), Failure> {
    if needs_hub(&cli.verb) {
        endpoint::settle(&mut cli.global, server, data, context)?;
    } else if matches!(cli.verb, Verb::Version) {
        // Its own version it can tell without knowing any hub.
        let _ = endpoint::settle(&mut cli.global, server, data, context);
    }
    look_around(cli);
    Ok(())
}

/// A command line with its hub; nothing if it is not one yet.
fn settled(matches: &ArgMatches) -> Option<Cli> {
    let (mut cli, said) = read(matches).ok()?;
    settle(&mut cli, said).ok()?;
    Some(cli)
}

/// Verbs that ask no hub, or are about this machine.
const fn needs_hub(verb: &Verb) -> bool {
    if let Verb::Function(verb) = verb {
        return verb.needs_hub();
    }
    if let Verb::Hub(HubCommand { verb: Some(verb), .. }) = verb {
        return !verb.is_local();
    }
    !matches!(
        verb,
        Verb::Up(_)
            | Verb::Down
            | Verb::Hub(HubCommand { verb: None, .. })
            | Verb::Ctx { .. }
            | Verb::Login(_)
            | Verb::Boards(_)
            | Verb::Monitor(_)
            | Verb::Version
            | Verb::Completion { .. }
    )
}

/// The hub that was started last, if nothing says which one and none runs in this directory. A file that cannot be read is
/// a hub here: the verb says what is wrong with it.
fn look_around(cli: &mut Cli) {
    // Nor is anything put in place of the database of a hub that was not named.
    let starts_one = match &cli.verb {
        Verb::Up(_) => true,
        Verb::Hub(args) => matches!(args.verb, None | Some(HubVerb::Restore { .. })),
        _ => false,
    };
    let global = &mut cli.global;
    let is_said = global.is_data_given || global.server.is_some() || global.chosen.is_some();
    if !starts_one && !is_said && matches!(endpoint::read_file(&global.data), Ok(None)) {
        global.data = registry::newest().unwrap_or_else(|| global.data.clone());
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Up(args) => up::up(global, args),
        Verb::Down => detach::down(global),
        Verb::Hub(args) => match &args.verb {
            None => up::hub(global, &args.start),
            Some(HubVerb::ConfirmLoss) => away::confirm_loss(global),
            Some(HubVerb::Backup { out, no_artifacts }) => backup::backup(global, out, *no_artifacts),
            Some(HubVerb::Restore { from, yes }) => backup::restore(global, from, *yes),
            Some(verb) => recovery::run(global, verb),
        },
        Verb::Queue(args) => away::queue(global, args),
        Verb::Apply(args) => apply::run(global, args),
        Verb::Diff(args) => diff::run(global, args),
        Verb::Plan(args) => plan::run(global, args),
        Verb::Edit(args) => edit::run(global, args),
        Verb::Get(args) => get::run(global, args),
        Verb::Describe(args) => describe::run(global, args),
        Verb::Delete(args) => delete::run(global, args),
        Verb::Logs(args) => logs::logs(global, args),
        Verb::Samples(args) => logs::samples(global, args),
        Verb::Events(args) => logs::events(global, args),
        Verb::Explain(args) => explain::run(global, args),
        Verb::Device(verb) => device::run(global, verb),
        Verb::Function(verb) => function::run(global, verb),
        Verb::Boards(args) => flash::boards(global, args),
        Verb::Flash(args) => flash::flash(global, args),
        Verb::Monitor(args) => flash::monitor(global, args),
        Verb::Firmware(verb) => firmware::run(global, verb),
        Verb::Wait(args) => wait::run(global, args),
        Verb::Map(args) => map::run(global, args),
        Verb::Top(args) => capacity::top(global, args),
        Verb::Capacity(args) => capacity::run(global, args),
        Verb::Chaos(verb) => chaos::run(global, verb),
        Verb::Doctor => doctor::run(global),
        Verb::Ctx { verb } => ctx::run(global, verb.as_ref()),
        Verb::Login(args) => ctx::login(global, args),
        Verb::Whoami { can } => ctx::whoami(global, can.as_deref()),
        Verb::Token(verb) => token::run(global, verb),
        Verb::Status => status::status(global),
        Verb::Version => status::version(global),
        Verb::Completion { shell } => output::print(&complete::script(*shell)),
    }
}

fn report(failure: &Failure, output: Output) {
    if failure.is_silent() {
        return;
    }
    match output {
        Output::Json => output::warn(&failure.json().to_string()),
        Output::Table | Output::Wide | Output::Yaml | Output::Name | Output::GeoJson | Output::JsonPath(_) => {
            let text = failure.text();
            let coloured = text.trim_end().split('\n').map(|line| match line.strip_prefix("error[") {
                // The stream takes the colour away where nobody sees it.
                Some(rest) => format!("\u{1b}[1;31merror\u{1b}[0m[{rest}"),
                None => line.to_owned(),
            });
            output::warn(&coloured.collect::<Vec<String>>().join("\n"));
        }
    }
}
