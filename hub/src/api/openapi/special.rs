//! Operations whose form their path does not say.

use super::Operation;
use super::parts::{document_answer, json_answer, json_body, named, query, reference};
use crate::api::route::Method;
use crate::model::Kind;
use serde_json::{Value, json};

fn plain(description: &str) -> Value {
    json!({"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}})
}

fn bytes(description: &str, media: &str) -> Value {
    json!({"description": description, "content": {media: {}}})
}

fn lines(description: &str, item: &str) -> Value {
    let list = json!({
        "type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": reference(item)}},
    });
    let content = json!({
        "application/json": {"schema": list},
        "text/event-stream": super::parts::events(),
    });
    json!({"description": description, "content": content})
}

fn sample_lines() -> Value {
    let list = json!({
        "type": "object",
        "required": ["items", "classes"],
        "properties": {
            "items": {"type": "array", "items": reference("SampleLine")},
            "classes": {"type": "array", "items": reference("ClassAccount")},
        },
    });
    let content = json!({
        "application/json": {"schema": list},
        "text/event-stream": super::parts::events(),
    });
    json!({"description": "Samples, oldest first, and the account of each class", "content": content})
}

fn tail() -> Value {
    let schema = json!({"type": "integer", "minimum": 0, "maximum": crate::api::TAIL_MAX});
    query("tail", schema, "The last so many")
}

/// 26 letters of base32.
pub(super) fn key_id() -> Value {
    json!({"type": "string", "pattern": "^[a-z2-7]{26}$"})
}

fn flag(name: &str, description: &str) -> Value {
    query(name, json!({"type": "boolean"}), description)
}

fn device_change(summary: &str) -> Operation {
    Operation::new(summary).answer("200", document_answer("The device", Kind::Device))
}

fn hub_decision(summary: &str) -> Operation {
    Operation::new(summary)
        .body(json!({"required": false, "content": {"application/json": {"schema": reference("HubDecision")}}}))
        .answer("200", json_answer("The hub's status", reference("HubStatus")))
}

fn rollout_change(summary: &str) -> Operation {
    Operation::new(summary).answer("200", json_answer("The rollout", reference("Rollout")))
}

