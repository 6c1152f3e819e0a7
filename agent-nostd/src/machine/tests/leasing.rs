//! Exclusive work: asked for, held for as long as was given and not a moment more, whatever the link, the clock or a reset do.
use super::rig::*;
use crate::machine::lease::{RELEASE_WITHIN, STOP_BEFORE};
use crate::machine::port::*;
use crate::machine::time::{Duration, Instant};
use std::vec::Vec;
use wire::clause::{Clause, Topics};
use wire::hello::ResetCause;
use wire::lease::{DRIFT_PPM_MAX, hold_ms};
use wire::status::{Reason, State};
use wire::topic::Down;
use wire::{Fence, Nonce};

const LEASE_MS: u64 = 60_000;

fn exclusive(workload: u32, code: &str) -> Component {
    service(workload, 0, code).with(Clause::Lease(LEASE_MS))
}

fn fence(counter: u64) -> Fence {
    Fence(wire::id::Order::new(1, counter).unwrap())
}

/// Runs one exclusive workload under its first right.
fn holding() -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, &[exclusive(1, "a")]));
    rig.run(secs(15));
    assert!(rig.runs("a"));
    rig
}

fn cut_off(rig: &mut Rig) {
    rig.broker_up = false;
    rig.cut();
}

fn starts(rig: &Rig) -> usize {
    rig.count(|done| matches!(done, Done::Start(1, ..)))
}

/// The longest that one question can hold, as the device counts.
fn longest() -> Duration {
    ms(hold_ms(LEASE_MS, DRIFT_PPM_MAX, 100))
}

#[test]
fn exclusive_work_waits_for_its_grant_and_runs_under_it() {
    let mut rig = Rig::new();
    rig.grants = false;
    rig.publish(set(1, &[exclusive(1, "a"), service(2, 0, "b")]));
    rig.run(secs(20));
    rig.ask_status();
    assert!(!rig.runs("a") && rig.runs("b"));
    assert_eq!((rig.entry(1, 0).state, rig.entry(1, 0).reason), (State::Waiting, Reason::WAITS_FOR_GRANT));
    rig.grants = true;
    rig.run(secs(40));
    assert!(rig.runs("a"));
    let right = rig.terms[&rig.launch_of(1, 0)].grant.unwrap();
    assert_eq!(right.fence, fence(1));
    assert_eq!(rig.terms[&rig.launch_of(2, 0)], Terms::default());
}

#[test]
fn a_right_is_renewed_for_as_long_as_the_hub_is_there_and_keeps_its_fence() {
    let mut rig = holding();
    rig.run(secs(3600));
    assert_eq!(starts(&rig), 1);
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].grant.unwrap().fence, fence(1));
    let asked = rig.count(|done| *done == Done::Need(1));
    // Three for each lease, and an eighth of that sooner at most.
    assert!((170..=215).contains(&asked), "{asked}");
}

#[test]
fn a_right_ends_when_it_was_counted_from_the_question_and_never_later() {
    let mut rig = holding();
    cut_off(&mut rig);
    let (asked_at, _) = *rig.nonces.last().unwrap();
    let end = asked_at.after(longest());
    rig.run(end.since(rig.now) - STOP_BEFORE - ms(1));
    assert!(rig.runs("a"));
    rig.run(STOP_BEFORE);
    assert!(!rig.runs("a"), "it is asked to stop a second before");
    rig.run(secs(3600));
    assert_eq!(starts(&rig), 1);
    // Without a connection the reason is known to local tools only.
    let entry = rig.agent.entries().next().unwrap();
    assert_eq!((entry.state, entry.reason), (State::Waiting, Reason::LEASE_EXPIRED));
    rig.broker_up = true;
    rig.run(secs(120));
    assert!(rig.runs("a"));
}

#[test]
fn a_slow_answer_gives_less_time_and_one_that_is_too_slow_gives_none() {
    let mut rig = Rig::new();
    rig.grant_delay = secs(15);
    rig.publish(set(1, &[exclusive(1, "a")]));
    rig.run(secs(300));
    let sent: Vec<Instant> = rig.nonces.iter().map(|(at, _)| *at).collect();
    let until = rig.terms[&rig.launch_of(1, 0)].until().unwrap();
    assert!(sent.contains(&until.before(longest())), "counted from a question");
    assert!(until.since(rig.now) <= longest() - secs(15));
    let mut rig = Rig::new();
    rig.grant_delay = secs(58);
    rig.publish(set(1, &[exclusive(1, "a")]));
    rig.run(secs(600));
    assert_eq!(starts(&rig), 0);
}

