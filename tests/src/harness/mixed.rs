//! A Linux agent and an emulated board of each kind that runs functions, at one hub: what one list of cases is tried on.

use super::board::{Board, provision_for_as};
use super::{Agent, Hub, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use wire::position::Position;

const FRANKFURT: (f64, f64) = (8.6821, 50.1109);
const FRANKFURT_E7: Position = Position { longitude_e7: 86_821_000, latitude_e7: 501_109_000, uncertainty_m: 0 };
pub const LINUX: &str = "linux";
/// Device and board.
pub const BOARDS: [(&str, &str); 2] = [("cortex", "qemu-mps2-an386"), ("riscv", "qemu-riscv32-virt")];

/// All of them, the one without a board first.
pub fn all_devices() -> Vec<&'static str> {
    [LINUX].into_iter().chain(BOARDS.map(|(device, _)| device)).collect()
}

/// Everything that is on is off when it is dropped.
pub struct Mixed {
    pub hub: Hub,
    /// In the order of `BOARDS`.
    pub boards: Vec<Board>,
    _agent: Agent,
    folder: tempfile::TempDir,
}

impl Mixed {
    /// All of them joined and online. Each board has started once since.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::start(folder.path());
        let agent = Agent::join(folder.path(), &hub, LINUX, FRANKFURT);
        let start = |(device, board): (&str, &str)| {
            let flash = flash(folder.path(), device);
            provision_for_as(device, &hub, &flash, board, Some(FRANKFURT_E7));
            let mut started = Board::start(board, &flash);
            started.wait_line("connected to the broker");
            hub.wait_online(device);
            started
        };
        let boards = BOARDS.map(start).into();
        Self { hub, boards, _agent: agent, folder }
    }

    /// What keeps the storage of a board.
    pub fn flash(&self, device: &str) -> PathBuf {
        flash(self.folder.path(), device)
    }

    /// Waits until a workload runs on so many devices.
    pub fn wait_running(&self, name: &str, devices: usize) {
        let workload = self.hub.wait_running(name);
        assert_eq!(workload["status"]["desired"], devices, "{workload:#}");
    }

    /// What the hub tells of a workload on one device.
    pub fn entry(&self, name: &str, device: &str) -> Value {
        let workload = self.hub.workload(name);
        let entries = workload["status"]["devices"].as_array().cloned().unwrap_or_default();
        entries.into_iter().find(|entry| entry["device"] == device).unwrap_or(workload)
    }

    /// Takes workloads away, and waits until no device has any of them.
    pub fn remove(&self, names: &[&str]) {
        names.iter().for_each(|name| self.hub.remove(name));
        wait_until("nothing is left of what was tried", || {
            let placements = self.hub.get("/v1/namespaces/default/placements");
            let items = placements["items"].as_array().unwrap();
            let is_left = items.iter().any(|item| names.iter().any(|name| item["spec"]["workload"] == *name));
            if is_left { Err(placements) } else { Ok(()) }
        });
    }
}

impl Default for Mixed {
    fn default() -> Self {
        Self::new()
    }
}

fn flash(folder: &Path, device: &str) -> PathBuf {
    folder.join(device)
}
