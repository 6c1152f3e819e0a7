//! Where a leaf's line ends on this machine. Parsed once; must never be guessed.
use std::fmt;
use std::path::PathBuf;

/// Lines of one gateway.
pub const LEAVES_MAX: usize = 16;
const BAUD_DEFAULT: u32 = 115_200;
/// Speeds that serial ports commonly have, and our line's times allow.
const BAUDS: [u32; 8] = [9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineAddress {
    /// A serial port.
    Port { path: PathBuf, baud: u32 },
    /// A socket of an emulator, or of a program that has the port.
    Unix(PathBuf),
    /// A terminal server.
    Tcp { host: String, port: u16 },
}

impl LineAddress {
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = path.starts_with('/');
            return if is_path {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("{path:?} is not an absolute path"))
            };
        }
        if let Some(authority) = text.strip_prefix("tcp:") {
            let wrong = || format!("{authority:?} is not a host and a port");
            let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
            let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
            return if host.is_empty() { Err(wrong()) } else { Ok(Self::Tcp { host: host.to_owned(), port }) };
        }
        let (path, baud) = match text.split_once('@') {
            Some((path, baud)) => {
                let known = baud.parse().ok().filter(|baud| BAUDS.contains(baud));
                (path, known.ok_or_else(|| format!("{baud:?} is not a speed: use one of {BAUDS:?}"))?)
            }
            None => (text, BAUD_DEFAULT),
        };
        if !path.starts_with('/') {
            return Err(format!("{path:?} is not an absolute path"));
        }
        Ok(Self::Port { path: path.into(), baud })
    }

    /// Several, with commas between.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let lines = parts.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if lines.len() > LEAVES_MAX {
            return Err(format!("{} lines are more than {LEAVES_MAX}", lines.len()));
        }
        let twice = lines.iter().enumerate().find(|(at, line)| lines[..*at].contains(line));
        twice.map_or(Ok(()), |(_, line)| Err(format!("{line} is there twice")))?;
        Ok(lines)
    }
}

impl fmt::Display for LineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { path, baud } => write!(f, "{}@{baud}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_a_port_or_a_socket() {
        for (text, printed) in [
            ("/dev/ttyUSB0", "/dev/ttyUSB0@115200"),
            ("/dev/ttyS1@9600", "/dev/ttyS1@9600"),
            ("unix:/run/leaf.sock", "unix:/run/leaf.sock"),
            ("tcp:192.0.2.9:4001", "tcp:192.0.2.9:4001"),
        ] {
            let line = LineAddress::parse(text).unwrap();
            assert_eq!(line.to_string(), printed);
            assert_eq!(LineAddress::parse(printed), Ok(line));
        }
        for wrong in ["", "ttyUSB0", "unix:leaf", "tcp:host", "tcp::4", "tcp:h:0", "/dev/ttyS1@1", "/dev/ttyS1@fast"] {
            assert!(LineAddress::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gateway_has_a_bounded_number_of_different_lines() {
        assert_eq!(LineAddress::parse_all(" /dev/a, unix:/b ,").unwrap().len(), 2);
        assert!(LineAddress::parse_all("/dev/a,/dev/b,/dev/a@115200").unwrap_err().contains("twice"));
        let many = |count: usize| (0..count).map(|n| format!("/dev/t{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(LineAddress::parse_all(&many(LEAVES_MAX)).unwrap().len(), LEAVES_MAX);
        assert!(LineAddress::parse_all(&many(LEAVES_MAX + 1)).is_err());
    }
}