#[test]
fn a_grant_that_nobody_asked_for_or_that_was_used_already_gives_nothing() {
    let mut rig = Rig::new();
    rig.grants = false;
    rig.publish(set(1, &[exclusive(1, "a")]));
    rig.run(secs(15));
    rig.grant(Nonce([1; 8]), 1, 7);
    rig.run(secs(1));
    assert!(!rig.runs("a"));
    let (_, nonce) = *rig.nonces.last().unwrap();
    rig.grant(nonce, 2, 7);
    rig.run(ms(100));
    assert!(!rig.runs("a"), "of another workload");
    rig.grant(nonce, 1, 7);
    rig.run(secs(1));
    assert!(rig.runs("a"));
    let until = rig.terms[&rig.launch_of(1, 0)].until();
    cut_off(&mut rig);
    rig.broker_up = true;
    rig.run(secs(20));
    rig.grant(nonce, 1, 7);
    rig.run(secs(1));
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].until(), until, "an answer counts once");
}

#[test]
fn a_renewal_with_a_lower_fence_is_ignored() {
    let mut rig = Rig::new();
    rig.grants = false;
    rig.publish(set(1, &[exclusive(1, "a")]));
    rig.run(secs(15));
    let (_, nonce) = *rig.nonces.last().unwrap();
    rig.grant(nonce, 1, 7);
    rig.run(secs(25));
    let (_, nonce) = *rig.nonces.last().unwrap();
    rig.grant(nonce, 1, 6);
    rig.run(ms(100));
    let before = rig.terms[&rig.launch_of(1, 0)];
    rig.run(secs(15));
    let (_, nonce) = *rig.nonces.last().unwrap();
    rig.grant(nonce, 1, 8);
    rig.run(secs(1));
    let after = rig.terms[&rig.launch_of(1, 0)];
    assert_eq!((before.grant.unwrap().fence, after.grant.unwrap().fence), (fence(7), fence(8)));
    assert!(after.until() > before.until());
}

#[test]
fn c6_a_reset_within_a_lease_waits_for_a_new_grant() {
    let mut rig = holding();
    let granted_at = rig.granted[&1].at;
    rig.reboot(ResetCause::PowerOn);
    // What was sent to the boot before is still on its way, or was kept by a broker that should not have.
    for frame in rig.grants_sent.clone() {
        rig.later(secs(10), Answer::Message(Inbound::Down(Down::Grant), frame));
    }
    rig.run(granted_at.after(ms(LEASE_MS + 2000)).since(rig.now) - ms(1));
    assert!(!rig.runs("a"));
    rig.run(secs(40));
    assert!(rig.runs("a"));
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].grant.unwrap().fence, fence(2));
}

#[test]
fn c7_a_hundred_resets_without_the_hub_run_for_one_lease_at_most() {
    for seed in 0..5 {
        let mut rig = holding();
        rig.run(secs(seed * 7));
        let before = rig.ran(1);
        cut_off(&mut rig);
        let asked_at = rig.nonces.last().unwrap().0;
        let had = rig.now.since(asked_at);
        for boot in 0..100 {
            rig.run(secs((boot * 13 + seed) % 29));
            rig.reboot(if boot % 2 == 0 { ResetCause::PowerOn } else { ResetCause::Watchdog });
        }
        rig.run(secs(600));
        assert!(rig.ran(1) - before + had <= longest(), "{:?}", rig.ran(1) - before);
        assert_eq!(starts(&rig), 1);
    }
}

