//! Runs a guide (Markdown) as its reader would: every `sh` block word for word, in order, in a directory that looks like a checkout.
//!
//! - A block marked `sh background` is started and goes on until the end of the guide, where it gets Ctrl-C.
//! - `<!-- test: expect "TEXT" -->` after a block: its output holds TEXT.
//! - `<!-- test: until "TEXT" -->` after a block: the same, for what takes a while; the block is repeated.
//! - `<!-- test: fails -->` after a block: its last command is meant to fail.
//! - `<!-- test: skip REASON -->` before a block: not executed. Tests list the reasons.
//! - Blocks of another kind whose first line is `# file: NAME` or `// file: NAME` are written to that file.
//!
//! Nothing of the person at this machine is used or changed: home, state and configuration are fresh.

use super::{PATIENCE, program, wait_until};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For one block: a build of a function is the longest.
const BLOCK_DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);
/// What a reader's checkout has.
const CHECKOUT: [&str; 5] = ["docs", "examples", "functions", "README.md", "boards"];

#[derive(Debug, PartialEq, Eq)]
enum What {
    Run,
    Background,
    File(String),
}

#[derive(Debug)]
struct Block {
    /// Of the first line of its text.
    line: usize,
    what: What,
    text: String,
    expected: Vec<String>,
    awaited: Vec<String>,
    fails: bool,
    skipped: Option<String>,
}

fn quoted(text: &str) -> String {
    text.trim().trim_matches('"').to_owned()
}

fn kind(info: &str, first: &str) -> Option<What> {
    match info {
        "sh" => Some(What::Run),
        "sh background" => Some(What::Background),
        _ => {
            let name = first.strip_prefix("# file: ").or_else(|| first.strip_prefix("// file: "))?;
            Some(What::File(name.trim().to_owned()))
        }
    }
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut skip = None;
    let mut lines = (1..).zip(guide.lines());
    while let Some((_, line)) = lines.next() {
        if let Some(comment) = line.trim().strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix("-->")) {
            let (word, rest) = comment.trim().split_once(' ').unwrap_or((comment.trim(), ""));
            match (word, blocks.last_mut()) {
                ("skip", _) => skip = Some(rest.trim().to_owned()),
                ("expect", Some(block)) => block.expected.push(quoted(rest)),
                ("until", Some(block)) => block.awaited.push(quoted(rest)),
                ("fails", Some(block)) => block.fails = true,
                _ => panic!("a test comment that says nothing: {line}"),
            }
        } else if let Some(info) = line.trim_start().strip_prefix("```") {
            let inside: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| line.trim() != "```").collect();
            let text: String = inside.iter().map(|(_, line)| format!("{line}\n")).collect();
            if let Some((first, what)) = inside.first().and_then(|(at, line)| Some((*at, kind(info.trim(), line)?))) {
                let (expected, awaited, skipped) = (Vec::new(), Vec::new(), skip.take());
                blocks.push(Block { line: first, what, text, expected, awaited, fails: false, skipped });
            }
        }
    }
    blocks
}

/// The reasons for which blocks of a guide are not executed.
pub fn skipped(guide: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(guide).unwrap();
    blocks(&text).into_iter().filter_map(|block| block.skipped).collect()
}

/// What cargo sets for a test is not in an operator's terminal, and would have build scripts run again.
pub fn forget_cargo(command: &mut Command) {
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
}

/// A process that Ctrl-C ends.
struct Background {
    process: Child,
    log: PathBuf,
    block: usize,
}

impl Background {
    fn interrupt(&mut self) {
        // A shell that waits for a build takes no notice of the first.
        while matches!(self.process.try_wait(), Ok(None)) {
            let group = format!("-{}", self.process.id());
            let _ = Command::new("kill").args(["-INT", "--", &group]).status();
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the block in the background at line {} said:\n{}", self.block, self.said());
        }
        self.interrupt();
    }
}

struct Reader {
    name: String,
    /// Looks like a checkout.
    place: PathBuf,
    home: PathBuf,
}

