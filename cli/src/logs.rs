//! `logs`, `samples` and `events`: what was said, measured and what happened, once or followed.
//!
//! One line of output for one line of the hub; with `-o json`, one JSON object for each.

use crate::args::{Events, Global, Logs, Output, Samples};
use crate::client::Client;
use crate::code::Code;
use crate::describe::event_line;
use crate::failure::Failure;
use crate::output::{line, print, say};
use crate::show::{list, number, text, time_ms};
use crate::sse::Items;
use crate::target::{parse_device, parse_workload, with_query};
use serde_json::Value;

pub fn logs(global: &Global, args: &Logs) -> Result<(), Failure> {
    let target = parse_workload(&args.workload, &global.namespace)?;
    let parameters = [
        ("device", args.device.clone()),
        ("tail", Some(args.tail.to_string())),
        ("follow", args.follow.then(|| "true".to_owned())),
    ];
    let path = with_query(&format!("{}/logs", target.path()), &parameters);
    let client = &Client::connect(global)?;
    if args.follow {
        return follow(client, &path, global.output, log_line, &format!("{target} was deleted"));
    }
    once(client, &path, global.output, log_line)
}

pub fn samples(global: &Global, args: &Samples) -> Result<(), Failure> {
    let target = parse_device(&args.device)?;
    let parameters = [
        ("key", args.key.clone()),
        ("tail", Some(args.tail.to_string())),
        ("follow", args.follow.then(|| "true".to_owned())),
    ];
    let path = with_query(&format!("{}/samples", target.path()), &parameters);
    let client = &Client::connect(global)?;
    if args.follow {
        return follow(client, &path, global.output, sample_line, "the hub ended the stream");
    }
    let answer = client.get(&path)?;
    list(&answer, "/items").iter().try_for_each(|item| emit(item, global.output, sample_line))?;
    // What is missing is said where people look, and does not get into pipes.
    account_lines(&answer).iter().for_each(|text| say(text));
    Ok(())
}

/// Of each class that lost something, how much.
fn account_lines(answer: &Value) -> Vec<String> {
    let lossy = list(answer, "/classes")
        .iter()
        .filter(|class| ["/lost", "/missing", "/endsUnknown"].into_iter().any(|field| number(class, field) > 0));
    lossy
        .map(|class| {
            let mut out = format!("{}s: {} received", text(class, "/class"), number(class, "/received"));
            for (field, what) in [("/lost", "lost by the device"), ("/missing", "lost on the way")] {
                match number(class, field) {
                    0 => {}
                    count => out.push_str(&format!(", {count} {what}")),
                }
            }
            match number(class, "/endsUnknown") {
                0 => {}
                count => out.push_str(&format!("; of {count} earlier boots the end is not known")),
            }
            out
        })
        .collect()
}

/// Time, class, workload, key, value.
fn sample_line(item: &Value) -> String {
    let component = text(item, "/component");
    let place = match component.is_empty() {
        true => text(item, "/workload"),
        false => format!("{}/{component}", text(item, "/workload")),
    };
    let (time, class) = (time_ms(number(item, "/timeMs")), text(item, "/class"));
    format!("{time}  {class:6}  {place}  {} = {}", text(item, "/key"), text(item, "/value"))
}

pub fn events(global: &Global, args: &Events) -> Result<(), Failure> {
    let parameters = [
        ("object", args.object.as_deref().map(|object| full_name(object, &global.namespace))),
        ("tail", Some(args.tail.to_string())),
        ("follow", args.follow.then(|| "true".to_owned())),
    ];
    let path = with_query("/v1/events", &parameters);
    let client = &Client::connect(global)?;
    if args.follow {
        return follow(client, &path, global.output, event_line, "the hub ended the stream");
    }
    once(client, &path, global.output, event_line)
}

/// `wl/hello` as the hub names it; anything else as it is.
fn full_name(object: &str, namespace: &str) -> String {
    crate::target::parse_one(object, None, namespace).map_or_else(|_| object.to_owned(), |target| target.key())
}

