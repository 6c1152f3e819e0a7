//! The same UART in both directions, by interrupts: for a line of frames, whose other end does not wait.
//!
//! What arrives while nobody reads is kept in a ring, and counted as lost when that is full; what is sent leaves a ring whenever the
//! chip is free. It must never wait for the chip.

use super::{BAUDDIV, BAUDDIV_MIN, CTRL, DATA, STATE, STATE_TX_FULL};
use crate::registers::Registers;
use core::cell::RefCell;
use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;
use critical_section::Mutex;
use embassy_sync::waitqueue::AtomicWaker;
use embedded_io_async::{ErrorType, Read, Write};
use heapless::Deque;

const INTCLEAR: usize = 0x0c;
const STATE_RX_FULL: u32 = 1 << 1;
const STATE_RX_OVERRUN: u32 = 1 << 3;
/// Sender and receiver, and an interrupt of each.
const CTRL_ON: u32 = 0b1111;
const INTERRUPTS: u32 = 0b1111;
/// Two of the longest frames: one that is being read, and one that came after it.
const RECEIVED_BYTES: usize = 512;
/// Less than a frame: the rest waits with whoever sends.
const SENDING_BYTES: usize = 128;

struct Bytes {
    received: Deque<u8, RECEIVED_BYTES>,
    sending: Deque<u8, SENDING_BYTES>,
    lost: u32,
}

/// Memory of a port, shared with its interrupt.
pub struct PortMemory {
    bytes: Mutex<RefCell<Bytes>>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl PortMemory {
    pub const fn new() -> Self {
        let bytes = Bytes { received: Deque::new(), sending: Deque::new(), lost: 0 };
        Self { bytes: Mutex::new(RefCell::new(bytes)), reader: AtomicWaker::new(), writer: AtomicWaker::new() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Bytes) -> T) -> T {
        critical_section::with(|cs| act(&mut self.bytes.borrow_ref_mut(cs)))
    }

    /// Bytes that found no room, since the start.
    pub fn lost(&self) -> u32 {
        self.with(|bytes| bytes.lost)
    }
}

impl Default for PortMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// A port that was started.
pub struct CmsdkPort<R: 'static> {
    registers: R,
    memory: &'static PortMemory,
}

/// What arrives.
pub struct PortReader(&'static PortMemory);

/// What is sent.
pub struct PortWriter<R: 'static>(CmsdkPort<R>);

impl<R: Registers> CmsdkPort<R> {
    /// The board's handler of both interrupts of the chip calls `serve`.
    pub fn start(registers: R, clock_hz: u32, baud: u32, memory: &'static PortMemory) -> Self {
        registers.write(BAUDDIV, (clock_hz / baud.max(1)).max(BAUDDIV_MIN));
        registers.write(CTRL, CTRL_ON);
        Self { registers, memory }
    }

    pub fn split(self) -> (PortReader, PortWriter<R>) {
        (PortReader(self.memory), PortWriter(self))
    }

    /// An interrupt: takes what has come, and sends what waits.
    pub fn serve(registers: &R, memory: &PortMemory) {
        // First, so that what happens from here on interrupts again.
        registers.write(INTCLEAR, INTERRUPTS);
        memory.with(|bytes| {
            if registers.read(STATE) & STATE_RX_OVERRUN != 0 {
                registers.write(STATE, STATE_RX_OVERRUN);
                bytes.lost = bytes.lost.saturating_add(1);
            }
            while registers.read(STATE) & STATE_RX_FULL != 0 {
                let byte = registers.read(DATA) as u8;
                if bytes.received.push_back(byte).is_err() {
                    bytes.lost = bytes.lost.saturating_add(1);
                }
            }
            send(registers, bytes);
        });
        memory.reader.wake();
        memory.writer.wake();
    }
}

fn send<R: Registers>(registers: &R, bytes: &mut Bytes) {
    while registers.read(STATE) & STATE_TX_FULL == 0 {
        let Some(byte) = bytes.sending.pop_front() else { return };
        registers.write(DATA, u32::from(byte));
    }
}

impl ErrorType for PortReader {
    type Error = Infallible;
}

impl Read for PortReader {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            // Before the look, so that what comes in between wakes.
            self.0.reader.register(context.waker());
            let count = self.0.with(|bytes| {
                let mut count = 0;
                for place in into.iter_mut() {
                    let Some(byte) = bytes.received.pop_front() else { break };
                    *place = byte;
                    count += 1;
                }
                count
            });
            if count > 0 { Poll::Ready(Ok(count)) } else { Poll::Pending }
        })
        .await
    }
}

