//! A disk that fails, or is read-only from one moment to the next.

use std::{fs, path::PathBuf, process::Command};

use super::{problem, support::*, wait_for_text, wait_until_found};

/// Has system calls of a process on these files fail until this is dropped. None where strace cannot be had.
fn failing(process: &Process, calls: &str, error: &str, paths: &[PathBuf]) -> Option<Process> {
    let mut command = Command::new("strace");
    let pid = process.id().to_string();
    let inject = format!("inject={calls}:error={error}");
    command.args(["-f", "-e", &format!("trace={calls}"), "-e", &inject, "-p", &pid]);
    paths.iter().for_each(|path| _ = command.arg("-P").arg(path));
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
    let Some(strace) = failing(&seed, "splice,sendfile,read,pread64", "EIO", &[path]) else { return };
    let mut download = Connection::open(seed.address);
    download.send("GET /files/big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let body = download.head().and_then(|_| download.rest()).unwrap_or_default();
    assert!(body.len() < bytes.len() && bytes.starts_with(&body), "{} bytes", body.len());
    drop(strace);
    wait_for(PATIENCE, "it is served again", || get(seed.address, "/files/big.bin").body == bytes);
    // Writing: the get ends with an error and keeps what is here.
    let partial = folder.join(format!(".enjambre/partial/{}", blake3::hash(&bytes)));
    let Some(strace) = failing(&victim, "pwrite64,fsync", "EIO", &[partial]) else { return };
    let error = victim.get("big.bin").unwrap_err();
    assert!(error.contains("cannot write the download: ") && error.contains("os error 5"), "{error}");
    assert!(folder.read("big.bin").is_none());
    drop(strace);
    assert_eq!(victim.get("big.bin").map(|fetched| fetched.size), Ok(bytes.len() as u64));
    assert!(folder.read("big.bin").unwrap() == bytes);
}

#[test]
fn a_disk_that_is_read_only_of_a_sudden_is_told_of_loses_nothing_and_takes_files_again() {
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let bytes = noise(11, 6 << 20);
    seed_folder.write("big.bin", &bytes);
    (0..3).for_each(|number| _ = seed_folder.write(format!("small/{number}"), noise(number, 1000)));
    let _seed = peer("seed", seed_folder.path(), tracker.address, &["--upload-limit", "2M"]);
    let mut victim = peer("victim", folder.path(), tracker.address, &[]);
    folder.write("mine.txt", "mine");
    put(victim.address, "early", b"early");
    wait_until_found(&mut victim, "big.bin");
    wait_until_found(&mut victim, "small/2");
    wait_until_found(&mut victim, "mine.txt");
    let from = victim.line_count();
    victim.send("get big.bin");
    let partial = folder.join(format!(".enjambre/partial/{}", blake3::hash(&bytes)));
    wait_for(PATIENCE, "a download is under way", || fs::metadata(&partial).is_ok_and(|file| file.len() > 1 << 20));
    // A remount would be refused, since the peer has files open for writing. A disk that was made read-only by its own
    // errors refuses each of these calls as here.
    let own = folder.join(".enjambre");
    let kept = ["index", "tmp", "jobs", "pieces"].map(|name| own.join(name));
    let paths = [&kept[..], &[partial, own]].concat();
    let calls = "openat,write,pwrite64,ftruncate,fsync,mkdirat,renameat,renameat2,unlinkat,utimensat";
    let Some(strace) = failing(&victim, calls, "EROFS", &paths) else { return };
    wait_for_text(&victim, from, "error: ");
    wait_for_text(&victim, from, "the disk is read-only: mount it for writing");
    let form = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nx\r\n--b--\r\n";
    for (method, target, kind, body) in
        [("PUT", "/files/x", "text/plain", &b"x"[..]), ("POST", "/upload", "multipart/form-data; boundary=b", form)]
    {
        let (status, detail) = problem(&request(victim.address, method, target, &[("Content-Type", kind)], body));
        assert!(status == 500 && detail.contains("the disk is read-only: mount it for writing"), "{status} {detail}");
    }
    for get in ["big.bin", "'small/*'"] {
        let answer = victim.ask(&format!("get {get}"));
        assert!(answer.error().is_some_and(|error| error.contains("the disk is read-only")), "{answer:?}");
    }
    // What is here is served meanwhile, and nothing new has a name.
    for (name, bytes) in [("early", "early"), ("mine.txt", "mine")] {
        assert_eq!(get(victim.address, &format!("/files/{name}")).body, bytes.as_bytes());
    }
    assert_eq!(get(victim.address, "/readyz").status, 200);
    assert!(["x", "big.bin", "small/0"].iter().all(|name| folder.read(name).is_none()));
    drop(strace);
    let from = victim.line_count();
    put(victim.address, "x", b"x");
    assert_eq!(victim.get("big.bin").map(|fetched| fetched.size), Ok(bytes.len() as u64));
    wait_for_text(&victim, from, "resuming: ");
    assert!(folder.read("big.bin").unwrap() == bytes);
    assert!(victim.ask("get 'small/*'").error().is_none() && folder.read("small/2").unwrap() == noise(2, 1000));
}
