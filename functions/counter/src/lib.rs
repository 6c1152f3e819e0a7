//! Counts events and emits the total after each. The total is durable: it goes on after restarts and replacements.
//!
//! Trigger: any topic. Capabilities: `emit`, `state`. The payload does not matter. It must never count an event twice; an event
//! whose total could not be made durable is not counted at all, although its total may have been emitted.
//!
//! Configuration, entries of `key=value` on lines or behind semicolons:
//!
//! | key | meaning | when absent |
//! |---|---|---|
//! | `topic` | where the total is emitted | `counter` |

#![no_std]

use fulmar_function::{Entries, Local, Text, emit_or_log, log_failure, settings, state_number, state_set_number};

/// Bytes of the configuration.
const CONFIG_BYTES: usize = 256;
/// Where the total is kept.
const TOTAL: &[u8] = b"total";

static TOPIC: Local<Option<Text<64>>> = Local::new(None);

fn topic(entries: Entries<'_>) -> Result<Text<64>, &'static str> {
    if entries.unknown(&[b"topic"]).is_some() {
        return Err("an unknown setting: known is topic");
    }
    Text::whole(entries.get(b"topic").unwrap_or(b"counter")).ok_or("topic is longer than 64 bytes")
}

/// Reads the configuration.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_start() {
    TOPIC.set(settings::<CONFIG_BYTES, _>(topic));
}

/// Something to count.
#[unsafe(no_mangle)]
pub extern "C" fn fulmar_event() {
    TOPIC.with(|topic| {
        // Without a valid configuration nothing is done; that was said at the start.
        let Some(topic) = topic else { return };
        let total = state_number(TOTAL).saturating_add(1);
        match state_set_number(TOTAL, total) {
            Ok(()) => {
                emit_or_log(topic, Text::<20>::new().with_number(total));
            }
            Err(error) => log_failure("an event was not counted", error),
        }
    });
}
