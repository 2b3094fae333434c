//! The download of one content of a known size: piece list, what is here already, and whom to ask.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Instant,
};

use super::{
    crew::{Crew, Failed, Progress},
    fetch_error::FetchError,
    get::{Finder, GetError, Getter, Watch},
};
use crate::{
    content::{ContentId, PieceList, PieceVerifier, Pieces},
    limits,
    name::PeerId,
    peer::{link::Source, metrics::Dropped, share::Partial},
};

/// A download that is whole, or why it is not.
type Fetched = Result<(Arc<Crew>, Partial, u64), InVain>;

/// What came of asking a source for the piece list: that, or what it did, and whether it is hopeless.
type Listed = (Source, Result<PieceList, (String, bool, Dropped)>);

/// All that were asked have not brought all of it.
#[derive(Default)]
pub(super) struct InVain {
    pub(super) failed: Vec<Failed>,
    /// Bytes that came all the same.
    pub(super) fetched: u64,
}

impl InVain {
    /// What all of these claim cannot be.
    fn claims(sources: Vec<Source>, what: &str) -> Self {
        let failed = |source: Source| Failed { peer: source.peer, what: what.to_owned(), is_hopeless: true };
        Self { failed: sources.into_iter().map(failed).collect(), fetched: 0 }
    }
}

impl Getter {
    /// Fetches a content of `size` bytes, not from those who are `shunned`. The inner error says who failed, and how.
    pub(super) fn fetch_as(
        &self,
        id: &ContentId,
        size: u64,
        whole: Vec<Source>,
        shunned: &[PeerId],
        file: Partial,
        watch: &dyn Watch,
    ) -> Result<Fetched, GetError> {
        let (peer, shunned) = (self.peer.clone(), shunned.to_vec());
        let scout = Scout { id: *id, size, peer, shunned, finder: Arc::clone(&self.finder) };
        let mut sources = scout.ask(&[]).unwrap_or_default();
        if sources.is_empty() {
            // A tracker that is away now has still named the whole ones. Where it is not, a seed is for those
            // only to whom it is given: thousands would stand in each other's way.
            sources.clone_from(&whole);
        }
        let mut failures = Vec::new();
        let Some(pieces) = Pieces::of(size) else {
            return Ok(Err(InVain::claims(sources, "claims an impossible size")));
        };
        let Some(list) = self.piece_list(id, &pieces, &sources, &whole, &mut failures, watch)? else {
            return Ok(Err(InVain { failed: failures, fetched: 0 }));
        };
        sources.retain(|source| !failures.iter().any(|failed| failed.peer == source.peer));
        let running = self.downloads.begin(*id, pieces, list.to_bytes(), file.reader()?);
        let held = verified(id, &pieces, &list, &file, watch)?;
        if !held.is_empty() && size > 0 {
            watch.note(&format!("resuming: {} of {} pieces are here", held.len(), pieces.count()));
            held.iter().filter_map(|&piece| pieces.index(piece)).for_each(|piece| running.gain(piece, None));
        }
        if size == 0 && held.is_empty() {
            return Ok(Err(InVain::claims(sources, "claims that it is empty")));
        }
        let here = (held.len() as u64 * pieces.length()).min(size);
        watch.progress(here, size);
        self.share.need(size - here)?;
        let crew = Crew::new(self, *id, pieces, list, file, running, &held);
        crew.add(sources);
        scout.go(&crew)?;
        let mut hope = Hope::default();
        loop {
            let mut progress = crew.wait(limits::PROGRESS_TIME);
            progress.notes.iter().for_each(|note| watch.note(note));
            watch.progress((here + progress.fetched).min(size), size);
            let fetched = progress.fetched;
            if let Some(error) = progress.broken.take() {
                crew.end();
                return Err(GetError::Disk(error));
            }
            if watch.is_stopped() {
                crew.end();
                return Err(GetError::Stopped);
            }
            if progress.missing == 0 {
                let Some(file) = crew.end() else { continue };
                return Ok(Ok((crew, file, fetched)));
            }
            crew.man();
            if hope.is_gone(&progress, || self.is_held_elsewhere(id, size, &crew)) {
                failures.extend(crew.dead());
                crew.end();
                return Ok(Err(InVain { failed: failures, fetched }));
            }
        }
    }

    /// Whether somebody holds all of it whom this download was not given: others bring it from there.
    fn is_held_elsewhere(&self, id: &ContentId, size: u64, crew: &Crew) -> bool {
        let whole = self.finder.whole(id).unwrap_or_default();
        whole.iter().any(|source| source.peer != self.peer && source.size == size && !crew.knows(source))
    }

