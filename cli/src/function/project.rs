//! The directory of a function: what `function.toml` says about it, and where its module is.

use super::args::Language;
use super::destination::Destination;
use crate::code::Code;
use crate::failure::Failure;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The file that makes a directory a function.
pub const FILE: &str = "function.toml";
/// Bytes of a file that names a module and its stack.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of the largest stack: what the largest memory of a function has room for.
const STACK_BYTES_MAX: u32 = 1024 * 1024;
const NAME_BYTES_MAX: usize = 63;
/// The SDK's own.
const NAME_TAKEN: &str = "fulmar-function";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stated {
    name: String,
    language: String,
    stack_bytes: u32,
    target: Option<String>,
}

/// A function's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub directory: PathBuf,
    pub name: String,
    pub language: Language,
    pub stack_bytes: u32,
    /// Where it is to run, if that was said.
    pub target: Option<Destination>,
}

/// Whether this can name a function, an artifact and a Rust package alike.
pub fn name_is_good(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name != NAME_TAKEN
}

fn parse(text: &str) -> Result<(String, Language, u32, Option<Destination>), String> {
    let Stated { name, language, stack_bytes, target } = toml::from_str(text).map_err(|error| error.to_string())?;
    if !name_is_good(&name) {
        return Err(format!("name = {name:?}: a name has small letters, digits and -, and begins with a letter"));
    }
    let languages = [Language::Rust, Language::C];
    let language = languages
        .into_iter()
        .find(|known| known.name() == language)
        .ok_or_else(|| format!("language = {language:?}: one of rust, c"))?;
    if stack_bytes == 0 || !stack_bytes.is_multiple_of(16) || stack_bytes > STACK_BYTES_MAX {
        return Err(format!("stack-bytes = {stack_bytes}: a multiple of 16, at most {STACK_BYTES_MAX}"));
    }
    let target = target.map(|target| Destination::parse(&target).map_err(|why| format!("target = {target:?}: {why}")));
    Ok((name, language, stack_bytes, target.transpose()?))
}

impl Project {
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(FILE);
        let none = |error: std::io::Error| {
            Failure::new(Code::NoFunction, format!("{} is not a function", directory.display()))
                .why(format!("{}: {error}", path.display()))
                .next("fulmar fn new NAME, then work in the directory NAME")
        };
        let length = std::fs::metadata(&path).map_err(none)?.len();
        if length > FILE_BYTES_MAX {
            return Err(crate::manifest::file_failure(&path, &format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(none)?;
        let (name, language, stack_bytes, target) = parse(&text).map_err(|why| {
            Failure::new(Code::Function, format!("{} is not valid", path.display()))
                .why(why.trim_end())
                .next("name = \"hello\", language = \"rust\" or \"c\", stack-bytes = 2048")
        })?;
        Ok(Self { directory: directory.to_owned(), name, language, stack_bytes, target })
    }

    pub fn module(&self) -> PathBuf {
        self.directory.join(format!("{}.wasm", self.name))
    }
}

/// The module that was named, or the one of the function in this directory.
pub fn module(file: Option<&Path>) -> Result<PathBuf, Failure> {
    match file {
        Some(file) => Ok(file.to_owned()),
        None => Ok(Project::open(Path::new("."))?.module()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_function_says_name_language_and_stack_and_nothing_else() {
        let good = "name = \"a-1\"\nlanguage = \"c\"\nstack-bytes = 2048\n";
        assert_eq!(parse(good), Ok(("a-1".to_owned(), Language::C, 2048, None)));
        let (.., target) = parse(&format!("{good}target = \"mcu\"\n")).unwrap();
        assert_eq!(target.unwrap().name, "mcu");
        assert!(parse(&format!("{good}target = \"moon\"\n")).unwrap_err().contains("there is no target"));
        for (wrong, right, why) in [
            ("a-1", "A", "small letters"),
            ("a-1", "fulmar-function", "small letters"),
            ("\"c\"", "\"go\"", "one of rust, c"),
            ("2048", "2047", "multiple of 16"),
            ("2048", "0", "multiple of 16"),
            ("stack-bytes", "stack", "unknown field"),
        ] {
            let error = parse(&good.replace(wrong, right)).unwrap_err();
            assert!(error.contains(why), "{right}: {error}");
        }
    }

    #[test]
    fn a_directory_without_a_function_says_how_to_begin_one() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Project::open(folder.path()).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "NO_FUNCTION"));
        assert!(failure.next[0].contains("fulmar fn new"));
    }
}
