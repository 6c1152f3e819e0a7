//! Networks that fail, with real hubs, both brokers and real agents: each case of the fault matrix by its name.
//!
//! A minute of an outage takes a second here; the hub's durations are shortened to fit. Verdicts rest on what the roads let
//! through and when, never on what the hub says about them. In between, everything that functions said has to arrive, once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::harness::netns::{Loss, Network};
use tests::harness::proxy::{Cut, Door, Fate, Lane, Passage, Proxy, Rules, Step, Way};
use tests::harness::{Agent, Broker, Crowd, Hub, Mosquitto, Workload, program, wait_until};
use tests::sim::random::Random;

const HELLO: &[u8] = include_bytes!("../../functions/hello/hello.wasm");
const SECOND: Duration = Duration::from_secs(1);
/// The hub says within this what the road knows: a heartbeat and a half, the will's delay, and a loaded machine.
const TOLD_WITHIN: Duration = Duration::from_secs(15);
/// A dead link is noticed within one and a half of the devices' keep-alives (30 s).
const DEAD_WITHIN: Duration = Duration::from_secs(45);
/// How late a timer of a function may be counted.
const RUNS_SLACK: u64 = 6;

tests::on_both_brokers!(
    n2_n4_n5_n8_c5_c11_links_of_every_kind_lose_nothing_and_the_hub_says_what_the_network_knows,
    n3_c3_c4_a_pulled_cable_and_loss_one_way_are_noticed_and_healed,
    n6_n7_c1_c2_every_reconnect_is_clean_and_a_hub_or_broker_that_is_gone_is_not_missed,
);

