//! One of the swarms: a tracker, a seed, and a peer that is killed and started again; and what is looked at each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{
    Chance, End, LANES, POINTS, named,
    support::*,
    ways::{Feed, Way},
};

const PIECE: usize = 32 << 10;
/// Small files that are fetched together.
const BATCH: u64 = 12;
/// Of the trackers: how long they believe, and within what searches are whole again.
const LEASE: Duration = Duration::from_secs(5);
/// A point that is not reached in so long has been missed.
const LIFE: Duration = Duration::from_secs(3);

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

/// A swarm whose victim is killed, again and again.
pub(crate) struct Lane {
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
    /// Folders of small files that the seed has.
    batches: u64,
    /// How often what has killed.
    pub(crate) killed: BTreeMap<String, u64>,
}

impl Lane {
    pub(crate) fn begin(seed: u64) -> Self {
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
            batches: 0,
            killed: BTreeMap::new(),
        }
    }

    /// How the `life`-th life of a lane is to end: every point in turn, and other ends between them.
    pub(crate) fn end(&mut self, lane: u64, life: u64) -> End {
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
        let others = POINTS.len() as u64 - 1;
        let place = if life == 0 { 0 } else { 1 + (turn + lane * others / LANES) % others };
        let (way, point, most) = POINTS[place as usize];
        End::At(way, point, 1 + self.chance.below(most))
    }

    /// One life of the victim: it starts, is looked at, works, and is killed.
    pub(crate) fn live(&mut self, end: End) {
        let at_start = matches!(end, End::At(Way::Start, ..));
        if let End::At(_, "index-written" | "index-named", _) = end {
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
        // What it has said is here: the path ends the line.
        let said = victim.lines().into_iter().filter(|line| line.stream == Stream::Out);
        let said = said.filter_map(|line| line.text.split('\t').nth(2).map(str::to_owned));
        self.ledger.acknowledged.extend(said);
        self.check_folder();
        self.tidy();
    }

    fn give_order(&self, end: End) {
        if let End::At(_, point, times) = end {
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
            (Some(Signal::XFSZ), End::Write(_)) => "write".into(),
            (Some(Signal::XFSZ), End::Append(_)) => "append".into(),
            (Some(Signal::KILL), End::At(way, point, _)) if died => named(way, point),
            // A point or a length that was not reached, too.
            (Some(Signal::KILL), _) => "random".into(),
            (signal, end) => panic!("{end:?}: it died of {signal:?}"),
        };
        *self.killed.entry(what).or_default() += 1;
    }

    // ---- what a peer does until it dies ----------------------------------------------------------

    /// Whether it died before it was killed at last.
    fn work(&mut self, victim: &mut Process, end: End) -> bool {
        let way = match end {
            End::At(way, ..) => way,
            _ => [Way::Put, Way::Form, Way::Pattern, Way::Outside][self.chance.below(4) as usize],
        };
        // At a point, nothing else may pass it. Small files only, where the saved index is to grow too long.
        let mut commands = Vec::new();
        let is_download = way == Way::Get || matches!(end, End::Write(_) | End::After(_) | End::Tracker(_));
        if is_download {
            commands.push(self.download());
        }
        if way == Way::Pattern {
            commands.push(self.batch());
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
        // All at once: the first may be the end of it.
        if !commands.is_empty() {
            victim.send(&commands.join("\n"));
        }
        let most = if matches!(end, End::Append(_)) { 200 } else { 150_000 };
        let (to, share) = (victim.address, self.folder.path().to_owned());
        let feed = Feed { to, share, first: self.files, most, chance: Chance(self.chance.below(u64::MAX) | 1) };
        let is_over = AtomicBool::new(false);
        let (tried, died, served) = thread::scope(|scope| {
            let is_over = &is_over;
            let feeding = scope.spawn(move || feed.go(way, is_over));
            let (mut died, mut served) = (false, true);
            match end {
                End::After(time) => thread::sleep(time),
                End::Tracker(time) => {
                    thread::sleep(time);
                    served = self.kill_tracker(to);
                }
                _ => died = dies(victim),
            }
            // In the midst of an upload, where nothing else has done it.
            victim.kill();
            is_over.store(true, Ordering::SeqCst);
            (feeding.join().unwrap(), died, served)
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

    /// Some small files at the seed, and the command that fetches them together.
    fn batch(&mut self) -> String {
        let number = self.batches;
        self.batches += 1;
        let paths: BTreeSet<_> = (0..BATCH).map(|file| format!("b/{number}/{file}")).collect();
        for path in &paths {
            let (seed, length) = (self.chance.below(u64::MAX), self.chance.below(PIECE as u64) as usize);
            let bytes = noise(seed, length);
            put(self.seed.address, path, &bytes);
            self.ledger.tried.insert(path.clone(), bytes);
        }
        let pattern = format!("b/{number}/*");
        wait_for(PATIENCE, "the seed has announced them", || self.search(&pattern, 1) == paths);
        format!("get '{pattern}'")
    }

    /// A content at the seed, and the command that fetches it.
    fn download(&mut self) -> String {
        let number = self.contents;
        self.contents += 1;
        let (seed, length) = (self.chance.below(u64::MAX), self.chance.below(30 * PIECE as u64) as usize);
        let bytes = noise(seed, 12 * PIECE + 1 + length);
        put(self.seed.address, &format!("s/{number}"), &bytes);
        self.ledger.tried.insert(format!("v/d{number}"), bytes);
        wait_for(PATIENCE, "the seed has announced it", || self.search("s/*", 1).contains(&format!("s/{number}")));
        format!("get s/{number} v/d{number}")
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
            let found = self.offered();
            self.search("s/*", 1).len() == seeds && known.iter().all(|path| found.contains(path))
        });
        assert!(back.elapsed() <= LEASE);
        *self.killed.entry("tracker".into()).or_default() += 1;
        served
    }

    // ---- what is looked at -----------------------------------------------------------------------

    /// What is found with so many sources at least.
    fn search(&self, pattern: &str, sources: u32) -> BTreeSet<String> {
        // The tracker may be dying or coming just now.
        let found = block_on(async { find_rows(&mut client(self.tracker.address), pattern).await }).unwrap_or_default();
        found.into_iter().filter(|row| row.sources >= sources).map(|row| row.path).collect()
    }

    /// What the tracker knows of the victim: what only that has, and what it has of the seed under the same name.
    fn offered(&self) -> BTreeSet<String> {
        &self.search("v*", 1) | &self.search("b/*", 2)
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
        wait_for(PATIENCE, "searches are whole again", || self.offered() == expected);
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
    pub(crate) fn last_life(&mut self) {
        let _ = fs::remove_file(&self.order);
        let job = self.job();
        let mut victim = self.start();
        self.check_life(&mut victim, job);
        for path in files(self.folder.path()) {
            assert!(get(victim.address, &format!("/files/{path}")).body == self.ledger.tried[&path], "{path}");
        }
    }
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
