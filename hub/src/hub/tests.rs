//! A whole hub in this process: addresses, files, locks and the order of its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::*;
use crate::store::log_path;

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
fn an_address_that_others_can_reach_is_refused_before_anything_is_made() {
    let data = tempfile::tempdir().unwrap();
    let inner = data.path().join("hub");
    for (api, broker) in [("0.0.0.0:0", "127.0.0.1:0"), ("127.0.0.1:0", "192.0.2.1:0"), ("[::]:0", "127.0.0.1:0")] {
        let config = HubConfig { api: api.parse().unwrap(), broker: broker.parse().unwrap(), ..HubConfig::new(&inner) };
        assert!(matches!(Hub::start(config), Err(HubError::NotLoopback { .. })), "{api} {broker}");
    }
    assert!(!inner.exists());
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
    let address = hub.broker.address();
    hub.restart_broker().unwrap();
    assert_eq!(hub.broker.address(), address);
    assert!(TcpStream::connect(address).is_ok());
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