/// Runs the cases side by side; each fails under its own name.
fn side_by_side(cases: &[(&str, &(dyn Fn() + Sync))]) {
    std::thread::scope(|scope| {
        let running: Vec<_> = cases
            .iter()
            .map(|(name, case)| std::thread::Builder::new().name((*name).to_owned()).spawn_scoped(scope, case).unwrap())
            .collect();
        let failed: Vec<String> = running
            .into_iter()
            .filter_map(|case| {
                let name = case.thread().name().unwrap().to_owned();
                case.join().is_err().then_some(name)
            })
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
}

/// The rig's clock: nothing is looked at before this has passed.
fn let_pass(time: Duration) {
    let begin = Instant::now();
    wait_until("time has passed", || if begin.elapsed() >= time { Ok(()) } else { Err(begin.elapsed()) });
}

/// Counts each second, on every device of the case.
fn counting(case: &str) -> Workload {
    Workload::new(case).every("1s").config("version 1").on_every_device().placed(json!({"labels": {"case": case}}))
}

/// The numbers of runs that a device told of, in the order of the hub's ring.
fn runs(hub: &Hub, workload: &str, device: &str) -> Vec<u64> {
    let number = |line: &String| line.rsplit("run ").next().and_then(|text| text.parse().ok());
    hub.lines_of(workload, device).iter().filter_map(number).collect()
}

/// The same of all devices, asked for at once.
fn runs_of_all(hub: &Hub, workload: &str) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let logs = hub.get(&format!("/v1/namespaces/default/workloads/{workload}/logs?tail=2000"));
    for line in logs["items"].as_array().unwrap() {
        let run: Option<u64> = line["text"].as_str().unwrap().rsplit("run ").next().and_then(|text| text.parse().ok());
        all.entry(line["device"].as_str().unwrap().to_owned()).or_default().extend(run);
    }
    all
}

/// What of a device's lines did not come, by the hub's own count. Every line that did is in its order, and no gap is untold.
fn counted_lost(hub: &Hub, workload: &str, device: &str) -> u64 {
    let (mut next, mut lost) = (1, 0);
    for line in hub.lines_of(workload, device) {
        if let Some(count) = line.strip_suffix(" lines lost") {
            let count: u64 = count.parse().unwrap();
            (next, lost) = (next + count, lost + count);
        } else if let Some(run) = line.rsplit("run ").next().and_then(|text| text.parse::<u64>().ok()) {
            assert_eq!(run, next, "{device}: a line is missing without a word, or told twice");
            next += 1;
        }
    }
    lost
}

/// There are as many runs as the time since `begin` has room for: the function ran on, whatever its device could reach; and
/// each was told once. Waits for what was said after this moment. The number that was lost, and counted.
fn assert_ran_on(hub: &Hub, workload: &str, device: &str, begin: Instant) -> u64 {
    let due = begin.elapsed().as_secs();
    wait_until(&format!("{device} told of {due} runs"), || {
        let told = runs(hub, workload, device);
        if told.last().is_some_and(|last| last + RUNS_SLACK >= due) { Ok(()) } else { Err(told.last().copied()) }
    });
    counted_lost(hub, workload, device)
}

fn assert_ran_on_and_all_was_told(hub: &Hub, workload: &str, device: &str, begin: Instant) {
    assert_eq!(assert_ran_on(hub, workload, device, begin), 0, "{device} has lost lines");
}

/// Nothing was started again but for a new version.
fn assert_never_restarted(hub: &Hub, workload: &str) {
    let workload = hub.wait_running(workload);
    let versions = workload["metadata"]["generation"].as_u64().unwrap() - 1;
    let devices = workload["status"]["devices"].as_array().unwrap();
    assert!(devices.iter().all(|device| device["restarts"].as_u64().unwrap() <= versions), "{workload:#}");
}

/// Work that is deployed before would run on those that came first, and its case would begin with devices that are not there.
fn all_online(hub: &Hub, crowd: &Crowd) {
    for name in crowd.names() {
        hub.wait_online(name);
    }
}

fn is_online(hub: &Hub, device: &str) -> bool {
    hub.get(&format!("/v1/devices/{device}"))["status"]["online"]["state"] == "Online"
}

/// What the hub said of a device, and when.
type Said = Vec<(Instant, bool)>;

/// Asks the hub all the time while `work` is done.
fn listening<T>(hub: &Hub, device: &str, work: impl FnOnce() -> T) -> (Said, T) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut said = Vec::new();
            wait_until_over(&is_over, || {
                let asked = Instant::now();
                said.push((asked, is_online(hub, device)));
            });
            said
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        let said = asking.join().unwrap();
        (said, done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Does something again and again until it is over, for as long as the longest case may take.
fn wait_until_over(is_over: &AtomicBool, mut what: impl FnMut()) {
    while !is_over.load(Ordering::Relaxed) {
        what();
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The verdict: the hub calls a device online while a connection is there, and not while there is none, but for the time
/// that it takes to know.
fn judge(device: &str, said: &Said, passages: &[Passage]) {
    assert!(said.len() > 10, "{device}: only {} answers", said.len());
    for (at, is_online) in said {
        let is_near = |passage: &&Passage| {
            passage.begun <= *at + TOLD_WITHIN && passage.left.is_none_or(|left| left + TOLD_WITHIN >= *at)
        };
        let has_been_open =
            |passage: &&Passage| passage.begun + TOLD_WITHIN <= *at && passage.left.is_none_or(|left| left >= *at);
        match is_online {
            true => assert!(
                passages.iter().any(|passage| is_near(&passage)),
                "{device} is called online, and nothing of it has passed for {TOLD_WITHIN:?}"
            ),
            false => assert!(
                !passages.iter().any(|passage| has_been_open(&passage)),
                "{device} is not called online, and has been connected for {TOLD_WITHIN:?}"
            ),
        }
    }
}

fn n2_n4_n5_n8_c5_c11_links_of_every_kind_lose_nothing_and_the_hub_says_what_the_network_knows(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start_paced(directory.path(), broker);
    let directory = directory.path();
    side_by_side(&[
        ("n8", &|| n8_offline_schedules(&hub, directory)),
        ("n5", &|| n5_half_open_and_forgotten(&hub, directory)),
        ("n4", &|| n4_a_satellite(&hub, directory)),
        ("n2", &|| n2_swizzle_clog(&hub, directory)),
        ("c5", &|| c5_flapping(&hub, directory)),
        ("c11", &|| c11_everything_comes_twice(&hub, directory)),
    ]);
}

/// N8: offline and online so many minutes, so many times; a minute is a second.
fn n8_offline_schedules(hub: &Hub, directory: &Path) {
    const SCHEDULES: [(u32, u32, usize); 4] = [(5, 5, 5), (10, 10, 3), (30, 30, 2), (5, 20, 3)];
    let crowd = Crowd::join(directory, hub, "n8", SCHEDULES.len());
    let roads: Vec<Proxy> = crowd.names().iter().map(|_| Proxy::to_port(hub.broker_port())).collect();
    let _running = crowd.run(|device| Some(roads[device].url()));
    all_online(hub, &crowd);
    hub.deploy(&counting("n8"), HELLO);
    hub.wait_running("n8");
    let begin = Instant::now();
    let follow = |device: usize| {
        let (offline, online, times) = SCHEDULES[device];
        let cut = if device.is_multiple_of(2) { Cut::Reset } else { Cut::Close };
        let once = [Step::down(SECOND * offline, cut), Step::up(SECOND * online)];
        let (name, road) = (&crowd.names()[device], &roads[device]);
        let followed = road.follow(std::iter::repeat_n(once, times).flatten().collect());
        let (said, made) = listening(hub, name, || {
            let made = followed.done(SECOND * (offline + online) * u32::try_from(times).unwrap());
            // The last outage is over: whatever the device's pause, it is back within the longest one.
            hub.wait_online(name);
            made
        });
        assert_eq!(made.len(), 2 * times);
        assert!(road.passages().len() > 1, "{name} has come back: {:?}", road.passages());
        judge(name, &said, &road.passages());
        assert_ran_on_and_all_was_told(hub, "n8", name, begin);
    };
    side_by_side(&[
        ("n8 5/5x5", &|| follow(0)),
        ("n8 10/10x3", &|| follow(1)),
        ("n8 30/30x2", &|| follow(2)),
        ("n8 5/20x3", &|| follow(3)),
    ]);
    assert_never_restarted(hub, "n8");
}

/// N5: a link that is dead and looks alive, and a router that forgot it. Both are noticed, and the device comes back.
fn n5_half_open_and_forgotten(hub: &Hub, directory: &Path) {
    let crowd = Crowd::join(directory, hub, "n5", 2);
    let roads: Vec<Proxy> = crowd.names().iter().map(|_| Proxy::to_port(hub.broker_port())).collect();
    let _running = crowd.run(|device| Some(roads[device].url()));
    all_online(hub, &crowd);
    hub.deploy(&counting("n5"), HELLO);
    hub.wait_running("n5");
    let begin = Instant::now();
    let gives_up = |road: &Proxy| {
        let dead = Instant::now();
        let number = road.passages().len() - 1;
        let left = wait_until("the dead link is given up", || road.passages()[number].left.ok_or(dead.elapsed()));
        assert!(left - dead < DEAD_WITHIN, "{:?}", left - dead);
        number + 1
    };
    side_by_side(&[
        ("n5 half-open", &|| {
            roads[0].set(Rules::silent());
            gives_up(&roads[0]);
            roads[0].heal();
        }),
        ("n5 rebind", &|| {
            roads[1].forget();
            let next = gives_up(&roads[1]);
            wait_until("it comes back by itself", || roads[1].passages().get(next).map(drop).ok_or(next));
        }),
    ]);
    for name in crowd.names() {
        assert_ran_on_and_all_was_told(hub, "n5", name, begin);
    }
    assert_never_restarted(hub, "n5");
}

/// N4: 600 ms there and back, 9.6 kbit/s, and silence now and then. Works, without time-outs, on few bytes.
fn n4_a_satellite(hub: &Hub, directory: &Path) {
    const RATE: u64 = 9_600 / 8;
    const HEARTBEAT_BYTES_MAX: f64 = 250.0;
    const WATCHED: Duration = Duration::from_secs(30);
    let crowd = Crowd::join(directory, hub, "n4", 1);
    let roads = [hub.broker_port(), hub.api_port()].map(Proxy::to_port);
    let lane = Lane { delay: Duration::from_millis(300), bytes_per_s: Some(RATE), ..Lane::default() };
    let air = Rules { door: Door::Open, up: lane, down: lane };
    // Stalled for one second of twenty, at random.
    let stalled = Lane { is_stalled: true, ..lane };
    let mut random = Random::new(4);
    let weather = (0..60).map(|_| {
        let lane = if random.chance(50) { stalled } else { lane };
        Step { lasts: SECOND, rules: Rules { up: lane, down: lane, ..air }, cut: None }
    });
    roads.iter().for_each(|road| road.set(air));
    let followed = roads[0].follow(weather.chain([Step { lasts: SECOND, rules: air, cut: None }]).collect());
    crowd.fetch_from(0, &format!("http://{}", roads[1].address()));
    let _running = crowd.run(|_| Some(roads[0].url()));
    all_online(hub, &crowd);
    let quiet = |version: &str| {
        let workload = counting("n4").every("1h").config(version);
        hub.deploy(&workload, HELLO);
        hub.wait_running("n4")
    };
    quiet("version 1");
    assert!(roads[1].bytes().1 > HELLO.len() as u64, "the artifact came over the slow road");
    quiet("version 2");
    followed.done(SECOND * 61);
    let (before, begin) = (roads[0].bytes(), Instant::now());
    let_pass(WATCHED);
    let (after, beats) = (roads[0].bytes(), begin.elapsed().as_secs_f64() / 5.0);
    let each = ((after.0 + after.1) - (before.0 + before.1)) as f64 / beats;
    eprintln!("n4: {each:.0} bytes for each heartbeat, {:.0} KB for an idle day of 2,880", each * 2.88);
    assert!(each > 20.0 && each < HEARTBEAT_BYTES_MAX, "{each}");
    let passages = roads[0].passages();
    assert_eq!(passages.len(), 1, "one connection was enough: {passages:#?}");
}

/// N2: some are cut one by one, in one order, and healed in another; meanwhile a new version comes.
fn n2_swizzle_clog(hub: &Hub, directory: &Path) {
    const DEVICES: usize = 12;
    const SEED: u64 = 0x2_0a11;
    const ROUND: Duration = Duration::from_secs(14);
    let crowd = Crowd::join(directory, hub, "n2", DEVICES);
    let roads: Vec<Proxy> = crowd.names().iter().map(|_| Proxy::to_port(hub.broker_port())).collect();
    let _running = crowd.run(|device| Some(roads[device].url()));
    all_online(hub, &crowd);
    hub.deploy(&counting("n2"), HELLO);
    hub.wait_running("n2");
    let begin = Instant::now();
    let mut random = Random::new(SEED);
    let mut followed = Vec::new();
    let mut steps: Vec<Vec<Step>> = vec![Vec::new(); DEVICES];
    for _ in 0..2 {
        for of_device in &mut steps {
            let cut_at = Duration::from_millis(random.below(4_000));
            let heal_at = Duration::from_millis(6_000 + random.below(4_000));
            if !random.chance(600) {
                of_device.push(Step::up(ROUND));
                continue;
            }
            let lasts = heal_at - cut_at;
            let down = match random.below(3) {
                0 => Step::down(lasts, Cut::Reset),
                1 => Step::down(lasts, Cut::Close),
                _ => Step { lasts, rules: Rules::silent(), cut: None },
            };
            of_device.extend([Step::up(cut_at), down, Step::up(ROUND - heal_at)]);
        }
    }
    let cuts = steps.iter().flatten().filter(|step| step.rules.door != Door::Open).count();
    assert!(cuts >= DEVICES / 2, "seed {SEED:#x} cuts only {cuts} links");
    for (road, steps) in roads.iter().zip(steps) {
        followed.push(road.follow(steps));
    }
    let_pass(SECOND * 5);
    hub.deploy(&counting("n2").config("version 2"), HELLO);
    for followed in followed {
        followed.done(ROUND * 2);
    }
    hub.wait_workload("n2", "runs its second version everywhere", |workload| {
        workload["status"]["running"] == json!(DEVICES) && workload["status"]["observedGeneration"] == 2
    });
    for name in crowd.names() {
        hub.wait_online(name);
        assert_ran_on_and_all_was_told(hub, "n2", name, begin);
    }
    assert_never_restarted(hub, "n2");
}

/// C5: up and down every second. Nothing moves, nothing is told again and again, nobody storms.
fn c5_flapping(hub: &Hub, directory: &Path) {
    const TIMES: usize = 25;
    const TRIES_PER_S_MAX: f64 = 3.0;
    const EVENTS_MAX: usize = 12;
    let crowd = Crowd::join(directory, hub, "c5", 2);
    let roads: Vec<Proxy> = crowd.names().iter().map(|_| Proxy::to_port(hub.broker_port())).collect();
    let _running = crowd.run(|device| Some(roads[device].url()));
    all_online(hub, &crowd);
    // One instance that could be on either.
    let one = Workload::new("c5").every("1s").placed(json!({"labels": {"case": "c5"}}));
    hub.deploy(&one, HELLO);
    let workload = hub.wait_running("c5");
    let home = workload["status"]["devices"][0]["device"].as_str().unwrap().to_owned();
    let begin = Instant::now();
    let number = crowd.names().iter().position(|name| *name == home).unwrap();
    let desired = hub.get(&format!("/v1/devices/{home}"))["status"]["revision"].clone();
    let flap = [Step::down(SECOND, Cut::Reset), Step::up(SECOND)];
    let road = &roads[number];
    road.follow(std::iter::repeat_n(flap, TIMES).flatten().collect()).done(SECOND * 2 * u32::try_from(TIMES).unwrap());
    let tries = (road.passages().len() + road.refused()) as f64 / begin.elapsed().as_secs_f64();
    assert!(tries < TRIES_PER_S_MAX, "{tries} tries each second");
    hub.wait_online(&home);
    assert_ran_on_and_all_was_told(hub, "c5", &home, begin);
    assert_never_restarted(hub, "c5");
    let device = hub.get(&format!("/v1/devices/{home}"));
    assert_eq!(device["status"]["revision"], desired, "nothing was sent to it again");
    let events = hub.get("/v1/events?tail=2000");
    let about = |event: &&Value| event.to_string().contains(&home);
    let told: Vec<_> = events["items"].as_array().unwrap().iter().filter(about).collect();
    assert!(told.len() <= EVENTS_MAX, "{} events: {told:#?}", told.len());
}

/// Ended with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a device reaches a listener in the hub's network within a second.
fn reaches(network: &Network, device: usize) -> bool {
    let script = "exec 3<>/dev/tcp/10.77.0.1/7000";
    let mut command = network.device(device).command("timeout");
    command.args(["1", "bash", "-c", script]).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn the_rig_itself_every_way_of_cutting_a_link_cuts_it_and_is_undone() {
    let network = Network::new(2);
    let mut listener = network.hub().command(program("rig"));
    let listener = listener.args(["listen", "10.77.0.1:7000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut listener = Killed(listener);
    listener.0.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
    assert!(reaches(&network, 0) && reaches(&network, 1));
    network.pull(0);
    assert!(!reaches(&network, 0) && reaches(&network, 1));
    network.plug(0);
    assert!(reaches(&network, 0));
    for loss in [Loss::Up, Loss::Down] {
        network.lose(1, loss);
        assert!(!reaches(&network, 1) && reaches(&network, 0), "{loss:?}");
        network.restore(1, loss);
        assert!(reaches(&network, 1), "{loss:?}");
    }
    let window = network.window("10.77.0.1:7000");
    let stream = TcpStream::connect(("127.0.0.1", window.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(stream.peek(&mut [0; 1]).is_err(), "accepted, and held open");
}

/// C11: whatever the broker delivers comes twice to this device. Nothing has an effect twice.
fn c11_everything_comes_twice(hub: &Hub, directory: &Path) {
    const EVENTS: usize = 20;
    let module = |body: &str| wat::parse_str(format!("(module {body} (@custom \"fulmar.abi\" \"\\01\"))")).unwrap();
    let rings = module(&format!(
        r#"(import "fulmar" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "site/c11") (data (i32.const 32) "ding")
           (global $rung (mut i32) (i32.const 0))
           (func (export "fulmar_timer") (if (i32.lt_u (global.get $rung) (i32.const {EVENTS})) (then
             (global.set $rung (i32.add (global.get $rung) (i32.const 1)))
             (drop (call $emit (i32.const 0) (i32.const 8) (i32.const 32) (i32.const 4))))))"#
    ));
    let hears = module(
        r#"(import "fulmar" "log" (func $log (param i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "heard")
           (func (export "fulmar_event") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 5))))"#,
    );
    let crowd = Crowd::join(directory, hub, "c11", 2);
    let road = Proxy::to_port(hub.broker_port());
    let twice = Lane { repeats: true, ..Lane::default() };
    road.set(Rules { down: twice, ..Rules::default() });
    let _running = crowd.run(|device| (device == 0).then(|| road.url()));
    all_online(hub, &crowd);
    let on = |device: usize| json!({"on": [crowd.names()[device]]});
    hub.deploy(&Workload::new("c11-ear").topics(&["site/c11"]).placed(on(0)), &hears);
    hub.wait_running("c11-ear");
    hub.deploy(&Workload::new("c11-bell").every("200ms").placed(on(1)), &rings);
    let heard = || hub.lines("c11-ear").iter().filter(|line| *line == "heard").count();
    wait_until("all of it is heard", || if heard() >= EVENTS { Ok(()) } else { Err(heard()) });
    let_pass(SECOND * 2);
    assert_eq!(heard(), EVENTS, "heard twice");
    assert_never_restarted(hub, "c11-ear");
    assert_eq!(road.passages().len(), 1, "and the connection bears it");
}

/// N3, C3, C4: a cable that is pulled, and packets that are lost one way only, in networks of the kernel's own.
fn n3_c3_c4_a_pulled_cable_and_loss_one_way_are_noticed_and_healed(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let network = Arc::new(Network::new(5));
    let hub = Hub::start_in(directory.path(), broker, &network);
    let names = ["pulled", "up-lost", "down-lost"];
    let join = |number, name, case| Agent::join_in((&network, number), directory.path(), &hub, name, case);
    let agents: Vec<Agent> = (0..).zip(names).map(|(number, name)| join(number, name, name)).collect();
    for name in names {
        hub.deploy(&counting(name), HELLO);
        hub.wait_running(name);
    }
    let begin = Instant::now();
    network.pull(0);
    network.lose(1, Loss::Up);
    network.lose(2, Loss::Down);
    side_by_side(&[
        ("c3 exclusive", &|| c3_exclusive_work_moves_and_never_runs_twice(&hub, &network, &join)),
        ("c4", &|| {
            for name in names {
                // One that hears nothing goes on speaking until it misses its answers.
                let begin = Instant::now();
                let missed = || if is_online(&hub, name) { Err(begin.elapsed()) } else { Ok(()) };
                wait_until(&format!("the hub misses {name}"), missed);
            }
        }),
    ]);
    let then: Vec<_> = agents.iter().map(Agent::state).collect();
    wait_until("all functions count on, out of everybody's reach", || {
        let are_same = agents.iter().zip(&then).any(|(agent, then)| agent.state() == *then);
        if are_same { Err("same state") } else { Ok(()) }
    });
    network.plug(0);
    network.restore(1, Loss::Up);
    network.restore(2, Loss::Down);
    for name in names {
        hub.wait_online(name);
        assert_ran_on_and_all_was_told(&hub, name, name, begin);
        assert_never_restarted(&hub, name);
    }
}

/// C3: the holder of a lease is cut off. It stops by itself, and only then another one begins.
fn c3_exclusive_work_moves_and_never_runs_twice(
    hub: &Hub,
    network: &Network,
    join: &dyn Fn(usize, &'static str, &'static str) -> Agent,
) {
    const PAIR: [(usize, &str); 2] = [(3, "pump-a"), (4, "pump-b")];
    let agents = PAIR.map(|(number, name)| join(number, name, "pump"));
    let exclusive = json!({"exclusive": {"lease": "15s"}});
    let pump = Workload::new("pump").every("200ms").placed(json!({"labels": {"case": "pump"}})).partition(exclusive);
    hub.deploy(&pump, HELLO);
    let home = hub.wait_running("pump")["status"]["devices"][0]["device"].clone();
    let [holder, spare] = if home == PAIR[0].1 { [0, 1] } else { [1, 0] };
    wait_until("the holder runs", || agents[holder].state_written_at().ok_or(PAIR[holder]));
    assert_eq!(agents[spare].state_written_at(), None);
    network.pull(PAIR[holder].0);
    // Each tick is a write. Lines would not do: their times count from when they were sent, and some are under way for long.
    let first =
        wait_until("the other one runs", || agents[spare].state_written_at().ok_or_else(|| hub.workload("pump")));
    let last = agents[holder].state_written_at().unwrap();
    assert!(last < first, "{} still ran when {} began", PAIR[holder].1, PAIR[spare].1);
    let_pass(SECOND);
    assert_eq!(agents[holder].state_written_at(), Some(last), "it has stopped");
    network.plug(PAIR[holder].0);
    wait_until("the former holder has heard that it holds nothing", || {
        let device = hub.get(&format!("/v1/devices/{}", PAIR[holder].1));
        let is_free = device["status"]["workloads"].as_array().is_some_and(Vec::is_empty);
        if is_free && device["status"]["revision"]["synced"] == true { Ok(()) } else { Err(device) }
    });
    assert!(agents[holder].state_written_at().is_none_or(|at| at == last), "it has not begun again");
}

fn n6_n7_c1_c2_every_reconnect_is_clean_and_a_hub_or_broker_that_is_gone_is_not_missed(broker: Broker) {
    side_by_side(&[
        ("n6", &|| n6_a_cut_after_any_byte(broker)),
        ("n7", &|| n7_hundreds_of_devices_come_back(broker)),
        ("c1 c2", &|| c1_c2_a_hub_and_a_broker_are_gone(broker)),
    ]);
}

/// N6: handshake and first publications are cut after each of their first bytes, and now and then further on; the next
/// connection works each time.
fn n6_a_cut_after_any_byte(broker: Broker) {
    const DEVICES: usize = 90;
    const EVERY_BYTE: u64 = 600;
    const LAST: u64 = 1_500;
    const STRIDE: u64 = 37;
    /// Longer than what a device takes for a cut by what it subscribed to.
    const GOOD: Duration = Duration::from_millis(6_000);
    /// Bytes up of a connection that got no further than its Hello are fewer.
    const SESSION: u64 = 700;
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start_paced(directory.path(), broker);
    let crowd = Crowd::join(directory.path(), &hub, "n6", DEVICES);
    let roads: Vec<Proxy> = crowd.names().iter().map(|_| Proxy::to_port(hub.broker_port())).collect();
    let _running = crowd.run(|device| Some(roads[device].url()));
    all_online(&hub, &crowd);
    hub.deploy(&counting("n6").every("5s"), HELLO);
    hub.wait_running("n6");
    let up = (1..EVERY_BYTE).chain((EVERY_BYTE..LAST).step_by(usize::try_from(STRIDE).unwrap())).map(|n| (Way::Up, n));
    let down = (1..60).chain((60..220).step_by(7)).map(|n| (Way::Down, n));
    let mut cases = 0;
    let mut plans = vec![Vec::new(); DEVICES];
    for (way, bytes) in up.chain(down) {
        let cut = if cases % 3 == 0 { Cut::Close } else { Cut::Reset };
        plans[cases % DEVICES].extend([Some(Fate::Bytes(way, bytes, cut)), Some(Fate::Age(GOOD, Cut::Reset))]);
        cases += 1;
    }
    for (road, plan) in roads.iter().zip(plans) {
        road.plan(plan);
        road.cut(Cut::Reset);
    }
    for (name, road) in crowd.names().iter().zip(&roads) {
        wait_until(&format!("{name} has met all its cuts"), || match road.planned() {
            0 => Ok(()),
            left => Err(left),
        });
    }
    let mut met = 0;
    for (name, road) in crowd.names().iter().zip(&roads) {
        hub.wait_online(name);
        let passages = road.passages();
        // The first was before the plan; then a cut and a good one in turn; the last is still there.
        for pair in passages[1..].chunks_exact(2) {
            let (cut, good) = (&pair[0], &pair[1]);
            assert!(cut.was_cut && cut.ended.is_some(), "{name}: {cut:?}");
            met += 1;
            let lived = good.left.map(|left| left - good.begun);
            assert!(lived.is_none_or(|lived| lived >= GOOD), "{name}: after {cut:?} came {good:?}");
            assert!(lived.is_none() || good.up > SESSION, "{name}: no session after {cut:?}: {good:?}");
        }
    }
    assert_eq!(met, cases);
    assert_never_restarted(&hub, "n6");
    // Each says more than it has said so far, and nothing of it is missing.
    let so_far = runs_of_all(&hub, "n6");
    let told = wait_until("each says more", || {
        let told = runs_of_all(&hub, "n6");
        let is_more = |name: &String| told.get(name).map(|runs| runs.last()) > so_far.get(name).map(|runs| runs.last());
        let silent: Vec<&String> = crowd.names().iter().filter(|name| !is_more(name)).collect();
        if silent.is_empty() { Ok(told) } else { Err(format!("{silent:?}")) }
    });
    for (name, told) in told {
        assert!(told.windows(2).all(|two| two[0] + 1 == two[1]), "{name}: {told:?}");
    }
}

/// N7: everybody is thrown out and comes back when the broker is there again, spread over time; operators hardly notice.
fn n7_hundreds_of_devices_come_back(broker: Broker) {
    const DEVICES: usize = 200;
    const OUTAGE: Duration = Duration::from_secs(10);
    /// Of all devices, in one second.
    const AT_ONCE_MAX: usize = DEVICES * 2 / 5;
    const ANSWER_MAX: Duration = Duration::from_secs(3);
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start_paced(directory.path(), broker);
    let crowd = Crowd::join(directory.path(), &hub, "n7", DEVICES);
    let road = Proxy::to_port(hub.broker_port());
    let _running = crowd.run(|_| Some(road.url()));
    all_online(&hub, &crowd);
    hub.deploy(&counting("n7").every("1h"), HELLO);
    hub.wait_running("n7");
    let online = || {
        let devices = hub.get("/v1/devices?limit=500");
        let is_online = |device: &&Value| device["status"]["online"]["state"] == "Online";
        devices["items"].as_array().unwrap().iter().filter(is_online).count()
    };
    let before = road.passages().len();
    road.partition(Cut::Reset);
    // What is changed meanwhile is there for those who come back.
    hub.deploy(&counting("n7").every("1h").config("version 2"), HELLO);
    wait_until("the hub misses them all", || if online() == 0 { Ok(()) } else { Err(online()) });
    let_pass(OUTAGE);
    road.heal();
    let mut slowest = Duration::ZERO;
    wait_until("all are back", || {
        let begin = Instant::now();
        let count = online();
        slowest = slowest.max(begin.elapsed());
        if count == DEVICES { Ok(()) } else { Err(count) }
    });
    assert!(slowest < ANSWER_MAX, "an operator waited {slowest:?} for a list of {DEVICES} devices");
    let mut arrivals: Vec<Instant> = road.passages()[before..].iter().map(|passage| passage.begun).collect();
    arrivals.sort();
    let busiest = arrivals.iter().map(|from| arrivals.iter().filter(|at| *at >= from && **at < *from + SECOND).count());
    let busiest = busiest.max().unwrap();
    eprintln!(
        "n7: {} connections for {DEVICES} devices, {busiest} in the busiest second, slowest list {slowest:?}",
        arrivals.len()
    );
    assert!(busiest <= AT_ONCE_MAX, "{busiest} came within a second");
    assert!(arrivals.len() < DEVICES * 3 / 2, "{} connections for {DEVICES} devices", arrivals.len());
    hub.wait_workload("n7", "runs its second version everywhere", |workload| {
        workload["status"]["running"] == json!(DEVICES) && workload["status"]["observedGeneration"] == 2
    });
    assert_never_restarted(&hub, "n7");
}

/// C1, C2: the hub is killed and stays away; then the broker is, and comes back with an empty memory.
fn c1_c2_a_hub_and_a_broker_are_gone(broker: Broker) {
    const AWAY: Duration = Duration::from_secs(12);
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start_paced(directory.path(), broker);
    let crowd = Crowd::join(directory.path(), &hub, "c1", 8);
    let _running = crowd.run(|_| None);
    all_online(&hub, &crowd);
    hub.deploy(&counting("c1"), HELLO);
    hub.wait_running("c1");
    let begin = Instant::now();
    hub.kill();
    let_pass(AWAY);
    hub.run();
    // Its ring of lines is gone with it; what was said since it was killed is kept by the devices.
    let all_back = |hub: &Hub| {
        for name in crowd.names() {
            hub.wait_online(name);
            let due = begin.elapsed().as_secs();
            let told = wait_until(&format!("{name} tells of {due} runs"), || {
                let told = runs(hub, "c1", name);
                if told.last().is_some_and(|last| last + RUNS_SLACK >= due) { Ok(told) } else { Err(told) }
            });
            assert!(told.windows(2).all(|two| two[0] < two[1]), "{name}: {told:?}");
            // A broker that is there without its hub has taken what nobody heard.
            let is_all = broker == Broker::Mosquitto || told[0] <= RUNS_SLACK + 2;
            assert!(is_all, "{name} lost what it said without the hub: {told:?}");
        }
        assert_never_restarted(hub, "c1");
    };
    all_back(&hub);
    if broker == Broker::Mosquitto {
        // The embedded broker has died with its hub above.
        hub.mosquitto().kill();
        let_pass(SECOND * 3);
        hub.mosquitto().run();
        all_back(&hub);
    }
}

/// N1: hub and broker lose each other, in silence. Only a broker elsewhere can be lost.
#[test]
fn n1_a_hub_without_its_broker_takes_orders_and_carries_them_out_later() {
    const HUB_DEAD_WITHIN: Duration = Duration::from_secs(45);
    let directory = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(directory.path());
    let road = Proxy::to_port(mosquitto.port());
    let hub = Hub::start_with_detour(directory.path(), mosquitto, road.url());
    let crowd = Crowd::join(directory.path(), &hub, "n1", 4);
    let _running = crowd.run(|_| None);
    all_online(&hub, &crowd);
    hub.deploy(&counting("n1"), HELLO);
    hub.wait_running("n1");
    let begin = Instant::now();
    for name in crowd.names() {
        // What the hub counts from.
        wait_until("each is heard of", || runs(&hub, "n1", name).first().copied().ok_or(name));
    }
    road.set(Rules::silent());
    let dead = Instant::now();
    // Writes are durable without a broker.
    for version in 2..=20 {
        hub.deploy(
            &Workload::new("later")
                .every("1s")
                .config(&format!("version {version}"))
                .on_every_device()
                .placed(json!({"labels": {"case": "n1"}})),
            HELLO,
        );
    }
    wait_until("the hub gives the dead link up", || match hub.get("/v1/status") {
        status if status["link"] == false => Ok(()),
        status => Err((dead.elapsed(), status)),
    });
    assert!(dead.elapsed() < HUB_DEAD_WITHIN, "{:?}", dead.elapsed());
    let_pass(SECOND * 10);
    road.heal();
    road.cut(Cut::Reset);
    hub.wait_running("later");
    for name in crowd.names() {
        hub.wait_line("later", "version 20");
        // The broker took lines that nobody was there to hear: gone, and counted.
        let lost = assert_ran_on(&hub, "n1", name, begin);
        assert!(lost <= begin.elapsed().as_secs(), "{lost}");
    }
    let placed = hub.workload("n1")["status"]["devices"].as_array().unwrap().len();
    assert_eq!(placed, crowd.names().len(), "nothing was moved for the hub's own silence");
    assert_never_restarted(&hub, "n1");
    assert_never_restarted(&hub, "later");
}
