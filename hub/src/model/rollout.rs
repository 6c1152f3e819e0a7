//! A rollout of firmware: which image, to which devices, in which waves, and how far it is.

use crate::wave::{Phase, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an operator asks for. Lengths of time are texts as everywhere: `10s`, `5m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutRequest {
    /// The image: `name@sha256:...` as its upload answered.
    pub artifact: String,
    /// The board that the image is for; refused if it says another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Labels that a device must have besides being such a board.
    #[serde(default)]
    pub selector: String,
    /// How many of the devices each wave reaches, counted from the first: `1`, `10%`. Unless given: 1, 10%, 100%.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<String>,
    /// With more devices that did not keep the image, nobody else gets it. Unless given: 0.
    #[serde(default)]
    pub max_failures: u32,
    /// A wave is right for so long before the next one begins. Unless given: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<String>,
    /// So long may an image run that does not reach the hub, before it confirms itself or is taken back. Unless given: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<String>,
}

/// Where one device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetState {
    /// Its wave has not begun.
    Waiting,
    /// The image was offered to it, or will be when it is back.
    Updating,
    /// It runs the image, or a later one.
    Updated,
    /// It does not keep the image.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTarget {
    pub device: String,
    pub state: TargetState,
    /// Of a failure: a code as in the device's own status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// All of a rollout. What is stored, and what is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub name: String,
    pub board: String,
    pub version: u32,
    /// `name@sha256:...`.
    pub artifact: String,
    pub bytes: u32,
    pub selector: String,
    pub waves: Vec<String>,
    pub max_failures: u32,
    pub soak_ms: u64,
    pub confirm_within_s: u16,
    pub created_by: String,
    /// RFC 3339.
    pub created: String,
    #[serde(flatten)]
    pub progress: Progress,
    /// In the order in which they are reached.
    pub targets: Vec<RolloutTarget>,
    /// The hub's signature over board, version, length and hash, in hexadecimal.
    pub signature: String,
}

impl Rollout {
    pub fn is_open(&self) -> bool {
        self.progress.phase.is_open()
    }

    pub fn phase(&self) -> Phase {
        self.progress.phase
    }
}

/// What a device says of its own firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceFirmware {
    pub board: String,
    pub version: u32,
    /// `Idle`, `Fetching`, `Installing`, `Trial`, `Done`, `Failed`.
    pub phase: String,
    /// The version that was offered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Why that does not run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Of the target that are there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done_bytes: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}
