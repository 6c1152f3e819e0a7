//! What the hub measures, as OpenMetrics text: one table of series, and the values that the shell adds as things happen.
//!
//! The engine has no clock and no atomics: it gives its counts as plain data when somebody looks. Labels come from closed
//! lists; ids and names of devices or objects never are labels.

use crate::engine::port::Measures;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Before the name of each series.
pub const PREFIX: &str = "fulmar_hub";
/// The media type of the answer.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One series: name without prefix, type, labels, what it says.
pub struct Series {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn series(name: &'static str, kind: &'static str, labels: &'static [&'static str], help: &'static str) -> Series {
    Series { name, kind, labels, help }
}

/// Every series there is, as registered; the reference is made from it.
pub const SERIES: &[Series] = &[
    series("build", "info", &["version"], "The running version"),
    series("api_requests", "counter", &["route", "method", "status"], "Answered requests by route and class of status"),
    series("api_request_seconds", "histogram", &["route", "method"], "Time to the head of the answer"),
    series("api_rate_limited", "counter", &["caller"], "Requests answered with 429, by token or by address"),
    series("commits", "counter", &[], "Batches that became durable"),
    series("commit_failures", "counter", &[], "Batches that the database did not take"),
    series("commit_seconds", "histogram", &[], "Time from the submission of a batch until it is durable"),
    series("commits_pending", "gauge", &[], "Batches that wait for the writer"),
    series("devices", "gauge", &["state"], "Devices by what was heard of them"),
    series("devices_unapproved", "gauge", &[], "Devices that wait for an operator"),
    series(
        "mass_loss",
        "gauge",
        &[],
        "1 while nobody is called lost, because a large part of the fleet vanished at once",
    ),
    series("devices_held", "gauge", &[], "Devices that are missing and not called lost meanwhile"),
    series(
        "loss_grace_seconds",
        "gauge",
        &[],
        "Time until a device can be called lost again: while it is above 0 the hub has only just reached its broker",
    ),
    series("workloads", "gauge", &["condition", "status"], "Workloads by condition"),
    series("placements", "gauge", &[], "Workloads on devices, as decided"),
    series("placements_decided", "counter", &["change"], "Placements made and taken back"),
    series("scheduler_runs", "counter", &[], "Workloads that were looked at for placement"),
    series("scheduler_seconds", "histogram", &[], "Time of one pass of the scheduler over what was due"),
    series("leases", "gauge", &[], "Exclusive workloads that a device may be running under a lease"),
    series("leases_granted", "counter", &["kind"], "Grants of exclusive work: under a new fence, or renewed"),
    series("leases_expired", "counter", &[], "Leases that ran out without being given back"),
    series(
        "events_fenced",
        "counter",
        &[],
        "Events of exclusive work that were refused: not sent under the present lease",
    ),
    series("messages_in", "counter", &[], "Messages of devices"),
    series("messages_out", "counter", &[], "Messages to devices that the link took"),
    series("messages_refused", "counter", &[], "Messages that were malformed, not authentic or of an old session"),
    series("samples", "counter", &["class"], "Alarms, states and metrics of functions that came"),
    series("samples_dropped", "counter", &[], "Samples beyond the rate of their device"),
    series("samples_kept", "gauge", &[], "Samples in memory"),
    series("hellos_sent_away", "counter", &[], "Devices that were told to come again, because too many came at once"),
    series("chunks", "counter", &[], "Parts of artifacts and sets that were sent to devices over MQTT"),
    series("chunk_bytes", "counter", &[], "Bytes of these parts"),
    series(
        "contents_unanswered",
        "counter",
        &[],
        "Questions of devices for parts of artifacts and sets that got no answer: not of their set, too many, too often, or unreadable",
    ),
    series("link_up", "gauge", &[], "1 when the hub is connected to the broker"),
    series("broker_sessions", "gauge", &[], "Sessions of the embedded broker; 0 with an external one"),
    series(
        "broker_accounts_behind",
        "gauge",
        &[],
        "Accounts that an external broker has still to be told; all of them without a connection",
    ),
    series("tls_handshakes", "counter", &["listener", "outcome"], "TLS handshakes by listener and what became of them"),
    series(
        "certificate_end_seconds",
        "gauge",
        &[],
        "End of the hub's certificate in seconds since 1970; 0 without TLS, or when it never ends",
    ),
    series("watchers", "gauge", &[], "Open watches"),
    series("followers", "gauge", &[], "Open streams of logs and events"),
    series("artifacts", "gauge", &[], "Artifacts"),
    series("artifact_bytes", "gauge", &[], "Bytes of all versions of all artifacts"),
];

