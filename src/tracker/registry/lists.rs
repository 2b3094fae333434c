//! Very many short lists of handles in a few long vectors: a list costs its owner eight bytes, and a
//! handle little more than four.

use std::slice;

use super::slab::{Handle, Slab};

/// A list in [`Lists`]; to be emptied before it is dropped.
pub(super) struct List<T> {
    /// Of one handle, that one. Of more, where they are.
    head: Handle<T>,
    len: u32,
}

impl<T> List<T> {
    pub(super) const EMPTY: Self = Self { head: Handle::FIRST, len: 0 };

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

/// How many handles the places hold that a list of two or more moves through as it grows. From four on each is at most a
/// quarter longer: what a list does not fill, a million of them waste.
const SIZES: [usize; 19] = [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64];

/// Those who have a list each.
pub(super) trait Owners<T, O> {
    fn list(&mut self, owner: Handle<O>) -> &mut List<T>;
}

/// All lists of one kind, whose owners are `O`s.
pub(super) struct Lists<T, O> {
    /// Of each size.
    places: [Places<T, O>; SIZES.len()],
    /// Those that are longer.
    long: Slab<Vec<Handle<T>>>,
}

/// Places of one size, one after the other and none of them free: lists grow by turns, and what each left behind
/// would be as much as what they hold.
struct Places<T, O> {
    handles: Vec<Handle<T>>,
    /// Whose list is in each.
    owners: Vec<Handle<O>>,
}

impl<T, O> Places<T, O> {
    const EMPTY: Self = Self { handles: Vec::new(), owners: Vec::new() };

    /// Takes one more list in; says in which place.
    fn add(&mut self, size: usize, owner: Handle<O>, handles: &[Handle<T>]) -> Handle<T> {
        self.owners.push(owner);
        self.handles.extend_from_slice(handles);
        self.handles.resize(size * self.owners.len(), Handle::FIRST);
        Handle::at(self.owners.len() - 1)
    }

    /// Gives a place up to the last list; says whose that is, if it is another.
    fn remove(&mut self, size: usize, place: usize) -> Option<Handle<O>> {
        let last = self.owners.len() - 1;
        self.handles.copy_within(size * last.., size * place);
        self.handles.truncate(size * last);
        self.owners.swap_remove(place);
        tighten(&mut self.handles);
        tighten(&mut self.owners);
        self.owners.get(place).copied()
    }
}

/// Gives back what a vector no longer needs.
fn tighten<H>(handles: &mut Vec<H>) {
    if handles.len() < handles.capacity() / 2 {
        handles.shrink_to(handles.len() + handles.len() / 8);
    }
}

/// Which of [`SIZES`] holds so many; none, if they are too many.
fn size_of(len: usize) -> Option<usize> {
    (len <= SIZES[SIZES.len() - 1]).then(|| SIZES.partition_point(|&size| size < len))
}

impl<T, O> Lists<T, O> {
    pub(super) const fn new() -> Self {
        Self { places: [const { Places::EMPTY }; SIZES.len()], long: Slab::new() }
    }

    /// The handles of a list.
    pub(super) fn get<'a>(&'a self, list: &'a List<T>) -> &'a [Handle<T>] {
        match (list.len(), size_of(list.len())) {
            (0, _) => &[],
            (1, _) => slice::from_ref(&list.head),
            (len, Some(size)) => {
                let start = list.head.place() * SIZES[size];
                &self.places[size].handles[start..start + len]
            }
            (_, None) => &self.long[long(list)],
        }
    }

