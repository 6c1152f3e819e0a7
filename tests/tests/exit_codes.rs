//! Every exit code of the reference, from the real program against a real hub; and that errors are JSON when asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::collections::BTreeMap;
use tests::harness::Workload;
use tests::harness::site::{Site, agents, finish};

const REFERENCE: &str = include_str!("../../docs/reference/cli.md");
const REGION: &str =
    "apiVersion: fulmar/v1\nkind: Region\nmetadata: {name: r}\nspec: {circle: {center: [8.68, 50.11], radiusKm: 5}}\n";
/// Asks for something that no device has.
const REFUSED: &str =
    "(module (import \"fulmar\" \"nothing\" (func)) (memory (export \"memory\") 1) (func (export \"fulmar_timer\")))";

/// The codes of the table in docs/reference/cli.md.
fn documented() -> Vec<i32> {
    let table = REFERENCE.split("## Exit codes").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn every_documented_exit_code_is_what_the_program_ends_with() {
    let site = Site::new();
    let _agents = agents(&site);
    site.hub.wait_online("gw-fra");
    site.write("r.yaml", REGION);
    site.write("bad.yaml", &REGION.replace("radiusKm", "radius"));
    let module = wat::parse_str(REFUSED).unwrap();
    site.hub.deploy(&Workload::new("refused").every("1h"), &module);
    let nowhere = Workload::new("nowhere").every("1h").placed(serde_json::json!({"labels": {"fleet": "none"}}));
    site.hub.deploy(&nowhere, &module);
    let viewer = site.run(&["token", "create", "reader"]).out;

    let mut seen: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let mut expect = |code: i32, error: &str, arguments: &[&str]| {
        let done = site.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        let expected = format!("error[{error}]: ");
        assert!(error.is_empty() || done.err.contains(&expected), "{arguments:?}: {expected} {done:?}");
        seen.entry(code).or_default().push(arguments.join(" "));
    };
    expect(0, "", &["get", "devices"]);
    expect(1, "UNREACHABLE", &["get", "devices", "--server", "http://127.0.0.1:9"]);
    expect(2, "USAGE", &["get", "pods"]);
    expect(2, "", &["get", "--nothing"]);
    expect(2, "INVALID", &["apply", "-f", "bad.yaml"]);
    expect(3, "CHANGES", &["diff", "-f", "r.yaml", "--exit-code"]);
    expect(3, "CHANGES", &["plan", "-f", "r.yaml", "--exit-code"]);
    expect(0, "", &["plan", "-f", "r.yaml"]);
    expect(4, "SHORT", &["wait", "--for", "running", "nowhere"]);
    expect(5, "WORKLOAD_FAILED", &["wait", "--for", "running", "refused"]);
    expect(6, "EXISTS", &["token", "create", "reader"]);
    expect(7, "TIMED_OUT", &["wait", "--for", "deleted", "refused", "--timeout", "100ms"]);
    expect(8, "NOT_FOUND", &["get", "region", "nowhere"]);
    expect(9, "READONLY", &["--readonly", "delete", "workload", "refused"]);
    let mut forbidden = site.command(&["delete", "workload", "refused"]);
    forbidden.env("FULMAR_TOKEN", viewer.trim());
    let forbidden = finish(forbidden, "");
    assert!(forbidden.code == 9 && forbidden.err.contains("error[FORBIDDEN]: not allowed"), "{forbidden:?}");

    let walked: Vec<i32> = seen.into_keys().collect();
    assert_eq!(walked, documented());
}

#[test]
fn with_json_an_error_is_one_object_on_standard_error_and_nothing_on_standard_output() {
    let site = Site::new();
    site.write("bad.yaml", &REGION.replace("radiusKm", "radius"));
    for (arguments, code, exit) in [
        (&["get", "region", "nowhere", "-o", "json"][..], "NOT_FOUND", 8),
        (&["apply", "-f", "bad.yaml", "-o", "json"], "INVALID", 2),
        (&["-o", "json", "get", "pods"], "USAGE", 2),
        (&["get", "devices", "--nothing", "-o", "json"], "USAGE", 2),
        (&["delete", "region", "r", "--readonly", "-o", "json"], "READONLY", 9),
        (&["get", "regions", "-o", "json", "--server", "http://127.0.0.1:9"], "UNREACHABLE", 1),
    ] {
        let done = site.run(arguments);
        assert_eq!((done.code, done.out.as_str()), (exit, ""), "{done:?}");
        let error: Value = serde_json::from_str(&done.err).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        let error = &error["error"];
        assert_eq!(
            (error["code"].as_str(), error["exitCode"].as_i64()),
            (Some(code), Some(i64::from(exit))),
            "{error}"
        );
        let docs = format!("docs/reference/errors.md#{}", code.to_ascii_lowercase());
        assert_eq!(error["docs"].as_str(), Some(docs.as_str()), "{error}");
        for list in ["why", "next", "errors"] {
            assert!(error[list].is_array(), "{list}: {error}");
        }
        let is_told =
            ["next", "errors"].iter().any(|list| error[*list].as_array().is_some_and(|list| !list.is_empty()));
        assert!(is_told, "neither places nor what next: {error}");
    }
}
