//! Requests in small frames. What a tracker keeps to read a connection is as long as the longest frame that came, and
//! stays so: for a fleet that has announced and only renews, in frames of 16 KiB, that is a fifth of its memory.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::Frame;
use tonic::{
    Status,
    body::Body,
    client::GrpcService,
    codegen::{Bytes, Service, http},
    transport::Channel,
};

use crate::limits;

/// A channel that sends what it is given in frames of at most [`limits::RPC_FRAME_BYTES`].
#[derive(Clone)]
pub struct SmallFrames(pub Channel);

impl Service<http::Request<Body>> for SmallFrames {
    type Response = http::Response<Body>;
    type Error = <Channel as Service<http::Request<Body>>>::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        GrpcService::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Service::call(&mut self.0, request.map(|body| Body::new(Cut { body, rest: Bytes::new() })))
    }
}

/// A body in small pieces.
struct Cut {
    body: Body,
    /// What is still to be given of the last piece that came.
    rest: Bytes,
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|read| read.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(limits::RPC_FRAME_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_body_is_the_same_in_small_frames() {
        let bytes: Vec<u8> = (0..2 * limits::RPC_FRAME_BYTES + 1).map(|at| at as u8).collect();
        let mut lengths = Vec::new();
        let mut all = Vec::new();
        let mut cut =
            Cut { body: Body::new(Cut { body: Body::empty(), rest: bytes.clone().into() }), rest: Bytes::new() };
        while let Some(frame) = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut cut), cx)).await {
            let data = frame.unwrap().into_data().unwrap();
            lengths.push(data.len());
            all.extend_from_slice(&data);
        }
        assert_eq!(lengths, [limits::RPC_FRAME_BYTES, limits::RPC_FRAME_BYTES, 1]);
        assert!(all == bytes && http_body::Body::is_end_stream(&cut));
    }
}
