//! A content from the swarm into the share: who has it, under which size, and where it goes.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    crew::{Crew, Failed},
    download::InVain,
    fetch::Fetcher,
    partial::Downloads,
};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath, Zone},
    peer::{
        link::{LinkError, Source},
        metrics::Metrics,
        share::{Entry, NoRoom, Partial, PublishError, Share, SharedFile, Staged},
    },
};

/// Fetches contents into a share.
#[derive(Clone)]
pub struct Getter {
    /// Where to.
    pub share: Share,
    /// Where pieces are given on from as soon as they are verified.
    pub downloads: Downloads,
    /// The own id: never a source.
    pub peer: PeerId,
    /// The own zone: sources there come first.
    pub zone: Zone,
    /// Finds sources.
    pub finder: Arc<dyn Finder>,
    /// Talks to sources.
    pub fetcher: Fetcher,
    /// What this peer counts.
    pub metrics: Metrics,
}

/// Whoever knows the sources of a content.
pub trait Finder: Send + Sync {
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
    /// Whether the download is to end where it is.
    fn is_stopped(&self) -> bool {
        false
    }
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
    /// Something stands under the name, and what it holds is not known yet.
    Unhashed,
    /// The own disk.
    Disk(io::Error),
    /// So many are wanted that there is no place for one more.
    TooMany,
    /// The peer stops.
    Stopped,
    /// Somebody has cancelled it.
    Cancelled,
}

impl GetError {
    /// Whether it comes from a disk, or a quota, that is full.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Disk(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether it needs more bytes than the disk has room for.
    pub fn is_want_of_room(&self) -> bool {
        matches!(self, Self::Disk(error) if NoRoom::is_cause_of(error))
    }

    /// Whether the same may succeed later, with nobody doing anything here.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Link(_) | Self::NoSource | Self::Sources(_) | Self::Unhashed => true,
            // Whoever mends the disk need not come here; a path that cannot be stays so.
            Self::Disk(error) => !matches!(
                error.kind(),
                io::ErrorKind::InvalidFilename | io::ErrorKind::NotADirectory | io::ErrorKind::CrossesDevices
            ),
            Self::Conflict(_) | Self::TooMany | Self::Stopped | Self::Cancelled => false,
        }
    }
}

/// With `#`, without what a person may do about it.
impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::NoSource if f.alternate() => f.write_str("no peer offers it now"),
            Self::NoSource => f.write_str("no peer offers it now: try again later"),
            Self::Sources(failures) => {
                f.write_str("no source could deliver it")?;
                let mut separator = ": ";
                for (peer, failure) in failures {
                    write!(f, "{separator}{peer} {failure}")?;
                    separator = "; ";
                }
                if f.alternate() {
                    return Ok(());
                }
                f.write_str(" (what is here is kept: the same get goes on from there)")
            }
            Self::Conflict(_) => f.write_str("something else has that name: give another path to fetch it to"),
            Self::Unhashed => f.write_str("something that is not hashed yet has that name: try again in a while"),
            // What the share has made a sentence of needs no other before it.
            Self::Disk(error) if error.get_ref().is_some() => error.fmt(f),
            Self::Disk(error) => write!(f, "cannot write it: {error}"),
            Self::TooMany => {
                write!(f, "{} downloads are under way or waiting: wait for some, or cancel them", limits::JOBS)
            }
            Self::Stopped => {
                f.write_str("this peer stops: what is here is kept, and its next start goes on from there")
            }
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}

impl std::error::Error for GetError {}

impl From<io::Error> for GetError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Getter {
    /// Brings the content `id` into the share as `path`, where nothing stands but what it may be `over`; `watch` is
    /// told how it goes.
    ///
    /// # Errors
    /// When it cannot be had or cannot be kept. What was received stays for the next time.
    pub fn get(
        &self,
        id: &ContentId,
        path: &SharePath,
        over: Option<ContentId>,
        watch: &dyn Watch,
    ) -> Result<Report, GetError> {
        let began = Instant::now();
        if let Some((from, staged)) = self.copy(id)? {
            let report = Report {
                size: staged.entry().size,
                sources: Vec::new(),
                copied: Some(from),
                fetched: 0,
                time: began.elapsed(),
            };
            return self.publish(staged.over(over), path).map(|()| Report { time: began.elapsed(), ..report });
        }
        // From now on others may wait for the piece list here.
        self.downloads.expect(*id);
        let result = self.fetch(id, watch);
        let end = || {
            self.finder.end(id);
            self.downloads.give_up(id);
        };
        let (crew, file, fetched) = result.inspect_err(|_| end())?;
        // Until it is published, others are given its pieces by the crew.
        let size = crew.pieces().size();
        let staged = file.into_staged(Entry { content: *id, size }, crew.list());
        let published = staged.map_err(GetError::Disk).and_then(|staged| match watch.is_stopped() {
            true => Err(GetError::Stopped),
            false => self.publish(staged.over(over), path),
        });
        end();
        published?;
        Ok(Report { size, sources: crew.of_use(), copied: None, fetched, time: began.elapsed() })
    }

