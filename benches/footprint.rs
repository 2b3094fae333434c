//! What the binaries weigh: on disk, in memory and in wake-ups, with a thousand files shared.
//! `make size` runs it on the static binaries that are shipped, and fails when one is over its limit.

mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use report::Report;
use support::*;

/// Files in the share that the peer offers.
const FILES: usize = 1000;
/// Peers that have joined, each over a connection of its own.
const PEERS: usize = 500;
/// How long the idle processes are watched.
const WATCH: Duration = Duration::from_secs(10);
const MB: f64 = 1e6;

fn main() -> ExitCode {
    let mut report = Report::new("make size");
    // The tracker: 1.9 MB, and 1.2 for etcd, health and reflection. rustls and ring are 1.5 in each; where there is no C
    // compiler for a target, graviola is in ring's place, and 2.6. The page, the prompt, verbs, mirrors and metrics are
    // 0.6 in the peer.
    for (name, limit) in [("tracker", 3.1 + 1.5), ("peer", 2.6 + 1.5 + 0.6)] {
        let size = fs::metadata(binary(name)).expect("the binary is built").len();
        report.at_most(&format!("{name}: binary"), size as f64 / MB, limit, "MB");
    }

    idle_peers(&mut report);

    let folder = Folder::new();
    for number in 0..FILES {
        folder.write(format!("{:02}/file-{number}.txt", number % 20), noise(number as u64, 1000 + number));
    }
    let started = Instant::now();
    let tracker = tracker(&[]);
    report.plain("tracker: start to listening", millis(started), "ms");
    let started = Instant::now();
    let mut peer = peer("peer_1", folder.path(), tracker.address, &[]);
    report.plain("peer: start to serving", millis(started), "ms");
    // The last file in the tracker means that all were hashed and announced.
    wait_for(PATIENCE, "all files are announced", || peer.search(&format!("file-{}.txt", FILES - 1)).len() == 1);
    wait_for(PATIENCE, "all files are announced", || peer.search("*").len() == FILES);
    report.plain(&format!("peer: start to {FILES} files found"), millis(started), "ms");

    let mut idle = [("tracker", &tracker, 3.0), ("peer", &peer, 4.0 + 0.5)];
    let before = idle.map(|(_, process, _)| process.wake_ups());
    thread::sleep(WATCH);
    for ((name, process, limit), before) in idle.iter_mut().zip(before) {
        let wake_ups = (process.wake_ups() - before) / WATCH.as_secs_f64();
        let (row, idle) = (format!("{name}: idle memory (RSS)"), process.memory("VmRSS") / MB);
        report.at_most(&row, idle, *limit, "MB");
        report.plain(&format!("{name}: peak memory so far"), process.memory("VmHWM") / MB, "MB");
        report.plain(&format!("{name}: threads"), process.threads() as f64, "");
        report.plain(&format!("{name}: wake-ups while idle"), wake_ups, "/s");
    }
    report.end()
}

/// What a tracker takes alone, and for each peer that has joined and only renews.
fn idle_peers(report: &mut Report) {
    let tracker = tracker(&["--metrics-listen", "127.0.0.1:0", "--lease", "600"]);
    let alone = tracker.memory("VmRSS");
    report.at_most("tracker: memory (RSS) without a peer", alone / MB, 3.0, "MB");
    block_on(async {
        let mut joined = Vec::new();
        for number in 0..PEERS {
            joined.push(join(tracker.address, &format!("peer-{number}"), 5000).await);
        }
        let each = (tracker.memory("VmRSS") - alone) / PEERS as f64;
        report.at_most(&format!("tracker: memory for each of {PEERS} idle peers"), each / 1024.0, 40.0, "KiB");
    });
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
