//! The development authority, the operator's files, and the door: what is shown, what is refused, and who waits for whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use futures_lite::AsyncReadExt;
use futures_rustls::TlsConnector;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use smol::Async;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(30);

fn listener() -> Vec<SocketAddr> {
    vec!["127.0.0.1:1".parse().unwrap()]
}

fn development(keys: &Path, names: &[&str], now: SystemTime) -> Result<Tls, TlsError> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Tls::open(&TlsSettings { names, ..TlsSettings::default() }, keys, &listener(), now)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_authority_is_made_once_and_its_keys_are_private() {
    let keys = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = development(keys.path(), &[], now).unwrap();
    let again = development(keys.path(), &[], now + DAY).unwrap();
    assert_eq!(first.authority(), again.authority());
    assert_eq!(first.ends(), again.ends(), "the certificate is kept too");
    for key in ["tls-ca.key", "tls-server.key"] {
        assert_eq!(mode(&keys.path().join(key)), 0o600, "{key}");
    }
    assert!(!format!("{first:?}").contains("PRIVATE"));
}

#[test]
fn a_certificate_is_renewed_near_its_end_and_when_the_names_change() {
    let keys = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = development(keys.path(), &[], now).unwrap();
    let ends = first.ends().unwrap();
    assert_eq!(ends, material::seconds(now) + SERVER_DAYS * DAY.as_secs());
    let named = development(keys.path(), &["hub.example"], now + DAY).unwrap();
    assert!(named.ends().unwrap() > ends && named.authority() == first.authority());
    let near = SystemTime::UNIX_EPOCH + Duration::from_secs(named.ends().unwrap()) - RENEW_BEFORE + DAY;
    assert!(!named.renew_if_due(now).unwrap());
    assert!(named.renew_if_due(near).unwrap());
    assert!(named.ends().unwrap() > material::seconds(near) + 300 * DAY.as_secs());
    // Half a pair is what a crash leaves.
    std::fs::write(keys.path().join("tls-server.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_eq!(development(keys.path(), &["hub.example"], near).unwrap().authority(), first.authority());
}

#[test]
fn an_authority_without_its_key_and_an_impossible_name_are_refused() {
    let keys = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let refused = development(keys.path(), &["not a name"], now).unwrap_err();
    assert!(matches!(&refused, TlsError::Name(name) if name == "not a name"), "{refused}");
    development(keys.path(), &[], now).unwrap();
    std::fs::remove_file(keys.path().join("tls-ca.key")).unwrap();
    let refused = development(keys.path(), &[], now).unwrap_err();
    assert!(matches!(refused, TlsError::AuthorityKeyMissing { .. }), "{refused}");
}

/// An authority of an operator.
struct House {
    folder: tempfile::TempDir,
    key: KeyPair,
    params: CertificateParams,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let house = Self { folder, key, params };
        let certificate = house.params.self_signed(&house.key).unwrap();
        std::fs::write(house.path("ca.pem"), certificate.pem()).unwrap();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, names: &[&str], from: SystemTime, to: SystemTime) {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_before = from.into();
        params.not_after = to.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        std::fs::write(self.path("hub.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("hub.key"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(self.path("hub.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn open(&self, name: &str) -> Result<Tls, TlsError> {
        let own =
            OwnFiles { certificate: self.path("hub.pem"), key: self.path("hub.key"), authority: self.path("ca.pem") };
        let settings = TlsSettings { when: When::Always, names: vec![name.to_owned()], own: Some(own) };
        Tls::open(&settings, Path::new("/nonexistent"), &listener(), SystemTime::now())
    }
}

#[test]
fn own_certificates_that_clients_would_refuse_are_refused_with_their_reason() {
    let house = House::new();
    let now = SystemTime::now();
    let refused = |name: &str| house.open(name).unwrap_err();
    assert!(matches!(refused("hub.example"), TlsError::Unreadable { .. }));
    house.issue(&["hub.example"], now - DAY, now + DAY * 30);
    let tls = house.open("hub.example").unwrap();
    assert_eq!(tls.ends(), Some(material::seconds(now + DAY * 30)));
    assert!(tls.is_own() && tls.ends_within(DAY * 31, now) && !tls.ends_within(DAY * 29, now));

    let wrong = refused("other.example");
    assert!(matches!(wrong, TlsError::WrongName { .. }) && wrong.to_string().contains("hub.example"), "{wrong}");
    let whole = std::fs::read(house.path("hub.pem")).unwrap();
    std::fs::write(house.path("hub.pem"), b"MIIB").unwrap();
    assert!(matches!(refused("hub.example"), TlsError::NotPem { wanted: "certificate", .. }));
    std::fs::write(house.path("hub.pem"), &whole).unwrap();
    std::fs::set_permissions(house.path("hub.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(refused("hub.example"), TlsError::Exposed { mode: 0o644, .. }));
    std::fs::set_permissions(house.path("hub.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(house.path("hub.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(refused("hub.example"), TlsError::KeyMismatch { .. }));
    std::fs::write(house.path("hub.key"), &whole).unwrap();
    assert!(matches!(refused("hub.example"), TlsError::NotPem { .. }));

    house.issue(&["hub.example"], now - DAY * 9, now - DAY);
    assert!(matches!(refused("hub.example"), TlsError::Expired { .. }));
    house.issue(&["hub.example"], now + DAY, now + DAY * 2);
    assert!(matches!(refused("hub.example"), TlsError::NotYetValid { .. }));
    house.issue(&["hub.example"], now - DAY, now + DAY);
    let stranger = House::new();
    std::fs::copy(stranger.path("ca.pem"), house.path("ca.pem")).unwrap();
    assert!(matches!(refused("hub.example"), TlsError::Untrusted { .. }));
}

#[test]
fn a_certificate_of_an_authority_is_not_taken_for_a_server() {
    let house = House::new();
    let mut params = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(house.path("ca.pem"), params.self_signed(&house.key).unwrap().pem()).unwrap();
    std::fs::copy(house.path("ca.pem"), house.path("hub.pem")).unwrap();
    std::fs::write(house.path("hub.key"), house.key.serialize_pem()).unwrap();
    std::fs::set_permissions(house.path("hub.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = house.open("hub.example").unwrap_err();
    assert!(matches!(refused, TlsError::IsAuthority { .. }), "{refused}");
}

#[test]
fn renewed_own_files_are_taken_and_useless_ones_are_not() {
    let house = House::new();
    let now = SystemTime::now();
    house.issue(&["hub.example"], now - DAY, now + DAY * 30);
    let tls = house.open("hub.example").unwrap();
    assert!(!tls.reload_if_changed(now).unwrap());
    house.issue(&["hub.example"], now - DAY, now + DAY * 90);
    assert!(tls.reload_if_changed(now).unwrap());
    assert_eq!(tls.ends(), Some(material::seconds(now + DAY * 90)));
    house.issue(&["other.example"], now - DAY, now + DAY * 120);
    assert!(matches!(tls.reload_if_changed(now), Err(TlsError::WrongName { .. })));
    assert!(!tls.reload_if_changed(now).unwrap(), "said once");
    assert_eq!(tls.ends(), Some(material::seconds(now + DAY * 90)));
    let stranger = House::new();
    stranger.issue(&["hub.example"], now - DAY, now + DAY * 200);
    for file in ["hub.pem", "hub.key", "ca.pem"] {
        std::fs::copy(stranger.path(file), house.path(file)).unwrap();
    }
    assert!(matches!(tls.reload_if_changed(now), Err(TlsError::AuthorityChanged)));
}

/// A door that says what became of each handshake, and an echo of one byte behind it.
struct Rig {
    address: SocketAddr,
    tls: Tls,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    _keys: tempfile::TempDir,
    stop: async_channel::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Rig {
    fn start(deadline: Duration) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let tls = development(keys.path(), &[], SystemTime::now()).unwrap();
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let seen = outcomes.clone();
        let door = tls.door(Arc::new(move |outcome| seen.lock().unwrap().push(outcome))).with_deadline(deadline);
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            let executor = smol::LocalExecutor::new();
            let accept = async {
                loop {
                    let (stream, peer) = listener.accept().await.unwrap();
                    let door = door.clone();
                    let serve = async move {
                        let Some(mut stream) = door.pass(stream, peer.ip()).await else { return };
                        let mut byte = [0];
                        if stream.read_exact(&mut byte).await.is_ok() {
                            let _ = futures_lite::AsyncWriteExt::write_all(&mut stream, &byte).await;
                            let _ = futures_lite::AsyncWriteExt::close(&mut stream).await;
                        }
                    };
                    executor.spawn(serve).detach();
                }
            };
            let end = async {
                let _ = stopped.recv().await;
            };
            smol::block_on(executor.run(futures_lite::future::or(accept, end)));
        });
        Self { address, tls, outcomes, _keys: keys, stop, thread: Some(thread) }
    }

    fn connect(&self) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a byte through TLS and gets it back.
    fn echo(&self, authority: &str) -> std::io::Result<u8> {
        let mut roots = RootCertStore::empty();
        let der = rustls::pki_types::pem::PemObject::from_pem_slice(authority.as_bytes()).unwrap();
        roots.add(der).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        smol::block_on(async {
            let stream = Async::<std::net::TcpStream>::connect(self.address).await?;
            let mut stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await?;
            futures_lite::AsyncWriteExt::write_all(&mut stream, &[7]).await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            Ok(byte[0])
        })
    }

    /// Until so many handshakes are over.
    fn outcomes(&self, count: usize) -> Vec<Outcome> {
        let begin = std::time::Instant::now();
        loop {
            let seen = self.outcomes.lock().unwrap().clone();
            if seen.len() >= count {
                return seen;
            }
            assert!(begin.elapsed() < PATIENCE, "{seen:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_slow_handshake_is_cut_at_its_deadline_and_holds_up_nobody() {
    let rig = Rig::start(Duration::from_millis(300));
    let mut silent: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    // Half a record: the door waits for the rest.
    let mut half = rig.connect();
    half.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    assert_eq!(rig.echo(rig.tls.authority_pem()).unwrap(), 7);
    for stream in silent.iter_mut().chain([&mut half]) {
        let mut rest = Vec::new();
        // The end, or a reset: either way it is over.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    let outcomes = rig.outcomes(10);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Late).count(), 9, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count(), 1, "{outcomes:?}");
}

#[test]
fn who_speaks_no_tls_is_told_or_cut_at_once() {
    let rig = Rig::start(PATIENCE * 10);
    let mut http = rig.connect();
    http.write_all(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("This port speaks TLS"), "{answer}");
    let mut mqtt = rig.connect();
    mqtt.write_all(&[0x10, 0x0c, 0, 4, b'M', b'Q', b'T', b'T', 5]).unwrap();
    let mut rest = Vec::new();
    let _ = mqtt.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(rig.outcomes(2), [Outcome::Failed, Outcome::Failed]);
}

#[test]
fn a_client_that_trusts_another_authority_gets_nothing() {
    let rig = Rig::start(PATIENCE);
    let other = tempfile::tempdir().unwrap();
    let other = development(other.path(), &[], SystemTime::now()).unwrap();
    assert!(rig.echo(other.authority_pem()).is_err());
    assert_eq!(rig.outcomes(1), [Outcome::Failed]);
    assert_eq!(rig.echo(rig.tls.authority_pem()).unwrap(), 7);
}
