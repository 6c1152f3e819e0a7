//! A smaller run that still fails in the same way: shorter, with fewer kinds of faults, fewer devices, and single faults only.
//!
//! Every step is a whole run. What is left out changes what follows, so that a step is kept only if it fails alike.
use super::fault::Fault;
use super::{Options, Outcome, Story, Window, run};

/// Runs that are tried, and events of all of them: then the smallest one found so far has to do.
const RUNS_MAX: u32 = 250;
const EVENTS_MAX: u64 = 1_500_000_000;

struct Search {
    best: Outcome,
    kind: String,
    runs: u32,
    events: u64,
}

/// What is the same in two violations of one kind: the text without numbers, and not all of it.
fn kind(violation: &str) -> String {
    violation.chars().filter(|letter| !letter.is_ascii_digit()).take(24).collect()
}

impl Search {
    fn attempt(&mut self, options: Options) -> bool {
        if self.runs >= RUNS_MAX || self.events >= EVENTS_MAX {
            return false;
        }
        let outcome = run(Options { story: Story::Off, ..options });
        self.runs += 1;
        self.events += outcome.events;
        let is_alike = outcome.violation.as_deref().map(kind).as_ref() == Some(&self.kind);
        if is_alike {
            self.best = outcome;
        }
        is_alike
    }

    /// Faults end just after the moment of the violation, or as much earlier as is possible.
    fn shorten(&mut self) {
        let minutes = self.best.virtual_ms / 60_000 + 1;
        if minutes < self.best.options.minutes {
            self.attempt(Options { minutes, ..self.best.options });
        }
        while self.best.options.minutes > 5 {
            let minutes = self.best.options.minutes / 2;
            if !self.attempt(Options { minutes, ..self.best.options }) {
                break;
            }
        }
    }

    /// Leaves out early faults, then late ones.
    fn narrow(&mut self) {
        let Window { from, .. } = self.best.options.window;
        let to = self.best.counts.strikes;
        self.attempt(Options { window: Window { from, to, bits: u64::MAX }, ..self.best.options });
        let mut step = (to - from) / 2;
        while step > 0 {
            let window = self.best.options.window;
            let without_first = Window { from: window.from + step, ..window };
            let without_last = Window { to: window.to.saturating_sub(step), ..window };
            let fits = |window: &Window| window.from < window.to;
            let done = [without_first, without_last]
                .into_iter()
                .filter(fits)
                .any(|window| self.attempt(Options { window, ..self.best.options }));
            if !done {
                step /= 2;
            }
        }
    }

    fn without_kinds(&mut self) {
        // Halves first, then one by one: most kinds have nothing to do with it.
        for size in [Fault::ALL.len() / 2, Fault::ALL.len() / 4, Fault::ALL.len() / 8, 1] {
            for part in Fault::ALL.chunks(size.max(1)) {
                let allowed = part.iter().fold(self.best.options.allowed, |allowed, fault| allowed.without(*fault));
                if allowed != self.best.options.allowed {
                    self.attempt(Options { allowed, ..self.best.options });
                }
            }
        }
    }

    fn without_devices(&mut self) {
        while self.best.options.devices > 1 {
            let devices = self.best.options.devices;
            let fewer = [devices / 2, devices - 1];
            if !fewer.into_iter().any(|devices| self.attempt(Options { devices, ..self.best.options })) {
                break;
            }
        }
    }

    fn without_single_faults(&mut self) {
        let window = self.best.options.window;
        let length = window.to.saturating_sub(window.from);
        if length > u64::from(u64::BITS) {
            return;
        }
        for bit in 0..length {
            let window = self.best.options.window;
            let bits = window.bits & !(1 << bit);
            self.attempt(Options { window: Window { bits, ..window }, ..self.best.options });
        }
    }
}

/// The smallest run found, with its story.
pub fn shrink(failed: &Outcome) -> Outcome {
    let kind = failed.violation.as_deref().map(kind).unwrap_or_default();
    let mut search = Search { best: failed.clone(), kind, runs: 0, events: 0 };
    search.shorten();
    search.narrow();
    search.without_kinds();
    search.without_devices();
    search.without_single_faults();
    search.shorten();
    run(Options { story: Story::Keep, ..search.best.options })
}
