//! The broker as its clients see it: real connections on loopback, and *delivery* rather than answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_compat::Compat;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Filter, LastWill, LastWillProperties, Packet, PubAckReason, Publish, PublishProperties, RetainForwardRule,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use sha2::{Digest, Sha256};

use super::*;

mod faults;
mod limits;

const DEADLINE: Duration = Duration::from_secs(20);

/// A client whose event loop runs on a thread of its own.
struct Peer {
    client: AsyncClient,
    packets: mpsc::Receiver<Result<Packet, String>>,
    stop: async_channel::Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peer {
    fn open(options: MqttOptions) -> Self {
        let (client, mut event_loop) = AsyncClient::new(options, 4096);
        let (packet, packets) = mpsc::channel();
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let thread = thread::spawn(move || {
            let stopped = async {
                let _ = stopped.recv().await;
            };
            let poll = async {
                loop {
                    match Compat::new(event_loop.poll()).await {
                        Ok(Event::Incoming(incoming)) => drop(packet.send(Ok(incoming))),
                        Ok(Event::Outgoing(_)) => {}
                        Err(error) => {
                            let _ = packet.send(Err(error.to_string()));
                            return;
                        }
                    }
                }
            };
            smol::block_on(futures_lite::future::or(stopped, poll));
        });
        Self { client, packets, stop, thread: Some(thread) }
    }

    fn next(&self) -> Result<Packet, String> {
        self.packets.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("nothing came in time"))
    }

    fn until<T>(&self, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = wanted(self.next().expect("connection lost")) {
                return found;
            }
            assert!(Instant::now() < deadline, "not seen in time");
        }
    }

    fn connected(self) -> Self {
        self.connack();
        self
    }

    fn connack(&self) -> ConnAck {
        self.until(|packet| if let Packet::ConnAck(ack) = packet { Some(ack) } else { None })
    }

    /// The reason why the connection ended.
    fn lost(&self) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "still connected");
            if let Err(reason) = self.next() {
                return reason;
            }
        }
    }

    fn publish(&self, topic: &str, payload: &str) -> PubAckReason {
        self.send(topic, payload.as_bytes().to_vec(), false)
    }

    fn retain(&self, topic: &str, payload: &str) -> PubAckReason {
        self.send(topic, payload.as_bytes().to_vec(), true)
    }

    fn send(&self, topic: &str, payload: Vec<u8>, retain: bool) -> PubAckReason {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).unwrap();
        self.until(|packet| if let Packet::PubAck(ack) = packet { Some(ack.reason) } else { None })
    }

    fn subscribe(&self, filter: &str) -> SubscribeReasonCode {
        self.subscribe_with(filter, RetainForwardRule::OnEverySubscribe)
    }

    fn subscribe_with(&self, filter: &str, rule: RetainForwardRule) -> SubscribeReasonCode {
        let filter = Filter { retain_forward_rule: rule, ..Filter::new(filter, QoS::AtLeastOnce) };
        self.client.try_subscribe_many([filter]).unwrap();
        self.until(|packet| if let Packet::SubAck(ack) = packet { ack.return_codes.first().copied() } else { None })
    }

    fn message(&self) -> Publish {
        self.until(|packet| if let Packet::Publish(publish) = packet { Some(publish) } else { None })
    }

    /// Topic, payload and retained flag of the next message.
    fn read(&self) -> (String, String, bool) {
        let publish = self.message();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&publish.topic), text(&publish.payload), publish.retain)
    }

    /// Ends like a device that loses power: no DISCONNECT.
    fn cut(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.join();
    }
}

struct Site {
    broker: Broker,
    table: Arc<AccessTable>,
}

fn secret(name: &str) -> String {
    format!("secret of {name}")
}

