//! Very many of what is harmless once.

use std::time::Duration;

use super::victim::*;

pub(super) fn half_open(victim: &Victim) {
    let begun = |number: usize| {
        let mut connection = victim.connect_from(1 + number % 200)?;
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: ").ok().map(|()| connection)
    };
    let begun = &begun;
    let held: Vec<_> = std::thread::scope(|scope| {
        let begin = |group: usize| scope.spawn(move || (group..2000).step_by(4).filter_map(begun).collect::<Vec<_>>());
        [0, 1, 2, 3].map(begin).into_iter().flat_map(|group| group.join().expect("no panic")).collect()
    });
    assert!(held.len() > 1500, "{} came through", held.len());
    assert!(victim.count("task") < 320, "{} threads", victim.count("task"));
    // A while for whoever waits to be served.
    std::thread::sleep(Duration::from_millis(500));
}

pub(super) fn resets(victim: &Victim) {
    for number in 0..1000 {
        let Some(mut connection) = victim.connect_from(1 + number % 2) else { continue };
        rustix::net::sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO)).expect("a socket option");
        let _ = connection.send("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
}

pub(super) fn pipelines(victim: &Victim) {
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let flood = |number| {
        let mut connection = victim.connect_from(number)?;
        connection.stream().set_write_timeout(Some(Duration::from_millis(500))).expect("a socket option");
        // Nothing is read, so at some point nothing more can be written.
        let sent = (0..1000).take_while(|_| connection.send(&requests).is_ok()).count();
        assert!(sent < 1000, "35 MB of requests were taken");
        Some(connection)
    };
    let flood = &flood;
    std::thread::scope(|scope| (1..9).for_each(|number| drop(scope.spawn(move || flood(number)))));
}
