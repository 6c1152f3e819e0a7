//! What each reason code means and what can be done about it, for the reference and `fulmar explain error`.
//!
//! `reason` words a code for one workload and device; here it is explained to somebody who sees it for the first time.

use super::filters::Code;

impl Code {
    /// As declared: the order of the first release, then what was added.
    pub const ALL: [Self; 30] = [
        Self::NotApproved,
        Self::Cordoned,
        Self::Draining,
        Self::ClassMismatch,
        Self::LabelMismatch,
        Self::NotNamed,
        Self::PositionUnknown,
        Self::OutsideRegion,
        Self::PositionUncertain,
        Self::TooFar,
        Self::NoRuntime,
        Self::AgentTooOld,
        Self::InsufficientRam,
        Self::InsufficientSlots,
        Self::SetTooLarge,
        Self::DeviceGone,
        Self::Surplus,
        Self::StaleLocation,
        Self::Taint,
        Self::NoDomain,
        Self::AntiAffinity,
        Self::NotNearest,
        Self::MinDistance,
        Self::Spread,
        Self::NoBootClock,
        Self::DeviceLost,
        Self::OriginalReturned,
        Self::Withheld,
        Self::Held,
        Self::NoInterface,
    ];

    /// One sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NotApproved => "The device has joined, and nobody has approved it yet.",
            Self::Cordoned => "The device takes no new work; what it has stays.",
            Self::Held => {
                "The device runs, or may run, a set that this hub has forgotten: nothing is changed until an operator decides."
            }
            Self::Draining => "The device is to lose its work and takes no new one.",
            Self::ClassMismatch => "The device is of another class than `placement.class` asks for.",
            Self::LabelMismatch => "The device has not the labels that `placement.labels` or `selector` ask for.",
            Self::NotNamed => "`placement.on` names devices, and not this one.",
            Self::PositionUnknown => "The hub does not know where the device is, and the placement asks for a place.",
            Self::OutsideRegion => "The device is outside of all regions of `placement.within`.",
            Self::PositionUncertain => "The device may be inside, but its position is not exact enough to be certain.",
            Self::TooFar => "The device is farther from `placement.near.point` than `maxKm`.",
            Self::NoRuntime => "The device cannot run this type of workload.",
            Self::AgentTooOld => "The device's agent speaks an older wire version than the workload needs.",
            Self::InsufficientRam => "The device has less memory free than the workload may use.",
            Self::InsufficientSlots => "The device has no free slot for another component.",
            Self::SetTooLarge => "Everything that the device is to run would not fit into one message to it.",
            Self::DeviceGone => "The device that had the workload is no longer in the fleet.",
            Self::Surplus => "More devices have the workload than are wanted now.",
            Self::StaleLocation => "The device's position is older than the placement allows.",
            Self::Taint => "The device has a taint that the workload does not tolerate.",
            Self::NoDomain => "Replicas are spread, and the device is in no site, or in none of the named regions.",
            Self::AntiAffinity => "The device or its site has a workload that this one stays away from.",
            Self::NotNearest => "`nearestPer` takes the nearest devices only, and this is not one of them.",
            Self::MinDistance => "The device is closer to a chosen one than `minDistanceKm`.",
            Self::Spread => "The device's site, region or cell has enough replicas already.",
            Self::NoBootClock => {
                "The workload is exclusive, and the device has no clock that goes on while it sleeps, to stop in time by."
            }
            Self::DeviceLost => "The device has not been heard of for so long that the workload runs elsewhere.",
            Self::OriginalReturned => "The device that had the workload before it was lost is back, and has it again.",
            Self::NoInterface => {
                "The device has no pins or buses of a kind that `function.capabilities` names, or its agent is too old."
            }
            Self::Withheld => "An operator took it back before the device heard of it, until the workload changes.",
        }
    }

    /// What an operator can do, if it is not meant to be so.
    pub const fn next(self) -> &'static str {
        match self {
            Self::NotApproved => "fulmar device approve NAME",
            Self::Cordoned => "fulmar device uncordon NAME",
            Self::Draining => "fulmar device undrain NAME",
            Self::ClassMismatch => "add the class to placement.class",
            Self::LabelMismatch => "label the device, or ask for other labels",
            Self::NotNamed => "add it to placement.on",
            Self::PositionUnknown => "fulmar device relocate NAME --at LON,LAT, or let the device report its position",
            Self::OutsideRegion => "name another region, or draw this one larger",
            Self::PositionUncertain => {
                "fulmar device relocate NAME --at LON,LAT --uncertainty METRES, if it does not move"
            }
            Self::TooFar => "raise placement.near.maxKm",
            Self::NoRuntime => "take a device with that runtime",
            Self::AgentTooOld => "update the agent on the device",
            Self::InsufficientRam => {
                "fulmar top shows what the device carries; lower the workload's memory, or move others"
            }
            Self::InsufficientSlots => "move or delete workloads of the device",
            Self::SetTooLarge => "shorten the workload's configuration, or move others off the device",
            Self::DeviceGone | Self::Surplus | Self::NotNearest | Self::OriginalReturned => {
                "nothing: another device has it"
            }
            Self::Withheld => "fulmar queue restore ID, with the id that fulmar describe device NAME tells",
            Self::DeviceLost => "bring the device back: fulmar describe device NAME tells when it was last heard of",
            Self::StaleLocation => "look why the device does not report: fulmar describe device NAME",
            Self::Taint => "add a toleration to the workload, or take the taint off the device",
            Self::NoDomain => "give the device a site: spec.site",
            Self::AntiAffinity => "move the other workload, or loosen antiAffinity",
            Self::MinDistance => "lower minDistanceKm",
            Self::Spread => "raise spread.maxSkew",
            Self::NoBootClock => "take a device that has one; Linux devices do",
            Self::NoInterface => {
                "take a board that has them: fulmar describe device NAME tells what a device gives functions"
            }
            Self::Held => "fulmar hub apply NAME gives it this hub's set; fulmar status says why it is held",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_and_has_words() {
        for (code, number) in Code::ALL.iter().zip(0usize..) {
            assert_eq!(*code as usize, number);
            assert!(code.meaning().ends_with('.') && !code.next().is_empty(), "{code:?}");
        }
        assert_eq!(Code::ALL.len(), Code::NoInterface as usize + 1);
    }
}
