//! Which pieces a seed has given to whom lately: to nobody, if it can be helped. What limits a flash crowd
//! is the one seed's uplink, so it gives every piece once before it gives any twice. Pure.

use std::{collections::HashMap, ops::Range, time::Duration};

use crate::{content::ContentId, limits};

/// The pieces given out of the contents that were lately asked for.
#[derive(Default)]
pub struct Fresh {
    books: HashMap<ContentId, Book>,
}

struct Book {
    /// When each piece was last given; none for a fresh one.
    given: Vec<Option<Duration>>,
    /// When it was last asked.
    asked: Duration,
}

impl Fresh {
    /// Gives pieces of `content`, cut into `count`, out of one of the runs that somebody lacks: adjacent
    /// ones that nobody was given yet, as many as there are. A piece that is lacking long after it was
    /// given did not spread: its receiver may be gone, and it is fresh again. None where all of them were
    /// given lately. A run does not reach beyond `count`.
    pub fn give(
        &mut self,
        content: &ContentId,
        count: usize,
        runs: &[Range<usize>],
        now: Duration,
    ) -> Option<Range<usize>> {
        let book = self.book(content, count, now);
        let never = |given: &Option<Duration>| given.is_none();
        let not_lately = |given: &Option<Duration>| given.is_none_or(|given| given + limits::FRESH_TIME <= now);
        let run = book.longest(runs, never).or_else(|| book.longest(runs, not_lately))?;
        book.given[run.clone()].fill(Some(now));
        Some(run)
    }

    /// Takes note of pieces that somebody has asked for by their numbers.
    pub fn note(&mut self, content: &ContentId, count: usize, run: Range<usize>, now: Duration) {
        self.book(content, count, now).given[run].fill(Some(now));
    }

    /// Takes back pieces that did not arrive.
    pub fn take_back(&mut self, content: &ContentId, run: Range<usize>) {
        if let Some(book) = self.books.get_mut(content) {
            book.given[run].fill(None);
        }
    }

    fn book(&mut self, content: &ContentId, count: usize, now: Duration) -> &mut Book {
        if !self.books.contains_key(content) && self.books.len() == limits::FRESH_CONTENTS {
            let oldest = self.books.iter().min_by_key(|(_, book)| book.asked).map(|(content, _)| *content);
            oldest.and_then(|oldest| self.books.remove(&oldest));
        }
        let book = self.books.entry(*content).or_insert_with(|| Book { given: vec![None; count], asked: now });
        book.asked = now;
        book
    }
}

impl Book {
    /// The longest stretch of pieces as asked for in any of `runs`; the first of several.
    fn longest(&self, runs: &[Range<usize>], is_good: impl Fn(&Option<Duration>) -> bool) -> Option<Range<usize>> {
        let stretch = |run: &Range<usize>| {
            let start = run.start + self.given[run.clone()].iter().position(&is_good)?;
            let length = self.given[start..run.end].iter().take_while(|given| is_good(given)).count();
            Some(start..start + length)
        };
        runs.iter().rev().filter_map(stretch).max_by_key(Range::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn every_piece_is_given_once_and_again_only_when_it_came_back() {
        let id = ContentId::of(b"x");
        let mut fresh = Fresh::default();
        let all = [0..3, 4..10, 3..4];
        assert_eq!(fresh.give(&id, 10, &all, NOW), Some(4..10));
        assert_eq!(fresh.give(&id, 10, &[4..9, 2..3], NOW), Some(2..3));
        assert_eq!(fresh.give(&id, 10, &all, NOW), Some(0..2));
        assert_eq!(fresh.give(&id, 10, &all, NOW), Some(3..4));
        assert_eq!(fresh.give(&id, 10, &all, NOW), None);
        fresh.take_back(&id, 5..6);
        assert_eq!(fresh.give(&id, 10, &all, NOW), Some(5..6));
        assert_eq!(fresh.give(&id, 10, &all, NOW), None);
    }

    #[test]
    fn what_somebody_lacks_long_after_it_was_given_is_given_again_when_nothing_else_is_left() {
        let id = ContentId::of(b"x");
        let mut fresh = Fresh::default();
        fresh.note(&id, 4, 0..3, NOW);
        let later = NOW + limits::FRESH_TIME;
        let runs = [0..4, 1..2];
        assert_eq!(fresh.give(&id, 4, &runs, NOW), Some(3..4));
        assert_eq!(fresh.give(&id, 4, &runs, later), Some(0..4));
        fresh.take_back(&id, 1..2);
        assert_eq!(fresh.give(&id, 4, &runs, later), Some(1..2));
    }

    #[test]
    fn contents_asked_for_cost_no_more_than_the_limit() {
        let mut fresh = Fresh::default();
        for n in 0..1000_u32 {
            fresh.note(&ContentId::of(&n.to_le_bytes()), 1, 0..1, Duration::from_millis(n.into()));
        }
        assert_eq!(fresh.books.len(), limits::FRESH_CONTENTS);
        assert!(fresh.books.contains_key(&ContentId::of(&999_u32.to_le_bytes())));
    }
}
