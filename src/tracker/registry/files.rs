//! What the peers hold, in handles of four bytes: what each path names, who holds which content, and of
//! each peer all that it holds.
//!
//! One path with one content is a *version*. A holding is a version in its peer's inventory, and that in
//! the version's holders: eight bytes, and the slack of two vectors.
//!
//! Who is gone is in no answer any more, but what it held is released by and by: until then its
//! inventory is among the holders, and passed over.

mod contents;
mod holders;

use std::{
    cmp::Ordering,
    collections::{BTreeSet, VecDeque},
};

use self::contents::Contents;
pub(super) use self::{contents::Held, holders::Holders};
use super::{
    Content, Peer,
    lists::{List, Lists, Owners},
    names::{Name, Names},
    slab::{Handle, Slab},
    sorted::Sorted,
};
use crate::{content::ContentId, name::SharePath};

/// All that one peer holds.
pub(super) struct Inventory {
    /// Whose it is; nobody's, if that peer is gone.
    peer: Option<Handle<Peer>>,
    is_local: bool,
    /// By their names' handles.
    versions: Sorted<Version>,
    len: usize,
    /// Of all of them.
    bytes: u64,
}

/// One path with one content.
pub(super) struct Version {
    name: Handle<Name>,
    held: Handle<Held>,
    /// By handle.
    holders: List<Inventory>,
}

impl Owners<Inventory, Version> for Slab<Version> {
    fn list(&mut self, owner: Handle<Version>) -> &mut List<Inventory> {
        &mut self[owner].holders
    }
}

impl Owners<Version, Name> for Names {
    fn list(&mut self, owner: Handle<Name>) -> &mut List<Version> {
        &mut self[owner].versions
    }
}

/// Inventories by handle, each with the number of its versions of one content.
type Tally = Vec<(Handle<Inventory>, u32)>;

pub(super) struct Files {
    names: Names,
    versions: Slab<Version>,
    contents: Contents,
    /// The versions of the contents that have two or more: few contents, but the empty file may have a million.
    alike: BTreeSet<(Handle<Held>, Handle<Version>)>,
    tallies: Slab<Tally>,
    versions_of: Lists<Version, Name>,
    lists: Lists<Inventory, Version>,
    inventories: Slab<Inventory>,
    /// Those on loopback.
    local: BTreeSet<Handle<Inventory>>,
    /// Those of peers that are gone, to be emptied.
    gone: VecDeque<Handle<Inventory>>,
    /// Pairs of peer and path, without those that are gone.
    held: usize,
}

impl Files {
    pub(super) fn new() -> Self {
        Self {
            names: Names::new(),
            versions: Slab::new(),
            contents: Contents::new(),
            alike: BTreeSet::new(),
            tallies: Slab::new(),
            versions_of: Lists::new(),
            lists: Lists::new(),
            inventories: Slab::new(),
            local: BTreeSet::new(),
            gone: VecDeque::new(),
            held: 0,
        }
    }

    /// Begins an inventory.
    pub(super) fn open(&mut self, peer: Handle<Peer>, is_local: bool) -> Handle<Inventory> {
        let inventory = self.inventories.insert(Inventory {
            peer: Some(peer),
            is_local,
            versions: Sorted::new(),
            len: 0,
            bytes: 0,
        });
        if is_local {
            self.local.insert(inventory);
        }
        inventory
    }

    /// Hides all that a peer holds, at once; [`tidy`](Self::tidy) releases it.
    pub(super) fn close(&mut self, inventory: Handle<Inventory>) {
        let entry = &mut self.inventories[inventory];
        entry.peer = None;
        self.held -= entry.len;
        self.local.remove(&inventory);
        self.gone.push_back(inventory);
    }

