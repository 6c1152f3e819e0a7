//! What a play shows of the samples and of functions that misbehave.
#![allow(clippy::unwrap_used)]

use super::super::args::{Class, Place};
use super::player::{Audience, Player, RUNS_MAX, Step};
use super::setup::{Setup, Triggers};
use super::world::Terms;
use super::{script, show};
use crate::exit::Exit;
use crate::failure::Failure;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const COUNTER: &[u8] = include_bytes!("../../../../functions/counter/counter.wasm");
const GAUGE: &[u8] = include_bytes!("../../../../functions/c/gauge/gauge.wasm");
const HELLO: &[u8] = include_bytes!("../../../../functions/hello/hello.wasm");
const PROBE: &[u8] = include_bytes!("../../../../functions/c/probe/probe.wasm");
const THRESHOLD: &[u8] = include_bytes!("../../../../functions/threshold/threshold.wasm");

#[derive(Default)]
struct Notes {
    steps: Vec<Step>,
    leaves: bool,
}

impl Audience for Notes {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        self.steps.push(step.clone());
        Ok(())
    }

    fn has_left(&self) -> bool {
        self.leaves
    }
}

fn setup(class: Class, config: &str) -> Setup {
    let place = Place { class, config: Some(config.to_owned()), fence: None, unheard: None, degraded: false };
    Setup::of(Path::new("function.wasm"), &place, "default").unwrap()
}

fn play_as(setup: &Setup, module: &[u8], text: &str) -> Vec<Value> {
    let mut notes = Notes::default();
    Player::new(setup, module, &mut notes).play(&script::parse("inputs.txt", text).unwrap()).unwrap();
    notes.steps.iter().map(show::document).collect()
}

fn play(module: &[u8], config: &str, text: &str) -> Vec<Value> {
    play_as(&setup(Class::Linux, config), module, text)
}

/// `do`, outcome and time of each step.
fn outline(steps: &[Value]) -> Vec<(&str, &str, u64)> {
    let text = |step: &'static str, value: &'_ Value| value[step].as_str().unwrap().to_owned().leak() as &str;
    steps.iter().map(|step| (text("do", step), text("outcome", step), step["atMs"].as_u64().unwrap())).collect()
}

