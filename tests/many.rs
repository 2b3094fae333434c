//! `get` of a pattern that matches many files: every match arrives, or is an error of its own.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use enjambre::proto::{AnnounceRequest, File};
use support::*;

/// What belongs under a name of `many`.
fn bytes_of(number: usize) -> Vec<u8> {
    noise(number as u64, 100 + number % 1000)
}

/// Writes so many small files below `logs/`, in folders of a hundred.
fn many(folder: &Folder, numbers: std::ops::Range<usize>) {
    for number in numbers {
        folder.write(path_of(number), bytes_of(number));
    }
}

fn path_of(number: usize) -> String {
    format!("logs/{:02}/{number:05}", number / 100)
}

/// Waits until the tracker names these files, full hundreds of them, with so many sources.
fn wait_for_all(peer: &mut Process, numbers: std::ops::Range<usize>, sources: u32) {
    for hundred in numbers.clone().step_by(100) {
        let paths = (hundred..numbers.end.min(hundred + 100)).map(path_of);
        wait_for(PATIENCE, "all files are announced", || {
            let rows = peer.search(&format!("logs/{:02}/0", hundred / 100));
            paths.clone().all(|path| rows.iter().any(|row| row.path == path && row.sources >= sources))
        });
    }
}

/// Which of the files below `logs/` are here; each must be whole and right.
fn here(folder: &Folder, count: usize) -> Vec<usize> {
    let mut here = Vec::new();
    for number in 0..count {
        if let Some(bytes) = folder.read(path_of(number)) {
            assert!(bytes == bytes_of(number), "{} is there with other content", path_of(number));
            here.push(number);
        }
    }
    here
}

#[test]
fn every_match_arrives_though_there_are_more_than_a_page_holds() {
    const COUNT: usize = 2500;
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    many(&seed_folder, 0..COUNT);
    let (large, longest) = (noise(1, 300_000), noise(2, 32 << 10));
    seed_folder.write("logs/00/large", &large);
    seed_folder.write("logs/00/longest", &longest);
    seed_folder.write("logs/00/empty", "");
    seed_folder.write("logs/00/empty too", "");
    seed_folder.write("other", "not asked for");
    let _seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let mut getter = peer("getter", folder.path(), tracker.address, &[]);
    getter.joined();
    wait_for_all(&mut getter, 0..COUNT, 1);

    let answer = getter.ask("get 'logs/*'");
    assert_eq!((answer.error(), answer.out.len()), (None, COUNT + 4), "{:?}", answer.err);
    assert_eq!(here(&folder, COUNT).len(), COUNT);
    assert!(folder.read("logs/00/large").unwrap() == large);
    assert!(folder.read("logs/00/longest").unwrap() == longest);
    assert_eq!(folder.read("logs/00/empty too").unwrap(), b"");
    assert_eq!(folder.read("other"), None);
    let mut paths: Vec<_> = answer.out.iter().map(|line| Fetched::parse(line).path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), COUNT + 4, "every file has one line");
    let summary = answer.err.last().unwrap();
    assert!(
        summary.starts_with("fetched 2503 files from seed: ") && summary.ends_with("; 1 file one by one"),
        "{summary}"
    );
    assert!(answer.err.len() <= 3, "small files have no line of their own: {:?}", answer.err);
    // They are offered by now.
    assert_eq!(getter.search(&path_of(COUNT - 1))[0].source_ids, ["getter", "seed"]);
    assert_eq!(fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count(), 0);

    let again = getter.ask("get 'logs/*'");
    assert_eq!((again.error(), again.out.len()), (None, COUNT + 4), "{:?}", again.err);
    assert_eq!(again.err, ["2504 files here already"]);
}

