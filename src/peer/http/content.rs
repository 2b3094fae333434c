//! The routes of a content, by its id: bytes, piece list, what is here, and what is fresh.

use std::{
    cell::Cell,
    fs::File,
    num::ParseIntError,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::{
    answer::Answer,
    door::{About, Leave, Promised},
    routes::{Asking, Outcome, Routes, plain, send},
};
use crate::{
    content::{ContentId, Pieces},
    limits,
    peer::{
        share::{Entry, SharedFile},
        swarm::{fresh::Fresh, partial::Download},
    },
};

/// What is fetched by its content id never changes. Not `public`: then a cache would give what was fetched
/// with the swarm's secret to those without it (RFC 9111 section 3.5).
const IMMUTABLE: &str = "max-age=31536000, immutable";

/// What a peer that asks for news has no use for: half of the head, two thirds of a percent of all bytes.
/// `nosniff` stays: with it alone, a page cannot be made to run a content as a script.
const NOT_FOR_PEERS: [&str; 4] = ["ETag", "Accept-Ranges", "Content-Disposition", "Content-Type"];

/// And of a range also this: a script is never asked for by ranges, and whatever a cache would keep of such an answer are
/// true bytes, with fewer news than there are.
const NOT_FOR_RANGES: [&str; 2] = ["X-Content-Type-Options", "Cache-Control"];

impl Routes {
    /// Answers for `/content/<rest>`.
    pub(super) fn content(&self, asking: &Asking, rest: &str, query: &str) -> Outcome {
        let (id, part) = rest.split_once('/').map_or((rest, None), |(id, part)| (id, Some(part)));
        let (id, is_metalink) = match (id.strip_suffix(".meta4"), part) {
            (Some(id), None) => (id, true),
            _ => (id, false),
        };
        let Ok(id) = id.parse::<ContentId>() else {
            return plain(Answer::problem(400, "A content id is 64 lower-case hex digits."));
        };
        let at_turn = !asking.about.was_parked && self.queue.end(asking.about.connection);
        match part {
            None if is_metalink => self.metalink(asking, &id),
            None => self.bytes(asking, &id, query, at_turn),
            Some("pieces") => self.piece_list(asking, &id),
            Some("have") => self.have(asking, &id, query),
            Some("fresh") if asking.is_get() => self.fresh_pieces(asking, &id, query),
            Some("fresh") => self.not_allowed(asking.method, "GET"),
            Some(_) => plain(Answer::problem(404, "There is nothing here.")),
        }
    }

    /// The bytes. With `since`, the answer also tells what this peer has gained since its n-th piece:
    /// `Enjambre-Have` as below, and the numbers in `Enjambre-News`; `busy` where whoever would ask for more has to wait for
    /// its turn.
    fn bytes(&self, asking: &Asking, id: &ContentId, query: &str, at_turn: bool) -> Outcome {
        let Ok(since) = parameter(query, "since") else {
            return plain(Answer::problem(400, "The parameter of a content is since=NUMBER."));
        };
        // News are of this moment.
        let cache = if since.is_some() { "no-store" } else { IMMUTABLE };
        let describe = |answer: Answer| {
            answer
                .with("Content-Type", "application/octet-stream")
                .with("Content-Disposition", "attachment")
                .with("Cache-Control", cache)
        };
        if let Some(file) = self.share.whole(id) {
            let entry = file.entry.clone();
            let describe = |answer: Answer| match since {
                None => describe(answer),
                Some(_) => describe(answer).with("Enjambre-Have", "all"),
            };
            let (answer, leave) = send(asking, file, &entry, describe);
            if let (Some(_), Some(Leave::File(_, range)), Some(cut)) = (since, &leave, Pieces::of(entry.size)) {
                let run = (range.start / cut.length()) as usize..range.end.div_ceil(cut.length()) as usize;
                self.fresh().note(id, cut.count(), run, self.began.elapsed());
                self.queue.send(asking.about.connection, at_turn);
            }
            return (if since.is_some() { for_a_peer(answer) } else { answer }, leave);
        }
        let Some(download) = self.downloads.find(id) else { return plain(absent()) };
        let entry = Entry { content: *id, size: download.pieces().size() };
        let (answer, leave) = send(asking, download.clone(), &entry, describe);
        match leave {
            Some(Leave::File(_, range)) if !download.holds(&range) => {
                plain(Answer::problem(404, "These pieces are not here yet.").with("Retry-After", "1"))
            }
            leave => {
                let Some(since) = since else { return (answer, leave) };
                let (gained, count) = download.since(since);
                let news: Vec<_> =
                    gained.iter().take(limits::NEWS_PIECES).map(|piece| piece.get().to_string()).collect();
                let told = count - (gained.len() - news.len());
                let is_busy = leave.is_some() && asking.is_get() && self.queue.send(asking.about.connection, at_turn);
                let busy = if is_busy { "; busy" } else { "" };
                let answer = for_a_peer(answer)
                    .with("Enjambre-Have", format!("{told}/{}{busy}", download.pieces().count()))
                    .with("Enjambre-News", news.join(","));
                (answer, leave)
            }
        }
    }

    /// The piece list; of a download that has none yet, after a moment.
    fn piece_list(&self, asking: &Asking, id: &ContentId) -> Outcome {
        let partial = || self.downloads.find(id).map(|download| download.piece_list().to_vec());
        match self.share.piece_list(id).or_else(partial) {
            Some(list) => plain(Answer::of(200, "application/octet-stream", list).with("Cache-Control", IMMUTABLE)),
            None if self.downloads.is_expected(id) && !asking.about.was_parked => self.wait_for_list(id),
            None => plain(absent()),
        }
    }

    /// Has the request asked again when a download that has just begun has its piece list.
    fn wait_for_list(&self, id: &ContentId) -> Outcome {
        let (downloads, id) = (self.downloads.clone(), *id);
        let wait = move || downloads.wait_for(&id, limits::NEWS_TIME);
        (Answer::empty(200), Some(Leave::Park(Box::new(wait))))
    }

    /// Which pieces are here: their numbers, as 16 bits each, high byte first, in the order in which
    /// they were gained after the `since`-th; `Enjambre-Have` says how many there are of how many. A
    /// peer that holds all says `all`. It waits a moment for news; with `turn` it comes at the asker's turn, with or without
    /// news; and with `then-turn`, when there are news and it is its turn.
    fn have(&self, asking: &Asking, id: &ContentId, query: &str) -> Outcome {
        let have = |count: &str, numbers: Vec<u8>| {
            let answer = Answer::of(200, "application/octet-stream", numbers).without(&NOT_FOR_PEERS);
            plain(answer.with("Enjambre-Have", count).with("Cache-Control", "no-store"))
        };
        let (query, is_turn) = flag(query, "&turn");
        let (query, is_then_turn) = flag(query, "&then-turn");
        let Ok(since) = parameter(query, "since") else {
            return plain(Answer::problem(400, "The parameters of have are since=NUMBER and then turn or then-turn."));
        };
        if self.share.has(id) {
            return have("all", Vec::new());
        }
        let Some(download) = self.downloads.find(id) else {
            return match (self.downloads.is_expected(id), asking.about.was_parked) {
                (true, false) => self.wait_for_list(id),
                (true, true) => have("0/0", Vec::new()),
                (false, _) => plain(absent()),
            };
        };
        let (gained, count) = download.since(since.unwrap_or(0));
        let is_news = is_turn || !gained.is_empty();
        if is_news
            && (is_turn || is_then_turn)
            && let Some(wait) = self.wait_for_turn(asking, limits::TURNS)
        {
            return wait;
        }
        if !is_news && !asking.about.was_parked {
            let (asked, connection) = (Instant::now(), asking.about.connection);
            let queue = is_then_turn.then(|| Arc::clone(&self.queue));
            let wait = move || {
                download.wait_beyond(count, limits::NEWS_TIME);
                // One piece seldom comes alone, and an answer costs more than a moment. Whoever has waited for longer has
                // nothing else to do.
                thread::sleep(limits::NEWS_BATCH_TIME.saturating_sub(asked.elapsed()));
                if let Some(queue) = queue {
                    queue.take(connection, limits::TURNS);
                }
            };
            return (Answer::empty(200), Some(Leave::Park(Box::new(wait))));
        }
        // There are at most 8,192 pieces.
        let numbers = gained.iter().flat_map(|piece| (piece.get() as u16).to_be_bytes()).collect();
        have(&format!("{count}/{}", download.pieces().count()), numbers)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn of at most so many, or has the request asked again with one.
    fn wait_for_turn(&self, asking: &Asking, most: usize) -> Option<Outcome> {
        let About { connection, was_parked, .. } = asking.about;
        if was_parked || self.queue.try_take(connection, most) {
            return None;
        }
        let queue = Arc::clone(&self.queue);
        Some((Answer::empty(200), Some(Leave::Park(Box::new(move || queue.take(connection, most))))))
    }

    /// Adjacent pieces out of one of the runs `of`, which this seed has given to nobody lately; their
    /// numbers are in `Enjambre-Pieces`, first and last. With `turn`, at the asker's turn.
    fn fresh_pieces(&self, asking: &Asking, id: &ContentId, query: &str) -> Outcome {
        let Some(file) = self.share.whole(id) else { return plain(absent()) };
        let Some(cut) = Pieces::of(file.entry.size) else { return plain(absent()) };
        let (query, is_turn) = flag(query, "&turn");
        let Some(runs) = runs(query, &cut) else {
            let most = limits::FRESH_RUNS;
            let sentence =
                format!("The parameters of fresh are of=FIRST-LAST, up to {most} of them with commas, and turn.");
            return plain(Answer::problem(400, &sentence));
        };
        if is_turn && let Some(wait) = self.wait_for_turn(asking, limits::FRESH_TURNS) {
            return wait;
        }
        let connection = asking.about.connection;
        let given = self.fresh().give(id, cut.count(), &runs, self.began.elapsed());
        let Some(pieces) = given else {
            self.queue.end(connection);
            return plain(Answer::empty(204).with("Cache-Control", "no-store"));
        };
        if is_turn {
            self.queue.send(connection, true);
        }
        let ends = cut.index(pieces.start).zip(cut.index(pieces.end - 1));
        let Some((first, last)) = ends else { return plain(absent()) };
        let answer = Answer::empty(200)
            .with("X-Content-Type-Options", "nosniff")
            .with("Enjambre-Pieces", format!("{}-{}", pieces.start, pieces.end - 1))
            .with("Cache-Control", "no-store");
        let bytes = cut.range(first).start..cut.range(last).end;
        let given = Given { file, content: *id, pieces, fresh: Arc::clone(&self.fresh), is_sent: Cell::new(false) };
        (answer, Some(Leave::File(Box::new(given), bytes)))
    }
}

/// The runs of pieces in `of=3-7,20-20`; none where that is not what a query is.
fn runs(query: &str, cut: &Pieces) -> Option<Vec<Range<usize>>> {
    let run = |run: &str| {
        let (first, last) = run.split_once('-')?;
        let (first, last) = (cut.index(first.parse().ok()?)?.get(), cut.index(last.parse().ok()?)?.get());
        (first <= last).then_some(first..last + 1)
    };
    let runs = query.strip_prefix("of=")?.split(',').take(limits::FRESH_RUNS + 1).map(run);
    runs.collect::<Option<Vec<_>>>().filter(|runs| runs.len() <= limits::FRESH_RUNS)
}

/// A query without a flag at its end, and whether that is there.
fn flag<'a>(query: &'a str, flag: &str) -> (&'a str, bool) {
    query.strip_suffix(flag).map_or((query, false), |query| (query, true))
}

/// Without what peers have no use for.
fn for_a_peer(answer: Answer) -> Answer {
    let answer = answer.without(&NOT_FOR_PEERS);
    if answer.status == 206 { answer.without(&NOT_FOR_RANGES) } else { answer }
}

/// The one number that a route takes as parameter.
fn parameter(query: &str, name: &str) -> Result<Option<usize>, ParseIntError> {
    match query.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
        None if query.is_empty() => Ok(None),
        value => value.unwrap_or("none").parse().map(Some),
    }
}

pub(super) fn absent() -> Answer {
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

/// Fresh pieces on their way: they are fresh again unless they were sent whole.
struct Given {
    file: SharedFile,
    content: ContentId,
    pieces: Range<usize>,
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
            fresh.take_back(&self.content, self.pieces.clone());
        }
    }
}