    /// Releases so many files of those that are gone, or does as much to keep the memory tight. Whether
    /// there is more to do.
    pub(super) fn tidy(&mut self, count: usize) -> bool {
        for left in (0..count).rev() {
            let Some(&inventory) = self.gone.front() else { return self.names.tidy(left) };
            match self.inventories[inventory].versions.pop() {
                Some(version) => self.release(inventory, version),
                None => {
                    self.inventories.remove(inventory);
                    self.gone.pop_front();
                    if self.gone.is_empty() {
                        self.gone = VecDeque::new();
                    }
                }
            }
        }
        !self.gone.is_empty() || self.names.tidy(0)
    }

    /// Makes room for the first files of a peer, of which there are to be so many: grown by and by, an inventory would
    /// leave holes in the memory.
    pub(super) fn expect(&mut self, inventory: Handle<Inventory>, files: usize) {
        self.inventories[inventory].versions.reserve(files);
    }

    /// Makes `content` what a peer has under a path; what it no longer has there.
    pub(super) fn set(
        &mut self,
        inventory: Handle<Inventory>,
        path: &SharePath,
        content: Option<Content>,
    ) -> Option<Content> {
        let name = self.names.find(path.as_str());
        let old = name.and_then(|name| self.inventories[inventory].version_of(&self.versions, name));
        let lost = old.map(|version| self.contents[self.versions[version].held].content);
        if lost == content {
            return None;
        }
        // First the new: where the old was all that a name or a content had, it stays.
        if let Some(content) = content {
            let name = name.unwrap_or_else(|| self.names.insert(path.as_str()));
            if let Some(old) = old {
                self.drop_from_inventory(inventory, old);
            }
            self.hold(inventory, name, content);
        } else if let Some(old) = old {
            self.drop_from_inventory(inventory, old);
        }
        if let Some(old) = old {
            self.release(inventory, old);
        }
        lost
    }

    fn hold(&mut self, inventory: Handle<Inventory>, name: Handle<Name>, content: Content) {
        let version = self.version(name, content);
        let Version { holders, held, .. } = &self.versions[version];
        let held = *held;
        if let Err(at) = self.lists.get(holders).binary_search(&inventory) {
            self.lists.insert(&mut self.versions, version, at, inventory);
        }
        if let Some(tally) = self.contents[held].tally {
            let tally = &mut self.tallies[tally];
            match tally.binary_search_by_key(&inventory, |&(other, _)| other) {
                Ok(at) => tally[at].1 += 1,
                Err(at) => tally.insert(at, (inventory, 1)),
            }
        }
        if !self.contents.is_first(held) {
            self.contents.claim(inventory, held);
        }
        let entry = &mut self.inventories[inventory];
        entry.versions.insert(version, |other| self.versions[other].name.cmp(&name));
        entry.len += 1;
        // Liars may claim so much that it is no number.
        entry.bytes = entry.bytes.wrapping_add(content.size);
        self.held += 1;
    }

    fn drop_from_inventory(&mut self, inventory: Handle<Inventory>, version: Handle<Version>) {
        let (name, size) = (self.versions[version].name, self.content(version).size);
        let entry = &mut self.inventories[inventory];
        entry.versions.remove(|other| self.versions[other].name.cmp(&name));
        entry.len -= 1;
        entry.bytes = entry.bytes.wrapping_sub(size);
        self.held -= 1;
    }

    /// Takes an inventory from a version's holders, and forgets what nobody holds any more.
    fn release(&mut self, inventory: Handle<Inventory>, version: Handle<Version>) {
        let Version { holders, held, .. } = &self.versions[version];
        let held = *held;
        if let Ok(at) = self.lists.get(holders).binary_search(&inventory) {
            self.lists.remove(&mut self.versions, version, at);
        }
        if let Some(tally) = self.contents[held].tally {
            let tally = &mut self.tallies[tally];
            if let Ok(at) = tally.binary_search_by_key(&inventory, |&(other, _)| other) {
                tally[at].1 -= 1;
                if tally[at].1 == 0 {
                    tally.remove(at);
                }
            }
        }
        if !self.contents.is_first(held) && !self.holders(held).has(inventory) {
            self.contents.give_up(inventory, self.contents[held].content.id);
        }
        if self.versions[version].holders.len() == 0 {
            self.forget(version);
        }
    }

