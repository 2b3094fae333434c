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
/// longest for its next head gives way, so that clients who send nothing cost nobody a place. Before
/// those go who are held for a wrong secret.
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
    /// Since when it waits for a head, or is held; none while a request is served.
    waits_since: Option<Instant>,
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

    /// A place for a new connection; none when all are serving.
    pub(super) fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>, from: IpAddr) -> Option<Slot> {
        let mut table = self.lock();
        if table.held.values().filter(|held| held.from == from).count() >= limits::CONNECTIONS_PER_ADDRESS {
            table.close_longest_waiting(|held| held.from == from)?;
        } else if table.held.len() >= limits::CONNECTIONS {
            table.close_longest_waiting(|_| true)?;
        }
        // A thread whose connection was closed ends at once; until then it counts.
        let patience = Duration::from_secs(1);
        let is_crowded = |table: &mut Table| table.threads >= limits::CONNECTIONS;
        let waited = self.changed.wait_timeout_while(table, patience, is_crowded);
        let (mut table, wait) = waited.unwrap_or_else(PoisonError::into_inner);
        if wait.timed_out() || table.is_closing {
            return None;
        }
        table.next += 1;
        table.threads += 1;
        let number = table.next;
        let (waits_since, stream) = (Some(Instant::now()), Arc::clone(stream));
        table.held.insert(number, Held { from, waits_since, sleeper: None, stream });
        Some(Slot { slots: Arc::clone(self), number })
    }

    /// Closes the connections that have waited longest: for when descriptors run out. Several, since
    /// whoever is let in then needs one for the connection and more for what it asks for.
    pub(super) fn make_room(&self) {
        let mut table = self.lock();
        for _ in 0..limits::CONNECTIONS_CLOSED {
            let _ = table.close_longest_waiting(|_| true);
        }
    }

    /// Closes what waits, and waits for the rest until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let mut table = self.lock();
        table.is_closing = true;
        while table.close_longest_waiting(|_| true).is_some() {}
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
    fn close_longest_waiting(&mut self, may_go: impl Fn(&Held) -> bool) -> Option<()> {
        let waiting = self.held.iter().filter(|(_, held)| may_go(held));
        let order = |held: &Held| Some((held.sleeper.is_none(), held.waits_since?));
        let (_, number) = waiting.filter_map(|(number, held)| Some((order(held)?, *number))).min()?;
        let held = self.held.remove(&number)?;
        // The thread that waits in a read on it, or sleeps, wakes up and ends.
        let _ = held.stream.shutdown(Shutdown::Both);
        held.sleeper.iter().for_each(Thread::unpark);
        Some(())
    }
}

impl Slot {
    /// Says whether the connection now waits for a head. False when it is to end.
    pub(super) fn set_waiting(&self, is_waiting: bool) -> bool {
        let mut table = self.slots.lock();
        if is_waiting && table.is_closing {
            return false;
        }
        let held = table.held.get_mut(&self.number);
        held.map(|held| held.waits_since = is_waiting.then(Instant::now)).is_some()
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
