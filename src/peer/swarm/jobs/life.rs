//! The life of a job: what it waits for, and what a try that failed makes of it. Pure; the clock and
//! chance are passed in.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Outcome;
use crate::{
    content::ContentId,
    limits,
    name::SharePath,
    peer::swarm::{GetError, Report},
};

/// A content that is to be brought to a path.
pub(super) struct Job {
    pub(super) content: ContentId,
    pub(super) path: SharePath,
    pub(super) phase: Phase,
    /// It was taken up from its record: for want of sources it waits, where one that somebody has just
    /// asked for ends with an error.
    pub(super) is_lasting: bool,
    /// Whether its record is on disk, or need not be: whoever follows finds out anew what it wants.
    pub(super) is_recorded: bool,
    /// What it may take the place of.
    pub(super) over: Option<ContentId>,
    pub(super) is_cancelled: bool,
    /// Cancelled, what has come of it stays.
    pub(super) keeps: bool,
    /// Who holds a handle.
    pub(super) handles: usize,
    /// Bytes that are here of how many, once that is known.
    pub(super) progress: Option<(u64, u64)>,
    /// The bytes that were here when the present try began.
    from: Option<u64>,
    /// How fast they come.
    pub(super) pace: Pace,
    /// It was told that the disk is full, and not that there is room again.
    was_paused: bool,
    /// There is no room for the size that was claimed, and nothing has come that bears it out: others may claim
    /// another by then.
    doubt: Option<Instant>,
    /// Tries in a row that brought nothing.
    vain: u32,
    /// Tries that have failed.
    pub(super) failures: u64,
    /// Of the last try.
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Until the tracker is there for the first time.
    Held,
    /// Until fewer others run.
    Queued,
    Running,
    /// Nobody could deliver it: until then.
    Retrying(Instant),
    /// The disk is full: it is looked at again then.
    Paused(Instant),
    Ended,
}

/// What becomes of a job after a try that has failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    End,
    /// It is tried again, and whether a person has to be told.
    Again {
        is_news: bool,
    },
    Paused {
        is_news: bool,
    },
}

impl Job {
    pub(super) fn new(content: ContentId, path: SharePath, phase: Phase) -> Self {
        let is_lasting = phase == Phase::Held;
        Self {
            content,
            path,
            phase,
            is_lasting,
            is_recorded: is_lasting,
            over: None,
            is_cancelled: false,
            keeps: false,
            handles: 0,
            progress: None,
            from: None,
            pace: Pace::default(),
            was_paused: false,
            doubt: None,
            vain: 0,
            failures: 0,
            outcome: None,
        }
    }

    /// Somebody asks for it: it waits for nothing but its turn, and for room.
    pub(super) fn ask(&mut self) {
        if matches!(self.phase, Phase::Held | Phase::Retrying(_)) {
            self.phase = Phase::Queued;
        }
    }

    pub(super) fn begin(&mut self) {
        (self.phase, self.from, self.pace, self.doubt) = (Phase::Running, None, Pace::default(), None);
    }

    /// True when bytes come again after a full disk.
    pub(super) fn progress(&mut self, done: u64, size: u64, now: Instant) -> bool {
        self.progress = Some((done, size));
        self.pace.note(done, now);
        if done == *self.from.get_or_insert(done) {
            return false;
        }
        self.vain = 0;
        std::mem::take(&mut self.was_paused)
    }

    /// What can be told of it was told, and nothing has come since.
    pub(super) fn is_told(&self) -> bool {
        self.vain > 0
    }

    /// Takes note of a try that has failed.
    pub(super) fn failed(&mut self, error: Arc<GetError>, now: Instant, random: u64) -> Fate {
        let is_news = self.vain == 0;
        let fate = if error.is_full_disk() {
            let is_claim = error.is_want_of_room() && self.progress.is_none_or(|(done, _)| done == 0);
            self.doubt = is_claim.then(|| now + pause(self.vain, random, limits::FULL_DISK_PAUSE));
            let vain = if is_claim { 0 } else { self.vain };
            self.phase = Phase::Paused(now + pause(vain, random, limits::FULL_DISK_PAUSE));
            self.was_paused = true;
            Fate::Paused { is_news }
        } else {
            self.failures += 1;
            let may_pass = self.is_lasting && error.may_pass();
            self.outcome = Some(Err(error));
            if !may_pass {
                return Fate::End;
            }
            self.phase = Phase::Retrying(now + pause(self.vain, random, limits::JOB_PAUSE));
            Fate::Again { is_news }
        };
        self.vain = self.vain.saturating_add(1);
        fate
    }

