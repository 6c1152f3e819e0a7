//! A small device that fetches its set and its artifacts over MQTT alone, with the store and the transfer of a microcontroller.
//!
//! It joins as any other, says Hello, keeps what it fetched on a flash in memory, and runs nothing.

use super::Hub;
use crate::sim::random::Random;
use agent::identity::{Identity, Membership};
use agent::{JoinOptions, join};
use agent_nostd::machine::port::{Content, FetchFailure};
use agent_nostd::machine::time::Instant as Moment;
use agent_nostd::store::{Artifacts, RamFlash};
use agent_nostd::transfer::{Memory, Sink, Step, Transfer};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::desired::{Desired, body_matches};
use wire::frame::{Body, decode_live, encode_live, encode_live_with};
use wire::hello::{
    Architecture, Capabilities, DeviceClass, Features, Fresh, Hello, HelloFixed, LossCounters, ResetCause,
};
use wire::id::{CommandId, Nonce, Revision, Session};
use wire::record::CapabilitySet;
use wire::topic::{Down, Topic, Up};
use wire::transfer::{Chunk, Need, Want};
use wire::version::VersionRange;
use wire::{BootId, Digest, Kind, LiveContext, PairKey};

/// Sectors of 4 KiB, programmed by words: the external flash of a board.
pub type Flash = RamFlash<{ 64 * 1024 }, 4, 4096>;
const WAIT: Duration = Duration::from_secs(60);

/// A valid module of exactly so many bytes that does nothing: one custom section of noise.
pub fn module(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let length = bytes - 12;
    let leb = [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8 & 0x7f];
    let head = [&b"\0asm\x01\0\0\0\0"[..], &leb, &[1, b'x']].concat();
    let noise = (head.len()..bytes).map(|_| random.below(256) as u8).collect::<Vec<u8>>();
    [head, noise].concat()
}

/// Connected and known to the hub.
pub struct Narrow {
    identity: Identity,
    membership: Membership,
    pair: PairKey,
    boot: BootId,
    session: Session,
    client: Client,
    connection: Connection,
    packet_bytes_max: u32,
    began: Instant,
    /// The newest set that came and was not looked at.
    set: Option<Vec<u8>>,
    /// Chunks that are thrown away on arrival: each so-many-th one.
    pub loses: Option<u32>,
    chunks: u32,
}

impl Narrow {
    /// Joins by a token that approves; takes packets up to `packet_bytes_max`.
    pub fn join(directory: &Path, hub: &Hub, name: &str, packet_bytes_max: u32) -> Self {
        let data = directory.join(name);
        let (token, name) = (hub.join_token(true), Some(name.to_owned()));
        let joined = join(&JoinOptions { token, name, position: None, class: DeviceClass::Mcu, data: data.clone() });
        assert!(joined.unwrap().approved);
        let (identity, membership) = Identity::load_member(&data).unwrap();
        let id = identity.device().text();
        let address = membership.broker.strip_prefix("mqtt://").unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        let mut options = MqttOptions::new(id.as_str(), host, port.parse().unwrap());
        options.set_credentials(id.as_str(), membership.credential.hex());
        options.set_keep_alive(Duration::from_secs(30)).set_clean_start(true);
        options.set_max_packet_size(Some(packet_bytes_max));
        let (client, connection) = Client::new(options, 64);
        let pair = identity.pair_key().unwrap();
        let mut device = Self {
            identity,
            membership,
            pair,
            boot: BootId([5; 8]),
            session: Session(0),
            client,
            connection,
            packet_bytes_max,
            began: Instant::now(),
            set: None,
            loses: None,
            chunks: 0,
        };
        let topics = [Down::Fresh, Down::Chunk].map(|down| device.topic(Topic::Down(device.identity.device(), down)));
        topics.into_iter().for_each(|topic| device.client.subscribe(topic, QoS::AtLeastOnce).unwrap());
        device.hello();
        let desired = device.topic(Topic::Down(device.identity.device(), Down::Desired));
        device.client.subscribe(desired, QoS::AtLeastOnce).unwrap();
        device
    }

    fn topic(&self, topic: Topic) -> String {
        topic.print(&self.membership.fleet).unwrap().as_str().to_owned()
    }

