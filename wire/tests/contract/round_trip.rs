//! What is encoded comes back equal, and encodes to the same bytes again: for any value of every type.
use crate::corpus::health;
use crate::families::{BOOT, FLEET, World, device_key, hub_key, root_key};
use core::fmt::Debug;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use wire::clause::*;
use wire::codec::{Reader, Writer, decode};
use wire::dalek::Ed25519;
use wire::desired::{ClassLimits, Desired, Header, SignedHeader, body_matches};
use wire::event::*;
use wire::firmware::{Firmware, Obstacle, Offer, Phase};
use wire::frame::*;
use wire::grant::*;
use wire::hello::*;
use wire::id::*;
use wire::join::*;
use wire::limits::*;
use wire::position::Position;
use wire::record::{Body as SetBody, BodyWriter, CapabilitySet, Core, Role, Runtime};
use wire::sample::*;
use wire::sign::{KeyId, PublicKey, Sign};
use wire::status::*;
use wire::topic::*;
use wire::transfer::*;
use wire::trust::Link;
use wire::version::VersionRange;
use wire::{Digest, DigestPrefix, LiveContext};

/// Through a live frame and a plain one.
fn survives<'a, T>(value: &T, room: &'a mut [Vec<u8>; 2]) -> Result<(), TestCaseError>
where
    T: Body + Deserialize<'a> + PartialEq + Debug,
{
    let world = World::new();
    let context = LiveContext { fleet: FLEET, device: world.device, boot: BOOT, session: Session(7) };
    let [live, plain] = room;
    live.resize(8192, 0);
    plain.resize(8192, 0);
    let frame: &'a [u8] = encode_live(live, &world.pair, &context, value).unwrap();
    let back: T = decode_live(frame, &world.pair, &context).unwrap();
    prop_assert_eq!(&back, value);
    let frame: &'a [u8] = encode_plain(plain, value).unwrap();
    let back: T = decode_plain(frame).unwrap();
    prop_assert_eq!(&back, value);
    let mut again = vec![0; 8192];
    prop_assert_eq!(&*encode_plain(&mut again, &back).unwrap(), frame);
    Ok(())
}

fn room() -> [Vec<u8>; 2] {
    [Vec::new(), Vec::new()]
}

fn value_survives<T: Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(
    value: &T,
) -> Result<(), TestCaseError> {
    let mut buffer = [0; 1024];
    let mut writer = Writer::new(&mut buffer);
    writer.value(value).unwrap();
    prop_assert_eq!(&decode::<T>(writer.written()).unwrap(), value);
    Ok(())
}

fn text(limit: usize) -> impl Strategy<Value = String> {
    any::<String>().prop_map(move |text| truncate(&text, limit).to_owned())
}

fn label(limit: usize) -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
        .prop_map(move |text| text[..text.len().min(limit)].trim_matches('-').to_owned())
}

fn bytes(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=limit)
}

fn order() -> impl Strategy<Value = Order> {
    (0..=Order::INCARNATION_MAX, 0..=Order::COUNTER_MAX)
        .prop_map(|(incarnation, counter)| Order::new(incarnation, counter).unwrap())
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn prefix() -> impl Strategy<Value = DigestPrefix> {
    any::<[u8; 8]>().prop_map(DigestPrefix)
}

fn nonce() -> impl Strategy<Value = Nonce> {
    any::<[u8; 8]>().prop_map(Nonce)
}

fn reference() -> impl Strategy<Value = Reference> {
    (digest(), any::<u32>()).prop_map(|(digest, bytes)| Reference { digest, bytes })
}

fn position() -> impl Strategy<Value = Position> {
    let longitude = -Position::LONGITUDE_E7_MAX..=Position::LONGITUDE_E7_MAX;
    let latitude = -Position::LATITUDE_E7_MAX..=Position::LATITUDE_E7_MAX;
    (longitude, latitude, any::<u32>()).prop_map(|(longitude_e7, latitude_e7, uncertainty_m)| Position {
        longitude_e7,
        latitude_e7,
        uncertainty_m,
    })
}

fn one_of<T: Copy + Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}

