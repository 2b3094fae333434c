//! Downloads through restarts, cancels, full disks and long times: what was wanted goes on by itself with
//! what is on disk, and what is not wanted leaves nothing.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use support::*;

const PIECE: usize = 32 << 10;
/// So many, and a short one.
const PIECES: usize = 40;

/// A whole source that sends as many pieces as it is allowed to, and remembers what it was asked for.
struct Source {
    address: SocketAddr,
    bytes: Vec<u8>,
    id: String,
    allowed: AtomicUsize,
    /// Requests of an earlier life of the peer are not answered any more.
    life: AtomicUsize,
    /// It hangs up on everybody.
    is_gone: AtomicBool,
    asked: Mutex<Vec<Range<usize>>>,
}

impl Source {
    fn start(bytes: Vec<u8>, allowed: usize) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let source = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            id: blake3::hash(&bytes).to_string(),
            bytes,
            allowed: AtomicUsize::new(allowed),
            life: AtomicUsize::new(0),
            is_gone: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&source);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let source = Arc::clone(&serving);
                thread::spawn(move || source.serve(stream));
            }
        });
        source
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let life = self.life.load(Ordering::SeqCst);
        let mut input = BufReader::new(stream.try_clone().ok()?);
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
            (!self.is_gone.load(Ordering::SeqCst)).then_some(())?;
            if head[0].contains("/pieces") {
                let mut hasher = enjambre::content::PieceHasher::default();
                hasher.update(&self.bytes);
                let list = hasher.finish().1.to_bytes();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", list.len()).ok()?;
                stream.write_all(&list).ok()?;
                continue;
            }
            let Some(range) = head.iter().find_map(|line| line.strip_prefix("range: bytes=")) else {
                write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?;
                continue;
            };
            let (first, last) = range.split_once('-')?;
            let range = first.parse().ok()?..last.parse::<usize>().ok()? + 1;
            self.asked.lock().unwrap().push(range.clone());
            let body = self.bytes.get(range.clone())?;
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\n\r\n",
                self.bytes.len(),
                body.len()
            )
            .ok()?;
            for piece in body.chunks(PIECE) {
                while self.allowed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
                {
                    thread::sleep(Duration::from_millis(5));
                    (self.life.load(Ordering::SeqCst) == life).then_some(())?;
                }
                stream.write_all(piece).ok()?;
            }
        }
    }

    fn allow(&self, pieces: usize) {
        self.allowed.store(pieces, Ordering::SeqCst);
    }

    /// The pieces asked for since the last time, sorted.
    fn take_asked(&self) -> Vec<usize> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let mut pieces: Vec<_> =
            asked.into_iter().flat_map(|range| range.start / PIECE..range.end.div_ceil(PIECE)).collect();
        pieces.sort();
        pieces
    }
}

/// A peer whose download of `f.bin` stands still after ten pieces, and what belongs to it.
struct Scene {
    tracker: Process,
    source: Arc<Source>,
    folder: Folder,
    victim: Process,
    /// What has come, in order.
    held: Vec<usize>,
}

const FOR_EVER: usize = usize::MAX / 2;

impl Scene {
    fn begin() -> Self {
        Self::begin_in(Folder::new())
    }

    fn begin_in(folder: Folder) -> Self {
        // The source does not renew its lease.
        let tracker = tracker(&["--lease", "600"]);
        let source = Source::start(noise(31, PIECES * PIECE + 17), 10);
        block_on(announce(tracker.address, "source", source.address.port(), "f.bin", &source.bytes));
        let mut victim = peer("victim", folder.path(), tracker.address, &[]);
        victim.joined();
        victim.send("get f.bin");
        let mut scene = Self { tracker, source, folder, victim, held: Vec::new() };
        scene.wait_for_pieces(10);
        scene
    }

    fn wait_for_pieces(&mut self, pieces: usize) {
        wait_for(PATIENCE, "pieces are here", || {
            let numbers = get(self.victim.address, &format!("/content/{}/have?since=0", self.source.id)).body;
            self.held = numbers.as_chunks::<2>().0.iter().map(|number| u16::from_be_bytes(*number).into()).collect();
            self.held.len() == pieces
        });
    }

    /// Kills the peer.
    fn kill(&mut self) {
        self.victim.kill();
        self.source.life.fetch_add(1, Ordering::SeqCst);
        self.source.take_asked();
    }

