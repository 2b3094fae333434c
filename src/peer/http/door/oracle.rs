//! The fuzz target of the door's way with requests, a smuggling oracle: what it takes a connection's bytes for is
//! what a strict model takes them for, request by request, and of what it lets through, real tiny_http reads
//! exactly that.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tiny_http::{Response, Server};

use super::{
    body::Body,
    head::{FORWARDED, Framing, Head},
    inner::{EXCHANGE, Inner},
    wire::{NoHead, Wire},
};
use crate::limits;

/// A request, as somebody has read it.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    /// None where it broke off or is framed badly: nothing behind it is a request.
    body: Option<Vec<u8>>,
    is_kept: bool,
}

/// What became of a connection behind its last request.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There was nothing more, or only a part of a head.
    Over,
    Refused,
    /// The last request was the last by its own word, or its body was broken.
    Closed,
}

/// Takes bytes as all that a client sends on a connection.
pub(crate) fn check(data: &[u8]) {
    // So much a socket takes at once.
    if data.len() > 64 << 10 {
        return;
    }
    let (read, end) = through_the_door(data);
    let model = model(data);
    assert_eq!(
        (&read.iter().map(|(_, request)| request).collect::<Vec<_>>(), &end),
        (&model.0.iter().collect(), &model.1)
    );
    // All of a head but who sends it, which is not to be shown.
    let shown =
        |head: &Head| (head.method.clone(), head.target.clone(), head.headers.clone(), head.framing, head.is_kept);
    let unread: Vec<_> = heads_where_nobody_reads_bodies(data).iter().map(shown).collect();
    assert_eq!(read.iter().map(|(head, _)| shown(head)).take(unread.len()).collect::<Vec<_>>(), unread);
    for (head, request) in &read {
        through_tiny_http(head, request);
    }
}

/// A connection on which a client has sent this and nothing more; and the client's end of it.
fn connection(data: &[u8]) -> (TcpStream, UnixStream) {
    let (server, mut client) = UnixStream::pair().expect("a pair of sockets");
    client.write_all(data).expect("it fits");
    client.shutdown(Shutdown::Write).expect("it was open");
    (TcpStream::from(OwnedFd::from(server)), client)
}

/// What the door makes of it when each body is read.
fn through_the_door(data: &[u8]) -> (Vec<(Head, Request)>, End) {
    let (server, _client) = connection(data);
    let mut wire = Wire::new(&server, None);
    let mut read = Vec::new();
    loop {
        let head = match wire.read_head(limits::HEAD_TIME) {
            Ok(head) => head,
            Err(NoHead::Over) => return (read, End::Over),
            Err(NoHead::Refused(answer)) => {
                assert!((400..600).contains(&answer.status));
                return (read, End::Refused);
            }
        };
        let mut bytes = Vec::new();
        let mut body = Body::new(&mut wire, head.framing, head.expects_continue);
        let is_whole = body.read_to_end(&mut bytes).is_ok();
        assert_eq!(body.is_drained(), is_whole);
        let is_kept = head.is_kept && is_whole;
        let request = Request {
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            body: is_whole.then_some(bytes),
            is_kept: head.is_kept,
        };
        read.push((head, request));
        if !is_kept {
            return (read, End::Closed);
        }
    }
}

/// The heads that the door reads where it only throws bodies away: no others, but perhaps fewer, since it does not
/// do that to long ones.
fn heads_where_nobody_reads_bodies(data: &[u8]) -> Vec<Head> {
    let (server, _client) = connection(data);
    let mut wire = Wire::new(&server, None);
    let mut heads = Vec::new();
    while let Ok(head) = wire.read_head(limits::HEAD_TIME) {
        let is_kept = Body::new(&mut wire, head.framing, head.expects_continue).is_drained() && head.is_kept;
        heads.push(head);
        if !is_kept {
            break;
        }
    }
    heads
}

/// Real tiny_http behind real connections to it, and what it has read.
struct Behind {
    inner: Inner,
    seen: mpsc::Receiver<Seen>,
}

/// Method, target, headers, and the length of a body.
type Seen = (String, String, Vec<(String, String)>, Option<usize>);

static BEHIND: LazyLock<Mutex<Behind>> = LazyLock::new(|| {
    let socket = std::env::temp_dir().join(format!("enjambre-oracle-{}", std::process::id()));
    let listener = UnixListener::bind(&socket).expect("a socket");
    let server = Server::from_listener(listener, None).expect("tiny_http serves");
    let (see, seen) = mpsc::channel();
    thread::spawn(move || {
        for request in server.incoming_requests() {
            let headers = request.headers().iter().map(|header| (header.field.to_string(), header.value.to_string()));
            let (method, target) = (request.method().to_string(), request.url().to_owned());
            let _ = see.send((method, target, headers.collect(), request.body_length()));
            let _ = request.respond(Response::from_string("seen"));
        }
    });
    let inner = Inner::connect(socket.clone()).expect("connections");
    let _ = std::fs::remove_file(socket);
    // The first request on each connection is the door's own.
    for _ in 0..limits::INNER_CONNECTIONS {
        seen.recv_timeout(Duration::from_secs(10)).expect("they were answered");
    }
    Mutex::new(Behind { inner, seen })
});

fn through_tiny_http(head: &Head, request: &Request) {
    let Behind { inner, seen } = &*BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = inner.ask(head, 7).expect("tiny_http answers");
    assert_eq!((answer.status, answer.length), (200, 4));
    let exchange = (EXCHANGE.to_owned(), "7".to_owned());
    // Several lines joined, of which the last is empty, end in a blank that is none of the value.
    let trimmed = |(name, value): &(String, String)| (name.clone(), value.trim_end().to_owned());
    let headers = [exchange].into_iter().chain(request.headers.iter().map(trimmed)).collect();
    // No body enters, whatever the client sent.
    let expected = (request.method.clone(), request.target.clone(), headers, None);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [expected]);
}

