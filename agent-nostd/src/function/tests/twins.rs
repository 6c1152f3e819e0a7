//! The threshold in Rust and its twin in C: whatever both are given, they log, emit and keep the same.
//!
//! So two languages that share nothing but the ABI check each other: parsing, arithmetic, quotas and what happens after faults.

use super::super::{Activation, Capabilities, EmitError, Instance, Limits, Module, Outcome};
use super::common::{World, run};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

const RUST: &[u8] = include_bytes!("../../../../functions/threshold/threshold.wasm");
const C: &[u8] = include_bytes!("../../../../functions/c/threshold/threshold.wasm");
/// Configurations; each gets `EVENTS` readings.
const ROUNDS: u64 = 400;
const EVENTS: usize = 30;

/// A generator of numbers: xorshift64*, so that a seed names a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    fn text(&mut self, alphabet: &str, max: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..self.roll(max + 1)).map(|_| letters[self.roll(letters.len())]).collect()
    }

    /// A number as people, machines and enemies write it.
    fn number(&mut self) -> String {
        match self.roll(6) {
            0 => self.one(&["30", "28", "29.9999995", "29.9999994", "28.0000005", "27.999999", "0", "-0"]).to_string(),
            1 => format!("{}.{}", self.roll(40), self.text("0123456789", 9)),
            2 => format!("{}{}", self.one(&["", "-", "+"]), self.text("0123456789", 22)),
            3 => format!(
                "{}{}.{}{}{}",
                self.one(&["", "-", "+"]),
                self.text("0123456789", 4),
                self.text("05", 8),
                self.one(&["", "e", "E", "e-", "e+"]),
                self.text("0123 ", 5)
            ),
            4 => format!(
                "{}{}{}",
                self.one(&[" ", "\t", "\u{c}", "\u{b}"]),
                self.roll(60),
                self.one(&["\n", "\r\n", " "])
            ),
            _ => self.text("0123456789.-+eE, ", 12),
        }
    }

    /// Mostly of the kind that the configuration asks for.
    fn reading(&mut self, field: &str, is_object: bool) -> Vec<u8> {
        let number = self.number();
        match self.roll(8) {
            0..=3 if !is_object => number.into_bytes(),
            0 => number.into_bytes(),
            1..=3 => format!("{{\"{field}\":{number}}}").into_bytes(),
            4 => format!("{{ \"a\" : [1,{{\"{field}\":9}},\"\\\"}}\"], \"{field}\" :{number} , \"z\":{number}}}")
                .into_bytes(),
            5 => self.text("{}[]:,\"\\c1 \u{e9}", 40).into_bytes(),
            6 => {
                let bytes = self.roll(40) + 490;
                let mut long = format!("{{\"{field}\":{number},\"x\":\"").into_bytes();
                long.resize(bytes, b'x');
                long.extend(b"\"}");
                long
            }
            _ => (0..self.roll(24)).map(|_| u8::try_from(self.roll(256)).unwrap()).collect(),
        }
    }

    /// Most are good, or good but for one entry.
    fn config(&mut self, field: &str) -> String {
        let mut entries = Vec::new();
        if self.roll(12) > 0 {
            entries.push(format!("high{}30", self.one(&["=", " = ", "=\t"])));
        }
        if self.roll(3) > 0 {
            let low = if self.roll(8) == 0 { self.number() } else { "28".to_string() };
            entries.push(format!("low={low}"));
        }
        if self.roll(2) == 0 {
            entries.push(format!("field={field}"));
        }
        if self.roll(3) == 0 {
            let longest = "t".repeat(self.roll(70));
            let topic = self.one(&["hot", "a/b", "", "#", "a//b", "$x", &longest]).to_string();
            entries.push(format!("topic={topic}"));
        }
        match self.roll(10) {
            0 => entries.push(self.text("highlowfieldtopic=;# 1.", 30)),
            1 => entries.push(format!("# {}", "x".repeat(self.roll(260)))),
            2 => entries.push(format!("high={}", self.number())),
            3 => entries.push(format!("field={}", "f".repeat(30 + self.roll(5)))),
            _ => {}
        }
        for at in (1..entries.len()).rev() {
            entries.swap(at, self.roll(at + 1));
        }
        entries.join(self.one(&[";", "\n", " ;\r\n", ";;"]))
    }

    /// Some of the limits become tight.
    fn limits(&mut self) -> Limits {
        let mut limits = if self.roll(2) == 0 { Limits::LINUX } else { Limits::MCU };
        match self.roll(8) {
            0 => limits.host_calls_per_activation = u32::try_from(self.roll(6)).unwrap(),
            1 => limits.log_bytes_per_activation = u32::try_from(self.roll(80)).unwrap(),
            2 => limits.emit_bytes_per_activation = u32::try_from(self.roll(16)).unwrap(),
            3 => limits.state_bytes = u32::try_from(self.roll(5)).unwrap(),
            4 => limits.log_line_bytes = u32::try_from(self.roll(60)).unwrap(),
            _ => {}
        }
        limits
    }
}

