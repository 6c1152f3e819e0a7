//! The fleet simulator over many seeds, and the seeds that once found a bug.
//!
//! `FULMAR_SIM_SEEDS=5000 cargo test -p fulmar-tests --test sim` runs more; a failure prints the command that shows it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tests::sim::{Allowed, Counts, Fault, Options, Outcome, Plant, Story, run, shrink};

/// Seeds of the default run: about a minute on two cores without optimisation.
const SEEDS: u64 = 150;
/// Lines of the story that a failure shows.
const LINES_SHOWN: usize = 40;

fn seeds() -> u64 {
    std::env::var("FULMAR_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Runs all seeds on all cores, in no particular order: a run knows nothing of the others.
fn run_all(count: u64) -> Vec<Outcome> {
    let next = AtomicU64::new(1);
    let outcomes = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count {
                        break;
                    }
                    let outcome = run(Options::of_seed(seed));
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// What a person needs to begin: the smallest run found that fails, its last lines, and the command.
fn report(failed: &Outcome) -> String {
    let small = shrink(failed);
    let begin = small.lines.len().saturating_sub(LINES_SHOWN);
    format!(
        "seed {}: {}\n  again: {}\nsmaller: {}\n  again: {}\n{}",
        failed.options.seed,
        failed.violation.as_deref().unwrap_or_default(),
        failed.command(),
        small.violation.as_deref().unwrap_or_default(),
        small.command(),
        small.lines[begin..].join("\n")
    )
}

#[test]
fn a_fleet_survives_every_kind_of_fault_and_becomes_right_again() {
    let began = Instant::now();
    let outcomes = run_all(seeds());
    let mut counts = Counts::default();
    outcomes.iter().for_each(|outcome| counts.add(&outcome.counts));
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} seeds, {} devices, {} virtual hours, {} events, {} boots, {} faults, {} writes acknowledged, {:.1} s",
        outcomes.len(),
        sum(|outcome| outcome.options.devices as u64),
        sum(|outcome| outcome.virtual_ms) / 3_600_000,
        sum(|outcome| outcome.events),
        sum(|outcome| outcome.boots as u64),
        counts.total(),
        sum(|outcome| outcome.acknowledged),
        began.elapsed().as_secs_f64()
    );
    for fault in Fault::ALL {
        println!("  {fault:?}: {}", counts.of(fault));
    }
    let slowest = outcomes.iter().filter_map(|outcome| outcome.converged_after_ms).max().unwrap_or(0);
    let bytes = outcomes.iter().map(|outcome| outcome.reconnect_bytes).max().unwrap_or(0);
    println!("  slowest to become right: {} s; most bytes to come back: {bytes}", slowest / 1000);
    let mut failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.violation.is_some()).collect();
    failed.sort_by_key(|outcome| outcome.options.seed);
    if let Some(first) = failed.first() {
        let seeds: Vec<u64> = failed.iter().map(|outcome| outcome.options.seed).collect();
        panic!("{} of {} seeds failed: {seeds:?}\n{}", failed.len(), outcomes.len(), report(first));
    }
    let missed: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| counts.of(*fault) == 0).collect();
    assert!(missed.is_empty(), "faults that never hit anybody: {missed:?}");
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
    let allowed = Allowed::NONE.with(Fault::LinkChaos).with(Fault::Replay);
    let mut hits = 0;
    for seed in 1..=12 {
        let outcome = run(Options { allowed, ..Options::of_seed(seed) });
        assert_eq!(outcome.violation, None, "{}", outcome.command());
        hits += outcome.counts.of(Fault::LinkChaos);
    }
    assert!(hits > 1_000, "only {hits} messages were out of order or came twice");
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
