//! Keys that may not join any more: shown, and let in again by an operator's word. Nothing here ends by itself.

use super::Engine;
use super::event::Draft;
use super::object::Done;
use super::pending::Release;
use super::port::{Answer, Now, Ticket};
use super::problem;
use super::selection::PAGE_MAX;
use super::stored::timestamp;
use crate::commit::{AuditEntry, RejectionRow, Write};
use serde_json::{Value, json};
use std::ops::Bound;
use wire::{DeviceId, Digest};

fn shown(row: &RejectionRow) -> Value {
    json!({"id": row.device.to_string(), "name": row.name, "rejected": timestamp(row.rejected_ms)})
}

impl Engine {
    /// One page of the rejected keys, in the order of their ids.
    pub(super) fn rejections(&self, limit: usize, after: Option<DeviceId>) -> Answer {
        let limit = limit.clamp(1, PAGE_MAX);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.state.rejections.range((start, Bound::Unbounded)).map(|(_, row)| row);
        let page: Vec<&RejectionRow> = rows.by_ref().take(limit).collect();
        let has_more = rows.next().is_some();
        let next = page.last().filter(|_| has_more).map(|row| row.device.to_string());
        let resource_version = self.pipeline.next() - 1;
        Answer::List { items: page.into_iter().map(shown).collect(), next, resource_version, position: self.position() }
    }

    /// The key may join again, with a token like any other.
    pub(super) fn rejection_lift(&mut self, now: Now, ticket: Ticket, actor: &str, device: DeviceId) -> Done {
        let Some(row) = self.state.rejections.get(&device) else {
            return Some(Err(problem::not_rejected(device)));
        };
        let object = format!("device/{}", row.name);
        let audit = AuditEntry {
            time_ms: now.wall_ms,
            actor: actor.to_owned(),
            action: "allow",
            object: object.clone(),
            before: Some(Digest::of(shown(row).to_string().as_bytes())),
            after: None,
        };
        let message = format!("the key {device} may join again, said {actor}");
        self.commit(vec![Write::RejectionDelete { device }], vec![audit], Vec::new());
        self.pipeline.release_last(Release::Answer(ticket, Ok(Answer::Deleted)));
        self.pipeline.release_last(Release::Event(Draft::about("Allowed", object, message)));
        None
    }
}
