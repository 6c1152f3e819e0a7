//! Who counts as lost, and when nobody does.
use super::device::Double;
use super::world::World;
use crate::engine::door::DOOR_GRACE;
use crate::engine::mass_loss::MASS_LOSS_DEVICES_MIN;
use crate::engine::port::*;
use crate::model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;
use wire::BootId;

/// Suspect at once by its will; lost a moment later.
const LOST_AFTER: Duration = Duration::from_millis(1_300);
/// One and a half heartbeats, and the spread after a start.
const GRACE: Duration = Duration::from_secs(47);

pub fn condition(world: &mut World, name: &str) -> Option<Value> {
    let Ok(Answer::Status(status)) = world.answer(Request::Status) else { panic!("no status") };
    let conditions = serde_json::to_value(status.conditions).unwrap();
    conditions.as_array().unwrap().iter().find(|condition| condition["type"] == name).cloned()
}

pub fn presence(world: &mut World, name: &str) -> (String, String) {
    let online = world.get(&ObjectKey::device(name))["status"]["online"].clone();
    let text = |field: &str| online[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("verdict"))
}

/// So many devices, beyond the time in which nobody is called lost.
pub fn fleet(world: &mut World, count: u16) -> Vec<Double> {
    let mut devices: Vec<Double> =
        (0..count).map(|number| Double::online(world, number + 1, &format!("gw-{number}"))).collect();
    world.pass(Duration::from_secs(25));
    beat(world, &mut devices);
    world.pass(Duration::from_secs(25));
    beat(world, &mut devices);
    devices
}

pub fn beat<'a>(world: &mut World, devices: impl IntoIterator<Item = &'a mut Double>) {
    devices.into_iter().for_each(|device| device.heartbeat(world, true));
}

fn wills(world: &mut World, devices: &[Double]) {
    devices.iter().for_each(|device| device.will(world, device.boot));
}

pub fn site(world: &mut World, name: &str, site: &str) {
    let document = json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": name, "labels": {"zone": "a"}},
        "spec": {"site": site}});
    world.put(&ObjectKey::device(name), document).unwrap();
}

#[test]
fn a_will_makes_a_device_suspect_at_once_and_lost_a_moment_later() {
    let mut world = World::new();
    let devices = fleet(&mut world, 1);
    devices[0].will(&mut world, BootId([99; 8]));
    assert_eq!(presence(&mut world, "gw-0"), ("Online".into(), String::new()), "of another boot");
    devices[0].will(&mut world, devices[0].boot);
    assert_eq!(presence(&mut world, "gw-0"), ("Unknown".into(), "Suspect".into()));
    assert!(world.events("Lost").is_empty());
    world.pass(LOST_AFTER);
    assert_eq!(presence(&mut world, "gw-0"), ("Unknown".into(), "Lost".into()));
    assert_eq!((world.events("Suspect").len(), world.events("Lost").len()), (1, 1));
}

#[test]
fn n5_a_half_open_link_is_seen_after_one_and_a_half_heartbeats() {
    let mut world = World::new();
    fleet(&mut world, 1);
    world.pass(Duration::from_millis(44_900));
    assert_eq!(presence(&mut world, "gw-0").0, "Online");
    world.pass(Duration::from_millis(200));
    assert_eq!(presence(&mut world, "gw-0").1, "Suspect");
    world.pass(LOST_AFTER);
    assert_eq!(presence(&mut world, "gw-0").1, "Lost");
}

#[test]
fn a_suspect_that_speaks_in_time_was_never_lost() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 1);
    wills(&mut world, &devices);
    world.pass(Duration::from_millis(450));
    beat(&mut world, &mut devices);
    world.pass(Duration::from_secs(10));
    assert_eq!(presence(&mut world, "gw-0"), ("Online".into(), String::new()));
    assert!(world.events("Lost").is_empty() && world.events("Returned").is_empty());
    wills(&mut world, &devices);
    world.pass(LOST_AFTER);
    beat(&mut world, &mut devices);
    assert_eq!(world.events("Returned").len(), 1);
}

#[test]
fn n1_while_the_hubs_own_link_is_down_and_shortly_after_nobody_is_lost() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 2);
    world.input(Input::LinkDown);
    world.pass(Duration::from_secs(600));
    assert!(world.events("Suspect").is_empty() && world.events("Lost").is_empty());
    world.input(Input::LinkUp);
    devices[1].will(&mut world, devices[1].boot);
    world.pass(GRACE - Duration::from_secs(5));
    assert_eq!(presence(&mut world, "gw-1").1, "Suspect", "that much is known");
    beat(&mut world, &mut devices[..1]);
    world.pass(Duration::from_secs(10));
    assert_eq!(presence(&mut world, "gw-0").0, "Online");
    assert_eq!(presence(&mut world, "gw-1").1, "Lost");
}

