//! Running a tracker: its health, its metrics, what it does when it is asked too much, and how it ends.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
    process::Command,
    time::{Duration, Instant},
};

use enjambre::{
    limits,
    proto::{
        AnnounceRequest, File, JoinRequest, LeaveRequest, RenewRequest, SearchRequest, tracker_client::TrackerClient,
    },
};
use support::*;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

async fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).unwrap().timeout(PATIENCE).connect().await.unwrap()
}

async fn client(tracker: &Process) -> TrackerClient<Channel> {
    TrackerClient::new(channel(tracker.address).await)
}

fn joining(peer_id: &str) -> JoinRequest {
    let identity = blake3::hash(peer_id.as_bytes()).as_bytes().to_vec();
    JoinRequest { peer_id: peer_id.into(), identity, port: 5000, ..JoinRequest::default() }
}

fn searching(text: &str) -> SearchRequest {
    SearchRequest { text: text.into(), ..SearchRequest::default() }
}

/// A tracker with metrics, and where they are.
fn monitored(args: &[&str]) -> (Process, SocketAddr) {
    let tracker = tracker(&[&["--metrics-listen", "127.0.0.1:0"], args].concat());
    let at = tracker.wait_for_line(0, "where the metrics are", |line| {
        line.text.strip_prefix("metrics on http://")?.strip_suffix("/metrics")?.parse().ok()
    });
    (tracker, at)
}

/// After how many milliseconds a refused caller may come back.
#[track_caller]
fn retry_after(status: &Status) -> u64 {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let millis = status.metadata().get("retry-after-ms").unwrap_or_else(|| panic!("no hint: {status:?}"));
    let millis: u64 = millis.to_str().unwrap().parse().unwrap();
    assert!(status.message().ends_with(&format!("try again in {millis} ms")), "{status:?}");
    millis
}

// ---- metrics -------------------------------------------------------------------------------

