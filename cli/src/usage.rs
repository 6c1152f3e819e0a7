//! A command line that cannot be read: as text with its usage, or with `-o json` as one object like every other error.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use clap::error::ErrorKind;
use std::process::ExitCode;

/// What the parser adds for people, and a program has no use for.
const HINT: &str = "For more information";

/// Says what is wrong and ends.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr();
    if is_help || !asks_for_json(std::env::args()) {
        error.exit();
    }
    output::warn(&failure(&error.render().to_string()).json().to_string());
    Exit::Usage.into()
}

/// The parser's text in our shape.
fn failure(text: &str) -> Failure {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(HINT));
    let first = lines.next().unwrap_or("the command line cannot be read");
    let failure = Failure::usage(first.strip_prefix("error: ").unwrap_or(first));
    lines.fold(failure, Failure::why)
}

/// True if the form of the answer is JSON, as far as that can be seen in a command line that cannot be read.
fn asks_for_json(arguments: impl Iterator<Item = String>) -> bool {
    let mut is_form = false;
    for argument in arguments {
        match argument.as_str() {
            "json" if is_form => return true,
            "-ojson" | "-o=json" | "--output=json" => return true,
            other => is_form = matches!(other, "-o" | "--output"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_parser_becomes_what_and_why() {
        let told = failure(
            "error: unexpected argument '--x' found\n\n  tip: a similar one exists: '--y'\n\nUsage: fulmar get\n\nFor more information, try '--help'.\n",
        );
        assert_eq!(&*told.what, "unexpected argument '--x' found");
        assert_eq!(told.why, ["tip: a similar one exists: '--y'", "Usage: fulmar get"]);
        assert_eq!(told.exit, Exit::Usage);
    }

    #[test]
    fn json_is_seen_in_every_spelling_and_not_elsewhere() {
        let asks = |line: &str| asks_for_json(line.split(' ').map(str::to_owned));
        for line in ["get -o json --x", "-ojson", "--output json", "a --output=json", "-o=json"] {
            assert!(asks(line), "{line}");
        }
        for line in ["get json", "-o yaml json", "-o", ""] {
            assert!(!asks(line), "{line}");
        }
    }
}
