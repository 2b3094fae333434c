//! The reply to a locate, put together of what each peer's entry has ready: a good part of a locate would else be the
//! making and copying of texts that were the same the last time.

use prost::{
    Message as _,
    encoding::{WireType, bool, encode_key, encode_varint, encoded_len_varint, key_len, uint64},
};

use super::registry::{Located, Source};
use crate::proto;

/// Field numbers of `LocateReply` and of `Source` in the protocol.
const SOURCES: u32 = 2;
const SIZE: u32 = 4;
const PARTIAL: u32 = 5;

/// A reply and its length, in parts.
pub(super) struct Reply<'a> {
    paths: proto::LocateReply,
    sources: Vec<Source<'a>>,
}

impl<'a> Reply<'a> {
    pub(super) fn new(located: Located<'a>) -> Self {
        let Located { paths, sources } = located;
        Self { paths: proto::LocateReply { paths, ..proto::LocateReply::default() }, sources }
    }

    /// Bytes in the message.
    pub(super) fn len(&self) -> usize {
        let sources = self.sources.iter().map(|source| {
            let length = length(source);
            key_len(SOURCES) + encoded_len_varint(length as u64) + length
        });
        self.paths.encoded_len() + sources.sum::<usize>()
    }

    /// Puts the message behind what is there.
    pub(super) fn put(&self, mut bytes: &mut Vec<u8>) {
        self.paths.encode_raw(&mut bytes);
        for source in &self.sources {
            encode_key(SOURCES, WireType::LengthDelimited, &mut bytes);
            encode_varint(length(source) as u64, &mut bytes);
            bytes.extend_from_slice(source.encoded);
            if source.size != 0 {
                uint64::encode(SIZE, &source.size, &mut bytes);
            }
            if source.is_partial {
                bool::encode(PARTIAL, &true, &mut bytes);
            }
        }
    }

    /// The same to be encoded by others.
    pub(super) fn message(&self) -> proto::LocateReply {
        let mut bytes = Vec::with_capacity(self.len());
        self.put(&mut bytes);
        proto::LocateReply::decode(&*bytes).unwrap_or_default()
    }
}

/// Bytes in the message that a source is.
fn length(source: &Source<'_>) -> usize {
    let size = if source.size == 0 { 0 } else { uint64::encoded_len(SIZE, &source.size) };
    source.encoded.len() + size + if source.is_partial { bool::encoded_len(PARTIAL, &true) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::registry::Encoded;

    #[test]
    fn it_is_what_the_protocol_says() {
        let sources = [(0, false), (1, true), (u64::MAX, false), (300, true)].map(|(size, partial)| proto::Source {
            peer_id: "a".repeat(partial as usize * 63 + 1),
            address: "[2001:db8::1]:5000".into(),
            zone: if partial { "z".into() } else { String::new() },
            size,
            partial,
        });
        let reply = proto::LocateReply { paths: vec!["x".into(), "y/z".into()], sources: sources.to_vec() };
        let entries = sources.map(|source| {
            let proto::Source { peer_id, address, zone, .. } = &source;
            let (id, address, zone) = (peer_id.parse().unwrap(), address.parse().unwrap(), zone.parse().unwrap());
            let encoded = Encoded::new(&id, address, &zone);
            (source, id, address, zone, encoded)
        });
        let sources = entries.iter().map(|(source, id, address, zone, encoded)| {
            let proto::Source { size, partial, .. } = source;
            Source { id, address: *address, zone, size: *size, is_partial: *partial, encoded: encoded.bytes() }
        });
        let made = Reply::new(Located { paths: reply.paths.clone(), sources: sources.collect() });
        let mut bytes = Vec::new();
        made.put(&mut bytes);
        assert_eq!((bytes.len(), &bytes), (made.len(), &reply.encode_to_vec()));
        assert_eq!(made.message(), reply);
    }
}
