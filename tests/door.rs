//! The door: what is known to break tiny_http, and what else a stranger can send, as attacks on a
//! peer that must go on serving somebody else.

mod support;

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use support::*;

/// Nobody listens there; a peer serves all the same.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The address of the well-behaved client; attackers come from others.
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A peer under attack.
struct Victim {
    peer: Process,
    folder: Folder,
}

impl Victim {
    fn new() -> Self {
        let folder = Folder::new();
        folder.write("a.txt", "hello");
        let peer = peer("victim", folder.path(), NO_TRACKER, &[]);
        wait_for(PATIENCE, "a.txt is shared", || get(peer.address, "/files/a.txt").status == 200);
        Self { peer, folder }
    }

    /// One that the system gives so many descriptors at most.
    fn with_descriptors(count: u32) -> Self {
        let folder = Folder::new();
        folder.write("a.txt", "hello");
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(binary("peer")).args(["victim", "0"]);
        command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", &NO_TRACKER.to_string()]);
        let mut peer = Process::spawn("victim", command);
        peer.address = peer.serving();
        wait_for(PATIENCE, "a.txt is shared", || get(peer.address, "/files/a.txt").status == 200);
        Self { peer, folder }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.peer.address)
    }

    /// Sends bytes on a connection of their own, and gives all that comes back until the peer closes.
    fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut connection = self.connect();
        let _ = connection.send(bytes);
        let mut all = Vec::new();
        let _ = connection.stream().read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    }

    /// The status that the first answer to these bytes has.
    fn status(&self, bytes: impl AsRef<[u8]>) -> u16 {
        let mut connection = self.connect();
        let _ = connection.send(bytes);
        connection.answer().expect("an answer").status
    }

    /// The well-behaved client is served, soon, over a new connection.
    #[track_caller]
    fn still_serves(&mut self) {
        let start = Instant::now();
        let mut friend = Connection::open_from(FRIEND, self.peer.address).expect("a connection");
        friend.send("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        let answer = friend.answer().expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
        assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
        assert!(self.peer.is_running());
    }

    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.peer.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    }

    fn count(&self, what: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{what}", self.peer.id())).expect("a process").count()
    }
}

