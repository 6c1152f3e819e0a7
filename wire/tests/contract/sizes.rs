//! Sizes are promises too: radio time and the RAM of small parts depend on them.
use crate::corpus::{capabilities, core, digest, fresh, health, hello_fixed, link, order, prefix, signed_header};
use crate::families::{BOOT, FLEET, World, hub_key, root_key};
use wire::clause::{Clause, FunctionLimits, Name, Topics};
use wire::desired::{ClassLimits, HEADER_BYTES_MAX, Header};
use wire::event::{LogFixed, LogRecord, write_log};
use wire::frame::{Body, Kind, LIVE_OVERHEAD_BYTES, encode_live, encode_live_with};
use wire::hello::{
    Asks, Capabilities, Erases, Fresh, Health, Heartbeat, Hello, HelloFixed, LastEnd, LossCounters, Wear, Will,
};
use wire::id::{CommandId, Order, Revision, Session, WorkloadId};
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::limits::{
    ADDRESS_BYTES_MAX, END_TEXT_BYTES_MAX, FLEET_BYTES_MAX, FRAME_BYTES_MAX, HEARTBEAT_BYTES_MAX, LOG_RECORDS_MAX,
    LOG_TEXT_BYTES_MAX, RECONNECT_BYTES_MAX, TRUST_LINK_BYTES_MAX,
};
use wire::record::BodyWriter;
use wire::sign::{PublicKey, Sign};
use wire::trust::Link;
use wire::version::VersionRange;

fn live<T: Body>(value: &T) -> usize {
    let world = World::new();
    let mut buffer = [0; 4096];
    encode_live(&mut buffer, &world.pair, &world.context(T::KIND), value).unwrap().len()
}

fn hello(hello: &Hello<'_>) -> usize {
    let world = World::new();
    let mut buffer = [0; 1024];
    let context = world.context(Kind::Hello);
    encode_live_with(&mut buffer, Kind::Hello, &world.pair, &context, |writer| hello.write(writer)).unwrap().len()
}

#[test]
fn a_heartbeat_fits_its_budget_at_the_last_sequence() {
    let longest = live(&Heartbeat { sequence: u32::MAX, status: prefix(0xff) });
    assert_eq!(longest, 31);
    assert!(longest <= HEARTBEAT_BYTES_MAX);
    assert_eq!(live(&Will { boot: BOOT }), 26);
}

#[test]
fn a_reconnect_with_nothing_new_fits_its_budget() {
    // An old, busy, lossy device: incarnation 300, ten million revisions and commands, packets of a megabyte, a million losses.
    let old = HelloFixed {
        revision: Revision(order(300, 10_000_000)),
        command: CommandId(order(300, 10_000_000)),
        packet_bytes_max: 1 << 20,
        trust: 200,
        lost: LossCounters {
            events: 1_000_000,
            logs: 1_000_000,
            alarms: 1_000_000,
            states: 1_000_000,
            metrics: 1_000_000,
        },
        ..hello_fixed()
    };
    let answer = Fresh {
        revision: Revision(order(300, 10_000_000)),
        session: Session(1_000_000),
        heartbeat_s: 600,
        asks: Asks(0),
        ..fresh()
    };
    let up = hello(&Hello { fixed: old, capabilities: None, proof: None, health: None });
    let down = live(&answer);
    println!("hello {up} + fresh {down} = {}", up + down);
    assert_eq!((up, down), (94, 52));
    assert!(up + down <= RECONNECT_BYTES_MAX);
    let first = hello(&Hello { fixed: hello_fixed(), capabilities: None, proof: None, health: None }) + live(&fresh());
    println!("young device: {first}");
    assert!(first <= 128);
}

#[test]
fn the_longest_hello_and_fresh_are_known() {
    // No real device comes near; buffers may be made of these.
    let last = order(Order::INCARNATION_MAX, Order::COUNTER_MAX);
    let fixed = HelloFixed {
        versions: VersionRange { oldest: 255, newest: 255 },
        revision: Revision(last),
        command: CommandId(last),
        packet_bytes_max: u32::MAX,
        trust: u32::MAX,
        lost: LossCounters { events: u32::MAX, logs: u32::MAX, alarms: u32::MAX, states: u32::MAX, metrics: u32::MAX },
        ..hello_fixed()
    };
    let bare = hello(&Hello { fixed, capabilities: None, proof: None, health: None });
    let version = "v".repeat(32);
    let said = "x".repeat(END_TEXT_BYTES_MAX);
    let worn = Erases { all: u32::MAX, boot: u32::MAX };
    let full = Hello {
        fixed,
        capabilities: Some(Capabilities {
            agent_version: &version,
            features: wire::hello::Features(u32::MAX),
            interfaces: wire::record::CapabilitySet(u32::MAX),
            records: u16::MAX,
            body_bytes: u32::MAX,
            memory_bytes: u32::MAX,
            storage_bytes: u64::MAX,
            ..capabilities()
        }),
        proof: Some(signed_header()),
        health: Some(Health {
            uptime_s: u32::MAX,
            end: Some(LastEnd { address: u32::MAX, text: &said }),
            wear: Some(Wear { journal: worn, artifacts: worn }),
            behind: Some(wire::DeviceId([255; 16])),
            ..health()
        }),
    };
    let full_bytes = hello(&full);
    let fresh = Fresh {
        revision: Revision(last),
        time_ms: u64::MAX,
        session: Session(u32::MAX),
        heartbeat_s: u16::MAX,
        asks: Asks(255),
        ..fresh()
    };
    println!("hello {bare}, full {full_bytes}, fresh {}", live(&fresh));
    assert_eq!((bare, live(&fresh)), (117, 63));
    assert!(full_bytes <= 480, "{full_bytes}");
}

