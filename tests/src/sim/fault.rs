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
    /// Topics overtake each other and QoS 1 messages come twice.
    LinkChaos,
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
    /// The hub ends at once, with or without what was being written.
    HubCrash,
    /// The hub's disk takes seconds.
    CommitSlow,
    /// The hub's disk takes nothing.
    DiskFull,
    /// The agent's process dies.
    AgentCrash,
    /// A device loses power.
    PowerCut,
    /// A device loses power while it writes its journal.
    PowerCutInWrite,
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
    /// Components trap while they run.
    Trap,
    /// Starts and activations are never answered.
    Hang,
    /// Hundreds of log lines at once.
    LogStorm,
    /// An old desired message is delivered again.
    Replay,
    /// A second hub with the same key says something else under the same revision.
    Equivocation,
    /// A set that somebody else signed.
    Forgery,
    /// A device moves.
    Moves,
}

pub const FAULTS: usize = 30;

impl Fault {
    pub const ALL: [Self; FAULTS] = [
        Self::LinkCut,
        Self::LinkStall,
        Self::LinkUpLost,
        Self::LinkDownLost,
        Self::LinkSlow,
        Self::LinkChaos,
        Self::BrokerRestart,
        Self::BrokerForgets,
        Self::BrokerOldCopy,
        Self::HubLinkCut,
        Self::HubLinkStall,
        Self::HubCrash,
        Self::CommitSlow,
        Self::DiskFull,
        Self::AgentCrash,
        Self::PowerCut,
        Self::PowerCutInWrite,
        Self::FlashRot,
        Self::FlashFull,
        Self::FetchFails,
        Self::FetchWrong,
        Self::StoreLoss,
        Self::StartFails,
        Self::Trap,
        Self::Hang,
        Self::LogStorm,
        Self::Replay,
        Self::Equivocation,
        Self::Forgery,
        Self::Moves,
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| format!("{fault:?}") == name)
    }
}

/// Which kinds may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed(u32);

impl Allowed {
    pub const ALL: Self = Self((1 << FAULTS) - 1);
    pub const NONE: Self = Self(0);

    pub fn contains(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u32))
    }

    pub fn list(self) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| self.contains(*fault)).collect()
    }
}

/// How often each kind really did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u32; FAULTS]);

impl Counts {
    pub fn hit(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub fn of(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }
}
