//! Browsers as a way in: a page of somebody else, open on a machine that reaches a peer, reads nothing and changes nothing.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use support::*;

/// Nobody listens there; a peer serves all the same.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

struct Target {
    peer: Process,
    folder: Folder,
}

impl Target {
    fn new(args: &[&str]) -> Self {
        let folder = Folder::new();
        folder.write("a.txt", "hello");
        let target = Self { peer: peer("p", folder.path(), NO_TRACKER, args), folder };
        wait_for(PATIENCE, "a.txt is shared", || get(target.peer.address, "/files/a.txt").status == 200);
        target
    }

    /// The answer to a request with these header lines and a body of five bytes, if it may have one.
    #[track_caller]
    fn answer(&self, line: &str, headers: &str) -> Response {
        let body = if line.starts_with("GET") { "\r\n" } else { "Content-Length: 5\r\n\r\nhello" };
        let mut connection = Connection::open(self.peer.address);
        connection.send(format!("{line} HTTP/1.1\r\n{headers}{body}")).unwrap();
        connection.answer().unwrap_or_else(|error| panic!("{line} {headers}: {error}"))
    }

    fn host(&self) -> String {
        format!("Host: {}\r\n", self.peer.address)
    }
}

/// What changes something, or would.
const CHANGES: [&str; 7] = [
    "PUT /files/x",
    "POST /upload",
    "POST /api/get",
    "DELETE /api/downloads/1",
    "DELETE /files/a.txt",
    "OPTIONS /files/x",
    "BREW /",
];
const READS: [&str; 8] = [
    "GET /",
    "GET /files",
    "GET /files/a.txt",
    "GET /api/status",
    "GET /api/search?text=a",
    "GET /readyz",
    "GET /healthz",
    "GET /nothing",
];

// ---- rebinding -----------------------------------------------------------------------------------

#[test]
fn a_name_that_was_rebound_to_this_peer_leads_nowhere() {
    let target = Target::new(&[]);
    let content = format!("GET /content/{}", blake3::hash(b"hello"));
    for host in [
        "evil.example",
        "evil.example:5000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "localhost..",
        "",
        ":80",
        "me@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1:80:80",
        "127.0.0.1:port",
        "127.0.0.1, evil.example",
        "[::1",
        "::1",
        "[::1]evil.example",
        "[evil.example]",
        "127.1",
        "2130706433",
        "0x7f000001",
    ] {
        for line in READS.iter().chain(&CHANGES).chain([&content.as_str()]) {
            let answer = target.answer(line, &format!("Host: {host}\r\n"));
            assert_eq!(answer.status, 421, "{line} at {host:?}");
            assert!(answer.text().contains("--allow-host"), "{}", answer.text());
        }
    }
    // The name in the request line is the one that counts (RFC 9112 section 3.2.2).
    for (line, status) in [
        ("GET http://evil.example/files/a.txt", 421),
        ("GET http://evil.example@127.0.0.1/files/a.txt", 421),
        ("GET http://localhost/files/a.txt", 200),
    ] {
        assert_eq!(target.answer(line, &target.host()).status, status, "{line}");
    }
    assert_eq!(target.answer("GET http://localhost/", "Host: evil.example\r\n").status, 200);
    assert_eq!(target.folder.read("x"), None);
}

