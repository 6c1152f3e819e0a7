//! Randomness as a value: a counter hashed under the seed that the shell gave at boot. Never for keys, only for ids and jitter.
use super::time::{Duration, millis};
use wire::Digest;

/// Numbers of one seed.
#[derive(Clone)]
pub struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

impl Random {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 8] {
        let mut block = [0; 40];
        block[..32].copy_from_slice(&self.seed);
        block[32..].copy_from_slice(&self.counter.to_le_bytes());
        self.counter = self.counter.wrapping_add(1);
        Digest::of(&block).prefix().0
    }

    /// Between zero and `most`, both possible.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        let draw = u64::from_le_bytes(self.bytes());
        Duration::from_millis(draw % millis(most).saturating_add(1).max(1))
    }

    /// `around`, give or take a fifth.
    pub(crate) fn about(&mut self, around: Duration) -> Duration {
        let fifth = around / 5;
        around - fifth + self.up_to(fifth * 2)
    }
}

/// `base * 2^tries`, at most `cap`.
pub(crate) fn doubled(base: Duration, tries: u32, cap: Duration) -> Duration {
    base.checked_mul(1u32.checked_shl(tries.min(31)).unwrap_or(u32::MAX)).unwrap_or(cap).min(cap)
}
