//! Journal and artifacts together, as the shell of a microcontroller wants them (feature `mcu`).
//!
//! What functions remember goes into keys of the journal that are given out as they come; which instance has which is written in
//! front of each value. Must never answer before flash has.
use super::artifact::{ArtifactWear, Artifacts};
use super::journal::{Journal, JournalWear, Key as Place};
use super::limits::{STATES_MAX, ZONES_MAX};
use crate::machine::port::{FetchFailure, PersistFailure};
use crate::shell::port::{Key, Store, StoreError};
use crate::transfer::{Sink, SinkError};
use embedded_storage::nor_flash::NorFlash;
use heapless::Vec;
use wire::Digest;

/// Workload, component, instance.
const OWNER_BYTES: usize = 7;
type Owner = [u8; OWNER_BYTES];

fn owner(workload: u32, component: u8, instance: u16) -> Owner {
    let mut owner = [0; OWNER_BYTES];
    owner[..4].copy_from_slice(&workload.to_le_bytes());
    owner[4] = component;
    owner[5..].copy_from_slice(&instance.to_le_bytes());
    owner
}

fn place(number: usize) -> Place {
    Place::own(number as u8)
}

/// Flash of a device: a partition for each of both.
#[derive(Debug)]
pub struct Flash<J, A> {
    journal: Journal<J>,
    artifacts: Artifacts<A>,
    /// Whose memory is under each key of its own.
    owners: Vec<Option<Owner>, STATES_MAX>,
    /// Erases that are in the journal.
    zones_kept: u64,
}

impl<J: NorFlash, A: NorFlash> Flash<J, A> {
    pub fn open(journal: J, artifacts: A) -> Self {
        let mut journal = Journal::open(journal);
        let mut artifacts = Artifacts::open(artifacts);
        let mut kept = [0; ZONES_MAX * 4];
        if let Some(kept) = journal.load(Place::WEAR, &mut kept) {
            let words = kept.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            artifacts.zones_restore(words);
        }
        let mut owners = Vec::new();
        for number in 0..STATES_MAX {
            let mut owner = [0; OWNER_BYTES];
            let is_used = journal.peek(place(number), &mut owner).is_some();
            let _ = owners.push(is_used.then_some(owner));
        }
        let zones_kept = erases(&artifacts);
        Self { journal, artifacts, owners, zones_kept }
    }

    pub fn wear(&self) -> (JournalWear, ArtifactWear) {
        (self.journal.wear(), self.artifacts.wear())
    }

    /// For `boot::Seed`.
    pub fn journal(&mut self) -> &mut Journal<J> {
        &mut self.journal
    }

    /// Where a transfer goes, and where an engine finds what it runs.
    pub fn artifacts(&mut self) -> &mut Artifacts<A> {
        &mut self.artifacts
    }

    /// Gives both partitions back.
    pub fn into_flash(self) -> (J, A) {
        (self.journal.into_flash(), self.artifacts.into_flash())
    }

    /// Enters what was erased into the journal, if anything was. Whoever goes through `artifacts` calls it afterwards.
    pub fn keep_wear(&mut self) {
        let now = erases(&self.artifacts);
        if now == self.zones_kept {
            return;
        }
        let mut value = [0; ZONES_MAX * 4];
        let zones = self.artifacts.zones();
        for (word, erases) in value.chunks_exact_mut(4).zip(zones) {
            word.copy_from_slice(&erases.to_le_bytes());
        }
        let length = zones.len() * 4;
        if self.journal.persist(Place::WEAR, value.get(..length).unwrap_or_default()).is_ok() {
            self.zones_kept = now;
        }
    }

    fn state_of(&self, owner: &Owner) -> Option<usize> {
        self.owners.iter().position(|known| known.as_ref() == Some(owner))
    }

    fn state_remove(&mut self, number: usize) -> Result<(), StoreError> {
        self.journal.remove(place(number)).map_err(failed)?;
        if let Some(owner) = self.owners.get_mut(number) {
            *owner = None;
        }
        Ok(())
    }

