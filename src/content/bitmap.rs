//! Sets of pieces.

use std::ops::Range;

/// A set of piece numbers below a count; 64 to a word, for those who go through many.
pub struct Bitmap {
    words: Vec<u64>,
    count: usize,
}

impl Bitmap {
    /// None of `count` pieces.
    pub fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)], count }
    }

    /// The pieces of these words, of `count` in all; a word holds 64, its lowest bit the first.
    pub fn of_words(words: impl Iterator<Item = u64>, count: usize) -> Self {
        let mut bitmap = Self { words: words.take(count.div_ceil(64)).collect(), count };
        bitmap.words.resize(count.div_ceil(64), 0);
        if let Some(last) = bitmap.words.len().checked_sub(1) {
            bitmap.words[last] &= bitmap.mask(last);
        }
        bitmap
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many pieces there could be.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a piece is there.
    pub fn get(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// Puts a piece in; true when it was not there.
    pub fn set(&mut self, at: usize) -> bool {
        let is_new = !self.get(at);
        self.words[at / 64] |= 1 << (at % 64);
        is_new
    }

    /// Puts a run of pieces in.
    pub fn extend(&mut self, pieces: Range<usize>) {
        for at in pieces {
            self.set(at);
        }
    }

    /// Takes a piece out.
    pub fn clear(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
    }

    /// The bits of a word that stand for pieces: not all of them in the last one.
    pub fn mask(&self, word: usize) -> u64 {
        match self.count - word * 64 {
            rest @ 0..64 => (1 << rest) - 1,
            _ => u64::MAX,
        }
    }

    /// The first from `at` on that is there.
    pub fn next(&self, at: usize) -> Option<usize> {
        let rest = self.words.get(at / 64)? >> (at % 64);
        if rest != 0 {
            return Some(at + rest.trailing_zeros() as usize);
        }
        let (word, bits) = self.words.iter().enumerate().skip(at / 64 + 1).find(|(_, bits)| **bits != 0)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Those that are there.
    pub fn ones(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.next(0), |at| self.next(at + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_there_until_it_is_taken_out() {
        for count in [0, 1, 63, 64, 65, 200] {
            let mut bitmap = Bitmap::new(count);
            let odd: Vec<_> = (0..count).filter(|at| at % 3 == 1).collect();
            odd.iter().for_each(|&at| assert!(bitmap.set(at) && !bitmap.set(at)));
            assert_eq!(bitmap.ones().collect::<Vec<_>>(), odd);
            assert!((0..count).all(|at| bitmap.get(at) == (at % 3 == 1)));
            let all = Bitmap::of_words(std::iter::repeat(u64::MAX), count);
            assert_eq!((all.ones().count(), all.count()), (count, count));
            odd.iter().for_each(|&at| bitmap.clear(at));
            assert_eq!(bitmap.next(0), None);
        }
    }
}
