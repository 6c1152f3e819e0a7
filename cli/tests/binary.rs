//! The real program without a hub: usage, exit codes, streams, and plain output where nobody sees colours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `fulmar` in an empty directory, with nothing of this machine's environment that it reads.
fn fulmar(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fulmar"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("FULMAR_SERVER")
        .env_remove("FULMAR_TOKEN")
        .env_remove("FULMAR_DATA")
        .env_remove("FULMAR_CONTEXT")
        .env_remove("NO_COLOR")
        // No context and no running hub of the person at this machine.
        .env("XDG_CONFIG_HOME", directory)
        .env("XDG_STATE_HOME", directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = fulmar(directory.path(), arguments);
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn without_a_verb_or_with_a_wrong_one_it_is_a_usage_error() {
    for arguments in
        [&[][..], &["frobnicate"], &["get"], &["get", "pod"], &["apply"], &["wait", "wl/a"], &["get", "wl/a/"]]
    {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(!err.is_empty() && !err.contains('\u{1b}'), "{arguments:?}: {err}");
    }
}

#[test]
fn without_a_hub_every_verb_says_how_to_start_one() {
    let verbs: [&[&str]; 9] = [
        &["get", "devices"],
        &["describe", "wl/a"],
        &["delete", "wl/a"],
        &["logs", "a"],
        &["events"],
        &["explain", "placement", "a"],
        &["device", "join-token"],
        &["wait", "--for", "running", "a"],
        &["status"],
    ];
    for verb in verbs {
        let (code, out, err) = run(verb);
        assert_eq!((code, out.as_str()), (1, ""), "{verb:?}: {err}");
        assert!(err.starts_with("error[NO_HUB]: no hub is running here\n   why: "), "{verb:?}: {err}");
        assert!(err.contains("\n  next: fulmar up\n") && !err.contains('\u{1b}'), "{verb:?}: {err}");
    }
}

#[test]
fn errors_are_json_when_the_output_is() {
    let (code, out, err) = run(&["status", "-o", "json"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"]["code"], "NO_HUB");
    assert_eq!(error["error"]["exitCode"], 1);
    assert_eq!(error["error"]["next"][0], "fulmar up");
}

#[test]
fn a_named_hub_that_does_not_answer_is_named_in_the_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (code, _, err) = run(&["get", "devices", "--server", &server]);
    assert_eq!(code, 1);
    assert!(err.contains("error[UNREACHABLE]") && err.contains(&server), "{err}");
}

#[test]
fn the_version_needs_no_hub() {
    let version = format!("fulmar {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["version"]), (0, version.clone(), String::new()));
    assert_eq!(run(&["--version"]), (0, version, String::new()));
    let (_, out, _) = run(&["version", "-o", "json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["server"].is_null());
}

#[test]
fn a_manifest_is_judged_before_a_hub_is_asked_for_a_change() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("run")).unwrap();
    std::fs::write(directory.path().join("a.yaml"), "kind: Region\nmetadata:\n  name: [\n").unwrap();
    let endpoints =
        "{\"api\": \"http://127.0.0.1:9\", \"broker\": \"\", \"pid\": 1, \"token_file\": \"run/admin.token\"}";
    std::fs::write(directory.path().join("run/endpoints.json"), endpoints).unwrap();
    std::fs::write(directory.path().join("run/admin.token"), "x").unwrap();
    let output = fulmar(directory.path(), &["apply", "-f", "a.yaml", "--data", "."]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.starts_with("error[MANIFEST]: a.yaml:3:9  "), "{err}");
}

#[test]
fn up_without_an_agent_beside_it_says_so_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = fulmar(directory.path(), &["up", "--agent", "nowhere/fulmar-agent"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("error[NO_AGENT]"), "{err}");
    assert!(!directory.path().join("fulmar-data").exists());
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_with_what_why_and_next() {
    let directory = tempfile::tempdir().unwrap();
    let output = fulmar(
        directory.path(),
        &[
            "hub",
            "--api",
            "127.0.0.1:0",
            "--broker",
            "127.0.0.1:0",
            "--tls",
            "always",
            "--tls-cert",
            "none.pem",
            "--tls-key",
            "none.key",
            "--tls-ca",
            "ca.pem",
        ],
    );
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("error[TLS]") && err.contains("cannot read none.pem"), "{err}");
    let output = fulmar(directory.path(), &["hub", "--tls-cert", "none.pem"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn shells_ask_the_program_itself_for_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, err) = run(&["completion", shell]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("COMPLETE") && out.contains("fulmar"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let asked = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fulmar"))
            .arg("--")
            .args(words)
            .current_dir(directory.path())
            .env("COMPLETE", "fish")
            .env("XDG_CONFIG_HOME", directory.path())
            .env("XDG_STATE_HOME", directory.path())
            .env_remove("FULMAR_SERVER")
            .env_remove("FULMAR_DATA")
            .env_remove("FULMAR_CONTEXT")
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(asked(&["fulmar", "de"]).contains("describe") && !asked(&["fulmar", "de"]).contains("apply"));
    assert!(asked(&["fulmar", "device", "join"]).contains("join-token"));
    assert!(asked(&["fulmar", "get", "wo"]).contains("workloads"));
    assert_eq!(asked(&["fulmar", "describe", "device", "gw"]).trim(), "", "no hub, no names and no message");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fulmar"))
        .args(["completion", "bash"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
