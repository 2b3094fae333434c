//! A raw HTTP/1.1 client for tests: what it is told to send goes out, well-formed or not.

use std::{
    io,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType};

use super::PATIENCE;

/// A connection: sends bytes as they are given and reads answers one by one.
pub struct Connection {
    stream: TcpStream,
    /// Read beyond the last answer.
    ahead: Vec<u8>,
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Without the chunks it may have come in.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header; none where there is none.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

impl Connection {
    /// Connects. Reads and writes fail after [`PATIENCE`] without progress.
    #[track_caller]
    pub fn open(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&to, PATIENCE).expect("a connection"))
    }

    /// Connects from a given address of this machine. All of 127.0.0.0/8 is there without being
    /// set up, so a test can be as many clients as it likes.
    ///
    /// # Errors
    /// The system's, a refused connection among them.
    pub fn open_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
        rustix::net::connect(&socket, &to)?;
        Ok(Self::over(socket.into()))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        Self { stream, ahead: Vec::new() }
    }

    /// The socket, for what else a test does to it (shutdown, linger, other time-outs).
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The system's; of a peer that has closed the connection, for one.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads one answer with its body, past any `100 Continue`.
    ///
    /// # Errors
    /// The system's, [`io::ErrorKind::UnexpectedEof`] where the connection ends too early, and
    /// [`io::ErrorKind::InvalidData`] for what is no HTTP.
    pub fn answer(&mut self) -> io::Result<Response> {
        let mut response = self.head()?;
        while (100..200).contains(&response.status) {
            response = self.head()?;
        }
        let header = |name| response.header(name).map(str::to_owned);
        response.body = if matches!(response.status, 204 | 304) {
            Vec::new()
        } else if header("transfer-encoding").is_some() {
            self.chunks()?
        } else if let Some(length) = header("content-length") {
            self.take(length.parse().map_err(invalid)?)?
        } else {
            self.rest()?
        };
        Ok(response)
    }

    /// Reads one head and no body: the answer to `HEAD`, or a `100 Continue`.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub fn head(&mut self) -> io::Result<Response> {
        let status_line = self.line()?;
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("no header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Everything up to the end of the connection.
    ///
    /// # Errors
    /// The system's; a reset is one, and so is [`PATIENCE`] without a byte.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.ahead);
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits until the other side has ended the connection, properly or by a reset; says false
    /// when it sends something instead or is still there after `deadline`.
    pub fn is_closed_within(&mut self, deadline: Duration) -> bool {
        self.stream.set_read_timeout(Some(deadline)).expect("a socket option");
        let read = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        match read {
            Ok(length) => length == 0 && self.ahead.is_empty(),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Exactly `length` bytes.
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.more()?;
        }
        let ahead = self.ahead.split_off(length);
        Ok(std::mem::replace(&mut self.ahead, ahead))
    }

    /// A line, without its CRLF; a lone LF ends none.
    fn line(&mut self) -> io::Result<String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.ahead[searched..].windows(2).position(|pair| pair == b"\r\n") {
                let mut line = self.take(searched + end + 2)?;
                line.truncate(searched + end);
                return String::from_utf8(line).map_err(invalid);
            }
            searched = self.ahead.len().saturating_sub(1);
            self.more()?;
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).map_err(invalid)?;
            if length == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.append(&mut self.take(length)?);
            self.line()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64 << 10];
        let length = self.stream.read(&mut bytes)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ahead.extend_from_slice(&bytes[..length]);
        Ok(())
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// One request on a connection of its own. `headers` go out as they are, beside `Host`,
/// `Connection: close` and, where there is a body, its `Content-Length`.
///
/// # Errors
/// As [`Connection::answer`].
pub fn try_request(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut connection = Connection::over(TcpStream::connect_timeout(&to, PATIENCE)?);
    connection.send(head + "\r\n")?;
    connection.send(body)?;
    if method == "HEAD" { connection.head() } else { connection.answer() }
}

/// As [`try_request`], for requests that must be answered.
#[track_caller]
pub fn request(to: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    try_request(to, method, target, headers, body).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// A `GET` that must be answered.
#[track_caller]
pub fn get(from: SocketAddr, target: &str) -> Response {
    request(from, "GET", target, &[], b"")
}

/// Puts a file into a peer's share with `PUT /files/<target path>` and expects it to be taken.
#[track_caller]
pub fn put(to: SocketAddr, path: &str, bytes: &[u8]) -> Response {
    let response = request(to, "PUT", &format!("/files/{path}"), &[], bytes);
    assert_eq!(response.status, 201, "PUT {path}: {}", response.text());
    response
}
