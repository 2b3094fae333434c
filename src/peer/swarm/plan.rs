//! Which piece to ask of which source. Pure: no I/O, no threads, no clock; the peer drives it, and a
//! simulator of thousands of peers does.
//!
//! What it is made to do, each measured on shaped links (ARCHITECTURE.md has the figures):
//! - a seed chooses, among what is lacking here, what it gives, so that it gives nothing twice before it
//!   has given all once;
//! - among many, a seed is asked for nothing that others bring soon;
//! - where nobody else downloads, pieces in order, which disks like best;
//! - of others, the rarest piece that is in flight nowhere else, with random ties; never in order;
//! - one request in flight at a source, more only against a backlog;
//! - on fast links a request covers a run of adjacent pieces;
//! - the last few pieces are asked of a second source when the first takes long;
//! - what comes from another zone is asked for by few (`border`).

#[cfg(test)]
mod tests;

use std::{ops::Range, time::Duration};

use super::border::{Border, SourceId, Whence};
use crate::{content::Bitmap, limits, rate::Rate};

/// What to ask a source for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Adjacent pieces out of one of these runs, that it has given to nobody lately.
    Fresh(Vec<Range<usize>>),
    /// These pieces.
    Pieces(Range<usize>),
    /// Nothing it holds is of use: what it gains.
    News,
    /// Something is, but others are served there: to be told when it is one's turn.
    Turn,
    /// Nothing, until something changes or so long.
    Nothing(Duration),
    /// Nothing ever again: all is here, or the source is gone.
    Over,
}

/// A download's state: what is here, what is in flight, and who holds what.
pub struct Plan {
    held: Bitmap,
    missing: usize,
    in_flight: Bitmap,
    /// Requests in flight, oldest first.
    requests: Vec<Request>,
    sources: Vec<Source>,
    /// How many partial sources hold a piece.
    holders: Vec<u16>,
    /// The pieces that any of them holds.
    spread: Bitmap,
    /// The pieces that somebody in the own zone has brought in. What a seed there holds is not, since the
    /// whole crowd wants it of that one: a piece that it gave to another zone comes back from there.
    inside: Bitmap,
    border: Border,
    /// Bytes in a piece.
    length: u64,
    /// What late means in the endgame.
    patience: Duration,
    random: u64,
}

struct Request {
    source: SourceId,
    pieces: Range<usize>,
    since: Duration,
}

struct Source {
    /// None for a source that is gone.
    holds: Option<Holds>,
    /// It is in another zone.
    is_far: bool,
    /// How long a trip there and back takes.
    trip: Duration,
    /// When it may have pieces again that nobody was given.
    fresh_from: Duration,
    in_flight: usize,
    /// Bytes a second, of late; none before the first answer.
    pace: Option<f64>,
    /// How many of its gains were heard of.
    heard: usize,
    failures: u32,
    /// How often in a row it was far below the others.
    lags: u32,
    resting_until: Duration,
}

impl Source {
    fn is_whole(&self) -> bool {
        matches!(self.holds, Some(Holds::All))
    }

    fn is_partial(&self) -> bool {
        matches!(self.holds, Some(Holds::These(_)))
    }
}

enum Holds {
    All,
    These(Bitmap),
}

impl Plan {
    /// A plan for a content of `count` pieces of `length` bytes, of which nothing is here. `tag` is the own
    /// peer's (see [`Whence::tag`]), `random` seeds its choices.
    pub fn new(count: usize, length: u64, tag: u64, random: u64) -> Self {
        Self {
            held: Bitmap::new(count),
            missing: count,
            in_flight: Bitmap::new(count),
            requests: Vec::new(),
            sources: Vec::new(),
            holders: vec![0; count],
            spread: Bitmap::new(count),
            inside: Bitmap::new(count),
            border: Border::new(count, tag),
            length,
            patience: limits::ENDGAME_PATIENCE,
            random: random | 1,
        }
    }

    /// Bytes come this fast at most, whoever sends them: what all the last pieces take then is not late.
    pub fn limit(&mut self, rate: Rate) {
        self.patience = self.patience.max(rate.time(self.length * limits::ENDGAME_PIECES as u64));
    }

