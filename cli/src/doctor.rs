//! `doctor`: everything between this program and a running workload, looked at one after the other, each with what to do.
//!
//! It changes nothing. A check that fails does not end it, but one that needs the failed one is left out.

use crate::args::{Global, Output};
use crate::client::Client;
use crate::code::Code;
use crate::config;
use crate::endpoint::{self, Endpoint};
use crate::failure::Failure;
use crate::list;
use crate::output::{line, whole};
use crate::show::{self, bytes, flag, text};
use crate::target::collection;
use hub::model::Kind;
use serde_json::{Value, json};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Clocks that differ by more are reported: certificates and leases depend on them.
const SKEW_MAX_S: i64 = 5;
/// Less free space is a warning, and as little as this is close to a hub that cannot write.
const DISK_LOW_BYTES: u64 = 1024 * 1024 * 1024;
const DISK_SHORT_BYTES: u64 = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

struct Finding {
    verdict: Verdict,
    what: &'static str,
    detail: String,
    next: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, what: &'static str, detail: impl Into<String>, next: &str) {
        let next = (!next.is_empty()).then(|| next.to_owned());
        self.0.push(Finding { verdict, what, detail: detail.into(), next });
    }

    fn ok(&mut self, what: &'static str, detail: impl Into<String>) {
        self.add(Verdict::Ok, what, detail, "");
    }

    fn failed(&mut self, what: &'static str, failure: &Failure) {
        let detail = std::iter::once(&*failure.what).chain(failure.why.iter().map(String::as_str));
        let next = failure.next.first().cloned().unwrap_or_default();
        self.add(Verdict::Fail, what, detail.collect::<Vec<&str>>().join("; "), &next);
    }
}

pub fn run(global: &Global) -> Result<(), Failure> {
    let mut findings = Findings::default();
    configuration(&mut findings);
    if let Some(endpoint) = hub_found(global, &mut findings) {
        authority(&endpoint, &mut findings);
        let client = Client::connect(global)?;
        if reached(&client, &mut findings) {
            clock(&client, &mut findings);
            if let Some(status) = rights(&client, &mut findings) {
                version(&client, &mut findings);
                hub(&client, &status, &mut findings);
                devices(&client, &mut findings);
            }
        }
        if endpoint.server.contains("127.0.0.1") || endpoint.server.contains("localhost") {
            this_machine(global, &mut findings);
        }
    }
    show(global, &findings.0)
}

fn configuration(findings: &mut Findings) {
    match config::load() {
        Ok(found) => {
            let path = config::path().filter(|path| path.exists());
            let is_open =
                |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
            match path {
                Some(path) if is_open(&path) => {
                    let next = format!("chmod 600 {}", path.display());
                    findings.add(Verdict::Warn, "context", "others can read the tokens of your contexts", &next);
                }
                Some(_) | None => {
                    let current = found.current.as_deref().unwrap_or(config::LOCAL);
                    findings.ok("context", format!("{current}, of {}", found.contexts.len() + 1));
                }
            }
        }
        Err(failure) => findings.failed("context", &failure),
    }
}

fn hub_found(global: &Global, findings: &mut Findings) -> Option<Endpoint> {
    match endpoint::find(global) {
        Ok(endpoint) => {
            findings.ok("hub", format!("{} from {}", endpoint.server, endpoint.origin));
            Some(endpoint)
        }
        Err(failure) => {
            findings.failed("hub", &failure);
            None
        }
    }
}

fn authority(endpoint: &Endpoint, findings: &mut Findings) {
    if !endpoint.server.starts_with("https://") {
        return findings.ok("authority", "not needed without TLS");
    }
    match &endpoint.ca {
        None => findings.ok("authority", "none named for this hub"),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {
                findings.ok("authority", path.display().to_string());
            }
            Ok(_) => {
                let detail = format!("{} has no certificate in it", path.display());
                findings.add(Verdict::Fail, "authority", detail, "fulmar login URL --ca FILE");
            }
            Err(error) => {
                let detail = format!("cannot read {}: {error}", path.display());
                findings.add(Verdict::Fail, "authority", detail, "fulmar login URL --ca FILE");
            }
        },
    }
}

fn reached(client: &Client, findings: &mut Findings) -> bool {
    match client.probe("/healthz") {
        Ok(_) => findings.ok("reachable", "it answers"),
        Err(failure) => {
            findings.failed("reachable", &failure);
            return false;
        }
    }
    match client.probe("/readyz") {
        Ok(_) => findings.ok("ready", "link to the broker and database are there"),
        Err(failure) => findings.failed("ready", &failure),
    }
    true
}

fn clock(client: &Client, findings: &mut Findings) {
    let date = client.probe("/healthz").ok().flatten();
    let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok()) else {
        return findings.add(Verdict::Warn, "clock", "the hub does not say what time it has", "");
    };
    let skew = (show::now_ms() / 1000).saturating_sub(theirs.timestamp().as_second());
    match skew.abs() {
        0..=SKEW_MAX_S => findings.ok("clock", "the same as the hub's"),
        seconds => {
            let way = if skew > 0 { "ahead of" } else { "behind" };
            let detail = format!("this machine is {seconds} s {way} the hub");
            findings.add(Verdict::Warn, "clock", detail, "timedatectl status    (on both machines)");
        }
    }
}

/// The hub's own status, which a token is needed for.
fn rights(client: &Client, findings: &mut Findings) -> Option<Value> {
    match client.get("/v1/whoami") {
        Ok(who) => findings.ok("token", format!("{} with the role {}", text(&who, "/name"), text(&who, "/role"))),
        Err(failure) => {
            findings.failed("token", &failure);
            return None;
        }
    }
    client.get("/v1/status").map_err(|failure| findings.failed("status", &failure)).ok()
}

