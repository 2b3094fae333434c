use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    name::PeerId,
    tracker::registry::{Changes, Identity, Join, ROOM, Refusal, Registry, Room, Token},
};

const LEASE: Duration = Duration::from_secs(10);

fn content(text: &str) -> Content {
    Content { id: ContentId::of(text.as_bytes()), size: text.len() as u64 }
}

/// A registry with peers `p<n>`.
struct Fleet {
    registry: Registry,
    /// The newest join of each.
    joined: BTreeMap<usize, u64>,
    now: Instant,
    dice: Dice,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        Self { registry: Registry::new(LEASE), joined: BTreeMap::new(), now: Instant::now(), dice: Dice(seed) }
    }

    fn join(&mut self, number: usize, zone: &str, address: &str) {
        let id = name(number).parse().unwrap();
        let (address, zone) = (address.parse().unwrap(), zone.parse().unwrap());
        let join = Join { id, identity: Identity::of(&[7; 32]), address, zone };
        let joined = self.registry.join(self.now, join, 0).unwrap();
        self.joined.insert(number, joined.incarnation);
    }

    /// Makes a call with the newest token of a peer.
    fn by<T>(&mut self, number: usize, call: impl FnOnce(&mut Registry, Instant, Token<'_>) -> T) -> T {
        let id = name(number).parse().unwrap();
        let incarnation = self.joined.get(&number).copied().unwrap_or_default();
        call(&mut self.registry, self.now, Token::new(&id, &Identity::of(&[7; 32]), incarnation))
    }

    fn try_announce(&mut self, number: usize, changes: &Changes) -> Result<(), Refusal> {
        self.by(number, |registry, now, token| registry.announce(now, token, changes))
    }

    fn announce(&mut self, number: usize, changes: &Changes) {
        self.try_announce(number, changes).unwrap();
    }

    fn leave(&mut self, number: usize) -> Result<PeerId, Refusal> {
        self.by(number, |registry, _, token| registry.leave(token))
    }

    /// Whom a peer is given; none and why, if it is not answered.
    fn locate(
        &mut self,
        number: usize,
        id: ContentId,
        dead: &[usize],
        is_local: bool,
        dice: u64,
    ) -> Result<Vec<(usize, bool)>, Refusal> {
        let dead: Vec<PeerId> = dead.iter().map(|&number| name(number).parse().unwrap()).collect();
        self.by(number, |registry, _, token| {
            let from = if is_local { [127, 0, 0, 1] } else { [10, 0, 0, 7] };
            let located = registry.locate_for(token, &Ask { id, dead: &dead, from: from.into(), dice })?;
            Ok(located.sources.iter().map(|source| (number_of(source.id), source.is_partial)).collect())
        })
    }

    fn seed(&mut self, number: usize, zone: &str, content: Content) {
        self.join(number, zone, "10.0.0.1:1");
        self.announce(number, &holding(content));
    }

    fn downloader(&mut self, number: usize, zone: &str, content: Content) {
        self.join(number, zone, "10.0.0.1:1");
        self.announce(number, &downloading(content));
    }

    /// Whom a peer is given: ids and whether they are partial, in order.
    fn ask(&mut self, number: usize, content: Content, dead: &[usize]) -> Vec<(usize, bool)> {
        let dice = self.dice.roll();
        self.locate(number, content.id, dead, false, dice).unwrap()
    }

    fn partial(&mut self, number: usize, content: Content) -> BTreeSet<usize> {
        self.ask(number, content, &[]).into_iter().filter(|source| source.1).map(|source| source.0).collect()
    }

    fn whole(&mut self, number: usize, content: Content) -> BTreeSet<usize> {
        self.ask(number, content, &[]).into_iter().filter(|source| !source.1).map(|source| source.0).collect()
    }

    /// To how many each member of a content's swarm is given.
    fn given(&self, content: Content) -> BTreeMap<usize, usize> {
        let swarm = self.registry.swarms.by_content[&content.id];
        let members = self.registry.swarms.by_peer.iter().filter(|((.., other), _)| *other == swarm);
        let members = members.map(|((peer, ..), member)| {
            (number_of(&self.registry.peers[*peer].id), self.registry.swarms.members[*member].takers.len())
        });
        members.collect()
    }

    fn shuffled(&mut self, mut numbers: Vec<usize>) -> Vec<usize> {
        for end in (1..=numbers.len()).rev() {
            numbers.swap(self.dice.below(end), end - 1);
        }
        numbers
    }
}

