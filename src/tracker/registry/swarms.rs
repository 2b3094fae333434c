//! Who downloads what, and who was given to whom, so that everyone is a source for about equally
//! many.
//!
//! A link from one that downloads (the taker) to one that it was given is noted at both ends, and
//! ends with either. The least given come out of an ordered set, so an answer costs the same among
//! ten that download and among ten thousand. Of those that hold a content whole, only the ones that
//! were given to somebody are members here.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    iter::Peekable,
    vec,
};

use super::{
    Ask, Content, Peer,
    dice::Dice,
    files::{Files, Holders},
    slab::{Handle, Slab},
};
use crate::{content::ContentId, limits, name::Zone};

/// All downloads under way.
pub(super) struct Swarms {
    members: Slab<Member>,
    /// By peer, whether it holds the content whole, and swarm.
    by_peer: BTreeMap<(Handle<Peer>, bool, Handle<Swarm>), Handle<Member>>,
    swarms: Slab<Swarm>,
    by_content: BTreeMap<ContentId, Handle<Swarm>>,
    /// Everyone that downloads: by what, where, and to how many it was given.
    order: BTreeSet<Rank>,
    /// For ties.
    dice: Dice,
}

/// Everyone that has to do with one content, under whatever size.
struct Swarm {
    id: ContentId,
    members: usize,
}

/// A peer in a swarm: it downloads the content, or holds it whole and was given to a taker.
struct Member {
    peer: Handle<Peer>,
    swarm: Handle<Swarm>,
    size: u64,
    place: Place,
    tie: u32,
    is_whole: bool,
    /// Whom it was given, in that order; nobody if it is whole.
    given: Vec<Handle<Member>>,
    /// To whom it was given.
    takers: Vec<Handle<Member>>,
}

impl Member {
    fn rank(&self, member: Handle<Self>) -> Rank {
        let Self { swarm, size, place, tie, .. } = *self;
        Rank { swarm, size, place, takers: self.takers.len(), tie, member }
    }
}

/// The order in which those that download are given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    swarm: Handle<Swarm>,
    size: u64,
    place: Place,
    takers: usize,
    /// Chance, and anew with every change: else those that were given together once would be so
    /// always, and a swarm fall into parts.
    tie: u32,
    member: Handle<Member>,
}

/// A zone, and whether on loopback: 31 bits of its hash, and one in front. Two zones that hash the
/// same are taken for one, which costs no more than a peer that names a zone it is not in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u32);

impl Place {
    const LOCAL: u32 = 1 << 31;

    fn of(peer: &Peer) -> Self {
        let zone = Self::zone_of(&peer.zone);
        Self(if peer.is_local() { zone | Self::LOCAL } else { zone })
    }

    fn zone_of(zone: &Zone) -> u32 {
        let mut hasher = DefaultHasher::new();
        zone.hash(&mut hasher);
        hasher.finish() as u32 & !Self::LOCAL
    }

    fn is_in_zone_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::LOCAL == 0
    }
}

/// What one that downloads is given.
pub(super) struct View {
    /// What it downloads.
    pub(super) content: Content,
    /// From whom, and whether that one downloads it too.
    pub(super) sources: Vec<(Handle<Peer>, bool)>,
}

impl Swarms {
    pub(super) const fn new() -> Self {
        Self {
            members: Slab::new(),
            by_peer: BTreeMap::new(),
            swarms: Slab::new(),
            by_content: BTreeMap::new(),
            order: BTreeSet::new(),
            dice: Dice(0),
        }
    }

    /// Downloads under way.
    pub(super) fn downloads(&self) -> usize {
        self.order.len()
    }

    /// Of these, one peer's.
    pub(super) fn downloads_of(&self, peer: Handle<Peer>) -> usize {
        let from = self.by_peer.range((peer, false, Handle::FIRST)..(peer, true, Handle::FIRST));
        from.count()
    }

