//! One module, three devices: whatever the sample functions are given, an emulated Cortex-M, an emulated RISC-V and Linux hear the
//! same answers, from the same bytes.
//!
//! A module beside them plays the stage on each device: it emits a script to `local/feed/...`, one message at each tick, and logs
//! what it hears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use tests::harness::mixed::{Mixed, all_devices};
use tests::harness::{Workload, wait_until};

/// What every function is given that asked for it, in this order.
const SCRIPT: [(&str, &str); 20] = [
    ("local/feed/t", "29.5"),
    ("local/feed/t", "30"),
    ("local/feed/at", "50.1,8.6"),
    ("local/feed/t", "31.25"),
    ("local/feed/t", "28"),
    ("local/feed/t", "27.999999"),
    ("local/feed/at", "{\"latitude\":50.2,\"longitude\":8.8}"),
    ("local/feed/t", "warm"),
    ("local/feed/t", "-3"),
    ("local/feed/at", "50.3,8.6"),
    ("local/feed/t", "99999999999999999999"),
    ("local/feed/t", "1000000000"),
    ("local/feed/at", "nowhere"),
    ("local/feed/t", "0.001"),
    ("local/feed/t", "-0.5"),
    ("local/feed/at", "50.15,8.55"),
    ("local/feed/probe", "what is there"),
    ("local/feed/t", ""),
    ("local/feed/t", "30.000"),
    (END, ""),
];
const END: &str = "local/out/end";

/// A sample, and how it is run. It emits to `local/out/<name>` where it can be told to.
struct Sample {
    name: &'static str,
    module: &'static [u8],
    config: &'static str,
    topics: &'static [&'static str],
    /// It has a timer, and says more than is compared: so many words count.
    timed: Option<usize>,
    /// What it measures and raises, and how often.
    tells: &'static [(&'static str, usize)],
}

impl Sample {
    /// Whether that was said which does not follow from the script alone.
    fn is_heard(&self, transcript: &Transcript) -> bool {
        let count = |what: &str| transcript[&format!("{} {what}", self.name)].len();
        // What is told to the hub comes in its own time.
        let is_told = self.tells.iter().all(|(key, all)| count(key) == *all);
        is_told
            && match self.timed {
                Some(all) => count("answers").max(count("says")) == all,
                // Its answers come back from the hub.
                None => self.name != "probe" || transcript["of the probe"].len() == 2,
            }
    }
}

macro_rules! module {
    ($path:literal) => {
        include_bytes!(concat!("../../functions/", $path, ".wasm"))
    };
}

const READINGS: &[&str] = &["local/feed/t"];

const HELLO: Sample =
    Sample { name: "hello", module: module!("hello/hello"), config: "here", topics: &[], timed: Some(3), tells: &[] };
const BLINK: Sample = Sample {
    name: "blink",
    module: module!("c/blink/blink"),
    config: "local/out/blink",
    topics: &[],
    timed: Some(4),
    tells: &[],
};
const COUNTER: Sample = Sample {
    name: "counter",
    module: module!("counter/counter"),
    config: "topic=local/out/counter",
    topics: &["local/feed/#"],
    timed: None,
    tells: &[],
};
const GEOFENCE: Sample = Sample {
    name: "geofence",
    module: module!("geofence/geofence"),
    config: "fence=50.0,8.5 50.2,8.5 50.2,8.8 50.0,8.8; topic=local/out/geofence",
    topics: &["local/feed/at"],
    timed: None,
    tells: &[],
};
const ROLLING: Sample = Sample {
    name: "rolling",
    module: module!("rolling/rolling"),
    config: "window=3; topic=local/out/rolling",
    topics: READINGS,
    timed: None,
    tells: &[],
};
const THRESHOLD: Sample = Sample {
    name: "threshold",
    module: module!("threshold/threshold"),
    config: "high=30; low=28; topic=local/out/threshold",
    topics: READINGS,
    timed: None,
    tells: &[],
};
const C_THRESHOLD: Sample = Sample {
    name: "c-threshold",
    module: module!("c/threshold/threshold"),
    config: "high=30; low=28; topic=local/out/c-threshold",
    topics: READINGS,
    timed: None,
    tells: &[],
};
const GAUGE: Sample = Sample {
    name: "gauge",
    module: module!("c/gauge/gauge"),
    config: "30",
    topics: READINGS,
    timed: None,
    tells: &[("value", 9), ("high", 3)],
};
/// Says `answers` to the hub, not here: all that a function can ask, but for the time.
const PROBE: Sample = Sample {
    name: "probe",
    module: module!("c/probe/probe"),
    config: "configured",
    topics: &["local/feed/probe"],
    timed: None,
    tells: &[],
};

const ALL: [&Sample; 9] = [&HELLO, &BLINK, &COUNTER, &GEOFENCE, &ROLLING, &THRESHOLD, &C_THRESHOLD, &GAUGE, &PROBE];

