//! Some ten thousand paths in a row, and what says which of them a text may be in.
//!
//! Paths stand in blocks of 32. Of each, what it begins with as the one before it does is left out, but
//! for every eighth: those that are announced together are mostly alike. A block is what is searched
//! at once, when the grams say that it may hold a text.

use std::{cmp::Ordering, ops::Range};

use super::{
    super::slab::Handle,
    grams::{BLOCKS, Blocks, Grams, grams},
    paths::Name,
};
use crate::tracker::search::{self, fold_into};

/// Paths in a block.
pub(super) const BLOCK: usize = 32;
/// Paths from one that is whole to the next.
const RUN: usize = 8;
/// Bytes of paths after which a block gets no more: the longest paths make short blocks.
const BLOCK_BYTES: usize = 4096;
/// [`search::END`] and [`search::FILE`] as bytes.
const END: u8 = search::END as u8;
const FILE: u8 = search::FILE as u8;

/// How many bytes two texts begin with alike, looked at by eights: the C library of static binaries would compare
/// them one by one.
fn alike(one: &[u8], other: &[u8]) -> usize {
    let eights = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0).take_while(|(one, other)| one == other);
    let eights = 8 * eights.count();
    let rest = one[eights..].iter().zip(&other[eights..]);
    eights + rest.take_while(|(one, other)| one == other).count()
}

pub(super) struct Segment {
    /// Of each path: how many bytes it begins with as the one before, and how many others follow; a long
    /// number of them is a 255 and two bytes.
    text: Vec<u8>,
    /// Where each run begins in it.
    runs: Vec<u32>,
    /// Whose the paths are, by their places; none where they are gone or a block ended early.
    names: Vec<Option<Handle<Name>>>,
    /// How many are not gone.
    live: usize,
    grams: Grams,
    /// Blocks in which more letters have capitals than those of ASCII.
    capitals: Blocks,
    /// The path that came last, and the bytes of those in its block.
    last: Vec<u8>,
    block_bytes: usize,
}

/// A block as it is searched. Kept from one to the next, so that they cost no allocation.
#[derive(Default)]
pub(super) struct Text {
    /// The paths, one after the other, each with a `/` before it and an [`END`] behind; one more of these
    /// comes first.
    paths: Vec<u8>,
    /// The same, folded.
    pub(super) folded: Vec<u8>,
    /// Where each begins in both, with its `/`; and in the end, where the next would.
    starts: Vec<(u32, u32)>,
}

impl Text {
    /// How many paths there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The path in a slot.
    pub(super) fn path(&self, slot: usize) -> &str {
        let path = &self.paths[self.starts[slot].0 as usize + 1..self.starts[slot + 1].0 as usize - 1];
        str::from_utf8(path).unwrap_or_default()
    }

    /// Where the path in a slot stands in what is folded.
    pub(super) fn range(&self, slot: usize) -> Range<usize> {
        self.starts[slot].1 as usize + 1..self.starts[slot + 1].1 as usize - 1
    }

    /// That.
    pub(super) fn folded(&self, slot: usize) -> &str {
        str::from_utf8(&self.folded[self.range(slot)]).unwrap_or_default()
    }

    /// Which slot a place in what is folded belongs to.
    pub(super) fn slot(&self, at: usize) -> usize {
        self.starts.partition_point(|(_, start)| *start as usize <= at).saturating_sub(1)
    }

    fn clear(&mut self) {
        self.paths.clear();
        self.paths.push(END);
        self.starts.clear();
    }

    /// Adds a path: so many bytes of the one before, and others.
    fn push(&mut self, shared: usize, rest: &[u8]) {
        let before = self.starts.last().map_or(0, |(start, _)| *start as usize + 1);
        self.starts.push((self.paths.len() as u32, 0));
        self.paths.push(b'/');
        self.paths.extend_from_within(before..before + shared);
        self.paths.extend_from_slice(rest);
        self.paths.push(END);
    }

    /// Folds all that was added; not only the letters of ASCII, if there are other `capitals`.
    fn fold(&mut self, capitals: bool) {
        self.starts.push((self.paths.len() as u32, 0));
        self.folded.clear();
        if capitals {
            fold_into(&mut self.folded, str::from_utf8(&self.paths).unwrap_or_default());
        } else {
            self.folded.extend_from_slice(&self.paths);
            self.folded.make_ascii_lowercase();
        }
        let ends = memchr::memchr_iter(END, &self.folded);
        self.starts.iter_mut().zip(ends).for_each(|(start, end)| start.1 = end as u32 + 1);
    }
}

impl Segment {
    /// An empty one; `key` is for [`Grams::new`].
    pub(super) const fn new(key: u64) -> Self {
        Self {
            text: Vec::new(),
            runs: Vec::new(),
            names: Vec::new(),
            live: 0,
            grams: Grams::new(key),
            capitals: Blocks::NONE,
            last: Vec::new(),
            block_bytes: 0,
        }
    }

    /// Paths that are not gone.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Places that were given.
    pub(super) fn places(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, place: usize) -> Option<Handle<Name>> {
        *self.names.get(place)?
    }