    /// Takes note that a piece is here and verified. False when it was here before.
    pub fn gained(&mut self, piece: usize) -> bool {
        let is_new = self.held.set(piece);
        self.missing -= usize::from(is_new);
        is_new
    }

    /// Whether a piece is here.
    pub fn holds(&self, piece: usize) -> bool {
        self.held.get(piece)
    }

    /// Pieces that are not here.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Takes up a source that holds nothing yet, as far as is known.
    pub fn add_partial(&mut self, whence: Whence, now: Duration) -> SourceId {
        let source = self.add(Holds::These(Bitmap::new(self.held.count())), whence, now);
        if !whence.is_far {
            self.border.add(source, whence.tag);
        }
        source
    }

    /// Takes up a source that holds everything.
    pub fn add_whole(&mut self, whence: Whence, now: Duration) -> SourceId {
        let source = self.add(Holds::All, whence, now);
        self.note_all(source, now);
        source
    }

    fn add(&mut self, holds: Holds, Whence { is_far, .. }: Whence, now: Duration) -> SourceId {
        if !is_far {
            self.border.heard(now);
        }
        self.sources.push(Source {
            holds: Some(holds),
            is_far,
            trip: Duration::ZERO,
            fresh_from: Duration::ZERO,
            in_flight: 0,
            pace: None,
            heard: 0,
            failures: 0,
            lags: 0,
            resting_until: Duration::ZERO,
        });
        self.sources.len() - 1
    }

    /// Takes note, at the border, of a source that holds everything.
    fn note_all(&mut self, source: SourceId, now: Duration) {
        if self.sources[source].is_far {
            (0..self.held.count()).for_each(|piece| self.border.seen(piece, now));
        }
        self.border.remove(source);
    }

    /// Lets a source go; its requests are over.
    pub fn remove(&mut self, source: SourceId) {
        if let Some(Holds::These(pieces)) = self.sources[source].holds.take() {
            self.no_longer_hold(&pieces);
        }
        self.border.remove(source);
        let mut inside = Bitmap::new(self.held.count());
        for source in self.sources.iter().filter(|source| !source.is_far) {
            match &source.holds {
                Some(Holds::All) if source.heard > 0 => inside.extend(0..self.held.count()),
                Some(Holds::These(pieces)) => pieces.ones().for_each(|piece| inside.extend(piece..piece + 1)),
                _ => {}
            }
        }
        self.inside = inside;
    }

    /// One partial source less holds these.
    fn no_longer_hold(&mut self, pieces: &Bitmap) {
        for piece in pieces.ones() {
            self.holders[piece] -= 1;
            if self.holders[piece] == 0 {
                self.spread.clear(piece);
            }
        }
    }

    /// Whether a source has been let go.
    pub fn is_gone(&self, source: SourceId) -> bool {
        self.sources[source].holds.is_none()
    }

    /// Whether something that a source was asked for is on its way.
    pub fn is_busy(&self, source: SourceId) -> bool {
        self.sources[source].in_flight > 0
    }

    /// Sources that were not let go.
    pub fn sources(&self) -> usize {
        self.sources.iter().filter(|source| source.holds.is_some()).count()
    }

    /// Whether nothing can come now: no source holds everything, and none holds anything that is missing.
    pub fn is_starved(&self) -> bool {
        let mut spread = self.spread.words().iter().zip(self.held.words());
        !self.sources.iter().any(Source::is_whole) && spread.all(|(spread, held)| spread & !held == 0)
    }

    /// How many gains of a source were heard of.
    pub fn heard(&self, source: SourceId) -> usize {
        self.sources[source].heard
    }

    /// A source has told of pieces that it gained, and that it has `count` in all.
    pub fn news(&mut self, source: SourceId, pieces: &[usize], count: usize, now: Duration) {
        let known = &mut self.sources[source];
        known.heard = count;
        let Some(Holds::These(holds)) = &mut known.holds else { return };
        for &piece in pieces {
            if piece < self.holders.len() && holds.set(piece) {
                self.holders[piece] += 1;
                self.spread.set(piece);
                if known.is_far {
                    self.border.seen(piece, now);
                } else {
                    self.inside.set(piece);
                }
            }
        }
    }

