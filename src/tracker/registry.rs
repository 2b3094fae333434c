//! Who holds what. Pure: the time, the tokens and the dice are passed in.
//!
//! An entry whose lease has ended stays until [`Registry::expire`] is called; whoever asks anything
//! calls that first, and never hears of a dead peer.

mod files;
mod refusal;
mod slab;
mod swarms;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use self::{
    files::{Files, Held, Name},
    slab::{Handle, Slab},
    swarms::{Ask, Swarms},
};
pub use self::{
    refusal::Refusal,
    token::{Key, Token},
};
use super::search::Pattern;
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath, Zone},
};

/// Who a peer is, from one join to the next: the hash of its secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity(blake3::Hash);

impl Identity {
    /// The identity that this secret proves.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(blake3::hash(secret))
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

/// What came of a join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Which of this id's joins it is: what the token has to say. It grows with every one.
    pub incarnation: u64,
    /// Whether it took over a live entry of its own.
    pub took_over: bool,
}

/// Changes to what a peer holds and downloads.
#[derive(Default)]
pub struct Changes {
    /// Paths it has, with what is there now.
    pub added: Vec<(SharePath, Content)>,
    /// Paths it no longer has; what `added` names too it has.
    pub removed: Vec<SharePath>,
    /// What it downloads, and gives on as far as it has it.
    pub downloading: Vec<Content>,
    /// What it no longer downloads; what `downloading` names too it does.
    pub stopped: Vec<ContentId>,
}

/// One path with one content.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The path.
    pub path: &'a SharePath,
    /// The content.
    pub content: Content,
    /// How many peers hold the content, under whatever path.
    pub sources: usize,
    /// Their ids, ordered; the first [`limits::NAMED`].
    pub source_ids: Vec<&'a PeerId>,
}

/// Where a content is.
#[derive(Debug, Default)]
pub struct Located<'a> {
    /// The names it goes by, ordered; the first [`limits::NAMED`].
    pub paths: Vec<&'a SharePath>,
    /// Peers that hold it, in random order, at most [`limits::NAMED`]; for one that downloads it,
    /// those that it is given.
    pub sources: Vec<Source<'a>>,
}

/// One peer that holds a content, or some of it.
#[derive(Debug)]
pub struct Source<'a> {
    /// Its id.
    pub id: &'a PeerId,
    /// Where its HTTP side is.
    pub address: SocketAddr,
    /// Its zone.
    pub zone: &'a Zone,
    /// The size it announced.
    pub size: u64,
    /// Whether it still downloads it.
    pub is_partial: bool,
}

/// An entry.
struct Peer {
    id: PeerId,
    identity: Identity,
    address: SocketAddr,
    zone: Zone,
    /// When the lease ends.
    deadline: Instant,
    /// Which of the id's joins made it: whoever holds a token of an older one is superseded.
    incarnation: u64,
    files: BTreeMap<Handle<Name>, Handle<Held>>,
}

impl Peer {
    fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Whether an asker may be sent to it: to another machine's loopback nobody is.
    fn is_for(&self, asker_is_local: bool) -> bool {
        asker_is_local || !self.is_local()
    }
}

/// What a registry holds at most. A test would take minutes to reach the real figures.
struct Room {
    peers: usize,
    files_per_peer: usize,
    files: usize,
    paths_bytes: usize,
    downloads_per_peer: usize,
    downloads: usize,
}

const ROOM: Room = Room {
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
    by_id: HashMap<PeerId, Handle<Peer>>,
    /// Who is next to expire comes first.
    leases: BTreeSet<(Instant, Handle<Peer>)>,
    files: Files,
    swarms: Swarms,
}

