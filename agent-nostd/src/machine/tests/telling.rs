//! Alarms, states and metrics: what is told, in which order, how fast, and that the account is exact over outages and resets.
use super::rig::*;
use crate::machine::port::*;
use crate::machine::telemetry::*;
use std::collections::BTreeSet;
use std::string::String;
use std::vec::Vec;
use wire::hello::ResetCause;
use wire::sample::Class;

fn joined() -> Rig {
    let mut rig = Rig::new();
    rig.publish(set(1, &[service(1, 0, "a")]));
    rig.run(secs(20));
    rig
}

fn tell(rig: &mut Rig, telling: Telling<'_>) {
    let (now, launch) = (rig.now, rig.launch_of(1, 0));
    rig.agent.handle(now, Input::Tell { launch, telling });
}

fn alarm(rig: &mut Rig, number: u32) {
    tell(rig, Telling::Alarm { key: "smoke", text: &std::format!("alarm {number}") });
}

fn of(rig: &Rig, class: Class) -> Vec<(u32, String)> {
    let all = rig.samples.iter().filter(|(of, ..)| *of == class);
    all.map(|(_, sequence, _, value)| (*sequence, value.clone())).collect()
}

fn writes(rig: &Rig) -> usize {
    rig.count(|done| *done == Done::Persist(JournalKey::Alarms))
}

#[test]
fn an_alarm_is_durable_before_it_is_told_and_forgotten_when_the_hub_took_it() {
    let mut rig = joined();
    rig.disk = Disk::Full;
    alarm(&mut rig, 1);
    rig.run(secs(3));
    assert_eq!(rig.samples, []);
    rig.disk = Disk::Good;
    rig.takes = false;
    rig.run(secs(400));
    let first = of(&rig, Class::Alarm);
    assert!(first.len() > 3 && first.iter().all(|(sequence, _)| *sequence == 1), "told again until the hub took it");
    assert!(first.len() <= 1 + 400 / ALARM_AGAIN.as_secs() as usize, "{}", first.len());
    rig.takes = true;
    rig.run(secs(100));
    let told = rig.samples.len();
    rig.run(secs(100));
    assert_eq!(rig.samples.len(), told);
    // What the hub took is not told by the next boot either.
    rig.reboot(ResetCause::PowerOn);
    rig.run(secs(60));
    assert_eq!(rig.samples.len(), told);
}

#[test]
fn alarms_survive_resets_and_their_account_goes_on() {
    let mut rig = joined();
    rig.broker_up = false;
    rig.cut();
    // The ring of the rig is 1 KiB: an alarm takes some thirty bytes.
    for number in 0..60 {
        alarm(&mut rig, number);
        rig.run(ms(200));
    }
    rig.run(secs(30));
    let refused = rig.agent.lost().alarms;
    assert!(refused > 10, "{refused}");
    rig.reboot(ResetCause::PowerOn);
    assert_eq!(rig.agent.lost().alarms, refused);
    rig.broker_up = true;
    rig.run(secs(60));
    assert!(rig.frames.iter().all(|(_, fixed)| fixed.uptime_ms.is_none()), "of a boot before this one");
    alarm(&mut rig, 60);
    rig.run(secs(60));
    let told: BTreeSet<u32> = of(&rig, Class::Alarm).iter().map(|(sequence, _)| *sequence).collect();
    let highest = told.last().copied().unwrap();
    assert_eq!((highest, told.len() as u32 + refused), (61, 61));
    assert!(rig.frames.last().unwrap().1.uptime_ms.is_some());
}

/// Power is cut at each write for alarms, before it, torn, and after it: no alarm is told twice under two numbers, none under
/// one number with two texts, and what was durable is told.
#[test]
fn a_power_cut_at_every_write_of_alarms_loses_none_that_was_durable() {
    for cut in 0..6 {
        for tear in 0..3 {
            let mut rig = joined();
            rig.broker_up = false;
            rig.cut();
            let before = writes(&rig);
            let mut number = 0;
            let mut durable = 0;
            while writes(&rig) - before <= cut {
                let store = rig.store.clone();
                alarm(&mut rig, number);
                number += 1;
                // The effect is there at once; the rig writes before it answers.
                rig.run(ms(1));
                if writes(&rig) - before > cut {
                    match tear {
                        0 => rig.store = store,
                        1 => rig.store.tear(&store, JournalKey::Alarms),
                        _ => durable = number,
                    }
                    break;
                }
                rig.run(ms(1500));
                durable = number;
            }
            rig.reboot(ResetCause::PowerOn);
            rig.run(secs(20));
            alarm(&mut rig, 1000);
            rig.broker_up = true;
            rig.run(secs(200));
            let told: BTreeSet<(u32, String)> = of(&rig, Class::Alarm).into_iter().collect();
            let mut expected: Vec<String> = (0..durable).map(|n| std::format!("Text(\"alarm {n}\")")).collect();
            expected.push("Text(\"alarm 1000\")".into());
            let texts: Vec<String> = told.iter().map(|(_, text)| text.clone()).collect();
            assert_eq!(texts, expected, "cut {cut} tear {tear}");
            assert_eq!(told.last().unwrap().0, durable + 1, "cut {cut} tear {tear}: numbers have no gap");
            assert_eq!(rig.agent.lost().alarms, 0);
        }
    }
}

