//! What a firmware image says of itself, at its own beginning: for which board, and which version. Hub, device and boot code read it.
//!
//! Layout: `MAGIC`, the version in four bytes (little endian), the length of the board's name in one, the name, and ones up to
//! `IMAGE_HEAD_BYTES`, where the program begins. The hash over head and program is that of the artifact, so none is in here.
use crate::codec::WireError;
use crate::limits::NAME_BYTES_MAX;

const MAGIC: [u8; 4] = *b"FJI1";
const FIXED_BYTES: usize = MAGIC.len() + 4 + 1;
/// With the store's own header before it the program begins at 1 KiB of its slot: the vectors of every Cortex-M are aligned to that.
pub const IMAGE_HEAD_BYTES: usize = 768;
const _: () = assert!(FIXED_BYTES + NAME_BYTES_MAX <= IMAGE_HEAD_BYTES);

/// Board and version of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHead<'a> {
    pub board: &'a str,
    /// Counts up; zero is none. A device never takes a lower one than it has confirmed.
    pub version: u32,
}

impl<'a> ImageHead<'a> {
    pub fn encode(&self) -> Result<[u8; IMAGE_HEAD_BYTES], WireError> {
        self.check()?;
        let mut out = [0xff; IMAGE_HEAD_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.version.to_le_bytes());
        out[8] = self.board.len() as u8;
        out[FIXED_BYTES..FIXED_BYTES + self.board.len()].copy_from_slice(self.board.as_bytes());
        Ok(out)
    }

    /// From the beginning of an image.
    pub fn decode(image: &'a [u8]) -> Result<Self, WireError> {
        let head = image.get(..IMAGE_HEAD_BYTES).ok_or(WireError::Malformed)?;
        if head[..4] != MAGIC {
            return Err(WireError::Malformed);
        }
        let version = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let end = FIXED_BYTES + usize::from(head[8]);
        let board = head.get(FIXED_BYTES..end).and_then(|name| core::str::from_utf8(name).ok());
        let decoded = Self { board: board.ok_or(WireError::Malformed)?, version };
        decoded.check()?;
        if head[end..].iter().any(|byte| *byte != 0xff) {
            return Err(WireError::NotCanonical);
        }
        Ok(decoded)
    }

    fn check(&self) -> Result<(), WireError> {
        if self.board.len() > NAME_BYTES_MAX {
            return Err(WireError::TooLarge { limit: NAME_BYTES_MAX as u32 });
        }
        if self.board.is_empty() || self.version == 0 { Err(WireError::Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = ImageHead { board: "qemu-mps2-an386", version: 0x0102_0304 };
        let bytes = head.encode().unwrap();
        assert_eq!(&bytes[..25], b"FJI1\x04\x03\x02\x01\x0fqemu-mps2-an386\xff");
        assert_eq!(ImageHead::decode(&bytes), Ok(head));
    }

    #[test]
    fn the_longest_name_of_a_board_fits_and_a_longer_one_is_refused() {
        let name = core::str::from_utf8(&[b'b'; NAME_BYTES_MAX + 1]).unwrap();
        let longest = ImageHead { board: &name[1..], version: 1 };
        assert_eq!(ImageHead::decode(&longest.encode().unwrap()), Ok(longest));
        let limit = NAME_BYTES_MAX as u32;
        assert_eq!(ImageHead { board: name, version: 1 }.encode(), Err(WireError::TooLarge { limit }));
        let mut bytes = longest.encode().unwrap();
        bytes[8] += 1;
        assert!(ImageHead::decode(&bytes).is_err());
    }

    #[test]
    fn no_version_no_name_and_anything_else_is_no_head() {
        assert_eq!(ImageHead { board: "a", version: 0 }.encode(), Err(WireError::Malformed));
        assert_eq!(ImageHead { board: "", version: 1 }.encode(), Err(WireError::Malformed));
        let bytes = ImageHead { board: "a", version: 1 }.encode().unwrap();
        assert_eq!(ImageHead::decode(&bytes[1..]), Err(WireError::Malformed));
        assert_eq!(ImageHead::decode(&[0xff; IMAGE_HEAD_BYTES]), Err(WireError::Malformed));
        for at in 0..IMAGE_HEAD_BYTES {
            let mut bent = bytes;
            bent[at] ^= 0x80;
            // A version and a name may be others; nothing else passes.
            let is_content = (4..8).contains(&at);
            assert_eq!(ImageHead::decode(&bent).is_ok(), is_content, "byte {at}");
        }
    }
}
