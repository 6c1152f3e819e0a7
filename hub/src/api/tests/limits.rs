//! Limits at their value and one beyond; and the table of all limits that callers and devices meet, made from the constants.
use super::*;
use crate::problem_code::ProblemCode;
use std::time::Instant;

#[test]
fn a_page_and_a_tail_are_taken_at_their_limit_and_refused_beyond() {
    let rig = Rig::start();
    for (path, limit) in [
        ("/v1/devices?limit=", PAGE_MAX),
        ("/v1/namespaces/default/workloads?limit=", PAGE_MAX),
        ("/v1/namespaces/default/workloads/w/logs?tail=", TAIL_MAX),
    ] {
        let ask = |count: usize| rig.admin("GET", &format!("{path}{count}"), b"").status;
        assert_eq!([limit - 1, limit, limit + 1].map(ask), [200, 200, 422], "{path}");
    }
}

#[test]
fn a_decision_names_so_many_devices() {
    let rig = Rig::start();
    let limit = DEVICES_NAMED_MAX;
    for path in ["/v1/hub/hold", "/v1/hub/apply"] {
        let post = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("gw-{number}")).collect();
            rig.admin("POST", path, json!({"devices": names}).to_string().as_bytes()).status
        };
        assert_eq!([limit - 1, limit, limit + 1].map(post), [200, 200, 422], "{path}");
        for (body, status) in
            [("", 200), ("{}", 200), ("{\"devices\": []}", 422), ("{\"devices\": [1]}", 422), ("{\"x\": 1}", 422)]
        {
            assert_eq!(rig.admin("POST", path, body.as_bytes()).status, status, "{path} {body}");
        }
    }
    let takeover = |body: &str| rig.admin("POST", "/v1/hub/takeover", body.as_bytes()).status;
    assert_eq!(
        ["{\"confirm\": true}", "{}", "{\"confirm\": false}", "{\"confirm\": 1}"].map(takeover),
        [200, 422, 422, 422]
    );
}

#[test]
fn an_idempotency_key_has_at_most_its_bytes() {
    let rig = Rig::start();
    let post = |bytes: usize| {
        let key = "k".repeat(bytes);
        let head = format!(
            "POST /v1/devices/x/cordon HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: {key}\r\nContent-Length: 0\r\n\r\n"
        );
        rig.send(head.as_bytes()).status
    };
    let limit = idempotency::IDEMPOTENCY_KEY_BYTES_MAX;
    assert_eq!([limit - 1, limit, limit + 1].map(post), [200, 200, 400]);
}

#[test]
fn an_answer_under_a_key_is_kept_up_to_its_bytes_and_told_as_done_beyond() {
    let rig = Rig::start();
    let limit = idempotency::ANSWER_KEPT_BYTES_MAX;
    let apply = |bytes: usize| {
        let body = json!({"bytes": bytes}).to_string();
        let head = format!(
            "POST /v1/plans/apply HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: k{bytes}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        rig.send(head.as_bytes())
    };
    for bytes in [limit - 1, limit, limit + 1] {
        let first = apply(bytes);
        assert_eq!((first.status, first.body.len()), (200, bytes), "the first gets it whole");
    }
    for bytes in [limit - 1, limit] {
        let again = apply(bytes);
        assert_eq!((again.status, again.body.len()), (200, bytes));
        assert!(again.head.contains("idempotency-replayed: true"), "{}", again.head);
    }
    let again = apply(limit + 1);
    assert_eq!(again.problem(), (409, "ANSWER_NOT_KEPT".to_owned()));
    assert!(again.json()["detail"].as_str().unwrap().contains("answered with 200"), "{}", again.json());
    let done = rig.asked.lock().unwrap().iter().filter(|asked| asked.contains("PlanApply")).count();
    assert_eq!(done, 3, "each once");
}

#[test]
fn a_connection_over_the_limit_is_closed_and_those_that_are_open_go_on() {
    let limit = 3;
    let rig = Rig::with(ApiLimits { connections_max: limit, ..ApiLimits::default() });
    // The connection stays open after its answer.
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").ok()?;
        let mut answer = [0; 1024];
        stream.read(&mut answer).ok().filter(|count| *count > 0)
    };
    let open = || TcpStream::connect(rig.address).unwrap();
    let mut held: Vec<TcpStream> = (0..limit).map(|_| open()).collect();
    assert!(held.iter_mut().all(|stream| ask(stream).is_some()));
    assert!(ask(&mut open()).is_none(), "one beyond");
    assert!(held.iter_mut().all(|stream| ask(stream).is_some()), "the others do not notice");
    held.pop();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(&mut open()).is_none() {
        assert!(Instant::now() < deadline, "a place that was given back stays taken");
    }
}

