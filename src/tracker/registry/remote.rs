//! Entries in a registry that several trackers share. Each is served by one of them, which renewed it last and
//! lets go of it when its lease ends. The others keep it for as long as the store does.

use super::{Changes, Content, Identity, Join, Mirror, Peer, Refusal, Registry, Token, names::Name, slab::Handle};
use crate::{
    content::ContentId,
    name::{PeerId, SharePath},
};

/// An entry without its files.
pub struct View {
    /// Who joined.
    pub join: Join,
    /// Which of the id's joins it was.
    pub incarnation: u64,
    /// Whether this tracker serves it.
    pub is_served: bool,
    /// How many files it has.
    pub files: usize,
    /// What it downloads.
    pub downloading: Vec<Content>,
    /// How far it is with what it mirrors, if anything.
    pub mirror: Option<Mirror>,
}

/// How far somebody has read a peer's files.
#[derive(Default)]
pub struct Place(Option<Handle<Name>>);

impl Registry {
    /// The peer that a token is of, while it is in.
    pub fn holder_id(&self, token: Token<'_>) -> Option<&PeerId> {
        self.by_id.get_key_value(token.id).map(|(id, _)| id)
    }

    /// Who has joined under an id.
    pub fn identity(&self, id: &PeerId) -> Option<Identity> {
        self.by_id.get(id).map(|&peer| self.peers[peer].identity)
    }

    /// An entry.
    pub fn entry(&self, id: &PeerId) -> Option<View> {
        let peer = *self.by_id.get(id)?;
        let Peer { identity, address, zone, incarnation, is_served, mirror, files, .. } = &self.peers[peer];
        Some(View {
            join: Join { id: id.clone(), identity: *identity, address: *address, zone: zone.clone() },
            incarnation: *incarnation,
            is_served: *is_served,
            files: self.files.len_of(*files),
            downloading: self.swarms.contents_of(peer).collect(),
            mirror: *mirror,
        })
    }

    /// Up to so many of a peer's files, from a place on, which is moved behind them. None are left when it gives
    /// fewer. What changes meanwhile may be among them or not.
    pub fn read_files(&self, id: &PeerId, place: &mut Place, most: usize) -> Vec<(SharePath, Content)> {
        let Some(&peer) = self.by_id.get(id) else { return Vec::new() };
        let files: Vec<_> = self.files.files_of(self.peers[peer].files, place.0).take(most).collect();
        place.0 = files.last().map(|&(name, _)| name).or(place.0);
        let path = |name| self.files.names().path(name).parse().expect("only paths are announced");
        files.into_iter().map(|(name, content)| (path(name), content)).collect()
    }

    /// Lets in a peer that another tracker serves, without files unless this very join of it is in already; or
    /// hands over to that tracker one that was served here.
    ///
    /// # Errors
    /// When there are too many peers.
    pub fn keep(&mut self, join: Join, incarnation: u64) -> Result<(), Refusal> {
        if let Some(&peer) = self.by_id.get(&join.id) {
            let Peer { identity, incarnation: known, is_served, .. } = &mut self.peers[peer];
            if *identity == join.identity && *known == incarnation {
                if std::mem::take(is_served) {
                    self.leases.remove(peer);
                }
                return Ok(());
            }
            self.remove(peer);
        } else if self.peers.len() >= self.room.peers {
            return Err(Refusal::Peers);
        }
        self.insert(join, incarnation);
        Ok(())
    }

    /// Changes what a peer that another tracker serves holds, as [`announce`](Self::announce) does. One that is
    /// served here, or is not in, is left as it is.
    ///
    /// # Errors
    /// When the changes contradict themselves or pass a limit.
    pub fn change_kept(&mut self, id: &PeerId, changes: &Changes) -> Result<(), Refusal> {
        match self.kept(id) {
            Some(peer) => self.change(peer, changes),
            None => Ok(()),
        }
    }

    /// Makes these what a peer that another tracker serves downloads and mirrors.
    ///
    /// # Errors
    /// As [`change_kept`](Self::change_kept).
    pub fn set_kept_downloads(
        &mut self,
        id: &PeerId,
        downloading: Vec<Content>,
        mirror: Option<Mirror>,
    ) -> Result<(), Refusal> {
        let Some(peer) = self.kept(id) else { return Ok(()) };
        let stopped: Vec<ContentId> = self.swarms.contents_of(peer).map(|content| content.id).collect();
        self.change(peer, &Changes { downloading, stopped, mirror, ..Changes::default() })
    }

    /// Forgets a peer that another tracker served; says whether it was there.
    pub fn forget_kept(&mut self, id: &PeerId) -> bool {
        self.kept(id).map(|peer| self.remove(peer)).is_some()
    }

