//! Artifacts and sets over MQTT: the hub's program, its broker, and a device with the store and transfer of a microcontroller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use agent_nostd::store::Artifacts;
use serde_json::json;
use std::time::Instant;
use tests::harness::narrow::{Flash, Narrow, module};
use tests::harness::{Broker, Hub, Workload, wait_until};

fn count(hub: &Hub, series: &str) -> u64 {
    let text = hub.get("/metrics");
    let line = text.as_str().unwrap().lines().find(|line| line.starts_with(series)).unwrap().to_owned();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

tests::on_both_brokers!(an_artifact_comes_in_chunks_also_over_a_link_that_loses_some,);

fn an_artifact_comes_in_chunks_also_over_a_link_that_loses_some(broker: Broker) {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start_on(directory.path(), broker);
    let mut device = Narrow::join(directory.path(), &hub, "narrow", 2048);
    let mut artifacts = Artifacts::open(Flash::default());
    for (seed, loses) in [(1, None), (2, Some(9))] {
        let module = module(seed, 20 * 1024);
        let before = count(&hub, "fulmar_hub_chunk_bytes_total");
        hub.deploy(&Workload::new("code").on_every_device(), &module);
        let (came_along, digest, bytes) = device.wait_artifact(&module);
        assert!(came_along, "a set of one workload fits into 2 KiB");
        device.loses = loses;
        let begin = Instant::now();
        device.fetch(digest, bytes, &mut artifacts).unwrap();
        let took = begin.elapsed();
        assert!(artifacts.holds(&digest, bytes));
        let mut read = vec![0; module.len()];
        assert!(artifacts.read_at(&digest, 0, &mut read) && read == module);
        let sent = count(&hub, "fulmar_hub_chunk_bytes_total") - before;
        match loses {
            None => assert_eq!(sent, 20 * 1024, "each part once, in {took:?}"),
            Some(_) => assert!(sent > 20 * 1024, "{sent}"),
        }
    }
    // What nothing names any more is not given, and the device is told nothing else.
    let old = wire::Digest::of(&module(1, 20 * 1024));
    artifacts.collect(&mut |digest| *digest != old);
    let unanswered = count(&hub, "fulmar_hub_contents_unanswered_total");
    device.ask(old);
    wait_until("the question is not answered", || {
        let topic = device.turn();
        assert!(!topic.is_some_and(|topic| topic.ends_with("/chunk")));
        let now = count(&hub, "fulmar_hub_contents_unanswered_total");
        if now > unanswered { Ok(()) } else { Err(now) }
    });
}

#[test]
fn a_device_of_small_packets_gets_its_set_as_a_header_and_asks_for_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::start(directory.path());
    let mut device = Narrow::join(directory.path(), &hub, "tiny", 320);
    let module = module(3, 3000);
    let config = "so long that the set is longer than a packet of the device ".repeat(4);
    let workload = Workload::new("code").config(&config).on_every_device().placed(json!({"labels": {"fleet": "test"}}));
    hub.deploy(&workload, &module);
    let (came_along, digest, bytes) = device.wait_artifact(&module);
    assert!(!came_along);
    let mut artifacts = Artifacts::open(Flash::default());
    device.fetch(digest, bytes, &mut artifacts).unwrap();
    assert!(artifacts.holds(&digest, bytes));
    assert!(count(&hub, "fulmar_hub_chunks_total") > 3000 / 320, "no part is longer than a packet");
}
