//! Several trackers as one, on etcd. Each knows all peers and answers from its own memory; etcd is where they
//! tell each other of changes, and what ends the leases of those whom a lost tracker served.
//!
//! One thread of its own does all of it, so that packing a large share holds up no call. ARCHITECTURE.md says
//! what is in etcd, and what happens when what fails.

mod address;
mod book;
mod etcd;
mod keys;
mod outbox;
mod read;
mod values;
mod write;
mod writer;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::pending,
    io,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    sync::{Notify, oneshot},
    task::{LocalSet, yield_now},
    time::{sleep, sleep_until},
};

pub use self::address::StoreAddress;
use self::{
    book::Book,
    etcd::{Etcd, Failure},
    keys::Keys,
    outbox::{Outbox, Pending},
    values::TrackerId,
    writer::Writer,
};
use super::{
    calls::{Config, random},
    log::log,
    registry::{Key, Registry},
    shared::Shared,
    watches::Watches,
};
use crate::{limits, name::PeerId};

/// Joins the trackers that share a store: what they know is known here when this gives it. Waits for etcd for as
/// long as it takes. `on_degraded` hears whenever the trackers lose and find each other.
///
/// # Errors
/// When no thread can be started.
pub async fn share(
    address: StoreAddress,
    config: Config,
    on_degraded: impl Fn(bool) + Send + 'static,
) -> io::Result<Shared> {
    let outbox = Arc::new(Outbox::default());
    let Shared { registry, gone, watches, .. } = Shared::alone(config);
    let (ready, is_ready) = oneshot::channel();
    let shared = (Arc::clone(&registry), Arc::clone(&gone), Arc::clone(&watches), Arc::clone(&outbox));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("store".to_owned()).spawn(move || {
        let _end = EndWithIt;
        let store = Rc::new(Store::new(&address, config.lease, shared, Box::new(on_degraded), ready));
        LocalSet::new().block_on(&runtime, store.run(&address));
    })?;
    let key = is_ready.await.map_err(io::Error::other)?;
    Ok(Shared { key: Key::new(key), registry, gone, watches, listener: Some(outbox) })
}

/// A tracker that no longer hears what others know, and does not know that, would mislead whoever asks it.
struct EndWithIt;

impl Drop for EndWithIt {
    fn drop(&mut self) {
        log("error: what works with the store has ended, and so does the tracker: start it again");
        std::process::exit(1);
    }
}

struct Store {
    keys: Keys,
    /// This tracker.
    me: TrackerId,
    lease: Duration,
    registry: Arc<Mutex<Registry>>,
    /// See [`Shared`].
    gone: Arc<Notify>,
    watches: Arc<Watches>,
    outbox: Arc<Outbox>,
    book: RefCell<Book>,
    /// Which etcd it was, and up to which of its revisions everything is known.
    position: Cell<Option<(u64, i64)>>,
    /// What tokens are sealed under, once that is settled.
    key: Cell<Option<[u8; 32]>>,
    /// Who waits until everything is known.
    ready: Cell<Option<oneshot::Sender<[u8; 32]>>>,
    /// Until then, peers that are gone from etcd may be put again.
    grace: Cell<Option<Instant>>,
    on_degraded: Box<dyn Fn(bool)>,
}

