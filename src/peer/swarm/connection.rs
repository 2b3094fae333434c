//! A kept connection to one source, for one request after the other. What it answers is held to what
//! was asked, byte for byte; whether the bytes are true is for the caller to verify.
//!
//! A crowd asks for tens of thousands of pieces, and what a request costs beside its bytes decides how
//! many machines a small one can serve. So this is not ureq, but the little of HTTP/1.1 (RFC 9112) that
//! peers speak among themselves: a piece costs a tenth of what it did.

#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use super::fetch_error::FetchError;
use crate::{
    content::{ContentId, Pieces},
    limits,
    peer::throttle::Throttle,
    secret::Secret,
    tls::{Stream, Tls, is_timeout},
};

/// A connection to a source, opened when it is needed.
pub(super) struct Connection {
    source: SocketAddr,
    /// How long it may send nothing, or too little.
    patience: Duration,
    stream: Option<Stream>,
    /// How long a trip there and back takes: the shortest from a request to its answer, and until there is one, what it
    /// took to open the connection. What stands between, as a tunnel, may answer that by itself.
    trip: Duration,
    /// Pieces were asked for since it was opened, and their answer has begun.
    was_answered: bool,
    /// Others have to wait for their turn at the source, as of its last answer.
    is_busy: bool,
    /// The stream stands before a request: all of the last answer was read, and nothing behind it.
    is_ready: bool,
    /// What was received behind a head.
    buffer: Vec<u8>,
    /// Bytes a second in which bodies came lately, but for what the limit held up.
    pace: f64,
    limit: Option<Throttle>,
    /// What the limit has let go and is not here yet.
    granted: usize,
    secret: Option<Secret>,
    tls: Option<Tls>,
}

/// What a source tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It holds everything.
    Whole,
    /// It has gained these pieces since it was last asked, and has so many in all.
    Gained(Vec<usize>, usize),
}

/// The head of an answer, as far as it matters.
#[derive(Default)]
struct Head {
    status: u16,
    length: Option<u64>,
    content_range: Option<String>,
    have: Option<String>,
    news: Option<String>,
    pieces: Option<String>,
    /// The source closes the connection behind this answer.
    is_last: bool,
}

/// When a source is to tell what it has gained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// When that is something, or after a moment.
    News,
    /// At the asker's turn.
    Turn,
    /// When that is something, at the asker's turn.
    NewsThenTurn,
}

impl Connection {
    /// A connection to be, to a source that is left after so long without [`limits::SOURCE_MIN_BYTES`]
    /// from it. Bodies are read no faster than `limit`.
    pub(super) fn new(
        source: SocketAddr,
        patience: Duration,
        limit: Option<Throttle>,
        secret: Option<Secret>,
        tls: Option<Tls>,
    ) -> Self {
        let (stream, buffer) = (None, Vec::new());
        let (trip, was_answered, is_busy, is_ready, pace, granted) = (Duration::ZERO, false, false, false, 0.0, 0);
        Self {
            source,
            patience,
            stream,
            trip,
            was_answered,
            is_busy,
            is_ready,
            buffer,
            pace,
            limit,
            granted,
            secret,
            tls,
        }
    }

    /// The bytes of `range` of a content that has `size` bytes in all, and what the source has gained
    /// since its `since`-th piece, where it tells. The range is not empty.
    ///
    /// # Errors
    /// When the source does not answer with exactly that range.
    pub(super) fn content(
        &mut self,
        id: &ContentId,
        range: &Range<u64>,
        size: u64,
        since: usize,
    ) -> Result<(Body<'_>, Option<News>), FetchError> {
        let last = range.end - 1;
        let line = format!("range: bytes={}-{last}\r\n", range.start);
        let began = Instant::now();
        let head = self.ask(&format!("/content/{id}?since={since}"), &line)?;
        self.answered(began.elapsed());
        if head.status != 206 {
            return Err(self.refused(&head));
        }
        let expected = format!("bytes {}-{last}/{size}", range.start);
        if head.content_range.as_ref() != Some(&expected) {
            return Err(FetchError::OtherRange(match head.content_range {
                Some(got) => format!("{got:?} for {expected:?}"),
                None => format!("no Content-Range for {expected:?}"),
            }));
        }
        let have = head.have.as_deref();
        let at_busy = have.and_then(|have| have.strip_suffix("; busy"));
        self.is_busy = at_busy.is_some();
        let news = match at_busy.or(have) {
            Some("all") => Some(News::Whole),
            Some(have) => {
                let numbers = head.news.as_deref().unwrap_or_default();
                let numbers = numbers.split(',').filter(|number| !number.is_empty());
                let pieces = numbers.map(|number| number.parse().ok()).collect::<Option<Vec<usize>>>();
                pieces.zip(count(have)).map(|(pieces, count)| News::Gained(pieces, count))
            }
            None => None,
        };
        Ok((self.body(&head, range.end - range.start)?, news))
    }

