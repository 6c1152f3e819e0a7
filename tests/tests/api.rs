//! A real hub over HTTP: what a watching client was told is what a list shows, across lost connections and a restart; and what
//! tokens are good for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use tests::harness::{Agent, Hub, PATIENCE, Workload, wait_until};

const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

/// One server-sent event.
#[derive(Clone, Debug)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

/// An open stream, read by a thread of its own. Dropping it hangs up.
struct Stream {
    status: u16,
    socket: TcpStream,
    events: Receiver<Event>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn address(hub: &Hub) -> String {
    // Written last, when the API answers already.
    let text = wait_until("the hub says where it is", || std::fs::read(hub.data().join("run/endpoints.json")));
    let endpoints: Value = serde_json::from_slice(&text).unwrap();
    endpoints["api"].as_str().unwrap().trim_start_matches("http://").to_owned()
}

impl Stream {
    fn open(hub: &Hub, path: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(address(hub)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let resume = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\n{resume}\r\n", hub.token())
            .unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        let head = lines.next().unwrap().unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let (mut id, mut name) = (None, String::new());
            // What lies between is the framing of HTTP.
            for line in lines.map_while(Result::ok) {
                if let Some(text) = line.strip_prefix("id: ") {
                    id = Some(text.to_owned());
                } else if let Some(text) = line.strip_prefix("event: ") {
                    text.clone_into(&mut name);
                } else if let Some(text) = line.strip_prefix("data: ") {
                    let data = serde_json::from_str(text).unwrap();
                    let event = Event { id: id.take(), name: std::mem::take(&mut name), data };
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Self { status, socket, events }
    }
}

/// What a client has by what it was told.
#[derive(Default)]
struct Picture {
    objects: BTreeMap<String, Value>,
    last: Option<String>,
    resumed: u32,
    ended: Option<Value>,
}

impl Picture {
    fn take(&mut self, event: Event) {
        let name = event.data["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match event.name.as_str() {
            "ADDED" | "MODIFIED" => drop(self.objects.insert(name, event.data)),
            "DELETED" => drop(self.objects.remove(&name)),
            "BOOKMARK" => {}
            "END" => self.ended = Some(event.data),
            other => panic!("{other}: {}", event.data),
        }
        self.last = event.id.or(self.last.take());
    }

    fn drain(&mut self, stream: &Stream) {
        while let Ok(event) = stream.events.try_recv() {
            self.take(event);
        }
    }
}

fn listed(hub: &Hub, path: &str) -> BTreeMap<String, Value> {
    let list = hub.get(path);
    let items = list["items"].as_array().unwrap().clone();
    items.into_iter().map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item)).collect()
}

fn region(name: &str, radius: u32, even: bool) -> Value {
    json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": name, "labels": {"even": even.to_string()}},
        "spec": {"circle": {"center": [8.6, 50.1], "radiusKm": radius}}})
}

#[test]
fn what_was_told_is_what_a_list_shows_also_across_lost_connections() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let paths = [
        "/v1/regions?",
        "/v1/regions?labelSelector=even%3Dtrue&",
        "/v1/regions?fieldSelector=spec.circle.radiusKm!=7.0&",
    ];
    let watched = paths.map(|path| format!("{path}watch=true"));
    let mut pictures: [Picture; 3] = Default::default();
    let mut streams: Vec<Stream> = watched.iter().map(|path| Stream::open(&hub, path, None)).collect();
    // A walk over forty names that makes, changes and deletes them, and takes labels back and forth.
    let mut there = [false; 40];
    for step in 0..400_u32 {
        let at = usize::try_from(step * 17 % 40).unwrap();
        let path = format!("/v1/regions/r{at}");
        if there[at] && step % 3 == 0 {
            hub.delete(&path);
            there[at] = false;
        } else {
            hub.put(&path, &region(&format!("r{at}"), step % 9 + 1, step % 2 == 0));
            there[at] = true;
        }
        for ((picture, stream), path) in pictures.iter_mut().zip(&mut streams).zip(&watched) {
            picture.drain(stream);
            // Every now and then the line is cut; the client goes on where it was.
            if step % 50 == 49 && picture.last.is_some() {
                *stream = Stream::open(&hub, path, picture.last.as_deref());
                assert_eq!(stream.status, 200);
                picture.resumed += 1;
            }
        }
    }
    for ((picture, stream), path) in pictures.iter_mut().zip(&streams).zip(paths) {
        let expected = listed(&hub, path);
        wait_until(&format!("{path} was told in full"), || {
            picture.drain(stream);
            if picture.objects == expected { Ok(()) } else { Err((picture.objects.len(), expected.len())) }
        });
        assert!(picture.resumed > 3, "{path} resumed {} times", picture.resumed);
        assert!(picture.ended.is_none());
    }
}

