//! The tracker's log, on stderr. It waits for nobody: lines for which there is no room, since whoever reads it has
//! stalled, are counted, and told of when there is room again.

use std::{
    fmt::Display,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::limits;

static LOG: Mutex<Unwritten> = Mutex::new(Unwritten { since: 0, ever: 0 });

/// Lines that were not written.
struct Unwritten {
    /// Since one was.
    since: u64,
    ever: u64,
}

/// Writes a line, or counts it.
pub fn log(line: impl Display) {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).write(io::stderr(), line);
}

/// Lines that were not written since the start.
pub(super) fn unwritten() -> u64 {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).ever
}

impl Unwritten {
    fn write(&mut self, mut to: impl Write + AsFd, line: impl Display) {
        if !has_room(&to) {
            self.since += 1;
            self.ever += 1;
            return;
        }
        let told = match std::mem::take(&mut self.since) {
            0 => String::new(),
            lines => format!("log unwritten={lines}\n"),
        };
        let mut text = format!("{told}{line}");
        let most = text.len().min(limits::LOG_BYTES - 1);
        let end = (0..=most).rfind(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('\n');
        // A log that is closed is no reason to stop.
        let _ = to.write_all(text.as_bytes());
    }
}

/// Whether a write of [`limits::LOG_BYTES`] would not wait (poll(2), pipe(7): a pipe that can be written to takes
/// so many at once).
fn has_room(log: &impl AsFd) -> bool {
    loop {
        match poll(&mut [PollFd::new(log, PollFlags::OUT)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Err(Errno::INTR) => {}
            // What cannot be asked, files for one, does not wait either.
            ready => return ready != Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nobody_waits_for_a_reader_that_has_stalled_and_it_is_told_what_it_missed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = Unwritten { since: 0, ever: 0 };
        let mut lines = 0;
        while log.ever < 5 {
            log.write(&writer, format_args!("line={lines:0500}"));
            lines += 1;
        }
        let written = lines - 5;
        let mut read = vec![0; written * "line=\n".len() + written * 500];
        reader.read_exact(&mut read).unwrap();
        assert!(read.ends_with(format!("line={:0500}\n", written - 1).as_bytes()));
        log.write(&writer, "é".repeat(limits::LOG_BYTES));
        log.write(&writer, "on");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let rest: Vec<_> = rest.lines().collect();
        assert_eq!((rest[0], rest[2], rest.len()), ("log unwritten=5", "on", 3));
        assert!(rest[0].len() + rest[1].len() + 2 <= limits::LOG_BYTES && rest[1].chars().all(|c| c == 'é'));
        assert_eq!((log.since, log.ever), (0, 5));
        // A log that nobody reads any more, and one that is a file.
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        log.write(&writer, "x");
        log.write(std::fs::File::options().write(true).open("/dev/null").unwrap(), "x");
        assert_eq!(log.ever, 5);
    }
}
