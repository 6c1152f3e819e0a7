//! `fn new`: a complete project, with a copy of the SDK that is part of this program.
//!
//! So it builds with and without a checkout of Fulmar, and without a network. It must never write over anything.

use super::args::{Class, Language, New};
use super::destination::Destination;
use super::dev::INPUTS;
use super::invoke::MANIFEST;
use super::project::{FILE, name_is_good};
use crate::args::{Global, Output};
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::output::{line, print, say};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;

type Files = &'static [(&'static str, &'static str)];

macro_rules! of_functions {
    ($path:literal) => {
        include_str!(concat!("../../../functions/", $path))
    };
}

/// The guest SDK, file by file.
const SDK: Files = &[
    ("sdk/src/entries.rs", of_functions!("sdk/src/entries.rs")),
    ("sdk/src/hardware.rs", of_functions!("sdk/src/hardware.rs")),
    ("sdk/src/json.rs", of_functions!("sdk/src/json.rs")),
    ("sdk/src/lib.rs", of_functions!("sdk/src/lib.rs")),
    ("sdk/src/local.rs", of_functions!("sdk/src/local.rs")),
    ("sdk/src/number.rs", of_functions!("sdk/src/number.rs")),
    ("sdk/src/position.rs", of_functions!("sdk/src/position.rs")),
    ("sdk/src/state.rs", of_functions!("sdk/src/state.rs")),
    ("sdk/src/sys.rs", of_functions!("sdk/src/sys.rs")),
    ("sdk/src/sys_none.rs", of_functions!("sdk/src/sys_none.rs")),
    ("sdk/src/text.rs", of_functions!("sdk/src/text.rs")),
    ("sdk/Cargo.toml", of_functions!("template/rust/sdk.toml")),
];
const RUST: Files = &[
    ("Cargo.toml", of_functions!("template/rust/package.toml")),
    ("src/lib.rs", of_functions!("template/rust/lib.rs")),
];
const C: Files = &[("src/main.c", of_functions!("template/c/main.c")), ("fulmar.h", of_functions!("c/fulmar.h"))];
const COMMON: Files = &[
    (FILE, of_functions!("template/function.toml")),
    (MANIFEST, of_functions!("template/workload.yaml")),
    (INPUTS, of_functions!("template/inputs.txt")),
    ("README.md", of_functions!("template/README.md")),
    (".gitignore", "/target\n/*.wasm\n"),
];

const fn parts(language: Language) -> [Files; 3] {
    match language {
        Language::Rust => [COMMON, RUST, SDK],
        Language::C => [COMMON, C, &[]],
    }
}

fn filled(text: &str, name: &str, language: Language) -> String {
    let (sdk, compiler) = match language {
        Language::Rust => (
            "sdk/",
            "Rust with the target `wasm32-unknown-unknown` (`rustup target add wasm32-unknown-unknown`), or Debian's\n`rustc-web`, `cargo-web`, `rust-web-src` and `lld-19`.",
        ),
        Language::C => ("fulmar.h", "clang and wasm-ld: Debian's `clang-19` and `lld-19`."),
    };
    text.replace("NAME", name)
        .replace("LANGUAGE", language.name())
        .replace("`SDK`", &format!("`{sdk}`"))
        .replace("COMPILER", compiler)
}

/// A word of a template, and what stands there for a microcontroller: a small stack and small memory, and a device of that class.
const OF_MCU: [(&str, &str, &str); 3] = [
    (FILE, "stack-bytes = 2048", "stack-bytes = 1024"),
    (MANIFEST, "limits: {memory: 8KiB}", "limits: {memory: 4KiB}"),
    (MANIFEST, "  placement:\n", "  placement:\n    class: [mcu]\n"),
];

/// The text of a file for where the function is to run.
fn aimed(file: &str, text: String, destination: &Destination) -> String {
    let text = match destination.class {
        Class::Linux => text,
        Class::Mcu => OF_MCU
            .iter()
            .filter(|(of, ..)| *of == file)
            .fold(text, |text, (_, general, small)| text.replacen(general, small, 1)),
    };
    if file == FILE {
        format!(
            "{text}# What `fulmar fn build` reports for, and holds the function to.\ntarget = \"{}\"\n",
            destination.name
        )
    } else {
        text
    }
}

