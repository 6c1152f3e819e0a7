//! Every limit that a decoder enforces, at the limit minus one, at the limit and one above; and that a sender refuses the same.
use crate::corpus::{
    REFERENCE, capabilities, core, digest, entry, health, hello_fixed, join_claim, join_token, order, prefix,
    status_fixed,
};
use crate::families::{FLEET, SCRATCH_BYTES, TOKEN, World, body, device_key, hub_key};
use wire::clause::{Clause, Name, Schedule, Secret, Topics};
use wire::codec::Writer;
use wire::desired::{ClassLimits, Desired, Header};
use wire::event::{Event, Input, Level, LogFixed, LogRecord, write_log};
use wire::frame::{Body, Kind, encode_plain, peek};
use wire::hello::{Capabilities, Health, HubState, LastEnd};
use wire::id::{CommandId, Fence, Instance, Order, Revision, Session, WorkloadId};
use wire::join::{Accepted, JoinAnswer, JoinClaim, JoinRequest, JoinToken};
use wire::limits::*;
use wire::position::Position;
use wire::record::{BodyWriter, encode_clauses};
use wire::sample::{Class, Sample, SamplesFixed, Value};
use wire::status::{Entry, Reason, Refused, State, StatusFixed, StatusWriter};
use wire::topic::Topic;
use wire::transfer::{Chunk, CommandOutcome, CommandResult, Need, Want};
use wire::{DigestPrefix, WireError};

/// One limit: what it is called, its value, and a message that has exactly so many of what is limited. The message is built
/// past our own encoders, because those refuse it.
struct Case {
    name: &'static str,
    limit: usize,
    kind: Kind,
    build: Box<dyn Fn(usize) -> Vec<u8>>,
}

fn case(name: &'static str, limit: usize, kind: Kind, build: impl Fn(usize) -> Vec<u8> + 'static) -> Case {
    Case { name, limit, kind, build: Box::new(build) }
}

fn raw(value: &impl serde::Serialize) -> Vec<u8> {
    let mut buffer = vec![0; SCRATCH_BYTES];
    let mut writer = Writer::new(&mut buffer);
    writer.value(value).unwrap();
    writer.finish().to_vec()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [raw(&(bytes.len() as u32)), bytes.to_vec()].concat()
}

fn text(length: usize) -> String {
    "t".repeat(length)
}

/// A set of one record around clause bytes.
pub fn set(clauses: &[u8]) -> Vec<u8> {
    [raw(&1u16), raw(&core(1, 0)), prefixed(clauses)].concat()
}

fn clause(number: u16, bytes: &[u8]) -> Vec<u8> {
    [raw(&(number << 1)), prefixed(bytes)].concat()
}

fn set_of(number: u16, value: &impl serde::Serialize) -> Vec<u8> {
    set(&clause(number, &raw(value)))
}

const EVENT: Event<'_> = Event {
    session: Session(1),
    sequence: 1,
    workload: WorkloadId(1),
    component: 0,
    fence: None,
    topic: "t",
    payload: b"p",
};
const INPUT: Input<'_> = Input { sequence: 1, workload: WorkloadId(1), fence: None, topic: "t", payload: b"p" };

fn name<'a>(namespace: &'a str, name: &'a str, component: &'a str) -> Name<'a> {
    Name { namespace, name, component }
}

