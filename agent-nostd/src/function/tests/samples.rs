//! The committed samples do what their sources say, with the limits of every class: W-rows apply to them as to any module.
//!
//! Every scenario runs twice, as on Linux and as on a microcontroller, and no activation of any of them may trap.

use super::super::abi::ERR_NOT_FOUND;
use super::super::{Activation, Capabilities, EmitError, Instance, Level, Limits, Module, Outcome};
use super::common::{ALL, World, run};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use proptest::prelude::*;

const BLINK: &[u8] = include_bytes!("../../../../functions/c/blink/blink.wasm");
const COUNTER: &[u8] = include_bytes!("../../../../functions/counter/counter.wasm");
const FROST: &[u8] = include_bytes!("../../../../functions/c/frost/frost.wasm");
const GAUGE: &[u8] = include_bytes!("../../../../functions/c/gauge/gauge.wasm");
const GEOFENCE: &[u8] = include_bytes!("../../../../functions/geofence/geofence.wasm");
const PROBE: &[u8] = include_bytes!("../../../../functions/c/probe/probe.wasm");
const ROLLING: &[u8] = include_bytes!("../../../../functions/rolling/rolling.wasm");
const THRESHOLD: &[u8] = include_bytes!("../../../../functions/threshold/threshold.wasm");

/// What the samples may do.
fn granted() -> Capabilities {
    Capabilities::EMIT | Capabilities::STATE | Capabilities::TELEMETRY
}

/// A sample on a device. Its world, the durable state in it, outlives the instance.
struct Device {
    bytes: &'static [u8],
    limits: Limits,
    instance: Instance,
    world: World,
}

impl Device {
    fn new(bytes: &'static [u8], limits: Limits, config: &str) -> Self {
        let instance = Instance::load(&Module::load(bytes, &limits, granted()).unwrap()).unwrap();
        let world = World { config: config.as_bytes().to_vec(), ..World::default() };
        let mut device = Self { bytes, limits, instance, world };
        device.activate(Activation::Start);
        device
    }

    /// On Linux and on a microcontroller.
    fn each(bytes: &'static [u8], config: &str) -> [Self; 2] {
        [Limits::LINUX, Limits::MCU].map(|limits| Self::new(bytes, limits, config))
    }

    /// A new instance in the same world: what a restart of the device leaves.
    fn restart(&mut self) {
        self.instance = Instance::load(&Module::load(self.bytes, &self.limits, granted()).unwrap()).unwrap();
        self.activate(Activation::Start);
    }

    fn activate(&mut self, activation: Activation<'_>) -> u64 {
        match run(&mut self.instance, activation, &mut self.world) {
            Outcome::Done { fuel_used } => fuel_used,
            Outcome::Ignored => 0,
            other => panic!("{activation:?}: {other:?}"),
        }
    }

    /// What an event makes it emit, as `topic payload`.
    fn event(&mut self, payload: impl AsRef<[u8]>) -> Vec<String> {
        self.activate(Activation::Event { topic: "in", payload: payload.as_ref() });
        self.emitted()
    }

    /// What a tick of the timer makes it emit.
    fn tick(&mut self) -> Vec<String> {
        self.activate(Activation::Timer);
        self.emitted()
    }

    fn emitted(&mut self) -> Vec<String> {
        let text = |(topic, payload): (String, Vec<u8>)| format!("{topic} {}", String::from_utf8(payload).unwrap());
        core::mem::take(&mut self.world.emits).into_iter().map(text).collect()
    }

    /// Log lines since the last look, with the level of the worst.
    fn said(&mut self) -> (Option<Level>, String) {
        let logs = core::mem::take(&mut self.world.logs);
        let worst = if logs.iter().any(|(level, _)| *level == Level::Error) {
            Some(Level::Error)
        } else {
            logs.first().map(|(level, _)| *level)
        };
        (worst, logs.into_iter().map(|(_, text)| String::from_utf8(text).unwrap()).collect::<Vec<_>>().join("\n"))
    }
}

