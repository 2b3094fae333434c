//! What reaches a tracker only over a real socket: bytes that are no message, giant ones, calls that there are
//! not. Each is refused in a code of the protocol's and with a sentence, and changes nothing. (What sound messages
//! with hostile values do is tested against a naive tracker, in `src/tracker/calls/hostile/`.)
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use enjambre::{
    codec::Plain,
    limits,
    proto::{
        AnnounceRequest, Download, File, JoinRequest, LeaveRequest, LocateRequest, Mirror, RenewRequest, SearchReply,
        SearchRequest, tracker_client::TrackerClient,
    },
};
use http_body::Frame;
use prost::{Message, bytes::Bytes};
use support::*;
use tonic::{
    Code, Request, Status,
    body::Body,
    client::Grpc,
    codegen::{Service, http, tokio_stream},
    transport::{Channel, Endpoint},
};

/// The six calls.
const CALLS: [&str; 6] = ["Join", "Announce", "Renew", "Leave", "Search", "Locate"];

async fn channel(tracker: &Process) -> Channel {
    Endpoint::from_shared(format!("http://{}", tracker.address)).unwrap().timeout(PATIENCE).connect().await.unwrap()
}

/// Makes a call with these messages, of which there should be one.
async fn call(channel: &Channel, path: &str, messages: Vec<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let request = Request::new(tokio_stream::iter(messages.into_iter().map(Bytes::from)));
    let reply = grpc.client_streaming(request, path.parse().unwrap(), Plain).await?;
    Ok(reply.into_inner().to_vec())
}

fn path(call: &str) -> String {
    format!("/enjambre.v1.Tracker/{call}")
}

/// A tracker, and one peer in it, whose token and file are to be there at the end.
struct Scene {
    tracker: Process,
    channel: Channel,
    token: Vec<u8>,
    before: SearchReply,
}

impl Scene {
    async fn new() -> Self {
        let tracker = tracker(&["--lease", "600"]);
        let channel = channel(&tracker).await;
        let (mut client, token) = announce(tracker.address, "owner", 7, "mine.txt", b"mine").await;
        let before = client.search(everything()).await.unwrap().into_inner();
        assert_eq!(before.found.len(), 1);
        Self { tracker, channel, token, before }
    }

    async fn assert_unharmed(self) {
        let mut client = TrackerClient::new(channel(&self.tracker).await);
        client.renew(RenewRequest { token: self.token }).await.unwrap();
        assert_eq!(client.search(everything()).await.unwrap().into_inner(), self.before);
        assert!(self.tracker.lines().iter().all(|line| !line.text.contains("panicked")));
        let peak = self.tracker.memory("VmHWM");
        assert!(peak < 32e6, "{peak}");
    }
}

fn everything() -> SearchRequest {
    SearchRequest { text: "*".into(), ..SearchRequest::default() }
}

