//! `partition` in manifests: what is meant by what is left out, and what cannot be kept.
use super::*;

fn with(patch: Value) -> Result<WorkloadSpec, Vec<(String, String)>> {
    let mut spec = minimal();
    for (key, value) in patch.as_object().unwrap() {
        spec[key] = value.clone();
    }
    match workload(spec) {
        Ok(manifest) => Ok(spec_of(manifest)),
        Err(refusal) => Err(refusal.errors.into_iter().map(|error| (error.pointer, error.detail)).collect()),
    }
}

fn partition(value: Value) -> PartitionSpec {
    with(json!({"partition": value})).unwrap().partition
}

#[test]
fn what_is_left_out_follows_from_the_mode() {
    let span = |text: &str| Span::parse(text).unwrap();
    let plain = partition(json!("autonomous"));
    assert_eq!(plain, PartitionSpec::default());
    assert_eq!(plain, partition(json!({})));
    assert_eq!((plain.mode(), plain.replace()), (PartitionMode::Autonomous, Replace::Never));
    let stops = partition(json!({"stopAfter": "10m"}));
    assert_eq!(stops.mode(), PartitionMode::StopAfter(span("10m")));
    assert_eq!((stops.on_expire(), stops.replace()), (OnExpire::Stop, Replace::AfterLease));
    let degrades = partition(json!({"stopAfter": "10m", "onExpire": "degrade"}));
    assert_eq!(degrades.replace(), Replace::Never, "work that goes on has no end to wait for");
    let single = partition(json!({"exclusive": {"lease": "60s"}}));
    assert_eq!((single.mode(), single.lease()), (PartitionMode::Exclusive { lease: span("1m") }, Some(span("60s"))));
    assert_eq!((single.replace(), single.on_return()), (Replace::AfterLease, OnReturn::KeepReplacement));
    assert_eq!(single.grace(), span("5m"));
    let moves = partition(json!({"replace": "afterGrace", "grace": "0s", "onReturn": "best"}));
    assert_eq!((moves.mode(), moves.replace()), (PartitionMode::Autonomous, Replace::AfterGrace));
    assert_eq!((moves.grace(), moves.on_return()), (Span(0), OnReturn::Best));
    let stale = partition(json!({"onStale": {"after": "1h", "action": "degrade"}})).on_stale().unwrap();
    assert_eq!((stale.after, stale.action), (span("1h"), StaleAction::Degrade));
}

#[test]
fn what_is_stored_is_what_was_written_and_can_be_applied_again() {
    for (written, stored) in [
        (json!("autonomous"), json!("autonomous")),
        (json!({}), json!("autonomous")),
        (json!({"exclusive": {"lease": "60s"}}), json!({"exclusive": {"lease": "1m"}})),
        (
            json!({"stopAfter": "2m", "onExpire": "degrade", "replace": "afterGrace", "grace": "1h", "onReturn": "keepOriginal",
                "onStale": {"after": "1m", "action": "continue"}}),
            json!({"stopAfter": "2m", "onExpire": "degrade", "replace": "afterGrace", "grace": "1h", "onReturn": "keepOriginal",
                "onStale": {"after": "1m", "action": "continue"}}),
        ),
    ] {
        let spec = with(json!({"partition": written})).unwrap();
        let shown = serde_json::to_value(&spec).unwrap();
        assert_eq!(shown["partition"], stored);
        assert_eq!(serde_json::from_value::<WorkloadSpec>(shown.clone()).unwrap(), spec);
        assert_eq!(spec_of(workload(shown).unwrap()), spec);
    }
}

