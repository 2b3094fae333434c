//! A fleet in the tracker's registry: 10,000 peers of 1,000 files each, 1,000,000 paths, each path at ten
//! peers. What that weighs, how fast it is searched, next to plocate over the same paths, and how long it
//! keeps others waiting while peers come and go.

mod paths;
mod plocate;
#[path = "../report.rs"]
mod report;

use std::{
    fs,
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::{Duration, Instant},
};

use enjambre::{
    limits,
    name::{PeerId, Zone},
    tracker::{
        registry::{Changes, Content, Identity, Join, Registry, Token},
        search::Pattern,
    },
};
use report::Report;

const PEERS: usize = 10_000;
const FILES: usize = 1_000;
const PATHS: usize = 1_000_000;
/// Texts that are searched for.
const TEXTS: usize = 20_000;
/// Files of the peer that leaves alone.
const LARGE: usize = 100_000;
const MB: f64 = 1e6;

fn main() -> ExitCode {
    let mut report = Report::new("make bench-registry");
    let before = memory();
    let mut fleet = Fleet { registry: Registry::new(limits::LEASE), now: Instant::now() };
    let texts: Vec<String> = (0..TEXTS).map(|number| paths::text(number, PATHS)).collect();
    let bytes: usize = (0..PATHS).map(|number| paths::path(number).len()).sum();
    report.plain("paths: mean length", bytes as f64 / PATHS as f64, "bytes");

    let calls: Vec<Duration> = (0..PEERS).map(|peer| fleet.enter(peer)).collect();
    let per_file = |calls: &[Duration]| micros(calls.iter().sum()) / (calls.len() * FILES) as f64;
    report.plain("announce: a file, the first 100 peers", per_file(&calls[..100]), "us");
    report.plain("announce: a file, the last 100 peers", per_file(&calls[PEERS - 100..]), "us");
    report.plain("announce: the longest of 1,000 files", millis(calls.into_iter().max().unwrap_or_default()), "ms");
    let peak = memory();
    report.at_most("registry and index: 10 M files of 10,000 peers", (peak - before) / MB, 300.0, "MB");

    let slow = search(&mut report, &fleet.registry, &texts);
    let ours: Vec<Duration> = texts.iter().take(plocate::TEXTS).map(|text| timed(&fleet.registry, text)).collect();
    match plocate::measure(PATHS, &texts[..plocate::TEXTS]) {
        Ok((start, theirs)) => {
            let total = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64();
            report.plain("plocate: start to end, where nothing is to be found", millis(start), "ms");
            report.plain("plocate: in the middle", millis(percentile(theirs.clone(), 0.5)), "ms");
            let beyond = (total(&theirs) - start.as_secs_f64() * theirs.len() as f64).max(1e-9);
            report.at_most("search: time, next to plocate's beyond its start", total(&ours) / beyond, 1.0, "x");
        }
        Err(why) => report.skipped("search: next to plocate", &why),
    }

    // One that holds much leaves while others search.
    fleet.join(PEERS);
    for first in (0..LARGE).step_by(FILES) {
        fleet.announce(PEERS, first..first + FILES);
    }
    report.at_most("a peer of 100,000 files: leaves", millis(fleet.leave(PEERS)), 1.0, "ms");
    let mut steps = Vec::new();
    let mut is_left = true;
    while is_left {
        let began = Instant::now();
        is_left = fleet.registry.tidy(limits::TIDY_FILES);
        steps.push(began.elapsed());
    }
    // Whoever asks during a step waits for its end.
    let rest = percentile(steps, 1.0).as_secs_f64() / slow.as_secs_f64();
    report.at_most("  the longest step of its removal, next to 99.9 of 100 searches", rest, 1.0, "x");

    let began = Instant::now();
    let longest = (0..PEERS).map(|peer| fleet.leave(peer)).max().unwrap_or_default();
    report.plain("all leave: the longest call", millis(longest), "ms");
    let mut longest = Duration::ZERO;
    loop {
        let step = Instant::now();
        let more = fleet.registry.tidy(limits::TIDY_FILES);
        longest = longest.max(step.elapsed());
        if !more {
            break;
        }
    }
    report.plain("all leave: the longest step", millis(longest), "ms");
    report.at_most("all leave: until all is released", began.elapsed().as_secs_f64(), 30.0, "s");
    report.at_most("memory then, of what it was", (memory() - before).max(0.0) / (peak - before), 0.2, "x");
    report.end()
}

