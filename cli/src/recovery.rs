//! `hub hold`, `hub apply` and `hub takeover`: what an operator decides when a hub has forgotten something, or is not alone.

use crate::args::{Global, HubVerb, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{line, print, say, whole};
use crate::show::{list, number, text};
use serde_json::{Value, json};

pub fn run(global: &Global, verb: &HubVerb) -> Result<(), Failure> {
    let client = Client::connect(global)?;
    let named = |devices: &[String]| if devices.is_empty() { json!({}) } else { json!({"devices": devices}) };
    let (answer, done) = match verb {
        HubVerb::Hold { devices } => {
            (client.post("/v1/hub/hold", &named(devices))?, told(devices, "keep what they hold"))
        }
        HubVerb::Apply { devices } => {
            let done = if devices.is_empty() {
                "all devices that hold what this hub has forgotten get its sets, now or when they come".to_owned()
            } else {
                told(devices, "get this hub's sets")
            };
            (client.post("/v1/hub/apply", &named(devices))?, done)
        }
        HubVerb::Takeover { .. } => {
            let answer = client.post("/v1/hub/takeover", &json!({"confirm": true}))?;
            let done = format!("this hub goes on, with incarnation {}", number(&answer, "/incarnation"));
            (answer, done)
        }
        // They are elsewhere.
        HubVerb::Backup { .. } | HubVerb::Restore { .. } | HubVerb::ConfirmLoss => return Ok(()),
    };
    if whole(global.output, &answer)? {
        return Ok(());
    }
    match global.output {
        Output::Name => return Ok(()),
        _ => line(&done)?,
    }
    print(&devices(&answer))?;
    say("Next:  fulmar status");
    Ok(())
}

fn told(devices: &[String], what: &str) -> String {
    if devices.is_empty() { format!("all devices {what}") } else { format!("{} {what}", devices.join(", ")) }
}

/// One line for each device that is ahead.
fn devices(answer: &Value) -> String {
    let ahead = list(answer, "/recovery/ahead").iter();
    let lines = ahead.map(|ahead| {
        let name = format!("device/{}", text(ahead, "/device"));
        format!("{name:24} {:10} {}\n", text(ahead, "/state"), text(ahead, "/revision"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_ahead_are_listed_with_how_they_stand() {
        let answer = json!({"recovery": {"ahead": [{"device": "gw-1", "revision": "2.7", "state": "Held"}]}});
        assert_eq!(devices(&answer), "device/gw-1              Held       2.7\n");
        assert_eq!(devices(&json!({})), "");
    }
}
