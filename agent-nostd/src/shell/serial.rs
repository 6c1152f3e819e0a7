//! A serial line in the place of a network: for boards without one, whose gateway has the connection to the broker.
//!
//! Three parts of one thread around a `Line`: the network that the shell's loop connects over, the two halves of its one
//! connection, and `pump`, which alone touches the port and runs beside the loop, so that the other end hears of this one
//! whatever the loop does. Must never wait for the port anywhere else, nor keep bytes of a connection that was dropped.
use super::port::{Clock, Network, Socket};
use super::run::Never;
use crate::line::{Line, LineState};
use crate::machine::time::{Duration, Instant};
use core::cell::{Cell, RefCell};
use core::future::{pending, poll_fn};
use core::task::{Poll, Waker};
use embassy_futures::select::{Either4, select4};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use wire::DeviceId;
use wire::line::{LINE_WIRE_BYTES_MAX, LineEnd, LineId};

/// Bytes that are taken from the port at once.
const READ_BYTES: usize = 64;
/// After a mistake of the port: bytes were lost, which the line makes good.
const PORT_PAUSE: Duration = Duration::from_millis(10);

/// The line of a board, shared by its network and its pump.
#[derive(Debug)]
pub struct SerialLine {
    line: RefCell<Line>,
    /// Of the last connection.
    number: Cell<u32>,
    pump: RefCell<Option<Waker>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    /// There is something new for the pump.
    is_due: Cell<bool>,
}

fn wake(waker: &RefCell<Option<Waker>>) {
    // Nobody holds it for longer than a call.
    if let Some(waker) = waker.borrow_mut().take() {
        waker.wake();
    }
}

fn keep(place: &RefCell<Option<Waker>>, waker: &Waker) {
    *place.borrow_mut() = Some(waker.clone());
}

impl SerialLine {
    /// `number` must be another one in each boot, such as one made from its seed.
    pub fn new(now: Instant, number: u32) -> Self {
        Self {
            line: RefCell::new(Line::leaf(now)),
            number: Cell::new(number),
            pump: RefCell::new(None),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
            is_due: Cell::new(false),
        }
    }

    fn kick(&self) {
        self.is_due.set(true);
        wake(&self.pump);
    }

    /// Whoever waits for the line looks again, if there may be something for them.
    fn tell(&self) {
        let (has_bytes, has_room, state) = {
            let line = self.line.borrow();
            (line.has_bytes(), line.has_room(), line.state())
        };
        let is_over = matches!(state, LineState::Closed(_));
        if has_bytes || is_over || state == LineState::Open {
            wake(&self.reader);
        }
        if has_room || is_over {
            wake(&self.writer);
        }
    }

    /// Moves bytes between port and line for ever. `told` hears of each new state of the line.
    pub async fn pump<C: Clock, R: Read, W: Write>(
        &self,
        clock: &C,
        reader: &mut R,
        writer: &mut W,
        mut told: impl FnMut(&Line),
    ) -> Never {
        let (mut out, mut from, mut to) = ([0; LINE_WIRE_BYTES_MAX], 0, 0);
        let mut arrived = [0; READ_BYTES];
        let mut state = LineState::Idle;
        loop {
            if from == to {
                (from, to) = (0, self.line.borrow_mut().poll(clock.now(), &mut out).unwrap_or(0));
            }
            self.tell();
            let due = {
                let line = self.line.borrow();
                if core::mem::replace(&mut state, line.state()) != line.state() {
                    told(&line);
                }
                line.timeout()
            };
            let left = out.get(from..to).unwrap_or_default();
            let write = async { if left.is_empty() { pending().await } else { writer.write(left).await } };
            let kicked = poll_fn(|context| {
                if self.is_due.take() {
                    return Poll::Ready(());
                }
                keep(&self.pump, context.waker());
                Poll::Pending
            });
            let wait = async {
                match due {
                    Some(at) => clock.until(at).await,
                    None => pending().await,
                }
            };
            match select4(reader.read(&mut arrived), write, kicked, wait).await {
                Either4::First(Ok(count)) => {
                    let bytes = arrived.get(..count).unwrap_or_default();
                    self.line.borrow_mut().receive(clock.now(), bytes);
                }
                Either4::Second(Ok(count)) => from = from.saturating_add(count).min(to),
                Either4::Second(Err(_)) => {
                    // The rest of it would be noise.
                    from = to;
                    clock.until(clock.now().after(PORT_PAUSE)).await;
                }
                Either4::First(Err(_)) => clock.until(clock.now().after(PORT_PAUSE)).await,
                Either4::Third(()) | Either4::Fourth(()) => {}
            }
        }
    }
}

