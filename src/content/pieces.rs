//! How a content is cut into pieces, and the list that proves them.

use std::{fmt, ops::Range};

use blake3::hazmat::{ChainingValue, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::ContentId;
use crate::limits;

/// The cut of a content of a given size: every piece [`Pieces::length`] bytes but the last, which
/// may be shorter. Content of at most one piece, an empty one too, is one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    size: u64,
    length: u64,
}

/// The number of a piece that exists in some content; only [`Pieces`] makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// As an index into a list.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl Pieces {
    /// The cut of `size` bytes: the smallest power of two from 32 KiB up that gives at most 8,192
    /// pieces. None above [`limits::CONTENT_BYTES`].
    pub fn of(size: u64) -> Option<Self> {
        if size > limits::CONTENT_BYTES {
            return None;
        }
        let length = size.div_ceil(limits::PIECES as u64).next_power_of_two().max(limits::PIECE_BYTES);
        Some(Self { size, length })
    }

    /// Bytes in the content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in every piece but the last.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many pieces there are: 1 to 8,192.
    pub fn count(&self) -> usize {
        self.size.div_ceil(self.length).max(1) as usize
    }

    /// The pieces in order.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.count() as u32).map(PieceIndex)
    }

    /// Piece number `index`, if there is one.
    pub fn index(&self, index: usize) -> Option<PieceIndex> {
        (index < self.count()).then_some(PieceIndex(index as u32))
    }

    /// The bytes a piece covers.
    pub fn range(&self, piece: PieceIndex) -> Range<u64> {
        let start = u64::from(piece.0) * self.length;
        start..self.size.min(start + self.length)
    }
}

/// The BLAKE3 chaining value of every piece; empty for content of one piece, whose hash is the id.
/// Folded together they give the content id, so whoever has the id can believe the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceList(Vec<ChainingValue>);

impl PieceList {
    pub(super) fn new(values: Vec<ChainingValue>) -> Self {
        debug_assert!(values.len() != 1);
        Self(values)
    }

    /// Reads the binary form (32 bytes a piece, in order) and checks it against the id.
    ///
    /// # Errors
    /// When it has another length than `pieces` asks for, or does not fold to `id`.
    pub fn parse(bytes: &[u8], pieces: &Pieces, id: &ContentId) -> Result<Self, BadPieceList> {
        let expected = if pieces.count() == 1 { 0 } else { pieces.count() };
        let (values, rest) = bytes.as_chunks::<32>();
        if values.len() != expected || !rest.is_empty() {
            return Err(BadPieceList::Length { expected: expected * 32, got: bytes.len() });
        }
        let list = Self(values.to_vec());
        match list.root() {
            Some(root) if root != *id => Err(BadPieceList::OtherContent),
            _ => Ok(list),
        }
    }

    /// The binary form: 32 bytes a piece.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// True for content of one piece.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn value(&self, piece: PieceIndex) -> Option<&ChainingValue> {
        self.0.get(piece.get())
    }

    /// The content id that the list folds to; none where it is empty.
    pub(super) fn root(&self) -> Option<ContentId> {
        let (left, right) = self.0.split_at_checked(left_subtree(self.0.len())?)?;
        let root = merge_subtrees_root(&fold(left), &fold(right), Mode::Hash);
        Some(ContentId::new(*root.as_bytes()))
    }
}

/// Leaves in the left subtree of a node over `leaves`: the largest power of two below that number
/// (section 2.1 of the BLAKE3 paper). None below two leaves.
fn left_subtree(leaves: usize) -> Option<usize> {
    (leaves >= 2).then(|| 1 << (leaves - 1).ilog2())
}

fn fold(values: &[ChainingValue]) -> ChainingValue {
    match left_subtree(values.len()) {
        None => values[0],
        Some(left) => {
            let (left, right) = values.split_at(left);
            merge_subtrees_non_root(&fold(left), &fold(right), Mode::Hash)
        }
    }
}

/// Why a piece list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPieceList {
    /// It is not 32 bytes for each piece that the size calls for.
    Length {
        /// Bytes the size calls for.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// It does not fold to the content id.
    OtherContent,
}

impl fmt::Display for BadPieceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, got } => write!(f, "the piece list has {got} bytes where {expected} belong"),
            Self::OtherContent => f.write_str("the piece list is not of this content"),
        }
    }
}

impl std::error::Error for BadPieceList {}
