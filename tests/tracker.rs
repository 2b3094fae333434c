//! The tracker as it is shipped: the real binary, asked over real sockets.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use enjambre::{
    limits,
    proto::{
        AnnounceRequest, Download, File, Found, JoinReply, JoinRequest, LeaveRequest, LocateReply, LocateRequest,
        RenewRequest, SearchReply, SearchRequest, tracker_client::TrackerClient,
    },
};
use support::*;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// The first line of a tracker's log with this in it, once it is there.
#[track_caller]
fn line(tracker: &Process, part: &str) -> String {
    tracker.wait_for_line(0, part, |line| line.text.contains(part).then(|| line.text.clone()))
}

#[derive(Clone)]
struct Client(TrackerClient<Channel>);

impl Client {
    async fn of(tracker: &Process) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", tracker.address)).unwrap();
        let channel = endpoint.timeout(PATIENCE).connect().await.unwrap();
        Self(TrackerClient::new(channel).max_decoding_message_size(limits::RPC_BYTES))
    }

    async fn join(&mut self, peer_id: &str, identity: u8) -> Result<JoinReply, Status> {
        self.join_as(joining(peer_id, identity)).await
    }

    async fn join_as(&mut self, request: JoinRequest) -> Result<JoinReply, Status> {
        self.0.join(request).await.map(tonic::Response::into_inner)
    }

    async fn announce(&mut self, token: &[u8], added: &[(&str, &str)], removed: &[&str]) -> Result<(), Status> {
        let added = added.iter().map(|(path, text)| file(path, text)).collect();
        let removed = removed.iter().map(ToString::to_string).collect();
        self.announce_as(AnnounceRequest { token: token.to_vec(), added, removed, ..AnnounceRequest::default() }).await
    }

    async fn announce_as(&mut self, request: AnnounceRequest) -> Result<(), Status> {
        self.0.announce(request).await.map(|_| ())
    }

    async fn renew(&mut self, token: &[u8]) -> Result<(), Status> {
        self.0.renew(RenewRequest { token: token.to_vec() }).await.map(|_| ())
    }

    async fn leave(&mut self, token: &[u8]) -> Result<(), Status> {
        self.0.leave(LeaveRequest { token: token.to_vec() }).await.map(|_| ())
    }

    async fn search(&mut self, text: &str, exact: bool) -> Result<SearchReply, Status> {
        self.0
            .search(SearchRequest { text: text.to_owned(), exact, ..SearchRequest::default() })
            .await
            .map(tonic::Response::into_inner)
    }

    async fn locate(&mut self, content: &[u8]) -> Result<LocateReply, Status> {
        self.0
            .locate(LocateRequest { content: content.to_vec(), ..LocateRequest::default() })
            .await
            .map(tonic::Response::into_inner)
    }

    async fn locate_as(&mut self, request: LocateRequest) -> Result<LocateReply, Status> {
        self.0.locate(request).await.map(tonic::Response::into_inner)
    }

    /// All paths, each with the ids of its sources.
    async fn all(&mut self) -> Vec<(String, Vec<String>)> {
        let found = self.search("*", false).await.unwrap().found;
        found.into_iter().map(|Found { path, source_ids, .. }| (path, source_ids)).collect()
    }
}

fn joining(peer_id: &str, identity: u8) -> JoinRequest {
    JoinRequest {
        peer_id: peer_id.to_owned(),
        identity: vec![identity; 32],
        port: 5000,
        zone: "us-east-1a".to_owned(),
        advertise: String::new(),
    }
}

fn file(path: &str, text: &str) -> File {
    let content = blake3::hash(text.as_bytes()).as_bytes().to_vec();
    File { path: path.to_owned(), content, size: text.len() as u64 }
}

fn download(text: &str) -> Download {
    let File { content, size, .. } = file("x", text);
    Download { content, size }
}

