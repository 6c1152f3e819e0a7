//! `device`: join tokens, approval, cordon, drain, place, and the end.

use crate::args::{Device, Global, Output, Relocate};
use crate::client::Client;
use crate::failure::Failure;
use crate::list;
use crate::output::{line, print, say, whole};
use crate::show::{number, text, time_ms};
use crate::table::Table;
use crate::target::Target;
use hub::model::Kind;
use hub::problem_code::ProblemCode;
use serde_json::{Map, Value, json};

pub fn run(global: &Global, verb: &Device) -> Result<(), Failure> {
    match verb {
        Device::JoinToken { expires, approve, labels } => {
            let labels = labels_of(labels)?;
            let answer = join_token(&Client::connect(global)?, expires, *approve, &labels)?;
            if whole(global.output, &answer)? {
                return Ok(());
            }
            line(&text(&answer, "/token"))?;
            let approval =
                if *approve { "and is approved at once" } else { "and then waits for: fulmar device approve NAME" };
            say(&format!("one device can join with it until {}, {approval}", time_ms(number(&answer, "/expiresMs"))));
            say("Next:  fulmar-agent join TOKEN    (on the device)");
            Ok(())
        }
        Device::Approve { name } => change(global, name, "approve", &json!({}), "approved"),
        Device::Cordon { name } => change(global, name, "cordon", &json!({}), "cordoned"),
        Device::Uncordon { name } => change(global, name, "uncordon", &json!({}), "uncordoned"),
        Device::Drain { name } => change(global, name, "drain", &json!({}), "loses its work"),
        Device::Undrain { name } => change(global, name, "undrain", &json!({}), "takes work again"),
        Device::Release { name } => change(global, name, "release", &json!({}), "may try again"),
        Device::Reject { name } => end(global, name, "reject", &json!({}), "rejected; its key is refused"),
        Device::Rejected => rejected(global),
        Device::Allow { key } => allow(global, key),
        Device::Snapshot { name } => crate::away::snapshot(global, name),
        Device::Relocate(args) => {
            let done = if args.reset { "is where it says that it is" } else { "relocated" };
            change(global, &args.name, "relocate", &relocation(args)?, done)
        }
        Device::Decommission { name, force: true } => {
            end(global, name, "decommission", &json!({"force": true}), "removed")
        }
        Device::Decommission { name, force: false } => {
            change(global, name, "decommission", &json!({}), "loses its work and is removed then")
        }
    }
}

fn relocation(args: &Relocate) -> Result<Value, Failure> {
    let Some(at) = &args.at else { return Ok(json!({"reset": true})) };
    let numbers: Option<Vec<f64>> = at.split(',').map(|number| number.trim().parse().ok()).collect();
    let Some([longitude, latitude]) = numbers.as_deref() else {
        return Err(Failure::usage(format!("{at:?} is not a place"))
            .why("a place is longitude, then latitude, in degrees")
            .next("--at 8.6821,50.1109"));
    };
    let mut wanted = json!({"point": [longitude, latitude]});
    if let Some(metres) = args.uncertainty {
        wanted["uncertaintyM"] = json!(metres);
    }
    Ok(wanted)
}

/// Makes a token; the answer has `token`, `id` and `expiresMs`.
pub fn join_token(client: &Client, expires: &str, approve: bool, labels: &Value) -> Result<Value, Failure> {
    client.post("/v1/join-tokens", &json!({"expiresIn": expires, "approve": approve, "labels": labels}))
}

pub fn labels_of(pairs: &[String]) -> Result<Value, Failure> {
    let mut labels = Map::new();
    for pair in pairs.iter().flat_map(|text| text.split(',')) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("{pair:?} is not a label")).next("-l site=harbour"));
        };
        labels.insert(key.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Value::Object(labels))
}

pub fn target(name: &str) -> Target {
    let name = name.strip_prefix("device/").or_else(|| name.strip_prefix("d/")).unwrap_or(name);
    Target::new(Kind::Device, "", name)
}

fn change(global: &Global, name: &str, verb: &str, body: &Value, done: &str) -> Result<(), Failure> {
    let target = target(name);
    let document = Client::connect(global)?.post(&format!("{}/{verb}", target.path()), body)?;
    match global.output {
        Output::Json | Output::JsonPath(_) => whole(global.output, &document).map(|_| ()),
        Output::Name => line(&target.to_string()),
        Output::Table | Output::Wide | Output::Yaml | Output::GeoJson => line(&format!("{target} {done}")),
    }
}

