//! Slowloris: clients that never stop, and never get on.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use super::{support::*, victim::*};

/// How long each of these goes on. Against time-outs of many seconds it does not have to last: from its first moment
/// it holds every place that there is.
const TIME: Duration = Duration::from_secs(2);
/// More than there are places, from two addresses more than have room for them.
const CONNECTIONS: usize = 400;
const ADDRESSES: usize = 4;

/// Keeps [`CONNECTIONS`] up that began with `first`, each going on with `next`, which says whether it is still there.
fn hold(victim: &Victim, first: &str, mut next: impl FnMut(&mut Connection) -> bool) {
    let began = Instant::now();
    let open = |number: usize| {
        let mut connection = victim.connect_from(1 + number % ADDRESSES)?;
        connection.stream().set_nonblocking(true).expect("a socket option");
        connection.send(first).ok().map(|()| connection)
    };
    let mut connections: Vec<Option<Connection>> = (0..CONNECTIONS).map(open).collect();
    while began.elapsed() < TIME {
        for (number, slot) in connections.iter_mut().enumerate() {
            if !slot.as_mut().is_some_and(&mut next) {
                *slot = open(number);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn heads(victim: &Victim) {
    hold(victim, "GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n", |connection| connection.send("X: y\r\n").is_ok());
}

pub(super) fn bodies(victim: &Victim) {
    let head = "PUT /files/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n";
    hold(victim, head, |connection| connection.send("x").is_ok());
    assert_eq!(victim.folder.read("slow"), None);
}

pub(super) fn answers(victim: &Victim) {
    // More than the system holds for a client that does not read.
    let size = 32 << 20;
    victim.folder.write("big.bin", noise(1, size));
    let address = victim.peer.address;
    wait_for(PATIENCE, "big.bin is shared", || request(address, "HEAD", "/files/big.bin", &[], b"").status == 200);
    hold(victim, "GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n", |connection| {
        match connection.stream().read(&mut [0]) {
            Ok(read) => read == 1,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    });
}
