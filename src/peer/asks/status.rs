//! How a peer stands: what it is, what it offers, and whether the swarm knows it.

use super::Asks;
use crate::{
    name::{PeerId, Zone},
    peer::share::Hashing,
};

/// How a peer stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its id.
    pub peer: PeerId,
    /// Its zone.
    pub zone: Zone,
    /// Whether the tracker knows it, as far as the last call told.
    pub is_joined: bool,
    /// Where its trackers are.
    pub trackers: Vec<String>,
    /// Files that it offers.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What of its folder is still to be hashed.
    pub hashing: Option<Hashing>,
}

impl Asks {
    /// How this peer stands.
    pub fn status(&self) -> Status {
        let getter = self.jobs.getter();
        let (files, bytes) = self.share.totals();
        Status {
            peer: getter.peer.clone(),
            zone: getter.zone.clone(),
            is_joined: self.link.is_joined(),
            trackers: self.link.trackers(),
            files,
            bytes,
            hashing: self.share.hashing(),
        }
    }
}
