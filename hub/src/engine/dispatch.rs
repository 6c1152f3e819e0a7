//! The way of desired sets to the broker: retained, repeated until acknowledged, never faster than the limit.
//!
//! State-based: what is durable and not acknowledged is on its way or waits. Only durable sets leave, and none that a
//! device could not receive.

use super::Engine;
use super::device::{Device, Presence, Queued};
use super::event::Draft;
use super::lease::WITNESS_PAUSE;
use super::port::{Effect, Instant, Now, Publication};
use super::retained::{HUB_STATE_BYTES_MAX, SET_OVERHEAD_BYTES};
use super::session::packet_bytes;
use crate::model::ObjectKey;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use wire::DeviceId;
use wire::frame::{decode_plain, encode_plain};
use wire::hello::{Asks, HubState};
use wire::id::{Fence, Order};
use wire::topic::{Down, Topic};

/// Pause between two publications of hub/state.
pub const STATE_PAUSE: Duration = Duration::from_secs(5);
/// How long the hub waits for the retained hub/state after it has connected.
pub const WITNESS_WAIT: Duration = Duration::from_secs(2);
/// A refused publication is tried again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// New sets of devices that are heard of, per second: a lost site is taken over in a moment, while what is only repeated takes
/// its time.
pub const NEWS_PER_SECOND: u64 = 5_000;
/// Sets on their way to the broker at which no further new one is sent.
pub const NEWS_FLIGHTS_MAX: usize = 4_096;

/// The hub's own connection and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub is_up: bool,
    pub publication: u64,
    /// Devices whose set is to be published; each at most once in each. News: the present set was not sent before, and the
    /// device is heard of.
    queue: VecDeque<u32>,
    news: VecDeque<u32>,
    budget: Budget,
    news_budget: Budget,
    /// Until then the retained hub/state may still come; nothing retained is published before.
    witness_until: Option<Instant>,
    is_witness_seen: bool,
    /// What was last published: incarnation implied, the watermark, the highest fence, and the spread.
    state_published: Option<(u64, Fence, u32)>,
    /// What this run's own retained word at the broker says.
    state_kept: Option<(u64, Fence, u32)>,
    state_at: Option<Instant>,
    paused_until: Option<Instant>,
    /// Devices by the publication of their set.
    pub flights: HashMap<u64, u32>,
    /// Devices whose set has become too large, to be told.
    too_large: Vec<u32>,
    /// The watermark may have changed.
    pub is_state_stale: bool,
}

impl Link {
    /// Connected, and what the broker kept was looked at.
    pub fn is_settled(&self) -> bool {
        self.is_up && self.witness_until.is_none()
    }
}

/// What may be sent now; what is not used within a second is gone.
#[derive(Debug, Default)]
struct Budget {
    at: Instant,
    left: u64,
}

impl Budget {
    fn earn(&mut self, now: Instant, per_second: u64) {
        let earned = now.0.saturating_sub(self.at.0).saturating_mul(per_second) / 1000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(per_second);
            self.at = now;
        }
    }

    /// When there is something again.
    fn at(&self, per_second: u64) -> Instant {
        let pause = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
        self.at.after(pause.max(Duration::from_millis(1)))
    }
}

impl Engine {
    /// Queues an unretained or clearing publication, or one of any kind that needs no care: QoS 1, forgotten when the
    /// link is down.
    pub(super) fn publish(&mut self, topic: String, payload: Vec<u8>, retain: bool) -> Option<u64> {
        if !self.link.is_up {
            return None;
        }
        self.link.publication += 1;
        let publication = self.link.publication;
        self.effects.push_back(Effect::Publish(Publication { publication, topic, payload, retain, qos1: true }));
        Some(publication)
    }

