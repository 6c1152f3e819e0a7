//! Watches: what they give replays to what a list shows, they resume, and nobody can make the hub hold more for them.
use super::device::Double;
use super::world::{World, put_request, region};
use crate::commit::CommitFailure;
use crate::engine::port::*;
use crate::engine::watcher::{WATCHER_CREDIT_MAX, WATCHERS_MAX};
use crate::model::{FieldSelector, Kind, ObjectKey, Selector};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

fn watch(kind: Kind, selection: Selection, from: Option<Position>) -> Request {
    Request::Watch { kind, selection, from }
}

fn labelled(text: &str) -> Selection {
    Selection { labels: Selector::parse(text).unwrap(), ..Selection::default() }
}

/// A client: takes what comes, and what it has is what it was told.
struct Client {
    ticket: Ticket,
    has: BTreeMap<String, Value>,
    position: Option<Position>,
    said: Vec<(ChangeKind, String)>,
    ended: Option<Problem>,
}

impl Client {
    fn open(world: &mut World, request: Request) -> Self {
        let ticket = world.ask(request);
        assert_eq!(world.answers.remove(&ticket), Some(Ok(Answer::Watching)));
        Self { ticket, has: BTreeMap::new(), position: None, said: Vec::new(), ended: None }
    }

    fn take(&mut self, world: &mut World) {
        loop {
            let (own, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut world.streams).into_iter().partition(|(ticket, _)| *ticket == self.ticket);
            world.streams = others;
            if own.is_empty() {
                return;
            }
            let items = u32::try_from(own.len()).unwrap();
            for (_, item) in own {
                match item {
                    StreamItem::Change { position, kind, document } => {
                        self.position = position.or(self.position);
                        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                        match kind {
                            ChangeKind::Added => assert!(self.has.insert(name.clone(), document).is_none(), "{name}"),
                            ChangeKind::Modified => drop(self.has.insert(name.clone(), document)),
                            ChangeKind::Deleted => drop(self.has.remove(&name)),
                            ChangeKind::Bookmark => {}
                        }
                        self.said.push((kind, name));
                    }
                    StreamItem::Ended(problem) => self.ended = Some(problem),
                    other => panic!("{other:?}"),
                }
            }
            world.input(Input::Took { ticket: self.ticket, items });
        }
    }

    fn names(&self) -> Vec<&str> {
        self.has.keys().map(String::as_str).collect()
    }
}

fn put(world: &mut World, name: &str, labels: Value, radius_km: f64) {
    let mut document = region(name, [8.0, 50.0], radius_km);
    document["metadata"]["labels"] = labels;
    world.put(&ObjectKey::region(name), document).unwrap();
}

fn delete(world: &mut World, name: &str) {
    world.answer(Request::Delete { key: ObjectKey::region(name), if_match: None }).unwrap();
}

#[test]
fn a_watch_gives_what_is_there_then_a_bookmark_then_each_change() {
    let mut world = World::new();
    put(&mut world, "a", json!({}), 1.0);
    let mut client = Client::open(&mut world, watch(Kind::Region, Selection::default(), None));
    client.take(&mut world);
    assert_eq!(client.said, [(ChangeKind::Added, "a".to_owned()), (ChangeKind::Bookmark, String::new())]);
    client.said.clear();
    put(&mut world, "b", json!({}), 1.0);
    put(&mut world, "b", json!({}), 2.0);
    client.take(&mut world);
    delete(&mut world, "a");
    client.take(&mut world);
    let said: Vec<ChangeKind> = client.said.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(said, [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted]);
    assert_eq!(client.has["b"]["spec"]["circle"]["radiusKm"], 2.0);
    assert_eq!(client.position, Some(world.engine.position()));
}

#[test]
fn a_change_that_is_not_durable_is_not_told_and_one_that_failed_never_was() {
    let mut world = World::new();
    put(&mut world, "a", json!({}), 1.0);
    let mut client = Client::open(&mut world, watch(Kind::Region, Selection::default(), None));
    client.take(&mut world);
    world.writer.holds = true;
    world.ask(put_request(&ObjectKey::region("a"), region("a", [8.0, 50.0], 9.0)));
    world.ask(Request::Delete { key: ObjectKey::region("a"), if_match: None });
    world.ask(put_request(&ObjectKey::region("b"), region("b", [8.0, 50.0], 9.0)));
    let mut late = Client::open(&mut world, watch(Kind::Region, Selection::default(), None));
    client.take(&mut world);
    late.take(&mut world);
    assert_eq!(client.names(), ["a"]);
    assert_eq!(client.has["a"]["spec"]["circle"]["radiusKm"], 1.0);
    assert!(late.has.is_empty(), "what is on its way comes as a change");
    world.fail_next(CommitFailure::DiskFull);
    world.writer.holds = false;
    world.write();
    world.pass(Duration::from_secs(1));
    for client in [&mut client, &mut late] {
        client.take(&mut world);
        assert_eq!(client.names(), ["a"]);
        assert_eq!(client.has["a"]["spec"]["circle"]["radiusKm"], 1.0);
    }
}

