//! The tracker's connections: so many at once, and closed when the other end is silent or dead.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};

use crate::{limits, say};

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
    /// One clone for each open connection.
    open: Arc<()>,
    /// Until when nothing is accepted, after an accept that failed.
    pause: Option<Pin<Box<Sleep>>>,
    /// The last accept failed: said once, and not ten times a second.
    is_failing: bool,
}

impl Connections {
    /// Must be called within the runtime.
    pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, open: Arc::new(()), pause: None, is_failing: false })
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
            match ready!(self.listener.poll_accept(cx)) {
                // Above the limit it is closed at once: its owner hears of it and tries again.
                Ok(_) if Arc::strong_count(&self.open) > limits::TRACKER_CONNECTIONS => {}
                Ok((stream, from)) => {
                    self.is_failing = false;
                    // Best effort: without it small answers are late, and no less right.
                    let _ = stream.set_nodelay(true);
                    let open = Arc::clone(&self.open);
                    return Poll::Ready(Some(Ok(Connection::new(stream, from, open, limits::RPC_IDLE_TIME))));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Without the pause this would spin for as long as descriptors are short.
                    if !std::mem::replace(&mut self.is_failing, true) {
                        say(format_args!("accept failed reason={:?}", error.to_string()));
                    }
                    self.pause = Some(Box::pin(sleep(limits::ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// A connection that fails when nothing was read for long, be it that it never began to speak.
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) from: SocketAddr,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    _open: Arc<()>,
}

impl Connection {
    fn new(stream: TcpStream, from: SocketAddr, open: Arc<()>, patience: Duration) -> Self {
        Self { stream, from, patience, silence: Box::pin(sleep(patience)), _open: open }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            ready!(self.silence.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let deadline = Instant::now() + self.patience;
        self.silence.as_mut().reset(deadline);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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

    use super::*;

    #[tokio::test]
    async fn who_is_silent_is_let_go_and_who_speaks_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        let patience = Duration::from_millis(200);
        let mut connection = Connection::new(stream, from, Arc::new(()), patience);
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
}
