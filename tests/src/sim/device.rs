//! One simulated device: the real agent machine between doubles of clock, flash, artifact store and runtime.
//!
//! Only plain state and the translation of effects live here; what the world does about them is in `shell`.
use super::adversary::Tape;
use super::flash::Flash;
use super::lease::Ledger;
use super::oracle::Seen;
use super::random::Random;
use super::record::Kept;
use super::runtime::Runtime;
use super::tries::Trials;
use super::world::Event;
use agent_nostd::machine::Agent;
use agent_nostd::machine::port::{
    Buffers, Config, Content, Effect, JournalKey, KEEP_ALIVE, LaunchId, Quality, Restored, SET_OVERHEAD_BYTES, Source,
    Subscription, Terms, Ticket, Trigger,
};
use agent_nostd::machine::random::Random as MachineRandom;
use agent_nostd::machine::time::Instant;
use std::collections::BTreeSet;
use std::time::Duration;
use wire::dalek::{Ed25519Key, ExchangeSecret};
use wire::hello::{Architecture, Capabilities, DeviceClass, Features, ResetCause};
use wire::position::Position;
use wire::record::CapabilitySet;
use wire::sign::{PublicKey, Sign, Verify};
use wire::topic::{TokenId, Up};
use wire::{DeviceId, Digest, PairKey};

/// Components that a device runs at the same time.
pub const SLOTS: usize = 16;
pub const BODY_BYTES: usize = 4096;
const SET_BYTES: usize = BODY_BYTES + SET_OVERHEAD_BYTES;
const OUTGOING_BYTES: usize = 4096;
const RING_BYTES: usize = 3072;
const TELEMETRY_BYTES: usize = 1024;
/// Memory of one boot.
pub const BOOT_BYTES: usize = 3 * SET_BYTES + OUTGOING_BYTES + 3 * RING_BYTES + 3 * TELEMETRY_BYTES;
pub const PACKET_BYTES_MAX: u32 = 16 * 1024;
/// Effects of one poll until nothing is left: more is a machine that goes round in circles.
const EFFECTS_MAX: usize = 2_000;
/// Local clocks do not begin at zero.
const CLOCK_START_MS: u64 = 5_000;
/// The double cuts at once; a shell never does.
const STOP_LATENCY: Duration = Duration::from_millis(100);

/// How far a device is on its way into the fleet.
#[derive(Clone, Debug)]
pub enum Join {
    /// Nobody has made a token for it yet.
    Outside,
    Token {
        id: TokenId,
        password: String,
        nonce: [u8; 16],
    },
    Joined {
        password: String,
    },
}

/// What is wrong with a device just now; counted, because faults overlap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    pub flash_full: u32,
    pub fetch_fails: u32,
    pub fetch_wrong: u32,
    pub start_fails: u32,
    pub trap: u32,
    pub hang: u32,
    /// After so many more writes to flash, the next one is the last thing that this boot does.
    pub cut_in_write: Option<u64>,
    /// The agent dies soon after each of its next starts.
    pub crashes_to_come: u64,
    /// Its process stands still.
    pub paused: u32,
}

/// A device's own clock, as a line through the true time.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    at_ms: u64,
    shows_ms: u64,
    drift_ppm: i64,
}

const PPM: u64 = 1_000_000;

impl Clock {
    fn rate(self) -> u64 {
        PPM.saturating_add_signed(self.drift_ppm).max(1)
    }

    fn read(self, now: u64) -> u64 {
        self.shows_ms + now.saturating_sub(self.at_ms) * self.rate() / PPM
    }

    /// The first moment at which it shows at least this.
    fn when(self, shows_ms: u64) -> u64 {
        let passed = shows_ms.saturating_sub(self.shows_ms).checked_mul(PPM).map(|passed| passed.div_ceil(self.rate()));
        passed.map_or(u64::MAX, |passed| self.at_ms.saturating_add(passed))
    }
}

/// An effect that outlives the machine's buffers.
#[derive(Clone, Debug)]
pub enum Action {
    Connect { will: Vec<u8> },
    Disconnect,
    Subscribe(Subscription),
    Publish { topic: Up, payload: Vec<u8>, quality: Quality, ticket: Ticket },
    Persist { ticket: Ticket, key: JournalKey, value: Vec<u8> },
    Fetch { content: Content, digest: Digest, source: Source },
    Start { launch: LaunchId, kept: Kept, terms: Terms },
    Extend { launch: LaunchId, terms: Terms },
    Stop { launch: LaunchId, grace: Duration },
    Activate { launch: LaunchId },
    Deliver { launch: LaunchId, topic: String, payload: Vec<u8> },
    Collect,
}

