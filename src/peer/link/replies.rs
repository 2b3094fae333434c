//! What a tracker says, parsed. Rows that break a rule are dropped and counts are cut, so a tracker
//! that lies does no more harm than one that knows nothing.

use std::{error::Error, net::SocketAddr, time::Duration};

use tonic::{Code, Status};

use crate::{
    address::is_dialable,
    content::ContentId,
    limits,
    name::{PeerId, SharePath, Zone},
    proto,
};

/// One path with one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path.
    pub path: SharePath,
    /// Its content.
    pub content: ContentId,
    /// Its size, as announced.
    pub size: u64,
    /// How many peers hold the whole content.
    pub sources: u32,
    /// The first of them.
    pub source_ids: Vec<PeerId>,
}

/// What the tracker knows of a content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// Names it goes by.
    pub paths: Vec<SharePath>,
    /// Who holds it.
    pub sources: Vec<Source>,
}

/// A peer that says it holds a content, or some of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id.
    pub peer: PeerId,
    /// Where it serves.
    pub address: SocketAddr,
    /// Its zone.
    pub zone: Zone,
    /// The size it announced.
    pub size: u64,
    /// It downloads the content itself, and holds some of its pieces.
    pub is_partial: bool,
}

/// Where a peer serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub peer: PeerId,
    /// Its address.
    pub address: SocketAddr,
    /// Its zone.
    pub zone: Zone,
}

/// A peer of the swarm, as the tracker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it serves. Such an address is for showing: nobody has looked whether it may be dialled.
    pub place: Place,
    /// Files that it offers.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that it downloads.
    pub downloads: u32,
    /// How far it is with what it mirrors, if anything.
    pub mirror: Option<Mirror>,
}

/// How far a peer is with what it mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// How many files it wants,
    pub wanted: u32,
    /// and how many of these it has.
    pub here: u32,
}

/// A part of all peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Ordered by id.
    pub peers: Vec<Member>,
    /// What asks for those behind them; empty at the end.
    pub cursor: String,
}

impl Roll {
    /// What a tracker says comes behind the id `after`. Whatever it says, following parts come to an end.
    pub(super) fn new(reply: proto::PeersReply, after: &str) -> Self {
        let member = |peer: proto::Peer| {
            let (address, zone) = (peer.address.parse().ok()?, peer.zone.parse().unwrap_or_default());
            Some(Member {
                place: Place { peer: peer.peer_id.parse().ok()?, address, zone },
                files: peer.files,
                bytes: peer.bytes,
                downloads: peer.downloads,
                mirror: peer.mirror.map(|proto::Mirror { wanted, here }| Mirror { wanted, here }),
            })
        };
        let peers = reply.peers.into_iter().take(limits::PEERS_PAGE).filter_map(member).collect();
        let cursor = Some(reply.cursor).filter(|cursor| cursor.as_str() > after && cursor.parse::<PeerId>().is_ok());
        Self { peers, cursor: cursor.unwrap_or_default() }
    }
}

/// A search's reply.
pub(super) struct SearchPage {
    pub(super) found: Vec<Found>,
    /// What asks for more; empty at the end.
    pub(super) cursor: Vec<u8>,
}

/// A part of what a pattern matches, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, ordered by path, content and size, no two the same.
    pub found: Vec<Found>,
    /// Where the sources are that the rows name. Addresses that nobody should be made to dial are left out.
    pub places: Vec<Place>,
    /// What the tracker goes on by.
    pub(in crate::peer) cursor: Vec<u8>,
}

impl Page {
    /// Whether there are more behind these.
    pub fn has_more(&self) -> bool {
        !self.cursor.is_empty()
    }

