//! The only code that speaks to etcd, through tonic: `proto/etcd.proto` is the part of its API that is used.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use prost::{Message, bytes::Bytes};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use crate::{codec::Plain, limits};

mod api {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("etcdserverpb");
}
use api::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, RangeRequest,
    RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse, compare::Target, request_op,
    response_op, watch_request,
};
pub(super) use api::{KeyValue, RangeResponse, event::Kind};

/// Why etcd did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be asked, or gives no answer, or none that makes sense: why.
    Lost(String),
    /// What was before some revision is forgotten.
    Compacted,
    /// There is no such lease.
    NoLease,
    /// The answer is longer than one that is taken.
    TooLong,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost(why) => why,
            Self::Compacted => "the history is gone",
            Self::NoLease => "the lease is gone",
            Self::TooLong => "an answer is too long",
        })
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // etcd's own sentences; of its codes, one stands for several of them.
        match (status.code(), status.message()) {
            (Code::OutOfRange, message) if message.contains("compacted") => Self::Compacted,
            (Code::OutOfRange, message) if message.contains("message length too large") => Self::TooLong,
            (Code::NotFound, message) if message.contains("lease") => Self::NoLease,
            (code, message) => Self::Lost(format!("{code:?}: {message}")),
        }
    }
}

/// A change of a transaction.
pub(super) enum Change {
    /// Puts a key under a lease.
    Put(Vec<u8>, Vec<u8>, i64),
    /// Deletes one key.
    Delete(Vec<u8>),
    /// Deletes the keys of a range.
    DeleteRange((Vec<u8>, Vec<u8>)),
}

impl From<Change> for RequestOp {
    fn from(change: Change) -> Self {
        let request = match change {
            Change::Put(key, value, lease) => request_op::Request::Put(PutRequest { key, value, lease }),
            Change::Delete(key) => request_op::Request::DeleteRange(DeleteRangeRequest { key, range_end: Vec::new() }),
            Change::DeleteRange((key, range_end)) => {
                request_op::Request::DeleteRange(DeleteRangeRequest { key, range_end })
            }
        };
        Self { request: Some(request) }
    }
}

/// A connection to a member of etcd. Clones share it.
#[derive(Clone)]
pub(super) struct Etcd {
    channel: Channel,
}

/// An answer, if it comes in time.
async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
    match timeout(limits::STORE_ANSWER_TIME, call).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Failure::Lost("it does not answer".to_owned())),
    }
}

fn decode<T: Message + Default>(answer: Bytes) -> Result<T, Failure> {
    T::decode(answer).map_err(|error| Failure::Lost(format!("it answers what cannot be read: {error}")))
}

impl Etcd {
    /// Connects to a member.
    pub(super) async fn connect(host: &str) -> Result<Self, Failure> {
        let lost = |error: tonic::transport::Error| {
            let mut why = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                why = cause.to_string();
                source = cause.source();
            }
            Failure::Lost(why)
        };
        let endpoint = Endpoint::from_shared(format!("http://{host}")).map_err(lost)?;
        let channel = endpoint
            .connect_timeout(limits::STORE_CONNECT_TIME)
            .http2_keep_alive_interval(limits::STORE_PING_INTERVAL)
            .keep_alive_timeout(limits::STORE_ANSWER_TIME)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(lost)?;
        Ok(Self { channel })
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(limits::STORE_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    async fn call<T: Message + Default>(&self, path: &'static str, request: &impl Message) -> Result<T, Failure> {
        decode(self.call_with(path, request.encode_to_vec().into()).await?)
    }

    async fn call_with(&self, path: &'static str, request: Bytes) -> Result<Bytes, Failure> {
        in_time(async {
            let answer = self.grpc().await?.unary(Request::new(request), PathAndQuery::from_static(path), Plain).await;
            Ok(answer?.into_inner())
        })
        .await
    }

    /// Begins a call of many requests, of which this is the first, and many answers.
    async fn talk(&self, path: &'static str, first: &impl Message) -> Result<Talk, Failure> {
        let (requests, queue) = unbounded_channel();
        // The head of the answer comes with the first answer.
        let _ = requests.send(first.encode_to_vec().into());
        let answers = in_time(async {
            let call = Request::new(Queue(queue));
            let answers = self.grpc().await?.streaming(call, PathAndQuery::from_static(path), Plain).await;
            Ok(answers?.into_inner())
        });
        Ok(Talk { requests, answers: answers.await? })
    }

    /// The first keys of a range, at most `limit` of them, as of a revision (0: now).
    pub(super) async fn range(
        &self,
        (key, range_end): (Vec<u8>, Vec<u8>),
        limit: i64,
        revision: i64,
        keys_only: bool,
    ) -> Result<RangeResponse, Failure> {
        let request = RangeRequest { key, range_end, limit, revision, keys_only };
        self.call("/etcdserverpb.KV/Range", &request).await
    }

    /// Makes all changes if a key was last put at this revision (0: if it is not there): as of which revision,
    /// or none if it was not.
    pub(super) async fn change_if(
        &self,
        key: &[u8],
        mod_revision: i64,
        changes: Vec<Change>,
    ) -> Result<Option<i64>, Failure> {
        let compare = Compare { result: 0, target: Target::Mod.into(), key: key.to_vec(), mod_revision };
        let success = changes.into_iter().map(RequestOp::from).collect();
        let reply = self.transact(TxnRequest { compare: vec![compare], success, failure: Vec::new() }).await?;
        let revision = reply.header.unwrap_or_default().revision;
        Ok(reply.succeeded.then_some(revision))
    }

    /// The value of a key, which is put if there is none; and which etcd this is, as of which revision.
    pub(super) async fn get_or_put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(Vec<u8>, u64, i64), Failure> {
        let compare = Compare { result: 0, target: Target::Mod.into(), key: key.clone(), mod_revision: 0 };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let success = vec![Change::Put(key, value.clone(), 0).into()];
        let failure = vec![RequestOp { request: Some(request_op::Request::Range(get)) }];
        let mut reply = self.transact(TxnRequest { compare: vec![compare], success, failure }).await?;
        let header = reply.header.take().unwrap_or_default();
        let got = match reply.responses.pop().and_then(|op| op.response) {
            Some(response_op::Response::Range(mut range)) if !reply.succeeded => range.kvs.pop().map(|kv| kv.value),
            _ => reply.succeeded.then_some(value),
        };
        let value = got.ok_or_else(|| Failure::Lost("it has a key and does not give it".to_owned()))?;
        Ok((value, header.cluster_id, header.revision))
    }

    async fn transact(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        self.call("/etcdserverpb.KV/Txn", &request).await
    }

    /// Lets etcd forget what was before a revision.
    pub(super) async fn compact(&self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest { revision };
        self.call::<CompactionResponse>("/etcdserverpb.KV/Compact", &request).await.map(|_| ())
    }

    /// A new lease of so many seconds.
    pub(super) async fn grant(&self, ttl: i64) -> Result<i64, Failure> {
        let request = LeaseGrantRequest { ttl };
        self.call::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &request).await.map(|granted| granted.id)
    }

