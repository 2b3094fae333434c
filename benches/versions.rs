//! A get of 2 GiB by these binaries beside one by those of another version, each in a swarm of its own
//! version, with one source and in memory.
//! `make bench-versions OTHER=folder` runs it on the static binaries that are shipped.

mod clients;
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clients::*;
use report::{Report, median};
use support::*;

const MB: f64 = 1e6;
const BYTES: u64 = 2 << 30;
/// Even: each is first in as many.
const PAIRS: usize = 16;

fn main() -> ExitCode {
    let Some(other) = env::var_os("OTHER").filter(|other| !other.is_empty()) else {
        println!("make bench-versions OTHER=folder: say where the other version's tracker and peer are");
        return ExitCode::FAILURE;
    };
    let mut report = Report::new("make bench-versions");
    let memory = Folder::below(Path::new(MEMORY));
    random_file(&memory.join("huge.bin"), BYTES);
    let mut this = Swarm::start(&memory, "this", binary);
    let mut other = Swarm::start(&memory, "other", |name| Path::new(&other).join(name));
    let pairs = pairs(PAIRS, || this.get(), || other.get());
    let of = |figure: fn(&(f64, f64)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
    report.plain("get 2 GiB from one source, this version", median(of(|(this, _)| *this)) / MB, "MB/s");
    report.plain("get 2 GiB from one source, the other", median(of(|(_, other)| *other)) / MB, "MB/s");
    let ratios = of(|(this, other)| this / other);
    report.pairs_at_least("get 2 GiB: this version, the other = 1", ratios, 1.0);
    report.end()
}

/// A tracker, a seed and one who gets, all of one version.
struct Swarm {
    getter: Process,
    fetched: PathBuf,
    _others: [Process; 2],
}

impl Swarm {
    fn start(memory: &Folder, version: &str, binary: impl Fn(&str) -> PathBuf) -> Self {
        let mut command = Command::new(binary("tracker"));
        command.args(["--listen", "127.0.0.1:0"]);
        let tracker = tracker_by(command);
        let [seed, getter] = ["seed", "getter"].map(|id| {
            let folder = memory.join(format!("{id}-{version}"));
            fs::create_dir(&folder).expect("a folder");
            let mut command = Command::new(binary("peer"));
            command.args([id, "0"]).arg(&folder).args(["--bind", "127.0.0.1"]);
            let mut peer = Process::spawn(id, {
                command.args(["--tracker", &tracker.address.to_string()]);
                command
            });
            peer.address = peer.serving();
            peer.joined();
            (peer, folder)
        });
        fs::hard_link(memory.join("huge.bin"), seed.1.join("huge.bin")).expect("one file system");
        is_shared(&seed.0, "huge.bin");
        Self { getter: getter.0, fetched: getter.1.join("huge.bin"), _others: [tracker, seed.0] }
    }

    /// Bytes a second of one get, whose file is removed again.
    fn get(&mut self) -> f64 {
        warm_memory(BYTES);
        BYTES as f64 / time_get_of(&mut self.getter, &self.fetched)
    }
}
