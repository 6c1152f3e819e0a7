//! Bytes from an adversary or a bad memory: every cut, every flipped bit, every other spelling is refused with a typed error.
use crate::corpus::{Family, Item, core, corpus, set_of_all_clauses};
use crate::families::{
    Credulous, FLEET, SCRATCH_BYTES, TOKEN, World, body, device_key, frame, hub_key, set_body, signed,
};
use wire::auth::TAG_BYTES;
use wire::clause::{Clause, Name, Stated};
use wire::codec::{Writer, decode};
use wire::dalek::Ed25519;
use wire::desired::{Desired, SignedHeader, body_matches};
use wire::frame::{Kind, LIVE_OVERHEAD_BYTES, decode_live, decode_plain, open_live, peek};
use wire::hello::{Fresh, Hello, RefusalReason, ResetCause};
use wire::id::Session;
use wire::join::{JoinRefusal, JoinRequest};
use wire::record::{Body as SetBody, BodyWriter, Role, Runtime};
use wire::sign::Sign;
use wire::status::State;
use wire::transfer::{Action, CommandOutcome, Want};
use wire::{BootId, DeviceId, LiveContext, PairKey, WireError};

fn scratch() -> Vec<u8> {
    vec![0; SCRATCH_BYTES]
}

fn frames() -> Vec<(Kind, Item)> {
    corpus()
        .into_iter()
        .filter_map(|item| match item.family {
            Family::Frame(kind) => Some((kind, item)),
            _ => None,
        })
        .collect()
}

/// All bodies below their tags, with the signed ones by their records.
fn bodies() -> Vec<(Kind, String, Vec<u8>)> {
    corpus()
        .iter()
        .filter_map(|item| {
            item.body().map(|(kind, bytes)| (kind, format!("{} {}", item.group, item.name), bytes.to_vec()))
        })
        .collect()
}

fn is_live(kind: Kind) -> bool {
    !matches!(kind, Kind::Desired | Kind::Trust | Kind::HubState | Kind::JoinRequest | Kind::JoinAnswer)
}

#[test]
fn every_truncation_of_every_frame_is_refused() {
    let (world, mut scratch) = (World::new(), scratch());
    for (kind, item) in frames() {
        for end in 0..item.bytes.len() {
            let got = frame(&world, &item.bytes[..end], &mut scratch);
            assert!(got.is_err() || is_apart(kind, &item.bytes, end), "{} {} cut to {end}", item.group, item.name);
        }
    }
}

/// A set that ends exactly after its header is one whose body is fetched; the header says of how many bytes and which hash.
fn is_apart(kind: Kind, bytes: &[u8], end: usize) -> bool {
    let body = |bytes| Desired::decode(bytes).ok().map(|desired| desired.body.map_or(0, <[u8]>::len));
    kind == Kind::Desired && body(&bytes[..end]) == Some(0) && body(bytes) == Some(bytes.len() - end)
}

#[test]
fn every_truncation_of_every_body_is_refused_below_its_tag() {
    let (world, mut scratch) = (World::new(), scratch());
    for (kind, name, bytes) in bodies() {
        for end in 0..bytes.len() {
            assert!(body(kind, &bytes[..end], &mut scratch).is_err(), "{name} cut to {end}");
        }
    }
    for (kind, item) in frames() {
        if matches!(kind, Kind::Desired | Kind::Trust) {
            for end in 0..item.bytes.len() {
                let got = signed(&world, &Credulous, &item.bytes[..end], &mut scratch);
                assert!(got.is_err() || is_apart(kind, &item.bytes, end), "{} cut to {end}", item.name);
            }
        }
    }
}

