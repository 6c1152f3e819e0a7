//! Alarms, states and metrics of functions: the latest of each, a bounded window of what came before, and an exact account.
//!
//! Nothing here is durable and nothing is decided by it. An alarm becomes an event; the device keeps it until it is told here that
//! it was taken.

use super::Engine;
use super::device::{Bucket, Talk};
use super::event::{Draft, FOLLOWERS_MAX, Follower, Interest};
use super::port::{Answer, ClassAccount, Effect, Follow, Now, SampleLine, StreamItem, Ticket};
use super::problem;
use super::request::TAIL_MAX;
use super::session::live_frame;
use super::tally::{Stream, Tally};
use crate::model::{ObjectKey, decimal};
use std::collections::{BTreeMap, VecDeque};
use wire::LiveContext;
use wire::sample::{Class, Sample, Samples, SamplesFixed, Taken, Value};
use wire::topic::{Down, Topic};

/// Frames of samples of one device, per second and at once; a device in order sends at most five.
pub const SAMPLES_PER_SECOND: u64 = 10;
pub const SAMPLES_BURST: u64 = 50;
/// Alarms of one device that become events, per second and at once: beyond it they would push out those of others.
pub const ALARMS_PER_SECOND: u64 = 2;
pub const ALARMS_BURST: u64 = 100;
/// Keys of one device that are kept, states and metrics together; the one that was silent longest gives way.
pub const SAMPLE_KEYS_MAX: usize = 64;
/// Values that are kept of one metric.
pub const SAMPLE_VALUES_MAX: usize = 240;
/// Alarms that are kept of one device.
pub const SAMPLE_ALARMS_MAX: usize = 100;
/// Values that are kept of all devices; beyond it a new one takes the place of an old one of the same key, or is not kept.
pub const SAMPLES_KEPT_MAX: usize = 1_000_000;
/// Lines of a device's status.
pub const LATEST_SHOWN_MAX: usize = 20;
const TAKEN_BYTES_MAX: usize = 64;

/// Workload, component, key.
type Key = (u32, u8, Box<str>);

#[derive(Clone, Debug)]
enum Kept {
    Number(i64, i8),
    Text(Box<str>),
}

impl Kept {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Number { value, scale } => Self::Number(value, scale),
            Value::Text(text) => Self::Text(text.into()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(value, scale) => decimal(*value, *scale),
            Self::Text(text) => text.to_string(),
        }
    }
}

#[derive(Clone, Debug)]
struct Point {
    time_ms: u64,
    sequence: u32,
    value: Kept,
}

/// What one device told.
#[derive(Debug, Default)]
pub(super) struct Told {
    tallies: [Tally; 3],
    /// States hold one value, metrics a window, oldest first by their own time.
    keys: BTreeMap<(Class, Key), VecDeque<Point>>,
    alarms: VecDeque<(Key, Point)>,
    frames: Bucket,
    alarm_events: Bucket,
}

const fn at(class: Class) -> usize {
    match class {
        Class::Alarm => 0,
        Class::State => 1,
        Class::Metric => 2,
    }
}

impl Told {
    fn kept(&self) -> usize {
        self.alarms.len() + self.keys.values().map(VecDeque::len).sum::<usize>()
    }

    /// Keeps a value; returns by how many the values grew.
    fn keep(&mut self, class: Class, key: Key, point: Point, has_room: bool) -> isize {
        if class == Class::Alarm {
            self.alarms.push_back((key, point));
            let is_over = self.alarms.len() > SAMPLE_ALARMS_MAX || !has_room;
            return 1 - isize::from(is_over && self.alarms.pop_front().is_some());
        }
        let mut grown = 0;
        let key = (class, key);
        if !self.keys.contains_key(&key) {
            if !has_room {
                return 0;
            }
            if self.keys.len() >= SAMPLE_KEYS_MAX {
                let last = |points: &VecDeque<Point>| points.iter().map(|point| point.time_ms).max();
                let silent = self.keys.iter().min_by_key(|(_, points)| last(points)).map(|(key, _)| key.clone());
                let gone = silent.and_then(|silent| self.keys.remove(&silent)).map_or(0, |points| points.len());
                grown -= gone.cast_signed();
            }
        }
        let points = self.keys.entry(key).or_default();
        match (class, points.back()) {
            // What was told later may come first.
            (Class::State, Some(newest)) if newest.sequence > point.sequence => return grown,
            (Class::State, _) => {
                grown -= points.len().cast_signed();
                points.clear();
                points.push_back(point);
            }
            (Class::Metric | Class::Alarm, _) => {
                let place = points.partition_point(|other| other.time_ms <= point.time_ms);
                points.insert(place, point);
                if points.len() > SAMPLE_VALUES_MAX || !has_room {
                    points.pop_front();
                    grown -= 1;
                }
            }
        }
        grown + 1
    }

