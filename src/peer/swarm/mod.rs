//! Downloads: from whom, which piece, and what is here already.

pub mod fresh;
pub mod partial;

mod cut;
mod fetch;
mod get;
#[cfg(test)]
mod liars;

pub use fetch::{FetchError, Fetcher};
pub use get::{GetError, Getter, Report, Watch};
