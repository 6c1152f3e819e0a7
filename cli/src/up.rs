//! `up` and `hub`: the hub in this process, with `up` one real agent beside it and with `--demo` a simulated fleet, until
//! Ctrl-C.
//!
//! These are the only verbs that do not need a running hub. Whatever way they end, they leave no process behind.

use crate::args::{Global, Hub as HubArgs, Up};
use crate::artifact::label;
use crate::client::Client;
use crate::code::Code;
use crate::companion;
use crate::detach;
use crate::device::join_token;
use crate::exit::Exit;
use crate::failure::{Failure, system};
use crate::flash::beside;
use crate::local_agent::{self, Membership};
use crate::local_fleet::{self, Plan};
use crate::output::{line, say};
use crate::running::{Arrived, Known, Running};
use crate::show::text;
use crate::stop::Stop;
use crate::target::Target;
use hub::model::Kind;
use serde_json::json;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Of the token with which this machine joins.
const TOKEN_LIFE: &str = "5m";
const DEVICE_NAME_DEFAULT: &str = "this-host";
/// Names that are tried when a device of this machine's name is there already.
const NAMES_MAX: usize = 9;
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";
const LOG_VARIABLE: &str = "FULMAR_LOG";
/// Below the data directory.
const AGENT_DIRECTORY: &str = "agent";
const FLEET_DIRECTORY: &str = "fleet";
const TEMPORARY_PREFIX: &str = "fulmar-demo-";
/// Simulated devices unless a number is given.
const DEVICES_DEFAULT: u16 = 50;

/// The hub alone.
pub fn hub(global: &Global, args: &HubArgs) -> Result<(), Failure> {
    start_log(tracing::Level::INFO)?;
    let stop = Stop::listen()?;
    let mut running = Running::start(global, args, None)?;
    running.wait_ready(&stop)?;
    running.show(global.output, None)?;
    running.serve(&stop)
}

/// A directory that goes when its hub does.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say(&format!("cannot remove {}: {error}", self.0.display()));
        }
    }
}

/// The hub and its devices.
pub fn up(global: &Global, args: &Up) -> Result<(), Failure> {
    // First of all, so that no signal can leave something behind.
    let stop = Stop::listen()?;
    let mut global = global.clone();
    let mut is_temporary = args.temporary;
    if args.demo && !global.is_data_given && !is_temporary {
        global.data = temporary_directory().map_err(|error| system("cannot make a temporary directory", &error))?;
        is_temporary = true;
    }
    if args.detach {
        return detach::detach(&global.data, is_temporary, &stop).inspect_err(|_| {
            // The process that would remove it is gone, and most often did so.
            let _ = is_temporary && std::fs::remove_dir_all(&global.data).is_ok();
        });
    }
    let temporary = is_temporary.then(|| Temporary(global.data.clone()));
    let outcome = run(&global, args, &stop);
    // After everything that uses it is gone.
    drop(temporary);
    outcome
}

fn temporary_directory() -> std::io::Result<PathBuf> {
    let private = std::fs::Permissions::from_mode(0o700);
    Ok(tempfile::Builder::new().prefix(TEMPORARY_PREFIX).permissions(private).tempdir()?.keep())
}

