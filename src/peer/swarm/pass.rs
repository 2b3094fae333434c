//! A content from the swarm to a pipe: each piece goes on once it is verified, in order.

use std::{
    fmt, io,
    io::Write,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    get::{GetError, Getter, Report, Watch},
    partial::Download,
};
use crate::{content::ContentId, limits};

/// Why not all of a content went on.
#[derive(Debug)]
pub enum PassError {
    /// It did not come.
    Get(GetError),
    /// Nobody takes it.
    Out(io::Error),
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(error) => error.fmt(f),
            Self::Out(error) => write!(f, "cannot pass it on: {error}"),
        }
    }
}

impl std::error::Error for PassError {}

impl Getter {
    /// Fetches a content into a share for [passing on](crate::peer::share::Share::passing), and writes it to `out`.
    /// What has not come in order waits in that share's file, and not in memory.
    ///
    /// # Errors
    /// When it cannot be had, or `out` takes no more. What was written by then is true.
    pub fn pass(&self, id: &ContentId, out: &mut dyn Write, watch: &dyn Watch) -> Result<Report, PassError> {
        let began = Instant::now();
        let (is_over, is_shut) = (AtomicBool::new(false), AtomicBool::new(false));
        let watch = PassWatch { watch, is_shut: &is_shut };
        self.downloads.expect(*id);
        let result = thread::scope(|scope| {
            let fetching = thread::Builder::new().name("pass".into()).spawn_scoped(scope, || {
                let went = self.fetch(id, &watch);
                is_over.store(true, Ordering::Release);
                went
            });
            let fetching = fetching.map_err(|error| PassError::Get(GetError::Disk(error)))?;
            let written = self.write_on(id, out, &is_over).inspect_err(|_| is_shut.store(true, Ordering::Release));
            // While this is held, its pieces are found.
            let went = fetching.join().unwrap_or(Err(GetError::Stopped));
            written.map_err(PassError::Out)?;
            went.map_err(PassError::Get)
        });
        self.finder.end(id);
        self.downloads.give_up(id);
        let (crew, _, fetched) = result?;
        let (size, sources) = (crew.pieces().size(), crew.of_use());
        Ok(Report { size, sources, copied: None, fetched, time: began.elapsed() })
    }

    /// Writes what comes, until all is written or nothing more comes.
    fn write_on(&self, id: &ContentId, out: &mut dyn Write, is_over: &AtomicBool) -> io::Result<()> {
        let mut written = 0;
        let mut block = vec![0; limits::BLOCK_BYTES];
        // A try that failed is seen no more, and one after it begins with what that one brought.
        let mut last: Option<Arc<Download>> = None;
        loop {
            let was_over = is_over.load(Ordering::Acquire);
            let current = self.downloads.find(id);
            let is_current = current.is_some();
            last = current.or(last);
            let Some(download) = &last else {
                if was_over {
                    return Ok(());
                }
                thread::sleep(limits::PROGRESS_TIME / 10);
                continue;
            };
            let (seen, size) = (download.count(), download.pieces().size());
            let before = written;
            while written < size {
                let range = written..size.min(written + block.len() as u64);
                if !download.holds(&range) {
                    break;
                }
                let block = &mut block[..(range.end - range.start) as usize];
                download.file().read_exact_at(block, written)?;
                out.write_all(block)?;
                written = range.end;
            }
            if written > before {
                out.flush()?;
            } else if was_over {
                return Ok(());
            } else if is_current {
                download.wait_beyond(seen, limits::PROGRESS_TIME);
            } else {
                thread::sleep(limits::PROGRESS_TIME);
            }
        }
    }
}

/// Looks on for whoever looks on, and ends the download when nobody takes it any more.
struct PassWatch<'a> {
    watch: &'a dyn Watch,
    is_shut: &'a AtomicBool,
}

impl Watch for PassWatch<'_> {
    fn progress(&self, done: u64, size: u64) {
        self.watch.progress(done, size);
    }

    fn note(&self, line: &str) {
        self.watch.note(line);
    }

    fn is_stopped(&self) -> bool {
        self.is_shut.load(Ordering::Acquire) || self.watch.is_stopped()
    }
}
