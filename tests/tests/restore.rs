//! Backup, restore and second hubs with the real programs: what was forgotten is held, decided and healed; nothing runs twice
//! because somebody copied a directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tests::harness::{Agent, Broker, Hub, Workload, free_port, program, wait_until};

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
/// Moments at which a restore is killed.
const KILLS: u32 = 24;
const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");

tests::on_both_brokers!(
    s5_what_devices_prove_is_held_until_it_is_applied_and_nothing_that_is_right_is_restarted,
    a_backup_starts_a_hub_elsewhere_when_the_keys_are_there,
);

/// The command line, with this data directory.
fn fulmar(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = command(data, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("fulmar"));
    command.args(arguments).env("FULMAR_DATA", data).env("XDG_CONFIG_HOME", data).env("XDG_STATE_HOME", data);
    for variable in ["FULMAR_CONTEXT", "FULMAR_SERVER", "FULMAR_TOKEN"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn done((code, out, error): (i32, String, String)) -> String {
    assert_eq!(code, 0, "{out}{error}");
    out
}

fn backup(hub: &Hub, out: &Path) {
    let text = done(fulmar(hub.data(), &["hub", "backup", "--out", out.to_str().unwrap()]));
    assert!(text.contains("fleet default"), "{text}");
}

fn restore(data: &Path, from: &Path) -> (i32, String, String) {
    fulmar(data, &["hub", "restore", "--from", from.to_str().unwrap(), "--yes"])
}

/// Waits until the hub says so of what it has forgotten.
fn wait_recovery(hub: &Hub, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, || {
        let status = hub.get("/v1/status");
        if good(&status["recovery"]) { Ok(status) } else { Err(status) }
    })
}

fn held(recovery: &Value) -> Vec<String> {
    let ahead = recovery["ahead"].as_array().cloned().unwrap_or_default();
    let held = ahead.iter().filter(|device| device["state"] == "Held");
    held.map(|device| device["device"].as_str().unwrap().to_owned()).collect()
}

fn is_synced(hub: &Hub, device: &str) -> bool {
    hub.get(&format!("/v1/devices/{device}"))["status"]["revision"]["synced"] == true
}

fn everywhere(name: &str, config: &str) -> Workload {
    Workload::new(name).every("100ms").config(config).on_every_device()
}

fn restarts(hub: &Hub, name: &str) -> u64 {
    let workload = hub.workload(name);
    workload["status"]["devices"].as_array().unwrap().iter().map(|device| device["restarts"].as_u64().unwrap()).sum()
}

fn conditions(hub: &Hub) -> String {
    hub.get("/v1/status")["conditions"].to_string()
}

/// S5: a backup, changes, the backup again. Devices are ahead; they are held, then one of them and then all get this hub's sets.
fn s5_what_devices_prove_is_held_until_it_is_applied_and_nothing_that_is_right_is_restarted(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start_on(directory.path(), broker);
    let _first = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    let _second = Agent::join(directory.path(), &hub, "gw-2", FRANKFURT);
    hub.deploy(&everywhere("steady", "steady"), HELLO);
    hub.deploy(&everywhere("changes", "before"), HELLO);
    hub.wait_running("steady");
    hub.wait_running("changes");
    let file = directory.path().join("backup");
    backup(&hub, &file);
    hub.deploy(&everywhere("changes", "after"), HELLO);
    hub.wait_running("changes");
    hub.deploy(&everywhere("new", "new"), HELLO);
    hub.wait_running("new");
    hub.wait_line("changes", "hello from after");
    // In use: refused, and nothing is changed.
    let (code, _, error) = restore(hub.data(), &file);
    assert!(code == 1 && error.contains("error[RUNNING]"), "{error}");
    hub.kill();
    let text = done(restore(hub.data(), &file));
    assert!(text.contains("2 devices"), "{text}");
    hub.run();
    let status = wait_recovery(&hub, "both devices are held", |recovery| held(recovery).len() == 2);
    assert_eq!((&status["mayGrant"], &status["recovery"]["cause"]), (&json!(false), &json!("Restored")));
    assert!(conditions(&hub).contains("fulmar hub apply"), "{}", conditions(&hub));
    // They keep what they run, whatever this hub is told meanwhile.
    hub.wait_line("changes", "hello from after");
    hub.deploy(&everywhere("later", "later"), HELLO);
    let (_, text, _) = hub.cli(&["explain", "placement", "later", "--device", "gw-1"]);
    assert!(text.contains("HELD") || text.contains("held"), "{text}");
    let text = done(hub.cli(&["hub", "apply", "gw-1"]));
    assert!(text.contains("gw-1 get this hub's sets"), "{text}");
    wait_until("gw-1 has this hub's set", || if is_synced(&hub, "gw-1") { Ok(()) } else { Err(hub.get("/v1/status")) });
    assert_eq!(held(&hub.get("/v1/status")["recovery"]), ["gw-2"]);
    assert!(!is_synced(&hub, "gw-2"));
    done(hub.cli(&["hub", "apply"]));
    hub.wait_running("changes");
    hub.wait_running("later");
    wait_until("gw-2 has this hub's set", || if is_synced(&hub, "gw-2") { Ok(()) } else { Err(hub.get("/v1/status")) });
    wait_recovery(&hub, "nobody is ahead", |recovery| recovery["devicesAhead"] == 0);
    let lines = hub.lines("changes").len();
    wait_until("what was applied runs", || {
        let all = hub.lines("changes");
        if all.iter().skip(lines).any(|line| line.contains("hello from before")) { Ok(()) } else { Err(all) }
    });
    hub.wait_running("steady");
    assert_eq!(restarts(&hub, "steady"), 0);
    let (_, events, _) = hub.cli(&["events", "--tail", "2000"]);
    let of_steady = |line: &&str| line.contains("steady") && line.contains("Stopped");
    assert_eq!(events.lines().filter(of_steady).count(), 0, "what is right is left alone:\n{events}");
}

fn a_backup_starts_a_hub_elsewhere_when_the_keys_are_there(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start_on(directory.path(), broker);
    let mut agent = Agent::join(directory.path(), &hub, "gw-1", FRANKFURT);
    hub.deploy(&everywhere("hello", "hello"), HELLO);
    hub.wait_running("hello");
    let file = directory.path().join("backup");
    backup(&hub, &file);
    agent.kill();
    hub.kill();
    let old = directory.path().join("lost");
    std::fs::rename(hub.data(), &old).unwrap();
    let (code, _, error) = restore(hub.data(), &file);
    assert!(code == 1 && error.contains("holds no keys"), "{error}");
    let copied = Command::new("cp").arg("-a").arg(old.join("keys")).arg(hub.data()).status().unwrap();
    assert!(copied.success());
    done(restore(hub.data(), &file));
    hub.run();
    agent.run();
    hub.wait_online("gw-1");
    hub.wait_running("hello");
    assert!(is_synced(&hub, "gw-1"), "it holds just what the backup knows");
    // The artifact came with the backup: a device that has lost it fetches it again.
    let artifacts = hub.data().join("artifacts");
    assert_eq!(std::fs::read_dir(artifacts).unwrap().count(), 1);
}

#[test]
fn s6_a_second_process_on_the_same_directory_is_refused_and_a_killed_one_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    let start = || fulmar(hub.data(), &["hub", "--api", "127.0.0.1:0", "--broker", "127.0.0.1:0"]);
    let (code, _, error) = start();
    assert_eq!(code, 1, "{error}");
    for part in ["error[RUNNING]", "is in use by another hub process", "Next:"] {
        assert!(error.to_lowercase().contains(&part.to_lowercase()), "{part} is not in: {error}");
    }
    // The same directory under another name is the same directory.
    let other = directory.path().join("other-name");
    std::os::unix::fs::symlink(hub.data(), &other).unwrap();
    let (code, _, error) = fulmar(&other, &["hub", "--api", "127.0.0.1:0", "--broker", "127.0.0.1:0"]);
    assert!(code == 1 && error.contains("RUNNING"), "{error}");
    let token = hub.join_token(true);
    assert!(!token.is_empty(), "the first one works on");
    hub.kill();
    hub.run();
}

