//! The share: the only code that opens files.
//!
//! | module | what |
//! |---|---|
//! | `open` | safe open, part by part below the share's folder |
//! | `private` | `.enjambre/`: lock and identity |
//! | `index` | what is shared, in memory; pure |
//! | `saved`, `lists` | what was hashed, and piece lists, on disk |
//! | `state` | all of these together; what threads tell each other |
//! | `rest` | which files are being written, which have come to rest; pure |
//! | `writers` | which files are open for writing |
//! | `inotify`, `watch` | the thread that scans, and is told what changes |
//! | `queue`, `hash` | what is to be hashed, and the thread that hashes it |
//! | `replaced` | what newer versions have taken the place of, as long as it is being fetched |
//! | `removal` | what a peer that follows others takes out of the share again |
//! | `stage`, `partial`, `publish`, `writeback` | files on their way into the share |
//! | `kill` | where tests kill a peer; empty in what is built for use |
//! | `space` | what may be written of the disk, and what is kept free |
//! | `followed` | what a peer that follows others keeps of that, on disk |
//! | `jobs` | what is to be downloaded, on disk, and what is left of downloads |
//!
//! A file is shared once it was hashed, and while its stamp (size, time of change, inode) is the one
//! it had then. Whoever opens it compares; the watcher sees to it that the index follows.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{content::ContentId, name::SharePath, size::KeepFree};

mod followed;
mod hash;
mod index;
mod inotify;
mod jobs;
mod kill;
mod lists;
mod open;
mod partial;
mod private;
mod publish;
mod queue;
mod removal;
mod replaced;
mod rest;
mod saved;
mod space;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod watch;
mod writeback;
mod writers;

pub use jobs::{JobRecord, Leftover};
pub use partial::Partial;
#[cfg(any(test, fuzzing))]
pub(crate) use saved::oracle;
pub use space::NoRoom;
pub use stage::{PublishError, Published, Staged, Staging};

use open::Stamp;
use state::State;

/// Stack of the share's own threads; they recurse nowhere.
const STACK: usize = 256 << 10;

/// A peer's folder. Clones are handles to the same share; with the last one its threads end.
#[derive(Clone)]
pub struct Share(Arc<Handle>);

struct Handle {
    state: Arc<State>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.state.stop();
        for thread in held(&self.threads).drain(..) {
            // The last handle may be dropped by a callback, on one of these threads.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Locks. A thread that panicked with the lock in hand left nothing half done that matters here:
/// what is shared is compared with the disk again whenever it is used.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a shared file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its content.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
}

/// What stands under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A shared file.
    Known(Entry),
    /// A file that is not hashed yet, or has changed since.
    Unhashed,
    /// No file that could be shared.
    Absent,
}

/// How far hashing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing {
    /// Files still to hash, the current one included.
    pub files: usize,
    /// Bytes in them still to hash.
    pub bytes: u64,
}

impl Share {
    /// Opens `folder` for the peer described by `holder` (say `peer_1 on port 5000, process 77`; others
    /// who want the folder are told), takes its lock, makes `.enjambre/` with an identity in it where
    /// there is none, and reads the saved index. Removes what earlier uploads left. Uploads and downloads
    /// leave free what `keep_free` says.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the folder and what to do.
    pub fn open(folder: &Path, holder: &str, keep_free: KeepFree) -> Result<Self, String> {
        Ok(Self::of(State::open(folder, holder, keep_free)?))
    }

