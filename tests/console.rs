//! The peer's command line, its commands, and how it begins and ends: what a person and a script
//! rely on.
#![cfg(all(feature = "tracker", feature = "peer"))]

mod support;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::*;

/// Nobody listens there.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn id_of(bytes: &[u8]) -> String {
    enjambre::content::ContentId::of(bytes).to_string()
}

/// A swarm of one tracker and one peer, `giver`, that shares these files.
fn swarm(files: &[(&str, &[u8])]) -> (Process, Folder, Process) {
    let tracker = tracker(&["--lease", "2"]);
    let folder = Folder::new();
    for (path, bytes) in files {
        folder.write(path, bytes);
    }
    let mut giver = peer("giver", folder.path(), tracker.address, &[]);
    giver.joined();
    wait_for(PATIENCE, "the giver's files are found", || giver.search("*").len() == files.len());
    (tracker, folder, giver)
}

/// `peer <id> 0 <folder>`, to be run to its end.
fn taker(folder: &Folder, tracker: &Process) -> Command {
    let mut command = peer_command(["taker", "0"]);
    command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", &tracker.address.to_string()]);
    command
}

// ---- the command line ----------------------------------------------------------------------

#[test]
fn a_bad_command_line_is_one_line_and_exit_code_2() {
    let folder = Folder::new();
    let file = folder.write("file", "x");
    let (here, file) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let gone = folder.join("gone");
    for (args, part) in [
        (&[][..], "<id> is missing"),
        (&["p", "0"], "<folder> is missing"),
        (&["p", "0", here, "more"], "unexpected `more`"),
        (&["p", "0", here, "--wat"], "unknown flag --wat"),
        (&["p", "0", here, "--tracker"], "--tracker needs a value"),
        (&["p", "0", here, "--tracker", "h:1", "--tracker", "h:1"], "--tracker is given twice"),
        (&["p", "0", here, "--tracker", "nowhere"], "HOST:PORT"),
        (&["p", "0", here, "--tracker", "http://h:1"], "HOST:PORT"),
        (&["p", "0", here, "--tracker", "h:1,"], "`` is no tracker: write HOST:PORT"),
        (&["p", "0", here, "--tracker", "h:1,h"], "`h` is no tracker: write HOST:PORT"),
        (&["p", "0", here, "--tracker", "h:1,i:1,h:1"], "h:1 is named twice"),
        (&["p", "0", here, "--bind", "localhost"], "--bind localhost"),
        (&["p", "0", here, "--advertise", "10.0.0.1:5000"], "no port"),
        (&["p", "0", here, "--zone", "a b"], "a zone is"),
        (&["p q", "0", here], "peer id `p q`"),
        (&["search", "0", here], "unexpected"),
        (&["p", "65536", here], "port `65536`"),
        (&["p", "-1", here], "-1"),
        (&["p", "http", here], "port `http`"),
        (&["p", "0", gone.to_str().unwrap()], "gone"),
        (&["p", "0", file], "file"),
    ] {
        let Finished { code, out, err } = run(peer_command(args), "leave\n");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(part) && err.lines().count() == 1, "{args:?}: {err}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = run(peer_command(["--help"]), "");
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.contains("Usage: peer <id> <port> <folder> [flags]") && help.out.contains("ENJAMBRE_TRACKER"));
    let version = run(peer_command(["--version"]), "");
    assert_eq!(version.out, format!("peer {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_variable_stands_in_for_a_flag() {
    let folder = Folder::new();
    let mut command = peer_command(["p", "0"]);
    command.arg(folder.path()).env("ENJAMBRE_ZONE", "a b").env("ENJAMBRE_TRACKER", "h:1,i:1");
    let Finished { code, err, .. } = run(command, "");
    assert_eq!(code, Some(2));
    assert!(err.contains("ENJAMBRE_ZONE a b"), "{err}");
}

#[test]
fn a_folder_that_another_peer_uses_is_refused_and_the_holder_named() {
    let folder = Folder::new();
    let first = peer("first", folder.path(), NO_TRACKER, &[]);
    let mut second = peer_command(["second", "0"]);
    second.arg(folder.path());
    let Finished { code, err, .. } = run(second, "");
    assert_eq!(code, Some(2));
    assert!(err.contains(&format!("in use by first, process {}:", first.id())), "{err}");
}

#[test]
fn a_peer_that_others_are_told_to_find_where_it_does_not_listen_says_so() {
    let tracker = tracker(&[]);
    let folder = Folder::new();
    let peer = peer("p", folder.path(), tracker.address, &["--bind", "127.0.0.2"]);
    peer.wait_for_line(0, "it warns", |line| line.text.contains("where this peer does not listen").then_some(()));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = peer_command(["p", &port]);
    command.arg(folder.path()).args(["--bind", "127.0.0.1"]);
    let Finished { code, err, .. } = run(command, "");
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("port {port} is in use")), "{err}");
}

