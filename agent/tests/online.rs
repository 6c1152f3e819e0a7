//! A whole agent and a small hub on sockets: join, be told, fetch, run, report, come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod fake;

use agent::identity::Identity;
use agent::{Agent, AgentConfig, JoinError, JoinOptions};
use fake::{FLEET, Hub, Said};
use std::path::Path;
use wire::clause::Clause;
use wire::event::Level;
use wire::hello::{DeviceClass, ResetCause};
use wire::record::{BodyWriter, CapabilitySet, Core, Role, Runtime};
use wire::status::State;
use wire::{Digest, Order, Revision, WorkloadId};

/// Says that it started, and what it was configured with.
const TALKER: &str = r#"
(module
  (@custom "fulmar.abi" "\01")
  (import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "fulmar" "config_read" (func $config (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "fulmar_start")
    (drop (call $log (i32.const 2) (i32.const 0) (call $config (i32.const 0) (i32.const 0) (i32.const 32))))))
"#;

fn options(hub: &Hub, data: &Path) -> JoinOptions {
    JoinOptions {
        token: hub.token(),
        name: Some("gate-1".to_owned()),
        position: None,
        class: DeviceClass::Gateway,
        data: data.to_owned(),
    }
}

fn set(module: &[u8], workload: u32, config: &[u8]) -> Vec<u8> {
    let core = Core {
        workload: WorkloadId(workload),
        component: 0,
        generation: 1,
        role: Role::Service,
        runtime: Runtime::Function,
        artifact: Digest::of(module),
        artifact_bytes: module.len() as u32,
        memory_bytes: 65_536,
        fuel: 1_000_000,
        instances: 1,
        capabilities: CapabilitySet::LOG,
    };
    let mut buffer = [0; 1024];
    let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
    writer.record(&core, &[Clause::Config(config)]).unwrap();
    writer.finish().to_vec()
}

fn revision(counter: u64) -> Revision {
    Revision(Order::new(1, counter).unwrap())
}

fn start(data: &Path) -> Agent {
    Agent::start(AgentConfig::new(data.to_owned())).unwrap()
}

fn wait_for_running(hub: &Hub, counter: u64, workload: u32) {
    hub.wait("the function runs", |said| match said {
        Said::Status { revision: reported, entries } => {
            (*reported == revision(counter) && entries.contains(&(workload, State::Running))).then_some(())
        }
        Said::Hello { .. } | Said::Log { .. } | Said::Lost => None,
    });
}

fn wait_for_hello(hub: &Hub) -> (Revision, ResetCause) {
    hub.wait("the device comes back", |said| match said {
        Said::Hello { revision, reset } => Some((*revision, *reset)),
        Said::Status { .. } | Said::Log { .. } | Said::Lost => None,
    })
}

#[test]
fn a_device_joins_runs_what_it_is_told_reports_and_comes_back() {
    let (hub, directory) = (Hub::start(), tempfile::tempdir().unwrap());
    let data = directory.path();
    let joined = agent::join(&options(&hub, data)).unwrap();
    assert_eq!((joined.name.as_str(), joined.fleet.as_str(), joined.approved), ("gate-1", FLEET, true));
    let module = wat::parse_str(TALKER).unwrap();
    hub.desire(1, set(&module, 3, b"one"), module.clone());
    let agent = start(data);
    assert_eq!(agent.device(), joined.device);
    assert_eq!(wait_for_hello(&hub), (Revision::default(), ResetCause::ProcessStart));
    hub.wait("the function's line", |said| {
        (*said == Said::Log { level: Level::Info, text: "one".to_owned() }).then_some(())
    });
    agent.stop().unwrap();
    // It comes back with what it accepted, and gets another set: the old function goes, the new one comes.
    hub.desire(2, set(&module, 4, b"two"), module);
    let agent = start(data);
    assert_eq!(wait_for_hello(&hub), (revision(1), ResetCause::ProcessStart));
    wait_for_running(&hub, 2, 4);
    agent.abandon().unwrap();
    let agent = start(data);
    assert_eq!(wait_for_hello(&hub), (revision(2), ResetCause::Panic));
    agent.stop().unwrap();
}

#[test]
fn a_join_whose_answer_was_lost_succeeds_as_the_same_device() {
    let (hub, directory) = (Hub::start(), tempfile::tempdir().unwrap());
    hub.lose_answers(1);
    let error = agent::join(&options(&hub, directory.path())).unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");
    let keys = Identity::load(directory.path()).unwrap().unwrap();
    let joined = agent::join(&options(&hub, directory.path())).unwrap();
    assert_eq!(joined.device, keys.device());
    // The token is used: another device is told so.
    let other = tempfile::tempdir().unwrap();
    let error = agent::join(&options(&hub, other.path())).unwrap_err();
    assert!(error.to_string().contains("another device has used this token"), "{error}");
}
