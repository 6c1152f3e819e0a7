//! `fleet-sim`: one simulated run of a fleet as a readable story with a verdict; the suite; or runs for as long as is asked.
//!
//! It only parses its arguments and prints; everything else is in `tests::sim`.
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::sim::suite::{TWICE, Total, run_all, smaller};
use tests::sim::{Allowed, Fault, Options, Outcome, Story, Window, run};

const USAGE: &str = "\
fleet-sim --seed N [--seeds COUNT] [--devices D] [--minutes M | --hours H | --days D] [--long] [--week]
          [--faults all|none|A,B,..] [--window FROM..TO[:BITS]] [--trace] [--shrink] [--coverage]
fleet-sim --suite [--seed FIRST] [--seeds COUNT]      weeks of twenty devices; fails if a fault or a verb was never reached
fleet-sim --hunt [--seed FIRST] [--seeds COUNT]       short runs until one fails: for sources that are known to be wrong
fleet-sim --nightly --for 8h|30m [--seed FIRST]       larger and longer runs, until the time is over";

/// Runs of the suite, and of a hunt.
const SUITE: u64 = 200;
const HUNT: u64 = 1000;
/// Hits of each kind of fault that the suite needs.
const HITS_MIN: u64 = 100;
/// Part of the pairs of verb and condition that the suite has to reach.
const PAIRS_PER_CENT_MIN: usize = 95;

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => match arguments.way {
            How::Runs => simulate(&arguments),
            How::Suite => suite(&arguments),
            How::Nightly(length) => nightly(&arguments, length),
            How::Hunt => hunt(&arguments),
        },
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[derive(Clone, Copy)]
enum How {
    Runs,
    Suite,
    Nightly(Duration),
    Hunt,
}

struct Arguments {
    way: How,
    seed: u64,
    seeds: Option<u64>,
    devices: Option<usize>,
    minutes: Option<u64>,
    is_week: bool,
    is_long: bool,
    allowed: Allowed,
    window: Window,
    story: Story,
    shrinks: bool,
    covers: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        way: How::Runs,
        seed: 1,
        seeds: None,
        devices: None,
        minutes: None,
        is_week: false,
        is_long: false,
        allowed: Allowed::ALL,
        window: Window::ALL,
        story: Story::Off,
        shrinks: false,
        covers: false,
    };
    let mut length = None;
    while let Some(word) = words.next() {
        let mut text = || words.next().ok_or(format!("{word} needs a value"));
        let mut number = || {
            text().and_then(|text| text.parse::<u64>().map_err(|_| format!("{text:?} after {word} is not a number")))
        };
        match word.as_str() {
            "--seed" => arguments.seed = number()?,
            "--seeds" => arguments.seeds = Some(number()?),
            "--devices" => arguments.devices = usize::try_from(number()?).ok(),
            "--minutes" => arguments.minutes = Some(number()?),
            "--hours" => arguments.minutes = Some(number()? * 60),
            "--days" => arguments.minutes = Some(number()? * 24 * 60),
            "--long" => arguments.is_long = true,
            "--week" => arguments.is_week = true,
            "--trace" => arguments.story = Story::Print,
            "--shrink" => arguments.shrinks = true,
            "--coverage" => arguments.covers = true,
            "--faults" => arguments.allowed = faults(&text()?)?,
            "--window" => arguments.window = window(&text()?)?,
            "--suite" => arguments.way = How::Suite,
            "--hunt" => arguments.way = How::Hunt,
            "--nightly" => arguments.way = How::Nightly(Duration::ZERO),
            "--for" => length = Some(duration(&text()?)?),
            _ => return Err(format!("{word:?} is not known")),
        }
    }
    if matches!(arguments.way, How::Nightly(_)) {
        arguments.way = How::Nightly(length.ok_or("--nightly needs --for, such as --for 8h")?);
    }
    Ok(arguments)
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [('h', 3_600), ('m', 60), ('s', 1)];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u64>().ok().map(|count| Duration::from_secs(count * seconds))
    });
    parsed.ok_or(format!("{text:?} is no length of time: 8h, 30m, 90s"))
}

fn window(text: &str) -> Result<Window, String> {
    let parsed = || {
        let (range, bits) = text.split_once(':').unwrap_or((text, "ffffffffffffffff"));
        let (from, to) = range.split_once("..")?;
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        Some(Window { from, to, bits: u64::from_str_radix(bits, 16).ok()? })
    };
    parsed().ok_or(format!("{text:?} is no window of faults: 10..20 or 10..20:3ff"))
}

