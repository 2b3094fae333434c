//! The JSON API under `/api/`, as its page and curl use it.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::*;

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Nobody listens there.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// What a route tells, which has this status.
#[track_caller]
fn told(from: SocketAddr, target: &str) -> Value {
    let answer = get(from, target);
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{target}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// The sentence of a refusal of this status.
#[track_caller]
fn refused(answer: &Response, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(problem["status"], status);
    problem["detail"].as_str().expect("a sentence").to_owned()
}

#[track_caller]
fn wish(to: SocketAddr, wish: &Value) -> Response {
    request(to, "POST", "/api/get", &[JSON], wish.to_string().as_bytes())
}

#[track_caller]
fn begun(to: SocketAddr, what: &Value, status: u16) -> Value {
    let answer = wish(to, what);
    assert_eq!(answer.status, status, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn keys(of: &Value) -> Vec<&str> {
    of.as_object().expect("an object").keys().map(String::as_str).collect()
}

struct Swarm {
    tracker: Process,
    _giver: Process,
    taker: Process,
    _given: Folder,
    folder: Folder,
}

impl Swarm {
    /// `giver` has these files; `taker` is who is asked.
    fn new(files: &[(&str, &[u8])], limit: &[&str], args: &[&str]) -> Self {
        let tracker = tracker(&[]);
        let (given, folder) = (Folder::new(), Folder::new());
        files.iter().for_each(|(path, bytes)| drop(given.write(path, bytes)));
        let giver = peer("giver", given.path(), tracker.address, limit);
        giver.joined();
        let mut taker = peer("taker", folder.path(), tracker.address, args);
        taker.joined();
        wait_for(PATIENCE, "the giver's files are found", || taker.search("*").len() == files.len());
        Self { tracker, _giver: giver, taker, _given: given, folder }
    }

    fn address(&self) -> SocketAddr {
        self.taker.address
    }
}

#[test]
fn what_is_told_has_these_members() {
    let swarm = Swarm::new(&[("a/b.txt", b"hello")], &["--zone", "z1"], &["--zone", "z2"]);
    let address = swarm.address();
    let version = env!("CARGO_PKG_VERSION");
    let status = json!({
        "peer": "taker", "zone": "z2", "joined": true, "trackers": [swarm.tracker.address.to_string()],
        "files": 0, "bytes": 0, "hashing": null, "version": version,
    });
    assert_eq!(told(address, "/api/status"), status);
    let content = blake3::hash(b"hello").to_string();
    let found = json!({ "path": "a/b.txt", "content": content, "size": 5, "sources": 1, "peers": ["giver"] });
    assert_eq!(told(address, "/api/search?text=B.TX"), json!({ "found": [found], "cursor": null }));
    let mut peers = told(address, "/api/swarm");
    let giver = peers["peers"][0]["address"].take();
    assert!(giver.as_str().unwrap().starts_with("127.0.0.1:"), "{giver}");
    assert_eq!(
        peers["peers"][0],
        json!({
            "peer": "giver", "address": null, "zone": "z1", "files": 1, "bytes": 5, "downloads": 0, "mirror": null,
        })
    );
    assert_eq!((&peers["peers"][1]["peer"], &peers["cursor"]), (&"taker".into(), &Value::Null));
    assert_eq!(told(address, "/api/downloads"), json!({ "downloads": [], "ended": [] }));
    // As docs/reference.md has it.
    let mut curl = Command::new("curl");
    let url = format!("http://{address}/api/get");
    curl.args(["-sS", "--json", r#"{"what":"a/b.txt"}"#, &url]);
    let done = run(curl, "");
    let begun: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(begun["downloads"][0]["number"], 0, "{begun}");
    wait_for(PATIENCE, "it is here", || swarm.folder.read("a/b.txt").as_deref() == Some(b"hello"));
    let ended = wait_for_some(PATIENCE, "it is over", || told(address, "/api/downloads")["ended"].get(0).cloned());
    let whole = json!({
        "number": 0, "content": content, "path": "a/b.txt", "size": 5, "here": 5, "rate": 0, "state": "done",
        "error": null,
    });
    assert_eq!(ended, whole);
    assert_eq!(told(address, "/api/downloads/0"), whole);
    let here =
        json!({ "downloads": [], "here": [{ "path": "a/b.txt", "content": content, "size": 5 }], "refused": [] });
    assert_eq!(begun_again(address), here);
}

fn begun_again(address: SocketAddr) -> Value {
    begun(address, &json!({ "what": "a/b.txt" }), 200)
}

#[test]
fn a_search_goes_on_where_the_answer_before_ended() {
    let names: Vec<String> = (0..120).map(|number| format!("logs/{number:03} ü+&.txt")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let swarm = Swarm::new(&files, &[], &[]);
    let (mut seen, mut cursor, mut answers) = (Vec::new(), String::new(), 0);
    loop {
        let page = told(swarm.address(), &format!("/api/search?text=%C3%BC%2B%26&cursor={cursor}"));
        seen.extend(page["found"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()));
        answers += 1;
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    seen.sort_unstable();
    assert_eq!((seen, answers), (names, 3));
}

#[test]
fn a_get_is_started_watched_piece_by_piece_and_cancelled() {
    let bytes = noise(1, 4 << 20);
    let swarm = Swarm::new(&[("big.bin", &bytes), ("small.txt", b"x")], &["--upload-limit", "500K"], &[]);
    let address = swarm.address();
    let row = begun(address, &json!({ "what": "big.bin", "to": "deep/copy.bin" }), 202)["downloads"][0].take();
    assert_eq!(keys(&row), ["content", "here", "number", "path", "rate", "size", "state"]);
    assert_eq!(row["path"], "deep/copy.bin");
    let target = format!("/api/downloads/{}", row["number"]);
    let seen = wait_for_some(PATIENCE, "pieces come, at a rate", || {
        let row = told(address, &target);
        (row["rate"].as_u64()? > 0 && row["pieces"].as_array()?.len() > 1).then_some(row)
    });
    assert_eq!((&seen["size"], &seen["state"], &seen["piece"]), (&(4 << 20).into(), &"running".into(), &32768.into()));
    assert_eq!(seen["sources"], json!(["giver"]));
    let runs: Vec<(u64, u64)> = serde_json::from_value(seen["pieces"].clone()).unwrap();
    assert_eq!(runs.iter().map(|(count, _)| count).sum::<u64>(), 128);
    let come: u64 = runs.iter().filter(|(_, from)| *from == 2).map(|(count, _)| count).sum();
    assert!(come > 0 && runs.iter().all(|(_, from)| matches!(from, 0 | 2)), "{runs:?}");
    assert!(seen["rate"].as_u64().unwrap() < 1_000_000, "{seen}");
    // The same again is the same.
    assert_eq!(begun(address, &json!({ "what": "big.bin", "to": "deep/copy.bin" }), 202)["downloads"][0]["number"], 0);
    assert_eq!(request(address, "DELETE", &target, &[], b"").status, 204);
    assert_eq!(told(address, "/api/downloads"), json!({ "downloads": [], "ended": [] }));
    assert_eq!(swarm.folder.read("deep/copy.bin"), None);
    refused(&request(address, "DELETE", &target, &[], b""), 404);
    refused(&get(address, &target), 404);
}

#[test]
fn a_pattern_gets_all_and_says_what_is_in_the_way() {
    let swarm = Swarm::new(&[("d/a", b"a"), ("d/b", b"b"), ("d/c", b"c"), ("e", b"e")], &[], &[]);
    let address = swarm.address();
    put(address, "d/a", b"mine");
    put(address, "d/b", b"b");
    let went = begun(address, &json!({ "what": "d/*" }), 202);
    let paths = |of: &str| {
        let rows = went[of].as_array().unwrap().iter();
        rows.map(|row| row["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The own other content makes the first path ambiguous.
    assert_eq!(
        [paths("downloads"), paths("here"), paths("refused")],
        [["d/c"], ["d/b"], ["d/a"]].map(|one| one.map(str::to_owned).to_vec())
    );
    assert!(went["refused"][0]["detail"].as_str().unwrap().contains("d/a names 2 contents"), "{went}");
    wait_for(PATIENCE, "what was missing is here", || swarm.folder.read("d/c").is_some());
    assert_eq!((swarm.folder.read("d/a").as_deref(), swarm.folder.read("e")), (Some(&b"mine"[..]), None));
    let theirs = blake3::hash(b"a").to_string();
    let taken = refused(&wish(address, &json!({ "what": theirs, "to": "d/a" })), 409);
    assert!(taken.contains("d/a is here with other content"), "{taken}");
    begun(address, &json!({ "what": theirs, "to": "d/a.theirs" }), 202);
    wait_for(PATIENCE, "theirs is here too", || swarm.folder.read("d/a.theirs").as_deref() == Some(b"a"));
}

#[test]
fn what_is_no_question_is_refused_with_a_sentence() {
    let swarm = Swarm::new(&[("a", b"a")], &[], &[]);
    let address = swarm.address();
    let long = "a".repeat(1025);
    let nobody = "0".repeat(64);
    for (method, target, status, part) in [
        ("GET", "/api/search", 400, "needs a text"),
        ("GET", "/api/search?text=%20", 400, "needs a text"),
        ("GET", &format!("/api/search?text={long}"), 400, "at most 1024 bytes"),
        ("GET", "/api/search?text=a&page=2", 400, "text, cursor"),
        ("GET", "/api/search?text=%ff", 400, "UTF-8"),
        ("GET", "/api/search?text=a&cursor=xyz", 400, "cursor"),
        ("GET", "/api/swarm?cursor=a%20b", 502, "cursor: a peer id is"),
        ("GET", "/api/swarm?text=a", 400, "cursor"),
        ("GET", "/api/downloads/x", 400, "number"),
        ("GET", "/api/downloads/7", 404, "/api/downloads"),
        ("DELETE", "/api/downloads/7", 404, "/api/downloads"),
        ("DELETE", "/api/downloads/-1", 400, "number or its content id"),
        ("DELETE", &format!("/api/downloads/{nobody}"), 404, "no download of"),
        ("DELETE", "/api/downloads", 405, "GET, HEAD"),
        ("PUT", "/api/downloads/7", 405, "GET, HEAD, DELETE"),
        ("GET", "/api/get", 405, "POST"),
        ("POST", "/api/status", 405, "GET, HEAD"),
        ("GET", "/api/", 404, "docs/reference.md"),
        ("GET", "/api/else", 404, "docs/reference.md"),
    ] {
        let detail = refused(&request(address, method, target, &[], b""), status);
        assert!(detail.contains(part), "{method} {target}: {detail}");
    }
    for (body, status, part) in [
        (String::new(), 400, "what"),
        ("what=a".into(), 400, "what"),
        (r#"{"what":["a"]}"#.into(), 400, "what"),
        (r#"{"what":"a","from":"b"}"#.into(), 400, "what"),
        ("[".repeat(16 << 10), 400, "what"),
        (format!(r#"{{"what":"{}"}}"#, "a".repeat(16 << 10)), 413, "16 KiB"),
        (r#"{"what":"../a"}"#.into(), 400, "name"),
        (r#"{"what":"a","to":"../a"}"#.into(), 400, "name"),
        (r#"{"what":"a","to":".enjambre/jobs/x"}"#.into(), 400, "dot"),
        (r#"{"what":"nobody has it"}"#.into(), 404, "nobody offers"),
        (r#"{"what":"x*"}"#.into(), 404, "nothing matches"),
        (format!(r#"{{"what":"{nobody}"}}"#), 404, "nobody offers"),
    ] {
        let answer = request(address, "POST", "/api/get", &[JSON], body.as_bytes());
        let detail = refused(&answer, status);
        assert!(detail.contains(part), "{body}: {detail}");
    }
    // What a form of any site can send is not taken, whatever it says.
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=B", "json"] {
        let answer = request(address, "POST", "/api/get", &[("Content-Type", media_type)], br#"{"what":"a"}"#);
        assert!(refused(&answer, 415).contains("application/json"), "{media_type}");
    }
    assert_eq!(request(address, "POST", "/api/get", &[], br#"{"what":"a"}"#).status, 415);
    assert_eq!(swarm.folder.read("a"), None);
    let charset = ("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(request(address, "POST", "/api/get", &[charset], br#"{"what":"a"}"#).status, 202);
}

#[test]
fn the_secret_is_asked_for_and_public_read_lets_nobody_fetch() {
    const SECRET: &str = "0123456789abcdef";
    let secret = Folder::new();
    let path = secret.write("secret", SECRET).display().to_string();
    let known = ("Authorization", &*format!("Bearer {SECRET}"));
    for (args, reads) in [(&["--secret-file", &path][..], 401), (&["--secret-file", &path, "--public-read"], 200)] {
        let folder = Folder::new();
        let peer = peer("p", folder.path(), NO_TRACKER, args);
        wait_for(PATIENCE, "it has started", || {
            request(peer.address, "GET", "/api/status", &[known], b"").status == 200
        });
        for target in ["/api/status", "/api/downloads"] {
            assert_eq!(get(peer.address, target).status, reads, "{target}");
        }
        for headers in [&[JSON][..], &[]] {
            assert_eq!(request(peer.address, "POST", "/api/get", headers, br#"{"what":"a"}"#).status, 401);
        }
        assert_eq!(request(peer.address, "DELETE", "/api/downloads/0", &[], b"").status, 401);
        assert_eq!(request(peer.address, "DELETE", "/api/downloads/0", &[known], b"").status, 404);
    }
}

#[test]
fn a_tracker_that_owes_its_answers_holds_up_nobody_who_asks_for_something_else() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    folder.write("a.txt", "hello");
    let peer = peer("p", folder.path(), silent.local_addr().unwrap(), &[]);
    let address = peer.address;
    wait_for(PATIENCE, "a.txt is shared", || get(address, "/files/a.txt").status == 200);
    wait_for(PATIENCE, "it has started", || get(address, "/api/status").status == 200);
    let (tell, told) = mpsc::channel();
    let began = Instant::now();
    for _ in 0..30 {
        let tell = tell.clone();
        thread::spawn(move || tell.send((get(address, "/api/search?text=a"), began.elapsed())).unwrap());
    }
    let (first, _) = told.recv().unwrap();
    assert!(refused(&first, 503).contains("Too much is asked at once"), "{}", first.text());
    assert!(first.header("retry-after").is_some());
    for target in ["/files/a.txt", "/files", "/api/status", "/api/downloads", "/"] {
        let asked = Instant::now();
        assert_eq!(get(address, target).status, 200, "{target}");
        assert!(asked.elapsed() < Duration::from_secs(1), "{target} took {:?}", asked.elapsed());
    }
    let rest: Vec<_> = told.iter().take(29).collect();
    assert!(rest.iter().all(|(answer, _)| answer.status == 503));
    let asked = rest.iter().filter(|(answer, _)| answer.text().contains("tracker")).count();
    assert!((1..=8).contains(&asked), "{asked} asked the tracker");
    // None is there for ever.
    wait_for(PATIENCE, "there is room again", || !get(address, "/api/swarm").text().contains("Too much"));
}
