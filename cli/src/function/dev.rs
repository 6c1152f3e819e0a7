//! `fn dev`: build, check and play a function, and do so again whenever its files change.
//!
//! What goes wrong is said and the watch goes on: half a sentence of source is no reason to end. It must leave no process behind.

use super::args::Dev;
use super::build::{self, Watched};
use super::check::{self, Facts};
use super::invoke::{self, Setup};
use super::project::Project;
use crate::args::Global;
use crate::failure::{Failure, system};
use crate::output::{say, warn};
use crate::stop::{Order, Stop};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What `fn dev` plays.
pub const INPUTS: &str = "inputs.txt";
/// Between two looks at the files.
const POLL: Duration = Duration::from_millis(150);
/// What a person writes; everything else is made by tools.
const EXTENSIONS: [&str; 7] = ["rs", "c", "h", "toml", "yaml", "yml", "txt"];
/// Where compilers put what they make.
const TARGET: &str = "target";
const FILES_MAX: usize = 4096;
const FOLDERS_DEPTH_MAX: usize = 16;

/// Every file that counts, with what changes when it does.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

fn files(directory: &Path) -> Result<Files, Failure> {
    let mut found = Files::new();
    walk(directory, 0, &mut found)?;
    Ok(found)
}

fn walk(folder: &Path, depth: usize, found: &mut Files) -> Result<(), Failure> {
    let too_much = |what: &str| {
        Failure::usage(format!("{} is too much to watch", folder.display()))
            .why(what.to_owned())
            .next("watch the directory of one function")
    };
    if depth > FOLDERS_DEPTH_MAX {
        return Err(too_much(&format!("it is more than {FOLDERS_DEPTH_MAX} folders down")));
    }
    let unreadable = |error| system(format!("cannot read {}", folder.display()), &error);
    for entry in std::fs::read_dir(folder).map_err(unreadable)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // A link to a folder could lead back here.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if is_folder && name != TARGET {
            walk(&path, depth + 1, found)?;
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !is_folder && extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            // One that is gone again is not there.
            if let Ok(facts) = std::fs::metadata(&path) {
                found.insert(path, (facts.modified().ok(), facts.len()));
            }
        }
        if found.len() > FILES_MAX {
            return Err(too_much(&format!("it has more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// The first file in which two looks differ.
fn changed<'a>(before: &'a Files, after: &'a Files) -> Option<&'a Path> {
    let differs = |(path, facts): &(&PathBuf, _), other: &Files| other.get(*path) != Some(*facts);
    let came = after.iter().find(|entry| differs(entry, before));
    came.or_else(|| before.iter().find(|entry| differs(entry, after))).map(|(path, _)| path.as_path())
}

/// A source that is newer than the module that was built from it.
pub fn newer_source(directory: &Path, module: &Path) -> Option<PathBuf> {
    let built = std::fs::metadata(module).and_then(|facts| facts.modified()).ok()?;
    let is_source =
        |path: &Path| path.extension().is_some_and(|one| ["rs", "c", "h", "toml"].iter().any(|known| one == *known));
    let files = if directory.is_dir() { files(directory).ok()? } else { return None };
    files.into_iter().find(|(path, (at, _))| is_source(path) && at.is_some_and(|at| at > built)).map(|(path, _)| path)
}

fn classes(facts: &Facts) -> String {
    let runs = facts.verdicts.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(class, _)| class.name());
    runs.collect::<Vec<_>>().join(", ")
}

/// Once from the sources to the last line of the play.
fn once(global: &Global, args: &Dev, watched: Watched<'_>) -> Result<(), Failure> {
    let project = Project::open(&args.directory)?;
    say(&format!("building {} ...", project.name));
    let built = build::build(&project, watched)?;
    say(&format!("{} has {} bytes and runs on {}", built.path.display(), built.facts.bytes, classes(&built.facts)));
    check::demand(&built.path, &built.facts, &[args.place.class])?;
    let setup = Setup::of_project(&project, &args.place, &global.namespace)?;
    let script = project.directory.join(INPUTS);
    let script = script.exists().then_some(script);
    let has_left = || watched.is_some_and(|has_left| has_left());
    invoke::rehearse(&setup, script.as_deref(), global.output, &has_left)
}

/// Waits for a change that is over: editors write a file in several steps.
fn wait(directory: &Path, before: &Files, has_left: &dyn Fn(Duration) -> bool) -> Result<Option<PathBuf>, Failure> {
    let mut last = before.clone();
    let mut found = None;
    while !has_left(POLL) {
        let now = files(directory)?;
        match changed(&last, &now) {
            Some(path) => found = Some(path.to_owned()),
            // Quiet since the last look.
            None if found.is_some() => return Ok(found),
            None => {}
        }
        last = now;
    }
    Ok(None)
}

pub fn run(global: &Global, args: &Dev) -> Result<(), Failure> {
    invoke::judge(global.output)?;
    if !args.watch {
        return once(global, args, None);
    }
    let stop = Stop::listen()?;
    let asked = Cell::new(false);
    let has_left = |time: Duration| {
        asked.set(asked.get() || stop.wait(time) == Order::Stop);
        asked.get()
    };
    // A watch of nothing would wait for ever.
    Project::open(&args.directory)?;
    loop {
        let before = files(&args.directory)?;
        let failed = once(global, args, Some(&|| has_left(Duration::ZERO)));
        if has_left(Duration::ZERO) {
            return Ok(());
        }
        match failed {
            Err(failure) if failure.is_silent() => return Err(failure),
            Err(failure) => warn(failure.text().trim_end()),
            Ok(()) => {}
        }
        say("watching for changes; Ctrl-C ends");
        let Some(path) = wait(&args.directory, &before, &has_left)? else { return Ok(()) };
        say(&format!("\n{} has changed", path.display()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn what_people_write_is_watched_and_what_tools_make_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        for name in ["src/main.c", "fulmar.h", "function.toml", "workload.yaml", "inputs.txt", "sdk/src/lib.rs"] {
            write(here, name, "a");
            let before = files(here).unwrap();
            assert_eq!(changed(&before, &before), None);
            write(here, name, "more");
            assert_eq!(changed(&before, &files(here).unwrap()), Some(here.join(name).as_path()), "{name}");
            std::fs::remove_file(here.join(name)).unwrap();
            assert_eq!(changed(&before, &files(here).unwrap()), Some(here.join(name).as_path()), "{name} is gone");
        }
        let before = files(here).unwrap();
        for name in ["target/a.c", "a.wasm", "Cargo.lock", ".git/config.toml", "src/.main.c.swp", "src/main.c~"] {
            write(here, name, "a");
        }
        std::os::unix::fs::symlink(here, here.join("again")).unwrap();
        assert_eq!(files(here).unwrap(), before);
    }

    #[test]
    fn a_module_that_is_older_than_its_source_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        write(here, "src/main.c", "a");
        write(here, "a.wasm", "b");
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let date = |name: &str, seconds: u64| {
            std::fs::File::options().write(true).open(here.join(name)).unwrap().set_modified(at(seconds)).unwrap();
        };
        write(here, "inputs.txt", "later, and no source");
        date("src/main.c", 1000);
        date("a.wasm", 1000);
        assert_eq!(newer_source(here, &here.join("a.wasm")), None);
        date("src/main.c", 1001);
        assert_eq!(newer_source(here, &here.join("a.wasm")), Some(here.join("src/main.c")));
        assert_eq!(newer_source(&here.join("a.wasm"), &here.join("a.wasm")), None, "a module alone has no sources");
        assert_eq!(newer_source(here, &here.join("b.wasm")), None, "nothing was built yet");
    }

    #[test]
    fn a_directory_with_too_many_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..FILES_MAX {
            write(folder.path(), &format!("{number}.c"), "");
        }
        assert_eq!(files(folder.path()).unwrap().len(), FILES_MAX);
        write(folder.path(), "one-more.c", "");
        assert!(files(folder.path()).unwrap_err().text().contains("more than 4096 files"));
        let folder = tempfile::tempdir().unwrap();
        let deep = |depth: usize| folder.path().join("d/".repeat(depth));
        std::fs::create_dir_all(deep(FOLDERS_DEPTH_MAX)).unwrap();
        assert_eq!(files(folder.path()), Ok(Files::new()));
        std::fs::create_dir_all(deep(FOLDERS_DEPTH_MAX + 1)).unwrap();
        assert!(files(folder.path()).unwrap_err().text().contains("more than 16 folders down"));
    }
}