    /// Starts it again.
    fn restart(&mut self) {
        self.victim = peer("victim", self.folder.path(), self.tracker.address, &[]);
        self.victim.joined();
    }

    fn partial(&self) -> PathBuf {
        self.folder.join(".enjambre/partial").join(&self.source.id)
    }

    fn wait_until_here(&self) {
        wait_for(PATIENCE, "the file is here", || self.folder.read("f.bin").is_some());
        assert!(self.folder.read("f.bin").unwrap() == self.source.bytes);
        wait_for(PATIENCE, "nothing is left of the download", || is_clean(&self.folder));
    }

    /// The rows of `downloads`.
    fn downloads(&mut self) -> Vec<Vec<String>> {
        let rows = self.victim.ask("downloads").out;
        // Behind the first five stand the number, and the rate, which is never the same twice.
        rows.iter().map(|row| row.split('\t').take(5).map(str::to_owned).collect()).collect()
    }

    fn lines(&self, part: &str) -> usize {
        self.victim.lines().iter().filter(|line| line.text.contains(part)).count()
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn is_clean(folder: &Folder) -> bool {
    ["jobs", "partial"].iter().all(|name| names(&folder.join(".enjambre").join(name)).is_empty())
}

/// The one record there is.
fn record(folder: &Folder) -> PathBuf {
    let jobs = folder.join(".enjambre/jobs");
    let [name] = &names(&jobs)[..] else { panic!("one record, not {:?}", names(&jobs)) };
    jobs.join(name)
}

#[test]
fn a_killed_download_goes_on_by_itself_and_asks_only_for_what_is_not_here() {
    let mut scene = Scene::begin();
    scene.kill();
    // One piece is spoilt: that one has to come again.
    let spoilt = scene.held[3];
    let file = fs::OpenOptions::new().write(true).open(scene.partial()).unwrap();
    file.write_all_at(b"spoilt", (spoilt * PIECE + 100) as u64).unwrap();
    scene.source.allow(5);
    scene.restart();
    scene.wait_for_pieces(14);
    // And once more, in the midst of what goes on by itself.
    let held = scene.held.clone();
    let asked = scene.source.take_asked();
    assert!(asked.contains(&spoilt) || !held.contains(&spoilt));
    scene.kill();
    scene.source.allow(FOR_EVER);
    scene.restart();
    scene.wait_until_here();
    let missing: Vec<_> = (0..=PIECES).filter(|piece| !held.contains(piece)).collect();
    assert_eq!(scene.source.take_asked(), missing);
    assert_eq!(scene.lines("going on with f.bin"), 1);
    assert_eq!(get(scene.victim.address, "/files/f.bin").status, 200);
    // It is found at the peer from then on.
    wait_for(PATIENCE, "it is offered", || scene.victim.search("f.bin").iter().any(|row| row.sources == 2));
}

#[test]
fn a_signal_stops_a_download_at_once_and_the_next_start_goes_on() {
    let mut scene = Scene::begin();
    let began = Instant::now();
    scene.victim.signal(Signal::TERM);
    assert_eq!(scene.victim.exited().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    scene.kill();
    assert!(scene.partial().exists() && record(&scene.folder).exists());
    scene.source.allow(FOR_EVER);
    scene.restart();
    scene.wait_until_here();
    let missing: Vec<_> = (0..=PIECES).filter(|piece| !scene.held.contains(piece)).collect();
    assert_eq!(scene.source.take_asked(), missing);
}

#[test]
fn a_get_of_what_goes_on_by_itself_waits_for_it() {
    let mut scene = Scene::begin();
    scene.kill();
    scene.source.allow(2);
    scene.restart();
    scene.wait_for_pieces(12);
    let (size, here) = (scene.source.bytes.len().to_string(), (12 * PIECE).to_string());
    let row = [&scene.source.id, &size, &here, "running", "f.bin"].map(str::to_owned);
    wait_for(PATIENCE, "it is listed", || scene.downloads() == [row.clone()]);
    let id = scene.source.id.clone();
    thread::scope(|scope| {
        let source = &scene.source;
        let victim = &mut scene.victim;
        let waiting = scope.spawn(move || (victim.get("f.bin"), victim.get(&format!("{id} again.bin"))));
        source.allow(FOR_EVER);
        let (first, second) = waiting.join().unwrap();
        assert_eq!((first.unwrap().path, second.unwrap().path), ("f.bin".to_owned(), "again.bin".to_owned()));
    });
    scene.wait_until_here();
    let missing: Vec<_> = (0..=PIECES).filter(|piece| !scene.held[..10].contains(piece)).collect();
    assert_eq!(scene.source.take_asked(), missing, "each came once");
    assert!(scene.downloads().is_empty());
}

#[test]
fn cancel_removes_what_goes_on_by_itself_and_it_does_not_come_back() {
    for by_id in [false, true] {
        let mut scene = Scene::begin();
        scene.kill();
        scene.restart();
        wait_for(PATIENCE, "it runs", || !scene.source.asked.lock().unwrap().is_empty());
        let what = if by_id { scene.source.id.clone() } else { "f.bin".to_owned() };
        let answer = scene.victim.ask(&format!("cancel {what}"));
        assert!(answer.error().is_none() && answer.err.contains(&format!("cancelled {what}")), "{answer:?}");
        assert!(is_clean(&scene.folder) && scene.downloads().is_empty());
        assert!(scene.victim.ask(&format!("cancel {what}")).error().is_some_and(|error| error.contains("no download")));
        scene.kill();
        scene.restart();
        assert!(scene.downloads().is_empty());
        assert_eq!((scene.lines("going on"), scene.source.take_asked()), (0, vec![]));
        // What is asked for again begins from nothing.
        scene.source.allow(FOR_EVER);
        assert_eq!(scene.victim.get("f.bin").unwrap().path, "f.bin");
        assert_eq!(scene.source.take_asked(), (0..=PIECES).collect::<Vec<_>>());
    }
}

#[test]
fn cancel_names_what_it_cannot_choose_between() {
    let mut scene = Scene::begin();
    scene.kill();
    // The same content is wanted at two paths.
    let (content, line) = (scene.source.id.clone(), format!("{} g.bin", scene.source.id));
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
    let name = format!(".enjambre/jobs/{content}.{}", hash("g.bin"));
    scene.folder.write(name, format!("enjambre job 1\n{} {line}\n", hash(&line)));
    scene.restart();
    wait_for(PATIENCE, "one of them runs", || scene.downloads().iter().any(|row| row[3] == "running"));
    let rows = scene.downloads();
    assert_eq!(rows.iter().filter(|row| row[3] == "waiting").count(), 1, "{rows:?}");
    let answer = scene.victim.ask(&format!("cancel {content}"));
    assert!(answer.err.contains(&"  f.bin".to_owned()) && answer.err.contains(&"  g.bin".to_owned()), "{answer:?}");
    // The one that waits takes nothing from the one that runs.
    let waiting = rows.iter().find(|row| row[3] == "waiting").unwrap()[4].clone();
    assert_eq!(scene.victim.ask(&format!("cancel {waiting}")).error(), None);
    assert!(scene.partial().exists());
    assert_eq!(scene.downloads().len(), 1);
    for bad in ["cancel", "cancel a b", "cancel nothing.bin", "downloads now"] {
        assert!(scene.victim.ask(bad).error().is_some(), "{bad}");
    }
}

#[test]
fn what_failed_is_left_and_a_get_goes_on_from_it_and_cancel_removes_it() {
    for is_cancelled in [true, false] {
        let mut scene = Scene::begin();
        // The source goes: the get ends with an error, as there is nobody else.
        scene.source.allow(FOR_EVER);
        scene.source.life.fetch_add(1, Ordering::SeqCst);
        scene.source.is_gone.store(true, Ordering::SeqCst);
        scene.victim.wait_long_for_line(2 * PATIENCE, 0, "the get has failed", |line| {
            line.text.starts_with("error: f.bin: no source could deliver it").then_some(())
        });
        let rows = scene.downloads();
        assert_eq!((rows.len(), rows[0][0] == scene.source.id, rows[0][3].as_str()), (1, true, "left"), "{rows:?}");
        assert!(names(&scene.folder.join(".enjambre/jobs")).is_empty());
        // Nobody waits for it, so a restart does not go on.
        scene.kill();
        scene.restart();
        assert_eq!((scene.downloads().len(), scene.lines("going on")), (1, 0));
        scene.source.is_gone.store(false, Ordering::SeqCst);
        if is_cancelled {
            let answer = scene.victim.ask(&format!("cancel {}", scene.source.id));
            assert_eq!(answer.error(), None);
            assert!(is_clean(&scene.folder) && scene.downloads().is_empty());
        } else {
            let answer = scene.victim.ask("get f.bin");
            assert!(answer.error().is_none() && answer.err.iter().any(|line| line.starts_with("resuming: ")));
            scene.wait_until_here();
        }
    }
}

#[test]
fn without_a_source_a_download_waits_says_so_once_and_goes_on_when_there_is_one() {
    let mut scene = Scene::begin();
    scene.kill();
    scene.source.is_gone.store(true, Ordering::SeqCst);
    scene.source.allow(FOR_EVER);
    // A tracker that knows nobody, in the same place.
    let address = scene.tracker.address.to_string();
    scene.tracker.kill();
    scene.tracker = tracker(&["--listen", &address, "--lease", "600"]);
    scene.restart();
    let waits = "f.bin waits, and is tried again now and then: no peer offers it now";
    wait_for(PATIENCE, "it says that it waits", || scene.lines(waits) == 1);
    let rows = scene.downloads();
    assert_eq!((rows[0][3].as_str(), rows[0][2] != "0"), ("waiting", true), "{rows:?}");
    // A get of it is answered, and takes nothing away.
    let id = &scene.source.id;
    let error = scene.victim.get(&format!("{id} f.bin")).unwrap_err();
    assert!(error.contains("no peer offers it now: try again later"), "{error}");
    scene.source.is_gone.store(false, Ordering::SeqCst);
    let Source { address, bytes, .. } = &*scene.source;
    block_on(announce(scene.tracker.address, "source", address.port(), "f.bin", bytes));
    scene.wait_until_here();
    wait_for(PATIENCE, "it is told", || scene.lines("f.bin is here") == 1);
    assert_eq!(scene.lines(waits), 1);
}

#[test]
fn a_path_that_was_taken_meanwhile_ends_a_download_and_its_data_are_left() {
    let mut scene = Scene::begin();
    scene.kill();
    scene.restart();
    wait_for(PATIENCE, "it runs", || !scene.source.asked.lock().unwrap().is_empty());
    scene.folder.write("f.bin", "mine");
    scene.source.allow(FOR_EVER);
    scene.victim.wait_for_line(0, "the conflict is told", |line| {
        line.text.starts_with("error: f.bin: something else has that name").then_some(())
    });
    assert_eq!(scene.folder.read("f.bin").unwrap(), b"mine");
    wait_for(PATIENCE, "its record goes", || names(&scene.folder.join(".enjambre/jobs")).is_empty());
    assert_eq!(scene.downloads()[0][3], "left");
    scene.source.take_asked();
    let id = scene.source.id.clone();
    assert_eq!(scene.victim.get(&format!("{id} other.bin")).unwrap().path, "other.bin");
    assert!(scene.source.take_asked().is_empty());
    assert!(scene.folder.read("other.bin").unwrap() == scene.source.bytes && is_clean(&scene.folder));
}

#[test]
fn a_record_of_a_newer_format_is_left_alone_and_a_damaged_one_is_dropped() {
    let mut scene = Scene::begin();
    scene.kill();
    let record = record(&scene.folder);
    let text = fs::read_to_string(&record).unwrap();
    let newer = text.replace("enjambre job 1\n", "enjambre job 2\n");
    fs::write(&record, &newer).unwrap();
    make_old(&record);
    make_old(&scene.partial());
    scene.restart();
    let content = scene.source.id.clone();
    assert!(scene.downloads().is_empty());
    assert!(scene.victim.ask(&format!("cancel {content}")).error().is_some());
    assert_eq!(scene.lines("has format 2 and this peer knows up to 1"), 1);
    assert!(fs::read_to_string(&record).unwrap() == newer && scene.partial().exists());
    scene.kill();
    fs::write(&record, &text[..text.len() - 3]).unwrap();
    scene.restart();
    assert_eq!(scene.lines("a damaged note of a download is dropped"), 1);
    assert!(!record.exists());
    assert_eq!(scene.lines("going on"), 0);
}

/// Makes a file eight days older than it is.
fn make_old(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn after_a_week_without_use_nothing_is_left_of_a_download() {
    for is_recorded in [true, false] {
        let mut scene = Scene::begin();
        scene.kill();
        let record = record(&scene.folder);
        make_old(&record);
        if !is_recorded {
            fs::remove_file(&record).unwrap();
        }
        // What was written lately is in use, whenever it was asked for.
        scene.restart();
        assert_eq!(scene.downloads().len(), 1);
        scene.kill();
        make_old(&scene.partial());
        if is_recorded {
            make_old(&record);
        }
        scene.restart();
        wait_for(PATIENCE, "nothing is left", || is_clean(&scene.folder));
        assert!(scene.downloads().is_empty());
        assert_eq!(scene.lines("f.bin is given up"), usize::from(is_recorded));
    }
}

#[test]
fn a_full_disk_pauses_a_download_until_there_is_room() {
    in_a_namespace("--mount", "mount -t tmpfs -o size=3m none /mnt", "inner_a_full_disk_pauses_a_download");
}

#[test]
fn a_disk_without_room_for_a_folder_pauses_what_is_whole_but_for_its_name() {
    let setup = "mount -t tmpfs -o size=8m,nr_inodes=64 none /mnt";
    in_a_namespace("--mount", setup, "inner_a_disk_without_room_for_a_folder");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_a_disk_without_room_for_a_folder() {
    let mut scene = Scene::begin_in(Folder::below(Path::new("/mnt")));
    scene.kill();
    fs::remove_file(record(&scene.folder)).unwrap();
    scene.restart();
    scene.source.allow(2);
    scene.victim.send(&format!("get {} sub/f.bin", scene.source.id));
    scene.wait_for_pieces(12);
    let fillers = (0..).map(|number| format!("/mnt/{number}")).take_while(|name| fs::write(name, "").is_ok());
    let fillers: Vec<_> = fillers.collect();
    scene.source.allow(FOR_EVER);
    let paused = "sub/f.bin paused: the disk is full, it goes on when there is room";
    scene.victim.wait_for_line(0, "it pauses", |line| (line.text == paused).then_some(()));
    assert!(!scene.folder.join("sub").exists());
    fillers.iter().for_each(|name| fs::remove_file(name).unwrap());
    scene.victim.wait_for_line(0, "the get is answered", |line| line.text.ends_with("\tsub/f.bin").then_some(()));
    assert!(scene.folder.read("sub/f.bin").unwrap() == scene.source.bytes && is_clean(&scene.folder));
    let missing: Vec<_> = (0..=PIECES).filter(|piece| !scene.held[..10].contains(piece)).collect();
    assert_eq!((scene.lines(paused), scene.source.take_asked()), (1, missing));
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_a_full_disk_pauses_a_download() {
    let mut scene = Scene::begin_in(Folder::below(Path::new("/mnt")));
    let filler = Path::new("/mnt/filler");
    // Whatever room there is: less than a piece stays free.
    let fill = || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(filler).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    };
    fill();
    scene.source.allow(FOR_EVER);
    let is_paused = |line: &Line| line.text.starts_with("f.bin paused: ").then_some(());
    scene.victim.wait_for_line(0, "it pauses", is_paused);
    assert_eq!(get(scene.victim.address, "/healthz").status, 200);
    // Too little room is none.
    fs::OpenOptions::new()
        .write(true)
        .open(filler)
        .unwrap()
        .set_len(fs::metadata(filler).unwrap().len() - 8192)
        .unwrap();
    // A start with a full disk pauses too.
    scene.kill();
    scene.restart();
    scene.victim.wait_for_line(0, "it pauses again", is_paused);
    let rows = scene.downloads();
    assert_eq!((rows.len(), rows[0][3].as_str()), (1, "paused"), "{rows:?}");
    assert_eq!(scene.victim.ask("list").error(), None, "other things go on");
    scene.source.take_asked();
    fs::remove_file(filler).unwrap();
    scene.victim.send(&format!("get {} f.bin", scene.source.id));
    scene.wait_until_here();
    let asked = scene.source.take_asked();
    assert!(scene.held.iter().all(|piece| !asked.contains(piece)), "{:?} were here: {asked:?}", scene.held);
    scene.victim.wait_for_line(0, "the get is answered", |line| line.text.ends_with("\tf.bin").then_some(()));
    assert_eq!(scene.lines("f.bin goes on: there is room again"), 1);
}

#[test]
fn a_peer_killed_right_after_it_gave_the_file_its_name_fetches_nothing_again() {
    let mut scene = Scene::begin();
    scene.kill();
    scene.folder.write("f.bin", &scene.source.bytes);
    scene.source.allow(FOR_EVER);
    scene.restart();
    wait_for(PATIENCE, "it is told", || scene.lines("f.bin is here") == 1);
    scene.wait_until_here();
    assert!(scene.source.take_asked().is_empty());
}