impl Reader {
    fn new(root: &Path, directory: &Path, name: &str) -> Self {
        let (place, home) = (directory.join("fulmar"), directory.join("home"));
        std::fs::create_dir_all(place.join("scripts")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        for entry in CHECKOUT {
            symlink(root.join(entry), place.join(entry)).unwrap();
        }
        // Built already, and read beside other guides: the ports are whatever is free. The README's test runs the script itself.
        let up = "#!/bin/sh\nexec fulmar up --demo --api 127.0.0.1:0 --broker 127.0.0.1:0 \"$@\"\n";
        // The real one, where this machine has built already.
        let built = |name: &str| std::env::var(name).map_or(String::new(), |path| format!("export {name}='{path}'\n"));
        let built = built("CARGO_TARGET_DIR") + &built("BARE_TARGET_DIR");
        let firmware = format!("#!/bin/sh\n{built}exec '{}' \"$@\"\n", root.join("scripts/firmware").display());
        for (name, text) in [("scripts/up", up), ("scripts/firmware", firmware.as_str())] {
            let path = place.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { name: name.to_owned(), place, home }
    }

    /// A shell that goes on where the last one was: directory and variables.
    fn shell(&self, block: &Block) -> Command {
        let state = self.home.join(".shell");
        let after = match block.what {
            What::Run => format!("\nexport -p >'{0}'; echo \"cd '$PWD'\" >>'{0}'", state.display()),
            What::Background | What::File(_) => String::new(),
        };
        // A reader has one terminal: every variable is there in the next block.
        let script = format!("set -a; [ ! -e '{0}' ] || . '{0}'\n{1}{after}", state.display(), block.text);
        let programs = program("fulmar").parent().unwrap().display().to_string();
        let machine = std::env::var("HOME").unwrap_or_default();
        let of_machine =
            |variable: &str, default: &str| std::env::var(variable).unwrap_or_else(|_| format!("{machine}/{default}"));
        let mut command = Command::new("bash");
        forget_cargo(&mut command);
        command
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.place)
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
            // Compilers and their caches are the machine's.
            .env("CARGO_HOME", of_machine("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", of_machine("RUSTUP_HOME", ".rustup"))
            .env("XDG_CACHE_HOME", of_machine("XDG_CACHE_HOME", ".cache"))
            .env("HOME", &self.home)
            .env("XDG_STATE_HOME", self.home.join("state"))
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("XDG_DATA_HOME", self.home.join("share"))
            .env("TMPDIR", &self.home)
            .stdin(Stdio::null())
            .process_group(0);
        // Guides name the directory of builds that ship; the programs under test are others.
        ["CARGO_TARGET_DIR", "FULMAR_DATA", "FULMAR_SERVER", "FULMAR_TOKEN", "FULMAR_CONTEXT"].iter().for_each(
            |name| {
                command.env_remove(name);
            },
        );
        command
    }

    /// Processes that a guide started and nobody ended: they live in its home.
    fn left_behind(&self) -> Vec<String> {
        let home = format!("HOME={}", self.home.display());
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let lives_here = |id: &String| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
        };
        processes.filter(|name| name.parse::<u32>().is_ok()).filter(lives_here).collect()
    }

    fn at(&self, block: &Block) -> String {
        format!("{}:{}", self.name, block.line)
    }

    fn write(&self, name: &str, block: &Block) {
        let relative = Path::new(name);
        assert!(relative.is_relative() && !name.contains(".."), "{}: a file outside of the directory", self.at(block));
        let path = self.place.join(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = block.text.lines().skip(1).map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).unwrap();
    }

    /// Everything that one execution said, and whether it succeeded.
    fn execute(&self, block: &Block) -> (bool, String) {
        let log = self.home.join("output");
        let file = std::fs::File::create(&log).unwrap();
        let mut process = self.shell(block).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > BLOCK_DEADLINE {
                let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", process.id())]).status();
                let _ = process.wait();
                let said = std::fs::read_to_string(&log).unwrap();
                panic!("{} did not end in {BLOCK_DEADLINE:?}:\n{}\n--- it said:\n{said}", self.at(block), block.text);
            }
            std::thread::sleep(POLL);
        };
        (status.success(), String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned())
    }

