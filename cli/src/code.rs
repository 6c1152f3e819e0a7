//! The codes of failures that this program finds by itself, in one table: exit code, what it means, what to do next.
//!
//! A failure is made from a code, so that none exists without its row; docs/reference/errors.md is written from here. The
//! hub's codes are in its own table, and the two share no word.

use crate::exit::Exit;

/// What this program can say, beside what the hub says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Address,
    Artifact,
    Board,
    BoardRuns,
    Broker,
    Build,
    Ca,
    Changes,
    Config,
    Data,
    DirectoryExists,
    DoesNotFit,
    Editor,
    Empty,
    Emulator,
    Endpoints,
    File,
    Flash,
    Fleet,
    Function,
    HubEnded,
    Image,
    JoinFailed,
    Loopback,
    Manifest,
    MemberGone,
    NameTaken,
    NeedsPlain,
    NeedsTls,
    NoAgent,
    NoBoard,
    NoCompiler,
    NoContext,
    NoDemo,
    NoFault,
    NoFleet,
    NoFunction,
    NoHub,
    NoRelay,
    NoSimulated,
    NoTool,
    NoWorkload,
    NotAHub,
    NotStarted,
    NotTls,
    Output,
    Pipe,
    Readonly,
    RolloutHalted,
    Running,
    Script,
    Short,
    Sick,
    StillRunning,
    Stopped,
    StreamLost,
    System,
    TimedOut,
    Tls,
    Tokens,
    TooMany,
    TooManyFaults,
    Unreachable,
    Untrusted,
    Usage,
    WorkloadFailed,
}

/// All that is the same for every failure with one code.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub text: &'static str,
    pub exit: Exit,
    /// One sentence.
    pub meaning: &'static str,
    /// What to do, where the failure itself has nothing better to say.
    pub next: &'static str,
}

impl Row {
    /// Where the documentation has it.
    pub fn docs(&self) -> String {
        format!("docs/reference/errors.md#{}", self.text.to_ascii_lowercase())
    }
}

const fn row(text: &'static str, exit: Exit, meaning: &'static str, next: &'static str) -> Row {
    Row { text, exit, meaning, next }
}

impl Code {
    /// By name.
    pub const ALL: [Self; 66] = [
        Self::Address,
        Self::Artifact,
        Self::Board,
        Self::BoardRuns,
        Self::Broker,
        Self::Build,
        Self::Ca,
        Self::Changes,
        Self::Config,
        Self::Data,
        Self::DirectoryExists,
        Self::DoesNotFit,
        Self::Editor,
        Self::Empty,
        Self::Emulator,
        Self::Endpoints,
        Self::File,
        Self::Flash,
        Self::Fleet,
        Self::Function,
        Self::HubEnded,
        Self::Image,
        Self::JoinFailed,
        Self::Loopback,
        Self::Manifest,
        Self::MemberGone,
        Self::NameTaken,
        Self::NeedsPlain,
        Self::NeedsTls,
        Self::NoAgent,
        Self::NoBoard,
        Self::NoCompiler,
        Self::NoContext,
        Self::NoDemo,
        Self::NoFault,
        Self::NoFleet,
        Self::NoFunction,
        Self::NoHub,
        Self::NoRelay,
        Self::NoSimulated,
        Self::NoTool,
        Self::NoWorkload,
        Self::NotAHub,
        Self::NotStarted,
        Self::NotTls,
        Self::Output,
        Self::Pipe,
        Self::Readonly,
        Self::RolloutHalted,
        Self::Running,
        Self::Script,
        Self::Short,
        Self::Sick,
        Self::StillRunning,
        Self::Stopped,
        Self::StreamLost,
        Self::System,
        Self::TimedOut,
        Self::Tls,
        Self::Tokens,
        Self::TooMany,
        Self::TooManyFaults,
        Self::Unreachable,
        Self::Untrusted,
        Self::Usage,
        Self::WorkloadFailed,
    ];

