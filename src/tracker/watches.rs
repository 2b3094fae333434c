//! Watches: who hears of whose files, and what waits for each.
//!
//! Whoever watches reads first what there is, out of the registry, a step at a time, and then news. What waits is
//! shared by all who wait for it; who lets too much of it wait is let go, and told everything again when it is back.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::Status;

use super::{
    calls::Calls,
    registry::{Changes, Content, Identity, Place},
    search::Pattern,
};
use crate::{
    digest::Digest,
    limits,
    name::{PeerId, SharePath},
    proto::{File, WatchReply},
};

/// What somebody wants to hear of.
pub(super) struct Wanted {
    /// Each with what is known of it already.
    pub(super) publishers: Vec<(PeerId, Option<Digest>)>,
    pub(super) patterns: Vec<Pattern>,
}

/// What has become of a publisher's files.
struct News {
    publisher: PeerId,
    identity: Identity,
    /// It has joined, with no files yet.
    is_anew: bool,
    added: Vec<(SharePath, Content)>,
    removed: Vec<SharePath>,
    _waiting: Waiting,
}

/// So many bytes of news that wait for somebody.
struct Waiting {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// All watches of a tracker: one of a peer at most.
#[derive(Default)]
pub(super) struct Watches {
    watches: Mutex<ByPeer>,
    /// Bytes of news that wait.
    waiting: Arc<AtomicUsize>,
}

#[derive(Default)]
struct ByPeer {
    next: u64,
    /// By who watches.
    watchers: HashMap<PeerId, Watcher>,
    /// By whose files: who watches them.
    publishers: HashMap<PeerId, Vec<PeerId>>,
}

struct Watcher {
    number: u64,
    publishers: Vec<PeerId>,
    news: Sender<Arc<News>>,
}

impl ByPeer {
    fn end(&mut self, watcher: &PeerId) {
        let Some(ended) = self.watchers.remove(watcher) else { return };
        for publisher in ended.publishers {
            if let Some(watchers) = self.publishers.get_mut(&publisher) {
                watchers.retain(|other| other != watcher);
                if watchers.is_empty() {
                    self.publishers.remove(&publisher);
                }
            }
        }
    }
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, ByPeer> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a watch; the one that this peer had before ends.
    fn begin(&self, watcher: &PeerId, publishers: Vec<PeerId>) -> (u64, Receiver<Arc<News>>) {
        let (news, receiver) = channel(limits::WATCH_QUEUED);
        let mut watches = self.lock();
        watches.end(watcher);
        for publisher in &publishers {
            watches.publishers.entry(publisher.clone()).or_default().push(watcher.clone());
        }
        watches.next += 1;
        let number = watches.next;
        watches.watchers.insert(watcher.clone(), Watcher { number, publishers, news });
        (number, receiver)
    }

    /// Ends that very watch.
    fn end(&self, watcher: &PeerId, number: u64) {
        let mut watches = self.lock();
        if watches.watchers.get(watcher).is_some_and(|watch| watch.number == number) {
            watches.end(watcher);
        }
    }

    /// A peer is gone: it watches no more.
    pub(super) fn gone(&self, peer: &PeerId) {
        self.lock().end(peer);
    }

    /// The tracker ends.
    pub(super) fn end_all(&self) {
        *self.lock() = ByPeer::default();
    }

    /// Whether nobody watches.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().watchers.is_empty()
    }

    /// A peer has joined, with no files yet.
    pub(super) fn joined(&self, peer: &PeerId, identity: Identity) {
        self.tell(peer, identity, true, &Changes::default());
    }

    /// A peer's files are others.
    pub(super) fn changed(&self, peer: &PeerId, identity: Identity, changes: &Changes) {
        if !changes.added.is_empty() || !changes.removed.is_empty() {
            self.tell(peer, identity, false, changes);
        }
    }

    fn tell(&self, publisher: &PeerId, identity: Identity, is_anew: bool, changes: &Changes) {
        let mut watches = self.lock();
        let Some(watchers) = watches.publishers.get(publisher).cloned() else { return };
        let Changes { added, removed, .. } = changes;
        let paths = added.iter().map(|(path, _)| path).chain(removed);
        let bytes = paths.map(|path| path.as_str().len() + 64).sum();
        let is_too_much = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > limits::WATCH_BYTES;
        let news = Arc::new(News {
            publisher: publisher.clone(),
            identity,
            is_anew,
            added: added.clone(),
            removed: removed.clone(),
            _waiting: Waiting { bytes, all: Arc::clone(&self.waiting) },
        });
        for watcher in watchers {
            let told = watches.watchers.get(&watcher).map(|watch| watch.news.try_send(Arc::clone(&news)));
            if is_too_much || !matches!(told, Some(Ok(()))) {
                watches.end(&watcher);
            }
        }
    }
}