    /// The version of a name with a content; a new one, if there is none.
    fn version(&mut self, name: Handle<Name>, content: Content) -> Handle<Version> {
        let at = match self.place_of(name, content) {
            Ok(at) => return self.versions(name)[at],
            Err(at) => at,
        };
        let version = Version { name, held: Handle::FIRST, holders: List::EMPTY };
        let version = self.versions.insert(version);
        let held = match self.held(content) {
            Some(held) => {
                let only = self.contents[held].only;
                self.contents[held].tally.get_or_insert_with(|| {
                    self.alike.insert((held, only));
                    let holders = self.lists.get(&self.versions[only].holders);
                    self.tallies.insert(holders.iter().map(|inventory| (*inventory, 1)).collect())
                });
                self.alike.insert((held, version));
                held
            }
            None => self.contents.insert(content, version),
        };
        self.versions[version].held = held;
        self.versions_of.insert(&mut self.names, name, at, version);
        version
    }

    /// Where the version with a content stands among those of a name; if there is none, where it would.
    fn place_of(&self, name: Handle<Name>, content: Content) -> Result<usize, usize> {
        self.versions(name).binary_search_by(|version| self.content(*version).cmp(&content))
    }

    /// Forgets a version that nobody holds.
    fn forget(&mut self, version: Handle<Version>) {
        let name = self.versions[version].name;
        if let Ok(at) = self.place_of(name, self.content(version)) {
            self.versions_of.remove(&mut self.names, name, at);
        }
        if self.names[name].versions.len() == 0 {
            self.names.remove(name);
        }
        let Version { held, .. } = self.versions.remove(version);
        let Some(tally) = self.contents[held].tally else { return self.remove_content(held) };
        self.alike.remove(&(held, version));
        let left = {
            let mut left = self.alike(held);
            (left.next(), left.next())
        };
        if let (Some(only), None) = left {
            self.alike.remove(&(held, only));
            self.contents[held].only = only;
            self.contents[held].tally = None;
            self.tallies.remove(tally);
        }
    }

    /// The versions of a content that has two or more.
    fn alike(&self, held: Handle<Held>) -> impl Iterator<Item = Handle<Version>> {
        let from = self.alike.range((held, Handle::FIRST)..).take_while(move |(other, _)| *other == held);
        from.map(|(_, version)| *version)
    }

    fn remove_content(&mut self, held: Handle<Held>) {
        let Some(heir) = self.contents.remove(held) else { return };
        let id = self.contents[heir].content.id;
        let holders = self.holders(heir);
        let holders: Vec<_> = (0..holders.len()).map(|at| holders.inventory(at)).collect();
        holders.into_iter().for_each(|inventory| self.contents.give_up(inventory, id));
    }

    /// All paths.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What a path names, ordered by content.
    pub(super) fn versions(&self, name: Handle<Name>) -> &[Handle<Version>] {
        self.versions_of.get(&self.names[name].versions)
    }

    /// The content of a version.
    pub(super) fn content(&self, version: Handle<Version>) -> Content {
        self.contents[self.versions[version].held].content
    }

    /// How many hold a version's content, under whatever path; none, if the path itself has only those that
    /// the asker is not told of.
    pub(super) fn sources(&self, version: Handle<Version>, asker_is_local: bool) -> usize {
        let Version { held, holders, .. } = &self.versions[version];
        let own = holders::List::Once(self.lists.get(holders));
        let own = Holders { files: self, list: own }.sources(asker_is_local);
        if own == 0 || self.contents[*held].tally.is_none() { own } else { self.holders(*held).sources(asker_is_local) }
    }

    /// The content with this id, and some of those of other sizes, if liars claim such.
    pub(super) fn sizes(&self, id: ContentId, dice: u64) -> impl Iterator<Item = Handle<Held>> {
        self.contents.some(id, dice)
    }

