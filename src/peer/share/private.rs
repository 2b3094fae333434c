//! `.enjambre/`: the share's own folder, its lock and the peer's identity.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{
        AtFlags, FlockOperation, Mode, OFlags, RawDir, fchmod, flock, fsync, ftruncate, mkdirat, openat, renameat,
        unlinkat,
    },
    io::{Errno, Result},
    rand::{GetRandomFlags, getrandom},
};

use super::{
    kill,
    open::{FOLDER, Root},
};
use crate::limits;

/// The name of the private folder; hidden, so that no path of the share leads into it.
pub(super) const NAME: &str = ".enjambre";
/// How the private folder of a visit is named, before its number: as hidden as that one, and gone with the visit.
const VISIT: &str = ".enjambre-get-";

/// The private folder and what is in it, open.
pub(super) struct Private {
    pub(super) path: PathBuf,
    pub(super) folder: OwnedFd,
    /// Uploads on their way.
    pub(super) tmp: OwnedFd,
    /// Downloads on their way, each under its content's id.
    pub(super) partial: OwnedFd,
    /// What is to be downloaded: a record each.
    pub(super) jobs: OwnedFd,
    /// Piece lists.
    pub(super) pieces: OwnedFd,
    pub(super) identity: [u8; 32],
    _lock: Lock,
}

impl Private {
    /// Makes what is missing and takes the lock.
    pub(super) fn open(root: &Root, share: &Path, holder: &str) -> std::result::Result<Self, String> {
        Self::make(root, share, NAME, holder)?.map_err(|other| {
            format!("folder {} is in use by {other}: stop that peer first, or share another folder", share.display())
        })
    }

    /// So too for a visit, of which several may be paid at once. What one left that was killed is taken up.
    pub(super) fn visit(root: &Root, share: &Path) -> std::result::Result<Self, String> {
        let holder = format!("process {}", std::process::id());
        for number in 0..limits::VISITS {
            if let Ok(private) = Self::make(root, share, &format!("{VISIT}{number}"), &holder)? {
                return Ok(private);
            }
        }
        Err(format!("{} gets into {} are under way: wait for some", limits::VISITS, share.display()))
    }

    /// The inner error says who has the lock.
    fn make(
        root: &Root,
        share: &Path,
        name: &str,
        holder: &str,
    ) -> std::result::Result<std::result::Result<Self, String>, String> {
        let path = share.join(name);
        let failed = |error: Errno| match error {
            Errno::NOTDIR | Errno::LOOP => {
                format!("{} is not a folder: move it away, the peer keeps its own data there", path.display())
            }
            Errno::ROFS | Errno::ACCESS | Errno::PERM => {
                format!("cannot write to {}: give the peer's user permission, or choose another folder", path.display())
            }
            Errno::NOSPC | Errno::DQUOT => format!("cannot write to {}: the disk is full; make room", path.display()),
            error => format!("cannot use {}: {error}", path.display()),
        };
        let folder = subfolder(root, name).map_err(failed)?;
        // Only a stricter umask could have left it narrower; nobody else may look in, whoever made it.
        fchmod(&folder, Mode::RWXU).map_err(failed)?;
        let lock = match Lock::take(&folder, holder) {
            Ok(Ok(lock)) => lock,
            Ok(Err(other)) => return Ok(Err(other)),
            Err(Errno::NOENT) => return Ok(Err("a get that ends".into())),
            Err(error) => return Err(failed(error)),
        };
        let identity = identity(&folder).map_err(failed)?.map_err(|size| {
            format!(
                "{}/identity holds {size} bytes where 32 belong: restore it, or remove it to begin as a new peer",
                path.display()
            )
        })?;
        let tmp = subfolder(&folder, "tmp").map_err(failed)?;
        empty(&tmp).map_err(failed)?;
        let partial = subfolder(&folder, "partial").map_err(failed)?;
        let jobs = subfolder(&folder, "jobs").map_err(failed)?;
        let pieces = subfolder(&folder, "pieces").map_err(failed)?;
        Ok(Ok(Self { path, folder, tmp, partial, jobs, pieces, identity, _lock: lock }))
    }

    /// Removes all of it, but for what is here of broken gets; false where there is some.
    pub(super) fn end_visit(&self, root: &Root) -> bool {
        for folder in [&self.tmp, &self.jobs, &self.pieces] {
            let _ = empty(folder);
        }
        for name in ["tmp", "jobs", "pieces", "partial"] {
            let _ = unlinkat(&self.folder, name, AtFlags::REMOVEDIR);
        }
        let _ = empty(&self.folder);
        let name = self.path.file_name().unwrap_or_default();
        unlinkat(root, name, AtFlags::REMOVEDIR).is_ok()
    }
}

fn subfolder(parent: impl rustix::fd::AsFd, name: &str) -> Result<OwnedFd> {
    match mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => openat(&parent, name, FOLDER, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// Calls `each` with every name in a folder.
pub(super) fn names(folder: &OwnedFd, mut each: impl FnMut(&str)) -> Result<()> {
    let folder = openat(folder, ".", FOLDER, Mode::empty())?;
    let mut buffer = Vec::with_capacity(8 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if let Ok(name) = entry?.file_name().to_str() {
            each(name);
        }
    }
    Ok(())
}

/// What a killed peer was receiving is worth nothing: it was never acknowledged.
fn empty(folder: &OwnedFd) -> Result<()> {
    names(folder, |name| {
        let _ = unlinkat(folder, name, AtFlags::empty());
    })
}

/// The lock on a share; the kernel lets go of it however the process ends.
struct Lock(File);

impl Lock {
    /// Takes the lock and leaves the holder's description in it; the other holder's where it is taken.
    fn take(folder: &OwnedFd, holder: &str) -> Result<std::result::Result<Self, String>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, "lock", flags, Mode::RUSR | Mode::WUSR)?);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                ftruncate(&file, 0)?;
                // The description is a courtesy; a full disk does not take it away from the lock itself.
                let _ = file.write_all(holder.as_bytes());
                Ok(Ok(Self(file)))
            }
            Err(Errno::WOULDBLOCK) => Ok(Err(Self::holder(&file))),
            Err(error) => Err(error),
        }
    }

    fn holder(file: &File) -> String {
        let mut text = Vec::new();
        // It may have taken the lock this very moment.
        for _ in 0..20 {
            let _ = file.take(300).read_to_end(&mut text);
            if !text.is_empty() {
                return String::from_utf8_lossy(&text).replace(char::is_control, " ");
            }
            thread::sleep(Duration::from_millis(5));
        }
        "another peer".to_owned()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = ftruncate(&self.0, 0);
    }
}

/// Reads the identity, or makes it; the size of the file where it cannot be one.
fn identity(folder: &OwnedFd) -> Result<std::result::Result<[u8; 32], usize>> {
    match openat(folder, "identity", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => {
            let mut bytes = Vec::new();
            File::from(file).take(1 << 20).read_to_end(&mut bytes).map_err(errno)?;
            Ok(bytes.as_slice().try_into().map_err(|_| bytes.len()))
        }
        Err(Errno::NOENT) => {
            let mut bytes = [0; 32];
            let filled = getrandom(&mut bytes[..], GetRandomFlags::empty())?;
            debug_assert_eq!(filled, bytes.len(), "up to 256 bytes come whole, says getrandom(2)");
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(folder, "identity.new", flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(&bytes).map_err(errno)?;
            fsync(&file)?;
            kill::point("identity-written");
            renameat(folder, "identity.new", folder, "identity")?;
            fsync(folder)?;
            Ok(Ok(bytes))
        }
        Err(error) => Err(error),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