fn clause_cases() -> Vec<Case> {
    vec![
        case("NAME_BYTES_MAX of a namespace", NAME_BYTES_MAX, Kind::Desired, |n| set_of(1, &name(&text(n), "", ""))),
        case("NAME_BYTES_MAX of a workload", NAME_BYTES_MAX, Kind::Desired, |n| set_of(1, &name("", &text(n), ""))),
        case("NAME_BYTES_MAX of a component", NAME_BYTES_MAX, Kind::Desired, |n| set_of(1, &name("", "", &text(n)))),
        case("NAME_BYTES_MAX of a secret", NAME_BYTES_MAX, Kind::Desired, |n| {
            set_of(14, &Secret { name: &text(n), version: 1, sealed: REFERENCE })
        }),
        case("CRON_BYTES_MAX", CRON_BYTES_MAX, Kind::Desired, |n| {
            set_of(15, &Schedule { cron: &text(n), missed_runs_max: 1 })
        }),
        case("CONFIG_INLINE_BYTES_MAX", CONFIG_INLINE_BYTES_MAX, Kind::Desired, |n| set(&clause(2, &vec![7; n]))),
        case("COMPONENTS_MAX in After", COMPONENTS_MAX, Kind::Desired, |n| set(&clause(4, &vec![7; n]))),
        case("TRACE_BYTES_MAX", TRACE_BYTES_MAX, Kind::Desired, |n| set(&clause(16, &vec![7; n]))),
        case("TOPIC_FILTERS_MAX", TOPIC_FILTERS_MAX, Kind::Desired, |n| set(&clause(6, &prefixed(b"t").repeat(n)))),
        case("TOPIC_BYTES_MAX of a filter", TOPIC_BYTES_MAX, Kind::Desired, |n| {
            set(&clause(6, &prefixed(text(n).as_bytes())))
        }),
        case("CLAUSE_BYTES_MAX", CLAUSE_BYTES_MAX, Kind::Desired, |n| set(&clause(4000, &vec![7; n]))),
        case("CLAUSES_MAX", CLAUSES_MAX, Kind::Desired, |n| {
            set(&(0..n).flat_map(|at| clause(100 + at as u16, b"")).collect::<Vec<_>>())
        }),
        case("CLAUSES_BYTES_MAX", CLAUSES_BYTES_MAX, Kind::Desired, |n| {
            // Each clause of 500 takes 504 with its number and length.
            let most: Vec<u8> = (0..4).flat_map(|at| clause(4000 + at, &[7; 500])).collect();
            set(&[most.clone(), clause(4010, &vec![7; n - most.len() - 3])].concat())
        }),
        case("RECORDS_MAX", RECORDS_MAX, Kind::Desired, |n| {
            let records = (0..n).flat_map(|at| [raw(&core(at as u32, 0)), prefixed(b"")].concat());
            raw(&(n as u16)).into_iter().chain(records).collect()
        }),
        case("COMPONENTS_MAX of a record", COMPONENTS_MAX - 1, Kind::Desired, |n| {
            [raw(&1u16), raw(&core(1, n as u8)), prefixed(b"")].concat()
        }),
    ]
}

