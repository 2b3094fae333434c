//! The services that tools expect of any gRPC server: `grpc.health.v1` and server reflection. Each is a
//! feature.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http},
};

use super::{
    gate::{Answer, at_once},
    health::Health,
    refusals,
};
use crate::limits;

/// Both services, and how many of their streams are open.
pub(super) struct Standard {
    #[cfg(feature = "health")]
    health: tonic_health::pb::health_server::HealthServer<health::Checks>,
    #[cfg(feature = "reflection")]
    reflection: reflection::Reflection,
    streams: Arc<Semaphore>,
}

impl Standard {
    #[cfg_attr(not(feature = "health"), expect(unused_variables))]
    pub(super) fn new(health: Health) -> Self {
        Self {
            #[cfg(feature = "health")]
            health: health::server(health),
            #[cfg(feature = "reflection")]
            reflection: reflection::Reflection::new(),
            streams: Arc::new(Semaphore::new(limits::TRACKER_STREAMS)),
        }
    }

    /// Answers a request for a service whose name begins with `grpc.`.
    pub(super) fn call(&self, request: http::Request<Body>) -> Answer {
        let path = request.uri().path();
        let answer = match path.rsplit_once('/').map_or("", |(service, _)| service) {
            #[cfg(feature = "health")]
            "/grpc.health.v1.Health" if path.ends_with("/Check") => return self.health.clone().call(request),
            #[cfg(feature = "health")]
            "/grpc.health.v1.Health" => self.health.clone().call(request),
            #[cfg(feature = "reflection")]
            "/grpc.reflection.v1.ServerReflection" => self.reflection.v1(request),
            #[cfg(feature = "reflection")]
            "/grpc.reflection.v1alpha.ServerReflection" => self.reflection.v1alpha(request),
            _ => return at_once(Status::unimplemented("no such service here")),
        };
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let most = limits::TRACKER_STREAMS;
            let sentence = format!("at most {most} watches and reflections at a time");
            return at_once(refusals::later(&sentence, limits::SHED_PAUSE.end));
        };
        Box::pin(async {
            let (head, body) = answer.await?.into_parts();
            Ok(http::Response::from_parts(head, Body::new(Streamed { body, _permit: permit })))
        })
    }
}

/// The body of an answer that counts as a stream until it has ended.
struct Streamed {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(feature = "reflection")]
mod reflection {
    use std::sync::LazyLock;

    use tonic_reflection::server::{Builder, v1, v1alpha};

    use super::{Answer, Body, Service, http};
    use crate::limits;

    /// The protocol's description, comments included, as `build.rs` made it.
    const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

    type Call = Box<dyn Fn(http::Request<Body>) -> Answer + Send + Sync>;

    /// Server reflection, as today's clients ask for it and as those before 2023 do. Made when somebody asks: most
    /// trackers are never asked, and what is made takes a fifth of an idle one's memory.
    pub(super) struct Reflection {
        v1: LazyLock<Call>,
        v1alpha: LazyLock<Call>,
    }

    impl Reflection {
        pub(super) const fn new() -> Self {
            Self {
                v1: LazyLock::new(|| {
                    let v1 = builder().build_v1().expect("build.rs made these descriptors");
                    let v1 = v1.max_decoding_message_size(limits::RPC_SMALL_BYTES);
                    Box::new(move |request| v1::ServerReflectionServer::clone(&v1).call(request))
                }),
                v1alpha: LazyLock::new(|| {
                    let v1alpha = builder().build_v1alpha().expect("build.rs made these descriptors");
                    let v1alpha = v1alpha.max_decoding_message_size(limits::RPC_SMALL_BYTES);
                    Box::new(move |request| v1alpha::ServerReflectionServer::clone(&v1alpha).call(request))
                }),
            }
        }

        pub(super) fn v1(&self, request: http::Request<Body>) -> Answer {
            (self.v1)(request)
        }

        pub(super) fn v1alpha(&self, request: http::Request<Body>) -> Answer {
            (self.v1alpha)(request)
        }
    }

    fn builder() -> Builder<'static> {
        let builder = Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        #[cfg(feature = "health")]
        let builder = builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        builder
    }
}

#[cfg(feature = "health")]
mod health {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use futures_core::Stream;
    use tokio::sync::mpsc;
    use tonic::{Request, Response, Status};
    use tonic_health::pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus,
        health_server::{self, HealthServer},
    };

    use crate::{
        limits,
        tracker::health::{Health, State},
    };

    pub(super) fn server(health: Health) -> HealthServer<Checks> {
        HealthServer::new(Checks(health)).max_decoding_message_size(limits::RPC_SMALL_BYTES)
    }

    /// The protocol by its own rules: `tonic_health`'s server refuses to watch a service that it does not know,
    /// and its watches do not end when the tracker does.
    pub(super) struct Checks(Health);

    /// The status of a service by its name; none when there is none. A tracker that is degraded serves, and
    /// should be asked: only who asks for its store hears of it.
    fn status(service: &str, State { is_draining, is_degraded }: State) -> Option<ServingStatus> {
        let is_serving = match service {
            "" | "enjambre.v1.Tracker" => !is_draining,
            "enjambre.v1.Tracker/store" => !is_draining && !is_degraded,
            _ => return None,
        };
        Some(if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing })
    }

    #[tonic::async_trait]
    impl health_server::Health for Checks {
        async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
            let status = status(&request.get_ref().service, self.0.state()).ok_or_else(|| {
                Status::not_found("no such service: ask for \"\", enjambre.v1.Tracker or enjambre.v1.Tracker/store")
            })?;
            Ok(Response::new(HealthCheckResponse { status: status.into() }))
        }

        type WatchStream = Watch;

        async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
            let service = request.into_inner().service;
            let mut states = self.0.subscribe();
            let (send, told) = mpsc::channel(1);
            tokio::spawn(async move {
                let mut last = None;
                loop {
                    let state = *states.borrow_and_update();
                    let status = status(&service, state).unwrap_or(ServingStatus::ServiceUnknown);
                    let is_news = last.replace(status) != Some(status);
                    if is_news && send.send(Ok(HealthCheckResponse { status: status.into() })).await.is_err() {
                        return;
                    }
                    if state.is_draining {
                        return;
                    }
                    tokio::select! {
                        changed = states.changed() => if changed.is_err() { return },
                        () = send.closed() => return,
                    }
                }
            });
            Ok(Response::new(Watch(told)))
        }
    }

    /// What a watch is told.
    pub(super) struct Watch(mpsc::Receiver<Result<HealthCheckResponse, Status>>);

    impl Stream for Watch {
        type Item = Result<HealthCheckResponse, Status>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx)
        }
    }
}
