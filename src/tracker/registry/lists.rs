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

/// How many handles the places hold that a list of two or more moves through as it grows.
const SIZES: [usize; 11] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// All lists of one kind.
pub(super) struct Lists<T> {
    /// Of each size.
    places: [Places<T>; SIZES.len()],
    /// Those that are longer.
    long: Slab<Vec<Handle<T>>>,
}

/// Places of one size, one after the other.
struct Places<T> {
    handles: Vec<Handle<T>>,
    free: Vec<Handle<T>>,
}

impl<T> Places<T> {
    const EMPTY: Self = Self { handles: Vec::new(), free: Vec::new() };
}

/// Which of [`SIZES`] holds so many; none, if they are too many.
fn size_of(len: usize) -> Option<usize> {
    (len <= SIZES[SIZES.len() - 1]).then(|| SIZES.partition_point(|&size| size < len))
}

impl<T> Lists<T> {
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
    pub(super) fn insert(&mut self, list: &mut List<T>, at: usize, handle: Handle<T>) {
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
            self.replace(list, handles);
        }
    }

    /// Takes the handle at a place out of a list.
    pub(super) fn remove(&mut self, list: &mut List<T>, at: usize) {
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
            self.replace(list, handles);
        }
    }

    /// Moves a list to a place of another size.
    fn replace(&mut self, list: &mut List<T>, handles: Vec<Handle<T>>) {
        match (list.len(), size_of(list.len())) {
            (0 | 1, _) => {}
            (_, Some(size)) => {
                let places = &mut self.places[size];
                places.free.push(Handle::at(list.head.place()));
                if places.free.len() * SIZES[size] == places.handles.len() {
                    *places = Places::EMPTY;
                }
            }
            (_, None) => drop(self.long.remove(long(list))),
        }
        list.len = handles.len() as u32;
        list.head = match (handles.len(), size_of(handles.len())) {
            (0, _) => Handle::FIRST,
            (1, _) => handles[0],
            (len, Some(size)) => {
                let places = &mut self.places[size];
                let head = places.free.pop().unwrap_or_else(|| {
                    let place = places.handles.len() / SIZES[size];
                    places.handles.resize(places.handles.len() + SIZES[size], Handle::FIRST);
                    Handle::at(place)
                });
                let start = head.place() * SIZES[size];
                places.handles[start..start + len].copy_from_slice(&handles);
                head
            }
            (_, None) => Handle::at(self.long.insert(handles).place()),
        };
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

    #[test]
    fn lists_are_what_vectors_are() {
        let mut dice = super::super::Dice(1);
        let mut lists = Lists::<()>::new();
        let mut both: Vec<(List<()>, Vec<Handle<()>>)> = (0..20).map(|_| (List::EMPTY, Vec::new())).collect();
        for step in 0..40_000 {
            let (list, model) = &mut both[dice.below(20)];
            if (step < 20_000) == (dice.below(4) > 0) {
                let (at, handle) = (dice.below(model.len() + 1), Handle::at(dice.below(1000)));
                lists.insert(list, at, handle);
                model.insert(at, handle);
            } else if !model.is_empty() {
                let at = dice.below(model.len());
                lists.remove(list, at);
                model.remove(at);
            }
            assert!(lists.get(list) == model.as_slice() && list.len() == model.len());
        }
        for (list, model) in &mut both {
            assert!(lists.get(list) == model.as_slice());
            while list.len() > 0 {
                lists.remove(list, 0);
            }
        }
        assert!(lists.is_empty());
    }
}
