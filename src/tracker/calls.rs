//! The six calls: every field is parsed here, once, into types that hold nothing bad; then the
//! registry is asked, and its answer put into a reply.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prost::Message as _;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    registry::{Changes, Content, Identity, Join, Refusal, Registry, Row, Token},
    search::Pattern,
};
use crate::{address::is_dialable, content::ContentId, limits, name::SharePath, proto, say};

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
    registry: Mutex<Registry>,
}

impl Calls {
    pub(super) fn new(config: Config) -> Self {
        Self { config, registry: Mutex::new(Registry::new(config.lease)) }
    }

    /// The registry as it is at this moment, without peers whose lease has ended.
    fn registry(&self) -> (MutexGuard<'_, Registry>, Instant) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for id in registry.expire(now) {
            say(format_args!("expire peer={id}"));
        }
        (registry, now)
    }

    /// Forgets the dead; says after what time there may be more of them.
    pub(super) fn expire(&self) -> Duration {
        let (registry, now) = self.registry();
        // A lease that is granted from now on cannot end sooner than a lease from now.
        registry.next_expiry().map_or(self.config.lease, |next| next.duration_since(now))
    }

    pub(super) fn join(&self, from: IpAddr, request: &proto::JoinRequest) -> Result<proto::JoinReply, Refused> {
        let id = parse("peer_id", &request.peer_id)?;
        let zone = parse("zone", &request.zone)?;
        let secret = request.identity.as_slice().try_into().map_err(|_| invalid("identity", "32 bytes"))?;
        let port = u16::try_from(request.port).ok().and_then(NonZeroU16::new);
        let port = port.ok_or_else(|| invalid("port", "1 to 65535"))?;
        let address = SocketAddr::new(self.address(from, &request.advertise)?, port.get());
        let mut token = [0; 16];
        random(&mut token);

        let line = format!("join peer={id} address={address} zone={zone}", zone = request.zone);
        let join = Join { id, identity: Identity::of(secret), address, zone };
        let (mut registry, now) = self.registry();
        let took_over = registry.join(now, join, Token::new(token))?;
        say(format_args!("{line} took_over={took_over}"));
        Ok(proto::JoinReply {
            token: token.to_vec(),
            lease_millis: u32::try_from(self.config.lease.as_millis()).unwrap_or(u32::MAX),
            address: address.to_string(),
        })
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
                "this tracker was started without --allow-advertise: leave --advertise out",
            ));
        }
        let ip: IpAddr = advertise.parse().map_err(|_| invalid("advertise", "an IPv4 or IPv6 address, no port"))?;
        if !is_dialable(ip, from.is_loopback()) {
            return Err(invalid("advertise", "an address that others may dial: not loopback, link-local or multicast"));
        }
        Ok(ip.to_canonical())
    }

    pub(super) fn announce(&self, request: &proto::AnnounceRequest) -> Result<proto::AnnounceReply, Refused> {
        let token = token(&request.token)?;
        let proto::AnnounceRequest { added, removed, .. } = request;
        if added.len() + removed.len() > limits::ANNOUNCE_FILES {
            let most = limits::ANNOUNCE_FILES;
            return Err(Refused::TooMuch(format!("an announce holds at most {most} files: send several")));
        }
        let mut changes = Changes::default();
        for (at, file) in added.iter().enumerate() {
            changes.added.push((parse(format_args!("added[{at}].path"), &file.path)?, content(at, file)?));
        }
        for (at, path) in removed.iter().enumerate() {
            changes.removed.push(parse(format_args!("removed[{at}]"), path)?);
        }
        let (mut registry, now) = self.registry();
        registry.announce(now, token, &changes)?;
        Ok(proto::AnnounceReply {})
    }

    pub(super) fn renew(&self, request: &proto::RenewRequest) -> Result<proto::RenewReply, Refused> {
        let token = token(&request.token)?;
        let (mut registry, now) = self.registry();
        registry.renew(now, token)?;
        Ok(proto::RenewReply {})
    }

    pub(super) fn leave(&self, request: &proto::LeaveRequest) -> Result<proto::LeaveReply, Refused> {
        let token = token(&request.token)?;
        let id = self.registry().0.leave(token)?;
        say(format_args!("leave peer={id}"));
        Ok(proto::LeaveReply {})
    }

    pub(super) fn search(&self, from: IpAddr, request: &proto::SearchRequest) -> Result<proto::SearchReply, Refused> {
        if request.text.is_empty() || request.text.len() > limits::PATH_BYTES {
            return Err(invalid("text", format_args!("1 to {} bytes", limits::PATH_BYTES)));
        }
        let local = from.is_loopback();
        let (registry, _) = self.registry();
        if !request.exact {
            return Ok(search_reply(registry.search(&mut Pattern::new(&request.text), local)));
        }
        // What is no path names nothing, and that is no error: people type such things.
        let Ok(path) = request.text.parse::<SharePath>() else { return Ok(proto::SearchReply::default()) };
        Ok(search_reply(registry.search_exact(&path, local)))
    }

    pub(super) fn locate(&self, from: IpAddr, request: &proto::LocateRequest) -> Result<proto::LocateReply, Refused> {
        let id = ContentId::try_from(request.content.as_slice()).map_err(|_| invalid("content", "32 bytes"))?;
        let mut dice = [0; 8];
        random(&mut dice);
        let (registry, _) = self.registry();
        let located = registry.locate(id, from.is_loopback(), u64::from_ne_bytes(dice));
        Ok(proto::LocateReply {
            paths: located.paths.into_iter().map(SharePath::to_string).collect(),
            sources: (located.sources.into_iter())
                .map(|source| proto::Source {
                    peer_id: source.id.to_string(),
                    address: source.address.to_string(),
                    zone: source.zone.as_str().to_owned(),
                    size: source.size,
                })
                .collect(),
        })
    }
}

