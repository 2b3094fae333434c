//! The thread that knows what is in the share: it scans once, is told by the kernel what changes,
//! waits for files to come to rest, and sends them to be hashed. Where the kernel cannot tell, it
//! scans again and again.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, FileType, RawDir, Stat, statat},
    io::{Errno, Result, read},
};

use super::{
    hash::until_older,
    inotify::{Event, News, Watches, remedy, shown},
    open::{Folder, Stamp, is_absent, is_file},
    private,
    rest::{Rest, WRITTEN},
    state::State,
    writers::Writers,
};
use crate::{
    limits::{SHARE_DEPTH, SHARE_FILES},
    name::{BadName, SharePath},
};

/// A file found by scanning counts as at rest when its last change is so old.
const SETTLED: Duration = Duration::from_millis(500);
/// Events are read so far apart: a file that is being written then costs few wake-ups, since the
/// kernel joins equal events. The first one is read at once: a folder that is new is to be watched
/// before anything in it is written.
const BREATH: Duration = Duration::from_millis(20);
/// Between scans where the kernel cannot tell what changes.
const BETWEEN_SCANS: Duration = Duration::from_secs(2);
/// Between scans where it can: for file systems that change behind its back.
const BETWEEN_SAFETY_SCANS: Duration = Duration::from_secs(600);
/// A scan takes at most one part in so many of the time.
const SCAN_SHARE: u32 = 20;
/// Reads of events between two looks at everything else.
const READS: usize = 64;
/// Paths looked at, at a time, after a scan.
const PAGE: usize = 1000;

/// What makes us look at a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It is whole, as far as can be told: it was closed, moved here or linked.
    Whole,
    /// It was made, and is probably being written.
    Created,
    /// It was come across.
    Found,
    /// It was being written, and nothing was heard of it for long.
    Quiet,
}

/// The thread: runs until the share is stopped.
pub(super) fn run(state: &State) {
    follow(state, Watches::new);
}

/// [`run`], with the kernel's part given, so that tests can do without.
pub(super) fn follow(state: &State, watch: fn() -> Result<Watches>) {
    let mut watcher = Watcher {
        state,
        watch,
        watches: None,
        is_blind: false,
        folders: Vec::new(),
        rest: Rest::default(),
        scan: None,
        next_scan: Instant::now(),
        earliest_scan: Instant::now(),
        is_scanned: false,
        is_lossy: true,
        last_read: Instant::now(),
        writers: Writers::default(),
    };
    while !state.is_stopped() {
        watcher.step();
        watcher.wait();
    }
}

struct Watcher<'a> {
    state: &'a State,
    watch: fn() -> Result<Watches>,
    /// None where the kernel cannot tell us anything.
    watches: Option<Watches>,
    /// Whether there is something that could not be seen, or that the kernel cannot tell us of.
    is_blind: bool,
    /// Folders still to scan.
    folders: Vec<Folder>,
    rest: Rest,
    /// When the scan of the whole share began, while one is under way.
    scan: Option<Instant>,
    next_scan: Instant,
    /// So that scans leave time for others.
    earliest_scan: Instant,
    /// Whether a scan of the whole share has ever ended.
    is_scanned: bool,
    /// Whether events were lost, and watches are to be made anew.
    is_lossy: bool,
    /// When events were last read.
    last_read: Instant,
    writers: Writers,
}

