//! The calls: every field is parsed here, once, into types that hold nothing bad; then the
//! registry is asked, and its answer put into a reply.

mod watch;

use std::{
    collections::BTreeSet,
    fmt::{Display, Write as _},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::task::yield_now;

use super::{
    located,
    log::log,
    metrics::Metrics,
    registry::{
        Ask, Changes, Content, Cursor, Dice, Figures, Identity, Join, Joined, Known, Mirror, Page, Refusal, Registry,
        Source, Token,
    },
    search::Pattern,
    shared::{Listener, Shared},
};
use crate::{
    address::is_dialable,
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    proto,
};

/// How a tracker behaves.
#[derive(Clone, Copy)]
pub struct Config {
    /// How long a peer is believed without hearing from it, within [`limits::LEASE_SECONDS`].
    pub lease: Duration,
    /// Whether a peer may name another address than the one its calls come from.
    pub allow_advertise: bool,
}

/// Why a call fails.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A field breaks its rule: which, and what the rule is.
    Invalid(String),
    /// The tracker was not started so that this is allowed.
    NotAllowed(&'static str),
    /// One call would pass a limit.
    TooMuch(String),
    /// The registry refuses.
    Refusal(Refusal),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

fn invalid(field: impl Display, rule: impl Display) -> Refused {
    Refused::Invalid(format!("{field}: {rule}"))
}

/// What the calls work on.
pub(super) struct Calls {
    config: Config,
    shared: Shared,
    metrics: Arc<Metrics>,
    /// What the next [`roll`](Self::roll) is made of.
    rolls: AtomicU64,
}

impl Calls {
    pub(super) fn new(config: Config, shared: Shared, metrics: Arc<Metrics>) -> Self {
        Self { config, shared, metrics, rolls: AtomicU64::new(u64::from_ne_bytes(random())) }
    }

    /// A number that spreads askers; that nobody can foresee it is not needed, and would be a system call each time.
    fn roll(&self) -> u64 {
        Dice(self.rolls.fetch_add(1, Ordering::Relaxed)).roll()
    }

    /// The registry as it is at this moment, without peers whose lease has ended.
    fn registry(&self) -> (MutexGuard<'_, Registry>, Instant) {
        let lock = || self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut registry = lock();
        let now = Instant::now();
        let gone = registry.expire(now);
        if gone.is_empty() {
            return (registry, now);
        }
        // Nobody waits for the registry while the log is written.
        drop(registry);
        for id in gone {
            self.metrics.expired();
            log(format_args!("expire peer={id}"));
            self.shared.watches.gone(&id);
            self.tell(|listener| listener.expired(&id));
        }
        (lock(), now)
    }

    /// Tells the other trackers.
    fn tell(&self, of: impl FnOnce(&dyn Listener)) {
        if let Some(listener) = &self.shared.listener {
            of(&**listener);
        }
    }

    /// Waits until there is something to [`expire`](Self::expire) that no lease says.
    pub(super) async fn gone(&self) {
        self.shared.gone.notified().await;
    }

    /// Forgets the dead, and does a step of what they leave to be done; says after what time there may be more.
    pub(super) fn expire(&self) -> Duration {
        let (mut registry, now) = self.registry();
        if registry.tidy(limits::TIDY_FILES) {
            return Duration::ZERO;
        }
        // A lease that is granted from now on cannot end sooner than a lease from now.
        registry.next_expiry().map_or(self.config.lease, |next| next.duration_since(now))
    }

    /// How much the registry holds.
    pub(super) fn figures(&self) -> Figures {
        self.registry().0.figures()
    }

    pub(super) fn join(&self, from: IpAddr, request: &proto::JoinRequest) -> Result<proto::JoinReply, Refused> {
        let id: PeerId = parse("peer_id", &request.peer_id)?;
        let zone = parse("zone", &request.zone)?;
        let secret = request.identity.as_slice().try_into().map_err(|_| invalid("identity", "32 bytes"))?;
        let port = u16::try_from(request.port).ok().and_then(NonZeroU16::new);
        let port = port.ok_or_else(|| invalid("port", "1 to 65535"))?;
        let address = SocketAddr::new(self.address(from, &request.advertise)?, port.get());
        let identity = Identity::of(secret);
        // A clock before 1970 counts as 1970: an id's joins are then told apart as long as one is live.
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;

        let line = format!("join peer={id} address={address} zone={zone}", zone = request.zone);
        let join = Join { id: id.clone(), identity, address, zone };
        let (mut registry, now) = self.registry();
        let Joined { incarnation, took_over } = registry.join(now, join, millis)?;
        if took_over {
            self.shared.gone.notify_one();
        }
        self.tell(|listener| listener.joined(&id));
        // What it watched before it was for an earlier process.
        self.shared.watches.gone(&id);
        self.shared.watches.joined(&id, identity);
        drop(registry);
        log(format_args!("{line} took_over={took_over}"));
        Ok(proto::JoinReply {
            token: Token::new(&id, &identity, incarnation).sealed(&self.shared.key),
            lease_millis: u32::try_from(self.config.lease.as_millis()).unwrap_or(u32::MAX),
            address: address.to_string(),
        })
    }

    /// The claim that these bytes prove.
    fn token<'a>(&self, bytes: &'a [u8]) -> Result<Token<'a>, Refused> {
        if !(1..=limits::TOKEN_BYTES).contains(&bytes.len()) {
            return Err(invalid("token", format_args!("the 1 to {} bytes that join answered", limits::TOKEN_BYTES)));
        }
        Ok(Token::open(&self.shared.key, bytes).ok_or(Refusal::UnknownToken)?)
    }

    /// Where others are told that a peer is.
    fn address(&self, from: IpAddr, advertise: &str) -> Result<IpAddr, Refused> {
        if advertise.is_empty() {
            // Loopback is good here: the registry gives it to nobody elsewhere.
            if !is_dialable(from, true) {
                return Err(invalid(
                    "address",
                    format_args!(
                        "this call comes from {from}, where no peer may look for you: connect from another address"
                    ),
                ));
            }
            return Ok(from);
        }
        if !self.config.allow_advertise {
            return Err(Refused::NotAllowed(
                "this tracker has no secret and was started without --allow-advertise: leave --advertise out",
            ));
        }
        let ip: IpAddr = advertise.parse().map_err(|_| invalid("advertise", "an IPv4 or IPv6 address, no port"))?;
        if !is_dialable(ip, from.is_loopback()) {
            return Err(invalid("advertise", "an address that others may dial: not loopback, link-local or multicast"));
        }
        Ok(ip.to_canonical())
    }

    /// Between the steps others are answered; who gives up waiting has announced a part, and says all of it again.
    pub(super) async fn announce(&self, request: &proto::AnnounceRequest) -> Result<proto::AnnounceReply, Refused> {
        let token = self.token(&request.token)?;
        let proto::AnnounceRequest { added, removed, downloading, stopped, .. } = request;
        if added.len() + removed.len() + downloading.len() + stopped.len() > limits::ANNOUNCE_FILES {
            let most = limits::ANNOUNCE_FILES;
            return Err(Refused::TooMuch(format!(
                "an announce holds at most {most} files and downloads: send several"
            )));
        }
        let mirror = request.mirror.map(|proto::Mirror { wanted, here }| Mirror { wanted, here });
        let mut changes = Changes { mirror, ..Changes::default() };
        for (at, file) in added.iter().enumerate() {
            changes.added.push((
                parse(format_args!("added[{at}].path"), &file.path)?,
                content(format_args!("added[{at}]"), &file.content, file.size)?,
            ));
        }
        for (at, path) in removed.iter().enumerate() {
            changes.removed.push(parse(format_args!("removed[{at}]"), path)?);
        }
        for (at, download) in downloading.iter().enumerate() {
            let proto::Download { content: id, size } = download;
            changes.downloading.push(content(format_args!("downloading[{at}]"), id, *size)?);
        }
        for (at, id) in stopped.iter().enumerate() {
            changes.stopped.push(content_id(format_args!("stopped[{at}]"), id)?);
        }
        let mut underway = {
            let (mut registry, now) = self.registry();
            registry.begin(now, token, &changes)?
        };
        let _telling = Telling { calls: self, token, changes: &changes };
        while self.registry().0.go_on(token, &mut underway, limits::ANNOUNCE_STEP)? {
            yield_now().await;
        }
        Ok(proto::AnnounceReply {})
    }

    pub(super) fn renew(&self, request: &proto::RenewRequest) -> Result<proto::RenewReply, Refused> {
        let token = self.token(&request.token)?;
        let (mut registry, now) = self.registry();
        registry.renew(now, token)?;
        self.tell(|listener| {
            if let Some(id) = registry.holder_id(token) {
                listener.renewed(id);
            }
        });
        Ok(proto::RenewReply {})
    }

    pub(super) fn leave(&self, request: &proto::LeaveRequest) -> Result<proto::LeaveReply, Refused> {
        let token = self.token(&request.token)?;
        let id = self.registry().0.leave(token)?;
        self.shared.gone.notify_one();
        self.tell(|listener| listener.left(&id));
        self.shared.watches.gone(&id);
        log(format_args!("leave peer={id}"));
        Ok(proto::LeaveReply {})
    }

    pub(super) fn search(&self, from: IpAddr, request: &proto::SearchRequest) -> Result<proto::SearchReply, Refused> {
        if request.text.is_empty() || request.text.len() > limits::PATH_BYTES {
            return Err(invalid("text", format_args!("1 to {} bytes", limits::PATH_BYTES)));
        }
        let pattern = Pattern::new(&request.text);
        let cursor = match &request.cursor[..] {
            [] => None,
            bytes => {
                let cursor = Cursor::from_bytes(bytes).filter(|_| bytes.len() <= limits::CURSOR_BYTES);
                let cursor = cursor.filter(|cursor| request.exact || cursor.is_for(&pattern));
                Some(cursor.ok_or_else(|| invalid("cursor", "the one of the reply before, for the same text"))?)
            }
        };
        let zone = parse("zone", &request.zone)?;
        let (is_local, dice) = (from.is_loopback(), self.roll());
        let (registry, _) = self.registry();
        let near = request.places.then_some(|content| registry.near(content, &zone, is_local, dice));
        if !request.exact {
            return Ok(search_reply(registry.search(&pattern, cursor.as_ref(), is_local), near));
        }
        // What is no path names nothing, and that is no error: people type such things.
        let Ok(path) = request.text.parse::<SharePath>() else { return Ok(proto::SearchReply::default()) };
        Ok(search_reply(registry.search_exact(&path, cursor.as_ref(), is_local), near))
    }

    /// `tell` makes the reply.
    pub(super) fn locate<T>(
        &self,
        from: IpAddr,
        request: &proto::LocateRequest,
        tell: impl FnOnce(located::Reply<'_>) -> T,
    ) -> Result<T, Refused> {
        let id = content_id("content", &request.content)?;
        let asker = if request.token.is_empty() { None } else { Some(self.token(&request.token)?) };
        if request.dead.len() > limits::DEAD {
            return Err(Refused::TooMuch(format!("a locate names at most {} peers as dead", limits::DEAD)));
        }
        let dead = request.dead.iter().enumerate().map(|(at, id)| parse(format_args!("dead[{at}]"), id));
        let dead = dead.collect::<Result<Vec<_>, _>>()?;
        let ask = Ask { id, dead: &dead, from, dice: self.roll() };
        let (mut registry, _) = self.registry();
        Ok(tell(located::Reply::new(match asker {
            Some(token) => registry.locate_for(token, &ask)?,
            None => registry.locate(&ask),
        })))
    }

    pub(super) fn peers(&self, from: IpAddr, request: &proto::PeersRequest) -> Result<proto::PeersReply, Refused> {
        let after = match request.cursor.as_str() {
            "" => None,
            id => Some(parse("cursor", id)?),
        };
        let (registry, _) = self.registry();
        let roll = registry.roll(after.as_ref(), from.is_loopback(), limits::PEERS_PAGE);
        let peer = |known: Known<'_>| proto::Peer {
            peer_id: known.id.as_str().to_owned(),
            address: address_text(known.address),
            zone: known.zone.as_str().to_owned(),
            files: known.files as u64,
            bytes: known.bytes,
            downloads: u32::try_from(known.downloads).unwrap_or(u32::MAX),
            mirror: known.mirror.map(|Mirror { wanted, here }| proto::Mirror { wanted, here }),
        };
        Ok(proto::PeersReply {
            peers: roll.peers.into_iter().map(peer).collect(),
            cursor: roll.last.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        })
    }
}

