//! A tracker that lies: it says of one file, and of where that is, what it is told to, whatever it is asked.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use enjambre::proto::{
    AnnounceReply, AnnounceRequest, Found, JoinReply, JoinRequest, LeaveReply, LeaveRequest, LocateReply,
    LocateRequest, PeersReply, PeersRequest, Place, RenewReply, RenewRequest, SearchReply, SearchRequest, Source,
    WatchReply, WatchRequest,
    tracker_server::{Tracker, TrackerServer},
};
use tonic::{Request, Response, Status};

use super::{block_on, serve};

/// What it says.
#[derive(Default)]
pub struct LyingTracker {
    /// To a search.
    pub found: Vec<Found>,
    /// To a search that asks where its rows are.
    pub places: Vec<Place>,
    /// To a locate.
    pub sources: Vec<Source>,
    /// To a locate.
    pub paths: Vec<String>,
    /// To a watch, which then stays open.
    pub told: Vec<WatchReply>,
}

/// Says this, and then nothing for ever.
pub struct Telling(VecDeque<WatchReply>);

impl futures_core::Stream for Telling {
    type Item = Result<WatchReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.pop_front().map_or(Poll::Pending, |reply| Poll::Ready(Some(Ok(reply))))
    }
}

impl LyingTracker {
    /// Serves at an address, on a free port, until the test's process ends.
    #[track_caller]
    pub fn start(self, on: IpAddr) -> SocketAddr {
        let (address, serving) = serve(on, TrackerServer::new(self));
        thread::spawn(move || block_on(serving));
        address
    }
}

#[tonic::async_trait]
impl Tracker for LyingTracker {
    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let address = "10.77.0.1:5000".into();
        Ok(Response::new(JoinReply { token: vec![1; 16], lease_millis: 15_000, address }))
    }

    async fn announce(&self, _: Request<AnnounceRequest>) -> Result<Response<AnnounceReply>, Status> {
        Ok(Response::new(AnnounceReply {}))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Ok(Response::new(RenewReply {}))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        Ok(Response::new(LeaveReply {}))
    }

    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<SearchReply>, Status> {
        let (found, places) = (self.found.clone(), self.places.clone());
        Ok(Response::new(SearchReply { found, places, ..SearchReply::default() }))
    }

    async fn peers(&self, _: Request<PeersRequest>) -> Result<Response<PeersReply>, Status> {
        Ok(Response::new(PeersReply::default()))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        Ok(Response::new(LocateReply { paths: self.paths.clone(), sources: self.sources.clone() }))
    }

    type WatchStream = Telling;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Telling>, Status> {
        Ok(Response::new(Telling(self.told.clone().into())))
    }
}
