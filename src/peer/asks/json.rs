//! What is told as JSON, in one shape wherever it appears: the API under `/api/`, and `--json`. Sizes are exact bytes.

use serde_json::{Value, json};

use super::{Got, Status};
use crate::peer::{
    link::{Found, Member},
    share::Hashing,
    swarm::jobs::{Ended, Listed},
};

/// A row of a search: `path`, `content`, `size`, `sources` (how many), `peers` (the first of them).
pub fn found(found: &Found) -> Value {
    let peers: Vec<_> = found.source_ids.iter().map(|peer| peer.as_str()).collect();
    json!({
        "path": found.path.as_str(),
        "content": found.content.to_string(),
        "size": found.size,
        "sources": found.sources,
        "peers": peers,
    })
}

/// A file that is here: `path`, `content`, `size`.
pub fn got(got: &Got) -> Value {
    json!({ "path": got.path.as_str(), "content": got.content.to_string(), "size": got.size })
}

/// A download: `number` (null for what is left of one), `content`, `path` (null where it is not known), `size` (null
/// while unknown), `here` and `rate` (bytes, and bytes a second), `state`.
pub fn listed(listed: &Listed) -> Value {
    json!({
        "number": listed.number,
        "content": listed.content.to_string(),
        "path": listed.path.as_ref().map(|path| path.as_str()),
        "size": listed.size,
        "here": listed.here,
        "rate": listed.rate,
        "state": listed.standing.to_string(),
    })
}

/// A download that has ended: as [`listed`], with `state` `done` or `failed`, and with `error` (a sentence, or null).
pub fn ended(ended: &Ended) -> Value {
    let (size, error) = match &ended.outcome {
        Ok(report) => (Some(report.size), None),
        Err(error) => (None, Some(error.to_string())),
    };
    json!({
        "number": ended.number,
        "content": ended.content.to_string(),
        "path": ended.path.as_str(),
        "size": size,
        "here": size.unwrap_or(0),
        "rate": 0,
        "state": if error.is_none() { "done" } else { "failed" },
        "error": error,
    })
}

/// A peer of the swarm: `peer`, `address`, `zone`, `files`, `bytes`, `downloads` (how many), `mirror` (null, or how many
/// files it follows: `wanted`, and of these `here`).
pub fn member(member: &Member) -> Value {
    let mirror = member.mirror.map(|mirror| json!({ "wanted": mirror.wanted, "here": mirror.here }));
    json!({
        "peer": member.place.peer.as_str(),
        "address": member.place.address.to_string(),
        "zone": member.place.zone.as_str(),
        "files": member.files,
        "bytes": member.bytes,
        "downloads": member.downloads,
        "mirror": mirror,
    })
}

/// How a peer stands: `peer`, `zone`, `joined`, `trackers`, `files`, `bytes`, `hashing` (null, or what is still to be
/// hashed: `files`, `bytes`), `version`.
pub fn status(status: &Status) -> Value {
    let hashing = status.hashing.map(|Hashing { files, bytes }| json!({ "files": files, "bytes": bytes }));
    json!({
        "peer": status.peer.as_str(),
        "zone": status.zone.as_str(),
        "joined": status.is_joined,
        "trackers": status.trackers,
        "files": status.files,
        "bytes": status.bytes,
        "hashing": hashing,
        "version": env!("CARGO_PKG_VERSION"),
    })
}