    /// Sequences begin anew with a boot, so that the states before it are older than any.
    fn forget_order(&mut self) {
        for ((class, _), points) in &mut self.keys {
            if *class == Class::State {
                points.iter_mut().for_each(|point| point.sequence = 0);
            }
        }
    }

    /// What to add to the sentence about losses, for each class that has some.
    pub fn losses(&self) -> Vec<String> {
        let with_losses = self.accounts().into_iter().filter(|account| account.lost + account.missing > 0);
        let text = |account: ClassAccount| {
            let on_the_way = match account.missing {
                0 => String::new(),
                missing => format!(", {missing} on the way"),
            };
            format!("; {} {}s by the device{on_the_way}", account.lost, account.class)
        };
        with_losses.map(text).collect()
    }

    fn accounts(&self) -> Vec<ClassAccount> {
        let account = |class: Class| {
            let tally = &self.tallies[at(class)];
            ClassAccount {
                class: class.name().to_owned(),
                received: tally.received,
                lost: tally.lost(),
                missing: tally.missing(),
                ends_unknown: tally.ends_unknown,
            }
        };
        Class::ALL.map(account).to_vec()
    }
}

/// When a record was taken, by the hub's clock.
fn time_of(now: Now, fixed: &SamplesFixed, sample: &Sample<'_>) -> u64 {
    match fixed.uptime_ms {
        Some(uptime_ms) => now.wall_ms.saturating_sub(uptime_ms.saturating_sub(sample.uptime_ms)),
        // Of an earlier boot: what its clock of the day said, if it knew.
        None if sample.unix_ms > 0 => sample.unix_ms.min(now.wall_ms),
        None => now.wall_ms,
    }
}

impl Engine {
    pub(super) fn on_samples(&mut self, now: Now, index: u32, talk: Talk, body: &[u8]) {
        let Ok(samples) = Samples::decode(body) else {
            self.messages_refused += 1;
            return;
        };
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let told = device.observed.told.get_or_insert_default();
        if !told.frames.take(now.monotonic, SAMPLES_PER_SECOND, SAMPLES_BURST) {
            // Of alarms nothing is lost: they are not said to be taken, so that they come again.
            self.samples.dropped += u64::from(samples.fixed.count);
            self.messages_refused += 1;
            return;
        }
        let fixed = samples.fixed;
        let stream = match fixed.class {
            Class::Alarm => Stream::Ring(fixed.stream),
            Class::State | Class::Metric => Stream::Boot(talk.boot),
        };
        let tally = &mut told.tallies[at(fixed.class)];
        let unknown = tally.ends_unknown;
        tally.begin(stream, fixed.first, fixed.lost);
        if tally.ends_unknown != unknown && fixed.class == Class::State {
            told.forget_order();
        }
        for sample in samples.records() {
            self.on_sample(now, index, &fixed, &sample);
        }
        let Some(told) = self.state.devices.get_mut(index).and_then(|device| device.observed.told.as_mut()) else {
            return;
        };
        let tally = &mut told.tallies[at(fixed.class)];
        tally.settle(fixed.first);
        let taken = Taken { stream: fixed.stream, sequence: tally.whole() };
        if fixed.class == Class::Alarm {
            self.say_taken(index, talk, &taken);
        }
        self.touch_device(now, index);
    }

