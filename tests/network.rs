//! A network that fails, between real processes: hosts of their own that lose packets, are cut off from each other and
//! die unheard; and, where there are none, a proxy that delays, holds and cuts. A download ends right or says why, and
//! nothing hangs beyond its time-out.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use enjambre::limits;
use support::{
    hosts::{BRIDGE, Cut, FAULTS, Lan},
    *,
};

/// The host of the tracker; the peers have the next ones.
const TRACKER: usize = 0;
/// A lease here, in seconds.
const LEASE: u64 = 3;
/// What a download may take after a fault that leaves it another source: as long as a source may stall, and the rest.
const RECOVERY: Duration = Duration::from_secs(limits::SOURCE_STALL_TIME.as_secs() + 10);

// ---- hosts ---------------------------------------------------------------------------------------

/// Each on hosts of its own, and all at once: they mostly wait.
#[test]
fn hosts_that_lose_packets_are_cut_off_and_die_unheard() {
    let tests = [
        "a_download_over_a_network_that_loses_one_packet_in_twenty_ends_right",
        "a_source_that_is_cut_off_is_left_for_another",
        "a_download_cut_off_from_everybody_goes_on_when_they_are_back",
        "without_any_way_to_its_source_a_download_says_so_in_time",
        "the_tracker_forgets_who_is_cut_off_or_died_unheard_and_data_flow_without_it",
        "a_source_that_died_unheard_and_came_back_gives_the_rest",
    ];
    thread::scope(|scope| {
        for test in tests {
            scope.spawn(move || in_a_namespace("-mn", &format!("{BRIDGE} && {FAULTS}"), test));
        }
    });
}

/// A tracker and peers, each on its host, and their shares.
struct Swarm {
    lan: Lan,
    tracker: Process,
    folders: Vec<Folder>,
}

impl Swarm {
    fn new(peers: usize) -> Self {
        let lan = Lan::new(1 + peers);
        let listen = format!("{}:50051", hosts::address(TRACKER));
        let command = tracker_command(["--listen", &listen, "--lease", &LEASE.to_string()]);
        let tracker = tracker_by(lan.on(TRACKER, &command));
        Self { lan, tracker, folders: (0..=peers).map(|_| Folder::new()).collect() }
    }

    /// Starts the peer of a host.
    fn peer(&self, host: usize, args: &[&str]) -> Process {
        let id = format!("p{host}");
        self.folders[host].write(format!("own-{host}.txt"), &id);
        let mut command = peer_command([&id, "5000"]);
        command.arg(self.folders[host].path()).args(["--bind", &hosts::address(host).to_string()]);
        command.args(["--tracker", &self.tracker.address.to_string()]).args(args);
        let mut peer = Process::spawn(&id, self.lan.on(host, &command));
        peer.address = peer.serving();
        peer
    }

    /// Whether the tracker knows the peer of a host.
    fn knows(&self, host: usize) -> bool {
        let own = format!("own-{host}.txt");
        !block_on(async { find_all(&mut client(self.tracker.address), &own).await.unwrap() }).is_empty()
    }

    /// Starts the peer of a host with a file.
    fn seed(&self, host: usize, bytes: &[u8], args: &[&str]) -> Process {
        self.folders[host].write("f.bin", bytes);
        self.peer(host, args)
    }
}

