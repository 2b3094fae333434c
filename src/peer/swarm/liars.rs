//! Downloads from sources that lie, stall and break: the right content or a clear error, always
//! ending.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU32},
    thread,
    time::{Duration, Instant},
};

use blake3::hazmat::{Mode, merge_subtrees_non_root};

use super::{Fetcher, Finder, GetError, Getter, Report, Watch, partial::Downloads};
use crate::{
    content::{ContentId, PieceHasher},
    limits,
    name::{PeerId, SharePath, Zone},
    peer::{
        link::{LinkError, Source},
        metrics::Metrics,
        share::{Lookup, Share},
    },
    size::KeepFree,
};

/// Eight pieces, the last one short.
const SIZE: usize = 7 * PIECE + 1000;
const PIECE: usize = 32 << 10;
const PATIENCE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Manner {
    Honest,
    /// One byte of a piece in the middle is wrong.
    WrongByte,
    WrongList,
    ListTooLong,
    ListTooShort,
    ListRedirects,
    ListHangs,
    /// Honest, and takes its time.
    Unhurried,
    /// Its have-map has half a number more.
    HaveOfOddLength,
    HaveWithoutEnd,
    /// Says that it holds everything, and has nothing.
    ClaimsAll,
    /// Claims pieces that there are not, and some that it has not.
    ClaimsMore,
    /// Gives as fresh what it was not asked for.
    FreshOthers,
    FreshWrong,
    /// Sends nothing behind the third piece: there it hangs up.
    StopsAtThree,
    /// Sends nothing behind the third piece: there it hangs.
    HangsAtThree,
    /// Says less is coming than was asked.
    SaysLess,
    SaysMore,
    OtherRange,
    NoRange,
    /// Stops in the middle and closes.
    BreaksOff,
    /// More follows than was said.
    Overflows,
    Chunked,
    Redirects,
    Lacks,
    Busy,
    NotHttp,
    EndlessHead,
    Hangs,
    HangsMidway,
    Drips,
    HangsUp,
    /// Nothing listens.
    Dead,
}

const LIARS: [Manner; 23] = {
    use Manner::*;
    [
        WrongByte,
        WrongList,
        ListTooLong,
        ListTooShort,
        ListRedirects,
        ListHangs,
        SaysLess,
        SaysMore,
        OtherRange,
        NoRange,
        BreaksOff,
        Overflows,
        Chunked,
        Redirects,
        Lacks,
        Busy,
        NotHttp,
        EndlessHead,
        Hangs,
        HangsMidway,
        Drips,
        HangsUp,
        Dead,
    ]
};

/// A source with manners of its own.
struct Peer {
    address: SocketAddr,
    /// The ranges it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn start(manner: Manner, content: &[u8]) -> Self {
        let list = Self::list(content);
        Self::with_list(manner, content, list)
    }

    fn list(content: &[u8]) -> Vec<u8> {
        let mut hasher = PieceHasher::default();
        hasher.update(content);
        hasher.finish().1.to_bytes()
    }

    fn with_list(manner: Manner, content: &[u8], list: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let peer = Self { address, asked: Arc::clone(&asked) };
        let content = content.to_vec();
        if manner != Manner::Dead {
            // Ends with the test's process.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (content, list, asked) = (content.clone(), list.clone(), Arc::clone(&asked));
                    thread::spawn(move || answer(manner, stream, &content, &list, &asked));
                }
            });
        }
        peer
    }
}

