//! Those who fetch, in benchmarks, and how long it takes them.
// Each benchmark compiles this for itself and uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::*;

/// Long enough for 2 GiB to reach a slow disk.
pub const MINUTES: Duration = Duration::from_secs(300);

/// Where gets of 2 GiB are compared: a disk spreads them by a factor of four. Five GiB have to be free.
pub const MEMORY: &str = "/dev/shm";

/// Seconds that a `get` takes, from the typed line to the result.
pub fn time_get(getter: &mut Process, path: &str) -> f64 {
    let from = getter.lines().len();
    let started = Instant::now();
    getter.send(&format!("get {path}"));
    let result = getter.wait_long_for_line(MINUTES, from, "the result of a get", |line| {
        (line.stream == Stream::Out || line.text.starts_with("error: ")).then(|| line.clone())
    });
    let seconds = seconds(started);
    assert_eq!(result.stream, Stream::Out, "{}", result.text);
    seconds
}

/// The same for the only file that a peer shares then, and which is removed again.
pub fn time_get_of(getter: &mut Process, fetched: &Path) -> f64 {
    let seconds = time_get(getter, fetched.file_name().and_then(OsStr::to_str).expect("a file"));
    fs::remove_file(fetched).expect("it was fetched");
    wait_for(MINUTES, "the removal is noticed", || getter.ask("list").out.is_empty());
    seconds
}

/// Waits until a peer has hashed a file.
pub fn is_shared(peer: &Process, path: &str) {
    let target = format!("/files/{path}");
    wait_for(MINUTES, "the file is hashed", || request(peer.address, "HEAD", &target, &[], b"").status == 200);
}

/// Runs curl, without what its user may have configured, and gives the seconds of the transfer.
pub fn curl(args: &[&str]) -> f64 {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--fail", "--noproxy", "*", "-w", "%{stderr}%{time_total}"]).args(args);
    let output = command.stdin(Stdio::null()).output().expect("curl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {args:?}: {said}");
    said.trim().parse().expect("curl says how long it took")
}

/// Writes a file of so many random bytes, and waits until it is on the disk.
pub fn random_file(path: &Path, length: u64) {
    let mut random = File::open("/dev/urandom").expect("there is randomness").take(length);
    let mut file = File::create(path).expect("a new file");
    io::copy(&mut random, &mut file).expect("there is room on the disk");
    file.sync_all().expect("the disk takes it");
}

/// Runs both, each first in every other pair.
pub fn pairs<T>(count: usize, mut one: impl FnMut() -> T, mut other: impl FnMut() -> T) -> Vec<(T, T)> {
    let pair = |number| {
        if number % 2 == 0 {
            let first = one();
            (first, other())
        } else {
            let first = other();
            (one(), first)
        }
    };
    (0..count).map(pair).collect()
}

/// Fills so many bytes of [`MEMORY`] and frees them, for a get that is measured next to fill the same ones. A virtual
/// machine gives what was freed back to its host before long, and who is first to use it again waits for that: by a
/// factor of two, which was every other get's share.
pub fn warm_memory(length: u64) {
    let folder = Folder::below(Path::new(MEMORY));
    let mut file = File::create(folder.join("warm")).expect("a new file");
    io::copy(&mut io::repeat(1).take(length), &mut file).expect("there is room in memory");
}

/// Seconds since then.
pub fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