#[test]
fn status_is_told_and_after_a_restart_the_position_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    let stream = Stream::open(&hub, "/v1/workloads?watch=true", None);
    let devices = Stream::open(&hub, "/v1/devices?watch=true", None);
    let _agent = Agent::join(directory.path(), &hub, "gw-1", (8.6821, 50.1109));
    hub.deploy(&Workload::new("hello").every("100ms").config("the test"), HELLO);
    let mut picture = Picture::default();
    wait_until("the watch tells that the workload is healthy", || {
        picture.drain(&stream);
        let conditions = picture.objects.get("hello").map(|object| object["status"]["conditions"].clone());
        let is_healthy = |condition: &Value| condition["type"] == "Healthy" && condition["status"] == "True";
        let list = conditions.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
        if list.iter().any(is_healthy) { Ok(()) } else { Err(conditions) }
    });
    let mut fleet = Picture::default();
    wait_until("the watch tells that the device is online", || {
        fleet.drain(&devices);
        let state = fleet.objects.get("gw-1").map(|object| object["status"]["online"]["state"].clone());
        if state == Some(json!("Online")) { Ok(()) } else { Err(state) }
    });
    let position = hub.get("/v1/workloads")["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let last = picture.last.clone().unwrap();
    hub.kill();
    hub.run();
    for resume in [position, last] {
        assert_eq!(Stream::open(&hub, "/v1/workloads?watch=true", Some(&resume)).status, 410);
        assert_eq!(Stream::open(&hub, &format!("/v1/workloads?watch=true&resourceVersion={resume}"), None).status, 410);
    }
    // Listed again, it goes on.
    let position = hub.get("/v1/workloads")["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_eq!(Stream::open(&hub, "/v1/workloads?watch=true", Some(&position)).status, 200);
}

/// Status of a request with a token.
fn asked(hub: &Hub, method: &str, path: &str, token: &str, body: &str) -> u16 {
    let mut socket = TcpStream::connect(address(hub)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let head = BufReader::new(socket).lines().next().unwrap().unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_viewer_reads_and_changes_nothing_until_its_token_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    let wanted = |name: &str, role: &str| json!({"apiVersion": "fulmar/v1", "kind": "Token", "metadata": {"name": name}, "spec": {"role": role}});
    let make = |hub: &Hub, name: &str, role: &str| {
        let made = hub.post("/v1/tokens", wanted(name, role).to_string().as_bytes());
        made["status"]["token"].as_str().unwrap().to_owned()
    };
    let (viewer, admin) = (make(&hub, "look", "viewer"), make(&hub, "ops", "admin"));
    let document = region("r", 5, true).to_string();
    for _ in 0..2 {
        let ask = |method: &str, path: &str, token: &str, body: &str| asked(&hub, method, path, token, body);
        assert_eq!(ask("PUT", "/v1/regions/r", &viewer, &document), 403);
        let put = ask("PUT", "/v1/regions/r", &admin, &document);
        assert!(matches!(put, 200 | 201), "{put}");
        assert_eq!(ask("GET", "/v1/regions/r", &viewer, ""), 200);
        assert_eq!(ask("GET", "/metrics", &viewer, ""), 200);
        assert_eq!(ask("DELETE", "/v1/tokens/ops", &viewer, ""), 403);
        assert_eq!(ask("GET", "/v1/regions/r", "fulmar_guess", ""), 401);
        // Tokens are there after a restart too.
        hub.kill();
        hub.run();
    }
    let listed = hub.get("/v1/tokens").to_string();
    assert!(listed.contains("look") && listed.contains("ops"), "{listed}");
    assert!(!listed.contains(&viewer) && !listed.contains(&admin), "no secret is shown again");
    for file in std::fs::read_dir(hub.data()).unwrap().filter_map(|entry| std::fs::read(entry.unwrap().path()).ok()) {
        let is_inside = |secret: &str| file.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!is_inside(&viewer) && !is_inside(&admin), "no secret is stored");
    }
    hub.delete("/v1/tokens/look");
    wait_until("the token is refused", || match asked(&hub, "GET", "/v1/regions/r", &viewer, "") {
        401 => Ok(()),
        other => Err(other),
    });
}

fn text_of(hub: &Hub, raw: &[u8]) -> (u16, String) {
    let mut socket = TcpStream::connect(address(hub)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The hub may refuse and close before it has read everything.
    let _ = socket.write_all(raw);
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut socket, &mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer in {text:?}")), text)
}

fn put_raw(hub: &Hub, path: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        hub.token(),
        body.len()
    );
    text_of(hub, &[head.as_bytes(), body].concat())
}

#[test]
fn h2_json_that_is_none_or_too_deep_is_refused_and_the_hub_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let keys: String = (0..1_000_000).map(|n| format!("\"k{n}\":1,")).collect();
    let many = format!("{{{}\"z\":1}}", keys).into_bytes();
    for (body, expected) in [
        (deep, 400),
        (many, 413),
        (b"{\"a\": NaN}".to_vec(), 400),
        (b"{\"kind\":\"Region\",\"kind\":\"Region\"}".to_vec(), 400),
        (b"{\"a\":\"\\ud800\"}".to_vec(), 400),
        (vec![b'"', 0xff, 0xfe, b'"'], 400),
        (b"null".to_vec(), 422),
        (b"[]".to_vec(), 422),
    ] {
        let (status, text) = put_raw(&hub, "/v1/regions/r", &body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(status, expected, "{shown}: {text}");
        assert!(text.contains("application/problem+json"), "{shown}");
    }
    hub.put("/v1/regions/r", &region("r", 1, true));
}

#[test]
fn h6_of_many_who_change_one_version_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    hub.put("/v1/regions/r", &region("r", 1, true));
    let rounds = 5;
    for round in 0..rounds {
        let version = hub.get("/v1/regions/r")["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let (token, address) = (hub.token(), address(&hub));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = |number: u32| {
                let (token, address, version) = (&token, &address, &version);
                scope.spawn(move || {
                    let body = region("r", 100 * (round + 1) + number, true).to_string();
                    let mut socket = TcpStream::connect(address).unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    write!(
                        socket,
                        "PUT /v1/regions/r HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nIf-Match: \"{version}\"\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .unwrap();
                    let head = BufReader::new(socket).lines().next().unwrap().unwrap();
                    head.split(' ').nth(1).unwrap().parse().unwrap()
                })
            };
            let asked: Vec<_> = (0..100).map(ask).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let count = |status: u16| statuses.iter().filter(|other| **other == status).count();
        assert_eq!((count(200), count(412)), (1, 99), "round {round}");
    }
    assert_eq!(hub.get("/v1/regions/r")["metadata"]["generation"], rounds + 1);
    hub.kill();
    let database = std::fs::read_dir(hub.data()).unwrap().map(|entry| entry.unwrap().path());
    let database = database.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
    let connection = rusqlite::Connection::open(database).unwrap();
    let rows: u32 =
        connection.query_row("SELECT count(*) FROM audit WHERE object = 'region/r'", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, rounds + 1, "one row for each change that won");
}

#[test]
fn h8_names_that_are_none_are_refused_wherever_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let long = "x".repeat(64);
    for name in ["../x", "a;rm -rf", "$(id)", long.as_str(), "r\u{430}y", "R", "-x", "a b", "a\0b", "%2e%2e"] {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let document = region(name, 1, true).to_string();
        let (status, text) = put_raw(&hub, &format!("/v1/regions/{encoded}"), document.as_bytes());
        assert_eq!(status, 422, "{name:?}: {text}");
        for path in
            [format!("/v1/namespaces/default/artifacts/{encoded}"), format!("/v1/namespaces/{encoded}/artifacts/a")]
        {
            let (status, answer) = hub.try_post(&path, b"\0asm\x01\0\0\0");
            assert!(matches!(status, 404 | 422), "{path}: {status} {answer}");
        }
        let token =
            json!({"apiVersion": "fulmar/v1", "kind": "Token", "metadata": {"name": name}, "spec": {"role": "viewer"}});
        assert_eq!(hub.try_post("/v1/tokens", token.to_string().as_bytes()).0, 422, "{name:?}");
    }
    // What is on the disk is named by hashes alone.
    let files = std::fs::read_dir(hub.data().join("artifacts")).unwrap();
    for file in files.map(|file| file.unwrap().file_name().into_string().unwrap()) {
        assert!(file.bytes().all(|b| b.is_ascii_hexdigit() || b == b'.' || b == b'-'), "{file}");
    }
    assert!(hub.get("/v1/artifacts")["items"].as_array().unwrap().is_empty());
}

