//! Gets that run while the next command is typed: each on a thread of its own, all shown together.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::termios::tcgetwinsize;

use super::{Form, Teller, progress::row, screen::Screen, teller::tally_row, text};
use crate::{
    limits,
    name::SharePath,
    peer::{
        asks::{AskError, Asks, Face, Got, Tally},
        swarm::jobs::Standing,
    },
};

/// The gets of one terminal. Clones are handles to the same ones.
#[derive(Clone)]
pub(super) struct Gets {
    asks: Asks,
    screen: Screen,
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    gets: BTreeMap<u64, Get>,
    /// Somebody shows how they go.
    is_shown: bool,
}

struct Get {
    is_stopped: Arc<AtomicBool>,
    /// The job that it waits for.
    job: Option<u64>,
    /// How it goes, where it is of many files.
    tally: Option<String>,
}

impl Gets {
    pub(super) fn new(asks: Asks, screen: Screen) -> Self {
        Self { asks, screen, running: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one more.
    ///
    /// # Errors
    /// A sentence, when there are too many.
    pub(super) fn begin(&self, what: &str, target: Option<&str>) -> Result<(), String> {
        let mut running = self.lock();
        if running.gets.len() >= limits::GETS {
            return Err(format!("{} gets are under way: wait for some, or end one with Ctrl-C", limits::GETS));
        }
        let number = running.next;
        let is_stopped = Arc::<AtomicBool>::default();
        let (gets, what, target) = (self.clone(), what.to_owned(), target.map(str::to_owned));
        let mut face =
            GetFace { gets: self.clone(), number, is_stopped: is_stopped.clone(), teller: Teller::new(Form::Plain) };
        let work = move || {
            let went = gets.asks.get(&what, target.as_deref(), &mut face);
            gets.lock().gets.remove(&number);
            match went {
                _ if face.is_stopped() => {
                    face.teller.fail(format_args!("{what} was stopped: the same get goes on from there"))
                }
                Ok(tally) => face.teller.end(tally.as_ref()),
                Err(error) => face.teller.fail(error),
            }
        };
        let failed = |error| format!("the system gives no thread: {error}");
        thread::Builder::new().name("get".into()).spawn(work).map_err(failed)?;
        running.next += 1;
        running.gets.insert(number, Get { is_stopped, job: None, tally: None });
        if !running.is_shown {
            let gets = self.clone();
            running.is_shown = thread::Builder::new().name("shown".into()).spawn(move || gets.show()).is_ok();
        }
        Ok(())
    }

    /// Ends the one that was begun last, and keeps what is here of it; false where none runs.
    pub(super) fn stop_last(&self) -> bool {
        let running = self.lock();
        let last = running.gets.values().rev().find(|get| !get.is_stopped.load(Ordering::Acquire));
        let Some(Get { is_stopped, job, .. }) = last else { return false };
        is_stopped.store(true, Ordering::Release);
        let job = *job;
        drop(running);
        job.inspect(|job| self.asks.jobs.break_off(*job));
        true
    }

    /// Shows how they go, until there are none.
    fn show(&self) {
        loop {
            thread::sleep(limits::SHOW_TIME);
            let mut running = self.lock();
            let mut rows: Vec<_> = running.gets.values().filter_map(|get| get.tally.clone()).collect();
            if running.gets.is_empty() {
                running.is_shown = false;
                drop(running);
                return self.screen.show(Vec::new());
            }
            drop(running);
            let downloads = &self.asks.jobs.getter().downloads;
            let jobs = self.asks.downloads();
            let jobs = jobs.iter().filter(|listed| matches!(listed.standing, Standing::Running | Standing::Paused));
            rows.extend(jobs.map(|listed| {
                let sources = downloads.find(&listed.content).map_or(0, |download| download.origins().sources.len());
                row(listed, sources)
            }));
            let more = rows.len().saturating_sub(limits::SHOWN_ROWS);
            if more > 0 {
                rows.truncate(limits::SHOWN_ROWS);
                rows.push(format!("and {more} more"));
            }
            let width = tcgetwinsize(std::io::stdout()).map_or(80, |size| usize::from(size.ws_col).max(20));
            self.screen.show(rows.iter().map(|row| text::cut(row, width - 1)).collect());
        }
    }
}

/// Tells of one get.
struct GetFace {
    gets: Gets,
    number: u64,
    is_stopped: Arc<AtomicBool>,
    teller: Teller,
}

impl GetFace {
    fn get(&self, change: impl FnOnce(&mut Get)) {
        if let Some(get) = self.gets.lock().gets.get_mut(&self.number) {
            change(get);
        }
    }
}

impl Face for GetFace {
    fn began(&mut self, job: u64) {
        self.get(|get| get.job = Some(job));
        if self.is_stopped() {
            self.gets.asks.jobs.break_off(job);
        }
    }

    fn progress(&mut self, _: &SharePath, _: u64, _: u64) {}

    fn got(&mut self, files: &[Got]) {
        self.teller.got(files);
    }

    fn failed(&mut self, error: AskError) {
        if !self.is_stopped() {
            self.teller.failed(error);
        }
    }

    fn note(&mut self, line: &str) {
        self.teller.note(line);
    }

    fn tally(&mut self, tally: &Tally) {
        self.get(|get| get.tally = Some(tally_row(tally)));
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }
}