fn version(client: &Client, findings: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    match client.hub_version() {
        Ok(Some(hub)) if hub == own => findings.ok("version", format!("{own}, here and at the hub")),
        Ok(Some(hub)) => {
            let detail = format!("this is {own}, the hub is {hub}");
            findings.add(Verdict::Warn, "version", detail, "use the program of the hub's version");
        }
        Ok(None) => findings.add(Verdict::Warn, "version", "the hub does not say its version", ""),
        Err(failure) => findings.failed("version", &failure),
    }
}

fn hub(client: &Client, status: &Value, findings: &mut Findings) {
    if flag(status, "/link") {
        findings.ok("broker", "the hub hears its broker");
    } else {
        let next = "see the hub's log; devices hear nothing until the link is back";
        findings.add(Verdict::Fail, "broker", "the hub has no connection to its broker", next);
    }
    for condition in show::list(status, "/conditions") {
        let detail = format!("{}: {}", text(condition, "/type"), text(condition, "/message"));
        findings.add(Verdict::Warn, "hub", detail, "fulmar status");
    }
    let names: Result<Vec<Value>, Failure> = list::all(client, &collection(Kind::Workload, None));
    let sick = |workload: &&Value| ["Synced", "Healthy"].iter().any(|name| show::condition(workload, name) == "False");
    match names {
        Ok(workloads) => match workloads.iter().find(sick) {
            None => findings.ok("workloads", format!("{}, none in trouble", workloads.len())),
            Some(first) => {
                let count = workloads.iter().filter(sick).count();
                let name = text(first, "/metadata/name");
                let detail = format!("{count} of {} are not as they should be, {name} among them", workloads.len());
                findings.add(Verdict::Warn, "workloads", detail, &format!("fulmar describe workload {name}"));
            }
        },
        Err(failure) => findings.failed("workloads", &failure),
    }
}

fn devices(client: &Client, findings: &mut Findings) {
    let devices = match list::all(client, &collection(Kind::Device, None)) {
        Ok(devices) => devices,
        Err(failure) => return findings.failed("devices", &failure),
    };
    let state = |device: &Value| text(device, "/status/online/state");
    let online = devices.iter().filter(|device| state(device) == "Online").count();
    match (devices.len(), online) {
        (0, _) => findings.add(Verdict::Warn, "devices", "there is none yet", "fulmar device join-token"),
        (all, online) if all == online => findings.ok("devices", format!("{online} online of {all}")),
        (all, online) => {
            let next = "fulmar get devices --field-selector status.online.state!=Online";
            findings.add(Verdict::Warn, "devices", format!("{online} online of {all}"), next);
        }
    }
    if let Some(waiting) = devices.iter().find(|device| !flag(device, "/spec/approved")) {
        let name = text(waiting, "/metadata/name");
        let detail = format!("{name} waits for approval");
        findings.add(Verdict::Warn, "approval", detail, &format!("fulmar device approve {name}"));
    }
}

/// What can be seen only where the hub runs.
fn this_machine(global: &Global, findings: &mut Findings) {
    let data = global.chosen.as_ref().and_then(|(_, context)| context.data.as_ref()).unwrap_or(&global.data);
    let Ok(Some(file)) = endpoint::read_file(data) else { return };
    match reach(&file.broker) {
        Ok(()) => findings.ok("listener", format!("{} takes connections", file.broker)),
        Err(why) => {
            findings.add(
                Verdict::Fail,
                "listener",
                format!("{}: {why}", file.broker),
                "fulmar status; see the hub's log",
            );
        }
    }
    let Ok(space) = rustix::fs::statvfs(data) else { return };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let detail = format!("{} free for {}", bytes(free), data.display());
    match free {
        0..DISK_SHORT_BYTES => {
            findings.add(Verdict::Fail, "disk", detail, "free some space: nothing is accepted when it is full")
        }
        DISK_SHORT_BYTES..DISK_LOW_BYTES => findings.add(Verdict::Warn, "disk", detail, "free some space"),
        DISK_LOW_BYTES.. => findings.ok("disk", detail),
    }
}

/// Opens a connection to `mqtt://host:port`, and closes it.
fn reach(address: &str) -> Result<(), String> {
    let place = address.rsplit("//").next().unwrap_or_default();
    let found = place.to_socket_addrs().map_err(|error| error.to_string())?.next();
    let found = found.ok_or_else(|| "the name has no address".to_owned())?;
    TcpStream::connect_timeout(&found, CONNECT_TIMEOUT).map(|_| ()).map_err(|error| error.to_string())
}

fn show(global: &Global, findings: &[Finding]) -> Result<(), Failure> {
    let word = |verdict: Verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let items: Vec<Value> = findings
        .iter()
        .map(
            |f| json!({"verdict": word(f.verdict).to_lowercase(), "check": f.what, "detail": f.detail, "next": f.next}),
        )
        .collect();
    if !whole(global.output, &json!({"checks": items}))? {
        for finding in findings {
            line(&format!("{:5} {:10} {}", word(finding.verdict), finding.what, show::plain_lines(&finding.detail)))?;
            if let (Some(next), true) = (&finding.next, global.output != Output::Name) {
                line(&format!("                 next: {next}"))?;
            }
        }
    }
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    match failed {
        0 => Ok(()),
        failed => Err(Failure::new(Code::Sick, format!("{failed} of {} checks failed", findings.len()))
            .why("each of them says above what to do next")),
    }
}
