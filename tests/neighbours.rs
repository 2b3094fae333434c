//! The link's side of the swarm: real links in this process, and the real tracker.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use enjambre::{
    content::ContentId,
    name::{PeerId, Zone},
    peer::{
        link::{Joining, Link, LinkConfig, LinkError},
        share::Share,
    },
    size::KeepFree,
};

mod support;
use support::*;

struct Peer {
    folder: Folder,
    link: Link,
}

impl Peer {
    /// Joins; nobody answers at its port.
    fn join(id: &str, tracker: SocketAddr) -> Self {
        let peer = Self::start(id, tracker);
        wait_for(PATIENCE, "it joins", || peer.link.is_joined());
        peer
    }

    fn start(id: &str, tracker: SocketAddr) -> Self {
        let folder = Folder::new();
        let share = Share::open(folder.path(), id, KeepFree::default()).unwrap();
        share.start().unwrap();
        let config = LinkConfig {
            trackers: tracker.to_string().parse().unwrap(),
            secret: None,
            tls: None,
            peer: peer_id(id),
            zone: Zone::default(),
        };
        let joining = Joining {
            port: 5000,
            bind: "0.0.0.0".parse().unwrap(),
            advertise: None,
            share,
            on_refused: Box::new(|sentence| panic!("{sentence}")),
        };
        Self { folder, link: Link::start(config, joining).unwrap() }
    }

    /// Who it is given, ordered: the partial ones in brackets.
    fn neighbours(&self, id: &ContentId, dead: &[&str]) -> Vec<String> {
        let dead: Vec<_> = dead.iter().map(|id| peer_id(id)).collect();
        let sources = self.link.neighbours(id, &dead).unwrap();
        let mut shown: Vec<_> = (sources.iter())
            .map(|source| if source.is_partial { format!("({})", source.peer) } else { source.peer.to_string() })
            .collect();
        shown.sort();
        shown
    }
}

fn peer_id(id: &str) -> PeerId {
    id.parse().unwrap()
}

#[test]
fn downloaders_are_given_each_other_until_they_end_and_after_a_restart_again() {
    let mut process = tracker(&["--lease", "2"]);
    let address = process.address;
    let (bytes, id) = (b"some bytes", ContentId::of(b"some bytes"));
    let size = bytes.len() as u64;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| Peer::join(id, address));
    a.folder.write("x", bytes);
    wait_for(PATIENCE, "the file is known", || !a.link.locate(&id).unwrap().sources.is_empty());
    assert_eq!(b.neighbours(&id, &[]), ["a"], "as anybody is told, before it downloads");
    for peer in [&b, &c, &d] {
        peer.link.begin_download(&id, size);
    }
    // Each is told by its own link, and by the time it asks itself at the latest.
    assert!(b.neighbours(&id, &[]).contains(&"a".to_owned()));
    assert!(c.neighbours(&id, &[]).contains(&"(b)".to_owned()));
    wait_for(PATIENCE, "all know each other", || b.neighbours(&id, &[]) == ["(c)", "(d)", "a"]);
    assert_eq!(b.neighbours(&id, &["c"]), ["(d)", "a"]);
    assert_eq!(b.neighbours(&id, &["a", "c", "d"]), [] as [&str; 0]);
    assert_eq!(b.neighbours(&id, &[]), ["(c)", "(d)", "a"]);
    let locate = b.link.locate(&id).unwrap();
    assert!(locate.sources.iter().all(|source| !source.is_partial && source.peer == peer_id("a")));

    // One that has it whole stays a source all the time, also when it says that it has ended.
    c.folder.write("x", bytes);
    wait_for(PATIENCE, "c has it whole", || {
        let sources = b.neighbours(&id, &[]);
        assert!(sources.iter().any(|source| source.contains('c')), "{sources:?}");
        sources == ["(d)", "a", "c"]
    });
    c.link.end_download(&id);
    d.link.end_download(&id);
    wait_for(PATIENCE, "d has given up", || b.neighbours(&id, &[]) == ["a", "c"]);
    d.link.begin_download(&id, size);
    assert!(d.neighbours(&id, &[]).contains(&"(b)".to_owned()));
    d.link.end_download(&id);
    d.link.begin_download(&id, size);
    wait_for(PATIENCE, "d downloads again", || b.neighbours(&id, &[]) == ["(d)", "a", "c"]);

    process.kill();
    assert!(matches!(b.link.neighbours(&id, &[]), Err(LinkError::Away { .. })));
    let _again = tracker(&["--lease", "2", "--listen", &address.to_string()]);
    let whole = || b.link.neighbours(&id, &[]).is_ok() && b.neighbours(&id, &[]) == ["(d)", "a", "c"];
    wait_for(PATIENCE, "a tracker that has forgotten is told again", whole);
    [a, b, c, d].iter().for_each(|peer| peer.link.leave());
}

#[test]
fn to_begin_and_to_ask_takes_two_round_trips() {
    const ONE_WAY: Duration = Duration::from_millis(200);
    let process = tracker(&[]);
    let slow = Proxy::start(process.address);
    slow.delay(ONE_WAY);
    let (near, far) = (Peer::join("near", process.address), Peer::join("far", slow.address));
    assert!(far.link.wait_settled(Instant::now() + PATIENCE));
    let id = ContentId::of(b"some bytes");
    near.link.begin_download(&id, 10);
    near.neighbours(&id, &[]);
    let begun = Instant::now();
    far.link.begin_download(&id, 10);
    assert_eq!(far.neighbours(&id, &[]), ["(near)"]);
    let took = begun.elapsed();
    assert!(took >= 4 * ONE_WAY && took < 6 * ONE_WAY, "{took:?}");
    let begun = Instant::now();
    assert_eq!(far.neighbours(&id, &[]), ["(near)"]);
    let took = begun.elapsed();
    assert!(took < 4 * ONE_WAY, "then one: {took:?}");
}
