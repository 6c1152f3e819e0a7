//! Connections and the broker between them, as doubles: ordered while they live, lost when they end, held up when a link stalls.
//!
//! The broker keeps retained messages, checks who may connect, sends wills, answers with PUBACK before anybody has read a thing,
//! and forgets as real ones do. It must never look into a payload.
use super::random::Random;
use agent_nostd::machine::port::{RetainHandling, Subscription};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use wire::DeviceId;
use wire::topic::{Down, TokenId, Topic, Up};

/// The time after which a broker gives up a silent client: one and a half keep-alives.
pub const SILENCE_MS: u64 = 45_000;
/// How long a will waits.
pub const WILL_DELAY_MS: u64 = 1_000;

/// Who is at the other end. A number is the index of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    Hub,
    /// The second hub, while there is one.
    Rival,
    Device(usize),
    Join(usize),
}

/// Directions, as seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up = 0,
    Down = 1,
}

#[derive(Clone, Debug)]
pub enum Packet {
    // From the client.
    Connect { user: User, will: Option<Vec<u8>> },
    Subscribe(Filter),
    Publish { topic: Topic, payload: Vec<u8>, retain: bool, ticket: Option<u64> },
    // From the broker.
    Accepted,
    Refused,
    Subscribed(Filter),
    Acknowledged { ticket: u64 },
    Message { topic: Topic, payload: Vec<u8>, retained: bool },
    // From both.
    Closed,
}