pub struct Device<'g> {
    pub name: String,
    pub id: DeviceId,
    pub identity: Ed25519Key,
    pub exchange: ExchangeSecret,
    /// Of its oscillator, without faults.
    pub own_drift_ppm: i64,
    clock: Clock,
    pub position: Position,
    pub join: Join,
    pub agent: Option<Agent<'g, SLOTS>>,
    /// Counts power-ons and power-offs: what was under way for an earlier life does not reach the next.
    pub life: u32,
    pub wake_ms: Option<u64>,
    pub flash: Flash,
    pub store: BTreeSet<Digest>,
    pub runtime: Runtime,
    pub connection: Option<u32>,
    pub trouble: Trouble,
    pub random: Random,
    pub seen: Seen,
    pub tape: Tape,
    pub ledger: Ledger,
    pub trials: Trials,
    pub samples: super::sample::Ledger,
    /// What it would have been told while its process stood still.
    pub held: Vec<Event>,
}

/// What is the same for each boot of a device.
#[derive(Clone, Copy)]
pub struct Setting<'g> {
    pub fleet: &'g str,
    pub pair_key: &'g PairKey,
    pub hub_key: PublicKey,
    pub verifier: &'g (dyn Verify + Sync),
}

pub fn capabilities() -> Capabilities<'static> {
    let interfaces = [CapabilitySet::EMIT, CapabilitySet::STATE, CapabilitySet::RANDOM, CapabilitySet::TELEMETRY];
    Capabilities {
        class: DeviceClass::Gateway,
        architecture: Architecture::X86_64,
        agent_version: "0.1.0-sim",
        features: Features::FUNCTION.union(Features::FETCH_HTTP).union(Features::BOOT_CLOCK),
        interfaces: interfaces.into_iter().fold(CapabilitySet::LOG, CapabilitySet::union),
        records: SLOTS as u16,
        body_bytes: BODY_BYTES as u32,
        memory_bytes: 2 * 1024 * 1024,
        storage_bytes: 64 * 1024 * 1024,
    }
}

impl<'g> Device<'g> {
    pub fn new(index: usize, identity: &[u8; 32], exchange: [u8; 32], mut random: Random) -> Self {
        let identity = Ed25519Key::from_seed(identity);
        let id = DeviceId::of_key(&identity.public_key().0);
        let longitude_e7 = i32::try_from(random.below(400_000_000)).unwrap_or(0);
        let latitude_e7 = 400_000_000 + i32::try_from(random.below(200_000_000)).unwrap_or(0);
        // A crystal, an oscillator as bad as leases allow for, and now and then one that is worse.
        let most_ppm = match random.below(10) {
            0 => 200_000,
            1..=3 => 50_000,
            _ => 200,
        };
        let own_drift_ppm = i64::try_from(random.below(2 * most_ppm)).unwrap_or(0) - most_ppm as i64;
        Self {
            name: format!("dev-{index}"),
            id,
            identity,
            exchange: ExchangeSecret::from_seed(exchange),
            own_drift_ppm,
            clock: Clock { drift_ppm: own_drift_ppm, ..Clock::default() },
            position: Position { longitude_e7, latitude_e7, uncertainty_m: 50 },
            join: Join::Outside,
            agent: None,
            life: 0,
            wake_ms: None,
            flash: Flash::default(),
            store: BTreeSet::new(),
            runtime: Runtime::default(),
            connection: None,
            trouble: Trouble::default(),
            random,
            seen: Seen::default(),
            tape: Tape::default(),
            ledger: Ledger::default(),
            trials: Trials::default(),
            samples: super::sample::Ledger::default(),
            held: Vec::new(),
        }
    }

