//! The HTTP routes as a client sees them: ranges and conditions, uploads by curl's two ways, names.

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Instant,
};

use enjambre::limits;
use support::*;

const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A peer with a folder, and no tracker.
fn serving(files: &[(&str, &[u8])]) -> (Process, Folder) {
    let folder = Folder::new();
    for (name, bytes) in files {
        folder.write(name, bytes);
    }
    let peer = peer("server", folder.path(), NO_TRACKER, &[]);
    wait_for(PATIENCE, "the files are shared", || listed(peer.address).len() == files.len());
    (peer, folder)
}

/// Path, size and content id of all that a peer shares.
fn listed(address: SocketAddr) -> Vec<(String, u64, String)> {
    let list: serde_json::Value = serde_json::from_slice(&get(address, "/files").body).expect("JSON");
    let files = list["files"].as_array().expect("an array");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    files
        .iter()
        .map(|file| (text(&file["path"]), file["size"].as_u64().expect("a size"), text(&file["content"])))
        .collect()
}

fn id_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

#[test]
fn ranges_and_conditions_are_answered_as_rfc_9110_has_it() {
    let body = noise(1, 100_000);
    let (peer, _folder) = serving(&[("f.bin", &body), ("empty", b"")]);
    let id = id_of(&body);
    let etag = format!("\"{id}\"");
    let whole = 0..body.len();
    for (headers, status, range) in [
        (vec![], 200, whole.clone()),
        (vec![("Range", "bytes=0-0")], 206, 0..1),
        (vec![("Range", "bytes=0-")], 206, whole.clone()),
        (vec![("Range", "bytes=99999-")], 206, 99_999..100_000),
        (vec![("Range", "bytes=5-70000")], 206, 5..70_001),
        (vec![("Range", "bytes=65535-131072")], 206, 65_535..100_000),
        (vec![("Range", "bytes=-1")], 206, 99_999..100_000),
        (vec![("Range", "bytes=-200000")], 206, whole.clone()),
        (vec![("Range", "bytes=100000-")], 416, 0..0),
        (vec![("Range", "bytes=-0")], 416, 0..0),
        (vec![("Range", "bytes=0-1,5-6")], 200, whole.clone()),
        (vec![("Range", "bytes=6-5")], 200, whole.clone()),
        (vec![("Range", "pages=1-2")], 200, whole.clone()),
        (vec![("Range", "bytes=1-2"), ("If-Range", &etag)], 206, 1..3),
        (vec![("Range", "bytes=1-2"), ("If-Range", "\"other\"")], 200, whole.clone()),
        (vec![("Range", "bytes=1-2"), ("If-Range", "Wed, 21 Oct 2015 07:28:00 GMT")], 200, whole.clone()),
        (vec![("If-None-Match", &etag)], 304, 0..0),
        (vec![("If-None-Match", "*")], 304, 0..0),
        (vec![("If-None-Match", "\"other\"")], 200, whole.clone()),
        (vec![("If-Match", &etag)], 200, whole.clone()),
        (vec![("If-Match", "\"other\"")], 412, 0..0),
        (vec![("If-Match", &etag), ("Range", "bytes=3-3")], 206, 3..4),
    ] {
        for target in ["/files/f.bin".to_owned(), format!("/content/{id}")] {
            let answer = request(peer.address, "GET", &target, &headers, b"");
            assert_eq!(answer.status, status, "{target} {headers:?}");
            match status {
                200 | 206 => {
                    assert!(answer.body == body[range.clone()], "{target} {headers:?}: other bytes");
                    assert_eq!(answer.header("etag"), Some(etag.as_str()));
                    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
                    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
                    let length = range.len().to_string();
                    assert_eq!(answer.header("content-length"), Some(length.as_str()));
                }
                304 => assert_eq!((answer.header("etag"), answer.body.len()), (Some(etag.as_str()), 0)),
                416 => assert_eq!(answer.header("content-range"), Some("bytes */100000")),
                _ => assert_eq!(answer.header("content-type"), Some("application/problem+json")),
            }
            let told = format!("bytes {}-{}/100000", range.start, range.end.saturating_sub(1));
            assert_eq!(answer.header("content-range") == Some(told.as_str()), status == 206, "{target} {headers:?}");
        }
    }
    for target in ["/files/f.bin", "/files/empty"] {
        let head = request(peer.address, "HEAD", target, &[("Range", "bytes=0-0")], b"");
        let length = if target == "/files/empty" { "0" } else { "100000" };
        assert_eq!((head.status, head.header("content-length")), (200, Some(length)), "{target}");
    }
    assert_eq!(get(peer.address, "/files/empty").status, 200);
    assert_eq!(request(peer.address, "GET", "/files/empty", &[("Range", "bytes=0-")], b"").status, 416);
}

