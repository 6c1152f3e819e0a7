//! When faults come, what they do to the world, and how they end.
//!
//! A fault is counted where it bites, not where it was planned: one that hits nobody has shown nothing.
use super::fault::Fault;
use super::network::Client;
use super::oracle::Change;
use super::record::Set;
use super::signature::HashSigner;
use super::world::{Event, FLEET, World};
use agent_nostd::machine::port::{Input, JournalKey};
use wire::desired::Header;
use wire::hello::ResetCause;
use wire::sign::{PublicKey, Sign};

/// Mean pause between two faults of the whole world.
const PAUSE_MS: u64 = 45_000;
/// How long a fault lasts; short ones are the usual ones.
const DURATIONS_MS: [u64; 6] = [2_000, 8_000, 30_000, 60_000, 180_000, 900_000];
/// Which directions are stalled: up, down.
const BOTH: [bool; 2] = [true, true];
const UP: [bool; 2] = [true, false];
const DOWN: [bool; 2] = [false, true];

impl World<'_> {
    pub fn fault_turn(&mut self) {
        if self.phase != super::world::Phase::Safety {
            return;
        }
        let kinds = self.options.allowed.list();
        let chosen = self.fate.pick(&kinds).copied();
        let device = self.fate.index(self.devices.len());
        if let Some(fault) = chosen {
            self.strike(fault, device);
            // Trouble seldom comes alone.
            if self.fate.chance(200)
                && let Some(second) = self.fate.pick(&kinds).copied()
            {
                self.strike(second, device);
            }
        }
        let pause = self.fate.between(PAUSE_MS / 10, PAUSE_MS * 2);
        self.after(pause, Event::Fault);
    }

    /// A fault with a length.
    fn lasts(&mut self, fault: Fault, device: usize) {
        let number = self.next_fault;
        self.next_fault += 1;
        self.active.insert(number, (fault, device));
        let longest = self.fate.pick(&DURATIONS_MS).copied().unwrap_or(1_000);
        let ms = self.fate.between(longest / 2, longest);
        self.say(|_| format!("-- {fault:?} at dev-{device} for {} s", ms / 1000));
        self.after(ms, Event::Heal { number });
    }

    fn at_once(&mut self, fault: Fault, device: usize) {
        self.counts.hit(fault);
        self.say(|_| format!("-- {fault:?} at dev-{device}"));
    }

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
            Fault::HubCrash => {
                self.hub_crash();
                let pause = self.fate.pick(&DURATIONS_MS).copied().unwrap_or(1_000);
                self.after(pause, Event::HubStart);
            }
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
                self.devices[device].seen.crashes += 1;
                self.device_power_off(device, false);
                let pause = self.fate.between(200, 5_000);
                self.after(pause, Event::PowerOn { device, reset: ResetCause::Panic });
            }
            Fault::PowerCut if is_on => {
                self.at_once(fault, device);
                self.device_power_off(device, true);
                let pause = self.fate.pick(&DURATIONS_MS).copied().unwrap_or(1_000);
                self.after(pause, Event::PowerOn { device, reset: ResetCause::PowerOn });
            }
            Fault::PowerCutInWrite if is_on => self.devices[device].trouble.cut_in_write = true,
            Fault::AgentCrash | Fault::PowerCut | Fault::PowerCutInWrite => {}
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
            Fault::Hang => {
                self.devices[device].trouble.hang += 1;
                self.lasts(fault, device);
            }
            Fault::LogStorm => self.log_storm(device),
            Fault::Replay => self.replay(device),
            Fault::Equivocation => self.forge(device, fault),
            Fault::Forgery => self.forge(device, fault),
            Fault::Moves => {
                let step = i32::try_from(self.fate.below(20_000_000)).unwrap_or(0) - 10_000_000;
                let node = &mut self.devices[device];
                node.position.latitude_e7 = (node.position.latitude_e7 + step).clamp(400_000_000, 600_000_000);
                let position = node.position;
                self.at_once(fault, device);
                self.tell(device, Input::Position(Some(position)));
            }
        }
    }

    pub fn heal(&mut self, number: u32) {
        let Some((fault, device)) = self.active.remove(&number) else { return };
        let client = Client::Device(device);
        let trouble = &mut self.devices[device].trouble;
        match fault {
            Fault::LinkStall | Fault::LinkUpLost | Fault::LinkDownLost => self.unstall(client, ways(fault)),
            Fault::HubLinkStall => self.unstall(Client::Hub, BOTH),
            Fault::LinkSlow => self.links.entry(client).or_default().slow -= 1,
            Fault::LinkChaos => self.links.entry(client).or_default().chaos -= 1,
            Fault::CommitSlow => self.hub.commit_slow -= 1,
            Fault::DiskFull => self.hub.disk_full -= 1,
            Fault::FlashFull => trouble.flash_full -= 1,
            Fault::FetchFails => trouble.fetch_fails -= 1,
            Fault::FetchWrong => trouble.fetch_wrong -= 1,
            Fault::StartFails => trouble.start_fails -= 1,
            Fault::Trap => trouble.trap -= 1,
            Fault::Hang => {
                trouble.hang -= 1;
            }
            _ => {}
        }
    }

    /// Everything that can be repaired is.
    pub fn heal_all(&mut self) {
        let numbers: Vec<u32> = self.active.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.heal(number));
        self.hub_start();
        for device in 0..self.devices.len() {
            self.devices[device].trouble.cut_in_write = false;
            self.device_power_on(device, ResetCause::PowerOn);
        }
    }

    fn rot(&mut self, device: usize) {
        let mut random = self.devices[device].random.fork();
        let Some((key, was_truth)) = self.devices[device].flash.rot(&mut random) else { return };
        self.at_once(Fault::FlashRot, device);
        if was_truth && key == JournalKey::Accepted {
            // The one way in which the accepted revision may go back: the cells that held it changed.
            self.devices[device].seen.forget_floor();
            self.judge_flash(device, Change::Rot);
        }
    }

    /// An older set that this device held once.
    fn replay(&mut self, device: usize) {
        let history: Vec<Vec<u8>> = self.devices[device].seen.frames.clone();
        if let Some(payload) = self.fate.pick(&history).cloned()
            && self.whisper(device, payload)
        {
            self.at_once(Fault::Replay, device);
        }
    }

    /// Another body: signed by the hub's key under the revision that the device holds, or by a stranger under a higher one.
    fn forge(&mut self, device: usize, fault: Fault) {
        let Some((_, held)) = self.devices[device].flash.value(JournalKey::Accepted).and_then(Set::of_journal) else {
            return;
        };
        if self.devices[device].seen.told() != Some(held.revision) {
            return;
        }
        let stranger = HashSigner(PublicKey(self.fate.bytes()));
        let (signer, revision): (&dyn Sign, _) = match fault {
            Fault::Equivocation => (&*self.ground.signer, held.revision),
            _ => match held.revision.0.next() {
                Some(next) => (&stranger, wire::Revision(next)),
                None => return,
            },
        };
        // An empty set that is not the one held: nothing would run.
        let body: &[u8] = if held.records.is_empty() { return } else { &[0] };
        let limits = wire::desired::ClassLimits { records: 1, memory_bytes: 1 };
        let signed = Header::of(revision, body, limits).and_then(|h| h.sign(signer, FLEET, self.ids[device]));
        let mut buffer = [0; 512];
        let Ok(signed) = signed else { return };
        let Ok(frame) = signed.encode(&mut buffer, body).map(|frame| frame.to_vec()) else { return };
        if self.whisper(device, frame) {
            self.at_once(fault, device);
        }
    }
}

fn ways(fault: Fault) -> [bool; 2] {
    match fault {
        Fault::LinkUpLost => UP,
        Fault::LinkDownLost => DOWN,
        _ => BOTH,
    }
}
