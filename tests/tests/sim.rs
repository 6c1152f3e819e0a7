//! The fleet simulator over many short runs, and the seeds that once found a bug. The suite of whole weeks is `scripts/sim --suite`.
//!
//! `FULMAR_SIM_SEEDS=5000 cargo test -p fulmar-tests --test sim` runs more; a failure prints the command that shows it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use tests::sim::suite::run_all;
use tests::sim::{Allowed, Fault, Options, Plant, Story, Window, run, shrink};

/// Seeds of the default run: less than a minute on two cores without optimisation.
const SEEDS: u64 = 100;
/// Of these, so many run twice.
const TWICE: u64 = 4;

fn seeds() -> u64 {
    std::env::var("FULMAR_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn a_fleet_survives_every_kind_of_fault_and_becomes_right_again() {
    let last = seeds();
    let mut total = run_all(1, |seed| (seed <= last).then(|| Options::of_seed(seed)), TWICE, |_| {});
    println!("{}\n{}{}", total.summary(), total.faults(), total.coverage.summary());
    if let Some(report) = total.report() {
        panic!("{report}");
    }
    // A backup is only restored by whoever has one: in runs of days, where the suite counts it.
    let missed: Vec<Fault> = total.seldom(1).into_iter().filter(|fault| *fault != Fault::OldBackup).collect();
    assert!(missed.is_empty(), "faults that never hit anybody: {missed:?}");
    assert_eq!(total.coverage.missing_verbs(), [], "what was never asked of the hub");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 3, 7, 42] {
        let options = Options { minutes: 25, ..Options::of_seed(seed) };
        let (first, second) = (run(options), run(Options { story: Story::Keep, ..options }));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}: {}", first.command());
    }
}

#[test]
fn another_seed_is_another_run() {
    let of = |seed| run(Options { minutes: 10, ..Options::of_seed(seed) }).hash;
    assert_ne!(of(1), of(2));
}

#[test]
fn a_fleet_without_faults_is_right_within_minutes() {
    let outcome = run(Options { devices: 8, minutes: 30, allowed: Allowed::NONE, ..Options::of_seed(5) });
    assert_eq!(outcome.violation, None, "{}", outcome.command());
    assert!(outcome.converged_after_ms.is_some_and(|ms| ms < 5 * 60_000), "{:?}", outcome.converged_after_ms);
    assert_eq!(outcome.counts.total(), 0);
}

/// Found by seed 2: a device that waits for its approval sends no heartbeats, and was shown as lost every three minutes.
#[test]
fn a_device_that_waits_for_its_approval_is_not_called_lost() {
    for seed in 2..8 {
        let outcome = run(Options { minutes: 20, allowed: Allowed::NONE, ..Options::of_seed(seed) });
        assert_eq!(outcome.violation, None, "{}", outcome.command());
    }
}

/// No event is counted twice, no component starts twice, no set goes back: the oracles look after every step.
#[test]
fn c11_messages_that_come_twice_or_overtake_each_other_have_no_effect_twice() {
    let kinds = [Fault::LinkChaos, Fault::LinkTwice, Fault::Replay, Fault::ReplayLive];
    let allowed = kinds.into_iter().fold(Allowed::NONE, Allowed::with);
    let mut hits = 0;
    for seed in 1..=24 {
        let outcome = run(Options { allowed, ..Options::of_seed(seed) });
        assert_eq!(outcome.violation, None, "{}", outcome.command());
        hits += kinds.into_iter().map(|kind| outcome.counts.of(kind)).sum::<u64>();
    }
    assert!(hits > 200, "only {hits} messages were out of order or came twice");
}

/// No exclusive work runs twice, no set goes back, two that hear one another say nothing, and after the operator ended one of
/// them everything becomes right. Found here: a hub that said nothing looked at overdue heartbeats without end.
#[test]
fn c12_two_hubs_on_copies_of_one_database_harm_nobody() {
    let kinds = [Fault::SecondHub, Fault::HubCrash, Fault::HubPause, Fault::HubLinkStall, Fault::BrokerForgets];
    let allowed = kinds.into_iter().fold(Allowed::NONE, Allowed::with);
    let mut hits = 0;
    // Those with real signatures.
    for seed in [3, 23, 43, 63, 83] {
        let outcome = run(Options { allowed, minutes: 120, ..Options::of_seed(seed) });
        assert_eq!(outcome.violation, None, "{}", outcome.command());
        hits += outcome.counts.of(Fault::SecondHub);
    }
    assert!(hits >= 10, "only {hits} times there were two hubs");
}

