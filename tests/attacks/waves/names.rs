//! Names that lead elsewhere, and things in a share that are no files.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{support::*, victim::*};

/// How long a race is run.
const TIME: Duration = Duration::from_secs(1);

pub(super) fn climbing(victim: &Victim) {
    let identity = victim.folder.read(".enjambre/identity").expect("an identity");
    for name in [
        "../a.txt",
        "..%2fa.txt",
        "..%2Fa.txt",
        "%2e%2e/a.txt",
        "%2e%2e%2fa.txt",
        "%2E%2E%5ca.txt",
        "..%5ca.txt",
        "..\\a.txt",
        "/a.txt",
        "//a.txt",
        "a.txt/",
        "./a.txt",
        "%2ea.txt",
        ".enjambre/identity",
        "%2eenjambre/identity",
        ".enjambre%2fidentity",
        "x/../.enjambre/identity",
        "a.txt%00",
        "%00",
        "a%0ab",
        "%ff",
        "%c0%ae%c0%ae/a.txt",
        "%e0%80%ae%e0%80%ae/a.txt",
        "%c0%af",
        "%ed%a0%80",
        "a//b",
        "x/.hidden",
    ] {
        for method in ["GET", "PUT"] {
            let answer = request(victim.peer.address, method, &format!("/files/{name}"), &[], b"");
            assert!([400, 404].contains(&answer.status), "{method} {name}: {}", answer.status);
            assert!(!answer.body.windows(32).any(|bytes| bytes == identity));
        }
    }
    for name in ["../a.txt", "/a.txt", "..", ".a", "a/b", "a\0b", "%2e%2e/a.txt"] {
        let head =
            format!("--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\nx\r\n--B--\r\n");
        let form = [("Content-Type", "multipart/form-data; boundary=B")];
        let answer = request(victim.peer.address, "POST", "/upload", &form, head.as_bytes());
        assert_eq!(answer.status, 400, "{name:?}: {}", answer.text());
    }
    // In the target itself, nothing that is no path.
    for target in [
        "http://localhost/../a.txt",
        "\\files\\a.txt",
        "/files/a.txt#b",
        "*",
        "file:///etc/passwd",
        "http://localhost?/files/a.txt",
    ] {
        let status = victim.status(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!([400, 404].contains(&status), "{target}: {status}");
    }
    assert_eq!(victim.folder.read("a.txt").as_deref(), Some(&b"hello"[..]));
    assert!(!victim.folder.path().parent().expect("a folder").join("a.txt").exists());
}

/// What is special to another system is a name like any other here, and comes back as it was given.
pub(super) fn of_devices(victim: &Victim) {
    for (name, file) in [
        ("CON", "CON"),
        ("nul.txt", "nul.txt"),
        ("COM1", "COM1"),
        ("aux.tar.gz", "aux.tar.gz"),
        ("CONIN%24", "CONIN$"),
        ("a.txt::%24DATA", "a.txt::$DATA"),
        ("C:a.txt", "C:a.txt"),
        ("dir%5c..%5ca.txt", "dir\\..\\a.txt"),
        ("dot.", "dot."),
        ("blank%20", "blank "),
    ] {
        let target = format!("/files/{name}");
        let answer = request(victim.peer.address, "PUT", &target, &[], file.as_bytes());
        assert!([200, 201].contains(&answer.status), "{name}: {}", answer.text());
        assert_eq!(get(victim.peer.address, &target).body, file.as_bytes());
        assert_eq!(victim.folder.read(file).as_deref(), Some(file.as_bytes()));
    }
    assert_eq!(victim.folder.read("a.txt").as_deref(), Some(&b"hello"[..]));
}

pub(super) fn devices(victim: &Victim) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let mut names = vec!["fifo", "socket"];
    let node =
        |name: &str, kind, device| mknodat(CWD, victim.folder.join(name), kind, Mode::from_raw_mode(0o666), device);
    node("fifo", FileType::Fifo, 0).expect("a FIFO");
    let _socket = UnixListener::bind(victim.folder.join("socket")).expect("a socket");
    // Only root may make these: zeros without end, and what blocks a reader.
    for (name, major, minor) in [("zero", 1, 5), ("console", 5, 1)] {
        if node(name, FileType::CharacterDevice, makedev(major, minor)).is_ok() {
            names.push(name);
        }
    }
    let address = victim.peer.address;
    victim.folder.write("beside-devices", "x");
    wait_for(PATIENCE, "what came later is shared", || get(address, "/files/beside-devices").status == 200);
    let listed = get(address, "/files");
    for name in names {
        let target = format!("/files/{name}");
        let start = Instant::now();
        for method in ["GET", "HEAD"] {
            assert_eq!(request(address, method, &target, &[], b"").status, 404, "{method} {name}");
        }
        assert_eq!(request(address, "PUT", &target, &[], b"x").status, 409, "{name} is not replaced or written to");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
        assert!(!listed.text().contains(&format!("\"{name}\"")), "{name} is listed");
        fs::remove_file(victim.folder.join(name)).expect("it is still there");
    }
}

