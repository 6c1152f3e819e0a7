//! `fn check`: what the devices' own engine says of a module, for each class of devices.
//!
//! The limits are those of a class. A manifest may lower them, and then the device has the last word.

use super::args::{Check, Class};
use super::destination::{Destination, Report};
use super::project::{self, Project};
use crate::args::{Global, Output};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{line, print, whole};
use crate::show::bytes as size;
use crate::table::Table;
use agent_nostd::function::{Capabilities, LimitKind, Limits, LoadError, Module, ModuleInfo};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// Bytes of a file that are read: above every limit of a module, so that the engine says what is too much.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const ENTRIES: [&str; 4] = ["fulmar_start", "fulmar_event", "fulmar_timer", "fulmar_stop"];
/// Memory is granted in steps that people write.
const MEMORY_STEP_BYTES: u64 = 1024;

impl Class {
    pub const ALL: [Self; 2] = [Self::Linux, Self::Mcu];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Mcu => "mcu",
        }
    }

    /// All that a manifest can grant on some device of it.
    pub fn grantable(self) -> Capabilities {
        match self {
            Self::Linux => Capabilities::DEFAULT,
            Self::Mcu => {
                let pins = Capabilities::GPIO | Capabilities::ADC | Capabilities::I2C | Capabilities::PWM;
                Capabilities::DEFAULT | pins
            }
        }
    }

    pub const fn limits(self) -> Limits {
        match self {
            Self::Linux => Limits::LINUX,
            Self::Mcu => Limits::MCU,
        }
    }
}

/// What the engine says of a module.
#[derive(Debug)]
pub struct Facts {
    pub bytes: u64,
    /// `sha256:<hexadecimal>`.
    pub digest: String,
    pub verdicts: Vec<(Class, Result<ModuleInfo, LoadError>)>,
}

impl Facts {
    /// Of the first class that takes it.
    pub fn info(&self) -> Option<&ModuleInfo> {
        self.verdicts.iter().find_map(|(_, verdict)| verdict.as_ref().ok())
    }
}

pub fn facts(bytes: &[u8]) -> Facts {
    let mut digest = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(digest, "{byte:02x}");
    }
    let verdicts = Class::ALL.map(|class| (class, Module::check(bytes, &class.limits(), class.grantable())));
    Facts { bytes: bytes.len() as u64, digest, verdicts: verdicts.into() }
}

/// What to do about a refusal.
fn next(error: &LoadError) -> &'static str {
    match error {
        LoadError::TooLarge { .. } => "build it for size and strip it: fulmar fn build does; or --class linux",
        LoadError::Malformed { .. } => "build it again as a core module for wasm32: fulmar fn build",
        LoadError::UnsupportedFeature { .. } => {
            "build it without threads, SIMD, 64-bit memory, exceptions and tail calls"
        }
        LoadError::AbiVersion { .. } => "build it with the SDK of this version: fulmar fn new shows how",
        LoadError::UnknownImport { .. } | LoadError::ImportSignature { .. } => {
            "import from module fulmar what docs/functions.md lists, and nothing else (no WASI)"
        }
        LoadError::CapabilityMissing { .. } => {
            "grant it in the manifest: function.capabilities; pins and buses are those of boards"
        }
        LoadError::MemoryTooLarge { .. } => {
            "link it with a smaller stack (function.toml: stack-bytes) and smaller static data"
        }
        LoadError::TableTooLarge { .. } => "use fewer function pointers",
        LoadError::LimitExceeded { kind: LimitKind::CustomSectionBytes, .. } => {
            "strip names and debug data: fulmar fn build does"
        }
        LoadError::LimitExceeded { .. } | LoadError::EngineLimit => {
            "split or simplify the function, and build it for size"
        }
        LoadError::MissingExport { .. } => "export memory, and one of fulmar_start, fulmar_event, fulmar_timer",
        LoadError::ExportSignature { .. } => "entry points take and return nothing: extern \"C\" fn fulmar_timer()",
        LoadError::StartTrapped { .. } => "do at fulmar_start what the module's start function does",
        LoadError::OutOfMemory => "try again with more memory free on this machine",
    }
}

