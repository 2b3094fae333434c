//! Downloads: from whom, which piece, and what is here already.

pub mod border;
pub mod fresh;
pub mod jobs;
pub mod partial;
pub mod plan;
pub mod uplink;

mod batch;
mod budget;
mod connection;
mod crew;
mod download;
mod fetch;
mod fetch_error;
mod get;
#[cfg(test)]
mod liars;
mod pass;
mod put;

pub use batch::{Batch, Group, Small};
#[cfg(any(test, fuzzing))]
pub(crate) use connection::oracle;
pub use fetch::Fetcher;
pub use fetch_error::FetchError;
pub use get::{Finder, GetError, Getter, Report, Watch};
pub use pass::PassError;
pub use put::{Destination, PutError, Taken, put};
