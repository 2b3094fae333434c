//! The tracker on the wire: the server, and the calls of the protocol.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::sleep,
};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    transport::server::{Connected, Server, TcpConnectInfo},
};

use super::{
    calls::{Calls, Config, Refused, random},
    codes::promised,
    connections::{Connection, Connections},
    registry::{Key, Refusal},
};
use crate::{
    limits,
    proto::{
        AnnounceReply, AnnounceRequest, JoinReply, JoinRequest, LeaveReply, LeaveRequest, LocateReply, LocateRequest,
        RenewReply, RenewRequest, SearchReply, SearchRequest,
        tracker_server::{Tracker, TrackerServer},
    },
    say,
};

/// Answers calls until told to stop; then ends the ones in flight, for
/// [`limits::DRAIN_CALLS_TIME`] at most.
///
/// # Errors
/// When the listener cannot be used. Nothing that a connection does ends it.
pub async fn serve(listener: TcpListener, config: Config, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let connections = Connections::new(listener)?;
    // Tokens of the tracker that ran here before are no good: their holders join again.
    let calls = Arc::new(Calls::new(config, Key::new(random())));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::builder()
        .timeout(limits::RPC_TIME)
        .max_concurrent_streams(limits::RPC_STREAMS)
        // A stream that is reset no longer counts above; here its call does, until it has ended.
        .concurrency_limit_per_connection(limits::RPC_STREAMS as usize)
        .initial_stream_window_size(limits::RPC_WINDOW_BYTES)
        .initial_connection_window_size(limits::RPC_WINDOW_BYTES)
        .http2_max_header_list_size(limits::RPC_HEAD_BYTES)
        .http2_keepalive_interval(Some(limits::RPC_PING_INTERVAL))
        .http2_keepalive_timeout(Some(limits::RPC_PING_TIME))
        .serve_with_incoming_shutdown(Gate::new(Arc::clone(&calls)), connections, async {
            let _ = stopped.await;
        });
    let stopping = async {
        shutdown.await;
        let _ = stop.send(());
        sleep(limits::DRAIN_CALLS_TIME).await;
    };
    let sweeping = async {
        loop {
            sleep(calls.expire()).await;
        }
    };
    tokio::select! {
        served = serving => served.map_err(io::Error::other),
        () = stopping => Ok(()),
        () = sweeping => unreachable!(),
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(self.from) }
    }
}

/// Lets only so many announces be read at once, since they alone may be long.
#[derive(Clone)]
struct Gate {
    announces: TrackerServer<Wire>,
    others: TrackerServer<Wire>,
    slots: Arc<Semaphore>,
}

impl Gate {
    fn new(calls: Arc<Calls>) -> Self {
        let wire = Arc::new(Wire { calls, refusals: Mutex::new((Instant::now(), 0)) });
        Self {
            announces: TrackerServer::from_arc(Arc::clone(&wire)).max_decoding_message_size(limits::RPC_BYTES),
            others: TrackerServer::from_arc(wire).max_decoding_message_size(limits::RPC_SMALL_BYTES),
            slots: Arc::new(Semaphore::new(limits::ANNOUNCES)),
        }
    }
}

impl Service<http::Request<Body>> for Gate {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != "/enjambre.v1.Tracker/Announce" {
            let answer = self.others.call(request);
            return Box::pin(async { Ok(promised(answer.await?, limits::RPC_SMALL_BYTES)) });
        }
        let (mut announces, slots) = (self.announces.clone(), Arc::clone(&self.slots));
        Box::pin(async move {
            // Nobody closes the semaphore, and who waits here too long meets the call's time-out.
            let _slot = slots.acquire_owned().await;
            Ok(promised(announces.call(request).await?, limits::RPC_BYTES))
        })
    }
}

/// The generated trait, put in terms of [`Calls`].
struct Wire {
    calls: Arc<Calls>,
    /// When the second began in which so many refusals were logged.
    refusals: Mutex<(Instant, u32)>,
}

impl Wire {
    fn answer<T>(&self, call: &str, from: IpAddr, reply: Result<T, Refused>) -> Result<Response<T>, Status> {
        reply.map(Response::new).map_err(|refused| {
            let status = status(refused);
            // Not found is what all peers hear after a restart; their joins are logged.
            if status.code() != Code::NotFound && self.may_log() {
                let (code, reason) = (status.code(), status.message());
                say(format_args!("refuse call={call} from={from} code={code:?} reason={reason:?}"));
            }
            status
        })
    }

    fn may_log(&self) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.elapsed() >= Duration::from_secs(1) {
            *refusals = (Instant::now(), 0);
        }
        refusals.1 += 1;
        refusals.1 <= limits::REFUSAL_LINES
    }
}

pub(super) fn status(refused: Refused) -> Status {
    match refused {
        Refused::Invalid(sentence) => Status::invalid_argument(sentence),
        Refused::NotAllowed(sentence) => Status::permission_denied(sentence),
        Refused::TooMuch(sentence) => Status::resource_exhausted(sentence),
        Refused::Refusal(refusal) => {
            let code = match refusal {
                Refusal::Taken(_) => Code::AlreadyExists,
                Refusal::UnknownToken => Code::NotFound,
                Refusal::Superseded(_) => Code::Aborted,
                Refusal::TwoSizes(_) => Code::InvalidArgument,
                Refusal::Peers
                | Refusal::FilesPerPeer
                | Refusal::Files
                | Refusal::DownloadsPerPeer
                | Refusal::Downloads
                | Refusal::PathsBytes => Code::ResourceExhausted,
            };
            Status::new(code, refusal.to_string())
        }
    }
}

/// The address a call comes from; IPv4 as such, also where it came in over an IPv6 socket.
fn from<T>(request: &Request<T>) -> Result<IpAddr, Status> {
    let address = request.remote_addr().ok_or_else(|| Status::internal("the connection has no address"))?;
    Ok(address.ip().to_canonical())
}

#[tonic::async_trait]
impl Tracker for Wire {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let from = from(&request)?;
        self.answer("join", from, self.calls.join(from, request.get_ref()))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceReply>, Status> {
        self.answer("announce", from(&request)?, self.calls.announce(request.get_ref()))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        self.answer("renew", from(&request)?, self.calls.renew(request.get_ref()))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        self.answer("leave", from(&request)?, self.calls.leave(request.get_ref()))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchReply>, Status> {
        let from = from(&request)?;
        self.answer("search", from, self.calls.search(from, request.get_ref()))
    }

    async fn locate(&self, request: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        let from = from(&request)?;
        self.answer("locate", from, self.calls.locate(from, request.get_ref()))
    }
}
