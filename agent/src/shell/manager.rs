//! What the service manager hears of the loop: ready once, the state of the link, and that the loop still turns.
//!
//! Must never be called from anywhere but the loop: a loop that hangs has to miss its watchdog.
use crate::notify::Notifier;
use agent_nostd::machine::port::LinkState;
use agent_nostd::machine::time::Instant;
use std::time::Duration;

/// The service manager, if there is one.
pub struct Manager {
    notifier: Option<Notifier>,
    alive_at: Option<Instant>,
    told: &'static str,
    is_stopping: bool,
}

/// The state of the link, for people.
pub const fn link_text(link: LinkState) -> &'static str {
    match link {
        LinkState::Offline { .. } => "offline",
        LinkState::Connecting => "connecting",
        LinkState::Linked => "connected to the broker, not heard by the hub yet",
        LinkState::Fresh => "connected to the hub",
    }
}

impl Manager {
    pub fn new(notifier: Option<Notifier>) -> Self {
        Self { notifier, alive_at: None, told: "", is_stopping: false }
    }

    /// What was accepted has been taken up.
    pub fn ready(&self) {
        if let Some(notifier) = &self.notifier {
            notifier.ready();
        }
    }

    /// To be called in each turn of the loop.
    pub fn tell(&mut self, now: Instant, link: LinkState) {
        let Some(notifier) = &self.notifier else { return };
        let text = link_text(link);
        if !self.is_stopping && std::mem::replace(&mut self.told, text) != text {
            notifier.status(text);
        }
        if let Some(every) = notifier.watchdog_every()
            && self.alive_at.is_none_or(|at| at <= now)
        {
            notifier.alive();
            self.alive_at = Some(now.after(every.max(Duration::from_millis(1))));
        }
    }

    /// When `tell` has to be called again.
    pub fn due(&self) -> Option<Instant> {
        self.alive_at
    }

    pub fn stopping(&mut self) {
        self.is_stopping = true;
        if let Some(notifier) = &self.notifier {
            notifier.stopping();
        }
    }
}
