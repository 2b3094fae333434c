//! The keeper: a thread that starts jobs when their time has come, looks for room on a full disk, and
//! removes what nobody has used for long. It sleeps until there is something to do.

use std::{
    io,
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Jobs, State,
    life::{self, Job, Phase},
};
use crate::{limits, peer::swarm::GetError, say};

impl Jobs {
    pub(super) fn need_keeper(&self, state: &mut State) -> io::Result<()> {
        if !state.has_keeper {
            let jobs = self.clone();
            let keeper = thread::Builder::new().name("jobs".into()).stack_size(limits::CONNECTION_STACK);
            let told = |error| io::Error::other(format!("the system gives no thread: {error}"));
            keeper.spawn(move || jobs.keep()).map_err(told)?;
            state.has_keeper = true;
        }
        Ok(())
    }

    fn keep(&self) {
        let mut state = self.lock();
        while !state.is_stopped {
            let now = Instant::now();
            if state.sweep.is_some_and(|due| due <= now) {
                self.sweep(&mut state);
            }
            self.wake(&mut state, now);
            while let Some(number) = life::next(&state.jobs) {
                let Some(job) = state.jobs.get_mut(&number) else { break };
                job.begin();
                let jobs = self.clone();
                let run = thread::Builder::new().name("job".into()).spawn(move || jobs.run(number));
                if run.is_err() {
                    job.phase = Phase::Retrying(now + limits::JOB_PAUSE.start);
                }
            }
            let due = state.jobs.values().filter_map(Job::due).chain(state.sweep).min();
            state = match due {
                Some(due) => {
                    let patience = due.saturating_duration_since(Instant::now());
                    self.0.due.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.due.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Has those go on that have waited long enough, and those for which there is room.
    fn wake(&self, state: &mut State, now: Instant) {
        for job in state.jobs.values_mut().filter(|job| job.due().is_some_and(|due| due <= now)) {
            match job.phase {
                Phase::Paused(_) if self.share().room().is_some_and(|room| room < job.room()) => job.pause_more(now),
                _ => job.phase = Phase::Queued,
            }
        }
    }

    /// Removes what nobody has used for long.
    fn sweep(&self, state: &mut State) {
        let mut oldest = None;
        let mut is_too_old = |unused: Duration| {
            oldest = oldest.max((unused < limits::UNUSED_TIME).then_some(unused));
            unused >= limits::UNUSED_TIME
        };
        let mut gone = Vec::new();
        for (number, job) in state.jobs.iter().filter(|(_, job)| job.handles == 0 && job.phase != Phase::Running) {
            if self.share().job_unused(&job.content, &job.path).is_some_and(&mut is_too_old) {
                gone.push(*number);
            }
        }
        for number in gone {
            if let Some(job) = state.jobs.get(&number) {
                say(format_args!("{} is given up: nothing has come of it for long", job.path));
            }
            self.remove(state, number);
        }
        for left in self.share().leftovers() {
            if !state.is_wanted(&left.content) && is_too_old(left.unused) {
                self.share().discard_partial(&left.content);
            }
        }
        state.sweep = oldest.map(|oldest| Instant::now() + (limits::UNUSED_TIME - oldest));
    }

    /// Ends a job that does not run as a cancelled one.
    pub(super) fn remove(&self, state: &mut State, number: u64) {
        let Some(job) = state.jobs.get_mut(&number) else { return };
        let (content, path, keeps) = (job.content, job.path.clone(), job.keeps);
        job.end(Err(Arc::new(GetError::Cancelled)));
        // Somebody may have asked for the same again while this one ended.
        if state.find(&content, &path).is_none() {
            self.share().forget_job(&content, &path);
        }
        if !keeps && !state.is_wanted(&content) {
            self.share().discard_partial(&content);
        }
        self.ended(state, number);
    }

    /// Tells those who wait for a job that it has ended.
    pub(super) fn ended(&self, state: &mut State, number: u64) {
        if state.jobs.get(&number).is_some_and(|job| job.handles == 0) {
            state.jobs.remove(&number);
        }
        self.0.changed.notify_all();
        self.0.due.notify_all();
    }
}
