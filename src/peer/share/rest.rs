//! Files that have not come to rest yet: being written, or changed too lately. Pure; the clock is
//! passed in.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::name::SharePath;

/// A file that is open for writing, or mapped, counts as at rest after so long without a change.
pub(super) const WRITTEN: Duration = Duration::from_secs(10);

/// Files to look at when their time has come.
#[derive(Default)]
pub(super) struct Rest {
    files: BTreeMap<SharePath, Wait>,
    times: BTreeSet<(Instant, SharePath)>,
    written: usize,
}

#[derive(Clone, Copy)]
struct Wait {
    until: Instant,
    is_written: bool,
}

impl Rest {
    /// A file is being written: unless it is closed before, it is to be looked at in [`WRITTEN`].
    pub(super) fn written(&mut self, path: SharePath, now: Instant) {
        self.set(path, Wait { until: now + WRITTEN, is_written: true });
    }

    /// A file is to be looked at again at `until`; `is_written` as it was told to be by [`Rest::take_due`].
    pub(super) fn wait(&mut self, path: SharePath, until: Instant, is_written: bool) {
        self.set(path, Wait { until, is_written });
    }

    fn set(&mut self, path: SharePath, wait: Wait) {
        self.forget(&path);
        self.written += usize::from(wait.is_written);
        self.times.insert((wait.until, path.clone()));
        self.files.insert(path, wait);
    }

    /// The file needs no further look.
    pub(super) fn forget(&mut self, path: &SharePath) {
        if let Some((path, wait)) = self.files.remove_entry(path) {
            self.written -= usize::from(wait.is_written);
            self.times.remove(&(wait.until, path));
        }
    }

    pub(super) fn is_written(&self, path: &SharePath) -> bool {
        self.files.get(path).is_some_and(|wait| wait.is_written)
    }

    /// When the next file is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.times.first().map(|(until, _)| *until)
    }

    /// A file whose time has come, and whether it was being written.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(SharePath, bool)> {
        let (_, path) = self.times.first().filter(|(until, _)| *until <= now)?;
        let path = path.clone();
        let is_written = self.is_written(&path);
        self.forget(&path);
        Some((path, is_written))
    }

    /// Files here, those being written too.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Files that only wait to be a little older.
    pub(super) fn settling(&self) -> usize {
        self.files.len() - self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_due_once_and_only_after_its_last_change() {
        let path = |name: &str| name.parse::<SharePath>().unwrap();
        let (mut rest, start) = (Rest::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        rest.written(path("a"), at(0));
        rest.wait(path("b"), at(1), false);
        rest.written(path("a"), at(5));
        assert_eq!((rest.len(), rest.settling(), rest.next()), (2, 1, Some(at(1))));
        assert_eq!(rest.take_due(at(0)), None);
        assert_eq!(rest.take_due(at(14)), Some((path("b"), false)));
        assert_eq!(rest.take_due(at(14)), None);
        assert!(rest.is_written(&path("a")));
        assert_eq!(rest.take_due(at(15)), Some((path("a"), true)));
        rest.written(path("a"), at(15));
        rest.forget(&path("a"));
        assert_eq!((rest.len(), rest.settling(), rest.next(), rest.take_due(at(99))), (0, 0, None, None));
    }
}
