//! The routes of a content, by its id: bytes, piece list, what is here, and what is fresh.

use std::{
    cell::Cell,
    fs::File,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    answer::Answer,
    door::{Leave, Promised},
    routes::{Asking, Outcome, Routes, not_allowed, plain, send},
};
use crate::{
    content::{ContentId, PieceIndex, Pieces},
    limits,
    peer::{
        share::{Entry, SharedFile},
        swarm::{fresh::Fresh, partial::Download},
    },
};

/// What is fetched by its content id never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

impl Routes {
    /// Answers for `/content/<rest>`.
    pub(super) fn content(&self, asking: &Asking, rest: &str, query: &str) -> Outcome {
        let (id, part) = rest.split_once('/').map_or((rest, None), |(id, part)| (id, Some(part)));
        let Ok(id) = id.parse::<ContentId>() else {
            return plain(Answer::problem(400, "A content id is 64 lower-case hex digits."));
        };
        match part {
            None => self.bytes(asking, &id),
            Some("pieces") => plain(self.piece_list(&id)),
            Some("have") => self.have(asking, &id, query),
            Some("fresh") if asking.is_get() => self.fresh(&id),
            Some("fresh") => not_allowed("GET"),
            Some(_) => plain(Answer::problem(404, "There is nothing here.")),
        }
    }

    /// A shared file with this content, open.
    fn whole(&self, id: &ContentId) -> Option<SharedFile> {
        self.share.read(&self.share.path_of(id)?.0)
    }

    fn bytes(&self, asking: &Asking, id: &ContentId) -> Outcome {
        let describe = |answer: Answer| {
            answer
                .with("Content-Type", "application/octet-stream")
                .with("Content-Disposition", "attachment")
                .with("Cache-Control", IMMUTABLE)
        };
        if let Some(file) = self.whole(id) {
            let entry = file.entry.clone();
            return send(asking, file, &entry, describe);
        }
        let Some(download) = self.downloads.find(id) else { return plain(absent()) };
        let entry = Entry { content: *id, size: download.pieces().size() };
        let (answer, leave) = send(asking, download.clone(), &entry, describe);
        match leave {
            Some(Leave::File(_, range)) if !download.holds(&range) => {
                plain(Answer::problem(404, "These pieces are not here yet.").with("Retry-After", "1"))
            }
            leave => (answer, leave),
        }
    }

    fn piece_list(&self, id: &ContentId) -> Answer {
        let partial = || self.downloads.find(id).map(|download| download.piece_list().to_vec());
        match self.share.piece_list(id).or_else(partial) {
            Some(list) => Answer::of(200, "application/octet-stream", list).with("Cache-Control", IMMUTABLE),
            None => absent(),
        }
    }

    /// Which pieces are here: their numbers, as 16 bits each, high byte first, in the order in which
    /// they were gained after the `since`-th; `Enjambre-Have` says how many there are of how many. A
    /// peer that holds all says `all`.
    fn have(&self, asking: &Asking, id: &ContentId, query: &str) -> Outcome {
        let have = |count: &str, numbers: Vec<u8>| {
            let answer = Answer::of(200, "application/octet-stream", numbers).with("Enjambre-Have", count);
            plain(answer.with("Cache-Control", "no-store"))
        };
        let since = match query.strip_prefix("since=").map(str::parse::<usize>) {
            None if query.is_empty() => 0,
            Some(Ok(since)) => since,
            _ => return plain(Answer::problem(400, "The parameter of have is since=NUMBER.")),
        };
        if self.share.path_of(id).is_some() {
            return have("all", Vec::new());
        }
        let Some(download) = self.downloads.find(id) else { return plain(absent()) };
        let (gained, count) = download.since(since);
        if gained.is_empty() && !asking.about.was_parked {
            let wait = move || download.wait_beyond(count, limits::NEWS_TIME);
            return (Answer::empty(200), Some(Leave::Park(Box::new(wait))));
        }
        // There are at most 8,192 pieces.
        let numbers = gained.iter().flat_map(|piece| (piece.get() as u16).to_be_bytes()).collect();
        have(&format!("{count}/{}", download.pieces().count()), numbers)
    }

    /// A piece that this seed has given to nobody yet; its number is in `Enjambre-Piece`.
    fn fresh(&self, id: &ContentId) -> Outcome {
        let Some(file) = self.whole(id) else { return plain(absent()) };
        let Some(pieces) = Pieces::of(file.entry.size) else { return plain(absent()) };
        let mut random = [0; 8];
        // Without randomness the choice is worse, and still right.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(piece) = fresh.give(id, &pieces, u64::from_ne_bytes(random)) else {
            return plain(Answer::empty(204).with("Cache-Control", "no-store"));
        };
        drop(fresh);
        let answer = Answer::empty(200)
            .with("Content-Type", "application/octet-stream")
            .with("Enjambre-Piece", piece.get().to_string())
            .with("Cache-Control", "no-store");
        let given = Given { file, content: *id, piece, fresh: Arc::clone(&self.fresh), is_sent: Cell::new(false) };
        (answer, Some(Leave::File(Box::new(given), pieces.range(piece))))
    }
}

fn absent() -> Answer {
    Answer::problem(404, "This peer does not hold this content.")
}

/// Verified pieces do not change; what is written are others.
impl Promised for Arc<Download> {
    fn file(&self) -> &File {
        Download::file(self)
    }

    fn is_unchanged(&self) -> bool {
        true
    }
}

/// A fresh piece on its way: it is fresh again unless it was sent whole.
struct Given {
    file: SharedFile,
    content: ContentId,
    piece: PieceIndex,
    fresh: Arc<Mutex<Fresh>>,
    is_sent: Cell<bool>,
}

impl Promised for Given {
    fn file(&self) -> &File {
        &self.file.file
    }

    fn is_unchanged(&self) -> bool {
        self.file.is_unchanged()
    }

    fn sent(&self) {
        self.is_sent.set(true);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.is_sent.get() {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            fresh.take_back(&self.content, self.piece);
        }
    }
}
