//! Who holds a version or a content.

use super::{
    super::{Peer, slab::Handle},
    Files, Inventory,
};

/// Who holds something.
#[derive(Clone, Copy)]
pub(in super::super) struct Holders<'a> {
    pub(super) files: &'a Files,
    pub(super) list: List<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum List<'a> {
    Once(&'a [Handle<Inventory>]),
    Often(&'a [(Handle<Inventory>, u32)]),
}

impl<'a> Holders<'a> {
    /// How many there are, with those that are gone.
    pub(in super::super) fn len(self) -> usize {
        match self.list {
            List::Once(list) => list.len(),
            List::Often(list) => list.len(),
        }
    }

    #[inline]
    pub(super) fn inventory(self, at: usize) -> Handle<Inventory> {
        match self.list {
            List::Once(list) => list[at],
            List::Often(list) => list[at].0,
        }
    }

    /// One of them, unless it is gone.
    pub(in super::super) fn get(self, at: usize) -> Option<Handle<Peer>> {
        self.files.inventories[self.inventory(at)].peer
    }

    /// All of them.
    pub(in super::super) fn iter(self) -> impl Iterator<Item = Handle<Peer>> + use<'a> {
        (0..self.len()).filter_map(move |at| self.get(at))
    }

    pub(super) fn has(self, inventory: Handle<Inventory>) -> bool {
        match self.list {
            List::Once(list) => list.binary_search(&inventory).is_ok(),
            List::Often(list) => list.binary_search_by_key(&inventory, |&(other, _)| other).is_ok(),
        }
    }

    /// How many an asker is told of: of those on loopback only if it is there itself.
    pub(in super::super) fn sources(self, asker_is_local: bool) -> usize {
        let Files { inventories, local, gone, .. } = self.files;
        let hidden = gone.len() + if asker_is_local { 0 } else { local.len() };
        if hidden == 0 {
            return self.len();
        }
        // To look for each of a few hidden ones costs less than to look at each of many holders.
        if hidden < self.len() / 8 {
            let local = local.iter().filter(|_| !asker_is_local);
            return self.len() - gone.iter().chain(local).filter(|inventory| self.has(**inventory)).count();
        }
        let is_source = |inventory: &Inventory| inventory.peer.is_some() && (asker_is_local || !inventory.is_local);
        (0..self.len()).filter(|at| is_source(&inventories[self.inventory(*at)])).count()
    }
}
