//! `.enjambre/mirror`: what a peer that follows others keeps of that, a line for each thing.
//!
//! A header with the format's version, then lines, each with a checksum: one that is torn or garbled is dropped.
//! What the lines mean is for whoever follows.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
};

use rustix::{
    fs::{Mode, OFlags, fdatasync, fsync, openat, renameat},
    io::Errno,
};

use super::{kill, saved::checksum, stage::told, state::State};
use crate::limits;

const FORMAT: &str = "enjambre mirror ";
const VERSION: u32 = 1;
const NAME: &str = "mirror";
const NEW: &str = "mirror.new";
/// A path, an id, a number and a checksum fit.
const LINE_BYTES: u64 = limits::PATH_BYTES as u64 + 256;

/// The lines, in order; none where there is no such file.
pub(super) fn read(state: &State) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(&state.private.folder, NAME, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        file => File::from(file?),
    };
    let (mut reader, mut lines, mut bytes) = (BufReader::new(file), Vec::new(), Vec::new());
    for number in 0.. {
        bytes.clear();
        if (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let line = bytes.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
        if number == 0
            && let Some(version) = line.strip_prefix(FORMAT).and_then(|version| version.parse::<u32>().ok())
        {
            if version > VERSION {
                let sentence = format!("it has format {version} and this peer knows up to {VERSION}: use a newer peer");
                return Err(io::Error::other(sentence));
            }
            continue;
        }
        lines.extend(line.split_once(' ').filter(|(sum, line)| *sum == checksum(line)).map(|(_, line)| line.into()));
    }
    Ok(lines)
}

/// Appends lines; they survive a power cut when this returns.
pub(super) fn append(state: &State, lines: &[String]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&state.private.folder, NAME, flags, Mode::empty()) {
        Err(Errno::NOENT) => rewrite(state, lines),
        file => {
            // An empty line before them ends one that was torn.
            let text: String = lines.iter().map(|line| format!("\n{} {line}\n", checksum(line))).collect();
            let mut file = File::from(file?);
            file.write_all(text.as_bytes())?;
            fdatasync(&file).map_err(|error| told("cannot take note of what was mirrored", error))?;
            kill::point("mirror-noted");
            Ok(())
        }
    }
}

/// Makes these all the lines there are.
pub(super) fn rewrite(state: &State, lines: &[String]) -> io::Result<()> {
    let folder = &state.private.folder;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, NEW, flags, Mode::RUSR | Mode::WUSR)?);
    let lines: String = lines.iter().map(|line| format!("{} {line}\n", checksum(line))).collect();
    file.write_all(format!("{FORMAT}{VERSION}\n{lines}").as_bytes())?;
    fsync(&file)?;
    renameat(folder, NEW, folder, NAME)?;
    fsync(folder).map_err(|error| told("cannot take note of what was mirrored", error))
}
