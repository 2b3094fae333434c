//! `get` of a pattern that matches many files, page by page as the tracker names them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    AskError, Asks, Begun, Face, Got, How,
    resolve::{below, one_content},
};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::{Found, Link, Page, Place},
        share::{Entry, Lookup},
        swarm::{Batch, GetError, Group, Small},
    },
};

impl Asks {
    /// Fetches all files that match a pattern, of which `first` is the first page, below `folder` where one is given.
    pub(super) fn get_matches(
        &self,
        pattern: &str,
        first: Page,
        folder: Option<&SharePath>,
        face: &mut dyn Face,
    ) -> Tally {
        let mut matches = Matches::new(first);
        let mut tally = Tally::new();
        loop {
            let (paths, places) = matches.take();
            (tally.found, tally.is_all) = (matches.found, !matches.more);
            let page = ToGet { paths, places: &places, folder };
            self.get_page(page, &mut tally, face);
            if !matches.more || face.is_stopped() {
                return tally;
            }
            if let Err(error) = matches.advance(&self.link, pattern) {
                face.failed(error);
                return tally;
            }
        }
    }

    /// Begins to bring here all files that a pattern matches, of which `first` is the first page; tells of each how it
    /// went. Ends early when there are as many downloads as may be.
    ///
    /// # Errors
    /// When the rest is not known, or more than a share holds.
    pub fn begin_matches(
        &self,
        pattern: &str,
        first: Page,
        mut tell: impl FnMut(SharePath, Result<(ContentId, Begun), AskError>),
    ) -> Result<(), AskError> {
        let mut matches = Matches::new(first);
        loop {
            for (path, rows) in matches.take().0 {
                let content = one_content(path.as_str(), &rows);
                let begun = content.and_then(|content| Ok((content, self.begin(&content, &path)?)));
                let is_full = matches!(&begun, Err(AskError::Get(_, error)) if matches!(**error, GetError::TooMany));
                tell(path, begun);
                if is_full {
                    return Ok(());
                }
            }
            if !matches.more {
                return Ok(());
            }
            matches.advance(&self.link, pattern)?;
        }
    }

    fn get_page(&self, page: ToGet<'_>, tally: &mut Tally, face: &mut dyn Face) {
        let places = page.places;
        let (small, others) = self.sort(page, tally, face);
        let mut retries = Vec::new();
        let getter = self.jobs.getter().clone();
        Batch { getter: &getter, places }.get(small, |group| retries.extend(take(group, tally, face)));
        // As for one file.
        self.settle();
        let mut in_vain = 0;
        for (path, id, error) in retries {
            if face.is_stopped() {
                return;
            }
            let done = match in_vain {
                limits::BATCH_RETRIES.. => Err(AskError::Get(path, Arc::new(error))),
                _ => self.fetch(&id, &path, face),
            };
            in_vain = if done.is_ok() { 0 } else { in_vain + 1 };
            count(done, tally, face);
        }
        for (path, id) in others {
            if face.is_stopped() {
                return;
            }
            let done = self.fetch(&id, &path, face);
            count(done, tally, face);
        }
    }

    /// What of a page is fetched in a batch, and what by itself; what is here or cannot be is dealt with.
    fn sort(
        &self,
        ToGet { paths, places, folder }: ToGet<'_>,
        tally: &mut Tally,
        face: &mut dyn Face,
    ) -> (Vec<Small>, Vec<(SharePath, ContentId)>) {
        let numbers: BTreeMap<_, _> = places.iter().enumerate().map(|(at, place)| (&place.peer, at)).collect();
        let (mut small, mut others, mut here) = (Vec::new(), Vec::new(), Vec::new());
        let unhashed = Instant::now() + limits::UNHASHED_TIME;
        for (path, rows) in paths {
            let content = one_content(path.as_str(), &rows);
            let (content, path) = match content.and_then(|content| Ok((content, below(folder, path)?))) {
                Ok(found) => found,
                Err(error) => {
                    count(Err(error), tally, face);
                    continue;
                }
            };
            match self.share.look_up_hashed(&path, unhashed) {
                Lookup::Known(Entry { content: known, size }) if known == content => {
                    here.push(Got { content, size, path, how: How::Together });
                    tally.here += 1;
                }
                Lookup::Absent if rows.len() == 1 && rows[0].size <= limits::PIECE_BYTES => {
                    let sources = rows[0].source_ids.iter().filter(|peer| **peer != self.jobs.getter().peer);
                    let sources = sources.filter_map(|peer| numbers.get(peer).copied()).collect();
                    small.push(Small { path, content, size: rows[0].size, sources });
                }
                Lookup::Unhashed => count(Err(AskError::Unhashed(path)), tally, face),
                // What stands in the way is told there.
                _ => others.push((path, content)),
            }
        }
        face.got(&here);
        face.tally(tally);
        (small, others)
    }
}

