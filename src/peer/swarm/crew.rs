//! The threads of a download: one for each connection to a source. The plan says what each asks for;
//! what comes is verified before it counts.

use std::{
    io,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use super::{
    border::{SourceId, Whence},
    budget::{Part, Place},
    connection::{Body, Connection, News, When},
    fetch::Fetcher,
    fetch_error::FetchError,
    get::Getter,
    partial::Running,
    plan::{Ask, Plan},
};
use crate::{
    content::{ContentId, PieceList, PieceVerifier, Pieces},
    limits,
    name::{PeerId, Zone},
    peer::{
        link::Source,
        metrics::{Dropped, Metrics, Other},
        random,
        share::Partial,
    },
};

/// A content being fetched from many sources at once.
pub(super) struct Crew {
    id: ContentId,
    pieces: Pieces,
    list: PieceList,
    /// None once the download is over: a straggler then has nothing to write to.
    file: RwLock<Option<Partial>>,
    running: Running,
    fetcher: Fetcher,
    metrics: Metrics,
    /// Its part of the peer's connections.
    part: Part,
    /// The own zone.
    zone: Zone,
    began: Instant,
    state: Mutex<State>,
    /// Something has happened that those who wait should look at.
    changed: Condvar,
}

struct State {
    plan: Plan,
    /// By their numbers in the plan.
    sources: Vec<Known>,
    /// Threads at work, and so connections.
    workers: usize,
    /// The source that is given a connection first.
    first: SourceId,
    fetched: u64,
    scouted: u32,
    /// Some piece has verified, and so the pieces are as long as is claimed.
    is_proven: bool,
    /// Why the own disk ended it.
    broken: Option<io::Error>,
    is_over: bool,
    notes: Vec<String>,
}

struct Known {
    source: Source,
    workers: usize,
    /// It has brought pieces.
    was_of_use: bool,
    /// What it did last, when it failed.
    failure: Option<String>,
    /// It was no use to ask it, and will be none: it lied, or hung and had brought nothing.
    is_hopeless: bool,
}

/// A source that failed.
pub(super) struct Failed {
    pub(super) peer: PeerId,
    /// How: the end of a sentence that begins with its name.
    pub(super) what: String,
    /// It is not to be asked for this content again: it lied, or hung and had brought nothing.
    pub(super) is_hopeless: bool,
}

/// How far a download has come.
pub(super) struct Progress {
    pub(super) missing: usize,
    pub(super) fetched: u64,
    pub(super) broken: Option<io::Error>,
    /// Sources that are not let go.
    pub(super) sources: usize,
    /// None of them has anything that is missing.
    pub(super) is_starved: bool,
    /// How often new ones were looked for.
    pub(super) scouted: u32,
    /// What has happened since the last time, for a person.
    pub(super) notes: Vec<String>,
}

/// Why a request brought nothing, or not all.
enum Failure {
    Source(FetchError),
    /// It sent wrong bytes: it is not asked again.
    Liar(String),
    Disk(io::Error),
    /// The download is over.
    Over,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Source(error)
    }
}