/// Bytes of a download that are on disk.
fn here(share: &Path) -> u64 {
    let partial = fs::read_dir(share.join(".enjambre/partial")).into_iter().flatten().flatten();
    partial.filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Waits until a file has so many sources, as `peer` sees it.
#[track_caller]
fn wait_for_sources(peer: &mut Process, path: &str, sources: usize) {
    wait_for(PATIENCE, "all sources are found", || peer.search(path).iter().any(|row| row.source_ids.len() == sources));
}

/// Asks for a file and waits until some of it is here.
#[track_caller]
fn begin(getter: &mut Process, share: &Path) {
    getter.send("get f.bin");
    wait_for(PATIENCE, "some of it is here", || here(share) > 128 << 10);
    assert!(!share.join("f.bin").exists(), "the download was over before the fault");
}

/// Waits for the end of `get f.bin`: none where it went well, or why it did not.
#[track_caller]
fn ended(getter: &Process, within: Duration) -> Option<String> {
    getter.wait_long_for_line(within, 0, "the get ends", |line| match line.stream {
        Stream::Out => line.text.ends_with("f.bin").then_some(None),
        // The marks of [`Process::ask`] come before it.
        Stream::Err => line.text.strip_prefix("error: f.bin: ").map(|why| Some(why.to_owned())),
    })
}

#[test]
#[ignore = "runs in a namespace that `hosts_that_lose_packets_are_cut_off_and_die_unheard` makes"]
fn a_download_over_a_network_that_loses_one_packet_in_twenty_ends_right() {
    let swarm = Swarm::new(3);
    (0..=3).for_each(|host| swarm.lan.disturb(host, 50_000, &Cut::Nobody));
    let bytes = noise(1, 4 << 20);
    let _seeds = [swarm.seed(1, &bytes, &[]), swarm.seed(2, &bytes, &[])];
    let mut getter = swarm.peer(3, &[]);
    wait_for_sources(&mut getter, "f.bin", 2);
    getter.send("get f.bin");
    assert_eq!(ended(&getter, Duration::from_secs(30)), None);
    assert!(swarm.folders[3].read("f.bin").unwrap() == bytes);
}

#[test]
#[ignore = "runs in a namespace that `hosts_that_lose_packets_are_cut_off_and_die_unheard` makes"]
fn a_source_that_is_cut_off_is_left_for_another() {
    let swarm = Swarm::new(3);
    let bytes = noise(2, 4 << 20);
    let slow = ["--upload-limit", "512K"];
    let _seeds = [swarm.seed(1, &bytes, &slow), swarm.seed(2, &bytes, &slow)];
    let mut getter = swarm.peer(3, &[]);
    wait_for_sources(&mut getter, "f.bin", 2);
    begin(&mut getter, swarm.folders[3].path());
    swarm.lan.disturb(1, 0, &Cut::Everybody);
    assert_eq!(ended(&getter, RECOVERY), None);
    assert!(swarm.folders[3].read("f.bin").unwrap() == bytes);
}

#[test]
#[ignore = "runs in a namespace that `hosts_that_lose_packets_are_cut_off_and_die_unheard` makes"]
fn a_download_cut_off_from_everybody_goes_on_when_they_are_back() {
    let swarm = Swarm::new(2);
    let bytes = noise(3, 2 << 20);
    let _seed = swarm.seed(1, &bytes, &["--upload-limit", "512K"]);
    let mut getter = swarm.peer(2, &[]);
    wait_for_sources(&mut getter, "f.bin", 1);
    begin(&mut getter, swarm.folders[2].path());
    swarm.lan.disturb(2, 0, &Cut::Everybody);
    // Longer than a lease: the tracker has forgotten both by the time they are back.
    wait_for(PATIENCE, "the getter is forgotten", || !swarm.knows(2));
    swarm.lan.disturb(2, 0, &Cut::Nobody);
    assert_eq!(ended(&getter, RECOVERY), None);
    assert!(swarm.folders[2].read("f.bin").unwrap() == bytes);
}

#[test]
#[ignore = "runs in a namespace that `hosts_that_lose_packets_are_cut_off_and_die_unheard` makes"]
fn without_any_way_to_its_source_a_download_says_so_in_time() {
    let swarm = Swarm::new(2);
    let bytes = noise(4, 2 << 20);
    let _seed = swarm.seed(1, &bytes, &["--upload-limit", "256K"]);
    let mut getter = swarm.peer(2, &[]);
    wait_for_sources(&mut getter, "f.bin", 1);
    begin(&mut getter, swarm.folders[2].path());
    swarm.lan.disturb(2, 0, &Cut::Everybody);
    let cut = Instant::now();
    // It is tried twice, and nobody is asked more than twice in vain.
    let why = ended(&getter, 3 * limits::SOURCE_STALL_TIME).expect("nothing can have come");
    println!("after {:.1?}: {why}", cut.elapsed());
    assert!(why.contains("p1") || why.contains("tracker"), "{why}");
    assert_eq!(swarm.folders[2].read("f.bin"), None);
    // The peer itself is well.
    assert_eq!(get(getter.address, "/healthz").status, 200);
}

#[test]
#[ignore = "runs in a namespace that `hosts_that_lose_packets_are_cut_off_and_die_unheard` makes"]
fn the_tracker_forgets_who_is_cut_off_or_died_unheard_and_data_flow_without_it() {
    let swarm = Swarm::new(3);
    let bytes = noise(5, 3 << 20);
    let _seed = swarm.seed(1, &bytes, &["--upload-limit", "512K"]);
    let (mut getter, mut dies) = (swarm.peer(2, &[]), swarm.seed(3, &bytes, &["--upload-limit", "32K"]));
    wait_for_sources(&mut getter, "f.bin", 2);
    begin(&mut getter, swarm.folders[2].path());

    // One dies and no connection of it is ended: nobody hears of it.
    swarm.lan.disturb(3, 0, &Cut::Everybody);
    dies.kill();
    // The others have each other, and not the tracker.
    (1..=2).for_each(|host| swarm.lan.disturb(host, 0, &Cut::From(vec![TRACKER])));
    let cut = Instant::now();
    wait_for(Duration::from_secs(LEASE + 2), "all are forgotten", || (1..=3).all(|host| !swarm.knows(host)));
    println!("forgotten after {:.1?}", cut.elapsed());
    assert_eq!(ended(&getter, RECOVERY), None);
    assert!(swarm.folders[2].read("f.bin").unwrap() == bytes);

    (1..=2).for_each(|host| swarm.lan.disturb(host, 0, &Cut::Nobody));
    let healed = Instant::now();
    // A call that was under way has its time-out before the next one is made.
    wait_for(Duration::from_secs(LEASE) + limits::RPC_TIME, "those who live are found again", || {
        swarm.knows(1) && swarm.knows(2)
    });
    println!("found again after {:.1?}", healed.elapsed());
    assert!(!swarm.knows(3));
}

#[test]
#[ignore = "runs in a namespace that `hosts_that_lose_packets_are_cut_off_and_die_unheard` makes"]
fn a_source_that_died_unheard_and_came_back_gives_the_rest() {
    let swarm = Swarm::new(2);
    let bytes = noise(6, 2 << 20);
    let mut seed = swarm.seed(1, &bytes, &["--upload-limit", "512K"]);
    let mut getter = swarm.peer(2, &[]);
    wait_for_sources(&mut getter, "f.bin", 1);
    begin(&mut getter, swarm.folders[2].path());
    swarm.lan.disturb(1, 0, &Cut::Everybody);
    seed.kill();
    swarm.lan.disturb(1, 0, &Cut::Nobody);
    // The getter's connections are half open: the new process knows nothing of them.
    let _seed = swarm.peer(1, &[]);
    assert_eq!(ended(&getter, RECOVERY), None);
    assert!(swarm.folders[2].read("f.bin").unwrap() == bytes);
}

// ---- a proxy -------------------------------------------------------------------------------------

/// A tracker whose leases outlive a test, and `f.bin` at sources that are reached through proxies.
struct Proxied {
    tracker: Process,
    seeds: Vec<(Process, Folder, Proxy)>,
    bytes: Vec<u8>,
}

impl Proxied {
    fn new(seeds: usize, length: usize, args: &[&str]) -> Self {
        let tracker = tracker(&["--lease", "600"]);
        let bytes = noise(7, length);
        let seed = |number| {
            let folder = Folder::new();
            folder.write("f.bin", &bytes);
            // The tracker knows it by the proxy's port only.
            let seed = peer(&format!("hidden-{number}"), folder.path(), "127.0.0.1:1".parse().unwrap(), args);
            wait_for(PATIENCE, "the file is shared", || get(seed.address, "/files/f.bin").status == 200);
            let proxy = Proxy::start(seed.address);
            let id = format!("p{number}");
            block_on(announce(tracker.address, &id, proxy.address.port(), "f.bin", &bytes));
            (seed, folder, proxy)
        };
        let seeds = (0..seeds).map(seed).collect();
        Self { tracker, seeds, bytes }
    }
}

/// All at once: they mostly wait.
#[test]
fn connections_that_take_long_hang_and_break() {
    let tests: [fn(); 7] = [
        a_download_over_ways_that_take_long_ends_right,
        connections_that_break_again_and_again_cost_a_download_nothing_but_time,
        a_source_that_hangs_is_left_for_another,
        a_source_that_hangs_from_the_beginning_is_asked_once_and_named,
        two_downloads_that_have_only_each_other_go_on_with_a_source_that_came_back,
        two_downloads_that_have_only_each_other_say_so_when_nobody_comes,
        a_tracker_that_hangs_is_said_to_and_a_download_under_way_does_without,
    ];
    thread::scope(|scope| tests.into_iter().for_each(|test| _ = scope.spawn(test)));
}

fn a_download_over_ways_that_take_long_ends_right() {
    let swarm = Proxied::new(2, 2 << 20, &[]);
    swarm.seeds.iter().for_each(|(_, _, proxy)| proxy.delay(Duration::from_millis(150)));
    let way = Proxy::start(swarm.tracker.address);
    way.delay(Duration::from_millis(150));
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), way.address, &[]);
    getter.joined();
    getter.send("get f.bin");
    assert_eq!(ended(&getter, PATIENCE), None);
    assert!(folder.read("f.bin").unwrap() == swarm.bytes);
}

