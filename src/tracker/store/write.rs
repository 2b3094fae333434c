//! From the registry into etcd: what peers that this tracker serves changed.
//!
//! Who changes a peer's keys compares the revision of its entry, and puts a new entry to make the peer its own.
//! So of two trackers that a peer moves between, the later one wins, and the other one hears of it.

use std::time::Instant;

use tokio::task::yield_now;

use super::{
    Store,
    book::Digest,
    etcd::{Change, Etcd, Failure},
    keys::{Bucket, Part, hash},
    outbox::{Dirty, Pending},
    values::{Entry, Files, pack},
};
use crate::{limits, name::PeerId, tracker::registry::View};

/// What came of writing a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// All is in etcd, or is another tracker's to write.
    Done,
    /// Etcd has something else than was known: look again whether there is something to write.
    Again,
}

/// A bucket, and what it is to hold.
type Packed = (Bucket, Vec<u8>);

impl Store {
    /// Writes what there is to be told of a peer: what the registry has of it by now.
    pub(super) async fn write_peer(&self, etcd: &Etcd, id: &PeerId, pending: &Pending) -> Result<Written, Failure> {
        let entry = self.registry().entry(id);
        let written = match entry {
            Some(entry) if entry.is_served => self.put_peer(etcd, &entry, pending).await,
            // Another tracker took it over.
            Some(_) => return Ok(Written::Done),
            None => self.delete_peer(etcd, id, pending.has_left).await,
        };
        match written {
            // Its keys are going with it, and the watch will tell.
            Err(Failure::NoLease) => Ok(Written::Again),
            Ok(Written::Again) => self.refresh(etcd, id).await.map(|()| Written::Again),
            written => written,
        }
    }

    async fn put_peer(&self, etcd: &Etcd, view: &View, pending: &Pending) -> Result<Written, Failure> {
        let id = &view.join.id;
        let known = self.book.borrow().get(id).filter(|known| known.doomed.is_none()).map(|known| {
            (known.lease, known.revision, known.tracker == self.me, known.incarnation == view.incarnation)
        });
        let (mut lease, revision, is_ours, is_same_join) = known.unwrap_or((0, 0, false, false));
        if lease == 0 {
            lease = etcd.grant(self.lease.as_secs_f64().ceil() as i64).await?;
        }
        if !is_ours || !is_same_join || pending.is_changed {
            let entry = Entry {
                join: view.join.clone(),
                incarnation: view.incarnation,
                tracker: self.me,
                downloading: view.downloading.clone(),
                mirror: view.mirror,
            };
            let key = self.keys.part(id, Part::Entry);
            let mut changes = vec![Change::Put(key.clone(), entry.to_bytes(), lease)];
            if !is_same_join {
                changes.push(Change::DeleteRange(self.keys.buckets(id)));
            }
            let Some(revision) = etcd.change_if(&key, revision, changes).await? else { return Ok(Written::Again) };
            let mut book = self.book.borrow_mut();
            if !is_same_join {
                book.remove(id);
            }
            book.put(id, lease, revision, self.me, view.incarnation);
        }
        self.put_files(etcd, view, if is_same_join { &pending.files } else { &Dirty::All }).await
    }

    /// Writes the buckets in which something may have changed.
    async fn put_files(&self, etcd: &Etcd, view: &View, dirty: &Dirty) -> Result<Written, Failure> {
        let id = &view.join.id;
        let buckets = self.book.borrow().get(id).map(|known| known.to_write(dirty, view.files));
        let (mut written, mut bytes) = (Vec::new(), 0);
        for buckets in buckets.unwrap_or_default().chunks(limits::STORE_BUCKETS_AT_ONCE) {
            let mut packed = self.pack_files(id, buckets).await;
            written.extend(packed.iter().map(|(bucket, _)| *bucket));
            packed.retain(|(bucket, value)| {
                // Who comes from another tracker announces again what etcd has.
                !self.book.borrow().get(id).is_some_and(|known| known.has_bucket(*bucket, value))
            });
            for batch in batches(packed) {
                bytes += batch.iter().map(|(_, value)| value.len()).sum::<usize>();
                if !self.change_buckets(etcd, id, batch, &[]).await? {
                    return Ok(Written::Again);
                }
            }
        }
        // What was split, say, goes when all of its parts are there: whoever reads meanwhile misses nothing.
        let stale = self.book.borrow().get(id).map(|known| known.overlapping(&written)).unwrap_or_default();
        for stale in stale.chunks(limits::STORE_WRITE_KEYS) {
            if !self.change_buckets(etcd, id, Vec::new(), stale).await? {
                return Ok(Written::Again);
            }
        }
        if let Some(known) = self.book.borrow_mut().get_mut(id) {
            known.rest(Instant::now(), bytes);
        }
        Ok(Written::Done)
    }

