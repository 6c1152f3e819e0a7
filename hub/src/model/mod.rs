//! The objects of the API (`apiVersion: fulmar/v1`): what operators write, what is stored, what is shown.
//!
//! Reading a manifest collects every mistake with its JSON pointer and never ignores a field. Nothing here may know the
//! engine's state, do I/O or read a clock.

mod artifact;
mod away;
mod device;
mod field;
pub mod managed;
mod manifest;
mod metadata;
mod namespace;
mod partition;
mod partition_read;
mod placed;
mod placement;
mod placement_read;
mod quantity;
mod read;
mod region;
mod rollout;
mod schema;
mod selector;
#[cfg(test)]
mod tests;
mod token;
mod workload;
mod workload_read;

pub use artifact::{ARTIFACT_VERSIONS_MAX, ArtifactReference, ArtifactSpec, ArtifactVersion};
pub use away::{
    DeviceSnapshot, Queue, QueueAction, QueuedAction, SnapshotEntry, SnapshotPosition, WITHHELD_MAX, Withheld,
};
pub use device::{
    Capacity, DeviceManifest, DevicePosition, DeviceSpec, DeviceStatus, DeviceTaint, DeviceWorkload, FlashWear,
    LastReset, Online, OnlineState, RevisionStatus, Silence, read_relocation, read_taint_list,
};
pub use field::{FIELD_TERMS_MAX, FieldSelector, FieldSelectorError};
pub use manifest::{Manifest, ManifestSpec};
pub use metadata::{Condition, ConditionStatus, FieldError, Kind, Metadata, Object, ObjectKey};
pub use namespace::NamespaceSpec;
pub use partition::{
    ExclusiveSpec, GRACE_DEFAULT, OnExpire, OnReturn, OnStaleSpec, PartitionMode, PartitionSpec, Replace, StaleAction,
};
pub use partition_read::{GRACE_MS, LEASE_MS, STOP_AFTER_MS};
pub use placed::{PlacedSpec, PlacedStatus};
pub use placement::{
    AntiAffinity, AntiAffinityDomain, DevicesByLabel, LabelSelector, Near, NearestPer, OnShortfall, PlacementSpec,
    Spread, SpreadBy, TaintEffect, Toleration, TolerationOperator,
};
pub use quantity::{QuantityError, Size, Span, decimal};
pub use read::{ANNOTATION_BYTES_MAX, FIELD_ERRORS_MAX, LABELS_MAX, Refusal, nearest};
pub(crate) use read::{Reader, at as pointer_at};
pub use region::RegionSpec;
pub use rollout::{DeviceFirmware, Rollout, RolloutRequest, RolloutTarget, TargetState};
pub use selector::{Expression, Operator, Selector, SelectorError};
pub use token::{TokenManifest, TokenRole, TokenSpec, TokenStatus};
pub use workload::{
    ComponentSpec, ComponentType, ComponentView, Fulfilment, FunctionLimitsSpec, FunctionSpec, LeaseState, LeaseStatus,
    RetrySpec, Role, Shortfall, Triggers, Unconfirmed, WorkloadDevice, WorkloadSpec, WorkloadStatus, config_bytes,
};
pub use workload_read::CAPABILITIES;

/// The only version there is.
pub const API_VERSION: &str = "fulmar/v1";
/// Where an object without a namespace goes. There from the first start, and not to be deleted.
pub const NAMESPACE_DEFAULT: &str = "default";
