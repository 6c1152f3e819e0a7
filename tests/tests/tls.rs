//! TLS with real parts: a hub that others can reach, devices that pin its authority, and everybody who is turned away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tests::harness::{Mcu, PATIENCE, free_port, program, wait_until};
use wire::hello::ResetCause;

/// Of the hub in the namespace: no loopback address, and nobody else's, since the namespace has no way out.
const ADDRESS: &str = "10.77.0.1";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Everybody else may be root in a namespace of users only.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Where a program runs.
#[derive(Clone, Copy)]
enum Place<'a> {
    Here,
    In(&'a Namespace),
}

/// A network of its own, without any other machine.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let setup = format!("ip link set lo up && ip addr add {ADDRESS}/32 dev lo && echo ready && exec cat");
        let own_user: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
        let mut child = Command::new("unshare")
            .arg("--net")
            .args(own_user)
            .args(["sh", "-c", &setup])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 6];
        let read = child.stdout.as_mut().unwrap().read_exact(&mut word);
        assert!(read.is_ok() && word == *b"ready\n", "no network namespace: this test needs unshare and ip (iproute2)");
        Self(child)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.0.id().to_string();
        let own_user: &[&str] = if is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        command.args(["--target", &target, "--net"]).args(own_user).arg("--").arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place<'_> {
    fn command(self, program: impl AsRef<Path>) -> Command {
        match self {
            Self::Here => Command::new(program.as_ref()),
            Self::In(namespace) => namespace.command(program.as_ref()),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process with a log. Killed when dropped.
struct Running {
    process: Child,
    log: PathBuf,
}

impl Running {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { process: command.spawn().unwrap(), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("ended with {status}:\n{}", self.log());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A hub that speaks TLS.
struct Hub<'a> {
    place: Place<'a>,
    data: PathBuf,
    running: Running,
}

impl<'a> Hub<'a> {
    fn start(place: Place<'a>, directory: &Path, options: &[&str]) -> Self {
        let data = directory.join("hub");
        std::fs::create_dir_all(&data).unwrap();
        let mut command = place.command(program("fulmar"));
        command.arg("hub").arg("--data").arg(&data).args(options);
        // Commands of the person at this machine are not to find it.
        command.env("XDG_STATE_HOME", &data).env("XDG_CONFIG_HOME", &data);
        let running = Running::start(&mut command, data.join("hub.log"));
        let mut hub = Self { place, data, running };
        wait_until("the hub answers through TLS", || {
            hub.running.assert_running();
            let (code, _, err) = hub.cli(&["status"]);
            if code == 0 { Ok(()) } else { Err(err) }
        });
        hub
    }

    /// On loopback, with TLS all the same.
    fn on(directory: &Path, api: u16, broker: u16, options: &[&str]) -> Self {
        let [api, broker] = [api, broker].map(|port| format!("127.0.0.1:{port}"));
        let mut all = vec!["--tls", "always", "--api", &api, "--broker", &broker];
        all.extend(options);
        Self::start(Place::Here, directory, &all)
    }

    fn cli_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = self.place.command(program("fulmar"));
        command.args(arguments).current_dir(root()).stdin(Stdio::null());
        for name in ["FULMAR_SERVER", "FULMAR_TOKEN", "FULMAR_CA", "FULMAR_CONTEXT", "FULMAR_DATA"] {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", &self.data).env("XDG_CONFIG_HOME", &self.data);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        self.cli_with(arguments, &[("FULMAR_DATA", self.data.to_str().unwrap())])
    }

    /// The output of a command that must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.cli(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}\n{}", self.running.log());
        out
    }

    fn endpoints(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.data.join("run/endpoints.json")).unwrap()).unwrap()
    }

    fn admin_token(&self) -> String {
        std::fs::read_to_string(self.data.join("run/admin.token")).unwrap().trim().to_owned()
    }

    fn join_token(&self) -> String {
        let answer: Value =
            serde_json::from_str(&self.ok(&["device", "join-token", "--approve", "-l", "fleet=demo", "-o", "json"]))
                .unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    fn join(&self, token: &str, device: &Path) -> Output {
        let mut command = self.place.command(program("fulmar-agent"));
        command.args(["join", token, "--name", device.file_name().unwrap().to_str().unwrap()]);
        command.args(["--at", "50.1109,8.6821", "--data"]).arg(device).stdin(Stdio::null()).output().unwrap()
    }

    fn run_agent(&self, device: &Path) -> Running {
        let mut command = self.place.command(program("fulmar-agent"));
        command.args(["run", "--data"]).arg(device);
        Running::start(&mut command, device.join("agent.log"))
    }

    fn wait_online(&self, name: &str, agent: &Running) {
        wait_until(&format!("{name} is online"), || {
            let device: Value = serde_json::from_str(&self.ok(&["get", "device", name, "-o", "json"])).unwrap();
            if device["status"]["online"]["state"] == "Online" { Ok(()) } else { Err(agent.log()) }
        });
    }

    fn port(&self, which: &str) -> u16 {
        self.endpoints()[which].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }
}

fn openssl(place: Place<'_>, address: &str, arguments: &[&str]) -> String {
    let mut command = place.command("openssl");
    command.args(["s_client", "-connect", address]).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("openssl is installed");
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn a_hub_that_others_can_reach_speaks_tls_13_to_operators_and_devices_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let namespace = Namespace::new();
    let place = Place::In(&namespace);
    let (api, broker) = (format!("{ADDRESS}:7443"), format!("{ADDRESS}:8883"));
    let hub = Hub::start(place, directory.path(), &["--api", &api, "--broker", &broker]);
    assert_eq!(hub.endpoints()["api"], format!("https://{api}"));
    assert_eq!(hub.endpoints()["broker"], format!("mqtts://{broker}"));
    assert!(hub.ok(&["status"]).contains("Certificate:  development authority   ends 20"));

    // A device: join, run, and fetch an artifact, all through TLS.
    let device = directory.path().join("first");
    let joined = hub.join(&hub.join_token(), &device);
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    let agent = hub.run_agent(&device);
    hub.wait_online("first", &agent);
    let applied = hub.ok(&["apply", "-f", "examples/hello.yaml", "--wait", "--timeout", "120s"]);
    assert!(applied.contains("hello"), "{applied}");
    assert!(agent.log().contains(&format!("broker=mqtts://{broker}")), "{}", agent.log());

    // The authority is good for ten years, less than a day more.
    for (days, good) in [(3_648, true), (3_651, false)] {
        let seconds = (days * 24 * 3600).to_string();
        let mut check = Command::new("openssl");
        check.args(["x509", "-noout", "-checkend", &seconds, "-in"]).arg(hub.data.join("run/ca.pem"));
        assert_eq!(check.output().unwrap().status.success(), good, "{days} days");
    }

    // Operators without the authority, or without TLS.
    let token = hub.admin_token();
    let ca = hub.data.join("run/ca.pem");
    let server = format!("https://{api}");
    let named = |server: &str, ca: Option<&Path>| {
        let mut arguments = vec!["--server", server, "status"];
        arguments.extend(ca.map(|ca| ["--ca", ca.to_str().unwrap()]).into_iter().flatten());
        hub.cli_with(&arguments, &[("FULMAR_TOKEN", &token)])
    };
    assert_eq!(named(&server, Some(&ca)).0, 0);
    let (code, _, err) = named(&server, None);
    assert!(code == 1 && err.starts_with("error[UNTRUSTED]") && err.contains("--ca FILE"), "{err}");
    let (code, _, err) = named(&format!("http://{api}"), None);
    assert!(code == 1 && err.starts_with("error[NEEDS_TLS]") && err.contains(&server), "{err}");

    for address in [&api, &broker] {
        let old = openssl(place, address, &["-tls1_2"]);
        assert!(old.contains("alert protocol version") && old.contains("Cipher is (NONE)"), "{old}");
        let new = openssl(place, address, &["-CAfile", ca.to_str().unwrap(), "-verify_return_error"]);
        assert!(new.contains("TLSv1.3") && new.contains("Verification: OK"), "{new}");
    }
}

#[test]
fn hub_and_device_of_different_authorities_do_not_speak() {
    let directory = tempfile::tempdir().unwrap();
    let (api, broker) = (free_port(), free_port());
    let (good, evil) = (directory.path().join("good"), directory.path().join("evil"));
    let hub = Hub::on(&good, api, broker, &[]);
    let (token, late) = (hub.join_token(), hub.join_token());
    let device = directory.path().join("member");
    assert!(hub.join(&token, &device).status.success());
    drop(hub);

    // Another hub on the same addresses, as somebody in between would be.
    let hub = Hub::on(&evil, api, broker, &[]);
    let stranger = hub.join(&late, &directory.path().join("stranger"));
    let said = text(&stranger.stderr);
    assert!(!stranger.status.success(), "{said}");
    assert!(
        said.contains("is not trusted") && said.contains("another authority than the one that the join token"),
        "{said}"
    );
    let agent = hub.run_agent(&device);
    wait_until("the member refuses the other hub", || {
        let log = agent.log();
        if log.contains("does not vouch for the server's certificate") { Ok(()) } else { Err(log) }
    });
    drop(agent);
    assert!(
        hub.ok(&["get", "devices", "-o", "json"]).contains("\"items\":[]")
            || hub.ok(&["get", "devices"]).lines().count() <= 1
    );
    drop(hub);

    // The right one is believed as before.
    let hub = Hub::on(&good, api, broker, &[]);
    let agent = hub.run_agent(&device);
    hub.wait_online("member", &agent);
}

#[test]
fn a_leaf_that_speaks_no_tls_works_behind_a_gateway_that_does() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::on(directory.path(), free_port(), free_port(), &[]);
    let (data, line) = (directory.path().join("gateway"), directory.path().join("leaf.line"));
    let joined = hub.join(&hub.join_token(), &data);
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    let mut leaf = Mcu::leaf(&hub.join_token(), "leaf-1", (8.6821, 50.1109), &line);
    leaf.switch_on(ResetCause::PowerOn);
    let mut command = Command::new(program("fulmar-agent"));
    command.args(["run", "--data"]).arg(&data).args(["--leaves", &format!("unix:{}", line.display())]);
    let gateway = Running::start(&mut command, directory.path().join("gateway.log"));
    leaf.wait_connected(1);
    hub.wait_online("leaf-1", &gateway);
}

