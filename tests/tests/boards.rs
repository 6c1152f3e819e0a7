//! From `fulmar flash` to a device that is online, with a real hub and a real join, and a double in place of the emulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::harness::site::Site;
use tests::harness::{program, wait_until};
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::Provision;

/// A board whose emulator is the double, in a folder of the site.
fn board(site: &Site) -> [String; 2] {
    board_in(site.directory.path())
}

fn board_in(site: &Path) -> [String; 2] {
    let example = include_str!("../../board/example.toml");
    let (head, _) = example.split_once("[qemu]\n").unwrap();
    let qemu = format!(
        "[qemu]\nprogram = {:?}\npackage = \"none\"\nflash_file_bytes = 0x10_0000\nflash_file_offset = 0\nhost = \"127.0.0.1\"\nargs = [\"{{flash}}\", \"{{image}}\", {:?}]\n",
        program("board-double"),
        program("fulmar-agent"),
    );
    let text = head.replace("bytes = 0x100_0000", "bytes = 0x10_0000");
    let folder = site.join("double");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("board.toml"), text + &qemu).unwrap();
    let image = site.join("image.elf");
    std::fs::write(&image, elf()).unwrap();
    [folder, image].map(|path| path.display().to_string())
}

/// A program of four bytes for a Cortex-M, at address 0.
fn elf() -> Vec<u8> {
    let header: [u32; 9] = [0x0028_0002, 1, 0, 52, 0, 0, 0x0020_0034, 0x0028_0001, 0];
    let segment: [u32; 8] = [1, 84, 0, 0, 4, 4, 5, 4];
    let words = header.into_iter().chain(segment).flat_map(u32::to_le_bytes);
    let start = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".iter().copied();
    start.chain(words).chain(*b"code").collect()
}

fn flash_of(site: &Site, name: &str) -> PathBuf {
    site.hub.data().join("boards").join(name).join("flash.bin")
}

fn device(site: &Site, name: &str) -> Value {
    site.hub.get(&format!("/v1/devices/{name}"))
}

/// Takes the power from every board of the site, also when a test fails: they run in the background, as boards do.
struct Unplug<'a>(&'a Site);

impl Drop for Unplug<'_> {
    fn drop(&mut self) {
        for board in std::fs::read_dir(self.0.hub.data().join("boards")).into_iter().flatten().flatten() {
            self.0.run(&["boards", "stop", &board.file_name().to_string_lossy()]);
        }
    }
}

