//! One run: a seed with a file, leechers that want it, and what may go wrong meanwhile.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    hosts::{Hosts, RATE, SEED, Traffic, Wires},
    place::{self, Place},
    support::*,
    systems::{FILE, System},
};

/// How often it is looked for who is done; a thousandth of the shortest run.
const LOOK: Duration = Duration::from_millis(15);
/// How often traffic is counted, for what depends on it.
const COUNT: Duration = Duration::from_millis(100);
/// Everything that was started comes to rest before the clock starts.
const REST: Duration = Duration::from_secs(1);
/// A run that takes so many times as long as one copy, and [`PATIENCE`], is given up.
const GIVE_UP: f64 = 6.0;

/// What happens during a run.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Nothing,
    /// The seed is killed when it has sent so many copies.
    SeedDies(f64),
    /// One of so many leechers is killed when they have half of the file on average.
    Deaths(usize),
    /// Leechers come one after the other, so far apart.
    Arrivals(Duration),
    /// Of a million packets so many are lost.
    Loss(u32),
    /// The hosts are in so many zones.
    Zones(usize),
}

impl Event {
    /// Whether it can be made, or its effect seen, only where hosts have cables.
    pub(crate) fn needs_cables(self) -> bool {
        !matches!(self, Self::Nothing | Self::Arrivals(_))
    }

    fn wires(self) -> Wires {
        match self {
            Self::Loss(lost) => Wires { lost, ..Wires::default() },
            Self::Zones(zones) => Wires { zones, ..Wires::default() },
            _ => Wires::default(),
        }
    }
}

/// How a run went. Times are in terms of one copy's at full rate, and infinite where a leecher that was
/// not killed has no right file at the end.
pub(crate) struct Outcome {
    /// Until the last leecher had the file.
    pub(crate) last: f64,
    /// The slowest leecher, from its own start.
    pub(crate) slowest: f64,
    /// Leechers that should have the file, and those that do.
    pub(crate) expected: usize,
    pub(crate) right: usize,
    /// Copies that the seed sent, headers included, where that can be seen.
    pub(crate) copies: Option<f64>,
    /// Copies that came into each zone.
    pub(crate) imports: Vec<f64>,
    /// When the seed was killed, in seconds.
    pub(crate) seed_died: Option<f64>,
    /// Peak memory in bytes.
    pub(crate) tracker_peak: f64,
    pub(crate) seed_peak: f64,
    pub(crate) leecher_peaks: Vec<f64>,
    /// CPU seconds of all of the system's processes, their start included.
    pub(crate) cpu: f64,
    /// The busy share of the machine's CPU, whoever took it.
    pub(crate) busy: f64,
}

/// A leecher and what is known of it; times are since the clock started.
struct Leecher {
    host: usize,
    began: Option<Duration>,
    done: Option<Duration>,
    failed: bool,
    killed: bool,
    peak: f64,
}

impl Leecher {
    fn is_fetching(&self) -> bool {
        self.began.is_some() && self.done.is_none() && !self.failed && !self.killed
    }

    fn is_waiting(&self) -> bool {
        self.began.is_none() && !self.killed
    }
}

