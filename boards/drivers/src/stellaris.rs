//! The Ethernet controller of TI's Stellaris LM3S parts (data sheet of the LM3S6965, chapter 15). It moves frames by the word,
//! with two bytes of length in front of each, and uses one interrupt, that of a received frame.

use crate::ethernet::{FRAME_BUFFER_BYTES, FRAME_BYTES_MAX, Nic};
use crate::registers::Registers;

/// Read: what happened. Written: acknowledged.
const STATUS: usize = 0x00;
const MASK: usize = 0x04;
const RECEIVE_CONTROL: usize = 0x08;
const TRANSMIT_CONTROL: usize = 0x0c;
const DATA: usize = 0x10;
const ADDRESS_LOW: usize = 0x14;
const ADDRESS_HIGH: usize = 0x18;
const PACKETS: usize = 0x34;
const TRANSMISSION: usize = 0x38;

const INT_RECEIVED: u32 = 1;
/// On, and frames with a bad check sum dropped.
const RECEIVE_ON: u32 = (1 << 3) | 1;
const RECEIVE_RESET_FIFO: u32 = 1 << 4;
/// Full duplex, check sum, padding, on.
const TRANSMIT_ON: u32 = (1 << 4) | (1 << 2) | (1 << 1) | 1;
const TRANSMISSION_RUNS: u32 = 1;
/// The length counts itself and the check sum.
const LENGTH_BYTES: usize = 2;
const OVERHEAD_BYTES: usize = LENGTH_BYTES + 4;
/// The length of a frame to send counts what follows its two addresses and type.
const HEADER_BYTES: usize = 14;

pub struct Stellaris<R> {
    registers: R,
    address: [u8; 6],
}

impl<R: Registers> Stellaris<R> {
    /// Switches the controller on, without interrupts. Its clock runs already.
    pub fn start(registers: R) -> Self {
        registers.write(MASK, 0);
        registers.write(RECEIVE_CONTROL, RECEIVE_RESET_FIFO);
        registers.write(TRANSMIT_CONTROL, TRANSMIT_ON);
        registers.write(RECEIVE_CONTROL, RECEIVE_ON);
        registers.write(STATUS, u32::MAX);
        let low = registers.read(ADDRESS_LOW).to_le_bytes();
        let high = registers.read(ADDRESS_HIGH).to_le_bytes();
        Self { registers, address: [low[0], low[1], low[2], low[3], high[0], high[1]] }
    }

    /// Ends the interrupt; `listen` asks for it again. For the interrupt handler, which has only the registers.
    pub fn quiet(registers: &R) {
        registers.write(MASK, 0);
    }
}

impl<R: Registers> Nic for Stellaris<R> {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn link_is_up(&self) -> bool {
        // The chip's PHY is behind a slow serial bus; who has no cable is found by DHCP, or by the broker that does not answer.
        true
    }

    fn receive(&mut self, frame: &mut [u8; FRAME_BUFFER_BYTES]) -> Option<usize> {
        while self.registers.read(PACKETS) & 0x3f > 0 {
            let first = self.registers.read(DATA).to_le_bytes();
            let total = usize::from(u16::from_le_bytes([first[0], first[1]]));
            let length = total.saturating_sub(OVERHEAD_BYTES);
            let fits = (1..=FRAME_BYTES_MAX).contains(&length);
            if fits {
                frame[..2].copy_from_slice(&first[2..]);
            }
            // What does not fit has to be read all the same.
            for index in 1..total.div_ceil(4) {
                let word = self.registers.read(DATA).to_le_bytes();
                let at = index * 4 - LENGTH_BYTES;
                if let (true, Some(place)) = (fits, frame.get_mut(at..at + 4)) {
                    place.copy_from_slice(&word);
                } else if let (true, Some(place)) = (fits, frame.get_mut(at..)) {
                    place.copy_from_slice(&word[..place.len()]);
                }
            }
            if fits {
                return Some(length);
            }
        }
        None
    }

    fn can_send(&mut self) -> bool {
        self.registers.read(TRANSMISSION) & TRANSMISSION_RUNS == 0
    }

