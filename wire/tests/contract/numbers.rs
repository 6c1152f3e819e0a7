//! Numbers are for ever. These are written by hand, so that no run with UPDATE_GOLDEN can move them.
use crate::corpus::{stated, with_every_clause};
use wire::clause::StaleAction;
use wire::event::Level;
use wire::frame::Kind;
use wire::hello::{Architecture, Asks, DeviceClass, Features, RefusalReason, ResetCause};
use wire::join::JoinRefusal;
use wire::record::{CapabilitySet, Role, Runtime};
use wire::status::{Reason, State};
use wire::transfer::CommandOutcome;

#[test]
fn kinds_have_their_numbers() {
    let pinned = [
        (Kind::Desired, 1),
        (Kind::Trust, 2),
        (Kind::Fresh, 3),
        (Kind::Grant, 4),
        (Kind::Input, 5),
        (Kind::Chunk, 6),
        (Kind::Command, 7),
        (Kind::Report, 8),
        (Kind::Refusal, 9),
        (Kind::Taken, 10),
        (Kind::Offer, 11),
        (Kind::Hello, 32),
        (Kind::Heartbeat, 33),
        (Kind::Status, 34),
        (Kind::Need, 35),
        (Kind::Released, 36),
        (Kind::Event, 37),
        (Kind::Sample, 38),
        (Kind::Log, 39),
        (Kind::Will, 40),
        (Kind::CommandResult, 41),
        (Kind::Firmware, 42),
        (Kind::HubState, 64),
        (Kind::JoinRequest, 80),
        (Kind::JoinAnswer, 81),
    ];
    assert_eq!(pinned.len(), Kind::ALL.len());
    for (kind, number) in pinned {
        assert_eq!(kind as u8, number);
        assert_eq!(Kind::from_byte(number), Some(kind));
    }
}

#[test]
fn clauses_have_their_numbers_and_criticality() {
    const CRITICAL: [u16; 14] = [2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15, 17, 19, 4000];
    let numbers: Vec<u16> = with_every_clause(|clauses| {
        for clause in clauses {
            assert_eq!(stated(clause).critical, CRITICAL.contains(&clause.number()), "{clause:?}");
        }
        clauses.iter().map(|clause| clause.number()).collect()
    });
    let expected: Vec<u16> = (1..=19).chain([4000]).collect();
    assert_eq!(numbers, expected);
    assert_eq!(wire::clause::NUMBER_MAX, 32_767);
}

#[test]
fn reasons_have_their_numbers_and_codes() {
    let pinned = [
        (Reason::NONE, 0, "NONE"),
        (Reason::WAITS_FOR_COMPONENT, 1, "WAITS_FOR_COMPONENT"),
        (Reason::WAITS_FOR_FRESH, 2, "WAITS_FOR_FRESH"),
        (Reason::WAITS_FOR_GRANT, 3, "WAITS_FOR_GRANT"),
        (Reason::LEASE_EXPIRED, 4, "LEASE_EXPIRED"),
        (Reason::STALE, 5, "STALE"),
        (Reason::FETCH_FAILED, 10, "FETCH_FAILED"),
        (Reason::HASH_MISMATCH, 11, "HASH_MISMATCH"),
        (Reason::NO_SPACE, 12, "NO_SPACE"),
        (Reason::LOAD_REFUSED, 20, "LOAD_REFUSED"),
        (Reason::TRAPPED, 21, "TRAPPED"),
        (Reason::OUT_OF_FUEL, 22, "OUT_OF_FUEL"),
        (Reason::OUT_OF_MEMORY, 23, "OUT_OF_MEMORY"),
        (Reason::EXITED, 24, "EXITED"),
        (Reason::START_TIMED_OUT, 25, "START_TIMED_OUT"),
        (Reason::RUNTIME_MISSING, 26, "RUNTIME_MISSING"),
        (Reason::UNKNOWN_CLAUSE, 30, "UNKNOWN_CLAUSE"),
        (Reason::NOT_SUPPORTED, 31, "NOT_SUPPORTED"),
        (Reason::ROLLED_BACK, 40, "ROLLED_BACK"),
        (Reason::SAFE_MODE, 41, "SAFE_MODE"),
    ];
    for (reason, number, code) in pinned {
        assert_eq!((reason.0, reason.code()), (number, code));
    }
    let coded = (0..=u16::MAX).filter(|number| Reason(*number).code() != "UNKNOWN").count();
    assert_eq!(coded, pinned.len());
}

