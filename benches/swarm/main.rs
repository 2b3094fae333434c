//! How long one file takes from one seed to a crowd of hosts, in terms of the time that one copy takes
//! at the full rate of a link: 1 cannot be beaten, and with the headers of packets of 1,500 bytes it is
//! 1.046. Each host's way out and way in are limited to 40 Mbit/s, as on small cloud machines.
//!
//! `make bench-swarm` runs this on the static binaries that are shipped; `make bench-swarm
//! ONLY='flash-4 kill'` runs the scenarios of these names, or that begin so.

mod crowd;
mod hosts;
mod place;
#[path = "../report.rs"]
mod report;
mod scenarios;
#[path = "../../tests/support/mod.rs"]
mod support;
mod systems;

use std::process::ExitCode;

use place::Place;
use report::Report;
use support::hosts::BRIDGE;

/// Tries what limits the rates of hosts, and what starts processes there.
const SHAPERS: &str = "tc qdisc add dev br0 root tbf rate 1mbit burst 10k latency 50ms && \
    tc qdisc del dev br0 root && setsid --version >/dev/null";

fn main() -> ExitCode {
    // cargo adds this one to those of the caller.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let names: Vec<&str> = arguments.iter().map(String::as_str).filter(|name| !name.starts_with('-')).collect();
    let chosen = match scenarios::named(&names) {
        Ok(chosen) => chosen,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let setup = format!("{BRIDGE} && {SHAPERS}");
    let place = match place::enter(&arguments, &setup) {
        Ok(place) => place,
        Err(code) => return code,
    };
    if matches!(place, Place::Namespaces) {
        // Other programs on this machine shall not slow down what is measured, where that is allowed.
        let _ = rustix::process::nice(-10);
        let _ = std::fs::write("/proc/self/autogroup", "-10");
    }
    let mut report = Report::new("make bench-swarm");
    for scenario in chosen {
        scenario.measure(&place, &mut report);
        if place::is_stopped() {
            eprintln!("interrupted");
            return ExitCode::FAILURE;
        }
    }
    report.end()
}
