//! A peer's side of the tracker's protocol, with a tracker of the test's own that is slow, full or forgetful.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use enjambre::proto::{
    AnnounceReply, AnnounceRequest, JoinReply, JoinRequest, LeaveReply, LeaveRequest, LocateReply, LocateRequest,
    RenewReply, RenewRequest, SearchReply, SearchRequest,
    tracker_server::{Tracker, TrackerServer},
};
use support::*;
use tonic::{Request, Response, Status, transport::Server};

/// What the tracker does, and has heard in the present stay of its one peer.
#[derive(Default)]
struct Fake {
    /// Milliseconds that an announce takes.
    delay: AtomicU64,
    /// Announces wait while this is set.
    is_held: AtomicBool,
    waiting: AtomicU64,
    joins: AtomicU64,
    is_full: AtomicBool,
    /// The next announce or renewal is answered as a restarted tracker does.
    forgets: AtomicBool,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Fake {
    /// Serves until the test's process ends.
    fn start() -> (Arc<Self>, SocketAddr) {
        let fake = Arc::new(Self::default());
        let service = TrackerServer::from_arc(Arc::clone(&fake));
        let address = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        thread::spawn(move || block_on(Server::builder().serve(address, service)));
        (fake, address)
    }

    fn knows(&self, path: &str) -> bool {
        self.files.lock().unwrap().contains_key(path)
    }

    fn forget(&self) -> Result<(), Status> {
        if self.forgets.swap(false, Ordering::SeqCst) { Err(Status::not_found("join again")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl Tracker for Fake {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        self.files.lock().unwrap().clear();
        self.joins.fetch_add(1, Ordering::SeqCst);
        let address = SocketAddr::from(([127, 0, 0, 1], request.get_ref().port as u16)).to_string();
        Ok(Response::new(JoinReply { token: vec![7; 16], lease_millis: 1000, address }))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceReply>, Status> {
        self.forget()?;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst))).await;
        while self.is_held.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let AnnounceRequest { added, removed, .. } = request.into_inner();
        if !added.is_empty() && self.is_full.load(Ordering::SeqCst) {
            return Err(Status::resource_exhausted("full"));
        }
        let mut files = self.files.lock().unwrap();
        for path in removed {
            files.remove(&path);
        }
        files.extend(added.into_iter().map(|file| (file.path, file.content)));
        Ok(Response::new(AnnounceReply {}))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        self.forget().map(|()| Response::new(RenewReply {}))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        Ok(Response::new(LeaveReply {}))
    }

    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<SearchReply>, Status> {
        Ok(Response::new(SearchReply::default()))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        Ok(Response::new(LocateReply::default()))
    }
}

#[test]
fn changes_without_end_do_not_keep_the_share_from_being_announced_again() {
    let (fake, address) = Fake::start();
    let folder = Folder::new();
    folder.write("still", "x");
    let _peer = peer("p", folder.path(), address, &[]);
    wait_for(PATIENCE, "the share is announced", || fake.knows("still"));
    fake.delay.store(300, Ordering::SeqCst);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                folder.write(format!("hot-{}", number % 10), number.to_le_bytes());
                thread::sleep(Duration::from_millis(20));
            }
        });
        wait_for(PATIENCE, "changes come in", || fake.knows("hot-1") && fake.knows("hot-9"));
        fake.forgets.store(true, Ordering::SeqCst);
        wait_for(PATIENCE, "it joins again", || fake.joins.load(Ordering::SeqCst) == 2);
        let end = Instant::now() + Duration::from_secs(5);
        while !fake.knows("still") && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(Instant::now() < end, "only changes are announced");
    });
}

#[test]
fn a_full_tracker_is_not_left_with_what_is_no_longer_true() {
    let (fake, address) = Fake::start();
    let folder = Folder::new();
    folder.write("changes", "before");
    folder.write("goes", "x");
    let peer = peer("p", folder.path(), address, &[]);
    wait_for(PATIENCE, "the share is announced", || fake.knows("changes") && fake.knows("goes"));
    fake.is_full.store(true, Ordering::SeqCst);
    fake.is_held.store(true, Ordering::SeqCst);
    folder.write("new", "x");
    wait_for(PATIENCE, "an announce is under way", || fake.waiting.load(Ordering::SeqCst) == 1);
    // What happens meanwhile comes in one announce.
    std::fs::remove_file(folder.join("goes")).unwrap();
    folder.write("changes", "after");
    wait_for(PATIENCE, "the change is hashed", || get(peer.address, "/files/changes").body == b"after");
    wait_for(PATIENCE, "the removal is seen", || !get(peer.address, "/files").text().contains("goes"));
    fake.is_held.store(false, Ordering::SeqCst);
    wait_for(PATIENCE, "both are gone", || !fake.knows("changes") && !fake.knows("goes"));
    peer.wait_for_line(0, "it says so", |line| line.text.contains("does not take all of this share").then_some(()));
}
