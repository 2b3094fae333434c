//! Sends a range of a file: the kernel copies it from the page cache into the socket.

use std::{
    io::{self, ErrorKind, Write},
    net::TcpStream,
    ops::Range,
    time::{Duration, Instant},
};

use rustix::{
    fs::sendfile,
    io::retry_on_intr,
    net::{SendFlags, send, sockopt::set_tcp_cork},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

use super::{Promised, wire::is_drip};
use crate::{limits, peer::throttle::Throttle};

/// A range up to this size goes out in one go, right behind its head in the same packet.
const TOGETHER_BYTES: u64 = 64 << 10;

/// Sends `head`, then the bytes of `range`, no faster than `limit` lets them go. Before the last block
/// goes out, the file is looked at again.
///
/// # Errors
/// When the client does not take the bytes, or the file does not give them or has changed. The
/// connection must then be closed, which tells the client that its answer is not whole.
pub(super) fn send_file(
    stream: &TcpStream,
    head: &[u8],
    promised: &dyn Promised,
    range: Range<u64>,
    limit: Option<&Throttle>,
) -> io::Result<()> {
    let file = promised.file();
    let mut wire = stream;
    let changed = || io::Error::other("the file changed while it was sent");
    let most = limit.map_or(limits::SEND_BYTES, Throttle::portion) as u64;
    let wait = |bytes| limit.map_or(Duration::ZERO, |limit| limit.wait(bytes));
    if range.end - range.start <= TOGETHER_BYTES.min(most) {
        wait((range.end - range.start) as usize);
        if !promised.is_unchanged() {
            return Err(changed());
        }
        if send(stream, head, SendFlags::MORE)? < head.len() {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut offset = range.start;
        while offset < range.end {
            let left = (range.end - offset) as usize;
            if retry_on_intr(|| sendfile(stream, file, Some(&mut offset), left))? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        promised.sent();
        return Ok(());
    }
    // What `sendfile` does is to splice through a pipe of 64 KiB; one that takes more at a time costs a
    // tenth less CPU. Where a user has too many of those (pipe(7)), the kernel leaves this one as it is.
    let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
    let _ = fcntl_setpipe_size(&into, limits::SEND_BYTES);
    // Corked, so that only full packets leave: head and first bytes together, and none that is short
    // where one of the kernel's portions ends (tcp(7)).
    set_tcp_cork(stream, true)?;
    wire.write_all(head)?;
    let mut offset = range.start;
    let mut start = Instant::now();
    while offset < range.end {
        if is_drip(start, offset - range.start) {
            return Err(ErrorKind::TimedOut.into());
        }
        let block = most.min(range.end - offset) as usize;
        let mut piped = retry_on_intr(|| splice(file, Some(&mut offset), &into, None, block, SpliceFlags::empty()))?;
        if piped == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // For what the limit holds up, the client is not to blame.
        start += wait(piped);
        if offset == range.end && !promised.is_unchanged() {
            return Err(changed());
        }
        while piped > 0 {
            piped -= retry_on_intr(|| splice(&out, None, stream, None, piped, SpliceFlags::MORE))?;
        }
        if limit.is_some() {
            // What may go does not wait until it fills a packet.
            set_tcp_cork(stream, false)?;
        }
    }
    set_tcp_cork(stream, false)?;
    promised.sent();
    Ok(())
}