fn parse<T: FromStr<Err: Display>>(field: impl Display, text: &str) -> Result<T, Refused> {
    text.parse().map_err(|rule| invalid(field, rule))
}

fn token(bytes: &[u8]) -> Result<Token, Refused> {
    bytes.try_into().map(Token::new).map_err(|_| invalid("token", "the 16 bytes that join answered"))
}

fn content(at: usize, file: &proto::File) -> Result<Content, Refused> {
    let id = ContentId::try_from(file.content.as_slice());
    let id = id.map_err(|_| invalid(format_args!("added[{at}].content"), "32 bytes"))?;
    if file.size > limits::CONTENT_BYTES {
        return Err(invalid(format_args!("added[{at}].size"), format_args!("at most {}", limits::CONTENT_BYTES)));
    }
    Ok(Content { id, size: file.size })
}

/// As many rows as a reply may have, and as its message may have bytes.
fn search_reply<'a>(rows: impl Iterator<Item = Row<'a>>) -> proto::SearchReply {
    /// A field's tag and length, at most.
    const FIELD_BYTES: usize = 8;
    let mut reply = proto::SearchReply::default();
    let mut bytes = FIELD_BYTES;
    for row in rows {
        let found = proto::Found {
            path: row.path.to_string(),
            content: row.content.id.bytes().to_vec(),
            size: row.content.size,
            sources: u32::try_from(row.sources).unwrap_or(u32::MAX),
            source_ids: row.source_ids.into_iter().map(ToString::to_string).collect(),
        };
        bytes += found.encoded_len() + FIELD_BYTES;
        if reply.found.len() == limits::SEARCH_RESULTS || bytes > limits::RPC_BYTES {
            reply.more = true;
            break;
        }
        reply.found.push(found);
    }
    reply
}

fn random(bytes: &mut [u8]) {
    // Up to 256 bytes come whole, once the system has started (getrandom(2)).
    let got = getrandom(&mut *bytes, GetRandomFlags::empty());
    assert_eq!(got, Ok(bytes.len()), "the system gives random bytes");
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
        let calls = |allow_advertise| Calls::new(Config { lease: limits::LEASE, allow_advertise });
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
        let calls = Calls::new(Config { lease: limits::LEASE, allow_advertise: false });
        let (here, there) = ("127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let token = calls.join(here, &request("")).unwrap().token;
        let file = proto::File { path: "x".into(), content: vec![1; 32], size: 1 };
        calls.announce(&proto::AnnounceRequest { token, added: vec![file], removed: vec![] }).unwrap();
        for exact in [true, false] {
            let search = proto::SearchRequest { text: "x".into(), exact };
            assert_eq!(calls.search(here, &search).unwrap().found.len(), 1);
            assert_eq!(calls.search(there, &search).unwrap().found.len(), 0);
        }
        let locate = proto::LocateRequest { content: vec![1; 32] };
        assert_eq!(calls.locate(here, &locate).unwrap().sources[0].zone, "z1");
        assert_eq!(calls.locate(there, &locate).unwrap(), proto::LocateReply::default());
    }
}
