//! docs/reference/cli.md, generated from the command line itself and from the exit codes; a test fails when it is stale.
//! docs/reference/errors.md is in `errors`.

mod errors;

use crate::args::Cli;
use crate::exit::Exit;
use crate::target::aliases;
use clap::{Command, CommandFactory};
use hub::model::Kind;
use std::fmt::Write as _;

const HEAD: &str = "\
# The command line: `fulmar`

<!-- Generated from the program: UPDATE_GOLDEN=1 cargo test -p fulmar-cli --bin fulmar reference -->

Data goes to standard output, everything else to standard error. There is no colour where nobody sees it, nor with
`NO_COLOR`. With `-o json`, errors are JSON too, on standard error: `{\"error\": {\"code\", \"exitCode\", \"what\", \"why\",
\"next\", \"errors\", \"docs\"}}`. All codes are in [errors.md](errors.md); `fulmar explain error CODE` tells of one.

The hub is the first of: `--server` or `--data`; `--context`; `FULMAR_SERVER` or `FULMAR_DATA`; `FULMAR_CONTEXT`; the current
context; the hub on `./fulmar-data`; the one that was started last on this machine. `FULMAR_TOKEN` wins over the token of a context or
data directory. Contexts are in `$XDG_CONFIG_HOME/fulmar/config.toml` (else `~/.config`), which only its owner may read.
`FULMAR_LOG` (error, warn, info, debug, trace) says how much `up` and `hub` tell about themselves.
";

fn document() -> String {
    let mut out = HEAD.to_owned();
    out.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(out, "| {} | {} |", exit.code(), exit.meaning());
    }
    out.push_str("\n## Kinds\n\n`kind name` and `kind/name` mean the same.\n\n| kind | also |\n|---|---|\n");
    for kind in Kind::ALL {
        let others: Vec<String> = aliases(kind).iter().skip(1).map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "| `{}` | {} |", kind.singular(), others.join(", "));
    }
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut version = root.find_subcommand("version").cloned().unwrap_or_default().term_width(100);
    version = version.mut_args(|argument| argument.hide_env_values(true));
    let global = version.render_help().to_string();
    let global: Vec<&str> = global.split("Global options:").skip(1).flat_map(str::lines).map(str::trim_end).collect();
    let _ = write!(out, "\n## Options of every command\n\n```text\n{}\n```\n", global.join("\n").trim());
    out.push_str("\n## Commands\n");
    for command in root.get_subcommands() {
        describe(&mut out, command, "fulmar");
    }
    out
}

fn describe(out: &mut String, command: &Command, parent: &str) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            describe(out, inner, &name);
        }
        return;
    }
    // Environment variables of the machine that generates this have no place in it.
    let mut command = command.clone().term_width(100).mut_args(|argument| argument.hide_env_values(true));
    let help = command.render_help().to_string();
    let help = help.split("\nGlobal options:").next().unwrap_or_default();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(out, "\n### `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
}

#[test]
fn the_reference_is_what_the_program_says() {
    golden("cli.md", &document());
}

/// A file of docs/reference is as it would be written now; or it is written.
fn golden(name: &str, document: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        assert!(std::fs::write(&path, document).is_ok(), "{}", path.display());
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(stored, document, "stale: UPDATE_GOLDEN=1 cargo test -p fulmar-cli --bin fulmar reference");
}

#[test]
fn every_exit_code_is_documented_once() {
    let document = document();
    for exit in Exit::ALL {
        assert_eq!(document.matches(&format!("\n| {} |", exit.code())).count(), 1);
    }
}
