//! Functions as their authors make them, with the real program and the real compilers: begun, built, checked, played, watched.
//!
//! The compilers are those of the machine; `scripts/test` installs what is missing. Without them these tests fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tempfile::TempDir;
use tests::harness::guide::forget_cargo;
use tests::harness::{Agent, Hub, program, wait_until};

/// A Rust function builds its own core library where the compiler is Debian's: minutes on a machine that is busy.
const BUILD_PATIENCE: Duration = Duration::from_secs(900);

#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    /// What was printed by a command that succeeded.
    fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    fn json(self) -> Value {
        let text = self.good();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn steps(self) -> Vec<Value> {
        self.good().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("fulmar"));
    forget_cargo(&mut command);
    command.arg("fn").args(arguments).current_dir(directory);
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Done {
    let output = command(directory, arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn sample(name: &str) -> String {
    format!("{}/../functions/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A new function in a directory of its own.
fn begin(language: &str) -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &["new", "visits", "--lang", language]).good();
    let project = place.path().join("visits");
    (place, project)
}

/// What every new function does, in either language.
fn is_alive(project: &Path) -> Value {
    let built = run(project, &["build", "-o", "json"]).json();
    assert_eq!((&built["entries"], &built["capabilities"]), (&json!(["fulmar_timer"]), &json!(["log", "state"])));
    assert!(built["bytes"].as_u64().unwrap() < 2048, "{built}");
    let checked = run(project, &["check", "--class", "mcu", "--class", "linux", "-o", "json"]).json();
    assert_eq!(checked["digest"], built["digest"]);
    assert!(checked["classes"].as_array().unwrap().iter().all(|class| class["runs"] == true), "{checked}");
    for class in ["linux", "mcu"] {
        let steps = run(project, &["invoke", "--script", "inputs.txt", "--class", class, "-o", "json"]).steps();
        let said: Vec<&str> = steps.iter().filter_map(|step| step["logs"][0]["text"].as_str()).collect();
        let expected = [1, 2, 3, 4].map(|run| format!("hello from the edge, run {run}"));
        assert_eq!(said, expected, "{class}: what it counts survives the restart");
        let stack = steps.iter().map(|step| step["stackBytes"].as_u64().unwrap()).max().unwrap();
        assert!((100..512).contains(&stack), "{stack} bytes of stack");
    }
    // Without inputs: one run, as its trigger says.
    let steps = run(project, &["invoke", "-o", "json"]).steps();
    assert_eq!((steps.len(), &steps[1]["do"], &steps[1]["atMs"]), (2, &json!("tick"), &json!(2000)));
    built
}

#[test]
fn a_new_function_in_c_is_built_checked_and_played() {
    let (_place, project) = begin("c");
    let built = is_alive(&project);
    let (_other_place, other) = begin("c");
    let again = run(&other, &["build", "-o", "json"]).json();
    assert_eq!(
        (&again["digest"], &again["builtBy"]),
        (&built["digest"], &built["builtBy"]),
        "the same in any directory"
    );
}

#[test]
fn a_new_function_in_rust_is_built_checked_and_played() {
    let (_place, project) = begin("rust");
    is_alive(&project);
}

/// What a new function takes of a board, in either language: a sector, a kibibyte or two, and a part of its heap and fuel.
fn fits_a_board(language: &str) {
    let place = tempfile::tempdir().unwrap();
    let target = "mcu-qemu-mps2-an386";
    run(place.path(), &["new", "visits", "--lang", language, "--target", target]).good();
    let project = place.path().join("visits");
    // The project says where it is to run.
    let built = run(&project, &["build", "-o", "json"]).json();
    let report = &built["report"];
    assert_eq!((&report["target"], &report["fits"]), (&json!(target), &json!(true)), "{report:#}");
    let takes = |what: &str| report["figures"][what]["takes"].as_u64().unwrap();
    assert_eq!((takes("module"), takes("flash")), (built["bytes"].as_u64().unwrap(), 4096), "{report:#}");
    assert!((100..=1024).contains(&takes("stack")) && takes("memory") == 1024 + takes("data"), "{report:#}");
    assert!(report["runs"].as_u64() >= Some(4) && takes("fuel") > 100, "its inputs are played: {report:#}");
    assert!(takes("heap") < report["figures"]["heap"]["of"].as_u64().unwrap(), "{report:#}");
    // A grant that its stack alone fills, and a board that has no engine.
    replace(&project.join("workload.yaml"), "memory: 4KiB", "memory: 1KiB");
    let refused = run(&project, &["check", "--target", target, "-o", "json"]);
    let failure: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((refused.code, &failure["error"]["code"]), (1, &json!("DOES_NOT_FIT")), "{refused:?}");
    let report: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!((&report["fits"], &report["why"][0]["code"]), (&json!(false), &json!("MEMORY_TOO_LARGE")));
    assert_eq!(run(&project, &["build", "--target", "mcu-qemu-lm3s6965"]).code, 2);
}

#[test]
fn a_new_function_for_a_board_is_measured_and_held_to_it() {
    fits_a_board("c");
    fits_a_board("rust");
}

#[test]
fn a_sample_is_played_with_its_own_configuration_and_a_failure_has_its_code() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let script = "event t 31\nrestart\nevent t 32\nevent t 27.9\n";
    std::fs::write(here.join("hot.txt"), script).unwrap();
    for module in ["threshold/threshold.wasm", "c/threshold/threshold.wasm"] {
        let arguments = ["invoke", &sample(module), "--config", "high=30;low=28", "--script", "hot.txt", "-o", "json"];
        let steps = run(here, &arguments).steps();
        let emits: Vec<&Value> = steps.iter().filter_map(|step| step["emits"].get(0)).collect();
        let (on, off) =
            (json!({"topic": "threshold", "payload": "on"}), json!({"topic": "threshold", "payload": "off"}));
        assert_eq!(emits, [&on, &off], "{module}");
    }
    let text = run(here, &["invoke", &sample("counter/counter.wasm"), "--event", "door=open"]).good();
    assert!(
        text.contains("event door  open\n    emit   counter  1\n    state  total = 0x0100000000000000 (1)\n"),
        "{text}"
    );

    let endless = "#include \"../fulmar.h\"\nFULMAR_FUNCTION\nFULMAR_EXPORT(fulmar_timer) { for (;;) { fulmar_log_text(FULMAR_INFO, \"x\"); } }\n";
    let (_place, project) = begin("c");
    std::fs::write(project.join("src/main.c"), endless).unwrap();
    run(&project, &["build"]).good();
    let done = run(&project, &["invoke", "-o", "json"]);
    let last: Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["outcome"], &last["reason"]), (&json!("FAILED"), &json!("TRAPPED")));
    assert_eq!(last["detail"], "HOST_QUOTA: it went on calling the host far beyond its quota");
    let failure: Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!(
        (done.code, &failure["error"]["code"], &failure["error"]["exitCode"]),
        (1, &json!("TRAPPED"), &json!(1))
    );

    // What is wrong with the question is another code than what is wrong with the function.
    std::fs::write(here.join("wrong.txt"), "tick\nsleep\n").unwrap();
    for arguments in [
        &["invoke", &sample("counter/counter.wasm"), "--script", "wrong.txt"][..],
        &["invoke", &sample("counter/counter.wasm"), "--event", "door"],
        &["invoke", "nothing.wasm"],
        &["invoke", "."],
        &["invoke", &sample("counter/counter.wasm"), "-o", "name"],
        &["dev", "."],
        &["dev", ".", "--watch"],
    ] {
        let done = run(here, arguments);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{arguments:?}: {done:?}");
        assert!(done.err.contains("next: "), "{arguments:?}: {done:?}");
    }
}

