//! What each kind of fault does to the world when it strikes.
//!
//! It may change doubles and what is on its way between them, never the code under test.
use super::fault::Fault;
use super::network::Client;
use super::oracle::Change;
use super::task::ARTIFACTS;
use super::trouble::{BOTH, DURATIONS_MS, UP, ways};
use super::world::{Event, World};
use agent_nostd::machine::port::{Input, JournalKey};
use wire::hello::ResetCause;

/// A flapping link is up, then down, for so long each.
const FLAP_MS: u64 = 5_000;
/// Between two backups, about.
const BACKUP_PAUSE_MS: u64 = 4 * 3_600_000;
/// Beyond what leases allow for.
const DRIFT_PPM_MAX: u64 = 200_000;
const MINUTE_MS: i64 = 60_000;
/// Steps of the hub's wall clock.
const JUMPS_MS: [i64; 6] =
    [10_000, 4 * MINUTE_MS, 10 * MINUTE_MS, 60 * MINUTE_MS, 24 * 60 * MINUTE_MS, 365 * 24 * 60 * MINUTE_MS];
const CAUSES: [ResetCause; 6] = [
    ResetCause::Unknown,
    ResetCause::BrownOut,
    ResetCause::Watchdog,
    ResetCause::Software,
    ResetCause::Pin,
    ResetCause::Panic,
];
/// Writes of the journal until the one in which power fails.
const WRITES_BEFORE_CUT: u64 = 6;

/// Where the hub's process ends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    pub fault: Fault,
    /// Which of the moments around that step; the highest: after it.
    pub moment: u64,
    /// Such steps to let pass.
    pub after: u64,
}

