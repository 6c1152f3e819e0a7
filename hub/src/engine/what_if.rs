//! Why a workload would be where, if devices or the workload itself were otherwise. Tried on the scheduler's fleet and taken
//! back within one call; nothing is stored.

use super::Engine;
use super::port::{Answer, Now, Problem, WhatIf};
use super::{problem, terms};
use crate::geo::{Distance, Point};
use crate::model::{ObjectKey, Refusal, Size, pointer_at, read_taint_list};
use crate::scheduler::{Admittance, DeviceFacts, DeviceIndex, Position, PositionSource};
use serde_json::Value;
use std::time::Duration;

/// Devices that one question supposes to be otherwise.
pub const OVERRIDES_MAX: usize = 100;
const FIELDS: &str =
    "free.memory, free.slots, labels.<key>, taints, cordoned, draining, approved, position, uncertaintyM, class, site";

impl Engine {
    pub(super) fn what_if(&mut self, now: Now, asked: &WhatIf) -> Result<Answer, Problem> {
        let overrides = self.overrides(&asked.overrides)?;
        let mut undo = Vec::new();
        let key = match &asked.workload {
            Value::String(name) => Ok(ObjectKey::workload(&asked.namespace, name)),
            document => self.try_workload(now, document, &mut undo).map_err(at_workload),
        };
        let mut before = Vec::new();
        for (index, facts) in overrides {
            before.extend(self.state.fleet.facts(index).map(|facts| (index, facts)));
            // The index is one of the fleet's own.
            let _ = self.state.fleet.put(index, facts);
        }
        let answer =
            key.and_then(|key| self.explain_key(now, &key, asked.device.as_deref(), asked.near, asked.distance_max));
        for (index, facts) in before {
            let _ = self.state.fleet.put(index, facts);
        }
        self.take_back(&mut undo);
        answer
    }

    /// The facts of the devices as they are supposed to be.
    fn overrides(&self, overrides: &Value) -> Result<Vec<(DeviceIndex, DeviceFacts)>, Problem> {
        let map = match overrides {
            Value::Null => return Ok(Vec::new()),
            Value::Object(map) => map,
            _ => return Err(problem::invalid("/overrides", "an object: device/<name> to fields".to_owned())),
        };
        if map.len() > OVERRIDES_MAX {
            let text = format!("{} devices, at most {OVERRIDES_MAX} are supposed to be otherwise", map.len());
            return Err(problem::invalid("/overrides", text));
        }
        let mut out = Vec::new();
        for (object, fields) in map {
            let pointer = pointer_at("/overrides", object);
            let name = object.strip_prefix("device/").unwrap_or_default();
            let index = self.state.devices.index_named(name).map(DeviceIndex);
            let facts = index.and_then(|index| Some((index, self.state.fleet.facts(index)?)));
            let Some((index, mut facts)) = facts else {
                return Err(problem::invalid(&pointer, "not device/<name> of a known device".to_owned()));
            };
            let Value::Object(fields) = fields else {
                return Err(problem::invalid(&pointer, format!("an object of fields: {FIELDS}")));
            };
            for (field, value) in fields {
                suppose(&mut facts, field, value).map_err(|why| problem::invalid(&pointer_at(&pointer, field), why))?;
            }
            out.push((index, facts));
        }
        Ok(out)
    }
}

/// The one document of the question is not one of a list.
fn at_workload(mut refused: Problem) -> Problem {
    for error in &mut refused.errors {
        if let Some(inside) = error.pointer.strip_prefix("/documents/0") {
            error.pointer = format!("/workload{inside}");
        }
    }
    refused
}

fn suppose(facts: &mut DeviceFacts, field: &str, value: &Value) -> Result<(), String> {
    let boolean = || value.as_bool().ok_or_else(|| "true or false".to_owned());
    let text = || value.as_str().ok_or_else(|| "a text".to_owned());
    match field {
        "free.memory" => {
            let size = Size::parse(text()?).map_err(|error| error.to_string())?;
            facts.total.ram_bytes = facts.used.ram_bytes.saturating_add(size.0);
        }
        "free.slots" => {
            let slots = value.as_u64().and_then(|slots| u32::try_from(slots).ok()).ok_or("a whole number")?;
            facts.total.slots = facts.used.slots.saturating_add(slots);
        }
        "approved" | "cordoned" | "draining" => facts.admittance = admittance(facts.admittance, field, boolean()?),
        "taints" => {
            let taints = read_taint_list(value).map_err(|refusal| mistakes(&refusal))?;
            facts.taints = taints.iter().map(terms::taint).collect();
        }
        "class" => facts.class = text()?.into(),
        "site" => facts.site = if value.is_null() { None } else { Some(text()?.into()) },
        "position" if value.is_null() => facts.position = None,
        "position" => {
            let numbers: Vec<f64> = value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            let [longitude, latitude] = numbers.as_slice() else { return Err("[longitude, latitude]".to_owned()) };
            let point = Point::from_degrees(*longitude, *latitude).map_err(|error| error.to_string())?;
            let uncertainty = facts.position.map_or(Distance::from_metres(0), |position| position.uncertainty);
            facts.position =
                Some(Position { point, uncertainty, source: PositionSource::Operator, known_at: Duration::MAX });
        }
        "uncertaintyM" => {
            let metres = value.as_u64().and_then(|metres| u32::try_from(metres).ok()).ok_or("a whole number")?;
            let position = facts.position.as_mut().ok_or("the device has no position")?;
            position.uncertainty = Distance::from_metres(metres);
        }
        _ => match field.strip_prefix("labels.") {
            Some(key) if value.is_null() => {
                facts.labels.remove(key);
            }
            Some(key) => {
                facts.labels.insert(key.to_owned(), text()?.to_owned());
            }
            None => return Err(format!("not a field that can be supposed; these can: {FIELDS}")),
        },
    }
    Ok(())
}

fn mistakes(refusal: &Refusal) -> String {
    let each = refusal.errors.iter().map(|error| match error.pointer.as_str() {
        "" => error.detail.clone(),
        pointer => format!("{}: {}", pointer.trim_start_matches('/'), error.detail),
    });
    each.collect::<Vec<String>>().join("; ")
}

/// The scheduler knows the strictest word only, so that a lifted one leaves the device open.
fn admittance(before: Admittance, field: &str, value: bool) -> Admittance {
    let of_field = match field {
        "approved" => {
            return if value && before == Admittance::Pending {
                Admittance::Open
            } else if value {
                before
            } else {
                Admittance::Pending
            };
        }
        "cordoned" => Admittance::Cordoned,
        _ => Admittance::Draining,
    };
    match (value, before) {
        (true, Admittance::Pending) => Admittance::Pending,
        (true, Admittance::Draining) => Admittance::Draining,
        (true, Admittance::Open | Admittance::Cordoned | Admittance::Held) => of_field,
        (false, before) if before == of_field => Admittance::Open,
        (false, before) => before,
    }
}
