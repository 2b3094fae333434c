//! What is measured of which crowd, and what it should come to.

use std::{fs, time::Duration};

use super::{
    crowd::{self, Event, Outcome},
    place::{self, Place},
    report::{Report, median},
    systems::{Aria2, Enjambre, Followers, System, is_installed},
};

const MIB: f64 = (1 << 20) as f64;
/// A machine that was busier than this measured itself.
const BUSY: f64 = 0.8;
/// Memory beside the files, with a margin.
const SPARE: u64 = 512 << 20;
/// What a seed should send at most, in copies with all headers.
const COPIES: f64 = 1.08;
/// What should come into a zone at most, in copies.
const IMPORTS: f64 = 2.0;

/// A crowd, and the figure to reach.
pub(crate) struct Scenario {
    name: &'static str,
    leechers: usize,
    mebibytes: u64,
    event: Event,
    /// The leechers follow the seed, and the clock starts when that was sent the file.
    follow: bool,
    /// The last one's time; with arrivals the slowest one's, from its own start.
    at_most: f64,
    /// Runs whose median counts.
    runs: usize,
    /// Runs of aria2 beside them.
    beside: usize,
}

const fn crowd(name: &'static str, leechers: usize, at_most: f64) -> Scenario {
    Scenario { name, leechers, mebibytes: 64, event: Event::Nothing, follow: false, at_most, runs: 1, beside: 0 }
}

const ALL: [Scenario; 12] = [
    Scenario { runs: 3, beside: 1, ..crowd("flash-4", 4, 1.08) },
    Scenario { runs: 3, beside: 3, ..crowd("flash-16", 16, 1.10) },
    Scenario { runs: 3, beside: 1, ..crowd("flash-32", 32, 1.13) },
    Scenario { mebibytes: 16, runs: 3, ..crowd("short-32", 32, 1.20) },
    Scenario { mebibytes: 256, ..crowd("large-16", 16, 1.09) },
    Scenario { event: Event::SeedDies(1.06), ..crowd("seed-dies-8", 8, 1.20) },
    Scenario { event: Event::SeedDies(1.06), ..crowd("seed-dies-16", 16, 1.20) },
    Scenario { event: Event::Deaths(4), ..crowd("kill-16", 16, 1.15) },
    // Chance decides which packets, and so by 0.03 how long it takes.
    Scenario { event: Event::Loss(10_000), runs: 3, ..crowd("loss-16", 16, 1.15) },
    Scenario { event: Event::Arrivals(Duration::from_millis(500)), ..crowd("stagger-16", 16, 1.20) },
    Scenario { event: Event::Zones(3), ..crowd("zones-24", 24, 1.25) },
    // As a crowd that asks, and 1.5 s, which is 0.11 of a copy.
    Scenario { follow: true, ..crowd("mirror-31", 31, 1.24) },
];

/// All scenarios, or those of these names, or whose names begin so.
pub(crate) fn named(names: &[&str]) -> Result<Vec<&'static Scenario>, String> {
    let matches = |scenario: &Scenario, name: &str| {
        scenario.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|scenario| matches(scenario, name))) {
        let all: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(format!("there is no scenario {unknown}; there are {}", all.join(", ")));
    }
    let is_meant = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| matches(scenario, name));
    Ok(ALL.iter().filter(is_meant).collect())
}

impl Scenario {
    /// Runs it and reports on it.
    pub(crate) fn measure(&self, place: &Place, report: &mut Report) {
        if let Err(why) = self.is_possible(place) {
            report.skipped(self.name, &why);
            return;
        }
        let aria2 = self.beside > 0 && self.has_aria2(place, report);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for number in 0..self.runs {
            ours.push(match self.follow {
                true => self.run(place, &mut Followers::default()),
                false => self.run(place, &mut Enjambre::default()),
            });
            if place::is_stopped() {
                return;
            }
            if aria2 && number < self.beside {
                theirs.push(self.run(place, &mut Aria2));
            }
        }
        self.report(&ours, report);
        if aria2 {
            self.compare(&ours, &theirs, report);
        }
    }

    fn run(&self, place: &Place, system: &mut dyn System) -> Outcome {
        crowd::run(place, system, self.leechers, self.mebibytes << 20, self.event)
    }

    /// Files lie in memory, and some events need cables.
    fn is_possible(&self, place: &Place) -> Result<(), String> {
        if matches!(place, Place::Loopback) && self.event.needs_cables() {
            return Err("it needs namespaces".to_owned());
        }
        if matches!(self.event, Event::Loss(_)) && !is_installed("nft") {
            return Err("it needs `apt-get install nftables`".to_owned());
        }
        let needed = (self.leechers as u64 + 1) * (self.mebibytes << 20) + SPARE;
        let available = available_memory();
        if matches!(place, Place::Namespaces) && available < needed {
            return Err(format!("it needs {} MiB of memory, and {} are free", needed >> 20, available >> 20));
        }
        Ok(())
    }