#[test]
fn a_restarted_hub_calls_nobody_lost_before_its_grace_is_over() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 2);
    world.run("hello", json!({"labels": {"zone": "a"}})).unwrap();
    world.restart();
    let left = |world: &mut World| {
        let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
        Duration::from_secs(measures.loss_grace_s)
    };
    assert!(left(&mut world) > GRACE - Duration::from_secs(6));
    world.pass(GRACE - Duration::from_secs(6));
    assert!((1..=7).contains(&left(&mut world).as_secs()));
    beat(&mut world, &mut devices[..1]);
    devices[0].hello(&mut world, false).unwrap();
    assert!(world.events("Lost").is_empty());
    world.pass(Duration::from_secs(8));
    assert_eq!(world.events("Lost").len(), 1, "it holds work and has not spoken since");
    assert_eq!(left(&mut world), Duration::ZERO);
    assert_eq!(presence(&mut world, "gw-1").0, "Never");
    devices[1].hello(&mut world, false).unwrap();
    assert_eq!(presence(&mut world, "gw-1").0, "Online");
}

#[test]
fn a_fleet_that_vanishes_at_once_is_not_called_lost_and_the_guard_goes_when_it_is_back() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 20);
    wills(&mut world, &devices);
    world.pass(Duration::from_secs(300));
    assert!(world.events("Lost").is_empty());
    assert_eq!(world.events("MassLoss").len(), 1);
    let message = condition(&mut world, "MassLoss").unwrap()["message"].to_string();
    assert!(message.contains("20 of 20 devices vanished at once") && message.contains("confirm-loss"), "{message}");
    for half in [0..10, 10..18] {
        beat(&mut world, &mut devices[half]);
        world.pass(Duration::from_secs(2));
    }
    assert_eq!(condition(&mut world, "MassLoss"), None);
    assert_eq!(world.events("MassLossOver").len(), 1);
    assert_eq!(world.events("Lost").len(), 2, "those that stayed away");
}

#[test]
fn p19_a_cut_link_is_judged_half_a_second_after_the_broker_says_so() {
    let mut world = World::new();
    let devices = fleet(&mut world, 20);
    wills(&mut world, &devices[..1]);
    world.pass(Duration::from_millis(499));
    assert!(world.events("Lost").is_empty());
    world.pass(Duration::from_millis(2));
    assert_eq!(world.events("Lost").len(), 1);
}

#[test]
fn p19_a_fleet_whose_wills_come_one_after_the_other_within_a_second_is_judged_as_one() {
    let mut world = World::new();
    let devices = fleet(&mut world, 20);
    for device in &devices {
        wills(&mut world, std::slice::from_ref(device));
        world.pass(Duration::from_millis(50));
    }
    world.pass(Duration::from_secs(10));
    assert!(world.events("Lost").is_empty());
    assert_eq!(world.events("MassLoss").len(), 1);
    let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
    assert_eq!((measures.guard, measures.devices_held), (true, 20));
}

#[test]
fn a_fleet_that_falls_silent_is_seen_before_the_first_verdict() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 20);
    // Heartbeats are spread over their period.
    for device in &mut devices {
        world.pass(Duration::from_millis(1_500));
        device.heartbeat(&mut world, true);
    }
    world.pass(Duration::from_secs(120));
    assert!(world.events("Lost").is_empty(), "{:?}", world.events("Lost"));
    assert_eq!(world.events("MassLoss").len(), 1);
}

#[test]
fn an_operator_says_that_they_are_lost_and_the_audit_says_who() {
    let mut world = World::new();
    let mut devices = fleet(&mut world, 20);
    let refused = world.answer(Request::LossConfirm).unwrap();
    assert_eq!(refused, Answer::Report(json!({"confirmed": false, "devices": 0})), "there is nothing to confirm");
    wills(&mut world, &devices[..10]);
    world.pass(Duration::from_secs(10));
    beat(&mut world, &mut devices[10..]);
    assert!(world.events("Lost").is_empty());
    world.batches.clear();
    let answer = world.answer(Request::LossConfirm).unwrap();
    assert_eq!(answer, Answer::Report(json!({"confirmed": true, "devices": 10})));
    let audit = &world.batches[0].audit[0];
    assert_eq!((audit.action, audit.actor.as_str(), audit.object.as_str()), ("confirm-loss", "admin", "hub"));
    assert_eq!(world.events("Lost").len(), 10);
    // The confirmed are no news; what vanishes next is judged by itself.
    wills(&mut world, &devices[10..12]);
    world.pass(Duration::from_secs(2));
    assert_eq!((condition(&mut world, "MassLoss"), world.events("Lost").len()), (None, 12));
}

