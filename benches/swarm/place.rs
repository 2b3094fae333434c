//! Where a crowd is made: in namespaces of this run's own, or, where there are none to be had, on
//! loopback.
//!
//! The program starts itself again inside of new namespaces for processes, mounts and the network.
//! What the inner one makes (hosts, a tmpfs, processes) lives there only, so the kernel takes it all
//! away when the inner one ends, whatever ends it: Ctrl-C, a panic, `kill -9`.

use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::process::{Pid, Signal, kill_process, setsid};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::support::hosts::run;

/// The first argument of the inner program.
pub(crate) const INSIDE: &str = "--inside";
/// The folder of the hosts' files inside.
const FILES: &str = "/run/hosts";
/// What the folders of runs on loopback are called; the number of the process follows.
const LOOPBACK_FOLDER: &str = "swarm-of-";

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Where hosts can be made.
pub(crate) enum Place {
    /// Each host a network namespace, all of them inside of this process's own.
    Namespaces,
    /// All hosts on 127.0.0.1, slowed down by limits of their own.
    Loopback,
}

/// Either a place to measure in, or the exit code of the program that has done so inside. `setup` is what the inner
/// program runs first, in a shell; also tried beforehand, to see whether it can be done at all.
pub(crate) fn enter(arguments: &[String], setup: &str) -> Result<Place, ExitCode> {
    if arguments.first().is_some_and(|first| first == INSIDE) {
        settle(setup);
        return Ok(Place::Namespaces);
    }
    let mut inside = match way_in(setup) {
        Ok(inside) => inside,
        Err(why) => {
            println!("no namespaces here ({why}): on loopback, and less is measured");
            stop_on_signals();
            remove_what_was_left();
            return Ok(Place::Loopback);
        }
    };
    let program = env::current_exe().expect("a program knows where it is");
    inside.arg(program).arg(INSIDE).args(arguments).stdin(Stdio::piped());
    let mut child = inside.spawn().expect("it was there a moment ago");
    // The child's stdin stays open as long as this process lives, and tells it so.
    let lifeline = child.stdin.take();
    let status = child.wait().expect("it is our child");
    drop(lifeline);
    Err(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether somebody wants this to end. Inside of namespaces nobody has to ask.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// An empty folder for the hosts' files.
pub(crate) fn folder(place: &Place) -> PathBuf {
    let folder = match place {
        Place::Namespaces => PathBuf::from(FILES),
        Place::Loopback => below().join(format!("{LOOPBACK_FOLDER}{}", process::id())),
    };
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a folder of ours");
    folder
}

fn below() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// What starts a command in namespaces of its own, or why nothing does. Who may not make them otherwise
/// may in a user namespace; the machine's priorities are out of reach there.
fn way_in(setup: &str) -> Result<Command, String> {
    let plain: &[&str] = &["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let unshare = |more: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(more).args(plain).arg("--");
        command
    };
    let mut why = String::new();
    for more in [&[][..], &["--user", "--map-root-user"]] {
        let tried = unshare(more).args(["sh", "-c", setup]).stdin(Stdio::null()).output();
        let tried = tried.map_err(|error| format!("unshare of util-linux: {error}"))?;
        if tried.status.success() {
            return Ok(unshare(more));
        }
        let said = String::from_utf8_lossy(&tried.stderr);
        let said = said.lines().next().unwrap_or("unshare fails");
        why = format!("util-linux and iproute2 are needed: {}", said.trim_start_matches("sh: 1: "));
    }
    Err(why)
}

/// Makes the inner program's surroundings its own.
fn settle(setup: &str) {
    // Ctrl-C goes to a terminal's session; the outer program is the one to hear it.
    let _ = setsid();
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        // This is the first process of its namespace: none of the others outlives it.
        process::exit(130);
    });
    run("sh", &["-c", setup]);
    let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

fn stop_on_signals() {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).expect("these can be caught");
    thread::spawn(move || {
        for _ in signals.forever() {
            STOPPED.store(true, Ordering::Relaxed);
        }
    });
}

/// Ends the processes of runs on loopback that were killed, and removes their folders.
fn remove_what_was_left() {
    for entry in fs::read_dir(below()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(run) = name.strip_prefix(LOOPBACK_FOLDER) else { continue };
        if run.parse::<u32>().is_ok_and(|run| !Path::new(&format!("/proc/{run}")).exists()) {
            end_all_in(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
            println!("removed what a killed run had left: {}", entry.path().display());
        }
    }
}

/// Each host's processes run in its folder.
fn end_all_in(folder: &Path) {
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        if fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
