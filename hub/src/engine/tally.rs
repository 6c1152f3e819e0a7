//! The account of one class of one device: which of its sequences came, which were lost, and which can still come.
//!
//! Sent is received plus lost, exactly, as far as a boot is known to its end; of one that ended otherwise the end is unknown, and
//! that is said. Soft: a hub that restarts begins anew.

use wire::BootId;

/// Runs of sequences that may still come; with more, the oldest counts as gone.
pub const GAPS_MAX: usize = 64;

/// What the sequences of a class belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// In memory: a new boot begins anew, and the end of the old one is unknown.
    Boot(BootId),
    /// Durable: only a ring that was wiped begins anew.
    Ring(u32),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    stream: Option<Stream>,
    /// The first sequence that was not heard of.
    next: u32,
    /// Not received and not settled: from, up to but without; ascending.
    open: Vec<(u32, u32)>,
    pub received: u64,
    /// Settled and never received, since this hub listens.
    gone: u64,
    /// What the device counted when this hub began to listen to the stream.
    lost_base: u32,
    lost: u32,
    /// Of earlier streams.
    lost_before: u64,
    gone_before: u64,
    pub ends_unknown: u32,
}

impl Tally {
    /// To be called before the records of a frame are taken: `first` is the lowest sequence that can still come.
    pub fn begin(&mut self, stream: Stream, first: u32, lost: u32) {
        if self.stream != Some(stream) {
            self.close();
            // The whole stream is heard if nothing of it is settled yet, or if this hub was there before it began.
            let is_whole = self.stream.is_some() || first <= 1;
            self.stream = Some(stream);
            (self.next, self.lost_base) = if is_whole { (1, 0) } else { (first, lost) };
            self.lost = lost;
        }
        self.lost = self.lost.max(lost);
    }

    /// What the device says of its losses outside of a frame: of this stream.
    pub fn device_lost(&mut self, stream: Stream, lost: u32) {
        if self.stream == Some(stream) {
            self.lost = self.lost.max(lost);
        } else if self.stream.is_some() {
            self.begin(stream, 1, lost);
        }
    }

    /// The same of a durable stream, which goes on whatever it is called.
    pub fn device_lost_of_ring(&mut self, lost: u32) {
        if self.stream.is_some() {
            self.lost = self.lost.max(lost);
        }
    }

    fn close(&mut self) {
        if self.stream.is_none() {
            return;
        }
        self.ends_unknown = self.ends_unknown.saturating_add(1);
        let open: u64 = self.open.drain(..).map(|(from, to)| u64::from(to - from)).sum();
        self.lost_before += u64::from(self.lost - self.lost_base.min(self.lost));
        self.gone_before += self.gone + open;
        (self.gone, self.lost, self.lost_base) = (0, 0, 0);
    }

    /// Takes a record; false: it came before.
    pub fn take(&mut self, sequence: u32) -> bool {
        if sequence >= self.next {
            if sequence > self.next {
                self.open.push((self.next, sequence));
            }
            self.next = sequence.saturating_add(1);
        } else {
            let Some(at) = self.open.iter().position(|(from, to)| (*from..*to).contains(&sequence)) else {
                return false;
            };
            let (from, to) = self.open.remove(at);
            if sequence + 1 < to {
                self.open.insert(at, (sequence + 1, to));
            }
            if from < sequence {
                self.open.insert(at, (from, sequence));
            }
        }
        self.received += 1;
        while self.open.len() > GAPS_MAX {
            let (from, to) = self.open.remove(0);
            self.gone += u64::from(to - from);
        }
        true
    }

    /// After the records of a frame: nothing below `first` comes any more.
    pub fn settle(&mut self, first: u32) {
        if self.next < first {
            self.open.push((self.next, first));
            self.next = first;
        }
        let gone = &mut self.gone;
        for (from, to) in &mut self.open {
            let end = first.clamp(*from, *to);
            *gone += u64::from(end - *from);
            *from = end;
        }
        self.open.retain(|(from, to)| from < to);
    }

    /// Up to where nothing is missing that can still come.
    pub fn whole(&self) -> u32 {
        self.open.first().map_or(self.next, |(from, _)| *from).saturating_sub(1)
    }

    /// What devices counted as lost, since this hub listens or the stream began.
    pub fn lost(&self) -> u64 {
        self.lost_before + u64::from(self.lost)
    }

    /// What never came although the device did not lose it: broker or hub did.
    pub fn missing(&self) -> u64 {
        let counted = self.lost_before + u64::from(self.lost - self.lost_base.min(self.lost));
        (self.gone_before + self.gone).saturating_sub(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RING: Stream = Stream::Ring(1);

    #[test]
    fn what_came_late_is_received_once_and_what_never_came_is_missing_when_that_is_settled() {
        let mut tally = Tally::default();
        tally.begin(RING, 1, 0);
        assert_eq!([5, 6, 5, 2].map(|sequence| tally.take(sequence)), [true, true, false, true]);
        tally.settle(1);
        assert_eq!((tally.received, tally.missing(), tally.whole()), (3, 0, 0));
        assert!(tally.take(1));
        assert_eq!(tally.whole(), 2);
        tally.settle(7);
        assert_eq!((tally.received, tally.missing(), tally.whole()), (4, 2, 6));
        // The device says that it dropped them: lost there, and not on the way.
        tally.device_lost(RING, 2);
        assert_eq!((tally.lost(), tally.missing()), (2, 0));
    }

    #[test]
    fn a_new_boot_leaves_the_end_of_the_old_one_unknown() {
        let mut tally = Tally::default();
        tally.begin(Stream::Boot(BootId([1; 8])), 1, 0);
        assert!(tally.take(1) && tally.take(4));
        tally.begin(Stream::Boot(BootId([2; 8])), 3, 2);
        assert!(tally.take(3));
        tally.settle(3);
        assert_eq!((tally.received, tally.ends_unknown), (3, 1));
        assert_eq!(
            (tally.lost(), tally.missing()),
            (2, 2),
            "2 and 3 of the old boot; 1 and 2 of the new one were counted"
        );
    }

    #[test]
    fn a_hub_that_comes_later_counts_from_there() {
        let mut tally = Tally::default();
        tally.begin(RING, 100, 40);
        assert!(tally.take(100));
        tally.settle(101);
        assert_eq!((tally.received, tally.lost(), tally.missing()), (1, 40, 0));
    }

    #[test]
    fn gaps_are_bounded_and_the_oldest_counts_as_gone() {
        for (count, missing) in [(GAPS_MAX as u32 - 1, 0), (GAPS_MAX as u32, 0), (GAPS_MAX as u32 + 1, 1)] {
            let mut tally = Tally::default();
            tally.begin(RING, 1, 0);
            (1..=count).for_each(|n| assert!(tally.take(2 * n)));
            assert_eq!((tally.open.len() as u64 + missing, tally.missing()), (u64::from(count), missing));
        }
    }

    proptest! {
        #[test]
        fn every_settled_sequence_is_received_or_missing(order in vec(1..60u32, 0..80), first in 1..70u32) {
            let mut tally = Tally::default();
            tally.begin(RING, 1, 0);
            let mut seen = BTreeSet::new();
            for sequence in order {
                prop_assert_eq!(tally.take(sequence), seen.insert(sequence));
            }
            tally.settle(first);
            let settled = (1..first).filter(|sequence| !seen.contains(sequence)).count() as u64;
            prop_assert_eq!((tally.received, tally.missing()), (seen.len() as u64, settled));
        }
    }
}