/// The device's clock goes slower than the world's by what is allowed. The oracle is the world's.
#[test]
fn c8_a_clock_that_drifts_as_much_as_is_allowed_stops_within_the_lease() {
    let mut rig = holding();
    cut_off(&mut rig);
    let (asked_at, _) = *rig.nonces.last().unwrap();
    rig.run(secs(120));
    let stopped = rig.done.iter().find(|(_, done)| *done == Done::Stop(1, 0)).unwrap().0;
    let last_effect = stopped.after(STOP_BEFORE).after(ms(100));
    let by_device = last_effect.since(asked_at);
    for drift_ppm in [0, 1_000, DRIFT_PPM_MAX] {
        let in_the_world = by_device.as_millis() as u64 * 1_000_000 / (1_000_000 - u64::from(drift_ppm));
        assert!(in_the_world < LEASE_MS, "{drift_ppm}: {in_the_world}");
    }
    // And one that is twice as wrong would not: the fence is for that.
    assert!(by_device.as_millis() as u64 * 100 / 90 > LEASE_MS);
}

#[test]
fn c9_a_jump_of_the_hubs_clock_changes_nothing_but_the_time_of_day() {
    let mut rig = holding();
    for wall_ms in [1_730_000_000_000, 1_670_000_000_000, 0, u64::MAX] {
        rig.wall_ms = wall_ms;
        rig.run(secs(1000));
        assert!(rig.runs("a"));
        let right = rig.terms[&rig.launch_of(1, 0)].grant.unwrap();
        assert!(right.until.since(rig.now) <= longest());
    }
    assert_eq!(starts(&rig), 1);
    assert!(rig.logs.iter().any(|(_, text)| text.contains("the hub's time is")), "{:?}", rig.logs);
    cut_off(&mut rig);
    rig.run(secs(61));
    assert!(!rig.runs("a"));
}

#[test]
fn c26_a_pause_longer_than_the_lease_is_followed_by_the_stop_and_nothing_else() {
    let filters: &'static mut [u8] = std::vec![0; 64].leak();
    let topics = Topics::encode(filters, &["a", "local/a"]).unwrap();
    let mut rig = Rig::new();
    let component =
        service(1, 0, "a").with(Clause::Every(500)).with(Clause::Topics(topics)).with(Clause::Lease(LEASE_MS));
    rig.publish(set(1, &[service(0, 0, "first").with(Clause::Every(100)), component]));
    rig.run(secs(15));
    assert!(rig.runs("a"));
    let launch = rig.launch_of(1, 0);
    rig.agent.handle(rig.now, Input::Emit { launch, topic: "local/a", payload: b"x" });
    let paused = rig.now.after(secs(90));
    rig.pass(paused);
    rig.done.clear();
    rig.input(1, 1, "a", b"x");
    rig.agent.handle(rig.now, Input::Activated { launch, trigger: Trigger::Timer });
    rig.drain();
    assert_eq!(rig.done.first().unwrap(), &(paused, Done::Stop(1, 0)));
    rig.run(ms(300));
    assert_eq!(rig.count(|done| matches!(done, Done::Activate(1, 0) | Done::Deliver(1, ..))), 0);
}

#[test]
fn what_a_shell_cut_at_the_end_of_its_right_is_no_failure() {
    let mut rig = holding();
    cut_off(&mut rig);
    let launch = rig.launch_of(1, 0);
    let until = rig.terms[&launch].until().unwrap();
    // The shell looks at the same clock and is quicker than the loop.
    rig.pass(until);
    rig.give(Answer::Exited(launch, Exit::Failed(Failure::Exited)));
    rig.drain();
    let entry = rig.agent.entries().next().unwrap();
    assert_eq!((entry.state, entry.reason, entry.attempts), (State::Waiting, Reason::LEASE_EXPIRED, 0));
}

#[test]
fn work_that_is_taken_away_is_given_back_once_it_has_stopped() {
    let mut rig = holding();
    rig.publish(set(2, &[service(2, 0, "b")]));
    rig.run(secs(5));
    let place = |done: &Done| rig.done.iter().position(|(_, other)| other == done).unwrap();
    assert!(place(&Done::Stop(1, 0)) < place(&Done::Released(1, 1)));
    assert_eq!(rig.count(|done| matches!(done, Done::Released(..))), 1);
    // And back: another fence, since the first one is anybody's.
    rig.publish(set(3, &[exclusive(1, "a")]));
    rig.run(secs(10));
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].grant.unwrap().fence, fence(2));
}

