//! The README's commands, word for word, against what they start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::harness::{free_port, guide, program, wait_until};

/// Ends `fulmar up` as Ctrl-C does, and its agent with it.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        // A shell that waits for a build takes no notice of the first.
        while matches!(self.0.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The lines of the README's shell blocks.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

fn processes_of(data: &Path) -> String {
    let listed = Command::new("ps").args(["-eo", "pid,args"]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ours = data.display().to_string();
    text.lines().filter(|line| line.contains(&ours)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let all = commands();
    assert_eq!(all.first().map(String::as_str), Some("scripts/up"));
    assert_eq!(all.last().map(String::as_str), Some("scripts/test"), "this very run");
    let directory = tempfile::tempdir().unwrap();
    let (data, state) = (directory.path().join("data"), directory.path().join("state"));
    let addresses = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let up = |log: &str| {
        let log = std::fs::File::create(directory.path().join(log)).unwrap();
        let mut command = Command::new(root().join("scripts/up"));
        guide::forget_cargo(&mut command);
        let process = command
            .arg("--data")
            .arg(&data)
            .args(["--api", &addresses[0], "--broker", &addresses[1]])
            // The build of the tests is as good as the one that ships, and it is there already.
            .env("FULMAR_PROFILE", "dev")
            .env("XDG_STATE_HOME", &state)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Up(process)
    };
    let ready = |log: &str| {
        wait_until("up prints the next command", || {
            let text = std::fs::read_to_string(directory.path().join(log)).unwrap();
            if text.contains("fulmar apply -f examples/hello.yaml --wait") { Ok(text) } else { Err(text) }
        })
    };
    let first = up("first.log");
    let text = ready("first.log");
    assert!(text.contains("50 simulated   1 linux (this machine)   51/51 online"), "{text}");
    let run = |command: &str| {
        let folder = program("fulmar").parent().unwrap().display().to_string();
        let output = Command::new("bash")
            .args(["-euc", command])
            .current_dir(root())
            .env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()))
            .env_remove("FULMAR_DATA")
            .env("XDG_STATE_HOME", &state)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "{command}: {}\n{out}\n{err}", output.status);
        assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "no colours in a pipe: {out}{err}");
        format!("{out}{err}")
    };
    let inner: Vec<&String> = all[1..all.len() - 1].iter().filter(|command| command.starts_with("fulmar ")).collect();
    assert_eq!(inner.len(), 4, "{all:?}");
    let applied = run(inner[0]);
    assert!(applied.contains("hello is Synced and Healthy"), "{applied}");
    wait_until("hello speaks", || {
        let said = run(inner[1]);
        if said.contains("hello from the Rhine, run 1") { Ok(()) } else { Err(said) }
    });
    let explained = run(inner[2]);
    assert!(explained.contains("51 devices considered"), "{explained}");
    let map = run(inner[3]);
    assert!(map.contains("51 devices   o ok 51"), "{map}");
    drop(first);
    assert_eq!(processes_of(&data), "", "Ctrl-C leaves nothing behind");
    // A second start goes on where the first one stopped.
    let second = up("second.log");
    ready("second.log");
    wait_until("hello counts on", || {
        let said = run("fulmar logs wl/hello");
        let number = said.lines().last().and_then(|line| line.rsplit("run ").next()?.trim().parse::<u64>().ok());
        number.filter(|number| *number > 1).map(|_| ()).ok_or(said)
    });
    drop(second);
    assert_eq!(processes_of(&data), "");
}
