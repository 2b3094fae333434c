//! Enjambre shares files among a fleet of small machines: one `tracker`, many `peer`s.
#![forbid(unsafe_code)]

use std::{
    fmt::Display,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

pub mod address;
pub mod args;
pub mod codec;
pub mod content;
pub mod limits;
pub mod name;
#[cfg(feature = "peer")]
pub mod peer;
#[cfg(feature = "tracker")]
pub mod tracker;

/// The tracker's protocol, generated from `proto/enjambre/v1/tracker.proto`, which documents it.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod proto {
    tonic::include_proto!("enjambre.v1");
}

/// Whether a line shown by [`show`] stands on the terminal.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Writes one line to stderr, for a person. A closed stderr is no reason to stop, as it would be
/// for `eprintln!`.
pub fn say(line: impl Display) {
    let clear = if SHOWN.swap(false, Ordering::Relaxed) { "\r\x1b[K" } else { "" };
    let _ = std::io::stderr().write_all(format!("{clear}{line}\n").as_bytes());
}

/// Shows a line in place on stderr, which is a terminal, until the next one of either kind.
pub fn show(line: impl Display) {
    SHOWN.store(true, Ordering::Relaxed);
    let _ = std::io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes());
}
