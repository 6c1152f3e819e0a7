//! The development authority of a data directory: made once, it vouches for this hub's own certificate and for nothing else.
//!
//! Its certificate must never be made anew while devices trust it; the server's is, whenever it nears its end or the names change.

use std::path::Path;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wire::Digest;

use super::error::TlsError;
use super::material::{Flaw, Material, seconds};
use super::own::{read_certificates, read_key};
use crate::store::file;

/// Life of the authority.
pub const AUTHORITY_YEARS: u64 = 10;
/// Life of the hub's certificate.
pub const SERVER_DAYS: u64 = 397;
/// The hub's certificate is made anew so long before its end.
pub const RENEW_BEFORE: Duration = Duration::from_secs(60 * DAY_SECONDS);
const DAY_SECONDS: u64 = 24 * 3600;
/// Clocks of clients may be late.
const BEGIN_BEFORE: Duration = Duration::from_secs(DAY_SECONDS);
const AUTHORITY_KEY_FILE: &str = "tls-ca.key";
const AUTHORITY_FILE: &str = "tls-ca.pem";
const SERVER_KEY_FILE: &str = "tls-server.key";
const SERVER_FILE: &str = "tls-server.pem";
/// Before the names in the text above the server's certificate.
const NAMES_PREFIX: &str = "names: ";

fn made(error: rcgen::Error) -> TlsError {
    TlsError::System(error.to_string())
}

/// Reads what the directory has, and makes what it lacks.
pub(super) fn open(keys: &Path, names: &[String], now: SystemTime) -> Result<Material, TlsError> {
    let (key, certificate) = authority(keys, now)?;
    if let Some(material) = kept(keys, &certificate, names, now) {
        return Ok(material);
    }
    let server_key = KeyPair::generate().map_err(made)?;
    let server = server(names, &key, &server_key, now)?;
    let pem = format!("{NAMES_PREFIX}{}\n{}", names.join(", "), server.pem());
    // The key first: a crash in between leaves a pair that does not match, and the next start makes both again.
    write(&keys.join(SERVER_KEY_FILE), &server_key.serialize_pem())?;
    write(&keys.join(SERVER_FILE), &pem)?;
    tracing::info!(names = names.join(", "), days = SERVER_DAYS, "made a certificate for the hub");
    let chain = vec![server.der().clone()];
    let private = PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes())
        .map_err(|error| TlsError::System(error.to_string()))?;
    Material::check(chain, private, certificate, names, now).map_err(|flaw| refused(keys, &flaw))
}

/// A certificate of ours that is refused: the authority has ended, or the clock is wrong.
fn refused(keys: &Path, flaw: &Flaw) -> TlsError {
    TlsError::Unusable { path: keys.join(SERVER_FILE), error: format!("{flaw:?}") }
}

fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    file::replace(path, text.as_bytes()).map_err(|error| TlsError::Write { path: path.to_owned(), error })
}

/// The server's certificate of an earlier start, if it is good for these names and for long enough.
fn kept(keys: &Path, authority: &CertificateDer<'static>, names: &[String], now: SystemTime) -> Option<Material> {
    let path = keys.join(SERVER_FILE);
    let text = std::fs::read_to_string(&path).ok()?;
    if text.lines().next()?.strip_prefix(NAMES_PREFIX)? != names.join(", ") {
        return None;
    }
    let chain = read_certificates(&path).ok()?;
    let key = read_key(&keys.join(SERVER_KEY_FILE)).ok()?;
    let material = Material::check(chain, key, authority.clone(), names, now).ok()?;
    let renew_at = seconds(now) + RENEW_BEFORE.as_secs();
    material.ends.is_none_or(|ends| ends > renew_at).then_some(material)
}

/// Key and certificate of the authority.
fn authority(keys: &Path, now: SystemTime) -> Result<(KeyPair, CertificateDer<'static>), TlsError> {
    let (key_path, path) = (keys.join(AUTHORITY_KEY_FILE), keys.join(AUTHORITY_FILE));
    if path.exists() {
        if !key_path.exists() {
            return Err(TlsError::AuthorityKeyMissing { path: key_path, certificate: path });
        }
        let wanted = || TlsError::NotPem { path: path.clone(), wanted: "certificate" };
        let certificate = read_certificates(&path)?.into_iter().next().ok_or_else(wanted)?;
        let not_key = |_| TlsError::NotPem { path: key_path.clone(), wanted: "private key" };
        // Read for its mode too.
        let PrivateKeyDer::Pkcs8(der) = read_key(&key_path)? else { return Err(not_key(())) };
        let key = KeyPair::try_from(der.secret_pkcs8_der()).map_err(|_| not_key(()))?;
        return Ok((key, certificate));
    }
    let key = KeyPair::generate().map_err(made)?;
    let mut params = authority_params(&key);
    params.not_before = (now - BEGIN_BEFORE).into();
    params.not_after = (now + Duration::from_secs(AUTHORITY_YEARS * 365 * DAY_SECONDS)).into();
    let certificate = params.self_signed(&key).map_err(made)?;
    // Nobody has seen the authority before its certificate is there, so a key without one is of no worth.
    write(&key_path, &key.serialize_pem())?;
    write(&path, &certificate.pem())?;
    Ok((key, certificate.der().clone()))
}

/// The same for the same key: what it signs names it by this.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mark = Digest::of(key.public_key_raw());
    let mark = HEXLOWER.encode(mark.0.get(..4).unwrap_or_default());
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("Fulmar development authority {mark}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn server(
    names: &[String],
    authority: &KeyPair,
    key: &KeyPair,
    now: SystemTime,
) -> Result<rcgen::Certificate, TlsError> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(made)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Fulmar hub");
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BEGIN_BEFORE).into();
    params.not_after = (now + Duration::from_secs(SERVER_DAYS * DAY_SECONDS)).into();
    let issuer = authority_params(authority);
    params.signed_by(key, &Issuer::from_params(&issuer, authority)).map_err(made)
}
