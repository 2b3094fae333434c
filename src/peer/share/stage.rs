//! Files on their way into the share: written and hashed in `.enjambre/`, synced, then given their
//! name in one step that never replaces anything.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags, Stat, fsync, linkat, openat, renameat_with, statat, unlinkat},
    io::Errno,
};

use super::{
    Entry,
    hash::{Hashed, hash_now},
    index::Record,
    kill,
    lists::Lists,
    open::{Stamp, is_file},
    replaced::Kept,
    space,
    state::State,
    writeback::WriteBack,
};
use crate::{
    content::{ContentId, PieceHasher, PieceList},
    limits,
    name::SharePath,
};

/// How often a name may be taken and freed again by others while it is published.
const TRIES: usize = 8;

/// A file without a name in the share: its name in `.enjambre/`, removed when it is dropped.
struct Nameless {
    state: Arc<State>,
    name: String,
    is_partial: bool,
    /// Whether dropping it leaves it where it is.
    stays: bool,
}

impl Nameless {
    fn folder(&self) -> BorrowedFd<'_> {
        let private = &self.state.private;
        if self.is_partial { private.partial.as_fd() } else { private.tmp.as_fd() }
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        if !self.stays {
            let _ = unlinkat(self.folder(), &self.name, AtFlags::empty());
        }
    }
}

/// A file that is being written and hashed; it vanishes when it is dropped.
pub struct Staging {
    file: File,
    hasher: PieceHasher,
    write_back: WriteBack,
    nameless: Nameless,
}

impl Staging {
    pub(super) fn new(state: &Arc<State>) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&state.private.tmp, &name, flags, Mode::from_raw_mode(0o666))
            .map_err(|error| told("cannot begin a new file", error))?;
        kill::point("upload-begun");
        let nameless = Nameless { state: state.clone(), name, is_partial: false, stays: false };
        Ok(Self { file: file.into(), hasher: PieceHasher::default(), write_back: WriteBack::default(), nameless })
    }

    /// Has the system begin to write what it has to the disk; waits for nothing.
    pub fn send_on(&mut self) {
        self.write_back.send(&self.file);
    }

    /// Ends the writing: the bytes are on disk when this returns.
    ///
    /// # Errors
    /// When they cannot be brought there.
    pub fn finish(self) -> io::Result<Staged> {
        let stamp = fsync(&self.file).and_then(|()| Stamp::read(&self.file));
        let stamp = stamp.map_err(|error| told("cannot bring the file to disk", error))?;
        kill::point("upload-synced");
        let (content, list) = self.hasher.finish();
        // Closed: a form has many of these, and descriptors are few.
        let entry = Entry { content, size: stamp.size };
        Ok(Staged { entry, list, stamp, nameless: self.nameless, over: None, _lock: None })
    }
}

impl Write for Staging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        space::need(&self.nameless.state, bytes.len() as u64)?;
        let written = self.file.write(bytes).map_err(|error| match Errno::from_io_error(&error) {
            Some(error) if error != Errno::INTR => told("cannot write the file", error),
            _ => error,
        })?;
        kill::point("upload-written");
        let start = self.hasher.size();
        self.hasher.update(&bytes[..written]);
        self.write_back.wrote(&self.file, start..self.hasher.size());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A whole file without a name yet; it vanishes when it is dropped.
///
/// One that was a download stays where it is when it is dropped or cannot be published, so that the
/// download can go on from it when there is space again, say, or under another name.
pub struct Staged {
    entry: Entry,
    list: PieceList,
    stamp: Stamp,
    nameless: Nameless,
    /// What it may take the place of.
    over: Option<ContentId>,
    /// A download's file, which is locked while it is open.
    _lock: Option<File>,
}

impl Staged {
    /// What it holds.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The file of a download, whole and on disk.
    ///
    /// # Errors
    /// When the system cannot say what it is.
    pub(super) fn of_partial(
        state: Arc<State>,
        file: File,
        name: String,
        content: ContentId,
        list: PieceList,
    ) -> rustix::io::Result<Self> {
        let stamp = Stamp::read(&file)?;
        let nameless = Nameless { state, name, is_partial: true, stays: true };
        let entry = Entry { content, size: stamp.size };
        Ok(Self { entry, list, stamp, nameless, over: None, _lock: Some(file) })
    }

