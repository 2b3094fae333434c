//! A peer.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use enjambre::limits;

use super::{
    HALF, Home, NO_TRACKER, SECRET, WRONG, at_once, authorized, basic, bearer, nothing_is_said_of_it, support::*,
};

#[test]
fn a_peer_answers_nothing_but_its_health_without_the_secret() {
    let home = Home::new();
    let peer = home.peer("p", NO_TRACKER, &[]);
    let id = blake3::hash(b"hello").to_string();
    let shared = || authorized(peer.address, "GET", "/files/a.txt", &bearer(SECRET), b"").status == 200;
    wait_for(PATIENCE, "a.txt is shared", shared);

    let content = format!("/content/{id}");
    let (pieces, have, fresh) =
        (format!("{content}/pieces"), format!("{content}/have"), format!("{content}/fresh?of=0-0"));
    let routes = [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/files"),
        ("GET", "/files/"),
        ("GET", "/files/a.txt"),
        ("HEAD", "/files/a.txt"),
        ("GET", "/files/none"),
        ("PUT", "/files/x"),
        ("PUT", "/files/a.txt"),
        ("POST", "/upload"),
        ("GET", &content),
        ("HEAD", &content),
        ("GET", &pieces),
        ("HEAD", &pieces),
        ("GET", &have),
        ("GET", &fresh),
        ("GET", "/api/status"),
        ("GET", "/api/search?text=a"),
        ("GET", "/api/swarm"),
        ("GET", "/api/downloads"),
        ("POST", "/api/get"),
        ("DELETE", "/api/downloads/0"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("GET", "/healthz/"),
        ("GET", "/healthz/../files/a.txt"),
        ("GET", "//healthz"),
        ("GET", "/%68ealthz"),
        ("PUT", "/healthz"),
        ("OPTIONS", "/files"),
        ("DELETE", "/files/a.txt"),
        ("BREW", "/"),
    ];
    let tries = [
        None,
        Some(String::new()),
        Some(bearer(WRONG)),
        Some(bearer(HALF)),
        Some(bearer("")),
        Some(basic("", HALF)),
        Some(basic(SECRET, "")),
        Some(basic("me", WRONG)),
        Some(format!("Token {SECRET}")),
        Some(SECRET.to_owned()),
        Some(format!("{}, {}", bearer(WRONG), bearer(SECRET))),
        Some(format!("{}\r\nAuthorization: {}", bearer(WRONG), bearer(SECRET))),
    ];
    for tried in &tries {
        let requests = routes.map(|(method, target)| {
            let line = tried.iter().map(|value| format!("Authorization: {value}\r\n")).collect::<String>();
            let body = if matches!(method, "PUT" | "POST") { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{line}{body}", peer.address)
        });
        for ((method, target), answer) in routes.iter().zip(at_once(peer.address, &requests)) {
            assert_eq!(answer.status, 401, "{method} {target} {tried:?}");
            let asked: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
            assert_eq!(asked.len(), 2, "{answer:?}");
            assert!(asked[0].1.starts_with("Basic realm=") && asked[1].1.starts_with("Bearer"), "{asked:?}");
            assert!(!answer.body.windows(5).any(|bytes| bytes == b"hello") && answer.header("etag").is_none());
        }
    }
    for method in ["GET", "HEAD"] {
        for target in ["/healthz", "/healthz?x"] {
            assert_eq!(request(peer.address, method, target, &[], b"").status, 200);
        }
    }
    assert_eq!(home.share.read("x"), None);
    assert_eq!(home.share.read("a.txt").unwrap(), b"hello");
    nothing_is_said_of_it(&[&peer]);
}

#[test]
fn the_secret_opens_every_route_as_a_bearer_or_as_any_users_password() {
    let home = Home::new();
    let peer = home.peer("p", NO_TRACKER, &[]);
    let ways =
        [bearer(SECRET), format!("bEARER   {SECRET}"), basic("", SECRET), basic("me", SECRET), basic("é", SECRET)];
    for (number, way) in ways.iter().enumerate() {
        assert_eq!(authorized(peer.address, "GET", "/", way, b"").status, 200, "{way}");
        let name = format!("/files/{number}");
        assert_eq!(authorized(peer.address, "PUT", &name, way, name.as_bytes()).status, 201, "{way}");
        assert_eq!(authorized(peer.address, "GET", &name, way, b"").text(), name, "{way}");
        let form = [("Content-Type", "multipart/form-data; boundary=B"), ("Authorization", way.as_str())];
        let part = format!(
            "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f{number}\"\r\n\r\nx\r\n--B--\r\n"
        );
        assert_eq!(request(peer.address, "POST", "/upload", &form, part.as_bytes()).status, 201, "{way}");
    }
    wait_for(PATIENCE, "a.txt is shared", || {
        authorized(peer.address, "GET", "/files/a.txt", &ways[0], b"").status == 200
    });
    // As a person would.
    let url = format!("http://{}/files/a.txt", peer.address);
    for user in ["", "me"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-u", &format!("{user}:{SECRET}"), &url]);
        assert_eq!(run(curl, "").out, "hello\n");
    }
    let file = home.secret.write("curl.txt", "by curl");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", "%{http_code}", "-u", &format!(":{SECRET}"), "-T"]).arg(&file);
    curl.arg(format!("http://{}/files/", peer.address));
    let done = run(curl, "");
    assert!(done.out.ends_with("201\n"), "{done:?}");
    assert_eq!(home.share.read("curl.txt").unwrap(), b"by curl");
    nothing_is_said_of_it(&[&peer]);
}

#[test]
fn with_public_read_all_may_read_and_only_holders_send() {
    let home = Home::new();
    let peer = home.peer("p", NO_TRACKER, &["--public-read"]);
    wait_for(PATIENCE, "a.txt is shared", || get(peer.address, "/files/a.txt").status == 200);
    let id = blake3::hash(b"hello").to_string();
    let targets =
        ["/", "/files", "/files/a.txt", &format!("/content/{id}"), &format!("/content/{id}/pieces"), "/healthz"];
    for target in targets {
        for method in ["GET", "HEAD"] {
            assert_eq!(request(peer.address, method, target, &[], b"").status, 200, "{method} {target}");
            // A browser that has a wrong one may read like anybody else.
            assert_eq!(authorized(peer.address, method, target, &bearer(WRONG), b"").status, 200, "{method} {target}");
        }
    }
    for (method, target) in
        [("PUT", "/files/x"), ("POST", "/upload"), ("PUT", "/healthz"), ("DELETE", "/files/a.txt"), ("OPTIONS", "/")]
    {
        assert_eq!(request(peer.address, method, target, &[], b"").status, 401, "{method} {target}");
    }
    assert_eq!(home.share.read("x"), None);
    assert_eq!(authorized(peer.address, "PUT", "/files/x", &basic("", SECRET), b"x").status, 201);
}

#[test]
fn a_body_is_not_asked_for_nor_read_before_the_secret() {
    let home = Home::new();
    let peer = home.peer("p", NO_TRACKER, &[]);
    for (target, lines) in [("PUT /files/x", ""), ("POST /upload", "Content-Type: multipart/form-data; boundary=B\r\n")]
    {
        for authorization in [String::new(), format!("Authorization: {}\r\n", bearer(WRONG))] {
            let mut connection = Connection::open(peer.address);
            let head = format!("{target} HTTP/1.1\r\nHost: {}\r\n{lines}{authorization}", peer.address);
            connection.send(format!("{head}Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")).unwrap();
            let answer = connection.head().unwrap();
            assert_eq!(answer.status, 401, "the answer comes without a 100 before it");
            assert_eq!(answer.header("connection"), Some("close"));
        }
    }
    let mut connection = Connection::open(peer.address);
    let head = format!("PUT /files/x HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n", peer.address, bearer(SECRET));
    connection.send(format!("{head}Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send("x").unwrap();
    assert_eq!(connection.answer().unwrap().status, 201);
    // What stands behind a refused head is a body, and no request.
    let mut connection = Connection::open(peer.address);
    let smuggled = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", peer.address);
    let head = format!("PUT /files/y HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", peer.address, smuggled.len());
    connection.send(head + &smuggled).unwrap();
    let all = String::from_utf8(connection.rest().unwrap()).unwrap();
    assert!(all.starts_with("HTTP/1.1 401 ") && all.matches("HTTP/1.1 ").count() == 1, "{all}");
}

#[test]
fn a_browser_is_asked_on_a_connection_that_it_goes_on_with() {
    let home = Home::new();
    let peer = home.peer("p", NO_TRACKER, &[]);
    let mut connection = Connection::open(peer.address);
    for (authorization, status) in [(None, 401), (None, 401), (Some(basic("", SECRET)), 200), (None, 401)] {
        let line = authorization.iter().map(|value| format!("Authorization: {value}\r\n")).collect::<String>();
        connection.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n{line}\r\n", peer.address)).unwrap();
        assert_eq!(connection.answer().unwrap().status, status);
    }
}

#[test]
fn those_who_guess_are_slowed_down_and_one_at_the_same_address_who_knows_it_is_not() {
    let home = Home::new();
    let mut peer = home.peer("p", NO_TRACKER, &[]);
    let guess = format!("GET /files HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\r\n", peer.address, bearer(WRONG));
    // One after the other: each takes its time.
    let began = Instant::now();
    for _ in 0..3 {
        let mut connection = Connection::open(peer.address);
        connection.send(&guess).unwrap();
        assert_eq!(connection.answer().unwrap().status, 401);
        assert!(connection.is_closed_within(PATIENCE), "each try costs a connection");
    }
    assert!(began.elapsed() >= 3 * limits::TRY_TIME.start, "{:?}", began.elapsed());

    // All at once, more than there is place for: those that are not given up wait longer and longer.
    let threads = peer.threads();
    let guesses = 2 * limits::CONNECTIONS_PER_ADDRESS;
    let mut held = Vec::new();
    let began = Instant::now();
    for number in 0..guesses {
        let mut connection = Connection::open(peer.address);
        connection.send(&guess).unwrap();
        held.push(connection);
        if number % 32 == 0 {
            let asked = Instant::now();
            assert_eq!(authorized(peer.address, "GET", "/files", &bearer(SECRET), b"").status, 200);
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        }
    }
    wait_for(PATIENCE, "threads of those given up end", || peer.threads() <= threads + limits::CONNECTIONS_PER_ADDRESS);
    let asked = Instant::now();
    assert_eq!(authorized(peer.address, "PUT", "/files/x", &basic("", SECRET), b"x").status, 201);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // None of them learns anything before its time.
    let answers: Vec<_> = held.iter_mut().map(|connection| connection.answer().map(|answer| answer.status)).collect();
    let waited = began.elapsed();
    // Those who have their answer and do not close are in nobody's way either.
    let mut kept = Connection::open(peer.address);
    let right = guess.replace(WRONG, SECRET);
    for _ in 0..2 {
        kept.send(&right).unwrap();
        assert_eq!(kept.answer().unwrap().status, 200);
        assert_eq!(authorized(peer.address, "GET", "/files", &bearer(SECRET), b"").status, 200);
    }
    assert!(answers.iter().all(|answer| answer.as_ref().map_or(true, |status| *status == 401)), "{answers:?}");
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answered > 0 && waited >= limits::TRY_TIME.end, "{answered} answers after {waited:?}");
    drop((held, kept));
    wait_for(PATIENCE, "threads are back", || peer.threads() <= threads);
    assert!(peer.is_running());
    nothing_is_said_of_it(&[&peer]);
}
