//! What was changed here and other trackers have not been told yet: of each peer that, not how. What is written
//! is what the registry has when it is.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::keys::hash;
use crate::{
    limits,
    name::PeerId,
    tracker::{registry::Changes, shared::Listener},
};

/// What has to be told of one peer.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// It renewed its lease.
    pub(super) is_renewed: bool,
    /// Its entry changed: it joined, or downloads something else.
    pub(super) is_changed: bool,
    /// It left; not because its lease ended.
    pub(super) has_left: bool,
    /// Its files changed.
    pub(super) files: Dirty,
}

/// Which files may have changed.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    #[default]
    None,
    /// Those whose paths have these hashes.
    Some(Vec<u32>),
    All,
}

impl Dirty {
    fn add(&mut self, more: impl IntoIterator<Item = u32>) {
        let mut hashes = match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::Some(hashes) => hashes,
            Self::All => return *self = Self::All,
        };
        hashes.extend(more);
        *self = match hashes.len() {
            0 => Self::None,
            1..=limits::STORE_NOTED_PATHS => Self::Some(hashes),
            _ => Self::All,
        };
    }
}

impl Pending {
    /// That all has to be written anew.
    pub(super) fn all() -> Self {
        Self { is_renewed: true, is_changed: true, has_left: false, files: Dirty::All }
    }

    /// Whether there is anything but a renewal.
    pub(super) fn has_news(&self) -> bool {
        self.is_changed || self.has_left || self.files != Dirty::None
    }

    fn merge(&mut self, later: Self) {
        self.is_renewed |= later.is_renewed;
        self.is_changed |= later.is_changed;
        self.has_left |= later.has_left;
        match later.files {
            Dirty::None => {}
            Dirty::Some(hashes) => self.files.add(hashes),
            Dirty::All => self.files = Dirty::All,
        }
    }
}

/// All of it, by peer. It grows with the peers, however long etcd is away.
#[derive(Default)]
pub(super) struct Outbox {
    pending: Mutex<HashMap<PeerId, Pending>>,
    filled: Notify,
}

impl Outbox {
    /// Takes note of more.
    pub(super) fn put(&self, id: &PeerId, pending: Pending) {
        self.lock().entry(id.clone()).or_default().merge(pending);
        self.filled.notify_one();
    }

    /// Everything.
    pub(super) fn take(&self) -> HashMap<PeerId, Pending> {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something has been put since the last time.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Outbox {
    fn joined(&self, peer: &PeerId) {
        self.put(peer, Pending::all());
    }

    fn announced(&self, peer: &PeerId, changes: &Changes) {
        let is_changed = !(changes.downloading.is_empty() && changes.stopped.is_empty()) || changes.mirror.is_some();
        let mut pending = Pending { is_renewed: true, is_changed, ..Pending::default() };
        let added = changes.added.iter().map(|(path, _)| path);
        pending.files.add(added.chain(&changes.removed).map(hash));
        self.put(peer, pending);
    }

    fn renewed(&self, peer: &PeerId) {
        self.put(peer, Pending { is_renewed: true, ..Pending::default() });
    }

    fn left(&self, peer: &PeerId) {
        self.put(peer, Pending { has_left: true, ..Pending::default() });
    }

    fn expired(&self, peer: &PeerId) {
        self.put(peer, Pending { is_changed: true, ..Pending::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_peer_adds_up_and_stays_small() {
        let outbox = Outbox::default();
        let id: PeerId = "a".parse().unwrap();
        outbox.renewed(&id);
        let renewed = outbox.take().remove(&id).unwrap();
        assert!(renewed.is_renewed && !renewed.has_news());
        let removed = |range: std::ops::Range<usize>| Changes {
            removed: range.map(|number| number.to_string().parse().unwrap()).collect(),
            ..Changes::default()
        };
        outbox.announced(&id, &removed(0..3));
        outbox.announced(&id, &removed(3..5));
        let pending = outbox.take().remove(&id).unwrap();
        assert!(matches!(&pending.files, Dirty::Some(hashes) if hashes.len() == 5) && !pending.is_changed);
        for start in 0..5 {
            outbox.announced(&id, &removed(start * 1000..(start + 1) * 1000));
        }
        outbox.left(&id);
        let pending = outbox.take().remove(&id).unwrap();
        assert!(pending.files == Dirty::All && pending.has_left);
        assert!(outbox.take().is_empty());
    }
}
