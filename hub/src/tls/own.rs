//! The operator's own certificate: three files, read at the start and when the hub is told to read them again.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use super::material::{Flaw, Material, date};

/// Bytes of one file: a chain of ten large certificates.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Others may not read a key; a group may, as the group of Debian's `ssl-cert` does.
const MODE_OTHERS: u32 = 0o007;

/// PEM files of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFiles {
    /// The hub's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authority that clients trust: devices pin it when they join.
    pub authority: PathBuf,
}

/// When and how the files were last changed.
pub(super) type Stamp = [(SystemTime, u64, u64); 3];

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error: io::Error| TlsError::Unreadable { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))));
    }
    std::fs::read(path).map_err(unreadable)
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let not_pem = || TlsError::NotPem { path: path.to_owned(), wanted: "certificate" };
    let text = read(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    read.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(not_pem)
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & MODE_OTHERS != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| TlsError::NotPem { path: path.to_owned(), wanted: "private key (without a password)" })
}

impl OwnFiles {
    /// `None`: one of them is not there.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        Some([of(&self.certificate)?, of(&self.key)?, of(&self.authority)?])
    }

    pub(super) fn load(&self, names: &[String], now: SystemTime) -> Result<Material, TlsError> {
        let chain = read_certificates(&self.certificate)?;
        let key = read_key(&self.key)?;
        let not_pem = || TlsError::NotPem { path: self.authority.clone(), wanted: "certificate" };
        let authority = read_certificates(&self.authority)?.into_iter().next().ok_or_else(not_pem)?;
        Material::check(chain, key, authority, names, now).map_err(|flaw| self.explain(flaw))
    }

    fn explain(&self, flaw: Flaw) -> TlsError {
        let path = self.certificate.clone();
        match flaw {
            Flaw::KeyMismatch => TlsError::KeyMismatch { certificate: path, key: self.key.clone() },
            Flaw::Expired { ended } => TlsError::Expired { path, ended: date(ended) },
            Flaw::NotYetValid { begins } => TlsError::NotYetValid { path, begins: date(begins) },
            Flaw::WrongName { wanted, presented } if presented.is_empty() => {
                TlsError::WrongName { path, wanted, presented: "no name at all (subjectAltName)".to_owned() }
            }
            Flaw::WrongName { wanted, presented } => {
                TlsError::WrongName { path, wanted, presented: presented.join(", ") }
            }
            Flaw::Untrusted => TlsError::Untrusted { path, authority: self.authority.clone() },
            Flaw::IsAuthority => TlsError::IsAuthority { path },
            Flaw::Other(error) => TlsError::Unusable { path, error },
        }
    }
}
