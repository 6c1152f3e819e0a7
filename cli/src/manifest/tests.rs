//! Manifests from real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::exit::Exit;
use hub::problem_code::ProblemCode;
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn text(kind: &str, name: &str) -> String {
    format!("apiVersion: fulmar/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec: {{}}\n")
}

#[test]
fn regions_and_devices_come_before_workloads_whatever_the_files_say() {
    let first = format!("{}---\n{}", text("Workload", "w1"), text("Device", "d1"));
    let second = format!("{}---\n{}", text("Workload", "w2"), text("Region", "r1"));
    let folder = folder(&[("a.yaml", &first), ("b.yml", &second), ("notes.txt", "not: [a manifest")]);
    let documents = read(&Files::of(folder.path()), "lab").unwrap();
    let names: Vec<String> = documents.iter().map(|document| document.target.key()).collect();
    assert_eq!(names, ["region/r1", "device/d1", "workload/lab/w1", "workload/lab/w2"]);
    assert_eq!(documents[0].folder, folder.path());
}

#[test]
fn all_mistakes_of_all_files_are_reported_at_once_with_their_lines() {
    let folder = folder(&[
        ("a.yaml", "kind: Wrokload\nmetadata: {}\n"),
        ("b.yaml", "kind: [\n"),
        ("c.yaml", "- 1\n"),
        ("d.yaml", &format!("{}---\n{}", text("Region", "x"), text("Region", "x"))),
    ]);
    let failure = read(&Files::of(folder.path()), "default").unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    let found: Vec<(String, u64, u64)> = failure
        .places
        .iter()
        .map(|place| (place.file.rsplit('/').next().unwrap().to_owned(), place.line, place.column))
        .collect();
    let expected = [("a.yaml", 1, 1), ("a.yaml", 2, 1), ("b.yaml", 1, 7), ("c.yaml", 1, 1), ("d.yaml", 10, 3)];
    let expected: Vec<(String, u64, u64)> = expected.iter().map(|(f, l, c)| ((*f).to_owned(), *l, *c)).collect();
    assert_eq!(found, expected, "{}", failure.text());
    assert!(failure.text().contains("\"Wrokload\" is not a kind; did you mean `Workload`?"));
    assert!(failure.text().contains("region/x is described twice"));
}

#[test]
fn pointers_of_the_hub_become_lines_of_the_file() {
    let yaml =
        "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n  placement:\n    within_region: munich\n";
    let folder = folder(&[("a.yaml", yaml)]);
    let documents = read(&Files::of(&folder.path().join("a.yaml")), "default").unwrap();
    let mut refusal = Failure::hub(ProblemCode::Invalid, "not valid");
    for (pointer, detail) in [("/spec/placement/within_region", "unknown field"), ("/spec/artifact", "missing")] {
        refusal.places.push(Place { pointer: pointer.to_owned(), detail: detail.to_owned(), ..Place::default() });
    }
    let text = documents[0].source.locate(refusal).text();
    let excerpt = ":6:5  unknown field\n     6 |     within_region: munich\n       |     ^^^^^^^^^^^^^\n";
    assert!(text.contains(excerpt), "{text}");
    assert!(text.contains(":4:1  missing\n     4 | spec:\n       | ^^^^\n"), "{text}");
}

#[test]
fn files_that_are_not_there_or_empty_are_named() {
    let folder = folder(&[("empty.yaml", "# nothing\n---\n")]);
    assert_eq!(read(&Files::of(&folder.path().join("none.yaml")), "default").unwrap_err().code, "FILE");
    assert_eq!(read(&Files::of(&folder.path().join("empty.yaml")), "default").unwrap_err().code, "EMPTY");
    let bare = tempfile::tempdir().unwrap();
    assert!(read(&Files::of(bare.path()), "default").unwrap_err().why[0].contains(".yaml, .yml, .json"));
}

#[test]
fn the_examples_are_read() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let documents = read(&Files::of(&examples.join("hello.yaml")), "default").unwrap();
    let names: Vec<String> = documents.iter().map(|document| document.target.to_string()).collect();
    assert_eq!(names, ["region/rhine-main", "workload/hello"]);
}

#[test]
fn mistakes_of_syntax_and_of_fields_are_reported_together() {
    let text = "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n  replicsa: 1\n  placement: {exclusive: true, follow: {}}\n---\nkind: [\n---\nkind: Region\nmetadata: {name: r}\napiVersion: fulmar/v1\nspec: {circle: {center: [8, 95], radiusKm: 1}}\n";
    let folder = folder(&[("a.yaml", text)]);
    let failure = read_judged(&Files::of(&folder.path().join("a.yaml")), "default").unwrap_err();
    let found: Vec<(u64, &str)> = failure.places.iter().map(|place| (place.line, place.detail.as_str())).collect();
    let has = |line: u64, part: &str| found.iter().any(|(at, detail)| *at == line && detail.contains(part));
    assert!(has(5, "did you mean `replicas`?"), "{found:?}");
    assert!(has(6, "`follow` is not built yet"), "{found:?}");
    assert!(has(8, "") && has(13, "were they swapped?; write [95, 8]"), "{found:?}");
    assert!(failure.next[0].starts_with("fulmar explain workload.spec"), "{failure:?}");
}

#[test]
fn what_a_part_of_an_object_leaves_out_is_no_mistake() {
    let text = "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: a}\nspec: {replicas: 2}\n---\napiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: b}\nspec: {artifact: \"file:x.wasm\"}\n";
    let folder = folder(&[("a.yaml", text)]);
    assert_eq!(read_judged(&Files::of(folder.path()), "default").unwrap().len(), 2);
}
