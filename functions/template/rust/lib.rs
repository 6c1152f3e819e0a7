//! NAME: says hello at every tick of its timer, and counts the ticks in its durable state.
//!
//! The configuration is the place that it names; `workload.yaml` says what it is, how often it runs, and where.

#![no_std]

use fulmar_function::{Level, Text, config, log, state_number, state_set_number};

/// Where the number of runs is kept.
const RUNS: &[u8] = b"runs";
/// Said when there is no configuration.
const SOMEWHERE: &[u8] = b"somewhere";

/// A tick of the timer.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_timer() {
    let mut place = [0; 64];
    let place = match config(0, &mut place).trim_ascii() {
        [] => SOMEWHERE,
        place => place,
    };
    let run = state_number(RUNS) + 1;
    if state_set_number(RUNS, run).is_err() {
        log(Level::Warn, b"cannot count: the state is full");
    }
    log(Level::Info, Text::<128>::new().with(b"hello from ").with(place).with(b", run ").with_number(run));
}
