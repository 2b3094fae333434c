//! The body of a request, taken out of its framing (RFC 9112 sections 6 and 7).

use std::{
    io::{self, ErrorKind, Read},
    time::Instant,
};

use super::{
    head::Framing,
    wire::{Pace, Wire, bad_framing},
};
use crate::limits;

/// Reads a request's body to its end and no further.
pub(super) struct Body<'w, 'a> {
    wire: &'w mut Wire<'a>,
    state: State,
    /// Bytes taken so far, against [`limits::UPLOAD_BYTES`].
    taken: u64,
    pace: Pace,
    /// `100 Continue` is still to be sent (RFC 9110 section 10.1.1).
    owes_continue: bool,
}

enum State {
    /// So many bytes are left of a body with a length.
    Length(u64),
    /// So many bytes are left of the current chunk, and its CR LF.
    Chunk(u64),
    /// A chunk's size line comes next.
    ChunkSize,
    Done,
    Broken,
}

impl<'w, 'a> Body<'w, 'a> {
    pub(super) fn new(wire: &'w mut Wire<'a>, framing: Framing, owes_continue: bool) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
        };
        Self { wire, state, taken: 0, pace: Pace::default(), owes_continue }
    }

    /// Reads what is left when that is little and the client sends it anyway; true when the
    /// connection then stands before the next request.
    pub(super) fn is_drained(&mut self) -> bool {
        let is_little = match self.state {
            State::Done => return true,
            State::Length(left) => left <= limits::DRAIN_BYTES,
            State::Chunk(_) | State::ChunkSize => true,
            State::Broken => false,
        };
        if !is_little || self.owes_continue {
            return false;
        }
        // The answer waits for this, so a client that sends no more must not make it wait long.
        self.wire.set_body_deadline(Some(Instant::now() + limits::DRAIN_TIME));
        let limit = self.taken + limits::DRAIN_BYTES;
        let mut block = [0; 4096];
        let mut is_whole = false;
        while !is_whole && self.taken <= limit {
            match self.read(&mut block) {
                Ok(read) => is_whole = read == 0,
                Err(_) => break,
            }
        }
        self.wire.set_body_deadline(None);
        is_whole
    }

    fn read_framed(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = match self.state {
                State::Done => return Ok(0),
                State::Broken => return Err(bad_framing()),
                State::Length(left) | State::Chunk(left) => left,
                State::ChunkSize => {
                    let size = chunk_size(&self.wire.read_line(limits::CHUNK_LINE_BYTES)?)?;
                    if size == 0 {
                        self.read_trailers()?;
                        self.state = State::Done;
                    } else {
                        self.state = State::Chunk(size);
                    }
                    continue;
                }
            };
            let room = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.wire.read_body(&mut bytes[..room])?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let left = left - read as u64;
            self.state = match self.state {
                State::Chunk(_) if left > 0 => State::Chunk(left),
                State::Chunk(_) if self.wire.read_line(0)?.is_empty() => State::ChunkSize,
                State::Length(1..) if left > 0 => State::Length(left),
                State::Length(_) => State::Done,
                _ => return Err(bad_framing()),
            };
            self.taken += read as u64;
            if self.taken > limits::UPLOAD_BYTES {
                return Err(io::Error::new(ErrorKind::FileTooLarge, "an upload is at most 1 TiB"));
            }
            return Ok(read);
        }
    }

    fn read_trailers(&mut self) -> io::Result<()> {
        let mut room = limits::CHUNK_LINE_BYTES;
        loop {
            let line = self.wire.read_line(room)?;
            if line.is_empty() {
                return Ok(());
            }
            room = room.saturating_sub(line.len() + 2);
        }
    }
}

impl Read for Body<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if std::mem::take(&mut self.owes_continue) {
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let began = Instant::now();
        let read = self.read_framed(bytes).and_then(|read| self.pace.took(began.elapsed(), read).map(|()| read));
        read.inspect_err(|_| self.state = State::Broken)
    }
}

/// A chunk's size: hex digits, then perhaps extensions, which are ignored (RFC 9112 section 7.1.1). Blanks belong
/// before an extension only, and there are no others than two: of what stands there besides, readers make this or that.
fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let is_extension =
        rest.trim_ascii_start().starts_with(b";") && !rest.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
    let size = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match size {
        Some(size) if rest.is_empty() || is_extension => Ok(size),
        _ => Err(bad_framing()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// What a body reads as, and what stands behind it.
    fn read(framing: Framing, sent: &[u8]) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(sent).unwrap();
        drop(client);
        let mut wire = Wire::new(&server, None);
        let mut bytes = Vec::new();
        let result = Body::new(&mut wire, framing, false).read_to_end(&mut bytes);
        let mut rest = Vec::new();
        let mut block = [0; 100];
        while let Ok(read @ 1..) = wire.read_body(&mut block) {
            rest.extend_from_slice(&block[..read]);
        }
        (result.map(|_| bytes), rest)
    }

    #[test]
    fn a_body_is_read_to_its_end_and_no_further() {
        for (framing, sent, body, rest) in [
            (Framing::Length(0), &b"next"[..], &b""[..], &b"next"[..]),
            (Framing::Length(4), b"bodynext", b"body", b"next"),
            (Framing::Chunked, b"0\r\n\r\nnext", b"", b"next"),
            (Framing::Chunked, b"4\r\nbody\r\n0\r\n\r\nnext", b"body", b"next"),
            (Framing::Chunked, b"02\r\nbo\r\n2;x=\"y\"\r\ndy\r\n000\r\n\r\nnext", b"body", b"next"),
            (Framing::Chunked, b"A\r\n0123456789\r\n0\r\nX: trailer\r\nY: z\r\n\r\nnext", b"0123456789", b"next"),
        ] {
            let (read, left) = read(framing, sent);
            assert_eq!((read.unwrap(), left), (body.to_vec(), rest.to_vec()), "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn broken_framing_is_an_error_and_never_a_shorter_body() {
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(limits::CHUNK_LINE_BYTES));
        let trailers = format!("0\r\n{}\r\n", "X: trailer\r\n".repeat(100));
        for sent in [
            &b""[..],
            b"4\r\nbod",
            b"4\r\nbody",
            b"4\r\nbody\r\n",
            b"4\r\nbody\r\n0\r\n",
            b"4\r\nbodyx\r\n0\r\n\r\n",
            b"4\nbody\r\n0\r\n\r\n",
            b"4\r\nbody\n0\r\n\r\n",
            b"+4\r\nbody\r\n0\r\n\r\n",
            b"-4\r\nbody\r\n0\r\n\r\n",
            b"0x4\r\nbody\r\n0\r\n\r\n",
            b" 4\r\nbody\r\n0\r\n\r\n",
            b"4 x\r\nbody\r\n0\r\n\r\n",
            b"4 \r\nbody\r\n0\r\n\r\n",
            b"4\x0c;x\r\nbody\r\n0\r\n\r\n",
            b"4;\0\r\nbody\r\n0\r\n\r\n",
            b"\r\nbody\r\n0\r\n\r\n",
            b"11111111111111111\r\nx",
            long.as_bytes(),
            trailers.as_bytes(),
        ] {
            assert!(read(Framing::Chunked, sent).0.is_err(), "{}", sent.escape_ascii());
        }
        assert!(read(Framing::Length(5), b"body").0.is_err());
    }
}
