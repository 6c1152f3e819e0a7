//! Debian's Mosquitto as a child process, set up as docs/howto/external-broker.md says.

use super::netns::{HUB_BROKER, Network};
use super::{free_port, wait_until};
use hub::mqtt::BrokerUrl;
use hub::provision::ExternalBroker;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Which broker a hub has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    Embedded,
    Mosquitto,
}

/// Makes each of these functions two tests: with the broker in the hub, and with one beside it.
#[macro_export]
macro_rules! on_both_brokers {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $name() {
                super::$name($crate::harness::Broker::Embedded);
            })*
        }
        mod mosquitto {
            $(#[test]
            fn $name() {
                super::$name($crate::harness::Broker::Mosquitto);
            })*
        }
    };
}

const PASSWORD: &str = "of the administrator";

/// A broker on a directory and a port of its own. Killed when dropped, and when the test is.
pub struct Mosquitto {
    directory: PathBuf,
    port: u16,
    process: Option<Child>,
    /// Where it runs, if not here.
    network: Option<Arc<Network>>,
}

/// The plugin, wherever this architecture keeps it.
fn plugin() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut places = folders.map(|folder| folder.path().join("mosquitto_dynamic_security.so"));
    places.find(|path| path.is_file()).expect("no mosquitto_dynamic_security.so: apt-get install mosquitto")
}

impl Mosquitto {
    /// With the plugin and one administrator.
    pub fn start(directory: &Path) -> Self {
        Self::with(directory, Self::plugin_lines)
    }

    /// What makes the plugin count, with this file of accounts.
    pub fn plugin_lines(accounts: &Path) -> String {
        format!("plugin {}\nplugin_opt_config_file {}\n", plugin().display(), accounts.display())
    }

    /// With these lines instead of the plugin's; they are told where the file of accounts is.
    pub fn with(directory: &Path, lines: impl FnOnce(&Path) -> String) -> Self {
        Self::placed(directory, None, lines)
    }

    /// In the network of a hub.
    pub fn start_in(directory: &Path, network: &Arc<Network>) -> Self {
        Self::placed(directory, Some(Arc::clone(network)), Self::plugin_lines)
    }

    fn placed(directory: &Path, network: Option<Arc<Network>>, lines: impl FnOnce(&Path) -> String) -> Self {
        let (host, port) = match &network {
            Some(_) => HUB_BROKER.split_once(':').unwrap(),
            None => ("127.0.0.1", ""),
        };
        let port = port.parse().unwrap_or_else(|_| free_port());
        let mut broker = Self { directory: directory.join("mosquitto"), port, process: None, network };
        std::fs::create_dir_all(&broker.directory).unwrap();
        let lines = lines(&broker.accounts());
        // `user` counts for a test that runs as root only: the directory is nobody else's.
        let text = format!(
            "user root\nlistener {} {host}\nallow_anonymous false\npersistence false\nset_tcp_nodelay true\n\
             max_inflight_messages 0\nmax_queued_messages 100000\n{lines}",
            broker.port
        );
        std::fs::write(broker.directory.join("mosquitto.conf"), text).unwrap();
        std::fs::write(broker.password_file(), PASSWORD).unwrap();
        std::fs::set_permissions(broker.password_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
        broker.make_accounts();
        broker.run();
        broker
    }

    fn accounts(&self) -> PathBuf {
        self.directory.join("accounts.json")
    }

    pub fn password_file(&self) -> PathBuf {
        self.directory.join("password")
    }

    fn make_accounts(&self) {
        let _ = std::fs::remove_file(self.accounts());
        let made = Command::new("mosquitto_ctrl")
            .args(["dynsec", "init"])
            .arg(self.accounts())
            .args(["admin", PASSWORD])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    pub fn run(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        // In /usr/sbin, which is not on everybody's path; and not to outlive a test that is killed.
        let mut command = match &self.network {
            Some(network) => network.hub().command("setpriv"),
            None => Command::new("setpriv"),
        };
        let process = command
            .args(["--pdeathsig", "KILL", "mosquitto", "-c"])
            .arg(self.directory.join("mosquitto.conf"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        wait_until("Mosquitto listens", || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("Mosquitto ended with {status}:\n{}", self.log());
            }
            match &self.network {
                Some(network) => {
                    let script = format!("exec 3<>/dev/tcp/{}", HUB_BROKER.replace(':', "/"));
                    let tried = network.hub().command("bash").args(["-c", &script]).output().unwrap();
                    tried.status.success().then_some(()).ok_or(format!("{tried:?}"))
                }
                None => TcpStream::connect(("127.0.0.1", self.port)).map(drop).map_err(|error| error.to_string()),
            }
        });
    }

    /// As a power cut: messages, sessions and retained messages are gone, accounts are not.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A new machine in its place: nothing is left but the administrator.
    pub fn lose_everything(&mut self) {
        self.kill();
        self.make_accounts();
        self.run();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    pub fn url(&self) -> String {
        match &self.network {
            Some(_) => format!("mqtt://{HUB_BROKER}"),
            None => format!("mqtt://127.0.0.1:{}", self.port),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Names of its accounts.
    pub fn users(&self) -> Vec<String> {
        // The plugin replaces the file at every change.
        let text = std::fs::read(self.accounts()).unwrap_or_default();
        let accounts: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let clients = accounts["clients"].as_array().cloned().unwrap_or_default();
        clients.iter().filter_map(|client| Some(client["username"].as_str()?.to_owned())).collect()
    }

    /// For a hub in this process.
    pub fn external(&self) -> ExternalBroker {
        ExternalBroker {
            url: BrokerUrl::parse(&self.url()).unwrap(),
            public: None,
            user: "admin".to_owned(),
            password: self.password_file(),
            authority: None,
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- mosquitto.log\n{}", self.log());
        }
        self.kill();
    }
}