    /// The table: one arm per code, so that it is longer than a screen.
    pub const fn row(self) -> Row {
        match self {
            Self::Address => row(
                "ADDRESS",
                Exit::Failure,
                "The hub could not listen at an address, most often because another program does.",
                "take free ones: --api 127.0.0.1:0 --broker 127.0.0.1:0",
            ),
            Self::Artifact => row(
                "ARTIFACT",
                Exit::Usage,
                "A file that a manifest names with `file:` cannot be read.",
                "build it, or correct the path; it is relative to the manifest",
            ),
            Self::Board => row(
                "BOARD",
                Exit::Failure,
                "A board's table or its directory contradicts itself, or does not fit what is asked.",
                "correct what `why` names; docs/howto/port-a-board.md has every field of a table",
            ),
            Self::BoardRuns => {
                row("BOARD_RUNS", Exit::Conflict, "The emulated board has power already.", "fulmar boards stop NAME")
            }
            Self::Broker => row(
                "BROKER",
                Exit::Failure,
                "The broker that --broker names cannot be reached, or cannot be used.",
                "docs/howto/external-broker.md",
            ),
            Self::Build => row(
                "BUILD",
                Exit::Failure,
                "The compiler did not build the function.",
                "correct what the compiler says, which stands above",
            ),
            Self::Ca => row(
                "CA",
                Exit::Failure,
                "The authority that vouches for the hub cannot be read.",
                "copy run/ca.pem from the data directory of the hub, and name it with --ca FILE",
            ),
            Self::Changes => row(
                "CHANGES",
                Exit::Changes,
                "There are differences; said only with --exit-code.",
                "fulmar apply makes them",
            ),
            Self::Config => row(
                "CONFIG",
                Exit::Failure,
                "The file with the contexts cannot be read or written.",
                "correct or remove the file; fulmar login writes a new one",
            ),
            Self::Data => row(
                "DATA",
                Exit::Failure,
                "The hub cannot work with its data directory.",
                "look at what `why` names: rights, space, or a directory of another version",
            ),
            Self::DirectoryExists => row(
                "DIRECTORY_EXISTS",
                Exit::Conflict,
                "A new function would be written into a directory that is there already.",
                "take another name",
            ),
            Self::DoesNotFit => row(
                "DOES_NOT_FIT",
                Exit::Failure,
                "A function takes more than its target has.",
                "make what `why` names smaller, or name another target",
            ),
            Self::Editor => row(
                "EDITOR",
                Exit::Failure,
                "The editor could not be started, or ended with a failure.",
                "set VISUAL or EDITOR to a program that is there",
            ),
            Self::Empty => {
                row("EMPTY", Exit::Usage, "There is no document in the given files.", "name a file with a manifest")
            }
            Self::Emulator => row(
                "EMULATOR",
                Exit::Failure,
                "The emulator of a board ended, or did not end.",
                "look at its words in `why`, and at board.log in its directory",
            ),
            Self::Endpoints => row(
                "ENDPOINTS",
                Exit::Failure,
                "The file in which a running hub says where it is cannot be read.",
                "run it as the user who started the hub, or name the hub with --server",
            ),
            Self::File => row(
                "FILE",
                Exit::Usage,
                "A file that was named cannot be read, or holds something else.",
                "correct the path",
            ),
            Self::Flash => row(
                "FLASH",
                Exit::Failure,
                "A board was not written.",
                "look at the words of the tool that writes it, which stand above",
            ),
            Self::Fleet => row(
                "FLEET",
                Exit::Failure,
                "The program of the simulated devices did not do its work.",
                "build or install all programs of one version together",
            ),
            Self::Function => row(
                "FUNCTION",
                Exit::Usage,
                "The file that describes a function is not valid.",
                "correct what `why` names",
            ),
            Self::HubEnded => row(
                "HUB_ENDED",
                Exit::Failure,
                "The hub that runs here has ended by itself.",
                "FULMAR_LOG=info fulmar up says more",
            ),
            Self::Image => row(
                "IMAGE",
                Exit::Usage,
                "The firmware is none for this board.",
                "build it for this board: scripts/firmware BOARD",
            ),
            Self::JoinFailed => row(
                "JOIN_FAILED",
                Exit::Failure,
                "This machine could not join its hub as a device.",
                "look at what `why` says, or start without: fulmar up --no-agent",
            ),
            Self::Loopback => row(
                "LOOPBACK",
                Exit::Usage,
                "The broker listens to this machine alone, and a board is another one.",
                "start the hub with --broker 0.0.0.0:1883 --san NAME",
            ),
            Self::Manifest => row(
                "MANIFEST",
                Exit::Usage,
                "A manifest is not one: it is not YAML, or does not say which object it describes.",
                "correct the lines that are shown",
            ),
            Self::MemberGone => row(
                "MEMBER_GONE",
                Exit::Failure,
                "This machine was a device of this hub, and somebody has deleted it.",
                "remove its directory and let it join again, or start without: fulmar up --no-agent",
            ),
            Self::NameTaken => row(
                "NAME_TAKEN",
                Exit::Failure,
                "Too many devices are named like this machine.",
                "delete those that are gone: fulmar get devices",
            ),
            Self::NeedsPlain => row(
                "NEEDS_PLAIN",
                Exit::Usage,
                "The broker speaks TLS and the board does not.",
                "give the board a listener without TLS: --broker mqtt://HOST:PORT",
            ),
            Self::NeedsTls => row(
                "NEEDS_TLS",
                Exit::Failure,
                "The hub speaks TLS only, and was asked without.",
                "write https:// in the address",
            ),
            Self::NoAgent => row(
                "NO_AGENT",
                Exit::Failure,
                "The agent's program is not beside this one.",
                "name it with --agent PATH, or start without: fulmar up --no-agent",
            ),
            Self::NoBoard => row(
                "NO_BOARD",
                Exit::NotFound,
                "There is no board of that name.",
                "fulmar boards, or fulmar boards emulated",
            ),
            Self::NoCompiler => row(
                "NO_COMPILER",
                Exit::Failure,
                "No compiler for the function's language is here.",
                "install one of those that are named",
            ),
            Self::NoContext => {
                row("NO_CONTEXT", Exit::NotFound, "There is no context of this name.", "fulmar ctx list")
            }
            Self::NoDemo => row(
                "NO_DEMO",
                Exit::Failure,
                "`chaos` found no simulated devices: it plays faults to those of `fulmar up --demo` alone.",
                "fulmar up --demo",
            ),
            Self::NoFault => {
                row("NO_FAULT", Exit::NotFound, "No fault of this number is going on.", "fulmar chaos list")
            }
            Self::NoFleet => row(
                "NO_FLEET",
                Exit::Failure,
                "The program of the simulated devices is not beside this one.",
                "build or install all programs of one version together",
            ),
            Self::NoFunction => row(
                "NO_FUNCTION",
                Exit::Usage,
                "The directory is not that of a function.",
                "fulmar fn new NAME begins one",
            ),
            Self::NoHub => row(
                "NO_HUB",
                Exit::Failure,
                "Nothing says which hub is meant, and none runs here.",
                "fulmar up starts one; --server, --context or fulmar login name another",
            ),
            Self::NoRelay => row(
                "NO_RELAY",
                Exit::Conflict,
                "The links of the simulated devices cannot be touched, because their broker's certificate is not for this machine.",
                "start the demonstration without --tls-cert, or play another fault",
            ),
            Self::NoSimulated => row(
                "NO_SIMULATED",
                Exit::NotFound,
                "No simulated device is meant by what was asked for.",
                "fulmar get devices -l simulated=true",
            ),
            Self::NoTool => row(
                "NO_TOOL",
                Exit::Failure,
                "A program that writes or emulates the board is not installed.",
                "install what `why` names",
            ),
            Self::NoWorkload => row(
                "NO_WORKLOAD",
                Exit::Usage,
                "The workload.yaml of a function does not run its module.",
                "write artifact: file:NAME.wasm there, or play the module alone: fulmar fn invoke NAME.wasm",
            ),
            Self::NotAHub => row(
                "NOT_A_HUB",
                Exit::Failure,
                "What answers at the address is no hub.",
                "check --server, FULMAR_SERVER or --data",
            ),
            Self::NotStarted => row(
                "NOT_STARTED",
                Exit::Failure,
                "The hub in the background ended before it was ready; the exit code is its own.",
                "read what it said, which is shown",
            ),
            Self::NotTls => row(
                "NOT_TLS",
                Exit::Failure,
                "What listens at the address does not speak TLS.",
                "check the address; a hub on loopback speaks http:// unless told otherwise",
            ),
            Self::Output => {
                row("OUTPUT", Exit::Failure, "The answer cannot be written in this form.", "take another form: -o json")
            }
            Self::Pipe => {
                row("PIPE", Exit::Ok, "Nobody reads standard output any more; nothing is said about it.", "nothing")
            }
            Self::Readonly => row(
                "READONLY",
                Exit::Denied,
                "The command would change something, and --readonly, FULMAR_READONLY or the context forbids that.",
                "leave it out, or take another context: fulmar ctx list",
            ),
            Self::RolloutHalted => row(
                "ROLLOUT_HALTED",
                Exit::Failed,
                "More devices than --max-failures did not keep the firmware; nobody else gets it, and they run what they ran before.",
                "fulmar firmware status NAME, then push an image that works, with a higher version",
            ),
            Self::Running => row(
                "RUNNING",
                Exit::Failure,
                "A hub runs on this data directory already.",
                "use it: fulmar status; or start another one with --data DIR and other addresses",
            ),
            Self::Script => row(
                "SCRIPT",
                Exit::Usage,
                "The inputs that a function was to be given are not valid, or too many.",
                "docs/functions.md has the lines of a script",
            ),
            Self::Short => row(
                "SHORT",
                Exit::Short,
                "Replicas are missing, because no device can take them.",
                "fulmar explain placement WORKLOAD says why, per device",
            ),
            Self::Sick => {
                row("SICK", Exit::Failure, "Checks of `fulmar doctor` failed.", "do what stands beside each of them")
            }
            Self::StillRunning => row(
                "STILL_RUNNING",
                Exit::TimedOut,
                "The hub was asked to end, and has not yet.",
                "fulmar down asks again",
            ),
            Self::Stopped => row(
                "STOPPED",
                Exit::Ok,
                "It was asked to stop before everything ran; nothing is said about it.",
                "nothing",
            ),
            Self::StreamLost => {
                row("STREAM_LOST", Exit::Failure, "The hub went away while its lines were followed.", "fulmar status")
            }
            Self::System => row(
                "SYSTEM",
                Exit::Failure,
                "The operating system refused something: a file, a process, a pipe.",
                "look at what `why` names",
            ),
            Self::TimedOut => row(
                "TIMED_OUT",
                Exit::TimedOut,
                "What was waited for has not come in time; it may still come.",
                "wait longer with --timeout, or look at it: fulmar describe KIND NAME",
            ),
            Self::Tls => row(
                "TLS",
                Exit::Failure,
                "The hub's certificate, key or authority cannot be used.",
                "docs/howto/own-ca.md",
            ),
            Self::Tokens => row(
                "TOKENS",
                Exit::Failure,
                "Join tokens for the simulated devices could not be made.",
                "fulmar status",
            ),
            Self::TooMany => row(
                "TOO_MANY",
                Exit::Failure,
                "There is more than can be listed at once.",
                "select fewer with -l or --field-selector, or --limit 500",
            ),
            Self::TooManyFaults => row(
                "TOO_MANY_FAULTS",
                Exit::Conflict,
                "As many faults as are possible are going on.",
                "fulmar chaos stop",
            ),
            Self::Unreachable => row(
                "UNREACHABLE",
                Exit::Failure,
                "The hub does not answer at its address.",
                "fulmar doctor finds out where it ends; fulmar up starts a hub here",
            ),
            Self::Untrusted => row(
                "UNTRUSTED",
                Exit::Failure,
                "The hub's certificate is not one of an authority that is trusted here, or is for another name.",
                "name its authority with --ca FILE; the hub has it in run/ca.pem",
            ),
            Self::Usage => row(
                "USAGE",
                Exit::Usage,
                "The command line does not go together.",
                "--help of the command says what it takes",
            ),
            Self::WorkloadFailed => row(
                "WORKLOAD_FAILED",
                Exit::Failed,
                "The workload failed on a device, or a device refused it.",
                "fulmar describe workload NAME, and fulmar logs NAME",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub::problem_code::ProblemCode;

    #[test]
    fn every_code_is_listed_once_by_name_and_has_words() {
        let names = Code::ALL.map(|code| format!("{code:?}"));
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        assert_eq!(Code::ALL.len(), Code::WorkloadFailed as usize + 1);
        for code in Code::ALL {
            let Row { text, meaning, next, .. } = code.row();
            assert!(meaning.ends_with('.') && !next.is_empty(), "{text}");
            assert_eq!(format!("{code:?}").to_ascii_uppercase(), text.replace('_', ""));
        }
    }

    #[test]
    fn no_code_is_one_of_the_hub_too() {
        for code in Code::ALL {
            assert!(ProblemCode::ALL.iter().all(|hub| hub.as_str() != code.row().text), "{}", code.row().text);
        }
    }
}
