//! A store that gives every value a number of four bytes, to be kept in place of the value.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    marker::PhantomData,
    num::NonZeroU32,
    ops::{Index, IndexMut},
};

/// The number of a value in a [`Slab`]. It is good until that value is removed, and then given to
/// another: who removes a value first removes every handle to it. Not zero, so that what holds one needs
/// no more room to be optional.
pub(super) struct Handle<T>(NonZeroU32, PhantomData<fn() -> T>);

impl<T> Handle<T> {
    /// The least there can be.
    pub(super) const FIRST: Self = Self(NonZeroU32::MIN, PhantomData);

    /// The one of what stands in this place; the limits on peers and files are far below 2^32.
    pub(super) fn at(place: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(place as u32), PhantomData)
    }

    /// In which place that stands.
    pub(super) fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

// Derived, these would ask the same of `T`.
impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Handle<T> {}
impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Handle<T> {}
impl<T> PartialOrd for Handle<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Handle<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<Handle<T>>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Handle<T> {
        let handle = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Handle::at(self.slots.len() - 1)
        });
        self.slots[handle.place()] = Some(value);
        handle
    }

    pub(super) fn remove(&mut self, handle: Handle<T>) -> T {
        let value = self.slots[handle.place()].take().expect("a handle is good until its value is removed");
        self.free.push(handle);
        if self.len() == 0 {
            // Nobody is left: give the memory back.
            *self = Self::new();
        }
        value
    }
}

impl<T> Index<Handle<T>> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, handle: Handle<T>) -> &T {
        self.slots[handle.place()].as_ref().expect("a handle is good until its value is removed")
    }
}

impl<T> IndexMut<Handle<T>> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, handle: Handle<T>) -> &mut T {
        self.slots[handle.place()].as_mut().expect("a handle is good until its value is removed")
    }
}
