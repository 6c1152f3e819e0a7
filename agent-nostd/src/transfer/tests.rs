//! A transfer over a link that loses, repeats, reorders and lies, with a device that resets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// A source that has one content and answers as the hub does.
struct Source {
    content: Vec<u8>,
    chunk_bytes: usize,
}

impl Source {
    fn answer(&self, want: Want) -> Vec<(u32, Vec<u8>)> {
        let (Want::Artifact { offset, count, .. } | Want::Body { offset, count, .. }) = want else {
            panic!("a transfer asks for content")
        };
        let rest = self.content.get(offset as usize..).unwrap_or_default();
        let starts = (0..).map(|number: u32| offset + number * self.chunk_bytes as u32);
        starts.zip(rest.chunks(self.chunk_bytes).map(<[u8]>::to_vec)).take(usize::from(count)).collect()
    }
}

/// A memory that keeps what it was given over resets, and may be told to have kept a torn end.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    torn_at: Option<u32>,
    rots: bool,
    begun: u32,
    finished: bool,
}

impl Sink for Kept {
    fn begin(&mut self, _: &Digest, _: u32) -> Result<u32, FetchFailure> {
        self.begun += 1;
        if let Some(at) = self.torn_at.take_if(|at| *at == u32::MAX) {
            self.bytes.truncate(self.bytes.len().saturating_sub(700).min(at as usize));
        }
        Ok(self.bytes.len() as u32)
    }

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), FetchFailure> {
        into.copy_from_slice(&self.bytes[offset as usize..offset as usize + into.len()]);
        Ok(())
    }

    fn append(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SinkError> {
        assert_eq!(offset as usize, self.bytes.len(), "in order, without a gap");
        if self.torn_at.is_some_and(|at| at == offset) {
            self.torn_at = Some(u32::MAX);
            return Err(SinkError::Torn);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn discard(&mut self) {
        self.bytes.clear();
    }

    fn finish(&mut self) -> Result<(), FetchFailure> {
        if self.rots {
            return Err(FetchFailure::HashMismatch);
        }
        self.finished = true;
        Ok(())
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn begin(source: &Source, sink: &mut Kept) -> Transfer {
    let digest = Digest::of(&source.content);
    Transfer::begin(Instant::ZERO, Content::Artifact, digest, source.content.len() as u32, sink).unwrap()
}

/// Steps until the end; `link` decides what becomes of each chunk of an answer. Time passes when nothing else happens.
fn play(
    source: &Source,
    sink: &mut Kept,
    transfer: &mut Transfer,
    mut link: impl FnMut(Vec<(u32, Vec<u8>)>) -> Vec<(u32, Vec<u8>)>,
) -> (Result<(), FetchFailure>, u32, Instant) {
    let (mut now, mut asked) = (Instant::ZERO, 0u32);
    for _ in 0..100_000 {
        match transfer.poll(now, asked.wrapping_mul(0x9e37_79b1), sink) {
            Some(Step::Ask(want)) => {
                asked += 1;
                for (offset, bytes) in link(source.answer(want)) {
                    let content = Digest::of(&source.content).prefix();
                    transfer.chunk(now, &Chunk { content, offset, bytes: &bytes }, sink);
                }
            }
            Some(Step::Done) => return (Ok(()), asked, now),
            Some(Step::Failed(failure)) => return (Err(failure), asked, now),
            None => now = transfer.poll_timeout().expect("it waits for something").max(now),
        }
    }
    panic!("the transfer does not end");
}

#[test]
fn a_content_comes_with_one_question_for_each_four_chunks() {
    let source = Source { content: content(20 * 1024), chunk_bytes: 1024 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    let (result, asked, now) = play(&source, &mut sink, &mut transfer, |answer| answer);
    assert_eq!((result, asked, now), (Ok(()), 5, Instant::ZERO));
    assert!(sink.finished && sink.bytes == source.content);
}

#[test]
fn a_content_of_nothing_is_asked_for_by_nobody() {
    let source = Source { content: Vec::new(), chunk_bytes: 1024 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    assert_eq!(play(&source, &mut sink, &mut transfer, |answer| answer).1, 0);
    assert!(sink.finished);
}

#[test]
fn a_silent_source_is_given_up_after_a_while() {
    let source = Source { content: content(3000), chunk_bytes: 1024 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    let (result, asked, now) = play(&source, &mut sink, &mut transfer, |_| Vec::new());
    assert_eq!((result, asked), (Err(FetchFailure::Unreachable), u32::from(SILENT_MAX)));
    // Seven times two seconds, and pauses of 0.5 to 16 seconds at most: less than the machine waits for a body.
    assert!((Duration::from_secs(29)..Duration::from_secs(46)).contains(&now.since(Instant::ZERO)), "{now:?}");
}

#[test]
fn pauses_double_spread_and_are_bounded() {
    for silent in 1..=u8::MAX {
        let [least, most] = [0, u32::MAX].map(|random| pause(silent, random));
        assert!(least >= PAUSE_MIN / 2 && most <= PAUSE_MAX, "{silent}");
        let draws: std::collections::BTreeSet<_> =
            (0..50u32).map(|n| pause(silent, n.wrapping_mul(2_654_435_761))).collect();
        assert!(draws.len() > 20, "{silent}: devices that failed together ask together");
    }
    assert!(pause(1, u32::MAX) < pause(2, 0).saturating_mul(2) && pause(9, 0) >= PAUSE_MAX / 2);
}

#[test]
fn a_source_that_lies_is_given_up_after_two_contents() {
    let source = Source { content: content(5000), chunk_bytes: 1024 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    let (result, asked, _) = play(&source, &mut sink, &mut transfer, |mut answer| {
        answer.iter_mut().for_each(|(_, bytes)| bytes[0] ^= 1);
        answer
    });
    assert_eq!((result, asked), (Err(FetchFailure::HashMismatch), 2 * u32::from(WRONG_MAX)));
    assert!(!sink.finished);
}

#[test]
fn one_wrong_chunk_costs_a_try() {
    let source = Source { content: content(5000), chunk_bytes: 1024 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    let mut is_first = true;
    let (result, _, _) = play(&source, &mut sink, &mut transfer, |mut answer| {
        if core::mem::take(&mut is_first) {
            answer[2].1[5] ^= 0x80;
        }
        answer
    });
    assert_eq!(result, Ok(()));
    assert!(sink.bytes == source.content);
}

#[test]
fn a_memory_that_keeps_it_wrong_is_no_endless_loop() {
    let source = Source { content: content(2000), chunk_bytes: 1024 };
    let mut sink = Kept { rots: true, ..Kept::default() };
    let mut transfer = begin(&source, &mut sink);
    assert_eq!(play(&source, &mut sink, &mut transfer, |answer| answer).0, Err(FetchFailure::HashMismatch));
}

#[test]
fn a_reset_at_every_byte_goes_on_there() {
    let source = Source { content: content(2500), chunk_bytes: 512 };
    for cut in 0..=source.content.len() {
        let mut sink = Kept { bytes: source.content[..cut].to_vec(), ..Kept::default() };
        let mut transfer = begin(&source, &mut sink);
        assert_eq!(transfer.done() as usize, cut);
        let (result, asked, _) = play(&source, &mut sink, &mut transfer, |answer| answer);
        let missing = (source.content.len() - cut).div_ceil(512).div_ceil(4);
        assert_eq!((result, asked as usize), (Ok(()), missing), "cut at {cut}");
        assert!(sink.finished && sink.bytes == source.content);
    }
}

#[test]
fn a_torn_end_is_taken_back_and_fetched_again() {
    let source = Source { content: content(5000), chunk_bytes: 512 };
    for torn in [512, 1024, 2560] {
        let mut sink = Kept { bytes: source.content[..torn].to_vec(), torn_at: Some(torn as u32), ..Kept::default() };
        let mut transfer = begin(&source, &mut sink);
        let (result, _, now) = play(&source, &mut sink, &mut transfer, |answer| answer);
        assert_eq!((result, now), (Ok(()), Instant::ZERO), "torn at {torn}");
        assert!(sink.bytes == source.content && sink.begun == 2);
    }
}

#[test]
fn a_memory_that_takes_everything_back_is_given_up() {
    struct Spoiled(u32);
    impl Sink for Spoiled {
        fn begin(&mut self, _: &Digest, _: u32) -> Result<u32, FetchFailure> {
            self.0 += 1;
            Ok(0)
        }
        fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), FetchFailure> {
            Err(FetchFailure::Absent)
        }
        fn append(&mut self, _: u32, _: &[u8]) -> Result<(), SinkError> {
            Err(SinkError::Torn)
        }
        fn discard(&mut self) {}
        fn finish(&mut self) -> Result<(), FetchFailure> {
            Ok(())
        }
    }
    let source = Source { content: content(5000), chunk_bytes: 512 };
    let mut sink = Spoiled(0);
    let digest = Digest::of(&source.content);
    let mut transfer = Transfer::begin(Instant::ZERO, Content::Artifact, digest, 5000, &mut sink).unwrap();
    for _ in 0..TORN_MAX {
        let Some(Step::Ask(want)) = transfer.poll(Instant::ZERO, 0, &mut sink) else { panic!("it asks again") };
        let (offset, bytes) = source.answer(want).swap_remove(0);
        transfer.chunk(Instant::ZERO, &Chunk { content: digest.prefix(), offset, bytes: &bytes }, &mut sink);
    }
    assert_eq!(transfer.poll(Instant::ZERO, 0, &mut sink), Some(Step::Failed(FetchFailure::NoSpace)));
    assert_eq!(sink.0, u32::from(TORN_MAX));
}

#[test]
fn a_new_connection_asks_at_once() {
    let source = Source { content: content(5000), chunk_bytes: 512 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    assert!(matches!(transfer.poll(Instant::ZERO, 0, &mut sink), Some(Step::Ask(_))));
    assert_eq!(transfer.poll(Instant::ZERO, 0, &mut sink), None);
    transfer.link_up(Instant::from_ms(5));
    assert!(matches!(transfer.poll(Instant::from_ms(5), 0, &mut sink), Some(Step::Ask(_))));
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let source = Source { content: content(3000), chunk_bytes: 1024 };
    let mut sink = Kept::default();
    let mut transfer = begin(&source, &mut sink);
    let prefix = Digest::of(&source.content).prefix();
    let chunk = |content, offset, bytes| Chunk { content, offset, bytes };
    let first = &source.content[..1024];
    transfer.chunk(Instant::ZERO, &chunk(prefix, 0, first), &mut sink);
    assert_eq!(transfer.done(), 0, "nothing was asked for yet");
    transfer.poll(Instant::ZERO, 0, &mut sink);
    for wrong in [
        chunk(Digest::of(b"other").prefix(), 0, first),
        chunk(prefix, 1024, &source.content[1024..2048]),
        chunk(prefix, 0, &[]),
        chunk(prefix, u32::MAX, first),
        chunk(prefix, 0, &[0; 3001]),
    ] {
        transfer.chunk(Instant::ZERO, &wrong, &mut sink);
        assert_eq!(transfer.done(), 0, "{wrong:?}");
    }
    transfer.chunk(Instant::ZERO, &chunk(prefix, 0, first), &mut sink);
    assert_eq!(transfer.done(), 1024);
}

#[test]
fn a_body_goes_to_memory_and_one_that_is_too_long_nowhere() {
    let body = content(900);
    let digest = Digest::of(&body);
    let mut buffer = [0; 1000];
    let mut memory = Memory::new(&mut buffer);
    let mut transfer = Transfer::begin(Instant::ZERO, Content::Body, digest, 900, &mut memory).unwrap();
    let Some(Step::Ask(Want::Body { offset: 0, .. })) = transfer.poll(Instant::ZERO, 0, &mut memory) else {
        panic!("a body is asked for as one")
    };
    transfer.chunk(Instant::ZERO, &Chunk { content: digest.prefix(), offset: 0, bytes: &body }, &mut memory);
    assert_eq!(transfer.poll(Instant::ZERO, 0, &mut memory), Some(Step::Done));
    assert_eq!(memory.bytes(), body);
    let refused = Transfer::begin(Instant::ZERO, Content::Body, digest, 1001, &mut memory);
    assert_eq!(refused.map(|_| ()), Err(FetchFailure::NoSpace));
}

/// What a link does with one answer.
#[derive(Clone, Debug)]
struct Fate {
    lost: Vec<bool>,
    doubled: Vec<bool>,
    reversed: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    let flags = || proptest::collection::vec(proptest::bool::weighted(0.3), 4);
    (flags(), flags(), proptest::bool::weighted(0.2)).prop_map(|(lost, doubled, reversed)| Fate {
        lost,
        doubled,
        reversed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_link_does_the_content_comes_whole_or_the_source_is_given_up(
        bytes in 0usize..9000,
        chunk_bytes in prop_oneof![Just(1024usize), Just(512), Just(100), 1usize..1024],
        fates in proptest::collection::vec(fate(), 1..40),
        resets in proptest::collection::vec(0u32..60, 0..4),
    ) {
        let source = Source { content: content(bytes), chunk_bytes };
        let mut sink = Kept::default();
        let mut transfer = begin(&source, &mut sink);
        let (mut now, mut asked) = (Instant::ZERO, 0u32);
        let ended = loop {
            prop_assert!(asked < 50_000, "the transfer does not end");
            match transfer.poll(now, asked.wrapping_mul(0x9e37_79b1), &mut sink) {
                Some(Step::Ask(want)) => {
                    if resets.contains(&asked) {
                        transfer = begin(&source, &mut sink);
                    }
                    // What is lost at first comes in the end: the link gets better.
                    let fate = fates.get(asked as usize);
                    asked += 1;
                    let mut answer = source.answer(want);
                    if let Some(fate) = fate {
                        let mut at = 0;
                        answer.retain(|_| { at += 1; !fate.lost[at - 1] });
                        let doubled = answer.iter().enumerate().filter(|(at, _)| fate.doubled[*at]).map(|(_, chunk)| chunk.clone());
                        let doubled: Vec<_> = doubled.collect();
                        answer.extend(doubled);
                        if fate.reversed { answer.reverse(); }
                    }
                    for (offset, bytes) in answer {
                        let content = Digest::of(&source.content).prefix();
                        transfer.chunk(now, &Chunk { content, offset, bytes: &bytes }, &mut sink);
                    }
                }
                Some(Step::Done) => break Ok(()),
                Some(Step::Failed(failure)) => break Err(failure),
                None => now = transfer.poll_timeout().expect("it waits").max(now),
            }
        };
        match ended {
            Ok(()) => prop_assert!(sink.finished && sink.bytes == source.content),
            Err(failure) => prop_assert_eq!(failure, FetchFailure::Unreachable),
        }
    }
}
