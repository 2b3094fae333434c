//! Files by name: ranked for whoever looks for something, complete and in order for whoever fetches all that
//! a pattern means. Both in pages of bounded cost.

use std::{
    cmp::Reverse,
    ops::{ControlFlow, Range},
};

use super::{Content, Registry, files::Version, names::At, slab::Handle};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    tracker::search::{Pattern, Rank},
};

/// One path with one content.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The path.
    pub path: String,
    /// The content.
    pub content: Content,
    /// How many peers hold the content, under whatever path.
    pub sources: usize,
    /// Ids of [`limits::NAMED`] of them at most, ordered.
    pub source_ids: Vec<&'a PeerId>,
}

/// A part of what was found.
#[derive(Debug, Default)]
pub struct Page<'a> {
    /// The rows, best first for a part of a path, otherwise ordered by path and content. There may be none and
    /// still be more.
    pub rows: Vec<Row<'a>>,
    /// Where this page begins among the candidates that were ranked.
    ranked: Option<Ranked>,
    /// Where the next page begins, if there is more.
    next: Option<Cursor>,
}

impl Page<'_> {
    /// Where to go on behind the first so many rows, if there is more.
    pub fn after(mut self, rows: usize) -> Option<Cursor> {
        if rows >= self.rows.len() {
            return self.next;
        }
        if let Some(start) = self.ranked {
            return Some(Cursor(Place::Ranked(start.behind(rows as u32))));
        }
        let Row { path, content, .. } = self.rows.swap_remove(rows.checked_sub(1)?);
        Some(Cursor(Place::Ordered { path, behind: Some(content) }))
    }
}

/// Where a page begins. To others it is bytes without meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Among candidates, behind the best so many.
    Ranked(Ranked),
    /// From a path on, and of its versions behind one.
    Ordered { path: String, behind: Option<Content> },
}

/// Behind the best so many of the candidates that begin with a version of the name at a place. Places are those of
/// one registry: in another one, all begins anew, and as many are left out as were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ranked {
    /// Which registry's: [`Names::mark`](super::names::Names::mark).
    mark: u32,
    at: At,
    version: u32,
    skip: u32,
    /// On all pages before.
    given: u32,
}

impl Ranked {
    fn start(mark: u32) -> Self {
        Self { mark, at: At::START, version: 0, skip: 0, given: 0 }
    }

    fn behind(self, rows: u32) -> Self {
        Self { skip: self.skip.saturating_add(rows), given: self.given.saturating_add(rows), ..self }
    }
}

impl Cursor {
    /// The bytes that stand for it: `r`, mark, rank, place, version, skip, given; or `o`, 40 bytes of the content if there
    /// is one, or `p`, and the path.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Place::Ranked(Ranked { mark, at: At { rank, place }, version, skip, given }) => {
                let numbers = [*mark, (*rank).into(), *place, *version, *skip, *given];
                [&b"r"[..], numbers.map(u32::to_be_bytes).as_flattened()].concat()
            }
            Place::Ordered { path, behind: Some(Content { id, size }) } => {
                [b"o", &id.bytes()[..], &size.to_be_bytes(), path.as_bytes()].concat()
            }
            Place::Ordered { path, behind: None } => [b"p", path.as_bytes()].concat(),
        }
    }

    /// The cursor that these bytes stand for, if they do for any.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(Self(match kind {
            b'r' => {
                let (numbers, []) = rest.as_chunks() else { return None };
                let numbers: [_; 6] = numbers.try_into().ok()?;
                let [mark, rank, place, version, skip, given] = numbers.map(u32::from_be_bytes);
                let rank = u8::try_from(rank).ok().filter(|rank| usize::from(*rank) < Rank::ALL.len())?;
                Place::Ranked(Ranked { mark, at: At { rank, place }, version, skip, given })
            }
            b'o' => {
                let (id, rest) = rest.split_first_chunk()?;
                let (size, path) = rest.split_first_chunk()?;
                let content = Content { id: ContentId::new(*id), size: u64::from_be_bytes(*size) };
                Place::Ordered { path: text(path)?, behind: Some(content) }
            }
            b'p' => Place::Ordered { path: text(rest)?, behind: None },
            _ => return None,
        }))
    }

    /// Whether a search for this pattern can have ended there.
    pub fn is_for(&self, pattern: &Pattern) -> bool {
        matches!(self.0, Place::Ordered { .. }) == pattern.is_whole()
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    // A path, and maybe the least character there is.
    let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= limits::PATH_BYTES + 1)?;
    Some(text.to_owned())
}

/// A version that may be among the best.
struct Candidate {
    rank: Rank,
    sources: usize,
    /// Where it stands in the text of all candidates.
    path: Range<usize>,
    version: Handle<Version>,
}

