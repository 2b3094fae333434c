//! A mirror: fetches what named publishers announce, as it appears, and offers it.
//!
//! A publisher is known by its id and, from the first time on, by its identity. A file that this peer has fetched so,
//! and that nobody has changed since, gives way to the publisher's next version of it, once that is whole; anything else
//! in the way stays.

mod fetch;
mod followed;
mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use self::{
    followed::{Followed, Wanted},
    history::History,
};
pub use history::Bounds;

use crate::{
    digest::Digest,
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::{self, Follower, Link, Told},
        share::Share,
        swarm::jobs::Jobs,
    },
    say,
};

/// What is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Patterns for whole paths, as those of a search.
    pub patterns: Vec<String>,
    /// Whose files.
    pub publishers: Vec<PeerId>,
    /// How many are kept of what was fetched.
    pub bounds: Bounds,
}

/// A peer's mirror. Clones are handles to the same one.
#[derive(Clone)]
pub struct Mirror(Arc<Shared>);

struct Shared {
    share: Share,
    link: Link,
    jobs: Jobs,
    bounds: Bounds,
    state: Mutex<State>,
    /// There may be something to do.
    due: Condvar,
}

struct State {
    followed: Followed,
    history: History,
    /// Lines of the history that are not on disk.
    unsaved: Vec<String>,
    /// Nothing was ever mirrored here, and not all is told of what there is: then the last ones are chosen.
    is_first: bool,
    /// To be looked at.
    todo: BTreeSet<SharePath>,
    fetching: BTreeSet<SharePath>,
    /// Where something is in the way: looked at again when the share changes.
    blocked: BTreeSet<SharePath>,
    /// What failed: when it is looked at again, and how often it has.
    failed: BTreeMap<SharePath, (Option<Instant>, u32)>,
    /// Said of a publisher that is another one.
    strangers: BTreeSet<PeerId>,
    is_stopped: bool,
}

impl Mirror {
    /// Begins to follow.
    ///
    /// # Errors
    /// When what was noted cannot be read, or the system gives no thread.
    pub fn start(wishes: Wishes, share: Share, link: &Link, jobs: Jobs) -> io::Result<Self> {
        let lines =
            share.followed().map_err(|error| io::Error::new(error.kind(), format!(".enjambre/mirror: {error}")))?;
        let history = History::read(&lines);
        let state = State {
            followed: Followed::new(wishes.publishers),
            is_first: history.is_empty(),
            history,
            unsaved: Vec::new(),
            todo: BTreeSet::new(),
            fetching: BTreeSet::new(),
            blocked: BTreeSet::new(),
            failed: BTreeMap::new(),
            strangers: BTreeSet::new(),
            is_stopped: false,
        };
        let bounds = wishes.bounds;
        let shared = Shared { share, link: link.clone(), jobs, bounds, state: Mutex::new(state), due: Condvar::new() };
        let this = Self(Arc::new(shared));
        let (worker, watcher) = (this.clone(), Arc::downgrade(&this.0));
        thread::Builder::new()
            .name("mirror".into())
            .stack_size(limits::CONNECTION_STACK)
            .spawn(move || worker.run())?;
        this.0.share.on_change(move || {
            if let Some(shared) = watcher.upgrade() {
                shared.look_again();
            }
        });
        link.watch(wishes.patterns, this.0.clone());
        Ok(this)
    }

    /// The peer stops.
    pub fn stop(&self) {
        self.0.lock().is_stopped = true;
        self.0.due.notify_all();
    }

    fn run(&self) {
        let mut state = self.0.lock();
        while !state.is_stopped {
            let now = Instant::now();
            state.wake(now);
            let lines = std::mem::take(&mut state.unsaved);
            let tidied = state.history.tidied();
            if !lines.is_empty() || tidied.is_some() {
                drop(state);
                self.0.save(&lines, tidied.as_deref());
                state = self.0.lock();
                continue;
            }
            if !state.is_first
                && state.fetching.len() < limits::JOBS_RUNNING
                && let Some(path) = state.todo.pop_first()
            {
                state = self.look(state, path);
                continue;
            }
            self.0.link.mirrors(state.standing());
            let due = state.failed.values().filter_map(|(due, _)| *due).chain(self.0.share.let_go()).min();
            state = match due {
                Some(due) => {
                    let patience = due.saturating_duration_since(now);
                    self.0.due.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.due.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl State {
    /// Has that looked at whose time has come.
    fn wake(&mut self, now: Instant) {
        for (path, (due, _)) in &mut self.failed {
            if due.take_if(|due| *due <= now).is_some() {
                self.todo.insert(path.clone());
            }
        }
    }

    /// How many files are wanted, and how many of them are here.
    fn standing(&self) -> link::Mirror {
        let wanted = self.followed.len() - self.history.passed_over().filter(|(path, content)| {
            matches!(self.followed.wanted(path), Wanted::One(wanted, _) if wanted == *content)
        }).count();
        let failed = self.failed.values().filter(|(due, _)| due.is_some()).count();
        let missing = self.todo.len() + self.fetching.len() + self.blocked.len() + failed;
        let number = |files| u32::try_from(files).unwrap_or(u32::MAX);
        link::Mirror { wanted: number(wanted), here: number(wanted.saturating_sub(missing)) }
    }

    /// Has something looked at again after a while, which is longer each time.
    fn put_off(&mut self, path: SharePath) -> bool {
        let (due, times) = self.failed.entry(path).or_default();
        let pause = limits::JOB_PAUSE.start.saturating_mul(1_u32.checked_shl(*times).unwrap_or(u32::MAX));
        *due = Some(Instant::now() + pause.min(limits::JOB_PAUSE.end));
        *times += 1;
        *times == 1
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has that looked at again where something was in the way.
    fn look_again(&self) {
        let mut state = self.lock();
        if !state.blocked.is_empty() {
            let mut blocked = std::mem::take(&mut state.blocked);
            state.todo.append(&mut blocked);
            self.due.notify_all();
        }
    }

    fn save(&self, lines: &[String], tidied: Option<&[String]>) {
        let saved = match tidied {
            Some(all) => self.share.rewrite_followed(all),
            None => self.share.note_followed(lines),
        };
        if let Err(error) = saved {
            // What is fetched is right all the same; after a restart it may be taken for somebody else's, and stay.
            say(format_args!("cannot write .enjambre/mirror: {error}"));
        }
    }
}

impl Follower for Shared {
    fn known(&self) -> Vec<(PeerId, Option<Digest>)> {
        self.lock().followed.known()
    }

    fn told(&self, told: Told) {
        let mut state = self.lock();
        match state.history.settle(&told.publisher, told.identity) {
            Ok(line) => state.unsaved.extend(line),
            Err(()) => {
                let publisher = told.publisher;
                if state.strangers.insert(publisher.clone()) {
                    say(format_args!(
                        "{publisher} is another peer than the one that was mirrored from: it is not followed (if it has \
                         its place by right, stop this peer and remove .enjambre/mirror, which forgets what was mirrored)"
                    ));
                }
                return;
            }
        }
        let paths = state.followed.told(&told);
        for path in paths {
            state.failed.remove(&path);
            state.blocked.remove(&path);
            if !state.fetching.contains(&path) {
                state.todo.insert(path);
            }
        }
        if told.is_complete && std::mem::take(&mut state.is_first) {
            state.choose(self.bounds);
        }
        self.due.notify_all();
    }
}

/// The pause until a file is looked at again that is being hashed.
const UNHASHED_PAUSE: Duration = Duration::from_secs(1);
