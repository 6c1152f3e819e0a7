//! The loop: hears the link, the clock and functions, and does what the machine says, for as long as the board has power.
//!
//! It must never wait for anything but the next of these, and feed the watchdog only after everything that was due is done.
use super::firmware::Firmware;
use super::functions::Functions;
use super::hands::{Hands, Wish};
use super::identity::{Identity, Provisioning, Seeds, hex};
use super::join::join;
use super::limits::{Borrowed, CONNECT_TIMEOUT, STOP_LATENCY};
use super::mqtt::{Client, Connect, End, Event};
use super::port::{Board, Clock, Crypto, Key, Network, Parts, Platform, Socket, Store};
use super::random::Random;
use super::transport::{Pulse, Pumped, address_for, pump, rest};
use crate::machine::Agent as Machine;
use crate::machine::port::{Buffers, Config, Inbound, Input, JournalKey, KEEP_ALIVE, Restored};
use crate::machine::random::Random as MachineRandom;
use crate::machine::time::{Duration, Instant, earliest};
use core::fmt::Write as _;
use core::future::pending;
use core::mem::MaybeUninit;
use core::pin::pin;
use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use wire::codec::WireError;
use wire::event::Level;
use wire::hello::{Capabilities, DeviceClass, Features, LastEnd};
use wire::id::DEVICE_ID_TEXT_BYTES;
use wire::lease::DRIFT_PPM_MAX;
use wire::limits::{END_TEXT_BYTES_MAX, LOG_TEXT_BYTES_MAX};
use wire::record::CapabilitySet;
use wire::sign::Sign;
use wire::topic::{Down, Topic, Up};
use wire::{DeviceId, PairKey};

/// `run` does not return.
pub type Never = core::convert::Infallible;

/// Pause when flash does not even give back what was written, before it is tried again.
const FLASH_PAUSE: Duration = Duration::from_secs(30);

/// What people hear when the link is gone.
#[derive(Debug)]
enum Lost {
    /// Could not be opened in time.
    Unreachable,
    /// The peer closed it, or the network failed.
    Closed,
    End(End),
    /// As the machine wished.
    Dropped,
    /// The machine wants another one already.
    Replaced,
}

impl core::fmt::Display for Lost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreachable => f.write_str("the broker cannot be reached"),
            Self::Closed => f.write_str("the broker closed the connection"),
            Self::End(end) => write!(f, "{end}"),
            Self::Dropped | Self::Replaced => f.write_str("the hub was not heard"),
        }
    }
}

/// The agent of a board, until its power goes. Joins first if it has to.
pub async fn run<P: Platform, const SLOTS: usize>(mut parts: Parts<'_, P>, mut memory: Borrowed<'_>) -> Never {
    let mut random = Random::new(&parts.seed.bytes);
    tell_panic(parts.board);
    let firmware = Firmware::new(parts.clock.now(), parts.updates, parts.store, parts.board.reset_cause());
    parts.board.alive_until(firmware.fed_until());
    let (identity, seeds) = identify(&mut parts, &mut random, &mut memory).await;
    let (clock, board, crypto, enrolment) = (parts.clock, parts.board, parts.crypto, parts.enrolment);
    let device = DeviceId::of_key(&crypto.signer(&seeds.identity).public_key().0);
    let token = &enrolment.token;
    // A hub whose key agrees to nothing was refused at the join; a pair key of zeros would be refused by every hub.
    let pair_key = crypto.pair_key(&seeds.exchange, &identity.hub_exchange, token.fleet, device);
    let pair_key = pair_key.unwrap_or(PairKey([0; 32]));
    let (artifact_bytes, _) = parts.store.artifact_bytes();
    let config = Config {
        fleet: token.fleet,
        device,
        pair_key: &pair_key,
        hub_key: identity.hub_signing,
        verifier: crypto,
        capabilities: capabilities::<P>(&parts, &memory, artifact_bytes, SLOTS),
        packet_bytes_max: u32::try_from(memory.receive.len()).unwrap_or(u32::MAX),
        reset: board.reset_cause(),
        last_end: board.panic_record().map(|record| LastEnd {
            address: record.address,
            text: wire::status::truncate(record.text, END_TEXT_BYTES_MAX),
        }),
        keep_alive: KEEP_ALIVE,
        drift_ppm: DRIFT_PPM_MAX,
        stop_latency: STOP_LATENCY + parts.erase,
        random: MachineRandom::new(random.array()),
    };
    board.log(Level::Info, format_args!("device {device} of fleet {} is {}", token.fleet, identity.name));
    let frame_bytes = memory.machine.outgoing.len();
    let restored = restore(parts.store, board, memory.receive, memory.send);
    let mut place = MaybeUninit::uninit();
    let machine = build::<SLOTS>(&mut place, clock.now(), config, memory.machine, restored);
    let functions = Functions::new(parts.function_bytes);
    let hands = Hands::<P>::new(
        clock,
        board,
        parts.store,
        (parts.peripherals, parts.updates, firmware),
        (token.fleet, device),
        random,
        functions,
    );
    let pulse = Pulse::new(board);
    let mut core = Core { machine, hands, pulse, frame_bytes, is_blocked: false, is_down_known: false };
    core.machine.handle(clock.now(), Input::Position(enrolment.position));
    core.tell_last_words();
    let login = Login { identity: &identity, device, broker: token.broker, may_connect: parts.seed.is_unique };
    core.drive(parts.network, &login, memory.receive, memory.send).await
}

