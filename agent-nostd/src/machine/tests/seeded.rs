//! Seeded runs in which everything goes wrong: loss, duplication, garbage, stale answers, cuts, resets. Safety is looked at after
//! every step, then the faults stop and the device must converge.
use super::rig::*;
use crate::machine::port::*;
use std::collections::BTreeMap;
use std::vec::Vec;
use wire::clause::Clause;
use wire::hello::ResetCause;
use wire::record::Role;
use wire::topic::Down;

/// xorshift64*: a run is its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

const CODES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const RESETS: [ResetCause; 4] = [ResetCause::PowerOn, ResetCause::BrownOut, ResetCause::Watchdog, ResetCause::Panic];

fn random_set(dice: &mut Dice, counter: u64) -> Set {
    let mut components = Vec::new();
    for workload in 1..=3 {
        if dice.one_in(4) {
            continue;
        }
        for component in 0..=dice.roll(2) as u8 {
            let mut one = service(workload, component, CODES[dice.roll(6) as usize]).generation(counter as u32);
            if component == 1 && dice.one_in(3) {
                one = one.with(Clause::After(&[0]));
            }
            if dice.one_in(4) {
                one = one.with(Clause::Every(500));
            }
            if dice.one_in(8) {
                one = one.with(Clause::Unconfirmed);
            }
            if dice.one_in(10) {
                one = one.with(Clause::Lease(60_000));
            }
            components.push(one);
        }
    }
    set(counter, &components)
}

/// Looks at the world, not at what the machine believes.
struct Oracle {
    highest: u64,
    reported: u64,
    sets: BTreeMap<u64, Set>,
}

impl Oracle {
    fn check(&mut self, rig: &Rig, seed: u64) {
        let accepted = rig.accepted();
        assert!(accepted >= self.highest, "seed {seed}: went back from {} to {accepted}", self.highest);
        self.highest = accepted;
        if let Some((fixed, _)) = &rig.status {
            self.reported = self.reported.max(fixed.revision.0.counter());
            assert!(fixed.revision.0.counter() <= accepted, "seed {seed}: reported before accepted");
        }
        // What is accepted is durable: a reset right now would find it, or a newer one.
        let durable = rig.store.restored().accepted.map_or(0, |value| {
            let mut reader = wire::codec::Reader::new(value);
            wire::desired::SignedHeader::read(&mut reader).unwrap().header.revision.0.counter()
        });
        assert!(durable >= accepted, "seed {seed}: {accepted} is not durable, {durable} is");
        assert!(self.reported <= durable, "seed {seed}: reported {} and could forget it", self.reported);
    }

    /// What starts is listed by the set that is accepted then; by key, because a version may be the last good one.
    fn check_starts(&self, rig: &mut Rig, seed: u64) {
        for (accepted, workload, component) in rig.starts.drain(..) {
            let body = wire::record::Body::decode(&self.sets[&accepted].body).unwrap();
            let is_listed = body.iter().any(|record| record.key() == (wire::WorkloadId(workload), component));
            assert!(is_listed, "seed {seed}: started {workload}/{component}, which {accepted} does not list");
        }
    }
}