type Labels = Vec<(&'static str, &'static str)>;

/// All series, shared by the threads of the shell. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<Labels, Counter>,
    request_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    rate_limited: Family<Labels, Counter>,
    commits: Counter,
    commit_failures: Counter,
    commit_seconds: Histogram,
    commits_pending: Gauge,
    devices: Family<Labels, Gauge>,
    devices_unapproved: Gauge,
    mass_loss: Gauge,
    loss_grace_seconds: Gauge,
    devices_held: Gauge,
    workloads: Family<Labels, Gauge>,
    placements: Gauge,
    placements_decided: Family<Labels, Counter>,
    scheduler_runs: Counter,
    scheduler_seconds: Histogram,
    leases: Gauge,
    leases_granted: Family<Labels, Counter>,
    leases_expired: Counter,
    events_fenced: Counter,
    messages_in: Counter,
    messages_out: Counter,
    messages_refused: Counter,
    samples: Family<Labels, Counter>,
    samples_dropped: Counter,
    samples_kept: Gauge,
    hellos_sent_away: Counter,
    chunks: Counter,
    chunk_bytes: Counter,
    contents_unanswered: Counter,
    link_up: Gauge,
    broker_sessions: Gauge,
    broker_accounts_behind: Gauge,
    tls_handshakes: Family<Labels, Counter>,
    certificate_end: Gauge,
    watchers: Gauge,
    followers: Gauge,
    artifacts: Gauge,
    artifact_bytes: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From a tenth of a millisecond to thirteen seconds.
fn seconds() -> Histogram {
    Histogram::new((0..18).map(|step| 0.000_1 * f64::from(1_u32 << step)))
}