/// Makes the machine where it stays. A call of its own, so that what making it takes of the stack is given back before anything
/// runs; moved through this future it would take twice its size of the stack for as long as the board has power.
#[inline(never)]
fn build<'p, 'b, const SLOTS: usize>(
    place: &'p mut MaybeUninit<Machine<'b, SLOTS>>,
    now: Instant,
    config: Config<'b>,
    buffers: Buffers<'b>,
    restored: Restored<'_>,
) -> &'p mut Machine<'b, SLOTS> {
    Machine::new_in(place, now, config, buffers, restored)
}

/// For whoever is at the console; the hub hears of it with the first lines.
fn tell_panic<B: Board>(board: &B) {
    board.log(Level::Info, format_args!("the agent starts: {:?}", board.reset_cause()));
    if let Some(record) = board.panic_record() {
        board.log(Level::Error, format_args!("it ended at {:#010x}: {}", record.address, record.text));
    }
}

/// The identity of this provisioning, from flash or from the hub.
async fn identify<P: Platform>(
    parts: &mut Parts<'_, P>,
    random: &mut Random,
    memory: &mut Borrowed<'_>,
) -> (Identity, Seeds) {
    let mut pulse = Pulse::new(parts.board);
    loop {
        let is_own = parts.seed.is_own;
        let error = match Provisioning::open(parts.store, parts.enrolment.token.id, || is_own.then(|| random.array())) {
            Ok(mut provisioning) => {
                let seeds = provisioning.seeds(&parts.enrolment);
                let identity = match provisioning.identity.take() {
                    Some(identity) => identity,
                    None => join(parts, &provisioning, random, memory.receive, memory.send).await,
                };
                return (identity, seeds);
            }
            Err(error) => error,
        };
        // Joining anew would make another device of it.
        parts
            .board
            .log(Level::Error, format_args!("the flash does not say who this device is: {error:?}; trying again"));
        rest(parts.clock, parts.board, &mut pulse, parts.clock.now().after(FLASH_PAUSE)).await;
    }
}