impl World<'_> {
    pub fn strike(&mut self, fault: Fault, device: usize) {
        let client = Client::Device(device);
        let is_on = self.devices[device].agent.is_some();
        let connection = self.devices[device].connection;
        match fault {
            Fault::LinkCut => {
                if let Some(number) = connection {
                    self.at_once(fault, device);
                    self.cut(number);
                }
            }
            Fault::LinkStall | Fault::LinkUpLost | Fault::LinkDownLost => {
                if connection.is_some() {
                    self.counts.hit(fault);
                }
                self.stall(client, ways(fault));
                self.lasts(fault, device);
            }
            Fault::LinkSlow => {
                self.counts.hit(fault);
                self.links.entry(client).or_default().slow += 1;
                self.lasts(fault, device);
            }
            Fault::LinkChaos => {
                self.links.entry(client).or_default().chaos += 1;
                self.lasts(fault, device);
            }
            Fault::LinkTwice => {
                self.links.entry(client).or_default().twice += 1;
                self.lasts(fault, device);
            }
            Fault::LinkHalfOpen => {
                if let Some(number) = connection
                    && self.forget_connection(number)
                {
                    self.at_once(fault, device);
                }
            }
            Fault::LinkFlaps => {
                let until = self.now + self.duration_ms().min(1_800_000);
                self.say(|world| format!("-- {fault:?} at dev-{device} for {} s", (until - world.now) / 1000));
                self.flap(device, until, false);
            }
            Fault::SwizzleClog => self.swizzle(),
            Fault::BrokerRestart | Fault::BrokerForgets | Fault::BrokerOldCopy => {
                if self.broker.is_up {
                    self.say(|_| format!("-- {fault:?}"));
                    let down_ms = self.fate.between(500, 60_000);
                    self.broker_restart(fault, down_ms);
                }
            }
            Fault::HubLinkCut => {
                if let Some(number) = self.hub.connection {
                    self.at_once(fault, device);
                    self.cut(number);
                }
            }
            Fault::HubLinkStall => {
                if let Some(connection) = self.hub.connection {
                    self.counts.hit(fault);
                    self.after(30_000, Event::HubSilence { connection });
                }
                self.stall(Client::Hub, BOTH);
                self.lasts(fault, device);
            }
            Fault::HubLinkSlow => {
                self.counts.hit(fault);
                self.links.entry(Client::Hub).or_default().slow += 1;
                self.lasts(fault, device);
            }
            Fault::HubCrash => self.hub_crash(fault),
            Fault::HubKilledAtCommit | Fault::HubKilledAtPublish | Fault::HubKilledAtAnswer => {
                let (moment, after) = (self.fate.below(4), self.fate.below(4));
                self.hub.kill = Some(Kill { fault, moment, after });
            }
            Fault::OldBackup => self.restore(),
            Fault::SecondHub => self.rival_comes(),
            Fault::HubPause => {
                if self.hub.is_up() {
                    self.counts.hit(fault);
                }
                self.hub.paused += 1;
                self.paused += 1;
                self.stall(Client::Hub, UP);
                self.lasts(fault, device);
            }
            Fault::HubClockJump => self.jump(),
            Fault::CommitSlow => {
                self.hub.commit_slow += 1;
                self.lasts(fault, device);
            }
            Fault::DiskFull => {
                self.hub.disk_full += 1;
                self.lasts(fault, device);
            }
            Fault::AgentCrash if is_on => {
                self.at_once(fault, device);
                self.agent_dies(device);
            }
            Fault::AgentCrashLoop if is_on => {
                self.say(|_| format!("-- {fault:?} at dev-{device}"));
                self.devices[device].trouble.crashes_to_come = self.fate.between(2, 6);
                self.counts.hit(fault);
                self.agent_dies(device);
            }
            Fault::Reset if is_on => {
                self.at_once(fault, device);
                let reset = self.fate.pick(&CAUSES).copied().unwrap_or(ResetCause::Unknown);
                if matches!(reset, ResetCause::Watchdog | ResetCause::Panic) {
                    self.devices[device].seen.crashes += 1;
                }
                self.device_power_off(device, true);
                let pause = self.fate.between(100, 3_000);
                self.after(pause, Event::PowerOn { device, reset });
            }
            Fault::PowerCut if is_on => {
                self.at_once(fault, device);
                self.device_power_off(device, true);
                let pause = self.duration_ms();
                self.after(pause, Event::PowerOn { device, reset: ResetCause::PowerOn });
            }
            Fault::PowerCutInWrite if is_on => {
                self.devices[device].trouble.cut_in_write = Some(self.fate.below(WRITES_BEFORE_CUT));
            }
            Fault::AgentCrash | Fault::AgentCrashLoop | Fault::Reset | Fault::PowerCut | Fault::PowerCutInWrite => {}
            Fault::DevicePause => {
                if is_on {
                    self.counts.hit(fault);
                }
                let node = &mut self.devices[device];
                node.trouble.paused += 1;
                node.ledger.pause(self.now);
                self.paused += 1;
                self.stall(client, UP);
                self.lasts(fault, device);
            }
            Fault::ClockDrift => {
                let ppm = i64::try_from(self.fate.below(2 * DRIFT_PPM_MAX)).unwrap_or(0);
                self.counts.hit(fault);
                self.drift(device, ppm - DRIFT_PPM_MAX as i64);
                self.lasts(fault, device);
            }
            Fault::FlashRot => self.rot(device),
            Fault::FlashFull => {
                self.devices[device].trouble.flash_full += 1;
                self.lasts(fault, device);
            }
            Fault::FetchFails => {
                self.devices[device].trouble.fetch_fails += 1;
                self.lasts(fault, device);
            }
            Fault::FetchWrong => {
                self.devices[device].trouble.fetch_wrong += 1;
                self.lasts(fault, device);
            }
            Fault::StoreLoss => {
                let node = &mut self.devices[device];
                if let Some(digest) = node.store.iter().next().copied() {
                    node.store.remove(&digest);
                    self.at_once(fault, device);
                }
            }
            Fault::StartFails => {
                self.devices[device].trouble.start_fails += 1;
                self.lasts(fault, device);
            }
            Fault::Trap => {
                self.devices[device].trouble.trap += 1;
                self.lasts(fault, device);
            }
            Fault::CrashLoop => {
                let artifact = self.fate.below(u64::from(ARTIFACTS)) as u8;
                self.crash_loops.push((self.next_fault, wire::Digest::of(&[artifact])));
                self.lasts(fault, device);
            }
            Fault::Hang => {
                self.devices[device].trouble.hang += 1;
                self.lasts(fault, device);
            }
            Fault::LogStorm => self.log_storm(device),
            Fault::Replay => self.replay(device),
            Fault::ReplayLive => self.replay_live(device),
            Fault::Equivocation | Fault::Forgery => self.forge(device, fault),
            Fault::Moves => {
                let step = i32::try_from(self.fate.below(20_000_000)).unwrap_or(0) - 10_000_000;
                let node = &mut self.devices[device];
                node.position.latitude_e7 = (node.position.latitude_e7 + step).clamp(400_000_000, 600_000_000);
                let position = node.position;
                if node.trouble.paused == 0 {
                    self.at_once(fault, device);
                    self.tell(device, Input::Position(Some(position)));
                }
            }
        }
    }

    // --- Links ---

    /// One change of a flapping link.
    pub fn flap(&mut self, device: usize, until: u64, is_down: bool) {
        let client = Client::Device(device);
        if is_down {
            self.unstall(client, BOTH);
        }
        if self.now >= until || self.phase != super::world::Phase::Safety {
            return;
        }
        if !is_down {
            self.counts.hit(Fault::LinkFlaps);
            if let Some(number) = self.devices[device].connection {
                self.cut(number);
            }
            self.stall(client, BOTH);
        }
        self.after(FLAP_MS, Event::Flap { device, until, is_down: !is_down });
    }

    /// A random subset is cut one by one, and comes back in another order.
    fn swizzle(&mut self) {
        let mut chosen: Vec<usize> = (0..self.devices.len()).collect();
        for at in (1..chosen.len()).rev() {
            let other = self.fate.index(at + 1);
            chosen.swap(at, other);
        }
        let count = 1 + self.fate.index(chosen.len());
        let mut at_ms = 0;
        let longest = self.fate.pick(&DURATIONS_MS).copied().unwrap_or(1_000);
        for device in chosen.into_iter().take(count) {
            at_ms += self.fate.between(100, 5_000);
            let ms = self.fate.between(1_000, longest.max(2_000));
            self.after(at_ms, Event::Clog { device, ms });
        }
    }

    pub fn clog(&mut self, device: usize, ms: u64) {
        if self.phase == super::world::Phase::Safety {
            self.counts.hit(Fault::SwizzleClog);
            self.stall(Client::Device(device), BOTH);
            self.lasts_for(Fault::SwizzleClog, device, ms);
        }
    }

    // --- Devices ---

    pub fn agent_dies(&mut self, device: usize) {
        self.devices[device].seen.crashes += 1;
        self.device_power_off(device, false);
        let pause = self.fate.between(200, 5_000);
        self.after(pause, Event::PowerOn { device, reset: ResetCause::Panic });
    }

    pub fn agent_dies_soon(&mut self, device: usize, life: u32) {
        if self.devices[device].life == life && self.phase == super::world::Phase::Safety {
            self.agent_dies(device);
        }
    }

    fn drift(&mut self, device: usize, ppm: i64) {
        self.devices[device].set_drift(self.now, ppm);
        if self.devices[device].trouble.paused == 0 {
            self.drive(device);
        }
    }

    pub fn drift_ends(&mut self, device: usize) {
        let ppm = self.devices[device].own_drift_ppm;
        self.drift(device, ppm);
    }

    pub fn device_resumes(&mut self, device: usize) {
        self.unstall(Client::Device(device), UP);
        self.devices[device].trouble.paused -= 1;
        self.paused -= 1;
        if self.devices[device].trouble.paused == 0 {
            if self.devices[device].agent.is_some() {
                self.devices[device].ledger.resume(self.now);
            }
            let held = std::mem::take(&mut self.devices[device].held);
            held.into_iter().for_each(|event| self.after(0, event));
            self.judge_resumed(device);
        }
    }

    fn rot(&mut self, device: usize) {
        let mut random = self.devices[device].random.fork();
        let Some((key, was_truth)) = self.devices[device].flash.rot(&mut random) else { return };
        self.at_once(Fault::FlashRot, device);
        self.devices[device].ledger.loses_a_write(self.now);
        self.samples_written(device, key, Some(Fault::FlashRot));
        if was_truth && key == JournalKey::Accepted {
            // The one way in which the accepted revision may go back: the cells that held it changed.
            self.devices[device].seen.forget_floor();
            self.judge_flash(device, Change::Rot);
        }
    }

    // --- The hub ---

    /// An old database in the place of the present one. What a device holds that it does not know is proven with the hub's
    /// signature, so that only runs with real ones have it.
    fn restore(&mut self) {
        let Some(backup) = self.backup.take().filter(|_| self.ground.is_real && self.hub.is_up()) else { return };
        self.hub_crash(Fault::OldBackup);
        self.hub.durable.restore(&backup);
        self.has_restored = true;
        // What was answered since the backup is gone, and nobody was told otherwise.
        self.operator.known.values_mut().for_each(|known| known.is_uncertain = true);
    }

    /// Once everybody has joined: a device that a restored hub does not know has to join anew.
    pub fn back_up(&mut self) {
        let has_joined = |node: &super::device::Device<'_>| matches!(node.join, super::device::Join::Joined { .. });
        if self.ground.is_real && self.phase == super::world::Phase::Safety && self.devices.iter().all(has_joined) {
            self.backup = Some(Box::new(self.hub.durable.clone()));
        }
        let pause = self.weather.between(BACKUP_PAUSE_MS / 2, BACKUP_PAUSE_MS * 2);
        self.after(pause, Event::BackUp);
    }

    pub fn hub_resumes(&mut self) {
        self.unstall(Client::Hub, UP);
        self.hub.paused -= 1;
        self.paused -= 1;
        if self.hub.paused == 0 {
            let held = std::mem::take(&mut self.hub.held);
            held.into_iter().for_each(|event| self.after(0, event));
        }
    }

    pub fn clock_shows(&mut self, offset_ms: i64) {
        self.hub.wall_offset_ms = offset_ms;
        self.hub.jumped_ms = Some(self.now);
    }

    /// The hub's wall clock shows another time; half of the times it is set right later.
    fn jump(&mut self) {
        let step = self.fate.pick(&JUMPS_MS).copied().unwrap_or(0);
        let by = if self.fate.chance(500) { step } else { -step };
        self.counts.hit(Fault::HubClockJump);
        self.say(|_| format!("-- HubClockJump by {} s", by / 1000));
        self.clock_shows(by);
        if self.fate.chance(500) {
            let pause = self.duration_ms();
            self.after(pause, Event::ClockSet);
        }
    }
}