    /// Fetches all pieces, under one of the sizes that sources claim: only pieces that verify prove one.
    pub(super) fn fetch(&self, id: &ContentId, watch: &dyn Watch) -> Result<(Arc<Crew>, Partial, u64), GetError> {
        let mut file = Some(self.share.partial(id)?);
        let mut failures: Vec<Failed> = Vec::new();
        // A size that is claimed may be a lie: want of room for it must not keep one out for which there is.
        let mut no_room = None;
        let mut rounds = 0;
        while rounds < limits::FETCH_ROUNDS {
            if !failures.is_empty() || rounds > 0 {
                thread::sleep(limits::FETCH_PAUSE);
            }
            rounds += 1;
            let shunned: Vec<_> =
                failures.iter().filter(|failed| failed.is_hopeless).map(|failed| failed.peer.clone()).collect();
            let sources = match self.finder.whole(id) {
                // Who failed says more than that nobody else can be found.
                Err(_) if !failures.is_empty() => break,
                sources => sources.map_err(GetError::Link)?,
            };
            let sources: Vec<_> = sources
                .into_iter()
                .filter(|source| source.peer != self.peer && !shunned.contains(&source.peer))
                .collect();
            // What most sources say comes first.
            let mut sizes = BTreeMap::<u64, usize>::new();
            sources.iter().for_each(|source| *sizes.entry(source.size).or_default() += 1);
            let mut sizes: Vec<_> = sizes.into_iter().collect();
            sizes.sort_by_key(|(_, claims)| std::cmp::Reverse(*claims));
            for (size, _) in sizes {
                if watch.is_stopped() {
                    return Err(GetError::Stopped);
                }
                let whole: Vec<_> = sources.iter().filter(|source| source.size == size).cloned().collect();
                let now = match file.take() {
                    Some(file) => file,
                    None => self.share.partial(id)?,
                };
                match self.fetch_as(id, size, whole, &shunned, now, watch) {
                    Err(error) if error.is_want_of_room() => no_room = Some(error),
                    Err(error) => return Err(error),
                    Ok(Ok(done)) => return Ok(done),
                    Ok(Err(InVain { failed, fetched })) => {
                        failures.retain(|before| !failed.iter().any(|failed| failed.peer == before.peer));
                        failures.extend(failed);
                        if fetched > 0 {
                            // It came closer, so this was no round in vain.
                            rounds = 0;
                        }
                    }
                }
            }
            if let Some(error) = no_room.take().filter(|_| failures.is_empty()) {
                return Err(error);
            }
        }
        let failures: Vec<_> = failures.into_iter().map(|failed| (failed.peer, failed.what)).collect();
        Err(if failures.is_empty() { GetError::NoSource } else { GetError::Sources(failures) })
    }

    fn publish(&self, staged: Staged, path: &SharePath) -> Result<(), GetError> {
        match self.share.publish(staged, path) {
            Ok(_) => Ok(()),
            Err(PublishError::Conflict) => Err(GetError::Conflict(path.clone())),
            Err(PublishError::Io(error)) => Err(GetError::Disk(error)),
        }
    }

    /// A copy of an own file with this content; none where there is no such file, or none any more.
    fn copy(&self, id: &ContentId) -> Result<Option<(SharePath, Staged)>, GetError> {
        let Some((path, entry)) = self.share.path_of(id) else { return Ok(None) };
        self.share.need(entry.size)?;
        match self.stage_copy(&path).map_err(GetError::Disk) {
            Ok(Some(staged)) if staged.entry().content == *id => Ok(Some((path, staged))),
            Err(error) if error.is_full_disk() => Err(error),
            // It changes just now, or cannot be read: others may have it.
            _ => Ok(None),
        }
    }

    fn stage_copy(&self, path: &SharePath) -> io::Result<Option<Staged>> {
        let Some(SharedFile { mut file, .. }) = self.share.read(path) else { return Ok(None) };
        let mut staging = self.share.stage()?;
        let mut block = vec![0; limits::FETCH_BLOCK_BYTES];
        loop {
            match io::Read::read(&mut file, &mut block)? {
                0 => return staging.finish().map(Some),
                read => io::Write::write_all(&mut staging, &block[..read])?,
            }
        }
    }
}
