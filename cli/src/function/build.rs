//! `fn build`: from a function's directory to its module, the same bytes everywhere with the same compiler.
//!
//! No path and no flag of this machine gets into the module. The module of a build that failed is never put in place.

use super::args;
use super::check::{self, Facts};
use super::destination::Report;
use super::fit;
use super::project::Project;
use super::tool::{TARGET, Tools};
use crate::args::{Global, Output};
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::output::{line, print, say, whole};
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const SOURCES_MAX: usize = 256;
const COMPILER_POLL: Duration = Duration::from_millis(20);
const C_FLAGS: [&str; 7] =
    ["--target=wasm32", "-std=c11", "-Oz", "-ffreestanding", "-mbulk-memory", "-Wall", "-Wextra"];

/// A module that was built and would run on some device.
#[derive(Debug)]
pub struct Built {
    pub path: PathBuf,
    pub facts: Facts,
    pub tools: String,
}

fn broken(what: &str) -> Failure {
    Failure::new(Code::Build, what)
        .why("the compiler said why, above")
        .next("correct the source, then: fulmar fn build")
}

/// Asked while a compiler runs; true: nobody waits for it any more, and it is ended with all that it started.
pub type Watched<'a> = Option<&'a dyn Fn() -> bool>;

/// Runs a compiler, whose words go to standard error.
fn compile(mut command: Command, what: &str, watched: Watched<'_>) -> Result<(), Failure> {
    // Data of ours alone goes to standard output.
    command.stdin(std::process::Stdio::null()).stdout(std::io::stderr());
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |error: std::io::Error| system(format!("cannot run {program}"), &error);
    let status = match watched {
        // Ctrl-C of the terminal reaches it as it reaches this program.
        None => command.status().map_err(cannot)?,
        Some(has_left) => {
            let mut compiler = command.process_group(0).spawn().map_err(cannot)?;
            loop {
                if let Some(status) = compiler.try_wait().map_err(cannot)? {
                    break status;
                }
                if has_left() {
                    end(&mut compiler);
                    return Err(Failure::new(Code::Stopped, "nobody waits for the compiler any more"));
                }
                std::thread::sleep(COMPILER_POLL);
            }
        }
    };
    if status.success() { Ok(()) } else { Err(broken(what)) }
}

/// Ends a compiler and the processes of its group.
fn end(compiler: &mut Child) {
    if let Ok(id) = i32::try_from(compiler.id())
        && let Some(group) = rustix::process::Pid::from_raw(id)
    {
        // Gone already is just as good.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = compiler.wait();
}

/// Paths of this machine, which have no place in a module.
fn remaps(directory: &Path) -> Vec<String> {
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let mut pairs = vec![(directory.to_owned(), ".")];
    pairs.extend(cargo.map(|cargo| (cargo, "cargo")));
    pairs.into_iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())).collect()
}

fn rust(project: &Project, directory: &Path, tools: &Tools, watched: Watched<'_>) -> Result<PathBuf, Failure> {
    let target = directory.join("target");
    let mut command = tools.cargo(directory, &remaps(directory));
    command.args(["rustc", "--release", "--quiet", "--target", TARGET, "--target-dir"]).arg(&target);
    if matches!(tools, Tools::DebianRust { .. }) {
        command.arg("-Zbuild-std=core,alloc");
    }
    let stack = format!("-Clink-arg=-zstack-size={}", project.stack_bytes);
    command.args(["--", &stack, "-Clink-arg=--stack-first", "-Clink-arg=--export=__heap_base"]);
    compile(command, "cargo could not build the function", watched)?;
    Ok(target.join(TARGET).join("release/function.wasm"))
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = directory.join("src");
    let entries =
        std::fs::read_dir(&folder).map_err(|error| system(format!("cannot read {}", folder.display()), &error))?;
    let is_c = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let mut sources: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_c).take(SOURCES_MAX).collect();
    // What the linker sees first must not depend on the file system.
    sources.sort();
    if sources.is_empty() {
        return Err(Failure::usage(format!("{} has no source", folder.display())).why("files that end in .c are built"));
    }
    Ok(sources)
}