/// A module whose timer runs this.
fn timer(code: &str) -> Vec<u8> {
    let text = format!(
        "(module (import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
           (import \"fulmar\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1) (data (i32.const 0) \"key\")
           (func (export \"fulmar_timer\") {code}) (@custom \"fulmar.abi\" \"\\01\"))"
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn threshold_says_changes_only_and_remembers_them_over_a_restart() {
    for class in Class::ALL {
        let setup = setup(class, "high=30;low=28;topic=hot");
        let steps = play_as(&setup, THRESHOLD, "event t 31\nevent t 29\nrestart\nevent t 31\nevent t 27\n");
        let emits: Vec<&Value> = steps.iter().map(|step| &step["emits"]).collect();
        let (on, off) = (json!([{"topic": "hot", "payload": "on"}]), json!([{"topic": "hot", "payload": "off"}]));
        assert_eq!(emits, [&json!([]), &on, &json!([]), &json!([]), &json!([]), &off]);
        assert_eq!(steps[1]["state"], json!([{"key": "on", "valueHex": "01"}]));
    }
}

#[test]
fn the_lines_of_a_play_are_a_promise() {
    let steps = play(COUNTER, "", "event door open\nrestart\nevent door \n");
    let lines: String = steps.iter().map(|step| format!("{step}\n")).collect();
    let golden = include_str!("golden.jsonl");
    assert_eq!(lines, golden);
    assert_eq!(play(COUNTER, "", "event door open\nrestart\nevent door \n"), steps, "the same each time");
}

#[test]
fn waits_have_the_ticks_that_are_due_and_time_starts_again_with_the_device() {
    let mut setup = setup(Class::Linux, "");
    setup.triggers = Triggers::Stated { every: Some(Duration::from_secs(2)), topics: Vec::new() };
    let steps = play_as(&setup, HELLO, "tick\nwait 5s\nrestart\nwait 1999ms\nwait 1ms\n");
    let outline = outline(&steps);
    let expected = [
        ("start", "NO_ENTRY", 0),
        ("tick", "DONE", 2_000),
        ("tick", "DONE", 4_000),
        ("tick", "DONE", 6_000),
        ("restart", "NO_ENTRY", 7_000),
        ("tick", "DONE", 9_000),
    ];
    assert_eq!(outline, expected);
    assert_eq!(steps[5]["logs"][0]["level"], "info");
    assert_eq!(steps[5]["line"], 5);
}

#[test]
fn clocks_and_random_bytes_are_the_same_in_every_play() {
    let answers = |steps: &[Value]| steps.iter().map(|step| step["emits"][1]["payloadHex"].clone()).collect::<Vec<_>>();
    let text = "wait 1s\nevent a x\nrestart\nwait 2s\nevent a x\n";
    let steps = play(PROBE, "north", text);
    assert_eq!(play(PROBE, "north", text), steps);
    let all = answers(&steps);
    let of = |answers: &Value, at: usize| {
        let digits = answers.as_str().unwrap().get(at * 16..at * 16 + 16).unwrap();
        u64::from_str_radix(digits, 16).unwrap().swap_bytes()
    };
    let events: Vec<&Value> = all.iter().filter(|answers| answers.is_string()).collect();
    let clocks: Vec<(u64, u64)> = events.iter().map(|answers| (of(answers, 12), of(answers, 13))).collect();
    // The monotonic clock is that of the boot; the wall clock goes on.
    assert_eq!(clocks, [(1_000_000, 1_767_225_601_000), (2_000_000, 1_767_225_603_000)]);
}

#[test]
fn what_fails_is_reported_as_a_device_reports_it_and_loaded_afresh() {
    let setting = "(drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 1)))";
    for (code, reason, detail) in [
        ("(loop (br 0))", "OUT_OF_FUEL", "out of fuel: an endless loop"),
        ("unreachable", "TRAPPED", "UNREACHABLE: it panicked"),
        ("(drop (i32.load (i32.const -1)))", "TRAPPED", "MEMORY_OUT_OF_BOUNDS: it used memory"),
    ] {
        let steps = play(&timer(&format!("{setting} {code}")), "", "tick\ntick\n");
        let outline: Vec<_> = outline(&steps).into_iter().map(|(verb, outcome, _)| (verb, outcome)).collect();
        let (start, again, tick) = (("start", "NO_ENTRY"), ("reload", "NO_ENTRY"), ("tick", "FAILED"));
        assert_eq!(outline, [start, tick, again, tick], "{code}");
        assert_eq!((&steps[1]["reason"], &steps[1]["state"]), (&json!(reason), &json!([])), "no state of half a run");
        assert!(steps[1]["detail"].as_str().unwrap().starts_with(detail), "{}", steps[1]);
    }
    let steps = play(&timer("(loop (br 0))"), "", "tick\n");
    assert!(steps[1]["fuel"].as_u64().unwrap() > 990_000 && steps[1]["slices"].as_u64().unwrap() >= 5, "{}", steps[1]);
}

#[test]
fn what_a_device_would_not_load_or_start_ends_the_play() {
    let mut strict = setup(Class::Linux, "");
    strict.granted = agent_nostd::function::Capabilities::NONE;
    let steps = play_as(&strict, COUNTER, "event a b\n");
    assert_eq!(outline(&steps), [("start", "FAILED", 0)]);
    assert_eq!(steps[0]["reason"], "LOAD_REFUSED");
    assert!(steps[0]["detail"].as_str().unwrap().starts_with("CAPABILITY_MISSING: "), "{}", steps[0]);
    let text = "(module (func (export \"fulmar_start\") unreachable) (func (export \"fulmar_timer\")) (@custom \"fulmar.abi\" \"\\01\"))";
    let steps = play(&wat::parse_str(text).unwrap(), "", "tick\n");
    assert_eq!((outline(&steps), &steps[0]["reason"]), (vec![("start", "FAILED", 0)], &json!("TRAPPED")));
}

#[test]
fn what_no_trigger_asks_for_or_is_too_long_is_not_delivered() {
    let mut stated = setup(Class::Linux, "");
    stated.triggers = Triggers::Stated { every: None, topics: vec!["door/#".to_owned()] };
    let long = "x".repeat(wire::limits::EVENT_BYTES_MAX);
    let text =
        format!("event window open\nevent door/1 {long}\nevent door/1 {long}x\nevent door/{} a\n", "y".repeat(200));
    let steps = play_as(&stated, COUNTER, &text);
    let outcomes: Vec<&str> = steps.iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["DONE", "NOT_DELIVERED", "DONE", "INPUT_TOO_LONG", "INPUT_TOO_LONG"]);
}

#[test]
fn a_function_that_is_taken_away_says_goodbye_and_can_come_back() {
    let text = "(module (import \"fulmar\" \"log\" (func $log (param i32 i32 i32) (result i32)))
        (memory (export \"memory\") 1) (data (i32.const 0) \"bye\") (func (export \"fulmar_timer\"))
        (func (export \"fulmar_stop\") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 3))))
        (@custom \"fulmar.abi\" \"\\01\"))";
    let steps = play(&wat::parse_str(text).unwrap(), "", "stop\nwait 10s\nrestart\ntick\n");
    let expected =
        [("start", "NO_ENTRY", 0), ("stop", "DONE", 0), ("restart", "NO_ENTRY", 10_000), ("tick", "DONE", 11_000)];
    assert_eq!(outline(&steps), expected);
    assert_eq!(steps[1]["logs"], json!([{"level": "info", "text": "bye"}]));
}

#[test]
fn a_job_is_over_when_it_has_started() {
    let mut job = setup(Class::Linux, "");
    job.role = hub::model::Role::Job;
    let steps = play_as(&job, COUNTER, "tick\nevent door open\nwait 1m\nrestart\n");
    let expected = [("start", "DONE", 0), ("tick", "OVER", 0), ("event", "OVER", 0), ("restart", "DONE", 60_000)];
    assert_eq!(outline(&steps), expected);
}

#[test]
fn a_play_has_an_end() {
    let setup = setup(Class::Linux, "");
    let module = timer("nop");
    let mut notes = Notes::default();
    let lines = script::parse("inputs.txt", "wait 365d\n").unwrap();
    let failure = Player::new(&setup, &module, &mut notes).play(&lines).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert_eq!(notes.steps.len() as u64, RUNS_MAX);
    // Whoever does not want to see the end of a long run leaves between two slices.
    let (mut notes, module) = (Notes { leaves: true, ..Notes::default() }, timer("(loop (br 0))"));
    let lines = script::parse("inputs.txt", "tick\n").unwrap();
    assert!(Player::new(&setup, &module, &mut notes).play(&lines).unwrap_err().is_silent());
}

#[test]
fn a_play_has_the_terms_that_were_asked_for() {
    let text = "(module
        (import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
        (import \"fulmar\" \"fence\" (func $fence (result i64)))
        (import \"fulmar\" \"freshness\" (func $freshness (result i64)))
        (import \"fulmar\" \"degraded\" (func $degraded (result i32)))
        (@custom \"fulmar.abi\" \"\\01\")
        (memory (export \"memory\") 1)
        (data (i32.const 0) \"t\")
        (func (export \"fulmar_timer\")
          (i64.store (i32.const 8) (call $fence))
          (i64.store (i32.const 16) (call $freshness))
          (i32.store (i32.const 24) (call $degraded))
          (drop (call $emit (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 20)))))";
    let module = wat::parse_str(text).unwrap();
    let told = |terms: Terms| {
        let mut notes = Notes::default();
        let setup = Setup { terms, ..setup(Class::Linux, "") };
        Player::new(&setup, &module, &mut notes).play(&script::parse("inputs.txt", "wait 1s\n").unwrap()).unwrap();
        let payload = notes.steps.last().unwrap().deeds.emits[0].1.clone();
        let wide = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
        (wide(0), wide(8), payload[16])
    };
    assert_eq!(told(Terms::default()), (0, 1000, 0));
    let fence = wire::id::Order::new(1, 7).unwrap().packed();
    let unheard = std::time::Duration::from_secs(3600);
    assert_eq!(told(Terms { fence, unheard, is_degraded: true }), (fence, 3_601_000, 1));
}

#[test]
fn a_play_shows_what_is_measured_reported_and_raised() {
    for class in Class::ALL {
        let steps = play_as(&setup(class, "21.5"), GAUGE, "event t 21.25\nevent t 22\n");
        assert_eq!(steps[1]["samples"], json!([{"class": "metric", "key": "value", "value": "21.25"}]));
        assert_eq!(
            steps[2]["samples"],
            json!([
                {"class": "metric", "key": "value", "value": "22"},
                {"class": "state", "key": "level", "text": "high"},
                {"class": "alarm", "key": "high", "text": "the value is high"},
            ])
        );
    }
}