/// One row of the table, and the test that goes to the limit and one beyond.
struct Limit {
    what: &'static str,
    value: String,
    beyond: &'static str,
    code: &'static str,
    test: &'static str,
}

fn limit(
    what: &'static str,
    value: impl ToString,
    beyond: &'static str,
    code: &'static str,
    test: &'static str,
) -> Limit {
    Limit { what, value: value.to_string(), beyond, code, test }
}

/// `64 KiB`, `4096 B`.
fn bytes(count: impl TryInto<u64>) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    match [(1 << 20, "MiB"), (1 << 10, "KiB")].into_iter().find(|(unit, _)| count >= *unit && count % unit == 0) {
        Some((unit, name)) => format!("{} {name}", count / unit),
        None => format!("{count} B"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn rate(rate: Rate) -> String {
    format!("{} a second, {} at once", rate.per_second, rate.burst)
}

const RATES: &str = "each_kind_of_caller_has_exactly_its_burst_and_then_its_rate";
const WAIT: &str = "429 with `Retry-After`; others do not notice";

fn requests() -> Vec<Limit> {
    let rates = Rates::default();
    vec![
        limit(
            "JSON body",
            bytes(BODY_BYTES_MAX),
            "413",
            "BODY_TOO_LARGE",
            "h1_a_body_is_taken_at_its_limit_and_refused_beyond",
        ),
        limit("levels of a JSON body", BODY_DEPTH_MAX, "400", "NOT_JSON", "depth_is_bounded_before_anything_recurses"),
        limit(
            "documents of a plan together",
            bytes(PLAN_BYTES_MAX),
            "413",
            "BODY_TOO_LARGE",
            "h1_a_plan_is_taken_at_its_own_limits_and_refused_beyond",
        ),
        limit(
            "devices of one decision after a restore",
            DEVICES_NAMED_MAX,
            "422",
            "INVALID",
            "a_decision_names_so_many_devices",
        ),
        limit(
            "documents of a plan",
            PLAN_DOCUMENTS_MAX,
            "422",
            "INVALID",
            "a_plan_with_a_mistake_is_refused_whole_and_one_that_was_edited_too",
        ),
        limit(
            "a kept plan",
            bytes(SAVED_PLAN_BYTES_MAX),
            "413",
            "BODY_TOO_LARGE",
            "h1_a_plan_is_taken_at_its_own_limits_and_refused_beyond",
        ),
        limit(
            "devices supposed otherwise in one question",
            OVERRIDES_MAX,
            "422",
            "INVALID",
            "what_if_answers_for_what_is_supposed_and_leaves_nothing_behind",
        ),
        limit("all headers", bytes(HEADER_BYTES_MAX), "431", "HEADERS_TOO_LARGE", "urls_and_headers_have_a_limit"),
        limit("path and query", bytes(URL_BYTES_MAX), "414", "URL_TOO_LONG", "urls_and_headers_have_a_limit"),
        limit(
            "time for the headers",
            seconds(HEADER_TIMEOUT),
            "the connection is closed",
            "",
            "h4_clients_that_never_finish_their_headers_are_closed_and_others_are_served",
        ),
        limit(
            "time for a JSON body, and between two pieces of an upload",
            seconds(BODY_TIMEOUT),
            "408",
            "BODY_SLOW",
            "h4_clients_that_never_finish_their_bodies_are_closed_and_others_are_served",
        ),
        limit(
            "connections",
            CONNECTIONS_MAX,
            "the connection is closed",
            "",
            "a_connection_over_the_limit_is_closed_and_those_that_are_open_go_on",
        ),
        limit(
            "`Idempotency-Key`",
            bytes(idempotency::IDEMPOTENCY_KEY_BYTES_MAX),
            "400",
            "BAD_KEY",
            "an_idempotency_key_has_at_most_its_bytes",
        ),
        limit(
            "an answer kept for such a key",
            bytes(idempotency::ANSWER_KEPT_BYTES_MAX),
            "the first gets it whole; 409 for the others",
            "ANSWER_NOT_KEPT",
            "an_answer_under_a_key_is_kept_up_to_its_bytes_and_told_as_done_beyond",
        ),
        limit(
            "all answers kept for such keys",
            bytes(idempotency::ANSWERS_KEPT_BYTES_MAX),
            "409 for the oldest",
            "ANSWER_NOT_KEPT",
            "answers_are_kept_up_to_their_bytes_and_the_oldest_give_way",
        ),
        limit(
            "answers kept for such keys",
            IDEMPOTENCY_KEYS_MAX,
            "the oldest is forgotten",
            "",
            "h7_a_request_that_is_sent_again_after_a_cut_is_done_once",
        ),
        limit("reads of one token or device", rate(rates.reads), WAIT, "RATE_LIMITED", RATES),
        limit("writes of one token", rate(rates.writes), WAIT, "RATE_LIMITED", RATES),
        limit("the administrator's token of the data directory", rate(rates.admin), WAIT, "RATE_LIMITED", RATES),
        limit("one address without valid credentials", rate(rates.strangers), WAIT, "RATE_LIMITED", RATES),
        limit(
            "callers whose rate is remembered",
            RATE_CALLERS_MAX,
            "the older half is forgotten",
            "",
            "callers_are_bounded_and_the_latest_are_remembered",
        ),
    ]
}

fn artifacts() -> Vec<Limit> {
    vec![
        limit(
            "artifact",
            bytes(crate::store::ARTIFACT_BYTES_MAX),
            "413, before it is read if it is declared",
            "ARTIFACT_TOO_LARGE",
            "h11_an_upload_that_is_cut_wrong_or_too_large_leaves_nothing",
        ),
        limit(
            "uploads at once",
            crate::store::UPLOADS_MAX,
            "503",
            "BUSY",
            "the_number_of_uploads_is_limited_and_freed",
        ),
        limit(
            "least rate of an upload",
            format!("{UPLOAD_BYTES_PER_SECOND_MIN} B a second, after {}", seconds(UPLOAD_GRACE)),
            "408",
            "BODY_SLOW",
            "an_upload_may_be_slow_for_a_moment_and_then_has_to_come_at_its_rate",
        ),
        limit(
            "versions of one artifact",
            crate::model::ARTIFACT_VERSIONS_MAX,
            "the oldest that nothing runs goes; 409 if all run",
            "LIMIT_REACHED",
            "an_artifact_keeps_so_many_versions_and_those_that_run",
        ),
    ]
}

fn answers() -> Vec<Limit> {
    vec![
        limit(
            "objects of a page",
            PAGE_MAX,
            "422; `continue` has the next page",
            "INVALID",
            "a_page_and_a_tail_are_taken_at_their_limit_and_refused_beyond",
        ),
        limit(
            "lines of a tail",
            TAIL_MAX,
            "422",
            "INVALID",
            "a_page_and_a_tail_are_taken_at_their_limit_and_refused_beyond",
        ),
        limit("watches", WATCHERS_MAX, "503", "BUSY", "watches_are_bounded_and_a_closed_one_makes_room"),
        limit(
            "changes on the way to one watch",
            crate::engine::WATCHER_CREDIT_MAX,
            "the next come when it has taken some",
            "",
            "a_watcher_gets_no_more_than_its_credit_and_the_newest_when_it_takes_again",
        ),
        limit(
            "changes that a watch may be behind",
            crate::engine::WATCHER_LAG_MAX,
            "it is ended",
            "WATCH_SLOW",
            "a_watcher_too_far_behind_is_cut_and_told_so",
        ),
        limit(
            "changes that a watch can go back",
            CHANGES_MAX,
            "410",
            "WATCH_EXPIRED",
            "the_ring_is_bounded_and_knows_what_it_forgot",
        ),
        limit(
            "followed logs and events",
            crate::engine::FOLLOWERS_MAX,
            "503",
            "BUSY",
            "so_many_follow_events_and_one_that_ends_makes_room",
        ),
        limit(
            "lines on the way to one follower",
            crate::handle::FOLLOWER_QUEUE_MAX,
            "it is cut",
            "",
            "what_waits_for_a_follower_is_bounded_and_one_too_slow_is_cut",
        ),
        limit(
            "events kept",
            crate::engine::EVENTS_MAX,
            "the oldest goes",
            "",
            "the_ring_is_bounded_and_a_tail_is_oldest_first",
        ),
        limit(
            "log lines kept of one workload",
            crate::engine::LOG_LINES_MAX,
            "the oldest goes",
            "",
            "a_ring_keeps_the_newest_lines",
        ),
        limit(
            "log lines kept in all",
            bytes(crate::engine::LOG_BYTES_MAX),
            "the longest ring gives",
            "",
            "loud_workloads_do_not_take_the_lines_of_quiet_ones",
        ),
    ]
}

fn objects() -> Vec<Limit> {
    use crate::model::{
        ANNOTATION_BYTES_MAX, FIELD_ERRORS_MAX, GRACE_MS, LABELS_MAX, LEASE_MS, STOP_AFTER_MS, Span, managed,
    };
    let labels = "labels_and_annotations_have_their_limits";
    let partition = "what_cannot_be_kept_is_refused_where_it_is_written";
    let span = |range: std::ops::RangeInclusive<u64>| format!("{} to {}", Span(*range.start()), Span(*range.end()));
    vec![
        limit("name", bytes(wire::limits::NAME_BYTES_MAX), "422", "INVALID", labels),
        limit("labels, and annotations, of one object", LABELS_MAX, "422", "INVALID", labels),
        limit("one annotation", bytes(ANNOTATION_BYTES_MAX), "422", "INVALID", labels),
        limit("mistakes told at once", FIELD_ERRORS_MAX, "the others are left out", "", "reports_are_bounded"),
        limit(
            "field managers of one object",
            managed::MANAGERS_MAX,
            "409",
            "LIMIT_REACHED",
            "an_object_has_so_many_managers_with_names_of_so_many_bytes",
        ),
        limit(
            "name of a field manager",
            bytes(managed::MANAGER_BYTES_MAX),
            "422",
            "INVALID",
            "an_object_has_so_many_managers_with_names_of_so_many_bytes",
        ),
        limit(
            "API tokens",
            crate::engine::API_TOKENS_MAX,
            "409",
            "LIMIT_REACHED",
            "there_are_so_many_api_tokens_and_not_one_more",
        ),
        limit(
            "join tokens",
            crate::engine::JOIN_TOKENS_MAX,
            "409",
            "LIMIT_REACHED",
            "there_are_so_many_join_tokens_and_not_one_more",
        ),
        limit("`partition.exclusive.lease`", span(LEASE_MS), "422", "INVALID", partition),
        limit("`partition.stopAfter`, `onStale.after`", span(STOP_AFTER_MS), "422", "INVALID", partition),
        limit("`partition.grace`", span(GRACE_MS), "422", "INVALID", partition),
        limit("rejected keys", REJECTIONS_MAX, "409", "LIMIT_REACHED", "rejections_have_a_limit"),
    ]
}

fn inside() -> Vec<Limit> {
    use crate::engine::{
        CHUNKS_BURST, CHUNKS_PER_SECOND, CONTENT_ANSWERS_MAX, CONTENT_NEEDS_BURST, CONTENT_NEEDS_PER_SECOND,
        CONTENT_WAITING_MAX, OFFERS_MAX, ROLLOUT_TARGETS_MAX, ROLLOUTS_MAX,
    };
    vec![
        limit(
            "rollouts of firmware that are kept",
            ROLLOUTS_MAX,
            "the oldest that is over goes",
            "",
            "rollouts_that_are_over_make_room_for_others",
        ),
        limit(
            "devices of a rollout",
            ROLLOUT_TARGETS_MAX,
            "further ones are left out",
            "",
            "a_rollout_has_no_more_devices_than_its_limit",
        ),
        limit(
            "waves of a rollout",
            crate::wave::WAVES_MAX,
            "422",
            "INVALID",
            "what_cannot_be_rolled_out_is_refused_in_words",
        ),
        limit(
            "offers of one image to a device that was interrupted",
            OFFERS_MAX,
            "it counts as failed",
            "",
            "a_device_that_was_interrupted_gets_its_offer_again_a_few_times",
        ),
        limit(
            "questions that wait for the engine",
            crate::handle::QUESTIONS_WAITING_MAX,
            "503",
            "BUSY",
            "questions_are_taken_up_to_their_limit_and_one_more_is_told_to_come_again",
        ),
        limit(
            "changes that wait for the disk",
            crate::engine::BATCHES_PENDING_MAX,
            "503",
            "BUSY",
            "so_many_changes_wait_for_the_disk_and_then_they_are_refused",
        ),
        limit(
            "exclusive workloads with a lease, and those that are gone and may still run",
            crate::engine::LEASES_MAX,
            "no further one is granted",
            "",
            "leases_have_a_limit",
        ),
        limit(
            "questions of one device about leases",
            format!("{} a second, {} at once", crate::engine::NEEDS_PER_SECOND, crate::engine::NEEDS_BURST),
            "they are counted as refused",
            "",
            "questions_of_one_device_have_a_limit",
        ),
        limit(
            "questions of one device for parts of artifacts and sets",
            format!("{CONTENT_NEEDS_PER_SECOND} a second, {CONTENT_NEEDS_BURST} at once"),
            "they are not answered, counted",
            "",
            "questions_of_one_device_about_content_have_a_limit",
        ),
        limit(
            "devices whose question for such parts waits",
            CONTENT_WAITING_MAX,
            "they are not answered, counted",
            "",
            "so_many_answers_are_under_way_and_the_next_ones_wait",
        ),
        limit(
            "answers with such parts at one time",
            CONTENT_ANSWERS_MAX,
            "the next ones wait",
            "",
            "so_many_answers_are_under_way_and_the_next_ones_wait",
        ),
        limit(
            "such parts to all devices",
            format!("{CHUNKS_PER_SECOND} a second, {CHUNKS_BURST} at once"),
            "the next ones wait",
            "",
            "chunks_leave_no_faster_than_the_limit_in_turn",
        ),
        limit(
            "answers that wait for one change",
            crate::engine::ANSWERS_PARKED_MAX,
            "503",
            "BUSY",
            "so_many_answers_wait_for_one_batch_and_then_they_are_refused",
        ),
    ]
}

fn broker() -> Vec<Limit> {
    use crate::broker::*;
    let retained = "limits_refuse_growth_but_never_a_replacement_that_fits_nor_a_clear";
    let arrivals = format!("{ARRIVALS_AT_ONCE_MAX} at once, then one in {}", seconds(ARRIVAL_PERIOD));
    let handshakes = "one_address_cannot_take_all_places_and_places_come_back";
    vec![
        limit(
            "sessions",
            CONNECTIONS_MAX,
            "CONNACK 0x88",
            "ServerUnavailable",
            "more_sessions_than_the_limit_are_turned_away",
        ),
        limit(
            "connections of one device",
            arrivals,
            "CONNACK 0x87",
            "NotAuthorized",
            "a_client_that_comes_too_often_waits_and_others_do_not",
        ),
        limit(
            "time until a CONNECT begins, with TLS",
            seconds(HANDSHAKE_TIMEOUT),
            "the connection is closed",
            "",
            "who_says_too_little_for_a_connect_in_time_is_cut",
        ),
        limit(
            "time for a CONNECT that has begun",
            seconds(HANDSHAKE_TIMEOUT),
            "the connection is closed",
            "",
            "who_does_not_finish_its_connect_in_time_is_cut_and_holds_up_nobody",
        ),
        limit("TLS handshakes at once", crate::tls::HANDSHAKES_MAX, "the connection is closed", "", handshakes),
        limit(
            "of these from one address",
            crate::tls::HANDSHAKES_PER_ADDRESS_MAX,
            "the connection is closed",
            "",
            handshakes,
        ),
        limit(
            "packet",
            bytes(PACKET_BYTES_MAX),
            "the connection is closed",
            "",
            "a_packet_of_the_largest_size_is_taken_and_one_byte_more_ends_its_sender",
        ),
        limit(
            "messages to one device without its acknowledgement",
            CLIENT_INFLIGHT_MAX,
            "the next wait",
            "",
            "a_device_that_acknowledges_nothing_is_sent_so_many_messages",
        ),
        limit(
            "messages that wait for one device",
            CLIENT_QUEUE_MESSAGES_MAX,
            "the oldest goes, counted",
            "",
            "a_queue_holds_exactly_its_limit_and_the_oldest_goes",
        ),
        limit(
            "subscriptions of one client",
            SUBSCRIPTIONS_MAX,
            "SUBACK 0x80",
            "UnspecifiedError",
            "a_client_has_so_many_subscriptions",
        ),
        limit("levels of a filter", TOPIC_LEVELS_MAX, "SUBACK 0x80", "UnspecifiedError", "a_filter_has_so_many_levels"),
        limit(
            "time that a session is kept",
            seconds(SESSION_EXPIRY_MAX),
            "CONNACK tells the shorter time",
            "",
            "a_session_is_kept_for_no_longer_than_the_limit",
        ),
        limit(
            "keep-alive",
            format!("{KEEP_ALIVE_MAX_S} s"),
            "CONNACK tells the shorter time",
            "",
            "a_client_without_a_keep_alive_is_given_one",
        ),
        limit("retained messages", RETAINED_MESSAGES_MAX, "PUBACK 0x97", "QuotaExceeded", retained),
        limit("retained messages together", bytes(RETAINED_BYTES_MAX), "PUBACK 0x97", "QuotaExceeded", retained),
    ]
}

/// `docs/reference/limits.md` is made from the constants; `UPDATE_GOLDEN=1` rewrites it.
#[test]
fn the_reference_of_limits_is_made_of_the_constants_and_each_has_its_test() {
    let mut text = String::from(
        "# Limits\n\nMade from the constants of the hub; do not edit by hand. Whoever meets a limit is told by a status and a stable code, and nobody\n\
         else notices. Each is tested at its value and one beyond.\n",
    );
    let mut tests = Vec::new();
    for (title, limits) in [
        ("Requests", requests()),
        ("Artifacts", artifacts()),
        ("Lists, watches, logs and events", answers()),
        ("Objects and tokens", objects()),
        ("The hub under load", inside()),
        ("The embedded broker", broker()),
    ] {
        text.push_str(&format!("\n## {title}\n\n| limit | value | beyond it | code |\n|---|---|---|---|\n"));
        for Limit { what, value, beyond, code, test } in limits {
            let is_problem = ProblemCode::ALL.iter().any(|known| known.as_str() == code);
            assert!(code.is_empty() || is_problem != title.contains("broker"), "{code} is no code");
            let code = match (code.is_empty(), is_problem) {
                (true, _) => String::new(),
                (false, true) => format!("[`{code}`](errors.md#{})", code.to_lowercase()),
                (false, false) => format!("`{code}`"),
            };
            text.push_str(&format!("| {what} | {value} | {beyond} | {code} |\n"));
            tests.push(test);
        }
    }
    let mut sources = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(source) = std::fs::read_to_string(&path) {
                sources.push(source);
            }
        }
    }
    tests.retain(|test| !sources.iter().any(|source| source.contains(&format!("fn {test}()"))));
    assert!(tests.is_empty(), "limits whose tests are not there: {tests:?}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/limits.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, text, "run with UPDATE_GOLDEN=1 and read the difference");
}
