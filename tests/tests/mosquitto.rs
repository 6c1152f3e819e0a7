//! Mosquitto beside the hub: who is refused and why, who may do what, and what becomes of accounts when either side is away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_channel::Receiver;
use hub::broker::Credential;
use hub::hub::{Hub as InProcess, HubConfig, HubError};
use hub::mqtt::{ACKNOWLEDGE_TIMEOUT, BrokerUrl, Endpoint, Link, LinkConfig, LinkEvent, Publication, Refusal};
use hub::provision::{ExternalBroker, ProvisionError};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tests::harness::{Agent, Broker, Hub, Mosquitto, Workload, free_port, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

/// A start that must fail.
fn refused(directory: &Path, external: ExternalBroker) -> (ProvisionError, String) {
    refused_with(directory, external, |_| ())
}

fn refused_with(
    directory: &Path,
    external: ExternalBroker,
    change: impl FnOnce(&mut HubConfig),
) -> (ProvisionError, String) {
    let mut config = HubConfig::new(directory.join("hub"));
    config.api = ([127, 0, 0, 1], 0).into();
    config.external = Some(external);
    change(&mut config);
    match InProcess::start(config) {
        Err(HubError::External(error)) => {
            let text = error.to_string();
            (error, text)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the hub started"),
    }
}

/// What a device keeps of its membership.
fn identity(agent: &Agent) -> Value {
    serde_json::from_slice(&std::fs::read(agent.data().join("identity.json")).unwrap()).unwrap()
}

/// A client with the credential of a device, under any client id.
fn client(broker: &Mosquitto, agent: &Agent, client_id: &str, filters: &[String]) -> (Link, Receiver<LinkEvent>) {
    let identity = identity(agent);
    let text = |pointer: &str| identity.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let config = LinkConfig {
        endpoint: Endpoint::plain(([127, 0, 0, 1], broker.port()).into()),
        client_id: client_id.to_owned(),
        credential: Credential { user: text("/device"), password: text("/membership/credential") },
        subscriptions: filters.to_vec(),
        acknowledge_timeout: ACKNOWLEDGE_TIMEOUT,
        session_s: None,
    };
    let (events, seen) = async_channel::bounded(64);
    (Link::start(config, events).unwrap(), seen)
}

fn next(events: &Receiver<LinkEvent>) -> LinkEvent {
    wait_until("the client sees something", || events.try_recv())
}

fn device(agent: &Agent) -> String {
    identity(agent)["device"].as_str().unwrap().to_owned()
}

#[test]
fn a_broker_without_the_plugin_is_refused_and_the_plugin_is_named() {
    let directory = tempfile::tempdir().unwrap();
    // Everybody who has a password may do everything: nothing but the missing answer tells.
    let passwords = directory.path().join("passwords");
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["admin", "of the administrator"])
        .status();
    assert!(made.unwrap().success());
    let broker = Mosquitto::with(directory.path(), |_| format!("password_file {}\n", passwords.display()));
    let (error, text) = refused(directory.path(), broker.external());
    assert!(matches!(error, ProvisionError::NoPlugin { .. }), "{text}");
    assert!(text.contains("dynamic-security") && text.contains("docs/howto/external-broker.md"), "{text}");
}

#[test]
fn every_other_broker_that_cannot_be_used_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(directory.path());
    let wrong = directory.path().join("wrong");
    std::fs::write(&wrong, "guess\n").unwrap();
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o604)).unwrap();
    let guess = ExternalBroker { password: wrong.clone(), ..broker.external() };
    let (error, text) = refused(directory.path(), guess.clone());
    assert!(matches!(error, ProvisionError::Exposed { mode: 0o604, .. }), "{text}");
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (error, text) = refused(directory.path(), guess);
    assert!(matches!(error, ProvisionError::NotAuthorized { .. }), "{text}");
    let missing = ExternalBroker { password: directory.path().join("nowhere"), ..broker.external() };
    let (error, text) = refused(directory.path(), missing);
    assert!(matches!(error, ProvisionError::Password { .. }), "{text}");
    let blind = BrokerUrl { is_secure: true, ..broker.external().url };
    let (error, text) = refused(directory.path(), ExternalBroker { url: blind, ..broker.external() });
    assert!(matches!(error, ProvisionError::NoAuthority { .. }), "{text}");
    let nobody = BrokerUrl { port: free_port(), ..broker.external().url };
    let (error, text) = refused(directory.path(), ExternalBroker { url: nobody, ..broker.external() });
    assert!(matches!(error, ProvisionError::Unreachable { .. }) && text.contains("refused"), "{text}");
}

