//! The hosts of a crowd: a namespace each, on a bridge, with an uplink and a downlink of limited rate;
//! or all of them on loopback.
//!
//! This process is in the bridge's namespace. It sees every host's cable there, and reaches the hosts
//! itself; nothing else does.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::place::{self, Place};

/// Bytes a second that each host sends at most, and receives at most: 40 Mbit/s.
pub(crate) const RATE: u64 = 5_000_000;
/// Shapers let through what comes within 10 ms at once, so that a timer that is late costs nothing.
const BURST: u64 = RATE / 100;
/// What waits at a shaper longer than this is dropped, as cheap routers do.
const QUEUE: &str = "50ms";
/// The hosts before the leechers.
pub(crate) const TRACKER: usize = 0;
pub(crate) const SEED: usize = 1;
/// The index of the first leecher.
pub(crate) const LEECHERS: usize = 2;

/// What the network is like beside its rates.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wires {
    /// Zones that the hosts are spread over; 0 or 1 for none.
    pub(crate) zones: usize,
    /// Of a million packets so many are lost.
    pub(crate) lost: u32,
}

/// A tracker, a seed and leechers, and the network between them. Dropping them removes it all.
pub(crate) struct Hosts<'a> {
    place: &'a Place,
    folder: PathBuf,
    count: usize,
    wires: Wires,
}

/// What went through a cable, as its host sees it: bytes with all headers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl<'a> Hosts<'a> {
    /// Makes so many leechers, and what they need.
    pub(crate) fn new(place: &'a Place, leechers: usize, wires: Wires) -> Self {
        let hosts = Self { place, folder: place::folder(place), count: LEECHERS + leechers, wires };
        for host in 0..hosts.count {
            fs::create_dir(hosts.folder(host)).expect("a folder of ours");
        }
        if matches!(place, Place::Namespaces) {
            hosts.connect();
        }
        hosts
    }

    /// Whether a host's traffic is seen, and can be disturbed.
    pub(crate) fn have_cables(&self) -> bool {
        matches!(self.place, Place::Namespaces)
    }

    /// Indices of the leechers.
    pub(crate) fn leechers(&self) -> std::ops::Range<usize> {
        LEECHERS..self.count
    }

    /// A host's own folder; processes on it start there.
    pub(crate) fn folder(&self, host: usize) -> PathBuf {
        self.folder.join(name(host))
    }

    /// A folder that all can read.
    pub(crate) fn common(&self) -> &Path {
        &self.folder
    }

    /// Where a host is reached.
    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        match self.place {
            Place::Namespaces => address(host),
            Place::Loopback => Ipv4Addr::LOCALHOST,
        }
    }

    /// The zone a host is in, where there are zones.
    pub(crate) fn zone(&self, host: usize) -> Option<usize> {
        (self.wires.zones > 1).then(|| host % self.wires.zones)
    }

    /// The same command, to run on a host.
    pub(crate) fn on(&self, host: usize, command: &Command) -> Command {
        // A namespace begins with the machine's choice of how TCP fills a link; cubic is what most have.
        // With autogroups it is a session's priority that counts, and not a process's.
        const ENTER: &str = "exec 3>&2 2>/dev/null; echo cubic >/proc/sys/net/ipv4/tcp_congestion_control; \
            echo -10 >/proc/self/autogroup; exec 2>&3 3>&-; exec \"$@\"";
        let mut outer = match self.place {
            Place::Namespaces => {
                let mut outer = Command::new("nsenter");
                outer.arg(format!("--net=/run/netns/{}", name(host)));
                outer.args(["setsid", "sh", "-c", ENTER, "sh"]).arg(command.get_program());
                outer
            }
            Place::Loopback => Command::new(command.get_program()),
        };
        outer.args(command.get_args()).current_dir(self.folder(host));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        outer
    }

    /// What has gone through every host's cable.
    pub(crate) fn traffic(&self) -> Vec<Traffic> {
        let cables = cables();
        let of = |host| {
            // What this end of a cable sends, the host receives.
            let cable = cables.get(&cable(host)).copied().unwrap_or_default();
            Traffic { received: cable.sent, sent: cable.received }
        };
        (0..self.count).map(of).collect()
    }

    /// What has come into every zone.
    pub(crate) fn imports(&self) -> Vec<u64> {
        let cables = cables();
        let of = |zone| cables.get(&border(zone)).map_or(0, |cable| cable.received);
        (0..self.zones()).map(of).collect()
    }

    fn zones(&self) -> usize {
        if self.wires.zones > 1 { self.wires.zones } else { 0 }
    }

    fn connect(&self) {
        let mut ip = String::new();
        let mut tc = String::new();
        let _ = writeln!(ip, "addr replace 10.77.255.254/16 dev br0\nlink set br0 up\nlink set lo up");
        for zone in 0..self.zones() {
            let (bridge, border) = (bridge(Some(zone)), border(zone));
            let _ = writeln!(ip, "link add {bridge} type bridge forward_delay 0\nlink set {bridge} up");
            let _ = writeln!(ip, "link add core-{zone} mtu 1500 type veth peer name {border} mtu 1500");
            let _ = writeln!(ip, "link set core-{zone} master br0 up\nlink set {border} master {bridge} up");
        }
        for host in 0..self.count {
            let (name, cable, mac) = (name(host), cable(host), mac(host));
            // The tracker is in no zone: it is beside what is counted.
            let bridge = bridge(self.zone(host).filter(|_| host != TRACKER));
            let _ = writeln!(ip, "netns add {name}");
            let _ = writeln!(
                ip,
                "link add {cable} mtu 1500 type veth peer name eth0 address {mac} mtu 1500 netns {name}\n\
                 link set {cable} master {bridge} up"
            );
            let _ = writeln!(tc, "qdisc add dev {cable} root {}", shaper());
            if self.wires.lost > 0 {
                let _ = writeln!(ip, "link set {cable} gso_max_segs 1");
            }
        }
        run_with("ip", &["-batch", "-"], &ip);
        run_with("tc", &["-batch", "-"], &tc);
        for host in 0..self.count {
            self.set_up(host);
        }
    }

    fn set_up(&self, host: usize) {
        let name = name(host);
        let mut ip = format!("addr add {}/16 dev eth0\nlink set eth0 addrgenmode none\n", address(host));
        ip += "link set eth0 up\nlink set lo up\n";
        // The table of addresses that are asked for is one for all namespaces, and full at 1,024: among
        // 32 hosts some connections would wait for it. Fixed ones do not count.
        for other in (0..self.count).filter(|&other| other != host) {
            let _ = writeln!(ip, "neigh replace {} lladdr {} dev eth0 nud permanent", address(other), mac(other));
        }
        if self.wires.lost > 0 {
            // Otherwise the kernel hands on bundles of up to 64 KiB, and whole bundles would be lost.
            ip += "link set eth0 gso_max_segs 1\n";
        }
        run_with("ip", &["-n", &name, "-batch", "-"], &ip);
        run_with("tc", &["-n", &name, "-batch", "-"], format!("qdisc add dev eth0 root {}", shaper()));
        if self.wires.lost > 0 {
            let rules = format!(
                "add table inet loss; add chain inet loss arriving {{ type filter hook input priority 0; }}; \
                 add rule inet loss arriving iifname eth0 numgen random mod 1000000 < {} drop",
                self.wires.lost
            );
            run("nsenter", &[&format!("--net=/run/netns/{name}"), "nft", &rules]);
        }
    }
}

