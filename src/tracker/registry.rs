//! Who holds what. Pure: the time, the tokens and the dice are passed in.
//!
//! An entry whose lease has ended stays until [`Registry::expire`] is called; whoever asks anything
//! calls that first, and never hears of a dead peer.

mod changes;
mod dice;
mod files;
mod leases;
mod lists;
mod locate;
mod names;
mod peers;
mod refusal;
mod remote;
mod search;
mod shards;
mod slab;
mod sorted;
mod swarms;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

pub(super) use self::dice::Dice;
pub use self::{
    changes::{Changes, Underway},
    locate::{Ask, Encoded, Located, Source},
    peers::{Known, Roll},
    refusal::Refusal,
    remote::{Place, View},
    search::{Cursor, Page, Row},
    token::{Key, Token},
};
use self::{
    files::{Files, Inventory},
    leases::Leases,
    slab::{Handle, Slab},
    swarms::Swarms,
};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, Zone},
};

/// Who a peer is, from one join to the next: the hash of its secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity(blake3::Hash);

impl Identity {
    /// The identity that this secret proves.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(blake3::hash(secret))
    }

    /// The identity whose secret has this hash.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(hash))
    }

    /// The hash of its secret.
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// What a token has of it.
    fn mark(&self) -> [u8; 8] {
        *self.0.as_bytes().first_chunk().expect("a hash is longer than eight bytes")
    }
}

/// A file's bytes and their number. A liar about the size so makes a content of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Content {
    /// The content id.
    pub id: ContentId,
    /// Bytes.
    pub size: u64,
}

/// Who enters the swarm, and where it is.
#[derive(Clone)]
pub struct Join {
    /// Its id.
    pub id: PeerId,
    /// Who it is.
    pub identity: Identity,
    /// Where its HTTP side is, as others are told.
    pub address: SocketAddr,
    /// Its zone.
    pub zone: Zone,
}

/// How far a peer is with what it mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// How many files it wants,
    pub wanted: u32,
    /// and how many of these it has.
    pub here: u32,
}

/// What came of a join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Which of this id's joins it is: what the token has to say. It grows with every one.
    pub incarnation: u64,
    /// Whether it took over a live entry of its own.
    pub took_over: bool,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Live peers.
    pub peers: usize,
    /// Pairs of a peer and a path of its files.
    pub holdings: usize,
    /// Distinct paths.
    pub paths: usize,
    /// Distinct contents of files.
    pub contents: usize,
    /// Pairs of a peer and a content that it downloads.
    pub downloads: usize,
}

/// An entry.
struct Peer {
    id: PeerId,
    identity: Identity,
    address: SocketAddr,
    zone: Zone,
    /// Whether this tracker serves it and it has a lease; else another one does.
    is_served: bool,
    /// Which of the id's joins made it: whoever holds a token of an older one is superseded.
    incarnation: u64,
    /// From where it was reported dead since its last renewal, at most [`limits::SUSPECTED_BY`] origins.
    reported_by: Vec<IpAddr>,
    mirror: Option<Mirror>,
    files: Handle<Inventory>,
    encoded: Encoded,
}

impl Peer {
    fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Whether an asker may be sent to it: to another machine's loopback nobody is.
    fn is_for(&self, asker_is_local: bool) -> bool {
        asker_is_local || !self.is_local()
    }

    /// Whether so many said that it is dead that it is put last.
    fn is_suspect(&self) -> bool {
        self.reported_by.len() >= limits::SUSPECTED_BY
    }
}

/// What a registry holds at most. A test would take minutes to reach the real figures.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) peers: usize,
    pub(super) files_per_peer: usize,
    pub(super) files: usize,
    pub(super) paths_bytes: usize,
    pub(super) downloads_per_peer: usize,
    pub(super) downloads: usize,
}

pub(super) const ROOM: Room = Room {
    peers: limits::PEERS,
    files_per_peer: limits::FILES_PER_PEER,
    files: limits::FILES,
    paths_bytes: limits::PATHS_BYTES,
    downloads_per_peer: limits::DOWNLOADS_PER_PEER,
    downloads: limits::DOWNLOADS,
};

/// The entries of all live peers, and what they hold.
pub struct Registry {
    lease: Duration,
    room: Room,
    peers: Slab<Peer>,
    by_id: BTreeMap<PeerId, Handle<Peer>>,
    leases: Leases<Peer>,
    /// More than that of any entry that is gone: no token is ever good again.
    next_incarnation: u64,
    files: Files,
    swarms: Swarms,
}

impl Registry {
    /// An empty one, which believes a peer for so long without hearing from it.
    pub fn new(lease: Duration) -> Self {
        Self::with_room(lease, ROOM)
    }

    pub(super) fn with_room(lease: Duration, room: Room) -> Self {
        Self {
            lease,
            room,
            peers: Slab::new(),
            by_id: BTreeMap::new(),
            leases: Leases::new(),
            next_incarnation: 0,
            files: Files::new(),
            swarms: Swarms::new(),
        }
    }

    /// Lets a peer in, with no files yet. Its incarnation is `at_least` that (milliseconds since 1970, so that
    /// it grows over restarts too); with it, a live entry of its own is superseded.
    ///
    /// # Errors
    /// When the id is another's, or there are too many peers.
    pub fn join(&mut self, now: Instant, join: Join, at_least: u64) -> Result<Joined, Refusal> {
        let old = self.by_id.get(&join.id).copied();
        // A dead peer that no step has come to yet holds its id against nobody.
        let is_live = old.is_some_and(|old| !self.peers[old].is_served || self.leases.deadline(old) > now);
        match old {
            Some(old) if is_live && self.peers[old].identity != join.identity => return Err(Refusal::Taken(join.id)),
            Some(old) => drop(self.remove(old)),
            None if self.peers.len() >= self.room.peers => return Err(Refusal::Peers),
            None => {}
        }
        let incarnation = at_least.max(self.next_incarnation);
        let peer = self.insert(join, incarnation);
        self.extend(now, peer);
        Ok(Joined { incarnation, took_over: is_live })
    }

