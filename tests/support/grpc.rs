//! A peer that is none: joins a tracker by hand, for sources that lie, stop or hang. And where a tracker that is none
//! serves.

use std::net::{IpAddr, SocketAddr, TcpListener};

use enjambre::proto::{
    AnnounceRequest, File, JoinRequest,
    tracker_client::TrackerClient,
    tracker_server::{Tracker, TrackerServer},
};
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};

/// Joins a tracker as `id` at a port, over a connection of its own.
pub async fn join(tracker: SocketAddr, id: &str, port: u16) -> (TrackerClient<Channel>, Vec<u8>) {
    let channel = Endpoint::try_from(format!("http://{tracker}")).unwrap().connect().await.unwrap();
    let mut client = TrackerClient::new(channel);
    let identity = blake3::hash(id.as_bytes()).as_bytes().to_vec();
    let join = JoinRequest { peer_id: id.into(), identity, port: port.into(), ..JoinRequest::default() };
    let token = client.join(join).await.unwrap().into_inner().token;
    (client, token)
}

/// Joins a tracker as `id` at a port and announces one file; what it takes to go on, and the token.
pub async fn announce(
    tracker: SocketAddr,
    id: &str,
    port: u16,
    path: &str,
    bytes: &[u8],
) -> (TrackerClient<Channel>, Vec<u8>) {
    let (mut client, token) = join(tracker, id, port).await;
    let content = blake3::hash(bytes).as_bytes().to_vec();
    let file = File { path: path.into(), content, size: bytes.len() as u64 };
    let request = AnnounceRequest { token: token.clone(), added: vec![file], ..AnnounceRequest::default() };
    client.announce(request).await.unwrap();
    (client, token)
}

/// Where a tracker of the test's own listens, on a free port, and what answers there for as long as it runs. The port
/// is never let go of in between: others would take it.
#[track_caller]
pub fn serve(on: IpAddr, tracker: TrackerServer<impl Tracker>) -> (SocketAddr, impl Future<Output = ()> + Send) {
    let listener = TcpListener::bind((on, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        let incoming = incoming.with_nodelay(Some(true));
        Server::builder().serve_with_incoming(tracker, incoming).await.unwrap();
    };
    (address, serving)
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
