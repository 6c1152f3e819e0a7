//! A slot of firmware: a partition with one artifact at its beginning, an image that says for which board and version it is.
//!
//! `header of the artifact | ImageHead | program`. The program runs from where it lies, so it always begins at `PROGRAM_OFFSET`. An
//! image counts only after all of it was read and has the hash of its header. Must never take an image at another place.
use super::artifact::{Artifacts, DATA_OFFSET, HEADER_BYTES, header};
use crate::machine::port::FetchFailure;
use crate::transfer::{Sink, SinkError};
use embedded_storage::nor_flash::NorFlash;
use wire::Digest;
use wire::firmware::{IMAGE_HEAD_BYTES, ImageHead};

/// Where the program begins in its slot.
pub const PROGRAM_OFFSET: u32 = DATA_OFFSET + IMAGE_HEAD_BYTES as u32;
const _: () = assert!(PROGRAM_OFFSET == 1024);

/// Before the image in its slot, for whoever writes a slot from outside.
pub fn slot_head(digest: &Digest, image_bytes: u32) -> [u8; DATA_OFFSET as usize] {
    let mut out = [0xff; DATA_OFFSET as usize];
    out[..HEADER_BYTES].copy_from_slice(&header(digest, image_bytes));
    out
}

/// An image that is here whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub digest: Digest,
    pub bytes: u32,
    pub version: u32,
}

/// A partition that holds an image, or is to.
#[derive(Debug)]
pub struct Slot<F> {
    artifacts: Artifacts<F>,
}

impl<F: NorFlash> Slot<F> {
    pub fn open(flash: F) -> Self {
        Self { artifacts: Artifacts::open_slot(flash) }
    }

    /// The image for a board, if a whole one is here: reads all of it.
    pub fn image(&mut self, board: &str) -> Option<Image> {
        let image = self.named(board)?;
        self.artifacts.holds(&image.digest, image.bytes).then_some(image)
    }

    /// What the image says of itself, which nobody has checked. For the one that runs: it was checked before it was started.
    pub fn named(&mut self, board: &str) -> Option<Image> {
        let (digest, bytes) = self.artifacts.first()?;
        let mut head = [0; IMAGE_HEAD_BYTES];
        let is_read = self.artifacts.read_at(&digest, 0, &mut head);
        let head = ImageHead::decode(&head).ok().filter(|head| is_read && head.board == board)?;
        Some(Image { digest, bytes, version: head.version })
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.artifacts.into_flash()
    }
}

/// One image at a time, from its beginning.
impl<F: NorFlash> Sink for Slot<F> {
    fn begin(&mut self, digest: &Digest, bytes: u32) -> Result<u32, FetchFailure> {
        // The swap leaves the former image one sector further on, where a program could not run.
        if self.artifacts.first().is_none_or(|(first, _)| first != *digest) {
            self.artifacts.collect(&mut |_| false);
            self.artifacts.forgive();
        }
        self.artifacts.begin(digest, bytes)
    }

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), FetchFailure> {
        Sink::read(&mut self.artifacts, offset, into)
    }

    fn append(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SinkError> {
        self.artifacts.append(offset, bytes)
    }

    fn discard(&mut self) {
        self.artifacts.discard();
    }

    fn finish(&mut self) -> Result<(), FetchFailure> {
        self.artifacts.finish()
    }
}