    fn state_save(&mut self, owner: &Owner, value: &[u8]) -> Result<(), StoreError> {
        let free = || self.owners.iter().position(Option::is_none);
        let number = self.state_of(owner).or_else(free).ok_or(StoreError::NoSpace)?;
        self.journal.persist_parts(place(number), [owner, value]).map_err(failed)?;
        if let Some(known) = self.owners.get_mut(number) {
            *known = Some(*owner);
        }
        Ok(())
    }
}

fn erases<F: NorFlash>(artifacts: &Artifacts<F>) -> u64 {
    artifacts.zones().iter().copied().map(u64::from).sum()
}

fn failed(failure: PersistFailure) -> StoreError {
    match failure {
        PersistFailure::NoSpace => StoreError::NoSpace,
        PersistFailure::Storage => StoreError::Storage,
    }
}

/// Of the machine and the shell; `None` for a function's memory.
fn fixed(key: Key) -> Result<Place, Owner> {
    match key {
        Key::Journal(key) => Ok(key.into()),
        Key::Identity => Ok(Place::IDENTITY),
        Key::Firmware => Ok(Place::FIRMWARE),
        Key::State { workload, component, instance } => Err(owner(workload, component, instance)),
    }
}

impl<J: NorFlash, A: NorFlash> Store for Flash<J, A> {
    fn load(&mut self, key: Key, out: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let (place, head) = match fixed(key) {
            Ok(place) => (place, 0),
            Err(owner) => match self.state_of(&owner) {
                Some(number) => (place(number), OWNER_BYTES),
                None => return Ok(None),
            },
        };
        let Some(length) = self.journal.length(place) else { return Ok(None) };
        let length = length.saturating_sub(head);
        if length > out.len() {
            return Err(StoreError::TooLong);
        }
        let mut owner = [0; OWNER_BYTES];
        let value = self.journal.load_parts(place, &mut owner[..head], out);
        value.map(|value| Some(value.len())).ok_or(StoreError::Storage)
    }

    fn save(&mut self, key: Key, value: &[u8]) -> Result<(), StoreError> {
        match fixed(key) {
            Ok(place) => self.journal.persist(place, value).map_err(failed),
            Err(owner) => self.state_save(&owner, value),
        }
    }

    fn remove(&mut self, key: Key) -> Result<(), StoreError> {
        match fixed(key) {
            Ok(place) => self.journal.remove(place).map_err(failed),
            Err(owner) => self.state_of(&owner).map_or(Ok(()), |number| self.state_remove(number)),
        }
    }

    fn retain_states(&mut self, keep: &mut dyn FnMut(u32, u8) -> bool) -> Result<(), StoreError> {
        for number in 0..self.owners.len() {
            let Some(owner) = self.owners.get(number).copied().flatten() else { continue };
            let workload = u32::from_le_bytes([owner[0], owner[1], owner[2], owner[3]]);
            if !keep(workload, owner[4]) {
                self.state_remove(number)?;
            }
        }
        Ok(())
    }

    fn holds(&mut self, digest: &Digest, bytes: u32) -> bool {
        self.artifacts.holds(digest, bytes)
    }

    fn read(&mut self, digest: &Digest, offset: u32, out: &mut [u8]) -> Result<(), StoreError> {
        if self.artifacts.read_at(digest, offset, out) { Ok(()) } else { Err(StoreError::Absent) }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        self
    }

    fn collect(&mut self, keep: &mut dyn FnMut(&Digest) -> bool) -> Result<u32, StoreError> {
        let removed = self.artifacts.collect(keep);
        self.keep_wear();
        Ok(removed)
    }

    fn artifact_bytes(&mut self) -> (u64, u64) {
        self.artifacts.room()
    }

    fn erases(&self) -> (u32, u32) {
        let (journal, artifacts) = self.wear();
        (journal.erases_per_sector, artifacts.erases_per_sector)
    }
}

/// The artifacts, with their wear entered into the journal.
impl<J: NorFlash, A: NorFlash> Sink for Flash<J, A> {
    fn begin(&mut self, digest: &Digest, bytes: u32) -> Result<u32, FetchFailure> {
        let begun = self.artifacts.begin(digest, bytes);
        self.keep_wear();
        begun
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
        let finished = self.artifacts.finish();
        self.keep_wear();
        finished
    }
}