fn run(global: &Global, args: &Up, stop: &Stop) -> Result<(), Failure> {
    if args.detached {
        detach::begin_session()?;
    }
    start_log(tracing::Level::WARN)?;
    let at = Position::parse(&args.at)?;
    let program = if args.no_agent { None } else { Some(local_agent::program(args.agent.as_deref())?) };
    let absolute = |directory: &str| {
        std::path::absolute(global.data.join(directory))
            .map_err(|error| system("cannot find the data directory", &error))
    };
    let (agent_data, fleet_data) = (absolute(AGENT_DIRECTORY)?, absolute(FLEET_DIRECTORY)?);
    let fleet = match args.demo {
        true => {
            let program = local_fleet::program()?;
            let plan = local_fleet::plan(&program, &fleet_data, args.devices.unwrap_or(DEVICES_DEFAULT))?;
            Some((program, plan))
        }
        false => None,
    };
    let emulated = match args.qemu {
        None | Some(0) => None,
        Some(count) => {
            Some(beside::plan(&global.data, usize::from(count), &args.qemu_board, args.qemu_image.as_deref())?)
        }
    };
    let member = program.as_ref().and_then(|_| local_agent::membership(&agent_data));
    let known = member
        .as_ref()
        .map(|member| Known { broker: member.broker.clone(), artifacts: member.artifacts.clone() })
        .or_else(|| fleet.as_ref().and_then(|(_, plan)| plan.known()))
        .or_else(|| emulated.as_ref().and_then(beside::Plan::known));
    let mut running = Running::start(global, &args.hub, known.as_ref())?;
    running.wait_ready(stop)?;
    let mut names = BTreeSet::new();
    if let Some((program, plan)) = &fleet {
        names = start_fleet(&mut running, program, plan, &fleet_data)?;
    }
    let simulated = names.len();
    if let Some(plan) = &emulated {
        let (boards, of_boards) = plan.start(&running.client)?;
        running.boards = boards;
        names.extend(of_boards);
    }
    let emulated = names.len() - simulated;
    let mut own = None;
    if let Some(program) = program {
        let name = match member {
            Some(member) => known_device(&running.client, member, &agent_data)?,
            None => join(&running.client, &program, &agent_data, &at)?,
        };
        running.agent = Some(local_agent::start(&program, &agent_data)?);
        names.insert(name.clone());
        own = Some(name);
    }
    if names.is_empty() {
        running.show(global.output, None)?;
    } else {
        let online = running.wait_online(&names, stop)?;
        let arrived = Arrived { own, simulated, emulated, online, after: running.elapsed() };
        running.show(global.output, Some(&arrived))?;
    }
    let next = "Next:  fulmar apply -f examples/hello.yaml --wait";
    if args.detached {
        // The process that waits for it goes away with this line.
        line(next)?;
    } else {
        say(next);
    }
    running.serve(stop)
}

/// The fleet's process; gives the names of its devices.
fn start_fleet(running: &mut Running, program: &Path, plan: &Plan, data: &Path) -> Result<BTreeSet<String>, Failure> {
    companion::create_directory(data).map_err(|error| system("cannot make the fleet's directory", &error))?;
    let gone = plan.gone(&running.client)?;
    if !gone.is_empty() {
        say(&format!("{} simulated devices are no longer devices of this hub: {}", gone.len(), gone.join(", ")));
        say(&format!("to let one join again, remove its directory in {}", data.join("devices").display()));
    }
    let tokens = local_fleet::write_tokens(&running.client, plan, data)?;
    running.fleet = Some(local_fleet::start(program, data, &tokens)?);
    Ok(plan.names().filter(|name| !gone.contains(name)).collect())
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

/// Makes this machine a device; gives its name.
fn join(client: &Client, program: &Path, data: &Path, at: &Position) -> Result<String, Failure> {
    companion::create_directory(data).map_err(|error| system("cannot make the agent's directory", &error))?;
    let name = free_name(client)?;
    let answer = join_token(client, TOKEN_LIFE, true, &json!({"demo": "true"}))?;
    // The agent takes latitude first, as its users read maps.
    let at = format!("{},{}", at.latitude, at.longitude);
    local_agent::join(program, data, &text(&answer, "/token"), &name, &at)?;
    Ok(name)
}

/// The name of a device that joined earlier, if it is still one.
fn known_device(client: &Client, member: Membership, data: &Path) -> Result<String, Failure> {
    match client.get(&Target::new(Kind::Device, "", &member.name).path()) {
        Ok(_) => Ok(member.name),
        Err(failure) if failure.exit == Exit::NotFound => {
            let what = format!("the device {} of this machine is no longer one of this hub", member.name);
            Err(Failure::new(Code::MemberGone, what)
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
    Err(Failure::new(Code::NameTaken, format!("there are {NAMES_MAX} devices named like this machine already"))
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
}