/// What one watcher is told, as it reads.
pub(super) struct Watching {
    calls: Arc<Calls>,
    watcher: PeerId,
    number: u64,
    patterns: Vec<Pattern>,
    /// Whose files are still to be told, the last one first.
    unread: Vec<Reading>,
    news: Receiver<Arc<News>>,
}

/// How far a publisher's files have been read.
struct Reading {
    publisher: PeerId,
    /// Where what is there now has to come to, for nothing to be told.
    known: Option<Digest>,
    digest: Digest,
    place: Place,
    is_begun: bool,
}

impl Watching {
    pub(super) fn begin(calls: Arc<Calls>, watcher: PeerId, wanted: Wanted) -> Self {
        let publishers = wanted.publishers.iter().map(|(publisher, _)| publisher.clone()).collect();
        let (number, news) = calls.watches().begin(&watcher, publishers);
        let unread = |(publisher, known): (PeerId, Option<Digest>)| {
            let (digest, place) = (Digest::default(), Place::default());
            Reading { publisher, known, digest, place, is_begun: false }
        };
        let unread = wanted.publishers.into_iter().rev().map(unread).collect();
        Self { calls, watcher, number, patterns: wanted.patterns, unread, news }
    }

    fn is_meant(&self, path: &SharePath) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path.as_str()))
    }

    /// Reads on by one step; what is to be told, if that is anything.
    fn read(&mut self, mut reading: Reading) -> Option<WatchReply> {
        let publisher = reading.publisher.clone();
        // Who is not there yet is told of when it joins.
        let (identity, files) = self.calls.read_files(&publisher, &mut reading.place)?;
        let is_last = files.len() < limits::WATCH_STEP;
        let files: Vec<_> = files.into_iter().filter(|(path, _)| self.is_meant(path)).collect();
        let mut reply = WatchReply {
            peer_id: publisher.to_string(),
            identity: identity.bytes().to_vec(),
            complete: is_last,
            ..WatchReply::default()
        };
        if reading.known.is_some() {
            files.iter().for_each(|(path, content)| reading.digest.add(path, &content.id, content.size));
            if !is_last {
                self.unread.push(reading);
                return None;
            }
            if reading.known == Some(reading.digest) {
                return Some(reply);
            }
            (reading.known, reading.place) = (None, Place::default());
            self.unread.push(reading);
            return None;
        }
        reply.anew = !std::mem::replace(&mut reading.is_begun, true);
        reply.added = files.iter().map(|(path, content)| file(path, content)).collect();
        if !is_last {
            self.unread.push(reading);
        }
        (reply.anew || reply.complete || !reply.added.is_empty()).then_some(reply)
    }

    fn told(&self, news: &News) -> Option<WatchReply> {
        let added: Vec<_> = news.added.iter().filter(|(path, _)| self.is_meant(path)).collect();
        let removed: Vec<_> = news.removed.iter().filter(|path| self.is_meant(path)).collect();
        if added.is_empty() && removed.is_empty() && !news.is_anew {
            return None;
        }
        Some(WatchReply {
            peer_id: news.publisher.to_string(),
            identity: news.identity.bytes().to_vec(),
            anew: news.is_anew,
            added: added.into_iter().map(|(path, content)| file(path, content)).collect(),
            removed: removed.into_iter().map(SharePath::to_string).collect(),
            complete: true,
        })
    }
}

fn file(path: &SharePath, content: &Content) -> File {
    File { path: path.to_string(), content: content.id.bytes().to_vec(), size: content.size }
}

impl Stream for Watching {
    type Item = Result<WatchReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(reading) = self.unread.pop() {
            if let Some(reply) = self.read(reading) {
                return Poll::Ready(Some(Ok(reply)));
            }
            // Others have their turn before the next step.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let Some(news) = ready!(self.news.poll_recv(cx)) else { return Poll::Ready(None) };
            if let Some(reply) = self.told(&news) {
                return Poll::Ready(Some(Ok(reply)));
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.calls.watches().end(&self.watcher, self.number);
    }
}
