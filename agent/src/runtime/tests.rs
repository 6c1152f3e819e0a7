//! Real functions on real threads: fairness, ends, state over restarts, limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::pool::WORKERS_MAX;
use super::*;
use crate::clock::boot_time;
use agent_nostd::machine::port::Right;
use agent_nostd::machine::time::Instant;
use async_channel::Receiver;
use futures_lite::FutureExt;
use std::path::Path;
use wire::clause::Clause;
use wire::record::{Body, BodyWriter, CapabilitySet, Core, Role};
use wire::{Digest, Fence, WorkloadId};

const DEADLINE: Duration = Duration::from_secs(30);

/// Imports and helpers that every test function has: a counter in state, and a way to tell it.
const PRELUDE: &str = r#"
(module
  (@custom "fulmar.abi" "\01")
  (import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "fulmar" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "fulmar" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "fulmar" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "fulmar" "config_read" (func $config (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "count")
  (func $bump
    (drop (call $get (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 1)))
    (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1)))
    (drop (call $set (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 1))))
  (func $tell (drop (call $emit (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 1))))
  (func $spin (loop $again (br $again)))
"#;

struct World {
    runtime: Option<Runtime>,
    reports: Receiver<Report>,
    directory: tempfile::TempDir,
}

fn open(directory: &Path) -> (Runtime, Receiver<Report>) {
    let store = Arc::new(Store::open(&directory.join("artifacts"), 1 << 20, None).unwrap());
    let (sender, reports) = async_channel::bounded(REPORTS_MAX);
    let pool = Arc::new(Pool::of_this_machine().unwrap());
    let runtime = Runtime::start(pool, store, directory.join("state"), 1 << 24, Arc::default(), sender).unwrap();
    (runtime, reports)
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, reports) = open(directory.path());
    World { runtime: Some(runtime), reports, directory }
}

#[derive(Clone, Copy)]
struct Shape {
    workload: u32,
    role: Role,
    fuel: u32,
    memory_bytes: u32,
    instances: u16,
    terms: Terms,
}

const SERVICE: Shape = Shape {
    workload: 1,
    role: Role::Service,
    fuel: 10_000_000,
    memory_bytes: 65_536,
    instances: 1,
    terms: Terms { grant: None, stop_by: None, is_degraded: false },
};

fn until(moment: Duration) -> Terms {
    let until = Instant::from_ms(moment.as_millis() as u64);
    Terms { grant: Some(Right { fence: Fence::default(), until }), ..Terms::default() }
}

impl World {
    fn runtime(&mut self) -> &mut Runtime {
        self.runtime.as_mut().unwrap()
    }

    /// Puts a function into the store and launches it.
    fn launch(&mut self, launch: u32, functions: &str, shape: Shape, config: &[u8]) {
        let bytes = wat::parse_str(format!("{PRELUDE} {functions})")).unwrap();
        let artifact = Digest::of(&bytes);
        std::fs::write(self.directory.path().join("artifacts").join(artifact.text().as_str()), &bytes).unwrap();
        let core = Core {
            workload: WorkloadId(shape.workload),
            component: 0,
            generation: 1,
            role: shape.role,
            runtime: Kind::Function,
            artifact,
            artifact_bytes: bytes.len() as u32,
            memory_bytes: shape.memory_bytes,
            fuel: shape.fuel,
            instances: shape.instances,
            capabilities: CapabilitySet::EMIT.union(CapabilitySet::STATE).union(CapabilitySet::LOG),
        };
        let mut buffer = vec![0; 4096];
        let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
        writer.record(&core, &[Clause::Config(config)]).unwrap();
        let body = writer.finish();
        let record = Body::decode(body).unwrap().iter().next().unwrap();
        self.runtime().launch(LaunchId(launch), &record, shape.terms);
    }

    fn next(&mut self) -> Report {
        let expired = async {
            smol::Timer::after(DEADLINE).await;
            panic!("no report");
        };
        let report = smol::block_on(async { self.reports.recv().await.unwrap() }.or(expired));
        self.runtime().observe(&report);
        report
    }

    fn nothing_more(&mut self) {
        assert!(self.reports.try_recv().is_err());
    }

    /// Ends all threads and starts anew on the same directory.
    fn restart(&mut self) {
        self.runtime = None;
        let (runtime, reports) = open(self.directory.path());
        self.runtime = Some(runtime);
        self.reports = reports;
    }

    fn stop(&mut self, launch: u32, grace: Duration) {
        self.runtime().stop(LaunchId(launch), grace);
    }

    fn timer(&mut self, launch: u32) {
        self.runtime().activate(LaunchId(launch), Trigger::Timer);
    }
}