fn status_with(entries: &[Entry<'_>]) -> Vec<u8> {
    let entries_bytes = entries.iter().flat_map(raw);
    [raw(&status_fixed(None)), raw(&(entries.len() as u16))].concat().into_iter().chain(entries_bytes).collect()
}

fn log_with(count: usize, length: usize) -> Vec<u8> {
    let text = text(length);
    let record = LogRecord { workload: WorkloadId(1), component: 0, level: Level::Info, uptime_ms: 1, text: &text };
    let fixed = LogFixed { session: Session(1), sequence: 1, uptime_ms: 1, count: count as u8 };
    [raw(&fixed), raw(&record).repeat(count)].concat()
}

fn samples_with(count: usize, key: usize, length: usize) -> Vec<u8> {
    let (key, text) = (text(key), text(length));
    let record = Sample {
        sequence: 1,
        workload: WorkloadId(1),
        component: 0,
        key: &key,
        uptime_ms: 1,
        unix_ms: 0,
        value: Value::Text(&text),
    };
    let fixed = SamplesFixed {
        session: Session(1),
        class: Class::State,
        stream: 0,
        first: 1,
        lost: 0,
        uptime_ms: Some(1),
        count: count as u8,
    };
    [raw(&fixed), raw(&record).repeat(count)].concat()
}

fn message_cases() -> Vec<Case> {
    vec![
        case("TOPIC_BYTES_MAX of an event", TOPIC_BYTES_MAX, Kind::Event, |n| raw(&Event { topic: &text(n), ..EVENT })),
        case("EVENT_BYTES_MAX of an event", EVENT_BYTES_MAX, Kind::Event, |n| {
            raw(&Event { payload: &vec![7; n], ..EVENT })
        }),
        case("TOPIC_BYTES_MAX of an input", TOPIC_BYTES_MAX, Kind::Input, |n| raw(&Input { topic: &text(n), ..INPUT })),
        case("EVENT_BYTES_MAX of an input", EVENT_BYTES_MAX, Kind::Input, |n| {
            raw(&Input { payload: &vec![7; n], ..INPUT })
        }),
        case("NAME_BYTES_MAX of a sample", NAME_BYTES_MAX, Kind::Sample, |n| samples_with(1, n, 1)),
        case("SAMPLES_MAX", SAMPLES_MAX, Kind::Sample, |n| samples_with(n, 1, 1)),
        case("SAMPLE_TEXT_BYTES_MAX", SAMPLE_TEXT_BYTES_MAX, Kind::Sample, |n| samples_with(1, 1, n)),
        case("LOG_TEXT_BYTES_MAX", LOG_TEXT_BYTES_MAX, Kind::Log, |n| log_with(1, n)),
        case("LOG_RECORDS_MAX", LOG_RECORDS_MAX, Kind::Log, |n| log_with(n, 1)),
        case("DETAIL_BYTES_MAX of a status", DETAIL_BYTES_MAX, Kind::Status, |n| {
            status_with(&[entry(1, 0, State::Failed, Reason::EXITED, &text(n))])
        }),
        case("COMPONENTS_MAX of a status", COMPONENTS_MAX - 1, Kind::Status, |n| {
            status_with(&[entry(1, n as u8, State::Failed, Reason::EXITED, "")])
        }),
        case("STATUS_ENTRIES_MAX", STATUS_ENTRIES_MAX, Kind::Status, |n| {
            let entries: Vec<_> = (0..n).map(|at| entry(at as u32, 0, State::Running, Reason::NONE, "")).collect();
            status_with(&entries)
        }),
        case("DETAIL_BYTES_MAX of a result", DETAIL_BYTES_MAX, Kind::CommandResult, |n| {
            let (session, id) = (Session(1), CommandId(order(1, 1)));
            raw(&CommandResult { session, id, outcome: CommandOutcome::Done, detail: &text(n) })
        }),
        case("CHUNK_BYTES_MAX", CHUNK_BYTES_MAX, Kind::Chunk, |n| {
            raw(&Chunk { content: prefix(1), offset: 0, bytes: &vec![7; n] })
        }),
        case("CHUNKS_IN_FLIGHT_MAX of an artifact", usize::from(CHUNKS_IN_FLIGHT_MAX), Kind::Need, |n| {
            raw(&Need { session: Session(1), want: Want::Artifact { digest: digest(1), offset: 0, count: n as u8 } })
        }),
        case("CHUNKS_IN_FLIGHT_MAX of a body", usize::from(CHUNKS_IN_FLIGHT_MAX), Kind::Need, |n| {
            raw(&Need { session: Session(1), want: Want::Body { digest: digest(1), offset: 0, count: n as u8 } })
        }),
        case("AGENT_VERSION_BYTES_MAX", AGENT_VERSION_BYTES_MAX, Kind::Hello, |n| {
            [raw(&hello_fixed()), vec![1], raw(&Capabilities { agent_version: &text(n), ..capabilities() })].concat()
        }),
        case("END_TEXT_BYTES_MAX", END_TEXT_BYTES_MAX, Kind::Hello, |n| {
            let end = Some(LastEnd { address: 1, text: &text(n) });
            [raw(&hello_fixed()), vec![4], raw(&Health { end, ..health() })].concat()
        }),
    ]
}

fn accepted<'a>(sealed: &'a [u8], artifacts: &'a str, name: &'a str) -> JoinAnswer<'a> {
    let hub_exchange = join_claim().exchange;
    JoinAnswer::Accepted(Accepted {
        nonce: [0; 16],
        device: World::new().device,
        hub_signing: World::new().hub,
        hub_exchange,
        sealed,
        artifacts,
        name,
        approved: false,
    })
}

fn join_cases() -> Vec<Case> {
    const SEALED: [u8; SEALED_CREDENTIAL_BYTES] = [9; SEALED_CREDENTIAL_BYTES];
    vec![
        case("NAME_BYTES_MAX of a join", NAME_BYTES_MAX, Kind::JoinRequest, |n| {
            let signature = join_claim().sign(&device_key(), FLEET, TOKEN).unwrap();
            raw(&JoinRequest { claim: JoinClaim { name: &text(n), ..join_claim() }, signature })
        }),
        case("NAME_BYTES_MAX of an answer", NAME_BYTES_MAX, Kind::JoinAnswer, |n| {
            raw(&accepted(&SEALED, "", &text(n)))
        }),
        case("ADDRESS_BYTES_MAX of an answer", ADDRESS_BYTES_MAX, Kind::JoinAnswer, |n| {
            raw(&accepted(&SEALED, &text(n), ""))
        }),
    ]
}

