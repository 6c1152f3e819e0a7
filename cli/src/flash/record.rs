//! The provisioning record of one board: what the operator said, what the hub answered, and what nobody may guess.

use super::args::Flash;
use crate::code::Code;
use crate::failure::{Failure, system};
use board::{Network as Link, Table, Writer};
use wire::WireError;
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::limits::PROVISION_BYTES_MAX;
use wire::position::Position;
use wire::provision::{EntropySeed, MacAddress, Network, Provision, StaticAddress, Wifi};

const SECRET_FILE_BYTES_MAX: u64 = 4096;
/// Bits of an address that its owner may choose, IEEE 802: administered locally, one station.
const LOCAL: u8 = 0x02;
const E7: f64 = 10_000_000.0;

/// What is drawn by lot.
pub struct Lot {
    pub mac: MacAddress,
    pub seed: EntropySeed,
}

impl Lot {
    pub fn draw() -> Result<Self, Failure> {
        let (mut mac, mut seed) = ([0; 6], [0; 32]);
        let empty = |error: getrandom::Error| {
            Failure::new(Code::System, "the system has no random numbers").why(error.to_string())
        };
        getrandom::fill(&mut mac).and_then(|()| getrandom::fill(&mut seed)).map_err(empty)?;
        mac[0] = mac[0] & 0xfc | LOCAL;
        Ok(Self { mac: MacAddress(mac), seed: EntropySeed(seed) })
    }
}

/// The bytes for the partition `config`.
pub fn record(args: &Flash, table: &Table, name: &str, token: &str, lot: &Lot) -> Result<Vec<u8>, Failure> {
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    let token = parse(token, &mut buffer)?;
    let broker = broker(args, table, token.broker)?;
    let wifi_secret = args.wifi_secret_file.as_deref().map(secret).transpose()?.unwrap_or_default();
    let provision = Provision {
        board: &table.name,
        name,
        token: JoinToken { broker: &broker, ..token },
        position: position(args)?,
        mac: lot.mac,
        network: network(args),
        wifi: args.wifi.as_deref().map(|name| Wifi { name, secret: &wifi_secret }),
        seed: lot.seed,
    };
    let mut buffer = [0; PROVISION_BYTES_MAX];
    provision.encode(&mut buffer).map(<[u8]>::to_vec).map_err(|error| unfit(args, &provision, error))
}

/// Where a token says that the broker is.
pub fn broker_of(token: &str) -> Result<String, Failure> {
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    parse(token, &mut buffer).map(|token| token.broker.to_owned())
}

fn parse<'a>(text: &str, buffer: &'a mut [u8; TOKEN_TEXT_BYTES_MAX]) -> Result<JoinToken<'a>, Failure> {
    JoinToken::parse(text, buffer).map_err(|error| {
        Failure::new(Code::Board, "the hub's token is of no form that this program knows")
            .why(error.to_string())
            .next("fulmar version    (of this program and of the hub)")
    })
}

/// What of the command line the record does not take.
fn unfit(args: &Flash, provision: &Provision<'_>, error: WireError) -> Failure {
    match (&provision.network, error) {
        (Network::Static(address), WireError::Malformed) if !address.is_valid() => {
            Failure::usage("--static-ip, --gateway and --dns do not fit together")
                .why("the address is one of a host, and the gateway another one of the same network")
                .next("--static-ip 192.0.2.15/24 --gateway 192.0.2.1")
        }
        (_, error) => Failure::usage("this cannot be told to a board").why(error.to_string()).why(match args.name {
            Some(_) => "names have 63 bytes, names of wireless networks 32, their passphrases 64",
            None => "names of wireless networks have 32 bytes, their passphrases 64",
        }),
    }
}

/// Refused before the hub is asked for a token that would be of no use.
pub fn check(args: &Flash, table: &Table) -> Result<(), Failure> {
    position(args)?;
    match (table.network, &args.wifi) {
        (Link::Wifi, None) => Err(Failure::usage(format!("{} needs a wireless network", table.name))
            .why("it has no other way to the hub")
            .next("--wifi NAME --wifi-secret-file FILE")),
        (Link::Ethernet | Link::Serial, Some(_)) => {
            Err(Failure::usage(format!("{} has no radio", table.name)).next("leave --wifi and its secret away"))
        }
        (Link::Serial, None) if args.static_ip.is_some() => {
            Err(Failure::usage(format!("{} has no address: a serial line leads to its gateway", table.name))
                .next("leave --static-ip, --gateway and --dns away"))
        }
        (Link::Wifi, Some(_)) | (Link::Ethernet | Link::Serial, None) => Ok(()),
    }
}

