//! Firmware over the air, with everything real: hub, broker, an emulated board with its boot code, resets, and cuts of its power.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use tests::harness::board::Board;
use tests::harness::slots::{AN386, Flash, SPIN, UNDEFINED, beginning_with, estranged, renumbered};
use tests::harness::{Hub, wait_until};
use wire::join::{JoinToken, TOKEN_TEXT_BYTES_MAX};
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::{EntropySeed, MacAddress, Network, Provision};

const NAME: &str = "porch";

/// A board that is online, the hub that it belongs to, and the image that it runs as version 1.
fn online(folder: &std::path::Path) -> (Hub, Flash, Board, Vec<u8>) {
    let hub = Hub::start(folder);
    let flash = Flash::new(folder);
    let text = hub.join_token(true);
    let mut buffer = [0; TOKEN_TEXT_BYTES_MAX];
    let token = JoinToken::parse(&text, &mut buffer).unwrap();
    // This machine's loopback, as the board sees it.
    let broker = format!("mqtt://192.0.2.2:{}", hub.broker_port());
    let record = Provision {
        board: AN386,
        name: NAME,
        token: JoinToken { broker: &broker, ..token },
        position: None,
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        network: Network::Dhcp,
        wifi: None,
        seed: EntropySeed([7; 32]),
    };
    let mut buffer = [0; PROVISION_BYTES_MAX];
    let bytes = record.encode(&mut buffer).unwrap();
    OpenOptions::new().write(true).open(&flash.0).unwrap().write_all_at(bytes, 0).unwrap();
    let mut board = flash.power_up();
    board.wait_line("connected to the broker");
    hub.wait_online(NAME);
    wait_until("the board says what it runs", || match firmware(&hub) {
        firmware if firmware["version"] == 1 => Ok(()),
        other => Err(other),
    });
    let image = flash.image();
    (hub, flash, board, image)
}

fn firmware(hub: &Hub) -> Value {
    hub.get(&format!("/v1/devices/{NAME}"))["status"]["firmware"].clone()
}

fn begin(hub: &Hub, image: &[u8], confirm_within: &str) -> String {
    let artifact = hub.upload("firmware", image);
    let wanted = json!({"artifact": artifact, "waves": ["100%"], "soak": "1s", "confirmWithin": confirm_within});
    hub.post("/v1/rollouts", wanted.to_string().as_bytes())["name"].as_str().unwrap().to_owned()
}

fn wait_phase(hub: &Hub, name: &str, phase: &str) -> Value {
    wait_until(&format!("{name} is {phase}"), || match hub.get(&format!("/v1/rollouts/{name}")) {
        rollout if rollout["phase"] == phase => Ok(rollout),
        other => Err((other, firmware(hub))),
    })
}

#[test]
fn a_good_image_is_confirmed_and_stays_over_resets_and_cuts_of_the_power() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, flash, mut board, image) = online(folder.path());
    // What is no image is refused before a device hears of it, when it comes and when it is to go out.
    let (status, problem) = hub.try_post("/v1/namespaces/default/artifacts/firmware", b"FJI1 and no more");
    assert_eq!((status, &problem["code"]), (422, &json!("NOT_WASM")), "{problem:#}");
    let module = hub.upload("hello", include_bytes!("../../functions/hello/hello.wasm"));
    for artifact in [module.as_str(), "hello", "hello@sha256:00"] {
        let (status, problem) = hub.try_post("/v1/rollouts", json!({ "artifact": artifact }).to_string().as_bytes());
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/artifact")), "{problem:#}");
    }
    let name = begin(&hub, &renumbered(&image, 2), "10m");
    assert_eq!(name, "qemu-mps2-an386-v2");
    board.wait_line("another firmware is in its slot");
    board.wait_line("boot: swapping");
    board.wait_line("boot: version 2, for a trial");
    board.wait_line("firmware: version 2, on trial");
    board.wait_line("this firmware is confirmed");
    let done = wait_phase(&hub, &name, "Done");
    assert_eq!((&done["targets"][0]["device"], &done["targets"][0]["state"]), (&json!(NAME), &json!("Updated")));
    assert_eq!(firmware(&hub)["version"], 2);
    board.control("system_reset");
    board.wait_line("boot: version 2");
    board.wait_line("connected to the broker");
    board.cut_power();
    let mut board = flash.power_up();
    board.wait_line("boot: version 2");
    board.wait_line("connected to the broker");
    // What was confirmed is never gone below.
    let name = begin(&hub, &renumbered(&image, 1), "10m");
    let done = wait_phase(&hub, &name, "Done");
    assert_eq!(done["targets"][0]["state"], "Updated", "it runs a later one");
    assert_eq!(firmware(&hub)["version"], 2);
}

#[test]
fn images_that_hang_fault_or_never_confirm_give_way_and_halt_their_rollouts() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, _flash, mut board, image) = online(folder.path());
    for (version, reason) in [(2, "WATCHDOG"), (3, "PANIC"), (4, "WATCHDOG")] {
        let good = renumbered(&image, version);
        let bad = match version {
            2 => beginning_with(good, &SPIN),
            3 => beginning_with(good, &UNDEFINED),
            _ => estranged(&good),
        };
        let name = begin(&hub, &bad, "10m");
        board.wait_line(&format!("boot: version {version}, for a trial"));
        board.wait_line("boot: version 1, after one that was not confirmed");
        let halted = wait_phase(&hub, &name, "Halted");
        assert_eq!(halted["targets"][0]["reason"], reason, "{halted:#}");
        let firmware = firmware(&hub);
        assert_eq!((&firmware["version"], &firmware["reason"]), (&json!(1), &json!(reason)), "{firmware:#}");
    }
    // A good one is taken after all of them.
    let name = begin(&hub, &renumbered(&image, 5), "10m");
    wait_phase(&hub, &name, "Done");
}

#[test]
fn without_its_hub_an_image_confirms_itself_when_it_has_run_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, _flash, mut board, image) = online(folder.path());
    let name = begin(&hub, &renumbered(&image, 2), "10s");
    board.wait_line("another firmware is in its slot");
    hub.kill();
    board.wait_line("firmware: version 2, on trial");
    board.wait_line("this firmware is confirmed");
    hub.run();
    wait_phase(&hub, &name, "Done");
}

#[test]
fn a_transfer_and_a_swap_go_on_over_cuts_of_the_power_and_a_killed_hub() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, flash, board, image) = online(folder.path());
    let name = begin(&hub, &renumbered(&image, 2), "10m");
    let fetched = |hub: &Hub| firmware(hub)["doneBytes"].as_u64().unwrap_or(0);
    wait_until("a part of the image is there", || {
        // Seen on its way, or through with it already.
        let (done, phase) = (fetched(&hub), firmware(&hub)["phase"].clone());
        if done > 0 || phase != "Idle" { Ok(()) } else { Err(phase) }
    });
    board.cut_power();
    hub.kill();
    hub.run();
    let mut board = flash.power_up();
    board.wait_line("boot: swapping");
    board.cut_power();
    let mut board = flash.power_up();
    board.wait_line("connected to the broker");
    wait_phase(&hub, &name, "Done");
    assert_eq!(firmware(&hub)["version"], 2);
}
