//! Random bytes for functions, joins and the machine, from the seed of this boot alone.
//!
//! SHA-256 in counter mode; the key is replaced by each draw, so that who reads the memory learns nothing of what was drawn
//! before. Must never be made twice from one seed.
use wire::Digest;

/// A generator.
#[derive(Clone)]
pub struct Random {
    key: [u8; 32],
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random(..)")
    }
}

/// A value of its own for each purpose; neither the seed nor another purpose's value can be found from it.
pub fn derive(seed: &[u8; 32], purpose: &[u8; 16]) -> [u8; 32] {
    let mut block = [0; 48];
    block[..16].copy_from_slice(purpose);
    block[16..].copy_from_slice(seed);
    Digest::of(&block).0
}

impl Random {
    pub fn new(seed: &[u8; 32]) -> Self {
        Self { key: derive(seed, b"fulmar generator") }
    }

    pub fn fill(&mut self, out: &mut [u8]) {
        for (counter, part) in out.chunks_mut(32).enumerate() {
            let mut purpose = *b"fulmar draw.....";
            purpose[8..].copy_from_slice(&(counter as u64).to_le_bytes());
            part.copy_from_slice(&derive(&self.key, &purpose)[..part.len()]);
        }
        self.key = derive(&self.key, b"fulmar next key.");
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_twice() {
        let mut random = Random::new(&[7; 32]);
        let long: [u8; 80] = random.array();
        let again: [u8; 80] = random.array();
        let mut other = Random::new(&[8; 32]);
        let others: [u8; 80] = other.array();
        let mut blocks: std::vec::Vec<&[u8]> = [&long, &again, &others].iter().flat_map(|all| all.chunks(16)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), 15);
        assert_eq!(Random::new(&[7; 32]).array::<80>(), long);
    }

    #[test]
    fn purposes_are_apart() {
        assert_ne!(derive(&[1; 32], b"fulmar identity."), derive(&[1; 32], b"fulmar exchange."));
    }
}