impl<R> ErrorType for PortWriter<R> {
    type Error = Infallible;
}

impl<R: Registers> Write for PortWriter<R> {
    async fn write(&mut self, out: &[u8]) -> Result<usize, Infallible> {
        let CmsdkPort { registers, memory } = &self.0;
        poll_fn(|context| {
            memory.writer.register(context.waker());
            let count = memory.with(|bytes| {
                let fits = out.iter().take_while(|byte| bytes.sending.push_back(**byte).is_ok());
                let count = fits.count();
                send(registers, bytes);
                count
            });
            if count > 0 { Poll::Ready(Ok(count)) } else { Poll::Pending }
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::{Device, Fake};
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Waker};
    use std::boxed::Box;
    use std::vec::Vec;

    #[derive(Default)]
    struct Chip {
        control: u32,
        divider: u32,
        arriving: Vec<u8>,
        overran: bool,
        /// Bytes that the sender takes until it is full.
        room: usize,
        sent: Vec<u8>,
        cleared: u32,
    }

    impl Device for Chip {
        fn read(&mut self, offset: usize) -> u32 {
            match offset {
                STATE => {
                    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
                    bit(self.room == 0, STATE_TX_FULL)
                        | bit(!self.arriving.is_empty(), STATE_RX_FULL)
                        | bit(self.overran, STATE_RX_OVERRUN)
                }
                DATA => u32::from(self.arriving.remove(0)),
                other => panic!("read of {other:#x}"),
            }
        }
        fn write(&mut self, offset: usize, value: u32) {
            match offset {
                STATE => self.overran &= value & STATE_RX_OVERRUN == 0,
                BAUDDIV => self.divider = value,
                CTRL => self.control = value,
                INTCLEAR => self.cleared += 1,
                DATA => {
                    assert!(self.room > 0, "it is full");
                    self.room -= 1;
                    self.sent.push(value as u8);
                }
                other => panic!("write of {other:#x}"),
            }
        }
    }

    fn started() -> (Fake<Chip>, &'static PortMemory, PortReader, PortWriter<Fake<Chip>>) {
        let (fake, memory) = (Fake::new(Chip::default()), &*Box::leak(Box::new(PortMemory::new())));
        let (reader, writer) = CmsdkPort::start(fake.clone(), 25_000_000, 115_200, memory).split();
        (fake, memory, reader, writer)
    }

    fn now<T>(future: impl Future<Output = Result<T, Infallible>>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(value)) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_arrives_is_kept_until_it_is_read_and_counted_when_there_is_no_room() {
        let (fake, memory, mut reader, _) = started();
        assert_eq!((fake.0.borrow().control, fake.0.borrow().divider), (CTRL_ON, 217));
        let mut into = [0; 4];
        assert_eq!(now(reader.read(&mut into)), None);
        fake.0.borrow_mut().arriving = (0..6).collect();
        CmsdkPort::serve(&fake, memory);
        assert_eq!((now(reader.read(&mut into)), into), (Some(4), [0, 1, 2, 3]));
        assert_eq!((now(reader.read(&mut into)), &into[..2]), (Some(2), &[4, 5][..]));
        fake.0.borrow_mut().arriving = std::vec![7; RECEIVED_BYTES + 3];
        fake.0.borrow_mut().overran = true;
        CmsdkPort::serve(&fake, memory);
        assert_eq!((memory.lost(), fake.0.borrow().cleared, fake.0.borrow().overran), (4, 2, false));
    }

    #[test]
    fn what_is_sent_goes_when_the_chip_is_free_and_in_order() {
        let (fake, memory, _, mut writer) = started();
        fake.0.borrow_mut().room = 2;
        assert_eq!(now(writer.write(b"hello")), Some(5));
        assert_eq!(fake.0.borrow().sent, b"he");
        fake.0.borrow_mut().room = 10;
        CmsdkPort::serve(&fake, memory);
        assert_eq!(fake.0.borrow().sent, b"hello");
        // More than the ring holds is taken in parts, and then not at all.
        fake.0.borrow_mut().room = 0;
        assert_eq!(now(writer.write(&[1; SENDING_BYTES + 1])), Some(SENDING_BYTES));
        assert_eq!(now(writer.write(b"more")), None);
        fake.0.borrow_mut().room = 1;
        CmsdkPort::serve(&fake, memory);
        assert_eq!(now(writer.write(b"more")), Some(1));
    }
}
