//! TLS over a blocking socket: agrees, opens and seals records, each wait with a deadline. Who sends a record in drips is
//! not waited for longer than one who sends nothing.

use std::{
    io::{self, ErrorKind, Write},
    net::TcpStream,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, InvalidMessage, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus},
};

use super::{stream::receive, swarm::explain};
use crate::limits;

/// One end of a connection.
pub struct Session {
    side: Side,
    /// Records as they came, of which those at `unopened` are still to be opened.
    incoming: Vec<u8>,
    unopened: Range<usize>,
    /// How long that may get.
    most: usize,
    /// The receive time-out now set, to spare the system call.
    timeout: Option<Duration>,
    /// What was opened and not taken, and how much of that was taken.
    opened: Vec<u8>,
    taken: usize,
    sealed: Sealed,
    /// The other end has said that no more comes.
    is_over: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Records to be sent, at the beginning of a buffer that is kept.
#[derive(Default)]
struct Sealed {
    buffer: Vec<u8>,
    length: usize,
}

impl Sealed {
    /// Has something put behind what is there, with as much room as it asks for.
    fn push<E>(
        &mut self,
        room: usize,
        mut put: impl FnMut(&mut [u8]) -> Result<usize, E>,
        missing: impl Fn(E) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut room = room;
        loop {
            if self.buffer.len() < self.length + room {
                self.buffer.resize(self.length + room, 0);
            }
            match put(&mut self.buffer[self.length..]) {
                Ok(put) => {
                    self.length += put;
                    return Ok(());
                }
                Err(error) => room = missing(error)?,
            }
        }
    }

    fn send(&mut self, mut send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let length = std::mem::take(&mut self.length);
        if length == 0 { Ok(()) } else { send(&self.buffer[..length]) }
    }
}

/// What is to be done once both ends have agreed.
enum Task<'a> {
    /// Open records into this, which is filled so far; or else nothing.
    Open(&'a mut [u8], usize),
    Seal(&'a [u8]),
    Close,
}

/// What stands in the way of it.
enum State {
    /// Nothing: do that again.
    Going,
    /// What is sealed has to be sent.
    Sending,
    /// Records have to be received.
    Waiting,
    /// It is done; nothing to open is left.
    Done,
    /// The other end has closed.
    Over,
}

impl Session {
    /// The end that answers.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let server = Side::Server(Box::new(UnbufferedServerConnection::new(config)?));
        Ok(Self::new(server, limits::TLS_HELLO_BYTES))
    }

    /// The end that asks one that goes by this name.
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        let client = Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?));
        Ok(Self::new(client, limits::TLS_MESSAGE_BYTES))
    }

    fn new(side: Side, most: usize) -> Self {
        let (incoming, opened, sealed) = (Vec::new(), Vec::new(), Sealed::default());
        Self { side, incoming, unopened: 0..0, most, timeout: None, opened, taken: 0, sealed, is_over: false }
    }

    /// Agrees with the other end, within a time.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with the end of a sentence where they cannot agree; [`ErrorKind::InvalidInput`] where
    /// the other end speaks no TLS; and the socket's.
    pub fn handshake(&mut self, stream: &TcpStream, wait: Duration) -> io::Result<()> {
        let deadline = Instant::now() + wait;
        loop {
            let state = self.step(&mut Task::Open(&mut [], 0));
            // Also what it says of an error, so that the other end knows.
            let state = state.inspect_err(|error| {
                if error.kind() == ErrorKind::InvalidData {
                    let _ = self.step(&mut Task::Open(&mut [], 0));
                    let _ = self.sealed.send(|sealed| send(stream, sealed));
                }
            })?;
            match state {
                State::Going => {}
                State::Sending => self.sealed.send(|sealed| send(stream, sealed))?,
                State::Waiting => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    self.receive(stream, left, limits::TLS_BUFFER_BYTES.start)?;
                }
                State::Done | State::Over => {
                    self.most = limits::TLS_MESSAGE_BYTES;
                    return Ok(());
                }
            }
        }
    }

    /// Reads what there is, or waits for some; nothing means that the other end has said that this was all.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] when it ends without having said so, [`ErrorKind::TimedOut`] or
    /// [`ErrorKind::WouldBlock`] when no record is whole in time, and those of [`Session::handshake`].
    pub fn read(&mut self, stream: &TcpStream, bytes: &mut [u8], wait: Duration) -> io::Result<usize> {
        if self.taken < self.opened.len() {
            let filled = bytes.len().min(self.opened.len() - self.taken);
            bytes[..filled].copy_from_slice(&self.opened[self.taken..self.taken + filled]);
            self.taken += filled;
            if self.taken == self.opened.len() {
                self.opened.clear();
                self.taken = 0;
            }
            return Ok(filled);
        }
        let mut deadline: Option<Instant> = None;
        let room = bytes.len().clamp(limits::TLS_BUFFER_BYTES.start, limits::TLS_BUFFER_BYTES.end);
        let mut task = Task::Open(bytes, 0);
        loop {
            if self.is_over {
                return Ok(0);
            }
            let state = self.step(&mut task)?;
            if let State::Sending = state {
                self.sealed.send(|sealed| send(stream, sealed))?;
                continue;
            }
            match (&task, state) {
                (Task::Open(bytes, filled), State::Waiting | State::Done | State::Over) if *filled > 0 => {
                    return Ok((*filled).min(bytes.len()));
                }
                (Task::Open(bytes, filled), _) if *filled == bytes.len() => return Ok(*filled),
                (_, State::Waiting | State::Done) => {
                    // Mostly once, and with the time-out that is set already.
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    deadline.get_or_insert_with(|| Instant::now() + wait);
                    self.receive(stream, left.unwrap_or(wait), room)?;
                }
                _ => {}
            }
        }
    }

    /// Seals bytes and has them sent, once both ends have agreed.
    ///
    /// # Errors
    /// Those of sending, and [`ErrorKind::InvalidData`].
    pub fn write(&mut self, bytes: &[u8], send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.finish(&mut Task::Seal(bytes), send)
    }

    /// Says that no more comes.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn close(&mut self, send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.finish(&mut Task::Close, send)
    }

    /// Gives back memory that is not needed while nothing goes to and fro.
    pub fn rest(&mut self) {
        if self.unopened.is_empty() {
            self.incoming = Vec::new();
        }
        if self.opened.is_empty() {
            self.opened = Vec::new();
        }
        self.sealed = Sealed::default();
    }

    fn finish(&mut self, task: &mut Task, mut send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        loop {
            match self.step(task)? {
                State::Going | State::Over => {}
                State::Sending => self.sealed.send(&mut send)?,
                State::Waiting => return Err(ErrorKind::NotConnected.into()),
                State::Done => return self.sealed.send(send),
            }
        }
    }

    /// Goes one step towards a task.
    fn step(&mut self, task: &mut Task) -> io::Result<State> {
        let records = &mut self.incoming[self.unopened.clone()];
        let (sealed, opened) = (&mut self.sealed, &mut self.opened);
        let (used, state) = match &mut self.side {
            Side::Client(client) => step(client.process_tls_records(records), task, sealed, opened),
            Side::Server(server) => step(server.process_tls_records(records), task, sealed, opened),
        };
        self.unopened.start += used;
        if self.unopened.is_empty() {
            self.unopened = 0..0;
        }
        if let Ok(State::Over) = state {
            self.is_over = true;
        }
        state
    }

    /// Receives more, into a buffer of such a size at least.
    fn receive(&mut self, stream: &TcpStream, wait: Duration, room: usize) -> io::Result<()> {
        if self.unopened.start > 0 {
            self.incoming.copy_within(self.unopened.clone(), 0);
            self.unopened = 0..self.unopened.len();
        }
        if self.unopened.end == self.incoming.len() || self.incoming.len() < room {
            let room = room.max(self.unopened.end + limits::TLS_BUFFER_BYTES.start);
            if room > self.most {
                return Err(io::Error::new(ErrorKind::InvalidData, "sends a message of TLS that is too long"));
            }
            self.incoming.resize(room, 0);
        }
        match receive(stream, &mut self.incoming[self.unopened.end..], wait, &mut self.timeout)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            received => {
                self.unopened.end += received;
                Ok(())
            }
        }
    }
}