fn capabilities<P: Platform>(
    parts: &Parts<'_, P>,
    memory: &Borrowed<'_>,
    storage_bytes: u64,
    slots: usize,
) -> Capabilities<'static> {
    use super::port::Peripherals;
    let mut features = Features::FETCH_CHUNKS;
    if parts.board.has_boot_clock() {
        features = features.union(Features::BOOT_CLOCK);
    }
    let mut interfaces = CapabilitySet::default();
    if cfg!(feature = "wasm") {
        features = features.union(Features::FUNCTION).union(Features::FUNCTION_PAGE_SIZES);
        interfaces = CapabilitySet::LOG
            .union(CapabilitySet::EMIT)
            .union(CapabilitySet::STATE)
            .union(CapabilitySet::RANDOM)
            .union(CapabilitySet::TELEMETRY)
            .union(parts.peripherals.interfaces());
    }
    Capabilities {
        class: DeviceClass::Mcu,
        architecture: parts.board.architecture(),
        agent_version: env!("CARGO_PKG_VERSION"),
        features,
        interfaces,
        records: u16::try_from(slots).unwrap_or(u16::MAX),
        // Lowered by the machine to what its buffers hold.
        body_bytes: u32::try_from(memory.receive.len()).unwrap_or(u32::MAX),
        memory_bytes: if cfg!(feature = "wasm") { parts.function_bytes } else { 0 },
        storage_bytes,
    }
}

/// What the journal held: the accepted set in one buffer, everything else in the other.
fn restore<'m, S: Store, B: Board>(store: &mut S, board: &B, set: &'m mut [u8], rest: &'m mut [u8]) -> Restored<'m> {
    let mut load = |key: JournalKey, into: &mut [u8]| match store.load(Key::Journal(key), into) {
        Ok(length) => length,
        Err(error) => {
            // As if it had never been written: what that means is the machine's to say.
            board.log(Level::Error, format_args!("flash gives no {key:?}: {error:?}"));
            None
        }
    };
    let accepted = load(JournalKey::Accepted, set).unwrap_or(0);
    let mut restored =
        Restored { accepted: set.get(..accepted).filter(|value| !value.is_empty()), ..Restored::default() };
    let mut room = rest;
    for key in [JournalKey::LastGood, JournalKey::Boot, JournalKey::Attempts, JournalKey::Clock, JournalKey::Alarms] {
        let length = load(key, room).unwrap_or(0).min(room.len());
        let (value, left) = room.split_at_mut(length);
        room = left;
        let value: Option<&[u8]> = if value.is_empty() { None } else { Some(value) };
        match key {
            JournalKey::Accepted => {}
            JournalKey::LastGood => restored.last_good = value,
            JournalKey::Boot => restored.boot = value,
            JournalKey::Attempts => restored.attempts = value,
            JournalKey::Clock => restored.clock = value,
            JournalKey::Alarms => restored.alarms = value,
        }
    }
    restored
}

/// With what this device connects.
struct Login<'a> {
    identity: &'a Identity,
    device: DeviceId,
    broker: &'a str,
    may_connect: bool,
}

/// The machine and its hands.
struct Core<'m, 'a, P: Platform, const SLOTS: usize> {
    machine: &'m mut Machine<'a, SLOTS>,
    hands: Hands<'a, P>,
    pulse: Pulse,
    /// The longest payload that the machine may want to send.
    frame_bytes: usize,
    /// The machine is not asked for more until something was written.
    is_blocked: bool,
    /// People were told that there is no connection.
    is_down_known: bool,
}

impl<P: Platform, const SLOTS: usize> Core<'_, '_, P, SLOTS> {
    fn now(&self) -> Instant {
        self.hands.clock.now()
    }

    /// The hub hears of a panic as of any line of the agent.
    fn tell_last_words(&mut self) {
        let Some(record) = self.hands.board.panic_record() else { return };
        let mut text = heapless::String::<LOG_TEXT_BYTES_MAX>::new();
        // What does not fit is cut.
        let head = write!(text, "the firmware panicked at {:#010x}: ", record.address);
        let room = text.capacity() - text.len();
        let cut = wire::status::truncate(record.text, room);
        if head.and_then(|()| text.push_str(cut).map_err(|_| core::fmt::Error)).is_ok() {
            self.machine.handle(self.now(), Input::AgentLog { level: Level::Error, text: &text });
        }
    }

    /// Does everything that the machine wants, until it wants nothing or the link takes nothing more.
    fn settle(&mut self, mut link: Option<&mut Client<'_>>) {
        loop {
            loop {
                self.is_blocked = link.as_ref().is_some_and(|link| !link.has_room(self.frame_bytes));
                if self.is_blocked {
                    return;
                }
                let now = self.hands.clock.now();
                let Some(effect) = self.machine.poll(now) else { break };
                if let Some(answer) = self.hands.perform(now, effect, link.as_deref_mut()) {
                    self.machine.handle(self.hands.clock.now(), answer.input());
                }
            }
            if !self.hands.tidy(self.hands.clock.now(), self.machine) {
                return;
            }
        }
    }