/// Fails unless every class of `classes` takes it; with none, one class is enough.
pub fn demand(path: &Path, facts: &Facts, classes: &[Class]) -> Result<(), Failure> {
    if classes.is_empty() && facts.info().is_some() {
        return Ok(());
    }
    // Without a demand nobody takes it: the largest class says why.
    let wanted = if classes.is_empty() { &[Class::Linux][..] } else { classes };
    let refused: Vec<(Class, &LoadError)> = facts
        .verdicts
        .iter()
        .filter(|(class, _)| wanted.contains(class))
        .filter_map(|(class, verdict)| verdict.as_ref().err().map(|error| (*class, error)))
        .collect();
    let Some((_, first)) = refused.first() else { return Ok(()) };
    let names: Vec<&str> = refused.iter().map(|(class, _)| class.name()).collect();
    let what = format!("{} does not run on {}", path.display(), names.join(", "));
    let mut failure = Failure::named(Exit::Usage, first.code(), what);
    for (class, error) in &refused {
        failure = failure.why(format!("{}: {error}", class.name()));
        if !failure.next.iter().any(|known| known == next(error)) {
            failure = failure.next(next(error));
        }
    }
    Err(failure)
}

fn names(info: &ModuleInfo) -> Vec<&'static str> {
    ENTRIES.iter().zip(info.entries).filter(|(_, there)| *there).map(|(name, _)| *name).collect()
}

/// What a manifest names of what the engine asks for; `log` is for lines to leave the device.
fn capabilities(info: &ModuleInfo) -> Vec<&'static str> {
    let known: Vec<&str> = hub::model::CAPABILITIES.iter().map(|(name, _)| *name).collect();
    std::iter::once("log").chain(info.needs.names().filter(|name| known.contains(name))).collect()
}

/// The least memory that a manifest may grant, as people write it.
fn memory(info: &ModuleInfo) -> String {
    let steps = u64::from(info.memory_bytes).div_ceil(MEMORY_STEP_BYTES).max(1);
    hub::model::Size(steps * MEMORY_STEP_BYTES).to_string()
}

pub fn text(path: &Path, facts: &Facts) -> String {
    let mut out = format!("{}   {} bytes   {}\n", path.display(), facts.bytes, facts.digest);
    if let Some(info) = facts.info() {
        let _ = writeln!(out, "  runs at        {}", names(info).join(", "));
        let _ = writeln!(out, "  memory         {} bytes at its start", info.memory_bytes);
        let _ = writeln!(
            out,
            "  code           {} bytes in {} functions, imports included",
            info.code_bytes, info.functions
        );
        let _ = writeln!(out, "  in a manifest  capabilities: [{}]", capabilities(info).join(", "));
        let _ = writeln!(out, "                 limits: {{memory: {}}}", memory(info));
    }
    out
}

pub fn json(path: &Path, facts: &Facts) -> Value {
    let classes: Vec<Value> = facts
        .verdicts
        .iter()
        .map(|(class, verdict)| match verdict {
            Ok(_) => json!({"class": class.name(), "runs": true}),
            Err(error) => {
                json!({"class": class.name(), "runs": false, "code": error.code(), "detail": error.to_string(), "next": next(error)})
            }
        })
        .collect();
    let mut document =
        json!({"file": path.display().to_string(), "bytes": facts.bytes, "digest": facts.digest, "classes": classes});
    if let (Some(map), Some(info)) = (document.as_object_mut(), facts.info()) {
        map.insert("entries".to_owned(), json!(names(info)));
        map.insert("memoryBytes".to_owned(), json!(info.memory_bytes));
        map.insert("codeBytes".to_owned(), json!(info.code_bytes));
        map.insert("functions".to_owned(), json!(info.functions));
        map.insert("capabilities".to_owned(), json!(capabilities(info)));
    }
    document
}

