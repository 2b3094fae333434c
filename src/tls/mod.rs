//! TLS for a swarm with a certificate authority of its own: who has it trusts that one and nobody else. What answers,
//! at a tracker or a peer, proves itself by a certificate; what asks has none, since the secret says who may do what.
//!
//! Trackers are known by the name or address that they are dialled at, as everywhere. A peer is dialled at whatever
//! address it has just then, so among peers its certificate is one for [`PEER_NAME`].

#[cfg(feature = "rustls")]
mod accepting;
#[cfg(feature = "rustls")]
mod files;
#[cfg(not(feature = "rustls"))]
mod none;
#[cfg(feature = "rustls")]
mod session;
mod stream;
#[cfg(feature = "rustls")]
mod swarm;
#[cfg(test)]
#[cfg(feature = "rustls")]
mod tests;
mod transport;

use crate::args::Flag;
#[cfg(not(feature = "rustls"))]
pub use none::{Session, Tls};
#[cfg(feature = "rustls")]
pub use session::Session;
pub use stream::{Stream, is_timeout, receive};
#[cfg(feature = "rustls")]
pub use swarm::Tls;
pub use transport::Transport;

/// The name in every peer's certificate, beside its host's own. Nobody can register it.
pub const PEER_NAME: &str = "peer.enjambre.internal";

/// The flag for the certificate.
pub const CERT: Flag =
    Flag { name: "--tls-cert", value: "FILE", help: "its certificate in PEM: speak TLS, and nothing else (plain)" };
/// The flag for the certificate's key.
pub const KEY: Flag = Flag { name: "--tls-key", value: "FILE", help: "the private key of --tls-cert, in PEM" };
/// The flag for the authority.
pub const CA: Flag = Flag {
    name: "--tls-ca",
    value: "FILE",
    help: "the certificate of the swarm's authority: all others have to have theirs from it",
};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// gRPC, dialled by name.
    Tracker,
    /// HTTP/1.1, dialled by peers at any address.
    Peer,
}

/// Whether what came first begins a TLS record with a handshake (RFC 8446 section 5.1), and so no text.
pub fn is_tls(first: u8) -> bool {
    first == 22
}