#[test]
fn slow_and_plain_clients_of_both_ports_are_cut_and_hold_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::on(directory.path(), free_port(), free_port(), &[]);
    let connect = |which: &str| {
        let stream = TcpStream::connect(("127.0.0.1", hub.port(which))).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut slow: Vec<TcpStream> = ["api", "broker"].iter().flat_map(|which| (0..40).map(|_| connect(which))).collect();
    for stream in &mut slow {
        // The begin of a record that never ends.
        stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    }
    // Meanwhile everybody else goes on.
    assert_eq!(hub.cli(&["get", "devices"]).0, 0);
    let device = directory.path().join("quick");
    let joined = hub.join(&hub.join_token(), &device);
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    // Plain MQTT to a TLS port gets no byte.
    let mut plain = connect("broker");
    plain.write_all(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x06hacker").unwrap();
    for stream in slow.iter_mut().chain([&mut plain]) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        // An alert at most.
        assert!(rest.len() <= 7, "{rest:?}");
    }
    wait_until("the late handshakes are counted", || {
        let metrics = metrics(&hub);
        let late = |listener: &str| {
            let start = format!("fulmar_hub_tls_handshakes_total{{listener=\"{listener}\",outcome=\"late\"}} 40");
            metrics.lines().any(|line| line == start)
        };
        if late("api") && late("broker") { Ok(()) } else { Err(metrics) }
    });
    assert!(metrics(&hub).contains("fulmar_hub_certificate_end_seconds 1"));
}