#[derive(Clone, Debug)]
pub enum User {
    Hub,
    Device { id: DeviceId, password: String },
    Join { token: TokenId, password: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Device(Subscription),
    Hub,
    Join(TokenId),
}

#[derive(Debug)]
pub struct Connection {
    pub client: Client,
    /// The client still believes in it.
    pub at_client: bool,
    /// The broker still believes in it.
    pub at_broker: bool,
    pub will: Option<Vec<u8>>,
    pub live: bool,
    pub desired: bool,
    pub hub: bool,
    pub join: Option<TokenId>,
    /// What waits for a stalled link, in order.
    pub held: [Vec<Packet>; 2],
    /// No packet arrives before the one that was sent before it.
    pub last_ms: [u64; 2],
}

/// What the way between one client and the broker is like just now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Counted, because several faults may stall the same link.
    pub stalled: [u32; 2],
    pub slow: u32,
    pub chaos: u32,
    pub twice: u32,
    /// Since when the broker has heard nothing, if it has not.
    pub silent_since: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Broker {
    pub is_up: bool,
    pub retained: BTreeMap<TopicOrder, (Topic, Vec<u8>)>,
    /// As the broker last saved them.
    pub saved: BTreeMap<TopicOrder, (Topic, Vec<u8>)>,
    devices: BTreeMap<DeviceId, [u8; 32]>,
    tokens: BTreeMap<TokenId, [u8; 32]>,
    /// There is one account for hubs, and this one has it; `None`: whoever comes.
    pub account: Option<Client>,
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Broker {
    pub fn new() -> Self {
        Self { is_up: true, ..Self::default() }
    }

    pub fn device_put(&mut self, id: DeviceId, password_sha256: [u8; 32]) {
        self.devices.insert(id, password_sha256);
    }

    pub fn device_remove(&mut self, id: DeviceId) {
        self.devices.remove(&id);
    }

    pub fn token_put(&mut self, token: TokenId, password_sha256: [u8; 32]) {
        self.tokens.insert(token, password_sha256);
    }

    pub fn token_remove(&mut self, token: TokenId) {
        self.tokens.remove(&token);
    }

    pub fn forget_users(&mut self) {
        self.devices.clear();
        self.tokens.clear();
    }

    pub fn admits(&self, client: Client, user: &User) -> bool {
        let hash = |password: &str| <[u8; 32]>::from(Sha256::digest(password.as_bytes()));
        match user {
            User::Hub => self.account.is_none_or(|owner| owner == client),
            User::Device { id, password } => self.devices.get(id) == Some(&hash(password)),
            User::Join { token, password } => self.tokens.get(token) == Some(&hash(password)),
        }
    }

    pub fn retain(&mut self, topic: Topic, payload: &[u8]) {
        if payload.is_empty() {
            self.retained.remove(&order(&topic));
        } else {
            self.retained.insert(order(&topic), (topic, payload.to_vec()));
        }
    }

    pub fn retained(&self, topic: &Topic) -> Option<&[u8]> {
        self.retained.get(&order(topic)).map(|(_, payload)| payload.as_slice())
    }
}

impl Connection {
    pub fn new(client: Client, now: u64) -> Self {
        Self {
            client,
            at_client: true,
            at_broker: false,
            will: None,
            live: false,
            desired: false,
            hub: false,
            join: None,
            held: Default::default(),
            last_ms: [now; 2],
        }
    }

    pub fn subscribe(&mut self, filter: Filter) {
        match filter {
            Filter::Device(Subscription::Live) => self.live = true,
            Filter::Device(Subscription::Desired(_)) => self.desired = true,
            Filter::Hub => self.hub = true,
            Filter::Join(token) => self.join = Some(token),
        }
    }

    /// Whether a message of this topic goes to this client; `ids` are those of all devices.
    pub fn wants(&self, topic: &Topic, ids: &[DeviceId]) -> bool {
        let is_mine = |id: &DeviceId| matches!(self.client, Client::Device(index) if ids.get(index) == Some(id));
        match topic {
            Topic::Down(device, Down::Desired) => self.desired && is_mine(device),
            Topic::Down(device, _) => self.live && is_mine(device),
            Topic::Up(..) | Topic::JoinRequest(_) => self.hub,
            Topic::HubState => self.hub || self.live,
            Topic::JoinAnswer(token) => self.join == Some(*token),
        }
    }

    /// Whether a subscription brings the retained message of this topic.
    pub fn wants_retained(&self, filter: Filter, topic: &Topic, ids: &[DeviceId]) -> bool {
        let of_group = match (filter, topic) {
            (Filter::Device(Subscription::Desired(handling)), Topic::Down(_, Down::Desired)) => {
                handling == RetainHandling::Send
            }
            (Filter::Device(Subscription::Desired(_)), _) => false,
            (Filter::Device(Subscription::Live), Topic::Down(_, Down::Desired)) => false,
            (Filter::Device(Subscription::Live) | Filter::Hub | Filter::Join(_), _) => true,
        };
        of_group && self.wants(topic, ids)
    }
}

/// Whether a client may publish there.
pub fn may_publish(client: Client, topic: &Topic, ids: &[DeviceId]) -> bool {
    match (client, topic) {
        (Client::Hub | Client::Rival, Topic::Down(..) | Topic::HubState | Topic::JoinAnswer(_)) => true,
        (Client::Hub | Client::Rival, Topic::Up(..)) => true,
        (Client::Device(index), Topic::Up(id, _)) => ids.get(index) == Some(id),
        (Client::Join(_), Topic::JoinRequest(_)) => true,
        (Client::Hub | Client::Rival | Client::Device(_) | Client::Join(_), _) => false,
    }
}

/// How long a packet is on its way.
pub fn latency_ms(link: &Link, random: &mut Random) -> u64 {
    if link.slow > 0 { random.between(1_000, 6_000) } else { random.between(5, 80) }
}

/// How much later a topic is than others while topics overtake each other.
pub fn detour_ms(topic: &Topic, connection: u32) -> u64 {
    let (class, tail, id) = order(topic);
    let bytes = [class, tail].into_iter().chain(id);
    let sum = bytes.fold(u64::from(connection), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    sum % 4_000
}

/// What sorts topics the same way in every run.
pub type TopicOrder = (u8, u8, [u8; 16]);

pub fn order(topic: &Topic) -> TopicOrder {
    let of_token = |token: &TokenId| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&token.0);
        id
    };
    match topic {
        Topic::Down(device, down) => (0, *down as u8, device.0),
        Topic::Up(device, up) => (1, *up as u8, device.0),
        Topic::HubState => (2, 0, [0; 16]),
        Topic::JoinRequest(token) => (3, 0, of_token(token)),
        Topic::JoinAnswer(token) => (4, 0, of_token(token)),
    }
}

/// The topic on which a will is published.
pub fn will_topic(id: DeviceId) -> Topic {
    Topic::Up(id, Up::Will)
}
