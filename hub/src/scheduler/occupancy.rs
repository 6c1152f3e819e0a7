//! Which workloads run in which sites, so that "is it anywhere in this site?" needs no walk over the site.
//!
//! Only `Fleet` changes it, together with the devices' own lists; counts that reach zero are forgotten.

use super::labels::LabelId;
use super::snapshot::WorkloadNumber;
use std::collections::HashMap;

#[derive(Debug, Default, Clone)]
pub(super) struct Occupancy {
    devices: HashMap<(WorkloadNumber, LabelId), u32>,
}

impl Occupancy {
    pub(super) fn add(&mut self, workload: WorkloadNumber, site: LabelId) {
        *self.devices.entry((workload, site)).or_default() += 1;
    }

    pub(super) fn remove(&mut self, workload: WorkloadNumber, site: LabelId) {
        if let Some(count) = self.devices.get_mut(&(workload, site)) {
            *count -= 1;
            if *count == 0 {
                self.devices.remove(&(workload, site));
            }
        }
    }

    pub(super) fn is_in(&self, workload: WorkloadNumber, site: LabelId) -> bool {
        self.devices.contains_key(&(workload, site))
    }
}