/// Emitted at a step: nothing or one thing.
fn one(text: &str) -> Vec<String> {
    if text.is_empty() { vec![] } else { vec![text.to_string()] }
}

#[test]
fn samples_are_small_and_ask_for_no_more_than_they_use() {
    let both = Capabilities::EMIT | Capabilities::STATE;
    let told = Capabilities::TELEMETRY | Capabilities::STATE;
    let guarded = Capabilities::TELEMETRY | Capabilities::GPIO | Capabilities::I2C;
    for (name, bytes, needs, memory_bytes_max, entries) in [
        ("blink", BLINK, both, 2048, [false, false, true, false]),
        ("counter", COUNTER, both, 2048, [true, true, false, false]),
        ("frost", FROST, guarded, 2048, [false, false, true, false]),
        ("gauge", GAUGE, told, 2048, [false, true, false, false]),
        ("geofence", GEOFENCE, both, 6144, [true, true, false, false]),
        ("rolling", ROLLING, Capabilities::EMIT, 4096, [true, true, false, false]),
        ("threshold", THRESHOLD, both, 3072, [true, true, false, false]),
    ] {
        let info = Module::check(bytes, &Limits::MCU, ALL).unwrap();
        assert_eq!((info.needs, info.page_bytes), (needs, 1), "{name}");
        assert_eq!([info.entries[0], info.entries[1], info.entries[2], info.entries[3]], entries, "{name}");
        assert!(info.memory_bytes <= memory_bytes_max, "{name}: {info:?}");
        assert!(bytes.len() <= 10 * 1024, "{name}: {} bytes", bytes.len());
    }
}

#[test]
fn a_wrong_configuration_is_said_once_and_nothing_is_done() {
    for (bytes, config, why) in [
        (THRESHOLD, "", "high must be a number"),
        (THRESHOLD, "high=warm", "high must be a number"),
        (THRESHOLD, "high=1;low=x", "low must be a number"),
        (THRESHOLD, "high=1;low=2", "low must not be above high"),
        (THRESHOLD, "high=1;hihg=2", "unknown setting"),
        (THRESHOLD, "just a text", "unknown setting"),
        (ROLLING, "window=0", "window must be"),
        (ROLLING, "window=65", "window must be"),
        (ROLLING, "window=2.5", "window must be"),
        (ROLLING, "decimals=10", "decimals must be"),
        (GEOFENCE, "", "fence is missing"),
        (GEOFENCE, "fence=0,0 1,1", "on one line"),
        (GEOFENCE, "fence=0,0 1,1 3,3 2,2", "on one line"),
        (GEOFENCE, "fence=0,0 0,1 91,1", "not latitude,longitude"),
        (GEOFENCE, "fence=0,0 0,1 1", "not latitude,longitude"),
        (GEOFENCE, "fence=0,0 0,120 10,-120", "half way round"),
        (COUNTER, "name=x", "unknown setting"),
    ] {
        for mut device in Device::each(bytes, config) {
            let (level, text) = device.said();
            assert_eq!(level, Some(Level::Error), "{config}");
            assert!(text.contains("the configuration is refused: ") && text.contains(why), "{config}: {text}");
            assert_eq!(device.event("1,1"), one(""));
            assert_eq!(device.said(), (None, String::new()));
            assert!(device.world.state.is_empty());
        }
    }
    for (bytes, config) in [
        (THRESHOLD, format!("high=1;topic={}", "t".repeat(65))),
        (ROLLING, format!("field={}", "f".repeat(33))),
        (COUNTER, format!("# {}", "x".repeat(255))),
        (GEOFENCE, format!("fence={}", "1,2 ".repeat(33))),
        (GEOFENCE, "# ".repeat(513)),
    ] {
        assert_eq!(Device::new(bytes, Limits::MCU, &config).said().0, Some(Level::Error), "{config}");
    }
}

