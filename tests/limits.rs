//! Limits on rates and connections: obeyed, shared in turn, and never in the way of somebody else.
//! The exact figures are for `make bench`; here are bounds that a busy machine keeps.

mod support;

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener},
    thread,
    time::Instant,
};

use support::*;

/// Nobody listens there; a peer serves all the same.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
const MIB: usize = 1 << 20;

/// A peer that shares `big.bin`, of so many bytes, and a small file.
fn seed(id: &str, size: usize, tracker: SocketAddr, args: &[&str]) -> (Process, Folder, Vec<u8>) {
    let folder = Folder::new();
    let bytes = noise(7, size);
    folder.write("big.bin", &bytes);
    folder.write("small.txt", "hello");
    let seed = peer(id, folder.path(), tracker, args);
    for path in ["/files/big.bin", "/files/small.txt"] {
        wait_for(PATIENCE, "the files are shared", || request(seed.address, "HEAD", path, &[], b"").status == 200);
    }
    (seed, folder, bytes)
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// Connections that are open to any of these addresses.
fn connections_to(addresses: &[SocketAddr]) -> usize {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("Linux lists sockets");
    let is_meant = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = fields[2].rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        fields[3] == "01" && addresses.iter().any(|address| Some(address.port()) == port)
    };
    table.lines().skip(1).filter(is_meant).count()
}

#[test]
fn uploads_keep_to_their_limit_alone_and_together() {
    let (seed, _folder, bytes) = seed("seed", 3 * MIB, NO_TRACKER, &["--upload-limit", "1M"]);
    let one = seconds(|| assert!(get(seed.address, "/files/big.bin").body == bytes));
    assert!((2.5..5.0).contains(&one), "3 MiB at 1 MiB/s took {one} s");
    // Ranges of one packet and of many, on connections of their own, all at once.
    let all = seconds(|| {
        thread::scope(|scope| {
            for part in 0..6 {
                let (seed, bytes) = (&seed, &bytes);
                scope.spawn(move || {
                    let range = part * MIB / 2..(part + 1) * MIB / 2;
                    let mut connection = Connection::open(seed.address);
                    for at in range.step_by(64 << 10) {
                        let last = at + (64 << 10) - 1;
                        let head = format!(
                            "GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\nRange: bytes={at}-{last}\r\n\r\n"
                        );
                        connection.send(head).expect("the peer reads");
                        assert!(connection.answer().expect("an answer").body == bytes[at..=last]);
                    }
                });
            }
        });
    });
    assert!((2.5..5.0).contains(&all), "3 MiB at 1 MiB/s, by six, took {all} s");
}

#[test]
fn a_small_request_does_not_wait_behind_big_ones() {
    let (seed, _folder, _) = seed("seed", 4 * MIB, NO_TRACKER, &["--upload-limit", "256K"]);
    let mut hungry: Vec<_> = (0..8).map(|_| Connection::open(seed.address)).collect();
    for connection in &mut hungry {
        connection.send("GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the peer reads");
    }
    let mut block = [0; 1];
    hungry.iter().for_each(|connection| connection.stream().read_exact(&mut block).expect("all are being served"));
    let small = seconds(|| assert_eq!(get(seed.address, "/files/small.txt").body, b"hello"));
    assert!(small < 2.0, "a file of 5 bytes took {small} s");
    // What is no file does not wait at all.
    let health = seconds(|| assert_eq!(get(seed.address, "/healthz").status, 200));
    assert!(health < 1.0, "{health} s");
}

#[test]
fn a_transfer_begins_without_a_burst() {
    let (seed, _folder, _) = seed("seed", 4 * MIB, NO_TRACKER, &["--upload-limit", "512K"]);
    let mut connection = Connection::open(seed.address);
    let began = Instant::now();
    connection.send("GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the peer reads");
    let mut block = vec![0; 256 << 10];
    connection.stream().read_exact(&mut block).expect("it is sent");
    let took = began.elapsed().as_secs_f64();
    assert!(took > 0.25, "the first 256 KiB came in {took} s, at 512 KiB/s");
}

