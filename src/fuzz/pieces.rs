//! Piece lists and pieces: only the true list of a content passes, only its true pieces verify, and the cut is the
//! one that its rule asks for.

use blake3::hazmat::{ChainingValue, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::Input;
use crate::{
    content::{ContentId, PieceHasher, PieceList, PieceVerifier, Pieces},
    limits,
};

/// Takes bytes as a content and what is done to its list, or as a list of any values.
pub(super) fn check(data: &[u8]) {
    let mut input = Input(data);
    cut(input.number() >> (input.byte() % 64));
    if input.byte() % 2 == 0 { content(&mut input) } else { list(&mut input) }
}

fn cut(size: u64) {
    let Some(pieces) = Pieces::of(size) else { return assert!(size > limits::CONTENT_BYTES) };
    let lengths = (15..).map(|exponent| 1_u64 << exponent);
    let length = lengths.into_iter().find(|length| size.div_ceil(*length) <= 8192).expect("some are long enough");
    let count = size.div_ceil(length).max(1);
    assert_eq!((pieces.size(), pieces.length(), pieces.count() as u64), (size, length, count));
    let ends = pieces.all().map(|piece| pieces.range(piece)).fold(0, |before, range| {
        assert_eq!(range.start, before);
        range.end
    });
    assert_eq!((ends, pieces.index(pieces.count())), (size, None));
}

/// A content of up to six pieces, hashed in blocks of any size; its list and a piece, damaged.
fn content(input: &mut Input) {
    let size = input.below(6 << 15);
    let mut pattern = vec![input.byte()];
    pattern.extend_from_slice(input.bytes(300));
    let bytes: Vec<u8> = pattern.iter().copied().cycle().take(size).collect();
    let mut hasher = PieceHasher::default();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let block = rest.split_off(..rest.len().min(block(input))).unwrap_or_default();
        hasher.update(block);
    }
    assert_eq!(hasher.size(), size as u64);
    let (id, list) = hasher.finish();
    assert_eq!(id.bytes(), blake3::hash(&bytes).as_bytes());

    let pieces = Pieces::of(size as u64).expect("it is small");
    let true_list = list.to_bytes();
    let damaged = damage(&true_list, input);
    assert_eq!(PieceList::parse(&damaged, &pieces, &id).is_ok(), damaged == true_list);
    // The size is not proved by a list, but the number of pieces is.
    let other = Pieces::of(input.below(8 << 15) as u64).expect("it is small");
    let fits = other.count() == pieces.count() || (other.count() == 1 && true_list.is_empty());
    assert_eq!(PieceList::parse(&true_list, &other, &id).is_ok(), fits);

    let piece = pieces.index(input.below(pieces.count())).expect("there is one");
    let range = pieces.range(piece);
    let true_piece = &bytes[range.start as usize..range.end as usize];
    let damaged = damage(true_piece, input);
    for sent in [true_piece, &damaged] {
        let mut verifier = PieceVerifier::new(&id, &pieces, &list, piece);
        sent.chunks(block(input)).for_each(|block| verifier.update(block));
        assert_eq!(verifier.is_true(), sent == true_piece);
    }
}

/// How many bytes to take at once; not one by one where the input has ended.
fn block(input: &mut Input) -> usize {
    1 + (input.below(1 << 16) ^ (16 << 10))
}

/// Changes bytes, or leaves them as they are.
fn damage(bytes: &[u8], input: &mut Input) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..input.below(3) {
        let at = input.below(damaged.len() + 1);
        match input.below(5) {
            0 => damaged.truncate(at),
            1 => damaged.insert(at, input.byte()),
            2 if at < damaged.len() => damaged[at] = input.byte(),
            3 => damaged.rotate_left(at & !31),
            _ => damaged.extend_from_within(at..),
        }
    }
    damaged
}

/// A list of any values: its root is what they fold to, in the other order than the one in use.
fn list(input: &mut Input) {
    let count = input.within(2..=300);
    let values: Vec<ChainingValue> =
        (0..count).map(|_| *blake3::hash(&input.byte().to_be_bytes()).as_bytes()).collect();
    let id = ContentId::new(root(&values));
    let pieces = Pieces::of((count as u64 - 1) * limits::PIECE_BYTES + 1 + input.below(1 << 15) as u64);
    let pieces = pieces.expect("it is small");
    let bytes = values.concat();
    let damaged = damage(&bytes, input);
    let parsed = PieceList::parse(&damaged, &pieces, &id);
    assert_eq!(parsed.is_ok(), damaged == bytes);
    assert!(parsed.is_err() || parsed.is_ok_and(|list| list.to_bytes() == bytes && !list.is_empty()));
}

/// Folds as hashing in one pass does, with a stack: what stands on it are whole subtrees, the larger below.
fn root(values: &[ChainingValue]) -> [u8; 32] {
    let (last, before) = values.split_last().expect("a list of two or more");
    let mut stack: Vec<ChainingValue> = Vec::new();
    for (number, value) in before.iter().enumerate() {
        let mut subtree = *value;
        for _ in 0..(number + 1).trailing_zeros() {
            let left = stack.pop().expect("as many subtrees as the number has bits");
            subtree = merge_subtrees_non_root(&left, &subtree, Mode::Hash);
        }
        stack.push(subtree);
    }
    let first = stack.remove(0);
    let right = stack.iter().rev().fold(*last, |right, left| merge_subtrees_non_root(left, &right, Mode::Hash));
    *merge_subtrees_root(&first, &right, Mode::Hash).as_bytes()
}