/// Tells the other trackers of an announce in the end, and those who watch, however much of it was made.
struct Telling<'a> {
    calls: &'a Calls,
    token: Token<'a>,
    changes: &'a Changes,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let Shared { listener, watches, .. } = &self.calls.shared;
        if listener.is_none() && watches.is_empty() {
            return;
        }
        let (registry, _) = self.calls.registry();
        let Some(id) = registry.holder_id(self.token) else { return };
        self.calls.tell(|listener| listener.announced(id, self.changes));
        if let Some(identity) = registry.identity(id) {
            watches.changed(id, identity, self.changes);
        }
    }
}

/// An address as text, for which memory is asked once: a locate has ten and more.
fn address_text(address: SocketAddr) -> String {
    let mut text = String::with_capacity(if address.is_ipv4() { 21 } else { 58 });
    let _ = write!(text, "{address}");
    text
}

fn parse<T: FromStr<Err: Display>>(field: impl Display, text: &str) -> Result<T, Refused> {
    text.parse().map_err(|rule| invalid(field, rule))
}

fn content_id(field: impl Display, bytes: &[u8]) -> Result<ContentId, Refused> {
    ContentId::try_from(bytes).map_err(|_| invalid(field, "32 bytes"))
}

fn content(entry: impl Display, id: &[u8], size: u64) -> Result<Content, Refused> {
    let id = content_id(format_args!("{entry}.content"), id)?;
    if size > limits::CONTENT_BYTES {
        return Err(invalid(format_args!("{entry}.size"), format_args!("at most {}", limits::CONTENT_BYTES)));
    }
    Ok(Content { id, size })
}

