//! The bus against a thermometer that sees its two lines and nothing else.
use super::*;
use crate::registers::fake::{Device, Fake};
use std::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It was not addressed.
    Deaf,
    Address,
    Write,
    Read,
}

/// A device at 0x48 whose bytes are its register's number, counted up.
struct Thermometer {
    /// What the master lets go.
    master: u32,
    /// It pulls data.
    pulls: bool,
    mode: Mode,
    bits: u32,
    shift: u8,
    sent: u8,
    written: Vec<u8>,
    starts: u32,
    stops: u32,
    refuses_data: bool,
}

impl Thermometer {
    fn new() -> Self {
        Self {
            master: CLOCK | DATA,
            pulls: false,
            mode: Mode::Deaf,
            bits: 0,
            shift: 0,
            sent: 0,
            written: Vec::new(),
            starts: 0,
            stops: 0,
            refuses_data: false,
        }
    }

    fn data(&self) -> bool {
        self.master & DATA != 0 && !self.pulls
    }

    fn moved(&mut self, old: u32) {
        let (was, is) = (old & CLOCK != 0, self.master & CLOCK != 0);
        if was && is && (old ^ self.master) & DATA != 0 {
            let is_stop = self.master & DATA != 0;
            (self.starts, self.stops) = (self.starts + u32::from(!is_stop), self.stops + u32::from(is_stop));
            self.mode = if is_stop { Mode::Deaf } else { Mode::Address };
            (self.bits, self.pulls) = (0, false);
        } else if is && !was {
            self.rise();
        } else if was && !is {
            self.fall();
        }
    }

    /// Data counts while the clock is high.
    fn rise(&mut self) {
        let data = self.data();
        if self.bits < 8 {
            self.shift = self.shift << 1 | u8::from(data);
        } else if self.mode == Mode::Read && data {
            // Not acknowledged: that was enough.
            self.mode = Mode::Deaf;
        }
        self.bits += 1;
    }

    /// The next bit is laid out while it is low.
    fn fall(&mut self) {
        if self.bits == 0 {
            // After a start.
            return;
        }
        if self.bits == 8 {
            let is_taken = match self.mode {
                Mode::Address => self.shift >> 1 == 0x48,
                Mode::Write => {
                    self.written.push(self.shift);
                    self.sent = self.shift;
                    !self.refuses_data
                }
                Mode::Read | Mode::Deaf => false,
            };
            self.pulls = is_taken && self.mode != Mode::Read;
            return;
        }
        if self.bits == 9 {
            if self.mode == Mode::Address {
                let is_mine = self.shift >> 1 == 0x48;
                self.mode = match (is_mine, self.shift & 1) {
                    (false, _) => Mode::Deaf,
                    (true, 0) => Mode::Write,
                    (true, _) => Mode::Read,
                };
            } else if self.mode == Mode::Read {
                self.sent += 1;
            }
            self.bits = 0;
        }
        self.pulls = self.mode == Mode::Read && self.sent >> (7 - self.bits) & 1 == 0;
    }
}

impl Device for Thermometer {
    fn read(&mut self, offset: usize) -> u32 {
        assert_eq!(offset, SET);
        self.master & CLOCK | if self.data() { DATA } else { 0 }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let old = self.master;
        match offset {
            SET => self.master |= value & 3,
            CLEAR => self.master &= !value,
            other => panic!("write of {other:#x}"),
        }
        self.moved(old);
    }
}

fn bus() -> (Fake<Thermometer>, Sbcon<Fake<Thermometer>>) {
    let fake = Fake::new(Thermometer::new());
    (fake.clone(), Sbcon::new(fake, || {}))
}

#[test]
fn a_register_is_written_and_what_follows_is_read_after_a_second_start() {
    let (fake, mut bus) = bus();
    let mut into = [0; 3];
    bus.write_read(0x48, &[0xa5], &mut into).expect("it is there");
    assert_eq!(into, [0xa5, 0xa6, 0xa7]);
    assert_eq!(fake.0.borrow().written, [0xa5]);
    assert_eq!((fake.0.borrow().starts, fake.0.borrow().stops), (2, 1));
}

#[test]
fn operations_of_one_direction_are_one_transfer() {
    let (fake, mut bus) = bus();
    let (mut one, mut two) = ([0; 1], [0; 2]);
    let mut operations =
        [Operation::Write(&[1]), Operation::Write(&[2, 3]), Operation::Read(&mut one), Operation::Read(&mut two)];
    bus.transaction(0x48, &mut operations).expect("it is there");
    assert_eq!((one, two), ([3], [4, 5]));
    assert_eq!(fake.0.borrow().written, [1, 2, 3]);
    assert_eq!((fake.0.borrow().starts, fake.0.borrow().stops), (2, 1));
}

#[test]
fn nobody_at_an_address_and_a_refused_byte_are_told_apart_and_the_lines_are_let_go() {
    let (fake, mut bus) = bus();
    let nobody = bus.write(0x49, &[1]);
    assert_eq!(nobody, Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)));
    fake.0.borrow_mut().refuses_data = true;
    let refused = bus.write(0x48, &[1]);
    assert_eq!(refused, Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data)));
    let device = fake.0.borrow();
    assert_eq!((device.master, device.pulls, device.stops), (CLOCK | DATA, false, 2));
}
