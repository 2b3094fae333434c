//! What this tracker knows to be in etcd, apart from the files themselves. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{keys::Bucket, outbox::Dirty, values::TrackerId};
use crate::{limits, name::PeerId};

/// One of its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KnownBucket {
    pub(super) bucket: Bucket,
    /// When it was put last.
    revision: i64,
    /// What the value hashes to: what is there already is not written again.
    digest: Digest,
}

/// Enough of a value's hash to tell it from another one, where nobody gains by their being taken for the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Digest([u8; 8]);

impl Digest {
    pub(super) fn of(value: &[u8]) -> Self {
        let hash = blake3::hash(value);
        Self(hash.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

/// A peer's keys.
pub(super) struct Known {
    /// The lease that they go with.
    pub(super) lease: i64,
    /// When the entry was put last.
    pub(super) revision: i64,
    /// Who serves the peer.
    pub(super) tracker: TrackerId,
    pub(super) incarnation: u64,
    pub(super) buckets: Vec<KnownBucket>,
    /// Its keys are gone; when it is forgotten if nobody puts them again.
    pub(super) doomed: Option<Instant>,
    /// Before this it is not written again.
    rests_until: Option<Instant>,
}

impl Known {
    pub(super) fn new(lease: i64, revision: i64, tracker: TrackerId, incarnation: u64) -> Self {
        let buckets = Vec::new();
        Self { lease, revision, tracker, incarnation, buckets, doomed: None, rests_until: None }
    }

    /// What a bucket that was put is to one who hears of it.
    pub(super) fn look_at(&self, bucket: Bucket, revision: i64) -> Put {
        let mut put = Put::First;
        for known in self.buckets.iter().filter(|known| known.bucket.overlaps(bucket)) {
            if known.bucket == bucket && known.revision >= revision {
                return Put::Old;
            }
            put = Put::Again;
        }
        put
    }

    /// Notes that a bucket was put, and its files are where they belong.
    pub(super) fn put_bucket(&mut self, bucket: Bucket, revision: i64, digest: Digest) {
        self.buckets.retain(|known| known.bucket != bucket);
        self.buckets.push(KnownBucket { bucket, revision, digest });
    }

    /// Whether to delete a bucket leaves none for what it held.
    pub(super) fn is_last(&self, bucket: Bucket, revision: i64) -> bool {
        let is_meant = |known: &KnownBucket| known.bucket == bucket && known.revision <= revision;
        let mut overlapping = self.buckets.iter().filter(|known| known.bucket.overlaps(bucket));
        overlapping.next().is_some_and(is_meant) && overlapping.next().is_none()
    }

    /// Notes that a bucket was deleted.
    pub(super) fn delete_bucket(&mut self, bucket: Bucket, revision: i64) {
        self.buckets.retain(|known| known.bucket != bucket || known.revision > revision);
    }

    /// Whether a bucket has this value already.
    pub(super) fn has_bucket(&self, bucket: Bucket, value: &[u8]) -> bool {
        let known = self.buckets.iter().find(|known| known.bucket == bucket);
        known.is_some_and(|known| known.digest == Digest::of(value))
    }

    /// The buckets to write where so many files may have changed: those that there are, or new ones.
    pub(super) fn to_write(&self, dirty: &Dirty, files: usize) -> Vec<Bucket> {
        match dirty {
            Dirty::None => Vec::new(),
            Dirty::Some(hashes) if hashes.iter().all(|hash| self.names().any(|bucket| bucket.holds(*hash))) => {
                self.names().filter(|bucket| hashes.iter().any(|hash| bucket.holds(*hash))).collect()
            }
            _ if Bucket::are_all(self.names()) => self.names().collect(),
            _ if files == 0 => Vec::new(),
            _ => Bucket::for_files(files),
        }
    }

    /// Its buckets that are not among those that were written, and overlap with them.
    pub(super) fn overlapping(&self, written: &[Bucket]) -> Vec<Bucket> {
        let overlaps = |bucket: &Bucket| written.iter().any(|other| other.overlaps(*bucket));
        self.names().filter(|bucket| !written.contains(bucket) && overlaps(bucket)).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Bucket> {
        self.buckets.iter().map(|known| known.bucket)
    }

    /// Lets it rest after so many bytes were written.
    pub(super) fn rest(&mut self, now: Instant, bytes: usize) {
        self.rests_until = Some(now + Duration::from_secs_f64(bytes as f64 / limits::STORE_PEER_RATE as f64));
    }

    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

/// What a bucket that was put is to the one who hears of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    /// Known, or older than what is known.
    Old,
    /// There were no files in its range.
    First,
    /// There may have been.
    Again,
}

/// All peers' keys.
#[derive(Default)]
pub(super) struct Book {
    peers: HashMap<PeerId, Known>,
}

impl Book {
    pub(super) fn get(&self, id: &PeerId) -> Option<&Known> {
        self.peers.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Known> {
        self.peers.get_mut(id)
    }

    /// Notes that an entry was put. Its buckets stay those that they are, unless it is another join.
    pub(super) fn put(&mut self, id: &PeerId, lease: i64, revision: i64, tracker: TrackerId, incarnation: u64) {
        if let Some(known) = self.peers.get_mut(id).filter(|known| known.incarnation == incarnation) {
            (known.lease, known.revision, known.tracker, known.doomed) = (lease, revision, tracker, None);
        } else {
            self.peers.insert(id.clone(), Known::new(lease, revision, tracker, incarnation));
        }
    }

    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.peers.len() >= limits::PEERS
    }

    pub(super) fn remove(&mut self, id: &PeerId) -> Option<Known> {
        self.peers.remove(id)
    }

    /// Everybody, with their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Known)> {
        self.peers.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_told_apart_as_first_again_and_old() {
        let mut known = Known::new(1, 1, TrackerId(1), 1);
        let ([low, high], digest) = (Bucket::ALL.halves().unwrap(), Digest::of(b"x"));
        let put = |known: &mut Known, bucket, revision| {
            let put = known.look_at(bucket, revision);
            known.put_bucket(bucket, revision, digest);
            put
        };
        assert_eq!(put(&mut known, Bucket::ALL, 5), Put::First);
        assert_eq!(put(&mut known, Bucket::ALL, 5), Put::Old);
        assert_eq!(put(&mut known, Bucket::ALL, 6), Put::Again);
        assert_eq!(put(&mut known, low, 7), Put::Again);
        assert_eq!(put(&mut known, high, 7), Put::Again);
        assert!(known.has_bucket(low, b"x") && !known.has_bucket(low, b"y"));
        assert!(!known.is_last(Bucket::ALL, 7), "its halves are there");
        known.delete_bucket(Bucket::ALL, 7);
        assert_eq!(known.to_write(&Dirty::Some(vec![0]), 10), [low]);
        assert_eq!(known.to_write(&Dirty::Some(vec![0, u32::MAX]), 10), [low, high]);
        assert_eq!(known.to_write(&Dirty::All, 10), [low, high]);
        assert!(!known.is_last(low, 6), "it was put after that");
        assert!(known.is_last(low, 8));
        known.delete_bucket(low, 8);
        assert!(!known.is_last(low, 8), "it is known");
        assert_eq!(known.to_write(&Dirty::All, 10), [Bucket::ALL], "a part is missing");
        assert_eq!(known.overlapping(&[Bucket::ALL]), [high]);
        assert_eq!(put(&mut known, low, 9), Put::First);
    }

    #[test]
    fn a_new_join_has_no_buckets() {
        let mut book = Book::default();
        let id: PeerId = "a".parse().unwrap();
        book.put(&id, 10, 1, TrackerId(1), 1);
        book.get_mut(&id).unwrap().put_bucket(Bucket::ALL, 2, Digest::of(b"x"));
        book.put(&id, 11, 3, TrackerId(2), 1);
        assert_eq!((book.get(&id).unwrap().lease, book.get(&id).unwrap().buckets.len()), (11, 1));
        book.put(&id, 11, 4, TrackerId(2), 2);
        assert!(book.get(&id).unwrap().buckets.is_empty());
        assert!(book.remove(&id).is_some() && book.iter().next().is_none());
    }
}
