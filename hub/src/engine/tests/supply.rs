//! Contents over MQTT: who gets what, how much at once, and what goes first.
use super::device::Double;
use super::world::{World, workload};
use super::writer::FLEET;
use crate::engine::port::*;
use crate::engine::supply::*;
use crate::model::ObjectKey;
use serde_json::json;
use std::time::Duration;
use wire::desired::{Desired, body_matches};
use wire::frame::{decode_live, encode_live_with};
use wire::limits::{CHUNK_BYTES_MAX, CHUNKS_IN_FLIGHT_MAX};
use wire::topic::{Down, Topic, Up};
use wire::transfer::{Chunk, Need, Want};
use wire::{Digest, Kind};

/// Of the workload that `World::run` makes.
const ARTIFACT: Digest = Digest([0x11; 32]);
const BYTES: usize = 1234;

fn artifact(offset: u32, count: u8) -> Want {
    Want::Artifact { digest: ARTIFACT, offset, count }
}

fn need(device: &Double, world: &mut World, want: Want) {
    let mut buffer = [0; 256];
    let need = Need { session: device.session, want };
    // As a device writes it that knows no limits.
    let context = device.context(device.session);
    let frame = encode_live_with(&mut buffer, Kind::Need, &device.pair, &context, |writer| writer.value(&need));
    let frame = frame.unwrap().to_vec();
    device.up(world, Up::Need, frame);
}

/// Gives what the disk has, for every read that waits.
fn read(world: &mut World) -> Vec<ContentRead> {
    let content: Vec<u8> = (0..BYTES).map(|at| at as u8).collect();
    let reads = std::mem::take(&mut world.reads);
    for ContentRead { read, offset, length, .. } in reads.clone() {
        let part = content.iter().skip(offset as usize).take(length as usize).copied().collect();
        world.input(Input::ContentRead { read, content: Some(part) });
    }
    reads
}

/// Offset and bytes of each chunk that was sent to a device since the last look.
fn chunks(device: &Double, world: &mut World) -> Vec<(u32, Vec<u8>)> {
    let context = device.context(device.session);
    let topic = Topic::Down(device.id, Down::Chunk).print(FLEET).unwrap();
    let sent = std::mem::take(&mut world.sent).into_iter().filter(|publication| publication.topic == topic.as_str());
    sent.map(|publication| {
        assert!(!publication.retain && !publication.qos1, "asked for again if it is lost, of use to nobody later");
        let chunk = decode_live::<Chunk<'_>>(&publication.payload, &device.pair, &context).unwrap();
        (chunk.offset, chunk.bytes.to_vec())
    })
    .collect()
}

fn running() -> (World, Double) {
    let mut world = World::new();
    let mut device = Double::online(&mut world, 1, "gw-1");
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    device.run_all(&mut world);
    world.sent.clear();
    (world, device)
}

#[test]
fn what_a_device_asks_of_its_artifact_comes_in_chunks() {
    let (mut world, device) = running();
    need(&device, &mut world, artifact(0, 4));
    let reads = read(&mut world);
    assert_eq!(reads.len(), 1);
    assert_eq!((reads[0].digest, reads[0].offset, reads[0].length), (ARTIFACT, 0, 4096));
    let sent = chunks(&device, &mut world);
    assert_eq!(sent.iter().map(|(at, bytes)| (*at, bytes.len())).collect::<Vec<_>>(), [(0, 1024), (1024, 210)]);
    assert_eq!(sent[1].1[0], 1024u32 as u8);
    need(&device, &mut world, artifact(1000, 1));
    assert_eq!(read(&mut world)[0].length, 1024);
    assert_eq!(chunks(&device, &mut world)[0].0, 1000);
    assert_eq!((world.engine.supply.chunks, world.engine.supply.bytes), (3, 1234 + 234));
}

#[test]
fn what_its_set_does_not_name_is_not_given_and_is_no_offence() {
    let (mut world, device) = running();
    let other = Double::online(&mut world, 2, "gw-2");
    let refused = world.engine.messages_refused;
    let elsewhere = Want::Artifact { digest: Digest([0x22; 32]), offset: 0, count: 4 };
    for want in
        [elsewhere, artifact(BYTES as u32, 4), artifact(0, 0), Want::Body { digest: ARTIFACT, offset: 0, count: 1 }]
    {
        need(&device, &mut world, want);
    }
    need(&other, &mut world, artifact(0, 4));
    assert!(world.reads.is_empty());
    assert_eq!((world.engine.supply.unanswered, world.engine.messages_refused), (5, refused));
    need(&device, &mut world, artifact(0, CHUNKS_IN_FLIGHT_MAX + 1));
    assert_eq!(world.engine.messages_refused, refused + 1, "the format allows no more");
}

