//! The link to the tracker: the peer's only tokio and tonic code.
//!
//! One thread runs it. It joins, announces the share and every change of it, and keeps the lease;
//! the rest of the peer sees blocking calls. A tracker is believed nothing: see `replies`.

mod downloads;
mod replies;
mod session;

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    str::FromStr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::Notify};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

use downloads::Downloads;
pub use replies::{Found, Located, Page, Place, Source};
use replies::{Refusal, SearchPage};

use crate::{
    content::ContentId,
    limits,
    name::{PeerId, Zone},
    peer::share::Share,
    proto::{self, tracker_client::TrackerClient},
};

/// A host: its name, or its address, IPv6 with or without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// As the system's resolver wants it.
    fn bare(&self) -> &str {
        self.0.trim_matches(['[', ']'])
    }
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = Self(text.to_owned());
        let is_name =
            !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
        let is_address = host.bare().parse::<IpAddr>().is_ok();
        if is_name || is_address { Ok(host) } else { Err("write a host's name or address, and no port") }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the tracker is: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerAddress {
    host: Host,
    port: u16,
}

impl TrackerAddress {
    /// Whether the tracker runs on this machine, as far as its name says.
    fn is_local(&self) -> bool {
        let mut addresses = self.resolve().into_iter().flatten().peekable();
        addresses.peek().is_some() && addresses.all(|address| address.ip().is_loopback())
    }

    /// Its addresses as the system knows them now.
    ///
    /// # Errors
    /// The resolver's.
    pub fn resolve(&self) -> io::Result<impl Iterator<Item = std::net::SocketAddr> + use<>> {
        (self.host.bare(), self.port).to_socket_addrs()
    }

    fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        Endpoint::from_shared(format!("http://{self}"))
    }
}

impl FromStr for TrackerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write HOST:PORT, as 10.0.0.1:50051 or [fd00::1]:50051";
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(wrong)?;
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !is_v6 {
            return Err(wrong);
        }
        let address = Self { host: host.parse().map_err(|_| wrong)?, port };
        address.endpoint().map_err(|_| wrong)?;
        Ok(address)
    }
}

impl fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What a link needs to know.
pub struct LinkConfig {
    /// The tracker.
    pub tracker: TrackerAddress,
    /// Under which id to join.
    pub peer: PeerId,
    /// The port on which this peer serves.
    pub port: u16,
    /// Its zone.
    pub zone: Zone,
    /// The address it serves on; unspecified for all of them.
    pub bind: IpAddr,
    /// The host that others shall dial, where it is not the one the tracker sees.
    pub advertise: Option<Host>,
    /// What to announce.
    pub share: Share,
    /// Called once when the tracker refuses the very first join, with a sentence on why and what
    /// to do: the peer should end.
    pub on_refused: Box<dyn Fn(String) + Send + Sync>,
}

/// A handle to the link; clones are handles to the same one.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    runtime: runtime::Handle,
}

/// Why the tracker could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// It cannot be reached, does not answer in time or not in its protocol.
    Away {
        /// Where it should be.
        tracker: String,
        /// What happened.
        reason: String,
    },
    /// It answered with a refusal; its sentence.
    Refused(String),
    /// This peer is leaving.
    Leaving,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { tracker, reason } => {
                write!(f, "tracker {tracker} is away ({reason}): try again when it is back")
            }
            Self::Refused(text) => write!(f, "the tracker refuses: {text}"),
            Self::Leaving => f.write_str("this peer is leaving"),
        }
    }
}

impl std::error::Error for LinkError {}

type Client = TrackerClient<Channel>;

struct Shared {
    config: LinkConfig,
    /// Replaced after a failure, so that a connection that hangs is not used again.
    client: Mutex<Option<Client>>,
    standing: Mutex<Standing>,
    downloads: Mutex<Downloads>,
    /// Held while the tracker is told of downloads, so that it hears everything in its order.
    telling: tokio::sync::Mutex<()>,
    /// Told of every change of `standing`.
    changed: Condvar,
    /// The share has news, or a download has begun or ended.
    news: Notify,
    leaving: Notify,
}

/// How things stand with the tracker.
#[derive(Default)]
struct Standing {
    joined: bool,
    /// The thread has ended.
    ended: bool,
    /// Changes of the share so far, and up to which of them the tracker has been told. None before
    /// the whole share has been announced in this stay.
    news: u64,
    announced: Option<u64>,
}

