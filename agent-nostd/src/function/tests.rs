//! Tests of the function engine, by the fact that they show. `W1`..`W9` are the rows of the reliability matrix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calling;
mod common;
mod hardware;
mod hello;
mod interface;
mod loading;
mod mutation;
mod running;
mod samples;
mod stacks;
mod state;
mod twins;