/// As many of a page's rows as the reply's message may have bytes and places; and where to fetch them from, if
/// `near` says that.
fn search_reply<'a>(page: Page<'a>, near: Option<impl Fn(Content) -> Vec<Source<'a>>>) -> proto::SearchReply {
    /// A field's tag and length, at most.
    const FIELD_BYTES: usize = 8;
    let mut reply = proto::SearchReply::default();
    let mut placed = BTreeSet::new();
    let mut bytes = limits::CURSOR_BYTES + FIELD_BYTES;
    for row in &page.rows {
        let near = near.as_ref().map(|near| near(row.content));
        let source_ids = match &near {
            Some(near) => near.iter().map(|source| source.id.to_string()).collect(),
            None => row.source_ids.iter().map(ToString::to_string).collect(),
        };
        let found = proto::Found {
            path: row.path.clone(),
            content: row.content.id.bytes().to_vec(),
            size: row.content.size,
            sources: u32::try_from(row.sources).unwrap_or(u32::MAX),
            source_ids,
        };
        bytes += found.encoded_len() + FIELD_BYTES;
        let mut places = Vec::new();
        for source in near.into_iter().flatten().filter(|source| placed.insert(source.id)) {
            let place = proto::Place {
                peer_id: source.id.as_str().to_owned(),
                address: address_text(source.address),
                zone: source.zone.as_str().to_owned(),
            };
            bytes += place.encoded_len() + FIELD_BYTES;
            places.push(place);
        }
        if placed.len() > limits::REPLY_PLACES || bytes > limits::RPC_BYTES {
            break;
        }
        reply.found.push(found);
        reply.places.extend(places);
    }
    reply.cursor = page.after(reply.found.len()).map(|cursor| cursor.to_bytes()).unwrap_or_default();
    reply
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole, once the system has started (getrandom(2)).
    let got = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(got, Ok(N), "the system gives random bytes");
    bytes
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;