fn send(mut stream: &TcpStream, sealed: &[u8]) -> io::Result<()> {
    stream.write_all(sealed)
}

/// What a step came to, and how many bytes of records it has used up.
fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    task: &mut Task,
    sealed: &mut Sealed,
    opened: &mut Vec<u8>,
) -> (usize, io::Result<State>) {
    let mut used = status.discard;
    let state = match status.state {
        Err(error) => {
            let is_plain = matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType));
            let kind = if is_plain { ErrorKind::InvalidInput } else { ErrorKind::InvalidData };
            Err(io::Error::new(kind, explain(&error)))
        }
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut state = Ok(State::Going);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        used += record.discard;
                        let mut rest = record.payload;
                        if let Task::Open(bytes, filled) = task {
                            let room = rest.len().min(bytes.len() - *filled);
                            bytes[*filled..*filled + room].copy_from_slice(&rest[..room]);
                            *filled += room;
                            rest = &rest[room..];
                        }
                        opened.extend_from_slice(rest);
                    }
                    Err(error) => state = Err(io::Error::new(ErrorKind::InvalidData, explain(&error))),
                }
            }
            state
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let missing = |error| match error {
                EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Ok(required_size),
                EncodeError::AlreadyEncoded => Err(io::Error::other(error)),
            };
            sealed.push(0, |room| data.encode(room), missing).map(|()| State::Going)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(State::Sending)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let missing = |error| match error {
                EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Ok(required_size),
                EncryptError::EncryptExhausted => Err(io::Error::other(error)),
            };
            match task {
                Task::Open(..) => Ok(()),
                Task::Seal(bytes) => sealed.push(bytes.len(), |room| traffic.encrypt(bytes, room), missing),
                Task::Close => sealed.push(0, |room| traffic.queue_close_notify(room), missing),
            }
            .map(|()| State::Done)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(State::Waiting),
        Ok(ConnectionState::PeerClosed) => Ok(State::Over),
        Ok(ConnectionState::Closed) => Err(ErrorKind::NotConnected.into()),
        // Nothing is sent here before both have agreed (RFC 8446 section 2.3).
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "sends what was not asked for")),
    };
    (used, state)
}