fn started(launch: u32) -> Report {
    Report::Started { launch: LaunchId(launch) }
}

fn stopped(launch: u32) -> Report {
    Report::Stopped { launch: LaunchId(launch) }
}

fn activated(launch: u32) -> Report {
    Report::Activated { launch: LaunchId(launch), trigger: Trigger::Timer }
}

fn emitted(launch: u32, count: u8) -> Report {
    Report::Emit { launch: LaunchId(launch), topic: "count".to_owned(), payload: vec![count] }
}

const COUNTER: &str = r#"
  (func (export "fulmar_start"))
  (func (export "fulmar_timer") (call $bump) (call $tell))
  (func (export "fulmar_event") (call $bump) (call $tell))
  (func (export "fulmar_stop") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 5))))
"#;

const ENDLESS: &str = r#"
  (func (export "fulmar_start"))
  (func (export "fulmar_timer") (call $spin))
  (func (export "fulmar_event"))
"#;

const GRACE: Duration = Duration::from_secs(20);

#[test]
fn a_function_lives_from_start_to_stop_and_remembers() {
    let mut world = world();
    world.launch(1, COUNTER, SERVICE, b"");
    assert_eq!(world.next(), started(1));
    world.timer(1);
    assert_eq!(world.next(), emitted(1, 1));
    assert_eq!(world.next(), activated(1));
    world.runtime().deliver(LaunchId(1), "t", b"x");
    assert_eq!(world.next(), emitted(1, 2));
    world.stop(1, GRACE);
    let level = wire::event::Level::Info;
    assert_eq!(world.next(), Report::Log { launch: LaunchId(1), level, text: "count".to_owned() });
    assert_eq!(world.next(), stopped(1));
    assert_eq!(world.runtime().memory_free_bytes(), 1 << 24);
    // Another run, and then another process: it goes on counting.
    world.launch(2, COUNTER, SERVICE, b"");
    assert_eq!(world.next(), started(2));
    world.timer(2);
    assert_eq!(world.next(), emitted(2, 3));
    assert_eq!(world.next(), activated(2));
    world.restart();
    world.launch(1, COUNTER, SERVICE, b"");
    assert_eq!(world.next(), started(1));
    world.timer(1);
    assert_eq!(world.next(), emitted(1, 4));
}

#[test]
fn an_endless_loop_is_cut_and_others_are_served_meanwhile() {
    let mut world = world();
    // More loops than there are threads, each with fuel for a long time.
    let loops = WORKERS_MAX as u32 + 1;
    for launch in 0..loops {
        let shape = Shape { workload: 10 + launch, fuel: 2_000_000_000, ..SERVICE };
        world.launch(launch, ENDLESS, shape, b"");
        assert_eq!(world.next(), started(launch));
        world.timer(launch);
    }
    world.launch(100, COUNTER, Shape { workload: 5, ..SERVICE }, b"");
    assert_eq!(world.next(), started(100));
    for round in 1..=3 {
        world.timer(100);
        assert_eq!(world.next(), emitted(100, round));
        assert_eq!(world.next(), activated(100));
    }
    // The loops still run: a stop without grace cuts them.
    for launch in 0..loops {
        world.stop(launch, Duration::ZERO);
    }
    let mut ends: Vec<Report> = (0..loops).map(|_| world.next()).collect();
    ends.sort_by_key(|report| if let Report::Stopped { launch } = report { launch.0 } else { u32::MAX });
    assert_eq!(ends, (0..loops).map(stopped).collect::<Vec<_>>());
}

#[test]
fn exhausted_fuel_and_traps_end_the_run_with_a_reason() {
    let mut world = world();
    world.launch(1, ENDLESS, Shape { fuel: 1_000_000, ..SERVICE }, b"");
    assert_eq!(world.next(), started(1));
    world.timer(1);
    let Report::Exited { launch: LaunchId(1), exit: Exit::Failed(failure), detail } = world.next() else { panic!() };
    assert_eq!(failure, Failure::OutOfFuel);
    assert!(detail.starts_with("OUT_OF_FUEL"), "{detail}");
    let trap = r#"(func (export "fulmar_start") unreachable)"#;
    world.launch(2, trap, SERVICE, b"");
    let Report::StartFailed { launch: LaunchId(2), failure: Failure::Trapped, detail } = world.next() else { panic!() };
    assert!(detail.starts_with("UNREACHABLE"), "{detail}");
    assert_eq!(world.runtime().memory_free_bytes(), 1 << 24);
    // Nothing is left of it: a stop is answered as for something unknown.
    world.stop(2, GRACE);
    assert_eq!(world.next(), stopped(2));
    world.nothing_more();
}