#[test]
fn a_get_keeps_to_its_limit_and_takes_no_source_for_a_slow_one() {
    let tracker = tracker(&[]);
    let (one, _folder_1, bytes) = seed("seed-1", 3 * MIB, tracker.address, &[]);
    let (two, _folder_2, _) = seed("seed-2", 3 * MIB, tracker.address, &[]);
    one.joined();
    two.joined();
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), tracker.address, &["--download-limit", "1M"]);
    getter.joined();
    wait_for(PATIENCE, "both are sources", || getter.search("big").first().is_some_and(|found| found.sources == 2));
    let took = seconds(|| drop(getter.get("big.bin").expect("it is fetched")));
    assert!((2.5..5.0).contains(&took), "3 MiB at 1 MiB/s took {took} s");
    assert!(folder.read("big.bin").expect("it is here") == bytes);
    let complaints: Vec<_> = getter.lines().into_iter().filter(|line| line.text.contains("leaving it alone")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_get_from_a_peer_with_the_lowest_limit_goes_on_until_it_is_whole() {
    let tracker = tracker(&[]);
    let (seed, _folder, bytes) = seed("seed", 128 << 10, tracker.address, &["--upload-limit", "32K"]);
    seed.joined();
    let folder = Folder::new();
    let mut getter = peer("getter", folder.path(), tracker.address, &["--download-limit", "32K"]);
    getter.joined();
    wait_for(PATIENCE, "it is found", || getter.search("big").len() == 1);
    let took = seconds(|| drop(getter.get("big.bin").expect("it is fetched")));
    assert!((3.0..8.0).contains(&took), "128 KiB at 32 KiB/s took {took} s");
    assert!(folder.read("big.bin").expect("it is here") == bytes);
}

#[test]
fn a_get_opens_no_more_connections_than_it_may_and_leaves_no_source_out() {
    let tracker = tracker(&[]);
    let seeds: Vec<_> = (0..4).map(|n| seed(&format!("seed-{n}"), 2 * MIB, tracker.address, &[])).collect();
    seeds.iter().for_each(|(seed, ..)| seed.joined());
    let addresses: Vec<_> = seeds.iter().map(|(seed, ..)| seed.address).collect();
    // At a MiB a second a get is there to be looked at.
    for (connections, allowed) in [("1", 1..=1), ("3", 2..=3), ("48", 4..=16)] {
        let folder = Folder::new();
        let args = ["--connections", connections, "--download-limit", "1M"];
        let mut getter = peer(&format!("getter-{connections}"), folder.path(), tracker.address, &args);
        getter.joined();
        wait_for(PATIENCE, "all are sources", || getter.search("big").first().is_some_and(|found| found.sources >= 4));
        let from = getter.lines().len();
        getter.send("get big.bin fetched.bin");
        let is_over = |getter: &Process| getter.lines().iter().skip(from).any(|line| line.stream == Stream::Out);
        let mut most = 0;
        wait_for(PATIENCE, "it is fetched", || {
            most = most.max(connections_to(&addresses));
            is_over(&getter)
        });
        assert!(allowed.contains(&most), "--connections {connections}: {most}");
        assert!(folder.read("fetched.bin").is_some_and(|bytes| bytes == seeds[0].2));
        getter.send("leave");
        getter.exited();
    }
}

#[test]
fn a_peer_whose_downloads_use_all_their_connections_still_serves() {
    let tracker = tracker(&[]);
    // A source that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let silent = thread::spawn(move || silent.incoming().take(1).flatten().collect::<Vec<_>>());
    let missing = noise(3, 20_000);
    block_on(announce(tracker.address, "silent", port, "missing.bin", &missing));
    let (mut busy, _folder, bytes) = seed("busy", MIB, tracker.address, &["--connections", "1"]);
    busy.joined();
    wait_for(PATIENCE, "it is found", || busy.search("missing").len() == 1);
    let from = busy.lines().len();
    busy.send("get missing.bin");
    let held = silent.join().expect("a connection comes");
    assert_eq!(held.len(), 1);
    // Far more than it may open itself, all at once.
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(get(busy.address, "/files/big.bin").body == bytes));
        }
    });
    let said = busy.lines().split_off(from);
    assert!(said.is_empty(), "the download was to be under way all the time: {said:?}");
}

#[test]
fn a_limit_that_is_none_is_refused_in_a_sentence() {
    let folder = Folder::new();
    for (flag, value, part) in [
        ("--upload-limit", "0", "at least 32K"),
        ("--upload-limit", "1K", "at least 32K"),
        ("--upload-limit", "-5M", "whole number of bytes a second"),
        ("--upload-limit", "fast", "whole number of bytes a second"),
        ("--download-limit", "5MB", "whole number of bytes a second"),
        ("--download-limit", "99999999999999999999G", "no link is as fast"),
        ("--connections", "0", "1 to 256"),
        ("--connections", "257", "1 to 256"),
        ("--connections", "-1", "1 to 256"),
    ] {
        let mut command = peer_command(["p", "0"]);
        command.arg(folder.path()).args([flag, value]);
        let ended = run(command, "");
        assert_eq!(ended.code, Some(2), "{flag} {value}: {}", ended.err);
        let is_one_line = ended.err.lines().count() == 1 && ended.err.starts_with(&format!("error: {flag} {value}: "));
        assert!(is_one_line && ended.err.contains(part), "{flag} {value}: {}", ended.err);
        // Its variable is held to the same.
        let mut command = peer_command(["p", "0"]);
        let variable = format!("ENJAMBRE_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
        command.arg(folder.path()).env(variable, value);
        assert_eq!(run(command, "").code, Some(2), "{flag} {value}");
    }
}
