//! The link to the tracker: the peer's only tokio and tonic code.
//!
//! One thread runs it. It joins, announces the share and every change of it, and keeps the lease;
//! the rest of the peer sees blocking calls. A tracker is believed nothing: see `replies`.

mod address;
mod calls;
mod downloads;
mod frames;
mod replies;
mod retry;
mod session;
mod turns;
mod watch;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::Notify};

pub use address::{Host, TrackerAddress, Trackers};
use calls::{Answer, Call, Caller, Whom};
use downloads::Downloads;
pub use frames::SmallFrames;
pub use replies::{Found, Located, Member, Mirror, Page, Place, Roll, Source, Told};
use replies::{Refusal, SearchPage};
pub use watch::Follower;

use crate::{
    content::ContentId,
    limits,
    name::{PeerId, Zone},
    peer::share::Share,
    proto::{self, LocateRequest, PeersRequest, SearchRequest},
    secret::Secret,
    tls::Tls,
};

/// What a link needs to know.
#[derive(Clone)]
pub struct LinkConfig {
    /// The trackers.
    pub trackers: Trackers,
    /// The swarm's secret.
    pub secret: Option<Secret>,
    /// How it is spoken to where the swarm has TLS.
    pub tls: Option<Tls>,
    /// The own id.
    pub peer: PeerId,
    /// The own zone.
    pub zone: Zone,
}

/// What a peer needs to know that joins, and is found by others.
pub struct Joining {
    /// The port on which it serves.
    pub port: u16,
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

/// Why no tracker could be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// None can be reached, or answers in time and in its protocol.
    Away {
        /// Where they should be.
        trackers: Vec<String>,
        /// What happened, at the last that was asked.
        reason: String,
    },
    /// One answered with a refusal; its sentence.
    Refused(String),
    /// This peer is leaving.
    Leaving,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { trackers, reason } => match &trackers[..] {
                [tracker] => write!(f, "tracker {tracker} is away ({reason}): try again when it is back"),
                several => {
                    write!(f, "no tracker of {} answers ({reason}): try again when one does", several.join(", "))
                }
            },
            Self::Refused(text) => write!(f, "the tracker refuses: {text}"),
            Self::Leaving => f.write_str("this peer is leaving"),
        }
    }
}

impl std::error::Error for LinkError {}

struct Shared {
    config: LinkConfig,
    caller: Caller,
    standing: Mutex<Standing>,
    downloads: Mutex<Downloads>,
    /// Held while the tracker is told of downloads, so that it hears everything in its order.
    telling: tokio::sync::Mutex<()>,
    /// Told of every change of `standing`.
    changed: Condvar,
    /// The share has news, or a download has begun or ended.
    news: Notify,
    /// A stay in the swarm has begun.
    stays: Notify,
    leaving: Notify,
}

/// How things stand with the tracker.
#[derive(Default)]
struct Standing {
    joined: bool,
    /// When a tracker confirmed the lease last, and how long that is.
    lease: Option<(Instant, Duration)>,
    /// The thread has ended.
    ended: bool,
    /// Changes of the share so far, and up to which of them the tracker has been told. None before
    /// the whole share has been announced in this stay.
    news: u64,
    announced: Option<u64>,
}

impl Link {
    /// Starts the link's thread, which joins.
    ///
    /// # Errors
    /// When the system gives no thread or descriptors.
    pub fn start(config: LinkConfig, joining: Joining) -> io::Result<Self> {
        Self::new(config, Some(joining))
    }

    /// Starts the thread of a link that only asks: nobody is told of this peer.
    ///
    /// # Errors
    /// When the system gives no thread or descriptors.
    pub fn visit(config: LinkConfig) -> io::Result<Self> {
        Self::new(config, None)
    }

    fn new(config: LinkConfig, joining: Option<Joining>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            // Only names are looked up on these.
            .max_blocking_threads(2)
            .thread_stack_size(256 << 10)
            .build()?;
        let shared = Arc::new(Shared {
            caller: Caller::new(
                config.trackers.clone().ordered_for(&config.peer),
                config.secret.as_ref(),
                config.tls.clone(),
                joining.is_some(),
            ),
            config,
            standing: Mutex::default(),
            downloads: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            changed: Condvar::new(),
            news: Notify::new(),
            stays: Notify::new(),
            leaving: Notify::new(),
        });
        let watcher = Arc::downgrade(&shared);
        if let Some(joining) = &joining {
            joining.share.on_change(move || {
                if let Some(shared) = watcher.upgrade() {
                    shared.stand(|standing| standing.news += 1);
                    shared.news.notify_one();
                }
            });
        }
        let link = Self { shared: shared.clone(), runtime: runtime.handle().clone() };
        thread::Builder::new().name("link".into()).spawn(move || {
            match joining {
                Some(joining) => runtime.block_on(session::run(&shared, &joining)),
                None => runtime.block_on(shared.leaving.notified()),
            }
            shared.stand(|standing| (standing.joined, standing.ended) = (false, true));
        })?;
        Ok(link)
    }

