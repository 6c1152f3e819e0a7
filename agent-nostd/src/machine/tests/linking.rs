//! The connection: order of subscriptions, Hello and Fresh, deadlines, pauses.
use super::rig::*;
use crate::machine::port::*;
use crate::machine::session::{BUSY_JITTER, CONNECT_BACK_OFF_BASE, REFUSALS_MAX, STEADY_AFTER};
use crate::machine::time::{Duration, Instant};
use std::vec::Vec;
use wire::DeviceId;
use wire::hello::{Asks, HelloFixed, RefusalReason};
use wire::topic::Down;

fn hellos(rig: &Rig) -> Vec<(Instant, HelloFixed, bool, bool)> {
    let of = |(at, done): &(Instant, Done)| match done {
        Done::Hello(fixed, capabilities, proof) => Some((*at, *fixed, *capabilities, *proof)),
        _ => None,
    };
    rig.done.iter().filter_map(of).collect()
}

fn joined() -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(20));
    rig
}

fn desired(handling: RetainHandling) -> Done {
    Done::Subscribe(Subscription::Desired(handling))
}

#[test]
fn hello_comes_after_the_live_subscription_and_before_the_desired_one() {
    let rig = joined();
    let at = |wanted: &dyn Fn(&Done) -> bool| rig.done.iter().position(|(_, done)| wanted(done)).unwrap();
    let live = at(&|done| *done == Done::Subscribe(Subscription::Live));
    let hello = at(&|done| matches!(done, Done::Hello(..)));
    assert!(live < hello && hello < at(&|done| *done == desired(RetainHandling::Skip)));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
}

#[test]
fn without_fresh_hello_is_repeated_and_the_retained_copy_asked_for() {
    let mut rig = Rig::new();
    rig.hub_up = false;
    rig.run(secs(9));
    assert_eq!(rig.count(|done| *done == desired(RetainHandling::Send)), 0);
    rig.run(secs(300));
    let hellos = hellos(&rig);
    assert!((4..60).contains(&hellos.len()), "{}", hellos.len());
    let mut nonces: Vec<_> = hellos.iter().map(|hello| hello.1.nonce.0).collect();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), hellos.len());
    assert_eq!(rig.count(|done| *done == desired(RetainHandling::Send)), 1);
}

#[test]
fn a_fresh_for_another_nonce_or_too_late_is_ignored() {
    let mut rig = Rig::new();
    rig.hub_up = false;
    rig.run(secs(2));
    let (_, first, ..) = hellos(&rig)[0];
    let stranger = rig.fresh(wire::Nonce([1; 8]));
    rig.down(Down::Fresh, stranger);
    rig.run(ms(10));
    assert_eq!(rig.agent.link(), LinkState::Linked);
    while hellos(&rig).len() < 2 {
        rig.run(ms(100));
    }
    let stale = rig.fresh(first.nonce);
    rig.down(Down::Fresh, stale);
    rig.run(ms(10));
    assert_eq!(rig.agent.link(), LinkState::Linked);
    // The latest nonce, tampered with, then as it is.
    let latest = hellos(&rig).last().unwrap().1.nonce;
    let mut bad = rig.fresh(latest);
    *bad.last_mut().unwrap() ^= 1;
    rig.down(Down::Fresh, bad);
    rig.run(ms(10));
    assert_eq!(rig.agent.link(), LinkState::Linked);
    let good = rig.fresh(latest);
    rig.down(Down::Fresh, good.clone());
    rig.run(ms(10));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
    assert!(rig.agent.unix_ms(rig.now).unwrap() > 1_700_000_000_000);
}

#[test]
fn a_fresh_counts_only_within_thirty_seconds_of_its_hello() {
    let mut rig = Rig::new();
    rig.hub_up = false;
    rig.run(secs(60));
    let waited = |rig: &Rig| rig.now.since(hellos(rig).last().unwrap().0);
    while waited(&rig) < secs(31) {
        rig.run(secs(1));
    }
    let late = rig.fresh(hellos(&rig).last().unwrap().1.nonce);
    rig.give(Answer::Message(Inbound::Down(Down::Fresh), late));
    assert_eq!(rig.agent.link(), LinkState::Linked);
    while waited(&rig) < secs(20) || waited(&rig) > secs(29) {
        rig.run(secs(1));
    }
    let in_time = rig.fresh(hellos(&rig).last().unwrap().1.nonce);
    rig.give(Answer::Message(Inbound::Down(Down::Fresh), in_time));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
}

#[test]
fn what_fresh_announced_and_did_not_come_is_asked_for() {
    let mut rig = Rig::new();
    rig.publishes = false;
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(30));
    assert_eq!(rig.accepted(), 1);
    assert!(rig.count(|done| *done == desired(RetainHandling::Send)) >= 1);
}

