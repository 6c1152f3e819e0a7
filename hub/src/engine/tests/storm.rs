//! A fleet that comes back at once: how many are greeted, and what the others are told.
use super::device::Double;
use super::world::World;
use crate::engine::port::*;
use std::time::Duration;
use wire::hello::RefusalReason;
use wire::topic::Topic;

fn busy(device: &mut Double, world: &mut World) -> Option<u32> {
    match device.hello(world, false) {
        Ok(_) => None,
        Err(refusal) if refusal.reason == RefusalReason::Busy => Some(refusal.retry_after_s),
        // In, but for its approval.
        Err(_) => None,
    }
}

fn sent_away(world: &mut World) -> u64 {
    let Ok(Answer::Measures(measures)) = world.answer(Request::Measure) else { panic!() };
    measures.hellos_sent_away
}

#[test]
fn beyond_the_rate_devices_are_told_when_to_come_and_are_in_then_approved_or_not() {
    let mut world = World::new();
    let mut devices: Vec<Double> = (1..=5).map(|n| Double::online(&mut world, n, &format!("gw-{n}"))).collect();
    let (mut stranger, token) = (Double::new(6), world.token(false));
    assert!(matches!(stranger.join(&mut world, &token, "gw-6"), Some(Ok(false))));
    devices.insert(1, stranger);
    world.pass(Duration::from_secs(60));
    world.engine.config.hellos_per_second = 1;
    let waits: Vec<Option<u32>> = devices.iter_mut().map(|device| busy(device, &mut world)).collect();
    assert_eq!(waits, [None, None, Some(2), Some(3), Some(4), Some(5)]);
    assert_eq!(sent_away(&mut world), 4);
    for second in 1..=5 {
        world.pass(Duration::from_secs(1));
        for (device, wait) in devices.iter_mut().zip(&waits) {
            if *wait == Some(second) {
                assert_eq!(busy(device, &mut world), None, "at {second} s");
            }
        }
    }
    assert_eq!(sent_away(&mut world), 4);
}

#[test]
fn a_new_hub_spreads_its_fleet_as_far_as_it_can_take_it() {
    let mut world = World::new();
    (1..=4).for_each(|n| drop(Double::online(&mut world, n, &format!("gw-{n}"))));
    let spread = |world: &World| {
        let topic = Topic::HubState.print(super::writer::FLEET).unwrap();
        wire::frame::decode_plain::<wire::hello::HubState>(&world.retained[topic.as_str()]).unwrap().spread_ms
    };
    assert_eq!(spread(&world), 2_000);
    for (per_second, expected) in [(1, 4_000), (2, 2_000), (3, 2_000)] {
        world.restart();
        world.engine.config.hellos_per_second = per_second;
        world.input(Input::LinkDown);
        world.connect();
        assert_eq!(spread(&world), expected, "{per_second} a second");
    }
}
