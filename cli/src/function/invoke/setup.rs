//! What a function may do and when it runs, as its workload's manifest says it, or the defaults of a manifest for a module alone.
//!
//! The manifest is read by the hub's own reader, and what it grants is translated by the devices' own code.

use super::super::args::{Class, Place};
use super::super::project::Project;
use super::script::{Input, Line, mistake, refused};
use super::world::Terms;
use crate::args::Files;
use crate::artifact;
use crate::code::Code;
use crate::failure::Failure;
use crate::manifest::{self, Document};
use agent_nostd::function::{Capabilities, Grant, Limits};
use hub::model::{CAPABILITIES, FunctionSpec, Manifest, ManifestSpec, ObjectKey, Role, Size, config_bytes};
use hub::problem_code::ProblemCode;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::clause::FunctionLimits;
use wire::event::topic_matches;
use wire::id::Order;
use wire::record::CapabilitySet;

/// What says where a function runs.
pub const MANIFEST: &str = "workload.yaml";
/// Period of a timer that nobody has stated.
const EVERY_DEFAULT: Duration = Duration::from_secs(1);
/// Stands in for the digest of a module that is not uploaded.
const PLACEHOLDER: &str = "module@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// When it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Triggers {
    /// Nobody said: it ticks each second and hears everything.
    Any,
    Stated {
        every: Option<Duration>,
        topics: Vec<String>,
    },
}

/// All that a device would know of a function.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: String,
    pub module: PathBuf,
    pub class: Class,
    pub limits: Limits,
    pub granted: Capabilities,
    pub config: Vec<u8>,
    pub terms: Terms,
    pub triggers: Triggers,
    pub role: Role,
    /// Of a project, whose linker puts the stack first.
    pub stack_bytes: Option<u32>,
}

impl Setup {
    /// Of a directory, or of a module.
    pub fn of(subject: &Path, place: &Place, namespace: &str) -> Result<Self, Failure> {
        if subject.is_dir() {
            Self::of_project(&Project::open(subject)?, place, namespace)
        } else {
            Self::of_module(subject, place)
        }
    }

    pub fn of_project(project: &Project, place: &Place, namespace: &str) -> Result<Self, Failure> {
        let module = project.module();
        let path = project.directory.join(MANIFEST);
        let mut setup = if path.exists() {
            let (function, role) = stated(&path, &module, namespace)?;
            Self { role, ..Self::new(&module, place, &function, true)? }
        } else {
            Self::of_module(&module, place)?
        };
        setup.name.clone_from(&project.name);
        setup.stack_bytes = Some(project.stack_bytes);
        Ok(setup)
    }

    fn of_module(module: &Path, place: &Place) -> Result<Self, Failure> {
        let capabilities = CAPABILITIES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let function = FunctionSpec { capabilities, ..FunctionSpec::default() };
        Self::new(module, place, &function, false)
    }

    fn new(module: &Path, place: &Place, function: &FunctionSpec, is_stated: bool) -> Result<Self, Failure> {
        let stem = module.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let grant = grant(function)?;
        let limits = grant.limits(&place.class.limits());
        let triggers = if is_stated {
            let every = function.triggers.every.map(hub::model::Span::duration);
            Triggers::Stated { every, topics: function.triggers.topics.clone() }
        } else {
            Triggers::Any
        };
        Ok(Self {
            name: stem.unwrap_or_default(),
            module: module.to_owned(),
            class: place.class,
            limits: match place.class {
                Class::Linux => limits,
                Class::Mcu => lower(&limits, &Limits::MCU),
            },
            granted: grant.capabilities(),
            config: match &place.config {
                Some(text) => text.clone().into_bytes(),
                None => config_bytes(&function.config),
            },
            terms: Terms {
                fence: place.fence.map_or(0, Order::packed),
                unheard: place.unheard.unwrap_or_default(),
                is_degraded: place.degraded,
            },
            triggers,
            role: Role::Service,
            stack_bytes: None,
        })
    }

    /// Time from one tick to the next; none: it never ticks.
    pub fn every(&self) -> Option<Duration> {
        match &self.triggers {
            Triggers::Any => Some(EVERY_DEFAULT),
            Triggers::Stated { every, .. } => *every,
        }
    }

    /// Whether a device would deliver this to it.
    pub fn hears(&self, topic: &str) -> bool {
        match &self.triggers {
            Triggers::Any => true,
            Triggers::Stated { topics, .. } => topics.iter().any(|filter| topic_matches(filter, topic)),
        }
    }