#[test]
fn connecting_backs_off_with_full_jitter() {
    let mut rig = Rig::new();
    rig.broker_up = false;
    rig.run(secs(3600));
    let connects: Vec<_> = rig.done.iter().filter(|(_, done)| *done == Done::Connect).map(|(at, _)| *at).collect();
    assert!((60..400).contains(&connects.len()), "{}", connects.len());
    let gaps: Vec<Duration> = connects.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.iter().all(|gap| *gap <= secs(61)));
    assert!(gaps.iter().any(|gap| *gap > secs(40)) && gaps.iter().skip(10).any(|gap| *gap < secs(15)));
}

#[test]
fn five_refusals_pause_for_an_hour() {
    let mut rig = Rig::new();
    rig.refuses = Some((RefusalReason::Quarantined, 1));
    rig.run(secs(600));
    assert_eq!(hellos(&rig).len(), 5);
    rig.refuses = None;
    rig.run(secs(2700));
    assert_eq!(hellos(&rig).len(), 5);
    rig.run(secs(1000));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
}

#[test]
fn waiting_for_an_approval_never_leads_to_the_long_pause() {
    let mut rig = Rig::new();
    rig.refuses = Some((RefusalReason::NotApproved, 1));
    rig.run(secs(1200));
    assert!(hellos(&rig).len() > 10, "{}", hellos(&rig).len());
    rig.refuses = None;
    rig.run(secs(120));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
}

#[test]
fn an_approval_soon_after_the_refusal_answers_the_same_hello() {
    let mut rig = Rig::new();
    rig.refuses = Some((RefusalReason::NotApproved, 150));
    rig.run(secs(10));
    let nonce = hellos(&rig).last().unwrap().1.nonce;
    let fresh = rig.fresh(nonce);
    rig.down(Down::Fresh, fresh);
    rig.run(secs(1));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
}

#[test]
fn a_hint_to_come_later_is_followed_to_ten_minutes_at_most() {
    let mut rig = Rig::new();
    rig.refuses = Some((RefusalReason::Busy, u32::MAX));
    rig.run(secs(590));
    assert_eq!(hellos(&rig).len(), 1);
    rig.run(secs(80));
    assert_eq!(hellos(&rig).len(), 2);
}

#[test]
fn a_missing_puback_drops_the_link() {
    let mut rig = joined();
    rig.run(secs(60));
    let before = rig.count(|done| *done == Done::Heartbeat);
    assert!(before >= 1);
    rig.acknowledges = false;
    rig.run(secs(50));
    assert!(rig.count(|done| *done == Done::Disconnect) >= 1);
    let end = rig.done.iter().position(|(_, done)| *done == Done::Disconnect).unwrap();
    let (beat, _) = rig.done[..end].iter().rev().find(|(_, done)| *done == Done::Heartbeat).unwrap();
    assert_eq!(rig.done[end].0.since(*beat), KEEP_ALIVE / 2);
    rig.acknowledges = true;
    rig.run(secs(120));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
    assert_eq!(rig.starts_of("a"), 1);
}

#[test]
fn c4_a_half_open_link_lives_for_half_a_keep_alive_and_never_for_more_than_twenty_seconds() {
    for (keep_alive, within) in [(KEEP_ALIVE, KEEP_ALIVE / 2), (secs(120), secs(20))] {
        let mut rig = joined();
        rig.agent.config.keep_alive = keep_alive;
        // What it sends arrives; what comes back is lost.
        rig.acknowledges = false;
        rig.run(secs(60));
        let end = rig.done.iter().position(|(_, done)| *done == Done::Disconnect).unwrap();
        let (beat, _) = rig.done[..end].iter().rev().find(|(_, done)| *done == Done::Heartbeat).unwrap();
        assert_eq!(rig.done[end].0.since(*beat), within, "{keep_alive:?}");
    }
}

#[test]
fn a_suback_that_never_comes_drops_the_link() {
    let mut rig = Rig::new();
    rig.run(secs(1));
    rig.cut();
    while !rig.answers.iter().any(|(_, answer)| matches!(answer, Answer::Subscribed(_))) {
        rig.run(ms(1));
    }
    rig.answers.clear();
    rig.run(secs(25));
    assert_eq!(rig.count(|done| *done == Done::Disconnect), 1);
}

