//! Which pieces a download brings in from outside its zone, and when: bytes within a zone are cheaper, so
//! each piece should be brought in by one of the zone's members, and spread inside. Pure.
//!
//! Who that one is, the members compute alike: each piece puts them in an order of its own, and the first
//! brings it in. Whoever comes behind others does so only while nothing else comes, and waits a turn for
//! each of them, in case they are gone or see nobody who has it.

use std::{collections::BTreeMap, time::Duration};

use crate::{content::Bitmap, limits};

/// The number of a source in a plan.
pub type SourceId = usize;

/// Where a source is, and what its peer's name makes of it.
#[derive(Clone, Copy, Default)]
pub struct Whence {
    /// In another zone.
    pub is_far: bool,
    /// A number that all peers compute alike of its id.
    pub tag: u64,
}

/// The border of the own zone, as one download sees it.
pub(super) struct Border {
    /// The own tag.
    tag: u64,
    /// The others inside that download it too, and their tags.
    inside: BTreeMap<SourceId, u64>,
    /// How many of these stand before the own peer in the order of a piece.
    before: Vec<u8>,
    /// When a piece was first seen outside, in milliseconds; none yet when it was not.
    seen: Vec<u32>,
    /// When somebody inside last brought something.
    heard_inside: Duration,
}

impl Border {
    pub(super) fn new(count: usize, tag: u64) -> Self {
        let (before, seen) = (vec![0; count], vec![u32::MAX; count]);
        Self { tag, inside: BTreeMap::new(), before, seen, heard_inside: Duration::ZERO }
    }

    /// Takes up one inside that downloads it too.
    pub(super) fn add(&mut self, source: SourceId, tag: u64) {
        self.inside.insert(source, tag);
        self.order();
    }

    /// Such a one is gone, or holds everything.
    pub(super) fn remove(&mut self, source: SourceId) {
        if self.inside.remove(&source).is_some() {
            self.order();
        }
    }

    /// Whether nobody else inside downloads it.
    pub(super) fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }

    fn order(&mut self) {
        for (piece, before) in self.before.iter_mut().enumerate() {
            let own = place(self.tag, piece);
            // There are never as many as 255: see limits::SOURCE_CONNECTIONS.
            *before = self.inside.values().filter(|tag| place(**tag, piece) < own).count().min(255) as u8;
        }
    }

    /// Takes note that a piece is seen outside.
    pub(super) fn seen(&mut self, piece: usize, now: Duration) {
        self.seen[piece] = self.seen[piece].min(now.as_millis() as u32);
    }

    /// Takes note that somebody inside brought something, or may from now on.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard_inside = self.heard_inside.max(now);
    }

    /// Whether those inside have brought nothing for long.
    pub(super) fn is_quiet(&self, now: Duration) -> bool {
        now >= self.heard_inside + limits::ZONE_PATIENCE
    }

    /// Of a word of pieces, those that may be brought in now; `here` are the ones that somebody inside holds,
    /// and whoever is busy brings in what it is the first for.
    pub(super) fn open(&self, at: usize, word: u64, here: &Bitmap, is_busy: bool, now: Duration) -> u64 {
        let mut rest = if self.is_quiet(now) { word } else { word & !here.words()[at] };
        let mut open = 0;
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            rest ^= bit;
            let piece = at * 64 + bit.trailing_zeros() as usize;
            let before = self.before[piece];
            let turn = Duration::from_millis(self.seen[piece].into()) + limits::ZONE_TURN * u32::from(before);
            if before == 0 || !is_busy && now >= turn {
                open |= bit;
            }
        }
        open
    }
}

/// The place of a peer in the order of a piece; the least is the first.
fn place(tag: u64, piece: usize) -> u64 {
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of both makes a difference.
    let mut mixed = tag ^ (piece as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn border(own: u64, others: &[u64]) -> Border {
        let mut border = Border::new(64, own);
        border.heard(NOW);
        others.iter().enumerate().for_each(|(source, tag)| border.add(source, *tag));
        (0..64).for_each(|piece| border.seen(piece, NOW));
        border
    }

    #[test]
    fn each_piece_is_brought_in_by_one_and_by_the_next_when_that_one_does_not_and_nothing_else_comes() {
        let nothing = Bitmap::new(64);
        let tags = [11, 12, 13, 14];
        let borders = tags.map(|own| border(own, &tags.into_iter().filter(|tag| *tag != own).collect::<Vec<_>>()));
        let open = |is_busy, now| borders.each_ref().map(|border| border.open(0, u64::MAX, &nothing, is_busy, now));
        let first = open(true, NOW);
        assert_eq!(first.iter().fold(0, |all, open| all | open), u64::MAX);
        assert_eq!(first.iter().map(|open| open.count_ones()).sum::<u32>(), 64);
        assert!(first.iter().all(|open| open.count_ones() > 4), "{first:?}");
        assert_eq!(first, open(false, NOW));
        assert_eq!(first, open(true, NOW + limits::ZONE_TURN));
        let second = open(false, NOW + limits::ZONE_TURN);
        assert_eq!(second.iter().map(|open| open.count_ones()).sum::<u32>(), 128);
    }

    #[test]
    fn what_is_inside_is_brought_in_only_when_those_inside_are_quiet() {
        let mut here = Bitmap::new(64);
        here.set(3);
        let border = border(1, &[]);
        assert_eq!(border.open(0, 0b1100, &here, true, NOW), 0b0100);
        assert_eq!(border.open(0, 0b1100, &here, true, NOW + limits::ZONE_PATIENCE), 0b1100);
    }
}
