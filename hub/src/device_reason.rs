//! What the reasons mean that devices give for the state of a workload, for people.
//!
//! The numbers and codes are of the wire, where small devices have no room for sentences; here is one row per code.

use wire::status::Reason;

/// A reason as a person needs it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub reason: Reason,
    /// One sentence.
    pub meaning: &'static str,
    pub next: &'static str,
}

const fn row(reason: Reason, meaning: &'static str, next: &'static str) -> Row {
    Row { reason, meaning, next }
}

/// By number.
pub const ROWS: [Row; 20] = [
    row(Reason::NONE, "Nothing is wrong.", "nothing"),
    row(
        Reason::WAITS_FOR_COMPONENT,
        "It starts after another component of its workload.",
        "nothing, if that one starts",
    ),
    row(
        Reason::WAITS_FOR_FRESH,
        "The device does not have the module, and has not heard from the hub since it started.",
        "nothing: it goes on when the device reaches the hub",
    ),
    row(
        Reason::WAITS_FOR_GRANT,
        "The workload is exclusive, and the hub has not granted it to this device yet.",
        "nothing: it is granted when nobody else can be running it, at the latest a lease and two seconds after the last grant",
    ),
    row(
        Reason::LEASE_EXPIRED,
        "The workload is exclusive, and the device stopped it because its grant was not renewed in time.",
        "look at the device's connection; it starts again with the next grant",
    ),
    row(
        Reason::STALE,
        "The device stopped the workload because it has not heard from the hub for as long as the workload allows.",
        "look at the device's connection; it starts again when the device hears from the hub",
    ),
    row(
        Reason::FETCH_FAILED,
        "The device could not download the module; it tries again.",
        "look at the device's network, and whether the hub's address is one that it reaches",
    ),
    row(
        Reason::HASH_MISMATCH,
        "What was downloaded is not what the hub has named; the device tries again.",
        "if it does not end, look for what changes bytes on the way",
    ),
    row(
        Reason::NO_SPACE,
        "The module does not fit on the device.",
        "raise the agent's artifacts.limit, or take other workloads off the device",
    ),
    row(
        Reason::LOAD_REFUSED,
        "The function engine refused the module; the detail has the engine's code.",
        "fulmar fn check FILE says the same on your machine",
    ),
    row(Reason::TRAPPED, "The function did something that it must not, and was ended.", "fulmar logs WORKLOAD"),
    row(
        Reason::OUT_OF_FUEL,
        "The function did not come to an end within its fuel.",
        "do less at once, or raise the workload's fuel",
    ),
    row(
        Reason::OUT_OF_MEMORY,
        "The function wanted more memory than it may have.",
        "use less, or raise the workload's memory",
    ),
    row(Reason::EXITED, "It ended, although it is to run.", "fulmar logs WORKLOAD"),
    row(Reason::START_TIMED_OUT, "It was not up in the time that a start has.", "do less at the start"),
    row(
        Reason::RUNTIME_MISSING,
        "The device has no runtime for this type of workload.",
        "place it on devices that have: placement.class",
    ),
    row(
        Reason::UNKNOWN_CLAUSE,
        "The workload asks for something that the device's agent does not know.",
        "update the agent",
    ),
    row(
        Reason::NOT_SUPPORTED,
        "The workload asks for something that this device cannot do.",
        "place it elsewhere, or leave that out",
    ),
    row(
        Reason::ROLLED_BACK,
        "The new version failed on the device, which went back to the one before.",
        "fulmar logs WORKLOAD, then apply a corrected version",
    ),
    row(
        Reason::SAFE_MODE,
        "The device crashed again and again with this workload, and runs without it.",
        "fulmar logs WORKLOAD, then apply a corrected version",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_wire_has_its_row() {
        let known: Vec<u16> = (0..=u16::MAX).filter(|number| Reason(*number).code() != "UNKNOWN").collect();
        assert_eq!(ROWS.map(|row| row.reason.0).to_vec(), known);
        assert!(ROWS.iter().all(|row| row.meaning.ends_with('.') && !row.next.is_empty()));
    }
}
