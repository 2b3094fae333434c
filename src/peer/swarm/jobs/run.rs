//! A job that runs: one try, on a thread of its own, and what comes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Jobs,
    life::{Fate, Job, Phase},
    paused,
};
use crate::{
    content::ContentId,
    limits,
    name::SharePath,
    peer::{
        metrics::Transfer,
        random,
        share::{Entry, Lookup},
        swarm::{GetError, Report, Watch},
    },
    say,
};

impl Jobs {
    pub(super) fn run(&self, number: u64) {
        let look =
            |job: &Job| (job.content, job.path.clone(), job.over, job.is_recorded, job.is_lasting && job.handles == 0);
        let Some((id, path, over, is_recorded, is_news)) = self.lock().jobs.get(&number).map(look) else { return };
        let watch = JobWatch { jobs: self, number };
        if is_news {
            watch.note(&format!("going on with {path}"));
        }
        let result = self.attempt(&id, &path, over, is_recorded, &watch);
        self.settle(number, result);
    }

    fn attempt(
        &self,
        id: &ContentId,
        path: &SharePath,
        over: Option<ContentId>,
        is_recorded: bool,
        watch: &JobWatch<'_>,
    ) -> Result<Report, GetError> {
        let share = self.share();
        if !is_recorded {
            share.record_job(id, path)?;
            watch.job(|job| job.is_recorded = true);
        }
        // The peer may have been killed after it had given the file its name.
        match share.look_up_hashed(path, Instant::now() + limits::UNHASHED_TIME) {
            Lookup::Known(Entry { content, size }) if content == *id => {
                share.discard_partial(id);
                return Ok(Report { size, sources: Vec::new(), copied: None, fetched: 0, time: Duration::ZERO });
            }
            Lookup::Known(Entry { content, .. }) if Some(content) == over => {}
            Lookup::Known(_) => return Err(GetError::Conflict(path.clone())),
            Lookup::Unhashed => return Err(GetError::Unhashed),
            Lookup::Absent => {}
        }
        let getter = &self.0.getter;
        let under_way = getter.metrics.begin(Transfer::Get);
        let got = getter.get(id, path, over, watch);
        under_way.done(got.is_ok());
        got
    }

    /// Takes note of how a try went.
    fn settle(&self, number: u64, result: Result<Report, GetError>) {
        let mut state = self.lock();
        let is_stopped = state.is_stopped;
        let Some(job) = state.jobs.get_mut(&number) else { return };
        let (id, path) = (job.content, job.path.clone());
        match result {
            Ok(report) => {
                self.share().forget_job(&id, &path);
                job.end(Ok(Arc::new(report)));
                if job.handles == 0 {
                    say(format_args!("{path} is here"));
                }
            }
            Err(_) if job.is_cancelled => return self.remove(&mut state, number),
            Err(_) if is_stopped => job.end(Err(Arc::new(GetError::Stopped))),
            Err(error) if self.0.is_once => job.end(Err(Arc::new(error))),
            Err(error) => {
                let error = Arc::new(error);
                match job.failed(Arc::clone(&error), Instant::now(), random()) {
                    Fate::Again { is_news } => {
                        if is_news && job.handles == 0 {
                            say(format_args!("{path} waits, and is tried again now and then: {error:#}"));
                        }
                    }
                    Fate::Paused { is_news } => {
                        if is_news {
                            say(paused(&path, Some(&error)));
                        }
                    }
                    Fate::End => {
                        self.share().forget_job(&id, &path);
                        if job.handles == 0 {
                            say(format_args!("error: {path}: {error}"));
                        }
                        job.end(Err(error));
                    }
                }
                // What has come of it, or its record, is kept for a while and not for ever.
                state.sweep = Some(Instant::now());
            }
        }
        if state.jobs.get(&number).is_some_and(|job| job.phase == Phase::Ended) {
            state.note_end(number);
            self.ended(&mut state, number);
        }
        self.0.changed.notify_all();
        self.0.due.notify_all();
    }
}

/// Looks on for a job.
struct JobWatch<'a> {
    jobs: &'a Jobs,
    number: u64,
}

impl JobWatch<'_> {
    fn job(&self, look: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.lock().jobs.get_mut(&self.number) {
            look(job);
        }
    }
}

impl Watch for JobWatch<'_> {
    fn progress(&self, done: u64, size: u64) {
        self.job(|job| {
            if job.progress(done, size, Instant::now()) {
                say(format_args!("{} goes on: there is room again", job.path));
            }
        });
        self.jobs.0.changed.notify_all();
    }

    fn note(&self, line: &str) {
        let mut is_told = false;
        self.job(|job| is_told = job.is_told());
        if !is_told {
            say(line);
        }
    }

    fn is_stopped(&self) -> bool {
        let state = self.jobs.lock();
        state.is_stopped || state.jobs.get(&self.number).is_none_or(|job| job.is_cancelled)
    }
}
