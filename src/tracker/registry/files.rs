//! What the peers hold: names, contents, and who holds which, in handles of four bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{
    Content, Peer,
    slab::{Handle, Slab},
};
use crate::{content::ContentId, name::SharePath};

/// A path that some peer offers.
pub(super) struct Name {
    path: SharePath,
    /// What it names, ordered by content, each as often as there are peers that say so.
    versions: Tally<Held>,
}

/// A content that some peer holds.
pub(super) struct Held {
    pub(super) content: Content,
    /// Ordered by peer id, each peer as often as it has paths for this content.
    holders: Tally<Peer>,
    /// How many of the holders are on loopback.
    local: usize,
}

impl Held {
    /// How many sources an asker is told of; those on loopback only if it is there itself.
    pub(super) fn sources(&self, asker_is_local: bool) -> usize {
        self.holders.0.len() - if asker_is_local { 0 } else { self.local }
    }

    /// The peers that hold it, ordered by id.
    pub(super) fn holders(&self) -> impl Iterator<Item = Handle<Peer>> {
        self.holders.0.iter().map(|&(peer, _)| peer)
    }
}

pub(super) struct Files {
    names: Slab<Name>,
    by_path: BTreeMap<SharePath, Handle<Name>>,
    contents: Slab<Held>,
    by_content: BTreeMap<Content, Handle<Held>>,
    /// The names of each content, ordered; apart, since the empty file may have a million. Never
    /// `None`: that only marks where a content's names begin.
    names_of: BTreeSet<(Handle<Held>, Option<SharePath>)>,
    /// Bytes in all distinct paths.
    path_bytes: usize,
    /// Pairs of peer and path.
    held: usize,
}

impl Files {
    pub(super) const fn new() -> Self {
        Self {
            names: Slab::new(),
            by_path: BTreeMap::new(),
            contents: Slab::new(),
            by_content: BTreeMap::new(),
            names_of: BTreeSet::new(),
            path_bytes: 0,
            held: 0,
        }
    }

    /// Notes that a peer has this content under this path. It must not have another there.
    pub(super) fn hold(
        &mut self,
        peers: &Slab<Peer>,
        peer: Handle<Peer>,
        path: &SharePath,
        content: Content,
    ) -> (Handle<Name>, Handle<Held>) {
        let name = *self.by_path.entry(path.clone()).or_insert_with(|| {
            self.path_bytes += path.as_str().len();
            self.names.insert(Name { path: path.clone(), versions: Tally::new() })
        });
        let held = *(self.by_content.entry(content))
            .or_insert_with(|| self.contents.insert(Held { content, holders: Tally::new(), local: 0 }));
        if self.names[name].versions.add(held, |held| &self.contents[held].content) {
            self.names_of.insert((held, Some(self.names[name].path.clone())));
        }
        if self.contents[held].holders.add(peer, |peer| &peers[peer].id) && peers[peer].is_local() {
            self.contents[held].local += 1;
        }
        self.held += 1;
        (name, held)
    }

    /// Takes back what [`hold`](Self::hold) noted.
    pub(super) fn release(&mut self, peers: &Slab<Peer>, peer: Handle<Peer>, name: Handle<Name>, held: Handle<Held>) {
        self.held -= 1;
        let Name { path, versions } = &mut self.names[name];
        if versions.remove(held, |held| &self.contents[held].content) {
            let no_more = versions.0.is_empty();
            let path = path.clone();
            if no_more {
                self.path_bytes -= path.as_str().len();
                self.by_path.remove(&path);
                self.names.remove(name);
            }
            self.names_of.remove(&(held, Some(path)));
        }
        let Held { content, holders, local } = &mut self.contents[held];
        if holders.remove(peer, |peer| &peers[peer].id) {
            *local -= usize::from(peers[peer].is_local());
            if holders.0.is_empty() {
                self.by_content.remove(content);
                self.contents.remove(held);
            }
        }
    }

    /// Every path from this one on, in order.
    pub(super) fn names_from(&self, first: Option<&SharePath>) -> impl Iterator<Item = (&SharePath, Handle<Name>)> {
        let first = first.map_or(Bound::Unbounded, Bound::Included);
        self.by_path.range::<SharePath, _>((first, Bound::Unbounded)).map(|(path, &name)| (path, name))
    }

