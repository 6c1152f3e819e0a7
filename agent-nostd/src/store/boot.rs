//! Unpredictable seeds for parts without a random source: a chain that starts at a provisioned seed and never repeats.
//!
//! After power-on the next link is durable before this one is used. A reset without loss of power goes on with a copy in memory
//! that survives it, so that a reset loop wears no flash. Whoever reads one seed can compute neither the links before it nor
//! those that others use. Must never give a link twice.
use super::journal::{Journal, Key};
use embedded_storage::nor_flash::NorFlash;
use sha2::{Digest as _, Sha256};

const LINK_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;

/// What survives a reset: a board places it in memory that is not cleared at the start. Any content is valid to begin with.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Retained {
    link: [u8; LINK_BYTES],
    check: [u8; CHECK_BYTES],
}

impl Retained {
    pub const EMPTY: Self = Self { link: [0; LINK_BYTES], check: [0; CHECK_BYTES] };

    fn taken(&self) -> Option<[u8; LINK_BYTES]> {
        (check(&self.link) == self.check).then_some(self.link)
    }

    fn put(&mut self, link: [u8; LINK_BYTES]) {
        *self = Self { link, check: check(&link) };
    }
}

/// The seed of one boot.
#[derive(Clone)]
pub struct Seed {
    pub bytes: [u8; LINK_BYTES],
    /// False if the flash could not keep the next link and there is no other source: the next power-on may get the same seed.
    /// Such a device runs what it has and must not connect.
    pub is_unique: bool,
}

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seed").field("is_unique", &self.is_unique).finish_non_exhaustive()
    }
}

impl Seed {
    /// Once per boot. `provisioned`: what the flasher wrote; counts at the first boot alone. `hardware`: bytes of a random
    /// source, empty where there is none.
    pub fn draw<F: NorFlash>(
        journal: &mut Journal<F>,
        retained: &mut Retained,
        provisioned: &[u8],
        hardware: &[u8],
    ) -> Self {
        let mut is_kept = true;
        let link = match retained.taken() {
            Some(link) => link,
            None => {
                let mut stored = [0; LINK_BYTES];
                let link = match journal.load(Key::BOOT, &mut stored) {
                    Some(_) => stored,
                    None => hash(b"provisioned", &[0; LINK_BYTES], provisioned),
                };
                is_kept = journal.persist(Key::BOOT, &hash(b"flash", &link, hardware)).is_ok();
                link
            }
        };
        // Without a durable successor the copy in memory must not vouch for the next boot either.
        if is_kept {
            retained.put(hash(b"retained", &link, hardware));
        } else {
            *retained = Retained::EMPTY;
        }
        Self { bytes: hash(b"boot", &link, hardware), is_unique: is_kept || !hardware.is_empty() }
    }
}

fn check(link: &[u8; LINK_BYTES]) -> [u8; CHECK_BYTES] {
    let full = hash(b"check", link, &[]);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&full[..CHECK_BYTES]);
    check
}

/// One-way: a link cannot be found from what follows from it.
fn hash(purpose: &[u8], link: &[u8; LINK_BYTES], other: &[u8]) -> [u8; LINK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"fulmar/v1/seed\0");
    hash.update([purpose.len() as u8]);
    hash.update(purpose);
    hash.update(link);
    hash.update(other);
    hash.finalize().into()
}
