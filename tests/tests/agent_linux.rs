//! The Linux agent in daily use: under a service manager, configured by a file, asked for its status, and with faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tests::harness::{Agent, Hub, PATIENCE, Workload, program, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);

/// Says how often it ran.
const TICKING: &str = r#"
(module
  (@custom "fulmar.abi" "\01")
  (import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "tick")
  (func (export "fulmar_start"))
  (func (export "fulmar_timer") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4)))))
"#;

/// An agent that the test starts by itself, with a configuration file. Killed when dropped.
struct Service {
    data: PathBuf,
    config: PathBuf,
    process: Option<Child>,
}

impl Service {
    /// Takes over the directory of a device that has joined; `more` is appended to its configuration.
    fn new(data: &Path, more: &str) -> Self {
        let config = data.with_extension("toml");
        std::fs::write(&config, format!("data = {:?}\nlog = \"debug\"\n{more}", data.to_str().unwrap())).unwrap();
        Self { data: data.to_owned(), config, process: None }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("fulmar-agent"));
        command.args(words).arg("--config").arg(&self.config).stdin(Stdio::null());
        command.env_remove("FULMAR_LOG").env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        command
    }

    fn run(&mut self, environment: &[(&str, &str)]) {
        let log = std::fs::File::options().create(true).append(true).open(self.data.join("agent.log")).unwrap();
        let mut command = self.command(&["run"]);
        self.process = Some(command.envs(environment.iter().copied()).stderr(log).spawn().unwrap());
    }

    fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn wait_end(&mut self) -> i32 {
        let mut process = self.process.take().unwrap();
        wait_until("the agent ends", || process.try_wait().unwrap().ok_or_else(|| self.log())).code().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("agent.log")).unwrap_or_default()
    }

    fn status(&self) -> Output {
        self.command(&["status", "-o", "json"]).output().unwrap()
    }

    fn wait_status(&self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, || {
            let output = self.status();
            let seen: Value = serde_json::from_slice(&output.stdout).map_err(|_| format!("{output:?}"))?;
            if good(&seen) { Ok(seen) } else { Err(seen.to_string()) }
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- agent.log\n{}", self.log());
        }
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

/// A hub and a device that has joined it and does not run.
fn site(directory: &Path) -> (Hub, PathBuf) {
    let hub = Hub::start(directory);
    let agent = Agent::enrol(directory, &hub.join_token(true), "gw-1", FRANKFURT);
    let data = agent.data().to_owned();
    (hub, data)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_service_manager_hears_ready_alive_and_stopping_and_a_hung_agent_misses_its_watchdog() {
    let directory = tempfile::tempdir().unwrap();
    let (_hub, data) = site(directory.path());
    let name = format!("fulmar-agent-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).expect("the agent says something");
        text(&buffer[..count])
    };
    let hear_until = |wanted: &str| {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != wanted) {
            heard.push(hear());
        }
        heard
    };
    let mut service = Service::new(&data, "");
    let socket = format!("@{name}");
    service.run(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "400000")]);
    assert_eq!(hear(), "READY=1");
    hear_until("STATUS=connected to the hub");
    hear_until("WATCHDOG=1");
    hear_until("WATCHDOG=1");
    // Whatever was on its way comes first; a process that stands still says nothing more.
    service.signal("-STOP");
    let pid = service.process.as_ref().unwrap().id();
    wait_until("the agent stands still", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if stat.contains(") T ") { Ok(()) } else { Err(stat) }
    });
    manager.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    while manager.recv(&mut buffer).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    assert!(manager.recv(&mut buffer).is_err(), "five watchdog periods passed, and somebody spoke for the agent");
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    service.signal("-CONT");
    hear_until("WATCHDOG=1");
    service.signal("-TERM");
    assert!(hear_until("STOPPING=1\nSTATUS=stopping functions").len() < 100);
    assert_eq!(service.wait_end(), 0);
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let install =
        Command::new(program("fulmar-agent")).args(["install", "--root"]).arg(directory.path()).output().unwrap();
    assert!(install.status.success(), "{install:?}");
    let unit = directory.path().join("etc/systemd/system/fulmar-agent.service");
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let verify = verify.expect("this test needs systemd-analyze (Debian's systemd)");
    let said = text(&verify.stdout) + &text(&verify.stderr);
    assert!(verify.status.success() && !said.contains("fulmar-agent.service"), "{said}");
    let check = Command::new(program("fulmar-agent"))
        .args(["config", "check", "--config"])
        .arg(directory.path().join("etc/fulmar-agent/agent.toml"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_signal_stops_functions_and_a_second_one_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, data) = site(directory.path());
    let mut service = Service::new(&data, "");
    service.run(&[]);
    hub.wait_online("gw-1");
    let module = wat::parse_str(TICKING).unwrap();
    hub.deploy(&Workload::new("ticking").every("100ms"), &module);
    hub.wait_running("ticking");
    service.signal("-TERM");
    assert_eq!(service.wait_end(), 0, "{}", service.log());
    let log = service.log();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what}: {log}"));
    assert!(at("asked to stop") < at("a component is stopped") && at("a component is stopped") < at("the agent ends"));
    // The goodbye has reached the hub: it does not wait for missing heartbeats.
    wait_until("the hub knows that the device is gone", || {
        let device = hub.get("/v1/devices/gw-1");
        if device["status"]["online"]["state"] == "Online" { Err(device) } else { Ok(()) }
    });
    service.run(&[]);
    hub.wait_online("gw-1");
    service.signal("-INT");
    service.signal("-INT");
    assert_eq!(service.wait_end(), 0);
}