    /// The piece list, of the first source that has a true one; at last of any of those that hold it `whole`.
    /// One that takes longer than a source may hang is not waited for alone: the next is asked beside it.
    fn piece_list(
        &self,
        id: &ContentId,
        pieces: &Pieces,
        sources: &[Source],
        whole: &[Source],
        failures: &mut Vec<Failed>,
        watch: &dyn Watch,
    ) -> io::Result<Option<PieceList>> {
        if pieces.count() == 1 {
            return Ok(PieceList::parse(&[], pieces, id).ok());
        }
        let (partial, given): (Vec<_>, Vec<_>) = sources.iter().partition(|source| source.is_partial);
        let early = self.first_with_list(id, &partial, given.is_empty(), watch);
        let late = partial.iter().copied().filter(|source| early.is_none_or(|early| early.peer != source.peer));
        let others = whole.iter().filter(|source| given.iter().all(|given| given.peer != source.peer));
        let mut next = early.into_iter().chain(given.iter().copied()).chain(others).chain(late).cloned().peekable();
        let (tell, told) = mpsc::channel();
        // Those that are asked; the last one since then.
        let (mut asking, mut since) = (Vec::<Source>::new(), Instant::now());
        loop {
            if watch.is_stopped() {
                return Ok(None);
            }
            let is_late = asking.is_empty() || since.elapsed() >= self.fetcher.patience();
            match next.next_if(|_| is_late) {
                Some(source) => {
                    if let Some(Source { peer, address, .. }) = asking.last() {
                        watch.note(&format!(
                            "{peer} ({address}) takes long for the piece list: asking another beside it"
                        ));
                    }
                    self.ask_for_list(source.clone(), id, pieces, tell.clone())?;
                    asking.push(source);
                    since = Instant::now();
                }
                None if asking.is_empty() => return Ok(None),
                None => {}
            }
            let Ok((source, list)) = told.recv_timeout(limits::PROGRESS_TIME) else { continue };
            asking.retain(|asked| asked.peer != source.peer);
            match list {
                Ok(list) => return Ok(Some(list)),
                // Whoever only begins has none yet.
                Err(_) if source.is_partial => {}
                Err((what, is_hopeless, why)) => {
                    self.metrics.dropped(why);
                    let Source { peer, address, .. } = source;
                    watch.note(&format!("{peer} ({address}) {what}: trying another"));
                    failures.push(Failed { peer, what, is_hopeless });
                }
            }
        }
    }

    /// Asks a source for the piece list on a thread of its own, which says what came.
    fn ask_for_list(&self, source: Source, id: &ContentId, pieces: &Pieces, tell: Sender<Listed>) -> io::Result<()> {
        let (fetcher, id, pieces) = (self.fetcher.clone(), *id, *pieces);
        let length = pieces.count() * 32;
        fetcher.wait_for(length);
        let ask = move || {
            let patience = source.is_partial.then_some(limits::PIECE_LIST_TIME);
            let list = fetcher.piece_list(source.address, &id, length, patience);
            let list = list
                .map_err(|error| {
                    let is_hopeless = matches!(error, FetchError::Slow | FetchError::OtherRange(_));
                    (error.to_string(), is_hopeless, Dropped::Failed)
                })
                .and_then(|list| {
                    PieceList::parse(&list, &pieces, &id)
                        .map_err(|error| (format!("lies: {error}"), true, Dropped::Lied))
                });
            // Nobody listens when another was first.
            let _ = tell.send((source, list));
        };
        thread::Builder::new().name("list".into()).stack_size(limits::CONNECTION_STACK).spawn(ask).map(drop)
    }

    /// Who of those that download it too is the first to have the piece list. None when a seed should be
    /// asked, which is what this one waits for if it was given none.
    ///
    /// Those who begin at once would all take the list from the seed, whose uplink everybody wants. So they
    /// stand in an order: whoever is before all that it knows asks the seed at once, the others wait for
    /// each other first, a turn for each that is before them.
    fn first_with_list<'a>(
        &self,
        id: &ContentId,
        partial: &[&'a Source],
        has_no_seed: bool,
        watch: &dyn Watch,
    ) -> Option<&'a Source> {
        let place = |peer: &PeerId| *ContentId::of(format!("{id}{peer}").as_bytes()).bytes();
        let own = place(&self.peer);
        let before = partial.iter().filter(|source| place(&source.peer) < own).count();
        let turns = if has_no_seed { limits::NEIGHBOURS } else { before };
        if turns == 0 {
            return None;
        }
        let deadline = Instant::now() + limits::PIECE_LIST_TURN * turns as u32;
        let (tell, told) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        for (nth, source) in partial.iter().enumerate() {
            let (fetcher, address, id) = (self.fetcher.clone(), source.address, *id);
            let (tell, is_over) = (tell.clone(), Arc::clone(&is_over));
            let wait = move || {
                while !is_over.load(Ordering::Relaxed) && Instant::now() < deadline {
                    let asked = Instant::now();
                    match fetcher.has_piece_list(address, &id, limits::PIECE_LIST_TIME) {
                        Ok(true) => {
                            // Nobody listens when another was first.
                            let _ = tell.send(nth);
                            return;
                        }
                        // It waits for the list itself, and held the answer back for a while.
                        Ok(false) if asked.elapsed() >= limits::NEWS_TIME / 2 => {}
                        // It does not download it, or is gone.
                        _ => return,
                    }
                }
            };
            // Without a thread this one is not waited for.
            let _ = thread::Builder::new().name("list".into()).stack_size(limits::CONNECTION_STACK).spawn(wait);
        }
        drop(tell);
        // Ends sooner when none of them will have it.
        let first = loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match told.recv_timeout(rest.min(limits::PROGRESS_TIME)) {
                Err(RecvTimeoutError::Timeout) if !rest.is_zero() && !watch.is_stopped() => {}
                first => break first,
            }
        };
        is_over.store(true, Ordering::Relaxed);
        first.ok().and_then(|nth| partial.get(nth).copied())
    }
}