#[test]
fn questions_of_one_device_about_content_have_a_limit() {
    let (mut world, device) = running();
    for _ in 0..CONTENT_NEEDS_BURST {
        need(&device, &mut world, artifact(0, 1));
        assert_eq!(read(&mut world).len(), 1);
    }
    need(&device, &mut world, artifact(0, 1));
    assert!(world.reads.is_empty());
    world.pass(Duration::from_secs(1));
    for _ in 0..CONTENT_NEEDS_PER_SECOND.min(CONTENT_NEEDS_BURST) {
        need(&device, &mut world, artifact(0, 1));
        assert_eq!(read(&mut world).len(), 1);
    }
    assert_eq!((world.engine.supply.unanswered, world.engine.messages_refused), (1, 0));
}

#[test]
fn a_device_is_answered_one_question_at_a_time() {
    let (mut world, device) = running();
    need(&device, &mut world, artifact(0, 1));
    need(&device, &mut world, artifact(1024, 1));
    assert_eq!(read(&mut world).len(), 1);
    assert_eq!(chunks(&device, &mut world).len(), 1);
    need(&device, &mut world, artifact(1024, 1));
    assert_eq!(read(&mut world).len(), 1);
}

/// So many devices with the same work.
fn fleet(count: usize) -> (World, Vec<Double>) {
    let mut world = World::new();
    let names: Vec<String> = (0..count).map(|number| format!("d-{number}")).collect();
    let devices = (1..).zip(&names).map(|(seed, name)| Double::online(&mut world, seed, name)).collect();
    let code = world.upload("app", 0x11);
    let mut document = workload("hello", &code, json!({"on": names}));
    document["spec"]["replicas"] = json!(count);
    world.put(&ObjectKey::workload("default", "hello"), document).unwrap();
    world.sent.clear();
    (world, devices)
}

#[test]
fn so_many_answers_are_under_way_and_the_next_ones_wait() {
    let (mut world, devices) = fleet(CONTENT_ANSWERS_MAX + 3);
    for device in &devices {
        need(device, &mut world, artifact(0, 1));
    }
    assert_eq!(world.reads.len(), CONTENT_ANSWERS_MAX);
    assert_eq!(read(&mut world).len(), CONTENT_ANSWERS_MAX);
    assert_eq!(read(&mut world).len(), 3, "there is room again");
    let others = (0..CONTENT_WAITING_MAX as u64).map(|number| number.to_be_bytes());
    world.engine.supply.waiting_fill(others.map(|bytes| wire::DeviceId([bytes, bytes].concat().try_into().unwrap())));
    world.stalled = true;
    need(&devices[0], &mut world, artifact(0, 1));
    assert_eq!(world.engine.supply.unanswered, 1, "and no more than that wait");
}

#[test]
fn chunks_leave_no_faster_than_the_limit_in_turn() {
    let (mut world, devices) = fleet(CONTENT_ANSWERS_MAX + 2);
    for device in &devices {
        need(device, &mut world, artifact(0, 4));
    }
    let sent = |world: &World| world.sent.iter().filter(|sent| sent.topic.ends_with("/chunk")).count() as u64;
    world.stalled = true;
    read(&mut world);
    world.stalled = false;
    for _ in 0..20 {
        for device in &devices {
            need(device, &mut world, artifact(0, 4));
        }
        read(&mut world);
    }
    assert!(sent(&world) <= CHUNKS_BURST, "{}", sent(&world));
    let first: Vec<_> = world.sent.iter().filter(|sent| sent.topic.ends_with("/chunk")).take(4).collect();
    assert!(first[0].topic != first[1].topic, "one device after the other");
    let before = sent(&world);
    world.pass(Duration::from_millis(5));
    let later = sent(&world) - before;
    assert!((1..=CHUNKS_PER_SECOND * 5 / 1000 + 1).contains(&later), "{later}");
}

