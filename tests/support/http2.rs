//! A call that is sent by hand, and slowly: what no gRPC client would do.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

/// An HTTP/2 frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// RFC 9113 section 6: 0 is DATA, 1 HEADERS, 7 GOAWAY.
    pub kind: u8,
    /// 0 for those of the connection itself.
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection of its own, on which one call was begun.
pub struct BegunCall(TcpStream);

impl BegunCall {
    /// Begins a call of the tracker's protocol with a message that is to be so long, and sends none of it.
    pub fn new(tracker: SocketAddr, call: &str, length: u32) -> Self {
        let path = format!("/enjambre.v1.Tracker/{call}");
        let mut headers = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "tracker"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // RFC 7541 section 6.2.2: a literal, not indexed.
            headers.push(0);
            for text in [name, value] {
                headers.push(text.len() as u8);
                headers.extend(text.as_bytes());
            }
        }
        let mut stream = TcpStream::connect(tracker).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut call = Self(stream);
        // SETTINGS, HEADERS with END_HEADERS, and of the message what gRPC puts before it.
        call.send(4, 0, 0, &[]);
        call.send(1, 4, 1, &headers);
        call.send(0, 0, 1, &[&[0][..], &length.to_be_bytes()].concat());
        call
    }

    /// Sends the message, and ends the call's side of the stream.
    pub fn finish(&mut self, message: &[u8]) {
        self.send(0, 1, 1, message);
    }

    /// All frames that come until the connection is closed.
    pub fn frames(&mut self) -> Vec<Frame> {
        let mut bytes = Vec::new();
        // A reset ends it too, behind whatever came before.
        let _ = self.0.read_to_end(&mut bytes);
        let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((head, behind)) = rest.split_at_checked(9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            frames.push(Frame { kind: head[3], stream, payload: payload.to_vec() });
            rest = behind;
        }
        frames
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        self.0.write_all(&[&head, payload].concat()).unwrap();
    }
}
