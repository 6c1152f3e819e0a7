//! Standard output: data only, without colour, and quiet when nobody reads it any more.

use crate::exit::Exit;
use crate::failure::{Failure, system};
use serde_json::Value;
use std::io::{self, ErrorKind, Write};

/// Writes data as it is.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(Exit::Ok, "PIPE", "nobody reads the output"),
        _ => system("cannot write the output", &error),
    })
}

/// Writes one line of data.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Writes a message for people, on standard error.
pub fn say(text: &str) {
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}

pub fn json(value: &Value) -> String {
    // Values always are JSON.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

pub fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map(|mut text| {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text
        })
        .map_err(|error| Failure::new(Exit::Failure, "OUTPUT", "cannot write this as YAML").why(error.to_string()))
}

/// Turns what others wrote into one printable line: a device's text may not drive the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_that_is_printed_reads_back_as_the_same_value() {
        let value = json!({"a": {"point": [8.5, -50.0], "text": "yes", "n": "007", "x": null, "many": "a\nb: c\n"}, "e": [], "m": {}});
        let text = yaml(&value).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn control_characters_of_a_device_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\tc"), "a\u{fffd}[2Jb\tc");
    }
}
