//! What is written in etcd, and how it is read back: `proto/enjambre/store/v1/store.proto` documents it. Pure.
//!
//! Everything that comes back is hostile until it is parsed here: whoever can write into the etcd can make
//! peers of its own, and nothing worse.

use std::{fmt, net::SocketAddr};

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use prost::Message as _;

use super::keys::{Bucket, hash};
use crate::{
    address::is_dialable,
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    tracker::registry::{Content, Identity, Join, Mirror},
};

mod proto {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("enjambre.store.v1");
}

/// A tracker, from its start to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TrackerId(pub(super) u64);

/// An entry, as trackers tell each other.
pub(super) struct Entry {
    pub(super) join: Join,
    pub(super) incarnation: u64,
    /// Who serves it.
    pub(super) tracker: TrackerId,
    pub(super) downloading: Vec<Content>,
    pub(super) mirror: Option<Mirror>,
}

impl Entry {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Join { identity, address, zone, .. } = &self.join;
        proto::Entry {
            incarnation: self.incarnation,
            identity: identity.bytes().to_vec(),
            address: address.to_string(),
            zone: zone.as_str().to_owned(),
            tracker: self.tracker.0,
            downloading: (self.downloading.iter())
                .map(|content| proto::Download { content: content.id.bytes().to_vec(), size: content.size })
                .collect(),
            mirror: self.mirror.map(|Mirror { wanted, here }| proto::Mirror { wanted, here }),
        }
        .encode_to_vec()
    }

    /// Reads the entry of the peer whose key it stood under.
    pub(super) fn parse(id: PeerId, bytes: &[u8]) -> Result<Self, BadValue> {
        let entry = proto::Entry::decode(bytes).map_err(|_| BadValue("is no entry"))?;
        let identity = Identity::from_bytes(entry.identity.try_into().map_err(|_| BadValue("has no identity"))?);
        let address: SocketAddr = entry.address.parse().map_err(|_| BadValue("has no address"))?;
        if address.port() == 0 || !is_dialable(address.ip(), true) {
            return Err(BadValue("has an address where no peer can be"));
        }
        let zone = entry.zone.parse().map_err(|_| BadValue("has no zone"))?;
        if entry.downloading.len() > limits::DOWNLOADS_PER_PEER {
            return Err(BadValue("has too many downloads"));
        }
        let downloading = entry.downloading.iter().map(|download| content(&download.content, download.size));
        Ok(Self {
            join: Join { id, identity, address, zone },
            incarnation: entry.incarnation,
            tracker: TrackerId(entry.tracker),
            downloading: downloading.collect::<Result<_, _>>()?,
            mirror: entry.mirror.map(|proto::Mirror { wanted, here }| Mirror { wanted, here }),
        })
    }
}

fn content(id: &[u8], size: u64) -> Result<Content, BadValue> {
    let id = ContentId::try_from(id).map_err(|_| BadValue("has a content id that is none"))?;
    if size > limits::CONTENT_BYTES {
        return Err(BadValue("has a content that is too large"));
    }
    Ok(Content { id, size })
}

/// Some files of a peer, ordered by path, each path once.
pub(super) type Files = Vec<(SharePath, Content)>;

/// The values of a bucket, or of those that it has to be split into. Splitting what is too long by its hashes
/// ends, unless there are many paths of one hash, which nobody can find: those are left out.
pub(super) fn pack(bucket: Bucket, files: Files) -> Vec<(Bucket, Vec<u8>)> {
    let packed = (files.len() <= limits::STORE_BUCKET_BYTES / ID_BYTES).then(|| pack_one(&files));
    match (packed, bucket.halves()) {
        (Some(packed), _) if packed.len() <= limits::STORE_BUCKET_BYTES => vec![(bucket, packed)],
        (_, None) => Vec::new(),
        (_, Some([low, high])) => {
            let (first, second) = files.into_iter().partition(|(path, _)| low.holds(hash(path)));
            let mut packed = pack(low, first);
            packed.extend(pack(high, second));
            packed
        }
    }
}

/// What a file takes at least.
const ID_BYTES: usize = 32;

fn pack_one(files: &Files) -> Vec<u8> {
    let contents = files.iter().flat_map(|(_, content)| content.id.bytes()).copied().collect();
    let mut text: Vec<u8> = files.iter().flat_map(|(_, content)| content.size.to_le_bytes()).collect();
    for (path, _) in files {
        text.extend_from_slice(path.as_str().as_bytes());
        text.push(b'\n');
    }
    proto::Bucket { contents, deflated: compress_to_vec(&text, limits::STORE_EFFORT) }.encode_to_vec()
}

