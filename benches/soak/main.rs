//! A swarm that is not left in peace: a tracker and twenty peers, real processes on hosts of their own, that come,
//! die, leave, are sent files, lose files and fetch from each other over a network with faults, while every
//! invariant is looked after and what the processes take of the machine is counted.
//!
//! `make soak MINUTES=10 SEED=7` runs this on the static binaries that are shipped. The seed settles what is done,
//! not how the machine's load mixes it.

mod calm;
mod dice;
mod ground;
mod life;
#[path = "../swarm/place.rs"]
mod place;
#[path = "../report.rs"]
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;
mod usage;
mod watch;
mod world;

use std::{
    process::ExitCode,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use enjambre::limits;
use ground::Ground;
use life::{Life, live_as_tracker};
use report::Report;
use support::hosts::{BRIDGE, FAULTS};
use usage::{Usage, trend};
use world::World;

/// How many peers there are.
pub(crate) const PEERS: usize = 20;
/// The first of them are never killed and never leave: what they take of the machine shows what leaks.
pub(crate) const ELDERS: usize = 4;
/// A lease: short, so that many of them pass.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// KiB by which a saved index may have grown: it is written anew when a thousand of its lines, of some 130 bytes here, are
/// dead.
const INDEX_GROWTH: f64 = 160.0;

/// What a peer begins when it is first needed, and keeps: a thread for its jobs, and one for each connection to
/// tiny_http, which has a descriptor at both of its ends. A leak of one for each request would be hundreds.
const KEPT_THREADS: f64 = 1.0 + limits::INNER_CONNECTIONS as f64;
const KEPT_DESCRIPTORS: f64 = 2.0 * limits::INNER_CONNECTIONS as f64;

fn main() -> ExitCode {
    // cargo adds this one to those of the caller.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (minutes, seed) = match options(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let place = match place::enter(&arguments, &format!("{BRIDGE} && {FAULTS}")) {
        Ok(place) => place,
        Err(code) => return code,
    };
    let mut report = Report::new("make soak");
    println!("make soak MINUTES={minutes} SEED={seed}");
    let world = World::new(Ground::new(&place), seed);
    soak(&world, Duration::from_secs_f64(minutes * 60.0), &mut report);
    report.end()
}

/// Minutes, and the number that settles what is done: the clock's, where none is given.
fn options(arguments: &[String]) -> Result<(f64, u64), String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() % 1_000_000);
    let (mut minutes, mut seed) = (2.0, clock);
    let mut words = arguments.iter().filter(|word| *word != place::INSIDE);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} takes a number"))?;
        let wrong = |_| format!("{word} {value:?} is not a number");
        match word.as_str() {
            "--minutes" => minutes = value.parse().map_err(|_| wrong(()))?,
            // An empty one is none.
            "--seed" if value.is_empty() => {}
            "--seed" => seed = value.parse().map_err(|_| wrong(()))?,
            _ => return Err(format!("{word:?} is not known: there are --minutes NUMBER and --seed NUMBER")),
        }
    }
    Ok((minutes, seed))
}

fn soak(world: &World, time: Duration, report: &mut Report) {
    let mut lives: Vec<_> = (0..PEERS).map(|slot| Life::start(world, slot)).collect();
    calm::wait_until_found(world);
    let before = calm::usage(world);
    world.begin();

    let samples = thread::scope(|scope| {
        // The tracker's memory is to show a trend too, so it is not killed in the last third.
        let tracker = scope.spawn(|| live_as_tracker(world, Instant::now() + time * 2 / 3));
        let peers: Vec<_> = lives.iter_mut().map(|life| scope.spawn(|| life.live())).collect();
        let watches = [
            scope.spawn(|| watch::files(world)),
            scope.spawn(|| watch::searches(world)),
            scope.spawn(|| watch::strangers(world)),
        ];
        let samples = usage::sample(world, Instant::now() + time);
        world.is_over.store(true, Ordering::Relaxed);
        for thread in peers.into_iter().chain(watches).chain([tracker]) {
            if thread.join().is_err() {
                world.broken("a thread of the soak has panicked: see above".into());
            }
        }
        samples
    });
    calm::settle(world, &mut lives);
    let after = calm::usage(world);
    calm::end(world, lives);

    for (what, count) in world.counts() {
        report.plain(what, count as f64, "");
    }
    if !world.ground.has_faults() {
        report.skipped("loss, partitions and half-open connections", "no namespaces here");
    }
    let peak = |pick: fn(&Usage) -> f64| samples.iter().map(|sample| sample.peak(pick)).fold(0.0, f64::max);
    report.plain("most memory that one process took", peak(|usage| usage.memory) / 1e6, "MB");
    report.plain("most threads of one process", peak(|usage| usage.threads), "");
    report.plain("most descriptors of one process", peak(|usage| usage.descriptors), "");
    report.at_most("invariants broken", world.broken_count() as f64, 0.0, "");
    let trend = trend(&samples);
    report.at_most("memory of those that lived throughout, last third: trend", trend * 100.0, 2.0, "%");
    let more = |pick: fn(&Usage) -> f64| after.more_than(&before, pick);
    report.at_most("afterwards: memory of a process more than before", more(|usage| usage.memory) / 1e6, 2.0, "MB");
    report.at_most("threads", more(|usage| usage.threads), KEPT_THREADS, "");
    report.at_most("descriptors", more(|usage| usage.descriptors), KEPT_DESCRIPTORS, "");
    report.at_most("bytes in .enjambre", more(|usage| usage.disk) / 1024.0, INDEX_GROWTH, "KiB");
}
