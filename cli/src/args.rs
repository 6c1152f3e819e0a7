//! The command line as types. What a verb does is in the file of its name; nothing here may do anything.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Fulmar: runs functions on edge devices, chosen by where on Earth they are.
#[derive(Debug, Parser)]
#[command(name = "fulmar", version, about, propagate_version = false, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Address of the hub; otherwise the one that runs on the data directory
    #[arg(long, global = true, value_name = "URL", env = "FULMAR_SERVER", help_heading = "Global options")]
    pub server: Option<String>,
    /// Data directory of the hub on this machine
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FULMAR_DATA",
        default_value = "./fulmar-data",
        help_heading = "Global options"
    )]
    pub data: PathBuf,
    /// Form of the answer; with `json`, errors are JSON too (on standard error)
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, help_heading = "Global options")]
    pub output: Output,
    /// Namespace of what has one
    #[arg(short, long, global = true, value_name = "NAME", default_value = "default", help_heading = "Global options")]
    pub namespace: String,
    /// `data` is not the default.
    #[arg(skip)]
    pub is_data_given: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a hub and one device on this machine, until Ctrl-C
    Up(Up),
    /// End what `up --detach` has started
    Down,
    /// Start a hub alone, until Ctrl-C
    Hub(Hub),
    /// Create or change what manifests describe
    Apply(Apply),
    /// List objects, or show one
    Get(Get),
    /// Show one object with everything around it
    Describe(One),
    /// Remove objects
    Delete(Delete),
    /// Show the lines of a workload
    Logs(Logs),
    /// Show what happened
    Events(Events),
    /// Say why
    #[command(subcommand)]
    Explain(Explain),
    /// Let devices in, and decide about them
    #[command(subcommand, alias = "devices")]
    Device(Device),
    /// Wait until a workload is as it should be
    Wait(Wait),
    /// Show how the hub is
    Status,
    /// Show the version of this program and of the hub
    Version,
    /// Print the completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Hub {
    /// Address of the API; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    pub api: String,
    /// Address of the MQTT broker; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1883")]
    pub broker: String,
}

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

#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// Manifest, directory of manifests, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Wait until the workloads run
    #[arg(long)]
    pub wait: bool,
    /// With --wait: give up after this time
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: String,
    /// Let the hub judge, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Get {
    /// Kind, or kind/name
    pub kind: String,
    pub name: Option<String>,
    /// Only objects with these labels: a=b,c!=d,e,!f
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

#[derive(Clone, Debug, Args)]
pub struct One {
    /// Kind, or kind/name
    pub kind: String,
    pub name: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Kind, or kind/name
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    pub kind: Option<String>,
    pub name: Option<String>,
    /// Remove what these manifests describe
    #[arg(short, long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// It is fine if there is no such object
    #[arg(long)]
    pub ignore_not_found: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Workload: NAME or workload/NAME
    pub workload: String,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this device
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Lines from the end
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: usize,
}

#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Go on with new events until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this object: kind/name, or a name
    #[arg(long, value_name = "OBJECT")]
    pub object: Option<String>,
    /// Events from the end
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: usize,
}

#[derive(Debug, Subcommand)]
pub enum Explain {
    /// Say why a workload is where it is, or why it is not on a device
    Placement {
        /// Workload: NAME or workload/NAME
        workload: String,
        /// Only about this device
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Device {
    /// Make a token with which one device can join
    JoinToken {
        /// The token is void after this time
        #[arg(long, value_name = "TIME", default_value = "1h")]
        expires: String,
        /// The device is approved as soon as it has joined
        #[arg(long)]
        approve: bool,
        /// Label of the device; may be repeated
        #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// Let a device that has joined take work
    Approve { name: String },
    /// Give a device no more work; what it has stays
    Cordon { name: String },
    /// Give a device work again
    Uncordon { name: String },
    /// Take its work off a device and give it nothing new
    Drain { name: String },
    /// Let a drained device take work again
    Undrain { name: String },
}

#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub state: Awaited,
    /// Workload: NAME or workload/NAME
    pub workload: String,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Awaited {
    Running,
    Deleted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
