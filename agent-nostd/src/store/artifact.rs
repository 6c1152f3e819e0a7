//! Artifacts on flash, each under its own hash in neighbouring sectors, so that an engine can use it where it lies.
//!
//! A header of its own begins each; nothing else says what is where. An artifact is used only after what the flash gives back has
//! the right hash: there is no mark that says "whole" and could be wrong. One is received at a time, programmed in order by
//! whole granules; after a reset it goes on at the last granule that is not blank, which a cut may have torn and which is
//! therefore compared with what comes. A sector that cannot be erased is passed over. Must never program a unit twice, erase the
//! header of an artifact before its content, or hand out bytes that were not asked for by their hash.
use super::flash::is_usable;
use super::limits::{ARTIFACTS_MAX, BAD_SECTORS_MAX, BUFFER_BYTES, SECTORS_MAX, ZONES_MAX};
use crate::journal::{SEAL_BYTES, seal};
use crate::machine::port::FetchFailure;
use crate::transfer::{Sink, SinkError};
use embedded_storage::nor_flash::NorFlash;
use heapless::Vec;
use sha2::{Digest as _, Sha256};
use wire::Digest;

/// Content begins this far into its first sector.
pub const DATA_OFFSET: u32 = BUFFER_BYTES as u32;
/// `magic 4 | bytes u32 | digest 32 | zero 20 | check 4`
pub const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"FJA1";
const HEADER_KEY: u8 = 0;
/// What is programmed at once.
const GRANULE_BYTES: u32 = BUFFER_BYTES as u32;

/// Where an artifact lies, for boards that can use flash as memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From the start of the partition.
    pub offset: u32,
    pub bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    digest: Digest,
    bytes: u32,
    sector: u32,
}

/// The artifact that is being received.
#[derive(Clone, Copy, Debug)]
struct Coming {
    entry: Entry,
    /// Content bytes that are programmed or in the buffer.
    done: u32,
    /// The granule that a cut may have torn, if there is one.
    suspect: Option<u32>,
}

/// The artifacts' partition.
#[derive(Debug)]
pub struct Artifacts<F> {
    flash: F,
    sectors: u32,
    entries: Vec<Entry, ARTIFACTS_MAX>,
    coming: Option<Coming>,
    buffer: Buffer,
    bad: Vec<u32, BAD_SECTORS_MAX>,
    zones: [u32; ZONES_MAX],
    failures: u32,
    /// There is one artifact at most, and it begins where the partition does.
    is_slot: bool,
}

#[derive(Debug)]
#[repr(align(32))]
struct Buffer([u8; BUFFER_BYTES]);

/// How worn the partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArtifactWear {
    /// Erases of a sector, on average over the part of the partition that was erased most.
    pub erases_per_sector: u32,
    /// Sectors that could not be erased, found since this boot.
    pub bad_sectors: u32,
    /// Operations that failed since this boot.
    pub failures: u32,
}

impl<F: NorFlash> Artifacts<F> {
    /// Finds what is there. A flash that cannot be used holds nothing and has no room: whatever its state, a device boots.
    pub fn open(flash: F) -> Self {
        let sectors = if is_usable::<F>() && F::ERASE_SIZE.is_multiple_of(BUFFER_BYTES) {
            flash.capacity() / F::ERASE_SIZE
        } else {
            0
        };
        let sectors = u32::try_from(sectors.min(SECTORS_MAX)).unwrap_or(0);
        let mut artifacts = Self {
            flash,
            sectors,
            entries: Vec::new(),
            coming: None,
            buffer: Buffer([0; BUFFER_BYTES]),
            bad: Vec::new(),
            zones: [0; ZONES_MAX],
            failures: 0,
            is_slot: false,
        };
        let mut sector = 0;
        while sector < sectors {
            match artifacts.header_read(sector) {
                Some(entry) => {
                    sector += Self::run(entry.bytes);
                    // One too many is found when another one is collected and the device boots again.
                    let _ = artifacts.entries.push(entry);
                }
                None => sector += 1,
            }
        }
        artifacts
    }

    /// A partition whose one artifact is found by its place: it takes a new one at its beginning or not at all.
    pub(super) fn open_slot(flash: F) -> Self {
        Self { is_slot: true, ..Self::open(flash) }
    }

