//! Power cuts and rot at every point of a write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::machine::port::JournalKey;
use std::vec::Vec;

const KEY: JournalKey = JournalKey::Accepted;

fn sealed(sequence: u64, value: &[u8]) -> Vec<u8> {
    let mut slot = seal(KEY, sequence, value).to_vec();
    slot.extend_from_slice(value);
    slot
}

#[test]
fn the_checksum_is_that_of_ieee_802_3() {
    assert_eq!(crc32(CRC_START, b"123456789") ^ CRC_START, 0xcbf4_3926);
}

#[test]
fn the_highest_valid_sequence_wins() {
    let (old, new) = (sealed(7, b"old"), sealed(8, b"new"));
    assert_eq!(pick(KEY, &old, &new).unwrap().value, b"new");
    assert_eq!(pick(KEY, &new, &old).unwrap().value, b"new");
    assert_eq!(pick(KEY, &new, &[]).unwrap().slot, Slot::A);
    assert_eq!(pick(KEY, &[], &[]), None);
}

#[test]
fn a_value_of_another_key_is_not_taken() {
    assert_eq!(open(JournalKey::LastGood, &sealed(1, b"x")), None);
}

#[test]
fn a_write_goes_to_the_slot_that_is_not_the_truth() {
    let slot = sealed(3, b"v");
    let picked = pick(KEY, &[], &slot);
    assert_eq!(Next::after(picked.as_ref()), Next { slot: Slot::A, sequence: 4 });
    assert_eq!(Next::after(None).written(), Next { slot: Slot::B, sequence: 2 });
}

#[test]
fn every_torn_write_leaves_the_old_value_or_the_new_one() {
    // Slot B is overwritten from any earlier content, cut after every byte; what is not written yet is old, erased, or zero.
    for earlier in [Vec::new(), sealed(1, b"an even older and longer value than both")] {
        let old = sealed(2, b"the old set");
        let new = sealed(3, b"the new set!");
        for cut in 0..=new.len() {
            for fill in [None, Some(0xff), Some(0)] {
                let mut torn = new[..cut].to_vec();
                match fill {
                    None => torn.extend(earlier.iter().skip(cut)),
                    Some(fill) => torn.resize(new.len().max(cut), fill),
                }
                let picked = pick(KEY, &old, &torn).expect("never none");
                let whole = torn.len() >= new.len() && torn[..new.len()] == new[..];
                assert_eq!(picked.value, if whole { &b"the new set!"[..] } else { b"the old set" }, "cut {cut}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let old = sealed(4, b"old");
    let new = sealed(5, b"new");
    for bit in 0..new.len() * 8 {
        let mut rotten = new.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        // Two zero bytes of the head are covered by the checksum as well.
        assert_eq!(pick(KEY, &old, &rotten).unwrap().value, b"old", "bit {bit}");
        assert_eq!(pick(KEY, &rotten, &rotten), None, "bit {bit}");
    }
}

#[test]
fn a_length_beyond_the_slot_is_refused() {
    let mut slot = sealed(1, b"value");
    slot[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(open(KEY, &slot), None);
}
