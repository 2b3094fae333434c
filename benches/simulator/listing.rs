//! A peer that begins: the questions to the tracker, and the search for the piece list, as `download` does
//! them.

use std::collections::VecDeque;

use enjambre::{content::ContentId, limits};

use super::{Connection, Stage, Want, World, clock::Event, tracker};

/// The search for the piece list.
#[derive(Default)]
pub(super) struct Listing {
    round: usize,
    sources: Vec<(usize, bool)>,
    /// Others that were asked to tell when they have it, and have not answered.
    waiting: usize,
    /// Somebody is being asked for it.
    is_coming: bool,
    /// Who is to be asked when nobody tells.
    next: VecDeque<usize>,
    failed: Vec<usize>,
}

impl World {
    pub(super) fn arrive(&mut self, peer: usize) {
        if self.is_dead(peer) {
            return;
        }
        self.peers[peer].began = self.clock.now();
        self.peers[peer].stage = Stage::Listing(Listing::default());
        // Who holds it is the first question; then the announcement, and the question for neighbours.
        self.clock.after(self.trip() + self.scenario.latency, Event::Begin(peer as u32));
        self.clock.after(self.trip() * 2 + self.scenario.latency, Event::Find(peer as u32));
    }

    /// The tracker is asked for neighbours.
    pub(super) fn find(&mut self, peer: usize) {
        let now = self.clock.now();
        let dead = match &self.peers[peer].stage {
            Stage::Listing(_) => Vec::new(),
            Stage::Downloading(download) => download.dead(),
            _ => return,
        };
        let dice = self.random.next();
        let mut found = self.tracker.neighbours(peer, &dead, dice, now);
        if found.is_empty() {
            let whole = self.tracker.whole(dice, now);
            found.extend(whole.into_iter().filter(|&other| other != peer).map(|other| (other, false)));
        }
        self.peers[peer].found = found;
        self.clock.after(self.scenario.latency, Event::Found(peer as u32));
    }

    pub(super) fn found(&mut self, peer: usize) {
        let found = std::mem::take(&mut self.peers[peer].found);
        let id = self.id;
        let place = |peer: usize| ContentId::of(format!("{id}{}", tracker::name(peer)).as_bytes());
        match &mut self.peers[peer].stage {
            Stage::Downloading(_) => self.scouted(peer, found),
            Stage::Listing(listing) => {
                let partial: Vec<_> = found.iter().filter(|source| source.1).map(|source| source.0).collect();
                listing.next = found.iter().filter(|source| !source.1).map(|source| source.0).collect();
                listing.sources = found;
                listing.waiting = partial.len();
                let before = partial.iter().filter(|other| place(**other) < place(peer)).count() as u32;
                let turns = if listing.next.is_empty() { limits::NEIGHBOURS as u32 } else { before };
                self.clock.after(limits::PIECE_LIST_TURN * turns, Event::Turn(peer as u32));
                for other in partial.into_iter().filter(|_| turns > 0) {
                    let connection = self.connect(peer, other, 0, 0);
                    self.connections[connection].want = Want::HasList;
                    self.request(connection);
                }
            }
            _ => {}
        }
    }

    /// One that waits for the piece list waits for others no more.
    pub(super) fn turn(&mut self, peer: usize) {
        if let Stage::Listing(listing) = &mut self.peers[peer].stage
            && !listing.is_coming
        {
            self.ask_for_list(peer);
        }
    }

    fn ask_for_list(&mut self, peer: usize) {
        let dice = self.random.next();
        let now = self.clock.now();
        let Stage::Listing(listing) = &mut self.peers[peer].stage else { return };
        listing.is_coming = true;
        if listing.next.is_empty() && listing.failed.is_empty() {
            // At last any that hold it.
            listing.next = self.tracker.whole(dice, now).into();
        }
        if let Some(giver) = listing.next.pop_front() {
            let connection = self.connect(peer, giver, 0, 0);
            self.connections[connection].want = Want::List;
            return self.request(connection);
        }
        listing.round += 1;
        if listing.round < limits::FETCH_ROUNDS {
            *listing = Listing { round: listing.round, ..Listing::default() };
            self.clock.after(limits::FETCH_PAUSE + self.trip() + self.scenario.latency, Event::Find(peer as u32));
        } else {
            self.give_up(peer);
        }
    }

    /// Another has told that it has the piece list, or that it will not.
    pub(super) fn has_list(&mut self, connection: usize, is_there: bool) {
        let Connection { taker, giver, .. } = self.connections[connection];
        let is_expected = matches!(self.peers[giver].stage, Stage::Listing(_));
        let Stage::Listing(listing) = &mut self.peers[taker].stage else { return self.unused.push(connection) };
        if listing.is_coming {
            self.unused.push(connection);
        } else if is_there {
            listing.is_coming = true;
            self.connections[connection].want = Want::List;
            self.request(connection);
        } else if is_expected {
            self.request(connection);
        } else {
            self.unused.push(connection);
            listing.waiting -= 1;
            if listing.waiting == 0 {
                self.ask_for_list(taker);
            }
        }
    }

    /// An answer to a question for the piece list, or none.
    pub(super) fn listed(&mut self, connection: usize, is_here: bool) {
        let (peer, giver) = (self.connections[connection].taker, self.connections[connection].giver);
        self.unused.push(connection);
        let Stage::Listing(listing) = &mut self.peers[peer].stage else { return };
        if !is_here {
            listing.failed.push(giver);
            return self.ask_for_list(peer);
        }
        let Listing { mut sources, failed, .. } = std::mem::take(listing);
        sources.retain(|(source, _)| !failed.contains(source));
        self.begin(peer, sources);
    }
}
