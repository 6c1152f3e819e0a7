//! Decides which devices run a workload, and says why.
//!
//! A pure function from a snapshot to a plan: no clock, no I/O, no randomness, and the same answer for the same input
//! on every machine. The engine commits plans after checking them against its current state; nothing here changes it.
//!
//! A plan is made in three steps. `filters` ask each device by itself; `select` chooses among those that pass, keeping
//! what runs already, and adds what keeps its distance (`independent`), its domain's share (`balance`) and its place near
//! an anchor (`serving`); `relation` then says of every other device whether one more replica on it would fit.
//!
//! `plan` looks at every device and counts the reasons; `place` reaches the same decision through the indexes without
//! counting; `explain_device` answers for one device with all reasons; `text` and `reason` put both into words.

mod balance;
mod candidates;
mod decision;
mod explain;
pub mod filters;
mod fleet;
mod independent;
mod labels;
mod load_order;
mod occupancy;
mod plan;
mod question;
mod rank;
mod reason;
mod reason_meaning;
mod relation;
mod select;
mod selector;
mod serving;
mod snapshot;
mod taint;
mod terms;
#[cfg(test)]
mod tests;
pub mod text;
mod workload;

pub use decision::{Anchor, AnchorServer, Chosen, Decision, Fulfilment, Plan, Removed, Standing, Tally, TallyLine};
pub use explain::{Check, DeviceExplanation, Outcome, Rival, explain_device};
pub use filters::{Code, Figures};
pub use fleet::Fleet;
pub use plan::{place, plan};
pub use rank::ScorePart;
pub use selector::{Requirement, Selector};
pub use snapshot::{
    Admittance, Device, DeviceFacts, DeviceIndex, FLEET_DEVICES_MAX, IndexTooLarge, Position, PositionSource, Regions,
    Resources, Runtime, Runtimes, Snapshot, WireRange, WorkloadNumber,
};
pub use taint::{Effect, Taint, Toleration};
pub use terms::{
    AntiAffinity, Apartness, Near, NearestPer, OnShortfall, OtherWorkload, Spread, SpreadBy, Terms, TermsProblem,
};
pub use workload::{CurrentPlacement, Losses, Needs, Wanted, WorkloadSpecView};
