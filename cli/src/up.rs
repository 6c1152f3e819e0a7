//! `up` and `hub`: the hub in this process, and with `up` one real agent beside it, until Ctrl-C.
//!
//! These are the only verbs that do not need a running hub. Whatever way they end, they leave no process behind.

use crate::args::{Global, Hub as HubArgs, Output, Up};
use crate::artifact::label;
use crate::client::Client;
use crate::device::join_token;
use crate::endpoint::Endpoint;
use crate::exit::Exit;
use crate::failure::{Failure, system};
use crate::local_agent::{self, LocalAgent, Membership};
use crate::output::{line, say};
use crate::show::{flag, text};
use crate::stop::{Order, Stop};
use crate::target::Target;
use crate::wait::seconds;
use hub::hub::{Hub, HubConfig, HubError};
use hub::model::Kind;
use hub::store::StoreError;
use serde_json::json;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// A device that takes longer is left to try on, with a word about it.
const ONLINE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_PERIOD: Duration = Duration::from_millis(50);
/// How often the agent and the hub are looked after.
const TEND_PERIOD: Duration = Duration::from_millis(250);
/// Of the token with which this machine joins.
const TOKEN_LIFE: &str = "5m";
const DEVICE_NAME_DEFAULT: &str = "this-host";
/// Names that are tried when a device of this machine's name is there already.
const NAMES_MAX: usize = 9;
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";
const LOG_VARIABLE: &str = "FULMAR_LOG";
/// Below the data directory.
const AGENT_DIRECTORY: &str = "agent";

/// The hub alone.
pub fn hub(global: &Global, args: &HubArgs) -> Result<(), Failure> {
    start_log(tracing::Level::INFO)?;
    let stop = Stop::listen()?;
    let begin = Instant::now();
    let mut running = Running::start(global, args, None)?;
    running.wait_ready(&stop, begin)?;
    running.show_hub(global.output, None)?;
    running.serve(&stop)
}

/// The hub and one device.
pub fn up(global: &Global, args: &Up) -> Result<(), Failure> {
    start_log(tracing::Level::WARN)?;
    let at = Position::parse(&args.at)?;
    let program = if args.no_agent { None } else { Some(local_agent::program(args.agent.as_deref())?) };
    let stop = Stop::listen()?;
    let begin = Instant::now();
    let agent_data = global.data.join(AGENT_DIRECTORY);
    let member = program.as_ref().and_then(|_| local_agent::membership(&agent_data));
    let mut running = Running::start(global, &args.hub, member.as_ref())?;
    running.wait_ready(&stop, begin)?;
    if let Some(program) = program {
        let agent_data =
            std::path::absolute(&agent_data).map_err(|error| system("cannot find the data directory", &error))?;
        let name = match member {
            Some(member) => known(&running.client, member, &agent_data)?,
            None => join(&running.client, &program, &agent_data, &at)?,
        };
        let device = Target::new(Kind::Device, "", &name);
        running.agent = Some(LocalAgent::start(&program, &agent_data)?);
        let online = running.wait_online(&device, &stop)?;
        running.show_hub(global.output, Some((&device, online)))?;
    } else {
        running.show_hub(global.output, None)?;
    }
    let data =
        if is_default_place(&global.data) { String::new() } else { format!(" --data {}", global.data.display()) };
    say(&format!("Next:  fulmar apply -f examples/hello.yaml --wait{data}"));
    running.serve(&stop)
}

/// True if the other verbs find this hub without being told.
fn is_default_place(data: &Path) -> bool {
    std::env::var_os("FULMAR_DATA").map_or(data == Path::new("./fulmar-data"), |place| place == data.as_os_str())
}

