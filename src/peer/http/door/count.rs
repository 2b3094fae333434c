//! Who is at the other end, and what comes from there, for the figures.

use std::io::{self, Read};

use super::body::Body;
use crate::peer::metrics::{Metrics, Other};

/// Whether a target is what a peer asks for that downloads: it wants to hear of pieces with those that come, or fresh
/// ones. Others may ask so too; nothing but figures hangs on it.
pub(super) fn is_for_a_peer(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    path.starts_with("/content/") && (query.starts_with("since=") || path.ends_with("/fresh"))
}

/// A body whose bytes are counted as a client's.
pub(super) struct Counted<'c, 'w, 'a> {
    pub(super) body: &'c mut Body<'w, 'a>,
    pub(super) metrics: &'c Metrics,
}

impl Read for Counted<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(bytes)?;
        self.metrics.received(Other::Client, read as u64);
        Ok(read)
    }
}
