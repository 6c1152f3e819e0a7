//! Messages that somebody between hub and device could send: old ones again, and ones that the hub never made.
use super::fault::Fault;
use super::record::Set;
use super::signature::HashSigner;
use super::world::{FLEET, World};
use agent_nostd::machine::port::JournalKey;
use wire::desired::Header;
use wire::sign::{PublicKey, Sign};
use wire::topic::{Down, Topic};

/// Live messages that are kept for replays, of each device.
const LIVE_MAX: usize = 8;

/// Messages that a device got, to be sent again.
#[derive(Debug, Default)]
pub struct Tape {
    kept: Vec<(Down, Vec<u8>)>,
    next: usize,
}

impl Tape {
    /// The oldest makes room; its memory is used again.
    pub fn record(&mut self, down: Down, payload: &[u8]) {
        if self.kept.len() < LIVE_MAX {
            return self.kept.push((down, payload.to_vec()));
        }
        let (kind, bytes) = &mut self.kept[self.next];
        *kind = down;
        bytes.clear();
        bytes.extend_from_slice(payload);
        self.next = (self.next + 1) % LIVE_MAX;
    }
}

impl World<'_> {
    /// An older set that this device held once.
    pub fn replay(&mut self, device: usize) {
        let at = self.fate.index(self.devices[device].seen.frames.len());
        let Some(payload) = self.devices[device].seen.frames.get(at).cloned() else { return };
        if self.whisper(device, Down::Desired, payload) {
            self.at_once(Fault::Replay, device);
        }
    }

    /// Something that is good once only. It must not make the device believe that the hub spoke to it now.
    pub fn replay_live(&mut self, device: usize) {
        let at = self.fate.index(self.devices[device].tape.kept.len());
        let Some((down, payload)) = self.devices[device].tape.kept.get(at).cloned() else { return };
        let link = |world: &Self| world.devices[device].agent.as_ref().map(|agent| agent.link());
        let before = link(self);
        if !self.whisper(device, down, payload) {
            return;
        }
        self.at_once(Fault::ReplayLive, device);
        let after = link(self);
        if after != before {
            self.fail(|| format!("[I9] an old {} took dev-{device} from {before:?} to {after:?}", down.name()));
        }
    }

    /// Another body: signed by the hub's key under the revision that the device holds, or by a stranger under a higher one.
    pub fn forge(&mut self, device: usize, fault: Fault) {
        let Some((_, held)) = self.devices[device].flash.value(JournalKey::Accepted).and_then(Set::of_journal) else {
            return;
        };
        if self.devices[device].seen.told() != Some(held.revision) {
            return;
        }
        let stranger = HashSigner(PublicKey(self.fate.bytes()));
        let (signer, revision): (&dyn Sign, _) = match fault {
            Fault::Equivocation => (&*self.ground.signer, held.revision),
            _ => match held.revision.0.next() {
                Some(next) => (&stranger, wire::Revision(next)),
                None => return,
            },
        };
        // An empty set that is not the one held: nothing would run.
        let body: &[u8] = if held.records.is_empty() { return } else { &[0] };
        let limits = wire::desired::ClassLimits { records: 1, memory_bytes: 1 };
        let signed = Header::of(revision, body, limits).and_then(|h| h.sign(signer, FLEET, self.ids[device]));
        let mut buffer = [0; 512];
        let Ok(signed) = signed else { return };
        let Ok(frame) = signed.encode(&mut buffer, body).map(|frame| frame.to_vec()) else { return };
        if self.whisper(device, Down::Desired, frame) {
            self.at_once(fault, device);
        }
    }

    /// A message straight to a device that listens, past every order and queue.
    fn whisper(&mut self, device: usize, down: Down, payload: Vec<u8>) -> bool {
        let topic = Topic::Down(self.ids[device], down);
        let Some(number) = self.devices[device].connection else { return false };
        if self.devices[device].trouble.paused > 0
            || !self.connections.get(&number).is_some_and(|c| c.at_broker && c.wants(&topic, &self.ids))
        {
            return false;
        }
        self.device_takes(device, topic, &payload);
        true
    }
}
