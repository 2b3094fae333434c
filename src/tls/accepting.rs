//! A connection to a tracker that was accepted and has not agreed on anything yet.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf, Take, join},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

use super::is_tls;
use crate::limits;

/// A connection of which [`limits::TLS_HELLO_BYTES`] may be read until both have agreed, and all afterwards.
type Hello = Join<Take<OwnedReadHalf>, OwnedWriteHalf>;

/// Agrees with the other end when it is first read from or written to.
pub(super) enum Accepting {
    /// Nothing has come.
    New(Option<(TcpStream, Arc<ServerConfig>)>),
    Agreeing(Box<Accept<Hello>>),
    Open(Box<TlsStream<Hello>>),
    /// It was told that it should speak TLS. What it still sends is read, or the answer might be lost with a reset.
    Refused(TcpStream),
}

/// What who speaks HTTP/2 without TLS is told, in its own terms: no settings, and a GOAWAY (RFC 9113 sections 6.5 and
/// 6.8) with INADEQUATE_SECURITY and a sentence.
const GO_AWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x5c\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0c\
    this tracker speaks TLS: give a peer --tls-cert, --tls-key and --tls-ca of its swarm";

impl Accepting {
    pub(super) fn new(stream: TcpStream, config: Arc<ServerConfig>) -> Self {
        Self::New(Some((stream, config)))
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<Hello>>>> {
        if let Self::New(new) = self {
            let Some((stream, _)) = new else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
            let mut first = [0];
            let mut buffer = ReadBuf::new(&mut first);
            let read = ready!(stream.poll_peek(cx, &mut buffer))?;
            let Some((stream, config)) = new.take().filter(|_| read > 0) else {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            };
            if !is_tls(first[0]) {
                // There is room for it: nothing was sent before.
                let _ = stream.try_write(GO_AWAY);
                *self = Self::Refused(stream);
            } else {
                let (reads, writes) = stream.into_split();
                let hello = join(reads.take(limits::TLS_HELLO_BYTES as u64), writes);
                *self = Self::Agreeing(Box::new(TlsAcceptor::from(config).accept(hello)));
            }
        }
        if let Self::Refused(stream) = self {
            let mut block = [0; 4096];
            let mut buffer = ReadBuf::new(&mut block);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            // Others have their turn before more is read.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Self::Agreeing(accept) = self {
            let mut stream = ready!(Pin::new(&mut **accept).poll(cx))?;
            stream.get_mut().0.reader_mut().set_limit(u64::MAX);
            *self = Self::Open(Box::new(stream));
        }
        match self {
            Self::Open(stream) => Poll::Ready(Ok(Pin::new(&mut **stream))),
            _ => Poll::Pending,
        }
    }
}

impl AsyncRead for Accepting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(&mut **stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