#[test]
fn a_link_that_is_cut_after_every_greeting_is_opened_less_and_less_often() {
    let mut rig = joined();
    let begin = rig.now;
    while rig.now < begin.after(secs(900)) {
        rig.run(ms(100));
        if rig.agent.link() == LinkState::Fresh {
            let now = rig.now;
            rig.agent.handle(now, Input::LinkDown);
        }
    }
    let connects = |rig: &Rig| rig.count(|done| matches!(done, Done::Connect));
    // With pauses of up to a minute at random, thirty or so; without, more than a thousand.
    assert!((10..=80).contains(&connects(&rig)), "{}", connects(&rig));
    // One that lasted is as good as the first.
    while rig.agent.link() != LinkState::Fresh {
        rig.run(secs(1));
    }
    rig.run(STEADY_AFTER);
    let (now, before) = (rig.now, connects(&rig));
    rig.agent.handle(now, Input::LinkDown);
    rig.run(CONNECT_BACK_OFF_BASE);
    rig.run(ms(10));
    assert_eq!(connects(&rig), before + 1);
}

#[test]
fn cut_again_and_again_after_subscribing_it_connects_without_the_desired_set() {
    let mut rig = joined();
    rig.hub_up = false;
    rig.cuts_after_desired = true;
    rig.cut();
    rig.run(secs(200));
    let subscribes = rig.count(|done| *done == desired(RetainHandling::Skip));
    assert_eq!(subscribes, 4, "one from before, three that were cut");
    assert_eq!(rig.agent.link(), LinkState::Linked);
    // The hub comes back, hears of it, and what cut the link is gone.
    rig.hub_up = true;
    rig.cuts_after_desired = false;
    rig.publish(set(2, &[service(1, 0, "b")]));
    rig.run(secs(300));
    assert!(rig.logs.iter().any(|(_, text)| text.contains("connecting without it")));
    assert_eq!(rig.accepted(), 2);
}

/// Found by seed 60 of the simulator: a device with a lease asks for Fresh every few seconds, and each put the next try off.
#[test]
fn it_subscribes_again_also_when_fresh_comes_all_the_time() {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a").with(wire::clause::Clause::StopAfter(60_000))]));
    rig.run(secs(15));
    rig.hub_up = false;
    rig.cuts_after_desired = true;
    rig.cut();
    rig.run(secs(200));
    rig.hub_up = true;
    rig.cuts_after_desired = false;
    rig.publish(set(2, &[service(1, 0, "a").with(wire::clause::Clause::StopAfter(60_000)), service(2, 0, "b")]));
    rig.run(secs(300));
    assert!(rig.logs.iter().any(|(_, text)| text.contains("connecting without it")));
    assert_eq!(rig.accepted(), 2);
}

#[test]
fn capabilities_and_proof_are_sent_when_asked_for() {
    let mut rig = joined();
    assert!(hellos(&rig).iter().all(|(_, _, capabilities, proof)| !capabilities && !proof));
    rig.report(Asks::CAPABILITIES.union(Asks::PROOF));
    rig.run(secs(2));
    let (_, fixed, capabilities, proof) = *hellos(&rig).last().unwrap();
    assert!(capabilities && proof && fixed.revision == revision(1));
    assert_eq!(fixed.capabilities, rig.agent.capabilities().digest().prefix());
}

/// Found by seed 923 of the simulator: a device whose hub had asked in vain for its proof was kept apart for ever.
#[test]
fn a_device_that_is_kept_apart_shows_its_header_unasked() {
    let mut rig = joined();
    rig.refuses = Some((RefusalReason::Quarantined, 60));
    let shows = |rig: &Rig| hellos(rig).last().unwrap().3;
    rig.cut();
    rig.run(secs(30));
    assert!(!shows(&rig), "nobody has doubted it yet");
    rig.run(secs(60));
    assert!(shows(&rig));
    rig.refuses = None;
    rig.run(secs(120));
    rig.cut();
    rig.run(secs(60));
    assert_eq!((rig.agent.link(), shows(&rig)), (LinkState::Fresh, false), "once is enough");
}

#[test]
fn a_new_hub_incarnation_is_answered_within_the_spread_at_most_every_five_minutes() {
    let mut rig = joined();
    rig.hub_state(1, 10_000);
    rig.run(secs(1));
    let before = (hellos(&rig).len(), rig.count(|done| *done == Done::Status));
    rig.hub_state(2, 10_000);
    rig.run(secs(12));
    let after = (hellos(&rig).len(), rig.count(|done| *done == Done::Status));
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
    for incarnation in 3..20 {
        rig.hub_state(incarnation, 1000);
        rig.run(secs(10));
    }
    assert_eq!(hellos(&rig).len(), after.0);
    rig.run(secs(200));
    assert_eq!(hellos(&rig).len(), after.0 + 1);
}

