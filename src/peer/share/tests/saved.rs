//! What a restart knows.

use std::{fs, os::unix::fs::MetadataExt};

use super::*;

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
    let error = Share::open(&temp.0, "p", KeepFree::default()).err().unwrap();
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