#[test]
fn kept_connections_carry_one_request_after_the_other() {
    let body = noise(2, 300_000);
    let (peer, _folder) = serving(&[("f.bin", &body)]);
    let mut connection = Connection::open(peer.address);
    for start in [0, 1, 65_535, 65_536, 250_000, 299_999] {
        connection
            .send(format!("GET /files/f.bin HTTP/1.1\r\nHost: localhost\r\nRange: bytes={start}-\r\n\r\n"))
            .unwrap();
        let answer = connection.answer().unwrap();
        assert!(answer.status == 206 && answer.body == body[start..], "{start}");
    }
    // Two requests in one packet, the second with a body.
    connection
        .send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nPUT /files/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nnewGET /files/new HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let answers: Vec<_> = (0..3).map(|_| connection.answer().unwrap()).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 201, 200]);
    assert_eq!(answers[2].body, b"new");
}

#[test]
fn both_of_curls_ways_to_upload_are_taken_and_told() {
    let (peer, folder) = serving(&[]);
    let outside = Folder::new();
    let bytes = noise(3, 3_000_000);
    let names =
        ["notes.txt", "with space.bin", "100%.bin", "a#b?.bin", "it's \"quoted\".bin", "é e\u{301} 🐝.bin", "empty"];
    for (number, name) in names.into_iter().enumerate() {
        let bytes = if name == "empty" { &[][..] } else { &bytes[number..] };
        let file = outside.write(name, bytes);
        let url = format!("http://{}/files/", peer.address);
        let expected = (name.to_owned(), bytes.len() as u64, id_of(bytes));
        for (what, status, conflict) in [("new", "201", false), ("again", "200", false), ("other", "409", true)] {
            if conflict {
                std::fs::write(&file, b"something else").unwrap();
            }
            let mut curl = Command::new("curl");
            curl.args(["-s", "-w", "\n%{http_code}", "-T"]).arg(&file).arg(&url);
            let done = run(curl, "");
            let (json, code) = done.out.trim_end().rsplit_once('\n').expect("a code");
            assert_eq!(code, status, "{name} {what}: {json}");
            let told: serde_json::Value = serde_json::from_str(json).expect("JSON");
            if !conflict {
                let told = (told["name"].as_str(), told["size"].as_u64(), told["content"].as_str());
                assert_eq!(told, (Some(name), Some(expected.1), Some(expected.2.as_str())));
            }
            assert_eq!(folder.read(name).as_deref(), Some(bytes), "{name} {what}");
        }
        assert!(listed(peer.address).contains(&expected), "{name} is shared at once");
    }
    for (number, name) in
        ["form.txt", "form with space.bin", "form é 🐝.bin", "form \"quoted\".bin"].into_iter().enumerate()
    {
        let bytes = &bytes[100 + number..];
        let file = outside.write(name, bytes);
        for status in ["201", "200"] {
            let mut curl = Command::new("curl");
            let quoted = file.to_str().expect("UTF-8").replace('\\', "\\\\").replace('"', "\\\"");
            curl.args(["-s", "-w", "\n%{http_code}", "-F", &format!("file=@\"{quoted}\"")]);
            curl.arg(format!("http://{}/upload", peer.address));
            let done = run(curl, "");
            let (json, code) = done.out.trim_end().rsplit_once('\n').expect("a code");
            assert_eq!(code, status, "{name}: {json}");
            let told: serde_json::Value = serde_json::from_str(json).expect("JSON");
            assert_eq!(told["files"][0]["name"].as_str(), Some(name));
            assert_eq!(told["files"][0]["content"].as_str(), Some(id_of(bytes).as_str()));
        }
        assert_eq!(folder.read(name).as_deref(), Some(bytes));
    }
}

