//! A whole hub in this process: addresses, files, locks and the order of its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;

use super::*;
use crate::commit::{Batch, CommitFailure, Write};
use crate::engine::port::{Answer, Mode, Problem, Request};
use crate::model::ObjectKey;
use crate::store::{Outcome, StoreSettings, log_path};

fn config(data: &Path) -> HubConfig {
    HubConfig { api: loopback(0), broker: loopback(0), ..HubConfig::new(data) }
}

/// The status line of a request without credentials.
fn get(endpoints: &Endpoints, path: &str) -> String {
    let mut stream = TcpStream::connect(endpoints.api.trim_start_matches("http://")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_started_hub_says_where_it_is_and_a_stopped_one_says_nothing() {
    let data = tempfile::tempdir().unwrap();
    let hub = Hub::start(config(data.path())).unwrap();
    let endpoints = Endpoints::read(data.path()).unwrap();
    assert_eq!(&endpoints, hub.endpoints());
    assert_eq!(endpoints.pid, std::process::id());
    assert!(std::fs::read_to_string(&endpoints.token_file).unwrap().starts_with("fulmar-admin-"));
    assert_eq!(get(&endpoints, "/healthz"), "HTTP/1.1 200 OK");
    assert!(hub.is_running());
    assert!(hub.warnings().is_empty());
    let (api, broker) = (hub.endpoints.api.clone(), hub.endpoints.broker.clone());
    hub.stop();
    assert!(Endpoints::read(data.path()).is_err());
    for address in [api.trim_start_matches("http://"), broker.trim_start_matches("mqtt://")] {
        assert!(TcpStream::connect(address).is_err(), "{address} is still open");
    }
}

#[test]
fn a_second_hub_on_the_same_directory_is_refused_and_the_next_one_is_not() {
    let data = tempfile::tempdir().unwrap();
    let hub = Hub::start(config(data.path())).unwrap();
    assert!(matches!(Hub::start(config(data.path())), Err(HubError::Store(StoreError::InUse { .. }))));
    assert_eq!(get(hub.endpoints(), "/healthz"), "HTTP/1.1 200 OK");
    drop(hub);
    let again = Hub::start(config(data.path())).unwrap();
    assert!(again.warnings().is_empty());
    again.stop();
}

#[test]
fn what_others_can_reach_speaks_tls_and_what_they_cannot_does_not() {
    let data = tempfile::tempdir().unwrap();
    let any = |config: HubConfig| HubConfig { api: "0.0.0.0:0".parse().unwrap(), ..config };
    let hub = Hub::start(any(config(data.path()))).unwrap();
    let endpoints = hub.endpoints();
    assert!(endpoints.api.starts_with("https://127.0.0.1:") && endpoints.broker.starts_with("mqtt://127.0.0.1:"));
    let authority = std::fs::read_to_string(endpoints.ca_file.as_ref().unwrap()).unwrap();
    assert!(authority.starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(hub.warnings().is_empty());
    // In the clear nobody gets further than a word about it.
    let plain = Endpoints { api: endpoints.api.replace("https://", ""), ..endpoints.clone() };
    assert_eq!(get(&plain, "/healthz"), "HTTP/1.1 400 Bad Request");
    hub.stop();
    let hub = Hub::start(config(data.path())).unwrap();
    assert!(hub.endpoints().api.starts_with("http://") && hub.endpoints().ca_file.is_none());
    hub.stop();
}

#[test]
fn a_hub_in_the_clear_for_others_has_to_be_asked_for_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let tls = TlsSettings { when: crate::tls::When::Off, ..TlsSettings::default() };
    let hub = Hub::start(HubConfig { api: "0.0.0.0:0".parse().unwrap(), tls, ..config(data.path()) }).unwrap();
    assert_eq!(get(hub.endpoints(), "/healthz"), "HTTP/1.1 200 OK");
    assert!(hub.warnings()[0].contains("WITHOUT encryption"), "{:?}", hub.warnings());
    hub.stop();
}

#[test]
fn a_taken_address_is_named_and_the_directory_is_free_again() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(loopback(0)).unwrap();
    let address = taken.local_addr().unwrap();
    let api = HubConfig { api: address, ..config(data.path()) };
    assert!(matches!(Hub::start(api), Err(HubError::Listen { address: named, .. }) if named == address));
    Hub::start(config(data.path())).unwrap().stop();
}

#[test]
fn a_broker_is_replaced_on_its_own_address() {
    let data = tempfile::tempdir().unwrap();
    let hub = Hub::start(config(data.path())).unwrap();
    let address = || match &*hub.broker {
        Place::Embedded(slot) => slot.address(),
        Place::External(_) => panic!("not asked for"),
    };
    let before = address();
    hub.restart_broker().unwrap();
    assert_eq!(address(), before);
    assert!(TcpStream::connect(before).is_ok());
    assert!(hub.is_running());
    hub.stop();
}

#[test]
fn a_clean_stop_leaves_everything_in_the_database_file() {
    let data = tempfile::tempdir().unwrap();
    let hub = Hub::start(config(data.path())).unwrap();
    let log = log_path(&hub.data.join(crate::store::DATABASE_FILE));
    hub.stop();
    assert!(std::fs::metadata(log).map_or(0, |metadata| metadata.len()) == 0);
}

fn region_put(hub: &Hub, number: u32) -> Result<Answer, Problem> {
    let name = format!("r{number}");
    let document = serde_json::json!({
        "apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": name},
        "spec": {"circle": {"center": [8.6, 50.1], "radiusKm": 1}},
    });
    let request = Request::Put { key: ObjectKey::region(&name), document, mode: Mode::Commit, if_match: None };
    smol::block_on(hub.handle().request("test", request))
}

