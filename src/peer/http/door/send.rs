//! Sends a range of a file: the kernel copies it from the page cache into the socket.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
    ops::Range,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use rustix::{
    fs::sendfile,
    io::{Errno, retry_on_intr},
    net::{SendFlags, send, sockopt::set_tcp_cork},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

use super::{Promised, wire::Pace};
use crate::{limits, metrics::add, peer::throttle::Throttle};

/// A range up to this size goes out in one go, right behind its head in the same packet.
const TOGETHER_BYTES: u64 = 64 << 10;

/// What the bytes of files go through.
#[derive(Clone, Copy)]
pub(super) struct Outlet<'a> {
    /// No faster than this lets them.
    pub(super) limit: Option<&'a Throttle>,
    /// Counts those that have gone.
    pub(super) sent: &'a AtomicU64,
}

/// Sends all of `bytes`, unless the client takes them too slowly.
pub(super) fn send_bytes(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    send_all(stream, bytes, SendFlags::empty(), &mut Pace::default())
}

pub(super) fn send_all(stream: &TcpStream, mut bytes: &[u8], flags: SendFlags, pace: &mut Pace) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = paced(pace, || send(stream, bytes, flags | SendFlags::NOSIGNAL))?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Makes a call that gives bytes to a client until it takes some. A call comes back, with less than all or
/// with an error, when nothing was taken for [`limits::SLOW_LOOK_TIME`], the socket's time-out.
fn paced(pace: &mut Pace, mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        let began = Instant::now();
        match retry_on_intr(&mut call) {
            Ok(sent) => return pace.took(began.elapsed(), sent).map(|()| sent),
            Err(Errno::AGAIN) => pace.took(began.elapsed(), 0)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends `head`, then the bytes of `range` through `outlet`. Before the last block
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
    outlet: Outlet,
) -> io::Result<()> {
    send_paced(stream, head, promised, range, outlet, Pace::default())
}

fn send_paced(
    stream: &TcpStream,
    head: &[u8],
    promised: &dyn Promised,
    range: Range<u64>,
    outlet: Outlet,
    mut pace: Pace,
) -> io::Result<()> {
    let file = promised.file();
    let Outlet { limit, sent } = outlet;
    let changed = || io::Error::other("the file changed while it was sent");
    let most = limit.map_or(limits::SEND_BYTES, Throttle::portion) as u64;
    // For what the limit holds up, the client is not to blame: its pace does not count this.
    let wait = |bytes| limit.map_or(Duration::ZERO, |limit| limit.wait(bytes));
    if range.end - range.start <= TOGETHER_BYTES.min(most) {
        wait((range.end - range.start) as usize);
        if !promised.is_unchanged() {
            return Err(changed());
        }
        send_all(stream, head, SendFlags::MORE, &mut pace)?;
        let mut offset = range.start;
        while offset < range.end {
            let left = (range.end - offset) as usize;
            match paced(&mut pace, || sendfile(stream, file, Some(&mut offset), left))? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                bytes => add(sent, bytes as u64),
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
    send_all(stream, head, SendFlags::empty(), &mut pace)?;
    let mut offset = range.start;
    while offset < range.end {
        let block = most.min(range.end - offset) as usize;
        let mut piped = retry_on_intr(|| splice(file, Some(&mut offset), &into, None, block, SpliceFlags::empty()))?;
        if piped == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        wait(piped);
        if offset == range.end && !promised.is_unchanged() {
            return Err(changed());
        }
        while piped > 0 {
            let bytes = paced(&mut pace, || splice(&out, None, stream, None, piped, SpliceFlags::MORE))?;
            add(sent, bytes as u64);
            piped -= bytes;
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

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, net::TcpListener, thread};

    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

    use super::*;

    struct Bytes(File);

    impl Promised for Bytes {
        fn file(&self) -> &File {
            &self.0
        }

        fn is_unchanged(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_client_that_takes_a_file_in_drips_is_cut_off() {
        let path = std::env::temp_dir().join(format!("enjambre-drip-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let size = 64 << 20;
        file.set_len(size).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        // What the kernel holds for a client is not to hide how slow it is.
        set_socket_recv_buffer_size(&client, 16 << 10).unwrap();
        set_socket_send_buffer_size(&server, 64 << 10).unwrap();
        server.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // It reads for ever, and never a mebibyte in half a second.
        let reader = thread::spawn(move || {
            let mut block = [0; 16 << 10];
            while (&client).read(&mut block).is_ok_and(|read| read > 0) {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let pace = Pace::new(Duration::from_millis(500), 1 << 20);
        let began = Instant::now();
        let count = AtomicU64::new(0);
        let outlet = Outlet { limit: None, sent: &count };
        let sent = send_paced(&server, b"HTTP/1.1 200 OK\r\n\r\n", &Bytes(file), 0..size, outlet, pace);
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        server.shutdown(std::net::Shutdown::Both).unwrap();
        reader.join().unwrap();
    }
}
