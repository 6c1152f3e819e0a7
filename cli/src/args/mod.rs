//! The command line as types. What a verb does is in the file of its name; nothing here may do anything.

mod global;
mod up;

pub use global::{Global, Output};
pub use up::Up;

use crate::complete;
use crate::jsonpath::Order;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
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

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a hub and one device on this machine, until Ctrl-C
    Up(Up),
    /// End what `up --detach` has started
    Down,
    /// Start a hub alone, until Ctrl-C; or keep, restore and settle one
    Hub(HubCommand),
    /// Show what applying manifests would change in objects and placements, and keep that
    Plan(Plan),
    /// Create or change what manifests describe, or carry out a plan that was kept
    Apply(Apply),
    /// Show what `apply` would change, field by field
    Diff(Diff),
    /// Change one object in the editor of $VISUAL or $EDITOR
    Edit(One),
    /// List objects, show some of them, or watch them
    Get(Get),
    /// Show one object with everything around it
    Describe(One),
    /// Remove objects
    Delete(Delete),
    /// Show the lines of a workload
    Logs(Logs),
    /// Show what functions of a device raised, reported and measured
    Samples(Samples),
    /// Show what happened
    Events(Events),
    /// Say why a workload is where it is or would be, what a field means, or what an error code means
    Explain(Explain),
    /// Let devices in, and decide about them
    #[command(subcommand, alias = "devices")]
    Device(Device),
    /// Write functions: begin, build, check and upload them
    #[command(subcommand, name = "fn", visible_alias = "function")]
    Function(crate::function::Function),
    /// List the boards that can be flashed; or see to the emulated ones
    Boards(crate::flash::Boards),
    /// Write firmware and a join token to a board, and wait until the hub has seen it
    Flash(Box<crate::flash::Flash>),
    /// Show what a board says
    Monitor(crate::flash::Monitor),
    /// Bring other firmware to boards over the air, in waves
    #[command(subcommand)]
    Firmware(crate::firmware::Firmware),
    /// Show what waits for devices that are away, and take it back
    Queue(Queue),
    /// Wait until a workload runs, a device is online, or an object is gone
    Wait(Wait),
    /// Show devices and regions on a map, by state
    Map(Map),
    /// Show what devices have free, and what they carry
    Top(Top),
    /// Show what is free and used, by class, region or site
    Capacity(Capacity),
    /// Let simulated devices of `up --demo` lose their network, power, disk or time for a while
    #[command(subcommand)]
    Chaos(crate::chaos::Chaos),
    /// Check this program's way to the hub, the hub and its devices, and say what to do
    Doctor,
    /// Keep hubs by name, and choose one
    #[command(visible_alias = "context")]
    Ctx {
        #[command(subcommand)]
        verb: Option<Ctx>,
    },
    /// Keep a hub with its token as a context, and use it from now on
    Login(Login),
    /// Show who you are for the hub
    Whoami {
        /// Ask whether you may: a verb and a kind
        #[arg(long, num_args = 2, value_names = ["VERB", "KIND"])]
        can: Option<Vec<String>>,
    },
    /// Make and remove bearer tokens
    #[command(subcommand, alias = "tokens")]
    Token(Token),
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
#[command(args_conflicts_with_subcommands = true)]
pub struct HubCommand {
    #[command(flatten)]
    pub start: Hub,
    #[command(subcommand)]
    pub verb: Option<HubVerb>,
}

