//! Flags that a peer and its one-shot verbs have in common.

use std::num::NonZeroUsize;

use super::link::Trackers;
use crate::{
    args::{Args, Flag},
    limits,
};

/// Where the trackers are.
pub const TRACKER: Flag = Flag {
    name: "--tracker",
    value: "HOST:PORT,...",
    help: "where the tracker is; several that run as one, commas between (127.0.0.1:50051)",
};
/// The own zone.
pub const ZONE: Flag =
    Flag { name: "--zone", value: "ZONE", help: "where it is, as us-east-1a: sources in the same zone are preferred" };
/// How fast it fetches at most.
pub const DOWNLOAD_LIMIT: Flag = Flag {
    name: "--download-limit",
    value: "RATE",
    help: "bytes of files fetched a second, all together, as 5M or 500K (none)",
};
/// What of the disk is not used.
pub const KEEP_FREE: Flag = Flag {
    name: "--keep-free",
    value: "BYTES|%",
    help: "what uploads and downloads leave free on the disk, as 2G or 5% (1%, 64M at most)",
};
/// Connections that it opens.
pub const CONNECTIONS: Flag = Flag {
    name: "--connections",
    value: "N",
    help: "connections to other peers that `get` opens at most (48); serving has its own",
};

/// The trackers of [`TRACKER`].
///
/// # Errors
/// A sentence that says what is wrong with them.
pub fn trackers(args: &Args) -> Result<Trackers, String> {
    match args.value(TRACKER.name)? {
        Some(trackers) => Ok(trackers),
        None => Ok("127.0.0.1:50051".parse()?),
    }
}

/// The number of [`CONNECTIONS`].
///
/// # Errors
/// When it is out of range.
pub fn connections(args: &Args) -> Result<NonZeroUsize, String> {
    let Some(text) = args.value::<String>(CONNECTIONS.name)? else { return Ok(limits::SOURCE_CONNECTIONS) };
    let range = limits::SOURCE_CONNECTIONS_RANGE;
    let number = text.parse().ok().filter(|number: &NonZeroUsize| range.contains(&number.get()));
    let (least, most) = (range.start(), range.end());
    number.ok_or_else(|| {
        format!("--connections {text}: a `get` opens {least} to {most} connections, name a number of these")
    })
}
