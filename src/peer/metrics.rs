//! What a peer counts, and how Prometheus reads it. No label grows with files, peers or addresses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::metrics::{Text, add, load};

/// Who is at the other end, as far as one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// A peer that holds the whole content.
    Seed,
    /// A peer that downloads the content itself.
    Partial,
    /// Any other program.
    Client,
}

/// By the discriminants of [`Other`].
const OTHERS: [&str; 3] = ["seed", "partial", "client"];

/// What moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// One try to bring a content from the swarm.
    Get,
    /// A request that sends files to this peer.
    Upload,
    /// An answer with bytes of a file: to a client mostly all of it, to a peer some pieces.
    Answer,
}

/// By the discriminants of [`Transfer`].
const TRANSFERS: [&str; 3] = ["get", "upload", "answer"];

/// How a transfer ended, by whether it was to the end.
const RESULTS: [&str; 2] = ["failed", "ok"];

/// Why a source is not asked any more during a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It sent wrong bytes.
    Lied,
    /// It failed too often.
    Failed,
}

/// By the discriminants of [`Dropped`].
const DROPPED: [&str; 2] = ["lied", "failed"];

/// Why the door refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All connections are in use.
    Connections,
    /// What came is no well-formed request within the limits.
    Request,
    /// The peer is asked by a name that is not its own.
    Name,
    /// The request has no secret.
    NoSecret,
    /// It has another one.
    WrongSecret,
    /// It would change something for a page of another site.
    Site,
}

/// By the discriminants of [`Refused`].
const REFUSED: [&str; 6] = ["connections", "request", "name", "no_secret", "wrong_secret", "site"];

/// All counters of a peer; clones count together. They begin at zero with each start, as Prometheus expects.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Bytes by [`Other`].
    received: [AtomicU64; OTHERS.len()],
    sent: [AtomicU64; OTHERS.len()],
    /// Those under way.
    transfers: [AtomicU64; TRANSFERS.len()],
    /// By their results.
    ended: [[AtomicU64; RESULTS.len()]; TRANSFERS.len()],
    pieces: [AtomicU64; RESULTS.len()],
    dropped: [AtomicU64; DROPPED.len()],
    refused: [AtomicU64; REFUSED.len()],
}

/// What is not counted but looked at, at the moment of being asked.
pub struct Now {
    /// Files of the share, and bytes.
    pub share: (usize, u64),
    /// Whether the tracker knows this peer.
    pub is_joined: bool,
    /// How long ago a tracker confirmed the lease last, and how long it is; none before the first join.
    pub lease: Option<(Duration, Duration)>,
}

impl Metrics {
    /// Counts bytes of a content that a source sent, or of an upload.
    pub fn received(&self, from: Other, bytes: u64) {
        add(&self.0.received[from as usize], bytes);
    }

    /// What counts the bytes of files that are sent.
    pub fn sent(&self, to: Other) -> &AtomicU64 {
        &self.0.sent[to as usize]
    }

    /// Counts a transfer as under way, until the answer is dropped.
    pub fn begin(&self, transfer: Transfer) -> UnderWay {
        add(&self.0.transfers[transfer as usize], 1);
        UnderWay { metrics: self.clone(), transfer, is_ok: false }
    }

    /// Counts a transfer that has ended, and was not counted as under way.
    pub fn ended(&self, transfer: Transfer, is_ok: bool) {
        add(&self.0.ended[transfer as usize][usize::from(is_ok)], 1);
    }

    /// Counts a piece that came, by whether it verified.
    pub fn piece(&self, is_true: bool) {
        add(&self.0.pieces[usize::from(is_true)], 1);
    }

    /// Counts a source that is not asked any more.
    pub fn dropped(&self, why: Dropped) {
        add(&self.0.dropped[why as usize], 1);
    }

    /// Counts what the door refused.
    pub fn refused(&self, why: Refused) {
        add(&self.0.refused[why as usize], 1);
    }

    /// All of it in the text format of Prometheus.
    pub fn render(&self, now: &Now) -> String {
        let Counts { received, sent, transfers, ended, pieces, dropped, refused } = &*self.0;
        let mut text = Text::new();
        let (files, bytes) = now.share;
        text.single("enjambre_share_files", "gauge", "Files of the share.", files);
        text.single("enjambre_share_bytes", "gauge", "Bytes of the files of the share.", bytes);
        text.single(
            "enjambre_joined",
            "gauge",
            "1 while the tracker knows this peer, else 0.",
            u8::from(now.is_joined),
        );
        if let Some((age, length)) = now.lease {
            let help = "Since a tracker confirmed the lease last.";
            text.single("enjambre_lease_age_seconds", "gauge", help, age.as_secs_f64());
            let help = "How long a tracker believes this peer without hearing from it.";
            text.single("enjambre_lease_seconds", "gauge", help, length.as_secs_f64());
        }
        let help = "Bytes of contents received, by who sent them: peers for a get, clients for an upload.";
        text.counters("enjambre_received_bytes_total", help, "from", &OTHERS, received);
        let help = "Bytes of files sent, by who asked: who says which pieces it has is a partial peer.";
        text.counters("enjambre_sent_bytes_total", help, "to", &OTHERS, sent);
        text.family("enjambre_transfers", "gauge", "Transfers under way.");
        for (transfer, count) in TRANSFERS.iter().zip(transfers) {
            text.line("enjambre_transfers", &[("kind", transfer)], load(count));
        }
        text.family("enjambre_transfers_total", "counter", "Transfers that ended, by whether all of it went over.");
        for (transfer, counts) in TRANSFERS.iter().zip(ended) {
            for (result, count) in RESULTS.iter().zip(counts) {
                text.line("enjambre_transfers_total", &[("kind", transfer), ("result", result)], load(count));
            }
        }
        let help = "Pieces that came, by whether they are what was asked for.";
        text.counters("enjambre_pieces_total", help, "result", &["failed", "verified"], pieces);
        let help = "Sources that were left during a download, by reason.";
        text.counters("enjambre_sources_dropped_total", help, "reason", &DROPPED, dropped);
        let help = "Requests and connections that the door refused, by reason.";
        text.counters("enjambre_refusals_total", help, "reason", &REFUSED, refused);
        text.finish()
    }
}

/// A transfer that is counted as failed when this is dropped, unless it was [done](Self::done).
pub struct UnderWay {
    metrics: Metrics,
    transfer: Transfer,
    is_ok: bool,
}

impl UnderWay {
    /// It has ended, and well if `is_ok`.
    pub fn done(mut self, is_ok: bool) {
        self.is_ok = is_ok;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.metrics.0.transfers[self.transfer as usize].fetch_sub(1, Ordering::Relaxed);
        self.metrics.ended(self.transfer, self.is_ok);
    }
}
