//! Sends a range of a file under TLS: what the kernel would copy goes through this process to be sealed.

use std::{io, net::TcpStream, ops::Range, os::unix::fs::FileExt};

use rustix::net::SendFlags;

use super::{
    Promised,
    send::{Outlet, send_all},
    wire::Pace,
};
use crate::{limits, metrics::add, tls::Session};

/// Sends `head`, then the bytes of `range` through `outlet`. Before the last block
/// goes out, the file is looked at again.
///
/// # Errors
/// As those of [`super::send::send_file`]. The session is then not closed, so that nobody takes what went out for all.
pub(super) fn send_file(
    stream: &TcpStream,
    session: &mut Session,
    head: &[u8],
    promised: &dyn Promised,
    range: Range<u64>,
    outlet: Outlet,
) -> io::Result<()> {
    let mut pace = Pace::default();
    let Outlet { limit, sent } = outlet;
    let most = limit.map_or(limits::TLS_SEND_BYTES, |limit| limit.portion().min(limits::TLS_SEND_BYTES));
    let size = usize::try_from(range.end - range.start).unwrap_or(most).saturating_add(head.len());
    let mut block = vec![0; size.min(most.max(head.len()))];
    block[..head.len()].copy_from_slice(head);
    // Head and first bytes go together.
    let mut filled = head.len();
    let mut offset = range.start;
    while filled > 0 || offset < range.end {
        let room = usize::try_from(range.end - offset).unwrap_or(most).min(block.len() - filled);
        promised.file().read_exact_at(&mut block[filled..filled + room], offset)?;
        offset += room as u64;
        // For what the limit holds up, the client is not to blame: its pace does not count this.
        if let Some(limit) = limit {
            limit.wait(room);
        }
        if offset == range.end && !promised.is_unchanged() {
            return Err(io::Error::other("the file changed while it was sent"));
        }
        session.write(&block[..filled + room], |sealed| send_all(stream, sealed, SendFlags::empty(), &mut pace))?;
        add(sent, room as u64);
        filled = 0;
    }
    promised.sent();
    Ok(())
}
