//! What a function is given, line by line. Everything that is wrong with a script is said before anything runs.

use crate::code::Code;
use crate::failure::{Failure, Place};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Bytes of a script.
const BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of one payload in hexadecimal, before decoding, and of one line.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Time that one `wait` may take: a year.
const WAIT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// One thing that happens to a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time goes on to the next tick of the timer.
    Tick,
    Event {
        topic: String,
        payload: Vec<u8>,
    },
    /// Time goes on, with the ticks that are due in it.
    Wait(Duration),
    /// The device loses its power and starts again.
    Restart,
    /// The workload is taken away.
    Stop,
}

/// An input and the line that it stands on; 0: it was not in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    pub input: Input,
}

const FORMS: &str = "lines are: tick, event TOPIC PAYLOAD, event-hex TOPIC BYTES, wait 30s, restart, stop, # remark";

/// Reads a script from a file, or from standard input.
pub fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let mut bytes = Vec::new();
    let unreadable = |why: String| crate::manifest::file_failure(path, &why);
    let is_stdin = path == Path::new("-");
    let read = if is_stdin {
        std::io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(unreadable(format!("a script has at most {BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    parse(&name, &text)
}

/// The lines of a script. All mistakes are told at once.
pub fn parse(name: &str, text: &str) -> Result<Vec<Line>, Failure> {
    let (mut lines, mut places) = (Vec::new(), Vec::new());
    let mut is_stopped = false;
    for (number, text) in (1..).zip(text.lines()) {
        let read = line(text).and_then(|input| match &input {
            Some(Input::Tick | Input::Event { .. } | Input::Stop) if is_stopped => {
                Err("nothing runs after stop: write restart before it".to_owned())
            }
            _ => Ok(input),
        });
        match read {
            Ok(None) => {}
            Ok(Some(input)) => {
                is_stopped = match input {
                    Input::Stop => true,
                    Input::Restart => false,
                    Input::Tick | Input::Event { .. } | Input::Wait(_) => is_stopped,
                };
                lines.push(Line { number, input });
            }
            Err(detail) => places.push(mistake(name, number, text, detail)),
        }
    }
    if places.is_empty() { Ok(lines) } else { Err(refused(places)) }
}

/// A failure that shows the lines that are wrong.
pub fn refused(places: Vec<Place>) -> Failure {
    let mut failure = Failure::new(Code::Script, "the script is not valid").next(FORMS);
    failure.places = places;
    failure
}

pub fn mistake(name: &str, number: u64, text: &str, detail: String) -> Place {
    const SHOWN_CHARS_MAX: usize = 160;
    let source: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (column, width) = (1, source.trim_end().chars().count());
    Place { file: name.to_owned(), line: number, column, source, width, pointer: String::new(), detail }
}

/// One line; nothing for an empty one and for a remark.
fn line(text: &str) -> Result<Option<Input>, String> {
    if text.len() > LINE_BYTES_MAX {
        return Err(format!("a line has at most {LINE_BYTES_MAX} bytes"));
    }
    let text = text.trim_start();
    let (verb, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let alone = |input: Input| match rest.trim() {
        "" => Ok(Some(input)),
        more => Err(format!("{verb} stands alone; here it is followed by {more:?}")),
    };
    match verb.trim_end() {
        "" => Ok(None),
        remark if remark.starts_with('#') => Ok(None),
        "tick" => alone(Input::Tick),
        "restart" => alone(Input::Restart),
        "stop" => alone(Input::Stop),
        "wait" => wait(rest.trim()).map(|time| Some(Input::Wait(time))),
        "event" => {
            let (topic, payload) = topic(rest)?;
            Ok(Some(Input::Event { topic, payload: payload.as_bytes().to_vec() }))
        }
        "event-hex" => {
            let (topic, payload) = topic(rest)?;
            let payload = hexadecimal(payload).ok_or("the payload is not pairs of hexadecimal digits")?;
            Ok(Some(Input::Event { topic, payload }))
        }
        other => Err(format!("{other:?} is not known here")),
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    let time = hub::model::Span::parse(text).map_err(|error| error.to_string())?.duration();
    if time > WAIT_MAX { Err("a wait is at most 366d".to_owned()) } else { Ok(time) }
}

/// The payload is the rest of the line behind one blank, as it is.
fn topic(rest: &str) -> Result<(String, &str), String> {
    let rest = rest.trim_start();
    let (topic, payload) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    if topic.is_empty() { Err("a topic is missing".to_owned()) } else { Ok((topic.to_owned(), payload)) }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// `TOPIC=PAYLOAD` of the command line.
pub fn event(text: &str) -> Result<Input, Failure> {
    match text.split_once('=') {
        Some((topic, payload)) if !topic.is_empty() => {
            Ok(Input::Event { topic: topic.to_owned(), payload: payload.as_bytes().to_vec() })
        }
        Some(_) | None => Err(Failure::usage(format!("{text:?} is not TOPIC=PAYLOAD"))
            .next("for example: --event sensors/temperature=21.5, or a script with --script FILE")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    fn event_of(topic: &str, payload: &[u8]) -> Input {
        Input::Event { topic: topic.to_owned(), payload: payload.to_vec() }
    }

    #[test]
    fn every_form_of_a_line_is_read() {
        let text = "# a remark\n\ntick\n  event a/b  21.5 C \nevent a\nevent-hex c 00 ffA0\nwait 30s\r\nrestart\nstop\nwait 1ms\nrestart\ntick \n";
        let lines = parse("inputs.txt", text).unwrap();
        let expected = [
            (3, Input::Tick),
            (4, event_of("a/b", b" 21.5 C ")),
            (5, event_of("a", b"")),
            (6, event_of("c", &[0, 255, 160])),
            (7, Input::Wait(Duration::from_secs(30))),
            (8, Input::Restart),
            (9, Input::Stop),
            (10, Input::Wait(Duration::from_millis(1))),
            (11, Input::Restart),
            (12, Input::Tick),
        ]
        .map(|(number, input)| Line { number, input });
        assert_eq!(lines, expected);
    }

    #[test]
    fn all_mistakes_of_a_script_are_told_at_once_with_their_lines() {
        let text = "tock\nwait\nwait soon\nwait 367d\nevent\nevent-hex a 0\nevent-hex a xy\ntick 3\nstop\ntick\nstop\nrestart now\n";
        let failure = parse("inputs.txt", text).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "SCRIPT"));
        let lines: Vec<u64> = failure.places.iter().map(|place| place.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]);
        let text = failure.text();
        assert!(text.contains("inputs.txt:1:1  \"tock\" is not known here\n     1 | tock\n       | ^^^^"), "{text}");
        assert!(text.contains("next: lines are: tick"), "{text}");
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_is_just_short_enough_is_not() {
        let line = |bytes: usize| format!("event a {}", "x".repeat(bytes - 8));
        assert!(parse("", &line(LINE_BYTES_MAX)).is_ok());
        assert!(parse("", &line(LINE_BYTES_MAX + 1)).unwrap_err().text().contains("at most 262144 bytes"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs.txt");
        let whole = "#\n".repeat(usize::try_from(BYTES_MAX / 2).unwrap());
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path), Ok(Vec::new()));
        std::fs::write(&path, whole + "#").unwrap();
        assert!(read(&path).unwrap_err().text().contains("at most 1048576 bytes"));
    }

    #[test]
    fn events_of_the_command_line_have_a_topic() {
        assert_eq!(event("a/b=x=y"), Ok(event_of("a/b", b"x=y")));
        assert_eq!(event("a="), Ok(event_of("a", b"")));
        for wrong in ["", "a", "=x"] {
            assert_eq!(event(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
