//! Frames of a serial line between a leaf device and the gateway that relays for it. They carry the bytes of one connection to
//! a broker, whatever is in them: what protects a message stands in the message, and neither end of a line is believed.
//!
//! On the wire: a zero, the frame stuffed by COBS (Cheshire and Baker, 1999) so that it has no zero, a zero. The frame: `kind u8 |
//! leaf u32 | gateway u32 | fields | CRC-32`, integers in little endian. The checksum finds noise, not malice. Must never hand out a frame
//! that was cut or bent.
use crate::id::DeviceId;
use crate::limits::{LINE_FRAME_BYTES_MAX, LINE_PAYLOAD_BYTES_MAX};

/// Bytes of the longest frame on the wire: both zeros and the byte that COBS adds.
pub const LINE_WIRE_BYTES_MAX: usize = LINE_FRAME_BYTES_MAX + 3;
const CRC_BYTES: usize = 4;
/// Kind and the connection's numbers.
const HEAD_BYTES: usize = 1 + 4 + 4;
/// What stands before the bytes of a connection.
const DATA_FIELDS_BYTES: usize = 2 + 2;
const _: () = assert!(HEAD_BYTES + DATA_FIELDS_BYTES + LINE_PAYLOAD_BYTES_MAX + CRC_BYTES <= LINE_FRAME_BYTES_MAX);
/// COBS stuffs so many bytes with one more.
const _: () = assert!(LINE_FRAME_BYTES_MAX <= 254);

/// Why a connection over a line is over. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// The leaf has no more use for it.
    Leaf,
    /// The gateway cannot reach the broker, or does not trust what it reached.
    Unreachable,
    /// The broker ended it.
    Broker,
    /// The other side does not know this connection: it started anew.
    Unknown,
    /// Nothing was heard for too long.
    Silent,
    /// The other side was heard, and took nothing for too long.
    Stalled,
}

impl LineEnd {
    pub const ALL: [Self; 6] =
        [Self::Leaf, Self::Unreachable, Self::Broker, Self::Unknown, Self::Silent, Self::Stalled];

    const fn number(self) -> u8 {
        match self {
            Self::Leaf => 1,
            Self::Unreachable => 2,
            Self::Broker => 3,
            Self::Unknown => 4,
            Self::Silent => 5,
            Self::Stalled => 6,
        }
    }
}

impl core::fmt::Display for LineEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Leaf => "the leaf ended it",
            Self::Unreachable => "the gateway does not reach the broker",
            Self::Broker => "the broker ended it",
            Self::Unknown => "the other end of the line started anew",
            Self::Silent => "nothing comes over the line: check that both ends run, the cable and the speed",
            Self::Stalled => "the other end of the line takes nothing",
        })
    }
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineBody<'a> {
    /// Leaf to gateway: a connection to the broker is wanted. Repeated until it is answered.
    Open,
    /// Gateway to leaf: the broker is being connected to.
    Waiting,
    /// Gateway to leaf: bytes may flow. Which device the gateway is, as it says itself.
    Opened { gateway: DeviceId },
    /// Either way: the connection is over.
    Closed { end: LineEnd },
    /// Bytes of the connection. `sequence` counts frames with bytes; `taken` is the next one that this side expects.
    Data { sequence: u16, taken: u16, bytes: &'a [u8] },
    /// This side lives, and has taken so much.
    Pulse { taken: u16 },
}

/// Names a connection: one number by each side, so that each is found out that starts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineId {
    /// Another one for each connection that the leaf asks for.
    pub leaf: u32,
    /// Another one for each that the gateway begins. Zero where it has not spoken yet.
    pub gateway: u32,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineFrame<'a> {
    pub id: LineId,
    pub body: LineBody<'a>,
}

/// Why bytes make no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// More bytes without a zero than a frame has.
    TooLong,
    /// Not stuffed as it should be: bytes were lost or added.
    Stuffing,
    Checksum,
    /// Whole, and not of this version.
    Malformed,
}

