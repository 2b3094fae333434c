//! What those who are followed have, as far as a tracker has told. Pure.

use std::collections::BTreeMap;

use crate::{
    content::ContentId,
    digest::Digest,
    limits,
    name::{PeerId, SharePath},
    peer::link::Told,
};

/// All whom a peer follows.
pub(super) struct Followed {
    /// In the order in which they were named.
    publishers: Vec<(PeerId, Files)>,
}

#[derive(Default)]
struct Files {
    files: BTreeMap<SharePath, (ContentId, u64)>,
    /// Something was told.
    is_known: bool,
}

/// What is to be under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing that anybody has.
    Nothing,
    /// This content, of so many bytes.
    One(ContentId, u64),
    /// Those who are followed differ.
    Several,
}

impl Followed {
    pub(super) fn new(publishers: impl IntoIterator<Item = PeerId>) -> Self {
        Self { publishers: publishers.into_iter().map(|peer| (peer, Files::default())).collect() }
    }

    /// What is known of each, in the form that a tracker compares: see `Publisher.known` of the protocol.
    pub(super) fn known(&self) -> Vec<(PeerId, Option<Digest>)> {
        let digest = |files: &Files| {
            let mut digest = Digest::default();
            files.files.iter().for_each(|(path, (content, size))| digest.add(path, content, *size));
            digest
        };
        self.publishers.iter().map(|(peer, files)| (peer.clone(), files.is_known.then(|| digest(files)))).collect()
    }

    /// Takes in what is told; the paths it is about.
    pub(super) fn told(&mut self, told: &Told) -> Vec<SharePath> {
        let Some((_, known)) = self.publishers.iter_mut().find(|(peer, _)| *peer == told.publisher) else {
            return Vec::new();
        };
        known.is_known = true;
        let mut paths = Vec::new();
        if told.is_anew {
            paths.extend(std::mem::take(&mut known.files).into_keys());
        }
        let is_added = |path: &SharePath| told.added.iter().any(|(added, ..)| added == path);
        for path in told.removed.iter().filter(|path| !is_added(path)) {
            paths.extend(known.files.remove(path).map(|_| path.clone()));
        }
        for (path, content, size) in &told.added {
            // A tracker that makes up more than a share can have is not followed so far.
            if known.files.len() < limits::SHARE_FILES || known.files.contains_key(path) {
                known.files.insert(path.clone(), (*content, *size));
                paths.push(path.clone());
            }
        }
        paths
    }

    /// What is to be under a path.
    pub(super) fn wanted(&self, path: &SharePath) -> Wanted {
        let mut wanted = Wanted::Nothing;
        for (content, size) in self.publishers.iter().filter_map(|(_, files)| files.files.get(path)) {
            wanted = match wanted {
                Wanted::Nothing => Wanted::One(*content, *size),
                Wanted::One(other, _) if other == *content => wanted,
                _ => return Wanted::Several,
            };
        }
        wanted
    }

    /// How many paths somebody has.
    pub(super) fn len(&self) -> usize {
        match &self.publishers[..] {
            [(_, one)] => one.files.len(),
            several => {
                let paths = several.iter().flat_map(|(_, files)| files.files.keys());
                paths.collect::<std::collections::BTreeSet<_>>().len()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(publisher: &str, is_anew: bool, added: &[(&str, &str)], removed: &[&str]) -> Told {
        let added = added
            .iter()
            .map(|(path, content)| (path.parse().unwrap(), ContentId::of(content.as_bytes()), content.len() as u64));
        Told {
            publisher: publisher.parse().unwrap(),
            identity: [0; 32],
            is_anew,
            added: added.collect(),
            removed: removed.iter().map(|path| path.parse().unwrap()).collect(),
            is_complete: true,
        }
    }

    #[test]
    fn what_is_wanted_follows_what_is_told_and_is_nothing_where_publishers_differ() {
        let mut followed = Followed::new(["a", "b"].map(|peer| peer.parse().unwrap()));
        let wanted = |followed: &Followed, path: &str| followed.wanted(&path.parse().unwrap());
        let one = |content: &str| Wanted::One(ContentId::of(content.as_bytes()), content.len() as u64);
        assert!(followed.known().iter().all(|(_, known)| known.is_none()));
        assert!(followed.told(&told("stranger", true, &[("x", "1")], &[])).is_empty());
        assert_eq!(followed.told(&told("a", true, &[("x", "1"), ("y", "2")], &[])).len(), 2);
        assert_eq!((wanted(&followed, "x"), wanted(&followed, "z")), (one("1"), Wanted::Nothing));
        followed.told(&told("b", true, &[("x", "1"), ("y", "22")], &[]));
        assert_eq!((wanted(&followed, "x"), wanted(&followed, "y")), (one("1"), Wanted::Several));
        assert_eq!(followed.len(), 2);
        followed.told(&told("b", false, &[("y", "2")], &["x", "y"]));
        assert_eq!((wanted(&followed, "x"), wanted(&followed, "y")), (one("1"), one("2")));
        let gone = followed.told(&told("a", true, &[("z", "3")], &[]));
        assert_eq!(gone.len(), 3, "what was there before is looked at again");
        assert_eq!((wanted(&followed, "x"), wanted(&followed, "z")), (Wanted::Nothing, one("3")));
    }

    #[test]
    fn what_is_known_does_not_depend_on_the_order_in_which_it_was_told() {
        let mut one = Followed::new(["a".parse().unwrap()]);
        let mut other = Followed::new(["a".parse().unwrap()]);
        one.told(&told("a", true, &[("x", "1"), ("y", "2"), ("z", "3")], &[]));
        other.told(&told("a", true, &[("z", "3")], &[]));
        assert_ne!(one.known(), other.known());
        other.told(&told("a", false, &[("y", "old"), ("x", "1"), ("w", "4")], &[]));
        other.told(&told("a", false, &[("y", "2")], &["w"]));
        assert_eq!(one.known(), other.known());
    }
}