    /// The first [`limits::SEARCH_RESULTS`] files whose path matches `text`, as [`proto::SearchRequest`] says;
    /// with `exact`, the one path that equals it. And whether there are more.
    ///
    /// # Errors
    /// When no tracker can be asked.
    pub fn search(&self, text: &str, exact: bool) -> Result<(Vec<Found>, bool), LinkError> {
        let deadline = Instant::now() + limits::SEARCH_TIME;
        let mut request = SearchRequest { text: text.to_owned(), exact, ..SearchRequest::default() };
        let mut all = Vec::new();
        loop {
            let SearchPage { found, cursor } = self.ask(&request)?.0.into();
            all.extend(found);
            let is_over = all.len() > limits::SEARCH_RESULTS;
            all.truncate(limits::SEARCH_RESULTS);
            if is_over || cursor.is_empty() || all.len() == limits::SEARCH_RESULTS || Instant::now() > deadline {
                return Ok((all, is_over || !cursor.is_empty()));
            }
            request.cursor = cursor;
        }
    }

    /// What the tracker says in one reply of the files whose path matches `text`, behind the one whose cursor is given;
    /// and the cursor for what comes behind it, empty at the end.
    ///
    /// # Errors
    /// When no tracker can be asked, or the cursor is none.
    pub fn search_from(&self, text: &str, cursor: Vec<u8>) -> Result<(Vec<Found>, Vec<u8>), LinkError> {
        let request = SearchRequest { text: text.to_owned(), cursor, ..SearchRequest::default() };
        let SearchPage { found, cursor } = self.ask(&request)?.0.into();
        Ok((found, cursor))
    }

    /// Files whose path matches `text`, behind those of `after`, and where to fetch them from; at least one, unless
    /// there is none.
    ///
    /// # Errors
    /// When no tracker can be asked, or none names one in [`limits::SEARCH_TIME`].
    pub fn page(&self, text: &str, after: Option<&Page>) -> Result<Page, LinkError> {
        let deadline = Instant::now() + limits::SEARCH_TIME;
        let mut request = SearchRequest {
            text: text.to_owned(),
            cursor: after.map(|page| page.cursor.clone()).unwrap_or_default(),
            places: true,
            zone: self.shared.config.zone.as_str().to_owned(),
            ..SearchRequest::default()
        };
        let last = after.and_then(|page| page.found.last());
        loop {
            let (reply, is_local) = self.ask(&request)?;
            let page = Page::new(reply, last, is_local);
            if !page.found.is_empty() || !page.has_more() {
                return Ok(page);
            }
            if Instant::now() > deadline {
                let reason = "it goes on searching for too long".into();
                return Err(LinkError::Away { trackers: self.shared.caller.addresses(), reason });
            }
            request.cursor = page.cursor;
        }
    }

    /// Peers of the swarm, behind those of the reply before, whose cursor this is; from the first one on with an empty one.
    ///
    /// # Errors
    /// When no tracker can be asked, or it does not take the cursor.
    pub fn peers(&self, cursor: &str) -> Result<Roll, LinkError> {
        let (reply, _) = self.ask(&PeersRequest { cursor: cursor.to_owned() })?;
        Ok(Roll::new(reply, cursor))
    }

