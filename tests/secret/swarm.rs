//! A swarm, and what a person is told of its secret.

use std::{
    fs::{self, Permissions},
    io,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    thread,
};

use enjambre::proto::{AnnounceRequest, File};
use tonic::Request;

use super::{
    HALF, Home, NO_TRACKER, SECRET, WRONG, authorized, basic, bearer, channel, joining, nothing_is_said_of_it,
    support::*,
};

#[test]
fn a_swarm_with_a_secret_uploads_searches_and_gets() {
    let (home, other) = (Home::new(), Home::new());
    // A file with a line end, and the variable: both are the same secret.
    home.keep(&format!("{SECRET}\n"));
    let mut command = tracker_command(["--listen", "127.0.0.1:0"]);
    command.env("ENJAMBRE_SECRET", SECRET);
    let tracker = tracker_by(command);
    let first = home.peer("first", tracker.address, &[]);
    let mut second = other.peer("second", tracker.address, &[]);
    first.joined();
    let bytes = noise(5, 3 << 20);
    assert_eq!(authorized(first.address, "PUT", "/files/up/big.bin", &basic("", SECRET), &bytes).status, 201);
    wait_for(PATIENCE, "the upload is found", || second.search("big.bin").len() == 1);
    assert_eq!(second.get("up/big.bin").unwrap().content, blake3::hash(&bytes).to_string());
    assert_eq!(other.share.read("up/big.bin").unwrap(), bytes);
    // Small files come another way.
    for number in 0..20 {
        home.share.write(format!("small/{number}"), format!("small {number}"));
    }
    wait_for(PATIENCE, "all are found", || second.search("small/*").len() == 20);
    assert_eq!(second.ask("get small/*").out.len(), 20);

    // Whoever has none, or another, is told so and ends.
    let folder = Folder::new();
    for (secret, sentence) in [(None, "give --secret-file FILE or ENJAMBRE_SECRET"), (Some(WRONG), "another secret")] {
        let mut command = peer_command(["stranger", "0"]);
        command.arg(folder.path()).args(["--tracker", &tracker.address.to_string(), "--bind", "127.0.0.1"]);
        command.envs(secret.map(|secret| ("ENJAMBRE_SECRET", secret)));
        let mut stranger = Process::spawn("stranger", command);
        assert_eq!(stranger.exited().code(), Some(1));
        stranger.wait_for_line(0, sentence, |line| {
            (line.text.starts_with("error: the tracker refuses") && line.text.contains(sentence)).then_some(())
        });
        nothing_is_said_of_it(&[&stranger]);
    }
    nothing_is_said_of_it(&[&tracker, &first, &second]);
}

#[test]
fn several_trackers_have_one_secret() {
    let Some(etcd) = Etcd::start() else { return };
    let (home, other) = (Home::new(), Home::new());
    let mut first = home.tracker(&["--store", &etcd.store()]);
    let second = home.tracker(&["--store", &etcd.store()]);
    let trackers = format!("{},{}", first.address, second.address);
    let (path, only) = (home.secret.join("secret").display().to_string(), second.address.to_string());
    let seed = peer_of("seed", home.share.path(), &trackers, &["--secret-file", &path]);
    let mut asker = peer_of("asker", other.share.path(), &only, &["--secret-file", &path]);
    seed.joined();
    asker.joined();
    wait_for(PATIENCE, "both are found", || asker.search("a.txt").iter().map(|row| row.sources).sum::<u32>() == 2);
    first.kill();
    home.share.write("b.txt", "new");
    wait_for(PATIENCE, "the seed goes on at the second", || asker.search("b.txt").len() == 1);
    assert_eq!(asker.get("b.txt").unwrap().size, 3);
}

#[test]
fn a_source_with_another_secret_is_named() {
    let (home, folder) = (Home::new(), Folder::new());
    let tracker = tracker(&[]);
    // The tracker has none, and does not look at what it is sent.
    let seed = home.peer("seed", tracker.address, &[]);
    let mut peer = peer("other", folder.path(), tracker.address, &[]);
    seed.joined();
    wait_for(PATIENCE, "a.txt is found", || peer.search("a.txt").len() == 1);
    let error = peer.get("a.txt").unwrap_err();
    assert!(
        error.contains("seed") && error.contains("wants another secret than this peer has (status 401)"),
        "{error}"
    );
}

