//! Decoding that accepts exactly one spelling of a value: postcard alone accepts trailing bytes and overlong integers.
//!
//! Values are read from the received bytes without a copy, and compared with their own canonical form by serialising into a
//! sink that only compares. Nothing here allocates, whatever a length prefix claims.
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

/// Why bytes were refused. Each variant is something a receiver counts or answers differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Shorter than its own structure says.
    Truncated,
    /// Bytes after the end of the value.
    Trailing,
    /// A value that our encoder would have spelt differently.
    NotCanonical,
    /// Not a value of this type.
    Malformed,
    /// Longer than a named limit; carries the limit.
    TooLarge { limit: u32 },
    /// A wire version that this build does not speak.
    UnsupportedVersion { version: u8 },
    /// A frame kind that this build does not know.
    UnknownKind { kind: u8 },
    /// A frame of a known kind in a place where another was expected.
    WrongKind { kind: u8 },
    /// Tag or signature does not match.
    NotAuthentic,
    /// The output buffer is too small.
    NoRoom,
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends before its content does"),
            Self::Trailing => f.write_str("the message has bytes after its end"),
            Self::NotCanonical => f.write_str("the message is not in canonical form"),
            Self::Malformed => f.write_str("the message is malformed"),
            Self::TooLarge { limit } => write!(f, "the message is over the limit of {limit}"),
            Self::UnsupportedVersion { version } => write!(f, "wire version {version} is not spoken here"),
            Self::UnknownKind { kind } => write!(f, "message kind {kind} is not known here"),
            Self::WrongKind { kind } => write!(f, "message kind {kind} does not belong on this topic"),
            Self::NotAuthentic => f.write_str("the message is not authentic"),
            Self::NoRoom => f.write_str("the buffer is too small for the message"),
        }
    }
}

impl core::error::Error for WireError {}

/// A postcard sink that compares with what was received instead of storing.
struct Compare<'a> {
    rest: &'a [u8],
}

impl Flavor for Compare<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(postcard::Error::SerializeBufferFull) }
    }
}

/// A cursor over received bytes; each `take` is total and canonical.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    pub fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// One value in canonical postcard form.
    pub fn take<T: Deserialize<'a> + Serialize>(&mut self) -> Result<T, WireError> {
        let (value, rest) = postcard::take_from_bytes::<T>(self.rest).map_err(decode_error)?;
        let used = self.rest.len() - rest.len();
        let sink = Compare { rest: &self.rest[..used] };
        postcard::serialize_with_flavor(&value, sink).map_err(|_| WireError::NotCanonical)?;
        self.rest = rest;
        Ok(value)
    }

    /// A length of at most `limit`, then that many bytes.
    pub fn prefixed(&mut self, limit: usize) -> Result<&'a [u8], WireError> {
        let length = self.take::<u32>()? as usize;
        if length > limit {
            return Err(WireError::TooLarge { limit: limit as u32 });
        }
        self.bytes(length)
    }

    /// Refuses what is left over.
    pub fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}

fn decode_error(error: postcard::Error) -> WireError {
    match error {
        postcard::Error::DeserializeUnexpectedEnd => WireError::Truncated,
        _ => WireError::Malformed,
    }
}

/// The whole of `bytes` as one canonical value.
pub fn decode<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Result<T, WireError> {
    let mut reader = Reader::new(bytes);
    let value = reader.take()?;
    reader.end()?;
    Ok(value)
}

/// Appends to a caller-given buffer; never grows it.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl<'b> Writer<'b> {
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, at: 0 }
    }

    pub fn len(&self) -> usize {
        self.at
    }

    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.at]
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let end = self.at.checked_add(bytes.len()).ok_or(WireError::NoRoom)?;
        self.buffer.get_mut(self.at..end).ok_or(WireError::NoRoom)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WireError> {
        let room = self.buffer.get_mut(self.at..).ok_or(WireError::NoRoom)?;
        let used = postcard::to_slice(value, room).map_err(|_| WireError::NoRoom)?.len();
        self.at += used;
        Ok(())
    }

    /// A length of at most `limit`, then the bytes.
    pub fn prefixed(&mut self, bytes: &[u8], limit: usize) -> Result<(), WireError> {
        if bytes.len() > limit {
            return Err(WireError::TooLarge { limit: limit as u32 });
        }
        self.value(&(bytes.len() as u32))?;
        self.bytes(bytes)
    }

    /// Overwrites what was written at `at` before; for tags that cover what follows them.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) -> Result<(), WireError> {
        let end = at.checked_add(bytes.len()).filter(|&end| end <= self.at).ok_or(WireError::NoRoom)?;
        self.buffer[at..end].copy_from_slice(bytes);
        Ok(())
    }

    pub fn finish(self) -> &'b mut [u8] {
        &mut self.buffer[..self.at]
    }
}

/// `text` if it is at most `limit` bytes.
pub fn bounded_text(text: &str, limit: usize) -> Result<&str, WireError> {
    if text.len() > limit { Err(WireError::TooLarge { limit: limit as u32 }) } else { Ok(text) }
}

/// `bytes` if they are at most `limit`.
pub fn bounded(bytes: &[u8], limit: usize) -> Result<&[u8], WireError> {
    if bytes.len() > limit { Err(WireError::TooLarge { limit: limit as u32 }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlong_integer_is_not_canonical() {
        assert_eq!(decode::<u32>(&[0x80, 0x00]), Err(WireError::NotCanonical));
        assert_eq!(decode::<u32>(&[0x00]), Ok(0));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(decode::<u32>(&[1, 0]), Err(WireError::Trailing));
    }

    #[test]
    fn a_four_gigabyte_prefix_is_refused_by_its_limit() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]);
        assert_eq!(reader.prefixed(16), Err(WireError::TooLarge { limit: 16 }));
    }

    #[test]
    fn a_writer_never_grows_its_buffer() {
        let mut buffer = [0; 2];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(writer.bytes(&[1, 2, 3]), Err(WireError::NoRoom));
        assert_eq!(writer.bytes(&[1, 2]), Ok(()));
        assert_eq!(writer.value(&1u8), Err(WireError::NoRoom));
    }
}