#[test]
fn h9_geometry_is_right_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let shaped =
        |spec: Value| json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": "r"}, "spec": spec});
    let circle = |point: Value, km: f64| shaped(json!({"circle": {"center": point, "radiusKm": km}}));
    let polygon = |ring: Value| shaped(json!({"geometry": {"type": "Polygon", "coordinates": [ring]}}));
    for refused in [
        circle(json!([8.6, 91.0]), 1.0),
        circle(json!([181.0, 0.0]), 1.0),
        circle(json!([8.6]), 1.0),
        circle(json!([8.6, 50.1]), 0.0),
        circle(json!([8.6, 50.1]), -1.0),
        circle(json!([8.6, 50.1]), 1e300),
        polygon(json!([[0, 0], [1, 1], [0, 0]])),
        polygon(json!([[0, 0], [1, 0], [2, 0], [0, 0]])),
        polygon(json!([[0, 0], [1, 0], [1, 1]])),
    ] {
        let (status, answer) = hub.try_put("/v1/regions/r", &refused);
        assert_eq!(status, 422, "{refused}: {answer}");
        assert!(answer["errors"][0]["pointer"].as_str().unwrap().starts_with("/spec"), "{answer}");
    }
    // More positions than a body holds, and not a number.
    let ring: Vec<[f64; 2]> = (0..100_000).map(|n| [f64::from(n) / 1e4, 1.0]).collect();
    assert_eq!(put_raw(&hub, "/v1/regions/r", polygon(json!(ring)).to_string().as_bytes()).0, 413);
    let (status, _) =
        put_raw(&hub, "/v1/regions/r", circle(json!([8.6, 50.1]), 1.0).to_string().replace("8.6", "NaN").as_bytes());
    assert_eq!(status, 400);
    // Over the antimeridian: cut in two where it is drawn.
    hub.put("/v1/regions/r", &polygon(json!([[170, -10], [-170, -10], [-170, 10], [170, 10], [170, -10]])));
    let drawn = hub.get("/v1/regions?format=geojson");
    assert_eq!(drawn["features"][0]["geometry"]["type"], "MultiPolygon");
    // A ring that crosses itself has an answer by the even-odd rule.
    hub.put("/v1/regions/r", &polygon(json!([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]])));
}

