//! A peer that is asked: what its content routes do, and its door.

use std::time::Duration;

use enjambre::{
    limits,
    peer::swarm::{plan::Ask, uplink::Ended},
};

use super::{Stage, Want, World, clock::Event};

/// The head of a request for pieces, and of its answer: as they are on the wire.
pub(super) const REQUEST_BYTES: u32 = 145;
const HEAD_BYTES: u32 = 149;
/// A run of pieces in a request, with its comma.
pub(super) const RUN_BYTES: u32 = 8;
/// Of a question for news, and of its answer.
pub(super) const QUESTION_BYTES: u32 = 135;
const NEWS_BYTES: u32 = 120;
/// A piece number in a head, with its comma.
const NUMBER_BYTES: u32 = 4;

/// What is done with a request.
enum Reply {
    /// So many bytes, of which the head is the least.
    Body(u64),
    /// A small one.
    Small(u32),
    Refusal,
    /// It waits.
    Park,
    /// It waits for its turn.
    Queue,
}

impl World {
    pub(super) fn is_dead(&self, peer: usize) -> bool {
        matches!(self.peers[peer].stage, Stage::Dead)
    }

    /// A request has come in.
    pub(super) fn asked(&mut self, connection: usize) {
        let giver = self.connections[connection].giver;
        self.connections[connection].has_turn = false;
        let now = self.clock.now();
        let ended = self.peers[giver].uplink.end(connection as u64, now);
        self.connections[connection].at_turn = ended == Ended::Wait;
        if ended != Ended::Nothing {
            self.give_turns(giver);
        }
        // At the door's cap the connection that waits longest gives way, unless none does.
        if self.peers[giver].serving >= limits::CONNECTIONS {
            return self.clock.after(self.scenario.latency, Event::Failed(connection as u32));
        }
        self.answer(connection, false);
    }

    /// Answers, or parks what was not parked before.
    pub(super) fn answer(&mut self, connection: usize, was_parked: bool) {
        let (giver, taker) = (self.connections[connection].giver, self.connections[connection].taker);
        if self.is_dead(giver) {
            return self.clock.after(self.scenario.latency, Event::Failed(connection as u32));
        }
        if was_parked {
            self.peers[giver].serving -= 1;
        }
        if self.is_dead(taker) {
            return;
        }
        match self.reply(connection, was_parked) {
            Reply::Body(bytes) => {
                self.peers[giver].serving += 1;
                self.send(connection, bytes + u64::from(HEAD_BYTES));
            }
            Reply::Small(bytes) => {
                let bytes = bytes + NEWS_BYTES;
                self.count(giver, taker, bytes);
                let took = self.network.post(giver, taker, bytes);
                self.clock.after(took, Event::Told(connection as u32));
            }
            Reply::Refusal => self.clock.after(self.scenario.latency, Event::Failed(connection as u32)),
            Reply::Queue => {
                self.peers[giver].serving += 1;
                let now = self.clock.now();
                self.peers[giver].queue.push_back((connection, now));
                self.watch_queue(giver);
            }
            Reply::Park => {
                self.peers[giver].serving += 1;
                let now = self.clock.now();
                self.peers[giver].parked.push((connection, now));
                if !std::mem::replace(&mut self.peers[giver].is_watched, true) {
                    self.clock.after(limits::NEWS_TIME, Event::Watch(giver as u32));
                }
            }
        }
    }

