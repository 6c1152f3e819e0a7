//! An emulated board as a process: its log lines, QEMU's own control socket, and a debugger's one where a test needs it.
//!
//! Boards run in real time. A test waits for lines, each with a deadline, and never for time to pass.
use super::{Hub, PATIENCE};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;
use wire::Digest;
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::limits::{JOIN_SECRET_BYTES, PROVISION_BYTES_MAX};
use wire::position::Position;
use wire::provision::{EntropySeed, MacAddress, Network, Provision};
use wire::topic::TokenId;

/// The token of a hub that is not there.
pub fn token_of_nobody() -> JoinToken<'static> {
    JoinToken {
        id: TokenId([1; 8]),
        secret: [2; JOIN_SECRET_BYTES],
        fleet: "home",
        broker: "mqtt://192.0.2.2:1",
        certificate: None,
        hub: Digest([3; 32]),
    }
}

/// Writes what a flasher would.
pub fn provision(flash: &Path, board: &str, token: JoinToken<'_>, network: Network) {
    provision_as("porch", flash, board, token, network, None);
}

fn provision_as(
    name: &str,
    flash: &Path,
    board: &str,
    token: JoinToken<'_>,
    network: Network,
    position: Option<Position>,
) {
    let record = Provision {
        board,
        name,
        token,
        position,
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        network,
        wifi: None,
        // Another device has another key.
        seed: EntropySeed(Digest::of(name.as_bytes()).0),
    };
    let mut buffer = [0; PROVISION_BYTES_MAX];
    let bytes = record.encode(&mut buffer).unwrap();
    OpenOptions::new().write(true).open(flash).unwrap().write_all_at(bytes, 0).unwrap();
}

/// A flash with a record for the device `porch` of a hub, and a token that is approved.
pub fn provision_for(hub: &Hub, flash: &Path, board: &str, position: Option<Position>) {
    provision_for_as("porch", hub, flash, board, position);
}

/// The same for a device of any name.
pub fn provision_for_as(name: &str, hub: &Hub, flash: &Path, board: &str, position: Option<Position>) {
    let mut blank = Board::start(board, flash);
    blank.wait_line("there is no provisioning record");
    blank.cut_power();
    let text = hub.join_token(true);
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    let token = JoinToken::parse(&text, &mut buffer).unwrap();
    // This machine's loopback, as the board sees it.
    let broker = format!("mqtt://192.0.2.2:{}", hub.broker_port());
    provision_as(name, flash, board, JoinToken { broker: &broker, ..token }, Network::Dhcp, position);
}

/// A board that runs until it is dropped.
pub struct Board {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    control: PathBuf,
    debug: PathBuf,
}

impl Board {
    /// Starts a board with its storage in `flash`, which is made if it is not there. Sockets are put beside it. The image that was
    /// built is in its slot.
    pub fn start(name: &str, flash: &Path) -> Self {
        Self::start_with(name, flash, &[], &[])
    }

    /// Gives a board its power back: what is in its slots runs.
    pub fn power_up(name: &str, flash: &Path) -> Self {
        Self::start_with(name, flash, &["--as-it-is"], &[])
    }

    /// As `start`, on an emulator with more options.
    pub fn start_on(name: &str, flash: &Path, emulator: &[&str]) -> Self {
        Self::start_with(name, flash, &[], emulator)
    }

