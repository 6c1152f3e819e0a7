//! The live right to run exclusive work, and its return. Never retained: a retained one would start a second instance.
use crate::frame::{Body, Kind};
use crate::id::{Fence, Nonce, Session, WorkloadId};
use serde::{Deserialize, Serialize};

/// Answers a `Want::Lease`. The tag covers the session of the device, as that of an `Input` does; the device measures from when it
/// sent the nonce, and knows only nonces of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub nonce: Nonce,
    pub workload: WorkloadId,
    /// A renewal keeps its fence.
    pub fence: Fence,
    /// Of the lease; what the device makes of it is in `lease::hold_ms`.
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