#[test]
fn a_broker_with_small_packets_is_refused_at_its_first_word() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Mosquitto::with(directory.path(), |_| "max_packet_size 65536\nallow_anonymous true\n".to_owned());
    let (error, text) = refused(directory.path(), broker.external());
    assert!(matches!(error, ProvisionError::Lacks { .. }) && text.contains("packets of 65536 bytes"), "{text}");
}

/// An authority, and a certificate of it for 127.0.0.1 with the authority's own behind it.
fn certificates(directory: &Path) {
    let script = r#"
        for ca in ca other; do
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$ca" \
                -addext "keyUsage=critical,keyCertSign" -keyout $ca.key -out $ca.pem
        done
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=broker -keyout broker.key -out broker.csr
        printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n' > broker.ext
        openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile broker.ext -out broker.pem
        cat ca.pem >> broker.pem"#;
    let made = std::process::Command::new("sh").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn only_a_broker_of_the_named_authority_is_trusted_and_devices_have_one() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let plugin = Mosquitto::plugin_lines;
    let broker = Mosquitto::with(directory.path(), |accounts| {
        let file = |name: &str| directory.path().join(name).display().to_string();
        format!("certfile {}\nkeyfile {}\n{}", file("broker.pem"), file("broker.key"), plugin(accounts))
    });
    let secure = |authority: &str, host: &str| ExternalBroker {
        url: BrokerUrl { is_secure: true, host: host.to_owned(), ..broker.external().url },
        authority: Some(directory.path().join(authority)),
        ..broker.external()
    };
    let (error, text) = refused(directory.path(), secure("other.pem", "127.0.0.1"));
    assert!(matches!(error, ProvisionError::NotTrusted { .. }) && text.contains("UnknownIssuer"), "{text}");
    let (error, text) = refused(directory.path(), secure("ca.pem", "localhost"));
    assert!(matches!(error, ProvisionError::NotTrusted { .. }), "{text}");
    // An API with an authority of its own, and one with the only TLS.
    let of_own = |config: &mut HubConfig| config.tls.when = hub::tls::When::Always;
    let (error, text) = refused_with(directory.path(), secure("ca.pem", "127.0.0.1"), of_own);
    assert!(matches!(error, ProvisionError::TwoAuthorities), "{text}");
    let (error, text) = refused_with(directory.path(), broker.external(), of_own);
    assert!(matches!(error, ProvisionError::ApiOnly { .. }), "{text}");
    let mut config = HubConfig::new(directory.path().join("hub"));
    config.api = ([127, 0, 0, 1], 0).into();
    config.external = Some(secure("ca.pem", "127.0.0.1"));
    let hub = InProcess::start(config).unwrap();
    assert!(hub.endpoints().broker.starts_with("mqtts://127.0.0.1:") && hub.warnings().is_empty());
    hub.stop();
}

#[test]
fn a_device_speaks_and_hears_for_itself_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start_on(directory.path(), Broker::Mosquitto);
    let mut one = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    let two = Agent::join(directory.path(), &hub, "gw-2", FRANKFURT);
    hub.deploy(&Workload::new("hello").every("100ms").on_every_device(), HELLO);
    hub.wait_running("hello");
    one.kill();
    let (first, second) = (device(&one), device(&two));
    let broker = hub.mosquitto();
    // Another's client id would cut the other off.
    let (_link, events) = client(broker, &one, &second, &[]);
    let event = next(&events);
    assert!(matches!(&event, LinkEvent::Disconnected { refusal: Some(Refusal::NotAuthorized), .. }), "{event:?}");
    let base = "fulmar/v1/default";
    for filter in [format!("{base}/d/{second}/down/#"), format!("{base}/#"), format!("{base}/hub/+"), "#".to_owned()] {
        let (_link, events) = client(broker, &one, &first, std::slice::from_ref(&filter));
        let event = next(&events);
        let LinkEvent::Disconnected { reason, .. } = &event else { panic!("{filter}: {event:?}") };
        assert!(reason.contains(&filter) && reason.contains("was refused: NotAuthorized"), "{reason}");
    }
    let filters = [format!("{base}/d/{first}/down/#"), format!("{base}/hub/state")];
    let (link, events) = client(broker, &one, &first, &filters);
    let mut heard = Vec::new();
    let mut is_connected = false;
    while !is_connected || !heard.iter().any(|topic: &String| topic.ends_with("/down/desired")) {
        match next(&events) {
            LinkEvent::Connected { .. } => is_connected = true,
            LinkEvent::Message { topic, .. } => heard.push(topic),
            other => panic!("{other:?}"),
        }
    }
    for (ticket, topic) in [(1, format!("{base}/d/{second}/up/event")), (2, format!("{base}/hub/state"))] {
        link.publish(Publication { topic, payload: vec![1], retain: false, qos1: true, ticket }).unwrap();
        loop {
            match next(&events) {
                LinkEvent::Refused { ticket: refused, .. } if refused == ticket => break,
                LinkEvent::Message { topic, .. } => heard.push(topic),
                other => panic!("{other:?}"),
            }
        }
    }
    let own = format!("{base}/d/{first}/down/");
    let is_own = |topic: &String| topic.starts_with(&own) || *topic == format!("{base}/hub/state");
    assert!(heard.iter().all(is_own), "{heard:?}");
}