fn row(path: &str, ids: &[&str]) -> (String, Vec<String>) {
    (path.to_owned(), ids.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused<T>(result: Result<T, Status>, code: Code, part: &str) {
    let Err(status) = result else { panic!("not refused") };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(part), "{status:?}");
}

#[tokio::test]
async fn what_one_peer_announces_another_finds_and_locates() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let a = client.join("a", 1).await.unwrap();
    assert_eq!((a.lease_millis, a.address.as_str()), (15_000, "127.0.0.1:5000"));
    assert!(a.token.len() <= limits::TOKEN_BYTES && !a.token.is_empty());
    let b = client.join("b", 2).await.unwrap();
    client.announce(&a.token, &[("d/Café 1.txt", "one"), ("y", "two")], &[]).await.unwrap();
    client.announce(&b.token, &[("other name", "one")], &[]).await.unwrap();
    let reply = client.search("CAFÉ", false).await.unwrap();
    let File { path, content, size } = file("d/Café 1.txt", "one");
    let source_ids = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(reply.found, [Found { path, content: content.clone(), size, sources: 2, source_ids }]);
    assert!(reply.cursor.is_empty());
    assert_eq!(client.search("y", true).await.unwrap().found.len(), 1);
    for nothing in ["Y", "../y", "*", "y/"] {
        assert!(client.search(nothing, true).await.unwrap().found.is_empty(), "{nothing}");
    }
    let located = client.locate(&content).await.unwrap();
    assert_eq!(located.paths, ["d/Café 1.txt", "other name"]);
    let mut ids: Vec<_> = located.sources.iter().map(|source| source.peer_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b"]);
    assert!(located.sources.iter().all(|source| source.size == 3 && source.address == "127.0.0.1:5000"));
    assert_eq!(client.locate(&[0; 32]).await.unwrap(), LocateReply::default());
    line(&tracker, "join peer=a address=127.0.0.1:5000 zone=us-east-1a took_over=false");
}

#[tokio::test]
async fn a_search_goes_on_behind_its_last_row_until_all_were_named_once() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let a = client.join("a", 1).await.unwrap().token;
    let b = client.join("b", 2).await.unwrap().token;
    let paths: Vec<String> = (0..2300).map(|number| format!("logs/{number:04}")).collect();
    for (token, text) in [(&a, "one"), (&b, "two")] {
        for paths in paths.chunks(limits::ANNOUNCE_FILES) {
            let added: Vec<_> = paths.iter().map(|path| (path.as_str(), text)).collect();
            client.announce(token, &added, &[]).await.unwrap();
        }
    }
    let mut cursors = Vec::new();
    let mut all = async |text: &str| {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), Vec::new(), 0);
        loop {
            let request = SearchRequest { text: text.into(), cursor, ..SearchRequest::default() };
            let reply = client.0.search(request).await.unwrap().into_inner();
            seen.extend(reply.found.into_iter().map(|row| (row.path, row.content)));
            (cursor, pages) = (reply.cursor, pages + 1);
            if cursor.is_empty() {
                return (seen, pages);
            }
            cursors.push(cursor.clone());
        }
    };
    let mut expected: Vec<_> =
        paths.iter().flat_map(|path| ["one", "two"].map(|text| (path.clone(), file(path, text).content))).collect();
    expected.sort();
    let (seen, pages) = all("logs/*").await;
    assert!(seen == expected && pages == 5, "{} rows on {pages} pages", seen.len());
    let (mut seen, pages) = all("gs/").await;
    seen.sort();
    assert!(seen == expected && pages == 92, "{} rows on {pages} pages", seen.len());
    let (ordered, ranked) = (cursors[0].clone(), cursors[10].clone());
    let long = [&ordered[..], &[b'x'; 2000]].concat();
    for (text, cursor) in [("x*", ranked), ("x", ordered), ("x*", long), ("x", vec![0]), ("x", b"r\x09".to_vec())] {
        let bad = SearchRequest { text: text.into(), cursor, ..SearchRequest::default() };
        refused(client.0.search(bad).await, Code::InvalidArgument, "cursor");
    }
}

