//! Ctrl-C and SIGTERM as something that can be waited for, without unsafe code.
//!
//! `async-signal` because the agent uses it too: the tree has one way to receive signals.

use crate::failure::{Failure, system};
use async_signal::{Signal, Signals};
use smol::stream::StreamExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Requests to stop.
pub struct Stop(Receiver<()>);

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    GoOn,
    Stop,
}

impl Stop {
    /// From now on both signals are ours.
    pub fn listen() -> Result<Self, Failure> {
        let mut signals =
            Signals::new([Signal::Term, Signal::Int]).map_err(|error| system("cannot listen for signals", &error))?;
        let (sender, receiver) = channel();
        let relay =
            move || smol::block_on(async { while signals.next().await.is_some() && sender.send(()).is_ok() {} });
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(relay)
            .map_err(|error| system("cannot start a thread", &error))?;
        Ok(Self(receiver))
    }

    /// Waits so long, or until a signal comes.
    pub fn wait(&self, time: Duration) -> Order {
        match self.0.recv_timeout(time) {
            Ok(()) => Order::Stop,
            Err(RecvTimeoutError::Timeout) => Order::GoOn,
            // The thread has ended: without signals there is no other way to stop than to stop now.
            Err(RecvTimeoutError::Disconnected) => Order::Stop,
        }
    }
}
