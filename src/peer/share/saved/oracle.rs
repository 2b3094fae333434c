//! The fuzz target of the saved index: a naive reading of the same lines finds the same records, whatever was
//! torn or garbled among them, and what is written of them reads as them.

use std::collections::BTreeMap;

use super::*;
use crate::{fuzz::Input, name::SharePath};

/// Takes bytes as lines of a saved index. A line that begins with `=` stands for one with the right checksum:
/// nobody guesses those.
pub(crate) fn check(data: &[u8]) {
    let mut text = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(b"=").and_then(|line| str::from_utf8(line).ok()) {
            text.extend_from_slice(format!("{} ", checksum(rest.trim_end_matches('\n'))).as_bytes());
            text.extend_from_slice(rest.as_bytes());
        } else {
            text.extend_from_slice(line);
        }
    }
    let mut index = Index::default();
    let read = Saved::read(&text[..], &mut index);
    let Some(model) = model(&text) else { return assert!(read.is_err(), "a newer format") };
    let Reading { lines, is_damaged } = read.expect("bytes in memory can be read");
    let records = |index: &Index| index.records(None, usize::MAX).into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(records(&index), model.records);
    assert_eq!((is_damaged, lines), (model.is_damaged, model.lines));

    // Anew, with changes behind it that came in any order.
    let mut anew = format!("{FORMAT}{VERSION}\n");
    model.records.iter().for_each(|(path, record)| Line::Put(path.clone(), *record).write(&mut anew));
    let mut input = Input(data);
    let mut expected = model.records.clone();
    for path in model.records.keys().cloned() {
        match input.byte() % 3 {
            0 => {
                Line::Gone(path.clone()).write(&mut anew);
                expected.remove(&path);
            }
            1 => {
                let stamp = Stamp { size: input.number(), mtime: input.number() as _, inode: input.number() };
                let record = Record { content: ContentId::of(&[input.byte()]), stamp };
                Line::Put(path.clone(), record).write(&mut anew);
                expected.insert(path, record);
            }
            _ => {}
        }
    }
    let mut index = Index::default();
    let Reading { is_damaged, .. } = Saved::read(anew.as_bytes(), &mut index).expect("so can these");
    assert!(!is_damaged && records(&index) == expected);
    // A torn end costs the torn line at most.
    let torn = &anew.as_bytes()[..input.below(anew.len() + 1)];
    let mut index = Index::default();
    assert!(Saved::read(torn, &mut index).is_ok());
    let whole = torn.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &torn[..=end]);
    let mut other = Index::default();
    assert!(Saved::read(whole, &mut other).is_ok() && records(&index) == records(&other));
}

struct Model {
    records: BTreeMap<SharePath, Record>,
    lines: usize,
    is_damaged: bool,
}

/// None for a newer format.
fn model(text: &[u8]) -> Option<Model> {
    let mut model = Model { records: BTreeMap::new(), lines: 0, is_damaged: text.is_empty() };
    let mut rest = text;
    let mut is_first = true;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let line = rest.split_off(..end.min(LINE_BYTES as usize)).unwrap_or_default();
        let line = line.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok());
        if std::mem::take(&mut is_first)
            && let Some(version) = line.and_then(|line| line.strip_prefix("enjambre index ")?.parse::<u32>().ok())
        {
            if version > 1 {
                return None;
            }
            continue;
        }
        model.lines += 1;
        if line.and_then(|line| model_line(line, &mut model.records)).is_none() {
            model.is_damaged = true;
        }
    }
    Some(model)
}

fn model_line(line: &str, records: &mut BTreeMap<SharePath, Record>) -> Option<()> {
    let words: Vec<_> = line.split(' ').collect();
    let hash = blake3::hash(line.get(17..)?.as_bytes()).to_hex();
    if words[0] != &hash[..16] {
        return None;
    }
    match words[1..] {
        ["gone", _, ..] => drop(records.remove(&line.get(22..)?.parse().ok()?)),
        [content, size, mtime, inode, _, ..] => {
            let stamp = Stamp { size: size.parse().ok()?, mtime: mtime.parse().ok()?, inode: inode.parse().ok()? };
            let path = words[5..].join(" ").parse().ok()?;
            records.insert(path, Record { content: content.parse().ok()?, stamp });
        }
        _ => return None,
    }
    Some(())
}