    /// Puts a handle at a place in a list.
    pub(super) fn insert(&mut self, owners: &mut impl Owners<T, O>, owner: Handle<O>, at: usize, handle: Handle<T>) {
        let list = owners.list(owner);
        let len = list.len();
        let (old, new) = (size_of(len), size_of(len + 1));
        if len > 1 && old == new {
            match new {
                Some(size) => {
                    let start = list.head.place() * SIZES[size];
                    let place = &mut self.places[size].handles[start..=start + len];
                    place.copy_within(at..len, at + 1);
                    place[at] = handle;
                }
                None => self.long[long(list)].insert(at, handle),
            }
            list.len += 1;
        } else {
            let mut handles = Vec::with_capacity(len + 1);
            handles.extend_from_slice(self.get(list));
            handles.insert(at, handle);
            self.replace(owners, owner, handles);
        }
    }

    /// Takes the handle at a place out of a list.
    pub(super) fn remove(&mut self, owners: &mut impl Owners<T, O>, owner: Handle<O>, at: usize) {
        let list = owners.list(owner);
        let len = list.len();
        let (old, new) = (size_of(len), size_of(len - 1));
        if len > 2 && old == new {
            match old {
                Some(size) => {
                    let start = list.head.place() * SIZES[size];
                    self.places[size].handles[start..start + len].copy_within(at + 1.., at);
                }
                None => {
                    let handles = &mut self.long[long(list)];
                    handles.remove(at);
                    if handles.len() < handles.capacity() / 4 {
                        handles.shrink_to(2 * handles.len());
                    }
                }
            }
            list.len -= 1;
        } else {
            let mut handles = self.get(list).to_vec();
            handles.remove(at);
            self.replace(owners, owner, handles);
        }
    }

    /// Moves a list to a place of another size.
    fn replace(&mut self, owners: &mut impl Owners<T, O>, owner: Handle<O>, handles: Vec<Handle<T>>) {
        let list = owners.list(owner);
        let (old_len, old_head) = (list.len(), list.head);
        list.len = handles.len() as u32;
        list.head = match (handles.len(), size_of(handles.len())) {
            (0, _) => Handle::FIRST,
            (1, _) => handles[0],
            (_, Some(size)) => self.places[size].add(SIZES[size], owner, &handles),
            (_, None) => Handle::at(self.long.insert(handles).place()),
        };
        match (old_len, size_of(old_len)) {
            (0 | 1, _) => {}
            (_, Some(size)) => {
                if let Some(moved) = self.places[size].remove(SIZES[size], old_head.place()) {
                    owners.list(moved).head = old_head;
                }
            }
            (_, None) => drop(self.long.remove(Handle::at(old_head.place()))),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.long.len() == 0 && self.places.iter().all(|places| places.handles.is_empty())
    }
}

fn long<T>(list: &List<T>) -> Handle<Vec<Handle<T>>> {
    Handle::at(list.head.place())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Owners<(), List<()>> for Slab<List<()>> {
        fn list(&mut self, owner: Handle<List<()>>) -> &mut List<()> {
            &mut self[owner]
        }
    }

    #[test]
    fn lists_are_what_vectors_are() {
        let mut dice = super::super::Dice(1);
        let (mut lists, mut owners) = (Lists::<(), List<()>>::new(), Slab::new());
        let mut models: Vec<_> = (0..20).map(|_| (owners.insert(List::EMPTY), Vec::new())).collect();
        for step in 0..40_000 {
            let number = dice.below(20);
            let (owner, model) = &mut models[number];
            if (step < 20_000) == (dice.below(4) > 0) {
                let (at, handle) = (dice.below(model.len() + 1), Handle::at(dice.below(1000)));
                lists.insert(&mut owners, *owner, at, handle);
                model.insert(at, handle);
            } else if !model.is_empty() {
                let at = dice.below(model.len());
                lists.remove(&mut owners, *owner, at);
                model.remove(at);
            }
            for (owner, model) in &models {
                assert!(lists.get(&owners[*owner]) == model.as_slice() && owners[*owner].len() == model.len());
            }
        }
        for (owner, _) in models {
            while owners[owner].len() > 0 {
                lists.remove(&mut owners, owner, 0);
            }
        }
        assert!(lists.is_empty());
    }
}
