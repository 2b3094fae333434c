//! Faults of the machine, one after the other, under real processes: a clear error, nothing lost, and all is
//! well again by itself when the cause is gone.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod disk;
mod folder;
mod machine;
mod room;
#[path = "../support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use support::*;

/// No tracker is there.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// Waits until another peer's search finds `path`.
#[track_caller]
fn wait_until_found(peer: &mut Process, path: &str) {
    wait_for(PATIENCE, "it is found", || peer.search(path).iter().any(|row| row.path == path));
}

#[track_caller]
fn wait_for_text(process: &Process, from: usize, text: &str) {
    process.wait_for_line(from, text, |line| line.text.contains(text).then_some(()));
}

/// The detail of a problem, and its status.
#[track_caller]
fn problem(response: &Response) -> (u16, String) {
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    (response.status, problem["detail"].as_str().unwrap().to_owned())
}