    /// There is no room: it goes on waiting for some, unless it is time to ask whether it needs so much.
    pub(super) fn pause_more(&mut self, now: Instant) {
        if self.doubt.is_some_and(|due| due <= now) {
            self.phase = Phase::Queued;
            return;
        }
        self.phase = Phase::Paused(now + limits::FULL_DISK_PAUSE.start);
    }

    /// Bytes that have to be free on the disk before it goes on.
    pub(super) fn room(&self) -> u64 {
        let missing = self.progress.map_or(0, |(done, size)| size - done.min(size));
        missing.max(limits::FULL_DISK_ROOM)
    }

    pub(super) fn end(&mut self, outcome: Result<Arc<Report>, Arc<GetError>>) {
        (self.phase, self.outcome) = (Phase::Ended, Some(outcome));
    }

    /// When there is something to do about it by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Retrying(due) | Phase::Paused(due) => Some(due),
            Phase::Held | Phase::Queued | Phase::Running | Phase::Ended => None,
        }
    }
}

/// How fast bytes come, over the last second or two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// What was here when this span began.
    since: Option<(Instant, u64)>,
    /// Bytes a second in the span before.
    rate: u64,
}

impl Pace {
    fn note(&mut self, done: u64, now: Instant) {
        let (since, from) = *self.since.get_or_insert((now, done));
        let time = now - since;
        if time >= limits::RATE_TIME {
            self.rate = (done.saturating_sub(from) as f64 / time.as_secs_f64()) as u64;
            self.since = Some((now, done));
        }
    }

    /// Bytes a second; none before the first span is over.
    pub(super) fn get(&self) -> u64 {
        self.rate
    }
}

/// The job whose turn it is: no more run at once than may, and never two of one content.
pub(super) fn next(jobs: &BTreeMap<u64, Job>) -> Option<u64> {
    let running = || jobs.values().filter(|job| job.phase == Phase::Running);
    if running().count() >= limits::JOBS_RUNNING {
        return None;
    }
    let is_free = |job: &Job| job.phase == Phase::Queued && running().all(|other| other.content != job.content);
    jobs.iter().find(|(_, job)| is_free(job)).map(|(number, _)| *number)
}

