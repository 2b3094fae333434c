//! Folders that cannot be written, read or found, and files that change under way.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command, time::SystemTime};

use super::{NOWHERE, problem, support::*, wait_for_text, wait_until_found};

#[test]
fn a_read_only_folder_is_named_at_the_start_and_serves_once_it_is_mended() {
    in_a_namespace("--mount", "mount -t tmpfs -o size=4m none /mnt", "folder::inner_a_read_only_folder");
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
    in_a_namespace("--mount", "mount -t tmpfs -o size=8m none /mnt", "folder::inner_a_folder_that_is_unmounted");
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