    /// One turn of everything that is not the link.
    fn turn(&mut self, mut link: Option<&mut Client<'_>>) {
        self.hands.step(self.machine);
        self.settle(link.as_deref_mut());
        if !self.is_blocked {
            let now = self.now();
            if self.hands.step_fetches(now, self.machine, link.as_deref_mut()) {
                self.settle(link.as_deref_mut());
            }
            self.hands.step_firmware(self.now(), self.machine, link);
        }
        self.pulse.beat(self.hands.board, self.now());
    }

    /// Waits until something other than the link has a turn.
    async fn idle(&self, besides: Option<Instant>) {
        let now = self.now();
        if self.hands.functions.has_work(now) {
            // Others of this processor first, then the next slice.
            return yield_now().await;
        }
        let machine = self.machine.poll_timeout().filter(|_| !self.is_blocked);
        let fetches = self.hands.fetches.due(self.machine).filter(|_| !self.is_blocked);
        let firmware = self.hands.firmware.due(self.machine.link()).filter(|_| !self.is_blocked);
        match [machine, fetches, firmware, self.pulse.due(), besides].into_iter().fold(None, earliest) {
            Some(at) => self.hands.clock.until(at).await,
            None => pending().await,
        }
    }

    async fn drive(
        &mut self,
        network: &mut P::Network,
        login: &Login<'_>,
        receive: &mut [u8],
        send: &mut [u8],
    ) -> Never {
        loop {
            self.turn(None);
            match self.hands.wish.take() {
                Some(Wish::Connect) => {
                    let lost = self.online(network, login, receive, send).await;
                    self.tell_lost(&lost);
                }
                // There is nothing to drop.
                Some(Wish::Disconnect) => {}
                None => self.idle(None).await,
            }
        }
    }

    /// Said once; a device may be without a hub for months.
    fn tell_lost(&mut self, lost: &Lost) {
        let level = if core::mem::replace(&mut self.is_down_known, true) { Level::Debug } else { Level::Warn };
        self.hands.board.log(level, format_args!("no connection: {lost}; what runs goes on"));
        let input = match lost {
            Lost::End(end) if end.is_taken() => Input::LinkTaken,
            Lost::Replaced => return,
            Lost::End(_) | Lost::Unreachable | Lost::Closed | Lost::Dropped => Input::LinkDown,
        };
        self.is_blocked = false;
        self.machine.handle(self.now(), input);
    }

    /// One connection, from the first byte to the last.
    async fn online(
        &mut self,
        network: &mut P::Network,
        login: &Login<'_>,
        receive: &mut [u8],
        send: &mut [u8],
    ) -> Lost {
        let deadline = self.now().after(CONNECT_TIMEOUT);
        let address = address_for::<P::Network>(login.broker).filter(|_| login.may_connect);
        let Some((host, port)) = address else {
            self.hands
                .board
                .log(Level::Error, format_args!("this board speaks mqtt:// only, and only with a seed of its own"));
            return Lost::Unreachable;
        };
        let mut socket = {
            let mut connecting = pin!(network.connect(host, port));
            loop {
                match select(connecting.as_mut(), self.idle(Some(deadline))).await {
                    Either::First(Ok(socket)) => break socket,
                    Either::First(Err(error)) => {
                        self.hands.board.log(Level::Debug, format_args!("{error:?}"));
                        return Lost::Unreachable;
                    }
                    Either::Second(()) => {}
                }
                self.turn(None);
                if let Some(lost) = self.given_up() {
                    return lost;
                }
                if self.now() >= deadline {
                    return Lost::Unreachable;
                }
            }
        };
        self.machine.handle(self.now(), Input::Behind(socket.behind()));
        let will = core::mem::take(&mut self.hands.will);
        let Ok(mut client) = self.client(login, &will, receive, send) else { return Lost::Unreachable };
        let (mut reader, mut writer) = socket.split();
        loop {
            if let Err(end) = self.hear(&mut client) {
                return Lost::End(end);
            }
            self.turn(Some(&mut client));
            if let Err(end) = client.tick(self.now()) {
                return Lost::End(end);
            }
            if let Some(lost) = self.given_up() {
                return lost;
            }
            if !client.is_open() && self.now() >= deadline {
                return Lost::Unreachable;
            }
            let opening = (!client.is_open()).then_some(deadline);
            let due = earliest(client.timeout(), opening);
            match pump(&mut reader, &mut writer, &mut client, self.hands.clock, self.idle(due)).await {
                Pumped::Moved | Pumped::Woken => {}
                Pumped::Lost => return Lost::Closed,
            }
        }
    }

