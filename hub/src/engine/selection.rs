//! Which objects a list or a watch is about: namespace, labels, fields of the document, place. And the one way to see an
//! object of any kind as it is shown.
//!
//! Nothing here is stored, and nothing is decided by it.

use super::Engine;
use super::port::{Answer, Now, Outcome, Place, Position, Problem, Selection};
use super::problem;
use crate::geo::{Distance, Point};
use crate::model::{Kind, ObjectKey};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Objects on one page of a list.
pub const PAGE_MAX: usize = 500;
/// Objects that one list looks at with a field selector, which needs every document; the page ends early there.
const DOCUMENTS_LOOKED_AT_MAX: usize = 20_000;

/// Of a placement whose workload is gone.
static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// An object as a list or a watch sees it.
pub(super) struct Shown<'a> {
    pub labels: &'a BTreeMap<String, String>,
    /// The commit that last changed it.
    pub resource_version: u64,
}

impl Engine {
    /// What a selection is judged on before its document is made; `None` when there is no such object.
    pub(super) fn shown(&self, key: &ObjectKey) -> Option<Shown<'_>> {
        if key.kind == Kind::Placement {
            let (id, _) = self.state.placed.keys.get(key)?;
            let workload = self.state.workloads.get(id).and_then(|key| self.state.objects.get(key));
            let labels = workload.map_or(&NO_LABELS, |stored| &stored.body.labels);
            return Some(Shown { labels, resource_version: self.placement_version(key) });
        }
        let stored = self.state.objects.get(key)?;
        Some(Shown { labels: &stored.body.labels, resource_version: stored.resource_version })
    }

    /// The whole document of an object of any kind.
    pub(super) fn shown_document(&self, now: Now, key: &ObjectKey) -> Option<Value> {
        if key.kind == Kind::Placement {
            return self.placement_document(now, key);
        }
        self.state.objects.get(key).map(|stored| self.document(now, stored))
    }

    /// The keys of a kind in their order, after one of them.
    pub(super) fn keys_after<'a>(
        &'a self,
        kind: Kind,
        after: Option<&ObjectKey>,
    ) -> Box<dyn Iterator<Item = &'a ObjectKey> + 'a> {
        let start = match after {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Included(ObjectKey { kind, namespace: String::new(), name: String::new() }),
        };
        if kind == Kind::Placement {
            return Box::new(self.state.placed.keys.range((start, Bound::Unbounded)).map(|(key, _)| key));
        }
        let keys = self.state.objects.range((start, Bound::Unbounded)).map(|(key, _)| key);
        Box::new(keys.take_while(move |key| key.kind == kind))
    }

    /// Where an object is, for the selectors of place.
    fn place_of(&self, key: &ObjectKey) -> Option<Point> {
        let device = match key.kind {
            Kind::Device => Some(key.name.as_str()),
            Kind::Placement => {
                let index = self.state.placed.keys.get(key).map(|(_, index)| *index);
                index.and_then(|index| self.state.devices.get(index)).map(|device| device.keys.name.as_str())
            }
            Kind::Namespace | Kind::Region | Kind::Artifact | Kind::Workload | Kind::Token => None,
        };
        self.state.position(device?).map(|(position, _)| position.point)
    }

    /// The document, if the selection takes it.
    pub(super) fn selected(&self, now: Now, key: &ObjectKey, selection: &Selection) -> Option<Value> {
        let shown = self.shown(key)?;
        let is_in_namespace = selection.namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace);
        if !is_in_namespace || !selection.labels.matches(shown.labels) || !self.is_placed(key, selection) {
            return None;
        }
        let document = self.shown_document(now, key)?;
        selection.fields.matches(&document).then_some(document)
    }

    fn is_placed(&self, key: &ObjectKey, selection: &Selection) -> bool {
        let Some(place) = &selection.place else { return true };
        let Some(point) = self.place_of(key) else { return false };
        let is_within = |name: &String| self.state.regions.get(name).is_some_and(|region| region.contains(point));
        place.within.as_ref().is_none_or(is_within)
            && place.near.is_none_or(|(center, reach)| Distance::between(center, point) <= reach)
    }

    /// What cannot be asked about this kind, or is not there.
    pub(super) fn check_selection(&self, kind: Kind, selection: &Selection) -> Result<(), Problem> {
        self.check_namespace_of(kind, selection.namespace.as_ref())?;
        let Some(Place { within, near: _ }) = &selection.place else { return Ok(()) };
        match kind {
            Kind::Device | Kind::Placement => {}
            Kind::Namespace | Kind::Region | Kind::Artifact | Kind::Workload | Kind::Token => {
                let detail = format!("{} have no place: within and near select devices and placements", kind.plural());
                return Err(problem::invalid("", detail));
            }
        }
        match within {
            Some(name) if !self.state.regions.contains_key(name) => Err(problem::not_found(&ObjectKey::region(name))),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn list(
        &self,
        now: Now,
        kind: Kind,
        selection: &Selection,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Answer, Problem> {
        self.check_selection(kind, selection)?;
        let after = match after.map(|after| after.split_once('/')) {
            Some(Some((namespace, name))) => {
                Some(ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() })
            }
            Some(None) => return Err(problem::invalid("", "the continue token is not one of this hub".to_owned())),
            // Keys of a namespace come together: the others need not be looked at.
            None if kind.is_namespaced() => selection.namespace.as_ref().map(|namespace| ObjectKey {
                kind,
                namespace: namespace.clone(),
                name: String::new(),
            }),
            None => None,
        };
        let token = |last: &ObjectKey| format!("{}/{}", last.namespace, last.name);
        let limit = limit.clamp(1, PAGE_MAX);
        let (mut items, mut last, mut looked_at, mut next) = (Vec::new(), None, 0, None);
        for key in self.keys_after(kind, after.as_ref()) {
            if selection.namespace.as_ref().is_some_and(|namespace| key.namespace > *namespace) {
                break;
            }
            if looked_at == DOCUMENTS_LOOKED_AT_MAX {
                next = last.map(token);
                break;
            }
            looked_at += usize::from(!selection.fields.is_empty());
            let Some(document) = self.selected(now, key, selection) else {
                last = if items.len() < limit { Some(key) } else { last };
                continue;
            };
            if items.len() == limit {
                next = last.map(token);
                break;
            }
            items.push(document);
            last = Some(key);
        }
        let resource_version = self.pipeline.next() - 1;
        Ok(Answer::List { items, next, resource_version, position: self.position() })
    }

    /// Where a watch that begins now would begin.
    pub(super) fn position(&self) -> Position {
        Position { incarnation: self.incarnation, sequence: self.changes.head() }
    }

    pub(super) fn get(&self, now: Now, key: &ObjectKey) -> Result<Answer, Problem> {
        let missing = || self.missing(key);
        let resource_version = self.shown(key).ok_or_else(missing)?.resource_version;
        let document = self.shown_document(now, key).ok_or_else(missing)?;
        Ok(Answer::Object { outcome: Outcome::Read, resource_version, document, warnings: Vec::new() })
    }
}
