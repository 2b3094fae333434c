//! What was mirrored, in the order in which it came, and who the publishers are. Pure; each change is a line to be
//! noted.

use std::collections::BTreeMap;

use blake3::Hash;

use crate::{
    content::ContentId,
    name::{PeerId, SharePath},
};

/// What this peer knows of what it has mirrored.
#[derive(Default)]
pub(super) struct History {
    files: BTreeMap<SharePath, Mirrored>,
    /// What is here, by its number, and the bytes of all of it.
    here: BTreeMap<u64, SharePath>,
    bytes: u64,
    /// What is not fetched again, and its size: it made room for newer ones, or there never was room.
    passed_over: BTreeMap<SharePath, (ContentId, u64)>,
    /// The number of the last one.
    last: u64,
    publishers: BTreeMap<PeerId, [u8; 32]>,
    /// Lines that were read or written, of which those that count are no more than there are files and publishers.
    lines: usize,
}

/// What was made of a path.
#[derive(Default)]
struct Mirrored {
    /// What was fetched last, and its number.
    here: Option<(u64, ContentId, u64)>,
    /// What was begun to be fetched since, and what its number will be: several are fetched at a time, and the order is
    /// that in which they began.
    begun: Option<(u64, ContentId)>,
}

/// What becomes of a content at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is about to be fetched, and may be there at any time.
    Begun,
    /// It was fetched.
    Here,
    /// It had to go, or never came, and is not to come again.
    PassedOver,
}

impl Turn {
    const ALL: [(Self, &str); 3] = [(Self::Begun, "begun"), (Self::Here, "here"), (Self::PassedOver, "past")];
}

/// So many lines more than twice those that count make it worth writing all anew.
const DEAD_LINES: usize = 1000;

/// So many files and bytes are kept at most; none is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Files.
    pub files: Option<usize>,
    /// Bytes in all of them.
    pub bytes: Option<u64>,
}

impl Bounds {
    /// Whether so many files with so many bytes are within them.
    pub(super) fn hold(&self, files: usize, bytes: u64) -> bool {
        self.files.is_none_or(|most| files <= most) && self.bytes.is_none_or(|most| bytes <= most)
    }
}

impl History {
    /// Out of the lines that were noted; what makes no sense is left out.
    pub(super) fn read(lines: &[String]) -> Self {
        let mut this = Self::default();
        for line in lines {
            let _ = this.apply(line);
        }
        this
    }

    fn apply(&mut self, line: &str) -> Option<()> {
        self.lines += 1;
        let (verb, rest) = line.split_once(' ')?;
        if verb == "is" {
            let (peer, identity) = rest.split_once(' ')?;
            self.publishers.insert(peer.parse().ok()?, *Hash::from_hex(identity).ok()?.as_bytes());
            return Some(());
        }
        let (turn, _) = Turn::ALL.into_iter().find(|(_, name)| *name == verb)?;
        let mut words = rest.splitn(3, ' ');
        let (content, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        self.put(words.next()?.parse().ok()?, content, size, turn);
        Some(())
    }

    fn put(&mut self, path: SharePath, content: ContentId, size: u64, turn: Turn) {
        self.last += 1;
        let file = self.files.entry(path.clone()).or_default();
        if turn == Turn::Begun {
            file.begun = Some((self.last, content));
            return;
        }
        let Mirrored { here, begun } = std::mem::take(file);
        if let Some((number, _, size)) = here {
            self.here.remove(&number);
            self.bytes = self.bytes.saturating_sub(size);
        }
        if turn == Turn::PassedOver {
            self.files.remove(&path);
            self.passed_over.insert(path, (content, size));
            return;
        }
        let begun = begun.filter(|(_, begun)| *begun == content);
        let number = begun.map_or(self.last, |(number, _)| number);
        file.here = Some((number, content, size));
        self.bytes = self.bytes.saturating_add(size);
        self.passed_over.remove(&path);
        self.here.insert(number, path);
    }

    /// Takes note of what becomes of a path; the line for it.
    pub(super) fn note(&mut self, path: &SharePath, content: ContentId, size: u64, turn: Turn) -> String {
        self.put(path.clone(), content, size, turn);
        self.lines += 1;
        line(path, content, size, turn)
    }

    /// Takes note of who has an id; the line for it. None if that is another one than it was.
    pub(super) fn settle(&mut self, publisher: &PeerId, identity: [u8; 32]) -> Result<Option<String>, ()> {
        match self.publishers.get(publisher) {
            Some(known) if *known == identity => Ok(None),
            Some(_) => Err(()),
            None => {
                self.publishers.insert(publisher.clone(), identity);
                self.lines += 1;
                Ok(Some(publisher_line(publisher, identity)))
            }
        }
    }

    /// Whether nothing was ever mirrored.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.passed_over.is_empty()
    }

    /// Whether what is found at a path was fetched to it.
    pub(super) fn is_own(&self, path: &SharePath, found: &ContentId) -> bool {
        let is_it = |file: &Mirrored| {
            file.here.is_some_and(|(_, content, _)| content == *found)
                || file.begun.is_some_and(|(_, begun)| begun == *found)
        };
        self.files.get(path).is_some_and(is_it)
    }

    /// Whether what is found at a path was begun to be fetched to it, and that it came has not been noted.
    pub(super) fn is_to_note(&self, path: &SharePath, found: &ContentId) -> bool {
        self.files.get(path).is_some_and(|file| file.begun.is_some_and(|(_, begun)| begun == *found))
    }

    /// Whether this content has had its time at this path.
    pub(super) fn is_passed_over(&self, path: &SharePath, content: &ContentId) -> bool {
        self.passed_over.get(path).is_some_and(|(passed, _)| passed == content)
    }