    /// What a peer downloads.
    pub(super) fn contents_of(&self, peer: Handle<Peer>) -> impl Iterator<Item = Content> {
        let from = self.by_peer.range((peer, false, Handle::FIRST)..(peer, true, Handle::FIRST));
        from.map(|(&(.., swarm), &member)| Content { id: self.swarms[swarm].id, size: self.members[member].size })
    }

    pub(super) fn is_downloading(&self, peer: Handle<Peer>, id: ContentId) -> bool {
        self.find(peer, id).is_some_and(|member| !self.members[member].is_whole)
    }

    /// Notes that a peer, which does not hold this content, downloads it.
    pub(super) fn begin(&mut self, peers: &Slab<Peer>, peer: Handle<Peer>, content: Content) {
        if let Some(member) = self.find(peer, content.id) {
            if self.members[member].size == content.size {
                return;
            }
            self.remove(member);
        }
        let swarm = self.swarm(content.id);
        let member = self.insert(peers, peer, swarm, content.size, false);
        self.order.insert(self.members[member].rank(member));
    }

    /// Notes that a peer no longer downloads a content, if it did.
    pub(super) fn stop(&mut self, peer: Handle<Peer>, id: ContentId) {
        if let Some(member) = self.find(peer, id).filter(|&member| !self.members[member].is_whole) {
            self.remove(member);
        }
    }

    /// Notes that a peer holds whole what it downloaded. Those that it was given to keep it.
    pub(super) fn became_whole(&mut self, peer: Handle<Peer>, content: Content) {
        let Some(member) = self.find(peer, content.id) else { return };
        let Member { size, swarm, .. } = self.members[member];
        if size != content.size || self.members[member].takers.is_empty() {
            return self.remove(member);
        }
        self.order.remove(&self.members[member].rank(member));
        self.by_peer.remove(&(peer, false, swarm));
        self.by_peer.insert((peer, true, swarm), member);
        self.members[member].is_whole = true;
        for source in std::mem::take(&mut self.members[member].given) {
            self.untake(source, member);
        }
    }

    /// Notes that a peer no longer holds a content.
    pub(super) fn lost(&mut self, peer: Handle<Peer>, id: ContentId) {
        if let Some(member) = self.find(peer, id).filter(|&member| self.members[member].is_whole) {
            self.remove(member);
        }
    }

    /// Forgets a peer.
    pub(super) fn leave(&mut self, peer: Handle<Peer>) {
        while let Some((&(other, ..), &member)) = self.by_peer.range((peer, false, Handle::FIRST)..).next()
            && other == peer
        {
            self.remove(member);
        }
    }

    /// Whom a peer is given of the content it downloads: those it was given before, and as many more
    /// as it should have. None if it does not download it.
    pub(super) fn view(
        &mut self,
        peers: &Slab<Peer>,
        files: &Files,
        peer: Handle<Peer>,
        ask: &Ask<'_>,
    ) -> Option<View> {
        let asker = self.find(peer, ask.id).filter(|&member| !self.members[member].is_whole)?;
        self.dice.0 ^= ask.dice;
        let (mut kept, dropped): (Vec<_>, Vec<_>) =
            (self.members[asker].given.iter()).partition(|&&member| ask.may_have(&peers[self.members[member].peer]));
        kept.shrink_to_fit();
        self.members[asker].given = kept;
        for member in dropped {
            self.untake(member, asker);
        }
        for member in self.neighbours(peers, asker, ask) {
            self.give(member, asker);
        }
        let content = Content { id: ask.id, size: self.members[asker].size };
        for peer in self.seeds(peers, files.held(content).map(|held| files.holders(held)), asker, ask) {
            let swarm = self.members[asker].swarm;
            let member = self.by_peer.get(&(peer, true, swarm)).copied();
            let member = member.unwrap_or_else(|| self.insert(peers, peer, swarm, content.size, true));
            self.give(member, asker);
        }
        let given = self.members[asker].given.iter().map(|&member| &self.members[member]);
        let mut sources: Vec<_> = given.map(|member| (member.peer, !member.is_whole)).collect();
        sources.sort_by_key(|&(peer, _)| peers[peer].is_suspect());
        Some(View { content, sources })
    }

