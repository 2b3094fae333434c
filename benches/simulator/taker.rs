//! A peer that downloads: what `get`, `download` and `crew` do around the plan, once
//! the piece list is here.

use std::time::Duration;

use enjambre::{
    limits,
    peer::swarm::{
        border::Whence,
        plan::{Ask, Plan},
    },
};

use super::{
    Connection, Stage, Want, World,
    clock::Event,
    giver::{QUESTION_BYTES, REQUEST_BYTES, RUN_BYTES},
    tracker,
};

pub(super) struct Download {
    pub(super) plan: Plan,
    /// By their numbers in the plan.
    sources: Vec<Known>,
    workers: usize,
    scouted: u32,
    pause: Duration,
    /// The scout is on its way to the tracker.
    is_asking: bool,
    alone: Option<u32>,
}

struct Known {
    peer: usize,
    workers: usize,
}

impl World {
    fn download(&mut self, peer: usize) -> Option<&mut Download> {
        match &mut self.peers[peer].stage {
            Stage::Downloading(download) => Some(download),
            _ => None,
        }
    }

    /// A round trip to the tracker, and half of one.
    pub(super) fn trip(&self) -> Duration {
        self.scenario.latency * 2
    }

    /// The piece list is here.
    pub(super) fn begin(&mut self, peer: usize, sources: Vec<(usize, bool)>) {
        let download = Download {
            plan: Plan::new(self.cut.count(), self.cut.length(), tracker::tag(peer), self.random.next()),
            sources: Vec::new(),
            workers: 0,
            scouted: 0,
            pause: limits::NEIGHBOURS_PAUSE.start,
            is_asking: false,
            alone: None,
        };
        self.peers[peer].stage = Stage::Downloading(Box::new(download));
        self.wake(peer);
        self.add(peer, sources);
        self.clock.after(limits::NEIGHBOURS_PAUSE.start, Event::Scout(peer as u32));
        self.clock.after(limits::PROGRESS_TIME, Event::Man(peer as u32));
    }

    // ---- sources -------------------------------------------------------------------------------

    pub(super) fn scout(&mut self, peer: usize) {
        let latency = self.scenario.latency;
        let Some(download) = self.download(peer) else { return };
        if !std::mem::replace(&mut download.is_asking, true) {
            download.pause = (download.pause * 2).min(limits::NEIGHBOURS_PAUSE.end);
            self.clock.after(latency, Event::Find(peer as u32));
        }
    }

    pub(super) fn scouted(&mut self, peer: usize, found: Vec<(usize, bool)>) {
        let Some(download) = self.download(peer) else { return };
        download.scouted += 1;
        download.is_asking = false;
        let pause = download.pause;
        self.add(peer, found);
        let is_known = self.peers[peer].is_known;
        let Some(download) = self.download(peer) else { return };
        let is_urgent = download.plan.sources() == 0 || download.plan.is_alone() && is_known;
        let pause = if is_urgent { pause.min(limits::FETCH_PAUSE) } else { pause };
        self.clock.after(pause, Event::Scout(peer as u32));
    }

    fn add(&mut self, peer: usize, sources: Vec<(usize, bool)>) {
        let (now, zone) = (self.clock.now(), self.peers[peer].zone);
        let far: Vec<_> = sources.iter().map(|(source, _)| self.peers[*source].zone != zone).collect();
        let Some(download) = self.download(peer) else { return };
        for ((source, is_partial), is_far) in sources.into_iter().zip(far) {
            if download.sources.iter().any(|known| known.peer == source) {
                continue;
            }
            let whence = Whence { is_far, tag: tracker::tag(source) };
            if is_partial {
                download.plan.add_partial(whence, now)
            } else {
                download.plan.add_whole(whence, now)
            };
            download.sources.push(Known { peer: source, workers: 0 });
        }
        self.man(peer);
    }

    fn man(&mut self, peer: usize) {
        let now = self.clock.now();
        let Some(download) = self.download(peer) else { return };
        let mut new = Vec::new();
        // The part of this download in all of the peer's connections is never used up here.
        for source in 0..download.sources.len() {
            let depth = if download.plan.is_gone(source) { 0 } else { download.plan.depth(source, now) };
            while download.sources[source].workers < depth && download.workers < limits::SOURCE_CONNECTIONS.get() {
                new.push((source, download.sources[source].peer, download.sources[source].workers));
                download.sources[source].workers += 1;
                download.workers += 1;
            }
        }
        for (source, giver, nth) in new {
            let connection = self.connect(peer, giver, source, nth);
            self.clock.after(Duration::ZERO, Event::Next(connection as u32));
        }
    }

