//! Which piece to ask of which source. Pure: no I/O, no threads, no clock; the peer drives it, and a
//! simulator of thousands of peers does.
//!
//! What it is made to do, each measured on shaped links (ARCHITECTURE.md has the figures):
//! - a seed chooses what it gives, so that it gives nothing twice before it has given all once;
//! - where nobody else downloads, pieces in order, which disks like best;
//! - of others, the rarest piece that is in flight nowhere else, with random ties; never in order;
//! - one request in flight at a source, more only against a backlog;
//! - on fast links a request covers a run of adjacent pieces;
//! - the last few pieces are asked of a second source when the first takes long.

use std::{ops::Range, time::Duration};

use crate::{limits, rate::Rate};

/// The number of a source in a plan.
pub type SourceId = usize;

/// What to ask a source for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Adjacent pieces out of one of these runs, that it has given to nobody lately.
    Fresh(Vec<Range<usize>>),
    /// These pieces.
    Pieces(Range<usize>),
    /// Nothing it holds is of use: what it gains.
    News,
    /// Nothing, until something changes or so long.
    Nothing(Duration),
    /// Nothing ever again: all is here, or the source is gone.
    Over,
}

/// A download's state: what is here, what is in flight, and who holds what.
pub struct Plan {
    held: Bits,
    missing: usize,
    in_flight: Bits,
    /// Requests in flight, oldest first.
    requests: Vec<Request>,
    sources: Vec<Source>,
    /// How many partial sources hold a piece.
    holders: Vec<u16>,
    /// The pieces that any of them holds.
    spread: Bits,
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
    /// When it may have pieces again that nobody was given.
    fresh_from: Duration,
    in_flight: usize,
    /// Bytes a second, of late; none before the first answer.
    pace: Option<f64>,
    /// How many of its gains were heard of.
    heard: usize,
    failures: u32,
    resting_until: Duration,
}

enum Holds {
    All,
    These(Bits),
}

