//! Renewals and locates are most of what a tracker is asked. They are answered here without what tonic does for any
//! call that there can be, which is a good part of what an empty one costs. What is not one plain message, as all of
//! them should be, is left to tonic, and so is what there is to say of it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;
use prost::{Message, bytes::Bytes};
use tonic::{Status, body::Body, codegen::http};

use crate::{codec::has_too_many_fields, limits};

/// What stands before a message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

type Read = Result<Frame<Bytes>, Status>;

/// The bytes of a body that has them in one piece.
///
/// # Errors
/// What has been read, if it has not.
pub(super) async fn only_piece(body: &mut Body) -> Result<Bytes, VecDeque<Read>> {
    let mut piece = None;
    let unexpected = loop {
        match poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await {
            None => return piece.ok_or_else(VecDeque::new),
            Some(Ok(frame)) => match frame.into_data() {
                // It says that this was all.
                Ok(data) if data.is_empty() => {}
                Ok(data) if piece.is_none() => piece = Some(data),
                Ok(data) => break Ok(Frame::data(data)),
                Err(trailers) => break Ok(trailers),
            },
            Some(Err(status)) => break Err(status),
        }
    };
    Err(piece.map(|piece| Ok(Frame::data(piece))).into_iter().chain([unexpected]).collect())
}

/// The message in these bytes, if they are one, of the length that it may have, and no more.
pub(super) fn message<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let ([is_compressed, length @ ..], message) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let is_whole = *is_compressed == 0 && u32::from_be_bytes(*length) as usize == message.len();
    let is_good = is_whole && message.len() <= limits::RPC_SMALL_BYTES && !has_too_many_fields(message);
    if is_good { M::decode(message).ok() } else { None }
}

/// A body of which some was read.
pub(super) struct Begun {
    pub(super) read: VecDeque<Read>,
    pub(super) rest: Body,
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Read>> {
        match self.read.pop_front() {
            Some(read) => Poll::Ready(Some(read)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}

/// The answer that is a message of this length, which `put` puts behind what is there.
pub(super) fn answer(length: usize, put: impl FnOnce(&mut Vec<u8>)) -> http::Response<Told> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
    bytes.push(0);
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    put(&mut bytes);
    let mut response = http::Response::new(Told::Reply { message: Some(bytes.into()), has_ended: false });
    let (name, value) = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert(name, value);
    response
}

/// What a caller is told. tonic puts it into a box of its own, so that another one here would be one too many.
pub(super) enum Told {
    /// By tonic.
    Other(Body),
    /// A message, and behind it that the call went well.
    Reply {
        /// With its head; none once it is told.
        message: Option<Bytes>,
        has_ended: bool,
    },
}

impl Default for Told {
    fn default() -> Self {
        Self::Other(Body::empty())
    }
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Read>> {
        match &mut *self {
            Self::Other(body) => Pin::new(body).poll_frame(cx),
            Self::Reply { has_ended: true, .. } => Poll::Ready(None),
            Self::Reply { message, has_ended } => Poll::Ready(Some(Ok(match message.take() {
                Some(message) => Frame::data(message),
                None => {
                    *has_ended = true;
                    let mut trailers = http::HeaderMap::with_capacity(1);
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    Frame::trailers(trailers)
                }
            }))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Other(body) => body.is_end_stream(),
            Self::Reply { has_ended, .. } => *has_ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::RenewRequest;

    fn framed(message: &[u8]) -> Bytes {
        [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat().into()
    }

    #[tokio::test]
    async fn what_is_not_one_piece_is_given_on_as_it_came() {
        let data = |bytes: &'static [u8]| Ok(Frame::data(bytes.into()));
        let trailers = || Ok(Frame::trailers(http::HeaderMap::new()));
        for (pieces, is_one) in [
            (vec![], false),
            (vec![data(b"a")], true),
            (vec![data(b""), data(b"a"), data(b"")], true),
            (vec![data(b"a"), data(b"b"), data(b"c")], false),
            (vec![data(b"a"), trailers()], false),
            (vec![trailers()], false),
            (vec![data(b"a"), Err(Status::internal("x"))], false),
        ] {
            let shown = |read: &Read| format!("{read:?}");
            let sent: Vec<_> = pieces.iter().map(shown).collect();
            let mut body = Body::new(Begun { read: pieces.into(), rest: Body::empty() });
            match only_piece(&mut body).await {
                Ok(piece) => assert!(is_one && piece == "a", "{sent:?}"),
                Err(read) => {
                    let mut given = Vec::new();
                    let mut begun = Begun { read, rest: body };
                    while let Some(read) = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut begun), cx)).await {
                        given.push(shown(&read));
                    }
                    assert!(!is_one && given == sent, "{sent:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_whole_plain_message_that_is_not_too_long_is_one() {
        let request = RenewRequest { token: vec![7; 40] };
        let bytes = framed(&request.encode_to_vec());
        assert_eq!(message(&bytes), Some(request));
        assert_eq!(message(&framed(b"")), Some(RenewRequest::default()));
        for end in 0..bytes.len() {
            assert_eq!(message::<RenewRequest>(&bytes[..end]), None, "{end} bytes");
        }
        let long = RenewRequest { token: vec![0; limits::RPC_SMALL_BYTES] };
        let compressed = [&[1], &bytes[1..]].concat();
        for bytes in
            [framed(&long.encode_to_vec()), framed(&[0xff; 9]), compressed.into(), [&bytes[..], b"x"].concat().into()]
        {
            assert_eq!(message::<RenewRequest>(&bytes), None, "{bytes:?}");
        }
    }
}
