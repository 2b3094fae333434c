//! The promises of ARCHITECTURE.md, one after the other, kept by the real binaries.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, symlink},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use enjambre::proto::{AnnounceRequest, JoinRequest, LeaveRequest, RenewRequest, tracker_client::TrackerClient};
use rustix::process::Signal;
use support::*;
use tonic::Code;

fn id_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

/// Waits until the tracker of `peer` knows `path` at so many sources.
#[track_caller]
fn wait_for_sources(peer: &mut Process, path: &str, sources: u32) {
    wait_for(PATIENCE, &format!("{path} has {sources} sources"), || {
        let found = peer.search(path);
        found.iter().map(|row| row.sources).sum::<u32>() == sources
    });
}

// ---- 1 -------------------------------------------------------------------------------------------

#[test]
fn invariant_1_no_name_appears_before_its_file_is_whole() {
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let bytes = noise(11, 64 << 20);
    seed_folder.write("big.bin", &bytes);
    let seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let mut other = peer("other", folder.path(), tracker.address, &[]);
    wait_for_sources(&mut other, "big.bin", 1);

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            // Whoever sees the name sees the whole file behind it.
            while !is_over.load(Ordering::Relaxed) {
                for name in ["big.bin", "upload.bin"] {
                    if let Ok(size) = fs::metadata(folder.join(name)).map(|file| file.len()) {
                        assert_eq!(size, bytes.len() as u64, "{name} was there and not whole");
                    }
                }
            }
        });
        assert_eq!(other.get("big.bin").unwrap().content, id_of(&bytes));
        let mut upload = Connection::open(other.address);
        upload
            .send(format!(
                "PUT /files/upload.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                bytes.len()
            ))
            .unwrap();
        for part in bytes.chunks(1 << 20) {
            upload.send(part).unwrap();
        }
        assert_eq!(upload.answer().unwrap().status, 201);
        is_over.store(true, Ordering::Relaxed);
        watch.join().unwrap();
    });
    for name in ["big.bin", "upload.bin"] {
        assert!(folder.read(name).unwrap() == bytes, "{name} differs");
    }
    drop(seed);
}

/// What a made-up source answers to a request for a content's bytes.
type Lie = fn(&[u8]) -> Vec<u8>;

/// A source that offers `bytes` and sends `lie` of them, and what the tracker is told of it.
fn liar(bytes: &'static [u8], lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut block = [0; 4096];
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut block) {
                    Ok(read @ 1..) => request.extend_from_slice(&block[..read]),
                    _ => break,
                }
            }
            let body = lie(bytes);
            let size = bytes.len();
            let _ = write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{}/{size}\r\nContent-Length: {size}\r\n\r\n",
                size - 1
            );
            let _ = stream.write_all(&body);
        }
    });
    address
}

#[test]
fn invariant_1_wrong_bytes_never_get_a_name_and_the_liar_gets_named() {
    const BYTES: &[u8] = &[7; 20_000];
    let lies: [(&str, Lie); 4] = [
        ("wrong bytes", |bytes| vec![0; bytes.len()]),
        ("one wrong bit", |bytes| [&bytes[1..], &[6]].concat()),
        ("too few", |bytes| bytes[..100].to_vec()),
        ("nothing", |_| Vec::new()),
    ];
    for (what, lie) in lies {
        let tracker = tracker(&[]);
        let folder = Folder::new();
        let mut victim = peer("victim", folder.path(), tracker.address, &[]);
        victim.joined();
        let source = liar(BYTES, lie);
        block_on(async {
            announce(tracker.address, "liar", source.port(), "x.bin", BYTES).await;
        });
        let error = victim.get("x.bin").expect_err(what);
        assert!(error.contains("liar"), "{what}: {error}");
        assert_eq!(folder.read("x.bin"), None, "{what}");
        assert_eq!(get(victim.address, "/files/x.bin").status, 404, "{what}");

        // An honest source, and it works.
        let honest = Folder::new();
        honest.write("y.bin", BYTES);
        let _honest = peer("honest", honest.path(), tracker.address, &[]);
        wait_for_sources(&mut victim, "y.bin", 2);
        assert_eq!(victim.get("x.bin").map(|fetched| fetched.content), Ok(id_of(BYTES)), "{what}");
        assert_eq!(folder.read("x.bin").as_deref(), Some(BYTES));
    }
}

// ---- 2 -------------------------------------------------------------------------------------------

