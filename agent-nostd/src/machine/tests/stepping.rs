//! What a component goes through: fetching, starting, switching, failing, rolling back.
use super::rig::*;
use crate::machine::port::*;
use crate::machine::slot::{SLOW_RETRY, START_DEADLINE};
use crate::machine::time::Instant;
use std::string::String;
use std::vec::Vec;
use wire::clause::{Clause, Reference, Residency, Topics};
use wire::hello::{Features, ResetCause};
use wire::record::{CapabilitySet, Role, Runtime};
use wire::status::{Reason, State};

fn with(components: &[Component]) -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, components));
    rig.run(secs(20));
    assert_eq!(rig.accepted(), 1);
    rig
}

#[test]
fn the_old_version_runs_until_the_new_one_can_start() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.served = Some(Default::default());
    rig.publish(set(2, &[service(1, 0, "b").generation(2)]));
    rig.run(secs(60));
    assert!(rig.runs("a") && !rig.runs("b") && rig.accepted() == 2);
    let entry = rig.entry(1, 0);
    assert_eq!((entry.state, entry.generation, entry.running), (State::Running, 2, 1));
    assert_eq!(entry.reason, Reason::FETCH_FAILED);
    rig.served = None;
    rig.run(secs(400));
    assert!(rig.runs("b") && !rig.runs("a"));
    assert_eq!(rig.entry(1, 0).running, 2);
}

#[test]
fn after_a_reset_the_last_good_version_stands_in_for_one_that_is_missing() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.run(secs(20));
    rig.served = Some(Default::default());
    rig.publish(set(2, &[service(1, 0, "b").generation(2)]));
    rig.run(secs(5));
    rig.broker_up = false;
    rig.reboot(wire::hello::ResetCause::PowerOn);
    rig.run(secs(5));
    assert!(rig.runs("a") && rig.accepted() == 2);
    // A stand-in that fails comes back more and more slowly.
    rig.artifact_does("a", Behaviour::TrapsAfter(10));
    let (launch, before) = (rig.launch_of(1, 0), rig.starts_of("a"));
    rig.give(Answer::Exited(launch, Exit::Failed(Failure::Trapped)));
    rig.run(secs(600));
    assert!((5..12).contains(&(rig.starts_of("a") - before)), "{}", rig.starts_of("a") - before);
    rig.artifact_does("a", Behaviour::Runs);
    rig.run(secs(400));
    assert!(rig.runs("a"));
    rig.broker_up = true;
    rig.served = None;
    rig.run(secs(400));
    assert!(rig.runs("b"));
}

#[test]
fn one_workloads_missing_artifact_does_not_hold_up_another() {
    let mut rig = with(&[service(1, 0, "a"), service(2, 0, "a")]);
    rig.served = Some([artifact("c")].into());
    rig.publish(set(2, &[service(1, 0, "b"), service(2, 0, "c")]));
    rig.run(secs(20));
    assert!(rig.runs("c"));
    assert_eq!(rig.entry(1, 0).running, 1);
}

#[test]
fn a_workload_switches_only_when_all_its_artifacts_are_here() {
    let mut rig = with(&[service(1, 0, "a"), service(1, 1, "b")]);
    rig.run(secs(20));
    rig.served = Some([artifact("a2")].into());
    let new = [service(1, 0, "a2").generation(2), service(1, 1, "b2").generation(2)];
    rig.publish(set(2, &new));
    rig.run(secs(60));
    assert!(rig.runs("a") && rig.runs("b") && rig.accepted() == 2, "no mix of versions");
    rig.broker_up = false;
    rig.reboot(wire::hello::ResetCause::PowerOn);
    rig.run(secs(5));
    assert!(rig.runs("a") && rig.runs("b"), "both last good versions stand in");
    rig.broker_up = true;
    rig.served = None;
    rig.run(secs(400));
    assert!(rig.runs("a2") && rig.runs("b2") && !rig.runs("a") && !rig.runs("b"));
    assert_eq!((rig.starts_of("a2"), rig.starts_of("b2")), (1, 1));
}

