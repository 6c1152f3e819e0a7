//! The keys: name, meaning, default and reader of each. The reference, the flags and the environment follow from this table.
//!
//! Must never take a value that it would round or cut silently.
use super::{Config, PositionSource};
use crate::link::Endpoint;
use crate::relay::LineAddress;
use crate::store::STORE_BYTES_MAX;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::Level;
use wire::position::Position;

/// Of a position given without one: a good receiver under an open sky.
const UNCERTAINTY_DEFAULT_M: u32 = 10;
const MEMORY_MIN_BYTES: u64 = 64 * 1024;
const MEMORY_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const ARTIFACTS_MIN_BYTES: u64 = 64 * 1024;
const ARTIFACTS_MAX_BYTES: u64 = 1 << 40;
const SECONDS_MAX: u64 = 24 * 3600;
const STOP_SECONDS_MAX: u64 = 3600;
const METRES_MAX: u64 = 1_000_000;

/// One key.
pub struct Key {
    /// `section.name`
    pub name: &'static str,
    /// What a value looks like; completes "it takes".
    pub form: &'static str,
    /// Unset without one.
    pub default: Option<&'static str>,
    pub flags: &'static [&'static str],
    /// Instead of the usual name.
    pub variable: Option<&'static str>,
    /// A sentence or two for the reference.
    pub meaning: &'static str,
    /// Whether a file writes it without quotes.
    pub is_number: bool,
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Key {
    /// The value as a file has it.
    pub fn toml(&self, value: &str) -> String {
        if self.is_number { value.to_owned() } else { format!("\"{}\"", value.escape_default()) }
    }
}

/// In the order of files and reference; the keys of a section stand together.
pub const KEYS: &[Key] = &[
    Key {
        name: "data",
        form: "the absolute path of a directory",
        default: Some("/var/lib/fulmar-agent"),
        flags: &["--data"],
        variable: None,
        meaning: "Where the device keeps its keys and state. Only the agent's user can read it.",
        is_number: false,
        set: |config, text| path(text).map(|value| config.data = value),
    },
    Key {
        name: "log",
        form: "error, warn, info, debug or trace",
        default: Some("info"),
        flags: &["--log"],
        variable: Some("FULMAR_LOG"),
        meaning: "How much is said on standard error.",
        is_number: false,
        set: |config, text| {
            let level = text.parse::<Level>().map_err(|_| "it is not a level".to_owned());
            level.map(|value| config.log = value)
        },
    },
    Key {
        name: "broker",
        form: "mqtts://host:port or mqtt://host:port",
        default: None,
        flags: &["--broker"],
        variable: None,
        meaning: "The broker's address, if it is another one than when the device joined. The authority that was pinned then has \
                  to vouch for it.",
        is_number: false,
        set: |config, text| {
            Endpoint::parse(text).map_err(|_| "it is not the address of a broker".to_owned())?;
            config.broker = Some(text.to_owned());
            Ok(())
        },
    },
    Key {
        name: "stop_timeout_s",
        form: "seconds from 1 to 3600",
        default: Some("60"),
        flags: &[],
        variable: None,
        meaning: "After a signal to stop, functions have this long to end; then the agent ends all the same.",
        is_number: true,
        set: |config, text| {
            number(text, 1, STOP_SECONDS_MAX).map(|value| config.stop_timeout = Duration::from_secs(value))
        },
    },
    Key {
        name: "functions.memory",
        form: "bytes from 64KiB to 2GiB, such as 64MiB",
        default: Some("64MiB"),
        flags: &[],
        variable: None,
        meaning: "Memory for all functions together. The device reports it, and the hub places no more than fits.",
        is_number: false,
        set: |config, text| {
            let value = bytes(text, MEMORY_MIN_BYTES, MEMORY_MAX_BYTES)?;
            config.function_memory_bytes = u32::try_from(value).map_err(|_| "it is too much".to_owned())?;
            Ok(())
        },
    },
    Key {
        name: "artifacts.limit",
        form: "bytes from 64KiB to 1TiB, such as 1GiB",
        default: Some("1GiB"),
        flags: &[],
        variable: None,
        meaning: "Disk space for artifacts: those that the present and the last good state need, and others as long as there is \
                  room. What was not used for longest goes first; what is needed never goes.",
        is_number: false,
        set: |config, text| {
            bytes(text, ARTIFACTS_MIN_BYTES, ARTIFACTS_MAX_BYTES).map(|value| config.artifact_bytes_max = value)
        },
    },
    Key {
        name: "position.source",
        form: "joined, none, gpsd, or LAT,LON[,UNCERTAINTY_M]",
        default: Some("joined"),
        flags: &["--position", "--at"],
        variable: None,
        meaning: "Where the device learns where it is: what was said when it joined, nothing, a receiver through gpsd, or this \
                  place in degrees with its uncertainty in metres.",
        is_number: false,
        set: |config, text| {
            config.position = match text {
                "joined" => PositionSource::Joined,
                "none" => PositionSource::None,
                "gpsd" => PositionSource::Gpsd,
                place => PositionSource::Static(position_parse(place).ok_or("it is not a position")?),
            };
            Ok(())
        },
    },
    Key {
        name: "position.gpsd",
        form: "the address and port of gpsd, such as 127.0.0.1:2947",
        default: Some("127.0.0.1:2947"),
        flags: &["--gpsd"],
        variable: None,
        meaning: "Where gpsd listens.",
        is_number: false,
        set: |config, text| {
            let address = text.parse::<SocketAddr>().map_err(|_| "it is not an address and port".to_owned());
            address.map(|value| config.gpsd = value)
        },
    },
    Key {
        name: "position.stale_s",
        form: "seconds from 5 to 86400",
        default: Some("300"),
        flags: &[],
        variable: None,
        meaning: "A position from gpsd that was not renewed for so long is not known any more, and the hub is told.",
        is_number: true,
        set: |config, text| {
            number(text, 5, SECONDS_MAX).map(|value| config.position_stale_after = Duration::from_secs(value))
        },
    },
    Key {
        name: "position.moved_m",
        form: "metres from 0 to 1000000",
        default: Some("50"),
        flags: &[],
        variable: None,
        meaning: "A move is reported when it is longer than this and than the uncertainty that was reported last.",
        is_number: true,
        set: |config, text| {
            let value = number(text, 0, METRES_MAX)?;
            config.position_moved_m = u32::try_from(value).map_err(|_| "it is too much".to_owned())?;
            Ok(())
        },
    },
    Key {
        name: "position.pause_s",
        form: "seconds from 1 to 86400",
        default: Some("10"),
        flags: &[],
        variable: None,
        meaning: "At least so long between two reports of a position from gpsd.",
        is_number: true,
        set: |config, text| {
            number(text, 1, SECONDS_MAX).map(|value| config.position_pause = Duration::from_secs(value))
        },
    },
    Key {
        name: "leaves.lines",
        form: "up to 16 of PATH[@BAUD], unix:PATH and tcp:HOST:PORT, with commas between",
        default: None,
        flags: &["--leaves"],
        variable: None,
        meaning: "Serial lines of leaf devices: this device then is their gateway, and relays for each under the leaf's own \
                  identity (docs/howto/leaf-devices.md). A port runs at 115200 baud unless told otherwise.",
        is_number: false,
        set: |config, text| LineAddress::parse_all(text).map(|value| config.leaves = value),
    },
];

