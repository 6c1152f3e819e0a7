//! How microcontrollers fare: how the last run of their firmware ended, how worn their flash is, and which gateway relays for them.
//!
//! It is what devices say, kept in memory alone: a hub that starts again asks for it. Nothing is decided by it.
use super::Engine;
use super::event::Draft;
use super::port::{Instant, Now};
use crate::model::{FlashWear, LastReset, ObjectKey};
use std::time::Duration;
use wire::hello::{DeviceClass, Health, LastEnd, ResetCause, Wear};
use wire::{BootId, DeviceId};

/// What is older is asked for again.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(6 * 3600);
/// After so much of a boot its erases say how many there are in a day.
const RATE_AFTER_S: u32 = 3600;
const DAY_S: u64 = 86_400;

/// As a device said it last.
#[derive(Clone, Debug)]
pub(super) struct Fare {
    boot: BootId,
    at: Instant,
    reset: ResetCause,
    end: Option<(u32, String)>,
    uptime_s: u32,
    wear: Option<Wear>,
    /// As the gateway says itself: for people, and nothing rests on it.
    pub(super) behind: Option<DeviceId>,
}

const fn cause(reset: ResetCause) -> &'static str {
    match reset {
        ResetCause::Unknown => "unknown",
        ResetCause::PowerOn => "power-on",
        ResetCause::BrownOut => "brown-out",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Panic => "panic",
        ResetCause::Software => "software",
        ResetCause::Pin => "pin",
        ResetCause::ProcessStart => "process-start",
    }
}

/// An address of zero is none.
fn place(address: u32) -> String {
    if address == 0 { String::new() } else { format!("{address:#010x}") }
}

impl Fare {
    pub(super) fn last_reset(&self) -> LastReset {
        let (address, text) = self.end.clone().unwrap_or_default();
        LastReset { cause: cause(self.reset).to_owned(), address: place(address), text }
    }

    pub(super) fn wear(&self) -> Vec<FlashWear> {
        let Some(wear) = self.wear else { return Vec::new() };
        let has_rate = self.uptime_s >= RATE_AFTER_S;
        [("journal", wear.journal), ("artifacts", wear.artifacts)]
            .into_iter()
            .map(|(partition, erases)| FlashWear {
                partition: partition.to_owned(),
                erases: erases.all,
                erases_per_day: has_rate.then(|| u64::from(erases.boot) * DAY_S / u64::from(self.uptime_s)),
            })
            .collect()
    }
}

impl Engine {
    /// Takes in what a Hello says, and tells people of a firmware that failed: once, by the Hello that says that it is news.
    pub(super) fn hear_health(&mut self, now: Now, index: u32, boot: BootId, reset: ResetCause, health: &Health<'_>) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let is_told = device.observed.fare.as_ref().is_some_and(|fare| fare.boot == boot);
        let end = health.end.map(|LastEnd { address, text }| (address, text.to_owned()));
        let Health { uptime_s, wear, behind, .. } = *health;
        device.observed.fare = Some(Fare { boot, at: now.monotonic, reset, end, uptime_s, wear, behind });
        let name = device.keys.name.clone();
        if let Some(end) = health.end.filter(|_| health.is_new && !is_told) {
            let place = place(end.address);
            let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
            let text = format!("its firmware ended by {}{at}: {}", cause(reset), end.text);
            self.tell(now, Draft::warning("FirmwareFailed", &ObjectKey::device(&name), text).on(&name));
        }
    }

    /// Whether a device is to say how it fares.
    pub(super) fn wants_health(&self, now: Now, index: u32, boot: BootId) -> bool {
        let Some(device) = self.state.devices.get(index) else { return false };
        let is_known = device
            .observed
            .fare
            .as_ref()
            .is_some_and(|fare| fare.boot == boot && now.monotonic.since(fare.at) < HEALTH_AGE_MAX);
        !is_known && device.known.as_ref().is_some_and(|known| known.class == DeviceClass::Mcu)
    }
}
