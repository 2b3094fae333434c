//! What is counted, and how Prometheus reads it. Counting is a few atomic additions; no label grows with peers,
//! files or addresses.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use tonic::Code;

use super::{callers::Full, log, registry::Figures};
use crate::metrics::{Text, add, load};

/// The calls of the tracker's protocol; health, reflection and what there is not are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Join,
    Announce,
    Renew,
    Leave,
    Search,
    Locate,
    Watch,
    Peers,
    Other,
}

impl Call {
    const ALL: [Self; 9] = [
        Self::Join,
        Self::Announce,
        Self::Renew,
        Self::Leave,
        Self::Search,
        Self::Locate,
        Self::Watch,
        Self::Peers,
        Self::Other,
    ];

    /// The call that a request's path names.
    pub(super) fn of(path: &str) -> Self {
        match path.strip_prefix("/enjambre.v1.Tracker/") {
            Some("Join") => Self::Join,
            Some("Announce") => Self::Announce,
            Some("Renew") => Self::Renew,
            Some("Leave") => Self::Leave,
            Some("Search") => Self::Search,
            Some("Locate") => Self::Locate,
            Some("Watch") => Self::Watch,
            Some("Peers") => Self::Peers,
            _ => Self::Other,
        }
    }

    /// As the log and the metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Announce => "announce",
            Self::Renew => "renew",
            Self::Leave => "leave",
            Self::Search => "search",
            Self::Locate => "locate",
            Self::Watch => "watch",
            Self::Peers => "peers",
            Self::Other => "other",
        }
    }
}

/// The status codes of gRPC, in their order.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Upper ends of the histograms' buckets: microseconds, and as they are written in seconds.
const BUCKETS: [(u128, &str); 7] = [
    (300, "0.0003"),
    (1_000, "0.001"),
    (3_000, "0.003"),
    (10_000, "0.01"),
    (30_000, "0.03"),
    (100_000, "0.1"),
    (1_000_000, "1"),
];

/// Why a call was turned away before it was looked at.
#[derive(Clone, Copy)]
pub(super) enum Shed {
    /// The tracker has enough to do.
    Load,
    /// Its address asks too much.
    Address,
}

#[derive(Default)]
struct Counts {
    by_code: [AtomicU64; CODES.len()],
    by_time: [AtomicU64; BUCKETS.len()],
    micros: AtomicU64,
    /// By the discriminants of [`Shed`].
    shed: [AtomicU64; 2],
}

/// All counters. They begin at zero with each start, as Prometheus expects.
#[derive(Default)]
pub(super) struct Metrics {
    calls: [Counts; Call::ALL.len()],
    /// By the discriminants of [`Full`].
    refused_connections: [AtomicU64; 2],
    expired: AtomicU64,
}

/// What is not counted but looked at, at the moment of being asked.
pub(super) struct Now {
    pub(super) figures: Figures,
    pub(super) connections: usize,
    pub(super) is_degraded: bool,
}

impl Metrics {
    pub(super) fn refused_connection(&self, full: Full) {
        add(&self.refused_connections[full as usize], 1);
    }

    pub(super) fn expired(&self) {
        add(&self.expired, 1);
    }

    pub(super) fn shed(&self, call: Call, why: Shed) {
        add(&self.calls[call as usize].shed[why as usize], 1);
    }

    /// Counts a call that was answered with this code, so long after it came.
    pub(super) fn answered(&self, call: Call, code: Code, took: Duration) {
        let counts = &self.calls[call as usize];
        add(&counts.by_code[code as usize], 1);
        let micros = took.as_micros();
        if let Some(bucket) = BUCKETS.iter().position(|(end, _)| micros <= *end) {
            add(&counts.by_time[bucket], 1);
        }
        add(&counts.micros, u64::try_from(micros).unwrap_or(u64::MAX));
    }

    /// All of it in the text format of Prometheus.
    pub(super) fn render(&self, now: &Now) -> String {
        let mut text = Text::new();
        let Figures { peers, holdings, paths, contents, downloads } = now.figures;
        for (name, help, value) in [
            ("enjambre_peers", "Peers whose lease is alive.", peers),
            ("enjambre_holdings", "Files that peers hold: a path of one peer is one.", holdings),
            ("enjambre_paths", "Distinct paths of files.", paths),
            ("enjambre_contents", "Distinct contents of files.", contents),
            ("enjambre_downloads", "Contents that peers say they download.", downloads),
            ("enjambre_connections", "Open connections to the tracker.", now.connections),
            ("enjambre_degraded", "1 while other trackers are not heard of, else 0.", now.is_degraded.into()),
        ] {
            text.single(name, "gauge", help, value);
        }
        let help = "Peers forgotten since they were silent for a lease.";
        text.single("enjambre_lease_expiries_total", "counter", help, load(&self.expired));
        let help = "Lines left out of the log since nobody read it.";
        text.single("enjambre_log_lines_unwritten_total", "counter", help, log::unwritten());
        let name = "enjambre_connections_refused_total";
        let help = "Connections closed at once, by the limit that was reached.";
        text.counters(name, help, "limit", &["all", "address"], &self.refused_connections);
        self.render_calls(&mut text);
        text.finish()
    }

    fn render_calls(&self, text: &mut Text) {
        let calls = || Call::ALL.into_iter().map(Call::name).zip(&self.calls);
        let name = "enjambre_requests_total";
        text.family(name, "counter", "Calls that were answered, by gRPC status code; CANCELLED is over time too.");
        for (call, counts) in calls() {
            // Of those that never happened only OK is named: 119 lines would mostly be zeros.
            for (code, count) in
                CODES.iter().zip(&counts.by_code).filter(|(code, count)| **code == "OK" || load(count) > 0)
            {
                text.line(name, &[("call", call), ("code", code)], load(count));
            }
        }
        let name = "enjambre_requests_shed_total";
        text.family(name, "counter", "Calls turned away unread, by reason; they are RESOURCE_EXHAUSTED above as well.");
        for (call, counts) in calls() {
            for (reason, count) in ["load", "address"].iter().zip(&counts.shed) {
                text.line(name, &[("call", call), ("reason", reason)], load(count));
            }
        }
        let name = "enjambre_request_seconds";
        text.family(name, "histogram", "From a call's head to its answer, the wait for its turn included.");
        for (call, counts) in calls() {
            let mut below = 0;
            for ((_, end), count) in BUCKETS.iter().zip(&counts.by_time) {
                below += load(count);
                text.line("enjambre_request_seconds_bucket", &[("call", call), ("le", end)], below);
            }
            let all: u64 = counts.by_code.iter().map(load).sum();
            text.line("enjambre_request_seconds_bucket", &[("call", call), ("le", "+Inf")], all);
            text.line("enjambre_request_seconds_sum", &[("call", call)], load(&counts.micros) as f64 / 1e6);
            text.line("enjambre_request_seconds_count", &[("call", call)], all);
        }
    }
}

/// Counts a call once, whatever becomes of it: when it is dropped unanswered, as cancelled.
pub(super) struct Timed {
    metrics: Arc<Metrics>,
    call: Call,
    begun: Instant,
    code: Code,
}

impl Timed {
    pub(super) fn new(metrics: Arc<Metrics>, call: Call, begun: Instant) -> Self {
        Self { metrics, call, begun, code: Code::Cancelled }
    }

    pub(super) fn answered(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.metrics.answered(self.call, self.code, self.begun.elapsed());
    }
}
