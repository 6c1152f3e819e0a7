//! Why a workload is where it is: the scheduler's reasons as JSON, with the text that people read.

use super::Engine;
use super::port::{Answer, Now, Problem};
use super::problem;
use crate::geo::{Distance, Point};
use crate::model::ObjectKey;
use crate::scheduler::{DeviceIndex, Near, explain_device, plan, text};
use serde_json::Value;

impl Engine {
    pub(super) fn explain(
        &self,
        now: Now,
        namespace: &str,
        name: &str,
        device: Option<&str>,
    ) -> Result<Answer, Problem> {
        self.explain_key(now, &ObjectKey::workload(namespace, name), device, None, None)
    }

    /// `near`, `distance_max`: in place of the workload's own point and limit.
    pub(super) fn explain_key(
        &self,
        now: Now,
        key: &ObjectKey,
        device: Option<&str>,
        near: Option<Point>,
        distance_max: Option<Distance>,
    ) -> Result<Answer, Problem> {
        let stored = self.state.objects.get(key).ok_or_else(|| self.missing(key))?;
        let body = stored.workload().ok_or_else(|| problem::not_found(key))?;
        let Some((mut view, current)) = self.asked(now, key, stored, body) else {
            return Err(problem::invalid("/spec", "an artifact of this workload is missing".to_owned()));
        };
        if let Some(point) = near {
            let distance_max = distance_max.or(view.terms.near.and_then(|near| near.distance_max));
            view.terms.near = Some(Near { point, distance_max });
        }
        let snapshot = self.snapshot(now);
        let (value, text) = match device {
            None => {
                let plan = plan(&snapshot, &view, &current);
                (serde_json::to_value(&plan), text::plan_text(&view, &plan))
            }
            Some(name) => {
                let device = ObjectKey::device(name);
                let index = self.state.devices.index_named(name).ok_or_else(|| problem::not_found(&device))?;
                let explanation = explain_device(&snapshot, &view, &current, DeviceIndex(index))
                    .ok_or_else(|| problem::not_found(&device))?;
                (serde_json::to_value(&explanation), text::device_text(&view, &explanation))
            }
        };
        let mut value = value.unwrap_or_default();
        if let Value::Object(map) = &mut value {
            map.insert("text".to_owned(), Value::String(text));
        }
        Ok(Answer::Explanation(value))
    }
}