#[test]
fn threshold_says_changes_only_with_hysteresis() {
    for mut device in Device::each(THRESHOLD, "high=30; low=28; topic=house/hot") {
        for (reading, word) in [
            ("29.999999", ""),
            ("28", ""),
            ("30", "house/hot on"),
            ("31.5", ""),
            ("29", ""),
            ("28", ""),
            ("27.999999", "house/hot off"),
            ("28", ""),
            ("29.9", ""),
            ("-300", ""),
            ("3.0e1", "house/hot on"),
        ] {
            assert_eq!(device.event(reading), one(word), "{reading}");
        }
        assert_eq!(device.world.commits, 3, "only changes are written");
        assert_eq!(device.said(), (None, String::new()));
    }
}

#[test]
fn threshold_without_low_has_no_hysteresis() {
    for mut device in Device::each(THRESHOLD, "high = -1.5\n") {
        for (reading, word) in [("-1.5000004", "threshold on"), ("-1.500001", "threshold off"), ("0", "threshold on")] {
            assert_eq!(device.event(reading), one(word), "{reading}");
        }
    }
}

#[test]
fn threshold_does_not_repeat_itself_after_a_restart() {
    for mut device in Device::each(THRESHOLD, "high=30;low=28;field=celsius") {
        assert_eq!(device.event(r#"{"id":"a","celsius":30.0}"#), one("threshold on"));
        device.restart();
        assert_eq!(device.event(r#"{"celsius":33}"#), one(""));
        assert_eq!(device.event(r#"{"celsius":5}"#), one("threshold off"));
    }
}

#[test]
fn threshold_tries_again_what_could_not_be_emitted() {
    for mut device in Device::each(THRESHOLD, "high=30") {
        device.world.emit_refuses = Some(EmitError::Quota);
        assert_eq!(device.event("31"), one(""));
        assert_eq!(device.said(), (Some(Level::Warn), "nothing was emitted: a quota is used up".into()));
        device.world.emit_refuses = None;
        assert_eq!(device.event("31"), one("threshold on"));
        assert_eq!(device.event("31"), one(""));
    }
}

#[test]
fn readings_without_a_number_are_said_and_ignored() {
    let long = "1".repeat(513);
    for (bytes, config) in [(THRESHOLD, "high=0"), (ROLLING, ""), (GEOFENCE, "fence=0,0 0,1 1,0")] {
        for mut device in Device::each(bytes, config) {
            for reading in ["", "warm", "{}", "1e99", "--1", "\0\u{ff}", long.as_str()] {
                assert_eq!(device.event(reading), one(""), "{reading}");
                assert_eq!(device.said().0, Some(Level::Warn), "{reading}");
            }
        }
    }
}

#[test]
fn rolling_goes_over_the_last_values_only() {
    for mut device in Device::each(ROLLING, "window=3;decimals=2;topic=stats") {
        for (reading, count, mean, min, max) in [
            ("1", 1, "1", "1", "1"),
            ("2", 2, "1.5", "1", "2"),
            ("-4", 3, "-0.33", "-4", "2"),
            ("5.005", 3, "1", "-4", "5.01"),
            ("5", 3, "2", "-4", "5.01"),
            ("5", 3, "5", "5", "5.01"),
            ("0.01", 3, "3.34", "0.01", "5"),
        ] {
            let expected = format!(r#"stats {{"count":{count},"mean":{mean},"min":{min},"max":{max}}}"#);
            assert_eq!(device.event(reading), one(&expected), "{reading}");
        }
        device.restart();
        assert_eq!(device.event("7"), one(r#"stats {"count":1,"mean":7,"min":7,"max":7}"#));
        assert_eq!(device.world.commits, 0, "readings do not wear out the flash");
    }
}

#[test]
fn rolling_equals_plain_arithmetic_for_every_window() {
    for window in [1_usize, 2, 7, 63, 64] {
        for mut device in Device::each(ROLLING, &format!("window={window};decimals=0;field=v")) {
            let mut values: Vec<i64> = Vec::new();
            for i in 0..150_i64 {
                let value = i * i * 7919 % 20_011 - 10_000;
                values.push(value);
                let last = &values[values.len().saturating_sub(window)..];
                let (sum, count) = (last.iter().sum::<i64>(), i64::try_from(last.len()).unwrap());
                let mean = sum.signum() * ((2 * sum.abs() + count) / (2 * count));
                let (min, max) = (last.iter().min().unwrap(), last.iter().max().unwrap());
                let expected = format!(r#"rolling {{"count":{count},"mean":{mean},"min":{min},"max":{max}}}"#);
                assert_eq!(device.event(format!(r#"{{"v": {value}}}"#)), one(&expected));
            }
        }
    }
}

#[test]
fn rolling_takes_the_largest_values_without_overflow() {
    let max = i64::MAX / 256;
    for mut device in Device::each(ROLLING, "window=64;decimals=0") {
        for value in [max, -max] {
            for _ in 0..64 {
                device.event(value.to_string());
            }
            let expected = format!(r#"rolling {{"count":64,"mean":{value},"min":{value},"max":{value}}}"#);
            assert_eq!(device.event(value.to_string()), one(&expected));
        }
        assert_eq!(device.event((max + 1).to_string()), one(""));
        assert_eq!(device.said().0, Some(Level::Warn));
    }
}

#[test]
fn geofence_says_enter_and_leave_with_the_boundary_inside() {
    // A notch goes into the square from the east, to its middle.
    let fence = "fence=48,11 48,12 48.5,11.5 49,12 49,11";
    for mut device in Device::each(GEOFENCE, fence) {
        for (name, place, is_inside) in [
            ("far away", "0,0", false),
            ("inside", "48.5,11.2", true),
            ("a vertex", "48,11", true),
            ("just outside the vertex", "48,10.9999999", false),
            ("an edge", "48.3,11", true),
            ("just outside the edge", "47.9999999,11.5", false),
            ("the southern edge", "48,11.5", true),
            ("in the notch", "48.5,11.6", false),
            ("tip of the notch", "48.5,11.5", true),
            ("just past the tip", "48.5,11.5000001", false),
            ("slanted edge", "48.25,11.75", true),
            ("just above the slanted edge", "48.2500001,11.75", false),
            ("just below the slanted edge", "48.2499999,11.75", true),
            ("level with a vertex, east", "49,12.0000001", false),
            ("eastern vertex", "49,12", true),
            ("level with vertices, west", "49,10", false),
            ("northern edge", "49,11.0000001", true),
            ("north", "49.0000001,11.0000001", false),
            ("as JSON", r#"{"latitude":48.9,"longitude":11.1}"#, true),
            ("the pole", "90,11.5", false),
        ] {
            let was_inside = device.world.state.get(&b"inside"[..]).is_some_and(|flag| *flag == [1]);
            let word = match (was_inside, is_inside) {
                (false, true) => "geofence enter",
                (true, false) => "geofence leave",
                _ => "",
            };
            assert_eq!(device.event(place), one(word), "{name}");
        }
        assert_eq!(device.said(), (None, String::new()));
    }
}

#[test]
fn geofence_remembers_where_it_was_after_a_restart() {
    for mut device in Device::each(GEOFENCE, "topic=gate\nfence=-1,-1 -1,1 1,1 1,-1") {
        assert_eq!(device.event("0,0"), one("gate enter"));
        device.restart();
        assert_eq!(device.event("0,1"), one(""));
        assert_eq!(device.event("0,1.0000001"), one("gate leave"));
        assert_eq!(device.world.commits, 2);
    }
}

#[test]
fn geofence_lies_across_the_antimeridian_and_reaches_a_pole() {
    for mut device in Device::each(GEOFENCE, "fence=-18,179 -18,-179 -16,-179 -16,179") {
        for (place, word) in [
            ("-17,0", ""),
            ("-17,180", "geofence enter"),
            ("-17,-180", ""),
            ("-17,-179", ""),
            ("-17,-178.9999999", "geofence leave"),
            ("-17,179.5", "geofence enter"),
            ("-17,178.9", "geofence leave"),
        ] {
            assert_eq!(device.event(place), one(word), "{place}");
        }
    }
    for mut device in Device::each(GEOFENCE, "fence=60,0 60,10 90,5") {
        assert_eq!(device.event("90,-170"), one("geofence enter"));
        assert_eq!(device.event("89,-170"), one("geofence leave"));
    }
}

#[test]
fn the_largest_fence_fits_the_fuel_of_a_microcontroller() {
    let mut fence = String::from("fence=");
    for i in 0..16 {
        fence += &format!("-{}.7654321,-17{}.7654321 {}.1234567,17{}.1234567 ", 40 + i, i % 10, 40 + i, i % 10);
    }
    assert!(fence.len() <= 1024);
    let mut device = Device::new(GEOFENCE, Limits::MCU, &fence);
    assert_eq!(device.said(), (None, String::new()));
    let start = device.activate(Activation::Start);
    let event = device.activate(Activation::Event { topic: "in", payload: b"1.2345678,-179.2345678" });
    assert!(start < 200_000 && event < 20_000, "start {start}, event {event}");
}

/// Winding number of a closed outline around a point by quadrants, or none on the outline. Shares nothing with the sample.
fn winding(corners: &[(i64, i64)], point: (i64, i64)) -> Option<i64> {
    let quadrant = |(x, y): (i64, i64)| match (x > 0, y > 0, x < 0, y < 0) {
        (true, _, _, false) => 0,
        (false, true, _, _) => 1,
        (_, false, true, _) => 2,
        _ => 3_i64,
    };
    let mut quarters = 0;
    for (at, a) in corners.iter().enumerate() {
        let b = corners[(at + 1) % corners.len()];
        let (a, b) = ((a.0 - point.0, a.1 - point.1), (b.0 - point.0, b.1 - point.1));
        let turn = i128::from(a.0) * i128::from(b.1) - i128::from(a.1) * i128::from(b.0);
        if turn == 0 && i128::from(a.0) * i128::from(b.0) + i128::from(a.1) * i128::from(b.1) <= 0 {
            return None;
        }
        quarters += match (quadrant(b) - quadrant(a)).rem_euclid(4) {
            1 => 1,
            3 => -1,
            2 if turn > 0 => 2,
            2 => -2,
            _ => 0,
        };
    }
    Some(quarters / 4)
}

/// Whole 1e-7 degrees as a person would write them.
fn degrees(e7: i64) -> String {
    format!("{}{}.{:07}", if e7 < 0 { "-" } else { "" }, e7.abs() / 10_000_000, e7.abs() % 10_000_000)
}

/// Points of the plane, in 1e-7 degrees.
type Plane = Vec<(i64, i64)>;

/// Small grids put points on edges and corners all the time; large ones exercise the arithmetic.
fn outline_and_points() -> impl Strategy<Value = (Plane, Plane)> {
    prop_oneof![Just(3_i64), Just(10), Just(890_000_000)].prop_flat_map(|size| {
        let point = (-size..=size, -size..=size);
        (prop::collection::vec(point.clone(), 3..12), prop::collection::vec(point, 12))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn geofence_equals_the_winding_oracle(
        (corners, points) in outline_and_points(),
        east in prop_oneof![Just(0_i64), Just(10_000_000), Just(-9_000_000)],
    ) {
        let place = |point: &(i64, i64)| format!("{},{}", degrees(point.1), degrees(point.0 + east));
        let config = format!("fence={}", corners.iter().map(place).collect::<Vec<_>>().join(" "));
        let mut device = Device::new(GEOFENCE, Limits::LINUX, &config);
        let (level, text) = device.said();
        if level.is_some() {
            let turn = |p: &(i64, i64)| {
                let (a, b) = (corners[0], corners.iter().find(|c| **c != corners[0]).copied().unwrap_or(corners[0]));
                i128::from(b.0 - a.0) * i128::from(p.1 - a.1) - i128::from(b.1 - a.1) * i128::from(p.0 - a.0)
            };
            prop_assert!(text.contains("on one line") && corners.iter().all(|p| turn(p) == 0), "{}", text);
            return Ok(());
        }
        for point in points.iter().chain(&corners) {
            device.event(place(point));
            let is_inside = device.world.state.get(&b"inside"[..]).is_some_and(|flag| *flag == [1]);
            prop_assert_eq!(is_inside, winding(&corners, *point).is_none_or(|n| n % 2 != 0), "{:?}", point);
        }
    }

    #[test]
    fn no_event_and_no_configuration_makes_a_sample_trap(
        config in "(high|low|field|topic|window|decimals|fence|#| )?=?[-0-9., e;=\n]{0,40}",
        events in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..600),
                "[-0-9.eE,{}\": a]{0,40}".prop_map(String::into_bytes),
            ],
            1..6,
        ),
    ) {
        for bytes in [BLINK, COUNTER, GEOFENCE, ROLLING, THRESHOLD] {
            // A configuration that is good as a whole in front of the strange one lets events through.
            for config in [config.clone(), format!("high=1;{config}"), format!("fence=0,0 0,1 1,0;{config}")] {
                let mut device = Device::new(bytes, Limits::MCU, &config);
                for event in &events {
                    device.event(event);
                    device.tick();
                }
            }
        }
    }
}

#[test]
fn counter_goes_on_after_a_restart() {
    for mut device in Device::each(COUNTER, "") {
        assert_eq!(device.event("ding"), one("counter 1"));
        assert_eq!(device.event(""), one("counter 2"));
        device.restart();
        assert_eq!(device.event("dong"), one("counter 3"));
        device.world.state.insert(b"total".to_vec(), u64::MAX.to_le_bytes().to_vec());
        assert_eq!(device.event("dong"), one("counter 18446744073709551615"));
    }
}

#[test]
fn counter_does_not_count_what_is_not_durable() {
    for mut device in Device::each(COUNTER, "topic = door/total") {
        assert_eq!(device.event("ding"), one("door/total 1"));
        device.world.commit_fails = true;
        let event = Activation::Event { topic: "in", payload: b"dong" };
        assert!(matches!(run(&mut device.instance, event, &mut device.world), Outcome::Trapped { .. }));
        device.world.commit_fails = false;
        device.emitted();
        device.restart();
        assert_eq!(device.event("dong"), one("door/total 2"));
    }
}

#[test]
fn blink_of_c_alternates_and_goes_on_after_a_restart() {
    for mut device in Device::each(BLINK, "lamp/1\n") {
        assert_eq!(device.tick(), one("lamp/1 on"));
        assert_eq!(device.tick(), one("lamp/1 off"));
        assert_eq!(device.tick(), one("lamp/1 on"));
        device.restart();
        assert_eq!(device.tick(), one("lamp/1 off"));
        device.world.emit_refuses = Some(EmitError::Quota);
        assert_eq!(device.tick(), one(""));
        assert_eq!(device.said(), (Some(Level::Warn), "nothing was emitted".into()));
        device.world.emit_refuses = None;
        assert_eq!(device.tick(), one("lamp/1 on"));
        device.world.config.clear();
        assert_eq!(device.tick(), one("blink off"));
        device.world.config = vec![b'x'; 129];
        assert_eq!(device.tick(), one(""));
        assert_eq!(device.said().0, Some(Level::Error));
    }
}

#[test]
fn every_import_of_the_c_header_reaches_the_host() {
    for limits in [Limits::LINUX, Limits::MCU] {
        let info = Module::check(PROBE, &limits, Capabilities::DEFAULT).unwrap();
        assert_eq!(info.needs, Capabilities::DEFAULT);
        let module = Module::load(PROBE, &limits, Capabilities::DEFAULT).unwrap();
        let mut instance = Instance::load(&module).unwrap();
        let mut world =
            World { config: b"north".to_vec(), now_us: 5_000_000_000, wall_ms: Some(1 << 40), ..World::default() };
        let event = Activation::Event { topic: "in/a", payload: b"payload" };
        assert!(matches!(run(&mut instance, event, &mut world), Outcome::Done { .. }));
        assert_eq!((world.lines(), &world.emits[0]), (vec!["probing".into()], &("probe".into(), b"here".to_vec())));
        let (topic, answers) = &world.emits[1];
        let answers: Vec<_> = answers.chunks(8).map(|answer| i64::from_le_bytes(answer.try_into().unwrap())).collect();
        let not_found = i64::from(ERR_NOT_FOUND);
        assert_eq!(topic, "answers");
        assert_eq!(answers, [0, 0, 7, 5, 4, 3, 5, 2, not_found, 0, 5, 0, 5_000_000_001, 1 << 40, 16, 0, 0, 0]);
        let told = [("alarm", "hot", "too hot"), ("state", "door", "open"), ("metric", "t", "-215e-1")];
        assert_eq!(world.told, told.map(|(class, key, value)| (class, key.to_string(), value.to_string())));
        assert!(world.state.is_empty());
    }
}

#[test]
fn gauge_measures_all_and_raises_an_alarm_once_until_it_was_normal_again() {
    for mut device in Device::each(GAUGE, "21.5") {
        let feed = |device: &mut Device, payload: &str| {
            device.activate(Activation::Event { topic: "t", payload: payload.as_bytes() });
        };
        for payload in ["21.4", "21.5", "22", "-0.001", "21.50"] {
            feed(&mut device, payload);
        }
        device.restart();
        feed(&mut device, "30");
        let told: Vec<(&str, &str)> =
            device.world.told.iter().map(|(class, _, value)| (*class, value.as_str())).collect();
        let expected = [
            ("metric", "21400e-3"),
            ("metric", "21500e-3"),
            ("state", "high"),
            ("alarm", "the value is high"),
            ("metric", "22000e-3"),
            ("metric", "-1e-3"),
            ("state", "normal"),
            ("metric", "21500e-3"),
            ("state", "high"),
            ("alarm", "the value is high"),
            ("metric", "30000e-3"),
        ];
        assert_eq!(told, expected);
        let before = device.world.told.len();
        for payload in ["", "-", "x", "1.2345", "1e3", "99999999999999", "1234567890123456789012345"] {
            feed(&mut device, payload);
        }
        assert_eq!((device.world.told.len(), device.world.lines().len()), (before, 7));
    }
}

#[test]
fn frost_heats_between_its_degrees_and_never_by_a_thermometer_that_does_not_answer() {
    let module = Module::load(FROST, &Limits::MCU, ALL).unwrap();
    let mut instance = Instance::load(&module).unwrap();
    // The bus, and the output at a handle of its own.
    let pins = [(5, 0), (7, 0)].into_iter().collect();
    let mut world = World { config: b"5 72 7 3".to_vec(), pins, ..World::default() };
    let mut tick = |world: &mut World| {
        assert!(matches!(run(&mut instance, Activation::Timer, world), Outcome::Done { .. }));
        world.pins[&7]
    };
    // The answer of the bus here is 1 and 2 parts of 256: one degree and a bit.
    assert_eq!(tick(&mut world), 1);
    assert_eq!(world.transfers, [(5, 72, alloc::vec![0])]);
    let told = [("metric", "temperature", "1007e-3"), ("state", "heating", "on")];
    assert_eq!(world.told, told.map(|(class, key, value)| (class, key.to_string(), value.to_string())));
    // Between both: as it was. Two degrees above: off.
    for (least, level) in [("0", 1), ("-1", 0), ("0", 0), ("2", 1)] {
        world.config = format!("5 72 7 {least}").into_bytes();
        assert_eq!(tick(&mut world), level, "{least}");
    }
    // No bus under this handle, which is no thermometer either.
    world.config = b"9 72 7 3".to_vec();
    assert_eq!(tick(&mut world), 0);
    assert_eq!(world.lines(), ["the thermometer does not answer"]);
    for wrong in [
        "",
        "5",
        "5 72 7",
        "5 72 7 3 ",
        "5 72 7 x",
        "5  72 7 3",
        "5 72 7 100001",
        "5 72 7 3 00000000000000000000000000",
    ] {
        world.config = wrong.as_bytes().to_vec();
        let before = (world.transfers.len(), world.lines().len());
        tick(&mut world);
        assert_eq!((world.transfers.len(), world.lines().len()), (before.0, before.1 + 1), "{wrong}");
    }
}
