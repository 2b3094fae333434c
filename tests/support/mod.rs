//! What the integration tests stand on: the real binaries as child processes, a folder that goes
//! away, waiting with a deadline, and an HTTP client that sends whatever bytes a test wants sent.
//!
//! ```ignore
//! mod support;
//! use support::*;
//!
//! let tracker = tracker(&["--lease", "2"]);
//! let folder = Folder::new();
//! folder.write("notes.txt", "hello");
//! let mut peer = peer("peer_1", folder.path(), tracker.address, &[]);
//! peer.joined();
//! wait_for(PATIENCE, "search finds notes.txt", || peer.search("notes").len() == 1);
//! assert_eq!(get(peer.address, "/files/notes.txt").body, b"hello");
//! ```
// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]
// clippy.toml allows this in tests, and takes their helpers for something else.
#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read, Write},
    iter,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Pid,
};

mod certificates;
mod etcd;
mod fleet;
mod grpc;
pub mod hosts;
mod http;
mod http2;
mod liar;
mod metrics;
mod proxy;
pub use certificates::*;
pub use etcd::*;
pub use fleet::*;
pub use grpc::*;
pub use http::*;
pub use http2::*;
pub use liar::*;
pub use metrics::*;
pub use proxy::*;

/// How long a test waits for what should take milliseconds. Only a failing test waits it out, so
/// it is long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds and panics, saying `what` was waited for, when it does not before
/// the deadline.
#[track_caller]
pub fn wait_for(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for_some(deadline, what, || condition().then_some(()));
}

/// Waits until `attempt` gives something, and returns it; panics like [`wait_for`].
#[track_caller]
pub fn wait_for_some<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

// ---- folders -------------------------------------------------------------------------------

/// A folder of the test's own that is removed with everything in it when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder below the system's folder for temporary files.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A new empty folder below another, for tests that care which disk they are on.
    pub fn below(parent: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("enjambre-test-{}-{number}", std::process::id()));
        // A run that was killed may have left a folder under the same process number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path.canonicalize().expect("a temporary folder"))
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and the folders above it.
    #[track_caller]
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folders above a file");
        fs::write(&path, bytes).expect("a written file");
        path
    }

    /// Reads a file; none where there is none.
    pub fn read(&self, name: impl AsRef<Path>) -> Option<Vec<u8>> {
        fs::read(self.join(name)).ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that look random and are the same for the same seed (xorshift64*).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

// ---- processes -----------------------------------------------------------------------------

/// Where a binary is: the one that was built with the tests, or the one of the folder that the
/// variable `TEST_BINARIES` names, so that what is shipped can be tested and measured.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("TEST_BINARIES") {
        let path = Path::new(&folder).join(name);
        return path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    match name {
        "tracker" => env!("CARGO_BIN_EXE_tracker").into(),
        "peer" => env!("CARGO_BIN_EXE_peer").into(),
        _ => panic!("there is no binary {name}"),
    }
}

/// The `tracker` with these arguments, and no `ENJAMBRE_` variable of whoever runs the tests.
pub fn tracker_command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    command("tracker", args)
}

/// The `peer` with these arguments, and no `ENJAMBRE_` variable of whoever runs the tests.
pub fn peer_command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    command("peer", args)
}

fn command<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary(name));
    command.args(args);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"ENJAMBRE_") {
            command.env_remove(name);
        }
    }
    command
}

/// An address on loopback where nobody listens, and where nobody comes to while it waits for whoever it is meant for:
/// its port is below all that a system gives away by itself (32,768 and above on Linux, `ip_local_port_range`).
#[track_caller]
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + std::process::id() as u16 % 100 * 200;
    let ports = || first + TAKEN.fetch_add(1, Ordering::Relaxed) % 2000;
    let mut addresses = iter::repeat_with(|| SocketAddr::from((Ipv4Addr::LOCALHOST, ports()))).take(2000);
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// Starts a tracker on a free loopback port and waits until it listens. A `--listen` among `args`
/// takes the place of that port, for a tracker that comes back where it was.
#[track_caller]
pub fn tracker(args: &[&str]) -> Process {
    if args.contains(&"--listen") {
        return tracker_by(tracker_command(args));
    }
    let free = free_address().to_string();
    tracker_by(tracker_command(["--listen", &free].iter().chain(args)))
}

