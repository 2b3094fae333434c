//! The tracker's connections: so many at once, and closed when the other end is silent or dead.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use super::{
    callers::{Caller, Callers},
    log::log,
    metrics::Metrics,
};
use crate::{
    limits,
    tls::{Tls, Transport},
};

/// Raises this process's limit on open files as far as the system lets it: every peer keeps a
/// connection, and the usual 1,024 would be the limit of the fleet.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Whoever set the limit knows best; without this there are fewer connections, and no harm.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// What comes in at a listener. Never ends, whatever accepting fails of.
pub(super) struct Connections {
    listener: TcpListener,
    tls: Option<Tls>,
    callers: Arc<Callers>,
    metrics: Arc<Metrics>,
    /// Accepted since others had their turn.
    accepted: usize,
    bulk: Arc<Semaphore>,
    /// Until when nothing is accepted, after an accept that failed.
    pause: Option<Pin<Box<Sleep>>>,
    /// The last accept failed: said once, and not ten times a second.
    is_failing: bool,
}

impl Connections {
    /// Must be called within the runtime.
    pub(super) fn new(
        listener: std::net::TcpListener,
        tls: Option<Tls>,
        callers: Arc<Callers>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // On a socket that listens already this changes the length of its queue, and nothing else.
        rustix::net::listen(&listener, limits::TRACKER_BACKLOG)?;
        let listener = TcpListener::from_std(listener)?;
        let bulk = Arc::new(Semaphore::new(limits::BULK_READERS));
        Ok(Self { listener, tls, callers, metrics, accepted: 0, bulk, pause: None, is_failing: false })
    }
}

impl Stream for Connections {
    type Item = Result<Connection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if self.accepted == limits::ACCEPTS {
                self.accepted = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let accepted = self.listener.poll_accept(cx);
            self.accepted = if accepted.is_pending() { 0 } else { self.accepted + 1 };
            match ready!(accepted) {
                Ok((stream, from)) => {
                    self.is_failing = false;
                    match self.callers.connect(from.ip(), Instant::now().into_std()) {
                        Ok(caller) => {
                            // Best effort: without it small answers are late, and no less right.
                            let _ = stream.set_nodelay(true);
                            let bulk = Bulk::new(Arc::clone(&self.bulk));
                            let stream = Transport::accepted(stream, self.tls.as_ref());
                            return Poll::Ready(Some(Ok(Connection::new(stream, caller, limits::RPC_IDLE_TIME, bulk))));
                        }
                        // It is closed at once: its owner hears of it and tries again.
                        Err(full) => self.metrics.refused_connection(full),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Without the pause this would spin for as long as descriptors are short.
                    if !std::mem::replace(&mut self.is_failing, true) {
                        log(format_args!("accept failed reason={:?}", error.to_string()));
                    }
                    self.pause = Some(Box::pin(sleep(limits::ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// Whether a connection may be read on. What is short is read at once; who sends much is read a little in each
/// round of the tasks, together with few others, and what the rest have sent stays in their sockets.
struct Bulk {
    readers: Arc<Semaphore>,
    /// Bytes read since there was nothing to read, or since the last turn.
    read: usize,
    waiting: Option<Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>>,
    turn: Option<OwnedSemaphorePermit>,
    /// Others have had their turn since the last read.
    has_yielded: bool,
}

impl Bulk {
    fn new(readers: Arc<Semaphore>) -> Self {
        Self { readers, read: 0, waiting: None, turn: None, has_yielded: false }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read < limits::BULK_BYTES {
            return Poll::Ready(());
        }
        if self.turn.is_none() {
            let readers = &self.readers;
            let waiting = self.waiting.get_or_insert_with(|| {
                let readers = Arc::clone(readers);
                // Nobody closes the semaphore.
                Box::pin(async { readers.acquire_owned().await.ok() })
            });
            self.turn = ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        } else if !std::mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn was_read(&mut self, bytes: usize) {
        self.read += bytes;
        self.has_yielded = false;
        if self.read >= limits::BULK_BYTES + limits::BULK_TURN_BYTES {
            self.turn = None;
            self.read = limits::BULK_BYTES;
        }
    }

    fn is_drained(&mut self) {
        self.read = 0;
        self.turn = None;
    }
}

/// A connection that fails when nothing was read for long, be it that it never began to speak.
pub(super) struct Connection {
    stream: Transport,
    pub(super) caller: Arc<Caller>,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    bulk: Bulk,
}

impl Connection {
    fn new(stream: Transport, caller: Caller, patience: Duration, bulk: Bulk) -> Self {
        Self { stream, caller: Arc::new(caller), patience, silence: Box::pin(sleep(patience)), bulk }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.bulk.poll_ready(cx));
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            self.bulk.is_drained();
            ready!(self.silence.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.bulk.was_read(buf.filled().len() - before);
        let deadline = Instant::now() + self.patience;
        self.silence.as_mut().reset(deadline);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    /// h2 would write what is longer than 256 bytes by itself, to spare itself a copy; this way it is 1,024
    /// bytes, and several locates are answered with one write.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn who_is_silent_is_let_go_and_who_speaks_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        let patience = Duration::from_millis(200);
        let now = Instant::now().into_std();
        let caller = Arc::new(Callers::new(now)).connect(from.ip(), now).ok().unwrap();
        let bulk = Bulk::new(Arc::new(Semaphore::new(1)));
        let mut connection = Connection::new(Transport::accepted(stream, None), caller, patience, bulk);
        let begun = Instant::now();
        let mut read = async || {
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut buf)).await
        };
        for _ in 0..4 {
            sleep(patience / 2).await;
            client.try_write(b"x").unwrap();
            read().await.unwrap();
        }
        assert_eq!(read().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= patience * 3);
    }

    #[tokio::test]
    async fn who_sends_much_waits_for_its_turn_and_who_sends_little_does_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let callers = Arc::new(Callers::new(Instant::now().into_std()));
        let readers = Arc::new(Semaphore::new(1));
        let connect = async || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, from) = listener.accept().await.unwrap();
            let caller = callers.connect(from.ip(), Instant::now().into_std()).ok().unwrap();
            let bulk = Bulk::new(Arc::clone(&readers));
            (client, Connection::new(Transport::accepted(stream, None), caller, Duration::from_secs(60), bulk))
        };
        let (mut much, mut one) = connect().await;
        let (mut little, mut other) = connect().await;
        let sent = limits::BULK_BYTES + 3 * limits::BULK_TURN_BYTES;
        let sending = tokio::spawn(async move {
            much.write_all(&vec![7; sent]).await.unwrap();
            much
        });
        little.write_all(b"x").await.unwrap();
        let occupied = Arc::clone(&readers).acquire_owned().await.unwrap();
        let mut bytes = vec![0; sent];
        one.read_exact(&mut bytes[..limits::BULK_BYTES]).await.unwrap();
        other.read_exact(&mut bytes[..1]).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), one.read_exact(&mut bytes)).await;
        assert!(waited.is_err(), "another has the turn");
        drop(occupied);
        one.read_exact(&mut bytes[..sent - limits::BULK_BYTES]).await.unwrap();
        assert!(bytes[..sent - limits::BULK_BYTES].iter().all(|byte| *byte == 7));
        // With nothing more to read the turn is another's.
        let more = tokio::time::timeout(Duration::from_millis(50), one.read_u8()).await;
        assert!(more.is_err() && readers.available_permits() == 1);
        drop(sending.await.unwrap());
    }
}
