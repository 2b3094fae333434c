//! Three trackers on one etcd and a fleet of 300 that changes all the time: how soon all know what one was
//! told, and what is missed while a tracker or etcd is away. `make bench-store` runs it on the static binaries
//! that are shipped; the peers are a light load generator that speaks the protocol.

mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    collections::HashSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use enjambre::proto::{AnnounceRequest, JoinRequest, tracker_client::TrackerClient};
use report::Report;
use support::*;
use tokio::time::sleep;
use tonic::transport::Channel;

const PEERS: usize = 300;
/// Files that each has beside the one that it exchanges.
const FILES: usize = 100;
/// How often each exchanges a file for another.
const CHANGE: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(15);
/// How long etcd is stopped.
const STOP: Duration = Duration::from_secs(60);
/// The share of one large peer.
const LARGE: usize = 100_000;

fn main() -> ExitCode {
    let mut report = Report::new("make bench-store");
    let Some(etcd) = Etcd::start() else {
        report.skipped("several trackers as one", "etcd is not installed");
        return report.end();
    };
    block_on(measure(&etcd, &mut report));
    report.end()
}

/// A searcher that turns to another tracker when one fails it, and how that went.
struct Searcher {
    clients: Vec<TrackerClient<Channel>>,
    at: usize,
    /// Since when nothing is found out.
    failing_since: Option<Instant>,
    longest: Duration,
    failed: usize,
}

impl Searcher {
    fn of(trackers: &[Process], at: usize) -> Self {
        let clients = trackers.iter().map(|tracker| client(tracker.address)).collect();
        Self { clients, at, failing_since: None, longest: Duration::ZERO, failed: 0 }
    }

    /// Tries once.
    async fn search(&mut self, text: &str) -> Option<Vec<String>> {
        let asked = Instant::now();
        match find_all(&mut self.clients[self.at], text).await {
            Ok(found) => {
                if let Some(since) = self.failing_since.take() {
                    self.longest = self.longest.max(since.elapsed());
                }
                Some(found)
            }
            Err(_) => {
                self.failing_since.get_or_insert(asked);
                self.failed += 1;
                self.at = (self.at + 1) % self.clients.len();
                None
            }
        }
    }
}

/// What searchers saw over some time.
#[derive(Default)]
struct Seen {
    searches: usize,
    failed: usize,
    /// Files that are there and were not found.
    missed: usize,
    longest: Duration,
}

/// Searches by way of each tracker for so long: for files that last, which have to be found from the start, and for
/// those that were announced `grace` ago, once that is over.
async fn watch(trackers: &[Process], fleet: &Fleet, time: Duration, grace: Duration, patience: Duration) -> Seen {
    let mut searchers: Vec<_> = (0..trackers.len()).map(|at| Searcher::of(trackers, at)).collect();
    let (start, mut seen) = (Instant::now(), Seen::default());
    while start.elapsed() < time {
        for searcher in &mut searchers {
            let before = Instant::now();
            let expected: HashSet<_> = match before.checked_sub(grace) {
                Some(then) if before >= start + patience => fleet.changing_since(then).into_iter().collect(),
                _ => HashSet::new(),
            };
            if let Some(found) = searcher.search("changing/*").await {
                let found: HashSet<_> = found.into_iter().collect();
                let missing = expected.iter().filter(|path| !found.contains(*path));
                // What was exchanged while this was asked is no longer there.
                let still: HashSet<_> = fleet.changing_since(before).into_iter().collect();
                seen.missed += missing.filter(|path| still.contains(*path)).count();
            }
            if let Some(found) = searcher.search("lasting/*/0").await {
                seen.missed += PEERS.saturating_sub(found.len());
            }
            seen.searches += 2;
        }
        sleep(Duration::from_millis(50)).await;
    }
    for searcher in searchers {
        seen.failed += searcher.failed;
        let open = searcher.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        seen.longest = seen.longest.max(searcher.longest).max(open);
    }
    seen
}