    /// What goes into some buckets, or into their parts where it is too much.
    async fn pack_files(&self, id: &PeerId, buckets: &[Bucket]) -> Vec<Packed> {
        let mut files = vec![Files::new(); buckets.len()];
        for (path, content) in self.files_in(id, buckets).await {
            let hash = hash(&path);
            if let Some(at) = buckets.iter().position(|bucket| bucket.holds(hash)) {
                files[at].push((path, content));
            }
        }
        let mut packed = Vec::new();
        for (bucket, files) in buckets.iter().zip(files) {
            packed.extend(pack(*bucket, files));
            // That took milliseconds.
            yield_now().await;
        }
        packed
    }

    /// Puts and deletes buckets of a peer; says whether its entry still was what is known.
    async fn change_buckets(
        &self,
        etcd: &Etcd,
        id: &PeerId,
        puts: Vec<Packed>,
        deletes: &[Bucket],
    ) -> Result<bool, Failure> {
        let known = self.book.borrow().get(id).map(|known| (known.lease, known.revision));
        let Some((lease, revision)) = known else { return Ok(false) };
        let put: Vec<_> = puts.iter().map(|(bucket, value)| (*bucket, Digest::of(value))).collect();
        let key = |bucket| self.keys.part(id, Part::Files(bucket));
        let puts = puts.into_iter().map(|(bucket, value)| Change::Put(key(bucket), value, lease));
        let changes = puts.chain(deletes.iter().map(|bucket| Change::Delete(key(*bucket)))).collect();
        let changed = etcd.change_if(&self.keys.part(id, Part::Entry), revision, changes).await?;
        let Some(revision) = changed else { return Ok(false) };
        if let Some(known) = self.book.borrow_mut().get_mut(id) {
            for (bucket, digest) in put {
                known.put_bucket(bucket, revision, digest);
            }
            for bucket in deletes {
                known.delete_bucket(*bucket, revision);
            }
        }
        Ok(true)
    }

    /// Deletes the keys of a peer that is not in the registry any more. One whose lease ended here, and whom another
    /// tracker serves by now, comes back into it instead.
    async fn delete_peer(&self, etcd: &Etcd, id: &PeerId, has_left: bool) -> Result<Written, Failure> {
        let known = self
            .book
            .borrow()
            .get(id)
            .filter(|known| known.doomed.is_none())
            .map(|known| (known.lease, known.revision, known.tracker == self.me, known.incarnation));
        let Some((lease, mut revision, is_ours, incarnation)) = known else { return Ok(Written::Done) };
        let key = self.keys.part(id, Part::Entry);
        if !is_ours {
            self.book.borrow_mut().remove(id);
            self.refresh(etcd, id).await?;
            let is_same = self.book.borrow().get(id).is_some_and(|known| {
                revision = known.revision;
                known.incarnation == incarnation
            });
            if !has_left || !is_same {
                return Ok(Written::Done);
            }
            // It left by way of this tracker: the one that serves it is to hear that its lease did not end just now.
            let Some(entry) = self.registry().entry(id) else { return Ok(Written::Done) };
            let entry =
                Entry { join: entry.join, incarnation, tracker: self.me, downloading: Vec::new(), mirror: None };
            let taken = etcd.change_if(&key, revision, vec![Change::Put(key.clone(), entry.to_bytes(), lease)]).await?;
            let Some(taken) = taken else { return Ok(Written::Again) };
            revision = taken;
            self.registry().forget_kept(id);
            self.gone.notify_one();
        }
        let (first, end) = self.keys.peer(id);
        if etcd.change_if(&key, revision, vec![Change::DeleteRange((first, end))]).await?.is_none() {
            return Ok(Written::Again);
        }
        self.book.borrow_mut().remove(id);
        etcd.revoke(lease).await?;
        Ok(Written::Done)
    }
}

/// Parts of what is to be written that etcd takes at once.
fn batches(packed: Vec<Packed>) -> Vec<Vec<Packed>> {
    let (mut batches, mut bytes) = (vec![Vec::new()], 0);
    for (bucket, value) in packed {
        bytes += value.len();
        let last = batches
            .last_mut()
            .filter(|last| bytes <= limits::STORE_WRITE_BYTES && last.len() < limits::STORE_WRITE_KEYS);
        match last {
            Some(last) => last.push((bucket, value)),
            None => {
                bytes = value.len();
                batches.push(vec![(bucket, value)]);
            }
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}
