//! What happens to a share's folder as a whole, beneath a running peer.
#![cfg(all(feature = "tracker", feature = "peer"))]

mod support;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use support::*;

/// Nobody listens there.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn lists(peer: &Process, path: &str) -> bool {
    get(peer.address, "/files").text().contains(path)
}

#[test]
fn a_share_that_is_removed_is_told_of_and_takes_nothing() {
    let folder = Folder::new();
    folder.write("a", "x");
    let peer = peer("p", folder.path(), NO_TRACKER, &[]);
    wait_for(PATIENCE, "a is shared", || lists(&peer, "\"a\""));
    fs::remove_dir_all(folder.path()).expect("the folder goes");
    wait_for(PATIENCE, "a is gone", || !lists(&peer, "\"a\""));
    peer.wait_for_line(0, "it says so", |line| line.text.contains("was removed").then_some(()));
    let answer = request(peer.address, "PUT", "/files/b", &[], b"x");
    assert!(answer.status >= 500 && answer.text().contains("start the peer again"), "{}", answer.text());
    assert_eq!(get(peer.address, "/healthz").status, 200);
}

#[test]
fn what_is_unmounted_in_a_share_is_gone_and_what_is_below_comes_back() {
    // Whether one can mount at all.
    in_a_namespace(
        "--mount",
        "mount -t tmpfs tmpfs /mnt",
        "inner_what_is_unmounted_in_a_share_is_gone_and_what_is_below_comes_back",
    );
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_what_is_unmounted_in_a_share_is_gone_and_what_is_below_comes_back() {
    let run = |command: &mut Command| assert!(command.status().expect("a command").success());
    let folder = Folder::new();
    folder.write("disk/below", "x");
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder.join("disk")));
    folder.write("disk/deep/above", "x");
    let peer = peer("p", folder.path(), NO_TRACKER, &[]);
    wait_for(PATIENCE, "what is mounted is shared", || lists(&peer, "disk/deep/above"));
    let answer = request(peer.address, "PUT", "/files/disk/new", &[], b"x");
    assert!(answer.status == 409 && answer.text().contains("on another disk"), "{}", answer.text());
    let start = Instant::now();
    run(Command::new("umount").arg(folder.join("disk")));
    wait_for(PATIENCE, "it is gone", || !lists(&peer, "disk/deep/above"));
    wait_for(PATIENCE, "what was below is shared", || lists(&peer, "disk/below"));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