#[test]
fn what_stands_in_the_way_of_one_file_holds_no_other_up() {
    const COUNT: usize = 300;
    let tracker = tracker(&[]);
    let (seed_folder, other_folder, folder) = (Folder::new(), Folder::new(), Folder::new());
    many(&seed_folder, 0..COUNT);
    other_folder.write(path_of(20), "another content under the same path");
    folder.write(path_of(10), "mine");
    folder.write(path_of(11), bytes_of(11));
    // A folder where a file should go, and a file where a folder should.
    fs::create_dir_all(folder.join(path_of(12))).unwrap();
    folder.write("logs/02", "a file");
    let _seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let _other = peer("other", other_folder.path(), tracker.address, &[]);
    let mut getter = peer("getter", folder.path(), tracker.address, &[]);
    getter.joined();
    wait_for(PATIENCE, "all files are announced", || getter.search("logs/*").len() == COUNT + 3);

    let answer = getter.ask("get 'logs/*/*'");
    let errors: Vec<_> = answer.err.iter().filter_map(|line| line.strip_prefix("error: ")).collect();
    for (number, says) in [(10, "names 2 contents"), (20, "names 2 contents"), (12, "something else has that name")] {
        let path = path_of(number);
        assert!(errors.iter().any(|error| error.contains(&path) && error.contains(says)), "{path}: {errors:?}");
    }
    assert_eq!(errors.iter().filter(|error| error.contains("logs/02/")).count(), 100, "{errors:?}");
    assert_eq!(errors.len(), 103, "{errors:?}");
    assert_eq!(answer.out.len(), COUNT - 103);
    for number in (0..200).filter(|number| ![10, 12, 20].contains(number)) {
        assert!(folder.read(path_of(number)).is_some_and(|bytes| bytes == bytes_of(number)), "{}", path_of(number));
    }
    assert_eq!(folder.read(path_of(10)).unwrap(), b"mine");
    assert_eq!(folder.read("logs/02").unwrap(), b"a file");
    assert_eq!(folder.read(path_of(20)), None);
    let summary = answer.err.last().unwrap();
    assert!(
        summary.starts_with("fetched 196 files from seed: ")
            && summary.contains("; 1 file here already; 103 files failed"),
        "{summary}"
    );
}

#[test]
fn a_source_that_dies_in_the_middle_is_left_for_another_and_without_one_all_ends_soon() {
    // Less than a page: what a dead peer alone had is no match of a later one.
    const COUNT: usize = 800;
    let tracker = tracker(&["--allow-advertise"]);
    let (seed_folder, other_folder, folder) = (Folder::new(), Folder::new(), Folder::new());
    many(&seed_folder, 0..COUNT);
    many(&other_folder, 0..COUNT / 2);
    let near = Ipv4Addr::new(127, 0, 0, 3);
    let mut seed = peer("seed", seed_folder.path(), tracker.address, &["--advertise", &near.to_string()]);
    let gate = Proxy::start_at((near, seed.address.port()).into(), seed.address);
    gate.allow(200 << 10);
    let _other = peer("other", other_folder.path(), tracker.address, &[]);
    let mut getter = peer("getter", folder.path(), tracker.address, &[]);
    getter.joined();
    wait_for_all(&mut getter, 0..COUNT / 2, 2);
    wait_for_all(&mut getter, COUNT / 2..COUNT, 1);

    let from = getter.lines().len();
    getter.send("get 'logs/*'");
    wait_for(PATIENCE, "some files are here", || !here(&folder, COUNT).is_empty());
    // By now the seed has no more bytes to give; it dies with files under way.
    wait_for(PATIENCE, "the seed's link is full", || gate.allowance() < 4096);
    seed.kill();
    let summary = getter.wait_for_line(from, "the get ends", |line| {
        line.text.contains("failed").then(|| line.text.starts_with("fetched ").then(|| line.text.clone())).flatten()
    });
    assert!(summary.contains("other"), "{summary}");
    let lines = getter.lines();
    let errors = lines[from..].iter().filter(|line| line.text.starts_with("error: ")).count();
    let results = lines[from..].iter().filter(|line| line.stream == Stream::Out).count();
    let arrived = here(&folder, COUNT);
    assert_eq!((results, results + errors), (arrived.len(), COUNT));
    assert!(arrived.len() < COUNT, "the seed died too late for this test");
    for number in 0..COUNT / 2 {
        assert!(arrived.contains(&number), "{} has another source", path_of(number));
    }
    assert!(lines[from..].iter().any(|line| line.text.starts_with("seed (127.0.0.3:")), "it is named");
}

