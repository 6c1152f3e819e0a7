//! `fulmar fn`: functions from the first file to an artifact of the hub. One file for each verb.
//!
//! What a device would say of a module is asked of the device's own engine, never judged here.

mod args;
mod build;
mod check;
mod destination;
mod dev;
#[path = "../../../functions/fit/src/module.rs"]
mod fit;
mod invoke;
mod project;
mod push;
mod template;
mod tool;

pub use args::Function;
pub use destination::names as destinations;

use crate::args::Global;
use crate::failure::Failure;

pub fn run(global: &Global, verb: &Function) -> Result<(), Failure> {
    match verb {
        Function::New(args) => template::run(global, args),
        Function::Build(args) => build::run(global, args),
        Function::Check(args) => check::run(global, args),
        Function::Invoke(args) => invoke::run(global, args),
        Function::Dev(args) => dev::run(global, args),
        Function::Push(args) => push::run(global, args),
    }
}

impl Function {
    /// Everything else is done on this machine.
    pub const fn needs_hub(&self) -> bool {
        matches!(self, Self::Push(_))
    }
}
