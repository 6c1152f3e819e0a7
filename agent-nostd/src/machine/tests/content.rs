//! Frames of a transfer: only while the hub is heard, and only of its session.
use super::rig::*;
use wire::Digest;
use wire::frame::decode_live;
use wire::transfer::{Chunk, Need, Want};

const WANT: Want = Want::Artifact { digest: Digest([3; 32]), offset: 4096, count: 4 };

#[test]
fn a_content_is_asked_for_in_the_session_of_the_hub() {
    let mut buffer = [0; 128];
    let mut rig = Rig::new();
    assert_eq!(rig.agent.need(WANT, &mut buffer), None);
    rig.run(secs(20));
    let frame = rig.agent.need(WANT, &mut buffer).unwrap();
    let need: Need = decode_live(frame, &PAIR_KEY, &rig.inside()).unwrap();
    assert_eq!(need.want, WANT);
    assert_eq!(rig.agent.need(WANT, &mut [0; 16]), None);
}

#[test]
fn a_chunk_of_another_session_is_not_taken() {
    let mut rig = Rig::new();
    rig.run(secs(20));
    let chunk = Chunk { content: Digest([3; 32]).prefix(), offset: 4096, bytes: b"part" };
    let frame = rig.live(&rig.inside(), &chunk);
    assert_eq!(rig.agent.chunk(&frame), Some(chunk));
    let mut forged = frame.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(rig.agent.chunk(&forged), None);
    let elsewhere = wire::LiveContext { session: wire::Session(77), ..rig.inside() };
    assert_eq!(rig.agent.chunk(&rig.live(&elsewhere, &chunk)), None);
}
