//! `explain placement`: the scheduler's reasons, as the hub words them. `explain KIND.FIELD` is in `schema`.

use crate::args::{Explain, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{plain, print, whole, yaml};
use crate::schema;
use crate::target::{Target, parse_workload, with_query};
use serde_json::Value;

/// Lines of reasons inside another message.
const LINES_MAX: usize = 12;

pub fn run(global: &Global, args: &Explain) -> Result<(), Failure> {
    match (args.topic.as_str(), &args.workload) {
        ("placement", Some(workload)) => placement(global, args, workload),
        ("schema", Some(topic)) => schema::run(global.output, topic),
        ("placement", None) if args.device.is_some() => {
            Err(Failure::usage("the name of the workload is missing").next("fulmar get workloads"))
        }
        (topic, None) => schema::run(global.output, topic),
        (topic, Some(_)) => Err(Failure::usage(format!("{topic:?} is not explained for one object"))
            .next("fulmar explain placement WORKLOAD")
            .next("fulmar explain workload.spec")),
    }
}

fn placement(global: &Global, args: &Explain, workload: &str) -> Result<(), Failure> {
    let target = parse_workload(workload, &global.namespace)?;
    let client = Client::connect(global)?;
    let device = args.device.as_deref().map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
    let answer = client.get(&with_query(&format!("{}/placement", target.path()), &[("device", device)]))?;
    if whole(global.output, &answer)? {
        return Ok(());
    }
    print(&text(&answer)?)
}

/// Why a workload is where it is, line by line.
pub fn reasons(client: &Client, target: &Target) -> Result<Vec<String>, Failure> {
    let answer = client.get(&format!("{}/placement", target.path()))?;
    Ok(text(&answer)?.lines().take(LINES_MAX).map(str::to_owned).collect())
}

/// The hub's own words: only the scheduler knows what its codes mean.
fn text(answer: &Value) -> Result<String, Failure> {
    match answer.get("text").and_then(Value::as_str) {
        Some(text) => Ok(text.lines().map(|line| format!("{}\n", plain(line))).collect()),
        None => yaml(answer),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_words_of_the_hub_are_shown_line_by_line() {
        assert_eq!(text(&json!({"text": "a\n  b\u{1b}", "tally": {}})).unwrap(), "a\n  b\u{fffd}\n");
        assert_eq!(text(&json!({"feasible": 3})).unwrap(), "feasible: 3\n");
    }
}
