//! Tokens come from standard input or a file: a command line can be read by every process of the machine.

use crate::failure::{Failure, system};
use crate::manifest::file_failure;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;

/// Bytes of a token.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The token in a file; `-` is standard input, asked for without an echo if somebody sits there.
pub fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let stdin = std::io::stdin();
    if path != Path::new("-") {
        let file = std::fs::File::open(path).map_err(|error| file_failure(path, &error.to_string()))?;
        file.take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(|error| file_failure(path, &error.to_string()))?;
    } else if stdin.is_terminal() {
        crate::output::may_ask("the token")?;
        text = ask().map_err(|error| system("cannot read the token", &error))?;
    } else {
        let result = stdin.lock().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
        result.map_err(|error| system("cannot read the token from standard input", &error))?;
    }
    let token = text.trim();
    if token.is_empty() || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Failure::usage("there is no token")
            .why("it is one word, on standard input or in a file")
            .next("fulmar login URL < token.txt"));
    }
    Ok(token.to_owned())
}

fn ask() -> std::io::Result<String> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    crate::output::update("token: ");
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut text = String::new();
    let result = stdin.lock().take(TOKEN_BYTES_MAX).read_line(&mut text);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    crate::output::warn("");
    result?;
    restored?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        for (text, token) in [("fulmar_abc\n", Some("fulmar_abc")), ("\n", None), ("a b\n", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).ok().as_deref(), token);
        }
        assert!(read(&place.path().join("none")).is_err());
    }
}
