//! Counts of the engine for whoever measures the hub: taken when asked for, from what is there.

use super::Engine;
use super::device::Presence;
use super::port::{Measures, Now};
use super::stored::Stored;
use crate::model::{Condition, ConditionStatus};

impl Engine {
    pub(super) fn measures(&self, now: Now) -> Measures {
        let mut measures = Measures {
            commits_pending: self.pipeline.len() as u64,
            link: self.link.is_up,
            messages_refused: self.messages_refused,
            samples: self.samples.received,
            samples_dropped: self.samples.dropped,
            samples_kept: self.samples.kept as u64,
            hellos_sent_away: self.hellos_sent_away,
            chunks: self.supply.chunks,
            chunk_bytes: self.supply.bytes,
            contents_unanswered: self.supply.unanswered,
            watchers: self.watchers.len() as u64,
            followers: self.followers.len() as u64,
            scheduler_runs: self.placement.runs,
            placed: self.placement.placed,
            removed: self.placement.removed,
            leases: self.leases_held(),
            leases_granted: self.leases.counts.granted,
            leases_renewed: self.leases.counts.renewed,
            leases_expired: self.leases.counts.expired,
            events_fenced: self.leases.counts.fenced,
            placements: self.state.holders.values().map(|holders| holders.len() as u64).sum(),
            ..Measures::default()
        };
        for (_, device) in self.state.devices.iter() {
            match device.observed.presence {
                Presence::Online => measures.devices_online += 1,
                Presence::Suspect | Presence::Lost if device.observed.last_seen.is_none() => {
                    measures.devices_never += 1
                }
                Presence::Suspect | Presence::Lost => measures.devices_unknown += 1,
                Presence::Never => measures.devices_never += 1,
            }
        }
        for stored in self.state.objects.values() {
            if let Some(device) = stored.device() {
                measures.devices_unapproved += u64::from(!device.spec.approved);
            } else if let Some(artifact) = stored.artifact() {
                measures.artifacts += 1;
                measures.artifact_bytes += artifact.versions.iter().map(|version| version.bytes).sum::<u64>();
            } else if let Some(conditions) = self.workload_conditions(now, stored) {
                count(&conditions, "Healthy", &mut measures.workloads_healthy);
                count(&conditions, "Synced", &mut measures.workloads_synced);
            }
        }
        measures
    }

    fn workload_conditions(&self, now: Now, stored: &Stored) -> Option<Vec<Condition>> {
        Some(self.workload_status(now, stored, stored.workload()?).conditions)
    }
}

fn count(conditions: &[Condition], name: &str, counts: &mut [u64; 3]) {
    let status = conditions.iter().find(|condition| condition.name == name).map(|condition| condition.status);
    let [yes, no, unknown] = counts;
    match status {
        Some(ConditionStatus::True) => *yes += 1,
        Some(ConditionStatus::False) => *no += 1,
        Some(ConditionStatus::Unknown) | None => *unknown += 1,
    }
}
