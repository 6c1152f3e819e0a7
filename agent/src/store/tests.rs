//! The store against a tiny HTTP server that can be told to misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// How the server answers one request.
#[derive(Clone, Copy)]
enum Answer {
    /// All that was asked for, ranges honoured.
    Serve,
    /// The same, cut after so many bytes of the body.
    CutAfter(usize),
    /// All, whatever range was asked for.
    IgnoreRange,
    /// Without a length, so that only the end of the connection says that it is over.
    WithoutLength,
    Status(u16),
}

/// A request as far as the tests look at it.
struct Seen {
    path: String,
    range: Option<String>,
    authorization: Option<String>,
}

struct Server {
    address: String,
    answers: Sender<(Answer, Vec<u8>)>,
    seen: Receiver<Seen>,
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut seen = Seen { path, range: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.range = Some(value.to_owned()),
            "authorization" => seen.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(seen)
}

fn respond(mut stream: &TcpStream, answer: Answer, content: &[u8], range: Option<&str>) -> io::Result<()> {
    let offset: usize = range
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .filter(|_| !matches!(answer, Answer::IgnoreRange))
        .unwrap_or(0);
    if let Answer::Status(status) = answer {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if offset > 0 && offset >= content.len() {
        return write!(stream, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let body = &content[offset..];
    if offset > 0 {
        let (last, total) = (content.len() - 1, content.len());
        write!(stream, "HTTP/1.1 206 Part\r\nContent-Range: bytes {offset}-{last}/{total}\r\n")?;
    } else {
        write!(stream, "HTTP/1.1 200 OK\r\n")?;
    }
    if !matches!(answer, Answer::WithoutLength) {
        write!(stream, "Content-Length: {}\r\n", body.len())?;
    }
    write!(stream, "Connection: close\r\n\r\n")?;
    let end = if let Answer::CutAfter(count) = answer { count.min(body.len()) } else { body.len() };
    stream.write_all(&body[..end])
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (answers, script) = channel::<(Answer, Vec<u8>)>();
        let (report, seen) = channel();
        std::thread::spawn(move || {
            // Ends with the test, which drops the script.
            while let Ok((answer, content)) = script.recv() {
                let Ok((stream, _)) = listener.accept() else { return };
                let Some(request) = read_request(&stream) else { continue };
                let _ = respond(&stream, answer, &content, request.range.as_deref());
                if report.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, answers, seen }
    }

    fn will(&self, answer: Answer, content: &[u8]) {
        self.answers.send((answer, content.to_vec())).unwrap();
    }

    fn account(&self) -> Account {
        Account {
            address: format!("{}/", self.address),
            user: "dev".to_owned(),
            password: "pass".to_owned(),
            authority: None,
        }
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

struct World {
    server: Server,
    store: Store,
    directory: tempfile::TempDir,
}

fn world(bytes_max: u64) -> World {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::open(directory.path(), bytes_max, Spare::Delete).unwrap());
    let store = Store::on(&shelf, bytes_max, Some(server.account()));
    World { server, store, directory }
}

impl World {
    fn fetch(&self, content: &[u8]) -> Result<(), FetchFailure> {
        self.store.fetch(&Digest::of(content), content.len() as u32, Source::Anywhere)
    }

    fn files(&self) -> Vec<String> {
        fs::read_dir(self.directory.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn an_artifact_is_fetched_as_this_device_and_then_found() {
    let world = world(1 << 20);
    let bytes = content(200_000);
    let digest = Digest::of(&bytes);
    assert_eq!(world.store.fetch(&digest, 200_000, Source::Store), Err(FetchFailure::Absent));
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Ok(()));
    let seen = world.server.seen.recv().unwrap();
    assert_eq!(seen.path, format!("/v1/artifacts/sha256:{digest}/content"));
    assert_eq!(seen.authorization.as_deref(), Some("Basic ZGV2OnBhc3M="));
    assert_eq!(seen.range, None);
    assert_eq!(world.store.fetch(&digest, 200_000, Source::Store), Ok(()));
    assert_eq!(world.store.read(&digest, 200_000).unwrap(), bytes);
    assert_eq!(world.files(), [digest.text().as_str()]);
}

#[test]
fn a_cut_fetch_goes_on_where_it_was_cut() {
    let world = world(1 << 20);
    let bytes = content(300_000);
    world.server.will(Answer::CutAfter(120_000), &bytes);
    assert_eq!(world.fetch(&bytes), Err(FetchFailure::Unreachable));
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Ok(()));
    assert_eq!(world.server.seen.recv().unwrap().range, None);
    assert_eq!(world.server.seen.recv().unwrap().range.as_deref(), Some("bytes=120000-"));
    assert_eq!(world.store.read(&Digest::of(&bytes), 300_000).unwrap(), bytes);
}

#[test]
fn a_source_without_ranges_starts_again() {
    let world = world(1 << 20);
    let bytes = content(300_000);
    world.server.will(Answer::CutAfter(100_000), &bytes);
    assert_eq!(world.fetch(&bytes), Err(FetchFailure::Unreachable));
    world.server.will(Answer::IgnoreRange, &bytes);
    assert_eq!(world.fetch(&bytes), Ok(()));
}

#[test]
fn wrong_bytes_of_the_right_length_are_refused_and_removed() {
    let world = world(1 << 20);
    let bytes = content(5_000);
    let mut wrong = bytes.clone();
    wrong[4_999] ^= 1;
    world.server.will(Answer::Serve, &wrong);
    assert_eq!(world.fetch(&bytes), Err(FetchFailure::HashMismatch));
    assert_eq!(world.files(), [""; 0]);
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Ok(()));
}

#[test]
fn a_longer_or_shorter_artifact_is_refused() {
    let bytes = content(100_000);
    for other in [content(100_001), content(99_999)] {
        for answer in [Answer::Serve, Answer::WithoutLength] {
            let world = world(1 << 20);
            world.server.will(answer, &other);
            assert_eq!(world.fetch(&bytes), Err(FetchFailure::HashMismatch));
            assert_eq!(world.files(), [""; 0]);
        }
    }
}

#[test]
fn a_part_that_was_damaged_on_disk_does_not_become_an_artifact() {
    let world = world(1 << 20);
    let bytes = content(50_000);
    let part = disk::part_path(&world.store.path(&Digest::of(&bytes)));
    fs::write(&part, vec![0; 20_000]).unwrap();
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Err(FetchFailure::HashMismatch));
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Ok(()));
}

#[test]
fn a_stored_artifact_that_rotted_is_not_handed_out_and_is_fetched_again() {
    let world = world(1 << 20);
    let bytes = content(50_000);
    let digest = Digest::of(&bytes);
    world.server.will(Answer::Serve, &bytes);
    world.fetch(&bytes).unwrap();
    let path = world.store.path(&digest);
    let mut rotten = bytes.clone();
    rotten[7] ^= 4;
    fs::write(&path, rotten).unwrap();
    assert!(world.store.read(&digest, 50_000).is_err());
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Ok(()));
    assert_eq!(world.store.read(&digest, 50_000).unwrap(), bytes);
}

#[test]
fn the_store_takes_no_more_than_its_limit() {
    let world = world(100_000);
    let first = content(60_000);
    world.server.will(Answer::Serve, &first);
    assert_eq!(world.fetch(&first), Ok(()));
    let second = content(50_000);
    assert_eq!(world.fetch(&second), Err(FetchFailure::NoSpace));
    assert_eq!(world.store.collect(|_| false).unwrap(), 1);
    world.server.will(Answer::Serve, &second);
    assert_eq!(world.fetch(&second), Ok(()));
}

#[test]
fn collecting_keeps_what_is_referenced() {
    let world = world(1 << 20);
    let [kept, dropped] = [content(1_000), content(2_000)];
    for bytes in [&kept, &dropped] {
        world.server.will(Answer::Serve, bytes);
        world.fetch(bytes).unwrap();
    }
    fs::write(disk::part_path(&world.store.path(&Digest::of(b"part"))), b"pa").unwrap();
    fs::write(world.directory.path().join("stray"), b"x").unwrap();
    assert_eq!(world.store.collect(|digest| *digest == Digest::of(&kept)).unwrap(), 3);
    assert_eq!(world.files(), [Digest::of(&kept).text().as_str()]);
}

#[test]
fn a_refusal_and_a_dead_source_are_unreachable() {
    let world = world(1 << 20);
    let bytes = content(10);
    for status in [401, 404, 500] {
        world.server.will(Answer::Status(status), &bytes);
        assert_eq!(world.fetch(&bytes), Err(FetchFailure::Unreachable));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let account = Account { address: format!("http://{nobody}"), ..world.server.account() };
    let store = Store::open(&world.directory.path().join("other"), 1 << 20, Some(account)).unwrap();
    assert_eq!(store.fetch(&Digest::of(&bytes), 10, Source::Anywhere), Err(FetchFailure::Unreachable));
}

#[test]
fn a_body_comes_into_memory_and_is_checked() {
    let world = world(1 << 20);
    let bytes = content(70_000);
    let digest = Digest::of(&bytes);
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.store.fetch_body(&digest, 70_000, Source::Anywhere), Ok(bytes.clone()));
    assert_eq!(world.server.seen.recv().unwrap().path, format!("/v1/bodies/sha256:{digest}"));
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.store.fetch_body(&digest, 69_999, Source::Anywhere), Err(FetchFailure::HashMismatch));
    assert_eq!(world.files(), [""; 0]);
}

#[test]
fn a_stopped_store_gives_up_fetching() {
    let world = world(1 << 20);
    world.store.stop();
    let bytes = content(70_000);
    world.server.will(Answer::Serve, &bytes);
    assert_eq!(world.fetch(&bytes), Err(FetchFailure::Unreachable));
}

#[test]
fn devices_that_share_a_shelf_fetch_an_artifact_once() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::open(directory.path(), 1 << 20, Spare::Delete).unwrap());
    let bytes = content(100_000);
    let digest = Digest::of(&bytes);
    // One answer: a second question would wait for ever.
    server.will(Answer::Serve, &bytes);
    let stores: Vec<Store> = (0..4).map(|_| Store::on(&shelf, 1 << 18, Some(server.account()))).collect();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| assert_eq!(store.fetch(&digest, 100_000, Source::Anywhere), Ok(())));
        }
    });
    assert!(stores.iter().all(|store| store.free_bytes() == (1 << 18) - 100_000));
    // Each device lets go for itself; the last one deletes.
    let removed: Vec<usize> = stores.iter().map(|store| store.collect(|_| false).unwrap()).collect();
    assert_eq!(removed, [0, 0, 0, 1]);
}
