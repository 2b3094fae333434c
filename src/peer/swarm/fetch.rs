//! One source over HTTP: the only ureq code. What it answers is held to what was asked, byte for
//! byte; whether the bytes are true is for the caller to verify.

use std::{
    fmt,
    io::{self, Read},
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use ureq::{Agent, Body, Timeout, http::Response};

use crate::{
    content::{ContentId, Pieces},
    limits,
};

/// A client for sources. Connections are kept for the next request until the last clone is dropped.
#[derive(Clone)]
pub struct Fetcher {
    agent: Agent,
    /// How long a source may send nothing, or too little.
    patience: Duration,
}

/// What a source tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It holds everything.
    Whole,
    /// It has gained these pieces since it was last asked, and has so many in all.
    Gained(Vec<usize>, usize),
}

/// What went wrong with a source; shown as the end of a sentence that begins with its name.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// It cannot be reached.
    Connect(String),
    /// Its answer has another status than the one that belongs there.
    Status(u16),
    /// Its answer is of another range or length than was asked; what it said.
    OtherRange(String),
    /// It ended the answer before its end.
    Short {
        /// Bytes that were still to come.
        missing: u64,
    },
    /// It sent nothing, or too little, for [`limits::SOURCE_STALL_TIME`].
    Slow,
    /// Something else about the connection or the answer.
    Broken(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(reason) => write!(f, "cannot be reached: {reason}"),
            Self::Status(status @ (404 | 410)) => write!(f, "does not have it (status {status})"),
            Self::Status(503) => f.write_str("is busy, or still hashing it (status 503)"),
            Self::Status(status) => write!(f, "answers with status {status}"),
            Self::OtherRange(what) => write!(f, "sends another range than was asked ({what})"),
            Self::Short { missing } => write!(f, "ended {missing} bytes too early"),
            Self::Slow => f.write_str("stalls: it sent nothing, or too little, for too long"),
            Self::Broken(reason) => write!(f, "broke off: {reason}"),
        }
    }
}

impl std::error::Error for FetchError {}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new(limits::SOURCE_STALL_TIME)
    }
}

impl Fetcher {
    /// A client that leaves a source after so long without [`limits::SOURCE_MIN_BYTES`] from it.
    pub fn new(patience: Duration) -> Self {
        let config = Agent::config_builder()
            // From the environment otherwise; bytes between peers go straight.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("enjambre/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(limits::SOURCE_HEAD_BYTES)
            .max_idle_connections(limits::SOURCE_CONNECTIONS)
            .max_idle_connections_per_host(limits::SOURCE_DEPTH)
            .input_buffer_size(limits::BLOCK_BYTES)
            .output_buffer_size(limits::SOURCE_HEAD_BYTES)
            .timeout_connect(Some(limits::SOURCE_CONNECT_TIME))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .build();
        Self { agent: config.into(), patience }
    }

    /// The piece list of a content in binary form, which must have `length` bytes.
    ///
    /// # Errors
    /// When the source does not answer with exactly that.
    pub fn piece_list(&self, source: SocketAddr, id: &ContentId, length: usize) -> Result<Vec<u8>, FetchError> {
        let response = self.agent.get(format!("http://{source}/content/{id}/pieces")).call();
        let response = response.map_err(FetchError::from)?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = Exactly::new(response, length as u64, self.patience)?;
        let mut list = vec![0; length];
        let mut filled = 0;
        while filled < length {
            filled += body.fill(&mut list[filled..])?;
        }
        Ok(list)
    }

    /// The bytes of `range` of a content that has `size` bytes in all, and what the source has gained
    /// since its `since`-th piece, where it tells. The range is not empty.
    ///
    /// # Errors
    /// When the source does not answer with exactly that range.
    pub fn content(
        &self,
        source: SocketAddr,
        id: &ContentId,
        range: &Range<u64>,
        size: u64,
        since: usize,
    ) -> Result<(Exactly, Option<News>), FetchError> {
        let last = range.end - 1;
        let request = self.agent.get(format!("http://{source}/content/{id}?since={since}"));
        let response = request.header("range", format!("bytes={}-{last}", range.start)).call()?;
        if response.status() != 206 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let expected = format!("bytes {}-{last}/{size}", range.start);
        let got = header(&response, "content-range");
        if got != Some(&expected) {
            return Err(FetchError::OtherRange(match got {
                Some(got) => format!("{got:?} for {expected:?}"),
                None => format!("no Content-Range for {expected:?}"),
            }));
        }
        let news = match header(&response, "enjambre-have") {
            Some("all") => Some(News::Whole),
            Some(have) => {
                let numbers = header(&response, "enjambre-news").unwrap_or_default();
                let numbers = numbers.split(',').filter(|number| !number.is_empty());
                let pieces = numbers.map(|number| number.parse().ok()).collect::<Option<Vec<usize>>>();
                pieces.zip(count(have)).map(|(pieces, count)| News::Gained(pieces, count))
            }
            None => None,
        };
        Ok((Exactly::new(response, range.end - range.start, self.patience)?, news))
    }

