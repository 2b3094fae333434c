//! With what a verb ends, by kind of failure.

use std::{fmt::Display, io};

use crate::peer::{
    asks::AskError,
    link::LinkError,
    swarm::{GetError, PassError, PutError},
};

/// What was asked for is not there, is several things, or something else has its name.
pub(super) const ABSENT: u8 = 1;
/// The command line, a certificate or the secret's file is wrong, or the folder.
pub(super) const USAGE: u8 = 2;
/// No tracker, or the peer, can be reached.
pub(super) const AWAY: u8 = 3;
/// The peers that have it cannot deliver it, or the peer does not take it.
pub(super) const PEERS: u8 = 4;
/// What came cannot be written: the disk is full, the folder is not writable, or nobody reads stdout any more.
pub(super) const DISK: u8 = 5;
/// The tracker or the peer refuses: the secret is wrong, or missing, or there is too much to do.
pub(super) const REFUSED: u8 = 6;

/// Why a verb has not done all of it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: u8,
    /// A sentence for a person; none where all was told, or nothing is to be.
    pub(super) text: Option<String>,
}

impl Failed {
    fn new(code: u8, text: impl Display) -> Self {
        Self { code, text: Some(text.to_string()) }
    }

    pub(super) fn usage(text: impl Display) -> Self {
        Self::new(USAGE, text)
    }

    pub(super) fn absent(text: impl Display) -> Self {
        Self::new(ABSENT, text)
    }

    pub(super) fn disk(text: impl Display) -> Self {
        Self::new(DISK, text)
    }

    pub(super) fn peers(text: impl Display) -> Self {
        Self::new(PEERS, text)
    }

    pub(super) fn silent(code: u8) -> Self {
        Self { code, text: None }
    }

    pub(super) fn system(error: &io::Error) -> Self {
        Self::new(DISK, format_args!("the system gives no thread or descriptor: {error}"))
    }

    /// A peer does not take a file.
    pub(super) fn put(to: &str, error: &PutError) -> Self {
        let code = match error {
            PutError::Away(_) => AWAY,
            PutError::Refused(401 | 403, _) => REFUSED,
            PutError::Refused(409, _) => ABSENT,
            _ => PEERS,
        };
        let next = if code == AWAY { ": is a peer there, and is that its port?" } else { "" };
        Self::new(code, format_args!("{to} {error}{next}"))
    }
}

/// The code for an error.
pub(super) fn of(error: &AskError) -> u8 {
    match error {
        AskError::Bad(_) => USAGE,
        AskError::Link(error) => link(error),
        AskError::Get(_, error) => get(error),
        _ => ABSENT,
    }
}

fn link(error: &LinkError) -> u8 {
    if matches!(error, LinkError::Refused(_)) { REFUSED } else { AWAY }
}

fn get(error: &GetError) -> u8 {
    match error {
        GetError::Link(error) => link(error),
        GetError::Sources(_) => PEERS,
        GetError::Disk(_) => DISK,
        _ => ABSENT,
    }
}

impl From<AskError> for Failed {
    fn from(error: AskError) -> Self {
        Self::new(of(&error), error)
    }
}

impl From<PassError> for Failed {
    fn from(error: PassError) -> Self {
        match &error {
            PassError::Get(cause) => Self::new(get(cause), error),
            // As a pipe's end is no news to whoever closed it.
            PassError::Out(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Self::silent(DISK),
            PassError::Out(_) => Self::new(DISK, error),
        }
    }
}
