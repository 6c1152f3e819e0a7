//! What a device asks for, the chunks of artifacts, and imperative commands with their results.
use crate::codec::{WireError, bounded, bounded_text};
use crate::digest::{Digest, DigestPrefix};
use crate::frame::{Body, Kind};
use crate::id::{CommandId, Nonce, Session, WorkloadId};
use crate::limits::{CHUNK_BYTES_MAX, CHUNKS_IN_FLIGHT_MAX, DETAIL_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// `count` chunks of the content with this hash, from a byte offset.
    Artifact {
        digest: Digest,
        offset: u32,
        count: u8,
    },
    /// The body of a desired set that was too long for its message.
    Body {
        digest: Digest,
        offset: u32,
        count: u8,
    },
    Lease {
        workload: WorkloadId,
        nonce: Nonce,
    },
    /// Links of the trust chain from this version on.
    Trust {
        from: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub session: Session,
    pub want: Want,
}

impl Body for Need {
    const KIND: Kind = Kind::Need;

    fn check(&self) -> Result<(), WireError> {
        match self.want {
            Want::Artifact { count, .. } | Want::Body { count, .. } if count > CHUNKS_IN_FLIGHT_MAX => {
                Err(WireError::TooLarge { limit: u32::from(CHUNKS_IN_FLIGHT_MAX) })
            }
            Want::Artifact { .. } | Want::Body { .. } | Want::Lease { .. } | Want::Trust { .. } => Ok(()),
        }
    }
}

/// Part of a content. Its truth is the hash of the whole, so a wrong chunk costs a retry and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk<'a> {
    pub content: DigestPrefix,
    pub offset: u32,
    pub bytes: &'a [u8],
}

impl Body for Chunk<'_> {
    const KIND: Kind = Kind::Chunk;

    fn check(&self) -> Result<(), WireError> {
        bounded(self.bytes, CHUNK_BYTES_MAX).map(|_| ())
    }
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Reboot,
    /// Make yourself known: blink, beep.
    Locate,
    /// Send again the log records from this sequence on.
    FetchLog {
        from: u32,
        records_max: u16,
    },
    /// One extra activation of a function.
    RunOnce {
        workload: WorkloadId,
        component: u8,
    },
}

/// Executed at most once; its id is persisted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    /// Not executed later than this after the last Fresh.
    pub not_after_s: u32,
    pub action: Action,
}

impl Body for Command {
    const KIND: Kind = Kind::Command;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandOutcome {
    Done,
    Failed,
    /// A reset came between the record and the end.
    Interrupted,
    Expired,
    NotSupported,
}

/// Sent on the status topic until the hub has acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult<'a> {
    pub session: Session,
    pub id: CommandId,
    pub outcome: CommandOutcome,
    pub detail: &'a str,
}

impl Body for CommandResult<'_> {
    const KIND: Kind = Kind::CommandResult;

    fn check(&self) -> Result<(), WireError> {
        bounded_text(self.detail, DETAIL_BYTES_MAX).map(|_| ())
    }
}