    /// Sectors that failed are tried again: a slot has no other.
    pub(super) fn forgive(&mut self) {
        self.bad.clear();
    }

    /// What begins where the partition does; says nothing about whether it is whole.
    pub(super) fn first(&self) -> Option<(Digest, u32)> {
        self.entries.iter().find(|entry| entry.sector == 0).map(|entry| (entry.digest, entry.bytes))
    }

    /// Whether it is here whole: all of it is read and hashed.
    pub fn holds(&mut self, digest: &Digest, bytes: u32) -> bool {
        // Two of one hash are there only where a header could not be erased; the whole one counts from now on.
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get(index).copied() else { continue };
            let is_it = (entry.digest, entry.bytes) == (*digest, bytes) && !self.bad.contains(&entry.sector);
            if is_it && self.is_whole(&entry) {
                self.entries.swap(0, index);
                return true;
            }
        }
        false
    }

    /// Where it lies; says nothing about whether it is whole.
    pub fn span(&self, digest: &Digest) -> Option<Span> {
        let entry = self.find(digest)?;
        Some(Span { offset: Self::address(entry.sector) + DATA_OFFSET, bytes: entry.bytes })
    }

    /// Copies a part of an artifact; false if that is not here or cannot be read.
    pub fn read_at(&mut self, digest: &Digest, offset: u32, into: &mut [u8]) -> bool {
        self.find(digest).is_some_and(|entry| self.read_entry(&entry, offset, into))
    }

    fn read_entry(&mut self, entry: &Entry, offset: u32, into: &mut [u8]) -> bool {
        let length = u32::try_from(into.len()).unwrap_or(u32::MAX);
        if offset.checked_add(length).is_none_or(|end| end > entry.bytes) {
            return false;
        }
        let unit = F::READ_SIZE.max(1) as u32;
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            // From the unit below, because a flash may read whole units alone.
            let from = at / unit * unit;
            let skipped = (at - from) as usize;
            let count = rest.len().min(BUFFER_BYTES - skipped);
            let rounded = (skipped + count).next_multiple_of(unit as usize).min(BUFFER_BYTES);
            let address = Self::address(entry.sector) + DATA_OFFSET + from;
            if self.flash.read(address, &mut buffer.0[..rounded]).is_err() {
                return false;
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&buffer.0[skipped..skipped + count]);
            rest = later;
            at += count as u32;
        }
        true
    }

    /// Deletes every artifact, whole or not, for which `is_kept` is false. How many that were.
    pub fn collect(&mut self, is_kept: &mut dyn FnMut(&Digest) -> bool) -> u32 {
        let mut removed = 0;
        for index in (0..self.entries.len()).rev() {
            let Some(entry) = self.entries.get(index).copied() else { continue };
            if !is_kept(&entry.digest) {
                removed += u32::from(self.remove(&entry));
            }
        }
        removed
    }

    /// Bytes of the partition, and of the longest artifact that there is room for.
    pub fn room(&self) -> (u64, u64) {
        let total = u64::from(self.sectors) * F::ERASE_SIZE as u64;
        let mut longest = 0;
        self.gaps(|_, length| longest = longest.max(length));
        let free = (u64::from(longest) * F::ERASE_SIZE as u64).saturating_sub(u64::from(DATA_OFFSET));
        (total, if self.entries.is_full() { 0 } else { free })
    }

    pub fn wear(&self) -> ArtifactWear {
        let most = self.zones.iter().copied().max().unwrap_or(0);
        ArtifactWear {
            erases_per_sector: most.div_ceil(self.sectors_per_zone()),
            bad_sectors: self.bad.len() as u32,
            failures: self.failures,
        }
    }

    /// Erases by zone, to be kept by whoever has a journal.
    pub fn zones(&self) -> &[u32] {
        let used = self.sectors.div_ceil(self.sectors_per_zone()) as usize;
        self.zones.get(..used).unwrap_or_default()
    }

    /// What was kept.
    pub fn zones_restore(&mut self, kept: impl Iterator<Item = u32>) {
        for (zone, erases) in self.zones.iter_mut().zip(kept) {
            *zone = zone.saturating_add(erases);
        }
    }

    #[cfg(test)]
    pub(crate) fn flash(&self) -> &F {
        &self.flash
    }

    #[cfg(test)]
    pub(crate) fn flash_mut(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    const fn address(sector: u32) -> u32 {
        sector * F::ERASE_SIZE as u32
    }

    /// Sectors of an artifact.
    const fn run(bytes: u32) -> u32 {
        DATA_OFFSET.saturating_add(bytes).div_ceil(F::ERASE_SIZE as u32)
    }

    fn sectors_per_zone(&self) -> u32 {
        self.sectors.div_ceil(ZONES_MAX as u32).max(1)
    }

    fn find(&self, digest: &Digest) -> Option<Entry> {
        // One whose header could not be erased only takes up its place.
        self.entries.iter().find(|entry| entry.digest == *digest && !self.bad.contains(&entry.sector)).copied()
    }

    fn header_read(&mut self, sector: u32) -> Option<Entry> {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let head = buffer.0.get_mut(..HEADER_BYTES)?;
        self.flash.read(Self::address(sector), head).ok()?;
        let (covered, check) = head.split_at(HEADER_BYTES - 4);
        if covered[..4] != MAGIC || check != header_check(covered) {
            return None;
        }
        let bytes = u32::from_le_bytes(covered[4..8].try_into().ok()?);
        let digest = Digest(covered[8..40].try_into().ok()?);
        let fits = sector.checked_add(Self::run(bytes)).is_some_and(|end| end <= self.sectors);
        fits.then_some(Entry { digest, bytes, sector })
    }

    fn is_whole(&mut self, entry: &Entry) -> bool {
        let mut hash = Sha256::new();
        let mut buffer = [0; BUFFER_BYTES];
        let mut at = 0;
        while at < entry.bytes {
            let length = (entry.bytes - at).min(BUFFER_BYTES as u32);
            let part = &mut buffer[..length as usize];
            if !self.read_entry(entry, at, part) {
                return false;
            }
            hash.update(&*part);
            at += length;
        }
        Digest(hash.finalize().into()) == entry.digest
    }

    fn erase(&mut self, sector: u32) -> bool {
        let zone = (sector / self.sectors_per_zone()) as usize;
        if let Some(zone) = self.zones.get_mut(zone) {
            *zone = zone.saturating_add(1);
        }
        let start = Self::address(sector);
        if self.flash.erase(start, start + F::ERASE_SIZE as u32).is_ok() {
            return true;
        }
        self.spoiled(sector);
        false
    }

    fn spoiled(&mut self, sector: u32) {
        self.failures = self.failures.saturating_add(1);
        if !self.bad.contains(&sector) {
            // With too many of them the allocation fails by the same operation again.
            let _ = self.bad.push(sector);
        }
    }

    fn is_blank(&mut self, sector: u32) -> bool {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        (0..F::ERASE_SIZE as u32).step_by(BUFFER_BYTES).all(|at| {
            let is_read = self.flash.read(Self::address(sector) + at, &mut buffer.0).is_ok();
            is_read && buffer.0.iter().all(|byte| *byte == 0xff)
        })
    }

    /// Content first, header last: a cut in between leaves an artifact that is not whole and goes the next time.
    fn remove(&mut self, entry: &Entry) -> bool {
        if self.coming.is_some_and(|coming| coming.entry == *entry) {
            self.coming = None;
        }
        for sector in (entry.sector + 1..entry.sector + Self::run(entry.bytes)).rev() {
            self.erase(sector);
        }
        let is_gone = self.erase(entry.sector);
        // With a header that cannot be erased its place stays taken.
        if is_gone {
            self.entries.retain(|known| known != entry);
        }
        is_gone
    }

    /// Calls with the start and length of each run of free sectors.
    fn gaps(&self, mut found: impl FnMut(u32, u32)) {
        let mut start = None;
        for sector in 0..=self.sectors {
            let is_taken = sector == self.sectors
                || self.bad.contains(&sector)
                || self
                    .entries
                    .iter()
                    .any(|entry| (entry.sector..entry.sector + Self::run(entry.bytes)).contains(&sector));
            match (is_taken, start) {
                (false, None) => start = Some(sector),
                (true, Some(first)) => {
                    found(first, sector - first);
                    start = None;
                }
                (false, Some(_)) | (true, None) => {}
            }
        }
    }

    /// The least worn place of those at the ends of gaps.
    fn place(&self, sectors: u32) -> Option<u32> {
        let mut best: Option<(u32, u32)> = None;
        let per_zone = self.sectors_per_zone();
        self.gaps(|start, length| {
            if length < sectors || (self.is_slot && start > 0) {
                return;
            }
            if self.is_slot {
                best = Some((0, start));
                return;
            }
            for first in [start, start + length - sectors] {
                let zones = (first / per_zone) as usize..=((first + sectors - 1) / per_zone) as usize;
                let worn = self.zones.get(zones).unwrap_or_default().iter().copied().max().unwrap_or(0);
                if best.is_none_or(|(least, _)| worn < least) {
                    best = Some((worn, first));
                }
            }
        });
        best.map(|(_, first)| first)
    }

    fn allocate(&mut self, digest: &Digest, bytes: u32) -> Result<Entry, FetchFailure> {
        if self.entries.is_full() {
            return Err(FetchFailure::NoSpace);
        }
        // Each failure makes one sector bad, and the next place avoids it.
        for _ in 0..=BAD_SECTORS_MAX {
            let sector = self.place(Self::run(bytes)).ok_or(FetchFailure::NoSpace)?;
            let entry = Entry { digest: *digest, bytes, sector };
            // What was removed is blank but for a header that a cut may have left half erased.
            // There is one place for what goes into a slot: what looks blank and takes nothing since a cut is erased, too.
            let is_blank = self.erase(sector)
                && (sector + 1..sector + Self::run(bytes))
                    .all(|sector| (!self.is_slot && self.is_blank(sector)) || self.erase(sector));
            if is_blank && self.header_write(&entry) {
                self.entries.push(entry).map_err(|_| FetchFailure::NoSpace)?;
                return Ok(entry);
            }
        }
        Err(FetchFailure::NoSpace)
    }

    fn header_write(&mut self, entry: &Entry) -> bool {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let head = &mut buffer.0[..HEADER_BYTES];
        head.copy_from_slice(&header(&entry.digest, entry.bytes));
        let is_written = self.flash.write(Self::address(entry.sector), head).is_ok();
        let is_there = is_written && self.header_read(entry.sector) == Some(*entry);
        if !is_there {
            self.spoiled(entry.sector);
        }
        is_there
    }

    /// Where the last granule begins that is not blank.
    fn last_used(&mut self, entry: &Entry) -> Option<u32> {
        let mut buffer = Buffer([0; BUFFER_BYTES]);
        let mut granule = entry.bytes.div_ceil(GRANULE_BYTES);
        while granule > 0 {
            granule -= 1;
            let address = Self::address(entry.sector) + DATA_OFFSET + granule * GRANULE_BYTES;
            let is_read = self.flash.read(address, &mut buffer.0).is_ok();
            // What cannot be read is not blank.
            if !is_read || buffer.0.iter().any(|byte| *byte != 0xff) {
                return Some(granule * GRANULE_BYTES);
            }
        }
        None
    }

    /// Programs the granule in the buffer, of which so many bytes count.
    fn program(&mut self, coming: &Coming, at: u32, bytes: u32) -> Result<(), SinkError> {
        let length = (bytes as usize).next_multiple_of(F::WRITE_SIZE);
        self.buffer.0[bytes as usize..length].fill(0xff);
        let address = Self::address(coming.entry.sector) + DATA_OFFSET + at;
        if coming.suspect == Some(at) {
            let mut there = Buffer([0; BUFFER_BYTES]);
            let is_read = self.flash.read(address, &mut there.0).is_ok();
            if is_read && there.0[..length] == self.buffer.0[..length] {
                return Ok(());
            }
            if !is_read || there.0.iter().any(|byte| *byte != 0xff) {
                return Err(self.take_back(coming, at));
            }
        }
        // Blank already, and so it stays for whoever looks for the end.
        if self.buffer.0[..length].iter().all(|byte| *byte == 0xff) {
            return Ok(());
        }
        if self.flash.write(address, &self.buffer.0[..length]).is_err() {
            // Not torn but spoiled: it goes to another place, from the start.
            self.coming = None;
            self.remove(&coming.entry);
            self.spoiled(Self::sector_of(&coming.entry, at));
            return Err(SinkError::Torn);
        }
        Ok(())
    }

    const fn sector_of(entry: &Entry, at: u32) -> u32 {
        entry.sector + (DATA_OFFSET + at) / F::ERASE_SIZE as u32
    }

    /// The granule was torn: its sector is erased, and the artifact goes on at that sector's start.
    fn take_back(&mut self, coming: &Coming, at: u32) -> SinkError {
        self.coming = None;
        let sector = Self::sector_of(&coming.entry, at);
        let is_first = sector == coming.entry.sector;
        if is_first || !self.erase(sector) {
            self.remove(&coming.entry);
        }
        SinkError::Torn
    }

    fn append_all(&mut self, mut bytes: &[u8]) -> Result<(), SinkError> {
        let mut coming = self.coming.ok_or(SinkError::Failed(FetchFailure::Absent))?;
        while !bytes.is_empty() {
            let filled = coming.done % GRANULE_BYTES;
            let room = (GRANULE_BYTES - filled) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.0[filled as usize..filled as usize + now.len()].copy_from_slice(now);
            coming.done += now.len() as u32;
            bytes = later;
            let is_full = coming.done.is_multiple_of(GRANULE_BYTES);
            if is_full || coming.done == coming.entry.bytes {
                let length = if is_full { GRANULE_BYTES } else { coming.done % GRANULE_BYTES };
                self.program(&coming, coming.done - length, length)?;
                coming.suspect = None;
            }
        }
        self.coming = Some(coming);
        Ok(())
    }
}

