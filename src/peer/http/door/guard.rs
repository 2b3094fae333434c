//! Whom the door lets through: who proves the swarm's secret. Asked when a head is there and nothing of the body.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::head::Head;
use crate::{
    peer::http::{Access, answer::Answer},
    secret::Tries,
};

/// What a request says beyond what the routes need to know, for the guard alone. It is not shown: it may hold a secret.
pub(super) struct Credentials {
    /// The value of `Authorization`.
    pub(super) authorization: Option<String>,
}

pub(super) struct Guard {
    access: Access,
    tries: Mutex<Tries>,
}

/// Why a request is not let through.
pub(super) struct Refusal {
    pub(super) answer: Answer,
    /// The answer is held back for so long, and the connection then closed.
    pub(super) pause: Option<Duration>,
}

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Self { access, tries: Mutex::default() }
    }

    /// Whether a request from an address may be answered.
    pub(super) fn check(&self, head: &Head, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        self.check_secret(head, from, now)
    }

    fn check_secret(&self, head: &Head, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        let Some(secret) = &self.access.secret else { return Ok(()) };
        let is_read = matches!(head.method.as_str(), "GET" | "HEAD");
        let is_health = head.target.split('?').next() == Some("/healthz");
        if is_read && (is_health || self.access.is_public_read) {
            return Ok(());
        }
        let Some(authorization) = &head.credentials.authorization else {
            return Err(Refusal {
                answer: unauthorized("This swarm has a secret, and the request has none."),
                pause: None,
            });
        };
        if secret.is_in(authorization) {
            return Ok(());
        }
        let pause = self.tries.lock().unwrap_or_else(PoisonError::into_inner).failed(from, now);
        Err(Refusal { answer: unauthorized("This swarm has another secret."), pause: Some(pause) })
    }
}

/// The answer that makes a browser ask its user (RFC 9110 section 11.6.1).
fn unauthorized(what: &str) -> Answer {
    let detail = format!("{what} Send the right one: `curl -u :SECRET`, or `Authorization: Bearer SECRET`.");
    Answer::problem(401, &detail)
        .with("WWW-Authenticate", "Basic realm=\"enjambre\", charset=\"UTF-8\"")
        .with("WWW-Authenticate", "Bearer realm=\"enjambre\"")
}
