//! What components raise, report and measure, counted where it is made: each record arrives once or is counted as lost (I7).
//!
//! The runtime's double numbers what it tells, so that a record says which telling it is of. Judged by what the broker took over
//! and by what the device says that it lost, after everything had time to arrive.
use super::fault::Fault;
use super::world::{FLEET, Phase, World};
use agent_nostd::machine::port::{Input, JournalKey, LaunchId, Telling};
use std::collections::{BTreeMap, BTreeSet};
use wire::codec::Reader;
use wire::hello::LossCounters;
use wire::sample::{Class, Samples, Value};
use wire::{Kind, LiveContext, WorkloadId};

/// Of a thousand activations so many measure, report and raise something.
const MEASURES: u64 = 300;
const REPORTS: u64 = 100;
const RAISES: u64 = 30;
/// Values measured at once.
const VALUES: u64 = 3;
/// A storm measures more than a device has room for.
const STORM_VALUES: u32 = 60;
/// Keys of states.
const KEYS: [&str; 3] = ["door", "valve", "mode"];

/// Workload, component, key.
type Place = (WorkloadId, u8, String);

/// States of one boot: a newer one may take the place and the sequence of one that was not sent.
#[derive(Debug, Default)]
struct States {
    told: u32,
    newest: BTreeMap<Place, u32>,
    arrived: BTreeMap<Place, u32>,
    sequences: BTreeSet<u32>,
}

/// Metrics of one boot.
#[derive(Debug, Default)]
struct Metrics {
    told: u32,
    sequences: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Alarm {
    /// The journal held it.
    is_durable: bool,
    has_arrived: bool,
    is_of_boot: bool,
}

/// Of one device.
#[derive(Debug, Default)]
pub struct Ledger {
    states: States,
    metrics: Metrics,
    alarms: BTreeMap<u32, Alarm>,
    alarms_told: u32,
    /// That the journal knew of when this boot began.
    alarms_lost_before: u32,
    lost: LossCounters,
    /// What its journal held is gone.
    has_rotted: bool,
}

impl Ledger {
    pub fn begin_boot(&mut self, journal: Option<&[u8]>) {
        self.states = States::default();
        self.metrics = Metrics::default();
        self.lost = LossCounters::default();
        self.alarms.values_mut().for_each(|alarm| alarm.is_of_boot = false);
        journal.into_iter().for_each(|journal| self.is_written(journal));
        // Of an earlier boot, what was not written is gone with it.
        self.alarms.retain(|_, alarm| alarm.is_durable);
        self.alarms_lost_before = journal.and_then(lost_of_journal).unwrap_or(0);
    }

    /// The journal holds this value for alarms.
    pub fn is_written(&mut self, journal: &[u8]) {
        for (number, alarm) in self.alarms.iter_mut().filter(|(_, alarm)| !alarm.is_durable) {
            let text = text_of(*number);
            alarm.is_durable = journal.windows(text.len()).any(|part| part == text.as_bytes());
        }
    }

    pub fn rots(&mut self) {
        self.has_rotted = true;
    }

    pub fn lost(&mut self, lost: LossCounters) {
        self.lost.alarms = self.lost.alarms.max(lost.alarms);
        self.lost.states = self.lost.states.max(lost.states);
        self.lost.metrics = self.lost.metrics.max(lost.metrics);
    }

    /// What is neither there nor counted, or counted and there.
    pub fn wrong(&self) -> Option<String> {
        let (told, arrived, lost) = (self.metrics.told, self.metrics.sequences.len() as u32, self.lost.metrics);
        if arrived + lost != told {
            return Some(format!("{told} metrics were told, {arrived} arrived and {lost} are said to be lost"));
        }
        let highest = self.states.sequences.last().copied().unwrap_or(0);
        let (arrived, lost) = (self.states.sequences.len() as u32, self.lost.states);
        if arrived + lost < highest || lost > self.states.told {
            return Some(format!("of {highest} states {arrived} arrived and {lost} are said to be lost"));
        }
        let is_there = |(place, newest): &(&Place, &u32)| self.states.arrived.get(*place) == Some(newest);
        if lost == 0
            && let Some((place, newest)) = self.states.newest.iter().find(|state| !is_there(state))
        {
            return Some(format!("the newest state of {place:?}, {newest}, is not what arrived last"));
        }
        if self.has_rotted {
            return None;
        }
        if let Some((number, alarm)) = self.alarms.iter().find(|(_, alarm)| alarm.is_durable && !alarm.has_arrived) {
            return Some(format!("alarm {number} was durable and never arrived: {alarm:?}"));
        }
        let missing = self.alarms.values().filter(|alarm| alarm.is_of_boot && !alarm.has_arrived).count() as u32;
        let lost = self.lost.alarms.saturating_sub(self.alarms_lost_before);
        (missing > lost).then(|| format!("{missing} alarms did not arrive, and {lost} are said to be refused"))
    }
}

/// No text is the beginning of another one.
fn text_of(number: u32) -> String {
    format!("alarm {number}.")
}

/// Format, stream, next sequence, lost.
fn lost_of_journal(value: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(value);
    reader.byte().ok()?;
    let mut number = || reader.array::<4>().ok().map(u32::from_le_bytes);
    number()?;
    number()?;
    number()
}

impl World<'_> {
    /// What a component tells in one activation. Nothing new at the end: what is under way is to arrive.
    pub fn tells(&mut self, device: usize, launch: LaunchId) {
        if self.phase == Phase::Reconnect {
            return;
        }
        if self.random.chance(MEASURES) {
            for _ in 0..=self.random.below(VALUES) {
                self.measures(device, launch);
            }
        }
        if self.random.chance(REPORTS) {
            let key = KEYS[self.random.index(KEYS.len())];
            let node = &mut self.devices[device];
            let Some(instance) = node.runtime.instances.get(&launch) else { return };
            let (workload, component) = instance.kept.key();
            let states = &mut node.samples.states;
            states.told += 1;
            states.newest.insert((workload, component, key.to_owned()), states.told);
            let text = states.told.to_string();
            self.tell(device, Input::Tell { launch, telling: Telling::State { key, text: &text } });
        }
        if self.random.chance(RAISES) {
            let samples = &mut self.devices[device].samples;
            samples.alarms_told += 1;
            let number = samples.alarms_told;
            samples.alarms.insert(number, Alarm { is_of_boot: true, ..Alarm::default() });
            self.tell(device, Input::Tell { launch, telling: Telling::Alarm { key: "smoke", text: &text_of(number) } });
        }
    }

