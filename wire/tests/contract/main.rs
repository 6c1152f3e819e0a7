//! The promises of the wire, shown from outside the crate: bytes, limits, refusals, sizes, cryptography, and their document.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#[path = "../common/corpus.rs"]
mod corpus;
#[path = "../common/families.rs"]
mod families;

mod cryptography;
mod golden;
mod hostile;
mod limits;
mod line;
mod mutation;
mod numbers;
mod provision;
mod reference;
mod round_trip;
mod sizes;

/// True when the run is to rewrite what is pinned instead of comparing with it.
fn updates() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

fn crate_dir() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a text file with what it should say, or rewrites it; the difference is shown line by line.
fn pinned(path: &std::path::Path, expected: &str) -> Result<(), String> {
    if updates() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
        return Ok(());
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let mut report = format!("{} does not say what the code does (UPDATE_GOLDEN=1 rewrites it):\n", path.display());
    let (old, new): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    for at in 0..old.len().max(new.len()) {
        let (old, new) = (old.get(at).copied(), new.get(at).copied());
        if old != new {
            report.push_str(&format!(
                "line {}\n  - {}\n  + {}\n",
                at + 1,
                old.unwrap_or("(end)"),
                new.unwrap_or("(end)")
            ));
        }
    }
    Err(report)
}
