//! The tracker: knows who holds what, and tells whoever asks. Bytes never pass through it.

mod calls;
mod codes;
mod connections;
pub mod registry;
pub mod search;
mod service;

pub use calls::Config;
pub use connections::raise_open_files;
pub use service::serve;
