//! How far a workload is: one look at its document, judged. Pure; the clock and the polling are elsewhere.

use crate::code::Code;
use crate::failure::Failure;
use crate::show::{detail, list, number, text};
use serde_json::Value;

/// Devices that a line names.
const NAMES_SHOWN: usize = 8;
/// States in which a device has given up until something changes.
const FINAL_STATES: [&str; 2] = ["Failed", "Refused"];

/// One component on one device, as the hub shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub device: String,
    pub component: String,
    pub state: String,
    pub reason: String,
    pub detail: String,
    pub restarts: u64,
}

/// What one look shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub name: String,
    /// `wl/hello` with the namespace's option where it needs one: what can be pasted behind a verb.
    pub argument: String,
    pub desired: u64,
    pub placed: u64,
    pub running: u64,
    /// Placement has looked at this generation.
    pub is_observed: bool,
    /// Replicas that no device takes, and why.
    pub missing: u64,
    pub missing_reason: String,
    pub parts: Vec<Part>,
    is_synced: bool,
    is_healthy: bool,
}

/// What to think of it. All but `Ready` may change by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ready,
    Underway,
    /// A device has given up.
    Failed,
    /// What could be placed runs, and more cannot be placed.
    Short,
}

pub fn look(document: &Value) -> Look {
    let status = |name: &str| number(document, &format!("/status/{name}"));
    let is = |name: &str| crate::show::condition(document, name) == "True";
    Look {
        name: text(document, "/metadata/name"),
        argument: argument(document),
        desired: status("desired"),
        placed: status("placed"),
        running: status("running"),
        is_observed: status("observedGeneration") >= number(document, "/metadata/generation"),
        missing: status("shortfall/missing"),
        missing_reason: text(document, "/status/shortfall/reason"),
        parts: list(document, "/status/devices").iter().map(part).collect(),
        is_synced: is("Synced"),
        is_healthy: is("Healthy"),
    }
}

fn argument(document: &Value) -> String {
    let (name, namespace) = (text(document, "/metadata/name"), text(document, "/metadata/namespace"));
    match namespace.as_str() {
        "" | hub::model::NAMESPACE_DEFAULT => format!("wl/{name}"),
        other => format!("wl/{name} -n {other}"),
    }
}

fn part(entry: &Value) -> Part {
    let field = |name: &str| text(entry, &format!("/{name}"));
    Part {
        device: field("device"),
        component: field("component"),
        state: field("state"),
        reason: field("reason"),
        detail: detail(entry),
        restarts: number(entry, "/restarts"),
    }
}

impl Look {
    pub fn verdict(&self) -> Verdict {
        if !self.is_observed {
            return Verdict::Underway;
        }
        if self.parts.iter().any(Part::has_given_up) {
            return Verdict::Failed;
        }
        if self.missing == 0 && self.running >= self.desired && self.is_synced && self.is_healthy {
            return Verdict::Ready;
        }
        if self.missing > 0 && self.running >= self.placed { Verdict::Short } else { Verdict::Underway }
    }

    /// The stage in one line.
    pub fn line(&self) -> String {
        if !self.is_observed {
            return "accepted, not placed yet".to_owned();
        }
        let mut line = format!("placed {} of {}", self.placed, self.desired);
        let mut names: Vec<&str> = self.parts.iter().map(|part| part.device.as_str()).collect();
        names.dedup();
        if !names.is_empty() {
            let more = names.len().saturating_sub(NAMES_SHOWN);
            names.truncate(NAMES_SHOWN);
            line.push_str(&format!(" on {}", names.join(", ")));
            if more > 0 {
                line.push_str(&format!(" and {more} more"));
            }
        }
        for (state, count) in self.states() {
            line.push_str(&format!("   {state} {count}"));
        }
        line.push_str(&format!("   running {}/{}", self.running, self.desired));
        if self.running >= self.desired && !self.is_healthy {
            line.push_str("   settling");
        }
        line
    }