#[tokio::test]
async fn metrics_tell_what_happened() {
    let (tracker, at) = monitored(&["--lease", "1"]);
    let fresh = metrics(at);
    assert_eq!(value(&fresh, "enjambre_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    let zero = ["enjambre_peers", "enjambre_holdings", "enjambre_connections", "enjambre_lease_expiries_total"];
    assert!(zero.iter().all(|name| value(&fresh, name, &[]) == 0.0));
    assert!(value(&fresh, "process_resident_memory_bytes", &[]) > 500_000.0);

    let mut tracked = client(&tracker).await;
    let token = tracked.join(joining("a")).await.unwrap().into_inner().token;
    let file = |path: &str, byte| File { path: path.into(), content: vec![byte; 32], size: 1 };
    let added = vec![file("x", 1), file("y", 1), file("z", 2)];
    tracked.announce(AnnounceRequest { token: token.clone(), added, ..AnnounceRequest::default() }).await.unwrap();
    tracked.search(searching("x")).await.unwrap();
    tracked.search(searching("")).await.unwrap_err();
    let now = metrics(at);
    for (name, expected) in [
        ("enjambre_peers", 1.0),
        ("enjambre_holdings", 3.0),
        ("enjambre_paths", 3.0),
        ("enjambre_contents", 2.0),
        ("enjambre_downloads", 0.0),
        ("enjambre_connections", 1.0),
        ("enjambre_degraded", 0.0),
    ] {
        assert_eq!(value(&now, name, &[]), expected, "{name}");
    }
    let requests = |call, code| value(&now, "enjambre_requests_total", &[("call", call), ("code", code)]);
    assert_eq!((requests("join", "OK"), requests("announce", "OK"), requests("leave", "OK")), (1.0, 1.0, 0.0));
    assert_eq!((requests("search", "OK"), requests("search", "INVALID_ARGUMENT")), (1.0, 1.0));
    assert_eq!(value(&now, "enjambre_request_seconds_count", &[("call", "search")]), 2.0);
    assert!(value(&now, "enjambre_request_seconds_sum", &[("call", "search")]) > 0.0);
    wait_for(PATIENCE, "the lease ends", || value(&metrics(at), "enjambre_lease_expiries_total", &[]) == 1.0);

    // One call more, and no line more than there were: labels do not grow with what strangers send.
    let lines = |at| get(at, "/metrics").text().lines().count();
    let before = lines(at);
    for number in 0..20 {
        tracked.join(joining(&format!("p{number}"))).await.unwrap();
    }
    assert_eq!(lines(at), before);
    drop(tracked);
    let begun = Instant::now();
    while value(&metrics(at), "enjambre_connections", &[]) > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "the connection is gone");
        // That it is closed is this runtime's work.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_peer_held_is_released_when_it_leaves_and_not_when_a_lease_ends() {
    let (tracker, at) = monitored(&["--lease", "3600"]);
    let mut tracked = client(&tracker).await;
    let file = |number| File { path: format!("{number}"), content: vec![1; 32], size: 1 };
    let added: Vec<_> = (0..limits::ANNOUNCE_FILES).map(file).collect();
    let mut held = async || {
        let token = tracked.join(joining("a")).await.unwrap().into_inner().token;
        let request = AnnounceRequest { token: token.clone(), added: added.clone(), ..AnnounceRequest::default() };
        tracked.announce(request).await.unwrap();
        token
    };
    let paths = |at| value(&metrics(at), "enjambre_paths", &[]);
    let _superseded = held().await;
    let token = held().await;
    assert_eq!(paths(at), limits::ANNOUNCE_FILES as f64);
    tracked.leave(LeaveRequest { token }).await.unwrap();
    wait_for(PATIENCE, "no path is left", || paths(at) == 0.0);
}

#[test]
fn a_call_that_runs_out_of_time_is_counted() {
    let (tracker, at) = monitored(&[]);
    let _stalled = BegunCall::new(tracker.address, "Announce", 100);
    let cancelled = (
        "enjambre_requests_total".to_owned(),
        vec![("call".to_owned(), "announce".to_owned()), ("code".to_owned(), "CANCELLED".to_owned())],
    );
    wait_for(PATIENCE, "it is cancelled", || metrics(at).get(&cancelled) == Some(&1.0));
}

#[test]
fn the_monitor_answers_while_others_stall_and_send_garbage() {
    let (_tracker, at) = monitored(&[]);
    assert_eq!(get(at, "/healthz").text(), "ok\n");
    for (method, target, status) in [
        ("GET", "/", 404),
        ("GET", "/metrics/x", 404),
        ("GET", "/metrics?x=1", 200),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
    ] {
        assert_eq!(request(at, method, target, &[], b"").status, status, "{method} {target}");
    }
    let head = request(at, "HEAD", "/metrics", &[], b"");
    assert!(head.status == 200 && head.header("content-length").unwrap().parse::<u32>().unwrap() > 1000);
    for (garbage, status) in [
        (b"GET /healthz\r\n\r\n".to_vec(), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n".to_vec(), 400),
        ([&b"GET /healthz HTTP/1.1\r\nX: "[..], &[b'x'; limits::MONITOR_HEAD_BYTES]].concat(), 431),
        ([&b"GET /healthz HTTP/1.1\r\n"[..], &b"X: y\r\n".repeat(100), b"\r\n"].concat(), 431),
    ] {
        let mut connection = Connection::open(at);
        // It may well be closed before all is read.
        let _ = connection.send(&garbage);
        match connection.answer() {
            Ok(answer) => assert_eq!(answer.status, status, "{garbage:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{garbage:?}"),
        }
    }
    let mut stalled: Vec<_> = (0..10 * limits::MONITOR_CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(at).unwrap();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(get(at, "/healthz").status, 200);
    assert!(begun.elapsed() < limits::MONITOR_TIME / 2, "who stalls gives way: {:?}", begun.elapsed());
    let mut last = Connection::open(at);
    last.send("GET /healthz HTTP/1.1\r\n").unwrap();
    assert!(last.is_closed_within(limits::MONITOR_TIME * 2), "nobody stalls for ever");
    stalled.clear();
}

// ---- health and reflection -----------------------------------------------------------------

#[cfg(feature = "health")]
mod health {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

    use super::*;

    fn of(service: &str) -> HealthCheckRequest {
        HealthCheckRequest { service: service.into() }
    }

    #[tokio::test]
    async fn health_says_serving_until_the_tracker_drains() {
        let (mut tracker, at) = monitored(&[]);
        let mut health = HealthClient::new(channel(tracker.address).await);
        for service in ["", "enjambre.v1.Tracker", "enjambre.v1.Tracker/store"] {
            let answer = health.check(of(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        assert_eq!(health.check(of("nobody")).await.unwrap_err().code(), Code::NotFound);
        let mut watches = Vec::new();
        for (service, first) in [
            ("", ServingStatus::Serving),
            ("enjambre.v1.Tracker", ServingStatus::Serving),
            ("nobody", ServingStatus::ServiceUnknown),
        ] {
            let mut watch = health.watch(of(service)).await.unwrap().into_inner();
            assert_eq!(watch.message().await.unwrap().unwrap().status(), first, "{service}");
            watches.push(watch);
        }
        assert_eq!(get(at, "/healthz").text(), "ok\n");
        // What is not answered yet keeps the tracker for as long as it may take.
        let _stalled = BegunCall::new(tracker.address, "Announce", 100);
        wait_for(PATIENCE, "it is there", || value(&metrics(at), "enjambre_connections", &[]) == 2.0);
        tracker.signal(Signal::TERM);
        for watch in &mut watches[..2] {
            assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        }
        for watch in &mut watches {
            assert_eq!(watch.message().await.unwrap(), None, "the watch ends");
        }
        let draining = get(at, "/healthz");
        assert_eq!((draining.status, draining.text()), (503, "draining\n"));
        assert!(tracker.exited().success());
    }

    #[tokio::test]
    async fn only_so_many_watches_are_open_and_who_ends_one_makes_room() {
        let tracker = tracker(&[]);
        let mut open = Vec::new();
        let refused = loop {
            let mut health = HealthClient::new(channel(tracker.address).await);
            let mut refused = None;
            for _ in 0..limits::RPC_STREAMS {
                match health.watch(of("")).await {
                    Ok(watch) => open.push(watch.into_inner()),
                    Err(status) => refused = Some(status),
                }
            }
            if let Some(status) = refused {
                break status;
            }
            assert!(open.len() <= limits::TRACKER_STREAMS);
        };
        assert_eq!(open.len(), limits::TRACKER_STREAMS);
        retry_after(&refused);
        let mut health = HealthClient::new(channel(tracker.address).await);
        health.check(of("")).await.unwrap();
        drop(open);
        let begun = Instant::now();
        while health.watch(of("")).await.is_err() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(feature = "reflection")]
mod reflection {
    use super::*;

    /// Asks as a client of one version of the protocol does, and gives the services and the file of the
    /// tracker's own.
    macro_rules! ask {
        ($version:ident, $tracker:expr) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
            let requests = tonic::codegen::tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol("enjambre.v1.Tracker".into())),
            ]);
            let mut client = ServerReflectionClient::new(channel($tracker.address).await);
            let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
            let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::ListServicesResponse(services) = next().await else { panic!() };
            let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!() };
            let services: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
            (services, files.file_descriptor_proto.concat())
        }};
    }

    #[tokio::test]
    async fn a_client_without_our_proto_file_learns_the_protocol_by_reflection() {
        let tracker = tracker(&[]);
        let (v1, file) = ask!(v1, tracker);
        let (v1alpha, same) = ask!(v1alpha, tracker);
        assert!(v1.contains(&"enjambre.v1.Tracker".to_owned()) && v1alpha.contains(&v1[0]), "{v1:?} {v1alpha:?}");
        assert_eq!(v1.contains(&"grpc.health.v1.Health".to_owned()), cfg!(feature = "health"));
        assert_eq!(file, same);
        let text = String::from_utf8_lossy(&file);
        for part in ["LocateRequest", "peer_id", "Enters the swarm under an id, with no files yet."] {
            assert!(text.contains(part), "{part}");
        }
    }
}

#[tokio::test]
async fn what_there_is_not_is_unimplemented() {
    let tracker = tracker(&[]);
    for (path, is_there) in [
        ("/grpc.health.v1.Health/Check", cfg!(feature = "health")),
        ("/grpc.nothing.v1.Nothing/At", false),
        ("/enjambre.v1.Tracker/Nothing", false),
        ("/", false),
    ] {
        let mut grpc = tonic::client::Grpc::new(channel(tracker.address).await);
        grpc.ready().await.unwrap();
        let codec = enjambre::codec::BoundedCodec::<RenewRequest, enjambre::proto::RenewReply>::default();
        let asked = grpc.unary(tonic::Request::new(RenewRequest::default()), path.parse().unwrap(), codec).await;
        let is_unimplemented = asked.is_err_and(|status| status.code() == Code::Unimplemented);
        assert_eq!(is_unimplemented, !is_there, "{path}");
    }
}

// ---- too much ------------------------------------------------------------------------------

#[tokio::test]
async fn with_too_many_announces_in_memory_joins_and_announces_are_shed_and_nothing_else() {
    let (tracker, at) = monitored(&["--lease", "15"]);
    let mut tracked = client(&tracker).await;
    let token = tracked.join(joining("a")).await.unwrap().into_inner().token;
    let leaving = tracked.join(joining("b")).await.unwrap().into_inner().token;
    let begun = Instant::now();
    let stalled =
        |count: usize| -> Vec<_> { (0..count).map(|_| BegunCall::new(tracker.address, "Announce", 1 << 20)).collect() };
    let shed = |call: &str, reason: &str| {
        value(&metrics(at), "enjambre_requests_shed_total", &[("call", call), ("reason", reason)])
    };
    let _half = stalled(limits::QUEUED_BEFORE_JOINS);
    let mut hints = BTreeSet::new();
    for _ in 0..20 {
        let Err(status) = tracked.join(joining("c")).await else { continue };
        hints.insert(retry_after(&status));
    }
    assert!(hints.len() > 5, "nobody is told the same: {hints:?}");
    let most = limits::SHED_PAUSE.end.as_millis() as u64;
    assert!(hints.iter().all(|millis| (100..=most + 1).contains(millis)), "{hints:?}");
    assert!(shed("join", "load") > 5.0 && shed("announce", "load") == 0.0);
    let _others = stalled(limits::QUEUED);
    let announce = AnnounceRequest { token: token.clone(), removed: vec!["x".into()], ..AnnounceRequest::default() };
    // Those before it have to be there first.
    let status = loop {
        let announced = tokio::time::timeout(Duration::from_millis(100), tracked.announce(announce.clone())).await;
        if let Ok(Err(status)) = announced {
            break status;
        }
    };
    retry_after(&status);
    for _ in 0..50 {
        tracked.renew(RenewRequest { token: token.clone() }).await.unwrap();
        tracked.search(searching("x")).await.unwrap();
    }
    tracked.leave(LeaveRequest { token: leaving }).await.unwrap();
    assert!(begun.elapsed() < limits::RPC_TIME, "else nothing was stalled any more");
    assert!(["renew", "search", "leave"].iter().all(|call| shed(call, "load") == 0.0));
    tracker.wait_for_line(0, "it is logged", |line| {
        line.text.starts_with("refuse call=join from=127.0.0.1 code=ResourceExhausted reason=").then_some(())
    });
    // When those who stalled were cut off, everybody is let in again.
    let begun = Instant::now();
    while let Err(status) = tracked.join(joining("c")).await {
        retry_after(&status);
        assert!(begun.elapsed() < limits::RPC_TIME * 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn one_address_asks_only_so_much_and_others_and_its_renewals_are_answered() {
    let setup = "ip link set lo up && ip addr add 10.9.0.1/32 dev lo && ip addr add 10.9.0.2/32 dev lo";
    in_a_namespace("--net", setup, "inner_one_address_asks_only_so_much");
}

#[tokio::test]
#[ignore = "needs addresses of its own"]
async fn inner_one_address_asks_only_so_much() {
    let tracker = tracker(&["--listen", "0.0.0.0:0"]);
    let at = |host: &str| SocketAddr::new(host.parse().unwrap(), tracker.address.port());
    // A connection to an address of this machine comes from that address.
    let mut greedy = TrackerClient::new(channel(at("10.9.0.1")).await);
    let mut other = TrackerClient::new(channel(at("10.9.0.2")).await);
    let mut token = greedy.join(joining("a")).await.unwrap().into_inner().token;
    // Announces that stall take no more than their address's part of the places.
    let stalled: Vec<_> = (0..limits::QUEUED).map(|_| BegunCall::new(at("10.9.0.1"), "Announce", 1000)).collect();
    let begun = Instant::now();
    while let Ok(joined) = greedy.join(joining("a")).await {
        token = joined.into_inner().token;
        assert!(begun.elapsed() < limits::RPC_TIME / 2, "its places are used up");
    }
    other.join(joining("b")).await.unwrap();
    drop(stalled);

    let begun = Instant::now();
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let to = at("10.9.0.1");
            std::thread::spawn(move || block_on(ask_until_refused(to, begun)))
        })
        .collect();
    let asked: Vec<_> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
    let (number, seconds) = (asked.iter().map(|(number, _)| number).sum::<u64>(), begun.elapsed().as_secs_f64());
    let Some(refusal) = asked.iter().find_map(|(_, refusal)| refusal.as_ref()) else {
        println!(
            "skipped: on this machine one address asks no more than {:.0} times a second",
            number as f64 / seconds
        );
        return;
    };
    let burst = limits::ADDRESS_BURST.as_secs() * limits::ADDRESS_REQUESTS;
    let most = burst as f64 + 2.0 + seconds * limits::ADDRESS_REQUESTS as f64;
    assert!(number >= burst && number as f64 <= most, "{number}");
    assert!(refusal.message().contains("2000 requests a second from one address"), "{refusal:?}");
    let pause = retry_after(refusal);
    for _ in 0..10 {
        greedy.renew(RenewRequest { token: token.clone() }).await.unwrap();
        other.search(searching("x")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(pause)).await;
    greedy.search(searching("x")).await.unwrap();
}

/// Searches as fast as it can, for a quarter of [`PATIENCE`] at most: how often, and how it was refused.
async fn ask_until_refused(tracker: SocketAddr, begun: Instant) -> (u64, Option<Status>) {
    let greedy = TrackerClient::new(channel(tracker).await);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut greedy = greedy.clone();
        asking.spawn(async move {
            let mut asked = 0;
            loop {
                match greedy.search(searching("x")).await {
                    Ok(_) if begun.elapsed() < PATIENCE / 4 => asked += 1,
                    answer => return (asked, answer.err()),
                }
            }
        });
    }
    let asked = asking.join_all().await;
    (asked.iter().map(|(number, _)| number).sum(), asked.into_iter().find_map(|(_, refusal)| refusal))
}

// ---- the log and the end -------------------------------------------------------------------

#[tokio::test]
async fn joins_leaves_expiries_and_refusals_are_a_line_each_and_renewals_none() {
    let tracker = tracker(&["--lease", "2"]);
    let mut tracked = client(&tracker).await;
    let from = tracker.lines().len();
    let token = tracked.join(joining("a")).await.unwrap().into_inner().token;
    tracked.join(joining("b")).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        tracked.renew(RenewRequest { token: token.clone() }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut taken = joining("a");
    taken.identity = vec![0; 32];
    tracked.join(taken).await.unwrap_err();
    tracked.leave(LeaveRequest { token }).await.unwrap();
    tracker.wait_for_line(from, "the last line", |line| (line.text == "leave peer=a").then_some(()));
    let said: Vec<_> = tracker.lines().into_iter().skip(from).map(|line| line.text).collect();
    assert_eq!(
        said[..3],
        [
            "join peer=a address=127.0.0.1:5000 zone= took_over=false",
            "join peer=b address=127.0.0.1:5000 zone= took_over=false",
            "expire peer=b",
        ]
    );
    assert!(said[3].starts_with("refuse call=join from=127.0.0.1 code=AlreadyExists reason=\""), "{said:?}");
    assert_eq!(said.len(), 5, "{said:?}");
}

#[tokio::test]
async fn refusals_beyond_a_screenful_a_second_are_one_line() {
    let tracker = tracker(&[]);
    let mut tracked = client(&tracker).await;
    let mut refused = 0;
    let unwritten = loop {
        tracked.search(searching("")).await.unwrap_err();
        refused += 1;
        let lines = tracker.lines();
        let unwritten =
            lines.iter().find_map(|line| line.text.strip_prefix("refuse unwritten=")?.parse::<usize>().ok());
        if let Some(unwritten) = unwritten {
            break unwritten;
        }
        assert!(refused < 1_000_000);
    };
    assert!(unwritten > 0 && unwritten + limits::REFUSAL_LINES as usize <= refused, "{unwritten} of {refused}");
}

#[test]
fn a_reader_of_the_log_that_has_stalled_holds_up_nobody_and_is_told_what_it_missed() {
    let folder = Folder::new();
    let fifo = folder.join("log");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""]).env("LOG", &fifo).arg(binary("tracker"));
    command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
    let mut tracker = Process::spawn("tracker", command);
    let mut lines = BufReader::new(fs::File::open(&fifo).unwrap()).lines().map(Result::unwrap);
    let mut address = |before| -> SocketAddr {
        let line = lines.next().unwrap();
        let address = line.strip_prefix(before).unwrap_or_else(|| panic!("{line}"));
        address.split(['/', ',']).next().unwrap().parse().unwrap()
    };
    let at = address("metrics on http://");
    tracker.address = address("tracker listening on ");
    block_on(async {
        let mut client = client(&tracker).await;
        let unwritten = || value(&metrics(at), "enjambre_log_lines_unwritten_total", &[]);
        let begun = Instant::now();
        while unwritten() == 0.0 {
            for _ in 0..500 {
                client.join(joining("a")).await.unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "a pipe is full some time");
        }
        let missed = lines.by_ref().take_while(|line| line.starts_with("join peer=a ")).take(100).count();
        assert_eq!(missed, 100);
        // Once there is room for it.
        let mut told = None;
        while told.is_none() {
            client.join(joining("b")).await.unwrap();
            told = lines.by_ref().take(10).find_map(|line| line.strip_prefix("log unwritten=")?.parse::<f64>().ok());
        }
        assert!(told.unwrap() > 0.0 && told.unwrap() <= unwritten(), "{told:?}");
    });
    tracker.signal(Signal::TERM);
    assert!(tracker.exited().success());
}

#[test]
fn a_tracker_that_is_told_to_stop_answers_what_is_in_flight_and_says_goodbye() {
    let (mut tracker, at) = monitored(&[]);
    let mut call = BegunCall::new(tracker.address, "Announce", 2);
    let mut idle = BegunCall::new(tracker.address, "Nothing", 0);
    wait_for(PATIENCE, "both are there", || value(&metrics(at), "enjambre_connections", &[]) == 2.0);
    let begun = Instant::now();
    tracker.signal(Signal::TERM);
    wait_for(PATIENCE, "it takes no connections", || TcpStream::connect(tracker.address).is_err());
    assert_eq!(get(at, "/healthz").status, 503);
    assert!(tracker.is_running());
    // A token of no bytes: that is refused, and so answered.
    call.finish(&[0x0a, 0x00]);
    let frames = call.frames();
    let has = |kind, stream| frames.iter().any(|frame| frame.kind == kind && frame.stream == stream);
    assert!(has(1, 1) && has(7, 0), "an answer and a goodbye: {frames:?}");
    assert!(idle.frames().iter().any(|frame| frame.kind == 7));
    assert!(tracker.exited().success());
    assert!(begun.elapsed() < limits::DRAIN_CALLS_TIME + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut tracker, at) = monitored(&[]);
    let _stalled = BegunCall::new(tracker.address, "Announce", 2);
    wait_for(PATIENCE, "it is there", || value(&metrics(at), "enjambre_connections", &[]) == 1.0);
    tracker.signal(Signal::TERM);
    tracker.wait_for_line(0, "it drains", |line| (line.text == "stopping").then_some(()));
    let begun = Instant::now();
    tracker.signal(Signal::TERM);
    let status = tracker.exited();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    assert!(begun.elapsed() < limits::DRAIN_CALLS_TIME / 2, "{:?}", begun.elapsed());
}

#[test]
fn metrics_need_an_address_that_can_be_listened_at() {
    let taken = tracker(&[]);
    for (value, code, part) in
        [("9100", 2, "--metrics-listen 9100"), (&*taken.address.to_string(), 1, "another port with --metrics-listen")]
    {
        let ended = run(tracker_command(["--listen", "127.0.0.1:0", "--metrics-listen", value]), "");
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.starts_with("error: ") && ended.err.contains(part), "{}", ended.err);
    }
}
