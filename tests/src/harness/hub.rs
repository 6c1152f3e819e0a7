//! One `fulmar hub` process and its API.

use super::netns::{HUB_API, HUB_BROKER, Network, Window};
use super::{Broker, Mosquitto, PATIENCE, free_port, program, wait_until};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// A hub on its own data directory and ports. Killed when dropped.
pub struct Hub {
    data: PathBuf,
    api: u16,
    broker: u16,
    /// Runs as long as this value does, whatever becomes of the hub.
    mosquitto: Option<Mosquitto>,
    process: Option<Child>,
    http: ureq::Agent,
    /// Heartbeats as short as devices follow.
    is_paced: bool,
    /// Where it runs, if not here; and how its API is reached from here.
    network: Option<(Arc<Network>, Window)>,
    /// In place of the broker's own address: where the hub looks for it, and where its devices do.
    detour: Option<[String; 2]>,
}

/// A function workload in the making.
pub struct Workload {
    name: String,
    function: Value,
    placement: Value,
    scale: (&'static str, Value),
    partition: Value,
}

impl Workload {
    /// One replica, anywhere with label `fleet=test`, log and state allowed.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            function: json!({"capabilities": ["log", "emit", "state", "random"]}),
            placement: json!({"labels": {"fleet": "test"}}),
            scale: ("replicas", json!(1)),
            partition: json!("autonomous"),
        }
    }

    pub fn every(mut self, period: &str) -> Self {
        self.function["triggers"]["every"] = json!(period);
        self
    }

    pub fn topics(mut self, topics: &[&str]) -> Self {
        self.function["triggers"]["topics"] = json!(topics);
        self
    }

    /// In place of the usual permissions.
    pub fn may(mut self, capabilities: &[&str]) -> Self {
        self.function["capabilities"] = json!(capabilities);
        self
    }

    pub fn limits(mut self, limits: Value) -> Self {
        self.function["limits"] = limits;
        self
    }

    pub fn config(mut self, config: &str) -> Self {
        self.function["config"] = json!(config);
        self
    }

    pub fn placed(mut self, placement: Value) -> Self {
        self.placement = placement;
        self
    }

    pub fn replicas(mut self, count: usize) -> Self {
        self.scale = ("replicas", json!(count));
        self
    }

    pub fn partition(mut self, partition: Value) -> Self {
        self.partition = partition;
        self
    }

    pub fn on_every_device(mut self) -> Self {
        self.scale = ("every", json!(true));
        self
    }
}

impl Hub {
    /// Starts on an empty directory.
    pub fn start(directory: &Path) -> Self {
        Self::start_on(directory, Broker::Embedded)
    }

    pub fn start_on(directory: &Path, broker: Broker) -> Self {
        let mut hub = Self::attach(&directory.join("hub"), free_port(), free_port());
        hub.mosquitto = (broker == Broker::Mosquitto).then(|| Mosquitto::start(directory));
        hub.run();
        hub
    }

    /// With short heartbeats, so that what takes minutes takes seconds.
    pub fn start_paced(directory: &Path, broker: Broker) -> Self {
        let mut hub = Self::attach(&directory.join("hub"), free_port(), free_port());
        hub.mosquitto = (broker == Broker::Mosquitto).then(|| Mosquitto::start(directory));
        hub.is_paced = true;
        hub.run();
        hub
    }

    /// The same in a network of its own.
    pub fn start_in(directory: &Path, broker: Broker, network: &Arc<Network>) -> Self {
        let window = network.window(HUB_API);
        let mut hub = Self::attach(&directory.join("hub"), window.port(), 0);
        hub.mosquitto = (broker == Broker::Mosquitto).then(|| Mosquitto::start_in(directory, network));
        hub.is_paced = true;
        hub.network = Some((Arc::clone(network), window));
        hub.run();
        hub
    }

    /// The hub finds its broker at the first address from now on, devices that join at the second.
    pub fn start_with_detour(directory: &Path, broker: Mosquitto, of_hub: String) -> Self {
        let mut hub = Self::attach(&directory.join("hub"), free_port(), 0);
        hub.detour = Some([of_hub, broker.url()]);
        hub.mosquitto = Some(broker);
        hub.is_paced = true;
        hub.run();
        hub
    }

    pub fn api_port(&self) -> u16 {
        self.api
    }

