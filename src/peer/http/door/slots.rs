//! Who holds a connection, and who must go when there are too many.

use std::{
    collections::HashMap,
    net::{IpAddr, Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::limits;

/// The table of connections: a cap in all and per address. At a cap, the connection that has waited
/// longest for its next head gives way, so that clients who send nothing cost nobody a place; before those go
/// who are held for a wrong secret. Where all are being served, as slow bodies and slow takers are for long,
/// whoever has many gives one up to who has few.
#[derive(Default)]
pub(super) struct Slots {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    held: HashMap<u64, Held>,
    next: u64,
    /// Threads that serve a connection, those included whose connection was closed under them.
    threads: usize,
    is_closing: bool,
}

struct Held {
    from: IpAddr,
    /// It waits for a head, or for its client to close, or is held; else a request is being served.
    is_waiting: bool,
    /// Since when.
    since: Instant,
    /// It brings an upload.
    is_upload: bool,
    /// The thread that sleeps while it is held.
    sleeper: Option<Thread>,
    stream: Arc<TcpStream>,
}

/// A connection's place; leaving it frees it.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection; none when all are serving, and nobody has many more than its client.
    pub(super) fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>, from: IpAddr) -> Option<Slot> {
        let mut table = self.lock();
        let own = table.held.values().filter(|held| held.from == from).count();
        if own >= limits::CONNECTIONS_PER_ADDRESS {
            table.close_longest(|held| held.is_waiting && held.from == from)?;
        } else if table.held.len() >= limits::CONNECTIONS {
            let counts = table.counts();
            // Not of who has less: a connection that has just come waits too, until its head is read.
            let may_go = |held: &Held| held.is_waiting && counts[&held.from] >= own;
            let greedy = counts.iter().max_by_key(|(_, count)| **count);
            let greedy = greedy.filter(|(_, count)| **count > limits::CONNECTIONS_FEW.max(own + 1));
            let one_of_many = |held: &Held| greedy.is_some_and(|(address, _)| held.from == *address);
            table.close_longest(may_go).or_else(|| table.close_longest(one_of_many))?;
        }
        // A thread whose connection was closed ends at once, but for one that is busy with a disk.
        let patience = Duration::from_secs(1);
        let is_crowded = |table: &mut Table| table.threads >= limits::CONNECTIONS + limits::CONNECTIONS_ENDING;
        let waited = self.changed.wait_timeout_while(table, patience, is_crowded);
        let (mut table, wait) = waited.unwrap_or_else(PoisonError::into_inner);
        if wait.timed_out() || table.is_closing {
            return None;
        }
        table.next += 1;
        table.threads += 1;
        let number = table.next;
        let (since, stream) = (Instant::now(), Arc::clone(stream));
        table.held.insert(number, Held { from, is_waiting: true, since, is_upload: false, sleeper: None, stream });
        Some(Slot { slots: Arc::clone(self), number })
    }

    /// Closes the connections that have waited longest: for when descriptors run out. Several, since
    /// whoever is let in then needs one for the connection and more for what it asks for.
    pub(super) fn make_room(&self) {
        let mut table = self.lock();
        for _ in 0..limits::CONNECTIONS_CLOSED {
            let _ = table.close_longest(|held| held.is_waiting);
        }
    }

    /// Closes what waits, and waits for the rest until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let mut table = self.lock();
        table.is_closing = true;
        while table.close_longest(|held| held.is_waiting).is_some() {}
        while table.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            table = self.changed.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Table {
    /// How many each address holds.
    fn counts(&self) -> HashMap<IpAddr, usize> {
        counts(self.held.values())
    }

    /// Of those that may go, closes the one that has waited, or was served, longest; first those held.
    fn close_longest(&mut self, may_go: impl Fn(&Held) -> bool) -> Option<()> {
        let going = self.held.iter().filter(|(_, held)| may_go(held));
        let (_, number) = going.map(|(number, held)| ((held.sleeper.is_none(), held.since), *number)).min()?;
        let held = self.held.remove(&number)?;
        // The thread that waits in a read or a write on it, or sleeps, wakes up and ends.
        let _ = held.stream.shutdown(Shutdown::Both);
        held.sleeper.iter().for_each(Thread::unpark);
        Some(())
    }
}

fn counts<'a>(held: impl Iterator<Item = &'a Held>) -> HashMap<IpAddr, usize> {
    let mut counts = HashMap::new();
    held.for_each(|held| *counts.entry(held.from).or_default() += 1);
    counts
}

impl Slot {
    /// The number of the connection; none has it twice.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Takes an upload, if there are not too many: then the longest of the address that has most gives way to one that has
    /// fewer by two. None when nobody does.
    pub(super) fn upload<T>(&self, take: impl FnOnce() -> T) -> Option<T> {
        self.begin_upload()?;
        let taken = take();
        // Before it is answered: who then sends the next one has a place.
        if let Some(held) = self.slots.lock().held.get_mut(&self.number) {
            held.is_upload = false;
        }
        Some(taken)
    }

