//! A connection of the runtime's, under TLS where the swarm has it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::Tls;

/// What TLS makes of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, read and written as if it were plain.
pub struct Transport(Inner);

enum Inner {
    Plain(TcpStream),
    Secured(Box<dyn Duplex>),
}

impl Transport {
    /// One that was accepted. What has to be agreed on first is, with the first read or write.
    pub fn accepted(stream: TcpStream, tls: Option<&Tls>) -> Self {
        Self(match tls {
            Some(tls) => Inner::Secured(tls.accept(stream)),
            None => Inner::Plain(stream),
        })
    }

    /// One to a tracker that goes by the name `host`.
    ///
    /// # Errors
    /// When that does not prove its name, or does not speak TLS.
    pub async fn to_tracker(stream: TcpStream, host: &str, tls: Option<&Tls>) -> io::Result<Self> {
        Ok(Self(match tls {
            Some(tls) => Inner::Secured(tls.connect(stream, host).await?),
            None => Inner::Plain(stream),
        }))
    }

    fn duplex(&mut self) -> Pin<&mut dyn Duplex> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream),
            Inner::Secured(stream) => Pin::new(&mut **stream),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.duplex().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.duplex().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Inner::Plain(stream) => stream.is_write_vectored(),
            Inner::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_shutdown(cx)
    }
}