    /// What a tracker says comes behind `after`. Whatever it says, following pages come to an end or go on in
    /// order, or are without rows.
    pub(super) fn new(reply: proto::SearchReply, after: Option<&Found>, tracker_is_local: bool) -> Self {
        let had_rows = !reply.found.is_empty();
        let place = |place: &proto::Place| {
            let address = dialable(&place.address, tracker_is_local)?;
            Some(Place { peer: place.peer_id.parse().ok()?, address, zone: place.zone.parse().unwrap_or_default() })
        };
        let places = reply.places.iter().take(limits::REPLY_PLACES).filter_map(place).collect();
        let SearchPage { mut found, mut cursor } = reply.into();
        let mut last = after.map(Found::key);
        found.retain(|row| {
            let is_behind = last.as_ref().is_none_or(|last| *last < row.key());
            last = Some(row.key()).filter(|_| is_behind).or(last.take());
            is_behind
        });
        if had_rows && found.is_empty() {
            cursor.clear();
        }
        Self { cursor, found, places }
    }
}

impl Found {
    /// What orders rows.
    fn key(&self) -> (SharePath, ContentId, u64) {
        (self.path.clone(), self.content, self.size)
    }
}

/// An address that may be dialled where the tracker is.
fn dialable(address: &str, tracker_is_local: bool) -> Option<SocketAddr> {
    let address: SocketAddr = address.parse().ok()?;
    (address.port() > 0 && is_dialable(address.ip(), tracker_is_local)).then_some(address)
}

impl From<proto::SearchReply> for SearchPage {
    fn from(reply: proto::SearchReply) -> Self {
        let rows = reply.found.into_iter().take(limits::SEARCH_RESULTS);
        let cursor = Some(reply.cursor).filter(|cursor| cursor.len() <= limits::CURSOR_BYTES);
        Self { found: rows.filter_map(found).collect(), cursor: cursor.unwrap_or_default() }
    }
}

fn found(row: proto::Found) -> Option<Found> {
    let source_ids: Vec<PeerId> =
        row.source_ids.iter().take(limits::NAMED).filter_map(|peer| peer.parse().ok()).collect();
    Some(Found {
        path: row.path.parse().ok()?,
        content: row.content.as_slice().try_into().ok()?,
        size: Some(row.size).filter(|size| *size <= limits::CONTENT_BYTES)?,
        sources: row.sources.max(source_ids.len() as u32),
        source_ids,
    })
}

impl Located {
    /// With the addresses that may be dialled where the tracker is.
    pub(super) fn new(reply: proto::LocateReply, tracker_is_local: bool) -> Self {
        let source = |source: proto::Source| {
            Some(Source {
                peer: source.peer_id.parse().ok()?,
                address: dialable(&source.address, tracker_is_local)?,
                zone: source.zone.parse().unwrap_or_default(),
                size: Some(source.size).filter(|size| *size <= limits::CONTENT_BYTES)?,
                is_partial: source.partial,
            })
        };
        Self {
            paths: reply.paths.iter().take(limits::NAMED).filter_map(|path| path.parse().ok()).collect(),
            sources: reply.sources.into_iter().take(limits::NAMED).filter_map(source).collect(),
        }
    }
}

/// What a tracker tells of a peer that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose files these are.
    pub publisher: PeerId,
    /// Who that is: the hash of its identity.
    pub identity: [u8; 32],
    /// What was told of it before is over.
    pub is_anew: bool,
    /// What it has, each with its content's size in bytes.
    pub added: Vec<(SharePath, ContentId, u64)>,
    /// What it no longer has.
    pub removed: Vec<SharePath>,
    /// That was all, up to now.
    pub is_complete: bool,
}

impl Told {
    /// None where it is about nobody.
    pub(super) fn new(reply: proto::WatchReply) -> Option<Self> {
        let added = reply.added.into_iter().take(limits::ANNOUNCE_FILES).filter_map(|file| {
            let size = Some(file.size).filter(|size| *size <= limits::CONTENT_BYTES)?;
            Some((file.path.parse().ok()?, file.content.as_slice().try_into().ok()?, size))
        });
        let removed = reply.removed.iter().take(limits::ANNOUNCE_FILES).filter_map(|path| path.parse().ok());
        Some(Self {
            publisher: reply.peer_id.parse().ok()?,
            identity: reply.identity.try_into().ok()?,
            is_anew: reply.anew,
            added: added.collect(),
            removed: removed.collect(),
            is_complete: reply.complete,
        })
    }
}

