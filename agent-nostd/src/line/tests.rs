//! Two ends of a line on a virtual clock, and everything that a line does to bytes in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use std::collections::VecDeque;
use std::vec::Vec;

const GATEWAY: DeviceId = DeviceId([9; 16]);
const TICK: Duration = Duration::from_millis(10);

/// A generator that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn hits(&mut self, permille: usize) -> bool {
        self.roll(1000) < permille
    }
}

/// How bad the line is, of a thousand.
#[derive(Clone, Copy, Default)]
struct Faults {
    lost_byte: usize,
    bent_byte: usize,
    noise: usize,
    leaf_restart: usize,
    gateway_restart: usize,
}

/// What one connection should have carried in one direction, and did.
#[derive(Default)]
struct Stream {
    written: Vec<u8>,
    read: Vec<u8>,
}

struct Rig {
    now: Instant,
    dice: Dice,
    faults: Faults,
    leaf: Line,
    gateway: Line,
    to_gateway: VecDeque<u8>,
    to_leaf: VecDeque<u8>,
    connection: u32,
    up: Stream,
    down: Stream,
    /// The gateway answers by itself.
    serves: bool,
    /// Each end reads so many bytes in a tick.
    reads: usize,
    opens: u32,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let now = Instant::from_ms(1000);
        Self {
            now,
            dice: Dice(seed),
            faults: Faults::default(),
            leaf: Line::leaf(now),
            gateway: Line::gateway(now, GATEWAY, u32::MAX),
            to_gateway: VecDeque::new(),
            to_leaf: VecDeque::new(),
            connection: 100,
            up: Stream::default(),
            down: Stream::default(),
            serves: true,
            reads: usize::MAX,
            opens: 0,
        }
    }

    fn open(&mut self) {
        self.connection += 1;
        self.opens += 1;
        self.leaf.open(self.now, self.connection);
        (self.up, self.down) = (Stream::default(), Stream::default());
    }

    fn restart_gateway(&mut self) {
        self.gateway = Line::gateway(self.now, GATEWAY, self.dice.roll(usize::MAX) as u32);
    }

    fn opened(seed: u64) -> Self {
        let mut rig = Self::new(seed);
        rig.open();
        rig.run_until("open", |rig| rig.leaf.state() == LineState::Open && rig.gateway.state() == LineState::Open);
        rig
    }

    fn pass(&mut self, bytes: &[u8], to_gateway: bool) {
        for byte in bytes {
            let mut sent = Vec::new();
            if !self.dice.hits(self.faults.lost_byte) {
                let bent = if self.dice.hits(self.faults.bent_byte) { 1 << self.dice.roll(8) } else { 0 };
                sent.push(byte ^ bent);
            }
            if self.dice.hits(self.faults.noise) {
                let count = self.dice.roll(300);
                sent.extend((0..count).map(|_| self.dice.roll(256) as u8));
            }
            if to_gateway { self.to_gateway.extend(sent) } else { self.to_leaf.extend(sent) }
        }
    }

    fn tick(&mut self) {
        self.now = self.now.after(TICK);
        let mut out = [0; LINE_WIRE_BYTES_MAX];
        while let Some(length) = self.leaf.poll(self.now, &mut out) {
            self.pass(&out[..length], true);
        }
        while let Some(length) = self.gateway.poll(self.now, &mut out) {
            self.pass(&out[..length], false);
        }
        // 115200 baud.
        for _ in 0..115 {
            if let Some(byte) = self.to_gateway.pop_front() {
                self.gateway.receive(self.now, &[byte]);
            }
            if let Some(byte) = self.to_leaf.pop_front() {
                self.leaf.receive(self.now, &[byte]);
            }
        }
        if self.serves && self.gateway.state() == LineState::Opening {
            self.gateway.opened(self.now);
        }
        let is_same = self.is_same();
        let mut buffer = [0; 300];
        let reads = self.reads.min(buffer.len());
        let count = self.leaf.read(&mut buffer[..reads]);
        self.down.read.extend_from_slice(&buffer[..count]);
        if is_same {
            let count = self.gateway.read(&mut buffer[..reads]);
            self.up.read.extend_from_slice(&buffer[..count]);
        }
        self.check();
    }

    /// Safety: what is read is what was written, in order, without a gap.
    fn check(&self) {
        for stream in [&self.up, &self.down] {
            assert!(stream.written.starts_with(&stream.read));
        }
    }

    /// Both ends speak of one connection. One that the gateway began for a leaf's late question is another.
    fn is_same(&self) -> bool {
        self.gateway.id() == self.leaf.id()
    }

    fn write_some(&mut self) {
        let bytes: Vec<u8> = (0..self.dice.roll(500)).map(|_| self.dice.roll(256) as u8).collect();
        let count = self.leaf.write(self.now, &bytes);
        self.up.written.extend_from_slice(&bytes[..count]);
        if self.is_same() {
            let count = self.gateway.write(self.now, &bytes);
            self.down.written.extend_from_slice(&bytes[..count]);
        }
    }

    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = self.now.after(Duration::from_secs(120));
        while !done(self) {
            assert!(self.now < deadline, "waited in vain: {what}; {:?} {:?}", self.leaf.state(), self.gateway.state());
            self.tick();
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now.after(span);
        while self.now < end {
            self.tick();
        }
    }

    fn is_settled(&self) -> bool {
        self.up.written == self.up.read && self.down.written == self.down.read
    }
}

