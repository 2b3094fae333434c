//! The saved index, `.enjambre/index`: what was hashed, so that a restart hashes nothing again.
//!
//! Text: a header with the format's version, then one line for each change, the last one for a path
//! counts. Each line carries a checksum of its own and the stamp of what was hashed, so that lines may
//! be torn, garbled or stale: the worst they do is to have a file hashed again.

#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Mutex,
};

use rustix::{
    fs::{Mode, OFlags, fsync, openat, renameat},
    io::Errno,
};

use super::{
    held,
    index::{Index, Record},
    kill,
    open::Stamp,
};
use crate::{content::ContentId, limits, name::SharePath};

const FORMAT: &str = "enjambre index ";
const VERSION: u32 = 1;
/// A line holds a path, an id, three numbers and a checksum.
const LINE_BYTES: u64 = limits::PATH_BYTES as u64 + 256;
/// So many lines more than twice the live ones make the file worth writing anew.
const DEAD_LINES: usize = 1000;
/// Records copied at a time while the file is written anew, so that nobody waits for the index.
const PAGE: usize = 1000;

/// One change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A file was hashed.
    Put(SharePath, Record),
    /// A path is no longer what was hashed.
    Gone(SharePath),
}

impl Line {
    /// Appends the line's text, line feed and all.
    pub(super) fn write(&self, text: &mut String) {
        use std::fmt::Write;
        let line = match self {
            Self::Put(path, Record { content, stamp: Stamp { size, mtime, inode } }) => {
                format!("{content} {size} {mtime} {inode} {path}")
            }
            Self::Gone(path) => format!("gone {path}"),
        };
        let _ = writeln!(text, "{} {line}", checksum(&line));
    }

    /// Reads a line without its line feed; none if it is damaged.
    fn parse(line: &str) -> Option<Self> {
        let (sum, line) = line.split_once(' ')?;
        if sum != checksum(line) {
            return None;
        }
        if let Some(path) = line.strip_prefix("gone ") {
            return Some(Self::Gone(path.parse().ok()?));
        }
        let mut words = line.splitn(5, ' ');
        let content = words.next()?.parse().ok()?;
        let stamp = Stamp {
            size: words.next()?.parse().ok()?,
            mtime: words.next()?.parse().ok()?,
            inode: words.next()?.parse().ok()?,
        };
        Some(Self::Put(words.next()?.parse().ok()?, Record { content, stamp }))
    }
}

/// 64 bits are enough against accidents; nobody else can write into the private folder.
pub(super) fn checksum(line: &str) -> String {
    let id = ContentId::of(line.as_bytes());
    let first = id.bytes().first_chunk().expect("an id has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}

/// The saved index, open for appending.
pub(super) struct Saved(Mutex<Log>);

struct Log {
    file: File,
    lines: usize,
    /// The last write may have left a part of a line.
    is_torn: bool,
}

impl Saved {
    /// Reads the saved index into `index`.
    ///
    /// # Errors
    /// When a newer version has written it, or it cannot be read.
    pub(super) fn open(private: &OwnedFd, index: &mut Index) -> Result<Self, String> {
        let failed = |error: Errno| format!("cannot use .enjambre/index: {error}");
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(private, "index", flags, Mode::RUSR | Mode::WUSR).map_err(failed)?);
        let read = Self::read(&file, index)?;
        let this = Self(Mutex::new(Log { file, lines: read.lines, is_torn: false }));
        if read.is_damaged || read.lines > 2 * index.len() {
            this.rewrite(private, |after| index.records(after, PAGE)).map_err(failed)?;
        }
        Ok(this)
    }

    fn read(file: impl Read, index: &mut Index) -> Result<Reading, String> {
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let mut found = Reading { lines: 0, is_damaged: false };
        let mut bytes = Vec::new();
        for number in 0.. {
            bytes.clear();
            let read = (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut bytes);
            if read.map_err(|error| format!("cannot read .enjambre/index: {error}"))? == 0 {
                found.is_damaged |= number == 0;
                break;
            }
            let line = bytes.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
            if number == 0
                && let Some(version) = line.strip_prefix(FORMAT).and_then(|text| text.parse::<u32>().ok())
            {
                if version > VERSION {
                    return Err(format!(
                        ".enjambre/index has format {version} and this peer knows up to {VERSION}: use a newer peer, \
                         or remove that file to have everything hashed again"
                    ));
                }
                continue;
            }
            match Line::parse(line) {
                Some(Line::Put(path, record)) => index.remember(path, record),
                Some(Line::Gone(path)) => drop(index.remove(&path)),
                None => found.is_damaged = true,
            }
            found.lines += 1;
        }
        Ok(found)
    }

    /// Appends lines in one write. What cannot be written is hashed again after the next start.
    pub(super) fn append(&self, lines: impl IntoIterator<Item = Line>) {
        let mut text = String::new();
        let mut count = 0;
        for line in lines {
            line.write(&mut text);
            count += 1;
        }
        if count == 0 {
            return;
        }
        let mut log = held(&self.0);
        if log.is_torn {
            text.insert(0, '\n');
        }
        log.is_torn = log.file.write_all(text.as_bytes()).is_err();
        log.lines += count;
    }

    /// Writes the file anew if most of it is about what is no more.
    pub(super) fn tidy(&self, private: &OwnedFd, live: &Mutex<Index>) {
        if held(&self.0).lines > 2 * held(live).len() + DEAD_LINES {
            // Where there is no room for that, the long file does as well.
            let _ = self.rewrite(private, |after| held(live).records(after, PAGE));
        }
    }

    /// Nobody can append meanwhile, so that what changes later comes later in the file.
    fn rewrite(
        &self,
        private: impl AsFd,
        page: impl Fn(Option<&SharePath>) -> Vec<(SharePath, Record)>,
    ) -> rustix::io::Result<()> {
        let mut log = held(&self.0);
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&private, "index.new", flags, Mode::RUSR | Mode::WUSR)?);
        let mut lines = 0;
        let mut write = || {
            let mut writer = BufWriter::with_capacity(64 << 10, &file);
            writeln!(writer, "{FORMAT}{VERSION}")?;
            let mut text = String::new();
            let mut records = page(None);
            while let Some((last, _)) = records.last() {
                let after = last.clone();
                for (path, record) in records {
                    text.clear();
                    Line::Put(path, record).write(&mut text);
                    writer.write_all(text.as_bytes())?;
                    lines += 1;
                }
                records = page(Some(&after));
            }
            writer.flush()
        };
        write().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        fsync(&file)?;
        kill::point("index-written");
        renameat(&private, "index.new", &private, "index")?;
        kill::point("index-named");
        *log = Log { file, lines, is_torn: false };
        Ok(())
    }
}

/// What reading found.
struct Reading {
    lines: usize,
    is_damaged: bool,
}
