//! Finds the handle of what is equal to something, without keeping that: a hash table in many parts, each
//! of which grows and shrinks by itself, so that no insertion waits for the whole.

use hashbrown::HashTable;

use super::slab::Handle;

/// Parts; with a million names, one of them has 4,000 and grows in a moment.
const SHARDS: usize = 256;

pub(super) struct Shards<T> {
    /// None as long as nothing is in.
    shards: Vec<HashTable<Handle<T>>>,
    len: usize,
}

/// Where a hash belongs, by bits of it that the tables do not look at. The last shard gets twice as many as
/// the first, and those between in proportion: so they grow one after the other, and not all at once.
fn shard_of(hash: u64) -> usize {
    const BITS: u32 = 24;
    let part = f64::from((hash >> 32) as u32 & ((1 << BITS) - 1)) / f64::from(1 << BITS);
    ((1.0 + part).log2() * SHARDS as f64) as usize % SHARDS
}

impl<T> Shards<T> {
    pub(super) const fn new() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Handle<T>) -> bool) -> Option<Handle<T>> {
        self.shards.get(shard_of(hash))?.find(hash, |handle| is_it(*handle)).copied()
    }

    /// Adds one that is not there; `hash_of` tells the hashes of others, should they have to move.
    pub(super) fn insert(&mut self, hash: u64, handle: Handle<T>, hash_of: impl Fn(Handle<T>) -> u64) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashTable::new);
        }
        self.shards[shard_of(hash)].insert_unique(hash, handle, |handle| hash_of(*handle));
        self.len += 1;
    }

    /// Puts another in the place of one that is there, with the same hash.
    pub(super) fn replace(&mut self, hash: u64, old: Handle<T>, new: Handle<T>) {
        if let Some(handle) = self.shards[shard_of(hash)].find_mut(hash, |handle| *handle == old) {
            *handle = new;
        }
    }

    /// Takes one out that is there.
    pub(super) fn remove(&mut self, hash: u64, handle: Handle<T>, hash_of: impl Fn(Handle<T>) -> u64) {
        self.len -= 1;
        if self.len == 0 {
            self.shards = Vec::new();
            return;
        }
        let shard = &mut self.shards[shard_of(hash)];
        if let Ok(entry) = shard.find_entry(hash, |other| *other == handle) {
            entry.remove();
        }
        if shard.len() < shard.capacity() / 4 {
            shard.shrink_to(2 * shard.len(), |handle| hash_of(*handle));
        }
    }
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_set_is() {
        let mut dice = super::super::Dice(1);
        let (mut shards, mut model) = (Shards::<()>::new(), std::collections::BTreeSet::new());
        // Three hashes for all of a shard, and four shards.
        let hash = |number: usize| ((number as u64 % 4) << 54) | (number as u64 % 3);
        let hash_of = |handle: Handle<()>| hash(handle.place());
        for step in 0..20_000 {
            let number = dice.below(1000);
            let handle = Handle::at(number);
            assert_eq!(shards.find(hash(number), |other| other == handle).is_some(), model.contains(&number));
            if (step < 10_000) == (dice.below(4) > 0) {
                if model.insert(number) {
                    shards.insert(hash(number), handle, hash_of);
                }
            } else if model.remove(&number) {
                shards.remove(hash(number), handle, hash_of);
            }
        }
        for number in model {
            shards.remove(hash(number), Handle::at(number), hash_of);
        }
        assert!(shards.is_empty() && shards.shards.is_empty());
    }
}
