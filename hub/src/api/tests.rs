//! The routes over a scripted engine, a real artifact directory and real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;
mod limits;

use super::*;
use crate::broker::{ClientName, Verdict};
use crate::engine::port::{Answer, HubStatus, Input, LogLine, Outcome, Position, Request, StreamItem};
use crate::engine::{CHANGES_MAX, OVERRIDES_MAX, PLAN_DOCUMENTS_MAX, REJECTIONS_MAX, WATCHERS_MAX};
use crate::grants::{Grant, Grants, token_text};
use crate::handle::{Handle, Inbox, Message, Switchboard};
use crate::keys::secret_hash;
use crate::model::TokenRole;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use wire::{DeviceId, Digest};

const TOKEN: &str = "fulmar-admin-test";
const WASM: &[u8] = b"\0asm\x01\0\0\0";

struct OneDevice(DeviceId);

impl Access for OneDevice {
    fn connect(&self, _: &str, user: &str, password: &[u8]) -> Verdict {
        if user == self.0.text().as_str() && password == b"secret" { Verdict::Allowed } else { Verdict::NotAuthorized }
    }

    fn publish(&self, _: &ClientName<'_>, _: &str, _: bool) -> bool {
        false
    }

    fn subscribe(&self, _: &ClientName<'_>, _: &str) -> bool {
        false
    }
}

/// A running API; stops when dropped.
struct Rig {
    address: SocketAddr,
    data: tempfile::TempDir,
    device: DeviceId,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<async_channel::Sender<()>>,
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

/// Answers like an engine that holds one workload and any artifact.
fn engine(inbox: Inbox, asked: Arc<Mutex<Vec<String>>>) {
    let mut board = Switchboard::default();
    while let Some(message) = smol::block_on(inbox.recv()) {
        let Some(input) = board.accept(message) else { break };
        asked.lock().unwrap().push(format!("{input:?}"));
        let Input::Request { ticket, request, .. } = input else { continue };
        let object =
            |outcome| Answer::Object { outcome, resource_version: 7, document: json!({"x": 1}), warnings: Vec::new() };
        let line = |text: &str| LogLine {
            time_ms: 1,
            device: "gw-1".into(),
            component: String::new(),
            level: "info".into(),
            text: text.into(),
            lost: 0,
        };
        match request {
            Request::Logs { .. } => {
                board.answer(ticket, Ok(Answer::Logs(vec![line("first")])));
                board.stream(ticket, StreamItem::Log(line("second")));
                board.stream(ticket, StreamItem::Dropped(2));
                board.stream(ticket, StreamItem::End);
            }
            Request::Status | Request::HubHold { .. } | Request::HubApply { .. } | Request::HubTakeover => {
                let status = HubStatus { link: true, writable: true, ..HubStatus::default() };
                board.answer(ticket, Ok(Answer::Status(status)));
            }
            Request::Measure => board.answer(ticket, Ok(Answer::Measures(Box::default()))),
            Request::List { .. } => {
                board.answer(
                    ticket,
                    Ok(Answer::List {
                        items: vec![json!({"a": 1})],
                        next: None,
                        resource_version: 7,
                        position: Position { incarnation: 3, sequence: 7 },
                    }),
                );
            }
            // As many bytes as the plan asks for.
            Request::PlanApply { plan } => {
                let text = "x".repeat(plan["bytes"].as_u64().map_or(0, |bytes| usize::try_from(bytes).unwrap() - 8));
                board.answer(ticket, Ok(Answer::Plan(json!({"a": text}))));
            }
            Request::Plan { .. } => board.answer(ticket, Ok(Answer::Plan(json!({})))),
            Request::Rejections { .. } => {
                let (next, position) = (Some("a".repeat(26)), Position { incarnation: 3, sequence: 7 });
                let items = vec![json!({"id": "x"})];
                board.answer(ticket, Ok(Answer::List { items, next, resource_version: 7, position }));
            }
            Request::RejectionLift { .. } => board.answer(ticket, Ok(Answer::Deleted)),
            Request::Delete { .. } => board.answer(ticket, Ok(Answer::Deleted)),
            Request::Put { .. } => board.answer(ticket, Ok(object(Outcome::Created))),
            _ => board.answer(ticket, Ok(object(Outcome::Read))),
        }
    }
}

impl Rig {
    fn start() -> Self {
        Self::with(ApiLimits::default())
    }

