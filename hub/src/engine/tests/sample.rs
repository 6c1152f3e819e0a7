//! Alarms, states and metrics of functions at the hub: what is kept, told and counted, and what the device is told.
use super::device::Double;
use super::world::World;
use crate::engine::port::*;
use crate::engine::sample::{SAMPLES_BURST, SAMPLES_PER_SECOND};
use serde_json::json;
use std::time::Duration;
use wire::frame::decode_live;
use wire::sample::{Class, SamplesFixed, Taken};
use wire::topic::Down;
use wire::{BootId, Session};

fn frame(class: Class) -> SamplesFixed {
    SamplesFixed { session: Session(0), class, stream: 7, first: 1, lost: 0, uptime_ms: Some(1_000), count: 0 }
}

fn set_up() -> (World, Double) {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    (world, device)
}

fn samples(world: &mut World, key: Option<&str>) -> (Vec<SampleLine>, Vec<ClassAccount>) {
    let request =
        Request::Samples { device: "gw-1".to_owned(), key: key.map(str::to_owned), tail: 1000, follow: Follow::Once };
    let Ok(Answer::Samples { lines, accounts }) = world.answer(request) else { panic!() };
    (lines, accounts)
}

fn account(world: &mut World, class: Class) -> (u64, u64, u64, u32) {
    let (_, accounts) = samples(world, None);
    let found = accounts.into_iter().find(|account| account.class == class.name()).unwrap_or_default();
    (found.received, found.lost, found.missing, found.ends_unknown)
}

/// What the device was told that it may forget.
fn taken(world: &World, device: &Double) -> Vec<u32> {
    let frames = world.sent_to(device.id, Down::Command);
    let context = device.context(device.session);
    let taken = frames.iter().filter_map(|p| decode_live::<Taken>(&p.payload, &device.pair, &context).ok());
    taken.map(|taken| taken.sequence).collect()
}

fn alarm_events(world: &mut World) -> usize {
    let request = Request::Events { object: None, tail: 10_000, follow: Follow::Once };
    let Ok(Answer::Events(lines)) = world.answer(request) else { panic!() };
    lines.iter().filter(|line| line.reason == "Alarm" && line.severity == Severity::Warning).count()
}

#[test]
fn an_alarm_is_an_event_once_however_often_it_is_sent() {
    let (mut world, device) = set_up();
    device.tell(&mut world, frame(Class::Alarm), &[1, 2]);
    device.tell(&mut world, frame(Class::Alarm), &[1, 2, 3]);
    assert_eq!((alarm_events(&mut world), taken(&world, &device)), (3, vec![2, 3]));
    // A ring that was wiped begins anew; its first alarm is not the old first one.
    device.tell(&mut world, SamplesFixed { stream: 8, ..frame(Class::Alarm) }, &[1]);
    assert_eq!(alarm_events(&mut world), 4);
    assert_eq!(account(&mut world, Class::Alarm), (4, 0, 0, 1));
}

#[test]
fn an_alarm_that_was_not_heard_is_not_said_to_be_taken() {
    let (mut world, device) = set_up();
    device.tell(&mut world, frame(Class::Alarm), &[1]);
    device.tell(&mut world, frame(Class::Alarm), &[4, 5]);
    assert_eq!(taken(&world, &device), [1, 1]);
    // The device says that two and three will never come: it refused them.
    device.tell(&mut world, SamplesFixed { first: 4, lost: 2, ..frame(Class::Alarm) }, &[4, 5]);
    assert_eq!(taken(&world, &device), [1, 1, 5]);
    assert_eq!(account(&mut world, Class::Alarm), (3, 2, 0, 0));
}

#[test]
fn old_metrics_that_come_after_fresh_ones_are_no_loss() {
    let (mut world, device) = set_up();
    device.tell(&mut world, frame(Class::Metric), &[8, 9]);
    device.tell(&mut world, frame(Class::Metric), &[3, 4]);
    device.tell(&mut world, SamplesFixed { first: 5, lost: 2, ..frame(Class::Metric) }, &[5, 6]);
    assert_eq!(account(&mut world, Class::Metric), (6, 2, 0, 0));
    // 7 was sent, and neither came nor is counted by the device.
    device.tell(&mut world, SamplesFixed { first: 10, lost: 2, ..frame(Class::Metric) }, &[10]);
    assert_eq!(account(&mut world, Class::Metric), (7, 2, 1, 0));
    let (lines, _) = samples(&mut world, Some("k"));
    let values: Vec<&str> = lines.iter().map(|line| line.value.as_str()).collect();
    assert_eq!(values, ["0.3", "0.4", "0.5", "0.6", "0.8", "0.9", "1"], "in the order in which they were taken");
    assert_eq!(lines[0].time_ms, world.now.wall_ms - 997);
    assert_eq!(samples(&mut world, Some("other")).0, []);
}

