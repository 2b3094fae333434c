//! A fleet that comes back all at once: the tracker is killed and started again, and every peer joins and
//! announces as soon as it is let. What is measured is how long that takes, and what those who search wait for
//! meanwhile. `make bench-comeback` runs it; `PEERS=1000` for fewer.

mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use enjambre::proto::{AnnounceRequest, File, JoinRequest, RenewRequest, SearchRequest, tracker_client::TrackerClient};
use report::Report;
use support::*;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Files of each peer; ten peers share a path.
const FILES: u64 = 1000;
const LEASE: Duration = Duration::from_secs(15);
/// What the fleet may take beyond a lease.
const BEYOND: Duration = Duration::from_secs(30);
/// Those who search, each on a connection of its own, and how long each waits before the next question.
const SEARCHERS: u64 = 4;
const SEARCH_PAUSE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let peers: u64 = std::env::var("PEERS").map_or(10_000, |peers| peers.parse().expect("PEERS is a number"));
    enjambre::tracker::raise_open_files();
    let mut report = Report::new("make bench-comeback");
    let monitor = ["--metrics-listen", "127.0.0.1:0"];
    let mut first = tracker(&monitor);
    let address = first.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let fleet = thread::spawn(move || run_fleet(address, peers, &over));
    let searches = Arc::new(Searches::default());
    let searchers: Vec<_> = (0..SEARCHERS)
        .map(|number| {
            let (searches, over) = (Arc::clone(&searches), Arc::clone(&is_over));
            thread::spawn(move || block_on(search(address, number, &searches, &over)))
        })
        .collect();
    let figures = measure(&first, &searches, peers);
    report.plain(&format!("{peers} peers come first: until all is found"), figures.seconds, "s");
    first.kill();
    searches.take();
    let second = tracker(&["--listen", &address.to_string(), monitor[0], monitor[1]]);
    let figures = measure(&second, &searches, peers);
    let most = (LEASE + BEYOND).as_secs_f64();
    report.at_most(&format!("{peers} peers come back: until all is found"), figures.seconds, most, "s");
    report.plain("searches meanwhile", figures.searches as f64, "");
    report.plain("searches that failed", figures.failed as f64, "");
    report.plain("search meanwhile, median", figures.median * 1e3, "ms");
    report.at_most("search meanwhile, 99th percentile", figures.slow * 1e3, 100.0, "ms");
    report.plain("search meanwhile, longest", figures.slowest * 1e3, "ms");
    report.plain("tracker: CPU used", second.cpu_seconds(), "s");
    report.plain("tracker: peak memory", second.memory("VmHWM") / 1e6, "MB");
    for (call, shed) in figures.shed {
        report.plain(&format!("{call}s shed"), shed, "");
    }
    is_over.store(true, Ordering::Relaxed);
    for searcher in searchers {
        searcher.join().expect("no searcher fails");
    }
    fleet.join().expect("the fleet ends");
    report.end()
}

struct Figures {
    seconds: f64,
    searches: usize,
    failed: u64,
    median: f64,
    slow: f64,
    slowest: f64,
    shed: Vec<(&'static str, f64)>,
}

/// Waits until a tracker that was just started knows all files, and sums up the searches meanwhile.
fn measure(tracker: &Process, searches: &Searches, peers: u64) -> Figures {
    let started = Instant::now();
    let monitor = tracker.wait_for_line(0, "where the metrics are", |line| {
        line.text.strip_prefix("metrics on http://")?.strip_suffix("/metrics")?.parse().ok()
    });
    let value = |sample: &str| {
        let text = get(monitor, "/metrics").text().to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).expect("it is measured")
    };
    wait_for(8 * BEYOND, "all is found", || {
        thread::sleep(Duration::from_millis(200));
        value("enjambre_holdings") == (peers * FILES) as f64
    });
    let seconds = started.elapsed().as_secs_f64();
    let (mut times, failed) = searches.take();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let shed = ["join", "announce"]
        .map(|call| (call, value(&format!("enjambre_requests_shed_total{{call=\"{call}\",reason=\"load\"}}"))));
    Figures {
        seconds,
        searches: times.len(),
        failed,
        median: at(0.5),
        slow: at(0.99),
        slowest: times.last().copied().unwrap_or(f64::NAN),
        shed: shed.to_vec(),
    }
}

/// What searches have taken, in seconds, and how many have failed.
#[derive(Default)]
struct Searches {
    times: Mutex<Vec<f64>>,
    failed: AtomicU64,
}