impl Link {
    /// Starts the link's thread.
    ///
    /// # Errors
    /// When the system gives no thread or descriptors.
    pub fn start(config: LinkConfig) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            // Only names are looked up on these.
            .max_blocking_threads(2)
            .thread_stack_size(256 << 10)
            .build()?;
        let shared = Arc::new(Shared {
            config,
            client: Mutex::default(),
            standing: Mutex::default(),
            downloads: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            changed: Condvar::new(),
            news: Notify::new(),
            leaving: Notify::new(),
        });
        let watcher = Arc::downgrade(&shared);
        shared.config.share.on_change(move || {
            if let Some(shared) = watcher.upgrade() {
                shared.stand(|standing| standing.news += 1);
                shared.news.notify_one();
            }
        });
        let link = Self { shared: shared.clone(), runtime: runtime.handle().clone() };
        thread::Builder::new().name("link".into()).spawn(move || {
            runtime.block_on(session::run(&shared));
            shared.stand(|standing| (standing.joined, standing.ended) = (false, true));
        })?;
        Ok(link)
    }

    /// Files whose path matches `text`, as [`proto::SearchRequest`] says, ordered by path; with
    /// `exact`, the one path that equals it. And whether there are more.
    ///
    /// # Errors
    /// When the tracker cannot be asked.
    pub fn search(&self, text: &str, exact: bool) -> Result<(Vec<Found>, bool), LinkError> {
        let request = proto::SearchRequest { text: text.to_owned(), exact, ..proto::SearchRequest::default() };
        let reply = self.ask(|mut client| async move { client.search(request).await })?;
        let SearchPage { found, more } = SearchPage::from(reply);
        Ok((found, more))
    }

    /// Files whose path matches `text`, behind `after`, and where to fetch them from.
    ///
    /// # Errors
    /// When the tracker cannot be asked.
    pub fn page(&self, text: &str, after: Option<&Found>) -> Result<Page, LinkError> {
        let LinkConfig { zone, tracker, .. } = &self.shared.config;
        let file = |row: &Found| proto::File {
            path: row.path.to_string(),
            content: row.content.bytes().to_vec(),
            size: row.size,
        };
        let request = proto::SearchRequest {
            text: text.to_owned(),
            after: after.map(file),
            places: true,
            zone: zone.as_str().to_owned(),
            ..proto::SearchRequest::default()
        };
        let reply = self.ask(|mut client| async move { client.search(request).await })?;
        Ok(Page::new(reply, after, tracker.is_local()))
    }

    /// The names and whole sources of a content. Addresses that nobody should be made to dial are
    /// left out.
    ///
    /// # Errors
    /// When the tracker cannot be asked.
    pub fn locate(&self, id: &ContentId) -> Result<Located, LinkError> {
        let request = proto::LocateRequest { content: id.bytes().to_vec(), ..proto::LocateRequest::default() };
        let shared = self.shared.clone();
        let reply = self.run(async move { shared.locate(request).await })?;
        Ok(self.located(reply))
    }

    /// Lets others know that this peer downloads a content of this size, and gives on what it has:
    /// at once, and again whenever the tracker has forgotten, until
    /// [`end_download`](Self::end_download). Waits for nothing.
    pub fn begin_download(&self, id: &ContentId, size: u64) {
        if self.shared.downloads().begin(*id, size) {
            self.shared.news.notify_one();
        }
    }

    /// The content is no longer downloaded, it is whole or was given up. Waits for nothing.
    pub fn end_download(&self, id: &ContentId) {
        self.shared.downloads().end(id);
        self.shared.news.notify_one();
    }

    /// From whom this peer should download a content that it has begun to: whole sources, and others
    /// that download it too; the same again each time, but for those that are gone and `dead` ones,
    /// which failed. Any whole sources while the tracker does not know this peer. Addresses that
    /// nobody should be made to dial are left out.
    ///
    /// # Errors
    /// When the tracker cannot be asked.
    pub fn neighbours(&self, id: &ContentId, dead: &[PeerId]) -> Result<Vec<Source>, LinkError> {
        let dead = dead.iter().rev().take(limits::DEAD).map(PeerId::to_string).collect();
        let request = proto::LocateRequest { content: id.bytes().to_vec(), token: Vec::new(), dead };
        let shared = self.shared.clone();
        let reply = self.run(async move { shared.neighbours(request).await })?;
        let mut sources = self.located(reply).sources;
        sources.retain(|source| source.peer != self.shared.config.peer);
        Ok(sources)
    }

    fn located(&self, reply: proto::LocateReply) -> Located {
        Located::new(reply, self.shared.config.tracker.is_local())
    }

    /// Whether the tracker knows this peer, as far as the last call to it told.
    pub fn is_joined(&self) -> bool {
        self.shared.standing().joined
    }

    /// Waits until the tracker knows this peer, or the link has ended.
    pub fn wait_joined(&self) {
        while !self.shared.wait(Instant::now() + limits::UNUSED_TIME, |standing| standing.joined || standing.ended) {}
    }

    /// Waits until the tracker knows this peer and all that it shares now; false when it does not
    /// by `deadline`.
    pub fn wait_settled(&self, deadline: Instant) -> bool {
        self.shared.wait(deadline, |standing| standing.joined && standing.announced == Some(standing.news))
    }

    /// Tells the tracker that this peer leaves, and ends the link. Takes at most
    /// [`limits::LINK_LEAVE_TIME`].
    pub fn leave(&self) {
        self.shared.leaving.notify_one();
        self.shared.wait(Instant::now() + limits::LINK_LEAVE_TIME, |standing| standing.ended);
    }

    /// Makes one call on the link's thread and waits for the answer.
    fn ask<T, F>(&self, call: impl FnOnce(Client) -> F + Send + 'static) -> Result<T, LinkError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let shared = self.shared.clone();
        self.run(async move { shared.call(call).await })
    }

    /// Runs what makes calls on the link's thread and waits for its end.
    fn run<T: Send + 'static>(
        &self,
        calls: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, LinkError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = answer.send(calls.await);
        });
        // Each call has its own time-out; this one is for a link that ended meanwhile. Most calls at
        // once has `neighbours`: it may wait for an announce before its own, and ask twice.
        let patience = 4 * limits::RPC_TIME + Duration::from_secs(1);
        let answer = answered.recv_timeout(patience).map_err(|_| LinkError::Leaving)?;
        answer.map_err(|refusal| match refusal {
            Refusal::Away(reason) => LinkError::Away { tracker: self.shared.config.tracker.to_string(), reason },
            other => LinkError::Refused(other.into_text()),
        })
    }
}