/// Makes requests for files below `swap`, which is a folder, then a symlink that leads out, and so on, for a while.
fn race(victim: &Victim, outside: &Folder, ask: impl Fn(usize) -> u16) {
    fs::create_dir_all(victim.folder.join("swap")).expect("a folder");
    let link = outside.join("link");
    symlink(outside.path(), &link).expect("a symlink");
    let is_over = AtomicBool::new(false);
    let (began, mut good, mut bad) = (Instant::now(), 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            // It ends by itself where a request has failed the test.
            while !is_over.load(Ordering::Relaxed) && began.elapsed() < 2 * PATIENCE {
                let swapped = renameat_with(CWD, victim.folder.join("swap"), CWD, &link, RenameFlags::EXCHANGE);
                swapped.expect("both are on one disk");
                // Both stay long enough to be met.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        while began.elapsed() < TIME || (good.min(bad) < 5 && began.elapsed() < PATIENCE) {
            *(if ask(good + bad) < 300 { &mut good } else { &mut bad }) += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(good.min(bad) >= 5, "only {good} met the folder, or {bad} the symlink");
}

pub(super) fn swapped_under_downloads(victim: &Victim) {
    let outside = Folder::new();
    // As long as the one in the share, so that a size gives nothing away.
    outside.write("x", "secret");
    victim.folder.write("swap/x", "public");
    let address = victim.peer.address;
    wait_for(PATIENCE, "it is shared", || get(address, "/files/swap/x").status == 200);
    race(victim, &outside, |_| {
        // What changes while it is sent is broken off.
        let Ok(answer) = try_request(address, "GET", "/files/swap/x", &[], b"") else { return 500 };
        assert!(!answer.body.windows(6).any(|six| six == b"secret"), "it was read through a symlink");
        assert!(answer.status != 200 || answer.body == b"public");
        answer.status
    });
    let _ = fs::remove_dir_all(victim.folder.join("swap"));
    let _ = fs::remove_file(victim.folder.join("swap"));
}

pub(super) fn swapped_under_uploads(victim: &Victim) {
    let outside = Folder::new();
    let address = victim.peer.address;
    race(victim, &outside, |number| request(address, "PUT", &format!("/files/swap/{number}"), &[], b"x").status);
    // What was swapped out with the folder is there now, or back; the symlink's target has nothing.
    let written = fs::read_dir(outside.path()).expect("a folder").flatten();
    let written: Vec<_> = written.map(|entry| entry.file_name()).filter(|name| name != "link").collect();
    assert!(written.is_empty(), "an upload went through the symlink: {written:?}");
    let _ = fs::remove_dir_all(victim.folder.join("swap"));
    let _ = fs::remove_file(victim.folder.join("swap"));
}
