//! `chaos`: lets simulated devices of `fulmar up --demo` lose their network, power, disk or time, for a while.
//!
//! It speaks to the fleet's process through a socket in the data directory, which only the owner can use. Devices that are not
//! simulated have nothing of the kind; it must never pretend to reach them.

mod args;

pub use args::{Chaos, On};

use crate::args::{Global, Output, Selection};
use crate::client::Client;
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::list;
use crate::output::{line, print, say, whole};
use crate::show::{number, span_ms, text};
use crate::table::Table;
use crate::target::collection;
use hub::model::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Below the data directory of the hub.
const DOOR: &str = "fleet/chaos.sock";
/// For the fleet to do what it was asked: devices that lose their power finish a write first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer: every fault with the names of a whole fleet.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names that a line shows.
const NAMES_SHOWN: usize = 3;

pub fn run(global: &Global, verb: &Chaos) -> Result<(), Failure> {
    let door = Door::of(global)?;
    let start = |on: &On, fault: &str, more: Value| start(global, &door, on, fault, more);
    match verb {
        Chaos::Partition { on } => start(on, "partition", json!({})),
        Chaos::Latency { by, on } => start(on, "latency", json!({"delay_ms": millis(*by)})),
        Chaos::Kill { every, on } => start(on, "kill", json!({"every_ms": every.map(millis)})),
        Chaos::ClockSkew { by, on } => start(on, "clock-skew", json!({"skew_ms": by})),
        Chaos::DiskFull { on } => start(on, "disk-full", json!({})),
        Chaos::List => show(global, &door),
        Chaos::Stop { ids } => stop(global, &door, ids),
    }
}

