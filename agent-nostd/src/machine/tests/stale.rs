//! Work that stops, or does less, when the hub was not heard for too long: over resets, whatever the clock says.
use super::rig::*;
use crate::machine::lease::STOP_BEFORE;
use crate::machine::port::*;
use crate::machine::stale::{FLOOR_EVERY, STEPS_AHEAD};
use crate::machine::time::Duration;
use wire::clause::{Clause, OnStale, StaleAction};
use wire::hello::ResetCause;
use wire::lease::{DRIFT_PPM_MAX, hold_ms};
use wire::status::{Reason, State};

const LIMIT_MS: u64 = 600_000;
const STEP: Duration = Duration::from_millis(LIMIT_MS / 8);

fn limited(code: &str) -> Component {
    service(1, 0, code).with(Clause::StopAfter(LIMIT_MS))
}

fn on_stale(code: &str, action: StaleAction) -> Component {
    service(1, 0, code).with(Clause::OnStale(OnStale { after_ms: LIMIT_MS, action }))
}

fn running(component: Component) -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, &[component]));
    rig.run(secs(15));
    assert!(rig.runs("a"));
    rig
}

fn cut_off(rig: &mut Rig) {
    rig.broker_up = false;
    rig.cut();
}

fn longest() -> Duration {
    ms(hold_ms(LIMIT_MS, DRIFT_PPM_MAX, 100))
}

fn writes(rig: &Rig) -> usize {
    rig.count(|done| *done == Done::Persist(JournalKey::Clock))
}

/// Found by seeds 68 and 100 of the simulator: the record of the time without the hub was written for work that was gone since, or
/// only for the sake of the wall time, and work that came later believed it after a reset.
#[test]
fn time_that_nobody_counted_is_not_believed_after_a_reset() {
    let mut rig = running(limited("a"));
    // The work goes, and for an hour nothing counts how long the hub has been away.
    rig.publish(set(2, &[service(2, 0, "b")]));
    rig.run(secs(15));
    cut_off(&mut rig);
    rig.run(secs(3600));
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(5));
    assert_eq!(rig.agent.unheard_for(rig.now), None, "it may be anything");
}

/// Found by seed 157 of the simulator's weeks: a version that ran on while the next one was fetched kept the time of its own set.
#[test]
fn a_shorter_time_without_the_hub_holds_for_what_runs_while_the_next_version_is_not_there() {
    let mut rig = running(limited("a"));
    let before = rig.terms[&rig.launch_of(1, 0)].until();
    rig.served = Some(std::collections::BTreeSet::new());
    rig.publish(set(2, &[service(1, 0, "b").generation(2).with(Clause::StopAfter(LIMIT_MS / 2))]));
    rig.run(secs(15));
    assert!(rig.runs("a") && !rig.runs("b"), "the next version is not there");
    let until = rig.terms[&rig.launch_of(1, 0)].until();
    let longest = ms(hold_ms(LIMIT_MS / 2, DRIFT_PPM_MAX, 100));
    assert_eq!(until, Some(rig.agent.fresh_at().unwrap().after(longest)));
    assert!(until < before);
}

#[test]
fn work_with_a_limit_stops_when_the_hub_was_not_heard_for_so_long_and_starts_again_when_it_is() {
    let mut rig = running(limited("a"));
    rig.run(secs(3600));
    assert!(rig.runs("a"));
    cut_off(&mut rig);
    let end = rig.agent.fresh_at().unwrap().after(longest());
    assert_eq!(rig.terms[&rig.launch_of(1, 0)].until(), Some(end));
    rig.run(end.since(rig.now) - STOP_BEFORE - ms(1));
    assert!(rig.runs("a"));
    rig.run(STOP_BEFORE);
    assert!(!rig.runs("a"));
    rig.run(secs(3600));
    let entry = rig.agent.entries().next().unwrap();
    assert_eq!((entry.state, entry.reason, entry.restarts), (State::Waiting, Reason::STALE, 0));
    rig.broker_up = true;
    rig.run(secs(120));
    assert!(rig.runs("a"));
    assert_eq!(rig.entry(1, 0).reason, Reason::NONE);
}

#[test]
fn while_the_hub_is_heard_the_journal_is_left_alone() {
    let mut rig = running(limited("a"));
    let before = writes(&rig);
    rig.run(secs(24 * 3600));
    assert!(rig.runs("a"));
    // The time of day, once an hour at most; here it stands still.
    assert_eq!(writes(&rig), before);
    cut_off(&mut rig);
    rig.run(secs(24 * 3600));
    assert!((4..=8).contains(&(writes(&rig) - before)), "{}", writes(&rig) - before);
}

