//! What the downloads under way hold so far: a peer gives on every piece as soon as it is verified.

use std::{
    collections::HashMap,
    fs::File,
    ops::{Deref, Range},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    content::{ContentId, PieceIndex, Pieces},
    name::PeerId,
};

/// The downloads of one peer. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Downloads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// None for a download whose piece list is not here yet.
    downloads: Mutex<HashMap<ContentId, Option<Arc<Download>>>>,
    begun: Condvar,
}

/// One download, as those see it who are given its pieces.
pub struct Download {
    pieces: Pieces,
    piece_list: Vec<u8>,
    file: File,
    gained: Mutex<Gained>,
    news: Condvar,
    /// Somebody has asked for what is here.
    is_known: AtomicBool,
}

#[derive(Default)]
struct Gained {
    /// Verified pieces in the order in which they came.
    order: Vec<PieceIndex>,
    /// The same by number: from whom each came, as [`Origins`] has it.
    from: Vec<u16>,
    /// Who sent any of them.
    sources: Vec<PeerId>,
    /// How many wait for news.
    waiting: usize,
    is_over: bool,
}

/// Where the pieces of a download came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// Who sent any of them.
    pub sources: Vec<PeerId>,
    /// Of each piece: [`MISSING`](Self::MISSING), [`HERE_BEFORE`](Self::HERE_BEFORE), or from there on the place among
    /// the sources.
    pub pieces: Vec<u16>,
}

impl Origins {
    /// It is not here yet.
    pub const MISSING: u16 = 0;
    /// It was here when the download began.
    pub const HERE_BEFORE: u16 = 1;
    /// It is of the first source.
    pub const FIRST: u16 = 2;
}

/// The download while it runs; when this is dropped, nobody is given its pieces any more.
pub struct Running {
    downloads: Downloads,
    content: ContentId,
    download: Arc<Download>,
}

impl Downloads {
    fn lock(&self) -> MutexGuard<'_, HashMap<ContentId, Option<Arc<Download>>>> {
        self.0.downloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that `content` will be downloaded: those who ask for its piece list may wait for it.
    pub fn expect(&self, content: ContentId) {
        self.lock().entry(content).or_default();
    }

    /// Takes such a note back.
    pub fn give_up(&self, content: &ContentId) {
        self.lock().remove(content);
        self.0.begun.notify_all();
    }

    /// Whether `content` is being downloaded and its piece list is not here yet.
    pub fn is_expected(&self, content: &ContentId) -> bool {
        matches!(self.lock().get(content), Some(None))
    }

    /// Waits until the piece list of `content` is here, its download is given up, or `patience` ends.
    pub fn wait_for(&self, content: &ContentId, patience: Duration) {
        let is_expected = |downloads: &mut HashMap<_, _>| matches!(downloads.get(content), Some(None));
        drop(self.0.begun.wait_timeout_while(self.lock(), patience, is_expected));
    }

    /// Begins to give on what is gained of `content`. `file` is read at the pieces' offsets, and
    /// `piece_list` is in binary form.
    pub fn begin(&self, content: ContentId, pieces: Pieces, piece_list: Vec<u8>, file: File) -> Running {
        let gained = Gained { from: vec![Origins::MISSING; pieces.count()], ..Gained::default() };
        let download = Download {
            pieces,
            piece_list,
            file,
            gained: Mutex::new(gained),
            news: Condvar::new(),
            is_known: AtomicBool::new(false),
        };
        let download = Arc::new(download);
        self.lock().insert(content, Some(Arc::clone(&download)));
        self.0.begun.notify_all();
        Running { downloads: self.clone(), content, download }
    }

    /// The download of `content`, if one is running.
    pub fn find(&self, content: &ContentId) -> Option<Arc<Download>> {
        self.lock().get(content).cloned().flatten()
    }
}

impl Download {
    fn lock(&self) -> MutexGuard<'_, Gained> {
        self.gained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a piece is verified and in the file, and who sent it; nobody, if it was here when this began.
    pub fn gain(&self, piece: PieceIndex, from: Option<&PeerId>) {
        let mut gained = self.lock();
        if gained.from[piece.get()] == Origins::MISSING {
            gained.from[piece.get()] = gained.number(from);
            gained.order.push(piece);
            // Most of the time nobody waits, and to wake nobody is a system call too.
            if gained.waiting > 0 {
                self.news.notify_all();
            }
        }
    }