impl<F: NorFlash> Sink for Artifacts<F> {
    fn begin(&mut self, digest: &Digest, bytes: u32) -> Result<u32, FetchFailure> {
        self.coming = None;
        let mut known = self.find(digest);
        if let Some(entry) = known.filter(|entry| entry.bytes != bytes) {
            self.remove(&entry);
            known = None;
        }
        let entry = match known {
            Some(entry) => entry,
            None => self.allocate(digest, bytes)?,
        };
        let suspect = self.last_used(&entry);
        let done = suspect.unwrap_or(0);
        self.coming = Some(Coming { entry, done, suspect });
        Ok(done)
    }

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), FetchFailure> {
        let coming = self.coming.ok_or(FetchFailure::Absent)?;
        if self.read_entry(&coming.entry, offset, into) { Ok(()) } else { Err(FetchFailure::HashMismatch) }
    }

    fn append(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SinkError> {
        let is_next = self.coming.is_some_and(|coming| {
            let end = u32::try_from(bytes.len()).ok().and_then(|length| coming.done.checked_add(length));
            coming.done == offset && end.is_some_and(|end| end <= coming.entry.bytes)
        });
        if !is_next {
            return Err(SinkError::Failed(FetchFailure::Absent));
        }
        self.append_all(bytes)
    }

    fn discard(&mut self) {
        if let Some(coming) = self.coming {
            self.remove(&coming.entry);
        }
        self.coming = None;
    }

    fn finish(&mut self) -> Result<(), FetchFailure> {
        let coming = self.coming.ok_or(FetchFailure::Absent)?;
        if coming.done == coming.entry.bytes && self.is_whole(&coming.entry) {
            self.coming = None;
            Ok(())
        } else {
            Err(FetchFailure::HashMismatch)
        }
    }
}

/// What stands before an artifact in its partition; the content begins `DATA_OFFSET` behind its first byte.
pub fn header(digest: &Digest, bytes: u32) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&bytes.to_le_bytes());
    head[8..40].copy_from_slice(&digest.0);
    let check = header_check(&head[..HEADER_BYTES - 4]);
    head[HEADER_BYTES - 4..].copy_from_slice(&check);
    head
}

fn header_check(head: &[u8]) -> [u8; 4] {
    let sealed = seal(HEADER_KEY, 1, head);
    let mut check = [0; 4];
    check.copy_from_slice(&sealed[SEAL_BYTES - 4..]);
    check
}

const _: () = assert!(HEADER_BYTES <= BUFFER_BYTES && HEADER_BYTES.is_multiple_of(super::limits::WRITE_SIZE_MAX));
