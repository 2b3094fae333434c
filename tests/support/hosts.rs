//! Hosts on a network of this process's own: a namespace each, on a bridge, with faults where they are wanted.
//!
//! This process is in the bridge's namespace, at [`OBSERVER`]. Faults between hosts never touch what goes
//! between it and them, so what it sees of a host is true however the host is cut off.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// Makes the bridge, in new namespaces for the network and for mounts: `ip netns` wants a folder in /run.
pub const BRIDGE: &str = "mount -t tmpfs -o size=90% hosts /run && mkdir /run/netns && \
    ip link add br0 type bridge forward_delay 0 && nsenter --version >/dev/null";
/// Tries what a [`Lan`] needs beside it.
pub const FAULTS: &str = "nft 'add table inet faults; \
    add chain inet faults arriving { type filter hook input priority 0; }; \
    add rule inet faults arriving numgen random mod 1000000 < 1 drop; delete table inet faults'";
/// Where this process is.
pub const OBSERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);

/// The address of the host of a number.
pub fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(host + 1).expect("fewer than 250 hosts"))
}

/// The bridge's end of a host's cable.
pub fn cable(host: usize) -> String {
    format!("cable-{host}")
}

fn mac(host: usize) -> String {
    format!("02:4d:00:00:00:{host:02x}")
}

/// Lines for `ip -batch` that set up the bridge.
pub fn bridge_lines() -> String {
    format!("addr replace {OBSERVER}/16 dev br0\nlink set br0 up\nlink set lo up\n")
}

/// Lines for `ip -batch` that make a host's namespace, and its cable to a bridge.
pub fn host_lines(host: usize, name: &str, bridge: &str) -> String {
    let (cable, mac) = (cable(host), mac(host));
    format!(
        "netns add {name}\n\
         link add {cable} mtu 1500 type veth peer name eth0 address {mac} mtu 1500 netns {name}\n\
         link set {cable} master {bridge} up\n"
    )
}

/// Lines for `ip -batch` in a host's namespace, one of `count` hosts.
pub fn inner_lines(host: usize, count: usize) -> String {
    let mut ip = format!("addr add {}/16 dev eth0\nlink set eth0 addrgenmode none\n", address(host));
    ip += "link set eth0 up\nlink set lo up\n";
    // The table of addresses that are asked for is one for all namespaces, and full at 1,024: among
    // 32 hosts some connections would wait for it. Fixed ones do not count.
    for other in (0..count).filter(|&other| other != host) {
        let _ = writeln!(ip, "neigh replace {} lladdr {} dev eth0 nud permanent", address(other), mac(other));
    }
    ip
}

/// The same command, with its arguments and variables, in a host's namespace. `before` is what runs it there.
pub fn enter(name: &str, before: &[&str], command: &Command) -> Command {
    let mut outer = Command::new("nsenter");
    outer.arg(format!("--net=/run/netns/{name}")).args(before).arg(command.get_program());
    hand_over(&mut outer, command);
    outer
}

/// Gives a command another's arguments and variables.
pub fn hand_over(outer: &mut Command, command: &Command) {
    outer.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
}

/// A rule of nftables by which a host loses so many of a million packets that come to it.
pub fn loss(lost: u32) -> String {
    format!("iifname eth0 numgen random mod 1000000 < {lost} drop")
}

/// Whom a host does not reach, and is not reached by.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum Cut {
    /// All are there.
    #[default]
    Nobody,
    /// These hosts are away.
    From(Vec<usize>),
    /// Everybody is away, but for the observer.
    Everybody,
}

/// Hosts called `host-0` and so on. They end with this process's namespace.
pub struct Lan {
    count: usize,
}

impl Lan {
    /// Makes so many, where [`BRIDGE`] and [`FAULTS`] have been run before.
    #[track_caller]
    pub fn new(count: usize) -> Self {
        let mut ip = bridge_lines();
        for host in 0..count {
            ip += &host_lines(host, &Self::name(host), "br0");
            // Otherwise the kernel hands on bundles of up to 64 KiB, and whole bundles would be lost.
            let _ = writeln!(ip, "link set {} gso_max_segs 1", cable(host));
        }
        run_with("ip", &["-batch", "-"], &ip);
        for host in 0..count {
            let inner = inner_lines(host, count) + "link set eth0 gso_max_segs 1\n";
            run_with("ip", &["-n", &Self::name(host), "-batch", "-"], &inner);
        }
        Self { count }
    }

    fn name(host: usize) -> String {
        format!("host-{host}")
    }

    /// How many hosts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The same command, to run on a host.
    pub fn on(&self, host: usize, command: &Command) -> Command {
        enter(&Self::name(host), &[], command)
    }

    /// From now on the host loses so many of a million packets that come to it, and those it is `cut` off from do
    /// not hear of it, nor it of them. Connections stand as they are: nobody is told.
    #[track_caller]
    pub fn disturb(&self, host: usize, lost: u32, cut: &Cut) {
        let mut nft = "add table inet faults\ndelete table inet faults\nadd table inet faults\n".to_owned();
        for (chain, hook, end) in [("arriving", "input", "saddr"), ("leaving", "output", "daddr")] {
            let _ = writeln!(nft, "add chain inet faults {chain} {{ type filter hook {hook} priority 0; }}");
            let mut rule = |rule: &str| _ = writeln!(nft, "add rule inet faults {chain} {rule}");
            rule(&format!("ip {end} {OBSERVER} accept"));
            // Its own calls to itself.
            rule(&format!("ip {end} {} accept", address(host)));
            match cut {
                Cut::Nobody => {}
                Cut::From(others) => {
                    others.iter().for_each(|&other| rule(&format!("ip {end} {} drop", address(other))));
                }
                Cut::Everybody => rule("drop"),
            }
        }
        if lost > 0 {
            let _ = writeln!(nft, "add rule inet faults arriving {}", loss(lost));
        }
        let name = Self::name(host);
        run_with("nsenter", &[&format!("--net=/run/netns/{name}"), "nft", "-f", "-"], nft);
    }
}

/// Runs a short command to its end, and panics with its words when it fails.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) {
    run_with(program, arguments, "");
}

/// The same with an input; gives what it printed.
#[track_caller]
pub fn run_with(program: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Vec<u8> {
    try_to_run(program, arguments, input).unwrap_or_else(|why| panic!("{program} {}: {why}", arguments.join(" ")))
}

/// The same; what it said when it failed.
///
/// # Errors
/// When it fails, or cannot be started.
pub fn try_to_run(program: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // What does not read all of its input says why.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_ref()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(output.stdout) } else { Err(said) }
}
