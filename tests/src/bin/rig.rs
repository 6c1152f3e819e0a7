//! What tests of the network start as processes: a hub with short heartbeats, and ways into networks that a test has made.
//!
//! The hub is the one that `fulmar hub` runs; only its durations are others, so that an outage of minutes takes seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hub::hub::{Hub, HubConfig};
use hub::mqtt::BrokerUrl;
use hub::provision::ExternalBroker;
use hub::tls::When;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// The shortest that devices follow.
const HEARTBEAT: Duration = Duration::from_secs(5);
const SPREAD: Duration = Duration::from_millis(500);
const SWEEP: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["hub", options @ ..] => hub(options),
        ["window", target] => window(target),
        ["listen", address] => listen(address),
        _ => panic!("rig hub OPTIONS | rig window ADDRESS | rig listen ADDRESS"),
    }
}

/// With the options of `fulmar hub`, as far as tests need them.
fn hub(options: &[&str]) {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false).with_target(false).init();
    let option = |name: &str| options.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    let mut config = HubConfig::new(option("--data").unwrap());
    config.api = option("--api").unwrap().parse().unwrap();
    config.tls.when = When::Off;
    config.tune = |engine| {
        (engine.heartbeat, engine.spread, engine.sweep) = (HEARTBEAT, SPREAD, SWEEP);
    };
    let broker = option("--broker").unwrap();
    match option("--broker-password-file") {
        Some(password) => {
            config.external = Some(ExternalBroker {
                url: BrokerUrl::parse(broker).unwrap(),
                public: option("--broker-public").map(|url| BrokerUrl::parse(url).unwrap()),
                user: "admin".to_owned(),
                password: password.into(),
                authority: None,
            });
        }
        None => config.broker = broker.parse().unwrap(),
    }
    let hub = Hub::start(config).unwrap_or_else(|error| panic!("{error}"));
    // Until the test ends it.
    while hub.is_running() {
        std::thread::park_timeout(Duration::from_secs(1));
    }
    panic!("the hub has ended by itself");
}

/// Standard input is a listener of another network; who comes there is led to an address of this one.
fn window(target: &str) {
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    for near in listener.incoming().flatten() {
        let target = target.to_owned();
        std::thread::spawn(move || {
            // Nobody there: who came is turned away.
            let Ok(far) = TcpStream::connect(&target) else { return };
            let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut near_in, &mut far_out);
                let _ = far_out.shutdown(std::net::Shutdown::Write);
            });
            let (mut far_in, mut near_out) = (far, near);
            let _ = std::io::copy(&mut far_in, &mut near_out);
            let _ = near_out.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Says when it listens, and holds what comes.
fn listen(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!();
    std::io::stdout().flush().unwrap();
    let _held: Vec<TcpStream> = listener.incoming().flatten().collect();
}