// ---- beginning and end ---------------------------------------------------------------------

#[test]
fn the_end_of_a_pipe_is_no_reason_to_stop_and_a_signal_is_with_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::new();
        let mut peer = peer("p", folder.path(), NO_TRACKER, &[]);
        peer.send("nonsense");
        peer.close_stdin();
        peer.wait_for_line(0, "the error", |line| line.text.starts_with("error: unknown command").then_some(()));
        assert_eq!(get(peer.address, "/healthz").status, 200);
        peer.signal(signal);
        assert_eq!(peer.exited().code(), Some(0));
    }
}

#[test]
fn an_idle_peer_is_woken_by_nothing_but_its_lease() {
    let tracker = tracker(&[]);
    let folder = Folder::new();
    folder.write("a", "x");
    let mut peer = peer("p", folder.path(), tracker.address, &[]);
    wait_for(PATIENCE, "a is found", || !peer.search("a").is_empty());
    // How often is what is measured, so this waits for time and not for luck.
    let woken = |seconds| {
        let before = peer.wake_ups_of(|thread| thread != "link");
        thread::sleep(Duration::from_secs(seconds));
        peer.wake_ups_of(|thread| thread != "link") - before
    };
    wait_for(PATIENCE, "all threads but the link's sleep for three seconds", || woken(3) == 0.0);
}

#[test]
fn leave_exits_with_1_when_a_command_of_the_script_failed() {
    let (tracker, ..) = &swarm(&[]);
    for (script, code) in [
        ("leave\n", 0),
        ("list\nhelp\n\n  leave", 0),
        ("search nothing-of-this-name\nleave\n", 0),
        ("nonsense\nleave\n", 1),
        ("search\nleave\n", 1),
        ("get\nleave\n", 1),
        ("get 'a\nleave\n", 1),
        ("get ../a\nleave\n", 1),
        ("leave now\nleave\n", 1),
        ("get nothing-of-this-name\nlist\nleave\n", 1),
    ] {
        let finished = run(taker(&Folder::new(), tracker), script);
        assert_eq!(finished.code, Some(code), "{script:?}: {finished:?}");
        assert_eq!(finished.err.contains("error: "), code == 1, "{script:?}: {finished:?}");
    }
}

#[test]
fn the_end_of_a_terminal_means_leave() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
    let folder = Folder::new();
    let mut command = peer_command(["p", "0"]);
    command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", &NO_TRACKER.to_string()]);
    let mut child = command.stdin(terminal).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut master = File::from(master);
    master.write_all(b"nonsense\n\x04").unwrap();
    let code = wait_for_some(PATIENCE, "the peer leaves", || child.try_wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("error: unknown command"), "{said}");
    assert_eq!(code.code(), Some(0), "{said}");
}

#[test]
fn closed_outputs_are_no_reason_to_panic() {
    let (tracker, ..) = &swarm(&[("a", b"a")]);
    let folder = Folder::new();
    let mut child =
        taker(&folder, tracker).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    child.stdin.take().unwrap().write_all(b"search a\nget a\nhelp\nlist\nleave\n").unwrap();
    let code = wait_for_some(PATIENCE, "the peer leaves", || child.try_wait().unwrap());
    assert_eq!(code.code(), Some(1));
    assert_eq!(folder.read("a").unwrap(), b"a");
}

#[test]
fn without_a_tracker_a_peer_serves_says_so_once_and_a_get_fails_soon() {
    let folder = Folder::new();
    folder.write("a", "a");
    let mut peer = peer("p", folder.path(), NO_TRACKER, &[]);
    wait_for(PATIENCE, "a is served", || get(peer.address, "/files/a").status == 200);
    assert_eq!(get(peer.address, "/readyz").status, 503);
    let began = Instant::now();
    let error = peer.get("x").unwrap_err();
    assert!(error.contains("tracker 127.0.0.1:1 is away"), "{error}");
    assert!(peer.get("y").is_err());
    assert!(began.elapsed() < Duration::from_secs(9));
    let away = peer.lines().iter().filter(|line| line.text.starts_with("tracker 127.0.0.1:1 is away")).count();
    assert_eq!(away, 1);
}

