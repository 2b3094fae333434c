use std::collections::BTreeMap;

use super::*;
use crate::tracker::{registry::Dice, search::folded};

/// Paths that share beginnings, folders and parts, of letters that have capitals and such that have none.
fn path(dice: &mut Dice) -> String {
    let mut part = |words: &[&str]| words[dice.below(words.len())].to_owned();
    let folder = part(&["logs/", "Logs/web/", "fotos/été/", "照片/", "", "a/b/c/", "FOTOS/ÉTÉ/"]);
    let stem = part(&["access", "Access", "error-log", "Übersicht", "日記", "n", "no", "access.log", "İ"]);
    let end = part(&[".gz", ".LOG", "", "-ß", ".jpg"]);
    format!("{folder}{stem}-{}{end}", dice.below(1500))
}

/// Texts that are found, and others.
const TEXTS: [&str; 25] = [
    "access",
    "ACCESS",
    "log",
    "/log",
    "logs/",
    "s/a",
    "é",
    "ÉTÉ/ü",
    "übersicht-1",
    "照片",
    "日記-12",
    "n",
    "no",
    "-1",
    "0.",
    "access-77.gz",
    "logs/access-77.gz",
    "not there",
    "\0",
    "/",
    "gz/logs",
    "ß",
    "i",
    "error-log-9",
    "g",
];

const PATTERNS: [&str; 12] = [
    "*",
    "logs/*",
    "LOGS/*",
    "*.gz",
    "*é*/*1?.jpg",
    "?ogs/*-7*",
    "照片/*",
    "no match*",
    "a/b/c/n-*",
    "*access*1",
    "??",
    "*\0*",
];

/// Those that are meant, by rank and path, as a scan of all finds them, folded beside each.
fn scan(all: &[(String, String)], pattern: &Pattern) -> Vec<(Rank, String)> {
    let meant = all.iter().filter(|(folded, _)| pattern.matches_folded(folded));
    let mut found: Vec<_> = meant.map(|(folded, path)| (pattern.rank(folded), path.clone())).collect();
    found.sort();
    found
}

/// All that a search finds, in pages of at most so many.
fn search(names: &Names, pattern: &Pattern, most: usize) -> Vec<(Rank, String)> {
    let (mut found, mut at) = (Vec::new(), Some(At::START));
    while let Some(from) = at {
        let mut left = most;
        at = names.with_part(pattern, from, |_, name, rank, path| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            assert_eq!(names.path(name), path);
            found.push((rank, path.to_owned()));
            ControlFlow::Continue(())
        });
    }
    assert!(pattern.is_letter() || found.is_sorted_by_key(|(rank, _)| *rank));
    found.sort();
    found
}

fn matches(names: &Names, pattern: &Pattern, most: usize) -> Vec<String> {
    let (mut found, mut from) = (Vec::new(), Some(String::new()));
    while let Some(path) = from {
        let mut left = most;
        from = names.matching(pattern, &path, |name, path| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            assert_eq!(names.path(name), path);
            found.push(path.to_owned());
            ControlFlow::Continue(())
        });
    }
    found
}

#[test]
fn every_search_finds_what_a_scan_does() {
    let mut dice = Dice(1);
    let (mut names, mut model) = (Names::new(), BTreeMap::new());
    for round in 0..6 {
        // Grows for some rounds, into a second segment, and then shrinks.
        for _ in 0..13_000 {
            let path = path(&mut dice);
            if (round < 3) == (dice.below(8) > 0) {
                let found = names.find(&path);
                assert!(found == model.get(&path).copied());
                if found.is_none() {
                    model.insert(path.clone(), names.insert(&path));
                }
            } else if let Some((path, name)) = model.range(path..).next().map(|(path, name)| (path.clone(), *name)) {
                names.remove(name);
                model.remove(&path);
                assert!(names.find(&path).is_none());
            }
            if round % 2 == 1 {
                names.tidy(2);
            }
        }
        assert_eq!(names.bytes(), model.keys().map(String::len).sum::<usize>());
        let all: Vec<_> = model.keys().map(|path| (folded(path), path.clone())).collect();
        for text in TEXTS {
            let pattern = Pattern::new(text);
            assert_eq!(search(&names, &pattern, 100 + dice.below(2000)), scan(&all, &pattern), "{round} {text}");
        }
        for text in PATTERNS {
            let pattern = Pattern::new(text);
            let meant = all.iter().filter(|(folded, _)| pattern.matches_folded(folded));
            let expected: Vec<_> = meant.map(|(_, path)| path.clone()).collect();
            assert_eq!(matches(&names, &pattern, 100 + dice.below(2000)), expected, "{round} {text}");
        }
    }
    while names.tidy(100) {}
    let thin = names.paths.segments().flatten().filter(|segment| segment.live() < segment.places() / 2);
    assert!(thin.count() <= 1, "all but the newest are emptied");
    for (path, name) in model {
        assert!(names.find(&path) == Some(name));
        names.remove(name);
    }
    assert_eq!((names.bytes(), names.paths.segments().count()), (0, 0));
}

#[test]
fn the_longest_paths_and_the_shortest_stand_side_by_side() {
    let mut names = Names::new();
    let long = |number: usize| format!("{}{number:04}", "long/".repeat(204));
    let all: Vec<_> =
        (0..300).flat_map(|number| [long(number), format!("s{number}"), format!("long/{number}")]).collect();
    let handles: Vec<_> = all.iter().map(|path| names.insert(path)).collect();
    for (path, name) in all.iter().zip(handles) {
        assert!(names.path(name) == *path && names.find(path) == Some(name));
    }
    for (text, count) in [("g/0123", 1), ("long/", 600), ("s2", 111), ("long/long/", 300)] {
        assert_eq!(search(&names, &Pattern::new(text), 50).len(), count, "{text}");
    }
}

#[test]
fn one_search_looks_at_so_much_and_no_more() {
    let mut names = Names::new();
    // Every block holds both halves of the text, and no path the whole.
    for number in 0..4 * limits::SEARCH_BLOCKS * BLOCK {
        names.insert(&format!("{}/{number:07}", if number % 2 == 0 { "abcde" } else { "cdefg" }));
    }
    let never = |_: At, _: Handle<Name>, _: Rank, _: &str| panic!("no path holds it");
    let (mut at, mut replies) = (At::START, 1);
    while let Some(next) = names.with_part(&Pattern::new("abcdefg"), at, never) {
        assert_ne!(next, at);
        (at, replies) = (next, replies + 1);
    }
    // Once for what begins so, and once for the rest.
    assert_eq!(replies, 2 * 4);
    let (mut from, mut replies) = (String::new(), 1);
    while let Some(next) = names.matching(&Pattern::new("*abcde*fg*"), &from, |_, path| panic!("{path}")) {
        assert!(next > from);
        (from, replies) = (next, replies + 1);
    }
    assert!(replies > 4 * limits::SEARCH_BLOCKS / limits::SEARCH_FEW_BLOCKS, "{replies}");
}
