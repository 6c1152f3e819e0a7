//! `explain placement`: the scheduler's reasons, as the hub words them. `explain KIND.FIELD` is in `schema`, `explain error` in
//! `meaning`.

use crate::args::{Explain, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::meaning;
use crate::output::{plain, print, say, whole, yaml};
use crate::schema;
use crate::show::{flag, list, number, text as field};
use crate::suppose::{self, Supposed};
use crate::target::{Target, parse_workload, with_query};
use hub::model::Size;
use serde_json::{Value, json};

/// Lines of reasons inside another message.
const LINES_MAX: usize = 12;
/// Where the hub answers what would be.
const WHAT_IF: &str = "/v1/explain/placement";

pub fn run(global: &Global, args: &Explain) -> Result<(), Failure> {
    match (args.topic.as_str(), &args.object) {
        ("placement", workload) => placement(global, args, workload.as_deref()),
        (_, _) if args.is_about_placement() => {
            Err(Failure::usage("--device, --near and --what-if go with `explain placement`"))
        }
        ("schema", Some(topic)) => schema::run(global.output, topic),
        ("error", Some(code)) => meaning::run(global.output, code),
        ("error", None) => Err(Failure::usage("the code is missing").next("fulmar explain error NOT_FOUND")),
        (topic, None) => schema::run(global.output, topic),
        (topic, Some(_)) => Err(Failure::usage(format!("{topic:?} is not explained for one object"))
            .next("fulmar explain placement WORKLOAD")
            .next("fulmar explain error CODE")
            .next("fulmar explain workload.spec")),
    }
}

fn placement(global: &Global, args: &Explain, workload: Option<&str>) -> Result<(), Failure> {
    let mut supposed = suppose::read(&args.what_if, &global.namespace)?;
    let named = workload.map(|text| parse_workload(text, &global.namespace)).transpose()?;
    let target = match (named, supposed.workload()) {
        (Some(named), Some(described)) if named != *described => {
            return Err(Failure::usage(format!("the manifest describes {described}, and {named} is to be explained")));
        }
        (Some(target), _) => target,
        (None, Some(described)) => described.clone(),
        // The kind of that name.
        (None, None) if !args.is_about_placement() => return schema::run(global.output, "placement"),
        (None, None) => {
            return Err(Failure::usage("the name of the workload is missing").next("fulmar get workloads"));
        }
    };
    let client = Client::connect(global)?;
    let device = args.device.as_deref().map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
    let is_as_it_is = args.near.is_none() && args.what_if.is_empty();
    let answer = match is_as_it_is {
        true => client.get(&with_query(&format!("{}/placement", target.path()), &[("device", device.clone())]))?,
        false => {
            supposed.send_modules(&client)?;
            let question = question(&supposed, &target, device.as_deref(), args.near.as_deref())?;
            client.post(WHAT_IF, &question).map_err(|failure| supposed.locate(failure))?
        }
    };
    if whole(global.output, &answer)? {
        return Ok(());
    }
    print(&(heading(&supposed) + &text(&answer)?))?;
    if let Some(next) = next(&target, &answer, &args.what_if) {
        say(&format!("Next:  {next}"));
    }
    Ok(())
}

fn question(supposed: &Supposed, target: &Target, device: Option<&str>, near: Option<&str>) -> Result<Value, Failure> {
    let mut question = supposed.question(target);
    if let Some(device) = device {
        question["device"] = json!(device);
    }
    if let Some(text) = near {
        let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some([longitude, latitude]) => question["near"] = json!([longitude, latitude]),
            Some([longitude, latitude, km]) => {
                question["near"] = json!([longitude, latitude]);
                question["maxKm"] = json!(km);
            }
            Some(_) | None => {
                return Err(Failure::usage(format!("{text:?} is not a place"))
                    .why("a place is longitude, then latitude, in degrees; then kilometres, if there is a limit")
                    .next("--near 8.6821,50.1109,100"));
            }
        }
    }
    Ok(question)
}

