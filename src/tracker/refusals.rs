//! Refusals: as callers get them, and as lines of the log.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tonic::{Code, Status};

use super::{calls::Refused, log::log, metrics::Call, registry::Refusal};
use crate::limits;

/// Metadata of a refusal that is worth another try: after so many milliseconds, in decimal digits.
const RETRY_AFTER: &str = "retry-after-ms";

/// What a caller is told.
pub(super) fn status(refused: Refused) -> Status {
    match refused {
        Refused::Invalid(sentence) => Status::invalid_argument(sentence),
        Refused::NotAllowed(sentence) => Status::permission_denied(sentence),
        Refused::TooMuch(sentence) => Status::resource_exhausted(sentence),
        Refused::Refusal(refusal) => {
            let code = match refusal {
                Refusal::Taken(_) => Code::AlreadyExists,
                Refusal::UnknownToken => Code::NotFound,
                Refusal::Superseded(_) => Code::Aborted,
                Refusal::TwoSizes(_) => Code::InvalidArgument,
                Refusal::Peers
                | Refusal::FilesPerPeer
                | Refusal::Files
                | Refusal::DownloadsPerPeer
                | Refusal::Downloads
                | Refusal::PathsBytes => Code::ResourceExhausted,
            };
            Status::new(code, refusal.to_string())
        }
    }
}

/// What a caller is told that should come back after a while.
pub(super) fn later(sentence: &str, pause: Duration) -> Status {
    // Rounded up: who comes back sooner is too early.
    let millis = pause.as_millis() + 1;
    let mut status = Status::resource_exhausted(format!("{sentence}: try again in {millis} ms"));
    if let Ok(millis) = millis.to_string().parse() {
        status.metadata_mut().insert(RETRY_AFTER, millis);
    }
    status
}

/// Writes a line for each refusal, as far as [`limits::REFUSAL_LINES`] goes.
pub(super) struct Log(Mutex<Second>);

/// The present one.
struct Second {
    begun: Instant,
    refusals: u32,
}

impl Log {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Second { begun: Instant::now(), refusals: 0 }))
    }

    pub(super) fn refused(&self, call: Call, from: IpAddr, status: &Status) {
        if !self.may_write() {
            return;
        }
        let (call, code, reason) = (call.name(), status.code(), status.message());
        log(format_args!("refuse call={call} from={from} code={code:?} reason={reason:?}"));
    }

    fn may_write(&self) -> bool {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.begun.elapsed() >= Duration::from_secs(1) {
            let unwritten = second.refusals.saturating_sub(limits::REFUSAL_LINES);
            *second = Second { begun: Instant::now(), refusals: 0 };
            if unwritten > 0 {
                log(format_args!("refuse unwritten={unwritten}"));
            }
        }
        second.refusals += 1;
        second.refusals <= limits::REFUSAL_LINES
    }
}