#[test]
fn a_peer_goes_by_its_addresses_localhost_its_advertised_name_and_those_it_is_given() {
    let target = Target::new(&[
        "--advertise",
        "files.example",
        "--allow-host",
        "a.internal",
        "--allow-host=B.internal,c.internal",
    ]);
    for host in [
        "127.0.0.1",
        "127.0.0.1:1",
        "10.9.8.7",
        "[::1]",
        "[2001:db8::1]:5000",
        "localhost",
        "LOCALHOST:5000",
        "localhost.",
        "files.example",
        "Files.Example:5000",
        "a.internal",
        "b.internal",
        "c.internal.",
    ] {
        assert_eq!(target.answer("GET /files/a.txt", &format!("Host: {host}\r\n")).text(), "hello", "{host}");
    }
    for host in ["example", "files.example.org", "x.files.example", "a.internal,B.internal", "d.internal"] {
        assert_eq!(target.answer("GET /files/a.txt", &format!("Host: {host}\r\n")).status, 421, "{host}");
    }
    // No browser speaks HTTP/1.0, which has no Host.
    let mut connection = Connection::open(target.peer.address);
    connection.send("GET /files/a.txt HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(connection.answer().unwrap().text(), "hello");

    let folder = Folder::new();
    let mut command = peer_command(["p", "0"]);
    command.arg(folder.path()).args(["--bind", "127.0.0.1"]).env("ENJAMBRE_ALLOW_HOST", "a.internal,b.internal");
    let mut peer = Process::spawn("p", command);
    peer.address = peer.serving();
    for host in ["a.internal", "b.internal"] {
        let mut connection = Connection::open(peer.address);
        connection.send(format!("GET /files HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(connection.answer().unwrap().status, 200);
    }
    let bad = run(peer_command(["p", "0", "/tmp", "--allow-host", "a.internal:80"]), "");
    assert!(bad.code == Some(2) && bad.err.contains("a.internal:80"), "{}", bad.err);
}

// ---- requests of other sites' pages -----------------------------------------------------------------

#[test]
fn a_page_of_another_site_changes_nothing() {
    let target = Target::new(&[]);
    let (address, port) = (target.peer.address, target.peer.address.port());
    for signs in [
        "Origin: http://evil.example".to_owned(),
        "Origin: null".into(),
        "Origin:".into(),
        "Origin: http://127.0.0.1".into(),
        format!("Origin: http://127.0.0.1:{}", port ^ 1),
        format!("Origin: http://localhost:{port}"),
        format!("Origin: http://{address}.evil.example"),
        format!("Origin: http://evil.example/{address}"),
        format!("Origin: http://evil.example@{address}"),
        format!("Origin: ftp://{address}"),
        format!("Origin: {address}"),
        format!("Origin: http://{address}\r\nOrigin: http://evil.example"),
        format!("Origin: http://{address}\r\nSec-Fetch-Site: cross-site"),
        "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin".into(),
        "Sec-Fetch-Site: cross-site".into(),
        "Sec-Fetch-Site: same-site".into(),
        "Sec-Fetch-Site: none".into(),
        "Sec-Fetch-Site: something-new".into(),
        "Sec-Fetch-Site:".into(),
    ] {
        for line in CHANGES {
            let form = "Content-Type: multipart/form-data; boundary=B\r\n";
            let answer = target.answer(line, &format!("{}{form}{signs}\r\n", target.host()));
            assert_eq!(answer.status, 403, "{line} with {signs}");
            assert!(answer.text().contains("curl"), "{}", answer.text());
            assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{answer:?}");
        }
        // Its own browser keeps the answer from it.
        let answer = target.answer("GET /files/a.txt", &format!("{}{signs}\r\n", target.host()));
        assert_eq!(answer.text(), "hello", "{signs}");
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{answer:?}");
    }
    assert_eq!(target.folder.read("x"), None);
    // Nor is it asked for its body.
    let mut connection = Connection::open(address);
    let head = format!("PUT /files/x HTTP/1.1\r\n{}Origin: http://evil.example\r\n", target.host());
    connection.send(format!("{head}Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")).unwrap();
    assert_eq!(connection.head().unwrap().status, 403);
}

#[test]
fn the_peers_own_page_and_programs_send_files() {
    let target = Target::new(&["--allow-host", "files.example"]);
    let address = target.peer.address;
    let own = target.host();
    for (number, headers) in [
        own.clone(),
        format!("{own}Origin: http://{address}\r\n"),
        format!("{own}Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n"),
        format!("{own}Sec-Fetch-Site: same-origin\r\n"),
        "Host: Files.Example\r\nOrigin: http://files.example\r\n".into(),
        // A proxy in front may speak TLS.
        "Host: files.example\r\nOrigin: https://files.example\r\n".into(),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(target.answer(&format!("PUT /files/{number}"), headers).status, 201, "{headers}");
        assert_eq!(target.folder.read(number.to_string()).unwrap(), b"hello");
    }
    let file = target.folder.path().join("a.txt");
    let url = format!("http://{address}/upload");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", "%{http_code}", "-F", &format!("file=@{};filename=curl.txt", file.display()), &url]);
    let done = run(curl, "");
    assert!(done.out.ends_with("201\n"), "{done:?}");
}

#[test]
fn a_browser_that_knows_the_secret_does_not_lend_it_to_other_pages() {
    const SECRET: &str = "0123456789abcdef";
    let secret = Folder::new();
    let path = secret.write("secret", SECRET).display().to_string();
    let folder = Folder::new();
    let peer = peer("p", folder.path(), NO_TRACKER, &["--secret-file", &path]);
    let known = ("Authorization", format!("Basic {}", base64(format!(":{SECRET}").as_bytes())));
    let known = (known.0, known.1.as_str());
    let put = |more: (&str, &str)| request(peer.address, "PUT", "/files/x", &[known, more], b"x").status;
    assert_eq!(put(("Origin", "http://evil.example")), 403);
    assert_eq!(put(("Sec-Fetch-Site", "cross-site")), 403);
    let mut connection = Connection::open(peer.address);
    connection.send(format!("GET /files HTTP/1.1\r\nHost: evil.example\r\n{}: {}\r\n\r\n", known.0, known.1)).unwrap();
    assert_eq!(connection.answer().unwrap().status, 421);
    assert_eq!(put(("X", "y")), 201);
}

// ---- what a browser makes of an answer ------------------------------------------------------------------

#[test]
fn nothing_that_is_shared_runs_in_a_browser() {
    let target = Target::new(&[]);
    let script = "<script>alert(1)</script>";
    let names =
        ["x.html", "x.svg", "x.xhtml", "x.xml", "x.js", "x.mjs", "x.css", "x.pdf", "x.swf", "x.htm", "x", "x.PNG.html"];
    for name in names {
        target.folder.write(name, script);
    }
    let shown = [
        ("x.txt", "text/plain; charset=utf-8"),
        ("x.md", "text/plain; charset=utf-8"),
        ("x.json", "text/plain; charset=utf-8"),
        ("x.png", "image/png"),
        ("x.JPG", "image/jpeg"),
        ("x.gif", "image/gif"),
        ("x.webp", "image/webp"),
    ];
    for (name, _) in shown {
        target.folder.write(name, script);
    }
    let address = target.peer.address;
    for name in names {
        wait_for(PATIENCE, name, || get(address, &format!("/files/{name}")).status == 200);
        let answer = get(address, &format!("/files/{name}"));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"), "{name}");
        assert!(answer.header("content-disposition").unwrap().starts_with("attachment;"), "{name}");
    }
    for (name, media_type) in shown {
        wait_for(PATIENCE, name, || get(address, &format!("/files/{name}")).status == 200);
        let answer = get(address, &format!("/files/{name}"));
        assert_eq!(answer.header("content-type"), Some(media_type), "{name}");
        assert!(answer.header("content-disposition").unwrap().starts_with("inline;"), "{name}");
    }
    let by_id = format!("/content/{}", blake3::hash(script.as_bytes()));
    assert_eq!(get(address, &by_id).header("content-disposition"), Some("attachment"));
    // None of it may do more than be there, whatever a browser takes it for.
    let files = names.iter().chain(shown.iter().map(|(name, _)| name)).map(|name| format!("/files/{name}"));
    for file in files {
        let answer = get(address, &file);
        assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'; sandbox"), "{file}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{file}");
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            Some("same-origin"),
            "{file}: in no other site's page"
        );
    }
}

#[test]
fn listings_are_escaped_and_allow_nothing_to_run() {
    let target = Target::new(&[]);
    let name = "<img src=x onerror=alert(1)>\"'&.txt";
    target.folder.write(name, "x");
    let address = target.peer.address;
    wait_for(PATIENCE, "the odd name is listed", || get(address, "/files").text().contains("onerror"));
    let page = get(address, "/");
    assert!(!page.text().contains("onerror"), "{}", page.text());
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|given| given == rule), "{policy}");
    }
    // Only what carries this answer's own number runs, and no handler in an attribute.
    let (_, nonce) = policy.split_once("script-src 'nonce-").unwrap();
    let nonce = &nonce[..nonce.find('\'').unwrap()];
    assert!(nonce.len() == 32 && page.text().matches(&format!("<script nonce=\"{nonce}\"")).count() == 1, "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_ne!(get(address, "/").header("content-security-policy"), Some(policy));
    let json = get(address, "/files");
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert!(json.header("content-security-policy").unwrap().contains("default-src 'none'"));
    for (line, host) in
        [("GET /files", ""), ("GET /<script>", ""), ("GET /files?after=<script>", ""), ("GET /", "<script>")]
    {
        let headers = if host.is_empty() { target.host() } else { format!("Host: {host}\r\n") };
        let answer = target.answer(line, &headers);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{line}");
        assert!(answer.header("content-type").unwrap().starts_with("application/"), "{line}: {answer:?}");
    }
}