    /// What is not running, by state.
    fn states(&self) -> Vec<(String, usize)> {
        let mut states: Vec<(String, usize)> = Vec::new();
        for part in self.parts.iter().filter(|part| !matches!(part.state.as_str(), "Running" | "Completed")) {
            let state = part.state.to_lowercase();
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, count)) => *count += 1,
                None => states.push((state, 1)),
            }
        }
        states
    }

    /// Why it is not ready, as a failure with the given exit code.
    pub fn failure(&self, verdict: Verdict, waited: &str) -> Failure {
        let (name, argument) = (&self.name, &self.argument);
        let mut failure = match verdict {
            Verdict::Failed => Failure::new(Code::WorkloadFailed, format!("wl/{name} failed")),
            Verdict::Short => Failure::new(
                Code::Short,
                format!("cannot place {} of {} replicas of wl/{name}", self.missing, self.desired.max(self.missing)),
            ),
            Verdict::Underway | Verdict::Ready => {
                Failure::new(Code::TimedOut, format!("wl/{name} was not running after {waited}")).why(self.line())
            }
        };
        if self.missing > 0 {
            failure = failure.why(match self.missing_reason.is_empty() {
                true => format!("no device takes the missing {}", self.missing),
                false => self.missing_reason.clone(),
            });
        }
        let trouble =
            self.parts.iter().filter(|part| part.has_given_up() || part.state == "BackOff" || part.state == "Unknown");
        for part in trouble.take(NAMES_SHOWN) {
            failure = failure.why(part.line());
        }
        match verdict {
            Verdict::Short => failure.next(format!("fulmar explain placement {argument}")),
            Verdict::Failed => {
                failure.next(format!("fulmar logs {argument}")).next(format!("fulmar describe {argument}"))
            }
            Verdict::Underway | Verdict::Ready if !self.is_observed || self.placed == 0 => {
                failure.next(format!("fulmar explain placement {argument}")).next("fulmar get devices")
            }
            Verdict::Underway | Verdict::Ready => failure
                .next(format!("fulmar describe {argument}"))
                .next(format!("fulmar wait --for running {argument}")),
        }
    }
}

impl Part {
    fn has_given_up(&self) -> bool {
        FINAL_STATES.contains(&self.state.as_str())
    }

    /// `gw-1: BackOff, TRAPPED: unreachable executed (3 restarts)`.
    fn line(&self) -> String {
        let mut line = self.device.clone();
        if !self.component.is_empty() {
            line.push_str(&format!("/{}", self.component));
        }
        line.push_str(&format!(": {}", self.state));
        if !self.reason.is_empty() && self.reason != "NONE" {
            line.push_str(&format!(", {}", self.reason));
        }
        if !self.detail.is_empty() {
            line.push_str(&format!(": {}", self.detail));
        }
        if self.restarts > 0 {
            line.push_str(&format!(" ({} restarts)", self.restarts));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use serde_json::json;

    fn document(running: u64, placed: u64, state: &str) -> Value {
        let healthy = if running == 2 { "True" } else { "False" };
        let devices: Vec<Value> = (0..placed)
            .map(|n| json!({"device": format!("d{n}"), "state": if n < running { "Running" } else { state }, "reason": "TRAPPED", "detail": "unreachable", "restarts": 3}))
            .collect();
        json!({
            "metadata": {"name": "hello", "generation": 2},
            "status": {"desired": 2, "placed": placed, "running": running, "observedGeneration": 2, "devices": devices, "conditions": [
                {"type": "Synced", "status": "True"}, {"type": "Healthy", "status": healthy}]}
        })
    }

    #[test]
    fn a_workload_is_ready_only_when_all_of_this_generation_runs() {
        assert_eq!(look(&document(2, 2, "")).verdict(), Verdict::Ready);
        assert_eq!(look(&document(1, 2, "Fetching")).verdict(), Verdict::Underway);
        let mut old = document(2, 2, "");
        old["status"]["observedGeneration"] = json!(1);
        assert_eq!(look(&old).verdict(), Verdict::Underway);
        assert_eq!(look(&old).line(), "accepted, not placed yet");
        assert_eq!(look(&json!({"metadata": {"generation": 1}})).verdict(), Verdict::Underway);
    }

    #[test]
    fn stages_are_said_in_one_line() {
        let line = look(&document(1, 2, "Fetching")).line();
        assert_eq!(line, "placed 2 of 2 on d0, d1   fetching 1   running 1/2");
    }

    #[test]
    fn a_device_that_gave_up_fails_the_wait_and_says_why() {
        let seen = look(&document(1, 2, "Failed"));
        assert_eq!(seen.verdict(), Verdict::Failed);
        let failure = seen.failure(Verdict::Failed, "1s");
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.why, ["d1: Failed, TRAPPED: unreachable (3 restarts)"]);
    }

    #[test]
    fn missing_replicas_are_short_once_the_others_run() {
        let mut document = document(1, 1, "");
        document["status"]["shortfall"] = json!({"missing": 1, "reason": "1 outside region/a"});
        let seen = look(&document);
        assert_eq!(seen.verdict(), Verdict::Short);
        let failure = seen.failure(Verdict::Short, "3s");
        assert_eq!(failure.exit, Exit::Short);
        assert_eq!(&*failure.what, "cannot place 1 of 2 replicas of wl/hello");
        assert_eq!(failure.why, ["1 outside region/a"]);
    }

    #[test]
    fn a_time_out_says_where_it_stands() {
        let failure = look(&document(1, 2, "BackOff")).failure(Verdict::Underway, "60s");
        assert_eq!(failure.exit, Exit::TimedOut);
        assert_eq!(failure.why[0], "placed 2 of 2 on d0, d1   backoff 1   running 1/2");
        assert!(failure.why[1].contains("TRAPPED: unreachable"));
    }
}