    fn context(&self, session: Session) -> LiveContext<'_> {
        LiveContext { fleet: &self.membership.fleet, device: self.identity.device(), boot: self.boot, session }
    }

    fn publish(&self, up: Up, quality: QoS, payload: Vec<u8>) {
        let topic = self.topic(Topic::Up(self.identity.device(), up));
        self.client.publish(topic, quality, false, payload).unwrap();
    }

    fn hello(&mut self) {
        let capabilities = Capabilities {
            class: DeviceClass::Mcu,
            architecture: Architecture::Thumbv7em,
            agent_version: "test",
            features: Features::FUNCTION,
            interfaces: CapabilitySet(u32::MAX),
            records: 8,
            body_bytes: 8 * 1024,
            memory_bytes: 1 << 20,
            storage_bytes: 256 * 1024,
        };
        let fixed = HelloFixed {
            boot: self.boot,
            nonce: Nonce([7; 8]),
            versions: VersionRange::SPOKEN,
            revision: Revision::default(),
            digest: Default::default(),
            status: Default::default(),
            capabilities: capabilities.digest().prefix(),
            packet_bytes_max: self.packet_bytes_max,
            command: CommandId::default(),
            trust: 0,
            lost: LossCounters::default(),
            reset: ResetCause::PowerOn,
        };
        let hello = Hello { fixed, capabilities: Some(capabilities), proof: None, health: None };
        let mut buffer = [0; 1024];
        let context = self.context(Session(0));
        let frame = encode_live_with(&mut buffer, Kind::Hello, &self.pair, &context, |writer| hello.write(writer));
        self.publish(Up::Hello, QoS::AtLeastOnce, frame.unwrap().to_vec());
        let topic = self.topic(Topic::Down(self.identity.device(), Down::Fresh));
        let late = Instant::now() + WAIT;
        while self.session == Session(0) {
            let Some((of, payload)) = self.message(late) else { panic!("the hub does not answer a Hello") };
            if of == topic {
                self.session = self.live::<Fresh>(&payload, Session(0)).session;
            }
        }
    }

    fn live<'a, T: Body + serde::Deserialize<'a>>(&self, payload: &'a [u8], session: Session) -> T {
        decode_live(payload, &self.pair, &self.context(session)).unwrap()
    }

    /// The next message; sets are noted on the way. `None`: it is late.
    fn message(&mut self, late: Instant) -> Option<(String, Vec<u8>)> {
        let desired = self.topic(Topic::Down(self.identity.device(), Down::Desired));
        loop {
            let left = late.checked_duration_since(Instant::now())?;
            let event = self.connection.recv_timeout(left).ok()?.unwrap();
            let Event::Incoming(Packet::Publish(message)) = event else { continue };
            let topic = String::from_utf8(message.topic.to_vec()).unwrap();
            if topic == desired {
                self.set = Some(message.payload.to_vec()).filter(|set| !set.is_empty());
            }
            return Some((topic, message.payload.to_vec()));
        }
    }

    /// Waits for a set: whether its body came along, and the body, fetched if need be.
    pub fn wait_set(&mut self) -> (bool, Vec<u8>) {
        let late = Instant::now() + WAIT;
        let frame = loop {
            if let Some(frame) = self.set.take() {
                break frame;
            }
            assert!(self.message(late).is_some(), "no set comes");
        };
        let desired = Desired::decode(&frame).unwrap();
        let header = desired.signed.header;
        let body = match desired.body {
            Some(body) => body.to_vec(),
            None => {
                let mut buffer = vec![0; header.body_bytes as usize];
                let mut memory = Memory::new(&mut buffer);
                self.fetch_into(Content::Body, header.body, header.body_bytes, &mut memory).unwrap();
                memory.bytes().to_vec()
            }
        };
        assert!(body_matches(&header, &body));
        (desired.body.is_some(), body)
    }

    /// Waits for a set whose work is this module alone: the artifact to fetch.
    pub fn wait_artifact(&mut self, module: &[u8]) -> (bool, Digest, u32) {
        loop {
            let (came_along, body) = self.wait_set();
            let records = wire::record::Body::decode(&body).unwrap();
            if let Some(core) =
                records.iter().map(|record| record.core).find(|core| core.artifact == Digest::of(module))
            {
                return (came_along, core.artifact, core.artifact_bytes);
            }
        }
    }

    pub fn fetch(&mut self, digest: Digest, bytes: u32, artifacts: &mut Artifacts<Flash>) -> Result<(), FetchFailure> {
        self.fetch_into(Content::Artifact, digest, bytes, artifacts)
    }

    /// One question, whose answer nobody waits for.
    pub fn ask(&mut self, digest: Digest) {
        let mut buffer = [0; 256];
        let need = Need { session: self.session, want: Want::Artifact { digest, offset: 0, count: 1 } };
        let frame = encode_live(&mut buffer, &self.pair, &self.context(self.session), &need).unwrap().to_vec();
        self.publish(Up::Need, QoS::AtMostOnce, frame);
    }

    /// Lets the connection do what it has to; the topic of a message, if one came.
    pub fn turn(&mut self) -> Option<String> {
        self.message(Instant::now() + Duration::from_millis(20)).map(|(topic, _)| topic)
    }

    /// The real transfer over the real link.
    fn fetch_into(
        &mut self,
        content: Content,
        digest: Digest,
        bytes: u32,
        sink: &mut dyn Sink,
    ) -> Result<(), FetchFailure> {
        let topic = self.topic(Topic::Down(self.identity.device(), Down::Chunk));
        let now = |began: Instant| Moment::from_ms(u64::try_from(began.elapsed().as_millis()).unwrap());
        let mut transfer = Transfer::begin(now(self.began), content, digest, bytes, sink)?;
        loop {
            match transfer.poll(now(self.began), self.chunks.wrapping_mul(0x9e37_79b1), sink) {
                Some(Step::Ask(want)) => {
                    let mut buffer = [0; 256];
                    let need = Need { session: self.session, want };
                    let frame =
                        encode_live(&mut buffer, &self.pair, &self.context(self.session), &need).unwrap().to_vec();
                    self.publish(Up::Need, QoS::AtMostOnce, frame);
                }
                Some(Step::Done) => return Ok(()),
                Some(Step::Failed(failure)) => return Err(failure),
                None => {
                    let until = Duration::from_millis(transfer.poll_timeout().map_or(0, Moment::as_ms) + 1);
                    if let Some((of, payload)) = self.message(self.began + until)
                        && of == topic
                    {
                        self.chunks += 1;
                        if self.loses.is_none_or(|each| !self.chunks.is_multiple_of(each)) {
                            let chunk: Chunk<'_> = self.live(&payload, self.session);
                            transfer.chunk(now(self.began), &chunk, sink);
                        }
                    }
                }
            }
        }
    }
}