impl Watcher<'_> {
    /// Does what is to be done now, one folder of a scan at most.
    fn step(&mut self) {
        for path in self.state.take_asked() {
            self.look(path, Sign::Found);
        }
        self.read_events();
        if let Some(folder) = self.folders.pop() {
            self.scan_folder(&folder);
        } else if let Some(began) = self.scan.take() {
            self.sweep();
            self.end_scan(began);
        } else if self.next_scan <= Instant::now() {
            self.begin_scan();
        }
        let now = Instant::now();
        while let Some((path, is_written)) = self.rest.take_due(now) {
            self.look(path, if is_written { Sign::Quiet } else { Sign::Found });
        }
        self.state.tidy();
        let is_busy = !self.is_scanned || (self.scan.is_none() && !self.folders.is_empty());
        self.state.watching(self.rest.settling(), is_busy);
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let is_scanning = self.scan.is_some() || !self.folders.is_empty();
        let until = self.rest.next().map_or(self.next_scan, |due| due.min(self.next_scan));
        let pause = if is_scanning { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        // Rounded up, so as not to wake just before the time.
        let pause = if pause.is_zero() { pause } else { pause + Duration::from_millis(1) };
        let pause = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
        let mut ready = vec![PollFd::new(&self.state.bell, PollFlags::IN)];
        ready.extend(self.watches.as_ref().map(|watches| PollFd::new(watches, PollFlags::IN)));
        let _ = poll(&mut ready, Some(&pause));
        let has = |number: usize| ready.get(number).is_some_and(|fd| fd.revents().contains(PollFlags::IN));
        if has(0) {
            let _ = read(&self.state.bell, &mut [0_u8; 8]);
        }
        if has(1) && !is_scanning {
            thread::sleep(BREATH.saturating_sub(self.last_read.elapsed()));
        }
    }

    // ---- scans -----------------------------------------------------------------------------

    fn begin_scan(&mut self) {
        // Each scan tries again what may have been mended since the last one.
        self.is_blind = self.state.root.is_removed();
        if self.is_blind && self.state.path.is_dir() {
            self.state.tell_replaced();
        }
        if std::mem::take(&mut self.is_lossy) || self.watches.is_none() {
            // A file's closing may be among what was lost: go by what the scan finds.
            self.rest = Rest::default();
            self.watches = (self.watch)().map_err(|error| self.cannot_watch(error)).ok();
        }
        self.state.index(|index| index.begin_scan());
        self.folders.push(None);
        self.scan = Some(Instant::now());
    }

    fn scan_folder(&mut self, folder: &Folder) {
        if let Some(path) = folder.as_ref().filter(|path| path.parts().count() > SHARE_DEPTH) {
            let line = format_args!("{path} is not shared: folders are shared {SHARE_DEPTH} deep at most");
            return self.state.warn("depth", line);
        }
        let shown = || folder.as_ref().map_or("the share's folder", SharePath::as_str);
        let opened = match self.state.root.folder(folder) {
            Ok(opened) => opened,
            Err(error) => {
                if error == Errno::ACCESS {
                    self.state.warn(folder, format_args!("cannot read {}, so it is not shared: {error}", shown()));
                }
                match folder {
                    Some(path) if is_absent(error) => self.forget_folder(path),
                    _ => self.scan_soon(),
                }
                return;
            }
        };
        // Watched before it is listed: what changes in between is told.
        let watched = self.watches.as_mut().map(|watches| watches.add(&self.state.path, folder, &opened));
        match watched {
            Some(Err(error)) if !is_absent(error) => self.cannot_watch(error),
            _ => {}
        }
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut entries = RawDir::new(&opened, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let Ok(entry) = entry else { return self.scan_soon() };
            let kind = entry.file_type();
            if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Unknown) {
                continue;
            }
            let Some(path) = self.path(folder, entry.file_name().to_bytes()) else { continue };
            if kind == FileType::Directory {
                self.folders.push(Some(path));
                continue;
            }
            // What is gone by now needs no look; what was there before is found missing by the sweep.
            let Ok(stat) = statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if is_file(&stat) {
                self.found(path, &stat, Sign::Found);
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.folders.push(Some(path));
            }
        }
    }

    /// Looks at what is known and was not seen by the scan.
    fn sweep(&mut self) {
        let mut after = None;
        loop {
            let (unseen, last) = self.state.index(|index| index.unseen(after.as_ref(), PAGE));
            for path in unseen {
                self.look(path, Sign::Found);
            }
            if last.is_none() {
                return;
            }
            after = last;
        }
    }

    fn end_scan(&mut self, began: Instant) {
        self.is_scanned = true;
        let now = Instant::now();
        self.earliest_scan = now + (now - began) * SCAN_SHARE;
        let pause = match self {
            Self { is_lossy: true, .. } => Duration::ZERO,
            Self { is_blind: true, .. } => BETWEEN_SCANS,
            _ => BETWEEN_SAFETY_SCANS,
        };
        self.next_scan = self.earliest_scan.max(now + pause);
    }

    /// After something could not be seen.
    fn scan_soon(&mut self) {
        self.is_blind = true;
        self.next_scan = self.next_scan.min(self.earliest_scan.max(Instant::now() + BETWEEN_SCANS));
    }

    fn cannot_watch(&mut self, error: Errno) {
        self.scan_soon();
        let line = format_args!("{}; until then changes are looked for every few seconds", remedy(error));
        self.state.warn("watches", line);
    }

    // ---- events ----------------------------------------------------------------------------

    fn read_events(&mut self) {
        for _ in 0..READS {
            let Some(watches) = &mut self.watches else { return };
            let all_news = watches.read();
            if all_news.is_empty() {
                return;
            }
            self.last_read = Instant::now();
            for news in all_news {
                match news {
                    // With the whole share, or alone. The kernel tells of a folder that is open only when it is
                    // closed, so this is how one hears that the share was removed.
                    News::Of(None, name, Event::FolderLeft) if name == private::NAME.as_bytes() => {
                        self.warn_of_loss(
                            "the share's folder, or .enjambre in it, was removed: nothing can be received",
                        );
                    }
                    News::Of(folder, name, event) => {
                        if let Some(path) = self.path(&folder, &name) {
                            self.heard(path, event);
                        }
                    }
                    News::Overflow => {
                        self.is_lossy = true;
                        self.next_scan = self.earliest_scan;
                    }
                    News::Gone(None) => {
                        self.warn_of_loss("the share's folder was removed or unmounted");
                        self.next_scan = self.earliest_scan;
                    }
                    News::Gone(Some(folder)) => {
                        self.forget_folder(&folder);
                        self.folders.push(Some(folder));
                    }
                }
            }
        }
    }

    fn warn_of_loss(&mut self, what: &str) {
        self.scan_soon();
        self.state.warn("gone", format_args!("{what}; with the folder back, this peer starts anew by itself"));
    }

    fn heard(&mut self, path: SharePath, event: Event) {
        match event {
            Event::Created => self.look(path, Sign::Created),
            Event::Written => {
                // Already now it is not what was hashed, and must not be hashed half.
                self.state.drop_entry(&path);
                self.state.queue.forget(&path);
                self.rest.written(path, Instant::now());
            }
            Event::Closed | Event::Arrived | Event::Left => self.look(path, Sign::Whole),
            Event::Touched => self.look(path, Sign::Found),
            Event::FolderArrived => self.folders.push(Some(path)),
            // Only what can be seen just now, or no longer, is worth a scan of all below it.
            Event::FolderTouched => {
                let folder = Some(path);
                let is_watched = self.watches.as_ref().is_some_and(|watches| watches.has(&folder));
                if is_watched != self.state.root.folder(&folder).is_ok() {
                    self.folders.push(folder);
                }
            }
            Event::FolderLeft => self.forget_folder(&path),
        }
    }

    fn forget_folder(&mut self, path: &SharePath) {
        if let Some(watches) = &mut self.watches {
            watches.remove(path);
        }
        self.state.drop_folder(path);
    }

    /// The path of a name in a folder, if it is one that can be shared.
    fn path(&self, folder: &Folder, name: &[u8]) -> Option<SharePath> {
        if name.starts_with(b".") {
            return None;
        }
        let parsed = match (str::from_utf8(name), folder) {
            (Err(_), _) => Err("a file name is UTF-8".to_owned()),
            (Ok(name), None) => name.parse().map_err(|bad: BadName| bad.to_string()),
            (Ok(name), Some(folder)) => format!("{folder}/{name}").parse().map_err(|bad: BadName| bad.to_string()),
        };
        parsed
            .map_err(|reason| {
                let place = folder.as_ref().map_or(String::new(), |folder| format!(" in {folder}"));
                self.state.warn((folder, name), format_args!("{}{place} is not shared: {reason}", shown(name)));
            })
            .ok()
    }

    // ---- files -----------------------------------------------------------------------------

    fn look(&mut self, path: SharePath, sign: Sign) {
        match self.state.root.stat(&path) {
            Ok(Some(stat)) => self.found(path, &stat, sign),
            Ok(None) => {
                self.rest.forget(&path);
                self.state.drop_entry(&path);
            }
            Err(_) => self.scan_soon(),
        }
    }

    /// Decides what is to be done about a file.
    fn found(&mut self, path: SharePath, stat: &Stat, sign: Sign) {
        let stamp = Stamp::of(stat);
        if self.state.is_publishing(&path, &stamp) {
            return;
        }
        if self.state.see(&path, &stamp).is_some() {
            if sign == Sign::Whole {
                self.rest.forget(&path);
            }
            return;
        }
        let is_written = self.rest.is_written(&path);
        let mut sign = sign;
        // In a folder that is new, a file may have been made and written to before there was a watch, and is
        // then known to be open only to who asks.
        if sign == Sign::Found
            && !is_written
            && Self::is_lately_settled(&stamp)
            && self.writers.have(&self.state.path, stat)
        {
            sign = Sign::Quiet;
        }
        let wait = match sign {
            Sign::Found | Sign::Created if is_written => return,
            Sign::Whole => Duration::ZERO,
            // A second name of a file is as whole as the first one.
            Sign::Created if stat.st_nlink > 1 => Duration::ZERO,
            Sign::Found => until_older(stamp.mtime, SETTLED),
            Sign::Created if until_older(stamp.mtime, SETTLED).is_zero() => Duration::ZERO,
            Sign::Created => WRITTEN,
            Sign::Quiet => until_older(stamp.mtime, WRITTEN),
        };
        if self.state.index(|index| index.len()) + self.state.queue.left().0 + self.rest.len() >= SHARE_FILES {
            let line = format_args!("{path} and more are not shared: a share holds {SHARE_FILES} files at most");
            return self.state.warn("files", line);
        }
        if wait.is_zero() {
            self.rest.forget(&path);
            self.state.queue.push(path, stamp, self.is_scanned);
        } else {
            let is_written = matches!(sign, Sign::Created | Sign::Quiet);
            self.rest.wait(path, Instant::now() + wait, is_written);
        }
    }

    /// Whether a file has come to rest only as far as [`SETTLED`] has it, and not as [`WRITTEN`] does.
    fn is_lately_settled(stamp: &Stamp) -> bool {
        until_older(stamp.mtime, SETTLED).is_zero() && !until_older(stamp.mtime, WRITTEN).is_zero()
    }
}
