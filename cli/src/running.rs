//! What `up` and `hub` run: the hub in this process and its companions, waited for, shown, looked after, stopped.
//!
//! Whatever way it ends, no process is left behind.

use crate::args::{Encryption, Global, Hub as HubArgs, Output};
use crate::client::Client;
use crate::code::Code;
use crate::companion::Companion;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, system};
use crate::list;
use crate::output::{line, say};
use crate::registry::{self, Registration};
use crate::show::{flag, text};
use crate::stop::{Order, Stop};
use crate::target::collection;
use crate::wait::seconds;
use hub::hub::{Hub, HubConfig, HubError};
use hub::model::Kind;
use hub::mqtt::BrokerUrl;
use hub::problem_code::ProblemCode;
use hub::provision::ExternalBroker;
use hub::store::StoreError;
use hub::tls::{OwnFiles, TlsSettings, When};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// Devices that take longer are left to try on, with a word about it.
const ONLINE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_PERIOD: Duration = Duration::from_millis(50);
/// How often companions and the hub are looked after.
const TEND_PERIOD: Duration = Duration::from_millis(250);

/// The hub and what runs beside it, which is stopped before the hub, also when a step fails.
pub struct Running {
    pub agent: Option<Companion>,
    pub fleet: Option<Companion>,
    pub boards: Vec<Companion>,
    hub: Hub,
    /// Lets commands in other terminals find the hub.
    registration: Option<Registration>,
    pub client: Client,
    begin: Instant,
    ready: Duration,
    linked: Duration,
}

/// Devices that were started, and how many of them were there when waiting was over.
pub struct Arrived {
    /// The device of this machine.
    pub own: Option<String>,
    pub simulated: usize,
    pub emulated: usize,
    pub online: usize,
    pub after: Duration,
}

/// The addresses through which devices of the data directory joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub broker: String,
    pub artifacts: String,
}

impl Running {
    pub fn start(global: &Global, args: &HubArgs, known: Option<&Known>) -> Result<Self, Failure> {
        let begin = Instant::now();
        raise_open_files();
        let mut config = HubConfig::new(&global.data);
        config.api = address("--api", &args.api, known.map(|known| known.artifacts.as_str()))?;
        let known_broker = known.map(|known| known.broker.as_str());
        config.external = external(args, known_broker)?;
        if config.external.is_none() {
            config.broker = address("--broker", &args.broker, known_broker)?;
        }
        config.tls = tls(args);
        let hub = Hub::start(config).map_err(|error| hub_failure(&error, global))?;
        for warning in hub.warnings() {
            say(&format!("warning: {warning}"));
        }
        let token = std::fs::read_to_string(&hub.endpoints().token_file)
            .map_err(|error| system("cannot read the hub's own token", &error))?;
        let client = Client::new(Endpoint {
            server: hub.endpoints().api.clone(),
            token: Some(token.trim().to_owned()),
            ca: hub.endpoints().ca_file.clone(),
            origin: "the hub in this process".to_owned(),
        })?;
        let (ready, linked) = (Duration::ZERO, Duration::ZERO);
        let registration = registry::register(hub.data());
        Ok(Self { agent: None, fleet: None, boards: Vec::new(), hub, registration, client, begin, ready, linked })
    }

