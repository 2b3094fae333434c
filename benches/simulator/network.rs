//! Links. Each machine has an uplink and a downlink, and the network between them is never what limits.
//!
//! An answer leaves in segments, and the answers that leave one machine at once take turns: that is how
//! TCP connections of equal delay share a link, and how `fq` does. What arrives waits in a queue before the
//! downlink. This is as cheap as one event a segment; rates that are shared by a formula would have to be
//! worked out anew, for all that are connected, with each answer that begins or ends. It knows no
//! window that would slow a sender down whose receiver's downlink is full: answers are a piece or two long,
//! less than what lies in a socket's buffers and in the queue of a real link. Requests and small answers
//! overtake segments, as they do under `fq`, and take their time of both links.
//! The rate is what is left when the headers of packets are paid.

use std::{collections::VecDeque, time::Duration};

use super::{World, clock::Event};

/// The longest portion of an answer that leaves at once: eleven packets, about what TCP sends in a burst.
const SEGMENT: u32 = 16 << 10;

pub(super) struct Network {
    rate: f64,
    latency: Duration,
    up: Vec<Uplink>,
    /// When each downlink has nothing to receive.
    down: Vec<Duration>,
}

#[derive(Default)]
struct Uplink {
    /// Answers under way; the first has the link.
    answers: VecDeque<u32>,
    /// Of the segment that leaves.
    segment: u32,
    /// Bytes of small messages that the link has still to make up for.
    debt: u32,
}

impl Network {
    pub(super) fn new(machines: usize, rate: f64, latency: Duration) -> Self {
        let up = (0..machines).map(|_| Uplink::default()).collect();
        Self { rate, latency, up, down: vec![Duration::ZERO; machines] }
    }

    fn time(&self, bytes: u32) -> Duration {
        Duration::from_secs_f64(f64::from(bytes) / self.rate)
    }

    /// Sends a small message; how long it takes.
    pub(super) fn post(&mut self, from: usize, to: usize, bytes: u32) -> Duration {
        let took = self.time(bytes);
        self.up[from].debt += bytes;
        self.down[to] += took;
        self.latency + took
    }

    /// When the last byte of a segment that has left now is received.
    fn receive(&mut self, to: usize, bytes: u32, now: Duration) -> Duration {
        // A segment is received while it is sent, where nothing is before it.
        self.down[to] = (now + self.latency).max(self.down[to] + self.time(bytes));
        self.down[to]
    }

    /// Nothing leaves this machine any more: the answers that were under way.
    pub(super) fn close(&mut self, machine: usize) -> Vec<usize> {
        self.up[machine].answers.drain(..).map(|connection| connection as usize).collect()
    }
}

impl World {
    /// Begins to send an answer of so many bytes.
    pub(super) fn send(&mut self, connection: usize, bytes: u64) {
        let line = &mut self.connections[connection];
        (line.left, line.has_begun) = (bytes as u32, false);
        let from = line.giver;
        self.network.up[from].answers.push_back(connection as u32);
        if self.network.up[from].answers.len() == 1 {
            self.send_segment(from);
        }
    }

    fn send_segment(&mut self, from: usize) {
        while let Some(&connection) = self.network.up[from].answers.front() {
            let line = &self.connections[connection as usize];
            if self.is_dead(line.taker) {
                self.network.up[from].answers.pop_front();
                self.peers[from].serving -= 1;
                continue;
            }
            // No crumbs.
            let segment = if line.left < SEGMENT * 3 / 2 { line.left } else { SEGMENT };
            let up = &mut self.network.up[from];
            let bytes = segment + std::mem::take(&mut up.debt);
            up.segment = segment;
            let took = self.network.time(bytes);
            return self.clock.after(took, Event::Sent(from as u32));
        }
    }

    /// A segment has left.
    pub(super) fn sent(&mut self, from: usize) {
        let now = self.clock.now();
        let up = &mut self.network.up[from];
        // Otherwise the machine is gone.
        let Some(connection) = up.answers.pop_front() else { return };
        let segment = up.segment;
        let line = &mut self.connections[connection as usize];
        line.left -= segment;
        let (to, is_first, is_last) = (line.taker, !line.has_begun, line.left == 0);
        line.has_begun = true;
        if !is_last {
            up.answers.push_back(connection);
        }
        if !self.is_dead(to) {
            let received = self.network.receive(to, segment, now);
            if is_first {
                self.clock.at(received.max(now + self.network.latency), Event::Head(connection));
            }
            if is_last {
                self.clock.at(received, Event::Done(connection));
            }
        }
        if is_last {
            self.peers[from].serving -= 1;
        }
        self.count(from, to, segment);
        self.send_segment(from);
    }

    /// Counts what was sent.
    pub(super) fn count(&mut self, from: usize, to: usize, bytes: u32) {
        if from < self.scenario.seeds {
            self.sent_by_seeds += u64::from(bytes);
        }
        if self.peers[from].zone != self.peers[to].zone {
            self.imported[self.peers[to].zone] += u64::from(bytes);
        }
    }
}
