//! Piece lists on disk, `.enjambre/pieces/<id>`: memory need not hold them, and a list that is lost
//! or garbled is made again by hashing, so none is ever synced.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, MutexGuard},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, renameat, statat, unlinkat},
    io::Result,
};

use super::{held, index::Index, kill, private};
use crate::{
    content::{ContentId, PieceList, Pieces},
    limits::PIECES,
};

const NEW: &str = "new";

/// The folder of piece lists. Whoever holds the lock may rely on the index and the lists being in
/// step: a list is saved before its content is put into the index, and removed after.
pub(super) struct Lists(Mutex<()>);

impl Lists {
    /// Removes the lists of contents that are in no index.
    pub(super) fn open(folder: &OwnedFd, index: &Index) -> Self {
        let mut stray = Vec::new();
        let _ = private::names(folder, |name| match name.parse() {
            Ok(content) if index.has(&content) => {}
            _ => stray.push(name.to_owned()),
        });
        for name in stray {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
        Self(Mutex::new(()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        held(&self.0)
    }

    /// Saves the list of a content, unless it is there or empty.
    pub(super) fn save(
        _lock: &MutexGuard<'_, ()>,
        folder: impl AsFd,
        content: &ContentId,
        list: &PieceList,
    ) -> std::io::Result<()> {
        let name = content.to_string();
        let bytes = list.to_bytes();
        let is_there =
            |size: u64| statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size as u64 == size);
        if list.is_empty() || is_there(bytes.len() as u64) {
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&folder, NEW, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&bytes)?;
        kill::point("list-written");
        Ok(renameat(&folder, NEW, &folder, &name)?)
    }

    /// The list of a content in binary form, if it is there and true.
    pub(super) fn read(folder: impl AsFd, content: &ContentId, size: u64) -> Option<Vec<u8>> {
        let pieces = Pieces::of(size)?;
        let mut bytes = Vec::new();
        if pieces.count() > 1 {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(openat(&folder, content.to_string(), flags, Mode::empty()).ok()?);
            file.take(PIECES as u64 * 32 + 1).read_to_end(&mut bytes).ok()?;
        }
        PieceList::parse(&bytes, &pieces, content).ok()?;
        Some(bytes)
    }

    pub(super) fn remove(_lock: &MutexGuard<'_, ()>, folder: impl AsFd, content: &ContentId) -> Result<()> {
        unlinkat(folder, content.to_string(), AtFlags::empty())
    }
}
