//! What a device without files keeps: the journal and the artifacts, each on its own partition of a NOR flash.
//!
//! A cut of the power at any operation, a torn one included, leaves what was there before it or what it was to bring. A sector
//! that cannot be erased any more costs the ability to write, never the ability to boot. Must never say that something is
//! durable before the flash has given it back, allocate, or erase what is still needed.
pub mod artifact;
pub mod boot;
#[cfg(feature = "mcu")]
pub mod device;
pub mod flash;
pub mod journal;
pub mod limits;
pub mod slot;

pub use artifact::{Artifacts, Span};
pub use boot::{Retained, Seed};
#[cfg(feature = "mcu")]
pub use device::Flash;
pub use flash::{Partition, RamFlash};
pub use journal::{Journal, Key};
pub use slot::{Image, Slot};

#[cfg(test)]
pub(crate) mod tests;
