//! Artifacts and set bodies for devices that take them over MQTT, in chunks.
//!
//! A device gets what its own set names and nothing else, a few chunks for each question, never repeated by the hub: the device asks
//! again. Questions wait in one queue, reads are done by the shell off this thread, and chunks leave when nothing else does,
//! one device after the other and no faster than the limit, so that Fresh and Grant never wait for them.

use super::Engine;
use super::device::{Bucket, Talk};
use super::event::Draft;
use super::port::{ContentRead, Effect, Instant, Now, Publication};
use super::session::{live_frame, packet_bytes};
use crate::model::ObjectKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use wire::frame::LIVE_OVERHEAD_BYTES;
use wire::limits::CHUNK_BYTES_MAX;
use wire::record::Body;
use wire::topic::{Down, Topic};
use wire::transfer::{Chunk, Want};
use wire::{DeviceId, Digest, LiveContext};

/// Questions of one device about content.
pub const CONTENT_NEEDS_PER_SECOND: u64 = 100;
pub const CONTENT_NEEDS_BURST: u64 = 100;
/// Devices whose question waits.
pub const CONTENT_WAITING_MAX: usize = 1_024;
/// Answers that are read or sent at one time.
pub const CONTENT_ANSWERS_MAX: usize = 32;
/// Chunks to all devices together.
pub const CHUNKS_PER_SECOND: u64 = 8_000;
pub const CHUNKS_BURST: u64 = 128;
/// A chunk is not made smaller than this: a device whose largest packet has no room for it is not answered.
pub const CHUNK_BYTES_MIN: usize = 64;
/// A chunk's prefix of the digest, offset and length, each at its longest.
const CHUNK_HEAD_BYTES: usize = 8 + 5 + 3;
/// Pause between two events about content that cannot be read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// A question that is waiting or being read.
#[derive(Clone, Copy, Debug)]
struct Asked {
    device: DeviceId,
    talk: Talk,
    digest: Digest,
    offset: u32,
    count: u8,
    chunk_bytes: usize,
}

impl Asked {
    fn length(&self) -> usize {
        usize::from(self.count) * self.chunk_bytes
    }
}

/// An answer that is being sent.
#[derive(Debug)]
struct Portion {
    asked: Asked,
    bytes: Arc<[u8]>,
    sent: usize,
}

/// What is under way, and what it came to.
#[derive(Debug, Default)]
pub(super) struct Supply {
    waiting: VecDeque<Asked>,
    reads: BTreeMap<u64, Asked>,
    next_read: u64,
    portions: VecDeque<Portion>,
    budget: Bucket,
    unreadable_told: Option<Instant>,
    pub chunks: u64,
    pub bytes: u64,
    /// Questions that got no answer: of what the device's set does not name, too many, too often.
    pub unanswered: u64,
}

impl Supply {
    fn is_busy_with(&self, device: DeviceId) -> bool {
        let asked = self.waiting.iter().chain(self.reads.values());
        asked.chain(self.portions.iter().map(|portion| &portion.asked)).any(|asked| asked.device == device)
    }

    fn has_room(&self) -> bool {
        self.reads.len() + self.portions.len() < CONTENT_ANSWERS_MAX
    }

    /// Nothing that was asked on a former connection is answered on the next one.
    pub fn link_lost(&mut self) {
        self.waiting.clear();
        self.reads.clear();
        self.portions.clear();
    }

    #[cfg(test)]
    pub fn waiting_fill(&mut self, devices: impl Iterator<Item = DeviceId>) {
        let talk = Talk { boot: wire::BootId([0; 8]), session: wire::Session(0) };
        let asked = |device| Asked { device, talk, digest: Digest::default(), offset: 0, count: 1, chunk_bytes: 64 };
        self.waiting.extend(devices.map(asked));
    }

    pub fn timeout(&self) -> Option<Instant> {
        (!self.portions.is_empty()).then(|| self.budget.free_at(CHUNKS_PER_SECOND))
    }
}

impl Engine {
    pub(super) fn on_content_need(&mut self, now: Now, index: u32, talk: Talk, want: Want) {
        if !self.content_asked(now, index, talk, want) {
            self.supply.unanswered += 1;
        }
    }

    /// False if there will be no answer. That is no offence: the device's set may have changed while it asked.
    fn content_asked(&mut self, now: Now, index: u32, talk: Talk, want: Want) -> bool {
        let Some(device) = self.state.devices.get_mut(index) else { return false };
        let id = device.id();
        if !device.observed.content_needs.take(now.monotonic, CONTENT_NEEDS_PER_SECOND, CONTENT_NEEDS_BURST) {
            return false;
        }
        let (digest, offset, count) = match want {
            Want::Artifact { digest, offset, count } | Want::Body { digest, offset, count } => (digest, offset, count),
            Want::Lease { .. } | Want::Trust { .. } => return false,
        };
        let Some(chunk_bytes) = self.chunk_bytes(index) else { return false };
        if count == 0 || self.supply.is_busy_with(id) {
            return false;
        }
        let asked = Asked { device: id, talk, digest, offset, count, chunk_bytes };
        match want {
            Want::Body { .. } => match self.body_named(index, &digest) {
                Some(body) => self.portion(asked, &body),
                None => false,
            },
            Want::Artifact { .. } => {
                let bytes = self.artifact_named(index, &digest).or_else(|| self.firmware_named(index, &digest));
                let is_there = bytes.is_some_and(|bytes| offset < bytes);
                if !is_there || self.supply.waiting.len() >= CONTENT_WAITING_MAX {
                    return false;
                }
                self.supply.waiting.push_back(asked);
                true
            }
            Want::Lease { .. } | Want::Trust { .. } => false,
        }
    }