/// A refusal in one of these codes, with a sentence.
#[track_caller]
fn refused(what: &str, answer: Result<Vec<u8>, Status>, codes: &[Code]) {
    let Err(status) = answer else { panic!("{what} is not refused") };
    assert!(codes.contains(&status.code()) && status.message().len() > 10, "{what}: {status:?}");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_as_such() {
    let scene = Scene::new().await;
    let nested = vec![0x0b; 8000];
    let garbage: [(&str, &[u8]); 8] = [
        ("noise", &[0xff; 100]),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n"),
        ("a field that is longer than its message", &[0x0a, 0x7f, b'x']),
        ("a field of 2^63 bytes", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a number where bytes should be", &[0x08, 0x01]),
        ("field number zero", &[0x02, 0x00]),
        ("a number of eleven bytes", &[0xff; 11]),
        ("groups in groups", &nested),
    ];
    for method in CALLS {
        for (what, bytes) in garbage {
            let answer = call(&scene.channel, &path(method), vec![bytes.to_vec()]).await;
            refused(&format!("{method} of {what}"), answer, &[Code::InvalidArgument]);
        }
        let answer = call(&scene.channel, &path(method), Vec::new()).await;
        refused(&format!("{method} of nothing"), answer, &[Code::InvalidArgument]);
    }
    // Text that is no text.
    for method in ["Join", "Search"] {
        let answer = call(&scene.channel, &path(method), vec![vec![0x0a, 2, 0xc0, 0xae]]).await;
        refused(&format!("{method} of bad UTF-8"), answer, &[Code::InvalidArgument]);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn sound_messages_that_were_damaged_are_answered_or_refused_as_bad_input() {
    let scene = Scene::new().await;
    // Not the owner's: a damaged request may be a good one still.
    let (mut client, token) = announce(scene.tracker.address, "other", 8, "other.txt", b"other").await;
    let file = File { path: "other.txt".into(), content: vec![1; 32], size: 1 << 62 };
    let sound = [
        JoinRequest { peer_id: "third".into(), identity: vec![3; 32], port: 9, ..JoinRequest::default() }
            .encode_to_vec(),
        AnnounceRequest {
            token: token.clone(),
            added: vec![file.clone(), File { path: "b".into(), ..file }],
            removed: vec!["c".into()],
            downloading: vec![Download { content: vec![2; 32], size: u64::MAX >> 2 }],
            stopped: vec![vec![3; 32]],
            mirror: Some(Mirror { wanted: 2, here: 1 }),
        }
        .encode_to_vec(),
        RenewRequest { token: token.clone() }.encode_to_vec(),
        LeaveRequest { token: token.clone() }.encode_to_vec(),
        everything().encode_to_vec(),
        LocateRequest { content: vec![1; 32], token, dead: vec!["owner".into()] }.encode_to_vec(),
    ];
    let codes =
        [Code::InvalidArgument, Code::ResourceExhausted, Code::PermissionDenied, Code::AlreadyExists, Code::NotFound];
    let mut chance = noise(1, 8 * 6 * 300).into_iter();
    let mut below =
        |end: usize| usize::from(u16::from_le_bytes([chance.next().unwrap(), chance.next().unwrap()])) % end;
    let mut answered = 0;
    for round in 0..300 {
        for (method, sound) in CALLS.iter().zip(&sound) {
            let mut bytes = sound.clone();
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, [0xff; 9])),
                _ => drop(bytes.splice(at.., sound[below(sound.len())..].to_vec())),
            }
            match call(&scene.channel, &path(method), vec![bytes.clone()]).await {
                Ok(_) => answered += 1,
                refusal => refused(&format!("round {round}: {method} of {bytes:?}"), refusal, &codes),
            }
        }
    }
    assert!((10..1500).contains(&answered), "{answered} of 1800");
    // What came of the good ones goes with the one who announced it; others that joined hold nothing.
    let identity = blake3::hash(b"other").as_bytes().to_vec();
    let join = JoinRequest { peer_id: "other".into(), identity, port: 8, ..JoinRequest::default() };
    let token = client.join(join).await.unwrap().into_inner().token;
    client.leave(LeaveRequest { token }).await.unwrap();
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn giant_messages_are_refused_with_the_limit_and_cost_no_memory() {
    let scene = Scene::new().await;
    for method in CALLS {
        let limit = if method == "Announce" { limits::RPC_BYTES } else { limits::RPC_SMALL_BYTES };
        for length in [limit + 1, 8 << 20] {
            let answer = call(&scene.channel, &path(method), vec![vec![0; length]]).await;
            assert!(answer.as_ref().is_err_and(|status| status.message().contains(&format!("at most {limit} bytes"))));
            refused(method, answer, &[Code::ResourceExhausted]);
        }
        // A million fields of two bytes would be short enough; so many are refused before they are decoded.
        let answer = call(&scene.channel, &path(method), vec![[0x12, 0x00].repeat(limit / 2)]).await;
        refused(method, answer, &[Code::ResourceExhausted]);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn there_are_six_calls_and_no_others() {
    let scene = Scene::new().await;
    for path in ["/enjambre.v1.Tracker/Steal", "/enjambre.v1.Tracker/", "/enjambre.v2.Tracker/Join", "/", "/a/../b"] {
        let status = call(&scene.channel, path, vec![Vec::new()]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    // What follows the one message of a call is its sender's mistake at most.
    let renew = RenewRequest { token: scene.token.clone() }.encode_to_vec();
    if let Err(status) = call(&scene.channel, &path("Renew"), vec![renew, vec![0xff; 10_000]]).await {
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    scene.assert_unharmed().await;
}

/// A body that comes in these pieces.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Most are in one piece, and for them there is a shorter way.
#[tokio::test]
async fn a_message_in_two_pieces_is_answered_as_one_in_one() {
    let scene = Scene::new().await;
    let content = scene.before.found[0].content.clone();
    for (method, message) in [
        ("Renew", RenewRequest { token: scene.token.clone() }.encode_to_vec()),
        ("Locate", LocateRequest { content, ..LocateRequest::default() }.encode_to_vec()),
    ] {
        let expected = call(&scene.channel, &path(method), vec![message.clone()]).await.unwrap();
        let bytes = Bytes::from([&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat());
        for at in 0..=bytes.len() {
            let pieces = Pieces([bytes.slice(..at), bytes.slice(at..)].into());
            let request = http::Request::post(path(method)).header("content-type", "application/grpc");
            let mut channel = scene.channel.clone();
            poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
            let answer = channel.call(request.body(Body::new(pieces)).unwrap()).await.unwrap();
            let (mut body, mut answered, mut trailers) = (answer.into_body(), Vec::new(), None);
            while let Some(frame) = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await {
                match frame.unwrap().into_data() {
                    Ok(data) => answered.extend(data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            assert_eq!(answered[5..], expected, "{method} split at {at}");
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
    }
    scene.assert_unharmed().await;
}

/// A channel that changes the head of each request.
#[derive(Clone)]
struct Altered<F>(Channel, F);

impl<F: Fn(&mut http::Request<Body>)> Service<http::Request<Body>> for Altered<F> {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        (self.1)(&mut request);
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_head_that_is_none_of_grpcs_ends_its_own_call_only() {
    let scene = Scene::new().await;
    type Change = fn(&mut http::Request<Body>);
    let changes: [(&str, Change); 6] = [
        ("a page's content type", |request| {
            request.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html"));
        }),
        ("no content type", |request| drop(request.headers_mut().remove("content-type"))),
        ("another method", |request| *request.method_mut() = http::Method::GET),
        ("an encoding that is none", |request| {
            request.headers_mut().insert("grpc-encoding", http::HeaderValue::from_static("gzip"));
        }),
        ("a time-out that is none", |request| {
            request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static("99999999999999999999H"));
        }),
        ("a head of 60 KiB", |request| {
            let long = http::HeaderValue::from_str(&"x".repeat(60 << 10)).unwrap();
            request.headers_mut().insert("x", long);
        }),
    ];
    for (what, change) in changes {
        // A connection of its own: one that breaks a rule of HTTP/2 may be closed.
        let mut client = TrackerClient::new(Altered(channel(&scene.tracker).await, change));
        match client.leave(LeaveRequest { token: vec![9; 16] }).await {
            Ok(_) => panic!("{what}: a stranger's leave"),
            Err(status) => assert_ne!(status.code(), Code::Internal, "{what}: {status:?}"),
        }
    }
    scene.assert_unharmed().await;
}
