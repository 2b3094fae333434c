//! `kill -9` of peers and trackers, some two hundred times: at each point (`src/peer/share/kill.rs`) of each way on
//! which a file comes into a share, in the midst of a write, and at random times. After each, invariants 1, 3 and 4 are
//! looked at: what was acknowledged is there and right, nothing else stands under a name but what was sent whole, a
//! download goes on with exactly the pieces that were here, and searches are whole again.
//!
//! `KILLS=2000 cargo test --test kills` for more of them, `SEED=7` for the same chances once more.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod lane;
#[path = "../support/mod.rs"]
mod support;
mod ways;

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use lane::Lane;
use ways::Way::{self, *};

/// Swarms that are killed beside each other.
const LANES: u64 = 4;
const KILLS: u64 = 216;

/// Each point on each way, and how often it may be passed before it kills.
const POINTS: [(Way, &str, u64); 37] = [
    (Start, "identity-written", 1),
    (Start, "index-written", 1),
    (Start, "index-named", 1),
    (Put, "upload-begun", 4),
    (Put, "upload-written", 6),
    (Put, "upload-synced", 4),
    (Put, "list-written", 3),
    (Put, "named", 4),
    (Put, "name-synced", 4),
    (Put, "recorded", 4),
    (Form, "upload-begun", 6),
    (Form, "upload-written", 9),
    (Form, "upload-synced", 6),
    (Form, "list-written", 5),
    (Form, "named", 6),
    (Form, "name-synced", 2),
    (Form, "recorded", 2),
    (Pattern, "upload-begun", 12),
    (Pattern, "upload-written", 12),
    (Pattern, "upload-synced", 12),
    (Pattern, "named", 12),
    (Pattern, "name-synced", 1),
    (Pattern, "recorded", 1),
    (Outside, "found-hashed", 4),
    (Outside, "list-written", 3),
    (Outside, "found-recorded", 4),
    (Get, "job-written", 1),
    (Get, "job-named", 1),
    (Get, "download-written", 12),
    (Get, "download-cut", 1),
    (Get, "download-synced", 1),
    (Get, "list-written", 1),
    (Get, "named", 1),
    (Get, "name-synced", 1),
    (Get, "recorded", 1),
    (Get, "job-done", 1),
    (Get, "job-forgotten", 1),
];

/// How a life of a peer is to end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// At a point of a way, when it is passed for the n-th time.
    At(Way, &'static str, u64),
    /// In the midst of the write that makes a file longer than that.
    Write(u64),
    /// As [`End::Write`], so many bytes into what is next appended to the saved index.
    Append(u64),
    After(Duration),
    /// As [`End::After`], and the tracker is killed before.
    Tracker(Duration),
}

/// xorshift64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn whenever_a_peer_or_a_tracker_is_killed_no_file_is_wrong_and_none_is_lost() {
    if std::env::var_os("TEST_BINARIES").is_some() {
        return println!("skipped: only binaries that were built for tests die at points");
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number("KILLS").unwrap_or(KILLS);
    let seed = number("SEED").unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
    println!("SEED={seed}");
    let total = Mutex::new(BTreeMap::<String, u64>::new());
    thread::scope(|scope| {
        for number in 0..LANES {
            let total = &total;
            scope.spawn(move || {
                let mut lane = Lane::begin(seed.wrapping_mul(2 * LANES + 1) + number + 1);
                for life in 0.. {
                    if lane.killed.values().sum::<u64>() >= kills.div_ceil(LANES) {
                        break;
                    }
                    let end = lane.end(number, life);
                    lane.live(end);
                }
                lane.last_life();
                let mut total = total.lock().unwrap();
                lane.killed.into_iter().for_each(|(what, times)| *total.entry(what).or_default() += times);
            });
        }
    });
    let total = total.into_inner().unwrap();
    let sum: u64 = total.values().sum();
    println!("{sum} kills, no file wrong or lost: {total:?}");
    assert!(sum >= kills);
    for (way, point, _) in POINTS {
        assert!(total.contains_key(&named(way, point)), "nobody was killed at {}: {total:?}", named(way, point));
    }
    for other in ["write", "append", "random", "tracker"] {
        assert!(total.contains_key(other), "nobody was killed by {other}: {total:?}");
    }
}

/// What a point of a way is called in the account.
fn named(way: Way, point: &str) -> String {
    format!("{way:?} {point}")
}