#[test]
fn whatever_answers_in_the_trackers_place_a_peer_serves_and_a_get_fails_soon() {
    fn answer(manner: &str, mut stream: TcpStream) {
        let _ = match manner {
            "closes" => Ok(()),
            "hangs" => stream.read_to_end(&mut Vec::new()).map(drop),
            "speaks HTTP/1.1" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            _ => stream.write_all(&noise(1, 100_000)),
        };
    }
    thread::scope(|scope| {
        for manner in ["closes", "hangs", "speaks HTTP/1.1", "sends noise"] {
            scope.spawn(move || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                // Ends with the test's process.
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        thread::spawn(move || answer(manner, stream));
                    }
                });
                let folder = Folder::new();
                let mut peer = peer("p", folder.path(), address, &[]);
                let began = Instant::now();
                let error = peer.get("x").unwrap_err();
                assert!(error.contains("is away"), "{manner}: {error}");
                assert!(began.elapsed() < Duration::from_secs(13), "{manner}: {:?}", began.elapsed());
                assert_eq!(get(peer.address, "/healthz").status, 200);
                peer.signal(Signal::TERM);
                assert_eq!(peer.exited().code(), Some(0), "{manner}");
            });
        }
    });
}

// ---- the link ------------------------------------------------------------------------------

#[test]
fn an_id_that_another_live_peer_has_ends_the_second_one() {
    let (tracker, ..) = &swarm(&[]);
    let folder = Folder::new();
    let mut command = peer_command(["giver", "0"]);
    command.arg(folder.path()).args(["--tracker", &tracker.address.to_string()]);
    let Finished { code, err, .. } = run(command, "leave\n");
    assert_eq!(code, Some(1));
    assert!(err.contains("error: the tracker refuses this peer: another live peer has the id giver: "), "{err}");
}

#[test]
fn a_tracker_that_comes_back_knows_everything_again() {
    let (mut tracker, folder, mut giver) = swarm(&[("a", b"a"), ("b/c", b"bc")]);
    let address = tracker.address.to_string();
    tracker.kill();
    giver.wait_for_line(0, "it says so", |line| line.text.contains("is away").then_some(()));
    folder.write("d", "d");
    fs::remove_file(folder.join("a")).unwrap();
    let again = support::tracker(&["--listen", &address, "--lease", "2"]);
    wait_for(PATIENCE, "the swarm is whole", || {
        let answer = giver.ask("search *");
        let paths: Vec<_> = answer.out.iter().map(|line| Found::parse(line).path).collect();
        paths == ["b/c", "d"]
    });
    wait_for(PATIENCE, "the peer is ready", || get(giver.address, "/readyz").status == 200);
    drop(again);
}

#[test]
fn a_copy_of_a_folder_takes_its_id_over_and_the_first_stays_away() {
    let (tracker, folder, mut giver) = swarm(&[("a", b"a")]);
    let copy = Folder::new();
    copy.write("b", "b");
    copy.write(".enjambre/identity", folder.read(".enjambre/identity").unwrap());
    let mut second = peer("giver", copy.path(), tracker.address, &[]);
    second.joined();
    giver.wait_for_line(0, "it stays away", |line| line.text.contains("two copies of one folder").then_some(()));
    assert_eq!(get(giver.address, "/files/a").status, 200);
    wait_for(PATIENCE, "only the second is found", || {
        second.search("*").iter().map(|found| found.path.clone()).eq(["b".to_owned()])
    });
    assert!(giver.is_running());
}

#[test]
fn what_changes_is_found_at_once_and_what_leaves_is_gone_at_once() {
    let (tracker, folder, mut giver) = swarm(&[("a", b"a")]);
    folder.write("new", "new");
    wait_for(PATIENCE, "the new file is found", || giver.search("new").len() == 1);
    fs::remove_file(folder.join("new")).unwrap();
    wait_for(PATIENCE, "the removed file is gone", || giver.search("new").is_empty());
    let other = Folder::new();
    let mut other_peer = peer("other", other.path(), tracker.address, &[]);
    other_peer.joined();
    assert_eq!(other_peer.search("*").len(), 1);
    giver.send("leave");
    giver.exited();
    assert_eq!(other_peer.search("*"), []);
}

