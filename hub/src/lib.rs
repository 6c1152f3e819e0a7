//! The control plane as a library: engine, scheduler, store, API, MQTT, broker. `Hub::start` wires them; nothing here speaks to
//! a terminal.

pub mod api;
pub mod broker;
pub mod commit;
pub mod device_reason;
pub mod engine;
pub mod geo;
pub mod grants;
pub mod handle;
pub mod hub;
pub mod keys;
pub mod metrics;
pub mod model;
pub mod mqtt;
pub mod problem_code;
pub mod provision;
pub mod scheduler;
pub mod store;
pub mod tls;
pub mod wave;
