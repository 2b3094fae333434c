use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{dice::Dice, *};
use crate::{
    name::SharePath,
    tracker::search::{Pattern, folded},
};

const LEASE: Duration = Duration::from_secs(10);

fn id(text: &str) -> PeerId {
    text.parse().unwrap()
}

fn path(text: &str) -> SharePath {
    text.parse().unwrap()
}

fn content(text: &str) -> Content {
    Content { id: ContentId::of(text.as_bytes()), size: text.len() as u64 }
}

fn token(name: &str, owner: u8, incarnation: u64) -> Token<'_> {
    Token { id: name, incarnation, mark: Identity::of(&[owner; 32]).mark() }
}

/// A question by an asker on loopback or elsewhere.
fn ask(id: ContentId, is_local: bool, dice: u64) -> Ask<'static> {
    let from = if is_local { [127, 0, 0, 1] } else { [10, 0, 0, 7] };
    Ask { id, dead: &[], from: from.into(), dice }
}

/// The tokens of the peers of [`three`].
const NAMES: [&str; 3] = ["a", "b", "c"];
fn first(number: u8) -> Token<'static> {
    token(NAMES[usize::from(number) - 1], number, 1)
}

fn join(name: &str, owner: u8, address: &str) -> Join {
    let address = address.parse().unwrap();
    Join { id: id(name), identity: Identity::of(&[owner; 32]), address, zone: Zone::default() }
}

fn files(added: &[(&str, &str)], removed: &[&str]) -> Changes {
    Changes {
        added: added.iter().map(|(name, text)| (path(name), content(text))).collect(),
        removed: removed.iter().map(|name| path(name)).collect(),
        ..Changes::default()
    }
}

/// All rows as `path text sources ids`, as an asker on loopback or elsewhere sees them.
fn rows(registry: &Registry, text: &str, local: bool) -> Vec<String> {
    let rows = all(registry, &Pattern::new(text), None, local);
    rows.iter()
        .map(|row| format!("{} {} {} {:?}", row.path, row.content.size, row.sources, names(&row.source_ids)))
        .collect()
}

/// The rows of all pages from a cursor on, which goes to the tracker and back as bytes.
fn all<'a>(registry: &'a Registry, pattern: &Pattern, from: Option<Cursor>, local: bool) -> Vec<Row<'a>> {
    let (mut rows, mut from) = (Vec::new(), from);
    loop {
        let mut page = registry.search(pattern, from.as_ref(), local);
        rows.append(&mut page.rows);
        let Some(cursor) = page.after(usize::MAX) else { return rows };
        assert!(cursor.is_for(pattern));
        from = Cursor::from_bytes(&cursor.to_bytes());
        assert_eq!(from, Some(cursor));
    }
}

fn names<'a>(ids: &'a [&PeerId]) -> Vec<&'a str> {
    ids.iter().map(|id| id.as_str()).collect()
}

/// A registry with `a` (owner 1), `b` (owner 2) and, on loopback, `c` (owner 3).
fn three(now: Instant) -> Registry {
    let mut registry = Registry::new(LEASE);
    for (number, address) in [(1, "10.0.0.1:5000"), (2, "10.0.0.2:5000"), (3, "127.0.0.1:5000")] {
        let joined = registry.join(now, join(NAMES[usize::from(number) - 1], number, address), 1);
        assert_eq!(joined, Ok(Joined { incarnation: 1, took_over: false }));
    }
    registry
}

