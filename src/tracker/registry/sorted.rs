//! Handles in an order that the caller knows, four bytes and an eighth each, however many there are.

use std::cmp::Ordering;

use super::slab::Handle;

/// The most in one piece: so many are moved by one insertion.
const MOST: usize = 1024;

pub(super) struct Sorted<T> {
    /// None of them empty, but for a first one that room was made in.
    chunks: Vec<Vec<Handle<T>>>,
    /// Chunk and place of the one that was added last: what comes in order belongs behind it, and is not looked
    /// for.
    last: (u32, u32),
}

impl<T> Sorted<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), last: (0, 0) }
    }

    /// The one that is `Equal`; `compare` says how another stands to it.
    pub(super) fn find(&self, compare: impl Fn(Handle<T>) -> Ordering) -> Option<Handle<T>> {
        let (chunk, at) = self.position(&compare);
        let found = *self.chunks.get(chunk)?.get(at)?;
        (compare(found) == Ordering::Equal).then_some(found)
    }

    /// All that are not `Less`, in order.
    pub(super) fn from(&self, compare: impl Fn(Handle<T>) -> Ordering) -> impl Iterator<Item = Handle<T>> {
        let (chunk, at) = self.position(&compare);
        let chunks = self.chunks.get(chunk..).unwrap_or_default().iter();
        chunks.enumerate().flat_map(move |(nth, chunk)| &chunk[if nth == 0 { at } else { 0 }..]).copied()
    }

    /// Makes room for the first that come, of which there are to be so many.
    pub(super) fn reserve(&mut self, count: usize) {
        if self.chunks.is_empty() && count > 0 {
            self.chunks.push(Vec::with_capacity(count.min(MOST)));
        }
    }

    /// Adds one that is not there.
    pub(super) fn insert(&mut self, handle: Handle<T>, compare: impl Fn(Handle<T>) -> Ordering) {
        let (mut number, mut at) = self.behind_last(&compare).unwrap_or_else(|| self.position(&compare));
        if number == self.chunks.len() {
            match self.chunks.last() {
                Some(last) if last.len() < MOST => (number, at) = (number - 1, last.len()),
                _ => self.chunks.push(Vec::new()),
            }
        }
        if self.chunks[number].len() == MOST {
            let upper = self.chunks[number].split_off(MOST / 2);
            self.chunks[number].shrink_to_fit();
            self.chunks.insert(number + 1, upper);
            if at > MOST / 2 {
                (number, at) = (number + 1, at - MOST / 2);
            }
        }
        let chunk = &mut self.chunks[number];
        if chunk.len() == chunk.capacity() {
            chunk.reserve_exact(chunk.len() / 8 + 4);
        }
        chunk.insert(at, handle);
        self.last = (number as u32, at as u32);
    }

    /// Takes out the one that is `Equal`, if there is one.
    pub(super) fn remove(&mut self, compare: impl Fn(Handle<T>) -> Ordering) {
        let (number, at) = self.position(&compare);
        let Some(chunk) = self.chunks.get_mut(number) else { return };
        if chunk.get(at).is_some_and(|found| compare(*found) == Ordering::Equal) {
            chunk.remove(at);
            self.tighten(number);
        }
    }

    /// Takes out the last.
    pub(super) fn pop(&mut self) -> Option<Handle<T>> {
        let last = self.chunks.last_mut()?.pop();
        self.tighten(self.chunks.len() - 1);
        last
    }

    /// Gives back what a chunk no longer needs.
    fn tighten(&mut self, number: usize) {
        let chunk = &mut self.chunks[number];
        if chunk.len() < chunk.capacity() / 2 {
            chunk.shrink_to(chunk.len() + chunk.len() / 8);
        }
        let length = chunk.len();
        if length == 0 {
            self.chunks.remove(number);
        } else if let Some(next) = self.chunks.get(number + 1)
            && length + next.len() <= MOST / 2
        {
            let next = self.chunks.remove(number + 1);
            self.chunks[number].extend(next);
        }
        if self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(2 * self.chunks.len());
        }
    }

    /// The place behind the one that was added last, if that is [`position`](Self::position) or as good. What was
    /// moved since then makes this miss, and no more.
    fn behind_last(&self, compare: impl Fn(Handle<T>) -> Ordering) -> Option<(usize, usize)> {
        let (number, at) = (self.last.0 as usize, self.last.1 as usize);
        let chunk = self.chunks.get(number)?;
        let next = chunk.get(at + 1).or_else(|| self.chunks.get(number + 1)?.first());
        let is_less = |handle: &Handle<T>| compare(*handle) == Ordering::Less;
        (is_less(chunk.get(at)?) && !next.is_some_and(is_less)).then_some((number, at + 1))
    }

    /// Where the first is that is not `Less`: behind the last chunk, if all are.
    fn position(&self, compare: impl Fn(Handle<T>) -> Ordering) -> (usize, usize) {
        let is_less = |handle: &Handle<T>| compare(*handle) == Ordering::Less;
        let number = self.chunks.partition_point(|chunk| chunk.last().is_some_and(is_less));
        (number, self.chunks.get(number).map_or(0, |chunk| chunk.partition_point(is_less)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_sorted_set_is() {
        let mut sorted = Sorted::<()>::new();
        sorted.reserve(3);
        sorted.remove(|_| Ordering::Less);
        assert!(sorted.find(|_| Ordering::Equal).is_none() && sorted.from(|_| Ordering::Less).next().is_none());
        let mut model = std::collections::BTreeSet::new();
        let compare = |number: usize| move |handle: Handle<()>| handle.place().cmp(&number);
        let (mut dice, mut last) = (super::super::Dice(1), 0);
        for step in 0..60_000 {
            // Grows first and shrinks then, to nothing.
            // Every other one comes behind the one before it.
            let number = if dice.below(2) == 0 { dice.below(10_000) } else { (last + 1) % 10_000 };
            last = number;
            if (step < 30_000) == (dice.below(4) > 0) {
                assert_eq!(sorted.find(compare(number)).is_some(), !model.insert(number));
                if sorted.find(compare(number)).is_none() {
                    sorted.insert(Handle::at(number), compare(number));
                }
            } else {
                sorted.remove(compare(number));
                model.remove(&number);
            }
            if step % 1000 == 0 {
                let from = dice.below(10_000);
                assert!(sorted.from(compare(from)).map(Handle::place).eq(model.range(from..).copied()));
                assert!(sorted.chunks.iter().all(|chunk| (1..=MOST).contains(&chunk.len())));
            }
        }
        while let Some(last) = sorted.pop() {
            assert_eq!(model.pop_last(), Some(last.place()));
        }
        assert!(model.is_empty() && sorted.chunks.is_empty());
    }
}
