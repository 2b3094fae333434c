//! Pages of other sites, open in a browser that reaches the peer.

use super::{
    Victim,
    support::{Connection, try_request},
};

/// Have the browser send something.
pub(super) fn forged(victim: &Victim) {
    let own = format!("http://{}", victim.peer.address);
    let others = ["https://evil.example", "null", "http://127.0.0.1:1", "file://"];
    for (method, target) in
        [("PUT", "/files/forged"), ("POST", "/upload"), ("POST", "/api/get"), ("DELETE", "/api/downloads/0")]
    {
        let mut marks: Vec<_> = others.map(|origin| vec![("Origin", origin)]).into();
        marks.push(vec![("Sec-Fetch-Site", "cross-site")]);
        marks.push(vec![("Sec-Fetch-Site", "same-site")]);
        marks.push(vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "cross-site")]);
        for mark in marks {
            let headers = [mark.as_slice(), &[("Content-Type", "text/plain")]].concat();
            // The answer may be lost where the connection is closed on a body that nobody reads.
            let answer = try_request(victim.peer.address, method, target, &headers, b"hello").ok();
            assert!(answer.is_none_or(|answer| answer.status == 403), "{method} {target} {mark:?}");
        }
    }
    assert!(victim.folder.read("forged").is_none());
}

/// Ask under a name of their own that they have bound to the peer's address.
pub(super) fn rebound(victim: &Victim) {
    for host in ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example", "peer"] {
        for line in ["GET /files", "GET /", "GET /api/status", "PUT /files/rebound"] {
            let body = if line.starts_with("GET") { "\r\n" } else { "Content-Length: 5\r\n\r\nhello" };
            let mut connection = Connection::open(victim.peer.address);
            connection.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{body}")).expect("it is read");
            assert_eq!(connection.answer().expect("an answer").status, 421, "{line} as {host}");
        }
    }
    assert!(victim.folder.read("rebound").is_none());
}