    /// What is not fetched again.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = (&SharePath, ContentId)> {
        self.passed_over.iter().map(|(path, (content, _))| (path, *content))
    }

    /// What has to go for the rest to be within the bounds, the oldest first.
    pub(super) fn beyond(&self, bounds: Bounds) -> Vec<(SharePath, ContentId, u64)> {
        let (mut files, mut bytes) = (self.here.len(), self.bytes);
        let mut gone = Vec::new();
        for (path, (_, content, size)) in self.in_order() {
            if bounds.hold(files, bytes) {
                break;
            }
            gone.push((path.clone(), content, size));
            (files, bytes) = (files - 1, bytes.saturating_sub(size));
        }
        gone
    }

    /// What is here, the oldest first.
    fn in_order(&self) -> impl Iterator<Item = (&SharePath, (u64, ContentId, u64))> {
        self.here.values().filter_map(|path| Some((path, self.files.get(path)?.here?)))
    }

    /// All that counts, where most lines do not.
    pub(super) fn tidied(&mut self) -> Option<Vec<String>> {
        let live = self.files.len() + self.passed_over.len() + self.publishers.len();
        if self.lines <= 2 * live + DEAD_LINES {
            return None;
        }
        let publishers = self.publishers.iter().map(|(peer, identity)| publisher_line(peer, *identity));
        let here = self.in_order().map(|(path, (_, content, size))| line(path, content, size, Turn::Here));
        let begun = self.files.iter().filter_map(|(path, file)| Some(line(path, file.begun?.1, 0, Turn::Begun)));
        let passed = self.passed_over.iter();
        let passed = passed.map(|(path, (content, size))| line(path, *content, *size, Turn::PassedOver));
        let lines: Vec<_> = publishers.chain(here).chain(begun).chain(passed).collect();
        self.lines = lines.len();
        Some(lines)
    }
}

fn line(path: &SharePath, content: ContentId, size: u64, turn: Turn) -> String {
    let (_, verb) = Turn::ALL[turn as usize];
    format!("{verb} {content} {size} {path}")
}

fn publisher_line(publisher: &PeerId, identity: [u8; 32]) -> String {
    format!("is {publisher} {}", Hash::from_bytes(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SharePath {
        text.parse().unwrap()
    }

    fn id(text: &str) -> ContentId {
        ContentId::of(text.as_bytes())
    }

    #[test]
    fn what_was_noted_is_read_again_and_the_last_word_counts() {
        let mut history = History::default();
        let peer: PeerId = "peer_1".parse().unwrap();
        let mut lines = vec![
            history.note(&path("a b/c"), id("1"), 1, Turn::Here),
            history.note(&path("d"), id("2"), 2, Turn::Here),
            history.note(&path("a b/c"), id("3"), 3, Turn::Begun),
            history.note(&path("d"), id("2"), 2, Turn::PassedOver),
        ];
        lines.extend(history.settle(&peer, [7; 32]).unwrap());
        assert_eq!(history.settle(&peer, [7; 32]), Ok(None));
        assert_eq!(history.settle(&peer, [8; 32]), Err(()));
        lines.push("here nonsense".into());
        lines.push("what is this".into());
        let mut again = History::read(&lines);
        let own = |of: &History, name: &str, content: &str| of.is_own(&path(name), &id(content));
        assert!(own(&again, "a b/c", "1") && own(&again, "a b/c", "3") && !own(&again, "a b/c", "2"));
        assert!(again.is_to_note(&path("a b/c"), &id("3")) && !again.is_to_note(&path("a b/c"), &id("1")));
        assert!(!own(&again, "d", "2") && !own(&again, "e", "2"));
        assert!(again.is_passed_over(&path("d"), &id("2")) && !again.is_passed_over(&path("d"), &id("3")));
        assert_eq!(again.settle(&peer, [8; 32]), Err(()));
        assert_eq!(again.tidied(), None);
        for size in 0..2000 {
            again.note(&path("e"), id("e"), size, Turn::Here);
        }
        let lines = again.tidied().unwrap();
        assert_eq!((lines.len(), again.tidied()), (5, None));
        let again = History::read(&lines);
        assert!(own(&again, "a b/c", "1") && own(&again, "a b/c", "3") && own(&again, "e", "e"));
        assert_eq!(again.beyond(Bounds { files: Some(0), bytes: None }).len(), 2);
    }

    #[test]
    fn the_oldest_go_first_until_the_rest_is_within_the_bounds() {
        let mut history = History::default();
        for (name, size) in [("c", 10), ("a", 20), ("b", 30), ("d", 40)] {
            history.note(&path(name), id(name), size, Turn::Here);
        }
        let names = |history: &History, files, bytes| {
            let gone = history.beyond(Bounds { files, bytes });
            gone.iter().map(|(path, ..)| path.to_string()).collect::<String>()
        };
        assert_eq!(names(&history, None, None), "");
        assert_eq!(names(&history, Some(4), Some(100)), "");
        assert_eq!(names(&history, Some(2), None), "ca");
        assert_eq!(names(&history, None, Some(99)), "c");
        assert_eq!(names(&history, Some(3), Some(40)), "cab");
        assert_eq!(names(&history, None, Some(39)), "cabd");
        history.note(&path("c"), id("new"), 10, Turn::Begun);
        history.note(&path("e"), id("e"), 10, Turn::Begun);
        history.note(&path("e"), id("e"), 10, Turn::Here);
        history.note(&path("c"), id("new"), 10, Turn::Here);
        assert_eq!(names(&history, Some(1), None), "abdc", "in the order in which they began");
        assert_eq!(history.beyond(Bounds { files: Some(3), bytes: None })[0].0, path("a"), "a new version is new");
    }
}
