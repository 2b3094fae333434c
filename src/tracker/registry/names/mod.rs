//! All paths: each kept once, found by its text, in order, and by any part of it.

mod grams;
mod paths;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    ops::{ControlFlow, Index, IndexMut},
};

use memchr::memmem::Finder;

pub(super) use self::paths::Name;
use self::{
    grams::Blocks,
    paths::{Paths, Place},
    segment::{BLOCK, Segment, Text},
};
use super::{shards::Shards, slab::Handle, sorted::Sorted};
use crate::{
    limits,
    tracker::search::{Pattern, Rank},
};

/// How far a search for a part has come: through all of the better ranks, and of this one up to a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct At {
    /// Which of [`Rank::ALL`].
    pub(super) rank: u8,
    /// The number of the place.
    pub(super) place: u32,
}

impl At {
    pub(super) const START: Self = Self { rank: 0, place: 0 };
}

/// All paths, with what finds them.
pub(super) struct Names {
    paths: Paths,
    by_path: Shards<Name>,
    /// By path.
    order: Sorted<Name>,
}

impl Index<Handle<Name>> for Names {
    type Output = Name;

    fn index(&self, name: Handle<Name>) -> &Name {
        self.paths.name(name)
    }
}

impl IndexMut<Handle<Name>> for Names {
    fn index_mut(&mut self, name: Handle<Name>) -> &mut Name {
        self.paths.name_mut(name)
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self { paths: Paths::new(), by_path: Shards::new(), order: Sorted::new() }
    }

    /// Distinct paths.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// What tells these places from those of any other registry, or of this one once all paths were gone.
    pub(super) fn mark(&self) -> u32 {
        self.paths.hash("") as u32
    }

    /// Bytes in all paths.
    pub(super) fn bytes(&self) -> usize {
        self.paths.bytes()
    }

    pub(super) fn find(&self, path: &str) -> Option<Handle<Name>> {
        let compare = self.paths.compare(path);
        self.by_path.find(self.paths.hash(path), |name| compare(name) == Ordering::Equal)
    }

    /// The path of a name.
    pub(super) fn path(&self, name: Handle<Name>) -> String {
        self.paths.path(name)
    }

    /// Adds a path that is not there, with no versions yet.
    pub(super) fn insert(&mut self, path: &str) -> Handle<Name> {
        let name = self.paths.add(path);
        self.by_path.insert(self.paths.hash(path), name, |name| self.paths.hash_of(name));
        self.order.insert(name, self.paths.compare(path));
        name
    }

    /// Forgets a path.
    pub(super) fn remove(&mut self, name: Handle<Name>) {
        let path = self.paths.path(name);
        self.by_path.remove(self.paths.hash(&path), name, |name| self.paths.hash_of(name));
        self.order.remove(self.paths.compare(&path));
        self.paths.remove(name, path.len());
    }

    /// Empties segments that hold little, `count` paths at most; whether there is more to do.
    pub(super) fn tidy(&mut self, count: usize) -> bool {
        self.paths.tidy(count)
    }