fn start_log(default: tracing::Level) -> Result<(), Failure> {
    let level = match std::env::var(LOG_VARIABLE) {
        Err(_) => default,
        Ok(text) => text.parse().map_err(|_| {
            Failure::usage(format!("{LOG_VARIABLE}={text} is not a level"))
                .why("levels are error, warn, info, debug, trace")
        })?,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    Ok(())
}

/// Longitude, then latitude, as everywhere in manifests. Kept as written: the agent reads it without rounding.
struct Position {
    longitude: String,
    latitude: String,
}

impl Position {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong =
            |why: &str| Failure::usage(format!("--at {text} is not a position")).why(why).next("--at 8.6821,50.1109");
        let (longitude, latitude) = text.split_once(',').ok_or_else(|| wrong("it is longitude,latitude in degrees"))?;
        let (longitude, latitude) = (longitude.trim(), latitude.trim());
        let is_within = |text: &str, limit: f64| text.parse::<f64>().is_ok_and(|degrees| degrees.abs() <= limit);
        if is_within(longitude, 180.0) && is_within(latitude, 90.0) {
            return Ok(Self { longitude: longitude.to_owned(), latitude: latitude.to_owned() });
        }
        Err(wrong("longitude is between -180 and 180, latitude between -90 and 90, and longitude comes first"))
    }
}

/// The hub, and the agent if there is one. The agent is stopped before the hub, also when a step fails.
struct Running {
    agent: Option<LocalAgent>,
    hub: Hub,
    client: Client,
    ready: Duration,
    linked: Duration,
}

impl Running {
    fn start(global: &Global, args: &HubArgs, member: Option<&Membership>) -> Result<Self, Failure> {
        let mut config = HubConfig::new(&global.data);
        config.api = address("--api", &args.api, member.map(|member| member.artifacts.as_str()))?;
        config.broker = address("--broker", &args.broker, member.map(|member| member.broker.as_str()))?;
        let hub = Hub::start(config).map_err(|error| hub_failure(&error, global))?;
        for warning in hub.warnings() {
            say(&format!("warning: {warning}"));
        }
        let token = std::fs::read_to_string(&hub.endpoints().token_file)
            .map_err(|error| system("cannot read the hub's own token", &error))?;
        let client = Client::new(Endpoint {
            server: hub.endpoints().api.clone(),
            token: Some(token.trim().to_owned()),
            origin: "the hub in this process".to_owned(),
        });
        Ok(Self { agent: None, hub, client, ready: Duration::ZERO, linked: Duration::ZERO })
    }

    /// Until the API answers and the hub hears its broker.
    fn wait_ready(&mut self, stop: &Stop, begin: Instant) -> Result<(), Failure> {
        loop {
            let status = self.client.get("/v1/status");
            if status.is_ok() && self.ready.is_zero() {
                self.ready = begin.elapsed();
            }
            if status.as_ref().is_ok_and(|status| flag(status, "/link")) {
                self.linked = begin.elapsed();
                return Ok(());
            }
            if begin.elapsed() > READY_TIMEOUT {
                let failure = Failure::new(
                    Exit::Failure,
                    "NOT_READY",
                    format!("the hub was not ready after {}", seconds(READY_TIMEOUT)),
                );
                return Err(match status {
                    Ok(_) => failure.why("it has no connection to its own broker"),
                    Err(error) => failure.why(error.what).why(error.why.join("; ")),
                }
                .next("FULMAR_LOG=info fulmar up"));
            }
            if stop.wait(POLL_PERIOD) == Order::Stop {
                return Err(interrupted());
            }
        }
    }

    /// How long it took; `None` if the device is not there yet.
    fn wait_online(&mut self, device: &Target, stop: &Stop) -> Result<Option<Duration>, Failure> {
        let begin = Instant::now();
        loop {
            let document = self.client.get(&device.path());
            if document.as_ref().is_ok_and(|document| text(document, "/status/online/state") == "Online") {
                return Ok(Some(begin.elapsed()));
            }
            self.tend();
            if begin.elapsed() > ONLINE_TIMEOUT {
                return Ok(None);
            }
            if stop.wait(POLL_PERIOD) == Order::Stop {
                return Err(interrupted());
            }
        }
    }

