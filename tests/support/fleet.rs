//! Peers that are none: they join, announce, renew and change what they have without end, over one tracker of
//! several, and turn to the next one when that fails them, as the real ones do.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use enjambre::{
    limits,
    proto::{self, AnnounceRequest, File, JoinRequest, RenewRequest, SearchRequest, tracker_client::TrackerClient},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// A connection to a tracker, made at the first call.
pub fn client(tracker: SocketAddr) -> TrackerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{tracker}")).expect("an address is a host");
    let channel = endpoint.connect_timeout(CALL_TIME).timeout(CALL_TIME).connect_lazy();
    TrackerClient::new(channel).max_decoding_message_size(limits::RPC_BYTES)
}

/// What a peer waits for an answer before it turns to another tracker.
const CALL_TIME: Duration = Duration::from_secs(2);

/// What was removed so many changes ago a tracker has passed on.
const LATELY: usize = 30;

/// A file whose bytes are its path.
pub fn file(path: &str) -> File {
    File { path: path.to_owned(), content: blake3::hash(path.as_bytes()).as_bytes().to_vec(), size: path.len() as u64 }
}

/// Everything that a tracker finds for a pattern: all pages.
pub async fn find_rows(client: &mut TrackerClient<Channel>, text: &str) -> Result<Vec<proto::Found>, Status> {
    let mut rows = Vec::new();
    let mut request = SearchRequest { text: text.to_owned(), ..SearchRequest::default() };
    loop {
        let reply = client.search(request.clone()).await?.into_inner();
        rows.extend(reply.found);
        if reply.cursor.is_empty() {
            return Ok(rows);
        }
        request.cursor = reply.cursor;
    }
}

/// The paths of everything that a tracker finds for a pattern.
pub async fn find_all(client: &mut TrackerClient<Channel>, text: &str) -> Result<Vec<String>, Status> {
    Ok(find_rows(client, text).await?.into_iter().map(|row| row.path).collect())
}

/// What a fleet is told to be like.
#[derive(Clone)]
pub struct Plan {
    /// Where the trackers are.
    pub trackers: Vec<SocketAddr>,
    /// How long they believe a peer.
    pub lease: Duration,
    /// How often each peer exchanges a file for another.
    pub change: Duration,
    /// Files that each peer has beside the one that it exchanges.
    pub files: usize,
}

/// What one peer has, as a tracker has acknowledged it.
#[derive(Clone, Default, Debug)]
pub struct Has {
    /// The file that it exchanged last, and since when it is announced.
    pub changing: Option<(String, Instant)>,
    /// Which tracker it is at.
    pub at: usize,
    /// When a tracker answered it last.
    pub heard: Option<Instant>,
}

