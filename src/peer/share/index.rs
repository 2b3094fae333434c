//! What is shared, in memory: paths, contents, and what has changed. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{Entry, open::Stamp};
use crate::{content::ContentId, name::SharePath};

/// A file that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) content: ContentId,
    pub(super) stamp: Stamp,
}

impl Record {
    pub(super) fn entry(&self) -> Entry {
        Entry { content: self.content, size: self.stamp.size }
    }
}

/// Paths and what was hashed under them.
///
/// A record from the saved index is only remembered until its file was seen with the same stamp;
/// only then it is shared. A million files take some 220 MB: each path is held once and shared by
/// the maps.
#[derive(Default)]
pub(super) struct Index {
    /// Boxed, since nodes of the map are half empty where paths come in order, as they mostly do.
    files: BTreeMap<SharePath, Box<(Record, Seen)>>,
    /// The first bytes of a content id, with a path. A fourth of what whole ids would take; the id is
    /// compared in `files`.
    contents: BTreeSet<(u64, Option<SharePath>)>,
    changed: BTreeSet<SharePath>,
    /// The number of the scan that is under way or was the last.
    scan: u32,
    shared: usize,
    bytes: u64,
}

/// The number of the scan that saw a file last; [`REMEMBERED`] before any did.
type Seen = u32;
const REMEMBERED: Seen = 0;

/// What a removal took away.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// The content, where no path is left that has it.
    pub(super) last_of: Option<ContentId>,
}

fn key(content: &ContentId) -> u64 {
    let (first, _) = content.bytes().split_first_chunk().expect("an id has 32 bytes");
    u64::from_le_bytes(*first)
}

impl Index {
    /// Takes a record from the saved index.
    pub(super) fn remember(&mut self, path: SharePath, record: Record) {
        self.remove(&path);
        self.contents.insert((key(&record.content), Some(path.clone())));
        self.files.insert(path, Box::new((record, REMEMBERED)));
    }

    /// Shares a file. True if that is news.
    pub(super) fn put(&mut self, path: SharePath, record: Record) -> bool {
        let seen = self.scan.max(1);
        if let Some((old, old_seen)) = self.files.get_mut(&path).map(Box::as_mut)
            && old.entry() == record.entry()
            && *old_seen != REMEMBERED
        {
            (old.stamp, *old_seen) = (record.stamp, seen);
            return false;
        }
        self.remove(&path);
        self.contents.insert((key(&record.content), Some(path.clone())));
        self.changed.insert(path.clone());
        self.shared += 1;
        self.bytes += record.stamp.size;
        self.files.insert(path, Box::new((record, seen)));
        true
    }

    /// Notes that the file at `path` was seen. None unless it is what was hashed; true if it is shared
    /// only from now on.
    pub(super) fn see(&mut self, path: &SharePath, stamp: &Stamp) -> Option<bool> {
        let (record, seen) = self.files.get_mut(path).map(Box::as_mut).filter(|(record, _)| record.stamp == *stamp)?;
        let is_news = *seen == REMEMBERED;
        *seen = self.scan.max(1);
        if is_news {
            self.shared += 1;
            self.bytes += record.stamp.size;
            self.changed.insert(path.clone());
        }
        Some(is_news)
    }

    pub(super) fn get(&self, path: &SharePath) -> Option<Record> {
        self.files.get(path).map(|file| file.0)
    }

    /// Stops sharing a path. None if it was not there.
    pub(super) fn remove(&mut self, path: &SharePath) -> Option<Removed> {
        let (path, file) = self.files.remove_entry(path)?;
        let (record, seen) = *file;
        if seen != REMEMBERED {
            self.shared -= 1;
            self.bytes -= record.stamp.size;
            self.changed.insert(path.clone());
        }
        self.contents.remove(&(key(&record.content), Some(path)));
        Some(Removed { last_of: (!self.has(&record.content)).then_some(record.content) })
    }

    /// At most `limit` paths below a folder.
    pub(super) fn under(&self, folder: &SharePath, limit: usize) -> Vec<SharePath> {
        let prefix = format!("{folder}/");
        (self.files.range((Bound::Excluded(folder.clone()), Bound::Unbounded)))
            .map(|(path, _)| path)
            // Between a folder and what is below it stand names such as `folder!`.
            .skip_while(|path| path.as_str() < prefix.as_str())
            .take_while(|path| path.as_str().starts_with(&prefix))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Begins a scan: every file has still to be seen.
    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.max(1).checked_add(1).unwrap_or(1);
    }

    /// At most `limit` paths behind `after` that this scan has not seen, among so many looked at, and where to go on.
    pub(super) fn unseen(&self, after: Option<&SharePath>, limit: usize) -> (Vec<SharePath>, Option<SharePath>) {
        let page: Vec<_> = self.behind(after).take(limit).collect();
        let last = page.last().map(|(path, _)| (*path).clone());
        let unseen = page.into_iter().filter(|(_, (_, seen))| *seen != self.scan).map(|(path, _)| path.clone());
        (unseen.collect(), last)
    }

    /// At most `limit` records behind `after`, the remembered ones too.
    pub(super) fn records(&self, after: Option<&SharePath>, limit: usize) -> Vec<(SharePath, Record)> {
        self.behind(after).take(limit).map(|(path, (record, _))| (path.clone(), *record)).collect()
    }