#[test]
fn fresh_goes_before_chunks_that_came_earlier() {
    let (mut world, mut device) = running();
    need(&device, &mut world, artifact(0, 4));
    let asked = world.reads.remove(0).read;
    world.stalled = true;
    world.input(Input::ContentRead { read: asked, content: Some(vec![7; 2000]) });
    assert!(device.try_hello(&mut world, false).is_none(), "nothing leaves yet");
    world.stalled = false;
    world.settle();
    let sent = |down| {
        let topic = Topic::Down(device.id, down).print(FLEET).unwrap();
        world.sent.iter().position(|sent| sent.topic == topic.as_str()).unwrap()
    };
    assert!(sent(Down::Fresh) < sent(Down::Chunk));
}

#[test]
fn a_chunk_fits_into_the_largest_packet_of_its_device() {
    let (mut world, mut device) = running();
    for (packet_bytes_max, expected) in [(1000, true), (260, true), (150, false)] {
        device.packet_bytes_max = packet_bytes_max;
        device.hello(&mut world, false).unwrap();
        world.sent.clear();
        need(&device, &mut world, artifact(0, 4));
        read(&mut world);
        for sent in world.sent.iter().filter(|sent| sent.topic.ends_with("/chunk")) {
            // Fixed header, topic with its length, properties, payload: of MQTT 5, 3.3.
            let bytes = 3 + 2 + sent.topic.len() + 1 + sent.payload.len();
            assert!(bytes <= packet_bytes_max as usize, "{bytes} bytes for {packet_bytes_max}");
        }
        let sent = chunks(&device, &mut world);
        assert_eq!(!sent.is_empty(), expected, "{packet_bytes_max}");
        assert!(sent.iter().all(|(_, bytes)| bytes.len() <= CHUNK_BYTES_MAX));
    }
}

#[test]
fn a_set_that_does_not_fit_goes_as_its_header_and_the_body_is_asked_for() {
    let (mut world, mut device) = running();
    let whole = world.retained_desired(device.id).unwrap().clone();
    device.packet_bytes_max = u32::try_from(whole.len()).unwrap() + 40;
    device.hello(&mut world, false).unwrap();
    let frame = world.retained_desired(device.id).unwrap().clone();
    let apart = Desired::decode(&frame).unwrap();
    assert!(apart.body.is_none() && frame.len() < whole.len(), "the broker keeps what the device can take");
    assert!(world.events("TooLarge").is_empty());
    world.sent.clear();
    let mut body = Vec::new();
    while body.len() < apart.signed.header.body_bytes as usize {
        let offset = u32::try_from(body.len()).unwrap();
        need(&device, &mut world, Want::Body { digest: apart.signed.header.body, offset, count: 1 });
        let (at, bytes) = chunks(&device, &mut world).remove(0);
        assert_eq!(at, offset);
        body.extend(bytes);
    }
    assert!(body_matches(&apart.signed.header, &body));
    device.packet_bytes_max = 65_536;
    device.hello(&mut world, false).unwrap();
    assert_eq!(world.retained_desired(device.id), Some(&whole), "it takes all of it now");
}

#[test]
fn what_the_disk_does_not_give_is_told_once() {
    let (mut world, device) = running();
    for _ in 0..3 {
        need(&device, &mut world, artifact(0, 4));
        let asked = world.reads.remove(0).read;
        world.input(Input::ContentRead { read: asked, content: None });
    }
    let events = world.events("ArtifactUnreadable");
    assert_eq!(events.len(), 1);
    assert!(events[0].message.contains("fulmar apply") && events[0].object == "device/gw-1");
    world.pass(Duration::from_secs(61));
    need(&device, &mut world, artifact(0, 4));
    let asked = world.reads.remove(0).read;
    world.input(Input::ContentRead { read: asked, content: Some(Vec::new()) });
    assert_eq!(world.events("ArtifactUnreadable").len(), 2);
}

#[test]
fn a_lost_link_or_a_new_session_ends_what_was_under_way() {
    let (mut world, mut device) = running();
    need(&device, &mut world, artifact(0, 4));
    let asked = world.reads.remove(0).read;
    world.input(Input::LinkDown);
    world.connect();
    world.input(Input::ContentRead { read: asked, content: Some(vec![7; 2000]) });
    assert!(chunks(&device, &mut world).is_empty());
    need(&device, &mut world, artifact(0, 4));
    device.boot = wire::BootId([42; 8]);
    device.hello(&mut world, false).unwrap();
    device.status(&mut world, &[]);
    world.sent.clear();
    read(&mut world);
    assert!(chunks(&device, &mut world).is_empty(), "the boot that asked is over");
}
