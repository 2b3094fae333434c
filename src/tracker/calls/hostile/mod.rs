//! All calls, with good and hostile values mixed at random, against a naive tracker: every answer is what that one
//! says, every refusal has the code and the sentence of something that is wrong, and refusals change nothing.

mod model;
mod values;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures_core::Stream as _;
use tonic::Status;

use self::{
    model::{Fault, Model},
    values::Values,
};
use super::*;
use crate::{
    fuzz::Input,
    tracker::{
        refusals::status,
        registry::{Key, ROOM, Room},
        watches::Watching,
    },
};

/// Part of the sentence of every refusal that there is.
const SENTENCES: [&str; 41] = [
    "peer_id: a peer id is",
    "peer_id: get, put, search and status",
    "identity: 32 bytes",
    "port: 1 to 65535",
    "zone: a zone is",
    "address: this call comes from",
    "advertise: an IPv4 or IPv6 address",
    "advertise: an address that others may dial",
    "without --allow-advertise",
    "another live peer has the id",
    "the tracker has its 100000 peers",
    "token: the 1 to 128 bytes",
    "join again",
    "a newer copy of this folder",
    "an announce holds at most 1000 files and downloads",
    "added[0].path: a file name cannot be empty",
    "path: a path is at most 1024 bytes long",
    "path: a file name is at most 255 bytes long",
    "path: a file name cannot hold control characters",
    "path: names that begin with a dot",
    "added[0].content: 32 bytes",
    "added[0].size: at most 4611686018427387904",
    "removed[0]: ",
    "downloading[0].content: 32 bytes",
    "downloading[0].size: at most 4611686018427387904",
    "stopped[0]: 32 bytes",
    "is announced with two sizes",
    "a peer may announce 2000000 files",
    "files: start another tracker",
    "a peer may announce 1000 downloads",
    "the tracker has its 500000 downloads",
    "dead[0]: ",
    "a locate names at most 16 peers as dead",
    "text: 1 to 1024 bytes",
    "publishers: at least one",
    "a watch has at most 16 patterns",
    "publishers[0].peer_id: a peer id is",
    "publishers[1].peer_id: each once",
    "publishers[0].known: 32 bytes",
    "patterns[0]: 1 to 1024 bytes",
    "cursor: a peer id is",
];

struct Pair<'a> {
    calls: Arc<Calls>,
    model: Model,
    values: Values<'a>,
    /// The newest tokens.
    tokens: Vec<Vec<u8>>,
    /// The last watch that began, and what it has told.
    watch: Option<Watch>,
    /// Which of [`SENTENCES`] were met.
    met: BTreeSet<&'static str>,
}

struct Watch {
    request: proto::WatchRequest,
    watching: Watching,
    told: BTreeMap<String, BTreeMap<String, (Vec<u8>, u64)>>,
}