#[test]
fn a_reset_costs_no_more_than_what_was_written_ahead() {
    let mut rig = running(limited("a"));
    cut_off(&mut rig);
    rig.run(STEP * 4);
    let passed = rig.now.since(rig.agent.fresh_at().unwrap());
    rig.reboot(ResetCause::PowerOn);
    let left = rig.agent.unheard_for(rig.now).unwrap();
    assert!(left >= passed && left <= passed + STEP, "{left:?} {passed:?}");
    rig.run(secs(2));
    assert!(rig.runs("a"), "it goes on from the journal");
    rig.run(longest() - left - STOP_BEFORE - secs(3));
    assert!(rig.runs("a"));
    rig.run(STOP_BEFORE + secs(2));
    assert!(!rig.runs("a"));
}

#[test]
fn a_reset_soon_after_the_hub_was_heard_counts_as_three_eighths() {
    let mut rig = running(limited("a"));
    rig.reboot(ResetCause::PowerOn);
    rig.broker_up = false;
    assert_eq!(rig.agent.unheard_for(rig.now), Some(STEP * STEPS_AHEAD));
    rig.run(secs(5));
    assert!(rig.runs("a"));
}

#[test]
fn c7_a_hundred_resets_without_the_hub_run_for_one_limit_at_most() {
    for seed in 0..5 {
        let mut rig = running(limited("a"));
        let heard_at = rig.agent.fresh_at().unwrap();
        cut_off(&mut rig);
        let (before, had) = (rig.ran(1), rig.now.since(heard_at));
        let writes_before = writes(&rig);
        for boot in 0..100 {
            rig.run(secs((boot * 13 + seed) % 29));
            rig.reboot(if boot % 2 == 0 { ResetCause::PowerOn } else { ResetCause::Watchdog });
        }
        rig.run(secs(3600));
        assert!(rig.ran(1) - before + had <= ms(LIMIT_MS), "{:?}", rig.ran(1) - before);
        // A loop of resets ends writing when nothing is left to use.
        assert!(writes(&rig) - writes_before <= 8, "{}", writes(&rig) - writes_before);
    }
}

#[test]
fn without_a_record_of_the_time_it_waits_for_the_hub() {
    let mut rig = running(limited("a"));
    rig.store.slots.remove(&(JournalKey::Clock as u8));
    rig.reboot(ResetCause::PowerOn);
    rig.broker_up = false;
    rig.run(secs(60));
    assert!(!rig.runs("a"));
    assert_eq!(rig.agent.entries().next().unwrap().reason, Reason::STALE);
    rig.broker_up = true;
    rig.run(secs(120));
    assert!(rig.runs("a"));
}

#[test]
fn time_that_cannot_be_written_down_is_not_used() {
    let mut rig = running(limited("a"));
    cut_off(&mut rig);
    rig.disk = Disk::Full;
    let heard_at = rig.agent.fresh_at().unwrap();
    rig.run(secs(3600));
    let stopped = rig.done.iter().find(|(_, done)| *done == Done::Stop(1, 0)).unwrap().0;
    assert_eq!(stopped.since(heard_at), STEP * STEPS_AHEAD);
    rig.disk = Disk::Good;
    rig.broker_up = true;
    rig.run(secs(400));
    assert!(rig.runs("a"));
}

#[test]
fn stale_work_stops_degrades_or_goes_on_as_it_asked() {
    for action in [StaleAction::Continue, StaleAction::Degrade, StaleAction::Stop] {
        let mut rig = running(on_stale("a", action));
        let launch = rig.launch_of(1, 0);
        assert!(!rig.terms[&launch].is_degraded);
        cut_off(&mut rig);
        rig.run(ms(LIMIT_MS) - secs(20));
        assert!(!rig.terms[&launch].is_degraded);
        rig.run(secs(40));
        assert_eq!(rig.runs("a"), action != StaleAction::Stop, "{action:?}");
        assert_eq!(rig.terms[&launch].is_degraded, action == StaleAction::Degrade, "{action:?}");
        rig.broker_up = true;
        rig.run(secs(120));
        assert!(rig.runs("a"));
        assert!(!rig.terms[&rig.launch_of(1, 0)].is_degraded);
        assert_eq!(rig.launch_of(1, 0) == launch, action != StaleAction::Stop, "no restart but after a stop");
    }
}