#[test]
fn what_cannot_be_kept_is_refused_where_it_is_written() {
    let exclusive = json!({"exclusive": {"lease": "60s"}});
    let near = json!({"nearestPer": {"devices": {"labels": {"a": "b"}}}});
    for (patch, pointer, reason) in [
        (json!({"partition": "exclusive"}), "", "needs a lease"),
        (json!({"partition": "stopAfter"}), "", "after how long"),
        (json!({"partition": "alone"}), "", "not one of autonomous"),
        (json!({"partition": 7}), "", "expected an object"),
        (json!({"partition": {"exclusive": true}}), "/exclusive", "expected an object"),
        (json!({"partition": {"exclusive": {}}}), "/exclusive/lease", "missing"),
        (json!({"partition": {"exclusive": {"lease": "14999ms"}}}), "/exclusive/lease", "15s to 1h"),
        (json!({"partition": {"exclusive": {"lease": "3600001ms"}}}), "/exclusive/lease", "15s to 1h"),
        (json!({"partition": {"stopAfter": "1s"}}), "/stopAfter", "15s to 30d"),
        (json!({"partition": {"stopAfter": "31d"}}), "/stopAfter", "15s to 30d"),
        (json!({"partition": {"stopAfter": "1m", "exclusive": {"lease": "60s"}}}), "/stopAfter", "either"),
        (json!({"partition": {"exclusive": {"lease": "60s"}, "onExpire": "degrade"}}), "/onExpire", "second instance"),
        (json!({"partition": {"onExpire": "stop"}}), "/onExpire", "nothing that expires"),
        (json!({"partition": {"replace": "afterLease"}}), "/replace", "never ends by itself"),
        (
            json!({"partition": {"stopAfter": "1m", "onExpire": "degrade", "replace": "afterLease"}}),
            "/replace",
            "never certainly stopped",
        ),
        (json!({"partition": {"grace": "5m"}}), "/grace", "replace: afterGrace"),
        (json!({"partition": {"exclusive": {"lease": "60s"}, "grace": "5m"}}), "/grace", "replace: afterGrace"),
        (json!({"partition": {"replace": "afterGrace", "grace": "25h"}}), "/grace", "0ms to 1d"),
        (json!({"partition": {"onReturn": "best"}}), "/onReturn", "never replaced"),
        (
            json!({"partition": {"stopAfter": "1m", "replace": "never", "onReturn": "best"}}),
            "/onReturn",
            "never replaced",
        ),
        (json!({"partition": {"onStale": {"action": "stop"}}}), "/onStale/after", "missing"),
        (json!({"partition": {"onStale": {"after": "1h"}}}), "/onStale/action", "missing"),
        (json!({"partition": {"onStale": {"after": "14s", "action": "stop"}}}), "/onStale/after", "15s to 30d"),
        (
            json!({"partition": {"stopAfter": "1m", "onStale": {"after": "60s", "action": "degrade"}}}),
            "/onStale/after",
            "stops after 1m already",
        ),
        (
            json!({"partition": {"stopAfter": "2m", "onExpire": "degrade", "onStale": {"after": "1m", "action": "stop"}}}),
            "/onStale/after",
            "before it degrades",
        ),
        (json!({"partition": {"mode": "autonomous"}}), "/mode", "unknown field"),
        (json!({"partition": exclusive, "replicas": 2}), "/spec/replicas", "runs once"),
        (json!({"partition": exclusive, "every": true}), "/spec/every", "runs once"),
        (json!({"partition": exclusive, "placement": near}), "/spec/placement/nearestPer", "runs once"),
    ] {
        let pointer =
            if pointer.starts_with("/spec") { pointer.to_owned() } else { format!("/spec/partition{pointer}") };
        let errors = with(patch.clone()).unwrap_err();
        assert_eq!(errors.len(), 1, "{patch}: {errors:?}");
        assert_eq!(errors[0].0, pointer, "{patch}: {errors:?}");
        assert!(errors[0].1.contains(reason), "{patch}: {errors:?}");
    }
}

#[test]
fn contradictions_of_one_partition_are_told_together() {
    let errors = with(json!({"replicas": 3, "partition": {
        "exclusive": {"lease": "60s"}, "stopAfter": "1m", "onExpire": "degrade", "replace": "never", "grace": "1m",
        "onReturn": "best"}}))
    .unwrap_err();
    let pointers: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let at = |name: &str| format!("/spec/partition/{name}");
    let expected = [at("stopAfter"), at("onExpire"), at("grace"), at("onReturn"), "/spec/replicas".to_owned()];
    assert_eq!(pointers, expected);
}

#[test]
fn what_can_be_kept_is_taken_at_both_ends_of_its_range() {
    for value in [
        json!({"exclusive": {"lease": "15s"}}),
        json!({"exclusive": {"lease": "1h"}, "onExpire": "stop", "replace": "never"}),
        json!({"exclusive": {"lease": "60s"}, "replace": "afterGrace", "grace": "24h"}),
        json!({"exclusive": {"lease": "60s"}, "onStale": {"after": "30d", "action": "stop"}}),
        json!({"stopAfter": "15s"}),
        json!({"stopAfter": "30d", "onExpire": "stop", "replace": "afterLease", "onReturn": "keepOriginal"}),
        json!({"stopAfter": "2m", "onStale": {"after": "1m", "action": "degrade"}}),
        json!({"stopAfter": "1m", "onExpire": "degrade", "onStale": {"after": "1m", "action": "stop"}}),
        json!({"replace": "afterGrace"}),
    ] {
        assert!(with(json!({"partition": value})).is_ok(), "{value}");
    }
    assert!(with(json!({"partition": {"exclusive": {"lease": "60s"}}, "replicas": 0})).is_ok(), "put aside");
}
