//! Clocks of boards without a vendor's library, under embassy's interface: microseconds since boot. They never go back.

pub mod clint;
pub mod cmsdk;
pub mod counter;
pub mod gptm;
pub mod systick;