#[test]
fn of_a_new_boot_the_end_of_the_old_one_is_unknown_and_never_zero() {
    let (mut world, mut device) = set_up();
    device.tell(&mut world, frame(Class::State), &[1, 2]);
    device.tell(&mut world, frame(Class::Metric), &[1]);
    device.boot = BootId([9; 8]);
    device.hello(&mut world, false).unwrap();
    assert_eq!(account(&mut world, Class::State), (2, 0, 0, 1));
    device.tell(&mut world, frame(Class::State), &[1]);
    assert_eq!(account(&mut world, Class::State), (3, 0, 0, 1));
    assert_eq!(account(&mut world, Class::Metric), (1, 0, 0, 1));
    let (lines, _) = samples(&mut world, None);
    let states: Vec<&str> = lines.iter().filter(|l| l.class == "state").map(|line| line.value.as_str()).collect();
    assert_eq!(states, ["1"], "the newer boot's value counts, although its number is lower");
}

#[test]
fn a_device_that_tells_too_much_is_cut_and_its_alarms_come_again() {
    let (mut world, device) = set_up();
    for (count, received) in [(SAMPLES_BURST - 1, SAMPLES_BURST - 1), (1, SAMPLES_BURST), (1, SAMPLES_BURST)] {
        for _ in 0..count {
            let next = u32::try_from(account(&mut world, Class::Alarm).0).unwrap_or(0) + 1;
            device.tell(&mut world, frame(Class::Alarm), &[next]);
        }
        assert_eq!(account(&mut world, Class::Alarm).0, received);
    }
    assert_eq!(taken(&world, &device).last().map(|n| u64::from(*n)), Some(SAMPLES_BURST));
    let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
    assert_eq!((measures.samples_dropped, measures.samples), (1, [SAMPLES_BURST, 0, 0]));
    world.pass(Duration::from_secs(1));
    for n in 0..=SAMPLES_PER_SECOND {
        device.tell(&mut world, frame(Class::Alarm), &[u32::try_from(SAMPLES_BURST + n + 1).unwrap()]);
    }
    assert_eq!(account(&mut world, Class::Alarm).0, SAMPLES_BURST + SAMPLES_PER_SECOND);
}

#[test]
fn followers_get_samples_as_they_come_and_a_status_shows_the_latest() {
    let (mut world, device) = set_up();
    device.tell(&mut world, frame(Class::Metric), &[1]);
    let ticket = world.ask(Request::Samples { device: "gw-1".to_owned(), key: None, tail: 10, follow: Follow::Follow });
    device.tell(&mut world, SamplesFixed { lost: 3, ..frame(Class::Metric) }, &[2]);
    let items: Vec<&StreamItem> = world.streams.iter().filter(|(of, _)| *of == ticket).map(|(_, item)| item).collect();
    assert!(matches!(items.as_slice(), [StreamItem::Sample(line)] if line.value == "0.2"), "{items:?}");
    let key = crate::model::ObjectKey::device("gw-1");
    let Ok(Answer::Object { document, .. }) = world.answer(Request::Get { key }) else { panic!() };
    assert_eq!(document["status"]["latest"][0]["value"], "0.2");
    assert_eq!(document["status"]["samples"][2]["lost"], 3);
    let conditions = document["status"]["conditions"].as_array().unwrap();
    let losses = conditions.iter().find(|condition| condition["type"] == "Losses").unwrap();
    assert!(losses["message"].as_str().unwrap().contains("3 metrics by the device"), "{losses}");
    let unknown = world.answer(Request::Samples { device: "x".to_owned(), key: None, tail: 1, follow: Follow::Once });
    assert_eq!(unknown.unwrap_err().status(), 404);
}