impl Crew {
    /// A crew without anybody yet. `held` are the pieces that are in `file` and verified.
    pub(super) fn new(
        getter: &Getter,
        id: ContentId,
        pieces: Pieces,
        list: PieceList,
        file: Partial,
        running: Running,
        held: &[usize],
    ) -> Arc<Self> {
        let mut plan = Plan::new(pieces.count(), pieces.length(), tag(&getter.peer), random());
        getter.fetcher.rate().inspect(|rate| plan.limit(*rate));
        for &piece in held {
            plan.gained(piece);
        }
        let sources = Vec::new();
        let (workers, first, fetched, scouted) = (0, 0, 0, 0);
        let (is_proven, is_over, broken, notes) = (!held.is_empty(), false, None, Vec::new());
        let state = State { plan, sources, workers, first, fetched, scouted, is_proven, broken, is_over, notes };
        Arc::new(Self {
            id,
            pieces,
            list,
            file: RwLock::new(Some(file)),
            running,
            part: getter.fetcher.part(),
            fetcher: getter.fetcher.clone(),
            metrics: getter.metrics.clone(),
            zone: getter.zone.clone(),
            began: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up those sources that are new.
    pub(super) fn add(self: &Arc<Self>, sources: Vec<Source>) {
        let mut state = self.lock();
        for source in sources {
            let known = state.sources.iter().position(|known| known.source.address == source.address);
            if known.is_some() || source.size != self.pieces.size() {
                continue;
            }
            let is_far = self.zone != Zone::default() && source.zone != self.zone;
            let whence = Whence { is_far, tag: tag(&source.peer) };
            let now = self.began.elapsed();
            if source.is_partial {
                state.plan.add_partial(whence, now)
            } else {
                state.plan.add_whole(whence, now)
            };
            let (workers, was_of_use, failure, is_hopeless) = (0, false, None, false);
            state.sources.push(Known { source, workers, was_of_use, failure, is_hopeless });
        }
        drop(state);
        self.man();
    }

    /// Waits until it is time to look for more sources: after `pause`, or sooner when there are none left,
    /// or none who download it too and somebody has shown that he does. False when the download is over.
    pub(super) fn wait_to_scout(&self, pause: Duration) -> bool {
        let began = Instant::now();
        let mut state = self.lock();
        loop {
            if state.is_over {
                return false;
            }
            let is_urgent = state.plan.sources() == 0 || state.plan.is_alone() && self.running.is_known();
            let pause = if is_urgent { pause.min(limits::FETCH_PAUSE) } else { pause };
            let rest = pause.saturating_sub(began.elapsed());
            if rest.is_zero() {
                return true;
            }
            let rest = rest.min(limits::FETCH_PAUSE);
            state = self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes up what was found when more sources were looked for.
    pub(super) fn scouted(self: &Arc<Self>, found: Vec<Source>) {
        self.lock().scouted += 1;
        self.add(found);
    }

    /// Starts a thread for every connection that the plan wants and that is not there, as far as the part
    /// of this download goes: no source has two before each has one.
    pub(super) fn man(self: &Arc<Self>) {
        let mut state = self.lock();
        let (first, count) = (state.first, state.sources.len());
        let now = self.began.elapsed();
        for nth in 0..limits::SOURCE_DEPTH {
            for source in (first..count).chain(0..first) {
                let depth = if state.plan.is_gone(source) { 0 } else { state.plan.depth(source, now) };
                if state.sources[source].workers != nth || nth >= depth {
                    continue;
                }
                let Some(place) = self.part.place() else { return };
                let crew = Arc::clone(self);
                let work = move || crew.work(source, nth, place);
                let builder = thread::Builder::new().name("fetch".into()).stack_size(limits::CONNECTION_STACK);
                if builder.spawn(work).is_err() {
                    return;
                }
                state.sources[source].workers += 1;
                state.workers += 1;
            }
        }
    }

    /// Waits for progress, `patience` long at most.
    pub(super) fn wait(&self, patience: Duration) -> Progress {
        let state = self.lock();
        let nothing_new = |state: &mut State| state.plan.missing() > 0 && state.broken.is_none();
        let waited = self.changed.wait_timeout_while(state, patience, nothing_new);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Progress {
            missing: state.plan.missing(),
            fetched: state.fetched,
            broken: state.broken.take(),
            sources: state.plan.sources(),
            is_starved: state.plan.is_starved(),
            scouted: state.scouted,
            notes: std::mem::take(&mut state.notes),
        }
    }

    /// Those that were let go: who they are, and what they did.
    pub(super) fn dead(&self) -> Vec<Failed> {
        let state = self.lock();
        let gone = state.sources.iter().enumerate().filter(|(source, _)| state.plan.is_gone(*source));
        let failed = |(_, known): (_, &Known)| Failed {
            peer: known.source.peer.clone(),
            what: known.failure.clone().unwrap_or_default(),
            is_hopeless: known.is_hopeless,
        };
        gone.map(failed).collect()
    }

    /// Whether a source is known, be it that it was let go.
    pub(super) fn knows(&self, source: &Source) -> bool {
        self.lock().sources.iter().any(|known| known.source.address == source.address)
    }

    /// Those that brought pieces.
    pub(super) fn of_use(&self) -> Vec<PeerId> {
        let state = self.lock();
        state.sources.iter().filter(|known| known.was_of_use).map(|known| known.source.peer.clone()).collect()
    }

    /// Ends the work; the file, for nobody else to write to. None when that was done before.
    pub(super) fn end(&self) -> Option<Partial> {
        self.lock().is_over = true;
        self.changed.notify_all();
        self.file.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How the content is cut.
    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// What verifies the pieces.
    pub(super) fn list(&self) -> &PieceList {
        &self.list
    }

    /// The life of a connection.
    fn work(self: Arc<Self>, source: SourceId, nth: usize, _place: Place) {
        let address = self.lock().sources[source].source.address;
        let mut connection = self.fetcher.connection(address);
        let mut buffer = vec![0; self.pieces.length().min(limits::BUFFERED_BYTES) as usize];
        let mut is_idle = false;
        while let Some((ask, since)) = self.next(source, nth, is_idle, connection.is_busy()) {
            is_idle = ask == Ask::News;
            let began = Instant::now();
            let result = self.ask(source, &mut connection, &ask, since, &mut buffer);
            let took = began.elapsed();
            let mut state = self.lock();
            let bytes = match (&ask, &result) {
                (Ask::News | Ask::Turn, _) | (_, Err(_)) => 0,
                (_, Ok(bytes)) => *bytes,
            };
            state.plan.answered(source, &ask, bytes, took, self.began.elapsed());
            state.plan.set_trip(source, connection.trip());
            match result {
                Ok(_) | Err(Failure::Over) => {}
                Err(Failure::Disk(error)) => state.broken = Some(error),
                Err(Failure::Liar(what)) => {
                    state.sources[source].is_hopeless = true;
                    self.let_go(&mut state, source, what, Dropped::Lied);
                }
                Err(Failure::Source(error)) => {
                    let what = error.to_string();
                    let known = &mut state.sources[source];
                    let has_hung = matches!(error, FetchError::Slow) && !known.was_of_use;
                    known.is_hopeless |= has_hung;
                    let Known { source: Source { peer, address, .. }, failure, .. } = known;
                    let note = format!("{peer} ({address}) {what}: leaving it alone for a while");
                    if failure.replace(what.clone()).is_none() {
                        state.notes.push(note);
                    }
                    // Waiting for nothing costs more than being refused.
                    let weight = if matches!(error, FetchError::Slow) { limits::SOURCE_FAILURES / 2 } else { 1 };
                    let is_enough = state.plan.failed(source, weight, self.began.elapsed());
                    // Another connection to it may still bring something.
                    if is_enough || has_hung && !state.plan.is_busy(source) {
                        self.let_go(&mut state, source, what, Dropped::Failed);
                    }
                }
            }
            if state.plan.missing() == 0 || state.broken.is_some() {
                self.changed.notify_all();
            }
        }
    }

    fn let_go(&self, state: &mut State, source: SourceId, what: String, why: Dropped) {
        if state.plan.is_gone(source) {
            return;
        }
        self.metrics.dropped(why);
        state.plan.remove(source);
        let known = &mut state.sources[source];
        state.notes.push(format!("{} ({}) {what}: going on without it", known.source.peer, known.source.address));
        known.failure = Some(what);
        // Without any left, others are looked for at once.
        self.changed.notify_all();
    }

    /// Waits for something to ask; none when there will be nothing more for this connection, which then
    /// no longer counts. `is_idle` when the last that it asked for was news; `is_busy` when others have to wait for their
    /// turn at the source.
    fn next(&self, source: SourceId, nth: usize, is_idle: bool, is_busy: bool) -> Option<(Ask, usize)> {
        let mut state = self.lock();
        let mut spare_since = None;
        loop {
            // The last of several connections goes when the backlog is worked off, and does not come back soon: to
            // open the next one costs more than to keep it.
            let now = self.began.elapsed();
            let is_spare = nth > 0 && nth + 1 == state.sources[source].workers && state.plan.depth(source, now) <= nth;
            spare_since = is_spare.then(|| spare_since.unwrap_or(now));
            let is_extra = spare_since.is_some_and(|since| since + limits::SPARE_TIME <= now);
            if state.is_over || is_extra || self.part.is_exceeded(state.workers) {
                break;
            }
            let turn = if is_busy { state.plan.turn(source, now) } else { None };
            match turn.unwrap_or_else(|| state.plan.next(source, now)) {
                Ask::Over => break,
                Ask::Nothing(_) if self.is_wanted_elsewhere(&state) => {
                    state.first = source + 1;
                    break;
                }
                Ask::News if is_idle && self.is_wanted_elsewhere(&state) => {
                    state.plan.answered(source, &Ask::News, 0, Duration::ZERO, self.began.elapsed());
                    state.first = source + 1;
                    break;
                }
                Ask::Nothing(wait) => {
                    let wait = wait.min(Duration::from_secs(1));
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                ask => {
                    let since = state.plan.heard(source);
                    return Some((ask, since));
                }
            }
        }
        state.sources[source].workers -= 1;
        state.workers -= 1;
        None
    }

    /// Whether some source waits for a connection, and there is none to be had.
    fn is_wanted_elsewhere(&self, state: &State) -> bool {
        let mut sources = state.sources.iter().enumerate();
        let is_waiting = sources.any(|(source, known)| known.workers == 0 && !state.plan.is_gone(source));
        is_waiting && !self.part.has_room(state.workers)
    }

    /// Asks, and takes what comes; the bytes that came.
    fn ask(
        &self,
        source: SourceId,
        connection: &mut Connection,
        ask: &Ask,
        since: usize,
        buffer: &mut [u8],
    ) -> Result<u64, Failure> {
        match ask {
            Ask::Fresh(runs) => match connection.fresh(&self.id, &self.pieces, runs)? {
                None => {
                    self.lock().plan.nothing_fresh(source, self.began.elapsed());
                    Ok(0)
                }
                Some((run, body)) => {
                    self.lock().plan.coming(source, ask, &run, self.began.elapsed());
                    let taken = self.take(source, body, &run, buffer);
                    self.lock().plan.came(source, &run);
                    taken
                }
            },
            Ask::Pieces(run) => {
                let bytes = self.bytes(run);
                let size = self.pieces.size();
                let (body, news) = connection.content(&self.id, &bytes, size, since)?;
                if let Some(news) = news {
                    self.hear(source, news);
                }
                self.take(source, body, run, buffer)
            }
            Ask::News | Ask::Turn => {
                let when = match ask {
                    Ask::Turn => When::Turn,
                    _ if self.lock().plan.takes_turns(source) => When::NewsThenTurn,
                    _ => When::News,
                };
                let news = connection.have(&self.id, since, when)?;
                self.hear(source, news);
                Ok(0)
            }
            Ask::Nothing(_) | Ask::Over => Ok(0),
        }
    }

    fn hear(&self, source: SourceId, news: News) {
        let mut state = self.lock();
        match news {
            News::Whole => {
                state.sources[source].source.is_partial = false;
                state.plan.is_whole(source, self.began.elapsed());
            }
            News::Gained(pieces, count) => state.plan.news(source, &pieces, count, self.began.elapsed()),
        }
    }

    /// The bytes of a run of pieces, which is not empty.
    fn bytes(&self, run: &Range<usize>) -> Range<u64> {
        let range = |index| self.pieces.index(index).map(|piece| self.pieces.range(piece)).unwrap_or_default();
        range(run.start).start..range(run.end - 1).end
    }

    /// Takes a run of pieces from a body, one by one: each counts once it has verified. Long ones are written as they
    /// come, but for the first: until one has verified, their length may be a lie, and so many bytes more than the
    /// content has. That one is fetched once more: a part in 4,096 of a content above 2 GiB.
    fn take(&self, source: SourceId, mut body: Body, run: &Range<usize>, buffer: &mut [u8]) -> Result<u64, Failure> {
        let mut taken = 0;
        let (peer, from) = {
            let state = self.lock();
            let source = &state.sources[source].source;
            (source.peer.clone(), if source.is_partial { Other::Partial } else { Other::Seed })
        };
        for index in run.clone() {
            let Some(piece) = self.pieces.index(index) else { continue };
            let range = self.pieces.range(piece);
            let mut verifier = PieceVerifier::new(&self.id, &self.pieces, &self.list, piece);
            let is_buffered = self.pieces.length() <= limits::BUFFERED_BYTES;
            let is_proven = is_buffered || self.lock().is_proven;
            let mut at = range.start;
            while at < range.end {
                let room = buffer.len().min((range.end - at) as usize);
                body.fill(&mut buffer[..room])?;
                self.metrics.received(from, room as u64);
                verifier.update(&buffer[..room]);
                if !is_buffered && is_proven {
                    self.write(&buffer[..room], at)?;
                }
                at += room as u64;
            }
            let is_true = verifier.is_true();
            self.metrics.piece(is_true);
            if !is_true {
                let what = format!("sent wrong bytes (piece {} of {})", index + 1, self.pieces.count());
                return Err(Failure::Liar(what));
            }
            if is_buffered && !self.lock().plan.holds(index) {
                self.write(&buffer[..(range.end - range.start) as usize], range.start)?;
            }
            taken += range.end - range.start;
            if !is_proven {
                self.lock().is_proven = true;
                continue;
            }
            // Whoever is told of it may ask for it at once, so it is in the file by now.
            self.running.gain(piece, Some(&peer));
            let mut state = self.lock();
            state.plan.gained(index);
            state.fetched += range.end - range.start;
            state.sources[source].was_of_use = true;
        }
        Ok(taken)
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), Failure> {
        match &*self.file.read().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write_at(bytes, at).map_err(Failure::Disk),
            None => Err(Failure::Over),
        }
    }
}

/// What the plan knows of a peer's id; see [`Whence::tag`].
fn tag(peer: &PeerId) -> u64 {
    ContentId::of(peer.as_str().as_bytes()).bytes().iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}
