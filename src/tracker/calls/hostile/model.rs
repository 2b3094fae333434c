//! A naive tracker: what is wrong with a request, what a call changes, and what its answer is to be, told in the
//! plainest way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use tonic::Code;

use crate::{
    address::{is_dialable, origin},
    limits, proto,
    tracker::registry::Room,
};

/// What somebody could be told of a wrong request: the code, and part of the sentence.
pub(super) type Fault = (Code, String);

fn fault(code: Code, part: &str) -> Fault {
    (code, part.to_owned())
}

fn id_fault(field: &str, id: &str) -> Option<Fault> {
    let label = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let is_good = label && (1..=64).contains(&id.len()) && !["get", "put", "search", "status"].contains(&id);
    (!is_good).then(|| fault(Code::InvalidArgument, &format!("{field}: ")))
}

fn zone_fault(zone: &str) -> Option<Fault> {
    let label = zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (!label || zone.len() > 64).then(|| fault(Code::InvalidArgument, "zone: "))
}

fn path_fault(field: &str, path: &str) -> Option<Fault> {
    let is_bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.len() > 255;
    let is_bad = path.len() > 1024 || path.contains(char::is_control) || path.split('/').any(is_bad_part);
    is_bad.then(|| fault(Code::InvalidArgument, &format!("{field}: ")))
}

fn content_fault(field: &str, content: &[u8]) -> Option<Fault> {
    (content.len() != 32).then(|| fault(Code::InvalidArgument, &format!("{field}: 32 bytes")))
}

fn size_fault(field: &str, size: u64) -> Option<Fault> {
    (size > 1 << 62).then(|| fault(Code::InvalidArgument, &format!("{field}: at most {}", 1_u64 << 62)))
}

type Known = (Vec<u8>, u64);

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    identity: Vec<u8>,
    /// Which of all joins made it.
    joined: usize,
    address: SocketAddr,
    zone: String,
    files: BTreeMap<String, Known>,
    downloads: BTreeMap<Vec<u8>, u64>,
    mirror: Option<proto::Mirror>,
    pub(super) reported_by: BTreeSet<IpAddr>,
}

impl Entry {
    fn holds(&self, content: &Known) -> bool {
        self.files.values().any(|held| held == content)
    }

    fn is_for(&self, from: IpAddr) -> bool {
        from.is_loopback() || !self.address.ip().is_loopback()
    }
}

pub(super) struct Model {
    pub(super) room: Room,
    pub(super) allow_advertise: bool,
    pub(super) peers: BTreeMap<String, Entry>,
    /// Of every token that was given, for which id, to which identity, and which of all joins it was.
    pub(super) tokens: BTreeMap<Vec<u8>, (String, Vec<u8>, usize)>,
}

impl Model {
    pub(super) fn token_fault(&self, token: &[u8]) -> Option<Fault> {
        if token.is_empty() || token.len() > 128 {
            return Some(fault(Code::InvalidArgument, "token: "));
        }
        let unknown = fault(Code::NotFound, "join again");
        let Some((id, identity, joined)) = self.tokens.get(token) else { return Some(unknown) };
        match self.peers.get(id) {
            Some(entry) if entry.joined == *joined => None,
            Some(entry) if entry.identity == *identity && entry.joined > *joined => {
                Some(fault(Code::Aborted, &format!("joined as {id}")))
            }
            _ => Some(unknown),
        }
    }

    pub(super) fn holder(&mut self, token: &[u8]) -> &mut Entry {
        let (id, ..) = &self.tokens[token];
        self.peers.get_mut(id).expect("it has a good token")
    }