/// Needs pins that only one of the boards has: `tests/pins.rs`.
const OF_PINS: &[u8] = module!("c/frost/frost");

/// Every module that this version ships is one of them.
fn assert_none_is_forgotten() {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    let list = std::fs::read_to_string(functions.join("built.txt")).unwrap();
    let shipped: Vec<_> = list.lines().filter_map(|line| line.split_once(".wasm: ")).collect();
    assert!(shipped.len() > ALL.len(), "{list}");
    for (path, _) in shipped {
        let module = std::fs::read(functions.join(path).with_extension("wasm")).unwrap();
        assert!(ALL.iter().any(|sample| sample.module == module) || module == OF_PINS, "{path} is not compared");
    }
}

/// The stage. Its memory: the table of the script, its texts, and from 4096 on what it hears.
fn stage() -> Vec<u8> {
    const TEXTS: usize = 512;
    let (mut table, mut texts) = (Vec::new(), Vec::new());
    for (topic, payload) in SCRIPT {
        for text in [topic, payload] {
            table.extend(((TEXTS + texts.len()) as u16).to_le_bytes());
            table.extend((text.len() as u16).to_le_bytes());
            texts.extend(text.bytes());
        }
    }
    assert!(table.len() <= TEXTS && TEXTS + texts.len() <= 4096);
    let data = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").unwrap();
            text
        })
    };
    let text = format!(
        r#"(module
        (@custom "fulmar.abi" "\01")
        (import "fulmar" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
        (import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
        (import "fulmar" "input_read" (func $payload (param i32 i32 i32) (result i32)))
        (import "fulmar" "input_topic_read" (func $topic (param i32 i32 i32) (result i32)))
        (memory (export "memory") 8192 8192 (pagesize 0x1))
        (data (i32.const 0) "{}")
        (data (i32.const {TEXTS}) "{}")
        (global $step (mut i32) (i32.const 0))
        (func (export "fulmar_timer") (local $at i32)
            (if (i32.ge_u (global.get $step) (i32.const {})) (then (return)))
            (local.set $at (i32.mul (global.get $step) (i32.const 8)))
            (global.set $step (i32.add (global.get $step) (i32.const 1)))
            (drop (call $emit
                (i32.load16_u (local.get $at)) (i32.load16_u offset=2 (local.get $at))
                (i32.load16_u offset=4 (local.get $at)) (i32.load16_u offset=6 (local.get $at)))))
        (func $digit (param $value i32) (result i32)
            (i32.add (local.get $value)
                (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $value) (i32.const 10)))))
        (func $hex (param $from i32) (param $count i32) (local $to i32)
            (local.set $to (i32.const 6144))
            (loop $next
                (i32.store8 (local.get $to)
                    (call $digit (i32.shr_u (i32.load8_u (local.get $from)) (i32.const 4))))
                (i32.store8 offset=1 (local.get $to)
                    (call $digit (i32.and (i32.load8_u (local.get $from)) (i32.const 15))))
                (local.set $to (i32.add (local.get $to) (i32.const 2)))
                (local.set $from (i32.add (local.get $from) (i32.const 1)))
                (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                (br_if $next (local.get $count)))
            (drop (call $log (i32.const 2) (i32.const 6144) (i32.sub (local.get $to) (i32.const 6144)))))
        (func (export "fulmar_event") (local $end i32)
            (local.set $end (i32.add (i32.const 4096) (call $topic (i32.const 0) (i32.const 4096) (i32.const 96))))
            (if (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 97))
                (then
                    (drop (call $payload (i32.const 0) (i32.const 5120) (i32.const 256)))
                    (call $hex (i32.const 5120) (i32.const 96))
                    (call $hex (i32.const 5232) (i32.const 32))
                    (return)))
            (i32.store8 (local.get $end) (i32.const 32))
            (local.set $end (i32.add (local.get $end) (i32.const 1)))
            (local.set $end (i32.add (local.get $end) (call $payload (i32.const 0) (local.get $end) (i32.const 140))))
            (drop (call $log (i32.const 2) (i32.const 4096) (i32.sub (local.get $end) (i32.const 4096))))))"#,
        data(&table),
        data(&texts),
        SCRIPT.len(),
    );
    wat::parse_str(text).unwrap()
}

struct Site {
    mixed: Mixed,
    plays: u32,
}

/// What was heard and said on one device, by what it is.
type Transcript = BTreeMap<String, Vec<String>>;

impl Site {
    fn new() -> Self {
        Self { mixed: Mixed::new(), plays: 0 }
    }

