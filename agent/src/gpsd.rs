//! A position from gpsd: its JSON over TCP (gpsd_json(5)), and when a fix is worth a report.
//!
//! Must never believe more than the receiver says, hold more than a bounded line, nor report what is within the uncertainty.
use agent_nostd::machine::time::Instant;
use async_channel::Sender;
use futures_lite::io::BufReader;
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt};
use serde::Deserialize;
use smol::net::TcpStream;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use wire::position::Position;

/// gpsd's own limit is 10,240 (GPS_JSON_RESPONSE_MAX).
const LINE_BYTES_MAX: usize = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BACK_OFF_BASE: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";
/// Of a fix whose receiver does not say: without and with height.
const UNCERTAINTY_2D_M: u32 = 100;
const UNCERTAINTY_3D_M: u32 = 25;
/// An error of more than this is no position.
const UNCERTAINTY_MAX_M: f64 = 1_000_000.0;
/// A clock that is wrong by more belongs to a fix that is not to be used.
const TIME_ERROR_MAX_S: f64 = 60.0;
const METRES_PER_DEGREE: f64 = 111_195.0;
const E7: f64 = 1e7;

/// What is read of a TPV object.
#[derive(Deserialize)]
struct Report {
    class: String,
    #[serde(default)]
    mode: u8,
    lat: Option<f64>,
    lon: Option<f64>,
    eph: Option<f64>,
    epx: Option<f64>,
    epy: Option<f64>,
    ept: Option<f64>,
}

/// Rounded to a centimetre; `None` if it is not a number of that range.
fn e7(degrees: f64, most: i32) -> Option<i32> {
    let scaled = (degrees * E7).round();
    // Within the range of the type, so that nothing is cut.
    (scaled.abs() <= f64::from(most)).then_some(scaled as i32)
}

/// The position of a line; `None`: it holds none.
pub fn fix(line: &[u8]) -> Option<Position> {
    let report: Report = serde_json::from_slice(line).ok()?;
    if report.class != "TPV" || report.mode < 2 || report.ept.is_some_and(|error| error.abs() > TIME_ERROR_MAX_S) {
        return None;
    }
    let stated = match (report.eph, report.epx, report.epy) {
        (Some(eph), _, _) => Some(eph),
        (None, Some(x), Some(y)) => Some(x.hypot(y)),
        (None, _, _) => None,
    };
    let uncertainty_m = match stated {
        Some(metres) if (0.0..=UNCERTAINTY_MAX_M).contains(&metres) => metres.ceil().max(1.0) as u32,
        Some(_) => return None,
        None if report.mode == 2 => UNCERTAINTY_2D_M,
        None => UNCERTAINTY_3D_M,
    };
    Some(Position {
        longitude_e7: e7(report.lon?, Position::LONGITUDE_E7_MAX)?,
        latitude_e7: e7(report.lat?, Position::LATITUDE_E7_MAX)?,
        uncertainty_m,
    })
}

/// Sends each position that gpsd gives, for ever: connects again when it is gone.
pub async fn listen(address: SocketAddr, fixes: Sender<Position>) {
    let mut pause = BACK_OFF_BASE;
    loop {
        match session(address, &fixes).await {
            // It was there and spoke: the next one is asked soon.
            Ok(heard) if heard > 0 => pause = BACK_OFF_BASE,
            Ok(_) => tracing::debug!(%address, "gpsd ended the connection"),
            Err(error) => tracing::debug!(%address, %error, "no position from gpsd"),
        }
        if fixes.is_closed() {
            return;
        }
        smol::Timer::after(pause).await;
        pause = (pause * 2).min(BACK_OFF_MAX);
    }
}

/// Fixes that were heard until the connection ended.
async fn session(address: SocketAddr, fixes: &Sender<Position>) -> io::Result<u64> {
    let expired = async {
        smol::Timer::after(CONNECT_TIMEOUT).await;
        Err(io::Error::from(io::ErrorKind::TimedOut))
    };
    let mut stream = TcpStream::connect(address).or(expired).await?;
    stream.write_all(WATCH).await?;
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    let mut heard = 0;
    loop {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let count = (&mut lines).take(limit).read_until(b'\n', &mut line).await?;
        if count == 0 {
            return Ok(heard);
        }
        if count == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
        if let Some(position) = fix(&line) {
            heard += 1;
            // A full channel holds newer ones than are wanted already; a closed one ends at the next pause.
            let _ = fixes.try_send(position);
            if fixes.is_closed() {
                return Ok(heard);
            }
        }
    }
}

/// How often a position is told, and when it is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub moved_m: u32,
    pub pause: Duration,
    pub stale_after: Duration,
}

/// The last position heard and the last one told.
#[derive(Debug)]
pub struct Track {
    rules: Rules,
    heard: Option<(Position, Instant)>,
    told: Option<Position>,
    told_at: Option<Instant>,
}

/// Metres between two places, on a plane through them: good enough for what has moved.
fn metres(a: Position, b: Position) -> f64 {
    let degrees = |a: i32, b: i32| (f64::from(a) - f64::from(b)) / E7;
    let latitude = degrees(a.latitude_e7, b.latitude_e7);
    let east = degrees(a.longitude_e7, b.longitude_e7).abs();
    let middle = (f64::from(a.latitude_e7) / E7).to_radians();
    latitude.hypot(east.min(360.0 - east) * middle.cos()) * METRES_PER_DEGREE
}

impl Track {
    pub fn new(rules: Rules) -> Self {
        Self { rules, heard: None, told: None, told_at: None }
    }

    pub fn hear(&mut self, now: Instant, position: Position) {
        self.heard = Some((position, now));
    }

    /// What is to be told, if anything: a position, or that it is not known any more.
    pub fn poll(&mut self, now: Instant) -> Option<Option<Position>> {
        let (position, heard_at) = self.heard?;
        if now >= heard_at.after(self.rules.stale_after) {
            self.heard = None;
            return self.told.take().map(|_| None);
        }
        if !self.is_news(position) || self.allowed_at().is_some_and(|at| now < at) {
            return None;
        }
        (self.told, self.told_at) = (Some(position), Some(now));
        Some(Some(position))
    }

    fn allowed_at(&self) -> Option<Instant> {
        self.told_at.map(|at| at.after(self.rules.pause))
    }

    fn is_news(&self, position: Position) -> bool {
        let Some(told) = self.told else { return true };
        let threshold = self.rules.moved_m.max(told.uncertainty_m);
        let is_worse = position.uncertainty_m > told.uncertainty_m.saturating_mul(2).max(self.rules.moved_m);
        let is_better = position.uncertainty_m < told.uncertainty_m / 2 && told.uncertainty_m > self.rules.moved_m;
        metres(told, position) > f64::from(threshold) || is_worse || is_better
    }

    /// When `poll` has to be called although nothing was heard.
    pub fn due(&self) -> Option<Instant> {
        let (position, heard_at) = self.heard?;
        let stale = heard_at.after(self.rules.stale_after);
        Some(if self.is_news(position) { self.allowed_at().map_or(heard_at, |at| at.min(stale)) } else { stale })
    }
}

#[cfg(test)]
mod tests;
