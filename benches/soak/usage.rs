//! What the processes take of the machine.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{ELDERS, PEERS, report::median, support::status_field, world::World};

/// What one process takes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Bytes.
    pub(crate) memory: f64,
    pub(crate) threads: f64,
    pub(crate) descriptors: f64,
    /// Bytes in its share's hidden folder.
    pub(crate) disk: f64,
}

impl Usage {
    /// None for a process that has ended.
    fn of(process: u32) -> Option<Self> {
        let memory = status_field(&format!("/proc/{process}/status"), "VmRSS")? * 1024.0;
        let count = |what| Some(fs::read_dir(format!("/proc/{process}/{what}")).ok()?.count() as f64);
        Some(Self { memory, threads: count("task")?, descriptors: count("fd")?, disk: 0.0 })
    }
}

/// What all take at one time: the tracker, and then each peer.
pub(crate) struct Sample(Vec<Option<Usage>>);

impl Sample {
    /// Of all that run now; with the disk, where that is asked for.
    pub(crate) fn take(world: &World, with_disk: bool) -> Self {
        let tracker = world.tracker().process.as_ref().map(|process| process.id());
        let mut all = vec![tracker.and_then(Usage::of)];
        for slot in 0..PEERS {
            let mut usage = world.slot(slot).process.and_then(Usage::of);
            if let Some(usage) = usage.as_mut().filter(|_| with_disk) {
                usage.disk = weight(&world.ground.share(slot).join(".enjambre"));
            }
            all.push(usage);
        }
        Self(all)
    }

    /// The most that a process takes.
    pub(crate) fn peak(&self, pick: fn(&Usage) -> f64) -> f64 {
        self.0.iter().flatten().map(pick).fold(0.0, f64::max)
    }

    /// The most that a process takes more than it did.
    pub(crate) fn more_than(&self, before: &Self, pick: fn(&Usage) -> f64) -> f64 {
        let pairs =
            self.0.iter().zip(&before.0).filter_map(|(now, then)| Some(pick(now.as_ref()?) - pick(then.as_ref()?)));
        pairs.fold(f64::NEG_INFINITY, f64::max)
    }

    /// Memory of the tracker and of the peers that live throughout.
    fn lasting(&self) -> Option<f64> {
        self.0[..=ELDERS].iter().map(|usage| usage.as_ref().map(|usage| usage.memory)).sum()
    }
}

/// Bytes of all files below a folder.
fn weight(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let weigh = |entry: fs::DirEntry| match entry.metadata() {
        Ok(what) if what.is_dir() => weight(&entry.path()),
        Ok(what) => what.len() as f64,
        Err(_) => 0.0,
    };
    entries.map(weigh).sum()
}

/// Samples until then, twice a second.
pub(crate) fn sample(world: &World, until: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    while Instant::now() < until && !super::place::is_stopped() {
        samples.push(Sample::take(world, false));
        thread::sleep(Duration::from_millis(500));
    }
    samples
}

/// How much more memory the lasting ones have in the last sixth than in the one before, as a share: medians, so that
/// what comes and goes with each download counts little.
pub(crate) fn trend(samples: &[Sample]) -> f64 {
    let lasting: Vec<f64> = samples[samples.len() * 2 / 3..].iter().filter_map(Sample::lasting).collect();
    let (early, late) = lasting.split_at(lasting.len() / 2);
    if early.is_empty() {
        return f64::INFINITY;
    }
    median(late.to_vec()) / median(early.to_vec()) - 1.0
}
