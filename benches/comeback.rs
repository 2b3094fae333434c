//! A fleet on one tracker. The tracker is killed and started again, and every peer joins and announces as soon as
//! it is let: how long that takes, and what those who search wait for meanwhile. Then, with all of them
//! connected: what the tracker weighs, and how many calls it answers, next to empty ones. Then all leave: what it gives
//! back. `make bench-comeback` runs it; `PEERS=1000` for fewer.

mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    net::SocketAddr,
    process::{self, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use enjambre::{
    limits,
    peer::link::SmallFrames,
    proto::{
        AnnounceRequest, File, JoinRequest, LeaveRequest, LocateRequest, RenewRequest, SearchRequest,
        tracker_client::TrackerClient,
    },
};
use report::Report;
use support::*;
use tokio::sync::watch;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Files of each peer; ten peers share a path.
const FILES: u64 = 1000;
const LEASE: Duration = Duration::from_secs(15);
/// What the fleet may take beyond a lease.
const BEYOND: Duration = Duration::from_secs(30);
/// Those who search, each on a connection of its own, and how long each waits before the next question.
const SEARCHERS: u64 = 4;
const SEARCH_PAUSE: Duration = Duration::from_millis(10);
/// Connections of those who ask without a pause, and calls that each has in flight.
const ASKERS: u64 = 8;
const IN_FLIGHT: u64 = 8;
/// How long they ask at once, and how often they do so and ask for nothing in turn.
const ASKING: Duration = Duration::from_secs(1);
const ROUNDS: usize = 11;
/// How long the tracker may take to give back what all have left.
const RELEASE: Duration = Duration::from_secs(30);
const MB: f64 = 1e6;

fn main() -> ExitCode {
    let peers: u64 = std::env::var("PEERS").map_or(10_000, |peers| peers.parse().expect("PEERS is a number"));
    enjambre::tracker::raise_open_files();
    let mut report = Report::new("make bench-comeback");
    let monitor = ["--metrics-listen", "127.0.0.1:0"];
    let mut first = tracker(&monitor);
    let address = first.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let (leave, leaving) = watch::channel(());
    let tokens: Tokens = Arc::new((0..peers).map(|_| Mutex::default()).collect());
    let fleet = thread::spawn({
        let tokens = Arc::clone(&tokens);
        move || run_fleet(address, &tokens, &leaving)
    });
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
    report.plain("those who load it: CPU used meanwhile", figures.own_cpu, "s");
    for (call, shed) in figures.shed {
        report.plain(&format!("{call}s shed"), shed, "");
    }
    is_over.store(true, Ordering::Relaxed);
    for searcher in searchers {
        searcher.join().expect("no searcher fails");
    }
    report.plain("tracker: peak memory", second.memory("VmHWM") / MB, "MB");
    report.at_most("tracker: memory with all connected", second.memory("VmRSS") / MB, 560.0, "MB");
    compare_with_empty_calls(&mut report, &second, &tokens);
    leave.send_replace(());
    fleet.join().expect("the fleet ends");
    let left = Instant::now();
    let fifth = second.memory("VmHWM") / 5.0;
    wait_for(2 * RELEASE, "a fifth of the peak is left", || second.memory("VmRSS") < fifth);
    let most = RELEASE.as_secs_f64();
    report.at_most("all have left: until a fifth of the peak is left", left.elapsed().as_secs_f64(), most, "s");
    thread::sleep(RELEASE.saturating_sub(left.elapsed()));
    report.plain("tracker: memory 30 s after all have left", second.memory("VmRSS") / MB, "MB");
    report.end()
}

/// What each peer was given by its last join.
type Tokens = Arc<Vec<Mutex<Vec<u8>>>>;

/// Asks for sources and renews leases in turn, as fast as can be, next to the emptiest call that this server has.
fn compare_with_empty_calls(report: &mut Report, tracker: &Process, tokens: &Tokens) {
    let (mut ratios, mut of_cpu, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let [empty, mixed] = [false, true].map(|is_mixed| {
            let (before, began) = (tracker.cpu_seconds(), Instant::now());
            let calls = block_on(ask(tracker.address, tokens, is_mixed)) as f64;
            (calls / began.elapsed().as_secs_f64(), calls / (tracker.cpu_seconds() - before))
        });
        ratios.push(mixed.0 / empty.0);
        of_cpu.push(mixed.1 / empty.1);
        rates.push(mixed.0);
    }
    report.plain("locate and renew in turn", report::median(rates), "/s");
    report.pairs_at_least("  over health checks", ratios, 0.8);
    report.plain("  the same for a second of the tracker's CPU", report::median(of_cpu), "x");
}

/// How many calls are answered in [`ASKING`].
async fn ask(tracker: SocketAddr, tokens: &Tokens, is_mixed: bool) -> u64 {
    let end = Instant::now() + ASKING;
    let mut tasks = Vec::new();
    for connection in 0..ASKERS {
        let channel = channel(tracker);
        for call in 0..IN_FLIGHT {
            let (channel, tokens) = (channel.clone(), Arc::clone(tokens));
            let mut dice = connection * IN_FLIGHT + call + 1;
            tasks.push(tokio::spawn(async move {
                let (mut health, mut client) = (HealthClient::new(channel.clone()), TrackerClient::new(channel));
                let mut calls = 0;
                while Instant::now() < end {
                    dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    if !is_mixed {
                        health.check(HealthCheckRequest::default()).await.expect("it is serving");
                    } else if calls % 2 == 0 {
                        let number = (dice >> 32) % (tokens.len() as u64 * FILES / 10);
                        let request = LocateRequest { content: content(number), ..LocateRequest::default() };
                        let located = client.locate(request).await.expect("it locates").into_inner();
                        assert!(!located.sources.is_empty(), "all is there");
                    } else {
                        let token = tokens[(dice >> 32) as usize % tokens.len()].lock().expect("nobody panics").clone();
                        client.renew(RenewRequest { token }).await.expect("it is joined");
                    }
                    calls += 1;
                }
                calls
            }));
        }
    }
    let mut calls = 0;
    for task in tasks {
        calls += task.await.expect("nobody panics");
    }
    calls
}

struct Figures {
    seconds: f64,
    /// Seconds of CPU that this benchmark has used itself.
    own_cpu: f64,
    searches: usize,
    failed: u64,
    median: f64,
    slow: f64,
    slowest: f64,
    shed: Vec<(&'static str, f64)>,
}

/// Waits until a tracker that was just started knows all files, and sums up the searches meanwhile.
fn measure(tracker: &Process, searches: &Searches, peers: u64) -> Figures {
    let (started, own_cpu) = (Instant::now(), cpu_seconds(process::id()));
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
    let (seconds, own_cpu) = (started.elapsed().as_secs_f64(), cpu_seconds(process::id()) - own_cpu);
    let (mut times, failed) = searches.take();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let shed = ["join", "announce"]
        .map(|call| (call, value(&format!("enjambre_requests_shed_total{{call=\"{call}\",reason=\"load\"}}"))));
    Figures {
        seconds,
        own_cpu,
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

/// All peers, on one thread, until they are to leave; each has closed its connection then.
fn run_fleet(tracker: SocketAddr, tokens: &Tokens, leaving: &watch::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let fleet = (0..tokens.len() as u64).map(|number| {
            let (tokens, mut leaving) = (Arc::clone(tokens), leaving.clone());
            tokio::spawn(async move {
                let mut client = TrackerClient::new(SmallFrames(channel(tracker)));
                tokio::select! {
                    () = be_a_peer(client.clone(), number, &tokens) => unreachable!(),
                    _ = leaving.changed() => {}
                }
                let token = tokens[number as usize].lock().expect("nobody panics").clone();
                client.leave(LeaveRequest { token }).await.expect("it is joined");
            })
        });
        for peer in fleet.collect::<Vec<_>>() {
            peer.await.expect("nobody panics");
        }
    });
}

/// Joins, announces and renews for ever, as a peer does; waits as it is told to, and otherwise longer each time.
async fn be_a_peer(mut client: TrackerClient<SmallFrames>, number: u64, tokens: &Tokens) {
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
        tokens[number as usize].lock().expect("nobody panics").clone_from(&token);
        let mut pause = Duration::from_millis(200);
        let mut is_announced = false;
        loop {
            let begun = Instant::now();
            let answer = if is_announced {
                client.renew(RenewRequest { token: token.clone() }).await.map(|_| ())
            } else {
                let added = (0..FILES).map(|file| file_of(number, file, tokens.len() as u64)).collect();
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
    File { path: path(number), content: content(number), size: number }
}

fn content(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0; 24]].concat()
}

/// A path as they are: some 50 bytes, folders that many share.
fn path(number: u64) -> String {
    format!("projects/{:03}/measurements/2026-11/station-{number:07}.parquet", number / 5000)
}

fn channel(tracker: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{tracker}")).expect("an address makes a URL");
    // As peers have it.
    let endpoint = endpoint.http2_header_table_size(limits::RPC_HEADER_TABLE_BYTES);
    endpoint.connect_timeout(Duration::from_secs(3)).timeout(Duration::from_secs(5)).connect_lazy()
}
