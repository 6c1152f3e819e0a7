//! House rules that a tool can check: layering, file sizes, headers, places where a library may appear.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Files that git knows or would add, with their text; binary files are left out.
fn files() -> Vec<(String, String)> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let listed = String::from_utf8(out.stdout).unwrap();
    let mut files: Vec<_> = listed
        .lines()
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect();
    files.sort();
    files.dedup();
    assert!(files.len() > 40, "git listed only {} files", files.len());
    files
}

fn sources() -> Vec<(String, String)> {
    files().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/fuzz/")
}

/// Fails with every offence at once.
fn assert_none(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn no_source_file_is_over_800_lines() {
    let long = sources().into_iter().filter(|(path, text)| !is_test(path) && text.lines().count() > 800);
    assert_none("split by concern", long.map(|(path, text)| format!("{path}: {}", text.lines().count())).collect());
}

#[test]
fn every_source_file_says_why_it_exists() {
    let bare = sources().into_iter().filter(|(_, text)| !text.trim_start().starts_with("//!"));
    assert_none("a file starts with `//!`", bare.map(|(path, _)| path).collect());
}

#[test]
fn nothing_is_unfinished_or_ignored() {
    let marks = ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX:"];
    let found = sources().into_iter().filter(|(path, _)| path != "tests/tests/tidy.rs").flat_map(|(path, text)| {
        marks.into_iter().filter(|mark| text.contains(mark)).map(|mark| format!("{path}: {mark}")).collect::<Vec<_>>()
    });
    assert_none("finish it or leave it out", found.collect());
}

#[test]
fn dependencies_point_at_wire() {
    let allowed: [(&str, &[&str]); 8] = [
        ("wire", &[]),
        ("board", &[]),
        ("agent-nostd", &["wire"]),
        ("agent", &["wire", "agent-nostd"]),
        ("fleet", &["wire", "agent-nostd", "agent"]),
        ("hub", &["wire"]),
        ("cli", &["agent-nostd", "board", "hub", "wire"]),
        ("tests", &["wire", "agent-nostd", "agent", "hub"]),
    ];
    let names = ["wire", "board", "agent-nostd", "agent", "fleet", "hub", "cli", "tests"];
    let mut offences = Vec::new();
    for (member, may) in allowed {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        // Development dependencies may repeat a layer below with more features, never reach up.
        for line in manifest.lines() {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if names.contains(&name) && line.contains("workspace") && !may.contains(&name) {
                offences.push(format!("{member} depends on {name}"));
            }
        }
    }
    assert_none("layering", offences);
}

#[test]
fn versions_stand_in_the_workspace_table_only() {
    let mut offences = Vec::new();
    for member in ["wire", "board", "agent-nostd", "agent", "fleet", "hub", "cli", "tests"] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("dependencies]").skip(1).collect::<Vec<_>>().join("\n");
        let own = dependencies.lines().filter(|line| {
            let line = line.trim();
            !line.starts_with('#') && line.contains("= \"") && !line.contains("workspace") && !line.contains("path = ")
        });
        offences.extend(own.map(|line| format!("{member}: {line}")));
    }
    assert_none("use `workspace = true`", offences);
}

#[test]
fn the_no_std_crates_say_so() {
    for lib in ["wire/src/lib.rs", "agent-nostd/src/lib.rs"] {
        assert!(fs::read_to_string(root().join(lib)).unwrap().contains("#![no_std]"), "{lib}");
    }
}

/// `(what, where it may appear)`: paths are prefixes.
#[test]
fn each_library_appears_in_its_one_place() {
    let rules: [(&str, &[&str]); 9] = [
        ("tokio::", &["hub/src/broker/", "hub/tests/"]),
        ("rmqtt::", &["hub/src/broker/", "hub/tests/"]),
        (
            "rumqttc::",
            &[
                "hub/src/mqtt/",
                "hub/src/broker/tests",
                "hub/src/broker/selftest",
                "hub/tests/",
                "agent/src/link",
                "agent/src/join",
                "agent/src/mqtt",
                "tests/",
            ],
        ),
        ("rusqlite::", &["hub/src/store/", "hub/tests/", "tests/"]),
        ("wasmi::", &["agent-nostd/src/function/"]),
        ("prometheus_client::", &["hub/src/metrics.rs"]),
        ("rcgen::", &["hub/src/tls/", "agent/src/tls.rs", "tests/"]),
        ("futures_rustls::", &["hub/src/tls/", "agent/src/relay/"]),
        ("schemars::", &["hub/src/model/", "hub/src/api/openapi", "hub/src/engine/port", "hub/src/wave.rs"]),
    ];
    let mut offences = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| path != "tests/tests/tidy.rs") {
        for (mark, places) in rules {
            if text.contains(mark) && !places.iter().any(|place| path.starts_with(place)) {
                offences.push(format!("{path}: {mark}"));
            }
        }
    }
    assert_none("a library lives in one module", offences);
}

#[test]
fn the_cores_have_no_clock_thread_or_random_source() {
    let marks = ["std::time::Instant", "SystemTime", "std::thread", "std::fs", "std::net", "getrandom", "rand::"];
    let cores = ["agent-nostd/src/", "hub/src/engine/", "hub/src/scheduler/", "hub/src/geo/", "wire/src/"];
    let mut offences = Vec::new();
    for (path, text) in sources() {
        if is_test(&path) || !cores.iter().any(|core| path.starts_with(core)) {
            continue;
        }
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        offences
            .extend(marks.into_iter().filter(|mark| production.contains(mark)).map(|mark| format!("{path}: {mark}")));
    }
    assert_none("time, entropy and bytes come in as arguments", offences);
}

#[test]
fn no_path_of_a_build_machine_is_in_the_project() {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/nowhere".into());
    let marks = [format!("{}/", root().parent().unwrap().display()), format!("{home}/")];
    let mut offences = Vec::new();
    for (path, text) in files().into_iter().filter(|(path, _)| !path.ends_with(".lock")) {
        offences.extend(
            marks.iter().filter(|mark| mark.len() > 2 && text.contains(*mark)).map(|mark| format!("{path}: {mark}")),
        );
    }
    assert_none("absolute paths", offences);
}

#[test]
fn tests_do_not_sleep() {
    let found = sources().into_iter().filter(|(path, text)| {
        is_test(path)
            && path != "tests/tests/tidy.rs"
            && !path.starts_with("tests/src/bin/bench/")
            && text.contains("thread::sleep")
            && !text.contains("wait_until")
    });
    assert_none("use virtual time or `wait_until`", found.map(|(path, _)| path).collect());
}

#[test]
fn every_dependency_has_its_reason_in_the_architecture() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let missing = table.lines().filter_map(|line| {
        let name = line.split_once(" =")?.0.trim();
        let ours = ["wire", "board", "agent-nostd", "agent", "hub"].contains(&name) || name.starts_with('#');
        (!ours && !architecture.contains(&format!("`{name}`"))).then(|| name.to_owned())
    });
    assert_none("ARCHITECTURE.md, libraries", missing.collect());
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("scripts/up") && readme.contains("scripts/test"));
    assert!(fs::read_to_string(root().join(".ci/run")).unwrap().contains("scripts/test"));
}