#[test]
fn a_component_that_fails_comes_back_while_another_one_s_artifact_is_missing() {
    let mut rig = with(&[service(1, 0, "a"), service(1, 1, "b")]);
    rig.served = Some(Default::default());
    rig.publish(set(2, &[service(1, 0, "a"), service(1, 1, "b2")]));
    rig.run(secs(5));
    let launch = rig.launch_of(1, 0);
    rig.give(Answer::Exited(launch, Exit::Failed(Failure::Trapped)));
    rig.run(secs(20));
    assert!(rig.runs("a") && rig.runs("b") && rig.starts_of("a") == 2);
}

#[test]
fn removals_stop_at_once() {
    let mut rig = with(&[service(1, 0, "a"), service(2, 0, "b")]);
    rig.served = Some(Default::default());
    rig.publish(set(2, &[service(1, 0, "new and missing")]));
    rig.run(secs(1));
    assert!(rig.runs("a") && !rig.runs("b"));
}

#[test]
fn an_unchanged_component_is_never_restarted() {
    let mut rig = with(&[service(1, 0, "a"), service(2, 0, "b")]);
    for counter in 2..6 {
        rig.publish(set(counter, &[service(1, 0, "a"), service(2, 0, &std::format!("b{counter}"))]));
        rig.run(secs(30));
        rig.session += 1;
        rig.cut();
        rig.run(secs(70));
    }
    assert_eq!((rig.starts_of("a"), rig.starts_of("b5")), (1, 1));
}

#[test]
fn a_change_of_generation_or_policy_applies_without_a_restart() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.publish(set(2, &[service(1, 0, "a").generation(7).with(Clause::StopGrace(5000)).with(Clause::Trace(b"00"))]));
    rig.run(secs(20));
    assert_eq!((rig.starts_of("a"), rig.entry(1, 0).running), (1, 7));
    rig.publish(set(3, &[service(1, 0, "a").generation(8).with(Clause::Config(b"x"))]));
    rig.run(secs(20));
    assert_eq!((rig.starts_of("a"), rig.entry(1, 0).running), (2, 8));
}

#[test]
fn a_component_waits_for_those_it_names() {
    let mut rig = Rig::new();
    rig.artifact_does("init", Behaviour::CompletesAfter(5_000));
    rig.publish(set(
        1,
        &[
            service(1, 0, "init").role(Role::Init),
            service(1, 1, "a").with(Clause::After(&[0])),
            service(1, 2, "b").with(Clause::After(&[1])),
        ],
    ));
    rig.run(secs(5));
    assert!(rig.runs("init") && !rig.runs("a") && !rig.runs("b"));
    assert_eq!((rig.entry(1, 1).state, rig.entry(1, 1).reason), (State::Waiting, Reason::WAITS_FOR_COMPONENT));
    rig.run(secs(20));
    assert!(rig.runs("a") && rig.runs("b"));
    assert_eq!(rig.entry(1, 0).state, State::Completed);
}

#[test]
fn a_job_runs_once_even_across_a_reboot() {
    let mut rig = Rig::new();
    rig.artifact_does("job", Behaviour::CompletesAfter(1000));
    rig.publish(set(1, &[service(1, 0, "job").role(Role::Job)]));
    rig.run(secs(30));
    assert_eq!(rig.entry(1, 0).state, State::Completed);
    rig.reboot(wire::hello::ResetCause::PowerOn);
    rig.run(secs(60));
    assert_eq!(rig.starts_of("job"), 1);
    assert_eq!(rig.entry(1, 0).state, State::Completed);
}

