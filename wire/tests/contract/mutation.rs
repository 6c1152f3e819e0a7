//! Seeded mutations of everything that is pinned, through every decoder: the fuzz targets of `wire/fuzz` in a bounded run that
//! needs no special compiler. `FULMAR_FUZZ_RUNS` asks for more, `FULMAR_FUZZ_SEED` for others.
use crate::corpus::{Family, corpus};
use crate::families::{Credulous, SCRATCH_BYTES, World, body, frame, provision, set_body, signed, text};
use wire::frame::Kind;

const RUNS: u64 = 200_000;
const SEED: u64 = 0x66756c6d6172;
/// Above any golden message that is mutated, so that insertions do not grow without end.
const LENGTH_MAX: usize = 2048;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One to four changes, of the kinds that break decoders: bits, bytes, lengths, cuts, repetitions, splices.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.next() as u8),
            5 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            6 => {
                let end = (at + random.below(16)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            7 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(LENGTH_MAX);
    }
}

#[test]
fn no_mutation_of_anything_breaks_a_decoder() {
    let (world, mut scratch) = (World::new(), vec![0; SCRATCH_BYTES]);
    let corpus = corpus();
    let (runs, seed) = (number("FULMAR_FUZZ_RUNS", RUNS), number("FULMAR_FUZZ_SEED", SEED));
    println!("seed {seed}, {runs} runs");
    let mut random = Random(seed);
    let mut decoded = 0u64;
    let mut bytes = Vec::new();
    for _ in 0..runs {
        let item = &corpus[random.below(corpus.len())];
        let other = &corpus[random.below(corpus.len())];
        let below = item.body();
        let below_other = other.body().map_or(other.bytes.as_slice(), |(_, bytes)| bytes);
        bytes.clear();
        match item.family {
            // Through the tag now and then; the rest of the time below it, where the structure is.
            Family::Frame(Kind::Desired | Kind::Trust) => {
                bytes.extend_from_slice(&item.bytes);
                mutate(&mut random, &mut bytes, &other.bytes);
                decoded += u64::from(signed(&world, &Credulous, &bytes, &mut scratch).is_ok());
            }
            Family::Frame(_) if random.below(8) == 0 => {
                bytes.extend_from_slice(&item.bytes);
                mutate(&mut random, &mut bytes, &other.bytes);
                let accepted = frame(&world, &bytes, &mut scratch).is_ok();
                let untagged = matches!(bytes.get(1), Some(64 | 81));
                assert!(!accepted || untagged || corpus.iter().any(|item| item.bytes == bytes), "{bytes:02x?}");
            }
            Family::Frame(_) | Family::Set => {
                let (kind, inner) = below.unwrap();
                bytes.extend_from_slice(inner);
                mutate(&mut random, &mut bytes, below_other);
                decoded += u64::from(body(kind, &bytes, &mut scratch).is_ok());
            }
            Family::Clauses | Family::Bytes => {
                // Around each: a set of one record whose core is left alone.
                bytes.extend_from_slice(&item.bytes);
                mutate(&mut random, &mut bytes, below_other);
                let set = crate::limits::set(&bytes);
                decoded += u64::from(set_body(&set, &mut scratch).is_ok());
            }
            Family::Provision => {
                bytes.extend_from_slice(&item.bytes);
                mutate(&mut random, &mut bytes, &other.bytes);
                // Behind the digest now and then; without it nothing but the record itself gets through.
                let is_sealed = random.below(4) > 0;
                if is_sealed {
                    crate::provision::seal(&mut bytes);
                }
                let accepted = provision(&bytes).is_ok();
                assert!(is_sealed || !accepted || bytes.starts_with(&item.bytes), "{bytes:02x?}");
                decoded += u64::from(accepted);
            }
            Family::Text => {
                bytes.extend_from_slice(&item.bytes);
                mutate(&mut random, &mut bytes, &other.bytes);
                decoded += u64::from(text(&bytes));
            }
        }
    }
    println!("{decoded} of {runs} mutations still decode");
    assert!(decoded > runs / 50, "the mutations no longer get past the first checks: {decoded} of {runs}");
}