    fn kept(&self, id: &PeerId) -> Option<Handle<Peer>> {
        self.by_id.get(id).copied().filter(|&peer| !self.peers[peer].is_served)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::tracker::registry::{Ask, Key};

    const LEASE: Duration = Duration::from_secs(10);

    fn join(id: &str, identity: u8) -> Join {
        let (id, address, zone) = (id.parse().unwrap(), "10.0.0.1:5000".parse().unwrap(), "".parse().unwrap());
        Join { id, identity: Identity::of(&[identity; 32]), address, zone }
    }

    fn added(path: &str) -> Changes {
        let content = Content { id: ContentId::of(path.as_bytes()), size: path.len() as u64 };
        Changes { added: vec![(path.parse().unwrap(), content)], ..Changes::default() }
    }

    fn paths(registry: &Registry, id: &PeerId) -> Vec<String> {
        let files = registry.read_files(id, &mut Place::default(), usize::MAX);
        let mut paths: Vec<_> = files.into_iter().map(|(path, _)| path.to_string()).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn who_is_served_elsewhere_stays_until_the_store_says_so_and_is_served_once_it_calls() {
        let (mut registry, start) = (Registry::new(LEASE), Instant::now());
        let id: PeerId = "a".parse().unwrap();
        registry.keep(join("a", 1), 7).unwrap();
        registry.change_kept(&id, &added("x")).unwrap();
        assert!(registry.expire(start + LEASE * 100).is_empty() && registry.next_expiry().is_none());
        assert_eq!(paths(&registry, &id), ["x"]);
        // Its id is taken, and its token holds.
        assert!(matches!(registry.join(start, join("a", 2), 9), Err(Refusal::Taken(_))));
        let key = Key::new([1; 32]);
        let sealed = Token::new(&id, &Identity::of(&[1; 32]), 7).sealed(&key);
        let token = Token::open(&key, &sealed).unwrap();
        registry.renew(start, token).unwrap();
        assert!(registry.entry(&id).unwrap().is_served);
        // What the store has of a peer that is served here is not news.
        registry.change_kept(&id, &added("y")).unwrap();
        assert!(!registry.forget_kept(&id));
        assert_eq!(paths(&registry, &id), ["x"]);
        registry.check_invariants();
        assert_eq!(registry.expire(start + LEASE), [id]);
    }

    #[test]
    fn a_peer_is_handed_over_with_its_files_and_a_newer_join_has_none() {
        let (mut registry, start) = (Registry::new(LEASE), Instant::now());
        let id: PeerId = "a".parse().unwrap();
        let incarnation = registry.join(start, join("a", 1), 5).unwrap().incarnation;
        registry.keep(join("a", 1), incarnation).unwrap();
        registry.change_kept(&id, &added("x")).unwrap();
        assert!(registry.expire(start + LEASE * 2).is_empty());
        assert_eq!(paths(&registry, &id), ["x"]);
        registry.keep(join("a", 1), incarnation + 1).unwrap();
        assert!(paths(&registry, &id).is_empty());
        registry.keep(join("a", 2), incarnation + 1).unwrap();
        assert!(registry.entry(&id).unwrap().join.identity == Identity::of(&[2; 32]));
        registry.check_invariants();
        assert!(registry.forget_kept(&id) && !registry.forget_kept(&id));
        registry.check_invariants();
    }

    #[test]
    fn files_are_read_in_parts_and_downloads_are_what_the_store_says() {
        let mut registry = Registry::new(LEASE);
        let id: PeerId = "a".parse().unwrap();
        registry.keep(join("a", 1), 1).unwrap();
        for number in 0..10 {
            registry.change_kept(&id, &added(&number.to_string())).unwrap();
        }
        let (mut place, mut read) = (Place::default(), Vec::new());
        loop {
            let part = registry.read_files(&id, &mut place, 4);
            read.extend(part.iter().map(|(path, _)| path.to_string()));
            if part.len() < 4 {
                break;
            }
        }
        read.sort_unstable();
        assert_eq!(read, paths(&registry, &id));
        let content = |name: &str| Content { id: ContentId::of(name.as_bytes()), size: 3 };
        let mirror = Some(Mirror { wanted: 3, here: 2 });
        registry.set_kept_downloads(&id, vec![content("p"), content("q")], mirror).unwrap();
        registry.set_kept_downloads(&id, vec![content("q"), content("r")], None).unwrap();
        assert_eq!(registry.roll(None, false, 1).peers[0].mirror, mirror);
        let mut downloading = registry.entry(&id).unwrap().downloading;
        downloading.sort_unstable();
        let mut wanted = vec![content("q"), content("r")];
        wanted.sort_unstable();
        assert_eq!(downloading, wanted);
        let ask = Ask { id: ContentId::of(b"3"), dead: &[], from: "10.0.0.2".parse().unwrap(), dice: 1 };
        assert_eq!(registry.locate(&ask).sources.len(), 1);
        registry.check_invariants();
    }
}