fn connections_that_break_again_and_again_cost_a_download_nothing_but_time() {
    let swarm = Proxied::new(2, 3 << 20, &["--upload-limit", "1M"]);
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), swarm.tracker.address, &[]);
    getter.joined();
    begin(&mut getter, folder.path());
    for turn in 0..4 {
        let before = here(folder.path());
        swarm.seeds[turn % 2].2.cut();
        wait_for(PATIENCE, "the download goes on", || here(folder.path()) > before || folder.join("f.bin").exists());
    }
    assert_eq!(ended(&getter, PATIENCE), None);
    assert!(folder.read("f.bin").unwrap() == swarm.bytes);
}

fn a_source_that_hangs_is_left_for_another() {
    let swarm = Proxied::new(2, 2 << 20, &["--upload-limit", "512K"]);
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), swarm.tracker.address, &[]);
    getter.joined();
    begin(&mut getter, folder.path());
    swarm.seeds[0].2.hold(true);
    assert_eq!(ended(&getter, RECOVERY), None);
    assert!(folder.read("f.bin").unwrap() == swarm.bytes);
}

fn a_source_that_hangs_from_the_beginning_is_asked_once_and_named() {
    let swarm = Proxied::new(1, 2 << 20, &[]);
    swarm.seeds[0].2.hold(true);
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), swarm.tracker.address, &[]);
    getter.joined();
    getter.send("get f.bin");
    let began = Instant::now();
    let why = ended(&getter, limits::SOURCE_STALL_TIME * 2).expect("nothing can have come");
    println!("after {:.1?}: {why}", began.elapsed());
    assert!(why.contains("p0 stalls"), "{why}");
}

