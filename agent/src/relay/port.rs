//! The two ends of a relay as streams of bytes: a leaf's line, and a connection to the broker. Must never send or keep a byte itself.
use super::LineAddress;
use crate::link::{Endpoint, Security};
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::TlsConnector;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use smol::Async;
use smol::net::TcpStream;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// To a socket, and to the broker with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let expired = async {
        smol::Timer::after(CONNECT_TIMEOUT).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
    };
    connecting.or(expired).await
}

/// Opens a line.
pub async fn open(address: &LineAddress) -> io::Result<Box<dyn Stream>> {
    match address {
        LineAddress::Port { path, baud } => Ok(Box::new(serial(path, *baud)?)),
        LineAddress::Unix(path) => Ok(Box::new(in_time(Async::<UnixStream>::connect(path)).await?)),
        LineAddress::Tcp { host, port } => {
            let stream = in_time(TcpStream::connect((host.as_str(), *port))).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

/// Eight bits, no parity, one stop bit, no control of the flow, and nothing done to the bytes.
fn serial(path: &Path, baud: u32) -> io::Result<Async<std::fs::File>> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let port = rustix::fs::open(path, flags, Mode::empty())?;
    let mut attributes = tcgetattr(&port)?;
    attributes.make_raw();
    attributes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    attributes.control_modes &= !(ControlModes::CSTOPB | ControlModes::CRTSCTS);
    attributes.set_speed(baud)?;
    tcsetattr(&port, OptionalActions::Flush, &attributes)?;
    Async::new(std::fs::File::from(port))
}

/// Connects to the gateway's own broker, as the gateway itself does. A leaf does not choose where its bytes go.
pub async fn broker(endpoint: &Endpoint, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
    // A name for a certificate, and an address for the resolver, have no brackets.
    let host = endpoint.host.trim_matches(['[', ']']);
    in_time(async {
        let stream = TcpStream::connect((host, endpoint.port)).await?;
        stream.set_nodelay(true)?;
        match (endpoint.security, tls) {
            (Security::Plain, _) => Ok(Box::new(stream) as Box<dyn Stream>),
            (Security::Tls, None) => Err(io::Error::other("there is no authority to trust")),
            (Security::Tls, Some(config)) => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?) as Box<dyn Stream>)
            }
        }
    })
    .await
}
