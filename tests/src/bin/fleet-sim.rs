//! `fleet-sim`: one simulated run of a fleet as a readable story with a verdict, or many in a row.
//!
//! It only parses its arguments and prints; everything else is in `tests::sim`.
use std::process::ExitCode;
use std::time::Instant;
use tests::sim::{Allowed, Fault, Options, Outcome, Story, run, shrink};

const USAGE: &str = "fleet-sim --seed N [--seeds COUNT] [--devices D] [--minutes M | --hours H] [--faults all|none|A,B,..] \
                     [--trace] [--shrink]";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => simulate(&arguments),
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

struct Arguments {
    seed: u64,
    seeds: u64,
    devices: Option<usize>,
    minutes: Option<u64>,
    allowed: Allowed,
    story: Story,
    shrinks: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seed: 1,
        seeds: 1,
        devices: None,
        minutes: None,
        allowed: Allowed::ALL,
        story: Story::Off,
        shrinks: false,
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{text:?} after {word} is not a number"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = number()?,
            "--seeds" => arguments.seeds = number()?,
            "--devices" => arguments.devices = usize::try_from(number()?).ok(),
            "--minutes" => arguments.minutes = Some(number()?),
            "--hours" => arguments.minutes = Some(number()? * 60),
            "--trace" => arguments.story = Story::Print,
            "--shrink" => arguments.shrinks = true,
            "--faults" => arguments.allowed = faults(&words.next().unwrap_or_default())?,
            _ => return Err(format!("{word:?} is not known")),
        }
    }
    Ok(arguments)
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
    let mut failures = 0;
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let drawn = Options::of_seed(seed);
        let options = Options {
            devices: arguments.devices.unwrap_or(drawn.devices),
            minutes: arguments.minutes.unwrap_or(drawn.minutes),
            allowed: arguments.allowed,
            story: arguments.story,
            ..drawn
        };
        let began = Instant::now();
        let outcome = run(options);
        print(&outcome, began.elapsed().as_millis());
        if outcome.violation.is_some() {
            failures += 1;
            if arguments.shrinks {
                let small = shrink(&outcome);
                println!("smaller: {}\n  {}", small.violation.as_deref().unwrap_or_default(), small.command());
            }
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(outcome: &Outcome, elapsed_ms: u128) {
    let Options { seed, devices, .. } = outcome.options;
    let faults = outcome.counts.total();
    println!(
        "seed {seed}: {devices} devices, {} virtual min, {} events, {faults} faults, {} boots, {} writes acknowledged, \
         {elapsed_ms} ms, trace {:016x}",
        outcome.virtual_ms / 60_000,
        outcome.events,
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