    pub(super) fn link_up(&mut self, now: Now) {
        self.forget_flights();
        self.link.is_up = true;
        // What the broker has of this very run needs no repetition, which all devices would hear.
        self.link.state_published = self.link.state_kept;
        self.link.is_state_stale = true;
        self.link.state_at = None;
        self.link.paused_until = None;
        let wait = if self.link.is_witness_seen { now.monotonic } else { now.monotonic.after(WITNESS_WAIT) };
        self.link.witness_until = Some(wait);
        self.rivals_link(Some(now));
        self.presence_grace(now);
        self.door_look(now);
    }

    pub(super) fn link_down(&mut self) {
        self.link.is_up = false;
        self.link.is_witness_seen = false;
        self.link.state_kept = None;
        self.link.witness_until = None;
        self.leases.link_lost();
        self.supply.link_lost();
        self.rivals_link(None);
        self.forget_flights();
    }

    fn forget_flights(&mut self) {
        self.link.flights.clear();
        for index in self.indexes() {
            if let Some(device) = self.state.devices.get_mut(index) {
                device.dispatch.sent = None;
                device.dispatch.is_trust_sent = false;
            }
        }
        self.queue_unacknowledged();
    }

    /// What was published may have been overwritten by another hub.
    pub(super) fn dispatch_all_again(&mut self) {
        for index in self.indexes() {
            if let Some(device) = self.state.devices.get_mut(index) {
                device.dispatch.acknowledged = None;
                device.dispatch.sent = None;
            }
        }
        self.link.flights.clear();
        self.queue_unacknowledged();
        self.state_again();
    }

    /// Says `hub/state` at the next opportunity, whatever was said before.
    pub(super) fn state_again(&mut self) {
        self.link.state_published = None;
        self.link.state_at = None;
        self.link.is_state_stale = true;
    }

    pub(super) fn queue_unacknowledged(&mut self) {
        for index in self.indexes() {
            if self.state.devices.get(index).is_some_and(|device| !device.is_dispatched()) {
                self.dispatch_changed(index);
            }
        }
    }

    fn indexes(&self) -> Vec<u32> {
        self.state.devices.iter().map(|(index, _)| index).collect()
    }

    /// What the broker kept shows what it lost: sets that were made after its watermark are published again.
    pub(super) fn hub_state_seen(&mut self, now: Now, payload: &[u8], retained: bool) {
        let state = decode_plain::<HubState>(payload).ok();
        if let Some(state) = state.as_ref().filter(|state| state.instance != self.config.instance) {
            self.rival_heard(now, state, retained);
        }
        if !retained {
            return;
        }
        if self.link.is_witness_seen || (self.link.is_up && self.link.witness_until.is_none()) {
            // Our own words come back; they prove nothing.
            return;
        }
        self.link.is_witness_seen = true;
        if let Some(state) = &state {
            self.witness_seen(now, state.witness());
            let is_own = (state.instance, state.incarnation) == (self.config.instance, self.incarnation);
            self.link.state_kept = is_own.then_some((state.watermark, state.fence, state.spread_ms));
            if self.link.is_up {
                self.link.state_published = self.link.state_kept;
            }
        }
        let watermark = state.filter(|state| state.watermark <= self.pipeline.durable()).map(|state| state.watermark);
        for index in self.indexes() {
            let Some(device) = self.state.devices.get_mut(index) else { continue };
            let Some(durable) = &device.durable else { continue };
            let revision = durable.revision();
            let is_kept = watermark.is_some_and(|watermark| revision.0.counter() <= watermark);
            device.dispatch.acknowledged = is_kept.then_some(revision);
        }
        if self.link.is_up {
            self.link.witness_until = Some(now.monotonic);
        }
        self.queue_unacknowledged();
    }

    /// The durable set of a device changed, or its way is unclear.
    pub(super) fn dispatch_changed(&mut self, index: u32) {
        self.refit_quietly(index);
        if let Some(device) = self.state.devices.get_mut(index)
            && let Some(durable) = &device.durable
        {
            let is_new = device.dispatch.tried != Some(durable.revision());
            let is_news = is_new && device.observed.presence == Presence::Online;
            // One that waits to be repeated is overtaken by its own news; its other place then means nothing.
            match (device.dispatch.queued, is_news) {
                (Queued::News, _) | (Queued::Again, false) => {}
                (Queued::No | Queued::Again, true) => {
                    device.dispatch.queued = Queued::News;
                    self.link.news.push_back(index);
                }
                (Queued::No, false) => {
                    device.dispatch.queued = Queued::Again;
                    self.link.queue.push_back(index);
                }
            }
        }
    }

