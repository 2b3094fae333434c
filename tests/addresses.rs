//! Where a peer may be made to connect to: with a tracker that says whatever it likes.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use enjambre::proto::{
    AnnounceReply, AnnounceRequest, Found, JoinReply, JoinRequest, LeaveReply, LeaveRequest, LocateReply,
    LocateRequest, Place, RenewReply, RenewRequest, SearchReply, SearchRequest, Source,
    tracker_server::{Tracker, TrackerServer},
};
use support::*;
use tonic::{Request, Response, Status, transport::Server};

const BYTES: &[u8] = b"not for you";

/// A tracker that knows one file, and where it says it is.
struct Liar(Vec<String>);

impl Liar {
    fn id() -> Vec<u8> {
        blake3::hash(BYTES).as_bytes().to_vec()
    }

    fn peers(&self) -> Vec<String> {
        (0..self.0.len()).map(|number| format!("p{number}")).collect()
    }
}

#[tonic::async_trait]
impl Tracker for Liar {
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
        let source_ids = self.peers();
        let place = |(peer_id, address): (&String, &String)| Place {
            peer_id: peer_id.clone(),
            address: address.clone(),
            zone: String::new(),
        };
        let places = source_ids.iter().zip(&self.0).map(place).collect();
        let size = BYTES.len() as u64;
        let sources = source_ids.len() as u32;
        let found = vec![Found { path: "x.bin".into(), content: Self::id(), size, sources, source_ids }];
        Ok(Response::new(SearchReply { found, places, ..SearchReply::default() }))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        let source = |(number, (peer_id, address)): (usize, (String, &String))| Source {
            peer_id,
            address: address.clone(),
            zone: String::new(),
            size: BYTES.len() as u64,
            partial: number % 2 == 1,
        };
        let sources = self.peers().into_iter().zip(&self.0).enumerate().map(source).collect();
        Ok(Response::new(LocateReply { paths: vec!["x.bin".into()], sources }))
    }
}

/// Starts one on 10.77.0.1.
fn liar(addresses: Vec<String>) -> SocketAddr {
    let address = TcpListener::bind("10.77.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let serving = async move { Server::builder().serve(address, TrackerServer::new(Liar(addresses))).await.unwrap() };
    thread::spawn(move || block_on(serving));
    wait_for(PATIENCE, "the liar listens", || TcpStream::connect(address).is_ok());
    address
}

#[test]
fn whatever_the_tracker_says_a_peer_dials_no_address_where_no_peer_can_be() {
    let setup = "ip link set lo up && ip address add 10.77.0.1/24 dev lo && ip address add 169.254.169.254/32 dev lo \
                 && ip address add fd00:ec2::254/128 dev lo";
    in_a_namespace("--net", setup, "inner_whatever_the_tracker_says_a_peer_dials_no_address_where_no_peer_can_be");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_whatever_the_tracker_says_a_peer_dials_no_address_where_no_peer_can_be() {
    // One port at all of them, so that whoever comes is seen wherever it comes from.
    let local = TcpListener::bind("[::]:0").unwrap();
    let port = local.local_addr().unwrap().port();
    let dialled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dialled);
    thread::spawn(move || local.incoming().for_each(|_| _ = counted.fetch_add(1, Ordering::SeqCst)));
    let bad = [
        "127.0.0.1",
        "127.7.7.7",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "localhost",
    ];
    let tracker = liar(bad.map(|host| format!("{host}:{port}")).to_vec());
    let folder = Folder::new();
    let mut victim = peer("victim", folder.path(), tracker, &["--bind", "10.77.0.1"]);
    victim.joined();
    let id = blake3::hash(BYTES).to_string();
    for get in ["x.bin", &format!("{id} y.bin"), "*.bin", "x*"] {
        let answer = victim.ask(&format!("get {get}"));
        assert!(answer.error().is_some() && answer.out.is_empty(), "{get}: {answer:?}");
        assert_eq!(dialled.load(Ordering::SeqCst), 0, "{get}: it dialled one of them");
    }

    // The same words lead to an address where a peer can be: they would have been followed.
    let tracker = liar(vec![format!("10.77.0.1:{port}")]);
    for (number, get) in ["x.bin", &format!("{id} y.bin"), "*.bin"].into_iter().enumerate() {
        let folder = Folder::new();
        let mut victim = peer(&format!("v{number}"), folder.path(), tracker, &["--bind", "10.77.0.1"]);
        victim.joined();
        let before = dialled.load(Ordering::SeqCst);
        victim.send(&format!("get {get}"));
        wait_for(PATIENCE, "it dials", || dialled.load(Ordering::SeqCst) > before);
    }
}