/// What leaves no document behind.
fn end(global: &Global, name: &str, verb: &str, body: &Value, done: &str) -> Result<(), Failure> {
    let target = target(name);
    Client::connect(global)?.post_end(&format!("{}/{verb}", target.path()), body)?;
    match global.output {
        Output::Json | Output::JsonPath(_) => whole(global.output, &json!({"deleted": target.to_string()})).map(|_| ()),
        Output::Name => line(&target.to_string()),
        Output::Table | Output::Wide | Output::Yaml | Output::GeoJson => line(&format!("{target} {done}")),
    }
}

/// Letters of a key's id.
const ID_LETTERS: usize = 26;
const REJECTIONS: &str = "/v1/rejections";

fn rejected(global: &Global) -> Result<(), Failure> {
    let items = list::all(&Client::connect(global)?, REJECTIONS)?;
    if whole(global.output, &json!({"items": items}))? {
        return Ok(());
    }
    if items.is_empty() {
        say("no key is rejected");
    }
    let mut table = Table::new(&["ID", "NAME", "REJECTED"]);
    for item in &items {
        match global.output {
            Output::Name => line(&text(item, "/id"))?,
            _ => table.row(vec![text(item, "/id"), text(item, "/name"), text(item, "/rejected")]),
        }
    }
    if items.is_empty() || global.output == Output::Name { Ok(()) } else { print(&table.text()) }
}

fn allow(global: &Global, key: &str) -> Result<(), Failure> {
    let client = Client::connect(global)?;
    let is_id = key.len() == ID_LETTERS && key.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
    let id = if is_id { key.to_owned() } else { id_of(key, &list::all(&client, REJECTIONS)?)? };
    client.delete(&format!("{REJECTIONS}/{id}"))?;
    match global.output {
        Output::Json | Output::JsonPath(_) => whole(global.output, &json!({"allowed": id})).map(|_| ()),
        Output::Name => line(&id),
        Output::Table | Output::Wide | Output::Yaml | Output::GeoJson => {
            line(&format!("key {id} may join again"))?;
            say("Next:  fulmar device join-token");
            Ok(())
        }
    }
}

/// The one rejected key whose device had this name.
fn id_of(name: &str, rejected: &[Value]) -> Result<String, Failure> {
    let ids: Vec<String> =
        rejected.iter().filter(|item| text(item, "/name") == name).map(|item| text(item, "/id")).collect();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Failure::hub(ProblemCode::NotFound, format!("no key of a device {name:?} is rejected"))
            .next("fulmar device rejected")),
        ids => {
            let failure = Failure::usage(format!("{} keys of devices {name:?} are rejected", ids.len()));
            Err(ids.iter().fold(failure, |failure, id| failure.next(format!("fulmar device allow {id}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let labels = labels_of(&["a=1,b=".to_owned(), "c=x=y".to_owned()]).unwrap();
        assert_eq!(labels, json!({"a": "1", "b": "", "c": "x=y"}));
        assert!(labels_of(&["a".to_owned()]).is_err());
    }
    #[test]
    fn a_rejected_key_is_named_by_its_device_if_that_is_one() {
        let item = |id: &str, name: &str| json!({"id": id, "name": name, "rejected": "2026-11-26T00:00:00Z"});
        let rejected = [item("a", "gw-1"), item("b", "gw-2"), item("c", "gw-2")];
        assert_eq!(id_of("gw-1", &rejected).unwrap(), "a");
        assert_eq!(id_of("gw-2", &rejected).unwrap_err().next, ["fulmar device allow b", "fulmar device allow c"]);
        assert_eq!(id_of("gw-3", &rejected).unwrap_err().code, "NOT_FOUND");
    }

    #[test]
    fn a_place_is_longitude_then_latitude_and_may_be_taken_back() {
        let args = |at: Option<&str>, uncertainty| Relocate {
            name: "gw".to_owned(),
            at: at.map(str::to_owned),
            uncertainty,
            reset: at.is_none(),
        };
        assert_eq!(
            relocation(&args(Some("-0.1, 51.5"), Some(30))).unwrap(),
            json!({"point": [-0.1, 51.5], "uncertaintyM": 30})
        );
        assert_eq!(relocation(&args(None, None)).unwrap(), json!({"reset": true}));
        for wrong in ["8.6", "8.6,x", "1,2,3", ""] {
            assert!(relocation(&args(Some(wrong), None)).is_err(), "{wrong}");
        }
    }
}