    fn reply(&mut self, connection: usize, was_parked: bool) -> Reply {
        let now = self.clock.now();
        let line = &mut self.connections[connection];
        let giver = &mut self.peers[line.giver];
        line.is_busy = false;
        let must_wait = line.waits && !line.has_turn && !giver.uplink.is_free(most_turns(&line.want), now);
        line.is_whole = matches!(giver.stage, Stage::Whole);
        giver.is_known |= matches!((&giver.stage, &line.want), (Stage::Downloading(_), Want::Pieces(_)));
        match (&line.want, &giver.stage) {
            (_, Stage::Away | Stage::GaveUp | Stage::Dead) => Reply::Refusal,
            (Want::List, Stage::Whole | Stage::Downloading(_)) => Reply::Body(self.cut.count() as u64 * 32),
            (Want::HasList, Stage::Whole | Stage::Downloading(_)) => Reply::Small(0),
            (Want::List | Want::HasList, Stage::Listing(_)) if was_parked => Reply::Refusal,
            (Want::List | Want::HasList, Stage::Listing(_)) => Reply::Park,
            (Want::Pieces(Ask::Fresh(_)), Stage::Whole) if must_wait => Reply::Queue,
            (Want::Pieces(Ask::Fresh(runs)), Stage::Whole) => {
                match giver.fresh.get_or_insert_default().give(&self.id, self.cut.count(), runs, now) {
                    None => Reply::Small(0),
                    Some(run) => {
                        line.run = run.clone();
                        if line.waits {
                            giver.uplink.send(connection as u64, true, now);
                        }
                        Reply::Body(run.len() as u64 * self.cut.length())
                    }
                }
            }
            (Want::Pieces(Ask::Pieces(run)), Stage::Whole) => {
                giver.fresh.get_or_insert_default().note(&self.id, self.cut.count(), run.clone(), now);
                giver.uplink.send(connection as u64, line.at_turn, now);
                Reply::Body(run.len() as u64 * self.cut.length())
            }
            (Want::Pieces(Ask::Pieces(run)), Stage::Downloading(download)) => {
                let told = giver.gained.len().min(line.since + limits::NEWS_PIECES);
                if !run.clone().all(|piece| download.plan.holds(piece)) {
                    return Reply::Refusal;
                }
                line.told = told;
                giver.uplink.send(connection as u64, line.at_turn, now);
                line.is_busy = giver.uplink.is_busy(now);
                let news = (told - line.since) as u64 * u64::from(NUMBER_BYTES);
                Reply::Body(run.len() as u64 * self.cut.length() + news)
            }
            (Want::Pieces(Ask::Pieces(_)), Stage::Listing(_)) => Reply::Refusal,
            (Want::Pieces(ask @ (Ask::Turn | Ask::News)), Stage::Downloading(_))
                if *ask == Ask::Turn || giver.gained.len() > line.since =>
            {
                if must_wait {
                    return Reply::Queue;
                }
                if line.waits {
                    giver.uplink.give(connection as u64, now);
                }
                line.told = giver.gained.len();
                Reply::Small(2 * (line.told - line.since) as u32)
            }
            (Want::Pieces(Ask::News), Stage::Downloading(_) | Stage::Listing(_)) if !was_parked => Reply::Park,
            // Nothing has come, it holds all, or it lets others choose.
            (Want::Pieces(_), _) => Reply::Small(0),
        }
    }

    /// Answers those whose turn it is, and those that have waited too long for it.
    fn give_turns(&mut self, giver: usize) {
        let now = self.clock.now();
        while let Some(&(next, since)) = self.peers[giver].queue.front() {
            let most = most_turns(&self.connections[next].want);
            if !self.peers[giver].uplink.is_free(most, now) && now < since + limits::TURN_PATIENCE {
                return self.watch_queue(giver);
            }
            self.peers[giver].queue.pop_front();
            self.connections[next].has_turn = true;
            self.answer(next, true);
        }
    }

    fn watch_queue(&mut self, giver: usize) {
        let peer = &mut self.peers[giver];
        if let Some(&(next, since)) = peer.queue.front()
            && !std::mem::replace(&mut peer.is_queue_watched, true)
        {
            let free = peer.uplink.free_at(most_turns(&self.connections[next].want), self.clock.now());
            self.clock.at(free.min(since + limits::TURN_PATIENCE), Event::Queue(giver as u32));
        }
    }

    pub(super) fn look_at_queue(&mut self, giver: usize) {
        self.peers[giver].is_queue_watched = false;
        self.give_turns(giver);
    }

    /// Something has happened at a giver that those who wait there wait for.
    pub(super) fn wake(&mut self, giver: usize) {
        let is_listing = matches!(self.peers[giver].stage, Stage::Listing(_));
        for (connection, since) in std::mem::take(&mut self.peers[giver].parked) {
            // Only news wait for more to go with them.
            let is_for_list = matches!(self.connections[connection].want, Want::List | Want::HasList);
            let least = if is_listing || is_for_list { Duration::ZERO } else { limits::NEWS_BATCH_TIME };
            self.clock.at(since + least, Event::Answer(connection as u32));
        }
    }

    /// Answers those that have waited long enough for something that did not happen.
    pub(super) fn watch(&mut self, giver: usize) {
        let now = self.clock.now();
        let peer = &mut self.peers[giver];
        let late = peer.parked.iter().take_while(|(_, since)| *since + limits::NEWS_TIME <= now).count();
        let late: Vec<_> = peer.parked.drain(..late).collect();
        let oldest = peer.parked.first().map(|(_, since)| *since);
        peer.is_watched = oldest.is_some();
        if let Some(oldest) = oldest {
            self.clock.at(oldest + limits::NEWS_TIME, Event::Watch(giver as u32));
        }
        for (connection, _) in late {
            self.clock.after(Duration::ZERO, Event::Answer(connection as u32));
        }
    }
}

/// How many turns there are for a request.
fn most_turns(want: &Want) -> usize {
    if matches!(want, Want::Pieces(Ask::Fresh(_))) { limits::FRESH_TURNS } else { limits::TURNS }
}