/// A function as people write it: a name, one trigger, limits where it matters.
fn desired_bytes(records: u16) -> usize {
    let mut body = [0; 4096];
    let mut writer = BodyWriter::new(&mut body, records).unwrap();
    for number in 0..records {
        let name = Name { namespace: "default", name: "temperature-alarm", component: "" };
        let limits = FunctionLimits {
            host_calls: 500,
            log_bytes: 1024,
            emit_bytes: 2048,
            state_bytes: 16_384,
            sample_bytes: 512,
        };
        let mut room = [0; 64];
        let topics = Topics::encode(&mut room, &["sensors/door"]).unwrap();
        let trigger = if number % 2 == 0 { Clause::Every(60_000) } else { Clause::Topics(topics) };
        let mut clauses = vec![Clause::Name(name), trigger];
        if number % 4 == 3 {
            clauses.push(Clause::Limits(limits));
        }
        writer.record(&core(1000 + u32::from(number), 0), &clauses).unwrap();
    }
    assert_eq!(writer.left(), 0);
    let body = writer.finish();
    let limits = ClassLimits { records: 64, memory_bytes: 262_144 };
    let header = Header::of(Revision(order(2, 300)), body, limits).unwrap();
    let signed = header.sign(&hub_key(), FLEET, World::new().device).unwrap();
    let mut frame = [0; 4096];
    signed.encode(&mut frame, body).unwrap().len()
}

#[test]
fn a_desired_set_stays_within_its_typical_size() {
    let sizes = [0, 1, 3, 8].map(desired_bytes);
    println!("desired sets of 0, 1, 3, 8 records: {sizes:?} bytes");
    // Typical is 100-600 bytes. Eight named functions with their triggers are more, and still one packet in less than half
    // of the smallest class's buffer.
    assert!(sizes[0] >= 100 && sizes[0] <= 120, "{sizes:?}");
    assert!(sizes[1] <= 220 && sizes[2] <= 420 && desired_bytes(5) <= 600, "{sizes:?}");
    assert!(sizes[3] <= 950, "{sizes:?}");
}

#[test]
fn a_header_at_its_longest_fits_its_constant() {
    let header = Header {
        revision: Revision(order(Order::INCARNATION_MAX, Order::COUNTER_MAX)),
        body_bytes: u32::MAX,
        body: digest(0xff),
        limits: ClassLimits { records: u16::MAX, memory_bytes: u32::MAX },
    };
    let mut buffer = [0; 128];
    let mut writer = wire::codec::Writer::new(&mut buffer);
    writer.value(&header).unwrap();
    assert_eq!(writer.len(), 55);
    assert!(writer.len() <= HEADER_BYTES_MAX);
    let longest_fleet = "f".repeat(FLEET_BYTES_MAX);
    assert!(header.sign(&hub_key(), &longest_fleet, World::new().device).is_ok());
}

#[test]
fn a_full_trust_link_fits_its_constant() {
    let key = |seed| PublicKey([seed; 32]);
    let longest = Link {
        version: u32::MAX,
        epoch: u32::MAX,
        root: root_key().public_key(),
        hub_keys: [key(1), key(2)].into_iter().collect(),
        publisher_keys: [key(3), key(4), key(5)].into_iter().collect(),
        revoked: [6, 7, 8, 9, 10, 11, 12, 13].into_iter().map(|seed| key(seed).id()).collect(),
    };
    let mut buffer = [0; 512];
    let length = longest.encode(&mut buffer, &root_key(), &"f".repeat(FLEET_BYTES_MAX)).unwrap().len();
    println!("longest link: {} in a frame of {length}", length - 70);
    assert!(length - 70 <= TRUST_LINK_BYTES_MAX);
    let length = link().encode(&mut buffer, &root_key(), FLEET).unwrap().len();
    assert!(length <= TRUST_LINK_BYTES_MAX, "one hub key and one publisher key");
}

#[test]
fn the_longest_join_token_fits_its_constant() {
    let (fleet, broker) = ("f".repeat(FLEET_BYTES_MAX), "b".repeat(ADDRESS_BYTES_MAX));
    let token = JoinToken { fleet: &fleet, broker: &broker, ..crate::corpus::join_token() };
    let text = token.text().unwrap();
    assert!(text.len() <= TOKEN_TEXT_BYTES_MAX);
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    assert_eq!(JoinToken::parse(&text, &mut buffer), Ok(token));
}

#[test]
fn the_longest_log_frame_fits_a_frame() {
    let world = World::new();
    let text = "x".repeat(LOG_TEXT_BYTES_MAX);
    let record = LogRecord {
        workload: WorkloadId(u32::MAX),
        component: 255,
        level: wire::event::Level::Error,
        uptime_ms: u64::MAX,
        text: &text,
    };
    let records = [record; LOG_RECORDS_MAX];
    let fixed =
        LogFixed { session: Session(u32::MAX), sequence: u32::MAX, uptime_ms: u64::MAX, count: LOG_RECORDS_MAX as u8 };
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let context = world.context(Kind::Log);
    let frame =
        encode_live_with(&mut buffer, Kind::Log, &world.pair, &context, |writer| write_log(writer, fixed, &records));
    assert!(frame.unwrap().len() < FRAME_BYTES_MAX);
    assert_eq!(LIVE_OVERHEAD_BYTES, 18);
}
