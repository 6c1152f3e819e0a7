//! One content on its way to this device in chunks, as a value: what to ask for next, and what to do with what comes.
//!
//! At most `CHUNKS_IN_FLIGHT_MAX` chunks are asked for at once, and they are taken in order alone: what is out of order, double or
//! of something else is ignored, and what is missing is asked for again after a while. The hash runs along; after a reset it is
//! rebuilt from what is stored. A transfer ends, well or not, after a bounded number of tries; whether it is worth another one is
//! the machine's to say. Must never hold a chunk, read a clock, or take a content for good whose hash is not the one asked for.
use crate::machine::port::{Content, FetchFailure};
use crate::machine::time::{Duration, Instant, millis};
use sha2::{Digest as _, Sha256};
use wire::Digest;
use wire::limits::CHUNKS_IN_FLIGHT_MAX;
use wire::transfer::{Chunk, Want};

/// An answer that does not come within this is asked for again.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before a question is repeated, at first and at most.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Questions in a row without a single chunk after which the source counts as unreachable.
pub const SILENT_MAX: u8 = 7;
/// Times that the whole content came and was another one, after which it is given up.
pub const WRONG_MAX: u8 = 2;
/// Times that a sink took back what it had, after which it is given up.
pub const TORN_MAX: u8 = 8;
/// Bytes that are read back at once when the hash is rebuilt.
const REBUILD_BYTES: usize = 256;

/// Where the content goes, in order.
pub trait Sink {
    /// Makes room, and says how many bytes of it are there from an earlier try.
    fn begin(&mut self, digest: &Digest, bytes: u32) -> Result<u32, FetchFailure>;
    /// Gives back what was appended.
    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), FetchFailure>;
    /// `offset`: what `begin` said, and all that was appended since.
    fn append(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SinkError>;
    /// All of it was wrong: the next `begin` says zero.
    fn discard(&mut self);
    /// All of it is there: makes it durable and checks what the memory gives back.
    fn finish(&mut self) -> Result<(), FetchFailure>;
}

/// Why bytes were not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// What is there ends in something that a cut left; `begin` says where to go on.
    Torn,
    Failed(FetchFailure),
}

/// What the owner of a transfer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this as `Need`, QoS 0. Dropping it costs time only.
    Ask(Want),
    /// The content is in the sink.
    Done,
    Failed(FetchFailure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asks at `at`.
    Resting {
        at: Instant,
    },
    /// Asked; `chunks` are still to come, the next one by `until`.
    Waiting {
        chunks: u8,
        until: Instant,
    },
    Ended(Result<(), FetchFailure>),
}

/// The transfer that is under way.
#[derive(Clone, Debug)]
pub struct Transfer {
    content: Content,
    digest: Digest,
    bytes: u32,
    /// Bytes that are in the sink.
    done: u32,
    hash: Sha256,
    state: State,
    silent: u8,
    wrong: u8,
    torn: u8,
    /// Something came since the last question.
    has_heard: bool,
}

impl Transfer {
    /// Takes up what is in the sink already.
    pub fn begin(
        now: Instant,
        content: Content,
        digest: Digest,
        bytes: u32,
        sink: &mut dyn Sink,
    ) -> Result<Self, FetchFailure> {
        let mut transfer = Self {
            content,
            digest,
            bytes,
            done: 0,
            hash: Sha256::new(),
            state: State::Resting { at: now },
            silent: 0,
            wrong: 0,
            torn: 0,
            has_heard: false,
        };
        transfer.take_up(sink)?;
        Ok(transfer)
    }