fn position(args: &Flash) -> Result<Option<Position>, Failure> {
    let Some(text) = &args.at else { return Ok(None) };
    let degrees = |text: &str, limit: i32| {
        let degrees: f64 = text.trim().parse().ok()?;
        // Within the limit it is within an i32 too; not a number is within nothing.
        ((degrees * E7).abs() <= f64::from(limit)).then_some((degrees * E7).round() as i32)
    };
    let parsed = text.split_once(',').and_then(|(longitude, latitude)| {
        Some(Position {
            longitude_e7: degrees(longitude, Position::LONGITUDE_E7_MAX)?,
            latitude_e7: degrees(latitude, Position::LATITUDE_E7_MAX)?,
            uncertainty_m: args.uncertainty,
        })
    });
    parsed.map(Some).ok_or_else(|| {
        Failure::usage(format!("--at {text} is not a position"))
            .why("longitude is between -180 and 180, latitude between -90 and 90, and longitude comes first")
            .next("--at 8.6821,50.1109")
    })
}

fn network(args: &Flash) -> Network {
    match args.static_ip {
        None => Network::Dhcp,
        Some(own) => Network::Static(StaticAddress {
            address: own.address.octets(),
            prefix: own.bits,
            gateway: args.gateway.map(|gateway| gateway.octets()),
            dns: args.dns.map(|dns| dns.octets()),
        }),
    }
}

/// The broker as the board reaches it: an emulated one reaches this machine's loopback at an address of its own.
fn broker(args: &Flash, table: &Table, told: &str) -> Result<String, Failure> {
    let url = args.broker.as_deref().unwrap_or(told);
    let Some((scheme, place)) = url.split_once("://") else {
        return Err(Failure::usage(format!("{url} is not the URL of a broker")).next("--broker mqtt://192.0.2.1:1883"));
    };
    // Its gateway has the connection, and connects where it does for itself.
    if table.network == Link::Serial {
        return Ok(url.to_owned());
    }
    if scheme != "mqtt" && !table.tls {
        return Err(Failure::new(
            Code::NeedsPlain,
            format!("{} does not speak TLS, and the broker is at {url}", table.name),
        )
        .why("what hub and device say to each other is authentic without it, and can be read on the way")
        .next("--broker mqtt://HOST:PORT    (a listener without TLS of the same broker)")
        .next("or start the hub with --tls off"));
    }
    let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
    let is_loopback =
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match table.writer() {
        Some(Writer::Qemu(qemu)) if is_loopback => Ok(format!("{scheme}://{}:{port}", qemu.host)),
        Some(_) | None if is_loopback => {
            Err(Failure::new(Code::Loopback, format!("a board cannot reach the broker at {url}"))
                .why("that address is this machine's own; the hub listens to nobody else")
                .next("start the hub with --broker 0.0.0.0:1883 --san NAME --tls off")
                .next("or name it as the board reaches it: --broker mqtt://HOST:PORT"))
        }
        Some(_) | None => Ok(url.to_owned()),
    }
}