// ---- search, get, list ---------------------------------------------------------------------

#[test]
fn a_script_needs_no_sleep_and_gets_lines_with_tabs() {
    let (tracker, ..) = &swarm(&[("notes.txt", b"hello"), ("logs/a b #1 'é'.log", b""), ("logs/2", &[7; 100_000])]);
    let folder = Folder::new();
    let script =
        "search NOTES\nget notes.txt\nget \"logs/a b #1 'é'.log\" empty\nget logs/2\nsearch notes\nlist\nleave\n";
    let Finished { code, out, err } = run(taker(&folder, tracker), script);
    let (notes, empty, two) = (id_of(b"hello"), id_of(b""), id_of(&[7; 100_000]));
    let expected = [
        format!("{notes}\t5\t1\tnotes.txt\tgiver"),
        format!("{notes}\t5\tnotes.txt"),
        format!("{empty}\t0\tempty"),
        format!("{two}\t100000\tlogs/2"),
        format!("{notes}\t5\t2\tnotes.txt\tgiver,taker"),
        format!("{empty}\t0\tempty"),
        format!("{two}\t100000\tlogs/2"),
        format!("{notes}\t5\tnotes.txt"),
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{err}");
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("fetched notes.txt from giver: 5 bytes in "), "{err}");
    assert_eq!(folder.read("logs/2").unwrap(), [7; 100_000]);
}

#[test]
fn get_takes_an_id_a_path_or_a_pattern_in_this_order() {
    let (tracker, ..) = &swarm(&[("a*", b"star"), ("ab", b"b"), ("ac", b"c"), ("same", b"c"), ("d e", b"d")]);
    let folder = Folder::new();
    let mut taker = peer("taker", folder.path(), tracker.address, &[]);
    taker.joined();
    assert_eq!(taker.get("a*").unwrap().path, "a*", "an exact path comes before a pattern");
    assert_eq!(taker.get(&id_of(b"d")).unwrap().path, "d e");
    assert_eq!(taker.get(&format!("{} f", id_of(b"b"))).unwrap().path, "f");
    let error = taker.get(&id_of(b"c")).unwrap_err();
    assert!(error.contains("goes by several paths"), "{error}");
    let answer = taker.ask("get 'a?'");
    let paths: Vec<_> = answer.out.iter().map(|line| Fetched::parse(line).path).collect();
    assert_eq!((paths, answer.error()), (vec!["a*".to_owned(), "ab".to_owned(), "ac".to_owned()], None));
    assert!(taker.get("'a?' new").unwrap_err().contains("several files"));
    assert!(taker.get("'z*'").unwrap_err().contains("nothing matches"));
    assert!(taker.get(&id_of(b"nowhere")).unwrap_err().contains("nobody offers"));
    assert!(taker.get("'nowhere'").unwrap_err().contains("nobody offers nowhere"));
    assert!(taker.get("a b c").unwrap_err().contains("get takes"));
}

#[test]
fn a_path_with_several_contents_is_an_error_that_lists_them() {
    let (tracker, _folder, _giver) = &swarm(&[("a", b"one")]);
    let other = Folder::new();
    other.write("a", "other");
    let mut other = peer("other", other.path(), tracker.address, &[]);
    other.joined();
    wait_for(PATIENCE, "both are found", || other.search("a").len() == 2);
    let folder = Folder::new();
    let mut taker = peer("taker", folder.path(), tracker.address, &[]);
    taker.joined();
    let answer = taker.ask("get a");
    assert!(answer.error().unwrap().starts_with("a names 2 contents"), "{answer:?}");
    let listed =
        |bytes: &[u8], peer: &str| answer.err.iter().any(|line| line.contains(&id_of(bytes)) && line.ends_with(peer));
    assert!(listed(b"one", "giver") && listed(b"other", "other"), "{answer:?}");
    assert_eq!(taker.get(&format!("{} a", id_of(b"other"))).unwrap().size, 5);
}

