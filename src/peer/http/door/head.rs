//! The head of a request: parsed strictly, or refused. Pure.
//!
//! What passes here is written anew for tiny_http from these fields, so a request that two readers
//! could read in two ways must not pass (RFC 9112 sections 3, 5 and 6).

use std::ops::ControlFlow;

use super::guard::Sender;
use crate::{limits, peer::http::answer::Answer};

/// A request's head.
pub(super) struct Head {
    pub(super) method: String,
    /// Path and query, in printable ASCII.
    pub(super) target: String,
    /// Those of [`FORWARDED`] that came, in their order there; several of one name joined by commas.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) framing: Framing,
    /// The client keeps the connection.
    pub(super) is_kept: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) sender: Sender,
}

/// How the body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length; zero where there is no body.
    Length(u64),
    Chunked,
}

/// The headers that the routes read; all others end here.
pub(super) const FORWARDED: [&str; 7] =
    ["Host", "Content-Type", "Content-Range", "If-Match", "If-None-Match", "If-Range", "Range"];

/// Where the first head in `bytes` ends, its empty line included.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    // Empty lines before a request are ignored (RFC 9112 section 2.2).
    let start = bytes.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    bytes[start..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| start + at + 4)
}

/// Parses a head that [`end`] has delimited.
///
/// # Errors
/// The answer for the client; after it the connection must be closed, since nobody knows where the
/// next request would begin.
pub(super) fn parse(bytes: &[u8]) -> Result<Head, Answer> {
    let refuse = |status, detail| Err(Answer::problem(status, detail));
    let mut before = 0;
    let is_strict = bytes.iter().try_for_each(|&byte| {
        let is_bare = (byte == b'\n') != (before == b'\r');
        before = byte;
        if is_bare || byte == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if is_strict.is_break() {
        return refuse(400, "Lines of a request end with CR and LF, and hold no other CR, LF or NUL.");
    }

    let mut lines = [httparse::EMPTY_HEADER; limits::HEAD_LINES];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "A request has at most 64 header lines."),
        Err(httparse::Error::Version) => return refuse(505, "This server speaks HTTP/1.1 and HTTP/1.0."),
        Ok(httparse::Status::Partial) | Err(_) => return refuse(400, "This is no HTTP request."),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return refuse(400, "This is no HTTP request.");
    };

    let field = |name: &str| -> Result<Option<String>, Answer> {
        let mut joined: Option<String> = None;
        for line in request.headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name)) {
            let value = str::from_utf8(line.value).ok().filter(|value| value.is_ascii());
            let Some(value) = value else {
                return Err(Answer::problem(400, &format!("The header {name} holds other than ASCII.")));
            };
            match &mut joined {
                Some(joined) => {
                    joined.push_str(", ");
                    joined.push_str(value);
                }
                None => joined = Some(value.to_owned()),
            }
        }
        Ok(joined)
    };

    let hosts = request.headers.iter().filter(|line| line.name.eq_ignore_ascii_case("Host")).count();
    if hosts > 1 || (version == 1 && hosts == 0) {
        return refuse(400, "An HTTP/1.1 request has exactly one Host header.");
    }
    let is_chunked = match field("Transfer-Encoding")? {
        None => false,
        Some(coding) if version == 1 && coding.eq_ignore_ascii_case("chunked") => true,
        Some(_) if version == 0 => return refuse(400, "An HTTP/1.0 request has no Transfer-Encoding."),
        Some(_) => return refuse(501, "The only Transfer-Encoding taken here is chunked."),
    };
    let framing = match field("Content-Length")? {
        Some(_) if is_chunked => return refuse(400, "A request has Content-Length or Transfer-Encoding, not both."),
        Some(length) if !is_decimal(&length) => return refuse(400, "Content-Length is one decimal number."),
        // Only too many digits make this fail.
        Some(length) => match length.parse() {
            Ok(length) if length <= limits::UPLOAD_BYTES => Framing::Length(length),
            _ => return refuse(413, "An upload is at most 1 TiB."),
        },
        None if is_chunked => Framing::Chunked,
        None => Framing::Length(0),
    };
    let expects_continue = match field("Expect")? {
        None => false,
        Some(expectation) if expectation.eq_ignore_ascii_case("100-continue") => version == 1,
        Some(_) => return refuse(417, "The only expectation met here is 100-continue."),
    };
    let connection = field("Connection")?.unwrap_or_default();
    let is_closed = connection.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
    // A fragment never comes (RFC 9110 section 7.1): some would cut it off, and others not.
    let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let Some((authority, target)) = parts(target).filter(|_| is_plain) else {
        return refuse(400, "A request's target is a path that begins with a slash, and holds no #.");
    };

    let mut headers = Vec::new();
    for name in FORWARDED {
        headers.extend(field(name)?.map(|value| (name, value)));
    }
    Ok(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        framing,
        is_kept: version == 1 && !is_closed,
        expects_continue,
        sender: Sender {
            host: authority.map(str::to_owned).or(field("Host")?),
            authorization: field("Authorization")?,
            origin: field("Origin")?,
            fetch_site: field("Sec-Fetch-Site")?,
        },
    })
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A target as authority, and path and query; the absolute form must be taken too, and its authority then
/// counts and not `Host` (RFC 9112 section 3.2.2).
fn parts(target: &str) -> Option<(Option<&str>, &str)> {
    if target.starts_with('/') {
        return Some((None, target));
    }
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    // With a query and no path, a slash behind the question mark is none of a path's.
    (!authority.is_empty() && !authority.contains('?')).then_some((Some(authority), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Result<Head, u16> {
        let text = format!("GET /x HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        parse(text.as_bytes()).map_err(|answer| answer.status)
    }

    #[test]
    fn a_body_is_framed_in_one_way_or_refused() {
        for (lines, framing) in [
            ("", Ok(Framing::Length(0))),
            ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
            ("content-length:17\r\n", Ok(Framing::Length(17))),
            ("Content-Length: 1099511627776\r\n", Ok(Framing::Length(1 << 40))),
            ("Content-Length: 1099511627777\r\n", Err(413)),
            ("Content-Length: 70368744177664\r\n", Err(413)),
            ("Content-Length: 18446744073709551615\r\n", Err(413)),
            ("Content-Length: 99999999999999999999999\r\n", Err(413)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: -5\r\n", Err(400)),
            ("Content-Length: 0x5\r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length: 5 5\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(501)),
            ("Transfer-Encoding: identity\r\n", Err(501)),
            ("Transfer-Encoding: xchunked\r\n", Err(501)),
            ("Transfer-Encoding : chunked\r\n", Err(400)),
            ("Transfer-Encoding:\u{b}chunked\r\n", Err(400)),
            ("X: a\r\n b\r\n", Err(400)),
            ("X: a\nContent-Length: 5\r\n", Err(400)),
            ("X: a\rb\r\n", Err(400)),
            ("X: a\0b\r\n", Err(400)),
            ("Host: i\r\n", Err(400)),
            ("Expect: 100-continue\r\n", Ok(Framing::Length(0))),
            ("Expect: 200-ok\r\n", Err(417)),
        ] {
            assert_eq!(head(lines).map(|head| head.framing), framing, "{lines:?}");
        }
    }

    #[test]
    fn a_request_line_is_one_that_anybody_reads_alike() {
        for (line, target) in [
            ("GET / HTTP/1.1", Ok("/")),
            ("GET /a%20b?c HTTP/1.1", Ok("/a%20b?c")),
            ("GET http://h/a HTTP/1.1", Ok("/a")),
            ("GET HTTP://h HTTP/1.1", Ok("/")),
            ("GET https://h/a HTTP/1.1", Ok("/a")),
            ("GET ftp://h/a HTTP/1.1", Err(400)),
            ("GET http://h?a/files/b HTTP/1.1", Err(400)),
            ("GET http:///a HTTP/1.1", Err(400)),
            ("GET /a#b HTTP/1.1", Err(400)),
            ("OPTIONS * HTTP/1.1", Err(400)),
            ("GET x HTTP/1.1", Err(400)),
            ("GET /\u{e9} HTTP/1.1", Err(400)),
            ("GET /a b HTTP/1.1", Err(505)),
            ("GET  / HTTP/1.1", Err(400)),
            ("GET / HTTP/1.2", Err(505)),
            ("GET / HTTP/2.0", Err(505)),
            ("GET / HTTP/0.9", Err(505)),
            ("GET /", Err(400)),
            ("G(T / HTTP/1.1", Err(400)),
        ] {
            let text = format!("{line}\r\nHost: h\r\n\r\n");
            let parsed = parse(text.as_bytes()).map(|head| head.target).map_err(|answer| answer.status);
            assert_eq!(parsed, target.map(str::to_owned), "{line}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n").err().map(|answer| answer.status), Some(400), "no Host");
        assert!(!parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_kept);
    }

    #[test]
    fn only_named_headers_pass_and_none_of_the_doors_own() {
        let head = head("Enjambre-Exchange: 7\r\nrange: bytes=0-1\r\nX: y\r\nRANGE: bytes=2-3\r\n").unwrap();
        assert_eq!(head.headers, [("Host", "h".to_owned()), ("Range", "bytes=0-1, bytes=2-3".to_owned())]);
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r\nbody\r\n\r\n"), Some(18));
        assert_eq!(end(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(22));
        assert_eq!(end(b"\r\n\r\n"), None);
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r"), None);
        let crowd = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(100));
        assert_eq!(parse(crowd.as_bytes()).err().map(|answer| answer.status), Some(431));
    }
}