/// Short times with their milliseconds.
fn span(milliseconds: u64) -> String {
    if milliseconds < 1000 { format!("{milliseconds}ms") } else { span_ms(milliseconds) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Where the fleet listens.
struct Door(PathBuf);

impl Door {
    fn of(global: &Global) -> Result<Self, Failure> {
        let elsewhere = global.server.as_deref().or_else(|| global.chosen.as_ref().map(|(name, _)| name.as_str()));
        match elsewhere {
            Some(server) => Err(no_demo(format!("{server} is no demonstration on this machine"))
                .why("faults are played by the process of the simulated devices, which is found by its data directory")
                .next("fulmar chaos list --data DIR    (the directory that `fulmar up --demo` has named)")),
            None => Ok(Self(global.data.join(DOOR))),
        }
    }

    fn ask(&self, question: &Value) -> Result<Value, Failure> {
        let stream = UnixStream::connect(&self.0).map_err(|error| {
            no_demo("there are no simulated devices here")
                .why(format!("nothing answers at {}: {error}", self.0.display()))
                .why("real devices cannot be made to fail from here, on purpose")
        })?;
        let answer = converse(stream, question).map_err(|error| {
            system("the simulated devices did not answer", &error).next("fulmar status").next("fulmar chaos list")
        })?;
        let Some(error) = answer.get("error") else { return Ok(answer) };
        let what = text(error, "/text");
        Err(match text(error, "/code").as_str() {
            "UNKNOWN" => Failure::new(Code::NoSimulated, what),
            "LIMIT" => Failure::new(Code::TooManyFaults, what),
            "NO_ROAD" => Failure::new(Code::NoRelay, what),
            _ => Failure::usage(what).next("fulmar chaos --help"),
        })
    }

    /// Names of all devices that are simulated.
    fn simulated(&self) -> Result<BTreeSet<String>, Failure> {
        let answer = self.ask(&json!({"do": "list"}))?;
        let names = answer["devices"].as_array().into_iter().flatten();
        Ok(names.filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }
}

fn no_demo(what: impl Into<String>) -> Failure {
    Failure::new(Code::NoDemo, what)
}

fn converse(mut stream: UnixStream, question: &Value) -> std::io::Result<Value> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(std::io::Error::from)
}

fn start(global: &Global, door: &Door, on: &On, fault: &str, more: Value) -> Result<(), Failure> {
    if global.readonly {
        return Err(Failure::new(Code::Readonly, "a fault changes what devices do"));
    }
    let simulated = door.simulated()?;
    let chosen = choose(global, on, &simulated)?;
    let mut question = json!({"do": "start", "fault": fault, "devices": chosen, "for_ms": millis(on.lasts)});
    if let (Value::Object(question), Value::Object(more)) = (&mut question, more) {
        question.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let begun = door.ask(&question)?;
    if whole(global.output, &begun)? {
        return Ok(());
    }
    if global.output == Output::Name {
        return line(&text(&begun, "/id"));
    }
    line(&format!(
        "chaos {}: {} on {} for {}",
        number(&begun, "/id"),
        described(&begun),
        named(&begun),
        span(number(&begun, "/left_ms"))
    ))?;
    say(&format!("Next:  fulmar map   |   fulmar events   |   fulmar chaos stop {}", number(&begun, "/id")));
    Ok(())
}

/// The simulated devices that are meant; a device of another kind that was named is a mistake, one that a label fits is left
/// out and said.
fn choose(global: &Global, on: &On, simulated: &BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
    let client = Client::connect(global)?;
    let words = on.on.as_deref().unwrap_or("all");
    let bare = |word: &str| {
        let word = word.trim();
        ["device/", "dev/", "d/"].iter().find_map(|kind| word.strip_prefix(kind)).unwrap_or(word).to_owned()
    };
    let selection =
        |selector: Option<String>| Selection { selector, within: on.within.clone(), ..Selection::default() };
    let names_of = |selection: &Selection| -> Result<BTreeSet<String>, Failure> {
        let path = collection(Kind::Device, None);
        let listed = list::list(&client, &path, &list::parameters(selection), None, None)?;
        Ok(listed.items.iter().map(|device| text(device, "/metadata/name")).collect())
    };
    let all = names_of(&Selection::default())?;
    let words_bare: BTreeSet<String> = words.split(',').map(bare).filter(|word| !word.is_empty()).collect();
    let are_names = !words_bare.is_empty() && words_bare.iter().all(|word| all.contains(word));
    let has_kind = words.split(',').any(|word| word.contains('/') && !word.contains(['=', ' ']));
    let fitting = if words == "all" {
        names_of(&selection(None))?
    } else if are_names || has_kind {
        if let Some(unknown) = words_bare.iter().find(|name| !simulated.contains(*name)) {
            return Err(not_simulated(unknown, all.contains(unknown)));
        }
        let here = names_of(&selection(None))?;
        words_bare.intersection(&here).cloned().collect()
    } else {
        names_of(&selection(Some(words.to_owned())))?
    };
    let chosen: BTreeSet<String> = fitting.intersection(simulated).cloned().collect();
    if chosen.is_empty() {
        let place = on.within.as_ref().map(|region| format!(" within {region}")).unwrap_or_default();
        return Err(Failure::new(Code::NoSimulated, format!("no simulated device is meant by {words}{place}"))
            .why(format!("{} simulated devices run here, and {} devices fit", simulated.len(), fitting.len()))
            .next("fulmar get devices -l simulated=true"));
    }
    let others = fitting.len() - chosen.len();
    if others > 0 {
        say(&format!("{others} devices that fit are not simulated, and are left alone"));
    }
    Ok(chosen)
}

fn not_simulated(name: &str, is_device: bool) -> Failure {
    let failure = Failure::new(Code::NoSimulated, format!("{name} is no simulated device"));
    let failure = match is_device {
        true => failure.why("it is a real one, which cannot be made to fail from here, on purpose"),
        false => failure.why("there is no device of this name"),
    };
    failure.next("fulmar get devices -l simulated=true")
}

/// What goes wrong, with its measure.
fn described(fault: &Value) -> String {
    let name = text(fault, "/fault");
    let measure = |pointer: &str| fault.pointer(pointer).and_then(Value::as_i64);
    let time = |millis: i64| span(millis.unsigned_abs());
    if let Some(delay) = measure("/delay_ms") {
        format!("{name} of {} each way", time(delay))
    } else if let Some(every) = measure("/every_ms") {
        format!("{name} every {}", time(every))
    } else if let Some(skew) = measure("/skew_ms") {
        format!("{name} of {} {}", time(skew), if skew < 0 { "behind" } else { "ahead" })
    } else {
        name
    }
}

fn names(fault: &Value) -> Vec<&str> {
    fault["devices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A few names, and how many there are.
fn named(fault: &Value) -> String {
    let names = names(fault);
    let shown = names.get(..NAMES_SHOWN.min(names.len())).unwrap_or_default().join(", ");
    match names.len() {
        1 => shown,
        count if count <= NAMES_SHOWN => format!("{count} devices ({shown})"),
        count => format!("{count} devices ({shown} and {} more)", count - NAMES_SHOWN),
    }
}

fn show(global: &Global, door: &Door) -> Result<(), Failure> {
    let answer = door.ask(&json!({"do": "list"}))?;
    if whole(global.output, &json!({"items": answer["faults"]}))? {
        return Ok(());
    }
    let faults = answer["faults"].as_array().cloned().unwrap_or_default();
    let mut table = Table::new(&["ID", "FAULT", "ENDS IN", "DEVICES"]);
    for fault in &faults {
        let id = number(fault, "/id").to_string();
        match global.output {
            Output::Name => line(&id)?,
            Output::Wide => {
                table.row(vec![id, described(fault), span(number(fault, "/left_ms")), names(fault).join(",")]);
            }
            _ => table.row(vec![id, described(fault), span(number(fault, "/left_ms")), named(fault)]),
        }
    }
    if faults.is_empty() {
        say("no fault is going on");
    }
    if faults.is_empty() || global.output == Output::Name { Ok(()) } else { print(&table.text()) }
}

fn stop(global: &Global, door: &Door, ids: &[u32]) -> Result<(), Failure> {
    if global.readonly {
        return Err(Failure::new(Code::Readonly, "ending a fault changes what devices do"));
    }
    let mut stopped: Vec<u64> = Vec::new();
    let ended = |answer: &Value| -> Vec<u64> {
        answer["stopped"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    if ids.is_empty() {
        stopped = ended(&door.ask(&json!({"do": "stop"}))?);
    }
    for id in ids {
        let one = ended(&door.ask(&json!({"do": "stop", "id": id}))?);
        if one.is_empty() {
            return Err(Failure::new(Code::NoFault, format!("no fault {id} is going on"))
                .why("it was ended, or is over by itself")
                .next("fulmar chaos list"));
        }
        stopped.extend(one);
    }
    if whole(global.output, &json!({"stopped": stopped}))? {
        return Ok(());
    }
    match stopped.as_slice() {
        [] => say("no fault is going on"),
        stopped => stopped.iter().try_for_each(|id| line(&format!("chaos {id} is over")))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_its_measure_and_a_few_names() {
        let fault = json!({"fault": "latency", "delay_ms": 300, "devices": ["a", "b", "c", "d", "e"]});
        assert_eq!(described(&fault), "latency of 300ms each way");
        assert_eq!(named(&fault), "5 devices (a, b, c and 2 more)");
        let fault = json!({"fault": "clock-skew", "skew_ms": -7_200_000, "devices": ["a"]});
        assert_eq!((described(&fault).as_str(), named(&fault).as_str()), ("clock-skew of 2h behind", "a"));
        let fault = json!({"fault": "kill", "every_ms": 20_000, "devices": ["a", "b"]});
        assert_eq!((described(&fault).as_str(), named(&fault).as_str()), ("kill every 20s", "2 devices (a, b)"));
        assert_eq!(described(&json!({"fault": "partition"})), "partition");
    }

    #[test]
    fn a_directory_without_a_fleet_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let global = Global::of(directory.path());
        let failure = run(&global, &Chaos::List).unwrap_err();
        assert_eq!(failure.code, "NO_DEMO");
        let text = failure.text();
        assert!(text.contains("on purpose") && text.contains("fulmar up --demo"), "{text}");
        let elsewhere = Global { server: Some("https://hub.example:7443".to_owned()), ..global };
        let failure = run(&elsewhere, &Chaos::List).unwrap_err();
        assert!(failure.text().contains("hub.example"), "{}", failure.text());
    }
}
