//! What is to be hashed, in which order, and how much of it is left.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
};

use super::{held, open::Stamp};
use crate::name::SharePath;

/// Files to hash. What has just changed goes before what a first scan found.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Paths and sizes.
    fresh: BTreeMap<SharePath, u64>,
    found: BTreeMap<SharePath, u64>,
    bytes: u64,
    current: Option<Current>,
    is_stopped: bool,
}

struct Current {
    path: SharePath,
    /// None until the file is open.
    stamp: Option<Stamp>,
    left: u64,
    /// It was written to meanwhile.
    is_spoiled: bool,
}

impl Queue {
    /// Asks for a file to be hashed, unless exactly that is being done.
    pub(super) fn push(&self, path: SharePath, stamp: Stamp, is_fresh: bool) {
        let mut waiting = held(&self.waiting);
        let is_current =
            |current: &Current| current.path == path && current.stamp == Some(stamp) && !current.is_spoiled;
        if waiting.current.as_ref().is_some_and(is_current) {
            return;
        }
        let before = waiting.fresh.remove(&path).or_else(|| waiting.found.remove(&path)).unwrap_or(0);
        waiting.bytes = waiting.bytes - before + stamp.size;
        let queue = if is_fresh { &mut waiting.fresh } else { &mut waiting.found };
        queue.insert(path, stamp.size);
        self.news.notify_one();
    }

    /// A file is being written: it must not be hashed now.
    pub(super) fn forget(&self, path: &SharePath) {
        let mut waiting = held(&self.waiting);
        let (fresh, found) = (waiting.fresh.remove(path), waiting.found.remove(path));
        waiting.bytes -= fresh.unwrap_or(0) + found.unwrap_or(0);
        if let Some(current) = waiting.current.as_mut().filter(|current| current.path == *path) {
            current.is_spoiled = true;
        }
    }

    /// Files and bytes still to hash.
    pub(super) fn left(&self) -> (usize, u64) {
        let waiting = held(&self.waiting);
        let current = waiting.current.as_ref();
        (
            waiting.fresh.len() + waiting.found.len() + usize::from(current.is_some()),
            waiting.bytes + current.map_or(0, |current| current.left),
        )
    }

    pub(super) fn stop(&self) {
        held(&self.waiting).is_stopped = true;
        self.news.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        held(&self.waiting).is_stopped
    }

    /// Waits for the next file; none when it is time to stop.
    pub(super) fn next(&self) -> Option<SharePath> {
        let mut waiting = held(&self.waiting);
        loop {
            if waiting.is_stopped {
                return None;
            }
            let first = waiting.fresh.pop_first();
            if let Some((path, size)) = first.or_else(|| waiting.found.pop_first()) {
                waiting.bytes -= size;
                waiting.current = Some(Current { path: path.clone(), stamp: None, left: size, is_spoiled: false });
                return Some(path);
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn begin(&self, opened: Stamp) {
        if let Some(current) = &mut held(&self.waiting).current {
            (current.stamp, current.left) = (Some(opened), opened.size);
        }
    }

    pub(super) fn advance(&self, bytes: usize) {
        if let Some(current) = &mut held(&self.waiting).current {
            current.left = current.left.saturating_sub(bytes as u64);
        }
    }

    pub(super) fn is_spoiled(&self) -> bool {
        held(&self.waiting).current.as_ref().is_some_and(|current| current.is_spoiled)
    }

    /// The current file is to be taken into the queue again, though it may look the same.
    pub(super) fn give_up(&self) {
        if let Some(current) = &mut held(&self.waiting).current {
            current.stamp = None;
        }
    }

    pub(super) fn end(&self) {
        held(&self.waiting).current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_now_is_not_asked_for_twice_unless_it_was_written_to_meanwhile() {
        let (queue, path) = (Queue::default(), "f".parse::<SharePath>().unwrap());
        let stamp = Stamp { size: 2, mtime: 1, inode: 1 };
        queue.push(path.clone(), stamp, true);
        assert_eq!(queue.next().as_ref(), Some(&path));
        queue.begin(stamp);
        queue.push(path.clone(), stamp, true);
        assert_eq!(queue.left(), (1, 2));
        // What was hashed was dropped when it was written to, even if it looks the same.
        queue.forget(&path);
        queue.push(path.clone(), stamp, true);
        assert_eq!(queue.left(), (2, 4));
        queue.end();
        assert_eq!(queue.next(), Some(path));
    }
}
