//! The peer: offers its share over HTTP and fetches from others.

pub mod asks;
pub mod console;
pub mod flags;
pub mod http;
pub mod link;
pub mod metrics;
pub mod mirror;
pub mod share;
pub mod swarm;
pub mod throttle;
pub mod verbs;