/// After a second hub had been there, the hub's clock was in doubt: it answered no Hello, took its unsent questions for
/// unanswered ones, and kept two devices apart for ever that could have proven what they held.
#[test]
fn c12_a_device_that_was_never_asked_for_its_proof_is_not_kept_apart() {
    let outcome = run(Options { devices: 3, minutes: 41, ..Options::of_seed(923) });
    assert_eq!(outcome.violation, None, "{}", outcome.command());
    let hits = [Fault::SecondHub, Fault::HubClockJump].map(|kind| outcome.counts.of(kind));
    assert_eq!(hits, [1, 2], "{}", outcome.command());
}

/// A process that stood still was never woken again: its alarm had passed meanwhile and was taken for another one's.
#[test]
fn a_device_that_was_paused_goes_on() {
    let allowed = Allowed::NONE.with(Fault::DevicePause).with(Fault::HubPause);
    for seed in 1..=6 {
        let outcome = run(Options { allowed, ..Options::of_seed(seed) });
        assert_eq!(outcome.violation, None, "{}", outcome.command());
    }
}

/// The end of a link woke a process that stood still: it asked its functions for something, and nobody could answer in time.
#[test]
fn a_device_that_is_paused_hears_of_the_end_of_its_link_when_it_goes_on() {
    let allowed = Allowed::NONE.with(Fault::DevicePause).with(Fault::BrokerRestart);
    let window = Window { from: 16, to: 22, bits: 0xffff_ffff_ffff_ffe1 };
    let outcome = run(Options { allowed, window, devices: 20, minutes: 51, is_long: true, ..Options::of_seed(174) });
    assert_eq!(outcome.violation, None, "{}", outcome.command());
    let hits = [Fault::DevicePause, Fault::BrokerRestart].map(|kind| outcome.counts.of(kind));
    assert_eq!(hits, [1, 1], "{}", outcome.command());
}

#[test]
fn a_smaller_run_that_fails_alike_is_found() {
    let failed = run(Options { devices: 6, minutes: 40, plant: Plant::DiskLies, ..Options::of_seed(5) });
    let small = shrink(&failed);
    assert!(small.violation.as_deref().is_some_and(|what| what.starts_with("[I5]")), "{:?}", small.violation);
    assert!(small.options.devices < 6 && small.options.minutes < 40, "{}", small.command());
    assert_eq!(small.options.allowed, Allowed::NONE, "no fault was needed: {}", small.command());
    assert!(!small.lines.is_empty(), "its story is told");
}

/// The mistakes that `scripts/mutants` lets the simulator look for are those of the code as it is now.
#[test]
fn every_mutant_applies() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let patches: Vec<_> =
        std::fs::read_dir(root.join("tests/mutants")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(patches.len() >= 5, "{patches:?}");
    for patch in patches {
        let git = std::process::Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&git.stderr);
        assert!(git.status.success(), "{}: {said}make the same mistake in the code as it is now", patch.display());
    }
}

/// What the oracles say of a world in which one double breaks its contract.
fn planted(plant: Plant) -> String {
    let options = Options { devices: 5, minutes: 20, allowed: Allowed::NONE, plant, ..Options::of_seed(5) };
    run(options).violation.unwrap_or_default()
}

#[test]
fn a_flash_that_lies_is_noticed_when_something_starts() {
    assert!(planted(Plant::FlashLies).starts_with("[I2]"), "{}", planted(Plant::FlashLies));
}

#[test]
fn a_disk_that_lies_is_noticed_when_the_hub_answers() {
    assert!(planted(Plant::DiskLies).starts_with("[I5]"), "{}", planted(Plant::DiskLies));
}

#[test]
fn a_component_that_vanishes_from_its_runtime_is_noticed() {
    let said = planted(Plant::RuntimeForgets);
    assert!(said.starts_with("[I4]") || said.contains("does not run"), "{said}");
}
