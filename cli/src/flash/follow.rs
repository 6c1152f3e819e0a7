//! From the moment a board was written until the hub has seen its device: what the board says meanwhile is shown.

use crate::client::Client;
use crate::code::Code;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::show::{flag, text};
use crate::target::Target;
use crate::wait::{Display, seconds};
use hub::model::Kind;
use serde_json::Value;
use std::time::{Duration, Instant};

const POLL_PERIOD: Duration = Duration::from_millis(100);
/// Without `--timeout`: a board has to ask for an address, and to make its key.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Lines of the board that a failure shows.
pub const WORDS_SHOWN: usize = 4;

/// The board's side of the story.
pub trait Board {
    /// Its last lines, the newest last.
    fn last_words(&mut self, count: usize) -> Vec<String>;
    /// Why it cannot come any more.
    fn end(&mut self) -> Option<Failure>;
}

/// What the hub says of the device: it waits for approval, or is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Online,
    Waiting,
}

fn seen(device: &Value) -> Option<Seen> {
    if !flag(device, "/spec/approved") {
        return Some(Seen::Waiting);
    }
    (text(device, "/status/online/state") == "Online").then_some(Seen::Online)
}

/// Waits for the device of that name.
pub fn until_seen(
    client: &Client,
    name: &str,
    board: &mut dyn Board,
    timeout: Duration,
) -> Result<(Seen, Duration), Failure> {
    let begin = Instant::now();
    let mut display = Display::new();
    let path = Target::new(Kind::Device, "", name).path();
    let outcome = loop {
        let device = match client.get(&path) {
            Ok(device) => Some(device),
            Err(failure) if failure.exit == Exit::NotFound || failure.code == "UNREACHABLE" => None,
            Err(failure) => break Err(failure),
        };
        let stage = match &device {
            None => "written, not joined yet",
            Some(_) => "joined",
        };
        if let Some(seen) = device.as_ref().and_then(seen) {
            break Ok((seen, begin.elapsed()));
        }
        let said = board.last_words(1).pop().map(|line| format!(": {line}")).unwrap_or_default();
        display.show(&format!("{stage}{said}"), begin);
        if let Some(failure) = board.end() {
            break Err(failure);
        }
        if begin.elapsed() >= timeout {
            break Err(late(name, stage, board, timeout));
        }
        std::thread::sleep(POLL_PERIOD);
    };
    display.finish();
    outcome
}

fn late(name: &str, stage: &str, board: &mut dyn Board, timeout: Duration) -> Failure {
    let mut failure =
        Failure::new(Code::TimedOut, format!("the hub has not seen the device {name} after {}", seconds(timeout)))
            .why(format!("the board is {stage}"));
    match board.last_words(WORDS_SHOWN) {
        words if words.is_empty() => failure = failure.why("it has not said anything that can be read here"),
        words => {
            failure = failure.why("its last words:");
            failure.why.extend(words.into_iter().map(|line| format!("  {line}")));
        }
    }
    failure
        .next(format!("fulmar monitor {name}    (with a serial port: fulmar monitor --port PORT)"))
        .next(format!("fulmar wait --for online device/{name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_device_is_seen_when_it_is_online_or_waits_for_somebody() {
        let device =
            |approved, state: &str| json!({"spec": {"approved": approved}, "status": {"online": {"state": state}}});
        assert_eq!(seen(&device(true, "Online")), Some(Seen::Online));
        assert_eq!(seen(&device(true, "Unknown")), None);
        assert_eq!(seen(&device(false, "Unknown")), Some(Seen::Waiting));
    }

    struct Said(Vec<String>);

    impl Board for Said {
        fn last_words(&mut self, count: usize) -> Vec<String> {
            self.0.iter().take(count).cloned().collect()
        }

        fn end(&mut self) -> Option<Failure> {
            None
        }
    }

    #[test]
    fn a_time_out_has_the_boards_last_words_and_what_to_do() {
        let failure =
            late("mcu-1", "joined", &mut Said(vec!["[   1.0] no address".to_owned()]), Duration::from_secs(9));
        assert_eq!(&*failure.what, "the hub has not seen the device mcu-1 after 9.0s");
        assert_eq!(failure.why, ["the board is joined", "its last words:", "  [   1.0] no address"]);
        assert_eq!((failure.exit, failure.next.len()), (Exit::TimedOut, 2));
        let failure = late("mcu-1", "joined", &mut Said(Vec::new()), Duration::from_secs(9));
        assert_eq!(failure.why[1], "it has not said anything that can be read here");
    }
}