    fn answered(&mut self, took: Duration) {
        self.trip = if std::mem::replace(&mut self.was_answered, true) { self.trip.min(took) } else { took };
    }

    /// How long a trip there and back takes; nothing before the first.
    pub(super) fn trip(&self) -> Duration {
        self.trip
    }

    /// Whether the source's last answer said that others have to wait for their turn.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// What a source has gained since its `since`-th piece, when it is time.
    ///
    /// # Errors
    /// When it does not answer, or not in the form it should.
    pub(super) fn have(&mut self, id: &ContentId, since: usize, when: When) -> Result<News, FetchError> {
        let when = match when {
            When::News => "",
            When::Turn => "&turn",
            When::NewsThenTurn => "&then-turn",
        };
        let head = self.ask(&format!("/content/{id}/have?since={since}{when}"), "")?;
        if head.status != 200 {
            return Err(self.refused(&head));
        }
        let Some(length @ 0..=NEWS_BYTES) = head.length else {
            return Err(FetchError::OtherRange("a have-map of wrong length".into()));
        };
        let mut numbers = vec![0; length as usize];
        self.body(&head, length)?.fill(&mut numbers)?;
        match (head.have.as_deref(), numbers.as_chunks::<2>()) {
            (Some("all"), ([], [])) => Ok(News::Whole),
            (Some(have), (numbers, [])) if let Some(count) = count(have) => {
                Ok(News::Gained(numbers.iter().map(|number| u16::from_be_bytes(*number).into()).collect(), count))
            }
            _ => Err(FetchError::OtherRange("a have-map of wrong length".into())),
        }
    }

    /// Adjacent pieces, out of one of `runs` of a content cut as `pieces`, that a seed has given to nobody
    /// lately, with their numbers; none when it has given all of them.
    ///
    /// # Errors
    /// When the seed does not answer with whole pieces out of one run.
    pub(super) fn fresh(
        &mut self,
        id: &ContentId,
        pieces: &Pieces,
        runs: &[Range<usize>],
    ) -> Result<Option<(Range<usize>, Body<'_>)>, FetchError> {
        let of: Vec<_> = runs.iter().map(|run| format!("{}-{}", run.start, run.end - 1)).collect();
        let (of, turn) = (of.join(","), if self.trip <= limits::TURN_TRIP { "&turn" } else { "" });
        let head = self.ask(&format!("/content/{id}/fresh?of={of}{turn}"), "")?;
        match head.status {
            // None of them is fresh, or it leaves the choice to others.
            204 | 404 | 405 | 501 => {
                self.skip(&head);
                return Ok(None);
            }
            200 => {}
            _ => return Err(self.refused(&head)),
        }
        let numbers = head.pieces.as_deref().and_then(|numbers| numbers.split_once('-'));
        let number = |text: &str| text.parse().ok().and_then(|number| pieces.index(number));
        match numbers.and_then(|(first, last)| number(first).zip(number(last))) {
            Some((first, last))
                if first <= last && runs.iter().any(|run| run.start <= first.get() && last.get() < run.end) =>
            {
                let bytes = pieces.range(last).end - pieces.range(first).start;
                Ok(Some((first.get()..last.get() + 1, self.body(&head, bytes)?)))
            }
            _ => Err(FetchError::OtherRange("other pieces than were asked for".into())),
        }
    }

    /// Sends a request and receives the head of its answer.
    fn ask(&mut self, target: &str, lines: &str) -> Result<Head, FetchError> {
        self.is_busy = false;
        let mut request = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n{lines}", self.source);
        if let Some(secret) = &self.secret {
            request.extend(["authorization: ", secret.bearer(), "\r\n"]);
        }
        request.push_str("\r\n");
        if std::mem::take(&mut self.is_ready) {
            match self.exchange(&request) {
                // The source may close a connection that is idle, and then has not seen the request.
                Err(FetchError::Broken(_)) if self.buffer.is_empty() => {}
                result => return result,
            }
        }
        let time = limits::SOURCE_CONNECT_TIME.min(self.patience);
        let began = Instant::now();
        let stream = Stream::connect(&self.source, time, self.patience, self.tls.as_ref());
        self.stream = Some(stream.map_err(FetchError::connecting)?);
        (self.trip, self.was_answered) = (began.elapsed(), false);
        self.exchange(&request)
    }

