//! The codec of the tracker's protocol: Protocol Buffers, with a look at each message before it is
//! decoded. An empty row takes two bytes on the wire and fifty in memory, so that a message's length alone
//! bounds nothing; its number of fields does.

use std::marker::PhantomData;

use prost::{
    Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::limits;

/// Sends `T`, receives `U`.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// Decodes messages of at most [`limits::RPC_FIELDS`] fields.
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic hands messages over in one piece; one that is not cannot be looked at without taking it.
        if buf.chunk().len() < buf.remaining() || has_too_many_fields(buf.chunk()) {
            let most = limits::ANNOUNCE_FILES;
            return Err(Status::resource_exhausted(format!("a message holds at most {most} files: send several")));
        }
        self.0.decode(buf)
    }
}

/// Whether a message has more fields than it may have, repeated ones each counted; fields of fields are
/// not. What is no message is for the decoder to refuse.
pub(crate) fn has_too_many_fields(mut bytes: &[u8]) -> bool {
    for _ in 0..=limits::RPC_FIELDS {
        if bytes.is_empty() {
            return false;
        }
        let skipped = decode_key(&mut bytes)
            .and_then(|(tag, wire_type)| skip_field(wire_type, tag, &mut bytes, DecodeContext::default()));
        if skipped.is_err() {
            return false;
        }
    }
    true
}

/// Passes messages through as bytes: one way of calling for all messages, and not one for each, is less code.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AnnounceRequest, Found, SearchReply};

    #[test]
    fn many_empty_rows_are_refused_before_they_are_decoded_and_full_replies_are_not() {
        let rows = |number| {
            SearchReply { found: vec![Found::default(); number], cursor: vec![1], ..SearchReply::default() }
                .encode_to_vec()
        };
        for number in [0, 1, limits::SEARCH_RESULTS] {
            assert!(!has_too_many_fields(&rows(number)), "{number}");
        }
        assert!(has_too_many_fields(&rows(limits::RPC_FIELDS + 1)));
        let removed = vec![String::new(); limits::ANNOUNCE_FILES];
        assert!(!has_too_many_fields(&AnnounceRequest { removed, ..AnnounceRequest::default() }.encode_to_vec()));
        for garbage in [&[0xff; 100][..], &[0], b"GET / HTTP/1.1"] {
            assert!(!has_too_many_fields(garbage));
        }
    }
}