    /// The same, but that it may take the place of a shared file with this content.
    pub fn over(self, content: Option<ContentId>) -> Self {
        Self { over: content, ..self }
    }

    /// The file's stamp.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Gives the file its name, which is not on disk for sure before the folder is, or finds the same content there.
    pub(super) fn take_name(&self, path: &SharePath) -> Result<Named, PublishError> {
        let state = &self.nameless.state;
        if path.parts().count() > limits::SHARE_DEPTH + 1 {
            let sentence =
                format!("cannot make {path}: files more than {} folders deep are not shared", limits::SHARE_DEPTH);
            return Err(PublishError::Io(io::Error::new(io::ErrorKind::InvalidFilename, sentence)));
        }
        if state.index(|index| index.len() >= limits::SHARE_FILES && index.get(path).is_none()) {
            return Err(refused(format!("cannot make {path}: a share holds {} files at most", limits::SHARE_FILES)));
        }
        let failed = |error: Errno| PublishError::Io(told(format_args!("cannot make {path}"), error));
        state.save_list(&self.entry.content, &self.list).map_err(|error| failed(errno(&error)))?;
        for _ in 0..TRIES {
            let folder = match state.root.make_folders(path) {
                // A folder on the way was removed just after it was made.
                Err(Errno::NOENT) => continue,
                made => made.map_err(failed)?,
            };
            match name(self.nameless.folder(), &self.nameless.name, &folder, path.file_name()) {
                Ok(()) => {
                    kill::point("named");
                    return Ok(Named::New(folder));
                }
                Err(Errno::EXIST) => match self.compare(state, &folder, path) {
                    Ok(true) => return Ok(Named::Same),
                    Err(PublishError::Conflict) if self.take_place(&folder, path).map_err(failed)? => {
                        kill::point("exchanged");
                        return Ok(Named::Over(folder));
                    }
                    compared => drop(compared?),
                },
                // The folder was removed just after it was opened: make it again.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(refused(format!("cannot make {path}: others keep changing or removing it; try again")))
    }

    /// Changes places with the file that has the name, if that is what this one may take the place of, and nobody has
    /// changed it; what it was then has this one's name in `.enjambre/`.
    fn take_place(&self, folder: &OwnedFd, path: &SharePath) -> rustix::io::Result<bool> {
        let state = &self.nameless.state;
        let Some(old) = state.index(|index| index.get(path)).filter(|old| self.over == Some(old.content)) else {
            return Ok(false);
        };
        let exchange = || {
            let (from, name) = (self.nameless.folder(), &self.nameless.name);
            renameat_with(from, name, folder, path.file_name(), RenameFlags::EXCHANGE)
        };
        let stat = |folder: BorrowedFd<'_>, name: &str| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_old = |stat: Stat| is_file(&stat) && Stamp::of(&stat) == old.stamp;
        let Some((file, stamp)) = state.root.file(path)?.filter(|(_, stamp)| *stamp == old.stamp) else {
            return Ok(false);
        };
        let list = Lists::read(&state.private.pieces, &old.content, stamp.size);
        exchange()?;
        // Somebody may have put another there in between.
        if is_old(stat(self.nameless.folder(), &self.nameless.name)?) {
            let until = Instant::now() + limits::REPLACED_TIME;
            if let Some(list) = list {
                state.replaced.keep(Kept { entry: old.entry(), file, stamp, list, until });
            }
            return Ok(true);
        }
        exchange()?;
        state.look_again(path.clone());
        Ok(false)
    }

    /// What to record of it once its name is on disk.
    pub(super) fn record(&self) -> (Record, &PieceList) {
        (Record { content: self.entry.content, stamp: self.stamp }, &self.list)
    }

    /// Tidies up behind publishing, which `went` like this; `is_certain` if what has the name is what it was.
    pub(super) fn end(mut self, path: &SharePath, went: &Result<Published, PublishError>, is_certain: bool) {
        let state = self.nameless.state.clone();
        // Named, there is nothing left to remove. Compared, what it holds is here already, or is not wanted.
        self.nameless.stays = match went {
            Ok(Published::New) => true,
            // What was there before has its name now, and is kept open for those who are fetching it.
            Ok(Published::Same | Published::Over) => false,
            Err(_) => self.nameless.stays,
        };
        if !went.as_ref().is_ok_and(Published::is_named) {
            state.drop_list(&self.entry.content);
        }
        if !is_certain || matches!(went, Err(PublishError::Io(_))) {
            // Others have touched it already, or it has its name and is not on disk for sure.
            state.look_again(path.clone());
        }
    }

    /// Compares with the file that has the name: true for the same content, false if it changed or went meanwhile.
    fn compare(&self, state: &State, folder: &OwnedFd, path: &SharePath) -> Result<bool, PublishError> {
        let failed = |error: Errno| {
            PublishError::Io(told(format_args!("{path} is there and cannot be read to compare it"), error))
        };
        match statat(folder, path.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed(error)),
            Ok(stat) if !is_file(&stat) || stat.st_size as u64 != self.entry.size => {
                return Err(PublishError::Conflict);
            }
            Ok(_) => {}
        }
        let Some((file, stamp)) = state.root.file(path).map_err(failed)? else {
            return Ok(false);
        };
        let content = match state.see(path, &stamp) {
            Some(record) => record.content,
            None => match hash_now(state, path).map_err(failed)? {
                Hashed::Whole(record, _) => record.content,
                Hashed::Changed | Hashed::Stopped => return Ok(false),
            },
        };
        if content != self.entry.content {
            return Err(PublishError::Conflict);
        }
        // Whoever gave it that name may not have synced it, and the answer is a promise.
        fsync(&file).and_then(|()| fsync(folder)).map_err(failed)?;
        state.look_again(path.clone());
        Ok(true)
    }
}

/// Moves a file to a name that is free, in one step.
fn name(from: BorrowedFd<'_>, old: &str, to: &OwnedFd, new: &str) -> rustix::io::Result<()> {
    match renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // Not every file system and emulator knows the flag; a link replaces nothing either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(from, old, to, new, AtFlags::empty())?;
            unlinkat(from, old, AtFlags::empty())
        }
        done => done,
    }
}

