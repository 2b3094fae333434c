//! Peers that have several trackers, and lose the one they use. These trackers share nothing: a file is found at the next one
//! once its owner has joined there.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use support::*;

/// A peer has left a tracker after so long, and no search takes longer meanwhile.
const MOVE: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(3);

/// Two trackers, and peers that use the first of them.
struct Swarm {
    used: Process,
    other: Process,
    seeker: Process,
    giver: Process,
    folders: [Folder; 2],
}

impl Swarm {
    /// The giver offers `notes`, and `big`, which takes the seeker four seconds.
    fn new() -> Self {
        let [one, two] = [(), ()].map(|()| tracker(&["--lease", &LEASE.as_secs().to_string()]));
        let list = format!("{},{}", one.address, two.address);
        let folders = [Folder::new(), Folder::new()];
        folders[0].write("notes", "hello");
        folders[0].write("big", noise(1, 4 << 20));
        let giver = peer_of("giver", folders[0].path(), &list, &[]);
        let at = joined(&giver);
        let (used, other) = if at == one.address { (one, two) } else { (two, one) };
        // With which tracker a peer begins depends on its id.
        let mut ids = (0..).map(|number| format!("seeker_{number}"));
        let mut seeker = wait_for_some(PATIENCE, "an id that begins with the same tracker", || {
            let seeker = peer_of(&ids.next()?, folders[1].path(), &list, &["--download-limit", "1M"]);
            (joined(&seeker) == at).then_some(seeker)
        });
        wait_for(PATIENCE, "the files are found", || seeker.search("*").len() == 2);
        Self { used, other, seeker, giver, folders }
    }

    /// The seeker searches until it finds the notes at the other tracker. No search fails or takes long.
    fn is_found_again_by(&mut self, deadline: Instant) {
        loop {
            let begun = Instant::now();
            let found = self.seeker.search("notes");
            assert!(begun.elapsed() < MOVE, "a search took {:?}", begun.elapsed());
            if !found.is_empty() && joined_last(&self.seeker) == self.other.address {
                return;
            }
            assert!(Instant::now() < deadline, "the notes are not found in time");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Both peers say that the one tracker is away and that they try the other.
    fn has_been_said(&self) {
        let (away, next) =
            (format!("tracker {} is away (", self.used.address), format!("trying {}", self.other.address));
        for peer in [&self.giver, &self.seeker] {
            peer.wait_for_line(0, "it says where it goes on", |line| {
                (line.text.starts_with(&away) && line.text.ends_with(&next)).then_some(())
            });
        }
    }
}

/// The tracker that a peer has joined first.
fn joined(peer: &Process) -> SocketAddr {
    peer.wait_for_line(0, "it has joined", |line| joins(&line.text))
}

fn joined_last(peer: &Process) -> SocketAddr {
    peer.lines().iter().rev().find_map(|line| joins(&line.text)).unwrap()
}

fn joins(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("joined tracker ")?.split(' ').next()?.parse().ok()
}

#[test]
fn a_tracker_that_is_killed_is_left_for_the_next_and_a_get_goes_on() {
    let mut swarm = Swarm::new();
    swarm.seeker.send("get big");
    // Any sooner it would ask the other tracker for sources, which does not know the giver yet.
    wait_for(PATIENCE, "bytes of it come", || {
        let partial = std::fs::read_dir(swarm.folders[1].join(".enjambre/partial")).into_iter().flatten().flatten();
        partial.filter_map(|entry| entry.metadata().ok()).any(|file| file.blocks() * 512 >= 256 << 10)
    });
    swarm.used.kill();
    let killed = Instant::now();
    let from = swarm.seeker.lines().len();
    swarm.seeker.wait_for_line(from, "the get ends", |line| line.text.ends_with("\tbig").then_some(()));
    swarm.is_found_again_by(killed + MOVE + LEASE);
    swarm.has_been_said();
    assert_eq!(swarm.seeker.get("notes").unwrap().size, 5);
}

#[test]
fn a_tracker_that_hangs_is_left_for_the_next_and_not_gone_back_to() {
    let mut swarm = Swarm::new();
    swarm.used.signal(Signal::STOP);
    let stopped = Instant::now();
    swarm.is_found_again_by(stopped + MOVE + LEASE);
    swarm.has_been_said();
    let begun = Instant::now();
    assert_eq!(swarm.seeker.get("notes").unwrap().size, 5);
    assert!(begun.elapsed() < MOVE, "the get took {:?}", begun.elapsed());
    // What it had been sent it answers now, and nobody listens.
    swarm.used.signal(Signal::CONT);
    let end = Instant::now() + LEASE;
    while Instant::now() < end {
        assert_eq!(swarm.seeker.search("notes").len(), 1);
        assert_eq!(get(swarm.giver.address, "/readyz").status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    for peer in [&swarm.giver, &swarm.seeker] {
        assert_eq!(joined_last(peer), swarm.other.address);
    }
    // Who leaves while a tracker hangs is gone from the other at once.
    swarm.used.signal(Signal::STOP);
    swarm.giver.send("leave");
    assert!(swarm.giver.exited().success());
    let left = swarm.seeker.search("notes");
    assert!(left.iter().all(|found| !found.source_ids.contains(&"giver".to_owned())), "{left:?}");
}

#[test]
fn a_search_while_the_used_tracker_hangs_waits_half_a_second_for_it_and_asks_the_next() {
    let mut swarm = Swarm::new();
    swarm.used.signal(Signal::STOP);
    let begun = Instant::now();
    swarm.seeker.search("notes");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(1500), "{took:?}");
    // Meanwhile it is found out that the one in use is away, without another search.
    let away = format!("tracker {} is away (", swarm.used.address);
    let from = Instant::now();
    swarm.seeker.wait_for_line(0, "it is left", |line| line.text.starts_with(&away).then_some(()));
    assert!(from.elapsed() < MOVE);
}

#[test]
fn without_any_tracker_all_are_tried_round_and_round_and_told_of_once() {
    let (one, two) = (free_address(), free_address());
    let folder = Folder::new();
    folder.write("notes", "hello");
    let mut peer = peer_of("p", folder.path(), &format!("{one},{two}"), &[]);
    peer.wait_for_line(0, "it says so", |line| line.text.starts_with("no tracker answers:").then_some(()));
    let answer = peer.ask("search notes");
    let error = answer.error().unwrap();
    assert!(error.starts_with("no tracker of 127.0.0.1:") && error.contains("Connection refused"), "{error}");
    assert_eq!(get(peer.address, "/readyz").status, 503);
    assert_eq!(get(peer.address, "/files/notes").body, b"hello");
    let about = |tracker: SocketAddr| {
        let lines = peer.lines().into_iter().map(|line| line.text);
        lines.filter(|line| line.starts_with(&format!("tracker {tracker} is away ("))).count()
    };
    assert_eq!((about(one), about(two)), (1, 1));
    let _back = tracker(&["--listen", &two.to_string()]);
    assert_eq!(joined(&peer), two);
    wait_for(PATIENCE, "the peer is ready", || get(peer.address, "/readyz").status == 200);
    wait_for(PATIENCE, "the notes are found", || peer.search("notes").len() == 1);
}
