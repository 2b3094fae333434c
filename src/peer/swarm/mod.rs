//! Downloads: the bytes of a content, from peers, verified.

mod fetch;
mod get;

pub use fetch::{FetchError, Fetcher};
pub use get::{GetError, Getter, Report, Watch};
