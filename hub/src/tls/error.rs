//! Why TLS cannot be had, as an operator needs to read it: what, why, next.

use std::io;
use std::path::PathBuf;

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0:?} is neither a host name nor an address. Give --san as in: --san hub.example.org")]
    Name(String),
    #[error("cannot read {path}: {error}. Check that the file exists and that the user of the hub may read it")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "{path} holds no {wanted} in PEM form (a block that begins with -----BEGIN). Convert it with openssl, for example: openssl x509 -inform DER -in FILE -out FILE.pem"
    )]
    NotPem { path: PathBuf, wanted: &'static str },
    #[error(
        "everybody on this machine can read {path} (mode {mode:o}), so the key may be known. Run: chmod 600 {path}"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "the private key {key} does not belong to the certificate {certificate}. Name the key with which the certificate was requested; the hub's certificate comes first in its file"
    )]
    KeyMismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate {path} has ended at {ended}. Renew it, then start the hub again")]
    Expired { path: PathBuf, ended: String },
    #[error("the certificate {path} is valid only from {begins} on. Check the clock of this machine: date -u")]
    NotYetValid { path: PathBuf, begins: String },
    #[error(
        "the certificate {path} is not for {wanted}, but for {presented}. Tell the name under which devices reach the hub with --san NAME, or request a certificate with that name"
    )]
    WrongName { path: PathBuf, wanted: String, presented: String },
    #[error(
        "the authority {authority} does not vouch for the certificate {path}. Name the authority's own certificate with --tls-ca, and put those in between behind the hub's certificate in its file"
    )]
    Untrusted { path: PathBuf, authority: PathBuf },
    #[error(
        "the certificate {path} is that of an authority, and clients refuse such a one from a server. Make one with basicConstraints=CA:FALSE"
    )]
    IsAuthority { path: PathBuf },
    #[error(
        "the certificate {path} cannot be used: {error}. Request one with an ECDSA, Ed25519 or RSA key, for TLS servers"
    )]
    Unusable { path: PathBuf, error: String },
    #[error(
        "the authority has changed: devices trust the old one, and would not find the hub any more. Put the old authority back, or start the hub again and let the devices join again"
    )]
    AuthorityChanged,
    #[error(
        "{path} is missing, but the certificate of the development authority is there: devices trust it and no other. Restore the key, or remove {certificate} and let all devices join again"
    )]
    AuthorityKeyMissing { path: PathBuf, certificate: PathBuf },
    #[error("cannot write {path}: {error}. Check the disk and that the directory belongs to the user of the hub")]
    Write { path: PathBuf, error: io::Error },
    #[error("a certificate cannot be made: {0}. Check that the system gives random bytes")]
    System(String),
}