/// Every process that names the directory.
fn processes_of(directory: &Path) -> String {
    let listed = Command::new("ps").args(["-eo", "pid,args"]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ours = directory.display().to_string();
    text.lines().filter(|line| line.contains(&ours)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_board_is_flashed_joins_and_keeps_its_flash_over_a_loss_of_power() {
    let site = Site::new();
    let _unplug = Unplug(&site);
    let [board, image] = board(&site);
    let flash = ["flash", "--board", &board, "--image", &image];
    let first =
        [&flash[..], &["--name", "mcu-1", "--at", "11.5755,48.1372", "-l", "site=garden", "-o", "json"]].concat();
    let done = site.run(&first).json();
    assert_eq!((&done["device"], &done["state"]), (&json!("mcu-1"), &json!("online")));
    let mcu = device(&site, "mcu-1");
    assert_eq!(mcu["metadata"]["labels"]["site"], "garden");
    assert_eq!(mcu["status"]["position"]["point"], json!([11.5755, 48.1372]));
    // The record at the beginning of the flash is what the device joined with.
    let bytes = std::fs::read(flash_of(&site, "mcu-1")).unwrap();
    let record = Provision::decode(&bytes[..PROVISION_BYTES_MAX]).unwrap();
    assert_eq!((record.board, record.name), ("example", "mcu-1"));
    assert_eq!(record.token.broker, format!("mqtt://127.0.0.1:{}", site.hub.broker_port()));
    assert_eq!(bytes.len(), 0x10_0000);

    let boards = site.run(&["boards", "emulated", "-o", "json"]).json();
    assert_eq!((&boards["items"][0]["name"], &boards["items"][0]["power"]), (&json!("mcu-1"), &json!("on")));
    let said = site.run(&["monitor", "mcu-1", "--no-follow"]);
    assert!(said.out.starts_with("double: example as mcu-1 for mqtt://127.0.0.1:") && said.code == 0, "{said:?}");
    let again = site.run(&["boards", "start", "mcu-1"]);
    assert!(again.code == 6 && again.err.contains("error[BOARD_RUNS]"), "{again:?}");
    let taken = site.run(&first);
    assert!(taken.code == 1 && taken.err.contains("NAME_TAKEN"), "{taken:?}");

    assert_eq!(site.run(&["boards", "stop", "mcu-1"]).only(), "board mcu-1 has no power any more\n");
    assert_eq!(processes_of(&site.hub.data().join("boards")), "");
    assert_eq!(site.run(&["boards", "stop", "mcu-1"]).only(), "board mcu-1 had no power\n");
    let ended = site.run(&["monitor", "mcu-1", "--tail", "1"]);
    assert!(ended.code == 0 && ended.err.contains("the board has no power"), "{ended:?}");
    let id = mcu["status"]["id"].clone();
    assert_eq!(site.run(&["boards", "start", "mcu-1"]).code, 0);
    wait_until("it starts a second time", || {
        let said = site.run(&["monitor", "mcu-1", "--no-follow", "--tail", "100"]).out;
        if said.contains("start 1\n") { Ok(()) } else { Err(said) }
    });
    site.hub.wait_online("mcu-1");
    assert_eq!(device(&site, "mcu-1")["status"]["id"], id, "it is the device that it was");

    // Flashed anew, it is another device, and what it keeps for itself is still there.
    assert_eq!(site.run(&["device", "decommission", "mcu-1", "--force"]).code, 0);
    let done = site.run(&first).json();
    assert_eq!(done["state"], "online");
    assert_ne!(device(&site, "mcu-1")["status"]["id"], id);
    let said = site.run(&["monitor", "mcu-1", "--no-follow", "--tail", "100"]).out;
    assert!(said.contains("start 2\n"), "{said}");
    assert_eq!(site.run(&["device", "decommission", "mcu-1", "--force"]).code, 0);
    let erased = [&first[..], &["--erase"]].concat();
    assert_eq!(site.run(&erased).json()["state"], "online");
    assert_eq!(std::fs::read(flash_of(&site, "mcu-1")).unwrap()[0x1000], 0, "the first start on erased flash");

    // A second one without a name gets the first free number, and waits if it is told to.
    let second = [&flash[..], &["--at", "9.99,53.55", "--unapproved", "-o", "json"]].concat();
    let done = site.run(&second).json();
    assert_eq!((&done["device"], &done["state"]), (&json!("example-1"), &json!("waiting")));
    let listed = site.run(&["boards", "emulated", "-o", "name"]).only();
    assert_eq!(listed, "example-1\nmcu-1\n");
    for name in ["example-1", "mcu-1"] {
        assert_eq!(site.run(&["boards", "stop", name]).code, 0);
    }
    assert_eq!(processes_of(&site.hub.data().join("boards")), "");
}

#[test]
fn what_cannot_be_flashed_costs_no_token_and_says_what_to_do() {
    let site = Site::new();
    let [board, image] = board(&site);
    std::fs::write(site.path("other.elf"), b"no image").unwrap();
    let silicon = site.path("silicon");
    std::fs::create_dir(&silicon).unwrap();
    let example = include_str!("../../board/example.toml");
    let (head, _) = example.split_once("[qemu]\n").unwrap();
    std::fs::write(silicon.join("board.toml"), format!("{head}[probe_rs]\nchip = \"a\"\n")).unwrap();
    for (arguments, code, name) in [
        (vec!["--board", "toaster"], 8, "NO_BOARD"),
        (vec!["--board", &board, "--image", "other.elf"], 2, "IMAGE"),
        (vec!["--board", &board, "--image", "missing.elf"], 1, "SYSTEM"),
        (vec!["--board", &board], 2, "USAGE"),
        (vec!["--board", &board, "--image", &image, "--at", "here"], 2, "USAGE"),
        (vec!["--board", &board, "--image", &image, "--wifi", "garden"], 2, "USAGE"),
        (vec!["--board", "silicon", "--image", &image], 1, "NO_TOOL"),
    ] {
        let mut command = site.command(&[&["flash"], &arguments[..]].concat());
        // Whatever is installed on this machine.
        command.env("PATH", "/nonexistent");
        let done = tests::harness::site::finish(command, "");
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}: {done:?}");
        assert!(done.err.contains(&format!("error[{name}]")), "{arguments:?}: {done:?}");
        assert!(done.err.contains("  next: "), "{arguments:?}: {done:?}");
    }
    assert!(!site.hub.data().join("boards").exists());
    // A device that was never flashed.
    let done = site.run(&["monitor", "mcu-9"]);
    assert!(done.code == 8 && done.err.contains("error[NO_BOARD]"), "{done:?}");
}

#[test]
fn a_board_that_never_comes_is_a_time_out_with_its_last_words() {
    let site = Site::new();
    let _unplug = Unplug(&site);
    let [board, image] = board(&site);
    let table = std::fs::read_to_string(site.path("double/board.toml")).unwrap();
    let mute = table.replace(&format!("{:?}", program("board-double")), "\"sh\"");
    let (head, _) = mute.split_once("args = [").unwrap();
    let args = "args = [\"-c\", \"echo no network; exec sleep 600 # {flash} {image}\"]\n";
    std::fs::write(site.path("double/board.toml"), format!("{head}{args}")).unwrap();
    let flash = ["flash", "--board", &board, "--image", &image, "--name", "mcu-1", "--timeout", "2s"];
    let done = site.run(&flash);
    assert_eq!(done.code, 7, "{done:?}");
    for words in
        ["has not seen the device mcu-1 after 2.0s", "written, not joined yet", "no network", "fulmar monitor mcu-1"]
    {
        assert!(done.err.contains(words), "{words}: {done:?}");
    }
    assert_eq!(site.run(&["boards", "stop", "mcu-1"]).code, 0);

    let args = "args = [\"-c\", \"echo it broke; echo qemu: fatal >&2; exit 3 # {flash} {image}\"]\n";
    std::fs::write(site.path("double/board.toml"), format!("{head}{args}")).unwrap();
    let done = site.run(&flash);
    assert!(done.code == 1 && done.err.contains("error[EMULATOR]"), "{done:?}");
    assert!(done.err.contains("qemu: fatal"), "{done:?}");
    assert_eq!(processes_of(&site.hub.data().join("boards")), "");
}

/// A running `fulmar up`. Killed when dropped.
struct Up(std::process::Child);

impl Up {
    fn start(site: &Path, log: &str, board: &str, image: &str) -> (Self, Value) {
        let path = site.join(log);
        let out = std::fs::File::create(&path).unwrap();
        let process = Command::new(program("fulmar"))
            .args([
                "up",
                "--demo",
                "--devices",
                "1",
                "--no-agent",
                "--qemu",
                "2",
                "--qemu-board",
                board,
                "--qemu-image",
                image,
            ])
            .args(["--api", "127.0.0.1:0", "--broker", "127.0.0.1:0", "-o", "json", "--data"])
            .arg(site.join("data"))
            .env("XDG_STATE_HOME", site.join("state"))
            .stdin(std::process::Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let up = Self(process);
        let said = wait_until("up says what runs", || {
            let said = std::fs::read_to_string(&path).unwrap();
            let shown = said.lines().find(|line| line.starts_with('{')).map(str::to_owned);
            shown.filter(|_| said.contains("Next:")).ok_or(said)
        });
        (up, serde_json::from_str(&said).unwrap())
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn emulated_boards_run_beside_a_demonstration_and_end_with_it_and_come_back_as_they_were() {
    let site = tempfile::tempdir().unwrap();
    let [board, image] = board_in(site.path());
    let (mut up, said) = Up::start(site.path(), "first.log", &board, &image);
    assert_eq!(said["devices"], json!({"all": 3, "simulated": 1, "emulated": 2, "online": 3}), "{said}");
    let boards = site.path().join("data/boards");
    let flash =
        |name: &str| std::fs::read(boards.join(name).join("flash.bin")).unwrap()[..PROVISION_BYTES_MAX].to_vec();
    let first = ["example-1", "example-2"].map(flash);
    let places = first.each_ref().map(|bytes| Provision::decode(bytes).unwrap().position.unwrap());
    assert_ne!(places[0], places[1]);
    // However the hub ends, nothing of the boards is left.
    up.kill();
    wait_until("the boards have ended with their hub", || match processes_of(&boards) {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });
    let (mut up, said) = Up::start(site.path(), "second.log", &board, &image);
    assert_eq!(said["devices"]["online"], 3, "{said}");
    assert_eq!(["example-1", "example-2"].map(flash), first, "they were not flashed anew");
    let log = std::fs::read_to_string(boards.join("example-2/board.log")).unwrap();
    assert!(log.contains("start 0\n") && log.contains("start 1\n"), "{log}");
    up.kill();
    wait_until("the boards have ended again", || match processes_of(&boards) {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });
}