/// A broker that lost everything has no incarnation to tell when devices come back. If the hub starts again just then, what
/// they hear first is already the next one, and the session that they have is of the one before.
#[test]
fn the_first_incarnation_that_is_heard_of_after_the_greeting_is_answered_too() {
    let mut rig = joined();
    let before = hellos(&rig).len();
    rig.hub_state(7, 1000);
    rig.run(secs(3));
    assert_eq!(hellos(&rig).len(), before + 1);
    rig.hub_state(7, 1000);
    rig.run(secs(310));
    assert_eq!(hellos(&rig).len(), before + 1);
}

/// A device that heard of its hub only after the greeting, and whose hub started again within five minutes, was not heard of
/// until these were over.
#[test]
fn the_first_incarnation_does_not_delay_the_answer_to_the_next() {
    let mut rig = joined();
    let before = hellos(&rig).len();
    for (incarnation, answers) in [(7, 1), (8, 2), (9, 2)] {
        rig.hub_state(incarnation, 1000);
        rig.run(secs(3));
        assert_eq!(hellos(&rig).len(), before + answers, "incarnation {incarnation}");
    }
    rig.run(secs(310));
    assert_eq!(hellos(&rig).len(), before + 3);
}

#[test]
fn fresh_is_asked_again_every_quarter_of_an_hour() {
    let mut rig = joined();
    let before = hellos(&rig).len();
    rig.run(secs(3600));
    assert!((3..=6).contains(&(hellos(&rig).len() - before)), "{}", hellos(&rig).len() - before);
}

#[test]
fn c10_two_machines_with_one_identity_do_not_throw_each_other_out_for_ever() {
    let mut rig = joined();
    let retry_after = |rig: &Rig| match rig.agent.link() {
        LinkState::Offline { retry_at } => retry_at.since(rig.now),
        other => panic!("{other:?}"),
    };
    // The first one may be a ghost of its own.
    rig.take();
    assert!(retry_after(&rig) <= secs(2));
    rig.run(secs(30));
    for _ in 0..5 {
        assert_eq!(rig.agent.link(), LinkState::Fresh);
        rig.take();
        let pause = retry_after(&rig);
        assert!((secs(60)..=secs(120)).contains(&pause), "{pause:?}");
        assert!(rig.runs("a"), "what runs goes on");
        rig.run(secs(140));
    }
    // Long after the last one it is a first one again.
    rig.run(secs(700));
    rig.take();
    assert!(retry_after(&rig) <= secs(2));
}

/// However often a hub is busy, a device comes back within a second of the time that it was told, and never rests for an hour.
#[test]
fn a_busy_hub_is_asked_again_when_it_said_and_never_leads_to_the_long_pause() {
    let mut rig = joined();
    rig.refuses = Some((RefusalReason::Busy, 3));
    rig.cut();
    let before = hellos(&rig).len();
    rig.run(secs(120));
    let times: Vec<Instant> = hellos(&rig)[before..].iter().map(|(at, ..)| *at).collect();
    assert!(times.len() > REFUSALS_MAX as usize * 4, "{}", times.len());
    let told = secs(3)..=secs(3) + BUSY_JITTER + ms(100);
    assert!(times.windows(2).all(|pair| told.contains(&pair[1].since(pair[0]))), "{times:?}");
    rig.refuses = None;
    rig.run(secs(5));
    assert_eq!(rig.agent.link(), LinkState::Fresh);
}

/// A hub that starts again together with its broker greets its fleet before it can say its incarnation to anybody.
#[test]
fn who_was_greeted_by_the_incarnation_that_it_hears_of_does_not_announce_itself_again() {
    let mut rig = joined();
    rig.session = wire::Session::of(9, 1).0;
    rig.cut();
    rig.run(secs(20));
    let before = hellos(&rig).len();
    rig.hub_state(9, 1000);
    rig.run(secs(20));
    assert_eq!(hellos(&rig).len(), before);
    rig.hub_state(10, 1000);
    rig.run(secs(20));
    assert_eq!(hellos(&rig).len(), before + 1);
}

#[test]
fn a_gateway_is_told_in_the_first_hello_and_again_when_it_is_another_one() {
    let mut rig = Rig::of_microcontroller();
    let (first, second) = (DeviceId([1; 16]), DeviceId([2; 16]));
    let connected_behind = |rig: &mut Rig, gateway| {
        let now = rig.now;
        rig.agent.handle(now, Input::Behind(Some(gateway)));
        rig.run(secs(60));
        assert_eq!(rig.agent.link(), LinkState::Fresh);
        let told = rig.gateways.clone();
        rig.gateways.clear();
        rig.cut();
        told
    };
    assert_eq!(connected_behind(&mut rig, first), [Some(first)]);
    // The same one is no news.
    assert_eq!(connected_behind(&mut rig, first), [None]);
    assert_eq!(connected_behind(&mut rig, second), [Some(second)]);
}