/// What a hub is told, or what becomes of its files.
#[derive(Clone, Debug, Subcommand)]
pub enum HubVerb {
    /// Write the database of the hub on this machine into one file, also while it runs; keys are never in it
    Backup {
        /// The file; it must not be there yet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Without artifacts: smaller, and devices that lack one cannot fetch it from a hub restored elsewhere
        #[arg(long)]
        no_artifacts: bool,
    },
    /// Put a backup in place of the database in --data, whose hub must not run; what was there is kept aside
    Restore {
        /// The file that `fulmar hub backup` has written
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// After a restore: let devices keep what they hold and the hub has forgotten
    Hold {
        /// These devices, whatever is decided for the others; otherwise all, until it is decided again
        #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(complete::devices))]
        devices: Vec<String>,
    },
    /// After a restore: give devices this hub's sets, in place of what it has forgotten
    Apply {
        /// These devices; otherwise all, also those that are still to come
        #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(complete::devices))]
        devices: Vec<String>,
    },
    /// With a second hub on a copy of the database: go on here, when that one is ended or is to stay silent
    Takeover {
        /// Yes, this hub is the one
        #[arg(long, required = true)]
        confirm: bool,
    },
    /// Say that devices which vanished together are really lost: their work is moved as each workload says
    ConfirmLoss,
}

impl HubVerb {
    /// Verbs that are about files of this machine.
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Backup { .. } | Self::Restore { .. })
    }
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Queue {
    /// Only for this device
    #[arg(long, value_name = "DEVICE", add = ArgValueCompleter::new(complete::devices))]
    pub on: Option<String>,
    #[command(subcommand)]
    pub verb: Option<QueueVerb>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum QueueVerb {
    /// Take an addition back: the device does not get this workload until that changes
    Cancel {
        /// As `fulmar queue` shows it: DEVICE:NAMESPACE/WORKLOAD
        id: String,
    },
    /// Give the workload to the device after all
    Restore {
        /// As it was cancelled: DEVICE:NAMESPACE/WORKLOAD
        id: String,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Hub {
    /// Address of the API; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    pub api: String,
    /// Address of the MQTT broker, port 0 takes a free one; or the URL of a broker elsewhere: mqtt(s)://HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1883")]
    pub broker: String,
    /// With a broker elsewhere: an administrator of its dynamic-security plugin
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub broker_user: String,
    /// With a broker elsewhere: the file with that user's password
    #[arg(long, value_name = "FILE")]
    pub broker_password_file: Option<PathBuf>,
    /// With mqtts://: PEM file of the authority that vouches for the broker
    #[arg(long, value_name = "FILE")]
    pub broker_ca: Option<PathBuf>,
    /// With a broker elsewhere: the URL under which devices reach it, if it is another
    #[arg(long, value_name = "URL")]
    pub broker_public: Option<String>,
    /// Which of both speak TLS 1.3
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub tls: Encryption,
    /// Name or address under which the hub is reached; may be repeated, and the first is what devices are told
    #[arg(long = "san", value_name = "NAME")]
    pub names: Vec<String>,
    /// PEM file of the hub's own certificate, with those between it and its authority; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_ca")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// PEM file of its authority, which devices trust from their join on
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,
}

/// Which listeners are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    /// Those that other machines can reach
    Auto,
    /// Both
    Always,
    /// None: everybody on the way can read tokens and use them
    Off,
}

/// Where manifests are.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// Manifest, directory of manifests, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// With a directory: those below it too
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

impl Files {
    /// One file.
    pub fn of(path: &std::path::Path) -> Self {
        Self { files: vec![path.to_owned()], recursive: false }
    }
}

/// Who applies.
#[derive(Clone, Debug, Args)]
pub struct Owner {
    /// Who owns the fields of these manifests
    #[arg(long, value_name = "NAME", default_value = "fulmar")]
    pub field_manager: String,
    /// Take fields over that other managers own with other values
    #[arg(long)]
    pub force_conflicts: bool,
}

#[derive(Clone, Debug, Args)]
#[command(mut_arg("files", |argument| argument.required(true)))]
pub struct Plan {
    #[command(flatten)]
    pub source: Files,
    #[command(flatten)]
    pub owner: Owner,
    /// Keep the plan in this file, for `fulmar apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with exit code 3 if there are changes
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Clone, Debug, Args)]
#[command(mut_arg("files", |argument| argument.required_unless_present("plan")))]
pub struct Apply {
    /// Plan of `fulmar plan --out`: carried out exactly, or refused with exit code 6 if something has moved
    #[arg(value_name = "PLAN", conflicts_with_all = ["files", "field_manager", "force_conflicts", "dry_run"])]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub source: Files,
    #[command(flatten)]
    pub owner: Owner,
    /// Wait until the workloads run, for 60s or --timeout
    #[arg(long)]
    pub wait: bool,
    /// Change nothing: `server` lets the hub judge, `client` asks no hub at all
    #[arg(long, conflicts_with = "wait", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    pub dry_run: Option<DryRun>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    Server,
    Client,
}

#[derive(Clone, Debug, Args)]
#[command(mut_arg("files", |argument| argument.required(true)))]
pub struct Diff {
    #[command(flatten)]
    pub source: Files,
    #[command(flatten)]
    pub owner: Owner,
    /// End with exit code 3 if there are differences
    #[arg(long)]
    pub exit_code: bool,
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// Only objects with these labels: a=b,c!=d,e,!f,g in (x,y)
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields: status.online.state=Online,spec.cordoned!=true
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// Only what is certainly inside this region; of devices and placements
    #[arg(long, value_name = "REGION", add = ArgValueCompleter::new(complete::regions))]
    pub within: Option<String>,
    /// Only what is at most so far from a point; of devices and placements
    #[arg(long, value_name = "LON,LAT,KM", allow_hyphen_values = true)]
    pub near: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Get {
    /// Kind, kinds with commas, kind/name, `events`, or `all`
    #[arg(value_name = "KIND", add = ArgValueCompleter::new(complete::objects))]
    pub kind: String,
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::objects))]
    pub names: Vec<String>,
    #[command(flatten)]
    pub selection: Selection,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Show what is there, then every change, until Ctrl-C or --timeout
    #[arg(short, long)]
    pub watch: bool,
    /// Order by a field, with - in front the other way round: .metadata.name, -.status.running
    #[arg(long, value_name = "PATH", value_parser = Order::parse, allow_hyphen_values = true)]
    pub sort_by: Option<Order>,
    /// At most so many objects
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Go on behind an earlier --limit, with the words that it printed
    #[arg(long = "continue", value_name = "PLACE", requires = "limit")]
    pub after: Option<String>,
    /// No line of headings
    #[arg(long)]
    pub no_headers: bool,
    /// Show which field managers own which fields
    #[arg(long)]
    pub show_managed_fields: bool,
}

