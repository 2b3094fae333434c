//! Whom the door lets through: who asks for this peer and no other name, proves the swarm's secret, and is no page of
//! another site that would change something. Asked when a head is there and nothing of the body.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::head::Head;
use crate::{
    peer::{
        http::{Access, answer::Answer},
        metrics::Refused,
    },
    secret::Tries,
};

/// What a request says of who sends it, and to whom; for the guard alone. It is not shown, since it may hold a secret.
pub(super) struct Sender {
    /// Whom it is for: the authority of the target, or else the value of `Host`. Only HTTP/1.0 has neither.
    pub(super) host: Option<String>,
    /// The value of `Authorization`.
    pub(super) authorization: Option<String>,
    /// The value of `Origin`, which browsers send: where the page comes from that has them send this.
    pub(super) origin: Option<String>,
    /// The value of `Sec-Fetch-Site`: how a browser sees that page and this peer.
    pub(super) fetch_site: Option<String>,
}

pub(super) struct Guard {
    access: Access,
    tries: Mutex<Tries>,
}

/// Why a request is not let through.
pub(super) struct Refusal {
    pub(super) why: Refused,
    pub(super) answer: Answer,
    /// The answer is held back for so long, and the connection then closed.
    pub(super) pause: Option<Duration>,
}

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Self { access, tries: Mutex::default() }
    }

    /// Whether a request from an address may be answered.
    ///
    /// # Errors
    /// The answer, if not.
    pub(super) fn check(&self, head: &Head, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        if let Some(authority) = &head.sender.host
            && !self.goes_by(authority)
        {
            let detail = format!(
                "This peer does not go by the name `{authority}`. Use its address, or start it with --allow-host and \
                 that name."
            );
            return Err(Refusal { why: Refused::Name, answer: Answer::problem(421, &detail), pause: None });
        }
        let is_read = matches!(head.method.as_str(), "GET" | "HEAD");
        self.check_secret(head, is_read, from, now)?;
        if is_read || head.sender.is_no_other_site() {
            return Ok(());
        }
        let detail = "A page of another site may change nothing here. Send files from this peer's own page, or with a \
                      program such as curl.";
        Err(Refusal { why: Refused::Site, answer: Answer::problem(403, detail), pause: None })
    }

    /// Whether this peer is meant. Any address is one: a browser that was led here by a name that was bound to
    /// another address before (DNS rebinding) still sends that name.
    fn goes_by(&self, authority: &str) -> bool {
        let Some(host) = host(authority) else { return false };
        let is_v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::parse::<Ipv6Addr>);
        host.parse::<Ipv4Addr>().is_ok()
            || is_v6.is_some_and(|address| address.is_ok())
            || is_name(host, "localhost")
            || self.access.names.iter().any(|name| is_name(host, name.as_str()))
    }

    fn check_secret(&self, head: &Head, is_read: bool, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        let Some(secret) = &self.access.secret else { return Ok(()) };
        let is_health = head.target.split('?').next() == Some("/healthz");
        if is_read && (is_health || self.access.is_public_read) {
            return Ok(());
        }
        let Some(authorization) = &head.sender.authorization else {
            return Err(Refusal {
                why: Refused::NoSecret,
                answer: unauthorized("This swarm has a secret, and the request has none."),
                pause: None,
            });
        };
        if secret.is_in(authorization) {
            return Ok(());
        }
        let pause = self.tries.lock().unwrap_or_else(PoisonError::into_inner).failed(from, now);
        Err(Refusal {
            why: Refused::WrongSecret,
            answer: unauthorized("This swarm has another secret."),
            pause: Some(pause),
        })
    }
}

impl Sender {
    /// Whether this was sent by a program, or by a browser for a page of this very peer.
    fn is_no_other_site(&self) -> bool {
        let is_own = |origin: &String| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.zip(self.host.as_ref()).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
        };
        self.origin.as_ref().is_none_or(is_own) && self.fetch_site.as_ref().is_none_or(|site| site == "same-origin")
    }
}

/// The host of an authority (RFC 3986 section 3.2), with the brackets of IPv6; none where its port is no number.
fn host(authority: &str) -> Option<&str> {
    let end = authority.find(']').map(|bracket| bracket + 1).or_else(|| authority.find(':'));
    let (host, port) = authority.split_at(end.unwrap_or(authority.len()));
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// Whether a host is written as this name, which may end with the dot of the root.
fn is_name(host: &str, name: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name))
}

/// The answer that makes a browser ask its user (RFC 9110 section 11.6.1).
fn unauthorized(what: &str) -> Answer {
    let detail = format!("{what} Send the right one: `curl -u :SECRET`, or `Authorization: Bearer SECRET`.");
    Answer::problem(401, &detail)
        .with("WWW-Authenticate", "Basic realm=\"enjambre\", charset=\"UTF-8\"")
        .with("WWW-Authenticate", "Bearer realm=\"enjambre\"")
}
