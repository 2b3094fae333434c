//! The peer: offers its share over HTTP and fetches from others.

pub mod http;
pub mod share;
pub mod swarm;
