pub mod broker;
pub mod mqtt;
