//! Who executes what, seen with the true time: work that runs without the right to (I3), and work that outlives its `stopAfter`.
//!
//! Judged by what runs and by when questions were sent, never by what hub or devices believe about leases.
use super::device::Device;
use super::record::{Kept, Policy};
use super::runtime::Instance;
use super::world::World;
use agent_nostd::machine::port::{LaunchId, Terms};
use std::collections::BTreeMap;
use wire::frame::{decode_body, live_body_unchecked};
use wire::grant::Grant;
use wire::hello::{Fresh, Hello};
use wire::id::{Fence, Nonce};
use wire::lease::{DRIFT_PPM_MAX, LEASE_MS_MAX};
use wire::topic::{Down, Up};
use wire::transfer::{Need, Want};
use wire::{Kind, WorkloadId};

/// Questions of a boot that are remembered until their answer.
const ASKED_MAX: usize = 32;
/// Rights that a boot is remembered to have had.
const GRANTED_MAX: usize = 256;
/// Rounding of clocks.
const SLACK_MS: u64 = 5;

/// What the oracle knows of one device.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Questions of this boot: nonce, true time, and how long the device had been on.
    asked: Vec<(Nonce, u64, u64)>,
    /// Grants that reached this boot: workload, fence, when they end: so long after the question was sent.
    granted: Vec<(WorkloadId, Fence, u64)>,
    /// Time that the device was on, over all boots but this one; and since when it is on.
    on_before_ms: u64,
    on_since_ms: Option<u64>,
    /// How long it had been on when it asked the question whose answer it got last.
    heard_on_ms: u64,
    /// The same at the last time that its journal did not keep what was written: what was not kept cannot be counted over a reset.
    unkept_on_ms: Option<u64>,
    /// Until then a clock that was slower than leases allow for may still matter.
    too_slow_until: u64,
    /// The highest fence that a component of this boot was told of, by the workload that has it.
    told: BTreeMap<WorkloadId, Fence>,
}

impl Ledger {
    pub fn power_on(&mut self, now: u64) {
        self.asked.clear();
        self.granted.clear();
        self.told.clear();
        self.on_since_ms = Some(now);
    }

    pub fn power_off(&mut self, now: u64) {
        if let Some(since) = self.on_since_ms.take() {
            self.on_before_ms += now - since;
        }
    }

    /// Its process stands still: nothing runs, as if it were off.
    pub fn pause(&mut self, now: u64) {
        self.power_off(now);
    }

    pub fn resume(&mut self, now: u64) {
        self.on_since_ms = Some(now);
    }

    fn on_ms(&self, now: u64) -> u64 {
        self.on_before_ms + self.on_since_ms.map_or(0, |since| now.saturating_sub(since))
    }

    /// A write failed, or what was written rotted.
    pub fn loses_a_write(&mut self, now: u64) {
        self.unkept_on_ms = Some(self.on_ms(now));
    }

    fn ask(&mut self, now: u64, nonce: Nonce) {
        if self.asked.len() >= ASKED_MAX {
            self.asked.remove(0);
        }
        let on_ms = self.on_ms(now);
        self.asked.push((nonce, now, on_ms));
    }

    pub fn clock_changes(&mut self, now: u64, before_ppm: i64, after_ppm: i64) {
        if before_ppm.min(after_ppm) < -i64::from(DRIFT_PPM_MAX) {
            self.too_slow_until = now + 2 * LEASE_MS_MAX;
        }
    }
}

/// Of one exclusive workload, over all devices.
#[derive(Clone, Copy, Debug)]
struct Holder {
    device: usize,
    life: u32,
    fence: Fence,
}

#[derive(Debug, Default)]
pub struct Leases {
    /// A number may be that of two workloads where two hubs give numbers.
    holders: BTreeMap<(WorkloadId, String), Holder>,
    /// Starts and renewals under a grant, and moves to another device or boot.
    pub rights: u64,
    pub moves: u64,
}

/// True while the component can have an effect on the world: also while it starts, and while it is asked to stop.
fn executes(node: &Device<'_>, now: u64, terms: &Terms) -> bool {
    let is_cut = terms.until().is_some_and(|until| node.local(now) >= until);
    node.agent.is_some() && node.trouble.paused == 0 && !is_cut
}