    /// Publishes a device's set once more, before others: the device waits for it.
    pub(super) fn dispatch_again(&mut self, index: u32) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if device.durable.is_none() || device.dispatch.too_large {
            return;
        }
        device.dispatch.acknowledged = None;
        if device.dispatch.queued == Queued::No {
            device.dispatch.queued = Queued::Again;
            self.link.queue.push_front(index);
        }
    }

    /// Sends what waits, as far as the budget goes.
    pub(super) fn dispatch_run(&mut self, now: Now) {
        if !self.link.is_up
            || self.rivals.is_stopped()
            || self.link.paused_until.is_some_and(|until| until > now.monotonic)
        {
            return;
        }
        self.link.paused_until = None;
        match self.link.witness_until {
            Some(until) if until > now.monotonic => return,
            Some(_) => {
                self.link.witness_until = None;
                if !self.link.is_witness_seen {
                    // Nothing retained: the broker has no memory of us, or lost it.
                    self.hub_state_missing();
                }
            }
            None => {}
        }
        let per_second = u64::from(self.config.republish_per_second.max(1));
        self.link.news_budget.earn(now.monotonic, NEWS_PER_SECOND);
        while self.link.news_budget.left > 0
            && self.link.flights.len() < NEWS_FLIGHTS_MAX
            && let Some(index) = self.link.news.pop_front()
        {
            self.link.news_budget.left -= u64::from(self.dispatch_one(now, index));
        }
        self.link.budget.earn(now.monotonic, per_second);
        while self.link.budget.left > 0
            && let Some(index) = self.link.queue.pop_front()
        {
            self.link.budget.left -= u64::from(self.dispatch_one(now, index));
        }
        self.state_run(now);
    }

    fn hub_state_missing(&mut self) {
        for index in self.indexes() {
            if let Some(device) = self.state.devices.get_mut(index) {
                device.dispatch.acknowledged = None;
            }
        }
        self.queue_unacknowledged();
    }

    /// True if something was sent.
    fn dispatch_one(&mut self, now: Now, index: u32) -> bool {
        let fleet = self.state.fleet_name.clone();
        let is_held = self.state.is_held(index);
        let Some(device) = self.state.devices.get_mut(index) else { return false };
        device.dispatch.queued = Queued::No;
        if is_held {
            return false;
        }
        let is_done = device.is_dispatched();
        let Some(durable) = &device.durable else { return false };
        let revision = durable.revision();
        if is_done || device.dispatch.sent.is_some_and(|(_, sent)| sent == revision) {
            return false;
        }
        // Nothing is published that a batch in flight replaces: its turn comes with that batch.
        if device.desired.as_ref().is_some_and(|desired| desired.revision != revision) {
            return false;
        }
        let mut buffer = vec![0; durable.body.len() + SET_OVERHEAD_BYTES];
        let encoded = if device.dispatch.is_apart {
            durable.signed.encode_apart(&mut buffer)
        } else {
            durable.signed.encode(&mut buffer, &durable.body)
        };
        let encoded = encoded.map(|frame| frame.len());
        let topic = Topic::Down(device.id(), Down::Desired).print(&fleet);
        let (Ok(length), Ok(topic)) = (encoded, topic) else {
            tracing::error!(device = %device.id(), "a desired set cannot be encoded and is not sent");
            return false;
        };
        buffer.truncate(length);
        let is_trust_sent = std::mem::replace(&mut device.dispatch.is_trust_sent, true);
        let id = device.id();
        let holds_nothing = device.observed.accepted.is_some_and(|(revision, _)| revision.0 == Order::ZERO);
        self.link.publication += 1;
        let publication = self.link.publication;
        device.dispatch.sent = Some((publication, revision));
        device.dispatch.tried = Some(revision);
        self.link.flights.insert(publication, index);
        if !is_trust_sent {
            self.publish_trust(id);
        }
        let topic = topic.as_str().to_owned();
        self.effects.push_back(Effect::Publish(Publication {
            publication,
            topic,
            payload: buffer,
            retain: true,
            qos1: true,
        }));
        if holds_nothing {
            // A device without any set believes only what a Fresh names: it is asked for a Hello, which gets one.
            self.ask(now, index, Asks::CAPABILITIES);
        }
        true
    }

    /// A device reads the chain before its set, so it is there before.
    fn publish_trust(&mut self, id: DeviceId) {
        if self.config.trust.is_empty() {
            return;
        }
        if let Ok(topic) = Topic::Down(id, Down::Trust).print(&self.state.fleet_name) {
            self.publish(topic.as_str().to_owned(), self.config.trust.clone(), true);
        }
    }

    pub(super) fn acknowledged(&mut self, now: Now, publication: u64) {
        if self.witness_acknowledged(now, publication) {
            return;
        }
        let Some(index) = self.link.flights.remove(&publication) else { return };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        // A newer one may be on its way already.
        let Some((_, revision)) = device.dispatch.sent.take_if(|(of, _)| *of == publication) else { return };
        device.dispatch.acknowledged = Some(revision);
        self.link.is_state_stale = true;
        if !device.is_dispatched() {
            self.dispatch_changed(index);
        }
    }

    pub(super) fn publish_refused(&mut self, now: Now, publication: u64) {
        if self.leases.witness_refused(publication) {
            self.link.state_published = None;
            self.link.is_state_stale = true;
            return;
        }
        let Some(index) = self.link.flights.remove(&publication) else { return };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if device.dispatch.sent.take_if(|(of, _)| *of == publication).is_some() {
            self.dispatch_changed(index);
            self.link.paused_until = Some(now.monotonic.after(REFUSED_PAUSE));
        }
    }

    /// Judges again how the set fits into the device's packet: whole, as its header alone, or not at all. One that does not fit
    /// is cleared at the broker.
    pub(super) fn refit(&mut self, now: Now, index: u32) {
        let fit = |device: &Device| (device.dispatch.too_large, device.dispatch.is_apart);
        let before = self.state.devices.get(index).map(fit);
        self.refit_quietly(index);
        let Some(device) = self.state.devices.get_mut(index) else { return };
        if Some(fit(device)) == before {
            return;
        }
        // What the broker has may be longer than the device takes.
        device.dispatch.acknowledged = None;
        device.dispatch.sent = None;
        if !device.dispatch.too_large {
            self.touch_device(now, index);
            self.dispatch_changed(index);
        }
    }

    /// Says which sets have become too large, whether by a change of theirs or of the device's limit.
    pub(super) fn tell_too_large(&mut self, now: Now) {
        while let Some(index) = self.link.too_large.pop() {
            let Some(device) = self.state.devices.get(index) else { continue };
            let name = device.keys.name.clone();
            let limit = device.observed.packet_bytes_max.unwrap_or_default();
            self.touch_device(now, index);
            let text = format!("its set does not fit into its largest packet of {limit} bytes and is not sent");
            self.tell(now, Draft::warning("TooLarge", &ObjectKey::device(&name), text).on(&name));
        }
    }

    fn refit_quietly(&mut self, index: u32) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let Some(durable) = &device.durable else { return };
        let Ok(topic) = Topic::Down(device.id(), Down::Desired).print(&self.state.fleet_name) else { return };
        let body_bytes = durable.body.len();
        // Prefix, key id, signature and header of a desired message.
        let header_bytes = 2 + 4 + 64 + wire::desired::HEADER_BYTES_MAX;
        let limit =
            device.observed.packet_bytes_max.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        // A longer body never goes with its header, whatever the device takes.
        device.dispatch.is_apart = body_bytes <= wire::limits::BODY_INLINE_BYTES_MAX
            && packet_bytes(&topic, header_bytes + body_bytes) > limit;
        let too_large = packet_bytes(&topic, header_bytes) > limit;
        let is_news = too_large && !device.dispatch.too_large;
        device.dispatch.too_large = too_large;
        if !too_large {
            return;
        }
        device.dispatch.acknowledged = None;
        device.dispatch.sent = None;
        if is_news {
            self.link.too_large.push(index);
            self.publish(topic.as_str().to_owned(), Vec::new(), true);
        }
    }

    /// Everything up to this commit was taken over by the broker.
    fn watermark(&self) -> u64 {
        let waiting = self.state.devices.iter().filter(|(_, device)| !device.is_dispatched());
        let first =
            waiting.filter_map(|(_, device)| device.durable.as_ref()).map(|durable| durable.revision().0.counter());
        first.min().map_or(self.pipeline.durable(), |first| first.saturating_sub(1).min(self.pipeline.durable()))
    }

    /// Publishes hub/state at once after a connection, soon when a grant waits for it, later when the watermark changed.
    fn state_run(&mut self, now: Now) {
        if self.state_due().is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.link.is_state_stale = false;
        let spread_ms = u32::try_from(self.spread().as_millis()).unwrap_or(u32::MAX);
        let said = (self.watermark(), self.leases.issued(), spread_ms);
        if self.link.state_published == Some(said) && !self.leases.is_witness_owed() {
            return;
        }
        let (watermark, fence, _) = said;
        let state =
            HubState { incarnation: self.incarnation, spread_ms, watermark, fence, instance: self.config.instance };
        let mut buffer = [0; HUB_STATE_BYTES_MAX];
        let topic = Topic::HubState.print(&self.state.fleet_name);
        if let (Ok(frame), Ok(topic)) = (encode_plain(&mut buffer, &state), topic) {
            let payload = frame.to_vec();
            if let Some(publication) = self.publish(topic.as_str().to_owned(), payload, true) {
                self.leases.witness_sent(publication);
            }
            self.rivals.has_said();
            self.link.state_published = Some(said);
            self.link.state_at = Some(now.monotonic);
        }
    }

    /// When hub/state is to be said next, if there is a reason to.
    fn state_due(&self) -> Option<Instant> {
        let is_witness_due = self.leases.is_witness_owed() && !self.leases.is_witness_sent();
        let pause = match (is_witness_due, self.link.is_state_stale) {
            (true, _) => WITNESS_PAUSE,
            (false, true) => STATE_PAUSE,
            (false, false) => return None,
        };
        Some(self.link.state_at.map_or(self.link.budget.at, |at| at.after(pause)))
    }

    pub(super) fn dispatch_timeout(&self) -> Option<Instant> {
        if !self.link.is_up || self.rivals.is_stopped() {
            return None;
        }
        if let Some(until) = self.link.paused_until.or(self.link.witness_until) {
            return Some(until);
        }
        let per_second = u64::from(self.config.republish_per_second);
        let queue = (!self.link.queue.is_empty()).then(|| self.link.budget.at(per_second));
        // With too many on their way, the next acknowledgement goes on.
        let has_room = self.link.flights.len() < NEWS_FLIGHTS_MAX;
        let news = (!self.link.news.is_empty() && has_room).then(|| self.link.news_budget.at(NEWS_PER_SECOND));
        queue.into_iter().chain(news).chain(self.state_due()).min()
    }

    /// Compares what devices said they hold with what they should hold.
    pub(super) fn sweep(&mut self) {
        for index in self.indexes() {
            let Some(device) = self.state.devices.get(index) else { continue };
            let (Some(durable), Some((revision, digest))) = (&device.durable, device.observed.accepted) else {
                continue;
            };
            let differs = (durable.revision(), durable.digest()) != (revision, digest);
            if differs && device.dispatch.acknowledged == Some(durable.revision()) {
                self.dispatch_again(index);
            }
        }
    }
}
