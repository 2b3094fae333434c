//! How a flash crowd of thousands would go: the peer's own plan and the tracker's own registry under a
//! virtual clock (`simulator/` has the model). `make simulate` runs it; the figures do not depend on the
//! machine or its load, and are the same again for the same `--seed`. `x` is times the time of one copy at
//! full rate, which nobody can beat. With `--crowd` it runs one crowd, by as many peers, pieces and milliseconds between two
//! machines, with four chances.

mod report;
mod simulator;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use report::Report;
use simulator::{Scenario, run};

fn main() -> ExitCode {
    let (random, crowd) = match options() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new("make simulate");
    if let Some(crowd) = crowd {
        chances(&mut report, random, &crowd);
        return report.end();
    }
    let began = Instant::now();
    for (peers, target) in [(1_000, 1.10), (10_000, 1.15)] {
        let crowd = Scenario { random, ..Scenario::crowd(peers, 512) };
        row(&mut report, "all at once", &crowd, Some(target));
        row(&mut report, "a tenth dies", &Scenario { deaths: 0.1, ..crowd }, Some(1.3));
    }
    // Six times as long: what is lost until the links are full is the same.
    row(&mut report, "all at once", &Scenario { random, ..Scenario::crowd(1_000, 3072) }, None);
    for (peers, target) in [(24, Some(2.0)), (96, None)] {
        // People do not start in step: those who come first know few of the others.
        let arrivals = Duration::from_millis(100);
        let crowd = Scenario { random, zones: 3, arrivals, ..Scenario::crowd(peers, 2048) };
        zones(&mut report, &crowd, target);
    }
    report.plain("time taken", began.elapsed().as_secs_f64(), "s");
    report.end()
}

/// How far chance goes.
fn chances(report: &mut Report, random: u64, crowd: &Scenario) {
    let lasts: Vec<_> = (0..4).map(|nth| run(&Scenario { random: random + nth, ..crowd.clone() }).last()).collect();
    report.plain("the last, mean of four chances", lasts.iter().sum::<f64>() / 4.0, "x");
    report.plain("  and at most", lasts.into_iter().fold(0.0, f64::max), "x");
}

fn row(report: &mut Report, what: &str, scenario: &Scenario, target: Option<f64>) {
    let outcome = run(scenario);
    let name = format!("{} peers, {} pieces, {what}", scenario.peers, scenario.pieces);
    let name = format!("{name}: the last");
    match target {
        Some(target) => report.at_most(&name, outcome.last(), target, "x"),
        None => report.plain(&name, outcome.last(), "x"),
    }
    report.plain("  the one in the middle", outcome.median(), "x");
    report.plain("  copies that the seed sent", outcome.copies, "");
    report.at_most("  waited in vain", (outcome.gave_up + outcome.starved) as f64, 0.0, "");
}

/// How many copies come into the zone that takes most.
fn zones(report: &mut Report, scenario: &Scenario, target: Option<f64>) {
    let Scenario { peers, zones, .. } = scenario;
    let outcome = run(scenario);
    let imports = outcome.imports.iter().copied().fold(0.0, f64::max);
    report.plain(&format!("{peers} peers in {zones} zones: the last"), outcome.last(), "x");
    match target {
        Some(target) => report.at_most("  copies brought into a zone", imports, target, ""),
        None => report.plain("  copies brought into a zone", imports, ""),
    }
}

/// The number that settles all chance, and the crowd to run.
fn options() -> Result<(u64, Option<Scenario>), String> {
    let (mut random, mut crowd) = (1, None);
    // Cargo says `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        match word.as_str() {
            "--seed" => random = value.parse().map_err(|_| format!("--seed {value:?} is not a number"))?,
            "--crowd" => {
                let numbers: Option<Vec<u64>> = value.split(',').map(|number| number.parse().ok()).collect();
                let Some(&[peers, pieces, latency]) = numbers.as_deref().filter(|numbers| !numbers.starts_with(&[0]))
                else {
                    return Err(format!("--crowd {value:?} is not PEERS,PIECES,MILLISECONDS"));
                };
                let latency = Duration::from_millis(latency);
                crowd = Some(Scenario { latency, ..Scenario::crowd(peers as usize, pieces as usize) });
            }
            _ => {
                return Err(format!(
                    "{word:?} is not known: there are --seed NUMBER and --crowd PEERS,PIECES,MILLISECONDS"
                ));
            }
        }
    }
    Ok((random, crowd))
}