/// Twice as long each time, within `range`, and by chance up to half of that less: those who lost a source
/// together do not all come back together.
fn pause(vain: u32, random: u64, range: Range<Duration>) -> Duration {
    let longest = range.start.saturating_mul(1_u32.checked_shl(vain).unwrap_or(u32::MAX)).min(range.end);
    let chance = (random % 1024) as u32;
    longest - longest / 2 * chance / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::share::NoRoom;
    use std::io;

    fn no_room() -> io::Error {
        io::Error::new(io::ErrorKind::StorageFull, NoRoom::default())
    }

    fn job(content: &[u8], phase: Phase) -> Job {
        Job::new(ContentId::of(content), "f".parse().unwrap(), phase)
    }

    #[test]
    fn few_run_at_once_in_order_and_never_two_of_one_content() {
        let contents: Vec<_> = (0..9_u8).map(|n| [n / 2]).collect();
        let mut jobs: BTreeMap<_, _> = (0..).zip(contents.iter().map(|content| job(content, Phase::Queued))).collect();
        let mut began = Vec::new();
        while let Some(number) = next(&jobs) {
            jobs.get_mut(&number).unwrap().begin();
            began.push(number);
        }
        assert_eq!(began, (0..limits::JOBS_RUNNING as u64).map(|n| 2 * n).collect::<Vec<_>>());
        jobs.get_mut(&0).unwrap().phase = Phase::Ended;
        assert_eq!(next(&jobs), Some(1));
        jobs.get_mut(&1).unwrap().phase = Phase::Held;
        assert_eq!(next(&jobs), Some(6), "what waits for something else is passed over");
    }

    #[test]
    fn a_rate_is_of_the_last_moment_and_not_of_what_was_here_before() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut at = |millis, done| {
            pace.note(done, start + Duration::from_millis(millis));
            pace.get()
        };
        assert_eq!([at(0, 5000), at(500, 6000)], [0, 0]);
        assert_eq!([at(1000, 7000), at(1900, 7500)], [2000, 2000]);
        assert_eq!([at(2000, 8000), at(3000, 8000), at(4000, 7000)], [1000, 0, 0]);
    }

    #[test]
    fn want_of_sources_is_told_once_and_waited_out_longer_each_time() {
        let now = Instant::now();
        let mut lasting = job(b"x", Phase::Held);
        let mut waits = Vec::new();
        for n in 0..40 {
            lasting.begin();
            lasting.progress(5, 10, now);
            assert_eq!(lasting.failed(Arc::new(GetError::NoSource), now, 0), Fate::Again { is_news: n == 0 });
            waits.push(lasting.due().unwrap() - now);
        }
        assert_eq!(waits[..3], [1, 2, 4].map(|n| limits::JOB_PAUSE.start * n));
        assert_eq!(waits[39], limits::JOB_PAUSE.end);
        // What brought something begins anew.
        lasting.begin();
        lasting.progress(5, 10, now);
        lasting.progress(6, 10, now);
        assert_eq!(lasting.failed(Arc::new(GetError::NoSource), now, 1023), Fate::Again { is_news: true });
        let wait = lasting.due().unwrap() - now;
        assert!(wait >= limits::JOB_PAUSE.start / 2 && wait < limits::JOB_PAUSE.start, "{wait:?}");
        // What no waiting helps against ends it, and so does anything for what a person waits for.
        let conflict = Arc::new(GetError::Conflict("f".parse().unwrap()));
        assert_eq!(lasting.failed(conflict, now, 0), Fate::End);
        assert_eq!(job(b"x", Phase::Queued).failed(Arc::new(GetError::NoSource), now, 0), Fate::End);
    }

    #[test]
    fn a_size_that_is_only_claimed_is_asked_for_anew_though_there_is_no_room_for_it() {
        let mut now = Instant::now();
        let mut claimed = job(b"x", Phase::Queued);
        let mut waits = Vec::new();
        for _ in 0..12 {
            claimed.begin();
            claimed.progress(0, 1 << 50, now);
            let began = now;
            claimed.failed(Arc::new(GetError::Disk(no_room())), now, 0);
            while let Phase::Paused(due) = claimed.phase {
                assert!(due - now <= limits::FULL_DISK_PAUSE.start, "room is looked for as often as ever");
                now = due;
                claimed.pause_more(now);
            }
            waits.push(now - began);
        }
        assert_eq!(waits[..3], [1, 2, 4].map(|n| limits::FULL_DISK_PAUSE.start * n));
        assert_eq!(waits[11], limits::FULL_DISK_PAUSE.end);
        // Of what has come in part, the size is no mere claim.
        claimed.begin();
        claimed.progress(5, 10, now);
        claimed.failed(Arc::new(GetError::Disk(no_room())), now, 0);
        claimed.pause_more(now + limits::FULL_DISK_PAUSE.end * 2);
        assert!(matches!(claimed.phase, Phase::Paused(_)));
    }

    #[test]
    fn a_full_disk_pauses_until_there_is_room_for_what_is_missing() {
        let now = Instant::now();
        let mut asked = job(b"x", Phase::Queued);
        asked.begin();
        asked.progress(0, 10 << 30, now);
        for (kind, is_news) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::QuotaExceeded, false)] {
            let full = Arc::new(GetError::Disk(kind.into()));
            assert_eq!(asked.failed(full, now, 0), Fate::Paused { is_news });
        }
        assert_eq!(asked.due(), Some(now + limits::FULL_DISK_PAUSE.start * 2));
        assert_eq!(asked.room(), 10 << 30);
        assert!(asked.progress((10 << 30) - 5, 10 << 30, now), "it goes on");
        assert!(!asked.progress((10 << 30) - 5, 10 << 30, now), "told once");
        assert_eq!(asked.room(), limits::FULL_DISK_ROOM);
        asked.ask();
        assert!(matches!(asked.phase, Phase::Paused(_)), "asking makes no room");
    }
}