#[test]
fn what_leaves_a_selection_is_deleted_and_what_enters_it_is_added() {
    let mut world = World::new();
    put(&mut world, "a", json!({"on": "1"}), 1.0);
    put(&mut world, "b", json!({"on": "0"}), 1.0);
    let mut client = Client::open(&mut world, watch(Kind::Region, labelled("on=1"), None));
    client.take(&mut world);
    assert_eq!(client.names(), ["a"]);
    client.said.clear();
    put(&mut world, "a", json!({"on": "0"}), 1.0);
    put(&mut world, "b", json!({"on": "1"}), 1.0);
    client.take(&mut world);
    put(&mut world, "a", json!({"on": "0"}), 3.0);
    client.take(&mut world);
    assert_eq!(client.said, [(ChangeKind::Deleted, "a".to_owned()), (ChangeKind::Added, "b".to_owned())]);
    let fields = FieldSelector::parse("spec.circle.radiusKm=3.0").unwrap();
    let by_field = Selection { fields, ..Selection::default() };
    let mut client = Client::open(&mut world, watch(Kind::Region, by_field, None));
    client.take(&mut world);
    assert_eq!(client.names(), ["a"]);
}

#[test]
fn a_resumed_watch_misses_nothing_and_an_unknown_position_is_410() {
    let mut world = World::new();
    put(&mut world, "a", json!({}), 1.0);
    put(&mut world, "gone", json!({}), 1.0);
    let Ok(Answer::List { position, .. }) =
        world.answer(Request::List { kind: Kind::Region, selection: Selection::default(), limit: 500, after: None })
    else {
        panic!()
    };
    put(&mut world, "a", json!({}), 2.0);
    put(&mut world, "b", json!({}), 2.0);
    put(&mut world, "short", json!({}), 2.0);
    delete(&mut world, "gone");
    delete(&mut world, "short");
    let mut client = Client::open(&mut world, watch(Kind::Region, Selection::default(), Some(position)));
    client.take(&mut world);
    let said: Vec<(ChangeKind, &str)> = client.said.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    let expected = [(ChangeKind::Modified, "a"), (ChangeKind::Added, "b"), (ChangeKind::Deleted, "gone")];
    assert_eq!(said, expected, "what came and went meanwhile is not told");
    let mut expired = |position: Position| {
        let problem = world.answer(watch(Kind::Region, Selection::default(), Some(position))).unwrap_err();
        assert_eq!((problem.status(), problem.code.as_str()), (410, "WATCH_EXPIRED"));
    };
    expired(Position { sequence: position.sequence + 100, ..position });
    expired(Position { incarnation: position.incarnation + 1, ..position });
    world.restart();
    let problem = world.answer(watch(Kind::Region, Selection::default(), Some(position))).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (410, "WATCH_EXPIRED"), "after a restart");
}

#[test]
fn changes_of_status_are_told_and_collected() {
    let mut world = World::new();
    let mut client = Client::open(&mut world, watch(Kind::Device, Selection::default(), None));
    client.take(&mut world);
    let device = Double::online(&mut world, 1, "gw-1");
    world.pass(Duration::from_secs(1));
    client.take(&mut world);
    assert_eq!(client.has["gw-1"]["status"]["online"]["state"], "Online");
    let told = client.said.len();
    world.run("hello", json!({"on": ["gw-1"]})).unwrap();
    let mut workloads = Client::open(&mut world, watch(Kind::Workload, Selection::default(), None));
    world.pass(Duration::from_secs(1));
    workloads.take(&mut world);
    assert_eq!(workloads.has["hello"]["status"]["placed"], 1);
    assert_eq!(workloads.has["hello"], world.get(&ObjectKey::workload("default", "hello")));
    client.take(&mut world);
    assert!(client.said.len() > told && client.said.len() < told + 6, "{:?}", client.said);
    // Silence changes what is shown, and is told.
    world.pass(Duration::from_secs(3600));
    client.take(&mut world);
    assert_eq!(client.has["gw-1"]["status"]["online"]["state"], "Unknown");
    drop(device);
}

