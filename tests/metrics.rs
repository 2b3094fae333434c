//! What a peer counts, as Prometheus reads it, while bytes really go.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use serde_json::Value;
use support::*;

/// A sample by the values of its labels, in their order.
#[track_caller]
fn of(samples: &Samples, name: &str, values: &[&str]) -> f64 {
    let is_it = |(sample, labels): &&Sample| {
        sample == name && labels.iter().map(|(_, value)| value.as_str()).eq(values.iter().copied())
    };
    let key = samples.keys().find(is_it).unwrap_or_else(|| panic!("there is no {name} {values:?}"));
    samples[key]
}

/// Waits for a sample to have a value: what counts it may still be at work when the bytes are there.
#[track_caller]
fn comes_to(at: SocketAddr, name: &str, values: &[&str], expected: f64) {
    wait_for(PATIENCE, &format!("{name} {values:?} is {expected}"), || of(&metrics(at), name, values) == expected);
}

#[test]
fn what_goes_between_peers_and_clients_is_counted_by_who_they_are() {
    let tracker = tracker(&["--lease", "3"]);
    let (seed_home, home) = (Folder::new(), Folder::new());
    let bytes = noise(1, 3 << 20);
    seed_home.write("a.bin", &bytes);
    let seed = peer("seed", seed_home.path(), tracker.address, &[]);
    let mut leecher = peer("leecher", home.path(), tracker.address, &[]);
    leecher.joined();
    let (seed_at, at) = (seed.address, leecher.address);
    comes_to(seed_at, "enjambre_share_files", &[], 1.0);
    let fresh = metrics(at);
    assert_eq!(value(&fresh, "enjambre_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(of(&fresh, "enjambre_joined", &[]), 1.0);
    assert!(value(&fresh, "process_resident_memory_bytes", &[]) > 500_000.0);
    let is_count = |name: &str| name.ends_with("_total");
    assert!(fresh.iter().all(|((name, _), count)| !is_count(name) || *count == 0.0), "{fresh:?}");

    wait_for(PATIENCE, "it is found", || leecher.search("a.bin").len() == 1);
    leecher.get("a.bin").unwrap();
    let size = bytes.len() as f64;
    let now = metrics(at);
    assert_eq!(of(&now, "enjambre_received_bytes_total", &["seed"]), size);
    assert_eq!(of(&now, "enjambre_received_bytes_total", &["partial"]), 0.0);
    assert_eq!(of(&now, "enjambre_pieces_total", &["verified"]), (size / 32768.0).ceil());
    assert_eq!(of(&now, "enjambre_pieces_total", &["failed"]), 0.0);
    assert_eq!(of(&now, "enjambre_transfers_total", &["get", "ok"]), 1.0);
    comes_to(at, "enjambre_share_bytes", &[], size);
    comes_to(seed_at, "enjambre_sent_bytes_total", &["partial"], size);
    assert_eq!(of(&metrics(seed_at), "enjambre_sent_bytes_total", &["client"]), 0.0);

    // A client that reads all, one that reads a part, one that only looks, and one that sends.
    assert_eq!(get(at, "/files/a.bin").body, bytes);
    request(at, "GET", "/files/a.bin", &[("Range", "bytes=0-99")], b"");
    request(at, "HEAD", "/files/a.bin", &[], b"");
    put(at, "b.bin", &bytes[..70_000]);
    comes_to(at, "enjambre_transfers_total", &["answer", "ok"], 2.0);
    let now = metrics(at);
    assert_eq!(of(&now, "enjambre_sent_bytes_total", &["client"]), size + 100.0);
    assert_eq!(of(&now, "enjambre_sent_bytes_total", &["partial"]), 0.0);
    assert_eq!(of(&now, "enjambre_received_bytes_total", &["client"]), 70_000.0);
    assert_eq!(of(&now, "enjambre_transfers_total", &["upload", "ok"]), 1.0);
    assert_eq!(of(&now, "enjambre_share_files", &[]), 2.0);
    assert_eq!(of(&now, "enjambre_transfers", &["answer"]), 0.0);

    // One that goes in the middle of an upload is counted while it is there, and as failed afterwards.
    let mut broken = Connection::open(at);
    broken.send(format!("PUT /files/c.bin HTTP/1.1\r\nHost: {at}\r\nContent-Length: 1000\r\n\r\n")).unwrap();
    broken.send([7; 300]).unwrap();
    comes_to(at, "enjambre_received_bytes_total", &["client"], 70_300.0);
    assert_eq!(of(&metrics(at), "enjambre_transfers", &["upload"]), 1.0);
    drop(broken);
    comes_to(at, "enjambre_transfers_total", &["upload", "failed"], 1.0);
    comes_to(at, "enjambre_transfers", &["upload"], 0.0);

    // The lease is young while there is a tracker, and no longer when it is gone.
    let age = |at| of(&metrics(at), "enjambre_lease_age_seconds", &[]);
    assert_eq!(of(&metrics(at), "enjambre_lease_seconds", &[]), 3.0);
    assert!(age(at) < 3.0);
    drop(tracker);
    wait_for(PATIENCE, "the lease grows old", || age(at) > 4.0);
    wait_for(PATIENCE, "it is not joined", || of(&metrics(at), "enjambre_joined", &[]) == 0.0);
}

#[test]
fn what_those_who_download_give_each_other_is_counted_as_from_partial_peers() {
    let tracker = tracker(&[]);
    let (seed_home, homes) = (Folder::new(), [Folder::new(), Folder::new()]);
    let bytes = noise(4, 4 << 20);
    seed_home.write("a.bin", &bytes);
    // So slow that each has pieces to give while the other lacks them.
    let seed = peer("seed", seed_home.path(), tracker.address, &["--upload-limit", "1M"]);
    let mut leechers =
        [("one", &homes[0]), ("two", &homes[1])].map(|(id, home)| peer(id, home.path(), tracker.address, &[]));
    leechers.iter_mut().for_each(|leecher| {
        wait_for(PATIENCE, "it is found", || leecher.search("a.bin").len() == 1);
    });
    thread::scope(|scope| {
        for leecher in &mut leechers {
            scope.spawn(|| leecher.get("a.bin").unwrap());
        }
    });
    let size = bytes.len() as f64;
    let received = |leecher: &Process, from| of(&metrics(leecher.address), "enjambre_received_bytes_total", &[from]);
    let partial: f64 = leechers.iter().map(|leecher| received(leecher, "partial")).sum();
    assert!(partial > 0.0);
    for leecher in &leechers {
        assert!(received(leecher, "seed") + received(leecher, "partial") >= size);
        assert_eq!(received(leecher, "client"), 0.0);
    }
    // What they sent each other came from nowhere else.
    let sent = |peer: &Process| of(&metrics(peer.address), "enjambre_sent_bytes_total", &["partial"]);
    wait_for(PATIENCE, "all that was sent is counted", || {
        let sent = sent(&seed) + leechers.iter().map(sent).sum::<f64>();
        sent >= leechers.iter().map(|leecher| received(leecher, "seed") + received(leecher, "partial")).sum()
    });
}

#[test]
fn refusals_of_the_door_are_counted_by_reason_and_metrics_are_under_the_secret() {
    const SECRET: &str = "0123456789abcdef-metrics";
    let (home, key) = (Folder::new(), Folder::new());
    let secret = key.write("secret", SECRET).display().to_string();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let peer = peer("p", home.path(), nobody, &["--secret-file", &secret]);
    let at = peer.address;
    let bearer = format!("Bearer {SECRET}");
    let scrape = || samples(&request(at, "GET", "/metrics", &[("Authorization", &bearer)], b""));
    let refused = |reason| of(&scrape(), "enjambre_refusals_total", &[reason]);
    assert_eq!(get(at, "/metrics").status, 401);
    assert_eq!(refused("no_secret"), 1.0);
    assert_eq!(request(at, "GET", "/metrics", &[("Authorization", "Bearer wrong")], b"").status, 401);
    assert_eq!(refused("wrong_secret"), 1.0);
    let mut other = Connection::open(at);
    other.send("GET /healthz HTTP/1.1\r\nHost: other.example\r\n\r\n").unwrap();
    assert_eq!((other.answer().unwrap().status, refused("name")), (421, 1.0));
    let site = [("Authorization", bearer.as_str()), ("Origin", "http://other.example")];
    assert_eq!(request(at, "PUT", "/files/x", &site, b"x").status, 403);
    assert_eq!(refused("site"), 1.0);
    let mut garbage = Connection::open(at);
    garbage.send("no request\r\n\r\n").unwrap();
    assert_eq!((garbage.answer().unwrap().status, refused("request")), (400, 1.0));
    assert_eq!(refused("connections"), 0.0);
    let lines = scrape().len();
    put_all(at, &bearer);
    assert_eq!(scrape().len(), lines, "no label grows with files");
}

fn put_all(at: SocketAddr, bearer: &str) {
    for number in 0..20 {
        let target = format!("/files/{number}");
        assert_eq!(request(at, "PUT", &target, &[("Authorization", bearer)], &noise(number, 10)).status, 201);
    }
}

/// A source that sends so many zeros for whatever content it is asked for; its port.
fn source_of_zeros(length: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 2048];
            let read = stream.read(&mut head).unwrap_or(0);
            let has_none = String::from_utf8_lossy(&head[..read]).contains("/fresh");
            let (status, length) = if has_none { ("404 Not Found", 0) } else { ("206 Partial Content", length) };
            let range = format!("Content-Range: bytes 0-{}/{length}", length.saturating_sub(1));
            let head = format!("HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &vec![0; length]].concat());
        }
    });
    port
}