    /// The names and whole sources of a content. Addresses that nobody should be made to dial are
    /// left out.
    ///
    /// # Errors
    /// When no tracker can be asked.
    pub fn locate(&self, id: &ContentId) -> Result<Located, LinkError> {
        let (reply, is_local) =
            self.ask(&LocateRequest { content: id.bytes().to_vec(), ..LocateRequest::default() })?;
        Ok(Located::new(reply, is_local))
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

    /// Lets others know how far this peer is with what it mirrors. Waits for nothing.
    pub fn mirrors(&self, mirror: Mirror) {
        if self.shared.downloads().mirror(mirror) {
            self.shared.news.notify_one();
        }
    }

    /// From whom this peer should download a content that it has begun to: whole sources, and others
    /// that download it too; the same again each time, but for those that are gone and `dead` ones,
    /// which failed. Any whole sources while the tracker does not know this peer. Addresses that
    /// nobody should be made to dial are left out.
    ///
    /// # Errors
    /// When no tracker can be asked.
    pub fn neighbours(&self, id: &ContentId, dead: &[PeerId]) -> Result<Vec<Source>, LinkError> {
        let dead = dead.iter().rev().take(limits::DEAD).map(PeerId::to_string).collect();
        let request = LocateRequest { content: id.bytes().to_vec(), token: Vec::new(), dead };
        let shared = self.shared.clone();
        let (reply, is_local) = self.run::<LocateRequest>(Box::pin(async move { shared.neighbours(request).await }))?;
        let mut sources = Located::new(reply, is_local).sources;
        sources.retain(|source| source.peer != self.shared.config.peer);
        Ok(sources)
    }

    /// Where the trackers are.
    pub fn trackers(&self) -> Vec<String> {
        self.shared.caller.addresses()
    }

    /// Whether the tracker knows this peer, as far as the last call to it told.
    pub fn is_joined(&self) -> bool {
        self.shared.standing().joined
    }

    /// How long ago a tracker confirmed the lease last, and how long it is; none before the first join.
    pub fn lease(&self) -> Option<(Duration, Duration)> {
        self.shared.standing().lease.map(|(confirmed, length)| (confirmed.elapsed(), length))
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

    /// Asks any tracker a question, as [`run`](Self::run) does.
    fn ask<C: Call>(&self, question: &C) -> Result<(C::Reply, bool), LinkError> {
        self.run::<C>(Box::pin(self.shared.caller.clone().ask(question.encoded(), Whom::Any)))
    }

    /// Runs what makes calls on the link's thread and waits for its end; the reply, and whether it comes from a tracker
    /// on this machine.
    fn run<C: Call>(&self, calls: Calls) -> Result<(C::Reply, bool), LinkError> {
        let caller = &self.shared.caller;
        let reply = |(at, bytes)| Ok((C::reply(bytes)?, caller.address(at).is_local()));
        self.wait_for(calls)?.and_then(reply).map_err(|refusal| match refusal {
            Refusal::Away(reason) => LinkError::Away { trackers: caller.addresses(), reason },
            other => LinkError::Refused(other.into_text()),
        })
    }

    fn wait_for(&self, calls: Calls) -> Result<Answer, LinkError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = answer.send(calls.await);
        });
        // Each call has its own time-out; this one is for a link that ended meanwhile. Most calls at
        // once has `neighbours`: it may wait for an announce before its own, and ask twice.
        let patience = 4 * limits::RPC_TIME + Duration::from_secs(1);
        answered.recv_timeout(patience).map_err(|_| LinkError::Leaving)
    }
}

/// What runs on the link's thread: of one type, whatever it is, for the sake of the binary.
type Calls = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Shared {
    /// Locates as the downloader that this peer is, once the tracker knows that.
    async fn neighbours(&self, request: LocateRequest) -> Answer {
        // What fails here is said, and tried again, by the session.
        let told = self.tell(Downloads::begun).await;
        let token = self.downloads().token().filter(|_| !matches!(told, Err(Refusal::Away(_))));
        if let Some(token) = token {
            let own = LocateRequest { token: token.clone(), ..request.clone() };
            match self.caller.clone().ask(own.encoded(), Whom::Used).await {
                Err(Refusal::Forgotten) => {
                    self.downloads().doubt(&token);
                    self.news.notify_one();
                }
                // Another tracker may answer what this one does not.
                Err(Refusal::Away(_) | Refusal::Superseded) => {}
                answer => return answer,
            }
        }
        self.caller.clone().ask(request.encoded(), Whom::Any).await
    }

    /// Tells the tracker of downloads, until there is nothing to tell.
    async fn tell(&self, news: fn(&Downloads) -> Option<proto::AnnounceRequest>) -> Result<(), Refusal> {
        let _one_at_a_time = self.telling.lock().await;
        loop {
            let Some(request) = news(&self.downloads()) else { return Ok(()) };
            let told = self.caller.tell(&request.encoded()).await;
            if matches!(told, Ok(_) | Err(Refusal::Full(_) | Refusal::Never(_))) {
                self.downloads().tell(&request);
            }
            told?;
        }
    }

    fn downloads(&self) -> MutexGuard<'_, Downloads> {
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A number from 0 to 1. Each `RandomState` has keys of its own, which is chance enough here.
fn chance() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}
