//! Namespaces: names that workloads and artifacts are kept in. Metadata alone; what a namespace allows is not built yet.

use super::read::{Reader, Shape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Nothing so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSpec {}

const SPEC: Shape = Shape { known: &[], not_built: &["quotas", "roles", "policies"] };

pub(super) fn read_namespace(reader: &mut Reader, pointer: &str, value: &Value) -> Option<NamespaceSpec> {
    reader.object(pointer, value, &SPEC).map(|_| NamespaceSpec {})
}