    /// How the content is cut.
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// The piece list in binary form.
    pub fn piece_list(&self) -> &[u8] {
        &self.piece_list
    }

    /// The file; only what [`Download::holds`] says is in it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether all pieces that `range` touches are verified.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        let gained = self.lock();
        let first = range.start / self.pieces.length();
        let end = range.end.div_ceil(self.pieces.length());
        (first..end).all(|piece| gained.from.get(piece as usize).is_some_and(|from| *from != Origins::MISSING))
    }

    /// The pieces gained after the `n`-th, in the order in which they came, and how many there are
    /// in all. Everything, when fewer than `n` are here: whoever asks then knew another download.
    pub fn since(&self, n: usize) -> (Vec<PieceIndex>, usize) {
        self.is_known.store(true, Ordering::Relaxed);
        let gained = self.lock();
        let known = if n > gained.order.len() { 0 } else { n };
        (gained.order[known..].to_vec(), gained.order.len())
    }

    /// Where the pieces that are here came from.
    pub fn origins(&self) -> Origins {
        let gained = self.lock();
        Origins { sources: gained.sources.clone(), pieces: gained.from.clone() }
    }

    /// Whether somebody has asked what is here, and so downloads it too.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// How many pieces are here.
    pub fn count(&self) -> usize {
        self.lock().order.len()
    }

    /// Waits until there are more than `n` pieces, the download ends, or `patience` does.
    pub fn wait_beyond(&self, n: usize, patience: Duration) {
        let nothing_new = |gained: &mut Gained| gained.order.len() == n && !gained.is_over;
        let mut gained = self.lock();
        gained.waiting += 1;
        let waited = self.news.wait_timeout_while(gained, patience, nothing_new);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
    }
}

impl Gained {
    /// What stands for a source. There are never so many that the numbers end: each takes a connection.
    fn number(&mut self, from: Option<&PeerId>) -> u16 {
        let Some(peer) = from else { return Origins::HERE_BEFORE };
        let at = self.sources.iter().position(|source| source == peer).unwrap_or_else(|| {
            self.sources.push(peer.clone());
            self.sources.len() - 1
        });
        Origins::FIRST.saturating_add(u16::try_from(at).unwrap_or(u16::MAX))
    }
}

impl Deref for Running {
    type Target = Arc<Download>;

    fn deref(&self) -> &Arc<Download> {
        &self.download
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.downloads.lock().remove(&self.content);
        self.download.lock().is_over = true;
        self.download.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_verified_pieces_are_given_on_and_news_come_in_order() {
        let pieces = Pieces::of(100_000).unwrap();
        let id = ContentId::of(b"x");
        let downloads = Downloads::default();
        let running = downloads.begin(id, pieces, Vec::new(), File::open("/dev/null").unwrap());
        let index = |n| pieces.index(n).unwrap();
        let (one, other) = ("p1".parse().unwrap(), "p2".parse().unwrap());
        running.gain(index(2), Some(&one));
        running.gain(index(0), None);
        running.gain(index(2), Some(&other));
        let seen = downloads.find(&id).unwrap();
        assert!(seen.holds(&(0..10)) && seen.holds(&(65_536..98_304)) && seen.holds(&(0..32_768)));
        assert!(!seen.holds(&(0..32_769)) && !seen.holds(&(40_000..40_001)) && !seen.holds(&(98_304..100_000)));
        assert_eq!(seen.since(0), (vec![index(2), index(0)], 2));
        assert_eq!(seen.since(1), (vec![index(0)], 2));
        assert_eq!(seen.since(2), (vec![], 2));
        assert_eq!(seen.since(9), (vec![index(2), index(0)], 2));
        let pieces = vec![Origins::HERE_BEFORE, Origins::MISSING, Origins::FIRST, Origins::MISSING];
        assert_eq!(seen.origins(), Origins { sources: vec![one], pieces });
        let waiting = std::thread::spawn(move || seen.wait_beyond(2, Duration::from_secs(60)));
        drop(running);
        waiting.join().unwrap();
        assert!(downloads.find(&id).is_none());
    }
}