    /// Port of its broker on this machine.
    pub fn broker_port(&self) -> u16 {
        self.mosquitto.as_ref().map_or(self.broker, Mosquitto::port)
    }

    /// The broker beside it.
    pub fn mosquitto(&mut self) -> &mut Mosquitto {
        self.mosquitto.as_mut().expect("this hub has its own broker")
    }

    /// From its next start on.
    pub fn use_broker(&mut self, broker: Mosquitto) {
        self.mosquitto = Some(broker);
    }

    /// Speaks to a hub that runs elsewhere, in this process for example.
    pub fn attach(data: &Path, api: u16, broker: u16) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        Self {
            data: data.to_owned(),
            api,
            broker,
            mosquitto: None,
            process: None,
            http: config.into(),
            is_paced: false,
            network: None,
            detour: None,
        }
    }

    /// Starts the process again, with the same directory and ports.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "the hub runs already");
        std::fs::create_dir_all(&self.data).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.data.join("hub.log")).unwrap();
        let hub = program(if self.is_paced { "rig" } else { "fulmar" });
        let (mut command, [api, broker]) = match &self.network {
            Some((network, _)) => (network.hub().command(hub), [HUB_API, HUB_BROKER].map(str::to_owned)),
            None => (Command::new(hub), [self.api, self.broker].map(|port| format!("127.0.0.1:{port}"))),
        };
        command.args(["hub", "--data"]).arg(&self.data).args(["--api", &api]);
        match (&self.mosquitto, &self.detour) {
            (Some(mosquitto), None) => command.args(["--broker", &mosquitto.url()]),
            (Some(_), Some([of_hub, public])) => command.args(["--broker", of_hub, "--broker-public", public]),
            (None, _) => command.args(["--broker", &broker]),
        };
        if let Some(mosquitto) = &self.mosquitto {
            command.arg("--broker-password-file").arg(mosquitto.password_file());
        }
        let process = command
            // Commands of the person at this machine are not to find it.
            .env("XDG_STATE_HOME", &self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        wait_until("the hub is ready", || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("the hub ended with {status}:\n{}", self.log());
            }
            let answer = self.http.get(format!("http://127.0.0.1:{}/readyz", self.api)).call();
            answer.map_err(|error| error.to_string()).and_then(|answer| match answer.status().as_u16() {
                200 => Ok(()),
                status => Err(status.to_string()),
            })
        });
    }

    /// As a power cut: nothing is flushed, nobody says goodbye.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("hub.log")).unwrap_or_default()
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data.join("run/admin.token")).unwrap().trim().to_owned()
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.api))
            .header("authorization", format!("Bearer {}", self.token()))
            .body(body)
            .unwrap();
        let mut answer =
            self.http.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()));
        let mut text = String::new();
        answer.body_mut().as_reader().read_to_string(&mut text).unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (answer.status().as_u16(), value)
    }

    /// The answer of a GET that must succeed.
    pub fn get(&self, path: &str) -> Value {
        let (status, value) = self.call("GET", path, b"");
        assert_eq!(status, 200, "GET {path}: {value:#}");
        value
    }

    /// Status and answer, whatever they are.
    pub fn try_get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, b"")
    }

    pub fn try_put(&self, path: &str, document: &Value) -> (u16, Value) {
        self.call("PUT", path, document.to_string().as_bytes())
    }

    pub fn put(&self, path: &str, document: &Value) -> Value {
        let (status, value) = self.try_put(path, document);
        assert!(matches!(status, 200 | 201), "PUT {path}: {status} {value:#}");
        value
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Value {
        let (status, value) = self.call("POST", path, body);
        assert!(matches!(status, 200 | 201), "POST {path}: {status} {value:#}");
        value
    }

    pub fn try_post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        self.call("POST", path, body)
    }

    pub fn delete(&self, path: &str) {
        let (status, value) = self.call("DELETE", path, b"");
        assert_eq!(status, 204, "DELETE {path}: {value:#}");
    }

    /// A join token for devices with the label `case=<case>`, approved.
    pub fn join_token_for(&self, case: &str) -> String {
        let body = json!({"approve": true, "labels": {"case": case}}).to_string();
        self.post("/v1/join-tokens", body.as_bytes())["token"].as_str().unwrap().to_owned()
    }

    /// A join token; approved tokens let the device work at once.
    pub fn join_token(&self, approve: bool) -> String {
        let body = json!({"approve": approve, "labels": {"fleet": "test"}}).to_string();
        self.post("/v1/join-tokens", body.as_bytes())["token"].as_str().unwrap().to_owned()
    }

    /// Uploads a module; returns `name@sha256:...`.
    pub fn upload(&self, name: &str, module: &[u8]) -> String {
        let answer = self.post(&format!("/v1/namespaces/default/artifacts/{name}"), module);
        answer["reference"].as_str().unwrap().to_owned()
    }

    /// Uploads the module and applies the workload.
    pub fn deploy(&self, workload: &Workload, module: &[u8]) -> Value {
        let reference = self.upload(&workload.name, module);
        let mut spec = json!({
            "type": "function",
            "artifact": reference,
            "function": workload.function,
            "placement": workload.placement,
            "partition": workload.partition,
        });
        spec[workload.scale.0] = workload.scale.1.clone();
        let document =
            json!({"apiVersion": "fulmar/v1", "kind": "Workload", "metadata": {"name": workload.name}, "spec": spec});
        self.put(&Self::path(&workload.name), &document)
    }

    fn path(workload: &str) -> String {
        format!("/v1/namespaces/default/workloads/{workload}")
    }

    pub fn workload(&self, name: &str) -> Value {
        self.get(&Self::path(name))
    }

    pub fn remove(&self, workload: &str) {
        self.delete(&Self::path(workload));
    }

    /// Waits until every placed instance runs the newest generation; returns the workload.
    pub fn wait_running(&self, name: &str) -> Value {
        self.wait_workload(name, "runs", |workload| {
            let status = &workload["status"];
            let wanted = status["desired"].as_u64().unwrap_or(0);
            let synced = status["observedGeneration"] == workload["metadata"]["generation"];
            wanted > 0
                && synced
                && status["running"].as_u64() == Some(wanted)
                && status["devices"].as_array().is_some_and(|devices| {
                    devices.iter().all(|device| device["running"] == workload["metadata"]["generation"])
                })
        })
    }

    /// Waits until the workload is as asked.
    pub fn wait_workload(&self, name: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("{name} {what}"), || {
            let workload = self.workload(name);
            if good(&workload) { Ok(workload) } else { Err(workload) }
        })
    }

    /// Waits until one device reports the workload in this state with this reason; returns that device's entry.
    pub fn wait_reason(&self, name: &str, reason: &str) -> Value {
        wait_until(&format!("{name} reports {reason}"), || {
            let workload = self.workload(name);
            let devices = workload["status"]["devices"].as_array().cloned().unwrap_or_default();
            devices.into_iter().find(|device| device["reason"] == reason).ok_or(workload)
        })
    }

    /// Waits until the device is online.
    pub fn wait_online(&self, name: &str) -> Value {
        wait_until(&format!("{name} is online"), || {
            let device = self.get(&format!("/v1/devices/{name}"));
            let online = device["status"]["online"]["state"] == "Online";
            if online { Ok(device) } else { Err(device) }
        })
    }

    /// The texts of the last lines of a workload, oldest first.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let logs = self.get(&format!("{}/logs?tail=2000", Self::path(name)));
        let items = logs["items"].as_array().unwrap();
        items.iter().map(|line| line["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What a workload said on one device, oldest first.
    pub fn lines_of(&self, name: &str, device: &str) -> Vec<String> {
        let logs = self.get(&format!("{}/logs?tail=2000", Self::path(name)));
        let items = logs["items"].as_array().unwrap().iter().filter(|line| line["device"] == device);
        items.map(|line| line["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until a line holds `part`; returns the line.
    pub fn wait_line(&self, name: &str, part: &str) -> String {
        wait_until(&format!("{name} says {part:?}"), || {
            let lines = self.lines(name);
            lines.iter().rev().find(|line| line.contains(part)).cloned().ok_or(lines)
        })
    }

    /// Runs the command line against this hub; returns exit code, stdout and stderr.
    pub fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(program("fulmar"))
            .args(arguments)
            .env("FULMAR_DATA", &self.data)
            .env("XDG_CONFIG_HOME", &self.data)
            .env_remove("FULMAR_CONTEXT")
            .env_remove("FULMAR_SERVER")
            .env_remove("FULMAR_TOKEN")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- hub.log\n{}", self.log());
        }
        self.kill();
    }
}