/// `fn dev --watch`, with what it says. Killed when dropped.
struct Watch {
    child: Child,
    said: Receiver<String>,
    heard: Vec<String>,
}

impl Watch {
    fn start(mut command: Command) -> Self {
        // One pipe for both, so that lines come in the order in which they were said.
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // The last ends of the pipe are those of the program.
        drop(command);
        let (sender, said) = channel();
        let relay = move || BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        std::thread::spawn(relay);
        Self { child, said, heard: Vec::new() }
    }

    /// Lines up to the one that says this; fails when it does not come.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.said.recv_timeout(BUILD_PATIENCE) {
                Ok(line) => {
                    lines.push(line.clone());
                    self.heard.push(line);
                    if lines.last().unwrap().contains(text) {
                        return lines;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{text:?} did not come; it said: {:#?}", self.heard)
                }
            }
        }
    }

    fn interrupt(&mut self) -> i32 {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        wait_until("the watch ends", || self.child.try_wait().unwrap().ok_or("it goes on")).code().unwrap_or(-1)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All at once: a watch that sees half a file is right to say so.
fn write(path: &Path, text: &str) {
    let aside = path.with_extension("part");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

fn replace(path: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{}: {text}", path.display());
    write(path, &text.replace(old, new));
}

const WATCHING: &str = "watching for changes; Ctrl-C ends";

#[test]
fn a_watch_shows_every_change_and_every_mistake_and_ends_with_ctrl_c() {
    let (_place, project) = begin("c");
    let source = project.join("src/main.c");
    let mut watch = Watch::start(command(&project, &["dev", "--watch"]));
    let has = |lines: &[String], text: &str| lines.iter().any(|line| line.contains(text));
    let lines = watch.until(WATCHING);
    assert!(has(&lines, "hello from the edge, run 4") && has(&lines, "4 runs as on linux"), "{lines:#?}");

    replace(&source, "\"hello from \", 11", "\"greetings from \", 15");
    let lines = watch.until(WATCHING);
    assert!(has(&lines, "main.c has changed") && has(&lines, "greetings from the edge, run 4"), "{lines:#?}");
    assert!(!has(&lines, "hello from"), "{lines:#?}");

    replace(&source, "uint32_t run = 0;", "uint32_t run = 0");
    let lines = watch.until(WATCHING);
    assert!(has(&lines, "error: expected ';'") && has(&lines, "error[BUILD]: clang could not build the function"));
    assert!(!has(&lines, "greetings"), "nothing is played that was not built: {lines:#?}");

    replace(&source, "uint32_t run = 0", "uint32_t run = 0;");
    assert!(has(&watch.until(WATCHING), "greetings from the edge, run 4"));

    replace(&project.join("workload.yaml"), "\"the edge\"", "\"the roof\"");
    assert!(has(&watch.until(WATCHING), "greetings from the roof, run 4"));

    replace(&project.join("workload.yaml"), "capabilities: [log, state]", "capabilities: [log]");
    let lines = watch.until(WATCHING);
    assert!(has(&lines, "error[LOAD_REFUSED]") && has(&lines, "CAPABILITY_MISSING"), "{lines:#?}");
    replace(&project.join("workload.yaml"), "capabilities: [log]", "capabilities: [log, state]");
    watch.until(WATCHING);

    write(&project.join("inputs.txt"), "wait 100s\n");
    let lines = watch.until(WATCHING);
    assert!(has(&lines, "greetings from the roof, run 50") && !has(&lines, "run 51"), "{lines:#?}");
    write(&project.join("inputs.txt"), "wait\n");
    assert!(has(&watch.until(WATCHING), "inputs.txt:1:1"));

    assert_eq!(watch.interrupt(), 0);
    // What it made is what a build makes, and nothing else.
    let mut names: Vec<String> =
        std::fs::read_dir(&project).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        ".gitignore",
        "README.md",
        "fulmar.h",
        "function.toml",
        "inputs.txt",
        "src",
        "target",
        "visits.wasm",
        "workload.yaml",
    ];
    assert_eq!(names, expected);
}

#[test]
fn ctrl_c_ends_a_compiler_that_is_still_at_work() {
    let (place, project) = begin("c");
    let tools = place.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    // Never ends by itself, and has a child that it does not look after.
    let compiler = format!(
        "#!/bin/sh\nsleep 100000 &\necho $! $$ > {0}/ids.part\nmv {0}/ids.part {0}/ids\nwait\n",
        tools.display()
    );
    for (name, text) in [("clang-19", compiler.as_str()), ("wasm-ld-19", "#!/bin/sh\n")] {
        let mut file = std::fs::File::create(tools.join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = command(&project, &["dev", "--watch"]);
    command.env("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()));
    let mut watch = Watch::start(command);
    let ids = wait_until("the compiler is at work", || std::fs::read_to_string(tools.join("ids")));
    assert_eq!(watch.interrupt(), 0);
    let is_alive =
        |id: &str| std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert_eq!(ids.split_whitespace().count(), 2, "{ids}");
    wait_until("both are gone", || match ids.split_whitespace().find(|id| is_alive(id)) {
        Some(id) => Err(format!("{id} goes on")),
        None => Ok(()),
    });
}

/// A function's directory around a module from its text, with the same manifest for a play and for a device.
fn project_of(place: &Path, name: &str, body: &str, limits: &str) -> PathBuf {
    let project = place.join(name);
    std::fs::create_dir(&project).unwrap();
    let module = wat::parse_str(format!("(module {body} (@custom \"fulmar.abi\" \"\\01\"))")).unwrap();
    std::fs::write(project.join(format!("{name}.wasm")), module).unwrap();
    std::fs::write(project.join("function.toml"), format!("name = \"{name}\"\nlanguage = \"c\"\nstack-bytes = 1024\n"))
        .unwrap();
    let manifest = format!(
        "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {{name: {name}}}\nspec:\n  type: function\n  artifact: file:{name}.wasm\n  \
         function: {{triggers: {{every: 200ms}}, capabilities: [log, state], limits: {limits}}}\n  \
         placement: {{labels: {{fleet: test}}}}\n  replicas: 1\n"
    );
    std::fs::write(project.join("workload.yaml"), manifest).unwrap();
    project
}

#[test]
fn a_play_fails_with_the_words_of_a_device() {
    let place = tempfile::tempdir().unwrap();
    let hub = Hub::start(place.path());
    let _agent = Agent::join(place.path(), &hub, "gw-1", (8.6821, 50.1109));
    let projects = place.path().join("projects");
    std::fs::create_dir(&projects).unwrap();
    let import = |name: &str, params: &str| {
        format!(
            "(import \"fulmar\" \"{name}\" (func (param {params}) (result i32)))
             (memory (export \"memory\") 1) (func (export \"fulmar_timer\"))"
        )
    };
    let log = "(import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
        (memory (export \"memory\") 1) (func (export \"fulmar_timer\") (loop (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1))) (br 0)))";
    let plenty = "{memory: 64KiB, fuel: 100000}";
    let cases: [(&str, String, &str, &str); 9] = [
        ("loops", "(func (export \"fulmar_timer\") (loop (br 0)))".to_owned(), plenty, "OUT_OF_FUEL"),
        ("panics", "(func (export \"fulmar_timer\") unreachable)".to_owned(), plenty, "TRAPPED"),
        ("panics-at-once", "(func (export \"fulmar_start\") unreachable)".to_owned(), plenty, "TRAPPED"),
        ("recurses", "(func $f (export \"fulmar_timer\") (call $f))".to_owned(), plenty, "TRAPPED"),
        (
            "divides",
            "(func (export \"fulmar_timer\") (drop (i32.div_u (i32.const 1) (i32.const 0))))".to_owned(),
            plenty,
            "TRAPPED",
        ),
        ("talks", log.to_owned(), "{memory: 64KiB, fuel: 9000000}", "TRAPPED"),
        ("greedy", import("log", "i32 i32 i32"), "{memory: 8KiB}", "LOAD_REFUSED"),
        ("barred", import("emit", "i32 i32 i32 i32"), plenty, "LOAD_REFUSED"),
        ("foreign", import("fly", "i32"), plenty, "LOAD_REFUSED"),
    ];
    for (name, body, limits, reason) in cases {
        let project = project_of(&projects, name, &body, limits);
        let done = run(&project, &["invoke", "-o", "json"]);
        let last: Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
        assert_eq!((done.code, &last["reason"]), (1, &json!(reason)), "{name}: {done:?}");
        let manifest = project.join("workload.yaml");
        let (code, out, err) = hub.cli(&["apply", "-f", manifest.to_str().unwrap()]);
        assert_eq!(code, 0, "{name}: {out}{err}");
        let reported = hub.wait_reason(name, reason);
        // On the wire a detail is cut.
        let (here, there) = (last["detail"].as_str().unwrap(), reported["detail"].as_str().unwrap());
        assert!(there.len() >= 20 && here.starts_with(there), "{name}: {here:?}, {there:?}");
        hub.remove(name);
    }
}
