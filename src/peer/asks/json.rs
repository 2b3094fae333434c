//! What is told as JSON, in one shape wherever it appears: the API under `/api/`, and `--json`. Sizes are exact bytes.

use serde_json::{Value, json};

use super::Got;
use crate::peer::{link::Found, swarm::jobs::Listed};

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