impl Get {
    /// All of a kind.
    pub fn of(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            names: Vec::new(),
            selection: Selection::default(),
            all_namespaces: false,
            watch: false,
            sort_by: None,
            limit: None,
            after: None,
            no_headers: false,
            show_managed_fields: false,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct One {
    /// Kind, or kind/name
    #[arg(add = ArgValueCompleter::new(complete::objects))]
    pub kind: String,
    #[arg(add = ArgValueCompleter::new(complete::objects))]
    pub name: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Kind, or kind/name
    #[arg(required_unless_present = "files", conflicts_with = "files", add = ArgValueCompleter::new(complete::objects))]
    pub kind: Option<String>,
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::objects))]
    pub names: Vec<String>,
    /// All with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with_all = ["files", "names"])]
    pub selector: Option<String>,
    /// Remove what manifests describe
    #[command(flatten)]
    pub source: Files,
    /// It is fine if there is no such object
    #[arg(long)]
    pub ignore_not_found: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Workload: NAME or workload/NAME
    #[arg(add = ArgValueCompleter::new(complete::workloads))]
    pub workload: String,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this device
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::devices))]
    pub device: Option<String>,
    /// Lines from the end
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: usize,
}

#[derive(Clone, Debug, Args)]
pub struct Samples {
    /// Device: NAME or device/NAME
    #[arg(add = ArgValueCompleter::new(complete::devices))]
    pub device: String,
    /// Go on with new ones until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this key
    #[arg(long, value_name = "KEY", conflicts_with = "follow")]
    pub key: Option<String>,
    /// Samples from the end
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

#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// `placement`, `error`, or a kind with a field: workload.spec.placement
    pub topic: String,
    /// With `placement`: the workload, NAME or workload/NAME; with `error`: the code
    #[arg(value_name = "WORKLOAD|CODE", add = ArgValueCompleter::new(complete::workloads))]
    pub object: Option<String>,
    /// With `placement`: only about this device
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::devices))]
    pub device: Option<String>,
    /// With `placement`: as if the workload asked to be near this point, in place of its own
    #[arg(long, value_name = "LON,LAT[,KM]", allow_hyphen_values = true)]
    pub near: Option<String>,
    /// With `placement`: as if this were so; may be repeated. device/NAME.FIELD=VALUE, or a manifest of the workload
    ///
    /// Fields of a device: free.memory, free.slots, labels.KEY, taints, cordoned, draining, approved, position, uncertaintyM, class,
    /// site. A value of `null` takes a label, position or site away; taints are KEY=VALUE:EFFECT with commas, or none.
    /// A manifest (a file, or - for standard input) stands for the workload as if it were applied. Nothing is changed; only
    /// modules that the manifest names are sent, as by `plan`.
    #[arg(long, value_name = "WHAT")]
    pub what_if: Vec<String>,
}