mod kind {
    //! The upper half is the version of the line: 1.
    pub const OPEN: u8 = 0x11;
    pub const WAITING: u8 = 0x12;
    pub const OPENED: u8 = 0x13;
    pub const CLOSED: u8 = 0x14;
    pub const DATA: u8 = 0x15;
    pub const PULSE: u8 = 0x16;
}

/// CRC-32 of ISO 3309, as Ethernet has it: by half bytes, because a table for whole ones takes a kilobyte of flash.
fn crc(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut at = 0;
        while at < 16 {
            let mut value = at as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    let fold = |crc: u32, nibble: u8| crc >> 4 ^ TABLE[((crc ^ u32::from(nibble)) & 15) as usize];
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(u32::MAX, |crc, byte| fold(fold(crc, byte & 15), byte >> 4))
}

/// Stuffs frames: at most 254 bytes, so that one code byte stands before the first zero and each zero becomes the next.
struct Stuffer<'b> {
    out: &'b mut [u8; LINE_WIRE_BYTES_MAX],
    length: usize,
    /// Where the distance to the next zero goes.
    code_at: usize,
}

impl<'b> Stuffer<'b> {
    fn new(out: &'b mut [u8; LINE_WIRE_BYTES_MAX]) -> Self {
        out[0] = 0;
        out[1] = 1;
        Self { out, length: 2, code_at: 1 }
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The lengths of all parts are asserted above: the last place is that of the closing zero.
            let Some(place) = self.out.get_mut(self.length) else { return };
            *place = if *byte == 0 { 1 } else { *byte };
            match *byte {
                0 => self.code_at = self.length,
                _ => self.out[self.code_at] += 1,
            }
            self.length += 1;
        }
    }

    fn end(self) -> usize {
        let length = self.length.min(self.out.len() - 1);
        self.out[length] = 0;
        length + 1
    }
}

impl LineFrame<'_> {
    /// The bytes for the line; their count. Bytes of a connection beyond `LINE_PAYLOAD_BYTES_MAX` make no frame: zero.
    pub fn encode(&self, out: &mut [u8; LINE_WIRE_BYTES_MAX]) -> usize {
        let mut fields = [0; 16];
        let (kind, length, bytes): (u8, usize, &[u8]) = match self.body {
            LineBody::Open => (kind::OPEN, 0, &[]),
            LineBody::Waiting => (kind::WAITING, 0, &[]),
            LineBody::Opened { gateway } => {
                fields.copy_from_slice(&gateway.0);
                (kind::OPENED, fields.len(), &[])
            }
            LineBody::Closed { end } => {
                fields[0] = end.number();
                (kind::CLOSED, 1, &[])
            }
            LineBody::Data { bytes, .. } if bytes.is_empty() || bytes.len() > LINE_PAYLOAD_BYTES_MAX => return 0,
            LineBody::Data { sequence, taken, bytes } => {
                fields[..2].copy_from_slice(&sequence.to_le_bytes());
                fields[2..4].copy_from_slice(&taken.to_le_bytes());
                (kind::DATA, DATA_FIELDS_BYTES, bytes)
            }
            LineBody::Pulse { taken } => {
                fields[..2].copy_from_slice(&taken.to_le_bytes());
                (kind::PULSE, 2, &[])
            }
        };
        let mut head = [kind; HEAD_BYTES];
        head[1..5].copy_from_slice(&self.id.leaf.to_le_bytes());
        head[5..].copy_from_slice(&self.id.gateway.to_le_bytes());
        let fields = &fields[..length];
        let sum = crc(&[&head, fields, bytes]).to_le_bytes();
        let mut stuffer = Stuffer::new(out);
        for part in [&head, fields, bytes, &sum] {
            stuffer.put(part);
        }
        stuffer.end()
    }

    /// Reads a frame that was unstuffed.
    fn decode(frame: &[u8]) -> Result<LineFrame<'_>, LineError> {
        let (covered, sum) = frame.split_last_chunk::<CRC_BYTES>().ok_or(LineError::Checksum)?;
        if crc(&[covered]) != u32::from_le_bytes(*sum) {
            return Err(LineError::Checksum);
        }
        let malformed = LineError::Malformed;
        let (head, rest) = covered.split_first_chunk::<HEAD_BYTES>().ok_or(malformed)?;
        let [kind, a, b, c, d, gateway @ ..] = *head;
        let id = LineId { leaf: u32::from_le_bytes([a, b, c, d]), gateway: u32::from_le_bytes(gateway) };
        let body = match (kind, rest) {
            (kind::OPEN, []) => LineBody::Open,
            (kind::WAITING, []) => LineBody::Waiting,
            (kind::OPENED, gateway) => {
                LineBody::Opened { gateway: DeviceId(gateway.try_into().map_err(|_| malformed)?) }
            }
            (kind::CLOSED, [number]) => {
                let end = LineEnd::ALL.into_iter().find(|end| end.number() == *number).ok_or(malformed)?;
                LineBody::Closed { end }
            }
            (kind::DATA, [a, b, c, d, bytes @ ..]) if (1..=LINE_PAYLOAD_BYTES_MAX).contains(&bytes.len()) => {
                let (sequence, taken) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
                LineBody::Data { sequence, taken, bytes }
            }
            (kind::PULSE, [a, b]) => LineBody::Pulse { taken: u16::from_le_bytes([*a, *b]) },
            _ => return Err(malformed),
        };
        Ok(LineFrame { id, body })
    }
}

