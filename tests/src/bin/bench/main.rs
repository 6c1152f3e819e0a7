//! Measures what the goals are about, on real processes, and prints a table with anchors; `--json` prints the same as JSON.
//!
//! Figures are medians of several runs in one go. Nothing passes or fails here: tests judge answers, this judges costs.
//! Simulated load runs in processes of its own, so that its cost is seen apart from the hub's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod beside;
mod boards;
mod chunks;
mod crowd;
mod fleet;
mod mcu;
mod process;
mod schedule;
mod simulator;
mod single;
mod site;
mod storm;
mod swarm;
mod table;

use std::path::Path;
use std::time::Instant;
use table::Row;

const AGENTS_DEFAULT: usize = 10_000;
const USAGE: &str = "\
Measures the goals on this machine, with real processes.

Usage: bench [--json] [--agents N] [--only PART,...]

  --agents N   simulated agents of the parts `fleet` and `storm` (default 10000)
  --only       parts: schedule (P1-P3), single (P11, P14, P15), chunks, swarm (P11's anchor), fleet (P8, P9, P12),
               mosquitto (P9 with the broker beside the hub), site (P19), simulator (P23),
               mcu (P17, P18 and idle boards, emulated), storm (P13, P22: all agents come back at once)
";

struct Options {
    json: bool,
    agents: usize,
    only: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { json: false, agents: AGENTS_DEFAULT, only: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--agents" => options.agents = arguments.next().and_then(|text| text.parse().ok()).unwrap_or_else(usage),
            "--only" => options.only = arguments.next().unwrap_or_else(usage).split(',').map(str::to_owned).collect(),
            _ => usage(),
        }
    }
    options
}

fn usage<T>() -> T {
    eprint!("{USAGE}");
    std::process::exit(2)
}

/// A part by its name, and what measures it.
type Part = (&'static str, fn(&Path, &Options) -> Vec<Row>);

const PARTS: [Part; 10] = [
    ("schedule", |directory, _| schedule::measure(directory)),
    ("single", |directory, _| single::measure(directory)),
    ("chunks", |directory, _| chunks::measure(directory)),
    ("swarm", |directory, _| swarm::measure(directory)),
    ("fleet", |directory, options| fleet::measure(directory, options.agents)),
    ("mosquitto", |directory, _| beside::measure(directory)),
    ("site", |directory, _| site::measure(directory)),
    ("simulator", |_, _| simulator::measure()),
    ("mcu", |directory, _| mcu::measure(directory)),
    ("storm", |directory, options| storm::measure(directory, options.agents)),
];

fn main() {
    if std::env::args().nth(1).as_deref() == Some(crowd::VERB) {
        return crowd::run_here();
    }
    let options = options();
    let begin = Instant::now();
    let mut rows = Vec::new();
    for (name, part) in PARTS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("==> [{:4}s] measuring: {name}", begin.elapsed().as_secs());
        // A directory each: what one leaves behind is not another's cost.
        let directory = tempfile::tempdir().unwrap();
        rows.extend(part(directory.path(), &options));
    }
    if options.json { table::print_json(&rows) } else { table::print(&rows) }
}