fn name(number: usize) -> String {
    format!("p{number}")
}

fn number_of(id: &PeerId) -> usize {
    id.as_str()[1..].parse().unwrap()
}

fn holding(content: Content) -> Changes {
    Changes { added: vec![("x".parse().unwrap(), content)], ..Changes::default() }
}

fn downloading(content: Content) -> Changes {
    Changes { downloading: vec![content], ..Changes::default() }
}

#[test]
fn everyone_is_given_eight_and_to_about_eight() {
    let content = content("x");
    for seed in 0..50 {
        let mut fleet = Fleet::new(seed);
        fleet.seed(100, "", content);
        let order = fleet.shuffled((0..32).collect());
        // All at once, or one by one: then the first find few, and ask again.
        let at_once = seed % 2 == 0;
        if at_once {
            order.iter().for_each(|&number| fleet.downloader(number, "", content));
        }
        for number in order {
            if !at_once {
                fleet.downloader(number, "", content);
            }
            fleet.ask(number, content, &[]);
        }
        for number in fleet.shuffled((0..32).collect()) {
            let sources = fleet.ask(number, content, &[]);
            let neighbours = sources.iter().filter(|source| source.1).count();
            assert!((limits::NEIGHBOURS..limits::NEIGHBOURS + limits::SEEDS).contains(&neighbours), "{neighbours}");
            assert_eq!(sources.len(), neighbours + 1);
            assert!(sources.contains(&(100, false)));
            assert!(fleet.ask(number, content, &[]).starts_with(&sources), "the same again");
            assert!(!at_once || neighbours == limits::NEIGHBOURS, "who has enough is given late ones only");
        }
        let mut given = fleet.given(content);
        assert_eq!(given.remove(&100), Some(32));
        assert!(given.values().all(|given| (7..=10).contains(given)), "{seed} {given:?}");
    }
}

#[test]
fn who_comes_late_is_given_to_those_who_have_enough() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    fleet.seed(100, "", content);
    for number in 0..16 {
        fleet.downloader(number, "", content);
        // All who are there ask now and then.
        (0..=number).for_each(|number| drop(fleet.ask(number, content, &[])));
    }
    (0..16).for_each(|number| drop(fleet.ask(number, content, &[])));
    let mut given = fleet.given(content);
    given.remove(&100);
    assert!(given.values().all(|given| *given >= limits::NEIGHBOURS / 2), "{given:?}");
    assert!((0..16).all(|number| fleet.ask(number, content, &[]).len() <= limits::NEIGHBOURS + limits::SEEDS));
}

#[test]
fn ten_thousand_are_given_as_evenly_as_ten() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    fleet.seed(0, "", content);
    let many = 10_000;
    for number in 1..=many {
        fleet.downloader(number, "", content);
    }
    for number in 1..=many {
        fleet.ask(number, content, &[]);
    }
    let mut given = fleet.given(content);
    assert_eq!(given.remove(&0), Some(limits::TAKERS));
    assert!(given.values().all(|given| (7..=9).contains(given)));
    // Everyone is reached from one that has the seed: the views are no closed circles.
    let swarms = &fleet.registry.swarms;
    let mut reached: BTreeSet<_> = swarms.order.iter().map(|rank| rank.member).collect();
    reached.retain(|&member| swarms.members[member].given.iter().any(|&source| swarms.members[source].is_whole));
    let mut fresh: Vec<_> = reached.iter().copied().collect();
    while let Some(member) = fresh.pop() {
        let takers = swarms.members[member].takers.iter().copied();
        fresh.extend(takers.filter(|&taker| reached.insert(taker)));
    }
    assert_eq!(reached.len(), many);
    // Nor are the same ones given together over and over.
    let beside = |rank: &Rank| {
        let takers = swarms.members[rank.member].takers.iter();
        takers.flat_map(|&taker| &swarms.members[taker].given).copied().collect::<BTreeSet<_>>().len()
    };
    let beside: usize = swarms.order.iter().map(beside).sum();
    assert!(beside > 50 * many, "{beside}");
}

