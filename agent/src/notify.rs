//! Words to the service manager over `NOTIFY_SOCKET` (sd_notify(3)): ready, status, alive, stopping.
//!
//! Must never wait, nor say that the agent is alive from anywhere but the loop that does its work.
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
const WATCHDOG_PROCESS_VARIABLE: &str = "WATCHDOG_PID";
/// More often than this is of no use to anybody.
const WATCHDOG_MIN: Duration = Duration::from_millis(10);

/// The service manager of this process.
#[derive(Clone, Debug)]
pub struct Notifier {
    socket: Arc<UnixDatagram>,
    address: SocketAddr,
    /// How often it wants to hear from the loop: half of its patience.
    watchdog_every: Option<Duration>,
}

impl Notifier {
    /// `None`: nobody wants to know.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let Some(name) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(None) };
        let text = |name: &str| std::env::var(name).ok();
        let is_ours = text(WATCHDOG_PROCESS_VARIABLE).is_none_or(|pid| pid == std::process::id().to_string());
        let patience = text(WATCHDOG_VARIABLE).filter(|_| is_ours).and_then(|text| text.parse().ok());
        Self::at(&name.into_vec(), patience.map(Duration::from_micros)).map(Some)
    }

    /// `name`: a path, or `@` and an abstract name. `patience`: of the watchdog.
    pub fn at(name: &[u8], patience: Option<Duration>) -> io::Result<Self> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(name)))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let every = patience.filter(|patience| !patience.is_zero()).map(|patience| (patience / 2).max(WATCHDOG_MIN));
        Ok(Self { socket: Arc::new(socket), address, watchdog_every: every })
    }

    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog_every
    }

    pub fn ready(&self) {
        self.send("READY=1");
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping functions");
    }

    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for people.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn send(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            tracing::debug!(%error, text, "the service manager did not take a word");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn words_reach_sockets_in_the_file_system_and_abstract_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("fulmar-notify-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let places = [
            (path.clone().into_os_string().into_vec(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into_bytes(), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ];
        for (name, socket) in places {
            let notifier = Notifier::at(&name, Some(Duration::from_secs(10))).unwrap();
            assert_eq!(notifier.watchdog_every(), Some(Duration::from_secs(5)));
            notifier.ready();
            notifier.alive();
            notifier.status("two\nlines");
            assert_eq!([heard(&socket), heard(&socket), heard(&socket)], ["READY=1", "WATCHDOG=1", "STATUS=two lines"]);
        }
    }

    #[test]
    fn a_manager_that_is_gone_hinders_nobody() {
        let notifier = Notifier::at(b"/nonexistent/notify", None).unwrap();
        notifier.ready();
        assert_eq!(notifier.watchdog_every(), None);
        assert!(Notifier::at(&[b'x'; 200], None).is_err());
    }
}