fn once(client: &Client, path: &str, output: Output, shown: fn(&Value) -> String) -> Result<(), Failure> {
    let answer = client.get(path)?;
    list(&answer, "/items").iter().try_for_each(|item| emit(item, output, shown))
}

fn emit(item: &Value, output: Output, shown: fn(&Value) -> String) -> Result<(), Failure> {
    match output {
        Output::Json => line(&item.to_string()),
        Output::JsonPath(template) => print(&template.render(item)),
        Output::Table | Output::Wide | Output::Yaml | Output::Name | Output::GeoJson => line(&shown(item)),
    }
}

fn follow(client: &Client, path: &str, output: Output, shown: fn(&Value) -> String, end: &str) -> Result<(), Failure> {
    let mut items = Items::new(client.follow(path, None)?);
    let lost = |why: String| {
        Failure::new(Code::StreamLost, "the hub is gone: the stream broke").why(why).next("fulmar status")
    };
    loop {
        let item = match items.next() {
            Ok(Some(item)) => item,
            Ok(None) => return Err(lost("the hub closed the connection, as it does when it stops".to_owned())),
            Err(error) => return Err(lost(error.to_string())),
        };
        let data: Value = serde_json::from_str(&item.data).unwrap_or_default();
        match item.kind.as_str() {
            "log" | "sample" | "event" => emit(&data, output, shown)?,
            "dropped" => say(&format!("{} lines are missing here: this reader was too slow", number(&data, "/count"))),
            "end" => {
                say(end);
                return Ok(());
            }
            // A kind that a newer hub knows.
            _ => {}
        }
    }
}

/// Time, device, component, level, text.
fn log_line(item: &Value) -> String {
    let component = text(item, "/component");
    let place = match component.is_empty() {
        true => text(item, "/device"),
        false => format!("{}/{component}", text(item, "/device")),
    };
    let said = match number(item, "/lost") {
        0 => text(item, "/text"),
        lost => format!("-- {lost} lines lost --"),
    };
    format!("{}  {place}  {:5}  {said}", time_ms(number(item, "/timeMs")), text(item, "/level")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_where_how_bad_and_what() {
        let item = json!({"timeMs": 1_795_313_000_123u64, "device": "gw-1", "component": "", "level": "info", "text": "hello\u{7}"});
        assert_eq!(log_line(&item), "2026-11-22T02:03:20.123Z  gw-1  info   hello\u{fffd}");
        let item = json!({"timeMs": 1_795_313_000_123u64, "device": "gw-1", "component": "a", "level": "lost", "text": "", "lost": 7});
        assert_eq!(log_line(&item), "2026-11-22T02:03:20.123Z  gw-1/a  lost   -- 7 lines lost --");
    }

    #[test]
    fn a_sample_says_when_what_where_and_how_much() {
        let item = json!({"timeMs": 1_795_313_000_123u64, "device": "gw-1", "workload": "default/gauge", "class": "metric", "key": "t", "value": "21.5"});
        assert_eq!(sample_line(&item), "2026-11-22T02:03:20.123Z  metric  default/gauge  t = 21.5");
    }

    #[test]
    fn the_account_names_what_is_missing_and_nothing_else() {
        let class = |class: &str, lost: u64, missing: u64, ends: u64| json!({"class": class, "received": 7, "lost": lost, "missing": missing, "endsUnknown": ends});
        let answer = json!({"classes": [class("alarm", 0, 0, 0), class("state", 0, 2, 0), class("metric", 3, 0, 1)]});
        assert_eq!(
            account_lines(&answer),
            [
                "states: 7 received, 2 lost on the way",
                "metrics: 7 received, 3 lost by the device; of 1 earlier boots the end is not known",
            ]
        );
    }

    #[test]
    fn objects_of_events_are_named_as_the_hub_names_them() {
        assert_eq!(full_name("wl/hello", "lab"), "workload/lab/hello");
        assert_eq!(full_name("d/gw-1", "lab"), "device/gw-1");
        assert_eq!(full_name("hello", "lab"), "hello");
    }
}
