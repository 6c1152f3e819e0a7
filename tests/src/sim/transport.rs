//! What the world does with packets: sends them, holds them up, loses them, and plays the broker.
use super::fault::Fault;
use super::network::{
    Client, Connection, Filter, Packet, SILENCE_MS, User, Way, detour_ms, latency_ms, may_publish, will_topic,
};
use super::world::{Event, World};
use wire::topic::Topic;

/// A broker that is not there refuses after this.
const REFUSED_MS: u64 = 40;
/// Of a thousand messages of a device whose topics overtake each other, so many come once more, long after.
const LATE_PER_MILLE: u64 = 100;
const LATE_MS_MAX: u64 = 120_000;

impl World<'_> {
    /// Opens a connection for a client; the answer comes as a packet.
    pub fn dial(&mut self, client: Client, user: User, will: Option<Vec<u8>>) -> u32 {
        let number = self.next_connection;
        self.next_connection += 1;
        self.connections.insert(number, Connection::new(client, self.now));
        if self.broker.is_up {
            self.send(number, Way::Up, Packet::Connect { user, will });
        } else {
            self.after(REFUSED_MS, Event::Arrives { connection: number, way: Way::Down, packet: Packet::Refused });
        }
        number
    }

    pub fn send(&mut self, number: u32, way: Way, packet: Packet) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let link = self.links.entry(connection.client).or_default();
        let mut at = self.now + latency_ms(link, &mut self.random);
        let detour = match &packet {
            Packet::Publish { topic, .. } | Packet::Message { topic, .. } if link.chaos > 0 => detour_ms(topic, number),
            _ => 0,
        };
        let last = &mut connection.last_ms[way as usize];
        if detour == 0 {
            at = at.max(*last);
            *last = at;
        } else {
            at = self.now + detour;
            self.counts.hit(Fault::LinkChaos);
        }
        let again = match &packet {
            Packet::Publish { ticket: Some(_), .. } | Packet::Message { .. } if link.twice > 0 => {
                self.random.chance(300)
            }
            _ => false,
        };
        if again {
            self.counts.hit(Fault::LinkTwice);
        }
        if let Packet::Publish { topic: topic @ Topic::Up(..), payload, ticket: Some(_), .. } = &packet
            && link.chaos > 0
            && self.random.chance(LATE_PER_MILLE)
        {
            let (client, topic, payload) = (connection.client, *topic, payload.clone());
            let pause = self.random.between(5_000, LATE_MS_MAX);
            self.after(pause, Event::Late { client, topic, payload });
        }
        let copy = again.then(|| packet.clone());
        self.schedule(at, Event::Arrives { connection: number, way, packet });
        if let Some(packet) = copy {
            self.schedule(at, Event::Arrives { connection: number, way, packet });
        }
    }

    /// What a device sent comes a second time, after it has connected anew perhaps, or booted: behind what it said since then.
    pub fn arrives_late(&mut self, client: Client, topic: Topic, payload: Vec<u8>) {
        if self.broker.is_up {
            self.counts.hit(Fault::LinkChaos);
            self.say(|_| format!("-- a message of {client:?} comes late"));
            self.route(topic, payload, false);
        }
    }

    pub fn arrives(&mut self, number: u32, way: Way, packet: Packet) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let link = self.links.entry(connection.client).or_default();
        if link.stalled[way as usize] > 0 {
            connection.held[way as usize].push(packet);
            return;
        }
        self.trace.mix(self.now);
        self.trace.mix(u64::from(number) << 8 | way as u64);
        match way {
            Way::Up => self.at_broker(number, packet),
            Way::Down => self.at_client(number, packet),
        }
    }

    /// What was held up is delivered at once, in order.
    pub fn release(&mut self, client: Client) {
        let link = self.links.entry(client).or_default();
        let flows = [link.stalled[0] == 0, link.stalled[1] == 0];
        if flows[Way::Up as usize] {
            link.silent_since = None;
        }
        let numbers: Vec<u32> =
            self.connections.iter().filter(|(_, connection)| connection.client == client).map(|(n, _)| *n).collect();
        for number in numbers {
            for way in [Way::Up, Way::Down] {
                if !flows[way as usize] {
                    continue;
                }
                let Some(connection) = self.connections.get_mut(&number) else { continue };
                for packet in std::mem::take(&mut connection.held[way as usize]) {
                    self.arrives(number, way, packet);
                }
            }
        }
    }

    pub fn stall(&mut self, client: Client, ways: [bool; 2]) {
        let now = self.now;
        let link = self.links.entry(client).or_default();
        for (way, is_stalled) in ways.into_iter().enumerate() {
            link.stalled[way] += u32::from(is_stalled);
        }
        if ways[Way::Up as usize] && link.silent_since.is_none() {
            link.silent_since = Some(now);
            self.after(SILENCE_MS, Event::Silence { client, since: now });
        }
    }

    pub fn unstall(&mut self, client: Client, ways: [bool; 2]) {
        if matches!(client, Client::Hub | Client::Rival) {
            self.contest_begins_anew();
        }
        let link = self.links.entry(client).or_default();
        for (way, was_stalled) in ways.into_iter().enumerate() {
            link.stalled[way] = link.stalled[way].saturating_sub(u32::from(was_stalled));
        }
        self.release(client);
    }

    /// The broker has heard nothing for one and a half keep-alives.
    pub fn silence(&mut self, client: Client, since: u64) {
        if self.links.get(&client).is_some_and(|link| link.silent_since == Some(since)) {
            let of_client = |connection: &Connection| connection.client == client && connection.at_broker;
            let numbers: Vec<u32> = self.connections.iter().filter(|(_, c)| of_client(c)).map(|(n, _)| *n).collect();
            numbers.into_iter().for_each(|number| self.broker_drops(number));
        }
    }

    /// The client is gone without a word: only silence tells the broker.
    pub fn vanish(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.at_client = false;
        let client = connection.client;
        let since = self.now;
        self.links.entry(client).or_default().silent_since = Some(since);
        self.after(SILENCE_MS, Event::Silence { client, since });
        self.tidy(number);
    }

    /// The broker ends it, and the client never hears of that.
    pub fn forget_connection(&mut self, number: u32) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        if !std::mem::take(&mut connection.at_broker) {
            return false;
        }
        let (client, will) = (connection.client, connection.will.take());
        if let (Client::Device(device), Some(will)) = (client, will) {
            self.route(will_topic(self.ids[device]), will, false);
        }
        self.tidy(number);
        true
    }

    /// The client ends the connection.
    pub fn hang_up(&mut self, number: u32) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.at_client = false;
            self.send(number, Way::Up, Packet::Closed);
        }
    }

    /// The broker ends it, or believes it ended.
    pub fn broker_drops(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !std::mem::take(&mut connection.at_broker) {
            return;
        }
        let (client, will) = (connection.client, connection.will.take());
        if connection.at_client {
            self.send(number, Way::Down, Packet::Closed);
        }
        if let (Client::Device(device), Some(will)) = (client, will) {
            self.route(will_topic(self.ids[device]), will, false);
        }
        self.tidy(number);
    }

    /// Reset by something between the two.
    pub fn cut(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let (client, was_at_client) = (connection.client, std::mem::take(&mut connection.at_client));
        self.broker_drops(number);
        if was_at_client {
            self.client_lost(number, client);
        }
        self.connections.remove(&number);
    }

    fn tidy(&mut self, number: u32) {
        if self.connections.get(&number).is_some_and(|c| !c.at_client && !c.at_broker) {
            self.connections.remove(&number);
        }
    }

    fn at_broker(&mut self, number: u32, packet: Packet) {
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client;
        match packet {
            Packet::Closed => {
                self.broker_drops(number);
                self.tidy(number);
            }
            Packet::Connect { user, will } => {
                if !self.broker.is_up || !self.broker.admits(client, &user) {
                    return self.send(number, Way::Down, Packet::Refused);
                }
                // Taken over: the same client came again.
                let same = |c: &Connection| c.client == client && c.at_broker;
                let earlier: Vec<u32> = self.connections.iter().filter(|(_, c)| same(c)).map(|(n, _)| *n).collect();
                earlier.into_iter().for_each(|number| self.broker_drops(number));
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.at_broker = true;
                    connection.will = will;
                }
                let link = self.links.entry(client).or_default();
                if link.stalled[Way::Up as usize] == 0 {
                    link.silent_since = None;
                }
                self.send(number, Way::Down, Packet::Accepted);
                if let Some(will) = self.connections.get(&number).and_then(|connection| connection.will.clone()) {
                    self.judge_payload(&will, &"a will");
                }
            }
            Packet::Subscribe(filter) if connection.at_broker => self.subscribe(number, filter),
            Packet::Publish { topic, payload, retain, ticket } if connection.at_broker => {
                if !may_publish(client, &topic, &self.ids) {
                    return self.fail(|| format!("{client:?} published on {topic:?}"));
                }
                self.trace.mix_bytes(&payload);
                self.judge_payload(&payload, &topic);
                self.observe_up(client, topic, &payload);
                if let Some(ticket) = ticket {
                    self.send(number, Way::Down, Packet::Acknowledged { ticket });
                }
                self.route(topic, payload, retain);
            }
            Packet::Subscribe(_)
            | Packet::Publish { .. }
            | Packet::Accepted
            | Packet::Refused
            | Packet::Subscribed(_)
            | Packet::Acknowledged { .. }
            | Packet::Message { .. } => {}
        }
    }

    fn subscribe(&mut self, number: u32, filter: Filter) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.subscribe(filter);
        let mut wanted = Vec::new();
        for (topic, payload) in self.broker.retained.values() {
            if connection.wants_retained(filter, topic, &self.ids) {
                wanted.push((*topic, payload.clone()));
            }
        }
        self.send(number, Way::Down, Packet::Subscribed(filter));
        for (topic, payload) in wanted {
            self.send(number, Way::Down, Packet::Message { topic, payload, retained: true });
        }
    }

    /// The broker passes a message on.
    pub fn route(&mut self, topic: Topic, payload: Vec<u8>, retain: bool) {
        if retain {
            self.broker.retain(topic, &payload);
        }
        let mut numbers = std::mem::take(&mut self.receivers);
        let wants = |c: &Connection| c.at_broker && c.wants(&topic, &self.ids);
        numbers.extend(self.connections.iter().filter(|(_, c)| wants(c)).map(|(n, _)| *n));
        if let Some((last, others)) = numbers.split_last() {
            for number in others {
                self.send(*number, Way::Down, Packet::Message { topic, payload: payload.clone(), retained: false });
            }
            self.send(*last, Way::Down, Packet::Message { topic, payload, retained: false });
        }
        numbers.clear();
        self.receivers = numbers;
    }

    /// All connections end; what the broker remembers is up to the kind of restart.
    pub fn broker_restart(&mut self, fault: Fault, down_ms: u64) {
        self.counts.hit(fault);
        self.broker.is_up = false;
        match fault {
            Fault::BrokerForgets => self.broker.retained.clear(),
            Fault::BrokerOldCopy => self.broker.retained = self.broker.saved.clone(),
            _ => {}
        }
        let numbers: Vec<u32> = self.connections.keys().copied().collect();
        for number in numbers {
            // A broker that dies sends no wills.
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.will = None;
                connection.at_broker = false;
                let (client, was) = (connection.client, connection.at_client);
                let is_stalled = self.links.get(&client).is_some_and(|link| link.stalled[Way::Down as usize] > 0);
                if was && !is_stalled {
                    self.connections.remove(&number);
                    self.client_lost(number, client);
                }
            }
        }
        self.after(down_ms, Event::BrokerStart);
    }

    pub fn broker_start(&mut self) {
        self.broker.is_up = true;
        // Whatever lingers of the time before gets a reset.
        let stale: Vec<u32> = self.connections.iter().filter(|(_, c)| !c.at_broker).map(|(n, _)| *n).collect();
        for number in stale {
            self.send(number, Way::Down, Packet::Closed);
        }
    }

    fn at_client(&mut self, number: u32, packet: Packet) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !connection.at_client {
            return;
        }
        let client = connection.client;
        match packet {
            Packet::Closed | Packet::Refused => {
                connection.at_client = false;
                connection.at_broker = false;
                self.connections.remove(&number);
                self.client_lost(number, client);
            }
            packet => match client {
                Client::Hub => self.hub_receives(number, packet),
                Client::Rival => self.as_rival(|world| world.hub_receives(number, packet)),
                Client::Device(device) => self.device_receives(device, number, packet),
                Client::Join(device) => self.join_receives(device, number, packet),
            },
        }
    }

    /// A process that stands still hears of it when it goes on.
    fn client_lost(&mut self, number: u32, client: Client) {
        if self.hold(Event::LinkLost { client, connection: number }).is_some() {
            self.link_lost(number, client);
        }
    }

    pub fn link_lost(&mut self, number: u32, client: Client) {
        match client {
            Client::Hub => self.hub_link_lost(number),
            Client::Rival => self.as_rival(|world| world.hub_link_lost(number)),
            Client::Device(device) => self.device_link_lost(device, number),
            Client::Join(_) => {}
        }
    }
}
