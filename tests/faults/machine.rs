//! A machine that has no descriptors left, or whose clock jumps.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::{problem, support::*, wait_until_found};

fn limit_descriptors(process: &Process, most: u64) {
    let pid = Pid::from_raw(process.id() as i32);
    // The hard limit stays, so that anybody may raise this one again.
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
}

#[test]
fn without_descriptors_a_peer_waits_and_is_well_again_when_there_are_some() {
    let tracker = tracker(&["--lease", "2"]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let bytes = noise(8, 3 << 20);
    seed_folder.write("big.bin", &bytes);
    let seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let mut victim = peer("victim", folder.path(), tracker.address, &[]);
    folder.write("mine.txt", "mine");
    wait_until_found(&mut victim, "big.bin");
    wait_for(PATIENCE, "it is shared", || get(victim.address, "/files/mine.txt").status == 200);
    let mut kept = Connection::open(victim.address);
    kept.send("PUT /files/kept HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n").unwrap();
    wait_for(PATIENCE, "an upload is under way", || {
        fs::read_dir(folder.join(".enjambre/tmp")).unwrap().next().is_some()
    });
    // None is left.
    limit_descriptors(&victim, 3);
    let answer = victim.ask(&format!("get {} big.bin", blake3::hash(&bytes)));
    assert!(answer.error().is_some_and(|error| error.contains("too many files are open")), "{answer:?}");
    // The descriptor for one more was set aside before.
    let _last = Connection::open(victim.address);
    let mut waiting = Connection::open(victim.address);
    waiting.send("GET /files/mine.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    folder.write("unseen.txt", "unseen");
    kept.send("kept").unwrap();
    let (status, detail) = problem(&kept.answer().unwrap());
    assert!(status >= 500 && detail.contains("too many files are open: try again in a moment"), "{status} {detail}");
    assert!(folder.read("kept").is_none() && victim.is_running());
    limit_descriptors(&victim, 1024);
    let answer = waiting.answer().unwrap();
    assert!(answer.status == 200 || answer.status == 503, "{}", answer.text());
    for (name, bytes) in [("mine.txt", "mine"), ("unseen.txt", "unseen")] {
        wait_for(PATIENCE, name, || get(victim.address, &format!("/files/{name}")).body == bytes.as_bytes());
    }
    put(victim.address, "kept", b"kept");
    assert_eq!(victim.get("big.bin").map(|fetched| fetched.size), Ok(bytes.len() as u64));
    wait_until_found(&mut victim, "unseen.txt");
    drop(seed);
}

/// Takes the place of libc's, and adds the seconds that the file `TEST_CLOCK` holds to the time of day.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    char text[32] = {0};
    int file = id == CLOCK_REALTIME ? open(getenv("TEST_CLOCK"), O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0 && read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
    if (file >= 0) close(file);
    return result;
}
"#;

#[test]
fn a_clock_that_jumps_by_a_year_ends_no_lease_and_makes_nothing_old() {
    let tools = Folder::new();
    let (shim, clock) = (tools.join("clock.so"), tools.write("clock", "0"));
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(tools.write("clock.c", CLOCK)).status();
    let with_clock = |mut command: Command| {
        command.env("LD_PRELOAD", &shim).env("TEST_CLOCK", &clock);
        command
    };
    let set = |seconds: i64| fs::write(&clock, seconds.to_string()).unwrap();
    set(366 * 24 * 3600);
    let year = with_clock(Command::new("date")).arg("+%s").output().map(|date| String::from_utf8(date.stdout).unwrap());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let works = year.is_ok_and(|year| year.trim().parse().is_ok_and(|year: u64| year > now + 365 * 24 * 3600));
    if !works || !compiled.unwrap().success() || std::env::var_os("TEST_BINARIES").is_some() {
        return println!("skipped: the clock of a process cannot be set here");
    }
    for jump in [1, -1] {
        set(0);
        let tracker = tracker_by(with_clock(tracker_command(["--listen", "127.0.0.1:0", "--lease", "2"])));
        let start = |id: &str, folder: &Folder| {
            let mut command = with_clock(peer_command([id, "0"]));
            command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", &tracker.address.to_string()]);
            let mut process = Process::spawn(id, command);
            process.address = process.serving();
            process
        };
        let (seed_folder, folder) = (Folder::new(), Folder::new());
        seed_folder.write("big.bin", noise(10, 1 << 20));
        // What is here of a download that failed is kept for a week.
        let left = folder.write(format!(".enjambre/partial/{}", blake3::hash(b"left")), "le");
        let (seed, mut victim) = (start("seed", &seed_folder), start("victim", &folder));
        wait_until_found(&mut victim, "big.bin");
        set(jump * 366 * 24 * 3600);
        let jumped = Instant::now();
        while jumped.elapsed() < Duration::from_secs(5) {
            assert_eq!(victim.search("big.bin").len(), 1, "a lease has ended");
            thread::sleep(Duration::from_millis(50));
        }
        // A failure has what is too old removed.
        assert!(victim.get(&format!("{} x.bin", blake3::hash(b"nobody has it"))).is_err());
        assert_eq!(victim.get("big.bin").map(|fetched| fetched.size), Ok(1 << 20));
        put(seed.address, "up", b"up");
        seed_folder.write("copied", "in");
        for path in ["up", "copied"] {
            wait_until_found(&mut victim, path);
        }
        assert!(left.exists(), "what was here of a download is lost");
        for peer in [&seed, &victim] {
            let joined = peer.lines().iter().filter(|line| line.text.starts_with("joined")).count();
            assert_eq!(joined, 1, "it lost its lease");
        }
    }
}