/// How a file came by its name.
pub(super) enum Named {
    /// It has it now, in this folder.
    New(OwnedFd),
    /// So too, and what had it before has not.
    Over(OwnedFd),
    /// The same content had it.
    Same,
}

/// What publishing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The name is new.
    New,
    /// The name was there with the same content.
    Same,
    /// The name was there with the content that this one was to take the place of.
    Over,
}

impl Published {
    /// Whether the file has the name, and not another one of the same content.
    pub(super) fn is_named(&self) -> bool {
        matches!(self, Self::New | Self::Over)
    }
}

/// Why a file could not be published.
#[derive(Debug)]
pub enum PublishError {
    /// The name is taken by another content, or by something that is no file.
    Conflict,
    /// Something else stood in the way; a sentence.
    Io(io::Error),
}

impl Display for PublishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conflict => f.write_str("another file has that name: choose another name, or move that file away"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

fn refused(sentence: String) -> PublishError {
    PublishError::Io(io::Error::new(io::ErrorKind::InvalidInput, sentence))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// An error of the system as a sentence that says what to do; its kind stays.
pub(super) fn told(what: impl Display, error: Errno) -> io::Error {
    let remedy = match error {
        Errno::NOSPC => "the disk is full: make room and try again",
        Errno::DQUOT => "the disk quota is used up: make room and try again",
        Errno::ROFS => "the disk is read-only: mount it for writing",
        Errno::ACCESS | Errno::PERM => "permission denied: give the peer's user the right to write there",
        Errno::NOTDIR | Errno::LOOP => "a part of that path is no folder: choose another path",
        Errno::XDEV => "that folder is on another disk than the share: choose a folder that is not",
        Errno::NOENT => {
            "the share's folder was removed: put it back (if only .enjambre in it is gone, start the peer again)"
        }
        Errno::MFILE | Errno::NFILE => "too many files are open: try again in a moment",
        Errno::NAMETOOLONG => "the name is too long: choose a shorter one",
        error => return io::Error::new(io::Error::from(error).kind(), format!("{what}: {error}")),
    };
    io::Error::new(io::Error::from(error).kind(), format!("{what}: {remedy}"))
}
