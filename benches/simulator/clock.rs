//! The virtual clock: what happens next.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Something that happens to a peer, to a connection at its giver, or at its taker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A peer begins its download.
    Arrive(u32),
    /// A peer is killed.
    Die(u32),
    /// A peer renews its lease.
    Renew(u32),
    /// The tracker hears that a peer downloads.
    Begin(u32),
    /// The tracker is asked for neighbours.
    Find(u32),
    /// Its answer is here.
    Found(u32),
    /// One that waits for the piece list waits for others no more.
    Turn(u32),
    /// It is time to ask it again.
    Scout(u32),
    /// It is time to see whether there are as many connections as there should be.
    Man(u32),
    /// The tracker hears that a peer holds all.
    Publish(u32),
    /// A connection is free for a request.
    Next(u32),
    /// A request reaches the giver.
    Asked(u32),
    /// The giver has waited for something to answer.
    Answer(u32),
    /// Some of those that wait at a giver may have waited long enough.
    Watch(u32),
    /// Some of those that wait at a giver for their turn may take it.
    Queue(u32),
    /// A segment has left an uplink.
    Sent(u32),
    /// The head of an answer reaches the taker.
    Head(u32),
    /// And its last byte.
    Done(u32),
    /// A small answer reaches the taker.
    Told(u32),
    /// A connection breaks, or the answer is a refusal.
    Failed(u32),
}

#[derive(Default)]
pub(super) struct Clock {
    now: u64,
    happened: u64,
    order: u64,
    /// By time in nanoseconds; of the same time, in the order in which they were set.
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    pub(super) fn happened(&self) -> u64 {
        self.happened
    }

    pub(super) fn at(&mut self, time: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(((time.as_nanos() as u64).max(self.now), self.order, event)));
    }

    pub(super) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now() + time, event);
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse((time, _, event)) = self.queue.pop()?;
        self.now = time;
        self.happened += 1;
        Some(event)
    }
}
