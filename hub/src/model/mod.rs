//! The objects of the API (`apiVersion: fulmar/v1`): what operators write, what is stored, what is shown.
//!
//! Reading a manifest collects every mistake with its JSON pointer and never ignores a field. Nothing here may know the
//! engine's state, do I/O or read a clock.

mod artifact;
mod device;
mod metadata;
mod quantity;
mod region;
mod selector;
mod workload;

pub use artifact::{ArtifactReference, ArtifactSpec, ArtifactVersion};
pub use device::{
    Capacity, DevicePosition, DeviceSpec, DeviceStatus, DeviceWorkload, Online, OnlineState, RevisionStatus,
};
pub use metadata::{Condition, ConditionStatus, FieldError, Kind, Metadata, Object, ObjectKey};
pub use quantity::{QuantityError, Size, Span};
pub use region::RegionSpec;
pub use selector::Selector;
pub use workload::{
    ComponentSpec, ComponentType, FunctionLimitsSpec, FunctionSpec, Near, PartitionPolicy, PlacementSpec, RetrySpec,
    Role, Shortfall, Triggers, Unconfirmed, WorkloadDevice, WorkloadSpec, WorkloadStatus,
};

/// The only version there is.
pub const API_VERSION: &str = "fulmar/v1";
/// Where an object without a namespace goes.
pub const NAMESPACE_DEFAULT: &str = "default";
