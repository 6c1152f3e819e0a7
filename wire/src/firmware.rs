//! Firmware on its way to a board: what an image says of itself, what the hub offers, and what the device tells of it.
//!
//! An image begins with a head that hub, device and boot code read: `IMAGE_MAGIC`, the version in four bytes (little endian), the length of the board's name in one, the name, and ones up to
//! `IMAGE_HEAD_BYTES`, where the program begins. The hash over head and program is that of the artifact, so none is in it.
use crate::codec::{WireError, Writer, bounded_text};
use crate::digest::Digest;
use crate::frame::{Body, Kind};
use crate::id::Session;
use crate::limits::{FLEET_BYTES_MAX, NAME_BYTES_MAX};
use crate::sign::{PublicKey, SIGNATURE_BYTES, Sign, Signature, Verify};
use serde::{Deserialize, Serialize};

const DOMAIN: &[u8] = b"fulmar/v1/firmware\0";
/// Domain, version, fleet and board with their lengths, version of the image 5, length 5, hash 32.
const TEXT_BYTES_MAX: usize = DOMAIN.len() + 2 + FLEET_BYTES_MAX + 1 + NAME_BYTES_MAX + 5 + 5 + 32;

/// How an image begins.
pub const IMAGE_MAGIC: [u8; 4] = *b"FJI1";
const FIXED_BYTES: usize = IMAGE_MAGIC.len() + 4 + 1;
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
        out[..4].copy_from_slice(&IMAGE_MAGIC);
        out[4..8].copy_from_slice(&self.version.to_le_bytes());
        out[8] = self.board.len() as u8;
        out[FIXED_BYTES..FIXED_BYTES + self.board.len()].copy_from_slice(self.board.as_bytes());
        Ok(out)
    }

    /// From the beginning of an image.
    pub fn decode(image: &'a [u8]) -> Result<Self, WireError> {
        let head = image.get(..IMAGE_HEAD_BYTES).ok_or(WireError::Malformed)?;
        if head[..4] != IMAGE_MAGIC {
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

/// What the hub signs: that this image is for these boards of its fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement<'a> {
    pub board: &'a str,
    pub version: u32,
    /// Of the image with its head.
    pub bytes: u32,
    pub digest: Digest,
}

impl Statement<'_> {
    fn text<'b>(&self, fleet: &str, buffer: &'b mut [u8; TEXT_BYTES_MAX]) -> Result<&'b [u8], WireError> {
        bounded_text(self.board, NAME_BYTES_MAX)?;
        bounded_text(fleet, FLEET_BYTES_MAX)?;
        let mut writer = Writer::new(buffer);
        writer.bytes(DOMAIN)?;
        writer.bytes(&[crate::version::VERSION, fleet.len() as u8])?;
        writer.bytes(fleet.as_bytes())?;
        writer.value(self)?;
        let length = writer.len();
        Ok(&buffer[..length])
    }

    pub fn sign(&self, signer: &dyn Sign, fleet: &str) -> Result<Signature, WireError> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        self.text(fleet, &mut buffer).map(|text| signer.sign(text))
    }

    pub fn is_signed(&self, verifier: &dyn Verify, key: &PublicKey, fleet: &str, signature: &Signature) -> bool {
        let mut buffer = [0; TEXT_BYTES_MAX];
        self.text(fleet, &mut buffer).is_ok_and(|text| verifier.verify(key, text, signature))
    }
}

/// An image that the device is to run. Travels on `down/cmd`, in the session, and is repeated until the device has said what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer<'a> {
    pub version: u32,
    pub bytes: u32,
    pub digest: Digest,
    /// For so long the new image may run without having reached the hub; then it confirms itself if it works, or is taken back.
    pub trial_s: u16,
    /// Over `Statement`, of which the device knows fleet and board.
    pub signature: &'a [u8],
}

impl Offer<'_> {
    pub fn signature(&self) -> Option<Signature> {
        self.signature.try_into().ok().map(Signature)
    }
}

impl Body for Offer<'_> {
    const KIND: Kind = Kind::Offer;

    fn check(&self) -> Result<(), WireError> {
        let is_one = self.version > 0 && self.trial_s > 0 && self.signature.len() == SIGNATURE_BYTES;
        if is_one { Ok(()) } else { Err(WireError::Malformed) }
    }
}

/// Where an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing was offered since boot.
    Idle,
    Fetching,
    /// Verified and marked: the device resets into it.
    Installing,
    /// The target runs and is not confirmed yet.
    Trial,
    /// The target runs.
    Done,
    /// The target does not run, and will not without another offer.
    Failed,
}

/// Why an offered image does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    None,
    /// Not signed by this hub for this fleet and board.
    Signature,
    /// Below what was confirmed here once, or what runs.
    Downgrade,
    /// The image in the slot is not what was offered.
    Content,
    NoSpace,
    Unreachable,
    Flash,
    /// It ended in a panic or a fault.
    Panic,
    /// It hung, or did not confirm itself in time.
    Watchdog,
    /// The power went, or somebody pressed the reset button, before it was confirmed. Nobody's fault: it can be offered again.
    Interrupted,
    /// The boot code did not start it.
    NotStarted,
}

/// What the device says of its firmware: in each session first, after each change, and as the answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware<'a> {
    pub session: Session,
    pub board: &'a str,
    /// The version that runs.
    pub running: u32,
    /// What was offered last; zero: nothing.
    pub target: u32,
    pub phase: Phase,
    pub obstacle: Obstacle,
    /// Bytes of the target that are here.
    pub done: u32,
}

impl Body for Firmware<'_> {
    const KIND: Kind = Kind::Firmware;

    fn check(&self) -> Result<(), WireError> {
        bounded_text(self.board, NAME_BYTES_MAX).map(|_| ())
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