impl Explain {
    /// True if an option says that it must be.
    pub fn is_about_placement(&self) -> bool {
        self.device.is_some() || self.near.is_some() || !self.what_if.is_empty()
    }
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
    Approve {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Give a device no more work; what it has stays
    Cordon {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Give a device work again
    Uncordon {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Take its work off a device and give it nothing new
    Drain {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Let a drained device take work again
    Undrain {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Let a device out of quarantine, for another try
    Release {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Send a device away that waits for approval; its key is refused from now on
    Reject {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// List the keys that may not join any more
    Rejected,
    /// Let a rejected key join again
    Allow {
        /// The key's id, or the name that its device had
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Show the last word of a device, and how old it is
    Snapshot {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
    },
    /// Say where a device is, or with --reset let it say so itself again
    Relocate(Relocate),
    /// Take its work off a device, then remove it; it does not come back with its key
    Decommission {
        #[arg(add = ArgValueCompleter::new(complete::devices))]
        name: String,
        /// Remove it at once: it is lost, and what runs on it is not waited for
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Relocate {
    #[arg(add = ArgValueCompleter::new(complete::devices))]
    pub name: String,
    /// Longitude, then latitude, in degrees
    #[arg(long, value_name = "LON,LAT", allow_hyphen_values = true, required_unless_present = "reset")]
    pub at: Option<String>,
    /// How far from there it may be
    #[arg(long, value_name = "METRES", requires = "at")]
    pub uncertainty: Option<u32>,
    /// What the device reports counts again
    #[arg(long, conflicts_with = "at")]
    pub reset: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Map {
    #[command(flatten)]
    pub selection: Selection,
    /// Follow the changes: on a terminal in place, with keys
    #[arg(short, long)]
    pub watch: bool,
    /// The whole world, not just the part with devices
    #[arg(long)]
    pub world: bool,
    /// Columns; otherwise those of the terminal, or 100
    #[arg(long, value_name = "N")]
    pub width: Option<u16>,
    /// Rows; otherwise those of the terminal, or 28
    #[arg(long, value_name = "N")]
    pub height: Option<u16>,
}

#[derive(Clone, Debug, Args)]
pub struct Top {
    #[command(flatten)]
    pub selection: Selection,
    /// What comes first
    #[arg(long, value_enum, default_value = "memory")]
    pub by: TopBy,
    /// So many devices
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// No line of headings
    #[arg(long)]
    pub no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopBy {
    /// The part of the memory that is used
    Memory,
    /// The part of the storage that is used
    Storage,
    /// The number of workloads
    Workloads,
    /// The number of restarts
    Restarts,
}

#[derive(Clone, Debug, Args)]
pub struct Capacity {
    #[command(flatten)]
    pub selection: Selection,
    /// What is summed up
    #[arg(long, value_enum, default_value = "class")]
    pub by: CapacityBy,
    /// No line of headings
    #[arg(long)]
    pub no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CapacityBy {
    Class,
    /// A device counts in every region that it is certainly in
    Region,
    Site,
    Device,
}

#[derive(Debug, Subcommand)]
pub enum Ctx {
    /// Show all contexts
    #[command(visible_alias = "ls")]
    List,
    /// Use a context from now on; `local` is the hub on this machine
    Use {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
    /// Keep a hub: with --server or --data, and -n and --readonly if wanted
    Add(CtxAdd),
    /// Forget a context
    #[command(visible_alias = "rm")]
    Remove {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
    /// Show one context, without its token
    Show { name: Option<String> },
}

#[derive(Clone, Debug, Args)]
pub struct CtxAdd {
    pub name: String,
    /// File with the token; - for standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Use it from now on
    #[arg(long)]
    pub r#use: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Login {
    /// Address of the hub
    #[arg(value_name = "URL")]
    pub server: String,
    /// Name of the context; otherwise the host of the address
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// File with the token; otherwise it is read from standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token, and show it this once
    Create {
        name: String,
        /// What it is good for
        #[arg(long, value_enum, default_value = "viewer")]
        role: TokenRole,
        /// It is void after this time; otherwise it is good until it is deleted
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Show all tokens, without their secrets
    #[command(visible_alias = "ls")]
    List,
    /// Remove a token: it is void at once
    #[command(visible_alias = "rm")]
    Delete { name: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    Admin,
    Viewer,
}

impl TokenRole {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub state: Awaited,
    /// kind/name, or a kind and a name; a name alone is a workload
    #[arg(value_name = "OBJECT", add = ArgValueCompleter::new(complete::objects))]
    pub object: String,
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::objects))]
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Awaited {
    /// A workload: all replicas run and stay healthy for two seconds
    Running,
    /// A device: the hub hears from it
    Online,
    /// Any object: it is not there any more
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
