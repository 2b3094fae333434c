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

/// A number by chance. A system that has no chance to give yet gives none: then choices and pauses are worse, and right
/// all the same.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}
