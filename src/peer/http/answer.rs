//! Answers, as routes and the door both make them.

use serde_json::json;

/// A whole answer: status, headers and a small body. How the body is framed and whether the
/// connection is kept is the door's business.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Without headers or body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// With a body of a media type.
    pub(super) fn of(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type", media_type.to_owned())], body: body.into() }
            .with("X-Content-Type-Options", "nosniff")
    }

    /// With a JSON body.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::of(status, "application/json", format!("{value}\n"))
    }

    /// An error, told as RFC 9457 has it; `detail` is a sentence that a person can act on.
    pub(super) fn problem(status: u16, detail: &str) -> Self {
        Self::problem_with(status, detail, json!({}))
    }

    /// An error with more members than RFC 9457 names.
    pub(super) fn problem_with(status: u16, detail: &str, mut members: serde_json::Value) -> Self {
        members["status"] = status.into();
        members["title"] = reason(status).into();
        members["detail"] = detail.into();
        Self::of(status, "application/problem+json", format!("{members}\n"))
    }

    /// With one more header. A value never brings a line break along: whatever is no printable
    /// ASCII becomes `?`.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let mut value: String = value.into();
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            value = value.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        }
        self.headers.push((name, value));
        self
    }

    /// Without some headers.
    pub(super) fn without(mut self, names: &[&str]) -> Self {
        self.headers.retain(|(name, _)| !names.contains(name));
        self
    }

    /// The headers as lines with their line ends.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::with_capacity(512);
        for (name, value) in &self.headers {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        lines
    }
}

/// The phrase for a status (RFC 9110 section 15); empty, as RFC 9112 section 4 allows, for those
/// that are never sent.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}
