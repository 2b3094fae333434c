//! The tracker: knows who holds what, and tells whoever asks. Bytes never pass through it.

mod callers;
mod calls;
mod codes;
mod connections;
mod gate;
mod health;
mod metrics;
mod monitor;
mod refusals;
pub mod registry;
pub mod search;
mod service;
#[cfg(any(feature = "health", feature = "reflection"))]
mod standard;

pub use calls::Config;
pub use connections::raise_open_files;
pub use health::Health;
pub use service::{Listeners, serve};