    /// Until the API answers and the hub hears its broker.
    pub fn wait_ready(&mut self, stop: &Stop) -> Result<(), Failure> {
        loop {
            let status = self.client.get("/v1/status");
            if status.is_ok() && self.ready.is_zero() {
                self.ready = self.begin.elapsed();
            }
            if status.as_ref().is_ok_and(|status| flag(status, "/link")) {
                self.linked = self.begin.elapsed();
                return Ok(());
            }
            if self.begin.elapsed() > READY_TIMEOUT {
                let failure = Failure::hub(
                    ProblemCode::NotReady,
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

    /// Until these devices are online, or patience ends.
    pub fn wait_online(&mut self, names: &BTreeSet<String>, stop: &Stop) -> Result<usize, Failure> {
        let begin = Instant::now();
        loop {
            // A list that fails is asked for again.
            let devices = list::all(&self.client, &collection(Kind::Device, None)).unwrap_or_default();
            let is_online = |device: &&Value| {
                text(device, "/status/online/state") == "Online" && names.contains(&text(device, "/metadata/name"))
            };
            let online = devices.iter().filter(is_online).count();
            self.tend();
            if online == names.len() || begin.elapsed() > ONLINE_TIMEOUT {
                return Ok(online);
            }
            if stop.wait(POLL_PERIOD) == Order::Stop {
                return Err(interrupted());
            }
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn companions(&mut self) -> impl Iterator<Item = &mut Companion> {
        [&mut self.agent, &mut self.fleet].into_iter().flatten().chain(&mut self.boards)
    }

    fn tend(&mut self) {
        for message in self.companions().filter_map(Companion::tend) {
            say(&message);
        }
    }

    pub fn show(&mut self, output: Output, arrived: Option<&Arrived>) -> Result<(), Failure> {
        let endpoints = self.hub.endpoints();
        if output == Output::Json {
            let mut shown = json!({"api": endpoints.api, "broker": endpoints.broker, "data": self.hub.data(), "ca": endpoints.ca_file, "device": null});
            if let Some(Arrived { own, simulated, emulated, online, .. }) = arrived {
                let all = simulated + emulated + usize::from(own.is_some());
                shown["device"] = json!(own.as_ref().map(|name| json!({"name": name, "online": *online == all})));
                shown["devices"] = json!({"all": all, "simulated": simulated, "emulated": emulated, "online": online});
            }
            return line(&shown.to_string());
        }
        let width = endpoints.api.len().max(endpoints.broker.len());
        let (ready, linked) = (seconds(self.ready), seconds(self.linked));
        line(&format!(
            "  hub       {:width$}   ready    {ready:>5}   (data: {})",
            endpoints.api,
            self.hub.data().display()
        ))?;
        line(&format!("  broker    {:width$}   ready    {linked:>5}", endpoints.broker))?;
        if let Some(authority) = &endpoints.ca_file {
            line(&format!("  tls 1.3   {}   (on other machines: --ca FILE)", authority.display()))?;
        }
        let Some(Arrived { own, simulated, emulated, online, after }) = arrived else { return Ok(()) };
        let all = simulated + emulated + usize::from(own.is_some());
        let after = seconds(*after);
        let complete = *online == all;
        match own {
            Some(name) if all == 1 && complete => {
                line(&format!("  device    {name:width$}   online   {after:>5}   (this machine)"))?;
            }
            Some(name) if all == 1 => {
                line(&format!("  device    {name:width$}   not online after {after}"))?;
            }
            Some(_) | None => {
                let here = if own.is_some() { "1 linux (this machine)   " } else { "" };
                let boards = if *emulated > 0 { format!("{emulated} qemu   ") } else { String::new() };
                line(&format!("  devices   {simulated} simulated   {boards}{here}{online}/{all} online   {after}"))?;
            }
        }
        if !complete {
            for companion in self.companions() {
                say(&format!("what is missing goes on trying; a log: {}", companion.log().display()));
                companion.last_words().iter().for_each(|words| say(&format!("  {words}")));
            }
        }
        Ok(())
    }

    /// Until a signal comes, or the hub cannot go on.
    pub fn serve(mut self, stop: &Stop) -> Result<(), Failure> {
        while stop.wait(TEND_PERIOD) == Order::GoOn {
            self.tend();
            if !self.hub.is_running() {
                return Err(Failure::new(Code::HubEnded, "the hub has ended by itself")
                    .why("a part of it failed and cannot be restarted alone; its last words are above")
                    .next("fulmar up    (everything that was accepted is stored)"));
            }
        }
        say("stopping");
        drop(self.registration.take());
        // All at once, then one after the other.
        self.companions().for_each(Companion::ask);
        self.companions().for_each(Companion::stop);
        self.hub.stop();
        Ok(())
    }
}

/// A device takes one descriptor, three with TLS, and the usual soft limit is 1,024: as many as this user may have are taken.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays: it bounds how many devices can connect");
    }
}

/// A signal before everything ran: there is nothing to complain about.
pub fn interrupted() -> Failure {
    Failure::new(Code::Stopped, "stopped before everything ran")
}

fn tls(args: &HubArgs) -> TlsSettings {
    let when = match args.tls {
        Encryption::Auto => When::Auto,
        Encryption::Always => When::Always,
        Encryption::Off => When::Off,
    };
    let own = match (&args.tls_cert, &args.tls_key, &args.tls_ca) {
        (Some(certificate), Some(key), Some(authority)) => {
            Some(OwnFiles { certificate: certificate.clone(), key: key.clone(), authority: authority.clone() })
        }
        // The command line has no two of them without the third.
        (_, _, _) => None,
    };
    TlsSettings { when, names: args.names.clone(), own }
}

/// A broker elsewhere, if a URL names one.
fn external(args: &HubArgs, known: Option<&str>) -> Result<Option<ExternalBroker>, Failure> {
    const GUIDE: &str = "docs/howto/external-broker.md";
    if !args.broker.contains("://") {
        let given = [
            ("--broker-password-file", args.broker_password_file.is_some()),
            ("--broker-ca", args.broker_ca.is_some()),
            ("--broker-public", args.broker_public.is_some()),
        ];
        return match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(Failure::usage(format!("{option} is for a broker elsewhere"))
                .why(format!("--broker {} is an address at which the broker in this program listens", args.broker))
                .next("--broker mqtts://broker.example:8883")
                .next(GUIDE)),
            None => Ok(None),
        };
    }
    let url = |text: &str| {
        BrokerUrl::parse(text)
            .map_err(|error| Failure::usage("this is no address of a broker").why(error.to_string()).next(GUIDE))
    };
    let Some(password) = args.broker_password_file.clone() else {
        return Err(Failure::usage("a broker elsewhere needs --broker-password-file")
            .why("the hub makes the accounts of its devices there, as an administrator of the dynamic-security plugin")
            .next("--broker-user admin --broker-password-file FILE")
            .next(GUIDE));
    };
    let public = args.broker_public.as_deref().map(url).transpose()?;
    let (user, authority) = (args.broker_user.clone(), args.broker_ca.clone());
    let external = ExternalBroker { url: url(&args.broker)?, public, user, password, authority };
    let advertised = external.advertised().to_string();
    match known.filter(|known| *known != advertised) {
        Some(known) => Err(Failure::usage(format!(
            "{advertised} is not the broker that the devices of this data directory know"
        ))
        .why(format!("they joined through {known}, and look for the hub there"))
        .next("remove the directories `agent` and `fleet` in the data directory and their devices: they join again")),
        None => Ok(Some(external)),
    }
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
    let Some(known) = known.and_then(|known| known.rsplit("//").next()) else { return Ok(wanted) };
    let Some(port) = known.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()) else { return Ok(wanted) };
    if wanted.port() == 0 {
        wanted.set_port(port);
    }
    // A name, or "any address", says nothing about the others.
    let is_same_host =
        wanted.ip().is_unspecified() || known.parse::<SocketAddr>().map_or(true, |known| known.ip() == wanted.ip());
    if is_same_host && wanted.port() == port {
        return Ok(wanted);
    }
    Err(Failure::usage(format!("{option} {text} is not the address that the devices of this data directory know"))
        .why(format!("they joined through {known}, and look for the hub there"))
        .next(format!("{option} {known}"))
        .next("or remove the directories `agent` and `fleet` in the data directory and their devices: they join again"))
}

fn hub_failure(error: &HubError, global: &Global) -> Failure {
    let failure = |code: Code| Failure::new(code, "the hub did not start").why(error.to_string());
    match error {
        HubError::Store(StoreError::InUse { .. }) => {
            Failure::new(Code::Running, "a hub is running on this data directory already")
                .why(error.to_string())
                .next(format!("fulmar status --data {}", global.data.display()))
                .next("or start another one: --data DIR --api 127.0.0.1:0 --broker 127.0.0.1:0")
        }
        HubError::Tls(_) => failure(Code::Tls).next("docs/howto/own-ca.md"),
        HubError::External(_) => failure(Code::Broker).next("docs/howto/external-broker.md"),
        HubError::Listen { .. } | HubError::Broker(_) => {
            failure(Code::Address).next("--api 127.0.0.1:0 --broker 127.0.0.1:0")
        }
        HubError::Store(_) | HubError::Keys(_) | HubError::Artifacts(_) | HubError::Name(_) => failure(Code::Data),
        HubError::System { .. } => failure(Code::System),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_free_port_stays_the_one_that_the_device_knows() {
        let known = Some("mqtt://127.0.0.1:4711");
        assert_eq!(address("--broker", "127.0.0.1:0", known).unwrap().port(), 4711);
        assert_eq!(address("--broker", "127.0.0.1:4711", known).unwrap().port(), 4711);
        assert_eq!(address("--broker", "127.0.0.1:0", None).unwrap().port(), 0);
        assert!(address("--broker", "127.0.0.1:1883", known).unwrap_err().next[0].contains("127.0.0.1:4711"));
        assert_eq!(address("--api", "here", None).unwrap_err().exit, Exit::Usage);
        let name = Some("mqtts://hub.example:4711");
        assert_eq!(address("--broker", "0.0.0.0:0", name).unwrap().port(), 4711);
        assert!(address("--broker", "0.0.0.0:8883", name).is_err());
    }
}