    /// Others that download the same, to be given to this one.
    fn neighbours(&self, peers: &Slab<Peer>, asker: Handle<Member>, ask: &Ask<'_>) -> Vec<Handle<Member>> {
        let Member { swarm, size, place, given, .. } = &self.members[asker];
        let downloading = given.iter().map(|&member| &self.members[member]).filter(|member| !member.is_whole);
        let (near, far): (Vec<_>, Vec<_>) = downloading.partition(|member| member.place.is_in_zone_of(*place));
        let room = (limits::NEIGHBOURS + limits::SEEDS).saturating_sub(given.len());
        let missing = limits::NEIGHBOURS.saturating_sub(near.len() + far.len());
        let near_wanted = limits::NEIGHBOURS_IN_ZONE.saturating_sub(near.len());
        // Whoever has enough is still given some of its own zone that were not there when it began.
        let wanted = if missing > 0 { missing } else { near_wanted.max(1) }.min(room);
        if wanted == 0 {
            return Vec::new();
        }
        let peer = |rank: &Rank| &peers[self.members[rank.member].peer];
        // At most those in the view, the dead, the asker and some suspects are passed over.
        let least = |place| {
            let mut good = 0;
            self.ranks(*swarm, *size, place)
                .take_while(move |rank| rank.place == place && rank.takers < limits::TAKERS)
                .filter(|rank| rank.member != asker && !given.contains(&rank.member) && ask.may_have(peer(rank)))
                .take(limits::CANDIDATES)
                .take_while(move |rank| {
                    let goes_on = good < wanted;
                    good += usize::from(!peer(rank).is_suspect());
                    goes_on
                })
        };
        let sorted = |mut ranks: Vec<Rank>| {
            ranks.sort_unstable_by_key(|rank| (!rank.place.is_in_zone_of(*place), rank.takers, rank.tie));
            ranks.into_iter().peekable()
        };
        let ranks = self.places(*swarm, *size, *place, ask).into_iter().flat_map(least);
        let (suspects, others): (Vec<_>, Vec<_>) = ranks.partition(|rank| peer(rank).is_suspect());
        let (near, far): (Vec<_>, Vec<_>) = others.into_iter().partition(|rank| rank.place.is_in_zone_of(*place));
        let [mut near, mut far, mut suspects] = [near, far, suspects].map(sorted);
        let mut chosen = Vec::with_capacity(wanted);
        let mut take = |from: &mut Peekable<vec::IntoIter<Rank>>, most: usize, fewer: usize| {
            let most = wanted.min(chosen.len() + most);
            while chosen.len() < most
                && let Some(rank) = from.next_if(|rank| rank.takers < fewer)
            {
                chosen.push(rank.member);
            }
        };
        take(&mut near, near_wanted, limits::TAKERS);
        if missing > 0 {
            take(&mut far, wanted, limits::NEIGHBOUR_TAKERS);
            take(&mut near, wanted, limits::TAKERS);
            take(&mut far, wanted, limits::TAKERS);
            take(&mut suspects, wanted, limits::TAKERS);
        }
        if chosen.is_empty() {
            // Whoever comes late is given to nobody who has enough already, and would be a source for few: so
            // those who have enough take such ones too, one at a time.
            let rank = near.next_if(|rank| rank.takers < limits::FEW_TAKERS);
            let rank = rank.or_else(|| far.next_if(|rank| rank.takers < limits::FEW_TAKERS));
            chosen.extend(rank.map(|rank| rank.member));
        }
        chosen
    }

