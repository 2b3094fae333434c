//! Heads and framing that are no client's mistake.

use super::victim::*;

fn put(lines: &str) -> String {
    format!("PUT /files/x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

pub(super) fn bombs(victim: &Victim) {
    let before = victim.memory();
    let long = "y".repeat(1000);
    // The peer may well read on for a moment, so that its answer arrives; it must not keep anything.
    for head in [
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}", format!("X: {long}\r\n").repeat(64_000)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(1000)),
        format!("GET / HTTP/1.1\r\n{}: y\r\n", long.repeat(20)),
        format!("GET /{} HTTP/1.1\r\n", long.repeat(70)),
        format!("{} / HTTP/1.1\r\n", long.repeat(70)),
        format!("X{}", "\r\n".repeat(20_000)),
        long.repeat(70),
    ] {
        let answer = victim.send(&head);
        let is_refused = ["431", "400"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(answer.is_empty() || is_refused, "{answer}");
    }
    assert!(victim.memory() < before + 4096, "{} KiB became {} KiB", before, victim.memory());
}

pub(super) fn lengths(victim: &Victim) {
    let before = victim.memory();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "BREW"] {
        for (length, status) in [
            ("70368744177664", 413),
            ("18446744073709551615", 413),
            ("18446744073709551616", 413),
            ("99999999999999999999999", 413),
            ("-1", 400),
            ("-9223372036854775808", 400),
            ("1e3", 400),
        ] {
            let answer =
                victim.send(format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {length}: {answer}");
        }
        // This one is allowed; nothing is put aside for it.
        let mut connection = victim.connect();
        let head = format!("{method} /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n");
        connection.send(head).expect("a request");
        assert!(connection.head().expect("an answer").status >= 400);
    }
    assert!(victim.memory() < before + 4096, "{} KiB became {} KiB", before, victim.memory());
}

/// Each could be read in two ways, one of which has a second request in the body.
pub(super) fn pairs(victim: &Victim) {
    let smuggled = "GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
    ] {
        let answer = victim.send(put(lines) + "0\r\n\r\n" + smuggled);
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"), "{lines:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{lines:?} let a second request through: {answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
    }
    assert_eq!(victim.folder.read("x"), None);
}

pub(super) fn chunks(victim: &Victim) {
    for body in [
        "+4\r\nbody\r\n0\r\n\r\n",
        "-4\r\nbody\r\n0\r\n\r\n",
        "4 \r\nbody\r\n0\r\n\r\n",
        "4\r\nbodyx\r\n0\r\n\r\n",
        "4\nbody\r\n0\r\n\r\n",
        "zz\r\n",
        "ffffffffffffffffff\r\n",
        "ffffffffffffffff\r\nbody",
    ] {
        let mut connection = victim.connect();
        let _ = connection.send(put("Transfer-Encoding: chunked\r\n") + body);
        // A size that is huge and sound is waited for; what is there is not kept.
        let _ = connection.stream().shutdown(std::net::Shutdown::Write);
        let answer = String::from_utf8_lossy(&connection.rest().unwrap_or_default()).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    }
    assert_eq!(victim.folder.read("x"), None);
}