/// What a peer that has joined is told.
pub(super) struct Joined {
    pub(super) token: Vec<u8>,
    pub(super) lease: Duration,
    pub(super) address: SocketAddr,
}

impl Joined {
    /// None where a tracker says what none would.
    pub(super) fn new(reply: proto::JoinReply) -> Option<Self> {
        let lease = Duration::from_millis(reply.lease_millis.into());
        let is_token = (1..=limits::TOKEN_BYTES).contains(&reply.token.len());
        let is_sound = is_token && limits::LEASE_SECONDS.contains(&lease.as_secs());
        let address = reply.address.parse().ok().filter(|_| is_sound)?;
        Some(Self { token: reply.token, lease, address })
    }
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No tracker answered, or something that is none.
    Away(String),
    /// The host that this peer shall be known by has no address now.
    Nameless(String),
    /// Another live peer has the id.
    Taken(String),
    /// The token is unknown: join again.
    Forgotten,
    /// A newer join of the same identity has the id: do not come back.
    Superseded,
    /// The tracker has too much to do, and says when to try again.
    Busy(Duration, String),
    /// A limit of the tracker is reached.
    Full(String),
    /// The tracker will not have this, now or later.
    Never(String),
}

impl Refusal {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Away(text)
            | Self::Nameless(text)
            | Self::Taken(text)
            | Self::Busy(_, text)
            | Self::Full(text)
            | Self::Never(text) => text,
            Self::Forgotten => "it does not know this peer".into(),
            Self::Superseded => "a newer peer has this id".into(),
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let text = printable(status.message());
        match status.code() {
            // It is not a tracker's word but the connection's. tonic wraps what the system said ("Connection refused") in
            // layers of its own.
            _ if status.source().is_some() => {
                let mut cause: &dyn Error = &status;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                Self::Away(printable(goodbye(&cause.to_string())))
            }
            Code::AlreadyExists => Self::Taken(text),
            Code::NotFound => Self::Forgotten,
            Code::Aborted => Self::Superseded,
            Code::ResourceExhausted => match retry_after(&status) {
                Some(time) => Self::Busy(time, text),
                None => Self::Full(text),
            },
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition => {
                Self::Never(text)
            }
            code => Self::Away(if text.is_empty() { format!("{code:?}") } else { text }),
        }
    }
}

/// When a refusal says that the call may be made again: milliseconds, in digits. More than fit are as long as can be.
fn retry_after(status: &Status) -> Option<Duration> {
    let digits = status.metadata().get("retry-after-ms")?.to_str().ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| Duration::from_millis(digits.parse().unwrap_or(u64::MAX)))
}

/// What the other end said when it ended the connection (the debug data of a GOAWAY, RFC 9113 section 6.8), which h2
/// shows as `(b"...")` behind words of its own; and else the whole error.
fn goodbye(error: &str) -> &str {
    let said = error.split_once("(b\"").and_then(|(_, said)| said.split_once("\")"));
    said.map_or(error, |(said, _)| said)
}