impl Shared {
    /// Makes one call, within its time.
    async fn call<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client =
            self.client.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| self.connect()).clone();
        let result = match tokio::time::timeout(limits::RPC_TIME, call(client)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Refusal::from(status),
            Err(_) => Refusal::Away("no answer in time".into()),
        };
        if let Refusal::Away(_) = result {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Err(result)
    }

    async fn locate(&self, request: proto::LocateRequest) -> Result<proto::LocateReply, Refusal> {
        let client = |client: Client| client.max_decoding_message_size(limits::LOCATE_BYTES);
        self.call(|plain| async move { client(plain).locate(request).await }).await
    }

    /// Locates as the downloader that this peer is, once the tracker knows that.
    async fn neighbours(&self, request: proto::LocateRequest) -> Result<proto::LocateReply, Refusal> {
        // What fails here is said, and tried again, by the session.
        let told = self.tell(Downloads::begun).await;
        let token = self.downloads().token().filter(|_| !matches!(told, Err(Refusal::Away(_))));
        if let Some(token) = token {
            match self.locate(proto::LocateRequest { token: token.clone(), ..request.clone() }).await {
                Err(Refusal::Forgotten) => {
                    self.downloads().doubt(&token);
                    self.news.notify_one();
                }
                // The connection may have been an old one, to a tracker that has restarted.
                Err(Refusal::Away(_) | Refusal::Superseded) => {}
                answer => return answer,
            }
        }
        self.locate(request).await
    }

    /// Tells the tracker of downloads, until there is nothing to tell.
    async fn tell(&self, news: fn(&Downloads) -> Option<proto::AnnounceRequest>) -> Result<(), Refusal> {
        let _one_at_a_time = self.telling.lock().await;
        loop {
            let Some(request) = news(&self.downloads()) else { return Ok(()) };
            let call = request.clone();
            let told = self.call(|mut client| async move { client.announce(call).await }).await;
            if matches!(told, Ok(_) | Err(Refusal::Full(_) | Refusal::Never(_))) {
                self.downloads().tell(&request);
            }
            told?;
        }
    }

    fn downloads(&self) -> MutexGuard<'_, Downloads> {
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that connects, and looks the tracker's name up, at its first call. It sends no pings:
    /// each call has its time, and a connection that has failed one is not used again.
    fn connect(&self) -> Client {
        let endpoint = self.config.tracker.endpoint().expect("parsed as an endpoint before");
        let channel = endpoint
            .connect_timeout(limits::RPC_CONNECT_TIME)
            .tcp_nodelay(true)
            .http2_max_header_list_size(limits::HEAD_BYTES as u32)
            .connect_lazy();
        TrackerClient::new(channel).max_decoding_message_size(limits::RPC_BYTES)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing());
        self.changed.notify_all();
    }

    fn wait(&self, deadline: Instant, condition: impl Fn(&Standing) -> bool) -> bool {
        let time = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.standing(), time, |standing| !condition(standing));
        condition(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_a_host_and_a_port_and_nothing_else() {
        for good in ["127.0.0.1:50051", "tracker.internal:1", "[::1]:50051"] {
            assert_eq!(good.parse::<TrackerAddress>().map(|address| address.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "host", ":1", "host:", "host:0", "host:65536", "http://host:1", "::1:50051", "a b:1", "u@h:1"] {
            assert!(bad.parse::<TrackerAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_no_port() {
        for good in ["10.0.0.1", "fd00::1", "[fd00::1]", "host", "ec2-1-2-3-4.compute.amazonaws.com"] {
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.1:5000", "[fd00::1]:5000", "a b", "http://x", "u@h", "host:1", "[]"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_tracker_on_this_machine_is_local() {
        for (tracker, local) in [("127.0.0.1:1", true), ("[::1]:1", true), ("localhost:1", true), ("10.0.0.1:1", false)]
        {
            assert_eq!(tracker.parse::<TrackerAddress>().unwrap().is_local(), local, "{tracker}");
        }
    }
}
