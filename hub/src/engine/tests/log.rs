//! Lines and events on their way to those who look.
use super::device::Double;
use super::world::World;
use crate::engine::port::*;
use crate::engine::route::BACKLOG_MAX;
use serde_json::json;
use std::time::Duration;
use wire::topic::Down;

fn logs(follow: Follow) -> Request {
    Request::Logs { namespace: "default".to_owned(), name: "hello".to_owned(), device: None, tail: 100, follow }
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn a_gap_is_shown_and_a_repetition_is_not() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.log(&mut world, 1, 1, &["a", "b"]);
    device.log(&mut world, 2, 1, &["b", "c"]);
    device.log(&mut world, 7, 1, &["h"]);
    let Ok(Answer::Logs(lines)) = world.answer(logs(Follow::Once)) else { panic!() };
    assert_eq!(texts(&lines), ["a", "b", "c", "3 lines lost", "h"]);
    assert_eq!((lines[3].level.as_str(), lines[3].lost), ("lost", 3));
}

#[test]
fn followers_get_what_comes_until_the_workload_goes() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.log(&mut world, 1, 1, &["before"]);
    let ticket = world.ask(logs(Follow::Follow));
    let Some(Ok(Answer::Logs(lines))) = world.answers.get(&ticket) else { panic!() };
    assert_eq!(texts(lines), ["before"]);
    device.log(&mut world, 2, 1, &["after"]);
    let key = crate::model::ObjectKey::workload("default", "hello");
    world.answer(Request::Delete { key, if_match: None }).unwrap();
    let items: Vec<&StreamItem> = world.streams.iter().filter(|(of, _)| *of == ticket).map(|(_, item)| item).collect();
    assert!(matches!(items.as_slice(), [StreamItem::Log(line), StreamItem::End] if line.text == "after"), "{items:?}");
}

#[test]
fn a_canceled_follower_hears_nothing_more() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    let ticket = world.ask(logs(Follow::Follow));
    world.input(Input::Cancel { ticket });
    device.log(&mut world, 1, 1, &["a"]);
    assert!(world.streams.is_empty());
}

#[test]
fn an_event_reaches_subscribers_on_other_devices_once() {
    let mut world = World::new();
    let one = Double::online(&mut world, 1, "gw-1");
    let two = Double::online(&mut world, 2, "gw-2");
    world.run("hello", json!({"on": ["gw-1", "gw-2"]})).unwrap();
    world.run("other", json!({"on": ["gw-2"]})).unwrap();
    world.sent.clear();
    one.emit(&mut world, 1, "alarm/fire");
    one.emit(&mut world, 1, "alarm/fire");
    one.emit(&mut world, 2, "weather");
    one.emit(&mut world, 3, "local/alarm");
    assert_eq!(world.sent_to(one.id, Down::Input).len(), 0);
    let holders = world.sent_to(two.id, Down::Input).len();
    assert!((1..=2).contains(&holders), "{holders}");
}

#[test]
fn a_flood_of_events_is_cut() {
    let mut world = World::new();
    let one = Double::online(&mut world, 1, "gw-1");
    let two = Double::online(&mut world, 2, "gw-2");
    world.run("other", json!({"on": ["gw-2"]})).unwrap();
    world.sent.clear();
    for sequence in 1..200 {
        one.emit(&mut world, sequence, "alarm/fire");
    }
    let limit = usize::try_from(crate::engine::route::EMITS_BURST).unwrap();
    assert_eq!(world.sent_to(two.id, Down::Input).len(), limit);
}

#[test]
fn events_that_the_link_cannot_carry_are_dropped_and_counted() {
    let mut world = World::new();
    let (one, mut two) = (Double::online(&mut world, 1, "gw-1"), Double::online(&mut world, 2, "gw-2"));
    world.run("hello", json!({"on": ["gw-2"]})).unwrap();
    two.run_all(&mut world);
    let refused = |world: &mut World| match world.answer(Request::Status) {
        Ok(Answer::Status(status)) => status.messages_refused,
        other => panic!("{other:?}"),
    };
    let before = refused(&mut world);
    world.stalled = true;
    let count = u32::try_from(BACKLOG_MAX).unwrap() + 100;
    for sequence in 1..=count {
        world.now.monotonic = world.now.monotonic.after(Duration::from_millis(50));
        world.now.wall_ms += 50;
        one.emit(&mut world, sequence, "alarm/fire");
    }
    world.stalled = false;
    world.settle();
    let delivered = world.sent_to(two.id, Down::Input).len() as u64;
    let refused = refused(&mut world) - before;
    assert!(refused >= 100 && delivered <= BACKLOG_MAX as u64, "{refused} {delivered}");
    assert_eq!(delivered + refused, u64::from(count));
}

#[test]
fn events_that_never_came_are_counted_and_shown() {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    let conditions =
        |world: &mut World| world.get(&crate::model::ObjectKey::device("gw-1"))["status"]["conditions"].to_string();
    device.emit(&mut world, 7, "alarm/fire");
    device.emit(&mut world, 8, "alarm/fire");
    assert!(!conditions(&mut world).contains("Losses"), "what came before the first is unknown");
    device.emit(&mut world, 12, "alarm/fire");
    device.emit(&mut world, 12, "alarm/fire");
    assert!(conditions(&mut world).contains("0 lines and 3 events of its workloads were lost"));
    device.boot = wire::BootId([42; 8]);
    device.hello(&mut world, false).unwrap();
    device.emit(&mut world, 3, "alarm/fire");
    assert!(conditions(&mut world).contains(" 3 events"), "a new boot begins anew");
}

#[test]
fn one_agents_warnings_do_not_push_out_all_other_events() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    for sequence in 1..200 {
        device.log_at(&mut world, wire::event::Level::Warn, sequence, 0, &["no space"]);
    }
    assert_eq!(world.events("AgentWarning").len() as u64, crate::engine::log::WARNINGS_BURST);
    world.pass(Duration::from_secs(2));
    device.log_at(&mut world, wire::event::Level::Warn, 200, 0, &["still none"]);
    assert_eq!(world.events("AgentWarning").pop().unwrap().message, "still none");
}
