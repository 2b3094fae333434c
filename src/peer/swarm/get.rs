//! The download of one content: sources, piece list, resuming, publishing.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{crew::Crew, fetch::Fetcher, partial::Downloads};
use crate::{
    content::{ContentId, PieceList, PieceVerifier, Pieces},
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::{LinkError, Source},
        share::{Entry, Partial, PublishError, Share, SharedFile, Staged},
    },
};

/// Fetches contents into a share.
pub struct Getter<'a> {
    /// Where to.
    pub share: &'a Share,
    /// Where pieces are given on from as soon as they are verified.
    pub downloads: &'a Downloads,
    /// The own id: never a source.
    pub peer: &'a PeerId,
    /// Finds sources.
    pub finder: &'a dyn Finder,
    /// Talks to sources.
    pub fetcher: &'a Fetcher,
    /// Is told how it goes.
    pub watch: &'a dyn Watch,
}

/// Whoever knows the sources of a content.
pub trait Finder {
    /// Who holds all of it, whatever size they say it has.
    ///
    /// # Errors
    /// When nobody can be asked.
    fn whole(&self, id: &ContentId) -> Result<Vec<Source>, LinkError>;

    /// Says that `id`, of so many bytes, is being downloaded, and who is good to fetch it from; `dead`
    /// have failed.
    ///
    /// # Errors
    /// When nobody can be asked.
    fn neighbours(&self, id: &ContentId, size: u64, dead: &[PeerId]) -> Result<Vec<Source>, LinkError>;

    /// The download is over.
    fn end(&self, id: &ContentId);
}

/// Whoever looks on.
pub trait Watch: Sync {
    /// So many of so many bytes are here and verified, or being so.
    fn progress(&self, done: u64, size: u64);
    /// Something a person may want to know; one line.
    fn note(&self, line: &str);
}

/// How a download went.
#[derive(Debug)]
pub struct Report {
    /// The content's size.
    pub size: u64,
    /// Who sent any of it; nobody when it was here already.
    pub sources: Vec<PeerId>,
    /// The own file it was copied from.
    pub copied: Option<SharePath>,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// How long it took.
    pub time: Duration,
}

/// Why there is no file.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// The tracker could not be asked for sources.
    Link(LinkError),
    /// Nobody has it.
    NoSource,
    /// Every source failed: which, and how.
    Sources(Vec<(PeerId, String)>),
    /// The name is taken by other content.
    Conflict(SharePath),
    /// The own disk.
    Disk(io::Error),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::NoSource => f.write_str("no peer offers it now: try again later"),
            Self::Sources(failures) => {
                f.write_str("no source could deliver it")?;
                let mut separator = ": ";
                for (peer, failure) in failures {
                    write!(f, "{separator}{peer} {failure}")?;
                    separator = "; ";
                }
                f.write_str(" (what is here is kept: the same get goes on from there)")
            }
            Self::Conflict(_) => f.write_str("something else has that name: give another path to fetch it to"),
            Self::Disk(error) if error.kind() == io::ErrorKind::StorageFull => {
                f.write_str("the disk is full: make room and get it again (what is here is kept)")
            }
            // What the share has made a sentence of needs no other before it.
            Self::Disk(error) if error.get_ref().is_some() => error.fmt(f),
            Self::Disk(error) => write!(f, "cannot write it: {error}"),
        }
    }
}

impl std::error::Error for GetError {}