#[test]
fn a_deleted_device_is_cut_off_and_its_account_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start_on(directory.path(), Broker::Mosquitto);
    let one = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    let _two = Agent::join(directory.path(), &hub, "gw-2", FRANKFURT);
    let user = device(&one);
    assert!(hub.mosquitto().users().contains(&user));
    hub.delete("/v1/devices/gw-1?force=true");
    wait_until("its account is gone", || match hub.mosquitto().users() {
        users if users.contains(&user) => Err(users),
        _ => Ok(()),
    });
    wait_until("the agent is refused", || {
        let log = one.log();
        if log.contains("does not accept this user and password") { Ok(()) } else { Err(log.len()) }
    });
    hub.wait_online("gw-2");
}

/// Neither a token nor a join is lost when the broker goes away at the wrong moment, or comes back as another one.
#[test]
fn a_token_of_a_time_without_a_broker_is_good_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start_on(directory.path(), Broker::Mosquitto);
    let _one = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    let wait_link = |hub: &Hub, is_up: bool| {
        wait_until("the hub notices", || match hub.get("/v1/status") {
            status if status["link"] == is_up => Ok(()),
            status => Err(status),
        });
    };
    hub.mosquitto().kill();
    wait_link(&hub, false);
    let token = hub.join_token(true);
    hub.mosquitto().lose_everything();
    // The token of gw-1 and this one.
    wait_until("the broker knows the token", || {
        let users = hub.mosquitto().users();
        if users.iter().filter(|user| user.starts_with("join:")).count() == 2 { Ok(()) } else { Err(users) }
    });
    wait_link(&hub, true);
    let mut two = Agent::enrol(directory.path(), &token, "gw-2", FRANKFURT);
    two.run();
    hub.wait_online("gw-2");
    hub.wait_online("gw-1");
    // A hub that starts again has another password for itself, and finds everything else in order.
    let before = hub.mosquitto().log().matches("createClient").count();
    hub.kill();
    hub.run();
    hub.wait_online("gw-1");
    hub.wait_online("gw-2");
    assert_eq!(hub.mosquitto().log().matches("createClient").count(), before + 1);
}

#[test]
fn a_device_of_the_embedded_broker_moves_and_one_whose_credential_is_lost_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    let mut agent = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    let mut old = Agent::join(directory.path(), &hub, "gw-old", FRANKFURT);
    agent.kill();
    old.kill();
    hub.kill();
    // As a hub wrote it that did not keep what a credential is made from.
    let database = rusqlite::Connection::open(hub.data().join("hub.db")).unwrap();
    let changed = database.execute("UPDATE device_keys SET join_nonce = NULL WHERE name = 'gw-old'", []).unwrap();
    assert_eq!(changed, 1);
    drop(database);
    hub.use_broker(Mosquitto::start(directory.path()));
    hub.run();
    let log = hub.log();
    assert!(log.contains("1 of the devices cannot use this broker") && log.contains("(gw-old)"), "{log}");
    let url = hub.mosquitto().url();
    agent.run_with(&["--broker", &url]);
    hub.wait_online("gw-1");
    assert!(!hub.mosquitto().users().contains(&device(&old)));
}
