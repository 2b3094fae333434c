//! Every path in its place: in a segment, and from segments that hold little into another.

use std::{
    cmp::Ordering,
    hash::{BuildHasher, RandomState},
};

use super::{
    super::{
        files::Version,
        lists::List,
        slab::{Handle, Slab},
    },
    grams::BLOCKS,
    segment::{BLOCK, Segment, Text},
};

/// A path that some peer offers.
pub(in super::super) struct Name {
    pub(super) place: Place,
    /// What it names, ordered by content.
    pub(in super::super) versions: List<Version>,
}

/// Where a path stands: its segment, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place(pub(super) u32);

impl Place {
    /// Places in a segment.
    const COUNT: usize = BLOCK * BLOCKS;

    pub(super) fn new(segment: usize, place: usize) -> Self {
        Self((segment * Self::COUNT + place) as u32)
    }

    pub(super) fn segment(self) -> usize {
        self.0 as usize / Self::COUNT
    }

    pub(super) fn place(self) -> usize {
        self.0 as usize % Self::COUNT
    }
}

pub(super) struct Paths {
    names: Slab<Name>,
    /// Paths are added to the newest one only.
    segments: Vec<Option<Segment>>,
    newest: usize,
    /// Segments with more places than paths, to be emptied into the newest one; up to which place the last of
    /// them has been.
    thin: Vec<usize>,
    moved: usize,
    /// Bytes in all paths.
    bytes: usize,
    hasher: RandomState,
    text: Text,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self {
            names: Slab::new(),
            segments: Vec::new(),
            newest: 0,
            thin: Vec::new(),
            moved: 0,
            bytes: 0,
            hasher: RandomState::new(),
            text: Text::default(),
        }
    }

    pub(super) fn name(&self, name: Handle<Name>) -> &Name {
        &self.names[name]
    }

    pub(super) fn name_mut(&mut self, name: Handle<Name>) -> &mut Name {
        &mut self.names[name]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All segments by their numbers; none where there is none.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Option<Segment>> {
        self.segments.iter()
    }

    pub(super) fn path(&self, name: Handle<Name>) -> String {
        // Most paths fit, and it does not grow as it is put together.
        let mut path = Vec::with_capacity(96);
        self.put(name, &mut path);
        String::from_utf8(path).unwrap_or_default()
    }

    /// Makes `path` the path of a name.
    pub(super) fn put(&self, name: Handle<Name>, path: &mut Vec<u8>) {
        let place = self.names[name].place;
        if let Some(segment) = &self.segments[place.segment()] {
            segment.path(place.place(), path);
        }
    }

    /// How the paths of names stand to this one.
    pub(super) fn compare(&self, path: &str) -> impl Fn(Handle<Name>) -> Ordering {
        move |name| {
            let place = self.names[name].place;
            let segment = self.segments[place.segment()].as_ref();
            segment.map_or(Ordering::Less, |segment| segment.compare(place.place(), path.as_bytes()))
        }
    }

    pub(super) fn hash(&self, path: &str) -> u64 {
        self.hasher.hash_one(path.as_bytes())
    }

    pub(super) fn hash_of(&self, name: Handle<Name>) -> u64 {
        let mut path = Vec::new();
        self.put(name, &mut path);
        self.hasher.hash_one(path.as_slice())
    }

    pub(super) fn add(&mut self, path: &str) -> Handle<Name> {
        let name = self.names.insert(Name { place: Place(0), versions: List::EMPTY });
        self.names[name].place = self.push(name, path);
        self.bytes += path.len();
        name
    }

    /// Forgets a name, whose path is so many bytes long.
    pub(super) fn remove(&mut self, name: Handle<Name>, bytes: usize) {
        self.bytes -= bytes;
        let Name { place, .. } = self.names.remove(name);
        self.vacate(place);
        if self.names.len() == 0 {
            *self = Self::new();
        }
    }

    /// Empties segments that hold little, `count` paths at most; whether there is more to do.
    pub(super) fn tidy(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(&number) = self.thin.last() else { return false };
            let place = Place::new(number, self.moved);
            self.moved += 1;
            let name = match &self.segments[number] {
                Some(segment) if place.place() < segment.places() && place.segment() == number => {
                    segment.name(place.place())
                }
                _ => {
                    self.thin.pop();
                    self.moved = 0;
                    continue;
                }
            };
            if let Some(name) = name {
                let path = self.path(name);
                self.names[name].place = self.push(name, &path);
                self.vacate(place);
            }
        }
        !self.thin.is_empty()
    }

    /// Gives a path a place.
    fn push(&mut self, name: Handle<Name>, path: &str) -> Place {
        loop {
            if let Some(Some(segment)) = self.segments.get_mut(self.newest) {
                if let Some(place) = segment.push(name, path, &mut self.text) {
                    return Place::new(self.newest, place);
                }
                segment.close();
                let full = self.newest;
                self.newest = self.segments.len();
                self.look_after(full);
            }
            let key = self.hasher.hash_one(self.newest);
            let free = self.segments.iter().position(Option::is_none);
            self.newest = free.unwrap_or_else(|| {
                self.segments.push(None);
                self.segments.len() - 1
            });
            self.segments[self.newest] = Some(Segment::new(key));
        }
    }

    /// Takes a path out of its place.
    fn vacate(&mut self, place: Place) {
        if let Some(segment) = &mut self.segments[place.segment()] {
            segment.remove(place.place());
        }
        self.look_after(place.segment());
    }

    /// Drops a segment that holds nothing, and marks one that holds little.
    fn look_after(&mut self, number: usize) {
        let Some(segment) = self.segments[number].as_ref().filter(|_| number != self.newest) else { return };
        if segment.live() == 0 {
            self.segments[number] = None;
            if self.thin.last() == Some(&number) {
                self.moved = 0;
            }
            self.thin.retain(|thin| *thin != number);
        } else if segment.live() < segment.places() / 2 && !self.thin.contains(&number) {
            self.thin.insert(0, number);
        }
    }
}
