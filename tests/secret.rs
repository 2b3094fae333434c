//! The swarm's secret: nobody gets in without it, whoever has it is not in the way of those who guess.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::{self, Permissions},
    io,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use enjambre::{
    limits,
    proto::{AnnounceRequest, File, JoinRequest},
};
use prost::Message;
use support::*;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const SECRET: &str = "0123456789abcdef-0123456789ABCDEF:/+";
const HALF: &str = "0123456789abcdef-0";
const WRONG: &str = "0123456789abcdef-0123456789ABCDEF:/-";

/// Nobody listens there; a peer serves all the same.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A file that holds the swarm's secret, and a folder to share.
struct Home {
    share: Folder,
    secret: Folder,
}

impl Home {
    fn new() -> Self {
        let home = Self { share: Folder::new(), secret: Folder::new() };
        home.share.write("a.txt", "hello");
        home.keep(SECRET);
        home
    }

    /// Puts a text into the file, which only its owner may read.
    fn keep(&self, text: &str) -> PathBuf {
        let path = self.secret.write("secret", text);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The flag that names the file, and others.
    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<String> {
        let path = self.secret.join("secret").display().to_string();
        ["--secret-file", &path].iter().chain(more).map(|flag| (*flag).to_owned()).collect()
    }

    fn tracker(&self, more: &[&str]) -> Process {
        let flags = self.flags(more);
        tracker(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn peer(&self, id: &str, tracker: SocketAddr, more: &[&str]) -> Process {
        let flags = self.flags(more);
        peer(id, self.share.path(), tracker, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

/// As `curl -u USER:SECRET` has it.
fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{secret}").as_bytes()))
}

fn authorized(to: SocketAddr, method: &str, target: &str, authorization: &str, body: &[u8]) -> Response {
    request(to, method, target, &[("Authorization", authorization)], body)
}

/// Sends requests over a connection each, from an address each, all at once; and gives their answers.
fn at_once(to: SocketAddr, requests: &[String]) -> Vec<Response> {
    let from = |number: usize| Ipv4Addr::from_bits(0x7f02_0001 + number as u32);
    let sent: Vec<_> = (requests.iter().enumerate())
        .map(|(number, request)| {
            let mut connection = Connection::open_from(from(number), to).unwrap();
            connection.send(request).unwrap();
            connection
        })
        .collect();
    let is_head = |number: usize| requests[number].starts_with("HEAD");
    let answer = |(number, mut connection): (usize, Connection)| match is_head(number) {
        true => connection.head().unwrap(),
        false => connection.answer().unwrap(),
    };
    sent.into_iter().enumerate().map(answer).collect()
}

/// No process has said the secret, nor what was tried.
#[track_caller]
fn nothing_is_said_of_it(processes: &[&Process]) {
    for process in processes {
        let lines = process.lines();
        assert!(!lines.is_empty());
        let told =
            lines.iter().find(|line| [HALF, "MDEyMzQ1Njc4OWFiY2RlZi0w"].iter().any(|part| line.text.contains(part)));
        assert!(told.is_none(), "{told:?}");
    }
}

// ---- a peer ----------------------------------------------------------------------------------------

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

// ---- the tracker -------------------------------------------------------------------------------------

/// Makes a call as bytes; all calls of all services look alike.
async fn call(channel: Channel, path: &str, authorization: &[String], message: Vec<u8>) -> Result<(), Status> {
    let mut request = Request::new(AnyMessage(message));
    for value in authorization {
        request.metadata_mut().append("authorization", value.parse().unwrap());
    }
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path: PathAndQuery = path.parse().unwrap();
    client.unary(request, path, ProstCodec::<AnyMessage, ()>::default()).await.map(|_| ())
}

/// Bytes that pass for a message.
#[derive(Debug, Default)]
struct AnyMessage(Vec<u8>);

impl Message for AnyMessage {
    fn encode_raw(&self, buf: &mut impl prost::bytes::BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl prost::bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        unreachable!("only sent")
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {}
}

async fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).unwrap().timeout(PATIENCE).connect().await.unwrap()
}

fn joining(peer_id: &str, port: u16, advertise: &str) -> JoinRequest {
    let identity = blake3::hash(peer_id.as_bytes()).as_bytes().to_vec();
    JoinRequest {
        peer_id: peer_id.into(),
        identity,
        port: port.into(),
        advertise: advertise.into(),
        ..JoinRequest::default()
    }
}

const CALLS: [&str; 12] = [
    "/enjambre.v1.Tracker/Join",
    "/enjambre.v1.Tracker/Announce",
    "/enjambre.v1.Tracker/Renew",
    "/enjambre.v1.Tracker/Leave",
    "/enjambre.v1.Tracker/Search",
    "/enjambre.v1.Tracker/Locate",
    "/enjambre.v1.Tracker/Peers",
    "/enjambre.v1.Tracker/Nothing",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/nobody.Knows/This",
];

#[tokio::test]
async fn the_tracker_refuses_every_call_without_the_secret_health_and_reflection_too() {
    let home = Home::new();
    let tracker = home.tracker(&["--metrics-listen", "127.0.0.1:0"]);
    let channel = channel(tracker.address).await;
    let tries = [
        vec![],
        vec![String::new()],
        vec![bearer(WRONG)],
        vec![bearer(HALF)],
        vec![bearer("")],
        vec![basic("", HALF)],
        vec![SECRET.to_owned()],
        vec![bearer(WRONG), bearer(SECRET)],
        vec![bearer(SECRET), bearer(SECRET)],
    ];
    let mut waiting = Vec::new();
    for path in CALLS {
        // No more on a connection than it may have in flight.
        let channel = self::channel(tracker.address).await;
        for tried in tries.clone() {
            let channel = channel.clone();
            waiting.push((path, tried.clone(), tokio::spawn(async move { call(channel, path, &tried, vec![]).await })));
        }
    }
    for (path, tried, answer) in waiting {
        let status = answer.await.unwrap().expect_err(path);
        assert_eq!(status.code(), Code::Unauthenticated, "{path} {tried:?}: {status:?}");
        assert!(status.message().contains("secret") && !status.message().contains(HALF), "{status:?}");
    }
    for path in CALLS {
        for right in [[bearer(SECRET)], [basic("", SECRET)]] {
            // A stream that goes on is an answer too.
            let answer = tokio::time::timeout(Duration::from_millis(500), call(channel.clone(), path, &right, vec![]));
            let code =
                answer.await.map_or(Code::Ok, |answer| answer.map_or_else(|status| status.code(), |()| Code::Ok));
            assert_ne!(code, Code::Unauthenticated, "{path}");
        }
    }
    let at = tracker.wait_for_line(0, "where the metrics are", |line| {
        line.text.strip_prefix("metrics on http://")?.strip_suffix("/metrics")?.parse().ok()
    });
    assert_eq!(get(at, "/healthz").status, 200, "for probes, which have no secret");
    tracker.wait_for_line(0, "refusals are logged", |line| line.text.contains("code=Unauthenticated").then_some(()));
    nothing_is_said_of_it(&[&tracker]);
}

#[tokio::test]
async fn guesses_at_the_tracker_are_slowed_down_and_calls_that_prove_it_are_not() {
    let home = Home::new();
    let tracker = home.tracker(&[]);
    let right = channel(tracker.address).await;
    let began = Instant::now();
    let mut guesses = Vec::new();
    for _ in 0..8 {
        let channel = channel(tracker.address).await;
        for _ in 0..limits::RPC_STREAMS {
            let channel = channel.clone();
            guesses.push(tokio::spawn(async move {
                let answer = call(channel, "/enjambre.v1.Tracker/Search", &[bearer(WRONG)], vec![]).await;
                (answer.expect_err("a wrong one").code(), Instant::now())
            }));
        }
    }
    while began.elapsed() < limits::TRY_TIME.end {
        let asked = Instant::now();
        let join = joining("good", 5000, "").encode_to_vec();
        call(right.clone(), "/enjambre.v1.Tracker/Join", &[bearer(SECRET)], join).await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
    for guess in guesses {
        let (code, at) = guess.await.unwrap();
        assert_eq!(code, Code::Unauthenticated, "it is told what is wrong, and not that time is over");
        (first, last) = (first.min(at - began), last.max(at - began));
    }
    assert!(first >= limits::TRY_TIME.start && last >= limits::TRY_TIME.end, "{first:?} to {last:?}");
}

#[tokio::test]
async fn who_holds_the_secret_may_advertise_an_address_that_others_may_dial() {
    let home = Home::new();
    let tracker = home.tracker(&[]);
    let channel = channel(tracker.address).await;
    let join = |advertise: &'static str| {
        let message = joining("nat", 5000, advertise).encode_to_vec();
        call(channel.clone(), "/enjambre.v1.Tracker/Join", &[], message)
    };
    assert_eq!(join("52.1.2.3").await.unwrap_err().code(), Code::Unauthenticated);
    let join = |advertise: &'static str| {
        let (channel, message) = (channel.clone(), joining("nat", 5000, advertise).encode_to_vec());
        async move { call(channel, "/enjambre.v1.Tracker/Join", &[bearer(SECRET)], message).await }
    };
    for good in ["52.1.2.3", "2001:db8::1"] {
        join(good).await.unwrap();
        tracker.wait_for_line(0, "it joins", |line| {
            line.text
                .contains(&format!("address={good}"))
                .then_some(())
                .or_else(|| line.text.contains(&format!("address=[{good}]")).then_some(()))
        });
    }
    for bad in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
        assert_eq!(join(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
    }
}

// ---- a swarm -------------------------------------------------------------------------------------------

#[test]
fn a_swarm_with_a_secret_uploads_searches_and_gets() {
    let (home, other) = (Home::new(), Home::new());
    // A file with a line end, and the variable: both are the same secret.
    home.keep(&format!("{SECRET}\n"));
    let mut command = tracker_command(["--listen", "127.0.0.1:0"]);
    command.env("ENJAMBRE_SECRET", SECRET);
    let tracker = tracker_by(command);
    let first = home.peer("first", tracker.address, &[]);
    let mut second = other.peer("second", tracker.address, &[]);
    first.joined();
    let bytes = noise(5, 3 << 20);
    assert_eq!(authorized(first.address, "PUT", "/files/up/big.bin", &basic("", SECRET), &bytes).status, 201);
    wait_for(PATIENCE, "the upload is found", || second.search("big.bin").len() == 1);
    assert_eq!(second.get("up/big.bin").unwrap().content, blake3::hash(&bytes).to_string());
    assert_eq!(other.share.read("up/big.bin").unwrap(), bytes);
    // Small files come another way.
    for number in 0..20 {
        home.share.write(format!("small/{number}"), format!("small {number}"));
    }
    wait_for(PATIENCE, "all are found", || second.search("small/*").len() == 20);
    assert_eq!(second.ask("get small/*").out.len(), 20);

    // Whoever has none, or another, is told so and ends.
    let folder = Folder::new();
    for (secret, sentence) in [(None, "give --secret-file FILE or ENJAMBRE_SECRET"), (Some(WRONG), "another secret")] {
        let mut command = peer_command(["stranger", "0"]);
        command.arg(folder.path()).args(["--tracker", &tracker.address.to_string(), "--bind", "127.0.0.1"]);
        command.envs(secret.map(|secret| ("ENJAMBRE_SECRET", secret)));
        let mut stranger = Process::spawn("stranger", command);
        assert_eq!(stranger.exited().code(), Some(1));
        stranger.wait_for_line(0, sentence, |line| {
            (line.text.starts_with("error: the tracker refuses") && line.text.contains(sentence)).then_some(())
        });
        nothing_is_said_of_it(&[&stranger]);
    }
    nothing_is_said_of_it(&[&tracker, &first, &second]);
}

#[test]
fn several_trackers_have_one_secret() {
    let Some(etcd) = Etcd::start() else { return };
    let (home, other) = (Home::new(), Home::new());
    let mut first = home.tracker(&["--store", &etcd.store()]);
    let second = home.tracker(&["--store", &etcd.store()]);
    let trackers = format!("{},{}", first.address, second.address);
    let (path, only) = (home.secret.join("secret").display().to_string(), second.address.to_string());
    let seed = peer_of("seed", home.share.path(), &trackers, &["--secret-file", &path]);
    let mut asker = peer_of("asker", other.share.path(), &only, &["--secret-file", &path]);
    seed.joined();
    asker.joined();
    wait_for(PATIENCE, "both are found", || asker.search("a.txt").iter().map(|row| row.sources).sum::<u32>() == 2);
    first.kill();
    home.share.write("b.txt", "new");
    wait_for(PATIENCE, "the seed goes on at the second", || asker.search("b.txt").len() == 1);
    assert_eq!(asker.get("b.txt").unwrap().size, 3);
}

#[test]
fn a_source_with_another_secret_is_named() {
    let (home, folder) = (Home::new(), Folder::new());
    let tracker = tracker(&[]);
    // The tracker has none, and does not look at what it is sent.
    let seed = home.peer("seed", tracker.address, &[]);
    let mut peer = peer("other", folder.path(), tracker.address, &[]);
    seed.joined();
    wait_for(PATIENCE, "a.txt is found", || peer.search("a.txt").len() == 1);
    let error = peer.get("a.txt").unwrap_err();
    assert!(
        error.contains("seed") && error.contains("wants another secret than this peer has (status 401)"),
        "{error}"
    );
}

#[test]
fn the_secret_does_not_follow_a_source_to_another_place() {
    const BYTES: &[u8] = &[7; 100_000];
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = elsewhere.local_addr().unwrap();
    let source = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = source.local_addr().unwrap().port();
    let asked = thread::spawn(move || {
        let mut proofs = 0;
        for stream in source.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]);
            if head.starts_with("STOP") {
                return proofs;
            }
            proofs += usize::from(head.contains(&format!("authorization: {}\r\n", bearer(SECRET))));
            let answer =
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{target}/x\r\nContent-Length: 0\r\n\r\n");
            let _ = io::Write::write_all(&mut stream, answer.as_bytes());
        }
        unreachable!("a listener has no end")
    });
    let home = Home::new();
    let tracker = home.tracker(&[]);
    block_on(async {
        let channel = channel(tracker.address).await;
        let mut client =
            enjambre::proto::tracker_client::TrackerClient::with_interceptor(channel, |mut request: Request<()>| {
                request.metadata_mut().insert("authorization", bearer(SECRET).parse().unwrap());
                Ok(request)
            });
        let token = client.join(joining("liar", port, "")).await.unwrap().into_inner().token;
        let file =
            File { path: "x.bin".into(), content: blake3::hash(BYTES).as_bytes().to_vec(), size: BYTES.len() as u64 };
        client.announce(AnnounceRequest { token, added: vec![file], ..AnnounceRequest::default() }).await.unwrap();
    });
    let mut peer = home.peer("victim", tracker.address, &[]);
    peer.joined();
    let error = peer.get("x.bin").unwrap_err();
    assert!(error.contains("liar") && error.contains("307"), "{error}");
    Connection::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).send("STOP").unwrap();
    assert!(asked.join().unwrap() > 0, "the source itself is sent the secret");
    elsewhere.set_nonblocking(true).unwrap();
    assert_eq!(elsewhere.accept().map(|_| ()).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it went there");
}

// ---- command lines ------------------------------------------------------------------------------------

#[test]
fn a_secret_that_is_none_is_refused_without_being_told() {
    let home = Home::new();
    let peer_args = ["p".to_owned(), "0".to_owned(), home.share.path().display().to_string()];
    let bad =
        ["", "short", &"x".repeat(129), &format!("{SECRET} {SECRET}"), &format!("{SECRET}\n\n"), &format!("{SECRET}é")];
    for (number, text) in bad.into_iter().enumerate() {
        home.keep(text);
        for command in
            [tracker_command(home.flags(&[])), peer_command(peer_args.iter().cloned().chain(home.flags(&[])))]
        {
            let done = run(command, "");
            assert_eq!(done.code, Some(2), "{number}: {}", done.err);
            assert!(done.err.starts_with("error: --secret-file /") && done.err.contains("16 to 128"), "{}", done.err);
            assert!(text.is_empty() || !done.err.contains(text.trim()), "{}", done.err);
        }
        if !text.is_empty() {
            let mut command = tracker_command([""; 0]);
            command.env("ENJAMBRE_SECRET", text);
            let done = run(command, "");
            assert!(
                done.code == Some(2) && done.err.starts_with("error: ENJAMBRE_SECRET: a secret is"),
                "{}",
                done.err
            );
            assert!(!done.err.contains(text.trim()), "{}", done.err);
        }
    }
    let missing = run(tracker_command(["--secret-file", "/nowhere/secret"]), "");
    assert!(missing.code == Some(2) && missing.err.contains("/nowhere/secret: No such file"), "{}", missing.err);
    for args in [vec!["--secret", SECRET], vec!["--secret=0123456789abcdef-0"]] {
        let done = run(tracker_command(args), "");
        assert!(done.code == Some(2) && done.err.contains("unknown flag --secret:"), "{}", done.err);
        assert!(!done.err.contains(HALF), "{}", done.err);
    }
    let mut command = peer_command(peer_args);
    command.arg("--public-read");
    let done = run(command, "");
    assert!(done.code == Some(2) && done.err.contains("takes a secret"), "{}", done.err);
}

#[test]
fn a_secret_that_everybody_can_read_is_told_of_and_so_is_none_at_all() {
    let home = Home::new();
    fs::set_permissions(home.secret.join("secret"), Permissions::from_mode(0o644)).unwrap();
    let open = home.tracker(&[]);
    open.wait_for_line(0, "a warning", |line| line.text.contains("everybody on this machine can read").then_some(()));
    home.keep(SECRET);
    let warns = |process: &Process| process.lines().iter().any(|line| line.text.contains("can read"));
    assert!(!warns(&home.tracker(&[])));

    let none = |args: &[&str]| {
        let peer = peer("p", Folder::new().path(), NO_TRACKER, args);
        // What it says of its tracker comes after what it says of itself.
        peer.wait_for_line(0, "its tracker is away", |line| line.text.contains("is away").then_some(()));
        peer.lines().iter().filter(|line| line.text.starts_with("no secret is set: whoever reaches port ")).count()
    };
    assert_eq!(none(&["--bind", "0.0.0.0"]), 1);
    assert_eq!(none(&["--bind", "127.0.0.1"]), 0);
    assert_eq!(none(&["--bind", "0.0.0.0", "--secret-file", &home.secret.join("secret").display().to_string()]), 0);
}
