//! When each peer's lease ends, whoever is next first: a heap in which every peer has its place.
//!
//! There is no timer and no task a peer: the one who keeps the registry waits for the first. A renewal
//! swaps entries of two vectors that only a join makes longer, so it allocates nothing; among ten thousand
//! peers it swaps seven at most.

use std::time::Instant;

use super::slab::Handle;

/// Entries below one in the heap. They stand side by side: four are read as fast as two, and it is half as deep.
const CHILDREN: usize = 4;

/// The leases of peers of type `T`.
pub(super) struct Leases<T> {
    /// No entry is before its parent (see [`CHILDREN`]).
    heap: Vec<(Instant, Handle<T>)>,
    /// Where in the heap a peer is; what stands for one that has no lease means nothing.
    places: Vec<u32>,
}

impl<T> Leases<T> {
    pub(super) const fn new() -> Self {
        Self { heap: Vec::new(), places: Vec::new() }
    }

    /// Whose lease ends next, and when.
    pub(super) fn first(&self) -> Option<(Instant, Handle<T>)> {
        self.heap.first().copied()
    }

    /// When the lease of a peer ends, which has one.
    pub(super) fn deadline(&self, peer: Handle<T>) -> Instant {
        self.heap[self.places[peer.place()] as usize].0
    }

    /// Gives a peer a lease, which has none.
    pub(super) fn insert(&mut self, peer: Handle<T>, deadline: Instant) {
        if self.places.len() <= peer.place() {
            self.places.resize(peer.place() + 1, 0);
        }
        self.heap.push((deadline, peer));
        self.settle(self.heap.len() - 1);
    }

    /// Has the lease of a peer, which has one, end then.
    pub(super) fn renew(&mut self, peer: Handle<T>, deadline: Instant) {
        let at = self.places[peer.place()] as usize;
        self.heap[at].0 = deadline;
        self.settle(at);
    }

    /// Takes its lease from a peer, which has one.
    pub(super) fn remove(&mut self, peer: Handle<T>) {
        let at = self.places[peer.place()] as usize;
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            self.settle(at);
        } else if self.heap.is_empty() {
            // Nobody is left: give the memory back.
            *self = Self::new();
        }
    }

    /// Brings the one entry that may stand too low or too high to its place.
    fn settle(&mut self, mut at: usize) {
        while let Some(parent) = at.checked_sub(1).map(|at| at / CHILDREN)
            && self.heap[at] < self.heap[parent]
        {
            self.put(at, parent);
            at = parent;
        }
        while let Some(child) =
            (CHILDREN * at + 1..self.heap.len()).take(CHILDREN).min_by_key(|&child| self.heap[child])
            && self.heap[child] < self.heap[at]
        {
            self.put(at, child);
            at = child;
        }
        self.places[self.heap[at].1.place()] = at as u32;
    }

    /// Changes two entries; the place of the first is still to be noted.
    fn put(&mut self, moving: usize, other: usize) {
        self.heap.swap(moving, other);
        self.places[self.heap[moving].1.place()] = moving as u32;
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn check_invariants(&self) {
        for (at, &(deadline, peer)) in self.heap.iter().enumerate() {
            assert!(self.heap[at.saturating_sub(1) / CHILDREN] <= (deadline, peer));
            assert_eq!(self.places[peer.place()] as usize, at);
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::tracker::registry::{dice::Dice, slab::Slab};

    fn handles(count: usize) -> Vec<Handle<()>> {
        let mut slab = Slab::new();
        (0..count).map(|_| slab.insert(())).collect()
    }

    #[test]
    fn the_next_to_end_is_what_a_naive_list_says() {
        let (start, peers) = (Instant::now(), handles(50));
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let (mut leases, mut naive) = (Leases::new(), BTreeMap::new());
            for _ in 0..400 {
                let peer = peers[dice.below(1 + (seed as usize) % peers.len())];
                let deadline = start + Duration::from_millis(dice.below(60) as u64);
                match (naive.contains_key(&peer), dice.below(3)) {
                    (true, 0) => {
                        leases.remove(peer);
                        naive.remove(&peer);
                    }
                    (true, _) => {
                        leases.renew(peer, deadline);
                        naive.insert(peer, deadline);
                    }
                    (false, _) => {
                        leases.insert(peer, deadline);
                        naive.insert(peer, deadline);
                    }
                }
                leases.check_invariants();
                let first = naive.iter().map(|(&peer, &deadline)| (deadline, peer)).min();
                assert!(leases.first() == first && leases.len() == naive.len(), "seed {seed}");
                assert!(naive.iter().all(|(&peer, &deadline)| leases.deadline(peer) == deadline), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_renewal_allocates_nothing_and_the_last_to_leave_frees_all() {
        let (start, peers) = (Instant::now(), handles(1000));
        let mut leases = Leases::new();
        peers.iter().for_each(|&peer| leases.insert(peer, start));
        let room = |leases: &Leases<()>| {
            let Leases { heap, places } = leases;
            (heap.as_ptr(), heap.capacity(), places.as_ptr(), places.capacity())
        };
        let before = room(&leases);
        let mut dice = Dice(1);
        for round in 1..20_000 {
            leases.renew(peers[dice.below(peers.len())], start + Duration::from_millis(round));
        }
        assert_eq!(room(&leases), before);
        leases.check_invariants();
        peers.iter().for_each(|&peer| leases.remove(peer));
        assert_eq!((leases.heap.capacity(), leases.places.capacity()), (0, 0));
    }
}