#[test]
fn a_trap_in_one_instance_ends_all_of_them_once() {
    let mut world = world();
    // The instance that finds its counter at one traps; the first timer puts all of them there.
    let second_traps = r#"
      (func (export "fulmar_start"))
      (func (export "fulmar_timer")
        (call $bump)
        (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 2)) (then unreachable)))
    "#;
    world.launch(1, second_traps, Shape { instances: 50, ..SERVICE }, b"");
    assert_eq!(world.next(), started(1));
    world.timer(1);
    assert_eq!(world.next(), activated(1));
    world.timer(1);
    assert!(matches!(world.next(), Report::Exited { exit: Exit::Failed(Failure::Trapped), .. }));
    assert_eq!(world.runtime().memory_free_bytes(), 1 << 24);
    world.stop(1, GRACE);
    assert_eq!(world.next(), stopped(1));
    world.nothing_more();
}

#[test]
fn instances_have_their_own_state_and_each_gets_every_message() {
    let mut world = world();
    world.launch(1, COUNTER, Shape { instances: 20, ..SERVICE }, b"");
    assert_eq!(world.next(), started(1));
    for count in 1..=2 {
        world.runtime().deliver(LaunchId(1), "t", b"x");
        for _ in 0..20 {
            assert_eq!(world.next(), emitted(1, count));
        }
    }
    world.timer(1);
    for _ in 0..20 {
        assert_eq!(world.next(), emitted(1, 3));
    }
    assert_eq!(world.next(), activated(1));
    world.nothing_more();
}

#[test]
fn a_job_completes_and_is_gone() {
    let mut world = world();
    let job = r#"(func (export "fulmar_start") (call $bump) (call $tell))"#;
    world.launch(1, job, Shape { role: Role::Job, instances: 3, ..SERVICE }, b"");
    for _ in 0..3 {
        assert_eq!(world.next(), emitted(1, 1));
    }
    assert_eq!(world.next(), started(1));
    let detail = String::new();
    assert_eq!(world.next(), Report::Exited { launch: LaunchId(1), exit: Exit::Completed, detail });
    assert_eq!(world.runtime().running().count(), 0);
}

#[test]
fn a_stop_during_a_long_start_waits_for_the_grace_only() {
    let mut world = world();
    let slow = r#"(func (export "fulmar_start") (call $tell) (call $spin))"#;
    world.launch(1, slow, Shape { fuel: u32::MAX, ..SERVICE }, b"");
    assert_eq!(world.next(), emitted(1, 0));
    world.stop(1, Duration::from_millis(20));
    assert_eq!(world.next(), stopped(1));
    world.nothing_more();
}

#[test]
fn an_inbox_is_bounded_and_what_is_dropped_is_counted() {
    let mut world = world();
    let busy = r#"
      (func (export "fulmar_start"))
      (func (export "fulmar_timer") (call $tell) (call $spin))
      (func (export "fulmar_event"))
    "#;
    world.launch(1, busy, Shape { fuel: u32::MAX, ..SERVICE }, b"");
    assert_eq!(world.next(), started(1));
    world.timer(1);
    assert_eq!(world.next(), emitted(1, 0));
    for _ in 0..component::INBOX_MAX + 5 {
        world.runtime().deliver(LaunchId(1), "t", b"x");
    }
    assert_eq!(world.runtime().losses().inputs, 5);
    world.stop(1, Duration::ZERO);
    assert_eq!(world.next(), stopped(1));
}