    fn run(&self, block: &Block) {
        let begin = Instant::now();
        loop {
            let (success, said) = self.execute(block);
            let missing = block.awaited.iter().find(|text| !said.contains(*text));
            let has_failed = success == block.fails;
            if (missing.is_some() || has_failed) && !block.awaited.is_empty() && begin.elapsed() < PATIENCE {
                std::thread::sleep(POLL * 4);
                continue;
            }
            let what = format!("{}:\n{}--- it said:\n{said}", self.at(block), block.text);
            assert!(!has_failed, "the block {} {what}", if success { "should fail" } else { "fails" });
            let unseen = missing.or_else(|| block.expected.iter().find(|text| !said.contains(*text)));
            assert!(unseen.is_none(), "{unseen:?} is missing in what the block said {what}");
            return;
        }
    }

    fn start(&self, block: &Block) -> Background {
        let log = self.home.join(format!("background-{}", block.line));
        let file = std::fs::File::create(&log).unwrap();
        let process = self.shell(block).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let mut background = Background { process, log, block: block.line };
        for text in block.expected.iter().chain(&block.awaited) {
            wait_until(&format!("{} says {text:?}", self.at(block)), || {
                let ended = background.process.try_wait().unwrap();
                let said = background.said();
                assert!(ended.is_none() || said.contains(text), "it ended ({ended:?}):\n{said}");
                if said.contains(text) { Ok(()) } else { Err(said) }
            });
        }
        background
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for id in self.left_behind() {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
    }
}

/// Follows a guide to its end. `guide` is relative to `root`, the checkout.
pub fn follow(root: &Path, guide: &str) {
    follow_text(root, guide, &std::fs::read_to_string(root.join(guide)).unwrap());
}

/// Follows a guide that is not in a file; the name is for messages.
pub fn follow_text(root: &Path, guide: &str, text: &str) {
    let blocks = blocks(text);
    assert!(blocks.iter().any(|block| block.skipped.is_none()), "{guide} has nothing to execute");
    let directory = tempfile::tempdir().unwrap();
    let reader = Reader::new(root, directory.path(), guide);
    let mut background = Vec::new();
    for block in blocks.iter().filter(|block| block.skipped.is_none()) {
        match &block.what {
            What::Run => reader.run(block),
            What::Background => background.push(reader.start(block)),
            What::File(name) => reader.write(name, block),
        }
    }
    // The last one started ends first.
    while let Some(mut last) = background.pop() {
        last.interrupt();
    }
    wait_until(&format!("{guide} leaves no process behind"), || {
        let left = reader.left_behind();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guide(text: &str) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("guide.md"), text).unwrap();
        // Links to what a checkout has lead nowhere here, and nothing follows them.
        follow(directory.path(), "guide.md");
    }

    #[test]
    fn blocks_share_variables_and_directory_and_files_are_written() {
        guide(
            "```sh\nexport A=one\nmkdir d\ncd d\n```\n\n```yaml\n# file: d/x.yaml\nkey: value\n```\n\n```text\nnot executed\n```\n\
             ```sh\necho $A\ncat x.yaml\n```\n<!-- test: expect \"one\" -->\n<!-- test: expect \"key: value\" -->\n",
        );
    }

    #[test]
    #[should_panic(expected = "guide.md:2")]
    fn a_block_that_fails_is_named() {
        guide("```sh\nfalse\necho not reached\n```\n");
    }

    #[test]
    #[should_panic(expected = "is missing")]
    fn a_text_that_does_not_come_fails() {
        guide("```sh\necho one\n```\n<!-- test: expect \"two\" -->\n");
    }

    #[test]
    fn what_takes_a_while_is_asked_again_and_what_runs_behind_gets_an_interrupt() {
        guide(
            "```sh background\ntrap 'echo bye > ended; exit' INT; sleep 0.3; touch ready; while :; do sleep 0.05; done\n```\n\
             ```sh\nls ready\n```\n<!-- test: until \"ready\" -->\n",
        );
    }
}