#[test]
fn a_place_selects_devices_and_a_changed_region_ends_the_watch() {
    let mut world = World::new();
    world.put(&ObjectKey::region("here"), region("here", [8.0, 50.0], 10.0)).unwrap();
    let mut devices = [Double::online(&mut world, 1, "in"), Double::online(&mut world, 2, "out")];
    for (device, longitude) in devices.iter_mut().zip([8.0, 20.0]) {
        let name = if longitude == 8.0 { "in" } else { "out" };
        let document = json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": name},
            "spec": {"approved": true, "position": {"point": [longitude, 50.0]}}});
        world.put(&ObjectKey::device(name), document).unwrap();
        let _ = device;
    }
    let within = |name: &str| Selection {
        place: Some(Place { within: Some(name.to_owned()), near: None }),
        ..Selection::default()
    };
    let mut client = Client::open(&mut world, watch(Kind::Device, within("here"), None));
    client.take(&mut world);
    assert_eq!(client.names(), ["in"]);
    let away = json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": "in"},
        "spec": {"approved": true, "position": {"point": [30.0, 50.0]}}});
    world.put(&ObjectKey::device("in"), away).unwrap();
    client.take(&mut world);
    assert!(client.has.is_empty());
    world.put(&ObjectKey::region("here"), region("here", [30.0, 50.0], 10.0)).unwrap();
    client.take(&mut world);
    assert_eq!(client.ended.map(|problem| problem.code.as_str()), Some("WATCH_EXPIRED"));
    let unknown = world.answer(watch(Kind::Device, within("nowhere"), None)).unwrap_err();
    assert_eq!((unknown.status(), unknown.code.as_str()), (404, "NOT_FOUND"));
    let wrong_kind = world.answer(watch(Kind::Region, within("here"), None)).unwrap_err();
    assert_eq!(wrong_kind.status(), 422);
}

#[test]
fn a_watcher_gets_no_more_than_its_credit_and_the_newest_when_it_takes_again() {
    let mut world = World::new();
    let more = WATCHER_CREDIT_MAX + 10;
    for n in 0..more {
        put(&mut world, &format!("r{n}"), json!({}), 1.0);
    }
    let mut client = Client::open(&mut world, watch(Kind::Region, Selection::default(), None));
    assert_eq!(world.streams.len(), usize::try_from(WATCHER_CREDIT_MAX).unwrap());
    for n in 0..more {
        put(&mut world, &format!("r{n}"), json!({}), 2.0);
        put(&mut world, &format!("r{n}"), json!({}), 3.0);
    }
    assert_eq!(world.streams.len(), usize::try_from(WATCHER_CREDIT_MAX).unwrap(), "it waits for the client");
    client.take(&mut world);
    assert_eq!(client.has.len(), usize::try_from(more).unwrap());
    assert!(client.has.values().all(|document| document["spec"]["circle"]["radiusKm"] == 3.0));
    let changes = client.said.iter().filter(|(kind, _)| *kind == ChangeKind::Modified).count();
    assert!(changes <= usize::try_from(more).unwrap(), "many changes of one object are one: {changes}");
}

#[test]
fn a_watcher_too_far_behind_is_cut_and_told_so() {
    let mut world = World::new();
    put(&mut world, "r", json!({}), 1.0);
    let mut client = Client::open(&mut world, watch(Kind::Device, Selection::default(), None));
    let lag = crate::engine::watcher::WATCHER_LAG_MAX;
    // It takes nothing, and is owed a bookmark again and again, until its credit is used up.
    for _ in 0..u64::from(WATCHER_CREDIT_MAX) * crate::engine::watcher::BOOKMARK_EVERY + lag {
        world.engine.changes.push(ObjectKey::region("r"), crate::engine::changes::Did::Updated);
    }
    world.settle();
    for _ in 0..=lag {
        world.engine.changes.push(ObjectKey::region("r"), crate::engine::changes::Did::Updated);
    }
    world.settle();
    for _ in 0..=lag {
        world.engine.changes.push(ObjectKey::region("r"), crate::engine::changes::Did::Updated);
    }
    world.settle();
    client.take(&mut world);
    assert_eq!(client.ended.map(|problem| problem.code.as_str()), Some("WATCH_SLOW"));
}