#[test]
fn whoever_sends_wrong_bytes_is_counted_as_dropped() {
    let tracker = tracker(&[]);
    let home = Folder::new();
    let bytes = noise(3, 100);
    let _kept = block_on(announce(tracker.address, "liar", source_of_zeros(bytes.len()), "x", &bytes));
    let mut peer = peer("p", home.path(), tracker.address, &[]);
    wait_for(PATIENCE, "it is found", || peer.search("x").len() == 1);
    peer.get("x").unwrap_err();
    let now = metrics(peer.address);
    assert_eq!(of(&now, "enjambre_sources_dropped_total", &["lied"]), 1.0);
    assert!(of(&now, "enjambre_pieces_total", &["failed"]) >= 1.0);
    assert_eq!(of(&now, "enjambre_pieces_total", &["verified"]), 0.0);
    assert_eq!(of(&now, "enjambre_transfers_total", &["get", "ok"]), 0.0);
}

/// Every string under the key `expr`, at whatever depth.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Object(members) => members.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("expr" | "query", Value::String(expression)) => found.push(expression.clone()),
            _ => expressions(value, found),
        }),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_dashboard_is_one_that_a_peer_or_a_tracker_has() {
    let dashboard: Value = serde_json::from_str(include_str!("../deploy/grafana.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = found.iter().flat_map(|expression| expression.split(|c| !is_name(c)));
    let named: BTreeSet<_> =
        names.filter(|name| name.starts_with("enjambre_") || name.starts_with("process_")).collect();
    assert!(named.len() > 20, "{named:?}");

    let tracker = tracker(&["--metrics-listen", "127.0.0.1:0"]);
    let monitor = tracker.wait_for_line(0, "where the metrics are", |line| {
        line.text.strip_prefix("metrics on http://")?.strip_suffix("/metrics")?.parse().ok()
    });
    let home = Folder::new();
    let peer = peer("p", home.path(), tracker.address, &[]);
    peer.joined();
    let there: Vec<_> = metrics(monitor).into_keys().chain(metrics(peer.address).into_keys()).collect();
    for name in named {
        assert!(there.iter().any(|(sample, _)| sample == name), "{name} is in neither /metrics");
    }
    // And whoever reads a dashboard sees all that a peer tells.
    let of_peer: BTreeSet<_> = metrics(peer.address).into_keys().map(|(name, _)| name).collect();
    for name in of_peer {
        assert!(found.iter().any(|expression| expression.contains(&name)), "{name} is on no panel");
    }
}
