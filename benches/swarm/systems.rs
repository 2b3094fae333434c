//! What is measured: this project's binaries, and aria2 as something to compare them with.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{
    hosts::{self, Hosts, RATE, SEED, TRACKER},
    support::{
        hosts::{run, run_with},
        *,
    },
};

/// The file that everybody wants.
pub(crate) const FILE: &str = "payload.bin";

/// A way to bring a file from one host to many.
pub(crate) trait System {
    /// Where the file is before anybody has it.
    fn original(&self, hosts: &Hosts<'_>) -> PathBuf {
        hosts.folder(SEED).join(FILE)
    }
    /// Starts the tracker and the seed, and returns when the file can be had.
    fn start(&mut self, hosts: &Hosts<'_>) -> (Process, Process);
    /// Starts what runs on a leecher before it wants the file.
    fn join(&self, hosts: &Hosts<'_>, leecher: usize) -> Option<Process>;
    /// Waits until the file can be asked for there, by all that have joined.
    fn settle(&self, leechers: &mut [Option<Process>]);
    /// Lets a leecher fetch the file.
    fn get(&self, hosts: &Hosts<'_>, leecher: usize, process: &mut Option<Process>);
    /// Lets the seed have the file, where it has not; the clock starts when this returns.
    fn publish(&self, _: &Hosts<'_>, _: &Process) {}
    /// What is there as soon as a leecher has the file.
    fn sign(&self, hosts: &Hosts<'_>, leecher: usize) -> PathBuf;
}

/// The tracker and the peers of this project.
#[derive(Default)]
pub(crate) struct Enjambre {
    tracker: Option<SocketAddr>,
}

impl Enjambre {
    fn peer(&self, hosts: &Hosts<'_>, host: usize, more: &[&str]) -> Process {
        // On loopback all hosts share the ports.
        let port = if hosts.have_cables() { "5000" } else { "0" };
        let mut command = peer_command([&hosts::name(host), port]);
        command.arg(hosts.folder(host)).args(["--bind", &hosts.address(host).to_string()]);
        command.args(["--tracker", &self.tracker.expect("the tracker was started").to_string()]);
        if let Some(zone) = hosts.zone(host) {
            command.args(["--zone", &format!("zone-{zone}")]);
        }
        if !hosts.have_cables() {
            let limit = format!("{}K", RATE / 1024);
            command.args(["--upload-limit", &limit, "--download-limit", &limit]);
        }
        command.args(more);
        Process::spawn(&hosts::name(host), hosts.on(host, &command))
    }

    fn tracker(&mut self, hosts: &Hosts<'_>) -> Process {
        let port = if hosts.have_cables() { 50051 } else { 0 };
        let listen = format!("{}:{port}", hosts.address(TRACKER));
        let tracker = tracker_by(hosts.on(TRACKER, &tracker_command(["--listen", &listen])));
        self.tracker = Some(tracker.address);
        tracker
    }
}

impl System for Enjambre {
    fn start(&mut self, hosts: &Hosts<'_>) -> (Process, Process) {
        let tracker = self.tracker(hosts);
        let mut seed = self.peer(hosts, SEED, &[]);
        seed.joined();
        wait_for(PATIENCE, "the seed's file is found", || seed.search(FILE).len() == 1);
        (tracker, seed)
    }

    fn join(&self, hosts: &Hosts<'_>, leecher: usize) -> Option<Process> {
        Some(self.peer(hosts, leecher, &[]))
    }

    fn settle(&self, leechers: &mut [Option<Process>]) {
        leechers.iter().flatten().for_each(Process::joined);
    }

    fn get(&self, _: &Hosts<'_>, _: usize, process: &mut Option<Process>) {
        process.as_mut().expect("it has joined").send(&format!("get {FILE}"));
    }

    fn sign(&self, hosts: &Hosts<'_>, leecher: usize) -> PathBuf {
        hosts.folder(leecher).join(FILE)
    }
}

/// The same, where all others follow the seed, and it is sent the file when they do.
#[derive(Default)]
pub(crate) struct Followers(Enjambre);

impl System for Followers {
    fn original(&self, hosts: &Hosts<'_>) -> PathBuf {
        hosts.common().join(FILE)
    }

    fn start(&mut self, hosts: &Hosts<'_>) -> (Process, Process) {
        let tracker = self.0.tracker(hosts);
        let mut seed = self.0.peer(hosts, SEED, &[]);
        seed.joined();
        seed.address = seed.serving();
        (tracker, seed)
    }

    fn join(&self, hosts: &Hosts<'_>, leecher: usize) -> Option<Process> {
        Some(self.0.peer(hosts, leecher, &["--mirror", FILE, "--from", &hosts::name(SEED)]))
    }

    fn settle(&self, leechers: &mut [Option<Process>]) {
        self.0.settle(leechers);
    }

    fn publish(&self, hosts: &Hosts<'_>, seed: &Process) {
        let bytes = fs::read(self.original(hosts)).expect("it was written just now");
        assert_eq!(put(seed.address, FILE, &bytes).status, 201);
    }

    fn get(&self, _: &Hosts<'_>, _: usize, _: &mut Option<Process>) {}

    fn sign(&self, hosts: &Hosts<'_>, leecher: usize) -> PathBuf {
        self.0.sign(hosts, leecher)
    }
}

/// aria2 as a BitTorrent client, with opentracker. Only where hosts have namespaces.
#[derive(Default)]
pub(crate) struct Aria2;

impl Aria2 {
    /// # Errors
    /// The sentence that says what is missing.
    pub(crate) fn is_possible() -> Result<(), String> {
        // opentracker will not run as root, and in a user namespace of one user there is nobody else.
        let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if users.split_whitespace().nth(2) == Some("1") {
            return Err("opentracker needs a real root to start it".to_owned());
        }
        let missing: Vec<_> = [("aria2c", "aria2"), ("opentracker", "opentracker"), ("mktorrent", "mktorrent")]
            .into_iter()
            .filter(|(program, _)| !is_installed(program))
            .map(|(_, package)| package)
            .collect();
        let install = || format!("it needs `apt-get install --no-install-recommends {}`", missing.join(" "));
        if missing.is_empty() { Ok(()) } else { Err(install()) }
    }

    fn command(hosts: &Hosts<'_>, host: usize) -> Command {
        let mut command = Command::new("aria2c");
        command.arg(format!("--dir={}", hosts.folder(host).display())).env("HOME", hosts.folder(host));
        command.arg(format!("--bt-request-peer-speed-limit={RATE}"));
        // Nothing but the tracker, no limit on peers, and nobody stops giving.
        command.args(["--quiet", "--no-conf", "--listen-port=6881", "--enable-dht=false", "--enable-dht6=false"]);
        command.args(["--bt-enable-lpd=false", "--enable-peer-exchange=false", "--disable-ipv6=true"]);
        command.args(["--file-allocation=none", "--bt-max-peers=0", "--bt-tracker-interval=5"]);
        command.args(["--seed-time=9999", "--seed-ratio=0.0"]);
        command
    }
}

fn torrent(hosts: &Hosts<'_>) -> PathBuf {
    hosts.common().join("payload.torrent")
}

impl System for Aria2 {
    fn start(&mut self, hosts: &Hosts<'_>) -> (Process, Process) {
        let (torrent, file) = (torrent(hosts), hosts.folder(SEED).join(FILE));
        let tracker = SocketAddr::from((hosts.address(TRACKER), 6969));
        // About 256 pieces of at least 64 KiB, by their power of two.
        let length = fs::metadata(&file).expect("the seed has it").len();
        let power = (length / 256).next_power_of_two().ilog2().max(16).to_string();
        let (into, from) = (torrent.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
        run("mktorrent", &["-l", &power, "-d", "-a", &format!("http://{tracker}/announce"), "-o", into, from]);
        let hash = info_hash(&fs::read(&torrent).expect("it was made just now"));

        // Debian's build gives out listed torrents only. It changes into this folder and its root.
        let folder = hosts.folder(TRACKER);
        fs::write(folder.join("whitelist"), format!("{hash}\n")).expect("a file of ours");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a folder of ours");
        let mut command = Command::new("opentracker");
        command.args(["-i", &hosts.address(TRACKER).to_string(), "-p", "6969", "-P", "6969", "-u", "nobody"]);
        command.arg("-d").arg(&folder).args(["-w", "whitelist"]);
        let opentracker = Process::spawn("opentracker", hosts.on(TRACKER, &command));
        wait_for(PATIENCE, "opentracker listens", || TcpStream::connect(tracker).is_ok());

        let mut command = Self::command(hosts, SEED);
        command.arg("--check-integrity=true").arg(torrent);
        let seed = Process::spawn("aria2 as seed", hosts.on(SEED, &command));
        wait_for(PATIENCE, "aria2's seed is known to be whole", || counts_a_seed(tracker, &hash));

        let hook = hook(hosts);
        fs::write(&hook, "#!/bin/sh\n: >\"${3%/*}/done\"\n").expect("a file of ours");
        fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        (opentracker, seed)
    }

    fn join(&self, _: &Hosts<'_>, _: usize) -> Option<Process> {
        None
    }

    fn settle(&self, _: &mut [Option<Process>]) {}

    fn get(&self, hosts: &Hosts<'_>, leecher: usize, process: &mut Option<Process>) {
        let mut command = Self::command(hosts, leecher);
        command.arg(format!("--on-bt-download-complete={}", hook(hosts).display())).arg(torrent(hosts));
        *process = Some(Process::spawn(&hosts::name(leecher), hosts.on(leecher, &command)));
    }

    fn sign(&self, hosts: &Hosts<'_>, leecher: usize) -> PathBuf {
        // The file has its name from the beginning.
        hosts.folder(leecher).join("done")
    }
}

/// Whether a program is there to be started.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-h").stdin(Stdio::null()).output().is_ok()
}

/// What aria2 runs when it is done.
fn hook(hosts: &Hosts<'_>) -> PathBuf {
    hosts.common().join("done.sh")
}

/// The SHA-1 of a torrent's `info`, the last of the keys that mktorrent writes, in hex digits.
fn info_hash(torrent: &[u8]) -> String {
    const KEY: &[u8] = b"4:info";
    let at = torrent.windows(KEY.len()).position(|window| window == KEY).expect("a torrent has it");
    let sum = run_with("sha1sum", &[], &torrent[at + KEY.len()..torrent.len() - 1]);
    String::from_utf8_lossy(&sum[..40]).into_owned()
}

/// Asks opentracker whether somebody has all of a torrent.
fn counts_a_seed(tracker: SocketAddr, hash: &str) -> bool {
    let escaped: String = (0..hash.len()).step_by(2).map(|at| format!("%{}", &hash[at..at + 2])).collect();
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(tracker)?;
        write!(stream, "GET /scrape?info_hash={escaped} HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.windows(13).any(|window| window == b"8:completei1e"))
}