#[test]
fn n8_a_few_devices_and_a_whole_site_are_lost_without_a_guard() {
    let mut world = World::new();
    let few = u16::try_from(MASS_LOSS_DEVICES_MIN).unwrap() - 1;
    let devices = fleet(&mut world, few);
    wills(&mut world, &devices);
    world.pass(LOST_AFTER);
    assert_eq!(world.events("Lost").len(), usize::from(few), "a small fleet");

    let mut world = World::new();
    let devices = fleet(&mut world, 20);
    (0..12).for_each(|number| site(&mut world, &format!("gw-{number}"), "harz"));
    wills(&mut world, &devices[..12]);
    world.pass(LOST_AFTER);
    assert_eq!(world.events("Lost").len(), 12, "one site of a fleet that is heard otherwise");
    assert_eq!(condition(&mut world, "MassLoss"), None);
}

/// The hub connects, and looks.
fn seen_from_here(world: &mut World, listener: Option<bool>) {
    world.listener = listener;
    world.input(Input::LinkDown);
    world.connect();
}

#[test]
fn a_listener_that_takes_no_connection_is_a_mass_loss_of_any_size() {
    let mut world = World::new();
    seen_from_here(&mut world, Some(true));
    let mut devices = fleet(&mut world, 3);
    world.listener = Some(false);
    wills(&mut world, &devices);
    world.pass(Duration::from_secs(60));
    assert!(world.events("Lost").is_empty(), "three devices are few, and none can come back");
    assert_eq!((world.events("ListenerLost").len(), world.events("MassLoss").len()), (1, 0));
    let shown = condition(&mut world, "MassLoss").unwrap();
    assert_eq!(shown["reason"], "ListenerLost");
    assert!(shown["message"].to_string().contains("takes no connection, and 3 of 3 devices are missing"), "{shown}");
    let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
    assert_eq!((measures.guard, measures.devices_held), (true, 3));
    // Open again: they have time to come back, and who does not is lost.
    world.listener = Some(true);
    world.pass(DOOR_GRACE / 2);
    assert!(world.events("Lost").is_empty());
    for _ in 0..4 {
        beat(&mut world, &mut devices[..2]);
        world.pass(DOOR_GRACE / 6);
    }
    assert_eq!(condition(&mut world, "MassLoss"), None);
    assert_eq!((world.events("MassLossOver").len(), world.events("Lost").len()), (1, 1));
}

#[test]
fn a_listener_that_takes_connections_or_was_never_reached_holds_nobody_up() {
    for (before, after) in [(Some(true), Some(true)), (Some(false), Some(false)), (None, None)] {
        let mut world = World::new();
        seen_from_here(&mut world, before);
        let devices = fleet(&mut world, 3);
        world.listener = after;
        wills(&mut world, &devices);
        world.pass(LOST_AFTER);
        assert_eq!(world.events("Lost").len(), 3, "{before:?} {after:?}");
    }
}

#[test]
fn an_operator_says_of_a_lost_listener_that_its_devices_are_lost() {
    let mut world = World::new();
    seen_from_here(&mut world, Some(true));
    let devices = fleet(&mut world, 3);
    world.listener = Some(false);
    wills(&mut world, &devices);
    world.pass(Duration::from_secs(10));
    let answer = world.answer(Request::LossConfirm).unwrap();
    assert_eq!(answer, Answer::Report(json!({"confirmed": true, "devices": 3})));
    assert_eq!(world.events("Lost").len(), 3);
    world.pass(Duration::from_secs(10));
    assert_eq!(condition(&mut world, "MassLoss"), None, "it is decided");
}

#[test]
fn many_losses_are_summed_up_and_judged_in_one_round() {
    let mut world = World::new();
    let devices = fleet(&mut world, 200);
    (0..150).for_each(|number| site(&mut world, &format!("gw-{number}"), "harz"));
    wills(&mut world, &devices[..150]);
    world.pass(Duration::from_secs(60));
    let told = world.events("Suspect").len() + world.events("Lost").len();
    assert!(told < 150, "{told} events");
    assert!(!world.events("ManyChanges").is_empty());
    let lost = (0..150).filter(|number| presence(&mut world, &format!("gw-{number}")).1 == "Lost").count();
    assert_eq!(lost, 150);
}
