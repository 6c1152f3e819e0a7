//! When faults come, how long they last, and how they end. What each does when it strikes is in `strike`.
//!
//! A fault is counted where it bites, not where it was planned: one that hits nobody has shown nothing.
use super::fault::Fault;
use super::network::Client;
use super::world::{Event, Phase, World};
use wire::hello::ResetCause;

/// Mean pause between two faults of the whole world in a short run.
const PAUSE_MS: u64 = 45_000;
/// Faults per device and day in a long one.
const PER_DEVICE_DAY: u64 = 24;
/// How long a fault lasts; short ones are the usual ones.
pub const DURATIONS_MS: [u64; 6] = [2_000, 8_000, 30_000, 60_000, 180_000, 900_000];
/// So many faults of a thousand last for hours in a long run.
const LONG_PER_MILLE: u64 = 15;
const LONG_MS: [u64; 3] = [3_600_000, 4 * 3_600_000, 12 * 3_600_000];
/// Trouble seldom comes alone.
const SECOND_PER_MILLE: u64 = 200;
/// A fault that is over still counts as recent for so long.
const RECENT_MS: u64 = 60_000;
/// Which directions are stalled: up, down.
pub const BOTH: [bool; 2] = [true, true];
pub const UP: [bool; 2] = [true, false];
const DOWN: [bool; 2] = [false, true];

impl World<'_> {
    pub fn fault_turn(&mut self) {
        if self.phase != Phase::Safety {
            return;
        }
        let device = self.weather.index(self.devices.len());
        let count = if self.weather.chance(SECOND_PER_MILLE) { 2 } else { 1 };
        for _ in 0..count {
            if let Some(fault) = self.weather.pick(&Fault::ALL).copied() {
                self.befall(fault, device);
            }
        }
        let mean = if self.options.is_long {
            86_400_000 / PER_DEVICE_DAY / (self.devices.len() as u64).max(1)
        } else {
            PAUSE_MS
        };
        let pause = self.weather.between(mean / 10, mean * 2 - mean / 10);
        self.after(pause, Event::Fault);
    }

    /// One fault of the schedule, unless a smaller run leaves it out.
    fn befall(&mut self, fault: Fault, device: usize) {
        let number = self.counts.strikes;
        self.counts.strikes += 1;
        // Its chances are drawn apart, so that leaving it out changes no other.
        let mut own = self.weather.fork();
        if !self.options.allowed.contains(fault) || !self.options.window.contains(number) {
            return;
        }
        std::mem::swap(&mut self.fate, &mut own);
        self.recent[fault as usize] = Some(self.now);
        self.strike(fault, device);
        std::mem::swap(&mut self.fate, &mut own);
    }

    /// A fault with a length.
    pub fn lasts(&mut self, fault: Fault, device: usize) -> u64 {
        let ms = self.duration_ms();
        self.lasts_for(fault, device, ms);
        ms
    }

    pub fn lasts_for(&mut self, fault: Fault, device: usize, ms: u64) {
        let number = self.next_fault;
        self.next_fault += 1;
        self.active.insert(number, (fault, device));
        self.say(|_| format!("-- {fault:?} at dev-{device} for {} s", ms / 1000));
        self.after(ms, Event::Heal { number });
    }

    pub fn duration_ms(&mut self) -> u64 {
        let is_long = self.options.is_long && self.fate.chance(LONG_PER_MILLE);
        let of: &[u64] = if is_long { &LONG_MS } else { &DURATIONS_MS };
        let longest = self.fate.pick(of).copied().unwrap_or(1_000);
        self.fate.between(longest / 2, longest)
    }

    pub fn at_once(&mut self, fault: Fault, device: usize) {
        self.counts.hit(fault);
        self.say(|_| format!("-- {fault:?} at dev-{device}"));
    }

    /// The kinds that act now, or did a moment ago.
    pub fn faults_about(&self) -> impl Iterator<Item = Fault> {
        let is_recent = |fault: Fault| self.recent[fault as usize].is_some_and(|at| self.now - at < RECENT_MS);
        let is_active = move |fault: Fault| self.active.values().any(|(active, _)| *active == fault);
        Fault::ALL.into_iter().filter(move |fault| is_recent(*fault) || is_active(*fault))
    }

    pub fn heal(&mut self, number: u32) {
        let Some((fault, device)) = self.active.remove(&number) else { return };
        let client = Client::Device(device);
        let trouble = &mut self.devices[device].trouble;
        match fault {
            Fault::LinkStall | Fault::LinkUpLost | Fault::LinkDownLost | Fault::SwizzleClog => {
                self.unstall(client, ways(fault));
            }
            Fault::HubLinkStall => self.unstall(Client::Hub, BOTH),
            Fault::LinkSlow => self.links.entry(client).or_default().slow -= 1,
            Fault::HubLinkSlow => self.links.entry(Client::Hub).or_default().slow -= 1,
            Fault::LinkChaos => self.links.entry(client).or_default().chaos -= 1,
            Fault::LinkTwice => self.links.entry(client).or_default().twice -= 1,
            Fault::CommitSlow => self.hub.commit_slow -= 1,
            Fault::DiskFull => self.hub.disk_full -= 1,
            Fault::FlashFull => trouble.flash_full -= 1,
            Fault::FetchFails => trouble.fetch_fails -= 1,
            Fault::FetchWrong => trouble.fetch_wrong -= 1,
            Fault::StartFails => trouble.start_fails -= 1,
            Fault::Trap => trouble.trap -= 1,
            Fault::Hang => trouble.hang -= 1,
            Fault::CrashLoop => self.crash_loops.retain(|(of, _)| *of != number),
            Fault::SecondHub => self.rival_ends(),
            Fault::HubPause => self.hub_resumes(),
            Fault::DevicePause => self.device_resumes(device),
            Fault::ClockDrift => self.drift_ends(device),
            _ => {}
        }
    }

    /// Everything that can be repaired is.
    pub fn heal_all(&mut self) {
        let numbers: Vec<u32> = self.active.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.heal(number));
        self.hub.kill = None;
        self.hub_start();
        for device in 0..self.devices.len() {
            self.devices[device].trouble.cut_in_write = None;
            self.devices[device].trouble.crashes_to_come = 0;
            self.device_power_on(device, ResetCause::PowerOn);
        }
    }
}

pub fn ways(fault: Fault) -> [bool; 2] {
    match fault {
        Fault::LinkUpLost => UP,
        Fault::LinkDownLost => DOWN,
        _ => BOTH,
    }
}