fn two_downloads_that_have_only_each_other_go_on_with_a_source_that_came_back() {
    let tracker = tracker(&["--lease", "600"]);
    let (seed_folder, folders) = (Folder::new(), [Folder::new(), Folder::new()]);
    let bytes = noise(8, 1 << 20);
    seed_folder.write("f.bin", &bytes);
    let mut seed = peer("seed", seed_folder.path(), tracker.address, &["--upload-limit", "256K"]);
    let mut getters = [0, 1].map(|nth: usize| peer(&format!("g{nth}"), folders[nth].path(), tracker.address, &[]));
    wait_for_sources(&mut getters[0], "f.bin", 1);
    getters.iter_mut().for_each(|getter| getter.send("get f.bin"));
    wait_for(PATIENCE, "both have begun", || folders.iter().all(|folder| here(folder.path()) > 0));
    seed.kill();
    for getter in &getters {
        getter.wait_for_line(0, "the seed is let go", |line| line.text.contains("going on without it").then_some(()));
    }
    let _seed = peer_on("seed", seed.address.port(), seed_folder.path(), tracker.address, &[]);
    for (getter, folder) in getters.iter().zip(&folders) {
        assert_eq!(ended(getter, RECOVERY), None);
        assert!(folder.read("f.bin").unwrap() == bytes);
    }
}

fn two_downloads_that_have_only_each_other_say_so_when_nobody_comes() {
    const BYTES: &[u8] = b"of one piece, so that no list has to be had";
    let tracker = tracker(&["--lease", "600"]);
    let folders = [Folder::new(), Folder::new()];
    let nobody = free_address();
    let mut getters = [0, 1].map(|nth: usize| peer(&format!("g{nth}"), folders[nth].path(), tracker.address, &[]));
    getters.iter().for_each(Process::joined);
    block_on(announce(tracker.address, "seed", nobody.port(), "f.bin", BYTES));
    getters.iter_mut().for_each(|getter| getter.send("get f.bin"));
    for getter in &getters {
        let why = ended(getter, limits::STARVED_TIME * 3).expect("nothing can have come");
        assert!(why.contains("seed cannot be reached"), "{why}");
    }
}

fn a_tracker_that_hangs_is_said_to_and_a_download_under_way_does_without() {
    let swarm = Proxied::new(1, 2 << 20, &["--upload-limit", "512K"]);
    let way = Proxy::start(swarm.tracker.address);
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), way.address, &[]);
    getter.joined();
    begin(&mut getter, folder.path());
    way.hold(true);
    assert_eq!(ended(&getter, PATIENCE), None);
    assert!(folder.read("f.bin").unwrap() == swarm.bytes);
    let asked = Instant::now();
    let answer = getter.ask("search f.bin");
    assert!(answer.error().is_some_and(|why| why.contains("tracker")), "{answer:?}");
    assert!(asked.elapsed() < limits::SEARCH_TIME + Duration::from_secs(2), "{:?}", asked.elapsed());
    way.hold(false);
    wait_for(PATIENCE, "the tracker is there again", || getter.ask("search f.bin").error().is_none());
}
