//! Framing: a version, a kind, then either a tag over a live body or the parts of a stored, signed one.
//!
//! Live: `version u8 | kind u8 | tag [16] | body`. Plain (unauthenticated hints): `version u8 | kind u8 | body`.
//! Signed: see `desired` and `trust`. A receiver looks at version and kind before anything else.
use crate::auth::{LiveContext, PairKey, TAG_BYTES};
use crate::codec::{Reader, WireError, Writer, decode};
use crate::limits::FRAME_BYTES_MAX;
use crate::version::{VERSION, VersionRange};
use serde::{Deserialize, Serialize};

/// What a frame carries. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Desired = 1,
    Trust = 2,
    Fresh = 3,
    Grant = 4,
    Input = 5,
    Chunk = 6,
    Command = 7,
    Report = 8,
    Refusal = 9,
    Taken = 10,
    Offer = 11,
    Hello = 32,
    Heartbeat = 33,
    Status = 34,
    Need = 35,
    Released = 36,
    Event = 37,
    Sample = 38,
    Log = 39,
    Will = 40,
    CommandResult = 41,
    Firmware = 42,
    HubState = 64,
    JoinRequest = 80,
    JoinAnswer = 81,
}

impl Kind {
    /// Every kind of this version, for tests and counters.
    pub const ALL: [Self; 25] = [
        Self::Desired,
        Self::Trust,
        Self::Fresh,
        Self::Grant,
        Self::Input,
        Self::Chunk,
        Self::Command,
        Self::Report,
        Self::Refusal,
        Self::Taken,
        Self::Offer,
        Self::Hello,
        Self::Heartbeat,
        Self::Status,
        Self::Need,
        Self::Released,
        Self::Event,
        Self::Sample,
        Self::Log,
        Self::Will,
        Self::CommandResult,
        Self::Firmware,
        Self::HubState,
        Self::JoinRequest,
        Self::JoinAnswer,
    ];

    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Bytes before the tag, signature or body.
pub const PREFIX_BYTES: usize = 2;
/// Bytes of a live frame around its body.
pub const LIVE_OVERHEAD_BYTES: usize = PREFIX_BYTES + TAG_BYTES;

/// Version and kind, checked against what this build speaks.
pub fn peek(frame: &[u8]) -> Result<Kind, WireError> {
    let mut reader = Reader::new(frame);
    let version = reader.byte()?;
    if !VersionRange::SPOKEN.contains(version) {
        return Err(WireError::UnsupportedVersion { version });
    }
    let kind = reader.byte()?;
    if frame.len() > FRAME_BYTES_MAX {
        return Err(WireError::TooLarge { limit: FRAME_BYTES_MAX as u32 });
    }
    Kind::from_byte(kind).ok_or(WireError::UnknownKind { kind })
}

/// Strips version and kind; the kind must be the expected one.
pub(crate) fn open(frame: &[u8], expected: Kind) -> Result<Reader<'_>, WireError> {
    let kind = peek(frame)?;
    if kind != expected {
        return Err(WireError::WrongKind { kind: kind as u8 });
    }
    let mut reader = Reader::new(frame);
    reader.bytes(PREFIX_BYTES)?;
    Ok(reader)
}

pub(crate) fn begin<'b>(buffer: &'b mut [u8], kind: Kind) -> Result<Writer<'b>, WireError> {
    let mut writer = Writer::new(buffer);
    writer.bytes(&[VERSION, kind as u8])?;
    Ok(writer)
}

/// A body with exactly one kind. Implemented by every live message that is one postcard value.
pub trait Body: Serialize {
    const KIND: Kind;

    /// The limits that postcard does not know. Run by every encoder and decoder below, so that no caller can forget it.
    fn check(&self) -> Result<(), WireError> {
        Ok(())
    }
}

/// Writes a live frame; `write` appends the body.
pub fn encode_live_with<'b>(
    buffer: &'b mut [u8],
    kind: Kind,
    key: &PairKey,
    context: &LiveContext<'_>,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), WireError>,
) -> Result<&'b mut [u8], WireError> {
    let mut writer = begin(buffer, kind)?;
    writer.bytes(&[0; TAG_BYTES])?;
    write(&mut writer)?;
    if writer.len() > FRAME_BYTES_MAX {
        return Err(WireError::TooLarge { limit: FRAME_BYTES_MAX as u32 });
    }
    let tag = key.tag(context, kind, &writer.written()[LIVE_OVERHEAD_BYTES..]);
    writer.patch(PREFIX_BYTES, &tag)?;
    Ok(writer.finish())
}

/// Writes a live frame of one value.
pub fn encode_live<'b, T: Body>(
    buffer: &'b mut [u8],
    key: &PairKey,
    context: &LiveContext<'_>,
    body: &T,
) -> Result<&'b mut [u8], WireError> {
    body.check()?;
    encode_live_with(buffer, T::KIND, key, context, |writer| writer.value(body))
}

/// The body bytes of a live frame, before its tag was checked: only to find out which context to check it with.
pub fn live_body_unchecked(frame: &[u8], kind: Kind) -> Result<&[u8], WireError> {
    let mut reader = open(frame, kind)?;
    reader.bytes(TAG_BYTES)?;
    Ok(reader.rest())
}

/// The body bytes of a live frame whose tag matches.
pub fn open_live<'a>(
    frame: &'a [u8],
    kind: Kind,
    key: &PairKey,
    context: &LiveContext<'_>,
) -> Result<&'a [u8], WireError> {
    let mut reader = open(frame, kind)?;
    let tag = reader.array::<TAG_BYTES>()?;
    let body = reader.rest();
    if key.verify(context, kind, body, &tag) { Ok(body) } else { Err(WireError::NotAuthentic) }
}

/// The value of a live frame whose tag matches.
pub fn decode_live<'a, T: Body + Deserialize<'a>>(
    frame: &'a [u8],
    key: &PairKey,
    context: &LiveContext<'_>,
) -> Result<T, WireError> {
    decode_body(open_live(frame, T::KIND, key, context)?)
}

/// A value of one kind from its body bytes, with its limits checked. Says nothing about who sent them.
pub fn decode_body<'a, T: Body + Deserialize<'a>>(body: &'a [u8]) -> Result<T, WireError> {
    let value: T = decode(body)?;
    value.check()?;
    Ok(value)
}

/// Writes a plain frame: hints that no one may rely on, and joins, which carry their own proof.
pub fn encode_plain<'b, T: Body>(buffer: &'b mut [u8], body: &T) -> Result<&'b mut [u8], WireError> {
    body.check()?;
    let mut writer = begin(buffer, T::KIND)?;
    writer.value(body)?;
    Ok(writer.finish())
}

/// The value of a plain frame.
pub fn decode_plain<'a, T: Body + Deserialize<'a>>(frame: &'a [u8]) -> Result<T, WireError> {
    decode_body(open(frame, T::KIND)?.rest())
}
