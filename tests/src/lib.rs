//! What the tests share: the harness of system tests and the simulator.

pub mod harness;
pub mod sim;
pub mod store_load;
pub mod storm;

/// What the hub counts as passed when a will comes is what devices ask the broker to wait.
const _: () = assert!(hub::engine::WILL_DELAY.as_millis() == agent_nostd::machine::port::WILL_DELAY.as_millis());
