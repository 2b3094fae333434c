//! The one thread that hashes files, and the queue before it.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, Result, read, retry_on_intr},
};

use super::{held, index::Record, open::Stamp, state::State};
use crate::{
    content::{PieceHasher, PieceList},
    name::SharePath,
};

/// Two of these are read while one is hashed, and it stays in the processor's own cache.
const BLOCK: usize = 128 << 10;
/// A file that changes while it is hashed is noticed after so many blocks, not only at its end.
const BLOCKS_BETWEEN_LOOKS: u64 = 256;
/// Time stamps come in ticks of up to 10 ms. A file hashed within the tick of its last change could
/// change again and keep its stamp.
const TICK: Duration = Duration::from_millis(50);

/// Files to hash. What has just changed goes before what a first scan found.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Paths and sizes.
    fresh: BTreeMap<SharePath, u64>,
    found: BTreeMap<SharePath, u64>,
    bytes: u64,
    current: Option<Current>,
    is_stopped: bool,
}

struct Current {
    path: SharePath,
    /// None until the file is open.
    stamp: Option<Stamp>,
    left: u64,
    /// It was written to meanwhile.
    is_spoiled: bool,
}

impl Queue {
    /// Asks for a file to be hashed, unless exactly that is being done.
    pub(super) fn push(&self, path: SharePath, stamp: Stamp, is_fresh: bool) {
        let mut waiting = held(&self.waiting);
        let is_current = |current: &Current| current.path == path && current.stamp == Some(stamp);
        if waiting.current.as_ref().is_some_and(is_current) {
            return;
        }
        let before = waiting.fresh.remove(&path).or_else(|| waiting.found.remove(&path)).unwrap_or(0);
        waiting.bytes = waiting.bytes - before + stamp.size;
        let queue = if is_fresh { &mut waiting.fresh } else { &mut waiting.found };
        queue.insert(path, stamp.size);
        self.news.notify_one();
    }

    /// A file is being written: it must not be hashed now.
    pub(super) fn forget(&self, path: &SharePath) {
        let mut waiting = held(&self.waiting);
        let (fresh, found) = (waiting.fresh.remove(path), waiting.found.remove(path));
        waiting.bytes -= fresh.unwrap_or(0) + found.unwrap_or(0);
        if let Some(current) = waiting.current.as_mut().filter(|current| current.path == *path) {
            current.is_spoiled = true;
        }
    }

    /// Files and bytes still to hash.
    pub(super) fn left(&self) -> (usize, u64) {
        let waiting = held(&self.waiting);
        let current = waiting.current.as_ref();
        (
            waiting.fresh.len() + waiting.found.len() + usize::from(current.is_some()),
            waiting.bytes + current.map_or(0, |current| current.left),
        )
    }

    pub(super) fn stop(&self) {
        held(&self.waiting).is_stopped = true;
        self.news.notify_all();
    }

    fn is_stopped(&self) -> bool {
        held(&self.waiting).is_stopped
    }

    /// Waits for the next file; none when it is time to stop.
    fn next(&self) -> Option<SharePath> {
        let mut waiting = held(&self.waiting);
        loop {
            if waiting.is_stopped {
                return None;
            }
            let first = waiting.fresh.pop_first();
            if let Some((path, size)) = first.or_else(|| waiting.found.pop_first()) {
                waiting.bytes -= size;
                waiting.current = Some(Current { path: path.clone(), stamp: None, left: size, is_spoiled: false });
                return Some(path);
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, opened: Stamp) {
        if let Some(current) = &mut held(&self.waiting).current {
            (current.stamp, current.left) = (Some(opened), opened.size);
        }
    }

    fn advance(&self, bytes: usize) {
        if let Some(current) = &mut held(&self.waiting).current {
            current.left = current.left.saturating_sub(bytes as u64);
        }
    }

    fn is_spoiled(&self) -> bool {
        held(&self.waiting).current.as_ref().is_some_and(|current| current.is_spoiled)
    }

    /// The current file is to be taken into the queue again, though it may look the same.
    fn give_up(&self) {
        if let Some(current) = &mut held(&self.waiting).current {
            current.stamp = None;
        }
    }

    fn end(&self) {
        held(&self.waiting).current = None;
    }
}

/// Until files can perhaps be opened again.
const SHORTAGE: Duration = Duration::from_millis(200);

/// What hashing a file came to.
pub(super) enum Hashed {
    Whole(Record, PieceList),
    /// It changed meanwhile, or is no more.
    Changed,
    Stopped,
}

/// The thread: hashes what the queue gives until it stops.
pub(super) fn run(state: &State) {
    let mut block = Vec::new();
    while let Some(path) = state.queue.next() {
        block.resize(BLOCK, 0);
        let is_done = match hash(state, &path, &mut block, &Some(&state.queue)) {
            Ok(Hashed::Whole(record, list)) if !state.queue.is_spoiled() => {
                state.count_hashed(record.stamp.size);
                state.record(&[(&path, record, &list)]) == [true]
            }
            Ok(Hashed::Whole(..) | Hashed::Changed) => false,
            Ok(Hashed::Stopped) => true,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                thread::sleep(SHORTAGE);
                false
            }
            Err(error) => {
                state.warn(path.as_str(), format_args!("cannot read {path}, so it is not shared: {error}"));
                true
            }
        };
        if !is_done {
            state.queue.give_up();
            state.look_again(path);
        }
        state.queue.end();
        if state.queue.left().0 == 0 {
            // An idle peer keeps no buffer.
            block = Vec::new();
        }
    }
}

/// Hashes a file on the caller's own thread.
pub(super) fn hash_now(state: &State, path: &SharePath) -> Result<Hashed> {
    hash(state, path, &mut vec![0; BLOCK], &None)
}

fn hash(state: &State, path: &SharePath, block: &mut [u8], queue: &Option<&Queue>) -> Result<Hashed> {
    let Some((file, mut stamp)) = state.root.file(path)? else { return Ok(Hashed::Changed) };
    let wait = until_older(stamp.mtime, TICK);
    if !wait.is_zero() {
        thread::sleep(wait);
        stamp = Stamp::read(&file)?;
    }
    queue.inspect(|queue| queue.begin(stamp));
    // Advice only: it doubles what the kernel reads ahead.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    let mut hasher = PieceHasher::default();
    for number in 1_u64.. {
        let read = retry_on_intr(|| read(&file, &mut *block))?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        if let Some(queue) = queue {
            queue.advance(read);
            if queue.is_stopped() {
                return Ok(Hashed::Stopped);
            }
        }
        if number.is_multiple_of(BLOCKS_BETWEEN_LOOKS) && Stamp::read(&file)? != stamp {
            return Ok(Hashed::Changed);
        }
    }
    if Stamp::read(&file)? != stamp {
        return Ok(Hashed::Changed);
    }
    if hasher.size() != stamp.size {
        // A file system that makes its files up as they are read; hashing it again would not end.
        return Err(Errno::NOTSUP);
    }
    let (content, list) = hasher.finish();
    Ok(Hashed::Whole(Record { content, stamp }, list))
}

/// How long until a time stamp is older than `age`. A stamp from the future, which a clock that was
/// set back leaves, is as good as an old one.
pub(super) fn until_older(mtime: i64, age: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64);
    match u64::try_from(now.saturating_sub(mtime)) {
        Ok(old) => age.saturating_sub(Duration::from_nanos(old)),
        Err(_) => Duration::ZERO,
    }
}
