//! A client's connection: reads with deadlines, into a small buffer that outlives a request.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
    ops::Range,
    time::{Duration, Instant},
};

use rustix::net::SendFlags;

use super::{
    Promised, head, sealed,
    send::{Outlet, send_all, send_bytes, send_file},
};
use crate::{
    limits,
    peer::http::answer::Answer,
    tls::{Session, is_timeout, is_tls, receive},
};

/// A connection and what was read from it and not used yet: at most a head's bytes, since only
/// heads are read into the buffer. So pipelining costs the client waiting, and nobody memory.
pub(super) struct Wire<'a> {
    stream: &'a TcpStream,
    /// What all goes through where there is TLS.
    session: Option<Session>,
    buffer: Vec<u8>,
    /// The receive time-out now set, to spare the system call.
    timeout: Option<Duration>,
    /// Until when a body may go on; [`limits::STALL_TIME`] from each read where there is none.
    body_deadline: Option<Instant>,
}

/// Why there is no next head.
pub(super) enum NoHead {
    /// The client closed, was closed, or was idle for too long: nothing is owed to it.
    Over,
    /// To be answered, and the connection closed.
    Refused(Answer),
}

impl<'a> Wire<'a> {
    pub(super) fn new(stream: &'a TcpStream, session: Option<Session>) -> Self {
        Self { stream, session, buffer: Vec::new(), timeout: None, body_deadline: None }
    }

