//! The tracker: knows who holds what, and tells whoever asks. Bytes never pass through it.

pub mod registry;
pub mod search;
