//! Why the registry refuses.

use std::fmt;

use crate::{content::ContentId, limits, name::PeerId};

/// Why a call changes nothing; a sentence for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Joining: the id is another live peer's.
    Taken(PeerId),
    /// The token is nobody's: its lease ended, or it was given by a tracker that has restarted.
    UnknownToken,
    /// A newer join with the same identity took the id over.
    Superseded(PeerId),
    /// Announcing: one content with two sizes, so one of them is wrong.
    TwoSizes(ContentId),
    /// Joining: there are [`limits::PEERS`].
    Peers,
    /// Announcing: the peer would hold more than [`limits::FILES_PER_PEER`].
    FilesPerPeer,
    /// Announcing: all would hold more than [`limits::FILES`].
    Files,
    /// Announcing: all paths together would be longer than [`limits::PATHS_BYTES`].
    PathsBytes,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(id) => {
                write!(
                    f,
                    "another live peer has the id {id}: take another id, or stop that peer first (one that was killed \
                     is forgotten when its lease ends)"
                )
            }
            Self::UnknownToken => {
                f.write_str("the token is unknown, its lease has ended or the tracker restarted: join again")
            }
            Self::Superseded(id) => write!(
                f,
                "a newer copy of this folder has joined as {id}: stop one of them, or give this one a folder of its own"
            ),
            Self::TwoSizes(id) => write!(f, "content {id} is announced with two sizes: hash that file again"),
            Self::Peers => write!(f, "the tracker has its {} peers: start another tracker", limits::PEERS),
            Self::FilesPerPeer => {
                write!(f, "a peer may announce {} files: share fewer in this folder", limits::FILES_PER_PEER)
            }
            Self::Files => write!(f, "the tracker has its {} files: start another tracker", limits::FILES),
            Self::PathsBytes => {
                write!(f, "the tracker has its {} bytes of paths: start another tracker", limits::PATHS_BYTES)
            }
        }
    }
}

impl std::error::Error for Refusal {}