    fn begin_upload(&self) -> Option<()> {
        let mut table = self.slots.lock();
        let counts = counts(table.held.values().filter(|held| held.is_upload));
        if counts.values().sum::<usize>() >= limits::UPLOADS {
            let own = counts.get(&table.held.get(&self.number)?.from).copied().unwrap_or(0);
            let (greedy, _) = counts.iter().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > own + 1)?;
            table.close_longest(|held| held.is_upload && held.from == *greedy)?;
        }
        table.held.get_mut(&self.number)?.is_upload = true;
        Some(())
    }

    /// Says whether the connection now waits, for a head or its end. False when it is to end.
    pub(super) fn set_waiting(&self, is_waiting: bool) -> bool {
        let mut table = self.slots.lock();
        if is_waiting && table.is_closing {
            return false;
        }
        let held = table.held.get_mut(&self.number);
        held.map(|held| (held.is_waiting, held.since) = (is_waiting, Instant::now())).is_some()
    }
}

impl Slot {
    /// Sleeps for a time, and gives way to others meanwhile. False when it has, or is to end.
    pub(super) fn hold(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        if !self.set_waiting(true) {
            return false;
        }
        let set_sleeper = |sleeper| {
            let mut table = self.slots.lock();
            table.held.get_mut(&self.number).map(|held| held.sleeper = sleeper).is_some()
        };
        while set_sleeper(Some(thread::current())) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return set_sleeper(None) && self.set_waiting(false);
            }
            thread::park_timeout(left);
        }
        false
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.slots.lock();
        table.held.remove(&self.number);
        table.threads -= 1;
        self.slots.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};

    use super::*;

    /// A place for a connection from this address, and whether a request is then served on it.
    fn admit(slots: &Arc<Slots>, from: u8, is_served: bool) -> Option<Slot> {
        let (ours, _) = UnixStream::pair().unwrap();
        let slot = slots.admit(&Arc::new(OwnedFd::from(ours).into()), [127, 0, 0, from].into());
        slot.inspect(|slot| assert!(slot.set_waiting(!is_served)))
    }

    fn holds(slots: &Slots, from: u8) -> usize {
        slots.lock().counts().get(&IpAddr::from([127, 0, 0, from])).copied().unwrap_or_default()
    }

    #[test]
    fn where_all_are_served_whoever_has_many_gives_one_up_to_who_has_few() {
        let slots = Arc::<Slots>::default();
        let half = limits::CONNECTIONS_PER_ADDRESS;
        let mut held: Vec<_> = (0..2 * half).map(|at| admit(&slots, 1 + (at / half) as u8, true).unwrap()).collect();
        assert!(admit(&slots, 1, false).is_none(), "it has its part");
        held.push(admit(&slots, 3, false).unwrap());
        assert_eq!((holds(&slots, 1) + holds(&slots, 2), holds(&slots, 3)), (2 * half - 1, 1));
        assert!(
            admit(&slots, 1, false).is_none() && admit(&slots, 2, false).is_none(),
            "not at the cost of who has less"
        );
        assert_eq!(holds(&slots, 3), 1);
        // Served, it keeps its place as well.
        assert!(held.last().unwrap().set_waiting(false));
        held.extend((0..30).map(|_| admit(&slots, 4, true).unwrap()));
        assert_eq!((holds(&slots, 3), holds(&slots, 4)), (1, 30));
    }

    #[test]
    fn whoever_uploads_most_gives_one_up_to_who_uploads_less() {
        let slots = Arc::<Slots>::default();
        let admit = |from| admit(&slots, from, true).unwrap();
        let begins = |slot: &Slot| slot.begin_upload().is_some();
        let goes_on = |slot: &Slot| slot.set_waiting(false);
        let greedy: Vec<_> = (0..limits::UPLOADS).map(|_| admit(1)).collect();
        assert!(greedy.iter().all(begins) && !begins(&admit(1)), "it has all of them");
        let (half, others) = (limits::UPLOADS / 2, (0..limits::UPLOADS).map(|_| admit(2)).collect::<Vec<_>>());
        assert!(others[..half].iter().all(begins) && !others[half..].iter().any(begins), "as many as the other");
        assert!(!greedy[..half].iter().any(goes_on) && greedy[half..].iter().all(goes_on), "the longest went");
        // Where nobody has two more than who comes, nobody goes; what is over counts no more.
        let each: Vec<_> = (10..10 + limits::UPLOADS as u8).map(admit).collect();
        assert!(each[..limits::UPLOADS - 2].iter().all(begins));
        let late = admit(200);
        assert_eq!(late.upload(|| ()), None);
        drop(each);
        assert_eq!((late.upload(|| 1), late.upload(|| 2)), (Some(1), Some(2)));
    }

    #[test]
    fn nobody_who_has_few_gives_way_while_served() {
        let slots = Arc::<Slots>::default();
        let few = limits::CONNECTIONS_FEW;
        let held: Vec<_> = (0..limits::CONNECTIONS).map(|at| admit(&slots, (at / few) as u8, true).unwrap()).collect();
        assert!(admit(&slots, 200, false).is_none());
        assert!(held[0].set_waiting(true), "it was not closed");
        let one = admit(&slots, 200, true);
        assert!(one.is_some() && !held[0].set_waiting(false), "who waits gives way");
    }
}
