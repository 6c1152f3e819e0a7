//! One function per family of decoders, shared by the tests and the fuzz targets. Each one decodes what it is given and, when
//! that succeeds, encodes it again and insists on the same bytes. None of them allocates; each must survive any input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]
use core::fmt::Write as _;
use serde::Deserialize;
use wire::clause::{Clause, Clauses, Stated, Topics};
use wire::codec::{Reader, Writer};
use wire::dalek::{Ed25519, Ed25519Key};
use wire::desired::{Desired, SignedHeader, body_matches};
use wire::event::{Event, Input, Log, LogRecord, topic_matches, write_log};
use wire::firmware::{Firmware, Offer};
use wire::frame::{Body, Kind, decode_body, decode_plain, open_live, peek};
use wire::grant::{Grant, Released};
use wire::hello::{Fresh, Heartbeat, Hello, HubState, Refusal, Report, Will};
use wire::join::{JoinAnswer, JoinRequest, JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::limits::{CLAUSES_BYTES_MAX, CLAUSES_MAX, LOG_RECORDS_MAX, SAMPLES_MAX, TOPIC_FILTERS_MAX};
use wire::provision::{Provision, ProvisionError};
use wire::record::{Body as SetBody, BodyWriter, encode_clauses};
use wire::sample::{Sample, Samples, Taken, write_samples};
use wire::sign::{PublicKey, Sign, Signature, Verify};
use wire::status::{Status, StatusWriter, truncate};
use wire::topic::{TokenId, Topic, TopicText, is_label};
use wire::transfer::{Chunk, Command, CommandResult, Need};
use wire::trust::Link;
use wire::{BootId, DeviceId, Digest, LiveContext, PairKey, Session, WireError};

/// Room for the longest frame; given by the caller, so that no family has to make it.
pub const SCRATCH_BYTES: usize = wire::limits::FRAME_BYTES_MAX + 512;

pub const FLEET: &str = "north";
pub const BOOT: BootId = BootId([0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7]);
pub const SESSION: Session = Session(7);
pub const TOKEN: TokenId = TokenId([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7]);

pub fn device_key() -> Ed25519Key {
    Ed25519Key::from_seed(&[1; 32])
}

pub fn hub_key() -> Ed25519Key {
    Ed25519Key::from_seed(&[2; 32])
}

pub fn root_key() -> Ed25519Key {
    Ed25519Key::from_seed(&[3; 32])
}

/// What a receiver knows before a message comes.
pub struct World {
    pub pair: PairKey,
    pub device: DeviceId,
    pub hub: PublicKey,
    pub root: PublicKey,
}

impl World {
    pub fn new() -> Self {
        Self {
            pair: PairKey([0x4b; 32]),
            device: DeviceId::of_key(&device_key().public_key().0),
            hub: hub_key().public_key(),
            root: root_key().public_key(),
        }
    }

    pub fn context(&self, kind: Kind) -> LiveContext<'static> {
        let outside = LiveContext::outside(FLEET, self.device, BOOT);
        match kind {
            Kind::Hello | Kind::Will | Kind::Fresh | Kind::Refusal => outside,
            _ => LiveContext { session: SESSION, ..outside },
        }
    }
}

/// Believes every signature: lets mutations reach what lies behind the check.
pub struct Credulous;