    /// At most `limit` shared files behind `after`, in the order of their paths' bytes.
    pub(super) fn list(&self, after: Option<&SharePath>, limit: usize) -> Vec<(SharePath, Entry)> {
        (self.behind(after))
            .filter(|(_, (_, seen))| *seen != REMEMBERED)
            .take(limit)
            .map(|(path, (record, _))| (path.clone(), record.entry()))
            .collect()
    }

    fn behind(&self, after: Option<&SharePath>) -> impl Iterator<Item = (&SharePath, &(Record, Seen))> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.files.range::<SharePath, _>((start, Bound::Unbounded)).map(|(path, file)| (path, &**file))
    }

    /// Paths that have a content.
    pub(super) fn paths_of(&self, content: &ContentId) -> impl Iterator<Item = &SharePath> {
        let key = key(content);
        (self.contents.range((key, None)..))
            .take_while(move |(other, _)| *other == key)
            .filter_map(|(_, path)| path.as_ref())
            .filter(move |path| self.files.get(*path).is_some_and(|file| file.0.content == *content))
    }

    pub(super) fn has(&self, content: &ContentId) -> bool {
        self.paths_of(content).next().is_some()
    }

    /// All paths, the remembered ones too.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn totals(&self) -> (usize, u64) {
        (self.shared, self.bytes)
    }

    pub(super) fn take_changes(&mut self, limit: usize) -> Vec<(SharePath, Option<Entry>)> {
        std::iter::from_fn(|| self.changed.pop_first())
            .take(limit)
            .map(|path| {
                let shared = self.files.get(&path).filter(|file| file.1 != REMEMBERED);
                let entry = shared.map(|file| file.0.entry());
                (path, entry)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SharePath {
        text.parse().unwrap()
    }

    fn record(text: &str, inode: u64) -> Record {
        Record { content: ContentId::of(text.as_bytes()), stamp: Stamp { size: text.len() as u64, mtime: 1, inode } }
    }

    #[test]
    fn what_is_only_remembered_is_not_shared() {
        let mut index = Index::default();
        let one = record("one", 1);
        index.remember(path("a"), one);
        assert_eq!((index.totals(), index.list(None, 9), index.take_changes(9)), ((0, 0), vec![], vec![]));
        assert_eq!(index.see(&path("a"), &record("one", 2).stamp), None);
        assert_eq!(index.see(&path("a"), &one.stamp), Some(true));
        assert_eq!(index.see(&path("a"), &one.stamp), Some(false));
        assert_eq!((index.totals(), index.take_changes(9)), ((1, 3), vec![(path("a"), Some(one.entry()))]));
        // A remembered file that is gone was never announced.
        index.remember(path("b"), one);
        assert_eq!(index.remove(&path("b")), Some(Removed { last_of: None }));
        assert_eq!(index.remove(&path("b")), None);
        assert_eq!(index.take_changes(9), []);
    }

    #[test]
    fn changes_are_taken_once_with_the_state_they_have_then() {
        let mut index = Index::default();
        assert!(index.put(path("a"), record("one", 1)));
        assert!(!index.put(path("a"), record("one", 2)), "a new inode with the same content is no news");
        assert!(index.put(path("b"), record("two", 3)));
        assert!(index.put(path("b"), record("three", 3)));
        assert_eq!(index.totals(), (2, 8));
        assert_eq!(index.take_changes(1), [(path("a"), Some(record("one", 1).entry()))]);
        assert_eq!(index.take_changes(9), [(path("b"), Some(record("three", 1).entry()))]);
        assert_eq!(index.remove(&path("b")), Some(Removed { last_of: Some(record("three", 1).content) }));
        assert_eq!(index.take_changes(9), [(path("b"), None)]);
        assert_eq!(index.totals(), (1, 3));
    }

    #[test]
    fn a_content_is_found_while_any_path_has_it() {
        let mut index = Index::default();
        let one = record("one", 1);
        for name in ["a", "b"] {
            index.put(path(name), one);
        }
        assert_eq!(index.paths_of(&one.content).map(SharePath::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(index.remove(&path("a")), Some(Removed { last_of: None }));
        assert!(index.has(&one.content));
        index.put(path("b"), record("two", 1));
        assert!(!index.has(&one.content));
    }

    #[test]
    fn a_folder_holds_what_is_below_it_and_not_its_neighbours() {
        let mut index = Index::default();
        for name in ["a", "d", "d!", "d-e/x", "d/x", "d/x/y", "d0", "e"] {
            index.put(path(name), record(name, 1));
        }
        assert_eq!(index.under(&path("d"), 9), [path("d/x"), path("d/x/y")]);
        assert_eq!(index.under(&path("d"), 1), [path("d/x")]);
        assert_eq!(index.under(&path("z"), 9), []);
        assert_eq!(
            index.list(Some(&path("d")), 2).into_iter().map(|(path, _)| path).collect::<Vec<_>>(),
            [path("d!"), path("d-e/x")]
        );
    }

    #[test]
    fn a_scan_finds_what_it_has_not_seen() {
        let mut index = Index::default();
        for name in ["a", "b", "c"] {
            index.put(path(name), record(name, 1));
        }
        index.begin_scan();
        index.see(&path("b"), &record("b", 1).stamp);
        index.put(path("n"), record("n", 1));
        let (first, last) = index.unseen(None, 2);
        assert_eq!((first, last.as_ref()), (vec![path("a")], Some(&path("b"))));
        let (second, last) = index.unseen(last.as_ref(), 9);
        assert_eq!((second, last.as_ref()), (vec![path("c")], Some(&path("n"))));
        assert_eq!(index.unseen(last.as_ref(), 9), (vec![], None));
    }
}
