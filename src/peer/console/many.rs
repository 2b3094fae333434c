//! `get` of a pattern that matches many files, page by page as the tracker names them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use super::{
    Console,
    get::{is_unhashed, one_content},
    progress::files_text,
    text,
};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::{Found, LinkError, Page, Place},
        share::{Entry, Lookup},
        swarm::{Batch, GetError, Group, Small},
    },
    say, show,
};

impl Console {
    /// Fetches all files that match a pattern, of which `first` is the first page.
    pub(super) fn get_matches(&mut self, pattern: &str, first: Page) {
        let mut matches = Matches::new(first);
        let mut tally = Tally::new();
        loop {
            let (paths, places) = matches.take();
            tally.found += paths.len();
            tally.is_all = !matches.more;
            self.get_page(paths, &places, &mut tally);
            if !matches.more {
                break;
            }
            if tally.found > limits::SHARE_FILES {
                self.fail(format_args!(
                    "more files match {pattern} than a share holds: get the rest with a narrower one"
                ));
                break;
            }
            let link = &self.link;
            if let Err(error) = matches.advance(|after| link.page(pattern, Some(after))) {
                self.fail(format_args!("more files match {pattern}, and what they are is not known: {error}"));
                break;
            }
        }
        say(tally.account());
    }

    fn get_page(&mut self, paths: Vec<(SharePath, Vec<Found>)>, places: &[Place], tally: &mut Tally) {
        let (small, others) = self.sort(paths, places, tally);
        let mut retries = Vec::new();
        let getter = self.jobs.getter().clone();
        Batch { getter: &getter, places }.get(small, |group| retries.extend(self.take(group, tally)));
        // As for one file: whatever a script does next finds this peer among the sources.
        self.link.wait_settled(Instant::now() + Duration::from_secs(u64::from(self.link.is_joined())));
        let mut in_vain = 0;
        for (path, id, error) in retries {
            let done = match in_vain {
                limits::BATCH_RETRIES.. => Err(format!("{path}: {error}")),
                _ => self.fetch(&id, &path),
            };
            in_vain = if done.is_ok() { 0 } else { in_vain + 1 };
            self.count(done, tally);
        }
        for (path, id) in others {
            let done = self.fetch(&id, &path);
            self.count(done, tally);
        }
    }

    /// What of a page is fetched in a batch, and what by itself; what is here or cannot be is dealt with.
    fn sort(
        &mut self,
        paths: Vec<(SharePath, Vec<Found>)>,
        places: &[Place],
        tally: &mut Tally,
    ) -> (Vec<Small>, Vec<(SharePath, ContentId)>) {
        let numbers: BTreeMap<_, _> = places.iter().enumerate().map(|(at, place)| (&place.peer, at)).collect();
        let (mut small, mut others, mut here) = (Vec::new(), Vec::new(), String::new());
        let unhashed = Instant::now() + limits::UNHASHED_TIME;
        for (path, rows) in paths {
            let content = match one_content(path.as_str(), &rows) {
                Ok(content) => content,
                Err(error) => {
                    self.count(Err(error), tally);
                    continue;
                }
            };
            match self.share.look_up_hashed(&path, unhashed) {
                Lookup::Known(Entry { content: known, size }) if known == content => {
                    here += &format!("{content}\t{size}\t{path}\n");
                    tally.here += 1;
                }
                Lookup::Absent if rows.len() == 1 && rows[0].size <= limits::PIECE_BYTES => {
                    let sources = rows[0].source_ids.iter().filter(|peer| **peer != self.jobs.getter().peer);
                    let sources = sources.filter_map(|peer| numbers.get(peer).copied()).collect();
                    small.push(Small { path, content, size: rows[0].size, sources });
                }
                Lookup::Unhashed => self.count(Err(is_unhashed(&path)), tally),
                // What stands in the way is told there.
                _ => others.push((path, content)),
            }
        }
        self.put(&here);
        tally.show();
        (small, others)
    }

    /// Tells of a group of files; gives back what should be tried again.
    fn take(&mut self, group: Group, tally: &mut Tally) -> Vec<(SharePath, ContentId, GetError)> {
        group.notes.iter().for_each(say);
        tally.sources.extend(group.sources);
        let (mut lines, mut retries) = (String::new(), Vec::new());
        for (Small { path, content, size, .. }, went) in group.answers {
            match went {
                Ok(()) => {
                    lines += &format!("{content}\t{size}\t{path}\n");
                    tally.fetched += 1;
                    tally.bytes += size;
                }
                Err(error @ GetError::Sources(_)) => retries.push((path, content, error)),
                Err(error) => self.count(Err(format!("{path}: {error}")), tally),
            }
        }
        if !lines.is_empty() {
            self.put(&lines);
        }
        tally.show();
        retries
    }

    fn count(&mut self, done: Result<(), String>, tally: &mut Tally) {
        match done {
            Ok(()) => tally.alone += 1,
            Err(error) => {
                tally.failed += 1;
                self.fail(error);
            }
        }
    }
}

/// What matches, path by path.
struct Matches {
    page: Page,
    /// There are more pages.
    more: bool,
}

impl Matches {
    fn new(page: Page) -> Self {
        Self { more: page.has_more(), page }
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
        (paths.into_iter().collect(), self.page.places.clone())
    }

    /// Goes on to the next page.
    fn advance(&mut self, ask: impl FnOnce(&Page) -> Result<Page, LinkError>) -> Result<(), LinkError> {
        let next = ask(&self.page)?;
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
struct Tally {
    began: Instant,
    is_terminal: bool,
    /// Matches so far, and whether these are all.
    found: usize,
    is_all: bool,
    /// What became of them: fetched in a batch, fetched or found by itself, here before, neither.
    fetched: usize,
    alone: usize,
    here: usize,
    failed: usize,
    /// In the batches.
    bytes: u64,
    sources: BTreeSet<PeerId>,
}

impl Tally {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            is_terminal: stderr().is_terminal(),
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

    /// Shows on a terminal how far it is.
    fn show(&self) {
        if self.is_terminal {
            let done = self.fetched + self.alone + self.here + self.failed;
            let more = if self.is_all { "" } else { " or more" };
            let speed = text::speed(self.bytes, self.began.elapsed());
            show(format_args!("{done} of {}{more}, {speed}", files_text(self.found)));
        }
    }

    /// The line at the end.
    fn account(&self) -> String {
        let mut parts = Vec::new();
        if self.fetched > 0 {
            let sources: Vec<_> = self.sources.iter().take(limits::ROW_PLACES).map(PeerId::as_str).collect();
            let more = self.sources.len() - sources.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let speed = text::speed(self.bytes, self.began.elapsed());
            let from = if sources.is_empty() { String::new() } else { format!(" from {}{more}", sources.join(", ")) };
            parts.push(format!("fetched {}{from}: {speed}", files_text(self.fetched)));
        }
        for (files, what) in [(self.alone, "one by one"), (self.here, "here already"), (self.failed, "failed")] {
            if files > 0 {
                parts.push(format!("{} {what}", files_text(files)));
            }
        }
        parts.join("; ")
    }
}
