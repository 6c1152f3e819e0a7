//! One adapter from a network chip that moves whole frames to embassy-net's driver. It must never drop a frame that it took.

use core::task::Context;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;

/// An Ethernet frame without its check sum: 14 bytes of header and 1,500 of payload.
pub const FRAME_BYTES_MAX: usize = 1514;
/// Buffers are whole words, because chips are read by the word.
pub const FRAME_BUFFER_BYTES: usize = FRAME_BYTES_MAX.next_multiple_of(4) + 4;

/// A chip that takes and gives whole frames.
pub trait Nic {
    fn address(&self) -> [u8; 6];
    fn link_is_up(&self) -> bool;
    /// Takes the next good frame; `None` if none waits. Broken ones are dropped.
    fn receive(&mut self, frame: &mut [u8; FRAME_BUFFER_BYTES]) -> Option<usize>;
    /// True if a frame of the longest size can be sent now.
    fn can_send(&mut self) -> bool;
    /// Sends a frame of at most `FRAME_BYTES_MAX`; only after `can_send`.
    fn send(&mut self, frame: &[u8]);
    /// Asks for an interrupt at the next frame.
    fn listen(&mut self);
}

/// A chip as embassy-net wants it.
pub struct Ethernet<N> {
    nic: N,
    waker: &'static AtomicWaker,
    frames: &'static mut Frames,
}

/// Memory for a frame in each direction. It is given, because moving it would take as much stack.
pub struct Frames {
    rx: [u8; FRAME_BUFFER_BYTES],
    tx: [u8; FRAME_BUFFER_BYTES],
}

impl Frames {
    pub const fn new() -> Self {
        Self { rx: [0; FRAME_BUFFER_BYTES], tx: [0; FRAME_BUFFER_BYTES] }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Nic> Ethernet<N> {
    /// `waker` is woken by the interrupt handler of the chip.
    pub const fn new(nic: N, waker: &'static AtomicWaker, frames: &'static mut Frames) -> Self {
        Self { nic, waker, frames }
    }

    pub fn address(&self) -> [u8; 6] {
        self.nic.address()
    }
}

impl<N: Nic> Driver for Ethernet<N> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a, N>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context) -> Option<(Rx<'_>, Tx<'_, N>)> {
        // A received frame comes with the right to answer it.
        if !self.nic.can_send() {
            cx.waker().wake_by_ref();
            return None;
        }
        let length = match self.nic.receive(&mut self.frames.rx) {
            Some(length) => length,
            None => {
                self.waker.register(cx.waker());
                self.nic.listen();
                // One may have come before the interrupt was asked for.
                self.nic.receive(&mut self.frames.rx)?
            }
        };
        let frame = self.frames.rx.get_mut(..length)?;
        Some((Rx { frame }, Tx { nic: &mut self.nic, buffer: &mut self.frames.tx }))
    }

    fn transmit(&mut self, cx: &mut Context) -> Option<Tx<'_, N>> {
        if !self.nic.can_send() {
            // Frames leave in microseconds: look again instead of asking for an interrupt.
            cx.waker().wake_by_ref();
            return None;
        }
        Some(Tx { nic: &mut self.nic, buffer: &mut self.frames.tx })
    }

    fn link_state(&mut self, _cx: &mut Context) -> LinkState {
        if self.nic.link_is_up() { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.nic.address())
    }
}

pub struct Rx<'a> {
    frame: &'a mut [u8],
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }
}

pub struct Tx<'a, N: Nic> {
    nic: &'a mut N,
    buffer: &'a mut [u8; FRAME_BUFFER_BYTES],
}

impl<N: Nic> TxToken for Tx<'_, N> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        // `capabilities` promises that no longer one is asked for.
        let length = length.min(FRAME_BYTES_MAX);
        let frame = &mut self.buffer[..length];
        let result = f(frame);
        self.nic.send(frame);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::task::Waker;
    use std::collections::VecDeque;
    use std::vec::Vec;

    #[derive(Default)]
    struct Wire {
        waiting: VecDeque<Vec<u8>>,
        comes_while_listening: Option<Vec<u8>>,
        sent: Vec<Vec<u8>>,
        full: bool,
        listening: u32,
    }

    impl Nic for Wire {
        fn address(&self) -> [u8; 6] {
            [2, 0, 0, 0, 0, 1]
        }
        fn link_is_up(&self) -> bool {
            true
        }
        fn receive(&mut self, frame: &mut [u8; FRAME_BUFFER_BYTES]) -> Option<usize> {
            let next = self.waiting.pop_front()?;
            frame[..next.len()].copy_from_slice(&next);
            Some(next.len())
        }
        fn can_send(&mut self) -> bool {
            !self.full
        }
        fn send(&mut self, frame: &[u8]) {
            self.sent.push(frame.to_vec());
        }
        fn listen(&mut self) {
            self.listening += 1;
            self.waiting.extend(self.comes_while_listening.take());
        }
    }

    static WAKER: AtomicWaker = AtomicWaker::new();

    fn ethernet() -> Ethernet<Wire> {
        Ethernet::new(Wire::default(), &WAKER, std::boxed::Box::leak(std::boxed::Box::default()))
    }

    #[test]
    fn a_frame_is_received_and_answered() {
        let mut ethernet = ethernet();
        ethernet.nic.waiting.push_back(std::vec![7; 60]);
        let mut context = Context::from_waker(Waker::noop());
        let (rx, tx) = ethernet.receive(&mut context).expect("a frame waits");
        rx.consume(|frame| assert_eq!(frame, [7; 60]));
        tx.consume(3, |frame| frame.copy_from_slice(&[1, 2, 3]));
        assert_eq!(ethernet.nic.sent, [[1, 2, 3]]);
        assert_eq!(ethernet.nic.listening, 0, "nobody waits for an interrupt while frames are there");
    }

    #[test]
    fn a_frame_that_comes_before_the_interrupt_is_asked_for_is_not_missed() {
        let mut ethernet = ethernet();
        ethernet.nic.comes_while_listening = Some(std::vec![9; 64]);
        let mut context = Context::from_waker(Waker::noop());
        assert!(ethernet.receive(&mut context).is_some());
        assert!(ethernet.receive(&mut context).is_none());
        assert_eq!(ethernet.nic.listening, 2);
    }

    #[test]
    fn no_frame_is_taken_while_no_answer_can_be_sent() {
        let mut ethernet = ethernet();
        ethernet.nic.waiting.push_back(std::vec![7; 60]);
        ethernet.nic.full = true;
        let mut context = Context::from_waker(Waker::noop());
        assert!(ethernet.receive(&mut context).is_none());
        assert!(ethernet.transmit(&mut context).is_none());
        ethernet.nic.full = false;
        assert!(ethernet.receive(&mut context).is_some());
    }

    #[test]
    fn the_longest_frame_fits_into_the_buffers() {
        let mut ethernet = ethernet();
        ethernet.nic.waiting.push_back(std::vec![7; FRAME_BYTES_MAX]);
        let mut context = Context::from_waker(Waker::noop());
        let (rx, tx) = ethernet.receive(&mut context).expect("a frame waits");
        rx.consume(|frame| assert_eq!(frame.len(), FRAME_BYTES_MAX));
        tx.consume(FRAME_BYTES_MAX, |frame| assert_eq!(frame.len(), FRAME_BYTES_MAX));
    }
}
