//! Waiting for workloads, devices and ends: polls, shows each stage once, and ends with a verdict.
//!
//! On a terminal one line is updated in place; elsewhere a line is written for every change, and nothing else.

use crate::args::{Awaited, Global, Output, Wait};
use crate::client::Client;
use crate::code::Code;
use crate::exit::Exit;
use crate::explain;
use crate::failure::Failure;
use crate::output::{is_live, line, say, update, warn};
use crate::progress::{Look, Verdict, look};
use crate::show::text;
use crate::target::{Target, parse_one};
use hub::model::Kind;
use std::time::{Duration, Instant};

const POLL_PERIOD: Duration = Duration::from_millis(200);
/// A bad verdict must hold for so long: devices may be about to connect, or to report the new generation.
const VERDICT_GRACE: Duration = Duration::from_secs(3);
/// Characters of a stage on a terminal: a line that wraps cannot be updated in place.
const STAGE_CHARS_MAX: usize = 68;
/// A good one too: what traps at its first timer runs for a moment before.
const READY_FOR: Duration = Duration::from_secs(2);
/// Without `--timeout`.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// `0.4s`, as people read it.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// Where stages are shown.
pub struct Display {
    is_terminal: bool,
    last: String,
}

impl Display {
    pub fn new() -> Self {
        Self { is_terminal: is_live(), last: String::new() }
    }

    pub fn show(&mut self, text: &str, since: Instant) {
        if self.is_terminal {
            let shown: String = text.chars().take(STAGE_CHARS_MAX).collect();
            update(&format!("  {shown}   {}", seconds(since.elapsed())));
        } else if self.last != text {
            say(&format!("  {text}"));
        }
        text.clone_into(&mut self.last);
    }

    /// Leaves the last stage standing.
    pub fn finish(&mut self) {
        if self.is_terminal && !self.last.is_empty() {
            say("");
        }
        self.last.clear();
    }
}

/// One workload that is waited for.
struct Awaiting<'a> {
    target: &'a Target,
    bad_since: Option<(Verdict, Instant)>,
    ready_since: Option<Instant>,
    last: Look,
    result: Option<Result<Duration, Failure>>,
}

/// Waits until all are ready; every other end is a failure, the first of them is given back.
pub fn until_running(client: &Client, targets: &[Target], timeout: Duration, output: Output) -> Result<(), Failure> {
    let start = Instant::now();
    let mut display = Display::new();
    let mut all: Vec<Awaiting<'_>> = targets
        .iter()
        .map(|target| Awaiting { target, bad_since: None, ready_since: None, last: Look::default(), result: None })
        .collect();
    loop {
        for one in all.iter_mut().filter(|one| one.result.is_none()) {
            one.look(client, start, timeout)?;
        }
        let open: Vec<&Awaiting<'_>> = all.iter().filter(|one| one.result.is_none()).collect();
        let shown = match (open.first(), targets.len()) {
            (Some(one), 1) => one.last.line(),
            (Some(one), count) => {
                format!("{}/{count} ready; {}: {}", count - open.len(), one.target.name, one.last.line())
            }
            (None, 1) => all.first().map(|one| one.last.line()).unwrap_or_default(),
            (None, _) => String::new(),
        };
        if !shown.is_empty() {
            display.show(&shown, start);
        }
        if open.is_empty() {
            display.finish();
            return report(all, output);
        }
        std::thread::sleep(POLL_PERIOD);
    }
}

impl Awaiting<'_> {
    fn look(&mut self, client: &Client, start: Instant, timeout: Duration) -> Result<(), Failure> {
        let document = match client.get(&self.target.path()) {
            Ok(document) => document,
            Err(failure) if failure.exit == Exit::NotFound => {
                self.result = Some(Err(failure));
                return Ok(());
            }
            // A hub that restarts is waited for.
            Err(failure) if start.elapsed() < timeout && failure.code == "UNREACHABLE" => return Ok(()),
            Err(failure) => return Err(failure),
        };
        self.last = look(&document);
        let verdict = self.last.verdict();
        if let Some(since) = ready_for_long(&mut self.ready_since, verdict, Instant::now()) {
            // The time that it took, without the time that was needed to be sure.
            self.result = Some(Ok(since.duration_since(start)));
        }
        match verdict {
            Verdict::Ready => self.bad_since = None,
            Verdict::Underway => self.bad_since = None,
            Verdict::Failed | Verdict::Short => match self.bad_since {
                Some((known, since)) if known == verdict => {
                    if since.elapsed() >= VERDICT_GRACE {
                        self.result = Some(Err(self.failure(client, verdict, &seconds(start.elapsed()))));
                    }
                }
                Some(_) | None => self.bad_since = Some((verdict, Instant::now())),
            },
        }
        if self.result.is_none() && start.elapsed() >= timeout {
            // What is known to be bad is the better answer than the time.
            let verdict = self.bad_since.map_or(verdict, |(known, _)| known);
            self.result = Some(Err(self.failure(client, verdict, &seconds(timeout))));
        }
        Ok(())
    }

    /// With the scheduler's own words where replicas are missing.
    fn failure(&self, client: &Client, verdict: Verdict, waited: &str) -> Failure {
        let mut failure = self.last.failure(verdict, waited);
        if verdict == Verdict::Short
            && let Ok(reasons) = explain::reasons(client, self.target)
        {
            failure.why = reasons;
        }
        failure
    }
}

