//! Frames of a serial line: as they were sent or not at all, whatever the line loses, adds or bends.
use crate::corpus::line_frames;
use wire::limits::*;
use wire::line::{LINE_WIRE_BYTES_MAX, LineBody, LineEnd, LineError, LineFrame, LineId, LineReader};

fn encoded(frame: &LineFrame<'_>) -> Vec<u8> {
    let mut out = [0; LINE_WIRE_BYTES_MAX];
    let length = frame.encode(&mut out);
    out[..length].to_vec()
}

/// Every frame and every mistake that a reader finds, in text.
fn read(bytes: &[u8]) -> Vec<String> {
    let mut reader = LineReader::new();
    bytes.iter().filter_map(|byte| reader.push(*byte).map(|found| format!("{found:?}"))).collect()
}

fn whole(frame: &LineFrame<'_>) -> String {
    format!("{:?}", Ok::<_, LineError>(*frame))
}

fn data(bytes: &[u8]) -> LineFrame<'_> {
    LineFrame { id: LineId { leaf: 7, gateway: 8 }, body: LineBody::Data { sequence: 1, taken: 2, bytes } }
}

/// A generator that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

#[test]
fn every_frame_comes_back_as_it_was() {
    for frame in line_frames() {
        let bytes = encoded(&frame);
        assert_eq!(read(&bytes), [whole(&frame)]);
        assert!(bytes.len() <= LINE_WIRE_BYTES_MAX && bytes[1..bytes.len() - 1].iter().all(|byte| *byte != 0));
    }
    let all: Vec<u8> = line_frames().iter().flat_map(encoded).collect();
    assert_eq!(read(&all), line_frames().iter().map(whole).collect::<Vec<_>>());
}

#[test]
fn bytes_of_every_length_and_pattern_pass() {
    let mut dice = Dice(1);
    for length in 1..=LINE_PAYLOAD_BYTES_MAX {
        for pattern in 0..4 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| match pattern {
                    0 => 0,
                    1 => 0xff,
                    2 => dice.roll(256) as u8,
                    _ => dice.roll(2) as u8,
                })
                .collect();
            assert_eq!(read(&encoded(&data(&bytes))), [whole(&data(&bytes))]);
        }
    }
}

#[test]
fn a_frame_has_its_limits_on_both_sides() {
    let bytes = vec![0x55; LINE_PAYLOAD_BYTES_MAX + 1];
    assert!(!encoded(&data(&bytes[1..])).is_empty());
    assert!(encoded(&data(&bytes)).is_empty() && encoded(&data(&[])).is_empty());
    // A reader takes a frame at its limit, stuffed, and nothing above it: how long it would have been does not matter.
    for (length, found) in [
        (LINE_FRAME_BYTES_MAX + 1, "Err(Checksum)"),
        (LINE_FRAME_BYTES_MAX + 2, "Err(TooLong)"),
        (100_000, "Err(TooLong)"),
    ] {
        let mut line = vec![1; length];
        line[0] = u8::try_from(length).unwrap_or(1);
        line.push(0);
        let next = encoded(&data(b"next"));
        line.extend(&next);
        assert_eq!(read(&line), [found.to_owned(), whole(&data(b"next"))], "{length}");
    }
}

#[test]
fn a_cut_frame_is_none_and_the_next_one_is_found() {
    let next = data(b"next");
    for frame in line_frames() {
        let bytes = encoded(&frame);
        for cut in 1..bytes.len() - 1 {
            // Power goes in the middle of it, and comes back.
            let half = [&bytes[..cut], &encoded(&next)].concat();
            let found = read(&half);
            assert_eq!(found.last(), Some(&whole(&next)), "{frame:?} cut at {cut}");
            assert!(found.iter().all(|found| *found != whole(&frame)));
            // Whoever listens from there on finds no frame in its rest either.
            let rest = [&bytes[cut..], &encoded(&next)].concat();
            assert_eq!(read(&rest).last(), Some(&whole(&next)));
            assert!(cut == 1 || read(&rest).iter().all(|found| *found != whole(&frame)));
        }
    }
}

#[test]
fn bent_lost_and_added_bytes_are_noticed() {
    let next = data(b"next");
    for frame in line_frames() {
        let bytes = encoded(&frame);
        for at in 1..bytes.len() - 1 {
            let mut spoilt = vec![[&bytes[..at], &bytes[at + 1..]].concat()];
            spoilt.extend((0..8).map(|bit| {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                bent
            }));
            spoilt.extend([0x01, 0x7f, 0xff].map(|byte| [&bytes[..at], &[byte], &bytes[at..]].concat()));
            for spoilt in spoilt {
                let found = read(&[&spoilt[..], &encoded(&next)].concat());
                assert_eq!(found.last(), Some(&whole(&next)), "{frame:?} at {at}");
                assert!(found[..found.len() - 1].iter().all(|found| found.starts_with("Err")), "{found:?}");
            }
        }
    }
}

#[test]
fn noise_is_no_frame() {
    let mut dice = Dice(2);
    for _ in 0..2_000 {
        let noise: Vec<u8> = (0..dice.roll(600)).map(|_| dice.roll(256) as u8).collect();
        let found = read(&[&noise[..], &encoded(&data(b"next"))].concat());
        assert_eq!(found.last(), Some(&whole(&data(b"next"))));
        assert!(found[..found.len() - 1].iter().all(|found| found.starts_with("Err")), "{found:?}");
    }
}

#[test]
fn each_end_of_a_connection_has_words() {
    let words: std::collections::BTreeSet<_> = LineEnd::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), LineEnd::ALL.len());
}

#[test]
fn each_kind_is_in_the_reference() {
    let page = include_str!("../../../docs/reference/wire.md");
    for frame in line_frames() {
        // Behind the zero and the first distance.
        let row = format!("| `{:#04x}` |", encoded(&frame)[2]);
        assert!(page.contains(&row), "{frame:?}: {row}");
    }
}