    /// Opens `folder` for a visit: what is fetched is published into it, its own files are not offered, and nothing
    /// watches it. Needs no lock on the folder, so a peer may share it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn visit(folder: &Path, keep_free: KeepFree) -> Result<Self, String> {
        Ok(Self::of(State::visit(folder, keep_free)?))
    }

    /// A share for one content that is only passed on: what comes of it is written to a file of `folder` that has no
    /// name any more when this returns, and nothing can be published.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn passing(folder: &Path, keep_free: KeepFree) -> Result<Self, String> {
        let state = State::visit(folder, keep_free)?;
        let file = partial::nameless(&state);
        state.private.end_visit(&state.root);
        let file = file.map_err(|error| format!("cannot write to {}: {error}", folder.display()))?;
        let _ = state.passing.set(file);
        Ok(Self::of(state))
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Handle { state: Arc::new(state), threads: Mutex::default() }))
    }

    /// Ends a visit; gives the folder that stays where something is here of a get that was broken off.
    pub fn end_visit(&self) -> Option<&Path> {
        let state = &self.0.state;
        for left in jobs::leftovers(state).iter().filter(|left| left.bytes == 0) {
            jobs::discard(state, &left.content);
        }
        let is_gone = state.passing.get().is_some() || state.private.end_visit(&state.root);
        (!is_gone).then_some(&state.private.path)
    }

    /// Begins to scan, watch and hash, on threads of the share's own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(&self) -> io::Result<()> {
        let mut threads = held(&self.0.threads);
        if !threads.is_empty() {
            return Ok(());
        }
        for (name, run) in [("share-hash", hash::run as fn(&State)), ("share-watch", watch::run)] {
            let state = self.0.state.clone();
            threads.push(thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || run(&state))?);
        }
        Ok(())
    }

    /// The 256 secret bits that prove to a tracker that this is the same peer as before.
    pub fn identity(&self) -> &[u8; 32] {
        &self.0.state.private.identity
    }

    /// The path of `.enjambre/`, which nobody else can enter, for a socket in it.
    pub fn private_folder(&self) -> &Path {
        &self.0.state.private.path
    }

    /// Number of shared files, and their bytes in all.
    pub fn totals(&self) -> (usize, u64) {
        self.0.state.index(|index| index.totals())
    }

    /// What is still to be hashed; none when all that is here is known. Before the first scan has
    /// ended this is never none.
    pub fn hashing(&self) -> Option<Hashing> {
        self.0.state.hashing()
    }

    /// Waits until [`Share::hashing`] gives some.
    pub fn wait_hashing(&self) {
        self.0.state.wait_hashing();
    }

    /// What stands under `path` on disk now.
    pub fn look_up(&self, path: &SharePath) -> Lookup {
        self.0.state.look_up(path)
    }

    /// As [`Share::look_up`]; a file that is not hashed yet is given until `deadline`, and on a visit it is hashed here.
    pub fn look_up_hashed(&self, path: &SharePath, deadline: Instant) -> Lookup {
        loop {
            match self.look_up(path) {
                Lookup::Unhashed if self.0.state.is_visit => return hash::look(&self.0.state, path),
                Lookup::Unhashed if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    /// At most `limit` shared files behind `after`, in order of their paths.
    pub fn list(&self, after: Option<&SharePath>, limit: usize) -> Vec<(SharePath, Entry)> {
        self.0.state.index(|index| index.list(after, limit))
    }

    /// A path under which `content` is shared.
    pub fn path_of(&self, content: &ContentId) -> Option<(SharePath, Entry)> {
        self.0.state.path_of(content)
    }

    /// Opens a shared file to be sent. None when it is not shared or no longer what was hashed (which
    /// also has it looked at again).
    pub fn read(&self, path: &SharePath) -> Option<SharedFile> {
        let state = &self.0.state;
        match state.root.file(path) {
            Ok(Some((file, stamp))) => match state.see(path, &stamp) {
                Some(record) => Some(SharedFile { entry: record.entry(), file, stamp }),
                None => {
                    state.look_again(path.clone());
                    None
                }
            },
            Ok(None) => {
                state.look_up(path);
                None
            }
            Err(_) => None,
        }
    }

    /// Opens a file that has this content, be it that a newer one has just taken its place.
    pub fn whole(&self, content: &ContentId) -> Option<SharedFile> {
        let shared = self.path_of(content).and_then(|(path, _)| self.read(&path));
        shared.or_else(|| self.0.state.replaced.find(content).map(|(file, _)| file))
    }

    /// Whether it has a file with this content, or a newer one has just taken its place.
    pub fn has(&self, content: &ContentId) -> bool {
        self.path_of(content).is_some() || self.0.state.replaced.find(content).is_some()
    }

    /// The piece list of a content that it has, in binary form.
    pub fn piece_list(&self, content: &ContentId) -> Option<Vec<u8>> {
        let replaced = || self.0.state.replaced.find(content).map(|(_, list)| list);
        self.0.state.piece_list(content).or_else(replaced)
    }

    /// Lets go of files that newer ones have taken the place of and that nobody fetches any more; when to look again,
    /// if there are others.
    pub fn let_go(&self) -> Option<Instant> {
        self.0.state.replaced.let_go(Instant::now())
    }

    /// Calls `wake` after every change of what is shared. It must not block.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.0.state.on_change(Box::new(wake));
    }

    /// Calls `tell` when the share's folder was removed and there is one again where it was: that is another
    /// share, to be opened anew.
    pub fn on_replaced(&self, tell: impl Fn() + Send + Sync + 'static) {
        self.0.state.on_replaced(Box::new(tell));
    }

    /// Takes at most `limit` paths whose state has changed since they were last taken, with their
    /// state now; none as entry means no longer shared.
    pub fn take_changes(&self, limit: usize) -> Vec<(SharePath, Option<Entry>)> {
        self.0.state.index(|index| index.take_changes(limit))
    }

    /// A new file to write to, in `.enjambre/`, that vanishes unless it is published.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage(&self) -> io::Result<Staging> {
        Staging::new(&self.0.state)
    }

    /// The file in `.enjambre/partial/` that holds what is here of `content`; made where there is none.
    ///
    /// # Errors
    /// When it cannot be opened, or another download of the same content has it.
    pub fn partial(&self, content: &ContentId) -> io::Result<Partial> {
        Partial::open(&self.0.state, content)
    }

    /// Takes note that `content` is to be brought to `path`, so that it survives a power cut. Where that
    /// is noted already, it counts as asked for now.
    ///
    /// # Errors
    /// When it cannot be written; a full disk among them.
    pub fn record_job(&self, content: &ContentId, path: &SharePath) -> io::Result<()> {
        jobs::record(&self.0.state, content, path)
    }

    /// Takes such a note back.
    pub fn forget_job(&self, content: &ContentId, path: &SharePath) {
        jobs::forget(&self.0.state, content, path);
    }

    /// What has been noted, the job used longest ago first. Damaged notes are dropped and those of a newer
    /// version left alone, and a person is told.
    pub fn recorded_jobs(&self) -> Vec<JobRecord> {
        jobs::recorded(&self.0.state)
    }

    /// How long ago a job was last asked for, or bytes of it came; none where it is not noted.
    pub fn job_unused(&self, content: &ContentId, path: &SharePath) -> Option<Duration> {
        jobs::job_unused(&self.0.state, content, path)
    }

    /// What is here of downloads that no note is about.
    pub fn leftovers(&self) -> Vec<Leftover> {
        jobs::leftovers(&self.0.state)
    }

    /// What is here of a download; none when nothing is.
    pub fn leftover(&self, content: &ContentId) -> Option<Leftover> {
        jobs::leftover(&self.0.state, *content)
    }

    /// Removes what is here of a download. False when it is under way, or cannot be removed.
    pub fn discard_partial(&self, content: &ContentId) -> bool {
        jobs::discard(&self.0.state, content)
    }

    /// Takes the file at `path` out of the share, if it is `content` and nobody has changed it. Whether it was.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &SharePath, content: &ContentId) -> io::Result<bool> {
        removal::remove(&self.0.state, path, content)
    }

    /// What was noted of whom this peer follows, line by line; damaged lines are left out.
    ///
    /// # Errors
    /// When it cannot be read, or a newer version has written it.
    pub fn followed(&self) -> io::Result<Vec<String>> {
        followed::read(&self.0.state)
    }

    /// Notes more of that, so that it survives a power cut.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_followed(&self, lines: &[String]) -> io::Result<()> {
        followed::append(&self.0.state, lines)
    }

    /// Makes `lines` all that is noted of it.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rewrite_followed(&self, lines: &[String]) -> io::Result<()> {
        followed::rewrite(&self.0.state, lines)
    }

    /// Bytes that may still be written to the share's disk beside what is kept free, as far as the system says
    /// (a quota it does not).
    pub fn room(&self) -> Option<u64> {
        space::room(&self.0.state)
    }

    /// To be asked before bytes come. They are not set aside: a stranger could announce many and send none. So
    /// each write looks again.
    ///
    /// # Errors
    /// [`NoRoom`], of kind [`io::ErrorKind::StorageFull`], unless there is room for so many.
    pub fn need(&self, bytes: u64) -> io::Result<()> {
        space::need(&self.0.state, bytes)
    }

    /// Gives a staged file its name: folders on the way are made, the name appears whole or not at
    /// all, nothing is ever replaced but what it is [`over`](Staged::over), and when this returns it will survive a power cut.
    ///
    /// # Errors
    /// When another content has that name, or the name cannot be made.
    pub fn publish(&self, staged: Staged, path: &SharePath) -> Result<Published, PublishError> {
        let mut went = publish::publish(&self.0.state, vec![(staged, path.clone())]);
        went.pop().expect("there is one answer for one file")
    }

    /// Brings many small files to disk and gives them their names, at the price of few: as
    /// [`publish`](Self::publish) for each, in the order given. Every file is open until it is on disk.
    pub fn publish_all(&self, files: Vec<(Staging, SharePath)>) -> Vec<Result<Published, PublishError>> {
        let (files, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let mut staged = Vec::new();
        // Those that are not on disk have their answer.
        let mut answers: Vec<_> = (publish::finish(files).into_iter().zip(paths))
            .map(|(file, path)| file.map(|file| staged.push((file, path))).err().map(PublishError::Io))
            .collect();
        let mut went = publish::publish(&self.0.state, staged).into_iter();
        let answer = |error: &mut Option<PublishError>| match error.take() {
            Some(error) => Err(error),
            None => went.next().expect("there is one answer for each file"),
        };
        answers.iter_mut().map(answer).collect()
    }
}

/// A shared file, open.
pub struct SharedFile {
    /// What was hashed, and what the file was when it was opened.
    pub entry: Entry,
    /// To be read with an offset of the reader's own.
    pub file: File,
    stamp: Stamp,
}

impl SharedFile {
    /// Whether the file is still what was hashed. To be asked after the last read and before the last bytes go out.
    pub fn is_unchanged(&self) -> bool {
        Stamp::read(&self.file).is_ok_and(|stamp| stamp == self.stamp)
    }
}
