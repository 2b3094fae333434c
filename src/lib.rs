//! Enjambre shares files among a fleet of small machines: one `tracker`, many `peer`s.
//!
//! **Control is central, data is not.** The tracker knows names, content ids and who holds them;
//! bytes flow between peers only, over HTTP, inside TLS where the swarm has it, and each is checked
//! against the id that was asked for. This page is the map; ARCHITECTURE.md has the words, the protocols and the reasons.
//!
//! | module | what it is, and what it alone knows |
//! |---|---|
//! | [`limits`] | every cap and time-out, named, with its reason |
//! | [`content`] | ids, pieces, piece lists, sets of pieces; pure |
//! | [`name`] | the only parser of names from outside, and their encoders; pure |
//! | [`digest`] | what all of a peer's files come to, for those who watch; pure |
//! | [`address`] | which addresses a peer may be told, and may dial; pure |
//! | [`size`] | numbers of bytes as a person writes them, and how much of a disk is kept free; pure |
//! | [`rate`] | rates in bytes a second, and when bytes may go to keep one; pure |
//! | [`secret`] | the swarm's secret: how it is read, sent and compared, and how long those wait who guess |
//! | [`tls`] | TLS by the swarm's own authority: the only rustls code |
//! | [`paint`] | colours, on a terminal that wants them |
//! | [`args`] | command lines: one table makes parsing, `--help`, the variables, man pages and completions |
//! | [`codec`] | the tracker's protocol on the wire: messages are counted before they are decoded |
//! | [`notify`] | tells systemd how the process stands |
//! | `metrics` | counters, and Prometheus's text format |
//! | [`proto`] | the tracker's protocol, generated |
//! | `tracker` | who has what; in it the only tonic server code |
//! | `tracker::store` | several trackers as one; in it the only code that speaks to etcd |
//! | `peer::share` | the only code that opens files of a share |
//! | `peer::link` | the peer's only tokio and tonic code, but for what `tls` does below it |
//! | `peer::metrics` | what a peer counts |
//! | `peer::throttle` | makes threads wait, so that all together keep a rate |
//! | `peer::http` | the door, which owns the port, and the only tiny_http code, behind it |
//! | `peer::swarm` | downloads; in it the only ureq code |
//! | `peer::mirror` | follows publishers: what of theirs is fetched, replaced and let go |
//! | `peer::asks` | what a person asks of a peer, done once for all who only parse and tell |
//! | `peer::console` | the commands, and how what they find looks |
//! | `peer::verbs` | one-shot use: `peer get`, `search`, `status`, `put` |
//! | `fuzz` | the fuzz targets by name; for tests and cargo-fuzz only |
//!
//! Imports go downwards only: the binaries, `verbs`, the console and `http`, `asks`, `swarm`, `share` and `link`, and
//! below them what is pure. `tracker` and `peer` know nothing of each other, and each is a feature.
//!
//! # Invariants
//!
//! 1. A file appears under its final name only whole and verified.
//! 2. Nothing that arrives from a socket makes a process write outside its share, follow a symlink,
//!    replace a file that exists (but for one that it mirrored itself), or stop; nobody makes a peer dial where no peer can be.
//! 3. A peer killed at any instant leaves no wrong file under a final name; after a restart a download
//!    goes on with every piece that was on disk, each verified again.
//! 4. While the tracker is dead, peers serve each other; within a lease of its return searches are
//!    whole again, with no one doing anything.
//! 5. A peer that dies is gone from search within a lease, one that leaves is gone at once.
//! 6. Memory, threads and open files are bounded by [`limits`], never by what a stranger sends.
//! 7. Only the holder of a peer's lease token can change or remove that peer's entry.
//!
//! `tests/invariants.rs` has a test or more for each, under its number.
#![forbid(unsafe_code)]

use std::{
    fmt::Display,
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

pub mod address;
pub mod args;
pub mod codec;
pub mod content;
pub mod digest;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod limits;
mod metrics;
pub mod name;
pub mod notify;
pub mod paint;
#[cfg(feature = "peer")]
pub mod peer;
pub mod rate;
pub mod secret;
pub mod size;
pub mod tls;
#[cfg(feature = "tracker")]
pub mod tracker;

/// The tracker's protocol, generated from `proto/enjambre/v1/tracker.proto`, which documents it.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod proto {
    tonic::include_proto!("enjambre.v1");
}

/// Whether a line shown by [`show`] stands on the terminal.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Writes lines, with their ends.
pub type Screen = dyn Fn(&str) + Send + Sync;

/// Who writes lines in place of this, while somebody edits one on the terminal.
static SCREEN: OnceLock<Box<Screen>> = OnceLock::new();
/// Nobody does any more.
static SCREEN_IS_OVER: AtomicBool = AtomicBool::new(false);

/// From now on, `write` has what is said; until [`end_screen`].
pub fn begin_screen(write: impl Fn(&str) + Send + Sync + 'static) {
    let _ = SCREEN.set(Box::new(write));
}

/// From now on, lines are written as they are said again.
pub fn end_screen() {
    SCREEN_IS_OVER.store(true, Ordering::Release);
}

/// Who writes on the terminal now, if anybody.
pub fn screen() -> Option<&'static Screen> {
    SCREEN.get().filter(|_| !SCREEN_IS_OVER.load(Ordering::Acquire)).map(AsRef::as_ref)
}

/// Whether nobody wants to hear but of errors.
static HUSHED: AtomicBool = AtomicBool::new(false);

/// From now on, [`say`] and [`show`] write nothing.
pub fn hush() {
    HUSHED.store(true, Ordering::Relaxed);
}

/// Writes an error to stderr, for a person, whoever was told to [`hush`].
pub fn complain(error: impl Display) {
    write_line(format_args!("{} {error}", paint::red("error:")));
}

/// Writes one line to stderr, for a person. A closed stderr is no reason to stop, as it would be
/// for `eprintln!`.
pub fn say(line: impl Display) {
    if !HUSHED.load(Ordering::Relaxed) {
        write_line(line);
    }
}

fn write_line(line: impl Display) {
    if let Some(screen) = screen() {
        return screen(&format!("{line}\n"));
    }
    let clear = if SHOWN.swap(false, Ordering::Relaxed) { "\r\x1b[K" } else { "" };
    let _ = std::io::stderr().write_all(format!("{clear}{line}\n").as_bytes());
}

/// Shows a line in place on stderr, which is a terminal, until the next one of either kind.
pub fn show(line: impl Display) {
    if HUSHED.load(Ordering::Relaxed) || screen().is_some() {
        return;
    }
    SHOWN.store(true, Ordering::Relaxed);
    let _ = std::io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes());
}