impl<'a> Pair<'a> {
    #[cfg(test)]
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        Self::with(seed, Box::new(move |end| dice.below(end)))
    }

    fn with(seed: u64, chance: Box<dyn FnMut(usize) -> usize + 'a>) -> Self {
        let allow_advertise = seed.is_multiple_of(2);
        let room = Room { peers: 5, files_per_peer: 4, files: 12, downloads_per_peer: 2, downloads: 6, ..ROOM };
        // Nobody dies here: the naive one has no clock.
        let config = Config { lease: Duration::from_secs(*limits::LEASE_SECONDS.end()), allow_advertise };
        let registry = Arc::new(Mutex::new(Registry::with_room(config.lease, room)));
        Self {
            calls: Arc::new(Calls::new(
                config,
                Shared { key: Key::new([seed as u8; 32]), registry, ..Shared::alone(config) },
                Arc::default(),
            )),
            model: Model { room, allow_advertise, peers: BTreeMap::new(), tokens: BTreeMap::new() },
            values: Values { chance, rarity: [8, 30, 100][seed as usize % 3] },
            tokens: vec![vec![7; 16]],
            watch: None,
            met: BTreeSet::new(),
        }
    }

    /// Mostly one of the newest tokens, and else none at all, or one that is not quite one.
    fn token(&mut self) -> Vec<u8> {
        let newest = self.tokens.len().saturating_sub(8);
        let good = self.values.one_of(&self.tokens[newest..]);
        let other = self.values.one_of(&self.tokens);
        let mut flipped = good.clone();
        flipped[self.values.below(good.len())] ^= 1 << self.values.below(8);
        let crossed = [&good[..good.len() / 2], &other[other.len() / 2..]].concat();
        let bad = [vec![], vec![0; 16], vec![9; 128], vec![9; 129], vec![0; 10_000], flipped, crossed, other];
        self.values.value(&[good], &bad)
    }

    /// Checks an answer against what is wrong with its request; the reply, if there is one.
    fn outcome<T>(&mut self, reply: Result<T, Refused>, faults: &[Fault]) -> Option<T> {
        match reply.map_err(status) {
            Ok(reply) => {
                assert!(faults.is_empty(), "not refused for {faults:?}");
                Some(reply)
            }
            Err(refusal) => {
                let is_meant = |(code, part): &Fault| refusal.code() == *code && refusal.message().contains(part);
                assert!(faults.iter().any(is_meant), "{refusal:?} is none of {faults:?}");
                assert_is_sentence(&refusal);
                self.met.extend(SENTENCES.into_iter().filter(|part| refusal.message().contains(part)));
                None
            }
        }
    }

    fn step(&mut self) {
        let from = self.values.from();
        match self.values.below(18) {
            0..3 => {
                let request = self.joining();
                let faults = self.model.join_faults(from, &request);
                let reply = self.calls.join(from, &request);
                if let Some(reply) = self.outcome(reply, &faults) {
                    self.model.joined(from, &request, &reply);
                    self.tokens.push(reply.token);
                }
            }
            3 => {
                let request = proto::RenewRequest { token: self.token() };
                let faults: Vec<_> = self.model.token_fault(&request.token).into_iter().collect();
                let reply = self.calls.renew(&request);
                if self.outcome(reply, &faults).is_some() {
                    self.model.holder(&request.token).reported_by.clear();
                }
            }
            4 if self.values.below(3) == 0 => {
                let request = proto::LeaveRequest { token: self.token() };
                let faults: Vec<_> = self.model.token_fault(&request.token).into_iter().collect();
                let reply = self.calls.leave(&request);
                if self.outcome(reply, &faults).is_some() {
                    let (id, ..) = &self.model.tokens[&request.token];
                    self.model.peers.remove(id);
                }
            }
            4..10 => {
                let request = self.announcement();
                let faults = self.model.announce_faults(&request);
                let reply = at_once(self.calls.announce(&request));
                if self.outcome(reply, &faults).is_some() {
                    self.model.announced(&request);
                }
            }
            10..13 => {
                let token = if self.values.below(3) == 0 { Vec::new() } else { self.token() };
                let many = self.values.value(&[2], &[17]);
                let dead = self.values.list(many, Values::id);
                let request = proto::LocateRequest { content: self.values.content(), token, dead };
                let faults = self.model.locate_faults(&request);
                let reply = self.calls.locate(from, &request, |reply| reply.message());
                if let Some(reply) = self.outcome(reply, &faults) {
                    self.model.located(from, &request, &reply);
                }
            }
            13 => self.watch(),
            14 => {
                let cursor = if self.values.below(2) == 0 { String::new() } else { self.values.id() };
                let request = proto::PeersRequest { cursor };
                let faults = Model::peers_faults(&request);
                let reply = self.calls.peers(from, &request);
                if let Some(reply) = self.outcome(reply, &faults) {
                    self.model.listed(from, &request, &reply);
                }
            }
            _ => self.search(),
        }
        self.hear();
        self.calls.shared.registry.lock().expect("nobody panicked").check_invariants();
    }

    fn joining(&mut self) -> proto::JoinRequest {
        let values = &mut self.values;
        let (good, bad) =
            ([vec![1; 32], vec![1; 32], vec![2; 32]], [vec![], vec![1; 31], vec![1; 33], vec![1; 10_000]]);
        let advertise = if values.below(4) > 0 { vec![""] } else { vec!["52.1.2.3", "2001:db8::7"] };
        let long = "1".repeat(10_000);
        let never = ["0.0.0.0", "169.254.169.254", "::ffff:127.0.0.1", "127.0.0.1", "a.com", "52.1.2.3:80", &long];
        proto::JoinRequest {
            peer_id: values.id(),
            identity: values.value(&good, &bad),
            port: values.value(&[1, 5000, 65_535], &[0, 65_536, u32::MAX]),
            zone: values.zone(),
            advertise: values.text(&advertise, &never),
        }
    }

    fn announcement(&mut self) -> proto::AnnounceRequest {
        let token = self.token();
        let values = &mut self.values;
        let many = values.value(&[0, 0, 0, 2], &[1001]);
        let mut request = proto::AnnounceRequest {
            token,
            added: values.list(3, |values| proto::File {
                path: values.path(),
                content: values.content(),
                size: values.size(),
            }),
            removed: values.list(2, Values::path),
            downloading: values.list(2, |values| proto::Download { content: values.content(), size: values.size() }),
            stopped: values.list(2, Values::content),
            mirror: values.value(
                &[None, Some(proto::Mirror { wanted: 3, here: 1 })],
                &[Some(proto::Mirror { wanted: 0, here: u32::MAX })],
            ),
        };
        request.removed.extend((2..many).map(|_| "x".to_owned()));
        request
    }

    fn search(&mut self) {
        let from = self.values.from();
        let good =
            ["x", "*", "?", "É", "é*", "d/*", "*.TXT", "d/x", "z Z", "\0", "[[[", "\\", "?*?*?*?*?*?*?*", "../x"];
        let request = proto::SearchRequest {
            text: self.values.text(&good, &["", &"x".repeat(1025), &"*".repeat(10_000)]),
            exact: self.values.below(4) == 0,
            places: self.values.below(2) == 0,
            zone: self.values.zone(),
            ..proto::SearchRequest::default()
        };
        let faults = Model::search_faults(&request);
        let reply = self.calls.search(from, &request);
        if let Some(reply) = self.outcome(reply, &faults) {
            self.model.found(from, &request, &reply);
        }
    }

    fn watch(&mut self) {
        let token = self.token();
        let values = &mut self.values;
        let known = |values: &mut Values<'_>| values.value(&[vec![], vec![], vec![3; 32]], &[vec![0], vec![1; 33]]);
        let publisher = |values: &mut Values<'_>| proto::Publisher { peer_id: values.id(), known: known(values) };
        let many = values.value(&[1, 2], &[0, 17]);
        let pattern = |values: &mut Values<'_>| values.text(&["*", "x", "d/*", "É*"], &["", &"*".repeat(1025)]);
        let patterns = (0..many).map(|_| pattern(values)).collect();
        let publishers = (0..values.value(&[1, 2, 3], &[0])).map(|_| publisher(values)).collect();
        let request = proto::WatchRequest { token, publishers, patterns };
        let faults = self.model.watch_faults(&request);
        let reply = self.calls.watch(&request);
        if let Some((watcher, wanted)) = self.outcome(reply, &faults) {
            let watching = Watching::begin(Arc::clone(&self.calls), watcher, wanted);
            self.watch = Some(Watch { request, watching, told: BTreeMap::new() });
        }
    }

    /// Takes in what the watch tells, until it has nothing to tell or ends.
    fn hear(&mut self) {
        let Some(Watch { watching, told, .. }) = &mut self.watch else { return };
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = 0;
        // It waits after each step of what there is, three of each publisher at most, and then for news.
        while waits < 12 {
            match Pin::new(&mut *watching).poll_next(&mut context) {
                Poll::Pending => waits += 1,
                Poll::Ready(None) => return self.watch = None,
                Poll::Ready(Some(reply)) => {
                    let reply = reply.expect("no watch fails");
                    let files = told.entry(reply.peer_id).or_default();
                    if reply.anew {
                        files.clear();
                    }
                    reply.removed.iter().for_each(|path| drop(files.remove(path)));
                    files.extend(reply.added.into_iter().map(|file| (file.path, (file.content, file.size))));
                }
            }
        }
    }

    /// Compares all there is, as somebody sees it who is beside the tracker.
    fn compare(&self) {
        let from = IpAddr::from([127, 0, 0, 1]);
        let request = proto::SearchRequest { text: "*".into(), ..proto::SearchRequest::default() };
        self.model.found(from, &request, &self.calls.search(from, &request).expect("it is sound"));
        if let Some(Watch { request, told, .. }) = &self.watch {
            self.model.told(request, told);
        }
        let request = proto::PeersRequest::default();
        self.model.listed(from, &request, &self.calls.peers(from, &request).expect("it is sound"));
    }
}