    fn insert(&mut self, join: Join, incarnation: u64) -> Handle<Peer> {
        let Join { id, identity, address, zone } = join;
        let (is_served, reported_by, mirror, files) = (false, Vec::new(), None, Handle::FIRST);
        let encoded = Encoded::new(&id, address, &zone);
        let entry = Peer {
            id: id.clone(),
            identity,
            address,
            zone,
            is_served,
            incarnation,
            reported_by,
            mirror,
            files,
            encoded,
        };
        let peer = self.peers.insert(entry);
        self.peers[peer].files = self.files.open(peer, self.peers[peer].is_local());
        self.by_id.insert(id, peer);
        peer
    }

    /// Keeps a peer's lease.
    ///
    /// # Errors
    /// When the token is no live peer's.
    pub fn renew(&mut self, now: Instant, token: Token<'_>) -> Result<(), Refusal> {
        let peer = self.holder(token)?;
        self.extend(now, peer);
        Ok(())
    }

    /// Whose current token this is.
    ///
    /// # Errors
    /// When it is no live peer's.
    pub fn who(&self, token: Token<'_>) -> Result<PeerId, Refusal> {
        self.holder(token).map(|peer| self.peers[peer].id.clone())
    }

    /// Forgets a peer at once; says which.
    ///
    /// # Errors
    /// When the token is no live peer's.
    pub fn leave(&mut self, token: Token<'_>) -> Result<PeerId, Refusal> {
        let peer = self.holder(token)?;
        Ok(self.remove(peer).id)
    }

    /// Forgets peers whose lease has ended, and says which: all of them, or as many as one step takes (see
    /// [`limits::EXPIRY_STEP`]); then [`next_expiry`](Self::next_expiry) is not behind `now`.
    pub fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let (mut gone, mut work) = (Vec::new(), 0);
        while let Some((deadline, peer)) = self.leases.first()
            && deadline <= now
            && work < limits::EXPIRY_STEP
        {
            work += 1 + self.swarms.downloads_of(peer);
            gone.push(self.remove(peer).id);
        }
        gone
    }

    /// When the next lease ends, if nobody renews it.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.leases.first().map(|(deadline, _)| deadline)
    }

    /// How much it holds.
    pub fn figures(&self) -> Figures {
        Figures {
            peers: self.peers.len(),
            holdings: self.files.pairs(),
            paths: self.files.names().len(),
            contents: self.files.contents(),
            downloads: self.swarms.downloads(),
        }
    }

    /// Releases so many files of peers that are gone, or does as much to keep the memory tight; nobody hears of
    /// those peers meanwhile. Whether there is more to do: the caller asks again until there is not.
    pub fn tidy(&mut self, files: usize) -> bool {
        self.files.tidy(files)
    }

    /// The peer whose current token this is.
    fn holder(&self, token: Token<'_>) -> Result<Handle<Peer>, Refusal> {
        let peer = *self.by_id.get(token.id).ok_or(Refusal::UnknownToken)?;
        let Peer { id, identity, incarnation, .. } = &self.peers[peer];
        // A token of a later join than this entry's is as unknown as one of another identity.
        if identity.mark() != token.mark || token.incarnation > *incarnation {
            return Err(Refusal::UnknownToken);
        }
        if token.incarnation == *incarnation { Ok(peer) } else { Err(Refusal::Superseded(id.clone())) }
    }

    /// Renews a lease. Allocates nothing: see [`Leases`].
    fn extend(&mut self, now: Instant, peer: Handle<Peer>) {
        let entry = &mut self.peers[peer];
        entry.reported_by = Vec::new();
        if std::mem::replace(&mut entry.is_served, true) {
            self.leases.renew(peer, now + self.lease);
        } else {
            self.leases.insert(peer, now + self.lease);
        }
    }

    /// What always holds, whatever anybody asked for.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check_invariants(&self) {
        assert!(self.peers.len() == self.by_id.len() && self.leases.len() <= self.by_id.len());
        assert!(self.peers.len() <= self.room.peers && self.files.pairs() <= self.room.files);
        assert!(self.files.names().bytes() <= self.room.paths_bytes && self.swarms.downloads() <= self.room.downloads);
        for (id, &peer) in &self.by_id {
            let entry = &self.peers[peer];
            assert!(entry.id == *id && self.swarms.downloads_of(peer) <= self.room.downloads_per_peer);
            let origins: std::collections::BTreeSet<_> = entry.reported_by.iter().collect();
            assert!(origins.len() == entry.reported_by.len() && origins.len() <= limits::SUSPECTED_BY);
        }
        self.leases.check_invariants();
        self.swarms.check_invariants(|peer, content| self.files.holds(self.peers[peer].files, content));
    }

    fn remove(&mut self, peer: Handle<Peer>) -> Peer {
        self.swarms.leave(peer);
        let entry = self.peers.remove(peer);
        self.files.close(entry.files);
        if entry.is_served {
            self.leases.remove(peer);
        }
        self.by_id.remove(&entry.id);
        self.next_incarnation = self.next_incarnation.max(entry.incarnation.saturating_add(1));
        entry
    }
}