fn gauge(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Counts that the engine keeps only grow, so they can be set.
fn counter(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

/// What the broker counts, or what there is to count about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerMeasures {
    /// Of the embedded broker.
    pub sessions: u64,
    /// That an external broker has still to be told.
    pub accounts_behind: u64,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let help = |name: &str| SERIES.iter().find(|series| series.name == name).map_or("", |series| series.help);
        macro_rules! registered {
            ($name:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, help($name), metric.clone());
                metric
            }};
        }
        registry.register("build", help("build"), Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let inner = Inner {
            requests: registered!("api_requests", Family::default()),
            request_seconds: registered!(
                "api_request_seconds",
                Family::new_with_constructor(seconds as fn() -> Histogram)
            ),
            rate_limited: registered!("api_rate_limited", Family::default()),
            commits: registered!("commits", Counter::default()),
            commit_failures: registered!("commit_failures", Counter::default()),
            commit_seconds: registered!("commit_seconds", seconds()),
            commits_pending: registered!("commits_pending", Gauge::default()),
            devices: registered!("devices", Family::default()),
            devices_unapproved: registered!("devices_unapproved", Gauge::default()),
            mass_loss: registered!("mass_loss", Gauge::default()),
            loss_grace_seconds: registered!("loss_grace_seconds", Gauge::default()),
            devices_held: registered!("devices_held", Gauge::default()),
            workloads: registered!("workloads", Family::default()),
            placements: registered!("placements", Gauge::default()),
            placements_decided: registered!("placements_decided", Family::default()),
            scheduler_runs: registered!("scheduler_runs", Counter::default()),
            scheduler_seconds: registered!("scheduler_seconds", seconds()),
            leases: registered!("leases", Gauge::default()),
            leases_granted: registered!("leases_granted", Family::default()),
            leases_expired: registered!("leases_expired", Counter::default()),
            events_fenced: registered!("events_fenced", Counter::default()),
            messages_in: registered!("messages_in", Counter::default()),
            messages_out: registered!("messages_out", Counter::default()),
            messages_refused: registered!("messages_refused", Counter::default()),
            samples: registered!("samples", Family::default()),
            samples_dropped: registered!("samples_dropped", Counter::default()),
            samples_kept: registered!("samples_kept", Gauge::default()),
            hellos_sent_away: registered!("hellos_sent_away", Counter::default()),
            chunks: registered!("chunks", Counter::default()),
            chunk_bytes: registered!("chunk_bytes", Counter::default()),
            contents_unanswered: registered!("contents_unanswered", Counter::default()),
            link_up: registered!("link_up", Gauge::default()),
            broker_sessions: registered!("broker_sessions", Gauge::default()),
            broker_accounts_behind: registered!("broker_accounts_behind", Gauge::default()),
            tls_handshakes: registered!("tls_handshakes", Family::default()),
            certificate_end: registered!("certificate_end_seconds", Gauge::default()),
            watchers: registered!("watchers", Gauge::default()),
            followers: registered!("followers", Gauge::default()),
            artifacts: registered!("artifacts", Gauge::default()),
            artifact_bytes: registered!("artifact_bytes", Gauge::default()),
            registry,
        };
        Self(Arc::new(inner))
    }

    /// A request was answered. Route and method are of the table.
    pub fn answered(&self, route: &'static str, method: &'static str, status: u16, time: Duration) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.0.requests.get_or_create(&vec![("route", route), ("method", method), ("status", class)]).inc();
        let labels = vec![("route", route), ("method", method)];
        self.0.request_seconds.get_or_create(&labels).observe(time.as_secs_f64());
    }

    pub fn rate_limited(&self, caller: &'static str) {
        self.0.rate_limited.get_or_create(&vec![("caller", caller)]).inc();
    }

    pub fn committed(&self, time: Duration) {
        self.0.commits.inc();
        self.0.commit_seconds.observe(time.as_secs_f64());
    }

    pub fn commit_failed(&self) {
        self.0.commit_failures.inc();
    }

    pub fn scheduled(&self, time: Duration) {
        self.0.scheduler_seconds.observe(time.as_secs_f64());
    }

    /// A handshake at the `api` or the `broker` is over.
    pub fn handshake(&self, listener: &'static str, outcome: &'static str) {
        self.0.tls_handshakes.get_or_create(&vec![("listener", listener), ("outcome", outcome)]).inc();
    }

    /// In seconds since 1970.
    pub fn certificate_ends(&self, seconds: u64) {
        gauge(&self.0.certificate_end, seconds);
    }

    pub fn message_in(&self) {
        self.0.messages_in.inc();
    }

    pub fn message_out(&self) {
        self.0.messages_out.inc();
    }

    /// Everything as text, with the engine's counts of this moment.
    pub fn text(&self, measures: &Measures, broker: BrokerMeasures) -> String {
        let inner = &self.0;
        gauge(&inner.commits_pending, measures.commits_pending);
        for (state, count) in [
            ("online", measures.devices_online),
            ("unknown", measures.devices_unknown),
            ("never", measures.devices_never),
        ] {
            gauge(&inner.devices.get_or_create(&vec![("state", state)]), count);
        }
        gauge(&inner.devices_unapproved, measures.devices_unapproved);
        gauge(&inner.mass_loss, u64::from(measures.guard));
        gauge(&inner.devices_held, measures.devices_held);
        gauge(&inner.loss_grace_seconds, measures.loss_grace_s);
        for (condition, counts) in [("healthy", measures.workloads_healthy), ("synced", measures.workloads_synced)] {
            for (status, count) in ["true", "false", "unknown"].into_iter().zip(counts) {
                gauge(&inner.workloads.get_or_create(&vec![("condition", condition), ("status", status)]), count);
            }
        }
        gauge(&inner.placements, measures.placements);
        for (change, count) in [("placed", measures.placed), ("removed", measures.removed)] {
            counter(&inner.placements_decided.get_or_create(&vec![("change", change)]), count);
        }
        counter(&inner.scheduler_runs, measures.scheduler_runs);
        counter(&inner.messages_refused, measures.messages_refused);
        gauge(&inner.leases, measures.leases);
        for (kind, count) in [("new", measures.leases_granted), ("renewal", measures.leases_renewed)] {
            counter(&inner.leases_granted.get_or_create(&vec![("kind", kind)]), count);
        }
        counter(&inner.leases_expired, measures.leases_expired);
        counter(&inner.events_fenced, measures.events_fenced);
        for (class, count) in ["alarm", "state", "metric"].into_iter().zip(measures.samples) {
            counter(&inner.samples.get_or_create(&vec![("class", class)]), count);
        }
        counter(&inner.samples_dropped, measures.samples_dropped);
        gauge(&inner.samples_kept, measures.samples_kept);
        counter(&inner.hellos_sent_away, measures.hellos_sent_away);
        counter(&inner.chunks, measures.chunks);
        counter(&inner.chunk_bytes, measures.chunk_bytes);
        counter(&inner.contents_unanswered, measures.contents_unanswered);
        gauge(&inner.link_up, u64::from(measures.link));
        gauge(&inner.broker_sessions, broker.sessions);
        gauge(&inner.broker_accounts_behind, broker.accounts_behind);
        gauge(&inner.watchers, measures.watchers);
        gauge(&inner.followers, measures.followers);
        gauge(&inner.artifacts, measures.artifacts);
        gauge(&inner.artifact_bytes, measures.artifact_bytes);
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = encode(&mut text, &inner.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// `docs/reference/metrics.md` is made from the table; `UPDATE_GOLDEN=1` rewrites it.
    #[test]
    fn the_reference_of_metrics_is_the_table() {
        let mut text = String::from(
            "# Metrics\n\nMade from the table of series; do not edit by hand. `GET /metrics` answers OpenMetrics text and needs a token, as\n\
             every `GET` does. Names of devices and objects never are labels. Counters are shown with `_total`, `build` with `_info`.\n\n\
             | series | type | labels | meaning |\n|---|---|---|---|\n",
        );
        for Series { name, kind, labels, help } in SERIES {
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("| `{PREFIX}_{name}` | {kind} | {labels} | {help} |\n"));
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, text, "run with UPDATE_GOLDEN=1 and read the difference");
    }

    #[test]
    fn every_series_of_the_table_is_shown_with_its_type_and_no_other() {
        let metrics = Metrics::new();
        metrics.answered("/v1/devices", "GET", 200, Duration::from_millis(2));
        metrics.rate_limited("token");
        metrics.handshake("api", "done");
        metrics.committed(Duration::from_millis(3));
        metrics.scheduled(Duration::from_millis(1));
        let text = metrics.text(
            &Measures { devices_online: 3, ..Measures::default() },
            BrokerMeasures { sessions: 4, accounts_behind: 5 },
        );
        for Series { name, kind, .. } in SERIES {
            assert!(text.contains(&format!("# TYPE {PREFIX}_{name} {kind}\n")), "{name} in {text}");
        }
        assert_eq!(text.matches("# TYPE ").count(), SERIES.len());
        assert!(text.contains("fulmar_hub_devices{state=\"online\"} 3"), "{text}");
        assert!(text.contains("fulmar_hub_broker_sessions 4") && text.contains("fulmar_hub_broker_accounts_behind 5"));
        assert!(text.contains("fulmar_hub_api_requests_total{route=\"/v1/devices\",method=\"GET\",status=\"2xx\"} 1"));
        assert!(text.ends_with("# EOF\n"));
    }
}
