//! A peer under every attack of `tests/attacks`, and how a well-behaved client at another address is served
//! meanwhile. `make bench-attacks` runs this on the static binaries that are shipped.

mod report;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/attacks/victim.rs"]
mod victim;
#[path = "../tests/attacks/waves/mod.rs"]
mod waves;

use std::{process::ExitCode, time::Duration};

use report::Report;
use victim::{Seen, Victim};
use waves::WAVES;

fn main() -> ExitCode {
    let mut report = Report::new("make bench-attacks");
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;

    let (_, half_open) = WAVES.iter().find(|(name, _)| name.contains("half_open")).expect("it is among them");
    let seen = Victim::new().survives(half_open);
    report.at_most("2,000 half-open connections: memory more than before", seen.growth / 1e6, 8.0, "MB");
    report.at_most(
        "meanwhile, the slowest small GET, over a new connection",
        millis(seen.percentile(100)),
        1000.0,
        "ms",
    );

    let mut victim = Victim::new();
    let mut all = Seen { times: Vec::new(), growth: 0.0 };
    for (name, wave) in WAVES {
        let seen = victim.survives(wave);
        let what = format!("{}: {} small GETs, p99", name.replace('_', " "), seen.times.len());
        report.plain(&what, millis(seen.percentile(99)), "ms");
        all.times.extend(seen.times);
        all.growth = all.growth.max(seen.growth);
    }
    all.times.sort();
    report.at_most(
        &format!("all of them: {} small GETs, p99", all.times.len()),
        millis(all.percentile(99)),
        100.0,
        "ms",
    );
    report.plain("the slowest of these", millis(all.percentile(100)), "ms");
    report.plain("most memory that one of them took", all.growth / 1e6, "MB");
    report.end()
}
