pub mod broker;
pub mod geo;
pub mod mqtt;