impl World<'_> {
    /// A question of the machine leaves: what it may conclude from the answer counts from now.
    pub fn ledger_asks(&mut self, device: usize, up: Up, payload: &[u8]) {
        let nonce = match up {
            Up::Hello => {
                let hello = live_body_unchecked(payload, Kind::Hello).and_then(Hello::decode);
                hello.ok().map(|hello| hello.fixed.nonce)
            }
            Up::Need => {
                let need = live_body_unchecked(payload, Kind::Need).and_then(decode_body::<Need>);
                need.ok().and_then(|need| if let Want::Lease { nonce, .. } = need.want { Some(nonce) } else { None })
            }
            _ => None,
        };
        if let Some(nonce) = nonce {
            self.devices[device].ledger.ask(self.now, nonce);
        }
    }

    /// An answer reaches the machine. Whether it believes it is its own affair: this is the most that it may conclude.
    pub fn ledger_hears(&mut self, device: usize, down: Down, payload: &[u8]) {
        let ledger = &mut self.devices[device].ledger;
        match down {
            Down::Fresh => {
                let fresh = live_body_unchecked(payload, Kind::Fresh).and_then(decode_body::<Fresh>);
                let nonce = fresh.ok().map(|fresh| fresh.nonce);
                if let Some((.., on_ms)) = ledger.asked.iter().find(|(asked, ..)| Some(*asked) == nonce) {
                    ledger.heard_on_ms = ledger.heard_on_ms.max(*on_ms);
                }
            }
            Down::Grant => {
                let grant = live_body_unchecked(payload, Kind::Grant).and_then(decode_body::<Grant>);
                let Ok(grant) = grant else { return };
                if let Some((_, at, _)) = ledger.asked.iter().find(|(asked, ..)| *asked == grant.nonce) {
                    // The newest of each right, as an old answer may come again: another right may be renewed a hundred times
                    // meanwhile.
                    let is_same = |of: &(WorkloadId, Fence, u64)| (of.0, of.1) == (grant.workload, grant.fence);
                    let before_ms = ledger.granted.iter().copied().filter(is_same).map(|of| of.2).max();
                    // A shorter lease in a newer manifest takes nothing from what was granted.
                    let ends_ms = (*at + u64::from(grant.ms)).max(before_ms.unwrap_or(0));
                    ledger.granted.retain(|of| !is_same(of));
                    ledger.granted.push((grant.workload, grant.fence, ends_ms));
                }
                if ledger.granted.len() > GRANTED_MAX {
                    ledger.granted.remove(0);
                }
            }
            _ => {}
        }
    }

    /// A component starts, or goes on under new terms.
    pub fn judge_terms(&mut self, device: usize, launch: LaunchId, kept: &Kept, terms: &Terms) {
        match kept.policy {
            Policy::Autonomous => {
                if terms.until().is_some() {
                    self.fail(|| format!("dev-{device} is to cut {launch:?}, which is autonomous: {terms:?}"));
                }
            }
            Policy::Stale => {}
            Policy::StopAfter(ms) => self.judge_stop_after(device, kept, terms, ms),
            Policy::Exclusive(_) => self.judge_right(device, kept, terms),
        }
    }

    fn judge_stop_after(&mut self, device: usize, kept: &Kept, terms: &Terms, ms: u64) {
        let node = &self.devices[device];
        let key = kept.key();
        let Some(stop_by) = terms.stop_by else {
            return self
                .fail(|| format!("dev-{device} runs {key:?} without an end, which it has to stop after {ms} ms"));
        };
        let ends = node.world_ms(stop_by);
        let silent_ms =
            (node.ledger.on_ms(self.now) + ends.saturating_sub(self.now)).saturating_sub(node.ledger.heard_on_ms);
        let is_excused = self.now < node.ledger.too_slow_until
            || node.drift_ppm() < -i64::from(DRIFT_PPM_MAX)
            || node.ledger.unkept_on_ms.is_some_and(|at| at >= node.ledger.heard_on_ms);
        if ends > self.now && silent_ms > ms + SLACK_MS && !is_excused {
            self.fail(|| {
                format!("[stopAfter] dev-{device} may run {key:?} for {silent_ms} ms without the hub, not {ms}")
            });
        }
    }

    fn judge_right(&mut self, device: usize, kept: &Kept, terms: &Terms) {
        let workload = kept.core.workload;
        let Some(right) = terms.grant else {
            return self.fail(|| format!("[I3] dev-{device} runs {} without a grant", kept.name));
        };
        let node = &self.devices[device];
        let life = node.life;
        let of_grant = |(of, fence, _): &&(WorkloadId, Fence, u64)| (*of, *fence) == (workload, right.fence);
        let Some((_, _, granted_ms)) = node.ledger.granted.iter().rfind(of_grant).copied() else {
            return self.fail(|| format!("[I3] dev-{device} runs {} under a grant of another boot", kept.name));
        };
        let ends = node.world_ms(right.until);
        let is_slow = node.drift_ppm() < -i64::from(DRIFT_PPM_MAX) || self.now < node.ledger.too_slow_until;
        if ends > granted_ms && !is_slow {
            let over = ends - granted_ms;
            return self.fail(|| format!("[I3] dev-{device} may run {} for {over} ms more than granted", kept.name));
        }
        let holder = Holder { device, life, fence: right.fence };
        if let Some(before) = self.leases.holders.insert((workload, kept.name.clone()), holder) {
            let is_same = (before.device, before.life) == (device, life);
            if !is_same {
                self.leases.moves += 1;
            }
            if right.fence < before.fence || (right.fence == before.fence && !is_same) {
                let (old, new) = (before.fence, right.fence);
                return self.fail(|| format!("[I3] {} goes on under fence {new:?} after {old:?}", kept.name));
            }
        }
        self.leases.rights += 1;
        self.judge_alone(device, workload, &kept.name);
    }

    /// At a moment at which an exclusive work begins to have effects, it has none anywhere else.
    pub fn judge_alone(&mut self, device: usize, workload: WorkloadId, name: &str) {
        let is_slow = |world: &Self, index: usize| {
            let node = &world.devices[index];
            world.now < node.ledger.too_slow_until || node.drift_ppm() < -i64::from(DRIFT_PPM_MAX)
        };
        if is_slow(self, device) {
            return;
        }
        for other in 0..self.devices.len() {
            if other == device || is_slow(self, other) {
                continue;
            }
            let node = &self.devices[other];
            // What was not exclusive when it was started goes on where it is until its device hears of the change.
            let of_work = |instance: &&Instance| {
                instance.kept.core.workload == workload
                    && instance.kept.name == name
                    && matches!(instance.kept.policy, Policy::Exclusive(_))
            };
            let mut running = node.runtime.instances.values().filter(of_work);
            if running.any(|instance| executes(node, self.now, &instance.terms)) {
                return self.fail(|| format!("[I3] workload {workload:?} runs on dev-{device} and on dev-{other}"));
            }
        }
    }

    /// A process goes on after it stood still: whatever of its exclusive work was not cut has effects again.
    pub fn judge_resumed(&mut self, device: usize) {
        let node = &self.devices[device];
        let exclusive = |instance: &&Instance| matches!(instance.kept.policy, Policy::Exclusive(_));
        let of_node = node.runtime.instances.values().filter(exclusive);
        let running: Vec<(WorkloadId, String)> = of_node
            .filter(|instance| executes(node, self.now, &instance.terms))
            .map(|instance| (instance.kept.core.workload, instance.kept.name.clone()))
            .collect();
        running.into_iter().for_each(|(workload, name)| self.judge_alone(device, workload, &name));
    }

    /// What a component of this boot is told about the fence of another never goes back.
    pub fn judge_fence_told(&mut self, device: usize, payload: &[u8]) {
        let Some((workload, fence)) = fence_of(payload) else { return };
        let before = self.devices[device].ledger.told.insert(workload, fence);
        if before.is_some_and(|before| before > fence) {
            self.fail(|| format!("[I3] dev-{device} took {fence:?} of {workload:?} after {before:?}"));
        }
    }
}

const MARK: &[u8] = b"fence ";

/// What an exclusive component emits: under which right it does so.
pub fn payload_of(workload: WorkloadId, terms: &Terms) -> Vec<u8> {
    match terms.grant {
        Some(right) => {
            format!("fence {} {} {}", workload.0, right.fence.0.incarnation(), right.fence.0.counter()).into_bytes()
        }
        None => b"sunny".to_vec(),
    }
}

fn fence_of(payload: &[u8]) -> Option<(WorkloadId, Fence)> {
    let text = std::str::from_utf8(payload.strip_prefix(MARK)?).ok()?;
    let mut numbers = text.split(' ').map(|word| word.parse::<u64>().ok());
    let (workload, incarnation, counter) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let order = wire::id::Order::new(u32::try_from(incarnation).ok()?, counter)?;
    Some((WorkloadId(u32::try_from(workload).ok()?), Fence(order)))
}
