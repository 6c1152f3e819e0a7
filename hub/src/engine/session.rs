//! Talking with devices: Hello is answered with Fresh or a refusal, everything live is authenticated before it counts.
//!
//! A message of a wrong key, boot or session changes nothing but a counter. What is retained under `up/` is cleared.

use super::Engine;
use super::device::{Ahead, Known, Talk};
use super::event::Draft;
use super::port::{Instant, Now};
use crate::commit::{AuditEntry, Write};
use crate::model::ObjectKey;
use std::collections::BTreeSet;
use std::time::Duration;
use wire::frame::{encode_live, live_body_unchecked, open_live};
use wire::hello::{Asks, Fresh, Hello, HelloFixed, Refusal, RefusalReason, Report};
use wire::topic::{Down, Topic, Up};
use wire::version::VersionRange;
use wire::{BootId, DeviceId, DigestPrefix, Kind, LiveContext, Revision, Session};

/// Longest answer that is encoded here: Fresh, Refusal, Report.
const ANSWER_BYTES_MAX: usize = 256;
/// Pause between two requests to one device.
pub const REPORT_PAUSE: Duration = Duration::from_secs(30);
/// Pause between two events about messages that are not authentic, per device.
const BAD_TAG_PAUSE: Duration = Duration::from_secs(60);
/// Five refusals within ten minutes silence a device for an hour, so that a device that waits for its approval is told
/// to come back less often than that.
pub(super) const NOT_APPROVED_RETRY_S: u32 = 150;
const VERSION_RETRY_S: u32 = 600;
/// A device that does not prove what it claims may try again after this.
const UNPROVEN_RETRY_S: u32 = 600;
/// A Fresh counts for so long after its nonce was sent.
const FRESH_WITHIN: Duration = Duration::from_secs(30);

/// What a device asked when it was refused for want of approval, to be answered once it is approved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    fixed: HelloFixed,
    at: Instant,
    is_to_prove: bool,
}

impl Engine {
    pub(super) fn up(&mut self, now: Now, id: DeviceId, topic: Up, payload: &[u8], retained: bool) {
        if retained {
            // Somebody stored it long ago, or tries to: it is no news, and it is taken away. Empty: already cleared.
            if !payload.is_empty()
                && let Ok(topic) = Topic::Up(id, topic).print(&self.state.fleet_name)
            {
                self.messages_refused += 1;
                self.publish(topic.as_str().to_owned(), Vec::new(), true);
            }
            return;
        }
        if self.rivals.is_stopped() {
            // Of what devices say to two hubs, each would judge half.
            return;
        }
        let Some(index) = self.state.devices.index_of(id) else {
            self.messages_refused += 1;
            return;
        };
        if payload.is_empty() {
            return;
        }
        if self.is_quarantined(index) {
            self.messages_refused += 1;
            return;
        }
        let before = self.messages_refused;
        self.heard(now, index, topic, payload);
        // An event too many is no garbage: a workload may emit faster than is routed.
        if self.messages_refused > before && topic != Up::Event {
            self.suspect(now, index);
        }
    }

    fn heard(&mut self, now: Now, index: u32, topic: Up, payload: &[u8]) {
        let ahead = self.state.devices.get(index).and_then(|device| device.observed.ahead);
        if ahead == Some(Ahead::Unproven) && topic != Up::Hello {
            return;
        }
        match topic {
            Up::Hello => self.on_hello(now, index, payload),
            Up::Will => self.on_will(now, index, payload),
            Up::Status if matches!(wire::frame::peek(payload), Ok(Kind::Firmware)) => {
                self.with_session(now, index, Kind::Firmware, payload, Self::on_firmware);
            }
            Up::Status => self.with_session(now, index, Kind::Status, payload, Self::on_status),
            Up::Heartbeat => self.with_session(now, index, Kind::Heartbeat, payload, Self::on_heartbeat),
            Up::Log => self.with_session(now, index, Kind::Log, payload, Self::on_log_frame),
            Up::Event => self.with_session(now, index, Kind::Event, payload, Self::on_emitted),
            Up::Need => self.with_session(now, index, Kind::Need, payload, Self::on_need),
            Up::Released => self.with_session(now, index, Kind::Released, payload, Self::on_released),
            Up::Sample => self.with_session(now, index, Kind::Sample, payload, Self::on_samples),
        }
    }

