//! The door's connections to tiny_http: a few, kept, opened one after the other.
//!
//! tiny_http starves connections that are opened to it at once (its pool does not count those that
//! wait for a thread), so each one is proved by a request before the next is opened. Requests that
//! go over them have no body, and answers are short, so a few serve everybody.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::head::Head;
use crate::{limits, peer::http::answer::Answer};

/// The header that names an exchange to the routes.
pub(in crate::peer::http) const EXCHANGE: &str = "Enjambre-Exchange";

/// How long an answer from tiny_http may take; its handlers open a file at most.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What is asked to see whether there is an answer.
const HEALTH: &[u8] = b"HEAD /healthz HTTP/1.1\r\n\r\n";

/// The connections, and how to open one.
pub(super) struct Inner {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
    freed: Condvar,
}

/// None where the connection must be opened again.
type Connection = Option<UnixStream>;

/// What tiny_http answered.
pub(super) struct InnerAnswer {
    pub(super) status: u16,
    /// Header lines with their line ends, those of framing and `Server` left out.
    pub(super) lines: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// What the answer's body is long, or would be: the answer to HEAD has none.
    pub(super) length: u64,
}

impl InnerAnswer {
    /// An answer that was made without tiny_http.
    pub(super) fn of(answer: Answer, is_head: bool) -> Self {
        let (lines, length) = (answer.lines(), answer.body.len() as u64);
        Self { status: answer.status, lines, body: if is_head { Vec::new() } else { answer.body }, length }
    }
}

impl Inner {
    /// Opens the connections.
    pub(super) fn connect(socket: PathBuf) -> io::Result<Self> {
        let inner = Self { socket, idle: Mutex::default(), freed: Condvar::new() };
        for _ in 0..limits::INNER_CONNECTIONS {
            let connection = inner.open()?;
            inner.put_back(Some(connection));
        }
        Ok(inner)
    }

    fn open(&self) -> io::Result<UnixStream> {
        let connection = UnixStream::connect(&self.socket)?;
        connection.set_read_timeout(Some(ANSWER_TIME))?;
        connection.set_write_timeout(Some(ANSWER_TIME))?;
        exchange(&connection, HEALTH, true)?;
        Ok(connection)
    }

    /// Whether tiny_http and the routes behind it answer.
    pub(super) fn is_answering(&self) -> bool {
        let probe = |connection: UnixStream| exchange(&connection, HEALTH, true).map(|_| connection);
        let probed = self.take().map_or_else(|| self.open(), probe).ok();
        let is_answering = probed.is_some();
        self.put_back(probed);
        is_answering
    }

    /// Has a request answered. `exchange` is the number under which the routes find the rest.
    pub(super) fn ask(&self, head: &Head, number: u64) -> io::Result<InnerAnswer> {
        let mut text = format!("{} {} HTTP/1.1\r\n{EXCHANGE}: {number}\r\n", head.method, head.target);
        for (name, value) in &head.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");

        let taken = self.take();
        let result = taken.map_or_else(|| self.open(), Ok).and_then(|connection| {
            exchange(&connection, text.as_bytes(), head.method == "HEAD").map(|answer| (connection, answer))
        });
        // A connection that failed is not used again.
        let (connection, answer) = result
            .map(|(connection, answer)| (Some(connection), Ok(answer)))
            .unwrap_or_else(|error| (None, Err(error)));
        self.put_back(connection);
        answer
    }

    fn take(&self) -> Connection {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match idle.pop() {
                Some(connection) => return connection,
                None => idle = self.freed.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn put_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        self.freed.notify_one();
    }
}

fn exchange(mut connection: &UnixStream, request: &[u8], is_head: bool) -> io::Result<InnerAnswer> {
    connection.write_all(request)?;
    let mut bytes = Vec::new();
    let (mut answer, end) = loop {
        read_more(connection, &mut bytes)?;
        if let Some(parsed) = parse(&bytes)? {
            break parsed;
        }
    };
    if !is_head {
        if answer.length > limits::SMALL_ANSWER_BYTES as u64 {
            return Err(ErrorKind::InvalidData.into());
        }
        let end_of_body = end + answer.length as usize;
        while bytes.len() < end_of_body {
            read_more(connection, &mut bytes)?;
        }
        answer.body = bytes.split_off(end);
    }
    Ok(answer)
}

fn read_more(mut connection: &UnixStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut block = [0; 4096];
    loop {
        match connection.read(&mut block) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes.extend_from_slice(&block[..read]);
                return Ok(());
            }
            // A signal ends a read that has a time-out, a stop and a going on too (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The answer's head and where it ends, once it is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(InnerAnswer, usize)>> {
    let invalid = |_| io::Error::from(ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).map_err(|error| invalid(error.to_string()))? else {
        return Ok(None);
    };
    let mut lines = Vec::new();
    let mut length = 0;
    for header in response.headers {
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let text = str::from_utf8(header.value).map_err(|error| invalid(error.to_string()))?;
                length = text.parse().map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
            }
            // None of these has a meaning beyond the socket between door and tiny_http.
            "connection" | "transfer-encoding" | "server" => {}
            _ => {
                for part in [header.name.as_bytes(), b": ", header.value, b"\r\n"] {
                    lines.extend_from_slice(part);
                }
            }
        }
    }
    let status = response.code.unwrap_or(500);
    Ok(Some((InnerAnswer { status, lines, body: Vec::new(), length }, end)))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    #[test]
    fn routes_that_are_gone_do_not_answer() {
        let socket = std::env::temp_dir().join(format!("enjambre-inner-{}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let routes = thread::spawn(move || {
            let answer = |connection: &mut UnixStream| {
                let read = connection.read(&mut [0; 1000]).unwrap();
                assert_eq!(read, HEALTH.len());
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").unwrap();
            };
            let open = |_| {
                let mut connection = listener.accept().unwrap().0;
                answer(&mut connection);
                connection
            };
            let mut open: Vec<_> = (0..limits::INNER_CONNECTIONS).map(open).collect();
            // The one that was put back last is asked first.
            open.last_mut().map(answer);
        });
        let inner = Inner::connect(socket.clone()).unwrap();
        assert!(inner.is_answering());
        routes.join().unwrap();
        for _ in 0..2 * limits::INNER_CONNECTIONS {
            assert!(!inner.is_answering());
        }
        std::fs::remove_file(&socket).unwrap();
    }
}