#[test]
fn watches_are_bounded_and_a_closed_one_makes_room() {
    let mut world = World::new();
    let clients: Vec<Client> =
        (0..WATCHERS_MAX).map(|_| Client::open(&mut world, watch(Kind::Region, Selection::default(), None))).collect();
    let problem = world.answer(watch(Kind::Region, Selection::default(), None)).unwrap_err();
    assert_eq!((problem.status(), problem.code.as_str()), (503, "BUSY"));
    world.input(Input::Cancel { ticket: clients[0].ticket });
    Client::open(&mut world, watch(Kind::Region, Selection::default(), None));
}

#[test]
fn events_are_watched_from_a_position_on() {
    let mut world = World::new();
    put(&mut world, "a", json!({}), 1.0);
    delete(&mut world, "a");
    let watch = |from| Request::EventsWatch { object: None, tail: 100, from };
    let Ok(Answer::WatchingEvents { lines, incarnation }) = world.answer(watch(None)) else { panic!() };
    let last = lines.last().unwrap().sequence;
    let from = Position { incarnation, sequence: last - 1 };
    let Ok(Answer::WatchingEvents { lines, .. }) = world.answer(watch(Some(from))) else { panic!() };
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [last]);
    for from in [Position { incarnation: incarnation + 1, ..from }, Position { sequence: last + 1, ..from }] {
        assert_eq!(world.answer(watch(Some(from))).unwrap_err().code.as_str(), "WATCH_EXPIRED");
    }
}

#[test]
fn a_placement_is_an_object_of_its_own_that_is_selected_and_watched() {
    let mut world = World::new();
    let device = Double::online(&mut world, 1, "gw-1");
    Double::online(&mut world, 2, "gw-2");
    world.put(&ObjectKey::region("here"), region("here", [8.0, 50.0], 10.0)).unwrap();
    let mut client = Client::open(&mut world, watch(Kind::Placement, Selection::default(), None));
    let artifact = world.upload("app", 0x11);
    let mut document = super::world::workload("hello", &artifact, json!({"on": ["gw-1", "gw-2"]}));
    document["spec"]["every"] = json!(true);
    document["metadata"]["labels"] = json!({"team": "a"});
    world.put(&ObjectKey::workload("default", "hello"), document.clone()).unwrap();
    world.pass(Duration::from_secs(1));
    client.take(&mut world);
    assert_eq!(client.names(), ["hello.gw-1", "hello.gw-2"]);
    let key = ObjectKey { kind: Kind::Placement, namespace: "default".to_owned(), name: "hello.gw-1".to_owned() };
    assert_eq!(client.has["hello.gw-1"], world.get(&key));
    assert_eq!(client.has["hello.gw-1"]["spec"]["device"], "gw-1");
    assert_eq!(client.has["hello.gw-1"]["metadata"]["labels"]["team"], "a");
    let names = |world: &mut World, selection: Selection| -> Vec<String> {
        match world.answer(Request::List { kind: Kind::Placement, selection, limit: 500, after: None }) {
            Ok(Answer::List { items, .. }) => {
                items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    let there = json!({"apiVersion": "fulmar/v1", "kind": "Device", "metadata": {"name": "gw-2"},
        "spec": {"position": {"point": [8.0, 50.0]}}});
    let place = Some(Place { within: Some("here".to_owned()), near: None });
    let within = Selection { place, ..Selection::default() };
    let mut nearby = Client::open(&mut world, watch(Kind::Placement, within.clone(), None));
    nearby.take(&mut world);
    assert!(nearby.has.is_empty());
    world.put(&ObjectKey::device("gw-2"), there).unwrap();
    world.pass(Duration::from_secs(1));
    nearby.take(&mut world);
    assert_eq!(nearby.names(), ["hello.gw-2"], "it moved with its device");
    assert_eq!(names(&mut world, within), ["hello.gw-2"]);
    assert_eq!(names(&mut world, labelled("team=b")), [""; 0]);
    document["metadata"]["labels"] = json!({"team": "b"});
    world.put(&ObjectKey::workload("default", "hello"), document).unwrap();
    world.pass(Duration::from_secs(1));
    client.take(&mut world);
    assert_eq!(client.has["hello.gw-2"]["metadata"]["labels"]["team"], "b");
    assert_eq!(names(&mut world, labelled("team=b")).len(), 2);
    world.answer(Request::Delete { key: ObjectKey::workload("default", "hello"), if_match: None }).unwrap();
    world.pass(Duration::from_secs(1));
    client.take(&mut world);
    assert!(client.has.is_empty(), "{:?}", client.names());
    drop(device);
}