#[test]
fn six_are_of_the_own_zone_and_two_are_not() {
    let content = content("x");
    for seed in 0..20 {
        let mut fleet = Fleet::new(seed);
        let zone = |number: usize| ["a", "b", "c"][number % 3];
        (0..24).for_each(|number| fleet.downloader(number, zone(number), content));
        for number in fleet.shuffled((0..24).collect()) {
            let given = fleet.partial(number, content);
            let near = given.iter().filter(|other| *other % 3 == number % 3).count();
            assert_eq!((near, given.len()), (limits::NEIGHBOURS_IN_ZONE, limits::NEIGHBOURS));
        }
        assert!(fleet.given(content).values().all(|given| (6..=10).contains(given)), "{:?}", fleet.given(content));
    }
}

#[test]
fn who_began_before_its_own_zone_is_given_of_it_later() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    (0..10).for_each(|number| fleet.downloader(number, "b", content));
    fleet.downloader(10, "a", content);
    assert_eq!(fleet.partial(10, content).len(), limits::NEIGHBOURS);
    (11..20).for_each(|number| fleet.downloader(number, "a", content));
    let given = fleet.partial(10, content);
    let near = given.iter().filter(|number| **number > 10).count();
    assert_eq!((near, given.len()), (limits::SEEDS, limits::NEIGHBOURS + limits::SEEDS));
}

#[test]
fn whoever_is_short_of_one_side_is_filled_up_from_the_other() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    (0..22).for_each(|number| fleet.downloader(number, "large", content));
    (22..24).for_each(|number| fleet.downloader(number, "small", content));
    for number in 0..24 {
        assert_eq!(fleet.partial(number, content).len(), limits::NEIGHBOURS);
    }
    let given = fleet.given(content);
    assert!(given[&22].max(given[&23]) <= limits::NEIGHBOUR_TAKERS + 1, "two do not feed twenty-two: {given:?}");
    assert!(fleet.partial(22, content).contains(&23));
}

#[test]
fn more_zones_than_one_answer_looks_at_are_all_given_from() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    let many = 4 * limits::ZONES;
    (0..many).for_each(|number| fleet.downloader(number, &format!("z{number}"), content));
    for number in 0..many {
        assert_eq!(fleet.partial(number, content).len(), limits::NEIGHBOURS);
    }
    let given = fleet.given(content);
    assert!(given.values().all(|&given| (1..=limits::NEIGHBOUR_TAKERS).contains(&given)), "{given:?}");
}

#[test]
fn whole_sources_are_of_the_own_zone_first_and_shared_out() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    (0..3).for_each(|number| fleet.seed(number, "a", content));
    (3..9).for_each(|number| fleet.seed(number, "b", content));
    fleet.downloader(100, "a", content);
    let whole = fleet.whole(100, content);
    assert!(whole.len() == limits::SEEDS && whole.is_superset(&BTreeSet::from([0, 1, 2])), "{whole:?}");
    for number in 101..113 {
        fleet.downloader(number, "c", content);
        assert_eq!(fleet.whole(number, content).len(), limits::SEEDS);
    }
    let given = fleet.given(content);
    assert!((0..9).all(|seed| (5..=6).contains(&given[&seed])), "{given:?}");
}

#[test]
fn one_source_is_given_to_thirty_two_and_then_only_to_those_with_nobody_else() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    fleet.seed(0, "", content);
    let late = limits::TAKERS + 1;
    for number in 1..=late {
        fleet.downloader(number, "", content);
        assert_eq!(fleet.whole(number, content).len(), usize::from(number < late));
    }
    // All its neighbours failed it, and whoever would take their place.
    let own = fleet.ask(late, content, &[]).iter().map(|source| source.0).collect::<Vec<_>>();
    assert_eq!(own.len(), limits::NEIGHBOURS);
    let again = fleet.ask(late, content, &own);
    assert!(again.len() == limits::NEIGHBOURS && again.iter().all(|(number, _)| !own.contains(number)));
    let nobody = Changes { stopped: vec![content.id], ..Changes::default() };
    // One leaves the seed to the next.
    fleet.announce(1, &nobody);
    assert_eq!(fleet.whole(late, content), BTreeSet::from([0]));
    // Whoever sees no neighbour, since all are on another machine's loopback, is never refused one.
    let mut fleet = Fleet::new(1);
    fleet.seed(0, "", content);
    for number in 1..limits::TAKERS + 9 {
        fleet.join(number, "", "127.0.0.1:1");
        fleet.announce(number, &downloading(content));
        assert_eq!(fleet.ask(number, content, &[]), [(0, false)]);
    }
}

