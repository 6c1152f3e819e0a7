//! Why an external broker cannot be used: what, why, what next.

use std::io;
use std::path::PathBuf;

use crate::mqtt::{Refusal, UrlError};
use crate::tls::TlsError;

const GUIDE: &str = "docs/howto/external-broker.md";

/// Why the hub does not start with this broker.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// No address.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No password.
    #[error("cannot read the broker's password from {path}: {error}. Give its file with --broker-password-file")]
    Password {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others can read the password.
    #[error(
        "{path} can be read by others (mode {mode:o}), so the broker's password may be known. Run: chmod 600 {path}"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No authority.
    #[error(
        "{broker} speaks TLS, and nothing says whom to believe. Give the certificate of its authority with --broker-ca FILE"
    )]
    NoAuthority {
        /// Which.
        broker: String,
    },
    /// The authority's file.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// API and broker have different authorities, of which a device can trust one.
    #[error(
        "devices trust one authority, and that of the API is not the one that --broker-ca names. Give the API a certificate of the \
         same authority with --tls-cert, --tls-key and --tls-ca, see docs/howto/own-ca.md"
    )]
    TwoAuthorities,
    /// The API is encrypted and the broker is not.
    #[error(
        "the API speaks TLS, and {broker} does not: devices learn from the broker's address whom to trust, and could fetch nothing. \
         Use mqtts:// with --broker-ca, or --tls off where the network itself is encrypted"
    )]
    ApiOnly {
        /// Which.
        broker: String,
    },
    /// No connection.
    #[error("cannot reach the broker at {broker}: {reason}. Check that it runs and that the address is right")]
    Unreachable {
        /// Which.
        broker: String,
        /// The last attempt's end.
        reason: String,
    },
    /// Wrong password.
    #[error(
        "the broker at {broker} does not accept the user {user:?} with its password. Check --broker-user and --broker-password-file"
    )]
    NotAuthorized {
        /// Which.
        broker: String,
        /// As whom.
        user: String,
    },
    /// MQTT 3 only.
    #[error("the broker at {broker} does not speak MQTT 5. Use Mosquitto 2 or another broker of MQTT 5")]
    Protocol {
        /// Which.
        broker: String,
    },
    /// Another certificate.
    #[error(
        "the broker at {broker} is not trusted: {reason}. Check --broker-ca, and that its certificate is for this name"
    )]
    NotTrusted {
        /// Which.
        broker: String,
        /// What TLS said.
        reason: String,
    },
    /// Too little of MQTT 5.
    #[error("the broker at {broker} cannot be used: {lacks}. Change its configuration as {GUIDE} shows")]
    Lacks {
        /// Which.
        broker: String,
        /// What.
        lacks: String,
    },
    /// No answer to commands.
    #[error(
        "the broker at {broker} does not answer on $CONTROL/dynamic-security: either it runs without Mosquitto's dynamic-security \
         plugin, or {user:?} is not an administrator of it. Set it up as {GUIDE} shows"
    )]
    NoPlugin {
        /// Which.
        broker: String,
        /// As whom.
        user: String,
    },
    /// A command that failed.
    #[error("the broker at {broker} did not carry out a command for {what}: {error}. Look into its log")]
    Rejected {
        /// Which.
        broker: String,
        /// What was to be done.
        what: String,
        /// What it said.
        error: String,
    },
    /// It loses messages.
    #[error("the broker at {broker} failed the self-test: {reason}. Compare its configuration with {GUIDE}")]
    SelfTest {
        /// Which.
        broker: String,
        /// What went wrong.
        reason: String,
    },
    /// The operating system gave no thread or random bytes.
    #[error("the connection to the broker cannot start: {0}")]
    System(#[from] io::Error),
}

impl ProvisionError {
    /// What a refusal of the link means here.
    pub(super) fn refused(broker: String, user: &str, reason: String, refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotAuthorized => Self::NotAuthorized { broker, user: user.to_owned() },
            Refusal::Protocol => Self::Protocol { broker },
            Refusal::NotTrusted => Self::NotTrusted { broker, reason },
            Refusal::Lacks(_) => Self::Lacks { broker, lacks: reason },
        }
    }
}
