//! The hosts of a crowd: a namespace each, on a bridge, with an uplink and a downlink of limited rate;
//! or all of them on loopback.
//!
//! This process is in the bridge's namespace. It sees every host's cable there, and reaches the hosts
//! itself; nothing else does.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    place::{self, Place},
    support::hosts::{self, address, cable, run, run_with, try_to_run},
};

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
            Place::Namespaces => hosts::enter(&name(host), &["setsid", "sh", "-c", ENTER, "sh"], command),
            Place::Loopback => {
                let mut outer = Command::new(command.get_program());
                hosts::hand_over(&mut outer, command);
                outer
            }
        };
        outer.current_dir(self.folder(host));
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
        let mut ip = hosts::bridge_lines();
        let mut tc = String::new();
        for zone in 0..self.zones() {
            let (bridge, border) = (bridge(Some(zone)), border(zone));
            let _ = writeln!(ip, "link add {bridge} type bridge forward_delay 0\nlink set {bridge} up");
            let _ = writeln!(ip, "link add core-{zone} mtu 1500 type veth peer name {border} mtu 1500");
            let _ = writeln!(ip, "link set core-{zone} master br0 up\nlink set {border} master {bridge} up");
        }
        for host in 0..self.count {
            let cable = cable(host);
            // The tracker is in no zone: it is beside what is counted.
            let bridge = bridge(self.zone(host).filter(|_| host != TRACKER));
            ip += &hosts::host_lines(host, &name(host), &bridge);
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
        let mut ip = hosts::inner_lines(host, self.count);
        if self.wires.lost > 0 {
            // Otherwise the kernel hands on bundles of up to 64 KiB, and whole bundles would be lost.
            ip += "link set eth0 gso_max_segs 1\n";
        }
        run_with("ip", &["-n", &name, "-batch", "-"], &ip);
        run_with("tc", &["-n", &name, "-batch", "-"], format!("qdisc add dev eth0 root {}", shaper()));
        if self.wires.lost > 0 {
            let rules = format!(
                "add table inet loss; add chain inet loss arriving {{ type filter hook input priority 0; }}; \
                 add rule inet loss arriving {}",
                hosts::loss(self.wires.lost)
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