impl Plan {
    /// A plan for a content of `count` pieces of `length` bytes, of which nothing is here. `random`
    /// seeds its choices.
    pub fn new(count: usize, length: u64, random: u64) -> Self {
        Self {
            held: Bits::new(count),
            missing: count,
            in_flight: Bits::new(count),
            requests: Vec::new(),
            sources: Vec::new(),
            holders: vec![0; count],
            spread: Bits::new(count),
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
    pub fn add_partial(&mut self) -> SourceId {
        let count = self.holders.len();
        self.add(Holds::These(Bits::new(count)))
    }

    /// Takes up a source that holds everything.
    pub fn add_whole(&mut self) -> SourceId {
        self.add(Holds::All)
    }

    fn add(&mut self, holds: Holds) -> SourceId {
        self.sources.push(Source {
            holds: Some(holds),
            fresh_from: Duration::ZERO,
            in_flight: 0,
            pace: None,
            heard: 0,
            failures: 0,
            resting_until: Duration::ZERO,
        });
        self.sources.len() - 1
    }

    /// Lets a source go; its requests are over.
    pub fn remove(&mut self, source: SourceId) {
        if let Some(Holds::These(pieces)) = self.sources[source].holds.take() {
            self.no_longer_hold(&pieces);
        }
    }

    /// One partial source less holds these.
    fn no_longer_hold(&mut self, pieces: &Bits) {
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

    /// Sources that were not let go.
    pub fn sources(&self) -> usize {
        self.sources.iter().filter(|source| source.holds.is_some()).count()
    }

    /// How many gains of a source were heard of.
    pub fn heard(&self, source: SourceId) -> usize {
        self.sources[source].heard
    }

    /// A source has told of pieces that it gained, and that it has `count` in all.
    pub fn news(&mut self, source: SourceId, pieces: &[usize], count: usize) {
        let known = &mut self.sources[source];
        known.heard = count;
        let Some(Holds::These(holds)) = &mut known.holds else { return };
        for &piece in pieces {
            if piece < self.holders.len() && holds.set(piece) {
                self.holders[piece] += 1;
                self.spread.set(piece);
            }
        }
    }

    /// A source has told that it holds everything.
    pub fn is_whole(&mut self, source: SourceId) {
        if matches!(self.sources[source].holds, Some(Holds::These(_)))
            && let Some(Holds::These(pieces)) = self.sources[source].holds.replace(Holds::All)
        {
            self.no_longer_hold(&pieces);
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
        let useful = self.useful(source);
        if useful <= limits::SOURCE_BACKLOG {
            return 1;
        }
        let share = limits::REQUESTS / self.sources().max(1);
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
        matches!(known.holds, Some(Holds::All)) && known.fresh_from <= now && self.unspread().any(|word| word != 0)
    }

    /// Pieces that are neither here nor in flight, and that no partial source is known to hold.
    fn unspread(&self) -> impl Iterator<Item = u64> + '_ {
        self.wanted(&Holds::All).zip(&self.spread.words).map(|(wanted, spread)| wanted & !spread)
    }

    /// Others that download it too.
    fn partial(&self) -> usize {
        self.sources.iter().filter(|source| matches!(source.holds, Some(Holds::These(_)))).count()
    }

    /// Pieces that a source holds, and that are neither here nor in flight.
    fn useful(&self, source: SourceId) -> usize {
        match &self.sources[source].holds {
            None => 0,
            Some(holds) => self.wanted(holds).map(|word| word.count_ones() as usize).sum(),
        }
    }

    fn wanted<'a>(&'a self, holds: &'a Holds) -> impl Iterator<Item = u64> + 'a {
        let taken = self.held.words.iter().zip(&self.in_flight.words).map(|(held, in_flight)| held | in_flight);
        taken.enumerate().map(move |(at, taken)| match holds {
            Holds::All => !taken & self.held.mask(at),
            Holds::These(bits) => !taken & bits.words[at],
        })
    }

    /// What to ask `source` for now; the answer is taken for asked.
    pub fn next(&mut self, source: SourceId, now: Duration) -> Ask {
        if self.missing == 0 {
            return Ask::Over;
        }
        let known = &self.sources[source];
        let Some(holds) = &known.holds else { return Ask::Over };
        if known.resting_until > now {
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
        let choice = if is_alone { self.first(source) } else { self.rarest(source) };
        let pieces = match choice {
            Some(piece) => self.stretch(source, piece, run),
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
        let mut free = Bits { words: self.unspread().collect(), count: self.held.count };
        let mut runs = Vec::with_capacity(limits::FRESH_RUNS);
        while runs.len() < limits::FRESH_RUNS {
            self.random = shuffle(self.random);
            let from = (self.random % free.count as u64) as usize;
            let Some(first) = free.next(from).or_else(|| free.next(0)) else { break };
            let run = first..first + (first..free.count).take(most).take_while(|&piece| free.get(piece)).count();
            run.clone().for_each(|piece| free.clear(piece));
            runs.push(run);
        }
        runs
    }

    /// How many adjacent pieces one request is good for.
    fn run(&self, source: SourceId) -> usize {
        let pace = self.sources[source].pace.unwrap_or(0.0);
        let bytes = (pace * limits::REQUEST_TIME.as_secs_f64()).min(limits::REQUEST_BYTES as f64);
        (bytes / self.length as f64).max(1.0) as usize
    }

    /// The first piece of use at a source.
    fn first(&self, source: SourceId) -> Option<usize> {
        let holds = self.sources[source].holds.as_ref()?;
        let (at, word) = self.wanted(holds).enumerate().find(|(_, word)| *word != 0)?;
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    /// A piece that fewest others hold, among those of use at a source; any of them where several are.
    fn rarest(&mut self, source: SourceId) -> Option<usize> {
        let holds = self.sources[source].holds.as_ref()?;
        let (mut fewest, mut ties, mut best) = (u16::MAX, 0_u64, None);
        let mut random = self.random;
        for (at, mut word) in self.wanted(holds).enumerate() {
            while word != 0 {
                let piece = at * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                let holders = self.holders[piece];
                if holders < fewest {
                    (fewest, ties) = (holders, 0);
                }
                if holders == fewest {
                    ties += 1;
                    random = shuffle(random);
                    // The n-th of n equals takes the place with a chance of 1/n.
                    if random.is_multiple_of(ties) {
                        best = Some(piece);
                    }
                }
            }
        }
        self.random = random;
        best
    }

    /// The run of at most `most` useful pieces that begins with `first`.
    fn stretch(&self, source: SourceId, first: usize, most: usize) -> Range<usize> {
        let Some(holds) = &self.sources[source].holds else { return first..first + 1 };
        let is_useful = |piece: &usize| {
            let is_there = match holds {
                Holds::All => true,
                Holds::These(bits) => bits.get(*piece),
            };
            is_there && !self.held.get(*piece) && !self.in_flight.get(*piece)
        };
        let end = self.holders.len().min(first + most);
        first..first + 1 + (first + 1..end).take_while(is_useful).count()
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
    pub fn answered(&mut self, source: SourceId, ask: &Ask, bytes: u64, took: Duration) {
        let known = &mut self.sources[source];
        known.in_flight -= 1;
        if bytes > 0 {
            let pace = bytes as f64 / took.as_secs_f64().max(1e-6);
            known.pace = Some(known.pace.map_or(pace, |before| before * 0.7 + pace * 0.3));
            known.failures = 0;
        }
        match ask {
            Ask::Pieces(pieces) => self.release(source, pieces),
            Ask::Fresh(runs) => self.release_choice(source, runs),
            _ => {}
        }
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

/// The next of a row of random numbers (xorshift64).
fn shuffle(mut random: u64) -> u64 {
    random ^= random << 13;
    random ^= random >> 7;
    random ^ random << 17
}

/// A set of piece numbers.
struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)], count }
    }

    fn get(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// True when it was not there.
    fn set(&mut self, at: usize) -> bool {
        let is_new = !self.get(at);
        self.words[at / 64] |= 1 << (at % 64);
        is_new
    }

    fn extend(&mut self, pieces: Range<usize>) {
        for at in pieces {
            self.set(at);
        }
    }

    fn clear(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
    }

    /// The bits of a word that stand for pieces.
    fn mask(&self, word: usize) -> u64 {
        match self.count - word * 64 {
            rest @ 0..64 => (1 << rest) - 1,
            _ => u64::MAX,
        }
    }

    /// The first from `at` on that is there.
    fn next(&self, at: usize) -> Option<usize> {
        let rest = self.words.get(at / 64)? >> (at % 64);
        if rest != 0 {
            return Some(at + rest.trailing_zeros() as usize);
        }
        let (word, bits) = self.words.iter().enumerate().skip(at / 64 + 1).find(|(_, bits)| **bits != 0)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    fn ones(&self) -> impl Iterator<Item = usize> {
        (0..self.count).filter(|&at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn plan(count: usize) -> Plan {
        Plan::new(count, 32 << 10, 7)
    }

    #[test]
    fn a_piece_in_flight_is_asked_of_nobody_else() {
        let mut plan = plan(100);
        let (a, b) = (plan.add_whole(), plan.add_whole());
        let mut seen = Vec::new();
        for round in 0..100 {
            let source = if round % 2 == 0 { a } else { b };
            let ask = plan.next(source, NOW);
            let Ask::Pieces(pieces) = ask.clone() else { panic!("{ask:?}") };
            seen.extend(pieces.clone());
            pieces.for_each(|piece| assert!(plan.gained(piece)));
            plan.answered(source, &ask, 0, NOW);
        }
        seen.sort();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert_eq!(plan.next(a, NOW), Ask::Over);
    }

    #[test]
    fn the_rarest_piece_comes_first() {
        let mut plan = plan(10);
        let sources: Vec<_> = (0..3).map(|_| plan.add_partial()).collect();
        plan.news(sources[0], &[0, 1, 2, 3], 4);
        plan.news(sources[1], &[0, 1, 2], 3);
        plan.news(sources[2], &[0, 1], 2);
        assert_eq!(plan.next(sources[0], NOW), Ask::Pieces(3..4));
        assert_eq!(plan.next(sources[1], NOW), Ask::Pieces(2..3));
    }

    #[test]
    fn whoever_has_nothing_of_use_is_asked_for_news_and_a_seed_for_fresh_pieces() {
        let mut plan = plan(10);
        let partial = plan.add_partial();
        assert_eq!(plan.next(partial, NOW), Ask::News);
        plan.answered(partial, &Ask::News, 0, NOW);
        plan.news(partial, &[4], 1);
        assert_eq!(plan.next(partial, NOW), Ask::Pieces(4..5));
        let seed = plan.add_whole();
        let ask = plan.next(seed, NOW);
        let Ask::Fresh(runs) = &ask else { panic!("{ask:?}") };
        let mut offered: Vec<_> = runs.iter().map(|run| (run.start, run.len())).collect();
        offered.sort();
        let unspread = [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|piece| (piece, 1));
        assert_eq!(offered, unspread, "what another holds is not for the seed to give");
        plan.nothing_fresh(seed, NOW);
        plan.answered(seed, &ask, 0, NOW);
        assert!(matches!(plan.next(seed, NOW), Ask::Pieces(_)));
    }

    #[test]
    fn a_seed_is_asked_for_few_pieces_at_once_by_many_and_for_several_by_few() {
        for (others, depth) in [(1, limits::SOURCE_DEPTH), (limits::FRESH_WAITING, 1)] {
            let mut plan = plan(10);
            let seed = plan.add_whole();
            for _ in 0..others {
                plan.add_partial();
            }
            (0..depth).for_each(|_| assert!(matches!(plan.next(seed, NOW), Ask::Fresh(_)), "{others}"));
            assert!(matches!(plan.next(seed, NOW), Ask::Nothing(_)), "{others}");
        }
    }

    #[test]
    fn a_piece_that_is_late_at_the_end_is_asked_of_a_second_source_and_of_no_third() {
        let mut plan = plan(1);
        let sources: Vec<_> = (0..3).map(|_| plan.add_whole()).collect();
        assert_eq!(plan.next(sources[0], NOW), Ask::Pieces(0..1));
        assert!(matches!(plan.next(sources[1], NOW), Ask::Nothing(_)));
        let later = NOW + limits::ENDGAME_PATIENCE;
        assert_eq!(plan.next(sources[1], later), Ask::Pieces(0..1));
        assert!(matches!(plan.next(sources[2], later + limits::ENDGAME_PATIENCE), Ask::Nothing(_)));
        // One of them fails; the other still has it in flight.
        plan.answered(sources[0], &Ask::Pieces(0..1), 0, later);
        assert!(matches!(plan.next(sources[0], later), Ask::Nothing(_)));
        plan.answered(sources[1], &Ask::Pieces(0..1), 0, later);
        assert_eq!(plan.next(sources[2], later), Ask::Pieces(0..1));
    }

    #[test]
    fn what_fails_rests_for_longer_each_time_and_is_let_go_at_last() {
        let mut plan = plan(10);
        let source = plan.add_whole();
        let mut now = NOW;
        let mut rests = Vec::new();
        loop {
            let ask = plan.next(source, now);
            assert!(matches!(ask, Ask::Pieces(_)), "{ask:?}");
            plan.answered(source, &ask, 0, now);
            let is_let_go = plan.failed(source, 1, now);
            let Ask::Nothing(rest) = plan.next(source, now) else { panic!() };
            rests.push(rest);
            now += rest;
            if is_let_go {
                break;
            }
        }
        assert!(rests.is_sorted() && rests.len() as u32 == limits::SOURCE_FAILURES, "{rests:?}");
        plan.remove(source);
        assert_eq!((plan.next(source, now), plan.sources()), (Ask::Over, 0));
    }

    #[test]
    fn on_a_fast_link_a_request_covers_a_run_of_what_is_missing() {
        let mut plan = plan(1000);
        let source = plan.add_whole();
        plan.gained(500);
        let ask = plan.next(source, NOW);
        plan.answered(source, &ask, 1 << 30, Duration::from_secs(1));
        let mut missing = 999;
        while missing > 0 {
            let ask = plan.next(source, NOW);
            let Ask::Pieces(pieces) = ask.clone() else { panic!("{ask:?}") };
            assert!(!pieces.contains(&500) && pieces.len() <= 400);
            missing -= pieces.len();
            pieces.for_each(|piece| assert!(plan.gained(piece)));
            plan.answered(source, &ask, 0, NOW);
        }
        assert_eq!(plan.missing(), 0);
    }

    #[test]
    fn pieces_that_are_written_as_they_come_are_asked_of_nobody_else_while_the_seed_chooses() {
        let mut plan = Plan::new(40, limits::BUFFERED_BYTES * 2, 7);
        let other = plan.add_partial();
        let seed = plan.add_whole();
        let ask = plan.next(seed, NOW);
        let Ask::Fresh(runs) = &ask else { panic!("{ask:?}") };
        assert_eq!(runs.len(), limits::FRESH_RUNS);
        plan.news(other, &(0..40).collect::<Vec<_>>(), 40);
        let left = 40 - limits::FRESH_RUNS;
        assert_eq!(plan.useful(other), left);
        plan.coming(seed, &ask, &runs[3], NOW);
        assert_eq!(plan.useful(other), 39);
        plan.came(seed, &runs[3]);
        plan.answered(seed, &ask, 1, NOW);
        assert_eq!(plan.useful(other), 40);
    }

    #[test]
    fn a_backlog_is_worked_off_by_several_requests_at_once() {
        let mut plan = plan(200);
        let (busy, idle) = (plan.add_partial(), plan.add_partial());
        plan.news(busy, &(0..200).collect::<Vec<_>>(), 200);
        plan.news(idle, &[1, 2, 3], 3);
        assert_eq!((plan.depth(busy, NOW), plan.depth(idle, NOW)), (limits::SOURCE_DEPTH, 1));
        for _ in 0..limits::SOURCE_DEPTH {
            assert!(matches!(plan.next(busy, NOW), Ask::Pieces(_)));
        }
        assert!(matches!(plan.next(busy, NOW), Ask::Nothing(_)));
    }
}
