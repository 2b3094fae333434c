//! Against real folders. Each test is named for what would break.

use std::{
    fs,
    io::Write,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::content::PieceHasher;

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
        Share::open(&self.0, "peer_1 on port 5000, process 77").unwrap()
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

// ---- opening ---------------------------------------------------------------------------------

#[test]
fn a_folder_in_use_names_its_holder_and_is_free_again_afterwards() {
    let temp = Temp::new();
    let share = temp.open();
    let error = Share::open(&temp.0, "peer_2").err().unwrap();
    let start = format!("folder {} is in use by peer_1 on port 5000, process 77: ", temp.0.display());
    assert!(error.starts_with(&start), "{error}");
    let clone = share.clone();
    drop(share);
    assert!(Share::open(&temp.0, "peer_2").is_err());
    drop(clone);
    temp.open();
}

#[test]
fn a_folder_that_cannot_be_shared_is_a_sentence_and_not_touched() {
    let temp = Temp::new();
    temp.write("file", "x");
    for (name, words) in [("none", "does not exist"), ("file", "is not a folder")] {
        let error = Share::open(&temp.join(name), "p").err().unwrap();
        assert!(error.contains(words), "{error}");
    }
    let elsewhere = Temp::new();
    symlink(&elsewhere.0, temp.join(".enjambre")).unwrap();
    let error = Share::open(&temp.0, "p").err().unwrap();
    assert!(error.contains(".enjambre is not a folder"), "{error}");
    assert_eq!(files_in(&elsewhere.0), 0);
    fs::remove_file(temp.join(".enjambre")).unwrap();
    temp.write(".enjambre", "x");
    assert!(Share::open(&temp.0, "p").err().unwrap().contains("is not a folder"));
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
    let error = Share::open(&temp.0, "p").err().unwrap();
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

// ---- publishing ------------------------------------------------------------------------------

#[test]
fn publishing_shares_at_once_and_never_replaces() {
    let temp = Temp::new();
    let share = temp.open();
    let wakes = Arc::new(AtomicUsize::new(0));
    share.on_change({
        let wakes = wakes.clone();
        move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (name, one) = ("a/b/é \"%\".txt", noise(100_000));
    assert!(matches!(publish(&share, name, &one), Ok(Published::New)));
    let entry = Entry { content: id(&one), size: 100_000 };
    assert_eq!(share.look_up(&path(name)), Lookup::Known(entry.clone()));
    assert_eq!(share.take_changes(9), [(path(name), Some(entry.clone()))]);
    assert_eq!((share.totals(), wakes.load(Ordering::Relaxed)), ((1, 100_000), 1));
    assert_eq!(share.path_of(&entry.content), Some((path(name), entry.clone())));
    assert!(share.read(&path(name)).is_some_and(|file| file.entry == entry && file.is_unchanged()));
    let mut hasher = PieceHasher::default();
    hasher.update(&one);
    assert_eq!(share.piece_list(&entry.content), Some(hasher.finish().1.to_bytes()));

    assert!(matches!(publish(&share, name, &one), Ok(Published::Same)));
    assert!(matches!(publish(&share, name, "other"), Err(PublishError::Conflict)));
    assert!(matches!(publish(&share, "a", "x"), Err(PublishError::Conflict)));
    let error = publish(&share, &format!("{name}/x"), "x").unwrap_err();
    assert!(matches!(&error, PublishError::Io(io) if io.kind() == io::ErrorKind::NotADirectory), "{error}");
    assert!(error.to_string().contains("choose another path"), "{error}");
    assert_eq!(fs::read(temp.join(name)).unwrap(), one);
    assert_eq!(share.take_changes(9), []);
    assert_eq!(files_in(&share.private_folder().join("tmp")), 0);

    // Not known yet, so that it has to be read to be compared.
    temp.write("copy", "same");
    assert!(matches!(publish(&share, "copy", "sane"), Err(PublishError::Conflict)));
    assert!(matches!(publish(&share, "copy", "same"), Ok(Published::Same)));
    for (name, content) in [("link", "same"), ("dangling", "x")] {
        symlink(temp.join(if name == "link" { "copy" } else { "none" }), temp.join(name)).unwrap();
        assert!(matches!(publish(&share, name, content), Err(PublishError::Conflict)), "{name}");
    }
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let temp = Temp::new();
    let share = temp.open();
    let mut staging = share.stage().unwrap();
    staging.write_all(b"half").unwrap();
    assert_eq!(files_in(&share.private_folder().join("tmp")), 1);
    drop(staging);
    drop(staged(&share, "whole"));
    assert_eq!(files_in(&share.private_folder().join("tmp")), 0);
    assert_eq!(names(&share), [""; 0]);
}

#[test]
fn of_many_who_publish_one_name_exactly_one_wins() {
    let temp = Temp::new();
    let share = temp.started();
    for round in 0..20 {
        let name = format!("deep/{round}/name");
        let won: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let (share, name) = (&share, &name);
                    scope.spawn(move || (number, publish(share, name, format!("content {number}"))))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let new: Vec<_> = won.iter().filter(|(_, result)| matches!(result, Ok(Published::New))).collect();
        assert_eq!(new.len(), 1, "{won:?}");
        assert!(
            won.iter().all(|(_, result)| !matches!(result, Ok(Published::Same) | Err(PublishError::Io(_)))),
            "{won:?}"
        );
        assert_eq!(fs::read_to_string(temp.join(&name)).unwrap(), format!("content {}", new[0].0));
    }
    wait("all is known", || share.hashing().is_none());
    assert_eq!((share.totals().0, share.0.state.hashed()), (20, 0), "what is published is never hashed again");
}

#[test]
fn a_folder_swapped_for_a_symlink_leads_nowhere() {
    let (temp, outside) = (Temp::new(), Temp::new());
    let share = temp.started();
    fs::create_dir(temp.join("real")).unwrap();
    outside.write("secret", "secret");
    let is_done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                // Whatever fails here was in the way of a folder that a publisher made meanwhile.
                let _ = fs::rename(temp.join("real"), temp.join("aside"));
                let _ = symlink(&outside.0, temp.join("real"));
                let _ = fs::remove_file(temp.join("real"));
                let _ = fs::rename(temp.join("aside"), temp.join("real"));
                let _ = fs::remove_dir_all(temp.join("aside"));
                let _ = fs::create_dir(temp.join("real"));
            }
        });
        for number in 0..300 {
            let _ = publish(&share, &format!("real/{number}"), format!("{number}"));
            assert_eq!(share.look_up(&path("real/secret")), Lookup::Absent);
            assert!(share.read(&path("real/secret")).is_none());
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(files_in(&outside.0), 1);
}

// ---- downloads -------------------------------------------------------------------------------

#[test]
fn a_download_goes_on_after_a_restart_with_what_was_on_disk() {
    let temp = Temp::new();
    let bytes = noise(300_000);
    let content = id(&bytes);
    {
        let share = temp.open();
        let partial = share.partial(&content).unwrap();
        assert_eq!(partial.data(300_000).unwrap(), []);
        partial.write_at(&bytes[131_072..196_608], 131_072).unwrap();
        let error = share.partial(&content).err().unwrap();
        assert!(error.to_string().contains("another download"), "{error}");
    }
    let share = temp.open();
    let partial = share.partial(&content).unwrap();
    let data = partial.data(300_000).unwrap();
    assert!(data.iter().any(|range| range.start <= 131_072 && range.end >= 196_608), "{data:?}");
    assert_eq!(partial.data(150_000).unwrap().last().map(|range| range.end), Some(150_000));
    partial.write_at(&bytes, 0).unwrap();
    partial.write_at(b"beyond the end", 300_000).unwrap();
    let mut start = [0; 10];
    assert_eq!(partial.read_at(&mut start, 5).unwrap(), 10);
    assert_eq!(start, bytes[5..15]);
    let mut hasher = PieceHasher::default();
    hasher.update(&bytes);
    let (content, list) = hasher.finish();
    let staged = partial.into_staged(Entry { content, size: 300_000 }, &list).unwrap();
    assert!(matches!(share.publish(staged, &path("got")), Ok(Published::New)));
    assert_eq!(fs::read(temp.join("got")).unwrap(), bytes);
    assert_eq!(share.piece_list(&content), Some(list.to_bytes()));
    assert_eq!(files_in(&share.private_folder().join("partial")), 0);
    share.partial(&content).unwrap().discard();
    assert_eq!(files_in(&share.private_folder().join("partial")), 0);
}

// ---- what is shared --------------------------------------------------------------------------

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

// ---- watching --------------------------------------------------------------------------------

#[test]
fn files_that_appear_change_move_and_go_are_followed() {
    let (temp, outside) = (Temp::new(), Temp::new());
    temp.write("old", "old");
    let share = temp.started();
    wait_for(&share, "old", "old");
    let soon = Duration::from_secs(1);
    let mut slow = Vec::new();
    let mut note = |what, took| {
        if took > soon {
            slow.push((what, took))
        }
    };

    temp.write("copied", "copied");
    note("a copy", wait_for(&share, "copied", "copied"));
    fs::write(temp.join("copied"), "edited").unwrap();
    note("an edit in place", wait_for(&share, "copied", "edited"));
    outside.write("moved", "moved");
    fs::rename(outside.join("moved"), temp.join("moved")).unwrap();
    note("a move into it", wait_for(&share, "moved", "moved"));
    temp.write(".moved.swp", "saved by an editor");
    fs::rename(temp.join(".moved.swp"), temp.join("moved")).unwrap();
    note("an editor's rename over it", wait_for(&share, "moved", "saved by an editor"));
    fs::hard_link(temp.join("moved"), temp.join("linked")).unwrap();
    note("a hard link", wait_for(&share, "linked", "saved by an editor"));
    fs::rename(temp.join("moved"), temp.join("renamed")).unwrap();
    note("a rename", wait_for(&share, "renamed", "saved by an editor"));
    note("a rename's old name", wait_gone(&share, "moved"));
    fs::remove_file(temp.join("renamed")).unwrap();
    note("a removal", wait_gone(&share, "renamed"));

    temp.write("a/b/c/made", "made");
    note("folders made around a file", wait_for(&share, "a/b/c/made", "made"));
    outside.write("tree/x/one", "one");
    outside.write("tree/two", "two");
    fs::rename(outside.join("tree"), temp.join("a/tree")).unwrap();
    note("a tree moved in", wait_for(&share, "a/tree/x/one", "one").max(wait_for(&share, "a/tree/two", "two")));
    fs::rename(temp.join("a"), temp.join("z")).unwrap();
    note("a tree renamed", wait_for(&share, "z/tree/x/one", "one"));
    note("a renamed tree's old name", wait_gone(&share, "a/tree/x/one"));
    temp.write("z/tree/x/later", "later");
    note("a file in a renamed tree", wait_for(&share, "z/tree/x/later", "later"));
    fs::rename(temp.join("z/tree"), outside.join("tree")).unwrap();
    note("a tree moved away", wait_gone(&share, "z/tree/x/one"));
    outside.write("tree/x/unheard", "unheard");
    fs::remove_dir_all(temp.join("z")).unwrap();
    note("a tree removed", wait_gone(&share, "z/b/c/made"));
    assert_eq!(names(&share), ["copied", "linked", "old"]);
    assert_eq!(slow, [], "slower than {soon:?}");
}

#[test]
fn a_file_that_is_being_written_is_not_shared_half() {
    let temp = Temp::new();
    let share = temp.started();
    temp.write("old", "old");
    wait_for(&share, "old", "old");
    share.take_changes(99);
    let start = Instant::now();
    let mut new = File::create(temp.join("new")).unwrap();
    let mut old = fs::OpenOptions::new().append(true).open(temp.join("old")).unwrap();
    while start.elapsed() < Duration::from_secs(2) {
        new.write_all(b"more").unwrap();
        old.write_all(b"more").unwrap();
        temp.write("marker", format!("{:?}", start.elapsed()));
        let seen = share.hashing();
        wait("events are read", || share.hashing() != seen || share.totals().0 > 0);
        thread::sleep(Duration::from_millis(100));
        let shared = names(&share);
        assert!(shared.iter().all(|name| name == "marker"), "{shared:?}");
    }
    let took = start.elapsed();
    drop((new, old));
    let whole = fs::read(temp.join("new")).unwrap();
    assert!(wait_for(&share, "new", whole) < Duration::from_secs(1), "{took:?}");
    wait_for(&share, "old", fs::read(temp.join("old")).unwrap());
    let changes = share.take_changes(99);
    let entry = share.list(None, 9).into_iter().find(|(path, _)| path.as_str() == "old").unwrap().1;
    assert!(changes.contains(&(path("old"), Some(entry))), "{changes:?}");
}

#[test]
fn many_files_at_once_are_all_found() {
    let temp = Temp::new();
    let share = temp.started();
    thread::scope(|scope| {
        for part in 0..4 {
            let temp = &temp;
            scope.spawn(move || {
                (0..250).for_each(|n| temp.write(&format!("{part}/{}/{n}", n % 7), format!("{part} {n}")))
            });
        }
    });
    wait("all are shared", || share.totals().0 == 1000);
    fs::remove_dir_all(temp.join("1")).unwrap();
    wait("a part is gone", || share.totals().0 == 750);
    wait("all is quiet", || share.hashing().is_none());
}

#[test]
fn lost_events_are_made_up_for() {
    let temp = Temp::new();
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let share = temp.started();
    // More than the kernel keeps, unless the watcher is quicker; then there is nothing to make up for.
    for n in 0..limit / 2 + 1000 {
        fs::write(temp.join(&format!("f{}", n % 50)), format!("{n}")).unwrap();
    }
    temp.write("last", "last");
    for n in 0..25 {
        fs::remove_file(temp.join(&format!("f{n}"))).unwrap();
    }
    wait("the rest is shared", || share.totals().0 == 26);
    wait("all is quiet", || share.hashing().is_none());
    for (path, entry) in share.list(None, 99) {
        assert_eq!(id(fs::read(temp.join(path.as_str())).unwrap()), entry.content, "{path}");
    }
}

#[test]
fn a_lost_piece_list_is_made_again() {
    let temp = Temp::new();
    let bytes = noise(200_000);
    temp.write("a", &bytes);
    let share = temp.started();
    let list = share.piece_list(&id(&bytes)).unwrap();
    let file = share.private_folder().join(format!("pieces/{}", id(&bytes)));
    fs::write(&file, &list[..100]).unwrap();
    assert_eq!(share.piece_list(&id(&bytes)), None);
    wait("it is there again", || share.piece_list(&id(&bytes)).as_ref() == Some(&list));
    fs::remove_file(temp.join("a")).unwrap();
    wait_gone(&share, "a");
    wait("the list of what is gone is gone", || !file.exists());
}

// ---- the saved index -------------------------------------------------------------------------

#[test]
fn a_restart_hashes_nothing_that_has_not_changed() {
    let temp = Temp::new();
    for n in 0..50 {
        temp.write(&format!("{}/{n}", n % 5), format!("{n}"));
    }
    let share = temp.started();
    publish(&share, "published", noise(100_000)).unwrap();
    let (before, hashed) = (share.list(None, 99), share.0.state.hashed());
    assert_eq!((before.len(), hashed > 0), (51, true));
    drop(share);
    fs::write(temp.join("0/0"), "changed").unwrap();
    fs::remove_file(temp.join("1/1")).unwrap();
    let share = temp.open();
    assert_eq!((share.totals(), share.hashing().is_some()), ((0, 0), true), "nothing is shared unseen");
    assert!(matches!(share.look_up(&path("2/2")), Lookup::Known(_)), "what is asked for is looked at");
    share.start().unwrap();
    wait("everything is known", || share.hashing().is_none());
    assert_eq!(share.0.state.hashed(), "changed".len() as u64);
    let after = share.list(None, 99);
    assert_eq!(after.len(), 50);
    assert!(after.iter().all(|pair| before.contains(pair) || pair.0 == path("0/0")));
    assert_eq!(share.take_changes(99).len(), 50);
    assert_eq!(share.piece_list(&id(noise(100_000))).map(|list| list.len()), Some(4 * 32));
}

#[test]
fn a_torn_or_garbled_index_costs_only_the_lines_it_tore() {
    let temp = Temp::new();
    let share = temp.open();
    for name in ["a", "b", "c d"] {
        publish(&share, name, name).unwrap();
    }
    drop(share);
    let file = temp.join(".enjambre/index");
    let whole = fs::read(&file).unwrap();
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    assert_eq!(lines.len(), 4, "{}", String::from_utf8_lossy(&whole));
    let known = || {
        let share = temp.open();
        let names = ["a", "b", "c d"].into_iter().filter(|name| {
            let lookup = share.look_up(&path(name));
            assert!(matches!(&lookup, Lookup::Unhashed | Lookup::Known(_)));
            lookup == Lookup::Known(Entry { content: id(name), size: name.len() as u64 })
                || (assert_eq!(lookup, Lookup::Unhashed, "a wrong line was believed"), false).1
        });
        names.count()
    };
    for length in lines[1]..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let complete = lines.iter().filter(|end| **end <= length).count() - 1;
        assert_eq!(known(), complete, "cut to {length}");
        // And what is appended to a torn line counts.
        fs::write(&file, &whole[..length]).unwrap();
        let share = temp.open();
        publish(&share, "new", "new").unwrap();
        drop(share);
        let share = temp.open();
        assert!(matches!(share.look_up(&path("new")), Lookup::Known(_)), "cut to {length}");
        fs::remove_file(temp.join("new")).unwrap();
    }
    for at in lines[2]..whole.len() - 1 {
        let mut garbled = whole.clone();
        garbled[at] ^= 1 << (at % 8);
        fs::write(&file, &garbled).unwrap();
        assert_eq!(known(), 2, "garbled at {at}");
    }
    for garbage in [&b""[..], b"\0\0\0\0", b"\n\n\n", b"enjambre index x\n", &noise(100_000)] {
        fs::write(&file, garbage).unwrap();
        assert_eq!(known(), 0);
        assert_eq!(fs::read(&file).unwrap(), b"enjambre index 1\n");
    }
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let temp = Temp::new();
    drop(temp.open());
    let newer = "enjambre index 2\nsomething else\n";
    temp.write(".enjambre/index", newer);
    let error = Share::open(&temp.0, "p").err().unwrap();
    assert!(error.contains("format 2") && error.contains("newer peer"), "{error}");
    assert_eq!(fs::read_to_string(temp.join(".enjambre/index")).unwrap(), newer);
}

#[test]
fn the_saved_index_does_not_grow_with_what_is_no_more() {
    let temp = Temp::new();
    let share = temp.started();
    for round in 0..1500 {
        publish(&share, "a", format!("{round}")).unwrap();
        fs::remove_file(temp.join("a")).unwrap();
        share.look_up(&path("a"));
    }
    publish(&share, "last", "last").unwrap();
    let size = || fs::metadata(temp.join(".enjambre/index")).unwrap().size();
    wait("it is small", || size() < 120 * 1100);
    drop(share);
    let share = temp.open();
    assert!(matches!(share.look_up(&path("last")), Lookup::Known(_)));
    assert!(size() < 500);
}