#[tokio::test]
async fn a_search_says_where_its_rows_are_and_of_the_askers_zone_first() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let paths: Vec<String> = (0..500).map(|number| format!("f{number:03}")).collect();
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), path.as_str())).collect();
    for number in 0..20 {
        let id = format!("p{number:02}");
        let zone = if number % 10 == 0 { "near" } else { "far" };
        let join = JoinRequest { zone: zone.into(), ..joining(&id, number) };
        let token = client.join_as(join).await.unwrap().token;
        client.announce(&token, &files, &[]).await.unwrap();
    }
    let mut chosen = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let request =
            SearchRequest { text: "f*".into(), places: true, zone: "near".into(), ..SearchRequest::default() };
        let reply = client.0.search(request).await.unwrap().into_inner();
        assert_eq!(reply.found.len(), 500);
        for row in &reply.found {
            assert_eq!((row.sources, row.source_ids.len()), (20, limits::ROW_PLACES));
            let mut near = row.source_ids[..2].to_vec();
            near.sort();
            assert_eq!(near, ["p00", "p10"]);
        }
        let ids: Vec<_> = reply.places.iter().map(|place| place.peer_id.clone()).collect();
        assert_eq!(ids, reply.found[0].source_ids, "each is named once");
        assert!(reply.places.iter().all(|place| place.address == "127.0.0.1:5000"));
        chosen.extend(ids);
    }
    assert!(chosen.len() > 10, "askers are spread over the sources: {chosen:?}");
    // Where each row has sources of its own, a reply ends before there are too many.
    for number in 0..100 {
        let token = client.join(&format!("q{number}"), 100 + number).await.unwrap().token;
        client.announce(&token, &[(&format!("own{number:03}"), &number.to_string())], &[]).await.unwrap();
    }
    let request = SearchRequest { text: "own*".into(), places: true, ..SearchRequest::default() };
    let reply = client.0.search(request).await.unwrap().into_inner();
    assert_eq!((reply.found.len(), reply.places.len()), (limits::REPLY_PLACES, limits::REPLY_PLACES));
    assert!(!reply.cursor.is_empty());
}

