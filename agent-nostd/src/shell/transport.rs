//! What waits: for bytes in either direction, for a moment, or for a future with a deadline while the watchdog is fed.
//!
//! Must never wait without a bound that the caller named.
use super::mqtt::Client;
use super::port::{Board, Clock, Network};
use crate::machine::time::{Duration, Instant};
use core::future::{Future, pending};
use core::pin::pin;
use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{Read, Write};

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Bytes came or went.
    Moved,
    /// What was waited for besides.
    Woken,
    /// The peer closed, or the network failed.
    Lost,
}

/// Waits until bytes can be taken or given, or `wake` is ready. Nothing is lost if it is dropped.
pub async fn pump<R: Read, W: Write, C: Clock>(
    reader: &mut R,
    writer: &mut W,
    client: &mut Client<'_>,
    clock: &C,
    wake: impl Future<Output = ()>,
) -> Pumped {
    let (into, out) = client.io();
    let read = async {
        // An empty read looks like the end of a connection.
        if into.is_empty() { pending().await } else { reader.read(into).await }
    };
    let write = async { if out.is_empty() { pending().await } else { writer.write(out).await } };
    match select3(read, write, wake).await {
        Either3::First(Ok(0) | Err(_)) | Either3::Second(Ok(0) | Err(_)) => Pumped::Lost,
        Either3::First(Ok(count)) => {
            client.received(count);
            Pumped::Moved
        }
        Either3::Second(Ok(count)) => {
            client.sent(clock.now(), count);
            Pumped::Moved
        }
        Either3::Third(()) => Pumped::Woken,
    }
}

/// When the watchdog has to be fed again.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    at: Instant,
    every: Option<Duration>,
}

impl Pulse {
    pub fn new<B: Board>(board: &B) -> Self {
        Self { at: Instant::ZERO, every: board.alive_every().map(|every| every.max(Duration::from_millis(1))) }
    }

    /// To be called after each turn of whatever turns.
    pub fn beat<B: Board>(&mut self, board: &B, now: Instant) {
        if let Some(every) = self.every
            && self.at <= now
        {
            board.alive();
            self.at = now.after(every);
        }
    }

    pub fn due(&self) -> Option<Instant> {
        self.every.map(|_| self.at)
    }
}

/// The output of a future; `None`: it was not ready by `deadline`.
pub async fn by<T>(
    clock: &impl Clock,
    board: &impl Board,
    pulse: &mut Pulse,
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    loop {
        let at = pulse.due().map_or(deadline, |due| due.min(deadline));
        match select(future.as_mut(), clock.until(at)).await {
            Either::First(output) => return Some(output),
            Either::Second(()) => {
                let now = clock.now();
                pulse.beat(board, now);
                if now >= deadline {
                    return None;
                }
            }
        }
    }
}

/// Waits until a moment, with the watchdog fed.
pub async fn rest(clock: &impl Clock, board: &impl Board, pulse: &mut Pulse, until: Instant) {
    by(clock, board, pulse, until, pending::<()>()).await;
}

const PORT: u16 = 1883;

/// Host and port of `mqtt://host[:port]`, as a token has it; `None` for anything else, encryption included. A host in brackets
/// is an address of version 6.
fn address(broker: &str) -> Option<(&str, u16)> {
    let authority = broker.strip_prefix("mqtt://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((_, tail)) if tail.ends_with(']') => (authority, PORT),
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (authority, PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

/// The address that a network needs to connect; `None`: it cannot. One that is relayed needs none.
pub fn address_for<N: Network>(broker: &str) -> Option<(&str, u16)> {
    if N::IS_RELAYED { Some(("", 0)) } else { address(broker) }
}

#[cfg(test)]
mod tests {
    use super::{PORT, address};

    #[test]
    fn an_address_is_plain_mqtt() {
        assert_eq!(address("mqtt://192.0.2.2:1883"), Some(("192.0.2.2", 1883)));
        assert_eq!(address("mqtt://[2001:db8::1]:1884"), Some(("2001:db8::1", 1884)));
        assert_eq!(address("mqtt://[2001:db8::1]/"), Some(("2001:db8::1", PORT)));
        assert_eq!(address("mqtt://broker.example"), Some(("broker.example", PORT)));
        for wrong in ["mqtts://192.0.2.2:8883", "192.0.2.2:1883", "mqtt://:1883", "mqtt://a:0", "mqtt://a:65536", ""] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