    /// Opens a live message in the offered or the current session, whichever it belongs to.
    fn with_session(
        &mut self,
        now: Now,
        index: u32,
        kind: Kind,
        payload: &[u8],
        then: fn(&mut Self, Now, u32, Talk, &[u8]),
    ) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let Some(pair) = device.pair.clone() else { return };
        let id = device.id();
        let talks = [device.observed.offered, device.observed.current];
        for (at, talk) in talks.into_iter().enumerate() {
            let Some(talk) = talk else { continue };
            let fleet = &self.state.fleet_name;
            let context = LiveContext { fleet, device: id, boot: talk.boot, session: talk.session };
            let Ok(body) = open_live(payload, kind, &pair, &context) else { continue };
            let Some(device) = self.state.devices.get_mut(index) else { return };
            if at == 0 && device.observed.offered.is_some() {
                device.observed.current = device.observed.offered.take();
                device.observed.sequence = None;
            }
            self.seen(now, index);
            return then(self, now, index, talk, body);
        }
        // Without any session since this hub started, a tag cannot be judged; the device comes with a Hello soon.
        let has_session = talks.iter().any(Option::is_some);
        self.not_authentic(now, index, if has_session { Blame::Tag } else { Blame::NoSession });
        if kind == Kind::Event {
            self.suspect(now, index);
        }
    }

    fn not_authentic(&mut self, now: Now, index: u32, blame: Blame) {
        self.messages_refused += 1;
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if blame == Blame::NoSession {
            return;
        }
        device.observed.bad_tags = device.observed.bad_tags.saturating_add(1);
        let is_told = device.observed.bad_tags_told.is_some_and(|at| now.monotonic.since(at) < BAD_TAG_PAUSE);
        if !is_told {
            device.observed.bad_tags_told = Some(now.monotonic);
            let (name, count) = (device.keys.name.clone(), device.observed.bad_tags);
            self.touch_device(now, index);
            let text = format!("{count} messages were not authentic or of an old session since the hub started");
            self.tell(now, Draft::warning("BadTag", &ObjectKey::device(&name), text).on(&name));
        }
    }

    fn on_hello(&mut self, now: Now, index: u32, payload: &[u8]) {
        let Some(device) = self.state.devices.get(index) else { return };
        let Some(pair) = device.pair.clone() else { return };
        let id = device.id();
        // The boot is inside: it is read to know with which context the tag is checked, and believed only after.
        let unchecked = live_body_unchecked(payload, Kind::Hello).and_then(Hello::decode);
        let authentic = unchecked.and_then(|hello| {
            let context = LiveContext::outside(&self.state.fleet_name, id, hello.fixed.boot);
            open_live(payload, Kind::Hello, &pair, &context).and_then(Hello::decode)
        });
        let Ok(hello) = authentic else { return self.not_authentic(now, index, Blame::Tag) };
        let fixed = hello.fixed;
        self.seen(now, index);
        self.watch_for_clones(now, index, fixed.boot);
        if VersionRange::SPOKEN.negotiate(fixed.versions).is_none() {
            return self.refuse(index, &fixed, RefusalReason::UnsupportedVersion, VERSION_RETRY_S);
        }
        if let Some(wait_s) = self.send_away(now) {
            return self.refuse(index, &fixed, RefusalReason::Busy, wait_s);
        }
        if let Some(capabilities) = &hello.capabilities {
            self.learn_capabilities(index, capabilities);
        }
        if let Some(health) = &hello.health {
            self.hear_health(now, index, fixed.boot, fixed.reset, health);
        }
        let Some(device) = self.state.devices.get_mut(index) else { return };
        device.observed.packet_bytes_max = Some(fixed.packet_bytes_max);
        device.observed.lost = fixed.lost;
        let is_first = device.observed.accepted.replace((fixed.revision, fixed.digest)).is_none();
        self.hear_losses(index, fixed.boot, &fixed.lost);
        let Some(device) = self.state.devices.get(index) else { return };
        let key = ObjectKey::device(&device.keys.name);
        self.touch_device(now, index);
        let is_approved =
            self.state.objects.get(&key).and_then(|stored| stored.device()).is_some_and(|body| body.spec.approved);
        if is_first && self.state.recovery.is_some() {
            self.held_changed(now, index);
        }
        let (may_go_on, is_to_prove) = self.claimed(now, index, (fixed.revision, fixed.digest), hello.proof.as_ref());
        if !may_go_on {
            return self.refuse(index, &fixed, RefusalReason::Quarantined, UNPROVEN_RETRY_S);
        }
        if is_approved {
            self.welcome(now, index, &fixed, is_to_prove);
        } else {
            self.waiting.insert(index, Waiting { fixed, at: now.monotonic, is_to_prove });
            self.refuse(index, &fixed, RefusalReason::NotApproved, NOT_APPROVED_RETRY_S);
        }
    }

    /// A boot that comes back after another one is a second machine with the same keys: one machine begins a new boot with each
    /// start.
    fn watch_for_clones(&mut self, now: Now, index: u32, boot: BootId) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let [newest, before] = device.observed.boots;
        if newest == Some(boot) {
            return;
        }
        device.observed.boots = [Some(boot), newest];
        if before != Some(boot) || device.observed.is_cloned {
            return;
        }
        device.observed.is_cloned = true;
        let name = device.keys.name.clone();
        self.touch_device(now, index);
        let text = "two machines use its keys in turn. End one of them; if it is not yours: delete the device and join it anew";
        self.tell(now, Draft::warning("Cloned", &ObjectKey::device(&name), text).on(&name));
    }

    /// Answers with Fresh and brings the device's set up to date.
    fn welcome(&mut self, now: Now, index: u32, fixed: &HelloFixed, is_to_prove: bool) {
        if self.clock.is_in_doubt() {
            // Fresh carries the time. The device repeats its Hello until there is an answer.
            return;
        }
        self.waiting.remove(&index);
        if is_to_prove {
            self.proof_asked(index);
        }
        let heartbeat_s = self.heartbeat_s();
        let wants_health = self.wants_health(now, index, fixed.boot);
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let observed = &mut device.observed;
        let talks = [observed.offered, observed.current];
        let known = talks.into_iter().flatten().find(|talk| talk.boot == fixed.boot);
        let session = match known {
            // The same boot asks again: its session goes on.
            Some(talk) => talk.session,
            None => {
                observed.sessions_issued = observed.sessions_issued.wrapping_add(1).max(1);
                Session::of(self.incarnation, observed.sessions_issued)
            }
        };
        if known.is_none() {
            observed.offered = Some(Talk { boot: fixed.boot, session });
        }
        observed.hello_nonce = Some(fixed.nonce);
        let (revision, digest) = match &device.durable {
            Some(durable) => (durable.revision(), durable.digest()),
            None => (Revision::default(), DigestPrefix::default()),
        };
        let mut asks = Asks::default();
        if device.known.as_ref().is_none_or(|known| known.prefix != fixed.capabilities) {
            asks = asks.union(Asks::CAPABILITIES);
        }
        if is_to_prove {
            asks = asks.union(Asks::PROOF);
        }
        if wants_health {
            asks = asks.union(Asks::HEALTH);
        }
        let is_told = known.is_some() && device.observed.reported.is_some();
        if !is_told && !self.recognise(now, index, fixed) {
            asks = asks.union(Asks::STATUS);
        }
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let fresh = Fresh { nonce: fixed.nonce, revision, digest, time_ms: now.wall_ms, session, heartbeat_s, asks };
        device.observed.fresh_at = Some(now.monotonic);
        self.send_outside(index, fixed.boot, &fresh);
        self.forget_former(now, index, fixed.revision);
        self.refit(now, index);
        if (fixed.revision, fixed.digest) != (revision, digest) {
            self.dispatch_again(index);
        }
    }

    /// A device that holds something of a former life gets an empty set, or it would go on with it.
    fn forget_former(&mut self, now: Now, index: u32, revision: Revision) {
        let Some(device) = self.state.devices.get(index) else { return };
        let has_set = device.desired.is_some() || device.durable.is_some();
        if has_set || revision == Revision::default() || device.observed.ahead.is_some() || self.pipeline.is_full() {
            return;
        }
        let entry = AuditEntry {
            time_ms: now.wall_ms,
            actor: "system:session".to_owned(),
            action: "reset",
            object: ObjectKey::device(&device.keys.name).to_string(),
            before: None,
            after: None,
        };
        if let Some(write) = self.desired_write(index, &BTreeSet::new()) {
            self.commit(vec![write], vec![entry], Vec::new());
        }
    }

    fn refuse(&mut self, index: u32, fixed: &HelloFixed, reason: RefusalReason, retry_after_s: u32) {
        self.send_outside(index, fixed.boot, &Refusal { nonce: fixed.nonce, reason, retry_after_s });
    }

    /// An operator changed a device: one that waits for its approval is let in at once if its question still counts.
    pub(super) fn device_changed(&mut self, now: Now, name: &str) {
        let Some(index) = self.state.devices.index_named(name) else { return };
        let stored = self.state.objects.get(&ObjectKey::device(name));
        if !stored.and_then(|stored| stored.device()).is_some_and(|body| body.spec.approved) {
            return;
        }
        if let Some(waiting) = self.waiting.remove(&index)
            && now.monotonic.since(waiting.at) < FRESH_WITHIN
        {
            self.welcome(now, index, &waiting.fixed, waiting.is_to_prove);
        }
    }

    fn learn_capabilities(&mut self, index: u32, capabilities: &wire::hello::Capabilities<'_>) {
        let Some(known) = Known::of(capabilities) else { return };
        let Some(device) = self.state.devices.get(index) else { return };
        if device.known.as_ref() == Some(&known) || self.pipeline.is_full() {
            return;
        }
        let write = Write::CapabilitiesPut { device: device.id(), bytes: known.bytes };
        // What a device says of itself is no act of anybody: it is stored without an audit entry.
        self.commit(vec![write], Vec::new(), Vec::new());
        self.placement.mark_all(self.state.workloads.keys());
    }

    /// Asks a device that has a session; at most once per pause and question.
    pub(super) fn ask(&mut self, now: Now, index: u32, asks: Asks) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let observed = &mut device.observed;
        let Some(talk) = observed.current.or(observed.offered) else { return };
        let last = if asks.contains(Asks::STATUS) { &mut observed.status_asked } else { &mut observed.fresh_asked };
        if last.is_some_and(|at| now.monotonic.since(at) < REPORT_PAUSE) {
            return;
        }
        *last = Some(now.monotonic);
        self.send(index, Down::Command, talk, &Report { asks });
    }

    fn send_outside<T: wire::frame::Body>(&mut self, index: u32, boot: BootId, body: &T) {
        self.send(index, Down::Fresh, Talk { boot, session: Session(0) }, body);
    }

    fn send<T: wire::frame::Body>(&mut self, index: u32, down: Down, talk: Talk, body: &T) {
        if let Some((topic, payload)) = self.live(index, down, talk, body) {
            self.publish(topic, payload, false);
        }
    }

    /// A short live message to a device: topic and payload.
    pub(super) fn live<T: wire::frame::Body>(
        &self,
        index: u32,
        down: Down,
        talk: Talk,
        body: &T,
    ) -> Option<(String, Vec<u8>)> {
        let device = self.state.devices.get(index)?;
        let pair = device.pair.as_ref()?;
        let fleet = &self.state.fleet_name;
        let context = LiveContext { fleet, device: device.id(), boot: talk.boot, session: talk.session };
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let frame = wire::frame::encode_live(&mut buffer, pair, &context, body).ok()?.to_vec();
        let topic = Topic::Down(device.id(), down).print(fleet).ok()?;
        Some((topic.as_str().to_owned(), frame))
    }

    pub(super) fn heartbeat_s(&self) -> u16 {
        let scaled = self.state.devices.len() as u64 / 5_000;
        let seconds = self.config.heartbeat.as_secs().max(scaled).max(1);
        u16::try_from(seconds).unwrap_or(u16::MAX)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    Tag,
    NoSession,
}

/// The size of an MQTT packet around a payload: fixed header, topic length, packet id, properties.
pub(super) fn packet_bytes(topic: &str, payload_bytes: usize) -> usize {
    const AROUND: usize = 5 + 2 + 2 + 16;
    AROUND + topic.len() + payload_bytes
}

/// Writes a live message of any size.
pub(super) fn live_frame<T: wire::frame::Body>(
    pair: &wire::PairKey,
    context: &LiveContext<'_>,
    body: &T,
    room: usize,
) -> Option<Vec<u8>> {
    let mut buffer = vec![0; room];
    let length = encode_live(&mut buffer, pair, context, body).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}