#[test]
fn c14_a_new_version_that_fails_three_times_is_rolled_back() {
    let mut rig = with(&[service(1, 0, "good"), service(2, 0, "other")]);
    rig.run(secs(20));
    rig.artifact_does("bad", Behaviour::TrapsAfter(100));
    rig.publish(set(2, &[service(1, 0, "bad").generation(2), service(2, 0, "other")]));
    rig.run(secs(60));
    assert_eq!(rig.starts_of("bad"), 3);
    assert!(rig.runs("good"));
    let entry = rig.entry(1, 0);
    assert_eq!(
        (entry.state, entry.reason, entry.generation, entry.running),
        (State::Running, Reason::ROLLED_BACK, 2, 1)
    );
    assert_eq!(entry.detail, "it said so");
    assert_eq!(rig.starts_of("other"), 1);
    // Not tried again, not after a reboot either, until there is a new version.
    rig.reboot(wire::hello::ResetCause::PowerOn);
    rig.run(secs(7200));
    assert_eq!(rig.starts_of("bad"), 3);
    assert!(rig.runs("good"));
    rig.publish(set(3, &[service(1, 0, "better").generation(3), service(2, 0, "other")]));
    rig.run(secs(60));
    assert!(rig.runs("better"));
    assert_eq!(rig.entry(1, 0).reason, Reason::NONE);
}

#[test]
fn what_the_accepted_set_lacks_never_starts_by_roll_back() {
    let mut rig = with(&[service(1, 0, "a"), service(1, 1, "dropped"), service(9, 0, "gone")]);
    rig.run(secs(20));
    rig.artifact_does("bad", Behaviour::TrapsAfter(100));
    rig.publish(set(2, &[service(1, 0, "bad"), service(1, 2, "added")]));
    rig.run(secs(120));
    assert!(rig.runs("a") && !rig.runs("dropped") && !rig.runs("gone") && !rig.runs("added"));
    assert_eq!((rig.entry(1, 2).state, rig.entry(1, 2).reason), (State::Stopped, Reason::ROLLED_BACK));
}

#[test]
fn without_a_good_version_a_failing_one_is_tried_every_half_hour() {
    let mut rig = Rig::new();
    rig.artifact_does("bad", Behaviour::FailsToStart);
    rig.publish(set(1, &[service(1, 0, "bad")]));
    rig.run(secs(60));
    assert_eq!(rig.starts_of("bad"), 3);
    assert_eq!((rig.entry(1, 0).state, rig.entry(1, 0).reason), (State::Failed, Reason::LOAD_REFUSED));
    rig.run(SLOW_RETRY * 4);
    assert_eq!(rig.starts_of("bad"), 7);
}

#[test]
fn back_off_grows_and_a_healthy_run_forgets() {
    let mut rig = Rig::new();
    rig.artifact_does("a", Behaviour::TrapsAfter(700_000));
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(7200));
    // Each run is healthy for ten minutes before it traps: never given up, always back within seconds.
    assert!(rig.starts_of("a") >= 10, "{}", rig.starts_of("a"));
}

#[test]
fn the_pause_doubles_from_one_second_to_five_minutes_give_or_take_a_fifth() {
    let mut rig = Rig::new();
    rig.artifact_does("a", Behaviour::TrapsAfter(100));
    let retry = Clause::Retry(wire::clause::Retry { attempts: 255, window_s: 24 * 3600 });
    rig.publish(set(1, &[service(1, 0, "a").with(retry)]));
    rig.run(secs(2400));
    let starts = rig.done.iter().filter(|(_, done)| matches!(done, Done::Start(..)));
    let times: Vec<Instant> = starts.map(|(at, _)| *at).collect();
    assert!(times.len() >= 14, "{}", times.len());
    let mut is_jittered = false;
    for (tries, pair) in times.windows(2).enumerate() {
        // Five milliseconds to start, a hundred until it traps.
        let pause = pair[1].since(pair[0]) - ms(105);
        let nominal = secs(2u64.pow(tries as u32).min(300));
        assert!(pause >= nominal * 4 / 5 && pause <= nominal * 6 / 5, "{tries}: {pause:?}");
        is_jittered |= pause != nominal;
    }
    assert!(is_jittered);
}

