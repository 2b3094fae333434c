//! Which key means what: `proto/enjambre/store/v1/store.proto` lists them. Pure.

use std::fmt;

use crate::{
    limits,
    name::{PeerId, SharePath},
};

/// The files of a peer whose path's hash begins with these bits; all of them where there are none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Bucket {
    /// The bits, from the highest on; the others are 0.
    bits: u32,
    length: u32,
}

impl Bucket {
    /// The one that everything is in.
    pub(super) const ALL: Self = Self { bits: 0, length: 0 };

    /// Whether it holds the path with this hash.
    pub(super) fn holds(self, hash: u32) -> bool {
        // A shift by all bits is none in Rust; here it is meant.
        (hash ^ self.bits).checked_shr(u32::BITS - self.length).unwrap_or(0) == 0
    }

    /// Whether it holds whatever another one does.
    pub(super) fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.holds(other.bits)
    }

    /// Whether there is anything that both hold.
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Its two halves; none where there are no more bits.
    pub(super) fn halves(self) -> Option<[Self; 2]> {
        let length = self.length + 1;
        let one = 1_u32.checked_shl(u32::BITS.checked_sub(length)?)?;
        Some([Self { bits: self.bits, length }, Self { bits: self.bits | one, length }])
    }

    /// Whether these, of which none overlap, hold everything.
    pub(super) fn are_all(buckets: impl Iterator<Item = Self>) -> bool {
        buckets.map(|bucket| 1_u64 << (u32::BITS - bucket.length)).sum::<u64>() == 1 << u32::BITS
    }

    /// Buckets for so many files of a new peer: as many as leave room to grow.
    pub(super) fn for_files(files: usize) -> Vec<Self> {
        let mut buckets = vec![Self::ALL];
        while files / buckets.len() > limits::STORE_BUCKET_FILES {
            buckets = buckets.into_iter().filter_map(Self::halves).flatten().collect();
        }
        buckets
    }

    fn parse(text: &str) -> Option<Self> {
        text.bytes().try_fold(Self::ALL, |bucket, byte| match (byte, bucket.halves()?) {
            (b'0', [half, _]) | (b'1', [_, half]) => Some(half),
            _ => None,
        })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.length).try_for_each(|at| f.write_str(if self.bits << at >> 31 == 0 { "0" } else { "1" }))
    }
}

/// What the buckets go by. Nobody can choose many paths of one hash, so none has to hold too many.
pub(super) fn hash(path: &SharePath) -> u32 {
    let [a, b, c, d, ..] = *blake3::hash(path.as_str().as_bytes()).as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// What a key of a peer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Entry,
    Files(Bucket),
}

/// The keys below one prefix.
#[derive(Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What tokens are sealed under.
    pub(super) fn seal(&self) -> Vec<u8> {
        format!("{}/key", self.prefix).into_bytes()
    }

    /// All peers' keys, as a range.
    pub(super) fn peers(&self) -> (Vec<u8>, Vec<u8>) {
        below(format!("{}/peers/", self.prefix))
    }

    /// One peer's keys, as a range.
    pub(super) fn peer(&self, id: &PeerId) -> (Vec<u8>, Vec<u8>) {
        below(format!("{}/peers/{id}/", self.prefix))
    }

    /// One peer's buckets, as a range.
    pub(super) fn buckets(&self, id: &PeerId) -> (Vec<u8>, Vec<u8>) {
        below(format!("{}/peers/{id}/files.", self.prefix))
    }

    /// One of a peer's keys.
    pub(super) fn part(&self, id: &PeerId, part: Part) -> Vec<u8> {
        match part {
            Part::Entry => format!("{}/peers/{id}/entry", self.prefix),
            Part::Files(bucket) => format!("{}/peers/{id}/files.{bucket}", self.prefix),
        }
        .into_bytes()
    }

    /// Whose key this is, and what for; none for keys that mean nothing here.
    pub(super) fn parse(&self, key: &[u8]) -> Option<(PeerId, Part)> {
        let below = str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.strip_prefix("/peers/")?;
        let (id, part) = below.split_once('/')?;
        let part = match part.strip_prefix("files.") {
            Some(bits) => Part::Files(Bucket::parse(bits)?),
            None if part == "entry" => Part::Entry,
            None => return None,
        };
        Some((id.parse().ok()?, part))
    }
}

/// The keys that begin with this text, as etcd wants a range: the end is the first one behind it.
fn below(text: String) -> (Vec<u8>, Vec<u8>) {
    let first = text.into_bytes();
    let mut end = first.clone();
    if let Some(last) = end.last_mut() {
        // It is `/` or `.`.
        *last += 1;
    }
    (first, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_share_what_their_bucket_holds() {
        let mut buckets = vec![Bucket::ALL];
        for at in 0..200 {
            let Some([low, high]) = buckets[at].halves() else { continue };
            for hash in [0, 1, 0x1234_5678, 0x8000_0000, 0xdead_beef, u32::MAX] {
                assert_eq!(buckets[at].holds(hash), low.holds(hash) != high.holds(hash));
                assert!(!(low.holds(hash) && high.holds(hash)));
            }
            assert!(
                buckets[at].covers(low) && buckets[at].covers(high) && !low.covers(high) && !low.covers(buckets[at])
            );
            buckets.extend([low, high]);
        }
        let deepest = (0..32).fold(Bucket::ALL, |bucket, _| bucket.halves().unwrap()[1]);
        assert!(deepest.holds(u32::MAX) && !deepest.holds(u32::MAX - 1));
        assert_eq!(deepest.halves(), None);
        for files in [0, 1, limits::STORE_BUCKET_FILES + 1, limits::FILES_PER_PEER] {
            let mut buckets = Bucket::for_files(files);
            assert!(buckets.len() * limits::STORE_BUCKET_FILES >= files);
            assert!(Bucket::are_all(buckets.iter().copied()));
            buckets.pop();
            assert!(!Bucket::are_all(buckets.into_iter()));
        }
    }

    #[test]
    fn every_key_is_read_as_what_it_was_made_for() {
        let keys = Keys::new("a/b");
        let id: PeerId = "p.1-x".parse().unwrap();
        let low = Bucket::ALL.halves().unwrap()[0].halves().unwrap()[1];
        for part in [Part::Entry, Part::Files(Bucket::ALL), Part::Files(low)] {
            let key = keys.part(&id, part);
            assert_eq!(keys.parse(&key), Some((id.clone(), part)));
            for (first, end) in [keys.peers(), keys.peer(&id)] {
                assert!(first < key && key < end);
            }
            let (first, end) = keys.buckets(&id);
            assert_eq!(first <= key && key < end, part != Part::Entry);
        }
        assert_eq!(String::from_utf8(keys.part(&id, Part::Files(low))).unwrap(), "a/b/peers/p.1-x/files.01");
        let long = format!("a/b/peers/p/files.{}", "0".repeat(33));
        for nonsense in [
            "",
            "a/b/key",
            "a/b/peers/",
            "a/b/peers/p",
            "a/b/peers/p/",
            "a/b/peers/p/entry2",
            "a/b/peers/p q/entry",
            "a/b/peers/p/files",
            "a/b/peers/p/files.2",
            "a/b/peers/p/files.0/",
            "a/b/peers//entry",
            "x/peers/p/entry",
            &long,
        ] {
            assert_eq!(keys.parse(nonsense.as_bytes()), None, "{nonsense}");
        }
        assert_eq!(keys.parse(b"a/b/peers/\xff/entry"), None);
    }
}