/// Starts a tracker by a command of the caller's, and waits until it listens.
#[track_caller]
pub fn tracker_by(command: Command) -> Process {
    let mut process = Process::spawn("tracker", command);
    process.address = process.wait_for_line(0, "the tracker listens", |line| {
        line.text.strip_prefix("tracker listening on ")?.split([' ', ',']).next()?.parse().ok()
    });
    process
}

/// Starts a peer on a free loopback port and waits until it serves (not until it has joined).
/// `args` come after the operands; a `--bind` among them takes the place of 127.0.0.1.
#[track_caller]
pub fn peer(id: &str, folder: &Path, tracker: SocketAddr, args: &[&str]) -> Process {
    peer_on(id, 0, folder, tracker, args)
}

/// As [`peer`], on a port of the caller's choice.
#[track_caller]
pub fn peer_on(id: &str, port: u16, folder: &Path, tracker: SocketAddr, args: &[&str]) -> Process {
    start_peer(id, port, folder, &tracker.to_string(), args)
}

/// As [`peer`], with several trackers, commas between.
#[track_caller]
pub fn peer_of(id: &str, folder: &Path, trackers: &str, args: &[&str]) -> Process {
    start_peer(id, 0, folder, trackers, args)
}

#[track_caller]
fn start_peer(id: &str, port: u16, folder: &Path, trackers: &str, args: &[&str]) -> Process {
    let mut command = peer_command([id, &port.to_string()]);
    command.arg(folder).args(["--tracker", trackers]);
    if !args.contains(&"--bind") {
        command.args(["--bind", "127.0.0.1"]);
    }
    let mut process = Process::spawn(id, {
        command.args(args);
        command
    });
    process.address = process.serving();
    process
}

/// Where a line of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A line of output, without its end.
#[derive(Clone, Debug)]
pub struct Line {
    pub stream: Stream,
    pub text: String,
}

/// What a process has said so far.
#[derive(Default)]
struct Output {
    said: Mutex<Said>,
    arrived: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<Line>,
    /// Both streams have ended.
    ended: bool,
}

/// Reads both streams to their ends. Whatever was on stdout before a line of stderr was written
/// comes before that line here too: one thread reads both, and stdout until it is empty before it
/// hands on what it has from stderr.
fn collect(out: ChildStdout, err: ChildStderr, output: &Output) {
    let mut out = Some(Reader { stream: Stream::Out, pipe: out, part: Vec::new() });
    let mut err = Some(Reader { stream: Stream::Err, pipe: err, part: Vec::new() });
    while out.is_some() || err.is_some() {
        let mut lines = Vec::new();
        wait_readable(&out, &err);
        read_if_ready(&mut err, &mut lines);
        let from_err = std::mem::take(&mut lines);
        while read_if_ready(&mut out, &mut lines) {}
        lines.extend(from_err);
        let mut said = output.said.lock().expect("no reader panics");
        said.lines.append(&mut lines);
        said.ended = out.is_none() && err.is_none();
        output.arrived.notify_all();
    }
}

/// One of a process's streams, and the beginning of a line whose end has not come yet.
struct Reader<P> {
    stream: Stream,
    pipe: P,
    part: Vec<u8>,
}

fn wait_readable(out: &Option<Reader<ChildStdout>>, err: &Option<Reader<ChildStderr>>) {
    let mut pipes = Vec::new();
    pipes.extend(out.iter().map(|reader| PollFd::new(&reader.pipe, PollFlags::IN)));
    pipes.extend(err.iter().map(|reader| PollFd::new(&reader.pipe, PollFlags::IN)));
    let _ = poll(&mut pipes, None);
}

