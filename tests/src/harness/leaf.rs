//! Both sides of a serial line that tests play: a leaf's port as an emulator gives it, and a man in the middle who knows the line.
//!
//! A port is a socket in the file system: who connects to it holds the other end, and what is sent while nobody does is lost.

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use wire::line::{LINE_WIRE_BYTES_MAX, LineBody, LineFrame, LineReader};

/// A leaf's port.
pub struct Port {
    listener: Async<UnixListener>,
    stream: RefCell<Option<Rc<Async<UnixStream>>>>,
}

pub struct PortReader<'p>(pub &'p Port);
pub struct PortWriter<'p>(pub &'p Port);

impl Port {
    pub fn listen(path: &Path) -> Self {
        // What a run before left behind.
        let _ = std::fs::remove_file(path);
        Self { listener: Async::<UnixListener>::bind(path).unwrap(), stream: RefCell::new(None) }
    }

    fn stream(&self) -> Option<Rc<Async<UnixStream>>> {
        self.stream.borrow().clone()
    }
}

impl ErrorType for PortReader<'_> {
    type Error = ErrorKind;
}

impl Read for PortReader<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        loop {
            match self.0.stream() {
                Some(stream) => match (&*stream).read(into).await {
                    Ok(0) | Err(_) => *self.0.stream.borrow_mut() = None,
                    Ok(count) => return Ok(count),
                },
                None => {
                    let (stream, _) = self.0.listener.accept().await.map_err(|_| ErrorKind::Other)?;
                    *self.0.stream.borrow_mut() = Some(Rc::new(stream));
                }
            }
        }
    }
}

impl ErrorType for PortWriter<'_> {
    type Error = ErrorKind;
}

impl Write for PortWriter<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        match self.0.stream() {
            Some(stream) => Ok((&*stream).write(bytes).await.unwrap_or(bytes.len())),
            None => Ok(bytes.len()),
        }
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// What the man in the middle does to a direction.
#[derive(Debug, Default)]
pub struct Bend {
    /// How many messages he may still change.
    left: AtomicU32,
    /// How many he has changed.
    done: AtomicU32,
}

impl Bend {
    pub fn every_message(&self) {
        self.left.store(u32::MAX, Ordering::SeqCst);
    }

    pub fn nothing(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    pub fn done(&self) -> u32 {
        self.done.load(Ordering::SeqCst)
    }

    fn may(&self) -> bool {
        let may = self.left.load(Ordering::SeqCst) > 0;
        self.done.fetch_add(u32::from(may), Ordering::SeqCst);
        may
    }
}

/// Sits between a port and a gateway. Each frame that he hands on is a right one.
#[derive(Debug)]
pub struct Middle {
    /// Where the gateway finds the line.
    pub path: PathBuf,
    pub up: Arc<Bend>,
    pub down: Arc<Bend>,
}

impl Middle {
    /// `port`: where the leaf is, from the first connection on.
    pub fn before(port: &Path) -> Self {
        let path = port.with_extension("middle");
        let listener = UnixListener::bind(&path).unwrap();
        let middle = Self { path, up: Arc::default(), down: Arc::default() };
        let (port, up, down) = (port.to_owned(), Arc::clone(&middle.up), Arc::clone(&middle.down));
        std::thread::spawn(move || {
            for gateway in listener.incoming().map_while(Result::ok) {
                let Ok(leaf) = UnixStream::connect(&port) else { continue };
                let (from_leaf, from_gateway) = (leaf.try_clone().unwrap(), gateway.try_clone().unwrap());
                let (up, down) = (Arc::clone(&up), Arc::clone(&down));
                std::thread::spawn(move || hand_on(from_leaf, gateway, &up));
                std::thread::spawn(move || hand_on(from_gateway, leaf, &down));
            }
        });
        middle
    }
}

/// Until one side is gone; then the other one is cut, too.
fn hand_on(mut from: UnixStream, mut to: UnixStream, bend: &Bend) {
    let (mut reader, mut streams) = (LineReader::new(), BTreeMap::new());
    let mut bytes = [0; 512];
    'all: while let Ok(count @ 1..) = from.read(&mut bytes) {
        for byte in &bytes[..count] {
            let Some(Ok(frame)) = reader.push(*byte) else { continue };
            let mut out = [0; LINE_WIRE_BYTES_MAX];
            let length = match frame.body {
                LineBody::Data { sequence, taken, bytes } => {
                    let stream: &mut Messages = streams.entry((frame.id.leaf, frame.id.gateway)).or_default();
                    let bytes = stream.bend(sequence, bytes, bend);
                    LineFrame { body: LineBody::Data { sequence, taken, bytes }, ..frame }.encode(&mut out)
                }
                LineBody::Open
                | LineBody::Waiting
                | LineBody::Opened { .. }
                | LineBody::Closed { .. }
                | LineBody::Pulse { .. } => frame.encode(&mut out),
            };
            if to.write_all(&out[..length]).is_err() {
                break 'all;
            }
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

/// One direction of a connection, as the packets of MQTT that it carries.
#[derive(Default)]
struct Messages {
    /// Frames that were changed or looked at: one that is sent again is handed on as it was the first time.
    next: u16,
    last: Vec<u8>,
    /// Where in a packet the next byte is.
    at: At,
}

#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    First,
    Length {
        is_message: bool,
        value: usize,
        shift: u32,
    },
    Body {
        is_message: bool,
        left: usize,
    },
}

impl Messages {
    /// The bytes to hand on: the last one of each message is another.
    fn bend(&mut self, sequence: u16, bytes: &[u8], bend: &Bend) -> &[u8] {
        if sequence == self.next {
            self.next = self.next.wrapping_add(1);
            self.last = bytes.iter().map(|byte| byte ^ u8::from(self.ends_message(*byte) && bend.may())).collect();
        }
        &self.last
    }

    /// Takes a byte in; whether it is the last one of a PUBLISH.
    fn ends_message(&mut self, byte: u8) -> bool {
        let (at, ends) = match self.at {
            At::First => (At::Length { is_message: byte >> 4 == 3, value: 0, shift: 0 }, false),
            At::Length { is_message, value, shift } => {
                let value = value | usize::from(byte & 0x7f) << shift;
                match (byte & 0x80, value) {
                    (0, 0) => (At::First, false),
                    (0, left) => (At::Body { is_message, left }, false),
                    _ => (At::Length { is_message, value, shift: shift + 7 }, false),
                }
            }
            At::Body { is_message, left: 1 } => (At::First, is_message),
            At::Body { is_message, left } => (At::Body { is_message, left: left - 1 }, false),
        };
        self.at = at;
        ends
    }
}
