//! Which blocks of a segment hold which three bytes in a row.

use hashbrown::HashTable;

/// Blocks in a segment.
pub(super) const BLOCKS: usize = 1024;

/// A set of a segment's blocks.
#[derive(Clone, Copy)]
pub(super) struct Blocks([u64; BLOCKS / 64]);

impl Blocks {
    pub(super) const NONE: Self = Self([0; BLOCKS / 64]);

    /// The first so many.
    pub(super) fn first(count: usize) -> Self {
        let word = |at: usize| match count.saturating_sub(at * 64) {
            0 => 0,
            bits @ 1..64 => (1 << bits) - 1,
            _ => u64::MAX,
        };
        Self(std::array::from_fn(word))
    }

    pub(super) fn insert(&mut self, block: usize) {
        self.0[block / 64] |= 1 << (block % 64);
    }

    /// Those and others.
    pub(super) fn or(mut self, others: &Self) -> Self {
        self.0.iter_mut().zip(others.0).for_each(|(word, other)| *word |= other);
        self
    }

    pub(super) fn has(&self, block: usize) -> bool {
        self.0[block / 64] >> (block % 64) & 1 == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The first one from a block on.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut word = *self.0.get(from / 64)? & (u64::MAX << (from % 64));
        let mut at = from / 64;
        while word == 0 {
            at += 1;
            word = *self.0.get(at)?;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}

/// The three bytes in a row of a text, as numbers of 24 bits.
pub(super) fn grams(text: &[u8]) -> impl Iterator<Item = u32> {
    text.windows(3).map(|three| u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]))
}

/// The lists of blocks by gram. Blocks come in ascending order, so that each list is appended to.
pub(super) struct Grams {
    table: HashTable<Gram>,
    /// Lists of 16-bit block numbers, in places of the sizes of [`SIZES`].
    pool: Vec<u16>,
    /// Places that lists have grown out of.
    free: [Vec<u32>; SIZES.len()],
    /// What hides from strangers how grams hash.
    key: u64,
}

/// A gram and its list.
struct Gram {
    /// The gram, which size its list's place has, and how many blocks there are in it less one: 24, 3 and 5
    /// bits.
    head: u32,
    /// Where the place is. Of size 0, the two blocks themselves.
    at: u32,
}

/// What places hold. The last is a bitmap of all blocks, which takes no more.
const SIZES: [usize; 6] = [2, 4, 8, 16, 32, BLOCKS / 16];
const BITMAP: usize = SIZES.len() - 1;

impl Gram {
    fn gram(&self) -> u32 {
        self.head >> 8
    }

    fn size(&self) -> usize {
        (self.head >> 5 & 7) as usize
    }

    fn len(&self) -> usize {
        (self.head & 31) as usize + 1
    }

    fn set(&mut self, size: usize, len: usize, at: u32) {
        self.head = self.head & !255 | (size as u32) << 5 | (len as u32 - 1) & 31;
        self.at = at;
    }
}

fn hash(key: u64, gram: u32) -> u64 {
    let product = u128::from(u64::from(gram) ^ key) * u128::from(key | 1);
    (product >> 64) as u64 ^ product as u64
}

impl Grams {
    /// None yet; `key` is any number that strangers do not know.
    pub(super) const fn new(key: u64) -> Self {
        Self { table: HashTable::new(), pool: Vec::new(), free: [const { Vec::new() }; SIZES.len()], key }
    }

