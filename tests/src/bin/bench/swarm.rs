//! P11's anchor in the same run: Docker Swarm (Debian's docker.io) from `service update` to the new task running.
//!
//! A daemon of its own, with its own directory and socket; nothing of the machine's Docker is touched.

use crate::table::{Row, quantile};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 7;
const READY_DEADLINE: Duration = Duration::from_secs(60);
const RUN_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Of Debian's busybox-static: needs no libraries, so that an image is one file.
const BUSYBOX: &str = "/bin/busybox";

struct Daemon {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn start(directory: &Path) -> Option<Self> {
        std::fs::create_dir_all(directory).unwrap();
        let (socket, log) = (directory.join("docker.sock"), directory.join("log"));
        let file = std::fs::File::create(&log).unwrap();
        let process = Command::new("dockerd")
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("run"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "-H"])
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .ok()?;
        let mut daemon = Self { process, socket, log };
        let begin = Instant::now();
        while daemon.docker(&["info", "--format", "{{.ID}}"]).is_none() {
            if begin.elapsed() > READY_DEADLINE || daemon.process.try_wait().unwrap().is_some() {
                daemon.explain("the Docker daemon does not start here");
                return None;
            }
            std::thread::sleep(POLL * 10);
        }
        Some(daemon)
    }

    /// Standard output of a command that succeeded.
    fn docker(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("docker")
            .arg("-H")
            .arg(format!("unix://{}", self.socket.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn explain(&self, what: &str) {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        eprintln!("    no figure for Swarm: {what}");
        tail.iter().rev().for_each(|line| eprintln!("      {line}"));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.docker(&["swarm", "leave", "--force"]);
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

/// Milliseconds from the order to the new task running.
fn apply_to_running(daemon: &Daemon, run: usize) -> Option<f64> {
    let begin = Instant::now();
    let variable = format!("RUN={run}");
    daemon.docker(&["service", "update", "--detach", "--quiet", "--env-add", &variable, "bench"])?;
    loop {
        // Newest first.
        let tasks = daemon.docker(&["service", "ps", "bench", "--format", "{{.ID}} {{.CurrentState}}"])?;
        // Between the old one and the new one there may be none.
        let running = tasks.lines().find(|line| line.contains(" Running")).and_then(|line| line.split(' ').next());
        let variables = running.and_then(|task| {
            daemon.docker(&["inspect", "--type", "task", "--format", "{{.Spec.ContainerSpec.Env}}", task])
        });
        if variables.is_some_and(|variables| variables.contains(&variable)) {
            return Some(begin.elapsed().as_secs_f64() * 1000.0);
        }
        if begin.elapsed() > RUN_DEADLINE {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

fn prepare(directory: &Path, daemon: &Daemon) -> Option<()> {
    let tree = directory.join("image");
    std::fs::create_dir_all(tree.join("bin")).ok()?;
    std::fs::copy(BUSYBOX, tree.join("bin/busybox")).ok()?;
    let archive = directory.join("image.tar");
    let packed = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&tree).arg(".").status().ok()?;
    packed.success().then_some(())?;
    daemon.docker(&["import", archive.to_str()?, "bench:1"])?;
    daemon.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:29377"])?;
    let create = ["service", "create", "--detach", "--no-resolve-image", "--name", "bench", "--network", "host"];
    let options =
        ["--update-order", "stop-first", "--stop-grace-period", "0s", "bench:1", "/bin/busybox", "sleep", "100000"];
    daemon.docker(&[&create[..], &options[..]].concat())?;
    let begin = Instant::now();
    while !daemon.docker(&["service", "ps", "bench", "--format", "{{.CurrentState}}"])?.contains("Running") {
        (begin.elapsed() < RUN_DEADLINE).then_some(())?;
        std::thread::sleep(POLL * 10);
    }
    Some(())
}

pub fn measure(directory: &Path) -> Vec<Row> {
    let Some(daemon) = Daemon::start(directory) else { return Vec::new() };
    if prepare(directory, &daemon).is_none() {
        daemon.explain("a service does not come up");
        return Vec::new();
    }
    let times: Option<Vec<f64>> = (0..RUNS).map(|run| apply_to_running(&daemon, run)).collect();
    let Some(times) = times else {
        daemon.explain("an update did not finish");
        return Vec::new();
    };
    vec![
        Row::new("P11", "Docker Swarm here: service update -> running, p50", quantile(&times, 0.5), "ms")
            .anchor("itself"),
    ]
}
