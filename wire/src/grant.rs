//! The live right to run exclusive work, and its return. Never retained: a retained one would start a second instance.
use crate::frame::{Body, Kind};
use crate::id::{Fence, Nonce, Session, WorkloadId};
use serde::{Deserialize, Serialize};

/// Answers a `Need::Lease`. Device and boot are covered by the tag; the device measures from when it sent the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub nonce: Nonce,
    pub workload: WorkloadId,
    /// A renewal keeps its fence.
    pub fence: Fence,
    pub ms: u32,
}

impl Body for Grant {
    const KIND: Kind = Kind::Grant;
}

/// The work has stopped and may be granted elsewhere at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    pub session: Session,
    pub workload: WorkloadId,
    pub fence: Fence,
}

impl Body for Released {
    const KIND: Kind = Kind::Released;
}