impl Store {
    fn new(
        address: &StoreAddress,
        lease: Duration,
        (registry, gone, watches, outbox): (Arc<Mutex<Registry>>, Arc<Notify>, Arc<Watches>, Arc<Outbox>),
        on_degraded: Box<dyn Fn(bool)>,
        ready: oneshot::Sender<[u8; 32]>,
    ) -> Self {
        Self {
            keys: Keys::new(address.prefix()),
            me: TrackerId(u64::from_ne_bytes(random())),
            lease,
            registry,
            gone,
            watches,
            outbox,
            book: RefCell::default(),
            position: Cell::new(None),
            key: Cell::new(None),
            ready: Cell::new(Some(ready)),
            grace: Cell::new(None),
            on_degraded,
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with one member of etcd after the other, as they come and go.
    async fn run(self: Rc<Self>, address: &StoreAddress) {
        let mut pause = limits::STORE_PAUSE.start;
        let mut is_said = false;
        for host in address.hosts().iter().cycle() {
            let was_known = self.position.get();
            let Err(failure) = self.session(host, address).await;
            if self.position.get() != was_known {
                // It worked for a while.
                (pause, is_said) = (limits::STORE_PAUSE.start, false);
            }
            (self.on_degraded)(true);
            if !std::mem::replace(&mut is_said, true) {
                let what = if self.is_waited_for() { "waiting for" } else { "lost" };
                log(format_args!("{what} store={address} host={host} reason={:?}", failure.to_string()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(limits::STORE_PAUSE.end);
        }
    }

    fn is_waited_for(&self) -> bool {
        let ready = self.ready.take();
        let is_waited_for = ready.is_some();
        self.ready.set(ready);
        is_waited_for
    }

    /// Works with a member of etcd until that fails.
    async fn session(self: &Rc<Self>, host: &str, address: &StoreAddress) -> Result<Infallible, Failure> {
        let etcd = Etcd::connect(host).await?;
        let (cluster, revision) = self.settle_key(&etcd).await?;
        let mut keeper = etcd.keeper().await?;
        if !self.is_waited_for() {
            self.grace.set(Some(Instant::now() + self.lease.min(limits::STORE_GRACE)));
        }
        let mut watch = match self.position.get() {
            Some((known, from)) if known == cluster && from <= revision => {
                etcd.watch(self.keys.peers(), from + 1).await?
            }
            _ => self.list(&etcd, cluster).await?,
        };
        self.serve_again();
        match self.ready.take() {
            Some(ready) => {
                log(format_args!("joined store={address} host={host}"));
                let _ = ready.send(self.key.get().unwrap_or_default());
            }
            None => log(format_args!("found store={address} host={host}")),
        }
        (self.on_degraded)(false);
        let following = async {
            loop {
                match watch.next().await {
                    Ok(news) => self.follow(news, cluster).await,
                    Err(Failure::Compacted) => {
                        log(format_args!("read again store={address} reason={:?}", Failure::Compacted.to_string()));
                        watch = self.list(&etcd, cluster).await?;
                    }
                    Err(failure) => return Err(failure),
                }
            }
        };
        tokio::select! {
            failed = following => failed,
            failed = Writer::new(self, &etcd).run(&mut keeper) => failed,
            failed = self.compact(&etcd) => failed,
            never = self.sweep() => match never {},
        }
    }

    /// Settles what tokens are sealed under: what etcd has, else what is put there. Says which etcd it is, as of
    /// which revision.
    async fn settle_key(&self, etcd: &Etcd) -> Result<(u64, i64), Failure> {
        let own = self.key.get().unwrap_or_else(random);
        let (key, cluster, revision) = etcd.get_or_put(self.keys.seal(), own.to_vec()).await?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| Failure::Lost("its key is not 32 bytes long".to_owned()))?;
        if self.key.get().is_some_and(|own| own != key) {
            return Err(Failure::Lost("its key is another one than before: restart this tracker".to_owned()));
        }
        self.key.set(Some(key));
        Ok((cluster, revision))
    }

    /// Lets all leases be kept that this tracker keeps.
    fn serve_again(&self) {
        for (id, _) in self.book.borrow().iter().filter(|(_, known)| known.tracker == self.me) {
            self.outbox.put(id, Pending { is_renewed: true, ..Pending::default() });
        }
    }

    /// Lets etcd forget what everybody has seen, or had the time to.
    async fn compact(&self, etcd: &Etcd) -> Result<Infallible, Failure> {
        loop {
            let seen = self.position.get();
            sleep(limits::STORE_HISTORY).await;
            if let Some((_, revision)) = seen {
                match etcd.compact(revision).await {
                    // Another tracker was sooner.
                    Ok(()) | Err(Failure::Compacted) => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
    }

    /// Forgets peers that were gone from etcd after it was away, and that nobody has put again.
    async fn sweep(&self) -> Infallible {
        if let Some(grace) = self.grace.get() {
            sleep_until(grace.into()).await;
            self.grace.set(None);
            let now = Instant::now();
            let gone: Vec<_> = (self.book.borrow().iter())
                .filter(|(_, known)| known.doomed.is_some_and(|at| at <= now))
                .map(|(id, _)| id.clone())
                .collect();
            for id in gone {
                self.book.borrow_mut().remove(&id);
                self.forget(&id).await;
            }
        }
        pending().await
    }

    /// Forgets a peer that another tracker served.
    async fn forget(&self, id: &PeerId) {
        if self.registry().forget_kept(id) {
            self.gone.notify_one();
            log(format_args!("forget peer={id}"));
        }
        yield_now().await;
    }
}
