//! The driver of CFI flash against a pair of chips that is played by the data sheet.

use super::*;
use crate::registers::fake::{Device, Fake};
use std::vec::Vec;

const SECTORS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Array,
    Query,
    Status,
    Erase,
    /// Of how many words comes next.
    Count(usize),
    /// So many words come, then the confirmation.
    Words(usize, usize),
}

/// Both chips: they are given the same commands, so one state is enough.
struct Chips {
    state: State,
    cells: Vec<u32>,
    buffer: Vec<(usize, u32)>,
    status: u32,
    busy_for: u32,
    is_stuck: bool,
    is_absent: bool,
    sector_bytes: usize,
    /// Fails with this status at the next operation.
    fails_with: u32,
    erases: Vec<usize>,
    programs: u32,
}

impl Chips {
    fn new() -> Self {
        Self {
            state: State::Array,
            cells: std::vec![0; SECTORS * SECTOR_BYTES / 4],
            buffer: Vec::new(),
            status: READY,
            busy_for: 0,
            is_stuck: false,
            is_absent: false,
            sector_bytes: SECTOR_BYTES,
            fails_with: 0,
            erases: Vec::new(),
            programs: 0,
        }
    }

    /// Something long begins.
    fn work(&mut self) -> bool {
        self.busy_for = 3;
        self.state = State::Status;
        self.status = READY | self.fails_with;
        self.fails_with == 0
    }
}