/// The measurements, as a scraper gets them.
fn metrics(hub: &Hub<'_>) -> String {
    let api = format!("https://127.0.0.1:{}/metrics", hub.port("api"));
    let bearer = format!("Authorization: Bearer {}", hub.admin_token());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--cacert"])
        .arg(hub.data.join("run/ca.pem"))
        .args(["-H", &bearer, &api])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_fleet_of_simulated_devices_joins_and_comes_back_through_tls() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program("fulmar"));
        command.args(arguments).arg("--data").arg(&data).stdin(Stdio::null());
        let output = command.env("XDG_STATE_HOME", &data).env("XDG_CONFIG_HOME", &data).output().unwrap();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let up = ["up", "--demo", "--devices", "5", "--no-agent", "--detach", "--tls", "always"];
    let up = [&up[..], &["--api", "127.0.0.1:0", "--broker", "127.0.0.1:0"]].concat();
    // The second start finds members that trust the same authority.
    for start in 1..=2 {
        let (started, said) = run(&up);
        let (ended, farewell) = run(&["down"]);
        assert!(started && ended, "start {start}: {said}\n{farewell}");
        assert!(said.contains("mqtts://127.0.0.1:") && said.contains("5/5 online"), "start {start}: {said}");
    }
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_a_wrong_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let openssl = |script: &str| {
        let output = Command::new("sh").args(["-euc", script]).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    openssl(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=Test -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=hub -keyout hub.key -out hub.csr
         printf 'subjectAltName=DNS:localhost' > hub.ext
         printf 'subjectAltName=DNS:elsewhere.example' > other.ext
         openssl x509 -req -in hub.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 10 -extfile hub.ext -out hub.pem
         chmod 600 hub.key",
    );
    let (certificate, key, ca) = (at("hub.pem"), at("hub.key"), at("ca.pem"));
    let options = ["--san", "localhost", "--tls-cert", certificate.to_str().unwrap(), "--tls-key"];
    let options = [&options[..], &[key.to_str().unwrap(), "--tls-ca", ca.to_str().unwrap()]].concat();
    let hub = Hub::on(directory.path(), free_port(), free_port(), &options);
    let expires = || {
        let status: Value = serde_json::from_str(&hub.ok(&["status", "-o", "json"])).unwrap();
        status["certificate"]["expires"].as_str().unwrap().to_owned()
    };
    let first = expires();
    openssl(
        "openssl x509 -req -in hub.csr -CA ca.pem -CAkey ca.key -days 20 -extfile hub.ext -out new.pem; mv new.pem hub.pem",
    );
    let second = wait_until("the renewed certificate is shown", || {
        let now = expires();
        if now > first { Ok(now) } else { Err(hub.running.log()) }
    });
    openssl(
        "openssl x509 -req -in hub.csr -CA ca.pem -CAkey ca.key -days 25 -extfile other.ext -out new.pem; mv new.pem hub.pem",
    );
    wait_until("the wrong certificate is complained about", || {
        let log = hub.running.log();
        if log.contains("is not for localhost, but for") { Ok(()) } else { Err(log) }
    });
    assert_eq!(expires(), second);
    let (api, broker) = (free_port().to_string(), free_port().to_string());
    drop(hub);

    // At a start the same files are refused.
    let mut command = Command::new(program("fulmar"));
    command.args([
        "hub",
        "--tls",
        "always",
        "--api",
        &format!("127.0.0.1:{api}"),
        "--broker",
        &format!("127.0.0.1:{broker}"),
    ]);
    let output = command.args(&options).arg("--data").arg(at("again")).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error[TLS]") && said.contains("is not for localhost, but for elsewhere.example."), "{said}");
    assert!(said.contains("--san NAME"), "{said}");
}