    fn on_sample(&mut self, now: Now, index: u32, fixed: &SamplesFixed, sample: &Sample<'_>) {
        let has_room = self.samples.kept < SAMPLES_KEPT_MAX;
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let name = device.keys.name.clone();
        let Some(told) = device.observed.told.as_mut() else { return };
        if !told.tallies[at(fixed.class)].take(sample.sequence) {
            return;
        }
        let time_ms = time_of(now, fixed, sample);
        let point = Point { time_ms, sequence: sample.sequence, value: Kept::of(sample.value) };
        let key: Key = (sample.workload.0, sample.component, sample.key.into());
        let is_told =
            fixed.class == Class::Alarm && told.alarm_events.take(now.monotonic, ALARMS_PER_SECOND, ALARMS_BURST);
        let grown = told.keep(fixed.class, key.clone(), point.clone(), has_room);
        self.samples.kept = self.samples.kept.saturating_add_signed(grown);
        self.samples.received[at(fixed.class)] += 1;
        let Some(line) = self.sample_line(&name, fixed.class, &key, &point) else { return };
        for follower in self.followers.values_mut() {
            if matches!(&follower.interest, Interest::Samples { device } if *device == name) {
                follower.push(StreamItem::Sample(line.clone()));
            }
        }
        let workload = self.state.workloads.get(&sample.workload.0).cloned();
        if let Some(workload) = workload.filter(|_| is_told) {
            let text = format!("{}: {}", line.key, line.value);
            self.tell(now, Draft::warning("Alarm", &workload, text).on(&name));
        }
    }

    fn say_taken(&mut self, index: u32, talk: Talk, taken: &Taken) {
        let Some(device) = self.state.devices.get(index) else { return };
        let Some(pair) = &device.pair else { return };
        let fleet = &self.state.fleet_name;
        let context = LiveContext { fleet, device: device.id(), boot: talk.boot, session: talk.session };
        let frame = live_frame(pair, &context, taken, TAKEN_BYTES_MAX);
        if let (Some(frame), Ok(topic)) = (frame, Topic::Down(device.id(), Down::Command).print(fleet)) {
            self.publish(topic.as_str().to_owned(), frame, false);
        }
    }

    /// What a Hello says of losses, which may begin a boot.
    pub(super) fn hear_losses(&mut self, index: u32, boot: wire::BootId, lost: &wire::hello::LossCounters) {
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let Some(told) = device.observed.told.as_mut() else { return };
        let stream = Stream::Boot(boot);
        let unknown = told.tallies[at(Class::State)].ends_unknown;
        told.tallies[at(Class::State)].device_lost(stream, lost.states);
        told.tallies[at(Class::Metric)].device_lost(stream, lost.metrics);
        told.tallies[at(Class::Alarm)].device_lost_of_ring(lost.alarms);
        if told.tallies[at(Class::State)].ends_unknown != unknown {
            told.forget_order();
        }
    }

    fn sample_line(&self, device: &str, class: Class, key: &Key, point: &Point) -> Option<SampleLine> {
        let (workload, component, name) = key;
        let object = self.state.workloads.get(workload)?;
        Some(SampleLine {
            time_ms: point.time_ms,
            device: device.to_owned(),
            workload: format!("{}/{}", object.namespace, object.name),
            component: self.component_name(object, *component),
            class: class.name().to_owned(),
            key: name.to_string(),
            value: point.value.shown(),
        })
    }

    /// Everything that is kept of a device, oldest first.
    fn sample_lines(&self, name: &str, told: &Told, key: Option<&str>) -> Vec<SampleLine> {
        let is_wanted = |name: &str| key.is_none_or(|wanted| wanted == name);
        let alarms = told.alarms.iter().filter(|((_, _, name), _)| is_wanted(name));
        let alarms = alarms.filter_map(|(key, point)| self.sample_line(name, Class::Alarm, key, point));
        let others = told.keys.iter().filter(|((_, (_, _, name)), _)| is_wanted(name));
        let others = others.flat_map(|((class, key), points)| {
            points.iter().filter_map(|point| self.sample_line(name, *class, key, point))
        });
        let mut lines: Vec<SampleLine> = alarms.chain(others).collect();
        lines.sort_by_key(|line| line.time_ms);
        lines
    }

    /// The account and the latest values, for the status of a device.
    pub(super) fn sample_status(&self, name: &str, told: Option<&Told>) -> (Vec<ClassAccount>, Vec<SampleLine>) {
        let Some(told) = told else { return (Vec::new(), Vec::new()) };
        let latest =
            told.keys.iter().filter_map(|((class, key), points)| self.sample_line(name, *class, key, points.back()?));
        (told.accounts(), latest.take(LATEST_SHOWN_MAX).collect())
    }

