//! The door: what is known to break tiny_http, and what else a stranger can send, as attacks on a
//! peer that must go on serving somebody else.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{support::*, victim::*};

impl Victim {
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
        Self { peer, folder }.ready()
    }

    /// The well-behaved client is served, soon.
    #[track_caller]
    fn still_serves(&mut self) {
        let took = self.serves().expect("it is served");
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        assert!(self.peer.is_running());
    }
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
fn uploads_that_drip_at_one_address_keep_no_upload_of_another_out() {
    let mut victim = Victim::new();
    let drip = |number: usize| {
        let mut upload = victim.connect_from(1).unwrap();
        upload
            .send(format!("PUT /files/u{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx"))
            .unwrap();
        upload
    };
    let mut drips: Vec<_> = (0..enjambre::limits::UPLOADS).map(drip).collect();
    let under_way = || std::fs::read_dir(victim.folder.join(".enjambre/tmp")).unwrap().count();
    wait_for(PATIENCE, "all have begun", || under_way() == drips.len());
    // Its own further ones are turned away, and those of another take a place each.
    let mut more = drip(99);
    assert_eq!(more.answer().unwrap().status, 503);
    for number in 0..20 {
        assert_eq!(put(victim.peer.address, &format!("f{number}"), b"whole").status, 201);
    }
    let began = Instant::now();
    let mut left = 0;
    for upload in &mut drips {
        left += usize::from(!upload.is_closed_within(Duration::from_millis(20)));
    }
    assert_eq!(left, enjambre::limits::UPLOADS - 1, "one gave way");
    assert!(began.elapsed() < Duration::from_secs(5));
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
