//! Whatever happens to a shelf: what was accepted is told, still there, or counted as lost.
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

fn shelf(bytes: usize, then: Then) -> Shelf<'static> {
    Shelf::new(Box::leak(std::vec![0; bytes].into_boxed_slice()), then)
}

/// Sequences and records of what `pick` names, as the wire has them: records here are of a fixed length.
fn told(shelf: &Shelf<'_>, pick: &Pick, length: usize) -> Vec<(u32, Vec<u8>)> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    shelf.copy(pick, &mut writer).unwrap();
    let mut reader = Reader::new(writer.written());
    let mut out = Vec::new();
    while !reader.is_empty() {
        out.push((reader.take::<u32>().unwrap(), reader.bytes(length).unwrap().to_vec()));
    }
    out
}

fn save(shelf: &Shelf<'_>) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    shelf.save(7, &mut writer).unwrap();
    writer.written().to_vec()
}

#[test]
fn fresh_records_are_told_before_what_waited() {
    let mut shelf = shelf(400, Then::Forget);
    (0..5).for_each(|item| shelf.push_or_drop_oldest(&[item]));
    shelf.link_found();
    (5..7).for_each(|item| shelf.push_or_drop_oldest(&[item]));
    let mut order = Vec::new();
    for number in 0.. {
        let Some(pick) = shelf.pick(4, 100) else { break };
        assert_eq!(pick.first, if number < 2 { 1 } else { 5 });
        order.extend(told(&shelf, &pick, 1).into_iter().map(|(_, record)| record[0]));
        shelf.sent(&pick, Ticket(number), Instant::ZERO);
        shelf.acknowledged(Ticket(number));
    }
    assert_eq!(order, [5, 6, 0, 1, 2, 3, 4]);
    assert_eq!((shelf.ring.used(), shelf.lost), (0, 0));
}

#[test]
fn a_full_ring_of_alarms_refuses_and_counts() {
    // Length 2, fate 1, sequence 4, key 1, record 3: four of them fit.
    let mut shelf = shelf(44, Then::Await);
    let kept: Vec<bool> = (0..6).map(|item| shelf.push_or_refuse(&[item; 3])).collect();
    assert_eq!(kept, [true, true, true, true, false, false]);
    assert_eq!((shelf.lost, shelf.next_sequence), (2, 7));
    assert_eq!(shelf.pick(9, 99), None, "nothing is told before it is durable");
    shelf.saved(3);
    let pick = shelf.pick(9, 99).unwrap();
    assert_eq!(told(&shelf, &pick, 3).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1, 2]);
    shelf.sent(&pick, Ticket(1), Instant::ZERO);
    shelf.acknowledged(Ticket(1));
    assert!(shelf.is_awaiting() && shelf.pick(9, 99).is_none());
    shelf.again();
    assert_eq!(shelf.pick(9, 99).unwrap().count(), 2, "PUBACK is not the hub's word");
    assert!(shelf.taken(1) && shelf.push_or_refuse(&[9; 3]));
    assert!(!shelf.taken(1));
}

#[test]
fn a_record_of_the_longest_form_is_kept_and_one_byte_more_is_lost() {
    for (length, lost) in [(RECORD_BYTES_MAX - 1, 0), (RECORD_BYTES_MAX, 0), (RECORD_BYTES_MAX + 1, 1)] {
        let record = std::vec![1; length];
        let mut metrics = shelf(1024, Then::Forget);
        metrics.push_or_drop_oldest(&record);
        let mut states = shelf(1024, Then::Hold);
        states.push_latest(&record, 4);
        let mut alarms = shelf(1024, Then::Await);
        assert_eq!(alarms.push_or_refuse(&record), lost == 0);
        assert_eq!([metrics.lost, states.lost, alarms.lost], [lost; 3], "{length}");
    }
}

#[test]
fn at_most_so_many_frames_are_in_flight() {
    let mut shelf = shelf(400, Then::Forget);
    for number in 0..=SAMPLE_FRAMES_IN_FLIGHT_MAX as u32 {
        shelf.push_or_drop_oldest(&[1]);
        let pick = shelf.pick(1, 99);
        assert_eq!(pick.is_some(), number < SAMPLE_FRAMES_IN_FLIGHT_MAX as u32);
        if let Some(pick) = pick {
            shelf.sent(&pick, Ticket(number), Instant::from_ms(u64::from(number)));
        }
    }
    assert_eq!(shelf.deadline(), Some(Instant::ZERO));
    shelf.acknowledged(Ticket(0));
    assert_eq!(shelf.deadline(), Some(Instant::from_ms(1)));
    assert!(shelf.has_waiting());
}

#[test]
fn a_replaced_state_is_no_loss_and_a_new_hub_hears_the_latest_of_each_key() {
    let mut shelf = shelf(100, Then::Hold);
    for value in 0..50 {
        shelf.push_latest(&[b'a' + value % 2, value], 1);
    }
    let pick = shelf.pick(9, 99).unwrap();
    assert_eq!(told(&shelf, &pick, 2), [(1, std::vec![b'a', 48]), (2, std::vec![b'b', 49])]);
    shelf.sent(&pick, Ticket(1), Instant::ZERO);
    shelf.acknowledged(Ticket(1));
    assert_eq!((shelf.pick(9, 99), shelf.lost), (None, 0));
    shelf.tell_held_again();
    let pick = shelf.pick(9, 99).unwrap();
    assert_eq!(told(&shelf, &pick, 2), [(3, std::vec![b'a', 48]), (4, std::vec![b'b', 49])]);
}