    fn with(limits: ApiLimits) -> Self {
        let data = tempfile::tempdir().unwrap();
        let device = DeviceId([9; 16]);
        let (handle, inbox) = Handle::new();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let grants = Arc::new(Grants::default());
        for (number, role) in [(1, TokenRole::Viewer), (2, TokenRole::Admin)] {
            let grant = Grant { name: format!("t{number}"), role, expires_ms: None };
            grants.put(secret_hash(token_text(&[number; 32]).as_bytes()), grant);
        }
        let grant = Grant { name: "old".to_owned(), role: TokenRole::Admin, expires_ms: Some(1) };
        grants.put(secret_hash(token_text(&[3; 32]).as_bytes()), grant);
        let api = Api {
            handle: handle.clone(),
            artifacts: crate::store::Artifacts::open(data.path()).unwrap(),
            access: Arc::new(OneDevice(device)),
            admin_sha256: secret_hash(TOKEN.as_bytes()),
            grants: grants.clone(),
            limits,
            metrics: Metrics::new(),
            tls: None,
            broker: Arc::new(BrokerMeasures::default),
            limiter: Arc::default(),
            answers: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = async_channel::bounded(1);
        let scripted = Arc::clone(&asked);
        let threads = vec![
            std::thread::spawn(move || engine(inbox, scripted)),
            std::thread::spawn(move || serve(listener, None, api, &stopped).unwrap()),
        ];
        Self { address, data, device, asked, stop: Some(stop), handle, threads }
    }

    fn send(&self, raw: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(raw);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Reply::parse(&bytes)
    }

    fn ask(&self, method: &str, path: &str, authorization: &str, body: &[u8]) -> Reply {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    fn admin(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        self.ask(method, path, &format!("Bearer {TOKEN}"), body)
    }

    fn device_basic(&self, password: &str) -> String {
        format!("Basic {}", data_encoding::BASE64.encode(format!("{}:{password}", self.device).as_bytes()))
    }

    fn artifacts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data.path().join("artifacts")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.take();
        let _ = self.handle.queue().send_blocking(Message::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no HTTP answer in {:?}", String::from_utf8_lossy(bytes));
        });
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[split + 4..].to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and code of a problem that is told in full.
    fn problem(&self) -> (u16, String) {
        let body = self.json();
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
        for member in ["type", "title", "detail", "code"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {body}");
        }
        assert_eq!(body["status"], self.status);
        (self.status, body["code"].as_str().unwrap().to_owned())
    }
}

fn concrete(path: &str) -> String {
    path.replace("{name}", "x")
        .replace("{namespace}", "default")
        .replace("{id}", &DeviceId([7; 16]).to_string())
        .replace("{digest}", &format!("sha256:{}", Digest::of(b"")))
}

fn verb(method: Method) -> &'static str {
    method.name()
}

#[test]
fn h3_every_route_of_the_table_asks_for_its_right() {
    // Many strangers from one address, however quick this machine is.
    let strangers = Rate { per_second: 10_000, burst: 10_000 };
    let rates = Rates { strangers, ..Rates::default() };
    let rig = Rig::with(ApiLimits { rates, ..ApiLimits::default() });
    for route in ROUTES {
        let (verb, path) = (verb(route.method), concrete(route.path));
        let basic = rig.device_basic("secret");
        let refused = |authorization: &str| {
            let reply = rig.ask(verb, &path, authorization, b"");
            matches!(reply.status, 401 | 403).then(|| reply.problem())
        };
        let unauthenticated = Some((401, "UNAUTHENTICATED".to_owned()));
        match route.right {
            Right::Anyone => assert_eq!(refused(""), None, "{verb} {path}"),
            Right::Device | Right::Viewer | Right::Admin => {
                let ended = format!("Bearer {}", token_text(&[3; 32]));
                let unknown = format!("Bearer {}", token_text(&[4; 32]));
                for wrong in ["", "Bearer", "Bearer wrong", "Basic !!", &rig.device_basic("guess"), &ended, &unknown] {
                    assert_eq!(refused(wrong), unauthenticated, "{verb} {path} with {wrong:?}");
                }
                let forbidden = || Some((403, "FORBIDDEN".to_owned()));
                let expected = (route.right != Right::Device).then(forbidden).flatten();
                assert_eq!(refused(&basic), expected, "{verb} {path} by a device");
                let viewer = format!("Bearer {}", token_text(&[1; 32]));
                let expected = (route.right == Right::Admin).then(forbidden).flatten();
                assert_eq!(refused(&viewer), expected, "{verb} {path} by a viewer");
                for admin in [format!("bearer {TOKEN}"), format!("Bearer {}", token_text(&[2; 32]))] {
                    assert_eq!(refused(&admin), None, "{verb} {path} by an administrator");
                }
            }
        }
    }
    assert_eq!(rig.admin("GET", "/v1/nothing", b"").problem(), (404, "NO_SUCH_ROUTE".to_owned()));
    assert_eq!(rig.admin("PUT", "/v1/status", b"").problem(), (405, "WRONG_METHOD".to_owned()));
}

/// Whatever is not in the table does not exist: each path takes its methods alone (HEAD goes with GET, under the same right).
#[test]
fn h3_no_route_is_outside_the_table() {
    let rig = Rig::start();
    for route in ROUTES {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"] {
            if ROUTES.iter().any(|other| other.path == route.path && other.method.name() == method) {
                continue;
            }
            for authorization in [format!("Bearer {TOKEN}"), String::new()] {
                let reply = rig.ask(method, &concrete(route.path), &authorization, b"");
                assert!(matches!(reply.status, 400 | 405), "{method} {}: {}", route.path, reply.status);
            }
        }
        if route.right != Right::Anyone && route.method == Method::Get {
            assert_eq!(rig.ask("HEAD", &concrete(route.path), "", b"").status, 401, "HEAD {}", route.path);
        }
    }
}