#[test]
fn after_an_outage_alarms_go_first_then_states_then_fresh_metrics_then_old_ones() {
    let mut rig = joined();
    rig.broker_up = false;
    rig.cut();
    for number in 0..40 {
        tell(&mut rig, Telling::Metric { key: "t", value: number, scale: -1 });
        tell(&mut rig, Telling::State { key: "door", text: "open" });
        rig.run(ms(100));
    }
    alarm(&mut rig, 1);
    rig.run(secs(2));
    rig.broker_up = true;
    while rig.agent.link() != LinkState::Fresh {
        rig.run(ms(10));
    }
    tell(&mut rig, Telling::Metric { key: "t", value: 1000, scale: -1 });
    let link = rig.now;
    rig.run(secs(60));
    let classes: Vec<Class> = rig.frames.iter().map(|(_, fixed)| fixed.class).collect();
    assert_eq!(classes[..2], [Class::Alarm, Class::State]);
    assert!(classes[2..].iter().all(|class| *class == Class::Metric));
    let metrics = of(&rig, Class::Metric);
    assert_eq!(metrics[0].1, "Number { value: 1000, scale: -1 }");
    assert!(metrics[1..].windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!((metrics.len(), of(&rig, Class::State).len()), (41, 1));
    assert_eq!(rig.agent.lost(), Default::default());
    let times: Vec<_> = rig.frames.iter().map(|(at, _)| *at).collect();
    assert!(times[0].since(link) <= SAMPLES_SPREAD + ms(100));
    assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= SAMPLES_PAUSE - ms(10)), "{times:?}");
}

#[test]
fn metrics_of_a_long_outage_are_received_or_counted_exactly() {
    let mut rig = joined();
    rig.broker_up = false;
    rig.cut();
    for number in 0..500 {
        tell(&mut rig, Telling::Metric { key: "temperature", value: number, scale: -1 });
        rig.run(ms(50));
    }
    rig.broker_up = true;
    rig.run(secs(120));
    rig.ask_status();
    let lost = rig.status.as_ref().unwrap().0.lost;
    let received: BTreeSet<(u32, String)> = of(&rig, Class::Metric).into_iter().collect();
    assert!(lost.metrics > 0);
    assert_eq!(received.len() as u32 + lost.metrics, 500);
    assert_eq!(received.last().unwrap().1, "Number { value: 499, scale: -1 }");
}

#[test]
fn a_new_hub_hears_the_states_again_and_the_old_one_does_not() {
    let mut rig = joined();
    tell(&mut rig, Telling::State { key: "door", text: "open" });
    tell(&mut rig, Telling::State { key: "door", text: "shut" });
    rig.run(secs(5));
    rig.cut();
    rig.run(secs(90));
    assert_eq!(of(&rig, Class::State), [(1, String::from("Text(\"shut\")"))]);
    rig.session += 1;
    rig.cut();
    rig.run(secs(90));
    assert_eq!(of(&rig, Class::State)[1..], [(2, String::from("Text(\"shut\")"))]);
}

#[test]
fn what_makes_no_sense_is_counted_as_lost() {
    let mut rig = joined();
    let long = "x".repeat(wire::limits::SAMPLE_TEXT_BYTES_MAX + 1);
    tell(&mut rig, Telling::Metric { key: "no spaces", value: 1, scale: 0 });
    tell(&mut rig, Telling::State { key: "k", text: &long });
    tell(&mut rig, Telling::State { key: "k", text: &long[1..] });
    let now = rig.now;
    let telling = Telling::Alarm { key: "k", text: "" };
    rig.agent.handle(now, Input::Tell { launch: LaunchId(999), telling });
    rig.run(secs(5));
    let lost = rig.agent.lost();
    assert_eq!((lost.alarms, lost.states, lost.metrics), (1, 1, 1));
    assert_eq!(rig.samples.len(), 1);
}

#[test]
fn flash_is_written_once_a_second_at_most_however_many_alarms_there_are() {
    let mut rig = joined();
    let before = writes(&rig);
    for number in 0..100 {
        alarm(&mut rig, number);
        rig.run(ms(50));
    }
    let written = writes(&rig) - before;
    assert!((4..=6).contains(&written), "{written}");
}

#[test]
fn a_device_in_order_stops_with_its_alarms_durable() {
    let mut rig = joined();
    alarm(&mut rig, 1);
    rig.run(ms(20));
    alarm(&mut rig, 2);
    rig.takes = false;
    let now = rig.now;
    rig.agent.handle(now, Input::Shutdown);
    rig.run(ms(500));
    rig.reboot(ResetCause::ProcessStart);
    rig.takes = true;
    rig.run(secs(60));
    let told: BTreeSet<u32> = of(&rig, Class::Alarm).iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(told.last(), Some(&2));
}
