//! The compilers of this machine that can build a function, and what they call themselves.
//!
//! Nothing is installed here: what is missing is said, with the command that installs it.

use super::args::Language;
use crate::code::Code;
use crate::failure::Failure;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const TARGET: &str = "wasm32-unknown-unknown";
/// Newest first: the committed samples are built with these of Debian.
const CLANGS: [&str; 2] = ["clang-19", "clang"];
const LINKERS: [&str; 2] = ["wasm-ld-19", "wasm-ld"];
const DEBIAN: &str = "/usr/bin";

/// What builds a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tools {
    /// The Rust of the path, which has the target.
    Rust,
    /// Debian's Rust, which has the sources of the target's library.
    DebianRust {
        linker: PathBuf,
    },
    C {
        clang: PathBuf,
        linker: PathBuf,
    },
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
}

/// What a program answers, in `directory`, where rustup may choose another compiler than elsewhere.
fn answer(program: &Path, arguments: &[&str], directory: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(directory).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn sysroot(rustc: &Path, directory: &Path) -> Option<PathBuf> {
    answer(rustc, &["--print", "sysroot"], directory).map(PathBuf::from)
}

fn rust(directory: &Path) -> Option<Tools> {
    let has_target = |root: PathBuf| root.join("lib/rustlib").join(TARGET).join("lib").is_dir();
    if sysroot(Path::new("rustc"), directory).is_some_and(has_target) {
        return Some(Tools::Rust);
    }
    let debian = Path::new(DEBIAN);
    let has_sources = |root: PathBuf| root.join("lib/rustlib/src/rust/library/core").is_dir();
    let linker = on_path(&LINKERS)?;
    let is_there = debian.join("cargo").is_file() && sysroot(&debian.join("rustc"), debian).is_some_and(has_sources);
    is_there.then_some(Tools::DebianRust { linker })
}

impl Tools {
    pub fn find(language: Language, directory: &Path) -> Result<Self, Failure> {
        let missing = |why: &str, next: [&str; 2]| {
            Failure::new(Code::NoCompiler, format!("no compiler for {} to wasm32 is here", language.name()))
                .why(why)
                .next(next[0])
                .next(next[1])
        };
        match language {
            Language::Rust => rust(directory).ok_or_else(|| {
                missing(
                    "rustc on PATH does not have the target wasm32-unknown-unknown, nor is there Debian's with its sources and wasm-ld",
                    ["rustup target add wasm32-unknown-unknown", "or: sudo apt-get install rustc-web cargo-web rust-web-src lld-19"],
                )
            }),
            Language::C => match (on_path(&CLANGS), on_path(&LINKERS)) {
                (Some(clang), Some(linker)) => Ok(Self::C { clang, linker }),
                (None, _) | (_, None) => Err(missing(
                    "clang and wasm-ld are needed, and at least one of them is not on PATH",
                    ["sudo apt-get install clang-19 lld-19", "or: clang and lld of another system"],
                )),
            },
        }
    }

    /// What a module was built by, to tell whether another machine can build the same bytes.
    pub fn text(&self, directory: &Path) -> String {
        let first = |program: &Path| {
            let answer = answer(program, &["--version"], directory).unwrap_or_default();
            let line = answer.lines().next().unwrap_or("unknown version").to_owned();
            line.split(" (compatible").next().unwrap_or_default().to_owned()
        };
        match self {
            Self::Rust => first(Path::new("rustc")),
            Self::DebianRust { linker } => format!("{}, {}", first(&Path::new(DEBIAN).join("rustc")), first(linker)),
            Self::C { clang, linker } => format!("{}, {}", first(clang), first(linker)),
        }
    }

    /// `cargo`, with the compiler that was found and nothing of the caller's flags.
    pub fn cargo(&self, directory: &Path, flags: &[String]) -> Command {
        let mut command = match self {
            Self::DebianRust { linker } => {
                let debian = Path::new(DEBIAN);
                let mut command = Command::new(debian.join("cargo"));
                let path = std::env::var_os("PATH").unwrap_or_default();
                let folders = std::iter::once(debian.to_owned()).chain(std::env::split_paths(&path));
                command
                    .env("PATH", std::env::join_paths(folders).unwrap_or(path))
                    .env("RUSTC", debian.join("rustc"))
                    // Debian has the library of this target as sources only.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command
            }
            Self::Rust | Self::C { .. } => Command::new("cargo"),
        };
        command.current_dir(directory).env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        command
    }
}
