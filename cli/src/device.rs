//! `device`: join tokens, approval, cordon, drain.

use crate::args::{Device, Global, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{line, say, whole};
use crate::show::{number, text, time_ms};
use crate::target::Target;
use hub::model::Kind;
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
        Device::Approve { name } => change(global, name, "approve", "approved"),
        Device::Cordon { name } => change(global, name, "cordon", "cordoned"),
        Device::Uncordon { name } => change(global, name, "uncordon", "uncordoned"),
        Device::Drain { name } => change(global, name, "drain", "loses its work"),
        Device::Undrain { name } => change(global, name, "undrain", "takes work again"),
    }
}

/// Makes a token; the answer has `token`, `id` and `expiresMs`.
pub fn join_token(client: &Client, expires: &str, approve: bool, labels: &Value) -> Result<Value, Failure> {
    client.post("/v1/join-tokens", &json!({"expiresIn": expires, "approve": approve, "labels": labels}))
}

fn labels_of(pairs: &[String]) -> Result<Value, Failure> {
    let mut labels = Map::new();
    for pair in pairs.iter().flat_map(|text| text.split(',')) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("{pair:?} is not a label")).next("-l site=harbour"));
        };
        labels.insert(key.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Value::Object(labels))
}

fn change(global: &Global, name: &str, verb: &str, done: &str) -> Result<(), Failure> {
    let name = name.strip_prefix("device/").or_else(|| name.strip_prefix("d/")).unwrap_or(name);
    let target = Target::new(Kind::Device, "", name);
    let document = Client::connect(global)?.post(&format!("{}/{verb}", target.path()), &json!({}))?;
    match global.output {
        Output::Json | Output::JsonPath(_) => whole(global.output, &document).map(|_| ()),
        Output::Name => line(&target.to_string()),
        Output::Table | Output::Wide | Output::Yaml | Output::GeoJson => line(&format!("{target} {done}")),
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
}
