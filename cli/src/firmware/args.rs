//! The command line of `fulmar firmware` as types.

use crate::complete;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;

#[derive(Clone, Debug, Subcommand)]
pub enum Firmware {
    /// Give an image its board and version, and upload it
    Push(Push),
    /// Bring an image to devices, in waves
    Rollout(Box<Rollout>),
    /// Show rollouts, or one with each of its devices
    Status {
        /// As `rollout` named it: BOARD-vVERSION
        name: Option<String>,
    },
    /// Offer the image to nobody else for now
    Pause { name: String },
    /// Go on with a rollout that was paused
    Resume { name: String },
    /// End a rollout; what runs stays
    Abort { name: String },
}

#[derive(Clone, Debug, Args)]
pub struct Push {
    /// Firmware as scripts/firmware leaves it, an ELF file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// One of `fulmar boards`, or the folder of one with its board.toml
    #[arg(long, value_name = "BOARD", add = ArgValueCompleter::new(complete::boards))]
    pub board: String,
    /// Counts up: a device never takes a lower one than it has confirmed. `fulmar flash` writes version 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: u32,
    /// Name of the artifact; otherwise firmware-BOARD
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Rollout {
    /// The image, as `push` printed it: NAME@sha256:HASH
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The board that the image is for, as a check
    #[arg(long, value_name = "BOARD", add = ArgValueCompleter::new(complete::boards))]
    pub board: Option<String>,
    /// Only devices with these labels
    #[arg(short = 'l', long = "selector", value_name = "SELECTOR", default_value = "")]
    pub selector: String,
    /// How many devices each wave reaches, counted from the first: 1 or 10%
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "1,10%,100%")]
    pub waves: Vec<String>,
    /// With more devices that do not keep the image, nobody else gets it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_failures: u32,
    /// A wave is right for so long before the next one begins
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub soak: String,
    /// So long may an image run without reaching the hub before it confirms itself or is taken back
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub confirm_within: String,
    /// Wait until it is done; the exit code is 5 if it is halted
    #[arg(long)]
    pub wait: bool,
}