impl Registry {
    /// An empty one, which believes a peer for so long without hearing from it.
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            room: ROOM,
            peers: Slab::new(),
            by_id: HashMap::new(),
            leases: BTreeSet::new(),
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
        let Join { id, identity, address, zone } = join;
        let mut incarnation = at_least;
        let old = self.by_id.get(&id).copied();
        if let Some(old) = old {
            if self.peers[old].identity != identity {
                return Err(Refusal::Taken(id));
            }
            incarnation = incarnation.max(self.remove(old).incarnation.saturating_add(1));
        } else if self.peers.len() >= self.room.peers {
            return Err(Refusal::Peers);
        }
        let deadline = now + self.lease;
        let files = BTreeMap::new();
        let peer = self.peers.insert(Peer { id: id.clone(), identity, address, zone, deadline, incarnation, files });
        self.by_id.insert(id, peer);
        self.leases.insert((deadline, peer));
        Ok(Joined { incarnation, took_over: old.is_some() })
    }

    /// Changes what a peer holds and downloads, all of it or, on an error, nothing; and renews its lease.
    ///
    /// # Errors
    /// When the token is no live peer's, or the changes contradict themselves or pass a limit.
    pub fn announce(&mut self, now: Instant, token: Token<'_>, changes: &Changes) -> Result<(), Refusal> {
        let peer = self.holder(token)?;
        let mut news: BTreeMap<&SharePath, Option<Content>> = BTreeMap::new();
        news.extend(changes.removed.iter().map(|path| (path, None)));
        news.extend(changes.added.iter().map(|(path, content)| (path, Some(*content))));
        self.check(peer, &news, changes)?;
        let mut lost = BTreeSet::new();
        for (path, content) in news {
            lost.extend(self.set(peer, path, content));
        }
        for content in lost {
            if !self.files.holds(&self.peers, peer, content) {
                self.swarms.lost(peer, content.id);
            }
        }
        for (_, content) in &changes.added {
            if self.swarms.is_downloading(peer, content.id) && self.files.holds(&self.peers, peer, *content) {
                self.swarms.became_whole(peer, *content);
            }
        }
        let wanted: BTreeSet<_> = changes.downloading.iter().map(|content| content.id).collect();
        for id in changes.stopped.iter().filter(|id| !wanted.contains(id)) {
            self.swarms.stop(peer, *id);
        }
        for content in &changes.downloading {
            if !self.files.holds(&self.peers, peer, *content) {
                self.swarms.begin(&self.peers, peer, *content);
            }
        }
        self.extend(now, peer);
        Ok(())
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

    /// Forgets a peer at once; says which.
    ///
    /// # Errors
    /// When the token is no live peer's.
    pub fn leave(&mut self, token: Token<'_>) -> Result<PeerId, Refusal> {
        let peer = self.holder(token)?;
        Ok(self.remove(peer).id)
    }

    /// Forgets the peers whose lease has ended; says which.
    pub fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let mut gone = Vec::new();
        while let Some(&(deadline, peer)) = self.leases.first()
            && deadline <= now
        {
            gone.push(self.remove(peer).id);
        }
        gone
    }

    /// When the next lease ends, if nobody renews it.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.leases.first().map(|&(deadline, _)| deadline)
    }

    /// Files whose path the pattern means, ordered by path and content, those behind `after` only. Peers
    /// on loopback count, and are named, only if the asker is there too.
    pub fn search<'a>(
        &'a self,
        pattern: &'a mut Pattern,
        after: Option<&'a (SharePath, Content)>,
        asker_is_local: bool,
    ) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let names = self.files.names_from(after.map(|(path, _)| path));
        let names = names.filter(|(path, _)| pattern.matches(path.as_str()));
        names.flat_map(move |(path, name)| self.rows(path, name, after, asker_is_local))
    }

    /// The files with exactly this path, ordered by content; otherwise as [`search`](Self::search).
    pub fn search_exact<'a>(
        &'a self,
        path: &'a SharePath,
        after: Option<&'a (SharePath, Content)>,
        asker_is_local: bool,
    ) -> impl Iterator<Item = Row<'a>> + use<'a> {
        self.files.name(path).into_iter().flat_map(move |name| self.rows(path, name, after, asker_is_local))
    }

    fn rows<'a>(
        &'a self,
        path: &'a SharePath,
        name: Handle<Name>,
        after: Option<&'a (SharePath, Content)>,
        asker_is_local: bool,
    ) -> impl Iterator<Item = Row<'a>> {
        let is_behind = move |held: &&Held| after.is_none_or(|(last, content)| (path, held.content) > (last, *content));
        let versions = self.files.versions(name).filter(is_behind);
        versions.filter(move |held| held.sources(asker_is_local) > 0).map(move |held| {
            let sources = held.holders().map(|peer| &self.peers[peer]).filter(|peer| peer.is_for(asker_is_local));
            Row {
                path,
                content: held.content,
                sources: held.sources(asker_is_local),
                source_ids: sources.take(limits::NAMED).map(|peer| &peer.id).collect(),
            }
        })
    }

    /// At most [`limits::ROW_PLACES`] peers that hold a content, for one who wants to fetch many: those of
    /// its zone first. The same `dice` give the same peers for contents that the same peers hold, so that
    /// few connections do; others spread the askers. Peers on loopback are given only to askers there.
    pub fn near(&self, content: Content, zone: &Zone, asker_is_local: bool, dice: u64) -> Vec<Source<'_>> {
        let holders = self.files.holders(content);
        let first = Dice(dice).below(holders.len().max(1));
        let holders = holders[first..].iter().chain(&holders[..first]).map(|&(peer, _)| &self.peers[peer]);
        let mut near: Vec<_> = holders.filter(|peer| peer.is_for(asker_is_local)).take(limits::CANDIDATES).collect();
        near.sort_by_key(|peer| peer.zone != *zone);
        let near = near.into_iter().take(limits::ROW_PLACES);
        near.map(|peer| Source {
            id: &peer.id,
            address: peer.address,
            zone: &peer.zone,
            size: content.size,
            is_partial: false,
        })
        .collect()
    }

    /// Who holds a content, and what it is called. Peers on loopback are given only to askers
    /// there, and the dead to nobody. `dice` is any random number: it fixes the order.
    pub fn locate(&self, content: ContentId, dead: &[PeerId], asker_is_local: bool, dice: u64) -> Located<'_> {
        let mut paths = Vec::new();
        let mut holders = Vec::new();
        for (handle, held) in self.files.sizes(content).filter(|(_, held)| held.sources(asker_is_local) > 0) {
            paths.extend(self.files.names_of(handle).take(limits::NAMED));
            let sources = held.holders().filter(|&peer| self.peers[peer].is_for(asker_is_local));
            let sources = sources.filter(|&peer| !dead.contains(&self.peers[peer].id));
            holders.extend(sources.map(|peer| (peer, held.content.size)));
        }
        paths.sort_unstable();
        paths.dedup();
        paths.truncate(limits::NAMED);
        shuffle_first(&mut holders, limits::NAMED, dice);
        let sources = holders.into_iter().map(|(peer, size)| {
            let Peer { id, address, zone, .. } = &self.peers[peer];
            Source { id, address: *address, zone, size, is_partial: false }
        });
        Located { paths, sources: sources.collect() }
    }

    /// What a peer is given of a content that it downloads, the same again each time as far as it
    /// can be; what anybody is, if it does not. Never itself.
    ///
    /// # Errors
    /// When the token is no live peer's.
    pub fn locate_for(
        &mut self,
        token: Token<'_>,
        id: ContentId,
        dead: &[PeerId],
        asker_is_local: bool,
        dice: u64,
    ) -> Result<Located<'_>, Refusal> {
        let peer = self.holder(token)?;
        let ask = Ask { peer, id, dead, is_local: asker_is_local, dice };
        let Some(view) = self.swarms.view(&self.peers, &self.files, &ask) else {
            let mut located = self.locate(id, dead, asker_is_local, dice);
            located.sources.retain(|source| *source.id != self.peers[peer].id);
            return Ok(located);
        };
        let sources = view.sources.into_iter().map(|(peer, is_partial)| {
            let Peer { id, address, zone, .. } = &self.peers[peer];
            Source { id, address: *address, zone, size: view.content.size, is_partial }
        });
        let paths = self.files.held(view.content).into_iter();
        let paths = paths.flat_map(|held| self.files.names_of(held)).take(limits::NAMED);
        Ok(Located { paths: paths.collect(), sources: sources.collect() })
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

    /// Refuses what cannot be applied whole.
    fn check(
        &self,
        peer: Handle<Peer>,
        news: &BTreeMap<&SharePath, Option<Content>>,
        changes: &Changes,
    ) -> Result<(), Refusal> {
        let files = &self.peers[peer].files;
        let mut sizes = HashMap::new();
        let (mut added, mut removed, mut new_bytes) = (0, 0, 0);
        for (path, content) in news {
            let name = self.files.name(path);
            let is_held = name.is_some_and(|name| files.contains_key(&name));
            let Some(content) = content else {
                removed += usize::from(is_held);
                continue;
            };
            // What keeps a liar from being many sources of one content, each of another size.
            if *sizes.entry(content.id).or_insert(content.size) != content.size
                || self.files.holds_other_size(&self.peers, peer, *content)
            {
                return Err(Refusal::TwoSizes(content.id));
            }
            added += usize::from(!is_held);
            new_bytes += if name.is_none() { path.as_str().len() } else { 0 };
        }
        for content in &changes.downloading {
            if *sizes.entry(content.id).or_insert(content.size) != content.size
                || self.files.holds_other_size(&self.peers, peer, *content)
            {
                return Err(Refusal::TwoSizes(content.id));
            }
        }
        self.check_downloads(peer, changes)?;
        if added > 0 && files.len() + added - removed > self.room.files_per_peer {
            return Err(Refusal::FilesPerPeer);
        }
        if added > 0 && self.files.pairs() + added - removed > self.room.files {
            return Err(Refusal::Files);
        }
        if new_bytes > 0 && self.files.path_bytes() + new_bytes > self.room.paths_bytes {
            return Err(Refusal::PathsBytes);
        }
        Ok(())
    }

    fn check_downloads(&self, peer: Handle<Peer>, changes: &Changes) -> Result<(), Refusal> {
        let is_new = |id: &ContentId| !self.swarms.is_downloading(peer, *id);
        let wanted: BTreeSet<_> = changes.downloading.iter().map(|content| content.id).collect();
        let begun = wanted.iter().filter(|id| is_new(id)).count();
        if begun == 0 {
            return Ok(());
        }
        let stopped: BTreeSet<_> = changes.stopped.iter().filter(|id| !is_new(id) && !wanted.contains(id)).collect();
        let more = |downloads: usize| downloads + begun - stopped.len();
        if more(self.swarms.downloads_of(peer)) > self.room.downloads_per_peer {
            return Err(Refusal::DownloadsPerPeer);
        }
        if more(self.swarms.downloads()) > self.room.downloads {
            return Err(Refusal::Downloads);
        }
        Ok(())
    }

    /// Makes `content` what a peer has under a path; what it no longer has there.
    fn set(&mut self, peer: Handle<Peer>, path: &SharePath, content: Option<Content>) -> Option<Content> {
        let old = self.files.name(path).and_then(|name| Some((name, *self.peers[peer].files.get(&name)?)));
        let lost = old.map(|(_, held)| self.files.content(held));
        if lost == content {
            return None;
        }
        if let Some((name, held)) = old {
            self.files.release(&self.peers, peer, name, held);
            self.peers[peer].files.remove(&name);
        }
        if let Some(content) = content {
            let (name, held) = self.files.hold(&self.peers, peer, path, content);
            self.peers[peer].files.insert(name, held);
        }
        lost
    }

    fn extend(&mut self, now: Instant, peer: Handle<Peer>) {
        let entry = &mut self.peers[peer];
        self.leases.remove(&(entry.deadline, peer));
        entry.deadline = now + self.lease;
        self.leases.insert((entry.deadline, peer));
    }

    fn remove(&mut self, peer: Handle<Peer>) -> Peer {
        self.swarms.leave(peer);
        let files = std::mem::take(&mut self.peers[peer].files);
        for (name, held) in files {
            self.files.release(&self.peers, peer, name, held);
        }
        let entry = self.peers.remove(peer);
        self.leases.remove(&(entry.deadline, peer));
        self.by_id.remove(&entry.id);
        entry
    }
}

/// Leaves `count` of the items, a random choice in random order.
fn shuffle_first<T>(items: &mut Vec<T>, count: usize, dice: u64) {
    let mut dice = Dice(dice);
    for at in 0..count.min(items.len()) {
        let left = items.len() - at;
        items.swap(at, at + dice.below(left));
    }
    items.truncate(count);
}

/// SplitMix64: one word of state, and good enough to spread load.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}
