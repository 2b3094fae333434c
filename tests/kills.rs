//! `kill -9` of peers and trackers, some two hundred times: at points of uploads, downloads, publishing and saving
//! (`src/peer/share/kill.rs`), in the midst of a write, and at random times. After each, invariants 1, 3 and 4 are
//! looked at: what was acknowledged is there and right, nothing else stands under a name but what was sent whole, a
//! download goes on with exactly the pieces that were here, and searches are whole again.
//!
//! `KILLS=2000 cargo test --test kills` for more of them, `SEED=7` for the same chances once more.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use support::*;

/// Swarms that are killed beside each other.
const LANES: u64 = 4;
const KILLS: u64 = 216;
const PIECE: usize = 32 << 10;
/// Of the trackers: how long they believe, and within what searches are whole again.
const LEASE: Duration = Duration::from_secs(5);
/// A point that is not reached in so long has been missed.
const LIFE: Duration = Duration::from_secs(3);

/// Each point, and how often it may be passed before it kills.
const POINTS: [(&str, u64); 17] = [
    ("identity-written", 1),
    ("upload-begun", 4),
    ("upload-written", 6),
    ("upload-synced", 4),
    ("list-written", 3),
    ("named", 4),
    ("name-synced", 4),
    ("recorded", 4),
    ("job-written", 1),
    ("job-named", 1),
    ("download-written", 12),
    ("download-cut", 1),
    ("download-synced", 1),
    ("job-done", 1),
    ("job-forgotten", 1),
    ("index-written", 1),
    ("index-named", 1),
];
/// Points that are passed while a peer starts.
const AT_THE_START: [&str; 3] = ["identity-written", "index-written", "index-named"];

/// How a life of a peer is to end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// At a point, when it is passed for the n-th time.
    At(&'static str, u64),
    /// In the midst of the write that makes a file longer than that.
    Write(u64),
    /// As [`End::Write`], so many bytes into what is next appended to the saved index.
    Append(u64),
    After(Duration),
    /// As [`End::After`], and the tracker is killed before.
    Tracker(Duration),
}

/// xorshift64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What the victim's folder may and must hold.
#[derive(Default)]
struct Ledger {
    /// Everything that was ever to get a name, whether it did or not.
    tried: BTreeMap<String, Vec<u8>>,
    acknowledged: BTreeSet<String>,
}

/// A download that a record on disk is about.
struct Job {
    path: String,
    partial: PathBuf,
    /// Of its content.
    pieces: usize,
    /// Those that are here.
    here: usize,
}

struct Lane {
    chance: Chance,
    tracker: Process,
    seed: Process,
    _seed_folder: Folder,
    folder: Folder,
    /// Tells the victim where to die.
    order: PathBuf,
    ledger: Ledger,
    /// Files so far, for their names.
    files: u64,
    /// What is wanted of the seed, so that each life has a download.
    contents: u64,
    /// How often what has killed.
    killed: BTreeMap<&'static str, u64>,
}