const LEVELS: &[Level] = &[Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
const STATES: &[State] = &[
    State::Waiting,
    State::Fetching,
    State::Starting,
    State::Running,
    State::Stopping,
    State::Stopped,
    State::BackOff,
    State::Completed,
    State::Failed,
    State::Refused,
];
const RESETS: &[ResetCause] = &[
    ResetCause::Unknown,
    ResetCause::PowerOn,
    ResetCause::BrownOut,
    ResetCause::Watchdog,
    ResetCause::Panic,
    ResetCause::Software,
    ResetCause::Pin,
    ResetCause::ProcessStart,
];
const ARCHITECTURES: &[Architecture] = &[
    Architecture::X86_64,
    Architecture::Aarch64,
    Architecture::Armv7,
    Architecture::Thumbv6m,
    Architecture::Thumbv7m,
    Architecture::Thumbv7em,
    Architecture::Thumbv8m,
    Architecture::Riscv32,
    Architecture::Riscv64,
];

fn lost() -> impl Strategy<Value = LossCounters> {
    any::<[u32; 5]>().prop_map(|[events, logs, alarms, states, metrics]| LossCounters {
        events,
        logs,
        alarms,
        states,
        metrics,
    })
}

prop_compose! {
    fn core()(
        (workload, component, generation) in (any::<u32>(), 0..COMPONENTS_MAX as u8, any::<u32>()),
        role in one_of(&[Role::Service, Role::Init, Role::Job]),
        runtime in one_of(&[Runtime::Function, Runtime::Container, Runtime::Process]),
        artifact in digest(),
        (artifact_bytes, memory_bytes, fuel, instances) in any::<(u32, u32, u32, u16)>(),
        capabilities in any::<u32>(),
    ) -> Core {
        Core {
            workload: WorkloadId(workload), component, generation, role, runtime, artifact, artifact_bytes, memory_bytes,
            fuel, instances, capabilities: CapabilitySet(capabilities),
        }
    }
}

prop_compose! {
    fn hello_fixed()(
        (boot, nonce) in (any::<[u8; 8]>(), nonce()),
        (one, other) in any::<(u8, u8)>(),
        (revision, command) in (order(), order()),
        (digest, status, capabilities) in (prefix(), prefix(), prefix()),
        (packet_bytes_max, trust) in any::<(u32, u32)>(),
        (lost, reset) in (lost(), one_of(RESETS)),
    ) -> HelloFixed {
        HelloFixed {
            boot: BootId(boot), nonce, versions: VersionRange { oldest: one.min(other), newest: one.max(other) },
            revision: Revision(revision), digest, status, capabilities, packet_bytes_max, command: CommandId(command), trust,
            lost, reset,
        }
    }
}

prop_compose! {
    fn header()(
        revision in order(),
        (body_bytes, body) in (0..=BODY_BYTES_MAX as u32, digest()),
        (records, memory_bytes) in any::<(u16, u32)>(),
    ) -> Header {
        Header { revision: Revision(revision), body_bytes, body, limits: ClassLimits { records, memory_bytes } }
    }
}

prop_compose! {
    fn status_fixed()(
        (session, sequence, uptime_s, memory_free_bytes, storage_free_bytes) in any::<(u32, u32, u32, u32, u64)>(),
        (revision, digest) in (order(), prefix()),
        (position, lost) in (option::of(position()), lost()),
        refused in any::<[u32; 8]>(),
    ) -> StatusFixed {
        let [not_authentic, wrong_device, lower_revision, equivocation, malformed, too_large, unsupported_version,
            unconfirmed] = refused;
        StatusFixed {
            session: Session(session), sequence, revision: Revision(revision), digest, uptime_s, memory_free_bytes,
            storage_free_bytes, position, lost,
            refused: Refused {
                not_authentic, wrong_device, lower_revision, equivocation, malformed, too_large, unsupported_version,
                unconfirmed,
            },
        }
    }
}

/// Clauses by number, with all content drawn from a few values.
fn clause<'a>(number: u16, texts: &'a [String; 3], content: &'a [u8], wide: u64, reference: Reference) -> Clause<'a> {
    let narrow = wide as u32;
    match number {
        1 => Clause::Name(Name { namespace: &texts[0], name: &texts[1], component: &texts[2] }),
        2 => Clause::Config(content),
        3 => Clause::ConfigReference(reference),
        4 => Clause::After(&content[..content.len().min(COMPONENTS_MAX)]),
        5 => Clause::Every(wide),
        7 => Clause::Limits(FunctionLimits {
            host_calls: narrow,
            log_bytes: !narrow,
            emit_bytes: 0,
            state_bytes: 1,
            sample_bytes: 2,
        }),
        8 => Clause::Retry(Retry { attempts: wide as u8, window_s: narrow }),
        9 => Clause::StopGrace(wide),
        10 => Clause::Unconfirmed,
        11 => Clause::StopAfter(wide),
        12 => Clause::Lease(wide),
        13 => {
            let actions = [StaleAction::Continue, StaleAction::Degrade, StaleAction::Stop];
            Clause::OnStale(OnStale { after_ms: wide, action: actions[wide as usize % 3] })
        }
        14 => Clause::Secret(Secret { name: &texts[0], version: narrow, sealed: reference }),
        15 => Clause::Schedule(Schedule { cron: &texts[1], missed_runs_max: wide as u8 }),
        16 => Clause::Trace(&content[..content.len().min(TRACE_BYTES_MAX)]),
        17 => Clause::Residency(Residency { region: reference, grace_ms: wide }),
        18 => Clause::ChunkRoot(reference.digest),
        19 => Clause::PublisherSignature(reference),
        _ => Clause::Unknown { number, bytes: content },
    }
}

proptest! {
    #[test]
    fn identifiers_survive_their_text(id in any::<[u8; 16]>(), token in any::<[u8; 8]>(), digest in digest(), at in 0..64usize, letter in any::<char>()) {
        let device = DeviceId(id);
        prop_assert_eq!(DeviceId::parse(&device.text()), Ok(device));
        let token = TokenId(token);
        prop_assert_eq!(TokenId::parse(&token.to_string()), Some(token));
        prop_assert_eq!(Digest::parse(&digest.text()), Some(digest));
        // With one letter changed: refused, or another identifier whose text that is.
        for text in [device.text().as_str(), &token.to_string(), digest.text().as_str()] {
            let mut letters: Vec<char> = text.chars().collect();
            let at = at % letters.len();
            letters[at] = letter;
            let bent: String = letters.into_iter().collect();
            crate::families::text(bent.as_bytes());
        }
    }

    #[test]
    fn topics_survive_their_text(id in any::<[u8; 16]>(), token in any::<[u8; 8]>(), fleet in label(FLEET_BYTES_MAX), noise in any::<String>()) {
        prop_assume!(is_label(&fleet, FLEET_BYTES_MAX));
        let (device, token) = (DeviceId(id), TokenId(token));
        let downs = Down::ALL.into_iter().map(|down| Topic::Down(device, down));
        let ups = Up::ALL.into_iter().map(|up| Topic::Up(device, up));
        for topic in downs.chain(ups).chain([Topic::HubState, Topic::JoinRequest(token), Topic::JoinAnswer(token)]) {
            let text = topic.print(&fleet).unwrap();
            prop_assert_eq!(Topic::parse(&fleet, &text), Some(topic));
            prop_assert_eq!(Topic::parse("another-fleet", &text), None);
            let grown = format!("{text}{noise}");
            prop_assert_eq!(Topic::parse(&fleet, &grown).is_some(), noise.is_empty());
        }
    }

    #[test]
    fn join_tokens_survive_their_text(
        (id, secret) in any::<([u8; 8], [u8; 16])>(), fleet in label(FLEET_BYTES_MAX), broker in text(ADDRESS_BYTES_MAX),
        certificate in option::of(digest()), hub in digest(),
    ) {
        prop_assume!(is_label(&fleet, FLEET_BYTES_MAX));
        let token = JoinToken { id: TokenId(id), secret, fleet: &fleet, broker: &broker, certificate, hub };
        let text = token.text().unwrap();
        let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
        let back = JoinToken::parse(&text, &mut buffer).unwrap();
        prop_assert_eq!(back, token);
        prop_assert_eq!(back.text().unwrap(), text);
    }

    #[test]
    fn small_values_survive(order in order(), wide in any::<u64>(), signed in any::<i64>(), position in option::of(position()), key in any::<[u8; 32]>(), range in any::<(u8, u8)>()) {
        value_survives(&order)?;
        value_survives(&wide)?;
        value_survives(&signed)?;
        value_survives(&position)?;
        value_survives(&(PublicKey(key), ExchangeKey(key), KeyId([key[0]; 4]), DeviceId([key[1]; 16])))?;
        value_survives(&VersionRange { oldest: range.0, newest: range.1 })?;
        prop_assert_eq!(Order::from_packed(order.packed()), order);
        prop_assert_eq!(Order::new(order.incarnation(), order.counter()), Some(order));
    }

    #[test]
    fn fresh_refusal_report_and_heartbeat_survive(
        (nonce, revision, digest) in (nonce(), order(), prefix()),
        (time_ms, session, heartbeat_s, asks, sequence) in any::<(u64, u32, u16, u8, u32)>(),
        reason in one_of(&[RefusalReason::Busy, RefusalReason::UnsupportedVersion, RefusalReason::Quarantined, RefusalReason::NotApproved]),
    ) {
        let fresh = Fresh { nonce, revision: Revision(revision), digest, time_ms, session: Session(session), heartbeat_s, asks: Asks(asks) };
        survives(&fresh, &mut room())?;
        survives(&Refusal { nonce, reason, retry_after_s: session }, &mut room())?;
        survives(&Report { asks: Asks(asks) }, &mut room())?;
        survives(&Heartbeat { sequence, status: digest }, &mut room())?;
        survives(&Will { boot: BootId(nonce.0) }, &mut room())?;
    }

    #[test]
    fn grants_needs_and_hub_state_survive(
        (nonce, order, digest) in (nonce(), order(), digest()),
        (session, workload, offset, watermark) in any::<(u32, u32, u32, u64)>(), count in 0..=CHUNKS_IN_FLIGHT_MAX,
    ) {
        let (fence, workload, session) = (Fence(order), WorkloadId(workload), Session(session));
        survives(&Grant { nonce, workload, fence, ms: offset }, &mut room())?;
        survives(&Released { session, workload, fence }, &mut room())?;
        for want in [
            Want::Artifact { digest, offset, count },
            Want::Body { digest, offset, count },
            Want::Lease { workload, nonce },
            Want::Trust { from: offset },
        ] {
            survives(&Need { session, want }, &mut room())?;
        }
        survives(&HubState { incarnation: order.incarnation(), spread_ms: offset, watermark, fence, instance: Instance([3; 8]) }, &mut room())?;
    }

    #[test]
    fn events_and_inputs_survive(
        (session, sequence, workload, component) in any::<(u32, u32, u32, u8)>(), fence in option::of(order()),
        topic in text(TOPIC_BYTES_MAX), payload in bytes(EVENT_BYTES_MAX),
    ) {
        let (session, workload, fence) = (Session(session), WorkloadId(workload), fence.map(Fence));
        survives(&Event { session, sequence, workload, component, fence, topic: &topic, payload: &payload }, &mut room())?;
        let fence = fence.map(|fence| Fenced { workload: WorkloadId(component.into()), fence });
        survives(&Input { sequence, workload, fence, topic: &topic, payload: &payload }, &mut room())?;
    }

    #[test]
    fn samples_survive(
        (session, stream, first, lost) in any::<(u32, u32, u32, u32)>(), class in one_of(&Class::ALL),
        uptime_ms in option::of(any::<u64>()),
        told in vec((any::<(u32, u32, u8, u64, u64)>(), "[a-zA-Z0-9._/-]{1,63}", text(SAMPLE_TEXT_BYTES_MAX), any::<(i64, i8)>()), 0..=SAMPLES_MAX),
    ) {
        let records: Vec<Sample<'_>> = told.iter().map(|((sequence, workload, component, uptime_ms, unix_ms), key, text, (value, scale))| {
            let value = match class {
                Class::Metric => Value::Number { value: *value, scale: *scale },
                Class::Alarm | Class::State => Value::Text(text),
            };
            Sample {
                sequence: *sequence, workload: WorkloadId(*workload), component: *component, key, uptime_ms: *uptime_ms,
                unix_ms: *unix_ms, value,
            }
        }).collect();
        let fixed = SamplesFixed { session: Session(session), class, stream, first, lost, uptime_ms, count: records.len() as u8 };
        let mut buffer = [0; 8192];
        let mut writer = Writer::new(&mut buffer);
        write_samples(&mut writer, fixed, &records).unwrap();
        let back = Samples::decode(writer.written()).unwrap();
        prop_assert_eq!(back.fixed, fixed);
        prop_assert_eq!(back.records().collect::<Vec<_>>(), records);
        survives(&Taken { stream, sequence: first }, &mut room())?;
    }

    #[test]
    fn a_sample_of_another_form_is_refused(class in one_of(&Class::ALL), key in "[ -~]{0,4}") {
        let wrong = match class {
            Class::Metric => Value::Text("x"),
            Class::Alarm | Class::State => Value::Number { value: 1, scale: 0 },
        };
        let fixed = SamplesFixed { session: Session(1), class, stream: 0, first: 1, lost: 0, uptime_ms: None, count: 1 };
        let sample = Sample { sequence: 1, workload: WorkloadId(1), component: 0, key: "key", uptime_ms: 0, unix_ms: 0, value: wrong };
        let right = if wrong == Value::Text("x") { Value::Number { value: 1, scale: 0 } } else { Value::Text("x") };
        for (sample, is_good) in [(sample, false), (Sample { key: &key, value: right, ..sample }, is_key(&key))] {
            let mut buffer = [0; 256];
            let mut writer = Writer::new(&mut buffer);
            writer.value(&fixed).unwrap();
            writer.value(&sample).unwrap();
            prop_assert_eq!(Samples::decode(writer.written()).is_ok(), is_good);
            prop_assert_eq!(write_samples(&mut Writer::new(&mut [0; 256]), fixed, &[sample]).is_ok(), is_good);
        }
    }

    #[test]
    fn commands_results_and_chunks_survive(
        (id, content) in (order(), prefix()), (from, records_max, workload, component) in any::<(u32, u16, u32, u8)>(),
        detail in text(DETAIL_BYTES_MAX), chunk in bytes(CHUNK_BYTES_MAX),
        outcome in one_of(&[CommandOutcome::Done, CommandOutcome::Failed, CommandOutcome::Interrupted, CommandOutcome::Expired, CommandOutcome::NotSupported]),
    ) {
        let id = CommandId(id);
        for action in [
            Action::Reboot,
            Action::Locate,
            Action::FetchLog { from, records_max },
            Action::RunOnce { workload: WorkloadId(workload), component },
        ] {
            survives(&Command { id, not_after_s: from, action }, &mut room())?;
        }
        survives(&CommandResult { session: Session(from), id, outcome, detail: &detail }, &mut room())?;
        survives(&Chunk { content, offset: from, bytes: &chunk }, &mut room())?;
    }

    #[test]
    fn offers_of_firmware_and_what_becomes_of_them_survive(
        (version, trial_s) in (1..=u32::MAX, 1..=u16::MAX), (bytes, running, target, done, session) in any::<(u32, u32, u32, u32, u32)>(),
        digest in digest(), signature in any::<[[u8; 32]; 2]>(), board in text(NAME_BYTES_MAX),
        phase in one_of(&[Phase::Idle, Phase::Fetching, Phase::Installing, Phase::Trial, Phase::Done, Phase::Failed]),
        obstacle in one_of(&[
            Obstacle::None, Obstacle::Signature, Obstacle::Downgrade, Obstacle::Content, Obstacle::NoSpace, Obstacle::Unreachable,
            Obstacle::Flash, Obstacle::Panic, Obstacle::Watchdog, Obstacle::Interrupted, Obstacle::NotStarted,
        ]),
    ) {
        survives(&Offer { version, bytes, digest, trial_s, signature: &signature.concat() }, &mut room())?;
        let session = Session(session);
        survives(&Firmware { session, board: &board, running, target, phase, obstacle, done }, &mut room())?;
    }

    #[test]
    fn hellos_survive(
        fixed in hello_fixed(), version in text(AGENT_VERSION_BYTES_MAX), header in header(),
        architecture in one_of(ARCHITECTURES), class in one_of(&[DeviceClass::Mcu, DeviceClass::Gateway]),
        (features, interfaces, records, body_bytes, storage_bytes) in any::<(u32, u32, u16, u32, u64)>(),
        (with_capabilities, with_proof, with_health) in any::<(bool, bool, bool)>(), said in text(END_TEXT_BYTES_MAX),
    ) {
        let capabilities = Capabilities {
            class, architecture, agent_version: &version, features: Features(features),
            interfaces: CapabilitySet(interfaces), records, body_bytes, memory_bytes: features, storage_bytes,
        };
        let proof = header.sign(&hub_key(), FLEET, World::new().device).unwrap();
        let hello = Hello {
            fixed,
            capabilities: with_capabilities.then_some(capabilities),
            proof: with_proof.then_some(proof),
            health: with_health.then_some(Health {
                end: with_proof.then_some(LastEnd { address: features, text: &said }),
                wear: with_capabilities.then_some(Wear::default()),
                behind: with_proof.then_some(World::new().device),
                ..health()
            }),
        };
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer);
        hello.write(&mut writer).unwrap();
        let back = Hello::decode(writer.written()).unwrap();
        prop_assert_eq!(back, hello);
        prop_assert_eq!(back.capabilities.map(|c| c.digest()), hello.capabilities.map(|c| c.digest()));
    }

    #[test]
    fn statuses_survive(
        fixed in status_fixed(),
        keys in prop::collection::btree_set((any::<u32>(), 0..COMPONENTS_MAX as u8), 0..20),
        (generation, running, reason, attempts, restarts) in any::<(u32, u32, u16, u16, u32)>(),
        state in one_of(STATES), detail in text(DETAIL_BYTES_MAX),
    ) {
        let entries: Vec<Entry<'_>> = keys.into_iter().map(|(workload, component)| Entry {
            workload: WorkloadId(workload), component, generation, running, state, reason: Reason(reason), attempts, restarts,
            detail: &detail,
        }).collect();
        let mut buffer = [0; 8192];
        let mut writer = Writer::new(&mut buffer);
        let mut status = StatusWriter::new(&mut writer, fixed, entries.len() as u16).unwrap();
        entries.iter().for_each(|entry| status.entry(entry).unwrap());
        let digest = status.finish();
        let back = Status::decode(writer.written()).unwrap();
        prop_assert_eq!(back.fixed, fixed);
        prop_assert_eq!(back.entries().collect::<Vec<_>>(), entries);
        prop_assert_eq!(back.content_digest(), digest);
    }

    /// What the hub acts upon is another content, and what changes by itself is not.
    #[test]
    fn the_content_of_a_status_is_what_the_hub_acts_upon(fixed in status_fixed(), other in status_fixed()) {
        let content = |fixed: StatusFixed| {
            let mut buffer = [0; 1024];
            let mut writer = Writer::new(&mut buffer);
            StatusWriter::new(&mut writer, fixed, 0).unwrap().finish()
        };
        let acted = |fixed: &StatusFixed| (fixed.revision, fixed.digest, fixed.refused.equivocation, fixed.position);
        let only = |fixed: StatusFixed, (revision, digest, equivocation, position)| {
            StatusFixed { revision, digest, position, refused: Refused { equivocation, ..fixed.refused }, ..fixed }
        };
        prop_assert_eq!(content(only(other, acted(&fixed))), content(fixed));
        let (revision, digest, equivocation, position) = acted(&fixed);
        let (_, _, counted, moved) = acted(&other);
        for changed in [(revision, digest, counted, position), (revision, digest, equivocation, moved)] {
            prop_assert_eq!(content(only(fixed, changed)) == content(fixed), changed == acted(&fixed));
        }
    }

    #[test]
    fn logs_survive(
        (session, sequence, uptime_ms) in any::<(u32, u32, u64)>(),
        lines in vec((any::<(u32, u8, u64)>(), one_of(LEVELS), text(LOG_TEXT_BYTES_MAX)), 0..10),
    ) {
        let records: Vec<LogRecord<'_>> = lines.iter().map(|((workload, component, uptime_ms), level, text)| LogRecord {
            workload: WorkloadId(*workload), component: *component, level: *level, uptime_ms: *uptime_ms, text,
        }).collect();
        let fixed = LogFixed { session: Session(session), sequence, uptime_ms, count: records.len() as u8 };
        let mut buffer = [0; 8192];
        let mut writer = Writer::new(&mut buffer);
        write_log(&mut writer, fixed, &records).unwrap();
        let back = Log::decode(writer.written()).unwrap();
        prop_assert_eq!(back.fixed, fixed);
        prop_assert_eq!(back.records().collect::<Vec<_>>(), records);
    }

    #[test]
    fn joins_survive(
        seed in any::<[u8; 32]>(), (exchange, sealed, nonce) in any::<([u8; 32], [u8; 32], [u8; 16])>(),
        (name, artifacts) in (text(NAME_BYTES_MAX), text(ADDRESS_BYTES_MAX)), position in option::of(position()),
        class in one_of(&[DeviceClass::Mcu, DeviceClass::Gateway]), token in any::<[u8; 8]>(), approved in any::<bool>(),
        reason in one_of(&[JoinRefusal::TokenUsed, JoinRefusal::TokenExpired, JoinRefusal::NotAuthentic, JoinRefusal::NameTaken, JoinRefusal::Malformed, JoinRefusal::Busy]),
    ) {
        let key = wire::dalek::Ed25519Key::from_seed(&seed);
        let identity = key.public_key();
        let claim = JoinClaim { identity, exchange: ExchangeKey(exchange), nonce, name: &name, class, position };
        let request = JoinRequest { claim, signature: claim.sign(&key, FLEET, TokenId(token)).unwrap() };
        survives(&request, &mut room())?;
        prop_assert_eq!(request.verify(&Ed25519, FLEET, TokenId(token)), Ok(DeviceId::of_key(&identity.0)));
        let sealed = [&sealed[..], &nonce].concat();
        let accepted = Accepted {
            nonce, device: DeviceId(nonce), hub_signing: identity, hub_exchange: ExchangeKey(exchange), sealed: &sealed,
            artifacts: &artifacts, name: &name, approved,
        };
        survives(&JoinAnswer::Accepted(accepted), &mut room())?;
        survives(&JoinAnswer::Refused { nonce, reason }, &mut room())?;
    }

    #[test]
    fn signed_headers_survive(header in header(), fleet in label(FLEET_BYTES_MAX), id in any::<[u8; 16]>()) {
        let signed = header.sign(&hub_key(), &fleet, DeviceId(id)).unwrap();
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer);
        signed.write(&mut writer).unwrap();
        let mut reader = Reader::new(writer.written());
        prop_assert_eq!(SignedHeader::read(&mut reader), Ok(signed));
        prop_assert!(reader.is_empty());
        prop_assert!(signed.verify(&Ed25519, &hub_key().public_key(), &fleet, DeviceId(id)));
    }

    #[test]
    fn desired_sets_survive(
        cores in prop::collection::vec(core(), 0..6),
        numbers in prop::collection::btree_set(prop_oneof![1u16..=19, 20..=NUMBER_MAX], 0..CLAUSES_MAX),
        texts in [text(NAME_BYTES_MAX), text(NAME_BYTES_MAX), text(NAME_BYTES_MAX)],
        content in bytes(40), wide in any::<u64>(), reference in reference(),
        filters in vec(text(40), 0..=TOPIC_FILTERS_MAX),
    ) {
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let mut topic_room = [0; CLAUSES_BYTES_MAX];
        let topics = Topics::encode(&mut topic_room, &filters).unwrap();
        prop_assert_eq!(topics.iter().collect::<Vec<_>>(), filters);
        let clauses: Vec<Clause<'_>> = numbers
            .into_iter()
            .map(|number| if number == 6 { Clause::Topics(topics) } else { clause(number, &texts, &content, wide, reference) })
            .collect();
        let cores: std::collections::BTreeMap<_, _> =
            cores.into_iter().map(|core| ((core.workload, core.component), core)).collect();
        let mut buffer = vec![0; 16_384];
        let mut writer = BodyWriter::new(&mut buffer, cores.len() as u16).unwrap();
        for core in cores.values() {
            writer.record(core, &clauses).unwrap();
        }
        let body = writer.finish().to_vec();
        let set = SetBody::decode(&body).unwrap();
        prop_assert_eq!(set.len(), cores.len());
        for (record, core) in set.iter().zip(cores.values()) {
            prop_assert_eq!(&record.core, core);
            prop_assert_eq!(record.clauses.iter().map(|stated| stated.clause).collect::<Vec<_>>(), clauses.clone());
        }
        let header = Header::of(Revision(Order::new(1, 2).unwrap()), &body, ClassLimits { records: 9, memory_bytes: 9 }).unwrap();
        let signed = header.sign(&hub_key(), FLEET, World::new().device).unwrap();
        let mut frame = vec![0; 20_000];
        let frame = signed.encode(&mut frame, &body).unwrap();
        let back = Desired::decode(frame).unwrap();
        prop_assert_eq!(back.signed, signed);
        prop_assert_eq!(back.body, (body.len() <= BODY_INLINE_BYTES_MAX).then_some(&body[..]));
        prop_assert!(body_matches(&back.signed.header, &body));
    }

    #[test]
    fn trust_links_survive(
        (version, epoch) in any::<(u32, u32)>(), hub_keys in vec(any::<[u8; 32]>(), 0..=TRUST_HUB_KEYS_MAX),
        publisher_keys in vec(any::<[u8; 32]>(), 0..=TRUST_PUBLISHER_KEYS_MAX),
        revoked in vec(any::<[u8; 4]>(), 0..=TRUST_REVOKED_MAX),
    ) {
        let root = root_key().public_key();
        let link = Link {
            version, epoch, root,
            hub_keys: hub_keys.into_iter().map(PublicKey).collect(),
            publisher_keys: publisher_keys.into_iter().map(PublicKey).collect(),
            revoked: revoked.into_iter().map(KeyId).collect(),
        };
        let mut buffer = [0; 512];
        let frame = link.encode(&mut buffer, &root_key(), FLEET).unwrap().to_vec();
        prop_assert_eq!(&Link::decode(&frame, &Ed25519, &root, FLEET).unwrap(), &link);
        prop_assert!(Link::decode(&frame, &Ed25519, &root, "south").is_err());
        prop_assert!(Link::decode(&frame, &Ed25519, &device_key().public_key(), FLEET).is_err());
    }

    #[test]
    fn any_bytes_are_an_error_or_the_one_spelling_of_a_value(bytes in vec(any::<u8>(), 0..300), kind in prop::sample::select(&Kind::ALL[..])) {
        let mut scratch = vec![0; 4096];
        let _ = crate::families::body(kind, &bytes, &mut scratch);
        let _ = crate::families::set_body(&bytes, &mut scratch);
        let _ = crate::families::frame(&World::new(), &bytes, &mut scratch);
        let framed = [&[1, kind as u8][..], &bytes].concat();
        let _ = crate::families::frame(&World::new(), &framed, &mut scratch);
        let _ = crate::families::signed(&World::new(), &crate::families::Credulous, &framed, &mut scratch);
    }

    #[test]
    fn any_text_is_refused_or_the_one_spelling(noise in any::<String>()) {
        crate::families::text(noise.as_bytes());
        let topic = format!("fulmar/v1/{FLEET}/{noise}");
        crate::families::text(topic.as_bytes());
        let token = format!("fulmar-join-{noise}");
        crate::families::text(token.as_bytes());
    }
}