/// Reads a bucket.
pub(super) fn unpack(bucket: Bucket, bytes: &[u8]) -> Result<Files, BadValue> {
    if bytes.len() > limits::STORE_BUCKET_BYTES {
        return Err(BadValue("is too long for a bucket"));
    }
    let proto::Bucket { contents, deflated } = proto::Bucket::decode(bytes).map_err(|_| BadValue("is no bucket"))?;
    let text = decompress_to_vec_with_limit(&deflated, limits::STORE_BUCKET_TEXT_BYTES);
    let text = text.map_err(|_| BadValue("does not inflate, or to too much"))?;
    let (ids, rest) = contents.as_chunks::<ID_BYTES>();
    let (sizes, paths) = text.split_at_checked(ids.len() * size_of::<u64>()).ok_or(BadValue("has too few sizes"))?;
    let paths = str::from_utf8(paths).map_err(|_| BadValue("has paths that are not UTF-8"))?;
    let mut files: Files = Vec::with_capacity(ids.len());
    let mut paths = paths.split_terminator('\n');
    for ((id, size), path) in ids.iter().zip(sizes.as_chunks().0).zip(&mut paths) {
        let path: SharePath = path.parse().map_err(|_| BadValue("has a path that is none"))?;
        if !bucket.holds(hash(&path)) || files.last().is_some_and(|(last, _)| *last >= path) {
            return Err(BadValue("has paths out of place"));
        }
        files.push((path, content(id, u64::from_le_bytes(*size))?));
    }
    if !rest.is_empty() || files.len() < ids.len() || paths.next().is_some() {
        return Err(BadValue("has not as many paths as contents"));
    }
    Ok(files)
}