fn run(seed: u64, steps: u32) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut rig = Rig::new();
    let mut oracle = Oracle { highest: 0, reported: 0, sets: BTreeMap::new() };
    let mut counter = 0;
    let mut spoilt: Vec<Answer> = Vec::new();
    for _ in 0..steps {
        match dice.roll(24) {
            0..=2 => {
                counter += 1 + dice.roll(2);
                let set = random_set(&mut dice, counter);
                oracle.sets.insert(counter, set.clone());
                rig.publish(set);
            }
            3 => rig.cut(),
            4 => rig.broker_up = !dice.one_in(3),
            5 => rig.hub_up = !dice.one_in(3),
            6 => {
                rig.disk = match dice.roll(4) {
                    0 => Disk::Full,
                    1 => Disk::Silent,
                    _ => Disk::Good,
                }
            }
            7 => {
                let behaviour = match dice.roll(6) {
                    0 => Behaviour::FailsToStart,
                    1 => Behaviour::TrapsAfter(dice.roll(3000)),
                    2 => Behaviour::Silent,
                    3 => Behaviour::Sleeps,
                    _ => Behaviour::Runs,
                };
                rig.artifact_does(CODES[dice.roll(6) as usize], behaviour);
            }
            // Lost.
            8..=9 if !rig.answers.is_empty() => {
                let at = dice.roll(rig.answers.len() as u64) as usize;
                let (_, answer) = rig.answers.remove(at);
                // An end that is never told is not loss but a shell that lies; the shell repeats it.
                if matches!(answer, Answer::Stopped(_) | Answer::Exited(..) | Answer::StartFailed(_)) {
                    rig.later(secs(3), answer);
                } else {
                    spoilt.push(answer);
                }
            }
            // Twice, or long after.
            10..=11 if !rig.answers.is_empty() => {
                let at = dice.roll(rig.answers.len() as u64) as usize;
                let answer = rig.answers[at].1.clone();
                spoilt.push(answer);
            }
            12 if !spoilt.is_empty() => {
                let at = dice.roll(spoilt.len() as u64) as usize;
                let answer = spoilt.swap_remove(at);
                rig.give(answer);
                rig.drain();
            }
            // Garbage, and good bytes spoilt.
            13 => {
                let bytes: Vec<u8> = (0..dice.roll(200)).map(|_| dice.roll(256) as u8).collect();
                let from = Down::ALL[dice.roll(7) as usize];
                rig.give(Answer::Message(Inbound::Down(from), bytes.clone()));
                rig.give(Answer::Message(Inbound::HubState, bytes));
                rig.drain();
            }
            14 if counter > 0 => {
                // Any set of the past, as a broker that crashed would serve it; sometimes with a bit turned.
                let nth = dice.roll(oracle.sets.len() as u64) as usize;
                let mut frame = oracle.sets.values().nth(nth).unwrap().frame.clone();
                if dice.one_in(2) {
                    let bit = dice.roll(frame.len() as u64 * 8) as usize;
                    frame[bit / 8] ^= 1 << (bit % 8);
                }
                rig.give(Answer::Message(Inbound::Down(Down::Desired), frame));
                rig.drain();
            }
            15 => {
                let now = rig.now;
                rig.agent.handle(now, Input::Acknowledged { ticket: Ticket(dice.roll(500) as u32) });
                rig.agent.handle(now, Input::Persisted { ticket: Ticket(u32::MAX) });
                rig.agent.handle(now, Input::Started { launch: LaunchId(dice.roll(50) as u32) });
                rig.agent.handle(now, Input::LinkUp);
                rig.drain();
            }
            16 => {
                spoilt.retain(|answer| matches!(answer, Answer::Message(..)));
                rig.reboot(RESETS[dice.roll(4) as usize]);
            }
            17 => rig.served = if dice.one_in(2) { None } else { Some(Default::default()) },
            18 => rig.hub_state(dice.roll(5) as u32, dice.roll(5000) as u32),
            _ => rig.run(ms(dice.roll(8000))),
        }
        oracle.check(&rig, seed);
        oracle.check_starts(&mut rig, seed);
    }
    converge(&mut rig, &mut oracle, counter, seed);
}

/// The faults stop; within a stated bound everything is as the hub wants it.
fn converge(rig: &mut Rig, oracle: &mut Oracle, counter: u64, seed: u64) {
    rig.broker_up = true;
    rig.hub_up = true;
    rig.disk = Disk::Good;
    rig.served = None;
    rig.behaviours.clear();
    let last = counter + 1;
    let components = [
        service(1, 0, "x"),
        service(2, 0, "y").role(Role::Service).with(Clause::Every(1000)),
        service(3, 0, "z").with(Clause::After(&[1])),
        service(3, 1, "z"),
    ];
    let set = set(last, &components);
    oracle.sets.insert(last, set.clone());
    rig.publish(set);
    // Refusals and slow retries are bounded by the hour.
    rig.run(secs(3700));
    oracle.check(rig, seed);
    assert_eq!(rig.accepted(), last, "seed {seed}: {:?}", rig.agent.link());
    assert!(rig.runs("x") && rig.runs("y") && rig.runs("z"), "seed {seed}: {:?}", rig.running);
    assert_eq!(rig.running.len(), 4, "seed {seed}: {:?}", rig.running);
    rig.ask_status();
    assert_eq!(rig.status.as_ref().unwrap().0.revision, revision(last), "seed {seed}");
    oracle.check_starts(rig, seed);
    // And rests: no more than timers, heartbeats and the odd Hello from here on.
    let (polls, connects) = (rig.polls, rig.count(|done| *done == Done::Connect));
    rig.run(secs(600));
    assert_eq!(rig.count(|done| *done == Done::Connect), connects, "seed {seed}");
    assert!(rig.polls - polls < 10_000, "seed {seed}: {} polls", rig.polls - polls);
}

#[test]
fn forty_seeds_stay_safe_and_converge() {
    for seed in 1..=40 {
        run(seed, 300);
    }
}
