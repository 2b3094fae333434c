//! A download's file, `.enjambre/partial/<id>`: sparse while it is incomplete, and kept until it is
//! whole or given up.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use rustix::{
    fs::{
        AtFlags, FlockOperation, Mode, OFlags, SeekFrom, flock, fstat, fsync, ftruncate, openat, seek, statat, unlinkat,
    },
    io::Errno,
};

use super::{Entry, Staged, held, kill, space, stage::told, state::State, writeback::WriteBack};
use crate::content::{ContentId, PieceList};

/// A download's file; it stays when it is dropped, for the download to go on later.
pub struct Partial {
    state: Arc<State>,
    name: String,
    /// Locked, and by that the only one open for its content.
    file: File,
    write_back: Mutex<WriteBack>,
}

/// A file below the private folder that has lost its name already.
pub(super) fn nameless(state: &State) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&state.private.tmp, "passing", flags, Mode::RUSR | Mode::WUSR)?;
    unlinkat(&state.private.tmp, "passing", AtFlags::empty())?;
    Ok(file.into())
}

impl Partial {
    pub(super) fn open(state: &Arc<State>, content: &ContentId) -> io::Result<Self> {
        let name = content.to_string();
        if let Some(file) = state.passing.get() {
            return Ok(Self { state: state.clone(), name, file: file.try_clone()?, write_back: Mutex::default() });
        }
        let failed = |error| told("cannot open the download's file", error);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = openat(&state.private.partial, &name, flags, Mode::from_raw_mode(0o666)).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let sentence = "another download of the same content is under way: wait for it";
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, sentence));
                }
                Err(error) => return Err(failed(error)),
            }
            // The one who had it locked may have published or removed it before letting go.
            let inode = fstat(&file).map_err(failed)?.st_ino;
            match statat(&state.private.partial, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if stat.st_ino == inode => {
                    return Ok(Self { state: state.clone(), name, file: file.into(), write_back: Mutex::default() });
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Reads at an offset, as `pread`.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    /// Writes all of `bytes` at an offset.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        space::need(&self.state, bytes.len() as u64)?;
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| told("cannot write the download", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        kill::point("download-written");
        held(&self.write_back).wrote(&self.file, offset..offset + bytes.len() as u64);
        Ok(())
    }

    /// The file opened once more, to be read by others while it grows. It does not hold the lock.
    ///
    /// # Errors
    /// The system's.
    pub fn reader(&self) -> io::Result<File> {
        if let Some(file) = self.state.passing.get() {
            return file.try_clone();
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.state.private.partial, &self.name, flags, Mode::empty())?.into())
    }

    /// The ranges of the file, in order, that may hold data (holes left out), up to `size`.
    ///
    /// # Errors
    /// The system's.
    pub fn data(&self, size: u64) -> io::Result<Vec<Range<u64>>> {
        let size = size.min(self.file.metadata()?.len());
        let mut ranges = Vec::new();
        let mut end = 0;
        while end < size {
            let start = match seek(&self.file, SeekFrom::Data(end)) {
                Ok(start) if start < size => start,
                Ok(_) | Err(Errno::NXIO) => break,
                // A file system that knows no holes.
                Err(Errno::INVAL) => end,
                Err(error) => return Err(error.into()),
            };
            end = match seek(&self.file, SeekFrom::Hole(start)) {
                Ok(end) => end.min(size),
                Err(Errno::INVAL | Errno::NXIO) => size,
                Err(error) => return Err(error.into()),
            };
            ranges.push(start..end);
        }
        Ok(ranges)
    }

    /// The whole file, verified by the caller piece by piece: brought to disk, cut to its size and
    /// ready to be published under its name.
    ///
    /// # Errors
    /// When the bytes cannot be brought to disk.
    pub fn into_staged(self, entry: Entry, pieces: &PieceList) -> io::Result<Staged> {
        ftruncate(&self.file, entry.size)
            .inspect(|()| kill::point("download-cut"))
            .and_then(|()| fsync(&self.file))
            .inspect(|()| kill::point("download-synced"))
            .and_then(|()| Staged::of_partial(self.state, self.file, self.name, entry.content, pieces.clone()))
            .map_err(|error| told("cannot bring the download to disk", error))
    }
}
