//! What the kernel tells of the share's folders. The only code that knows inotify.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::{Errno, Result},
};

use super::open::Folder;
use crate::name::SharePath;

/// Something happened to a name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A file is new, and probably open.
    Created,
    /// A file was written to.
    Written,
    /// A file that was open for writing was closed.
    Closed,
    /// A file has come by a rename.
    Arrived,
    /// A file has gone.
    Left,
    /// A file's times, links or permissions have changed.
    Touched,
    /// A folder is new.
    FolderArrived,
    /// A folder has gone.
    FolderLeft,
    /// A folder's permissions have changed.
    FolderTouched,
}

/// What one read gave.
#[derive(Debug)]
pub(super) enum News {
    /// Something in a folder, under a name.
    Of(Folder, Vec<u8>, Event),
    /// More happened than the kernel could keep.
    Overflow,
    /// A folder was removed or unmounted; what is now at its path, if anything, is another.
    Gone(Folder),
}

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// Watches on folders. Each is on the folder that was opened, whatever becomes of its path.
pub(super) struct Watches {
    queue: OwnedFd,
    folders: HashMap<i32, Folder>,
    numbers: BTreeMap<Folder, i32>,
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Watches {
    pub(super) fn new() -> Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { queue, folders: HashMap::new(), numbers: BTreeMap::new() })
    }

    /// Watches a folder, opened as `opened`.
    pub(super) fn add(&mut self, share: &Path, folder: &Folder, opened: &OwnedFd) -> Result<()> {
        let number = match inotify::add_watch(&self.queue, format!("/proc/self/fd/{}", opened.as_raw_fd()), EVENTS) {
            // Without /proc, as in an empty chroot, by its path: should another folder be there by now,
            // then the folder above has news of that.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {
                let path = folder.as_ref().map_or(share.to_owned(), |folder| share.join(folder.as_str()));
                let flags = if folder.is_some() { EVENTS | WatchFlags::DONT_FOLLOW } else { EVENTS };
                inotify::add_watch(&self.queue, path, flags)?
            }
            added => added?,
        };
        if let Some(before) = self.folders.insert(number, folder.clone()).filter(|before| before != folder) {
            self.numbers.remove(&before);
        }
        if let Some(before) = self.numbers.insert(folder.clone(), number).filter(|before| *before != number) {
            self.forget(before);
        }
        Ok(())
    }

    pub(super) fn has(&self, folder: &Folder) -> bool {
        self.numbers.contains_key(folder)
    }

    fn forget(&mut self, number: i32) {
        self.folders.remove(&number);
        let _ = inotify::remove_watch(&self.queue, number);
    }

    /// Stops watching a folder and all below it.
    pub(super) fn remove(&mut self, folder: &SharePath) {
        let below = format!("{folder}/");
        let gone: Vec<_> = (self.numbers.range(Some(folder.clone())..))
            .filter_map(|(other, number)| Some((other.as_ref()?, *number)))
            .take_while(|(other, _)| other.as_str().starts_with(folder.as_str()))
            // Between a folder and what is below it stand names such as `folder!`.
            .filter(|(other, _)| *other == folder || other.as_str().starts_with(&below))
            .map(|(other, number)| (other.clone(), number))
            .collect();
        for (folder, number) in gone {
            self.numbers.remove(&Some(folder));
            self.forget(number);
        }
    }

    /// What has happened since the last call, in order; empty if nothing.
    pub(super) fn read(&mut self) -> Vec<News> {
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut reader = Reader::new(&self.queue, buffer.spare_capacity_mut());
        let mut news = Vec::new();
        while let Ok(event) = reader.next() {
            let (number, flags) = (event.wd(), event.events());
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                news.push(News::Overflow);
            } else if let Some(folder) = self.folders.get(&number) {
                if flags.contains(ReadFlags::IGNORED) {
                    let folder = folder.clone();
                    self.folders.remove(&number);
                    self.numbers.remove(&folder);
                    news.push(News::Gone(folder));
                } else if let (Some(name), Some(what)) = (event.file_name(), event_of(flags)) {
                    news.push(News::Of(folder.clone(), name.to_bytes().to_vec(), what));
                }
            }
            // One buffer at a time, so that what is held stays small while a flood comes in.
            if reader.is_buffer_empty() {
                break;
            }
        }
        news
    }
}

fn event_of(flags: ReadFlags) -> Option<Event> {
    let is_folder = flags.contains(ReadFlags::ISDIR);
    let events = [
        (ReadFlags::CREATE, Event::Created, Event::FolderArrived),
        (ReadFlags::MOVED_TO, Event::Arrived, Event::FolderArrived),
        (ReadFlags::MOVED_FROM, Event::Left, Event::FolderLeft),
        (ReadFlags::DELETE, Event::Left, Event::FolderLeft),
        (ReadFlags::MODIFY, Event::Written, Event::FolderTouched),
        (ReadFlags::CLOSE_WRITE, Event::Closed, Event::FolderTouched),
        (ReadFlags::ATTRIB, Event::Touched, Event::FolderTouched),
    ];
    let (_, file, folder) = events.into_iter().find(|(flag, ..)| flags.contains(*flag))?;
    Some(if is_folder { folder } else { file })
}

/// A sentence for the person whose kernel cannot watch.
pub(super) fn remedy(error: Errno) -> String {
    match error {
        Errno::NOSPC => "too many folders to watch: raise fs.inotify.max_user_watches with sysctl".to_owned(),
        Errno::MFILE => "too many watchers on this machine: raise fs.inotify.max_user_instances with sysctl".to_owned(),
        error => format!("folders cannot be watched: {error}"),
    }
}

/// Text of a name that may be no UTF-8.
pub(super) fn shown(name: &[u8]) -> String {
    format!("{:?}", OsStr::from_bytes(name))
}