#[test]
fn what_is_announced_is_found_and_what_is_removed_is_not() {
    let now = Instant::now();
    let mut registry = three(now);
    registry.announce(now, first(1), &files(&[("x", "1"), ("y", "22")], &[])).unwrap();
    registry.announce(now, first(2), &files(&[("x", "333"), ("z", "1")], &[])).unwrap();
    let mut expected = vec![r#"x 1 2 ["a", "b"]"#, r#"x 3 1 ["b"]"#, r#"y 2 1 ["a"]"#, r#"z 1 2 ["a", "b"]"#];
    // The two contents of one path stand in the order of their ids.
    expected[..2].sort_by_key(|row| content(if row.starts_with("x 1") { "1" } else { "333" }));
    assert_eq!(rows(&registry, "*", false), expected);
    // Another content under the same path takes the place of the first.
    registry.announce(now, first(2), &files(&[("x", "1")], &["z", "never there"])).unwrap();
    assert_eq!(rows(&registry, "*", false), [r#"x 1 2 ["a", "b"]"#, r#"y 2 1 ["a"]"#]);
    // Saying a thing again changes nothing, and `added` wins over `removed`.
    registry.announce(now, first(2), &files(&[("x", "1"), ("x", "1")], &["x"])).unwrap();
    assert_eq!(rows(&registry, "*", false), [r#"x 1 2 ["a", "b"]"#, r#"y 2 1 ["a"]"#]);
    assert_eq!(registry.leave(first(1)), Ok(id("a")));
    assert_eq!(rows(&registry, "*", false), [r#"x 1 1 ["b"]"#]);
    let x = path("x");
    assert_eq!(registry.search_exact(&x, None, false).rows.len(), 1);
    assert_eq!(registry.search_exact(&path("X"), None, false).rows.len(), 0);
}

#[test]
fn loopback_is_named_only_to_askers_there() {
    let now = Instant::now();
    let mut registry = three(now);
    registry.announce(now, first(1), &files(&[("x", "1")], &[])).unwrap();
    registry.announce(now, first(3), &files(&[("x", "1"), ("mine", "22")], &[])).unwrap();
    assert_eq!(rows(&registry, "*", true), [r#"mine 2 1 ["c"]"#, r#"x 1 2 ["a", "c"]"#]);
    assert_eq!(rows(&registry, "*", false), [r#"x 1 1 ["a"]"#]);
    assert_eq!(registry.locate(&ask(content("1").id, true, 1)).sources.len(), 2);
    let located = registry.locate(&ask(content("1").id, false, 1));
    assert_eq!(located.sources.iter().map(|source| source.id.as_str()).collect::<Vec<_>>(), ["a"]);
    let hidden = registry.locate(&ask(content("22").id, false, 1));
    assert!(hidden.sources.is_empty() && hidden.paths.is_empty());
}

#[test]
fn a_lease_ends_to_the_moment_unless_it_is_renewed() {
    let start = Instant::now();
    let mut registry = three(start);
    let almost = start + LEASE - Duration::from_nanos(1);
    assert!(registry.expire(almost).is_empty());
    registry.renew(almost, first(1)).unwrap();
    registry.announce(almost, first(2), &Changes::default()).unwrap();
    assert_eq!(registry.next_expiry(), Some(start + LEASE));
    assert_eq!(registry.expire(start + LEASE), [id("c")]);
    assert_eq!(registry.renew(start + LEASE, first(3)), Err(Refusal::UnknownToken));
    assert_eq!(registry.expire(almost + LEASE).len(), 2);
    assert_eq!(registry.next_expiry(), None);
    // Its id is then anyone's.
    let joined = registry.join(almost + LEASE, join("a", 9, "10.0.0.9:1"), 1).unwrap();
    assert!(!joined.took_over);
    assert_eq!(registry.renew(almost + LEASE, first(1)), Err(Refusal::UnknownToken));
}

#[test]
fn many_that_die_together_are_forgotten_step_by_step_and_hold_up_nobody() {
    let start = Instant::now();
    let mut registry = Registry::new(LEASE);
    let many = limits::EXPIRY_STEP + 10;
    let names: Vec<_> = (0..many).map(|number| format!("p{number:03}")).collect();
    for name in &names {
        registry.join(start, join(name, 1, "10.0.0.1:1"), 1).unwrap();
    }
    let end = start + LEASE;
    let gone = registry.expire(end);
    assert_eq!((gone.len(), registry.next_expiry()), (limits::EXPIRY_STEP, Some(end)));
    // Of those that wait for the next step, one lives after all, and one's id is anyone's.
    let mut left = names.iter().filter(|name| !gone.contains(&id(name)));
    let [alive, taken] = [left.next().unwrap(), left.next().unwrap()];
    registry.renew(end, token(alive, 1, 1)).unwrap();
    let joined = registry.join(end, join(taken, 2, "10.0.0.2:1"), 1);
    assert_eq!(joined, Ok(Joined { incarnation: 2, took_over: false }));
    assert_eq!(registry.expire(end).len(), 8);
    assert_eq!((registry.peers.len(), registry.next_expiry()), (2, Some(end + LEASE)));
    // Whoever downloads much counts for more.
    let contents: Vec<_> = (0..limits::EXPIRY_STEP).map(|number| content(&number.to_string())).collect();
    for (name, owner, incarnation) in [(alive, 1, 1), (taken, 2, 2)] {
        let changes = Changes { downloading: contents.clone(), ..Changes::default() };
        registry.announce(end, token(name, owner, incarnation), &changes).unwrap();
    }
    assert_eq!(registry.expire(end + LEASE).len(), 1);
    assert_eq!(registry.expire(end + LEASE).len(), 1);
    assert!(registry.swarms.is_empty() && registry.next_expiry().is_none());
}

#[test]
fn an_identity_takes_its_id_over_and_its_older_copies_are_told() {
    let now = Instant::now();
    let mut registry = three(now);
    registry.announce(now, first(1), &files(&[("x", "1")], &[])).unwrap();
    assert_eq!(registry.join(now, join("a", 9, "10.0.0.9:1"), 9), Err(Refusal::Taken(id("a"))));
    assert_eq!(rows(&registry, "x", false).len(), 1);
    // Whatever the clock says, the next is a later one.
    for (at_least, incarnation) in [(0, 2), (1, 3), (100, 100), (50, 101)] {
        let joined = registry.join(now, join("a", 1, "10.0.0.1:1"), at_least);
        assert_eq!(joined, Ok(Joined { incarnation, took_over: true }));
        assert!(rows(&registry, "*", true).is_empty(), "it starts with no files");
        assert_eq!(registry.renew(now, first(1)), Err(Refusal::Superseded(id("a"))));
        assert_eq!(registry.leave(token("a", 1, incarnation - 1)), Err(Refusal::Superseded(id("a"))));
        registry.renew(now, token("a", 1, incarnation)).unwrap();
        assert_eq!(registry.renew(now, token("a", 1, incarnation + 1)), Err(Refusal::UnknownToken));
        assert_eq!(registry.renew(now, token("a", 9, incarnation)), Err(Refusal::UnknownToken));
    }
    registry.leave(token("a", 1, 101)).unwrap();
    assert_eq!(registry.renew(now, first(1)), Err(Refusal::UnknownToken));
}

#[test]
fn an_announce_is_applied_whole_or_not_at_all() {
    let now = Instant::now();
    let mut registry = three(now);
    registry.announce(now, first(1), &files(&[("x", "1"), ("y", "1")], &[])).unwrap();
    let wrong = Content { size: 7, ..content("1") };
    let mut changes = files(&[("new", "new")], &["y"]);
    changes.added.push((path("z"), wrong));
    assert_eq!(registry.announce(now, first(1), &changes), Err(Refusal::TwoSizes(wrong.id)));
    changes.added.push((path("zz"), content("1")));
    assert_eq!(registry.announce(now, first(2), &changes), Err(Refusal::TwoSizes(wrong.id)));
    assert_eq!(rows(&registry, "*", true), [r#"x 1 1 ["a"]"#, r#"y 1 1 ["a"]"#]);
}

#[test]
fn a_liar_about_a_size_stands_beside_the_others_and_not_in_their_way() {
    let now = Instant::now();
    let mut registry = three(now);
    registry.announce(now, first(1), &files(&[("x", "1")], &[])).unwrap();
    let lie = Content { size: 1 << 60, ..content("1") };
    registry.announce(now, first(2), &Changes { added: vec![(path("x"), lie)], ..Changes::default() }).unwrap();
    assert_eq!(rows(&registry, "x", false), [r#"x 1 1 ["a"]"#, r#"x 1152921504606846976 1 ["b"]"#]);
    let sources = registry.locate(&ask(lie.id, false, 3)).sources;
    let mut sizes: Vec<_> = sources.iter().map(|source| (source.id.as_str(), source.size)).collect();
    sizes.sort();
    assert_eq!(sizes, [("a", 1), ("b", 1 << 60)]);
}

#[test]
fn however_many_liars_there_are_about_a_size_each_tells_one_and_an_answer_looks_at_a_few() {
    let now = Instant::now();
    let mut registry = Registry::new(LEASE);
    let many = 5 * limits::SIZES_SEEN;
    let lie = |size: usize| Content { size: size as u64, ..content("1") };
    let with = |path_: &str, content| Changes { added: vec![(path(path_), content)], ..Changes::default() };
    let names: Vec<_> = (0..many).map(|number| format!("p{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        registry.join(now, join(name, 1, "10.0.0.1:1"), 1).unwrap();
        registry.announce(now, token(name, 1, 1), &with("x", lie(number))).unwrap();
    }
    let mut seen = BTreeSet::new();
    for dice in 0..100 {
        let located = registry.locate(&ask(lie(0).id, false, dice));
        assert_eq!(located.sources.len(), limits::SIZES_SEEN);
        seen.extend(located.sources.iter().map(|source| source.size));
    }
    assert_eq!(seen.len(), many, "whoever asks again hears of others");
    // Whoever is the first one, nobody tells two.
    for (number, name) in names.iter().enumerate() {
        for other in [0, number.saturating_sub(1), number + 1, many].into_iter().filter(|other| *other != number) {
            let two = registry.announce(now, token(name, 1, 1), &with("y", lie(other)));
            assert_eq!(two, Err(Refusal::TwoSizes(lie(0).id)));
        }
        registry.announce(now, token(name, 1, 1), &with("y", lie(number))).unwrap();
        if number % 3 > 0 {
            registry.announce(now, token(name, 1, 1), &files(&[], &["x", "y"])).unwrap();
            registry.announce(now, token(name, 1, 1), &with("x", lie(number + 1))).unwrap();
        }
        registry.check_invariants();
    }
    registry.expire(now + LEASE);
    while registry.tidy(100) {}
    assert!(registry.files.is_empty());
}

#[test]
fn whoever_is_superseded_while_its_changes_are_made_changes_nothing_more() {
    let now = Instant::now();
    let mut registry = three(now);
    let changes = files(&[("x", "1"), ("y", "1")], &[]);
    let mut underway = registry.begin(now, first(1), &changes).unwrap();
    assert_eq!(rows(&registry, "*", false).len(), 0);
    assert_eq!(registry.go_on(first(1), &mut underway, 1), Ok(true));
    assert_eq!(rows(&registry, "*", false).len(), 1);
    registry.join(now, join("a", 1, "10.0.0.1:1"), 0).unwrap();
    assert_eq!(registry.go_on(first(1), &mut underway, 1), Err(Refusal::Superseded(id("a"))));
    assert_eq!(rows(&registry, "*", false).len(), 0);
}

#[test]
fn a_search_goes_on_at_another_tracker_that_knows_the_same() {
    let now = Instant::now();
    let mut one = three(now);
    let mut other = three(now);
    // More than the candidates of a page, and put in the other way round.
    let names: Vec<_> = (0..limits::SEARCH_CANDIDATES + 30).map(|number| format!("part/{number:04}")).collect();
    for name in &names {
        one.announce(now, first(1), &files(&[(name, "1")], &[])).unwrap();
    }
    for name in names.iter().rev() {
        other.announce(now, first(1), &files(&[(name, "1")], &[])).unwrap();
    }
    let pattern = Pattern::new("art");
    let paths = |rows: Vec<Row<'_>>| rows.into_iter().map(|row| row.path).collect::<Vec<_>>();
    // Within what all rank together nothing is told twice or missed; beyond it, as much as there is.
    let few = Pattern::new("/000");
    for (pattern, given, whole) in [(&few, 3, 10), (&few, 9, 10), (&pattern, 30, names.len())] {
        let begun = all(&one, pattern, None, false);
        assert_eq!(begun.len(), whole);
        let cursor = one.search(pattern, None, false).after(given).unwrap();
        let rest = paths(all(&other, pattern, Some(cursor), false));
        assert_eq!(rest.len(), whole - given);
        if whole <= limits::SEARCH_CANDIDATES {
            assert_eq!(rest, paths(begun)[given..]);
        }
    }
    let mut from = None;
    for _ in 0..limits::SEARCH_CANDIDATES / limits::RANKED_ROWS {
        from = one.search(&pattern, from.as_ref(), false).after(usize::MAX);
    }
    let rest = all(&other, &pattern, from, false);
    assert_eq!(rest.len(), 30, "more than one page is left out");
}

#[test]
fn a_locate_names_a_hundred_of_many_and_over_time_all() {
    let now = Instant::now();
    let mut registry = Registry::new(LEASE);
    let many = 250;
    for number in 0..many {
        let name = format!("p{number}");
        registry.join(now, join(&name, 1, "10.0.0.1:1"), 1).unwrap();
        registry.announce(now, token(&name, 1, 1), &files(&[("x", "1")], &[])).unwrap();
    }
    let mut seen = BTreeSet::new();
    for dice in 0..30 {
        let located = registry.locate(&ask(content("1").id, false, dice));
        let ids: BTreeSet<_> = located.sources.iter().map(|source| source.id.clone()).collect();
        assert_eq!(ids.len(), limits::NAMED, "no source is named twice");
        seen.extend(ids);
    }
    assert_eq!(seen.len(), many as usize);
    let row = &all(&registry, &Pattern::new("x"), None, false)[0];
    assert!(row.source_ids.is_sorted());
    let distinct: BTreeSet<_> = row.source_ids.iter().collect();
    assert_eq!((row.sources, distinct.len()), (250, limits::NAMED));
}

#[test]
fn every_limit_is_kept_to_the_last_one_and_what_is_in_can_still_change() {
    let now = Instant::now();
    let mut registry = three(now);
    registry.room = Room { peers: 3, files_per_peer: 3, files: 5, paths_bytes: 7, ..ROOM };
    assert_eq!(registry.join(now, join("d", 4, "10.0.0.4:1"), 1), Err(Refusal::Peers));
    assert!(registry.join(now, join("c", 3, "10.0.0.3:1"), 0).unwrap().took_over);

    let mut announce = |number, added: &[(&str, &str)], removed: &[&str]| {
        let holder = if number == 3 { token("c", 3, 2) } else { first(number) };
        registry.announce(now, holder, &files(added, removed))
    };
    announce(1, &[("1", ""), ("2", ""), ("3", "")], &[]).unwrap();
    assert_eq!(announce(1, &[("4", "")], &["never there"]), Err(Refusal::FilesPerPeer));
    announce(1, &[("1", "new"), ("4", "")], &["3"]).unwrap();
    announce(2, &[("1", ""), ("2", "")], &[]).unwrap();
    assert_eq!(announce(3, &[("1", "")], &[]), Err(Refusal::Files));
    announce(2, &[("55555", "")], &["1"]).unwrap_err();
    announce(2, &[("5555", "")], &["1"]).unwrap();
    assert_eq!(announce(2, &[("66", "")], &["2"]), Err(Refusal::PathsBytes));
    announce(1, &[], &["1", "2", "4"]).unwrap();
    announce(2, &[("66", "")], &["2"]).unwrap();
    announce(3, &[("66", ""), ("5555", ""), ("7", "")], &[]).unwrap();
}

/// What the registry is to be, told in the plainest way.
#[derive(Default)]
struct Model {
    peers: BTreeMap<PeerId, Entry>,
    /// More than the incarnation of any that is gone.
    next_incarnation: u64,
}

struct Entry {
    owner: u8,
    address: SocketAddr,
    deadline: Instant,
    incarnation: u64,
    files: BTreeMap<SharePath, Content>,
}

impl Model {
    fn remove(&mut self, id: &PeerId) -> bool {
        let gone = self.peers.remove(id);
        self.next_incarnation = gone.iter().map(|gone| gone.incarnation + 1).fold(self.next_incarnation, u64::max);
        gone.is_some()
    }

    fn expire(&mut self, now: Instant) -> BTreeSet<PeerId> {
        let gone = self.peers.iter().filter(|(_, entry)| entry.deadline <= now).map(|(id, _)| id.clone());
        let gone: BTreeSet<_> = gone.collect();
        for id in &gone {
            self.remove(id);
        }
        gone
    }

    fn join(&mut self, now: Instant, name: &str, owner: u8, address: &str, at_least: u64) -> Result<Joined, Refusal> {
        if self.peers.get(&id(name)).is_some_and(|old| old.owner != owner) {
            return Err(Refusal::Taken(id(name)));
        }
        let took_over = self.remove(&id(name));
        let incarnation = at_least.max(self.next_incarnation);
        let (address, deadline, files) = (address.parse().unwrap(), now + LEASE, BTreeMap::new());
        self.peers.insert(id(name), Entry { owner, address, deadline, incarnation, files });
        Ok(Joined { incarnation, took_over })
    }

    fn holder(&mut self, (name, owner, incarnation): (&str, u8, u64)) -> Result<(PeerId, &mut Entry), Refusal> {
        match self.peers.get_mut(&id(name)) {
            Some(entry) if entry.owner == owner && entry.incarnation == incarnation => Ok((id(name), entry)),
            Some(entry) if entry.owner == owner && entry.incarnation > incarnation => {
                Err(Refusal::Superseded(id(name)))
            }
            _ => Err(Refusal::UnknownToken),
        }
    }

    fn announce(&mut self, now: Instant, token: (&str, u8, u64), changes: &Changes) -> Result<(), Refusal> {
        let (_, entry) = self.holder(token)?;
        let added: BTreeMap<_, _> = changes.added.iter().cloned().collect();
        for one in added.values() {
            if added.values().chain(entry.files.values()).any(|other| one.id == other.id && one.size != other.size) {
                return Err(Refusal::TwoSizes(one.id));
            }
        }
        entry.files.retain(|path, _| !changes.removed.contains(path));
        entry.files.extend(added);
        entry.deadline = now + LEASE;
        Ok(())
    }

    fn visible(&self, local: bool) -> impl Iterator<Item = (&PeerId, &Entry)> {
        self.peers.iter().filter(move |(_, entry)| local || !entry.address.ip().is_loopback())
    }

    /// Every path with every content, as those say that an asker is told of, and who holds that content.
    fn rows(&self, local: bool) -> BTreeMap<(&SharePath, Content), Vec<&PeerId>> {
        let all = self.visible(local).flat_map(|(_, entry)| &entry.files);
        let with_sources = all.map(|(path, content)| {
            let holds = |entry: &Entry| entry.files.values().any(|other| other == content);
            let sources = self.visible(local).filter(|(_, entry)| holds(entry)).map(|(id, _)| id);
            ((path, *content), sources.collect::<Vec<_>>())
        });
        with_sources.collect()
    }
}

#[test]
fn a_registry_is_what_a_naive_one_is() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        // Who held what token at some time, and one that nobody ever did.
        let mut holders = vec![("a", 9, 1)];
        let mut now = Instant::now();
        let (mut registry, mut model) = (Registry::new(LEASE), Model::default());
        for step in 0..1500 {
            now += Duration::from_millis([0, 0, 500, 3000][dice.below(4)]);
            let gone: BTreeSet<_> = registry.expire(now).into_iter().collect();
            assert_eq!(gone, model.expire(now), "seed {seed} step {step}");
            // One of the newest tokens, mostly a good one.
            let any = holders[holders.len().saturating_sub(1 + dice.below(12))];
            let (name, owner, incarnation) = any;
            let by = token(name, owner, incarnation);
            match dice.below(8) {
                0 | 1 => {
                    let (name, owner) = (["a", "b", "B", "c", "d-1"][dice.below(5)], [1, 1, 1, 2][dice.below(4)]);
                    let address = ["10.0.0.1:1", "[2001:db8::1]:2", "127.0.0.1:3", "[::1]:4"][dice.below(4)];
                    let at_least = dice.below(2 * step + 1) as u64;
                    let joined = registry.join(now, join(name, owner, address), at_least);
                    assert_eq!(joined, model.join(now, name, owner, address, at_least), "seed {seed} step {step}");
                    holders.extend(joined.map(|joined| (name, owner, joined.incarnation)));
                }
                2 => assert_eq!(
                    registry.renew(now, by),
                    model.holder(any).map(|(_, entry)| entry.deadline = now + LEASE),
                    "seed {seed} step {step}"
                ),
                3 if dice.below(3) == 0 => {
                    let left = model.holder(any).map(|(id, _)| id);
                    assert_eq!(registry.leave(by), left, "seed {seed} step {step}");
                    left.iter().for_each(|id| assert!(model.remove(id)));
                }
                _ => {
                    let mut path = || path(["x", "X", "x/y", "é", "é/É.txt", "z z"][dice.below(6)]);
                    let removed = vec![path(), path()];
                    let paths = [path(), path(), path()];
                    let changes = Changes {
                        added: (paths.into_iter().take(dice.below(4)))
                            .map(|path| {
                                let mut content = content(["", "1", "22", "333"][dice.below(4)]);
                                content.size += [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3][dice.below(12)];
                                (path, content)
                            })
                            .collect(),
                        removed: removed.into_iter().take(dice.below(3)).collect(),
                        ..Changes::default()
                    };
                    // At once, or file by file and with somebody else's leavings cleared between them.
                    let most = [usize::MAX, 1][dice.below(2)];
                    let announced = registry.begin(now, by, &changes).map(|mut underway| {
                        while registry.go_on(by, &mut underway, most).unwrap() {
                            registry.tidy(dice.below(3));
                            registry.check_invariants();
                        }
                    });
                    match (&announced, &model.announce(now, any, &changes)) {
                        (Err(Refusal::TwoSizes(_)), Err(Refusal::TwoSizes(_))) => {}
                        (one, other) => assert_eq!(one, other, "seed {seed} step {step}"),
                    }
                }
            }
            if dice.below(3) == 0 {
                registry.tidy(dice.below(4));
            }
            registry.check_invariants();
            compare(&mut registry, &model, &mut dice);
        }
        registry.expire(now + LEASE);
        while registry.tidy(3) {}
        assert!(registry.files.is_empty() && registry.swarms.is_empty() && registry.by_id.is_empty());
        assert!(registry.leases.len() == 0 && registry.peers.len() == 0);
    }
}

fn compare(registry: &mut Registry, model: &Model, dice: &mut Dice) {
    assert_eq!(registry.next_expiry(), model.peers.values().map(|entry| entry.deadline).min());
    assert_eq!(registry.files.pairs(), model.peers.values().map(|entry| entry.files.len()).sum::<usize>());
    let paths: BTreeSet<_> = model.peers.values().flat_map(|entry| entry.files.keys()).collect();
    // What is gone may still wait to be released.
    assert!(registry.files.names().bytes() >= paths.iter().map(|path| path.as_str().len()).sum());

    let local = dice.below(2) == 0;
    let expected = model.rows(local);
    let expected: Vec<_> = (expected.iter())
        .map(|((path, content), ids)| {
            let ids: Vec<_> = ids.iter().map(|id| (*id).clone()).collect();
            ((*path).to_string(), *content, ids)
        })
        .collect();
    let text = ["*", "x", "É", "?", "*y", " ", "x/y", ".txt", "é/*"][dice.below(9)];
    let pattern = Pattern::new(text);
    let mut meant: Vec<_> = expected.iter().filter(|(path, ..)| pattern.matches(path)).collect();
    if !pattern.is_whole() {
        meant.sort_by_key(|(path, _, ids)| (pattern.rank(&folded(path)), Reverse(ids.len())));
    }
    let found = all(registry, &pattern, None, local);
    let owned = |rows: &[Row<'_>]| -> Vec<_> {
        let ids = |row: &Row<'_>| row.source_ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
        rows.iter().map(|row| (row.path.clone(), row.content, ids(row))).collect()
    };
    assert_eq!(owned(&found), meant.into_iter().cloned().collect::<Vec<_>>(), "{text}");
    assert!(found.iter().all(|row| row.sources == row.source_ids.len()));
    // From any row on come those behind it, and nothing else.
    if !found.is_empty() {
        let count = 1 + dice.below(found.len());
        let cursor = registry.search(&pattern, None, local).after(count);
        let rest = cursor.map(|cursor| all(registry, &pattern, Some(cursor), local)).unwrap_or_default();
        assert_eq!(rest, found[count..]);
    }
    let exact = path(["x", "é", "none"][dice.below(3)]);
    let count = expected.iter().filter(|(path, ..)| *path == exact.as_str()).count();
    assert_eq!(registry.search_exact(&exact, None, local).rows.len(), count);

    let wanted = content(["", "1", "22", "333"][dice.below(4)]).id;
    let Located { paths, sources } = registry.locate(&ask(wanted, local, dice.below(1000) as u64));
    let rows: Vec<_> = expected.iter().filter(|(_, content, _)| content.id == wanted).collect();
    let expected_paths: BTreeSet<_> = rows.iter().map(|(path, ..)| path.clone()).collect();
    assert_eq!(paths, expected_paths.into_iter().collect::<Vec<_>>());
    let expected_sources: BTreeSet<_> =
        rows.iter().flat_map(|(_, content, ids)| ids.iter().map(|id| (id, content.size))).collect();
    assert_eq!(sources.len(), expected_sources.len(), "no source is named twice");
    for Source { id, address, size, .. } in &sources {
        assert!(expected_sources.contains(&(*id, *size)));
        assert_eq!(model.peers[*id].address, *address);
    }
}
