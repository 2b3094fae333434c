//! Opening by parts: every step of a path is opened below the one before it and may not be a
//! symlink, so nothing outside the share is ever reached, whatever is swapped meanwhile. Plain
//! `openat`, which every kernel has.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, statat},
    io::{Errno, Result},
};

use crate::{limits::SHARE_DEPTH, name::SharePath};

/// A folder in the share; none is the share itself.
pub(super) type Folder = Option<SharePath>;

/// To list a folder or to bring it to disk.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// To go through a folder: needs no permission to read it.
const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// To read a file; a FIFO that was swapped in blocks nobody.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What tells whether a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) mtime: i64,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        let seconds = stat.st_mtime.saturating_mul(1_000_000_000);
        Self { size: stat.st_size as u64, mtime: seconds.saturating_add(stat.st_mtime_nsec as i64), inode: stat.st_ino }
    }

    /// The stamp of an open file.
    pub(super) fn read(file: impl AsFd) -> Result<Self> {
        fstat(file).map(|stat| Self::of(&stat))
    }
}

pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Whether an error means that there is nothing to share at a path, rather than that it could not be seen.
pub(super) fn is_absent(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG | Errno::STALE | Errno::NXIO
    )
}

/// The share's folder, held open: it stays the same when it is renamed.
pub(super) struct Root(OwnedFd);

/// Where a file is or will be: the folder it is in, open, and its name there.
struct Place<'a> {
    root: BorrowedFd<'a>,
    below: Option<OwnedFd>,
    name: &'a str,
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.below.as_ref().map_or(self.root, AsFd::as_fd)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// The folder that a person named: symlinks on the way to it are theirs.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    /// Whether it was removed. It can be listed even then, and has nothing in it.
    pub(super) fn is_removed(&self) -> bool {
        fstat(self).is_ok_and(|stat| stat.st_nlink == 0)
    }

    fn place<'a>(&'a self, path: &'a SharePath) -> Result<Place<'a>> {
        let mut place = Place { root: self.0.as_fd(), below: None, name: path.file_name() };
        let folders = path.parts().count() - 1;
        if folders > SHARE_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        for part in path.parts().take(folders) {
            place.below = Some(openat(&place, part, STEP, Mode::empty())?);
        }
        Ok(place)
    }

    /// Opens a folder to list it.
    pub(super) fn folder(&self, folder: &Folder) -> Result<OwnedFd> {
        match folder {
            None => openat(self, ".", FOLDER, Mode::empty()),
            Some(path) => {
                let place = self.place(path)?;
                openat(&place, place.name, FOLDER, Mode::empty())
            }
        }
    }

    /// Opens the folder that `path` is in.
    pub(super) fn parent(&self, path: &SharePath) -> Result<OwnedFd> {
        let place = self.place(path)?;
        openat(&place, ".", FOLDER, Mode::empty())
    }

    /// What is known of the file at `path`; none where there is no file.
    pub(super) fn stat(&self, path: &SharePath) -> Result<Option<Stat>> {
        let found = self.place(path).and_then(|place| statat(&place, place.name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(is_file(&stat).then_some(stat)),
            Err(error) if is_absent(error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file at `path`; none where there is no file.
    pub(super) fn file(&self, path: &SharePath) -> Result<Option<(File, Stamp)>> {
        // Asked first, because to open a device can be to use it; asked again of what was opened.
        if self.stat(path)?.is_none() {
            return Ok(None);
        }
        let opened = self.place(path).and_then(|place| openat(&place, place.name, FILE, Mode::empty()));
        match opened {
            Ok(file) => {
                let stat = fstat(&file)?;
                Ok(is_file(&stat).then(|| (file.into(), Stamp::of(&stat))))
            }
            Err(error) if is_absent(error) && error != Errno::ACCESS => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the folder that `path` is to be in, and makes what is missing of it, so that it
    /// survives a power cut.
    pub(super) fn make_folders(&self, path: &SharePath) -> Result<OwnedFd> {
        let mut folder = self.folder(&None)?;
        let folders = path.parts().count() - 1;
        for part in path.parts().take(folders) {
            folder = match openat(&folder, part, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => fsync(&folder)?,
                        Err(error) => return Err(error),
                    }
                    openat(&folder, part, FOLDER, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(folder)
    }
}
