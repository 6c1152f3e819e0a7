pub mod broker;
pub mod commit;
pub mod engine;
pub mod geo;
pub mod handle;
pub mod model;
pub mod mqtt;
pub mod scheduler;