#[test]
fn a_get_goes_to_a_folder_or_a_name() {
    let (tracker, ..) = &swarm(&[("logs/1", b"one"), ("logs/2", b"two"), ("a b", b"three")]);
    let folder = Folder::new();
    let mut taker = peer("taker", folder.path(), tracker.address, &[]);
    taker.joined();
    for (command, paths) in [
        ("get 'a b' --to new/name", &["new/name"][..]),
        ("get --to copies/ 'a b'", &["copies/a b"]),
        ("get 'logs/*' --to old", &["old/logs/1", "old/logs/2"]),
        ("get 'logs/*' --to older/still/", &["older/still/logs/1", "older/still/logs/2"]),
    ] {
        let answer = taker.ask(command);
        let here: Vec<_> = answer.out.iter().map(|line| Fetched::parse(line).path).collect();
        assert_eq!(
            (here.as_slice(), answer.error()),
            (&paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>()[..], None),
            "{command}"
        );
        paths.iter().for_each(|path| assert!(folder.read(path).is_some(), "{path}"));
    }
    for command in ["get --to x", "get a --to", "get a b --to c", "get 'a b' --to ../x", "get 'logs/*' --to ../x"] {
        assert!(taker.ask(command).error().is_some(), "{command}");
    }
}

#[test]
fn peers_and_status_are_lines_for_a_script() {
    let (tracker, _folder, giver) = &swarm(&[("a", b"12345")]);
    let folder = Folder::new();
    let mut taker = peer("taker", folder.path(), tracker.address, &["--zone", "z2"]);
    taker.joined();
    let (theirs, own) = (giver.address, taker.address);
    assert_eq!(
        taker.ask("peers").out,
        [format!("giver\t{theirs}\t\t1\t5\t0\t\t"), format!("taker\t{own}\tz2\t0\t0\t0\t\t")]
    );
    let trackers = format!("trackers\t{}", tracker.address);
    let rest = ["joined\tyes", "files\t0", "bytes\t0", "hashing\t0"];
    wait_for(PATIENCE, "it is idle", || {
        taker.ask("status").out == [&["peer\ttaker", "zone\tz2", &trackers][..], &rest].concat()
    });
}

#[test]
fn a_target_that_exists_is_never_touched() {
    let (tracker, ..) = &swarm(&[("a", b"theirs"), ("b", b"same")]);
    let folder = Folder::new();
    folder.write("a", "mine");
    folder.write("b", "same");
    fs::create_dir(folder.join("dir")).unwrap();
    let mut taker = peer("taker", folder.path(), tracker.address, &[]);
    taker.joined();
    wait_for(PATIENCE, "all is hashed", || taker.ask("list").out.len() == 2);
    let error = taker.get(&format!("{} a", id_of(b"theirs"))).unwrap_err();
    assert!(error.contains("other content") && error.contains("new path"), "{error}");
    assert!(taker.get(&format!("{} dir", id_of(b"theirs"))).unwrap_err().contains("another path"));
    assert!(taker.get(&format!("{} ../x", id_of(b"theirs"))).is_err());
    let answer = taker.ask("get b");
    assert_eq!(answer.out, [format!("{}\t4\tb", id_of(b"same"))]);
    assert!(answer.err.iter().any(|line| line == "b is here already"), "{answer:?}");
    assert_eq!((folder.read("a").unwrap(), folder.read("b").unwrap()), (b"mine".to_vec(), b"same".to_vec()));
}

#[test]
fn a_signal_in_the_midst_of_a_get_leaves_no_file_and_the_next_start_goes_on() {
    let bytes = noise(1, 200 << 20);
    let (tracker, ..) = &swarm(&[("big", &bytes)]);
    let folder = Folder::new();
    let mut taker = peer("taker", folder.path(), tracker.address, &[]);
    taker.joined();
    taker.send("get big");
    let partial = folder.join(".enjambre/partial").join(id_of(&bytes));
    wait_for(PATIENCE, "some of it is here", || fs::metadata(&partial).is_ok_and(|file| file.len() > 10 << 20));
    taker.signal(Signal::TERM);
    assert_eq!(taker.exited().code(), Some(0));
    // Whole, where the machine was faster than the signal.
    let whole = folder.read("big").is_some_and(|here| here == bytes);
    assert!(whole || !folder.join("big").exists());
    let taker = peer("taker", folder.path(), tracker.address, &[]);
    if !whole {
        taker.wait_for_line(0, "it goes on", |line| line.text.starts_with("resuming: ").then_some(()));
        wait_for(PATIENCE, "the file is there", || folder.join("big").exists());
    }
    assert!(folder.read("big").unwrap() == bytes);
}
