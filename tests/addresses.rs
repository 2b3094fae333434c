//! Where a peer may be made to connect to: with a tracker that says whatever it likes.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use enjambre::proto::{Found, Place, Source};
use support::*;

const BYTES: &[u8] = b"not for you";

/// Starts a tracker on 10.77.0.1 that knows one file, and says that it is at these addresses.
fn liar(addresses: Vec<String>) -> SocketAddr {
    let source_ids: Vec<_> = (0..addresses.len()).map(|number| format!("p{number}")).collect();
    let (content, size) = (blake3::hash(BYTES).as_bytes().to_vec(), BYTES.len() as u64);
    let place = |(peer_id, address): (&String, &String)| Place {
        peer_id: peer_id.clone(),
        address: address.clone(),
        zone: String::new(),
    };
    let source = |(number, (peer_id, address)): (usize, (&String, &String))| Source {
        peer_id: peer_id.clone(),
        address: address.clone(),
        zone: String::new(),
        size,
        partial: number % 2 == 1,
    };
    let places = source_ids.iter().zip(&addresses).map(place).collect();
    let sources = source_ids.iter().zip(&addresses).enumerate().map(source).collect();
    let sources_count = source_ids.len() as u32;
    let found = vec![Found { path: "x.bin".into(), content, size, sources: sources_count, source_ids }];
    LyingTracker { found, places, sources, paths: vec!["x.bin".into()], ..LyingTracker::default() }
        .start("10.77.0.1".parse().unwrap())
}

#[test]
fn whatever_the_tracker_says_a_peer_dials_no_address_where_no_peer_can_be() {
    let setup = "ip link set lo up && ip address add 10.77.0.1/24 dev lo && ip address add 169.254.169.254/32 dev lo \
                 && ip address add fd00:ec2::254/128 dev lo";
    in_a_namespace("--net", setup, "inner_whatever_the_tracker_says_a_peer_dials_no_address_where_no_peer_can_be");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_whatever_the_tracker_says_a_peer_dials_no_address_where_no_peer_can_be() {
    // One port at all of them, so that whoever comes is seen wherever it comes from.
    let local = TcpListener::bind("[::]:0").unwrap();
    let port = local.local_addr().unwrap().port();
    let dialled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dialled);
    thread::spawn(move || local.incoming().for_each(|_| _ = counted.fetch_add(1, Ordering::SeqCst)));
    let bad = [
        "127.0.0.1",
        "127.7.7.7",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "localhost",
    ];
    let tracker = liar(bad.map(|host| format!("{host}:{port}")).to_vec());
    let folder = Folder::new();
    let mut victim = peer("victim", folder.path(), tracker, &["--bind", "10.77.0.1"]);
    victim.joined();
    let id = blake3::hash(BYTES).to_string();
    for get in ["x.bin", &format!("{id} y.bin"), "*.bin", "x*"] {
        let answer = victim.ask(&format!("get {get}"));
        assert!(answer.error().is_some() && answer.out.is_empty(), "{get}: {answer:?}");
        assert_eq!(dialled.load(Ordering::SeqCst), 0, "{get}: it dialled one of them");
    }

    // The same words lead to an address where a peer can be: they would have been followed.
    let tracker = liar(vec![format!("10.77.0.1:{port}")]);
    for (number, get) in ["x.bin", &format!("{id} y.bin"), "*.bin"].into_iter().enumerate() {
        let folder = Folder::new();
        let mut victim = peer(&format!("v{number}"), folder.path(), tracker, &["--bind", "10.77.0.1"]);
        victim.joined();
        let before = dialled.load(Ordering::SeqCst);
        victim.send(&format!("get {get}"));
        wait_for(PATIENCE, "it dials", || dialled.load(Ordering::SeqCst) > before);
    }
}