#[test]
fn the_secret_does_not_follow_a_source_to_another_place() {
    const BYTES: &[u8] = &[7; 100_000];
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = elsewhere.local_addr().unwrap();
    let source = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = source.local_addr().unwrap().port();
    let asked = thread::spawn(move || {
        let mut proofs = 0;
        for stream in source.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]);
            if head.starts_with("STOP") {
                return proofs;
            }
            proofs += usize::from(head.contains(&format!("authorization: {}\r\n", bearer(SECRET))));
            let answer =
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{target}/x\r\nContent-Length: 0\r\n\r\n");
            let _ = io::Write::write_all(&mut stream, answer.as_bytes());
        }
        unreachable!("a listener has no end")
    });
    let home = Home::new();
    let tracker = home.tracker(&[]);
    block_on(async {
        let channel = channel(tracker.address).await;
        let mut client =
            enjambre::proto::tracker_client::TrackerClient::with_interceptor(channel, |mut request: Request<()>| {
                request.metadata_mut().insert("authorization", bearer(SECRET).parse().unwrap());
                Ok(request)
            });
        let token = client.join(joining("liar", port, "")).await.unwrap().into_inner().token;
        let file =
            File { path: "x.bin".into(), content: blake3::hash(BYTES).as_bytes().to_vec(), size: BYTES.len() as u64 };
        client.announce(AnnounceRequest { token, added: vec![file], ..AnnounceRequest::default() }).await.unwrap();
    });
    let mut peer = home.peer("victim", tracker.address, &[]);
    peer.joined();
    let error = peer.get("x.bin").unwrap_err();
    assert!(error.contains("liar") && error.contains("307"), "{error}");
    Connection::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).send("STOP").unwrap();
    assert!(asked.join().unwrap() > 0, "the source itself is sent the secret");
    elsewhere.set_nonblocking(true).unwrap();
    assert_eq!(elsewhere.accept().map(|_| ()).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it went there");
}

// ---- command lines ------------------------------------------------------------------------------------

#[test]
fn a_secret_that_is_none_is_refused_without_being_told() {
    let home = Home::new();
    let peer_args = ["p".to_owned(), "0".to_owned(), home.share.path().display().to_string()];
    let bad =
        ["", "short", &"x".repeat(129), &format!("{SECRET} {SECRET}"), &format!("{SECRET}\n\n"), &format!("{SECRET}é")];
    for (number, text) in bad.into_iter().enumerate() {
        home.keep(text);
        for command in
            [tracker_command(home.flags(&[])), peer_command(peer_args.iter().cloned().chain(home.flags(&[])))]
        {
            let done = run(command, "");
            assert_eq!(done.code, Some(2), "{number}: {}", done.err);
            assert!(done.err.starts_with("error: --secret-file /") && done.err.contains("16 to 128"), "{}", done.err);
            assert!(text.is_empty() || !done.err.contains(text.trim()), "{}", done.err);
        }
        if !text.is_empty() {
            let mut command = tracker_command([""; 0]);
            command.env("ENJAMBRE_SECRET", text);
            let done = run(command, "");
            assert!(
                done.code == Some(2) && done.err.starts_with("error: ENJAMBRE_SECRET: a secret is"),
                "{}",
                done.err
            );
            assert!(!done.err.contains(text.trim()), "{}", done.err);
        }
    }
    let missing = run(tracker_command(["--secret-file", "/nowhere/secret"]), "");
    assert!(missing.code == Some(2) && missing.err.contains("/nowhere/secret: No such file"), "{}", missing.err);
    for args in [vec!["--secret", SECRET], vec!["--secret=0123456789abcdef-0"]] {
        let done = run(tracker_command(args), "");
        assert!(done.code == Some(2) && done.err.contains("unknown flag --secret:"), "{}", done.err);
        assert!(!done.err.contains(HALF), "{}", done.err);
    }
    let mut command = peer_command(peer_args);
    command.arg("--public-read");
    let done = run(command, "");
    assert!(done.code == Some(2) && done.err.contains("takes a secret"), "{}", done.err);
}

#[test]
fn a_secret_that_everybody_can_read_is_told_of_and_so_is_none_at_all() {
    let home = Home::new();
    fs::set_permissions(home.secret.join("secret"), Permissions::from_mode(0o644)).unwrap();
    let open = home.tracker(&[]);
    open.wait_for_line(0, "a warning", |line| line.text.contains("everybody on this machine can read").then_some(()));
    home.keep(SECRET);
    let warns = |process: &Process| process.lines().iter().any(|line| line.text.contains("can read"));
    assert!(!warns(&home.tracker(&[])));

    let none = |args: &[&str]| {
        let peer = peer("p", Folder::new().path(), NO_TRACKER, args);
        // What it says of its tracker comes after what it says of itself.
        peer.wait_for_line(0, "its tracker is away", |line| line.text.contains("is away").then_some(()));
        peer.lines().iter().filter(|line| line.text.starts_with("no secret is set: whoever reaches port ")).count()
    };
    assert_eq!(none(&["--bind", "0.0.0.0"]), 1);
    assert_eq!(none(&["--bind", "127.0.0.1"]), 0);
    assert_eq!(none(&["--bind", "0.0.0.0", "--secret-file", &home.secret.join("secret").display().to_string()]), 0);
}
