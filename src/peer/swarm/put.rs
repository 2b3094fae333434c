//! A file to a peer, by its own HTTP: with `fetch`, the only ureq code.

use std::{fmt, io::Read};

use serde_json::Value;
use ureq::{Body, SendBody, http::Response};

use super::{fetch::agent, fetch_error::FetchError};
use crate::{content::ContentId, limits, name::SharePath, secret::Secret, tls::Tls};

/// Where a file is sent.
pub struct Destination<'a> {
    /// The peer: host and port, as in a URL.
    pub authority: &'a str,
    /// Under which path it offers the file.
    pub path: &'a SharePath,
    /// The swarm's secret.
    pub secret: Option<&'a Secret>,
    /// How it is spoken to where the swarm has TLS.
    pub tls: Option<Tls>,
}

/// What a peer has made of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its content.
    pub content: ContentId,
    /// Its bytes.
    pub size: u64,
    /// It was there before.
    pub was_there: bool,
}

/// Why a peer has not taken a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum PutError {
    /// It cannot be reached, or speaks otherwise; the end of a sentence that begins with it.
    Away(String),
    /// It answers so, with a sentence of its own where it gives one.
    Refused(u16, String),
    /// What it says makes no sense; the end of such a sentence.
    Strange(String),
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(what) | Self::Strange(what) => f.write_str(what),
            Self::Refused(401, _) => f.write_str("wants the swarm's secret, or another one: give --secret-file FILE"),
            Self::Refused(status, what) if what.is_empty() => write!(f, "answers with status {status}"),
            Self::Refused(status, what) => write!(f, "refuses it (status {status}): {what}"),
        }
    }
}

impl std::error::Error for PutError {}

/// Sends `body`, of `size` bytes where that is known; it is on the peer's disk when this returns.
///
/// # Errors
/// When the peer does not say that it is.
pub fn put(to: &Destination<'_>, body: &mut dyn Read, size: Option<u64>) -> Result<Taken, PutError> {
    let agent = agent(limits::SOURCE_STALL_TIME, to.tls.clone());
    let url = format!("http://{}/files/{}", to.authority, to.path.to_url());
    // Who refuses it says so before it is sent.
    let mut request = agent.put(url).header("expect", "100-continue");
    if let Some(secret) = to.secret {
        request = request.header("authorization", secret.bearer());
    }
    if let Some(size) = size {
        request = request.header("content-length", size.to_string());
    }
    let config = request.config().timeout_recv_response(Some(limits::PUT_ANSWER_TIME)).timeout_recv_body(None);
    match config.build().send(SendBody::from_reader(body)) {
        Ok(response) => taken(response),
        Err(error) => Err(PutError::Away(FetchError::from(error).to_string())),
    }
}

fn taken(mut response: Response<Body>) -> Result<Taken, PutError> {
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(limits::PUT_ANSWER_BYTES).read_to_vec();
    let answer: Value = text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if !matches!(status, 200 | 201) {
        let what = answer["detail"].as_str().unwrap_or_default();
        return Err(PutError::Refused(status, what.replace(char::is_control, " ")));
    }
    let content = answer["content"].as_str().and_then(|content| content.parse().ok());
    match (content, answer["size"].as_u64()) {
        (Some(content), Some(size)) => Ok(Taken { content, size, was_there: status == 200 }),
        _ => Err(PutError::Strange("takes it, and does not say as what: is it a peer?".into())),
    }
}