/// Writes all files into a directory that does not exist yet, or is empty.
fn write(
    directory: &Path,
    name: &str,
    language: Language,
    destination: Option<&Destination>,
) -> Result<Vec<&'static str>, Failure> {
    let cannot = |path: &Path| {
        let what = format!("cannot write {}", path.display());
        move |error: std::io::Error| system(what, &error)
    };
    let is_taken = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => directory.symlink_metadata().is_ok(),
    };
    if is_taken {
        return Err(Failure::new(Code::DirectoryExists, format!("{} is there already", directory.display()))
            .why("a new function needs a directory of its own, and nothing is written over")
            .next("fulmar fn new ANOTHER-NAME"));
    }
    let mut written = Vec::new();
    for (file, text) in parts(language).into_iter().flatten() {
        let path = directory.join(file);
        let folder = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(folder).map_err(cannot(folder))?;
        // The SDK and the header are copies; only what is the project's own has names to fill in.
        let text = if file.starts_with("sdk/") || *file == "fulmar.h" {
            (*text).to_owned()
        } else {
            let text = filled(text, name, language);
            match destination {
                Some(destination) => aimed(file, text, destination),
                None => text,
            }
        };
        let mut made = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(cannot(&path))?;
        made.write_all(text.as_bytes()).map_err(cannot(&path))?;
        written.push(*file);
    }
    written.sort_unstable();
    Ok(written)
}

pub fn run(global: &Global, args: &New) -> Result<(), Failure> {
    let New { name, lang, target } = args;
    if !name_is_good(name) {
        return Err(Failure::usage(format!("{name:?} cannot name a function"))
            .why("small letters, digits and -, beginning with a letter, at most 63, and not the SDK's own name")
            .next("fulmar fn new hello"));
    }
    let written = write(Path::new(name), name, *lang, target.as_ref())?;
    match global.output {
        Output::Json | Output::Yaml | Output::JsonPath(_) => {
            crate::output::whole(global.output, &json!({"name": name, "language": lang.name(), "files": written}))?;
        }
        Output::Name => line(name)?,
        Output::Table | Output::Wide | Output::GeoJson => {
            let files: String = written.iter().map(|file| format!("{name}/{file}\n")).collect();
            print(&files)?;
        }
    }
    say(&format!("Next:  cd {name} && fulmar fn dev"));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn the_whole_sdk_is_part_of_this_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions/sdk/src");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("sdk/src/{}", entry.unwrap().file_name().into_string().unwrap()))
            .collect();
        there.sort();
        let mut here: Vec<&str> = SDK.iter().map(|(file, _)| *file).filter(|file| file.ends_with(".rs")).collect();
        here.sort_unstable();
        assert_eq!(here, there);
    }

    #[test]
    fn a_new_project_has_its_name_everywhere_and_is_never_written_over() {
        for language in [Language::Rust, Language::C] {
            let folder = tempfile::tempdir().unwrap();
            let directory = folder.path().join("hot-house");
            let written = write(&directory, "hot-house", language, None).unwrap();
            for file in &written {
                let text = std::fs::read_to_string(directory.join(file)).unwrap();
                let is_filled = !["NAME", "LANGUAGE", "COMPILER"].iter().any(|mark| text.contains(mark));
                assert!(file.starts_with("sdk/") || *file == "fulmar.h" || is_filled, "{file}:\n{text}");
            }
            let project = super::super::project::Project::open(&directory).unwrap();
            assert_eq!((project.name.as_str(), project.language), ("hot-house", language));
            assert_eq!(write(&directory, "hot-house", language, None).unwrap_err().exit, Exit::Conflict);
        }
    }

    #[test]
    fn the_manifest_of_a_new_project_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let mcu = Destination::parse("mcu").unwrap();
        for (name, destination) in [("a", None), ("b", Some(&mcu))] {
            let directory = folder.path().join(name);
            write(&directory, name, Language::C, destination).unwrap();
            let files = crate::args::Files::of(&directory.join("workload.yaml"));
            assert_eq!(crate::manifest::read_judged(&files, "default").unwrap().len(), 1);
            let project = super::super::project::Project::open(&directory).unwrap();
            assert_eq!(
                (project.target.as_ref(), project.stack_bytes),
                (destination, if destination.is_some() { 1024 } else { 2048 })
            );
            let manifest = std::fs::read_to_string(directory.join(MANIFEST)).unwrap();
            assert_eq!(
                manifest.contains("class: [mcu]") && manifest.contains("4KiB"),
                destination.is_some(),
                "{manifest}"
            );
        }
    }
}
