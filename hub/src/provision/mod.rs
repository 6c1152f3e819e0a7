//! An external broker: Mosquitto with its dynamic-security plugin, whose accounts follow the hub's database.
//!
//! A second connection, as the administrator whom the operator named, tells the broker who may connect and what each may
//! do; messages go over a connection of their own, whose account is made here too. The database is the truth: on every
//! connection the broker's list is read and only what differs is changed. It must never touch an account that is not
//! marked as this fleet's, nor say that an account can be used before the broker did.

mod account;
mod error;
mod ledger;
mod selftest;
mod worker;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_channel::Sender;

pub use account::{Owner, hub_user};
pub use error::ProvisionError;
pub use ledger::{ACCOUNTS_PER_LIST_MAX, ACCOUNTS_PER_REQUEST_MAX};
pub use selftest::{SELF_TEST_BYTES, SELF_TEST_DEADLINE};

use crate::broker::Credential;
use crate::mqtt::{BrokerUrl, Endpoint};
use crate::tls;
use ledger::Ledger;
use worker::Worker;

/// How long a start goes on trying to reach the broker: both may start with the machine.
pub const REACH_PATIENCE: Duration = Duration::from_secs(10);
/// Longest time for the broker to answer a request. With many accounts it writes for a while.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for the first, which changes nothing: who does not answer has no plugin.
pub const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest password that is read.
const PASSWORD_BYTES_MAX: usize = 1024;
/// Others may not read a password; a group may.
const MODE_OTHERS: u32 = 0o007;

/// What an operator says of an external broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalBroker {
    /// Where the hub reaches it.
    pub url: BrokerUrl,
    /// Where devices reach it, if that is elsewhere.
    pub public: Option<BrokerUrl>,
    /// An administrator of the dynamic-security plugin.
    pub user: String,
    /// File with that user's password.
    pub password: PathBuf,
    /// PEM file of the authority that vouches for it.
    pub authority: Option<PathBuf>,
}

impl ExternalBroker {
    /// Where devices find it.
    #[must_use]
    pub fn advertised(&self) -> &BrokerUrl {
        self.public.as_ref().unwrap_or(&self.url)
    }

    /// Reads the files that belong to it. The second value: SHA-256 of the authority that devices are to trust.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn open(&self) -> Result<(Endpoint, Credential, Option<wire::Digest>), ProvisionError> {
        let credential = Credential { user: self.user.clone(), password: read_password(&self.password)? };
        let needs_authority = self.url.is_secure || self.advertised().is_secure;
        let trusted = match &self.authority {
            Some(path) => Some(tls::trust(path)?),
            None if needs_authority => return Err(ProvisionError::NoAuthority { broker: self.url.to_string() }),
            None => None,
        };
        let (client, digest) = trusted.unzip();
        let tls = client.filter(|_| self.url.is_secure);
        let endpoint = Endpoint { host: self.url.host.clone(), port: self.url.port, tls };
        Ok((endpoint, credential, digest.filter(|_| self.advertised().is_secure)))
    }
}

fn read_password(path: &Path) -> Result<String, ProvisionError> {
    let failed = |error| ProvisionError::Password { path: path.to_owned(), error };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & MODE_OTHERS != 0 {
        return Err(ProvisionError::Exposed { path: path.to_owned(), mode });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        let wrong = format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(failed(std::io::Error::other(wrong)));
    }
    Ok(password.to_owned())
}

/// What the threads share.
struct Shared {
    ledger: Mutex<Ledger>,
    is_connected: AtomicBool,
}

impl Shared {
    // A poisoned lock means a panic between two changes of maps, which are whole at every moment.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the accounts at the broker as they should be. Dropping it ends its connection; the accounts stay.
pub struct Provisioner {
    shared: Arc<Shared>,
    wake: Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Provisioner {
    /// Connects, and returns when the hub's own account can be used. Accounts of devices follow in the background.
    ///
    /// # Errors
    /// When the broker cannot be reached or used.
    pub fn start(
        endpoint: &Endpoint,
        administrator: &Credential,
        fleet: &str,
        accounts: Vec<(Owner, String)>,
    ) -> Result<Self, ProvisionError> {
        let ledger = Mutex::new(Ledger::new(fleet, accounts));
        let shared = Arc::new(Shared { ledger, is_connected: AtomicBool::new(false) });
        let (wake, woken) = async_channel::bounded(1);
        let (first, is_ready) = std::sync::mpsc::sync_channel(1);
        let worker = Worker::new(endpoint.clone(), administrator.clone(), shared.clone(), woken, first)?;
        let thread = thread::Builder::new().name("broker-accounts".to_owned()).spawn(move || worker.run())?;
        let started = Self { shared, wake, thread: Some(thread) };
        match is_ready.recv() {
            Ok(Ok(())) => Ok(started),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ProvisionError::System(std::io::Error::other("its thread ended"))),
        }
    }

    /// Enters an account or changes its password; the number is what `settled` has to reach until it can be used.
    pub fn put(&self, owner: Owner, password: String) -> u64 {
        let number = self.shared.ledger().put(owner, password);
        self.wake();
        number
    }

    /// Takes an account away and cuts whoever uses it.
    pub fn remove(&self, owner: Owner) -> u64 {
        let number = self.shared.ledger().remove(owner);
        self.wake();
        number
    }

    /// All changes up to this number are done.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.shared.ledger().settled()
    }

    /// Accounts that are not as they should be, as far as is known.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.shared.ledger().behind()
    }

    /// Reads the broker's list again.
    pub fn look(&self) {
        self.shared.ledger().forget();
        self.wake();
    }

    /// Another hub has made this hub's account its own.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.shared.ledger().is_taken()
    }

    /// The broker can be told something now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Ordering::Acquire)
    }

    /// False when its thread has ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the connection soon; nothing is entered any more.
    pub fn stop(&self) {
        self.wake.close();
    }

    fn wake(&self) {
        // Full: it will look anyway.
        let _ = self.wake.try_send(());
    }
}

impl Drop for Provisioner {
    fn drop(&mut self) {
        self.wake.close();
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("the thread of the broker's accounts ended by a panic");
        }
    }
}

/// Proves that the broker keeps and delivers messages for the hub's account.
///
/// # Errors
/// When it does not.
pub fn self_test(endpoint: &Endpoint, hub: &Credential, fleet: &str) -> Result<(), ProvisionError> {
    let failed = |reason| ProvisionError::SelfTest { broker: endpoint.to_string(), reason };
    selftest::run(endpoint, hub, fleet).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_password_is_read_without_its_line_end_and_within_its_limits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_password(&path)
        };
        assert_eq!(read("secret with spaces \r\n", 0o600).unwrap(), "secret with spaces ");
        let long = "x".repeat(PASSWORD_BYTES_MAX);
        assert_eq!(read(&long, 0o640).unwrap(), long);
        for text in ["", "\n", &format!("{long}x")] {
            let error = read(text, 0o600).unwrap_err();
            assert!(error.to_string().contains("1 to 1024 bytes"), "{error}");
        }
        assert!(matches!(read("secret", 0o644), Err(ProvisionError::Exposed { mode: 0o644, .. })));
    }
}