#[test]
fn whoami_tells_the_role_and_what_it_is_good_for() {
    let rig = Rig::start();
    let ask = |number: u8, query: &str| {
        let bearer = format!("Bearer {}", token_text(&[number; 32]));
        rig.ask("GET", &format!("/v1/whoami{query}"), &bearer, b"").json()
    };
    assert_eq!(ask(1, ""), json!({"name": "token/t1", "role": "viewer", "namespace": null}));
    for (query, viewer, admin) in [
        ("?can=list&kind=devices", true, true),
        ("?can=delete&kind=workload", false, true),
        ("?can=apply&kind=region", false, true),
        ("?can=drain&kind=device", false, true),
        ("?can=drain&kind=region", false, false),
        ("?can=delete&kind=placement", false, false),
    ] {
        assert_eq!(
            (ask(1, query)["allowed"].as_bool(), ask(2, query)["allowed"].as_bool()),
            (Some(viewer), Some(admin)),
            "{query}"
        );
    }
    for query in ["?can=list", "?can=fly&kind=device", "?can=get&kind=dragon", "?x=1"] {
        assert_eq!(ask(1, query)["status"], 422, "{query}");
    }
}

#[test]
fn h1_a_body_is_taken_at_its_limit_and_refused_beyond() {
    let rig = Rig::start();
    let padded = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8)).into_bytes();
    let path = "/v1/regions/r";
    assert_eq!(rig.admin("PUT", path, &padded(BODY_BYTES_MAX - 1)).status, 201);
    assert_eq!(rig.admin("PUT", path, &padded(BODY_BYTES_MAX)).status, 201);
    let over = rig.admin("PUT", path, &padded(BODY_BYTES_MAX + 1));
    assert_eq!(over.problem(), (413, "BODY_TOO_LARGE".to_owned()));
    assert_eq!(rig.admin("PUT", path, b"{").problem(), (400, "NOT_JSON".to_owned()));
    // In pieces, without a length.
    let mut raw = format!("PUT {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..=(BODY_BYTES_MAX / 1024) {
        raw.extend_from_slice(b"400\r\n");
        raw.extend_from_slice(&[b' '; 1024]);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(rig.send(&raw).problem(), (413, "BODY_TOO_LARGE".to_owned()));
}