#[test]
fn status_tells_what_runs_to_several_clients_and_that_nothing_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, data) = site(directory.path());
    let mut service = Service::new(&data, "");
    let nobody = service.status();
    assert_eq!(nobody.status.code(), Some(3));
    assert!(text(&nobody.stderr).contains("no agent runs"), "{nobody:?}");
    service.run(&[]);
    hub.wait_online("gw-1");
    hub.deploy(&Workload::new("ticking").every("100ms"), &wat::parse_str(TICKING).unwrap());
    let status = service.wait_status("the function is shown", |status| {
        status["workloads"][0]["state"] == "Running" && status["connection"]["state"] == "connected"
    });
    assert_eq!((&status["name"], &status["workloads"][0]["workload"]), (&"gw-1".into(), &"ticking".into()));
    assert_eq!(status["position"]["latitude"], "50.1109000");
    assert!(status["artifacts"]["usedBytes"].as_u64().unwrap() > 0, "{status}");
    let mode = std::fs::metadata(data.join("status.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Clients that never read hold nobody up for good.
    let idle: Vec<_> =
        (0..8).map(|_| std::os::unix::net::UnixStream::connect(data.join("status.sock")).unwrap()).collect();
    let clients: Vec<_> =
        (0..8).map(|_| service.command(&["status"]).stdout(Stdio::piped()).spawn().unwrap()).collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains("ticking/0 Running"), "{output:?}");
    }
    drop(idle);
    service.signal("-TERM");
    assert_eq!(service.wait_end(), 0);
    assert_eq!(service.status().status.code(), Some(3));
}

#[test]
fn mistakes_of_a_configuration_are_told_at_once_and_nothing_starts() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::new(&directory.path().join("gw-1"), "brokr = \"mqtt://a\"\n[position]\nstale_s = 1\n");
    for words in [&["config", "check"][..], &["run"], &["status"]] {
        let output = service.command(words).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("gw-1.toml:3:1") && said.contains("did you mean broker?"), "{said}");
        assert!(said.contains("gw-1.toml:5:11") && said.contains("seconds from 5 to 86400"), "{said}");
    }
    assert!(!service.data.exists());
}