#[test]
fn what_was_given_back_is_said_again_until_it_is_acknowledged_and_not_used_meanwhile() {
    let mut rig = holding();
    rig.acknowledges = false;
    rig.hub_up = false;
    rig.publish(set(2, &[service(2, 0, "b")]));
    rig.later(ms(1), Answer::Message(Inbound::Down(Down::Desired), set(2, &[service(2, 0, "b")]).frame));
    rig.run(secs(3));
    assert_eq!(rig.count(|done| matches!(done, Done::Released(..))), 1);
    rig.cut();
    (rig.acknowledges, rig.hub_up) = (true, true);
    // It is wanted again before the hub has heard that it was given back: the old fence is not taken up again.
    rig.publish(set(3, &[exclusive(1, "a")]));
    rig.run(secs(30));
    assert!(rig.count(|done| *done == Done::Released(1, 1)) >= 2);
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].grant.unwrap().fence, fence(2));
}

#[test]
fn a_hub_that_did_not_hear_of_the_return_is_told_again() {
    let mut rig = holding();
    rig.hub_up = false;
    rig.later(ms(1), Answer::Message(Inbound::Down(Down::Desired), set(2, &[service(2, 0, "b")]).frame));
    rig.run(secs(3));
    assert_eq!(rig.count(|done| matches!(done, Done::Released(..))), 1);
    rig.hub_up = true;
    rig.publish(set(3, &[exclusive(1, "a")]));
    // The hub still believes in the first fence and renews it.
    rig.run(secs(30));
    assert_eq!(rig.count(|done| matches!(done, Done::Released(..))), 2);
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].grant.unwrap().fence, fence(2));
}

#[test]
fn an_agent_that_ends_gives_back_first_but_does_not_wait_for_long() {
    let mut rig = holding();
    rig.agent.handle(rig.now, Input::Shutdown);
    rig.run(secs(1));
    let place = |done: &Done| rig.done.iter().position(|(_, other)| other == done).unwrap();
    assert!(place(&Done::Stop(1, 0)) < place(&Done::Released(1, 1)));
    assert!(place(&Done::Released(1, 1)) < place(&Done::Disconnect));
    assert!(rig.agent.is_finished());

    let mut rig = holding();
    rig.acknowledges = false;
    rig.agent.handle(rig.now, Input::Shutdown);
    rig.run(RELEASE_WITHIN - ms(10));
    assert!(!rig.agent.is_finished());
    rig.run(secs(1));
    assert!(rig.agent.is_finished());

    let mut rig = holding();
    cut_off(&mut rig);
    rig.agent.handle(rig.now, Input::Shutdown);
    rig.run(secs(1));
    assert!(rig.agent.is_finished());
}

#[test]
fn a_job_that_is_done_gives_its_right_back() {
    let mut rig = Rig::new();
    rig.artifact_does("a", Behaviour::CompletesAfter(500));
    rig.publish(set(1, &[exclusive(1, "a").role(wire::record::Role::Job)]));
    rig.run(secs(20));
    assert_eq!(rig.count(|done| matches!(done, Done::Released(1, 1))), 1);
    rig.run(secs(600));
    assert_eq!((starts(&rig), rig.count(|done| *done == Done::Need(1))), (1, 1));
}

#[test]
fn components_of_one_workload_share_a_right_and_end_together() {
    let mut rig = Rig::new();
    let second = service(1, 1, "b").with(Clause::Lease(LEASE_MS));
    rig.publish(set(1, &[exclusive(1, "a"), second]));
    rig.run(secs(15));
    let rights = [0, 1].map(|component| rig.terms[&rig.launch_of(1, component)].grant);
    assert!(rights[0].is_some() && rights[0] == rights[1]);
    cut_off(&mut rig);
    rig.run(secs(61));
    assert!(!rig.runs("a") && !rig.runs("b"));
}

#[test]
fn a_new_version_takes_over_the_right_of_the_old_one() {
    let mut rig = holding();
    rig.publish(set(2, &[exclusive(1, "a2")]));
    rig.run(secs(5));
    assert!(rig.runs("a2"));
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].grant.unwrap().fence, fence(1));
    assert_eq!(rig.count(|done| matches!(done, Done::Released(..))), 0);
}