#[test]
fn among_many_whole_sources_some_of_the_own_zone_are_found() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    let many = 20 * limits::CANDIDATES;
    for number in 0..many {
        fleet.seed(number, ["a", "b", "c"][number % 3], content);
    }
    for number in many..many + 300 {
        fleet.downloader(number, "b", content);
        let whole = fleet.whole(number, content);
        assert!(whole.len() == limits::SEEDS && whole.iter().all(|number| number % 3 == 1), "{whole:?}");
    }
    assert!(fleet.given(content).iter().filter(|(number, _)| **number < many).all(|(_, given)| *given <= 12));
}

#[test]
fn what_becomes_whole_stays_in_the_view_and_a_dead_one_is_replaced() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    fleet.seed(0, "", content);
    (1..=20).for_each(|number| fleet.downloader(number, "", content));
    let before = fleet.ask(1, content, &[]);
    let [one, other, third] = [before[0].0, before[1].0, before[2].0];
    fleet.announce(one, &holding(content));
    fleet.announce(other, &Changes { stopped: vec![content.id], ..Changes::default() });
    let after = fleet.ask(1, content, &[third]);
    assert!(after.contains(&(one, false)), "whole now");
    assert!(!after.iter().any(|source| [other, third].contains(&source.0)));
    assert!(before[3..].iter().all(|source| after.contains(source)), "the others are kept");
    assert_eq!(after.iter().filter(|source| source.1).count(), limits::NEIGHBOURS);
    // It may come back in a later answer, once it is no longer reported.
    assert!(fleet.given(content).contains_key(&third));
    // A finished download has no neighbours, and nobody counts as given to it.
    let finished = fleet.ask(one, content, &[]);
    assert!(finished.iter().all(|source| !source.1 && source.0 != one), "as anybody is: {finished:?}");
    // With the file gone it is no source.
    fleet.announce(one, &Changes { removed: vec!["x".parse().unwrap()], ..Changes::default() });
    assert!(!fleet.ask(1, content, &[]).iter().any(|source| source.0 == one));
    for number in 1..=20 {
        fleet.leave(number).unwrap();
    }
    assert!(fleet.registry.swarms.is_empty());
}

#[test]
fn a_download_of_another_size_is_another() {
    let (truth, lie) = (content("x"), Content { size: 9, ..content("x") });
    let mut fleet = Fleet::new(1);
    fleet.downloader(1, "", truth);
    fleet.downloader(2, "", lie);
    fleet.downloader(3, "", lie);
    assert!(fleet.ask(1, truth, &[]).is_empty());
    assert_eq!(fleet.ask(2, truth, &[]), [(3, true)]);
    // Announced anew it is the new one, and known under that only.
    fleet.announce(2, &downloading(truth));
    assert!(fleet.ask(3, truth, &[]).is_empty());
    assert_eq!(fleet.ask(1, truth, &[]), [(2, true)]);
    // Whole under another size than the one it downloaded: no source of that.
    fleet.announce(2, &holding(lie));
    assert!(fleet.ask(1, truth, &[]).is_empty());
    let two = Changes { downloading: vec![truth], ..holding(lie) };
    let announced = fleet.try_announce(1, &two);
    assert_eq!(announced, Err(Refusal::TwoSizes(truth.id)));
    let announced = fleet.try_announce(2, &downloading(truth));
    assert_eq!(announced, Err(Refusal::TwoSizes(truth.id)));
    // What one holds one does not download.
    fleet.announce(2, &downloading(lie));
    assert_eq!(fleet.registry.swarms.downloads(), 2);
}

