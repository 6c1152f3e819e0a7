//! Gives a linked module exactly the memory that it needs, in pages of one byte: `fit in.wasm out.wasm`.
//!
//! Older linkers, Debian's among them, know pages of 64 KiB only, which is more than a microcontroller has. Where the
//! program's memory ends stands in the exported global `__heap_base`; this writes it into the memory's type and takes the
//! linker's own exports out. It must never change code or data, so the result is as good as one of a newer linker.
//!
//! Formats: WebAssembly core specification, binary format; custom-page-sizes proposal.

mod module;

use std::process::ExitCode;

fn run() -> Result<(), String> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = paths.as_slice() else {
        return Err("usage: fit in.wasm out.wasm".into());
    };
    let bytes = std::fs::read(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
    let fitted = module::fit(&bytes).map_err(|why| format!("{}: {why}", from.display()))?;
    std::fs::write(to, fitted).map_err(|error| format!("cannot write {}: {error}", to.display()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fit: {why}");
            ExitCode::FAILURE
        }
    }
}
