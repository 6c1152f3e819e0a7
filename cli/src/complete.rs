//! Completion of names from the hub while somebody types. Quick or not at all: a shell that waits is worse than no help.
//!
//! It never writes a message: the shell shows its output between the words of the line.

use crate::args::{Cli, Global};
use crate::client::Client;
use crate::list;
use crate::output;
use crate::show::text;
use crate::target::{aliases, collection, parse_kind};
use clap::{CommandFactory, ValueEnum};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use hub::model::Kind;
use std::ffi::OsStr;
use std::time::Duration;

/// For everything that is asked of the hub.
const PATIENCE: Duration = Duration::from_millis(400);
/// Names that are offered.
const NAMES_MAX: usize = 200;
const VARIABLE: &str = "COMPLETE";

/// Answers the shell's question if this is one, and ends the process then.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The script with which a shell asks this program.
pub fn script(shell: Shell) -> String {
    let name = shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(&name) {
        // Writing to memory cannot fail.
        let _ = completer.write_registration(VARIABLE, "fulmar", "fulmar", "fulmar", &mut script);
    }
    String::from_utf8_lossy(&script).into_owned()
}

/// The words of the line that is completed, without the program.
fn words() -> Vec<String> {
    let all = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    all.skip_while(|word| word != "--").skip(2).collect()
}

/// The options that say which hub, as far as they are typed.
fn global(words: &[String]) -> Option<Global> {
    let mut picked = vec!["fulmar".to_owned(), "status".to_owned()];
    let options = ["--server", "--data", "--context", "--namespace", "-n"];
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let is_whole = options.iter().any(|option| word.starts_with(&format!("{option}=")));
        if options.contains(&word.as_str()) {
            picked.extend([Some(word), rest.peek().copied()].into_iter().flatten().cloned());
        } else if is_whole {
            picked.push(word.clone());
        }
    }
    let matches = Cli::command().try_get_matches_from(picked).ok()?;
    let mut cli = crate::settled(&matches)?;
    cli.global.timeout = Some(PATIENCE);
    Some(cli.global)
}

fn candidates(names: impl IntoIterator<Item = String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect()
}

/// Names of a kind that begin so.
fn names(kind: Kind, start: &str) -> Vec<String> {
    output::silence();
    let words = words();
    let Some(global) = global(&words) else { return Vec::new() };
    let Ok(client) = Client::connect(&global) else { return Vec::new() };
    let path = collection(kind, Some(&global.namespace));
    let namespace = if kind.is_namespaced() { global.namespace.as_str() } else { "" };
    // A hub of this version goes on behind any name: thousands of devices need not be read for the last few.
    let place = before(start).map(|before| format!("{namespace}/{before}"));
    let page = |after: Option<&str>| list::list(&client, &path, &Vec::new(), Some(NAMES_MAX), after);
    let listed = page(place.as_deref()).or_else(|_| page(None)).unwrap_or_default();
    let names = listed.items.iter().map(|item| text(item, "/metadata/name"));
    names.filter(|name| name.starts_with(start)).collect()
}

/// A text that sorts right before every name that begins with `start`; `None`: before all.
fn before(start: &str) -> Option<String> {
    let last = start.chars().last().filter(char::is_ascii_graphic)?;
    let previous = u32::from(last).checked_sub(1).and_then(char::from_u32)?;
    Some(format!("{}{previous}~", start.strip_suffix(last).unwrap_or_default()))
}

/// `get`, `describe`, `delete`, `edit`: kinds, then names, or both with a slash.
pub fn objects(current: &OsStr) -> Vec<CompletionCandidate> {
    let shown = current.to_string_lossy();
    if let Some((kind, start)) = shown.split_once('/') {
        let Ok(known) = parse_kind(kind) else { return Vec::new() };
        return candidates(names(known, start).into_iter().map(|name| format!("{kind}/{name}")), current);
    }
    let mut before = words();
    before.pop();
    match before.iter().skip(1).find_map(|word| parse_kind(word).ok()) {
        Some(kind) => candidates(names(kind, &shown), current),
        None => {
            let kinds = Kind::ALL.iter().flat_map(|kind| aliases(*kind).iter().take(2));
            candidates(kinds.copied().chain(["all", "events"]).map(str::to_owned), current)
        }
    }
}

/// A workload by its name, or with its kind.
pub fn workloads(current: &OsStr) -> Vec<CompletionCandidate> {
    match current.to_string_lossy().contains('/') {
        true => objects(current),
        false => candidates(names(Kind::Workload, &current.to_string_lossy()), current),
    }
}

pub fn devices(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(names(Kind::Device, &current.to_string_lossy()), current)
}

/// Boards that this version knows.
pub fn boards(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(board::known().unwrap_or_default().into_iter().map(|table| table.name), current)
}

/// What a function can be built for.
pub fn destinations(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(crate::function::destinations(), current)
}

/// Emulated boards of this machine.
pub fn emulated(current: &OsStr) -> Vec<CompletionCandidate> {
    output::silence();
    let Some(global) = global(&words()) else { return Vec::new() };
    candidates(crate::flash::emulator::all(&global.data).into_iter().map(|(facts, _)| facts.name), current)
}

pub fn regions(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(names(Kind::Region, &current.to_string_lossy()), current)
}

pub fn namespaces(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(names(Kind::Namespace, &current.to_string_lossy()), current)
}

pub fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    output::silence();
    let known = crate::config::load().map(|config| config.contexts).unwrap_or_default();
    candidates(known.into_keys().chain([crate::config::LOCAL.to_owned()]), current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_asks_this_program() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            assert!(script.contains("COMPLETE") && script.contains("fulmar"), "{shell}: {script}");
        }
    }

    #[test]
    fn a_list_can_begin_right_before_the_names_that_are_wanted() {
        for (start, name) in [("aq-", "aq-0"), ("gw", "gw"), ("a", "a-1")] {
            let place = before(start).unwrap_or_default();
            assert!(place.as_str() < name && place.as_str() < start, "{place}");
        }
        assert!(before("gw").unwrap_or_default().as_str() > "gvz");
        assert_eq!(before(""), None);
    }
}