    fn tend(&mut self) {
        if let Some(message) = self.agent.as_mut().and_then(LocalAgent::tend) {
            say(&message);
        }
    }

    fn show_hub(&self, output: Output, device: Option<(&Target, Option<Duration>)>) -> Result<(), Failure> {
        let endpoints = self.hub.endpoints();
        if output == Output::Json {
            let device = device.map(|(device, online)| json!({"name": device.name, "online": online.is_some()}));
            return line(
                &json!({"api": endpoints.api, "broker": endpoints.broker, "data": self.hub.data(), "device": device})
                    .to_string(),
            );
        }
        let width = endpoints.api.len().max(endpoints.broker.len());
        let (ready, linked) = (seconds(self.ready), seconds(self.linked));
        line(&format!(
            "  hub       {:width$}   ready    {ready:>5}   (data: {})",
            endpoints.api,
            self.hub.data().display()
        ))?;
        line(&format!("  broker    {:width$}   ready    {linked:>5}", endpoints.broker))?;
        match device {
            None => Ok(()),
            Some((device, Some(online))) => {
                line(&format!("  device    {:width$}   online   {:>5}   (this machine)", device.name, seconds(online)))
            }
            Some((device, None)) => {
                line(&format!("  device    {:width$}   not online after {}", device.name, seconds(ONLINE_TIMEOUT)))?;
                if let Some(agent) = &self.agent {
                    say(&format!("the agent goes on trying; its log is {}", agent.log().display()));
                    agent.last_words().iter().for_each(|words| say(&format!("  {words}")));
                }
                Ok(())
            }
        }
    }

    /// Until a signal comes, or the hub cannot go on.
    fn serve(mut self, stop: &Stop) -> Result<(), Failure> {
        while stop.wait(TEND_PERIOD) == Order::GoOn {
            self.tend();
            if !self.hub.is_running() {
                return Err(Failure::new(Exit::Failure, "HUB_ENDED", "the hub has ended by itself")
                    .why("a part of it failed and cannot be restarted alone; its last words are above")
                    .next("fulmar up    (everything that was accepted is stored)"));
            }
        }
        say("stopping");
        if let Some(agent) = &mut self.agent {
            agent.stop();
        }
        self.hub.stop();
        Ok(())
    }
}

/// A signal before everything ran: there is nothing to complain about.
fn interrupted() -> Failure {
    Failure::new(Exit::Ok, "STOPPED", "stopped before everything ran")
}

/// Port 0 is any port at the first start; afterwards it is the port that the device knows.
fn address(option: &str, text: &str, known: Option<&str>) -> Result<SocketAddr, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!("{option} {text} is not an address")).why(why).next(format!("{option} 127.0.0.1:0"))
    };
    let mut wanted = text
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?
        .next()
        .ok_or_else(|| wrong("the name has no address".to_owned()))?;
    let Some(known) = known.and_then(|known| known.rsplit("//").next()?.parse::<SocketAddr>().ok()) else {
        return Ok(wanted);
    };
    if wanted.port() == 0 {
        wanted.set_port(known.port());
    }
    if wanted == known {
        return Ok(wanted);
    }
    Err(Failure::usage(format!("{option} {text} is not the address that the device of this data directory knows"))
        .why(format!("it joined through {known}, and looks for the hub there"))
        .next(format!("{option} {known}"))
        .next(format!(
            "or remove the directory `{AGENT_DIRECTORY}` in the data directory and its device, and it joins again"
        )))
}

