//! The tracker on the wire: the server, and the protocol's calls.

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, task::yield_now, time::sleep};
use tonic::{
    Code, Request, Response, Status,
    codegen::http,
    transport::server::{Connected, Server},
};

use super::{
    callers::{Caller, Callers},
    calls::{Calls, Config, Refused},
    connections::{Connection, Connections},
    direct,
    gate::{Gate, Queue},
    health::Health,
    located,
    metrics::{Call, Metrics},
    monitor::Monitor,
    refusals::{Log, status},
    shared::Shared,
    watches::Watching,
};
use crate::{
    limits,
    proto::{
        AnnounceReply, AnnounceRequest, JoinReply, JoinRequest, LeaveReply, LeaveRequest, LocateReply, LocateRequest,
        PeersReply, PeersRequest, RenewReply, RenewRequest, SearchReply, SearchRequest, WatchRequest,
        tracker_server::Tracker,
    },
    secret::Secret,
    tls::Tls,
};

/// Where a tracker listens.
pub struct Listeners {
    /// For peers, and whoever else speaks gRPC.
    pub calls: TcpListener,
    /// What it is spoken by there, where the swarm has TLS.
    pub tls: Option<Tls>,
    /// For metrics and `/healthz`, by HTTP.
    pub monitor: Option<TcpListener>,
}

/// Answers calls, with a secret only those that prove it, until told to stop; then says by its health that it ends, takes no new connections, and answers
/// what is in flight, for [`limits::DRAIN_CALLS_TIME`] at most.
///
/// # Errors
/// When a listener cannot be used. Nothing that a connection does ends it.
pub async fn serve(
    listeners: Listeners,
    config: Config,
    secret: Option<Secret>,
    health: Health,
    shared: Shared,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let callers = Arc::new(Callers::new(Instant::now()));
    let calls = Arc::new(Calls::new(config, shared, Arc::clone(&metrics)));
    let connections = Connections::new(listeners.calls, listeners.tls, Arc::clone(&callers), Arc::clone(&metrics))?;
    if let Some(listener) = listeners.monitor {
        let monitor = Monitor {
            metrics: Arc::clone(&metrics),
            callers: Arc::clone(&callers),
            calls: Arc::clone(&calls),
            health: health.clone(),
        };
        // It ends with the runtime, so that it tells how this tracker ends.
        tokio::spawn(Arc::new(monitor).serve(super::monitor::listen(listener)?));
    }
    let wire = Wire {
        calls: Arc::clone(&calls),
        queue: Arc::new(Queue::new(config.lease)),
        metrics,
        log: Arc::new(Log::new()),
    };
    let gate = Gate::new(
        wire,
        secret,
        #[cfg(any(feature = "health", feature = "reflection"))]
        super::standard::Standard::new(health.clone()),
    );
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
        .serve_with_incoming_shutdown(gate, connections, async {
            let _ = stopped.await;
        });
    let stopping = async {
        shutdown.await;
        health.drain();
        calls.watches().end_all();
        let _ = stop.send(());
        sleep(limits::DRAIN_CALLS_TIME).await;
    };
    let sweeping = async {
        loop {
            match calls.expire() {
                // There is more to do at once, but others come first.
                Duration::ZERO => yield_now().await,
                pause => tokio::select! {
                    () = sleep(pause) => {}
                    () = calls.gone() => {}
                },
            }
        }
    };
    tokio::select! {
        served = serving => served.map_err(io::Error::other),
        () = stopping => Ok(()),
        () = sweeping => unreachable!(),
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }
}

/// The generated trait, put in terms of [`Calls`].
pub(super) struct Wire {
    calls: Arc<Calls>,
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: Arc<Log>,
}

impl Wire {
    fn answer<T>(&self, call: Call, caller: &Caller, reply: Result<T, Refused>) -> Result<T, Status> {
        reply.map_err(|refused| {
            let status = status(refused);
            // Not found is what all peers hear after a restart; their joins are logged.
            if status.code() != Code::NotFound {
                self.log.refused(call, caller.address, &status);
            }
            status
        })
    }

    /// The answer to a renewal or a locate of one plain message; none if this is not one.
    pub(super) fn answer_directly(
        &self,
        call: Call,
        caller: &Caller,
        bytes: &[u8],
    ) -> Option<Result<http::Response<direct::Told>, Status>> {
        Some(if call == Call::Renew {
            let reply = self.calls.renew(&direct::message(bytes)?);
            self.answer(call, caller, reply.map(|RenewReply {}| direct::answer(0, |_| {})))
        } else {
            let answer = |reply: located::Reply<'_>| direct::answer(reply.len(), |bytes| reply.put(bytes));
            self.answer(call, caller, self.calls.locate(caller.address, &direct::message(bytes)?, answer))
        })
    }
}

/// Whom a call comes from.
fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    let caller = request.extensions().get::<Arc<Caller>>();
    caller.map(AsRef::as_ref).ok_or_else(|| Status::internal("the connection has no address"))
}

#[tonic::async_trait]
impl Tracker for Wire {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let caller = caller(&request)?;
        let _turn = self.queue.turn(Call::Join).await;
        self.answer(Call::Join, caller, self.calls.join(caller.address, request.get_ref())).map(Response::new)
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceReply>, Status> {
        let caller = caller(&request)?;
        let _turn = self.queue.turn(Call::Announce).await;
        self.answer(Call::Announce, caller, self.calls.announce(request.get_ref()).await).map(Response::new)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        self.answer(Call::Renew, caller(&request)?, self.calls.renew(request.get_ref())).map(Response::new)
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        self.answer(Call::Leave, caller(&request)?, self.calls.leave(request.get_ref())).map(Response::new)
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchReply>, Status> {
        let caller = caller(&request)?;
        self.answer(Call::Search, caller, self.calls.search(caller.address, request.get_ref())).map(Response::new)
    }

    async fn locate(&self, request: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        let caller = caller(&request)?;
        let reply = self.calls.locate(caller.address, request.get_ref(), |reply| reply.message());
        self.answer(Call::Locate, caller, reply).map(Response::new)
    }

    type WatchStream = Watching;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Watching>, Status> {
        let watching = self.calls.watch(request.get_ref());
        let watching = watching.map(|(watcher, wanted)| Watching::begin(Arc::clone(&self.calls), watcher, wanted));
        self.answer(Call::Watch, caller(&request)?, watching).map(Response::new)
    }

    async fn peers(&self, request: Request<PeersRequest>) -> Result<Response<PeersReply>, Status> {
        let caller = caller(&request)?;
        self.answer(Call::Peers, caller, self.calls.peers(caller.address, request.get_ref())).map(Response::new)
    }
}
