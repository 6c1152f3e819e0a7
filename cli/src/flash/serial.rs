//! A serial port, as far as a log needs one: opened raw, at a speed, read with patience.

use crate::failure::{Failure, system};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const CHUNK_BYTES: usize = 4096;
/// A board that never ends its lines is cut into some.
const LINE_BYTES_MAX: usize = 4096;

pub struct Port {
    file: File,
    rest: Vec<u8>,
}

impl Port {
    pub fn open(path: &Path, baud: u32) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            system(format!("cannot open the serial port {}", path.display()), &error)
                .next("ls /dev/ttyACM* /dev/ttyUSB*")
                .next("your user may have to be in the group `dialout`")
        };
        // Must not become this program's terminal.
        let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(cannot)?;
        let mut settings = tcgetattr(&file).map_err(|error| cannot(error.into()))?;
        settings.make_raw();
        settings.set_speed(baud).map_err(|error| cannot(error.into()))?;
        tcsetattr(&file, OptionalActions::Now, &settings).map_err(|error| cannot(error.into()))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// Lines that have come, after waiting so long for some. `None`: the port is gone.
    pub fn lines(&mut self, patience: Duration) -> Result<Option<Vec<String>>, Failure> {
        let gone = |error: std::io::Error| system("cannot read the serial port", &error);
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut ports = [PollFd::new(&self.file, PollFlags::IN)];
        if poll(&mut ports, Some(&timeout)).map_err(|error| gone(error.into()))? == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut chunk = [0; CHUNK_BYTES];
        match self.file.read(&mut chunk) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(self.split(chunk.get(..count).unwrap_or_default()))),
            // What a USB port says when it is pulled out.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(None),
            Err(error) => Err(gone(error)),
        }
    }

    fn split(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.rest.len() == LINE_BYTES_MAX {
                let line = String::from_utf8_lossy(&self.rest);
                lines.push(line.trim_end_matches('\r').to_owned());
                self.rest.clear();
            }
            if *byte != b'\n' {
                self.rest.push(*byte);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Write;

    #[test]
    fn lines_of_a_board_come_whole_and_in_order() {
        let board = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&board).unwrap();
        unlockpt(&board).unwrap();
        let name = ptsname(&board, Vec::new()).unwrap();
        let mut port = Port::open(Path::new(name.to_str().unwrap()), 115_200).unwrap();
        let mut board = File::from(board);
        let patience = Duration::from_secs(20);
        board.write_all(b"[    0.001] boot\r\n[    0.0").unwrap();
        assert_eq!(port.lines(patience).unwrap().unwrap(), ["[    0.001] boot"]);
        board.write_all(b"02] network: up\r\nlast\r\n").unwrap();
        assert_eq!(port.lines(patience).unwrap().unwrap(), ["[    0.002] network: up", "last"]);
        assert_eq!(port.lines(Duration::from_millis(1)).unwrap().unwrap(), Vec::<String>::new());
        drop(board);
        assert_eq!(port.lines(patience).unwrap(), None);
    }

    #[test]
    fn what_never_ends_is_cut() {
        let mut port = Port { file: File::open("/dev/null").unwrap(), rest: Vec::new() };
        let lines = port.split(&[b'x'; 2 * LINE_BYTES_MAX + 1]);
        assert!(lines.len() == 2 && lines.iter().all(|line| line.len() == LINE_BYTES_MAX));
        assert_eq!(port.rest.len(), 1);
    }

    #[test]
    fn a_port_that_is_none_is_named() {
        for path in ["/nonexistent/tty", "/dev/null"] {
            let failure = Port::open(Path::new(path), 115_200).err().unwrap();
            assert!(failure.what.contains(path) && failure.next.len() == 2);
        }
    }
}
