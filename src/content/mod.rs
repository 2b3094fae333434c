//! Contents: their ids, their pieces, and the list that proves the pieces. Pure.

mod bitmap;
mod hash;
mod id;
mod pieces;

pub use bitmap::Bitmap;
pub use hash::{PieceHasher, PieceVerifier};
pub use id::{BadContentId, ContentId};
pub use pieces::{BadPieceList, PieceIndex, PieceList, Pieces};