#[tokio::test]
async fn downloaders_of_a_content_are_given_to_each_other() {
    let tracker = tracker(&["--lease", "4"]);
    let mut client = Client::of(&tracker).await;
    let seed = client.join("seed", 1).await.unwrap().token;
    client.announce(&seed, &[("x", "one")], &[]).await.unwrap();
    let mut tokens = Vec::new();
    for number in 0..12_u8 {
        let token = client.join(&format!("p{number}"), number).await.unwrap().token;
        let downloading = vec![download("one"), download(&format!("only {number}"))];
        let request = AnnounceRequest { token: token.clone(), downloading, ..AnnounceRequest::default() };
        client.announce_as(request).await.unwrap();
        tokens.push(token);
    }
    let Download { content, size } = download("one");
    let ask = |token: &[u8], dead: &[&str]| {
        let dead = dead.iter().map(ToString::to_string).collect();
        LocateRequest { content: content.clone(), token: token.to_vec(), dead }
    };
    for (number, token) in tokens.iter().enumerate() {
        let reply = client.locate_as(ask(token, &[])).await.unwrap();
        let (partial, whole): (Vec<_>, Vec<_>) = reply.sources.iter().partition(|source| source.partial);
        assert_eq!((partial.len(), whole.len()), (limits::NEIGHBOURS, 1));
        assert!(whole[0].peer_id == "seed" && partial.iter().all(|source| source.peer_id != format!("p{number}")));
        assert!(reply.sources.iter().all(|source| source.size == size && source.address == "127.0.0.1:5000"));
        assert_eq!(reply.paths, ["x"]);
        let again = client.locate_as(ask(token, &[])).await.unwrap();
        assert!(again.sources.starts_with(&reply.sources), "the same again, and maybe one that few have");
        assert!(again.sources.len() <= reply.sources.len() + 1);
        let dead = partial[3].peer_id.clone();
        let other = client.locate_as(ask(token, &[&dead])).await.unwrap();
        let mut kept = reply.sources.clone();
        kept.retain(|source| source.peer_id != dead);
        assert!(kept.iter().all(|source| other.sources.contains(source)));
        let room = limits::NEIGHBOURS + 1..=limits::NEIGHBOURS + limits::SEEDS;
        assert!(room.contains(&other.sources.len()) && other.sources.iter().all(|source| source.peer_id != dead));
        assert_eq!(client.locate_as(ask(&[], &["seed"])).await.unwrap().sources, [], "no partial ones to a stranger");
    }
    // Whoever only shares sees who holds it whole, and a stranger nothing.
    assert_eq!(client.locate_as(ask(&seed, &[])).await.unwrap().sources, []);
    refused(client.locate_as(ask(&[7; 16], &[])).await, Code::NotFound, "join again");
    refused(client.locate_as(ask(&[7; limits::TOKEN_BYTES + 1], &[])).await, Code::InvalidArgument, "token");
    client.join("p0", 0).await.unwrap();
    refused(client.locate_as(ask(&tokens[0], &[])).await, Code::Aborted, "newer copy");

    // One is whole, one has stopped, one has left, the others die.
    client.announce(&tokens[1], &[("copy", "one")], &[]).await.unwrap();
    let stopped = vec![content.clone()];
    let request = AnnounceRequest { token: tokens[2].clone(), stopped, ..AnnounceRequest::default() };
    client.announce_as(request).await.unwrap();
    client.leave(&tokens[3]).await.unwrap();
    let reply = client.locate_as(ask(&tokens[11], &[])).await.unwrap();
    for gone in ["p0", "p2", "p3", "p11"] {
        assert!(reply.sources.iter().all(|source| source.peer_id != gone), "{gone}");
    }
    assert!(reply.sources.iter().any(|source| source.peer_id == "p1" && !source.partial));
    assert_eq!(reply.sources.iter().filter(|source| source.partial).count(), 7, "all there are");
    assert_eq!(reply.paths, ["copy", "x"]);
    let begun = Instant::now();
    while !client.locate_as(ask(&tokens[11], &[])).await.unwrap().sources.is_empty() {
        client.renew(&tokens[11]).await.unwrap();
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_peer_that_dies_is_gone_from_search_within_one_lease() {
    let tracker = tracker(&["--lease", "1"]);
    let mut client = Client::of(&tracker).await;
    let dead = client.join("dead", 1).await.unwrap().token;
    let alive = client.join("alive", 2).await.unwrap().token;
    client.announce(&alive, &[("x", "1")], &[]).await.unwrap();
    let sent = Instant::now();
    client.announce(&dead, &[("x", "1")], &[]).await.unwrap();
    let answered = Instant::now();
    // The lease began between these two, so no allowance is needed for a busy machine.
    let lease = Duration::from_secs(1);
    loop {
        client.renew(&alive).await.unwrap();
        let asked = Instant::now();
        if client.all().await == [row("x", &["alive"])] {
            assert!(sent.elapsed() >= lease, "gone too soon");
            break;
        }
        assert!(asked < answered + lease, "still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refused(client.renew(&dead).await, Code::NotFound, "join again");
    // Without anyone asking, it is noticed all the same.
    line(&tracker, "expire peer=dead");
    line(&tracker, "expire peer=alive");
}

#[tokio::test]
async fn a_peer_that_leaves_is_gone_at_once() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    client.announce(&token, &[("x", "1")], &[]).await.unwrap();
    client.leave(&token).await.unwrap();
    assert_eq!(client.all().await, []);
    refused(client.leave(&token).await, Code::NotFound, "join again");
    line(&tracker, "leave peer=a");
    // The id is free for anyone.
    client.join("a", 2).await.unwrap();
}

#[tokio::test]
async fn another_identity_cannot_take_a_live_id() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    client.announce(&token, &[("x", "1")], &[]).await.unwrap();
    refused(client.join("a", 2).await, Code::AlreadyExists, "another live peer has the id a");
    assert_eq!(client.all().await, [row("x", &["a"])]);
    client.renew(&token).await.unwrap();
    line(&tracker, "refuse call=join from=127.0.0.1 code=AlreadyExists");
}

#[tokio::test]
async fn the_superseded_copy_is_told_aborted() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let old = client.join("a", 1).await.unwrap().token;
    client.announce(&old, &[("x", "1")], &[]).await.unwrap();
    let new = client.join("a", 1).await.unwrap().token;
    assert_eq!(client.all().await, [], "the new one starts with no files");
    refused(client.renew(&old).await, Code::Aborted, "newer copy");
    refused(client.announce(&old, &[("y", "1")], &[]).await, Code::Aborted, "newer copy");
    refused(client.leave(&old).await, Code::Aborted, "newer copy");
    client.announce(&new, &[("x", "1")], &[]).await.unwrap();
    assert_eq!(client.all().await, [row("x", &["a"])]);
}

#[tokio::test]
async fn a_stranger_without_the_token_changes_nothing() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    client.announce(&token, &[("x", "1")], &[]).await.unwrap();
    // Sealed for another id, and that put in place of it.
    let mut near = client.join("b", 2).await.unwrap().token;
    *near.last_mut().unwrap() = b'a';
    let last = token.len() - 1;
    for (wrong, code) in [
        (&near[..], Code::NotFound),
        (&[0; 16], Code::NotFound),
        (&[0; limits::TOKEN_BYTES], Code::NotFound),
        (&token[..last], Code::NotFound),
        (&[&token[..], &[0]].concat(), Code::NotFound),
        (&[], Code::InvalidArgument),
        (&[0; limits::TOKEN_BYTES + 1], Code::InvalidArgument),
    ] {
        refused(client.announce(wrong, &[("y", "1")], &["x"]).await, code, "join");
        refused(client.renew(wrong).await, code, "join");
        refused(client.leave(wrong).await, code, "join");
    }
    assert_eq!(client.all().await, [row("x", &["a"])]);
}

