//! A content from the whole swarm at once, by a program that knows nothing of it: Debian's aria2.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::Instant,
};

use enjambre::limits;
use support::*;

/// So large that aria2 asks three sources of its own accord: it makes no part shorter than 20 MiB, and halves.
const SIZE: usize = 96 << 20;

/// A file's content id.
fn id(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

/// Whether aria2 is installed; that it is not is said in a line.
fn has_aria2() -> bool {
    let probe = Command::new("aria2c").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if probe.is_err() {
        println!("skipped: aria2c is not installed (Debian: aria2)");
    }
    probe.is_ok()
}

/// Peers that all hold `bytes` under `path`, each at an address of its own: to aria2, one address is one server. They
/// are known to the tracker, which has to allow that.
fn seeds(tracker: SocketAddr, folders: &[Folder], path: &str, bytes: &[u8], args: &[&str]) -> Vec<Process> {
    let seed = |(number, folder): (usize, &Folder)| {
        folder.write(path, bytes);
        let address = format!("127.0.0.{}", number + 2);
        let own = ["--bind", &address, "--advertise", &address];
        peer(&format!("peer_{number}"), folder.path(), tracker, &[&own[..], args].concat())
    };
    let peers: Vec<_> = folders.iter().enumerate().map(seed).collect();
    peers.iter().for_each(Process::joined);
    peers
}

/// Fetches the Metalink of a content and what it names into a folder; what aria2 said, each request included.
#[track_caller]
fn aria2(folder: &Folder, url: &str, args: &[&str]) -> String {
    let mut command = Command::new("aria2c");
    // Its log is all that is added to what it does, and the user's own file of settings all that is left out.
    command.args(["--log=log", "--log-level=info", "--dir=got"]).args(args).arg(url).env("HOME", folder.path());
    let finished = run(
        {
            command.current_dir(folder.path());
            command
        },
        "",
    );
    let log = String::from_utf8_lossy(&folder.read("log").unwrap_or_default()).into_owned();
    assert_eq!(finished.code, Some(0), "{finished:?}\n{log}");
    log
}

/// Which of these peers were asked for the content itself.
fn asked<'a>(log: &str, peers: &'a [Process], id: &str) -> Vec<&'a Process> {
    let requests: Vec<_> =
        log.split("Requesting:").filter(|request| request.contains(&format!("/content/{id} "))).collect();
    let is_asked =
        |peer: &&Process| requests.iter().any(|request| request.contains(&format!("Host: {}\r\n", peer.address)));
    peers.iter().filter(is_asked).collect()
}

#[test]
fn aria2_fetches_from_all_sources_at_once() {
    if !has_aria2() {
        return;
    }
    let tracker = tracker(&["--allow-advertise"]);
    let folders = [Folder::new(), Folder::new(), Folder::new()];
    // Of an ampersand aria2 1.36 makes `&#38;`, however it is written.
    let (path, bytes) = ("films/a <b> \"c\" 'd' \u{e9}.bin", noise(1, SIZE));
    // None of them is done before the others are asked.
    let peers = seeds(tracker.address, &folders, path, &bytes, &["--upload-limit", "32M"]);
    let id = id(&bytes);
    let (at, target) = (peers[0].address, format!("/content/{id}.meta4"));
    wait_for(PATIENCE, "all are sources", || get(at, &target).text().matches("<url").count() == 3);
    let response = get(at, &target);
    assert_eq!(response.header("content-type"), Some("application/metalink4+xml"));
    assert!(response.text().contains(&format!("<size>{SIZE}</size>")) && !response.text().contains("<hash"));
    assert_eq!(request(at, "HEAD", &target, &[], b"").status, 200);
    assert_eq!(request(at, "POST", &target, &[], b"").status, 405);

    let folder = Folder::new();
    let log = aria2(&folder, &format!("http://{at}{target}"), &[]);
    assert!(folder.read(format!("got/{path}")).is_some_and(|got| got == bytes), "{log}");
    assert_eq!(asked(&log, &peers, &id).len(), 3, "{log}");

    // As a file too, and of a peer that holds nothing itself.
    let empty = Folder::new();
    let other = peer("other", empty.path(), tracker.address, &[]);
    other.joined();
    let text = get(other.address, &target);
    let folder = Folder::new();
    folder.write("it.meta4", &text.body);
    let log = aria2(&folder, "-Mit.meta4", &[]);
    assert!(folder.read(format!("got/{path}")).is_some_and(|got| got == bytes), "{log}");
    assert_eq!(asked(&log, &peers, &id).len(), 3, "{log}");
}

