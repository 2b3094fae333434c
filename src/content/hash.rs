//! Hashing in one pass, whole contents and single pieces.

use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root},
};

use super::{ContentId, PieceIndex, PieceList, Pieces};
use crate::limits;

/// Hashes a content of unknown size in one pass, giving its id and its piece list.
///
/// It starts with the shortest pieces; when there would be more than [`limits::PIECES`], adjacent
/// ones are merged, which doubles the piece length. So it ends with the length that
/// [`Pieces::of`] gives, and holds 256 KiB at most.
pub struct PieceHasher {
    /// Chaining values of the pieces before the current one, all of full length.
    done: Vec<ChainingValue>,
    current: Hasher,
    /// Bytes in `current`.
    filled: u64,
    length: u64,
}

impl Default for PieceHasher {
    fn default() -> Self {
        Self { done: Vec::new(), current: Hasher::new(), filled: 0, length: limits::PIECE_BYTES }
    }
}

impl PieceHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Only here is it known that the current piece is not the last one, which content of a
            // single piece hashes differently.
            if self.filled == self.length {
                self.next_piece();
            }
            let room = (self.length - self.filled).min(bytes.len() as u64) as usize;
            let (now, later) = bytes.split_at(room);
            self.current.update(now);
            self.filled += room as u64;
            bytes = later;
        }
    }

    fn next_piece(&mut self) {
        self.done.push(self.current.finalize_non_root());
        if self.done.len() == limits::PIECES {
            self.done = (self.done.as_chunks::<2>().0.iter())
                .map(|[left, right]| merge_subtrees_non_root(left, right, Mode::Hash))
                .collect();
            self.length *= 2;
        }
        self.current = Hasher::new();
        self.current.set_input_offset(self.size_done());
        self.filled = 0;
    }

    fn size_done(&self) -> u64 {
        self.done.len() as u64 * self.length
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size_done() + self.filled
    }

    /// The id and the piece list of all that was taken.
    pub fn finish(mut self) -> (ContentId, PieceList) {
        if self.done.is_empty() {
            let id = ContentId::new(*self.current.finalize().as_bytes());
            return (id, PieceList::new(Vec::new()));
        }
        self.done.push(self.current.finalize_non_root());
        let list = PieceList::new(self.done);
        let id = list.root().expect("a list of two pieces or more has a root");
        (id, list)
    }
}

/// Checks one piece as its bytes arrive, in order.
pub struct PieceVerifier {
    hasher: Hasher,
    /// Bytes still missing; none once there were too many.
    missing: Option<u64>,
    /// None for the only piece of a content: its hash is the id itself.
    expected: Result<ChainingValue, ContentId>,
}

impl PieceVerifier {
    /// For `piece` of the content `id` cut as `pieces`, proved by `list`, which was parsed for
    /// that cut and id.
    pub fn new(id: &ContentId, pieces: &Pieces, list: &PieceList, piece: PieceIndex) -> Self {
        let range = pieces.range(piece);
        let mut hasher = Hasher::new();
        let expected = match list.value(piece) {
            Some(value) => {
                hasher.set_input_offset(range.start);
                Ok(*value)
            }
            None => Err(*id),
        };
        Self { hasher, missing: Some(range.end - range.start), expected }
    }

    /// Takes the next bytes; more than are missing make the piece false.
    pub fn update(&mut self, bytes: &[u8]) {
        self.missing = self.missing.and_then(|missing| missing.checked_sub(bytes.len() as u64));
        if self.missing.is_some() {
            self.hasher.update(bytes);
        }
    }

