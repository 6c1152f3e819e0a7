//! docs/reference/errors.md, generated from the tables of codes of the hub, its scheduler, the wire and this program.

use crate::code::Code;
use crate::exit::Exit;
use hub::device_reason;
use hub::problem_code::ProblemCode;
use hub::scheduler;
use std::fmt::Write as _;

const HEAD: &str = "\
# Codes of errors and reasons

<!-- Generated from the program: UPDATE_GOLDEN=1 cargo test -p fulmar-cli --bin fulmar reference -->

Codes are a promise to scripts: they do not change their meaning. `fulmar explain error CODE` says what stands here.

## What the API answers

Anything but success is `application/problem+json` (RFC 9457) with `code`, `title`, `detail`, and where there is something to say
`errors[]` (JSON pointers with details) and `next[]` (what to do). `docs` names the row in this table. The last column is the exit
code of the command line, where that is not told otherwise.

";
const OWN: &str = "
## What the command line says by itself

`fulmar` prints `error[CODE]: what`, `why` and `next`; with `-o json` one object on standard error. A code of the hub is passed on as it
is, with the exit code of the table above; a hub that refuses without a known code is `HTTP_<status>`. `fulmar fn check` has the codes
of the function engine, which [the interface](../functions.md) describes; `fulmar fn invoke` and `fn dev` end with 1 and the
[reason that a device would report](#what-a-device-says-of-a-workload) when the function failed.

";
const PLACEMENT: &str = "
## Why a device does not get a workload

`fulmar explain placement` counts devices by the first of these that fails, and lists for one device all that fail.

";
const DEVICE: &str = "
## What a device says of a workload

The reasons in a workload's `status.devices`, in placements, and in events.

";

pub fn document() -> String {
    let mut out = HEAD.to_owned();
    out.push_str("| code | HTTP | title | meaning | what next | exit |\n|---|---|---|---|---|---|\n");
    for code in ProblemCode::ALL {
        let row = code.row();
        let exit = Exit::of_problem(row.status, row.text).code();
        let (id, text, status) = (anchor(row.text), row.text, row.status);
        let _ = writeln!(
            out,
            "| {id}`{text}` | {status} | {} | {} | {} | {exit} |",
            cell(row.title),
            cell(row.meaning),
            cell(row.next)
        );
    }
    out.push_str(OWN);
    out.push_str("| code | exit | meaning | what next |\n|---|---|---|---|\n");
    for code in Code::ALL {
        let row = code.row();
        let (id, text, exit) = (anchor(row.text), row.text, row.exit.code());
        let _ = writeln!(out, "| {id}`{text}` | {exit} | {} | {} |", cell(row.meaning), cell(row.next));
    }
    out.push_str(PLACEMENT);
    out.push_str("| code | meaning | if it is not meant to be so |\n|---|---|---|\n");
    for code in scheduler::Code::ALL {
        let _ = writeln!(out, "| `{}` | {} | {} |", code.as_str(), cell(code.meaning()), cell(code.next()));
    }
    out.push_str(DEVICE);
    out.push_str("| code | meaning | what next |\n|---|---|---|\n");
    for row in device_reason::ROWS {
        let _ = writeln!(out, "| `{}` | {} | {} |", row.reason.code(), cell(row.meaning), cell(row.next));
    }
    out
}

/// Where `docs` of a problem leads.
fn anchor(code: &str) -> String {
    format!("<a id=\"{}\"></a>", code.to_ascii_lowercase())
}

/// Text inside a table: words in angle brackets would be tags.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn the_reference_of_errors_is_what_the_tables_say() {
    super::golden("errors.md", &document());
}

#[test]
fn what_a_problem_says_of_its_documentation_is_there() {
    let document = document();
    for code in ProblemCode::ALL {
        let docs = code.docs();
        let (file, id) = docs.split_once('#').unwrap_or_default();
        assert_eq!(file, "docs/reference/errors.md");
        assert_eq!(document.matches(&format!("<a id=\"{id}\"></a>")).count(), 1, "{docs}");
    }
}
