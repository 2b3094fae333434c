//! What the share knows of changes on disk.

use std::{fs, io::Write, os::unix::fs::symlink, time::Instant};

use rustix::io::Errno;

use super::*;

#[test]
fn a_file_that_was_opened_before_its_folder_was_watched_is_not_shared_half() {
    let (temp, outside) = (Temp::new(), Temp::new());
    let share = temp.started();
    outside.write("folder/half", "half");
    let mut writer = fs::OpenOptions::new().append(true).open(outside.join("folder/half")).unwrap();
    outside.write("folder/whole", "written after it, and closed");
    fs::rename(outside.join("folder"), temp.join("folder")).unwrap();
    wait_for(&share, "folder/whole", "written after it, and closed");
    assert_eq!(share.look_up(&path("folder/half")), Lookup::Unhashed);
    assert_eq!(names(&share), ["folder/whole"]);
    writer.write_all(b", and the other half").unwrap();
    drop(writer);
    assert!(wait_for(&share, "folder/half", "half, and the other half") < Duration::from_secs(1));
}

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
        // Once this is shared, all that was told before it was heard.
        let marker = format!("{:?}", start.elapsed());
        temp.write("marker", &marker);
        wait_for(&share, "marker", marker);
        assert_eq!(names(&share), ["marker"]);
    }
    drop((new, old));
    let whole = fs::read(temp.join("new")).unwrap();
    let took = wait_for(&share, "new", whole);
    assert!(took < Duration::from_secs(1), "{took:?}");
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
    temp.write("a", "a");
    let share = temp.started();
    // The watcher waits for the index meanwhile, and the kernel throws away what it cannot keep.
    share.0.state.index(|_| {
        for n in 0..limit {
            fs::rename(temp.join(["a", "b"][n % 2]), temp.join(["b", "a"][n % 2])).unwrap();
        }
        for n in 0..50 {
            temp.write(&format!("f{n}"), format!("{n}"));
        }
    });
    temp.write("last", "last");
    for n in 0..25 {
        fs::remove_file(temp.join(&format!("f{n}"))).unwrap();
    }
    wait("the rest is shared", || share.totals().0 == 27);
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

#[test]
fn without_the_kernels_help_changes_are_found_all_the_same() {
    let temp = Temp::new();
    temp.write("a/old", "old");
    temp.write("b/gone", "gone");
    let share = temp.open();
    let state = share.0.state.clone();
    let watcher = thread::spawn(move || super::super::watch::follow(&state, || Err(Errno::NOSPC)));
    let hasher = {
        let state = share.0.state.clone();
        thread::spawn(move || hash::run(&state))
    };
    wait("everything is known", || share.hashing().is_none());
    assert_eq!(names(&share), ["a/old", "b/gone"]);
    temp.write("c/d/new", "new");
    temp.write("a/old", "changed");
    fs::remove_dir_all(temp.join("b")).unwrap();
    wait_for(&share, "c/d/new", "new");
    wait_for(&share, "a/old", "changed");
    wait_gone(&share, "b/gone");
    drop(share);
    watcher.join().unwrap();
    hasher.join().unwrap();
}

#[test]
fn a_file_swapped_for_a_symlink_is_never_followed() {
    let (temp, outside) = (Temp::new(), Temp::new());
    outside.write("secret", "secret");
    let share = temp.started();
    publish(&share, "file", "mine").unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while start.elapsed() < Duration::from_secs(1) {
                fs::rename(temp.join("file"), temp.join(".file")).unwrap();
                symlink(outside.join("secret"), temp.join("file")).unwrap();
                fs::remove_file(temp.join("file")).unwrap();
                fs::rename(temp.join(".file"), temp.join("file")).unwrap();
            }
        });
        while start.elapsed() < Duration::from_secs(1) {
            if let Some(shared) = share.read(&path("file")) {
                assert_eq!(io::read_to_string(&shared.file).unwrap(), "mine");
            }
        }
    });
    wait_for(&share, "file", "mine");
    assert_eq!(share.path_of(&id("secret")), None);
}

#[test]
fn a_folder_that_becomes_readable_is_shared() {
    let temp = Temp::new();
    temp.write("closed/file", "file");
    temp.write("open/file", "file");
    let share = temp.started();
    assert_eq!(share.totals().0, 2);
    // Permissions do not stop root, so this shows only that nothing is lost or hashed twice.
    for mode in [0o000, 0o755] {
        fs::set_permissions(temp.join("closed"), PermissionsExt::from_mode(mode)).unwrap();
    }
    temp.write("closed/later", "later");
    wait_for(&share, "closed/later", "later");
    wait_for(&share, "closed/file", "file");
}