/// Makes a crowd, lets it fetch so many bytes, and takes it all away again.
pub(crate) fn run(place: &Place, system: &mut dyn System, leechers: usize, length: u64, event: Event) -> Outcome {
    let hosts = Hosts::new(place, leechers, event.wires());
    let original = system.original(&hosts);
    random_file(&original, length);
    let cpu = cpu_of_children();
    let (tracker, seed) = system.start(&hosts);
    let mut processes: Vec<_> = hosts.leechers().map(|host| system.join(&hosts, host)).collect();
    system.settle(&mut processes);
    thread::sleep(REST);

    let leechers = hosts.leechers();
    let new = |host| Leecher { host, began: None, done: None, failed: false, killed: false, peak: 0.0 };
    let mut crowd = Crowd {
        system,
        leechers: leechers.map(new).collect(),
        processes,
        seed,
        seed_peak: 0.0,
        seed_died: None,
        length,
        event,
        before: hosts.traffic(),
        started: Instant::now(),
        hosts: &hosts,
    };
    let imports = hosts.imports();
    let load = Load::now();
    crowd.fetch();
    let busy = load.busy_until(Load::now());
    let after = (hosts.traffic(), hosts.imports());

    crowd.seed_peak = crowd.seed_peak.max(peak(&mut crowd.seed));
    let tracker_peak = crowd.end(tracker);
    let copies = |before: u64, after: u64| (after - before) as f64 / length as f64;
    let mut right = 0;
    for leecher in crowd.leechers.iter_mut().filter(|leecher| !leecher.killed && leecher.done.is_some()) {
        match same(&original, &hosts.folder(leecher.host).join(FILE)) {
            Ok(true) => right += 1,
            wrong => {
                leecher.failed = true;
                eprintln!("{}: the file is not right: {wrong:?}", super::hosts::name(leecher.host));
            }
        }
    }
    let (last, slowest) = crowd.times();
    Outcome {
        last,
        slowest,
        expected: crowd.leechers.iter().filter(|leecher| !leecher.killed).count(),
        right,
        copies: hosts.have_cables().then(|| copies(crowd.before[SEED].sent, after.0[SEED].sent)),
        imports: imports.iter().zip(&after.1).map(|(&before, &after)| copies(before, after)).collect(),
        seed_died: crowd.seed_died.map(|at| at.as_secs_f64()),
        tracker_peak,
        seed_peak: crowd.seed_peak,
        leecher_peaks: crowd.leechers.iter().map(|leecher| leecher.peak).collect(),
        cpu: cpu_of_children() - cpu,
        busy,
    }
}

/// A run that is under way.
struct Crowd<'a> {
    system: &'a mut dyn System,
    hosts: &'a Hosts<'a>,
    leechers: Vec<Leecher>,
    /// Of each leecher.
    processes: Vec<Option<Process>>,
    seed: Process,
    seed_peak: f64,
    seed_died: Option<Duration>,
    length: u64,
    event: Event,
    /// The traffic before the clock started.
    before: Vec<Traffic>,
    started: Instant,
}

