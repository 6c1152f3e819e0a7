//! Reads parts of artifacts for the engine, on a thread of its own: a disk that is slow holds up neither the engine nor its writer.
//!
//! Every read that is taken is answered. It decides nothing.

use std::io::{self, Read};
use std::thread;

use async_channel::{Sender, TrySendError};

use crate::engine::port::{ContentRead, Input};
use crate::handle::Message;
use crate::store::Artifacts;

/// Reads that wait for the thread; the engine has no more under way.
pub const READS_WAITING_MAX: usize = 64;

/// The thread's owner. Dropping it ends the thread.
pub(super) struct Contents {
    reads: Sender<ContentRead>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Contents {
    pub(super) fn start(artifacts: Artifacts, queue: Sender<Message>) -> io::Result<Self> {
        let (reads, asked) = async_channel::bounded::<ContentRead>(READS_WAITING_MAX);
        let thread = thread::Builder::new().name("contents".to_owned()).spawn(move || {
            while let Ok(read) = asked.recv_blocking() {
                let content = part(&artifacts, &read)
                    .inspect_err(|error| tracing::error!(digest = %read.digest, %error, "an artifact cannot be read"));
                let input = Input::ContentRead { read: read.read, content: content.ok() };
                if queue.send_blocking(Message::Input(input)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { reads, thread: Some(thread) })
    }

    /// Never waits. Gives back what to tell the engine if there is no room.
    pub(super) fn read(&self, read: ContentRead) -> Option<Input> {
        self.reads.try_send(read).err().map(|error| {
            let (TrySendError::Full(read) | TrySendError::Closed(read)) = error;
            Input::ContentRead { read: read.read, content: None }
        })
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.reads.close();
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("the thread that reads artifacts ended by a panic");
        }
    }
}

fn part(artifacts: &Artifacts, read: &ContentRead) -> io::Result<Vec<u8>> {
    let mut reader = artifacts
        .read(&read.digest, read.offset, Some(read.length))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use wire::Digest;

    #[test]
    fn parts_are_read_off_the_engine_thread_and_every_read_is_answered() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let mut upload = artifacts.upload(10).unwrap();
        upload.write(b"0123456789").unwrap();
        let digest = upload.finish(None, None).unwrap().digest;
        let (queue, inputs) = async_channel::bounded(8);
        let contents = Contents::start(artifacts, queue).unwrap();
        let ask = |read, digest, offset, length| {
            assert!(contents.read(ContentRead { read, digest, offset, length }).is_none())
        };
        ask(1, digest, 4, 3);
        ask(2, digest, 8, 100);
        ask(3, digest, 10, 1);
        ask(4, Digest::of(b"another"), 0, 1);
        let answers: Vec<_> = (0..4)
            .map(|_| match inputs.recv_blocking().unwrap() {
                Message::Input(Input::ContentRead { read, content }) => (read, content),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [(1, Some(b"456".to_vec())), (2, Some(b"89".to_vec())), (3, None), (4, None)];
        assert_eq!(answers, expected);
    }

    #[test]
    fn reads_beyond_the_limit_are_answered_at_once() {
        let (queue, inputs) = async_channel::bounded(1);
        let data = tempfile::tempdir().unwrap();
        let contents = Contents::start(Artifacts::open(data.path()).unwrap(), queue).unwrap();
        let read = |read| contents.read(ContentRead { read, digest: Digest([1; 32]), offset: 0, length: 1 });
        let until = |done: &dyn Fn() -> bool| {
            let late = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !done() {
                assert!(std::time::Instant::now() < late);
                thread::yield_now();
            }
        };
        // One answer waits, and the thread waits with the next one.
        assert!(read(0).is_none());
        until(&|| inputs.is_full());
        assert!(read(1).is_none());
        until(&|| contents.reads.is_empty());
        for number in 0..READS_WAITING_MAX as u64 {
            assert!(read(number).is_none(), "{number}");
        }
        assert!(matches!(read(999), Some(Input::ContentRead { read: 999, content: None })));
        inputs.close();
        drop(contents);
    }
}
