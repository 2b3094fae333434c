//! The life of a peer, and the tracker's: what happens to it, one thing after the other, by chance.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::{
    ELDERS, LEASE, PEERS,
    dice::Dice,
    ground::Ground,
    support::{Connection, Process, Signal, Stream, hosts::Cut, peer_command, tracker_command, try_request},
    world::{NEWS, State, World},
};

/// Within this time a `get` has ended, well or not: nothing in it waits so long, and it tries twice.
const GET_TIME: Duration = Duration::from_secs(60);
/// What a peer that is told to leave may take.
const LEAVE_TIME: Duration = Duration::from_secs(15);
/// A peer that has so many files is rather rid of some.
const FILES: usize = 12;

/// What may happen to a peer.
#[derive(Clone, Copy)]
enum Act {
    Get,
    GetAndDie,
    Upload,
    BreakUpload,
    UploadAndDie,
    Place,
    Remove,
    Die,
    Leave,
    CutOff,
    DieUnheard,
    Attack,
}

/// What happens to one who lives throughout, and how often.
const ELDER_ACTS: [(usize, Act); 7] = [
    (30, Act::Get),
    (14, Act::Upload),
    (5, Act::BreakUpload),
    (6, Act::Place),
    (15, Act::Remove),
    (2, Act::CutOff),
    (6, Act::Attack),
];
/// What happens to the others.
const ACTS: [(usize, Act); 12] = [
    (30, Act::Get),
    (4, Act::GetAndDie),
    (12, Act::Upload),
    (4, Act::BreakUpload),
    (2, Act::UploadAndDie),
    (6, Act::Place),
    (15, Act::Remove),
    (2, Act::Die),
    (2, Act::Leave),
    (2, Act::CutOff),
    (1, Act::DieUnheard),
    (6, Act::Attack),
];

/// A peer's.
pub(crate) struct Life<'a> {
    world: &'a World,
    slot: usize,
    dice: Dice,
    serial: u64,
    process: Option<Process>,
}

impl<'a> Life<'a> {
    /// A peer with one file of its own, and a symlink that leads out of its share.
    pub(crate) fn start(world: &'a World, slot: usize) -> Self {
        let mut life = Self { world, slot, dice: world.dice(slot), serial: 0, process: None };
        symlink(world.ground.outside(), life.share().join("link")).expect("a symlink in a folder of ours");
        let path = life.new_path("own", world.new_content());
        life.place(&path);
        life.come();
        life
    }

    /// Lives until the soak is over, and is there at the end.
    pub(crate) fn live(&mut self) {
        while !self.world.is_over() {
            self.act();
            thread::sleep(Duration::from_millis(100 * self.dice.below(12) as u64));
        }
    }

    fn act(&mut self) {
        let is_elder = self.slot < ELDERS;
        let act = if self.files().len() > FILES {
            Act::Remove
        } else if is_elder {
            self.dice.weighed(&ELDER_ACTS)
        } else {
            self.dice.weighed(&ACTS)
        };
        match act {
            Act::Get => self.get(),
            Act::GetAndDie => self.get_and_die(),
            Act::Upload => self.upload(),
            Act::BreakUpload => drop(self.half_an_upload()),
            Act::UploadAndDie => {
                let upload = self.half_an_upload();
                self.die();
                drop(upload);
                self.come_back();
            }
            Act::Place => {
                let path = self.new_path("up", self.world.new_content());
                self.place(&path);
                self.world.count("files put into a folder");
            }
            Act::Remove => self.remove(),
            Act::Die => {
                self.die();
                self.come_back();
            }
            Act::Leave => self.leave_and_come_back(),
            Act::CutOff => self.cut_off(),
            Act::DieUnheard => {
                // Whoever is connected to it is not told that it is gone.
                self.world.cut(self.slot, &Cut::Everybody);
                self.die();
                self.world.ground.cut(self.slot, &Cut::Nobody);
                self.come_back();
            }
            Act::Attack => self.attack(),
        }
    }

    // ---- coming and going ----------------------------------------------------------------------

    /// Starts the peer.
    pub(crate) fn come(&mut self) {
        let (ground, address) = (&self.world.ground, self.world.ground.peer(self.slot));
        let mut command = peer_command([&format!("peer-{}", self.slot), &address.port().to_string()]);
        command.arg(self.share()).args(["--bind", &address.ip().to_string()]);
        command.args(["--tracker", &ground.tracker().to_string()]);
        let process = Process::spawn(&format!("peer-{}", self.slot), ground.on_peers(self.slot, command));
        process.serving();
        self.world.slot(self.slot).process = Some(process.id());
        self.process = Some(process);
        self.world.becomes(self.slot, State::Up);
    }