#[test]
fn h1_a_plan_is_taken_at_its_own_limits_and_refused_beyond() {
    let rig = Rig::start();
    let post = |path: &str, body: &[u8], key: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n{key}Content-Length: {}\r\n\r\n",
            body.len()
        );
        rig.send(&[head.as_bytes(), body].concat()).status
    };
    let around = "{\"documents\":[\"\"]}".len();
    let documents = |bytes: usize| format!("{{\"documents\":[\"{}\"]}}", "x".repeat(bytes - around)).into_bytes();
    let sizes = |limit: usize| [limit - 1, limit, limit + 1];
    let at = |path: &str, limit: usize, key: &dyn Fn(usize) -> String| {
        sizes(limit).map(|bytes| post(path, &documents(bytes), &key(bytes)))
    };
    let none = |_: usize| String::new();
    let keyed = |bytes: usize| format!("Idempotency-Key: k{bytes}\r\n");
    assert_eq!(at("/v1/plans", PLAN_BYTES_MAX, &none), [200, 200, 413]);
    assert_eq!(at("/v1/plans/apply", SAVED_PLAN_BYTES_MAX, &none), [200, 200, 413]);
    assert_eq!(at("/v1/plans/apply", SAVED_PLAN_BYTES_MAX, &keyed), [200, 200, 413]);
    // Elsewhere a key lets nothing larger in: it is no join token's request, and one byte more is not read.
    assert_eq!(at("/v1/join-tokens", BODY_BYTES_MAX, &keyed), [422, 422, 413]);
    assert_eq!(rig.admin("POST", "/v1/plans", b"{}").problem(), (422, "INVALID".to_owned()));
    assert_eq!(rig.admin("POST", "/v1/plans", b"{\"documents\":[],\"x\":1}").problem().0, 422);
    assert_eq!(rig.admin("POST", "/v1/explain/placement", b"{\"workload\":1}").problem().0, 422);
    assert_eq!(rig.admin("POST", "/v1/explain/placement", b"{\"workload\":\"w\",\"near\":[8,91]}").problem().0, 422);
}

#[test]
fn urls_and_headers_have_a_limit() {
    let rig = Rig::start();
    let path = |length: usize| format!("/v1/status?{}", "x".repeat(length - "/v1/status?".len()));
    assert_eq!(rig.admin("GET", &path(URL_BYTES_MAX), b"").status, 200);
    assert_eq!(rig.admin("GET", &path(URL_BYTES_MAX + 1), b"").problem(), (414, "URL_TOO_LONG".to_owned()));
    // The rig's own header, and the one that fills up.
    let header = |length: usize| {
        let filled =
            "x".repeat(length - "host".len() - "t".len() - 4 - "connection".len() - "close".len() - 4 - "x".len() - 4);
        rig.send(format!("GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX: {filled}\r\n\r\n").as_bytes())
            .status
    };
    assert_eq!([HEADER_BYTES_MAX - 1, HEADER_BYTES_MAX, HEADER_BYTES_MAX + 1].map(header), [200, 200, 431]);
    assert_eq!(header(HEADER_BYTES_MAX * 4), 431, "beyond what is read at all");
}