#[test]
fn what_cannot_run_is_refused_with_a_reason() {
    let mut world = world();
    let foreign = r#"(func (export "fulmar_start"))"#;
    // More memory than all functions may have together.
    world.launch(1, foreign, Shape { memory_bytes: (1 << 24) + 1, ..SERVICE }, b"");
    assert!(matches!(world.next(), Report::StartFailed { failure: Failure::OutOfMemory, .. }));
    // Less memory than the module starts with.
    world.launch(2, foreign, Shape { memory_bytes: 1024, ..SERVICE }, b"");
    let Report::StartFailed { failure: Failure::LoadRefused, detail, .. } = world.next() else { panic!() };
    assert!(detail.starts_with("MEMORY_TOO_LARGE"), "{detail}");
    // An artifact that rotted on disk.
    world.launch(3, foreign, SERVICE, b"");
    assert_eq!(world.next(), started(3));
    for entry in std::fs::read_dir(world.directory.path().join("artifacts")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let (core, mut buffer) = (rotten_record(&world), vec![0; 1024]);
    let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
    writer.record(&core, &[]).unwrap();
    let record = Body::decode(writer.finish()).unwrap().iter().next().unwrap();
    world.runtime().launch(LaunchId(4), &record, Terms::default());
    let Report::StartFailed { failure: Failure::LoadRefused, detail, .. } = world.next() else { panic!() };
    assert!(detail.contains("damaged"), "{detail}");
}

/// A record of an artifact that is in the store under its name, with other bytes.
fn rotten_record(world: &World) -> Core {
    let entry = std::fs::read_dir(world.directory.path().join("artifacts")).unwrap().next().unwrap().unwrap();
    Core {
        workload: WorkloadId(9),
        component: 0,
        generation: 1,
        role: Role::Service,
        runtime: Kind::Function,
        artifact: Digest::parse(&entry.file_name().into_string().unwrap()).unwrap(),
        artifact_bytes: entry.metadata().unwrap().len() as u32,
        memory_bytes: 65_536,
        fuel: 1_000_000,
        instances: 1,
        capabilities: CapabilitySet::default(),
    }
}

#[test]
fn configuration_and_the_time_of_day_reach_the_function() {
    let mut world = world();
    let echo = r#"
      (import "fulmar" "time_wall_ms" (func $wall (result i64)))
    "#;
    // Imports come first in a module: this one has its own prelude.
    let source = PRELUDE.replace("(memory", &format!("{echo} (memory"));
    let functions = r#"
      (func (export "fulmar_start")
        (drop (call $config (i32.const 0) (i32.const 16) (i32.const 1)))
        (call $tell))
      (func (export "fulmar_timer")
        (i32.store8 (i32.const 16) (i64.gt_s (call $wall) (i64.const 1700000000000)))
        (call $tell))
    "#;
    let bytes = wat::parse_str(format!("{source} {functions})")).unwrap();
    let artifact = Digest::of(&bytes);
    std::fs::write(world.directory.path().join("artifacts").join(artifact.text().as_str()), &bytes).unwrap();
    let core = Core {
        artifact,
        artifact_bytes: bytes.len() as u32,
        capabilities: CapabilitySet::EMIT.union(CapabilitySet::STATE),
        ..rotten_record(&world)
    };
    let mut buffer = vec![0; 1024];
    let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
    writer.record(&core, &[Clause::Config(b"Z")]).unwrap();
    let record = Body::decode(writer.finish()).unwrap().iter().next().unwrap();
    world.runtime().launch(LaunchId(1), &record, Terms::default());
    assert_eq!(world.next(), emitted(1, b'Z'));
    assert_eq!(world.next(), started(1));
    world.timer(1);
    assert_eq!(world.next(), emitted(1, 0));
    assert_eq!(world.next(), activated(1));
    world.runtime().surroundings.wall.set(Some(1_800_000_000_000), 0);
    world.timer(1);
    assert_eq!(world.next(), emitted(1, 1));
}

#[test]
fn c26_what_was_granted_ends_on_the_clock_without_anybody_asking() {
    let mut world = world();
    let shape = Shape { fuel: 2_000_000_000, terms: until(boot_time() + Duration::from_millis(300)), ..SERVICE };
    world.launch(1, ENDLESS, shape, b"");
    assert_eq!(world.next(), started(1));
    world.timer(1);
    // It never returns, and nobody says stop.
    assert_eq!(world.next(), stopped(1));
    assert!(boot_time().as_millis() >= u128::from(shape.terms.until().unwrap().as_ms()));
    world.nothing_more();
    assert_eq!(world.runtime().memory_free_bytes(), 1 << 24);
}

#[test]
fn c26_a_component_whose_grant_is_over_makes_no_call_more() {
    let mut world = world();
    world.launch(
        1,
        COUNTER,
        Shape { terms: until(boot_time() + Duration::from_secs(3600)), instances: 3, ..SERVICE },
        b"",
    );
    assert_eq!(world.next(), started(1));
    world.runtime().extend(LaunchId(1), until(boot_time() - Duration::from_millis(1)));
    world.timer(1);
    // Neither an event nor the line of its stop: all instances are dropped as they are.
    assert_eq!(world.next(), stopped(1));
    world.nothing_more();
    // And one that comes too late never runs.
    world.launch(2, COUNTER, Shape { terms: until(Duration::from_millis(1)), ..SERVICE }, b"");
    assert_eq!(world.next(), stopped(2));
    world.nothing_more();
}

#[test]
fn a_renewed_grant_lets_a_component_go_on() {
    let mut world = world();
    let shape = Shape { fuel: 2_000_000_000, terms: until(boot_time() + Duration::from_secs(5)), ..SERVICE };
    world.launch(1, COUNTER, shape, b"");
    assert_eq!(world.next(), started(1));
    world.runtime().extend(LaunchId(1), Terms::default());
    world.timer(1);
    assert_eq!(world.next(), emitted(1, 1));
    assert_eq!(world.next(), activated(1));
}