    /// What a source has gained since its `since`-th piece; it takes a moment when that is nothing.
    ///
    /// # Errors
    /// When it does not answer, or not in the form it should.
    pub fn have(&self, source: SocketAddr, id: &ContentId, since: usize) -> Result<News, FetchError> {
        let response = self.agent.get(format!("http://{source}/content/{id}/have?since={since}")).call()?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let have = match header(&response, "enjambre-have") {
            Some("all") => None,
            Some(have) => Some(count(have)),
            None => Some(None),
        };
        let length = header(&response, "content-length").and_then(|length| length.parse().ok());
        let Some(length @ 0..=NEWS_BYTES) = length else {
            return Err(FetchError::OtherRange("a have-map of wrong length".into()));
        };
        let mut body = Exactly::new(response, length as u64, self.patience)?;
        let mut numbers = vec![0; length];
        while body.missing > 0 {
            let at = length - body.missing as usize;
            body.fill(&mut numbers[at..])?;
        }
        body.end();
        match (have, numbers.as_chunks::<2>()) {
            (None, ([], [])) => Ok(News::Whole),
            (Some(Some(count)), (numbers, [])) => {
                Ok(News::Gained(numbers.iter().map(|number| u16::from_be_bytes(*number).into()).collect(), count))
            }
            _ => Err(FetchError::OtherRange("a have-map of wrong length".into())),
        }
    }

    /// At most `most` adjacent pieces of a content cut as `pieces` that a seed has given to nobody
    /// yet, with their numbers; none when all are out.
    ///
    /// # Errors
    /// When the seed does not answer with whole pieces.
    pub fn fresh(
        &self,
        source: SocketAddr,
        id: &ContentId,
        pieces: &Pieces,
        most: usize,
    ) -> Result<Option<(Range<usize>, Exactly)>, FetchError> {
        let response = self.agent.get(format!("http://{source}/content/{id}/fresh?most={most}")).call()?;
        match response.status().as_u16() {
            // All are out, or it leaves the choice to others.
            204 | 404 | 405 | 501 => return Ok(None),
            200 => {}
            status => return Err(FetchError::Status(status)),
        }
        let numbers = header(&response, "enjambre-pieces").and_then(|numbers| numbers.split_once('-'));
        let number = |text: &str| text.parse().ok().and_then(|number| pieces.index(number));
        let run = numbers.and_then(|(first, last)| number(first).zip(number(last)));
        match run {
            Some((first, last)) if first <= last && last.get() - first.get() < most => {
                let bytes = pieces.range(last).end - pieces.range(first).start;
                Ok(Some((first.get()..last.get() + 1, Exactly::new(response, bytes, self.patience)?)))
            }
            _ => Err(FetchError::OtherRange("fresh pieces without their numbers".into())),
        }
    }
}

/// The longest answer to [`Fetcher::have`].
const NEWS_BYTES: usize = 2 * limits::PIECES;

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The first number of `17/2048`.
fn count(have: &str) -> Option<usize> {
    have.split_once('/')?.0.parse().ok()
}

/// A body of a known length, of which no byte more is read.
pub struct Exactly {
    body: ureq::BodyReader<'static>,
    missing: u64,
    pace: Pace,
    /// What happened behind the bytes given out last.
    failed: Option<FetchError>,
}

impl Exactly {
    fn new(response: Response<Body>, length: u64, patience: Duration) -> Result<Self, FetchError> {
        let got = header(&response, "content-length");
        if got.and_then(|got| got.parse().ok()) != Some(length) {
            let got = got.unwrap_or("no length");
            return Err(FetchError::OtherRange(format!("{got:?} bytes for {length}")));
        }
        Ok(Self { body: response.into_body().into_reader(), missing: length, pace: Pace::new(patience), failed: None })
    }

    /// Reads until `block` is full or the body has ended; the number of bytes read, 0 at the end.
    ///
    /// # Errors
    /// When the source stalls, drips or ends early, once all that came before was given out.
    pub fn fill(&mut self, block: &mut [u8]) -> Result<usize, FetchError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let room = self.missing.min(block.len() as u64) as usize;
        let mut filled = 0;
        while filled < room {
            match self.read(&mut block[filled..room]) {
                Ok(read) => filled += read,
                Err(error) if filled > 0 => {
                    self.failed = Some(error);
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            }
        }
        if self.missing == 0 && room > 0 {
            self.end();
        }
        Ok(filled)
    }

    /// Sees the end of a body that has none of its bytes left: only then is its connection given back
    /// to be used again.
    fn end(&mut self) {
        let _ = self.body.read(&mut [0]);
    }

    fn read(&mut self, block: &mut [u8]) -> Result<usize, FetchError> {
        let began = Instant::now();
        let read = self.body.read(block)?;
        if read == 0 {
            return Err(FetchError::Short { missing: self.missing });
        }
        self.missing -= read as u64;
        self.pace.step(read as u64, began.elapsed())?;
        Ok(read)
    }
}

/// How much a source brings in the time that was spent waiting for it.
struct Pace {
    patience: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0 }
    }

    fn step(&mut self, bytes: u64, waited: Duration) -> Result<(), FetchError> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited >= self.patience {
            if self.bytes < limits::SOURCE_MIN_BYTES {
                return Err(FetchError::Slow);
            }
            *self = Self::new(self.patience);
        }
        Ok(())
    }
}

impl From<ureq::Error> for FetchError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(Timeout::Connect) => Self::Connect("no answer in time".into()),
            ureq::Error::Timeout(_) => Self::Slow,
            ureq::Error::Io(error) => error.into(),
            // Never with the source's own words, which could be anything.
            ureq::Error::Protocol(_) => Self::Broken("its answer is not HTTP".into()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
                Self::Connect(error.to_string())
            }
            Kind::TimedOut | Kind::WouldBlock => Self::Slow,
            _ => match error.downcast::<ureq::Error>() {
                Ok(error) => error.into(),
                Err(error) => Self::Broken(error.to_string()),
            },
        }
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
        assert!((0..60).any(|_| drip.step(1, second).is_err()));
        let mut slow = Pace::new(patience);
        assert!((0..60).all(|_| slow.step(limits::SOURCE_MIN_BYTES.div_ceil(10), second).is_ok()));
    }
}