impl Registry {
    /// Files whose path the pattern means, a page of them from the start or from where the one before
    /// ended. Peers on loopback count, and are named, only if the asker is there too.
    ///
    /// What a part of the path is given for comes best first: the path itself, the file of that name, what
    /// begins so, the rest; and in each case more sources first, among
    /// [`limits::SEARCH_CANDIDATES`]. What a pattern is for the whole of comes in the order of paths.
    pub fn search(&self, pattern: &Pattern, from: Option<&Cursor>, asker_is_local: bool) -> Page<'_> {
        let mark = self.files.names().mark();
        match from.map(|cursor| &cursor.0) {
            None if pattern.is_whole() => self.ordered(pattern, "", None, asker_is_local),
            None => self.ranked(pattern, Ranked::start(mark), asker_is_local),
            Some(Place::Ranked(start)) if start.mark == mark => self.ranked(pattern, *start, asker_is_local),
            Some(Place::Ranked(Ranked { given, .. })) => {
                self.ranked(pattern, Ranked::start(mark).behind(*given), asker_is_local)
            }
            Some(Place::Ordered { path, behind }) => self.ordered(pattern, path, *behind, asker_is_local),
        }
    }

    /// The files with exactly this path, ordered by content; otherwise as [`search`](Self::search).
    pub fn search_exact(&self, path: &SharePath, from: Option<&Cursor>, asker_is_local: bool) -> Page<'_> {
        let behind = from.and_then(|cursor| match &cursor.0 {
            Place::Ordered { behind, .. } => *behind,
            Place::Ranked(_) => None,
        });
        let mut page = Page::default();
        if let Some(name) = self.files.names().find(path.as_str())
            && self.add_rows(&mut page, name, path.as_str(), behind, asker_is_local).is_break()
        {
            page.next = page
                .rows
                .last()
                .map(|row| Cursor(Place::Ordered { path: row.path.clone(), behind: Some(row.content) }));
        }
        page
    }

    fn ranked(&self, pattern: &Pattern, start: Ranked, asker_is_local: bool) -> Page<'_> {
        let Ranked { at: from, version, skip, .. } = start;
        let (mut candidates, mut paths, mut end_version) = (Vec::new(), String::new(), 0);
        let next = self.files.names().with_part(pattern, from, |at, name, rank, path| {
            let first = if at == from { version as usize } else { 0 };
            for (nth, &found) in (0..).zip(self.files.versions(name)).skip(first) {
                let sources = self.files.sources(found, asker_is_local);
                if sources > 0 && candidates.len() == limits::SEARCH_CANDIDATES {
                    end_version = nth;
                    return ControlFlow::Break(());
                }
                if sources > 0 {
                    let range = paths.len()..paths.len() + path.len();
                    paths.push_str(path);
                    candidates.push(Candidate { rank, sources, path: range, version: found });
                }
            }
            ControlFlow::Continue(())
        });
        candidates.sort_by(|one, other| {
            let key = |it: &Candidate| (it.rank, Reverse(it.sources));
            key(one).cmp(&key(other)).then_with(|| paths[one.path.clone()].cmp(&paths[other.path.clone()]))
        });
        let skipped = candidates.len().min(skip as usize);
        let end = candidates.len().min(skipped + limits::RANKED_ROWS);
        let behind = start.behind((end - skipped) as u32);
        let next = if end < candidates.len() {
            Some(behind)
        } else {
            // Who has been given more elsewhere than these goes on leaving out.
            let skip = skip - skipped as u32;
            next.map(|at| Ranked { at, version: end_version, skip, ..behind })
        };
        let rows = candidates.drain(..end).skip(skipped);
        let rows = rows.map(|it| self.row(paths[it.path].to_owned(), it.version, it.sources, asker_is_local)).collect();
        Page { rows, ranked: Some(start), next: next.map(|next| Cursor(Place::Ranked(next))) }
    }

    fn ordered(&self, pattern: &Pattern, from: &str, mut behind: Option<Content>, asker_is_local: bool) -> Page<'_> {
        let mut page = Page::default();
        let mut last = None;
        let next = self.files.names().matching(pattern, from, |name, path| {
            let behind = behind.take().filter(|_| path == from);
            let added = self.add_rows(&mut page, name, path, behind, asker_is_local);
            last = page.rows.last().filter(|row| added.is_break() && row.path == path).map(|row| row.content);
            added
        });
        page.next = next.map(|path| Cursor(Place::Ordered { path, behind: last }));
        page
    }

    /// Adds the rows of a path behind a content; breaks where the page has no room for one.
    fn add_rows<'a>(
        &'a self,
        page: &mut Page<'a>,
        name: Handle<super::names::Name>,
        path: &str,
        behind: Option<Content>,
        asker_is_local: bool,
    ) -> ControlFlow<()> {
        let versions = self.files.versions(name);
        let first = behind.map_or(0, |last| versions.partition_point(|version| self.files.content(*version) <= last));
        for &version in &versions[first..] {
            let sources = self.files.sources(version, asker_is_local);
            if sources > 0 && page.rows.len() == limits::SEARCH_RESULTS {
                return ControlFlow::Break(());
            }
            if sources > 0 {
                page.rows.push(self.row(path.to_owned(), version, sources, asker_is_local));
            }
        }
        ControlFlow::Continue(())
    }

    fn row(&self, path: String, version: Handle<Version>, sources: usize, asker_is_local: bool) -> Row<'_> {
        let content = self.files.content(version);
        let peers = self.files.holders_of(version).iter().map(|peer| &self.peers[peer]);
        let named = peers.filter(|peer| peer.is_for(asker_is_local)).take(limits::NAMED);
        let mut source_ids: Vec<_> = named.map(|peer| &peer.id).collect();
        source_ids.sort_unstable();
        Row { path, content, sources, source_ids }
    }
}
