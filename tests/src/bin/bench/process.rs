//! What the system knows of a process: memory, bytes of its sockets.

use std::process::Command;

/// Proportional set size in KiB (proc(5), smaps_rollup).
pub fn pss_kib(pid: u32) -> f64 {
    memory(pid, "smaps_rollup", "Pss:")
}

/// Resident set size in KiB (proc(5), status).
pub fn rss_kib(pid: u32) -> f64 {
    memory(pid, "status", "VmRSS:")
}

/// The most that it ever was, in KiB.
pub fn rss_peak_kib(pid: u32) -> f64 {
    memory(pid, "status", "VmHWM:")
}

fn memory(pid: u32, file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes of the payload of TCP, sent and received, over the open connections of a process (ss(8) of iproute2).
pub fn tcp_bytes(pid: u32) -> [f64; 2] {
    let output = Command::new("ss").args(["-tinpH"]).output().expect("ss is not installed: scripts/bench installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = format!("pid={pid},");
    let mut sums = [0.0, 0.0];
    // One line for the addresses and the owner, the next with the figures.
    for (owner, figures) in text.lines().zip(text.lines().skip(1)) {
        if !owner.contains(&ours) {
            continue;
        }
        for (sum, field) in sums.iter_mut().zip(["bytes_sent:", "bytes_received:"]) {
            let value = figures.split_whitespace().find_map(|word| word.strip_prefix(field));
            *sum += value.and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        }
    }
    sums
}

/// Time of a processor that it has used so far, in seconds (proc(5), stat).
pub fn cpu_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name is in brackets and may have spaces; user and system time are the 14th and 15th field.
    let fields = text.rsplit(") ").next().unwrap().split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
