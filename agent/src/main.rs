//! `fulmar-agent`: join a fleet, then run. Prints errors, turns signals into a stop, and words into calls; nothing else.
#![forbid(unsafe_code)]

mod args;

use agent::config::Config;
use agent::status::{self, StatusError};
use agent::{Agent, AgentConfig, Notifier};
use anyhow::Context as _;
use args::{Arguments, AtEndOfInput, Command, Output, USAGE};
use async_signal::{Signal, Signals};
use futures_lite::{FutureExt, StreamExt};
use std::process::ExitCode;

/// As `systemctl status` has it: the program does not run.
const EXIT_NOT_RUNNING: u8 = 3;

fn main() -> ExitCode {
    match Arguments::read().and_then(execute) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_start(config: &Config) {
    tracing_subscriber::fmt().with_max_level(config.log).with_writer(std::io::stderr).with_target(false).init();
}

fn execute(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    match &mut arguments.command {
        Command::Help => print!("{USAGE}"),
        Command::Version => println!("fulmar-agent {}", env!("CARGO_PKG_VERSION")),
        Command::ConfigCheck => {
            arguments.sources()?.check()?;
            println!("the configuration is good");
        }
        Command::ConfigShow => {
            let sources = arguments.sources()?;
            sources.check()?;
            print!("{}", sources.show());
        }
        Command::Status(output) => {
            let output = *output;
            let config = arguments.sources()?.check()?;
            return show_status(&config, output);
        }
        Command::Install(root) => {
            let program = std::env::current_exe().context("cannot tell where this program is")?;
            for path in agent::install(root, &program)? {
                println!("wrote {}", path.display());
            }
            println!("next: fulmar-agent join TOKEN && systemctl enable --now fulmar-agent");
        }
        Command::Join(options) => {
            let mut options = options.clone();
            let config = arguments.sources()?.check()?;
            log_start(&config);
            options.data = config.data;
            let joined = agent::join(&options)?;
            println!("joined fleet {} as {} ({})", joined.fleet, joined.name, joined.device);
            if !joined.approved {
                println!("an operator has to approve it: fulmar device approve {}", joined.name);
            }
            println!("next: fulmar-agent run --data {}", options.data.display());
        }
        Command::Run(at_end_of_input) => {
            let at_end_of_input = *at_end_of_input;
            let config = arguments.sources()?.check()?;
            log_start(&config);
            run(&config, at_end_of_input)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_status(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    match status::query(&config.data) {
        Ok(snapshot) => {
            match output {
                Output::Text => print!("{}", status::text(&snapshot)),
                Output::Json => println!("{}", serde_json::to_string_pretty(&snapshot)?),
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ StatusError::NotRunning(_)) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(EXIT_NOT_RUNNING))
        }
        Err(error) => Err(error.into()),
    }
}

fn run(config: &Config, at_end_of_input: AtEndOfInput) -> anyhow::Result<()> {
    // Before the agent, so that no signal can come in between.
    let mut signals = Signals::new([Signal::Term, Signal::Int])
        .context("cannot listen for signals: check the limit of open files")?;
    if let AtEndOfInput::Stop = at_end_of_input {
        agent::stop_at_end_of_input().context("cannot start a thread: check the limit of processes")?;
    }
    let notifier = Notifier::from_environment().context("cannot speak to the service manager: check NOTIFY_SOCKET")?;
    let agent = Agent::start(AgentConfig { notifier, ..AgentConfig::of(config) })?;
    smol::block_on(async {
        let mut stopping = false;
        loop {
            let ended = async {
                agent.ended().await;
                false
            };
            let signalled = async { signals.next().await.is_some() };
            if !ended.or(signalled).await {
                return;
            }
            if std::mem::replace(&mut stopping, true) {
                agent.request_abandon();
            } else {
                tracing::info!("asked to stop; a second signal ends it at once");
                agent.request_stop();
            }
        }
    });
    agent.join()?;
    Ok(())
}
