//! The space on the share's disk. Uploads and downloads leave free what is to be kept so; the index, records
//! and piece lists may use it.

use std::{fmt, io};

use rustix::fs::fstatvfs;

use super::state::State;
use crate::size;

/// There is less room than is needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRoom {
    needed: u64,
    room: u64,
    kept: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, room, kept } = *self;
        write!(f, "{} more are needed, and the disk has {} free", size::shown(needed), size::shown(room))?;
        match kept {
            0 => Ok(()),
            _ => write!(f, " beside {} that are kept so (--keep-free)", size::shown(kept)),
        }
    }
}

impl std::error::Error for NoRoom {}

impl NoRoom {
    /// Whether this is why something failed.
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

/// Bytes that may still be written, and those that are kept free; none where the system does not say.
fn look(state: &State) -> Option<(u64, u64)> {
    let disk = fstatvfs(&state.private.partial).ok()?;
    let kept = state.keep_free.of(disk.f_blocks.saturating_mul(disk.f_frsize));
    Some((disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(kept), kept))
}

pub(super) fn room(state: &State) -> Option<u64> {
    look(state).map(|(room, _)| room)
}

/// An error of kind [`io::ErrorKind::StorageFull`] unless there is room for `needed` bytes.
pub(super) fn need(state: &State, needed: u64) -> io::Result<()> {
    match look(state) {
        Some((room, kept)) if room < needed => {
            Err(io::Error::new(io::ErrorKind::StorageFull, NoRoom { needed, room, kept }))
        }
        _ => Ok(()),
    }
}
