//! From etcd into the registry: what other trackers wrote.

use std::collections::{BTreeMap, HashSet};

use tokio::task::yield_now;

use super::{
    Store,
    book::{Digest, Put},
    etcd::{Etcd, Failure, KeyValue, Kind, News, Watch},
    keys::{Bucket, Part, hash},
    outbox::Pending,
    values::{self, Entry, TrackerId},
};
use crate::{
    limits,
    name::{PeerId, SharePath},
    tracker::{
        log::log,
        registry::{Changes, Content, Place, Refusal},
    },
};

impl Store {
    /// Reads all peers as of one revision, and watches from the next.
    pub(super) async fn list(&self, etcd: &Etcd, cluster: u64) -> Result<Watch, Failure> {
        'again: loop {
            let mut listed: HashSet<PeerId> = HashSet::new();
            let mut last: Option<(PeerId, Vec<Bucket>)> = None;
            let (mut pages, mut revision) = (Pages::new(self.keys.peers()), 0);
            while let Some(from) = pages.next() {
                let page = match etcd.range(from, pages.limit, revision, false).await {
                    Err(Failure::TooLong) => {
                        pages.shorten()?;
                        continue;
                    }
                    Err(Failure::Compacted) => continue 'again,
                    page => page?,
                };
                revision = if revision == 0 { page.header.unwrap_or_default().revision } else { revision };
                pages.turn(&page.kvs, page.more);
                for kv in page.kvs {
                    let Some((id, part)) = self.keys.parse(&kv.key) else { continue };
                    if last.as_ref().is_none_or(|(last, _)| *last != id) {
                        self.end_of_listed(last.replace((id.clone(), Vec::new())), revision).await;
                        listed.insert(id);
                    }
                    if let (Part::Files(bucket), Some((_, buckets))) = (part, &mut last) {
                        buckets.push(bucket);
                    }
                    self.apply(Kind::Put, kv).await;
                }
            }
            self.end_of_listed(last, revision).await;
            let gone: Vec<_> = (self.book.borrow().iter())
                .filter(|(id, known)| known.revision <= revision && !listed.contains(*id))
                .map(|(id, _)| id.clone())
                .collect();
            for id in gone {
                self.entry_is_gone(&id, revision).await;
            }
            self.position.set(Some((cluster, revision)));
            return etcd.watch(self.keys.peers(), revision + 1).await;
        }
    }

    /// Deletes the buckets of a listed peer that are known and were not listed.
    async fn end_of_listed(&self, listed: Option<(PeerId, Vec<Bucket>)>, revision: i64) {
        let Some((id, buckets)) = listed else { return };
        let known: Vec<Bucket> = match self.book.borrow().get(&id) {
            Some(known) => known.names().collect(),
            None => return,
        };
        for bucket in known.into_iter().filter(|bucket| !buckets.contains(bucket)) {
            self.bucket_is_gone(&id, bucket, revision).await;
        }
    }

    /// Applies what a watch told.
    pub(super) async fn follow(&self, news: News, cluster: u64) {
        for (kind, kv) in news.events {
            self.apply(kind, kv).await;
        }
        self.position.set(Some((cluster, news.revision)));
    }

    /// Applies one change.
    pub(super) async fn apply(&self, kind: Kind, kv: KeyValue) {
        let Some((id, part)) = self.keys.parse(&kv.key) else { return };
        let bad = match (kind, part) {
            (Kind::Put, Part::Entry) => self.entry_is_put(&id, &kv).err(),
            (Kind::Put, Part::Files(bucket)) => self.bucket_is_put(&id, bucket, &kv).await.err(),
            (Kind::Delete, Part::Entry) => {
                self.entry_is_gone(&id, kv.mod_revision).await;
                None
            }
            (Kind::Delete, Part::Files(bucket)) => {
                self.bucket_is_gone(&id, bucket, kv.mod_revision).await;
                None
            }
        };
        if let Some(why) = bad {
            log(format_args!("refuse store key={:?} reason={why:?}", String::from_utf8_lossy(&kv.key)));
        }
        // Long news let others have their turn.
        yield_now().await;
    }

    fn entry_is_put(&self, id: &PeerId, kv: &KeyValue) -> Result<(), String> {
        if self.book.borrow().get(id).is_some_and(|known| known.revision >= kv.mod_revision) {
            return Ok(());
        }
        if self.book.borrow().is_full() && self.book.borrow().get(id).is_none() {
            return Err(Refusal::Peers.to_string());
        }
        let parsed = Entry::parse(id.clone(), &kv.value).map_err(|bad| bad.to_string());
        // What is no entry is known all the same, to be written over when the peer joins.
        let (tracker, incarnation) =
            parsed.as_ref().map_or((TrackerId(0), 0), |entry| (entry.tracker, entry.incarnation));
        self.book.borrow_mut().put(id, kv.lease, kv.mod_revision, tracker, incarnation);
        let Entry { join, incarnation, tracker, downloading, mirror } = parsed?;
        if tracker == self.me {
            return Ok(());
        }
        let mut registry = self.registry();
        // A newer join here is about to be written over it.
        let ours = registry.entry(id).map(|ours| ours.incarnation);
        if ours <= Some(incarnation) {
            // What an older join held is left behind.
            self.gone.notify_one();
            let (is_new, identity) = (ours < Some(incarnation), join.identity);
            let kept = registry.keep(join, incarnation);
            let kept = kept.and_then(|()| registry.set_kept_downloads(id, downloading, mirror));
            if is_new && kept.is_ok() {
                self.watches.joined(id, identity);
            }
            return kept.map_err(|refusal| refusal.to_string());
        }
        Ok(())
    }

    async fn entry_is_gone(&self, id: &PeerId, revision: i64) {
        {
            let mut book = self.book.borrow_mut();
            let Some(known) = book.get_mut(id).filter(|known| known.revision <= revision) else { return };
            known.revision = revision;
            let is_ours = known.tracker == self.me;
            if !is_ours && let Some(grace) = self.grace.get() {
                // Its lease may have ended while etcd was away; then whoever serves it puts it again.
                known.doomed = Some(grace);
                return;
            }
            book.remove(id);
        }
        if self.registry().entry(id).is_some_and(|entry| entry.is_served) {
            // Its lease ended in etcd and not here.
            self.outbox.put(id, Pending::all());
        } else {
            self.forget(id).await;
        }
    }

    async fn bucket_is_put(&self, id: &PeerId, bucket: Bucket, kv: &KeyValue) -> Result<(), String> {
        let (put, is_ours, incarnation) = {
            let book = self.book.borrow();
            let Some(known) = book.get(id) else { return Ok(()) };
            if known.buckets.len() >= limits::STORE_BUCKETS {
                return Err(format!("is one of more than {} of this peer", limits::STORE_BUCKETS));
            }
            (known.look_at(bucket, kv.mod_revision), known.tracker == self.me, known.incarnation)
        };
        if put == Put::Old {
            return Ok(());
        }
        let mut taken = Ok(());
        if !is_ours {
            taken = match values::unpack(bucket, &kv.value) {
                Ok(files) => {
                    let held = if put == Put::First { BTreeMap::new() } else { self.files_in(id, &[bucket]).await };
                    self.change(id, held, files).await.map_err(|refusal| refusal.to_string())
                }
                Err(bad) => Err(bad.to_string()),
            };
        }
        // Not before: where this is broken off, it is to be done again.
        if let Some(known) = self.book.borrow_mut().get_mut(id).filter(|known| known.incarnation == incarnation) {
            known.put_bucket(bucket, kv.mod_revision, Digest::of(&kv.value));
        }
        taken
    }

    async fn bucket_is_gone(&self, id: &PeerId, bucket: Bucket, revision: i64) {
        let is_to_empty = {
            let book = self.book.borrow();
            let Some(known) = book.get(id).filter(|known| known.doomed.is_none()) else { return };
            known.tracker != self.me && known.is_last(bucket, revision)
        };
        if is_to_empty {
            let held = self.files_in(id, &[bucket]).await;
            // To take files away passes no limit.
            let _ = self.change(id, held, Vec::new()).await;
        }
        if let Some(known) = self.book.borrow_mut().get_mut(id) {
            known.delete_bucket(bucket, revision);
        }
    }

    /// Makes what another tracker's peer holds of some files something else.
    async fn change(
        &self,
        id: &PeerId,
        mut held: BTreeMap<SharePath, Content>,
        files: values::Files,
    ) -> Result<(), Refusal> {
        let added: Vec<_> = files.into_iter().filter(|(path, content)| held.remove(path) != Some(*content)).collect();
        // What has another content now is among the added, and replaces it.
        let removed: Vec<_> = held.into_keys().collect();
        for removed in removed.chunks(limits::STORE_FILES_AT_ONCE) {
            self.change_part(id, &Changes { removed: removed.to_vec(), ..Changes::default() }).await?;
        }
        for added in added.chunks(limits::STORE_FILES_AT_ONCE) {
            self.change_part(id, &Changes { added: added.to_vec(), ..Changes::default() }).await?;
        }
        Ok(())
    }

    async fn change_part(&self, id: &PeerId, changes: &Changes) -> Result<(), Refusal> {
        {
            let mut registry = self.registry();
            registry.change_kept(id, changes)?;
            if let Some(identity) = registry.identity(id) {
                self.watches.changed(id, identity, changes);
            }
        }
        yield_now().await;
        Ok(())
    }

    /// What a peer holds of the files in some buckets.
    pub(super) async fn files_in(&self, id: &PeerId, buckets: &[Bucket]) -> BTreeMap<SharePath, Content> {
        let (mut found, mut place) = (BTreeMap::new(), Place::default());
        loop {
            let files = self.registry().read_files(id, &mut place, limits::STORE_FILES_AT_ONCE);
            let is_last = files.len() < limits::STORE_FILES_AT_ONCE;
            found.extend(files.into_iter().filter(|(path, _)| {
                let hash = hash(path);
                buckets.iter().any(|bucket| bucket.holds(hash))
            }));
            if is_last {
                return found;
            }
            yield_now().await;
        }
    }

    /// Reads a peer's keys again, since etcd has others than are known.
    pub(super) async fn refresh(&self, etcd: &Etcd, id: &PeerId) -> Result<(), Failure> {
        let entry = self.keys.part(id, Part::Entry);
        let mut pages = Pages::new(self.keys.peer(id));
        let (mut revision, mut buckets, mut is_there) = (0, Vec::new(), false);
        while let Some(from) = pages.next() {
            let page = match etcd.range(from, pages.limit, revision, false).await {
                Err(Failure::TooLong) => {
                    pages.shorten()?;
                    continue;
                }
                // The watch tells of what comes next.
                Err(Failure::Compacted) => return Ok(()),
                page => page?,
            };
            revision = if revision == 0 { page.header.unwrap_or_default().revision } else { revision };
            pages.turn(&page.kvs, page.more);
            for kv in page.kvs {
                is_there |= kv.key == entry;
                if let Some((_, Part::Files(bucket))) = self.keys.parse(&kv.key) {
                    buckets.push(bucket);
                }
                self.apply(Kind::Put, kv).await;
            }
        }
        if is_there {
            self.end_of_listed(Some((id.clone(), buckets)), revision).await;
        } else {
            self.entry_is_gone(id, revision).await;
        }
        Ok(())
    }
}