fn faults(text: &str) -> Result<Allowed, String> {
    match text {
        "all" => Ok(Allowed::ALL),
        "none" => Ok(Allowed::NONE),
        list => list.split(',').try_fold(Allowed::NONE, |allowed, name| {
            Fault::parse(name).map(|fault| allowed.with(fault)).ok_or(format!("{name:?} is no kind of fault"))
        }),
    }
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let mut total = Total::default();
    let began = Instant::now();
    for seed in arguments.seed..arguments.seed + arguments.seeds.unwrap_or(1) {
        let drawn = if arguments.is_week { Options::week(seed) } else { Options::of_seed(seed) };
        let options = Options {
            devices: arguments.devices.unwrap_or(drawn.devices),
            minutes: arguments.minutes.unwrap_or(drawn.minutes),
            is_long: arguments.is_long || drawn.is_long,
            allowed: arguments.allowed,
            window: arguments.window,
            story: arguments.story,
            ..drawn
        };
        let began = Instant::now();
        let outcome = run(options);
        print(&outcome, began.elapsed().as_millis());
        if outcome.violation.is_some() && arguments.shrinks {
            println!("{}", smaller(&outcome));
        }
        total.add(outcome);
    }
    total.seconds = began.elapsed().as_secs_f64();
    if arguments.covers {
        println!("{}\n{}", total.coverage.summary(), total.coverage.table());
    }
    if arguments.seeds.is_some() {
        println!("{}", total.summary());
    }
    if total.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(outcome: &Outcome, elapsed_ms: u128) {
    let Options { seed, devices, .. } = outcome.options;
    println!(
        "seed {seed}: {devices} devices, {} virtual min, {} events, {} faults, {} boots, {} writes acknowledged, \
         {elapsed_ms} ms, trace {:016x}",
        outcome.virtual_ms / 60_000,
        outcome.events,
        outcome.counts.strikes,
        outcome.boots,
        outcome.acknowledged,
        outcome.hash
    );
    let hit: Vec<String> = Fault::ALL
        .iter()
        .filter(|fault| outcome.counts.of(**fault) > 0)
        .map(|fault| format!("{fault:?} {}", outcome.counts.of(*fault)))
        .collect();
    println!("  faults: {}", hit.join(", "));
    match (&outcome.violation, outcome.converged_after_ms) {
        (Some(what), _) => println!("  FAILED: {what}\n  again: {}", outcome.command()),
        (None, converged) => println!(
            "  passed: right {} s after the last fault, {} bytes to come back",
            converged.unwrap_or(0) / 1000,
            outcome.reconnect_bytes
        ),
    }
}

/// A failure is told when it is found, not at the end of the night.
fn told(outcome: &Outcome) {
    if let Some(what) = &outcome.violation {
        println!("seed {} FAILED: {what}\n  {}", outcome.options.seed, outcome.command());
    }
}

fn suite(arguments: &Arguments) -> ExitCode {
    let (first, count) = (arguments.seed, arguments.seeds.unwrap_or(SUITE));
    let options_of = |seed| (seed < first + count).then(|| Options::week(seed));
    let mut total = run_all(first, options_of, TWICE.min(count), told);
    println!("{}\n{}\n{}", total.summary(), total.faults(), total.coverage.summary());
    if arguments.covers {
        println!("{}", total.coverage.table());
    }
    let mut wrong = Vec::new();
    if let Some(report) = total.report() {
        wrong.push(report);
    }
    // What a full suite has to reach; fewer seeds show less.
    if count >= SUITE {
        let seldom = total.seldom(HITS_MIN);
        let coverage = &total.coverage;
        let (reached, of) = coverage.pairs();
        if !seldom.is_empty() {
            wrong.push(format!("kinds of faults with fewer than {HITS_MIN} hits: {seldom:?}"));
        }
        if !coverage.missing_verbs().is_empty() || !coverage.missing_conditions().is_empty() {
            wrong.push(format!("never reached: {:?} {:?}", coverage.missing_verbs(), coverage.missing_conditions()));
        }
        if !coverage.missing_faults().is_empty() {
            wrong.push(format!("nothing was asked during: {:?}", coverage.missing_faults()));
        }
        if reached * 100 < of * PAIRS_PER_CENT_MIN {
            wrong.push(format!(
                "only {reached} of {of} pairs of verb and condition were reached:\n{}",
                coverage.table()
            ));
        }
    }
    wrong.iter().for_each(|what| println!("{what}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs until something is found, and says by which seed: for sources that are known to be wrong.
fn hunt(arguments: &Arguments) -> ExitCode {
    let (first, count) = (arguments.seed, arguments.seeds.unwrap_or(HUNT));
    let is_found = AtomicBool::new(false);
    let options_of = |seed| (seed < first + count && !is_found.load(Ordering::Relaxed)).then(|| Options::of_seed(seed));
    let note = |outcome: &Outcome| {
        is_found.store(outcome.violation.is_some() || is_found.load(Ordering::Relaxed), Ordering::Relaxed)
    };
    let mut total = run_all(first, options_of, 0, note);
    total.failed.sort_by_key(|outcome| outcome.options.seed);
    match total.failed.first() {
        Some(found) => {
            let what = found.violation.as_deref().unwrap_or_default();
            println!("found by seed {} after {} runs, {:.0} s: {what}", found.options.seed, total.runs, total.seconds);
            ExitCode::SUCCESS
        }
        None => {
            println!("not found by {} runs, {:.0} s", total.runs, total.seconds);
            ExitCode::FAILURE
        }
    }
}

fn nightly(arguments: &Arguments, length: Duration) -> ExitCode {
    let began = Instant::now();
    let options_of = |seed| (began.elapsed() < length).then(|| Options::night(seed));
    let mut total = run_all(arguments.seed, options_of, 0, told);
    println!("{}\n{}\n{}\n{}", total.summary(), total.faults(), total.coverage.summary(), total.coverage.table());
    match total.report() {
        Some(report) => {
            println!("{report}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