fn c(
    project: &Project,
    directory: &Path,
    clang: &Path,
    linker: &Path,
    watched: Watched<'_>,
) -> Result<PathBuf, Failure> {
    let target = directory.join("target");
    std::fs::create_dir_all(&target).map_err(|error| system(format!("cannot write {}", target.display()), &error))?;
    let mut objects = Vec::new();
    for source in sources(directory)? {
        let object = target.join(source.with_extension("o").file_name().unwrap_or_default());
        let mut command = Command::new(clang);
        command.current_dir(directory).args(C_FLAGS).arg(format!("-ffile-prefix-map={}=.", directory.display()));
        command.arg("-c").arg(&source).arg("-o").arg(&object);
        compile(command, "clang could not build the function", watched)?;
        objects.push(object);
    }
    let module = target.join("function.wasm");
    let mut command = Command::new(linker);
    let stack = format!("stack-size={}", project.stack_bytes);
    command.args(["--no-entry", "--strip-all", "--gc-sections", "-z", &stack, "--stack-first", "--export=__heap_base"]);
    command.args(&objects).arg("-o").arg(&module);
    compile(command, "the linker could not build the function", watched)?;
    Ok(module)
}

/// Builds, gives the module its memory, asks the engine, and puts it in place.
pub fn build(project: &Project, watched: Watched<'_>) -> Result<Built, Failure> {
    let directory =
        std::path::absolute(&project.directory).map_err(|error| system("cannot find the directory", &error))?;
    let tools = Tools::find(project.language, &directory)?;
    let linked = match &tools {
        Tools::Rust | Tools::DebianRust { .. } => rust(project, &directory, &tools, watched)?,
        Tools::C { clang, linker } => c(project, &directory, clang, linker, watched)?,
    };
    let unreadable = |error: std::io::Error| {
        system(format!("cannot read {}", linked.display()), &error)
            .next("in Cargo.toml: [lib] name = \"function\", crate-type = [\"cdylib\"]")
    };
    let bytes = std::fs::read(&linked).map_err(unreadable)?;
    let bytes = fit::fit(&bytes).map_err(|why| broken("what the linker made is not understood").why(why))?;
    let path = project.module();
    let facts = check::facts(&bytes);
    check::demand(&path, &facts, &[])?;
    // Whole or not at all: whoever applies the manifest meanwhile must not get half a module.
    let aside = path.with_extension("wasm.new");
    let unwritable = |error: std::io::Error| system(format!("cannot write {}", path.display()), &error);
    std::fs::write(&aside, &bytes).map_err(unwritable)?;
    std::fs::rename(&aside, &path).map_err(unwritable)?;
    let tools = tools.text(&directory);
    Ok(Built { path, facts, tools })
}

pub fn run(global: &Global, args: &args::Build) -> Result<(), Failure> {
    let project = Project::open(&args.directory)?;
    say(&format!("building {} ...", project.name));
    let built = build(&project, None)?;
    let destination = args.target.as_ref().or(project.target.as_ref());
    let report = destination.map(|to| Report::of_project(&project, to, &global.namespace)).transpose()?;
    let mut document = check::json(&built.path, &built.facts);
    if let Some(map) = document.as_object_mut() {
        map.insert("builtBy".to_owned(), json!(built.tools));
        if let Some(report) = &report {
            map.insert("report".to_owned(), report.json());
        }
    }
    if !whole(global.output, &document)? {
        match global.output {
            Output::Name => line(&built.path.display().to_string())?,
            _ => {
                print(&format!("{}  built by       {}\n", check::text(&built.path, &built.facts), built.tools))?;
                if let Some(report) = &report {
                    print(&format!("\n{}", report.text()))?;
                }
            }
        }
    }
    if let Some(report) = &report {
        report.demand(&built.path)?;
    }
    say("Next:  fulmar fn invoke, fulmar fn push, or fulmar apply -f workload.yaml");
    Ok(())
}
