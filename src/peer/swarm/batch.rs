//! Small files, many at once: each is fetched whole over one of a few kept connections, verified in
//! memory, and brought to disk and given its name together with others.
//!
//! Contents of one piece, that is: their id verifies them, and nobody would be given a part of one. What
//! no source brings here is for the ordinary download, which is more patient.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::{
    budget::{self, Part},
    connection::Connection,
    fetch_error::FetchError,
    get::{GetError, Getter},
};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::Place,
        metrics::{Dropped, Metrics, Other, Transfer},
        share::{PublishError, Staging},
    },
};

/// A file of at most [`limits::PIECE_BYTES`], and where nothing stands yet.
#[derive(Debug)]
pub struct Small {
    /// Its path.
    pub path: SharePath,
    /// Its content.
    pub content: ContentId,
    /// Its size, as announced.
    pub size: u64,
    /// Who has it: indexes of the batch's places.
    pub sources: Vec<usize>,
}

/// Where small files come from, and go to.
pub struct Batch<'a> {
    /// Where to, and how: sources of its zone are asked before others.
    pub getter: &'a Getter,
    /// The sources of all files.
    pub places: &'a [Place],
}

/// What has become of some files since the last time.
#[derive(Debug, Default)]
pub struct Group {
    /// The files, those that are here safely on disk.
    pub answers: Vec<(Small, Result<(), GetError>)>,
    /// Who sent them.
    pub sources: Vec<PeerId>,
    /// What a person may want to know, one line each.
    pub notes: Vec<String>,
}

impl Batch<'_> {
    /// Fetches files, and tells of all, group by group, as they come.
    pub fn get(&self, files: Vec<Small>, mut tell: impl FnMut(Group)) {
        let crowd = Crowd::new(self, files);
        thread::scope(|scope| {
            crowd.start(scope);
            loop {
                let (mut here, is_end) = crowd.wait();
                here.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
                let mut group = Group::default();
                let (files, stagings): (Vec<Small>, Vec<_>) = here.into_iter().unzip();
                let paths = files.iter().map(|file| file.path.clone());
                let went =
                    self.getter.share.publish_all(stagings.into_iter().zip(paths).collect()).into_iter().zip(files);
                group.answers.extend(went.map(|(went, file)| {
                    let went = match went {
                        Ok(_) => Ok(()),
                        Err(PublishError::Conflict) => Err(GetError::Conflict(file.path.clone())),
                        Err(PublishError::Io(error)) => Err(GetError::Disk(error)),
                    };
                    (file, went)
                }));
                crowd.report(&mut group, is_end);
                let metrics = &self.getter.metrics;
                group.answers.iter().for_each(|(_, went)| metrics.ended(Transfer::Get, went.is_ok()));
                tell(group);
                if is_end {
                    return;
                }
            }
        });
    }
}

/// The threads of a batch, one for each connection, and what they share.
struct Crowd<'a> {
    batch: &'a Batch<'a>,
    /// Its part of the peer's connections.
    part: Part,
    state: Mutex<State>,
    /// A file has come, or a thread has ended.
    came: Condvar,
    /// There is room for files that come.
    room: Condvar,
}

struct State {
    files: Vec<Option<File>>,
    /// Those that nobody fetches now, by their indexes.
    waiting: VecDeque<usize>,
    sources: Vec<Source>,
    threads: usize,
    /// Whole and verified, to be brought to disk; since when the first of them waits.
    here: Vec<(Small, Staging)>,
    since: Option<Instant>,
    /// What the own disk said: then nothing more is fetched.
    broken: Option<io::Error>,
    notes: Vec<String>,
}

struct File {
    small: Small,
    /// Sources that failed to give it, how often, and how.
    failed: Vec<(usize, u32, String)>,
}

#[derive(Default)]
struct Source {
    is_near: bool,
    connections: usize,
    was_of_use: bool,
    /// Failures in a row.
    failures: u32,
    /// Why it is asked for nothing more.
    gone: Option<String>,
}

/// Why a source did not give a file.
enum Failure {
    Source(FetchError),
    /// What it said or sent is not the file.
    Liar(&'static str),
    Disk(io::Error),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Source(error)
    }
}

impl State {
    /// Whether a source may still be asked for a file.
    fn is_of_use(&self, file: &File, source: usize) -> bool {
        let is_spent = |(failed, times, _): &(usize, u32, String)| *failed == source && *times >= limits::SMALL_TRIES;
        self.sources[source].gone.is_none() && !file.failed.iter().any(is_spent)
    }