/// `None`: the route is what its path looks like.
pub(super) fn operation(method: Method, path: &str) -> Option<Operation> {
    let operation = match (method.name(), path) {
        ("GET", "/healthz") => Operation::new("Says that the hub lives").answer("200", plain("It does")),
        ("GET", "/readyz") => Operation::new("Says whether engine, link and database work").answer("200", plain("They do")),
        ("GET", "/metrics") => {
            Operation::new("Measurements as OpenMetrics text").answer("200", bytes("The series", crate::metrics::OPENMETRICS))
        }
        ("GET", "/openapi.json") => {
            Operation::new("This document").answer("200", json_answer("OpenAPI 3.1", json!({"type": "object"})))
        }
        ("GET", "/v1/status") => {
            Operation::new("The hub about itself").answer("200", json_answer("Its status", reference("HubStatus")))
        }
        ("POST", "/v1/join-tokens") => Operation::new("Makes a single-use token with which a device joins")
            .body(json_body(reference("JoinTokenRequest")))
            .answer("201", json_answer("The token; it is shown once", reference("JoinToken"))),
        ("POST", "/v1/tokens") => Operation::new("Makes a bearer token; the answer is the only one that holds it")
            .body(json_body(reference("TokenManifest")))
            .answer("201", document_answer("Made; status.token is the token", Kind::Token)),
        ("GET", "/v1/whoami") => Operation::new("Whose token this is, and what it is good for")
            .parameter(query("can", json!({"type": "string"}), "A verb: get, list, watch, create, update, apply, delete, ..."))
            .parameter(query("kind", json!({"type": "string"}), "With can: of which kind"))
            .answer("200", json_answer("Name and role; with can, whether it is allowed", reference("WhoAmI"))),
        ("POST", "/v1/devices/{name}/approve") => device_change("Lets a device receive work"),
        ("POST", "/v1/devices/{name}/cordon") => device_change("Keeps new work off a device"),
        ("POST", "/v1/devices/{name}/uncordon") => device_change("Lets new work onto a device again"),
        ("POST", "/v1/devices/{name}/drain") => device_change("Takes all work off a device"),
        ("POST", "/v1/devices/{name}/undrain") => device_change("Ends a drain"),
        ("GET", "/v1/devices/{name}/snapshot") => Operation::new("The last word of a device, with its age")
            .answer("200", json_answer("What it said", reference("DeviceSnapshot"))),
        ("GET", "/v1/queue") => Operation::new("What waits for devices that are away")
            .parameter(query("device", named(), "For this device alone"))
            .answer("200", json_answer("By device", reference("Queue"))),
        ("POST", "/v1/queue/cancel") => {
            device_change("Takes an addition back that a device has not heard of: withheld until the workload changes")
                .body(json_body(reference("QueuedId")))
        }
        ("POST", "/v1/queue/restore") => {
            device_change("No longer withholds a workload from a device").body(json_body(reference("QueuedId")))
        }
        ("POST", "/v1/hub/confirm-loss") => {
            Operation::new("Says that devices which vanished together are lost: their work is moved as each workload says")
                .answer("200", json_answer("How many", reference("ConfirmedLoss")))
        }
        ("POST", "/v1/plans") => Operation::new("Tells what documents would change and where workloads would go")
            .parameter(query("fieldManager", json!({"type": "string"}), "Who would apply them; fulmar unless said"))
            .parameter(flag("force", "Take fields over that others own"))
            .body(json_body(reference("PlanRequest")))
            .answer("200", json_answer("The plan; nothing was changed", reference("Plan"))),
        ("POST", "/v1/plans/apply") => Operation::new("Does a plan, all of it, unless something has moved since (409)")
            .body(json_body(reference("Plan")))
            .answer("200", json_answer("Done", reference("AppliedPlan"))),
        ("GET", "/v1/rollouts") => Operation::new("Rollouts of firmware").answer(
            "200",
            json_answer("All that are kept", json!({
                "type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": reference("Rollout")}},
            })),
        ),
        ("POST", "/v1/rollouts") => Operation::new("Brings an image that was uploaded to the devices of its board, in waves")
            .body(json_body(reference("RolloutRequest")))
            .answer("201", json_answer("It has begun", reference("Rollout"))),
        ("GET", "/v1/rollouts/{name}") => {
            Operation::new("A rollout, with each of its devices").answer("200", json_answer("It", reference("Rollout")))
        }
        ("POST", "/v1/rollouts/{name}/pause") => rollout_change("Offers the image to nobody else for now"),
        ("POST", "/v1/rollouts/{name}/resume") => rollout_change("Goes on with a rollout that was paused"),
        ("POST", "/v1/rollouts/{name}/abort") => rollout_change("Ends a rollout; what runs stays"),
        ("POST", "/v1/explain/placement") => Operation::new("Why a workload would be where, if something were otherwise")
            .body(json_body(reference("WhatIf")))
            .answer("200", json_answer("Reasons with stable codes, and text", reference("Explanation"))),
        ("POST", "/v1/devices/{name}/relocate") => device_change("Says where a device is, or takes that back")
            .body(json_body(reference("Relocation"))),
        ("POST", "/v1/devices/{name}/reject") => {
            Operation::new("Deletes a device that waits for its approval; its key may not join again")
                .answer("204", json!({"description": "Deleted"}))
        }
        ("POST", "/v1/devices/{name}/release") => device_change("Lets a device out of quarantine, for another try"),
        ("POST", "/v1/hub/hold") => hub_decision("Lets devices keep what they hold and the hub has forgotten"),
        ("POST", "/v1/hub/apply") => hub_decision("Gives devices this hub's sets, in place of what was forgotten"),
        ("POST", "/v1/hub/takeover") => Operation::new("Lets this hub go on, in place of a second one on a copy")
            .body(json_body(reference("HubTakeover")))
            .answer("200", json_answer("The hub's status", reference("HubStatus"))),
        ("GET", "/v1/rejections") => Operation::new("Lists the keys that may not join any more")
            .parameter(query(
                "limit",
                json!({"type": "integer", "minimum": 1, "maximum": crate::api::PAGE_MAX}),
                "Keys of a page",
            ))
            .parameter(query("continue", key_id(), "The metadata.continue of the page before"))
            .answer("200", json_answer("A page", reference("RejectionList"))),
        ("DELETE", "/v1/rejections/{id}") => Operation::new("Lets a rejected key join again")
            .answer("204", json!({"description": "It may"})),
        ("POST", "/v1/devices/{name}/decommission") => {
            device_change("Drains a device and deletes it when it holds nothing any more; at once with force")
                .body(json!({
                    "required": false, "content": {"application/json": {"schema": reference("Decommission")}},
                }))
                .answer("204", json!({"description": "Deleted at once"}))
        }
        ("GET", "/v1/namespaces/{namespace}/workloads/{name}/placement") => {
            Operation::new("Why a workload is where it is, or not on one device")
                .parameter(query("device", named(), "About this device alone"))
                .answer("200", json_answer("Reasons with stable codes, and text", reference("Explanation")))
        }
        ("GET", "/v1/namespaces/{namespace}/workloads/{name}/logs") => Operation::new("Lines of a workload")
            .parameter(query("device", named(), "Of this device alone"))
            .parameter(tail())
            .parameter(flag("follow", "Go on as server-sent events"))
            .answer("200", lines("Lines, oldest first", "LogLine")),
        ("GET", "/v1/devices/{name}/samples") => {
            Operation::new("What functions of a device raised, reported and measured, and what was lost of it")
                .parameter(query("key", json!({"type": "string"}), "Of this key alone; not of what follows"))
                .parameter(tail())
                .parameter(flag("follow", "Go on as server-sent events"))
                .answer("200", sample_lines())
        }
        ("GET", "/v1/events") => Operation::new("What happened lately, or a watch on it")
            .parameter(query("object", json!({"type": "string"}), "`kind/name`, `kind/namespace/name` or a name"))
            .parameter(tail())
            .parameter(flag("follow", "Go on as server-sent events"))
            .parameter(flag("watch", "Answer as a watch, with positions"))
            .parameter(query(
                "resourceVersion",
                json!({"type": "string", "pattern": "^[0-9]+\\.[0-9]+$"}),
                "With watch: the position to go on from",
            ))
            .answer("200", lines("Events, oldest first", "EventLine")),
        ("POST", "/v1/namespaces/{namespace}/artifacts/{name}") => {
            let digest = json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"});
            Operation::new("Stores a WebAssembly module as the newest version of an artifact")
                .parameter(query("digest", digest, "What the client computed; another content is refused"))
                .body(json!({"required": true, "content": {"application/wasm": {"schema": {"type": "string", "format": "binary"}}}}))
                .answer("201", json_answer("Stored", reference("UploadedArtifact")))
        }
        ("GET", "/v1/artifacts/{digest}/content") => Operation::new("The content of an artifact, in parts if asked")
            .parameter(json!({"name": "Range", "in": "header", "schema": {"type": "string", "pattern": "^bytes=[0-9]{1,15}-[0-9]{0,15}$"}}))
            .answer("200", bytes("All of it", "application/wasm"))
            .answer("206", bytes("The part", "application/wasm")),
        ("GET", "/v1/bodies/{digest}") => Operation::new("The body of a desired set, for devices")
            .answer("200", bytes("As it was signed", "application/octet-stream")),
        _ => return None,
    };
    Some(operation)
}
