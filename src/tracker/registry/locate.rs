//! Where a content is. What an answer costs does not grow with the number of those who hold it: no more than
//! [`limits::HOLDERS_SEEN`] are looked at, from a random one on.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;

use super::{Content, Peer, Refusal, Registry, Token, dice::Dice, slab::Handle};
use crate::{
    address::origin,
    content::ContentId,
    limits,
    name::{PeerId, Zone},
    proto,
};

/// Holders of a content that are looked up together.
const AT_ONCE: usize = 16;

/// A question for the sources of a content.
pub struct Ask<'a> {
    /// Of which.
    pub id: ContentId,
    /// Who failed the asker, at most [`limits::DEAD`]: left out of the answer, and remembered.
    pub dead: &'a [PeerId],
    /// Where the question comes from. Peers on loopback are given to askers there only.
    pub from: IpAddr,
    /// Any random number: it fixes the choice, and the order.
    pub dice: u64,
}

impl Ask<'_> {
    pub(super) fn is_local(&self) -> bool {
        self.from.is_loopback()
    }

    /// Whether the asker may be sent to this peer.
    pub(super) fn may_have(&self, peer: &Peer) -> bool {
        peer.is_for(self.is_local()) && !self.dead.contains(&peer.id)
    }
}

/// Where a content is.
#[derive(Debug, Default)]
pub struct Located<'a> {
    /// Of the names it goes by [`limits::NAMED`] at most, ordered.
    pub paths: Vec<String>,
    /// Peers that hold it, in random order, at most [`limits::NAMED`]; for one that downloads it,
    /// those that it is given. Suspects come last.
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
    /// Its id, address and zone, as [`Encoded`] has them.
    pub encoded: &'a [u8],
}

/// What a `Source` of the protocol begins with. Made once for each peer and not for each answer, and most of the time
/// short enough to stand with the rest of what an answer needs of a peer: to fetch it from elsewhere would cost more
/// than to copy it.
pub enum Encoded {
    /// So many bytes.
    Short(u8, [u8; Self::SHORT]),
    /// More.
    Long(Box<[u8]>),
}

impl Encoded {
    const SHORT: usize = 54;

    /// Of a peer.
    pub fn new(id: &PeerId, address: SocketAddr, zone: &Zone) -> Self {
        let (peer_id, address, zone) = (id.to_string(), address.to_string(), zone.as_str().to_owned());
        let bytes = proto::Source { peer_id, address, zone, ..proto::Source::default() }.encode_to_vec();
        let mut short = [0; Self::SHORT];
        match short.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(&bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }

    /// As they go into an answer.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Peer {
    fn source(&self, size: u64, is_partial: bool) -> Source<'_> {
        Source {
            id: &self.id,
            address: self.address,
            zone: &self.zone,
            size,
            is_partial,
            encoded: self.encoded.bytes(),
        }
    }
}