/// The pages of a range: where the next one begins, and how many keys it has.
struct Pages {
    from: Option<Vec<u8>>,
    end: Vec<u8>,
    limit: i64,
}

impl Pages {
    fn new((from, end): (Vec<u8>, Vec<u8>)) -> Self {
        Self { from: Some(from), end, limit: limits::STORE_PAGE_KEYS.start }
    }

    fn next(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.from.clone().map(|from| (from, self.end.clone()))
    }

    /// Goes on behind a page; the next has as many keys as come to [`limits::STORE_PAGE_BYTES`], as far as one
    /// can tell.
    fn turn(&mut self, kvs: &[KeyValue], more: bool) {
        let bytes: usize = kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        let wanted = limits::STORE_PAGE_BYTES * kvs.len() / bytes.max(1);
        let most = (self.limit * 4).min(limits::STORE_PAGE_KEYS.end);
        self.limit = (wanted as i64).clamp(limits::STORE_PAGE_KEYS.start, most);
        // The first key behind another is that with a zero byte more.
        let next = kvs.last().filter(|_| more).map(|kv| [&kv.key[..], &[0]].concat());
        self.from = next;
    }

    /// Takes fewer keys, where their values are long.
    fn shorten(&mut self) -> Result<(), Failure> {
        if self.limit == 1 {
            return Err(Failure::TooLong);
        }
        self.limit = (self.limit / 4).max(1);
        Ok(())
    }
}