/// One of the twins, with its world.
struct Twin {
    module: Module,
    instance: Instance,
    world: World,
}

impl Twin {
    fn new(bytes: &[u8], limits: &Limits, config: &str) -> Self {
        let module = Module::load(bytes, limits, Capabilities::EMIT | Capabilities::STATE).unwrap();
        let instance = Instance::load(&module).unwrap();
        let world = World { config: config.as_bytes().to_vec(), ..World::default() };
        Self { module, instance, world }
    }

    /// Everything that can be seen of it, but for the fuel.
    fn act(&mut self, activation: Activation<'_>) -> String {
        let outcome = match run(&mut self.instance, activation, &mut self.world) {
            Outcome::Done { .. } => String::from("done"),
            Outcome::Trapped { cause, .. } => {
                self.restart();
                format!("trapped: {cause}")
            }
            other => format!("{other:?}"),
        };
        let (logs, emits) = (core::mem::take(&mut self.world.logs), core::mem::take(&mut self.world.emits));
        let (state, commits) = (&self.world.state, self.world.commits);
        format!(
            "{outcome} {:?} {emits:?} {state:?} {commits}",
            logs.iter().map(|(l, t)| (l, String::from_utf8_lossy(t))).collect::<Vec<_>>()
        )
    }

    fn restart(&mut self) {
        self.instance = Instance::load(&self.module).unwrap();
    }
}

/// What happened in a whole run, to be sure that the inputs were worth something.
#[derive(Debug, Default)]
struct Seen {
    on: u32,
    off: u32,
    ignored: u32,
    refused_configs: u32,
    failures: u32,
}

impl Seen {
    fn note(&mut self, did: &str) {
        self.on += u32::from(did.contains("[111, 110])]"));
        self.off += u32::from(did.contains("[111, 102, 102])]"));
        self.ignored += u32::from(did.contains("without a number"));
        self.refused_configs += u32::from(did.contains("configuration is refused"));
        self.failures +=
            u32::from(did.contains("trapped") || did.contains("nothing was emitted") || did.contains("again"));
    }
}

#[test]
fn the_thresholds_of_rust_and_c_are_one() {
    let mut seen = Seen::default();
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let field = dice.one(&["c", "celsius", "\u{e9}", "a b", ""]);
        let (config, limits) = (dice.config(field), dice.limits());
        let mut twins = [RUST, C].map(|bytes| Twin::new(bytes, &limits, &config));
        let mut both = |what: &str, act: &mut dyn FnMut(&mut Twin) -> String| {
            let [rust, c] = &mut twins;
            let (rust, c) = (act(rust), act(c));
            assert_eq!(rust, c, "seed {seed}, config {config:?}, {what}");
            seen.note(&rust);
        };
        both("start", &mut |twin| twin.act(Activation::Start));
        for _ in 0..EVENTS {
            let payload = dice.reading(field, config.contains("field="));
            let what = format!("event {:?}", String::from_utf8_lossy(&payload));
            let refuses = [None, None, None, None, Some(EmitError::Quota), Some(EmitError::Topic)][dice.roll(6)];
            let fails = dice.roll(40) == 0;
            if dice.roll(12) == 0 {
                both("restart", &mut |twin| {
                    twin.restart();
                    twin.act(Activation::Start)
                });
            }
            both(&what, &mut |twin| {
                (twin.world.emit_refuses, twin.world.commit_fails) = (refuses, fails);
                let did = twin.act(Activation::Event { topic: "in", payload: &payload });
                (twin.world.emit_refuses, twin.world.commit_fails) = (None, false);
                did
            });
            if fails {
                both("start after a fault", &mut |twin| {
                    twin.restart();
                    twin.act(Activation::Start)
                });
            }
        }
    }
    let Seen { on, off, ignored, refused_configs, failures } = seen;
    assert!(
        on > 300 && off > 150 && ignored > 1_000 && refused_configs > 50 && failures > 100,
        "{on} {off} {ignored} {refused_configs} {failures}"
    );
}

#[test]
fn flags_of_the_state_that_are_none_are_off_for_both() {
    for flag in [vec![], vec![0], vec![2], vec![1, 0]] {
        let [rust, c] = [RUST, C].map(|bytes| {
            let mut twin = Twin::new(bytes, &Limits::MCU, "high=1");
            twin.world.state.insert(b"on".to_vec(), flag.clone());
            twin.act(Activation::Start);
            twin.act(Activation::Event { topic: "in", payload: b"5" })
        });
        assert_eq!(rust, c);
        assert!(rust.contains("[111, 110]"), "{rust}");
    }
}
