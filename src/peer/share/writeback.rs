//! Sends what was written on its way to the disk early, so that the fsync at the end is short.

use std::{num::NonZeroU64, ops::Range, os::fd::AsFd};

use rustix::fs::{Advice, fadvise};

/// So much is written before it is sent on. Measured with 1 GiB on a virtual disk, write and fsync
/// together: 0.4-0.8 s at 8 MiB against 1.5-2.2 s without, and 0.6-1.6 s with an fdatasync every 32 MiB.
const BATCH: u64 = 8 << 20;

/// Ranges written and not sent on yet.
#[derive(Default)]
pub(super) struct WriteBack {
    ranges: Vec<Range<u64>>,
    bytes: u64,
}

impl WriteBack {
    /// Notes that `range` was written.
    pub(super) fn wrote(&mut self, file: impl AsFd, range: Range<u64>) {
        self.bytes += range.end - range.start;
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
        if self.bytes >= BATCH {
            self.send(file);
        }
    }

    /// Sends on what was not yet.
    pub(super) fn send(&mut self, file: impl AsFd) {
        for range in self.ranges.drain(..) {
            // `DONTNEED` starts the writing of dirty pages without waiting for it, and forgets
            // clean ones, of which a range just written has next to none: what Linux offers to
            // safe code in place of sync_file_range.
            let length = NonZeroU64::new(range.end - range.start);
            let _ = length.map(|length| fadvise(&file, range.start, Some(length), Advice::DontNeed));
        }
        self.bytes = 0;
    }
}