#[test]
fn bits_have_their_places() {
    let features = [
        (Features::FUNCTION, 0),
        (Features::FUNCTION_PAGE_SIZES, 1),
        (Features::CONTAINER, 2),
        (Features::PROCESS, 3),
        (Features::BOOT_CLOCK, 4),
        (Features::FETCH_HTTP, 5),
        (Features::FETCH_CHUNKS, 6),
    ];
    for (feature, bit) in features {
        assert_eq!(feature.0, 1 << bit);
    }
    let interfaces = [
        (CapabilitySet::LOG, 0),
        (CapabilitySet::EMIT, 1),
        (CapabilitySet::STATE, 2),
        (CapabilitySet::RANDOM, 3),
        (CapabilitySet::GPIO, 8),
        (CapabilitySet::ADC, 9),
        (CapabilitySet::I2C, 10),
        (CapabilitySet::PWM, 11),
    ];
    for (interface, bit) in interfaces {
        assert_eq!(interface.0, 1 << bit);
    }
    for (ask, bit) in [(Asks::STATUS, 0), (Asks::CAPABILITIES, 1), (Asks::PROOF, 2), (Asks::HEALTH, 3)] {
        assert_eq!(ask.0, 1 << bit);
    }
}

fn in_order<T: serde::Serialize>(values: &[T]) {
    for (number, value) in values.iter().enumerate() {
        let mut buffer = [0; 4];
        let mut writer = wire::codec::Writer::new(&mut buffer);
        writer.value(value).unwrap();
        assert_eq!(writer.written(), [number as u8]);
    }
}

#[test]
fn variants_have_their_numbers() {
    in_order(&[Role::Service, Role::Init, Role::Job]);
    in_order(&[Runtime::Function, Runtime::Container, Runtime::Process]);
    in_order(&[Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error]);
    in_order(&[StaleAction::Continue, StaleAction::Degrade, StaleAction::Stop]);
    in_order(&[DeviceClass::Mcu, DeviceClass::Gateway]);
    in_order(&[
        Architecture::X86_64,
        Architecture::Aarch64,
        Architecture::Armv7,
        Architecture::Thumbv6m,
        Architecture::Thumbv7m,
        Architecture::Thumbv7em,
        Architecture::Thumbv8m,
        Architecture::Riscv32,
        Architecture::Riscv64,
    ]);
    in_order(&[
        ResetCause::Unknown,
        ResetCause::PowerOn,
        ResetCause::BrownOut,
        ResetCause::Watchdog,
        ResetCause::Panic,
        ResetCause::Software,
        ResetCause::Pin,
        ResetCause::ProcessStart,
    ]);
    in_order(&[
        RefusalReason::Busy,
        RefusalReason::UnsupportedVersion,
        RefusalReason::Quarantined,
        RefusalReason::NotApproved,
    ]);
    in_order(&[
        JoinRefusal::TokenUsed,
        JoinRefusal::TokenExpired,
        JoinRefusal::NotAuthentic,
        JoinRefusal::NameTaken,
        JoinRefusal::Malformed,
        JoinRefusal::Busy,
    ]);
    in_order(&[
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
    ]);
    in_order(&[
        CommandOutcome::Done,
        CommandOutcome::Failed,
        CommandOutcome::Interrupted,
        CommandOutcome::Expired,
        CommandOutcome::NotSupported,
    ]);
}
