//! What a peer announces: checked whole, and then made in parts, between which others are answered.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use super::{Content, Mirror, Peer, Refusal, Registry, Token, slab::Handle};
use crate::{content::ContentId, name::SharePath};

/// Changes to what a peer holds and downloads.
#[derive(Default)]
pub struct Changes {
    /// Paths it has, with what is there now.
    pub added: Vec<(SharePath, Content)>,
    /// Paths it no longer has; what `added` names too it has.
    pub removed: Vec<SharePath>,
    /// What it downloads, and gives on as far as it has it.
    pub downloading: Vec<Content>,
    /// What it no longer downloads; what `downloading` names too it does.
    pub stopped: Vec<ContentId>,
    /// How far it is with what it mirrors, where that is news.
    pub mirror: Option<Mirror>,
}

/// What there is to be under a path.
type News<'a> = (&'a SharePath, Option<Content>);

impl Changes {
    /// What they come to: each path once, in order.
    fn news(&self) -> Vec<News<'_>> {
        let removed = self.removed.iter().map(|path| (path, None));
        let added = self.added.iter().map(|(path, content)| (path, Some(*content)));
        let mut news: Vec<News<'_>> = removed.chain(added).collect();
        // Stable, and quick where they are in order, as a share lists its files.
        news.sort_by_key(|(path, _)| *path);
        news.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                kept.1 = later.1;
            }
            is_same
        });
        news
    }
}

/// Changes that are good, and how far they are made.
pub struct Underway<'a> {
    changes: &'a Changes,
    news: Vec<News<'a>>,
    /// So many of the news are true already.
    made: usize,
}

impl Registry {
    /// Changes what a peer holds and downloads, all of it or, on an error, nothing; and renews its lease.
    ///
    /// # Errors
    /// When the token is no live peer's, or the changes contradict themselves or pass a limit.
    pub fn announce(&mut self, now: Instant, token: Token<'_>, changes: &Changes) -> Result<(), Refusal> {
        let mut underway = self.begin(now, token, changes)?;
        self.go_on(token, &mut underway, usize::MAX).map(|_| ())
    }

    /// As [`announce`](Self::announce), but that the changes are only looked at: [`go_on`](Self::go_on) makes them.
    ///
    /// # Errors
    /// As there.
    pub fn begin<'a>(&mut self, now: Instant, token: Token<'_>, changes: &'a Changes) -> Result<Underway<'a>, Refusal> {
        let peer = self.holder(token)?;
        let news = self.check(peer, changes)?;
        self.extend(now, peer);
        Ok(Underway { changes, news, made: 0 })
    }

    /// Makes some of the changes, for so many files at most; whether there are more. In between, the same peer's
    /// other changes have to wait.
    ///
    /// # Errors
    /// When the token is no live peer's any more: the rest is then of no use.
    pub fn go_on(&mut self, token: Token<'_>, underway: &mut Underway<'_>, files: usize) -> Result<bool, Refusal> {
        let peer = self.holder(token)?;
        Ok(self.make(peer, underway, files))
    }

    /// Makes changes of a peer at once, if they can be made whole.
    pub(super) fn change(&mut self, peer: Handle<Peer>, changes: &Changes) -> Result<(), Refusal> {
        let news = self.check(peer, changes)?;
        self.make(peer, &mut Underway { changes, news, made: 0 }, usize::MAX);
        Ok(())
    }

    fn make(&mut self, peer: Handle<Peer>, underway: &mut Underway<'_>, most: usize) -> bool {
        let files = self.peers[peer].files;
        if underway.made == 0 {
            self.files.expect(files, underway.news.iter().filter(|(_, content)| content.is_some()).count());
        }
        let part = &underway.news[underway.made..];
        let part = &part[..most.min(part.len())];
        underway.made += part.len();
        // Whoever comes and goes leaves no more behind than it brings.
        self.files.tidy(part.len());
        let mut lost = BTreeSet::new();
        for &(path, content) in part {
            lost.extend(self.files.set(files, path, content));
        }
        for content in lost {
            if !self.files.holds(files, content) {
                self.swarms.lost(peer, content.id);
            }
        }
        if self.swarms.downloads_of(peer) > 0 {
            for content in part.iter().filter_map(|(_, content)| *content) {
                if self.swarms.is_downloading(peer, content.id) && self.files.holds(files, content) {
                    self.swarms.became_whole(peer, content);
                }
            }
        }
        if underway.made < underway.news.len() {
            return true;
        }
        let Changes { downloading, stopped, mirror, .. } = underway.changes;
        self.peers[peer].mirror = mirror.or(self.peers[peer].mirror);
        let wanted: BTreeSet<_> = downloading.iter().map(|content| content.id).collect();
        for id in stopped.iter().filter(|id| !wanted.contains(id)) {
            self.swarms.stop(peer, *id);
        }
        for content in downloading {
            if !self.files.holds(files, *content) {
                self.swarms.begin(&self.peers, peer, *content);
            }
        }
        false
    }

    /// What changes come to; refuses what cannot be made whole.
    fn check<'a>(&self, peer: Handle<Peer>, changes: &'a Changes) -> Result<Vec<News<'a>>, Refusal> {
        let (files, news) = (self.peers[peer].files, changes.news());
        let mut sizes = HashMap::with_capacity(changes.added.len() + changes.downloading.len());
        // What keeps a liar from being many sources of one content, each of another size.
        let mut check_size = |content: Content| {
            let is_told = *sizes.entry(content.id).or_insert(content.size) == content.size;
            let is_good = is_told && !self.files.holds_other_size(files, content);
            if is_good { Ok(()) } else { Err(Refusal::TwoSizes(content.id)) }
        };
        let (mut added, mut removed, mut new_bytes) = (0, 0, 0);
        for &(path, content) in &news {
            let name = self.files.names().find(path.as_str());
            let is_held = name.is_some_and(|name| self.files.has(files, name));
            let Some(content) = content else {
                removed += usize::from(is_held);
                continue;
            };
            check_size(content)?;
            added += usize::from(!is_held);
            new_bytes += if name.is_none() { path.as_str().len() } else { 0 };
        }
        changes.downloading.iter().try_for_each(|content| check_size(*content))?;
        self.check_downloads(peer, changes)?;
        if added > 0 && self.files.len_of(files) + added - removed > self.room.files_per_peer {
            return Err(Refusal::FilesPerPeer);
        }
        if added > 0 && self.files.pairs() + added - removed > self.room.files {
            return Err(Refusal::Files);
        }
        if new_bytes > 0 && self.files.names().bytes() + new_bytes > self.room.paths_bytes {
            return Err(Refusal::PathsBytes);
        }
        Ok(news)
    }

    fn check_downloads(&self, peer: Handle<Peer>, changes: &Changes) -> Result<(), Refusal> {
        let is_new = |id: &ContentId| !self.swarms.is_downloading(peer, *id);
        let wanted: BTreeSet<_> = changes.downloading.iter().map(|content| content.id).collect();
        let begun = wanted.iter().filter(|id| is_new(id)).count();
        if begun == 0 {
            return Ok(());
        }
        let stopped: BTreeSet<_> = changes.stopped.iter().filter(|id| !is_new(id) && !wanted.contains(id)).collect();
        let more = |downloads: usize| downloads + begun - stopped.len();
        if more(self.swarms.downloads_of(peer)) > self.room.downloads_per_peer {
            return Err(Refusal::DownloadsPerPeer);
        }
        if more(self.swarms.downloads()) > self.room.downloads {
            return Err(Refusal::Downloads);
        }
        Ok(())
    }
}