    /// What the loop of a download does each time it looks.
    pub(super) fn look_after(&mut self, peer: usize) {
        self.man(peer);
        let Some(download) = self.download(peer) else { return };
        if download.plan.sources() > 0 {
            download.alone = None;
        } else if *download.alone.get_or_insert(download.scouted) + limits::SCOUTS_ALONE <= download.scouted {
            return self.give_up(peer);
        }
        self.clock.after(limits::PROGRESS_TIME, Event::Man(peer as u32));
    }

    pub(super) fn give_up(&mut self, peer: usize) {
        self.peers[peer].stage = Stage::GaveUp;
        self.running -= 1;
        self.wake(peer);
        self.tracker.stop(peer, self.clock.now());
    }

    // ---- a connection --------------------------------------------------------------------------

    pub(super) fn connect(&mut self, taker: usize, giver: usize, source: usize, nth: usize) -> usize {
        let new = Connection {
            taker,
            giver,
            source,
            nth,
            is_open: false,
            want: Want::Pieces(Ask::Over),
            began: Duration::ZERO,
            since: 0,
            told: 0,
            is_whole: false,
            is_busy: false,
            waits: false,
            has_turn: false,
            at_turn: false,
            run: 0..0,
            left: 0,
            has_begun: false,
        };
        match self.unused.pop() {
            Some(unused) => {
                self.connections[unused] = new;
                unused
            }
            None => {
                self.connections.push(new);
                self.connections.len() - 1
            }
        }
    }

    /// Sends the request that a connection wants; the first opens it.
    pub(super) fn request(&mut self, connection: usize) {
        let line = &mut self.connections[connection];
        line.began = self.clock.now();
        let opening =
            if std::mem::replace(&mut line.is_open, true) { Duration::ZERO } else { self.scenario.latency * 2 };
        let (taker, giver) = (line.taker, line.giver);
        let bytes = match &line.want {
            Want::Pieces(Ask::News | Ask::Turn) => QUESTION_BYTES,
            Want::Pieces(Ask::Fresh(runs)) => REQUEST_BYTES + runs.len() as u32 * RUN_BYTES,
            _ => REQUEST_BYTES,
        };
        self.count(taker, giver, bytes);
        let took = self.network.post(taker, giver, bytes);
        self.clock.after(opening + took, Event::Asked(connection as u32));
    }

    /// A connection looks for something to ask.
    pub(super) fn next(&mut self, connection: usize) {
        let now = self.clock.now();
        let Connection { taker, source, nth, is_busy, .. } = self.connections[connection];
        let trip = self.trip();
        let Some(download) = self.download(taker) else { return self.unused.push(connection) };
        download.plan.set_trip(source, trip);
        let workers = download.sources[source].workers;
        let is_extra = nth > 0 && nth + 1 == workers && download.plan.depth(source, now) <= nth;
        let turn = if is_busy && !is_extra { download.plan.turn(source, now) } else { None };
        let ask = if is_extra { Ask::Over } else { turn.unwrap_or_else(|| download.plan.next(source, now)) };
        match ask {
            Ask::Over => {
                download.sources[source].workers -= 1;
                download.workers -= 1;
                self.unused.push(connection);
            }
            Ask::Nothing(wait) => {
                self.clock.after(wait.min(Duration::from_secs(1)), Event::Next(connection as u32));
            }
            ask => {
                let since = download.plan.heard(source);
                let is_close = trip <= limits::TURN_TRIP;
                let waits = download.plan.takes_turns(source) || is_close && matches!(ask, Ask::Fresh(_));
                let line = &mut self.connections[connection];
                (line.since, line.told, line.waits) = (since, since, waits);
                line.want = Want::Pieces(ask);
                self.request(connection);
            }
        }
    }

    /// Hears the news in an answer.
    fn hear(&mut self, connection: usize) {
        let Connection { taker, giver, source, since, told, is_whole, .. } = self.connections[connection];
        // Taken out, so that the plan may read it.
        let (gained, now) = (std::mem::take(&mut self.peers[giver].gained), self.clock.now());
        if let Some(download) = self.download(taker) {
            if is_whole {
                download.plan.is_whole(source, now);
            } else {
                let news: Vec<_> = gained[since.min(told)..told].iter().map(|&piece| piece.into()).collect();
                download.plan.news(source, &news, told, now);
            }
        }
        self.peers[giver].gained = gained;
    }