impl From<io::Error> for GetError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Getter<'_> {
    /// Brings the content `id` into the share as `path`, where nothing stands.
    ///
    /// # Errors
    /// When it cannot be had or cannot be kept. What was received stays for the next time.
    pub fn get(&self, id: &ContentId, path: &SharePath) -> Result<Report, GetError> {
        let began = Instant::now();
        if let Some((from, staged)) = self.copy(id) {
            let report = Report {
                size: staged.entry().size,
                sources: Vec::new(),
                copied: Some(from),
                fetched: 0,
                time: began.elapsed(),
            };
            return self.publish(staged, path).map(|()| Report { time: began.elapsed(), ..report });
        }
        // From now on others may wait for the piece list here.
        self.downloads.expect(*id);
        let result = self.fetch(id);
        let end = || {
            self.finder.end(id);
            self.downloads.give_up(id);
        };
        let (crew, file, fetched) = result.inspect_err(|_| end())?;
        // Until it is published, others are given its pieces by the crew.
        let size = crew.pieces().size();
        let staged = file.into_staged(Entry { content: *id, size }, crew.list());
        let published = staged.map_err(GetError::Disk).and_then(|staged| self.publish(staged, path));
        end();
        published?;
        Ok(Report { size, sources: crew.of_use(), copied: None, fetched, time: began.elapsed() })
    }

    /// Fetches all pieces, under one of the sizes that sources claim: only pieces that verify prove one.
    fn fetch(&self, id: &ContentId) -> Result<(Arc<Crew>, Partial, u64), GetError> {
        let mut file = Some(self.share.partial(id)?);
        let mut failures = Vec::new();
        for round in 0..limits::FETCH_ROUNDS {
            if round > 0 {
                thread::sleep(limits::FETCH_PAUSE);
            }
            let sources = self.finder.whole(id).map_err(GetError::Link)?;
            // What most sources say comes first.
            let mut sizes = BTreeMap::<u64, usize>::new();
            sources
                .iter()
                .filter(|source| source.peer != *self.peer)
                .for_each(|source| *sizes.entry(source.size).or_default() += 1);
            let mut sizes: Vec<_> = sizes.into_iter().collect();
            sizes.sort_by_key(|(_, claims)| std::cmp::Reverse(*claims));
            for (size, _) in sizes {
                let whole: Vec<_> = sources.iter().filter(|source| source.size == size).cloned().collect();
                let now = match file.take() {
                    Some(file) => file,
                    None => self.share.partial(id)?,
                };
                match self.fetch_as(id, size, whole, now)? {
                    Ok(done) => return Ok(done),
                    Err(failed) => {
                        failures.retain(|(peer, _)| !failed.iter().any(|(other, _)| other == peer));
                        failures.extend(failed);
                    }
                }
            }
        }
        Err(if failures.is_empty() { GetError::NoSource } else { GetError::Sources(failures) })
    }

    /// Fetches a content of `size` bytes. The inner error says who failed, and how.
    fn fetch_as(&self, id: &ContentId, size: u64, whole: Vec<Source>, file: Partial) -> Result<Fetched, GetError> {
        let others = |mut sources: Vec<Source>| {
            sources.retain(|source| source.peer != *self.peer);
            sources
        };
        let ask = |dead: &[PeerId]| self.finder.neighbours(id, size, dead).map(others);
        // A tracker that is away now has still named the whole ones.
        let mut sources = ask(&[]).unwrap_or_default();
        sources.extend(others(whole));
        let mut failures = Vec::new();
        let Some(pieces) = Pieces::of(size) else {
            return Ok(Err(sources
                .into_iter()
                .map(|source| (source.peer, "claims an impossible size".into()))
                .collect()));
        };
        let Some(list) = self.piece_list(id, &pieces, &sources, &mut failures) else { return Ok(Err(failures)) };
        sources.retain(|source| !failures.iter().any(|(failed, _)| *failed == source.peer));
        let running = self.downloads.begin(*id, pieces, list.to_bytes(), file.reader()?);
        let held = verified(id, &pieces, &list, &file)?;
        if !held.is_empty() && size > 0 {
            self.watch.note(&format!("resuming: {} of {} pieces are here", held.len(), pieces.count()));
            held.iter().filter_map(|&piece| pieces.index(piece)).for_each(|piece| running.gain(piece));
        }
        if size == 0 && held.is_empty() {
            return Ok(Err(sources
                .into_iter()
                .map(|source| (source.peer, "claims that it is empty".into()))
                .collect()));
        }
        let here = held.len() as u64 * pieces.length();
        let crew = Crew::new(*id, pieces, list, file, running, self.fetcher.clone(), &held);
        crew.add(sources);
        let mut pause = limits::NEIGHBOURS_PAUSE.start;
        let mut asked = Instant::now();
        let mut alone = None;
        loop {
            let progress = crew.wait(limits::PROGRESS_TIME);
            progress.notes.iter().for_each(|note| self.watch.note(note));
            self.watch.progress((here + progress.fetched).min(size), size);
            if let Some(error) = progress.broken {
                crew.end();
                return Err(GetError::Disk(error));
            }
            if progress.missing == 0 {
                let Some(file) = crew.end() else { continue };
                return Ok(Ok((crew, file, progress.fetched)));
            }
            crew.man();
            let is_alone = progress.sources == 0;
            if asked.elapsed() >= pause || (is_alone && alone.is_none()) {
                let dead = crew.dead();
                let names: Vec<_> = dead.iter().map(|(peer, _)| peer.clone()).collect();
                if let Ok(more) = ask(&names) {
                    crew.add(more);
                }
                asked = Instant::now();
                pause = (pause * 2).min(limits::NEIGHBOURS_PAUSE.end);
                if !is_alone {
                    alone = None;
                } else if *alone.get_or_insert(asked) + limits::FETCH_PAUSE < asked {
                    failures.extend(dead);
                    crew.end();
                    return Ok(Err(failures));
                }
            }
        }
    }

    /// The piece list, of the first source that has a true one. Those that download it too are asked
    /// before those that have it all, whose uplink everybody wants.
    fn piece_list(
        &self,
        id: &ContentId,
        pieces: &Pieces,
        sources: &[Source],
        failures: &mut Vec<(PeerId, String)>,
    ) -> Option<PieceList> {
        if pieces.count() == 1 {
            return PieceList::parse(&[], pieces, id).ok();
        }
        let partial = sources.iter().filter(|source| source.is_partial);
        for source in partial.chain(sources.iter().filter(|source| !source.is_partial)) {
            let list = self.fetcher.piece_list(source.address, id, pieces.count() * 32);
            let list = list
                .map_err(|error| error.to_string())
                .and_then(|list| PieceList::parse(&list, pieces, id).map_err(|error| format!("lies: {error}")));
            match list {
                Ok(list) => return Some(list),
                // Whoever only begins has none yet.
                Err(_) if source.is_partial => {}
                Err(failure) => {
                    let Source { peer, address, .. } = source;
                    self.watch.note(&format!("{peer} ({address}) {failure}: trying another"));
                    failures.push((peer.clone(), failure));
                }
            }
        }
        None
    }

    fn publish(&self, staged: Staged, path: &SharePath) -> Result<(), GetError> {
        match self.share.publish(staged, path) {
            Ok(_) => Ok(()),
            Err(PublishError::Conflict) => Err(GetError::Conflict(path.clone())),
            Err(PublishError::Io(error)) => Err(GetError::Disk(error)),
        }
    }

    /// A copy of an own file with this content; none where there is no such file, or none any more.
    fn copy(&self, id: &ContentId) -> Option<(SharePath, Staged)> {
        let (path, _) = self.share.path_of(id)?;
        let SharedFile { mut file, .. } = self.share.read(&path)?;
        let mut staging = self.share.stage().ok()?;
        let mut block = vec![0; limits::FETCH_BLOCK_BYTES];
        loop {
            match io::Read::read(&mut file, &mut block).ok()? {
                0 => break,
                read => io::Write::write_all(&mut staging, &block[..read]).ok()?,
            }
        }
        let staged = staging.finish().ok()?;
        (staged.entry().content == *id).then_some((path, staged))
    }
}

/// A download that is whole, or who failed.
type Fetched = Result<(Arc<Crew>, Partial, u64), Vec<(PeerId, String)>>;

/// The pieces that are in `file`: it is read again where it may hold data, and only what verifies is
/// believed.
fn verified(id: &ContentId, pieces: &Pieces, list: &PieceList, file: &Partial) -> io::Result<Vec<usize>> {
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