    /// Whether what was taken is exactly the piece.
    pub fn is_true(self) -> bool {
        self.missing == Some(0)
            && match self.expected {
                Ok(value) => self.hasher.finalize_non_root() == value,
                Err(id) => *self.hasher.finalize().as_bytes() == *id.bytes(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
    }

    #[test]
    fn one_pass_gives_what_b3sum_prints_and_a_list_that_proves_itself() {
        let kib32 = limits::PIECE_BYTES as usize;
        for size in [0, 1, 1023, 1024, kib32 - 1, kib32, kib32 + 1, 2 * kib32, 3 * kib32 + 5, 7 * kib32, 1 << 20] {
            let data = bytes(size);
            let mut hasher = PieceHasher::default();
            data.chunks(5000).for_each(|chunk| hasher.update(chunk));
            assert_eq!(hasher.size(), size as u64);
            let (id, list) = hasher.finish();
            assert_eq!(id, ContentId::of(&data), "{size}");
            let pieces = Pieces::of(size as u64).unwrap();
            assert_eq!(PieceList::parse(&list.to_bytes(), &pieces, &id), Ok(list.clone()), "{size}");
            assert_eq!(list.is_empty(), size <= kib32);
            for piece in pieces.all() {
                let range = pieces.range(piece);
                let mut part = data[range.start as usize..range.end as usize].to_vec();
                let is_true = |part: &[u8]| {
                    let mut verifier = PieceVerifier::new(&id, &pieces, &list, piece);
                    part.chunks(777).for_each(|chunk| verifier.update(chunk));
                    verifier.is_true()
                };
                assert!(is_true(&part), "{size} {piece:?}");
                part.push(0);
                assert!(!is_true(&part), "one byte too many");
                part.pop();
                if let Some(last) = part.last_mut() {
                    *last ^= 1;
                    assert!(!is_true(&part), "a wrong byte");
                    part.pop();
                    assert!(!is_true(&part), "one byte too few");
                }
            }
        }
    }

    #[test]
    fn pieces_double_where_there_would_be_too_many() {
        let limit = limits::PIECES as u64 * limits::PIECE_BYTES;
        for size in [limit - 1, limit, limit + 1, limit + limits::PIECE_BYTES + 1] {
            let block = bytes(1 << 20);
            let mut hasher = PieceHasher::default();
            let mut plain = Hasher::new();
            let mut left = size;
            while left > 0 {
                let now = &block[..left.min(block.len() as u64) as usize];
                hasher.update(now);
                plain.update(now);
                left -= now.len() as u64;
            }
            let (id, list) = hasher.finish();
            assert_eq!(id.bytes(), plain.finalize().as_bytes());
            let pieces = Pieces::of(size).unwrap();
            assert_eq!(pieces.length(), if size <= limit { 32 << 10 } else { 64 << 10 });
            assert!(PieceList::parse(&list.to_bytes(), &pieces, &id).is_ok(), "{size}");
        }
    }

    #[test]
    fn a_list_of_other_content_or_length_is_refused() {
        let data = bytes(100_000);
        let mut hasher = PieceHasher::default();
        hasher.update(&data);
        let (id, list) = hasher.finish();
        let pieces = Pieces::of(100_000).unwrap();
        let mut wire = list.to_bytes();
        assert_eq!(wire.len(), 4 * 32);
        assert!(PieceList::parse(&wire[1..], &pieces, &id).is_err());
        assert!(PieceList::parse(&[], &pieces, &id).is_err());
        wire[40] ^= 1;
        assert_eq!(PieceList::parse(&wire, &pieces, &id), Err(super::super::BadPieceList::OtherContent));
    }

    #[test]
    fn every_size_has_a_cut_and_no_size_overflows() {
        for size in [0, 1, 1 << 15, (1 << 15) + 1, 1 << 28, (1 << 28) + 1, 1 << 40, limits::CONTENT_BYTES] {
            let pieces = Pieces::of(size).unwrap();
            assert!(pieces.length().is_power_of_two() && pieces.length() >= limits::PIECE_BYTES);
            assert!((1..=limits::PIECES).contains(&pieces.count()), "{size}");
            let last = pieces.all().next_back().unwrap();
            assert_eq!(pieces.range(last).end, size);
            assert_eq!(pieces.index(pieces.count()), None);
        }
        assert_eq!(Pieces::of(limits::CONTENT_BYTES + 1), None);
        assert_eq!(Pieces::of(u64::MAX), None);
    }
}