#[test]
fn work_that_becomes_exclusive_ends_until_it_is_granted_and_goes_on_when_it_no_longer_is() {
    let mut rig = Rig::new();
    rig.grants = false;
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(15));
    rig.publish(set(2, &[exclusive(1, "a")]));
    rig.run(secs(5));
    assert!(!rig.runs("a"));
    rig.grants = true;
    rig.run(secs(40));
    assert!(rig.runs("a"));
    let starts_before = starts(&rig);
    rig.publish(set(3, &[service(1, 0, "a")]));
    rig.run(secs(5));
    assert_eq!(rig.terms[&rig.launch_of(1, 0)], Terms::default());
    assert_eq!(starts(&rig), starts_before, "it is not disturbed");
    assert_eq!(rig.count(|done| matches!(done, Done::Released(..))), 1);
}

#[test]
fn events_of_exclusive_work_carry_its_fence_and_others_none() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[exclusive(1, "a"), service(2, 0, "b")]));
    rig.run(secs(15));
    for workload in [1, 2] {
        let launch = rig.launch_of(workload, 0);
        rig.agent.handle(rig.now, Input::Emit { launch, topic: "t", payload: b"x" });
    }
    rig.run(secs(1));
    assert_eq!(rig.event_fences, [Some(fence(1)), None]);
}

#[test]
fn an_input_of_a_sender_that_lost_its_right_is_refused_and_counted() {
    let filters: &'static mut [u8] = std::vec![0; 64].leak();
    let topics = Topics::encode(filters, &["a"]).unwrap();
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "b").with(Clause::Topics(topics))]));
    rig.run(secs(15));
    for (sequence, counter) in [(1, 5), (2, 6), (3, 5), (4, 6), (5, 7)] {
        rig.fenced_input(sequence, 1, 9, counter);
    }
    rig.fenced_input(6, 1, 8, 1);
    rig.run(secs(1));
    assert_eq!(rig.count(|done| matches!(done, Done::Deliver(..))), 5);
    assert_eq!(rig.agent.inputs_fenced(), 1);
    assert!(rig.logs.iter().any(|(_, text)| text.contains("lost its right")));
}

#[test]
fn a_lease_that_this_device_cannot_hold_is_refused() {
    for (ms, is_refused) in [(14_999, true), (15_000, false), (3_600_000, false), (3_600_001, true)] {
        let mut rig = Rig::new();
        rig.publish(set(1, &[service(1, 0, "a").with(Clause::Lease(ms))]));
        rig.run(secs(5));
        rig.ask_status();
        assert_eq!(rig.entry(1, 0).reason == Reason::NOT_SUPPORTED, is_refused, "{ms}");
    }
}

#[test]
fn questions_are_repeated_with_growing_pauses_up_to_half_a_third() {
    let mut rig = Rig::new();
    rig.grants = false;
    rig.publish(set(1, &[exclusive(1, "a")]));
    rig.run(secs(300));
    let times: Vec<Instant> = rig.nonces.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses[0] <= ms(2400) && pauses[0] >= ms(1600), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= secs(12)), "{pauses:?}");
    assert!(pauses.last().unwrap() >= &secs(8), "{pauses:?}");
}

#[test]
fn c26_an_event_that_is_handed_over_after_the_end_of_its_right_goes_nowhere() {
    let mut rig = holding();
    let launch = rig.launch_of(1, 0);
    let until = rig.terms[&launch].until().unwrap();
    rig.pass(until.before(ms(1)));
    rig.agent.handle(rig.now, Input::Emit { launch, topic: "t", payload: b"in time" });
    rig.pass(until);
    rig.agent.handle(rig.now, Input::Emit { launch, topic: "t", payload: b"late" });
    rig.agent.handle(rig.now, Input::Emit { launch, topic: "local/t", payload: b"late" });
    rig.run(secs(120));
    let payloads: Vec<&[u8]> = rig.events.iter().map(|(_, _, payload)| &payload[..]).collect();
    assert_eq!(payloads, [&b"in time"[..]]);
    assert_eq!(rig.agent.lost().events, 2);
}
