//! Faults of the machine, one after the other, under real processes: a clear error, nothing lost, and all is
//! well again by itself when the cause is gone.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::*;

/// No tracker is there.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// Waits until another peer's search finds `path`.
#[track_caller]
fn wait_until_found(peer: &mut Process, path: &str) {
    wait_for(PATIENCE, "it is found", || peer.search(path).iter().any(|row| row.path == path));
}

#[track_caller]
fn wait_for_text(process: &Process, from: usize, text: &str) {
    process.wait_for_line(from, text, |line| line.text.contains(text).then_some(()));
}

/// The detail of a problem, and its status.
#[track_caller]
fn problem(response: &Response) -> (u16, String) {
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    (response.status, problem["detail"].as_str().unwrap().to_owned())
}

// ---- a full disk -------------------------------------------------------------------------------

/// Free bytes of a disk.
fn free(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// Fills a disk until so many bytes are free.
fn fill(filler: &Path, left: u64) {
    let mut file = fs::File::create(filler).unwrap();
    let room = free(filler.parent().unwrap());
    file.write_all(&vec![7; (room - left) as usize]).unwrap();
}

#[test]
fn a_full_disk_refuses_uploads_before_they_come_and_takes_them_when_there_is_room() {
    in_a_namespace("--mount", "mount -t tmpfs -o size=16m none /mnt", "inner_a_full_disk_refuses_uploads");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_a_full_disk_refuses_uploads() {
    const MIB: usize = 1 << 20;
    let folder = Folder::below(Path::new("/mnt"));
    let peer = peer("victim", folder.path(), NOWHERE, &["--keep-free", "25%"]);
    put(peer.address, "early", &noise(1, MIB));
    // Too large for what is free: said before a byte of it has come.
    let mut large = Connection::open(peer.address);
    let head =
        "PUT /files/large HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 12582912\r\n\r\n";
    large.send(head).unwrap();
    let (status, detail) = problem(&large.answer().unwrap());
    let sentence = "There is no room for this on this peer's disk: 12 MiB more are needed, and the disk has ";
    assert!(status == 507 && detail.starts_with(sentence), "{status} {detail}");
    assert!(detail.contains(" free beside 4.0 MiB that are kept so (--keep-free); nothing was kept."), "{detail}");

    // Those whose size nobody knows, and those that fit alone and not together, are cut short.
    let uploads = (0..6).map(|number| {
        let mut upload = Connection::open(peer.address);
        let framing = if number % 2 == 0 { "Content-Length: 4194304" } else { "Transfer-Encoding: chunked" };
        upload.send(format!("PUT /files/u{number} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n")).unwrap();
        (number, upload)
    });
    let mut uploads: Vec<_> = uploads.collect();
    for part in 0..4 {
        for (number, upload) in &mut uploads {
            let bytes = noise(100 + *number + part, MIB);
            // One that was refused reads no more.
            let _ = match *number % 2 {
                0 => upload.send(&bytes),
                _ => upload.send(format!("{MIB:x}\r\n")).and_then(|()| upload.send([&bytes[..], b"\r\n"].concat())),
            };
        }
        assert!(free(folder.path()) >= 4 << 20, "{} are free", free(folder.path()));
    }
    let mut taken = Vec::new();
    for (number, upload) in &mut uploads {
        let _ = upload.send(if *number % 2 == 0 { "" } else { "0\r\n\r\n" });
        match upload.answer().map(|answer| answer.status) {
            Ok(201) => taken.push(*number),
            Ok(status) => assert_eq!(status, 507, "u{number}"),
            // The refusal was lost to the reset of a connection whose bytes nobody read.
            Err(_) => {}
        }
    }
    assert!(taken.len() <= 2 && free(folder.path()) >= 4 << 20, "{taken:?}");
    wait_for(PATIENCE, "nothing is left of the others", || {
        fs::read_dir(folder.join(".enjambre/tmp")).unwrap().next().is_none()
    });
    taken.iter().for_each(|number| fs::remove_file(folder.join(format!("u{number}"))).unwrap());

    // A disk that others have filled beyond what is kept free.
    let filler = Path::new("/mnt/filler");
    fill(filler, 0);
    for (method, target, kind, body) in [
        ("PUT", "/files/x", "text/plain", &b"x"[..]),
        (
            "POST",
            "/upload",
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nx\r\n--b--\r\n",
        ),
    ] {
        let refused = request(peer.address, method, target, &[("Content-Type", kind)], body);
        assert_eq!(problem(&refused).0, 507, "{method}");
    }
    assert!(get(peer.address, "/files/early").body == noise(1, MIB));
    assert_eq!(get(peer.address, "/healthz").status, 200);
    fs::remove_file(filler).unwrap();
    put(peer.address, "late", &noise(2, MIB));
    assert!(folder.read("late").unwrap() == noise(2, MIB) && folder.read("x").is_none());
}

#[test]
fn a_download_without_room_is_paused_before_a_byte_comes_and_goes_on_when_there_is_room() {
    in_a_namespace("--mount", "mount -t tmpfs -o size=16m none /mnt", "inner_a_download_without_room_is_paused");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_a_download_without_room_is_paused() {
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::below(Path::new("/mnt")));
    let bytes = noise(3, 6 << 20);
    seed_folder.write("big.bin", &bytes);
    let _seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let mut victim = peer("victim", folder.path(), tracker.address, &["--keep-free", "8M"]);
    wait_until_found(&mut victim, "big.bin");
    let filler = Path::new("/mnt/filler");
    fill(filler, 12 << 20);
    let from = victim.lines().len();
    victim.send("get big.bin");
    let paused = "big.bin paused: 6.0 MiB more are needed, and the disk has ";
    wait_for_text(&victim, from, paused);
    wait_for_text(&victim, from, " free beside 8.0 MiB that are kept so (--keep-free); it goes on when there is room");
    assert_eq!(leftover(&folder), 0, "a byte has come");
    // Others go on meanwhile.
    put(victim.address, "small", b"small");
    fs::remove_file(filler).unwrap();
    wait_for_text(&victim, from, "\tbig.bin");
    assert!(folder.read("big.bin").unwrap() == bytes);
    assert_eq!(victim.lines().iter().filter(|line| line.text.starts_with(paused)).count(), 1, "it is told once");

    // A copy of the own file is no different.
    fill(filler, 9 << 20);
    let from = victim.lines().len();
    victim.send(&format!("get {} copy.bin", blake3::hash(&bytes)));
    wait_for_text(&victim, from, "copy.bin paused: 6.0 MiB more are needed");
    fs::remove_file(filler).unwrap();
    fs::remove_file(folder.join("big.bin")).unwrap();
    wait_for_text(&victim, from, "\tcopy.bin");
    assert!(folder.read("copy.bin").unwrap() == bytes);
}

/// Bytes on disk of downloads under way.
fn leftover(folder: &Folder) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = fs::read_dir(folder.join(".enjambre/partial")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

// ---- folders that cannot be written, read or found -----------------------------------------------

#[test]
fn a_read_only_folder_is_named_at_the_start_and_serves_once_it_is_mended() {
    in_a_namespace("--mount", "mount -t tmpfs -o size=4m none /mnt", "inner_a_read_only_folder");
}

fn remount(how: &str) {
    let done = Command::new("mount").args(["-o", &format!("remount,{how}"), "/mnt"]).status().unwrap();
    assert!(done.success(), "remount,{how}");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_a_read_only_folder() {
    fs::write("/mnt/mine.txt", "mine").unwrap();
    remount("ro");
    let refused = run(peer_command(["victim", "0", "/mnt", "--bind", "127.0.0.1"]), "");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("cannot write to /mnt/.enjambre: give the peer's user permission"), "{refused:?}");
    remount("rw");
    let victim = peer("victim", Path::new("/mnt"), NOWHERE, &[]);
    wait_for(PATIENCE, "it is shared", || get(victim.address, "/files/mine.txt").status == 200);
    put(victim.address, "new", b"new");
}

/// A peer that obeys permissions, even where root runs the tests. None where that cannot be had.
fn humble_peer(folder: &Path) -> Option<Process> {
    let humble = || {
        let mut command = Command::new("unshare");
        command.arg("--user");
        command
    };
    if !humble().arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: `unshare --user` is not possible here");
        return None;
    }
    let mut command = humble();
    command.arg(binary("peer")).args(["victim", "0"]).arg(folder);
    command.args(["--bind", "127.0.0.1", "--tracker", &NOWHERE.to_string()]);
    let mut process = Process::spawn("victim", command);
    process.address = process.serving();
    Some(process)
}

#[test]
fn permission_that_is_denied_is_told_and_asked_for_again() {
    let folder = Folder::new();
    folder.write("sub/read.txt", "read");
    let mode = |name: &str, mode| fs::set_permissions(folder.join(name), PermissionsExt::from_mode(mode)).unwrap();
    let Some(victim) = humble_peer(folder.path()) else { return };
    wait_for(PATIENCE, "it is shared", || get(victim.address, "/files/sub/read.txt").status == 200);
    // A folder that nobody may write to.
    mode("sub", 0o555);
    let (status, detail) = problem(&request(victim.address, "PUT", "/files/sub/new", &[], b"new"));
    let sentence = "cannot make sub/new: permission denied: give the peer's user the right to write there";
    assert!(status == 500 && detail.contains(sentence), "{status} {detail}");
    assert_eq!(get(victim.address, "/files/sub/read.txt").body, b"read");
    mode("sub", 0o755);
    put(victim.address, "sub/new", b"new");
    // A file that nobody may read, before and after it was hashed.
    mode("sub/read.txt", 0);
    let (status, detail) = problem(&get(victim.address, "/files/sub/read.txt"));
    assert!(status == 503 && detail.contains("cannot be opened now"), "{status} {detail}");
    let secret = folder.write("closed.txt", "closed");
    mode("closed.txt", 0);
    fs::File::open(&secret).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    wait_for_text(&victim, 0, "cannot read closed.txt, so it is not shared");
    for name in ["sub/read.txt", "closed.txt"] {
        mode(name, 0o644);
        wait_for(PATIENCE, "it is shared again", || get(victim.address, &format!("/files/{name}")).status == 200);
    }
}

// ---- files that change under way -----------------------------------------------------------------

#[test]
fn a_file_that_is_cut_or_replaced_while_it_is_sent_arrives_whole_or_not_at_all() {
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let old = noise(5, 24 << 20);
    seed_folder.write("big.bin", &old);
    let seed = peer("seed", seed_folder.path(), tracker.address, &["--upload-limit", "8M"]);
    let mut other = peer("other", folder.path(), tracker.address, &[]);
    wait_until_found(&mut other, "big.bin");
    for is_cut in [false, true] {
        let mut download = Connection::open(seed.address);
        download.send("GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(download.head().unwrap().status, 200);
        let from = other.lines().len();
        let content = blake3::hash(&old);
        other.send(&format!("get {content} copy-{is_cut}.bin"));
        let partial = folder.join(format!(".enjambre/partial/{content}"));
        wait_for(PATIENCE, "a get is under way", || fs::metadata(&partial).is_ok_and(|file| file.len() > 1 << 20));
        let path = seed_folder.join("big.bin");
        if is_cut {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        } else {
            let other_file = seed_folder.write("later", noise(6, 24 << 20));
            fs::rename(other_file, &path).unwrap();
        }
        // What was open is the old file: all of it if it was replaced. If it was cut, what the kernel still held of
        // it may go out as zeros, and the answer ends too early, which every client notices.
        let received = download.rest().unwrap_or_default();
        assert!(if is_cut { received.len() < old.len() } else { received == old }, "{} bytes", received.len());
        // The get ends with an error that says so, has nothing wrong under its name, and goes on later.
        wait_for_text(&other, from, "error: ");
        assert_eq!(folder.read(format!("copy-{is_cut}.bin")), None);
        assert!(get(seed.address, "/healthz").status == 200);
        fs::write(&path, &old).unwrap();
        wait_for(PATIENCE, "it is offered again", || {
            other
                .search("big.bin")
                .iter()
                .any(|row| row.content == content.to_string() && row.source_ids.contains(&"seed".into()))
        });
        let here = other.get(&format!("{content} copy-{is_cut}.bin"));
        assert!(here.is_ok() && folder.read(format!("copy-{is_cut}.bin")).unwrap() == old, "{here:?}");
        fs::remove_file(folder.join(format!("copy-{is_cut}.bin"))).unwrap();
        wait_for(PATIENCE, "the copy is forgotten", || {
            get(other.address, &format!("/content/{content}")).status == 404
        });
    }
}

// ---- too many open files -------------------------------------------------------------------------

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

// ---- a disk that fails -----------------------------------------------------------------------------

/// Has system calls of a process on a file fail with EIO until this is dropped. None where strace cannot be had.
fn failing(process: &Process, calls: &str, path: &Path) -> Option<Process> {
    let mut command = Command::new("strace");
    let pid = process.id().to_string();
    let inject = format!("inject={calls}:error=EIO");
    command.args(["-f", "-e", &format!("trace={calls}"), "-e", &inject, "-P"]).arg(path).args(["-p", &pid]);
    if !Command::new("strace").args(["-e", "trace=none", "true"]).status().is_ok_and(|status| status.success()) {
        println!("skipped: strace is not here, or may not trace");
        return None;
    }
    let strace = Process::spawn("strace", command);
    wait_for_text(&strace, 0, "attached");
    Some(strace)
}

#[test]
fn a_disk_that_fails_is_told_of_and_tried_again() {
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let bytes = noise(9, 2 << 20);
    let path = seed_folder.write("big.bin", &bytes);
    let seed = peer("seed", seed_folder.path(), tracker.address, &[]);
    let mut victim = peer("victim", folder.path(), tracker.address, &[]);
    wait_until_found(&mut victim, "big.bin");
    // Reading: the connection ends, and nothing wrong goes out.
    let Some(strace) = failing(&seed, "splice,sendfile,read,pread64", &path) else { return };
    let mut download = Connection::open(seed.address);
    download.send("GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let body = download.head().and_then(|_| download.rest()).unwrap_or_default();
    assert!(body.len() < bytes.len() && bytes.starts_with(&body), "{} bytes", body.len());
    drop(strace);
    wait_for(PATIENCE, "it is served again", || get(seed.address, "/files/big.bin").body == bytes);
    // Writing: the get ends with an error and keeps what is here.
    let partial = folder.join(format!(".enjambre/partial/{}", blake3::hash(&bytes)));
    let Some(strace) = failing(&victim, "pwrite64,fsync", &partial) else { return };
    let error = victim.get("big.bin").unwrap_err();
    assert!(error.contains("cannot write the download: ") && error.contains("os error 5"), "{error}");
    assert!(folder.read("big.bin").is_none());
    drop(strace);
    assert_eq!(victim.get("big.bin").map(|fetched| fetched.size), Ok(bytes.len() as u64));
    assert!(folder.read("big.bin").unwrap() == bytes);
}

// ---- a clock that jumps ----------------------------------------------------------------------------

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

// ---- a folder that goes ----------------------------------------------------------------------------

#[test]
fn a_folder_that_is_removed_is_told_of_and_served_again_when_it_is_back() {
    let tracker = tracker(&["--lease", "2"]);
    let (above, other_folder) = (Folder::new(), Folder::new());
    above.write("share/mine.txt", "mine");
    let share = above.join("share");
    let mut other = peer("other", other_folder.path(), tracker.address, &[]);
    let mut victim = peer("victim", &share, tracker.address, &[]);
    wait_until_found(&mut other, "mine.txt");
    fs::remove_dir_all(&share).unwrap();
    wait_for_text(&victim, 0, "was removed");
    wait_for(PATIENCE, "it is not offered any more", || other.search("mine.txt").is_empty());
    assert_eq!(get(victim.address, "/files/mine.txt").status, 404);
    let (status, detail) = problem(&request(victim.address, "PUT", "/files/new", &[], b"new"));
    assert!(status == 500 && detail.contains("the share's folder was removed: put it back"), "{status} {detail}");
    other_folder.write("theirs.txt", "theirs");
    wait_until_found(&mut victim, "theirs.txt");
    let error = victim.get("theirs.txt").unwrap_err();
    assert!(error.contains("was removed"), "{error}");
    // Put back, it is another folder: the peer starts anew, in the same process.
    let process = victim.id();
    above.write("share/mine.txt", "mine again");
    wait_for_text(&victim, 0, "is there again: starting anew");
    wait_until_found(&mut other, "mine.txt");
    assert!(victim.is_running() && fs::read_dir(format!("/proc/{process}/task")).is_ok());
    let again = victim
        .lines()
        .iter()
        .rev()
        .find_map(|line| line.text.strip_prefix("serving http://")?.split(' ').next()?.parse::<SocketAddr>().ok());
    put(again.unwrap(), "new", b"new");
    assert_eq!(other.get("mine.txt").map(|fetched| fetched.size), Ok(10));
    // Its commands go on, too.
    wait_until_found(&mut victim, "theirs.txt");
}

#[test]
fn a_folder_that_is_unmounted_stays_with_the_peer_that_has_it_open() {
    in_a_namespace("--mount", "mount -t tmpfs -o size=8m none /mnt", "inner_a_folder_that_is_unmounted");
}

#[test]
#[ignore = "runs in a namespace that the test before makes"]
fn inner_a_folder_that_is_unmounted() {
    fs::write("/mnt/mine.txt", "mine").unwrap();
    let victim = peer("victim", Path::new("/mnt"), NOWHERE, &[]);
    wait_for(PATIENCE, "it is shared", || get(victim.address, "/files/mine.txt").status == 200);
    // The peer keeps it busy; only by force does it go, and then what the peer has open stays good.
    assert!(!Command::new("umount").arg("/mnt").status().unwrap().success());
    assert!(Command::new("umount").args(["--lazy", "/mnt"]).status().unwrap().success());
    assert_eq!(get(victim.address, "/files/mine.txt").body, b"mine");
    put(victim.address, "new", b"new");
    assert!(!Path::new("/mnt/new").exists() && !Path::new("/mnt/.enjambre").exists());
    assert_eq!(get(victim.address, "/files/new").body, b"new");
}
