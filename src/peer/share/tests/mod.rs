//! Against real folders. Each test is named for what would break.

use std::{
    fs,
    io::Write,
    os::unix::{
        ffi::OsStringExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use super::*;

mod publish;
mod saved;
mod watch;

/// A folder of a test's own, removed with all that is in it.
struct Temp(PathBuf);

impl Temp {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("enjambre-share-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn open(&self) -> Share {
        Share::open(&self.0, "peer_1 on port 5000, process 77", KeepFree::default()).unwrap()
    }

    /// Open, with its threads, after the first scan.
    fn started(&self) -> Share {
        let share = self.open();
        share.start().unwrap();
        wait("everything is known", || share.hashing().is_none());
        share
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn path(text: &str) -> SharePath {
    text.parse().unwrap()
}

fn id(bytes: impl AsRef<[u8]>) -> ContentId {
    ContentId::of(bytes.as_ref())
}

fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// Waits for a condition; how long it took.
#[track_caller]
fn wait(what: &str, condition: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "still waiting until {what}");
        thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// Waits until `name` is shared with these bytes.
#[track_caller]
fn wait_for(share: &Share, name: &str, bytes: impl AsRef<[u8]>) -> Duration {
    let content = id(bytes);
    wait(&format!("{name} is shared"), || {
        share.list(None, 99).iter().any(|(path, entry)| path.as_str() == name && entry.content == content)
    })
}

#[track_caller]
fn wait_gone(share: &Share, name: &str) -> Duration {
    wait(&format!("{name} is gone"), || !names(share).iter().any(|other| other == name))
}

fn names(share: &Share) -> Vec<String> {
    share.list(None, 9999).into_iter().map(|(path, _)| path.to_string()).collect()
}

fn staged(share: &Share, bytes: impl AsRef<[u8]>) -> Staged {
    let mut staging = share.stage().unwrap();
    staging.write_all(bytes.as_ref()).unwrap();
    staging.finish().unwrap()
}

fn publish(share: &Share, name: &str, bytes: impl AsRef<[u8]>) -> Result<Published, PublishError> {
    share.publish(staged(share, bytes), &path(name))
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_folder_in_use_names_its_holder_and_is_free_again_afterwards() {
    let temp = Temp::new();
    let share = temp.open();
    let error = Share::open(&temp.0, "peer_2", KeepFree::default()).err().unwrap();
    let start = format!("folder {} is in use by peer_1 on port 5000, process 77: ", temp.0.display());
    assert!(error.starts_with(&start), "{error}");
    let clone = share.clone();
    drop(share);
    assert!(Share::open(&temp.0, "peer_2", KeepFree::default()).is_err());
    drop(clone);
    temp.open();
}

#[test]
fn a_folder_that_cannot_be_shared_is_a_sentence_and_not_touched() {
    let temp = Temp::new();
    temp.write("file", "x");
    for (name, words) in [("none", "does not exist"), ("file", "is not a folder")] {
        let error = Share::open(&temp.join(name), "p", KeepFree::default()).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
    let elsewhere = Temp::new();
    symlink(&elsewhere.0, temp.join(".enjambre")).unwrap();
    let error = Share::open(&temp.0, "p", KeepFree::default()).err().unwrap();
    assert!(error.contains(".enjambre is not a folder"), "{error}");
    assert_eq!(files_in(&elsewhere.0), 0);
    fs::remove_file(temp.join(".enjambre")).unwrap();
    temp.write(".enjambre", "x");
    assert!(Share::open(&temp.0, "p", KeepFree::default()).err().unwrap().contains("is not a folder"));
}

#[test]
fn the_identity_is_secret_and_stays() {
    let temp = Temp::new();
    let identity = *temp.open().identity();
    assert_ne!(identity, [0; 32]);
    assert_eq!(*temp.open().identity(), identity);
    let mode = |name: &str| fs::metadata(temp.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".enjambre"), mode(".enjambre/identity")), (0o700, 0o600));
    temp.write(".enjambre/identity", "short");
    let error = Share::open(&temp.0, "p", KeepFree::default()).err().unwrap();
    assert!(error.contains("5 bytes where 32 belong"), "{error}");
}

#[test]
fn what_a_killed_upload_left_is_removed_and_a_download_stays() {
    let temp = Temp::new();
    drop(temp.open());
    temp.write(".enjambre/tmp/7", "half");
    temp.write(&format!(".enjambre/partial/{}", id("x")), "half");
    temp.write(&format!(".enjambre/pieces/{}", id("stray")), "list");
    let share = temp.open();
    assert_eq!(files_in(&share.private_folder().join("tmp")), 0);
    assert_eq!(files_in(&share.private_folder().join("partial")), 1);
    assert_eq!(files_in(&share.private_folder().join("pieces")), 0);
}

#[test]
fn only_plain_files_with_names_are_shared() {
    let (temp, outside) = (Temp::new(), Temp::new());
    outside.write("secret", "secret");
    for name in ["plain", "sub/deep/file", "100% #1?", "\"q\" 'q'", "é e\u{301} 🐝", "back\\slash", "-rf"] {
        temp.write(name, name);
    }
    for name in [".hidden", ".git/config", "sub/.hidden", "line\nfeed", "bell\u{7}"] {
        temp.write(name, name);
    }
    fs::write(temp.0.join(std::ffi::OsString::from_vec(b"not \xff utf-8".to_vec())), "x").unwrap();
    symlink(outside.join("secret"), temp.join("link")).unwrap();
    symlink(&outside.0, temp.join("linked")).unwrap();
    symlink("nowhere", temp.join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(temp.join("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, temp.join("fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let share = temp.started();
    assert_eq!(
        names(&share),
        ["\"q\" 'q'", "-rf", "100% #1?", "back\\slash", "plain", "sub/deep/file", "é e\u{301} 🐝"]
    );
    for name in ["link", "linked/secret", "dangling", "socket", "fifo", "sub", "sub/deep"] {
        assert_eq!(share.look_up(&path(name)), Lookup::Absent, "{name}");
        assert!(share.read(&path(name)).is_none(), "{name}");
    }
    // And while it runs.
    symlink(outside.join("secret"), temp.join("later")).unwrap();
    fs::rename(temp.join("fifo"), temp.join("sub/fifo")).unwrap();
    temp.write("last", "last");
    wait_for(&share, "last", "last");
    assert_eq!(share.totals().0, 8);
}

#[test]
fn a_list_is_paged_in_the_order_of_bytes() {
    let temp = Temp::new();
    let share = temp.open();
    for name in ["b", "a/z", "a", "a!", "é", "Z"].iter().filter(|name| **name != "a") {
        publish(&share, name, name).unwrap();
    }
    assert_eq!(names(&share), ["Z", "a!", "a/z", "b", "é"]);
    let page = share.list(Some(&path("a!")), 2);
    assert_eq!(page.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["a/z", "b"]);
}

#[test]
fn a_change_on_disk_is_never_served_as_what_was_hashed() {
    let temp = Temp::new();
    let share = temp.open();
    publish(&share, "a", "before").unwrap();
    let open = share.read(&path("a")).unwrap();
    fs::write(temp.join("a"), "after!").unwrap();
    assert!(!open.is_unchanged());
    assert!(share.read(&path("a")).is_none());
    assert_eq!(share.look_up(&path("a")), Lookup::Unhashed);
    assert_eq!((share.totals(), share.path_of(&id("before"))), ((0, 0), None));
    publish(&share, "b", "b").unwrap();
    share.take_changes(9);
    fs::remove_file(temp.join("b")).unwrap();
    assert_eq!(share.path_of(&id("b")), None);
    assert_eq!((share.look_up(&path("b")), share.take_changes(9)), (Lookup::Absent, vec![(path("b"), None)]));
}