#[test]
fn no_single_flipped_bit_of_a_tagged_frame_is_accepted() {
    let (world, mut scratch) = (World::new(), scratch());
    let mut flips = 0;
    for (_, mut item) in frames().into_iter().filter(|(kind, _)| is_live(*kind)) {
        for bit in 0..item.bytes.len() * 8 {
            item.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(frame(&world, &item.bytes, &mut scratch).is_err(), "{} {} bit {bit}", item.group, item.name);
            item.bytes[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
    assert!(flips > 10_000);
}

#[test]
fn no_single_flipped_bit_of_a_signed_frame_is_accepted() {
    let (world, mut scratch) = (World::new(), scratch());
    let picked = [("desired", "one-record"), ("desired", "body-apart"), ("trust", "link"), ("join-request", "placed")];
    let mut found = 0;
    for (_, mut item) in frames() {
        if !picked.contains(&(item.group, item.name.as_str())) {
            continue;
        }
        found += 1;
        for bit in 0..item.bytes.len() * 8 {
            item.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(frame(&world, &item.bytes, &mut scratch).is_err(), "{} {} bit {bit}", item.group, item.name);
            item.bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert_eq!(found, picked.len());
}

#[test]
fn a_flipped_body_never_matches_the_hash_in_its_header() {
    for (_, item) in frames().into_iter().filter(|(kind, _)| *kind == Kind::Desired) {
        let desired = Desired::decode(&item.bytes).unwrap();
        let Some(inner) = desired.body else { continue };
        assert!(body_matches(&desired.signed.header, inner));
        let mut bent = inner.to_vec();
        for bit in 0..bent.len() * 8 {
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(!body_matches(&desired.signed.header, &bent));
            bent[bit / 8] ^= 1 << (bit % 8);
        }
        bent.push(0);
        assert!(!body_matches(&desired.signed.header, &bent));
    }
}

#[test]
fn one_to_sixty_four_trailing_bytes_are_refused() {
    let (world, mut scratch) = (World::new(), scratch());
    for filler in [0, 0x80, 0xff] {
        for (kind, mut item) in frames() {
            for extra in 1..=64 {
                item.bytes.push(filler);
                assert!(frame(&world, &item.bytes, &mut scratch).is_err(), "{} {} +{extra}", item.group, item.name);
                if matches!(kind, Kind::Desired | Kind::Trust) {
                    assert!(signed(&world, &Credulous, &item.bytes, &mut scratch).is_err(), "{} +{extra}", item.name);
                }
            }
        }
        for (kind, name, mut bytes) in bodies() {
            for extra in 1..=64 {
                bytes.push(filler);
                assert!(body(kind, &bytes, &mut scratch).is_err(), "{name} +{extra}");
            }
        }
    }
}

/// `bytes` with the integer that ends at `at` spelt one to nine bytes longer, as LEB128 allows.
fn overlong(bytes: &[u8], at: usize, extra: usize) -> Vec<u8> {
    let mut out = bytes[..at].to_vec();
    out.push(bytes[at] | 0x80);
    out.extend(std::iter::repeat_n(0x80, extra - 1));
    out.push(0);
    out.extend_from_slice(&bytes[at + 1..]);
    out
}

#[test]
fn no_integer_has_a_second_spelling_anywhere() {
    let (world, mut scratch) = (World::new(), scratch());
    let mut not_canonical = 0;
    for (kind, _, bytes) in bodies() {
        for at in (0..bytes.len()).filter(|at| bytes[*at] < 0x80) {
            for extra in [1, 2, 4, 9] {
                // Where no integer ends there, another value may come out; the family insists that it is spelt exactly so.
                let got = body(kind, &overlong(&bytes, at, extra), &mut scratch);
                not_canonical += usize::from(got == Err(WireError::NotCanonical));
            }
        }
    }
    assert!(not_canonical > 500, "the mutation reached only {not_canonical} integers");
    let mut not_canonical = 0;
    for (_, item) in frames().into_iter().filter(|(kind, _)| matches!(kind, Kind::Desired | Kind::Trust)) {
        for at in (70..item.bytes.len()).filter(|at| item.bytes[*at] < 0x80) {
            let got = signed(&world, &Credulous, &overlong(&item.bytes, at, 1), &mut scratch);
            not_canonical += usize::from(got == Err(WireError::NotCanonical));
        }
    }
    assert!(not_canonical > 20, "the mutation reached only {not_canonical} integers of headers and links");
}

/// Where each text, byte string and list of a message is found: its content, right behind its length.
const PREFIXED: &[(&str, &str, &[u8])] = &[
    ("input", "plain", b"door/open"),
    ("input", "plain", b"yes"),
    ("event", "fenced", b"door/open"),
    ("event", "fenced", b"payload"),
    ("sample", "metrics", b"temperature"),
    ("sample", "state", b"open"),
    ("chunk", "first", b"\0asm-and-more"),
    ("command-result", "done", b"detail-text"),
    ("status", "three-components", b"clause 4000"),
    ("log", "five-levels", b"ding"),
    ("hello", "full", b"0.1.0-abcdef"),
    ("join-request", "placed", b"porch"),
    ("join-answer", "accepted", b"http://hub.example:7443"),
    ("join-answer", "accepted", b"porch"),
    ("record", "one", b"doorbell"),
    ("record", "every-clause", b"default"),
    ("record", "every-clause", b"main"),
    ("record", "every-clause", b"sensors/door"),
    ("record", "every-clause", b"local/#"),
    ("record", "every-clause", b"{\"chime\":2}"),
    ("record", "every-clause", b"api-key"),
    ("record", "every-clause", b"0 6 * * 1-5"),
    ("record", "every-clause", b"later"),
];

#[test]
fn a_length_of_four_gigabytes_is_refused_at_every_length() {
    let mut scratch = scratch();
    let corpus = corpus();
    for (group, name, content) in PREFIXED {
        let item = corpus.iter().find(|item| item.group == *group && item.name == *name).unwrap();
        let (kind, bytes) = item.body().unwrap();
        let at = bytes.windows(content.len()).position(|window| window == *content).unwrap();
        assert_eq!(usize::from(bytes[at - 1]), content.len(), "{group} {name}");
        for length in [u64::from(u32::MAX), u64::MAX, 1 << 31, bytes.len() as u64, 1000] {
            let mut room = [0; 10];
            let mut prefix = Writer::new(&mut room);
            prefix.value(&length).unwrap();
            let bent = [&bytes[..at - 1], prefix.written(), &bytes[at..]].concat();
            assert!(body(kind, &bent, &mut scratch).is_err(), "{group} {name}: length {length}");
        }
    }
}

#[test]
fn a_four_gigabyte_integer_at_any_place_is_an_error_or_a_value() {
    let mut scratch = scratch();
    for (kind, _, bytes) in bodies() {
        for at in 0..bytes.len() {
            let bent = [&bytes[..at], &[0xff, 0xff, 0xff, 0xff, 0x0f], &bytes[at + 1..]].concat();
            // The family insists that what decodes is spelt exactly so.
            let _ = body(kind, &bent, &mut scratch);
        }
    }
}

#[test]
fn lists_in_a_trust_link_refuse_a_length_over_their_capacity() {
    let world = World::new();
    let (_, item) = frames().into_iter().find(|(kind, _)| *kind == Kind::Trust).unwrap();
    // Behind version, kind, key id, signature; version and epoch are one byte each, the root 32.
    let hub_keys = 70 + 2 + 32;
    for (at, limit) in [(hub_keys, 2u8), (hub_keys + 33, 3), (hub_keys + 66, 8)] {
        assert_eq!(item.bytes[at], 1);
        for length in [&[limit + 1][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
            let bent = [&item.bytes[..at], length, &item.bytes[at + 1..], &[0; 400]].concat();
            assert!(signed(&world, &Credulous, &bent, &mut scratch()).is_err());
            let bent = &bent[..370];
            assert!(matches!(
                signed(&world, &Credulous, bent, &mut scratch()),
                Err(WireError::Malformed | WireError::Truncated)
            ));
        }
    }
}

#[test]
fn an_unknown_version_is_told_apart() {
    let (world, mut scratch) = (World::new(), scratch());
    for version in (0..=255).filter(|version| *version != 1) {
        for (_, mut item) in frames() {
            item.bytes[0] = version;
            assert_eq!(frame(&world, &item.bytes, &mut scratch), Err(WireError::UnsupportedVersion { version }));
        }
    }
}

#[test]
fn an_unknown_kind_is_told_apart() {
    for byte in 0..=255u8 {
        let known = Kind::ALL.into_iter().find(|kind| *kind as u8 == byte);
        assert_eq!(peek(&[1, byte, 0]), known.ok_or(WireError::UnknownKind { kind: byte }));
    }
    assert_eq!(peek(&[]), Err(WireError::Truncated));
    assert_eq!(peek(&[1]), Err(WireError::Truncated));
}

#[test]
fn a_kind_on_the_wrong_topic_is_told_apart() {
    let world = World::new();
    for (kind, item) in frames() {
        for expected in Kind::ALL.into_iter().filter(|other| *other != kind) {
            let got = open_live(&item.bytes, expected, &world.pair, &world.context(expected));
            assert_eq!(got, Err(WireError::WrongKind { kind: kind as u8 }));
        }
    }
}

fn refuses_variants<T: serde::de::DeserializeOwned + serde::Serialize + core::fmt::Debug + PartialEq>(count: u8) {
    // Enough zeros for the longest content of any variant.
    for variant in 0..count {
        let bytes: Vec<u8> = std::iter::once(variant).chain([0; 64]).collect();
        assert!(matches!(decode::<T>(&bytes), Ok(_) | Err(WireError::Trailing)), "variant {variant} should be known");
    }
    for variant in count..0x80 {
        assert_eq!(decode::<T>(&[variant]), Err(WireError::Malformed), "variant {variant}");
    }
    assert_eq!(decode::<T>(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(WireError::Malformed));
}

#[test]
fn unknown_variants_are_malformed() {
    refuses_variants::<ResetCause>(8);
    refuses_variants::<RefusalReason>(4);
    refuses_variants::<JoinRefusal>(6);
    refuses_variants::<State>(10);
    refuses_variants::<Role>(3);
    refuses_variants::<Runtime>(3);
    refuses_variants::<Want>(4);
    refuses_variants::<Action>(4);
    refuses_variants::<CommandOutcome>(5);
    refuses_variants::<wire::event::Level>(5);
    refuses_variants::<wire::hello::DeviceClass>(2);
    refuses_variants::<wire::hello::Architecture>(9);
    refuses_variants::<wire::clause::StaleAction>(3);
    refuses_variants::<Option<wire::position::Position>>(2);
    refuses_variants::<bool>(2);
}

#[test]
fn unknown_flags_of_hello_are_malformed() {
    let (_, item) = frames().into_iter().find(|(_, item)| item.group == "hello" && item.name == "unchanged").unwrap();
    let mut inner = item.bytes[LIVE_OVERHEAD_BYTES..].to_vec();
    let last = inner.len() - 1;
    assert!(Hello::decode(&inner).is_ok());
    for flags in 4..=255 {
        inner[last] = flags;
        assert!(Hello::decode(&inner).is_err(), "flags {flags}");
    }
}

#[test]
fn a_message_of_another_device_fleet_boot_session_or_key_is_not_authentic() {
    let world = World::new();
    let other = DeviceId([9; 16]);
    for (kind, item) in frames().into_iter().filter(|(kind, _)| is_live(*kind)) {
        let right = world.context(kind);
        assert!(open_live(&item.bytes, kind, &world.pair, &right).is_ok());
        let wrong = [
            LiveContext { device: other, ..right },
            LiveContext { fleet: "south", ..right },
            LiveContext { fleet: "", ..right },
            LiveContext { boot: BootId([1; 8]), ..right },
            LiveContext { session: Session(right.session.0 + 1), ..right },
            LiveContext { session: Session(u32::MAX), ..right },
        ];
        for context in wrong {
            assert_eq!(
                open_live(&item.bytes, kind, &world.pair, &context),
                Err(WireError::NotAuthentic),
                "{context:?}"
            );
        }
        assert_eq!(open_live(&item.bytes, kind, &PairKey([0; 32]), &right), Err(WireError::NotAuthentic));
    }
}

#[test]
fn a_tag_of_one_kind_does_not_serve_another() {
    let world = World::new();
    for (kind, mut item) in frames().into_iter().filter(|(kind, _)| is_live(*kind)) {
        for other in Kind::ALL.into_iter().filter(|other| is_live(*other) && *other != kind) {
            item.bytes[1] = other as u8;
            let got = open_live(&item.bytes, other, &world.pair, &world.context(other));
            assert_eq!(got, Err(WireError::NotAuthentic));
        }
    }
}

#[test]
fn an_empty_tag_a_zero_tag_and_a_shortened_tag_are_refused() {
    let world = World::new();
    let (_, item) = frames().into_iter().find(|(kind, _)| *kind == Kind::Fresh).unwrap();
    let context = world.context(Kind::Fresh);
    let mut zeroed = item.bytes.clone();
    zeroed[2..2 + TAG_BYTES].fill(0);
    assert_eq!(decode_live::<Fresh>(&zeroed, &world.pair, &context), Err(WireError::NotAuthentic));
    let without = [&item.bytes[..2], &item.bytes[2 + TAG_BYTES..]].concat();
    assert_eq!(decode_live::<Fresh>(&without, &world.pair, &context), Err(WireError::NotAuthentic));
    assert_eq!(decode_live::<Fresh>(&item.bytes[..10], &world.pair, &context), Err(WireError::Truncated));
}

#[test]
fn a_desired_set_of_another_device_or_fleet_or_signer_is_not_authentic() {
    let world = World::new();
    let signed: SignedHeader = crate::corpus::signed_header();
    assert!(signed.verify(&Ed25519, &world.hub, FLEET, world.device));
    assert!(!signed.verify(&Ed25519, &world.hub, FLEET, DeviceId([9; 16])));
    assert!(!signed.verify(&Ed25519, &world.hub, "south", world.device));
    assert!(!signed.verify(&Ed25519, &world.root, FLEET, world.device));
    assert!(!signed.verify(&Ed25519, &world.hub, &"f".repeat(33 + 64), world.device), "a fleet over its limit");
    let by_device = signed.header.sign(&device_key(), FLEET, world.device).unwrap();
    assert!(!by_device.verify(&Ed25519, &world.hub, FLEET, world.device));
}

#[test]
fn a_join_request_for_another_token_or_fleet_is_not_authentic() {
    let (_, item) = frames().into_iter().find(|(kind, _)| *kind == Kind::JoinRequest).unwrap();
    let request: JoinRequest<'_> = decode_plain(&item.bytes).unwrap();
    let token = wire::topic::TokenId([1; 8]);
    assert_eq!(request.verify(&Ed25519, FLEET, TOKEN), Ok(World::new().device));
    assert_eq!(request.verify(&Ed25519, FLEET, token), Err(WireError::NotAuthentic));
    assert_eq!(request.verify(&Ed25519, "south", TOKEN), Err(WireError::NotAuthentic));
    let taken = wire::join::JoinClaim { identity: hub_key().public_key(), ..request.claim };
    let forged = JoinRequest { claim: taken, signature: request.signature };
    assert_eq!(forged.verify(&Ed25519, FLEET, TOKEN), Err(WireError::NotAuthentic));
    let renamed = wire::join::JoinClaim { name: "attic", ..request.claim };
    let forged = JoinRequest { claim: renamed, signature: request.signature };
    assert_eq!(forged.verify(&Ed25519, FLEET, TOKEN), Err(WireError::NotAuthentic));
}

/// A set of one record around hand-made clause bytes.
fn set_around(clauses: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    writer.value(&1u16).unwrap();
    writer.value(&core(1, 0)).unwrap();
    writer.prefixed(clauses, 4000).unwrap();
    writer.finish().to_vec()
}

fn raw(number: u16, critical: bool, bytes: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 700];
    let mut writer = Writer::new(&mut buffer);
    writer.value(&(number << 1 | u16::from(critical))).unwrap();
    writer.prefixed(bytes, 600).unwrap();
    writer.finish().to_vec()
}

#[test]
fn only_an_unknown_critical_clause_is_reported() {
    for (number, critical, expected) in
        [(4000, true, Some(4000)), (4000, false, None), (20, true, Some(20)), (10, true, None)]
    {
        let bytes = set_around(&raw(number, critical, b""));
        let set = SetBody::decode(&bytes).unwrap();
        let record = set.iter().next().unwrap();
        assert_eq!(record.clauses.unknown_critical(), expected);
        let kept = record.clauses.iter().next().unwrap();
        assert_eq!((kept.clause.number(), kept.critical), (number, critical));
    }
}

#[test]
fn clauses_out_of_order_twice_or_numbered_zero_are_not_canonical() {
    let every = |ms: u8| raw(5, true, &[ms]);
    let grace = raw(9, false, &[1]);
    for bad in [
        [grace.clone(), every(1)].concat(),
        [every(1), every(1)].concat(),
        [every(1), every(2)].concat(),
        [raw(5, true, &[1]), raw(5, false, &[1])].concat(),
        raw(0, false, b""),
        raw(0, true, b""),
    ] {
        assert_eq!(set_body(&set_around(&bad), &mut scratch()), Err(WireError::NotCanonical));
    }
    assert_eq!(set_body(&set_around(&[every(1), grace].concat()), &mut scratch()), Ok(()));
}

fn secret(name: &str) -> Vec<u8> {
    let reference = crate::corpus::REFERENCE;
    let secret = wire::clause::Secret { name, version: 1, sealed: reference };
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    writer.value(&secret).unwrap();
    raw(14, true, writer.written())
}

#[test]
fn secrets_repeat_ascending_by_name() {
    let three = [secret("a"), secret("b"), secret("ba")].concat();
    assert_eq!(set_body(&set_around(&three), &mut scratch()), Ok(()));
    for bad in [[secret("a"), secret("a")].concat(), [secret("b"), secret("a")].concat()] {
        assert_eq!(set_body(&set_around(&bad), &mut scratch()), Err(WireError::NotCanonical));
    }
}

#[test]
fn a_known_clause_with_bytes_after_its_value_is_refused() {
    for (number, bytes) in [(5, &[1, 0][..]), (10, &[0]), (12, &[1, 1]), (8, &[1, 1, 1])] {
        assert_eq!(set_body(&set_around(&raw(number, true, bytes)), &mut scratch()), Err(WireError::Trailing));
    }
}

#[test]
fn records_out_of_order_or_twice_are_not_canonical_for_both_sides() {
    let one = |workload, component| {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer);
        writer.value(&core(workload, component)).unwrap();
        writer.prefixed(b"", 0).unwrap();
        writer.finish().to_vec()
    };
    for (first, second) in [((2, 0), (1, 0)), ((1, 1), (1, 0)), ((1, 0), (1, 0))] {
        let bytes = [vec![2], one(first.0, first.1), one(second.0, second.1)].concat();
        assert_eq!(set_body(&bytes, &mut scratch()), Err(WireError::NotCanonical));
        let mut buffer = [0; 512];
        let mut writer = BodyWriter::new(&mut buffer, 2).unwrap();
        writer.record(&core(first.0, first.1), &[]).unwrap();
        assert_eq!(writer.record(&core(second.0, second.1), &[]), Err(WireError::NotCanonical));
        assert_eq!(writer.left(), 1);
    }
    let ok = [vec![2], one(1, 0), one(1, 1)].concat();
    assert_eq!(set_body(&ok, &mut scratch()), Ok(()));
}

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let mut buffer = [0; 4096];
    let mut writer = BodyWriter::new(&mut buffer, 1).unwrap();
    let long = "n".repeat(64);
    let name = Clause::Name(Name { namespace: &long, name: "", component: "" });
    assert_eq!(writer.record(&core(1, 0), &[name]), Err(WireError::TooLarge { limit: 63 }));
    assert_eq!(writer.record(&core(1, 0), &[Clause::StopGrace(1), Clause::Every(1)]), Err(WireError::NotCanonical));
    for number in [0, wire::clause::NUMBER_MAX + 1, u16::MAX] {
        let unknown = Clause::Unknown { number, bytes: b"" };
        assert_eq!(writer.record(&core(1, 0), &[unknown]), Err(WireError::Malformed), "{number}");
    }
    let disguised = Stated { critical: true, clause: Clause::Unknown { number: 5, bytes: &[0x80, 0] } };
    let mut room = [0; 64];
    assert_eq!(wire::record::encode_clauses(&mut room, &[disguised]), Err(WireError::NotCanonical));
    assert_eq!(writer.record_raw(&core(1, 0), &[1]), Err(WireError::Truncated));
    assert_eq!(writer.record(&core(1, 0), &[Clause::Every(1)]), Ok(()));
    assert_eq!(writer.record(&core(2, 0), &[]), Err(WireError::Trailing));
    assert_eq!(writer.left(), 0);
    assert!(SetBody::decode(writer.finish()).is_ok());
}

#[test]
fn a_signed_header_refuses_to_be_sent_with_another_body() {
    let mut buffer = vec![0; 16_384];
    let signed = crate::corpus::signed_header();
    assert_eq!(signed.encode(&mut buffer, &[0]), Err(WireError::Malformed));
    assert_eq!(signed.encode(&mut buffer, &set_of_all_clauses()), Err(WireError::Malformed));
    assert!(signed.encode(&mut buffer, &crate::corpus::set_of_one()).is_ok());
}

#[test]
fn a_fleet_that_would_be_another_subscription_is_refused() {
    for fleet in ["+", "#", "a/b", "", "-a", "A", "a\0"] {
        assert_eq!(wire::topic::Topic::hub_filters(fleet), Err(WireError::Malformed), "{fleet}");
        assert_eq!(wire::topic::Topic::HubState.print(fleet), Err(WireError::Malformed), "{fleet}");
    }
}

#[test]
fn a_join_token_does_not_show_its_secret() {
    let shown = format!("{:?}", crate::corpus::join_token());
    assert!(shown.contains("hub.example") && !shown.contains("94") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_join_token_has_one_spelling() {
    let text = crate::corpus::join_token().text().unwrap();
    let (head, digits) = text.split_at("fulmar-join-".len());
    let mut buffer = [0; wire::join::TOKEN_TEXT_BYTES_MAX];
    assert!(wire::join::JoinToken::parse(&format!(" {text}\n"), &mut buffer).is_ok());
    for bad in [
        format!("{head}{}", digits.to_uppercase()),
        digits.to_owned(),
        format!("{text}00"),
        format!("{text}0"),
        text[..text.len() - 2].to_owned(),
        head.to_owned(),
        format!("{head}{}", "0".repeat(2000)),
        format!("{head}+f"),
        format!("{head}\u{fc}"),
    ] {
        assert!(wire::join::JoinToken::parse(&bad, &mut buffer).is_err(), "{bad}");
    }
}
