//! `explain error CODE`: what the reference of codes says, from this program's own tables, so that it needs neither hub nor network.

use crate::args::Output;
use crate::code::Code;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{print, whole};
use hub::device_reason;
use hub::model::nearest;
use hub::problem_code::ProblemCode;
use hub::scheduler;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// One row of one table.
struct Entry {
    code: &'static str,
    /// Who says it.
    of: String,
    meaning: &'static str,
    next: &'static str,
    exit: Option<Exit>,
}

fn entries() -> Vec<Entry> {
    let problems = ProblemCode::ALL.map(|code| {
        let row = code.row();
        let exit = Some(Exit::of_problem(row.status, row.text));
        Entry {
            code: row.text,
            of: format!("the hub, HTTP {}", row.status),
            meaning: row.meaning,
            next: row.next,
            exit,
        }
    });
    let own = Code::ALL.map(|code| {
        let row = code.row();
        let of = "the command line".to_owned();
        Entry { code: row.text, of, meaning: row.meaning, next: row.next, exit: Some(row.exit) }
    });
    let placement = scheduler::Code::ALL.map(|code| Entry {
        code: code.as_str(),
        of: "placement".to_owned(),
        meaning: code.meaning(),
        next: code.next(),
        exit: None,
    });
    let device = device_reason::ROWS.map(|row| Entry {
        code: row.reason.code(),
        of: "a device".to_owned(),
        meaning: row.meaning,
        next: row.next,
        exit: None,
    });
    problems.into_iter().chain(own).chain(placement).chain(device).collect()
}

pub fn run(output: Output, code: &str) -> Result<(), Failure> {
    let wanted = code.to_ascii_uppercase().replace('-', "_");
    let all = entries();
    let found: Vec<&Entry> = all.iter().filter(|entry| entry.code == wanted).collect();
    if found.is_empty() {
        let known: Vec<&str> = all.iter().map(|entry| entry.code).collect();
        let failure =
            Failure::usage(format!("there is no code {code:?}")).next("docs/reference/errors.md has all codes");
        return Err(match nearest(&wanted, &known) {
            Some(near) => failure.next(format!("fulmar explain error {near}")),
            None => failure,
        });
    }
    let items: Vec<Value> = found.iter().map(|entry| entry.json()).collect();
    if whole(output, &json!({"items": items}))? {
        return Ok(());
    }
    print(&found.iter().map(|entry| entry.text()).collect::<Vec<String>>().join("\n"))
}

impl Entry {
    fn json(&self) -> Value {
        let Self { code, of, meaning, next, exit } = self;
        json!({"code": code, "saidBy": of, "meaning": meaning, "next": next, "exitCode": exit.map(Exit::code)})
    }

    fn text(&self) -> String {
        let Self { code, of, meaning, next, exit } = self;
        let mut out = format!("{code}   said by {of}");
        if let Some(exit) = exit {
            let _ = write!(out, ", exit code {}", exit.code());
        }
        let _ = write!(out, "\n  {meaning}\n  next: {next}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_with_who_says_it() {
        let all = entries();
        let texts: Vec<String> = all.iter().filter(|entry| entry.code == "NO_SPACE").map(Entry::text).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts.first().is_some_and(|text| text.starts_with("NO_SPACE   said by the hub, HTTP 507, exit code 1\n"))
        );
        assert!(texts.last().is_some_and(|text| text.starts_with("NO_SPACE   said by a device\n")), "{texts:?}");
    }

    #[test]
    fn a_code_that_is_nearly_right_is_suggested() {
        assert_eq!(run(Output::Name, "wolkr").err().map(|failure| failure.exit), Some(Exit::Usage));
        let failure = run(Output::Table, "NOTFOUND").err().unwrap_or_else(|| Failure::usage(""));
        assert!(failure.next.iter().any(|next| next == "fulmar explain error NOT_FOUND"), "{failure:?}");
    }
}
