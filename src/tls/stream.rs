//! A blocking connection to a peer, under TLS where the swarm has it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{Session, Tls};

/// Reads what has come, or waits so long for some. A time-out that is `set` already costs no system call.
///
/// # Errors
/// The system's; [`is_timeout`] tells those of waiting.
pub fn receive(
    mut stream: &TcpStream,
    bytes: &mut [u8],
    wait: Duration,
    set: &mut Option<Duration>,
) -> io::Result<usize> {
    if wait.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    if *set != Some(wait) {
        stream.set_read_timeout(Some(wait))?;
        *set = Some(wait);
    }
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads and writes come back with an error when they wait for too long.
pub struct Stream {
    tcp: TcpStream,
    session: Option<Session>,
    patience: Duration,
    /// The time-out of reads that is set, without TLS.
    timeout: Option<Duration>,
}

impl Stream {
    /// Connects to a peer, within a time. Reads then wait so long as `patience` says, and so do writes.
    ///
    /// # Errors
    /// The system's, a time-out as [`ErrorKind::TimedOut`]; and [`ErrorKind::InvalidData`] with the end of a sentence that
    /// begins with the peer, where it is none of this swarm.
    pub fn connect(to: &SocketAddr, time: Duration, patience: Duration, tls: Option<&Tls>) -> io::Result<Self> {
        let deadline = Instant::now() + time;
        let tcp = TcpStream::connect_timeout(to, time)?;
        // Requests are written in one go, and their answers are waited for.
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(patience))?;
        let mut session = tls.map(Tls::ask).transpose()?;
        if let Some(session) = &mut session {
            session.handshake(&tcp, deadline.saturating_duration_since(Instant::now()))?;
        }
        Ok(Self { tcp, session, patience, timeout: None })
    }

    /// From now on, a read waits so long.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

/// A connection that is there already, without TLS: what oracles write into.
#[cfg(any(test, fuzzing))]
impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp, session: None, patience: crate::limits::SOURCE_STALL_TIME, timeout: None }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => session.read(&self.tcp, bytes, self.patience),
            None => receive(&self.tcp, bytes, self.patience, &mut self.timeout),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => {
                session.write(bytes, |sealed| self.tcp.write_all(sealed))?;
                Ok(bytes.len())
            }
            None => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a socket's time-out is what ended a call.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
