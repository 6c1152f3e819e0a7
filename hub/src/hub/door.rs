//! Looks whether the broker's listener for devices takes a connection, on a thread of its own: a network that swallows packets holds up
//! nobody.
//!
//! It makes a connection and ends it, and decides nothing.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use async_channel::Sender;

use crate::engine::port::Input;
use crate::handle::Message;

/// A listener that answers no sooner is taken for one that does not: verdicts wait for half a second at least.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);

/// The thread's owner. Dropping it ends the thread.
pub(super) struct Door {
    looks: Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Door {
    /// `url`: as devices are told it.
    pub(super) fn start(url: &str, queue: Sender<Message>) -> io::Result<Self> {
        let address = url.split_once("://").map_or(url, |(_, address)| address).to_owned();
        let (looks, asked) = async_channel::bounded::<()>(1);
        let thread = thread::Builder::new().name("door".to_owned()).spawn(move || {
            while asked.recv_blocking().is_ok() {
                let is_open = takes_a_connection(&address);
                if queue.send_blocking(Message::Input(Input::Door { is_open })).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { looks, thread: Some(thread) })
    }

    /// Never waits. A look that is under way answers this one too.
    pub(super) fn look(&self) {
        let _ = self.looks.try_send(());
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.looks.close();
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("the thread that looks at the broker's listener ended by a panic");
        }
    }
}

fn takes_a_connection(address: &str) -> bool {
    let Ok(mut addresses) = address.to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_seen_to_be_there_and_to_be_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("mqtts://{}", listener.local_addr().unwrap());
        let (queue, inputs) = async_channel::bounded(8);
        let door = Door::start(&url, queue).unwrap();
        let look = || {
            door.look();
            match inputs.recv_blocking().unwrap() {
                Message::Input(Input::Door { is_open }) => is_open,
                _ => panic!("another message"),
            }
        };
        assert!(look());
        drop(listener);
        assert!(!look());
    }
}
