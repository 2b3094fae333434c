//! A full disk.

use std::{fs, io::Write, path::Path};

use super::{NOWHERE, problem, support::*, wait_for_text, wait_until_found};

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
    in_a_namespace("--mount", "mount -t tmpfs -o size=16m none /mnt", "room::inner_a_full_disk_refuses_uploads");
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
    in_a_namespace("--mount", "mount -t tmpfs -o size=16m none /mnt", "room::inner_a_download_without_room_is_paused");
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