    pub fn content(&self) -> Content {
        self.content
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes in the sink.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// When `poll` is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Resting { at } => Some(at),
            State::Waiting { until, .. } => Some(until),
            State::Ended(_) => None,
        }
    }

    /// Only while the hub is heard. `None`: nothing to do before `poll_timeout` or the next chunk. `random`: new for each call. After `Done` or `Failed` the
    /// transfer is over.
    pub fn poll(&mut self, now: Instant, random: u32, sink: &mut dyn Sink) -> Option<Step> {
        if self.done >= self.bytes && !matches!(self.state, State::Ended(_)) {
            self.complete(now, sink);
        }
        if let State::Waiting { until, .. } = self.state
            && until <= now
        {
            self.not_answered(now, random);
        }
        match self.state {
            State::Ended(Ok(())) => Some(Step::Done),
            State::Ended(Err(failure)) => Some(Step::Failed(failure)),
            State::Resting { at } if at <= now => Some(self.ask(now)),
            State::Resting { .. } | State::Waiting { .. } => None,
        }
    }

    /// A chunk came, its tag checked. Call `poll` after it.
    pub fn chunk(&mut self, now: Instant, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        let State::Waiting { chunks, .. } = self.state else { return };
        let length = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
        let is_next = chunk.content == self.digest.prefix() && chunk.offset == self.done && length > 0;
        let Some(end) = self.done.checked_add(length).filter(|end| is_next && *end <= self.bytes) else { return };
        match sink.append(self.done, chunk.bytes) {
            Ok(()) => {
                self.hash.update(chunk.bytes);
                self.done = end;
            }
            Err(SinkError::Torn) => {
                // The chunks behind this one are of no use any more.
                self.torn = self.torn.saturating_add(1);
                let taken_up = if self.torn < TORN_MAX { self.take_up(sink) } else { Err(FetchFailure::NoSpace) };
                self.state = match taken_up {
                    Ok(()) => State::Resting { at: now },
                    Err(failure) => State::Ended(Err(failure)),
                };
                return;
            }
            Err(SinkError::Failed(failure)) => {
                self.state = State::Ended(Err(failure));
                return;
            }
        }
        (self.silent, self.has_heard) = (0, true);
        self.state = match chunks.saturating_sub(1) {
            0 => State::Resting { at: now },
            chunks => State::Waiting { chunks, until: now.after(ANSWER_TIMEOUT) },
        };
    }

    /// The connection is new: what was asked on the former one will not be answered.
    pub fn link_up(&mut self, now: Instant) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = State::Resting { at: now };
        }
    }

    fn ask(&mut self, now: Instant) -> Step {
        self.has_heard = false;
        let count = CHUNKS_IN_FLIGHT_MAX;
        self.state = State::Waiting { chunks: count, until: now.after(ANSWER_TIMEOUT) };
        let (digest, offset) = (self.digest, self.done);
        Step::Ask(match self.content {
            Content::Artifact => Want::Artifact { digest, offset, count },
            Content::Body => Want::Body { digest, offset, count },
        })
    }

    fn not_answered(&mut self, now: Instant, random: u32) {
        if self.has_heard {
            // Some of it was lost on the way; the source is there.
            self.state = State::Resting { at: now };
            return;
        }
        self.silent = self.silent.saturating_add(1);
        self.state = if self.silent >= SILENT_MAX {
            State::Ended(Err(FetchFailure::Unreachable))
        } else {
            State::Resting { at: now.after(pause(self.silent, random)) }
        };
    }

    fn complete(&mut self, now: Instant, sink: &mut dyn Sink) {
        let hash = core::mem::take(&mut self.hash);
        if Digest(hash.finalize().into()) != self.digest {
            self.start_again(now, sink);
            return;
        }
        match sink.finish() {
            Ok(()) => self.state = State::Ended(Ok(())),
            // It came right and was not kept right: another try goes to another place of the memory.
            Err(FetchFailure::HashMismatch) => self.start_again(now, sink),
            Err(failure) => self.state = State::Ended(Err(failure)),
        }
    }

    fn start_again(&mut self, now: Instant, sink: &mut dyn Sink) {
        sink.discard();
        self.wrong = self.wrong.saturating_add(1);
        self.state = if self.wrong >= WRONG_MAX {
            State::Ended(Err(FetchFailure::HashMismatch))
        } else {
            match self.take_up(sink) {
                Ok(()) => State::Resting { at: now },
                Err(failure) => State::Ended(Err(failure)),
            }
        };
    }

    /// Goes on where the sink says; the hash of what is there is rebuilt.
    fn take_up(&mut self, sink: &mut dyn Sink) -> Result<(), FetchFailure> {
        let there = sink.begin(&self.digest, self.bytes)?.min(self.bytes);
        let mut hash = Sha256::new();
        let mut buffer = [0; REBUILD_BYTES];
        let mut at = 0;
        while at < there {
            let length = (there - at).min(REBUILD_BYTES as u32);
            let part = &mut buffer[..length as usize];
            sink.read(at, part)?;
            hash.update(&*part);
            at += length;
        }
        (self.hash, self.done) = (hash, there);
        Ok(())
    }
}

/// Doubles with each try; anywhere between half of it and all of it, so that devices that lost a hub together do not ask together.
fn pause(silent: u8, random: u32) -> Duration {
    let doublings = u32::from(silent.saturating_sub(1)).min(16);
    let longest = millis(PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX));
    let half = longest / 2;
    Duration::from_millis(half + u64::from(random) % (longest - half + 1))
}

/// A content in memory: the body of a set.
#[derive(Debug)]
pub struct Memory<'b> {
    buffer: &'b mut [u8],
    filled: usize,
}

impl<'b> Memory<'b> {
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, filled: 0 }
    }

    /// What has come.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Sink for Memory<'_> {
    fn begin(&mut self, _: &Digest, bytes: u32) -> Result<u32, FetchFailure> {
        self.filled = 0;
        let fits = usize::try_from(bytes).is_ok_and(|bytes| bytes <= self.buffer.len());
        if fits { Ok(0) } else { Err(FetchFailure::NoSpace) }
    }

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), FetchFailure> {
        let from = self.bytes().get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or(FetchFailure::Absent)?);
        Ok(())
    }

    fn append(&mut self, _: u32, bytes: &[u8]) -> Result<(), SinkError> {
        let room = self.buffer.get_mut(self.filled..).and_then(|rest| rest.get_mut(..bytes.len()));
        room.ok_or(SinkError::Failed(FetchFailure::NoSpace))?.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    fn discard(&mut self) {
        self.filled = 0;
    }

    fn finish(&mut self) -> Result<(), FetchFailure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