/// What is not so, before what would follow from it.
fn heading(supposed: &Supposed) -> String {
    supposed.texts.iter().map(|text| format!("Supposed: {}\n", plain(text))).collect()
}

/// The question that would tell whether the failing checks of a device are all that keeps the workload off it.
fn next(target: &Target, answer: &Value, asked: &[String]) -> Option<String> {
    let device = field(answer, "/name");
    let failed: Vec<&Value> = list(answer, "/checks").iter().filter(|check| !flag(check, "/passed")).collect();
    if device.is_empty() || failed.is_empty() {
        return None;
    }
    let supposed: Option<Vec<String>> =
        failed.iter().map(|check| remedy(check).map(|remedy| format!("device/{device}.{remedy}"))).collect();
    let texts = asked.iter().cloned().chain(supposed?);
    let options: Vec<String> = texts.map(|text| format!("--what-if '{text}'")).collect();
    let namespace = match target.namespace.as_str() {
        "" | "default" => String::new(),
        other => format!(" -n {other}"),
    };
    Some(format!("fulmar explain placement{namespace} {target} --device {device} {}", options.join(" ")))
}

/// What would lift a failing check, if it is something of the device that can be supposed.
fn remedy(check: &Value) -> Option<String> {
    match field(check, "/code").as_str() {
        "NOT_APPROVED" => Some("approved=true".to_owned()),
        "CORDONED" => Some("cordoned=false".to_owned()),
        "DRAINING" => Some("draining=false".to_owned()),
        "TAINT" => Some("taints=".to_owned()),
        "INSUFFICIENT_RAM" => Some(format!("free.memory={}", Size(number(check, "/figures/amount/needs")))),
        "INSUFFICIENT_SLOTS" => Some(format!("free.slots={}", number(check, "/figures/amount/needs"))),
        _ => None,
    }
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
    use hub::model::Kind;

    #[test]
    fn the_words_of_the_hub_are_shown_line_by_line() {
        assert_eq!(text(&json!({"text": "a\n  b\u{1b}", "tally": {}})).unwrap(), "a\n  b\u{fffd}\n");
        assert_eq!(text(&json!({"feasible": 3})).unwrap(), "feasible: 3\n");
    }

    #[test]
    fn a_place_may_have_a_limit() {
        let target = Target::new(Kind::Workload, "default", "w");
        let ask = |near: &str| question(&Supposed::default(), &target, Some("gw"), Some(near));
        let asked = ask("-0.1, 51.5,20").unwrap();
        assert_eq!(
            (&asked["near"], &asked["maxKm"], &asked["device"]),
            (&json!([-0.1, 51.5]), &json!(20.0), &json!("gw"))
        );
        assert_eq!(ask("8,50").unwrap().get("maxKm"), None);
        for wrong in ["8", "8,x", "1,2,3,4", ""] {
            assert!(ask(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_could_be_supposed_is_offered_whole_or_not_at_all() {
        let target = Target::new(Kind::Workload, "lab", "w");
        let check = |code: &str, passed: bool| json!({"code": code, "passed": passed, "figures": {"amount": {"needs": 268_435_456, "free": 1, "total": 2}}});
        let answer = |checks: Vec<Value>| json!({"name": "gw-1", "checks": checks});
        let both = answer(vec![check("INSUFFICIENT_RAM", false), check("TAINT", false), check("TOO_FAR", true)]);
        assert_eq!(
            next(&target, &both, &["device/gw-2.class=mcu".to_owned()]).unwrap(),
            "fulmar explain placement -n lab workload/w --device gw-1 --what-if 'device/gw-2.class=mcu' --what-if \
             'device/gw-1.free.memory=256MiB' --what-if 'device/gw-1.taints='"
        );
        assert_eq!(next(&target, &answer(vec![check("TOO_FAR", false), check("CORDONED", false)]), &[]), None);
        assert_eq!(next(&target, &answer(vec![check("CORDONED", true)]), &[]), None);
        assert_eq!(next(&target, &json!({"chosen": []}), &[]), None);
    }
}
