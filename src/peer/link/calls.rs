//! Calls to the trackers: where each goes, within what time, and to whom next.
//!
//! Requests and replies pass through tonic as bytes: one way of calling for all, and not one for each message, is 50 KB
//! less of the binary, and a call is made again without being encoded again.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use prost::{Message, bytes::Bytes};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    codegen::{
        Service,
        http::{Uri, uri::PathAndQuery},
    },
    metadata::AsciiMetadataValue,
    transport::Channel,
};

use super::{address::TrackerAddress, chance, frames::SmallFrames, replies::Refusal, retry, turns::Turns};
use crate::{
    codec::{self, Plain},
    limits, proto, say,
    secret::Secret,
    tls::{Tls, Transport},
};

/// A request, and what belongs to it.
pub(super) trait Call: Message + Sized {
    type Reply: Message + Default;
    const PATH: &'static str;
    /// The longest reply that is read.
    const REPLY_BYTES: usize = limits::REPLY_BYTES;

    fn encoded(&self) -> Encoded {
        Encoded { path: Self::PATH, body: self.encode_to_vec().into(), reply_bytes: Self::REPLY_BYTES }
    }

    fn reply(bytes: Bytes) -> Result<Self::Reply, Refusal> {
        let reply = if codec::has_too_many_fields(&bytes) { None } else { Self::Reply::decode(bytes).ok() };
        reply.ok_or_else(|| Refusal::Away("its answer makes no sense".into()))
    }
}

impl Call for proto::JoinRequest {
    type Reply = proto::JoinReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Join";
}

impl Call for proto::AnnounceRequest {
    type Reply = proto::AnnounceReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Announce";
}

impl Call for proto::RenewRequest {
    type Reply = proto::RenewReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Renew";
}

impl Call for proto::LeaveRequest {
    type Reply = proto::LeaveReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Leave";
}

impl Call for proto::SearchRequest {
    type Reply = proto::SearchReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Search";
    const REPLY_BYTES: usize = limits::RPC_BYTES;
}

impl Call for proto::LocateRequest {
    type Reply = proto::LocateReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Locate";
    const REPLY_BYTES: usize = limits::LOCATE_BYTES;
}

impl Call for proto::WatchRequest {
    type Reply = proto::WatchReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Watch";
    const REPLY_BYTES: usize = limits::RPC_BYTES;
}

impl Call for proto::PeersRequest {
    type Reply = proto::PeersReply;
    const PATH: &'static str = "/enjambre.v1.Tracker/Peers";
    const REPLY_BYTES: usize = limits::RPC_BYTES;
}

/// A call, ready to be made, as often as need be.
#[derive(Clone)]
pub(super) struct Encoded {
    path: &'static str,
    body: Bytes,
    reply_bytes: usize,
}

impl Encoded {
    pub(super) fn is<C: Call>(&self) -> bool {
        self.path == C::PATH
    }
}

/// A reply as bytes, and the place of the tracker that gave it.
pub(super) type Answer = Result<(usize, Bytes), Refusal>;

/// Who may answer a question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// Any tracker.
    Any,
    /// The one in use.
    Used,
}

/// Makes the calls; clones are handles to the same one.
#[derive(Clone)]
pub(super) struct Caller(Arc<Trackers>);

struct Trackers {
    /// How many there are.
    number: usize,
    /// What proves the swarm's secret to them.
    authorization: Option<AsciiMetadataValue>,
    tls: Option<Tls>,
    is_member: bool,
    state: Mutex<State>,
    /// Another one is in use.
    moved: Notify,
}

struct State {
    turns: Turns,
    /// To the one in use. Replaced after a failure, so that a connection that hangs is not used again.
    channel: Option<Channel>,
}

impl Caller {
    /// Of who `is_member` of a swarm, a person is told which tracker is away; another one has an error of its own.
    pub(super) fn new(
        trackers: Vec<TrackerAddress>,
        secret: Option<&Secret>,
        tls: Option<Tls>,
        is_member: bool,
    ) -> Self {
        let number = trackers.len();
        let authorization = secret.map(|secret| {
            let mut value = AsciiMetadataValue::try_from(secret.bearer()).expect("a secret fits into a header");
            // It stays out of HPACK's tables, and of what is shown for debugging.
            value.set_sensitive(true);
            value
        });
        let state = Mutex::new(State { turns: Turns::new(trackers), channel: None });
        Self(Arc::new(Trackers { number, authorization, tls, is_member, state, moved: Notify::new() }))
    }

