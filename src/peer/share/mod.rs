//! The share: the only code that opens files.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use crate::{
    content::{ContentId, PieceList},
    name::SharePath,
};

/// A peer's folder. Clones are handles to the same share.
#[derive(Clone)]
pub struct Share {}

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
    /// there is none, and reads the saved index. Removes what earlier uploads left.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the folder and what to do.
    pub fn open(folder: &Path, holder: &str) -> Result<Self, String> {
        let _ = (folder, holder);
        todo!()
    }

    /// Begins to scan, watch and hash, on threads of the share's own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(&self) -> io::Result<()> {
        todo!()
    }

    /// The 256 secret bits that prove to a tracker that this is the same peer as before.
    pub fn identity(&self) -> &[u8; 32] {
        todo!()
    }

    /// The path of `.enjambre/`, which nobody else can enter, for a socket in it.
    pub fn private_folder(&self) -> &Path {
        todo!()
    }

    /// Number of shared files, and their bytes in all.
    pub fn totals(&self) -> (usize, u64) {
        todo!()
    }

    /// What is still to be hashed; none when all that is here is known. Before the first scan has
    /// ended this is never none.
    pub fn hashing(&self) -> Option<Hashing> {
        todo!()
    }

    /// What stands under `path` on disk now.
    pub fn look_up(&self, path: &SharePath) -> Lookup {
        let _ = path;
        todo!()
    }

    /// At most `limit` shared files behind `after`, in order of their paths.
    pub fn list(&self, after: Option<&SharePath>, limit: usize) -> Vec<(SharePath, Entry)> {
        let _ = (after, limit);
        todo!()
    }

    /// A path under which `content` is shared.
    pub fn path_of(&self, content: &ContentId) -> Option<(SharePath, Entry)> {
        let _ = content;
        todo!()
    }

    /// Opens a shared file to be sent. None when it is not shared or no longer what was hashed (which
    /// also has it looked at again).
    pub fn read(&self, path: &SharePath) -> Option<SharedFile> {
        let _ = path;
        todo!()
    }

    /// The piece list of a shared content, in binary form.
    pub fn piece_list(&self, content: &ContentId) -> Option<Vec<u8>> {
        let _ = content;
        todo!()
    }

    /// Calls `wake` after every change of what is shared. It must not block.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = wake;
        todo!()
    }

    /// Takes at most `limit` paths whose state has changed since they were last taken, with their
    /// state now; none as entry means no longer shared.
    pub fn take_changes(&self, limit: usize) -> Vec<(SharePath, Option<Entry>)> {
        let _ = limit;
        todo!()
    }

    /// A new file to write to, in `.enjambre/`, that vanishes unless it is published.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage(&self) -> io::Result<Staging> {
        todo!()
    }

    /// The file in `.enjambre/partial/` that holds what is here of `content`; made where there is none.
    ///
    /// # Errors
    /// When it cannot be opened, or another download of the same content has it.
    pub fn partial(&self, content: &ContentId) -> io::Result<Partial> {
        let _ = content;
        todo!()
    }

    /// Gives a staged file its name: folders on the way are made, the name appears whole or not at
    /// all, nothing is ever replaced, and when this returns it will survive a power cut.
    ///
    /// # Errors
    /// When another content has that name, or the name cannot be made.
    pub fn publish(&self, staged: Staged, path: &SharePath) -> Result<Published, PublishError> {
        let _ = (staged, path);
        todo!()
    }
}

/// A shared file, open.
pub struct SharedFile {
    /// What was hashed, and what the file was when it was opened.
    pub entry: Entry,
    /// To be read with an offset of the reader's own.
    pub file: File,
}

impl SharedFile {
    /// Whether the file is still what was hashed. To be asked after the last read and before the last bytes go out.
    pub fn is_unchanged(&self) -> bool {
        todo!()
    }
}

/// A file that is being written and hashed; it vanishes when it is dropped.
pub struct Staging {}

impl Write for Staging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = bytes;
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staging {
    /// Ends the writing: the bytes are on disk when this returns.
    ///
    /// # Errors
    /// When they cannot be brought there.
    pub fn finish(self) -> io::Result<Staged> {
        todo!()
    }
}

/// A whole file without a name yet; it vanishes when it is dropped.
pub struct Staged {}

impl Staged {
    /// What it holds.
    pub fn entry(&self) -> &Entry {
        todo!()
    }
}

/// A download's file; it stays when it is dropped, for the download to go on later.
pub struct Partial {}

impl Partial {
    /// Reads at an offset, as `pread`.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let _ = (bytes, offset);
        todo!()
    }

    /// Writes all of `bytes` at an offset.
    ///
    /// # Errors
    /// The system's; a full disk among them.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _ = (bytes, offset);
        todo!()
    }

    /// The ranges of the file, in order, that may hold data (holes left out), up to `size`.
    ///
    /// # Errors
    /// The system's.
    pub fn data(&self, size: u64) -> io::Result<Vec<std::ops::Range<u64>>> {
        let _ = size;
        todo!()
    }

    /// The whole file, verified by the caller piece by piece: brought to disk, cut to its size and
    /// ready to be published under its name.
    ///
    /// # Errors
    /// When the bytes cannot be brought to disk.
    pub fn into_staged(self, entry: Entry, pieces: &PieceList) -> io::Result<Staged> {
        let _ = (entry, pieces);
        todo!()
    }

    /// Removes the file.
    pub fn discard(self) {
        todo!()
    }
}

/// What publishing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The name is new.
    New,
    /// The name was there with the same content.
    Same,
}

/// Why a file could not be published.
#[derive(Debug)]
pub enum PublishError {
    /// The name is taken by another content, or by something that is no file.
    Conflict,
    /// Something else stood in the way; a sentence.
    Io(io::Error),
}
