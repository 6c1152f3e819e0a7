//! Status, heartbeats, logs and events: what is said, when, and that losses are counted exactly.
use super::rig::*;
use crate::machine::port::*;
use crate::machine::report::STATUS_BURST;
use wire::event::Level;
use wire::hello::Asks;
use wire::status::State;

fn joined() -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(20));
    rig
}

fn statuses(rig: &Rig) -> usize {
    rig.count(|done| *done == Done::Status)
}

#[test]
fn a_status_is_sent_on_change_and_on_ask_and_not_otherwise() {
    let mut rig = joined();
    rig.run(secs(60));
    let before = statuses(&rig);
    rig.run(secs(600));
    assert_eq!(statuses(&rig), before);
    assert!((18..=22).contains(&(rig.count(|done| *done == Done::Heartbeat) - 2)));
    rig.report(Asks::STATUS);
    rig.run(secs(5));
    assert_eq!(statuses(&rig), before + 1);
}

#[test]
fn many_changes_make_a_short_burst_of_statuses_and_then_one_a_second() {
    let mut rig = joined();
    rig.run(secs(30));
    let before = statuses(&rig);
    for counter in 2..102 {
        rig.publish(set(counter, &[service(1, 0, "a").generation(counter as u32)]));
        rig.run(ms(100));
    }
    rig.run(secs(2));
    let sent = statuses(&rig) - before;
    let allowed = STATUS_BURST as usize + 12;
    assert!((10..=allowed).contains(&sent), "{sent}");
    assert_eq!(rig.entry(1, 0).running, 101);
}

#[test]
fn the_steps_of_one_change_are_told_at_once() {
    let mut rig = joined();
    rig.run(secs(30));
    rig.publish(set(2, &[service(1, 0, "a"), service(2, 0, "b")]));
    rig.run(ms(400));
    assert_eq!(rig.entry(2, 0).state, State::Running);
}

#[test]
fn a_status_lost_with_the_link_is_sent_again() {
    let mut rig = joined();
    rig.acknowledges = false;
    rig.publish(set(2, &[service(1, 0, "a").generation(2)]));
    rig.run(secs(3));
    rig.status = None;
    rig.acknowledges = true;
    rig.cut();
    rig.run(secs(30));
    assert_eq!(rig.entry(1, 0).running, 2);
}

#[test]
fn positions_and_resources_are_reported() {
    let mut rig = joined();
    let now = rig.now;
    let position = wire::position::Position { longitude_e7: 10, latitude_e7: 20, uncertainty_m: 5 };
    rig.agent.handle(now, Input::Position(Some(position)));
    rig.agent.handle(now, Input::Resources { memory_free_bytes: 77, storage_free_bytes: 88 });
    rig.run(secs(5));
    let (fixed, _) = rig.status.as_ref().unwrap();
    assert_eq!((fixed.position, fixed.memory_free_bytes, fixed.storage_free_bytes), (Some(position), 77, 88));
}

/// Its heartbeats went on to vouch for a position that the hub had never heard of.
#[test]
fn a_position_lost_with_the_link_is_sent_again() {
    let mut rig = joined();
    let move_to = |rig: &mut Rig, longitude_e7| {
        let position = wire::position::Position { longitude_e7, latitude_e7: 0, uncertainty_m: 5 };
        let now = rig.now;
        rig.agent.handle(now, Input::Position(Some(position)));
        rig.run(secs(3));
        position
    };
    move_to(&mut rig, 10);
    rig.run(secs(60));
    rig.acknowledges = false;
    let position = move_to(&mut rig, 20);
    rig.status = None;
    rig.acknowledges = true;
    rig.cut();
    rig.run(secs(30));
    assert_eq!(rig.status.as_ref().unwrap().0.position, Some(position));
}

#[test]
fn a_device_that_moves_all_the_time_says_so_now_and_then() {
    let mut rig = joined();
    rig.run(secs(60));
    let before = statuses(&rig);
    for second in 0..120 {
        let now = rig.now;
        let position = wire::position::Position { longitude_e7: second, latitude_e7: 0, uncertainty_m: 5 };
        rig.agent.handle(now, Input::Position(Some(position)));
        rig.run(secs(1));
    }
    rig.run(secs(40));
    assert!((4..=6).contains(&(statuses(&rig) - before)), "{}", statuses(&rig) - before);
    assert_eq!(rig.status.as_ref().unwrap().0.position.unwrap().longitude_e7, 119);
}

#[test]
fn logs_and_events_arrive_in_order_without_loss_while_there_is_room() {
    let mut rig = joined();
    let launch = rig.launch_of(1, 0);
    rig.logs.clear();
    for round in 0..50u32 {
        let now = rig.now;
        rig.agent.handle(now, Input::Log { launch, level: Level::Info, text: &std::format!("line {round}") });
        rig.agent.handle(now, Input::Emit { launch, topic: "t", payload: &round.to_le_bytes() });
        rig.run(ms(20));
    }
    rig.run(secs(5));
    assert_eq!((rig.logs.len(), rig.events.len()), (50, 50));
    assert!(rig.logs.iter().enumerate().all(|(at, (_, text))| *text == std::format!("line {at}")));
    assert!(rig.events.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
}

#[test]
fn sent_is_received_plus_counted_lost_across_an_outage() {
    let mut rig = joined();
    let launch = rig.launch_of(1, 0);
    let (logs, events) = (rig.logs.len() as u32, 0);
    rig.broker_up = false;
    rig.cut();
    for round in 0..500u32 {
        let now = rig.now;
        rig.agent.handle(now, Input::Log { launch, level: Level::Info, text: "a line of some length" });
        rig.agent.handle(now, Input::Emit { launch, topic: "t", payload: &round.to_le_bytes() });
        rig.run(ms(20));
    }
    rig.broker_up = true;
    rig.run(secs(120));
    rig.ask_status();
    let lost = rig.status.as_ref().unwrap().0.lost;
    assert!(lost.logs > 0 && lost.events > 0);
    assert_eq!(rig.logs.len() as u32 - logs + lost.logs, 500);
    assert_eq!(rig.events.len() as u32 - events + lost.events, 500);
    // The newest are the ones that were kept.
    assert_eq!(rig.events.last().unwrap().2, 499u32.to_le_bytes());
}

#[test]
fn a_line_of_an_unknown_launch_is_counted_lost() {
    let mut rig = joined();
    let now = rig.now;
    rig.agent.handle(now, Input::Log { launch: LaunchId(999), level: Level::Info, text: "ghost" });
    rig.ask_status();
    assert_eq!(rig.status.as_ref().unwrap().0.lost.logs, 1);
}

#[test]
fn a_record_of_an_event_is_the_wire_types_own_encoding() {
    let mut rig = joined();
    let (now, launch) = (rig.now, rig.launch_of(1, 0));
    // The rig decodes with the wire's type; the longest event must pass as well.
    let topic = "t".repeat(wire::limits::TOPIC_BYTES_MAX);
    let payload = [5; wire::limits::EVENT_BYTES_MAX];
    rig.agent.handle(now, Input::Emit { launch, topic: &topic, payload: &payload });
    rig.run(secs(1));
    assert_eq!(rig.events, [(1, topic, payload.to_vec())]);
}
