//! An engine that is built from what was committed equals the one that lived.
use super::device::Double;
use super::world::{World, put_request, region, workload};
use crate::commit::CommitFailure;
use crate::engine::port::*;
use crate::model::{Kind, ObjectKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::DeviceId;

#[derive(Clone, Debug)]
enum Step {
    Workload { name: u8, replicas: u8, config: u8, by_region: bool },
    DeleteWorkload(u8),
    Region { radius: u8 },
    Join(u8),
    DeleteDevice(u8),
    Cordon(u8, bool),
    Run(u8),
    FailNext,
    Restart,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..4u8, 0..3u8, any::<bool>())
            .prop_map(|(name, replicas, config, by_region)| Step::Workload { name, replicas, config, by_region }),
        2 => (0..3u8).prop_map(Step::DeleteWorkload),
        1 => (1..3u8).prop_map(|radius| Step::Region { radius }),
        3 => (1..5u8).prop_map(Step::Join),
        1 => (1..5u8).prop_map(Step::DeleteDevice),
        1 => (1..5u8, any::<bool>()).prop_map(|(seed, on)| Step::Cordon(seed, on)),
        3 => (1..5u8).prop_map(Step::Run),
        1 => Just(Step::FailNext),
        1 => Just(Step::Restart),
        1 => Just(Step::Reconnect),
    ]
}

fn perform(world: &mut World, devices: &mut BTreeMap<u8, Double>, artifact: &str, step: Step) {
    match step {
        Step::Workload { name, replicas, config, by_region } => {
            let name = format!("w{name}");
            let placement = if by_region { json!({"within": ["r"]}) } else { json!({"labels": {"zone": "a"}}) };
            let mut document = workload(&name, artifact, placement);
            document["spec"]["replicas"] = json!(replicas);
            document["spec"]["function"]["config"] = json!(config);
            world.ask(put_request(&ObjectKey::workload("default", &name), document));
        }
        Step::DeleteWorkload(name) => {
            let key = ObjectKey::workload("default", &format!("w{name}"));
            world.ask(Request::Delete { key, if_match: None });
        }
        Step::Region { radius } => {
            world.ask(put_request(&ObjectKey::region("r"), region("r", [8.68, 50.11], f64::from(radius))));
        }
        Step::Join(seed) => {
            let mut device = devices.remove(&seed).unwrap_or_else(|| Double::new(u16::from(seed)));
            let token = world.ask(Request::TokenCreate {
                expires_in: None,
                approve: true,
                labels: json!({"zone": "a"}),
                entropy: [seed.wrapping_add(world.batches.len() as u8); 32],
            });
            if let Some(Ok(Answer::Token { text, .. })) = world.answers.remove(&token)
                && let Some(Ok(_)) = device.join(world, &text, &format!("gw-{seed}"))
                && device.hello(world, true).is_ok()
            {
                devices.insert(seed, device);
            }
        }
        Step::DeleteDevice(seed) => {
            let key = ObjectKey::device(&format!("gw-{seed}"));
            world.ask(Request::Delete { key, if_match: None });
        }
        Step::Cordon(seed, on) => {
            let change = if on { DeviceChange::Cordon } else { DeviceChange::Uncordon };
            world.ask(Request::DeviceChange { name: format!("gw-{seed}"), change });
        }
        Step::Run(seed) => {
            if let Some(mut device) = devices.remove(&seed)
                && world.writer.database.devices.contains_key(&device.id)
                && device.hello(world, false).is_ok()
            {
                device.run_all(world);
                devices.insert(seed, device);
            }
        }
        Step::FailNext => world.fail_next(CommitFailure::Io),
        Step::Restart => world.restart(),
        Step::Reconnect => {
            world.input(Input::LinkDown);
            world.connect();
        }
    }
    world.answers.clear();
}

/// Everything that must survive a restart.
fn picture(world: &mut World) -> (Vec<Value>, BTreeMap<DeviceId, Vec<u8>>) {
    let kinds = [Kind::Region, Kind::Device, Kind::Artifact, Kind::Workload];
    let mut objects: Vec<Value> = kinds.into_iter().flat_map(|kind| world.list(kind)).collect();
    for object in &mut objects {
        object["status"] = Value::Null;
    }
    let devices = world.engine.state.devices.iter();
    let bodies = devices.filter_map(|(_, d)| Some((d.id(), d.desired.as_ref()?.body.to_vec()))).collect();
    (objects, bodies)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_rebuilt_engine_equals_the_living_one(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        let artifact = world.upload("app", 0x11);
        world.put(&ObjectKey::region("r"), region("r", [8.68, 50.11], 1.0)).unwrap();
        let mut devices = BTreeMap::new();
        for step in steps {
            perform(&mut world, &mut devices, &artifact, step);
        }
        // A failure that waits for its batch is none of the rest's.
        world.writer.fails = None;
        world.pass(Duration::from_secs(40));
        let living = picture(&mut world);
        let durable: BTreeMap<DeviceId, Vec<u8>> =
            world.writer.database.desired.iter().map(|(id, row)| (*id, row.body.clone())).collect();
        prop_assert_eq!(&living.1, &durable, "what is decided is what is durable");
        for (id, body) in &durable {
            let frame = world.retained_desired(*id);
            prop_assert!(frame.is_some_and(|frame| frame.ends_with(body)), "and what is published");
        }
        let batches = world.batches.len();
        world.restart();
        world.pass(Duration::from_secs(40));
        prop_assert_eq!(picture(&mut world), living);
        prop_assert_eq!(world.batches.len(), batches, "nothing is left to decide");
    }
}