/// A stranger's sentence for a terminal: one line, of bounded length, that moves no cursor and turns
/// no writing direction round.
fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let clean: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).take(limits::TRACKER_TEXT).collect();
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, content: &[u8], size: u64) -> proto::Found {
        let source_ids = vec!["peer_1".into(), "not an id".into()];
        proto::Found { path: path.into(), content: content.into(), size, sources: 0, source_ids }
    }

    #[test]
    fn rows_that_break_a_rule_are_dropped_and_counts_are_cut() {
        let good = row("a/b", &[7; 32], 5);
        let mut rows = vec![
            row("../b", &[7; 32], 5),
            row("/etc/passwd", &[7; 32], 5),
            row("a\tb", &[7; 32], 5),
            row("a", &[7; 31], 5),
            row("a", &[7; 32], u64::MAX),
        ];
        rows.extend(vec![good; 2 * limits::SEARCH_RESULTS]);
        let cursor = vec![1; limits::CURSOR_BYTES + 1];
        let page = SearchPage::from(proto::SearchReply { found: rows, cursor, ..proto::SearchReply::default() });
        assert!(page.cursor.is_empty(), "no tracker makes us send so much");
        assert_eq!(page.found.len(), limits::SEARCH_RESULTS - 5);
        assert_eq!(page.found[0].source_ids, ["peer_1".parse().unwrap()]);
        assert_eq!(page.found[0].sources, 1);
    }

    #[test]
    fn pages_go_on_in_order_or_end_whatever_the_tracker_says() {
        let page = |rows: &[(&str, u64)], after: Option<&Found>| {
            let found = rows.iter().map(|(path, size)| row(path, &[7; 32], *size)).collect();
            let reply = proto::SearchReply { found, cursor: vec![1], ..proto::SearchReply::default() };
            let page = Page::new(reply, after, false);
            (page.found.iter().map(|row| (row.path.to_string(), row.size)).collect::<Vec<_>>(), page.has_more())
        };
        let named =
            |rows: &[(&str, u64)]| rows.iter().map(|(path, size)| ((*path).to_owned(), *size)).collect::<Vec<_>>();
        let rows = [("b", 1), ("a", 1), ("b", 1), ("b", 2), ("c", 0)];
        assert_eq!(page(&rows, None), (named(&[("b", 1), ("b", 2), ("c", 0)]), true));
        let last = found(row("b", &[7; 32], 2)).unwrap();
        assert_eq!(page(&rows, Some(&last)), (named(&[("c", 0)]), true));
        assert_eq!(page(&rows[..4], Some(&last)), (Vec::new(), false), "the same page for ever");
        assert_eq!(page(&[], None), (Vec::new(), true), "rows may follow");
    }

    #[test]
    fn places_that_nobody_should_dial_are_dropped_and_their_number_is_cut() {
        let place = |address: &str| proto::Place { peer_id: "p".into(), address: address.into(), zone: "z".into() };
        let bad = ["127.0.0.1:22", "169.254.169.254:80", "10.0.0.1:0", "host:1"];
        let places = bad.into_iter().map(place).chain((0..1000).map(|_| place("10.0.0.1:5000"))).collect();
        let page = Page::new(proto::SearchReply { places, ..proto::SearchReply::default() }, None, false);
        assert_eq!(page.places.len(), limits::REPLY_PLACES - bad.len());
        assert!(page.places.iter().all(|place| place.address.to_string() == "10.0.0.1:5000"));
    }

    #[test]
    fn parts_of_a_swarm_come_to_an_end_and_hold_none_that_breaks_a_rule() {
        let peer = |id: &str, address: &str| proto::Peer {
            peer_id: id.into(),
            address: address.into(),
            zone: "<b>".into(),
            ..proto::Peer::default()
        };
        let mut peers = vec![peer("<b>", "10.0.0.1:1"), peer("a", "nowhere")];
        peers.extend(vec![peer("p", "10.0.0.1:1"); 2 * limits::PEERS_PAGE]);
        let roll = |cursor: &str, after: &str| {
            Roll::new(proto::PeersReply { peers: peers.clone(), cursor: cursor.into() }, after)
        };
        let first = roll("p", "");
        assert_eq!((first.peers.len(), first.cursor.as_str()), (limits::PEERS_PAGE - 2, "p"));
        assert!(first.peers.iter().all(|member| member.place.peer.as_str() == "p" && member.place.zone.as_str() == ""));
        for (cursor, after) in [("p", "p"), ("a", "p"), ("p q", ""), ("", "p")] {
            assert_eq!(roll(cursor, after).cursor, "", "{cursor} {after}");
        }
    }

    #[test]
    fn addresses_that_nobody_should_dial_are_dropped() {
        let source = |address: &str| proto::Source {
            peer_id: "p".into(),
            address: address.into(),
            zone: "z z".into(),
            size: 1,
            partial: true,
        };
        let addresses =
            ["10.0.0.1:5000", "127.0.0.1:22", "169.254.169.254:80", "10.0.0.1:0", "host:1", "[fd00::1]:5000"];
        let reply = proto::LocateReply { paths: vec!["a".into(), "..".into()], sources: addresses.map(source).into() };
        let located = Located::new(reply, false);
        assert_eq!(located.paths, ["a".parse().unwrap()]);
        let addresses: Vec<_> = located.sources.iter().map(|source| source.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1:5000", "[fd00::1]:5000"]);
        assert_eq!(located.sources[0].zone, Zone::default());
        assert!(located.sources[0].is_partial);
    }

    #[test]
    fn a_token_is_of_bounded_length_and_a_lease_of_sensible_time() {
        let is_believed = |token: usize, lease_millis, address: &str| {
            let reply = proto::JoinReply { token: vec![7; token], lease_millis, address: address.into() };
            Joined::new(reply).is_some_and(|joined| joined.token.len() == token)
        };
        for (token, millis, address) in
            [(16, 15_000, "10.0.0.1:1"), (1, 1000, "[::1]:1"), (128, 3_600_999, "1.1.1.1:1")]
        {
            assert!(is_believed(token, millis, address));
        }
        for (token, millis, address) in [
            (0, 1000, "1.1.1.1:1"),
            (129, 1000, "1.1.1.1:1"),
            (16, 999, "1.1.1.1:1"),
            (16, u32::MAX, "1.1.1.1:1"),
            (16, 1000, "h:1"),
        ] {
            assert!(!is_believed(token, millis, address), "{token} {millis} {address}");
        }
    }

    fn busy(millis: u64, text: &str) -> Refusal {
        Refusal::Busy(Duration::from_millis(millis), text.into())
    }

    #[test]
    fn a_refusal_is_read_by_its_code_and_its_text_is_tame() {
        for (code, refusal) in [
            (Code::AlreadyExists, Refusal::Taken("x".into())),
            (Code::NotFound, Refusal::Forgotten),
            (Code::Aborted, Refusal::Superseded),
            (Code::ResourceExhausted, Refusal::Full("x".into())),
            (Code::PermissionDenied, Refusal::Never("x".into())),
            (Code::InvalidArgument, Refusal::Never("x".into())),
            (Code::Unavailable, Refusal::Away("x".into())),
            (Code::Unimplemented, Refusal::Away("x".into())),
        ] {
            assert_eq!(Refusal::from(Status::new(code, "x")), refusal);
        }
        for (hint, millis) in [("250", Some(250)), ("0", Some(0)), ("9".repeat(30).as_str(), Some(u64::MAX))]
            .into_iter()
            .chain(["", "-1", "+1", "1.5", "1s", " 1"].map(|hint| (hint, None)))
        {
            let mut status = Status::resource_exhausted("x");
            status.metadata_mut().insert("retry-after-ms", hint.parse().unwrap());
            let refusal = millis.map_or_else(|| Refusal::Full("x".into()), |millis| busy(millis, "x"));
            assert_eq!(Refusal::from(status), refusal, "{hint:?}");
        }
        assert_eq!(printable("\x1b[2Jred\r\nline\u{202e}"), "[2Jred  line");
        assert_eq!(printable(&"é".repeat(10_000)).chars().count(), limits::TRACKER_TEXT);
    }
}
