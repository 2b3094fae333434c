//! One-shot use: `peer get`, `search`, `status` and `put` without a share, their results and their exit codes.
#![cfg(all(feature = "tracker", feature = "peer"))]

mod support;

use std::{
    fs,
    io::Read,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::*;

fn id_of(bytes: &[u8]) -> String {
    enjambre::content::ContentId::of(bytes).to_string()
}

/// A tracker, and a peer `giver` that shares these files.
struct Swarm {
    tracker: Process,
    giver: Process,
    folder: Folder,
}

impl Swarm {
    fn new(files: &[(&str, &[u8])]) -> Self {
        Self::with(files, &[], &[])
    }

    fn with(files: &[(&str, &[u8])], tracker_flags: &[&str], peer_flags: &[&str]) -> Self {
        let tracker = tracker(tracker_flags);
        let folder = Folder::new();
        files.iter().for_each(|(path, bytes)| drop(folder.write(path, bytes)));
        let mut giver = peer("giver", folder.path(), tracker.address, peer_flags);
        giver.joined();
        wait_for(PATIENCE, "the giver's files are found", || giver.search("*").len() == files.len());
        Self { tracker, giver, folder }
    }

    /// `peer <verb> …` in a folder, at this tracker.
    fn ask(&self, folder: &Folder, args: &[&str]) -> Finished {
        run(verb(folder, self.tracker.address, args), "")
    }
}

fn verb(folder: &Folder, tracker: SocketAddr, args: &[&str]) -> Command {
    let mut command = peer_command(args);
    command.current_dir(folder.path()).env("ENJAMBRE_TRACKER", tracker.to_string());
    command
}

/// The names in a folder, hidden ones too.
fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("the folder is there");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn parsed(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

// ---- get -------------------------------------------------------------------------------------------

#[test]
fn a_get_brings_a_file_by_path_by_id_and_by_pattern_and_leaves_nothing_else() {
    let big = noise(1, 3 << 20);
    let swarm = Swarm::new(&[("logs/1", b"one"), ("logs/2", &big), ("notes.txt", b"hello")]);
    let here = Folder::new();
    let got = swarm.ask(&here, &["get", "notes.txt"]);
    assert_eq!((got.code, got.out), (Some(0), format!("{}\t5\tnotes.txt\n", id_of(b"hello"))), "{}", got.err);
    assert!(got.err.contains("fetched notes.txt from giver: 5 bytes in "), "{}", got.err);

    let got = swarm.ask(&here, &["get", "logs/*"]);
    assert_eq!(got.code, Some(0), "{}", got.err);
    assert_eq!(got.out, format!("{}\t3\tlogs/1\n{}\t3145728\tlogs/2\n", id_of(b"one"), id_of(&big)));

    let got = swarm.ask(&here, &["get", &id_of(&big), "-o", "copy", "--quiet"]);
    assert_eq!((got.code, got.err.as_str()), (Some(0), ""));
    fs::create_dir(here.join("to")).unwrap();
    let got = swarm.ask(&here, &["get", "logs/1", "-o", "to", "--json"]);
    assert_eq!(parsed(&got.out), [json!({ "path": "logs/1", "content": id_of(b"one"), "size": 3 })], "{}", got.err);

    assert_eq!(names(&here), ["copy", "logs", "notes.txt", "to"]);
    assert_eq!((here.read("copy"), here.read("logs/2")), (Some(big.clone()), Some(big)));
    assert_eq!(here.read("to/logs/1").unwrap(), b"one");
    // Nobody has joined: the only source is who was there before.
    let rows = swarm.ask(&here, &["search", "notes"]).out;
    assert_eq!(rows, format!("{}\t5\t1\tnotes.txt\tgiver\n", id_of(b"hello")));
}

#[test]
fn what_is_there_is_compared_and_never_replaced() {
    let swarm = Swarm::new(&[("a", b"theirs"), ("b", b"same")]);
    let here = Folder::new();
    here.write("a", "mine");
    here.write("b", "same");
    let got = swarm.ask(&here, &["get", "a"]);
    assert_eq!((got.code, got.out.as_str()), (Some(1), ""));
    assert!(got.err.contains("a is here with other content: give a new path"), "{}", got.err);
    let got = swarm.ask(&here, &["get", "b"]);
    assert_eq!((got.code, got.out), (Some(0), format!("{}\t4\tb\n", id_of(b"same"))));
    assert!(got.err.contains("b is here already"), "{}", got.err);
    assert_eq!((here.read("a").unwrap(), names(&here)), (b"mine".to_vec(), vec!["a".into(), "b".into()]));
}

#[test]
fn many_small_files_come_by_one_pattern_and_one_in_the_way_holds_up_no_other() {
    let files: Vec<_> = (0..300_u32).map(|n| (format!("many/{n:03}"), noise(n.into(), 2000))).collect();
    let swarm = Swarm::new(&files.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect::<Vec<_>>());
    let here = Folder::new();
    here.write("many/007", "mine");
    let got = swarm.ask(&here, &["get", "many/*"]);
    assert_eq!((got.code, got.out.lines().count()), (Some(1), 299), "{}", got.err);
    assert!(got.err.contains("many/007 is here with other content"), "{}", got.err);
    for (path, bytes) in &files {
        let expected = if path == "many/007" { b"mine" } else { &bytes[..] };
        assert_eq!(here.read(path).as_deref(), Some(expected), "{path}");
    }
    assert_eq!(names(&here), ["many"]);
}

#[test]
fn stdout_gets_verified_bytes_in_order_and_no_file_is_left_anywhere() {
    let big = noise(2, 40 << 20);
    let swarm = Swarm::new(&[("big", &big), ("empty", b""), ("small", b"x")]);
    let (here, temporary) = (Folder::new(), Folder::new());
    for (path, bytes) in [("big", &big[..]), ("empty", b""), ("small", b"x")] {
        let mut command = verb(&here, swarm.tracker.address, &["get", path, "-o", "-", "-q"]);
        command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == bytes, "{path}: {} bytes", output.stdout.len());
        assert!(output.stderr.is_empty());
    }
    assert!(names(&here).is_empty() && names(&temporary).is_empty(), "{:?}", names(&temporary));
    let refused = swarm.ask(&here, &["get", "*", "-o", "-"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
}

#[test]
fn a_closed_pipe_ends_a_get_to_it_quietly_and_soon() {
    let big = noise(3, 100 << 20);
    let swarm = Swarm::new(&[("big", &big)]);
    let here = Folder::new();
    let mut command = verb(&here, swarm.tracker.address, &["get", "big", "-o", "-", "-q", "--download-limit", "5M"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 100_000];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert!(first == big[..first.len()]);
    let code = wait_for_some(PATIENCE, "it ends", || child.try_wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((code.code(), said.as_str()), (Some(5), ""));
}

#[test]
fn results_that_nobody_takes_are_no_error_to_tell_of_and_the_files_come() {
    let swarm = Swarm::new(&[("a/1", b"one"), ("a/2", b"two")]);
    let here = Folder::new();
    for args in [&["search", "a"][..], &["status", "--json"], &["get", "a/*", "-q"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = verb(&here, swarm.tracker.address, args);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(5), &b""[..]), "{args:?}");
    }
    assert_eq!((here.read("a/1").unwrap(), here.read("a/2").unwrap()), (b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn a_signal_ends_a_get_and_the_same_get_goes_on_from_there() {
    let big = noise(4, 64 << 20);
    let swarm = Swarm::new(&[("big", &big)]);
    let here = Folder::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let command = verb(&here, swarm.tracker.address, &["get", "big", "--download-limit", "8M"]);
        let mut get = Process::spawn("get", command);
        let partial = here.join(".enjambre-get-0/partial").join(id_of(&big));
        let more = fs::metadata(&partial).map_or(0, |file| file.len()) + (1 << 20);
        wait_for(PATIENCE, "more of it is here", || fs::metadata(&partial).is_ok_and(|file| file.len() > more));
        get.signal(signal);
        assert_eq!(get.exited().code(), Some(code));
        get.wait_for_line(0, "it says what it keeps", |line| line.text.contains("goes on from there").then_some(()));
        assert_eq!(names(&here), [".enjambre-get-0"]);
    }
    let got = swarm.ask(&here, &["get", "big"]);
    assert_eq!(got.code, Some(0), "{}", got.err);
    assert!(got.err.contains("resuming: "), "{}", got.err);
    assert!(here.read("big").unwrap() == big);
    assert_eq!(names(&here), ["big"]);
}

#[test]
fn gets_into_one_folder_run_side_by_side_and_beside_a_peer_that_shares_it() {
    let files: Vec<_> = (0..6_u32).map(|n| (format!("f{n}"), noise(n.into(), 1 << 20))).collect();
    let swarm = Swarm::new(&files.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect::<Vec<_>>());
    let here = Folder::new();
    let mut sharer = peer("sharer", here.path(), swarm.tracker.address, &[]);
    sharer.joined();
    let gets = files.iter().map(|(path, _)| Process::spawn(path, verb(&here, swarm.tracker.address, &["get", path])));
    for mut get in gets.collect::<Vec<_>>() {
        assert_eq!(get.exited().code(), Some(0));
    }
    files.iter().for_each(|(path, bytes)| assert!(here.read(path).as_ref() == Some(bytes), "{path}"));
    wait_for(PATIENCE, "the other peer offers them", || sharer.search("f").iter().all(|row| row.sources == 2));
    assert!(!names(&here).iter().any(|name| name.starts_with(".enjambre-get")), "{:?}", names(&here));
}

// ---- search, status, put ---------------------------------------------------------------------------

#[test]
fn search_and_status_tell_the_same_as_lines_and_as_json() {
    let mut swarm = Swarm::with(&[("a b", b"one"), ("c", b"more")], &[], &["--zone", "z1"]);
    let here = Folder::new();
    let (one, address) = (id_of(b"one"), swarm.giver.address);
    assert_eq!(swarm.ask(&here, &["search", "A B"]).out, format!("{one}\t3\t1\ta b\tgiver\n"));
    let found = swarm.ask(&here, &["search", "--json", "a b"]);
    let row = json!({ "path": "a b", "content": one, "size": 3, "sources": 1, "peers": ["giver"] });
    assert_eq!((found.code, parsed(&found.out)), (Some(0), vec![row]));
    let none = swarm.ask(&here, &["search", "--", "-x"]);
    assert_eq!(
        (none.code, none.out.as_str(), none.err.as_str()),
        (Some(1), "", "error: no file matches -x now: try a shorter part of its path\n")
    );

    let status = swarm.ask(&here, &["status"]);
    assert_eq!((status.code, status.out), (Some(0), format!("giver\t{address}\tz1\t2\t7\t0\t\t\n")));
    let status = swarm.ask(&here, &["status", "--json", "--quiet"]);
    let row = json!({
        "peer": "giver", "address": address.to_string(), "zone": "z1", "files": 2, "bytes": 7, "downloads": 0,
        "mirror": null,
    });
    assert_eq!((parsed(&status.out), status.err.as_str()), (vec![row], ""));
    swarm.giver.send("leave");
    swarm.giver.exited();
    let status = swarm.ask(&here, &["status"]);
    assert_eq!((status.code, status.out.as_str()), (Some(0), ""));
}

#[test]
fn a_put_is_on_the_peers_disk_under_its_name_or_the_one_that_is_given() {
    let swarm = Swarm::new(&[("taken", b"other")]);
    let here = Folder::new();
    let bytes = noise(5, 1 << 20);
    here.write("my notes.txt", &bytes);
    let at = |path: &str| format!("http://{}{path}", swarm.giver.address);
    for (url, path) in [(at(""), "my notes.txt"), (at("/2026/"), "2026/my notes.txt"), (at("/a%20b"), "a b")] {
        let put = swarm.ask(&here, &["put", "my notes.txt", &url]);
        assert_eq!((put.code, put.out), (Some(0), format!("{}\t1048576\t{path}\n", id_of(&bytes))), "{}", put.err);
        assert!(swarm.folder.read(path).unwrap() == bytes);
    }
    let put = swarm.ask(&here, &["put", "my notes.txt", &at("/a%20b"), "--json"]);
    assert!(put.err.contains("a b is here already"), "{}", put.err);
    assert_eq!(parsed(&put.out), [json!({ "path": "a b", "content": id_of(&bytes), "size": 1 << 20 })]);
    let by_name = format!("http://localhost:{}/by-name", swarm.giver.address.port());
    assert_eq!(swarm.ask(&here, &["put", "my notes.txt", &by_name]).code, Some(0));
    let put = run(verb(&here, swarm.tracker.address, &["put", "-", &at("/piped")]), "from a pipe");
    assert_eq!((put.code, put.out), (Some(0), format!("{}\t11\tpiped\n", id_of(b"from a pipe"))), "{}", put.err);

    let put = swarm.ask(&here, &["put", "my notes.txt", &at("/taken")]);
    assert_eq!(put.code, Some(1), "{}", put.err);
    assert_eq!(swarm.folder.read("taken").unwrap(), b"other");
}

#[test]
fn a_secret_opens_the_swarm_to_the_verbs_and_is_on_no_command_line() {
    let secret = "0123456789abcdef0123456789abcdef";
    let here = Folder::new();
    let file = here.write("secret", secret);
    let file = file.to_str().unwrap();
    let swarm_folder = Folder::new();
    swarm_folder.write("a", "A");
    let tracker = tracker(&["--secret-file", file]);
    let mut giver = peer("giver", swarm_folder.path(), tracker.address, &["--secret-file", file]);
    giver.joined();
    wait_for(PATIENCE, "a is found", || giver.search("a").len() == 1);
    let url = format!("http://{}/b", giver.address);
    for (verbs, code) in [(true, 0), (false, 6)] {
        for args in [&["get", "a"][..], &["search", "a"], &["status"], &["put", "secret", &url]] {
            let mut command = verb(&here, tracker.address, args);
            if verbs {
                command.env("ENJAMBRE_SECRET", secret);
            }
            let done = run(command, "");
            assert_eq!(done.code, Some(code), "{args:?}: {}", done.err);
        }
    }
    assert_eq!(here.read("a").unwrap(), b"A");
}

// ---- exit codes ------------------------------------------------------------------------------------

#[test]
fn each_kind_of_failure_has_its_exit_code_and_one_sentence() {
    let swarm = Swarm::new(&[("a", b"a"), ("b", b"a")]);
    let here = Folder::new();
    here.write("file", "x");
    let nobody = free_address().to_string();
    let away = format!("http://{nobody}/");
    let (id, none) = (id_of(b"a"), id_of(b"none"));
    for (code, args) in [
        (1, &["get", "nothing"][..]),
        (1, &["get", &none]),
        (1, &["get", &id]),
        (1, &["get", "no*"]),
        (2, &["get"]),
        (2, &["get", "a", "b"]),
        (2, &["get", "../a"]),
        (2, &["get", "a", "--wat"]),
        (2, &["get", "a", "-o", "no-such-folder/a"]),
        (2, &["get", "a", "--connections", "0"]),
        (2, &["search", " "]),
        (2, &["put", "no-such-file", &away]),
        (2, &["put", ".", &away]),
        (2, &["put", "file", "ftp://h:1/"]),
        (2, &["put", "file", "http://h/"]),
        (3, &["get", "a", "--tracker", &nobody]),
        (3, &["search", "a", "--tracker", &nobody]),
        (3, &["status", "--tracker", &nobody]),
        (3, &["put", "file", &away]),
        (5, &["get", "a", "-o", "new/", "--keep-free", "99%"]),
    ] {
        fs::create_dir_all(here.join("new")).unwrap();
        let done = swarm.ask(&here, args);
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{args:?}: {}", done.err);
        assert!(done.err.starts_with("error: "), "{args:?}: {}", done.err);
        assert_eq!(names(&here), ["file", "new"], "{args:?}");
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_a_failure_of_the_disk() {
    let swarm = Swarm::new(&[("a", b"a")]);
    let here = Folder::new();
    // Whoever runs the tests may write everywhere else.
    here.write(".enjambre-get-0", "in the way");
    let done = swarm.ask(&here, &["get", "a"]);
    assert_eq!(done.code, Some(5), "{}", done.err);
    assert!(done.err.contains(".enjambre-get-0 is not a folder: move it away"), "{}", done.err);
    let mut command = verb(&here, swarm.tracker.address, &["get", "a", "-o", "-"]);
    command.env("TMPDIR", here.join("gone"));
    assert_eq!(run(command, "").code, Some(5));
}

#[test]
fn a_source_that_is_gone_is_a_failure_of_sources() {
    let mut swarm = Swarm::new(&[("a", &noise(6, 1 << 20))]);
    swarm.giver.kill();
    let here = Folder::new();
    let done = swarm.ask(&here, &["get", "a"]);
    assert_eq!(done.code, Some(4), "{}", done.err);
    assert!(done.err.contains("no source could deliver it: giver cannot be reached"), "{}", done.err);
    assert!(names(&here).is_empty(), "{:?}", names(&here));
}

#[cfg(feature = "rustls")]
#[test]
fn the_verbs_speak_tls_where_the_swarm_does() {
    let certificates = Certificates::new(&["127.0.0.1"]);
    let flags = certificates.flags("127.0.0.1");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let swarm = Swarm::with(&[("a", b"A")], &flags, &flags);
    let here = Folder::new();
    here.write("file", "x");
    let url = format!("https://{}/b", swarm.giver.address);
    for args in [&["get", "a"][..], &["search", "a"], &["status"], &["put", "file", &url]] {
        let done = swarm.ask(&here, &[args, &flags].concat());
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.err);
        let plain = swarm.ask(&here, args);
        assert!(!matches!(plain.code, None | Some(0)), "{args:?}: {}", plain.err);
    }
    assert_eq!((here.read("a"), swarm.folder.read("b")), (Some(b"A".to_vec()), Some(b"x".to_vec())));
}
