//! Lines of workloads, in bounded rings. What the device or the way here lost is shown where it is missing.
//!
//! Lines are not durable; a ring belongs to a workload's number and goes with it.

use super::Engine;
use super::event::Draft;
use super::port::{LogLine, Now};
use crate::model::ObjectKey;
use std::collections::{HashMap, VecDeque};
use wire::BootId;
use wire::event::{Level, Log};

/// Lines kept for one workload.
pub const LINES_MAX: usize = 2_000;
/// Bytes of text kept for all workloads together.
pub const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one line costs beyond its text.
const LINE_OVERHEAD_BYTES: usize = 128;
/// Warnings of one agent that become events; beyond it they would push out those of others.
pub const WARNINGS_PER_SECOND: u64 = 1;
pub const WARNINGS_BURST: u64 = 20;
/// The number under which an agent speaks of itself.
const AGENT_WORKLOAD: u32 = 0;

#[derive(Debug, Default)]
pub(super) struct Logs {
    rings: HashMap<u32, VecDeque<LogLine>>,
    bytes: usize,
}

fn cost(line: &LogLine) -> usize {
    line.text.len() + LINE_OVERHEAD_BYTES
}

impl Logs {
    pub fn push(&mut self, workload: u32, line: LogLine) {
        let ring = self.rings.entry(workload).or_default();
        self.bytes += cost(&line);
        ring.push_back(line);
        while ring.len() > LINES_MAX
            && let Some(oldest) = ring.pop_front()
        {
            self.bytes -= cost(&oldest);
        }
        while self.bytes > LOG_BYTES_MAX {
            self.halve_longest();
        }
    }

    /// Who wrote most gives way, so that a quiet workload keeps its lines. Half at once: the search is rare then.
    fn halve_longest(&mut self) {
        let Some(ring) = self.rings.values_mut().max_by_key(|ring| ring.len()) else {
            self.bytes = 0;
            return;
        };
        let half = ring.len().div_ceil(2);
        self.bytes = self.bytes.saturating_sub(ring.drain(..half).map(|line| cost(&line)).sum::<usize>());
    }

    pub fn tail(&self, workload: u32, device: Option<&str>, tail: usize) -> Vec<LogLine> {
        let Some(ring) = self.rings.get(&workload) else { return Vec::new() };
        let matching = ring.iter().rev().filter(|line| device.is_none_or(|device| line.device == device));
        let mut lines: Vec<LogLine> = matching.take(tail).cloned().collect();
        lines.reverse();
        lines
    }

    pub fn forget(&mut self, workload: u32) {
        if let Some(ring) = self.rings.remove(&workload) {
            self.bytes -= ring.iter().map(cost).sum::<usize>();
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

impl Engine {
    pub(super) fn on_log(&mut self, now: Now, index: u32, boot: BootId, log: &Log<'_>) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let name = device.keys.name.clone();
        let first = log.fixed.sequence;
        let expected = match device.observed.log {
            Some((known, next)) if known == boot => next,
            // After a boot the tail of the one before is unknown, not lost.
            Some(_) | None => first,
        };
        let after = first.wrapping_add(u32::from(log.fixed.count));
        if after > expected || device.observed.log.is_none_or(|(known, _)| known != boot) {
            device.observed.log = Some((boot, after));
        }
        let lost = first.saturating_sub(expected);
        let seen = usize::try_from(expected.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut is_gap_told = lost == 0;
        for record in log.records().skip(seen) {
            let age = log.fixed.uptime_ms.saturating_sub(record.uptime_ms);
            let time_ms = now.wall_ms.saturating_sub(age);
            let id = record.workload.0;
            if id == AGENT_WORKLOAD {
                let Some(device) = self.state.devices.get_mut(index) else { return };
                let warnings = &mut device.observed.warnings;
                if record.level >= Level::Warn && warnings.take(now.monotonic, WARNINGS_PER_SECOND, WARNINGS_BURST) {
                    let key = ObjectKey::device(&name);
                    self.tell(now, Draft::warning("AgentWarning", &key, record.text).on(&name));
                }
                continue;
            }
            let Some(key) = self.state.workloads.get(&id) else { continue };
            let component = self.component_name(key, record.component);
            if !is_gap_told {
                is_gap_told = true;
                let text = format!("{lost} lines lost");
                let line = LogLine {
                    time_ms,
                    device: name.clone(),
                    component: String::new(),
                    level: "lost".to_owned(),
                    text,
                    lost,
                };
                self.keep_line(id, line);
            }
            let level = level_name(record.level).to_owned();
            let text = record.text.to_owned();
            self.keep_line(id, LogLine { time_ms, device: name.clone(), component, level, text, lost: 0 });
        }
    }

    fn keep_line(&mut self, workload: u32, line: LogLine) {
        self.tell_log(workload, &line);
        self.logs.push(workload, line);
    }

    /// Empty where the workload has one component in short form.
    pub(super) fn component_name(&self, key: &ObjectKey, component: u8) -> String {
        let stored = self.state.objects.get(key);
        let body = stored.and_then(|stored| stored.workload());
        let name = body.and_then(|body| body.spec.components.get(usize::from(component))).map(|c| c.name.clone());
        name.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        let (device, component, level) = ("gw".to_owned(), String::new(), "info".to_owned());
        LogLine { time_ms: 0, device, component, level, text: text.to_owned(), lost: 0 }
    }

    #[test]
    fn a_ring_keeps_the_newest_lines() {
        let mut logs = Logs::default();
        for n in 0..=LINES_MAX {
            logs.push(1, line(&n.to_string()));
        }
        let tail = logs.tail(1, None, usize::MAX);
        assert_eq!(tail.len(), LINES_MAX);
        assert_eq!(tail.first().map(|line| line.text.as_str()), Some("1"));
        logs.forget(1);
        assert_eq!(logs.bytes, 0);
    }

    #[test]
    fn loud_workloads_do_not_take_the_lines_of_quiet_ones() {
        let mut logs = Logs::default();
        let loud = "x".repeat(LOG_BYTES_MAX / LINES_MAX / 4);
        logs.push(1, line("quiet"));
        for workload in 2..10 {
            for _ in 0..LINES_MAX {
                logs.push(workload, line(&loud));
            }
        }
        logs.push(1, line("still here"));
        assert!(logs.bytes <= LOG_BYTES_MAX);
        let kept: usize = logs.rings.values().flatten().map(cost).sum();
        assert_eq!(kept, logs.bytes);
        let quiet: Vec<String> = logs.tail(1, None, 9).into_iter().map(|line| line.text).collect();
        assert_eq!(quiet, ["quiet", "still here"]);
    }
}
