//! What the share's parts have in common: the open folders, the index, and what happens to both
//! together. The index is never locked while a file is touched.

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Display,
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io,
};

use super::{
    Entry, Hashing, Lookup, held,
    index::{Index, Record},
    lists::Lists,
    open::{Root, Stamp},
    private::Private,
    queue::Queue,
    replaced::Replaced,
    saved::{Line, Saved},
};
use crate::{
    content::{ContentId, PieceList},
    name::SharePath,
    size::KeepFree,
};

/// Things warned of once, each; beyond them one last line says that there are more.
const WARNINGS: usize = 1000;
/// Paths of one content that are tried before it counts as gone.
const TRIES: usize = 16;

type Wake = Box<dyn Fn() + Send + Sync>;

pub(super) struct State {
    /// As the person named it.
    pub(super) path: PathBuf,
    pub(super) root: Root,
    pub(super) private: Private,
    pub(super) keep_free: KeepFree,
    /// Nobody watches and hashes it, and its private folder goes with it.
    pub(super) is_visit: bool,
    /// Where all that is received goes that has no name to come: a file that has none either.
    pub(super) passing: OnceLock<File>,
    /// When it was opened, by both clocks.
    opened: (SystemTime, Instant),
    index: Mutex<Index>,
    saved: Saved,
    lists: Lists,
    pub(super) queue: Queue,
    /// Paths about to be published, with their stamps: what the watcher sees of them is no news.
    publishing: Mutex<Vec<(SharePath, Stamp)>>,
    pub(super) replaced: Replaced,
    wakes: RwLock<Vec<Wake>>,
    /// To be told that another folder has taken the place of the one that is open.
    on_replaced: OnceLock<Wake>,
    warned: Mutex<HashSet<u64>>,
    watcher: Mutex<Watcher>,
    /// The watcher has given its account.
    watched: Condvar,
    /// Wakes the watcher.
    pub(super) bell: OwnedFd,
    hashed: AtomicU64,
}

/// What the watcher and the others tell each other.
struct Watcher {
    /// Paths to look at.
    asked: BTreeSet<SharePath>,
    /// Files that wait to come to rest.
    resting: usize,
    /// It looks at what was asked, or scans what is new.
    is_busy: bool,
    is_stopped: bool,
}

impl State {
    pub(super) fn open(folder: &Path, holder: &str, keep_free: KeepFree) -> Result<Self, String> {
        Self::with(folder, keep_free, false, |root| Private::open(root, folder, holder))
    }

    /// The state of a share that lasts for a visit.
    pub(super) fn visit(folder: &Path, keep_free: KeepFree) -> Result<Self, String> {
        Self::with(folder, keep_free, true, |root| Private::visit(root, folder))
    }