#[test]
fn a_changed_limit_applies_without_a_restart() {
    let mut rig = running(limited("a"));
    let launch = rig.launch_of(1, 0);
    let until = rig.terms[&launch].until().unwrap();
    rig.publish(set(2, &[service(1, 0, "a").with(Clause::StopAfter(LIMIT_MS * 2))]));
    rig.run(secs(5));
    assert_eq!(rig.launch_of(1, 0), launch);
    assert!(rig.terms[&launch].until().unwrap() > until.after(ms(LIMIT_MS / 2)));
    rig.publish(set(3, &[service(1, 0, "a")]));
    rig.run(secs(5));
    assert_eq!((rig.launch_of(1, 0), rig.terms[&launch].until()), (launch, None));
}

#[test]
fn the_hub_is_asked_as_often_as_the_shortest_limit_needs() {
    let hellos = |component: Option<Component>| {
        let mut rig = Rig::new();
        rig.publish(set(1, &component.into_iter().collect::<std::vec::Vec<_>>()));
        rig.run(secs(20));
        let before = rig.count(|done| matches!(done, Done::Hello(..)));
        rig.run(secs(7200));
        rig.count(|done| matches!(done, Done::Hello(..))) - before
    };
    let plain = hellos(None);
    assert!((8..=12).contains(&plain), "{plain}");
    // A quarter of ten minutes; a third of a minute.
    let limited = hellos(Some(limited("a")));
    assert!((48..=75).contains(&limited), "{limited}");
    let leased = hellos(Some(service(1, 0, "a").with(Clause::Lease(60_000))));
    assert!((360..=540).contains(&leased), "{leased}");
}

#[test]
fn c9_the_time_of_day_is_kept_over_resets_and_the_hubs_word_counts_both_ways() {
    let mut rig = running(service(1, 0, "a"));
    let first = rig.wall_ms;
    assert!(rig.agent.unix_ms(rig.now).unwrap() >= first);
    rig.reboot(ResetCause::PowerOn);
    rig.broker_up = false;
    rig.run(secs(3600));
    assert_eq!(rig.agent.unix_ms(rig.now), None, "not known in this boot");
    let floor = rig.agent.unix_ms_floor(rig.now).unwrap();
    assert!(floor > first + 3_400_000 && floor < first + 3_700_000, "{}", floor - first);
    // The hub says an earlier time, and is believed.
    rig.wall_ms = first - 365 * 24 * 3_600_000;
    rig.broker_up = true;
    rig.run(secs(120));
    assert!(rig.agent.unix_ms(rig.now).unwrap() < first);
    rig.reboot(ResetCause::PowerOn);
    assert!(rig.agent.unix_ms_floor(rig.now).unwrap() < first);
}

#[test]
fn the_time_of_day_is_written_once_an_hour_at_most() {
    let mut rig = running(service(1, 0, "a"));
    let (start, wall) = (rig.now, rig.wall_ms);
    let before = writes(&rig);
    for _ in 0..400 {
        rig.wall_ms = wall + u64::try_from(rig.now.since(start).as_millis()).unwrap();
        rig.run(secs(200));
    }
    let hours = usize::try_from(rig.now.since(start).as_secs() / FLOOR_EVERY.as_secs()).unwrap();
    let written = writes(&rig) - before;
    assert!(written <= hours && written + 5 >= hours, "{written} of {hours}");
}

#[test]
fn c23_after_sixty_days_away_what_is_known_runs_and_new_code_waits_for_the_hub() {
    let mut rig = running(service(1, 0, "a"));
    cut_off(&mut rig);
    for hour in 0..60 * 24u64 {
        let launch = rig.launch_of(1, 0);
        rig.agent.handle(rig.now, Input::Emit { launch, topic: "t", payload: &hour.to_le_bytes() });
        rig.run(secs(3600));
    }
    assert!(rig.runs("a"));
    // What found no room is counted, and tells no less than what was said.
    let kept = 60 * 24 - u64::from(rig.agent.lost().events);
    assert!(kept > 10 && kept < 60 * 24, "{kept}");
    rig.reboot(ResetCause::PowerOn);
    // A broker that kept a set, and no hub: the set is signed, its code is not here.
    (rig.broker_up, rig.hub_up) = (true, false);
    let new = set(2, &[service(1, 0, "a"), service(2, 0, "b")]);
    rig.bodies.insert(new.header.body, new.body.clone());
    rig.retained = Some(new.frame.clone());
    rig.set = Some(new);
    rig.run(secs(3600));
    assert_eq!((rig.accepted(), rig.runs("a"), rig.runs("b")), (2, true, false));
    let reason = rig.agent.entries().find(|entry| entry.workload.0 == 2).unwrap().reason;
    assert_eq!(reason, Reason::WAITS_FOR_FRESH);
    rig.hub_up = true;
    rig.run(secs(120));
    assert!(rig.runs("b"));
}
