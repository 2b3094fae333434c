//! A fleet that follows: what a publisher announces comes to those who mirror it, and nothing else gives way.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use enjambre::{
    content::ContentId,
    proto::{
        AnnounceRequest, File, LeaveRequest, PeersRequest, Publisher, Source, WatchReply, WatchRequest,
        tracker_client::TrackerClient,
    },
};
use support::*;
use tonic::{Code, transport::Endpoint};

/// Starts a peer that mirrors what `publisher` has in `releases/`.
#[track_caller]
fn follower(id: &str, folder: &Folder, tracker: &Process, more: &[&str]) -> Process {
    let args = [&["--mirror", "releases/*", "--from", "publisher"], more].concat();
    peer(id, folder.path(), tracker.address, &args)
}

#[track_caller]
fn comes(folder: &Folder, path: &str, bytes: &[u8]) {
    wait_for(PATIENCE, &format!("{path} is as published"), || folder.read(path).is_some_and(|read| read == bytes));
}

fn upload(to: &Process, path: &str, bytes: &[u8]) {
    let answer = put(to.address, &path.replace(' ', "%20"), bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Those who mirror, each with how many files it wants and has.
fn caught_up(tracker: &Process) -> Vec<(String, u32, u32)> {
    let to = Endpoint::try_from(format!("http://{}", tracker.address)).unwrap();
    let peers = block_on(async {
        let mut client = TrackerClient::new(to.connect().await.unwrap());
        client.peers(PeersRequest::default()).await.unwrap().into_inner().peers
    });
    peers.into_iter().filter_map(|peer| peer.mirror.map(|mirror| (peer.peer_id, mirror.wanted, mirror.here))).collect()
}

#[test]
fn what_a_publisher_has_and_gets_comes_to_all_who_follow_it_and_is_offered() {
    let tracker = tracker(&["--lease", "2"]);
    let (source, folders) = (Folder::new(), [Folder::new(), Folder::new()]);
    source.write("releases/1.bin", noise(1, 200_000));
    source.write("private/notes.txt", "not for all");
    let publisher = peer("publisher", source.path(), tracker.address, &[]);
    let mut followers = [0, 1].map(|n| follower(&format!("follower_{n}"), &folders[n], &tracker, &[]));
    folders.iter().for_each(|folder| comes(folder, "releases/1.bin", &noise(1, 200_000)));
    upload(&publisher, "releases/2 with blanks.bin", &noise(2, 100_000));
    upload(&publisher, "other.bin", b"other");
    folders.iter().for_each(|folder| comes(folder, "releases/2 with blanks.bin", &noise(2, 100_000)));
    let asker = &mut followers[0];
    wait_for(PATIENCE, "all three offer it", || {
        asker.search("releases/1.bin").first().is_some_and(|found| found.sources == 3)
    });
    assert!(
        folders.iter().all(|folder| folder.read("private/notes.txt").is_none() && folder.read("other.bin").is_none())
    );
    wait_for(PATIENCE, "all see that both have caught up", || {
        caught_up(&tracker) == [("follower_0".to_owned(), 2, 2), ("follower_1".to_owned(), 2, 2)]
    });
    // What goes at the publisher stays with those who have it.
    fs::remove_file(source.join("releases/1.bin")).unwrap();
    wait_for(PATIENCE, "the publisher no longer offers it", || {
        asker.search("releases/1.bin").first().is_some_and(|found| found.sources == 2)
    });
    assert!(folders.iter().all(|folder| folder.read("releases/1.bin").is_some()));
}

#[test]
fn a_new_version_takes_the_place_of_what_was_mirrored_and_of_nothing_else() {
    let tracker = tracker(&["--lease", "2"]);
    let (source, folder) = (Folder::new(), Folder::new());
    let old = noise(1, 100_000);
    source.write("releases/a", &old);
    source.write("releases/b", "b 1");
    source.write("releases/c", "c 1");
    folder.write("releases/c", "mine");
    let _publisher = peer("publisher", source.path(), tracker.address, &[]);
    let peer = follower("follower", &folder, &tracker, &[]);
    comes(&folder, "releases/a", &old);
    comes(&folder, "releases/b", b"b 1");
    let in_the_way = |path: &'static str, from: usize| {
        peer.wait_for_line(from, "it is said what is in the way", |line| {
            line.text.starts_with(&format!("not mirrored: {path} is here with other content")).then_some(())
        });
    };
    in_the_way("releases/c", 0);
    // A person changes what was mirrored.
    folder.write("releases/b", "edited");
    let from = peer.line_count();
    for name in ["a", "b", "c"] {
        fs::rename(source.write("new", format!("{name} 2")), source.join(format!("releases/{name}"))).unwrap();
    }
    comes(&folder, "releases/a", b"a 2");
    // Whoever was fetching the old version from here goes on.
    let id = ContentId::of(&old);
    let answer = get(peer.address, &format!("/content/{id}"));
    assert!(answer.status == 200 && answer.body == old);
    assert_eq!(get(peer.address, &format!("/content/{id}/pieces")).body.len(), 4 * 32);
    in_the_way("releases/b", from);
    in_the_way("releases/c", from);
    assert_eq!(folder.read("releases/b").unwrap(), b"edited");
    assert_eq!(folder.read("releases/c").unwrap(), b"mine");
    // Out of the way, it comes.
    fs::remove_file(folder.join("releases/c")).unwrap();
    comes(&folder, "releases/c", b"c 2");
    let left: Vec<_> = fs::read_dir(folder.join(".enjambre/partial")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn after_a_kill_it_goes_on_and_knows_what_is_its_own() {
    let tracker = tracker(&["--lease", "2"]);
    let (source, folder) = (Folder::new(), Folder::new());
    source.write("releases/a", "a 1");
    let publisher = peer("publisher", source.path(), tracker.address, &[]);
    drop(follower("follower", &folder, &tracker, &[]));
    let running = follower("follower", &folder, &tracker, &[]);
    comes(&folder, "releases/a", b"a 1");
    drop(running);
    fs::rename(source.write("new", "a 2"), source.join("releases/a")).unwrap();
    upload(&publisher, "releases/b", b"b 1");
    let running = follower("follower", &folder, &tracker, &[]);
    comes(&folder, "releases/a", b"a 2");
    comes(&folder, "releases/b", b"b 1");
    // The tracker is killed, and forgets all; those who follow it are told on by the next.
    let address = tracker.address.to_string();
    drop(tracker);
    let _tracker = tracker_at(&address);
    upload(&publisher, "releases/c", b"c 1");
    comes(&folder, "releases/c", b"c 1");
    drop(running);
}

fn tracker_at(address: &str) -> Process {
    tracker(&["--lease", "2", "--listen", address])
}

#[test]
fn whenever_it_is_killed_it_has_the_old_version_or_the_new_one_and_ends_with_the_new() {
    if std::env::var_os("TEST_BINARIES").is_some() {
        return println!("skipped: only binaries that were built for tests die at points");
    }
    let tracker = tracker(&["--lease", "2"]);
    let (source, folder) = (Folder::new(), Folder::new());
    let publisher = peer("publisher", source.path(), tracker.address, &[]);
    publisher.joined();
    let version = |number: u64| noise(number, 300_000);
    source.write("releases/a", version(0));
    let points = ["mirror-noted", "download-written", "download-synced", "exchanged", "name-synced", "recorded"];
    for (number, point) in (1..).zip(points) {
        let order = source.join(".enjambre/order");
        let mut command = peer_command(["follower", "0"]);
        command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", &tracker.address.to_string()]);
        command.args(["--mirror", "releases/*", "--from", "publisher"]).env("TEST_KILL_AT", &order);
        let mut victim = Process::spawn("follower", command);
        comes(&folder, "releases/a", &version(number - 1));
        victim.wait_for_line(0, "that is noted", |line| {
            (number > 1 || line.text.starts_with("mirrored releases/a")).then_some(())
        });
        fs::rename(source.write("order", format!("{point} 1")), &order).unwrap();
        fs::rename(source.write("new", version(number)), source.join("releases/a")).unwrap();
        victim.exited();
        let held = folder.read("releases/a").unwrap();
        let is_new = held == version(number);
        assert!(is_new || held == version(number - 1), "{point}: neither the old version nor the new one");
        assert_eq!(is_new, ["exchanged", "name-synced", "recorded"].contains(&point), "{point}");
        fs::remove_file(order).unwrap();
        let running = follower("follower", &folder, &tracker, &[]);
        comes(&folder, "releases/a", &version(number));
        let left = || fs::read_dir(folder.join(".enjambre/partial")).unwrap().count();
        wait_for(PATIENCE, "all else is gone", || left() == 0);
        drop(running);
    }
}

#[test]
fn who_takes_the_publishers_id_is_not_followed() {
    let tracker = tracker(&["--lease", "1"]);
    let (source, stranger, folder) = (Folder::new(), Folder::new(), Folder::new());
    source.write("releases/a", "a");
    stranger.write("releases/b", "evil");
    let publisher = peer("publisher", source.path(), tracker.address, &[]);
    let peer_ = follower("follower", &folder, &tracker, &[]);
    comes(&folder, "releases/a", b"a");
    drop(publisher);
    let mut other = Err("the publisher's lease has not ended");
    wait_for(PATIENCE, "the id is free", || {
        let process = peer("publisher", stranger.path(), tracker.address, &[]);
        let has_joined = process.wait_for_line(0, "the tracker has answered", |line| {
            let is_joined = line.text.starts_with("joined tracker");
            (is_joined || line.text.contains("refuses")).then_some(is_joined)
        });
        other = if has_joined { Ok(process) } else { Err("refused") };
        has_joined
    });
    peer_.wait_for_line(0, "the stranger is named", |line| {
        line.text.starts_with("publisher is another peer than the one").then_some(())
    });
    assert!(folder.read("releases/b").is_none() && other.is_ok());
}

#[test]
fn only_so_much_is_kept_and_the_oldest_go_first() {
    let tracker = tracker(&["--lease", "2"]);
    let (source, folder) = (Folder::new(), Folder::new());
    for n in 1..=5 {
        source.write(format!("releases/{n}"), noise(n, 1000));
    }
    let publisher = peer("publisher", source.path(), tracker.address, &[]);
    let mut asker = publisher;
    wait_for(PATIENCE, "all are announced", || asker.search("releases/").len() == 5);
    let running = follower("follower", &folder, &tracker, &["--mirror-keep", "2", "--mirror-max", "10K"]);
    let names = || {
        let mut names: Vec<_> = fs::read_dir(folder.join("releases"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names.join(" ")
    };
    wait_for(PATIENCE, "the last two are here", || names() == "4 5");
    upload(&asker, "releases/0 is new", &noise(6, 1000));
    wait_for(PATIENCE, "a new one takes the oldest's place", || names() == "0 is new 5");
    upload(&asker, "releases/huge", &noise(7, 11_000));
    running.wait_for_line(0, "what is too large is named", |line| {
        line.text.starts_with("not mirrored: releases/huge has 11 KiB").then_some(())
    });
    drop(running);
    let running = follower("follower", &folder, &tracker, &["--mirror-keep", "2"]);
    upload(&asker, "releases/1 more", b"1");
    wait_for(PATIENCE, "it goes on where it was", || names() == "0 is new 1 more");
    drop(running);
}

#[test]
fn publishers_who_differ_are_not_counted() {
    let tracker = tracker(&["--lease", "2"]);
    let (folders, here) = ([Folder::new(), Folder::new()], Folder::new());
    folders[0].write("releases/x", "one");
    folders[1].write("releases/x", "other");
    folders.iter().for_each(|folder| drop(folder.write("releases/same", "same")));
    let mut publishers = [0, 1].map(|n| peer(&format!("p{n}"), folders[n].path(), tracker.address, &[]));
    wait_for(PATIENCE, "both are announced", || publishers[0].search("releases/x").len() == 2);
    let args = ["--mirror", "releases/*", "--from", "p0", "--from", "p1"];
    let running = peer("follower", here.path(), tracker.address, &args);
    comes(&here, "releases/same", b"same");
    running.wait_for_line(0, "it is said", |line| line.text.contains("differ about releases/x").then_some(()));
    assert!(here.read("releases/x").is_none());
    fs::rename(folders[1].write("new", "one"), folders[1].join("releases/x")).unwrap();
    comes(&here, "releases/x", b"one");
}

/// Somebody's files, told to a watch or announced: so many, with long names.
fn files(from: usize, count: usize) -> Vec<File> {
    let file =
        |number| File { path: format!("releases/{}/{number:06}", "x".repeat(200)), content: vec![7; 32], size: 7 };
    (from..from + count).map(file).collect()
}

#[test]
fn who_reads_too_slowly_is_let_go_and_told_all_of_it_when_it_is_back() {
    let tracker = tracker(&[]);
    block_on(async {
        let (mut publisher, token) = join(tracker.address, "publisher", 5000).await;
        let (mut reader, read_token) = join(tracker.address, "reader", 5001).await;
        let request = |known: Vec<u8>| WatchRequest {
            token: read_token.clone(),
            publishers: vec![Publisher { peer_id: "publisher".into(), known }],
            patterns: vec!["RELEASES/*".into()],
        };
        let mut watch = reader.watch(request(Vec::new())).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert!(first.anew && first.complete && first.added.is_empty(), "{first:?}");
        // What is told is read by nobody: the connection fills, and then what may wait.
        let batches = 60;
        for batch in 0..batches {
            let added = files(batch * 1000, 1000);
            publisher
                .announce(AnnounceRequest { token: token.clone(), added, ..AnnounceRequest::default() })
                .await
                .unwrap();
        }
        let mut told = 0;
        while let Some(reply) = watch.message().await.unwrap() {
            told += reply.added.len();
        }
        assert!(told > 0 && told < batches * 1000, "{told} were told before it was let go");
        let mut watch = reader.watch(request(Vec::new())).await.unwrap().into_inner();
        let (mut all, mut digest) = (0, [0; 32]);
        loop {
            let reply = watch.message().await.unwrap().unwrap();
            all += reply.added.len();
            for file in &reply.added {
                // As the protocol says it, and not as this program does.
                let text = [file.path.as_bytes(), &[0], &file.content, &file.size.to_le_bytes()].concat();
                digest.iter_mut().zip(blake3::hash(&text).as_bytes()).for_each(|(byte, other)| *byte ^= other);
            }
            if reply.complete {
                break;
            }
        }
        assert_eq!(all, batches * 1000);
        // Who knows all of that is told that it does, and the watch before ends.
        let mut again = reader.watch(request(digest.to_vec())).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap(), None);
        let reply = again.message().await.unwrap().unwrap();
        assert!(reply.complete && !reply.anew && reply.added.is_empty(), "{reply:?}");
        let removed = vec![files(5, 1)[0].path.clone(), "releases/never".into()];
        publisher
            .announce(AnnounceRequest { token, removed: removed.clone(), ..AnnounceRequest::default() })
            .await
            .unwrap();
        assert_eq!(again.message().await.unwrap().unwrap().removed, removed);
        // Whoever leaves watches no more.
        reader.leave(LeaveRequest { token: read_token.clone() }).await.unwrap();
        assert_eq!(again.message().await.unwrap(), None);
        let refused = reader.watch(request(Vec::new())).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    });
}

#[test]
fn a_tracker_that_lies_to_a_follower_makes_it_write_nothing_that_is_not_verified_and_nothing_elsewhere() {
    let (giver, folder) = (Folder::new(), Folder::new());
    let bytes = noise(3, 50_000);
    giver.write("x", &bytes);
    let home = tracker(&[]);
    let source = peer("source", giver.path(), home.address, &[]);
    source.joined();
    let place =
        |size| Source { peer_id: "source".into(), address: source.address.to_string(), size, ..Source::default() };
    let id = ContentId::of(&bytes).bytes().to_vec();
    let file = |path: &str, content: &[u8], size| File { path: path.into(), content: content.to_vec(), size };
    let reply = |added, publisher: &str| WatchReply {
        peer_id: publisher.into(),
        identity: vec![1; 32],
        anew: true,
        added,
        complete: true,
        ..WatchReply::default()
    };
    let told = vec![
        reply(vec![file("releases/stranger", &id, 50_000)], "stranger"),
        WatchReply { identity: vec![1; 31], ..reply(vec![file("releases/no-identity", &id, 50_000)], "publisher") },
        reply(
            vec![
                file("../outside", &id, 50_000),
                file("/tmp/outside", &id, 50_000),
                file("releases/../../outside", &id, 50_000),
                file(".enjambre/identity", &id, 50_000),
                file("releases/short id", &id[1..], 50_000),
                file("releases/huge", &id, u64::MAX),
                file("releases/false", &[9; 32], 50_000),
                file("releases/good", &id, 50_000),
            ],
            "publisher",
        ),
    ];
    let liar = LyingTracker { told, sources: vec![place(50_000)], ..LyingTracker::default() };
    let liar = liar.start("127.0.0.1".parse().unwrap());
    let args = ["--mirror", "*", "--from", "publisher"];
    let follower = peer("follower", folder.path(), liar, &args);
    comes(&folder, "releases/good", &bytes);
    follower.wait_for_line(0, "what cannot be had is named", |line| {
        line.text.starts_with("not mirrored yet: releases/false: no source could deliver it").then_some(())
    });
    let names: Vec<_> =
        fs::read_dir(folder.join("releases")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["good"]);
    assert!(folder.read("../outside").is_none());
}

#[test]
fn a_mirror_has_a_publisher_and_says_so() {
    let folder = Folder::new();
    let here = folder.path().to_str().unwrap();
    for (args, part) in [
        (&["--mirror", "*"][..], "give --from PEER"),
        (&["--from", "a"], "go with --mirror"),
        (&["--mirror-keep", "2"], "go with --mirror"),
        (&["--mirror", "*", "--from", "p"], "that is this peer itself"),
        (&["--mirror", "*", "--from", "a b"], "--from a b: a peer id is"),
        (&["--mirror", "*", "--from", "a", "--mirror-keep", "-1"], "--mirror-keep"),
        (&["--mirror", "*", "--from", "a", "--mirror-max", "20 apples"], "a number of bytes, as 20G"),
    ] {
        let Finished { code, err, .. } = run(peer_command([&["p", "0", here], args].concat()), "leave\n");
        assert!(code == Some(2) && err.contains(part), "{args:?}: {err}");
    }
}
