//! A swarm of thousands under a virtual clock. What is chosen is chosen by the peer's own code (the plan,
//! and what a seed gives fresh) and by the tracker's own registry; what carries it out is a model of what
//! surrounds them: `listing` and `taker` do what the peer's download and crew do, `giver` what its content
//! routes do, `network` what links do. Nobody lies, no disk is full, and pieces verify in no time. `make simulate` runs it with thousands of peers, a test with few.
// The benchmark and the test compile this each for themselves, and use a part of it.
#![allow(dead_code, unreachable_pub)]

mod clock;
mod giver;
mod listing;
mod network;
mod taker;
mod tracker;

use std::{collections::VecDeque, time::Duration};

use enjambre::{
    content::{ContentId, Pieces},
    limits,
    peer::swarm::{border::SourceId, fresh::Fresh, plan::Ask, uplink::Uplink},
};

use clock::{Clock, Event};
use listing::Listing;
use network::Network;
use taker::Download;
use tracker::Tracker;

/// Give up after so many times the bound: whoever has nothing by then starves.
const PATIENCE: u32 = 30;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Those that download.
    pub peers: usize,
    /// Those that hold the content when it begins.
    pub seeds: usize,
    /// Pieces of 32 KiB.
    pub pieces: usize,
    /// Bytes a second of every uplink and every downlink.
    pub rate: f64,
    /// From any machine to any other.
    pub latency: Duration,
    /// Downloads begin evenly spread over this time.
    pub arrivals: Duration,
    /// The share of those that download that die, at times spread over the bound.
    pub deaths: f64,
    /// Peers and seeds are spread over so many zones.
    pub zones: usize,
    /// What settles all chance.
    pub random: u64,
}

impl Scenario {
    /// One seed and so many that all begin at once on links of 40 Mbit/s and a millisecond.
    pub fn crowd(peers: usize, pieces: usize) -> Self {
        Self {
            peers,
            seeds: 1,
            pieces,
            rate: 5e6,
            latency: Duration::from_millis(1),
            arrivals: Duration::ZERO,
            deaths: 0.0,
            zones: 1,
            random: 1,
        }
    }

    fn cut(&self) -> Pieces {
        Pieces::of(self.pieces as u64 * limits::PIECE_BYTES).expect("so much fits")
    }

    /// How long one copy takes: nobody can have all of it sooner.
    pub fn bound(&self) -> Duration {
        Duration::from_secs_f64(self.cut().size() as f64 / self.rate)
    }
}

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How long each took that has all, over the bound; sorted.
    pub ratios: Vec<f64>,
    /// Those that died before they had all.
    pub died: usize,
    /// Those whose download ended without all.
    pub gave_up: usize,
    /// Those that waited in vain.
    pub starved: usize,
    /// Copies that the seeds have sent, heads and all.
    pub copies: f64,
    /// Bytes that came into each zone from others, in copies.
    pub imports: Vec<f64>,
    /// What happened in the simulation.
    pub events: u64,
}

impl Outcome {
    /// The last one's ratio.
    pub fn last(&self) -> f64 {
        self.ratios.last().copied().unwrap_or(f64::INFINITY)
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.ratios.get(self.ratios.len() / 2).copied().unwrap_or(f64::INFINITY)
    }
}

/// A machine: by its number, seeds first.
struct Peer {
    zone: usize,
    began: Duration,
    ended: Option<Duration>,
    stage: Stage,
    /// Pieces in the order in which they came.
    gained: Vec<u16>,
    fresh: Option<Box<Fresh>>,
    /// Requests that wait for news or for the piece list, since when, oldest first.
    parked: Vec<(usize, Duration)>,
    /// Somebody will look after those.
    is_watched: bool,
    uplink: Uplink,
    /// Requests that wait for their turn, since when, oldest first.
    queue: VecDeque<(usize, Duration)>,
    /// Somebody will look after those.
    is_queue_watched: bool,
    /// Somebody has asked it for what it has.
    is_known: bool,
    /// Requests being answered.
    serving: usize,
    /// What the tracker has answered, on its way.
    found: Vec<(usize, bool)>,
}

enum Stage {
    /// It has not begun.
    Away,
    /// It looks for the piece list.
    Listing(Listing),
    Downloading(Box<Download>),
    Whole,
    GaveUp,
    Dead,
}

/// A kept connection, which one thread of the taker uses for one request after the other.
struct Connection {
    taker: usize,
    giver: usize,
    source: SourceId,
    nth: usize,
    is_open: bool,
    want: Want,
    began: Duration,
    /// How many of the giver's gains the taker knows, and with this answer will know.
    since: usize,
    told: usize,
    is_whole: bool,
    /// Others have to wait for their turn, as of the last answer.
    is_busy: bool,
    /// The request waits for its turn, and has it; or it comes of a turn.
    waits: bool,
    has_turn: bool,
    at_turn: bool,
    /// The fresh pieces that come.
    run: std::ops::Range<usize>,
    /// Bytes that are still to be sent.
    left: u32,
    has_begun: bool,
}

#[derive(Clone, Debug)]
enum Want {
    /// Whether the piece list is there.
    HasList,
    List,
    Pieces(Ask),
}