/// Finds frames in what comes over a line, one byte after the other, and starts anew at each zero.
#[derive(Clone, Debug)]
pub struct LineReader {
    buffer: [u8; LINE_FRAME_BYTES_MAX + 1],
    filled: usize,
    is_too_long: bool,
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new()
    }
}

impl LineReader {
    pub const fn new() -> Self {
        Self { buffer: [0; LINE_FRAME_BYTES_MAX + 1], filled: 0, is_too_long: false }
    }

    /// Takes a byte; answers at the end of a frame, or of what should have been one.
    pub fn push(&mut self, byte: u8) -> Option<Result<LineFrame<'_>, LineError>> {
        if byte != 0 {
            match self.buffer.get_mut(self.filled) {
                Some(place) => {
                    *place = byte;
                    self.filled += 1;
                }
                None => self.is_too_long = true,
            }
            return None;
        }
        let filled = core::mem::take(&mut self.filled);
        if core::mem::take(&mut self.is_too_long) {
            return Some(Err(LineError::TooLong));
        }
        // Between two frames stand two zeros.
        if filled == 0 {
            return None;
        }
        let stuffed = self.buffer.get_mut(..filled)?;
        Some(match unstuff(stuffed) {
            Some(length) => LineFrame::decode(self.buffer.get(..length)?),
            None => Err(LineError::Stuffing),
        })
    }
}

/// Takes the stuffing out, in place; the length of what is left.
fn unstuff(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while let Some(code) = bytes.get(from).copied().map(usize::from) {
        let next = from + code;
        if code == 0 || next > bytes.len() {
            return None;
        }
        bytes.copy_within(from + 1..next, to);
        to += code - 1;
        from = next;
        if from < bytes.len() {
            *bytes.get_mut(to)? = 0;
            to += 1;
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_ethernet() {
        assert_eq!(crc(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(crc(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn stuffing_is_that_of_the_paper() {
        let mut out = [0xee; LINE_WIRE_BYTES_MAX];
        let mut stuffer = Stuffer::new(&mut out);
        stuffer.put(&[0x11, 0x22, 0x00, 0x33]);
        let length = stuffer.end();
        assert_eq!(out[..length], [0, 3, 0x11, 0x22, 2, 0x33, 0]);
        let mut stuffed = [3, 0x11, 0x22, 2, 0x33];
        assert_eq!(unstuff(&mut stuffed), Some(4));
        assert_eq!(stuffed[..4], [0x11, 0x22, 0x00, 0x33]);
    }
}
