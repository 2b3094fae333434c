//! Jobs: what is to be downloaded, from the moment somebody asks for it until it is there or cancelled,
//! through restarts, full disks and times without a source.
//!
//! A job has a record on disk before its first byte comes. Each that runs has a thread of its own, and
//! one thread more, the keeper, starts them when their time has come; it sleeps until then.

mod keeper;
mod life;
mod run;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::{GetError, Getter, Report};
use crate::{content::ContentId, limits, name::SharePath, peer::share::Share, say};
use life::{Job, Phase};

/// How a job, or a try of one, went.
pub type Outcome = Result<Arc<Report>, Arc<GetError>>;

/// The jobs of one peer. Clones are handles to the same ones.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

struct Shared {
    getter: Getter,
    /// A try that fails is a job's end, and none outlives the process.
    is_once: bool,
    state: Mutex<State>,
    /// For those who wait for a job.
    changed: Condvar,
    /// For the keeper.
    due: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order in which they were asked for.
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// Those that ended lately, at most [`limits::JOBS_ENDED`]; the newest last.
    ended: VecDeque<Ended>,
    has_keeper: bool,
    is_stopped: bool,
    /// When something on disk may have been unused for too long.
    sweep: Option<Instant>,
}

/// A job that somebody waits for.
pub struct Handle {
    jobs: Jobs,
    number: u64,
    /// How often it had failed before.
    failures: u64,
}

/// How a download stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Running,
    /// It waits for its turn, for the tracker or for a source.
    Waiting,
    /// The disk is full.
    Paused,
    /// Nobody wants it any more; a `get` would go on with it.
    Left,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Left => "left",
        })
    }
}

/// A job, or what is left of one.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its number; none for what is left.
    pub number: Option<u64>,
    /// What is wanted.
    pub content: ContentId,
    /// Where it is to go; not known of what is left.
    pub path: Option<SharePath>,
    /// All its bytes, once that is known.
    pub size: Option<u64>,
    /// Bytes that are here.
    pub here: u64,
    /// Bytes a second that come now.
    pub rate: u64,
    /// How it stands.
    pub standing: Standing,
}

/// A job that has come to its end, be it good or bad, and was not cancelled.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its number.
    pub number: u64,
    /// What was wanted.
    pub content: ContentId,
    /// Where it was to go.
    pub path: SharePath,
    /// How it went.
    pub outcome: Outcome,
}

impl Jobs {
    /// No jobs yet; they will be done by `getter`.
    pub fn new(getter: Getter) -> Self {
        Self::with(getter, false)
    }

    /// So too for jobs of which nothing is noted, and that do not wait for a source or for room on the disk.
    pub fn once(getter: Getter) -> Self {
        Self::with(getter, true)
    }

    fn with(getter: Getter, is_once: bool) -> Self {
        let (state, changed, due) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self(Arc::new(Shared { getter, is_once, state, changed, due }))
    }

    /// What does them.
    pub fn getter(&self) -> &Getter {
        &self.0.getter
    }

    fn share(&self) -> &Share {
        &self.0.getter.share
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what is recorded, and goes on with it when `swarm_is_there` has returned.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn resume(&self, swarm_is_there: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.lock();
        for record in self.share().recorded_jobs() {
            state.add(Job::new(record.content, record.path, Phase::Held));
        }
        if !state.jobs.is_empty() {
            let jobs = self.clone();
            let go_on = move || {
                swarm_is_there();
                jobs.lock().jobs.values_mut().for_each(Job::ask);
                jobs.0.due.notify_all();
            };
            thread::Builder::new().name("resume".into()).spawn(go_on)?;
        } else if self.share().leftovers().is_empty() {
            return Ok(());
        }
        state.sweep = Some(Instant::now());
        self.need_keeper(&mut state)
    }

    /// Has the content `id` brought to `path`. What is wanted there already is the same job.
    ///
    /// # Errors
    /// When there are too many, the peer stops, or the system gives no thread.
    pub fn start(&self, id: &ContentId, path: &SharePath) -> Result<Handle, GetError> {
        self.want(id, path, |job| {
            // A disk that is full now may have room when the job's turn comes.
            job.is_recorded |= self.0.is_once || self.share().record_job(id, path).is_ok();
        })
    }

    /// So too for one who follows another peer: nothing of it is noted, and it may take the place of a shared file
    /// with the content `over`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn follow(&self, id: &ContentId, path: &SharePath, over: Option<ContentId>) -> Result<Handle, GetError> {
        self.want(id, path, |job| (job.is_recorded, job.over) = (true, over))
    }

    fn want(&self, id: &ContentId, path: &SharePath, change: impl FnOnce(&mut Job)) -> Result<Handle, GetError> {
        let mut state = self.lock();
        if state.is_stopped {
            return Err(GetError::Stopped);
        }
        self.need_keeper(&mut state)?;
        let same = state.find(id, path);
        if same.is_none() && state.jobs.len() >= limits::JOBS {
            return Err(GetError::TooMany);
        }
        let number = same.unwrap_or_else(|| state.add(Job::new(*id, path.clone(), Phase::Queued)));
        let Some(job) = state.jobs.get_mut(&number) else { return Err(GetError::Stopped) };
        change(job);
        job.ask();
        job.handles += 1;
        if let Phase::Paused(_) = job.phase {
            say(paused(path, None));
        }
        let failures = job.failures;
        self.0.due.notify_all();
        Ok(Handle { jobs: self.clone(), number, failures })
    }