#[test]
fn every_decoder_refuses_at_its_limit_plus_one() {
    let mut scratch = vec![0; SCRATCH_BYTES];
    let cases: Vec<Case> = [clause_cases(), message_cases(), join_cases()].into_iter().flatten().collect();
    assert!(cases.len() >= 33);
    for Case { name, limit, kind, build } in cases {
        for fits in [limit - 1, limit] {
            assert_eq!(body(kind, &build(fits), &mut scratch), Ok(()), "{name} at {fits} of {limit}");
        }
        let got = body(kind, &build(limit + 1), &mut scratch);
        assert!(matches!(got, Err(WireError::TooLarge { .. })), "{name} at {} of {limit}: {got:?}", limit + 1);
    }
}

#[test]
fn a_sealed_credential_has_one_length() {
    let mut scratch = vec![0; SCRATCH_BYTES];
    for length in [0, 1, SEALED_CREDENTIAL_BYTES - 1, SEALED_CREDENTIAL_BYTES, SEALED_CREDENTIAL_BYTES + 1, 200] {
        let sealed = vec![9; length];
        let expected = if length == SEALED_CREDENTIAL_BYTES { Ok(()) } else { Err(WireError::Malformed) };
        assert_eq!(body(Kind::JoinAnswer, &raw(&accepted(&sealed, "", "")), &mut scratch), expected);
    }
}

#[test]
fn coordinates_that_are_not_on_earth_are_malformed() {
    let mut scratch = vec![0; SCRATCH_BYTES];
    let signature = join_claim().sign(&device_key(), FLEET, TOKEN).unwrap();
    let edge = (Position::LONGITUDE_E7_MAX, Position::LATITUDE_E7_MAX);
    for (longitude_e7, latitude_e7, on_earth) in [
        (edge.0, edge.1, true),
        (-edge.0, -edge.1, true),
        (edge.0 + 1, 0, false),
        (-edge.0 - 1, 0, false),
        (0, edge.1 + 1, false),
        (0, -edge.1 - 1, false),
        (i32::MIN, i32::MIN, false),
        (i32::MAX, i32::MAX, false),
    ] {
        let position = Some(Position { longitude_e7, latitude_e7, uncertainty_m: 1 });
        let expected = if on_earth { Ok(()) } else { Err(WireError::Malformed) };
        let status = [raw(&status_fixed(position)), raw(&0u16)].concat();
        assert_eq!(body(Kind::Status, &status, &mut scratch), expected);
        let claim = JoinClaim { position, ..join_claim() };
        assert_eq!(body(Kind::JoinRequest, &raw(&JoinRequest { claim, signature }), &mut scratch), expected);
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(StatusWriter::new(&mut writer, status_fixed(position), 0).map(|_| ()), expected);
    }
}

/// What finds no room in the buffer that is hashed would be the same for all entries.
#[test]
fn the_content_of_a_status_at_its_longest_is_hashed_whole() {
    let position = Position {
        longitude_e7: -Position::LONGITUDE_E7_MAX,
        latitude_e7: -Position::LATITUDE_E7_MAX,
        uncertainty_m: u32::MAX,
    };
    let fixed = StatusFixed {
        revision: Revision(Order::new(Order::INCARNATION_MAX, Order::COUNTER_MAX).unwrap()),
        digest: DigestPrefix([0xff; 8]),
        refused: Refused { equivocation: u32::MAX, ..Refused::default() },
        ..status_fixed(Some(position))
    };
    let content = |generation| {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer);
        let mut status = StatusWriter::new(&mut writer, fixed, 1).unwrap();
        status.entry(&Entry { generation, ..entry(1, 0, State::Running, Reason::NONE, "") }).unwrap();
        status.finish()
    };
    assert_ne!(content(1), content(2));
}

