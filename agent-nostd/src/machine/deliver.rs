//! Messages on their way to functions: what the hub routed here, and what stays on the device under `local/`.
//!
//! A bounded queue between `handle` and `poll`; what does not fit is dropped and counted. Delivery never waits for a function:
//! the shell bounds each mailbox.
use super::port::LaunchId;
use super::slot::{From, Live, Slot, Stage};
use super::time::Instant;
use super::{Agent, Todo};
use wire::WorkloadId;
use wire::clause::Clause;
use wire::event::{Input, topic_matches};
use wire::limits::{EVENT_BYTES_MAX, TOPIC_BYTES_MAX};

const LAUNCH_BYTES: usize = 4;

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// From the hub. QoS 1 may repeat: within a session the sequence only rises.
    pub(crate) fn on_input(&mut self, now: Instant, payload: &[u8]) {
        let Some(context) = self.session_context() else { return };
        let Ok(input) = wire::frame::decode_live::<Input<'_>>(payload, self.config.pair_key, &context) else { return };
        if input.sequence <= self.inputs_seen {
            return;
        }
        self.inputs_seen = input.sequence;
        if !self.admits(now, input.fence) {
            return;
        }
        self.queue(Some(input.workload), input.topic, input.payload);
    }

    /// From a component of this device, to every other (and itself) that asked for the topic.
    pub(crate) fn publish_local(&mut self, topic: &str, payload: &[u8]) {
        if topic.len() > TOPIC_BYTES_MAX || payload.len() > EVENT_BYTES_MAX {
            self.inputs_dropped = self.inputs_dropped.saturating_add(1);
            return;
        }
        self.queue(None, topic, payload);
    }

    fn queue(&mut self, workload: Option<WorkloadId>, topic: &str, payload: &[u8]) {
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get(at) else { continue };
            if workload.is_some_and(|workload| workload != slot.workload) || !self.wants(slot, topic) {
                continue;
            }
            let Some(live) = slot.live else { continue };
            // At most TOPIC_BYTES_MAX, which one byte holds.
            let length = [topic.len() as u8];
            let parts: [&[u8]; 4] = [&live.launch.0.to_le_bytes(), &length, topic.as_bytes(), payload];
            if !self.inputs.push(&parts) {
                self.inputs_dropped = self.inputs_dropped.saturating_add(1);
            }
        }
    }

    /// Whether what runs in this slot asked for the topic. An older version whose record is gone gets nothing.
    fn wants(&self, slot: &Slot, topic: &str) -> bool {
        let Some(Live { print, stage: Stage::Running { .. }, .. }) = slot.live else { return false };
        let from_goal = slot.goal.filter(|goal| goal.print == print).map(|goal| (goal.from, goal.offset));
        let from_good = slot.good.filter(|(_, good)| *good == print).map(|(offset, _)| (From::LastGood, offset));
        let Some(record) = from_goal.or(from_good).and_then(|(from, offset)| self.record_of(from, offset)) else {
            return false;
        };
        record.clauses.iter().any(|stated| match stated.clause {
            Clause::Topics(topics) => topics.iter().any(|filter| topic_matches(filter, topic)),
            _ => false,
        })
    }

    pub(crate) fn poll_inputs(&mut self) -> Option<Todo> {
        loop {
            let end = self.inputs.next(0)?;
            let entry = self.take_input();
            self.inputs.drop_front(end);
            match entry {
                // It may have ended since, or be about to.
                Some(Todo::Deliver { launch, .. }) if !self.is_running(launch) => {}
                Some(todo) => return Some(todo),
                None => self.inputs_dropped = self.inputs_dropped.saturating_add(1),
            }
        }
    }

    fn is_running(&self, launch: LaunchId) -> bool {
        let slot = self.slot_of(launch).and_then(|at| self.slots.get(at));
        slot.and_then(|slot| slot.live).is_some_and(|live| matches!(live.stage, Stage::Running { .. }))
    }

    /// Topic and payload of the first entry, copied to the front of the outgoing buffer.
    fn take_input(&mut self) -> Option<Todo> {
        let (first, second) = self.inputs.content(0, 0)?;
        let mut bytes = first.iter().chain(second).copied();
        let mut launch = [0; LAUNCH_BYTES];
        for byte in &mut launch {
            *byte = bytes.next()?;
        }
        let topic = usize::from(bytes.next()?);
        let length = first.len() + second.len() - LAUNCH_BYTES - 1;
        let room = self.outgoing.get_mut(..length)?;
        room.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Some(Todo::Deliver { launch: LaunchId(u32::from_le_bytes(launch)), topic, length })
    }
}