impl Searches {
    fn take(&self) -> (Vec<f64>, u64) {
        (std::mem::take(&mut self.times.lock().expect("nobody panics with it")), self.failed.swap(0, Ordering::Relaxed))
    }
}

/// Searches one path after the other until it is over.
async fn search(tracker: SocketAddr, number: u64, searches: &Searches, is_over: &AtomicBool) {
    let mut client = TrackerClient::new(channel(tracker));
    let mut dice = number + 1;
    while !is_over.load(Ordering::Relaxed) {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let asked = Instant::now();
        let request = SearchRequest { text: path(dice >> 45), exact: true, ..SearchRequest::default() };
        match client.search(request).await {
            Ok(_) => searches.times.lock().expect("nobody panics with it").push(asked.elapsed().as_secs_f64()),
            Err(_) => _ = searches.failed.fetch_add(1, Ordering::Relaxed),
        }
        tokio::time::sleep(SEARCH_PAUSE).await;
    }
}

/// All peers, on one thread.
fn run_fleet(tracker: SocketAddr, peers: u64, is_over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for number in 0..peers {
            tokio::spawn(be_a_peer(tracker, number, peers));
        }
        while !is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Joins, announces and renews for ever, as a peer does; waits as it is told to, and otherwise longer each time.
async fn be_a_peer(tracker: SocketAddr, number: u64, peers: u64) {
    let mut client = TrackerClient::new(channel(tracker));
    let mut dice = blake3::hash(&number.to_be_bytes());
    let mut roll = move || {
        dice = blake3::hash(dice.as_bytes());
        f64::from(u16::from_be_bytes([dice.as_bytes()[0], dice.as_bytes()[1]])) / 65536.0
    };
    loop {
        let identity = blake3::hash(&number.to_le_bytes()).as_bytes().to_vec();
        let join = JoinRequest { peer_id: format!("peer-{number}"), identity, port: 5000, ..JoinRequest::default() };
        let mut pause = Duration::from_millis(200);
        let token = loop {
            match client.join(join.clone()).await {
                Ok(joined) => break joined.into_inner().token,
                Err(status) => wait(&status, &mut pause, roll()).await,
            }
        };
        let mut pause = Duration::from_millis(200);
        let mut is_announced = false;
        loop {
            let begun = Instant::now();
            let answer = if is_announced {
                client.renew(RenewRequest { token: token.clone() }).await.map(|_| ())
            } else {
                let added = (0..FILES).map(|file| file_of(number, file, peers)).collect();
                let announce = AnnounceRequest { token: token.clone(), added, ..AnnounceRequest::default() };
                client.announce(announce).await.map(|_| ())
            };
            match answer {
                Ok(()) if is_announced => {
                    let pause = LEASE / 3 - LEASE.mul_f64(roll() / 15.0);
                    tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
                }
                Ok(()) => is_announced = true,
                Err(status) if status.code() == tonic::Code::NotFound => break,
                Err(status) => {
                    wait(&status, &mut pause, roll()).await;
                    if !is_announced {
                        // Who is turned away again and again must not lose its lease by it.
                        let _ = client.renew(RenewRequest { token: token.clone() }).await;
                    }
                }
            }
        }
    }
}

/// Waits as long as a refused caller should.
async fn wait(status: &Status, pause: &mut Duration, dice: f64) {
    let told = status.metadata().get("retry-after-ms").and_then(|millis| millis.to_str().ok()?.parse().ok());
    let wait = told.map_or(pause.mul_f64(0.5 + dice / 2.0), Duration::from_millis);
    *pause = (*pause * 2).min(LEASE / 3);
    tokio::time::sleep(wait).await;
}

fn file_of(peer: u64, file: u64, peers: u64) -> File {
    let number = (peer * FILES + file) % (peers * FILES / 10);
    let mut content = vec![0; 32];
    content[..8].copy_from_slice(&number.to_be_bytes());
    File { path: path(number), content, size: number }
}

/// A path as they are: some 50 bytes, folders that many share.
fn path(number: u64) -> String {
    format!("projects/{:03}/measurements/2026-11/station-{number:07}.parquet", number / 5000)
}

fn channel(tracker: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{tracker}")).expect("an address makes a URL");
    endpoint.connect_timeout(Duration::from_secs(3)).timeout(Duration::from_secs(5)).connect_lazy()
}
