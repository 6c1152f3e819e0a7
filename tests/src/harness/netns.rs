//! Networks that a test makes for itself: one for a hub, one for each device, and a pair of interfaces between them.
//!
//! They are held by processes of the test and go with them; nothing of the machine's own network is touched. Needs root, `ip`
//! (iproute2) and `iptables`; without them the test fails and says so, because a network that was not cut proves nothing.

use super::program;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where the hub listens in its network; nobody else can reach it.
pub const HUB_API: &str = "10.77.0.1:7443";
pub const HUB_BROKER: &str = "10.77.0.1:1883";
const HUB_ADDRESS: &str = "10.77.0.1";
/// Links of one network: the number is a byte of their addresses.
const DEVICES_MAX: usize = 200;
/// Administrators are not on everybody's path.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A network without anything in it. Gone when dropped.
pub struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .env("PATH", SYSTEM_PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("this test needs unshare (util-linux)");
        let mut word = [0; 6];
        let read = child.stdout.as_mut().unwrap().read_exact(&mut word);
        assert!(
            read.is_ok() && word == *b"ready\n",
            "no network namespace could be made: this test needs root, unshare (util-linux) and ip (iproute2)"
        );
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// A program that sees this network and no other.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", "--"]).arg(program.as_ref());
        command
    }

    fn run(&self, words: &[&str]) {
        let mut command = self.command(words[0]);
        let output = command.args(&words[1..]).env("PATH", SYSTEM_PATH).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}(packages: iproute2, iptables)");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which packets of a device are dropped without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// What it sends.
    Up,
    /// What it should hear.
    Down,
}

/// The networks of a hub and its devices.
pub struct Network {
    hub: Namespace,
    devices: Vec<Namespace>,
}

impl Network {
    pub fn new(devices: usize) -> Self {
        assert!(devices <= DEVICES_MAX);
        let network = Self { hub: Namespace::new(), devices: (0..devices).map(|_| Namespace::new()).collect() };
        network.hub.run(&["ip", "addr", "add", &format!("{HUB_ADDRESS}/32"), "dev", "lo"]);
        for (number, device) in network.devices.iter().enumerate() {
            let (name, net) = (Self::interface(number), format!("10.77.{}", number + 1));
            let (near, far) = (format!("{net}.1"), format!("{net}.2/30"));
            let pair = ["ip", "link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &device.pid()];
            network.hub.run(&pair);
            network.hub.run(&["ip", "addr", "add", &format!("{near}/30"), "dev", &name]);
            network.hub.run(&["ip", "link", "set", &name, "up"]);
            device.run(&["ip", "addr", "add", &far, "dev", "eth0"]);
            device.run(&["ip", "link", "set", "eth0", "up"]);
            device.run(&["ip", "route", "add", "default", "via", &near]);
        }
        network
    }

    fn interface(device: usize) -> String {
        format!("d{device}")
    }

    pub fn hub(&self) -> &Namespace {
        &self.hub
    }

    pub fn device(&self, device: usize) -> &Namespace {
        &self.devices[device]
    }

    /// As if the cable were pulled out.
    pub fn pull(&self, device: usize) {
        self.hub.run(&["ip", "link", "set", &Self::interface(device), "down"]);
    }

    pub fn plug(&self, device: usize) {
        self.hub.run(&["ip", "link", "set", &Self::interface(device), "up"]);
    }

    /// Drops what goes one way, until `restore`.
    pub fn lose(&self, device: usize, loss: Loss) {
        self.rule("-A", device, loss);
    }

    pub fn restore(&self, device: usize, loss: Loss) {
        self.rule("-D", device, loss);
    }

    fn rule(&self, action: &str, device: usize, loss: Loss) {
        let (chain, side) = match loss {
            Loss::Up => ("INPUT", "-i"),
            Loss::Down => ("OUTPUT", "-o"),
        };
        self.hub.run(&["iptables", "-w", action, chain, side, &Self::interface(device), "-j", "DROP"]);
    }

    /// A way from a port of this machine into the hub's network: a listener from here, held by a process that is there.
    pub fn window(&self, target: &str) -> Window {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let child = self
            .hub
            .command(program("rig"))
            .args(["window", target])
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        Window { address, child }
    }
}

/// Closed when dropped.
pub struct Window {
    address: SocketAddr,
    child: Child,
}

impl Window {
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
