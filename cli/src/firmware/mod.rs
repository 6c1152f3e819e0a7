//! `firmware push`, `rollout`, `status`, `pause`, `resume` and `abort`: another firmware for boards that take updates.
//!
//! The image is made here, because only here is known what a board's table says; what devices get is the hub's to decide.

mod args;

pub use args::Firmware;

use crate::args::{Global, Output};
use crate::artifact::{self, Pin, Upload};
use crate::client::Client;
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::flash;
use crate::output::{line, print, print_table, say, whole};
use crate::show::{bytes, list, number, text};
use crate::table::Table;
use crate::target::Target;
use args::{Push, Rollout};
use hub::model::Kind;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::{Duration, Instant};

const PATH: &str = "/v1/rollouts";
const POLL_PERIOD: Duration = Duration::from_millis(500);
/// Unless `--timeout` says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(3600);

pub fn run(global: &Global, verb: &Firmware) -> Result<(), Failure> {
    match verb {
        Firmware::Push(args) => push(global, args),
        Firmware::Rollout(args) => rollout(global, args),
        Firmware::Status { name: Some(name) } => {
            let answer = Client::connect(global)?.get(&path(name, ""))?;
            if whole(global.output, &answer)? { Ok(()) } else { show(global, &answer) }
        }
        Firmware::Status { name: None } => status(global),
        Firmware::Pause { name } => change(global, name, "pause", "is paused"),
        Firmware::Resume { name } => change(global, name, "resume", "goes on"),
        Firmware::Abort { name } => change(global, name, "abort", "is ended; what runs stays"),
    }
}

fn path(name: &str, verb: &str) -> String {
    let name = name.strip_prefix("rollout/").unwrap_or(name);
    if verb.is_empty() { format!("{PATH}/{name}") } else { format!("{PATH}/{name}/{verb}") }
}

fn push(global: &Global, args: &Push) -> Result<(), Failure> {
    let (board, image) = flash::update_image(&args.board, &args.file, args.version)?;
    let cannot = |error: std::io::Error| system("cannot write a temporary file", &error);
    let mut file = tempfile::NamedTempFile::new().map_err(cannot)?;
    file.write_all(&image).and_then(|()| file.flush()).map_err(cannot)?;
    let name = args.name.clone().unwrap_or_else(|| format!("firmware-{board}"));
    let measured = artifact::measure(file.path(), &global.namespace).map_err(Failure::usage)?;
    let pin = Pin { target: Target::new(Kind::Artifact, &global.namespace, &name), ..measured };
    let client = Client::connect(global)?;
    let upload = artifact::upload(&client, &pin)?;
    if !whole(global.output, &artifact::json(&pin, upload))? {
        match global.output {
            Output::GeoJson => return Err(crate::output::no_geojson()),
            _ => line(&pin.reference())?,
        }
    }
    let done = match upload {
        Upload::Uploaded => "uploaded",
        Upload::Unchanged => "the hub has it already",
    };
    say(&format!("version {} for {board}, {}: {done}", args.version, bytes(pin.bytes)));
    say(&format!("Next:  fulmar firmware rollout {}", pin.reference()));
    Ok(())
}

fn rollout(global: &Global, args: &Rollout) -> Result<(), Failure> {
    let client = Client::connect(global)?;
    let wanted = json!({
        "artifact": args.image,
        "board": args.board,
        "selector": args.selector,
        "waves": args.waves,
        "maxFailures": args.max_failures,
        "soak": args.soak,
        "confirmWithin": args.confirm_within,
    });
    let mut answer = client.post(PATH, &wanted)?;
    let name = text(&answer, "/name");
    if args.wait {
        answer = until_over(&client, &name, global.timeout.unwrap_or(WAIT_DEFAULT))?;
    }
    if !whole(global.output, &answer)? {
        show(global, &answer)?;
    }
    if text(&answer, "/phase") == "Halted" {
        return Err(halted(&answer));
    }
    if !args.wait {
        say(&format!("Next:  fulmar firmware status {name}"));
    }
    Ok(())
}

