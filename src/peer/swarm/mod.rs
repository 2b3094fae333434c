//! Downloads: from whom, which piece, and what is here already.

pub mod fresh;
pub mod partial;
