//! What happened in a run: as one number that two equal runs share, and on demand as a story that a person can read.
//!
//! The number covers every event and every byte that crossed the air; the story is only formatted when somebody wants it.

/// Lines that are kept for the story of a failure.
pub const LINES_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    Off,
    /// In memory, for the end of a failed run.
    Keep,
    /// As it happens.
    Print,
}

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    pub events: u64,
    story: Story,
    lines: Vec<String>,
}

impl Trace {
    pub fn new(story: Story) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, story, lines: Vec::new() }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn lines(self) -> Vec<String> {
        self.lines
    }

    pub fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(word));
        }
    }

    pub fn is_told(&self) -> bool {
        self.story != Story::Off
    }

    pub fn say(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.story == Story::Off {
            return;
        }
        let (hours, minutes, seconds, ms) = (now / 3_600_000, now / 60_000 % 60, now / 1000 % 60, now % 1000);
        let line = format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}  {}", line());
        if self.story == Story::Print {
            println!("{line}");
        } else if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        }
    }
}