/// A registry and the time there.
struct Fleet {
    registry: Registry,
    now: Instant,
}

impl Fleet {
    fn join(&mut self, peer: usize) {
        let join = Join {
            id: id(peer),
            identity: identity(),
            address: SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + peer as u32).into(), 5000),
            zone: Zone::default(),
        };
        self.registry.join(self.now, join, 0).expect("there is room");
    }

    /// Lets a peer in with its files, ten folders; how long the announce of them took.
    fn enter(&mut self, peer: usize) -> Duration {
        self.join(peer);
        let runs = FILES / paths::FOLDER;
        // Every folder has its turn ten times.
        let folders = (peer * runs..(peer + 1) * runs).map(|slot| slot * 7919 % (PATHS / paths::FOLDER));
        self.announce(peer, folders.flat_map(|folder| folder * paths::FOLDER..(folder + 1) * paths::FOLDER))
    }

    fn announce(&mut self, peer: usize, files: impl IntoIterator<Item = usize>) -> Duration {
        let file = |number| {
            let (id, size) = paths::content(number);
            (paths::path(number).parse().expect("a path"), Content { id, size })
        };
        let changes = Changes { added: files.into_iter().map(file).collect(), ..Changes::default() };
        let id = id(peer);
        let began = Instant::now();
        self.registry.announce(self.now, Token::new(&id, &identity(), 0), &changes).expect("there is room");
        began.elapsed()
    }

    fn leave(&mut self, peer: usize) -> Duration {
        let id = id(peer);
        let began = Instant::now();
        self.registry.leave(Token::new(&id, &identity(), 0)).expect("it is there");
        began.elapsed()
    }
}

fn id(peer: usize) -> PeerId {
    format!("i-{peer:017x}").parse().expect("a peer id")
}

fn identity() -> Identity {
    Identity::of(&[7; 32])
}

/// Says how long searches take; which time one in a thousand passes.
fn search(report: &mut Report, registry: &Registry, texts: &[String]) -> Duration {
    let began = Instant::now();
    let times: Vec<Duration> = texts.iter().map(|text| timed(registry, text)).collect();
    let rate = texts.len() as f64 / began.elapsed().as_secs_f64();
    let found =
        texts.iter().take(1000).filter(|text| !registry.search(&Pattern::new(text), None, false).rows.is_empty());
    report.plain("search: texts that are found", found.count() as f64 / 10.0, "%");
    report.at_most("search: in the middle", millis(percentile(times.clone(), 0.5)), 0.3, "ms");
    report.at_most("search: 99 of 100", millis(percentile(times.clone(), 0.99)), 3.0, "ms");
    let slow = percentile(times.clone(), 0.999);
    report.plain("search: 99.9 of 100", millis(slow), "ms");
    report.plain("search: the longest", millis(percentile(times, 1.0)), "ms");
    report.at_least("search: a second, on one core", rate, 5000.0, "");
    for text in ["a", "io", "é", "*.parquet", "logs/*", "*"] {
        report.plain(&format!("search: {text}"), millis(timed(registry, text)), "ms");
    }
    slow
}

fn timed(registry: &Registry, text: &str) -> Duration {
    let began = Instant::now();
    black_box(registry.search(&Pattern::new(text), None, false));
    began.elapsed()
}

fn percentile(mut times: Vec<Duration>, part: f64) -> Duration {
    times.sort_unstable();
    times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What this process has in memory, in bytes (proc(5): the second field of `statm` is in pages).
fn memory() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096.0
}