    pub(super) fn join_faults(&self, from: IpAddr, request: &proto::JoinRequest) -> Vec<Fault> {
        let proto::JoinRequest { peer_id, identity, port, zone, advertise } = request;
        let mut faults: Vec<_> = id_fault("peer_id", peer_id).into_iter().chain(zone_fault(zone)).collect();
        if identity.len() != 32 {
            faults.push(fault(Code::InvalidArgument, "identity: 32 bytes"));
        }
        if !(1..=65535).contains(port) {
            faults.push(fault(Code::InvalidArgument, "port: 1 to 65535"));
        }
        let dialable = |ip: IpAddr| is_dialable(ip, from.is_loopback());
        if advertise.is_empty() && !is_dialable(from, true) {
            faults.push(fault(Code::InvalidArgument, "address: "));
        } else if !advertise.is_empty() && !self.allow_advertise {
            faults.push(fault(Code::PermissionDenied, "--allow-advertise"));
        } else if !advertise.is_empty() && !advertise.parse().is_ok_and(dialable) {
            faults.push(fault(Code::InvalidArgument, "advertise: "));
        }
        match self.peers.get(peer_id) {
            Some(entry) if entry.identity != *identity => {
                faults.push(fault(Code::AlreadyExists, &format!("another live peer has the id {peer_id}")));
            }
            None if self.peers.len() >= self.room.peers => {
                faults.push(fault(Code::ResourceExhausted, "the tracker has its 100000 peers"));
            }
            _ => {}
        }
        faults
    }

    pub(super) fn joined(&mut self, from: IpAddr, request: &proto::JoinRequest, reply: &proto::JoinReply) {
        let ip = request.advertise.parse().unwrap_or(from).to_canonical();
        let address = SocketAddr::new(ip, request.port as u16);
        assert_eq!(reply.address, address.to_string());
        let (joined, identity) = (self.tokens.len(), request.identity.clone());
        assert!((1..=128).contains(&reply.token.len()));
        let token = (request.peer_id.clone(), identity.clone(), joined);
        assert_eq!(self.tokens.insert(reply.token.clone(), token), None, "no token is given twice");
        let entry = Entry {
            identity,
            joined,
            address,
            zone: request.zone.clone(),
            files: BTreeMap::new(),
            downloads: BTreeMap::new(),
            mirror: None,
            reported_by: BTreeSet::new(),
        };
        self.peers.insert(request.peer_id.clone(), entry);
    }

    pub(super) fn announce_faults(&self, request: &proto::AnnounceRequest) -> Vec<Fault> {
        let proto::AnnounceRequest { token, added, removed, downloading, stopped, .. } = request;
        let mut faults: Vec<_> = self.token_fault(token).into_iter().collect();
        if added.len() + removed.len() + downloading.len() + stopped.len() > 1000 {
            faults.push(fault(Code::ResourceExhausted, "an announce holds at most 1000 files and downloads"));
        }
        for (at, proto::File { path, content, size }) in added.iter().enumerate() {
            faults.extend(path_fault(&format!("added[{at}].path"), path));
            faults.extend(content_fault(&format!("added[{at}].content"), content));
            faults.extend(size_fault(&format!("added[{at}].size"), *size));
        }
        for (at, path) in removed.iter().enumerate() {
            faults.extend(path_fault(&format!("removed[{at}]"), path));
        }
        for (at, proto::Download { content, size }) in downloading.iter().enumerate() {
            faults.extend(content_fault(&format!("downloading[{at}].content"), content));
            faults.extend(size_fault(&format!("downloading[{at}].size"), *size));
        }
        for (at, content) in stopped.iter().enumerate() {
            faults.extend(content_fault(&format!("stopped[{at}]"), content));
        }
        if faults.is_empty() {
            faults.extend(self.change_faults(request));
        }
        faults
    }