    fn come_back(&mut self) {
        thread::sleep(Duration::from_millis(self.dice.below(2 * LEASE.as_millis() as usize) as u64));
        self.come();
        if self.dice.once_in(2) {
            // What a kill has broken off goes on by itself; somebody may not want it any more.
            self.cancel_all();
        }
    }

    /// Ends all downloads, and removes what is here of them.
    pub(crate) fn cancel_all(&mut self) {
        let downloads = self.process().ask("downloads").out;
        for id in downloads.iter().filter_map(|line| line.split('\t').next()) {
            self.process().ask(&format!("cancel {id}"));
        }
    }

    /// `kill -9`.
    fn die(&mut self) {
        self.world.becomes(self.slot, State::Dead);
        let Some(mut process) = self.process.take() else { return };
        self.world.slot(self.slot).process = None;
        self.look_for_a_panic(&process);
        process.kill();
        // Its lease begins with what it said last.
        self.world.becomes(self.slot, State::Dead);
        self.world.count("kills");
    }

    fn leave_and_come_back(&mut self) {
        let was_firm = self.world.firm(self.slot);
        let tracker = self.world.tracker().epoch;
        self.world.becomes(self.slot, State::Dead);
        self.leave();
        let is_heard = was_firm.is_some() && self.world.tracker().epoch == tracker;
        self.world.becomes(self.slot, if is_heard { State::Left } else { State::Dead });
        self.world.count("leaves");
        self.come_back();
    }

    /// Tells it to leave, and waits until it has.
    pub(crate) fn leave(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        self.world.slot(self.slot).process = None;
        process.send("leave");
        let end = Instant::now() + LEAVE_TIME;
        while process.is_running() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        if process.is_running() {
            self.world.broken(format!("peer-{} has not left within {LEAVE_TIME:?}", self.slot));
        }
        self.look_for_a_panic(&process);
    }

    fn look_for_a_panic(&self, process: &Process) {
        for line in process.lines().iter().filter(|line| line.text.contains("panicked at")) {
            self.world.broken(format!("peer-{}: {}", self.slot, line.text));
        }
    }

    fn cut_off(&mut self) {
        if !self.world.ground.has_faults() {
            return;
        }
        let cut = if self.dice.once_in(2) {
            Cut::Everybody
        } else {
            // Half of the peers, and the tracker where it is among them.
            Cut::From((0..=PEERS).filter(|host| *host != self.slot + 1 && self.dice.once_in(2)).collect())
        };
        self.world.cut(self.slot, &cut);
        self.world.count("partitions");
        let until = Instant::now() + Duration::from_millis(self.dice.below(2 * LEASE.as_millis() as usize) as u64);
        if self.dice.once_in(2) {
            self.get();
        }
        thread::sleep(until.saturating_duration_since(Instant::now()));
        self.world.cut(self.slot, &Cut::Nobody);
    }

    // ---- files ---------------------------------------------------------------------------------

    fn share(&self) -> PathBuf {
        self.world.ground.share(self.slot)
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a peer that acts lives")
    }

    /// A path that nobody has: this peer's number, one of its own, and that of what it holds.
    fn new_path(&mut self, folder: &str, content: u64) -> String {
        self.serial += 1;
        format!("{folder}/{}-{}-{content}.bin", self.slot, self.serial)
    }

