//! The command line of `fulmar up` as types.

use super::Hub;
use crate::complete;
use crate::flash::beside;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub hub: Hub,
    /// Where this machine is: longitude, then latitude, in degrees
    #[arg(long, value_name = "LON,LAT", default_value = "8.6821,50.1109", allow_hyphen_values = true)]
    pub at: String,
    /// The agent's program; otherwise the `fulmar-agent` beside this one
    #[arg(long, value_name = "PATH")]
    pub agent: Option<PathBuf>,
    /// Start no device of this machine
    #[arg(long, conflicts_with = "agent")]
    pub no_agent: bool,
    /// Start simulated devices too; without --data, in a temporary directory that is removed at the end
    #[arg(long)]
    pub demo: bool,
    /// With --demo: so many simulated devices; 50 unless given, at most 250
    #[arg(long, value_name = "N", requires = "demo", value_parser = clap::value_parser!(u16).range(0..=250))]
    pub devices: Option<u16>,
    /// With --demo: so many emulated boards with the real firmware, which keep their flash; 8 at most
    #[arg(long, value_name = "N", requires = "demo", value_parser = clap::value_parser!(u8).range(0..=beside::BOARDS_MAX as i64))]
    pub qemu: Option<u8>,
    /// With --qemu: which board, one of `fulmar boards` or its folder
    #[arg(long, value_name = "BOARD", requires = "qemu", default_value = "qemu-mps2-an386", add = ArgValueCompleter::new(complete::boards))]
    pub qemu_board: String,
    /// With --qemu: firmware that was built already; otherwise scripts/firmware of the source tree builds it
    #[arg(long, value_name = "FILE", requires = "qemu")]
    pub qemu_image: Option<PathBuf>,
    /// Return when everything runs; `fulmar down` ends it
    #[arg(long)]
    pub detach: bool,
    /// This is the background process of --detach
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub detached: bool,
    /// Remove the data directory at the end
    #[arg(long, hide = true, requires = "detached")]
    pub temporary: bool,
}