    /// Whether the machine wants this connection no more.
    fn given_up(&mut self) -> Option<Lost> {
        match self.hands.wish? {
            Wish::Disconnect => {
                self.hands.wish = None;
                Some(Lost::Dropped)
            }
            Wish::Connect => Some(Lost::Replaced),
        }
    }

    fn client<'m>(
        &self,
        login: &Login<'_>,
        will: &[u8],
        receive: &'m mut [u8],
        send: &'m mut [u8],
    ) -> Result<Client<'m>, WireError> {
        let mut user = heapless::String::<DEVICE_ID_TEXT_BYTES>::new();
        write!(user, "{}", login.device).map_err(|_| WireError::NoRoom)?;
        let password: [u8; 64] = hex(&login.identity.credential);
        let topic = self.hands.topic(Topic::Up(login.device, Up::Will)).ok_or(WireError::NoRoom)?;
        let connect = Connect {
            client: &user,
            user: &user,
            password: &password,
            keep_alive: KEEP_ALIVE,
            will: Some((&topic, will)),
        };
        Client::open(self.now(), receive, send, &connect).map_err(|_| WireError::NoRoom)
    }

    /// Tells the machine everything that has come, one by one.
    fn hear(&mut self, client: &mut Client<'_>) -> Result<(), End> {
        loop {
            let now = self.hands.clock.now();
            let Some(event) = client.next(now)? else { return Ok(()) };
            match event {
                Event::Open => {
                    self.is_down_known = false;
                    self.hands.board.log(Level::Info, format_args!("connected to the broker"));
                    self.hands.fetches.link_up(now);
                    self.hands.firmware.link_up(now);
                    self.machine.handle(now, Input::LinkUp);
                }
                Event::Message { topic, payload } => match self.inbound(topic) {
                    Some(Inbound::Down(Down::Chunk)) => self.hands.chunk(now, self.machine, payload),
                    Some(Inbound::Down(Down::Command)) if self.hands.offer(self.machine, payload) => {}
                    Some(from) => self.machine.handle(now, Input::Message { from, payload }),
                    None => {}
                },
                Event::Subscribed(group) => self.machine.handle(now, Input::Subscribed(group)),
                Event::SubscribeRefused(group) => {
                    self.hands
                        .board
                        .log(Level::Warn, format_args!("the broker refuses {group:?}: check its access rules"));
                    self.machine.handle(now, Input::SubscribeRefused(group));
                }
                Event::Acknowledged(ticket) => self.machine.handle(now, Input::Acknowledged { ticket }),
                Event::Refused { code } => {
                    self.hands.board.log(Level::Warn, format_args!("the broker refused a publication ({code:#04x})"));
                }
            }
            self.settle(Some(&mut *client));
            if self.is_blocked {
                return Ok(());
            }
        }
    }

    /// Where a message came from; `None`: it is not for us.
    fn inbound(&self, topic: &str) -> Option<Inbound> {
        match Topic::parse(self.hands.fleet, topic) {
            Some(Topic::Down(device, down)) if device == self.hands.device => Some(Inbound::Down(down)),
            Some(Topic::HubState) => Some(Inbound::HubState),
            Some(Topic::Down(..) | Topic::Up(..) | Topic::JoinRequest(_) | Topic::JoinAnswer(_)) | None => None,
        }
    }
}