/// The network of a board that has a line only. Where the broker is, its gateway knows.
#[derive(Debug)]
pub struct Serial<'l, C> {
    pub line: &'l SerialLine,
    pub clock: &'l C,
}

impl<'l, C: Clock> Network for Serial<'l, C> {
    const IS_RELAYED: bool = true;
    type Error = LineEnd;
    type Socket<'s>
        = Connection<'l, C>
    where
        Self: 's;

    async fn connect(&mut self, _: &str, _: u16) -> Result<Connection<'l, C>, LineEnd> {
        let shared = self.line;
        let number = shared.number.get().wrapping_add(1);
        shared.number.set(number);
        shared.line.borrow_mut().open(self.clock.now(), number);
        shared.kick();
        // From here on, so that giving up ends it at the other side, too.
        let connection = Connection { shared, clock: self.clock, number };
        poll_fn(|context| match shared.line.borrow().state() {
            LineState::Open => Poll::Ready(Ok(())),
            LineState::Closed(end) => Poll::Ready(Err(end)),
            LineState::Idle | LineState::Opening => {
                keep(&shared.reader, context.waker());
                Poll::Pending
            }
        })
        .await?;
        Ok(connection)
    }
}

/// A connection over the line.
#[derive(Debug)]
pub struct Connection<'l, C> {
    shared: &'l SerialLine,
    clock: &'l C,
    number: u32,
}

impl<C> Connection<'_, C> {
    fn is_present(&self) -> bool {
        let LineId { leaf, .. } = self.shared.line.borrow().id();
        leaf == self.number
    }
}

impl<C> Drop for Connection<'_, C> {
    fn drop(&mut self) {
        if self.is_present() {
            self.shared.line.borrow_mut().close(LineEnd::Leaf);
            self.shared.kick();
        }
    }
}

impl<C: Clock> Socket for Connection<'_, C> {
    type Reader<'h>
        = Half<'h, C>
    where
        Self: 'h;
    type Writer<'h>
        = Half<'h, C>
    where
        Self: 'h;

    fn split(&mut self) -> (Half<'_, C>, Half<'_, C>) {
        let half = || Half { shared: self.shared, clock: self.clock };
        (half(), half())
    }

    fn behind(&self) -> Option<DeviceId> {
        self.shared.line.borrow().peer()
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Half<'h, C> {
    shared: &'h SerialLine,
    clock: &'h C,
}

impl<C> ErrorType for Half<'_, C> {
    type Error = ErrorKind;
}

impl<C: Clock> Read for Half<'_, C> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        let shared = self.shared;
        poll_fn(|context| {
            let mut line = shared.line.borrow_mut();
            let count = line.read(into);
            if count > 0 {
                shared.kick();
                return Poll::Ready(Ok(count));
            }
            if line.state() != LineState::Open {
                return Poll::Ready(Err(ErrorKind::ConnectionReset));
            }
            keep(&shared.reader, context.waker());
            Poll::Pending
        })
        .await
    }
}

impl<C: Clock> Write for Half<'_, C> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let (shared, clock) = (self.shared, self.clock);
        poll_fn(|context| {
            let mut line = shared.line.borrow_mut();
            let count = line.write(clock.now(), bytes);
            if count > 0 || bytes.is_empty() {
                shared.kick();
                return Poll::Ready(Ok(count));
            }
            if line.state() != LineState::Open {
                return Poll::Ready(Err(ErrorKind::ConnectionReset));
            }
            keep(&shared.writer, context.waker());
            Poll::Pending
        })
        .await
    }

    /// What was written goes out by itself.
    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