    /// Ends a lease.
    pub(super) async fn revoke(&self, id: i64) -> Result<(), Failure> {
        match self.call::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", &LeaseRevokeRequest { id }).await {
            Ok(_) | Err(Failure::NoLease) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Keeps leases.
    pub(super) async fn keeper(&self) -> Result<Keeper, Failure> {
        // There is no lease 0.
        let talk = self.talk("/etcdserverpb.Lease/LeaseKeepAlive", &LeaseKeepAliveRequest { id: 0 });
        Ok(Keeper(talk.await?))
    }

    /// What changes in a range from a revision on.
    pub(super) async fn watch(
        &self,
        (key, range_end): (Vec<u8>, Vec<u8>),
        start_revision: i64,
    ) -> Result<Watch, Failure> {
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: true, fragment: true };
        let request = WatchRequest { request: Some(watch_request::Request::Create(create)) };
        Ok(Watch { talk: self.talk("/etcdserverpb.Watch/Watch", &request).await?, parts: News::default() })
    }
}

/// A call under way, in both directions.
struct Talk {
    /// To hang up here is to end it.
    requests: UnboundedSender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Talk {
    /// The next answer. May be dropped while it waits.
    async fn next<T: Message + Default>(&mut self) -> Result<T, Failure> {
        match self.answers.message().await? {
            Some(answer) => decode(answer),
            None => Err(Failure::Lost("it hung up".to_owned())),
        }
    }
}

/// Leases that are kept, one after the other.
pub(super) struct Keeper(Talk);

impl Keeper {
    /// Keeps a lease.
    pub(super) fn keep(&self, id: i64) {
        // Where nobody takes it any more, `next` fails.
        let _ = self.0.requests.send(LeaseKeepAliveRequest { id }.encode_to_vec().into());
    }

    /// The next answer: a lease was kept, or is gone, of which the watch tells too. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<(), Failure> {
        self.0.next::<LeaseKeepAliveResponse>().await.map(|_| ())
    }
}

/// A watch under way.
pub(super) struct Watch {
    talk: Talk,
    /// The parts of an answer whose end has not come yet.
    parts: News,
}

/// What a watch tells.
#[derive(Default)]
pub(super) struct News {
    /// What changed, in order.
    pub(super) events: Vec<(Kind, KeyValue)>,
    /// Up to here all was told.
    pub(super) revision: i64,
}

impl Watch {
    /// The next answer that tells something. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<News, Failure> {
        loop {
            let answer: WatchResponse = self.talk.next().await?;
            if answer.compact_revision > 0 {
                return Err(Failure::Compacted);
            }
            if answer.canceled {
                return Err(Failure::Lost(format!("it ended the watch: {}", answer.cancel_reason)));
            }
            for event in answer.events {
                let kind = event.kind();
                if let Some(kv) = event.kv {
                    self.parts.revision = self.parts.revision.max(kv.mod_revision);
                    self.parts.events.push((kind, kv));
                }
            }
            if answer.fragment || answer.created {
                continue;
            }
            let mut news = std::mem::take(&mut self.parts);
            if news.events.is_empty() {
                // Of an answer with events, the head may be of a later one.
                news.revision = answer.header.unwrap_or_default().revision;
            }
            return Ok(news);
        }
    }
}

/// What is put into a queue, as the stream that tonic wants to send.
struct Queue<T>(UnboundedReceiver<T>);

impl<T> Stream for Queue<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}