#[tokio::test]
async fn a_restarted_tracker_answers_not_found_so_that_peers_join_again() {
    let mut tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    tracker.kill();
    // At once, and at the same address: its old connections still linger there.
    let again = support::tracker(&["--listen", &tracker.address.to_string()]);
    let mut client = Client::of(&again).await;
    refused(client.renew(&token).await, Code::NotFound, "join again");
    refused(client.announce(&token, &[("x", "1")], &[]).await, Code::NotFound, "join again");
    let token = client.join("a", 1).await.unwrap().token;
    client.announce(&token, &[("x", "1")], &[]).await.unwrap();
    assert_eq!(client.all().await, [row("x", &["a"])]);
}

#[tokio::test]
async fn a_bad_value_in_any_field_is_named_and_changes_nothing() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let good = joining("b", 2);
    let long = "x".repeat(65);
    for (request, part) in [
        (JoinRequest { peer_id: String::new(), ..good.clone() }, "peer_id"),
        (JoinRequest { peer_id: long.clone(), ..good.clone() }, "peer_id"),
        (JoinRequest { peer_id: "a\nexpire peer=b".into(), ..good.clone() }, "peer_id"),
        (JoinRequest { peer_id: "search".into(), ..good.clone() }, "kept for commands"),
        (JoinRequest { peer_id: "x".repeat(10_000), ..good.clone() }, "peer_id"),
        (JoinRequest { identity: vec![], ..good.clone() }, "identity"),
        (JoinRequest { identity: vec![0; 33], ..good.clone() }, "identity"),
        (JoinRequest { port: 0, ..good.clone() }, "port"),
        (JoinRequest { port: 65_536, ..good.clone() }, "port"),
        (JoinRequest { port: u32::MAX, ..good.clone() }, "port"),
        (JoinRequest { zone: "a b".into(), ..good.clone() }, "zone"),
        (JoinRequest { zone: long, ..good.clone() }, "zone"),
    ] {
        refused(client.join_as(request).await, Code::InvalidArgument, part);
    }
    let advertised = JoinRequest { advertise: "10.0.0.1".into(), ..good };
    refused(client.join_as(advertised).await, Code::PermissionDenied, "--allow-advertise");

    let token = client.join("a", 1).await.unwrap().token;
    client.announce(&token, &[("x", "1")], &[]).await.unwrap();
    let (first, good) = (file("first", "1"), file("y", "2"));
    let long_path = "x/".repeat(512) + "x";
    let bad_paths =
        ["", "/", "/etc/passwd", "../x", "a/../../b", ".ssh/id", "a//b", "a\0b", "a\nb", "\u{9b}", &long_path];
    for path in bad_paths {
        let bad = File { path: path.to_owned(), ..good.clone() };
        let added = vec![first.clone(), bad];
        let request =
            AnnounceRequest { token: token.clone(), added, removed: vec!["x".into()], ..AnnounceRequest::default() };
        refused(client.announce_as(request).await, Code::InvalidArgument, "added[1].path");
        let removed = vec!["x".into(), path.to_owned()];
        let request = AnnounceRequest { token: token.clone(), removed, ..AnnounceRequest::default() };
        refused(client.announce_as(request).await, Code::InvalidArgument, "removed[1]");
    }
    for (bad, part) in [
        (File { content: vec![], ..good.clone() }, "added[1].content"),
        (File { content: vec![1; 31], ..good.clone() }, "added[1].content"),
        (File { content: vec![1; 100_000], ..good.clone() }, "added[1].content"),
        (File { size: u64::MAX, ..good.clone() }, "added[1].size"),
        (File { size: (1 << 62) + 1, ..good.clone() }, "added[1].size"),
        (File { size: 7, ..file("z", "1") }, "two sizes"),
    ] {
        let request =
            AnnounceRequest { token: token.clone(), added: vec![first.clone(), bad], ..AnnounceRequest::default() };
        refused(client.announce_as(request).await, Code::InvalidArgument, part);
    }
    let many = vec![good.clone(); limits::ANNOUNCE_FILES + 1];
    let request = AnnounceRequest { token: token.clone(), added: many, ..AnnounceRequest::default() };
    refused(client.announce_as(request).await, Code::ResourceExhausted, "at most 1000 files");
    let many = vec![String::new(); 500_000];
    let request = AnnounceRequest { token: token.clone(), removed: many, ..AnnounceRequest::default() };
    refused(client.announce_as(request).await, Code::ResourceExhausted, "at most 1000 files");
    let many = vec!["y".repeat(1 << 20); 3];
    let request = AnnounceRequest { token: token.clone(), removed: many, ..AnnounceRequest::default() };
    refused(client.announce_as(request).await, Code::ResourceExhausted, "at most 2097152 bytes");

    let download = download("2");
    for (bad, part) in [
        (Download { content: vec![1; 31], ..download.clone() }, "downloading[1].content"),
        (Download { content: vec![1; 100_000], ..download.clone() }, "downloading[1].content"),
        (Download { size: u64::MAX, ..download.clone() }, "downloading[1].size"),
        (Download { size: 7, ..download.clone() }, "two sizes"),
        (Download { size: 7, ..self::download("1") }, "two sizes"),
    ] {
        let downloading = vec![download.clone(), bad];
        let request = AnnounceRequest { token: token.clone(), downloading, ..AnnounceRequest::default() };
        refused(client.announce_as(request).await, Code::InvalidArgument, part);
    }
    let stopped = vec![vec![1; 32], vec![]];
    let request = AnnounceRequest { token: token.clone(), stopped, ..AnnounceRequest::default() };
    refused(client.announce_as(request).await, Code::InvalidArgument, "stopped[1]");
    let (downloading, stopped) = (vec![download; 600], vec![vec![1; 32]; 401]);
    let request = AnnounceRequest { token: token.clone(), downloading, stopped, ..AnnounceRequest::default() };
    refused(client.announce_as(request).await, Code::ResourceExhausted, "at most 1000 files");
    for number in [0_u64, 1] {
        let distinct = |at: u64| Download { content: blake3::hash(&at.to_be_bytes()).as_bytes().to_vec(), size: 1 };
        let downloading = (number..number + limits::ANNOUNCE_FILES as u64).map(distinct).collect();
        let request = AnnounceRequest { token: token.clone(), downloading, ..AnnounceRequest::default() };
        let announced = client.announce_as(request).await;
        if number == 0 { announced.unwrap() } else { refused(announced, Code::ResourceExhausted, "1000 downloads") }
    }

    for exact in [true, false] {
        refused(client.search("", exact).await, Code::InvalidArgument, "text");
        refused(client.search(&"x".repeat(1025), exact).await, Code::InvalidArgument, "text");
        refused(client.search(&"x".repeat(100_000), exact).await, Code::ResourceExhausted, "at most 16384 bytes");
    }
    for hostile in ["\0", "\u{202e}", "a\nb", "?*?*?*?*?*?*?*?*?", "[[[", "\\", "%"] {
        client.search(hostile, false).await.unwrap();
    }
    for content in [&[][..], &[0; 31], &[0; 33]] {
        refused(client.locate(content).await, Code::InvalidArgument, "content");
    }
    for (dead, code, part) in [
        (vec!["p".to_owned(), "a b".to_owned()], Code::InvalidArgument, "dead[1]"),
        (vec!["p".to_owned(); limits::DEAD + 1], Code::ResourceExhausted, "at most 16"),
    ] {
        let request = LocateRequest { content: vec![0; 32], dead, ..LocateRequest::default() };
        refused(client.locate_as(request).await, code, part);
    }
    assert_eq!(client.all().await, [row("x", &["a"])]);
    // The log holds one line a refusal, whatever was in the request.
    assert!(tracker.lines().iter().all(|line| !line.text.starts_with("expire")));
}

