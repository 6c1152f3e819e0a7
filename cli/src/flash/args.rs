//! The command line of `fulmar boards`, `fulmar flash` and `fulmar monitor` as types.

use crate::complete;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// As of an agent on Linux.
const UNCERTAINTY_DEFAULT_M: u32 = 10;

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Boards {
    #[command(subcommand)]
    pub verb: Option<BoardsVerb>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum BoardsVerb {
    /// List the emulated boards of this machine
    Emulated,
    /// Give an emulated board power again, with the flash that it had
    Start {
        #[arg(add = ArgValueCompleter::new(complete::emulated))]
        name: String,
    },
    /// Take the power from an emulated board; its flash stays
    Stop {
        #[arg(add = ArgValueCompleter::new(complete::emulated))]
        name: String,
    },
    /// Be the process around an emulator
    #[command(hide = true)]
    Run {
        directory: PathBuf,
        /// End when standard input does
        #[arg(long)]
        exit_with_stdin: bool,
        /// Leave the terminal
        #[arg(long)]
        detached: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Flash {
    /// One of `fulmar boards`, or the folder of one with its board.toml
    #[arg(long, value_name = "BOARD", add = ArgValueCompleter::new(complete::boards))]
    pub board: String,
    /// Name of the device; otherwise the board's with a number
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where it stands: longitude, then latitude, in degrees
    #[arg(long, value_name = "LON,LAT", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// How far from there it may be
    #[arg(long, value_name = "METRES", requires = "at", default_value_t = UNCERTAINTY_DEFAULT_M)]
    pub uncertainty: u32,
    /// Label of the device; may be repeated
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// It waits for `fulmar device approve` once it has joined
    #[arg(long)]
    pub unapproved: bool,
    /// Firmware that was built already; otherwise scripts/firmware of the source tree builds it
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// An address of its own, with the bits of its network; otherwise it asks for one
    #[arg(long, value_name = "ADDRESS/BITS")]
    pub static_ip: Option<Cidr>,
    /// Who leads out of that network
    #[arg(long, value_name = "ADDRESS", requires = "static_ip")]
    pub gateway: Option<Ipv4Addr>,
    /// Who knows the broker's name, if it is one
    #[arg(long, value_name = "ADDRESS", requires = "static_ip")]
    pub dns: Option<Ipv4Addr>,
    /// The wireless network, for boards with a radio
    #[arg(long, value_name = "NAME")]
    pub wifi: Option<String>,
    /// File with its passphrase; - for standard input
    #[arg(long, value_name = "FILE", requires = "wifi")]
    pub wifi_secret_file: Option<PathBuf>,
    /// Broker as the board reaches it, if that is another address than the hub says: mqtt://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// Erase what the device has kept for itself too
    #[arg(long)]
    pub erase: bool,
    /// Serial port of the board: its log, and how chips of Espressif are written
    #[arg(long, value_name = "PORT")]
    pub port: Option<PathBuf>,
    /// Where the drive of an RP2xxx in its loader is mounted; otherwise it is looked for
    #[arg(long, value_name = "DIRECTORY")]
    pub drive: Option<PathBuf>,
    /// Do not wait until the hub has seen the device
    #[arg(long)]
    pub no_wait: bool,
}

impl Flash {
    /// Without a word about anything else.
    pub fn of(board: &str) -> Self {
        Self {
            board: board.to_owned(),
            name: None,
            at: None,
            uncertainty: UNCERTAINTY_DEFAULT_M,
            labels: Vec::new(),
            unapproved: false,
            image: None,
            static_ip: None,
            gateway: None,
            dns: None,
            wifi: None,
            wifi_secret_file: None,
            broker: None,
            erase: false,
            port: None,
            drive: None,
            no_wait: false,
        }
    }
}

/// `192.0.2.15/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub bits: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(address, bits)| Some(Self { address: address.parse().ok()?, bits: bits.parse().ok()? }));
        parsed.ok_or_else(|| "it is an IPv4 address with the bits of its network, as in 192.0.2.15/24".to_owned())
    }
}

#[derive(Clone, Debug, Args)]
pub struct Monitor {
    /// An emulated board of this machine, by the name of its device
    #[arg(required_unless_present = "port", conflicts_with = "port", add = ArgValueCompleter::new(complete::emulated))]
    pub name: Option<String>,
    /// Serial port of a board
    #[arg(long, value_name = "PORT")]
    pub port: Option<PathBuf>,
    /// Speed of the serial port
    #[arg(long, value_name = "BAUD", default_value_t = 115_200, requires = "port")]
    pub baud: u32,
    /// With an emulated board: lines from the end
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub tail: usize,
    /// With an emulated board: show what is there and leave
    #[arg(long, conflicts_with = "port")]
    pub no_follow: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_bits_of_its_network() {
        let given = Cidr { address: Ipv4Addr::new(192, 0, 2, 15), bits: 24 };
        assert_eq!("192.0.2.15/24".parse::<Cidr>(), Ok(given));
        for text in ["192.0.2.15", "192.0.2/24", "192.0.2.15/x", "::1/64", "192.0.2.15/300"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