/// Reads once if that does not block; drops the reader at its end. Says whether anything was read.
fn read_if_ready<P: Read + AsFd>(reader: &mut Option<Reader<P>>, lines: &mut Vec<Line>) -> bool {
    let Some(Reader { stream, pipe, part }) = reader else { return false };
    let mut ready = [PollFd::new(pipe, PollFlags::IN)];
    if !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(1..)) {
        return false;
    }
    let mut bytes = [0; 16 << 10];
    let length = pipe.read(&mut bytes).unwrap_or(0);
    part.extend_from_slice(&bytes[..length]);
    if length == 0 && !part.is_empty() {
        part.push(b'\n');
    }
    while let Some(end) = part.iter().position(|&byte| byte == b'\n') {
        let line: Vec<u8> = part.drain(..=end).collect();
        lines.push(Line { stream: *stream, text: String::from_utf8_lossy(&line[..end]).into_owned() });
    }
    if length == 0 {
        *reader = None;
    }
    length > 0
}

/// A running binary. It is killed when this is dropped, and what it said is printed when that
/// happens because a test has failed.
pub struct Process {
    /// Where it listens; port 0 for one started by [`Process::spawn`].
    pub address: SocketAddr,
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    asked: u32,
}

/// What a command on stdin was answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Lines on stdout.
    pub out: Vec<String>,
    /// Lines on stderr, among them whatever else the peer said meanwhile.
    pub err: Vec<String>,
}

impl Answer {
    /// The first `error: …`, without these words.
    pub fn error(&self) -> Option<&str> {
        self.err.iter().find_map(|line| line.strip_prefix("error: "))
    }
}

/// A line that `search` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub content: String,
    pub size: u64,
    pub sources: u32,
    pub path: String,
    pub source_ids: Vec<String>,
}

/// The line that `get` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub content: String,
    pub size: u64,
    pub path: String,
}

/// Seconds of CPU that a process has used, threads that have ended included.
#[track_caller]
pub fn cpu_seconds(process: u32) -> f64 {
    // Linux gives these in hundredths of a second to every process on every machine.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The command's name, in parentheses, may hold anything; behind it are fields 3 and on.
    let fields = stat.rsplit_once(')').expect("a stat line has a name").1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("utime and stime are numbers"));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

impl Process {
    /// Starts a command with its three standard streams connected to the test.
    #[track_caller]
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let output = Arc::new(Output::default());
        let (out, err) = (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
        let collected = Arc::clone(&output);
        thread::spawn(move || collect(out, err, &collected));
        let stdin = child.stdin.take();
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { address, name: name.to_owned(), child, stdin, output, asked: 0 }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.output.said.lock().expect("no reader panics").lines.clone()
    }

    /// How many lines there are so far.
    pub fn line_count(&self) -> usize {
        self.output.said.lock().expect("no reader panics").lines.len()
    }

    /// Waits for a line, from the `from`-th on, that `pick` makes something of. Panics when there
    /// is none within [`PATIENCE`], or none can come because the output has ended.
    #[track_caller]
    pub fn wait_for_line<T>(&self, from: usize, what: &str, pick: impl FnMut(&Line) -> Option<T>) -> T {
        self.wait_long_for_line(PATIENCE, from, what, pick)
    }

    /// As [`Process::wait_for_line`], for what takes longer than [`PATIENCE`].
    #[track_caller]
    pub fn wait_long_for_line<T>(
        &self,
        deadline: Duration,
        from: usize,
        what: &str,
        pick: impl FnMut(&Line) -> Option<T>,
    ) -> T {
        self.try_wait_for_line(deadline, from, pick).unwrap_or_else(|why| panic!("{}: {what}: {why}", self.name))
    }

