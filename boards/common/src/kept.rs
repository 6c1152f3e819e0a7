//! The copy of the seed that survives a reset. The one file here that may be unsafe, for one line.
#![allow(unsafe_code)]

use agent_nostd::store::Retained;
use drivers::kept::Kept;

/// A link and its check, both plain bytes.
#[cfg_attr(target_os = "none", unsafe(link_section = ".uninit.seed"))]
// SAFETY: a `Retained` is bytes alone, and takes any content for a beginning.
pub static SEED: Kept<Retained> = unsafe { Kept::new() };