impl Device for Chips {
    fn read(&mut self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        if self.is_absent {
            return u32::MAX;
        }
        match self.state {
            State::Array => self.cells[offset / 4],
            State::Query => match offset / 4 {
                QUERY_QRY => both(u32::from(b'Q')),
                0x11 => both(u32::from(b'R')),
                0x12 => both(u32::from(b'Y')),
                QUERY_SECTOR => both((self.sector_bytes / 2 / 256) as u32 & 0xff),
                0x30 => both((self.sector_bytes / 2 / 256) as u32 >> 8),
                other => panic!("query of {other:#x}"),
            },
            State::Status | State::Count(_) => {
                let is_busy = self.is_stuck || self.busy_for > 0;
                self.busy_for = self.busy_for.saturating_sub(1);
                // The second chip is done before the first one.
                if is_busy { self.status & !0x80 } else { self.status }
            }
            State::Erase | State::Words(..) => panic!("read of {offset:#x} within a command"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        assert_eq!(self.busy_for, 0, "a command while the chips are busy");
        match (self.state, value) {
            (State::Words(at, left), value) if left > 0 => {
                assert_eq!(offset / BUFFER_BYTES, at / BUFFER_BYTES, "a buffer is one range of the flash");
                self.buffer.push((offset / 4, value));
                self.state = State::Words(at, left - 1);
            }
            (State::Words(..), CONFIRM) => {
                self.programs += 1;
                let words = std::mem::take(&mut self.buffer);
                if self.work() {
                    words.into_iter().for_each(|(word, value)| self.cells[word] &= value);
                }
            }
            (State::Count(at), count) => {
                assert!(self.busy_for == 0 && count == both(count & 0xffff), "{count:#x}");
                self.state = State::Words(at, (count & 0xffff) as usize + 1);
                assert!((count & 0xffff) < 32, "the buffer has thirty-two words");
            }
            (State::Erase, CONFIRM) => {
                let sector = offset / SECTOR_BYTES;
                self.erases.push(sector);
                if self.work() {
                    self.cells[sector * SECTOR_BYTES / 4..][..SECTOR_BYTES / 4].fill(u32::MAX);
                }
            }
            (State::Array | State::Status | State::Query, value) => match value {
                READ_ARRAY => self.state = State::Array,
                CFI_QUERY => {
                    assert_eq!(offset, QUERY_AT * 4);
                    self.state = State::Query;
                }
                CLEAR_STATUS => self.status = READY,
                ERASE => self.state = State::Erase,
                WRITE_BUFFER => {
                    assert_eq!(self.status & FAILED, 0, "what failed was not cleared");
                    self.state = State::Count(offset);
                    self.busy_for = 1;
                }
                other => panic!("command {other:#x}"),
            },
            (state, value) => panic!("{value:#x} in {state:?}"),
        }
    }
}

fn flash() -> (CfiFlash<Fake<Chips>>, Fake<Chips>) {
    let fake = Fake::new(Chips::new());
    (CfiFlash::start(fake.clone(), SECTORS * SECTOR_BYTES).expect("the chips are there"), fake)
}

const SECTOR: u32 = SECTOR_BYTES as u32;

#[test]
fn a_write_only_clears_bits_and_an_erasure_sets_them() {
    let (mut flash, fake) = flash();
    flash.erase(0, SECTOR).expect("a sector");
    flash.write(8, &[0xf0, 0xff, 0x12, 0x00]).expect("aligned");
    flash.write(8, &[0x3c, 0x0f, 0xff, 0xff]).expect("a second time");
    let mut read = [0; 8];
    flash.read(6, &mut read).expect("at any byte");
    assert_eq!(read, [0xff, 0xff, 0x30, 0x0f, 0x12, 0x00, 0xff, 0xff]);
    flash.erase(0, SECTOR).expect("a sector");
    flash.read(6, &mut read).expect("at any byte");
    assert_eq!(read, [0xff; 8]);
    assert_eq!(fake.0.borrow().state, State::Array, "readable as memory");
}

#[test]
fn a_long_write_at_any_word_is_cut_where_the_chips_buffers_end() {
    let (mut flash, fake) = flash();
    flash.erase(0, 2 * SECTOR).expect("two sectors");
    let bytes: Vec<u8> = (0..1000u32).map(|byte| byte as u8).collect();
    flash.write(SECTOR - 500, &bytes).expect("over two sectors");
    let mut read = std::vec![0; 1008];
    flash.read(SECTOR - 504, &mut read).expect("in range");
    assert_eq!(read[4..1004], bytes);
    assert_eq!((&read[..4], &read[1004..]), (&[0xff; 4][..], &[0xff; 4][..]));
    // 500 bytes before a boundary of 128, and 500 after it.
    assert_eq!(fake.0.borrow().programs, 8);
}

#[test]
fn what_is_there_already_wears_nothing() {
    let (mut flash, fake) = flash();
    flash.erase(0, SECTOR).expect("a sector");
    flash.write(0, &[0xff; 256]).expect("blank");
    flash.write(0, &[7; 4]).expect("a word");
    flash.write(0, &[7; 4]).expect("the same");
    assert_eq!(fake.0.borrow().programs, 1);
}

#[test]
fn an_erasure_takes_its_sectors_only() {
    let (mut flash, fake) = flash();
    flash.erase(0, 3 * SECTOR).expect("all");
    flash.write(0, &[1; 4]).expect("aligned");
    flash.write(2 * SECTOR, &[3; 4]).expect("aligned");
    flash.erase(SECTOR, 2 * SECTOR).expect("the second");
    assert_eq!(fake.0.borrow().erases, [0, 1, 2, 1]);
    let mut read = [0; 4];
    flash.read(2 * SECTOR, &mut read).expect("in range");
    assert_eq!(read, [3; 4]);
}

#[test]
fn a_failure_is_told_and_the_next_operation_works() {
    let (mut flash, fake) = flash();
    fake.0.borrow_mut().fails_with = 0x20;
    assert_eq!(flash.erase(0, SECTOR), Err(CfiError::Status(READY | 0x20)));
    fake.0.borrow_mut().fails_with = 0;
    flash.erase(0, SECTOR).expect("a sector");
    // The second chip's sector is locked.
    fake.0.borrow_mut().fails_with = 0x02_0000;
    assert_eq!(flash.write(0, &[1; 4]), Err(CfiError::Status(READY | 0x02_0000)));
    fake.0.borrow_mut().fails_with = 0;
    let mut read = [0; 4];
    flash.read(0, &mut read).expect("in range");
    assert_eq!(read, [0xff; 4]);
    flash.write(0, &[1; 4]).expect("aligned");
}

#[test]
fn what_is_unaligned_or_outside_is_refused() {
    let (mut flash, _) = flash();
    let bounds = |kind| Err(CfiError::Bounds(kind));
    assert_eq!(flash.write(2, &[0; 4]), bounds(NorFlashErrorKind::NotAligned));
    assert_eq!(flash.write(0, &[0; 3]), bounds(NorFlashErrorKind::NotAligned));
    assert_eq!(flash.write(3 * SECTOR, &[0; 4]), bounds(NorFlashErrorKind::OutOfBounds));
    assert_eq!(flash.erase(4096, SECTOR), bounds(NorFlashErrorKind::NotAligned));
    assert_eq!(flash.erase(0, 4 * SECTOR), bounds(NorFlashErrorKind::OutOfBounds));
    assert_eq!(flash.read(3 * SECTOR - 2, &mut [0; 3]), bounds(NorFlashErrorKind::OutOfBounds));
}

#[test]
fn an_empty_bus_and_other_sectors_are_told_apart() {
    let absent = Fake::new(Chips { is_absent: true, ..Chips::new() });
    assert_eq!(CfiFlash::start(absent, SECTOR_BYTES).err(), Some(StartError::Missing));
    let other = Fake::new(Chips { sector_bytes: 128 * 1024, ..Chips::new() });
    assert_eq!(CfiFlash::start(other.clone(), SECTOR_BYTES).err(), Some(StartError::Sector(128 * 1024)));
    assert_eq!(other.0.borrow().state, State::Array);
}

#[test]
fn chips_that_never_become_ready_are_given_up() {
    let (mut flash, fake) = flash();
    fake.0.borrow_mut().is_stuck = true;
    assert_eq!(flash.erase(0, SECTOR), Err(CfiError::Stuck));
}
