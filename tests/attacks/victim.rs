//! A peer under attack, and the well-behaved client at another address that is to be served throughout.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::support::*;

/// Nobody listens there; a peer serves all the same.
pub(crate) const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The address of the well-behaved client; attackers come from others.
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Between two of its requests.
const FRIEND_PAUSE: Duration = Duration::from_millis(5);

/// An attacker's address: each number its own.
pub(crate) fn stranger(number: usize) -> Ipv4Addr {
    let [.., high, low] = (number as u32).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// A peer that shares `a.txt` ("hello") and whatever else an attack puts there.
pub(crate) struct Victim {
    pub(crate) peer: Process,
    pub(crate) folder: Folder,
}

/// What the well-behaved client saw during an attack.
pub(crate) struct Seen {
    /// How long each of its requests took, connecting included, from the shortest to the longest.
    pub(crate) times: Vec<Duration>,
    /// Bytes by which the peer's memory had grown at most.
    pub(crate) growth: f64,
}

impl Seen {
    /// So many of a hundred requests took no longer than this.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.times[(self.times.len() * percent).div_ceil(100) - 1]
    }
}

impl Victim {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        folder.write("a.txt", "hello");
        let peer = peer("victim", folder.path(), NO_TRACKER, &[]);
        Self { peer, folder }.ready()
    }

    /// When `a.txt` is shared.
    pub(crate) fn ready(self) -> Self {
        // An attack holds thousands of connections.
        enjambre::tracker::raise_open_files();
        wait_for(PATIENCE, "a.txt is shared", || get(self.peer.address, "/files/a.txt").status == 200);
        self
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.peer.address)
    }

    /// A connection from an attacker's address; none where the peer does not take it.
    pub(crate) fn connect_from(&self, number: usize) -> Option<Connection> {
        Connection::open_from(stranger(number), self.peer.address).ok()
    }

    /// Sends bytes on a connection of their own, and gives all that comes back until the peer closes.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut connection = self.connect();
        let _ = connection.send(bytes);
        let mut all = Vec::new();
        let _ = connection.stream().read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    }

    /// The status that the first answer to these bytes has.
    pub(crate) fn status(&self, bytes: impl AsRef<[u8]>) -> u16 {
        let mut connection = self.connect();
        let _ = connection.send(bytes);
        connection.answer().expect("an answer").status
    }

    /// A request of the well-behaved client's, over a new connection: how long it took.
    ///
    /// # Errors
    /// When it is not answered as it should be.
    pub(crate) fn serves(&self) -> Result<Duration, String> {
        let start = Instant::now();
        let mut friend = Connection::open_from(FRIEND, self.peer.address).map_err(|error| error.to_string())?;
        friend.send("GET /files/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(|error| error.to_string())?;
        let answer = friend.answer().map_err(|error| error.to_string())?;
        match (answer.status, answer.body.as_slice()) {
            (200, b"hello") => Ok(start.elapsed()),
            (status, body) => Err(format!("{status} {}", body.escape_ascii())),
        }
    }

    /// Attacks, while the well-behaved client asks again and again. Panics unless every request of its is
    /// answered well, and the peer is afterwards as it was before.
    #[track_caller]
    pub(crate) fn survives(&mut self, attack: impl FnOnce(&Self)) -> Seen {
        let resources = |victim: &Self| (victim.count("task"), victim.count("fd"));
        let (tasks, descriptors) = resources(self);
        let before = self.peer.memory("VmRSS");
        let is_over = AtomicBool::new(false);
        let seen = Mutex::new((Vec::new(), Vec::new(), before));
        thread::scope(|scope| {
            let victim = &*self;
            scope.spawn(|| {
                // Once more behind the end, so that no attack is too short to be seen.
                let mut is_last = false;
                while !is_last {
                    is_last = is_over.load(Ordering::Relaxed);
                    let served = victim.serves();
                    let mut seen = seen.lock().expect("nobody panicked");
                    match served {
                        Ok(took) => seen.0.push(took),
                        Err(error) => seen.1.push(error),
                    }
                    if victim.count("task") > 0 {
                        seen.2 = victim.peer.memory("VmRSS").max(seen.2);
                    }
                    drop(seen);
                    thread::sleep(FRIEND_PAUSE);
                }
            });
            // The other thread must end, whatever the attack comes to.
            let attacked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(victim)));
            is_over.store(true, Ordering::Relaxed);
            attacked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let (mut times, failures, most) = seen.into_inner().expect("nobody panicked");
        let shown = &failures[..failures.len().min(3)];
        assert!(failures.is_empty(), "{} of {}: {shown:?}", failures.len(), times.len() + failures.len());
        assert!(self.peer.is_running());
        wait_for(PATIENCE, "threads and descriptors are back", || {
            let (more_tasks, more_descriptors) = resources(self);
            more_tasks <= tasks && more_descriptors <= descriptors
        });
        times.sort();
        Seen { times, growth: most - before }
    }

    /// KiB.
    pub(crate) fn memory(&self) -> u64 {
        (self.peer.memory("VmRSS") / 1024.0) as u64
    }

    /// What there is of one of its folders in `/proc`.
    pub(crate) fn count(&self, what: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{what}", self.peer.id())).map_or(0, Iterator::count)
    }
}