    /// Jobs in their order, and then what is left of others.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.lock();
        let row = |(number, job): (&u64, &Job)| {
            let standing = match job.phase {
                Phase::Running => Standing::Running,
                Phase::Paused(_) => Standing::Paused,
                Phase::Held | Phase::Queued | Phase::Retrying(_) => Standing::Waiting,
                Phase::Ended => return None,
            };
            let on_disk = || self.share().leftover(&job.content).map_or(0, |left| left.bytes);
            Some(Listed {
                number: Some(*number),
                content: job.content,
                path: Some(job.path.clone()),
                size: job.progress.map(|(_, size)| size),
                here: job.progress.map_or_else(on_disk, |(done, _)| done),
                rate: if standing == Standing::Running { job.pace.get() } else { 0 },
                standing,
            })
        };
        let mut rows: Vec<_> = state.jobs.iter().filter_map(row).collect();
        let left = self.share().leftovers().into_iter().filter(|left| !state.is_wanted(&left.content));
        rows.extend(left.map(|left| Listed {
            number: None,
            content: left.content,
            path: None,
            size: None,
            here: left.bytes,
            rate: 0,
            standing: Standing::Left,
        }));
        rows
    }

    /// Those that ended lately, the newest first.
    pub fn ended_lately(&self) -> Vec<Ended> {
        self.lock().ended.iter().rev().cloned().collect()
    }

    /// Ends a job and removes its record, and keeps what has come of it: the same one goes on from there.
    pub fn break_off(&self, number: u64) {
        if let Some(job) = self.lock().jobs.get_mut(&number) {
            job.keeps = true;
        }
        self.cancel(number);
    }

    /// Ends a job, and removes its record and what has come of it. False when it has ended otherwise
    /// meanwhile.
    pub fn cancel(&self, number: u64) -> bool {
        let mut state = self.lock();
        let Some(job) = state.jobs.get_mut(&number).filter(|job| job.phase != Phase::Ended) else { return false };
        job.is_cancelled = true;
        // For the outcome, whoever else waits for it.
        job.handles += 1;
        let failures = job.failures;
        if job.phase != Phase::Running {
            self.remove(&mut state, number);
        }
        drop(state);
        let handle = Handle { jobs: self.clone(), number, failures };
        matches!(handle.wait(|_, _| {}), Err(error) if matches!(*error, GetError::Cancelled))
    }

    /// Removes what is left of a download that nobody wants. False where that is not so, or cannot be done.
    pub fn discard(&self, content: &ContentId) -> bool {
        let state = self.lock();
        !state.is_wanted(content) && self.share().discard_partial(content)
    }

    /// The peer stops: what runs ends at once, and goes on at the next start.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.0.changed.notify_all();
        self.0.due.notify_all();
    }
}

impl State {
    fn add(&mut self, job: Job) -> u64 {
        let number = self.next;
        self.next += 1;
        self.jobs.insert(number, job);
        number
    }

    /// Takes note of how a job went, for those who ask later.
    fn note_end(&mut self, number: u64) {
        let Some(Job { content, path, outcome: Some(outcome), .. }) = self.jobs.get(&number) else { return };
        self.ended.push_back(Ended { number, content: *content, path: path.clone(), outcome: outcome.clone() });
        let many = self.ended.len().saturating_sub(limits::JOBS_ENDED);
        self.ended.drain(..many);
    }

    /// The job that brings a content to a path.
    fn find(&self, id: &ContentId, path: &SharePath) -> Option<u64> {
        let is_live = |job: &Job| job.phase != Phase::Ended && !job.is_cancelled;
        let is_same = |job: &Job| job.content == *id && job.path == *path && is_live(job);
        self.jobs.iter().find(|(_, job)| is_same(job)).map(|(number, _)| *number)
    }

    /// Whether some job is about a content.
    fn is_wanted(&self, content: &ContentId) -> bool {
        self.jobs.values().any(|job| job.content == *content && job.phase != Phase::Ended)
    }
}

impl Handle {
    /// The job's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until the job has ended, or a try of it has failed that goes on by itself afterwards. `progress`
    /// is told of bytes that are here, and of how many.
    pub fn wait(self, mut progress: impl FnMut(u64, u64)) -> Outcome {
        let mut state = self.jobs.lock();
        let mut seen = None;
        loop {
            let Some(job) = state.jobs.get(&self.number) else { return Err(Arc::new(GetError::Cancelled)) };
            let is_over = job.phase == Phase::Ended || job.failures > self.failures;
            if let Some(outcome) = job.outcome.as_ref().filter(|_| is_over) {
                let outcome = outcome.clone();
                drop(state);
                return outcome;
            }
            if state.is_stopped && job.phase != Phase::Running {
                return Err(Arc::new(GetError::Stopped));
            }
            if let Some((done, size)) = job.progress.filter(|now| seen != Some(*now)) {
                seen = Some((done, size));
                // Whoever shows it may take its time.
                drop(state);
                progress(done, size);
                state = self.jobs.lock();
                continue;
            }
            state = self.jobs.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.jobs.lock();
        if let Some(job) = state.jobs.get_mut(&self.number) {
            job.handles -= 1;
            if job.handles == 0 && job.phase == Phase::Ended {
                state.jobs.remove(&self.number);
            }
        }
    }
}

fn paused(path: &SharePath, error: Option<&GetError>) -> String {
    match error.filter(|error| error.is_want_of_room()) {
        Some(error) => format!("{path} paused: {error}; it goes on when there is room"),
        None => format!("{path} paused: the disk is full, it goes on when there is room"),
    }
}