#[test]
fn bytes_pass_both_ways_in_order() {
    let mut rig = Rig::opened(1);
    for _ in 0..200 {
        rig.write_some();
        rig.tick();
    }
    rig.run_until("settled", Rig::is_settled);
    assert!(rig.up.read.len() > 5_000 && rig.down.read.len() > 5_000);
    assert_eq!(rig.leaf.peer(), Some(GATEWAY));
    let (leaf, gateway) = (rig.leaf.counters(), rig.gateway.counters());
    assert_eq!((leaf.resent, gateway.resent, leaf.spoilt, gateway.spoilt), (0, 0, 0, 0));
}

#[test]
fn an_idle_connection_stays_and_says_little() {
    let mut rig = Rig::opened(2);
    rig.run_for(Duration::from_secs(600));
    assert_eq!((rig.leaf.state(), rig.gateway.state()), (LineState::Open, LineState::Open));
    let sent = rig.leaf.counters().sent;
    assert!((590..620).contains(&sent), "{sent}");
}

#[test]
fn a_leaf_asks_until_it_is_answered_and_the_gateway_says_that_it_works_on_it() {
    let mut rig = Rig::new(3);
    rig.serves = false;
    rig.open();
    rig.run_for(Duration::from_secs(60));
    assert_eq!((rig.leaf.state(), rig.gateway.state()), (LineState::Opening, LineState::Opening));
    assert!(rig.leaf.counters().received > 100, "{:?}", rig.leaf.counters());
    rig.gateway.close(LineEnd::Unreachable);
    rig.run_until("closed", |rig| rig.leaf.state() == LineState::Closed(LineEnd::Unreachable));
    // The next try is another connection.
    rig.serves = true;
    rig.open();
    rig.run_until("open", |rig| rig.leaf.state() == LineState::Open);
}

#[test]
fn an_end_reaches_the_other_side_although_word_of_it_is_lost() {
    for (end, by_leaf) in [(LineEnd::Leaf, true), (LineEnd::Broker, false)] {
        let mut rig = Rig::opened(4);
        if by_leaf {
            rig.leaf.close(end)
        } else {
            rig.gateway.close(end)
        }
        // The frame that says so.
        let mut out = [0; LINE_WIRE_BYTES_MAX];
        let line = if by_leaf { &mut rig.leaf } else { &mut rig.gateway };
        assert!(line.poll(rig.now, &mut out).is_some());
        rig.run_until("closed", |rig| {
            rig.leaf.state() == LineState::Closed(end) && rig.gateway.state() == LineState::Closed(end)
        });
        // And then there is silence.
        let sent = (rig.leaf.counters().sent, rig.gateway.counters().sent);
        rig.run_for(Duration::from_secs(10));
        assert_eq!((rig.leaf.counters().sent, rig.gateway.counters().sent), sent);
        assert_eq!((rig.leaf.timeout(), rig.gateway.timeout()), (None, None));
    }
}

#[test]
fn a_side_that_started_anew_is_found_out() {
    let mut rig = Rig::opened(5);
    rig.restart_gateway();
    rig.run_until("the leaf knows", |rig| rig.leaf.state() == LineState::Closed(LineEnd::Unknown));
    let mut rig = Rig::opened(6);
    rig.leaf = Line::leaf(rig.now);
    rig.run_until("the gateway knows", |rig| rig.gateway.state() == LineState::Closed(LineEnd::Unknown));
    // A leaf that is back at once with another connection takes the place of the old one.
    let mut rig = Rig::opened(7);
    let before = rig.gateway.id();
    rig.leaf = Line::leaf(rig.now);
    rig.open();
    rig.run_until("the new one", |rig| rig.leaf.state() == LineState::Open);
    assert_ne!(rig.gateway.id(), before);
}

#[test]
fn a_late_question_at_a_gateway_that_started_anew_does_not_mix_two_connections() {
    let mut rig = Rig::new(11);
    rig.open();
    let mut question = [0; LINE_WIRE_BYTES_MAX];
    let length = LineFrame { id: rig.leaf.id(), body: LineBody::Open }.encode(&mut question);
    rig.run_until("open", |rig| rig.leaf.state() == LineState::Open);
    rig.write_some();
    rig.restart_gateway();
    // Asked before the connection was there, and heard only now: the gateway begins one that the leaf knows nothing of.
    rig.gateway.receive(rig.now, &question[..length]);
    rig.gateway.opened(rig.now);
    assert_eq!(rig.gateway.write(rig.now, b"of another connection"), 21);
    rig.run_until("both know", |rig| {
        let end = LineState::Closed(LineEnd::Unknown);
        rig.leaf.state() == end && rig.gateway.state() == end
    });
    assert!(rig.down.read.is_empty());
}

