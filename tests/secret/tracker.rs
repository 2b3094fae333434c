//! The tracker.

use std::time::{Duration, Instant};

use enjambre::limits;
use prost::Message;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{HALF, Home, SECRET, WRONG, basic, bearer, channel, joining, nothing_is_said_of_it, support::*};

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

const CALLS: [&str; 13] = [
    "/enjambre.v1.Tracker/Join",
    "/enjambre.v1.Tracker/Announce",
    "/enjambre.v1.Tracker/Renew",
    "/enjambre.v1.Tracker/Leave",
    "/enjambre.v1.Tracker/Search",
    "/enjambre.v1.Tracker/Locate",
    "/enjambre.v1.Tracker/Peers",
    "/enjambre.v1.Tracker/Watch",
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
