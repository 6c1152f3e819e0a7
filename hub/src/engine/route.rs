//! Events between workloads: what one emits reaches those that subscribed to it, wherever they are, within limits. Only a
//! workload's own instance on the emitting device is left out: inside a device there are `local/` topics, and a loop is no use.
//!
//! What stays on a device never gets here. Of exclusive work, only who holds the present lease is heard: an instance that was
//! late to stop reaches nobody.

use super::Engine;
use super::device::{Presence, Talk};
use super::fence::Refused;
use super::port::Now;
use super::session::live_frame;
use std::collections::BTreeSet;
use wire::event::{Event, Fenced, Input, LOCAL_PREFIX, topic_matches};
use wire::frame::Body as _;
use wire::topic::{Down, Topic};
use wire::{LiveContext, WorkloadId};

/// Emitted events of one device that are routed, per second and at once.
pub const EMITS_PER_SECOND: u64 = 20;
pub const EMITS_BURST: u64 = 40;
/// Deliveries of one event.
pub const FAN_OUT_MAX: usize = 256;
/// Effects that may wait when one more event is delivered: while the link is slower than the fleet talks, events are dropped
/// and counted, or they would fill the memory.
pub const BACKLOG_MAX: usize = 8_192;
/// Bytes of an encoded input around topic and payload.
const INPUT_OVERHEAD_BYTES: usize = 128;

impl Engine {
    pub(super) fn on_emitted(&mut self, now: Now, index: u32, talk: Talk, body: &[u8]) {
        let event = match wire::codec::decode::<Event<'_>>(body) {
            Ok(event) if event.check().is_ok() && !event.topic.starts_with(LOCAL_PREFIX) => event,
            Ok(_) | Err(_) => {
                self.messages_refused += 1;
                return;
            }
        };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        // QoS 1 may bring a message twice; it is routed once.
        let known = device.observed.event.filter(|(boot, _)| *boot == talk.boot);
        if known.is_some_and(|(_, last)| event.sequence <= last) {
            return;
        }
        let gap = known.map_or(0, |(_, last)| event.sequence.saturating_sub(last).saturating_sub(1));
        device.observed.events_missing = device.observed.events_missing.saturating_add(gap);
        device.observed.event = Some((talk.boot, event.sequence));
        if !device.observed.emits.take(now.monotonic, EMITS_PER_SECOND, EMITS_BURST) {
            self.messages_refused += 1;
            return;
        }
        let fence = match self.fence_of(index, &event) {
            Ok(fence) => fence,
            Err(Refused) => return self.tell_fenced(now, index, &event),
        };
        let event = Event { fence, ..event };
        let mut deliveries = Vec::new();
        for (id, key) in &self.state.workloads {
            let stored = self.state.objects.get(key);
            let Some(body) = stored.and_then(|stored| stored.workload()) else { continue };
            let views = body.spec.views();
            let mut topics = views.iter().flat_map(|view| &view.function.triggers.topics);
            if topics.any(|filter| topic_matches(filter, event.topic)) {
                let none = BTreeSet::new();
                let holders = self.state.holders.get(id).unwrap_or(&none);
                let own = |holder: u32| holder == index && *id == event.workload.0;
                deliveries.extend(holders.iter().filter(|holder| !own(**holder)).map(|holder| (*holder, *id)));
            }
        }
        for (holder, workload) in deliveries.into_iter().take(FAN_OUT_MAX) {
            if self.effects.len() >= BACKLOG_MAX {
                self.messages_refused += 1;
                continue;
            }
            self.deliver(holder, workload, &event);
        }
    }

    fn deliver(&mut self, index: u32, workload: u32, event: &Event<'_>) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let Some(talk) = device.observed.current.filter(|_| device.observed.presence == Presence::Online) else {
            return;
        };
        let Some(pair) = &device.pair else { return };
        device.observed.input_sequence = device.observed.input_sequence.wrapping_add(1);
        let input = Input {
            sequence: device.observed.input_sequence,
            workload: WorkloadId(workload),
            fence: event.fence.map(|fence| Fenced { workload: event.workload, fence }),
            topic: event.topic,
            payload: event.payload,
        };
        let fleet = &self.state.fleet_name;
        let context = LiveContext { fleet, device: device.id(), boot: talk.boot, session: talk.session };
        let room = event.topic.len() + event.payload.len() + INPUT_OVERHEAD_BYTES;
        let frame = live_frame(pair, &context, &input, room);
        let topic = Topic::Down(device.id(), Down::Input).print(fleet);
        if let (Some(frame), Ok(topic)) = (frame, topic) {
            let limit = device.observed.packet_bytes_max.unwrap_or(u32::MAX);
            if super::session::packet_bytes(&topic, frame.len()) <= usize::try_from(limit).unwrap_or(usize::MAX) {
                self.publish(topic.as_str().to_owned(), frame, false);
            } else {
                self.messages_refused += 1;
            }
        }
    }
}