#[test]
fn invariant_2_nothing_is_written_or_read_through_a_symlink_and_nothing_is_replaced() {
    let tracker = tracker(&[]);
    let (folder, outside) = (Folder::new(), Folder::new());
    outside.write("secret", "secret");
    folder.write("mine", "mine");
    folder.write("sub/file", "x");
    symlink(outside.path(), folder.join("link")).unwrap();
    symlink(outside.join("secret"), folder.join("alias")).unwrap();
    symlink(outside.join("new"), folder.join("dangling")).unwrap();
    let mut victim = peer("victim", folder.path(), tracker.address, &[]);
    wait_for_sources(&mut victim, "mine", 1);
    for name in ["link/secret", "alias", "dangling", "link"] {
        assert_eq!(get(victim.address, &format!("/files/{name}")).status, 404, "GET {name}");
    }
    for name in ["link/new", "link/secret", "alias", "dangling", "link", "mine", "sub", "mine/below"] {
        let answer = request(victim.address, "PUT", &format!("/files/{name}"), &[], b"other");
        assert!((400..500).contains(&answer.status), "PUT {name}: {} {}", answer.status, answer.text());
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(outside.read("secret").unwrap(), b"secret");
    assert_eq!(folder.read("mine").unwrap(), b"mine");
    assert!(victim.search("secret").is_empty());
}

#[test]
fn invariant_2_nobody_makes_a_peer_dial_loopback() {
    let setup = "ip link set lo up && ip address add 10.77.0.1/24 dev lo";
    in_a_namespace("--net", setup, "inner_nobody_makes_a_peer_dial_loopback");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_nobody_makes_a_peer_dial_loopback() {
    const BYTES: &[u8] = b"not for you";
    // A tracker that lies is as good as one that lets others announce any address.
    let tracker = tracker(&["--listen", "10.77.0.1:0", "--allow-advertise"]);
    let folder = Folder::new();
    let mut victim = peer("victim", folder.path(), tracker.address, &["--bind", "10.77.0.1"]);
    victim.joined();
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = local.local_addr().unwrap().port();
    let refusals = block_on(async {
        let channel = tonic::transport::Endpoint::try_from(format!("http://{}", tracker.address)).unwrap();
        let mut client = TrackerClient::new(channel.connect().await.unwrap());
        let mut codes = Vec::new();
        for advertise in ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1", "fe80::1"]
        {
            let identity = vec![1; 32];
            let advertise = advertise.into();
            let join = JoinRequest {
                peer_id: "liar".into(),
                identity,
                port: port.into(),
                advertise,
                ..JoinRequest::default()
            };
            codes.push(client.join(join).await.expect_err("the address is not taken").code());
        }
        codes
    });
    assert_eq!(refusals, [Code::InvalidArgument; 7]);
    // A peer that reached the tracker over loopback is not given to one that did not.
    local.set_nonblocking(true).unwrap();
    let error = victim.get(&format!("{} x.bin", id_of(BYTES))).expect_err("nobody has it");
    assert!(error.contains("no peer offers it"), "{error}");
    assert!(local.accept().is_err(), "the peer dialled loopback");
}

// ---- 3 -------------------------------------------------------------------------------------------

#[test]
fn invariant_3_a_killed_peer_leaves_no_wrong_file_and_goes_on_with_what_it_had() {
    let tracker = tracker(&["--lease", "2"]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let bytes = noise(13, 192 << 20);
    let id = id_of(&bytes);
    seed_folder.write("big.bin", &bytes);
    let _seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let partial = folder.join(format!(".enjambre/partial/{id}"));
    let mut killed_underway = 0;
    for round in 0..20 {
        let before = fs::metadata(&partial).map(|file| file.blocks() * 512).unwrap_or(0);
        let mut victim = peer("victim", folder.path(), tracker.address, &[]);
        // It is asked for once, and goes on by itself from then on.
        if round == 0 {
            victim.joined();
            wait_for_sources(&mut victim, "big.bin", 1);
            victim.send("get big.bin");
        }
        // Some more of it is on disk, or all is done.
        wait_for(PATIENCE, "the download goes on", || match fs::metadata(&partial) {
            Ok(file) => file.blocks() * 512 >= before + ((2 + round) << 20),
            Err(_) => folder.join("big.bin").exists(),
        });
        victim.kill();
        match folder.read("big.bin") {
            None => killed_underway += 1,
            Some(found) => {
                assert!(found == bytes, "the name was there with other content");
                break;
            }
        }
    }
    assert!(killed_underway >= 2, "the download was never killed under way");
    // What was on disk is spoilt in one place: it must be noticed, and the rest be used.
    if let Ok(file) = fs::OpenOptions::new().write(true).open(&partial) {
        std::os::unix::fs::FileExt::write_all_at(&file, b"spoilt", 40_000).unwrap();
    }
    let is_unfinished = partial.exists();
    let victim = peer("victim", folder.path(), tracker.address, &[]);
    wait_for(PATIENCE, "the file is there", || folder.join("big.bin").exists());
    assert!(folder.read("big.bin").unwrap() == bytes);
    if is_unfinished {
        let resumed: usize = victim.wait_for_line(0, "it tells what was here", |line| {
            line.text.strip_prefix("resuming: ")?.split(' ').next()?.parse().ok()
        });
        assert!(resumed > 10, "{resumed}");
    }
    assert!(!partial.exists());
}

#[test]
fn invariant_3_an_acknowledged_upload_survives_kill_9_and_a_broken_one_leaves_nothing() {
    let folder = Folder::new();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    for round in 0..5_u64 {
        let mut victim = peer("victim", folder.path(), nowhere, &[]);
        let bytes = noise(round, 3 << 20);
        put(victim.address, &format!("kept{round}"), &bytes);
        let mut broken = Connection::open(victim.address);
        broken.send("PUT /files/broken HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n").unwrap();
        broken.send(&bytes[..2_000_000]).unwrap();
        victim.kill();
    }
    let victim = peer("victim", folder.path(), nowhere, &[]);
    for round in 0..5_u64 {
        let bytes = noise(round, 3 << 20);
        wait_for(PATIENCE, "it is shared again", || get(victim.address, &format!("/files/kept{round}")).status == 200);
        assert!(get(victim.address, &format!("/content/{}", id_of(&bytes))).body == bytes);
    }
    assert_eq!(get(victim.address, "/files/broken").status, 404);
    assert_eq!(fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count(), 0);
}

// ---- 4 -------------------------------------------------------------------------------------------

#[test]
fn invariant_4_searches_are_whole_within_a_lease_of_the_trackers_return() {
    let lease = Duration::from_secs(3);
    let mut tracker = tracker(&["--lease", "3"]);
    let address = tracker.address;
    let folders: Vec<_> = (0..3).map(|_| Folder::new()).collect();
    let mut peers: Vec<_> = (0..3)
        .map(|number| {
            folders[number].write(format!("from{number}.txt"), [number as u8; 1000]);
            peer(&format!("p{number}"), folders[number].path(), address, &[])
        })
        .collect();
    for number in 0..3 {
        wait_for_sources(&mut peers[0], &format!("from{number}.txt"), 1);
    }
    tracker.kill();
    // They go on serving, and take uploads.
    for (number, peer) in peers.iter().enumerate() {
        assert_eq!(get(peer.address, &format!("/files/from{number}.txt")).status, 200);
        put(peer.address, &format!("meanwhile{number}.txt"), format!("{number}").as_bytes());
    }
    assert!(peers[0].ask("search from").error().is_some_and(|error| error.contains("tracker")));
    let _back = support::tracker(&["--lease", "3", "--listen", &address.to_string()]);
    let returned = Instant::now();
    let expected = ["from0.txt", "from1.txt", "from2.txt", "meanwhile0.txt", "meanwhile1.txt", "meanwhile2.txt"];
    wait_for(lease, "searches are whole again", || {
        let answer = peers[1].ask("search .txt");
        let paths: Vec<_> = answer.out.iter().map(|line| Found::parse(line).path).collect();
        paths == expected
    });
    assert!(returned.elapsed() <= lease, "it took {:?}", returned.elapsed());
}

// ---- 5 -------------------------------------------------------------------------------------------

#[test]
fn invariant_5_the_dead_are_gone_within_a_lease_and_those_who_leave_at_once() {
    let tracker = tracker(&["--lease", "3"]);
    let folders: Vec<_> = (0..3).map(|_| Folder::new()).collect();
    let mut peers: Vec<_> = (0..3)
        .map(|number| {
            folders[number].write("same.txt", "the same everywhere");
            peer(&format!("p{number}"), folders[number].path(), tracker.address, &[])
        })
        .collect();
    wait_for_sources(&mut peers[0], "same.txt", 3);
    let mut leaver = peers.pop().unwrap();
    leaver.signal(Signal::TERM);
    assert_eq!(leaver.exited().code(), Some(0));
    wait_for(Duration::from_millis(500), "the one that left is gone", || {
        peers[0].search("same.txt")[0].source_ids == ["p0", "p1"]
    });
    peers.pop().unwrap().kill();
    let killed = Instant::now();
    wait_for_sources(&mut peers[0], "same.txt", 1);
    assert!(killed.elapsed() < Duration::from_millis(3500), "it took {:?}", killed.elapsed());
}

// ---- 6 -------------------------------------------------------------------------------------------

fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn invariant_6_uploads_without_end_are_held_to_their_number_and_to_no_memory() {
    let folder = Folder::new();
    let victim = peer("victim", folder.path(), "127.0.0.1:1".parse().unwrap(), &[]);
    let before = memory(&victim);
    let mut uploads = Vec::new();
    let part = vec![1; 1 << 20];
    for number in 0..enjambre::limits::UPLOADS {
        let mut upload = Connection::open(victim.address);
        upload
            .send(format!("PUT /files/u{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777216\r\n\r\n"))
            .unwrap();
        upload.send(&part).unwrap();
        uploads.push(upload);
    }
    wait_for(PATIENCE, "all have begun", || {
        fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count() == uploads.len()
    });
    let refused = request(victim.address, "PUT", "/files/one-more", &[], b"x");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    for upload in &mut uploads {
        for _ in 1..16 {
            upload.send(&part).unwrap();
        }
        assert_eq!(upload.answer().unwrap().status, 201);
    }
    assert_eq!(request(victim.address, "PUT", "/files/one-more", &[], b"x").status, 201);
    let grown = memory(&victim) - before;
    assert!(grown < 12 << 10, "256 MiB of uploads cost {grown} KiB");
}

// ---- 7 -------------------------------------------------------------------------------------------

#[test]
fn invariant_7_without_its_token_nobody_changes_or_removes_a_peers_entry() {
    let tracker = tracker(&[]);
    let folder = Folder::new();
    folder.write("mine.txt", "mine");
    let mut owner = peer("owner", folder.path(), tracker.address, &[]);
    wait_for_sources(&mut owner, "mine.txt", 1);
    block_on(async {
        let (mut client, own) = announce(tracker.address, "stranger", 1, "other.txt", b"other").await;
        for token in [vec![0; 16], vec![255; 16], own.iter().map(|byte| byte ^ 1).collect()] {
            let token = || token.clone();
            let announce =
                AnnounceRequest { token: token(), removed: vec!["mine.txt".into()], ..AnnounceRequest::default() };
            assert_eq!(client.announce(announce).await.expect_err("refused").code(), Code::NotFound);
            assert_eq!(
                client.leave(LeaveRequest { token: token() }).await.expect_err("refused").code(),
                Code::NotFound
            );
            assert_eq!(
                client.renew(RenewRequest { token: token() }).await.expect_err("refused").code(),
                Code::NotFound
            );
        }
        // Its own token is good for its own entry only, and its identity for its own id.
        let removed = vec!["mine.txt".to_owned()];
        client.announce(AnnounceRequest { token: own, removed, ..AnnounceRequest::default() }).await.unwrap();
        let taken = JoinRequest { peer_id: "owner".into(), identity: vec![9; 32], port: 1, ..JoinRequest::default() };
        assert_eq!(client.join(taken).await.expect_err("refused").code(), Code::AlreadyExists);
    });
    assert_eq!(owner.search("mine.txt")[0].source_ids, ["owner"]);
}

#[test]
fn invariant_7_a_second_peer_with_a_taken_id_is_refused_and_the_first_comes_back_after_a_kill() {
    let tracker = tracker(&[]);
    let (folder, other) = (Folder::new(), Folder::new());
    folder.write("mine.txt", "mine");
    let mut first = peer("peer_1", folder.path(), tracker.address, &[]);
    first.joined();
    let mut second = peer("peer_1", other.path(), tracker.address, &[]);
    let code = second.exited().code();
    assert_eq!(code, Some(1));
    assert!(second.lines().iter().any(|line| line.text.starts_with("error: ") && line.text.contains("peer_1")));
    // The lease of the killed one lives on; its identity lets it in at once.
    first.kill();
    let mut again = peer("peer_1", folder.path(), tracker.address, &[]);
    again.joined();
    wait_for_sources(&mut again, "mine.txt", 1);
}