    /// What is wrong with changes of which each is sound.
    fn change_faults(&self, request: &proto::AnnounceRequest) -> Vec<Fault> {
        let entry = &self.peers[&self.tokens[&request.token].0];
        let news = news(request);
        let mut faults = Vec::new();
        let added: BTreeSet<Known> = news.values().flatten().cloned().collect();
        let downloading = request.downloading.iter().map(|download| (download.content.clone(), download.size));
        let said: BTreeSet<Known> = added.into_iter().chain(downloading).collect();
        for one in &said {
            if said.iter().chain(entry.files.values()).any(|other| one.0 == other.0 && one.1 != other.1) {
                faults.push(fault(Code::InvalidArgument, "two sizes: hash that file again"));
            }
        }
        let count = |is_meant: &dyn Fn(&String, &Option<Known>) -> bool| {
            news.iter().filter(|(path, content)| is_meant(path, content)).count()
        };
        let more = count(&|path, content| content.is_some() && !entry.files.contains_key(path));
        let fewer = count(&|path, content| content.is_none() && entry.files.contains_key(path));
        let all: usize = self.peers.values().map(|entry| entry.files.len()).sum();
        if more > 0 && entry.files.len() + more - fewer > self.room.files_per_peer {
            faults.push(fault(Code::ResourceExhausted, "a peer may announce 2000000 files"));
        }
        if more > 0 && all + more - fewer > self.room.files {
            faults.push(fault(Code::ResourceExhausted, &format!("the tracker has its {} files", limits::FILES)));
        }
        let wanted: BTreeSet<_> = request.downloading.iter().map(|download| &download.content).collect();
        let begun = wanted.iter().filter(|id| !entry.downloads.contains_key(**id)).count();
        let stopped: BTreeSet<_> = request.stopped.iter().filter(|id| !wanted.contains(id)).collect();
        let stopped = stopped.iter().filter(|id| entry.downloads.contains_key(**id)).count();
        let all: usize = self.peers.values().map(|entry| entry.downloads.len()).sum();
        if begun > 0 && entry.downloads.len() + begun - stopped > self.room.downloads_per_peer {
            faults.push(fault(Code::ResourceExhausted, "a peer may announce 1000 downloads"));
        }
        if begun > 0 && all + begun - stopped > self.room.downloads {
            faults.push(fault(Code::ResourceExhausted, "the tracker has its 500000 downloads"));
        }
        faults
    }

    pub(super) fn announced(&mut self, request: &proto::AnnounceRequest) {
        let entry = self.holder(&request.token);
        for (path, content) in news(request) {
            match content {
                Some(content) => drop(entry.files.insert(path, content)),
                None => drop(entry.files.remove(&path)),
            }
        }
        for file in &request.added {
            if entry.holds(&(file.content.clone(), file.size)) {
                entry.downloads.remove(&file.content);
            }
        }
        for id in &request.stopped {
            if request.downloading.iter().all(|download| download.content != *id) {
                entry.downloads.remove(id);
            }
        }
        for proto::Download { content, size } in &request.downloading {
            if !entry.holds(&(content.clone(), *size)) {
                entry.downloads.insert(content.clone(), *size);
            }
        }
        entry.mirror = request.mirror.or(entry.mirror);
        entry.reported_by.clear();
    }

    pub(super) fn locate_faults(&self, request: &proto::LocateRequest) -> Vec<Fault> {
        let mut faults: Vec<_> = content_fault("content", &request.content).into_iter().collect();
        if !request.token.is_empty() {
            faults.extend(self.token_fault(&request.token));
        }
        if request.dead.len() > 16 {
            faults.push(fault(Code::ResourceExhausted, "a locate names at most 16 peers as dead"));
        }
        let dead = request.dead.iter().enumerate();
        faults.extend(dead.filter_map(|(at, id)| id_fault(&format!("dead[{at}]"), id)));
        faults
    }

    /// Of each size, who holds it and may be given to whoever asks from there.
    fn holders(&self, id: &[u8], from: IpAddr) -> BTreeMap<u64, Vec<&String>> {
        let mut holders = BTreeMap::new();
        for (peer, entry) in self.peers.iter().filter(|(_, entry)| entry.is_for(from)) {
            let sizes: BTreeSet<_> = entry.files.values().filter(|held| held.0 == id).map(|held| held.1).collect();
            sizes.into_iter().for_each(|size| holders.entry(size).or_insert_with(Vec::new).push(peer));
        }
        holders
    }

    /// All paths of a content that somebody has whom the asker is told of.
    fn paths(&self, content: &Known, from: IpAddr) -> BTreeSet<&String> {
        let files = self.peers.values().filter(|entry| entry.is_for(from)).flat_map(|entry| &entry.files);
        files.filter(|(_, held)| *held == content).map(|(path, _)| path).collect()
    }

