//! The one parser and printer of MQTT topics.
use crate::codec::WireError;
use crate::id::{DEVICE_ID_TEXT_BYTES, DeviceId};
use crate::limits::{FLEET_BYTES_MAX, MQTT_TOPIC_BYTES_MAX};
use core::fmt::Write;

const ROOT: &str = "fulmar/v1/";
/// Letters of a token id in text: 8 bytes in hexadecimal.
pub const TOKEN_ID_TEXT_BYTES: usize = 16;
const LONGEST_TAIL: usize = "heartbeat".len();
const _: () =
    assert!(ROOT.len() + FLEET_BYTES_MAX + 3 + DEVICE_ID_TEXT_BYTES + 4 + LONGEST_TAIL <= MQTT_TOPIC_BYTES_MAX);

pub type TopicText = heapless::String<MQTT_TOPIC_BYTES_MAX>;

/// From hub to one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    Trust,
    Desired,
    Fresh,
    Grant,
    Input,
    Chunk,
    Command,
}

/// From one device to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Up {
    Hello,
    Heartbeat,
    Status,
    Need,
    Released,
    Event,
    Sample,
    Log,
    Will,
}

/// The public half of a join token, in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TokenId(pub [u8; 8]);

impl core::fmt::Display for TokenId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TokenId {
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != TOKEN_ID_TEXT_BYTES || !text.bytes().all(is_hex) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|value| Self(value.to_be_bytes()))
    }
}

/// The part of a topic after the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    Down(DeviceId, Down),
    Up(DeviceId, Up),
    HubState,
    JoinRequest(TokenId),
    JoinAnswer(TokenId),
}

impl Down {
    pub const ALL: [Self; 7] =
        [Self::Trust, Self::Desired, Self::Fresh, Self::Grant, Self::Input, Self::Chunk, Self::Command];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Desired => "desired",
            Self::Fresh => "fresh",
            Self::Grant => "grant",
            Self::Input => "input",
            Self::Chunk => "chunk",
            Self::Command => "cmd",
        }
    }

    /// Only these are retained.
    pub const fn is_retained(self) -> bool {
        matches!(self, Self::Trust | Self::Desired)
    }
}

impl Up {
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Heartbeat,
        Self::Status,
        Self::Need,
        Self::Released,
        Self::Event,
        Self::Sample,
        Self::Log,
        Self::Will,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Heartbeat => "heartbeat",
            Self::Status => "status",
            Self::Need => "need",
            Self::Released => "released",
            Self::Event => "event",
            Self::Sample => "sample",
            Self::Log => "log",
            Self::Will => "will",
        }
    }
}

/// True for `[a-z0-9]([a-z0-9-]*[a-z0-9])?` of at most `limit` bytes (RFC 1123 label).
pub fn is_label(text: &str, limit: usize) -> bool {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            bytes.len() <= limit && plain(first) && plain(last) && bytes.iter().all(|b| plain(b) || *b == b'-')
        }
        _ => false,
    }
}

/// A fleet name that is safe inside a topic: a wildcard or a slash in it would be another subscription.
pub fn check_fleet(fleet: &str) -> Result<(), WireError> {
    crate::codec::bounded_text(fleet, FLEET_BYTES_MAX)?;
    if is_label(fleet, FLEET_BYTES_MAX) { Ok(()) } else { Err(WireError::Malformed) }
}

impl Topic {
    /// `fulmar/v1/<fleet>/...`; the fleet is a checked label.
    pub fn print(&self, fleet: &str) -> Result<TopicText, WireError> {
        check_fleet(fleet)?;
        let mut out = TopicText::new();
        let written = match self {
            Self::Down(device, down) => write!(out, "{ROOT}{fleet}/d/{device}/down/{}", down.name()),
            Self::Up(device, up) => write!(out, "{ROOT}{fleet}/d/{device}/up/{}", up.name()),
            Self::HubState => write!(out, "{ROOT}{fleet}/hub/state"),
            Self::JoinRequest(token) => write!(out, "{ROOT}{fleet}/join/{token}/req"),
            Self::JoinAnswer(token) => write!(out, "{ROOT}{fleet}/join/{token}/ans"),
        };
        written.map_err(|_| WireError::NoRoom)?;
        Ok(out)
    }

    /// `None` for a topic of another fleet, or of no form we know.
    pub fn parse(fleet: &str, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(ROOT)?.strip_prefix(fleet)?.strip_prefix('/')?;
        if rest == "hub/state" {
            return Some(Self::HubState);
        }
        let mut parts = rest.split('/');
        let parsed = match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
            ("d", device, "down", Some(tail)) => {
                let down = Down::ALL.into_iter().find(|down| down.name() == tail)?;
                Self::Down(DeviceId::parse(device).ok()?, down)
            }
            ("d", device, "up", Some(tail)) => {
                let up = Up::ALL.into_iter().find(|up| up.name() == tail)?;
                Self::Up(DeviceId::parse(device).ok()?, up)
            }
            ("join", token, "req", None) => Self::JoinRequest(TokenId::parse(token)?),
            ("join", token, "ans", None) => Self::JoinAnswer(TokenId::parse(token)?),
            _ => return None,
        };
        parts.next().is_none().then_some(parsed)
    }

    /// What the hub subscribes to.
    pub fn hub_filters(fleet: &str) -> Result<[TopicText; 3], WireError> {
        check_fleet(fleet)?;
        let filter = |tail: &str| {
            let mut out = TopicText::new();
            write!(out, "{ROOT}{fleet}/{tail}").map_err(|_| WireError::NoRoom)?;
            Ok(out)
        };
        Ok([filter("d/+/up/+")?, filter("join/+/req")?, filter("hub/state")?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_survives_its_text() {
        let device = DeviceId([7; 16]);
        let token = TokenId([1, 2, 3, 4, 5, 6, 7, 250]);
        let all = Down::ALL
            .map(|down| Topic::Down(device, down))
            .into_iter()
            .chain(Up::ALL.map(|up| Topic::Up(device, up)))
            .chain([Topic::HubState, Topic::JoinRequest(token), Topic::JoinAnswer(token)]);
        for topic in all {
            let text = topic.print("north").unwrap();
            assert_eq!(Topic::parse("north", &text), Some(topic), "{text}");
            assert_eq!(Topic::parse("south", &text), None);
            assert_eq!(Topic::parse("north", &std::format!("{text}/x")), None);
        }
    }

    #[test]
    fn the_longest_topic_fits() {
        let fleet = "f".repeat(FLEET_BYTES_MAX);
        assert!(Topic::Up(DeviceId([255; 16]), Up::Heartbeat).print(&fleet).is_ok());
        assert!(Topic::HubState.print(&"f".repeat(FLEET_BYTES_MAX + 1)).is_err());
        assert!(Topic::HubState.print("a/b").is_err());
        assert!(Topic::HubState.print("#").is_err());
    }

    #[test]
    fn a_token_id_has_one_spelling() {
        assert_eq!(TokenId::parse("+102030405060708"), None);
        assert_eq!(TokenId::parse("0102030405060708"), Some(TokenId([1, 2, 3, 4, 5, 6, 7, 8])));
    }
}
