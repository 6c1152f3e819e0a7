//! The real program with a real hub and no device: start, use, refuse a second one, stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const REGION: &str = "apiVersion: fulmar/v1\nkind: Region\nmetadata: {name: rhine, labels: {a: b}}\nspec:\n  circle: {center: [8.5, 50.0], radiusKm: 12}\n";

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
    command.args(arguments).current_dir(data).env("FULMAR_DATA", data.join("data"));
    command
        .env_remove("FULMAR_SERVER")
        .env_remove("FULMAR_TOKEN")
        .env_remove("FULMAR_LOG")
        .env("XDG_CONFIG_HOME", data)
        .stdin(Stdio::null());
    command
}

fn run(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(data, arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A hub that is killed if the test fails.
struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hub {
    /// Returns when it says that it is ready.
    fn start(data: &Path) -> Self {
        let arguments = ["hub", "--api", "127.0.0.1:0", "--broker", "127.0.0.1:0", "-o", "json"];
        let mut child = command(data, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let hub = Self(child);
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(ready["api"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{ready}");
        assert!(ready["device"].is_null(), "{ready}");
        hub
    }

    /// Asks it to stop; gives its exit code and what it said.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().unwrap();
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

#[test]
fn objects_live_through_the_command_line_and_through_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    std::fs::write(data.join("region.yaml"), REGION).unwrap();
    let hub = Hub::start(data);
    let applied = run(data, &["apply", "-f", "region.yaml"]);
    assert_eq!(applied, (0, "region/rhine created (generation 1)\n".to_owned(), String::new()));
    assert_eq!(run(data, &["apply", "-f", "region.yaml"]).1, "region/rhine unchanged (generation 1)\n");
    let (code, _, said) = run(data, &["hub", "--api", "127.0.0.1:0", "--broker", "127.0.0.1:0"]);
    assert!(code == 1 && said.contains("error[RUNNING]"), "{code}: {said}");
    let (code, said) = hub.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("stopping\n") || said.contains("stopping"), "{said}");
    assert_eq!(run(data, &["get", "reg"]).0, 1, "no hub, no answer");

    let hub = Hub::start(data);
    let (code, yaml, said) = run(data, &["get", "reg/rhine", "-o", "yaml"]);
    assert_eq!((code, said.as_str()), (0, ""));
    std::fs::write(data.join("again.yaml"), yaml).unwrap();
    assert_eq!(run(data, &["apply", "-f", "again.yaml"]).1, "region/rhine unchanged (generation 1)\n");
    assert_eq!(run(data, &["get", "regions", "-l", "a=b", "-o", "name"]).1, "region/rhine\n");
    assert_eq!(run(data, &["get", "regions", "-l", "a!=b", "-o", "name"]).1, "");
    let (_, table, _) = run(data, &["get", "reg"]);
    assert!(table.contains("rhine   circle 12") && !table.contains('\u{1b}'), "{table}");
    let (_, list, _) = run(data, &["get", "reg", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&"RegionList".into(), &"rhine".into()));
    let (_, text, _) = run(data, &["describe", "reg", "rhine"]);
    assert!(text.starts_with("Name:        rhine\nLabels:      a=b\n"), "{text}");
    assert_eq!(run(data, &["delete", "reg/rhine"]).1, "region/rhine deleted\n");
    assert_eq!(run(data, &["delete", "reg/rhine"]).0, 8);
    assert_eq!(run(data, &["delete", "reg/rhine", "--ignore-not-found"]).0, 0);
    assert_eq!(run(data, &["status"]).0, 0);
    assert_eq!(hub.stop(Signal::INT).0, Some(0));
}

#[test]
fn nothing_is_changed_when_one_document_is_not_valid() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    std::fs::write(data.join("a.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let workload = "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: w}\nspec:\n  artifact: file:a.wasm\n  placement: {wihtin: [rhine]}\n";
    std::fs::write(data.join("all.yaml"), format!("{REGION}---\n{workload}")).unwrap();
    let hub = Hub::start(data);
    let (code, out, said) = run(data, &["apply", "-f", "all.yaml"]);
    assert_eq!((code, out.as_str()), (2, ""), "{said}");
    assert!(said.contains("all.yaml:12:15  unknown field `wihtin`; did you mean `within`?"), "{said}");
    for kind in ["region", "artifact", "workload"] {
        assert_eq!(run(data, &["get", kind, "-o", "name"]).1, "", "{kind}");
    }

    std::fs::write(data.join("all.yaml"), format!("{REGION}---\n{workload}").replace("wihtin", "within")).unwrap();
    let (code, out, said) = run(data, &["apply", "-f", "all.yaml", "--dry-run"]);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    assert!(out.contains("artifact/a uploaded  a@sha256:") && out.contains("workload/w accepted (dry run)"), "{out}");
    assert_eq!(run(data, &["get", "artifact", "-o", "name"]).1, "");

    let (code, out, said) = run(data, &["apply", "-f", "all.yaml", "--wait", "--timeout", "5s"]);
    assert_eq!(code, 4, "{out}{said}");
    assert!(out.contains("workload/w created (generation 1)"), "{out}");
    assert!(said.contains("error[SHORT]: cannot place 1 of 1 replicas of wl/w"), "{said}");
    assert!(said.contains("   why: 1 device, inside region/rhine.") && said.contains("0 devices considered"), "{said}");
    assert!(said.contains("next: fulmar explain placement wl/w") && !said.contains('\u{1b}'), "{said}");
    let (code, out, said) = run(data, &["explain", "placement", "w"]);
    assert!(code == 0 && out.contains("0 devices considered"), "{out}{said}");
    assert_eq!(hub.stop(Signal::TERM).0, Some(0));
}