fn until_over(client: &Client, name: &str, patience: Duration) -> Result<Value, Failure> {
    let begin = Instant::now();
    loop {
        let answer = client.get(&path(name, ""))?;
        if !["Running", "Paused"].contains(&text(&answer, "/phase").as_str()) {
            return Ok(answer);
        }
        if begin.elapsed() >= patience {
            return Err(Failure::new(
                Code::TimedOut,
                format!("the rollout {name} is not over after {}", crate::wait::seconds(patience)),
            )
            .why(summary(&answer))
            .next(format!("fulmar firmware status {name}")));
        }
        std::thread::sleep(POLL_PERIOD);
    }
}

fn halted(answer: &Value) -> Failure {
    let name = text(answer, "/name");
    let mut failure = Failure::new(Code::RolloutHalted, format!("the rollout {name} was halted"));
    failure.why = list(answer, "/targets")
        .iter()
        .filter(|target| text(target, "/state") == "Failed")
        .map(|target| format!("{} does not keep it: {}", text(target, "/device"), text(target, "/reason")))
        .collect();
    failure.next(format!("fulmar firmware status {name}"))
}

fn count(answer: &Value, state: &str) -> usize {
    list(answer, "/targets").iter().filter(|target| text(target, "/state") == state).count()
}

fn summary(answer: &Value) -> String {
    format!(
        "{} of {} devices run version {}, {} failed",
        count(answer, "Updated"),
        list(answer, "/targets").len(),
        number(answer, "/version"),
        count(answer, "Failed")
    )
}

fn wave(answer: &Value) -> String {
    format!("{}/{}", number(answer, "/wave") + 1, list(answer, "/waves").len())
}

fn show(global: &Global, answer: &Value) -> Result<(), Failure> {
    let name = text(answer, "/name");
    if global.output == Output::Name {
        return line(&format!("rollout/{name}"));
    }
    line(&format!("{name}  {}  wave {}  {}", text(answer, "/phase"), wave(answer), summary(answer)))?;
    let mut rows = Table::new(&["DEVICE", "STATE", "REASON"]);
    for target in list(answer, "/targets") {
        rows.row(vec![text(target, "/device"), text(target, "/state"), text(target, "/reason")]);
    }
    print(&rows.text())
}

fn status(global: &Global) -> Result<(), Failure> {
    let answer = Client::connect(global)?.get(PATH)?;
    if whole(global.output, &answer)? {
        return Ok(());
    }
    let items = list(&answer, "/items");
    if global.output == Output::Name {
        return items.iter().try_for_each(|item| line(&format!("rollout/{}", text(item, "/name"))));
    }
    if items.is_empty() {
        say("no firmware was rolled out");
        return Ok(());
    }
    let mut rows = Table::new(&["NAME", "PHASE", "WAVE", "UPDATED", "FAILED", "DEVICES", "CREATED"]);
    for item in items {
        rows.row(vec![
            text(item, "/name"),
            text(item, "/phase"),
            wave(item),
            count(item, "Updated").to_string(),
            count(item, "Failed").to_string(),
            list(item, "/targets").len().to_string(),
            text(item, "/created"),
        ]);
    }
    print_table(global.output, &rows.text())
}

fn change(global: &Global, name: &str, verb: &str, done: &str) -> Result<(), Failure> {
    let answer = Client::connect(global)?.post(&path(name, verb), &json!({}))?;
    if whole(global.output, &answer)? {
        return Ok(());
    }
    line(&format!("rollout/{} {done}", text(&answer, "/name")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer() -> Value {
        json!({
            "name": "b-v2", "version": 2, "wave": 1, "waves": ["1", "100%"], "phase": "Halted",
            "targets": [
                {"device": "a", "state": "Updated"},
                {"device": "b", "state": "Failed", "reason": "WATCHDOG"},
                {"device": "c", "state": "Waiting"},
            ],
        })
    }

    #[test]
    fn what_failed_is_named_with_its_reason() {
        let failure = halted(&answer());
        assert_eq!(failure.why, ["b does not keep it: WATCHDOG"]);
        assert_eq!((failure.exit.code(), failure.next[0].as_str()), (5, "fulmar firmware status b-v2"));
        assert_eq!(summary(&answer()), "1 of 3 devices run version 2, 1 failed");
        assert_eq!(wave(&answer()), "2/2");
    }

    #[test]
    fn a_rollout_is_named_with_or_without_its_kind() {
        assert_eq!(path("rollout/b-v2", "pause"), "/v1/rollouts/b-v2/pause");
        assert_eq!(path("b-v2", ""), "/v1/rollouts/b-v2");
    }
}
