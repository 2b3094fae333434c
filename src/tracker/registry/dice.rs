//! Chance, out of a number that is passed in.

use std::collections::BTreeMap;

/// So many numbers are shuffled where they stand: a content seldom has more holders.
const FEW: usize = 64;

/// SplitMix64: one word of state, and good enough to spread load.
pub(in crate::tracker) struct Dice(pub(in crate::tracker) u64);

impl Dice {
    pub(in crate::tracker) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(in crate::tracker) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    /// The numbers below `end`, each once, in random order. Each costs when it is taken, and the rest nothing.
    pub(in crate::tracker) fn picks(mut self, end: usize) -> impl Iterator<Item = usize> {
        // Fisher and Yates's shuffle. Few numbers are there; of a longer list, which is not, are noted only the places
        // that no longer hold their own number.
        let mut few: [u8; FEW] = std::array::from_fn(|at| at as u8);
        let mut moved = BTreeMap::new();
        (0..end).map(move |first| {
            let at = first + self.below(end - first);
            if end <= FEW {
                few.swap(first, at);
                return few[first].into();
            }
            let of_first = moved.remove(&first).unwrap_or(first);
            if at == first { of_first } else { moved.insert(at, of_first).unwrap_or(at) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_picked_once_and_each_as_often_first() {
        for end in [0, 1, 2, 7, FEW, FEW + 1, 200] {
            let mut all: Vec<_> = Dice(end as u64).picks(end).collect();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..end));
        }
        let mut firsts = [[0; 5]; 2];
        for seed in 0..5000 {
            let mut picks = Dice(seed).picks(5);
            firsts.iter_mut().for_each(|counts| counts[picks.next().unwrap()] += 1);
        }
        assert!(firsts.as_flattened().iter().all(|count| (900..1100).contains(count)), "{firsts:?}");
        // Of very many, some are as cheap as of few.
        assert_eq!(Dice(1).picks(usize::MAX).take(100).collect::<std::collections::BTreeSet<_>>().len(), 100);
    }
}
