//! Where faults are asked for: a socket in the fleet's directory that only its owner can use, one line of JSON each way.
//!
//! It belongs to the fleet of simulated devices. Agents of real devices have nothing of the kind, and this one must never act by
//! itself: what comes in goes to the crew, what the crew says goes out.
use crate::chaos::{Active, FAULT_TIME_MAX, FAULTS_MAX, Fault};
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt};
use serde_json::{Value, json};
use smol::channel::{Receiver, Sender, bounded};
use smol::io::BufReader;
use smol::net::unix::{UnixListener, UnixStream};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Below the fleet's directory.
pub const DOOR: &str = "chaos.sock";
/// Of one question: the names of a whole fleet and what surrounds them.
pub const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// Questions that wait for the crew.
const QUESTIONS_MAX: usize = 4;
/// For a question to come, and its answer to be taken.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
const SOCKET_MODE: u32 = 0o600;
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    List,
    Start { fault: Fault, devices: BTreeSet<String>, lasts: Duration },
    Stop { id: Option<u32> },
}

/// A wish, and where its answer goes.
pub struct Question {
    pub wish: Wish,
    pub reply: Sender<Value>,
}

/// A refusal as it crosses the socket.
pub fn refusal(code: &str, text: impl Into<String>) -> Value {
    json!({"error": {"code": code, "text": text.into()}})
}

impl Wish {
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let time = |name: &str| number(name).map(Duration::from_millis);
        let word = |name: &str| value.get(name).and_then(Value::as_str);
        match word("do") {
            Some("list") => Ok(Self::List),
            Some("stop") => {
                let id = number("id").map(u32::try_from).transpose().map_err(|_| "there is no such number")?;
                Ok(Self::Stop { id })
            }
            Some("start") => {
                let fault = match word("fault") {
                    Some("partition") => Fault::Partition,
                    Some("latency") => Fault::Latency { delay: time("delay_ms").ok_or("how much is missing")? },
                    Some("kill") => Fault::Kill { every: time("every_ms") },
                    Some("clock-skew") => {
                        let skew_ms = value.get("skew_ms").and_then(Value::as_i64);
                        Fault::ClockSkew { skew_ms: skew_ms.ok_or("how much is missing")? }
                    }
                    Some("disk-full") => Fault::DiskFull,
                    Some(_) | None => return Err("there is no such fault".to_owned()),
                };
                fault.check()?;
                let lasts = time("for_ms").ok_or("how long is missing")?;
                if lasts.is_zero() || lasts > FAULT_TIME_MAX {
                    return Err("a fault lasts between a millisecond and an hour".to_owned());
                }
                let names = value.get("devices").and_then(Value::as_array).ok_or("which devices is missing")?;
                let devices: Option<BTreeSet<String>> =
                    names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                let devices = devices.filter(|devices| !devices.is_empty()).ok_or("which devices is missing")?;
                Ok(Self::Start { fault, devices, lasts })
            }
            Some(_) | None => Err("there is no such question".to_owned()),
        }
    }
}

/// A fault as it is listed.
pub fn shown(active: &Active, now: Instant) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut shown = json!({
        "id": active.id,
        "fault": active.fault.name(),
        "devices": active.devices,
        "left_ms": millis(active.until.saturating_duration_since(now)),
    });
    match active.fault {
        Fault::Latency { delay } => shown["delay_ms"] = json!(millis(delay)),
        Fault::Kill { every: Some(every) } => shown["every_ms"] = json!(millis(every)),
        Fault::ClockSkew { skew_ms } => shown["skew_ms"] = json!(skew_ms),
        Fault::Kill { every: None } | Fault::Partition | Fault::DiskFull => {}
    }
    shown
}

/// What is said when there are too many.
pub fn too_many() -> Value {
    refusal("LIMIT", format!("{FAULTS_MAX} faults are going on, and there can be no more at the same time"))
}