#[test]
fn the_last_good_version_that_fails_is_not_rolled_back_to_itself() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.run(secs(30));
    rig.artifact_does("a", Behaviour::TrapsAfter(100));
    let launch = rig.launch_of(1, 0);
    rig.give(Answer::Exited(launch, Exit::Failed(Failure::Trapped)));
    rig.run(secs(600));
    assert_eq!(rig.entry(1, 0).state, State::Failed);
    rig.artifact_does("a", Behaviour::Runs);
    rig.run(SLOW_RETRY);
    assert!(rig.runs("a"));
}

#[test]
fn c14_attempts_are_durable_before_a_new_version_starts() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(20));
    let at = |wanted: Done| rig.done.iter().rposition(|(_, done)| *done == wanted).unwrap();
    assert!(at(Done::Persist(JournalKey::Attempts)) < at(Done::Start(1, 0, artifact("b"))));
    // And if they cannot be, the old version is not even stopped.
    rig.disk = Disk::Good;
    rig.publish(set(3, &[service(1, 0, "c")]));
    while rig.accepted() < 3 {
        rig.run(ms(1));
    }
    rig.disk = Disk::Full;
    rig.run(secs(60));
    assert!(rig.runs("b") && !rig.runs("c"));
    rig.disk = Disk::Good;
    rig.run(secs(400));
    assert!(rig.runs("c"));
}

#[test]
fn a_start_without_answer_is_stopped_and_counted() {
    let mut rig = Rig::new();
    rig.artifact_does("a", Behaviour::Silent);
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(START_DEADLINE + secs(5));
    assert_eq!(rig.count(|done| matches!(done, Done::Stop(1, 0))), 1);
    assert_eq!(rig.entry(1, 0).reason, Reason::START_TIMED_OUT);
    rig.artifact_does("a", Behaviour::Runs);
    rig.run(secs(60));
    assert!(rig.runs("a"));
}

#[test]
fn answers_about_an_earlier_launch_are_ignored() {
    let mut rig = with(&[service(1, 0, "a")]);
    let old = rig.launch_of(1, 0);
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(20));
    let now = rig.now;
    rig.agent.handle(now, Input::Stopped { launch: old });
    rig.agent.handle(now, Input::Exited { launch: old, exit: Exit::Failed(Failure::Trapped), detail: "late" });
    rig.run(secs(20));
    assert_eq!(rig.entry(1, 0).state, State::Running);
    assert_eq!(rig.starts_of("b"), 1);
}

#[test]
fn what_this_agent_cannot_do_is_refused_for_that_workload_only() {
    let residency = Residency { region: Reference { digest: artifact("r"), bytes: 9 }, grace_ms: 0 };
    let outside = service(1, 0, "a").with(Clause::Residency(residency));
    let unknown = service(2, 0, "a").with(Clause::Unknown { number: 77, bytes: b"?" });
    let mut container = service(3, 0, "a");
    container.core.runtime = Runtime::Container;
    let sibling = service(3, 1, "a");
    let mut hardware = service(4, 0, "a");
    hardware.core.capabilities = CapabilitySet::GPIO;
    let rig = with(&[outside, unknown, container, sibling, hardware, service(5, 0, "fine")]);
    let refused = |workload, component| {
        let entry = rig.entry(workload, component);
        assert_eq!(entry.state, State::Refused);
        entry.reason
    };
    assert_eq!(refused(1, 0), Reason::NOT_SUPPORTED);
    assert_eq!(refused(2, 0), Reason::UNKNOWN_CLAUSE);
    assert!(rig.entry(2, 0).detail.contains("77"));
    assert_eq!((refused(3, 0), refused(3, 1)), (Reason::NOT_SUPPORTED, Reason::NOT_SUPPORTED));
    assert_eq!(refused(4, 0), Reason::NOT_SUPPORTED);
    assert!(rig.runs("fine"));
    assert_eq!(rig.running.len(), 1);
}