/// A multipart body with a boundary that occurs in none of the tests' contents.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, content) in parts {
        body.extend_from_slice(format!("--BOUND\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--BOUND--\r\n");
    body
}

const FORM: [(&str, &str); 1] = [("Content-Type", "multipart/form-data; boundary=BOUND")];

#[test]
fn a_form_with_several_files_is_taken_whole_and_conflicts_are_told_apart() {
    let (peer, folder) = serving(&[("taken", b"mine")]);
    // Boundary-like bytes in a content are content.
    let tricky = b"\r\n--BOUN\r\n--BOUNX--\r\r\n-".repeat(5000);
    let body = form(&[("name=\"file\"; filename=\"one\"", b"1"), ("name=\"file\"; filename=\"two\"", &tricky)]);
    let answer = request(peer.address, "POST", "/upload", &FORM, &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!((folder.read("one").unwrap(), folder.read("two").unwrap() == tricky), (b"1".to_vec(), true));

    let body = form(&[("name=\"file\"; filename=\"taken\"", b"other"), ("name=\"file\"; filename=\"three\"", b"3")]);
    let answer = request(peer.address, "POST", "/upload", &FORM, &body);
    let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((answer.status, told["files"][0]["name"].as_str()), (409, Some("three")), "{told}");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("taken")), "{told}");
    assert_eq!(folder.read("taken").as_deref(), Some(&b"mine"[..]));
}

