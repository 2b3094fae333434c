//! What can go wrong with a source.

use std::{fmt, io};

use crate::tls::is_timeout;

/// What went wrong with a source; shown as the end of a sentence that begins with its name.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// It cannot be reached.
    Connect(String),
    /// It does not speak TLS as this swarm does; what of it, as the end of such a sentence.
    Stranger(String),
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
            Self::Stranger(reason) => f.write_str(reason),
            Self::Status(400) => {
                f.write_str("takes no such request (status 400): does it speak TLS, and this peer not?")
            }
            Self::Status(status @ (404 | 410)) => write!(f, "does not have it (status {status})"),
            Self::Status(401) => f.write_str("wants another secret than this peer has (status 401)"),
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

impl FetchError {
    /// Why no connection came about.
    pub(super) fn connecting(error: io::Error) -> Self {
        match error.kind() {
            _ if is_timeout(&error) => Self::Connect("no answer in time".into()),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Self::Stranger(error.to_string()),
            _ => Self::Connect(error.to_string()),
        }
    }
}
