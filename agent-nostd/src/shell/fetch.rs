//! Artifacts that the machine asked for and the flash does not have: one at a time, the others wait in line.
//!
//! Must never ask while the hub is not heard, nor answer for one artifact twice.
use super::limits::{FETCHES_MAX, NEED_BYTES};
use crate::machine::Agent as Machine;
use crate::machine::port::{Content, FetchFailure, LinkState};
use crate::machine::time::Instant;
use crate::transfer::{Sink, Step, Transfer};
use wire::Digest;
use wire::transfer::Chunk;

/// What has to be done, or is known.
#[derive(Debug)]
pub enum Fetched {
    /// To be published on `up/need`.
    Ask(heapless::Vec<u8, NEED_BYTES>),
    Done(Digest),
    Failed(Digest, FetchFailure),
}

#[derive(Debug, Default)]
pub struct Fetches {
    transfer: Option<Transfer>,
    line: heapless::Deque<(Digest, u32), FETCHES_MAX>,
}

impl Fetches {
    /// False: too many wait already. What waits or is under way is not asked for twice.
    pub fn want(&mut self, digest: Digest, bytes: u32) -> bool {
        let is_coming = self.transfer.as_ref().is_some_and(|transfer| *transfer.digest() == digest);
        is_coming || self.line.iter().any(|(of, _)| *of == digest) || self.line.push_back((digest, bytes)).is_ok()
    }

    /// Nothing is under way or waits.
    pub fn is_idle(&self) -> bool {
        self.transfer.is_none() && self.line.is_empty()
    }

    /// When `step` has something to do.
    pub fn due<const SLOTS: usize>(&self, machine: &Machine<'_, SLOTS>) -> Option<Instant> {
        if machine.link() != LinkState::Fresh {
            return None;
        }
        match &self.transfer {
            Some(transfer) => transfer.poll_timeout(),
            None => self.line.front().map(|_| Instant::ZERO),
        }
    }

    pub fn chunk(&mut self, now: Instant, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        if let Some(transfer) = &mut self.transfer {
            transfer.chunk(now, chunk, sink);
        }
    }

    /// The connection is new.
    pub fn link_up(&mut self, now: Instant) {
        if let Some(transfer) = &mut self.transfer {
            transfer.link_up(now);
        }
    }

    /// The next thing to do; to be called until `None`.
    pub fn step<const SLOTS: usize>(
        &mut self,
        now: Instant,
        random: u32,
        machine: &Machine<'_, SLOTS>,
        sink: &mut dyn Sink,
    ) -> Option<Fetched> {
        if machine.link() != LinkState::Fresh {
            return None;
        }
        if self.transfer.is_none() {
            // What is of no use any more is not begun.
            let (digest, bytes) =
                core::iter::from_fn(|| self.line.pop_front()).find(|(of, _)| machine.references(of))?;
            match Transfer::begin(now, Content::Artifact, digest, bytes, sink) {
                Ok(transfer) => self.transfer = Some(transfer),
                Err(failure) => return Some(Fetched::Failed(digest, failure)),
            }
        }
        let transfer = self.transfer.as_mut()?;
        let digest = *transfer.digest();
        if !machine.references(&digest) {
            self.transfer = None;
            return Some(Fetched::Failed(digest, FetchFailure::Unreachable));
        }
        match transfer.poll(now, random, sink)? {
            Step::Ask(want) => {
                let mut buffer = [0; NEED_BYTES];
                let frame = machine.need(want, &mut buffer)?;
                heapless::Vec::from_slice(frame).ok().map(Fetched::Ask)
            }
            Step::Done => {
                self.transfer = None;
                Some(Fetched::Done(digest))
            }
            Step::Failed(failure) => {
                self.transfer = None;
                Some(Fetched::Failed(digest, failure))
            }
        }
    }
}