impl Registry {
    /// At most [`limits::ROW_PLACES`] peers that hold a content, for one who wants to fetch many: no suspects
    /// and those of its zone first. The same `dice` give the same peers for contents that the same peers hold,
    /// so that few connections do; others spread the askers. Peers on loopback are given only to askers there.
    pub fn near(&self, content: Content, zone: &Zone, asker_is_local: bool, dice: u64) -> Vec<Source<'_>> {
        let Some(held) = self.files.held(content) else { return Vec::new() };
        let holders = self.files.holders(held);
        let first = Dice(dice).below(holders.len());
        let order = (first..holders.len()).chain(0..first).take(limits::HOLDERS_SEEN);
        let near = order.filter_map(|at| holders.get(at)).map(|peer| &self.peers[peer]);
        let near = near.filter(|peer| peer.is_for(asker_is_local));
        let mut near: Vec<_> = near.take(limits::CANDIDATES).collect();
        near.sort_by_key(|peer| (peer.is_suspect(), peer.zone != *zone));
        near.into_iter().take(limits::ROW_PLACES).map(|peer| peer.source(content.size, false)).collect()
    }

    /// Who holds a content, and what it is called. Peers on loopback are given only to askers
    /// there, and the dead to nobody.
    pub fn locate(&mut self, ask: &Ask<'_>) -> Located<'_> {
        self.report(ask);
        self.whole(ask, None)
    }

    /// What a peer is given of a content that it downloads, the same again each time as far as it
    /// can be; what anybody is, if it does not. Never itself.
    ///
    /// # Errors
    /// When the token is no live peer's.
    pub fn locate_for(&mut self, token: Token<'_>, ask: &Ask<'_>) -> Result<Located<'_>, Refusal> {
        let asker = self.holder(token)?;
        self.report(ask);
        let Some(view) = self.swarms.view(&self.peers, &self.files, asker, ask) else {
            return Ok(self.whole(ask, Some(asker)));
        };
        let sources = view.sources.into_iter();
        let sources = sources.map(|(peer, is_partial)| self.peers[peer].source(view.content.size, is_partial));
        let held = self.files.held(view.content).into_iter();
        let paths = held.flat_map(|held| self.files.paths(held, ask.is_local())).take(limits::NAMED);
        let mut paths: Vec<_> = paths.collect();
        paths.sort_unstable();
        Ok(Located { paths, sources: sources.collect() })
    }

    /// Remembers who was reported dead, and from where.
    fn report(&mut self, ask: &Ask<'_>) {
        let from = origin(ask.from);
        for id in ask.dead {
            let Some(&peer) = self.by_id.get(id) else { continue };
            let peer = &mut self.peers[peer];
            if !peer.is_suspect() && !peer.reported_by.contains(&from) {
                peer.reported_by.push(from);
            }
        }
    }

    /// What anybody is told, but for the one who asks.
    fn whole(&self, ask: &Ask<'_>, asker: Option<Handle<Peer>>) -> Located<'_> {
        let (mut paths, mut sizes, mut end) = (Vec::new(), Vec::new(), 0);
        for held in self.files.sizes(ask.id, ask.dice) {
            paths.extend(self.files.paths(held, ask.is_local()).take(limits::NAMED));
            let holders = self.files.holders(held);
            end += holders.len();
            sizes.push((end, self.files.content_of(held).size, holders));
        }
        paths.sort_unstable();
        paths.dedup();
        paths.truncate(limits::NAMED);
        // All holders stand in one row, those of one size behind those of another.
        let holder = |at| {
            let (end, size, holders) = sizes[sizes.partition_point(|&(end, ..)| end <= at)];
            Some((holders.get(holders.len() - (end - at))?, size))
        };
        let mut picks = Dice(ask.dice).picks(end).take(limits::HOLDERS_SEEN).peekable();
        let (mut sources, mut suspects) = (Vec::with_capacity(end.min(limits::NAMED)), Vec::new());
        while sources.len() + suspects.len() < limits::NAMED && picks.peek().is_some() {
            // Some at once, so that the memory that one has to wait for comes together with that of the others.
            let mut some = [None; AT_ONCE];
            some.iter_mut().zip(&mut picks).for_each(|(found, at)| *found = holder(at));
            for (handle, size) in some.into_iter().flatten() {
                let peer = &self.peers[handle];
                if Some(handle) != asker && ask.may_have(peer) && sources.len() + suspects.len() < limits::NAMED {
                    let sources = if peer.is_suspect() { &mut suspects } else { &mut sources };
                    sources.push(peer.source(size, false));
                }
            }
        }
        sources.append(&mut suspects);
        Located { paths, sources }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::tracker::registry::{Changes, Identity, Join};

    const LEASE: Duration = Duration::from_secs(10);

    /// A registry in which many hold one content, `p0` first; every one of them has its number's `zone`.
    struct Fleet {
        registry: Registry,
        now: Instant,
        content: Content,
    }

    impl Fleet {
        fn new(holders: usize, address: impl Fn(usize) -> [u8; 4]) -> Self {
            let content = Content { id: ContentId::of(b"x"), size: 1 };
            let mut fleet = Self { registry: Registry::new(LEASE), now: Instant::now(), content };
            for number in 0..holders {
                fleet.join(number, address(number));
                let added = vec![("x".parse().unwrap(), content)];
                fleet.announce(number, &Changes { added, ..Changes::default() });
            }
            fleet
        }

        fn join(&mut self, number: usize, address: [u8; 4]) {
            let (id, zone) = (name(number), zone(number));
            let join = Join { id, identity: Identity::of(&[1; 32]), address: (address, 1).into(), zone };
            self.registry.join(self.now, join, 0).unwrap();
        }

        fn by<T>(&mut self, number: usize, call: impl FnOnce(&mut Registry, Instant, Token<'_>) -> T) -> T {
            call(&mut self.registry, self.now, Token::new(&name(number), &Identity::of(&[1; 32]), 0))
        }

        fn announce(&mut self, number: usize, changes: &Changes) {
            self.by(number, |registry, now, token| registry.announce(now, token, changes)).unwrap();
        }

        /// Whom an asker is given, in that order; a stranger, or a peer of this number.
        fn ask(&mut self, asker: Option<usize>, from: &str, dead: &[usize], dice: u64) -> Vec<usize> {
            let dead: Vec<_> = dead.iter().map(|&number| name(number)).collect();
            let ask = Ask { id: self.content.id, dead: &dead, from: from.parse().unwrap(), dice };
            let numbers =
                |located: Located<'_>| located.sources.iter().map(|source| number_of(source.id)).collect::<Vec<_>>();
            match asker {
                Some(number) => {
                    self.by(number, |registry, _, token| numbers(registry.locate_for(token, &ask).unwrap()))
                }
                None => numbers(self.registry.locate(&ask)),
            }
        }

        fn near(&self, dice: u64) -> Vec<usize> {
            let near = self.registry.near(self.content, &zone(0), false, dice);
            near.iter().map(|source| number_of(source.id)).collect()
        }
    }

    fn name(number: usize) -> PeerId {
        format!("p{number}").parse().unwrap()
    }

    fn number_of(id: &PeerId) -> usize {
        id.as_str()[1..].parse().unwrap()
    }

    fn zone(number: usize) -> Zone {
        ["a", "b"][number % 2].parse().unwrap()
    }

    const AWAY: &str = "10.0.0.7";

    #[test]
    fn only_three_origins_put_a_source_last_and_its_renewal_brings_it_back() {
        let mut fleet = Fleet::new(5, |_| [10, 0, 0, 1]);
        let is_last = |fleet: &mut Fleet| {
            let lasts: BTreeSet<_> = (0..20).map(|dice| *fleet.ask(None, AWAY, &[], dice).last().unwrap()).collect();
            assert_eq!(fleet.ask(None, AWAY, &[], 0).len(), 5, "a suspect is still given");
            lasts == BTreeSet::from([0])
        };
        // The one who says so is not given it, and says it as often as it likes.
        for from in [AWAY, AWAY, "2001:db8::1", "2001:db8::2", "10.0.0.8"] {
            assert!(!is_last(&mut fleet), "{from}");
            assert!(!fleet.ask(None, from, &[0], 1).contains(&0));
        }
        assert!(is_last(&mut fleet));
        assert!((0..50).all(|dice| !fleet.near(dice).contains(&0)), "four others are near");
        assert_eq!(fleet.registry.peers[fleet.registry.by_id["p0"]].reported_by.len(), limits::SUSPECTED_BY);
        // Of those that download, the same.
        fleet.join(10, [10, 0, 0, 1]);
        let downloading = vec![fleet.content];
        fleet.announce(10, &Changes { downloading, ..Changes::default() });
        assert_eq!(fleet.ask(Some(10), AWAY, &[], 1).into_iter().collect::<BTreeSet<_>>(), (1..5).collect());
        assert_eq!(fleet.ask(Some(10), AWAY, &[4], 1).last(), Some(&0));
        fleet.by(0, |registry, now, token| registry.renew(now, token)).unwrap();
        assert!(!is_last(&mut fleet));
        // Who reports what is not there harms nobody.
        fleet.ask(None, AWAY, &[77], 1);
    }

    #[test]
    fn a_suspect_neighbour_is_given_to_those_only_who_find_no_other() {
        let mut fleet = Fleet::new(0, |_| unreachable!());
        let downloading = vec![fleet.content];
        for number in 0..12 {
            fleet.join(number, [10, 0, 0, 1]);
            fleet.announce(number, &Changes { downloading: downloading.clone(), ..Changes::default() });
        }
        for from in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            fleet.ask(None, from, &[0, 1, 2], 1);
        }
        for number in 3..12 {
            let given = fleet.ask(Some(number), AWAY, &[], number as u64);
            assert!(given.len() == 8 && given.iter().all(|&other| other > 2), "{given:?}");
        }
        // The two of them that are left are last also in the answers of those that have them already.
        let given = fleet.ask(Some(3), AWAY, &[4, 5, 6], 1);
        assert_eq!(given.len(), 8);
        assert!(given[..5].iter().all(|&other| other > 6) && given[5..].iter().all(|&other| other < 3), "{given:?}");
        assert!(fleet.ask(Some(3), AWAY, &[4, 5, 6], 2).starts_with(&given), "the same again");
        for suspect in 0..3 {
            fleet.announce(suspect, &Changes::default());
        }
        assert!(fleet.ask(Some(3), AWAY, &[], 2).iter().any(|&other| other < 3));
    }

    #[test]
    fn among_many_that_cannot_be_given_those_that_can_are_found() {
        // All but one are on the tracker's own loopback.
        let alone = limits::HOLDERS_SEEN - 1;
        let mut fleet = Fleet::new(limits::HOLDERS_SEEN, |number| [if number == alone { 10 } else { 127 }, 0, 0, 1]);
        fleet.join(1000, [10, 0, 0, 1]);
        let downloading = vec![fleet.content];
        fleet.announce(1000, &Changes { downloading, ..Changes::default() });
        for dice in 0..20 {
            assert_eq!(fleet.ask(None, AWAY, &[], dice), [alone]);
            assert_eq!(fleet.ask(None, AWAY, &[alone], dice), [0; 0]);
            assert_eq!(fleet.ask(Some(1000), AWAY, &[], dice), [alone]);
            assert_eq!(fleet.near(dice), [alone]);
            assert_eq!(fleet.ask(None, "127.0.0.1", &[], dice).len(), limits::NAMED);
            assert!(!fleet.ask(Some(3), "127.0.0.1", &[], dice).contains(&3));
        }
    }
}
