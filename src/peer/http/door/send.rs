//! Sends a range of a file: the kernel copies it from the page cache into the socket.

use std::{
    io::{self, ErrorKind, Write},
    net::TcpStream,
    ops::Range,
    os::unix::fs::FileExt,
    time::Instant,
};

use rustix::{fs::sendfile, net::sockopt::set_tcp_cork};

use super::{Promised, wire::is_drip};
use crate::limits;

/// A range up to this size goes out in one write with its head: for small pieces a packet of its
/// own for the head would count.
const TOGETHER_BYTES: u64 = 64 << 10;

/// Sends `head`, then the bytes of `range`. Before the last block goes out, the file is looked at
/// again.
///
/// # Errors
/// When the client does not take the bytes, or the file does not give them or has changed. The
/// connection must then be closed, which tells the client that its answer is not whole.
pub(super) fn send_file(
    stream: &TcpStream,
    mut head: Vec<u8>,
    promised: &dyn Promised,
    range: Range<u64>,
) -> io::Result<()> {
    let file = promised.file();
    let mut wire = stream;
    let changed = || io::Error::other("the file changed while it was sent");
    if range.end - range.start <= TOGETHER_BYTES {
        let start = head.len();
        head.resize(start + (range.end - range.start) as usize, 0);
        file.read_exact_at(&mut head[start..], range.start)?;
        if !promised.is_unchanged() {
            return Err(changed());
        }
        wire.write_all(&head)?;
        promised.sent();
        return Ok(());
    }
    // Corked, so that only full packets leave: head and first bytes together, and none that is short
    // where one of the kernel's 64 KiB portions ends (tcp(7)).
    set_tcp_cork(stream, true)?;
    wire.write_all(&head)?;
    let mut offset = range.start;
    let start = Instant::now();
    while offset < range.end {
        if is_drip(start, offset - range.start) {
            return Err(ErrorKind::TimedOut.into());
        }
        let left = range.end - offset;
        let block = if left > limits::SEND_BYTES { limits::SEND_BYTES.min(left - TOGETHER_BYTES) } else { left };
        if block == left && !promised.is_unchanged() {
            return Err(changed());
        }
        match sendfile(stream, file, Some(&mut offset), block as usize) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    set_tcp_cork(stream, false)?;
    promised.sent();
    Ok(())
}