impl Drop for Hosts<'_> {
    fn drop(&mut self) {
        if matches!(self.place, Place::Namespaces) {
            let mut ip = String::new();
            for host in 0..self.count {
                let _ = writeln!(ip, "link del {}\nnetns del {}", cable(host), name(host));
            }
            for zone in 0..self.zones() {
                let _ = writeln!(ip, "link del {}\nlink del {}", border(zone), bridge(Some(zone)));
            }
            // After a panic the network may be half made; the namespaces end with this process anyway.
            let _ = try_to_run("ip", &["-force", "-batch", "-"], &ip);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A host's name, its peer's id too.
pub(crate) fn name(host: usize) -> String {
    match host {
        TRACKER => "tracker".to_owned(),
        SEED => "seed".to_owned(),
        leecher => format!("leecher-{}", leecher - LEECHERS + 1),
    }
}

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(host + 1).expect("fewer than 250 hosts"))
}

fn mac(host: usize) -> String {
    format!("02:4d:00:00:00:{host:02x}")
}

/// The bridge's end of a host's cable.
fn cable(host: usize) -> String {
    format!("cable-{host}")
}

fn bridge(zone: Option<usize>) -> String {
    zone.map_or("br0".to_owned(), |zone| format!("zone-{zone}"))
}

/// The zone's end of the cable between its bridge and the one in the middle.
fn border(zone: usize) -> String {
    format!("border-{zone}")
}

fn shaper() -> String {
    format!("tbf rate {}bit burst {BURST} latency {QUEUE}", RATE * 8)
}

/// Counters of the cables' ends in this namespace.
fn cables() -> HashMap<String, Traffic> {
    let table = fs::read_to_string("/proc/net/dev").expect("Linux counts");
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|number| number.parse().ok()).collect();
        Some((name.trim().to_owned(), Traffic { received: *counters.first()?, sent: *counters.get(8)? }))
    };
    table.lines().filter_map(line).collect()
}

/// Runs a short command to its end, and panics with its words when it fails.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    run_with(program, arguments, "");
}

/// The same with an input; gives what it printed.
pub(crate) fn run_with(program: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Vec<u8> {
    try_to_run(program, arguments, input).unwrap_or_else(|why| panic!("{program} {}: {why}", arguments.join(" ")))
}

fn try_to_run(program: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // What does not read all of its input says why.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_ref()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(output.stdout) } else { Err(said) }
}
