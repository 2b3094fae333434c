//! What an answer and a renewal cost as the fleet grows: the tracker's own registry, asked as its calls ask it, in one
//! process. Ratios are between sizes in one run, taken in turn. `make bench-locate` runs it.

mod report;

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
    time::{Duration, Instant},
};

use enjambre::{
    content::ContentId,
    limits,
    name::PeerId,
    tracker::registry::{Ask, Changes, Content, Identity, Join, Registry, Token},
};
use report::Report;

/// So many hold the content in the large fleet.
const MANY: usize = 10_000;
/// So many questions are timed together, and so many such rounds.
const QUESTIONS: u64 = 2_000;
const ROUNDS: usize = 15;

/// A registry in which some peers hold one content, and as many as that, and a few more, download it.
struct Fleet {
    registry: Registry,
    now: Instant,
    ids: Vec<PeerId>,
    dice: u64,
}

impl Fleet {
    fn new(holders: usize) -> Self {
        let mut fleet = Self { registry: Registry::new(limits::LEASE), now: Instant::now(), ids: Vec::new(), dice: 0 };
        for number in 0..2 * holders + 16 {
            let id: PeerId = format!("p{number}").parse().expect("a peer id");
            let address = (Ipv4Addr::from(0x0a00_0000 + number as u32), 5000).into();
            let zone = format!("z{}", number % 3).parse().expect("a zone");
            let join = Join { id: id.clone(), identity: identity(), address, zone };
            fleet.registry.join(fleet.now, join, 0).expect("there is room");
            let changes = if number < holders {
                Changes { added: vec![("x".parse().expect("a path"), content())], ..Changes::default() }
            } else {
                Changes { downloading: vec![content()], ..Changes::default() }
            };
            let token = Token::new(&id, &identity(), 0);
            fleet.registry.announce(fleet.now, token, &changes).expect("there is room");
            fleet.ids.push(id);
        }
        // Everyone who downloads has been given its neighbours.
        for _ in 0..fleet.ids.len() {
            fleet.download();
        }
        fleet
    }

    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.dice >> 24
    }

    fn stranger(&mut self) {
        let ask = ask(&[], self.roll());
        black_box(self.registry.locate(&ask));
    }

    /// One that downloads asks again, and has lost the one that it was given first.
    fn download(&mut self) {
        let downloading = self.ids.len() / 2 + 8..self.ids.len();
        let number = downloading.start + self.roll() as usize % downloading.len();
        let dice = self.roll();
        let token = Token::new(&self.ids[number], &identity(), 0);
        let located = self.registry.locate_for(token, &ask(&[], dice)).expect("a live peer");
        let dead: Vec<_> = located.sources.iter().take(1).map(|source| source.id.clone()).collect();
        black_box(self.registry.locate_for(token, &ask(&dead, dice)).expect("a live peer"));
    }

    fn near(&mut self) {
        let (zone, dice) = ("z1".parse().expect("a zone"), self.roll());
        black_box(self.registry.near(content(), &zone, false, dice));
    }

    fn renew(&mut self) {
        let number = self.roll() as usize % self.ids.len();
        self.now += Duration::from_micros(1);
        let token = Token::new(&self.ids[number], &identity(), 0);
        self.registry.renew(self.now, token).expect("a live peer");
    }
}

fn content() -> Content {
    Content { id: ContentId::new([7; 32]), size: 1 << 20 }
}

fn identity() -> Identity {
    Identity::of(&[7; 32])
}

fn ask(dead: &[PeerId], dice: u64) -> Ask<'_> {
    Ask { id: content().id, dead, from: IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1)), dice }
}

type Question = fn(&mut Fleet);

/// Seconds that one of many questions takes.
fn time(fleet: &mut Fleet, question: Question) -> f64 {
    let began = Instant::now();
    for _ in 0..QUESTIONS {
        question(fleet);
    }
    began.elapsed().as_secs_f64() / QUESTIONS as f64
}

fn main() -> ExitCode {
    let mut report = Report::new("make bench-locate");
    // 512 are as many as one answer looks at: from there on nothing may grow.
    let mut fleets = [1, limits::HOLDERS_SEEN, MANY].map(Fleet::new);
    // What is farther away in memory costs more to look up; a renewal does little else.
    let questions: [(&str, Question, f64); 4] = [
        ("locate, a stranger", Fleet::stranger, 3.0),
        ("locate, a download, twice", Fleet::download, 3.0),
        ("places of a search row", Fleet::near, 3.0),
        ("renew", Fleet::renew, 8.0),
    ];
    for (what, question, target) in questions {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| fleets.each_mut().map(|fleet| time(fleet, question))).collect();
        for (at, holders) in [1, limits::HOLDERS_SEEN, MANY].into_iter().enumerate() {
            let fastest = rounds.iter().map(|round| round[at]).fold(f64::MAX, f64::min);
            report.plain(&format!("{what}: among {holders}"), fastest * 1e6, "us");
        }
        let grown = rounds.iter().map(|[_, few, many]| many / few).collect();
        report.pairs_at_most(&format!("  {MANY} over {}", limits::HOLDERS_SEEN), grown, target);
    }
    report.end()
}
