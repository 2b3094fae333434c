//! Several trackers as one: the real binaries on a real etcd, asked over real sockets.
#![cfg(all(feature = "etcd", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use enjambre::proto::{
    AnnounceRequest, Download, JoinRequest, LeaveRequest, LocateRequest, Mirror, PeersRequest, RenewRequest,
    tracker_client::TrackerClient,
};
use support::*;
use tokio::time::sleep;
use tonic::{Code, Status, transport::Channel};

/// The lease where a test waits for one to end: the shortest that outlasts a busy machine.
const LEASE: Duration = Duration::from_secs(3);
/// When a tracker has died, its peers have turned to another after so long, and all is found there.
const MOVED: Duration = Duration::from_secs(5);
/// How much later than a lease everybody has to know that a peer is dead.
const ALL_KNOW: Duration = Duration::from_secs(2);

type Client = TrackerClient<Channel>;

async fn join(client: &mut Client, peer_id: &str, identity: u8) -> Result<Vec<u8>, Status> {
    let (peer_id, identity) = (peer_id.to_owned(), vec![identity; 32]);
    let request = JoinRequest { peer_id, identity, port: 5000, ..JoinRequest::default() };
    client.join(request).await.map(|reply| reply.into_inner().token)
}

async fn announce(client: &mut Client, token: &[u8], added: &[&str], removed: &[&str]) -> Result<(), Status> {
    let added = added.iter().map(|path| file(path)).collect();
    let removed = removed.iter().map(ToString::to_string).collect();
    let request = AnnounceRequest { token: token.to_vec(), added, removed, ..AnnounceRequest::default() };
    client.announce(request).await.map(|_| ())
}

async fn renew(client: &mut Client, token: &[u8]) -> Result<(), Status> {
    client.renew(RenewRequest { token: token.to_vec() }).await.map(|_| ())
}

async fn leave(client: &mut Client, token: &[u8]) -> Result<(), Status> {
    client.leave(LeaveRequest { token: token.to_vec() }).await.map(|_| ())
}

/// Trackers that share a store.
fn trackers(etcd: &Etcd, count: usize, lease: Duration) -> Vec<Process> {
    let (store, lease) = (etcd.store(), lease.as_secs().to_string());
    let args = ["--store", &store, "--lease", &lease, "--metrics-listen", "127.0.0.1:0"];
    (0..count).map(|_| tracker(&args)).collect()
}

/// What a tracker says of itself to whoever watches it.
fn health(tracker: &Process) -> String {
    let monitor = tracker.wait_for_line(0, "where its metrics are", |line| {
        line.text.strip_prefix("metrics on http://")?.split('/').next()?.parse().ok()
    });
    String::from_utf8(get(monitor, "/healthz").body).unwrap()
}

fn clients(trackers: &[Process]) -> Vec<Client> {
    trackers.iter().map(|tracker| client(tracker.address)).collect()
}

/// Waits until each of them finds just these.
async fn all_find(clients: &mut [Client], text: &str, paths: &[&str]) {
    all_find_within(PATIENCE, clients, text, paths).await;
}