#[test]
fn status_entries_ascend_without_repetition_for_both_sides() {
    let at = |workload, component| entry(workload, component, State::Running, Reason::NONE, "");
    let mut scratch = vec![0; SCRATCH_BYTES];
    assert_eq!(body(Kind::Status, &status_with(&[at(1, 0), at(1, 1), at(2, 0)]), &mut scratch), Ok(()));
    for pair in [[at(1, 0), at(1, 0)], [at(1, 1), at(1, 0)], [at(2, 0), at(1, 0)]] {
        assert_eq!(body(Kind::Status, &status_with(&pair), &mut scratch), Err(WireError::NotCanonical));
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer);
        let mut status = StatusWriter::new(&mut writer, status_fixed(None), 2).unwrap();
        assert_eq!(status.entry(&pair[0]), Ok(()));
        assert_eq!(status.entry(&pair[1]), Err(WireError::NotCanonical));
    }
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    let mut status = StatusWriter::new(&mut writer, status_fixed(None), 1).unwrap();
    assert_eq!(status.entry(&at(1, 0)), Ok(()));
    assert_eq!(status.entry(&at(2, 0)), Err(WireError::Trailing), "more entries than were announced");
    let mut writer = Writer::new(&mut buffer);
    assert!(StatusWriter::new(&mut writer, status_fixed(None), STATUS_ENTRIES_MAX as u16 + 1).is_err());
}

#[test]
fn an_order_out_of_range_is_malformed() {
    for (incarnation, counter, fits) in [
        (Order::INCARNATION_MAX, Order::COUNTER_MAX, true),
        (Order::INCARNATION_MAX + 1, 0, false),
        (0, Order::COUNTER_MAX + 1, false),
        (u32::MAX, u64::MAX, false),
    ] {
        let got: Result<Order, _> = wire::codec::decode(&raw(&(incarnation, counter)));
        assert_eq!(got.is_ok(), fits);
        assert_eq!(got.err(), (!fits).then_some(WireError::Malformed));
    }
}

#[test]
fn an_incarnation_of_the_hub_is_24_bits() {
    let state = |incarnation| HubState {
        incarnation,
        spread_ms: 0,
        watermark: 0,
        fence: Fence(Order::ZERO),
        instance: Instance([0; 8]),
    };
    let mut scratch = vec![0; SCRATCH_BYTES];
    assert_eq!(body(Kind::HubState, &raw(&state(Order::INCARNATION_MAX)), &mut scratch), Ok(()));
    let over = state(Order::INCARNATION_MAX + 1);
    assert_eq!(body(Kind::HubState, &raw(&over), &mut scratch), Err(WireError::Malformed));
    assert_eq!(encode_plain(&mut [0; 64], &over), Err(WireError::Malformed));
}

#[test]
fn a_version_range_that_ends_before_it_starts_is_malformed() {
    let mut fixed = hello_fixed();
    fixed.versions = wire::version::VersionRange { oldest: 2, newest: 1 };
    let mut scratch = vec![0; SCRATCH_BYTES];
    assert_eq!(body(Kind::Hello, &[raw(&fixed), vec![0]].concat(), &mut scratch), Err(WireError::Malformed));
}