/// More than what an agent leaves free (`DISK_RESERVE_BYTES`).
const DISK_BYTES: u32 = 8 * 1024 * 1024;

/// A file system of so many bytes in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(at).status();
        assert!(mounted.unwrap().success(), "a tmpfs needs the right to mount: run the tests as root");
        Self(at.to_owned())
    }

    /// Takes every byte that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process that was just killed may hold it a moment longer.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.unwrap().success() || std::thread::panicking());
    }
}

#[test]
fn c18_a_device_without_space_keeps_what_runs_and_says_so_and_takes_the_new_one_later() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&directory.path().join("gw-1"), DISK_BYTES);
    let (hub, data) = site(directory.path());
    let mut service = Service::new(&data, "");
    service.run(&[]);
    let workload = || Workload::new("ticking").every("100ms");
    hub.deploy(&workload(), &wat::parse_str(TICKING).unwrap());
    hub.wait_running("ticking");
    let filler = disk.fill();
    // The same with a section that nobody reads, so that other bytes have to be stored.
    let larger = TICKING.replacen("(@custom", &format!("(@custom \"padding\" \"{}\") (@custom", "x".repeat(50_000)), 1);
    hub.deploy(&workload(), &wat::parse_str(larger).unwrap());
    let state = |workload: &Value| {
        let device = &workload["status"]["devices"][0];
        (device["state"].clone(), device["running"].clone())
    };
    let told = |what: &str, good: &dyn Fn(&Value) -> bool| {
        wait_until(what, || {
            let seen = hub.workload("ticking");
            if good(&seen) { Ok(seen) } else { Err(format!("{seen:#}")) }
        })
    };
    // Not even the new set can be kept.
    wait_until("the operator hears of it", || {
        let events = hub.get("/v1/events?object=device/gw-1").to_string();
        if events.contains("Accepted could not be stored: no_space") { Ok(()) } else { Err(events) }
    });
    assert_eq!(state(&hub.workload("ticking")).1, 1, "the old one goes on");
    // Now it can, but its module has no room.
    let shorter = std::fs::metadata(&filler).unwrap().len() - 1024 * 1024;
    std::fs::File::options().write(true).open(&filler).unwrap().set_len(shorter).unwrap();
    let seen = told("want of space is told", &|seen| seen.to_string().contains("NO_SPACE"));
    assert_eq!(state(&seen).1, 1, "the old one goes on: {seen:#}");
    std::fs::remove_file(filler).unwrap();
    told("the new one runs", &|seen| state(seen) == ("Running".into(), 2.into()));
}

#[test]
fn a_position_from_gpsd_reaches_the_hub() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, data) = site(directory.path());
    let gpsd = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gpsd.local_addr().unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = gpsd.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
        assert!(asked.starts_with("?WATCH="), "{asked}");
        let lines = "{\"class\":\"VERSION\",\"release\":\"3.22\"}\n{\"class\":\"TPV\",\"mode\":1}\nrubbish\n\
                     {\"class\":\"TPV\",\"mode\":3,\"lat\":48.137,\"lon\":11.575,\"eph\":7.4}\n";
        stream.write_all(lines.as_bytes()).unwrap();
        stream
    });
    let mut service = Service::new(&data, &format!("[position]\nsource = \"gpsd\"\ngpsd = \"{address}\"\n"));
    service.run(&[]);
    wait_until("the hub knows the place", || {
        let position = hub.get("/v1/devices/gw-1")["status"]["position"].clone();
        if position["uncertaintyM"] == 8 { Ok(()) } else { Err(position) }
    });
    let status = service.wait_status("the status shows it", |status| !status["position"].is_null());
    assert_eq!(
        (&status["position"]["latitude"], &status["position"]["source"]),
        (&"48.1370000".into(), &"gpsd".into())
    );
    drop(receiver.join().unwrap());
}
