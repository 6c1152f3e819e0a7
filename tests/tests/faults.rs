//! Faults by name, with a real hub and real devices: a device that floods, and a device that is there twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use tests::harness::{Agent, Broker, Hub, PATIENCE, wait_until};

tests::on_both_brokers!(
    m10_a_device_that_floods_is_kept_out_and_nobody_else_notices,
    m12_c10_a_device_that_is_there_twice_is_told_as_a_clone_and_the_broker_lives,
);

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
/// More than a device may send of what does not count, a few times.
const GARBAGE: usize = 20_000;

/// As little MQTT 5 as a hostile device needs.
struct Raw(TcpStream);

impl Raw {
    /// With the identity of a device that has joined; the answer's reason code.
    fn connect(data: &Path) -> (Self, u8) {
        let identity: Value = serde_json::from_slice(&std::fs::read(data.join("identity.json")).unwrap()).unwrap();
        let field = |pointer: &str| identity.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let broker = field("/membership/broker");
        let mut stream = TcpStream::connect(broker.strip_prefix("mqtt://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // Clean start, user name, password; keep-alive of a minute; no properties.
        let mut body = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00".to_vec();
        for text in [field("/device"), field("/device"), field("/membership/credential")] {
            body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            body.extend(text.as_bytes());
        }
        assert!((128..16_384).contains(&body.len()), "two bytes of length");
        let length = [u8::try_from(body.len() % 128).unwrap() | 0x80, u8::try_from(body.len() / 128).unwrap()];
        stream.write_all(&[&[0x10], &length[..], &body].concat()).unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x20, "CONNACK");
        (Self(stream), head[3])
    }

    /// QoS 0; an error is the end of the connection.
    fn publish(&mut self, topic: &str, payload: &[u8]) -> std::io::Result<()> {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.push(0);
        body.extend(payload);
        assert!(body.len() < 128);
        self.0.write_all(&[&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat())
    }
}

fn events(hub: &Hub, reason: &str) -> Vec<Value> {
    let all = hub.get("/v1/events?tail=2000");
    let items = all["items"].as_array().unwrap();
    items.iter().filter(|event| event["reason"] == reason).cloned().collect()
}

fn m10_a_device_that_floods_is_kept_out_and_nobody_else_notices(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start_on(directory.path(), broker);
    let _good = Agent::join(directory.path(), &hub, "good", FRANKFURT);
    let bad = Agent::enrol(directory.path(), &hub.join_token(true), "bad", FRANKFURT);
    let identity: Value = serde_json::from_slice(&std::fs::read(bad.data().join("identity.json")).unwrap()).unwrap();
    let topic = format!(
        "fulmar/v1/{}/d/{}/up/log",
        identity["membership"]["fleet"].as_str().unwrap(),
        identity["device"].as_str().unwrap()
    );
    let (mut flood, answer) = Raw::connect(bad.data());
    assert_eq!(answer, 0);
    // Until the hub ends it: the rest of the garbage finds no reader.
    let _ = (0..GARBAGE).try_for_each(|_| flood.publish(&topic, &[0xa5; 40]));
    wait_until("the hub says so", || {
        let told = events(&hub, "Quarantined");
        if told.len() == 1 { Ok(()) } else { Err(told) }
    });
    let mut rest = Vec::new();
    let ended = flood.0.read_to_end(&mut rest);
    assert!(
        ended.is_ok() || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock),
        "still connected"
    );
    let (_refused, answer) = Raw::connect(bad.data());
    assert_eq!(answer, 0x87, "not authorized");
    let device = hub.get("/v1/devices/bad");
    assert!(device["status"]["conditions"].to_string().contains("Quarantined"), "{device:#}");
    // The other one works on as if nothing had happened.
    hub.wait_online("good");
    let (code, _, err) = hub.cli(&["apply", "-f", example().to_str().unwrap(), "--wait", "--timeout", "90s"]);
    assert_eq!(code, 0, "{err}");
}

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/hello.yaml")
}

fn m12_c10_a_device_that_is_there_twice_is_told_as_a_clone_and_the_broker_lives(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start_on(directory.path(), broker);
    let _other = Agent::join(directory.path(), &hub, "other", FRANKFURT);
    let mut twin = Agent::enrol(directory.path(), &hub.join_token(true), "twin", FRANKFURT);
    // The copy is in a directory of its own, as on a second machine.
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(twin.data().join("identity.json"), copy.join("identity.json")).unwrap();
    let mut second = Agent::on("twin", &copy);
    twin.run();
    hub.wait_online("twin");
    second.run();
    wait_until("the hub tells of a clone", || {
        let told = events(&hub, "Cloned");
        if told.len() == 1 { Ok(()) } else { Err(second.log()) }
    });
    let device = hub.get("/v1/devices/twin");
    assert!(device["status"]["conditions"].to_string().contains("Cloned"), "{device:#}");
    second.kill();
    hub.wait_online("other");
}