#[cfg(feature = "rustls")]
#[test]
fn with_a_secret_and_tls_the_urls_are_https_and_hold_no_secret() {
    const SECRET: &str = "0123456789abcdef-metalink";
    if !has_aria2() {
        return;
    }
    let (certificates, home) = (Certificates::new(&["127.0.0.1,127.0.0.2,127.0.0.3"]), Folder::new());
    let secret = home.write("secret", SECRET).display().to_string();
    let flags = [&["--secret-file".into(), secret][..], &certificates.flags("127.0.0.1")].concat();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let tracker = tracker(&flags);
    let folders = [Folder::new(), Folder::new()];
    let bytes = noise(2, 4 << 20);
    let peers = seeds(tracker.address, &folders, "a", &bytes, &[&flags[..], &["--upload-limit", "2M"]].concat());
    let (id, ca) = (id(&bytes), format!("--ca-certificate={}", certificates.path("ca.crt").display()));
    let url = format!("https://{}/content/{id}.meta4", peers[0].address);
    let conf = home.write("conf", format!("http-user=any\nhttp-passwd={SECRET}\n"));
    wait_for(PATIENCE, "both are sources", || {
        let curl =
            ["-s", "--cacert", &certificates.path("ca.crt").display().to_string(), "-u", &format!(":{SECRET}"), &url];
        let mut command = Command::new("curl");
        command.args(curl);
        let text = run(command, "").out;
        assert!(!text.contains(SECRET) && !text.contains("http://"), "{text}");
        text.matches("https://127.0.0.").count() == 2
    });
    let folder = Folder::new();
    let log = aria2(&folder, &url, &[&ca, &format!("--conf-path={}", conf.display()), "-k1M"]);
    assert!(folder.read("got/a").is_some_and(|got| got == bytes), "{log}");
    assert_eq!(asked(&log, &peers, &id).len(), 2, "{log}");
}

#[test]
fn a_tracker_that_hangs_holds_up_only_those_who_ask_for_sources_and_no_more_of_them_than_eight() {
    let tracker = tracker(&[]);
    let home = Folder::new();
    home.write("a", "bytes");
    let peer = peer("p", home.path(), tracker.address, &[]);
    peer.joined();
    let at = peer.address;
    wait_for(PATIENCE, "it is shared", || get(at, "/files/a").status == 200);
    tracker.signal(Signal::STOP);
    let target = format!("/content/{}.meta4", id(b"bytes"));
    let asking: Vec<_> = (0..=limits::API_CALLS)
        .map(|_| {
            let mut connection = Connection::open(at);
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n")).unwrap();
            connection
        })
        .collect();
    let begun = Instant::now();
    for route in ["/files", "/files/a", "/healthz", "/metrics", "/"] {
        assert_eq!(get(at, route).status, 200, "{route}");
    }
    assert!(begun.elapsed() < limits::RPC_TIME / 2, "{:?}", begun.elapsed());
    let answers: Vec<_> = asking.into_iter().map(|mut connection| connection.answer().unwrap()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    assert!(refused[0].text().contains("Too much is asked at once") && refused[0].header("retry-after").is_some());
    // Who holds the content itself is a source, whatever the tracker does.
    let own = format!("http://{at}/content/");
    assert!(
        answers.iter().filter(|answer| answer.status == 200).all(|answer| answer.text().matches(&own).count() == 1)
    );
    tracker.signal(Signal::CONT);
}