fn hub_failure(error: &HubError, global: &Global) -> Failure {
    let failure = |code: &str| Failure::new(Exit::Failure, code, "the hub did not start").why(error.to_string());
    match error {
        HubError::Store(StoreError::InUse { .. }) => {
            Failure::new(Exit::Failure, "RUNNING", "a hub is running on this data directory already")
                .why(error.to_string())
                .next(format!("fulmar status --data {}", global.data.display()))
                .next("or start another one: --data DIR --api 127.0.0.1:0 --broker 127.0.0.1:0")
        }
        HubError::NotLoopback { .. } => failure("NOT_LOOPBACK"),
        HubError::Listen { .. } | HubError::Broker(_) => {
            failure("ADDRESS").next("--api 127.0.0.1:0 --broker 127.0.0.1:0")
        }
        HubError::Store(_) | HubError::Keys(_) | HubError::Artifacts(_) | HubError::Name(_) => failure("DATA"),
        HubError::System { .. } => failure("SYSTEM"),
    }
}

/// Makes this machine a device; gives its name.
fn join(client: &Client, program: &Path, data: &Path, at: &Position) -> Result<String, Failure> {
    local_agent::create_directory(data).map_err(|error| system("cannot make the agent's directory", &error))?;
    let name = free_name(client)?;
    let answer = join_token(client, TOKEN_LIFE, true, &json!({"demo": "true"}))?;
    // The agent takes latitude first, as its users read maps.
    let at = format!("{},{}", at.latitude, at.longitude);
    local_agent::join(program, data, &text(&answer, "/token"), &name, &at)?;
    Ok(name)
}

/// The name of a device that joined earlier, if it is still one.
fn known(client: &Client, member: Membership, data: &Path) -> Result<String, Failure> {
    match client.get(&Target::new(Kind::Device, "", &member.name).path()) {
        Ok(_) => Ok(member.name),
        Err(failure) if failure.exit == Exit::NotFound => {
            let what = format!("the device {} of this machine is no longer one of this hub", member.name);
            Err(Failure::new(Exit::Failure, "DEVICE_GONE", what)
                .why("somebody has deleted it, so its keys are worth nothing any more")
                .next(format!("rm -r {}    (it joins again as a new device)", data.display()))
                .next("or start without a device: fulmar up --no-agent"))
        }
        Err(failure) => Err(failure),
    }
}

/// This machine's name, with a number if a device has it already.
fn free_name(client: &Client) -> Result<String, Failure> {
    let host = std::fs::read_to_string(PathBuf::from(HOSTNAME_FILE)).unwrap_or_default();
    let base =
        label(host.trim().split('.').next().unwrap_or_default()).unwrap_or_else(|| DEVICE_NAME_DEFAULT.to_owned());
    for number in 1..=NAMES_MAX {
        let name =
            if number == 1 { base.clone() } else { format!("{}-{number}", base.chars().take(60).collect::<String>()) };
        match client.get(&Target::new(Kind::Device, "", &name).path()) {
            Ok(_) => {}
            Err(failure) if failure.exit == Exit::NotFound => return Ok(name),
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::new(
        Exit::Failure,
        "NAME_TAKEN",
        format!("there are {NAMES_MAX} devices named like this machine already"),
    )
    .next("fulmar get devices")
    .next(format!("fulmar delete device {base}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_position_is_longitude_then_latitude_within_the_earth() {
        let at = Position::parse("-151.2093, -33.8688").unwrap();
        assert_eq!((at.longitude.as_str(), at.latitude.as_str()), ("-151.2093", "-33.8688"));
        for text in ["", "8.5", "8.5;50", "50.1,108.6", "nan,1", "8,50,1"] {
            assert_eq!(Position::parse(text).err().unwrap().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_free_port_stays_the_one_that_the_device_knows() {
        let known = Some("mqtt://127.0.0.1:4711");
        assert_eq!(address("--broker", "127.0.0.1:0", known).unwrap().port(), 4711);
        assert_eq!(address("--broker", "127.0.0.1:4711", known).unwrap().port(), 4711);
        assert_eq!(address("--broker", "127.0.0.1:0", None).unwrap().port(), 0);
        assert!(address("--broker", "127.0.0.1:1883", known).unwrap_err().next[0].contains("127.0.0.1:4711"));
        assert_eq!(address("--api", "here", None).unwrap_err().exit, Exit::Usage);
    }
}