#[test]
fn an_uploaded_module_is_read_back_in_parts_by_its_device() {
    let rig = Rig::start();
    let module = [WASM, b"rest"].concat();
    let digest = Digest::of(&module);
    let reply = rig.admin("POST", &format!("/v1/namespaces/default/artifacts/a?digest=sha256:{digest}"), &module);
    assert_eq!(reply.status, 201);
    assert_eq!(
        reply.json(),
        json!({"reference": format!("a@sha256:{digest}"), "digest": format!("sha256:{digest}"), "bytes": 12})
    );
    let path = format!("/v1/artifacts/sha256:{digest}/content");
    let basic = rig.device_basic("secret");
    let whole = rig.ask("GET", &path, &basic, b"");
    assert_eq!((whole.status, whole.body.as_slice()), (200, module.as_slice()));
    let ranged = |range: &str| {
        rig.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: {basic}\r\nRange: {range}\r\n\r\n").as_bytes())
    };
    let rest = ranged("bytes=8-");
    assert_eq!((rest.status, rest.body.as_slice()), (206, b"rest".as_slice()));
    assert!(rest.head.contains("bytes 8-11/12"), "{}", rest.head);
    assert_eq!(ranged("bytes=1-3").body, b"asm");
    assert_eq!(ranged("bytes=12-").problem(), (416, "RANGE".to_owned()));
    assert_eq!(ranged("bytes=3-1").status, 200);
    let missing = format!("/v1/artifacts/sha256:{}/content", Digest::of(b"other"));
    assert_eq!(rig.ask("GET", &missing, &basic, b"").problem(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(rig.ask("GET", "/v1/artifacts/..%2f/content", &basic, b"").problem().0, 422);
}

#[test]
fn a_bad_upload_leaves_nothing() {
    let rig = Rig::start();
    let path = "/v1/namespaces/default/artifacts/a";
    assert_eq!(rig.admin("POST", path, b"hello world").problem(), (422, "NOT_WASM".to_owned()));
    assert_eq!(rig.admin("POST", path, &WASM[..5]).problem(), (422, "NOT_WASM".to_owned()));
    let wrong = format!("{path}?digest=sha256:{}", Digest::of(b"other"));
    assert_eq!(rig.admin("POST", &wrong, WASM).problem(), (422, "WRONG_DIGEST".to_owned()));
    assert_eq!(rig.admin("POST", &format!("{path}?digest=md5:1"), WASM).problem().0, 422);
    let declared = |bytes: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {bytes}\r\n\r\n"
        )
    };
    let large = rig.send(declared(crate::store::ARTIFACT_BYTES_MAX + 1).as_bytes());
    assert_eq!(large.problem(), (413, "ARTIFACT_TOO_LARGE".to_owned()));
    // Cut in the middle: the client goes away after half of what it declared.
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.write_all(&[declared(16).as_bytes(), WASM].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    drop(stream);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !rig.artifacts().is_empty() {
        assert!(std::time::Instant::now() < deadline, "left behind: {:?}", rig.artifacts());
        std::thread::yield_now();
    }
    assert!(!rig.asked.lock().unwrap().iter().any(|asked| asked.contains("ArtifactPut")));
}

#[test]
fn followed_logs_come_as_events_until_their_end() {
    let rig = Rig::start();
    let reply = rig.admin("GET", "/v1/namespaces/default/workloads/w/logs?follow=true&tail=5", b"");
    let text = String::from_utf8(reply.body).unwrap();
    let order = ["\"text\":\"first\"", "\"text\":\"second\"", "event: dropped\ndata: {\"count\":2}", "event: end"];
    let mut at = 0;
    for part in order {
        at += text[at..].find(part).unwrap_or_else(|| panic!("{part} in order in {text}"));
    }
    let once = rig.admin("GET", "/v1/namespaces/default/workloads/w/logs", b"").json();
    assert_eq!(once["items"][0]["text"], "first");
    for (query, field) in [("tail=2001", "tail"), ("tail=x", "query"), ("nope=1", "query")] {
        let reply = rig.admin("GET", &format!("/v1/namespaces/default/workloads/w/logs?{query}"), b"");
        assert_eq!(reply.problem().0, 422, "{query}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(field), "{query}");
    }
}

#[test]
fn a_token_request_says_what_is_wrong_with_it() {
    let rig = Rig::start();
    for (body, pointer) in [
        (&b"[]"[..], ""),
        (b"{\"expiresIn\":5}", "/expiresIn"),
        (b"{\"expiresIn\":\"soon\"}", "/expiresIn"),
        (b"{\"approved\":true}", "/approved"),
    ] {
        let reply = rig.admin("POST", "/v1/join-tokens", body);
        assert_eq!(reply.problem(), (422, "INVALID".to_owned()));
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer);
    }
}

#[test]
fn a_device_is_relocated_rejected_and_decommissioned_by_words_of_its_own() {
    let rig = Rig::start();
    let post = |verb: &str, body: &[u8]| rig.admin("POST", &format!("/v1/devices/x/{verb}"), body);
    for body in [&b"{\"point\":[8.7,50.1]}"[..], b"{\"point\":[8.7,50.1],\"uncertaintyM\":5}", b"{\"reset\":true}"] {
        assert_eq!(post("relocate", body).status, 200);
    }
    for (body, pointer) in [
        (&b"{}"[..], "/point"),
        (b"{\"point\":[8.7,91]}", "/point"),
        (b"{\"point\":[8.7,50.1],\"reset\":true}", "/reset"),
        (b"{\"piont\":[8.7,50.1],\"reset\":false}", "/piont"),
    ] {
        let reply = post("relocate", body);
        assert_eq!(reply.problem(), (422, "INVALID".to_owned()));
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer);
    }
    for body in [&b""[..], b"{}", b"{\"force\":false}"] {
        assert_eq!(post("decommission", body).status, 200);
    }
    for body in [&b"[]"[..], b"{\"force\":1}", b"{\"force\":true,\"x\":1}"] {
        assert_eq!(post("decommission", body).problem().0, 422);
    }
    let asked = rig.asked.lock().unwrap().join("\n");
    assert!(asked.contains("change: Relocate(None)") && asked.contains("uncertainty_m: 5"), "{asked}");
}

