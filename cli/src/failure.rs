//! What goes wrong, in one shape: what, why, what next; and the exit code. As text for people, as JSON for programs.
//!
//! Messages go to standard error only. A failure names the object, the file and the line where it can.

use crate::code::Code;
use crate::exit::Exit;
use hub::problem_code::ProblemCode;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A mistake in a manifest, with its place in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// From 1; 0 where the place is not known.
    pub line: u64,
    pub column: u64,
    /// The line as it is written.
    pub source: String,
    /// Characters to underline.
    pub width: usize,
    /// JSON pointer into the document.
    pub pointer: String,
    pub detail: String,
}

/// Why a command did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// Stable.
    pub code: String,
    pub what: Box<str>,
    pub why: Vec<String>,
    /// Commands that can be pasted, or what to change.
    pub next: Vec<String>,
    pub places: Vec<Place>,
}

impl Failure {
    /// What this program found.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        let row = code.row();
        Self::named(row.exit, row.text, what)
    }

    /// What the hub would say, found before it was asked.
    pub fn hub(code: ProblemCode, what: impl Into<String>) -> Self {
        Self::named(Exit::of_problem(code.status(), code.as_str()), code.as_str(), what)
    }

    /// What somebody else found: a hub of any version, the functions' engine.
    pub fn named(exit: Exit, code: &str, what: impl Into<String>) -> Self {
        let (code, what) = (code.to_owned(), what.into().into_boxed_str());
        Self { exit, code, what, why: Vec::new(), next: Vec::new(), places: Vec::new() }
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Code::Usage, what)
    }

    /// With another exit code than that of the table.
    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }

    /// Nobody reads standard output any more: a reason to stop, not to complain.
    pub fn is_silent(&self) -> bool {
        self.exit == Exit::Ok
    }

    /// Where the documentation has the code, and what it advises; nothing for a code that is in no table of this version.
    fn row(&self) -> Option<(String, &'static str)> {
        let own = || Code::ALL.into_iter().map(Code::row).find(|row| row.text == self.code);
        let hub = || ProblemCode::ALL.into_iter().find(|code| code.as_str() == self.code);
        own().map(|row| (row.docs(), row.next)).or_else(|| hub().map(|code| (code.docs(), code.row().next)))
    }

    /// What has neither advice nor places of its own gets the advice of its code.
    fn shown_next(&self) -> Vec<String> {
        match self.row() {
            Some((_, advice)) if self.next.is_empty() && self.places.is_empty() => vec![advice.to_owned()],
            Some(_) | None => self.next.clone(),
        }
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.places.is_empty() {
            let _ = writeln!(out, "error[{}]: {}", self.code, self.what);
        }
        for place in &self.places {
            let _ = writeln!(out, "error[{}]: {}", self.code, place.head());
            out.push_str(&place.excerpt());
        }
        listed(&mut out, "   why: ", &self.why);
        listed(&mut out, "  next: ", &self.shown_next());
        out
    }

    pub fn json(&self) -> Value {
        let errors: Vec<Value> = self
            .places
            .iter()
            .map(|place| {
                json!({"file": place.file, "line": place.line, "column": place.column, "pointer": place.pointer, "detail": place.detail})
            })
            .collect();
        json!({
            "error": {
                "code": self.code,
                "exitCode": self.exit.code(),
                "what": self.what,
                "why": self.why,
                "next": self.shown_next(),
                "errors": errors,
                "docs": self.row().map(|(docs, _)| docs),
            }
        })
    }
}

fn listed(out: &mut String, lead: &str, items: &[String]) {
    let indent = " ".repeat(lead.len());
    for (line, number) in items.iter().flat_map(|item| item.lines()).zip(0usize..) {
        let _ = writeln!(out, "{}{line}", if number == 0 { lead } else { &indent });
    }
}

impl Place {
    fn head(&self) -> String {
        let Self { file, line, column, detail, pointer, .. } = self;
        match (*line, pointer.is_empty()) {
            (0, true) => format!("{file}  {detail}"),
            (0, false) => format!("{file}  {pointer}: {detail}"),
            (_, _) => format!("{file}:{line}:{column}  {detail}"),
        }
    }

    fn excerpt(&self) -> String {
        if self.line == 0 || self.source.is_empty() {
            return String::new();
        }
        let (line, column) = (self.line, usize::try_from(self.column).unwrap_or(1));
        let indent = " ".repeat(column.saturating_sub(1));
        let marks = "^".repeat(self.width.max(1));
        format!("  {line:>4} | {}\n       | {indent}{marks}\n", self.source)
    }
}

/// A failure of the system below: a file, a pipe, a process.
pub fn system(what: impl Into<String>, error: &std::io::Error) -> Failure {
    Failure::new(Code::System, what).why(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_why_and_next_each_on_its_own_lines() {
        let failure = Failure::new(Code::Short, "2 of 5 replicas are missing")
            .why("only 3 devices fit")
            .why("2 are too far")
            .next("fulmar explain placement wl/hello");
        assert_eq!(
            failure.text(),
            "error[SHORT]: 2 of 5 replicas are missing\n   why: only 3 devices fit\n        2 are too far\n  next: fulmar explain placement wl/hello\n"
        );
    }

    #[test]
    fn what_has_no_advice_of_its_own_gets_that_of_its_code() {
        let text = Failure::usage("no").text();
        assert_eq!(text, "error[USAGE]: no\n  next: --help of the command says what it takes\n");
        assert_eq!(Failure::usage("no").next("yes").json()["error"]["next"], json!(["yes"]));
        assert_eq!(Failure::named(Exit::Failure, "OTHER", "no").json()["error"]["next"], json!([]));
    }

    #[test]
    fn a_mistake_in_a_manifest_is_shown_where_it_is() {
        let mut failure = Failure::hub(ProblemCode::Invalid, "the manifest is not valid");
        failure.places.push(Place {
            file: "a.yaml".to_owned(),
            line: 14,
            column: 5,
            source: "    within_region: munich".to_owned(),
            width: 13,
            pointer: "/spec/placement/within_region".to_owned(),
            detail: "unknown field `within_region`; did you mean `within`?".to_owned(),
        });
        assert_eq!(
            failure.text(),
            "error[INVALID]: a.yaml:14:5  unknown field `within_region`; did you mean `within`?\n    14 |     within_region: munich\n       |     ^^^^^^^^^^^^^\n"
        );
        let json = failure.json();
        assert_eq!(json["error"]["exitCode"], 2);
        assert_eq!(json["error"]["errors"][0]["line"], 14);
    }
}
