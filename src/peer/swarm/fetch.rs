//! Piece lists: with `put`, the only ureq code.

use std::{
    fmt, io,
    io::{Read, Write},
    net::SocketAddr,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use ureq::{
    Agent, RequestBuilder, Timeout,
    typestate::WithoutBody,
    unversioned::{
        resolver::DefaultResolver,
        transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
    },
};

use super::{
    budget::{Budget, Part},
    connection::{Connection, Pace},
    fetch_error::FetchError,
};
use crate::{
    content::ContentId,
    limits,
    peer::throttle::Throttle,
    rate::Rate,
    secret::Secret,
    tls::{Stream, Tls, is_timeout},
};

/// A client for sources. All its clones together keep to a number of connections, and to a rate.
#[derive(Clone)]
pub struct Fetcher {
    agent: Agent,
    /// How long a source may send nothing, or too little.
    patience: Duration,
    budget: Budget,
    limit: Option<Throttle>,
    secret: Option<Secret>,
    tls: Option<Tls>,
}

impl Fetcher {
    /// A client that leaves a source after so long without [`limits::SOURCE_MIN_BYTES`] from it. It opens
    /// so many connections at most, and receives no faster than `rate`; with a low one it opens fewer. It proves
    /// the swarm's `secret` to every source, and follows none to another place. With `tls`, sources have to prove
    /// themselves too.
    pub fn new(
        patience: Duration,
        connections: NonZeroUsize,
        rate: Option<Rate>,
        secret: Option<Secret>,
        tls: Option<Tls>,
    ) -> Self {
        let fed = rate.map_or(u64::MAX, |rate| rate.bytes() / limits::RATE_OF_CONNECTION);
        let fed = NonZeroUsize::new(usize::try_from(fed).unwrap_or(usize::MAX)).unwrap_or(NonZeroUsize::MIN);
        let budget = Budget::new(connections.min(fed));
        let limit = rate.map(Throttle::new);
        let agent = agent(patience, tls.clone());
        Self { agent, patience, budget, limit, secret, tls }
    }

    /// Whether a source has the piece list of a content; one that downloads it and has none yet holds its
    /// answer back for a while.
    ///
    /// # Errors
    /// When the source does not answer within `patience`.
    pub fn has_piece_list(&self, source: SocketAddr, id: &ContentId, patience: Duration) -> Result<bool, FetchError> {
        let request = self.authorized(self.agent.head(format!("http://{source}/content/{id}/pieces")));
        Ok(request.config().timeout_global(Some(patience)).build().call()?.status() == 200)
    }

    /// How long a source may send nothing, or too little.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits until the limit lets so many bytes go: before they are asked for, so that the waiting is not taken for
    /// the source's.
    pub(super) fn wait_for(&self, bytes: usize) {
        if let Some(limit) = &self.limit {
            limit.wait(bytes);
        }
    }

    /// The piece list of a content in binary form, which must have `length` bytes. With `patience` it is
    /// given up when it takes that long; otherwise when it comes more slowly than [`limits::SOURCE_MIN_BYTES`] says.
    ///
    /// # Errors
    /// When the source does not answer with exactly that.
    pub fn piece_list(
        &self,
        source: SocketAddr,
        id: &ContentId,
        length: usize,
        patience: Option<Duration>,
    ) -> Result<Vec<u8>, FetchError> {
        let part = self.budget.part();
        let _place = part.place();
        let request = self.authorized(self.agent.get(format!("http://{source}/content/{id}/pieces")));
        let times = (length as u64 / limits::SOURCE_MIN_BYTES).clamp(1, limits::PIECE_LIST_PATIENCE.into()) as u32;
        let request = request.config().timeout_global(patience).timeout_recv_body(Some(self.patience * times));
        let mut response = request.build().call()?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        // One byte more would show that more is coming.
        let mut body = response.body_mut().with_config().limit(length as u64 + 1).reader();
        let (mut list, mut block, mut pace) = (Vec::new(), [0; 4096], Pace::new(self.patience));
        loop {
            let asked = Instant::now();
            match body.read(&mut block)? {
                0 => break,
                read => {
                    list.extend_from_slice(&block[..read]);
                    pace.step(read as u64, asked.elapsed())?;
                }
            }
        }
        if list.len() != length {
            return Err(FetchError::OtherRange(format!("{} bytes for {length}", list.len())));
        }
        Ok(list)
    }

    fn authorized(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        match &self.secret {
            Some(secret) => request.header("authorization", secret.bearer()),
            None => request,
        }
    }

    /// A connection for pieces of a content and the news of it.
    pub(super) fn connection(&self, source: SocketAddr) -> Connection {
        Connection::new(source, self.patience, self.limit.clone(), self.secret.clone(), self.tls.clone())
    }

    /// The part that one download more has of all connections.
    pub(super) fn part(&self) -> Part {
        self.budget.part()
    }

    /// How fast it may receive.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.limit.as_ref().map(Throttle::rate)
    }
}

/// What makes requests of peers, and waits so long for each step of an answer.
pub(super) fn agent(patience: Duration, tls: Option<Tls>) -> Agent {
    let config = Agent::config_builder()
        // From the environment otherwise; bytes between peers go straight.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("enjambre/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(limits::SOURCE_HEAD_BYTES)
        // A kept one would be open beside those that are counted.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .input_buffer_size(limits::BLOCK_BYTES)
        .output_buffer_size(limits::SOURCE_HEAD_BYTES)
        .timeout_connect(Some(limits::SOURCE_CONNECT_TIME))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .timeout_per_write(Some(patience))
        .build();
    Agent::with_parts(config, Dialer(tls), DefaultResolver::default())
}

/// Connects to where an URL says, whatever its scheme: a swarm has TLS everywhere or nowhere.
#[derive(Debug)]
struct Dialer(Option<Tls>);

impl Connector for Dialer {
    type Out = Line;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Line>, ureq::Error> {
        let time = details.timeout.not_zero().map_or(limits::SOURCE_CONNECT_TIME, |time| *time);
        // A name may have an address of IPv6 where nobody listens.
        let mut streams = details.addrs.iter().map(|to| Stream::connect(to, time, time, self.0.as_ref()));
        let first = streams.next().ok_or(ureq::Error::HostNotFound)?;
        let stream = first.or_else(|error| streams.find_map(Result::ok).ok_or(error));
        let stream = stream.map_err(|error| match is_timeout(&error) {
            true => ureq::Error::Timeout(Timeout::Connect),
            false => error.into(),
        })?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Line { stream, buffers }))
    }
}

/// A connection as ureq wants it.
struct Line {
    stream: Stream,
    buffers: LazyBuffers,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let sent = self.stream.write_all(&self.buffers.output()[..amount]);
        sent.map_err(|error| timed(error, timeout.for_write()))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        let patience = timeout.not_zero().map_or(limits::SOURCE_STALL_TIME, |time| *time);
        self.stream.set_patience(patience);
        let read = self.stream.read(self.buffers.input_append_buf());
        let read = read.map_err(|error| timed(error, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Of these none is kept.
    fn is_open(&mut self) -> bool {
        false
    }
}

fn timed(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    if is_timeout(&error) { ureq::Error::Timeout(timeout.reason) } else { error.into() }
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
            kind => match error.downcast::<ureq::Error>() {
                Ok(error) => error.into(),
                Err(error) if matches!(kind, Kind::InvalidInput | Kind::InvalidData) => Self::connecting(error),
                Err(error) => Self::Broken(error.to_string()),
            },
        }
    }
}
