//! What is true of the swarm, as far as those who disturb it know: who lives, what they hold, what must be found.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use enjambre::content::ContentId;

use super::{
    LEASE, PEERS,
    dice::Dice,
    ground::Ground,
    life::start_tracker,
    support::{Process, hosts::Cut},
};

/// After a lease, so much more is for a busy machine and lost packets.
const SLACK: Duration = Duration::from_secs(2);
/// A file that is acknowledged, or a removal, is found out so late at most.
pub(crate) const NEWS: Duration = Duration::from_secs(6);

/// The swarm.
pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) is_over: AtomicBool,
    seed: u64,
    began: Mutex<Instant>,
    slots: Vec<Mutex<Slot>>,
    tracker: Mutex<TrackerSlot>,
    numbers: AtomicU64,
    ids: Mutex<BTreeMap<u64, ContentId>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    broken: AtomicU64,
}

/// A peer's place.
pub(crate) struct Slot {
    pub(crate) state: State,
    /// Grows with everything that may excuse it.
    pub(crate) epoch: u64,
    /// When it was last disturbed.
    pub(crate) since: Instant,
    /// Files that it has acknowledged, or was given, by their paths; since when.
    pub(crate) files: BTreeMap<String, Instant>,
    /// Files that were removed, and when.
    pub(crate) removed: BTreeMap<String, Instant>,
    /// Its process, where there is one.
    pub(crate) process: Option<u32>,
}

/// Whether a peer lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Up,
    /// It hears nobody, or not everybody.
    Cut,
    /// It was killed.
    Dead,
    /// It has left, and the tracker was there.
    Left,
}

/// The tracker's place.
pub(crate) struct TrackerSlot {
    pub(crate) process: Option<Process>,
    pub(crate) epoch: u64,
    /// Since when it is there.
    pub(crate) since: Instant,
}

impl World {
    /// A world with a tracker, and without peers.
    pub(crate) fn new(ground: Ground, seed: u64) -> Self {
        let now = Instant::now();
        let slot = |_| {
            let (files, removed) = (BTreeMap::new(), BTreeMap::new());
            Mutex::new(Slot { state: State::Dead, epoch: 0, since: now, files, removed, process: None })
        };
        let process = Some(start_tracker(&ground));
        std::fs::write(ground.outside().join("canary"), "canary").expect("a folder of ours");
        Self {
            ground,
            is_over: AtomicBool::new(false),
            seed,
            began: Mutex::new(now),
            slots: (0..PEERS).map(slot).collect(),
            tracker: Mutex::new(TrackerSlot { process, epoch: 0, since: now }),
            numbers: AtomicU64::new(0),
            ids: Mutex::default(),
            counts: Mutex::default(),
            broken: AtomicU64::new(0),
        }
    }

    /// From now on time is counted.
    pub(crate) fn begin(&self) {
        *self.began.lock().expect("nobody panics with it") = Instant::now();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Chance for one of those who act.
    pub(crate) fn dice(&self, nth: usize) -> Dice {
        Dice::new(self.seed, nth as u64)
    }

    /// Locks a peer's place. Its own life alone changes it.
    pub(crate) fn slot(&self, slot: usize) -> MutexGuard<'_, Slot> {
        self.slots[slot].lock().expect("nobody panics with it")
    }

    pub(crate) fn tracker(&self) -> MutexGuard<'_, TrackerSlot> {
        self.tracker.lock().expect("nobody panics with it")
    }

    /// A peer is something else from now on; what was to be expected of it begins anew.
    pub(crate) fn becomes(&self, slot: usize, state: State) {
        let mut slot = self.slot(slot);
        slot.state = state;
        slot.epoch += 1;
        slot.since = Instant::now();
    }

    /// Cuts a peer off, or heals that.
    pub(crate) fn cut(&self, slot: usize, cut: &Cut) {
        if *cut != Cut::Nobody {
            self.becomes(slot, State::Cut);
        }
        self.ground.cut(slot, cut);
        if *cut == Cut::Nobody {
            self.becomes(slot, State::Up);
        }
    }

    /// What a search says about a peer has to hold that it is there, or that it is not; none while either will do.
    /// The number changes with whatever may excuse it.
    pub(crate) fn expected(&self, slot: usize) -> (Option<bool>, u64) {
        let (tracker_epoch, tracker_since, is_up) = {
            let tracker = self.tracker();
            (tracker.epoch, tracker.since, tracker.process.is_some())
        };
        let slot = self.slot(slot);
        let epoch = tracker_epoch << 32 | slot.epoch;
        let rested = slot.since.max(tracker_since).elapsed();
        let expected = match slot.state {
            _ if !is_up => None,
            State::Up if rested > LEASE + SLACK => Some(true),
            // It may have been forgotten by its lease or by the tracker's end, and is either way.
            State::Dead if slot.since.elapsed() > LEASE + SLACK => Some(false),
            State::Left => Some(false),
            _ => None,
        };
        (expected, epoch)
    }

    /// Whether a peer can be relied on, and the number that tells whether it could all the time.
    pub(crate) fn firm(&self, slot: usize) -> Option<u64> {
        let (expected, epoch) = self.expected(slot);
        (expected == Some(true)).then_some(epoch)
    }

    /// The number of a content that was not there before.
    pub(crate) fn new_content(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A content's bytes: most of them small, some of many pieces.
    pub(crate) fn content(&self, number: u64) -> Vec<u8> {
        let mut dice = Dice::new(self.seed ^ 0xc0de, number);
        let most = dice.weighed(&[(60, 48 << 10), (30, 1 << 20), (10, 6 << 20)]);
        let mut bytes = vec![0; dice.below(most)];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// What a file of such a path holds: its name ends with the content's number.
    pub(crate) fn content_of(&self, path: &str) -> Option<u64> {
        path.strip_suffix(".bin")?.rsplit_once('-')?.1.parse().ok()
    }

    /// The peer whose file it is: the name begins with its number.
    pub(crate) fn slot_of(&self, path: &str) -> Option<usize> {
        path.split_once('/')?.1.split_once('-')?.0.parse().ok()
    }

    /// A content's id.
    pub(crate) fn id(&self, number: u64) -> ContentId {
        *self
            .ids
            .lock()
            .expect("nobody panics with it")
            .entry(number)
            .or_insert_with(|| ContentId::of(&self.content(number)))
    }

    /// Counts what was done.
    pub(crate) fn count(&self, what: &'static str) {
        *self.counts.lock().expect("nobody panics with it").entry(what).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().expect("nobody panics with it").clone()
    }

    /// Something is not as it has to be.
    pub(crate) fn broken(&self, what: String) {
        let at = self.began.lock().expect("nobody panics with it").elapsed();
        println!("BROKEN after {:.1} s: {what}", at.as_secs_f64());
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn broken_count(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}