    /// Whether it is to be asked, for the file with this index: not as long as one is nearer.
    fn is_meant(&self, index: usize, source: usize) -> bool {
        let Some(file) = &self.files[index] else { return false };
        let is_near = |source: &usize| self.sources[*source].is_near;
        let mut nearer = file.small.sources.iter().filter(|other| is_near(other) && !is_near(&source));
        self.is_of_use(file, source)
            && file.small.sources.contains(&source)
            && !nearer.any(|other| self.is_of_use(file, *other))
    }

    /// What a connection to `current` asks for next, and of whom: of the same one, if it can; otherwise of
    /// the one with the fewest connections.
    fn next(&mut self, current: Option<usize>) -> Option<(usize, usize)> {
        if self.broken.is_some() {
            return None;
        }
        let same = current.and_then(|source| {
            let place = self.waiting.iter().position(|&file| self.is_meant(file, source))?;
            Some((place, source))
        });
        let (place, source) = same.or_else(|| {
            self.waiting.iter().enumerate().find_map(|(place, &index)| {
                let sources = &self.files[index].as_ref()?.small.sources;
                let meant = sources.iter().copied().filter(|source| self.is_meant(index, *source));
                let free = meant.filter(|source| self.sources[*source].connections < limits::SMALL_CONNECTIONS);
                Some((place, free.min_by_key(|source| self.sources[*source].connections)?))
            })
        })?;
        Some((self.waiting.remove(place)?, source))
    }

    /// Notes that a source has failed to give a file; why it is then let go, if it is.
    fn failed(&mut self, index: usize, source: usize, place: &Place, failure: &Failure) -> Option<Dropped> {
        let Place { peer, address, .. } = place;
        let (what, times, weight) = match failure {
            Failure::Source(error @ (FetchError::Status(_) | FetchError::OtherRange(_))) => {
                (error.to_string(), limits::SMALL_TRIES, 0)
            }
            Failure::Source(error @ FetchError::Slow) => (error.to_string(), 1, limits::SOURCE_FAILURES / 2),
            Failure::Source(error) => (error.to_string(), 1, 1),
            Failure::Liar(what) => ((*what).to_owned(), limits::SMALL_TRIES, limits::SOURCE_FAILURES),
            Failure::Disk(_) => return None,
        };
        let mut dropped = None;
        let known = &mut self.sources[source];
        known.failures += weight;
        if known.failures >= limits::SOURCE_FAILURES && known.gone.is_none() {
            let path = self.files[index].as_ref().map(|file| format!(" ({})", file.small.path));
            let is_lie = matches!(failure, Failure::Liar(_));
            dropped = Some(if is_lie { Dropped::Lied } else { Dropped::Failed });
            let path = path.filter(|_| is_lie).unwrap_or_default();
            self.notes.push(format!("{peer} ({address}) {what}{path}: going on without it"));
            known.gone = Some(what.clone());
        }
        if let Some(file) = &mut self.files[index] {
            match file.failed.iter_mut().find(|(other, ..)| *other == source) {
                Some(before) => *before = (source, before.1 + times, what),
                None => file.failed.push((source, times, what)),
            }
        }
        dropped
    }
}