    /// Agrees on TLS with the client, where there is any, within a time.
    pub(super) fn agree(&mut self, wait: Duration) -> Result<(), NoHead> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.handshake(self.stream, wait).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => {
                self.session = None;
                NoHead::Refused(Answer::problem(400, "This port speaks TLS: ask it by https:// and not by http://."))
            }
            _ => NoHead::Over,
        })
    }

    /// Waits for a head, `idle` long for its first byte and [`limits::HEAD_TIME`] for the rest, and
    /// calls `begun` when the first byte is here.
    pub(super) fn read_head(&mut self, idle: Duration) -> Result<head::Head, NoHead> {
        let mut deadline = None;
        if let Some(session) = self.session.as_mut().filter(|_| self.buffer.is_empty()) {
            session.rest();
        }
        loop {
            if let Some(end) = head::end(&self.buffer) {
                let parsed = head::parse(&self.buffer[..end]).map_err(NoHead::Refused);
                self.buffer.drain(..end);
                if self.buffer.is_empty() {
                    // An idle connection holds no memory.
                    self.buffer = Vec::new();
                }
                return parsed;
            }
            if self.buffer.first().is_some_and(|first| is_tls(*first)) {
                let detail = "This port speaks no TLS: ask it by http:// and not by https://.";
                return Err(NoHead::Refused(Answer::problem(400, detail)));
            }
            if self.buffer.len() >= limits::HEAD_BYTES {
                return Err(NoHead::Refused(Answer::problem(431, "A request's head is at most 16 KiB long.")));
            }
            let wait = match deadline {
                None if self.buffer.is_empty() => idle,
                None => limits::HEAD_TIME,
                Some(deadline) => Instant::saturating_duration_since(&deadline, Instant::now()),
            };
            match self.fill(wait) {
                Ok(0) => return Err(NoHead::Over),
                Ok(_) if deadline.is_none() => deadline = Some(Instant::now() + limits::HEAD_TIME),
                Ok(_) => {}
                Err(error) if is_timeout(&error) && !self.buffer.is_empty() => {
                    return Err(NoHead::Refused(Answer::problem(408, "The request's head took too long to arrive.")));
                }
                Err(_) => return Err(NoHead::Over),
            }
        }
    }

    /// Reads more into the buffer.
    fn fill(&mut self, wait: Duration) -> io::Result<usize> {
        let mut block = [0; 2048];
        let room = block.len().min(limits::HEAD_BYTES - self.buffer.len());
        let read = self.receive(&mut block[..room], wait)?;
        self.buffer.extend_from_slice(&block[..read]);
        Ok(read)
    }

    fn receive(&mut self, bytes: &mut [u8], wait: Duration) -> io::Result<usize> {
        match &mut self.session {
            Some(session) if !wait.is_zero() => session.read(self.stream, bytes, wait),
            _ => receive(self.stream, bytes, wait, &mut self.timeout),
        }
    }

    /// Ends reads of a body, and of its framing, at a time; none takes that back.
    pub(super) fn set_body_deadline(&mut self, deadline: Option<Instant>) {
        self.body_deadline = deadline;
    }

    fn body_wait(&self) -> Duration {
        self.body_deadline.map_or(limits::STALL_TIME, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Reads bytes of a body: what is buffered first, then from the connection.
    pub(super) fn read_body(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            return self.receive(bytes, self.body_wait());
        }
        let taken = bytes.len().min(self.buffer.len());
        bytes[..taken].copy_from_slice(&self.buffer[..taken]);
        self.buffer.drain(..taken);
        Ok(taken)
    }

    /// Reads a line of a body's framing without its CR LF.
    ///
    /// # Errors
    /// When it is longer than `limit`, or has a bare CR or LF.
    pub(super) fn read_line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return match line.strip_suffix(b"\r\n") {
                    Some(line) if line.len() <= limit && !line.contains(&b'\r') => Ok(line.to_vec()),
                    _ => Err(bad_framing()),
                };
            }
            if self.buffer.len() > limit + 1 {
                return Err(bad_framing());
            }
            if self.fill(self.body_wait())? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.session {
            None => send_bytes(self.stream, bytes),
            Some(session) => {
                let mut pace = Pace::default();
                session.write(bytes, |sealed| send_all(self.stream, sealed, SendFlags::empty(), &mut pace))
            }
        }
    }

    /// Sends `head`, then the bytes of `range`, as [`send_file`] does.
    pub(super) fn send_file(
        &mut self,
        head: &[u8],
        promised: &dyn Promised,
        range: Range<u64>,
        outlet: Outlet,
    ) -> io::Result<()> {
        match &mut self.session {
            None => send_file(self.stream, head, promised, range, outlet),
            Some(session) => sealed::send_file(self.stream, session, head, promised, range, outlet),
        }
    }

    /// Throws away what still comes, until the client closes: bytes left unread when a connection
    /// is closed would reset it, and the answer on its way might be lost with it (RFC 9112 section 9.6).
    pub(super) fn linger(&mut self) {
        if let Some(mut session) = self.session.take() {
            // The client knows by this that its answer is whole.
            let _ = session.close(|sealed| send_bytes(self.stream, sealed));
            self.timeout = None;
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let deadline = Instant::now() + limits::DRAIN_TIME;
        let mut block = [0; 4096];
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.receive(&mut block, wait) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

/// Holds a client to a least speed. Only the time counts that it made us wait, so that it is not blamed
/// for a slow disk; and only the last while, so that a fast start does not pay for an endless drip.
pub(super) struct Pace {
    patience: Duration,
    /// Bytes that have to move in that time.
    least: u64,
    waited: Duration,
    moved: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(limits::STALL_TIME, limits::SLOWEST_RATE * limits::STALL_TIME.as_secs())
    }
}

impl Pace {
    pub(super) fn new(patience: Duration, least: u64) -> Self {
        Self { patience, least, waited: Duration::ZERO, moved: 0 }
    }

    /// Notes that `bytes` took a `time`.
    ///
    /// # Errors
    /// When that is too slow.
    pub(super) fn took(&mut self, time: Duration, bytes: usize) -> io::Result<()> {
        self.waited += time;
        self.moved += bytes as u64;
        if self.waited > self.patience {
            if self.moved < self.least {
                return Err(ErrorKind::TimedOut.into());
            }
            (self.waited, self.moved) = (Duration::ZERO, 0);
        }
        Ok(())
    }
}

pub(super) fn bad_framing() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the body's framing is broken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_start_pays_for_no_drip_and_a_slow_disk_is_not_the_clients() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(seconds(30), 30 << 10);
        assert!(pace.took(seconds(1), 100 << 20).is_ok());
        for _ in 0..100 {
            assert!(pace.took(seconds(29), 40 << 10).is_ok(), "slow, and fast enough");
        }
        assert!(pace.took(seconds(2), 0).is_ok());
        assert!(pace.took(seconds(28), 10).is_ok());
        assert_eq!(pace.took(seconds(2), 10).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