#[test]
fn h10_what_cannot_be_fulfilled_says_why_and_what_makes_no_sense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    hub.deploy(&Workload::new("hello").placed(json!({"labels": {"nowhere": "true"}})), HELLO);
    let waiting = hub.wait_workload("hello", "is judged", |workload| workload["status"]["shortfall"].is_object());
    assert_eq!(waiting["status"]["shortfall"]["missing"], 1);
    assert!(!waiting["status"]["shortfall"]["reason"].as_str().unwrap().is_empty());
    let mut spec = waiting["spec"].clone();
    let document = |spec: &Value| json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "hello"}, "spec": spec});
    let mut refused = |pointer: &str, value: Value| {
        let before = spec.pointer(pointer).cloned();
        *spec.pointer_mut(pointer).unwrap() = value.clone();
        let (status, answer) = hub.try_put("/v1/namespaces/default/workloads/hello", &document(&spec));
        assert_eq!(status, 422, "{pointer} = {value}: {answer}");
        *spec.pointer_mut(pointer).unwrap() = before.unwrap();
    };
    refused("/replicas", json!(4_294_967_296_u64));
    refused("/replicas", json!(-1));
    refused("/function/limits/memory", json!("0B"));
    refused("/function/limits/memory", json!("-1B"));
    refused("/function/limits/memory", json!("1000GiB"));
    refused("/function/limits/fuel", json!(0));
    // Components that wait for each other.
    let artifact = waiting["spec"]["artifact"].clone();
    let component =
        |name: &str, after: &str| json!({"name": name, "after": [after], "type": "function", "artifact": artifact});
    let circle = json!({"type": "function", "components": [component("a", "b"), component("b", "a")], "placement": {"labels": {"x": "y"}}});
    let (status, answer) = hub.try_put(
        "/v1/namespaces/default/workloads/circle",
        &json!({
            "apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": "circle"}, "spec": circle,
        }),
    );
    assert_eq!(status, 422, "{answer}");
}