impl Verify for Credulous {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// A received frame, as its receiver reads it: with the tag or signature.
pub fn frame(world: &World, bytes: &[u8], scratch: &mut [u8]) -> Result<Kind, WireError> {
    let kind = peek(bytes)?;
    match kind {
        Kind::Desired => desired(world, &Ed25519, bytes, scratch)?,
        Kind::Trust => trust(world, &Ed25519, bytes)?,
        Kind::JoinRequest => {
            let request: JoinRequest<'_> = decode_plain(bytes)?;
            request.verify(&Ed25519, FLEET, TOKEN)?;
        }
        Kind::JoinAnswer => decode_plain::<JoinAnswer<'_>>(bytes).map(|_| ())?,
        Kind::HubState => decode_plain::<HubState>(bytes).map(|_| ())?,
        _ => {
            let inner = open_live(bytes, kind, &world.pair, &world.context(kind))?;
            body(kind, inner, scratch)?;
        }
    }
    Ok(kind)
}

/// Stored, signed messages behind whatever `verifier` believes.
pub fn signed(world: &World, verifier: &dyn Verify, bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    match peek(bytes)? {
        Kind::Trust => trust(world, verifier, bytes),
        _ => desired(world, verifier, bytes, scratch),
    }
}

fn desired(world: &World, verifier: &dyn Verify, bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let desired = Desired::decode(bytes)?;
    match desired.body {
        Some(inner) => assert_eq!(desired.signed.encode(scratch, inner).as_deref(), Ok(bytes)),
        None => {
            let mut reader = Reader::new(&bytes[2..]);
            assert_eq!(SignedHeader::read(&mut reader), Ok(desired.signed));
        }
    }
    if !desired.signed.verify(verifier, &world.hub, FLEET, world.device) {
        return Err(WireError::NotAuthentic);
    }
    match desired.body {
        Some(inner) if body_matches(&desired.signed.header, inner) => set_body(inner, scratch),
        Some(_) => Err(WireError::NotAuthentic),
        None => Ok(()),
    }
}

fn trust(world: &World, verifier: &dyn Verify, bytes: &[u8]) -> Result<(), WireError> {
    let link = Link::decode(bytes, verifier, &world.root, FLEET)?;
    let mut again = [0; 512];
    let again = link.encode(&mut again, &root_key(), FLEET).unwrap();
    // Behind version, kind, key id and signature, which a credulous verifier does not compare.
    assert_eq!(again[70..], bytes[70..]);
    Ok(())
}

/// The body of a frame of `kind`, below its tag.
pub fn body(kind: Kind, bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    match kind {
        Kind::Desired | Kind::Trust => set_body(bytes, scratch),
        Kind::Fresh => value::<Fresh>(bytes, scratch),
        Kind::Grant => value::<Grant>(bytes, scratch),
        Kind::Input => value::<Input<'_>>(bytes, scratch),
        Kind::Chunk => value::<Chunk<'_>>(bytes, scratch),
        Kind::Command => value::<Command>(bytes, scratch),
        Kind::Report => value::<Report>(bytes, scratch),
        Kind::Refusal => value::<Refusal>(bytes, scratch),
        Kind::Hello => hello(bytes, scratch),
        Kind::Heartbeat => value::<Heartbeat>(bytes, scratch),
        Kind::Status => status(bytes, scratch),
        Kind::Need => value::<Need>(bytes, scratch),
        Kind::Released => value::<Released>(bytes, scratch),
        Kind::Event => value::<Event<'_>>(bytes, scratch),
        Kind::Taken => value::<Taken>(bytes, scratch),
        Kind::Sample => samples(bytes, scratch),
        Kind::Log => log(bytes, scratch),
        Kind::Will => value::<Will>(bytes, scratch),
        Kind::CommandResult => value::<CommandResult<'_>>(bytes, scratch),
        Kind::Offer => value::<Offer<'_>>(bytes, scratch),
        Kind::Firmware => value::<Firmware<'_>>(bytes, scratch),
        Kind::HubState => value::<HubState>(bytes, scratch),
        Kind::JoinRequest => value::<JoinRequest<'_>>(bytes, scratch),
        Kind::JoinAnswer => value::<JoinAnswer<'_>>(bytes, scratch),
    }
}

fn value<'a, T: Body + Deserialize<'a>>(bytes: &'a [u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let value: T = decode_body(bytes)?;
    same(bytes, scratch, |writer| writer.value(&value));
    Ok(())
}

fn same(bytes: &[u8], scratch: &mut [u8], write: impl FnOnce(&mut Writer<'_>) -> Result<(), WireError>) {
    let mut writer = Writer::new(scratch);
    write(&mut writer).expect("what was decoded can be encoded");
    assert_eq!(writer.written(), bytes, "two spellings of one value");
}

fn hello(bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let hello = Hello::decode(bytes)?;
    same(bytes, scratch, |writer| hello.write(writer));
    Ok(())
}

fn status(bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let status = Status::decode(bytes)?;
    let count = status.entries().count() as u16;
    let mut digest = None;
    same(bytes, scratch, |writer| {
        let mut out = StatusWriter::new(writer, status.fixed, count)?;
        status.entries().try_for_each(|entry| out.entry(&entry))?;
        assert_eq!(out.left(), 0);
        digest = Some(out.finish());
        Ok(())
    });
    assert_eq!(digest, Some(status.content_digest()));
    Ok(())
}

fn log(bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let log = Log::decode(bytes)?;
    let records: heapless::Vec<LogRecord<'_>, LOG_RECORDS_MAX> = log.records().collect();
    assert_eq!(records.len(), usize::from(log.fixed.count));
    same(bytes, scratch, |writer| write_log(writer, log.fixed, &records));
    Ok(())
}

fn samples(bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let samples = Samples::decode(bytes)?;
    let records: heapless::Vec<Sample<'_>, SAMPLES_MAX> = samples.records().collect();
    assert_eq!(records.len(), usize::from(samples.fixed.count));
    same(bytes, scratch, |writer| write_samples(writer, samples.fixed, &records));
    Ok(())
}

/// The body of a desired set: records and their clauses.
pub fn set_body(bytes: &[u8], scratch: &mut [u8]) -> Result<(), WireError> {
    let set = SetBody::decode(bytes)?;
    assert_eq!(set.iter().count(), set.len());
    let mut writer = BodyWriter::new(scratch, set.len() as u16).unwrap();
    for record in set.iter() {
        clauses(&record.clauses);
        writer.record_raw(&record.core, record.clauses.as_bytes()).unwrap();
    }
    assert_eq!(writer.left(), 0);
    assert_eq!(writer.finish(), bytes);
    Ok(())
}

fn clauses(clauses: &Clauses<'_>) {
    let list: heapless::Vec<Stated<'_>, CLAUSES_MAX> = clauses.iter().collect();
    let mut buffer = [0; CLAUSES_BYTES_MAX];
    assert_eq!(encode_clauses(&mut buffer, &list).as_deref(), Ok(clauses.as_bytes()));
    let _ = clauses.unknown_critical();
    for stated in &list {
        if let Clause::Topics(topics) = stated.clause {
            let filters: heapless::Vec<&str, TOPIC_FILTERS_MAX> = topics.iter().collect();
            let mut buffer = [0; CLAUSES_BYTES_MAX];
            assert_eq!(Topics::encode(&mut buffer, &filters), Ok(topics));
        }
    }
}

/// Everything that people and topics carry as text.
pub fn text(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let mut known = false;
    if let Ok(id) = DeviceId::parse(text) {
        assert_eq!(id.text(), text);
        known = true;
    }
    if let Some(id) = TokenId::parse(text) {
        let mut again: heapless::String<16> = heapless::String::new();
        write!(again, "{id}").unwrap();
        assert_eq!(again, text);
        known = true;
    }
    if let Some(digest) = Digest::parse(text) {
        assert_eq!(digest.text(), text);
        known = true;
    }
    if let Some(topic) = Topic::parse(FLEET, text) {
        let again: TopicText = topic.print(FLEET).unwrap();
        assert_eq!(again, text);
        known = true;
    }
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    if let Ok(token) = JoinToken::parse(text, &mut buffer) {
        assert_eq!(token.text().unwrap(), text.trim());
        known = true;
    }
    let _ = is_label(text, 63);
    let (filter, topic) = text.split_once(' ').unwrap_or((text, text));
    let _ = topic_matches(filter, topic);
    for limit in 0..text.len().min(8) {
        let cut = truncate(text, limit);
        assert!(cut.len() <= limit && text.starts_with(cut));
    }
    known
}

/// The beginning of the partition `config`.
pub fn provision(bytes: &[u8]) -> Result<(), ProvisionError> {
    let record = Provision::decode(bytes)?;
    let mut buffer = [0; wire::limits::PROVISION_BYTES_MAX];
    let again = record.encode(&mut buffer).expect("what was decoded can be encoded");
    assert!(bytes.starts_with(again), "two spellings of one record");
    Ok(())
}