#[test]
fn an_unknown_clause_that_is_not_critical_is_ignored() {
    let rig = with(&[service(1, 0, "a").with(Clause::Trace(b"any")).with(Clause::ChunkRoot(artifact("root")))]);
    assert!(rig.runs("a"));
    // A clause of a later version, not critical: written raw.
    let mut buffer = [0; 64];
    let stated = wire::clause::Stated { critical: false, clause: Clause::Unknown { number: 99, bytes: b"later" } };
    let clauses = wire::record::encode_clauses(&mut buffer, &[stated]).unwrap();
    let mut room = [0; 512];
    let mut writer = wire::record::BodyWriter::new(&mut room, 1).unwrap();
    writer.record_raw(&service(1, 0, "b").core, clauses).unwrap();
    let mut rig = rig;
    rig.publish(set_of_body(2, writer.finish().to_vec()));
    rig.run(secs(20));
    assert!(rig.runs("b"));
}

#[test]
fn a_refused_new_version_stops_the_old_one() {
    // It may be refused for a lease that cannot be held: running on without one would be worse than not running.
    let mut rig = with(&[service(1, 0, "a")]);
    rig.publish(set(2, &[service(1, 0, "a").with(Clause::Lease(1_000))]));
    rig.run(secs(5));
    assert!(rig.running.is_empty());
}

#[test]
fn a_timer_has_one_activation_in_flight() {
    let mut rig = with(&[service(1, 0, "a").with(Clause::Every(1000))]);
    let activations = |rig: &Rig| rig.count(|done| matches!(done, Done::Activate(1, 0)));
    let before = activations(&rig);
    rig.run(secs(10));
    assert_eq!(activations(&rig) - before, 10);
    rig.artifact_does("a", Behaviour::Sleeps);
    let before = activations(&rig);
    rig.run(secs(50));
    assert_eq!(activations(&rig) - before, 1);
    // No answer at all: stopped, counted, started again.
    rig.artifact_does("a", Behaviour::Runs);
    rig.run(secs(60));
    assert_eq!(rig.starts_of("a"), 2);
}

/// Found by a simulated device whose process stood still: the answer to an activation was as late as the question was old.
#[test]
fn what_runs_is_not_blamed_for_time_in_which_the_whole_process_stood_still() {
    let mut rig = with(&[service(1, 0, "a").with(Clause::Every(1000))]);
    rig.artifact_does("a", Behaviour::Sleeps);
    rig.run(secs(5));
    rig.now = rig.now.after(secs(300));
    rig.run(secs(50));
    assert_eq!(rig.starts_of("a"), 1);
    // It has as long as ever, and no longer.
    rig.artifact_does("a", Behaviour::Runs);
    rig.run(secs(30));
    assert_eq!(rig.starts_of("a"), 2);
}

#[test]
fn an_old_version_keeps_its_timer_until_the_switch() {
    let mut rig = with(&[service(1, 0, "a").with(Clause::Every(1000))]);
    rig.served = Some(Default::default());
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(5));
    let before = rig.count(|done| matches!(done, Done::Activate(1, 0)));
    rig.run(secs(10));
    assert_eq!(rig.count(|done| matches!(done, Done::Activate(1, 0))) - before, 10);
}

fn topics(filters: &[&str]) -> Topics<'static> {
    let buffer = std::boxed::Box::leak(std::vec![0; 256].into_boxed_slice());
    Topics::encode(buffer, filters).unwrap()
}

fn delivered(rig: &Rig) -> Vec<(u32, String)> {
    let of = |done: &Done| match done {
        Done::Deliver(workload, _, topic, _) => Some((*workload, topic.clone())),
        _ => None,
    };
    rig.done.iter().filter_map(|(_, done)| of(done)).collect()
}

#[test]
fn inputs_reach_the_workload_that_asked_once() {
    let mut rig = with(&[
        service(1, 0, "a").with(Clause::Topics(topics(&["plant/#"]))),
        service(2, 0, "b").with(Clause::Topics(topics(&["plant/#"]))),
    ]);
    rig.input(1, 1, "plant/line", b"x");
    rig.input(1, 1, "plant/line", b"x");
    rig.input(2, 1, "office", b"y");
    rig.run(secs(1));
    assert_eq!(delivered(&rig), [(1, "plant/line".into())]);
}