    /// Plays the script to the samples on these devices, and leaves nothing behind. The transcripts, in the order of the devices.
    fn play(&mut self, samples: &[&Sample], devices: &[&str]) -> Vec<Transcript> {
        self.plays += 1;
        let stage_name = format!("stage-{}", self.plays);
        let on = json!({"on": devices});
        let workload = |name: &str| {
            let workload = Workload::new(name).placed(on.clone()).on_every_device().limits(json!({"memory": "8KiB"}));
            workload.may(&["log", "emit", "state", "random", "telemetry"])
        };
        for sample in samples {
            let made = workload(sample.name).config(sample.config);
            let made = if sample.timed.is_some() { made.every("200ms") } else { made.topics(sample.topics) };
            self.mixed.hub.deploy(&made, sample.module);
        }
        for sample in samples {
            self.mixed.wait_running(sample.name, devices.len());
        }
        // Whoever listens is there: let it begin.
        let made = workload(&stage_name).every("250ms").topics(&["local/out/#", "answers"]);
        self.mixed.hub.deploy(&made, &stage());
        self.mixed.wait_running(&stage_name, devices.len());
        let transcripts = wait_until("all devices have said all of it, and the same", || {
            let of = |device: &&str| self.transcript(samples, &stage_name, device);
            let transcripts: Vec<Transcript> = devices.iter().map(of).collect();
            let is_whole = |transcript: &Transcript| {
                transcript["the end"].len() == 1 && samples.iter().all(|sample| sample.is_heard(transcript))
            };
            let is_alike = transcripts.windows(2).all(|pair| pair[0] == pair[1]);
            if is_alike && transcripts.iter().all(is_whole) { Ok(transcripts) } else { Err(transcripts) }
        });
        let names: Vec<&str> = samples.iter().map(|sample| sample.name).chain([stage_name.as_str()]).collect();
        self.mixed.remove(&names);
        transcripts
    }

    fn transcript(&self, samples: &[&Sample], stage: &str, device: &str) -> Transcript {
        let heard = self.mixed.hub.lines_of(stage, device);
        let mut transcript = Transcript::new();
        for sample in samples {
            let topic = format!("local/out/{} ", sample.name);
            let mut answers: Vec<_> =
                heard.iter().filter_map(|line| line.strip_prefix(&topic)).map(str::to_owned).collect();
            let mut said = self.mixed.hub.lines_of(sample.name, device);
            if let Some(count) = sample.timed {
                // Its timer has its own beginning.
                let begin = answers.iter().position(|word| word == "on").unwrap_or(answers.len());
                answers.drain(..begin);
                answers.truncate(count);
                said.truncate(count);
            }
            transcript.insert(format!("{} answers", sample.name), answers);
            transcript.insert(format!("{} says", sample.name), said);
            for (key, _) in sample.tells {
                transcript.insert(format!("{} {key}", sample.name), self.told(device, key));
            }
        }
        let ends = heard.iter().filter(|line| line.starts_with(END));
        transcript.insert("the end".to_owned(), ends.cloned().collect());
        let of_probe = heard.iter().filter(|line| line.bytes().all(|byte| byte.is_ascii_hexdigit()));
        transcript.insert("of the probe".to_owned(), of_probe.cloned().collect());
        transcript
    }

    /// What a device measured or raised under a key, oldest first.
    fn told(&self, device: &str, key: &str) -> Vec<String> {
        let told = self.mixed.hub.get(&format!("/v1/devices/{device}/samples?tail=1000&key={key}"));
        told["items"].as_array().unwrap().iter().map(|item| item["value"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn every_sample_answers_on_two_boards_what_it_answers_on_linux() {
    assert_none_is_forgotten();
    let mut site = Site::new();
    let devices = all_devices();

    // As many at a time as the heap of a board holds beside the stage.
    let rust = site.play(&[&THRESHOLD, &HELLO], &devices).remove(0);
    assert_eq!(rust["threshold answers"], ["on", "off", "on", "off", "on"]);
    assert_eq!(rust["hello says"], [1, 2, 3].map(|run| format!("hello from here, run {run}")));
    let c = site.play(&[&C_THRESHOLD, &BLINK], &devices).remove(0);
    assert_eq!(c["c-threshold answers"], rust["threshold answers"]);
    assert_eq!(c["blink answers"], ["on", "off", "on", "off"]);
    let heard = site.play(&[&ROLLING, &COUNTER], &devices).remove(0);
    assert_eq!(heard["rolling answers"][2], r#"{"count":3,"mean":30.25,"min":29.5,"max":31.25}"#);
    let all: Vec<String> = (1..SCRIPT.len()).map(|number| number.to_string()).collect();
    assert_eq!(heard["counter answers"], all);
    let heard = site.play(&[&GEOFENCE, &GAUGE], &devices).remove(0);
    assert_eq!(heard["geofence answers"], ["enter", "leave", "enter"]);
    assert_eq!(heard["gauge value"], ["29.5", "30", "31.25", "28", "-3", "1000000000", "0.001", "-0.5", "30"]);
    assert_eq!(heard["gauge high"], ["the value is high"; 3]);

    // What it answers is told to the hub and comes back to all who listen: one device at a time.
    let mut answers = devices.iter().map(|device| site.play(&[&PROBE], &[device]).remove(0));
    let on_linux = answers.next().unwrap();
    answers.for_each(|on_board| assert_eq!(on_board, on_linux));
}