    fn exchange(&mut self, request: &str) -> Result<Head, FetchError> {
        self.buffer.clear();
        let patience = self.patience;
        let stream = self.stream()?;
        stream.set_patience(patience);
        stream.write_all(request.as_bytes())?;
        let deadline = Instant::now() + patience;
        let mut block = [0; 2048];
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(FetchError::Slow);
            }
            if !self.buffer.is_empty() {
                self.stream()?.set_patience(rest);
            }
            match self.stream()?.read(&mut block) {
                Ok(0) => return Err(FetchError::Broken("it closed the connection".into())),
                Ok(read) => self.buffer.extend_from_slice(&block[..read]),
                Err(error) => return Err(error.into()),
            }
            // An interim answer comes before the one that counts (RFC 9110 section 15.2).
            while let Some((end, head)) = parse(&self.buffer)? {
                self.buffer.drain(..end);
                if head.status >= 200 {
                    return Ok(head);
                }
            }
            if self.buffer.len() > limits::SOURCE_HEAD_BYTES {
                return Err(FetchError::Broken("the head of its answer is too long".into()));
            }
        }
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// The body of an answer, which must have `length` bytes.
    fn body(&mut self, head: &Head, length: u64) -> Result<Body<'_>, FetchError> {
        match head.length {
            Some(told) if told == length => {}
            Some(told) => return Err(FetchError::OtherRange(format!("{told} bytes for {length}"))),
            None => return Err(FetchError::OtherRange(format!("no length for {length}"))),
        }
        let pace = Pace::new(self.patience);
        let mut body = Body { connection: self, missing: length, is_last: head.is_last, pace };
        body.end();
        Ok(body)
    }

    /// Waits until the limit lets some of `wanted` bytes go: how many, and how long that took.
    fn grant(&mut self, wanted: usize) -> (usize, Duration) {
        let Some(limit) = &self.limit else { return (wanted, Duration::ZERO) };
        let mut waited = Duration::ZERO;
        if self.granted == 0 {
            self.granted = wanted.min(limit.portion());
            waited = limit.wait(self.granted);
        }
        (wanted.min(self.granted), waited)
    }

    /// The error for an answer of another status; a short body is read, so that the connection is kept.
    fn refused(&mut self, head: &Head) -> FetchError {
        self.skip(head);
        FetchError::Status(head.status)
    }

    fn skip(&mut self, head: &Head) {
        let mut block = [0; 1024];
        if let Some(length @ 0..=1024) = head.length {
            // What goes wrong here, the next request finds out.
            let _ = self.body(head, length).and_then(|mut body| body.fill(&mut block[..length as usize]));
        }
    }
}

/// A body of a known length, of which no byte more is read.
pub(super) struct Body<'a> {
    connection: &'a mut Connection,
    missing: u64,
    is_last: bool,
    pace: Pace,
}

impl Body<'_> {
    /// Fills `block`, which is no longer than what is missing.
    ///
    /// # Errors
    /// When the source stalls, drips or ends early.
    pub(super) fn fill(&mut self, block: &mut [u8]) -> Result<(), FetchError> {
        let mut filled = self.connection.buffer.len().min(block.len());
        block[..filled].copy_from_slice(&self.connection.buffer[..filled]);
        self.connection.buffer.drain(..filled);
        if let Some(limit) = &self.connection.limit {
            // It came with the head, and counts as the rest does.
            limit.wait(filled);
        }
        let (began, first) = (Instant::now(), filled);
        let mut held_up = Duration::ZERO;
        while filled < block.len() {
            let (room, waited) = self.connection.grant(block.len() - filled);
            held_up += waited;
            let asked = Instant::now();
            self.doze(room);
            let stream = self.connection.stream()?;
            stream.set_patience(self.pace.rest());
            match stream.read(&mut block[filled..filled + room]) {
                Ok(0) => return Err(self.cut_short(filled)),
                Ok(read) => {
                    filled += read;
                    self.connection.granted = self.connection.granted.saturating_sub(read);
                    self.pace.step(read as u64, asked.elapsed())?;
                }
                Err(error) if is_timeout(&error) => self.pace.step(0, asked.elapsed())?,
                // Under TLS, an end that the source did not announce.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(self.cut_short(filled)),
                Err(error) => return Err(error.into()),
            }
        }
        if filled > first {
            let pace = (filled - first) as f64 / began.elapsed().saturating_sub(held_up).as_secs_f64().max(1e-6);
            let before = &mut self.connection.pace;
            *before = if *before == 0.0 { pace } else { *before * 0.7 + pace * 0.3 };
        }
        self.missing -= filled as u64;
        self.end();
        Ok(())
    }

    fn cut_short(&self, filled: usize) -> FetchError {
        FetchError::Short { missing: self.missing - filled as u64 }
    }

    /// Sleeps for most of the time in which `left` bytes will come, by the pace of late, where that is
    /// long: being woken by each packet of a slow source costs more than all else that is done with it.
    fn doze(&self, left: usize) {
        let most = left as f64 / self.connection.pace * 0.85;
        if most.is_finite() && most > limits::DOZE_TIME.start.as_secs_f64() {
            thread::sleep(Duration::from_secs_f64(most.min(limits::DOZE_TIME.end.as_secs_f64())));
        }
    }

    /// After the last byte the connection stands before the next request.
    fn end(&mut self) {
        self.connection.is_ready = self.missing == 0 && !self.is_last && self.connection.buffer.is_empty();
    }
}

