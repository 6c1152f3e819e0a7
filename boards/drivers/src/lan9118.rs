//! SMSC LAN9118 Ethernet controller (data sheet revision 1.5), as on ARM's MPS2 boards. It moves frames by the word and uses
//! one interrupt, that of a received frame.

use crate::ethernet::{FRAME_BUFFER_BYTES, FRAME_BYTES_MAX, Nic};
use crate::registers::Registers;

const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const RX_CFG: usize = 0x6c;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const CSR_CMD: usize = 0xa4;
const CSR_DATA: usize = 0xa8;

/// What BYTE_TEST reads as when the bus has the right byte order.
const BYTE_TEST_VALUE: u32 = 0x8765_4321;
/// A frame is in the receive FIFO.
const INT_RX_STATUS_LEVEL: u32 = 1 << 3;
const CSR_BUSY: u32 = 1 << 31;
const CSR_IS_READ: u32 = 1 << 30;
const MAC_CR: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;
const MAC_MII_ACCESS: u32 = 6;
const MAC_MII_DATA: u32 = 7;
/// Full duplex, transmitter, receiver.
const MAC_CR_ON: u32 = (1 << 20) | (1 << 3) | (1 << 2);
/// The internal PHY answers at address 1; register 1 is the basic status, whose bit 2 is the link.
const MII_STATUS: u32 = (1 << 11) | (1 << 6) | 1;
const MII_LINK_UP: u32 = 1 << 2;
/// Busy bits are polled this often; the data sheet says microseconds.
const POLLS_MAX: u32 = 100_000;
/// Commands of two words before the data of a frame.
const TX_COMMAND_BYTES: u32 = 8;

/// Why the chip could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// BYTE_TEST read as this value: no LAN9118 is at the address.
    Missing(u32),
    /// The reset did not end.
    Stuck,
}

pub struct Lan9118<R> {
    registers: R,
    address: [u8; 6],
}

impl<R: Registers> Lan9118<R> {
    /// Resets the chip and switches it on, without interrupts.
    pub fn start(registers: R) -> Result<Self, StartError> {
        let found = registers.read(BYTE_TEST);
        if found != BYTE_TEST_VALUE {
            return Err(StartError::Missing(found));
        }
        registers.write(HW_CFG, 1);
        if !(0..POLLS_MAX).any(|_| registers.read(HW_CFG) & 1 == 0) {
            return Err(StartError::Stuck);
        }
        // 5 KB of the FIFO memory for sending, the rest for receiving.
        registers.write(HW_CFG, 5 << 16);
        registers.write(INT_EN, 0);
        registers.write(INT_STS, u32::MAX);
        // The interrupt line: on, active high, push-pull.
        registers.write(IRQ_CFG, (1 << 8) | (1 << 4) | 1);
        registers.write(FIFO_INT, 0);
        registers.write(RX_CFG, 0);
        registers.write(TX_CFG, 2);
        let mut chip = Self { registers, address: [0; 6] };
        let low = chip.mac_read(MAC_ADDRESS_LOW).to_le_bytes();
        let high = chip.mac_read(MAC_ADDRESS_HIGH).to_le_bytes();
        chip.address = [low[0], low[1], low[2], low[3], high[0], high[1]];
        chip.mac_write(MAC_CR, MAC_CR_ON);
        Ok(chip)
    }

    /// Ends the interrupt; `listen` asks for it again. For the interrupt handler, which has no chip, only its registers.
    pub fn quiet(registers: &R) {
        registers.write(INT_EN, 0);
    }

    fn mac_wait(&self) {
        // A chip that stays busy is found by its silence: the network never comes up, and the log says so.
        let _ = (0..POLLS_MAX).any(|_| self.registers.read(CSR_CMD) & CSR_BUSY == 0);
    }

    fn mac_read(&self, register: u32) -> u32 {
        self.registers.write(CSR_CMD, CSR_BUSY | CSR_IS_READ | register);
        self.mac_wait();
        self.registers.read(CSR_DATA)
    }

    fn mac_write(&self, register: u32, value: u32) {
        self.registers.write(CSR_DATA, value);
        self.registers.write(CSR_CMD, CSR_BUSY | register);
        self.mac_wait();
    }
}

impl<R: Registers> Nic for Lan9118<R> {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn link_is_up(&self) -> bool {
        self.mac_write(MAC_MII_ACCESS, MII_STATUS);
        self.mac_read(MAC_MII_DATA) & MII_LINK_UP != 0
    }

    fn receive(&mut self, frame: &mut [u8; FRAME_BUFFER_BYTES]) -> Option<usize> {
        while (self.registers.read(RX_FIFO_INF) >> 16) & 0xff > 0 {
            let status = self.registers.read(RX_STATUS);
            let with_checksum = ((status >> 16) & 0x3fff) as usize;
            let is_bad = status & (1 << 15) != 0;
            let length = with_checksum.saturating_sub(4);
            let fits = !is_bad && length > 0 && length <= FRAME_BYTES_MAX;
            // What does not fit has to be read all the same.
            for index in 0..with_checksum.div_ceil(4) {
                let word = self.registers.read(RX_DATA).to_le_bytes();
                if let (true, Some(place)) = (fits, frame.get_mut(index * 4..index * 4 + 4)) {
                    place.copy_from_slice(&word);
                }
            }
            if fits {
                return Some(length);
            }
        }
        None
    }

    fn can_send(&mut self) -> bool {
        let info = self.registers.read(TX_FIFO_INF);
        // Nobody asks how a frame went; its status only has to make room.
        for _ in 0..(info >> 16) & 0xff {
            self.registers.read(TX_STATUS);
        }
        info & 0xffff >= FRAME_BUFFER_BYTES as u32 + TX_COMMAND_BYTES
    }

    fn send(&mut self, frame: &[u8]) {
        let length = frame.len().min(FRAME_BYTES_MAX) as u32;
        // First and last segment at once.
        self.registers.write(TX_DATA, (1 << 13) | (1 << 12) | length);
        self.registers.write(TX_DATA, length);
        for chunk in frame.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            self.registers.write(TX_DATA, u32::from_le_bytes(word));
        }
    }

    fn listen(&mut self) {
        // The status is an edge of the past: cleared first, so that only what comes from now on counts.
        self.registers.write(INT_STS, INT_RX_STATUS_LEVEL);
        self.registers.write(INT_EN, INT_RX_STATUS_LEVEL);
    }
}

#[cfg(test)]
#[path = "lan9118/tests.rs"]
mod tests;
