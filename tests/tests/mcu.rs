//! A microcontroller through everything, on this host: the shell of the firmware, byte for byte what a board runs, against a
//! real hub.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tests::harness::{Hub, Mcu};
use wire::hello::ResetCause;

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);

#[test]
fn it_joins_from_a_token_and_is_online() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let mut mcu = Mcu::join(&hub, "mcu-1", FRANKFURT);
    let device = hub.get("/v1/devices/mcu-1");
    assert_eq!(device["status"]["class"], "mcu", "{device:#}");
    // The identity is in flash: nothing is asked of the hub but to be heard again.
    mcu.reset(ResetCause::Watchdog);
    mcu.wait_connected(2);
    hub.wait_online("mcu-1");
    assert!(!mcu.log().contains("not joined"), "{}", mcu.log());
}
