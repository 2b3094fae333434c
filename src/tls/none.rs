//! No TLS at all, where it was not built in: nothing of this can be made, so nothing of it is there.

use std::{io, net::TcpStream as Blocking, time::Duration};

use tokio::net::TcpStream;

use super::{CA, CERT, KEY, Role, transport::Duplex};
use crate::args::Args;

/// There is none.
#[derive(Clone, Debug)]
pub enum Tls {}

/// There is none.
pub enum Session {}

impl Tls {
    /// None, if none is asked for.
    ///
    /// # Errors
    /// If one is.
    pub fn of(args: &Args, _: Role, _: fn(String)) -> Result<Option<Self>, String> {
        for flag in [CERT, KEY, CA] {
            if args.value::<String>(flag.name)?.is_some() {
                return Err(format!("{}: this was built without TLS; take one that was built with it", flag.name));
            }
        }
        Ok(None)
    }

    /// Nothing to watch.
    ///
    /// # Errors
    /// None.
    pub fn watch(&self) -> io::Result<()> {
        match *self {}
    }

    /// Nothing to answer with.
    ///
    /// # Errors
    /// None.
    pub fn answer(&self) -> io::Result<Session> {
        match *self {}
    }

    pub(super) fn ask(&self) -> io::Result<Session> {
        match *self {}
    }

    pub(super) fn accept(&self, _: TcpStream) -> Box<dyn Duplex> {
        match *self {}
    }

    pub(super) async fn connect(&self, _: TcpStream, _: &str) -> io::Result<Box<dyn Duplex>> {
        match *self {}
    }
}

impl Session {
    /// Nothing to agree on.
    ///
    /// # Errors
    /// None.
    pub fn handshake(&mut self, _: &Blocking, _: Duration) -> io::Result<()> {
        match *self {}
    }

    /// Nothing to read.
    ///
    /// # Errors
    /// None.
    pub fn read(&mut self, _: &Blocking, _: &mut [u8], _: Duration) -> io::Result<usize> {
        match *self {}
    }

    /// Nothing to send.
    ///
    /// # Errors
    /// None.
    pub fn write(&mut self, _: &[u8], _: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match *self {}
    }

    /// Nothing to end.
    ///
    /// # Errors
    /// None.
    pub fn close(&mut self, _: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match *self {}
    }

    /// Nothing to forget.
    pub fn rest(&mut self) {
        match *self {}
    }
}
