//! The kinds of trouble, and how often each came: a run without a kind of trouble has shown nothing about it.

/// Everything that can go wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fault {
    /// A device's connection is reset.
    LinkCut,
    /// Nothing passes between a device and the broker for a while.
    LinkStall,
    /// Only what the device sends is held up.
    LinkUpLost,
    /// Only what the device receives is held up.
    LinkDownLost,
    /// Seconds of latency.
    LinkSlow,
    /// Topics overtake each other.
    LinkChaos,
    /// QoS 1 messages come twice.
    LinkTwice,
    /// The broker has forgotten a connection that the device still believes in.
    LinkHalfOpen,
    /// A link is up for seconds and down for seconds.
    LinkFlaps,
    /// Some links are cut one by one and come back in another order.
    SwizzleClog,
    /// The broker starts again and remembers retained messages.
    BrokerRestart,
    /// The broker starts again with nothing.
    BrokerForgets,
    /// The broker starts again with retained messages of some time ago.
    BrokerOldCopy,
    /// The hub's own connection is reset.
    HubLinkCut,
    /// Nothing passes between hub and broker for a while.
    HubLinkStall,
    /// Seconds of latency between hub and broker.
    HubLinkSlow,
    /// The hub ends at once, with or without what was being written.
    HubCrash,
    /// The hub ends before or after a commit, or before it knows of it.
    HubKilledAtCommit,
    /// The hub ends before or after something that it publishes.
    HubKilledAtPublish,
    /// The hub ends before or after an answer to its operator.
    HubKilledAtAnswer,
    /// The hub ends, and goes on with a backup of hours or days ago.
    OldBackup,
    /// A second hub runs for minutes on a copy of the database, at the same broker.
    SecondHub,
    /// The hub's process stands still for a while.
    HubPause,
    /// The hub's time of day is another one.
    HubClockJump,
    /// The hub's disk takes seconds.
    CommitSlow,
    /// The hub's disk takes nothing.
    DiskFull,
    /// The agent's process dies.
    AgentCrash,
    /// The agent's process dies again and again, soon after it began.
    AgentCrashLoop,
    /// A device is reset, by one cause or another.
    Reset,
    /// A device loses power.
    PowerCut,
    /// A device loses power while it writes its journal.
    PowerCutInWrite,
    /// A device's process stands still for a while.
    DevicePause,
    /// A device's clock runs wrong by up to a fifth.
    ClockDrift,
    /// A bit of the journal changes.
    FlashRot,
    /// The journal takes nothing for a while.
    FlashFull,
    /// No artifact comes.
    FetchFails,
    /// What comes is not what was asked for.
    FetchWrong,
    /// An artifact is gone from the device's store.
    StoreLoss,
    /// Components do not start.
    StartFails,
    /// Components of a device trap while they run.
    Trap,
    /// Components of an artifact trap soon after each start, wherever they are.
    CrashLoop,
    /// Starts and activations are never answered.
    Hang,
    /// Hundreds of log lines at once.
    LogStorm,
    /// An old desired message is delivered again.
    Replay,
    /// An old Fresh, grant, command or input is delivered again.
    ReplayLive,
    /// A second hub with the same key says something else under the same revision.
    Equivocation,
    /// A set that somebody else signed.
    Forgery,
    /// A device moves.
    Moves,
}

pub const FAULTS: usize = 48;

impl Fault {
    pub const ALL: [Self; FAULTS] = [
        Self::LinkCut,
        Self::LinkStall,
        Self::LinkUpLost,
        Self::LinkDownLost,
        Self::LinkSlow,
        Self::LinkChaos,
        Self::LinkTwice,
        Self::LinkHalfOpen,
        Self::LinkFlaps,
        Self::SwizzleClog,
        Self::BrokerRestart,
        Self::BrokerForgets,
        Self::BrokerOldCopy,
        Self::HubLinkCut,
        Self::HubLinkStall,
        Self::HubLinkSlow,
        Self::HubCrash,
        Self::HubKilledAtCommit,
        Self::HubKilledAtPublish,
        Self::HubKilledAtAnswer,
        Self::OldBackup,
        Self::SecondHub,
        Self::HubPause,
        Self::HubClockJump,
        Self::CommitSlow,
        Self::DiskFull,
        Self::AgentCrash,
        Self::AgentCrashLoop,
        Self::Reset,
        Self::PowerCut,
        Self::PowerCutInWrite,
        Self::DevicePause,
        Self::ClockDrift,
        Self::FlashRot,
        Self::FlashFull,
        Self::FetchFails,
        Self::FetchWrong,
        Self::StoreLoss,
        Self::StartFails,
        Self::Trap,
        Self::CrashLoop,
        Self::Hang,
        Self::LogStorm,
        Self::Replay,
        Self::ReplayLive,
        Self::Equivocation,
        Self::Forgery,
        Self::Moves,
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| format!("{fault:?}") == name)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed(u64);

impl Allowed {
    pub const ALL: Self = Self((1 << FAULTS) - 1);
    pub const NONE: Self = Self(0);

    pub fn contains(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u64) != 0
    }

    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u64)
    }

    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u64))
    }

    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self.contains(*fault))
    }

    pub fn list(self) -> Vec<Fault> {
        self.iter().collect()
    }
}

/// How often each kind really did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub hits: [u64; FAULTS],
    /// Faults that were sent out, of any kind; some found nobody to hit, some hit many times.
    pub strikes: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { hits: [0; FAULTS], strikes: 0 }
    }
}

impl Counts {
    pub fn hit(&mut self, fault: Fault) {
        self.hits[fault as usize] += 1;
    }

    pub fn of(&self, fault: Fault) -> u64 {
        self.hits[fault as usize]
    }

    pub fn add(&mut self, other: &Self) {
        self.hits.iter_mut().zip(other.hits).for_each(|(sum, count)| *sum += count);
        self.strikes += other.strikes;
    }

    pub fn total(&self) -> u64 {
        self.hits.iter().sum()
    }
}