    /// Refuses a script with what can never happen to this function.
    pub fn judge(&self, name: &str, lines: &[Line]) -> Result<(), Failure> {
        if self.every().is_some() {
            return Ok(());
        }
        let why = format!("it never ticks: {MANIFEST} has no function.triggers.every");
        let never = lines.iter().filter(|line| line.input == Input::Tick);
        let places: Vec<_> = never.map(|line| mistake(name, line.number, "tick", why.clone())).collect();
        if places.is_empty() { Ok(()) } else { Err(refused(places)) }
    }
}

/// A microcontroller has no more than its class, whatever a manifest would give it elsewhere.
fn lower(limits: &Limits, class: &Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes.min(class.memory_bytes),
        fuel_per_activation: limits.fuel_per_activation.min(class.fuel_per_activation),
        host_calls_per_activation: limits.host_calls_per_activation.min(class.host_calls_per_activation),
        log_bytes_per_activation: limits.log_bytes_per_activation.min(class.log_bytes_per_activation),
        emit_bytes_per_activation: limits.emit_bytes_per_activation.min(class.emit_bytes_per_activation),
        sample_bytes_per_activation: limits.sample_bytes_per_activation.min(class.sample_bytes_per_activation),
        state_bytes: limits.state_bytes.min(class.state_bytes),
        ..*limits
    }
}

fn grant(function: &FunctionSpec) -> Result<Grant, Failure> {
    let narrow = |size: Size| {
        u32::try_from(size.0).map_err(|_| Failure::usage(format!("{size} is more than a function can be given")))
    };
    let limits = &function.limits;
    let is_granted = |name: &&str| function.capabilities.iter().any(|granted| granted == name);
    let capabilities = CAPABILITIES
        .iter()
        .filter(|(name, _)| is_granted(name))
        .fold(CapabilitySet::default(), |set, (_, bit)| set.union(*bit));
    let quotas = FunctionLimits {
        host_calls: limits.host_calls,
        log_bytes: narrow(limits.log_bytes)?,
        emit_bytes: narrow(limits.emit_bytes)?,
        sample_bytes: narrow(limits.sample_bytes)?,
        state_bytes: narrow(limits.state_bytes)?,
    };
    Ok(Grant { memory_bytes: narrow(limits.memory)?, fuel: limits.fuel, quotas: Some(quotas), capabilities })
}

/// What the manifest says of the component that runs this module.
fn stated(path: &Path, module: &Path, namespace: &str) -> Result<(FunctionSpec, Role), Failure> {
    let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for mut document in manifest::read_judged(&Files::of(path), namespace)? {
        let pointers = artifact::file_pointers(&document);
        let files: Vec<(String, bool)> = pointers
            .into_iter()
            .map(|pointer| {
                let file = document.value.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
                let is_ours = artifact::path_of(file, &document.folder).is_some_and(|file| is_same(&file, module));
                (pointer, is_ours)
            })
            .collect();
        let Some(at) = files.iter().find(|(_, is_ours)| *is_ours).map(|(pointer, _)| pointer.clone()) else { continue };
        for (pointer, _) in &files {
            if let Some(value) = document.value.pointer_mut(pointer) {
                *value = Value::from(PLACEHOLDER);
            }
        }
        return function(&document, &at);
    }
    Err(Failure::new(Code::NoWorkload, format!("{} does not run {name}", path.display()))
        .why(format!("no workload in it has artifact: file:{name}"))
        .next(format!(
            "write artifact: file:{name} there, or run the module alone: fulmar fn invoke {}",
            module.display()
        )))
}

/// The same file, whether it is there or not.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        (_, _) => one == other,
    }
}