/// Every moment of a restore leaves the old database or the new one.
#[test]
fn s5_a_restore_that_is_killed_leaves_the_old_database_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(directory.path());
    hub.deploy(&Workload::new("hello").every("1s"), HELLO);
    let file = directory.path().join("backup");
    backup(&hub, &file);
    for number in 0..20 {
        let region = json!({"apiVersion": "fulmar/v1", "kind": "Region", "metadata": {"name": format!("r-{number}")},
            "spec": {"circle": {"center": [8.0, 50.0], "radiusKm": 5}}});
        hub.put(&format!("/v1/regions/r-{number}"), &region);
    }
    hub.kill();
    let data = hub.data().to_owned();
    // As the kill left it, with a log that is not in the database yet.
    let kept = directory.path().join("kept");
    copy(&data, &kept);
    let known = sequence(&data, &directory.path().join("probe"));
    let began = Instant::now();
    done(restore(&data, &file));
    let whole = began.elapsed();
    let restored = sequence(&data, &directory.path().join("probe-restored"));
    assert!(restored < known, "{restored} of {known}");
    let mut found = BTreeSet::new();
    for round in 0..KILLS {
        std::fs::remove_dir_all(&data).unwrap();
        copy(&kept, &data);
        let arguments = ["hub", "restore", "--from", file.to_str().unwrap(), "--yes"];
        let mut process: Child =
            command(&data, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // From its first moment to beyond its last.
        let moment = Instant::now() + whole * round / (KILLS - 2);
        while Instant::now() < moment && process.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = process.kill();
        process.wait().unwrap();
        let database = data.join("hub.db");
        hub::store::integrity_check(&database, hub::store::Check::Full).unwrap();
        hub::store::audit_verify(&database).unwrap();
        let after = sequence(&data, &directory.path().join(format!("probe-{round}")));
        assert!(after == known || after == restored, "{after} is neither {known} nor {restored}");
        found.insert(after);
    }
    assert!(found.contains(&known), "no round ended early enough to prove anything");
    // Whatever was left lying about, the next one works.
    done(restore(&data, &file));
    hub.run();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The last change that a database knows, by a backup of it.
fn sequence(data: &Path, probe: &Path) -> u64 {
    hub::store::backup(data, probe, false, 0, &mut |_| {}).unwrap().sequence
}

/// C12: two hubs on copies at one broker. One has the account there; the other one says so and waits for an operator.
#[test]
fn c12_two_hubs_on_copies_at_one_broker_do_not_both_speak() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Hub::start_on(directory.path(), Broker::Mosquitto);
    let mut agent = Agent::join(directory.path(), &first, "gw-1", FRANKFURT);
    first.deploy(&everywhere("hello", "one"), HELLO);
    first.wait_running("hello");
    let copy_data = directory.path().join("copy");
    let file = directory.path().join("backup");
    backup(&first, &file);
    std::fs::create_dir_all(&copy_data).unwrap();
    copy(&first.data().join("keys"), &copy_data);
    done(restore(&copy_data, &file));
    let port = free_port();
    let (url, password) = (first.mosquitto().url(), first.mosquitto().password_file());
    let mut second = Second::start(&copy_data, port, &url, &password);
    let theirs = Hub::attach(&copy_data, port, 0);
    wait_until("the first one knows that it is not alone", || {
        let status = first.get("/v1/status");
        if conditions(&first).contains("AccountTaken") { Ok(()) } else { Err(status) }
    });
    assert_eq!(first.get("/v1/status")["mayGrant"], false);
    let text = done(first.cli(&["status"]));
    assert!(text.contains("fulmar hub takeover --confirm"), "{text}");
    theirs.wait_online("gw-1");
    // What the first one decides does not leave it.
    let before = theirs.get("/v1/devices/gw-1")["status"]["revision"]["accepted"].clone();
    first.deploy(&everywhere("hello", "two"), HELLO);
    first.wait_workload("hello", "is decided", |workload| workload["status"]["observedGeneration"] == 2);
    assert_eq!(theirs.get("/v1/devices/gw-1")["status"]["revision"]["accepted"], before);
    // The operator ends the copy and says so.
    second.kill();
    let (code, _, error) = first.cli(&["hub", "takeover"]);
    assert!(code == 2 && error.contains("--confirm"), "{error}");
    let text = done(first.cli(&["hub", "takeover", "--confirm"]));
    assert!(text.contains("this hub goes on"), "{text}");
    // A device obeys the announcement of a hub once in five minutes; one that starts says Hello at once.
    agent.kill();
    agent.run();
    first.wait_running("hello");
    first.wait_line("hello", "hello from two");
    assert!(!conditions(&first).contains("AccountTaken"));
    assert_eq!(first.get("/v1/status")["recovery"]["cause"], "SecondHub");
}

/// A hub process beside the harness's own.
struct Second(Child, PathBuf);

impl Second {
    fn start(data: &Path, port: u16, url: &str, password: &Path) -> Self {
        let log = std::fs::File::create(data.join("hub.log")).unwrap();
        let arguments = ["hub", "--api", &format!("127.0.0.1:{port}"), "--broker", url, "--broker-password-file"];
        let process =
            command(data, &arguments).arg(password).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let second = Self(process, data.join("hub.log"));
        wait_until("the second hub is ready", || {
            let ready = ureq::get(format!("http://127.0.0.1:{port}/readyz")).call();
            ready.map(drop).map_err(|error| format!("{error}\n{}", second.log()))
        });
        second
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap_or_default()
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the second hub\n{}", self.log());
        }
        self.kill();
    }
}