/// The longest answer to [`Connection::have`].
const NEWS_BYTES: u64 = 2 * limits::PIECES as u64;

/// The head of an answer and where it ends, once it is whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Head)>, FetchError> {
    let not_http = |_| FetchError::Broken("its answer is not HTTP".into());
    let mut lines = [httparse::EMPTY_HEADER; limits::HEAD_LINES];
    let mut response = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(end) = response.parse(bytes).map_err(|error| not_http(error.to_string()))? else {
        return Ok(None);
    };
    let mut head = Head { status: response.code.unwrap_or_default(), ..Head::default() };
    head.is_last = response.version != Some(1);
    for line in response.headers {
        let value = || str::from_utf8(line.value).map(str::to_owned).map_err(|error| not_http(error.to_string()));
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = value()?.parse().map_err(|_| not_http(String::new()))?;
            // Said twice, it must be the same (RFC 9112 section 6.3).
            if head.length.replace(length).is_some_and(|before| before != length) {
                return Err(not_http(String::new()));
            }
        } else if is("transfer-encoding") {
            return Err(FetchError::OtherRange("a length that is not told before it ends".into()));
        } else if is("connection") {
            head.is_last |= value()?.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
        } else if is("content-range") {
            head.content_range = Some(value()?);
        } else if is("enjambre-have") {
            head.have = Some(value()?);
        } else if is("enjambre-news") {
            head.news = Some(value()?);
        } else if is("enjambre-pieces") {
            head.pieces = Some(value()?);
        }
    }
    if head.status == 204 {
        // It has no body and says nothing of its length (RFC 9110 section 8.6).
        head.length = Some(0);
    }
    Ok(Some((end, head)))
}

/// The number of `17/2048`.
fn count(have: &str) -> Option<usize> {
    have.split_once('/')?.0.parse().ok()
}

/// How much a source brings in the time that was spent waiting for it.
pub(super) struct Pace {
    patience: Duration,
    waited: Duration,
    bytes: u64,
    /// Since the last byte came.
    silent: Duration,
}

impl Pace {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0, silent: Duration::ZERO }
    }

    /// How long a read may wait now, in tenths of the patience: to tell the system for every read costs more.
    fn rest(&self) -> Duration {
        let tenths = self.waited.max(self.silent).as_micros() * 10 / self.patience.as_micros().max(1);
        self.patience * 10_u32.saturating_sub(tenths as u32) / 10
    }

    /// So many bytes more have come in such a time.
    ///
    /// # Errors
    /// When they are too few.
    pub(super) fn step(&mut self, bytes: u64, waited: Duration) -> Result<(), FetchError> {
        self.waited += waited;
        self.bytes += bytes;
        self.silent = if bytes > 0 { Duration::ZERO } else { self.silent + waited };
        if self.silent >= self.patience {
            return Err(FetchError::Slow);
        }
        if self.waited >= self.patience {
            if self.bytes < limits::SOURCE_MIN_BYTES {
                return Err(FetchError::Slow);
            }
            *self = Self { silent: self.silent, ..Self::new(self.patience) };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drip_is_too_slow_and_a_slow_link_is_not() {
        let patience = Duration::from_secs(10);
        let second = Duration::from_secs(1);
        let mut drip = Pace::new(patience);
        assert!((0..9).all(|_| drip.step(1, second).is_ok()));
        assert_eq!(drip.rest(), second, "the last read waits no longer than is left");
        assert!(drip.step(1, second).is_err());
        let mut slow = Pace::new(patience);
        assert!((0..60).all(|_| slow.step(limits::SOURCE_MIN_BYTES.div_ceil(10), second).is_ok()));
        // Much that has come before makes a silence no longer.
        assert!(slow.step(1 << 20, 4 * second).is_ok() && slow.step(0, 6 * second).is_ok());
        assert_eq!(slow.rest(), 4 * second);
        assert!(slow.step(0, 4 * second).is_err());
    }
}