    pub(super) fn located(&mut self, from: IpAddr, request: &proto::LocateRequest, reply: &proto::LocateReply) {
        for id in &request.dead {
            if let Some(entry) = self.peers.get_mut(id).filter(|entry| entry.reported_by.len() < 3) {
                entry.reported_by.insert(origin(from));
            }
        }
        let asker = self.tokens.get(&request.token).map(|(id, ..)| id);
        let download = asker.and_then(|id| self.peers[id].downloads.get(&request.content));
        let (mut paths, mut sources) = (BTreeSet::new(), BTreeSet::new());
        let mut give = |id, size, is_partial| sources.extend([(id, size, is_partial)]);
        for (size, holders) in self.holders(&request.content, from) {
            if download.is_none_or(|wanted| *wanted == size) {
                paths.extend(self.paths(&(request.content.clone(), size), from));
                holders.into_iter().for_each(|id| give(id, size, false));
            }
        }
        if let Some(&size) = download {
            paths.extend(self.paths(&(request.content.clone(), size), from));
            let same = |entry: &Entry| entry.is_for(from) && entry.downloads.get(&request.content) == Some(&size);
            self.peers.iter().filter(|(_, entry)| same(entry)).for_each(|(id, _)| give(id, size, true));
        }
        sources.retain(|(id, ..)| Some(*id) != asker && !request.dead.contains(id));
        // There are too few peers here for any of the limits on what is given.
        assert!(reply.sources.iter().map(|source| (&source.peer_id, source.size, source.partial)).eq_set(sources));
        assert!(reply.paths.iter().eq(paths));
        for proto::Source { peer_id, address, zone, .. } in &reply.sources {
            let entry = &self.peers[peer_id];
            assert_eq!((address, zone), (&entry.address.to_string(), &entry.zone));
        }
        assert!(reply.sources.is_sorted_by_key(|source| self.peers[&source.peer_id].reported_by.len() == 3));
    }

    pub(super) fn watch_faults(&self, request: &proto::WatchRequest) -> Vec<Fault> {
        let proto::WatchRequest { token, publishers, patterns } = request;
        let mut faults: Vec<_> = self.token_fault(token).into_iter().collect();
        for (what, len) in [("publishers", publishers.len()), ("patterns", patterns.len())] {
            if len == 0 {
                faults.push(fault(Code::InvalidArgument, &format!("{what}: at least one")));
            } else if len > 16 {
                faults.push(fault(Code::ResourceExhausted, &format!("a watch has at most 16 {what}")));
            }
        }
        for (at, proto::Publisher { peer_id, known }) in publishers.iter().enumerate() {
            faults.extend(id_fault(&format!("publishers[{at}].peer_id"), peer_id));
            if publishers[..at].iter().any(|other| other.peer_id == *peer_id) {
                faults.push(fault(Code::InvalidArgument, &format!("publishers[{at}].peer_id: each once")));
            }
            if !known.is_empty() && known.len() != 32 {
                faults.push(fault(Code::InvalidArgument, &format!("publishers[{at}].known: 32 bytes")));
            }
        }
        for (at, pattern) in patterns.iter().enumerate() {
            if !(1..=1024).contains(&pattern.len()) {
                faults.push(fault(Code::InvalidArgument, &format!("patterns[{at}]: 1 to 1024 bytes")));
            }
        }
        faults
    }

    /// Who watches has been told what each publisher that is in has.
    pub(super) fn told(
        &self,
        request: &proto::WatchRequest,
        told: &BTreeMap<String, BTreeMap<String, (Vec<u8>, u64)>>,
    ) {
        let whole = |pattern: &str, path: &str| match pattern.contains(['*', '?']) {
            true => means(pattern, path),
            false => pattern.to_lowercase() == path.to_lowercase(),
        };
        for proto::Publisher { peer_id, .. } in &request.publishers {
            let Some(entry) = self.peers.get(peer_id) else { continue };
            let mut files = entry.files.clone();
            files.retain(|path, _| request.patterns.iter().any(|pattern| whole(pattern, path)));
            assert_eq!(told.get(peer_id), Some(&files), "{peer_id}");
        }
    }

    pub(super) fn peers_faults(request: &proto::PeersRequest) -> Vec<Fault> {
        let is_first = request.cursor.is_empty();
        (!is_first).then(|| id_fault("cursor", &request.cursor)).flatten().into_iter().collect()
    }

