//! A peer that is none: joins a tracker by hand, for sources that lie, stop or hang.

use std::net::SocketAddr;

use enjambre::proto::{AnnounceRequest, File, JoinRequest, tracker_client::TrackerClient};
use tonic::transport::{Channel, Endpoint};

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

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
