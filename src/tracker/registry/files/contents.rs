//! Contents by id: one of each, and where somebody lies about its size, others beside it. With these nothing is
//! looked through one by one: a crowd of liars costs the honest no more than a few do.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    ops::{Index, IndexMut},
};

use super::{
    super::{
        Content,
        dice::Dice,
        shards::Shards,
        slab::{Handle, Slab},
    },
    Inventory, Tally, Version,
};
use crate::{content::ContentId, limits};

/// A content that some peer holds.
pub(in super::super) struct Held {
    pub(super) content: Content,
    /// Its version, as long as it has only one.
    pub(super) only: Handle<Version>,
    /// With two or more: who holds it at all.
    pub(super) tally: Option<Handle<Tally>>,
}

pub(super) struct Contents {
    held: Slab<Held>,
    /// The first of each id's.
    by_id: Shards<Held>,
    /// The others of an id, by size.
    others: BTreeMap<ContentId, Vec<Handle<Held>>>,
    /// Who holds one of the others: of each id one at most.
    claims: BTreeMap<(ContentId, Handle<Inventory>), Handle<Held>>,
    hasher: RandomState,
}

impl Index<Handle<Held>> for Contents {
    type Output = Held;

    #[inline]
    fn index(&self, held: Handle<Held>) -> &Held {
        &self.held[held]
    }
}

impl IndexMut<Handle<Held>> for Contents {
    fn index_mut(&mut self, held: Handle<Held>) -> &mut Held {
        &mut self.held[held]
    }
}

impl Contents {
    pub(super) fn new() -> Self {
        Self {
            held: Slab::new(),
            by_id: Shards::new(),
            others: BTreeMap::new(),
            claims: BTreeMap::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The first one of an id.
    pub(super) fn first(&self, id: ContentId) -> Option<Handle<Held>> {
        self.by_id.find(self.hasher.hash_one(id), |held| self.held[held].content.id == id)
    }

    /// Whether it is the first of its id, and not among the others.
    pub(super) fn is_first(&self, held: Handle<Held>) -> bool {
        // Where nobody lies, all are: this is not kept with each of a million.
        self.others.is_empty() || self.first(self.held[held].content.id) == Some(held)
    }

    pub(super) fn find(&self, content: Content) -> Option<Handle<Held>> {
        let first = self.first(content.id)?;
        if self.held[first].content == content {
            return Some(first);
        }
        let others = self.others.get(&content.id)?;
        self.place_among(others, content.size).ok().map(|at| others[at])
    }

    fn place_among(&self, others: &[Handle<Held>], size: u64) -> Result<usize, usize> {
        others.binary_search_by_key(&size, |other| self.held[*other].content.size)
    }

    /// Those of an id: the first, and of the others as many as chance picks, [`limits::SIZES_SEEN`] together.
    pub(super) fn some(&self, id: ContentId, dice: u64) -> impl Iterator<Item = Handle<Held>> {
        let others = self.others.get(&id).map_or(&[][..], Vec::as_slice);
        let picked = Dice(dice).picks(others.len()).map(|at| others[at]);
        self.first(id).into_iter().chain(picked).take(limits::SIZES_SEEN)
    }

    /// Adds one that is not there, with its only version.
    pub(super) fn insert(&mut self, content: Content, version: Handle<Version>) -> Handle<Held> {
        let is_first = self.first(content.id).is_none();
        let held = self.held.insert(Held { content, only: version, tally: None });
        if is_first {
            let hash_of = |held| self.hasher.hash_one(self.held[held].content.id);
            self.by_id.insert(self.hasher.hash_one(content.id), held, hash_of);
        } else {
            let mut others = self.others.remove(&content.id).unwrap_or_default();
            if let Err(at) = self.place_among(&others, content.size) {
                others.insert(at, held);
            }
            self.others.insert(content.id, others);
        }
        held
    }

    /// Takes out one that nobody holds; the one that is the first of its id in its place, whose holders then
    /// [`give up`](Self::give_up) their claims.
    pub(super) fn remove(&mut self, held: Handle<Held>) -> Option<Handle<Held>> {
        let (Content { id, size }, is_first) = (self.held[held].content, self.is_first(held));
        let mut others = self.others.remove(&id).unwrap_or_default();
        let mut heir = None;
        if is_first && others.is_empty() {
            let hash_of = |held| self.hasher.hash_one(self.held[held].content.id);
            self.by_id.remove(self.hasher.hash_one(id), held, hash_of);
        } else if is_first {
            let next = others.remove(0);
            self.by_id.replace(self.hasher.hash_one(id), held, next);
            heir = Some(next);
        } else if let Ok(at) = self.place_among(&others, size) {
            others.remove(at);
        }
        if !others.is_empty() {
            self.others.insert(id, others);
        }
        self.held.remove(held);
        heir
    }

    /// Notes that a peer holds one of the others.
    pub(super) fn claim(&mut self, inventory: Handle<Inventory>, held: Handle<Held>) {
        self.claims.insert((self.held[held].content.id, inventory), held);
    }

    /// Notes that a peer holds none of them any more, or that what it holds is the first now.
    pub(super) fn give_up(&mut self, inventory: Handle<Inventory>, id: ContentId) {
        self.claims.remove(&(id, inventory));
    }

    /// Which of the others a peer holds.
    pub(super) fn claim_of(&self, inventory: Handle<Inventory>, id: ContentId) -> Option<Handle<Held>> {
        self.claims.get(&(id, inventory)).copied()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.held.len() + self.others.len() + self.claims.len() == 0 && self.by_id.is_empty()
    }
}