/// What an announce comes to that nobody else gets in between.
#[cfg(any(test, fuzzing))]
fn at_once<T>(call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(reply) = call.as_mut().poll(&mut context) {
            return reply;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(advertise: &str) -> proto::JoinRequest {
        proto::JoinRequest {
            peer_id: "a".into(),
            identity: vec![7; 32],
            port: 5000,
            zone: "z1".into(),
            advertise: advertise.into(),
        }
    }

    #[test]
    fn a_peer_is_never_given_where_no_peer_can_be() {
        let calls = |allow_advertise| {
            let config = Config { lease: limits::LEASE, allow_advertise };
            Calls::new(config, Shared::alone(config), Arc::default())
        };
        for (from, advertise, address) in [
            ("10.0.0.1", "", Some("10.0.0.1:5000")),
            ("2001:db8::1", "", Some("[2001:db8::1]:5000")),
            ("127.0.0.1", "", Some("127.0.0.1:5000")),
            ("169.254.7.7", "", None),
            ("fe80::1", "", None),
            ("10.0.0.1", "52.1.2.3", Some("52.1.2.3:5000")),
            ("10.0.0.1", "::ffff:52.1.2.3", Some("52.1.2.3:5000")),
            ("10.0.0.1", "2001:db8::7", Some("[2001:db8::7]:5000")),
            ("127.0.0.1", "127.0.0.2", Some("127.0.0.2:5000")),
            ("10.0.0.1", "127.0.0.1", None),
            ("10.0.0.1", "::1", None),
            ("10.0.0.1", "::ffff:127.0.0.1", None),
            ("10.0.0.1", "169.254.169.254", None),
            ("127.0.0.1", "169.254.169.254", None),
            ("10.0.0.1", "0.0.0.0", None),
            ("10.0.0.1", "255.255.255.255", None),
            ("10.0.0.1", "224.0.0.1", None),
            ("10.0.0.1", "52.1.2.3:80", None),
            ("10.0.0.1", "example.com", None),
            ("10.0.0.1", "fe80::1%eth0", None),
            ("10.0.0.1", " 52.1.2.3", None),
        ] {
            let from = from.parse().unwrap();
            let joined = calls(true).join(from, &request(advertise));
            assert_eq!(joined.as_ref().ok().map(|reply| reply.address.as_str()), address, "{from} {advertise}");
            if joined.is_err() {
                assert!(matches!(joined, Err(Refused::Invalid(_))), "{joined:?}");
            }
            if !advertise.is_empty() {
                assert!(matches!(calls(false).join(from, &request(advertise)), Err(Refused::NotAllowed(_))));
            }
        }
    }

    #[test]
    fn a_peer_on_the_trackers_loopback_is_for_askers_there() {
        let config = Config { lease: limits::LEASE, allow_advertise: false };
        let calls = Calls::new(config, Shared::alone(config), Arc::default());
        let (here, there) = ("127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let token = calls.join(here, &request("")).unwrap().token;
        let file = proto::File { path: "x".into(), content: vec![1; 32], size: 1 };
        let announce = proto::AnnounceRequest { token, added: vec![file], ..proto::AnnounceRequest::default() };
        at_once(calls.announce(&announce)).unwrap();
        for exact in [true, false] {
            let search =
                proto::SearchRequest { text: "x".into(), exact, places: true, ..proto::SearchRequest::default() };
            assert_eq!(calls.search(here, &search).unwrap().found.len(), 1);
            assert_eq!(calls.search(here, &search).unwrap().places[0].zone, "z1");
            assert_eq!(calls.search(there, &search).unwrap(), proto::SearchReply::default());
        }
        let locate = proto::LocateRequest { content: vec![1; 32], ..proto::LocateRequest::default() };
        assert_eq!(calls.locate(here, &locate, |reply| reply.message()).unwrap().sources[0].zone, "z1");
        assert_eq!(calls.locate(there, &locate, |reply| reply.message()).unwrap(), proto::LocateReply::default());
    }
}