/// A page of files, and below which folder they go.
struct ToGet<'a> {
    paths: Vec<(SharePath, Vec<Found>)>,
    places: &'a [Place],
    folder: Option<&'a SharePath>,
}

/// Tells of a group of files; gives back what should be tried again.
fn take(group: Group, tally: &mut Tally, face: &mut dyn Face) -> Vec<(SharePath, ContentId, GetError)> {
    group.notes.iter().for_each(|note| face.note(note));
    tally.sources.extend(group.sources);
    let (mut here, mut retries) = (Vec::new(), Vec::new());
    for (Small { path, content, size, .. }, went) in group.answers {
        match went {
            Ok(()) => {
                here.push(Got { content, size, path, how: How::Together });
                tally.fetched += 1;
                tally.bytes += size;
            }
            Err(error @ GetError::Sources(_)) => retries.push((path, content, error)),
            Err(error) => count(Err(AskError::Get(path, Arc::new(error))), tally, face),
        }
    }
    if !here.is_empty() {
        face.got(&here);
    }
    face.tally(tally);
    retries
}

fn count(done: Result<Got, AskError>, tally: &mut Tally, face: &mut dyn Face) {
    match done {
        Ok(got) => {
            tally.alone += 1;
            face.got(&[got]);
        }
        Err(error) => {
            tally.failed += 1;
            face.failed(error);
        }
    }
}

/// What matches, path by path.
struct Matches {
    page: Page,
    /// There are more pages.
    more: bool,
    /// Paths so far.
    found: usize,
}

impl Matches {
    fn new(page: Page) -> Self {
        Self { more: page.has_more(), page, found: 0 }
    }

    /// The paths of the page, and where their sources are. The last one waits for the next page, which may
    /// name another content for it.
    fn take(&mut self) -> (Vec<(SharePath, Vec<Found>)>, Vec<Place>) {
        let mut paths = BTreeMap::<SharePath, Vec<Found>>::new();
        for row in std::mem::take(&mut self.page.found) {
            paths.entry(row.path.clone()).or_default().push(row);
        }
        if self.more
            && let Some((_, rows)) = paths.pop_last()
        {
            self.page.found = rows;
        }
        self.found += paths.len();
        (paths.into_iter().collect(), self.page.places.clone())
    }

    /// Goes on to the next page.
    fn advance(&mut self, link: &Link, pattern: &str) -> Result<(), AskError> {
        if self.found > limits::SHARE_FILES {
            let text = format!("more files match {pattern} than a share holds: get the rest with a narrower one");
            return Err(AskError::Several(text));
        }
        let next = link.page(pattern, Some(&self.page)).map_err(|error| {
            AskError::Absent(format!("more files match {pattern}, and what they are is not known: {error}"))
        })?;
        self.more = next.has_more();
        // A path with very many contents is an error that needs not name all of them.
        let rows = &mut self.page.found;
        if rows.len() > limits::NAMED && next.found.last().is_some_and(|row| row.path == rows[0].path) {
            rows.drain(2..);
        }
        rows.extend(next.found);
        let known: BTreeSet<PeerId> = next.places.iter().map(|place| place.peer.clone()).collect();
        self.page.places.retain(|place| !known.contains(&place.peer));
        let wanted: BTreeSet<&PeerId> = self.page.found.iter().flat_map(|row| &row.source_ids).collect();
        self.page.places.retain(|place| wanted.contains(&place.peer));
        self.page.places.extend(next.places);
        self.page.cursor = next.cursor;
        Ok(())
    }
}

/// How a `get` of many files goes.
#[derive(Clone, Debug)]
pub struct Tally {
    /// When it began.
    pub began: Instant,
    /// Matches so far.
    pub found: usize,
    /// Those are all.
    pub is_all: bool,
    /// Of them, how many were fetched together,
    pub fetched: usize,
    /// how many fetched or found by themselves,
    pub alone: usize,
    /// how many were here before,
    pub here: usize,
    /// and how many failed.
    pub failed: usize,
    /// Bytes of those that were fetched together.
    pub bytes: u64,
    /// Who sent those.
    pub sources: BTreeSet<PeerId>,
}

impl Tally {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            found: 0,
            is_all: false,
            fetched: 0,
            alone: 0,
            here: 0,
            failed: 0,
            bytes: 0,
            sources: BTreeSet::new(),
        }
    }

    /// How many of the files have been dealt with.
    pub fn done(&self) -> usize {
        self.fetched + self.alone + self.here + self.failed
    }
}