/// The first line of a file, or of standard input.
fn secret(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read;
    let cannot = |error: std::io::Error| system(format!("cannot read {}", path.display()), &error);
    let mut text = String::new();
    let mut read = |from: &mut dyn Read| from.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text);
    match path.to_str() {
        Some("-") => read(&mut std::io::stdin()).map_err(cannot)?,
        Some(_) | None => read(&mut std::fs::File::open(path).map_err(cannot)?).map_err(cannot)?,
    };
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::image::tests::{EXAMPLE, table};
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser;
    use wire::Digest;
    use wire::topic::TokenId;

    fn flash(more: &[&str]) -> Flash {
        let line = ["fulmar", "flash", "--board", "example"].into_iter().chain(more.iter().copied());
        match Cli::try_parse_from(line).unwrap().verb {
            Verb::Flash(args) => *args,
            other => unreachable_verb(&other),
        }
    }

    fn unreachable_verb(verb: &Verb) -> Flash {
        std::panic::panic_any(format!("{verb:?}"))
    }

    fn token(broker: &str) -> String {
        let token = JoinToken {
            id: TokenId([7; 8]),
            secret: [9; 16],
            fleet: "fulmar",
            broker,
            certificate: None,
            hub: Digest([3; 32]),
        };
        token.text().unwrap().to_string()
    }

    fn made(more: &[&str], broker: &str) -> Result<Vec<u8>, Failure> {
        let lot = Lot { mac: MacAddress([2, 0, 0, 0, 0, 1]), seed: EntropySeed([5; 32]) };
        record(&flash(more), &table(), "porch", &token(broker), &lot)
    }

    #[test]
    fn the_device_finds_what_the_operator_and_the_hub_said() {
        let more = [
            "--at",
            "-0.1276,51.5072",
            "--uncertainty",
            "25",
            "--static-ip",
            "192.0.2.15/24",
            "--gateway",
            "192.0.2.2",
        ];
        let bytes = made(&more, "mqtt://127.0.0.1:4711").unwrap();
        let record = Provision::decode(&bytes).unwrap();
        assert_eq!((record.board, record.name, record.token.broker), ("example", "porch", "mqtt://192.0.2.2:4711"));
        assert_eq!((record.token.id, record.token.secret), (TokenId([7; 8]), [9; 16]));
        let position = Position { longitude_e7: -1_276_000, latitude_e7: 515_072_000, uncertainty_m: 25 };
        assert_eq!(record.position, Some(position));
        let address = StaticAddress { address: [192, 0, 2, 15], prefix: 24, gateway: Some([192, 0, 2, 2]), dns: None };
        assert_eq!(record.network, Network::Static(address));
        let bytes = made(&[], "mqtt://hub.example:1883").unwrap();
        let record = Provision::decode(&bytes).unwrap();
        assert_eq!(
            (record.token.broker, record.network, record.position),
            ("mqtt://hub.example:1883", Network::Dhcp, None)
        );
    }

    #[test]
    fn what_a_board_cannot_use_is_refused_with_a_way_out() {
        for (more, broker, code) in [
            (&[][..], "mqtts://hub.example:8883", "NEEDS_PLAIN"),
            (&["--broker", "hub.example"], "mqtt://127.0.0.1:1", "USAGE"),
            (&["--at", "50.1,181"], "mqtt://127.0.0.1:1", "USAGE"),
            (&["--at", "nan,1"], "mqtt://127.0.0.1:1", "USAGE"),
            (&["--static-ip", "192.0.2.0/24"], "mqtt://127.0.0.1:1", "USAGE"),
            (&["--static-ip", "192.0.2.9/24", "--gateway", "192.0.3.1"], "mqtt://127.0.0.1:1", "USAGE"),
        ] {
            let failure = made(more, broker).unwrap_err();
            assert_eq!(failure.code, code, "{more:?}: {failure:?}");
            assert!(!failure.next.is_empty() && !failure.why.is_empty() || code == "USAGE", "{failure:?}");
        }
        let plain = made(&["--broker", "mqtt://hub.example:1883"], "mqtts://hub.example:8883").unwrap();
        assert_eq!(Provision::decode(&plain).unwrap().token.broker, "mqtt://hub.example:1883");
    }

    #[test]
    fn a_board_of_silicon_cannot_reach_the_loopback_of_this_machine() {
        let end = EXAMPLE.find("[qemu]\n").unwrap();
        let silicon = Table::parse(&format!("{}[probe_rs]\nchip = \"a\"\n", &EXAMPLE[..end])).unwrap();
        for url in ["mqtt://127.0.0.1:1883", "mqtt://localhost:1883", "mqtt://[::1]:1883"] {
            let failure = broker(&flash(&[]), &silicon, url).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.next.len()), ("LOOPBACK", 2), "{url}");
        }
        assert_eq!(broker(&flash(&[]), &silicon, "mqtt://10.0.0.7:1883").unwrap(), "mqtt://10.0.0.7:1883");
        assert_eq!(broker(&flash(&[]), &table(), "mqtt://localhost:1883").unwrap(), "mqtt://192.0.2.2:1883");
    }

    #[test]
    fn a_leaf_takes_any_broker_because_its_gateway_connects_and_has_no_address() {
        let leaf = Table::parse(&EXAMPLE.replace("network = \"ethernet\"", "network = \"serial\"")).unwrap();
        for url in ["mqtts://hub.example:8883", "mqtt://127.0.0.1:1883"] {
            assert_eq!(broker(&flash(&[]), &leaf, url).unwrap(), url);
        }
        assert!(check(&flash(&[]), &leaf).is_ok() && check(&flash(&["--wifi", "garden"]), &leaf).is_err());
        assert!(check(&flash(&["--static-ip", "192.0.2.9/24"]), &leaf).is_err());
    }

    #[test]
    fn a_radio_needs_a_network_and_a_cable_has_none() {
        let wireless = Table::parse(&EXAMPLE.replace("network = \"ethernet\"", "network = \"wifi\"")).unwrap();
        assert!(check(&flash(&[]), &wireless).is_err() && check(&flash(&["--wifi", "garden"]), &wireless).is_ok());
        assert!(check(&flash(&[]), &table()).is_ok() && check(&flash(&["--wifi", "garden"]), &table()).is_err());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "tomatoes\nand more\n").unwrap();
        let more = ["--wifi", "garden", "--wifi-secret-file", file.to_str().unwrap()];
        let bytes = made(&more, "mqtt://127.0.0.1:1").unwrap();
        assert_eq!(Provision::decode(&bytes).unwrap().wifi, Some(Wifi { name: "garden", secret: "tomatoes" }));
        let failure = made(&["--wifi", &"x".repeat(33)], "mqtt://127.0.0.1:1").unwrap_err();
        assert_eq!(failure.code, "USAGE");
    }

    #[test]
    fn no_lot_is_drawn_twice_and_an_address_is_local_and_of_one_station() {
        let (one, other) = (Lot::draw().unwrap(), Lot::draw().unwrap());
        assert!(one.seed != other.seed && one.mac != other.mac);
        for lot in [one, other] {
            assert!(lot.mac.is_valid() && lot.mac.0[0] & LOCAL != 0);
        }
    }
}