#[tokio::test]
async fn an_address_to_advertise_is_taken_only_where_it_is_allowed_and_good() {
    let tracker = tracker(&["--allow-advertise"]);
    let mut client = Client::of(&tracker).await;
    let advertise = |address: &str| JoinRequest { advertise: address.to_owned(), ..joining("a", 1) };
    for (address, given) in [("52.1.2.3", "52.1.2.3:5000"), ("2001:db8::1", "[2001:db8::1]:5000")] {
        assert_eq!(client.join_as(advertise(address)).await.unwrap().address, given);
    }
    for bad in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "example.com"] {
        refused(client.join_as(advertise(bad)).await, Code::InvalidArgument, "advertise");
    }
}

#[tokio::test]
async fn the_largest_announce_fits_and_a_reply_is_never_longer_than_a_client_takes() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let ids: Vec<_> = (0..limits::NAMED).map(|number| format!("{number:0>64}")).collect();
    for id in &ids {
        let token = client.join(id, 1).await.unwrap().token;
        let added = (0..limits::ANNOUNCE_FILES).map(|number| file(&format!("short/{number:04}"), "1")).collect();
        client.announce_as(AnnounceRequest { token, added, ..AnnounceRequest::default() }).await.unwrap();
    }
    let reply = client.search("short*", false).await.unwrap();
    assert!(!reply.cursor.is_empty() && reply.found.len() > 100, "{}", reply.found.len());
    assert!(reply.found.is_sorted_by_key(|found| &found.path) && reply.found[7].path == "short/0007");
    assert!(reply.found.iter().all(|found| found.source_ids == ids));
    assert!(client.search("short/000*", false).await.unwrap().cursor.is_empty());

    let token = client.join("a", 1).await.unwrap().token;
    let part = "é".repeat(125);
    let path = |number| format!("{part}/{part}/{part}/{part}/{number:019}");
    let added = (0..limits::ANNOUNCE_FILES).map(|number| file(&path(number), "2")).collect::<Vec<_>>();
    assert_eq!(added[0].path.len(), limits::PATH_BYTES - 1);
    client.announce_as(AnnounceRequest { token, added, ..AnnounceRequest::default() }).await.unwrap();
    let reply = client.search("*É*", false).await.unwrap();
    assert_eq!((reply.found.len(), reply.cursor.len()), (limits::SEARCH_RESULTS, 0));
    assert!(!client.search("*", false).await.unwrap().cursor.is_empty());
}

