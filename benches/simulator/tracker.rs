//! The tracker's own registry, asked as its calls would ask it. Peers are known by their numbers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use enjambre::{
    content::ContentId,
    limits,
    name::PeerId,
    tracker::registry::{Ask, Changes, Content, Identity, Join, Registry, Source, Token},
};

/// The incarnation of every peer: each joins once.
const ONLY_JOIN: u64 = 0;

pub(super) struct Tracker {
    registry: Registry,
    content: Content,
    start: Instant,
}

impl Tracker {
    pub(super) fn new(id: ContentId, size: u64) -> Self {
        let content = Content { id, size };
        Self { registry: Registry::new(limits::LEASE), content, start: Instant::now() }
    }

    /// The time, with those forgotten whose lease has ended by then.
    fn tick(&mut self, now: Duration) -> Instant {
        let now = self.start + now;
        while self.registry.next_expiry().is_some_and(|next| next <= now) {
            self.registry.expire(now);
        }
        now
    }

    pub(super) fn join(&mut self, peer: usize, zone: usize, now: Duration) {
        let zone = format!("z{zone}").parse().expect("a zone");
        let join = Join { id: name(peer), identity: identity(peer), address: address(peer), zone };
        let now = self.tick(now);
        self.registry.join(now, join, ONLY_JOIN).expect("there is room");
    }

    /// Makes a call that takes a token.
    fn by<T>(&mut self, peer: usize, call: impl FnOnce(&mut Registry, Token<'_>) -> T) -> T {
        call(&mut self.registry, Token::new(&name(peer), &identity(peer), ONLY_JOIN))
    }

    /// A peer that is known.
    fn announce(&mut self, peer: usize, changes: &Changes, now: Duration) {
        let now = self.tick(now);
        self.by(peer, |registry, token| registry.announce(now, token, changes)).expect("a live peer");
    }

    pub(super) fn renew(&mut self, peer: usize, now: Duration) {
        let now = self.tick(now);
        self.by(peer, |registry, token| registry.renew(now, token)).expect("a live peer");
    }

    pub(super) fn begin(&mut self, peer: usize, now: Duration) {
        self.announce(peer, &Changes { downloading: vec![self.content], ..Changes::default() }, now);
    }

    pub(super) fn stop(&mut self, peer: usize, now: Duration) {
        self.announce(peer, &Changes { stopped: vec![self.content.id], ..Changes::default() }, now);
    }

    pub(super) fn became_whole(&mut self, peer: usize, now: Duration) {
        let added = vec![("simulated".parse().expect("a path"), self.content)];
        self.announce(peer, &Changes { added, stopped: vec![self.content.id], ..Changes::default() }, now);
    }

    /// Who holds all.
    pub(super) fn whole(&mut self, dice: u64, now: Duration) -> Vec<usize> {
        self.tick(now);
        self.registry.locate(&ask(self.content.id, &[], dice)).sources.iter().map(number).collect()
    }

    /// Whom a peer is given, and whether that one downloads it too.
    pub(super) fn neighbours(&mut self, peer: usize, dead: &[usize], dice: u64, now: Duration) -> Vec<(usize, bool)> {
        self.tick(now);
        let dead: Vec<_> = dead.iter().rev().take(limits::DEAD).map(|&dead| name(dead)).collect();
        let id = self.content.id;
        self.by(peer, |registry, token| {
            let sources = registry.locate_for(token, &ask(id, &dead, dice)).expect("a live peer").sources;
            sources.iter().map(|source| (number(source), source.is_partial)).collect()
        })
    }
}

pub(super) fn name(peer: usize) -> PeerId {
    format!("p{peer}").parse().expect("a peer id")
}

/// As the crew makes one of a peer's id.
pub(super) fn tag(peer: usize) -> u64 {
    let id = ContentId::of(name(peer).as_str().as_bytes());
    id.bytes().iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

/// A question of somebody on another machine than the tracker's.
fn ask(id: ContentId, dead: &[PeerId], dice: u64) -> Ask<'_> {
    Ask { id, dead, from: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), dice }
}

fn identity(peer: usize) -> Identity {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&peer.to_be_bytes());
    Identity::of(&secret)
}

fn address(peer: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + peer as u32).into(), 5000)
}

fn number(source: &Source<'_>) -> usize {
    match source.address.ip() {
        IpAddr::V4(ip) => (u32::from(ip) - 0x0a00_0000) as usize,
        IpAddr::V6(_) => unreachable!("all have IPv4 addresses"),
    }
}