/// The fuzz target: bytes that choose what is called, and with which values.
pub(crate) fn check(data: &[u8]) {
    let Some((&seed, rest)) = data.split_first() else { return };
    let mut input = Input(rest);
    let mut pair = Pair::with(seed.into(), Box::new(move |end| input.below(end)));
    (0..=rest.len().min(1000) / 8).for_each(|_| pair.step());
    pair.compare();
}

/// A refusal is one line that a person can read, whatever was in the request.
fn assert_is_sentence(refusal: &Status) {
    let text = refusal.message();
    assert!((10..=300).contains(&text.len()) && !text.contains(char::is_control), "{text:?}");
}

#[test]
fn every_call_with_hostile_values_is_answered_as_a_naive_tracker_would() {
    let mut met = BTreeSet::new();
    for seed in 0..42 {
        // Shown when something fails.
        println!("seed {seed}");
        let mut pair = Pair::new(seed);
        for _ in 0..800 {
            pair.step();
            pair.compare();
        }
        met.append(&mut pair.met);
    }
    let missed: Vec<_> = SENTENCES.iter().filter(|part| !met.contains(*part)).collect();
    assert!(missed.is_empty(), "never heard: {missed:?}");
}

#[test]
fn a_million_tiny_batches_leave_what_one_leaves() {
    let mut pair = Pair::new(0);
    let from = IpAddr::from([10, 0, 0, 1]);
    let join = proto::JoinRequest { peer_id: "a".into(), identity: vec![1; 32], port: 1, ..Default::default() };
    let token = pair.calls.join(from, &join).unwrap().token;
    pair.model.joined(
        from,
        &join,
        &proto::JoinReply { token: token.clone(), address: "10.0.0.1:1".into(), lease_millis: 0 },
    );
    let file = |size| proto::File { path: "x".into(), content: vec![1; 32], size };
    let batches = [
        proto::AnnounceRequest { token: token.clone(), ..Default::default() },
        proto::AnnounceRequest { token: token.clone(), removed: vec!["x".into()], ..Default::default() },
        proto::AnnounceRequest { token: token.clone(), added: vec![file(1)], ..Default::default() },
        proto::AnnounceRequest { token, added: vec![file(2)], ..Default::default() },
    ];
    for at in 0..1_000_000 {
        let announced = at_once(pair.calls.announce(&batches[at % batches.len()]));
        assert_eq!(announced.is_ok(), at % batches.len() != 3, "{announced:?}");
    }
    pair.model.announced(&batches[2]);
    pair.compare();
    pair.calls.shared.registry.lock().unwrap().check_invariants();
}