    /// As [`Process::wait_long_for_line`], for a line that may not come: then why not.
    ///
    /// # Errors
    /// When the output has ended, or the line did not come in time.
    pub fn try_wait_for_line<T>(
        &self,
        deadline: Duration,
        from: usize,
        mut pick: impl FnMut(&Line) -> Option<T>,
    ) -> Result<T, &'static str> {
        let end = Instant::now() + deadline;
        let mut next = from;
        let mut said = self.output.said.lock().expect("no reader panics");
        loop {
            if let Some(picked) = said.lines.iter().skip(next).find_map(&mut pick) {
                return Ok(picked);
            }
            next = said.lines.len().max(from);
            let left = end.saturating_duration_since(Instant::now());
            if said.ended {
                return Err("its output has ended");
            } else if left.is_zero() {
                return Err("not in time");
            }
            said = self.output.arrived.wait_timeout(said, left).expect("no reader panics").0;
        }
    }

    /// Waits until it says `serving http://HOST:PORT` and gives an address to connect to.
    #[track_caller]
    pub fn serving(&self) -> SocketAddr {
        let (host, port) = self.wait_for_line(0, "the peer serves", |line| {
            let (_, address) = line.text.strip_prefix("serving http")?.split_once("://")?;
            let authority = address.split(['/', ' ']).next()?;
            let (host, port) = authority.rsplit_once(':')?;
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse::<u16>().ok()?))
        });
        let address: IpAddr = host.parse().unwrap_or(Ipv4Addr::LOCALHOST.into());
        let address = if address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address };
        (address, port).into()
    }

    /// Waits until the tracker has it.
    #[track_caller]
    pub fn joined(&self) {
        self.wait_for_line(0, "the peer has joined", |line| line.text.starts_with("joined").then_some(()));
    }

    /// Writes a line to its stdin and waits for nothing.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin has not been closed");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the process reads its stdin");
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Gives the peer a command and waits for the whole answer.
    ///
    /// Answers have no end mark of their own, so an unknown command goes after each: commands run
    /// one after the other, and the error that names it says that what came before is complete.
    /// The price is that `leave` afterwards exits with 1; [`run`] is for tests of exit codes.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Answer {
        let from = self.line_count();
        self.asked += 1;
        let mark = format!("end-of-answer-{}", self.asked);
        self.send(&format!("{line}\n{mark}"));
        self.wait_for_line(from, line, |line| line.text.contains(&mark).then_some(()));
        let mut answer = Answer { out: Vec::new(), err: Vec::new() };
        for line in self.lines().drain(..).skip(from).filter(|line| !line.text.contains(&mark)) {
            match line.stream {
                Stream::Out => answer.out.push(line.text),
                Stream::Err => answer.err.push(line.text),
            }
        }
        answer
    }

    /// Asks for `text` and gives the rows; panics when the answer is an error.
    #[track_caller]
    pub fn search(&mut self, text: &str) -> Vec<Found> {
        let answer = self.ask(&format!("search {text}"));
        assert_eq!(answer.error(), None, "{}: search {text}", self.name);
        answer.out.iter().map(|line| Found::parse(line)).collect()
    }

    /// Fetches what `arguments` name (quoted as the peer's own command line wants it).
    ///
    /// # Errors
    /// The peer's, without `error: `.
    #[track_caller]
    pub fn get(&mut self, arguments: &str) -> Result<Fetched, String> {
        let answer = self.ask(&format!("get {arguments}"));
        match (answer.out.as_slice(), answer.error()) {
            ([line], None) => Ok(Fetched::parse(line)),
            ([], Some(error)) => Err(error.to_owned()),
            _ => panic!("{}: get gives one line or an error: {answer:?}", self.name),
        }
    }

    /// Waits until it has exited by itself.
    #[track_caller]
    pub fn exited(&mut self) -> ExitStatus {
        let name = &self.name;
        let child = &mut self.child;
        wait_for_some(PATIENCE, &format!("{name} exits"), || child.try_wait().expect("it is our child"))
    }

    /// Bytes of memory, by their name in `/proc/<pid>/status`: `VmRSS` now, `VmHWM` at the peak.
    #[track_caller]
    pub fn memory(&self, name: &str) -> f64 {
        status_field(&format!("/proc/{}/status", self.id()), name).expect("the process runs") * 1024.0
    }

    /// How many threads it has.
    #[track_caller]
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.id())).expect("the process runs").count()
    }

    /// How often its threads have gone to sleep of their own will, and so been woken.
    #[track_caller]
    pub fn wake_ups(&self) -> f64 {
        self.wake_ups_of(|_| true)
    }

    /// As [`Process::wake_ups`], of the threads with such a name.
    #[track_caller]
    pub fn wake_ups_of(&self, is_meant: impl Fn(&str) -> bool) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).expect("the process runs");
        let threads = threads
            .flatten()
            .map(|thread| thread.path())
            .filter(|thread| fs::read_to_string(thread.join("comm")).is_ok_and(|name| is_meant(name.trim_end())));
        let status = threads.map(|thread| thread.join("status").display().to_string());
        status.filter_map(|path| status_field(&path, "voluntary_ctxt_switches")).sum()
    }

    /// Seconds of CPU it has used, threads that have ended included.
    #[track_caller]
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.id())
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), signal);
    }

    /// `kill -9`, as a power cut would; it is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said: String = self.lines().iter().map(|line| format!("\n  {:?} {}", line.stream, line.text)).collect();
            eprintln!("---- {} (process {}) said:{said}\n----", self.name, self.child.id());
        }
    }
}

