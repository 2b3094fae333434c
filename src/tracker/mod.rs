//! The tracker: knows who holds what, and tells whoever asks. Bytes never pass through it.

mod callers;
mod calls;
mod codes;
mod connections;
mod direct;
mod gate;
mod health;
mod located;
mod lock;
mod log;
mod metrics;
mod monitor;
mod refusals;
pub mod registry;
pub mod search;
mod service;
mod shared;
#[cfg(any(feature = "health", feature = "reflection"))]
mod standard;
#[cfg(feature = "etcd")]
mod store;
mod watches;

pub use calls::Config;
#[cfg(any(test, fuzzing))]
pub(crate) use calls::hostile as oracle;
pub use connections::raise_open_files;
pub use health::Health;
pub use log::log;
pub use service::{Listeners, serve};
pub use shared::Shared;
#[cfg(feature = "etcd")]
pub use store::{StoreAddress, share};