struct World {
    scenario: Scenario,
    id: ContentId,
    cut: Pieces,
    clock: Clock,
    network: Network,
    tracker: Tracker,
    peers: Vec<Peer>,
    connections: Vec<Connection>,
    unused: Vec<usize>,
    random: Random,
    /// Those that may still have all.
    running: usize,
    imported: Vec<u64>,
    sent_by_seeds: u64,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    let patience = scenario.arrivals + scenario.bound() * PATIENCE;
    while world.running > 0
        && let Some(event) = world.clock.next()
        && world.clock.now() < patience
    {
        world.happen(event);
    }
    world.outcome()
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let all = scenario.seeds + scenario.peers;
        let cut = scenario.cut();
        let mut world = Self {
            id: ContentId::of(b"simulated"),
            cut,
            clock: Clock::default(),
            network: Network::new(all, scenario.rate, scenario.latency),
            tracker: Tracker::new(ContentId::of(b"simulated"), cut.size()),
            peers: Vec::new(),
            connections: Vec::new(),
            unused: Vec::new(),
            random: Random(scenario.random),
            running: scenario.peers,
            imported: vec![0; scenario.zones],
            sent_by_seeds: 0,
            scenario: scenario.clone(),
        };
        for number in 0..all {
            let zone = number % scenario.zones;
            world.tracker.join(number, zone, Duration::ZERO);
            let stage = if number < scenario.seeds { Stage::Whole } else { Stage::Away };
            world.peers.push(Peer {
                zone,
                began: Duration::ZERO,
                ended: None,
                stage,
                gained: Vec::new(),
                fresh: None,
                parked: Vec::new(),
                is_watched: false,
                uplink: Uplink::default(),
                queue: VecDeque::new(),
                is_queue_watched: false,
                is_known: false,
                serving: 0,
                found: Vec::new(),
            });
            world.clock.at(limits::LEASE / 3, Event::Renew(number as u32));
        }
        (0..scenario.seeds).for_each(|seed| world.tracker.became_whole(seed, Duration::ZERO));
        for nth in 0..scenario.peers {
            let began = scenario.arrivals.mul_f64(nth as f64 / scenario.peers as f64);
            world.clock.at(began, Event::Arrive((scenario.seeds + nth) as u32));
            if world.random.share() < scenario.deaths {
                let lived = scenario.bound().mul_f64(world.random.share());
                world.clock.at(began + lived, Event::Die((scenario.seeds + nth) as u32));
            }
        }
        world
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(peer) => self.arrive(peer as usize),
            Event::Die(peer) => self.die(peer as usize),
            Event::Renew(peer) => self.renew(peer as usize),
            Event::Begin(peer) => self.tracker.begin(peer as usize, self.clock.now()),
            Event::Find(peer) => self.find(peer as usize),
            Event::Found(peer) => self.found(peer as usize),
            Event::Turn(peer) => self.turn(peer as usize),
            Event::Scout(peer) => self.scout(peer as usize),
            Event::Man(peer) => self.look_after(peer as usize),
            Event::Publish(peer) => self.publish(peer as usize),
            Event::Next(connection) => self.next(connection as usize),
            Event::Asked(connection) => self.asked(connection as usize),
            Event::Answer(connection) => self.answer(connection as usize, true),
            Event::Watch(peer) => self.watch(peer as usize),
            Event::Queue(peer) => self.look_at_queue(peer as usize),
            Event::Sent(peer) => self.sent(peer as usize),
            Event::Head(connection) => self.head(connection as usize),
            Event::Done(connection) => self.done(connection as usize),
            Event::Told(connection) => self.told(connection as usize),
            Event::Failed(connection) => self.failed(connection as usize),
        }
    }

    fn renew(&mut self, peer: usize) {
        if !matches!(self.peers[peer].stage, Stage::Dead) {
            self.tracker.renew(peer, self.clock.now());
            self.clock.after(limits::LEASE / 3, Event::Renew(peer as u32));
        }
    }

    /// The process is killed: its connections are reset.
    fn die(&mut self, peer: usize) {
        let stage = std::mem::replace(&mut self.peers[peer].stage, Stage::Dead);
        if matches!(stage, Stage::Listing(_) | Stage::Downloading(_) | Stage::Away) {
            self.running -= 1;
        }
        let parked = std::mem::take(&mut self.peers[peer].parked).into_iter();
        let parked = parked.chain(std::mem::take(&mut self.peers[peer].queue));
        let waiting = parked.map(|(connection, _)| connection).chain(self.network.close(peer));
        for connection in waiting.collect::<Vec<_>>() {
            self.clock.after(self.scenario.latency, Event::Failed(connection as u32));
        }
    }

    fn outcome(self) -> Outcome {
        let size = self.cut.size() as f64;
        let bound = self.scenario.bound().as_secs_f64();
        let takers = &self.peers[self.scenario.seeds..];
        let mut ratios: Vec<_> =
            takers.iter().filter_map(|peer| Some((peer.ended? - peer.began).as_secs_f64() / bound)).collect();
        ratios.sort_by(f64::total_cmp);
        let count = |is: fn(&Peer) -> bool| takers.iter().filter(|peer| is(peer)).count();
        Outcome {
            ratios,
            died: count(|peer| matches!(peer.stage, Stage::Dead) && peer.ended.is_none()),
            gave_up: count(|peer| matches!(peer.stage, Stage::GaveUp)),
            starved: self.running,
            copies: self.sent_by_seeds as f64 / size,
            imports: self.imported.iter().map(|&bytes| bytes as f64 / size).collect(),
            events: self.clock.happened(),
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
