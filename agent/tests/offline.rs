//! A whole agent without any network: what its journal says runs, stops, and goes on after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use agent::identity::{Identity, Membership, Secret};
use agent::{Agent, AgentConfig, AgentError};
use agent_nostd::journal::seal;
use agent_nostd::machine::port::JournalKey;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::clause::Clause;
use wire::codec::Writer;
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::desired::{ClassLimits, Header};
use wire::hello::DeviceClass;
use wire::record::{BodyWriter, CapabilitySet, Core, Role, Runtime};
use wire::sign::Sign;
use wire::{Digest, Order, Revision, WorkloadId};

const DEADLINE: Duration = Duration::from_secs(30);

/// Counts its timer's activations, in state.
const COUNTER: &str = r#"
(module
  (@custom "fulmar.abi" "\01")
  (import "fulmar" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "fulmar" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "count")
  (func (export "fulmar_start"))
  (func (export "fulmar_timer")
    (drop (call $get (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 1)))
    (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1)))
    (drop (call $set (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 1)))))
"#;

fn hub() -> (Ed25519Key, ExchangeSecret) {
    (Ed25519Key::from_seed(&[1; 32]), ExchangeSecret::from_seed([2; 32]))
}

/// A device that joined a hub which is not there any more.
fn joined(data: &Path) -> Identity {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (signing, exchange) = hub();
    let mut identity = Identity::generate().unwrap();
    identity.membership = Some(Membership {
        fleet: "north".to_owned(),
        name: "gate-1".to_owned(),
        credential: Secret([7; 32]),
        hub_signing: signing.public_key(),
        hub_exchange: exchange.public_key(),
        broker: format!("mqtt://{nobody}"),
        artifacts: format!("http://{nobody}"),
        authority: None,
        class: DeviceClass::Gateway,
        position: None,
    });
    identity.save(data).unwrap();
    identity
}

/// Puts a set with one function, and the function, where a device keeps what it accepted.
fn accept_counter(data: &Path, identity: &Identity) {
    let module = wat::parse_str(COUNTER).unwrap();
    let core = Core {
        workload: WorkloadId(3),
        component: 0,
        generation: 1,
        role: Role::Service,
        runtime: Runtime::Function,
        artifact: Digest::of(&module),
        artifact_bytes: module.len() as u32,
        memory_bytes: 65_536,
        fuel: 1_000_000,
        instances: 1,
        capabilities: CapabilitySet::STATE,
    };
    let mut buffer = [0; 1024];
    let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
    writer.record(&core, &[Clause::Every(10)]).unwrap();
    let body = writer.finish().to_vec();
    let revision = Revision(Order::new(1, 1).unwrap());
    let limits = ClassLimits { records: 256, memory_bytes: 64 << 20 };
    let header = Header::of(revision, &body, limits).unwrap();
    let signed = header.sign(&hub().0, "north", identity.device()).unwrap();
    let mut buffer = [0; 2048];
    let mut writer = Writer::new(&mut buffer);
    signed.write(&mut writer).unwrap();
    writer.bytes(&body).unwrap();
    let value = writer.written();
    let slot = [&seal(JournalKey::Accepted, 1, value)[..], value].concat();
    for directory in ["journal", "artifacts"] {
        fs::create_dir_all(data.join(directory)).unwrap();
    }
    fs::write(data.join("journal").join("accepted.a"), slot).unwrap();
    fs::write(data.join("artifacts").join(Digest::of(&module).text().as_str()), module).unwrap();
}

/// What the counter remembers: the last byte of its file.
fn count(data: &Path) -> u8 {
    fs::read(data.join("state").join("3-0").join("0")).ok().and_then(|file| file.last().copied()).unwrap_or(0)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn start(data: PathBuf) -> Agent {
    Agent::start(AgentConfig::new(data)).unwrap()
}

#[test]
fn what_was_accepted_runs_without_a_hub_and_remembers_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    accept_counter(data, &joined(data));
    let agent = start(data.to_owned());
    wait_until("the function counts", || count(data) >= 3);
    agent.stop().unwrap();
    let stopped_at = count(data);
    assert!(data.join("state").exists());
    // A stopped agent runs nothing.
    assert_eq!(count(data), stopped_at);
    let agent = start(data.to_owned());
    wait_until("it goes on counting", || count(data) > stopped_at);
    // As in a crash; the next start goes on all the same.
    agent.abandon().unwrap();
    let crashed_at = count(data);
    let agent = start(data.to_owned());
    wait_until("it goes on counting after a crash", || count(data) > crashed_at);
    agent.stop().unwrap();
}

#[test]
fn two_agents_on_one_device_refuse() {
    let directory = tempfile::tempdir().unwrap();
    joined(directory.path());
    let agent = start(directory.path().to_owned());
    let second = Agent::start(AgentConfig::new(directory.path().to_owned()));
    assert!(matches!(second, Err(AgentError::Lock(_))), "{second:?}");
    agent.stop().unwrap();
    start(directory.path().to_owned()).stop().unwrap();
}

#[test]
fn an_agent_that_has_not_joined_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = Agent::start(AgentConfig::new(directory.path().to_owned())).unwrap_err();
    assert!(error.to_string().contains("fulmar-agent join"), "{error}");
}
