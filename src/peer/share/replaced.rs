//! Contents that newer ones have taken the place of: those who are fetching them from this peer are served to the end.
//! The files have no name any more, and are here only as long as they are open.

use std::{
    fs::File,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{Entry, SharedFile, open::Stamp};
use crate::{content::ContentId, limits};

#[derive(Default)]
pub(super) struct Replaced(Mutex<Vec<Kept>>);

/// A content, and until when it is kept if nobody asks for it.
pub(super) struct Kept {
    pub(super) entry: Entry,
    pub(super) file: File,
    pub(super) stamp: Stamp,
    pub(super) list: Vec<u8>,
    pub(super) until: Instant,
}

impl Replaced {
    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one, and lets go of the one that would be first to go where there are too many.
    pub(super) fn keep(&self, kept: Kept) {
        let mut all = self.lock();
        all.retain(|other| other.entry.content != kept.entry.content);
        if all.len() >= limits::REPLACED {
            let first = (0..all.len()).min_by_key(|&at| all[at].until);
            first.map(|first| all.swap_remove(first));
        }
        all.push(kept);
    }

    /// Lets go of those that nobody has asked for in time; when the next one's time is over.
    pub(super) fn let_go(&self, now: Instant) -> Option<Instant> {
        let mut all = self.lock();
        all.retain(|kept| kept.until > now);
        all.iter().map(|kept| kept.until).min()
    }

    /// The file of a content, and its piece list in binary form.
    pub(super) fn find(&self, content: &ContentId) -> Option<(SharedFile, Vec<u8>)> {
        let mut all = self.lock();
        let kept = all.iter_mut().find(|kept| kept.entry.content == *content)?;
        kept.until = Instant::now() + limits::REPLACED_TIME;
        let file = SharedFile { entry: kept.entry.clone(), file: kept.file.try_clone().ok()?, stamp: kept.stamp };
        Some((file, kept.list.clone()))
    }
}