    fn measures(&mut self, device: usize, launch: LaunchId) {
        let metrics = &mut self.devices[device].samples.metrics;
        metrics.told += 1;
        let value = i64::from(metrics.told);
        self.tell(device, Input::Tell { launch, telling: Telling::Metric { key: "level", value, scale: 0 } });
    }

    pub fn sample_storm(&mut self, device: usize, launch: LaunchId) {
        (0..STORM_VALUES).for_each(|_| self.measures(device, launch));
    }

    /// The broker took samples over.
    pub fn samples_arrive(&mut self, device: usize, payload: &[u8]) {
        let Some(boot) = self.devices[device].agent.as_ref().map(|agent| agent.boot()) else { return };
        let Ok(samples) = wire::frame::live_body_unchecked(payload, Kind::Sample).and_then(Samples::decode) else {
            return;
        };
        let fixed = samples.fixed;
        let context = LiveContext { fleet: FLEET, device: self.ids[device], boot, session: fixed.session };
        let key = &self.ground.pair_keys[device];
        // A frame of an earlier boot belongs to an account that was closed; but an alarm is an alarm.
        let is_of_boot = wire::frame::open_live(payload, Kind::Sample, key, &context).is_ok();
        let ledger = &mut self.devices[device].samples;
        let mut wrong = None;
        for record in samples.records() {
            match (fixed.class, record.value) {
                (Class::Alarm, Value::Text(text)) => {
                    let number = text.strip_prefix("alarm ").and_then(|text| text.strip_suffix('.')?.parse().ok());
                    if let Some(alarm) = number.and_then(|number: u32| ledger.alarms.get_mut(&number)) {
                        alarm.has_arrived = true;
                    }
                }
                (Class::State | Class::Metric, _) if !is_of_boot => {}
                (Class::State, Value::Text(text)) => {
                    ledger.states.sequences.insert(record.sequence);
                    let place = (record.workload, record.component, record.key.to_owned());
                    match text.parse::<u32>() {
                        Ok(number) => {
                            let newest = ledger.states.arrived.entry(place).or_default();
                            *newest = number.max(*newest);
                        }
                        Err(_) => wrong = Some(format!("state {text:?} arrives, which nobody told")),
                    }
                }
                (Class::Metric, Value::Number { value, .. }) => {
                    ledger.metrics.sequences.insert(record.sequence);
                    if value != i64::from(record.sequence) {
                        wrong = Some(format!("metric {value} arrives with sequence {}", record.sequence));
                    }
                }
                (class, value) => wrong = Some(format!("{value:?} arrives as {class:?}")),
            }
        }
        if let Some(wrong) = wrong {
            return self.fail(|| format!("[I7] dev-{device}: {wrong}"));
        }
        if is_of_boot {
            let mut lost = LossCounters::default();
            match fixed.class {
                Class::Alarm => lost.alarms = fixed.lost,
                Class::State => lost.states = fixed.lost,
                Class::Metric => lost.metrics = fixed.lost,
            }
            self.devices[device].samples.lost(lost);
        }
    }

    /// The journal of a device was written, or rotted.
    pub fn samples_written(&mut self, device: usize, key: JournalKey, fault: Option<Fault>) {
        if key != JournalKey::Alarms {
            return;
        }
        let node = &mut self.devices[device];
        match (fault, node.flash.value(key)) {
            (Some(_), _) => node.samples.rots(),
            (None, Some(value)) => node.samples.is_written(value),
            (None, None) => {}
        }
    }
}