    /// Notes that a block, and none that was noted before is behind it, holds a gram.
    pub(super) fn add(&mut self, gram: u32, block: usize) {
        let (Self { table, pool, free, key }, block) = (self, block as u16);
        let entry = table.entry(hash(*key, gram), |other| other.gram() == gram, |other| hash(*key, other.gram()));
        let mut entry = match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => entry,
            hashbrown::hash_table::Entry::Vacant(entry) => {
                entry.insert(Gram { head: gram << 8, at: block.into() });
                return;
            }
        };
        let entry = entry.get_mut();
        let (size, len, at) = (entry.size(), entry.len(), entry.at as usize);
        match size {
            BITMAP => pool[at + usize::from(block / 16)] |= 1 << (block % 16),
            0 if len == 1 => {
                if at as u16 != block {
                    entry.set(0, 2, entry.at | u32::from(block) << 16);
                }
            }
            _ => {
                let few = [entry.at as u16, (entry.at >> 16) as u16];
                let list = if size == 0 { &few[..] } else { &pool[at..at + len] };
                if list[len - 1] == block {
                    return;
                }
                if len < SIZES[size] {
                    pool[at + len] = block;
                    return entry.set(size, len + 1, entry.at);
                }
                let list = [list, &[block]].concat();
                if size > 0 {
                    free[size].push(entry.at);
                }
                let size = size + 1;
                let place = free[size].pop().unwrap_or_else(|| {
                    pool.resize(pool.len() + SIZES[size], 0);
                    (pool.len() - SIZES[size]) as u32
                });
                let into = &mut pool[place as usize..][..SIZES[size]];
                if size == BITMAP {
                    into.fill(0);
                    list.iter().for_each(|block| into[usize::from(block / 16)] |= 1 << (block % 16));
                } else {
                    into[..list.len()].copy_from_slice(&list);
                }
                entry.set(size, list.len().min(SIZES[size]), place);
            }
        }
    }

    /// Of some blocks, those that hold a gram.
    pub(super) fn narrow(&self, blocks: &mut Blocks, gram: u32) {
        let Some(entry) = self.table.find(hash(self.key, gram), |other| other.gram() == gram) else {
            *blocks = Blocks::NONE;
            return;
        };
        let (size, len, at) = (entry.size(), entry.len(), entry.at as usize);
        if size == BITMAP {
            for (word, four) in blocks.0.iter_mut().zip(self.pool[at..].chunks_exact(4)) {
                *word &= four.iter().rev().fold(0, |word, sixteen| word << 16 | u64::from(*sixteen));
            }
            return;
        }
        let few = [entry.at as u16, (entry.at >> 16) as u16];
        let list = if size == 0 { &few[..len] } else { &self.pool[at..at + len] };
        let mut narrowed = Blocks::NONE;
        list.iter()
            .map(|block| usize::from(*block))
            .filter(|block| blocks.has(*block))
            .for_each(|block| narrowed.insert(block));
        *blocks = narrowed;
    }

    /// Gives back what room is left, once no block comes any more.
    pub(super) fn close(&mut self) {
        self.free = [const { Vec::new() }; SIZES.len()];
        self.pool.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn each_gram_has_the_blocks_it_was_added_for() {
        let mut dice = super::super::super::Dice(1);
        let (mut lists, mut model) = (Grams::new(7), BTreeMap::<u32, BTreeSet<usize>>::new());
        for block in 0..BLOCKS {
            for _ in 0..40 {
                // Some are in half of the blocks, and most in one.
                let gram =
                    if dice.below(20) == 0 { dice.below(100_000) } else { (1 << dice.below(16)) + dice.below(3) };
                let gram = gram as u32;
                lists.add(gram, block);
                model.entry(gram).or_default().insert(block);
            }
            if block == BLOCKS / 2 {
                lists.close();
            }
        }
        assert!(model.values().any(|blocks| blocks.len() == 1) && model.values().any(|blocks| blocks.len() > 500));
        for from in [Blocks::first(BLOCKS), Blocks::first(100)] {
            for gram in 0..100_000 {
                let mut blocks = from;
                lists.narrow(&mut blocks, gram);
                let expected = model.get(&gram).into_iter().flatten().copied().filter(|block| from.has(*block));
                let expected: Vec<_> = expected.collect();
                let mut next = 0;
                let found = std::iter::from_fn(|| {
                    let block = blocks.next(next)?;
                    next = block + 1;
                    Some(block)
                });
                assert_eq!(found.collect::<Vec<_>>(), expected, "{gram}");
                assert_eq!((blocks.len(), blocks.is_empty()), (expected.len(), expected.is_empty()));
            }
        }
    }

    #[test]
    fn grams_are_all_the_threes() {
        assert_eq!(grams(b"abcd").collect::<Vec<_>>(), [0x0061_6263, 0x0062_6364]);
        assert_eq!(grams(b"ab").count(), 0);
    }
}