    /// Names that hold a text, those that fit best first, from `from` on: `take` is told of each, where
    /// it stands, how well it fits, and its path, until it breaks. Where to go on, if that was not all: also when so many
    /// blocks have been looked at as may be at once.
    pub(super) fn with_part(
        &self,
        pattern: &Pattern,
        from: At,
        mut take: impl FnMut(At, Handle<Name>, Rank, &str) -> ControlFlow<()>,
    ) -> Option<At> {
        if !pattern.can_match() {
            // It might match what stands between paths.
            return None;
        }
        let candidates = self.candidates(pattern);
        let mut text = Text::default();
        let mut looks = limits::SEARCH_BLOCKS;
        for (number, rank) in (0..).zip(Rank::ALL).skip(from.rank.into()) {
            let Some(sign) = pattern.sign(rank) else { continue };
            let start = Place(if number == from.rank { from.place } else { 0 });
            let (finder, beginnings) = (Finder::new(&sign), pattern.beginnings());
            for (segment_number, segment) in self.paths.segments().enumerate().skip(start.segment()) {
                let (Some(segment), mut blocks) = (segment, candidates[segment_number]) else { continue };
                if blocks.is_empty() {
                    continue;
                }
                match rank {
                    Rank::Path | Rank::FileName => segment.narrow(&mut blocks, sign.as_bytes()),
                    Rank::Prefix => segment.narrow_to_beginnings(&mut blocks, &beginnings),
                    Rank::Part => {}
                }
                let first = if segment_number == start.segment() { start.place() } else { 0 };
                let mut next = first / BLOCK;
                while let Some(block) = blocks.next(next) {
                    next = block + 1;
                    let at = |slot| Place::new(segment_number, block * BLOCK + slot);
                    if looks == 0 {
                        return Some(At { rank: number, place: at(0).0 });
                    }
                    if !segment.block(block, &mut text) {
                        continue;
                    }
                    looks -= 1;
                    let mut searched = 0;
                    while let Some(found) = finder.find(&text.folded[searched..]) {
                        let found = searched + found;
                        let slot = text.slot(found + usize::from(rank == Rank::Path));
                        let range = text.range(slot);
                        // The `/` before a path is none of it; and in the middle, one begins a folder's name.
                        let is_none = match rank {
                            Rank::Part => found < range.start,
                            Rank::Prefix => found >= range.start && text.folded[found + 1..range.end].contains(&b'/'),
                            Rank::Path | Rank::FileName => false,
                        };
                        if is_none {
                            searched = found + 1;
                            continue;
                        }
                        searched = range.end;
                        let place = at(slot);
                        let here = At { rank: number, place: place.0 };
                        let fits = pattern.rank(text.folded(slot));
                        let is_here = fits == rank || rank == Rank::Part && fits == Rank::Prefix && pattern.is_letter();
                        if is_here
                            && place >= start
                            && let Some(name) = segment.name(place.place())
                            && take(here, name, fits, text.path(slot)).is_break()
                        {
                            return Some(here);
                        }
                    }
                }
            }
        }
        None
    }

    /// Names whose whole path is meant, in the order of their paths, from `from` on: `take` is told of each
    /// and its path, until it breaks. Which path to go on from, if that was not all: also when so many
    /// have been looked at as may be at once.
    pub(super) fn matching(
        &self,
        pattern: &Pattern,
        from: &str,
        mut take: impl FnMut(Handle<Name>, &str) -> ControlFlow<()>,
    ) -> Option<String> {
        let candidates = self.candidates(pattern);
        if candidates.iter().map(Blocks::len).sum::<usize>() <= limits::SEARCH_FEW_BLOCKS {
            let mut found = self.matching_in(&candidates, pattern);
            found.retain(|(path, _)| path.as_str() >= from);
            found.sort_unstable();
            return found.into_iter().find_map(|(path, name)| take(name, &path).is_break().then_some(path));
        }
        let (mut passes, mut looks) = (limits::SEARCH_NAMES, limits::SEARCH_FEW_BLOCKS * BLOCK);
        let mut path = Vec::new();
        for name in self.order.from(self.paths.compare(from)) {
            let place = self.paths.name(name).place;
            passes -= 1;
            if candidates[place.segment()].has(place.place() / BLOCK) {
                looks -= 1;
                self.paths.put(name, &mut path);
                let path = String::from_utf8_lossy(&path);
                if pattern.matches(&path) && take(name, &path).is_break() {
                    return Some(path.into_owned());
                }
            }
            if passes == 0 || looks == 0 {
                // The least path behind this one.
                return Some(self.path(name) + "\0");
            }
        }
        None
    }

    /// Those of some blocks whose whole path is meant.
    fn matching_in(&self, candidates: &[Blocks], pattern: &Pattern) -> Vec<(String, Handle<Name>)> {
        let (mut text, mut found) = (Text::default(), Vec::new());
        for (segment, blocks) in self.paths.segments().zip(candidates) {
            let Some(segment) = segment else { continue };
            let mut next = 0;
            while let Some(block) = blocks.next(next) {
                next = block + 1;
                if !segment.block(block, &mut text) {
                    continue;
                }
                for slot in 0..text.len() {
                    if let Some(name) = segment.name(block * BLOCK + slot)
                        && pattern.matches_folded(text.folded(slot))
                    {
                        found.push((text.path(slot).to_owned(), name));
                    }
                }
            }
        }
        found
    }

    /// Of each segment, the blocks that may hold what is meant.
    fn candidates(&self, pattern: &Pattern) -> Vec<Blocks> {
        let literals = pattern.literals();
        let of = |segment: &Segment| {
            let mut blocks = segment.blocks();
            literals.iter().for_each(|literal| segment.narrow(&mut blocks, literal.as_bytes()));
            blocks
        };
        self.paths.segments().map(|segment| segment.as_ref().map_or(Blocks::NONE, of)).collect()
    }
}