/// The function that the artifact at this pointer belongs to, and its role.
fn function(document: &Document, pointer: &str) -> Result<(FunctionSpec, Role), Failure> {
    let target = &document.target;
    let key = ObjectKey { kind: target.kind, namespace: target.namespace.clone(), name: target.name.clone() };
    let manifest = Manifest::read(&key, &document.value).map_err(|refusal| {
        let mut failure = Failure::hub(ProblemCode::Invalid, "the manifest is not valid");
        failure.places =
            refusal.errors.iter().map(|error| document.source.place(&error.pointer, &error.detail)).collect();
        failure
    })?;
    let number = pointer.split('/').nth(3).and_then(|step| step.parse::<usize>().ok()).unwrap_or(0);
    let function = match &manifest.spec {
        ManifestSpec::Workload(spec) => spec.views().get(number).map(|view| (view.function.clone(), view.role)),
        ManifestSpec::Namespace(_) | ManifestSpec::Region(_) | ManifestSpec::Device(_) | ManifestSpec::Token(_) => None,
    };
    function.ok_or_else(|| Failure::usage(format!("{} has no function at {pointer}", target.key())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    const TWO: &str = "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: pair}\nspec:\n  type: function\n  components:\n    - {name: other, artifact: \"file:other.wasm\"}\n    - name: mine\n      artifact: file:./mine.wasm\n      function:\n        triggers: {every: 250ms, topics: [a/#, b]}\n        config: {limit: 3}\n        capabilities: [emit]\n        limits: {memory: 8KiB, fuel: 7000, hostCalls: 12, stateBytes: 5B, logBytes: 6B, emitBytes: 7B, sampleBytes: 9B}\n  placement: {labels: {site: roof}}\n";

    fn place(class: Class) -> Place {
        Place { class, config: None, fence: None, unheard: None, degraded: false }
    }

    fn project(folder: &Path, name: &str) -> Project {
        std::fs::write(folder.join(MANIFEST), TWO).unwrap();
        let language = super::super::super::args::Language::C;
        Project { directory: folder.to_owned(), name: name.to_owned(), language, stack_bytes: 1024, target: None }
    }

    #[test]
    fn the_manifest_of_a_project_says_all_that_a_device_would_know() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.wasm"), "").unwrap();
        let project = project(folder.path(), "mine");
        let setup = Setup::of_project(&project, &place(Class::Linux), "default").unwrap();
        assert_eq!(setup.config, b"{\"limit\":3}");
        assert_eq!(setup.every(), Some(Duration::from_millis(250)));
        assert!(setup.hears("a/x") && setup.hears("b") && !setup.hears("b/x") && !setup.hears("c"));
        assert_eq!(setup.granted, Capabilities::EMIT | Capabilities::WALL_TIME);
        let limits = &setup.limits;
        assert_eq!((limits.memory_bytes, limits.fuel_per_activation), (8192, 7000));
        let quotas = (limits.host_calls_per_activation, limits.log_bytes_per_activation);
        assert_eq!((quotas, limits.emit_bytes_per_activation, limits.state_bytes), ((12, 6), 7, 5));
        assert_eq!(limits.sample_bytes_per_activation, 9);
        let own = Place { config: Some("x".to_owned()), ..place(Class::Linux) };
        assert_eq!(Setup::of_project(&project, &own, "default").unwrap().config, b"x");
    }

    #[test]
    fn a_manifest_that_runs_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path(), "third");
        let failure = Setup::of_project(&project, &place(Class::Linux), "default").unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "NO_WORKLOAD"));
        assert!(failure.next[0].contains("file:third.wasm"), "{}", failure.text());
    }

    #[test]
    fn a_module_alone_has_the_defaults_of_a_manifest_and_no_more_than_its_class() {
        let module = Path::new("some/counter.wasm");
        let linux = Setup::of(module, &place(Class::Linux), "default").unwrap();
        assert_eq!((linux.name.as_str(), linux.limits.memory_bytes), ("counter", 128 * 1024));
        assert!(linux.hears("anything") && linux.every() == Some(EVERY_DEFAULT));
        assert!(linux.granted.contains(Capabilities::EMIT | Capabilities::STATE | Capabilities::RANDOM));
        let mcu = Setup::of(module, &place(Class::Mcu), "default").unwrap();
        assert_eq!((mcu.limits.memory_bytes, mcu.limits.fuel_per_activation), (16 * 1024, 500_000));
        assert_eq!(mcu.limits.state_bytes, 1024);
    }

    #[test]
    fn a_tick_that_can_never_come_is_a_mistake_of_the_script() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.wasm"), "").unwrap();
        let mut setup = Setup::of_project(&project(folder.path(), "mine"), &place(Class::Linux), "default").unwrap();
        let lines = [Line { number: 4, input: Input::Tick }];
        assert_eq!(setup.judge("inputs.txt", &lines), Ok(()));
        setup.triggers = Triggers::Stated { every: None, topics: Vec::new() };
        let failure = setup.judge("inputs.txt", &lines).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.text().contains("inputs.txt:4:1  it never ticks"), "{}", failure.text());
    }
}