    pub(super) fn head(&mut self, connection: usize) {
        let now = self.clock.now();
        let line = &self.connections[connection];
        match line.want {
            Want::Pieces(Ask::Pieces(_)) => self.hear(connection),
            Want::Pieces(ref ask @ Ask::Fresh(_)) => {
                let (taker, source, run, ask) = (line.taker, line.source, line.run.clone(), ask.clone());
                if let Some(download) = self.download(taker) {
                    download.plan.coming(source, &ask, &run, now);
                }
            }
            _ => {}
        }
    }

    pub(super) fn told(&mut self, connection: usize) {
        let now = self.clock.now();
        let Connection { taker, source, ref want, .. } = self.connections[connection];
        let Want::Pieces(ask) = want.clone() else { return self.has_list(connection, true) };
        if matches!(ask, Ask::News | Ask::Turn) {
            self.hear(connection);
        } else if let Some(download) = self.download(taker) {
            download.plan.nothing_fresh(source, now);
        }
        self.answered(connection, &ask, 0);
    }

    pub(super) fn done(&mut self, connection: usize) {
        let Connection { taker, source, ref want, ref run, .. } = self.connections[connection];
        let (run, ask) = match want {
            Want::List | Want::HasList => return self.listed(connection, true),
            Want::Pieces(ask @ Ask::Pieces(run)) => (run.clone(), ask.clone()),
            Want::Pieces(ask) => (run.clone(), ask.clone()),
        };
        let bytes = run.len() as u64 * self.cut.length();
        run.clone().for_each(|piece| self.gain(taker, piece));
        if let (Ask::Fresh(_), Some(download)) = (&ask, self.download(taker)) {
            download.plan.came(source, &run);
        }
        self.answered(connection, &ask, bytes);
    }

    fn answered(&mut self, connection: usize, ask: &Ask, bytes: u64) {
        let Connection { taker, source, began, .. } = self.connections[connection];
        let now = self.clock.now();
        if let Some(download) = self.download(taker) {
            download.plan.answered(source, ask, bytes, now - began, now);
        }
        self.next(connection);
    }

    pub(super) fn failed(&mut self, connection: usize) {
        let now = self.clock.now();
        let Connection { taker, source, began, has_begun, ref want, ref run, .. } = self.connections[connection];
        let ask = match want {
            Want::HasList => return self.has_list(connection, false),
            Want::List => return self.listed(connection, false),
            Want::Pieces(ask) => ask.clone(),
        };
        let run = run.clone();
        if let Some(download) = self.download(taker) {
            if matches!(ask, Ask::Fresh(_)) && has_begun {
                download.plan.came(source, &run);
            }
            download.plan.answered(source, &ask, 0, now - began, now);
            if download.plan.failed(source, 1, now) {
                download.plan.remove(source);
                // Without any left, others are looked for soon.
                if download.plan.sources() == 0 {
                    self.clock.after(limits::FETCH_PAUSE, Event::Scout(taker as u32));
                }
            }
        }
        self.connections[connection].is_open = false;
        self.connections[connection].has_begun = false;
        self.next(connection);
    }

    // ---- what comes of it ----------------------------------------------------------------------

    fn gain(&mut self, peer: usize, piece: usize) {
        let Some(download) = self.download(peer) else { return };
        if !download.plan.gained(piece) {
            return;
        }
        let is_all = download.plan.missing() == 0;
        self.peers[peer].gained.push(piece as u16);
        if is_all {
            self.peers[peer].stage = Stage::Whole;
            self.peers[peer].ended = Some(self.clock.now());
            self.running -= 1;
            self.clock.after(self.scenario.latency, Event::Publish(peer as u32));
        }
        self.wake(peer);
    }

    pub(super) fn publish(&mut self, peer: usize) {
        if !self.is_dead(peer) {
            self.tracker.became_whole(peer, self.clock.now());
        }
    }
}

impl Download {
    /// Those that were let go.
    pub(super) fn dead(&self) -> Vec<usize> {
        let sources = self.sources.iter().enumerate();
        sources.filter(|(source, _)| self.plan.is_gone(*source)).map(|(_, known)| known.peer).collect()
    }
}
