//! A tracker that lies, and sources that do as it says: nothing is written outside the share, nothing beyond what was asked
//! for, and nothing that is wrong gets a name.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use blake3::{Hasher, hazmat::HasherExt};
use enjambre::proto::{AnnounceRequest, File, Found, JoinRequest, Place, Source};
use support::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A peer that no tracker knows, with a file.
fn hidden(bytes: &[u8]) -> (Process, Folder) {
    let folder = Folder::new();
    folder.write("f.bin", bytes);
    let hidden = peer("hidden", folder.path(), "127.0.0.1:1".parse().unwrap(), &[]);
    wait_for(PATIENCE, "the file is shared", || get(hidden.address, "/files/f.bin").status == 200);
    (hidden, folder)
}

/// A lie: files of such paths have this content id and size, and are there.
fn lie(paths: &[&str], content: &[u8], size: u64, at: SocketAddr) -> LyingTracker {
    let row = |path: &&str| Found {
        path: (*path).to_owned(),
        content: content.to_vec(),
        size,
        sources: 1,
        source_ids: vec!["p".into()],
    };
    let (peer_id, address) = ("p".to_owned(), at.to_string());
    LyingTracker {
        found: paths.iter().map(row).collect(),
        places: vec![Place { peer_id: peer_id.clone(), address: address.clone(), zone: String::new() }],
        sources: vec![Source { peer_id, address, zone: String::new(), size, partial: false }],
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..LyingTracker::default()
    }
}

/// Tries each of these on a thread of its own: they mostly wait.
fn at_once<T: Send, const N: usize>(cases: [T; N], check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        cases.into_iter().for_each(|case| {
            _ = scope.spawn({
                let check = &check;
                move || check(case)
            })
        })
    });
}

/// Everything in a folder but the peer's own, by path; and the bytes that all of it takes on disk.
fn found_in(folder: &Path) -> (Vec<String>, u64) {
    let (mut names, mut bytes, mut folders) = (Vec::new(), 0, vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            let (place, what) = (entry.path(), entry.metadata().unwrap());
            bytes += what.blocks() * 512;
            if what.is_dir() {
                folders.push(place.clone());
            }
            let name = place.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            if !name.starts_with(".enjambre") {
                names.push(name);
            }
        }
    }
    (names, bytes)
}

#[test]
fn names_that_a_tracker_makes_up_lead_nowhere() {
    const BYTES: &[u8] = b"some bytes";
    let (source, _folder) = hidden(BYTES);
    let id = blake3::hash(BYTES);
    let long = "x".repeat(2000);
    let deep = "d/".repeat(200) + "x";
    let names = [
        "../outside.bin",
        "a/../../outside.bin",
        "/tmp/enjambre-outside.bin",
        "link/outside.bin",
        ".enjambre/identity",
        ".hidden",
        "a//b",
        "",
        ".",
        "..",
        "a\nb",
        "a\0b",
        "a\u{202e}b",
        &long,
        &deep,
    ];
    let source = source.address;
    at_once(names, |name| {
        let parent = Folder::new();
        let (share, outside) = (parent.join("share"), parent.join("elsewhere"));
        fs::create_dir(&share).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, share.join("link")).unwrap();
        let tracker = lie(&[name], id.as_bytes(), BYTES.len() as u64, source).start(LOOPBACK);
        let mut victim = peer("victim", &share, tracker, &[]);
        victim.joined();
        let identity = fs::read(share.join(".enjambre/identity")).unwrap();
        // By pattern, by id, and by as much of the name as a line can hold.
        let literal = name.replace(['\n', '\0', '\\', '\''], "?");
        for get in ["'*'", &id.to_string(), &format!("'{literal}'")] {
            let answer = victim.ask(&format!("get {get}"));
            let written = found_in(&share).0;
            let is_safe = |path: &String| path == "link" || path.parse::<enjambre::name::SharePath>().is_ok();
            assert!(written.iter().all(is_safe), "{name:?}: get {get}: {written:?}");
            assert!(answer.out.is_empty() || written.len() > 1, "{name:?}: get {get}: {answer:?}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name:?}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "{name:?}");
        assert_eq!(fs::read(share.join(".enjambre/identity")).unwrap(), identity, "{name:?}");
        assert!(!Path::new("/tmp/enjambre-outside.bin").exists());
        assert!(victim.is_running(), "{name:?}");
    });
}

#[test]
fn ids_that_a_tracker_makes_up_give_nothing_a_name() {
    const BYTES: &[u8] = b"some bytes";
    let (source, _folder) = hidden(BYTES);
    let other = blake3::hash(b"other bytes");
    let source = source.address;
    at_once([&other.as_bytes()[..], &[], &[7; 31], &[7; 33]], |id| {
        let folder = Folder::new();
        let tracker = lie(&["x.bin"], id, BYTES.len() as u64, source).start(LOOPBACK);
        let mut victim = peer("victim", folder.path(), tracker, &[]);
        victim.joined();
        for get in ["x.bin", "'x*'", &format!("{other} y.bin")] {
            let answer = victim.ask(&format!("get {get}"));
            assert!(answer.error().is_some() && answer.out.is_empty(), "{id:?}: get {get}: {answer:?}");
        }
        assert_eq!(found_in(folder.path()).0, Vec::<String>::new(), "{id:?}");
    });
}

#[test]
fn sizes_that_a_tracker_makes_up_give_nothing_a_name_and_take_no_room() {
    let bytes = noise(3, 300 << 10);
    let (source, _folder) = hidden(&bytes);
    let id = blake3::hash(&bytes);
    let size = bytes.len() as u64;
    let source = source.address;
    at_once([0, 1, size - 1, size + 1, 2 * size, 1 << 40, 1 << 62, (1 << 62) + 1, u64::MAX], |false_size| {
        let folder = Folder::new();
        let tracker = lie(&["x.bin"], id.as_bytes(), false_size, source).start(LOOPBACK);
        let mut victim = peer("victim", folder.path(), tracker, &[]);
        victim.joined();
        for get in ["x.bin", "'x*'", &format!("{id} y.bin")] {
            let answer = victim.ask(&format!("get {get}"));
            assert!(answer.error().is_some() && answer.out.is_empty(), "{false_size}: get {get}: {answer:?}");
        }
        let (names, room) = found_in(folder.path());
        assert_eq!(names, Vec::<String>::new(), "{false_size}");
        assert!(room < 1 << 20, "{false_size}: {room} bytes are taken");
    });
    // The truth, told in the same way, works.
    let folder = Folder::new();
    let tracker = lie(&["x.bin"], id.as_bytes(), size, source).start(LOOPBACK);
    let mut getter = peer("getter", folder.path(), tracker, &[]);
    getter.joined();
    assert!(getter.get("x.bin").is_ok());
    assert!(folder.read("x.bin").unwrap() == bytes);
}

/// The bytes of a leaf of BLAKE3: a list of their values folds as well as one of pieces.
const LEAF: usize = 1 << 10;

/// A source that hands out, as the piece list of `content`, the values of its leaves, and zeros for pieces.
fn source_of_leaves(content: &[u8]) -> (SocketAddr, Arc<AtomicU64>) {
    let leaf = |(number, leaf): (usize, &[u8])| {
        Hasher::new().set_input_offset((number * LEAF) as u64).update(leaf).finalize_non_root()
    };
    let list: Arc<Vec<u8>> = Arc::new(content.chunks(LEAF).enumerate().flat_map(leaf).collect());
    let sent = Arc::<AtomicU64>::default();
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let counted = Arc::clone(&sent);
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (list, sent) = (Arc::clone(&list), Arc::clone(&counted));
            thread::spawn(move || answer_with_zeros(stream, &list, &sent));
        }
    });
    (address, sent)
}