// ---- the model: RFC 9112, read strictly, on all the bytes at once -----------------------------------

fn model(mut bytes: &[u8]) -> (Vec<Request>, End) {
    let mut requests = Vec::new();
    loop {
        let window = &bytes[..bytes.len().min(limits::HEAD_BYTES)];
        let blank = window.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
        let Some(length) = window[blank..].windows(4).position(|four| four == b"\r\n\r\n") else {
            return (requests, if window.len() == limits::HEAD_BYTES { End::Refused } else { End::Over });
        };
        let Some((request, framing)) = model_head(&window[blank..blank + length]) else {
            return (requests, End::Refused);
        };
        bytes = &bytes[blank + length + 4..];
        let body = match framing {
            Framing::Length(length) => {
                usize::try_from(length).ok().and_then(|length| bytes.split_off(..length)).map(<[u8]>::to_vec)
            }
            Framing::Chunked => dechunked(&mut bytes),
        };
        let is_last = !request.is_kept || body.is_none();
        requests.push(Request { body, ..request });
        if is_last {
            return (requests, End::Closed);
        }
    }
}

/// A head without its empty line; none where it must be refused.
fn model_head(head: &[u8]) -> Option<(Request, Framing)> {
    let lines = lines(head)?;
    let (line, fields) = lines.split_first()?;
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let is_11 = version == b"HTTP/1.1";
    if !is_token(method) || !(is_11 || version == b"HTTP/1.0") || !target.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let target = str::from_utf8(target).ok()?;
    if fields.len() > limits::HEAD_LINES || target.contains('#') {
        return None;
    }
    let target = match target.strip_prefix('/') {
        Some(_) => target.to_owned(),
        // The absolute form.
        None => {
            let (scheme, rest) = target.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http"))?;
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let path = &rest[authority.len()..];
            if authority.is_empty() || scheme.is_empty() || path.starts_with('?') {
                return None;
            }
            if path.is_empty() { "/".to_owned() } else { path.to_owned() }
        }
    };

    let mut headers: Vec<(String, &[u8])> = Vec::new();
    for field in fields {
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        let is_value = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if !is_token(name) || !field[colon + 1..].iter().all(is_value) {
            return None;
        }
        headers.push((str::from_utf8(name).ok()?.to_ascii_lowercase(), value));
    }
    // All values of a name; none where one of them is not ASCII.
    let values = |name: &str| -> Option<Vec<&str>> {
        let named = headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| str::from_utf8(value).ok().filter(|value| value.is_ascii())).collect()
    };
    if values("Host")?.len() > 1 || (is_11 && values("Host")?.is_empty()) {
        return None;
    }
    let framing = match (values("Transfer-Encoding")?[..].as_ref(), values("Content-Length")?[..].as_ref()) {
        ([], []) => Framing::Length(0),
        ([coding], []) if is_11 && coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.trim_start_matches('0');
            let length = if length.is_empty() { 0 } else { length.parse().ok()? };
            Framing::Length(Some(length).filter(|length| *length <= limits::UPLOAD_BYTES)?)
        }
        _ => return None,
    };
    if !matches!(values("Expect")?[..], [] | [_])
        || values("Expect")?.iter().any(|what| !what.eq_ignore_ascii_case("100-continue"))
    {
        return None;
    }
    let options = values("Connection")?.join(",").to_ascii_lowercase();
    let mut forwarded = Vec::new();
    for name in FORWARDED {
        let values = values(name)?;
        if !values.is_empty() {
            forwarded.push((name.to_owned(), values.join(", ")));
        }
    }
    let request = Request {
        method: str::from_utf8(method).ok()?.to_owned(),
        target,
        headers: forwarded,
        body: None,
        is_kept: is_11 && options.split(',').all(|option| option.trim_ascii() != "close"),
    };
    Some((request, framing))
}

/// Lines that end with CR LF, and hold no other CR, LF or NUL.
fn lines(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines.iter().all(|line| !line.iter().any(|byte| b"\r\n\0".contains(byte))).then_some(lines)
}

fn is_token(bytes: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_char)
}

/// Takes a chunked body off the front (RFC 9112 section 7.1); none where it is broken.
fn dechunked(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let line = |bytes: &mut &[u8], most: usize| -> Option<Vec<u8>> {
        let at = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = bytes.split_off(..at + 1)?.strip_suffix(b"\r\n")?;
        (line.len() <= most && !line.contains(&b'\r')).then(|| line.to_vec())
    };
    let mut body = Vec::new();
    loop {
        let size = line(bytes, limits::CHUNK_LINE_BYTES)?;
        let (size, extension) = size.split_at(size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count());
        // Blanks belong before a semicolon only.
        let is_extension = extension.trim_ascii_start().starts_with(b";");
        if size.is_empty()
            || !(extension.is_empty() || is_extension)
            || extension.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127))
        {
            return None;
        }
        let size = str::from_utf8(size).ok()?.trim_start_matches('0');
        let size = if size.is_empty() { 0 } else { usize::from_str_radix(size, 16).ok()? };
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.split_off(..size)?);
        if !line(bytes, 0)?.is_empty() {
            return None;
        }
    }
    let mut room = limits::CHUNK_LINE_BYTES;
    loop {
        let trailer = line(bytes, room)?;
        if trailer.is_empty() {
            return Some(body);
        }
        room = room.saturating_sub(trailer.len() + 2);
    }
}