/// Since when it has been ready without a break, once that is long enough.
fn ready_for_long(since: &mut Option<Instant>, verdict: Verdict, now: Instant) -> Option<Instant> {
    if verdict != Verdict::Ready {
        *since = None;
        return None;
    }
    let first = *since.get_or_insert(now);
    (now.duration_since(first) >= READY_FOR).then_some(first)
}

fn report(all: Vec<Awaiting<'_>>, output: Output) -> Result<(), Failure> {
    let mut first = None;
    let mut ready = Vec::new();
    for one in all {
        match one.result {
            Some(Ok(after)) => {
                if matches!(output, Output::Table | Output::Wide) {
                    line(&format!("{} is Synced and Healthy.  {}", one.target.name, seconds(after)))?;
                }
                ready.push(one.last.argument);
            }
            Some(Err(failure)) if first.is_none() => first = Some(failure),
            Some(Err(failure)) => warn(failure.text().trim_end()),
            None => {}
        }
    }
    if let Some(argument) = ready.first()
        && first.is_none()
    {
        say(&format!("Next:  fulmar logs -f {argument}"));
    }
    first.map_or(Ok(()), Err)
}

pub fn run(global: &Global, args: &Wait) -> Result<(), Failure> {
    let timeout = global.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let target = match (&args.name, args.object.contains('/')) {
        (None, false) => Target::new(Kind::Workload, &global.namespace, &args.object),
        (name, _) => parse_one(&args.object, name.as_deref(), &global.namespace)?,
    };
    let needs = |kind: Kind, state: &str| match target.kind == kind {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "a {} is never {state}: that is for a {}",
            target.kind.singular(),
            kind.singular()
        ))
        .next(format!("fulmar wait --for {state} {}/NAME", kind.singular()))),
    };
    match args.state {
        Awaited::Running => needs(Kind::Workload, "running")?,
        Awaited::Online => needs(Kind::Device, "online")?,
        Awaited::Deleted => {}
    }
    let client = &Client::connect(global)?;
    match args.state {
        Awaited::Running => until_running(client, &[target], timeout, global.output),
        Awaited::Online => until_online(client, &target, timeout),
        Awaited::Deleted => until_deleted(client, &target, timeout),
    }
}

fn until_online(client: &Client, target: &Target, timeout: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let device = client.get(&target.path())?;
        let state = text(&device, "/status/online/state");
        if state == "Online" {
            return line(&format!("{target} is online"));
        }
        if start.elapsed() >= timeout {
            return Err(Failure::new(Code::TimedOut, format!("{target} was not online after {}", seconds(timeout)))
                .why(format!("it is {state}"))
                .next(format!("fulmar describe {target}")));
        }
        std::thread::sleep(POLL_PERIOD);
    }
}

fn until_deleted(client: &Client, target: &Target, timeout: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        match client.get(&target.path()) {
            Err(failure) if failure.exit == Exit::NotFound => return line(&format!("{target} is deleted")),
            Err(failure) => return Err(failure),
            Ok(_) if start.elapsed() >= timeout => {
                return Err(Failure::new(
                    Code::TimedOut,
                    format!("{target} was still there after {}", seconds(timeout)),
                )
                .next(format!("fulmar delete {target}")));
            }
            Ok(_) => std::thread::sleep(POLL_PERIOD),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_runs_for_a_moment_only_is_not_ready() {
        let start = Instant::now();
        let mut since = None;
        let mut look = |verdict, ms| ready_for_long(&mut since, verdict, start + Duration::from_millis(ms));
        assert_eq!(look(Verdict::Ready, 0), None);
        assert_eq!(look(Verdict::Ready, 1_900), None);
        assert_eq!(look(Verdict::Underway, 1_950), None);
        assert_eq!(look(Verdict::Ready, 2_100), None, "it failed in between");
        assert_eq!(look(Verdict::Ready, 4_100), Some(start + Duration::from_millis(2_100)));
    }
}
