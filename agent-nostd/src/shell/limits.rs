//! Every buffer of an agent on a microcontroller, by name, with the sum per class. Nothing else in the shell has a size.
//!
//! A class is a set of sizes: `small` for parts with 64 KB of RAM, `standard` for those that run functions. Must never hold a
//! buffer that grows.
use crate::machine::Agent;
use crate::machine::port::{Buffers, OUTGOING_BYTES_MIN, SET_OVERHEAD_BYTES};
use core::time::Duration;
use wire::limits::{BODY_BYTES_MAX_SMALL, BODY_INLINE_BYTES_MAX, CHUNK_BYTES_MAX, EVENT_BYTES_MAX};
use wire::limits::{MQTT_TOPIC_BYTES_MAX, TOPIC_BYTES_MAX};

/// What MQTT and a frame put around a payload, besides the topic.
pub const PACKET_OVERHEAD_BYTES: usize = 64;
/// Publications that wait for their PUBACK; the machine has one of each of its nine classes.
pub const IN_FLIGHT_MAX: usize = 16;
/// Publications of the broker that wait for our PUBACK; each is acknowledged as it is taken.
pub const RECEIVE_MAX: u16 = 4;
/// Subscriptions that wait for their SUBACK: two groups, one of them possibly asked for again.
pub const SUBSCRIPTIONS_MAX: usize = 4;
/// Bytes that are written ahead of a publication: a PINGREQ, PUBACKs, a SUBSCRIBE of the live topics.
pub const CONTROL_BYTES: usize = 8 * (MQTT_TOPIC_BYTES_MAX + 3) + 64;
/// The journal's values that are neither a set nor alarms: attempts of each slot, crashes, the clock.
pub const RESTORE_BYTES: usize = 1024;
/// What a join needs to remember.
pub const IDENTITY_BYTES: usize = 256;
/// From the start of a connection to its CONNACK.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest that a write makes no progress.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the start of a join to its answer.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed join, at first and at most.
pub const JOIN_PAUSE_MIN: Duration = Duration::from_secs(2);
pub const JOIN_PAUSE_MAX: Duration = Duration::from_secs(600);
/// A request has at most three hundred bytes.
pub const JOIN_REQUEST_BYTES: usize = 512;
/// What the broker says for a device that is gone: a frame with the boot.
pub const WILL_BYTES: usize = 64;
/// A slice of fuel and one call to the outside; the erasure of a sector comes on top, as long as it takes on the board.
pub const STOP_LATENCY: Duration = Duration::from_millis(500);
/// Messages that wait for one instance of a function. Above this a new one is dropped and counted.
pub const INBOX_MAX: usize = 8;
/// Losses of functions are told at most this often.
pub const LOSSES_EVERY: Duration = Duration::from_secs(10);
/// Components that run at the same time, at most.
pub const MODULES_MAX: usize = standard::SLOTS;
/// What one instance of a function remembers, with what surrounds its keys and values.
pub const STATE_VALUE_BYTES: usize = 3 * 1024;
/// Outputs that one function drives at the same time. As many as a board has pins and buses.
pub const DRIVEN_MAX: usize = 32;
/// Configuration of a function that is an artifact of its own.
pub const CONFIGURATION_BYTES: u32 = 4 * 1024;
/// A question for a part of an artifact.
pub const NEED_BYTES: usize = 96;
/// What is remembered of an update.
pub const FIRMWARE_BYTES: usize = 64;
/// A frame that tells of the firmware: the name of the board at its longest.
pub const FIRMWARE_REPORT_BYTES: usize = 160;
/// While an image is fetched the hub hears of it this often.
pub const FIRMWARE_REPEAT: Duration = Duration::from_secs(5);
/// From the mark to the reset, so that the hub hears of it.
pub const MARKED_PAUSE: Duration = Duration::from_millis(500);
/// Of an image that was marked without an offer.
pub const TRIAL_DEFAULT: Duration = Duration::from_secs(600);
/// An image that has not confirmed itself by so much after its trial is not fed any more.
pub const TRIAL_GRACE: Duration = Duration::from_secs(5);
/// Fetches that wait while one is under way.
pub const FETCHES_MAX: usize = 8;