    /// The part of a body that was asked for.
    fn portion(&mut self, asked: Asked, body: &[u8]) -> bool {
        let rest = usize::try_from(asked.offset).ok().and_then(|offset| body.get(offset..)).unwrap_or_default();
        let part = rest.get(..asked.length()).unwrap_or(rest);
        if part.is_empty() || !self.supply.has_room() {
            return false;
        }
        self.supply.portions.push_back(Portion { asked, bytes: part.into(), sent: 0 });
        true
    }

    /// Bytes of content that fit into one packet of the device.
    fn chunk_bytes(&self, index: u32) -> Option<usize> {
        let device = self.state.devices.get(index)?;
        let topic = Topic::Down(device.id(), Down::Chunk).print(&self.state.fleet_name).ok()?;
        let limit =
            device.observed.packet_bytes_max.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let around = packet_bytes(&topic, LIVE_OVERHEAD_BYTES + CHUNK_HEAD_BYTES);
        let room = limit.checked_sub(around)?.min(CHUNK_BYTES_MAX);
        (room >= CHUNK_BYTES_MIN).then_some(room)
    }

    fn body_named(&self, index: u32, digest: &Digest) -> Option<Arc<[u8]>> {
        let durable = self.state.devices.get(index)?.durable.as_ref()?;
        (durable.signed.header.body == *digest).then(|| durable.body.clone())
    }

    /// Length of an artifact that the device's set names, as it was made durable or as it is about to be.
    fn artifact_named(&self, index: u32, digest: &Digest) -> Option<u32> {
        let device = self.state.devices.get(index)?;
        let bodies =
            [device.durable.as_ref().map(|durable| &durable.body), device.desired.as_ref().map(|set| &set.body)];
        bodies.into_iter().flatten().find_map(|body| {
            let records = Body::decode(body).ok()?;
            let mut cores = records.iter().map(|record| record.core);
            cores.find(|core| core.artifact == *digest).map(|core| core.artifact_bytes)
        })
    }

    pub(super) fn content_read(&mut self, now: Now, read: u64, content: Option<Vec<u8>>) {
        let Some(asked) = self.supply.reads.remove(&read) else { return };
        match content {
            Some(bytes) if !bytes.is_empty() => {
                self.supply.portions.push_back(Portion { asked, bytes: bytes.into(), sent: 0 });
            }
            Some(_) | None => self.unreadable(now, &asked),
        }
    }

    fn unreadable(&mut self, now: Now, asked: &Asked) {
        self.supply.unanswered += 1;
        if self.supply.unreadable_told.is_some_and(|at| now.monotonic.since(at) < UNREADABLE_PAUSE) {
            return;
        }
        let Some(index) = self.state.devices.index_of(asked.device) else { return };
        let Some(device) = self.state.devices.get(index) else { return };
        self.supply.unreadable_told = Some(now.monotonic);
        let name = device.keys.name.clone();
        let text = format!(
            "asks for the artifact sha256:{}, which this hub's disk does not give: the file is missing or damaged. Upload it again, \
             with `fulmar apply` of its workload or `fulmar artifact push`",
            asked.digest
        );
        self.tell(now, Draft::warning("ArtifactUnreadable", &ObjectKey::device(&name), text).on(&name));
    }

    /// The next read or chunk, for when there is nothing else to do.
    pub(super) fn supply_next(&mut self, now: Now) -> Option<Effect> {
        if !self.link.is_up || self.rivals.is_stopped() {
            return None;
        }
        if self.supply.has_room()
            && let Some(asked) = self.supply.waiting.pop_front()
        {
            self.supply.next_read += 1;
            let read = self.supply.next_read;
            self.supply.reads.insert(read, asked);
            let (digest, offset, length) = (asked.digest, u64::from(asked.offset), asked.length() as u64);
            return Some(Effect::Read(ContentRead { read, digest, offset, length }));
        }
        while !self.supply.portions.is_empty() {
            if !self.supply.budget.take(now.monotonic, CHUNKS_PER_SECOND, CHUNKS_BURST) {
                return None;
            }
            let mut portion = self.supply.portions.pop_front()?;
            let publication = self.chunk(&mut portion);
            if publication.is_some() && portion.sent < portion.bytes.len() {
                // Behind those of others.
                self.supply.portions.push_back(portion);
            }
            if let Some(publication) = publication {
                return Some(Effect::Publish(publication));
            }
        }
        None
    }

    /// `None`: the device is gone, or its session is.
    fn chunk(&mut self, portion: &mut Portion) -> Option<Publication> {
        let Asked { device, talk, digest, offset, chunk_bytes, .. } = portion.asked;
        let known = self.state.devices.get(self.state.devices.index_of(device)?)?;
        if ![known.observed.current, known.observed.offered].contains(&Some(talk)) {
            return None;
        }
        let rest = portion.bytes.get(portion.sent..)?;
        let bytes = rest.get(..chunk_bytes).unwrap_or(rest);
        let at = offset.checked_add(u32::try_from(portion.sent).ok()?)?;
        let fleet = &self.state.fleet_name;
        let context = LiveContext { fleet, device, boot: talk.boot, session: talk.session };
        let chunk = Chunk { content: digest.prefix(), offset: at, bytes };
        let room = LIVE_OVERHEAD_BYTES + CHUNK_HEAD_BYTES + bytes.len();
        let payload = live_frame(known.pair.as_ref()?, &context, &chunk, room)?;
        let topic = Topic::Down(device, Down::Chunk).print(fleet).ok()?.as_str().to_owned();
        portion.sent += bytes.len();
        self.supply.chunks += 1;
        self.supply.bytes += bytes.len() as u64;
        self.link.publication += 1;
        let publication = self.link.publication;
        Some(Publication { publication, topic, payload, retain: false, qos1: false })
    }
}