#[tokio::test]
async fn garbage_and_silence_on_other_connections_keep_nobody_waiting() {
    let tracker = tracker(&[]);
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(tracker.address).unwrap()).collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 100_000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut stream = TcpStream::connect(tracker.address).unwrap();
        // It may well be closed before all is sent.
        let _ = stream.write_all(garbage);
        drop(stream);
    }
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    client.renew(&token).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn an_announce_of_a_million_empty_rows_is_refused_before_it_takes_memory() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    let added = vec![File::default(); 1_000_000];
    refused(
        client.announce_as(AnnounceRequest { token: token.clone(), added, ..AnnounceRequest::default() }).await,
        Code::ResourceExhausted,
        "at most 1000 files",
    );
    let peak = tracker.memory("VmHWM");
    assert!(peak < 32e6, "{peak}");
    client.renew(&token).await.unwrap();
}

#[tokio::test]
async fn stalled_announces_keep_nobody_from_renewing_and_end() {
    let tracker = tracker(&[]);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    let begun = Instant::now();
    let stalled: Vec<_> =
        (0..2 * limits::ANNOUNCES).map(|_| BegunCall::new(tracker.address, "Announce", 1 << 20)).collect();
    client.renew(&token).await.unwrap();
    client.search("x", false).await.unwrap();
    // All slots are taken: what waits for one may itself run out of time, and then is tried again.
    while let Err(status) = client.announce(&token, &[("x", "1")], &[]).await {
        assert_eq!(status.code(), Code::Cancelled, "{status:?}");
        assert!(begun.elapsed() < limits::RPC_TIME * 3, "{status:?}");
        client.renew(&token).await.unwrap();
    }
    assert_eq!(client.all().await, [row("x", &["a"])]);
    drop(stalled);
}