    /// Builds the machine from what the flash holds.
    pub fn power_on(&mut self, now: u64, setting: Setting<'g>, memory: &'g mut [u8], reset: ResetCause) {
        self.life += 1;
        self.clock = Clock { at_ms: now, shows_ms: CLOCK_START_MS, drift_ppm: self.clock.drift_ppm };
        self.wake_ms = None;
        self.connection = None;
        self.trouble.cut_in_write = None;
        self.ledger.power_on(now);
        self.trials.clear();
        self.runtime.clear();
        self.flash.mount();
        let (current, memory) = memory.split_at_mut(SET_BYTES);
        let (last_good, memory) = memory.split_at_mut(SET_BYTES);
        let (incoming, memory) = memory.split_at_mut(SET_BYTES);
        let (outgoing, memory) = memory.split_at_mut(OUTGOING_BYTES);
        let (logs, memory) = memory.split_at_mut(RING_BYTES);
        let (events, memory) = memory.split_at_mut(RING_BYTES);
        let (alarms, memory) = memory.split_at_mut(TELEMETRY_BYTES);
        let (states, memory) = memory.split_at_mut(TELEMETRY_BYTES);
        let (metrics, inputs) = memory.split_at_mut(TELEMETRY_BYTES);
        let config = Config {
            fleet: setting.fleet,
            device: self.id,
            pair_key: setting.pair_key,
            hub_key: setting.hub_key,
            verifier: setting.verifier,
            capabilities: capabilities(),
            packet_bytes_max: PACKET_BYTES_MAX,
            reset,
            last_end: None,
            keep_alive: KEEP_ALIVE,
            drift_ppm: wire::lease::DRIFT_PPM_MAX,
            stop_latency: STOP_LATENCY,
            random: MachineRandom::new(self.random.bytes()),
        };
        let restored = Restored {
            accepted: self.flash.value(JournalKey::Accepted),
            last_good: self.flash.value(JournalKey::LastGood),
            boot: self.flash.value(JournalKey::Boot),
            attempts: self.flash.value(JournalKey::Attempts),
            clock: self.flash.value(JournalKey::Clock),
            alarms: self.flash.value(JournalKey::Alarms),
        };
        let buffers = Buffers { current, last_good, incoming, outgoing, logs, events, alarms, states, metrics, inputs };
        self.agent = Some(Agent::new(self.local(now), config, buffers, restored));
    }

    pub fn power_off(&mut self, now: u64) {
        self.ledger.power_off(now);
        self.life += 1;
        self.agent = None;
        self.wake_ms = None;
        self.connection = None;
        self.runtime.clear();
    }

    /// The device's own clock.
    pub fn local(&self, now: u64) -> Instant {
        Instant::from_ms(self.clock.read(now))
    }

    pub fn drift_ppm(&self) -> i64 {
        self.clock.drift_ppm
    }

    /// From now on it runs faster or slower.
    pub fn set_drift(&mut self, now: u64, drift_ppm: i64) {
        self.ledger.clock_changes(now, self.clock.drift_ppm, drift_ppm);
        self.clock = Clock { at_ms: now, shows_ms: self.clock.read(now), drift_ppm };
    }

    /// The first moment at which the device's own clock shows at least `local`.
    pub fn world_ms(&self, local: Instant) -> u64 {
        self.clock.when(local.as_ms())
    }

    /// Everything that the machine wants now.
    pub fn poll(&mut self, now: u64) -> Result<Vec<Action>, String> {
        let local = self.local(now);
        let Some(agent) = self.agent.as_mut() else { return Ok(Vec::new()) };
        let mut actions = Vec::new();
        while let Some(effect) = agent.poll(local) {
            actions.push(owned(effect));
            if actions.len() > EFFECTS_MAX {
                let last = actions.last();
                return Err(format!(
                    "{} does not come to rest: {EFFECTS_MAX} effects at once, last {last:?}",
                    self.name
                ));
            }
        }
        Ok(actions)
    }
}

fn owned(effect: Effect<'_>) -> Action {
    match effect {
        Effect::Connect { will } => Action::Connect { will: will.to_vec() },
        Effect::Disconnect => Action::Disconnect,
        Effect::Subscribe(subscription) => Action::Subscribe(subscription),
        Effect::Publish { topic, payload, quality, ticket } => {
            Action::Publish { topic, payload: payload.to_vec(), quality, ticket }
        }
        Effect::Persist { ticket, key, value } => Action::Persist { ticket, key, value: value.to_vec() },
        Effect::Fetch { content, digest, bytes: _, source } => Action::Fetch { content, digest, source },
        Effect::Start { launch, record, terms } => Action::Start { launch, kept: Kept::of(&record), terms },
        Effect::Extend { launch, terms } => Action::Extend { launch, terms },
        Effect::Stop { launch, grace } => Action::Stop { launch, grace },
        Effect::Activate { launch, trigger: Trigger::Timer } => Action::Activate { launch },
        Effect::Deliver { launch, topic, payload } => {
            Action::Deliver { launch, topic: topic.to_owned(), payload: payload.to_vec() }
        }
        Effect::Collect => Action::Collect,
    }
}
