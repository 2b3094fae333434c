//! The download of one content, from one source at a time.

use std::{
    fmt, io, thread,
    time::{Duration, Instant},
};

use super::{
    cut::{Cut, Sink, transfer},
    fetch::{FetchError, Fetcher},
    partial::Downloads,
};
use crate::{
    content::{ContentId, PieceList, Pieces},
    limits,
    name::{PeerId, SharePath, Zone},
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
    /// The own zone: its sources come first.
    pub zone: &'a Zone,
    /// Asks the tracker who holds a content.
    pub locate: &'a dyn Fn(&ContentId) -> Result<Vec<Source>, LinkError>,
    /// Talks to sources.
    pub fetcher: &'a Fetcher,
    /// Is told how it goes.
    pub watch: &'a dyn Watch,
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

/// Why one source did not bring the rest.
pub(super) enum Failure {
    /// Its doing, and what; the next source may do better.
    Source(String),
    /// It sent wrong bytes: it is not asked again.
    Liar(String),
    /// Ours.
    Disk(io::Error),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Source(error.to_string())
    }
}

impl From<io::Error> for Failure {
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
        let mut download = Download::new(self, id)?;
        download.run()?;
        let Download { file, cut, sources, fetched, .. } = download;
        // Until it is published, others are given its pieces by the cut.
        let cut = cut.ok_or(GetError::NoSource)?;
        let size = cut.pieces().size();
        self.publish(file.into_staged(Entry { content: *id, size }, cut.list())?, path)?;
        Ok(Report { size, sources, copied: None, fetched, time: began.elapsed() })
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

/// A download under way.
struct Download<'a> {
    getter: &'a Getter<'a>,
    id: ContentId,
    file: Partial,
    /// None before the first piece list.
    cut: Option<Cut>,
    sources: Vec<PeerId>,
    fetched: u64,
}

impl<'a> Download<'a> {
    fn new(getter: &'a Getter<'a>, id: &ContentId) -> Result<Self, GetError> {
        let file = getter.share.partial(id)?;
        Ok(Self { getter, id: *id, file, cut: None, sources: Vec::new(), fetched: 0 })
    }

    /// Asks source after source until all is here.
    fn run(&mut self) -> Result<(), GetError> {
        let mut failures: Vec<(PeerId, String)> = Vec::new();
        let mut liars: Vec<Source> = Vec::new();
        let mut fruitless = 0;
        while fruitless < limits::FETCH_ROUNDS {
            if fruitless > 0 {
                thread::sleep(limits::FETCH_PAUSE);
            }
            let had = self.fetched;
            let sources = (self.getter.locate)(&self.id).map_err(GetError::Link)?;
            for source in order(sources, self.getter.peer, self.getter.zone) {
                if liars.contains(&source) {
                    continue;
                }
                let failure = match self.take_from(&source) {
                    Ok(()) => return Ok(()),
                    Err(Failure::Disk(error)) => return Err(error.into()),
                    Err(Failure::Source(failure)) => failure,
                    Err(Failure::Liar(failure)) => {
                        liars.push(source.clone());
                        failure
                    }
                };
                let peer = &source.peer;
                self.getter.watch.note(&format!("{peer} ({}) {failure}: trying another", source.address));
                failures.retain(|(failed, _)| failed != peer);
                failures.push((source.peer, failure));
            }
            fruitless = if self.fetched > had { 0 } else { fruitless + 1 };
        }
        Err(if failures.is_empty() { GetError::NoSource } else { GetError::Sources(failures) })
    }

    /// Takes all that is missing from one source.
    fn take_from(&mut self, source: &Source) -> Result<(), Failure> {
        if self.cut.as_ref().is_none_or(|cut| cut.pieces().size() != source.size) {
            // What others saw of the former cut ends before the new one begins.
            self.cut = None;
            self.cut = Some(self.cut_by(source)?);
        }
        let cut = self.cut.as_mut().expect("just made");
        while let Some(run) = cut.missing() {
            let range = cut.bytes(&run);
            let mut sink = Sink::new(&self.id, &self.file, cut, run, self.getter.watch);
            // The one piece of an empty content has no bytes that could be asked for.
            let (taken, end) = match range.is_empty() {
                true => (0, sink.end_piece()),
                false => {
                    let stream = self.getter.fetcher.content(source.address, &self.id, &range, source.size)?;
                    transfer(stream, &mut sink)
                }
            };
            if taken > 0 {
                if !self.sources.contains(&source.peer) {
                    self.sources.push(source.peer.clone());
                }
                self.fetched += taken;
            }
            end?;
        }
        Ok(())
    }

    /// The cut that a source claims, and what of it is here from before.
    fn cut_by(&self, source: &Source) -> Result<Cut, Failure> {
        let pieces = Pieces::of(source.size).ok_or_else(|| Failure::Liar("claims an impossible size".into()))?;
        let length = if pieces.count() == 1 { 0 } else { pieces.count() * 32 };
        // Content of one piece has an empty list: no need to ask for it.
        let list =
            if length == 0 { Vec::new() } else { self.getter.fetcher.piece_list(source.address, &self.id, length)? };
        let list =
            PieceList::parse(&list, &pieces, &self.id).map_err(|error| Failure::Liar(format!("lies: {error}")))?;
        let running = self.getter.downloads.begin(self.id, pieces, list.to_bytes(), self.file.reader()?);
        let mut cut = Cut::new(pieces, list, running);
        let here = cut.verify(&self.id, &self.file)?;
        if here > 0 {
            self.getter.watch.note(&format!("resuming: {here} of {} pieces are here", pieces.count()));
        }
        Ok(cut)
    }
}

/// The order in which sources are asked: the own zone first, otherwise as the tracker dealt them.
/// The own peer is none.
fn order(mut sources: Vec<Source>, own: &PeerId, zone: &Zone) -> Vec<Source> {
    sources.retain(|source| source.peer != *own);
    sources.sort_by_key(|source| source.zone != *zone);
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_zone_comes_first_and_the_own_peer_never() {
        let source = |peer: &str, zone: &str| Source {
            peer: peer.parse().unwrap(),
            address: "10.0.0.1:1".parse().unwrap(),
            zone: zone.parse().unwrap(),
            size: 1,
        };
        let sources = vec![source("a", "x"), source("me", "y"), source("b", "y"), source("c", "x"), source("d", "y")];
        let ordered = order(sources, &"me".parse().unwrap(), &"y".parse().unwrap());
        assert_eq!(ordered.iter().map(|source| source.peer.as_str()).collect::<Vec<_>>(), ["b", "d", "a", "c"]);
    }
}