/// A number from a `status` file of `/proc`; none for a thread that has ended.
pub fn status_field(path: &str, name: &str) -> Option<f64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Found {
    /// Reads a line of `search`.
    #[track_caller]
    pub fn parse(line: &str) -> Self {
        let [content, size, sources, path, ids] = fields(line);
        Self {
            content: content.to_owned(),
            size: size.parse().expect("a size"),
            sources: sources.parse().expect("a number of sources"),
            path: path.to_owned(),
            source_ids: ids.split(',').map(str::to_owned).collect(),
        }
    }
}

impl Fetched {
    /// Reads a line of `get`.
    #[track_caller]
    pub fn parse(line: &str) -> Self {
        let [content, size, path] = fields(line);
        Self { content: content.to_owned(), size: size.parse().expect("a size"), path: path.to_owned() }
    }
}

#[track_caller]
fn fields<const N: usize>(line: &str) -> [&str; N] {
    let fields: Vec<&str> = line.split('\t').collect();
    fields.try_into().unwrap_or_else(|fields| panic!("{N} fields with tabs between, not {fields:?}"))
}

/// What a process that was run to its end left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end with `stdin` as its whole input, as `printf … | peer …` does. It is
/// killed, and the test fails, when it has not ended within [`PATIENCE`].
#[track_caller]
pub fn run(command: Command, stdin: &str) -> Finished {
    let mut process = Process::spawn("a command", command);
    if let Some(mut input) = process.stdin.take() {
        // A command that refuses its arguments does not read; that is no failure of the test.
        let _ = input.write_all(stdin.as_bytes());
    }
    let code = process.exited().code();
    wait_for(PATIENCE, "its output ends", || process.output.said.lock().expect("no reader panics").ended);
    let text = |stream| {
        let lines = process.lines().into_iter().filter(|line| line.stream == stream);
        lines.map(|line| line.text + "\n").collect()
    };
    Finished { code, out: text(Stream::Out), err: text(Stream::Err) }
}

/// Runs one ignored test of the present test binary in a namespace of its own of this `kind` (a flag
/// of unshare), after `setup` in a shell there. Says so, and does nothing, where none can be made.
#[track_caller]
pub fn in_a_namespace(kind: &str, setup: &str, test: &str) {
    let script = format!("{setup} && exec \"$0\" --exact \"$1\" --ignored --nocapture");
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", kind]).args(arguments);
        command
    };
    let probe = unshare(&["sh", "-c", setup]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("skipped: `unshare {kind} sh -c '{setup}'` is not possible here");
        return;
    }
    let mut command = unshare(&["sh", "-c", &script]);
    command.arg(std::env::current_exe().expect("a test binary")).arg(test);
    assert!(command.status().expect("unshare was there before").success(), "{test}, in its namespace");
}