/// Whether a download that has come to a halt may go on.
#[derive(Default)]
struct Hope {
    /// How often the scout had come back when the last source was gone.
    alone: Option<u32>,
    /// Since when those that are left have nothing to give.
    starved: Option<Instant>,
}

impl Hope {
    /// Whether nothing will come any more. Those who starve together would wait for each other for ever: so now and
    /// then it is asked whether somebody else holds what is missing.
    fn is_gone(&mut self, progress: &Progress, is_held_elsewhere: impl FnOnce() -> bool) -> bool {
        if progress.sources == 0 {
            self.starved = None;
            return *self.alone.get_or_insert(progress.scouted) + limits::SCOUTS_ALONE <= progress.scouted;
        }
        self.alone = None;
        if !progress.is_starved {
            self.starved = None;
            return false;
        }
        if self.starved.get_or_insert_with(Instant::now).elapsed() < limits::STARVED_TIME {
            return false;
        }
        self.starved = None;
        !is_held_elsewhere()
    }
}

/// Who finds a download its sources, on a thread of its own: a tracker that takes long holds nothing up.
struct Scout {
    id: ContentId,
    size: u64,
    /// The own id: never a source.
    peer: PeerId,
    /// Nor are these, any more.
    shunned: Vec<PeerId>,
    finder: Arc<dyn Finder>,
}

impl Scout {
    fn ask(&self, dead: &[PeerId]) -> Option<Vec<Source>> {
        // The newest last: a tracker is told no more than some, from the end.
        let dead = [&self.shunned[..], dead].concat();
        let mut sources = self.finder.neighbours(&self.id, self.size, &dead).ok()?;
        sources.retain(|source| source.peer != self.peer && !self.shunned.contains(&source.peer));
        Some(sources)
    }

    /// Asks again and again, until the download is over.
    fn go(self, crew: &Arc<Crew>) -> io::Result<()> {
        let crew = Arc::downgrade(crew);
        let scouting = move || {
            let mut pause = limits::NEIGHBOURS_PAUSE.start;
            while crew.upgrade().is_some_and(|crew| crew.wait_to_scout(pause)) {
                pause = (pause * 2).min(limits::NEIGHBOURS_PAUSE.end);
                let Some(dead) = crew.upgrade().map(|crew| crew.dead()) else { return };
                let dead: Vec<_> = dead.into_iter().map(|failed| failed.peer).collect();
                let found = self.ask(&dead).unwrap_or_default();
                crew.upgrade().inspect(|crew| crew.scouted(found));
            }
        };
        thread::Builder::new().name("scout".into()).stack_size(limits::CONNECTION_STACK).spawn(scouting).map(drop)
    }
}

/// The pieces that are in `file`: it is read again where it may hold data, and only what verifies is
/// believed.
fn verified(
    id: &ContentId,
    pieces: &Pieces,
    list: &PieceList,
    file: &Partial,
    watch: &dyn Watch,
) -> Result<Vec<usize>, GetError> {
    if pieces.size() == 0 {
        // The one piece of an empty content has no bytes to read.
        let empty = pieces.index(0).map(|piece| PieceVerifier::new(id, pieces, list, piece));
        return Ok(if empty.is_some_and(PieceVerifier::is_true) { vec![0] } else { Vec::new() });
    }
    let mut held = Vec::new();
    let mut block = vec![0; limits::BLOCK_BYTES];
    for data in file.data(pieces.size())? {
        let first = data.start.div_ceil(pieces.length()) as usize;
        for piece in (first..).map_while(|index| pieces.index(index)) {
            let range = pieces.range(piece);
            if range.end > data.end {
                break;
            }
            if watch.is_stopped() {
                return Err(GetError::Stopped);
            }
            let mut verifier = PieceVerifier::new(id, pieces, list, piece);
            let mut at = range.start;
            while at < range.end {
                let room = block.len().min((range.end - at) as usize);
                match file.read_at(&mut block[..room], at)? {
                    0 => break,
                    read => {
                        verifier.update(&block[..read]);
                        at += read as u64;
                    }
                }
            }
            if verifier.is_true() {
                held.push(piece.get());
            }
        }
    }
    Ok(held)
}