fn answer_with_zeros(mut to: TcpStream, list: &[u8], sent: &AtomicU64) -> Option<()> {
    let mut lines = BufReader::new(to.try_clone().ok()?).lines();
    loop {
        let head: Vec<String> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        if head.first()?.contains("/pieces") {
            write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", list.len()).ok()?;
            to.write_all(list).ok()?;
            continue;
        }
        let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="))?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let length = last + 1 - first;
        let lines = format!("Content-Range: bytes {range}/{CLAIMED}\r\nContent-Length: {length}");
        write!(to, "HTTP/1.1 206 Partial Content\r\n{lines}\r\n\r\n").ok()?;
        to.write_all(&vec![0; length as usize]).ok()?;
        sent.fetch_add(length, Ordering::Relaxed);
    }
}

/// What is claimed of a content of 4,097 leaves: so many pieces of 1 MiB.
const CLAIMED: u64 = 4097 << 20;

#[test]
fn a_false_size_that_the_list_bears_out_has_nothing_written() {
    let bytes = noise(4, 4097 * LEAF);
    let id = blake3::hash(&bytes);
    let (source, sent) = source_of_leaves(&bytes);
    let folder = Folder::new();
    let tracker = lie(&["x.bin"], id.as_bytes(), CLAIMED, source).start(LOOPBACK);
    let mut victim = peer("victim", folder.path(), tracker, &["--keep-free", "0"]);
    victim.joined();
    let answer = victim.ask(&format!("get {id} x.bin"));
    let error = answer.error().unwrap_or_else(|| panic!("{answer:?}"));
    assert!(error.contains("sent wrong bytes"), "{error}");
    assert!(sent.load(Ordering::Relaxed) >= 1 << 20, "no piece came");
    let (names, room) = found_in(folder.path());
    assert_eq!(names, Vec::<String>::new());
    assert!(room < 1 << 20, "{room} bytes are taken");
}

#[test]
fn a_claim_for_which_there_is_no_room_does_not_keep_the_true_size_out() {
    let bytes = noise(5, 8192 * LEAF);
    let id = blake3::hash(&bytes);
    let (source, _) = source_of_leaves(&bytes);
    let tracker = tracker(&[]);
    block_on(async {
        let mut liar = client(tracker.address);
        let (identity, port) = (vec![7; 32], source.port().into());
        let join = JoinRequest { peer_id: "liar".into(), identity, port, ..JoinRequest::default() };
        let token = liar.join(join).await.unwrap().into_inner().token;
        let file = File { path: "x.bin".into(), content: id.as_bytes().to_vec(), size: 8192 << 32 };
        liar.announce(AnnounceRequest { token, added: vec![file], ..AnnounceRequest::default() }).await.unwrap();
    });
    let folder = Folder::new();
    let mut victim = peer("victim", folder.path(), tracker.address, &[]);
    victim.joined();
    victim.send(&format!("get {id} x.bin"));
    victim.wait_for_line(0, "it waits", |line| line.text.contains("x.bin paused: ").then_some(()));
    let honest_folder = Folder::new();
    honest_folder.write("x.bin", &bytes);
    let _honest = peer("honest", honest_folder.path(), tracker.address, &[]);
    wait_for(PATIENCE, "the file is there", || folder.join("x.bin").exists());
    assert!(folder.read("x.bin").unwrap() == bytes);
}
