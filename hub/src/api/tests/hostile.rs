//! Clients that are slow, greedy or lie: each meets its limit, and the others go on being served.
use super::*;
use std::time::Instant;

fn put(length: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "PUT /v1/regions/r HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n{length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn chunked(bytes: usize) -> Vec<u8> {
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let mut raw = put("Transfer-Encoding: chunked", b"");
    for piece in body.as_bytes().chunks(1000) {
        raw.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        raw.extend_from_slice(piece);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    raw
}

#[test]
fn h1_a_body_without_a_length_meets_the_same_limit() {
    let rig = Rig::start();
    let sizes = [BODY_BYTES_MAX - 1, BODY_BYTES_MAX, BODY_BYTES_MAX + 1];
    assert_eq!(sizes.map(|size| rig.send(&chunked(size)).status), [201, 201, 413]);
}

#[test]
fn h1_a_content_length_that_lies_harms_nobody() {
    let rig = Rig::start();
    // Declared too large: refused before it is read.
    let declared = format!("Content-Length: {}", BODY_BYTES_MAX + 1);
    assert_eq!(rig.send(&put(&declared, b"{}")).problem(), (413, "BODY_TOO_LARGE".to_owned()));
    // Less than declared: the connection ends inside the body.
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.write_all(&put("Content-Length: 100", b"{}")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || Reply::parse(&answer).status == 400);
    // More than declared: the rest is no part of this request.
    assert_eq!(rig.send(&put("Content-Length: 2", b"{}GET / HTTP/1.1\r\n\r\n")).status, 201);
    for nonsense in ["Content-Length: -1", "Content-Length: 1e3", "Content-Length: 2\r\nContent-Length: 3"] {
        assert_eq!(rig.send(&put(nonsense, b"{}")).status, 400, "{nonsense}");
    }
    let writes = rig.asked.lock().unwrap().iter().filter(|asked| asked.contains("Put {")).count();
    assert_eq!(writes, 1);
    assert_eq!(rig.admin("GET", "/v1/status", b"").status, 200);
}

/// Sends a byte every now and then to each stream until the server has closed it; serves others meanwhile.
fn drip(rig: &Rig, streams: Vec<TcpStream>, byte: u8) {
    let mut open: Vec<TcpStream> = streams
        .into_iter()
        .inspect(|stream| stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap())
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "{} slow clients are still connected", open.len());
        assert_eq!(rig.admin("GET", "/v1/status", b"").status, 200, "others are served");
        open.retain_mut(|stream| {
            let _ = stream.write_all(&[byte]);
            match stream.read(&mut [0; 1024]) {
                Ok(0) => false,
                Ok(_) => true,
                Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
            }
        });
    }
}

