//! Manifests as people write them, right and wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

mod partition;
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
        (json!({"secrets": []}), "/spec/secrets"),
        (json!({"rollout": {}}), "/spec/rollout"),
        (json!({"placement": {"on": ["a"], "coverage": {}}}), "/spec/placement/coverage"),
        (json!({"placement": {"on": ["a"], "follow": {}}}), "/spec/placement/follow"),
        (json!({"placement": {"on": ["a"], "prefer": []}}), "/spec/placement/prefer"),
        (json!({"priority": 1}), "/spec/priority"),
        (json!({"placement": {"on": ["a"], "residency": {}}}), "/spec/placement/residency"),
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
    for placement in [
        json!({}),
        json!({"class": ["mcu"]}),
        json!({"within": []}),
        json!({"labels": {}}),
        json!({"selector": {"matchLabels": {}}}),
        json!({"selector": ""}),
        json!({"minDistanceKm": 5, "spread": {"by": "site"}, "onShortfall": "wait"}),
    ] {
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

fn placed(placement: Value) -> Result<WorkloadSpec, Refusal> {
    let mut spec = minimal();
    spec["placement"] = placement;
    workload(spec).map(spec_of)
}

#[test]
fn every_term_of_a_placement_is_stored_with_its_defaults() {
    let spec = placed(json!({
        "labels": {"zone": "a"},
        "selector": {"matchLabels": {"tier": "edge"}, "matchExpressions": [
            {"key": "rack", "operator": "In", "values": ["1", "2"]}, {"key": "old", "operator": "DoesNotExist"}]},
        "tolerations": [{"key": "lab"}, {"key": "gpu", "value": "a", "effect": "NoExecute"}, {"operator": "Exists"}],
        "minDistanceKm": 5,
        "spread": {"by": "site"},
        "antiAffinity": {"workloads": ["other"]},
    }))
    .unwrap();
    let stored = serde_json::to_value(&spec).unwrap();
    let placement = &stored["placement"];
    assert_eq!(placement["spread"], json!({"by": "site", "maxSkew": 1}));
    assert_eq!(placement["antiAffinity"], json!({"workloads": ["other"], "domain": "device"}));
    assert_eq!(placement["onShortfall"], "partial");
    assert_eq!(placement["minDistanceKm"], 5.0);
    assert_eq!(
        placement["tolerations"],
        json!([
            {"key": "lab", "operator": "Exists"},
            {"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoExecute"},
            {"operator": "Exists"},
        ])
    );
    assert_eq!(serde_json::from_value::<WorkloadSpec>(stored.clone()).unwrap(), spec);
    assert_eq!(spec_of(workload(stored).unwrap()), spec, "what is shown can be applied again");
}

#[test]
fn a_selector_is_written_as_an_object_or_as_on_the_command_line() {
    let object = placed(json!({"selector": {"matchExpressions": [
        {"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}));
    let text = placed(json!({"selector": "zone in (a, b), !old"}));
    assert_eq!(text.unwrap(), object.unwrap());
    assert_eq!(pointers(&placed(json!({"selector": "zone inn (a)"})).unwrap_err()), ["/spec/placement/selector"]);
}

#[test]
fn what_replicas_spread_over_has_three_forms() {
    for (by, expected) in [
        (json!("site"), SpreadBy::Site),
        (json!("cell:7"), SpreadBy::Cell(7)),
        (json!({"regions": ["a", "b"]}), SpreadBy::Regions(vec!["a".to_owned(), "b".to_owned()])),
    ] {
        let spec = placed(json!({"on": ["a"], "spread": {"by": by, "maxSkew": 2}})).unwrap();
        assert_eq!(spec.placement.spread.as_ref().unwrap().by, expected);
        let stored = serde_json::to_value(&spec).unwrap();
        assert_eq!(stored["placement"]["spread"], json!({"by": by, "maxSkew": 2}));
        assert_eq!(serde_json::from_value::<WorkloadSpec>(stored).unwrap(), spec);
    }
    for (by, at) in [
        (json!("region"), "by"),
        (json!("cell:21"), "by"),
        (json!("cell:"), "by"),
        (json!("zone"), "by"),
        (json!(3), "by"),
        (json!({"regions": []}), "by/regions"),
        (json!({}), "by/regions"),
    ] {
        let refusal = placed(json!({"on": ["a"], "spread": {"by": by}})).unwrap_err();
        assert_eq!(pointers(&refusal), [format!("/spec/placement/spread/{at}")], "{by}");
    }
}

#[test]
fn the_number_near_each_device_follows_from_the_devices() {
    let placement = json!({"nearestPer": {"devices": {"labels": {"sensor": "pm25"}}}});
    let mut spec = minimal();
    spec["placement"] = placement;
    let read = spec_of(workload(spec.clone()).unwrap());
    assert_eq!((read.replicas, read.placement.nearest_per.as_ref().unwrap().k.get()), (None, 1));
    let stored = serde_json::to_value(&read).unwrap();
    assert_eq!(spec_of(workload(stored).unwrap()), read);
    spec["replicas"] = json!(4);
    assert_eq!(spec_of(workload(spec).unwrap()).replicas, Some(4));
}

#[test]
fn mistakes_in_terms_are_all_reported_with_their_pointers() {
    let refusal = placed(json!({
        "near": {"point": [8.0, 50.0]},
        "nearestPer": {"devices": {}, "k": 0},
        "selector": {"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "a b", "operator": "Exists"},
            {"key": "a", "operator": "Exists", "values": ["x"]},
            {"operator": "Like"},
        ]},
        "tolerations": [{}, {"value": "x"}, {"key": "a", "operator": "Exists", "value": "x"},
            {"key": "a", "operator": "Equal"}, {"key": "a", "effect": "Evict"}],
        "minDistanceKm": 0,
        "spread": {"by": "site", "maxSkew": 0},
        "antiAffinity": {"workloads": [], "domain": "rack"},
        "onShortfall": "panic",
    }))
    .unwrap_err();
    let found = pointers(&refusal);
    let expected = [
        "nearestPer/devices",
        "nearestPer/k",
        "nearestPer",
        "selector/matchExpressions/0/values",
        "selector/matchExpressions/1/key",
        "selector/matchExpressions/2/values",
        "selector/matchExpressions/3/key",
        "selector/matchExpressions/3/operator",
        "tolerations/0/key",
        "tolerations/1/key",
        "tolerations/2/value",
        "tolerations/3/value",
        "tolerations/4/effect",
        "minDistanceKm",
        "spread/maxSkew",
        "antiAffinity/domain",
        "antiAffinity/workloads",
        "onShortfall",
    ];
    assert_eq!(found, expected.map(|field| format!("/spec/placement/{field}")));
    assert!(!refusal.not_built);
}

#[test]
fn taints_of_a_device_have_a_key_and_an_effect() {
    let read = |taints: Value| {
        let document =
            json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": "d"}, "spec": {"taints": taints}});
        Manifest::read(&ObjectKey::device("d"), &document)
    };
    let manifest = read(json!([{"key": "lab", "effect": "NoSchedule"}, {"key": "lab", "effect": "NoExecute"}]));
    let ManifestSpec::Device(device) = manifest.unwrap().spec else { panic!("not a device") };
    assert_eq!(device.taints.len(), 2);
    let refusal = read(json!([{"key": "a", "effect": "Evict"}, {"effect": "NoExecute"}, {"key": "a"}])).unwrap_err();
    assert_eq!(pointers(&refusal), ["/spec/taints/0/effect", "/spec/taints/1/key", "/spec/taints/2/effect"]);
    let twice = read(json!([{"key": "a", "effect": "NoExecute"}, {"key": "a", "value": "b", "effect": "NoExecute"}]));
    assert_eq!(pointers(&twice.unwrap_err()), ["/spec/taints/1/key"]);
}

#[test]
fn labels_and_annotations_have_their_limits() {
    let read = |metadata: Value| {
        let mut metadata = metadata;
        metadata["name"] = json!("lab");
        let document = json!({"apiVersion": "fulmar/v1", "kind": "Namespace", "metadata": metadata});
        Manifest::read(&ObjectKey::namespace("lab"), &document).map_err(|refusal| pointers(&refusal).concat())
    };
    let many = |count: usize| -> Value { (0..count).map(|n| (format!("k{n}"), json!("v"))).collect() };
    for part in ["labels", "annotations"] {
        assert!(read(json!({part: many(LABELS_MAX)})).is_ok());
        assert_eq!(read(json!({part: many(LABELS_MAX + 1)})), Err(format!("/metadata/{part}")));
    }
    let long = |bytes: usize| json!({"annotations": {"a": "x".repeat(bytes)}});
    assert!(read(long(ANNOTATION_BYTES_MAX)).is_ok());
    assert_eq!(read(long(ANNOTATION_BYTES_MAX + 1)), Err("/metadata/annotations/a".to_owned()));
    let name = |bytes: usize| {
        let name = "n".repeat(bytes);
        let document = json!({"apiVersion": "fulmar/v1", "kind": "Namespace", "metadata": {"name": name}});
        Manifest::read(&ObjectKey::namespace(&name), &document).is_ok()
    };
    let limit = wire::limits::NAME_BYTES_MAX;
    assert_eq!([limit - 1, limit, limit + 1].map(name), [true, true, false]);
}
