//! `status` and `version`: what runs, here and at the hub.

use crate::args::{Global, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{line, plain, print, say, whole};
use crate::show::{flag, list, number, text};
use serde_json::{Value, json};
use std::time::Duration;

/// A hub that is asked for its version only has so long.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);

pub fn status(global: &Global) -> Result<(), Failure> {
    let client = Client::connect(global)?;
    let mut answer = client.get("/v1/status")?;
    if let Value::Object(map) = &mut answer {
        map.insert("server".to_owned(), Value::String(client.endpoint().server.clone()));
    }
    if whole(global.output, &answer)? {
        return Ok(());
    }
    match global.output {
        Output::Name => line(&text(&answer, "/fleet")),
        _ => print(&table(&answer)),
    }
}

fn table(answer: &Value) -> String {
    let count = |name: &str| number(answer, &format!("/{name}"));
    let link = if flag(answer, "/link") { "connected" } else { "NOT connected: devices hear nothing until it is" };
    let mut out = String::new();
    let mut add = |name: &str, value: String| out.push_str(&format!("{:14}{value}\n", format!("{name}:")));
    add(
        "Hub",
        format!(
            "{}   fleet {}   incarnation {}",
            text(answer, "/server"),
            text(answer, "/fleet"),
            count("incarnation")
        ),
    );
    add("Broker link", link.to_owned());
    let waiting = match count("devicesUnapproved") {
        0 => String::new(),
        waiting => format!("   {waiting} wait for approval"),
    };
    add("Devices", format!("{} online of {}{waiting}", count("devicesOnline"), count("devices")));
    add(
        "Objects",
        format!("{} workloads   {} regions   {} artifacts", count("workloads"), count("regions"), count("artifacts")),
    );
    add("Commits", format!("resource version {}   {} pending", count("resourceVersion"), count("commitsPending")));
    add("Refused", format!("{} messages of devices since the start", count("messagesRefused")));
    if answer["certificate"].is_object() {
        let source = if flag(answer, "/certificate/isOwn") { "own" } else { "development authority" };
        let expires = match text(answer, "/certificate/expires") {
            expires if expires.is_empty() => "never ends".to_owned(),
            expires => format!("ends {expires}"),
        };
        add("Certificate", format!("{source}   {expires}"));
    }
    for condition in list(answer, "/conditions") {
        add("Attention", text(condition, "/message"));
    }
    out
}

/// Works without a hub.
pub fn version(global: &Global) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let global = &Global { timeout: Some(global.timeout.unwrap_or(VERSION_TIMEOUT)), ..global.clone() };
    let client = Client::connect(global).ok();
    let server = client.as_ref().map(|client| client.endpoint().server.clone());
    let asked = client.map(|client| client.hub_version());
    let hub = asked.as_ref().and_then(|version| version.as_ref().ok().cloned().flatten());
    if whole(global.output, &json!({"fulmar": own, "hub": hub, "server": server}))? {
        return Ok(());
    }
    line(&format!("fulmar {own}"))?;
    match (asked, server) {
        (Some(Ok(version)), Some(server)) => {
            line(&format!("hub    {}   {server}", version.map_or_else(|| "unknown".to_owned(), |text| plain(&text))))
        }
        (Some(Err(failure)), Some(_)) => {
            say(&format!("the hub does not tell its version: {}", failure.what));
            Ok(())
        }
        (_, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_says_what_needs_attention() {
        let answer = json!({"server": "http://h", "fleet": "f", "incarnation": 3, "link": false, "devices": 4, "devicesOnline": 2, "devicesUnapproved": 1, "conditions": [{"type": "ClockInDoubt", "message": "the clock jumped"}]});
        let shown = table(&answer);
        assert!(
            shown.starts_with("Hub:          http://h   fleet f   incarnation 3\nBroker link:  NOT connected"),
            "{shown}"
        );
        assert!(shown.contains("Devices:      2 online of 4   1 wait for approval\n"), "{shown}");
        assert!(shown.ends_with("Attention:    the clock jumped\n"), "{shown}");
        let certificate = json!({"certificate": {"authority": "ab", "isOwn": true, "expires": "2027-11-25T00:00:00Z"}});
        assert!(table(&certificate).contains("Certificate:  own   ends 2027-11-25T00:00:00Z\n"));
    }
}