#[test]
fn a_sender_refuses_what_its_receiver_would() {
    fn refused<T: Body>(value: &T) {
        let mut buffer = [0; 4096];
        assert!(matches!(encode_plain(&mut buffer, value), Err(WireError::TooLarge { .. })));
        let world = World::new();
        let got = wire::frame::encode_live(&mut buffer, &world.pair, &world.context(T::KIND), value);
        assert!(matches!(got, Err(WireError::TooLarge { .. })));
    }
    refused(&Event { topic: &text(TOPIC_BYTES_MAX + 1), ..EVENT });
    refused(&Event { payload: &[0; EVENT_BYTES_MAX + 1], ..EVENT });
    refused(&Input { payload: &[0; EVENT_BYTES_MAX + 1], ..INPUT });
    refused(&Chunk { content: prefix(1), offset: 0, bytes: &[0; CHUNK_BYTES_MAX + 1] });
    let want = Want::Artifact { digest: digest(1), offset: 0, count: CHUNKS_IN_FLIGHT_MAX + 1 };
    refused(&Need { session: Session(1), want });
    let long = text(DETAIL_BYTES_MAX + 1);
    let id = CommandId(order(1, 1));
    refused(&CommandResult { session: Session(1), id, outcome: CommandOutcome::Done, detail: &long });
    let claim = JoinClaim { name: &text(NAME_BYTES_MAX + 1), ..join_claim() };
    assert_eq!(claim.sign(&device_key(), FLEET, TOKEN), Err(WireError::TooLarge { limit: NAME_BYTES_MAX as u32 }));
    let mut room = [0; 1024];
    let filters = ["t"; TOPIC_FILTERS_MAX + 1];
    assert!(Topics::encode(&mut room, &filters[1..]).is_ok());
    assert!(Topics::encode(&mut room, &filters).is_err());
    assert!(Topics::encode(&mut room, &[&text(TOPIC_BYTES_MAX + 1)]).is_err());
    let over = Clause::Unknown { number: 4000, bytes: &[0; CLAUSE_BYTES_MAX + 1] };
    let stated = crate::corpus::stated(&over);
    assert_eq!(encode_clauses(&mut room, &[stated]), Err(WireError::TooLarge { limit: CLAUSE_BYTES_MAX as u32 }));
    assert!(BodyWriter::new(&mut room, RECORDS_MAX as u16).is_ok());
    assert!(BodyWriter::new(&mut room, RECORDS_MAX as u16 + 1).is_err());
    let record = LogRecord { workload: WorkloadId(1), component: 0, level: Level::Info, uptime_ms: 1, text: "" };
    let fixed = LogFixed { session: Session(1), sequence: 1, uptime_ms: 1, count: 2 };
    assert!(write_log(&mut Writer::new(&mut room), fixed, &[record]).is_err(), "a count that lies");
}

#[test]
fn a_detail_over_its_limit_is_cut_between_characters() {
    let detail = "\u{e9}".repeat(DETAIL_BYTES_MAX);
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    let mut status = StatusWriter::new(&mut writer, status_fixed(None), 1).unwrap();
    status.entry(&entry(1, 0, State::Failed, Reason::EXITED, &detail)).unwrap();
    status.finish();
    let got = wire::status::Status::decode(writer.written()).unwrap();
    assert_eq!(got.entries().next().unwrap().detail, "\u{e9}".repeat(DETAIL_BYTES_MAX / 2));
    assert_eq!(wire::status::truncate("a\u{e9}", 2), "a");
    assert_eq!(wire::status::truncate("\u{1f600}", 3), "");
}

#[test]
fn a_body_is_inline_up_to_its_limit_and_apart_above() {
    let mut buffer = vec![0; 2 * BODY_INLINE_BYTES_MAX];
    let limits = ClassLimits { records: 1, memory_bytes: 1 };
    for (length, inline) in
        [(BODY_INLINE_BYTES_MAX - 1, true), (BODY_INLINE_BYTES_MAX, true), (BODY_INLINE_BYTES_MAX + 1, false)]
    {
        let content = vec![7; length];
        let header = Header::of(Revision(order(1, 1)), &content, limits).unwrap();
        let signed = header.sign(&hub_key(), FLEET, World::new().device).unwrap();
        let frame = signed.encode(&mut buffer, &content).unwrap();
        assert_eq!(Desired::decode(frame).unwrap().body.is_some(), inline);
        let grown = [&frame[..], &[0]].concat();
        assert_eq!(Desired::decode(&grown).map(|_| ()), Err(WireError::Trailing));
        let mut alone = [0; 256];
        let alone = signed.encode_apart(&mut alone).unwrap();
        let decoded = Desired::decode(alone).unwrap();
        assert!(decoded.body.is_none() && decoded.signed == signed, "for a device whose packet is smaller");
    }
}

#[test]
fn a_body_over_its_limit_is_refused_by_both_sides() {
    let limits = ClassLimits { records: 1, memory_bytes: 1 };
    let over = Err(WireError::TooLarge { limit: BODY_BYTES_MAX as u32 });
    for (length, fits) in [(BODY_BYTES_MAX - 1, true), (BODY_BYTES_MAX, true), (BODY_BYTES_MAX + 1, false)] {
        assert_eq!(Header::of(Revision(order(1, 1)), &vec![0; length], limits).is_ok(), fits);
        let header = Header { revision: Revision(order(1, 1)), body_bytes: length as u32, body: digest(1), limits };
        let frame = [vec![1, Kind::Desired as u8], vec![0; 68], raw(&header)].concat();
        let got = Desired::decode(&frame).map(|_| ());
        assert_eq!(got, if fits { Ok(()) } else { over });
    }
}