/// Why a value of the store is left alone: it …
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadValue(&'static str);

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as shares have them: some folders, many names, random ids.
    fn files(count: usize) -> Files {
        let file = |number: usize| {
            let path = format!("photos/{:04}/trip {:02}/IMG_{number:08}.jpeg", number % 9973, number % 31);
            let id = ContentId::try_from(&blake3::hash(path.as_bytes()).as_bytes()[..]).unwrap();
            (path.parse().unwrap(), Content { id, size: 1_000_000 + number as u64 * 37 })
        };
        let mut files: Files = (0..count).map(file).collect();
        files.sort_unstable();
        files
    }

    #[test]
    fn what_is_packed_comes_back_in_buckets_within_the_limit() {
        for count in [0, 1, 100, 4_000, 30_000] {
            let packed = pack(Bucket::ALL, files(count));
            let mut back = Vec::new();
            for (at, (bucket, value)) in packed.iter().enumerate() {
                assert!(value.len() <= limits::STORE_BUCKET_BYTES);
                // Halves of what is just too long are not much shorter than half of it.
                assert!(packed.len() == 1 || value.len() >= limits::STORE_BUCKET_BYTES / 4, "{}", value.len());
                assert!(packed[..at].iter().all(|(other, _)| !other.covers(*bucket) && !bucket.covers(*other)));
                back.extend(unpack(*bucket, value).unwrap());
            }
            back.sort_unstable();
            assert_eq!(back, files(count));
            let bytes: usize = packed.iter().map(|(_, value)| value.len()).sum();
            assert!(bytes <= 48 * count + 100, "{bytes} bytes for {count} files");
        }
    }

    #[test]
    fn a_change_of_one_file_changes_one_bucket() {
        let mut changed = files(30_000);
        let before = pack(Bucket::ALL, changed.clone());
        changed[12_345].1.size += 1;
        let after = pack(Bucket::ALL, changed);
        assert!(before.len() > 4);
        assert_eq!(before.iter().zip(&after).filter(|(one, other)| one != other).count(), 1);
    }

    #[test]
    fn a_damaged_bucket_is_refused_or_read_as_files_that_can_be() {
        let value = pack(Bucket::ALL, files(50)).remove(0).1;
        let mut read = 0;
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(files) = unpack(Bucket::ALL, &damaged) {
                    assert!(files.is_sorted_by(|(one, _), (other, _)| one < other));
                    read += 1;
                }
            }
            assert!(unpack(Bucket::ALL, &value[..at]).is_err(), "the first {at} bytes");
        }
        // Damage to an id or a size cannot be seen.
        assert!(read > 0);
    }

    #[test]
    fn hostile_buckets_are_refused() {
        let deflate = |text: &[u8]| compress_to_vec(text, 1);
        let bucket = |contents: usize, deflated: Vec<u8>| {
            proto::Bucket { contents: vec![7; contents], deflated }.encode_to_vec()
        };
        let with = |paths: &str| [&[0; 16][..], paths.as_bytes()].concat();
        assert_eq!(unpack(Bucket::ALL, &bucket(64, deflate(&with("a\nb\n")))).map(|files| files.len()), Ok(2));
        for (why, value) in [
            ("garbage", vec![0xff; 100]),
            ("a bomb", bucket(64, deflate(&vec![b'a'; limits::STORE_BUCKET_TEXT_BYTES + 1]))),
            ("half an id", bucket(63, deflate(&with("a\nb\n")))),
            ("no sizes", bucket(64, deflate(b"a\nb\n"))),
            ("too few paths", bucket(64, deflate(&with("a\n")))),
            ("too many paths", bucket(64, deflate(&with("a\nb\nc\n")))),
            ("a path twice", bucket(64, deflate(&with("a\na\n")))),
            ("no order", bucket(64, deflate(&with("b\na\n")))),
            ("a climbing path", bucket(64, deflate(&with("../a\nb\n")))),
            ("a huge size", bucket(64, deflate(&[&[0xff; 16][..], b"a\nb\n"].concat()))),
            ("no deflate", bucket(64, vec![1, 2, 3])),
            ("too long", bucket(limits::STORE_BUCKET_BYTES, deflate(b""))),
        ] {
            assert!(unpack(Bucket::ALL, &value).is_err(), "{why}");
        }
        let [low, high] = Bucket::ALL.halves().unwrap();
        let one = bucket(32, deflate(&[&[0; 8][..], b"a\n"].concat()));
        assert!(unpack(low, &one).is_ok() != unpack(high, &one).is_ok(), "a path of another bucket");
    }

    #[test]
    fn an_entry_comes_back_and_a_hostile_one_does_not() {
        let id: PeerId = "a".parse().unwrap();
        let join = Join {
            id: id.clone(),
            identity: Identity::of(&[1; 32]),
            address: "[2001:db8::1]:5000".parse().unwrap(),
            zone: "z".parse().unwrap(),
        };
        let downloading = files(3).into_iter().map(|(_, content)| content).collect::<Vec<_>>();
        let mirror = Some(Mirror { wanted: 2, here: 1 });
        let tracker = TrackerId(7);
        let entry = Entry { join, incarnation: u64::MAX, tracker, downloading: downloading.clone(), mirror };
        let back = Entry::parse(id.clone(), &entry.to_bytes()).unwrap();
        assert_eq!((back.incarnation, back.tracker, back.downloading), (u64::MAX, tracker, downloading));
        assert_eq!(back.mirror, mirror);
        assert_eq!((back.join.address, back.join.zone), (entry.join.address, entry.join.zone));
        assert!(back.join.identity == Identity::of(&[1; 32]));
        let good = proto::Entry { identity: vec![1; 32], address: "10.0.0.1:5".into(), ..proto::Entry::default() };
        let download = |content: Vec<u8>, size| vec![proto::Download { content, size }];
        assert!(Entry::parse(id.clone(), &good.encode_to_vec()).is_ok());
        for bad in [
            proto::Entry { identity: vec![1; 31], ..good.clone() },
            proto::Entry { address: "10.0.0.1".into(), ..good.clone() },
            proto::Entry { address: "10.0.0.1:0".into(), ..good.clone() },
            proto::Entry { address: "169.254.169.254:80".into(), ..good.clone() },
            proto::Entry { zone: "a b".into(), ..good.clone() },
            proto::Entry { downloading: download(vec![1; 31], 1), ..good.clone() },
            proto::Entry { downloading: download(vec![1; 32], u64::MAX), ..good.clone() },
            proto::Entry {
                downloading: vec![download(vec![1; 32], 1).remove(0); limits::DOWNLOADS_PER_PEER + 1],
                ..good
            },
        ] {
            assert!(Entry::parse(id.clone(), &bad.encode_to_vec()).is_err());
        }
        assert!(Entry::parse(id, &[0xff; 9]).is_err());
    }
}
