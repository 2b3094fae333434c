//! The peer: offers its share over HTTP and fetches from others.

pub mod console;
pub mod http;
pub mod link;
pub mod metrics;
pub mod share;
pub mod swarm;
pub mod throttle;