impl<'a> Crowd<'a> {
    fn new(batch: &'a Batch<'a>, files: Vec<Small>) -> Self {
        let source = |place: &Place| Source { is_near: place.zone == batch.getter.zone, ..Source::default() };
        let state = State {
            waiting: (0..files.len()).collect(),
            files: files.into_iter().map(|small| Some(File { small, failed: Vec::new() })).collect(),
            sources: batch.places.iter().map(source).collect(),
            threads: 0,
            here: Vec::new(),
            since: None,
            broken: None,
            notes: Vec::new(),
        };
        Self {
            batch,
            part: batch.getter.fetcher.part(),
            state: Mutex::new(state),
            came: Condvar::new(),
            room: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the threads; those that find nothing to do end.
    fn start<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        let mut state = self.lock();
        let most = limits::SMALL_CONNECTIONS * state.sources.len();
        for _ in 0..most.min(limits::BATCH_CONNECTIONS).min(state.files.len()) {
            let Some(place) = self.part.place() else { return };
            let builder = thread::Builder::new().name("fetch".into()).stack_size(limits::CONNECTION_STACK);
            // Fewer do as well.
            state.threads += usize::from(builder.spawn_scoped(scope, move || self.work(place)).is_ok());
        }
    }

    /// The life of a connection, which has a `place` in the budget.
    fn work(&self, place: budget::Place) {
        let mut connection: Option<(usize, Connection)> = None;
        let mut buffer = vec![0; limits::PIECE_BYTES as usize];
        loop {
            let mut state = self.lock();
            let current = connection.as_ref().map(|(source, _)| *source);
            // Whoever has more than its part gives back; what waits is for those that are left.
            let is_extra = state.threads > 1 && self.part.is_exceeded(state.threads);
            let next = if is_extra { None } else { state.next(current) };
            if let Some(current) = current {
                state.sources[current].connections -= 1;
            }
            let Some((index, source)) = next else {
                state.threads -= 1;
                drop((state, place));
                return self.came.notify_all();
            };
            state.sources[source].connections += 1;
            let Some(File { small: Small { content, size, .. }, .. }) = &state.files[index] else { continue };
            let (content, size) = (*content, *size);
            drop(state);
            let (_, link) = match &mut connection {
                Some(same) if same.0 == source => same,
                other => {
                    other.insert((source, self.batch.getter.fetcher.connection(self.batch.places[source].address)))
                }
            };
            let metrics = &self.batch.getter.metrics;
            let staging = fetch(link, &content, size, &mut buffer, metrics).and_then(|bytes| {
                let mut staging = self.batch.getter.share.stage().map_err(Failure::Disk)?;
                staging.write_all(bytes).map_err(Failure::Disk)?;
                // By the time that the others have come, it may be on disk.
                staging.send_on();
                Ok(staging)
            });
            self.take(index, source, staging);
        }
    }

    /// Takes what has come, once there is room for it.
    fn take(&self, index: usize, source: usize, staging: Result<Staging, Failure>) {
        let mut state = self.lock();
        match staging {
            Ok(staging) => {
                let is_full = |state: &mut State| state.here.len() >= limits::BATCH_FILES;
                state = self.room.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
                state.sources[source].failures = 0;
                state.sources[source].was_of_use = true;
                let file = state.files[index].take();
                state.here.extend(file.map(|file| (file.small, staging)));
                if state.since.is_none() || state.here.len() >= limits::BATCH_FILES {
                    state.since.get_or_insert_with(Instant::now);
                    self.came.notify_all();
                }
            }
            Err(failure) => {
                let dropped = state.failed(index, source, &self.batch.places[source], &failure);
                dropped.into_iter().for_each(|why| self.batch.getter.metrics.dropped(why));
                state.waiting.push_front(index);
                if let Failure::Disk(error) = failure {
                    state.broken = Some(error);
                }
            }
        }
    }

    /// Waits for a batch of files; and says whether these are the last.
    fn wait(&self) -> (Vec<(Small, Staging)>, bool) {
        let mut state = self.lock();
        loop {
            let patience =
                state.since.map(|since| (since + limits::BATCH_TIME).saturating_duration_since(Instant::now()));
            let is_due = state.here.len() >= limits::BATCH_FILES || patience.is_some_and(|patience| patience.is_zero());
            if is_due || state.threads == 0 {
                state.since = None;
                self.room.notify_all();
                return (std::mem::take(&mut state.here), state.threads == 0);
            }
            let patience = patience.unwrap_or(limits::SOURCE_STALL_TIME);
            state = self.came.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What there is to say beside the files that came; at the end, also of those that did not.
    fn report(&self, group: &mut Group, is_end: bool) {
        let mut state = self.lock();
        group.notes = std::mem::take(&mut state.notes);
        if !is_end {
            return;
        }
        let peer = |source: usize| self.batch.places[source].peer.clone();
        let used = state.sources.iter().enumerate().filter(|(_, source)| source.was_of_use);
        group.sources = used.map(|(source, _)| peer(source)).collect();
        let State { files, sources, broken, .. } = &mut *state;
        for File { small, failed } in files.iter_mut().filter_map(Option::take) {
            let error = match &broken {
                Some(error) => GetError::Disk(io::Error::new(error.kind(), error.to_string())),
                None => {
                    let gone = small.sources.iter().filter_map(|&source| Some((source, sources[source].gone.clone()?)));
                    let gone = gone.filter(|(source, _)| !failed.iter().any(|(other, ..)| other == source));
                    let failed = failed.iter().map(|(source, _, what)| (*source, what.clone()));
                    GetError::Sources(failed.chain(gone).map(|(source, what)| (peer(source), what)).collect())
                }
            };
            group.answers.push((small, Err(error)));
        }
    }
}

/// The bytes of a content, verified.
fn fetch<'b>(
    connection: &mut Connection,
    id: &ContentId,
    size: u64,
    buffer: &'b mut [u8],
    metrics: &Metrics,
) -> Result<&'b [u8], Failure> {
    let bytes = buffer.get_mut(..size as usize).ok_or(Failure::Liar("claims an impossible size"))?;
    if size > 0 {
        connection.content(id, &(0..size), size, 0)?.0.fill(bytes)?;
        metrics.received(Other::Seed, size);
    }
    let is_true = ContentId::of(bytes) == *id;
    metrics.piece(is_true);
    if is_true {
        Ok(bytes)
    } else {
        Err(Failure::Liar(if size > 0 { "sent wrong bytes" } else { "claims that it is empty" }))
    }
}
