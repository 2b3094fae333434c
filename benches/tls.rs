//! What TLS costs: a get under it beside a plain one, both ends and both trackers on one and the same core, in memory.
//! `make bench-tls` runs it on the static binaries that are shipped.

mod clients;
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clients::*;
use report::{Report, median};
use support::*;

const MB: f64 = 1e6;
const BYTES: u64 = 1 << 30;
/// Even: each is first in as many.
const PAIRS: usize = 16;
/// Any core that every machine has.
const CORE: &str = "0";

fn main() -> ExitCode {
    let mut report = Report::new("make bench-tls");
    let probe = Command::new("taskset").args(["-c", CORE, "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        report.skipped("a get under TLS", "taskset, of util-linux, cannot keep processes on one core here");
        return report.end();
    }
    if !fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.split_whitespace().any(|word| word == "aes")) {
        report.skipped("a get under TLS", "this processor computes no AES, and nothing is promised of it");
        return report.end();
    }
    let memory = Folder::below(Path::new(MEMORY));
    random_file(&memory.join("big.bin"), BYTES);
    let certificates = Certificates::new(&["127.0.0.1"]);
    let mut secured = Swarm::start(&memory, "secured", &certificates.flags("127.0.0.1"));
    let mut plain = Swarm::start(&memory, "plain", &[]);
    let pairs = pairs(PAIRS, || secured.get(), || plain.get());
    let of = |figure: fn(&(Get, Get)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
    report.plain("get 1 GiB on one core", median(of(|(_, plain)| plain.pace)) / MB, "MB/s");
    report.plain("get 1 GiB on one core, under TLS", median(of(|(secured, _)| secured.pace)) / MB, "MB/s");
    report.plain("seconds of CPU of who gives, plain", median(of(|(_, plain)| plain.giving)), "s");
    report.plain("seconds of CPU of who gives, under TLS", median(of(|(secured, _)| secured.giving)), "s");
    report.plain("seconds of CPU of who gets, plain", median(of(|(_, plain)| plain.getting)), "s");
    report.plain("seconds of CPU of who gets, under TLS", median(of(|(secured, _)| secured.getting)), "s");
    let ratios = of(|(secured, plain)| secured.pace / plain.pace);
    report.pairs_at_least("get 1 GiB under TLS, plain = 1", ratios, 0.5);
    report.plain("peak memory, giving under TLS", secured.seed.memory("VmHWM") / MB, "MB");
    report.plain("peak memory, getting under TLS", secured.getter.memory("VmHWM") / MB, "MB");
    report.end()
}

/// A tracker, a seed and one who gets.
struct Swarm {
    _tracker: Process,
    seed: Process,
    getter: Process,
    fetched: PathBuf,
}

/// What one get was.
struct Get {
    /// Bytes a second.
    pace: f64,
    /// Seconds of CPU.
    giving: f64,
    getting: f64,
}

impl Swarm {
    fn start(memory: &Folder, name: &str, flags: &[String]) -> Self {
        let pinned = |name: &str| {
            let mut command = Command::new("taskset");
            command.args(["-c", CORE]).arg(binary(name));
            command
        };
        let mut command = pinned("tracker");
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        let tracker = tracker_by(command);
        let [(seed, shared), (mut getter, folder)] = ["seed", "getter"].map(|id| {
            let folder = memory.join(format!("{id}-{name}"));
            fs::create_dir(&folder).expect("a folder");
            let mut command = pinned("peer");
            command.args([id, "0"]).arg(&folder).args(["--bind", "127.0.0.1"]);
            command.args(["--tracker", &tracker.address.to_string()]).args(flags);
            let peer = Process::spawn(id, command);
            peer.joined();
            (peer, folder)
        });
        fs::hard_link(memory.join("big.bin"), shared.join("big.bin")).expect("one file system");
        wait_for(MINUTES, "the file is found", || getter.search("big.bin").len() == 1);
        Self { _tracker: tracker, seed, getter, fetched: folder.join("big.bin") }
    }

    /// One get, whose file is removed again.
    fn get(&mut self) -> Get {
        warm_memory(BYTES);
        let before = (self.seed.cpu_seconds(), self.getter.cpu_seconds());
        let seconds = time_get_of(&mut self.getter, &self.fetched);
        let (giving, getting) = (self.seed.cpu_seconds() - before.0, self.getter.cpu_seconds() - before.1);
        Get { pace: BYTES as f64 / seconds, giving, getting }
    }
}
