//! A blocking connection to a peer, under TLS where the swarm has it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{Session, Tls};

/// Reads and writes come back with an error when they wait for too long.
pub struct Stream {
    tcp: TcpStream,
    session: Option<Session>,
    patience: Duration,
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
        tcp.set_read_timeout(Some(patience))?;
        tcp.set_write_timeout(Some(patience))?;
        let mut session = tls.map(Tls::ask).transpose()?;
        if let Some(session) = &mut session {
            session.handshake(&tcp, deadline.saturating_duration_since(Instant::now()))?;
        }
        Ok(Self { tcp, session, patience })
    }

    /// From now on, a read waits so long.
    ///
    /// # Errors
    /// The system's.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        if self.session.is_none() && patience != self.patience {
            self.tcp.set_read_timeout(Some(patience))?;
        }
        self.patience = patience;
        Ok(())
    }
}

/// For fuzz targets, which have other sockets and no time.
#[cfg(any(test, fuzzing))]
impl From<std::os::fd::OwnedFd> for Stream {
    fn from(socket: std::os::fd::OwnedFd) -> Self {
        Self { tcp: socket.into(), session: None, patience: Duration::ZERO }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => session.read(&self.tcp, bytes, self.patience),
            None => self.tcp.read(bytes),
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