#[tokio::test]
async fn a_tracker_out_of_descriptors_serves_on_and_recovers() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" --listen 127.0.0.1:0"]).arg(binary("tracker"));
    let tracker = tracker_by(command);
    let mut client = Client::of(&tracker).await;
    let token = client.join("a", 1).await.unwrap().token;
    let many: Vec<_> = (0..60).map(|_| TcpStream::connect(tracker.address).unwrap()).collect();
    line(&tracker, "accept failed reason=");
    client.renew(&token).await.unwrap();
    drop(many);
    Client::of(&tracker).await.renew(&token).await.unwrap();
}

#[tokio::test]
async fn a_signal_ends_it_with_success_also_while_clients_are_connected() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut tracker = tracker(&[]);
        let mut client = Client::of(&tracker).await;
        client.join("a", 1).await.unwrap();
        let stalled = BegunCall::new(tracker.address, "Announce", 1 << 20);
        let silent = TcpStream::connect(tracker.address).unwrap();
        Client::of(&tracker).await.join("b", 1).await.unwrap();
        tracker.signal(signal);
        assert!(tracker.exited().success());
        assert!(client.join("c", 1).await.is_err());
        drop((stalled, silent));
    }
}

#[test]
fn a_wrong_command_line_gets_one_clear_line() {
    let run = |args: &[&str]| run(tracker_command(args), "");
    let taken = tracker(&[]);
    let address = taken.address.to_string();
    for (args, code, part) in [
        (&["--wat"][..], 2, "unknown flag --wat"),
        (&["extra"], 2, "unexpected `extra`"),
        (&["--lease", "0"], 2, "1 to 3600"),
        (&["--lease", "3601"], 2, "1 to 3600"),
        (&["--lease", "x"], 2, "--lease x"),
        (&["--lease"], 2, "--lease needs a value"),
        (&["--lease", "5", "--lease", "6"], 2, "--lease is given twice"),
        (&["--allow-advertise=1"], 2, "--allow-advertise takes no value"),
        (&["--listen", "50051"], 2, "--listen 50051"),
        (&["--listen", "127.0.0.1:65536"], 2, "--listen 127.0.0.1:65536"),
        (&["--listen", &address], 1, "another tracker runs here"),
        (&["--listen", "192.0.2.1:1"], 1, "no interface has this address"),
    ] {
        let Finished { code: exited, err: said, .. } = run(args);
        assert_eq!(exited, Some(code), "{args:?} {said}");
        assert!(said.starts_with("error: ") && said.contains(part) && said.lines().count() == 1, "{args:?} {said}");
    }
    assert!(run(&["--help"]).out.contains("[ENJAMBRE_ALLOW_ADVERTISE]"));
    assert!(run(&["--version"]).out.starts_with("tracker "));
    let mut by_variables = tracker_command::<&str>([]);
    by_variables.envs([("ENJAMBRE_LISTEN", "127.0.0.1:0"), ("ENJAMBRE_LEASE", "7")]);
    assert!(line(&tracker_by(by_variables), "listening").ends_with(", lease 7 s"));
}
