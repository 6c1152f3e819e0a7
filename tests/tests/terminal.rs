//! What a person at a terminal sees, and what a pipe gets instead. The terminals are real ones, made by `script`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use tests::harness::site::{Done, Site, agents, finish};

const ESCAPE: char = '\u{1b}';

/// Runs a command line on a terminal of its own, so wide. Both streams come together, as on a screen.
fn on_terminal(site: &Site, columns: u16, environment: &[(&str, &str)], line: &str) -> Done {
    let known = site.command(&[]);
    let fulmar = known.get_program().to_str().unwrap().to_owned();
    let mut command = Command::new("script");
    let line = line.replace("fulmar", &fulmar);
    command.args(["--quiet", "--return", "--command", &format!("stty cols {columns} rows 40; {line}"), "/dev/null"]);
    command.current_dir(site.directory.path()).env("SHELL", "/bin/sh").env("TERM", "xterm-256color");
    for (name, value) in known.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.envs(environment.iter().copied());
    finish(command, "")
}

#[test]
fn tables_are_as_wide_as_the_terminal_and_whole_in_a_pipe() {
    let site = Site::new();
    let _agents = agents(&site);
    site.hub.wait_online("gw-fra");
    site.hub.wait_online("gw-par");
    for list in ["get devices", "top", "capacity --by device", "ctx list", "get events"] {
        let narrow = on_terminal(&site, 30, &[], &format!("fulmar {list}"));
        let lines: Vec<&str> = narrow.out.lines().collect();
        assert!(lines.len() >= 2, "{list}: {narrow:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{list}: {narrow:?}");
        assert!(lines.iter().any(|line| line.ends_with('\u{2026}')), "{list} is cut: {narrow:?}");
        let piped = site.run(&list.split(' ').collect::<Vec<&str>>()).only();
        assert!(piped.lines().any(|line| line.chars().count() > 30), "{list}: {piped}");
        assert!(!piped.contains(ESCAPE) && !piped.contains('\u{2026}'), "{list}: {piped}");
    }
    let wide = on_terminal(&site, 30, &[], "fulmar get devices -o wide");
    assert!(
        wide.code == 0 && wide.out.lines().any(|line| line.chars().count() > 60),
        "everything was asked for: {wide:?}"
    );
    let roomy = on_terminal(&site, 400, &[], "fulmar get devices");
    assert!(!roomy.out.contains('\u{2026}'), "{roomy:?}");
}

#[test]
fn colour_is_for_terminals_only_and_only_if_nobody_minds() {
    let site = Site::new();
    let asked = "fulmar get region nowhere";
    let coloured = on_terminal(&site, 100, &[], asked);
    assert!(coloured.code == 8 && coloured.out.contains("\u{1b}[1;31merror\u{1b}[0m[NOT_FOUND]"), "{coloured:?}");
    let plain = [
        on_terminal(&site, 100, &[("NO_COLOR", "1")], asked),
        on_terminal(&site, 100, &[], &format!("{asked} --no-color")),
        on_terminal(&site, 100, &[("TERM", "dumb")], asked),
        on_terminal(&site, 100, &[("TERM", "dumb"), ("CI", "true")], asked),
        site.run(&["get", "region", "nowhere"]),
    ];
    for done in plain {
        let both = format!("{}{}", done.out, done.err);
        assert!(done.code == 8 && both.contains("error[NOT_FOUND]") && !both.contains(ESCAPE), "{done:?}");
    }
}

#[test]
fn without_input_nothing_is_asked_and_nothing_is_opened() {
    let site = Site::new();
    let refused = on_terminal(&site, 100, &[], "fulmar login http://127.0.0.1:9 --no-input");
    assert!(refused.code == 2 && refused.out.contains("the token would have to be asked for"), "{refused:?}");
    site.region("r", (8.0, 50.0));
    let refused = on_terminal(&site, 100, &[("EDITOR", "true")], "fulmar edit region r --no-input");
    assert!(refused.code == 2 && refused.out.contains("the new text would have to be asked for"), "{refused:?}");
    assert_eq!(on_terminal(&site, 100, &[("EDITOR", "true")], "fulmar edit region r").code, 0);
}