    /// A source has told that it holds everything.
    pub fn is_whole(&mut self, source: SourceId, now: Duration) {
        if matches!(self.sources[source].holds, Some(Holds::These(_)))
            && let Some(Holds::These(pieces)) = self.sources[source].holds.replace(Holds::All)
        {
            self.no_longer_hold(&pieces);
            self.note_all(source, now);
            if !self.sources[source].is_far {
                self.inside.extend(0..self.held.count());
            }
        }
    }

    /// A seed has said that it has given all of what it was asked for to others.
    pub fn nothing_fresh(&mut self, source: SourceId, now: Duration) {
        self.sources[source].fresh_from = now + limits::FRESH_PAUSE;
    }

    /// Requests that a source may have in flight: more than one only where much waits there.
    pub fn depth(&self, source: SourceId, now: Duration) -> usize {
        if self.is_alone() {
            // One connection receives while what another brought is verified and written.
            return 2;
        }
        if self.may_have_fresh(source, now) {
            // So many that all who share the seed keep it busy together, and nobody waits behind one who
            // asks for much.
            return (limits::FRESH_WAITING / (1 + self.partial())).clamp(1, limits::SOURCE_DEPTH);
        }
        let useful = self.useful(source, now);
        if useful <= limits::SOURCE_BACKLOG {
            return 1;
        }
        let open = (0..self.sources.len()).filter(|&source| !self.is_gone(source) && !self.is_shut(source, now));
        let share = limits::REQUESTS / open.count().max(1);
        limits::SOURCE_DEPTH.min(1 + useful / limits::SOURCE_BACKLOG).min(share).max(1)
    }

    /// Whether nobody else downloads it, as far as is known.
    pub fn is_alone(&self) -> bool {
        self.partial() == 0
    }

    /// Whether a source is to be asked for what it has given to nobody: a whole one, while there are pieces
    /// that nobody else is known to hold.
    fn may_have_fresh(&self, source: SourceId, now: Duration) -> bool {
        let known = &self.sources[source];
        known.is_whole()
            && known.fresh_from <= now
            && !(self.is_seed_outside(source, now) && self.has_seed_inside())
            && self.unspread().any(|word| word != 0)
    }

    /// Whether a source is outside the own zone and holds everything, while those inside bring something.
    fn is_seed_outside(&self, source: SourceId, now: Duration) -> bool {
        let source = &self.sources[source];
        source.is_far && source.is_whole() && !self.border.is_quiet(now)
    }

    /// Whether a source inside the own zone holds everything.
    fn has_seed_inside(&self) -> bool {
        self.sources.iter().any(|source| !source.is_far && source.is_whole())
    }