/// The socket. Removed when dropped.
pub struct Door {
    path: PathBuf,
    questions: Receiver<Question>,
    _task: smol::Task<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Door {
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(DOOR);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(SOCKET_MODE))?;
        let (sender, questions) = bounded(QUESTIONS_MAX);
        Ok(Self { path, questions, _task: smol::spawn(listen(listener, sender)) })
    }

    pub async fn next(&self) -> Question {
        match self.questions.recv().await {
            Ok(question) => question,
            Err(_) => std::future::pending().await,
        }
    }
}

/// One after the other: whoever asks is a person or a script of one.
async fn listen(listener: UnixListener, questions: Sender<Question>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            smol::Timer::after(ACCEPT_PAUSE).await;
            continue;
        };
        let expired = async {
            smol::Timer::after(CLIENT_TIMEOUT).await;
            Ok(())
        };
        if let Err(error) = serve(stream, &questions).or(expired).await {
            tracing::debug!(%error, "a client of the fleet went away");
        }
    }
}

async fn serve(mut stream: UnixStream, questions: &Sender<Question>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.clone()).take(QUESTION_BYTES_MAX);
    reader.read_until(b'\n', &mut line).await?;
    let answer = match Wish::parse(&line) {
        Err(text) => refusal("MALFORMED", text),
        Ok(wish) => {
            let (reply, answer) = bounded(1);
            let gone = |_| io::Error::other("the fleet stops");
            questions.send(Question { wish, reply }).await.map_err(|_| io::Error::other("the fleet stops"))?;
            answer.recv().await.map_err(gone)?
        }
    };
    stream.write_all(format!("{answer}\n").as_bytes()).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wishes_are_read_whole_or_refused_with_a_reason() {
        let start = br#"{"do":"start","fault":"latency","delay_ms":300,"devices":["a","b"],"for_ms":1000}"#;
        let devices = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let fault = Fault::Latency { delay: Duration::from_millis(300) };
        assert_eq!(Wish::parse(start), Ok(Wish::Start { fault, devices, lasts: Duration::from_secs(1) }));
        assert_eq!(Wish::parse(br#"{"do":"stop"}"#), Ok(Wish::Stop { id: None }));
        assert_eq!(Wish::parse(br#"{"do":"stop","id":7}"#), Ok(Wish::Stop { id: Some(7) }));
        assert_eq!(Wish::parse(br#"{"do":"list"}"#), Ok(Wish::List));
        for wrong in [
            "",
            "[]",
            r#"{"do":"dance"}"#,
            r#"{"do":"stop","id":99999999999}"#,
            r#"{"do":"start","fault":"flood","devices":["a"],"for_ms":1}"#,
            r#"{"do":"start","fault":"latency","devices":["a"],"for_ms":1}"#,
            r#"{"do":"start","fault":"partition","devices":["a"]}"#,
            r#"{"do":"start","fault":"partition","devices":["a"],"for_ms":0}"#,
            r#"{"do":"start","fault":"partition","devices":["a"],"for_ms":3600001}"#,
            r#"{"do":"start","fault":"partition","devices":[],"for_ms":1}"#,
            r#"{"do":"start","fault":"partition","devices":[1],"for_ms":1}"#,
        ] {
            assert!(Wish::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_socket_is_its_owners_and_a_question_that_is_too_long_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DOOR);
        smol::block_on(async {
            let door = Door::open(directory.path()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
            let ask = |text: Vec<u8>| {
                let path = path.clone();
                smol::spawn(async move {
                    let mut stream = UnixStream::connect(path).await.unwrap();
                    // Who is refused reads no more.
                    let _ = stream.write_all(&text).await;
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await.map(|_| answer)
                })
            };
            let asking = ask(b"{\"do\":\"list\"}\n".to_vec());
            let question = door.next().await;
            assert_eq!(question.wish, Wish::List);
            question.reply.send(json!({"faults": []})).await.unwrap();
            assert_eq!(asking.await.unwrap(), "{\"faults\":[]}\n");
            let length = usize::try_from(QUESTION_BYTES_MAX).unwrap();
            let answer = ask(vec![b' '; length]).await.unwrap();
            assert!(answer.contains("MALFORMED"), "{answer}");
        });
        assert!(!path.exists(), "it goes with the fleet");
    }
}
