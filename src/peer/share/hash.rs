//! The one thread that hashes files.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, Result, read, retry_on_intr},
};

use super::{Lookup, index::Record, kill, open::Stamp, queue::Queue, state::State};
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
                kill::point("found-hashed");
                let is_known = state.record(&[(&path, record, &list)]) == [true];
                kill::point("found-recorded");
                is_known
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

/// What stands under a path, hashed on the caller's own thread and known from then on.
pub(super) fn look(state: &State, path: &SharePath) -> Lookup {
    match hash_now(state, path) {
        Ok(Hashed::Whole(record, list)) if state.record(&[(path, record, &list)]) == [true] => {
            Lookup::Known(record.entry())
        }
        _ => Lookup::Unhashed,
    }
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
