//! How many connections to sources a peer has open, over all its downloads together.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The budget of a peer. Its downloads have equal parts of it, and each at least one connection: so there
/// are more than the budget says where more downloads run than that, or for the moment in which one begins
/// and the others have not given back yet.
#[derive(Clone)]
pub(super) struct Budget {
    most: NonZeroUsize,
    in_use: Arc<Mutex<InUse>>,
}

#[derive(Default)]
struct InUse {
    downloads: usize,
    connections: usize,
}

/// The part of a download, until it is dropped.
pub(super) struct Part {
    budget: Budget,
    own: Arc<Mutex<usize>>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    budget: Budget,
    own: Arc<Mutex<usize>>,
}

impl Budget {
    /// A budget of so many connections.
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { most, in_use: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of one download more.
    pub(super) fn part(&self) -> Part {
        self.lock().downloads += 1;
        Part { budget: self.clone(), own: Arc::default() }
    }

    fn has_room(&self, in_use: &InUse, own: usize) -> bool {
        own == 0 || own < in_use.part(self.most) && in_use.connections < self.most.get()
    }
}

impl InUse {
    /// Connections that each download may have.
    fn part(&self, most: NonZeroUsize) -> usize {
        (most.get() / self.downloads.max(1)).max(1)
    }
}

impl Part {
    /// A place for a connection, where there is one; for the first there always is.
    pub(super) fn place(&self) -> Option<Place> {
        let mut in_use = self.budget.lock();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.budget.has_room(&in_use, *own) {
            return None;
        }
        in_use.connections += 1;
        *own += 1;
        Some(Place { budget: self.budget.clone(), own: Arc::clone(&self.own) })
    }

    /// Whether a download that has `own` connections could have one more.
    pub(super) fn has_room(&self, own: usize) -> bool {
        self.budget.has_room(&self.budget.lock(), own)
    }

    /// Whether a download that has `own` connections has to give one back to others.
    pub(super) fn is_exceeded(&self, own: usize) -> bool {
        own > self.budget.lock().part(self.budget.most)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.lock().downloads -= 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.lock().connections -= 1;
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(most: usize) -> Budget {
        Budget::new(NonZeroUsize::new(most).unwrap())
    }

    #[test]
    fn one_download_has_all_of_it_and_no_more() {
        let budget = budget(3);
        let part = budget.part();
        let mut places: Vec<_> = std::iter::from_fn(|| part.place()).collect();
        assert_eq!(places.len(), 3);
        assert!(!part.is_exceeded(3));
        places.pop();
        assert!(part.place().is_some());
    }

    #[test]
    fn whoever_begins_has_a_connection_at_once_and_the_others_give_theirs_back() {
        let budget = budget(4);
        let first = budget.part();
        let mut places: Vec<_> = std::iter::from_fn(|| first.place()).collect();
        let second = budget.part();
        let own = second.place();
        assert!(own.is_some() && second.place().is_none());
        while first.is_exceeded(places.len()) {
            places.pop();
        }
        assert_eq!(places.len(), 2);
        assert!(first.place().is_none() && second.place().is_some() && !second.has_room(2));
        drop((second, own));
        assert!(!first.is_exceeded(4) && first.place().is_some());
    }

    #[test]
    fn more_downloads_than_connections_have_one_each() {
        let budget = budget(1);
        let parts: Vec<_> = (0..3).map(|_| budget.part()).collect();
        let places: Vec<_> = parts.iter().map(Part::place).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(parts.iter().all(|part| part.place().is_none() && !part.is_exceeded(1)));
    }
}