#[test]
fn a_dead_line_is_noticed_on_both_sides() {
    let mut rig = Rig::opened(8);
    rig.write_some();
    rig.faults.lost_byte = 1000;
    let begin = rig.now;
    rig.run_until("both know", |rig| {
        let end = LineState::Closed(LineEnd::Silent);
        rig.leaf.state() == end && rig.gateway.state() == end
    });
    assert!(rig.now.since(begin) <= SILENCE + PULSE_EVERY + TICK, "{:?}", rig.now.since(begin));
}

#[test]
fn who_reads_nothing_is_sent_no_more_and_in_the_end_given_up() {
    let mut rig = Rig::opened(9);
    rig.reads = 0;
    for _ in 0..50 {
        rig.write_some();
        rig.tick();
    }
    // A frame on the line and one behind it: the bound of what is taken.
    let written = rig.up.written.len();
    assert!((LINE_PAYLOAD_BYTES_MAX + 1..=2 * LINE_PAYLOAD_BYTES_MAX).contains(&written), "{written}");
    assert!(!rig.leaf.has_room());
    rig.run_for(Duration::from_secs(15));
    assert_eq!(rig.leaf.state(), LineState::Open);
    // Whoever reads again gets everything.
    rig.reads = 7;
    rig.run_until("settled", Rig::is_settled);
    rig.reads = 0;
    rig.write_some();
    rig.run_until("given up", |rig| matches!(rig.leaf.state(), LineState::Closed(LineEnd::Stalled)));
}

#[test]
fn a_frame_of_no_order_is_never_taken() {
    let mut rig = Rig::opened(10);
    let id = rig.leaf.id();
    let mut out = [0; LINE_WIRE_BYTES_MAX];
    for sequence in [1, 2, 0x8000, 0xffff] {
        let body = LineBody::Data { sequence, taken: 0, bytes: b"forged" };
        let length = LineFrame { id, body }.encode(&mut out);
        rig.leaf.receive(rig.now, &out[..length]);
        assert!(!rig.leaf.has_bytes(), "{sequence}");
    }
    // Nor is something taken that was not sent.
    let length = LineFrame { id, body: LineBody::Pulse { taken: 1 } }.encode(&mut out);
    rig.leaf.receive(rig.now, &out[..length]);
    rig.write_some();
    rig.run_until("settled", Rig::is_settled);
}

/// Everything at once: whatever the line does, nothing is read that was not written, and when it is good again all passes.
fn storm(seed: u64, faults: Faults) -> Rig {
    let mut rig = Rig::new(seed);
    rig.faults = faults;
    rig.open();
    for _ in 0..4_000 {
        if rig.dice.hits(200) {
            rig.write_some();
        }
        if rig.dice.hits(rig.faults.leaf_restart) {
            rig.leaf = Line::leaf(rig.now);
            rig.open();
        }
        if rig.dice.hits(rig.faults.gateway_restart) {
            rig.restart_gateway();
        }
        if matches!(rig.leaf.state(), LineState::Closed(_)) {
            rig.open();
        }
        rig.tick();
    }
    rig.faults = Faults::default();
    // What is on its way may still end a connection.
    let deadline = rig.now.after(Duration::from_secs(60));
    loop {
        if matches!(rig.leaf.state(), LineState::Closed(_)) {
            rig.open();
        }
        let is_open = rig.leaf.state() == LineState::Open && rig.gateway.state() == LineState::Open;
        if is_open && rig.is_same() && rig.is_settled() {
            break;
        }
        assert!(rig.now < deadline, "seed {seed}: {:?} {:?}", rig.leaf.state(), rig.gateway.state());
        rig.tick();
    }
    rig.write_some();
    rig.run_until("settled", Rig::is_settled);
    rig
}

#[test]
fn a_bad_line_costs_time_and_never_a_byte() {
    let (mut resent, mut spoilt) = (0, 0);
    for seed in 0..60 {
        let faults = Faults { lost_byte: 2, bent_byte: 2, noise: 1, ..Faults::default() };
        let rig = storm(seed, faults);
        resent += rig.leaf.counters().resent;
        spoilt += rig.gateway.counters().spoilt;
    }
    assert!(resent > 100 && spoilt > 100, "{resent} {spoilt}");
}

#[test]
fn restarts_on_a_bad_line_end_connections_and_mix_none() {
    let mut opens = 0;
    for seed in 100..160 {
        let faults = Faults { lost_byte: 1, bent_byte: 1, noise: 1, leaf_restart: 2, gateway_restart: 2 };
        opens += storm(seed, faults).opens;
    }
    assert!(opens > 200, "{opens}");
}