    /// Paths of files that may be removed, as they are on disk.
    fn files(&self) -> Vec<String> {
        let of = |folder: &str| {
            let entries = fs::read_dir(self.share().join(folder)).into_iter().flatten().flatten();
            let folder = folder.to_owned();
            entries.map(move |entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
        };
        of("up").chain(of("got")).collect()
    }

    fn content_of(&self, path: &str) -> Vec<u8> {
        self.world.content(self.world.content_of(path).expect("a path of ours"))
    }

    fn has(&self, path: String) {
        self.world.slot(self.slot).files.insert(path, Instant::now());
    }

    /// Moves a whole file into the share, as `mv` does.
    fn place(&self, path: &str) {
        let new = self.world.ground.outside().join(format!("new-{}", self.slot));
        let place = self.share().join(path);
        fs::create_dir_all(place.parent().expect("it is in a folder")).expect("a folder of ours");
        fs::write(&new, self.content_of(path)).expect("a file of ours");
        fs::rename(new, place).expect("a file of ours");
        self.has(path.to_owned());
    }

    fn remove(&mut self) {
        let files = self.files();
        let Some(path) = self.dice.pick(&files).cloned() else { return };
        self.forget(&path);
        self.world.count("files removed");
    }

    fn forget(&self, path: &str) {
        let mut slot = self.world.slot(self.slot);
        slot.files.remove(path);
        slot.removed.insert(path.to_owned(), Instant::now());
        slot.removed.retain(|_, since| since.elapsed() < 10 * NEWS);
        // What a cancel has removed meanwhile is gone too.
        let _ = fs::remove_file(self.share().join(path));
    }

    /// Removes all but what it began with.
    pub(crate) fn forget_all(&self) {
        self.files().iter().for_each(|path| self.forget(path));
    }

    fn upload(&mut self) {
        let path = self.new_path("up", self.world.new_content());
        let bytes = self.content_of(&path);
        let address = self.world.ground.peer(self.slot);
        let answer = if self.dice.once_in(2) {
            try_request(address, "PUT", &format!("/files/{path}"), &[], &bytes)
        } else {
            let form = format!(
                "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\r\n",
                path.trim_start_matches("up/")
            );
            let body = [form.as_bytes(), &bytes, b"\r\n--b--\r\n"].concat();
            let headers = [("Content-Type", "multipart/form-data; boundary=b")];
            // A form's file goes to the share's root.
            let answer = try_request(address, "POST", "/upload", &headers, &body);
            if answer.as_ref().is_ok_and(|answer| answer.status == 201) {
                let (from, to) = (self.share().join(path.trim_start_matches("up/")), self.share().join(&path));
                let moved = fs::create_dir_all(self.share().join("up")).and_then(|()| fs::rename(from, to));
                if let Err(error) = moved {
                    self.world.broken(format!("{path} was uploaded and is not there: {error}"));
                }
            }
            answer
        };
        match answer {
            Ok(answer) if answer.status == 201 => {
                self.has(path);
                self.world.count("uploads");
            }
            other => self.world.broken(format!("{path} was not taken: {}", said(other))),
        }
    }

    /// Sends a part of a file, at times nearly all of it.
    fn half_an_upload(&mut self) -> io::Result<Connection> {
        let path = self.new_path("up", self.world.new_content());
        let bytes = self.content_of(&path);
        let head =
            format!("PUT /files/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", bytes.len() + 1);
        let mut connection = Connection::open(self.world.ground.peer(self.slot));
        connection.send(head)?;
        connection.send(&bytes[..self.dice.below(bytes.len() + 1)])?;
        self.world.count("uploads broken off");
        Ok(connection)
    }

    // ---- downloads -----------------------------------------------------------------------------

    /// Asks for a file of another peer, which mostly lives, by its path or id. What it is, and where it goes.
    fn ask_for(&mut self) -> Option<(String, String, usize)> {
        let others: Vec<_> = (0..PEERS).filter(|&other| other != self.slot).collect();
        let mut other = *self.dice.pick(&others)?;
        if self.world.slot(other).state != State::Up && !self.dice.once_in(8) {
            other = self.dice.below(ELDERS);
        }
        let files: Vec<_> = {
            let slot = self.world.slot(other);
            slot.files.iter().filter(|(_, since)| since.elapsed() > NEWS).map(|(path, _)| path.clone()).collect()
        };
        let path = self.dice.pick(&files)?.clone();
        let content = self.world.content_of(&path)?;
        let to = self.new_path("got", content);
        let what = if self.dice.once_in(3) { self.world.id(content).to_string() } else { path.clone() };
        let from = self.process().line_count();
        self.process().send(&format!("get {what} {to}"));
        Some((path, to, from))
    }

    fn get(&mut self) {
        // Who can be relied on now has to be enough, if it can be relied on to the end.
        let firm: Vec<_> = (0..PEERS).map(|slot| self.world.firm(slot)).collect();
        let Some((path, to, from)) = self.ask_for() else { return };
        let holder = self.world.slot_of(&path).filter(|&holder| holder != self.slot && self.holds(holder, &path));
        let began = Instant::now();
        let answer = self.process().try_wait_for_line(GET_TIME, from, |line| match line.stream {
            Stream::Out => line.text.ends_with(&to).then_some(Ok(())),
            Stream::Err => line.text.strip_prefix("error: ").map(|error| Err(error.to_owned())),
        });
        match answer {
            Ok(Ok(())) => {
                self.has(to);
                self.world.count("gets");
            }
            Ok(Err(error)) => {
                let was_firm = |slot: usize| firm[slot].is_some() && firm[slot] == self.world.firm(slot);
                let still = holder.is_some_and(|holder| was_firm(holder) && self.holds(holder, &path));
                if still && was_firm(self.slot) {
                    self.world.broken(format!("peer-{}: get {path}: {error}", self.slot));
                } else {
                    self.world.count("gets that said why not");
                }
            }
            Err(why) => {
                let took = began.elapsed();
                self.world.broken(format!("peer-{}: get {path}: no answer after {took:.0?}: {why}", self.slot));
            }
        }
    }

    fn holds(&self, slot: usize, path: &str) -> bool {
        self.world.slot(slot).files.get(path).is_some_and(|since| since.elapsed() > NEWS)
    }

    fn get_and_die(&mut self) {
        if self.ask_for().is_some() {
            thread::sleep(Duration::from_millis(self.dice.below(300) as u64));
            self.die();
            self.come_back();
        }
    }

    // ---- hostile requests ----------------------------------------------------------------------

    /// A request that must change nothing; whether it did is for those who watch.
    fn attack(&mut self) {
        let own = self.world.slot(self.slot).files.keys().next().cloned().unwrap_or_default();
        let requests = [
            "PUT /files/..%2f..%2foutside%2fcanary HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
                .to_owned(),
            "PUT /files/%2e%2e/outside/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            "PUT /files/link/canary HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            "PUT /files/link/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            "GET /files/link/canary HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            "PUT /files/.enjambre/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            format!("PUT /files/{own} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"),
            "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70368744177664\r\n\r\n".to_owned(),
            "GET / HTTP/2.0\r\n\r\n".to_owned(),
            format!("GET /{} HTTP/1.1\r\n", "x".repeat(30_000)),
        ];
        let request = self.dice.pick(&requests).expect("there are some");
        let mut connection = Connection::open(self.world.ground.peer(self.slot));
        // It may be closed before all is sent.
        let _ = connection.send(request);
        if let Ok(answer) = connection.answer()
            && answer.status < 400
            && !request.starts_with("GET / HTTP/1.1")
        {
            let line = request.lines().next().unwrap_or_default();
            self.world.broken(format!("peer-{}: {line}: answered with {}", self.slot, answer.status));
        }
        self.world.count("attacks");
    }
}

fn said(answer: io::Result<super::support::Response>) -> String {
    match answer {
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(error) => error.to_string(),
    }
}

/// Starts the tracker and waits until it listens.
pub(crate) fn start_tracker(ground: &Ground) -> Process {
    let (listen, lease) = (ground.tracker().to_string(), LEASE.as_secs().to_string());
    let mut command = tracker_command(["--listen", &listen, "--lease", &lease]);
    if !ground.has_faults() {
        command.arg("--allow-advertise");
    }
    super::support::tracker_by(ground.on_trackers(command))
}

/// The tracker is killed and comes back, again and again until then.
pub(crate) fn live_as_tracker(world: &World, until: Instant) {
    let mut dice = world.dice(PEERS);
    loop {
        let next = Instant::now() + 3 * LEASE + Duration::from_millis(dice.below(20_000) as u64);
        while Instant::now() < next {
            if world.is_over() || next > until {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        kill_tracker(world);
        thread::sleep(Duration::from_millis(dice.below(2 * LEASE.as_millis() as usize) as u64));
        let process = start_tracker(&world.ground);
        let mut tracker = world.tracker();
        (tracker.process, tracker.since) = (Some(process), Instant::now());
        drop(tracker);
        world.count("kills of the tracker");
    }
}

fn kill_tracker(world: &World) {
    let mut tracker = world.tracker();
    tracker.epoch += 1;
    // It is gone when this is dropped.
    if let Some(mut process) = tracker.process.take() {
        process.kill();
    }
}

/// Tells the tracker to end, and waits until it has.
pub(crate) fn end_tracker(world: &World) {
    let Some(mut process) = world.tracker().process.take() else { return };
    for line in process.lines().iter().filter(|line| line.text.contains("panicked at")) {
        world.broken(format!("the tracker: {}", line.text));
    }
    process.signal(Signal::TERM);
    process.exited();
}
