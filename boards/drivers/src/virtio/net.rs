//! The virtio network device (OASIS virtio 1.2, section 5.1): whole frames, one buffer for each, and one interrupt, that of a received frame.

use super::queue::{QUEUE_LENGTH, Queue};
use super::{Device, StartError};
use crate::ethernet::{FRAME_BUFFER_BYTES, FRAME_BYTES_MAX, Nic};
use crate::registers::Registers;
use core::sync::atomic::{AtomicU8, Ordering};

const ID: u32 = 1;
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
/// The device has an address, and says whether it has a link.
const FEATURE_MAC: u64 = 1 << 5;
const FEATURE_STATUS: u64 = 1 << 16;
/// A word with two bytes of address below.
const CONFIG_STATUS: usize = 4;
const LINK_UP: u32 = 1 << 16;
/// In front of each frame; all zero, for nothing is left to the device. Legacy devices leave the last field out.
const HEADER_BYTES: usize = 12;
const HEADER_BYTES_LEGACY: usize = 10;
const BUFFER_BYTES: usize = HEADER_BYTES + FRAME_BYTES_MAX;

/// Shared with the device, byte by byte.
type Buffer = [AtomicU8; BUFFER_BYTES];

/// What driver and device share: both queues and their buffers.
pub struct Memory {
    queues: [Queue; 2],
    buffers: [[Buffer; QUEUE_LENGTH]; 2],
}

impl Memory {
    pub const fn new() -> Self {
        Self {
            queues: [const { Queue::new() }; 2],
            buffers: [const { [const { [const { AtomicU8::new(0) }; BUFFER_BYTES] }; QUEUE_LENGTH] }; 2],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

pub struct VirtioNet<R> {
    device: Device<R>,
    address: [u8; 6],
    header_bytes: usize,
    receive: &'static Queue,
    transmit: &'static Queue,
    receive_buffers: &'static [Buffer; QUEUE_LENGTH],
    transmit_buffers: &'static [Buffer; QUEUE_LENGTH],
    /// How many buffers were taken back, of each queue.
    received: u16,
    transmitted: u16,
    /// Which buffers are not with the device.
    is_free: [bool; QUEUE_LENGTH],
}

impl<R: Registers> VirtioNet<R> {
    /// Resets the device and switches it on, without interrupts. The memory must be none that a device still uses.
    pub fn start(registers: R, memory: &'static Memory) -> Result<Self, StartError> {
        let device = Device::start(registers, ID, FEATURE_MAC | FEATURE_STATUS)?;
        if !device.has(FEATURE_MAC) {
            return Err(StartError::Features(0));
        }
        let [receive, transmit] = &memory.queues;
        let [receive_buffers, transmit_buffers] = &memory.buffers;
        device.give(RECEIVE, receive)?;
        device.give(TRANSMIT, transmit)?;
        let header_bytes = if device.is_legacy() { HEADER_BYTES_LEGACY } else { HEADER_BYTES };
        let low = device.config(0).to_le_bytes();
        let high = device.config(4).to_le_bytes();
        let address = [low[0], low[1], low[2], low[3], high[0], high[1]];
        for number in 0..QUEUE_LENGTH {
            let place = |buffer: &Buffer| (&raw const *buffer).expose_provenance() as u64;
            let bytes = (header_bytes + FRAME_BYTES_MAX) as u32;
            receive.describe(number, place(&receive_buffers[number]), bytes, true);
            transmit.describe(number, place(&transmit_buffers[number]), bytes, false);
        }
        receive.set_interrupts(false);
        transmit.set_interrupts(false);
        device.go();
        for number in 0..QUEUE_LENGTH {
            receive.give(number);
        }
        device.notify(RECEIVE, receive);
        Ok(Self {
            device,
            address,
            header_bytes,
            receive,
            transmit,
            receive_buffers,
            transmit_buffers,
            received: 0,
            transmitted: 0,
            is_free: [true; QUEUE_LENGTH],
        })
    }
}

impl<R: Registers> Nic for VirtioNet<R> {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn link_is_up(&self) -> bool {
        !self.device.has(FEATURE_STATUS) || self.device.config(CONFIG_STATUS) & LINK_UP != 0
    }

    fn receive(&mut self, frame: &mut [u8; FRAME_BUFFER_BYTES]) -> Option<usize> {
        while let Some(done) = self.receive.take(&mut self.received) {
            // Whoever takes frames needs no interrupt.
            self.receive.set_interrupts(false);
            // A device that names a buffer that is none has one less from now on.
            let Some(buffer) = self.receive_buffers.get(done.buffer) else { continue };
            let length = done.length.saturating_sub(self.header_bytes);
            let fits = (1..=FRAME_BYTES_MAX).contains(&length);
            if fits {
                let from = buffer.iter().skip(self.header_bytes).take(length);
                frame.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
            }
            self.receive.give(done.buffer);
            self.device.notify(RECEIVE, self.receive);
            if fits {
                return Some(length);
            }
        }
        None
    }

    fn can_send(&mut self) -> bool {
        while let Some(done) = self.transmit.take(&mut self.transmitted) {
            if let Some(is_free) = self.is_free.get_mut(done.buffer) {
                *is_free = true;
            }
        }
        self.is_free.contains(&true)
    }

    fn send(&mut self, frame: &[u8]) {
        let Some(number) = self.is_free.iter().position(|is_free| *is_free) else { return };
        self.is_free[number] = false;
        let bytes = core::iter::repeat_n(&0, self.header_bytes).chain(frame.iter().take(FRAME_BYTES_MAX));
        let mut length = 0;
        for (to, from) in self.transmit_buffers[number].iter().zip(bytes) {
            to.store(*from, Ordering::Relaxed);
            length += 1;
        }
        self.transmit.set_length(number, length);
        self.transmit.give(number);
        self.device.notify(TRANSMIT, self.transmit);
    }

    fn listen(&mut self) {
        self.receive.set_interrupts(true);
    }
}

#[cfg(test)]
mod tests;
