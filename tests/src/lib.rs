//! What the tests share: the harness of system tests and the simulator.

pub mod harness;
pub mod sim;
pub mod store_load;
pub mod storm;
