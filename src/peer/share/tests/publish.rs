//! Uploads and downloads on their way into the share.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::content::PieceHasher;

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
    assert!(matches!(publish(&share, name, noise(100_001)), Err(PublishError::Conflict)));
    assert_eq!(files_in(&share.private_folder().join("pieces")), 1, "what is refused leaves no piece list");

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
    let is_done = AtomicBool::new(false);
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
    let partial = share.partial(&content).unwrap();
    assert!(!share.discard_partial(&content), "it is under way");
    drop(partial);
    assert!(share.discard_partial(&content));
    assert_eq!(files_in(&share.private_folder().join("partial")), 0);
}