    fn has_aria2(&self, place: &Place, report: &Report) -> bool {
        let missing = match place {
            Place::Namespaces => Aria2::is_possible().err(),
            Place::Loopback => Some("it needs namespaces".to_owned()),
        };
        if let Some(why) = &missing {
            report.skipped(&self.row("aria2 beside it"), why);
        }
        missing.is_none()
    }

    fn report(&self, runs: &[Outcome], report: &mut Report) {
        let of = |figure: fn(&Outcome) -> f64| runs.iter().map(figure).collect::<Vec<_>>();
        let largest = |figure: fn(&Outcome) -> f64| of(figure).into_iter().fold(0.0, f64::max);
        let all_of = |figure: fn(&Outcome) -> usize| runs.iter().map(figure).sum::<usize>() as f64;

        if matches!(self.event, Event::Arrivals(_)) {
            let what = self.row("the slowest from its own start, one copy = 1");
            report.runs_at_most(&what, of(|run| run.slowest), self.at_most);
        } else {
            report.runs_at_most(&self.row("until the last has it, one copy = 1"), of(|run| run.last), self.at_most);
        }
        let right = all_of(|run| run.right);
        report.at_least(&self.row("leechers with the right file"), right, all_of(|run| run.expected), "");
        self.report_sent(runs, report);
        report.at_most(&self.row("peak memory, the largest leecher"), largest(largest_leecher), 8.0, "MiB");
        report.plain(&self.row("peak memory, leechers' mean"), median(of(mean_leecher)), "MiB");
        report.at_most(&self.row("peak memory, seed"), largest(|run| run.seed_peak / MIB), 8.0, "MiB");
        report.at_most(&self.row("peak memory, tracker"), largest(|run| run.tracker_peak / MIB), 4.0, "MiB");
        report.plain(&self.row("CPU of all"), median(of(|run| run.cpu)), "s");
        self.say_how_busy("", runs, report);
    }

    /// What the seed sent, and what crossed the borders.
    fn report_sent(&self, runs: &[Outcome], report: &mut Report) {
        let copies: Option<Vec<f64>> = runs.iter().map(|run| run.copies).collect();
        let what = self.row("copies sent by the seed");
        match (copies, self.event) {
            (None, _) => report.skipped(&what, "it needs namespaces"),
            (Some(copies), Event::Nothing) => report.runs_at_most(&what, copies, COPIES),
            (Some(copies), _) => report.plain(&what, median(copies), ""),
        }
        if let Event::SeedDies(copies) = self.event {
            for run in runs {
                match run.seed_died {
                    Some(after) => report.plain(&self.row("the seed was killed after"), after, "s"),
                    None => println!("{}", self.row(&format!("the seed lived: nobody needed {copies} copies of it"))),
                }
            }
        }
        for zone in 0..runs[0].imports.len() {
            let imports: Vec<f64> = runs.iter().map(|run| run.imports[zone]).collect();
            report.runs_at_most(&self.row(&format!("copies brought into zone {zone}")), imports, IMPORTS);
        }
    }

    fn compare(&self, ours: &[Outcome], theirs: &[Outcome], report: &mut Report) {
        let of = |figure: fn(&Outcome) -> f64| median(theirs.iter().map(figure).collect());
        report.plain(&self.row("aria2: until the last has it"), of(|run| run.last), "");
        report.plain(&self.row("aria2: copies sent by the seed"), of(|run| run.copies.unwrap_or(f64::NAN)), "");
        report.plain(&self.row("aria2: peak memory, leechers' mean"), of(mean_leecher), "MiB");
        report.plain(&self.row("aria2: CPU of all"), of(|run| run.cpu), "s");
        self.say_how_busy("aria2: ", theirs, report);
        // With fewer, or once, it says little.
        if theirs.len() == ours.len() {
            let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.cpu / theirs.cpu).collect();
            report.pairs_at_most(&self.row("CPU of all, aria2 = 1"), ratios, 1.0);
        }
    }

    fn say_how_busy(&self, whose: &str, runs: &[Outcome], report: &Report) {
        let busy = runs.iter().map(|run| run.busy).fold(0.0, f64::max);
        if busy > BUSY {
            let what = format!("{whose}not to be trusted, the machine was busy");
            report.plain(&self.row(&what), (busy * 100.0).round(), "%");
        }
    }

    fn row(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }
}

/// The peak memory of the largest leecher, in MiB.
fn largest_leecher(run: &Outcome) -> f64 {
    run.leecher_peaks.iter().copied().fold(0.0, f64::max) / MIB
}

/// The mean of the leechers' peak memory, in MiB.
fn mean_leecher(run: &Outcome) -> f64 {
    run.leecher_peaks.iter().sum::<f64>() / run.leecher_peaks.len() as f64 / MIB
}

/// Bytes that the machine can give without swapping.
fn available_memory() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kibibytes| kibibytes << 10)
}
