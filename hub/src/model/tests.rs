//! Manifests as people write them, right and wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};

const DIGEST: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn workload(spec: Value) -> Result<Manifest, Refusal> {
    let document = json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "hello"}, "spec": spec});
    Manifest::read(&ObjectKey::workload("default", "hello"), &document)
}

fn spec_of(manifest: Manifest) -> WorkloadSpec {
    match manifest.spec {
        ManifestSpec::Workload(spec) => *spec,
        other => panic!("not a workload: {other:?}"),
    }
}

fn pointers(refusal: &Refusal) -> Vec<&str> {
    refusal.errors.iter().map(|error| error.pointer.as_str()).collect()
}

fn minimal() -> Value {
    json!({"type": "function", "artifact": format!("hello@sha256:{DIGEST}"), "placement": {"on": ["gw-1"]}})
}

#[test]
fn defaults_are_shown_in_what_is_stored() {
    let spec = spec_of(workload(minimal()).unwrap());
    let stored = serde_json::to_value(&spec).unwrap();
    assert_eq!(stored["replicas"], 1);
    assert_eq!(stored["partition"], "autonomous");
    assert_eq!(stored["unconfirmed"], "wait");
    assert_eq!(stored["function"]["limits"]["memory"], "128KiB");
    assert_eq!(stored["retry"], json!({"attempts": 5, "window": "10m"}));
    assert_eq!(serde_json::from_value::<WorkloadSpec>(stored.clone()).unwrap(), spec);
    assert_eq!(spec_of(workload(stored).unwrap()), spec, "what is shown can be applied again");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let refusal = workload(json!({
        "type": "function",
        "artifact": "hello:latest",
        "replicas": -1,
        "function": {"limits": {"memory": "1.5MB", "fule": 3}, "triggers": {"every": "5"}},
        "placement": {"within": ["Not A Name"], "near": {"point": [0, 91]}},
    }))
    .unwrap_err();
    let found = pointers(&refusal);
    for pointer in [
        "/spec/artifact",
        "/spec/replicas",
        "/spec/function/limits/memory",
        "/spec/function/limits/fule",
        "/spec/function/triggers/every",
        "/spec/placement/within/0",
        "/spec/placement/near/point",
    ] {
        assert!(found.contains(&pointer), "{pointer} in {found:?}");
    }
    assert!(!refusal.not_built);
}

#[test]
fn what_is_not_built_is_refused_and_never_ignored() {
    for (patch, pointer) in [
        (json!({"type": "container"}), "/spec/type"),
        (json!({"partition": {"exclusive": {"lease": "30s"}}}), "/spec/partition/exclusive"),
        (json!({"partition": {"stopAfter": "30s"}}), "/spec/partition/stopAfter"),
        (json!({"secrets": []}), "/spec/secrets"),
        (json!({"rollout": {}}), "/spec/rollout"),
        (json!({"placement": {"on": ["a"], "spread": {}}}), "/spec/placement/spread"),
        (json!({"placement": {"on": ["a"], "residency": {}}}), "/spec/placement/residency"),
        (json!({"placement": {"on": ["a"], "onShortfall": "fail"}}), "/spec/placement/onShortfall"),
        (json!({"artifact": "oci://r/a@sha256:0"}), "/spec/artifact"),
    ] {
        let mut spec = minimal();
        for (key, value) in patch.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let refusal = workload(spec).unwrap_err();
        assert!(refusal.not_built, "{pointer}");
        assert_eq!(pointers(&refusal), [pointer]);
    }
}

#[test]
fn a_placement_needs_an_anchor() {
    for placement in [json!({}), json!({"class": ["mcu"]}), json!({"within": []}), json!({"labels": {}})] {
        let mut spec = minimal();
        spec["placement"] = placement;
        assert_eq!(pointers(&workload(spec).unwrap_err()), ["/spec/placement"]);
    }
}

#[test]
fn components_are_ordered_without_circles() {
    let component =
        |name: &str, after: Value| json!({"name": name, "after": after, "artifact": format!("a@sha256:{DIGEST}")});
    let with = |components: Value| workload(json!({"components": components, "placement": {"on": ["a"]}}));
    assert!(with(json!([component("a", json!([])), component("b", json!(["a"]))])).is_ok());
    let circle = with(json!([component("a", json!(["b"])), component("b", json!(["a"]))])).unwrap_err();
    assert!(circle.errors[0].detail.contains("circle"));
    let unknown = with(json!([component("a", json!(["z"]))])).unwrap_err();
    assert_eq!(pointers(&unknown), ["/spec/components/0/after/0"]);
    let twice = with(json!([component("a", json!([])), component("a", json!([]))])).unwrap_err();
    assert_eq!(pointers(&twice), ["/spec/components/1/name"]);
}

#[test]
fn inline_configuration_has_its_limit() {
    for (length, fits) in [(255, true), (256, true), (257, false)] {
        let mut spec = minimal();
        spec["function"] = json!({"config": "x".repeat(length)});
        assert_eq!(workload(spec).is_ok(), fits, "{length}");
    }
}

#[test]
fn topic_filters_fit_into_their_clause() {
    let mut spec = minimal();
    spec["function"] = json!({"triggers": {"topics": vec!["t".repeat(96); 8]}});
    assert_eq!(pointers(&workload(spec.clone()).unwrap_err()), ["/spec/function/triggers/topics"]);
    spec["function"] = json!({"triggers": {"topics": ["a/#", "b", "a/+/c", "#", "a#"]}});
    let refusal = workload(spec).unwrap_err();
    assert_eq!(
        pointers(&refusal),
        ["/spec/function/triggers/topics/2", "/spec/function/triggers/topics/3", "/spec/function/triggers/topics/4"]
    );
}

#[test]
fn a_region_points_at_its_mistakes_and_is_stored_normalised() {
    let read = |spec: Value| {
        let document = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "r"}, "spec": spec});
        Manifest::read(&ObjectKey::region("r"), &document)
    };
    let refusal = read(json!({"circle": {"center": [0, 91], "radiusKm": 1}})).unwrap_err();
    assert_eq!(pointers(&refusal), ["/spec/circle/center"]);
    let refusal = read(json!({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 91], [1, 1], [0, 0]]]}}));
    assert_eq!(pointers(&refusal.unwrap_err()), ["/spec/geometry/coordinates/0/1"]);
    for spec in [
        json!({"circle": {"center": [8.68, 50.11], "radiusKm": 10.0}}),
        json!({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}}),
    ] {
        let ManifestSpec::Region(region) = read(spec).unwrap().spec else { panic!("not a region") };
        let stored = serde_json::to_value(&region).unwrap();
        assert_eq!(serde_json::from_value::<RegionSpec>(stored).unwrap(), region);
    }
}

#[test]
fn hub_wide_objects_have_no_namespace_and_names_must_agree() {
    let document =
        json!({"apiVersion": "fulmar/v2", "kind": "Workload", "metadata": {"name": "x", "namespace": "default"}});
    let refusal = Manifest::read(&ObjectKey::device("gw-1"), &document).unwrap_err();
    assert_eq!(pointers(&refusal), ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/spec"]);
}

#[test]
fn anything_at_all_is_judged_without_a_panic() {
    for value in
        [json!(null), json!(1), json!([]), json!("x"), json!({"spec": 1}), json!({"metadata": [], "spec": null})]
    {
        for kind in Kind::ALL {
            let key = ObjectKey { kind, namespace: String::new(), name: String::new() };
            assert!(Manifest::read(&key, &value).is_err());
        }
    }
}