/// What the readers of the keys fill in.
pub fn empty() -> Config {
    Config {
        data: PathBuf::new(),
        log: Level::INFO,
        broker: None,
        function_memory_bytes: 0,
        artifact_bytes_max: STORE_BYTES_MAX,
        stop_timeout: Duration::ZERO,
        position: PositionSource::Joined,
        gpsd: SocketAddr::from((Ipv4Addr::LOCALHOST, 2947)),
        position_stale_after: Duration::ZERO,
        position_moved_m: 0,
        position_pause: Duration::ZERO,
        leaves: Vec::new(),
    }
}

/// Flags may name a directory from where the caller is; a service has no such place, so files say the whole path.
fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Path::new(text).to_owned()) }
}

fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let value = text.parse::<u64>().map_err(|_| "it is not a whole number".to_owned())?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(format!("it is not between {least} and {most}")) }
}

fn bytes(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let found = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), shift)));
    let (digits, shift) = found.unwrap_or((text, 0));
    let value = digits.parse::<u64>().map_err(|_| "it is not a number of bytes".to_owned())?;
    let value = value.checked_mul(1 << shift).ok_or("it is too much")?;
    if (least..=most).contains(&value) { Ok(value) } else { Err("it is out of range".to_owned()) }
}

/// Degrees with at most seven decimals, as an integer: no float decides where a device is.
fn degrees_e7(text: &str) -> Option<i32> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(decimals) || whole.len() > 3 || decimals.len() > 7 {
        return None;
    }
    let scaled: i64 = format!("{whole}{decimals:0<7}").parse().ok()?;
    i32::try_from(if negative { -scaled } else { scaled }).ok()
}

/// `LAT,LON` or `LAT,LON,UNCERTAINTY_M`
pub fn position_parse(text: &str) -> Option<Position> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let (latitude, longitude, uncertainty_m) = match parts.as_slice() {
        [latitude, longitude] => (latitude, longitude, UNCERTAINTY_DEFAULT_M),
        [latitude, longitude, uncertainty] => (latitude, longitude, uncertainty.parse().ok()?),
        _ => return None,
    };
    let position = Position { latitude_e7: degrees_e7(latitude)?, longitude_e7: degrees_e7(longitude)?, uncertainty_m };
    position.is_valid().then_some(position)
}