    pub(super) fn name(&self, path: &SharePath) -> Option<Handle<Name>> {
        self.by_path.get(path).copied()
    }

    /// What a path names, ordered by content.
    pub(super) fn versions(&self, name: Handle<Name>) -> impl Iterator<Item = &Held> {
        self.names[name].versions.0.iter().map(|&(held, _)| &self.contents[held])
    }

    /// The contents with this id: one, and one for each size that a liar claims for it.
    pub(super) fn sizes(&self, id: ContentId) -> impl Iterator<Item = (Handle<Held>, &Held)> {
        let sizes = self.by_content.range(Content { id, size: 0 }..=Content { id, size: u64::MAX });
        sizes.map(|(_, &held)| (held, &self.contents[held]))
    }

    /// The names of a content, ordered.
    pub(super) fn names_of(&self, held: Handle<Held>) -> impl Iterator<Item = &SharePath> {
        let from = self.names_of.range((held, None)..);
        from.take_while(move |(other, _)| *other == held).filter_map(|(_, path)| path.as_ref())
    }

    /// Whether a peer holds the content of this id under another size.
    pub(super) fn holds_other_size(&self, peers: &Slab<Peer>, peer: Handle<Peer>, content: Content) -> bool {
        let mut others = self.sizes(content.id).filter(|(_, held)| held.content != content);
        others.any(|(_, held)| held.holders.find(peer, |peer| &peers[peer].id).is_ok())
    }

    /// The peers that hold a content, ordered by id; beside each, under how many paths.
    pub(super) fn holders(&self, content: Content) -> &[(Handle<Peer>, u32)] {
        self.by_content.get(&content).map_or(&[], |&held| &self.contents[held].holders.0)
    }

    /// Whether a peer holds a content.
    pub(super) fn holds(&self, peers: &Slab<Peer>, peer: Handle<Peer>, content: Content) -> bool {
        let held = self.by_content.get(&content);
        held.is_some_and(|&held| self.contents[held].holders.find(peer, |peer| &peers[peer].id).is_ok())
    }

    pub(super) fn content(&self, held: Handle<Held>) -> Content {
        self.contents[held].content
    }

    /// Distinct paths.
    pub(super) fn paths(&self) -> usize {
        self.by_path.len()
    }

    /// Distinct contents.
    pub(super) fn contents(&self) -> usize {
        self.by_content.len()
    }

    pub(super) fn path_bytes(&self) -> usize {
        self.path_bytes
    }

    pub(super) fn held(&self, content: Content) -> Option<Handle<Held>> {
        self.by_content.get(&content).copied()
    }

    /// Pairs of peer and path.
    pub(super) fn pairs(&self) -> usize {
        self.held
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let handles = self.names.len() + self.contents.len();
        let maps = self.by_path.len() + self.by_content.len() + self.names_of.len();
        handles + maps + self.path_bytes + self.held == 0
    }
}

/// Handles, each with how often it was added, in the order of what they stand for.
struct Tally<T>(Vec<(Handle<T>, u32)>);

impl<T> Tally<T> {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn find<'a, K: Ord + 'a>(&self, handle: Handle<T>, key: impl Fn(Handle<T>) -> &'a K) -> Result<usize, usize> {
        self.0.binary_search_by(|&(other, _)| key(other).cmp(key(handle)))
    }

    /// Whether it was not there before.
    fn add<'a, K: Ord + 'a>(&mut self, handle: Handle<T>, key: impl Fn(Handle<T>) -> &'a K) -> bool {
        match self.find(handle, key) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => {
                self.0.insert(at, (handle, 1));
                return true;
            }
        }
        false
    }

    /// Whether that was the last.
    fn remove<'a, K: Ord + 'a>(&mut self, handle: Handle<T>, key: impl Fn(Handle<T>) -> &'a K) -> bool {
        let at = self.find(handle, key).expect("only what was added is removed");
        self.0[at].1 -= 1;
        let last = self.0[at].1 == 0;
        if last {
            self.0.remove(at);
        }
        last
    }
}
