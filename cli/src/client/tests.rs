//! The client against a scripted server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use std::io::{BufRead, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Answers one request with `answer`; gives back what was asked.
fn server(answer: &'static str) -> (Client, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            reader.read_line(&mut head).unwrap();
            let line = head[start..].trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        socket.write_all(answer.as_bytes()).unwrap();
        head + std::str::from_utf8(&body).unwrap()
    });
    let endpoint = Endpoint { server, token: Some("secret".to_owned()), ca: None, origin: "a test".to_owned() };
    (Client::new(endpoint).unwrap(), asked)
}

#[test]
fn a_written_object_comes_back_with_outcome_and_warnings() {
    let (client, asked) = server(
        "HTTP/1.1 201 Created\r\nfulmar-outcome: created\r\nfulmar-warning: a\r\nfulmar-warning: b\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
    );
    let written = client.put("/v1/regions/x", &serde_json::json!({"kind": "Region"}), None).unwrap();
    assert_eq!(written.outcome, "created");
    assert_eq!(written.warnings, ["a", "b"]);
    assert_eq!(written.document["a"], 1);
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("PUT /v1/regions/x HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("authorization: bearer secret"), "{asked}");
    assert!(asked.ends_with("{\"kind\":\"Region\"}"), "{asked}");
}

#[test]
fn a_problem_becomes_what_why_next_and_an_exit_code() {
    let (client, asked) = server(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n{\"code\":\"NOT_FOUND\",\"title\":\"No such workload\",\"detail\":\"workload/default/x does not exist\",\"status\":404,\"next\":[\"fulmar get wl\"]}",
    );
    let failure = client.get("/v1/namespaces/default/workloads/x").unwrap_err();
    asked.join().unwrap();
    assert_eq!(
        failure.text(),
        "error[NOT_FOUND]: no such workload\n   why: workload/default/x does not exist\n  next: fulmar get wl\n"
    );
    assert_eq!(failure.exit, Exit::NotFound);
}

#[test]
fn field_errors_keep_their_pointers() {
    let (client, asked) = server(
        "HTTP/1.1 422 Unprocessable\r\nconnection: close\r\n\r\n{\"code\":\"INVALID\",\"title\":\"Invalid\",\"errors\":[{\"pointer\":\"/spec/x\",\"detail\":\"unknown field `x`\"},{\"pointer\":\"/kind\",\"detail\":\"missing\"}]}",
    );
    let failure = client.put("/v1/regions/x", &Value::Null, None).unwrap_err();
    asked.join().unwrap();
    let pointers: Vec<&str> = failure.places.iter().map(|place| place.pointer.as_str()).collect();
    assert_eq!((failure.exit, pointers), (Exit::Usage, vec!["/spec/x", "/kind"]));
}

#[test]
fn something_else_than_a_hub_is_recognised() {
    let (client, asked) = server("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\n<html");
    assert_eq!(client.get("/v1/status").unwrap_err().code, "NOT_A_HUB");
    asked.join().unwrap();
}

#[test]
fn a_hub_that_is_gone_is_said_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client =
        Client::new(Endpoint { server: server.clone(), token: None, ca: None, origin: "x.json".to_owned() }).unwrap();
    let failure = client.get("/v1/status").unwrap_err();
    assert_eq!(failure.code, "UNREACHABLE");
    assert!(failure.what.contains(&server) && failure.why[0].contains("nothing listens there"), "{failure:?}");
    assert!(failure.why[0].contains("x.json"), "{failure:?}");
}

#[test]
fn a_file_is_sent_whole_with_its_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.wasm");
    std::fs::write(&path, "content").unwrap();
    let (client, asked) = server("HTTP/1.1 201 Created\r\ncontent-length: 11\r\n\r\n{\"bytes\":7}");
    let answer = client.upload("/v1/namespaces/default/artifacts/a", File::open(&path).unwrap()).unwrap();
    assert_eq!(answer["bytes"], 7);
    let asked = asked.join().unwrap();
    assert!(asked.to_ascii_lowercase().contains("content-length: 7") && asked.ends_with("content"), "{asked}");
}

#[test]
fn with_readonly_nothing_that_changes_something_is_sent() {
    let endpoint =
        Endpoint { server: "http://127.0.0.1:1".to_owned(), token: None, ca: None, origin: "a test".to_owned() };
    let client = Client { is_readonly: true, ..Client::new(endpoint).unwrap() };
    let code = |result: Result<(), Failure>| result.unwrap_err().code;
    assert_eq!(code(client.delete("/v1/regions/a")), "READONLY");
    assert_eq!(code(client.post("/v1/join-tokens", &Value::Null).map(|_| ())), "READONLY");
    assert_eq!(code(client.apply("/v1/regions/a?fieldManager=x", &Value::Null).map(|_| ())), "READONLY");
    assert_eq!(code(client.put("/v1/regions/a?dryRun=server", &Value::Null, None).map(|_| ())), "UNREACHABLE");
    assert_eq!(code(client.post("/v1/plans", &Value::Null).map(|_| ())), "UNREACHABLE");
}