    pub(super) fn held(&self, content: Content) -> Option<Handle<Held>> {
        self.contents.find(content)
    }

    /// A content by its handle.
    pub(super) fn content_of(&self, held: Handle<Held>) -> Content {
        self.contents[held].content
    }

    /// The peers that hold a content.
    pub(super) fn holders(&self, held: Handle<Held>) -> Holders<'_> {
        let Held { only, tally, .. } = self.contents[held];
        let list = match tally {
            Some(tally) => holders::List::Often(&self.tallies[tally]),
            None => holders::List::Once(self.lists.get(&self.versions[only].holders)),
        };
        Holders { files: self, list }
    }

    /// The peers that hold the content of a version.
    pub(super) fn holders_of(&self, version: Handle<Version>) -> Holders<'_> {
        self.holders(self.versions[version].held)
    }

    /// Paths of a content that an asker is told of.
    pub(super) fn paths(&self, held: Handle<Held>, asker_is_local: bool) -> impl Iterator<Item = String> {
        let Held { only, tally, .. } = self.contents[held];
        let versions = tally.is_none().then_some(only).into_iter().chain(self.alike(held));
        let told = versions.filter(move |version| self.sources(*version, asker_is_local) > 0);
        told.map(|version| self.names.path(self.versions[version].name))
    }

    /// Whether a peer has a path.
    pub(super) fn has(&self, inventory: Handle<Inventory>, name: Handle<Name>) -> bool {
        self.inventories[inventory].version_of(&self.versions, name).is_some()
    }

    /// Whether a peer holds a content.
    pub(super) fn holds(&self, inventory: Handle<Inventory>, content: Content) -> bool {
        self.held(content).is_some_and(|held| self.holders(held).has(inventory))
    }

    /// Whether a peer holds the content of this id under another size.
    pub(super) fn holds_other_size(&self, inventory: Handle<Inventory>, content: Content) -> bool {
        if self.len_of(inventory) == 0 {
            return false;
        }
        let Some(first) = self.contents.first(content.id) else { return false };
        let is_other = |held: Handle<Held>| self.contents[held].content != content;
        is_other(first) && self.holders(first).has(inventory)
            || self.contents.claim_of(inventory, content.id).is_some_and(is_other)
    }

    /// The files of one peer, in the order of the names' handles, those behind `after` only.
    pub(super) fn files_of(
        &self,
        inventory: Handle<Inventory>,
        after: Option<Handle<Name>>,
    ) -> impl Iterator<Item = (Handle<Name>, Content)> {
        let is_before = move |version: Handle<Version>| after.is_some_and(|after| self.versions[version].name <= after);
        let order = move |version| if is_before(version) { Ordering::Less } else { Ordering::Greater };
        let versions = self.inventories[inventory].versions.from(order);
        versions.map(|version| (self.versions[version].name, self.content(version)))
    }

    /// Files of one peer.
    pub(super) fn len_of(&self, inventory: Handle<Inventory>) -> usize {
        self.inventories[inventory].len
    }

    /// Their bytes; of liars who claim more than 2^64, what is left over.
    pub(super) fn bytes_of(&self, inventory: Handle<Inventory>) -> u64 {
        self.inventories[inventory].bytes
    }

    /// Distinct contents, with those that only peers hold that are gone.
    pub(super) fn contents(&self) -> usize {
        self.contents.len()
    }

    /// Pairs of peer and path.
    pub(super) fn pairs(&self) -> usize {
        self.held
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let handles = self.versions.len() + self.tallies.len() + self.inventories.len();
        let lists = self.versions_of.is_empty() && self.lists.is_empty() && self.contents.is_empty();
        handles + self.alike.len() + self.names.bytes() + self.held + self.gone.len() + self.local.len() == 0 && lists
    }
}

impl Inventory {
    fn version_of(&self, versions: &Slab<Version>, name: Handle<Name>) -> Option<Handle<Version>> {
        self.versions.find(|version| Ord::cmp(&versions[version].name, &name))
    }
}