fn put(lines: &str) -> String {
    format!("PUT /files/x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

// ---- what breaks tiny_http, one by one -------------------------------------------------------

#[test]
fn eight_connections_opened_at_once_do_not_starve() {
    let mut victim = Victim::new();
    let mut connections: Vec<_> = (0..64).map(|_| victim.connect()).collect();
    for connection in &mut connections {
        connection.send("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    // All stay open; each is answered, also a second time.
    for _ in 0..2 {
        for connection in &mut connections {
            assert_eq!(connection.answer().unwrap().status, 200);
            connection.send("GET /files HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        }
    }
    victim.still_serves();
}

#[test]
fn a_thousand_resets_right_after_a_request_stop_nothing() {
    let mut victim = Victim::new();
    for _ in 0..1000 {
        let mut connection = victim.connect();
        rustix::net::sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO)).unwrap();
        let _ = connection.send("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    victim.still_serves();
}

#[test]
fn running_out_of_descriptors_does_not_end_the_accept_loop() {
    let mut victim = Victim::with_descriptors(60);
    let crowd: Vec<_> =
        (0..100).filter_map(|_| Connection::open_from(Ipv4Addr::LOCALHOST, victim.peer.address).ok()).collect();
    assert!(crowd.len() > 60);
    victim.still_serves();
    drop(crowd);
    victim.still_serves();
}

#[test]
fn a_form_of_many_files_takes_no_descriptor_for_each() {
    let mut victim = Victim::with_descriptors(60);
    let parts: String = (0..200)
        .map(|n| format!("--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f{n}\"\r\n\r\nx\r\n"))
        .collect();
    let form = [("Content-Type", "multipart/form-data; boundary=B")];
    let answer = request(victim.peer.address, "POST", "/upload", &form, format!("{parts}--B--\r\n").as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(victim.folder.read("f199").as_deref(), Some(&b"x"[..]));
    victim.still_serves();
}

#[test]
fn versions_that_are_not_spoken_leak_neither_threads_nor_descriptors() {
    let mut victim = Victim::new();
    let before = || (victim.count("task"), victim.count("fd"));
    let (tasks, descriptors) = before();
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.2", "HTTP/11"] {
        for _ in 0..10 {
            let answer = victim.send(format!("GET / {version}\r\nHost: localhost\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 505 ") || answer.starts_with("HTTP/1.1 400 "), "{version}: {answer}");
        }
    }
    wait_for(PATIENCE, "threads and descriptors are back", || {
        victim.count("task") <= tasks && victim.count("fd") <= descriptors
    });
    victim.still_serves();
}

#[test]
fn a_huge_content_length_on_any_method_allocates_nothing() {
    let mut victim = Victim::new();
    let before = victim.memory();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "BREW"] {
        for length in ["70368744177664", "18446744073709551615", "99999999999999999999999"] {
            let answer =
                victim.send(format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 413 "), "{method} {length}: {answer}");
        }
        // This one is allowed; nothing is put aside for it.
        let mut connection = victim.connect();
        let head = format!("{method} /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n");
        connection.send(head).unwrap();
        assert!(connection.head().unwrap().status >= 400);
    }
    assert!(victim.memory() < before + 4096, "{} KiB became {} KiB", before, victim.memory());
    victim.still_serves();
}

#[test]
fn an_expectation_that_is_refused_pins_no_thread() {
    let mut victim = Victim::new();
    let tasks = victim.count("task");
    for _ in 0..50 {
        let mut connection = victim.connect();
        let head =
            "POST /upload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n";
        connection.send(head).unwrap();
        assert_eq!(connection.head().unwrap().status, 415, "the answer comes without a 100 before it");
    }
    wait_for(PATIENCE, "threads are back", || victim.count("task") <= tasks);
    victim.still_serves();
}

#[test]
fn header_lines_without_end_are_cut_off() {
    let mut victim = Victim::new();
    let before = victim.memory();
    // The peer may well read on for a moment, so that its answer arrives; it must not keep anything.
    let lines = format!("X: {}\r\n", "y".repeat(1000)).repeat(64_000);
    let answer = victim.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    for head in
        [format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)), format!("X{}", "\r\n".repeat(20_000)), "z".repeat(70_000)]
    {
        let answer = victim.send(&head);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    assert!(victim.memory() < before + 4096);
    victim.still_serves();
}

#[test]
fn a_flood_of_pipelined_requests_is_held_back_by_the_socket() {
    let mut victim = Victim::new();
    let before = victim.memory();
    let mut connection = victim.connect();
    connection.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    // Nothing is read, so at some point nothing more can be written.
    let sent = (0..1000).take_while(|_| connection.send(&requests).is_ok()).count();
    assert!(sent < 1000, "35 MB of requests were taken");
    assert!(victim.memory() < before + 4096, "{} KiB became {} KiB", before, victim.memory());
    victim.still_serves();
}

#[test]
fn small_answers_on_a_kept_connection_do_not_wait_for_acknowledgements() {
    let victim = Victim::new();
    let mut connection = victim.connect();
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let start = Instant::now();
            connection.send("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            assert_eq!(connection.answer().unwrap().status, 200);
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[25] < Duration::from_millis(30), "the median is {:?}; a delayed acknowledgement is 40 ms", times[25]);
}

#[test]
fn ambiguous_framing_is_refused_and_never_becomes_a_second_request() {
    let mut victim = Victim::new();
    let smuggled = "GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
    ] {
        let answer = victim.send(put(lines) + "0\r\n\r\n" + smuggled);
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"), "{lines:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{lines:?} let a second request through: {answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
    }
    victim.still_serves();
    assert_eq!(victim.folder.read("x"), None);
}

#[test]
fn an_unread_body_does_not_become_the_next_request() {
    let victim = Victim::new();
    let smuggled = "GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (method, body) in [
        ("GET", format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len())),
        ("DELETE", format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len())),
        ("GET", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len())),
    ] {
        let next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answers = victim.send(format!("{method} /nothing HTTP/1.1\r\nHost: localhost\r\n{body}{next}"));
        assert!(!answers.contains("hello"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "the request behind the body is answered: {answers}");
    }
}

#[test]
fn an_answer_does_not_wait_long_for_a_body_that_nobody_reads() {
    let victim = Victim::new();
    for lines in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
    ] {
        let start = Instant::now();
        assert_eq!(victim.status(format!("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n{lines}")), 200, "{lines}");
        assert!(start.elapsed() < Duration::from_secs(10), "{lines}: {:?}", start.elapsed());
    }
}

#[test]
fn broken_chunks_are_refused_and_leave_nothing() {
    let mut victim = Victim::new();
    for body in [
        "+4\r\nbody\r\n0\r\n\r\n",
        "4\r\nbodyx\r\n0\r\n\r\n",
        "4\nbody\r\n0\r\n\r\n",
        "zz\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let answer = victim.send(put("Transfer-Encoding: chunked\r\n") + body);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    }
    assert_eq!(victim.folder.read("x"), None);
    victim.still_serves();
}

#[test]
fn no_name_and_no_parameter_brings_a_line_break_into_an_answers_head() {
    let victim = Victim::new();
    victim.folder.write("odd \"name\" é.bin", "odd");
    wait_for(PATIENCE, "the odd name is shared", || {
        get(victim.peer.address, "/files/odd%20%22name%22%20%C3%A9.bin").status == 200
    });
    for target in [
        "/files/odd%20%22name%22%20%C3%A9.bin",
        "/files/a%0d%0aSet-Cookie:%20x",
        "/files?after=a%0d%0aSet-Cookie:x",
        "/files/a.txt?x=%0d%0aSet-Cookie:%20x",
        "/%0d%0aSet-Cookie:%20x",
    ] {
        let answer = get(victim.peer.address, target);
        assert!(answer.headers.iter().all(|(name, _)| name != "set-cookie"), "{target}: {answer:?}");
        assert!(answer.headers.iter().all(|(_, value)| value.is_ascii()), "{target}: {answer:?}");
    }
}

#[test]
fn a_client_cannot_name_an_exchange_of_the_doors() {
    let victim = Victim::new();
    for number in 0..40 {
        let answer = victim
            .status(format!("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\nEnjambre-Exchange: {number}\r\n\r\n"));
        assert_eq!(answer, 200);
    }
}

// ---- what takes up room ------------------------------------------------------------------------

#[test]
fn two_thousand_connections_that_never_finish_a_head_keep_nobody_out() {
    let mut victim = Victim::new();
    let before = victim.memory();
    let mut held = Vec::new();
    for number in 0..2000_u32 {
        let [_, _, high, low] = (number % 200).to_be_bytes();
        let from = Ipv4Addr::new(127, 1, high, low + 1);
        if let Ok(mut connection) = Connection::open_from(from, victim.peer.address) {
            let _ = connection.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
            held.push(connection);
        }
        if number % 100 == 0 {
            victim.still_serves();
        }
    }
    victim.still_serves();
    assert!(victim.memory() < before + 8192, "{} KiB became {} KiB", before, victim.memory());
    assert!(victim.count("task") < 300);
    drop(held);
}

#[test]
fn one_address_cannot_take_all_places() {
    let mut victim = Victim::new();
    let held: Vec<_> = (0..400).map(|_| victim.connect()).collect();
    assert!(victim.count("task") < 200, "one address holds {} threads", victim.count("task"));
    victim.still_serves();
    drop(held);
}

#[test]
fn a_head_that_drips_is_cut_off_in_time() {
    let victim = Victim::new();
    let mut connection = victim.connect();
    let start = Instant::now();
    connection.send("GET / HTTP/1.1\r\n").unwrap();
    while start.elapsed() < Duration::from_secs(20) {
        if connection.send("X: y\r\n").is_err() || connection.is_closed_within(Duration::from_millis(500)) {
            break;
        }
    }
    let took = start.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(15)).contains(&took), "it took {took:?}");
}

// ---- names ---------------------------------------------------------------------------------------

#[test]
fn no_spelling_of_a_name_leads_out_of_the_share() {
    let victim = Victim::new();
    let identity = victim.folder.read(".enjambre/identity").expect("an identity");
    for name in [
        "../a.txt",
        "..%2fa.txt",
        "%2e%2e/a.txt",
        "%2e%2e%2fa.txt",
        "..%5ca.txt",
        "/a.txt",
        "//a.txt",
        "a.txt/",
        "./a.txt",
        "%2ea.txt",
        ".enjambre/identity",
        "%2eenjambre/identity",
        ".enjambre%2fidentity",
        "x/../.enjambre/identity",
        "a.txt%00",
        "%00",
        "a%0ab",
        "%ff",
        "%c0%ae%c0%ae/a.txt",
        "%c0%af",
        "a//b",
        "x/.hidden",
    ] {
        for method in ["GET", "PUT"] {
            let answer = request(victim.peer.address, method, &format!("/files/{name}"), &[], b"");
            assert!([400, 404].contains(&answer.status), "{method} {name}: {}", answer.status);
            assert!(!answer.body.windows(32).any(|bytes| bytes == identity));
        }
    }
    assert_eq!(victim.folder.read("a.txt").as_deref(), Some(&b"hello"[..]));
    let above = victim.folder.path().parent().expect("a folder").join("a.txt");
    assert!(!above.exists());
}
