//! What tonic refuses by itself, before there is a call: in the codes that the protocol promises.

use tonic::{Status, body::Body, codegen::http};

const CODE: &str = "grpc-status";

/// The answer to a call whose messages are at most `limit` long, with a code of the protocol's in place of tonic's.
pub(super) fn promised(mut answer: http::Response<Body>, limit: usize) -> http::Response<Body> {
    match answer.headers().get(CODE).map(http::HeaderValue::as_bytes) {
        // OUT_OF_RANGE: the message is too long.
        Some(b"11") => {
            let sentence = format!("a message of this call is at most {limit} bytes long: send less at a time");
            Status::resource_exhausted(sentence).into_http()
        }
        // INTERNAL: the message cannot be decoded. That is its sender's fault, so INVALID_ARGUMENT; the sentence
        // says where it breaks.
        Some(b"13") => {
            answer.headers_mut().insert(CODE, http::HeaderValue::from_static("3"));
            answer
        }
        _ => answer,
    }
}
