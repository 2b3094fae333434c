//! Records of jobs, `.enjambre/jobs/`: which content is to be brought to which path, so that a peer
//! that starts again goes on by itself; and what is left in `.enjambre/partial/` of any download.
//!
//! One file for each, named after the content and a hash of the path: a header with the format's
//! version, and a line with a checksum.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{
        AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, flock, fstat, fsync,
        openat, renameat, statat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{kill, private, saved::checksum, stage::told, state::State};
use crate::{content::ContentId, limits, name::SharePath};

const FORMAT: &str = "enjambre job ";
const VERSION: u32 = 1;
const NEW: &str = "new";

/// A recorded job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// What is wanted.
    pub content: ContentId,
    /// Where it is to go.
    pub path: SharePath,
    /// How long ago it was last asked for, or bytes of it came.
    pub unused: Duration,
}

/// What is in `.enjambre/partial/` of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Of what.
    pub content: ContentId,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// How long ago it was last written to.
    pub unused: Duration,
}

/// What a file of `.enjambre/jobs/` is.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Job(ContentId, SharePath),
    /// Of this version, which is not known here.
    Newer(u32),
    Broken,
}

impl Reading {
    fn of(name: &str, text: &str) -> Self {
        let Some((header, rest)) = text.split_once('\n') else { return Self::Broken };
        match header.strip_prefix(FORMAT).and_then(|version| version.parse().ok()) {
            Some(VERSION) => Self::job(name, rest).unwrap_or(Self::Broken),
            Some(version) if version > VERSION => Self::Newer(version),
            _ => Self::Broken,
        }
    }

    fn job(name: &str, line: &str) -> Option<Self> {
        let (sum, line) = line.strip_suffix('\n')?.split_once(' ')?;
        let (content, path) = line.split_once(' ')?;
        let (content, path) = (content.parse().ok()?, path.parse().ok()?);
        (sum == checksum(line) && name == file_name(&content, &path)).then_some(Self::Job(content, path))
    }
}

/// The content comes first, so that its file is left alone even where the record cannot be read.
fn file_name(content: &ContentId, path: &SharePath) -> String {
    format!("{content}.{}", checksum(path.as_str()))
}

/// The content that a record is about, by its name.
fn content_of(name: &str) -> Option<ContentId> {
    name.split_once('.').and_then(|(content, _)| content.parse().ok())
}

fn text(content: &ContentId, path: &SharePath) -> String {
    let line = format!("{content} {path}");
    format!("{FORMAT}{VERSION}\n{} {line}\n", checksum(&line))
}

/// How long ago a file was written to; no time at all where the clock has been set back since.
fn unused(state: &State, stat: &Stat) -> Duration {
    let seconds = Duration::from_secs(stat.st_mtime.try_into().unwrap_or(0));
    state.now().duration_since(SystemTime::UNIX_EPOCH + seconds).unwrap_or_default()
}

