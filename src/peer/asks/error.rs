//! Why something that a person asks for cannot be, by kind: each face has its own sign for each.

use std::{fmt, sync::Arc};

use crate::{
    name::SharePath,
    peer::{link::LinkError, swarm::GetError},
};

/// Why what was asked for cannot be; shown, it is a sentence that a person can act on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AskError {
    /// It is not a thing that can be asked.
    Bad(String),
    /// There is nothing of that name.
    Absent(String),
    /// There are several, of which one has to be named.
    Several(String),
    /// Something else is in the way.
    Taken(String),
    /// Something is in the way of which the content is not known yet.
    Unhashed(SharePath),
    /// No tracker could be asked.
    Link(LinkError),
    /// The download to this path has failed.
    Get(SharePath, Arc<GetError>),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(text) | Self::Absent(text) | Self::Several(text) | Self::Taken(text) => f.write_str(text),
            Self::Unhashed(path) => {
                write!(f, "{path} is here and not hashed yet: try again in a while, or give a new path")
            }
            Self::Link(error) => error.fmt(f),
            Self::Get(path, error) => write!(f, "{path}: {error}"),
        }
    }
}

impl std::error::Error for AskError {}

impl From<LinkError> for AskError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}