/// A source that answers every question with as many wrong bytes as were asked for.
fn liar() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || lie(client.unwrap()));
        }
    });
    port
}

fn lie(mut client: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(client.try_clone().ok()?).lines();
    loop {
        let mut end = None;
        for line in lines.by_ref() {
            let line = line.ok()?;
            if let Some(range) = line.strip_prefix("range: bytes=0-") {
                end = range.parse::<usize>().ok();
            } else if line.is_empty() {
                break;
            }
        }
        let length = end? + 1;
        let head = format!(
            "HTTP/1.1 206 OK\r\nContent-Length: {length}\r\nContent-Range: bytes 0-{}/{length}\r\n\r\n",
            length - 1
        );
        client.write_all(head.as_bytes()).ok()?;
        client.write_all(&vec![b'x'; length]).ok()?;
    }
}

#[test]
fn a_liar_among_the_sources_is_named_and_every_file_comes_from_another() {
    const COUNT: usize = 400;
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    many(&seed_folder, 0..COUNT);
    let _seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let mut getter = peer("getter", folder.path(), tracker.address, &[]);
    getter.joined();
    block_on(async {
        let (mut client, token) = announce(tracker.address, "liar", liar(), "bait", b"bait").await;
        let file = |number| {
            let bytes = bytes_of(number);
            File { path: path_of(number), content: blake3::hash(&bytes).as_bytes().to_vec(), size: bytes.len() as u64 }
        };
        let added = (0..COUNT).map(file).collect();
        client.announce(AnnounceRequest { token, added, ..AnnounceRequest::default() }).await.unwrap();
    });
    wait_for_all(&mut getter, 0..COUNT, 2);

    let answer = getter.ask("get 'logs/*'");
    assert_eq!((answer.error(), answer.out.len()), (None, COUNT), "{:?}", answer.err);
    assert_eq!(here(&folder, COUNT).len(), COUNT);
    let named =
        answer.err.iter().filter(|line| line.starts_with("liar (") && line.contains("sent wrong bytes")).count();
    assert_eq!(named, 1, "{:?}", answer.err);
    let summary = answer.err.last().unwrap();
    assert!(summary.starts_with("fetched 400 files from seed: "), "{summary}");
    let alone = getter.ask("get bait");
    assert!(alone.error().is_some_and(|error| error.contains("wrong bytes")), "{alone:?}");
}

#[test]
fn invariant_3_a_peer_killed_amid_many_files_has_whole_ones_only_and_goes_on() {
    const COUNT: usize = 1500;
    let tracker = tracker(&["--allow-advertise"]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    many(&seed_folder, 0..COUNT);
    let near = Ipv4Addr::new(127, 0, 0, 4);
    let seed = peer("seed", seed_folder.path(), tracker.address, &["--advertise", &near.to_string()]);
    let gate = Proxy::start_at((near, seed.address.port()).into(), seed.address);
    gate.allow(0);
    let mut before = 0;
    for _ in 0..4 {
        let mut victim = peer("getter", folder.path(), tracker.address, &[]);
        victim.joined();
        wait_for_all(&mut victim, 0..COUNT, 1);
        victim.send("get 'logs/*'");
        gate.allow(300 << 10);
        wait_for(PATIENCE, "more files are here", || here(&folder, COUNT).len() > before);
        victim.kill();
        before = here(&folder, COUNT).len();
        assert!(before < COUNT, "it was never killed under way");
    }
    gate.allow(usize::MAX / 2);
    let mut victim = peer("getter", folder.path(), tracker.address, &[]);
    victim.joined();
    assert_eq!(fs::read_dir(folder.join(".enjambre/tmp")).unwrap().count(), 0, "what was on its way is gone");
    let answer = victim.ask("get 'logs/*'");
    assert_eq!((answer.error(), answer.out.len()), (None, COUNT), "{:?}", answer.err);
    assert_eq!(here(&folder, COUNT).len(), COUNT);
}
