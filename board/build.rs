//! Puts every `boards/*/board.toml` into the library, so that `fulmar` knows its boards wherever it is installed.
use std::path::Path;

fn main() -> std::io::Result<()> {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards");
    // A new board is a new member there; watching the folder would build this anew with every change of firmware.
    println!("cargo:rerun-if-changed={}", boards.join("Cargo.toml").display());
    let mut files = Vec::new();
    // A copy of this crate without the firmware knows no boards.
    for entry in std::fs::read_dir(&boards).into_iter().flatten().flatten() {
        let file = entry.path().join("board.toml");
        if file.is_file() {
            println!("cargo:rerun-if-changed={}", file.display());
            files.push(file.canonicalize()?);
        }
    }
    files.sort();
    let list: String = files.iter().map(|file| format!("    include_str!({:?}),\n", file)).collect();
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("cargo sets OUT_DIR"))?;
    std::fs::write(Path::new(&out).join("known.rs"), format!("&[\n{list}]\n"))
}
