//! Which pieces a seed has given to nobody yet. What limits a flash crowd is the one seed's uplink,
//! so it gives every piece once before it gives any twice. Pure.

use std::collections::{HashMap, VecDeque};

use crate::{
    content::{ContentId, PieceIndex, Pieces},
    limits,
};

/// The fresh pieces of the contents that were lately asked for.
#[derive(Default)]
pub struct Fresh {
    books: HashMap<ContentId, Vec<PieceIndex>>,
    /// Contents in the order in which they were first asked for.
    order: VecDeque<ContentId>,
}

impl Fresh {
    /// Gives out a piece of `content` that nobody was given yet; none when all are out. `random`
    /// is any number; it settles which.
    pub fn give(&mut self, content: &ContentId, pieces: &Pieces, random: u64) -> Option<PieceIndex> {
        if !self.books.contains_key(content) {
            if self.order.len() == limits::FRESH_CONTENTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.books.remove(&oldest);
            }
            self.order.push_back(*content);
        }
        let left = self.books.entry(*content).or_insert_with(|| pieces.all().collect());
        if left.is_empty() {
            return None;
        }
        let at = (random % left.len() as u64) as usize;
        Some(left.swap_remove(at))
    }

    /// Takes back a piece that did not arrive.
    pub fn take_back(&mut self, content: &ContentId, piece: PieceIndex) {
        if let Some(left) = self.books.get_mut(content)
            && !left.contains(&piece)
        {
            left.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_given_once_and_again_only_when_it_came_back() {
        let pieces = Pieces::of(10 << 15).unwrap();
        let id = ContentId::of(b"x");
        let mut fresh = Fresh::default();
        let mut given: Vec<_> = (0..10).map(|n| fresh.give(&id, &pieces, n * 7).unwrap()).collect();
        assert_eq!(fresh.give(&id, &pieces, 0), None);
        fresh.take_back(&id, given[3]);
        fresh.take_back(&id, given[3]);
        assert_eq!((fresh.give(&id, &pieces, 9), fresh.give(&id, &pieces, 9)), (Some(given[3]), None));
        given.sort();
        assert_eq!(given, pieces.all().collect::<Vec<_>>());
    }

    #[test]
    fn contents_asked_for_cost_no_more_than_the_limit() {
        let mut fresh = Fresh::default();
        let pieces = Pieces::of(1).unwrap();
        for n in 0..1000_u32 {
            assert!(fresh.give(&ContentId::of(&n.to_le_bytes()), &pieces, 0).is_some());
        }
        assert_eq!((fresh.books.len(), fresh.order.len()), (limits::FRESH_CONTENTS, limits::FRESH_CONTENTS));
    }
}
