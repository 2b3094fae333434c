//! How fast many small files come by one `get` of a pattern: over a link with a round trip of its own, and
//! beside `curl --parallel`, which does not bring to disk what it fetched. `make bench` runs this on the static
//! binaries that are shipped.

mod link;
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use link::*;
use report::{Report, median};
use support::*;

/// Bytes in each file.
const SIZE: usize = 10 << 10;
/// Files over the slow link, and beside curl.
const FILES: [usize; 2] = [2000, 1000];
/// Runs over the slow link, and pairs beside curl, whose median counts.
const RUNS: usize = 3;
const PAIRS: usize = 7;
/// Of the slow link.
const ROUND_TRIP: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let mut report = Report::new("make bench");
    // On the checkout's disk: the system's folder for temporary files may be memory.
    let disk = Folder::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    over_a_slow_link(&mut report, &disk);
    match curl_is_parallel() {
        Ok(()) => beside_curl(&mut report, &disk),
        Err(why) => report.skipped("1,000 files beside curl --parallel", &why),
    }
    report.end()
}

fn over_a_slow_link(report: &mut Report, disk: &Folder) {
    let share = files(disk, "far", FILES[0]);
    let tracker = tracker(&["--allow-advertise"]);
    let seed = peer("far", &share, tracker.address, &["--advertise", &NEAR.to_string()]);
    slow_link(seed.address, ROUND_TRIP);
    let seconds = (0..RUNS).map(|run| get_all(disk, run, FILES[0], tracker.address)).collect();
    report.at_most("get 2,000 files of 10 KiB: 20 ms round trip, 100 Mbit/s", median(seconds), 6.6, "s");
}

fn beside_curl(report: &mut Report, disk: &Folder) {
    let share = files(disk, "near", FILES[1]);
    let tracker = tracker(&[]);
    let seed = peer("near", &share, tracker.address, &[]);
    // Not measured: it waits until all files are hashed, and pays for what later ones find warm.
    get_all(disk, PAIRS, FILES[1], tracker.address);
    let (mut gets, mut ratios) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let run = |is_curl| match is_curl {
            true => curl_all(disk, pair, FILES[1], seed.address),
            false => get_all(disk, pair, FILES[1], tracker.address),
        };
        let first = run(pair % 2 == 0);
        let second = run(pair % 2 != 0);
        let (curl, get) = if pair % 2 == 0 { (first, second) } else { (second, first) };
        gets.push(get);
        ratios.push(get / curl);
    }
    report.plain("get 1,000 files of 10 KiB over loopback", median(gets), "s");
    report.pairs_at_most("get 1,000 files: time, curl --parallel = 1", ratios, 2.0);
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let run = |is_curl| match is_curl {
            true => curl_all(disk, pair, FILES[1], seed.address),
            false => get_once(disk, FILES[1], tracker.address),
        };
        let (first, second) = (run(pair % 2 == 0), run(pair % 2 != 0));
        ratios.push(if pair % 2 == 0 { second / first } else { first / second });
    }
    report.pairs_at_most("`peer get`, start and end included, of them", ratios, 2.0);
}

/// A folder with so many files.
fn files(disk: &Folder, name: &str, count: usize) -> std::path::PathBuf {
    for number in 0..count {
        disk.write(format!("{name}/logs/{number:04}"), noise(number as u64, SIZE));
    }
    disk.join(name)
}

/// Seconds of a `get` of all files by a new peer, which leaves afterwards.
fn get_all(disk: &Folder, run: usize, count: usize, tracker: SocketAddr) -> f64 {
    let folder = disk.join("getter");
    fs::create_dir(&folder).expect("a folder");
    let mut getter = peer(&format!("getter-{run}"), &folder, tracker, &[]);
    getter.joined();
    wait_for(PATIENCE, "all files are announced", || getter.search("logs/").len() == count.min(1000));
    let last = format!("logs/{:04}", count - 1);
    wait_for(PATIENCE, "all files are announced", || getter.search(&last).len() == 1);
    run_to_end(&mut Command::new("sync"));
    let started = Instant::now();
    let answer = getter.ask("get 'logs/*'");
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!((answer.error(), answer.out.len()), (None, count), "{:?}", answer.err);
    for number in [0, count / 2, count - 1] {
        assert!(fs::read(folder.join(format!("logs/{number:04}"))).expect("it is here") == noise(number as u64, SIZE));
    }
    getter.send("leave");
    getter.exited();
    fs::remove_dir_all(folder).expect("the folder is ours");
    seconds
}

/// Seconds of a `peer get` of all files, which shares nothing, from its start to its end.
fn get_once(disk: &Folder, count: usize, tracker: SocketAddr) -> f64 {
    let folder = disk.join("once");
    fs::create_dir(&folder).expect("a folder");
    run_to_end(&mut Command::new("sync"));
    let mut command = peer_command(["get", "logs/*", "--quiet", "--tracker", &tracker.to_string()]);
    command.current_dir(&folder).stdout(Stdio::null());
    let started = Instant::now();
    run_to_end(&mut command);
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(fs::read_dir(folder.join("logs")).expect("they are here").count(), count);
    fs::remove_dir_all(folder).expect("the folder is ours");
    seconds
}

/// Seconds that curl takes for the same.
fn curl_all(disk: &Folder, run: usize, count: usize, seed: SocketAddr) -> f64 {
    let folder = disk.join(format!("curl-{run}"));
    fs::create_dir(&folder).expect("a folder");
    let mut list = String::new();
    for number in 0..count {
        let path = folder.join(format!("{number:04}"));
        let _ = writeln!(list, "url = \"http://{seed}/files/logs/{number:04}\"\noutput = \"{}\"", path.display());
    }
    let list = disk.write("list", list);
    run_to_end(&mut Command::new("sync"));
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--fail", "--noproxy", "*", "--parallel", "-K"]).arg(list);
    // With --parallel it shows how far it is, whatever it is told.
    command.stderr(Stdio::null());
    let started = Instant::now();
    run_to_end(&mut command);
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(fs::read_dir(&folder).expect("the folder is ours").count(), count);
    fs::remove_dir_all(folder).expect("the folder is ours");
    seconds
}

fn curl_is_parallel() -> Result<(), String> {
    let mut help = Command::new("curl");
    let help = help.args(["--help", "all"]).stderr(Stdio::null()).output().map_err(|error| format!("curl: {error}"))?;
    let is_known = String::from_utf8_lossy(&help.stdout).contains("--parallel ");
    if is_known { Ok(()) } else { Err("this curl does not know --parallel".into()) }
}

fn run_to_end(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