fn answer(manner: Manner, stream: TcpStream, content: &[u8], list: &[u8], asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut out = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            (input.read_line(&mut line).ok()? > 0).then_some(())?;
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_lowercase());
        }
        if head[0].contains("/pieces") {
            let mut list = list.to_vec();
            let mut status = "200 OK";
            match manner {
                Manner::WrongList => list[5] ^= 1,
                Manner::ListTooLong => list.extend(vec![7; 1 << 20]),
                Manner::ListTooShort => list.truncate(32),
                Manner::ListRedirects => status = "302 Found\r\nLocation: http://127.0.0.1:1/",
                Manner::ListHangs => thread::sleep(Duration::from_secs(60)),
                _ => {}
            }
            write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", list.len()).ok()?;
            out.write_all(&list).ok()?;
            continue;
        }
        if head[0].contains("/fresh") {
            let body = match manner {
                Manner::FreshWrong => vec![7; PIECE],
                Manner::FreshOthers => content[..PIECE].to_vec(),
                _ => {
                    // An ordinary web server, which leaves the choice to others.
                    write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?;
                    continue;
                }
            };
            asked.lock().unwrap().push("fresh".into());
            let first = head[0].split_once("of=")?.1.split_once('-')?.0;
            let first = if manner == Manner::FreshOthers { "9" } else { first };
            write!(out, "HTTP/1.1 200 OK\r\nEnjambre-Pieces: {first}-{first}\r\nContent-Length: {PIECE}\r\n\r\n")
                .ok()?;
            out.write_all(&body).ok()?;
            continue;
        }
        if head[0].contains("/have") {
            // One that downloads too, and has nothing yet.
            let (have, map, length) = match manner {
                Manner::HaveOfOddLength => ("1/8", vec![0, 1, 0], 3),
                Manner::HaveWithoutEnd => ("1/8", vec![0; 1 << 20], 1_u64 << 40),
                Manner::ClaimsAll => ("all", Vec::new(), 0),
                Manner::ClaimsMore => ("6/8", vec![0, 0, 0, 1, 0, 2, 0, 200, 255, 255, 0, 3], 12),
                _ => ("0/8", Vec::new(), 0),
            };
            write!(out, "HTTP/1.1 200 OK\r\nEnjambre-Have: {have}\r\nContent-Length: {length}\r\n\r\n").ok()?;
            out.write_all(&map).ok()?;
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="))?;
        asked.lock().unwrap().push(range.to_owned());
        let (first, last) = range.split_once('-')?;
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let mut body = content.get(first..=last)?.to_vec();
        let mut length = body.len();
        let mut status = "206 Partial Content";
        let mut extra = format!("Content-Range: bytes {first}-{last}/{}\r\n", content.len());
        let half = body.len() / 2;
        match manner {
            Manner::WrongByte => body[half] ^= 1,
            Manner::SaysLess => length -= 1,
            Manner::SaysMore => length += 1,
            Manner::OtherRange => extra = format!("Content-Range: bytes 0-{last}/{}\r\n", content.len() + 1),
            Manner::NoRange => (status, extra) = ("200 OK", String::new()),
            Manner::Overflows => body.extend(vec![7; 1 << 20]),
            Manner::Redirects => (status, extra) = ("302 Found", "Location: http://127.0.0.1:1/\r\n".into()),
            Manner::Lacks | Manner::ClaimsAll | Manner::ClaimsMore => status = "404 Not Found",
            Manner::Unhurried => thread::sleep(Duration::from_millis(100)),
            Manner::Busy => status = "503 Service Unavailable",
            Manner::HangsUp => return None,
            Manner::Hangs => thread::sleep(Duration::from_secs(60)),
            Manner::NotHttp => drop(out.write_all(b"\x1b[31mSSH-2.0-x\r\n\r\n")),
            Manner::EndlessHead => loop {
                out.write_all(b"HTTP/1.1 206 Partial Content\r\n").ok()?;
                (0..1000).try_for_each(|n| write!(out, "X-{n}: {}\r\n", "x".repeat(1000)).ok())?;
            },
            _ => {}
        }
        match manner {
            Manner::Chunked => {
                write!(out, "HTTP/1.1 {status}\r\n{extra}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n")
            }
            _ => write!(out, "HTTP/1.1 {status}\r\n{extra}Content-Length: {length}\r\n\r\n"),
        }
        .ok()?;
        match manner {
            Manner::BreaksOff => return out.write_all(&body[..half]).ok(),
            Manner::HangsMidway => {
                out.write_all(&body[..half]).ok()?;
                thread::sleep(Duration::from_secs(60));
            }
            Manner::Drips => {
                for byte in &body {
                    out.write_all(&[*byte]).ok()?;
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Manner::StopsAtThree | Manner::HangsAtThree if last >= 3 * PIECE => {
                out.write_all(&body[..(3 * PIECE).saturating_sub(first)]).ok()?;
                if manner == Manner::HangsAtThree {
                    thread::sleep(Duration::from_secs(60));
                }
                return None;
            }
            _ => out.write_all(&body).ok()?,
        }
    }
}

/// A share in a folder of its own, which goes when this is dropped.
struct Home {
    folder: PathBuf,
    share: Share,
}

impl Home {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("enjambre-liars-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let share = Share::open(&folder, "a test", KeepFree::default()).unwrap();
        share.start().unwrap();
        Self { folder, share }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Watch for Notes {
    fn progress(&self, done: u64, size: u64) {
        assert!(done <= size);
    }

    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

fn content() -> Vec<u8> {
    (0..SIZE as u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

fn source(name: &str, peer: &Peer, size: usize) -> Source {
    Source {
        peer: name.parse().unwrap(),
        address: peer.address,
        zone: Zone::default(),
        size: size as u64,
        is_partial: false,
    }
}

/// A swarm of these sources, who hold all of it.
struct Only(Vec<Source>);

impl Finder for Only {
    fn whole(&self, _: &ContentId) -> Result<Vec<Source>, LinkError> {
        Ok(self.0.clone())
    }

    fn neighbours(&self, _: &ContentId, _: u64, dead: &[PeerId]) -> Result<Vec<Source>, LinkError> {
        Ok(self.0.iter().filter(|source| !dead.contains(&source.peer)).cloned().collect())
    }

    fn end(&self, _: &ContentId) {}
}

fn get(home: &Home, id: &ContentId, path: &str, sources: &[Source]) -> (Result<Report, GetError>, Vec<String>) {
    get_seen_by(&Downloads::default(), home, id, path, sources)
}

fn get_seen_by(
    downloads: &Downloads,
    home: &Home,
    id: &ContentId,
    path: &str,
    sources: &[Source],
) -> (Result<Report, GetError>, Vec<String>) {
    get_by(&Fetcher::new(PATIENCE, limits::SOURCE_CONNECTIONS, None, None, None), downloads, home, id, path, sources)
}

fn get_by(
    fetcher: &Fetcher,
    downloads: &Downloads,
    home: &Home,
    id: &ContentId,
    path: &str,
    sources: &[Source],
) -> (Result<Report, GetError>, Vec<String>) {
    let notes = Notes::default();
    let getter = Getter {
        share: home.share.clone(),
        downloads: downloads.clone(),
        peer: "me".parse().unwrap(),
        zone: Zone::default(),
        finder: Arc::new(Only(sources.to_vec())),
        fetcher: fetcher.clone(),
        metrics: Metrics::default(),
    };
    let result = getter.get(id, &path.parse().unwrap(), &notes);
    (result, notes.0.into_inner().unwrap())
}

#[test]
fn a_liar_is_named_and_another_source_brings_the_content() {
    let content = content();
    let id = ContentId::of(&content);
    let honest = Peer::start(Manner::Honest, &content);
    thread::scope(|scope| {
        for manner in LIARS {
            let (content, honest) = (&content, &honest);
            scope.spawn(move || {
                let home = Home::new();
                let liar = Peer::start(manner, content);
                let began = Instant::now();
                let sources = [source("liar", &liar, SIZE), source("honest", honest, SIZE)];
                let (result, notes) = get(&home, &id, "a/b", &sources);
                let report = result.unwrap_or_else(|error| panic!("{manner:?}: {error}"));
                assert_eq!(fs::read(home.folder.join("a/b")).unwrap(), *content, "{manner:?}");
                assert!(began.elapsed() < Duration::from_secs(10), "{manner:?}");
                // An answer longer than it said is cut where it should have ended, and true so far; and
                // who merely takes long may not have been noticed before all was here.
                // A lie costs a piece, and a connection that has lied is the last: two are asked over at once.
                assert!(manner != Manner::WrongByte || liar.asked.lock().unwrap().len() <= 2, "{manner:?}");
                assert_eq!(report.fetched, SIZE as u64, "{manner:?}");
                let is_slow = matches!(manner, Manner::Hangs | Manner::HangsMidway | Manner::Drips);
                if manner != Manner::Overflows {
                    assert!(report.sources.contains(&"honest".parse().unwrap()), "{manner:?}");
                    let is_named = notes.iter().any(|note| note.starts_with(&format!("liar ({}) ", liar.address)));
                    assert!(is_named || is_slow, "{manner:?}: {notes:?}");
                }
                assert!(notes.iter().all(|note| !note.contains(char::is_control)), "{notes:?}");
            });
        }
    });
}

#[test]
fn with_nobody_but_liars_there_is_an_error_that_names_them_and_no_file() {
    let content = content();
    let id = ContentId::of(&content);
    thread::scope(|scope| {
        for manner in LIARS.into_iter().filter(|manner| *manner != Manner::Overflows) {
            let content = &content;
            scope.spawn(move || {
                let home = Home::new();
                let liar = Peer::start(manner, content);
                let began = Instant::now();
                let (result, _) = get(&home, &id, "a", &[source("liar", &liar, SIZE)]);
                let error = result.unwrap_err().to_string();
                assert!(error.contains("liar "), "{manner:?}: {error}");
                assert!(!error.contains(char::is_control), "{manner:?}: {error}");
                assert!(began.elapsed() < Duration::from_secs(10), "{manner:?}");
                assert!(!home.folder.join("a").exists(), "{manner:?}");
                // Though there are rounds, who lied or hung is in the first one only: it is asked over two connections at
                // once, and who hangs once more, after a rest.
                let asked = liar.asked.lock().unwrap().len();
                let most = match manner {
                    Manner::WrongByte => 2,
                    Manner::Hangs | Manner::HangsMidway | Manner::Drips => 4,
                    _ => usize::MAX,
                };
                assert!(asked <= most, "{manner:?}: asked {asked} times");
            });
        }
    });
}

#[test]
fn who_lies_about_what_it_has_or_gives_is_named_and_left() {
    let content = content();
    let id = ContentId::of(&content);
    let unhurried = Peer::start(Manner::Unhurried, &content);
    thread::scope(|scope| {
        use Manner::*;
        for (manner, is_partial) in [
            (HaveOfOddLength, true),
            (HaveWithoutEnd, true),
            (ClaimsAll, true),
            (ClaimsMore, true),
            (FreshOthers, false),
            (FreshWrong, false),
        ] {
            let (content, unhurried) = (&content, &unhurried);
            scope.spawn(move || {
                let home = Home::new();
                let (liar, idler) = (Peer::start(manner, content), Peer::start(Honest, content));
                let liar_source = Source { is_partial, ..source("liar", &liar, SIZE) };
                // Only where others download it too is a seed asked for what is fresh.
                let idler = Source { is_partial: true, ..source("idler", &idler, SIZE) };
                let began = Instant::now();
                let sources = [liar_source, idler, source("honest", unhurried, SIZE)];
                let (result, notes) = get(&home, &id, "a", &sources);
                let report = result.unwrap_or_else(|error| panic!("{manner:?}: {error}"));
                assert_eq!(fs::read(home.folder.join("a")).unwrap(), *content, "{manner:?}");
                assert_eq!(report.sources, ["honest".parse().unwrap()], "{manner:?}");
                let is_named = notes.iter().any(|note| note.starts_with(&format!("liar ({}) ", liar.address)));
                assert!(is_named, "{manner:?}: {notes:?}");
                assert!(began.elapsed() < Duration::from_secs(10), "{manner:?}");
            });
        }
    });
}

#[test]
fn a_download_goes_on_with_the_pieces_that_verify_again() {
    let content = content();
    let id = ContentId::of(&content);
    let home = Home::new();
    let breaks = Peer::start(Manner::StopsAtThree, &content);
    assert!(get(&home, &id, "a", &[source("breaks", &breaks, SIZE)]).0.is_err());
    let partial = home.folder.join(".enjambre/partial").join(id.to_string());
    // A byte that was true when it came is not any more.
    let file = fs::OpenOptions::new().write(true).open(partial).unwrap();
    file.write_all_at(&[content[PIECE] ^ 1], PIECE as u64).unwrap();
    drop(file);

    let honest = Peer::start(Manner::Honest, &content);
    let (result, notes) = get(&home, &id, "a", &[source("honest", &honest, SIZE)]);
    let report = result.unwrap();
    assert_eq!(fs::read(home.folder.join("a")).unwrap(), content);
    let asked = honest.asked.lock().unwrap().clone();
    // The spoilt one, and those behind the third.
    let firsts: Vec<usize> = asked.iter().map(|range| range.split_once('-').unwrap().0.parse().unwrap()).collect();
    assert!(firsts.iter().all(|first| *first == PIECE || *first >= 3 * PIECE), "{asked:?}");
    assert_eq!(report.fetched, (SIZE - 2 * PIECE) as u64);
    assert_eq!(notes[0], "resuming: 2 of 8 pieces are here");
    assert!(!home.folder.join(".enjambre/partial").join(id.to_string()).exists());
}

#[test]
fn pieces_are_given_on_while_the_rest_is_awaited() {
    let content = content();
    let id = ContentId::of(&content);
    let home = Home::new();
    let hangs = Peer::start(Manner::HangsAtThree, &content);
    let downloads = Downloads::default();
    thread::scope(|scope| {
        let getting = scope.spawn(|| get_seen_by(&downloads, &home, &id, "a", &[source("hangs", &hangs, SIZE)]));
        let deadline = Instant::now() + Duration::from_secs(10);
        let held = loop {
            let held = downloads.find(&id).filter(|download| download.since(0).1 > 0);
            assert!(Instant::now() < deadline && !getting.is_finished(), "no piece is given on");
            match held {
                Some(held) => break held,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let mut piece = vec![0; PIECE];
        let first = held.since(0).0[0].get();
        let start = first * PIECE;
        let piece = &mut piece[..(SIZE - start).min(PIECE)];
        held.file().read_exact_at(piece, start as u64).unwrap();
        assert_eq!(piece, &content[start..start + piece.len()]);
        assert!(!held.holds(&(0..SIZE as u64)));
        assert!(getting.join().unwrap().0.is_err());
    });
    assert!(downloads.find(&id).is_none());
}

#[test]
fn a_list_that_folds_under_a_false_size_fools_nobody() {
    // Eight whole pieces; in pairs they make a list that folds to the same id.
    let content = content().repeat(2)[..8 * PIECE].to_vec();
    let id = ContentId::of(&content);
    let list = Peer::list(&content);
    let pairs: Vec<u8> = (list.as_chunks::<32>().0.as_chunks::<2>().0.iter())
        .flat_map(|[left, right]| merge_subtrees_non_root(left, right, Mode::Hash))
        .collect();
    let claimed = 4 * PIECE;
    let liar = Peer::with_list(Manner::Honest, &content[..claimed], pairs);
    let honest = Peer::start(Manner::Honest, &content);
    let home = Home::new();
    let sources = [source("liar", &liar, claimed), source("honest", &honest, content.len())];
    let (result, notes) = get(&home, &id, "a", &sources);
    result.unwrap();
    assert_eq!(fs::read(home.folder.join("a")).unwrap(), content);
    assert!(notes.iter().any(|note| note.contains("sent wrong bytes (piece")), "{notes:?}");
}

#[test]
fn every_small_size_arrives_and_is_shared_from_then_on() {
    let home = Home::new();
    for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
        let content = &content()[..size];
        let id = ContentId::of(content);
        let honest = Peer::start(Manner::Honest, content);
        let path: SharePath = format!("f{size}").parse().unwrap();
        let report = get(&home, &id, path.as_str(), &[source("honest", &honest, size)]).0.unwrap();
        assert_eq!((report.size, report.fetched), (size as u64, size as u64));
        assert_eq!(fs::read(home.folder.join(path.as_str())).unwrap(), content);
        assert!(matches!(home.share.look_up(&path), Lookup::Known(entry) if entry.content == id));
    }
    // What is here under one name is not fetched for another.
    let id = ContentId::of(&content()[..3 * PIECE]);
    let report = get(&home, &id, "copy", &[]).0.unwrap();
    assert_eq!(report.copied.unwrap().as_str(), format!("f{}", 3 * PIECE));
    assert_eq!(fs::read(home.folder.join("copy")).unwrap(), &content()[..3 * PIECE]);
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let content = content();
    let id = ContentId::of(&content);
    let home = Home::new();
    fs::write(home.folder.join("a"), "mine").unwrap();
    let honest = Peer::start(Manner::Honest, &content);
    let error = get(&home, &id, "a", &[source("honest", &honest, SIZE)]).0.unwrap_err();
    assert!(matches!(&error, GetError::Conflict(path) if path.as_str() == "a"), "{error}");
    assert_eq!(fs::read(home.folder.join("a")).unwrap(), b"mine");
}

#[test]
fn a_content_that_nobody_has_is_an_error_that_says_so() {
    let home = Home::new();
    let me = Peer::start(Manner::Honest, b"");
    let error = get(&home, &ContentId::of(b"x"), "a", &[source("me", &me, 1)]).0.unwrap_err();
    assert!(matches!(error, GetError::NoSource), "{error}");
}

#[test]
fn the_only_connection_stays_with_no_source_that_has_nothing_of_use() {
    let content = content();
    let id = ContentId::of(&content);
    let (done, is_done) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let honest = source("honest", &Peer::start(Manner::Honest, &content), SIZE);
        for (manner, is_partial) in [(Manner::Honest, true), (Manner::Busy, false), (Manner::Hangs, false)] {
            let home = Home::new();
            let idler = Source { is_partial, ..source("idler", &Peer::start(manner, &content), SIZE) };
            let fetcher = Fetcher::new(PATIENCE, NonZeroUsize::MIN, None, None, None);
            let (result, _) = get_by(&fetcher, &Downloads::default(), &home, &id, "a", &[idler, honest.clone()]);
            assert_eq!(result.unwrap().sources, ["honest".parse().unwrap()], "{manner:?}");
        }
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(30)).expect("it ends");
}