    fn with(
        folder: &Path,
        keep_free: KeepFree,
        is_visit: bool,
        private: impl FnOnce(&Root) -> Result<Private, String>,
    ) -> Result<Self, String> {
        let shown = folder.display();
        let root = Root::open(folder).map_err(|error| match error {
            io::Errno::NOENT => format!("folder {shown} does not exist: make it, or name another"),
            io::Errno::NOTDIR => format!("{shown} is not a folder: name one"),
            io::Errno::ACCESS => format!("cannot open folder {shown}: give the peer's user permission to read it"),
            error => format!("cannot open folder {shown}: {error}"),
        })?;
        let private = private(&root)?;
        let mut index = Index::default();
        let saved = Saved::open(&private.folder, &mut index).map_err(|error| format!("folder {shown}: {error}"))?;
        let lists = Lists::open(&private.pieces, &index);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| format!("cannot watch folder {shown}: {error}"))?;
        Ok(Self {
            path: folder.to_owned(),
            root,
            private,
            keep_free,
            is_visit,
            passing: OnceLock::new(),
            opened: (SystemTime::now(), Instant::now()),
            index: Mutex::new(index),
            saved,
            lists,
            queue: Queue::default(),
            publishing: Mutex::default(),
            replaced: Replaced::default(),
            wakes: RwLock::default(),
            on_replaced: OnceLock::new(),
            warned: Mutex::default(),
            watcher: Mutex::new(Watcher { asked: BTreeSet::new(), resting: 0, is_busy: true, is_stopped: false }),
            watched: Condvar::new(),
            bell,
            hashed: AtomicU64::new(0),
        })
    }

    /// The time of day, as it has gone on since the start: a clock that is set meanwhile makes nothing old at once.
    pub(super) fn now(&self) -> SystemTime {
        self.opened.0 + self.opened.1.elapsed()
    }

    // ---- what is known ---------------------------------------------------------------------

    /// Runs a look at the index, which must not touch a file.
    pub(super) fn index<T>(&self, look: impl FnOnce(&mut Index) -> T) -> T {
        look(&mut held(&self.index))
    }

    /// What stands at `path`, compared with what was hashed. What differs is no longer shared.
    pub(super) fn look_up(&self, path: &SharePath) -> Lookup {
        match self.root.stat(path) {
            Ok(Some(stat)) => match self.see(path, &Stamp::of(&stat)) {
                Some(record) => Lookup::Known(record.entry()),
                None => {
                    self.look_again(path.clone());
                    Lookup::Unhashed
                }
            },
            Ok(None) => {
                self.doubt(path);
                Lookup::Absent
            }
            // Too many open files, or a disk that fails: it says nothing of the file.
            Err(_) => Lookup::Unhashed,
        }
    }

    /// The record of `path` if its file, seen now, is what was hashed; what it was before is dropped if not.
    pub(super) fn see(&self, path: &SharePath, stamp: &Stamp) -> Option<Record> {
        let (seen, record) = self.index(|index| (index.see(path, stamp), index.get(path)));
        match (seen, record) {
            (Some(is_news), record) => {
                if is_news {
                    self.wake();
                }
                record
            }
            (None, Some(_)) => {
                self.doubt(path);
                None
            }
            (None, None) => None,
        }
    }

    /// A path that has `content` on disk now.
    pub(super) fn path_of(&self, content: &ContentId) -> Option<(SharePath, Entry)> {
        let paths: Vec<_> = self.index(|index| index.paths_of(content).take(TRIES).cloned().collect());
        paths.into_iter().find_map(|path| match self.look_up(&path) {
            Lookup::Known(entry) if entry.content == *content => Some((path, entry)),
            _ => None,
        })
    }

    /// The piece list of a content; if it is lost, its files are hashed again.
    pub(super) fn piece_list(&self, content: &ContentId) -> Option<Vec<u8>> {
        let (path, entry) = self.path_of(content)?;
        let list = Lists::read(&self.private.pieces, content, entry.size);
        if list.is_none() {
            let _ = Lists::remove(&self.lists.lock(), &self.private.pieces, content);
            self.doubt(&path);
        }
        list
    }

    // ---- what changes ----------------------------------------------------------------------

    /// Shares files that were hashed, and tells of them once. For each, false if it is no longer that, and is
    /// to be looked at again.
    #[must_use]
    pub(super) fn record(&self, files: &[(&SharePath, Record, &PieceList)]) -> Vec<bool> {
        let lists = self.lists.lock();
        let (mut gone, mut is_news) = (Vec::new(), Vec::new());
        for (path, record, list) in files {
            if let Err(error) = Lists::save(&lists, &self.private.pieces, &record.content, list) {
                self.warn(
                    "piece lists",
                    format_args!("cannot save a piece list in {}: {error}", self.private.path.display()),
                );
            }
            let (before, news) = self.index(|index| (index.get(path), index.put((*path).clone(), *record)));
            gone.extend(before.map(|before| before.content).filter(|content| *content != record.content));
            is_news.push(news);
        }
        drop(lists);
        self.saved.append(files.iter().map(|(path, record, _)| Line::Put((*path).clone(), *record)));
        gone.iter().for_each(|content| self.drop_list(content));
        // A file that went while it was hashed was reported gone before it was put: look once more.
        let stays = |(path, record, _): &(&SharePath, Record, &PieceList)| match self.root.stat(path) {
            Ok(Some(stat)) => Stamp::of(&stat) == record.stamp,
            Ok(None) => false,
            Err(_) => true,
        };
        let stays: Vec<bool> = files.iter().map(stays).collect();
        let others = files.iter().zip(&stays).filter(|(_, stays)| !**stays);
        self.drop_entries(others.map(|((path, ..), _)| (*path).clone()).collect());
        if stays.iter().zip(is_news).any(|(stays, news)| *stays && news) {
            self.wake();
        }
        stays
    }

    /// Stops sharing a path at which something else was seen. By now the watcher may have seen the
    /// right file again and found it known, so it is to look once more.
    fn doubt(&self, path: &SharePath) {
        if self.drop_entry(path) {
            self.look_again(path.clone());
        }
    }

    /// Saves the piece list of a file that is to be published, while a full disk can still be reported.
    pub(super) fn save_list(&self, content: &ContentId, list: &PieceList) -> std::io::Result<()> {
        Lists::save(&self.lists.lock(), &self.private.pieces, content, list)
    }

    /// Stops sharing a path; false if it was not known.
    pub(super) fn drop_entry(&self, path: &SharePath) -> bool {
        self.drop_entries(vec![path.clone()])
    }

    /// Stops sharing all below a folder.
    pub(super) fn drop_folder(&self, folder: &SharePath) {
        const PAGE: usize = 1000;
        loop {
            let paths = self.index(|index| index.under(folder, PAGE));
            if !self.drop_entries(paths) {
                return;
            }
        }
    }

    fn drop_entries(&self, mut paths: Vec<SharePath>) -> bool {
        let mut last_of = Vec::new();
        self.index(|index| {
            paths.retain(|path| {
                let removed = index.remove(path);
                last_of.extend(removed.as_ref().and_then(|removed| removed.last_of));
                removed.is_some()
            });
        });
        if paths.is_empty() {
            return false;
        }
        self.saved.append(paths.into_iter().map(Line::Gone));
        for content in last_of {
            self.drop_list(&content);
        }
        self.wake();
        true
    }

    /// Removes the piece list of a content unless a file has it.
    pub(super) fn drop_list(&self, content: &ContentId) {
        let lists = self.lists.lock();
        if !self.index(|index| index.has(content)) {
            let _ = Lists::remove(&lists, &self.private.pieces, content);
        }
    }

    /// Keeps the saved index from growing.
    pub(super) fn tidy(&self) {
        self.saved.tidy(&self.private.folder, &self.index);
    }

    // ---- publishing ------------------------------------------------------------------------

    /// Runs `publish` while what appears at these paths with these stamps is known to be ours.
    pub(super) fn while_publishing<T>(&self, marks: Vec<(SharePath, Stamp)>, publish: impl FnOnce() -> T) -> T {
        held(&self.publishing).extend(marks.iter().cloned());
        let done = publish();
        let mut publishing = held(&self.publishing);
        for mark in marks {
            if let Some(place) = publishing.iter().position(|other| *other == mark) {
                publishing.swap_remove(place);
            }
        }
        done
    }

    pub(super) fn is_publishing(&self, path: &SharePath, stamp: &Stamp) -> bool {
        held(&self.publishing).iter().any(|(other, other_stamp)| other == path && other_stamp == stamp)
    }

    // ---- talk between threads --------------------------------------------------------------

    pub(super) fn on_change(&self, wake: Wake) {
        self.wakes.write().unwrap_or_else(PoisonError::into_inner).push(wake);
    }

    pub(super) fn on_replaced(&self, tell: Wake) {
        let _ = self.on_replaced.set(tell);
    }

    pub(super) fn tell_replaced(&self) {
        self.on_replaced.get().inspect(|tell| tell());
    }

    fn wake(&self) {
        for wake in self.wakes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            wake();
        }
    }

    /// Has the watcher look at a path.
    pub(super) fn look_again(&self, path: SharePath) {
        if held(&self.watcher).asked.insert(path) {
            self.ring();
        }
    }

    /// What the watcher was asked to look at. It is busy until it says otherwise.
    pub(super) fn take_asked(&self) -> BTreeSet<SharePath> {
        let mut watcher = held(&self.watcher);
        watcher.is_busy |= !watcher.asked.is_empty();
        std::mem::take(&mut watcher.asked)
    }

    /// The watcher's account of itself.
    pub(super) fn watching(&self, resting: usize, is_busy: bool) {
        let mut watcher = held(&self.watcher);
        (watcher.resting, watcher.is_busy) = (resting, is_busy);
        drop(watcher);
        self.watched.notify_all();
    }

    /// Waits until there is something to hash, or the share is stopped.
    pub(super) fn wait_hashing(&self) {
        // All that is ever hashed goes by the watcher.
        let is_idle = |watcher: &mut Watcher| !watcher.is_stopped && self.hashing_by(watcher).is_none();
        drop(self.watched.wait_while(held(&self.watcher), is_idle));
    }

    pub(super) fn hashing(&self) -> Option<Hashing> {
        self.hashing_by(&held(&self.watcher))
    }

    fn hashing_by(&self, watcher: &Watcher) -> Option<Hashing> {
        let (files, bytes) = self.queue.left();
        let files = files + watcher.resting + watcher.asked.len();
        (files > 0 || watcher.is_busy).then_some(Hashing { files, bytes })
    }

    pub(super) fn stop(&self) {
        held(&self.watcher).is_stopped = true;
        self.watched.notify_all();
        self.queue.stop();
        self.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        held(&self.watcher).is_stopped
    }

    fn ring(&self) {
        // It fails only when the bell rings already.
        let _ = io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Says `line` to the person, once for each `about`.
    pub(super) fn warn(&self, about: impl Hash, line: impl Display) {
        let mut hasher = DefaultHasher::new();
        about.hash(&mut hasher);
        let mut warned = held(&self.warned);
        if warned.len() <= WARNINGS && warned.insert(hasher.finish()) {
            if warned.len() <= WARNINGS {
                crate::say(line);
            } else {
                crate::say("there is more like this, which is not listed");
            }
        }
    }

    pub(super) fn count_hashed(&self, bytes: u64) {
        self.hashed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes hashed from files since the start.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }
}