/// Sizes of the class with 64 KB of RAM.
pub mod small {
    use super::*;
    pub const SLOTS: usize = 8;
    pub const SET_BYTES: usize = SET_OVERHEAD_BYTES + BODY_BYTES_MAX_SMALL;
    pub const FRAME_BYTES: usize = OUTGOING_BYTES_MIN;
    pub const RING_BYTES: usize = 1280;
    pub const ALARM_BYTES: usize = 512;
    pub const STATE_BYTES: usize = 256;
    pub const METRIC_BYTES: usize = 512;
    pub const RECEIVE_BYTES: usize = SET_BYTES + MQTT_TOPIC_BYTES_MAX + PACKET_OVERHEAD_BYTES;
    /// At boot it holds what the journal has besides the accepted set.
    pub const SEND_BYTES: usize = SET_BYTES + ALARM_BYTES + RESTORE_BYTES;
    const _: () = assert!(SEND_BYTES >= FRAME_BYTES + MQTT_TOPIC_BYTES_MAX + PACKET_OVERHEAD_BYTES + CONTROL_BYTES);
    /// All of it, the machine included: the rest of 64 KB is for stack, network and board.
    pub const SUM_BYTES: usize = size_of::<super::SmallMemory>() + size_of::<Agent<'_, SLOTS>>();
    const _: () = assert!(SUM_BYTES < 32 * 1024);
    const _: () = assert!(RING_BYTES >= EVENT_BYTES_MAX + TOPIC_BYTES_MAX + 96);
    const _: () = assert!(RECEIVE_BYTES >= CHUNK_BYTES_MAX + MQTT_TOPIC_BYTES_MAX + PACKET_OVERHEAD_BYTES);
}

/// Sizes of the class that runs functions, with at least 192 KB of RAM.
pub mod standard {
    use super::*;
    pub const SLOTS: usize = 16;
    pub const SET_BYTES: usize = SET_OVERHEAD_BYTES + BODY_INLINE_BYTES_MAX;
    pub const FRAME_BYTES: usize = 4 * 1024;
    pub const RING_BYTES: usize = 4 * 1024;
    pub const ALARM_BYTES: usize = 2 * 1024;
    pub const STATE_BYTES: usize = 2 * 1024;
    pub const METRIC_BYTES: usize = 4 * 1024;
    pub const RECEIVE_BYTES: usize = SET_BYTES + MQTT_TOPIC_BYTES_MAX + PACKET_OVERHEAD_BYTES;
    pub const SEND_BYTES: usize = SET_BYTES + ALARM_BYTES + RESTORE_BYTES;
    const _: () = assert!(SEND_BYTES >= FRAME_BYTES + MQTT_TOPIC_BYTES_MAX + PACKET_OVERHEAD_BYTES + CONTROL_BYTES);
    /// All of it, the machine included; heap of functions, stack, network and board come on top.
    pub const SUM_BYTES: usize = size_of::<super::StandardMemory>() + size_of::<Agent<'_, SLOTS>>();
    const _: () = assert!(SUM_BYTES < 88 * 1024);
    const _: () = assert!(ALARM_BYTES <= FRAME_BYTES);
}

/// The memory of any class, borrowed.
pub struct Borrowed<'m> {
    pub machine: Buffers<'m>,
    pub receive: &'m mut [u8],
    pub send: &'m mut [u8],
}

impl core::fmt::Debug for Borrowed<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Borrowed").field("receive", &self.receive.len()).field("send", &self.send.len()).finish()
    }
}

/// All buffers of one agent of a class. A board places it where it has room; it is all zeros at first.
macro_rules! memory {
    ($(#[$about:meta])* $name:ident of $class:ident) => {
        $(#[$about])*
        pub struct $name {
            sets: [[u8; $class::SET_BYTES]; 3],
            outgoing: [u8; $class::FRAME_BYTES],
            rings: [[u8; $class::RING_BYTES]; 3],
            alarms: [u8; $class::ALARM_BYTES],
            states: [u8; $class::STATE_BYTES],
            metrics: [u8; $class::METRIC_BYTES],
            receive: [u8; $class::RECEIVE_BYTES],
            send: [u8; $class::SEND_BYTES],
        }

        impl $name {
            pub const fn new() -> Self {
                Self {
                    sets: [[0; $class::SET_BYTES]; 3],
                    outgoing: [0; $class::FRAME_BYTES],
                    rings: [[0; $class::RING_BYTES]; 3],
                    alarms: [0; $class::ALARM_BYTES],
                    states: [0; $class::STATE_BYTES],
                    metrics: [0; $class::METRIC_BYTES],
                    receive: [0; $class::RECEIVE_BYTES],
                    send: [0; $class::SEND_BYTES],
                }
            }

            pub fn borrow(&mut self) -> Borrowed<'_> {
                let [current, last_good, incoming] = &mut self.sets;
                let [logs, events, inputs] = &mut self.rings;
                let (alarms, states, metrics) = (&mut self.alarms, &mut self.states, &mut self.metrics);
                let outgoing = &mut self.outgoing;
                Borrowed {
                    machine: Buffers {
                        current,
                        last_good,
                        incoming,
                        outgoing,
                        logs,
                        events,
                        alarms,
                        states,
                        metrics,
                        inputs,
                    },
                    receive: &mut self.receive,
                    send: &mut self.send,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name)).field("bytes", &size_of::<Self>()).finish_non_exhaustive()
            }
        }
    };
}

memory! {
    /// Of `small`.
    SmallMemory of small
}
memory! {
    /// Of `standard`.
    StandardMemory of standard
}