#[test]
fn forms_that_make_no_sense_are_refused_and_leave_nothing() {
    let (peer, folder) = serving(&[]);
    let headers = "X: y\r\n".repeat(50_000);
    let flood: Vec<_> = (0..1001).map(|number| (format!("name=\"file\"; filename=\"f{number}\""), b"x")).collect();
    let flood: Vec<_> = flood.iter().map(|(disposition, content)| (disposition.as_str(), &content[..])).collect();
    let one = |disposition: &str| form(&[(disposition, b"x")]);
    for (what, body) in [
        ("no file", form(&[])),
        ("another field", one("name=\"other\"; filename=\"x\"")),
        ("no file name", one("name=\"file\"")),
        ("a folder", one("name=\"file\"; filename=\"a/b\"")),
        ("climbing", one("name=\"file\"; filename=\"../x\"")),
        ("hidden", one("name=\"file\"; filename=\".x\"")),
        ("empty name", one("name=\"file\"; filename=\"\"")),
        ("one name twice", form(&[("name=\"file\"; filename=\"x\"", b"1"), ("name=\"file\"; filename=\"x\"", b"2")])),
        ("too many", form(&flood)),
        ("no end", form(&[("name=\"file\"; filename=\"x\"", b"1")]).split_last_chunk::<8>().unwrap().0.to_vec()),
        ("long headers", format!("--BOUND\r\n{headers}\r\nx\r\n--BOUND--\r\n").into_bytes()),
        ("a long preamble", vec![b'x'; 1 << 20]),
    ] {
        let answer = request(peer.address, "POST", "/upload", &FORM, &body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    }
    for media_type in ["text/plain", "multipart/form-data", "multipart/form-data; boundary="] {
        let answer = request(peer.address, "POST", "/upload", &[("Content-Type", media_type)], b"x");
        assert!([400, 415].contains(&answer.status), "{media_type}: {}", answer.status);
    }
    assert!(listed(peer.address).is_empty());
    wait_for(PATIENCE, "nothing is left behind", || {
        std::fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count() == 0
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let (peer, folder) = serving(&[]);
    let half_form = form(&[("name=\"file\"; filename=\"x\"", &noise(4, 500_000))]);
    for head in [
        "PUT /files/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n".to_owned(),
        "PUT /files/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n".to_owned(),
        "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=BOUND\r\nContent-Length: 1000000\r\n\r\n"
            .to_owned(),
    ] {
        let mut connection = Connection::open(peer.address);
        connection.send(head).unwrap();
        connection.send(&half_form[..400_000]).unwrap();
        wait_for(PATIENCE, "the upload has begun", || {
            std::fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count() == 1
        });
        connection.stream().shutdown(std::net::Shutdown::Both).unwrap();
        wait_for(PATIENCE, "nothing is left behind", || {
            std::fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count() == 0
        });
    }
    assert!(listed(peer.address).is_empty() && folder.read("x").is_none());
}

#[test]
fn a_conflict_that_the_size_gives_away_is_told_before_the_body_is_sent() {
    let (peer, _folder) = serving(&[("taken", b"mine")]);
    let mut connection = Connection::open(peer.address);
    connection
        .send("PUT /files/taken HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        .unwrap();
    assert_eq!(connection.head().unwrap().status, 409);
    // Where the size fits, the bytes decide.
    for (bytes, status) in [(b"mine", 200), (b"your", 409)] {
        assert_eq!(request(peer.address, "PUT", "/files/taken", &[], bytes).status, status);
    }
}

#[test]
fn methods_and_targets_that_do_not_exist_are_told_what_does() {
    let (peer, _folder) = serving(&[("f", b"x")]);
    let id = id_of(b"x");
    for (method, target, status, allow) in [
        ("DELETE", "/files/f".to_owned(), 405, Some("GET, HEAD, PUT")),
        ("POST", "/files/f".to_owned(), 405, Some("GET, HEAD, PUT")),
        ("GET", "/upload".to_owned(), 405, Some("POST")),
        ("PUT", format!("/content/{id}"), 405, Some("GET, HEAD")),
        ("POST", "/".to_owned(), 405, Some("GET, HEAD")),
        ("GET", "/nothing".to_owned(), 404, None),
        ("GET", "/files/nothing".to_owned(), 404, None),
        ("GET", format!("/content/{}", id_of(b"y")), 404, None),
        ("GET", "/content/XYZ".to_owned(), 400, None),
        ("GET", format!("/content/{}", id.to_uppercase()), 400, None),
        ("GET", format!("/content/{id}/nothing"), 404, None),
        ("GET", "/files?limit=0".to_owned(), 400, None),
        ("GET", "/files?limit=1001".to_owned(), 400, None),
        ("GET", "/files?page=2".to_owned(), 400, None),
        ("PUT", "/f".to_owned(), 404, None),
        ("PUT", "/files".to_owned(), 405, Some("GET, HEAD")),
        ("PUT", "/files/".to_owned(), 400, None),
        ("GET", "/files/".to_owned(), 200, None),
        ("GET", "/readyz".to_owned(), 503, None),
        ("GET", "/healthz".to_owned(), 200, None),
    ] {
        let answer = request(peer.address, method, &target, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {target}");
        if status >= 400 {
            let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(told["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{method} {target}: {told}");
            assert_eq!(told["status"].as_u64(), Some(status.into()));
        }
    }
}

#[test]
fn a_file_sent_to_a_wrong_place_is_told_the_right_one() {
    let (peer, _folder) = serving(&[]);
    for (method, target, right) in [
        ("PUT", "/", "/files/`"),
        ("PUT", "/notes.txt", "/files/`"),
        ("PUT", "/files", "/files/`"),
        ("PUT", "/upload", "/files/`"),
        ("POST", "/", "/upload`"),
        ("POST", "/files/", "/upload`"),
    ] {
        let answer = request(peer.address, method, target, &[], b"x");
        assert!(answer.text().contains(right), "{method} {target}: {}", answer.text());
    }
}

#[test]
fn the_list_comes_in_pages_that_miss_nothing() {
    let names: Vec<String> = (0..25).map(|number| format!("d/é {number:02}#.txt")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let (peer, _folder) = serving(&files);
    let mut seen = Vec::new();
    let mut target = "/files?limit=10".to_owned();
    loop {
        let page: serde_json::Value = serde_json::from_slice(&get(peer.address, &target).body).expect("JSON");
        seen.extend(page["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        let encoded: String = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
        target = format!("/files?limit=10&after={encoded}");
    }
    assert_eq!(seen, names);
}

#[test]
fn a_seed_gives_every_fresh_piece_once_and_says_that_it_has_all() {
    let body = noise(5, 10 * 32_768 + 5);
    let (peer, _folder) = serving(&[("f.bin", &body)]);
    let id = id_of(&body);
    let have = get(peer.address, &format!("/content/{id}/have?since=0"));
    assert_eq!((have.status, have.header("enjambre-have"), have.body.len()), (200, Some("all"), 0));
    let list = get(peer.address, &format!("/content/{id}/pieces"));
    assert_eq!(list.body.len(), 11 * 32);
    let began = Instant::now();
    let runs: Vec<_> = (0..11).map(|piece| format!("{piece}-{piece}")).collect();
    let ask = format!("/content/{id}/fresh?of={}", runs.join(","));
    let mut seen: Vec<usize> = (0..11)
        .map(|nth| {
            // At one's turn, or as it comes.
            let piece = get(peer.address, &format!("{ask}{}", if nth % 2 == 0 { "&turn" } else { "" }));
            let number: usize = piece
                .header("enjambre-pieces")
                .and_then(|pieces| pieces.split_once('-')?.0.parse().ok())
                .expect("a number");
            assert!(piece.body == body[number * 32_768..body.len().min((number + 1) * 32_768)]);
            assert_eq!(piece.header("cache-control"), Some("no-store"));
            number
        })
        .collect();
    seen.sort();
    assert_eq!(seen, (0..11).collect::<Vec<_>>());
    let status = get(peer.address, &format!("{ask}&turn")).status;
    // On a machine so slow, they count as not spread.
    assert!(status == 204 || began.elapsed() >= limits::FRESH_TIME, "{status}");
    let many = vec!["0-0"; limits::FRESH_RUNS + 1].join(",");
    for wrong in [
        "",
        "?of=",
        "?of=1",
        "?of=2-1",
        "?of=0-11",
        "?of=0-0,",
        "?of=-1-2",
        "?most=3",
        "?of=0-0&turns",
        &format!("?of={many}"),
    ] {
        assert_eq!(get(peer.address, &format!("/content/{id}/fresh{wrong}")).status, 400, "{wrong}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_breaks_the_transfer() {
    let body = noise(6, 64 << 20);
    let (peer, folder) = serving(&[("f.bin", &body)]);
    let mut connection = Connection::open(peer.address);
    connection.send("GET /files/f.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let head = connection.head().unwrap();
    assert_eq!(head.header("content-length"), Some((64 << 20).to_string().as_str()));
    // More is on its way than sockets hold, so the end is not sent yet.
    let mut file = std::fs::OpenOptions::new().write(true).open(folder.join("f.bin")).unwrap();
    std::io::Write::write_all(&mut file, b"changed").unwrap();
    drop(file);
    match connection.rest() {
        Ok(sent) => assert!(sent.len() < body.len(), "a changed file was sent to its end"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    wait_for(PATIENCE, "what it is now is shared", || {
        let answer = get(peer.address, "/files/f.bin");
        answer.status == 200 && answer.body.starts_with(b"changed")
    });
}
