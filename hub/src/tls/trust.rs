//! How the hub itself trusts a server: one authority from a file, TLS 1.3, nobody else.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use wire::Digest;

use super::error::TlsError;
use super::{own, provider};

/// Trusts what the first certificate of this PEM file vouches for. The digest is that of the certificate itself.
///
/// # Errors
/// When the file cannot be read or holds no certificate of an authority.
pub fn trust(path: &Path) -> Result<(Arc<ClientConfig>, Digest), TlsError> {
    let not_pem = || TlsError::NotPem { path: path.to_owned(), wanted: "certificate" };
    let authority = own::read_certificates(path)?.into_iter().next().ok_or_else(not_pem)?;
    let unusable = |error: rustls::Error| TlsError::Unusable { path: path.to_owned(), error: error.to_string() };
    let digest = Digest::of(&authority);
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(unusable)?;
    let versions = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?;
    Ok((Arc::new(versions.with_root_certificates(roots).with_no_client_auth()), digest))
}