    /// Appends a path, if there is room for one more; says in which place.
    pub(super) fn push(&mut self, name: Handle<Name>, path: &str, text: &mut Text) -> Option<usize> {
        if self.block_bytes >= BLOCK_BYTES {
            // A new block: its first run begins a row of runs.
            let places = self.names.len().next_multiple_of(BLOCK);
            self.names.resize(places, None);
            self.runs.resize(places / RUN, self.text.len() as u32);
        }
        let place = self.names.len();
        if place == BLOCK * BLOCKS {
            return None;
        }
        if place.is_multiple_of(BLOCK) {
            self.block_bytes = 0;
        }
        if place.is_multiple_of(RUN) {
            self.runs.push(self.text.len() as u32);
            self.last.clear();
        }
        let shared = alike(&self.last, path.as_bytes()).min(usize::from(u8::MAX));
        let rest = &path.as_bytes()[shared..];
        self.text.push(shared as u8);
        match u8::try_from(rest.len()) {
            Ok(short) if short < u8::MAX => self.text.push(short),
            _ => {
                self.text.push(u8::MAX);
                self.text.extend_from_slice(&(rest.len() as u16).to_be_bytes());
            }
        }
        self.text.extend_from_slice(rest);
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        self.block_bytes += path.len();
        self.names.push(Some(name));
        self.live += 1;
        text.clear();
        text.push(0, path.as_bytes());
        text.fold(true);
        let block = place / BLOCK;
        if !text.folded.eq_ignore_ascii_case(&text.paths) {
            self.capitals.insert(block);
        }
        grams(&text.folded).for_each(|gram| self.grams.add(gram, block));
        let file_name = text.folded.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        grams(&[&[FILE], file_name].concat()).take(1).for_each(|gram| self.grams.add(gram, block));
        Some(place)
    }

    /// Forgets whose a path was. Its bytes stay: those behind it begin as it does.
    pub(super) fn remove(&mut self, place: usize) {
        self.live -= usize::from(self.names[place].take().is_some());
    }

    /// Gives back what room is left, once no path comes any more.
    pub(super) fn close(&mut self) {
        self.text.shrink_to_fit();
        self.runs.shrink_to_fit();
        self.names.shrink_to_fit();
        self.grams.close();
        self.last = Vec::new();
    }

    /// Puts the path in a place into `path`.
    pub(super) fn path(&self, place: usize, path: &mut Vec<u8>) {
        let mut at = self.runs[place / RUN] as usize;
        path.clear();
        for _ in 0..=place % RUN {
            let (shared, rest, next) = self.next(at);
            path.truncate(shared);
            path.extend_from_slice(rest);
            at = next;
        }
    }

    /// How the path in a place stands to another. Of those before it in its run, it is only looked how far they are
    /// as the other, and how they go on: nothing is copied.
    pub(super) fn compare(&self, place: usize, other: &[u8]) -> Ordering {
        let mut at = self.runs[place / RUN] as usize;
        let (mut same, mut order) = (0, Ordering::Equal);
        for _ in 0..=place % RUN {
            let (shared, rest, next) = self.next(at);
            // With more than `same` of the path before it, it goes on as that one does.
            if shared <= same {
                let other = &other[shared..];
                let more = alike(rest, other);
                same = shared + more;
                order = rest.get(more).cmp(&other.get(more));
            }
            at = next;
        }
        order
    }

    /// Of the path at a place in the text: how many bytes it begins with as the one before, the others, and where
    /// the one behind it is.
    #[inline]
    fn next(&self, at: usize) -> (usize, &[u8], usize) {
        let (shared, mut len, mut start) = (self.text[at], usize::from(self.text[at + 1]), at + 2);
        if len == usize::from(u8::MAX) {
            len = usize::from(u16::from_be_bytes([self.text[start], self.text[start + 1]]));
            start += 2;
        }
        (shared.into(), &self.text[start..start + len], start + len)
    }

    /// Puts a block into `text`, if any of its paths is not gone.
    pub(super) fn block(&self, block: usize, text: &mut Text) -> bool {
        let first = block * BLOCK;
        if self.names[first..].iter().take(BLOCK).all(Option::is_none) {
            return false;
        }
        text.clear();
        let mut at = self.runs[first / RUN] as usize;
        // A block that ended early is followed by runs without paths.
        let end = self.runs.get((first + BLOCK) / RUN).map_or(self.text.len(), |end| *end as usize);
        while at < end {
            let (shared, rest, next) = self.next(at);
            text.push(shared, rest);
            at = next;
        }
        text.fold(self.capitals.has(block));
        true
    }

    /// The blocks there are.
    pub(super) fn blocks(&self) -> Blocks {
        Blocks::first(self.names.len().div_ceil(BLOCK))
    }

    /// Of some blocks, those that may hold a path that begins so, or its file's name: [`search::Pattern::beginnings`].
    pub(super) fn narrow_to_beginnings(&self, blocks: &mut Blocks, beginnings: &[String; 2]) {
        let [paths, file_names] = beginnings.each_ref().map(|beginning| {
            let mut those = *blocks;
            self.narrow(&mut those, beginning.as_bytes());
            those
        });
        *blocks = paths.or(&file_names);
    }

    /// Of some blocks, those that may hold a text, folded.
    pub(super) fn narrow(&self, blocks: &mut Blocks, text: &[u8]) {
        for gram in grams(text) {
            if blocks.is_empty() {
                return;
            }
            self.grams.narrow(blocks, gram);
        }
    }
}
