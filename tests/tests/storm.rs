//! A fleet that comes back at once, C24 and P22: what it costs in bytes, how long it takes, and that nothing is started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;
use tests::storm::{ALL, Fleet, TWENTIETH, Traffic};
use wire::limits::RECONNECT_BYTES_MAX;

const DEVICES: usize = 2_000;
/// A fleet of this size is back within this time.
const BACK_WITHIN_MS: u64 = 5_000;

/// A fleet that runs one workload everywhere, and has said so.
fn running(hellos_per_second: Option<u32>) -> Fleet {
    let mut fleet = Fleet::new(DEVICES, hellos_per_second);
    fleet.pass(Duration::from_secs(60));
    fleet.run("wide", 1, ALL);
    fleet.pass(Duration::from_secs(120));
    assert_eq!(fleet.in_sync(), DEVICES);
    assert!(fleet.traffic().all(|traffic| traffic.starts == 1), "each runs it once");
    fleet
}

fn sum(fleet: &Fleet, of: impl Fn(&Traffic) -> usize) -> usize {
    fleet.traffic().map(of).sum()
}

fn most(fleet: &Fleet, of: impl Fn(&Traffic) -> usize) -> usize {
    fleet.traffic().map(of).max().unwrap_or(0)
}

#[test]
fn c24_two_thousand_devices_come_back_at_once_for_150_bytes_each_and_start_nothing() {
    let mut fleet = running(None);
    fleet.begin_counting();
    let cut_at = fleet.now;
    fleet.cut_all();
    fleet.pass(Duration::from_secs(15));
    let back = fleet.all_fresh_after(cut_at).expect("all are back");
    println!("network: all back after {back} ms, at most {} bytes", most(&fleet, |t| t.hello_bytes));
    assert!(back <= BACK_WITHIN_MS, "{back} ms");
    assert!(fleet.traffic().all(|t| t.hellos == 1 && t.hello_bytes <= RECONNECT_BYTES_MAX));
    assert_eq!(
        (sum(&fleet, |t| t.status_bytes), sum(&fleet, |t| t.set_bytes), sum(&fleet, |t| t.other_bytes)),
        (0, 0, 0)
    );
    assert_eq!(sum(&fleet, |t| t.starts as usize), 0);
    // A hub that starts again with its broker: each set is there before anybody connects, and a device that runs what it should is
    // known by its Hello.
    fleet.begin_counting();
    let cut_at = fleet.now;
    fleet.restart_hub();
    fleet.pass(Duration::from_secs(15));
    let back = fleet.all_fresh_after(cut_at).expect("all are back");
    println!("hub and broker: all back after {back} ms, at most {} bytes each", most(&fleet, Traffic::bytes));
    assert!(back <= BACK_WITHIN_MS, "{back} ms");
    assert!(fleet.traffic().all(|t| t.hellos == 1 && t.bytes() <= RECONNECT_BYTES_MAX));
    assert!(fleet.traffic().all(|t| (t.sets, t.statuses, t.other_bytes) == (0, 0, 0)));
    assert_eq!(fleet.running("wide"), DEVICES, "the hub knows what runs");
    assert_eq!(sum(&fleet, |t| t.starts as usize), 0);
}

#[test]
fn p13_what_a_hub_recognised_it_asks_for_whole_within_twenty_minutes_and_never_all_at_once() {
    let mut fleet = running(None);
    fleet.restart_hub();
    fleet.pass(Duration::from_secs(600));
    fleet.begin_counting();
    let mut told = 0;
    for _ in 0..21 {
        fleet.pass(Duration::from_secs(30));
        let all = sum(&fleet, |t| t.statuses as usize);
        assert!(all - told <= DEVICES / 10, "{} in half a minute", all - told);
        told = all;
    }
    assert_eq!(told, DEVICES, "each is asked once");
    assert_eq!(fleet.running("wide"), DEVICES);
}

#[test]
fn c24_beyond_the_rate_a_fleet_is_in_as_fast_as_it_is_let_in() {
    const RATE: u32 = 200;
    let mut fleet = running(Some(RATE));
    fleet.begin_counting();
    let cut_at = fleet.now;
    fleet.cut_all();
    let expected = DEVICES as u64 * 1_000 / u64::from(RATE);
    fleet.pass(Duration::from_secs(60));
    let back = fleet.all_fresh_after(cut_at).expect("all are back");
    let hellos = sum(&fleet, |t| t.hellos as usize);
    println!("rate {RATE}: all back after {back} ms with {hellos} Hellos");
    assert!(back >= expected - 2_000 && back <= expected * 3 / 2, "{back} ms, {expected} are needed");
    assert!(hellos <= DEVICES * 5 / 2, "{hellos}: those who are sent away come when they were told to");
    assert_eq!((sum(&fleet, |t| t.set_bytes), sum(&fleet, |t| t.starts as usize)), (0, 0));
    // It goes on as before: nobody rests for an hour.
    fleet.cut_all();
    fleet.pass(Duration::from_secs(60));
    assert_eq!(fleet.in_sync(), DEVICES);
}

#[test]
fn p22_after_an_hour_apart_only_what_changed_is_sent() {
    let mut fleet = running(None);
    let changed: Vec<usize> = (0..DEVICES).step_by(20).collect();
    assert_eq!(changed.len(), DEVICES / 20);
    fleet.run("some", 1, TWENTIETH);
    fleet.pass(Duration::from_secs(60));
    assert_eq!(fleet.in_sync(), DEVICES);
    fleet.is_broker_up = false;
    fleet.cut_all();
    fleet.pass(Duration::from_secs(1_800));
    fleet.run("some", 2, TWENTIETH);
    fleet.pass(Duration::from_secs(1_800));
    assert_eq!(fleet.in_sync(), DEVICES - changed.len());
    fleet.begin_counting();
    let healed_at = fleet.now;
    fleet.is_broker_up = true;
    fleet.pass(Duration::from_secs(90));
    assert_eq!(fleet.in_sync(), DEVICES);
    let back = fleet.all_fresh_after(healed_at).expect("all are back");
    let spent = sum(&fleet, |t| t.hello_bytes + t.set_bytes);
    let allowed = fleet.set_bytes(&changed) + DEVICES * RECONNECT_BYTES_MAX;
    let statuses = sum(&fleet, |t| t.status_bytes);
    println!("all back after {back} ms; {spent} of {allowed} bytes, and {statuses} of statuses");
    assert!(spent <= allowed, "{spent} bytes, {allowed} are allowed");
    let of = |index: usize| *fleet.traffic().nth(index).unwrap();
    assert!((0..DEVICES).all(|index| of(index).sets == u32::from(index % 20 == 0)), "each changed set goes once");
    assert!((0..DEVICES).all(|index| of(index).starts == u32::from(index % 20 == 0)));
    // Whoever changed says so; the others have nothing new to say.
    assert!((0..DEVICES).filter(|index| index % 20 != 0).all(|index| of(index).status_bytes == 0));
}