#[test]
fn a_frame_over_its_limit_is_refused_unread() {
    for (length, fits) in [(FRAME_BYTES_MAX - 1, true), (FRAME_BYTES_MAX, true), (FRAME_BYTES_MAX + 1, false)] {
        let mut frame = vec![0; length];
        frame[..2].copy_from_slice(&[1, Kind::Status as u8]);
        assert_eq!(peek(&frame).is_ok(), fits);
    }
    let world = World::new();
    let mut buffer = vec![0; FRAME_BYTES_MAX + 100];
    for (length, fits) in [(FRAME_BYTES_MAX - 18, true), (FRAME_BYTES_MAX - 17, false)] {
        let content = vec![0; length];
        let context = world.context(Kind::Status);
        let got = wire::frame::encode_live_with(&mut buffer, Kind::Status, &world.pair, &context, |writer| {
            writer.bytes(&content)
        });
        assert_eq!(got.is_ok(), fits);
    }
}

#[test]
fn a_trust_link_over_its_limit_is_refused_before_its_signature_is_checked() {
    struct MustNotBeAsked;
    impl wire::sign::Verify for MustNotBeAsked {
        fn verify(&self, _: &wire::sign::PublicKey, _: &[u8], _: &wire::sign::Signature) -> bool {
            panic!("asked to verify an oversize link")
        }
    }
    let root = World::new().root;
    let frame = [vec![1, Kind::Trust as u8], root.id().0.to_vec(), vec![0; 64 + TRUST_LINK_BYTES_MAX + 1]].concat();
    let got = wire::trust::Link::decode(&frame, &MustNotBeAsked, &root, FLEET);
    assert_eq!(got, Err(WireError::TooLarge { limit: TRUST_LINK_BYTES_MAX as u32 }));
}

#[test]
fn names_in_topics_and_tokens_have_their_limits() {
    for (length, fits) in [(FLEET_BYTES_MAX - 1, true), (FLEET_BYTES_MAX, true), (FLEET_BYTES_MAX + 1, false)] {
        let fleet = text(length);
        let over = WireError::TooLarge { limit: FLEET_BYTES_MAX as u32 };
        assert_eq!(Topic::HubState.print(&fleet).err(), (!fits).then_some(over));
        assert_eq!(Topic::hub_filters(&fleet).is_ok(), fits);
        assert_eq!(JoinToken { fleet: &fleet, ..join_token() }.text().is_ok(), fits);
    }
    for (length, fits) in [(ADDRESS_BYTES_MAX - 1, true), (ADDRESS_BYTES_MAX, true), (ADDRESS_BYTES_MAX + 1, false)] {
        let (broker, token) = (text(length), join_token());
        assert_eq!(JoinToken { broker: &broker, ..token }.text().is_ok(), fits);
        // Past our own printer.
        let digits: String =
            raw(&JoinToken { broker: &broker, ..token }).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut buffer = [0; wire::join::TOKEN_TEXT_BYTES_MAX];
        assert_eq!(JoinToken::parse(&format!("fulmar-join-{digits}"), &mut buffer).is_ok(), fits);
    }
}

#[test]
fn no_limit_is_forgotten() {
    // Of buffers and of what other crates admit: no decoder here meets them. `sizes` shows the ones that are ours.
    const ELSEWHERE: [&str; 3] = ["MQTT_TOPIC_BYTES_MAX", "BODY_BYTES_MAX_SMALL", "ARTIFACT_BYTES_MAX"];
    let tests = [
        include_str!("limits.rs").split("fn no_limit_is_forgotten").next().unwrap(),
        include_str!("round_trip.rs"),
        include_str!("sizes.rs"),
        include_str!("cryptography.rs"),
        include_str!("provision.rs"),
        include_str!("line.rs"),
    ];
    let source = include_str!("../../src/limits.rs");
    let names = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    for name in names {
        let used = tests.iter().any(|test| test.contains(name));
        assert!(used || ELSEWHERE.contains(&name), "no test speaks of {name}");
    }
}