#[test]
fn the_limits_on_downloads_are_kept_to_the_last_one() {
    let mut fleet = Fleet::new(1);
    fleet.registry.room = Room { downloads_per_peer: 2, downloads: 3, ..ROOM };
    fleet.join(1, "", "10.0.0.1:1");
    fleet.join(2, "", "10.0.0.1:1");
    let mut announce = |number, downloading: &[&str], stopped: &[&str]| {
        let downloading = downloading.iter().map(|text| content(text)).collect();
        let stopped = stopped.iter().map(|text| content(text).id).collect();
        fleet.try_announce(number, &Changes { downloading, stopped, ..Changes::default() })
    };
    announce(1, &["a", "b"], &[]).unwrap();
    announce(1, &["a", "b", "b"], &["b"]).unwrap();
    assert_eq!(announce(1, &["c"], &["never begun"]), Err(Refusal::DownloadsPerPeer));
    announce(1, &["c"], &["a", "a"]).unwrap();
    assert_eq!(announce(2, &["a", "b"], &[]), Err(Refusal::Downloads));
    announce(2, &["a"], &[]).unwrap();
    announce(1, &[], &["c"]).unwrap();
    announce(2, &["b"], &[]).unwrap();
}

#[test]
fn a_stranger_is_not_answered_and_a_peer_that_downloads_nothing_as_anybody() {
    let content = content("x");
    let mut fleet = Fleet::new(1);
    (0..3).for_each(|number| fleet.seed(number, "", content));
    let mut ask = |number| {
        let sources = fleet.locate(number, content.id, &[], false, 1)?;
        Ok::<_, Refusal>(sources.into_iter().map(|source| source.0).collect::<BTreeSet<_>>())
    };
    assert_eq!(ask(7), Err(Refusal::UnknownToken));
    assert_eq!(ask(1), Ok(BTreeSet::from([0, 2])), "and never itself");
}

// ---- against a naive one ---------------------------------------------------------------------

/// What the swarms are to be, told in the plainest way.
#[derive(Default)]
struct Model {
    peers: BTreeMap<usize, Entry>,
    /// Taker, source and content.
    links: BTreeSet<(usize, usize, ContentId)>,
}

#[derive(Default)]
struct Entry {
    zone: &'static str,
    is_local: bool,
    deadline: Option<Instant>,
    files: BTreeMap<&'static str, Content>,
    downloads: BTreeMap<ContentId, u64>,
}

impl Entry {
    fn holds(&self, content: Content) -> bool {
        self.files.values().any(|held| *held == content)
    }

    fn downloads(&self, content: Content) -> bool {
        self.downloads.get(&content.id) == Some(&content.size)
    }
}

impl Model {
    fn cut(&mut self, peer: usize, id: ContentId) {
        self.links.retain(|&(taker, source, other)| other != id || (taker != peer && source != peer));
    }

    fn leave(&mut self, peer: usize) {
        self.peers.remove(&peer);
        self.links.retain(|&(taker, source, _)| taker != peer && source != peer);
    }

