//! Counts of the engine for whoever measures the hub: taken when asked for, from what is there.

use super::Engine;
use super::device::Presence;
use super::mass_loss::Guard;
use super::port::Now;
use super::stored::Stored;
use crate::model::{Condition, ConditionStatus};

/// What the engine counts; arrays are of status True, False, Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    pub commits_pending: u64,
    pub devices_online: u64,
    pub devices_unknown: u64,
    pub devices_never: u64,
    pub devices_unapproved: u64,
    /// Nobody is called lost, because too many vanished at once.
    pub guard: bool,
    /// Devices that are missing while it holds.
    pub devices_held: u64,
    /// Nobody is called lost for so long yet, because the hub's link came up a short while ago. Seconds, rounded up.
    pub loss_grace_s: u64,
    pub workloads_healthy: [u64; 3],
    pub workloads_synced: [u64; 3],
    pub placements: u64,
    pub placed: u64,
    pub removed: u64,
    pub scheduler_runs: u64,
    pub messages_refused: u64,
    pub leases: u64,
    pub leases_granted: u64,
    pub leases_renewed: u64,
    pub leases_expired: u64,
    pub events_fenced: u64,
    /// Alarms, states, metrics.
    pub samples: [u64; 3],
    pub samples_dropped: u64,
    pub samples_kept: u64,
    /// Hellos beyond the rate.
    pub hellos_sent_away: u64,
    /// Of contents, sent over MQTT.
    pub chunks: u64,
    pub chunk_bytes: u64,
    /// Questions about content that got no answer.
    pub contents_unanswered: u64,
    pub link: bool,
    pub watchers: u64,
    pub followers: u64,
    pub artifacts: u64,
    pub artifact_bytes: u64,
}

impl Engine {
    pub(super) fn measures(&self, now: Now) -> Measures {
        let mut measures = Measures {
            commits_pending: self.pipeline.len() as u64,
            guard: self.watch.guard.is_some(),
            devices_held: self.watch.guard.as_ref().map_or(0, Guard::missing),
            loss_grace_s: self.watch.grace_until.since(now.monotonic).as_millis().div_ceil(1_000) as u64,
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