    /// How many trackers there are.
    pub(super) fn number(&self) -> usize {
        self.0.number
    }

    /// The place of the one in use.
    pub(super) fn using(&self) -> usize {
        self.state().turns.using()
    }

    pub(super) fn address(&self, at: usize) -> TrackerAddress {
        self.state().turns.address(at).clone()
    }

    /// All of them, for a person.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.state().turns.all().map(TrackerAddress::to_string).collect()
    }

    /// Waits until another tracker is in use.
    pub(super) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    /// Makes a call once, at the tracker in use. Where that is away, the next one is in use afterwards.
    pub(super) async fn tell(&self, call: &Encoded) -> Answer {
        self.attempt(self.using(), call).await
    }

    /// Asks what may be asked twice, and of any tracker or the one in use: a tracker that owes the answer for a while is
    /// not waited for, the next is asked too; one that is busy is asked again when it said.
    pub(super) async fn ask(self, call: Encoded, whom: Whom) -> Answer {
        let order = match whom {
            Whom::Any => self.state().turns.order(),
            Whom::Used => vec![self.using()],
        };
        let deadline = Instant::now() + limits::RPC_TIME;
        let (mut asked, mut next_at) = (0, Instant::now());
        let mut running: Running = Vec::new();
        let mut last = Refusal::Away("no answer in time".into());
        let mut is_busy = false;
        let answer = loop {
            let answer = tokio::select! {
                biased;
                answer = first(&mut running) => answer,
                () = sleep_until(next_at.min(deadline)) => {
                    if Instant::now() >= deadline {
                        break Err(last);
                    }
                    let (caller, call, at) = (self.clone(), call.clone(), order[asked % order.len()]);
                    running.push(Box::pin(async move { caller.attempt(at, &call).await }));
                    asked += 1;
                    next_at = if asked < order.len() { Instant::now() + limits::ASK_NEXT_TIME } else { deadline };
                    continue;
                }
            };
            match answer {
                Err(Refusal::Busy(hint, text)) => {
                    let pause = retry::hinted(hint, None, chance());
                    // Who says more than is ever waited says that it is in vain.
                    next_at = if pause < hint { deadline } else { Instant::now() + pause };
                    is_busy = true;
                    last = Refusal::Busy(hint, text);
                }
                Err(refusal @ Refusal::Away(_)) => {
                    last = refusal;
                    if asked < order.len() {
                        next_at = Instant::now();
                    } else if is_busy {
                        next_at = Instant::now() + limits::RETRY_TIME;
                    }
                }
                answer => break answer,
            }
            if running.is_empty() && next_at >= deadline {
                break Err(last);
            }
        };
        // Whether the tracker in use is slow or away is found out all the same.
        for attempt in running {
            tokio::spawn(attempt);
        }
        answer
    }

    /// Makes one call at one tracker, within its time.
    async fn attempt(&self, at: usize, call: &Encoded) -> Answer {
        let attempt = async {
            let began = Instant::now();
            let (channel, is_kept) = self.channel(at);
            match self.unary(channel, call).await {
                // A kept connection may have ended with a tracker that is back.
                Err(Refusal::Away(_)) if is_kept && began.elapsed() < limits::ASK_NEXT_TIME => {
                    self.state().channel = None;
                    self.unary(self.channel(at).0, call).await
                }
                answer => answer,
            }
        };
        let answer = timeout(limits::RPC_TIME, attempt).await;
        let answer = answer.unwrap_or_else(|_| Err(Refusal::Away("no answer in time".into())));
        match &answer {
            // Whether a join's answer is one, its caller finds out, and says more.
            Ok(_) if !call.is::<proto::JoinRequest>() => {
                let line = self.answered(at);
                self.tell_person(line);
            }
            Err(Refusal::Away(reason)) => self.leave(at, reason),
            _ => {}
        }
        answer.map(|reply| (at, reply))
    }

    /// One has answered; the line that says so where that is news.
    pub(super) fn answered(&self, at: usize) -> Option<String> {
        self.state().turns.answered(at)
    }

    /// One is away, or might as well be: if it is the one in use, its connection and its turn are over.
    pub(super) fn leave(&self, at: usize, reason: &str) {
        let (line, has_moved) = {
            let State { turns, channel } = &mut *self.state();
            let using = turns.using();
            if at == using {
                *channel = None;
            }
            (turns.failed(at, reason), turns.using() != using)
        };
        self.tell_person(line);
        if has_moved {
            self.0.moved.notify_one();
        }
    }

    fn tell_person(&self, line: Option<String>) {
        line.iter().filter(|_| self.0.is_member).for_each(say);
    }

    /// A connection to a tracker, and whether it was there already. Only that to the one in use is kept.
    fn channel(&self, at: usize) -> (Channel, bool) {
        let State { turns, channel } = &mut *self.state();
        if at != turns.using() {
            return (self.connect(turns.address(at)), false);
        }
        let is_kept = channel.is_some();
        (channel.get_or_insert_with(|| self.connect(turns.address(at))).clone(), is_kept)
    }

    /// Connects, and looks the tracker's name up, at the first call. While a call waits it sends pings: one of a
    /// watch, which may wait for ever, tells so whether the tracker is there.
    fn connect(&self, tracker: &TrackerAddress) -> Channel {
        let mut endpoint = tracker.endpoint(self.0.tls.is_some()).expect("parsed as an endpoint before");
        endpoint = endpoint
            .http2_max_header_list_size(limits::HEAD_BYTES as u32)
            .http2_header_table_size(limits::RPC_HEADER_TABLE_BYTES);
        endpoint = match self.number() {
            1 => endpoint
                .connect_timeout(limits::RPC_CONNECT_TIME)
                .http2_keep_alive_interval(limits::RPC_PING_INTERVAL)
                .keep_alive_timeout(limits::RPC_PING_TIME),
            _ => endpoint
                .connect_timeout(limits::TRACKER_CONNECT_TIME)
                .http2_keep_alive_interval(limits::TRACKER_PING_INTERVAL)
                .keep_alive_timeout(limits::TRACKER_PING_TIME),
        };
        endpoint.connect_with_connector_lazy(Dialer::new(tracker, self.0.tls.clone()))
    }

    async fn unary(&self, channel: Channel, call: &Encoded) -> Result<Bytes, Refusal> {
        let (mut client, request) = self.request(channel, call).await?;
        Ok(client.unary(request, PathAndQuery::from_static(call.path), Plain).await?.into_inner())
    }

    /// Makes a call at the tracker in use that is answered for as long as the connection lasts.
    pub(super) async fn watch(&self, call: &Encoded) -> Result<Streaming<Bytes>, Refusal> {
        let begin = async {
            let (mut client, request) = self.request(self.channel(self.using()).0, call).await?;
            let replies = client.server_streaming(request, PathAndQuery::from_static(call.path), Plain).await;
            replies.map(Response::into_inner).map_err(|status| match status.code() {
                Code::Unimplemented => Refusal::Never("it is older than this peer: update it".into()),
                _ => status.into(),
            })
        };
        timeout(limits::RPC_TIME, begin).await.unwrap_or_else(|_| Err(Refusal::Away("no answer in time".into())))
    }

    async fn request(&self, channel: Channel, call: &Encoded) -> Result<(Grpc<SmallFrames>, Request<Bytes>), Refusal> {
        let mut client = Grpc::new(SmallFrames(channel)).max_decoding_message_size(call.reply_bytes);
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request = Request::new(call.body.clone());
        if let Some(authorization) = &self.0.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok((client, request))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to a tracker, by TLS where there is any.
struct Dialer {
    tcp: HttpConnector,
    host: Arc<str>,
    tls: Option<Tls>,
}

impl Dialer {
    fn new(tracker: &TrackerAddress, tls: Option<Tls>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // Whatever is spoken over it.
        tcp.enforce_http(false);
        Self { tcp, host: tracker.host().into(), tls }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Transport>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, host, tls) = (self.tcp.call(to), Arc::clone(&self.host), self.tls.clone());
        Box::pin(async move {
            let stream = connecting.await.map_err(io::Error::other)?.into_inner();
            Transport::to_tracker(stream, &host, tls.as_ref()).await.map(TokioIo::new)
        })
    }
}

type Running = Vec<Pin<Box<dyn Future<Output = Answer> + Send>>>;

/// The answer of the first attempt that has one, which is taken out; waits for ever where there is none.
async fn first(running: &mut Running) -> Answer {
    poll_fn(|context| {
        for at in 0..running.len() {
            if let Poll::Ready(answer) = running[at].as_mut().poll(context) {
                drop(running.swap_remove(at));
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    })
    .await
}