#[test]
fn whenever_a_peer_or_a_tracker_is_killed_no_file_is_wrong_and_none_is_lost() {
    if std::env::var_os("TEST_BINARIES").is_some() {
        return println!("skipped: only binaries that were built for tests die at points");
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number("KILLS").unwrap_or(KILLS);
    let seed = number("SEED").unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
    println!("SEED={seed}");
    let total = Mutex::new(BTreeMap::<&str, u64>::new());
    thread::scope(|scope| {
        for number in 0..LANES {
            let total = &total;
            scope.spawn(move || {
                let mut lane = Lane::begin(seed.wrapping_mul(2 * LANES + 1) + number + 1);
                for life in 0.. {
                    if lane.killed.values().sum::<u64>() >= kills.div_ceil(LANES) {
                        break;
                    }
                    let end = lane.end(number, life);
                    lane.live(end);
                }
                lane.last_life();
                let mut total = total.lock().unwrap();
                lane.killed.iter().for_each(|(what, times)| *total.entry(what).or_default() += times);
            });
        }
    });
    let total = total.into_inner().unwrap();
    let sum: u64 = total.values().sum();
    println!("{sum} kills, no file wrong or lost: {total:?}");
    assert!(sum >= kills);
    for (point, _) in POINTS {
        assert!(total.contains_key(point), "nobody was killed at {point}: {total:?}");
    }
    for other in ["write", "append", "random", "tracker"] {
        assert!(total.contains_key(other), "nobody was killed by {other}: {total:?}");
    }
}

impl Lane {
    fn begin(seed: u64) -> Self {
        let tracker = tracker(&["--lease", &LEASE.as_secs().to_string()]);
        let (seed_folder, folder) = (Folder::new(), Folder::new());
        let seeder = peer("seed", seed_folder.path(), tracker.address, &[]);
        seeder.joined();
        Self {
            chance: Chance(seed),
            tracker,
            seed: seeder,
            order: seed_folder.join(".enjambre/order"),
            _seed_folder: seed_folder,
            folder,
            ledger: Ledger::default(),
            files: 0,
            contents: 0,
            killed: BTreeMap::new(),
        }
    }

    /// How the `life`-th life of a lane is to end: every point in turn, and other ends between them.
    fn end(&mut self, lane: u64, life: u64) -> End {
        let (turn, is_other) = (life / 3 * 2 + life % 3, life % 3 == 2);
        if is_other {
            let after = Duration::from_millis(self.chance.below(150));
            return match (life / 3 + lane) % 4 {
                0 => End::Write(1 + self.chance.below(200_000)),
                1 => End::Append(1 + self.chance.below(200)),
                2 => End::After(after),
                _ => End::Tracker(after),
            };
        }
        // Lanes begin apart, so that few lives see every point; a new folder comes first.
        let place = if life == 0 { 0 } else { 1 + (turn + lane * 4) as usize % (POINTS.len() - 1) };
        let (point, most) = POINTS[place];
        End::At(point, 1 + self.chance.below(most))
    }

    /// One life of the victim: it starts, is looked at, works, and is killed.
    fn live(&mut self, end: End) {
        let at_start = matches!(end, End::At(point, _) if AT_THE_START.contains(&point));
        if let End::At("index-written" | "index-named", _) = end {
            // What is damaged is written anew.
            let index = self.folder.join(".enjambre/index");
            fs::OpenOptions::new().append(true).create(true).open(index).unwrap().write_all(b"torn").unwrap();
        }
        let _ = fs::remove_file(&self.order);
        if at_start {
            self.give_order(end);
        }
        let job = self.job();
        let mut victim = self.start();
        let died = if at_start {
            dies(&mut victim)
        } else {
            self.check_life(&mut victim, job);
            self.work(&mut victim, end)
        };
        victim.kill();
        self.note_kill(&mut victim, end, died);
        self.check_folder();
        self.tidy();
    }

    fn give_order(&self, end: End) {
        if let End::At(point, times) = end {
            // In one step, lest half of it be read.
            let new = self.order.with_extension("new");
            fs::write(&new, format!("{point} {times}")).unwrap();
            fs::rename(new, &self.order).unwrap();
        }
    }

    fn start(&self) -> Process {
        let mut command = peer_command(["victim", "0"]);
        command.arg(self.folder.path()).args(["--bind", "127.0.0.1", "--tracker", &self.tracker.address.to_string()]);
        command.env("TEST_KILL_AT", &self.order);
        Process::spawn("victim", command)
    }

    fn note_kill(&mut self, victim: &mut Process, end: End, died: bool) {
        let signal = victim.exited().signal().and_then(Signal::from_named_raw);
        let what = match (signal, end) {
            (Some(Signal::XFSZ), End::Write(_)) => "write",
            (Some(Signal::XFSZ), End::Append(_)) => "append",
            (Some(Signal::KILL), End::At(point, _)) if died => point,
            // A point or a length that was not reached, too.
            (Some(Signal::KILL), _) => "random",
            (signal, end) => panic!("{end:?}: it died of {signal:?}"),
        };
        *self.killed.entry(what).or_default() += 1;
    }

    // ---- what a peer does until it dies ----------------------------------------------------------

    /// Whether it died before it was killed at last.
    fn work(&mut self, victim: &mut Process, end: End) -> bool {
        let address = victim.address;
        // Small files only, so that the saved index is what grows too long.
        let most = if matches!(end, End::Append(_)) { 200 } else { 150_000 };
        if !matches!(end, End::Append(_)) {
            self.begin_download(victim);
        }
        match end {
            End::At(..) => self.give_order(end),
            End::Write(bytes) => limit_files(victim, bytes),
            End::Append(bytes) => {
                let index = fs::metadata(self.folder.join(".enjambre/index")).unwrap().len();
                limit_files(victim, index + bytes);
            }
            End::After(_) | End::Tracker(_) => {}
        }
        let is_over = AtomicBool::new(false);
        let (chance, first) = (self.chance.below(u64::MAX), self.files);
        let (tried, died, served) = thread::scope(|scope| {
            let is_over = &is_over;
            let uploads = scope.spawn(move || upload(address, Chance(chance | 1), first, most, is_over));
            let (mut died, mut served) = (false, true);
            match end {
                End::After(time) => thread::sleep(time),
                End::Tracker(time) => {
                    thread::sleep(time);
                    served = self.kill_tracker(address);
                }
                _ => died = dies(victim),
            }
            // In the midst of an upload, where nothing else has done it.
            victim.kill();
            is_over.store(true, Ordering::SeqCst);
            (uploads.join().unwrap(), died, served)
        });
        assert!(served, "nothing was served while the tracker was away");
        self.files += 1000;
        for (path, bytes, is_acknowledged) in tried {
            if is_acknowledged {
                self.ledger.acknowledged.insert(path.clone());
            }
            self.ledger.tried.insert(path, bytes);
        }
        died
    }

    /// Has the victim fetch a content of its own, if no other download is under way.
    fn begin_download(&mut self, victim: &mut Process) {
        if self.job().is_some() {
            return;
        }
        let number = self.contents;
        self.contents += 1;
        let (seed, length) = (self.chance.below(u64::MAX), self.chance.below(30 * PIECE as u64) as usize);
        let bytes = noise(seed, 12 * PIECE + 1 + length);
        put(self.seed.address, &format!("s/{number}"), &bytes);
        self.ledger.tried.insert(format!("v/d{number}"), bytes);
        wait_for(PATIENCE, "the seed has announced it", || self.search("s/*").contains(&format!("s/{number}")));
        victim.send(&format!("get s/{number} v/d{number}"));
    }

    /// Kills the tracker and starts it again where it was. Whether the victim served meanwhile.
    fn kill_tracker(&mut self, victim: SocketAddr) -> bool {
        self.tracker.kill();
        let served = get(victim, "/files").status == 200 && get(self.seed.address, "/files").status == 200;
        let address = self.tracker.address.to_string();
        self.tracker = tracker(&["--lease", &LEASE.as_secs().to_string(), "--listen", &address]);
        let back = Instant::now();
        let (seeds, known) = (self.contents as usize, self.ledger.acknowledged.clone());
        wait_for(LEASE, "searches are whole again", || {
            let found = self.search("v/*");
            self.search("s/*").len() == seeds && known.iter().all(|path| found.contains(path))
        });
        assert!(back.elapsed() <= LEASE);
        *self.killed.entry("tracker").or_default() += 1;
        served
    }

    // ---- what is looked at -----------------------------------------------------------------------

    fn search(&self, pattern: &str) -> BTreeSet<String> {
        // The tracker may be dying or coming just now.
        let found = block_on(async { find_all(&mut client(self.tracker.address), pattern).await });
        found.unwrap_or_default().into_iter().collect()
    }

    /// Invariants 1 and 3, while nobody runs: every file is what was sent, and none is missing.
    fn check_folder(&self) {
        let found = files(self.folder.path());
        for path in &found {
            let tried = self.ledger.tried.get(path).unwrap_or_else(|| panic!("{path} was never sent"));
            assert!(self.folder.read(path).as_ref() == Some(tried), "{path} is not what was sent");
        }
        for path in &self.ledger.acknowledged {
            assert!(found.contains(path), "{path} was acknowledged and is lost");
        }
    }

    /// The download that is recorded, as it stands on disk.
    fn job(&self) -> Option<Job> {
        let records = fs::read_dir(self.folder.join(".enjambre/jobs")).ok()?;
        let names = records.map(|record| record.unwrap().file_name().into_string().unwrap());
        let names: Vec<_> = names.filter(|name| name != "new").collect();
        assert!(names.len() <= 1, "one download at a time: {names:?}");
        let id = names.first()?.split('.').next()?.to_owned();
        let is_meant = |bytes: &[u8]| blake3::hash(bytes).to_string() == id;
        let downloads = self.ledger.tried.iter().filter(|(path, _)| path.starts_with("v/d"));
        let (path, bytes) =
            downloads.rev().find(|(_, bytes)| is_meant(bytes)).expect("a record is of what was asked for");
        let partial = self.folder.join(".enjambre/partial").join(&id);
        let held = fs::read(&partial).unwrap_or_default();
        let pieces = bytes.chunks(PIECE).enumerate();
        let is_here =
            |(number, piece): &(usize, &[u8])| held.get(number * PIECE..).is_some_and(|held| held.starts_with(piece));
        Some(Job { path: path.clone(), partial, pieces: pieces.len(), here: pieces.filter(is_here).count() })
    }

    /// Invariants 3 and 4, once it runs again: the download goes on with what was here, and searches find all.
    fn check_life(&mut self, victim: &mut Process, job: Option<Job>) {
        victim.address = victim.serving();
        if let Some(Job { path, partial, pieces, here }) = job {
            let is_named = self.folder.join(&path).exists();
            wait_for(PATIENCE, "the download goes on to its end", || self.folder.join(&path).exists());
            wait_for(PATIENCE, "its record goes", || self.job().is_none());
            assert!(
                self.folder.read(&path).as_ref() == self.ledger.tried.get(&path),
                "{path} is not what was asked for"
            );
            let lines = victim.lines();
            let resumed = lines.iter().find_map(|line| line.text.strip_prefix("resuming: "));
            let expected = (here > 0 && !is_named).then(|| format!("{here} of {pieces} pieces are here"));
            assert_eq!(resumed, expected.as_deref(), "{path}");
            assert!(!partial.exists(), "something is left of {path}");
            self.ledger.acknowledged.insert(path);
        }
        let expected = files(self.folder.path());
        wait_for(PATIENCE, "searches are whole again", || self.search("v/*") == expected);
        let left = fs::read_dir(self.folder.join(".enjambre/tmp")).unwrap();
        assert_eq!(left.count(), 0, "something is left of uploads");
    }

    /// Keeps the folder small: files that are removed while nobody looks.
    fn tidy(&mut self) {
        let found = files(self.folder.path());
        if found.len() > 60 {
            for path in found.iter().take(40) {
                fs::remove_file(self.folder.join(path)).unwrap();
                self.ledger.acknowledged.remove(path);
            }
        }
    }

    /// All that is there is served, byte for byte.
    fn last_life(&mut self) {
        let _ = fs::remove_file(&self.order);
        let job = self.job();
        let mut victim = self.start();
        self.check_life(&mut victim, job);
        for path in files(self.folder.path()) {
            assert!(get(victim.address, &format!("/files/{path}")).body == self.ledger.tried[&path], "{path}");
        }
    }
}

/// Uploads one file after the other, until it is over or nobody answers; what was sent, and whether it was
/// acknowledged.
fn upload(
    to: SocketAddr,
    mut chance: Chance,
    first: u64,
    most: u64,
    is_over: &AtomicBool,
) -> Vec<(String, Vec<u8>, bool)> {
    let mut tried = Vec::new();
    for number in first..first + 1000 {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let bytes = noise(number * 7919 + first, chance.below(most) as usize);
        let path = if number % 3 == 0 { format!("v/{}/u{number}", number % 7) } else { format!("v/u{number}") };
        let answer = try_request(to, "PUT", &format!("/files/{path}"), &[], &bytes);
        let is_acknowledged = answer.as_ref().is_ok_and(|answer| answer.status == 201);
        tried.push((path, bytes, is_acknowledged));
        match answer {
            Ok(answer) => assert_eq!(answer.status, 201, "{}", answer.text()),
            Err(_) => break,
        }
    }
    tried
}

/// Whether a process dies of what it was told to.
fn dies(process: &mut Process) -> bool {
    let deadline = Instant::now() + LIFE;
    while process.is_running() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    !process.is_running()
}

/// Has the kernel kill a process that makes a file longer than that (setrlimit(2), `RLIMIT_FSIZE`).
fn limit_files(process: &Process, bytes: u64) {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let pid = Pid::from_raw(process.id() as i32);
    prlimit(pid, Resource::Core, limit(0)).unwrap();
    prlimit(pid, Resource::Fsize, limit(bytes)).unwrap();
}

/// The paths of all files of a share.
fn files(share: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![share.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_name() == ".enjambre" {
            } else if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(share).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}