fn config() -> BrokerConfig {
    BrokerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn table() -> Arc<AccessTable> {
    let table = AccessTable::new("home").unwrap();
    for device in ["a", "b", "timer"] {
        table.device_put(device, Sha256::digest(secret(device)).into()).unwrap();
    }
    table.join_put("tok", Sha256::digest(secret("tok")).into()).unwrap();
    Arc::new(table)
}

fn site() -> Site {
    site_with(config())
}

fn site_with(config: BrokerConfig) -> Site {
    let table = table();
    Site { broker: Broker::start(config, table.clone()).unwrap(), table }
}

impl Site {
    fn options(&self, client_id: &str, user: &str, password: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", self.broker.address().port());
        options.set_credentials(user, password).set_max_packet_size(Some(4 * 1024 * 1024));
        options
    }

    fn hub(&self) -> Peer {
        let hub = self.table.hub_credential();
        Peer::open(self.options("hub", &hub.user, &hub.password)).connected()
    }

    fn device_options(&self, device: &str) -> MqttOptions {
        self.options(device, device, &secret(device))
    }

    fn device(&self, device: &str) -> Peer {
        Peer::open(self.device_options(device)).connected()
    }

    fn join(&self) -> Peer {
        Peer::open(self.options("join:tok-1", "join:tok", &secret("tok"))).connected()
    }
}

fn granted() -> SubscribeReasonCode {
    SubscribeReasonCode::Success(QoS::AtLeastOnce)
}

#[test]
fn wrong_names_and_passwords_are_told_that_they_are_not_authorized() {
    let site = site();
    let hub = site.table.hub_credential();
    for (client_id, user, password) in [
        ("a", "a", "wrong".to_owned()),
        ("b", "a", secret("a")),
        ("x", "x", secret("x")),
        ("hub", "hub", "guess".to_owned()),
        ("a", "hub", hub.password.clone()),
        ("join:other", "join:tok", secret("tok")),
        ("join:tok", "join:tok", "wrong".to_owned()),
    ] {
        let reason = Peer::open(site.options(client_id, user, &password)).lost();
        assert!(reason.contains("NotAuthorized"), "{client_id} {user}: {reason}");
    }
    let mut anonymous = MqttOptions::new("a", "127.0.0.1", site.broker.address().port());
    anonymous.set_clean_start(true);
    assert!(Peer::open(anonymous).lost().contains("NotAuthorized"));
    assert_eq!(site.broker.counters().connects_refused, 8);
}

#[test]
fn an_old_protocol_version_is_refused_even_with_the_right_password() {
    let site = site();
    let mut options = rumqttc::MqttOptions::new("a", "127.0.0.1", site.broker.address().port());
    options.set_credentials("a", secret("a"));
    let (_client, mut event_loop) = rumqttc::AsyncClient::new(options, 4);
    let refused = smol::block_on(Compat::new(event_loop.poll())).unwrap_err().to_string();
    assert!(refused.contains("NotAuthorized"), "{refused}");
}

#[test]
fn a_device_reaches_the_hub_through_its_own_topics_only() {
    let site = site();
    let (hub, device) = (site.hub(), site.device("a"));
    assert_eq!(hub.subscribe("#"), granted());
    for topic in [
        "fulmar/v1/home/d/b/up/status",
        "fulmar/v1/home/d/b/down/desired",
        "fulmar/v1/home/d/a/down/desired",
        "fulmar/v1/home/hub/state",
        "fulmar/v1/home/join/tok/req",
        "fulmar/v1/other/d/a/up/status",
        "$SYS/broker",
    ] {
        assert_eq!(device.publish(topic, "forbidden"), PubAckReason::NotAuthorized, "{topic}");
        // QoS 0 has no answer to look at: only delivery shows whether it went through.
        device.client.try_publish(topic, QoS::AtMostOnce, false, "forbidden").unwrap();
    }
    assert_eq!(device.retain("fulmar/v1/home/d/a/up/status", "forbidden"), PubAckReason::NotAuthorized);
    assert_eq!(device.publish("fulmar/v1/home/d/a/up/status", "allowed"), PubAckReason::Success);
    assert_eq!(hub.read(), ("fulmar/v1/home/d/a/up/status".to_owned(), "allowed".to_owned(), false));
    assert_eq!(site.broker.counters().retained, 0);
    assert_eq!(site.broker.counters().publishes_refused, 15);
}

#[test]
fn a_device_hears_nothing_that_is_meant_for_others() {
    let site = site();
    let (hub, device) = (site.hub(), site.device("a"));
    let refused = [
        "#",
        "fulmar/v1/home/d/+/down/#",
        "fulmar/v1/home/d/b/down/#",
        "fulmar/v1/home/d/a/up/#",
        "fulmar/v1/home/hub/#",
        "fulmar/v1/home/join/tok/ans",
        "$SYS/#",
        "$share/group/fulmar/v1/home/d/a/down/#",
    ];
    for filter in refused {
        assert_eq!(device.subscribe(filter), SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    assert_eq!(device.subscribe("fulmar/v1/home/d/a/down/#"), granted());
    assert_eq!(device.subscribe("fulmar/v1/home/hub/state"), granted());
    for topic in ["fulmar/v1/home/d/b/down/cmd", "fulmar/v1/home/join/tok/ans", "fulmar/v1/home/d/a/up/log"] {
        hub.publish(topic, "not for a");
        hub.retain(topic, "not for a");
    }
    hub.publish("fulmar/v1/home/d/a/down/cmd", "for a");
    hub.publish("fulmar/v1/home/hub/state", "for all");
    assert_eq!(device.read().1, "for a");
    assert_eq!(device.read().1, "for all");
    assert_eq!(site.broker.counters().subscribes_refused, u64::try_from(refused.len()).unwrap());
}

#[test]
fn a_join_user_can_ask_and_be_answered_and_nothing_else() {
    let site = site();
    let (hub, join) = (site.hub(), site.join());
    assert_eq!(hub.subscribe("fulmar/v1/home/#"), granted());
    for filter in ["#", "fulmar/v1/home/join/#", "fulmar/v1/home/hub/state", "fulmar/v1/home/d/a/down/#"] {
        assert_eq!(join.subscribe(filter), SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    assert_eq!(join.subscribe("fulmar/v1/home/join/tok/ans"), granted());
    assert_eq!(join.publish("fulmar/v1/home/join/tok/ans", "no"), PubAckReason::NotAuthorized);
    assert_eq!(join.publish("fulmar/v1/home/d/a/up/hello", "no"), PubAckReason::NotAuthorized);
    assert_eq!(join.retain("fulmar/v1/home/join/tok/req", "no"), PubAckReason::NotAuthorized);
    assert_eq!(join.publish("fulmar/v1/home/join/tok/req", "please"), PubAckReason::Success);
    assert_eq!(hub.read().1, "please");
    hub.publish("fulmar/v1/home/join/tok/ans", "welcome");
    assert_eq!(join.read().1, "welcome");
}

#[test]
fn a_will_obeys_the_same_rules_as_a_publish() {
    let site = site();
    for (topic, retain) in [("fulmar/v1/home/d/b/up/will", false), ("fulmar/v1/home/d/a/up/will", true)] {
        let mut options = site.device_options("a");
        options.set_last_will(LastWill::new(topic, "bye", QoS::AtLeastOnce, retain, None));
        assert!(Peer::open(options).lost().contains("NotAuthorized"), "{topic}");
    }
}

#[test]
fn a_retained_message_outlives_its_publisher_and_is_replaced_and_cleared() {
    let site = site();
    let desired = "fulmar/v1/home/d/a/down/desired";
    let hub = site.hub();
    assert!(matches!(hub.retain(desired, "one"), PubAckReason::Success | PubAckReason::NoMatchingSubscribers));
    drop(hub);
    let device = site.device("a");
    assert_eq!(device.subscribe(desired), granted());
    assert_eq!(device.read(), (desired.to_owned(), "one".to_owned(), true));
    let hub = site.hub();
    hub.retain(desired, "two");
    assert_eq!(device.read(), (desired.to_owned(), "two".to_owned(), false), "live, so not marked as retained");
    drop(device);
    let device = site.device("a");
    assert_eq!(device.subscribe("fulmar/v1/home/d/a/down/#"), granted());
    assert_eq!(device.read(), (desired.to_owned(), "two".to_owned(), true), "through a wildcard");
    hub.retain(desired, "");
    assert_eq!(device.read().1, "", "the clearing message is delivered live");
    assert_eq!(site.broker.counters().retained, 0);
    drop(device);
    let device = site.device("a");
    device.subscribe("fulmar/v1/home/d/a/down/#");
    hub.publish(desired, "marker");
    assert_eq!(device.read().1, "marker", "nothing was retained any more");
}

#[test]
fn retain_handling_decides_who_gets_the_stored_copy() {
    let site = site();
    let desired = "fulmar/v1/home/d/a/down/desired";
    let (hub, device) = (site.hub(), site.device("a"));
    hub.retain(desired, "stored");
    device.subscribe_with(desired, RetainForwardRule::Never);
    hub.publish(desired, "marker");
    assert_eq!(device.read(), (desired.to_owned(), "marker".to_owned(), false), "2: never");
    device.subscribe_with(desired, RetainForwardRule::OnNewSubscribe);
    hub.publish(desired, "marker");
    assert_eq!(device.read().1, "marker", "1: the subscription was there already");
    device.subscribe_with(desired, RetainForwardRule::OnEverySubscribe);
    assert_eq!(device.read(), (desired.to_owned(), "stored".to_owned(), true), "0: always");
    drop(device);
    let device = site.device("a");
    device.subscribe_with(desired, RetainForwardRule::OnNewSubscribe);
    assert_eq!(device.read(), (desired.to_owned(), "stored".to_owned(), true), "1: a new subscription");
}

#[test]
fn a_full_retained_store_says_so_and_keeps_what_it_has() {
    let mut config = config();
    config.limits.retained = RetainedLimits { messages_max: 1, bytes_max: 1000 };
    let site = site_with(config);
    let hub = site.hub();
    let (first, second) = ("fulmar/v1/home/d/a/down/desired", "fulmar/v1/home/d/b/down/desired");
    assert_ne!(hub.retain(first, "kept"), PubAckReason::QuotaExceeded);
    assert_eq!(hub.retain(second, "one too many"), PubAckReason::QuotaExceeded);
    assert_ne!(hub.retain(first, "replaced"), PubAckReason::QuotaExceeded);
    hub.subscribe("fulmar/v1/home/d/+/down/desired");
    assert_eq!(hub.read(), (first.to_owned(), "replaced".to_owned(), true));
    let counters = site.broker.counters();
    assert_eq!((counters.retained, counters.retained_refused), (1, 1));
}

fn with_will(site: &Site, device: &str, delay_s: u32) -> MqttOptions {
    let mut options = site.device_options(device);
    let properties = LastWillProperties {
        delay_interval: Some(delay_s),
        payload_format_indicator: None,
        message_expiry_interval: Some(60),
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let topic = format!("fulmar/v1/home/d/{device}/up/will");
    options.set_last_will(LastWill::new(topic, device, QoS::AtLeastOnce, false, Some(properties)));
    options.set_session_expiry_interval(Some(60));
    options
}

#[test]
fn a_will_fires_after_its_delay_unless_the_device_is_back() {
    let site = site();
    let hub = site.hub();
    hub.subscribe("fulmar/v1/home/d/+/up/will");
    let lost = Peer::open(with_will(&site, "a", 1)).connected();
    let back = Peer::open(with_will(&site, "b", 3)).connected();
    let timer = Peer::open(with_will(&site, "timer", 5)).connected();
    let cut_at = Instant::now();
    lost.cut();
    back.cut();
    let _back = Peer::open(with_will(&site, "b", 3)).connected();
    timer.cut();
    assert_eq!(hub.read().1, "a");
    assert!(cut_at.elapsed() >= Duration::from_millis(900), "after its delay, not at once");
    assert_eq!(hub.read().1, "timer", "the will of a device that came back must not fire");
}

#[test]
fn a_session_keeps_its_messages_for_a_while_and_expired_ones_are_left_out() {
    let site = site();
    let hub = site.hub();
    hub.subscribe("fulmar/v1/home/d/timer/up/will");
    let mut options = site.device_options("a");
    options.set_session_expiry_interval(Some(60)).set_clean_start(false);
    let device = Peer::open(options.clone()).connected();
    device.subscribe("fulmar/v1/home/d/a/down/#");
    let timer = Peer::open(with_will(&site, "timer", 2)).connected();
    device.cut();
    let command = "fulmar/v1/home/d/a/down/cmd";
    for number in 0..20 {
        hub.publish(command, &number.to_string());
    }
    let short = PublishProperties { message_expiry_interval: Some(1), ..PublishProperties::default() };
    hub.client.try_publish_with_properties(command, QoS::AtLeastOnce, false, "short-lived", short).unwrap();
    hub.publish(command, "last");
    timer.cut();
    assert_eq!(hub.read().1, "timer", "two seconds later");
    let device = Peer::open(options);
    assert!(device.connack().session_present);
    for number in 0..20 {
        assert_eq!(device.read().1, number.to_string());
    }
    assert_eq!(device.read().1, "last", "the short-lived one is left out");
}

#[test]
fn a_queue_of_a_device_that_is_away_is_bounded_and_counted() {
    let mut config = config();
    config.limits.client_queue_messages_max = 10;
    let site = site_with(config);
    let hub = site.hub();
    let mut options = site.device_options("a");
    options.set_session_expiry_interval(Some(60)).set_clean_start(false);
    let device = Peer::open(options.clone()).connected();
    device.subscribe("fulmar/v1/home/d/a/down/#");
    device.cut();
    hub.subscribe("fulmar/v1/home/d/a/up/will");
    for number in 0..100 {
        hub.publish("fulmar/v1/home/d/a/down/cmd", &number.to_string());
    }
    let device = Peer::open(options);
    assert!(device.connack().session_present);
    let first: u32 = device.read().1.parse().unwrap();
    assert!(first >= 80, "the newest are kept, not {first}");
    assert!(site.broker.counters().queue_dropped >= 80);
}

#[test]
fn a_replaced_credential_ends_the_session_and_only_the_new_one_gets_in() {
    let site = site();
    let device = site.device("a");
    site.table.device_put("a", Sha256::digest("new").into()).unwrap();
    site.broker.kick("a");
    device.lost();
    assert!(Peer::open(site.device_options("a")).lost().contains("NotAuthorized"));
    let device = Peer::open(site.options("a", "a", "new")).connected();
    assert!(site.table.device_remove("a"));
    assert_eq!(device.publish("fulmar/v1/home/d/a/up/status", "gone"), PubAckReason::NotAuthorized);
    site.broker.kick("a");
    device.lost();
    assert!(Peer::open(site.options("a", "a", "new")).lost().contains("NotAuthorized"));
    assert_eq!(site.broker.counters().kicked, 2);
    site.broker.kick("nobody");
}

/// Lets everybody in once and nobody a second time: a credential that is removed while its owner connects.
struct Fickle(AtomicU32);

impl Access for Fickle {
    fn connect(&self, _: &str, _: &str, _: &[u8]) -> Verdict {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 { Verdict::Allowed } else { Verdict::NotAuthorized }
    }

    fn publish(&self, _: &ClientName<'_>, _: &str, _: bool) -> bool {
        true
    }

    fn subscribe(&self, _: &ClientName<'_>, _: &str) -> bool {
        true
    }
}

#[test]
fn a_credential_removed_during_the_handshake_does_not_leave_a_session() {
    let broker = Broker::start(config(), Arc::new(Fickle(AtomicU32::new(0)))).unwrap();
    let mut options = MqttOptions::new("a", "127.0.0.1", broker.address().port());
    options.set_credentials("a", "any");
    Peer::open(options).lost();
    let deadline = Instant::now() + DEADLINE;
    while broker.counters().kicked < 1 {
        assert!(Instant::now() < deadline, "the session stays");
        thread::yield_now();
    }
}

#[test]
fn a_restarted_broker_has_the_same_port_and_an_empty_memory() {
    let Site { broker, table } = site();
    let address = broker.address();
    let mut site = Site { broker, table };
    let desired = "fulmar/v1/home/d/a/down/desired";
    for round in 0..3 {
        let (hub, device) = (site.hub(), site.device("a"));
        device.subscribe(desired);
        hub.publish(desired, "marker");
        assert_eq!(device.read(), (desired.to_owned(), "marker".to_owned(), false), "round {round}");
        hub.retain(desired, "stored");
        assert_eq!(device.read().1, "stored");
        let Site { broker, table } = site;
        let began = Instant::now();
        broker.stop().unwrap();
        assert!(began.elapsed() < STOP_DEADLINE);
        assert_eq!(Arc::strong_count(&table), 1, "everything of the stopped broker is freed");
        device.lost();
        hub.lost();
        let broker = Broker::start(BrokerConfig::new(address), table.clone()).unwrap();
        assert_eq!(broker.address(), address);
        site = Site { broker, table };
    }
}

#[test]
fn what_a_broker_is_started_with_is_there_for_the_first_who_asks_up_to_what_has_room() {
    let desired = "fulmar/v1/home/d/a/down/desired";
    let kept = |topic: &str, bytes: usize| (topic.to_owned(), vec![b'x'; bytes]);
    let mut config = config();
    config.limits.retained = RetainedLimits { messages_max: 3, bytes_max: 1_000 };
    let with =
        vec![kept(desired, 3), kept("fulmar/v1/home/d/b/down/desired", 2_000), kept("fulmar/v1/home/hub/state", 3)];
    let table = table();
    let site = Site { broker: Broker::start_with(config, table.clone(), with).unwrap(), table };
    assert_eq!(site.broker.counters().retained, 1, "nothing after what has no room");
    let device = site.device("a");
    assert_eq!(device.subscribe_with(desired, RetainForwardRule::Never), granted());
    assert_eq!(device.subscribe(desired), granted());
    assert_eq!(device.read(), (desired.to_owned(), "xxx".to_owned(), true), "once, to who wants it");
    let hub = site.hub();
    assert_eq!(hub.retain(desired, "newer"), PubAckReason::Success);
    assert_eq!(device.read(), (desired.to_owned(), "newer".to_owned(), false));
}

#[test]
fn a_taken_address_is_an_error_that_names_it() {
    let site = site();
    let taken = site.broker.address();
    match Broker::start(BrokerConfig::new(taken), site.table.clone()) {
        Err(error @ BrokerError::Listen { .. }) => assert!(error.to_string().contains(&taken.to_string()), "{error}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two brokers on one port"),
    }
}

#[test]
fn a_broker_that_cannot_keep_retained_messages_does_not_start() {
    let mut config = config();
    config.limits.retained = RetainedLimits { messages_max: 0, bytes_max: 0 };
    match Broker::start(config, table()) {
        Err(error @ BrokerError::SelfTest { .. }) => assert!(error.to_string().contains("QuotaExceeded"), "{error}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("started"),
    }
}

#[test]
fn nothing_is_given_an_expiry_that_its_publisher_did_not_ask_for() {
    let site = site();
    let (hub, device) = (site.hub(), site.device("a"));
    let desired = "fulmar/v1/home/d/a/down/desired";
    hub.retain(desired, "stored");
    device.subscribe(desired);
    hub.publish(desired, "live");
    for payload in ["stored", "live"] {
        let message = device.message();
        assert_eq!(message.payload, payload);
        assert_eq!(message.properties.and_then(|properties| properties.message_expiry_interval), None);
    }
}

#[test]
fn a_client_without_a_keep_alive_is_given_one() {
    let site = site();
    let mut options = site.device_options("a");
    options.set_keep_alive(Duration::from_secs(60_000));
    let given = Peer::open(options).connack().properties.and_then(|properties| properties.server_keep_alive);
    assert_eq!(given, Some(KEEP_ALIVE_MAX_S));
    let given = Peer::open(site.device_options("a")).connack().properties.and_then(|p| p.server_keep_alive);
    assert_eq!(given, Some(60), "a sensible one is taken");
}

#[test]
fn the_self_test_leaves_nothing_behind() {
    let site = site();
    assert_eq!(site.broker.counters().retained, 0);
    assert_eq!(site.broker.counters().connects_refused, 0);
    let hub = site.hub();
    hub.subscribe("#");
    hub.publish("fulmar/v1/home/hub/state", "marker");
    assert_eq!(hub.read().1, "marker");
}

#[test]
fn a_message_larger_than_its_reader_accepts_is_left_out_without_cutting_the_connection() {
    let site = site();
    let hub = site.hub();
    let desired = "fulmar/v1/home/d/a/down/desired";
    hub.send(desired, vec![b'x'; 3000], true);
    let mut options = site.device_options("a");
    options.set_max_packet_size(Some(2048));
    let device = Peer::open(options).connected();
    device.subscribe("fulmar/v1/home/d/a/down/#");
    hub.send("fulmar/v1/home/d/a/down/cmd", vec![b'y'; 2100], false);
    // Exactly the limit: fixed header, topic with its length, packet id, empty properties, payload.
    let topic = "fulmar/v1/home/d/a/down/fresh";
    let fits = 2048 - (5 + 2 + topic.len() + 2 + 1);
    hub.send(topic, vec![b'z'; fits + 1], false);
    hub.send(topic, vec![b'z'; fits], false);
    assert_eq!(device.message().payload.len(), fits);
    assert_eq!(site.broker.counters().oversize_dropped, 3);
}

#[test]
fn a_packet_over_the_limit_ends_its_sender_s_connection_only() {
    let mut config = config();
    config.limits.packet_bytes_max = 20_000;
    let site = site_with(config);
    let (hub, device, other) = (site.hub(), site.device("a"), site.device("b"));
    hub.subscribe("fulmar/v1/home/d/+/up/#");
    device.send("fulmar/v1/home/d/a/up/status", vec![1; 19_000], false);
    assert_eq!(hub.message().payload.len(), 19_000);
    // The limit in CONNACK stops an honest client; this one has not read it.
    let mut raw = std::net::TcpStream::connect(site.broker.address()).unwrap();
    raw.set_read_timeout(Some(DEADLINE)).unwrap();
    std::io::Write::write_all(&mut raw, &[0x10, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60]).unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut raw, &mut answer);
    other.publish("fulmar/v1/home/d/b/up/status", "still here");
    assert_eq!(hub.read().1, "still here");
}

#[test]
fn more_sessions_than_the_limit_are_turned_away() {
    let mut config = config();
    config.limits.connections_max = 2;
    let site = site_with(config);
    let deadline = Instant::now() + DEADLINE;
    // The sessions of the self-test end when the broker notices that they were closed.
    while site.broker.counters().sessions > 0 {
        assert!(Instant::now() < deadline, "the self-test's sessions stay");
        thread::yield_now();
    }
    let (_hub, _device) = (site.hub(), site.device("a"));
    let reason = Peer::open(site.device_options("b")).lost();
    assert!(reason.contains("ServerUnavailable"), "{reason}");
}