    /// Where there are others that download the same: the asker's own zone and, from a random one
    /// on, at most [`limits::ZONES`] more places.
    fn places(&self, swarm: Handle<Swarm>, size: u64, own: Place, ask: &Ask<'_>) -> Vec<Place> {
        let last = if ask.is_local() { u32::MAX } else { Place::LOCAL - 1 };
        let start = ask.dice as u32 & last;
        let mut places: Vec<_> = [own.0 & !Place::LOCAL, own.0 | Place::LOCAL]
            .into_iter()
            .filter(|&place| place <= last)
            .map(Place)
            .collect();
        let most = places.len() + limits::ZONES;
        for (from, end) in [(start, u64::from(last) + 1), (0, start.into())] {
            let mut from = Some(from);
            while places.len() < most
                && let Some(first) = from
                && let Some(Rank { place, .. }) = self.ranks(swarm, size, Place(first)).next()
                && u64::from(place.0) < end
            {
                from = place.0.checked_add(1);
                if !place.is_in_zone_of(own) {
                    places.push(place);
                }
            }
        }
        places
    }

    /// Those that download the same, from a place on, the least given of each place first.
    fn ranks(&self, swarm: Handle<Swarm>, size: u64, place: Place) -> impl Iterator<Item = Rank> {
        let from = Rank { swarm, size, place, takers: 0, tie: 0, member: Handle::FIRST };
        self.order.range(from..).take_while(move |rank| (rank.swarm, rank.size) == (swarm, size)).copied()
    }

    /// Whole sources to be given to one that downloads.
    fn seeds(
        &self,
        peers: &Slab<Peer>,
        holders: Option<Holders<'_>>,
        asker: Handle<Member>,
        ask: &Ask<'_>,
    ) -> Vec<Handle<Peer>> {
        let Member { swarm, place, given, .. } = &self.members[asker];
        let whole = given.iter().filter(|&&member| self.members[member].is_whole).count();
        let wanted =
            limits::SEEDS.saturating_sub(whole).min((limits::NEIGHBOURS + limits::SEEDS).saturating_sub(given.len()));
        let Some(holders) = holders.filter(|_| wanted > 0) else { return Vec::new() };
        let seen = Dice(!ask.dice).picks(holders.len()).take(limits::HOLDERS_SEEN).filter_map(|at| holders.get(at));
        let candidates = seen.filter_map(|peer| {
            let member = self.by_peer.get(&(peer, true, *swarm));
            if !ask.may_have(&peers[peer]) || member.is_some_and(|member| given.contains(member)) {
                return None;
            }
            let takers = member.map_or(0, |&member| self.members[member].takers.len());
            let is_far = !Place::of(&peers[peer]).is_in_zone_of(*place);
            Some((peers[peer].is_suspect(), is_far, takers, peer))
        });
        // Ties stay in the random order in which they were picked.
        let mut candidates: Vec<_> = candidates.take(limits::CANDIDATES).collect();
        candidates.sort_by_key(|&(is_suspect, is_far, takers, _)| (is_suspect, is_far, takers));
        let free = candidates.iter().filter(|(_, _, takers, _)| *takers < limits::TAKERS);
        let mut chosen: Vec<_> = free.take(wanted).map(|&(.., peer)| peer).collect();
        if given.is_empty() && chosen.is_empty() {
            let least = candidates.iter().min_by_key(|(is_suspect, _, takers, _)| (is_suspect, takers));
            chosen.extend(least.map(|&(.., peer)| peer));
        }
        chosen
    }

    fn find(&self, peer: Handle<Peer>, id: ContentId) -> Option<Handle<Member>> {
        let swarm = *self.by_content.get(&id)?;
        let at = |is_whole| self.by_peer.get(&(peer, is_whole, swarm)).copied();
        at(false).or_else(|| at(true))
    }

    fn swarm(&mut self, id: ContentId) -> Handle<Swarm> {
        *self.by_content.entry(id).or_insert_with(|| self.swarms.insert(Swarm { id, members: 0 }))
    }