fn table(facts: &Facts) -> String {
    let mut table = Table::new(&["CLASS", "RUNS", "MODULE", "MEMORY", "WHY NOT"]);
    for (class, verdict) in &facts.verdicts {
        let limits = class.limits();
        let module = format!("{} of {}", size(facts.bytes), size(limits.module_bytes.into()));
        let most = size(limits.memory_bytes.into());
        let (runs, memory, why) = match verdict {
            Ok(info) => ("yes", format!("{} of {most}", size(info.memory_bytes.into())), String::new()),
            Err(error) => ("no", format!("at most {most}"), error.code().to_owned()),
        };
        table.row(vec![class.name().to_owned(), runs.to_owned(), module, memory, why]);
    }
    table.text()
}

/// A module of this machine.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let unreadable = |error: std::io::Error| {
        crate::manifest::file_failure(path, &error.to_string()).next("fulmar fn build makes the module of a function")
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// What it takes of one destination, for which the inputs of its project are played.
fn report(global: &Global, args: &Check, destination: &Destination) -> Result<(), Failure> {
    let (path, report) = match &args.file {
        Some(file) => (file.clone(), Report::of_module(file, destination, &global.namespace)?),
        None => {
            let project = Project::open(Path::new("."))?;
            (project.module(), Report::of_project(&project, destination, &global.namespace)?)
        }
    };
    if !whole(global.output, &report.json())? {
        match global.output {
            Output::Name => line(&path.display().to_string())?,
            _ => print(&report.text())?,
        }
    }
    report.demand(&path)
}

pub fn run(global: &Global, args: &Check) -> Result<(), Failure> {
    if let Some(destination) = &args.target {
        return report(global, args, destination);
    }
    let path = project::module(args.file.as_deref())?;
    let facts = facts(&read(&path)?);
    if !whole(global.output, &json(&path, &facts))? {
        match global.output {
            Output::Name => line(&facts.digest)?,
            _ => print(&format!("{}{}", text(&path, &facts), table(&facts)))?,
        }
    }
    demand(&path, &facts, &args.classes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HELLO: &[u8] = include_bytes!("../../../functions/hello/hello.wasm");

    #[test]
    fn a_sample_runs_everywhere_and_says_what_it_needs() {
        let facts = facts(HELLO);
        let path = Path::new("hello.wasm");
        assert_eq!(demand(path, &facts, &Class::ALL), Ok(()));
        let document = json(path, &facts);
        assert_eq!(document["entries"], json!(["fulmar_timer"]));
        assert_eq!(document["capabilities"], json!(["log", "state"]));
        assert!(text(path, &facts).contains("limits: {memory: 2KiB}"), "{}", text(path, &facts));
        assert!(table(&facts).contains("mcu     yes"), "{}", table(&facts));
    }

    #[test]
    fn a_refusal_says_what_why_and_next() {
        let broken = facts(b"\0asm\x01\0\0\0");
        let failure = demand(Path::new("a.wasm"), &broken, &[]).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "ABI_VERSION"));
        assert!(failure.why[0].contains("fulmar.abi") && failure.next[0].contains("SDK"), "{}", failure.text());
        let failure = demand(Path::new("a.wasm"), &facts(b"no module"), &[Class::Mcu]).unwrap_err();
        assert_eq!(&*failure.what, "a.wasm does not run on mcu");
    }

    #[test]
    fn what_is_too_large_for_one_class_may_run_on_another() {
        // A custom section of 40 KiB in front of everything.
        let mut large = HELLO.get(..8).unwrap().to_vec();
        large.extend([0, 0x80, 0xc0, 0x02, 1, b'x']);
        large.extend(vec![0; 40 * 1024 - 2]);
        large.extend(HELLO.get(8..).unwrap());
        let facts = facts(&large);
        let path = Path::new("large.wasm");
        assert_eq!(demand(path, &facts, &[]), Ok(()));
        assert_eq!(demand(path, &facts, &[Class::Mcu]).unwrap_err().code, "MODULE_TOO_LARGE");
        assert!(table(&facts).contains("MODULE_TOO_LARGE"));
    }
}
