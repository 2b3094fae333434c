//! Those who wait for their turn at the uplink.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::Instant,
};

use crate::{
    limits,
    peer::swarm::uplink::{Ended, Uplink},
};

/// The turns, and who waits for one; each is known by the number of its connection.
pub(super) struct Queue {
    /// What times are told from.
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    uplink: Uplink,
    /// The first is next. In any other order some would always come late, and be the last to have all.
    waiting: VecDeque<(u64, Thread)>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { began: Instant::now(), state: Mutex::default() }
    }
}

impl Queue {
    /// Takes a turn of at most so many, if one is free and nobody waits.
    pub(super) fn try_take(&self, connection: u64, most: usize) -> bool {
        let (mut state, now) = (self.lock(), self.began.elapsed());
        let is_free = state.waiting.is_empty() && state.uplink.is_free(most, now);
        if is_free {
            state.uplink.give(connection, now);
        }
        is_free
    }

    /// Waits for a turn of at most so many and takes it; after [`limits::TURN_PATIENCE`] in any case.
    pub(super) fn take(&self, connection: u64, most: usize) {
        let deadline = self.began.elapsed() + limits::TURN_PATIENCE;
        let mut state = self.lock();
        state.waiting.push_back((connection, thread::current()));
        loop {
            let now = self.began.elapsed();
            let is_next = state.waiting.front().is_some_and(|(next, _)| *next == connection);
            if is_next && state.uplink.is_free(most, now) || deadline <= now {
                state.waiting.retain(|(other, _)| *other != connection);
                state.uplink.give(connection, now);
                // It may be free for more than one.
                return state.wake();
            }
            let until = if is_next { state.uplink.free_at(most, now).min(deadline) } else { deadline };
            drop(state);
            thread::park_timeout(until - now);
            state = self.lock();
        }
    }

    /// Begins to send pieces, at a turn or not; whether others should ask for one now.
    pub(super) fn send(&self, connection: u64, at_turn: bool) -> bool {
        let (mut state, now) = (self.lock(), self.began.elapsed());
        state.uplink.send(connection, at_turn, now);
        state.uplink.is_busy(now)
    }

    /// A connection has asked for something: what it had is over. Whether that was a turn, which it takes now.
    pub(super) fn end(&self, connection: u64) -> bool {
        let (mut state, now) = (self.lock(), self.began.elapsed());
        let ended = state.uplink.end(connection, now);
        if ended != Ended::Nothing {
            state.wake();
        }
        ended == Ended::Wait
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has the next one look whether it is its turn.
    fn wake(&self) {
        self.waiting.iter().take(1).for_each(|(_, thread)| thread.unpark());
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// Where all turns are taken, has some wait for one after the other; who is let go, in that order.
    fn wait(queue: &'static Queue, connections: std::ops::Range<u64>) -> mpsc::Receiver<u64> {
        let (tell, told) = mpsc::channel();
        for connection in connections {
            let tell = tell.clone();
            thread::spawn(move || {
                queue.take(connection, 1);
                tell.send(connection).unwrap();
            });
            while !queue.lock().waiting.iter().any(|(other, _)| *other == connection) {
                thread::yield_now();
            }
        }
        told
    }

    #[test]
    fn turns_are_given_in_the_order_in_which_they_were_asked_for_and_nobody_cuts_in() {
        let queue: &'static Queue = Box::leak(Box::default());
        assert!(queue.try_take(0, 1));
        let told = wait(queue, 1..4);
        let mut order = Vec::new();
        for before in 0..3 {
            queue.end(before);
            assert!(!queue.try_take(9, 1));
            order.push(told.recv().unwrap());
        }
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn a_turn_that_is_not_ended_is_over_after_its_time() {
        let queue: &'static Queue = Box::leak(Box::default());
        let began = Instant::now();
        assert!(queue.try_take(0, 1));
        let told = wait(queue, 1..3);
        assert_eq!((told.recv(), told.recv()), (Ok(1), Ok(2)));
        let took = began.elapsed();
        assert!(took >= 2 * limits::TURN_TIME && took < Duration::from_secs(60), "{took:?}");
    }
}