    fn insert(
        &mut self,
        peers: &Slab<Peer>,
        peer: Handle<Peer>,
        swarm: Handle<Swarm>,
        size: u64,
        is_whole: bool,
    ) -> Handle<Member> {
        let (place, tie) = (Place::of(&peers[peer]), self.dice.roll() as u32);
        let (given, takers) = (Vec::new(), Vec::new());
        let member = self.members.insert(Member { peer, swarm, size, place, tie, is_whole, given, takers });
        self.by_peer.insert((peer, is_whole, swarm), member);
        self.swarms[swarm].members += 1;
        member
    }

    /// Forgets a member, and every link to and from it.
    fn remove(&mut self, member: Handle<Member>) {
        let Member { peer, swarm, is_whole, .. } = self.members[member];
        if !is_whole {
            self.order.remove(&self.members[member].rank(member));
        }
        for source in std::mem::take(&mut self.members[member].given) {
            self.untake(source, member);
        }
        for taker in std::mem::take(&mut self.members[member].takers) {
            self.members[taker].given.retain(|&source| source != member);
        }
        self.members.remove(member);
        self.by_peer.remove(&(peer, is_whole, swarm));
        let Swarm { id, members } = &mut self.swarms[swarm];
        *members -= 1;
        if *members == 0 {
            self.by_content.remove(id);
            self.swarms.remove(swarm);
        }
    }

    fn give(&mut self, source: Handle<Member>, taker: Handle<Member>) {
        self.members[taker].given.push(source);
        self.rank_anew(source, |takers| takers.push(taker));
    }

    /// Takes a link back at its source's end.
    fn untake(&mut self, source: Handle<Member>, taker: Handle<Member>) {
        self.rank_anew(source, |takers| takers.retain(|&other| other != taker));
        let Member { is_whole, takers, .. } = &self.members[source];
        if *is_whole && takers.is_empty() {
            self.remove(source);
        }
    }

    fn rank_anew(&mut self, member: Handle<Member>, change: impl FnOnce(&mut Vec<Handle<Member>>)) {
        let tie = self.dice.roll() as u32;
        let entry = &mut self.members[member];
        let old = entry.rank(member);
        change(&mut entry.takers);
        entry.tie = tie;
        if !entry.is_whole {
            let new = entry.rank(member);
            self.order.remove(&old);
            self.order.insert(new);
        }
    }

    /// What always holds. `holds` says whether a peer holds a content.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check_invariants(&self, holds: impl Fn(Handle<Peer>, Content) -> bool) {
        let (mut given, mut takers, mut downloads) = (0, 0, 0);
        for (&(peer, is_whole, swarm), &member) in &self.by_peer {
            let entry = &self.members[member];
            assert!((entry.peer, entry.is_whole, entry.swarm) == (peer, is_whole, swarm));
            let id = self.swarms[swarm].id;
            assert!(self.by_content[&id] == swarm);
            if is_whole {
                assert!(!entry.takers.is_empty() && entry.given.is_empty());
            } else {
                assert!(self.order.contains(&entry.rank(member)));
                downloads += 1;
            }
            assert_eq!(holds(peer, Content { id, size: entry.size }), is_whole);
            assert!(entry.given.len() <= limits::NEIGHBOURS + limits::SEEDS);
            for &source in &entry.given {
                let source = &self.members[source];
                assert_eq!(source.takers.iter().filter(|taker| **taker == member).count(), 1);
                assert!((source.swarm, source.size) == (swarm, entry.size));
            }
            given += entry.given.len();
            takers += entry.takers.len();
        }
        assert_eq!(takers, given, "every link has two ends");
        assert_eq!((self.order.len(), self.members.len()), (downloads, self.by_peer.len()));
        let in_swarms: usize = self.by_content.values().map(|swarm| self.swarms[*swarm].members).sum();
        assert_eq!((in_swarms, self.swarms.len()), (self.members.len(), self.by_content.len()));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.members.len() + self.by_peer.len() + self.swarms.len() + self.by_content.len() + self.order.len() == 0
    }
}