#[test]
fn a_restored_ring_of_alarms_goes_on_where_it_was_durable() {
    let mut first = shelf(200, Then::Await);
    (0..4).for_each(|item| assert!(first.push_or_refuse(&[item; 3])));
    first.saved(5);
    assert!(first.taken(2));
    let value = save(&first);
    assert!(value.len() <= Shelf::saved_bytes_max(200));
    let mut second = shelf(200, Then::Await);
    assert_eq!(second.restore(&value), Some(7));
    let pick = second.pick(9, 99).unwrap();
    assert_eq!(told(&second, &pick, 3), [(3, std::vec![2; 3]), (4, std::vec![3; 3])]);
    assert_eq!(second.next_sequence, 5);
    // Any cut of the value is a shorter ring, and no panic.
    for cut in 0..value.len() {
        let mut cut_off = shelf(200, Then::Await);
        assert_eq!(cut_off.restore(&value[..cut]).is_some(), cut >= SAVED_HEAD_BYTES, "{cut}");
    }
    let mut smaller = shelf(11, Then::Await);
    smaller.restore(&value);
    assert_eq!(smaller.lost, 1, "what does not fit into a smaller ring is counted");
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8, u8),
    Send,
    Acknowledge(bool),
    /// And whether what was in flight had arrived.
    LinkLost(bool),
    LinkFound,
    NewHub,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u8, 1..20u8).prop_map(|(key, length)| Step::Push(key, length)),
        3 => Just(Step::Send),
        3 => any::<bool>().prop_map(Step::Acknowledge),
        1 => any::<bool>().prop_map(Step::LinkLost),
        1 => Just(Step::LinkFound),
        1 => Just(Step::NewHub),
    ]
}

proptest! {
    /// The account that operators see: of the sequences that were taken, each was received, or is here, or is counted as lost.
    #[test]
    fn sent_is_received_plus_waiting_plus_counted_lost(
        steps in vec(step(), 0..200), room in 30..300usize, is_state in any::<bool>(),
    ) {
        let mut shelf = shelf(room, if is_state { Then::Hold } else { Then::Forget });
        let (mut received, mut flying, mut number) = (BTreeSet::new(), BTreeMap::new(), 0);
        for step in steps {
            match step {
                Step::Push(key, length) => {
                    let record = std::vec![key; usize::from(length)];
                    if is_state { shelf.push_latest(&record, 1) } else { shelf.push_or_drop_oldest(&record) }
                }
                Step::Send => if let Some(pick) = shelf.pick(3, 60) {
                    number += 1;
                    let sequences: Vec<u32> = pick.offsets.iter().map(|offset| shelf.sequence(*offset)).collect();
                    prop_assert!(sequences.iter().all(|sequence| *sequence >= pick.first));
                    // What is settled is settled: nothing below `first` ever comes.
                    shelf.sent(&pick, Ticket(number), Instant::ZERO);
                    flying.insert(number, sequences);
                },
                Step::Acknowledge(newest) => {
                    let ticket = if newest { flying.keys().next_back() } else { flying.keys().next() }.copied();
                    if let Some(ticket) = ticket {
                        received.extend(flying.remove(&ticket).unwrap());
                        shelf.acknowledged(Ticket(ticket));
                    }
                }
                Step::LinkLost(has_arrived) => {
                    shelf.link_lost();
                    let lost = core::mem::take(&mut flying);
                    if has_arrived { received.extend(lost.into_values().flatten()) }
                }
                Step::LinkFound => shelf.link_found(),
                Step::NewHub => shelf.tell_held_again(),
            }
            let mut here = BTreeSet::new();
            let mut offset = 0;
            while let Some(fate) = shelf.fate(offset) {
                if !matches!(fate, Fate::Dead | Fate::Held) {
                    prop_assert!(here.insert(shelf.sequence(offset)), "a sequence twice");
                }
                offset = shelf.ring.next(offset).unwrap();
            }
            prop_assert!(shelf.ring.used() <= room);
            // What is sent again may have arrived; what is counted as lost never has.
            let accounted = here.union(&received).count() as u64;
            prop_assert_eq!(u64::from(shelf.next_sequence - 1), accounted + u64::from(shelf.lost));
        }
    }

    #[test]
    fn foreign_bytes_never_break_a_ring(value in vec(any::<u8>(), 0..300)) {
        let mut shelf = shelf(120, Then::Await);
        shelf.restore(&[&[FORMAT][..], &value].concat());
        shelf.push_or_refuse(&[1]);
        shelf.saved(u32::MAX / 3);
        let _ = shelf.pick(9, 99);
        prop_assert!(save(&shelf).len() <= Shelf::saved_bytes_max(120));
    }
}