fn stat(folder: &OwnedFd, name: &str) -> Option<Stat> {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

/// Takes note of a job, so that it survives a power cut. One that is recorded counts as asked for now.
pub(super) fn record(state: &State, content: &ContentId, path: &SharePath) -> io::Result<()> {
    let jobs = &state.private.jobs;
    let name = file_name(content, path);
    let now = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    if utimensat(jobs, &name, &now, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let write = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(jobs, NEW, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file.write_all(text(content, path).as_bytes());
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        fsync(&file)?;
        kill::point("job-written");
        renameat(jobs, NEW, jobs, &name)?;
        kill::point("job-named");
        fsync(jobs)
    };
    write().map_err(|error| told("cannot take note of the download", error))
}

/// Removes the record of a job.
pub(super) fn forget(state: &State, content: &ContentId, path: &SharePath) {
    kill::point("job-done");
    let _ = unlinkat(&state.private.jobs, file_name(content, path), AtFlags::empty());
    kill::point("job-forgotten");
}

/// The recorded jobs, [`limits::JOBS`] at most, the one used longest ago first. What is damaged is
/// removed, what a newer version has written is left alone; a person is told of both.
pub(super) fn recorded(state: &State) -> Vec<JobRecord> {
    let Some(names) = names(&state.private.jobs) else { return Vec::new() };
    let mut records = Vec::new();
    for name in names {
        match read(&state.private.jobs, &name) {
            Ok(Reading::Job(content, path)) if records.len() < limits::JOBS => {
                let unused = job_unused(state, &content, &path).unwrap_or_default();
                records.push(JobRecord { content, path, unused });
            }
            Ok(Reading::Job(_, path)) => crate::say(format_args!("too many downloads: {path} waits for another start")),
            Ok(Reading::Newer(version)) => crate::say(format_args!(
                ".enjambre/jobs/{name} has format {version} and this peer knows up to {VERSION}: it is left alone"
            )),
            Ok(Reading::Broken) => {
                // One that was being written when the peer was killed is no loss.
                if name != NEW {
                    crate::say("a damaged note of a download is dropped: get the file again if it is wanted");
                }
                let _ = unlinkat(&state.private.jobs, &name, AtFlags::empty());
            }
            Err(error) => crate::say(format_args!("cannot read .enjambre/jobs/{name}: {error}")),
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.unused));
    records
}

/// How long ago a job was last asked for, or bytes of it came; none where it is not recorded.
pub(super) fn job_unused(state: &State, content: &ContentId, path: &SharePath) -> Option<Duration> {
    let asked = unused(state, &stat(&state.private.jobs, &file_name(content, path))?);
    Some(leftover(state, *content).map_or(asked, |left| asked.min(left.unused)))
}

fn read(folder: &OwnedFd, name: &str) -> io::Result<Reading> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(limits::PATH_BYTES as u64 + 256).read_to_end(&mut bytes)?;
    Ok(str::from_utf8(&bytes).map_or(Reading::Broken, |text| Reading::of(name, text)))
}

fn names(folder: &OwnedFd) -> Option<Vec<String>> {
    let mut names = Vec::new();
    private::names(folder, |name| {
        if !matches!(name, "." | "..") {
            names.push(name.to_owned());
        }
    })
    .ok()?;
    Some(names)
}

/// What is in `.enjambre/partial/` of contents that no record is about.
pub(super) fn leftovers(state: &State) -> Vec<Leftover> {
    // Without the one the other says nothing.
    let (Some(records), Some(partials)) = (names(&state.private.jobs), names(&state.private.partial)) else {
        return Vec::new();
    };
    let recorded: HashSet<_> = records.iter().filter_map(|name| content_of(name)).collect();
    let contents = partials.iter().filter_map(|name| name.parse().ok());
    contents.filter(|content| !recorded.contains(content)).filter_map(|content| leftover(state, content)).collect()
}

/// What is in `.enjambre/partial/` of a content; none when nothing is.
pub(super) fn leftover(state: &State, content: ContentId) -> Option<Leftover> {
    let stat = stat(&state.private.partial, &content.to_string())?;
    // st_blocks counts these, whatever the file system's own are.
    Some(Leftover { content, bytes: stat.st_blocks as u64 * 512, unused: unused(state, &stat) })
}

/// Removes what is in `.enjambre/partial/` of a content, unless a download has it in hand.
pub(super) fn discard(state: &State, content: &ContentId) -> bool {
    let name = content.to_string();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let discard = || {
        let file = openat(&state.private.partial, &name, flags, Mode::empty())?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Whoever had it may have published it just now, and another may have begun anew.
        if fstat(&file)?.st_ino == statat(&state.private.partial, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino {
            unlinkat(&state.private.partial, &name, AtFlags::empty())?;
        }
        Ok(())
    };
    matches!(discard(), Ok(()) | Err(Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_in_no_other_way() {
        let content = ContentId::of(b"x");
        for path in ["a", "a b/c  d", "é.bin"] {
            let path: SharePath = path.parse().unwrap();
            let (name, whole) = (file_name(&content, &path), text(&content, &path));
            assert_eq!(content_of(&name), Some(content));
            assert_eq!(Reading::of(&name, &whole), Reading::Job(content, path.clone()));
            let other = file_name(&content, &"other".parse().unwrap());
            assert_eq!(Reading::of(&other, &whole), Reading::Broken);
            for (at, c) in whole.char_indices() {
                // In the header, another digit is another version, and a newer one is left alone.
                let replaced =
                    format!("{}{}{}", &whole[..at], if c == 'a' { 'b' } else { 'a' }, &whole[at + c.len_utf8()..]);
                assert_eq!(Reading::of(&name, &replaced), Reading::Broken, "{replaced}");
                assert_eq!(Reading::of(&name, &whole[..at]), Reading::Broken, "cut at {at}");
            }
            assert_eq!(Reading::of(&name, &format!("{whole}x")), Reading::Broken);
            assert_eq!(Reading::of(&name, &whole.replacen(" 1\n", " 2\n", 1)), Reading::Newer(2));
            assert_eq!(Reading::of(&name, &whole.replacen(" 1\n", " 0\n", 1)), Reading::Broken);
        }
    }
}