#[test]
fn a_list_is_paged_and_selected() {
    let rig = Rig::start();
    let reply = rig.admin("GET", "/v1/devices?labelSelector=a%3D1,b&limit=500", b"").json();
    assert_eq!(
        (reply["kind"].as_str(), reply["metadata"]["resourceVersion"].as_str()),
        (Some("DeviceList"), Some("3.7"))
    );
    for query in ["limit=0", "limit=501", "labelSelector=%3D"] {
        assert_eq!(rig.admin("GET", &format!("/v1/devices?{query}"), b"").problem().0, 422, "{query}");
    }
    let etag = rig.admin("GET", "/v1/devices/x", b"").head;
    assert!(etag.contains("etag: \"7\""), "{etag}");
}

#[test]
fn rejected_keys_come_in_pages_and_are_let_in_by_their_id() {
    let rig = Rig::start();
    let id = DeviceId([7; 16]).to_string();
    let list = rig.admin("GET", &format!("/v1/rejections?limit=500&continue={id}"), b"").json();
    assert_eq!((list["kind"].as_str(), &list["metadata"]["continue"]), (Some("RejectionList"), &json!("a".repeat(26))));
    for query in ["limit=0", "limit=501", "continue=x", "x=1"] {
        assert_eq!(rig.admin("GET", &format!("/v1/rejections?{query}"), b"").problem().0, 422, "{query}");
    }
    assert_eq!(rig.admin("DELETE", &format!("/v1/rejections/{id}"), b"").status, 204);
    assert_eq!(rig.admin("DELETE", "/v1/rejections/gw-1", b"").problem(), (422, "INVALID".to_owned()));
    let viewer = format!("Bearer {}", token_text(&[1; 32]));
    assert_eq!(rig.ask("GET", "/v1/rejections", &viewer, b"").status, 200);
    assert_eq!(rig.ask("DELETE", &format!("/v1/rejections/{id}"), &viewer, b"").status, 403);
}

/// `docs/reference/api.md` is made from the table; `UPDATE_GOLDEN=1` rewrites it.
#[test]
fn the_reference_is_the_table() {
    let mut text = String::from(
        "# HTTP API\n\nMade from the route table; do not edit by hand. All paths answer JSON. Anything but success is\n\
         `application/problem+json` (RFC 9457) with `code`, `detail`, `errors[]` (JSON pointers) and `next[]`.\n\n\
         Rights: `viewer` and `admin` need `Authorization: Bearer <token>` with a token of that role (`POST /v1/tokens`; an admin may do what a\n\
         viewer may) or the one in `<data>/run/admin.token`, which is an admin; `device` also takes HTTP Basic with the device's id and\n\
         credential.\n\n| method | path | right |\n|---|---|---|\n",
    );
    for route in ROUTES {
        let right = match route.right {
            Right::Anyone => "anyone",
            Right::Device => "device",
            Right::Viewer => "viewer",
            Right::Admin => "admin",
        };
        text.push_str(&format!("| {} | `{}` | {right} |\n", verb(route.method), route.path));
    }
    text.push_str(
        "\nWrites take `If-Match` with an ETag (412 if the object moved on) and `?dryRun=server`; the header `Fulmar-Outcome` says\n\
         `created`, `updated` or `unchanged`, `Fulmar-Warning` repeats. `PATCH` applies a partial document\n\
         (`application/apply-patch+json`) as `?fieldManager=NAME`, with `force=true` over the fields of others (409 `FIELD_CONFLICT`);\n\
         `?showManagedFields=true` on a read shows who owns which fields. A `POST` with `Idempotency-Key` is done once: the answer to the\n\
         first is given again for 24 h, at most 1024 keys, until the hub restarts (422 `KEY_REUSED` with another body); uploads need none. Lists take `labelSelector`, `fieldSelector` (`status.online.state=Online,spec.cordoned!=true`), `limit` and `continue`;\n\
         devices also `within=<region>` and `near=<lon>,<lat>,<km>`, devices and regions `format=geojson`.\n\
         With `watch=true` a list answers server-sent events `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` and, when the hub ends it,\n\
         `END` with a problem; `resourceVersion=<position>` or `Last-Event-ID` resumes, 410 `WATCH_EXPIRED` says to list again.\n\
         Logs and events take `tail`, and with `follow=true` answer server-sent events: `log`, `event`, `dropped`, `end`.\n\n\
         All limits, and what happens beyond them, are in [limits.md](limits.md).\nOver its rate a caller gets 429 with `Retry-After`; others do not notice.\n",
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/api.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, text, "run with UPDATE_GOLDEN=1 and read the difference");
}