    pub(super) fn samples_request(
        &mut self,
        ticket: Ticket,
        name: &str,
        key: Option<&str>,
        tail: usize,
        follow: Follow,
    ) {
        let device = self.state.devices.index_named(name).and_then(|index| self.state.devices.get(index));
        let result = match device {
            None => Err(self.missing(&ObjectKey::device(name))),
            Some(_) if follow == Follow::Follow && self.followers.len() >= FOLLOWERS_MAX => {
                Err(problem::busy(&format!("{FOLLOWERS_MAX} streams are followed already, the most at one time")))
            }
            Some(device) => {
                let told = device.observed.told.as_deref();
                let mut lines = told.map(|told| self.sample_lines(name, told, key)).unwrap_or_default();
                let surplus = lines.len().saturating_sub(tail.min(TAIL_MAX));
                lines.drain(..surplus);
                Ok(Answer::Samples { lines, accounts: told.map(Told::accounts).unwrap_or_default() })
            }
        };
        if result.is_ok() && follow == Follow::Follow {
            self.followers.insert(ticket, Follower::new(Interest::Samples { device: name.to_owned() }));
        }
        self.effects.push_back(Effect::Answer { ticket, result });
    }

    /// Devices that were deleted took theirs with them.
    pub(super) fn samples_sweep(&mut self) {
        let told = self.state.devices.iter().filter_map(|(_, device)| device.observed.told.as_deref());
        self.samples.kept = told.map(Told::kept).sum();
    }
}

/// Of all devices.
#[derive(Debug, Default)]
pub(super) struct SampleTotals {
    pub kept: usize,
    /// Alarms, states, metrics.
    pub received: [u64; 3],
    /// Beyond the rate of their device.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(time_ms: u64, sequence: u32) -> Point {
        Point { time_ms, sequence, value: Kept::Number(1, 0) }
    }

    fn key(name: &str) -> Key {
        (1, 0, name.into())
    }

    #[test]
    fn windows_alarms_and_keys_are_bounded() {
        let mut told = Told::default();
        for (count, kept) in [(SAMPLE_VALUES_MAX - 1, 0), (SAMPLE_VALUES_MAX, 0), (SAMPLE_VALUES_MAX + 1, 1)] {
            let mut told = Told::default();
            let grown: isize = (0..count).map(|n| told.keep(Class::Metric, key("t"), point(n as u64, 1), true)).sum();
            assert_eq!((told.kept(), grown), (count - kept, (count - kept) as isize));
        }
        for n in 0..=SAMPLE_ALARMS_MAX {
            told.keep(Class::Alarm, key("a"), point(n as u64, n as u32), true);
        }
        assert_eq!((told.alarms.len(), told.alarms[0].1.sequence), (SAMPLE_ALARMS_MAX, 1));
        for n in 0..=SAMPLE_KEYS_MAX {
            told.keep(Class::State, key(&format!("k{n}")), point(n as u64, 1), true);
        }
        assert_eq!(told.keys.len(), SAMPLE_KEYS_MAX);
        assert!(!told.keys.contains_key(&(Class::State, key("k0"))), "the one that was silent longest");
    }

    #[test]
    fn without_room_a_value_replaces_one_of_its_key_and_a_new_key_is_not_kept() {
        let mut told = Told::default();
        assert_eq!(told.keep(Class::Metric, key("t"), point(1, 1), true), 1);
        assert_eq!(told.keep(Class::Metric, key("t"), point(2, 2), false), 0);
        assert_eq!(told.keep(Class::State, key("new"), point(2, 2), false), 0);
        assert_eq!(told.keep(Class::Alarm, key("a"), point(2, 2), false), 0);
        assert_eq!((told.kept(), told.keys[&(Class::Metric, key("t"))][0].sequence), (1, 2));
    }

    #[test]
    fn an_older_state_that_comes_later_does_not_count_and_metrics_are_in_order_of_time() {
        let mut told = Told::default();
        told.keep(Class::State, key("door"), point(5, 9), true);
        assert_eq!(told.keep(Class::State, key("door"), point(4, 8), true), 0);
        assert_eq!(told.keys[&(Class::State, key("door"))][0].sequence, 9);
        told.forget_order();
        told.keep(Class::State, key("door"), point(6, 1), true);
        assert_eq!(told.keys[&(Class::State, key("door"))][0].sequence, 1);
        for time in [30, 10, 20] {
            told.keep(Class::Metric, key("t"), point(time, 1), true);
        }
        let times: Vec<u64> = told.keys[&(Class::Metric, key("t"))].iter().map(|point| point.time_ms).collect();
        assert_eq!(times, [10, 20, 30]);
    }
}