#[test]
fn h4_clients_that_never_finish_their_headers_are_closed_and_others_are_served() {
    let rig = Rig::with(ApiLimits { header_timeout: Duration::from_secs(1), ..ApiLimits::default() });
    let slow = |_| {
        let mut stream = TcpStream::connect(rig.address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\nX: ").unwrap();
        stream
    };
    drip(&rig, (0..200).map(slow).collect(), b'x');
}

#[test]
fn h4_clients_that_never_finish_their_bodies_are_closed_and_others_are_served() {
    let rig = Rig::with(ApiLimits { body_timeout: Duration::from_secs(1), ..ApiLimits::default() });
    let slow = |_| {
        let mut stream = TcpStream::connect(rig.address).unwrap();
        stream.write_all(&put("Content-Length: 60000", b"")).unwrap();
        stream
    };
    drip(&rig, (0..100).map(slow).collect(), b' ');
}

#[test]
fn the_default_timeouts_are_ten_seconds() {
    let limits = ApiLimits::default();
    assert_eq!([limits.header_timeout, limits.body_timeout], [Duration::from_secs(10); 2]);
}

#[test]
fn h5_a_greedy_caller_is_told_to_wait_and_others_are_not() {
    let tight = Rate { per_second: 1, burst: 20 };
    let rates = Rates { reads: tight, strangers: tight, ..Rates::default() };
    let rig = Rig::with(ApiLimits { rates, ..ApiLimits::default() });
    let path = format!("/v1/bodies/sha256:{}", Digest::of(b""));
    let device = rig.device_basic("secret");
    let ask = |authorization: &str| rig.ask("GET", &path, authorization, b"");
    let refused = (0..200).map(|_| ask(&device)).find(|reply| reply.status == 429).expect("the burst ends");
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".to_owned()));
    let wait = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("says when");
    assert!((1..=2).contains(&wait.trim().parse::<u64>().unwrap()), "{wait}");
    for _ in 0..50 {
        assert_ne!(rig.admin("GET", "/v1/status", b"").status, 429, "another token is not affected");
    }
    // Who shows no credentials is counted by address, and cannot lock out those who do.
    let guess = (0..200).map(|_| ask("Bearer guess")).find(|reply| reply.status == 429);
    assert!(guess.is_some());
    assert_eq!(rig.admin("GET", "/v1/status", b"").status, 200);
}

fn upload(length: &str, query: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/namespaces/default/artifacts/a{query} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n{length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn h11_an_upload_that_is_cut_wrong_or_too_large_leaves_nothing() {
    let limit = 64 * 1024;
    let rig = Rig::with(ApiLimits { artifact_bytes_max: limit, ..ApiLimits::default() });
    let module = |bytes: u64| {
        let mut module = WASM.to_vec();
        module.resize(usize::try_from(bytes).unwrap(), 0);
        module
    };
    let left = || rig.artifacts();
    // Cut at half of what was declared.
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.write_all(&upload(&format!("Content-Length: {limit}"), "", &module(limit / 2))).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:?}", left());
        std::thread::yield_now();
    }
    // Another hash than was announced.
    let wrong = format!("?digest=sha256:{}", Digest::of(b"other"));
    let reply = rig.send(&upload("Content-Length: 8", &wrong, &module(8)));
    assert_eq!((reply.problem(), left()), ((422, "WRONG_DIGEST".to_owned()), vec![]));
    // Over the limit, declared and not.
    let reply = rig.send(&upload(&format!("Content-Length: {}", limit + 1), "", b""));
    assert_eq!((reply.problem(), left()), ((413, "ARTIFACT_TOO_LARGE".to_owned()), vec![]));
    let pieces = |bytes: u64| {
        let mut raw = upload("Transfer-Encoding: chunked", "", b"");
        for piece in module(bytes).chunks(4096) {
            raw.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            raw.extend_from_slice(piece);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\n\r\n");
        raw
    };
    let reply = rig.send(&pieces(limit + 1));
    assert_eq!((reply.problem(), left()), ((413, "ARTIFACT_TOO_LARGE".to_owned()), vec![]));
    assert!(!rig.asked.lock().unwrap().iter().any(|asked| asked.contains("ArtifactPut")), "nothing became visible");
    for bytes in [limit - 1, limit] {
        assert_eq!(rig.send(&pieces(bytes)).status, 201, "{bytes}");
    }
}

#[test]
fn a_full_disk_is_507_for_an_upload() {
    use axum::response::IntoResponse as _;
    let refused = super::super::problem::Refused::from(crate::store::ArtifactError::DiskFull);
    assert_eq!(refused.into_response().status().as_u16(), 507);
}

fn keyed(path: &str, key: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[test]
fn h7_a_request_that_is_sent_again_after_a_cut_is_done_once() {
    let rig = Rig::start();
    let path = "/v1/devices/x/cordon";
    let done = || rig.asked.lock().unwrap().iter().filter(|asked| asked.contains("DeviceChange")).count();
    // The client goes away without an answer.
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.write_all(&keyed(path, "k1", "")).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(60);
    let again = loop {
        let reply = rig.send(&keyed(path, "k1", ""));
        if reply.status == 200 {
            break reply;
        }
        assert_eq!(reply.problem(), (409, "IN_PROGRESS".to_owned()));
        assert!(Instant::now() < deadline);
    };
    for _ in 0..3 {
        let reply = rig.send(&keyed(path, "k1", ""));
        assert_eq!((reply.status, &reply.body), (200, &again.body));
        assert!(reply.head.contains("idempotency-replayed: true"), "{}", reply.head);
    }
    assert_eq!(done(), 1);
    assert_eq!(rig.send(&keyed(path, "k1", "{}")).problem(), (422, "KEY_REUSED".to_owned()));
    assert_eq!(rig.send(&keyed(path, "", "")).problem(), (400, "BAD_KEY".to_owned()));
    assert_eq!(rig.send(&keyed(path, &"k".repeat(129), "")).problem(), (400, "BAD_KEY".to_owned()));
    assert_eq!(rig.send(&keyed(path, "k2", "")).status, 200);
    assert_eq!(done(), 2, "another key is another request");
    for n in 0..IDEMPOTENCY_KEYS_MAX + 5 {
        assert_eq!(rig.send(&keyed(path, &format!("many{n}"), "")).status, 200);
    }
    assert_eq!(rig.send(&keyed(path, "k1", "")).status, 200, "the oldest was forgotten, and is done again");
}