/// Milliseconds from an acknowledged announce at one tracker until another finds it, many times.
async fn spread(trackers: &[Process]) -> Vec<f64> {
    let (mut one, mut other) = (client(trackers[0].address), client(trackers[1].address));
    let join = JoinRequest { peer_id: "probe".into(), identity: vec![9; 32], port: 1, ..JoinRequest::default() };
    let token = one.join(join).await.expect("the tracker lets it in").into_inner().token;
    let mut times = Vec::new();
    for round in 0..100 {
        let path = format!("probe/{round}");
        let request = AnnounceRequest { token: token.clone(), added: vec![file(&path)], ..AnnounceRequest::default() };
        one.announce(request).await.expect("the tracker takes it");
        let told = Instant::now();
        while find_all(&mut other, &path).await.expect("the tracker answers").is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        times.push(told.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times
}

async fn all_know(trackers: &[Process], text: &str, count: usize) -> f64 {
    let began = Instant::now();
    for tracker in trackers {
        let mut client = client(tracker.address);
        while find_all(&mut client, text).await.map_or(0, |found| found.len()) != count {
            sleep(Duration::from_millis(20)).await;
        }
    }
    began.elapsed().as_secs_f64()
}

async fn measure(etcd: &Etcd, report: &mut Report) {
    let (store, lease) = (etcd.store(), LEASE.as_secs().to_string());
    let start = || tracker(&["--store", &store, "--lease", &lease]);
    let mut trackers = vec![start(), start(), start()];
    let addresses = trackers.iter().map(|tracker| tracker.address).collect();
    let began = Instant::now();
    let mut fleet = Fleet::start(&Plan { trackers: addresses, lease: LEASE, change: CHANGE, files: FILES }, PEERS);
    while !fleet.is_up() {
        sleep(Duration::from_millis(50)).await;
    }
    all_know(&trackers, "lasting/*/0", PEERS).await;
    report.plain(
        &format!("{PEERS} peers of {FILES} files join: until all trackers know"),
        began.elapsed().as_secs_f64(),
        "s",
    );

    let times = spread(&trackers).await;
    report.plain("an announce at one tracker, found at another: p50", times[times.len() / 2], "ms");
    report.plain("an announce at one tracker, found at another: p99", times[times.len() * 99 / 100], "ms");

    let seen = watch(&trackers, &fleet, Duration::from_secs(10), Duration::from_secs(5), Duration::ZERO).await;
    report.at_most(&format!("all is well: failed, of {} searches", seen.searches), seen.failed as f64, 0.0, "");
    report.at_most("all is well: live files missed", seen.missed as f64, 0.0, "");

    trackers[0].kill();
    let patience = Duration::from_secs(5);
    let seen = watch(&trackers, &fleet, Duration::from_secs(20), patience, patience).await;
    report.at_most("one tracker killed: a searcher finds nothing out for", seen.longest.as_secs_f64(), 3.0, "s");
    report.at_most("one tracker killed: live files missed after 5 s", seen.missed as f64, 0.0, "");
    let began = Instant::now();
    let listen = trackers[0].address.to_string();
    trackers[0] = tracker(&["--listen", &listen, "--store", &store, "--lease", &lease]);
    report.plain("a tracker comes back: until it listens and knows all", began.elapsed().as_secs_f64(), "s");
    report.at_most(
        "a tracker comes back: files that it does not know",
        missing(&trackers[0], "lasting/*").await,
        0.0,
        "",
    );

    etcd.signal(Signal::STOP);
    let seen = watch(&trackers, &fleet, STOP, STOP * 2, STOP * 2).await;
    report.at_most(
        &format!("etcd stopped for 60 s: failed, of {} searches", seen.searches),
        seen.failed as f64,
        0.0,
        "",
    );
    report.at_most("etcd stopped for 60 s: live files missed", seen.missed as f64, 0.0, "");
    etcd.signal(Signal::CONT);
    let seen = watch(&trackers, &fleet, LEASE * 2, patience, patience).await;
    report.at_most(&format!("etcd is back: failed, of {} searches", seen.searches), seen.failed as f64, 0.0, "");
    report.at_most("etcd is back: live files missed, after 5 s", seen.missed as f64, 0.0, "");

    fleet.kill(7);
    let died = Instant::now();
    all_know(&trackers, "lasting/fleet-7/0", 0).await;
    let limit = (LEASE + Duration::from_secs(2)).as_secs_f64();
    report.at_most("a peer dies: until all trackers have seen it", died.elapsed().as_secs_f64(), limit, "s");

    large(&trackers, report).await;
    for (name, process) in ["one tracker", "another", "the third"].iter().zip(&trackers) {
        report.plain(&format!("{name}: memory (RSS)"), process.memory("VmRSS") / 1e6, "MB");
        report.plain(&format!("{name}: CPU so far"), process.cpu_seconds(), "s");
    }
}

/// How many of the fleet's files a tracker does not know.
async fn missing(tracker: &Process, text: &str) -> f64 {
    let found = find_all(&mut client(tracker.address), text).await.expect("the tracker answers");
    (PEERS * FILES).saturating_sub(found.len()) as f64
}

/// One peer joins with a large share, while others search and announce.
async fn large(trackers: &[Process], report: &mut Report) {
    let (first, second) = (trackers[0].address, trackers[1].address);
    let joining = tokio::spawn(async move {
        let mut client = client(first);
        let join = JoinRequest { peer_id: "large".into(), identity: vec![8; 32], port: 2, ..JoinRequest::default() };
        let token = client.join(join).await.expect("the tracker lets it in").into_inner().token;
        let paths: Vec<_> =
            (0..LARGE).map(|number| format!("large/{:03}/part-{number:06}.bin", number % 500)).collect();
        for part in paths.chunks(1000) {
            let added = part.iter().map(|path| file(path)).collect();
            let request = AnnounceRequest { token: token.clone(), added, ..AnnounceRequest::default() };
            client.announce(request).await.expect("the tracker takes it");
        }
        Instant::now()
    });
    let mut times = Vec::new();
    let mut other = client(second);
    let mut told = None;
    let last = format!("large/{:03}/part-{:06}.bin", (LARGE - 1) % 500, LARGE - 1);
    loop {
        let asked = Instant::now();
        let found = find_all(&mut other, &last).await.expect("the tracker answers");
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        if joining.is_finished() && told.is_none() {
            told = Some(Instant::now());
        }
        if !found.is_empty() {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    joining.await.expect("it joins");
    let told = told.map_or(0.0, |told| told.elapsed().as_secs_f64());
    report.plain(&format!("a share of {LARGE}: until another tracker finds its last file"), told, "s");
    times.sort_by(f64::total_cmp);
    report.plain("meanwhile, a search there: p99", times[times.len() * 99 / 100], "ms");
    let seconds = all_know(trackers, "large/*", LARGE).await;
    report.plain("and until all trackers find all of it", seconds, "s");
}