#[test]
fn local_topics_stay_on_the_device_and_work_offline() {
    let mut rig = with(&[service(1, 0, "a"), service(2, 0, "b").with(Clause::Topics(topics(&["local/t"])))]);
    rig.broker_up = false;
    rig.cut();
    let (now, launch) = (rig.now, rig.launch_of(1, 0));
    rig.agent.handle(now, Input::Emit { launch, topic: "local/t", payload: b"21" });
    rig.run(secs(1));
    assert_eq!(delivered(&rig), [(2, "local/t".into())]);
    rig.broker_up = true;
    rig.run(secs(120));
    assert!(rig.events.is_empty());
}

#[test]
fn unused_artifacts_go_and_used_ones_stay() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.run(secs(30));
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(5));
    assert!(rig.artifacts.contains(&artifact("a")), "still the last good one");
    rig.run(secs(60));
    assert!(!rig.artifacts.contains(&artifact("a")));
    assert!(rig.artifacts.contains(&artifact("b")));
}

#[test]
fn a_set_of_all_other_components_waits_for_slots_that_are_stopping() {
    let all = |first: u32| (first..first + 8).map(|workload| service(workload, 0, "a")).collect::<Vec<_>>();
    let mut rig = with(&all(1));
    assert_eq!(rig.running.len(), 8);
    rig.publish(set(2, &all(100)));
    rig.run(secs(20));
    assert_eq!(rig.running.len(), 8);
    assert!(rig.running.values().all(|run| run.workload >= 100));
    assert_eq!(rig.entry(107, 0).state, State::Running);
}

#[test]
fn the_machine_fits_a_small_device() {
    let bytes = core::mem::size_of::<crate::machine::Agent<'static, 8>>();
    assert!(bytes <= 9 * 1024 + 512, "{bytes}");
}

#[test]
fn a_device_without_the_engine_takes_the_set_and_refuses_its_functions_before_it_fetches_them() {
    let mut rig = Rig::new();
    let (mut config, buffers) = parts(1, ResetCause::PowerOn);
    config.capabilities.features = Features::BOOT_CLOCK;
    rig.agent = Machine::new(rig.now, config, buffers, Restored::default());
    rig.publish(set(1, &[service(1, 0, "a"), service(2, 0, "b")]));
    rig.run(secs(20));
    assert_eq!(rig.accepted(), 1);
    for workload in [1, 2] {
        let entry = rig.entry(workload, 0);
        assert_eq!((entry.state, entry.reason), (State::Refused, Reason::RUNTIME_MISSING));
    }
    assert!(rig.artifacts.is_empty() && rig.starts.is_empty());
}

#[test]
fn a_machine_that_is_made_in_its_place_goes_on_from_the_journal_as_any_other() {
    let mut rig = with(&[service(1, 0, "a")]);
    rig.run(secs(30));
    let restored = rig.store.restored();
    let start = Instant::from_ms(5);
    let (config, buffers) = parts(9, ResetCause::PowerOn);
    let mut place = core::mem::MaybeUninit::uninit();
    let in_place = Machine::new_in(&mut place, start, config, buffers, restored);
    let mut moved = machine(start, 9, ResetCause::PowerOn, restored);
    assert_eq!(in_place.entries().count(), 1);
    for _ in 0..20 {
        assert_eq!(std::format!("{:?}", in_place.poll(start)), std::format!("{:?}", moved.poll(start)));
    }
    assert_eq!(in_place.poll_timeout(), moved.poll_timeout());
}

#[test]
fn shutdown_stops_everything_then_disconnects() {
    let mut rig = with(&[service(1, 0, "a"), service(2, 0, "b")]);
    let now = rig.now;
    rig.agent.handle(now, Input::Shutdown);
    rig.run(secs(30));
    assert!(rig.running.is_empty() && rig.agent.is_finished());
    assert_eq!(rig.done.last().map(|(_, done)| done.clone()), Some(Done::Disconnect));
    assert_eq!(rig.agent.poll_timeout(), None);
}
