//! Who is in the swarm, in parts.

use std::{
    net::SocketAddr,
    ops::Bound::{Excluded, Unbounded},
};

use super::{Mirror, Registry};
use crate::name::{PeerId, Zone};

/// What is known of a peer, beside which files it has.
pub struct Known<'a> {
    /// Its id.
    pub id: &'a PeerId,
    /// Where it is.
    pub address: SocketAddr,
    /// Its zone.
    pub zone: &'a Zone,
    /// Files that it holds.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that it downloads.
    pub downloads: usize,
    /// How far it is with what it mirrors, if anything.
    pub mirror: Option<Mirror>,
}

/// A part of all peers.
pub struct Roll<'a> {
    /// Ordered by id.
    pub peers: Vec<Known<'a>>,
    /// The last that was looked at, if there are more behind it.
    pub last: Option<&'a PeerId>,
}

impl Registry {
    /// The peers behind `after`, or from the first on: so many are looked at, and those given whom the asker may be
    /// told of.
    pub fn roll(&self, after: Option<&PeerId>, asker_is_local: bool, most: usize) -> Roll<'_> {
        let begin = after.map_or(Unbounded, Excluded);
        let mut behind = self.by_id.range::<PeerId, _>((begin, Unbounded));
        let (mut peers, mut last) = (Vec::new(), None);
        for (id, &handle) in behind.by_ref().take(most) {
            last = Some(id);
            let peer = &self.peers[handle];
            if peer.is_for(asker_is_local) {
                peers.push(Known {
                    id,
                    address: peer.address,
                    zone: &peer.zone,
                    files: self.files.len_of(peer.files),
                    bytes: self.files.bytes_of(peer.files),
                    downloads: self.swarms.downloads_of(handle),
                    mirror: peer.mirror,
                });
            }
        }
        Roll { peers, last: last.filter(|_| behind.next().is_some()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        content::ContentId,
        tracker::registry::{Changes, Content, Identity, Join, Key, Token},
    };

    fn registry(ids: &[(&str, &str)]) -> Registry {
        let mut registry = Registry::new(Duration::from_secs(10));
        for (id, ip) in ids {
            let (id, address) = (id.parse().unwrap(), format!("{ip}:5000").parse().unwrap());
            let join = Join { id, identity: Identity::of(&[1; 32]), address, zone: "z".parse().unwrap() };
            registry.join(Instant::now(), join, 1).unwrap();
        }
        registry
    }

    #[test]
    fn parts_are_in_order_and_leave_out_nobody_but_those_on_loopback() {
        let registry = registry(&[("c", "10.0.0.1"), ("a", "10.0.0.2"), ("b", "127.0.0.1"), ("d", "10.0.0.3")]);
        let read = |is_local, most| {
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let roll = registry.roll(after, is_local, most);
                read.push(roll.peers.iter().map(|known| known.id.as_str()).collect::<String>());
                after = roll.last;
                if after.is_none() {
                    return read.join(" ");
                }
            }
        };
        assert_eq!([read(true, 9), read(true, 4), read(true, 3), read(true, 1)], ["abcd", "abcd", "abc d", "a b c d"]);
        assert_eq!([read(false, 9), read(false, 2), read(false, 1)], ["acd", "a cd", "a  c d"]);
        let gone = "bb".parse().unwrap();
        assert_eq!(registry.roll(Some(&gone), true, 9).peers[0].id.as_str(), "c", "whoever has left meanwhile");
    }

    #[test]
    fn files_are_counted_as_they_come_and_go() {
        let mut registry = registry(&[("a", "10.0.0.1")]);
        let (id, key) = ("a".parse().unwrap(), Key::new([1; 32]));
        let sealed = Token::new(&id, &Identity::of(&[1; 32]), 1).sealed(&key);
        let mut told = |added: &[(&str, u64)], removed: &[&str], mirror| {
            let content = |size: u64| Content { id: ContentId::of(&size.to_le_bytes()), size };
            let changes = Changes {
                added: added.iter().map(|(path, size)| (path.parse().unwrap(), content(*size))).collect(),
                removed: removed.iter().map(|path| path.parse().unwrap()).collect(),
                mirror,
                ..Changes::default()
            };
            registry.announce(Instant::now(), Token::open(&key, &sealed).unwrap(), &changes).unwrap();
            let known = &registry.roll(None, false, 1).peers[0];
            (known.files, known.bytes, known.mirror)
        };
        let mirror = Some(Mirror { wanted: 5, here: 4 });
        assert_eq!(told(&[("x", 7), ("y", 5)], &[], None), (2, 12, None));
        assert_eq!(told(&[("x", 100)], &[], mirror), (2, 105, mirror));
        assert_eq!(told(&[("x", 100), ("z", 5)], &["y"], None), (2, 105, mirror));
        assert_eq!(told(&[], &["x", "y", "z"], None), (0, 0, mirror));
    }
}