    fn start_with(name: &str, flash: &Path, more: &[&str], emulator: &[&str]) -> Self {
        let folder = flash.parent().unwrap();
        let stem = flash.file_stem().unwrap().to_string_lossy();
        let (control, debug) = (folder.join(format!("{stem}.qmp")), folder.join(format!("{stem}.gdb")));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut child = Command::new(root.join("scripts/qemu"))
            .args([name, "--built", "--flash"])
            .arg(flash)
            .args(more)
            .arg("--")
            .args(["-qmp", &format!("unix:{},server=on,wait=off", control.display())])
            .args(["-chardev", &format!("socket,path={},server=on,wait=off,id=debug", debug.display())])
            .args(["-gdb", "chardev:debug"])
            .args(emulator)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/qemu starts");
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new(), control, debug }
    }

    /// The next line that contains `text`; lines before it are passed over.
    pub fn wait_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => {
                    panic!("waited in vain for {text:?} ({error}); the board said:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Every line that was waited for or passed over.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Lets it run until a moment, whatever it says.
    pub fn pass_until(&mut self, at: Instant) {
        while let Ok(line) = self.lines.recv_timeout(at.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
    }

    /// Carries out a command of QEMU's machine protocol.
    pub fn control(&self, command: &str) {
        self.ask(command, &json!({}));
    }

    /// A word of the machine's memory or of a device in it.
    pub fn word(&self, address: u32) -> u32 {
        let line = format!("xp /1wx {address:#x}");
        let answer = self.ask("human-monitor-command", &json!({ "command-line": line }));
        let text = answer.as_str().and_then(|text| text.rsplit("0x").next()).unwrap_or_default();
        u32::from_str_radix(text.trim(), 16).unwrap_or_else(|_| panic!("{line}: {answer}"))
    }

    /// What is in the memory that the processor sees at `address`.
    pub fn memory(&self, address: u32, bytes: u32) -> Vec<u8> {
        let file = self.control.with_extension("memory");
        self.ask("pmemsave", &json!({ "val": address, "size": bytes, "filename": file }));
        std::fs::read(file).unwrap()
    }

    /// What a command of QEMU's machine protocol returns.
    pub fn ask(&self, command: &str, arguments: &Value) -> Value {
        let stream = UnixStream::connect(&self.control).expect("QEMU listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.next().expect("a greeting").unwrap();
        let mut returned = Value::Null;
        for (command, arguments) in [("qmp_capabilities", &json!({})), (command, arguments)] {
            writeln!(&stream, "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
            let answer = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
            let answer = answer.into_iter().find(|answer| answer.get("event").is_none()).expect("an answer");
            returned = answer.get("return").unwrap_or_else(|| panic!("{command}: {answer}")).clone();
        }
        returned
    }

    /// Stops the processor, as a debugger does, and lets it go on at `address`, where it finds `code`. `counter` is
    /// the debugger's number for the program counter.
    pub fn jump(&self, counter: u32, address: u32, code: &[u8]) {
        Debugger::stop(&self.debug).go_on_at(counter, address, code);
    }

    /// As `jump`, from the next instruction that reads the word at `watched`.
    pub fn jump_when_it_reads(&self, watched: u32, counter: u32, address: u32, code: &[u8]) {
        let mut debugger = Debugger::stop(&self.debug);
        assert_eq!(debugger.ask(&format!("Z3,{watched:x},4")), "OK");
        debugger.send("c");
        let why = debugger.packet();
        assert!(why.contains("watch"), "{why}");
        assert_eq!(debugger.ask(&format!("z3,{watched:x},4")), "OK");
        debugger.go_on_at(counter, address, code);
    }

    /// The power goes, at whatever the board is doing.
    pub fn cut_power(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The remote protocol of GDB: `$text#sum`, each acknowledged by a `+`.
struct Debugger(UnixStream);

impl Debugger {
    /// The processor stands still from here on.
    fn stop(socket: &Path) -> Self {
        let mut debugger = Self(UnixStream::connect(socket).expect("QEMU listens for a debugger"));
        debugger.0.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(debugger.ask("?").starts_with(['S', 'T']));
        debugger
    }

    fn go_on_at(mut self, counter: u32, address: u32, code: &[u8]) {
        // QEMU lets single registers be written after it was asked what they are.
        assert!(self.ask("qXfer:features:read:target.xml:0,100").contains("target"));
        assert_eq!(self.ask(&format!("M{address:x},{:x}:{}", code.len(), hex(code))), "OK");
        assert_eq!(self.ask(&format!("P{counter:x}={}", hex(&address.to_le_bytes()))), "OK");
        assert_eq!(self.ask("D"), "OK");
    }

    fn send(&mut self, text: &str) {
        let sum = text.bytes().fold(0u8, u8::wrapping_add);
        write!(self.0, "${text}#{sum:02x}").unwrap();
    }

    /// The answer to a command. QEMU also says by itself that the processor stopped, before or after the first command.
    fn ask(&mut self, text: &str) -> String {
        self.send(text);
        loop {
            let answer = self.packet();
            if text == "?" || !answer.starts_with('T') {
                return answer;
            }
        }
    }

    fn packet(&mut self) -> String {
        let mut packet = Vec::new();
        while !packet.contains(&b'#') {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            packet.push(byte[0]);
        }
        self.0.read_exact(&mut [0; 2]).unwrap();
        self.0.write_all(b"+").unwrap();
        let packet = String::from_utf8(packet).unwrap();
        packet.trim_start_matches('+').trim_start_matches('$').trim_end_matches('#').to_owned()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