/// Peers under way; they end when this is dropped, as if they were killed.
pub struct Fleet {
    pub peers: Vec<(String, Arc<Mutex<Has>>)>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Fleet {
    /// Starts so many, the n-th at the tracker n.
    pub fn start(plan: &Plan, count: usize) -> Self {
        let mut fleet = Self { peers: Vec::new(), tasks: Vec::new() };
        for number in 0..count {
            let (id, has) = (format!("fleet-{number}"), Arc::new(Mutex::new(Has::default())));
            let peer = FleetPeer {
                id: id.clone(),
                number,
                plan: plan.clone(),
                at: number % plan.trackers.len(),
                client: client(plan.trackers[number % plan.trackers.len()]),
                token: Vec::new(),
                has: Arc::clone(&has),
            };
            fleet.peers.push((id, has));
            fleet.tasks.push(tokio::spawn(peer.live()));
        }
        fleet
    }

    /// Kills one peer.
    pub fn kill(&mut self, number: usize) {
        self.tasks[number].abort();
    }

    /// Whether all have announced all that they have.
    pub fn is_up(&self) -> bool {
        self.peers.iter().all(|(_, has)| has.lock().expect("no peer panics").changing.is_some())
    }

    /// Files that a tracker has acknowledged before then, and that are still there.
    pub fn changing_since(&self, then: Instant) -> Vec<String> {
        let has = self.peers.iter().map(|(_, has)| has.lock().expect("no peer panics").changing.clone());
        has.flatten().filter(|(_, since)| *since <= then).map(|(path, _)| path).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

struct FleetPeer {
    id: String,
    number: usize,
    plan: Plan,
    at: usize,
    client: TrackerClient<Channel>,
    token: Vec<u8>,
    has: Arc<Mutex<Has>>,
}

impl FleetPeer {
    async fn live(mut self) {
        let mut round = 0_usize;
        loop {
            self.join().await;
            let mut told_at = self.at;
            let (mut old, mut removed_lately): (Option<String>, Vec<String>) = (None, Vec::new());
            let (mut renew, mut change) = (Instant::now(), Instant::now());
            let (mut added, mut again) = (self.files(), Vec::new());
            loop {
                let now = Instant::now();
                if told_at != self.at {
                    // The tracker before may not have passed on all that it was told.
                    (told_at, added) = (self.at, self.files());
                    again = removed_lately.clone();
                }
                if !added.is_empty() || now >= change {
                    let new = format!("changing/{}/{round}", self.id);
                    round += 1;
                    let mut all = std::mem::take(&mut added);
                    all.push(new.clone());
                    let removed: Vec<_> = old.iter().cloned().chain(again.drain(..)).collect();
                    removed_lately.extend(old.take());
                    removed_lately.drain(..removed_lately.len().saturating_sub(LATELY));
                    let files = all.iter().map(|path| file(path)).collect();
                    let request = AnnounceRequest { added: files, removed, ..AnnounceRequest::default() };
                    if !self.insist(Say::Announce(request)).await {
                        break;
                    }
                    old = Some(new.clone());
                    self.has.lock().expect("no peer panics").changing = Some((new, Instant::now()));
                    (renew, change) = (Instant::now() + self.plan.lease / 3, now + self.plan.change);
                } else if now >= renew {
                    if !self.insist(Say::Renew).await {
                        break;
                    }
                    renew = Instant::now() + self.plan.lease / 3;
                }
                let next = renew.min(change).saturating_duration_since(Instant::now());
                tokio::time::sleep(next).await;
            }
            self.has.lock().expect("no peer panics").changing = None;
        }
    }

    fn files(&self) -> Vec<String> {
        (0..self.plan.files).map(|number| format!("lasting/{}/{number}", self.id)).collect()
    }

    async fn join(&mut self) {
        loop {
            let identity = blake3::hash(self.id.as_bytes()).as_bytes().to_vec();
            let port = 1024 + self.number as u32;
            let request = JoinRequest { peer_id: self.id.clone(), identity, port, ..JoinRequest::default() };
            match self.client.join(request).await {
                Ok(reply) => {
                    self.token = reply.into_inner().token;
                    return;
                }
                Err(_) => self.turn().await,
            }
        }
    }

    /// Says something until a tracker has heard it; false when it has to join again.
    async fn insist(&mut self, say: Say) -> bool {
        loop {
            let token = self.token.clone();
            let said = match &say {
                Say::Announce(request) => {
                    self.client.announce(AnnounceRequest { token, ..request.clone() }).await.map(|_| ())
                }
                Say::Renew => self.client.renew(RenewRequest { token }).await.map(|_| ()),
            };
            match said {
                Ok(()) => {
                    let mut has = self.has.lock().expect("no peer panics");
                    (has.at, has.heard) = (self.at, Some(Instant::now()));
                    return true;
                }
                Err(status) if status.code() == Code::NotFound => return false,
                Err(_) => self.turn().await,
            }
        }
    }

    /// Turns to the next tracker.
    async fn turn(&mut self) {
        self.at = (self.at + 1) % self.plan.trackers.len();
        self.client = client(self.plan.trackers[self.at]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

enum Say {
    Announce(AnnounceRequest),
    Renew,
}