impl Crowd<'_> {
    /// From the first leecher's start until all are done, or it makes no sense to wait.
    fn fetch(&mut self) {
        let give_up = PATIENCE + self.copy().mul_f64(GIVE_UP);
        let mut counted = Duration::ZERO;
        let mut watched = Duration::ZERO;
        self.system.publish(self.hosts, &self.seed);
        self.started = Instant::now();
        while self.leechers.iter().any(|leecher| leecher.is_waiting() || leecher.is_fetching()) {
            let now = self.started.elapsed();
            self.begin();
            self.look();
            if now - counted >= COUNT {
                counted = now;
                self.disturb();
            }
            if now - watched >= REST {
                watched = now;
                self.watch();
            }
            if now > give_up || place::is_stopped() {
                break;
            }
            thread::sleep(LOOK);
        }
    }

    /// The time of one copy at full rate.
    fn copy(&self) -> Duration {
        Duration::from_secs_f64(self.length as f64 / RATE as f64)
    }

    /// Lets those begin whose time has come.
    fn begin(&mut self) {
        let apart = if let Event::Arrivals(apart) = self.event { apart } else { Duration::ZERO };
        for (number, (leecher, process)) in self.leechers.iter_mut().zip(&mut self.processes).enumerate() {
            let now = self.started.elapsed();
            if leecher.is_waiting() && now >= apart * number as u32 {
                leecher.began = Some(now);
                self.system.get(self.hosts, leecher.host, process);
            }
        }
    }

    fn look(&mut self) {
        for leecher in self.leechers.iter_mut().filter(|leecher| leecher.is_fetching()) {
            if self.system.sign(self.hosts, leecher.host).exists() {
                leecher.done = Some(self.started.elapsed());
            }
        }
    }

    /// Nothing is waited for that cannot come.
    fn watch(&mut self) {
        for (leecher, process) in self.leechers.iter_mut().zip(&mut self.processes) {
            let Some(process) = process.as_mut().filter(|_| leecher.is_fetching()) else { continue };
            let error = process.lines().into_iter().find(|line| line.text.starts_with("error: "));
            if error.is_some() || !process.is_running() {
                let why = error.map_or("has ended".to_owned(), |line| line.text);
                eprintln!("{}: {why}", super::hosts::name(leecher.host));
                leecher.failed = true;
            }
        }
    }

    fn disturb(&mut self) {
        match self.event {
            Event::SeedDies(copies) if self.seed_died.is_none() => {
                let sent = self.hosts.traffic()[SEED].sent - self.before[SEED].sent;
                if sent as f64 >= copies * self.length as f64 {
                    self.seed_peak = peak(&mut self.seed);
                    self.seed.kill();
                    self.seed_died = Some(self.started.elapsed());
                }
            }
            Event::Deaths(one_of) if self.leechers.iter().all(|leecher| !leecher.killed) => {
                let traffic = self.hosts.traffic();
                let received = |leecher: &Leecher| traffic[leecher.host].received - self.before[leecher.host].received;
                let received: u64 = self.leechers.iter().map(received).sum();
                if received >= self.leechers.len() as u64 * self.length / 2 {
                    let crowd = self.leechers.iter_mut().zip(&mut self.processes);
                    for (leecher, process) in crowd.step_by(one_of) {
                        let process = process.as_mut().expect("it is fetching");
                        leecher.peak = peak(process);
                        process.kill();
                        leecher.killed = true;
                    }
                }
            }
            _ => {}
        }
    }

    /// Ends all processes, and gives the tracker's peak memory.
    fn end(&mut self, mut tracker: Process) -> f64 {
        let tracker_peak = peak(&mut tracker);
        for (leecher, process) in self.leechers.iter_mut().zip(&mut self.processes) {
            if let Some(process) = process.as_mut().filter(|_| !leecher.killed) {
                leecher.peak = peak(process);
                process.kill();
            }
        }
        self.seed.kill();
        tracker_peak
    }

    /// The time of the last, and the slowest's from its own start.
    fn times(&self) -> (f64, f64) {
        let (mut last, mut slowest) = (0.0_f64, 0.0_f64);
        for leecher in self.leechers.iter().filter(|leecher| !leecher.killed) {
            let (Some(began), Some(done), false) = (leecher.began, leecher.done, leecher.failed) else {
                return (f64::INFINITY, f64::INFINITY);
            };
            last = last.max(done.as_secs_f64());
            slowest = slowest.max((done - began).as_secs_f64());
        }
        let copy = self.copy().as_secs_f64();
        (last / copy, slowest / copy)
    }
}

/// Peak memory in bytes; none of what has ended by itself.
fn peak(process: &mut Process) -> f64 {
    if process.is_running() { process.memory("VmHWM") } else { 0.0 }
}

/// CPU seconds of all children of this process that have ended, to the hundredth.
fn cpu_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this process runs");
    let fields = stat.rsplit_once(')').expect("a stat line has a name").1.split_whitespace();
    fields.skip(13).take(2).map(|ticks| ticks.parse::<f64>().expect("cutime and cstime are numbers") / 100.0).sum()
}

/// What the machine's CPUs have done so far, in ticks.
struct Load {
    idle: u64,
    all: u64,
}

impl Load {
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").expect("Linux counts");
        let first = stat.lines().next().expect("the line of all CPUs");
        // user, nice, system, idle, waiting for a disk, interrupts twice, taken by other machines
        let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).map_while(|ticks| ticks.parse().ok()).collect();
        Self { idle: ticks[3] + ticks[4], all: ticks.iter().sum() }
    }

    fn busy_until(&self, later: Self) -> f64 {
        1.0 - (later.idle - self.idle) as f64 / (later.all - self.all).max(1) as f64
    }
}

fn random_file(path: &Path, length: u64) {
    let mut random = File::open("/dev/urandom").expect("there is randomness").take(length);
    io::copy(&mut random, &mut File::create(path).expect("a file of ours")).expect("there is room for it");
}

/// Whether two files have the same bytes.
fn same(one: &Path, other: &Path) -> io::Result<bool> {
    const BLOCK: usize = 1 << 20;
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let length = one.read(&mut left)?;
        other.read_exact(&mut right[..length])?;
        if left[..length] != right[..length] || length == 0 {
            return Ok(length == 0);
        }
    }
}
