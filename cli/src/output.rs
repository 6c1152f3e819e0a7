//! Standard output: data only, without colour, and quiet when nobody reads it any more.

use crate::args::{Global, Output};
use crate::code::Code;
use crate::failure::{Failure, system};
use serde_json::Value;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, before a verb runs.
static IS_QUIET: AtomicBool = AtomicBool::new(false);
static IS_PLAIN: AtomicBool = AtomicBool::new(false);
static IS_SILENT: AtomicBool = AtomicBool::new(false);
static ASKS_NOTHING: AtomicBool = AtomicBool::new(false);

/// Takes over what the command line and the environment say about the terminal.
pub fn configure(global: &Global) {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    IS_QUIET.store(global.quiet, Ordering::Relaxed);
    ASKS_NOTHING.store(global.no_input, Ordering::Relaxed);
    let is_plain = global.no_color || is_dumb || is_set("NO_COLOR");
    IS_PLAIN.store(is_plain, Ordering::Relaxed);
    if is_plain {
        // Left alone, the library paints a dumb terminal where `CI` is set.
        anstream::ColorChoice::Never.write_global();
    }
}

/// Not even a warning from now on.
pub fn silence() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

/// True if a line of standard error may be updated in place.
pub fn is_live() -> bool {
    !IS_PLAIN.load(Ordering::Relaxed) && !IS_QUIET.load(Ordering::Relaxed) && io::stderr().is_terminal()
}

/// Fails with `--no-input`, where somebody would be asked for `what`.
pub fn may_ask(what: &str) -> Result<(), Failure> {
    match ASKS_NOTHING.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(Failure::usage(format!("{what} would have to be asked for, and --no-input forbids it"))),
    }
}

/// Columns of the terminal that standard output is; nothing if it is none.
fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    ratatui::crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Writes the lines of a table. On a terminal none is longer than its width, unless everything was asked for.
pub fn print_table(output: Output, text: &str) -> Result<(), Failure> {
    match columns() {
        Some(columns) if output != Output::Wide => print(&fitted(text, columns)),
        Some(_) | None => print(text),
    }
}

/// Lines that are at most so long; what is cut ends with a mark.
fn fitted(text: &str, columns: usize) -> String {
    let cut = |line: &str| match line.char_indices().nth(columns) {
        None => format!("{line}\n"),
        Some(_) => format!("{}\u{2026}\n", line.chars().take(columns.saturating_sub(1)).collect::<String>().trim_end()),
    };
    text.lines().map(cut).collect()
}

/// Writes data as it is.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(Code::Pipe, "nobody reads the output"),
        _ => system("cannot write the output", &error),
    })
}

/// Writes one line of data.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Writes a message for people, on standard error; nothing with `--quiet`.
pub fn say(text: &str) {
    if !IS_QUIET.load(Ordering::Relaxed) {
        warn(text);
    }
}

/// Writes a warning or an error, on standard error.
pub fn warn(text: &str) {
    if IS_SILENT.load(Ordering::Relaxed) {
        return;
    }
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Updates the line on which the cursor stands; only where `is_live`.
pub fn update(text: &str) {
    let _ = write!(io::stderr(), "\r\u{1b}[2K{text}");
    let _ = io::stderr().flush();
}

/// Writes a document in the forms that are the same for every command; false: the command shows it in its own way.
pub fn whole(output: Output, value: &Value) -> Result<bool, Failure> {
    match output {
        Output::Json => print(&json(value))?,
        Output::Yaml => print(&yaml(value)?)?,
        Output::JsonPath(template) => print(&template.render(value))?,
        Output::Table | Output::Wide | Output::Name | Output::GeoJson => return Ok(false),
    }
    Ok(true)
}

/// What only maps have was asked of something else.
pub fn no_geojson() -> Failure {
    Failure::usage("this has no GeoJSON")
        .why("devices and regions have a place on a map")
        .next("fulmar get devices -o geojson")
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
        .map_err(|error| Failure::new(Code::Output, "cannot write this as YAML").why(error.to_string()))
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
    fn a_line_is_as_long_as_the_terminal_at_most() {
        assert_eq!(
            fitted("NAME   AGE\nabcdefghij\nabcdefghijk\n\n", 10),
            "NAME   AGE\nabcdefghij\nabcdefghi\u{2026}\n\n"
        );
        assert_eq!(fitted("a   bcd\n", 4), "a\u{2026}\n", "no space before the mark");
        assert_eq!(fitted("\u{e4}\u{f6}\u{fc}\n", 3), "\u{e4}\u{f6}\u{fc}\n", "characters, not bytes");
    }

    #[test]
    fn control_characters_of_a_device_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\tc"), "a\u{fffd}[2Jb\tc");
    }
}