async fn all_find_within(deadline: Duration, clients: &mut [Client], text: &str, paths: &[&str]) {
    let end = Instant::now() + deadline;
    for (at, client) in clients.iter_mut().enumerate() {
        loop {
            let found = find_all(client, text).await.unwrap();
            if found == paths {
                break;
            }
            assert!(Instant::now() < end, "tracker {at} finds {found:?} for {text}, not {paths:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Searches at each of them, over and over until then: no search fails, and none misses a file that lasts.
async fn none_misses(clients: &mut [Client], fleet: &Fleet, until: Instant) {
    let mut lasting: Vec<_> = fleet.peers.iter().map(|(id, _)| format!("lasting/{id}/0")).collect();
    lasting.sort_unstable();
    while Instant::now() < until {
        for (at, client) in clients.iter_mut().enumerate() {
            let found = find_all(client, "lasting/*").await.unwrap();
            assert_eq!(found, lasting, "at tracker {at}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until each of them finds what the fleet exchanges by now, and nothing else.
async fn all_are_up_to_date(clients: &mut [Client], fleet: &Fleet, deadline: Duration) {
    let end = Instant::now() + deadline;
    for (at, client) in clients.iter_mut().enumerate() {
        loop {
            let before = Instant::now();
            let found = find_all(client, "changing/*").await.unwrap();
            let missing = fleet.changing_since(before).into_iter().find(|path| !found.contains(path));
            if missing.is_none() && found.len() == fleet.peers.len() {
                break;
            }
            assert!(Instant::now() < end, "tracker {at} misses {missing:?} and has {found:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A fleet of ten at these trackers that changes all the time, once all is known everywhere.
async fn fleet(trackers: &[Process], clients: &mut [Client], change: Duration) -> Fleet {
    let addresses: Vec<SocketAddr> = trackers.iter().map(|tracker| tracker.address).collect();
    let fleet = Fleet::start(&Plan { trackers: addresses, lease: LEASE, change, files: 1 }, 10);
    let end = Instant::now() + PATIENCE;
    while !fleet.is_up() {
        assert!(Instant::now() < end, "the fleet does not get up");
        sleep(Duration::from_millis(10)).await;
    }
    let mut lasting: Vec<_> = fleet.peers.iter().map(|(id, _)| format!("lasting/{id}/0")).collect();
    lasting.sort_unstable();
    all_find(clients, "lasting/*", &lasting.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fleet
}

#[tokio::test]
async fn what_one_tracker_is_told_all_know() {
    let Some(etcd) = Etcd::start() else { return };
    let trackers = trackers(&etcd, 3, LEASE * 5);
    let mut clients = clients(&trackers);
    let token = join(&mut clients[0], "a", 1).await.unwrap();
    announce(&mut clients[0], &token, &["x", "y"], &[]).await.unwrap();
    all_find(&mut clients, "*", &["x", "y"]).await;
    // Its token holds everywhere, and so does what it says there.
    announce(&mut clients[1], &token, &["z"], &["x"]).await.unwrap();
    all_find(&mut clients, "*", &["y", "z"]).await;
    renew(&mut clients[2], &token).await.unwrap();
    // Another cannot take its id, whichever tracker it asks.
    assert_eq!(join(&mut clients[1], "a", 2).await.unwrap_err().code(), Code::AlreadyExists);
    // A newer copy of it can, and the old token is superseded at all of them.
    let newer = join(&mut clients[1], "a", 1).await.unwrap();
    announce(&mut clients[1], &newer, &["new"], &[]).await.unwrap();
    all_find(&mut clients, "*", &["new"]).await;
    for client in &mut clients {
        assert_eq!(renew(client, &token).await.unwrap_err().code(), Code::Aborted);
    }
    leave(&mut clients[2], &newer).await.unwrap();
    all_find(&mut clients, "*", &[]).await;
    assert_eq!(renew(&mut clients[1], &newer).await.unwrap_err().code(), Code::NotFound);
    // One that comes later knows as much.
    let token = join(&mut clients[0], "b", 3).await.unwrap();
    announce(&mut clients[0], &token, &["late"], &[]).await.unwrap();
    let mirror = Some(Mirror { wanted: 3, here: 1 });
    clients[0].announce(AnnounceRequest { token, mirror, ..AnnounceRequest::default() }).await.unwrap();
    all_find(&mut clients, "*", &["late"]).await;
    let late = tracker(&["--store", &etcd.store()]);
    assert_eq!(find_all(&mut client(late.address), "*").await.unwrap(), ["late"]);
    // And who is there, with what each holds and mirrors.
    clients.push(client(late.address));
    for client in &mut clients {
        let end = Instant::now() + PATIENCE;
        loop {
            let reply = client.peers(PeersRequest::default()).await.unwrap().into_inner();
            let known: Vec<_> =
                reply.peers.iter().map(|peer| (peer.peer_id.as_str(), peer.files, peer.mirror)).collect();
            if known == [("b", 1, mirror)] && reply.cursor.is_empty() {
                assert_eq!(reply.peers[0].bytes, file("late").size);
                break;
            }
            assert!(Instant::now() < end, "{reply:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn those_who_download_the_same_find_each_other_over_all_trackers() {
    let Some(etcd) = Etcd::start() else { return };
    let trackers = trackers(&etcd, 2, LEASE * 5);
    let mut clients = clients(&trackers);
    let content = file("big").content;
    let mut tokens = Vec::new();
    for (at, id) in ["a", "b"].into_iter().enumerate() {
        let token = join(&mut clients[at], id, 1).await.unwrap();
        let downloading = vec![Download { content: content.clone(), size: 3 }];
        let request = AnnounceRequest { token: token.clone(), downloading, ..AnnounceRequest::default() };
        clients[at].announce(request).await.unwrap();
        tokens.push(token);
    }
    let neighbours = async |client: &mut Client, token: &[u8]| {
        let request = LocateRequest { content: content.clone(), token: token.to_vec(), dead: Vec::new() };
        let sources = client.locate(request).await.unwrap().into_inner().sources;
        sources.into_iter().map(|source| (source.peer_id, source.partial)).collect::<Vec<_>>()
    };
    let end = Instant::now() + PATIENCE;
    for (at, other) in ["b", "a"].into_iter().enumerate() {
        while neighbours(&mut clients[at], &tokens[at]).await != [(other.to_owned(), true)] {
            assert!(Instant::now() < end);
            sleep(Duration::from_millis(10)).await;
        }
    }
    // What one has whole it no longer downloads.
    announce(&mut clients[0], &tokens[0], &["big"], &[]).await.unwrap();
    while neighbours(&mut clients[1], &tokens[1]).await != [("a".to_owned(), false)] {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(10)).await;
    }
    let request =
        AnnounceRequest { token: tokens[1].clone(), stopped: vec![content.clone()], ..AnnounceRequest::default() };
    clients[1].announce(request).await.unwrap();
    let third = join(&mut clients[0], "c", 1).await.unwrap();
    let downloading = vec![Download { content: content.clone(), size: 3 }];
    clients[0]
        .announce(AnnounceRequest { token: third.clone(), downloading, ..AnnounceRequest::default() })
        .await
        .unwrap();
    while neighbours(&mut clients[0], &third).await != [("a".to_owned(), false)] {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_death_is_seen_by_all() {
    let Some(etcd) = Etcd::start() else { return };
    let mut trackers = trackers(&etcd, 3, LEASE);
    let mut clients = clients(&trackers);
    let mut fleet = fleet(&trackers, &mut clients, LEASE * 10).await;
    let lasting = |of: &[usize]| {
        let mut paths: Vec<_> = of.iter().map(|number| format!("lasting/fleet-{number}/0")).collect();
        paths.sort_unstable();
        paths
    };
    // The tracker that serves the peer lets go of it.
    fleet.kill(3);
    let left = lasting(&[0, 1, 2, 4, 5, 6, 7, 8, 9]);
    let left: Vec<_> = left.iter().map(String::as_str).collect();
    all_find_within(LEASE + ALL_KNOW, &mut clients, "lasting/*", &left).await;
    // With that tracker dead too, etcd does.
    fleet.kill(4);
    trackers[1].kill();
    clients.remove(1);
    let left = lasting(&[0, 1, 2, 5, 6, 7, 8, 9]);
    let left: Vec<_> = left.iter().map(String::as_str).collect();
    all_find_within(LEASE + ALL_KNOW, &mut clients, "lasting/*", &left).await;
}

#[tokio::test]
async fn when_a_tracker_is_killed_nothing_is_missed_at_the_others() {
    let Some(etcd) = Etcd::start() else { return };
    let mut trackers = trackers(&etcd, 3, LEASE);
    let mut clients = clients(&trackers);
    let fleet = fleet(&trackers, &mut clients, Duration::from_millis(300)).await;
    trackers[0].kill();
    let killed = Instant::now();
    let mut others = clients.split_off(1);
    // What had lasted is found throughout, since etcd has it.
    none_misses(&mut others, &fleet, killed + LEASE + ALL_KNOW).await;
    assert!(killed.elapsed() >= MOVED);
    all_are_up_to_date(&mut others, &fleet, ALL_KNOW).await;
    // When it is back it knows all that the others do, before it answers.
    let back = tracker(&["--store", &etcd.store(), "--lease", &LEASE.as_secs().to_string()]);
    none_misses(&mut [client(back.address)], &fleet, Instant::now() + Duration::from_millis(500)).await;
}

/// Lets etcd be away for longer than a lease while peers come, change and leave.
async fn etcd_is_away(etcd: &mut Etcd, go: impl Fn(&mut Etcd), come_back: impl Fn(&mut Etcd)) {
    let trackers = trackers(etcd, 3, LEASE);
    let mut clients = clients(&trackers);
    let fleet = fleet(&trackers, &mut clients, Duration::from_millis(300)).await;
    let leaver = join(&mut clients[1], "leaver", 9).await.unwrap();
    announce(&mut clients[1], &leaver, &["gone"], &[]).await.unwrap();
    all_find(&mut clients, "gone", &["gone"]).await;
    go(etcd);
    let gone = Instant::now();
    // Tokens hold, and whoever comes is found where it came.
    let newcomer = join(&mut clients[2], "newcomer", 8).await.unwrap();
    announce(&mut clients[2], &newcomer, &["new"], &[]).await.unwrap();
    all_find(&mut clients[2..], "new", &["new"]).await;
    renew(&mut clients[0], &leaver).await.unwrap();
    leave(&mut clients[0], &leaver).await.unwrap();
    for part in 1..=4 {
        none_misses(&mut clients, &fleet, gone + LEASE * part / 2).await;
        renew(&mut clients[2], &newcomer).await.unwrap();
    }
    for tracker in &trackers {
        let lost = |line: &Line| line.text.starts_with("lost store=").then_some(());
        tracker.wait_for_line(0, "it says that etcd is away", lost);
        assert_eq!(health(tracker), "degraded\n");
    }
    come_back(etcd);
    let back = Instant::now();
    // Leases have ended in etcd. Still nobody misses anything.
    for part in 1..=8 {
        none_misses(&mut clients, &fleet, back + LEASE * part / 2).await;
        renew(&mut clients[2], &newcomer).await.unwrap();
    }
    assert!(trackers.iter().all(|tracker| health(tracker) == "ok\n"));
    all_find_within(ALL_KNOW, &mut clients, "new", &["new"]).await;
    all_find_within(ALL_KNOW, &mut clients, "gone", &[]).await;
    all_are_up_to_date(&mut clients, &fleet, ALL_KNOW).await;
}

#[tokio::test]
async fn while_etcd_hangs_no_search_fails_or_misses_and_all_is_caught_up_with() {
    let Some(mut etcd) = Etcd::start() else { return };
    etcd_is_away(&mut etcd, |etcd| etcd.signal(Signal::STOP), |etcd| etcd.signal(Signal::CONT)).await;
}

#[tokio::test]
async fn while_etcd_is_dead_no_search_fails_or_misses_and_all_is_caught_up_with() {
    let Some(mut etcd) = Etcd::start() else { return };
    etcd_is_away(&mut etcd, Etcd::kill, Etcd::restart).await;
}

#[tokio::test]
async fn a_large_share_holds_up_nobody_and_arrives_whole() {
    const FILES: usize = 20_000;
    let Some(etcd) = Etcd::start() else { return };
    let trackers = trackers(&etcd, 2, LEASE * 20);
    let mut clients = clients(&trackers);
    let large = join(&mut clients[0], "large", 1).await.unwrap();
    let small = join(&mut clients[0], "small", 2).await.unwrap();
    let paths: Vec<_> = (0..FILES).map(|number| format!("large/{:03}/{number:06}.bin", number % 211)).collect();
    for part in paths.chunks(1000) {
        announce(&mut clients[0], &large, &part.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await.unwrap();
    }
    announce(&mut clients[0], &small, &["small"], &[]).await.unwrap();
    all_find_within(MOVED, &mut clients, "small", &["small"]).await;
    let mut sorted: Vec<_> = paths.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    all_find(&mut clients, "large/*", &sorted).await;
    // Its changes arrive too, whichever tracker they are told.
    let removed: Vec<_> = sorted.iter().step_by(50).copied().collect();
    announce(&mut clients[1], &large, &["large/new"], &removed).await.unwrap();
    sorted.retain(|path| !removed.contains(path));
    sorted.push("large/new");
    all_find(&mut clients, "large/*", &sorted).await;
}

#[tokio::test]
async fn whoever_missed_what_etcd_has_forgotten_reads_all_again() {
    let Some(mut etcd) = Etcd::start() else { return };
    let trackers = trackers(&etcd, 2, LEASE * 20);
    let mut clients = clients(&trackers);
    let token = join(&mut clients[0], "a", 1).await.unwrap();
    announce(&mut clients[0], &token, &["before"], &[]).await.unwrap();
    let gone = join(&mut clients[0], "gone", 2).await.unwrap();
    announce(&mut clients[0], &gone, &["gone"], &[]).await.unwrap();
    all_find(&mut clients, "*", &["before", "gone"]).await;
    // One hangs while etcd goes away and comes back, and its connection with it.
    trackers[1].signal(Signal::STOP);
    etcd.kill();
    etcd.restart();
    announce(&mut clients[0], &token, &["after"], &["before"]).await.unwrap();
    leave(&mut clients[0], &gone).await.unwrap();
    wait_for(PATIENCE, "etcd has what changed", || {
        let has_left = etcd.get("enjambre/peers/gone/entry").is_none();
        has_left && etcd.get("enjambre/peers/a/files.").is_some_and(|(_, version)| version >= 2)
    });
    etcd.compact();
    trackers[1].signal(Signal::CONT);
    all_find(&mut clients, "*", &["after"]).await;
    trackers[1].wait_for_line(0, "it reads all again", |line| line.text.starts_with("read again store=").then_some(()));
}

#[tokio::test]
async fn nonsense_in_etcd_does_no_harm() {
    let Some(etcd) = Etcd::start() else { return };
    for (key, value) in [
        ("enjambre/peers/x/entry", &b"\xff\xff\xff"[..]),
        ("enjambre/peers/x/files.", b"\xff"),
        ("enjambre/peers/x/files.01", b""),
        ("enjambre/peers/../entry", b""),
        ("enjambre/peers//entry", b""),
        ("enjambre/peers/y/files.0", &[0; 300_000]),
        ("enjambre/peers/y/unknown", b"?"),
        ("enjambre/else", b"?"),
    ] {
        etcd.put(key, value);
    }
    let trackers = trackers(&etcd, 2, LEASE * 20);
    let mut clients = clients(&trackers);
    let token = join(&mut clients[0], "x", 1).await.unwrap();
    announce(&mut clients[0], &token, &["x"], &[]).await.unwrap();
    all_find(&mut clients, "*", &["x"]).await;
    // Also while they watch, and over what they wrote; and what they write then is whole again.
    etcd.put("enjambre/peers/x/files.", b"\xff\xff");
    etcd.put("enjambre/peers/z/entry", &[7; 100]);
    trackers[1].wait_for_line(0, "it says what it does not take", |line| {
        line.text.starts_with("refuse store key=\"enjambre/peers/z/entry\"").then_some(())
    });
    announce(&mut clients[1], &token, &["y"], &[]).await.unwrap();
    all_find(&mut clients, "*", &["x", "y"]).await;
}

#[test]
fn a_tracker_without_its_store_does_not_listen_and_can_be_stopped() {
    let (nowhere, bad) = ("etcd://127.0.0.1:1", "etcd://");
    let mut waiting = Process::spawn("tracker", tracker_command(["--listen", "127.0.0.1:0", "--store", nowhere]));
    waiting.wait_for_line(0, "it waits", |line| line.text.starts_with("waiting for store=").then_some(()));
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.exited().code(), Some(0));
    assert!(waiting.lines().iter().all(|line| !line.text.contains("listening")));
    let refused = run(tracker_command(["--store", bad]), "");
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("--store"), "{}", refused.err);
}

#[test]
fn real_peers_find_each_other_while_one_tracker_after_the_other_is_killed() {
    let Some(etcd) = Etcd::start() else { return };
    let mut trackers = trackers(&etcd, 3, LEASE);
    let list: Vec<_> = trackers.iter().map(|tracker| tracker.address.to_string()).collect();
    let folders = [Folder::new(), Folder::new()];
    folders[0].write("first.txt", "1");
    let start = |id: &str, folder: &Folder| peer_of(id, folder.path(), &list.join(","), &[]);
    let _seed = start("seed", &folders[0]);
    let mut getter = start("getter", &folders[1]);
    // A tracker that dies at once takes with it what it has not passed on yet.
    block_on(async { all_find(&mut clients(&trackers), "first.txt", &["first.txt"]).await });
    for name in ["second.txt", "third.txt"] {
        let text = |line: &Line| line.text.contains("joined tracker ").then(|| line.text.clone());
        let joined = getter.wait_for_line(0, "where it joined", text);
        let at = trackers.iter().position(|tracker| joined.contains(&tracker.address.to_string()));
        // First the one that the getter joined, then any other.
        trackers.remove(at.unwrap_or(0)).kill();
        let killed = Instant::now();
        assert_eq!(getter.search("first.txt").len(), 1);
        assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
        folders[0].write(name, name);
        wait_for(MOVED, name, || getter.search(name).len() == 1);
        getter.get(name).unwrap();
        assert_eq!(folders[1].read(name).as_deref(), Some(name.as_bytes()));
    }
}

#[test]
fn who_follows_is_told_by_any_tracker_and_by_the_next_when_that_one_dies() {
    let Some(etcd) = Etcd::start() else { return };
    let mut trackers = trackers(&etcd, 2, LEASE);
    let (source, folder) = (Folder::new(), Folder::new());
    source.write("releases/1", "one");
    let publisher = peer("publisher", source.path(), trackers[0].address, &[]);
    let both = format!("{},{}", trackers[1].address, trackers[0].address);
    let args = ["--mirror", "releases/*", "--from", "publisher"];
    let _follower = peer_of("follower", folder.path(), &both, &args);
    let comes = |name: &str, bytes: &[u8]| {
        wait_for(PATIENCE, "it is mirrored", || {
            folder.read(format!("releases/{name}")).is_some_and(|read| read == bytes)
        });
    };
    comes("1", b"one");
    assert_eq!(put(publisher.address, "releases/2", b"two").status, 201);
    comes("2", b"two");
    // Which of them the follower is at is for chance; either dies here.
    for at in [1, 0] {
        let address = trackers[at].address.to_string();
        let gone = trackers.remove(at);
        drop(gone);
        let name = format!("after {at}");
        source.write(format!("releases/{name}"), &name);
        if at == 1 {
            comes(&name, name.as_bytes());
            trackers.push(tracker(&["--store", &etcd.store(), "--lease", "3", "--listen", &address]));
        }
    }
    // The publisher's own was away; it joins again where that is back, here at the other's address.
    drop(publisher);
    let _publisher = peer("publisher", source.path(), trackers[0].address, &[]);
    comes("after 0", b"after 0");
}
