//! What a tracker works on: alone, or as one of several that share it.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::{
    calls::{Config, random},
    registry::{Changes, Key, Registry},
    watches::Watches,
};
use crate::name::PeerId;

/// What the calls of a tracker look into and change.
pub struct Shared {
    /// What lease tokens are sealed under.
    pub(super) key: Key,
    pub(super) registry: Arc<Mutex<Registry>>,
    /// An entry is gone, and what it held is to be released. Of those whose lease ends, nobody needs to be told.
    pub(super) gone: Arc<Notify>,
    /// Who hears of whose files.
    pub(super) watches: Arc<Watches>,
    /// Who tells the other trackers.
    pub(super) listener: Option<Arc<dyn Listener>>,
}

impl Shared {
    /// Of a tracker that is alone. Tokens of one that ran here before are no good: their holders join again.
    pub fn alone(config: Config) -> Self {
        let registry = Arc::new(Mutex::new(Registry::new(config.lease)));
        let (gone, watches) = (Arc::default(), Arc::default());
        Self { key: Key::new(random()), registry, gone, watches, listener: None }
    }
}

/// Hears of each change that was made here, right after it.
pub(super) trait Listener: Send + Sync {
    /// A peer joined, with no files yet.
    fn joined(&self, peer: &PeerId);
    /// It changed what it has and downloads.
    fn announced(&self, peer: &PeerId, changes: &Changes);
    /// It renewed its lease.
    fn renewed(&self, peer: &PeerId);
    /// It left.
    fn left(&self, peer: &PeerId);
    /// Its lease ended.
    fn expired(&self, peer: &PeerId);
}
