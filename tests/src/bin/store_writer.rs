//! Writes the made-up load through the real store until somebody kills it, and says on standard output what is durable.
//!
//! `store_writer <data directory> endless|stop`. Lines: `open <sequence> <incarnation>`, `ack <sequence> <era>`,
//! `failed <sequence> <era> <reason>`. It must never say `ack` before the store did; with `stop` it writes nothing more
//! after a failure and waits to be killed.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail};
use hub::keys::Keys;
use hub::store::{DataDirectory, Outcome, Store, StoreSettings, SubmitError};
use tests::store_load::{Random, batch};

/// Batches under way at most.
const WINDOW_MAX: u64 = 48;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().context("the data directory is missing")?;
    let stops = match arguments.next().as_deref() {
        Some("endless") => false,
        Some("stop") => true,
        other => bail!("endless or stop, not {other:?}"),
    };
    let directory = DataDirectory::take(Path::new(&data))?;
    let keys = Keys::open(directory.path(), &directory.database())?;
    let (store, loaded) = Store::open(&directory, &keys, &StoreSettings::default())?;
    say(&format!("open {} {}", loaded.sequence, loaded.incarnation));

    let (outcomes, next_outcome) = mpsc::channel();
    let writer = store.start(Box::new(move |outcome| {
        let _ = outcomes.send(outcome);
    }))?;
    let mut random = Random(loaded.sequence);
    let (mut durable, mut sent, mut era) = (loaded.sequence, loaded.sequence, 0);
    loop {
        let window = 1 + random.below(WINDOW_MAX);
        while sent < durable + window {
            match writer.submit(batch(sent + 1, era)) {
                Ok(()) => sent += 1,
                Err(SubmitError::Full(_)) => break,
                Err(SubmitError::Ended(_)) => bail!("the writer is gone"),
            }
        }
        match next_outcome.recv()? {
            Outcome::Committed { sequence, .. } => {
                say(&format!("ack {sequence} {era}"));
                durable = sequence;
            }
            Outcome::Failed { sequence, reason } => {
                say(&format!("failed {sequence} {era} {reason:?}"));
                if stops {
                    wait_for_the_kill();
                }
                era += 1;
                sent = sequence - 1;
            }
        }
    }
}

fn wait_for_the_kill() -> ! {
    loop {
        thread::park();
    }
}

/// One line in one write. Without a reader there is nobody to write for.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