    pub(super) fn listed(&self, from: IpAddr, request: &proto::PeersRequest, reply: &proto::PeersReply) {
        let behind = self.peers.iter().filter(|(id, entry)| **id > request.cursor && entry.is_for(from));
        let known = behind.map(|(id, entry)| proto::Peer {
            peer_id: id.clone(),
            address: entry.address.to_string(),
            zone: entry.zone.clone(),
            files: entry.files.len() as u64,
            bytes: entry.files.values().fold(0, |sum: u64, (_, size)| sum.wrapping_add(*size)),
            downloads: entry.downloads.len() as u32,
            mirror: entry.mirror,
        });
        assert!(reply.cursor.is_empty() && known.eq(reply.peers.iter().cloned()));
    }

    pub(super) fn search_faults(request: &proto::SearchRequest) -> Vec<Fault> {
        let is_bad = request.text.is_empty() || request.text.len() > 1024;
        let text = is_bad.then(|| fault(Code::InvalidArgument, "text: 1 to 1024 bytes"));
        text.into_iter().chain(zone_fault(&request.zone)).collect()
    }

    pub(super) fn found(&self, from: IpAddr, request: &proto::SearchRequest, reply: &proto::SearchReply) {
        let proto::SearchRequest { text, exact, places, .. } = request;
        let means = |path: &str| if *exact { path == text } else { means(text, path) };
        let files = self.peers.values().filter(|entry| entry.is_for(from)).flat_map(|entry| &entry.files);
        let mut expected = BTreeMap::new();
        for (path, (id, size)) in files.filter(|(path, _)| means(path)) {
            if let Some(holders) = self.holders(id, from).remove(size) {
                expected.insert((path, id, *size), holders);
            }
        }
        assert!(reply.cursor.is_empty());
        assert!(reply.found.iter().map(|row| (&row.path, &row.content, row.size)).eq_set(expected.keys().copied()));
        for row in &reply.found {
            let holders = &expected[&(&row.path, &row.content, row.size)];
            assert_eq!(row.sources as usize, holders.len());
            let ids: BTreeSet<_> = row.source_ids.iter().collect();
            assert!(ids.iter().all(|id| holders.contains(id)));
            let most = if *places { 4 } else { 100 };
            assert_eq!((ids.len(), row.source_ids.len()), (holders.len().min(most), holders.len().min(most)));
            assert!(*places || row.source_ids.is_sorted());
        }
        let named: BTreeSet<_> = reply.found.iter().flat_map(|row| &row.source_ids).filter(|_| *places).collect();
        assert!(reply.places.iter().map(|place| &place.peer_id).eq_set(named));
        for proto::Place { peer_id, address, zone } in &reply.places {
            let entry = &self.peers[peer_id];
            assert_eq!((address, zone), (&entry.address.to_string(), &entry.zone));
        }
    }
}

/// What an announce leaves under each path that it names.
fn news(request: &proto::AnnounceRequest) -> BTreeMap<String, Option<Known>> {
    let removed = request.removed.iter().map(|path| (path.clone(), None));
    let added = request.added.iter().map(|file| (file.path.clone(), Some((file.content.clone(), file.size))));
    removed.chain(added).collect()
}

/// Whether a search text means a path, tried out in every way.
fn means(text: &str, path: &str) -> bool {
    fn glob(text: &[char], path: &[char]) -> bool {
        match text {
            [] => path.is_empty(),
            ['*', rest @ ..] => (0..=path.len()).any(|end| glob(rest, &path[end..])),
            [first, rest @ ..] => !path.is_empty() && (*first == '?' || *first == path[0]) && glob(rest, &path[1..]),
        }
    }
    let (text, path) = (text.to_lowercase(), path.to_lowercase());
    if !text.contains(['*', '?']) {
        return path.contains(&text);
    }
    glob(&text.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>())
}

/// Whether these are those, each once, in any order.
trait EqSet<T> {
    fn eq_set(self, those: impl IntoIterator<Item = T>) -> bool;
}

impl<T: Ord, I: Iterator<Item = T>> EqSet<T> for I {
    fn eq_set(self, those: impl IntoIterator<Item = T>) -> bool {
        let mut these: Vec<_> = self.collect();
        these.sort();
        these.into_iter().eq(those.into_iter().collect::<BTreeSet<_>>())
    }
}