    fn send(&mut self, frame: &[u8]) {
        let payload = frame.len().min(FRAME_BYTES_MAX).saturating_sub(HEADER_BYTES) as u16;
        let [low, high] = payload.to_le_bytes();
        let (start, rest) = frame.split_at(frame.len().min(LENGTH_BYTES));
        let mut word = [low, high, 0, 0];
        word[LENGTH_BYTES..LENGTH_BYTES + start.len()].copy_from_slice(start);
        self.registers.write(DATA, u32::from_le_bytes(word));
        for chunk in rest.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            self.registers.write(DATA, u32::from_le_bytes(word));
        }
        self.registers.write(TRANSMISSION, TRANSMISSION_RUNS);
    }

    fn listen(&mut self) {
        // What was told before is of the past.
        self.registers.write(STATUS, INT_RECEIVED);
        self.registers.write(MASK, INT_RECEIVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};
    use std::collections::VecDeque;
    use std::vec::Vec;

    #[derive(Default)]
    struct Chip {
        status: u32,
        mask: u32,
        receive: u32,
        transmit: u32,
        /// Frames that wait, as words.
        waiting: VecDeque<VecDeque<u32>>,
        sent: Vec<u32>,
        runs: bool,
    }

    impl Chip {
        fn arrive(&mut self, frame: &[u8]) {
            let mut bytes = ((frame.len() + OVERHEAD_BYTES) as u16).to_le_bytes().to_vec();
            bytes.extend(frame);
            bytes.extend([0xcc; 4]);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let words = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
            self.waiting.push_back(words.collect());
            self.status |= INT_RECEIVED;
        }
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            match offset {
                ADDRESS_LOW => 0x0000_0002,
                ADDRESS_HIGH => 0x0000_2a00,
                PACKETS => self.waiting.len() as u32,
                TRANSMISSION => u32::from(self.runs),
                DATA => {
                    let frame = self.waiting.front_mut().expect("a word is read only if one is there");
                    let word = frame.pop_front().expect("no frame is read beyond its end");
                    if frame.is_empty() {
                        self.waiting.pop_front();
                    }
                    word
                }
                other => panic!("read of {other:#x}"),
            }
        }

        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                STATUS => self.status &= !value,
                MASK => self.mask = value,
                RECEIVE_CONTROL => self.receive = value,
                TRANSMIT_CONTROL => self.transmit = value,
                DATA => self.sent.push(value),
                TRANSMISSION => self.runs = value & TRANSMISSION_RUNS != 0,
                other => panic!("write of {other:#x}"),
            }
        }
    }

    fn started() -> (Stellaris<Fake<Chip>>, Fake<Chip>) {
        let fake = Fake::new(Chip::default());
        (Stellaris::start(fake.clone()), fake)
    }

    #[test]
    fn it_starts_with_its_address_and_without_interrupts() {
        let (nic, fake) = started();
        assert_eq!(nic.address(), [2, 0, 0, 0, 0, 0x2a]);
        let chip = fake.0.borrow();
        assert_eq!((chip.receive, chip.transmit, chip.mask), (RECEIVE_ON, 0x17, 0));
    }

    #[test]
    fn frames_of_every_length_are_received_without_their_check_sum() {
        let (mut nic, fake) = started();
        let mut frame = [0; FRAME_BUFFER_BYTES];
        for length in (60..70).chain(FRAME_BYTES_MAX - 4..=FRAME_BYTES_MAX) {
            let sent: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            fake.0.borrow_mut().arrive(&sent);
            assert_eq!(nic.receive(&mut frame), Some(length));
            assert_eq!(frame[..length], sent[..]);
            assert!(fake.0.borrow().waiting.is_empty());
        }
        assert_eq!(nic.receive(&mut frame), None);
    }

    #[test]
    fn an_overlong_frame_is_read_away_and_the_next_one_is_given() {
        let (mut nic, fake) = started();
        fake.0.borrow_mut().arrive(&[1; FRAME_BYTES_MAX + 1]);
        fake.0.borrow_mut().arrive(&[2; 64]);
        let mut frame = [0; FRAME_BUFFER_BYTES];
        assert_eq!(nic.receive(&mut frame), Some(64));
        assert_eq!(frame[..64], [2; 64]);
    }

    #[test]
    fn a_frame_is_sent_behind_its_length_and_only_one_at_a_time() {
        let (mut nic, fake) = started();
        let frame: Vec<u8> = (1..=17).collect();
        assert!(nic.can_send());
        nic.send(&frame);
        assert_eq!(fake.0.borrow().sent, [0x0201_0003, 0x0605_0403, 0x0a09_0807, 0x0e0d_0c0b, 0x0011_100f]);
        assert!(!nic.can_send(), "it is on its way");
        fake.0.borrow_mut().runs = false;
        assert!(nic.can_send());
    }

    #[test]
    fn only_a_frame_after_listening_interrupts() {
        let (mut nic, fake) = started();
        fake.0.borrow_mut().arrive(&[1; 60]);
        nic.receive(&mut [0; FRAME_BUFFER_BYTES]);
        nic.listen();
        assert_eq!(fake.0.borrow().status & fake.0.borrow().mask, 0);
        fake.0.borrow_mut().arrive(&[1; 60]);
        assert_ne!(fake.0.borrow().status & fake.0.borrow().mask, 0);
        Stellaris::quiet(&fake);
        assert_eq!(fake.0.borrow().mask, 0);
    }
}