    fn announce(
        &mut self,
        peer: usize,
        added: &[(&'static str, Content)],
        removed: &[&'static str],
        downloading: &[Content],
        stopped: &[ContentId],
    ) -> Result<(), ()> {
        let entry = self.peers.get_mut(&peer).ok_or(())?;
        let added: BTreeMap<_, _> = added.iter().copied().collect();
        let known = added.values().chain(downloading).chain(entry.files.values());
        let known: BTreeSet<_> = known.copied().collect();
        let news = added.values().chain(downloading);
        if news.into_iter().any(|one| known.iter().any(|other| one.id == other.id && one.size != other.size)) {
            return Err(());
        }
        let before = std::mem::take(&mut entry.files);
        entry.files = before.iter().filter(|(path, _)| !removed.contains(path)).map(|(a, b)| (*a, *b)).collect();
        entry.files.extend(added);
        let lost: Vec<_> =
            before.values().filter(|content| !entry.holds(**content)).map(|content| content.id).collect();
        let held: Vec<_> = entry.files.values().copied().collect();
        let (mut cut, mut finished) = (lost, Vec::new());
        for content in held {
            match entry.downloads.remove(&content.id) {
                Some(size) if size == content.size => finished.push(content.id),
                Some(_) => cut.push(content.id),
                None => {}
            }
        }
        for id in stopped.iter().filter(|id| downloading.iter().all(|other| other.id != **id)) {
            cut.extend(entry.downloads.remove(id).map(|_| *id));
        }
        for content in downloading {
            if !entry.holds(*content) {
                let old = entry.downloads.insert(content.id, content.size);
                cut.extend(old.filter(|old| *old != content.size).map(|_| content.id));
            }
        }
        cut.into_iter().for_each(|id| self.cut(peer, id));
        self.links.retain(|&(taker, _, id)| taker != peer || !finished.contains(&id));
        Ok(())
    }

    fn takers(&self, peer: usize, id: ContentId) -> usize {
        self.links.iter().filter(|&&(_, source, other)| (source, other) == (peer, id)).count()
    }

    /// Checks an answer, and notes what it gave.
    fn answer(&mut self, asker: usize, id: ContentId, dead: &[usize], is_local: bool, sources: &[(usize, bool)]) {
        let own = &self.peers[&asker];
        let fits = |peer: usize| (is_local || !self.peers[&peer].is_local) && !dead.contains(&peer) && peer != asker;
        let Some(&size) = own.downloads.get(&id) else {
            let holds = |entry: &Entry| entry.files.values().any(|held| held.id == id);
            let all =
                self.peers.iter().filter(|(peer, entry)| fits(**peer) && holds(entry)).map(|(peer, _)| (*peer, false));
            return assert_eq!(sources.iter().copied().collect::<BTreeSet<_>>(), all.collect());
        };
        let content = Content { id, size };
        let given: BTreeSet<_> = sources.iter().map(|source| source.0).collect();
        assert_eq!(given.len(), sources.len(), "no source is named twice");
        for &(peer, is_partial) in sources {
            let entry = &self.peers[&peer];
            assert!(fits(peer) && if is_partial { entry.downloads(content) } else { entry.holds(content) });
        }
        let old: BTreeSet<_> =
            self.links.iter().filter(|link| link.0 == asker && link.2 == id).map(|link| link.1).collect();
        let kept: BTreeSet<_> = old.iter().copied().filter(|peer| fits(*peer)).collect();
        assert!(given.is_superset(&kept), "a view is stable");
        for peer in old.difference(&kept) {
            self.links.remove(&(asker, *peer, id));
        }
        // How far away the new ones are, and how often they were given before.
        let is_far = |peer: usize| self.peers[&peer].zone != own.zone;
        let rank = |peer: usize| (is_far(peer), self.takers(peer, id));
        let new = |partial| {
            let new = sources.iter().filter(|source| source.1 == partial && !kept.contains(&source.0));
            let mut ranks: Vec<_> = new.map(|source| rank(source.0)).collect();
            ranks.sort_unstable();
            ranks
        };
        let others = |is_meant: &dyn Fn(&Entry) -> bool| {
            let all = self.peers.iter().filter(|(peer, entry)| fits(**peer) && !kept.contains(peer) && is_meant(entry));
            let mut ranks: Vec<_> = all.map(|(peer, _)| rank(*peer)).collect();
            ranks.sort_unstable();
            ranks
        };
        let partial = |peer: &&usize| self.peers[*peer].downloads(content);
        let kept_far = kept.iter().filter(partial).filter(|peer| is_far(**peer)).count();
        let kept_near = kept.iter().filter(partial).count() - kept_far;
        let wanted = 8_usize.saturating_sub(kept_far + kept_near).min(12 - kept.len());
        let (mut far, mut near): (Vec<_>, Vec<_>) =
            others(&|entry| entry.downloads(content)).into_iter().partition(|rank| rank.0);
        let mut expected = Vec::new();
        for (side, most, fewer) in
            [(false, 6_usize.saturating_sub(kept_near), 32), (true, 8, 16), (false, 8, 32), (true, 8, 32)]
        {
            let side = if side { &mut far } else { &mut near };
            let most = most.min(wanted - expected.len()).min(side.iter().filter(|rank| rank.1 < fewer).count());
            expected.extend(side.drain(..most));
        }
        expected.sort_unstable();
        assert_eq!(new(true), expected);
        let whole = kept.len() - kept_far - kept_near;
        let wanted = 4_usize.saturating_sub(whole).min(12 - kept.len() - expected.len());
        let mut whole = others(&|entry| entry.holds(content));
        whole.truncate(wanted);
        assert_eq!(new(false), whole, "there are too few peers here for the limit on takers");
        self.links.extend(given.into_iter().map(|peer| (asker, peer, id)));
    }
}

fn compare(registry: &Registry, model: &Model) {
    registry.check_invariants();
    let swarms = &registry.swarms;
    let mut links = BTreeSet::new();
    let mut downloads = BTreeSet::new();
    for ((peer, is_whole, swarm), &member) in &swarms.by_peer {
        let entry = &swarms.members[member];
        let (number, id) = (number_of(&registry.peers[*peer].id), swarms.swarms[*swarm].id);
        if !is_whole {
            downloads.insert((number, Content { id, size: entry.size }));
        }
        for &source in &entry.given {
            assert!(links.insert((number, number_of(&registry.peers[swarms.members[source].peer].id), id)));
        }
    }
    assert_eq!(links, model.links);
    let expected = model
        .peers
        .iter()
        .flat_map(|(peer, entry)| entry.downloads.iter().map(|(&id, &size)| (*peer, Content { id, size })));
    assert_eq!(downloads, expected.collect());
    for (&peer, entry) in &model.peers {
        let handle = registry.by_id[name(peer).as_str()];
        assert_eq!(swarms.downloads_of(handle), entry.downloads.len());
    }
}

#[test]
fn the_swarms_are_what_naive_ones_are() {
    for seed in 0..60 {
        let (mut fleet, mut model) = (Fleet::new(seed), Model::default());
        let mut dice = Dice(!seed);
        let peers = [4, 12, 40][seed as usize % 3];
        let contents: Vec<_> = ["1", "22", "333"].iter().take(1 + dice.below(3)).map(|text| content(text)).collect();
        for _ in 0..1200 {
            let peer = dice.below(peers);
            match dice.below(24) {
                0 => {
                    model.leave(peer);
                    let _ = fleet.leave(peer);
                }
                1 => {
                    fleet.now += Duration::from_secs(1);
                    fleet.registry.expire(fleet.now);
                    let dead = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= fleet.now);
                    let dead: Vec<_> =
                        model.peers.iter().filter(|(_, entry)| dead(entry)).map(|(peer, _)| *peer).collect();
                    dead.into_iter().for_each(|peer| model.leave(peer));
                }
                2..6 => {
                    let (zone, is_local) = (["", "", "a", "b"][dice.below(4)], dice.below(6) == 0);
                    model.leave(peer);
                    let deadline = Some(fleet.now + LEASE);
                    model.peers.insert(peer, Entry { zone, is_local, deadline, ..Entry::default() });
                    fleet.join(peer, zone, if is_local { "127.0.0.1:1" } else { "10.0.0.1:1" });
                }
                6..14 => {
                    let mut some = |most: usize| {
                        let count = dice.below(most + 1);
                        let mut pick = || {
                            let mut content = contents[dice.below(contents.len())];
                            content.size += u64::from(dice.below(12) == 0);
                            (["x", "y"][dice.below(2)], content)
                        };
                        (0..count).map(|_| pick()).collect::<Vec<_>>()
                    };
                    let (added, removed, downloading, stopped) = (some(1), some(1), some(2), some(1));
                    let removed: Vec<_> = removed.into_iter().map(|(path, _)| path).collect();
                    let downloading: Vec<_> = downloading.into_iter().map(|(_, content)| content).collect();
                    let stopped: Vec<_> = stopped.into_iter().map(|(_, content)| content.id).collect();
                    let expected = model.announce(peer, &added, &removed, &downloading, &stopped);
                    let changes = Changes {
                        added: added.iter().map(|(path, content)| (path.parse().unwrap(), *content)).collect(),
                        removed: removed.iter().map(|path| path.parse().unwrap()).collect(),
                        downloading,
                        stopped,
                        mirror: None,
                    };
                    let announced = fleet.try_announce(peer, &changes);
                    assert_eq!(announced.is_ok(), expected.is_ok(), "{announced:?}");
                    if announced.is_ok() {
                        model.peers.get_mut(&peer).unwrap().deadline = Some(fleet.now + LEASE);
                    }
                }
                _ => {
                    if !model.peers.contains_key(&peer) {
                        continue;
                    }
                    let id = contents[dice.below(contents.len())].id;
                    let dead: Vec<_> = (0..dice.below(4)).map(|_| dice.below(peers)).collect();
                    let is_local = dice.below(3) == 0;
                    let sources = fleet.locate(peer, id, &dead, is_local, dice.roll()).unwrap();
                    model.answer(peer, id, &dead, is_local, &sources);
                }
            }
            compare(&fleet.registry, &model);
        }
        fleet.registry.expire(fleet.now + LEASE);
        assert!(fleet.registry.swarms.is_empty());
    }
}