fn region_is_there(hub: &Hub, number: u32) -> bool {
    let request = Request::Get { key: ObjectKey::region(&format!("r{number}")) };
    smol::block_on(hub.handle().request("test", request)).is_ok()
}

#[test]
fn a_full_database_answers_507_keeps_reads_and_takes_changes_again_when_there_is_space() {
    let data = tempfile::tempdir().unwrap();
    let small = StoreLimits { database_bytes_max: 192 * 1024, ..StoreLimits::default() };
    let hub = Hub::start(HubConfig { store: small, ..config(data.path()) }).unwrap();
    let (refused, problem) =
        (0..2_000).find_map(|number| Some((number, region_put(&hub, number).err()?))).expect("the limit is reached");
    assert_eq!(problem.status(), 507, "{problem:?}");
    assert!(refused > 0);
    assert!(region_is_there(&hub, refused - 1) && !region_is_there(&hub, refused));
    // Twice: the first refusal has left nothing that a second one could trip over.
    assert_eq!(region_put(&hub, refused).unwrap_err().status(), 507);
    hub.stop();
    let hub = Hub::start(config(data.path())).unwrap();
    assert!(region_is_there(&hub, refused - 1) && !region_is_there(&hub, refused));
    region_put(&hub, refused).unwrap();
    hub.stop();
    let hub = Hub::start(config(data.path())).unwrap();
    assert!(region_is_there(&hub, refused));
    hub.stop();
    crate::store::audit_verify(&data.path().join(crate::store::DATABASE_FILE)).unwrap();
}

#[test]
fn a_writer_that_ends_by_itself_ends_the_engine() {
    let (handle, mut inbox) = Handle::new();
    let mut report = writer_report(handle.queue());
    report(Outcome::Failed { sequence: 1, reason: CommitFailure::Io });
    assert!(matches!(inbox.try_recv(), Some(Message::Input(Input::Failed { sequence: 1, .. }))));
    let writer = thread::spawn(move || {
        let _held = report;
        panic!("as a defect in the writer would");
    });
    assert!(writer.join().is_err());
    assert!(matches!(inbox.try_recv(), Some(Message::Stop)));
}

#[test]
fn a_writer_that_is_told_to_end_finds_nobody_to_tell() {
    let (handle, inbox) = Handle::new();
    let report = writer_report(handle.queue());
    inbox.close();
    drop(report);
}

/// As a hub left it that knew namespaces by name only.
fn forget_namespaces(data: &Path) {
    let directory = DataDirectory::take(data).unwrap();
    let keys = Keys::open(data, &directory.database()).unwrap();
    let (store, loaded) = Store::open(&directory, &keys, &StoreSettings::default()).unwrap();
    let (report, outcomes) = std::sync::mpsc::channel();
    let writer = store.start(Box::new(move |outcome| report.send(outcome).unwrap())).unwrap();
    let namespaces = loaded.objects.iter().filter(|row| row.kind == "Namespace");
    let writes: Vec<Write> = namespaces
        .map(|row| Write::ObjectDelete { kind: "Namespace", namespace: String::new(), name: row.name.clone() })
        .collect();
    assert_eq!(writes.len(), 2, "lab and default");
    assert!(writer.submit(Batch { sequence: loaded.sequence + 1, era: 0, writes, audit: Vec::new() }).is_ok());
    assert!(matches!(outcomes.recv().unwrap(), Outcome::Committed { .. }));
}

#[test]
fn an_older_data_directory_gets_the_namespaces_that_its_objects_are_in() {
    let data = tempfile::tempdir().unwrap();
    let ask = |hub: &Hub, request: Request| smol::block_on(hub.handle().request("test", request));
    let key = ObjectKey::namespace("lab");
    let document = serde_json::json!({"apiVersion": "fulmar/v1", "kind": "Namespace", "metadata": {"name": "lab"}});
    let artifact = || {
        let (namespace, name, digest) = ("lab".to_owned(), "app".to_owned(), wire::Digest([1; 32]));
        Request::ArtifactPut { namespace, name, digest, bytes: 8 }
    };
    let hub = Hub::start(config(data.path())).unwrap();
    assert_eq!(ask(&hub, artifact()).unwrap_err().code.as_str(), "NAMESPACE_NOT_FOUND");
    ask(&hub, Request::Put { key: key.clone(), document, mode: Mode::Commit, if_match: None }).unwrap();
    ask(&hub, artifact()).unwrap();
    hub.stop();
    forget_namespaces(data.path());
    for _ in 0..2 {
        let hub = Hub::start(config(data.path())).unwrap();
        for key in [key.clone(), ObjectKey::namespace("default"), ObjectKey::artifact("lab", "app")] {
            assert!(ask(&hub, Request::Get { key: key.clone() }).is_ok(), "{key}");
        }
        hub.stop();
    }
    crate::store::audit_verify(&data.path().join(crate::store::DATABASE_FILE)).unwrap();
}
