//! Enjambre shares files among a fleet of small machines: one `tracker`, many `peer`s.
#![forbid(unsafe_code)]

use std::{fmt::Display, io::Write};

pub mod address;
pub mod args;
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

/// Writes one line to stderr, for a person. A closed stderr is no reason to stop, as it would be
/// for `eprintln!`.
pub fn say(line: impl Display) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
