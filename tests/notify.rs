//! What systemd is told (sd_notify(3)), by a socket of the test's own.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram},
    },
    process::Command,
    time::{Duration, Instant},
};

use support::*;

/// How long a process may be silent.
const WATCHDOG: Duration = Duration::from_millis(900);

/// Who listens to a process.
struct Supervisor {
    socket: UnixDatagram,
}

impl Supervisor {
    /// At a path of a folder, and what `NOTIFY_SOCKET` says.
    fn at_path(folder: &Folder) -> (Self, String) {
        let path = folder.join("notify");
        (Self::of(UnixDatagram::bind(&path).unwrap()), path.display().to_string())
    }

    /// Under an abstract name.
    fn abstract_one(name: &str) -> (Self, String) {
        let name = format!("enjambre-{name}-{}", std::process::id());
        let address = UnixAddr::from_abstract_name(&name).unwrap();
        (Self::of(UnixDatagram::bind_addr(&address).unwrap()), format!("@{name}"))
    }

    fn of(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// The next that is told, whole; panics when nothing is for [`PATIENCE`].
    #[track_caller]
    fn next(&self) -> String {
        let mut block = [0; 4096];
        let length = self.socket.recv(&mut block).expect("it tells something");
        String::from_utf8(block[..length].to_vec()).unwrap()
    }

    /// The next that is told beside signs of life.
    #[track_caller]
    fn next_state(&self) -> String {
        loop {
            let next = self.next();
            if next != "WATCHDOG=1" {
                return next;
            }
        }
    }
}

fn supervised(mut command: Command, socket: &str, more: &[(&str, &str)]) -> Command {
    command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    command.env_remove("WATCHDOG_PID").envs(more.iter().copied());
    command
}

/// A peer's command, without a tracker.
fn peer_at(folder: &Folder) -> Command {
    let mut command = peer_command(["p", "0"]);
    command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", "127.0.0.1:9"]);
    command
}

#[test]
fn a_peer_is_ready_when_it_serves_gives_signs_of_life_and_says_that_it_stops() {
    let (home, place) = (Folder::new(), Folder::new());
    let (supervisor, socket) = Supervisor::at_path(&place);
    let mut process = Process::spawn("p", supervised(peer_at(&home), &socket, &[]));
    let ready = supervisor.next();
    let at: SocketAddr =
        ready.strip_prefix("READY=1\nSTATUS=serving http://").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(get(at, "/healthz").status, 200, "it serves by now");
    is_heard_in_time(&supervisor);
    process.signal(Signal::TERM);
    assert!(supervisor.next_state().starts_with("STOPPING=1\n"));
    assert!(process.exited().success());
}

#[test]
fn a_tracker_is_ready_when_it_listens_gives_signs_of_life_and_says_that_it_stops() {
    let (supervisor, socket) = Supervisor::abstract_one("tracker");
    let mut process = tracker_by(supervised(tracker_command(["--listen", "127.0.0.1:0"]), &socket, &[]));
    let ready = format!("READY=1\nSTATUS=tracker listening on {}", process.address);
    assert!(supervisor.next().starts_with(&ready));
    is_heard_in_time(&supervisor);
    process.signal(Signal::TERM);
    assert!(supervisor.next_state().starts_with("STOPPING=1\n"));
    assert!(process.exited().success());
}

/// Signs of life come often enough, five times in a row.
#[track_caller]
fn is_heard_in_time(supervisor: &Supervisor) {
    for _ in 0..5 {
        let since = Instant::now();
        assert_eq!(supervisor.next(), "WATCHDOG=1");
        assert!(since.elapsed() < WATCHDOG, "{:?}", since.elapsed());
    }
}

#[test]
fn signs_of_life_that_another_process_shall_give_are_not_given() {
    let (home, place) = (Folder::new(), Folder::new());
    let (supervisor, socket) = Supervisor::at_path(&place);
    let mut process = Process::spawn("p", supervised(peer_at(&home), &socket, &[("WATCHDOG_PID", "1")]));
    assert!(supervisor.next().starts_with("READY=1\n"));
    supervisor.socket.set_read_timeout(Some(WATCHDOG)).unwrap();
    assert!(supervisor.socket.recv(&mut [0; 100]).is_err(), "nothing is said meanwhile");
    supervisor.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    process.signal(Signal::INT);
    assert!(supervisor.next().starts_with("STOPPING=1\n"));
    assert!(process.exited().success());
}

#[test]
fn a_supervisor_that_cannot_be_told_holds_nobody_up() {
    for socket in ["/nowhere/notify", "@nobody-is-here", "vsock:2:1234", "", "relative"] {
        let home = Folder::new();
        let mut process = Process::spawn("p", supervised(peer_at(&home), socket, &[]));
        process.address = process.serving();
        assert_eq!(get(process.address, "/healthz").status, 200, "{socket}");
        process.signal(Signal::TERM);
        assert!(process.exited().success(), "{socket}");
    }
}