    /// Pieces that are neither here nor in flight, and that no partial source is known to hold.
    fn unspread(&self) -> impl Iterator<Item = u64> + '_ {
        self.wanted(&Holds::All).zip(self.spread.words()).map(|(wanted, spread)| wanted & !spread)
    }

    /// Others that download it too.
    fn partial(&self) -> usize {
        self.sources.iter().filter(|source| source.is_partial()).count()
    }

    /// How many pieces a source is good for now.
    fn useful(&self, source: SourceId, now: Duration) -> usize {
        count(self.good_for(source, now))
    }

    /// Pieces that a source holds, that are neither here nor in flight, and that may be fetched where it is.
    fn good_for(&self, source: SourceId, now: Duration) -> impl Iterator<Item = u64> + '_ {
        let Source { holds, is_far, .. } = &self.sources[source];
        let holds = holds.iter().filter(move |_| !self.is_shut(source, now) && !self.is_for_fresh(source));
        let is_closed = *is_far && !self.is_behind(source);
        let is_busy = !self.requests.is_empty();
        let wanted = holds.flat_map(|holds| self.wanted(holds)).enumerate();
        wanted.map(
            move |(at, word)| if is_closed { self.border.open(at, word, &self.inside, is_busy, now) } else { word },
        )
    }

    /// Whether a source outside the own zone is not to be asked for pieces: a crowd inside asks it for what is
    /// fresh, and the rest of those who have brought it in.
    fn is_shut(&self, source: SourceId, now: Duration) -> bool {
        self.is_seed_outside(source, now)
            && (self.has_seed_inside() || !self.border.is_empty())
            && !self.is_behind(source)
    }

    /// Whether a seed is to be asked for what is fresh only: a crowd wants its uplink, and the rest comes soon
    /// from those who have it. A seed is not whoever has just become whole.
    fn is_for_fresh(&self, source: SourceId) -> bool {
        let known = &self.sources[source];
        if !known.is_whole() || known.heard > 0 || self.partial() < limits::CROWD || self.requests.is_empty() {
            return false;
        }
        let spread = self.wanted(&Holds::All).zip(self.spread.words()).map(|(wanted, spread)| wanted & spread);
        let bytes = count(spread) as u64 * self.length;
        let bringing = self.requests.iter().map(|request| &self.sources[request.source]);
        let pace: f64 = bringing.filter(|source| source.is_partial()).filter_map(|source| source.pace).sum();
        bytes as f64 <= pace * limits::CROWD_PATIENCE.as_secs_f64()
    }

    /// Whether a source that downloads it too, or did, has so much that the own zone is far behind.
    fn is_behind(&self, source: SourceId) -> bool {
        let Source { holds, heard, .. } = &self.sources[source];
        let wanted = holds.iter().filter(|_| *heard > 0).flat_map(|holds| self.wanted(holds));
        count(wanted) > limits::ZONE_BACKLOG
    }

    fn wanted<'a>(&'a self, holds: &'a Holds) -> impl Iterator<Item = u64> + 'a {
        let taken = self.held.words().iter().zip(self.in_flight.words()).map(|(held, in_flight)| held | in_flight);
        taken.enumerate().map(move |(at, taken)| match holds {
            Holds::All => !taken & self.held.mask(at),
            Holds::These(bits) => !taken & bits.words()[at],
        })
    }

    /// What to ask `source` for now; the answer is taken for asked.
    pub fn next(&mut self, source: SourceId, now: Duration) -> Ask {
        if self.missing == 0 {
            return Ask::Over;
        }
        let known = &self.sources[source];
        let Some(holds) = &known.holds else { return Ask::Over };
        // A slow one is better than none.
        let is_last = known.failures == 0 && self.requests.is_empty();
        if known.resting_until > now && !is_last {
            return Ask::Nothing(known.resting_until - now);
        }
        if known.in_flight >= self.depth(source, now) {
            return Ask::Nothing(limits::SOURCE_PAUSE);
        }
        let run = self.run(source);
        let is_alone = self.is_alone();
        if !is_alone && self.may_have_fresh(source, now) {
            let runs = self.choice(run);
            if !self.is_buffered() {
                // Two must not write one piece.
                runs.iter().for_each(|run| self.reserve(source, run, now));
            }
            self.sources[source].in_flight += 1;
            return Ask::Fresh(runs);
        }
        let is_whole = matches!(holds, Holds::All);
        let good = Bitmap::of_words(self.good_for(source, now), self.held.count());
        let choice = if is_alone { good.next(0) } else { self.rarest(&good) };
        let pieces = match choice {
            Some(first) => stretch(&good, first, run),
            None => match self.overdue(source, now) {
                Some(piece) => piece..piece + 1,
                None if is_whole => return Ask::Nothing(limits::SOURCE_PAUSE),
                None => {
                    self.sources[source].in_flight += 1;
                    return Ask::News;
                }
            },
        };
        self.reserve(source, &pieces, now);
        self.sources[source].in_flight += 1;
        Ask::Pieces(pieces)
    }

    /// Whether pieces are asked of a source at one's turn. That brings them sooner, by as many as are on their way to all,
    /// at the cost of a question for each: of many pieces, or far away, it costs more than it brings.
    pub fn takes_turns(&self, source: SourceId) -> bool {
        let known = &self.sources[source];
        known.trip <= limits::TURN_TRIP
            && matches!(known.holds, Some(Holds::These(_)))
            && self.held.count() <= limits::TURN_PIECES
    }

    /// A trip there and back to a source takes so long.
    pub fn set_trip(&mut self, source: SourceId, trip: Duration) {
        self.sources[source].trip = trip;
    }

    /// What to ask a source for at which others are served: a turn, where something it holds is of use. None where
    /// [`Plan::next`] decides. Where much is, it is far ahead: who takes turns never comes closer, so it is asked at once.
    pub fn turn(&mut self, source: SourceId, now: Duration) -> Option<Ask> {
        let known = &self.sources[source];
        let may_ask = self.takes_turns(source) && known.resting_until <= now && known.in_flight == 0;
        if !may_ask || !(1..=limits::SOURCE_BACKLOG).contains(&self.useful(source, now)) {
            return None;
        }
        self.sources[source].in_flight += 1;
        Some(Ask::Turn)
    }

    /// Whether pieces are verified in memory before they are written.
    fn is_buffered(&self) -> bool {
        self.length <= limits::BUFFERED_BYTES
    }

    fn reserve(&mut self, source: SourceId, pieces: &Range<usize>, now: Duration) {
        self.in_flight.extend(pieces.clone());
        self.requests.push(Request { source, pieces: pieces.clone(), since: now });
    }

    fn release(&mut self, source: SourceId, pieces: &Range<usize>) {
        let ended = self.requests.iter().position(|request| request.source == source && request.pieces == *pieces);
        ended.map(|ended| self.requests.remove(ended));
        for piece in pieces.clone() {
            if !self.requests.iter().any(|request| request.pieces.contains(&piece)) {
                self.in_flight.clear(piece);
            }
        }
    }

    /// Runs of at most `most` pieces for a seed to choose among, by chance out of those that have not
    /// spread, of which there are some. No two overlap.
    fn choice(&mut self, most: usize) -> Vec<Range<usize>> {
        let mut free = Bitmap::of_words(self.unspread(), self.held.count());
        let mut runs = Vec::with_capacity(limits::FRESH_RUNS);
        while runs.len() < limits::FRESH_RUNS {
            self.random = shuffle(self.random);
            let from = (self.random % free.count() as u64) as usize;
            let Some(first) = free.next(from).or_else(|| free.next(0)) else { break };
            let run = stretch(&free, first, most);
            run.clone().for_each(|piece| free.clear(piece));
            runs.push(run);
        }
        runs
    }

    /// How many adjacent pieces one request is good for.
    fn run(&self, source: SourceId) -> usize {
        let Source { pace, trip, .. } = self.sources[source];
        // A crowd's requests overlap at many sources, and a trip there may be long because an uplink is busy.
        let trips = if self.is_alone() { trip * limits::REQUEST_TRIPS } else { Duration::ZERO };
        let bytes = pace.unwrap_or(0.0) * limits::REQUEST_TIME.max(trips).as_secs_f64();
        let bytes = bytes.min(limits::REQUEST_BYTES as f64);
        (bytes / self.length as f64).max(1.0) as usize
    }

    /// A piece that fewest others hold, among these; any of them where several are.
    fn rarest(&mut self, good: &Bitmap) -> Option<usize> {
        let (mut fewest, mut ties, mut best) = (u16::MAX, 0_u64, None);
        for piece in good.ones() {
            let holders = self.holders[piece];
            if holders < fewest {
                (fewest, ties) = (holders, 0);
            }
            if holders == fewest {
                ties += 1;
                self.random = shuffle(self.random);
                // The n-th of n equals takes the place with a chance of 1/n.
                if self.random.is_multiple_of(ties) {
                    best = Some(piece);
                }
            }
        }
        best
    }

    /// In the endgame, the piece that has been in flight longest elsewhere, at one source only.
    fn overdue(&self, source: SourceId, now: Duration) -> Option<usize> {
        // Longer pieces are written as they come, and two must not write one piece.
        if self.missing > limits::ENDGAME_PIECES || !self.is_buffered() {
            return None;
        }
        let holds = self.sources[source].holds.as_ref()?;
        let is_there = |piece: usize| match holds {
            Holds::All => true,
            Holds::These(bits) => bits.get(piece),
        };
        let late = self
            .requests
            .iter()
            .filter(|request| request.source != source && now.saturating_sub(request.since) >= self.patience);
        let mut pieces = late.flat_map(|request| request.pieces.clone());
        pieces.find(|&piece| {
            let asked = self.requests.iter().filter(|request| request.pieces.contains(&piece)).count();
            !self.held.get(piece) && is_there(piece) && asked == 1
        })
    }

    /// The pieces of a request of `source` are here, or will not come; `bytes` came in `took`.
    pub fn answered(&mut self, source: SourceId, ask: &Ask, bytes: u64, took: Duration, now: Duration) {
        let known = &mut self.sources[source];
        known.in_flight -= 1;
        if bytes > 0 {
            if !known.is_far {
                self.border.heard(now);
            }
            let pace = bytes as f64 / took.as_secs_f64().max(1e-6);
            known.pace = Some(known.pace.map_or(pace, |before| before * 0.7 + pace * 0.3));
            known.failures = 0;
            self.mind_laggard(source, took, now);
        }
        match ask {
            Ask::Pieces(pieces) => self.release(source, pieces),
            Ask::Fresh(runs) => self.release_choice(source, runs),
            _ => {}
        }
    }

    /// Has a source rest that took long and is far below another: what it holds up comes sooner from others.
    fn mind_laggard(&mut self, source: SourceId, took: Duration, now: Duration) {
        let paces = self.sources.iter().filter(|source| source.holds.is_some()).filter_map(|source| source.pace);
        let best = paces.fold(0.0, f64::max);
        let known = &mut self.sources[source];
        if took < limits::LAGGARD_TIME || known.pace.is_none_or(|pace| pace * limits::LAGGARD_SHARE >= best) {
            known.lags = 0;
            return;
        }
        known.resting_until = now + limits::SOURCE_REST * (1 << known.lags);
        known.lags = (known.lags + 1).min(5);
    }

    /// A seed has chosen among these runs.
    fn release_choice(&mut self, source: SourceId, runs: &[Range<usize>]) {
        if !self.is_buffered() {
            runs.iter().for_each(|run| self.release(source, run));
        }
    }

    /// A request of `source` has failed, and weighs so much: it is left alone for longer each time. True
    /// when it should be let go. What fails while it is left alone was asked before, and counts once.
    pub fn failed(&mut self, source: SourceId, weight: u32, now: Duration) -> bool {
        let known = &mut self.sources[source];
        if known.resting_until > now {
            return false;
        }
        known.failures += weight;
        known.resting_until = now + limits::SOURCE_REST * (1 << (known.failures - 1).min(8));
        known.failures >= limits::SOURCE_FAILURES
    }

    /// Of what `ask` left to a source to choose from, these pieces are on their way, and need not be asked of
    /// others.
    pub fn coming(&mut self, source: SourceId, ask: &Ask, pieces: &Range<usize>, now: Duration) {
        if let Ask::Fresh(runs) = ask {
            self.release_choice(source, runs);
        }
        self.reserve(source, pieces, now);
    }

    /// Such pieces have come, or will not.
    pub fn came(&mut self, source: SourceId, pieces: &Range<usize>) {
        self.release(source, pieces);
    }
}

/// How many pieces there are in these words.
fn count(words: impl Iterator<Item = u64>) -> usize {
    words.map(|word| word.count_ones() as usize).sum()
}

/// The run of at most `most` of these pieces that begins with `first`, one of them.
fn stretch(pieces: &Bitmap, first: usize, most: usize) -> Range<usize> {
    first..first + (first..pieces.count()).take(most.max(1)).take_while(|&piece| pieces.get(piece)).count()
}

/// The next of a row of random numbers (xorshift64).
fn shuffle(mut random: u64) -> u64 {
    random ^= random << 13;
    random ^= random >> 7;
    random ^ random << 17
}
