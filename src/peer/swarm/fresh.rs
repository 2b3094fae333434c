//! Which pieces a seed has given to nobody yet. What limits a flash crowd is the one seed's uplink,
//! so it gives every piece once before it gives any twice. Pure.

use std::{collections::HashMap, ops::Range, time::Duration};

use crate::{
    content::{ContentId, Pieces},
    limits,
};

/// The fresh pieces of the contents that were lately asked for.
#[derive(Default)]
pub struct Fresh {
    books: HashMap<ContentId, Book>,
}

struct Book {
    is_fresh: Vec<bool>,
    left: usize,
    /// When it was last asked.
    asked: Duration,
}

impl Fresh {
    /// Gives out at most `most` adjacent pieces of `content` that nobody was given yet; none when all
    /// are out. `random` is any number, and settles which. When nobody has asked for long, those who
    /// were given pieces may be gone, and all are fresh again.
    pub fn give(
        &mut self,
        content: &ContentId,
        pieces: &Pieces,
        most: usize,
        now: Duration,
        random: u64,
    ) -> Option<Range<usize>> {
        if !self.books.contains_key(content) && self.books.len() == limits::FRESH_CONTENTS {
            let oldest = self.books.iter().min_by_key(|(_, book)| book.asked).map(|(content, _)| *content);
            oldest.and_then(|oldest| self.books.remove(&oldest));
        }
        let count = pieces.count();
        let new = || Book { is_fresh: vec![true; count], left: count, asked: now };
        let book = self.books.entry(*content).or_insert_with(new);
        if now.saturating_sub(book.asked) > limits::FRESH_MEMORY {
            *book = new();
        }
        book.asked = now;
        let nth = (random % book.left.max(1) as u64) as usize;
        let (first, _) = book.is_fresh.iter().enumerate().filter(|(_, is_fresh)| **is_fresh).nth(nth)?;
        let run = book.is_fresh[first..].iter().take(most.max(1)).take_while(|is_fresh| **is_fresh).count();
        book.is_fresh[first..first + run].fill(false);
        book.left -= run;
        Some(first..first + run)
    }

    /// Takes back pieces that did not arrive.
    pub fn take_back(&mut self, content: &ContentId, pieces: Range<usize>) {
        if let Some(book) = self.books.get_mut(content) {
            for is_fresh in &mut book.is_fresh[pieces] {
                book.left += usize::from(!std::mem::replace(is_fresh, true));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn every_piece_is_given_once_and_again_only_when_it_came_back() {
        let pieces = Pieces::of(10 << 15).unwrap();
        let id = ContentId::of(b"x");
        let mut fresh = Fresh::default();
        let mut given: Vec<_> = (0..8).map(|n| fresh.give(&id, &pieces, 1, NOW, n * 7).unwrap().start).collect();
        while let Some(run) = fresh.give(&id, &pieces, 2, NOW, 0) {
            given.extend(run);
        }
        fresh.take_back(&id, 3..4);
        fresh.take_back(&id, 3..4);
        assert_eq!(fresh.give(&id, &pieces, 5, NOW, 9), Some(3..4));
        assert_eq!(fresh.give(&id, &pieces, 5, NOW, 9), None);
        given.sort();
        assert_eq!(given, (0..10).collect::<Vec<_>>());
        assert_eq!(fresh.give(&id, &pieces, 20, NOW + limits::FRESH_MEMORY * 2, 0), Some(0..10));
    }

    #[test]
    fn contents_asked_for_cost_no_more_than_the_limit() {
        let mut fresh = Fresh::default();
        let pieces = Pieces::of(1).unwrap();
        for n in 0..1000_u32 {
            let id = ContentId::of(&n.to_le_bytes());
            assert!(fresh.give(&id, &pieces, 1, Duration::from_millis(n.into()), 0).is_some());
        }
        assert_eq!(fresh.books.len(), limits::FRESH_CONTENTS);
        assert!(fresh.books.contains_key(&ContentId::of(&999_u32.to_le_bytes())));
    }
}
